//! Reading and writing host descriptors.
use abi::Result;
use std::os::fd::BorrowedFd;

/// read(2), or pread(2) with an offset.
pub fn read(fd: BorrowedFd<'_>, buf: &mut [u8], offset: Option<u64>) -> Result<usize> {
    match offset {
        Some(o) => rustix::io::pread(fd, buf, o),
        None => rustix::io::read(fd, buf),
    }
    .map_err(crate::errno)
}

/// write(2), or pwrite(2) with an offset.
pub fn write(fd: BorrowedFd<'_>, buf: &[u8], offset: Option<u64>) -> Result<usize> {
    match offset {
        Some(o) => rustix::io::pwrite(fd, buf, o),
        None => rustix::io::write(fd, buf),
    }
    .map_err(crate::errno)
}
