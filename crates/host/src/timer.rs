//! One host timer as a descriptor: timerfd_create(2).
use abi::Result;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub struct Timer {
    fd: OwnedFd,
    set: Cell<Option<u64>>,
}

impl Timer {
    pub fn new() -> Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(crate::errno)?;
        Ok(Timer { fd, set: Cell::new(None) })
    }

    /// Becomes readable at `deadline`, monotonic nanoseconds; never, for `None`. A host call only if that changes.
    pub fn set(&self, deadline: Option<u64>) {
        if self.set.replace(deadline) == deadline {
            return;
        }
        let ns = deadline.map_or(0, |d| d.max(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ };
        let spec = Itimerspec { it_interval: zero, it_value: at };
        // Setting a valid time on a timer of our own does not fail.
        let _ = rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec);
    }

    /// Takes note that it fired.
    pub fn drain(&self) {
        let mut b = [0u8; 8];
        let _ = rustix::io::read(&self.fd, &mut b);
        self.set.set(None);
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
