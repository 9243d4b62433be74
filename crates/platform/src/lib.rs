//! How guests are run and heard: the one trait, and its implementations.
#![forbid(unsafe_code)]

mod ptrace;
mod slots;

pub use ptrace::Ptrace;
pub use slots::Slots;

use abi::Result;
use abi::regs::Regs;
use guest::Memory;
use guest::ops::{Op, Resume};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

/// Why a guest thread asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A system call. `full`: the whole context is there, not only the arguments.
    Call { nr: u64, args: [u64; 6], full: bool },
    /// A synchronous fault in guest code: the host's signal number, si_code and address.
    Fault { signo: i32, code: i32, addr: u64 },
    /// It was kicked, or asked to show its context.
    Context,
    /// A new thread stands ready for its first registers.
    Ready,
    /// The operations of a [`Resume::Pause`] are done. `fault`: a write to guest memory among them was not.
    Done { fault: bool },
    /// An operation failed in the host; those after it were not done.
    Failed(abi::Errno),
}

/// What the platform reports.
#[derive(Debug)]
pub enum Event {
    /// Guest thread `tag` asks, and waits for [`Platform::resume`].
    Ask { tag: u64, ask: Ask },
    /// The host process of these guest threads is dead.
    Died { tags: Vec<u64> },
}

/// The addresses and features the guest's image depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Features {
    pub vdso: u64,
    pub vdso_len: u64,
    pub hwcap: u64,
    pub hwcap2: u64,
    /// Whether call sites can be rewritten ([`Op::Patch`]), and gain by it.
    pub sites: bool,
    /// Whether a process can answer calls without the kernel ([`Resume::Natively`], [`Resume::NoLink`]).
    pub answers: bool,
}

/// Runs guest threads in address spaces of their own, apart from each other and from the kernel.
///
/// Threads are named by a tag the kernel chooses. Every call is prompt; only [`wait`](Self::wait) waits.
pub trait Platform {
    fn features(&self) -> Features;
    /// The next event, if there is one now.
    fn poll(&mut self) -> Option<Event>;
    /// Waits until there may be an event, `others` is readable, or the monotonic time `deadline`. May spin first.
    fn wait(&mut self, deadline: Option<u64>, others: BorrowedFd<'_>);
    /// Whether `others` was seen readable since this was last asked.
    fn take_others(&mut self) -> bool;
    /// A fresh address space for thread `tag`; it comes with [`Ask::Ready`]. False: none is to be had yet, try later.
    fn spawn(&mut self, tag: u64) -> bool;
    /// Lets a thread go on after `ops`. With [`Resume::Regs`] and [`Resume::ReturnAt`], `regs` is where.
    fn resume(&mut self, tag: u64, ops: Vec<Op>, then: Resume, regs: Option<&Regs>);
    /// Like `resume(tag, [], Return(ret), None)`, on the fast path.
    fn answer(&mut self, tag: u64, ret: i64);
    /// The call is parked: the thread will wait long.
    fn park(&mut self, tag: u64);
    /// The registers shown with the current ask, if it shows them.
    fn regs(&self, tag: u64) -> Option<Regs>;
    /// Bytes of floating point state that [`Op::SaveFp`] can save now.
    fn fp_size(&self, tag: u64) -> u64;
    /// The floating point state that belongs to the registers shown, as a signal frame holds it.
    fn fp(&self, tag: u64) -> Option<Vec<u8>>;
    /// The address space as seen from this thread's current call.
    fn memory(&self, tag: u64) -> Option<Rc<dyn Memory>>;
    /// Makes a running thread show its context soon.
    fn kick(&mut self, tag: u64);
    /// Forgets one thread (its host thread has been told to exit).
    fn drop_thread(&mut self, tag: u64);
    /// Ends the host process that thread `tag` runs in, and forgets all its threads.
    fn kill(&mut self, tag: u64);
    /// How many guest threads are running guest code, as far as is known.
    fn running(&self) -> usize;
    /// What it did so far, for the debug log.
    fn report(&self) -> String;
    /// Threads may have been started before this one was set up; called once before the first event.
    fn start(&mut self) -> Result;
}
