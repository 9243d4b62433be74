//! Host calls made by a stopped thread.
use super::Ptrace;
use super::thread::{Process, Thread};
use abi::{Errno, c};
use host::ptrace::{Report, UserRegs};
use slots::SCRATCH_SIZE;
use slots::layout::SOCKET_FD;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

type Result<T = (), E = Trouble> = std::result::Result<T, E>;

/// Why something was not done.
#[derive(Debug)]
pub enum Trouble {
    /// The host refused.
    Failed(Errno),
    /// The thread is dead, or does what it never should: its process is to be ended.
    Broken,
}

/// Interrupt enable and the bit that is always one: no trap after each instruction, whatever the guest had set.
const EFLAGS: u64 = 0x202;

/// CLONE_VM and its kin: what the stubs' filter allows for threads; and for forks.
const THREAD_FLAGS: i32 =
    c::CLONE_VM | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SIGHAND | c::CLONE_THREAD | c::CLONE_SYSVSEM;
const FORK_FLAGS: i32 = c::CLONE_PARENT;

/// Our use of the scratch memory: a message header, its vector, its control data and its byte.
const IOV: usize = 56;
const CONTROL: usize = 72;
const BYTE: usize = 96;
const MESSAGE: usize = 104;

/// Offsets in a signal frame: the register words are at 48, of which these are the last.
const FRAME_ERR: usize = 48 + 19 * 8;
const FRAME: usize = 48 + 23 * 8;

impl Ptrace {
    fn registers_for(&self, t: &Thread, nr: i64, args: [u64; 6]) -> UserRegs {
        let mut r = t.regs.get();
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
        r.rax = nr as u64;
        r.orig_rax = u64::MAX;
        r.rip = self.inject;
        r.eflags = EFLAGS;
        r
    }

    /// Has the stopped thread make a host call. Its registers are left anyhow: `t.regs` are still the guest's.
    pub(super) fn host_call(&mut self, t: &Thread, nr: i64, args: [u64; 6]) -> Result<u64> {
        self.host_call_making(t, nr, args).map(|(r, _)| r)
    }

    /// As [`Self::host_call`], with the thread id of what the call made.
    fn host_call_making(&mut self, t: &Thread, nr: i64, args: [u64; 6]) -> Result<(u64, i32)> {
        self.counters.injected += 1;
        let broken = |_| Trouble::Broken;
        host::ptrace::set_registers(t.tid, &self.registers_for(t, nr, args)).map_err(broken)?;
        let mut made = 0;
        loop {
            host::ptrace::go(t.tid).map_err(broken)?;
            match host::ptrace::wait_for(t.tid) {
                Report::Signal(c::SIGTRAP) => break,
                Report::Signal(c::SIGSYS) => return Err(Trouble::Failed(Errno::EPERM)),
                Report::Made => made = host::ptrace::event_message(t.tid).map_err(broken)?,
                // A kick that comes late: the thread asks already.
                Report::Paused => {}
                _ => {
                    if made != 0 {
                        host::ptrace::kill(made);
                    }
                    return Err(Trouble::Broken);
                }
            }
        }
        let r = host::ptrace::registers(t.tid).map_err(broken)?.rax as i64;
        match r {
            -4095..0 => Err(Trouble::Failed(Errno::from_raw(-r as i32))),
            _ => Ok((r as u64, made)),
        }
    }

    /// The same for exit(2), which nobody waits for.
    pub(super) fn send_away(&mut self, t: &Thread) {
        // A failure is that of a dead thread.
        let _ = host::ptrace::set_registers(t.tid, &self.registers_for(t, c::SYS_exit, [0; 6]));
        let _ = host::ptrace::go(t.tid);
    }

    /// A new thread or process, at its first stop.
    fn make(&mut self, t: &Thread, flags: i32) -> Result<i32> {
        let (_, tid) = self.host_call_making(t, c::SYS_clone, [flags as u64, 0, 0, 0, 0, 0])?;
        match host::ptrace::wait_for(tid) {
            Report::Paused => Ok(tid),
            // Killed before it began: as if there had been no room for it.
            Report::Gone => Err(Trouble::Failed(Errno::EAGAIN)),
            _ => {
                host::ptrace::kill(tid);
                Err(Trouble::Broken)
            }
        }
    }

    pub(super) fn new_thread(&mut self, t: &Thread, tag: u64) -> Result {
        let tid = self.make(t, THREAD_FLAGS)?;
        self.insert(Thread::new(t.process.clone(), tag, tid, t.regs.get()));
        Ok(())
    }

    pub(super) fn fork(&mut self, t: &Thread, tag: u64) -> Result {
        let (ours, theirs) = host::stub::socketpair().map_err(Trouble::Failed)?;
        let tid = self.make(t, FORK_FLAGS)?;
        let process = Process { pid: tid, socket: ours, tags: Default::default() };
        let child = Thread::new(Rc::new(process), tag, tid, t.regs.get());
        if self.take_socket(t, &child, &theirs).is_err() {
            host::ptrace::kill(tid);
            return Err(Trouble::Failed(Errno::EAGAIN));
        }
        self.insert(child);
        Ok(())
    }

    /// Puts the child's own socket in its parent's place: until then, the two have the parent's in common.
    fn take_socket(&mut self, parent: &Thread, child: &Thread, socket: &OwnedFd) -> Result {
        let fd = self.pass(parent, child, socket.as_fd())?;
        let r = self.host_call(child, c::SYS_dup3, [fd, SOCKET_FD, 0, 0, 0, 0]);
        self.host_call(child, c::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        r.map(drop)
    }

    /// Sends a descriptor over `by`'s socket and has `t` receive it; its number there.
    pub(super) fn pass(&mut self, by: &Thread, t: &Thread, fd: BorrowedFd<'_>) -> Result<u64> {
        host::stub::send_fds(by.process.socket.as_fd(), &[0], &[fd]).map_err(|_| Trouble::Broken)?;
        let mut m = [0u8; MESSAGE];
        let scratch = self.scratch;
        let at = |offset: usize| scratch + offset as u64;
        let mut put = |offset: usize, word: u64| m[offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
        put(16, at(IOV));
        put(24, 1);
        put(32, at(CONTROL));
        put(40, (BYTE - CONTROL) as u64);
        put(IOV, at(BYTE));
        put(IOV + 8, 1);
        let broken = |_| Trouble::Broken;
        host::stub::write_memory(t.tid, scratch, &m).map_err(broken)?;
        let args = [SOCKET_FD, scratch, c::MSG_DONTWAIT as u64, 0, 0, 0];
        self.host_call(t, c::SYS_recvmsg, args)?;
        let mut control = [0u8; 20];
        host::stub::read_memory(t.tid, at(CONTROL), &mut control).map_err(broken)?;
        let word = |i: usize| i32::from_ne_bytes([control[i], control[i + 1], control[i + 2], control[i + 3]]);
        // The guest's other threads can write there too. What they can make of it is another descriptor of their own.
        match (word(0), word(16)) {
            (20, fd @ 0..) => Ok(fd as u64),
            _ => Err(Trouble::Failed(Errno::EMFILE)),
        }
    }

    /// Error code, trap number and address of the fault that has stopped `t`: only a signal frame tells them, so the thread
    /// gets one, on the scratch memory, and its handler is the trap that gives it back.
    pub(super) fn fault_words(&mut self, t: &Thread, signo: i32) -> abi::Result {
        let fp = self.xstate.raw(t.tid)?;
        let mut r = t.regs.get();
        r.rsp = self.scratch + SCRATCH_SIZE;
        host::ptrace::set_registers(t.tid, &r)?;
        host::ptrace::go_with(t.tid, signo)?;
        while host::ptrace::wait_for(t.tid) == Report::Paused {
            host::ptrace::go(t.tid)?;
        }
        let mut frame = [0u8; FRAME];
        // Of a dead thread there are none.
        let at = host::ptrace::registers(t.tid)?.rsp;
        host::stub::read_memory(t.tid, at, &mut frame)?;
        let word = |i: usize| u64::from_ne_bytes(std::array::from_fn(|k| frame[FRAME_ERR + i * 8 + k]));
        t.fault.set([word(0), word(1), word(3)]);
        self.xstate.put(t.tid, &fp)
    }
}
