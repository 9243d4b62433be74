//! pidfd_open(2): a descriptor that stands for a process, whatever becomes of its number.
use crate::Process;
use abi::c;
use kernel::wait::WaitQueue;
use std::any::Any;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

pub struct PidFd {
    process: Rc<Process>,
}

/// `flags`: PIDFD_NONBLOCK; that it is closed on exec is the caller's business.
pub fn pidfd(process: &Rc<Process>, flags: i32) -> Rc<OpenFile> {
    OpenFile::new(Rc::new(PidFd { process: process.clone() }), c::O_RDWR | flags & c::O_NONBLOCK, None)
}

impl PidFd {
    /// The process, until it has been waited for.
    pub fn process(&self) -> Option<&Rc<Process>> {
        let p = &self.process;
        p.kernel.process(p.pid).is_some_and(|now| Rc::ptr_eq(&now, p)).then_some(p)
    }
}

impl FileOps for PidFd {
    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        match self.process() {
            None => Ready::IN | Ready::RDNORM | Ready::HUP,
            Some(p) if p.zombie.get() => Ready::IN | Ready::RDNORM,
            Some(_) => Ready::empty(),
        }
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.process.ended)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
