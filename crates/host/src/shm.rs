//! A stub's shared region, as the sentry sees it.
use abi::{Errno, Result};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use slots::{Control, Slot, layout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// One memfd, mapped here for as long as this lives. The other side may write to it at any time, so
/// everything typed in it is an atomic, and the data area is only ever copied.
pub struct Region {
    base: *mut u8,
    fd: OwnedFd,
}

impl Region {
    pub fn new() -> Result<Region> {
        let fd = memfd_create(c"slots", MemfdFlags::CLOEXEC).map_err(crate::errno)?;
        ftruncate(&fd, layout::REGION_SIZE).map_err(crate::errno)?;
        let len = layout::REGION_SIZE as usize;
        // SAFETY: a new mapping at an address the host chooses.
        let base =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0) }
                .map_err(crate::errno)?;
        Ok(Region { base: base.cast(), fd })
    }

    pub fn control(&self) -> &Control {
        // SAFETY: the mapping starts with it and lives as long as `self`; all fields are atomics.
        unsafe { &*self.base.cast() }
    }

    /// Slot `i`, below `layout::SLOTS`.
    #[inline]
    pub fn slot(&self, i: usize) -> &Slot {
        assert!(i < layout::SLOTS);
        // SAFETY: in bounds, aligned (a multiple of SLOT_STRIDE), alive as long as `self`; all fields are atomics.
        unsafe { &*self.base.add(layout::slot_offset(i) as usize).cast() }
    }

    /// Checked pointer to `len` bytes at `offset` of slot `i`'s data area.
    fn data(&self, i: usize, offset: usize, len: usize) -> *mut u8 {
        assert!(i < layout::SLOTS && len <= layout::DATA_SIZE && offset <= layout::DATA_SIZE - len);
        // SAFETY: within the mapping by the assertion.
        unsafe { self.base.add((layout::slot_offset(i) + layout::DATA_OFFSET) as usize + offset) }
    }

    /// Copies out of the data area.
    pub fn get(&self, i: usize, offset: usize, to: &mut [u8]) {
        let from = self.data(i, offset, to.len());
        // SAFETY: both ranges are valid for the length; the other side may change the bytes meanwhile, which
        // at worst copies a mixture: they are guest bytes, hostile in any case.
        unsafe { copy(from, to.as_mut_ptr(), to.len()) }
    }

    /// Copies into the data area.
    pub fn put(&self, i: usize, offset: usize, from: &[u8]) {
        let to = self.data(i, offset, from.len());
        // SAFETY: as for `get`.
        unsafe { copy(from.as_ptr(), to, from.len()) }
    }

    /// Reads from a host descriptor into the data area: pread(2), or read(2) without an offset.
    pub fn read_from(&self, i: usize, at: usize, len: usize, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize> {
        let to = self.data(i, at, len);
        // SAFETY: the host writes at most `len` bytes to a range valid for them.
        let n = unsafe {
            match offset {
                Some(o) => libc::pread(fd.as_raw_fd(), to.cast(), len, o as i64),
                None => libc::read(fd.as_raw_fd(), to.cast(), len),
            }
        };
        done(n)
    }

    /// Writes from the data area to a host descriptor: pwrite(2), or write(2) without an offset.
    pub fn write_to(&self, i: usize, at: usize, len: usize, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize> {
        let from = self.data(i, at, len);
        // SAFETY: the host reads at most `len` bytes from a range valid for them.
        let n = unsafe {
            match offset {
                Some(o) => libc::pwrite(fd.as_raw_fd(), from.cast(), len, o as i64),
                None => libc::write(fd.as_raw_fd(), from.cast(), len),
            }
        };
        done(n)
    }
}

/// In pieces that the C library copies with vector moves: its `rep movsb` for longer ones is three times as slow when
/// the addresses lie badly to each other.
///
/// # Safety
/// As `copy_nonoverlapping`.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    const PIECE: usize = 1024;
    let mut at = 0;
    while at < len {
        let n = PIECE.min(len - at);
        // SAFETY: within the ranges the caller vouches for.
        unsafe { std::ptr::copy_nonoverlapping(from.add(at), to.add(at), n) };
        at += n;
    }
}

fn done(n: isize) -> Result<usize> {
    usize::try_from(n).map_err(|_| last())
}

fn last() -> Errno {
    Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no reference outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), layout::REGION_SIZE as usize) };
    }
}
