//! The seccomp listener: seccomp_unotify(2).
use abi::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A notified call of a stub.
#[derive(Debug, Clone, Copy)]
pub struct Bell {
    pub id: u64,
    /// The caller's thread id, in our pid namespace; 0 if it is not visible.
    pub tid: i32,
    pub nr: i32,
    pub args: [u64; 6],
}

const fn ioc(dir: u64, nr: u64, size: usize) -> u64 {
    (dir << 30) | ((size as u64) << 16) | ((b'!' as u64) << 8) | nr
}
const RECV: u64 = ioc(3, 0, size_of::<libc::seccomp_notif>());
const SEND: u64 = ioc(3, 1, size_of::<libc::seccomp_notif_resp>());
const ID_VALID: u64 = ioc(1, 2, 8);
const SET_FLAGS: u64 = ioc(1, 4, 8);

fn ioctl(fd: BorrowedFd<'_>, cmd: u64, arg: u64) -> Result {
    // SAFETY: each caller below passes the structure that its command names, alive for the call.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), cmd, arg) };
    if r < 0 {
        return Err(Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
    }
    Ok(())
}

/// Whether an answer wakes the caller on our CPU, and a call wakes us on the caller's.
/// EINVAL before Linux 6.6.
pub fn set_sync_wake_up(listener: BorrowedFd<'_>, on: bool) -> Result {
    ioctl(listener, SET_FLAGS, on as u64)
}

/// Takes the next notification, waiting for one. EINTR on a signal; ENOENT if the caller is gone again.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Bell> {
    // SAFETY: a plain structure, for which zeroes are required.
    let mut n: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    ioctl(listener, RECV, &raw mut n as u64)?;
    Ok(Bell { id: n.id, tid: n.pid as i32, nr: n.data.nr, args: n.data.args })
}

/// Ends the notified call with result 0. ENOENT if the caller is gone.
pub fn reply(listener: BorrowedFd<'_>, id: u64) -> Result {
    answer(listener, id, Ok(0))
}

/// Ends the notified call. ENOENT if the caller is gone.
pub fn answer(listener: BorrowedFd<'_>, id: u64, result: Result<i64>) -> Result {
    let (val, error) = result.map_or_else(|e| (0, -e.raw()), |v| (v, 0));
    let mut r = libc::seccomp_notif_resp { id, val, error, flags: 0 };
    ioctl(listener, SEND, &raw mut r as u64)
}

/// Lets the host's kernel serve the notified call. What the caller's memory said may have changed since: never for a call
/// that is allowed because of what a pointer led to, unless the host's kernel makes the same decision again.
pub fn let_pass(listener: BorrowedFd<'_>, id: u64) -> Result {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut r = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    ioctl(listener, SEND, &raw mut r as u64)
}

/// Whether the caller still waits: if so, what was just read by its thread id was read from it, not from a process that
/// has got its number since.
pub fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    ioctl(listener, ID_VALID, &raw const id as u64).is_ok()
}
