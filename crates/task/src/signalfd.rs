//! signalfd(2): signals taken by reading.
//!
//! Which signals there are depends on who looks: the thread whose call is being served, as [`crate::caller`] says.
use crate::{Kernel, Task};
use abi::signal::{SigInfo, SigSet};
use abi::{Errno, Result, c};
use guest::Sink;
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use vfs::{FileOps, OpenFile, Ready};

/// Bytes of one `struct signalfd_siginfo`.
const RECORD: usize = 128;

thread_local! {
    /// Every one that is open.
    static OPEN: RefCell<Vec<Weak<SignalFd>>> = const { RefCell::new(Vec::new()) };
}

pub struct SignalFd {
    kernel: Rc<Kernel>,
    mask: Cell<SigSet>,
    queue: WaitQueue,
}

/// signalfd4(2) without a descriptor. `flags`: SFD_NONBLOCK; SFD_CLOEXEC is the caller's business.
pub fn signalfd(kernel: &Rc<Kernel>, mask: SigSet, flags: i32) -> Rc<OpenFile> {
    let (kernel, queue) = (kernel.clone(), WaitQueue::new());
    let ops = Rc::new(SignalFd { kernel, mask: Cell::new(mask.blockable()), queue });
    OPEN.with_borrow_mut(|v| v.push(Rc::downgrade(&ops)));
    OpenFile::new(ops, c::O_RDWR | flags & c::O_NONBLOCK, None)
}

/// A signal is pending somewhere: whoever waits for it by a descriptor looks.
pub(crate) fn sent(sig: i32) {
    let concerned: Vec<Rc<SignalFd>> = OPEN.with_borrow(|v| {
        if v.is_empty() {
            return Vec::new();
        }
        v.iter().filter_map(Weak::upgrade).filter(|f| f.mask.get().has(sig)).collect()
    });
    for f in concerned {
        f.queue.wake();
    }
}

impl SignalFd {
    pub fn mask(&self) -> SigSet {
        self.mask.get()
    }

    pub fn set_mask(&self, mask: SigSet) {
        self.mask.set(mask.blockable());
        self.queue.wake();
    }

    fn reader(&self) -> Option<Rc<Task>> {
        self.kernel.task(crate::caller().1)
    }
}

/// The record of a signal. Which fields its siginfo has depends on its code and number (siginfo_layout in Linux).
fn record(i: &SigInfo) -> [u8; RECORD] {
    let mut r = [0u8; RECORD];
    let f = &i.fields;
    let mut put = |at: usize, v: u32| r[at..at + 4].copy_from_slice(&v.to_ne_bytes());
    put(0, i.signo as u32);
    put(4, i.errno as u32);
    put(8, i.code as u32);
    let kernels = i.code > c::SI_USER && i.code < c::SI_KERNEL;
    match i.signo {
        c::SIGSEGV | c::SIGBUS | c::SIGILL | c::SIGFPE | c::SIGTRAP if kernels => {
            put(72, f[0]);
            put(76, f[1]);
        }
        c::SIGCHLD if kernels => {
            for (at, v) in [(12, f[0]), (16, f[1]), (40, f[2]), (56, f[4]), (60, f[5]), (64, f[6]), (68, f[7])] {
                put(at, v);
            }
        }
        _ if i.code == c::SI_TIMER => {
            for (at, v) in [(24, f[0]), (32, f[1]), (44, f[2]), (48, f[2]), (52, f[3])] {
                put(at, v);
            }
        }
        _ if kernels || i.code == c::SI_SIGIO => {
            put(28, f[0]);
            put(20, f[2]);
        }
        _ => {
            put(12, f[0]);
            put(16, f[1]);
            if i.code < 0 {
                for (at, v) in [(44, f[2]), (48, f[2]), (52, f[3])] {
                    put(at, v);
                }
            }
        }
    }
    r
}

impl FileOps for SignalFd {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let t = self.reader().ok_or(Errno::EAGAIN)?;
        let mut done = 0;
        if dst.remaining() < RECORD {
            return Err(Errno::EINVAL);
        }
        while dst.remaining() >= RECORD
            && let Some(info) = t.take_from(self.mask.get())
        {
            match dst.put(&record(&info)) {
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        let pending = self.reader().map_or(0, |t| t.pending_set().0);
        if pending & self.mask.get().0 == 0 { Ready::empty() } else { Ready::IN }
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        let _ = OPEN.try_with(|v| v.borrow_mut().retain(|w| w.strong_count() > 0));
    }
}
