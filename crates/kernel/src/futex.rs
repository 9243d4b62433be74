//! futex(2): threads waiting on words of guest memory.
//!
//! The words are read and changed by the caller's closures. A read must be one made now, not a copy the
//! guest's side took earlier: a thread that changes the word wakes it afterwards, so a fresh look at the
//! word and queueing on it, with no wait between, cannot miss the wake.
pub mod pi;

use crate::wait::{self, Stop, WaitQueue};
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Which word: two addresses mean the same futex if their keys are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// Of one address space (FUTEX_PRIVATE_FLAG, or memory that is not shared).
    Private { space: u64, addr: u64 },
    /// Of a shared object (file, shared anonymous memory), at an offset.
    Shared { object: u64, offset: u64 },
}

/// FUTEX_BITSET_MATCH_ANY.
pub const ANY: u32 = !0;
/// The most words futex_waitv(2) waits on.
pub const WAITV_MAX: usize = 128;

struct Waiter {
    key: Cell<Key>,
    bitset: u32,
    /// Its place in the list given to [`wait_any`].
    index: usize,
    call: Rc<Call>,
    /// Of FUTEX_WAIT_REQUEUE_PI: the lock it is to be moved to, and what waits there. Nothing else may wake it.
    pi: Option<(Key, Rc<pi::Pi>)>,
}

/// One waiting call.
#[derive(Default)]
struct Call {
    queue: WaitQueue,
    woken: Cell<Option<usize>>,
}

#[derive(Default)]
struct Table {
    /// Never holds an empty list.
    waiting: HashMap<Key, VecDeque<Rc<Waiter>>>,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

impl Table {
    fn push(&mut self, w: Rc<Waiter>) {
        self.waiting.entry(w.key.get()).or_default().push_back(w);
    }

    fn remove(&mut self, w: &Rc<Waiter>) {
        let key = w.key.get();
        if let Some(list) = self.waiting.get_mut(&key) {
            list.retain(|o| !Rc::ptr_eq(o, w));
            if list.is_empty() {
                self.waiting.remove(&key);
            }
        }
    }

    /// Takes out the longest waiting call that `bitset` matches.
    fn pop(&mut self, key: Key, bitset: u32) -> Option<Rc<Waiter>> {
        let list = self.waiting.get_mut(&key)?;
        let i = list.iter().position(|w| w.bitset & bitset != 0)?;
        let w = list.remove(i);
        if list.is_empty() {
            self.waiting.remove(&key);
        }
        w
    }
}

/// EINVAL if somebody waits there for a lock, or to be moved to one.
fn check_plain(key: Key) -> Result<()> {
    let moving = TABLE.with_borrow(|t| t.waiting.get(&key).is_some_and(|l| l.iter().any(|w| w.pi.is_some())));
    if moving || pi::waited_for(key) { Err(Errno::EINVAL) } else { Ok(()) }
}

fn wake_one(key: Key, bitset: u32) -> bool {
    let Some(w) = TABLE.with_borrow_mut(|t| t.pop(key, bitset)) else { return false };
    if w.call.woken.get().is_none() {
        w.call.woken.set(Some(w.index));
        w.call.queue.wake();
    }
    true
}

/// FUTEX_WAKE and FUTEX_WAKE_BITSET: wakes up to `count` calls, the longest waiting first; returns how many.
/// EINVAL if `bitset` is 0, and if locks are waited for there.
pub fn wake(key: Key, count: u32, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    check_plain(key)?;
    let mut n = 0;
    while n < count as usize && wake_one(key, bitset) {
        n += 1;
    }
    Ok(n)
}

/// Takes its waiters off the lists, wherever they were requeued to.
struct Queued(Vec<Rc<Waiter>>);

impl Drop for Queued {
    fn drop(&mut self) {
        TABLE.with_borrow_mut(|t| self.0.iter().for_each(|w| t.remove(w)));
    }
}

/// One word of futex_waitv(2).
pub struct Word<'a> {
    pub key: Key,
    pub expected: u32,
    /// Reads the word afresh.
    pub load: &'a dyn Fn() -> Result<u32>,
}

/// FUTEX_WAIT and FUTEX_WAIT_BITSET: sleeps if `load()` still gives `expected`, until woken.
/// `deadline`: monotonic nanoseconds.
///
/// Errors: EAGAIN (the word has another value), EINVAL (`bitset` is 0), ETIMEDOUT, what `load` says; after a
/// signal ERESTARTSYS, or ERESTART_RESTARTBLOCK if there is a deadline.
pub async fn wait(
    key: Key,
    bitset: u32,
    expected: u32,
    deadline: Option<u64>,
    load: &dyn Fn() -> Result<u32>,
) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    wait_on(&[Word { key, expected, load }], bitset, deadline).await.map(|_| ()).map_err(|e| match e {
        Errno::ERESTARTSYS if deadline.is_some() => Errno::ERESTART_RESTARTBLOCK,
        e => e,
    })
}

/// futex_waitv(2): sleeps if every word still has its value, until one is woken; returns which.
/// Errors: as for [`wait`], but ERESTARTSYS after any signal; EINVAL for no words or more than [`WAITV_MAX`].
pub async fn wait_any(words: &[Word<'_>], deadline: Option<u64>) -> Result<usize> {
    if words.is_empty() || words.len() > WAITV_MAX {
        return Err(Errno::EINVAL);
    }
    wait_on(words, ANY, deadline).await
}

async fn wait_on(words: &[Word<'_>], bitset: u32, deadline: Option<u64>) -> Result<usize> {
    for w in words {
        if (w.load)()? != w.expected {
            return Err(Errno::EAGAIN);
        }
    }
    wait::settle().await;
    let call = Rc::new(Call::default());
    let waiters = words
        .iter()
        .enumerate()
        .map(|(index, w)| Rc::new(Waiter { key: Cell::new(w.key), bitset, index, call: call.clone(), pi: None }));
    let queued = Queued(waiters.collect());
    TABLE.with_borrow_mut(|t| queued.0.iter().for_each(|w| t.push(w.clone())));
    wait::until(&[&call.queue], deadline, || call.woken.get()).await.map_err(|stop| match stop {
        Stop::TimedOut => Errno::ETIMEDOUT,
        Stop::Interrupted => Errno::ERESTARTSYS,
    })
}

/// FUTEX_REQUEUE and FUTEX_CMP_REQUEUE: wakes up to `wake` calls waiting on `from` and makes up to `requeue`
/// more wait on `to` instead. Returns how many were woken or moved.
/// `compare`: the value wanted and how to read the word at `from`; EAGAIN if it has another.
pub fn requeue(
    from: Key,
    to: Key,
    wake: u32,
    requeue: u32,
    compare: Option<(u32, &dyn Fn() -> Result<u32>)>,
) -> Result<usize> {
    if let Some((expected, load)) = compare
        && load()? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let woken = self::wake(from, wake, ANY)?;
    let moved = TABLE.with_borrow_mut(|t| {
        if from == to {
            return t.waiting.get(&from).map_or(0, |l| l.len().min(requeue as usize));
        }
        let mut moved = 0;
        while moved < requeue as usize
            && let Some(w) = t.pop(from, ANY)
        {
            w.key.set(to);
            t.push(w);
            moved += 1;
        }
        moved
    });
    Ok(woken + moved)
}

/// The fourth argument of FUTEX_WAKE_OP, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeOp {
    op: u32,
    cmp: u32,
    arg: i32,
    cmp_arg: i32,
}

impl WakeOp {
    /// ENOSYS for an unknown operation.
    pub fn decode(v: u32) -> Result<WakeOp> {
        let signed = |bits: u32| ((bits << 20) as i32) >> 20;
        let mut arg = signed(v >> 12 & 0xfff);
        if v >> 28 & 8 != 0 {
            arg = 1i32 << (arg & 31);
        }
        let op = v >> 28 & 7;
        if op > 4 {
            return Err(Errno::ENOSYS);
        }
        Ok(WakeOp { op, cmp: v >> 24 & 0xf, arg, cmp_arg: signed(v & 0xfff) })
    }

    /// What the word becomes.
    pub fn apply(self, old: u32) -> u32 {
        let arg = self.arg as u32;
        match self.op {
            0 => arg,
            1 => old.wrapping_add(arg),
            2 => old | arg,
            3 => old & !arg,
            _ => old ^ arg,
        }
    }

    /// Whether the old value asks for the second wake. ENOSYS for an unknown comparison.
    pub fn test(self, old: u32) -> Result<bool> {
        let (old, arg) = (old as i32, self.cmp_arg);
        Ok(match self.cmp {
            0 => old == arg,
            1 => old != arg,
            2 => old < arg,
            3 => old <= arg,
            4 => old > arg,
            5 => old >= arg,
            _ => return Err(Errno::ENOSYS),
        })
    }
}

/// FUTEX_WAKE_OP: changes the second word, wakes up to `count` calls on `key`, and up to `count2` on `key2` if
/// the second word's old value passes the test. `update` replaces the word by what the given function makes of it,
/// as atomically as it can, and returns the old value.
pub fn wake_op(
    key: Key,
    count: u32,
    key2: Key,
    count2: u32,
    op: WakeOp,
    update: impl FnOnce(&dyn Fn(u32) -> u32) -> Result<u32>,
) -> Result<usize> {
    let old = update(&|v| op.apply(v))?;
    let second = op.test(old)?;
    let mut n = wake(key, count, ANY)?;
    if second {
        n += wake(key2, count2, ANY)?;
    }
    Ok(n)
}

/// The most entries of a robust list that are looked at.
const ROBUST_LIMIT: usize = 2048;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Walks the robust futex list of a dying thread (get_robust_list(2)): each lock it still holds is marked
/// FUTEX_OWNER_DIED, and `wake` is called with the address of each of which one waiter is to be woken.
///
/// The list is the guest's: the walk ends quietly at the first bad address, and after 2048 entries.
pub fn exit_robust_list(mem: &dyn guest::Memory, head: u64, tid: u32, wake: &mut dyn FnMut(u64)) {
    let word = |addr: u64| {
        let mut b = [0; 8];
        mem.read(addr, &mut b).map(|()| u64::from_ne_bytes(b))
    };
    let mut three = [0; 24];
    if mem.read(head, &mut three).is_err() {
        return;
    }
    let field = |i: usize| u64::from_ne_bytes(three[8 * i..8 * i + 8].try_into().expect("eight bytes"));
    let (first, offset, pending) = (field(0), field(1), field(2));
    let mut entry = first;
    for _ in 0..ROBUST_LIMIT {
        if entry & !1 == head {
            break;
        }
        // The next one is read first: the lock may be reused as soon as it is let go.
        let next = word(entry & !1);
        if entry & !1 != pending & !1
            && death(mem, (entry & !1).wrapping_add(offset), entry & 1 != 0, tid, false, wake).is_err()
        {
            return;
        }
        let Ok(next) = next else { return };
        entry = next;
    }
    if pending & !1 != 0 {
        let _ = death(mem, (pending & !1).wrapping_add(offset), pending & 1 != 0, tid, true, wake);
    }
}

fn death(
    mem: &dyn guest::Memory,
    addr: u64,
    pi: bool,
    tid: u32,
    pending: bool,
    wake: &mut dyn FnMut(u64),
) -> Result<()> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mut b = [0; 4];
    mem.read(addr, &mut b)?;
    let old = u32::from_ne_bytes(b);
    let owner = old & FUTEX_TID_MASK;
    if owner != tid {
        // It died between letting go and waking.
        if pending && !pi && owner == 0 {
            wake(addr);
        }
        return Ok(());
    }
    mem.write(addr, &(old & FUTEX_WAITERS | FUTEX_OWNER_DIED).to_ne_bytes())?;
    if !pi && old & FUTEX_WAITERS != 0 {
        wake(addr);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
