//! Installing seccomp filters: seccomp(2).
use abi::seccomp::Insn;
use abi::{Errno, Result};
use std::os::fd::{FromRawFd, OwnedFd};

fn set_filter(program: &[Insn], flags: libc::c_ulong) -> Result<libc::c_long> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    // The kernel reads `struct sock_filter`, whose layout Insn has.
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `fprog` and the program it points to are valid for the call and only read.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    if r < 0 { Err(crate::process::last()) } else { Ok(r) }
}

/// Puts the filter on all threads of this process, for ever, and sets no_new_privs.
/// EINVAL for a program the kernel does not take, EBUSY if a thread has another filter of its own.
pub fn install(program: &[Insn]) -> Result {
    rustix::thread::set_no_new_privs(true).map_err(crate::errno)?;
    match set_filter(program, libc::SECCOMP_FILTER_FLAG_TSYNC)? {
        0 => Ok(()),
        _ => Err(Errno::EBUSY),
    }
}

/// Puts the filter on the calling thread and returns its listener, for [`crate::notify`]; sets no_new_privs.
/// EBUSY if the thread has a listener already.
pub fn install_with_listener(program: &[Insn]) -> Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true).map_err(crate::errno)?;
    add_with_listener(program)
}

/// Puts the filter on the calling thread. EACCES without no_new_privs or CAP_SYS_ADMIN.
pub fn add(program: &[Insn]) -> Result {
    set_filter(program, 0).map(drop)
}

/// As [`add`], with a listener.
pub fn add_with_listener(program: &[Insn]) -> Result<OwnedFd> {
    let fd = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: the call has just returned this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
