//! The bytes of a tmpfs file, and its open files.
use super::{Body, TmpFs, TmpInode};
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use vfs::{Backing, DirEntry, FileOps, OpenFile};

/// Up to here a file is a vector; beyond, a file of the host's that is nowhere else, which can be sparse and mapped.
const INLINE_MAX: u64 = 1 << 20;

enum Bytes {
    Inline(Vec<u8>),
    Host(Stored, u64),
}

struct Stored {
    fd: OwnedFd,
    /// For guests that may not write: their stub maps with what it is given, and could be made to write.
    read_only: OwnedFd,
}

impl AsFd for Stored {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

thread_local! {
    static STORE: OnceCell<OwnedFd> = const { OnceCell::new() };
}

/// The directory in memory, ours alone, where the bytes of large and mapped files go.
pub fn set_store(dir: OwnedFd) {
    STORE.with(|s| s.set(dir).expect("set once"));
}

pub struct Data {
    fs: Rc<TmpFs>,
    bytes: RefCell<Bytes>,
    modified: Cell<Option<i64>>,
}

impl Data {
    pub fn new(fs: Rc<TmpFs>) -> Rc<Data> {
        Rc::new(Data { fs, bytes: RefCell::new(Bytes::Inline(Vec::new())), modified: Cell::new(None) })
    }

    pub fn size(&self) -> u64 {
        match &*self.bytes.borrow() {
            Bytes::Inline(v) => v.len() as u64,
            Bytes::Host(_, len) => *len,
        }
    }

    /// Bytes counted against the file system.
    pub fn charged(&self) -> u64 {
        match &*self.bytes.borrow() {
            Bytes::Inline(v) => v.len() as u64,
            Bytes::Host(fd, _) => ::host::fs::stat(fd.as_fd(), b"").map_or(0, |s| s.blocks * 512),
        }
    }

    pub fn modified(&self) -> Option<i64> {
        self.modified.get()
    }

    pub fn forget_modified(&self) {
        self.modified.set(None);
    }

    fn store(&self) -> Result {
        let mut b = self.bytes.borrow_mut();
        if let Bytes::Inline(v) = &*b {
            let (fd, read_only) = STORE.with(|s| ::host::fs::nameless(s.get().ok_or(Errno::ENOSPC)?.as_fd()))?;
            let mut at = 0;
            while at < v.len() {
                at += ::host::file::write(fd.as_fd(), &v[at..], Some(at as u64))?;
            }
            let len = v.len() as u64;
            *b = Bytes::Host(Stored { fd, read_only }, len);
        }
        Ok(())
    }

    pub fn truncate(&self, len: u64) -> Result {
        if len > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let old = self.size();
        if len > INLINE_MAX {
            self.store()?;
        }
        self.modified.set(Some(crate::now()));
        match &mut *self.bytes.borrow_mut() {
            Bytes::Inline(v) => {
                self.fs.charge(old, len)?;
                v.resize(len as usize, 0);
            }
            Bytes::Host(fd, size) => {
                ::host::fs::ftruncate(fd.as_fd(), len)?;
                *size = len;
            }
        }
        Ok(())
    }

    fn read(&self, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        match &*self.bytes.borrow() {
            Bytes::Inline(v) => match v.get(offset.min(v.len() as u64) as usize..) {
                Some(rest) if !rest.is_empty() => dst.put(&rest[..rest.len().min(dst.remaining())]),
                _ => Ok(0),
            },
            Bytes::Host(fd, _) => {
                let mut done = 0;
                while dst.remaining() > 0 {
                    let want = dst.remaining();
                    match dst.put_from(fd.as_fd(), Some(offset + done as u64), want)? {
                        0 => break,
                        n => done += n,
                    }
                }
                Ok(done)
            }
        }
    }

    fn write(&self, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let want = src.remaining();
        let end = offset.checked_add(want as u64).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if end > INLINE_MAX {
            self.store()?;
        }
        self.modified.set(Some(crate::now()));
        match &mut *self.bytes.borrow_mut() {
            Bytes::Inline(v) => {
                let old = v.len();
                if end as usize > old {
                    self.fs.charge(old as u64, end)?;
                    v.resize(end as usize, 0);
                }
                let mut done = 0;
                while src.remaining() > 0 {
                    let at = offset as usize + done;
                    match src.take(&mut v[at..end as usize]) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(e) => {
                            v.truncate(old.max(offset as usize + done));
                            return if done > 0 { Ok(done) } else { Err(e) };
                        }
                    }
                }
                Ok(done)
            }
            Bytes::Host(fd, size) => {
                let mut done = 0;
                while src.remaining() > 0 {
                    let left = src.remaining();
                    let room = self.fs.limit.saturating_sub(self.fs.bytes.get());
                    if room < left as u64 {
                        return if done > 0 { Ok(done) } else { Err(Errno::ENOSPC) };
                    }
                    match src.take_into(fd.as_fd(), Some(offset + done as u64), left) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(e) if done == 0 => return Err(e),
                        Err(_) => break,
                    }
                    *size = (*size).max(offset + done as u64);
                }
                Ok(done)
            }
        }
    }
}

pub struct TmpFile(pub Rc<Data>);

impl FileOps for TmpFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        self.0.read(dst, offset)
    }
    fn write(&self, file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let at = if file.flags() & c::O_APPEND != 0 { self.0.size() } else { offset };
        self.0.write(src, at)
    }
    fn size(&self) -> Result<u64> {
        Ok(self.0.size())
    }
    fn truncate(&self, len: u64) -> Result {
        self.0.truncate(len)
    }
    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result {
        let end = offset.checked_add(len).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if mode & !c::FALLOC_FL_KEEP_SIZE != 0 {
            self.0.store()?;
            if let Bytes::Host(fd, size) = &mut *self.0.bytes.borrow_mut() {
                ::host::fs::fallocate(fd.as_fd(), mode, offset, len)?;
                *size = ::host::fs::stat(fd.as_fd(), b"")?.size;
            }
            return Ok(());
        }
        if mode & c::FALLOC_FL_KEEP_SIZE == 0 && end > self.0.size() {
            self.0.truncate(end)?;
        }
        Ok(())
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn mmap(&self, writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        self.0.store()?;
        match &*self.0.bytes.borrow() {
            Bytes::Host(stored, _) if writable_shared => f(Backing::Host(stored.as_fd())),
            Bytes::Host(stored, _) => f(Backing::Host(stored.read_only.as_fd())),
            Bytes::Inline(_) => Err(Errno::ENODEV),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub struct TmpDir(pub Rc<TmpInode>);

impl FileOps for TmpDir {
    fn readdir(&self, _file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        let Body::Dir(entries, parent) = &self.0.body else { return Err(Errno::ENOTDIR) };
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
