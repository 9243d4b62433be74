//! Rewriting call sites, so that their calls no longer trap. `docs/design/slot-protocol.md`, "Sites".
use abi::{PAGE_SIZE, c};
use guest::Memory;
use guest::ops::Op;
use kernel::mm::{SITES, Vma, anonymous};
use slots::layout::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use task::Task;

/// Traps at one site before it is rewritten, which costs about as much as this many: a program that only starts and ends
/// never gets there.
const WORTHWHILE: u32 = 6;

const TABLE: std::ops::Range<u64> = SITES_TABLE..SITES_TABLE + SITES_SIZE;

/// `mov eax, imm32; syscall`
fn is_mov(b: &[u8], nr: u64) -> bool {
    b[0] == 0xb8 && u32::from_le_bytes([b[1], b[2], b[3], b[4]]) as u64 == nr && b[5..7] == [0x0f, 0x05]
}

/// `syscall; cmp rax, imm32`
fn is_compare(b: &[u8]) -> bool {
    b[..4] == [0x0f, 0x05, 0x48, 0x3d]
}

/// Looks at the site of a call that trapped, and has it rewritten if its pattern is known.
pub fn consider(t: &Rc<Task>, nr: u64) {
    let ip = t.ip.get();
    let mm = t.mm();
    if SITES.contains(&ip) || mm.traced.get() {
        return;
    }
    let traps = *mm.sites.borrow_mut().entry(ip).and_modify(|n| *n += 1).or_insert(1);
    if traps != WORTHWHILE {
        return;
    }
    let prot = match mm.space.borrow().at(ip) {
        Some(v)
            if !v.shared
                && v.file.is_some()
                && v.prot & c::PROT_WRITE == 0
                && v.start + 16 <= ip
                && ip + 16 <= v.end =>
        {
            v.prot
        }
        _ => return,
    };
    let mem = t.mem();
    // From 8 before the aligned word that holds the site's start: enough for both patterns.
    let mut around = [0u8; 16];
    if mem.read_now(ip - 7, &mut around).is_err() {
        return;
    }
    let alone = mm.users.get() == 1;
    let full = slots::Hint::FULL;
    let fixed = syscalls::table::ROWS.iter().any(|r| r.nr == nr && r.hint() == full);
    let (site, code) = if is_mov(&around[..7], nr) && !fixed {
        (ip - 7, mov_code(nr, ip))
    } else if is_compare(&around[5..9]) && alone {
        let Some(n) = next_site(t) else { return };
        (ip - 2, compare_code(&around[7..13], SITES_CODE + n as u64 * SITE_CODE_SIZE, ip + 6))
    } else {
        return;
    };
    let whole = site % 8 <= if code.len() < 24 { 3 } else { 0 };
    if !whole && !alone {
        return;
    }
    let pages = (site & !(PAGE_SIZE - 1))..(site + 16).next_multiple_of(PAGE_SIZE);
    if mm.in_flight(t, &pages).or_else(|| mm.in_flight(t, &TABLE)).is_some() {
        // Its next trap is as good.
        mm.sites.borrow_mut().insert(ip, WORTHWHILE - 1);
        return;
    }
    mm.takes_off(t, pages);
    let Some(n) = next_site(t) else { return };
    if n == 0 && !map_table(t) {
        return;
    }
    mm.sites_used.set(n + 1);
    let at_site = if site == ip - 2 { 5 } else { 0 };
    mm.rewritten.borrow_mut().insert(site, std::array::from_fn(|i| around[at_site + i]));
    let entry = SITES_TABLE + n as u64 * 8;
    let at = SITES_CODE + n as u64 * SITE_CODE_SIZE;
    t.op(Op::Write { addr: entry, bytes: at.to_le_bytes().to_vec() });
    t.op(Op::Write { addr: at, bytes: code });
    if site == ip - 2 {
        // The jump covers the instruction this very call returns to: it returns to the copy of it.
        t.regs.borrow_mut().rip = at + COMPARE;
        mm.covered.borrow_mut().insert(ip, at + COMPARE);
        t.changed.set(true);
    }
    let mut jump = vec![0xff, 0x24, 0x25];
    jump.extend_from_slice(&(entry as u32).to_le_bytes());
    poke(t, &*mem, site, &jump, prot);
}

/// Puts back what was at the sites of a process that is now traced: its tracer sees the program as it is, and may put
/// breakpoints anywhere.
pub fn restore(t: &Task) -> Vec<Op> {
    let mm = t.mm();
    let mut words: BTreeMap<u64, ([u8; 8], i32)> = BTreeMap::new();
    mm.covered.take();
    for (site, bytes) in mm.rewritten.take() {
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

fn next_site(t: &Task) -> Option<usize> {
    let n = t.mm().sites_used.get();
    (n < SITES_MAX).then_some(n)
}

/// The table appears with the first site, unless the program's own image lies there.
fn map_table(t: &Rc<Task>) -> bool {
    let mm = t.mm();
    let mut space = mm.space.borrow_mut();
    let r = TABLE;
    if !space.is_free(r.clone()) || mm.in_flight(t, &r).is_some() {
        return false;
    }
    mm.takes_off(t, r.clone());
    let prot = c::PROT_READ | c::PROT_WRITE | c::PROT_EXEC;
    space.insert(Vma { start: r.start, end: r.end, prot, fixed: true, ..anonymous() });
    t.op(Op::Map { addr: r.start, len: SITES_SIZE, prot, flags: c::MAP_PRIVATE | c::MAP_ANONYMOUS, file: None });
    true
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

/// Writes `bytes` at `addr` by aligned words.
fn poke(t: &Task, mem: &dyn Memory, addr: u64, bytes: &[u8], prot: i32) {
    let mut at = addr & !7;
    while at < addr + bytes.len() as u64 {
        let mut word = [0u8; 8];
        if mem.read_now(at, &mut word).is_err() {
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
