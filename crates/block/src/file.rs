//! An open block device.
use crate::Device;
use crate::part::Part;
use abi::block::SECTOR;
use abi::{Errno, Result, c};
use guest::io::SliceSource;
use guest::{Sink, Source};
use std::any::Any;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use vfs::{Backing, FileOps, OpenFile};

const PUNCH: i32 = c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE;
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Counted by its device as long as its description lives.
pub struct BlockFile {
    pub device: Rc<Device>,
    /// It was opened for its owner alone (O_EXCL).
    pub exclusive: bool,
}

/// What becomes of a file's error where there are only blocks.
fn of_blocks(e: Errno) -> Errno {
    if matches!(e, Errno::EFAULT | Errno::ENOSPC) { e } else { Errno::EIO }
}

impl BlockFile {
    /// EINVAL: O_DIRECT moves whole blocks.
    fn aligned(&self, file: &OpenFile, offset: u64, len: usize) -> Result {
        let odd = file.flags() & c::O_DIRECT != 0 && !(offset | len as u64).is_multiple_of(self.device.logical());
        if odd { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// EPERM: it may not be written; EINVAL: not whole sectors of it, or none.
    fn check_range(&self, offset: u64, len: u64, unit: u64) -> Result {
        if self.device.read_only() {
            return Err(Errno::EPERM);
        }
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.device.size());
        if len > 0 && inside && (offset | len).is_multiple_of(unit) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// BLKDISCARD: the bytes need not be kept. EPERM, EINVAL; EOPNOTSUPP: the file cannot.
    pub fn discard(&self, offset: u64, len: u64) -> Result {
        self.check_range(offset, len, self.device.logical())?;
        self.punch(offset, len)
    }

    /// BLKZEROOUT. EPERM, EINVAL.
    pub fn zero(&self, offset: u64, len: u64) -> Result {
        self.check_range(offset, len, SECTOR)?;
        match self.punch(offset, len) {
            Err(Errno::EOPNOTSUPP) => self.write_zeroes(offset, len),
            r => r,
        }
    }

    fn punch(&self, offset: u64, len: u64) -> Result {
        let (f, at, _) = self.device.at(offset).ok_or(Errno::EINVAL)?;
        f.ops().allocate(PUNCH, at, len).map_err(|e| if e == Errno::EOPNOTSUPP { e } else { of_blocks(e) })
    }

    fn write_zeroes(&self, mut offset: u64, len: u64) -> Result {
        let end = offset + len;
        while offset < end {
            let (f, at, room) = self.device.at(offset).ok_or(Errno::EIO)?;
            let part = &ZEROES[..room.min(ZEROES.len()).min((end - offset) as usize)];
            match f.ops().write(&f, &mut SliceSource(part), at).map_err(of_blocks)? {
                0 => return Err(Errno::EIO),
                n => offset += n as u64,
            }
        }
        Ok(())
    }
}

impl FileOps for BlockFile {
    fn read(&self, file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Some((f, at, room)) = self.device.at(offset) else { return Ok(0) };
        let mut dst = Part::new(dst, room);
        let len = dst.remaining();
        self.aligned(file, offset, len)?;
        let n = f.ops().read(&f, &mut dst, at).map_err(of_blocks)?;
        // The file has become shorter than the device.
        if n == 0 && len > 0 {
            return Err(Errno::EIO);
        }
        self.device.count(false, n);
        Ok(n)
    }

    fn write(&self, file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        if self.device.read_only() {
            return Err(Errno::EPERM);
        }
        if src.remaining() == 0 {
            return Ok(0);
        }
        let (f, at, room) = self.device.at(offset).ok_or(Errno::ENOSPC)?;
        let mut src = Part::new(src, room);
        self.aligned(file, offset, src.remaining())?;
        let n = f.ops().write(&f, &mut src, at).map_err(of_blocks)?;
        self.device.count(true, n);
        Ok(n)
    }

    fn size(&self) -> Result<u64> {
        Ok(self.device.size())
    }

    fn has_fixed_size(&self) -> bool {
        true
    }

    fn seek_data_hole(&self, _offset: u64, _whence: i32) -> Result<u64> {
        Err(Errno::EINVAL)
    }

    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result {
        const ZERO: i32 = c::FALLOC_FL_ZERO_RANGE;
        const KEEP: i32 = c::FALLOC_FL_KEEP_SIZE;
        if mode & !KEEP != ZERO && mode != PUNCH {
            return Err(Errno::EOPNOTSUPP);
        }
        let rest = self.device.size().checked_sub(offset).ok_or(Errno::EINVAL)?;
        let len = if mode & KEEP != 0 { len.min(rest) } else { len };
        self.check_range(offset, len, self.device.logical())?;
        if mode == PUNCH { self.punch(offset, len) } else { self.zero(offset, len) }
    }

    fn slow_sync(&self) -> Option<Result<OwnedFd>> {
        self.device.backing()?.0.ops().slow_sync()
    }

    fn sync(&self, data_only: bool) -> Result {
        self.device.backing().map_or(Ok(()), |(f, _)| f.ops().sync(data_only))
    }

    fn mmap(&self, writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        let (file, status) = self.device.backing().ok_or(Errno::ENODEV)?;
        if writable_shared && self.device.read_only() {
            return Err(Errno::EINVAL);
        }
        // What is mapped is the file, as far as it goes.
        if status.offset != 0 || file.ops().size()? != self.device.size() {
            return Err(Errno::ENODEV);
        }
        file.ops().mmap(writable_shared, f)
    }

    fn release(&self, _file: &OpenFile) {
        self.device.closed(self.exclusive);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
