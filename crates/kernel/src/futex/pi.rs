//! Futexes with priority inheritance: FUTEX_LOCK_PI and its family. As all threads here have the same priority, what is
//! left of it is that the kernel hands the lock over, to who waits longest, and knows its owner.
//!
//! The word holds the owner's thread id, and FUTEX_WAITERS once somebody waits. Programs take and let go of a lock that
//! has no waiters with a compare-and-swap, while the kernel can only read and write. This is made sound by the word's
//! highest byte, which no thread id reaches: [`claim`] writes it *alone*, with FUTEX_WAITERS in it, and looks
//! afterwards. From then on no compare-and-swap of a program's succeeds, and the word is the kernel's to write.
use super::{Call, FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, Key, TABLE, Waiter};
use crate::wait::{self, Stop};
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// The word of a lock, in the memory of the thread that asks.
pub trait Word {
    /// Reads it afresh.
    fn load(&self) -> Result<u32>;
    fn store(&self, value: u32) -> Result<()>;
    /// Writes the highest byte, and no other.
    fn store_high(&self, byte: u8) -> Result<()>;
    /// Is there a thread with this id?
    fn alive(&self, tid: u32) -> bool;
}

/// Who waits for a lock.
pub(super) struct Pi {
    tid: u32,
    call: Rc<Call>,
    /// It waits for the lock of this key, no longer for what FUTEX_WAIT_REQUEUE_PI began with.
    moved: Cell<bool>,
    got: Cell<bool>,
}

/// A lock that is waited for.
struct Lock {
    owner: u32,
    /// The owner has it from one that died, and has not written the word yet.
    unwritten: bool,
    waiters: VecDeque<Rc<Pi>>,
}

thread_local! {
    static LOCKS: RefCell<HashMap<Key, Lock>> = RefCell::default();
}

impl Lock {
    /// Gives the lock to who waits longest.
    fn pass_on(&mut self) -> Option<Rc<Pi>> {
        let next = self.waiters.pop_front()?;
        self.owner = next.tid;
        next.got.set(true);
        next.call.queue.wake();
        Some(next)
    }

    fn idle(&self) -> bool {
        self.waiters.is_empty() && !self.unwritten
    }
}

/// Does anybody wait for the lock of this key?
pub(super) fn waited_for(key: Key) -> bool {
    LOCKS.with_borrow(|l| l.contains_key(&key))
}

/// Does somebody there wait in another way? Then it is no lock.
fn check_plain(key: Key) -> Result<()> {
    if TABLE.with_borrow(|t| t.waiting.contains_key(&key)) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Takes the lock for `tid` if it is free. `Ok(false)`: another thread has it, and will let go of it through the kernel.
/// `mark`: others wait. EDEADLK, ESRCH (the owner does not exist), EINVAL (the word is no lock).
fn claim(key: Key, word: &dyn Word, tid: u32, mark: bool) -> Result<bool> {
    check_plain(key)?;
    if let Some(owner) = LOCKS.with_borrow(|l| l.get(&key).map(|l| l.owner)) {
        return if owner == tid { Err(Errno::EDEADLK) } else { Ok(false) };
    }
    let before = word.load()?;
    if before & FUTEX_TID_MASK == tid {
        return Err(Errno::EDEADLK);
    }
    if before & FUTEX_WAITERS == 0 {
        word.store_high(((before | FUTEX_WAITERS) >> 24) as u8)?;
    }
    let now = word.load()?;
    match now & FUTEX_TID_MASK {
        0 => {
            word.store(tid | now & FUTEX_OWNER_DIED | if mark { FUTEX_WAITERS } else { 0 })?;
            Ok(true)
        }
        owner if owner == tid => Err(Errno::EDEADLK),
        owner if word.alive(owner) => {
            LOCKS.with_borrow_mut(|l| l.insert(key, Lock { owner, unwritten: false, waiters: VecDeque::new() }));
            Ok(false)
        }
        _ => Err(Errno::ESRCH),
    }
}

/// Would it wait for itself, over any number of locks?
fn circle(locks: &HashMap<Key, Lock>, key: Key, tid: u32) -> bool {
    let mut at = locks.get(&key);
    for _ in 0..=locks.len() {
        let Some(lock) = at else { return false };
        if lock.owner == tid {
            return true;
        }
        at = locks.values().find(|l| l.waiters.iter().any(|w| w.tid == lock.owner));
    }
    false
}

/// Puts a waiter on a lock that [`claim`] found taken. EDEADLK.
fn enqueue(key: Key, pi: &Rc<Pi>) -> Result<()> {
    LOCKS.with_borrow_mut(|locks| {
        if circle(locks, key, pi.tid) {
            forget_idle(locks, key);
            return Err(Errno::EDEADLK);
        }
        let lock = locks.get_mut(&key).ok_or(Errno::EINVAL)?;
        lock.waiters.push_back(pi.clone());
        Ok(())
    })
}

fn forget_idle(locks: &mut HashMap<Key, Lock>, key: Key) {
    if locks.get(&key).is_some_and(Lock::idle) {
        locks.remove(&key);
    }
}

/// Takes a waiter off its lock, if it has not got it.
struct Queued {
    key: Key,
    pi: Rc<Pi>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        LOCKS.with_borrow_mut(|locks| {
            if let Some(l) = locks.get_mut(&self.key) {
                l.waiters.retain(|w| !Rc::ptr_eq(w, &self.pi));
            }
            forget_idle(locks, self.key);
        });
    }
}

/// The lock is `tid`'s now. After a death nobody else has written the word.
fn written(key: Key, word: &dyn Word, tid: u32) -> Result<()> {
    let due = LOCKS.with_borrow_mut(|locks| {
        let due = locks.get_mut(&key).is_some_and(|l| l.owner == tid && std::mem::take(&mut l.unwritten));
        forget_idle(locks, key);
        due
    });
    if due { word.store(tid | FUTEX_WAITERS | FUTEX_OWNER_DIED) } else { Ok(()) }
}

/// FUTEX_LOCK_PI. `deadline`: monotonic nanoseconds.
///
/// Errors: EDEADLK, ESRCH (the owner does not exist), EINVAL (it is no lock), ETIMEDOUT, ERESTARTNOINTR, what `word`
/// says.
pub async fn lock(key: Key, word: &dyn Word, tid: u32, deadline: Option<u64>) -> Result<()> {
    wait::settle().await;
    if claim(key, word, tid, false)? {
        return Ok(());
    }
    let pi = Rc::new(Pi { tid, call: Rc::default(), moved: Cell::new(true), got: Cell::default() });
    let queued = Queued { key, pi };
    enqueue(key, &queued.pi)?;
    let pi = &queued.pi;
    let got = wait::until(&[&pi.call.queue], deadline, || pi.got.get().then_some(())).await;
    match got {
        Ok(()) => written(key, word, tid),
        Err(Stop::TimedOut) => Err(Errno::ETIMEDOUT),
        Err(Stop::Interrupted) => Err(Errno::ERESTARTNOINTR),
    }
}

/// FUTEX_TRYLOCK_PI: as [`lock`], but EAGAIN if it would wait.
pub fn try_lock(key: Key, word: &dyn Word, tid: u32) -> Result<()> {
    let taken = claim(key, word, tid, false)?;
    LOCKS.with_borrow_mut(|l| forget_idle(l, key));
    if taken { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// FUTEX_UNLOCK_PI. EPERM: it is not `tid`'s.
pub fn unlock(key: Key, word: &dyn Word, tid: u32) -> Result<()> {
    if word.load()? & FUTEX_TID_MASK != tid {
        return Err(Errno::EPERM);
    }
    check_plain(key)?;
    let next = LOCKS.with_borrow(|l| match l.get(&key) {
        Some(l) if l.owner != tid => Err(Errno::EINVAL),
        Some(l) => Ok(l.waiters.front().map_or(0, |w| w.tid | FUTEX_WAITERS)),
        None => Ok(0),
    })?;
    word.store(next)?;
    LOCKS.with_borrow_mut(|locks| {
        if let Some(l) = locks.get_mut(&key) {
            l.pass_on();
        }
        forget_idle(locks, key);
    });
    Ok(())
}

/// A thread is gone: what it held goes to who waits, who learns of it by FUTEX_OWNER_DIED.
pub fn owner_died(tid: u32) {
    LOCKS.with_borrow_mut(|locks| {
        for l in locks.values_mut().filter(|l| l.owner == tid) {
            l.unwritten = l.pass_on().is_some();
        }
        locks.retain(|_, l| !l.idle());
    });
}

/// FUTEX_WAIT_REQUEUE_PI: sleeps on `from` until [`requeue`] moves it to the lock of `to`, whose word `word` is, and it
/// gets that.
///
/// Errors: EINVAL, EAGAIN (the word at `from` has another value; a signal came after it was moved), ETIMEDOUT,
/// ERESTARTNOINTR, what `load` and `word` say.
pub async fn wait_requeue(
    from: Key,
    expected: u32,
    deadline: Option<u64>,
    load: &dyn Fn() -> Result<u32>,
    to: (Key, &dyn Word, u32),
) -> Result<()> {
    let (to, word, tid) = to;
    if from == to {
        return Err(Errno::EINVAL);
    }
    if load()? != expected {
        return Err(Errno::EAGAIN);
    }
    wait::settle().await;
    let call = Rc::new(Call::default());
    let pi = Rc::new(Pi { tid, call: call.clone(), moved: Cell::default(), got: Cell::default() });
    let queued = Queued { key: to, pi: pi.clone() };
    let w = Rc::new(Waiter {
        key: Cell::new(from),
        bitset: super::ANY,
        index: 0,
        call: call.clone(),
        pi: Some((to, pi.clone())),
    });
    let waiting = super::Queued(vec![w.clone()]);
    TABLE.with_borrow_mut(|t| t.push(w));
    let got = wait::until(&[&call.queue], deadline, || pi.got.get().then_some(())).await;
    drop(waiting);
    let r = match got {
        Ok(()) => written(to, word, tid),
        Err(Stop::TimedOut) => Err(Errno::ETIMEDOUT),
        Err(Stop::Interrupted) if pi.moved.get() => Err(Errno::EAGAIN),
        Err(Stop::Interrupted) => Err(Errno::ERESTARTNOINTR),
    };
    drop(queued);
    r
}

/// FUTEX_CMP_REQUEUE_PI: the call that waits longest on `from` gets the lock of `to` if that is free; up to `count`
/// others, and it otherwise, wait for it. Returns how many were woken or moved.
pub fn requeue(
    from: Key,
    to: Key,
    count: u32,
    compare: (u32, &dyn Fn() -> Result<u32>),
    word: &dyn Word,
) -> Result<usize> {
    if from == to {
        return Err(Errno::EINVAL);
    }
    if (compare.1)()? != compare.0 {
        return Err(Errno::EAGAIN);
    }
    let most = (count as usize).saturating_add(1);
    let list: Vec<Rc<Waiter>> =
        TABLE.with_borrow(|t| t.waiting.get(&from).map_or_else(Vec::new, |l| l.iter().take(most).cloned().collect()));
    let mut done = 0;
    for w in &list {
        // Those who wait in another way, or for another lock, are not to be moved.
        let Some((_, pi)) = w.pi.as_ref().filter(|(key, _)| *key == to) else {
            return if done > 0 { Ok(done) } else { Err(Errno::EINVAL) };
        };
        let step = claim(to, word, pi.tid, list.len() > 1).and_then(|taken| {
            if taken {
                pi.got.set(true);
                pi.call.queue.wake();
                return Ok(());
            }
            enqueue(to, pi)
        });
        match step {
            Ok(()) => {
                pi.moved.set(true);
                TABLE.with_borrow_mut(|t| t.remove(w));
                done += 1;
            }
            Err(_) if done > 0 => return Ok(done),
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
