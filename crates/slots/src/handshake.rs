//! The switch between hot and cold, and that of futexes between host and sentry, alone, so that they can be model-checked.
//!
//! A request is written, then the hot flag is read; the flag is cleared, then requests are read. With a
//! full fence between the two steps on each side, at least one side sees the other: either the stub
//! sees "cold" and rings, or the sentry sees the request. Both may: a ring for an answered request is answered at once.
#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Stub: publishes request `seq`. True: the sentry is looking, spin; false: ring.
#[inline(always)]
pub fn publish(request: &AtomicU32, hot: &AtomicU32, seq: u32) -> bool {
    request.store(seq, Ordering::Release);
    fence(Ordering::SeqCst);
    hot.load(Ordering::Relaxed) != 0
}

/// Sentry: is there a request after `done`?
#[inline(always)]
pub fn look(request: &AtomicU32, done: u32) -> Option<u32> {
    let seq = request.load(Ordering::Acquire);
    if seq != done { Some(seq) } else { None }
}

/// Sentry: stops looking at the slot. True: nothing came in meanwhile, and whatever comes now rings.
#[inline(always)]
pub fn cool(request: &AtomicU32, hot: &AtomicU32, done: u32) -> bool {
    hot.store(0, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    request.load(Ordering::Acquire) == done
}

/// Sentry: answers request `seq`.
#[inline(always)]
pub fn answer(answer: &AtomicU32, seq: u32) {
    answer.store(seq, Ordering::Release);
}

/// Stub: may it wait for a futex at the host? If so, `waits` is set, to be cleared afterwards.
#[inline(always)]
pub fn begin_wait(waits: &AtomicU32, futexes: &AtomicU32) -> bool {
    waits.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if futexes.load(Ordering::Relaxed) == 0 {
        waits.store(0, Ordering::Relaxed);
        return false;
    }
    true
}

/// Sentry: no thread of the process begins to wait at the host any more; those whose `waits` is set now may be at it.
#[inline(always)]
pub fn take_futexes(futexes: &AtomicU32) {
    futexes.store(0, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Sentry: calls may no longer return to `ip`. Those whose [`returns_to`] says so now may.
#[inline(always)]
pub fn cover(covering: &AtomicU64, ip: u64) {
    covering.store(ip, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Sentry: may the thread's call return to `ip`?
#[inline(always)]
pub fn returns_to(back: &AtomicU32, ip: u64) -> bool {
    back.load(Ordering::Relaxed) == ip as u32
}

/// Stub: may a call that the sentry hears nothing of return to `ip`?
#[inline(always)]
pub fn may_return(back: &AtomicU32, covering: &AtomicU64, ip: u64) -> bool {
    back.store(ip as u32, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    covering.load(Ordering::Relaxed) != ip
}

/// Stub: has request `seq` been answered?
#[inline(always)]
pub fn answered(answer: &AtomicU32, seq: u32) -> bool {
    answer.load(Ordering::Acquire) == seq
}
