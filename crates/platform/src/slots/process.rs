//! One stub process.
use abi::Result;
use host::shm::Region;
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

pub struct Process {
    pub region: Region,
    /// What the process's doorbells carry.
    pub cookie: u64,
    /// Our end of its socket.
    pub socket: OwnedFd,
    /// Host pid and its descriptor, known from the first doorbell on.
    pub pid: Cell<i32>,
    pub pidfd: OnceCell<OwnedFd>,
    /// Names it in epoll.
    pub token: Cell<u64>,
    /// Tag of the thread on each slot.
    pub threads: RefCell<Vec<Option<u64>>>,
    pub dead: Cell<bool>,
    /// What its region says of names.
    pub names: Cell<u64>,
}

impl Process {
    /// A process to be, and the other end of its socket.
    pub fn new() -> Result<(Process, OwnedFd)> {
        let region = Region::new()?;
        let cookie = host::stub::random_u64();
        region.control().cookie.store(cookie, Relaxed);
        region.control().futexes.store(1, Relaxed);
        let (ours, theirs) = host::stub::socketpair()?;
        let p = Process {
            region,
            cookie,
            socket: ours,
            pid: Cell::new(0),
            pidfd: OnceCell::new(),
            token: Cell::new(0),
            threads: RefCell::default(),
            dead: Cell::new(false),
            names: Cell::new(0),
        };
        Ok((p, theirs))
    }

    /// Puts `tag` on the lowest free slot, or on `index`. `None` if all are taken.
    pub fn place(&self, tag: u64, index: Option<usize>) -> Option<usize> {
        let mut t = self.threads.borrow_mut();
        let free =
            |i: &usize| t.get(*i).is_none_or(Option::is_none) && self.region.slot(*i).mode.busy.load(Relaxed) == 0;
        let i = index.or_else(|| (0..slots::layout::SLOTS).find(free))?;
        self.region.slot(i).mode.busy.store(1, Relaxed);
        if t.len() <= i {
            t.resize(i + 1, None);
        }
        t[i] = Some(tag);
        Some(i)
    }

    pub fn tags(&self) -> Vec<u64> {
        self.threads.borrow().iter().flatten().copied().collect()
    }
}
