//! The names of message queues as a file system, which is usually mounted on /dev/mqueue.
use super::{Asker, Queue, QueueFile, Queues, now};
use abi::{Errno, Result, c};
use kernel::cred::Cred;
use std::any::Any;
use std::rc::Rc;
use vfs::{Attr, DirEntry, FileOps, Inode, New, OpenFile, SetAttr, StatFs};

const MAGIC: i64 = 0x1980_0202;
/// The size every queue's file has.
pub(super) const SHOWN_SIZE: u64 = 80;

impl Inode for Queue {
    fn attr(&self) -> Result<Attr> {
        Ok(self.attr.get())
    }
    fn set_attr(&self, s: &SetAttr) -> Result {
        self.attr.set(changed(self.attr.get(), s));
        Ok(())
    }
    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        Ok(Rc::new(QueueFile(self.me.upgrade().ok_or(Errno::ENOENT)?)))
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A queue's size stays what it is, whatever it is truncated to.
fn changed(a: Attr, s: &SetAttr) -> Attr {
    Attr {
        mode: s.mode.map_or(a.mode, |m| a.mode & c::S_IFMT | m & 0o7777),
        uid: s.uid.unwrap_or(a.uid),
        gid: s.gid.unwrap_or(a.gid),
        atime: s.atime.unwrap_or(a.atime),
        mtime: s.mtime.unwrap_or(a.mtime),
        ctime: now(),
        ..a
    }
}

struct Root(std::rc::Weak<Queues>);

impl Root {
    fn queues(&self) -> Result<Rc<Queues>> {
        self.0.upgrade().ok_or(Errno::ENOENT)
    }
}

pub(super) fn root(queues: &Rc<Queues>) -> Rc<dyn Inode> {
    Rc::new(Root(Rc::downgrade(queues)))
}

/// The directory, to be mounted. `dev`: its device number.
pub fn mount(dev: u64, queues: &Rc<Queues>) -> Rc<dyn Inode> {
    queues.dev.set(dev);
    queues.root.set(Attr { dev, ..queues.root.get() });
    root(queues)
}

impl Inode for Root {
    fn attr(&self) -> Result<Attr> {
        Ok(self.queues()?.root.get())
    }
    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        self.queues()?.get(name).map(|q| q as Rc<dyn Inode>).ok_or(Errno::ENOENT)
    }
    /// As creat(2) on Linux: with the default attributes. The limit on bytes is the first process's.
    fn create(&self, name: &[u8], new: New, _rdev: u64) -> Result<Rc<dyn Inode>> {
        if new.mode & c::S_IFMT != c::S_IFREG {
            return Err(Errno::EPERM);
        }
        const BYTES_MAX: u64 = 819_200;
        let by = Asker { cred: &Cred::new(new.uid, new.gid, &[]), bytes_max: BYTES_MAX };
        self.queues()?.create(name, new, None, &by).map(|q| q as Rc<dyn Inode>)
    }
    fn unlink(&self, name: &[u8]) -> Result {
        self.queues()?.unlink(name)
    }
    fn set_attr(&self, s: &SetAttr) -> Result {
        let q = self.queues()?;
        q.root.set(changed(q.root.get(), s));
        Ok(())
    }
    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        Ok(Rc::new(Listing(self.queues()?)))
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }
    fn cacheable(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Listing(Rc<Queues>);

impl FileOps for Listing {
    fn readdir(&self, _file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        const DIR: u8 = 4;
        const FILE: u8 = 8;
        let dots = [(1, DIR, b".".to_vec()), (1, DIR, b"..".to_vec())];
        let by_name = self.0.by_name.borrow();
        let queues = by_name.iter().map(|(name, q)| (q.attr.get().ino, FILE, name.to_vec()));
        let all: Vec<_> = dots.into_iter().chain(queues).collect();
        drop(by_name);
        for (at, (ino, kind, name)) in all.into_iter().enumerate().skip(from as usize) {
            if !emit(DirEntry { ino, next: at as u64 + 1, kind, name }) {
                break;
            }
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
