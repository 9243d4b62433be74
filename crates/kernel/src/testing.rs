//! An executor for tests: makes calls the way the sentry does, tried first and then boxed.
use crate::{reactor, sched, timer};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

struct Parked {
    call: Boxed,
    waker: Waker,
    interrupted: bool,
}

/// What a spawned call returned, once it has.
pub struct Handle<T> {
    id: u64,
    value: Rc<RefCell<Option<T>>>,
}

impl<T> Handle<T> {
    pub fn done(&self) -> bool {
        self.value.borrow().is_some()
    }
    /// Takes the result out. Panics if there is none yet.
    pub fn take(&self) -> T {
        self.value.borrow_mut().take().expect("the call is still parked")
    }
}

/// Parked calls of one test.
#[derive(Default)]
pub struct Executor {
    parked: BTreeMap<u64, Parked>,
    next: u64,
}

impl Executor {
    pub fn new() -> Self {
        Self::default()
    }

    /// Tries `make()`; if it must wait, makes it again in a box and parks it.
    pub fn spawn<T: 'static, F: Future<Output = T> + 'static>(&mut self, make: impl Fn() -> F) -> Handle<T> {
        self.next += 1;
        let id = self.next;
        let value = Rc::new(RefCell::new(None));
        if let Some(v) = sched::attempt(false, make()) {
            *value.borrow_mut() = Some(v);
        } else {
            let (call, slot) = (make(), value.clone());
            let call: Boxed = Box::pin(async move {
                let v = call.await;
                *slot.borrow_mut() = Some(v);
            });
            self.parked.insert(id, Parked { call, waker: sched::waker(id), interrupted: false });
            self.poll(id);
        }
        Handle { id, value }
    }

    fn poll(&mut self, id: u64) {
        let Some(p) = self.parked.get_mut(&id) else { return };
        if let Poll::Ready(()) = sched::resume(p.interrupted, &p.waker, p.call.as_mut()) {
            self.parked.remove(&id);
        }
    }

    /// Polls what was woken until nothing is.
    pub fn idle(&mut self) {
        while let Some(id) = sched::next_ready() {
            self.poll(id);
        }
    }

    /// Runs timers, host events and calls until `h` is done, for at most five seconds.
    pub fn finish<T>(&mut self, h: &Handle<T>) -> T {
        let end = host::time::monotonic_ns() + 5_000_000_000;
        self.idle();
        while !h.done() {
            let now = host::time::monotonic_ns();
            assert!(now < end, "the call never ended");
            let until = timer::next_deadline().unwrap_or(end).min(end);
            reactor::turn(Some(until.saturating_sub(now))).expect("host epoll");
            timer::fire(host::time::monotonic_ns());
            self.idle();
        }
        h.take()
    }

    /// Gives the call's thread a signal.
    pub fn interrupt<T>(&mut self, h: &Handle<T>) {
        if let Some(p) = self.parked.get_mut(&h.id) {
            p.interrupted = true;
        }
        self.poll(h.id);
    }

    /// Drops the parked call, as when its thread is killed.
    pub fn kill<T>(&mut self, h: &Handle<T>) {
        self.parked.remove(&h.id);
    }
}
