//! Rewriting a site while other threads of the process may be running there. `docs/design/slot-protocol.md`, "Sites".
//!
//! First the site's code is written, which nobody runs yet; then the site. A thread that comes there meanwhile finds, before
//! anything else has changed, a breakpoint, and is sent back until the site is whole. Between the two words of a comparison's
//! site nobody may be: who trapped there goes on at the copy of the comparison.
use super::{COMPARE, JUMP, Pattern, TABLE, code_of, entry_of, jump_by, map_table, own, patch, read_around, room};
use abi::PAGE_SIZE;
use guest::ops::Op;
use std::ops::Range;
use std::rc::Rc;
use task::{Ask, Mm, Task};

/// Traps of one site before it is worth it, and after how many more each of the steps is tried again where a thread was in
/// the way.
const WORTHWHILE: u32 = 64;
const AGAIN: u32 = 16;

/// `int3`
const BREAKPOINT: u8 = 0xcc;

/// Takes the next step for the site of a call that trapped, the `traps`th time. True: the thread is to do what that takes at
/// once, and to make its call again.
pub(super) fn consider(t: &Rc<Task>, nr: u64, traps: u32) -> bool {
    let (mm, ip) = (t.mm(), t.ip.get());
    let entry = mm.prepared.borrow().get(&ip).copied();
    if traps < WORTHWHILE || (traps - WORTHWHILE) % AGAIN > 1 {
        return false;
    }
    let Some((prot, _, _)) = own(&mm, ip) else { return false };
    let Some(around) = read_around(t, ip) else { return false };
    let Some(pattern) = Pattern::of(&around, nr) else { return false };
    let start = pattern.start(ip);
    let pages = pages(start);
    let busy = mm.in_flight(t, &pages).or_else(|| mm.in_flight(t, &TABLE)).is_some();
    if busy || mm.unfinished.get().is_some() {
        return false;
    }
    let Some(n) = entry else { return prepare(t, &mm, pattern) };
    if pattern.covers() && !cover(t, &mm, code_of(n) + COMPARE) {
        return false;
    }
    mm.takes_off(t, pages);
    mm.keep_rewritten([(start, std::array::from_fn(|i| around[(start - (ip - super::AROUND)) as usize + i]))]);
    exchange(t, start, n, prot);
    true
}

/// Writes the site's code.
fn prepare(t: &Rc<Task>, mm: &Mm, pattern: Pattern) -> bool {
    let Some(n) = room(mm, 1) else { return false };
    if n == 0 {
        let Some(op) = map_table(mm) else { return false };
        t.op(op);
    }
    mm.takes_off(t, TABLE);
    mm.sites_used.set(n + 1);
    let (ip, at) = (t.ip.get(), code_of(n));
    mm.prepared.borrow_mut().insert(ip, n);
    t.op(Op::Write { addr: entry_of(n), bytes: at.to_le_bytes().to_vec() });
    t.op(Op::Write { addr: at, bytes: pattern.code(ip, at) });
    true
}

/// Has all threads whose calls return to the comparison behind `t`'s return to its copy. False: one has been answered, and may
/// be there.
fn cover(t: &Rc<Task>, mm: &Rc<Mm>, copy: u64) -> bool {
    let ip = t.ip.get();
    t.mem().cover(ip);
    // With its whole context here, what it returns to is in our hands.
    let (ours, others): (Vec<_>, Vec<_>) =
        t.kernel.threads_in(mm).into_iter().partition(|u| u.ask.get() != Ask::Outside && u.full.get());
    let begins_there = |u: &Task| (u.full.get() || !u.alive.get()) && u.regs.borrow().rip == ip;
    if others.iter().any(|u| begins_there(u) || u.memory().is_some_and(|m| m.returns_to(ip))) {
        t.mem().cover(0);
        return false;
    }
    ours.iter().filter(|u| u.regs.borrow().rip == ip).for_each(|u| go_on_at(u, copy));
    mm.covered.borrow_mut().insert(ip, copy);
    true
}

fn go_on_at(t: &Task, ip: u64) {
    t.regs.borrow_mut().rip = ip;
    t.changed.set(true);
}

/// The call trapped at a site that has been rewritten since: it returns to the copy of what the site covers.
pub(super) fn redirect(t: &Task) -> bool {
    let copy = t.mm().covered.borrow().get(&t.ip.get()).copied();
    copy.inspect(|copy| go_on_at(t, *copy)).is_some()
}

/// Puts the jump to entry `n` at a site. Where it is not in one word, no thread gets past its first byte while only some of it is
/// there: each step makes all CPUs of the process look at the code anew (the pages' rights change).
fn exchange(t: &Task, start: u64, n: usize, prot: i32) {
    let jump = jump_by(entry_of(n));
    t.rewriting.set(true);
    if start % 8 + JUMP as u64 > 8 {
        t.mm().unfinished.set(Some(start));
        patch(t, start, &[BREAKPOINT], prot);
        let head = (8 - start % 8) as usize;
        patch(t, start + head as u64, &jump[head..], prot);
        return patch(t, start, &jump[..head], prot);
    }
    patch(t, start, &jump, prot);
}

/// Waits until no other thread is rewriting a site, and keeps them from it until `t` asks again: a child that was made meanwhile
/// would have half of it.
pub async fn settled(t: &Rc<Task>) {
    let mm = t.mm();
    while mm.landed(t, TABLE).await || mm.landed(t, mm.unfinished.get().map_or(0..0, pages)).await {}
    mm.takes_off(t, TABLE);
}

/// The pages that the words of a site are in.
pub(super) fn pages(start: u64) -> Range<u64> {
    start & !(PAGE_SIZE - 1)..(start + 16).next_multiple_of(PAGE_SIZE)
}

/// The thread asks: what it was told to do is done, or could not be.
pub fn landed(t: &Task, done: bool) {
    if t.rewriting.replace(false) {
        t.mem().cover(0);
        if done {
            t.mm().unfinished.set(None);
        }
    }
}

/// A breakpoint was met: is it that of a site that is being rewritten? Then the thread goes there again.
pub fn is_unfinished(t: &Rc<Task>) -> bool {
    let mm = t.mm();
    let start = t.regs.borrow().rip.wrapping_sub(1);
    if !mm.rewritten.borrow().contains_key(&start) {
        return false;
    }
    let pages = pages(start);
    let mut now = [0];
    let there = t.mem().read_now(start, &mut now).is_ok() && now == [BREAKPOINT];
    if there && mm.unfinished.get() != Some(start) {
        // It is the program's own.
        return false;
    }
    if there && mm.in_flight(t, &pages).is_none() {
        // Who was to finish it is gone, or could not.
        let entry = |back: u64| mm.prepared.borrow().get(&(start + back)).copied();
        let Some(n) = entry(2).or_else(|| entry(JUMP as u64)) else { return false };
        let Some((prot, _, _)) = own(&mm, start + 2) else { return false };
        mm.takes_off(t, pages);
        exchange(t, start, n, prot);
    }
    go_on_at(t, start);
    true
}
