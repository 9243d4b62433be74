//! Open tmpfs files and directories.
use super::data::Data;
use super::{Body, NOATIME, TmpInode};
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use vfs::{APPEND, Backing, DirEntry, FileOps, IMMUTABLE, OpenFile};

/// The bytes, and the flags of the inode.
pub struct TmpFile(pub Rc<Data>, pub Rc<Cell<u32>>);

impl FileOps for TmpFile {
    fn read(&self, file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let n = self.0.read(dst, offset)?;
        if self.1.get() & NOATIME == 0 {
            self.0.read_by(file);
        }
        Ok(n)
    }
    fn write(&self, file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let at = if file.flags() & c::O_APPEND != 0 { self.0.size() } else { offset };
        self.0.write(src, at)
    }
    fn size(&self) -> Result<u64> {
        Ok(self.0.size())
    }
    fn seek_data_hole(&self, offset: u64, whence: i32) -> Result<u64> {
        self.0.seek_data_hole(offset, whence)
    }
    fn cached(&self, r: Range<u64>) -> Result<u64> {
        self.0.cached(r)
    }
    fn truncate(&self, len: u64) -> Result {
        if self.1.get() & APPEND != 0 {
            return Err(Errno::EPERM);
        }
        self.0.truncate(len)
    }
    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result {
        let fixed = if mode & !c::FALLOC_FL_KEEP_SIZE == 0 { IMMUTABLE } else { IMMUTABLE | APPEND };
        if self.1.get() & fixed != 0 {
            return Err(Errno::EPERM);
        }
        self.0.allocate(mode, offset, len)
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn mmap(&self, writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        self.0.mmap(writable_shared, f)
    }
    fn is_storage(&self) -> bool {
        true
    }
    fn write_mapping(&self) -> Option<Rc<()>> {
        Some(self.0.write_mapping())
    }
    fn seals(&self) -> Result<i32> {
        Ok(self.0.seals())
    }
    fn add_seals(&self, seals: i32, executable: bool) -> Result {
        self.0.add_seals(seals, executable)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub struct TmpDir(pub Rc<TmpInode>);

impl FileOps for TmpDir {
    fn readdir(&self, file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        let Body::Dir(entries, parent) = &self.0.body else { return Err(Errno::ENOTDIR) };
        self.0.listed_by(file);
        let ino = self.0.attr.get().ino;
        let up = parent.borrow().upgrade().map_or(ino, |p| p.attr.get().ino);
        // Positions: 0 and 1 are the dots, then cookie + 1.
        for (at, (name, ino)) in [(&b"."[..], ino), (&b".."[..], up)].into_iter().enumerate() {
            if from <= at as u64 && !emit(DirEntry { ino, next: at as u64 + 1, kind: 4, name: name.to_vec() }) {
                return Ok(());
            }
        }
        let e = entries.borrow();
        for (cookie, name) in e.order.range(from.saturating_sub(1).max(1)..) {
            if cookie + 1 < from {
                continue;
            }
            let Some(entry) = e.by_name.get(name) else { continue };
            let a = entry.inode.attr.get();
            let d = DirEntry { ino: a.ino, next: cookie + 2, kind: (a.kind() >> 12) as u8, name: name.to_vec() };
            if !emit(d) {
                return Ok(());
            }
        }
        Ok(())
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
