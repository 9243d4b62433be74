//! Signals the operator sends to the sentry, as a descriptor: signalfd(2).
use abi::{Errno, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Forwarded to the container. SIGPIPE, SIGTTIN and SIGTTOU are blocked and never read.
const FORWARDED: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
];
const IGNORED: [i32; 3] = [libc::SIGPIPE, libc::SIGTTIN, libc::SIGTTOU];

#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks them in the calling thread, and listens.
    pub fn new() -> Result<Signals> {
        // SAFETY: a set of our own, filled by sigemptyset before it is used.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut all);
            for s in FORWARDED {
                libc::sigaddset(&mut all, s);
            }
            let fd = libc::signalfd(-1, &all, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            for s in IGNORED {
                libc::sigaddset(&mut all, s);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
            if fd < 0 {
                return Err(Errno::EMFILE);
            }
            // SAFETY: the call has just made it.
            Ok(Signals(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The next signal that has come.
    pub fn take(&mut self) -> Option<i32> {
        let mut buf = [0u8; 128];
        // SAFETY: `buf` is as long as the structure the descriptor gives.
        let n = unsafe { libc::read(self.0.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
        (n == 128).then(|| i32::from_ne_bytes([buf[0], buf[1], buf[2], buf[3]]))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
