//! Rewriting call sites, so that their calls no longer trap. `docs/design/slot-protocol.md`, "Sites".
mod live;

pub use live::{is_unfinished, landed, settled};

use abi::c;
use guest::ops::Op;
use kernel::mm::{SITES, Vma, anonymous};
use slots::layout::*;
use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;
use task::{Mm, Task};

/// Traps at one site before it is rewritten, which costs about as much as this many: a program that only starts and ends
/// never gets there. So many in whatever processes, and those to come have it rewritten before they run.
const WORTHWHILE: u32 = 6;

/// What is read around a site: so many bytes before the address that its call returns to, and as many after.
const AROUND: u64 = 16;

const TABLE: std::ops::Range<u64> = SITES_TABLE..SITES_TABLE + SITES_SIZE;

/// `mov eax, imm32; syscall`
fn is_mov(b: &[u8], nr: u64) -> bool {
    b[0] == 0xb8 && u32::from_le_bytes([b[1], b[2], b[3], b[4]]) as u64 == nr && b[5..7] == [0x0f, 0x05]
}

/// `syscall; cmp rax, imm32`
fn is_compare(b: &[u8]) -> bool {
    b[..4] == [0x0f, 0x05, 0x48, 0x3d]
}

/// A known pattern, by the address that the call returns to, and what was read around that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Mov { nr: u64 },
    Compare([u8; 6]),
}

impl Pattern {
    fn of(around: &[u8; 2 * AROUND as usize], nr: u64) -> Option<Pattern> {
        let fixed = || crate::table::ROWS.iter().any(|r| r.nr == nr && r.hint() == slots::Hint::FULL);
        if is_mov(&around[9..16], nr) && !fixed() {
            return Some(Pattern::Mov { nr });
        }
        is_compare(&around[14..18]).then(|| Pattern::Compare(std::array::from_fn(|i| around[16 + i])))
    }

    /// Where the jump goes, of a call that returns to `ip`.
    fn start(self, ip: u64) -> u64 {
        ip - if matches!(self, Pattern::Mov { .. }) { 7 } else { 2 }
    }

    /// The site's code, to be at `at`.
    fn code(self, ip: u64, at: u64) -> Vec<u8> {
        match self {
            Pattern::Mov { nr } => mov_code(nr, ip),
            Pattern::Compare(compare) => compare_code(&compare, at, ip + 6),
        }
    }

    /// The jump takes the place of an instruction that the call returns to.
    fn covers(self) -> bool {
        matches!(self, Pattern::Compare(_))
    }

    /// What changes is in one aligned word.
    fn whole(self, ip: u64) -> bool {
        self.start(ip) % 8 <= if matches!(self, Pattern::Mov { .. }) { 3 } else { 0 }
    }
}

/// A site of a file: its pattern, and the two aligned words that it begins in, as they are in the file.
#[derive(Debug, Clone, Copy)]
struct Site {
    pattern: Pattern,
    words: [u8; 16],
}

/// The sites of one file, by the offset that the call returns to.
#[derive(Debug, Default)]
struct OfFile {
    traps: HashMap<u64, u32>,
    worthwhile: BTreeMap<u64, Site>,
}

/// Files, and sites of one, that are remembered at most: then it begins anew.
const FILES: usize = 256;
const SITES_OF_FILE: usize = 512;

thread_local! {
    /// By device and inode number. What is there now is compared before it is rewritten.
    static FOUND: RefCell<HashMap<(u64, u64), OfFile>> = RefCell::default();
}

/// Counts a trap at an offset of a file; true: the site is to be remembered, if its pattern is known.
fn count(file: (u64, u64), offset: u64) -> bool {
    FOUND.with_borrow_mut(|found| {
        if found.len() >= FILES && !found.contains_key(&file) {
            found.clear();
        }
        let of = found.entry(file).or_default();
        if of.traps.len() >= SITES_OF_FILE {
            *of = OfFile::default();
        }
        let traps = of.traps.entry(offset).or_default();
        *traps += 1;
        *traps == WORTHWHILE
    })
}

fn remember(file: (u64, u64), offset: u64, site: Site) {
    FOUND.with_borrow_mut(|found| found.entry(file).or_default().worthwhile.insert(offset, site));
}

/// Where an address is in a file whose sites may be rewritten: its protection, file and offset.
fn own(mm: &Mm, ip: u64) -> Option<(i32, (u64, u64), u64)> {
    let space = mm.space.borrow();
    let v = space.at(ip).filter(|v| rewritable(v) && v.start + AROUND <= ip && ip + AROUND <= v.end)?;
    v.file.as_ref().map(|(file, offset)| (v.prot, file.dev_ino(), offset + (ip - v.start)))
}

fn read_around(t: &Task, ip: u64) -> Option<[u8; 2 * AROUND as usize]> {
    let mut around = [0; 2 * AROUND as usize];
    t.mem().read_now(ip - AROUND, &mut around).is_ok().then_some(around)
}

/// Looks at the site of a call that trapped, and has it rewritten if its pattern is known. True: the thread is to do what that
/// takes at once, and to make its call again.
pub fn consider(t: &Rc<Task>, nr: u64) -> bool {
    let ip = t.ip.get();
    let mm = t.mm();
    if SITES.contains(&ip) || mm.traced.get() || live::redirect(t) {
        return false;
    }
    // A thread was between the jump of a rewritten site and the call that it ends with.
    if mm.rewritten.borrow().range(ip.saturating_sub(JUMP as u64)..ip).next().is_some() {
        return false;
    }
    let traps = *mm.sites.borrow_mut().entry(ip).and_modify(|n| *n += 1).or_insert(1);
    if traps > WORTHWHILE {
        return live::consider(t, nr, traps);
    }
    rewrite(t, nr, traps).is_some() && mm.users.get() > 1
}

/// Rewrites the site of a call that trapped, unless another thread could be in the way.
fn rewrite(t: &Rc<Task>, nr: u64, traps: u32) -> Option<()> {
    let (mm, ip) = (t.mm(), t.ip.get());
    let (prot, file, offset) = own(&mm, ip)?;
    let remembered = count(file, offset);
    if traps != WORTHWHILE && !remembered {
        return None;
    }
    let around = read_around(t, ip)?;
    let pattern = Pattern::of(&around, nr)?;
    let site = pattern.start(ip);
    if remembered {
        let from = ((site & !7) - (ip - AROUND)) as usize;
        remember(file, offset, Site { pattern, words: std::array::from_fn(|i| around[from + i]) });
    }
    if traps != WORTHWHILE {
        return None;
    }
    let alone = mm.users.get() == 1;
    // The very call that found a comparison returns to the copy of it: no other thread may be on its way there.
    if !alone && (!pattern.whole(ip) || pattern.covers()) {
        return None;
    }
    let pages = live::pages(site);
    if mm.in_flight(t, &pages).or_else(|| mm.in_flight(t, &TABLE)).is_some() {
        // Its next trap is as good.
        mm.sites.borrow_mut().insert(ip, WORTHWHILE - 1);
        return None;
    }
    mm.takes_off(t, pages);
    let n = room(&mm, 1)?;
    if n == 0 {
        mm.takes_off(t, TABLE);
        t.op(map_table(&mm)?);
    }
    mm.sites_used.set(n + 1);
    let at_site = (site - (ip - AROUND)) as usize;
    mm.keep_rewritten([(site, std::array::from_fn(|i| around[at_site + i]))]);
    let (entry, at) = (entry_of(n), code_of(n));
    t.op(Op::Write { addr: entry, bytes: at.to_le_bytes().to_vec() });
    t.op(Op::Write { addr: at, bytes: pattern.code(ip, at) });
    if pattern.covers() {
        // The jump covers the instruction this very call returns to: it returns to the copy of it.
        t.regs.borrow_mut().rip = at + COMPARE;
        mm.covered.borrow_mut().insert(ip, at + COMPARE);
        t.changed.set(true);
    }
    patch(t, site, &jump_by(entry), prot);
    Some(())
}

fn rewritable(v: &Vma) -> bool {
    !v.shared && v.prot & c::PROT_WRITE == 0
}

/// What spares a process the traps of a file that it maps: to be done before that, and after.
pub struct Ahead {
    pub before: Vec<Op>,
    pub after: Op,
}

/// Rewrites what is worth it in a fresh mapping of a process with one thread, which has not run there yet.
pub fn ahead(mm: &Mm, v: &Vma) -> Option<Ahead> {
    let (file, offset) = v.file.as_ref().filter(|_| rewritable(v) && v.prot & c::PROT_EXEC != 0)?;
    if mm.traced.get() || mm.users.get() > 1 {
        return None;
    }
    FOUND.with_borrow(|found| {
        let sites = &found.get(&file.dev_ino())?.worthwhile;
        let within = offset + AROUND..(offset + (v.end - v.start)).saturating_sub(AROUND);
        let sites: Vec<_> = sites.range(within.start..within.end.max(within.start)).collect();
        let first = room(mm, sites.len()).filter(|_| !sites.is_empty())?;
        let mut before: Vec<Op> = if first == 0 { vec![map_table(mm)?] } else { Vec::new() };
        let (mut table, mut codes, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (at, site)) in sites.iter().enumerate() {
            let ip = v.start + (*at - offset);
            let (start, code) = (site.pattern.start(ip), code_of(first + i));
            table.extend_from_slice(&code.to_le_bytes());
            codes.extend_from_slice(&site.pattern.code(ip, code));
            codes.resize((i + 1) * SITE_CODE_SIZE as usize, 0);
            let mut new = site.words;
            let from = (start & 7) as usize;
            new[from..from + JUMP].copy_from_slice(&jump_by(entry_of(first + i)));
            words.extend_from_slice(&(start & !7).to_le_bytes());
            words.extend_from_slice(&site.words);
            words.extend_from_slice(&new);
            mm.keep_rewritten([(start, std::array::from_fn(|k| site.words[from + k]))]);
        }
        mm.sites_used.set(first + sites.len());
        before.push(Op::Write { addr: entry_of(first), bytes: table });
        before.push(Op::Write { addr: code_of(first), bytes: codes });
        Some(Ahead { before, after: Op::Rewrite { addr: v.start, len: v.end - v.start, prot: v.prot, words } })
    })
}

/// The sites' entries in the table, and where their code is.
fn entry_of(n: usize) -> u64 {
    SITES_TABLE + n as u64 * 8
}
fn code_of(n: usize) -> u64 {
    SITES_CODE + n as u64 * SITE_CODE_SIZE
}

/// Bytes of a jump, and its first ones.
const JUMP: usize = 7;
const JUMPS: [u8; 3] = [0xff, 0x24, 0x25];

fn jump_by(entry: u64) -> [u8; JUMP] {
    let to = (entry as u32).to_le_bytes();
    [JUMPS[0], JUMPS[1], JUMPS[2], to[0], to[1], to[2], to[3]]
}

/// Puts back what was at the sites of a process that is now traced: its tracer sees the program as it is, and may put
/// breakpoints anywhere.
pub fn restore(t: &Task) -> Vec<Op> {
    let mm = t.mm();
    let mut words: BTreeMap<u64, ([u8; 8], i32)> = BTreeMap::new();
    mm.covered.take();
    for (site, bytes) in mm.rewritten.take().iter() {
        let mut now = [0; JUMPS.len()];
        // Where something else was than in the file as it was known, nothing was rewritten.
        if t.mem().read_now(*site, &mut now).is_err() || now != JUMPS {
            continue;
        }
        for (i, b) in bytes.iter().enumerate() {
            let at = site + i as u64;
            let word = at & !7;
            if let Entry::Vacant(new) = words.entry(word) {
                let mut now = [0u8; 8];
                let prot = mm.space.borrow().at(word).map(|v| v.prot);
                let (Some(prot), Ok(())) = (prot, t.mem().read_now(word, &mut now)) else { break };
                new.insert((now, prot));
            }
            words.entry(word).and_modify(|(w, _)| w[(at - word) as usize] = *b);
        }
    }
    let patch = |(addr, (word, prot))| Op::Patch { addr, word: u64::from_le_bytes(word), prot };
    words.into_iter().map(patch).collect()
}

/// Where a thread that is in a site's code would be without the site, and rax there if it differs.
pub fn own_ip(t: &Task, ip: u64) -> (u64, Option<u64>) {
    let (base, offset) = (ip & !(SITE_CODE_SIZE - 1), ip & (SITE_CODE_SIZE - 1));
    let mut code = [0u8; 38];
    if !(SITES_CODE..SITES_TABLE + SITES_SIZE).contains(&ip) || t.mem().read_now(base, &mut code).is_err() {
        return (ip, None);
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| code[at + i]));
    let moves = code[0] == 0xb8;
    let back = word(if moves { 7 } else { 30 });
    if !(kernel::mm::USER_START..kernel::mm::USER_END).contains(&back) {
        // The guest has written there.
        return (ip, None);
    }
    if moves {
        // The call has yet to be made: its instruction is the last before the way back.
        return (back - 2, Some(word(1) & 0xffff_ffff));
    }
    match offset {
        0..COMPARE => (back - 8, None),
        COMPARE => (back - 6, None),
        _ => (back, None),
    }
}

/// The first free entry of the table, if there are `n`.
fn room(mm: &Mm, n: usize) -> Option<usize> {
    let first = mm.sites_used.get();
    (first + n <= SITES_MAX).then_some(first)
}

/// The table appears with the first site, unless the program's own image lies there.
fn map_table(mm: &Mm) -> Option<Op> {
    let mut space = mm.space.borrow_mut();
    let Range { start, end } = TABLE;
    if !space.is_free(TABLE) {
        return None;
    }
    let prot = c::PROT_READ | c::PROT_WRITE | c::PROT_EXEC;
    space.insert(Vma { start, end, prot, fixed: true, ..anonymous() });
    let flags = c::MAP_PRIVATE | c::MAP_ANONYMOUS;
    Some(Op::Map { addr: start, len: SITES_SIZE, prot, flags, file: None })
}

/// Where the copied compare instruction is in a site's code.
const COMPARE: u64 = 18;

/// To the stub: its entry is the first word of the page that gs points to.
const TO_STUB: [u8; 8] = [0x65, 0xff, 0x24, 0x25, 0, 0, 0, 0];

fn mov_code(nr: u64, back: u64) -> Vec<u8> {
    let mut b = vec![0xb8];
    b.extend_from_slice(&(nr as u32).to_le_bytes());
    b.extend_from_slice(&[0x48, 0xb9]);
    b.extend_from_slice(&back.to_le_bytes());
    b.extend_from_slice(&TO_STUB);
    b
}

/// `compare`: the instruction that the jump overwrites, done here on the way back.
fn compare_code(compare: &[u8], at: u64, back: u64) -> Vec<u8> {
    let mut b = vec![0x48, 0xb9];
    b.extend_from_slice(&(at + COMPARE).to_le_bytes());
    b.extend_from_slice(&TO_STUB);
    b.extend_from_slice(compare);
    b.extend_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
    b.extend_from_slice(&back.to_le_bytes());
    b
}

/// Writes `bytes` at `addr` by aligned words. What else is in these is as it is now.
fn patch(t: &Task, addr: u64, bytes: &[u8], prot: i32) {
    let mut at = addr & !7;
    while at < addr + bytes.len() as u64 {
        let mut word = [0u8; 8];
        if t.mem().read_now(at, &mut word).is_err() {
            return;
        }
        for (i, w) in word.iter_mut().enumerate() {
            let k = (at + i as u64).wrapping_sub(addr) as usize;
            if let Some(b) = bytes.get(k) {
                *w = *b;
            }
        }
        t.op(Op::Patch { addr: at, word: u64::from_le_bytes(word), prot });
        at += 8;
    }
}
