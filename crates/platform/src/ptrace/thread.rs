//! A traced thread and its process, and guest memory as it is reached from there.
use abi::regs::Regs;
use abi::{Errno, Result, c};
use guest::Memory;
use host::ptrace::UserRegs;
use slots::layout;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// One stub process.
pub struct Process {
    pub pid: i32,
    /// Our end of its socket, by which it gets descriptors to map.
    pub socket: OwnedFd,
    pub tags: RefCell<Vec<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Running guest code.
    Running,
    /// Stopped, and waiting for an answer.
    Asking,
    /// Told to exit, or to be told as soon as it stops.
    Leaving,
}

pub struct Thread {
    pub process: Rc<Process>,
    pub tag: u64,
    pub tid: i32,
    pub state: Cell<State>,
    /// The guest's registers while it is stopped; of a call, rax is the number.
    pub regs: Cell<UserRegs>,
    /// Error code, trap number and address of the last fault, as a signal frame tells them.
    pub fault: Cell<[u64; 3]>,
}

/// Signals that guest code itself can cause.
pub fn is_fault(signo: i32) -> bool {
    matches!(signo, c::SIGSEGV | c::SIGBUS | c::SIGFPE | c::SIGILL | c::SIGTRAP)
}

/// cs, gs, fs and ss of a program, as a signal frame has them.
const SEGMENTS: u64 = 0x002b_0000_0000_0033;

impl Thread {
    pub fn new(process: Rc<Process>, tag: u64, tid: i32, regs: UserRegs) -> Thread {
        Thread { process, tag, tid, state: Cell::new(State::Asking), regs: Cell::new(regs), fault: Cell::default() }
    }

    pub fn change(&self, change: impl FnOnce(&mut UserRegs)) {
        let mut r = self.regs.get();
        change(&mut r);
        self.regs.set(r);
    }

    pub fn set_result(&self, ret: i64) {
        self.change(|r| r.rax = ret as u64);
    }

    /// The registers as the kernel knows them.
    pub fn show(&self) -> Regs {
        let r = self.regs.get();
        let [err, trapno, cr2] = self.fault.get();
        Regs {
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
            rdi: r.rdi,
            rsi: r.rsi,
            rbp: r.rbp,
            rbx: r.rbx,
            rdx: r.rdx,
            rax: r.rax,
            rcx: r.rcx,
            rsp: r.rsp,
            rip: r.rip,
            eflags: r.eflags,
            segments: SEGMENTS,
            err,
            trapno,
            oldmask: 0,
            cr2,
        }
    }

    /// Takes the kernel's registers; segments and their bases stay.
    pub fn load(&self, k: &Regs) {
        self.change(|r| {
            r.r8 = k.r8;
            r.r9 = k.r9;
            r.r10 = k.r10;
            r.r11 = k.r11;
            r.r12 = k.r12;
            r.r13 = k.r13;
            r.r14 = k.r14;
            r.r15 = k.r15;
            r.rdi = k.rdi;
            r.rsi = k.rsi;
            r.rbp = k.rbp;
            r.rbx = k.rbx;
            r.rdx = k.rdx;
            r.rax = k.rax;
            r.rcx = k.rcx;
            r.rsp = k.rsp;
            r.rip = k.rip;
            r.eflags = k.eflags;
        });
    }
}

/// Only the guest's own addresses: the stub's memory is above them.
fn guest_range(addr: u64, len: usize) -> Result {
    match addr.checked_add(len as u64) {
        Some(end) if end <= layout::GUEST_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

fn all(n: usize, of: usize) -> Result {
    if n == of { Ok(()) } else { Err(Errno::EFAULT) }
}

/// By thread id: the process's own is of no use once its first thread has exited.
impl Memory for Thread {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result {
        guest_range(addr, buf.len())?;
        all(host::stub::read_memory(self.tid, addr, buf)?, buf.len())
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result {
        guest_range(addr, bytes.len())?;
        all(host::stub::write_memory(self.tid, addr, bytes)?, bytes.len())
    }

    fn read_vdso(&self, addr: u64, buf: &mut [u8]) -> Result {
        all(host::stub::read_memory(self.tid, addr, buf)?, buf.len())
    }

    fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize> {
        guest_range(addr, buf.len().min(1))?;
        let room = (layout::GUEST_END - addr).min(buf.len() as u64) as usize;
        host::stub::read_memory(self.tid, addr, &mut buf[..room])
    }

    fn host_pid(&self) -> i32 {
        self.process.pid
    }
}
