//! Descriptors inherited from the caller (standard streams): used without waiting, and without O_NONBLOCK, which
//! would show to everyone who shares the description.
use abi::{Errno, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags, SeekFrom};
use rustix::io::ReadWriteFlags;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file or a disk: has positions, never blocks.
    Regular,
    Directory,
    Pipe,
    Socket,
    Terminal,
    /// Another character device (/dev/null).
    Device,
    Other,
}

/// A copy of the process's own standard stream `n` (0, 1 or 2), close-on-exec. EBADF if it is closed.
pub fn standard(n: u32) -> Result<OwnedFd> {
    let (i, o, e);
    let fd = match n {
        0 => {
            i = std::io::stdin();
            i.as_fd()
        }
        1 => {
            o = std::io::stdout();
            o.as_fd()
        }
        2 => {
            e = std::io::stderr();
            e.as_fd()
        }
        _ => return Err(Errno::EBADF),
    };
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(crate::errno)
}

/// fstat(2) and isatty(3).
pub fn kind(fd: BorrowedFd<'_>) -> Result<Kind> {
    let st = rustix::fs::fstat(fd).map_err(crate::errno)?;
    Ok(match FileType::from_raw_mode(st.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => Kind::Regular,
        FileType::Directory => Kind::Directory,
        FileType::Fifo => Kind::Pipe,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice if rustix::termios::isatty(fd) => Kind::Terminal,
        FileType::CharacterDevice => Kind::Device,
        _ => Kind::Other,
    })
}

/// fcntl(F_GETFL): access mode and status flags.
pub fn flags(fd: BorrowedFd<'_>) -> Result<i32> {
    rustix::fs::fcntl_getfl(fd).map(|f: OFlags| f.bits() as i32).map_err(crate::errno)
}

/// poll(2) with no time to wait: which of `events` (POLLIN …), and POLLERR, POLLHUP, hold now.
pub fn poll_now(fd: BorrowedFd<'_>, events: u16) -> u16 {
    poll_within(fd, events, 0)
}

/// As [`poll_now`], but waits so many nanoseconds for one of them.
pub fn poll_within(fd: BorrowedFd<'_>, events: u16, ns: u64) -> u16 {
    let mut p = [PollFd::from_borrowed_fd(fd, PollFlags::from_bits_retain(events))];
    let time = rustix::time::Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    match rustix::event::poll(&mut p, Some(&time)) {
        Ok(_) => p[0].revents().bits(),
        Err(_) => 0,
    }
}

/// The offset that means: where the descriptor stands.
const CURRENT: u64 = u64::MAX;

/// preadv2(2) with RWF_NOWAIT at the current position. EAGAIN rather than wait; EOPNOTSUPP where the host's file
/// cannot promise that.
pub fn read_nowait(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize> {
    rustix::io::preadv2(fd, &mut [IoSliceMut::new(buf)], CURRENT, ReadWriteFlags::NOWAIT).map_err(crate::errno)
}

/// pwritev2(2) with RWF_NOWAIT; otherwise as [`read_nowait`].
pub fn write_nowait(fd: BorrowedFd<'_>, buf: &[u8]) -> Result<usize> {
    rustix::io::pwritev2(fd, &[IoSlice::new(buf)], CURRENT, ReadWriteFlags::NOWAIT).map_err(crate::errno)
}

/// lseek(fd, 0, SEEK_CUR).
pub fn tell(fd: BorrowedFd<'_>) -> Result<u64> {
    rustix::fs::tell(fd).map_err(crate::errno)
}

/// lseek(fd, pos, SEEK_SET).
pub fn seek(fd: BorrowedFd<'_>, pos: u64) -> Result<u64> {
    rustix::fs::seek(fd, SeekFrom::Start(pos)).map_err(crate::errno)
}

/// The size fstat(2) tells.
pub fn size(fd: BorrowedFd<'_>) -> Result<u64> {
    rustix::fs::fstat(fd).map(|s| s.st_size as u64).map_err(crate::errno)
}

/// ftruncate(2).
pub fn truncate(fd: BorrowedFd<'_>, len: u64) -> Result {
    rustix::fs::ftruncate(fd, len).map_err(crate::errno)
}

/// fsync(2), or fdatasync(2).
pub fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result {
    if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }.map_err(crate::errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_used_without_waiting() {
        let (r, w) = rustix::pipe::pipe().unwrap();
        assert_eq!(kind(r.as_fd()), Ok(Kind::Pipe));
        assert_eq!(read_nowait(r.as_fd(), &mut [0; 4]), Err(Errno::EAGAIN));
        assert_eq!(poll_now(r.as_fd(), libc::POLLIN as u16), 0);
        assert_eq!(write_nowait(w.as_fd(), b"abc"), Ok(3));
        assert_eq!(poll_now(r.as_fd(), libc::POLLIN as u16), libc::POLLIN as u16);
        let mut b = [0; 4];
        assert_eq!(read_nowait(r.as_fd(), &mut b), Ok(3));
        assert_eq!(&b[..3], b"abc");
        let mut total = 0;
        while write_nowait(w.as_fd(), &[0; 4096]).is_ok() {
            total += 4096;
        }
        assert_eq!(total, 65536);
        assert_eq!(poll_now(w.as_fd(), libc::POLLOUT as u16), 0);
        drop(r);
        assert_eq!(write_nowait(w.as_fd(), b"x"), Err(Errno::EPIPE));
    }
}
