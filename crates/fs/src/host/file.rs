//! Open host files and directories.
use super::HostInode;
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use std::any::Any;
use std::cell::RefCell;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use vfs::{Backing, DirEntry, FileOps, Inode, OpenFile};

pub struct HostFile {
    fd: Rc<OwnedFd>,
    inode: Rc<HostInode>,
}

impl HostFile {
    pub fn new(fd: Rc<OwnedFd>, inode: Rc<HostInode>) -> HostFile {
        *inode.opened.borrow_mut() = Rc::downgrade(&fd);
        HostFile { fd, inode }
    }
}

impl FileOps for HostFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let mut done = 0;
        while dst.remaining() > 0 {
            let (want, asked) = (dst.remaining(), dst.stretch());
            match dst.put_from(self.fd.as_fd(), Some(offset + done as u64), want) {
                Ok(n) if n < asked => return Ok(done + n),
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let mut at = if file.flags() & c::O_APPEND != 0 { self.size()? } else { offset };
        let mut done = 0;
        while src.remaining() > 0 {
            let want = src.remaining();
            match src.take_into(self.fd.as_fd(), Some(at), want) {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    at += n as u64;
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        self.inode.changed();
        if file.flags() & (c::O_SYNC | c::O_DSYNC) != 0 {
            ::host::fs::sync(self.fd.as_fd(), file.flags() & c::O_SYNC != c::O_SYNC)?;
        }
        Ok(done)
    }

    fn size(&self) -> Result<u64> {
        Ok(::host::fs::stat(self.fd.as_fd(), b"")?.size)
    }

    fn seek_data_hole(&self, offset: u64, whence: i32) -> Result<u64> {
        ::host::fs::seek_data_hole(self.fd.as_fd(), offset, whence)
    }

    fn cached(&self, _r: Range<u64>) -> Result<u64> {
        Err(Errno::EOPNOTSUPP)
    }

    fn truncate(&self, len: u64) -> Result {
        self.inode.changed();
        ::host::fs::ftruncate(self.fd.as_fd(), len)
    }

    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result {
        self.inode.changed();
        ::host::fs::fallocate(self.fd.as_fd(), mode, offset, len)
    }

    fn is_storage(&self) -> bool {
        true
    }

    fn slow_sync(&self) -> Option<Result<OwnedFd>> {
        Some(::host::fs::dup(self.fd.as_fd()))
    }

    fn sync(&self, data_only: bool) -> Result {
        ::host::fs::sync(self.fd.as_fd(), data_only)
    }

    fn mmap(&self, _writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        f(Backing::Host(self.fd.as_fd()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub struct HostDir {
    fd: OwnedFd,
    inode: Rc<HostInode>,
    ino: u64,
    /// As it was when reading began.
    entries: RefCell<Option<Vec<(Vec<u8>, u64, u8)>>>,
}

impl HostDir {
    pub fn new(fd: OwnedFd, inode: Rc<HostInode>, ino: u64) -> HostDir {
        HostDir { fd, inode, ino, entries: RefCell::new(None) }
    }
}

impl FileOps for HostDir {
    fn readdir(&self, _file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        let mut entries = self.entries.borrow_mut();
        if from == 0 || entries.is_none() {
            *entries = Some(::host::fs::entries(self.fd.as_fd())?);
        }
        let parent = self.inode.place.borrow().as_ref().map_or(self.ino, |(d, _)| d.attr().map_or(self.ino, |a| a.ino));
        crate::emit_entries(self.ino, parent, entries.as_deref().unwrap_or(&[]), from, emit);
        Ok(())
    }

    fn sync(&self, data_only: bool) -> Result {
        ::host::fs::sync(self.fd.as_fd(), data_only)
    }

    fn size(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
