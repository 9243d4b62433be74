//! Guest memory: how the kernel reads and writes what a guest's pointers name.
//!
//! A pointer is a number until it is read through [`Memory`]; a value is copied once and decided on
//! the copy. [`fake::FakeMemory`] stands in for a guest in tests.
#![forbid(unsafe_code)]

pub mod fake;
pub mod io;
pub mod ops;
pub mod ptr;

pub use io::{Sink, Source, UserSink, UserSource};
pub use ptr::{UserIn, UserInOut, UserOut};

use abi::{Errno, Result};
use std::os::fd::BorrowedFd;

/// One guest address space, as seen from a system call of one of its threads.
pub trait Memory {
    /// Fills `buf` from guest address `addr`. EFAULT if any byte is not readable.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result;
    /// Writes `bytes` at guest address `addr`. EFAULT if known not to be writable; an implementation
    /// may write later, in the guest's own context, and turn the call's result into EFAULT there.
    fn write(&self, addr: u64, bytes: &[u8]) -> Result;
    /// As [`write`](Self::write), but at once: others may be looking at the word.
    fn write_now(&self, addr: u64, bytes: &[u8]) -> Result {
        self.write(addr, bytes)
    }
    /// Reads the bytes as they are now, not as they were copied ahead.
    fn read_now(&self, addr: u64, buf: &mut [u8]) -> Result {
        self.read(addr, buf)
    }
    /// As [`read_now`](Self::read_now), and of the vDSO too, which is not among the guest's own addresses.
    fn read_vdso(&self, addr: u64, buf: &mut [u8]) -> Result {
        self.read_now(addr, buf)
    }
    /// Reads up to `buf.len()` bytes, stopping early at the first unreadable page. EFAULT if none.
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize>;
    /// The calling thread's stack pointer.
    fn stack_pointer(&self) -> u64 {
        0
    }
    /// The host process whose memory it is; 0 if there is none.
    fn host_pid(&self) -> i32 {
        0
    }
    /// From now on no thread of the process begins to wait for a private futex at the host.
    fn take_futexes(&self) {}
    /// Whether the thread may be waiting for one there.
    fn waits_at_host(&self) -> bool {
        false
    }
    /// From now on no call of the process that the host answers returns to `ip`; 0: they may again.
    fn cover(&self, _ip: u64) {}
    /// Whether the thread's call, or its last one, may return to `ip` without the sentry's doing.
    fn returns_to(&self, _ip: u64) -> bool {
        false
    }
    /// What the process is told of names holds under this number; 0: nothing does. True: the number is new to it.
    fn tell_names(&self, _number: u64) -> bool {
        false
    }
    /// Reads from a host descriptor into guest memory: [`Sink::put_from`] for guest buffers.
    fn fill(&self, addr: u64, len: usize, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize> {
        let mut buf = vec![0u8; len.min(BUFFER)];
        let n = host::file::read(fd, &mut buf, offset)?;
        self.write(addr, &buf[..n])?;
        Ok(n)
    }
    /// Writes guest memory to a host descriptor: [`Source::take_into`] for guest buffers.
    fn drain(&self, addr: u64, len: usize, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize> {
        let mut buf = vec![0u8; len.min(BUFFER)];
        let n = self.read_some(addr, &mut buf)?;
        host::file::write(fd, &buf[..n], offset)
    }
}

/// Bytes that a buffered transfer moves at a time.
const BUFFER: usize = 0x4_0000;

/// Reads a NUL-terminated string of at most `max` bytes, without the NUL. ENAMETOOLONG if there is no NUL.
pub fn read_cstr(mem: &dyn Memory, addr: u64, max: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut buf = [0u8; 256];
    let mut at = addr;
    while out.len() < max {
        let to_page_end = (abi::PAGE_SIZE - at % abi::PAGE_SIZE) as usize;
        let want = buf.len().min(max - out.len()).min(to_page_end);
        let n = mem.read_some(at, &mut buf[..want])?;
        if let Some(i) = buf[..n].iter().position(|b| *b == 0) {
            out.extend_from_slice(&buf[..i]);
            return Ok(out);
        }
        out.extend_from_slice(&buf[..n]);
        at = at.checked_add(n as u64).ok_or(Errno::EFAULT)?;
    }
    Err(Errno::ENAMETOOLONG)
}
