//! pidfd_open(2): a descriptor that stands for a process, or one of its threads, whatever becomes of its number.
use crate::{ExitStatus, Process, Task};
use abi::c;
use kernel::wait::WaitQueue;
use std::any::Any;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

/// PIDFD_THREAD, a flag of open(2) with another meaning here.
pub const THREAD: i32 = c::O_EXCL;

pub struct PidFd {
    process: Rc<Process>,
    /// With [`THREAD`].
    thread: Option<Rc<Task>>,
}

/// `flags`: PIDFD_NONBLOCK; that it is closed on exec is the caller's business.
pub fn pidfd(process: &Rc<Process>, flags: i32) -> Rc<OpenFile> {
    made(process, None, flags & c::O_NONBLOCK)
}

/// One with PIDFD_THREAD. `flags`: as for [`pidfd`].
pub fn of_thread(t: &Rc<Task>, flags: i32) -> Rc<OpenFile> {
    made(&t.process, Some(t.clone()), THREAD | flags & c::O_NONBLOCK)
}

fn made(process: &Rc<Process>, thread: Option<Rc<Task>>, flags: i32) -> Rc<OpenFile> {
    OpenFile::new(Rc::new(PidFd { process: process.clone(), thread }), c::O_RDWR | flags, None)
}

impl PidFd {
    /// The process, until it has been waited for.
    pub fn process(&self) -> Option<&Rc<Process>> {
        let p = &self.process;
        p.kernel.process(p.pid).is_some_and(|now| Rc::ptr_eq(&now, p)).then_some(p)
    }

    pub fn is_thread(&self) -> bool {
        self.thread.is_some()
    }

    /// The thread that it stands for, or that speaks for the process; `None`: it has ended.
    pub fn task(&self) -> Option<Rc<Task>> {
        let p = self.process()?;
        match &self.thread {
            None => p.leader(),
            Some(t) => (!t.dead.get()).then(|| t.clone()),
        }
    }

    /// The number it stands for, while there is such a process or thread; a zombie is one.
    pub fn number(&self) -> Option<i32> {
        let p = self.process()?;
        match &self.thread {
            Some(t) if t.tid != p.pid => self.task().map(|t| t.tid),
            _ => Some(p.pid),
        }
    }

    /// How it ended, once it has been waited for.
    pub fn ended(&self) -> Option<ExitStatus> {
        match &self.thread {
            _ if self.number().is_some() => None,
            Some(t) if t.tid != self.process.pid => Some(t.exit_code.get()),
            _ => self.process.exiting.get(),
        }
    }
}

impl FileOps for PidFd {
    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        match self.process() {
            _ if self.number().is_none() => Ready::IN | Ready::RDNORM | Ready::HUP,
            Some(p) if p.zombie.get() || (self.is_thread() && self.task().is_none()) => Ready::IN | Ready::RDNORM,
            _ => Ready::empty(),
        }
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.process.ended)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
