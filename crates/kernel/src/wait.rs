//! Waiting: the one way a system call blocks.
//!
//! A system call is first *tried*: polled once on the stack. If it must wait, that attempt is dropped
//! and the call is made again from the start in a box, where it may stay parked (see [`crate::sched`]).
//! So what a handler does before its first wait must be a look, not a deed. A handler that has to act
//! before it waits (half of a long write) says [`settle`]`().await` first.
use crate::{sched, timer};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Called when the queue is woken. Must not wait, and may run inside any kernel function: it should
/// only note something and wake another queue.
pub type Hook = Rc<dyn Fn()>;

/// As [`Hook`]; the bits are kinds of change, and true says that somebody will see to it.
pub type ExclusiveHook = Rc<dyn Fn() -> bool>;

enum Entry {
    Task(Waker),
    Hook(Hook),
    Exclusive(u32, ExclusiveHook),
}

/// Those who wait for one thing to change. Waking is a hint: the woken look again.
#[derive(Default)]
pub struct WaitQueue {
    entries: RefCell<Vec<(u64, Entry)>>,
    next: Cell<u64>,
}

impl WaitQueue {
    pub const fn new() -> Self {
        WaitQueue { entries: RefCell::new(Vec::new()), next: Cell::new(0) }
    }

    /// Makes everyone look again.
    pub fn wake(&self) {
        if self.entries.borrow().is_empty() {
            return;
        }
        let mut hooks: Vec<Hook> = Vec::new();
        let mut exclusive: Vec<(u32, ExclusiveHook)> = Vec::new();
        for (_, e) in self.entries.borrow().iter() {
            match e {
                Entry::Task(w) => w.wake_by_ref(),
                Entry::Hook(h) => hooks.push(h.clone()),
                Entry::Exclusive(kinds, h) => exclusive.push((*kinds, h.clone())),
            }
        }
        for h in hooks {
            h();
        }
        let mut seen_to = 0;
        for (kinds, h) in exclusive {
            if kinds & !seen_to != 0 && h() {
                seen_to |= kinds;
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Calls `hook` at every [`wake`](Self::wake) until [`unhook`](Self::unhook).
    pub fn hook(&self, hook: Hook) -> u64 {
        self.add(Entry::Hook(hook))
    }

    /// As [`hook`](Self::hook), but when another hook that waits for these `kinds` of change says that it is seen to, this
    /// one is not called.
    pub fn hook_exclusive(&self, kinds: u32, hook: ExclusiveHook) -> u64 {
        self.add(Entry::Exclusive(kinds, hook))
    }

    pub fn unhook(&self, id: u64) {
        self.remove(id);
    }

    fn add(&self, e: Entry) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        self.entries.borrow_mut().push((id, e));
        id
    }

    fn remove(&self, id: u64) {
        let mut v = self.entries.borrow_mut();
        if let Some(i) = v.iter().position(|(n, _)| *n == id) {
            v.remove(i);
        }
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The deadline passed.
    TimedOut,
    /// A signal is to be delivered to the calling thread. The handler answers with the right one of
    /// EINTR and the restart codes.
    Interrupted,
}

/// Waits until `look` finds something, one of `queues` being woken each time it may.
/// `deadline`: monotonic nanoseconds.
pub fn until<'a, T, F: FnMut() -> Option<T> + Unpin>(
    queues: &'a [&'a WaitQueue],
    deadline: Option<u64>,
    look: F,
) -> Until<'a, F> {
    Until { queues, deadline, look, deaf: false, ids: Vec::new(), timer: None }
}

/// As [`until`], but signals do not end it: for the few waits Linux makes uninterruptible.
pub fn until_deaf<'a, T, F: FnMut() -> Option<T> + Unpin>(queues: &'a [&'a WaitQueue], look: F) -> Until<'a, F> {
    Until { queues, deadline: None, look, deaf: true, ids: Vec::new(), timer: None }
}

pub struct Until<'a, F> {
    queues: &'a [&'a WaitQueue],
    deadline: Option<u64>,
    look: F,
    deaf: bool,
    ids: Vec<u64>,
    timer: Option<timer::Id>,
}

impl<T, F: FnMut() -> Option<T> + Unpin> Future for Until<'_, F> {
    type Output = Result<T, Stop>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(v) = (self.look)() {
            return Poll::Ready(Ok(v));
        }
        if self.deadline.is_some_and(|d| host::time::monotonic_ns() >= d) {
            return Poll::Ready(Err(Stop::TimedOut));
        }
        if !self.deaf && sched::interrupted() {
            return Poll::Ready(Err(Stop::Interrupted));
        }
        if sched::trying() {
            return Poll::Pending;
        }
        if self.ids.is_empty() {
            let queues = self.queues;
            for q in queues {
                self.ids.push(q.add(Entry::Task(cx.waker().clone())));
            }
            if let Some(d) = self.deadline {
                let w = cx.waker().clone();
                self.timer = Some(timer::at(d, Rc::new(move || w.wake_by_ref())));
            }
        }
        Poll::Pending
    }
}

impl<F> Drop for Until<'_, F> {
    fn drop(&mut self) {
        for (q, id) in self.queues.iter().zip(&self.ids) {
            q.remove(*id);
        }
        if let Some(t) = self.timer.take() {
            timer::cancel(t);
        }
    }
}

/// Sleeps until `deadline` (monotonic nanoseconds; `None` is for ever) or a signal.
pub async fn sleep(deadline: Option<u64>) -> Stop {
    match until(&[], deadline, || None::<()>).await {
        Ok(()) => Stop::TimedOut,
        Err(s) => s,
    }
}

/// From here on the call is not tried but made: what it does is done once.
pub async fn settle() {
    std::future::poll_fn(|_| if sched::trying() { Poll::Pending } else { Poll::Ready(()) }).await
}
