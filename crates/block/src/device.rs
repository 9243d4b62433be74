//! One loop device: what it stands on, how large it is, and who has it open.
use crate::BlockFile;
use abi::block::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_PARTSCAN, LO_FLAGS_READ_ONLY, LO_KEY_SIZE, LO_NAME_SIZE,
    LoopInfo64, SECTOR,
};
use abi::{Errno, PAGE_SIZE, Result, c};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vfs::busy::Writing;
use vfs::{Attr, OpenFile};

/// Loop devices that may stand on one another: Linux has no limit, but calls itself that deep, too.
const DEPTH: usize = 8;
/// Sectors that are read ahead of a reader who goes on: 128 KiB. Kept, not acted on.
const READ_AHEAD: u64 = 256;

/// What LOOP_SET_STATUS sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes of the file before the device's first.
    pub offset: u64,
    /// Bytes the device may have; 0: as many as the file.
    pub limit: u64,
    /// LO_FLAGS_READ_ONLY and its kin.
    pub flags: u32,
    /// Whatever the owner noted.
    pub name: [u8; LO_NAME_SIZE],
}

impl Status {
    /// EINVAL: it asks for encryption; EOVERFLOW: an offset or limit that no file has.
    pub fn of(info: &LoopInfo64) -> Result<Status> {
        if info.encrypt_key_size as usize > LO_KEY_SIZE || info.encrypt_type != 0 {
            return Err(Errno::EINVAL);
        }
        if info.offset.max(info.sizelimit) > i64::MAX as u64 {
            return Err(Errno::EOVERFLOW);
        }
        let mut name = info.file_name;
        name[LO_NAME_SIZE - 1] = 0;
        Ok(Status { offset: info.offset, limit: info.sizelimit, flags: info.flags, name })
    }
}

/// What was moved since the device was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub reads: u64,
    pub sectors_read: u64,
    pub writes: u64,
    pub sectors_written: u64,
}

struct Bound {
    file: Rc<OpenFile>,
    status: Status,
    /// Bytes, in whole sectors. It does not follow the file's by itself.
    size: u64,
}

pub struct Device {
    pub number: u32,
    bound: RefCell<Option<Bound>>,
    /// LOOP_CLR_FD was asked for by the only one who has it open: nobody else may open it any more.
    leaving: Cell<bool>,
    openers: Cell<u32>,
    /// One of them has it for himself (O_EXCL).
    claimed: Cell<bool>,
    /// What it was last bound to may not be written; it stays so until it is bound anew.
    disk_read_only: Cell<bool>,
    /// BLKROSET.
    set_read_only: Cell<bool>,
    logical: Cell<u64>,
    block_size: Cell<u64>,
    read_ahead: Cell<u64>,
    sequence: Cell<u64>,
    last_sequence: Rc<Cell<u64>>,
    counts: Cell<Counts>,
}

fn size_of_part(file: &OpenFile, offset: u64, limit: u64) -> Result<u64> {
    let rest = file.ops().size()?.saturating_sub(offset);
    Ok(if limit > 0 { rest.min(limit) } else { rest } & !(SECTOR - 1))
}

fn valid_block_size(size: u64) -> Result<u64> {
    let valid = size.is_power_of_two() && (SECTOR..=PAGE_SIZE).contains(&size);
    if valid { Ok(size) } else { Err(Errno::EINVAL) }
}

/// A description of our own of the file that a guest has open: its flags are not the guest's to change.
fn own(f: &OpenFile) -> Result<Rc<OpenFile>> {
    let place = f.path().ok_or(Errno::EINVAL)?;
    let mode = if f.writable() { c::O_RDWR } else { c::O_RDONLY };
    if let Some(b) = f.downcast::<BlockFile>() {
        return Ok(OpenFile::new(Rc::new(b.device.open(false)?), mode, Some(place.clone())));
    }
    let a = place.inode().attr()?;
    if !a.is_file() || !f.ops().is_storage() {
        return Err(Errno::EINVAL);
    }
    let writing = if f.writable() { Some(Writing::begin((a.dev, a.ino))?) } else { None };
    Ok(OpenFile::writing(place.inode().open(mode)?, mode, Some(place.clone()), writing))
}

impl Device {
    /// `last_sequence`: the number that the disk changed last was given.
    pub(crate) fn new(number: u32, last_sequence: &Rc<Cell<u64>>) -> Rc<Device> {
        let d = Device {
            number,
            bound: RefCell::default(),
            leaving: Cell::default(),
            openers: Cell::default(),
            claimed: Cell::default(),
            disk_read_only: Cell::default(),
            set_read_only: Cell::default(),
            logical: Cell::new(SECTOR),
            block_size: Cell::new(PAGE_SIZE),
            read_ahead: Cell::new(READ_AHEAD),
            sequence: Cell::default(),
            last_sequence: last_sequence.clone(),
            counts: Cell::default(),
        };
        d.changed();
        Rc::new(d)
    }

    /// It is another disk now.
    fn changed(&self) {
        self.last_sequence.set(self.last_sequence.get() + 1);
        self.sequence.set(self.last_sequence.get());
    }

    pub fn is_unbound(&self) -> bool {
        self.bound.borrow().is_none()
    }

    /// ENXIO unless a file is bound, and not about to be let go.
    fn with<T>(&self, f: impl FnOnce(&mut Bound) -> Result<T>) -> Result<T> {
        match &mut *self.bound.borrow_mut() {
            Some(b) if !self.leaving.get() => f(b),
            _ => Err(Errno::ENXIO),
        }
    }

    pub(crate) fn in_use(&self) -> bool {
        !self.is_unbound() || self.openers.get() > 0
    }

    /// ENXIO: it is about to be let go; EBUSY: another has it for himself.
    pub fn open(self: &Rc<Device>, exclusive: bool) -> Result<BlockFile> {
        if self.leaving.get() {
            return Err(Errno::ENXIO);
        }
        if exclusive && self.claimed.replace(true) {
            return Err(Errno::EBUSY);
        }
        if self.openers.replace(self.openers.get() + 1) == 0 {
            // The largest that the size is a multiple of.
            let fits = 1u64.checked_shl(self.size().trailing_zeros()).unwrap_or(PAGE_SIZE);
            self.block_size.set(fits.clamp(self.logical.get(), PAGE_SIZE));
        }
        Ok(BlockFile { device: self.clone(), exclusive })
    }

    pub(crate) fn closed(&self, exclusive: bool) {
        self.openers.set(self.openers.get() - 1);
        if exclusive {
            self.claimed.set(false);
        }
        let goes = |b: &Bound| b.status.flags & LO_FLAGS_AUTOCLEAR != 0;
        if self.openers.get() == 0 && self.bound.borrow().as_ref().is_some_and(goes) {
            let was = self.bound.take();
            self.leaving.set(false);
            self.logical.set(SECTOR);
            self.changed();
            drop(was);
        }
    }

    /// EBUSY: another than `by` has it for himself.
    fn free_for(&self, by: &BlockFile) -> Result {
        if self.claimed.get() && !by.exclusive { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// EBADF: it would stand on itself; EINVAL: on a device that stands on nothing, or on too many.
    fn may_stand_on(&self, f: &OpenFile) -> Result {
        let Some(mut on) = f.downcast::<BlockFile>().map(|b| b.device.clone()) else { return Ok(()) };
        for _ in 1..DEPTH {
            if on.number == self.number {
                return Err(Errno::EBADF);
            }
            let below = on.with(|b| Ok(b.file.clone())).map_err(|_| Errno::EINVAL)?;
            let Some(b) = below.downcast::<BlockFile>() else { return Ok(()) };
            on = b.device.clone();
        }
        Err(Errno::EINVAL)
    }

    /// LOOP_CONFIGURE, through a description that may write if `writable`. `block_size`: of the device; 0: 512 bytes.
    ///
    /// EBUSY: it is bound, or somebody else's; EBADF, EINVAL: not a file to stand on; EINVAL: flags, block size.
    pub fn configure(&self, by: &BlockFile, writable: bool, f: &OpenFile, block_size: u32, mut s: Status) -> Result {
        const SETTABLE: u32 = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO;
        self.free_for(by)?;
        if !self.is_unbound() {
            return Err(Errno::EBUSY);
        }
        self.may_stand_on(f)?;
        if s.flags & !SETTABLE != 0 {
            return Err(Errno::EINVAL);
        }
        let logical = if block_size == 0 { SECTOR } else { valid_block_size(block_size.into())? };
        let file = own(f)?;
        if !writable || !file.writable() {
            s.flags |= LO_FLAGS_READ_ONLY;
        }
        if !s.offset.is_multiple_of(SECTOR) {
            s.flags &= !LO_FLAGS_DIRECT_IO;
        }
        let size = size_of_part(&file, s.offset, s.limit)?;
        self.disk_read_only.set(s.flags & LO_FLAGS_READ_ONLY != 0);
        self.logical.set(logical);
        self.changed();
        self.bound.replace(Some(Bound { file, status: s, size }));
        Ok(())
    }

    /// LOOP_CHANGE_FD: another file of the same size. ENXIO; EINVAL: the device may be written, or the size differs. Nor
    /// may it be another loop device, as what stands on this one is not known.
    pub fn change(&self, f: &OpenFile) -> Result {
        let (old, s) = self.with(|b| Ok((b.file.clone(), b.status)))?;
        if s.flags & LO_FLAGS_READ_ONLY == 0 || f.downcast::<BlockFile>().is_some() {
            return Err(Errno::EINVAL);
        }
        let new = own(f)?;
        if size_of_part(&new, s.offset, s.limit)? != size_of_part(&old, s.offset, s.limit)? {
            return Err(Errno::EINVAL);
        }
        self.changed();
        self.with(|b| {
            b.file = new;
            Ok(())
        })
    }

    /// LOOP_CLR_FD: the file is let go when the device is closed by all. ENXIO.
    pub fn clear(&self) -> Result {
        self.with(|b| {
            b.status.flags |= LO_FLAGS_AUTOCLEAR;
            Ok(())
        })?;
        self.leaving.set(self.openers.get() == 1);
        Ok(())
    }

    /// LOOP_SET_STATUS. ENXIO; EBUSY: somebody else's.
    pub fn set_status(&self, by: &BlockFile, s: Status) -> Result {
        self.free_for(by)?;
        self.with(|b| {
            let old = std::mem::replace(&mut b.status, s);
            b.status.flags &= LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN;
            b.status.flags |= old.flags & !LO_FLAGS_AUTOCLEAR;
            if !s.offset.is_multiple_of(SECTOR) {
                b.status.flags &= !LO_FLAGS_DIRECT_IO;
            }
            if (old.offset, old.limit) != (s.offset, s.limit) {
                b.size = size_of_part(&b.file, s.offset, s.limit)?;
            }
            Ok(())
        })
    }

    /// LOOP_GET_STATUS: that, and the file's attributes. ENXIO.
    pub fn status(&self) -> Result<(Status, Attr)> {
        let (file, status) = self.with(|b| Ok((b.file.clone(), b.status)))?;
        Ok((status, file.path().ok_or(Errno::EIO)?.inode().attr()?))
    }

    /// The file it stands on, and how, even if it is about to be let go.
    pub fn backing(&self) -> Option<(Rc<OpenFile>, Status)> {
        self.bound.borrow().as_ref().map(|b| (b.file.clone(), b.status))
    }

    /// LOOP_SET_CAPACITY: it is as large as the file allows now. ENXIO.
    pub fn set_capacity(&self) -> Result {
        self.with(|b| {
            b.size = size_of_part(&b.file, b.status.offset, b.status.limit)?;
            Ok(())
        })
    }

    /// LOOP_SET_DIRECT_IO: shown, not acted on. ENXIO; EINVAL: the device does not begin with a sector of the file.
    pub fn set_direct(&self, on: bool) -> Result {
        self.with(|b| {
            if on && !b.status.offset.is_multiple_of(SECTOR) {
                return Err(Errno::EINVAL);
            }
            b.status.flags = b.status.flags & !LO_FLAGS_DIRECT_IO | if on { LO_FLAGS_DIRECT_IO } else { 0 };
            Ok(())
        })
    }

    /// LOOP_SET_BLOCK_SIZE, in bytes: a power of two, 512 to a page. ENXIO, EINVAL; EBUSY: somebody else's.
    pub fn set_logical(&self, by: &BlockFile, size: u64) -> Result {
        self.free_for(by)?;
        self.with(|_| valid_block_size(size)).map(|size| self.logical.set(size))
    }

    /// BLKBSZSET: as above, and not below the device's own. EINVAL, EBUSY.
    pub fn set_block_size(&self, by: &BlockFile, size: i32) -> Result {
        let size = valid_block_size(u64::try_from(size).map_err(|_| Errno::EINVAL)?)?;
        if size < self.logical.get() {
            return Err(Errno::EINVAL);
        }
        self.free_for(by)?;
        self.block_size.set(size);
        Ok(())
    }

    /// Bytes; 0: nothing is bound.
    pub fn size(&self) -> u64 {
        self.bound.borrow().as_ref().map_or(0, |b| b.size)
    }
    pub fn read_only(&self) -> bool {
        self.disk_read_only.get() || self.set_read_only.get()
    }
    pub fn set_read_only(&self, on: bool) {
        self.set_read_only.set(on);
    }
    /// Bytes that are read and written at least.
    pub fn logical(&self) -> u64 {
        self.logical.get()
    }
    pub fn block_size(&self) -> u64 {
        self.block_size.get()
    }
    /// In sectors.
    pub fn read_ahead(&self) -> u64 {
        self.read_ahead.get()
    }
    /// In sectors, of which it is whole pages.
    pub fn set_read_ahead(&self, sectors: u64) {
        self.read_ahead.set(sectors & !(PAGE_SIZE / SECTOR - 1));
    }
    /// A number that no other disk had.
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }
    pub(crate) fn count(&self, write: bool, bytes: usize) {
        let (mut n, sectors) = (self.counts.get(), (bytes as u64).div_ceil(SECTOR));
        if write {
            (n.writes, n.sectors_written) = (n.writes + 1, n.sectors_written + sectors);
        } else {
            (n.reads, n.sectors_read) = (n.reads + 1, n.sectors_read + sectors);
        }
        self.counts.set(n);
    }

    /// Where in which file the bytes at `offset` are, and how many there are before the device ends.
    pub(crate) fn at(&self, offset: u64) -> Option<(Rc<OpenFile>, u64, usize)> {
        let b = self.bound.borrow();
        let b = b.as_ref()?;
        let room = b.size.checked_sub(offset).filter(|r| *r > 0)?;
        Some((b.file.clone(), b.status.offset + offset, usize::try_from(room).unwrap_or(usize::MAX)))
    }
}
