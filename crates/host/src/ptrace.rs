//! Stopping, looking into and resuming the threads of stubs: ptrace(2), and the waiting that goes with it.
//!
//! The tracer is one thread: every function here is for the thread that called [`seize`].
use abi::{Errno, Result};
use std::ffi::{c_int, c_long};

pub use libc::user_regs_struct as UserRegs;

const SEIZE: c_long = 0x4206;
const INTERRUPT: c_long = 0x4207;
const SYSEMU: c_long = 31;
const CONT: c_long = 7;
const DETACH: c_long = 17;
const GETREGS: c_long = 12;
const SETREGS: c_long = 13;
const GETEVENTMSG: c_long = 0x4201;
const GETSIGINFO: c_long = 0x4202;
const GETREGSET: c_long = 0x4204;
const SETREGSET: c_long = 0x4205;
const NT_X86_XSTATE: u64 = 0x202;
const SYSCALL: c_long = 24;
const SETOPTIONS: c_long = 0x4200;
const GETSIGMASK: c_long = 0x420a;
const SETSIGMASK: c_long = 0x420b;
const GET_RSEQ: c_long = 0x420f;
const SET_DISPATCH: c_long = 0x4210;
const GET_DISPATCH: c_long = 0x4211;
/// What a tracer is told of, and whom it becomes the tracer of.
const TOLD: c_int =
    libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE;
const SUSPEND_SECCOMP: c_int = 1 << 21;

/// Why a thread reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It is about to make a system call, which the host will not run.
    Call,
    /// It got this signal, and has not acted on it.
    Signal(i32),
    /// It made a thread or a process: [`event_message`] tells which.
    Made,
    /// It begins, or was interrupted.
    Paused,
    /// Any other stop.
    Other,
    /// It is gone, and has been waited for.
    Gone,
}

/// `number`, and a request's two arguments, which are numbers or point to memory the caller owns.
///
/// # Safety
/// If the request reads or writes memory of the caller's, `addr` and `data` must point to as much as it does.
unsafe fn request(number: c_long, tid: i32, addr: u64, data: u64) -> Result {
    // SAFETY: passed on to the caller; the traced thread's own memory and registers are no concern of ours.
    let r = unsafe { libc::syscall(libc::SYS_ptrace, number, tid as c_long, addr, data) };
    if r < 0 { Err(crate::last()) } else { Ok(()) }
}

/// Becomes the tracer of a process and of all it will make, without stopping it. They die with us.
pub fn seize(pid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(SEIZE, pid, 0, (TOLD | libc::PTRACE_O_EXITKILL) as u64) }
}

/// As [`seize`], for a while: if we end, they go on. EPERM: another traces it, or it is gone, or there is no right to.
pub fn seize_for_a_while(tid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(SEIZE, tid, 0, TOLD as u64) }
}

/// From here on the stopped thread dies with us, and its own filters do not see its calls: whoever says so lets it run
/// only where the calls are ours, until [`detach`]. EPERM without CAP_SYS_ADMIN, or with a filter on the tracer; EINVAL:
/// the host cannot.
pub fn suspend_filters(tid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(SETOPTIONS, tid, 0, (TOLD | libc::PTRACE_O_EXITKILL | SUSPEND_SECCOMP) as u64) }
}

/// Lets a stopped thread go on to the next edge of a system call: [`Report::Call`] at its beginning, and at its end.
pub fn go_to_edge(tid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(SYSCALL, tid, 0, 0) }
}

/// The signals a stopped thread has blocked, but for a call that blocks others for its own time.
pub fn signal_mask(tid: i32) -> Result<u64> {
    let mut mask = 0u64;
    // SAFETY: the host writes eight bytes to `mask`.
    unsafe { request(GETSIGMASK, tid, size_of::<u64>() as u64, &raw mut mask as u64) }?;
    Ok(mask)
}

/// Replaces them.
pub fn set_signal_mask(tid: i32, mask: u64) -> Result {
    // SAFETY: the host reads eight bytes from `mask`.
    unsafe { request(SETSIGMASK, tid, size_of::<u64>() as u64, &raw const mask as u64) }
}

/// `struct ptrace_sud_config`: which of the thread's calls become signals of its own.
pub type Dispatch = [u64; 4];

/// What it is now; all zeroes: none.
pub fn dispatch(tid: i32) -> Result<Dispatch> {
    let mut config = [0u64; 4];
    // SAFETY: the host writes a structure of this size to `config`.
    unsafe { request(GET_DISPATCH, tid, size_of::<Dispatch>() as u64, &raw mut config as u64) }?;
    Ok(config)
}

/// Replaces it.
pub fn set_dispatch(tid: i32, config: &Dispatch) -> Result {
    // SAFETY: the host reads a structure of this size.
    unsafe { request(SET_DISPATCH, tid, size_of::<Dispatch>() as u64, std::ptr::from_ref(config) as u64) }
}

/// Where the stopped thread's `struct rseq` is, rseq(2); 0: it has none.
pub fn restartable(tid: i32) -> Result<u64> {
    // `struct ptrace_rseq_configuration`: the address first.
    let mut config = [0u64; 3];
    // SAFETY: the host writes a structure of this size to `config`.
    unsafe { request(GET_RSEQ, tid, size_of_val(&config) as u64, config.as_mut_ptr() as u64) }?;
    Ok(config[0])
}

/// Lets a stopped process go, for ever.
pub fn detach(pid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(DETACH, pid, 0, 0) }
}

/// Lets a stopped thread go on; its system calls reach the host. A signal it had got is forgotten.
pub fn go(tid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(CONT, tid, 0, 0) }
}

/// As [`go`], and the thread acts on `signal` first.
pub fn go_with(tid: i32, signal: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(CONT, tid, 0, signal as u64) }
}

/// Lets a stopped thread go on until it makes a system call, which the host does not run.
pub fn go_to_call(tid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(SYSEMU, tid, 0, 0) }
}

/// SIGKILL to the process of a thread that has not yet been reported as gone: until then its number is its own.
pub fn kill(tid: i32) {
    send(tid, libc::SIGKILL);
}

/// Sends a signal to one thread that this process traces.
pub fn send(tid: i32, signal: i32) {
    // SAFETY: numbers only. If it is dying already there is nothing to do.
    unsafe { libc::syscall(libc::SYS_tkill, tid, signal) };
}

/// Makes a running thread report [`Report::Paused`].
pub fn interrupt(tid: i32) -> Result {
    // SAFETY: numbers only.
    unsafe { request(INTERRUPT, tid, 0, 0) }
}

/// The thread or process that the one reporting [`Report::Made`] has made.
pub fn event_message(tid: i32) -> Result<i32> {
    let mut message = 0u64;
    // SAFETY: the host writes one word, to `message`.
    unsafe { request(GETEVENTMSG, tid, 0, &raw mut message as u64) }?;
    Ok(message as i32)
}

/// Signal number, si_code and si_addr of the signal that stopped the thread.
pub fn signal_info(tid: i32) -> Result<(i32, i32, u64)> {
    // `siginfo_t`: three numbers, padding, and for faults the address.
    let mut info = [0u64; 16];
    // SAFETY: the host writes a `siginfo_t`, which is 128 bytes, to `info`.
    unsafe { request(GETSIGINFO, tid, 0, info.as_mut_ptr() as u64) }?;
    Ok((info[0] as i32, info[1] as i32, info[2]))
}

/// The registers of a stopped thread.
pub fn registers(tid: i32) -> Result<UserRegs> {
    // SAFETY: the structure is numbers only, and all zeroes is one of its values.
    let mut regs: UserRegs = unsafe { std::mem::zeroed() };
    // SAFETY: the host writes a `user_regs_struct` to `regs`.
    unsafe { request(GETREGS, tid, 0, &raw mut regs as u64) }?;
    Ok(regs)
}

/// Replaces them.
pub fn set_registers(tid: i32, regs: &UserRegs) -> Result {
    // SAFETY: the host reads a `user_regs_struct` from `regs`.
    unsafe { request(SETREGS, tid, 0, std::ptr::from_ref(regs) as u64) }
}

/// The floating point state of a stopped thread, in XSAVE's standard format: as much as fits into `buf`.
/// Returns how much the host wrote.
pub fn xstate(tid: i32, buf: &mut [u8]) -> Result<usize> {
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: the host writes to `buf` at most its length, and the length to `iov`.
    unsafe { request(GETREGSET, tid, NT_X86_XSTATE, &raw mut iov as u64) }?;
    Ok(iov.iov_len)
}

/// Replaces it. EINVAL or EFAULT if it is not all of a state that the processor takes.
pub fn set_xstate(tid: i32, bytes: &[u8]) -> Result {
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the host reads at most the length of `bytes`, and writes a length to `iov`.
    unsafe { request(SETREGSET, tid, NT_X86_XSTATE, &raw mut iov as u64) }
}

/// The next report, of thread `tid` or of any (`None`). Waits for it if `block`; EINTR when a signal comes meanwhile.
/// ECHILD: there is nobody left to wait for.
pub fn wait(tid: Option<i32>, block: bool) -> Result<Option<(i32, Report)>> {
    let mut status: c_int = 0;
    let flags = libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: the host writes `status` only.
    let r = unsafe { libc::wait4(tid.unwrap_or(-1), &raw mut status, flags, std::ptr::null_mut()) };
    match r {
        0 => Ok(None),
        r if r < 0 => Err(crate::last()),
        r => Ok(Some((r, report(status)))),
    }
}

fn report(status: c_int) -> Report {
    if !libc::WIFSTOPPED(status) {
        return Report::Gone;
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => Report::Call,
        (signal, 0) => Report::Signal(signal),
        (_, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE) => Report::Made,
        (libc::SIGTRAP, libc::PTRACE_EVENT_STOP) => Report::Paused,
        _ => Report::Other,
    }
}

/// As [`wait`] for one thread, whatever else comes.
pub fn wait_for(tid: i32) -> Report {
    loop {
        match wait(Some(tid), true) {
            Ok(Some((_, r))) => return r,
            Err(Errno::EINTR) => {}
            Ok(None) | Err(_) => return Report::Gone,
        }
    }
}
