//! Every host call we make, behind safe types. `SAFETY.md` gives the invariants.

pub mod bpf;
pub mod caps;
pub mod control;
pub mod cpu;
pub mod epoll;
pub mod file;
pub mod fs;
pub mod heap;
pub mod helper;
pub mod landlock;
pub mod mount;
pub mod net;
pub mod notify;
pub mod poller;
pub mod process;
pub mod ptrace;
pub mod seccomp;
pub mod shm;
pub mod signals;
pub mod stream;
pub mod stub;
pub mod term;
pub mod time;
pub mod timer;

/// What the last host call of this thread failed with.
pub(crate) fn last() -> abi::Errno {
    abi::Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL))
}

/// The host's error as a guest error number: only where the guest's call *is* the host's.
pub fn errno(e: rustix::io::Errno) -> abi::Errno {
    abi::Errno::from_raw(e.raw_os_error())
}
