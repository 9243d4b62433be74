//! Host descriptors in the kernel's own waiting: one host epoll, edge-triggered.
use crate::wait::WaitQueue;
use abi::Result;
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

#[derive(Default)]
struct Reactor {
    epoll: Option<host::epoll::Epoll>,
    watched: HashMap<u64, Rc<dyn Fn(u32)>>,
    next: u64,
}

thread_local! {
    static REACTOR: RefCell<Reactor> = RefCell::default();
}

fn with<T>(f: impl FnOnce(&mut Reactor, &host::epoll::Epoll) -> Result<T>) -> Result<T> {
    REACTOR.with_borrow_mut(|r| {
        let ep = match r.epoll.take() {
            Some(e) => e,
            None => host::epoll::Epoll::new()?,
        };
        let v = f(r, &ep);
        r.epoll = Some(ep);
        v
    })
}

/// A host descriptor being watched; dropping it ends that. Drop it before the descriptor is closed.
#[derive(Debug)]
pub struct Watch {
    token: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        REACTOR.with_borrow_mut(|r| r.watched.remove(&self.token));
    }
}

/// Wakes `queue` whenever `fd` may have become readable or writable.
/// Errors: EPERM for descriptors epoll does not take (regular files, which never block).
pub fn watch(fd: BorrowedFd<'_>, queue: Rc<WaitQueue>) -> Result<Watch> {
    watch_with(fd, host::epoll::EDGE_IN_OUT, Rc::new(move |_| queue.wake()))
}

/// Calls `f` with the ready events (EPOLLIN …) whenever `fd` reports any of `events`.
pub fn watch_with(fd: BorrowedFd<'_>, events: u32, f: Rc<dyn Fn(u32)>) -> Result<Watch> {
    with(|r, ep| {
        r.next += 1;
        let token = r.next;
        ep.add(fd, events, token)?;
        r.watched.insert(token, f);
        Ok(Watch { token })
    })
}

/// Ends a watch whose description others keep open: closing `fd` would not take it from the host's epoll.
pub fn unwatch(watch: Watch, fd: BorrowedFd<'_>) {
    drop(watch);
    let _ = with(|_, ep| ep.remove(fd));
}

/// Waits up to `timeout_ns` (`None`: for ever) for host events and hands them out. Returns how many.
pub fn turn(timeout_ns: Option<u64>) -> Result<usize> {
    let mut events = [(0u64, 0u32); 64];
    let n = with(|_, ep| ep.wait(&mut events, timeout_ns))?;
    for (token, ready) in &events[..n] {
        let f = REACTOR.with_borrow(|r| r.watched.get(token).cloned());
        if let Some(f) = f {
            f(*ready);
        }
    }
    Ok(n)
}

/// The host epoll itself, for a caller that must put it into a wait of its own.
pub fn with_epoll_fd<T>(f: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T> {
    with(|_, ep| Ok(f(ep.as_fd())))
}
