//! Host calls on stub processes: their memory, their death, descriptors for them.
use crate::control::DESCRIPTORS;
use abi::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

fn iov(addr: u64, len: usize) -> libc::iovec {
    libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: len }
}

fn result(n: isize) -> Result<usize> {
    usize::try_from(n).map_err(|_| {
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EFAULT) | None => Errno::EFAULT,
            // The process is going away: its memory is no longer there.
            Some(_) => Errno::EFAULT,
        }
    })
}

/// process_vm_readv(2): bytes read before the first unreadable page; EFAULT if none.
pub fn read_memory(pid: i32, addr: u64, buf: &mut [u8]) -> Result<usize> {
    let (local, remote) = (iov(buf.as_mut_ptr() as u64, buf.len()), iov(addr, buf.len()));
    // SAFETY: `local` is `buf`; the host checks `remote` against the other process.
    result(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) })
}

/// process_vm_writev(2): bytes written before the first unwritable page; EFAULT if none.
pub fn write_memory(pid: i32, addr: u64, buf: &[u8]) -> Result<usize> {
    let (local, remote) = (iov(buf.as_ptr() as u64, buf.len()), iov(addr, buf.len()));
    // SAFETY: `local` is `buf` and only read; the host checks `remote` against the other process.
    result(unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) })
}

/// A descriptor for a process, readable when it has died.
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(crate::errno)
}

/// SIGKILL to the whole process.
pub fn kill(pidfd: BorrowedFd<'_>) -> Result {
    rustix::process::pidfd_send_signal(pidfd, Signal::KILL).map_err(crate::errno)
}

/// Interrupts one thread of a stub (SIGUSR1).
pub fn kick(tid: i32) -> Result {
    // SAFETY: no memory is involved. A thread id that was reused is another stub's thread, which takes
    // a needless kick in its stride.
    let r = unsafe { libc::syscall(libc::SYS_tkill, tid, libc::SIGUSR1) };
    if r < 0 { Err(Errno::ESRCH) } else { Ok(()) }
}

/// A SOCK_SEQPACKET pair.
pub fn socketpair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(crate::errno)
}

/// Sends `bytes` with up to [`DESCRIPTORS`] descriptors. EAGAIN rather than wait.
pub fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > DESCRIPTORS || !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::EINVAL);
    }
    let iov = [std::io::IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &iov, &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        .map(|_| ())
        .map_err(crate::errno)
}

/// Receives one message and at most one descriptor, waiting for it.
pub fn receive_fd(socket: BorrowedFd<'_>, buf: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [std::io::IoSliceMut::new(buf)];
    let n = rustix::net::recvmsg(socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).map_err(crate::errno)?;
    let fd = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((n.bytes, fd))
}

/// A random number, getrandom(2).
pub fn random_u64() -> u64 {
    let mut b = [0u8; 8];
    random(&mut b);
    u64::from_ne_bytes(b)
}

/// Fills `buf` from getrandom(2).
pub fn random(buf: &mut [u8]) {
    let mut at = 0;
    while at < buf.len() {
        match rustix::rand::getrandom(&mut buf[at..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => at += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("getrandom: {e}"),
        }
    }
}
