//! The executor's state: which parked calls are to be polled again, and how the current poll goes.
//!
//! One thread. The waker of a parked call carries only its number; waking puts the number on a list.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

thread_local! {
    static READY: RefCell<VecDeque<u64>> = const { RefCell::new(VecDeque::new()) };
    static TRYING: Cell<bool> = const { Cell::new(false) };
    static INTERRUPTED: Cell<bool> = const { Cell::new(false) };
}

struct Numbered(u64);

impl Wake for Numbered {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        READY.with_borrow_mut(|r| {
            if !r.contains(&self.0) {
                r.push_back(self.0);
            }
        });
    }
}

/// A waker that lists `id` for [`next_ready`].
pub fn waker(id: u64) -> Waker {
    Waker::from(Arc::new(Numbered(id)))
}

/// The next parked call that was woken.
pub fn next_ready() -> Option<u64> {
    READY.with_borrow_mut(|r| r.pop_front())
}

pub fn has_ready() -> bool {
    READY.with_borrow(|r| !r.is_empty())
}

/// Lists `id` as if its waker had been called.
pub fn make_ready(id: u64) {
    READY.with_borrow_mut(|r| {
        if !r.contains(&id) {
            r.push_back(id);
        }
    });
}

/// True while a call is polled on the stack, to be dropped should it wait.
pub fn trying() -> bool {
    TRYING.get()
}

/// True if the thread whose call is being polled has a signal to take.
pub fn interrupted() -> bool {
    INTERRUPTED.get()
}

/// Says so again, after the call being polled changed the thread's mask.
pub fn set_interrupted(on: bool) {
    INTERRUPTED.set(on);
}

/// A call that never waits is about to be made.
pub fn begin(interrupted: bool) {
    INTERRUPTED.set(interrupted);
}

/// Polls `call` once without registering anything; `None` if it must wait.
pub fn attempt<F: Future>(interrupted: bool, call: F) -> Option<F::Output> {
    let call = pin!(call);
    TRYING.set(true);
    INTERRUPTED.set(interrupted);
    let r = call.poll(&mut Context::from_waker(Waker::noop()));
    TRYING.set(false);
    match r {
        Poll::Ready(v) => Some(v),
        Poll::Pending => None,
    }
}

/// Polls a parked call.
pub fn resume<T>(interrupted: bool, waker: &Waker, call: std::pin::Pin<&mut dyn Future<Output = T>>) -> Poll<T> {
    TRYING.set(false);
    INTERRUPTED.set(interrupted);
    call.poll(&mut Context::from_waker(waker))
}
