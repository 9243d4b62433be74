//! ioctl_tty(2) on a terminal of the host. None of these waits for output to drain.
use abi::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct termios` and `struct termios2` as TCGETS and TCGETS2 know them.
pub const TERMIOS: usize = 36;
pub const TERMIOS2: usize = 44;
/// `struct winsize`.
pub const WINSIZE: usize = 8;

fn done(r: libc::c_int) -> Result<i32> {
    if r >= 0 {
        Ok(r)
    } else {
        Err(Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// A command that fills `N` bytes.
fn get<const N: usize>(fd: BorrowedFd<'_>, cmd: libc::Ioctl) -> Result<[u8; N]> {
    // The host's structure fits with room to spare, whatever the command.
    let mut b = [0u8; 128];
    const { assert!(N <= 128) };
    // SAFETY: every `cmd` passed in this file writes at most N bytes, to a buffer of 128.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), cmd, b.as_mut_ptr()) })?;
    let mut out = [0; N];
    out.copy_from_slice(&b[..N]);
    Ok(out)
}

/// A command that reads `N` bytes.
fn set<const N: usize>(fd: BorrowedFd<'_>, cmd: libc::Ioctl, v: &[u8; N]) -> Result {
    // SAFETY: every `cmd` passed in this file reads exactly N bytes.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), cmd, v.as_ptr()) }).map(drop)
}

/// A command that takes a number.
fn number(fd: BorrowedFd<'_>, cmd: libc::Ioctl, arg: i32) -> Result {
    // SAFETY: every `cmd` passed in this file takes its argument as a number; no memory is involved.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), cmd, libc::c_ulong::from(arg as u32)) }).map(drop)
}

/// TCGETS.
pub fn attributes(fd: BorrowedFd<'_>) -> Result<[u8; TERMIOS]> {
    get(fd, libc::TCGETS as _)
}

/// TCGETS2.
pub fn attributes2(fd: BorrowedFd<'_>) -> Result<[u8; TERMIOS2]> {
    get(fd, libc::TCGETS2 as _)
}

/// TCSETS.
pub fn set_attributes(fd: BorrowedFd<'_>, v: &[u8; TERMIOS]) -> Result {
    set(fd, libc::TCSETS as _, v)
}

/// TCSETS2.
pub fn set_attributes2(fd: BorrowedFd<'_>, v: &[u8; TERMIOS2]) -> Result {
    set(fd, libc::TCSETS2 as _, v)
}

/// TIOCGWINSZ.
pub fn window_size(fd: BorrowedFd<'_>) -> Result<[u8; WINSIZE]> {
    get(fd, libc::TIOCGWINSZ as _)
}

/// TIOCSWINSZ.
pub fn set_window_size(fd: BorrowedFd<'_>, v: &[u8; WINSIZE]) -> Result {
    set(fd, libc::TIOCSWINSZ as _, v)
}

/// FIONREAD: bytes to read. Of pipes, sockets and terminals.
pub fn input_bytes(fd: BorrowedFd<'_>) -> Result<i32> {
    get(fd, libc::FIONREAD as _).map(i32::from_ne_bytes)
}

/// TIOCOUTQ: bytes written and not yet sent.
pub fn output_bytes(fd: BorrowedFd<'_>) -> Result<i32> {
    get(fd, libc::TIOCOUTQ as _).map(i32::from_ne_bytes)
}

/// TCFLSH: forgets input, output or both (TCIFLUSH …).
pub fn flush(fd: BorrowedFd<'_>, queue: i32) -> Result {
    number(fd, libc::TCFLSH as _, queue)
}

/// TCXONC: stops and starts input and output (TCOOFF …).
pub fn flow(fd: BorrowedFd<'_>, action: i32) -> Result {
    number(fd, libc::TCXONC as _, action)
}
