//! A host directory (or a single file), below a donated O_PATH descriptor.
mod file;

pub use known::set_host_version;

use abi::{Errno, Result, c};
use file::{HostDir, HostFile};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use vfs::{Attr, FileOps, Inode, New, SetAttr, StatFs};

mod known;

/// Inodes whose descriptors are kept open at once.
const OPEN_MAX: usize = 1024;

/// One donated root.
pub struct HostFs {
    /// Nobody else changes it: what was seen stays true until we change it.
    pub exclusive: bool,
    pub read_only: bool,
    /// Owners cannot be kept on the host.
    pub single_id: bool,
    open: RefCell<VecDeque<Weak<HostInode>>>,
}

/// A file by its name in a directory. The descriptor is opened when needed.
pub struct HostInode {
    fs: Rc<HostFs>,
    /// `None` for the donated root itself, and for a file that never had a name.
    place: RefCell<Option<(Rc<HostInode>, Box<[u8]>)>>,
    fd: RefCell<Option<Rc<OwnedFd>>>,
    /// A descriptor of the file open for reading, for the next open(2): it has no offset that matters.
    readable: RefCell<Option<Rc<OwnedFd>>>,
    /// Of a file that is open now, to ask by.
    opened: RefCell<Weak<OwnedFd>>,
    /// In the list of those whose descriptors are kept.
    listed: Cell<bool>,
    known: known::Known,
    children: RefCell<HashMap<Box<[u8]>, Weak<HostInode>>>,
    seen: Cell<Option<(u64, Attr)>>,
    /// What never changes: the type, 0 while unknown, and the time of birth.
    kind: Cell<u32>,
    btime: Cell<i64>,
    /// Its name is gone; only the descriptor still finds it.
    unlinked: Cell<bool>,
    /// The descriptor that creating it gave, for the open(2) that comes with it.
    fresh: RefCell<Option<Rc<OwnedFd>>>,
    this: RefCell<Weak<HostInode>>,
}

/// EOPNOTSUPP: an attribute that needs privilege at the host, and is the host's to make or read.
fn at_host(name: &[u8]) -> Result {
    let privileged = name.starts_with(b"trusted.") || name.starts_with(b"security.");
    if privileged && name != b"security.capability" { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

/// The file system of a donated descriptor.
pub fn mount(fd: OwnedFd, read_only: bool, exclusive: bool, single_id: bool) -> Rc<dyn Inode> {
    let fs = Rc::new(HostFs { exclusive, read_only, single_id, open: RefCell::default() });
    HostInode::new(fs, None, Some(Rc::new(fd)))
}

impl HostInode {
    fn new(fs: Rc<HostFs>, place: Option<(Rc<HostInode>, Box<[u8]>)>, fd: Option<Rc<OwnedFd>>) -> Rc<HostInode> {
        let i = Rc::new(HostInode {
            fs,
            place: RefCell::new(place),
            fd: RefCell::new(fd),
            readable: RefCell::default(),
            opened: RefCell::default(),
            listed: Cell::new(false),
            known: known::Known::default(),
            children: RefCell::default(),
            seen: Cell::new(None),
            kind: Cell::new(0),
            btime: Cell::new(0),
            unlinked: Cell::new(false),
            fresh: RefCell::new(None),
            this: RefCell::default(),
        });
        *i.this.borrow_mut() = Rc::downgrade(&i);
        i
    }

    /// An O_PATH descriptor of this file.
    fn fd(&self) -> Result<Rc<OwnedFd>> {
        if let Some(fd) = &*self.fd.borrow() {
            return Ok(fd.clone());
        }
        let (dir, name) = self.place.borrow().clone().ok_or(Errno::ENOENT)?;
        let fd = Rc::new(::host::fs::open(dir.fd()?.as_fd(), &name, c::O_PATH, 0)?);
        *self.fd.borrow_mut() = Some(fd.clone());
        self.keep();
        Ok(fd)
    }

    /// Lists the inode as one with descriptors; the one listed longest gives its own up.
    fn keep(&self) {
        if self.listed.replace(true) {
            return;
        }
        let mut open = self.fs.open.borrow_mut();
        open.push_back(self.this.borrow().clone());
        if open.len() > OPEN_MAX
            && let Some(old) = open.pop_front().and_then(|w| w.upgrade())
        {
            old.listed.set(false);
            old.readable.borrow_mut().take();
            if old.place.borrow().is_some() && !old.unlinked.get() {
                old.fd.borrow_mut().take();
            }
        }
    }

    /// Opens it for real.
    fn reopen(&self, flags: i32) -> Result<OwnedFd> {
        match &*self.place.borrow() {
            Some((dir, name)) => ::host::fs::open(dir.fd()?.as_fd(), name, flags, 0),
            None if self.look()?.is_dir() => ::host::fs::open(self.fd()?.as_fd(), b".", flags, 0),
            // A donated file comes open; what is read and written names its offset.
            None => ::host::fs::dup(self.fd()?.as_fd()),
        }
    }

    fn stat(&self) -> Result<::host::fs::Stat> {
        let fd = self.fd.borrow().clone().or_else(|| self.opened.borrow().upgrade());
        if let Some(fd) = fd {
            if self.kind.get() == 0 {
                return ::host::fs::stat(fd.as_fd(), b"");
            }
            return ::host::fs::fstat(fd.as_fd(), self.btime.get());
        }
        let (dir, name) = self.place.borrow().clone().ok_or(Errno::ENOENT)?;
        ::host::fs::stat(dir.fd()?.as_fd(), &name)
    }

    fn look(&self) -> Result<Attr> {
        if let Some((epoch, a)) = self.seen.get()
            && (self.fs.exclusive || epoch == vfs::epoch())
        {
            return Ok(a);
        }
        let a = attr(self.stat()?);
        self.see(a);
        Ok(a)
    }

    fn see(&self, a: Attr) {
        self.seen.set(Some((vfs::epoch(), a)));
        self.kind.set(a.kind());
        self.btime.set(a.btime);
    }

    pub(crate) fn changed(&self) {
        self.seen.set(None);
    }

    /// The child of that name, the same object as long as somebody holds it.
    fn child(&self, name: &[u8], a: Attr) -> Rc<HostInode> {
        let known = self.children.borrow().get(name).and_then(Weak::upgrade);
        if let Some(k) = known
            && k.seen.get().is_none_or(|(_, was)| (was.dev, was.ino) == (a.dev, a.ino))
        {
            k.see(a);
            k.known.found(&k, &a);
            return k;
        }
        let me = self.this.borrow().upgrade().expect("called through an Rc");
        let i = HostInode::new(self.fs.clone(), Some((me, name.into())), None);
        i.see(a);
        let mut children = self.children.borrow_mut();
        if children.len() >= 4096 {
            children.retain(|_, w| w.strong_count() > 0);
        }
        children.insert(name.into(), Rc::downgrade(&i));
        i
    }

    /// Gives what was just made its owner, and finds it.
    fn made(&self, name: &[u8], new: New) -> Result<Rc<HostInode>> {
        self.changed();
        // The host made it ours, id 0 and group 0; whoever else it should belong to is told to it.
        if !self.fs.single_id && (new.uid, new.gid) != (0, 0) {
            let dir = self.fd()?;
            ::host::fs::chown(dir.as_fd(), name, Some(new.uid), Some(new.gid))?;
            if new.mode & 0o6000 != 0 && new.mode & c::S_IFMT != c::S_IFLNK {
                ::host::fs::chmod(dir.as_fd(), name, new.mode & 0o7777)?;
            }
        }
        let me = self.this.borrow().upgrade().ok_or(Errno::ENOENT)?;
        let i = HostInode::new(self.fs.clone(), Some((me, name.into())), None);
        self.children.borrow_mut().insert(name.into(), Rc::downgrade(&i));
        Ok(i)
    }

    /// The child `name` is about to lose it. Whoever still has it open must find it afterwards: by a descriptor.
    fn losing(&self, name: &[u8]) {
        let Some(v) = self.children.borrow().get(name).and_then(Weak::upgrade) else { return };
        v.changed();
        v.readable.borrow_mut().take();
        v.known.forget();
        // One count is ours, one the dentry's.
        if Rc::strong_count(&v) > 2 && v.fd().is_ok() {
            v.unlinked.set(true);
        }
    }

    fn sibling<'a>(&self, to: &'a Rc<dyn Inode>) -> Result<&'a HostInode> {
        let to = to.as_any().downcast_ref::<HostInode>().ok_or(Errno::EXDEV)?;
        if Rc::ptr_eq(&to.fs, &self.fs) { Ok(to) } else { Err(Errno::EXDEV) }
    }

    /// A descriptor that xattr calls take: not O_PATH.
    fn real(&self) -> Result<OwnedFd> {
        let a = self.look()?;
        if !a.is_file() && !a.is_dir() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.reopen(c::O_RDONLY | c::O_NONBLOCK)
    }
}

fn attr(s: ::host::fs::Stat) -> Attr {
    Attr {
        dev: s.dev,
        ino: s.ino,
        mode: s.mode,
        nlink: s.nlink,
        uid: s.uid,
        gid: s.gid,
        rdev: s.rdev,
        size: s.size,
        blksize: s.blksize,
        blocks: s.blocks,
        atime: s.atime,
        mtime: s.mtime,
        ctime: s.ctime,
        btime: s.btime,
        flags: None,
    }
}

impl Inode for HostInode {
    fn attr(&self) -> Result<Attr> {
        self.look()
    }

    fn kind(&self) -> Result<u32> {
        match self.kind.get() {
            0 => Ok(self.look()?.kind()),
            k => Ok(k),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        let there = self.children.borrow().get(name).and_then(Weak::upgrade);
        if let Some(k) = there
            && k.known.still_there(&k)
        {
            return Ok(k);
        }
        let s = ::host::fs::stat(self.fd()?.as_fd(), name)?;
        Ok(self.child(name, attr(s)))
    }

    fn create(&self, name: &[u8], new: New, rdev: u64) -> Result<Rc<dyn Inode>> {
        let dir = self.fd()?;
        if new.mode & c::S_IFMT == c::S_IFREG {
            let flags = c::O_CREAT | c::O_EXCL | c::O_RDWR;
            let fd = ::host::fs::open(dir.as_fd(), name, flags, new.mode & 0o7777)?;
            let made = self.made(name, new)?;
            let fd = Rc::new(fd);
            *made.opened.borrow_mut() = Rc::downgrade(&fd);
            *made.fresh.borrow_mut() = Some(fd);
            return Ok(made);
        }
        if matches!(new.mode & c::S_IFMT, c::S_IFCHR | c::S_IFBLK) {
            // A host's device is nothing a guest may make: the sentry's own filter would end it.
            return Err(Errno::EPERM);
        }
        ::host::fs::mknod(dir.as_fd(), name, new.mode, rdev)?;
        Ok(self.made(name, new)?)
    }

    fn tmpfile(&self, new: New, linkable: bool) -> Result<Rc<dyn Inode>> {
        let flags = c::O_TMPFILE | c::O_RDWR | if linkable { 0 } else { c::O_EXCL };
        let fd = Rc::new(::host::fs::open(self.fd()?.as_fd(), b".", flags, new.mode & 0o7777)?);
        if !self.fs.single_id && (new.uid, new.gid) != (0, 0) {
            ::host::fs::chown(fd.as_fd(), b"", Some(new.uid), Some(new.gid))?;
        }
        let i = HostInode::new(self.fs.clone(), None, Some(fd));
        i.unlinked.set(true);
        Ok(i)
    }

    fn mkdir(&self, name: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        ::host::fs::mkdir(self.fd()?.as_fd(), name, new.mode & 0o7777)?;
        Ok(self.made(name, new)?)
    }

    fn symlink(&self, name: &[u8], target: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        ::host::fs::symlink(self.fd()?.as_fd(), name, target)?;
        Ok(self.made(name, new)?)
    }

    fn link(&self, name: &[u8], to: &Rc<dyn Inode>) -> Result {
        let to = self.sibling(to)?;
        let at = to.place.borrow().clone();
        match at {
            Some((dir, old)) if !to.unlinked.get() => {
                ::host::fs::link(dir.fd()?.as_fd(), &old, self.fd()?.as_fd(), name)?;
            }
            _ => ::host::fs::link(to.fd()?.as_fd(), b"", self.fd()?.as_fd(), name)?,
        }
        self.changed();
        to.changed();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result {
        self.losing(name);
        ::host::fs::unlink(self.fd()?.as_fd(), name)?;
        self.children.borrow_mut().remove(name);
        self.changed();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result {
        ::host::fs::rmdir(self.fd()?.as_fd(), name)?;
        self.children.borrow_mut().remove(name);
        self.changed();
        Ok(())
    }

    fn rename(&self, name: &[u8], to: &Rc<dyn Inode>, new_name: &[u8], flags: u32) -> Result {
        let to = self.sibling(to)?;
        let replaced = to.children.borrow().get(new_name).and_then(Weak::upgrade);
        to.losing(new_name);
        ::host::fs::rename(self.fd()?.as_fd(), name, to.fd()?.as_fd(), new_name, flags)?;
        self.changed();
        to.changed();
        let moved = self.children.borrow_mut().remove(name).and_then(|w| w.upgrade());
        to.children.borrow_mut().remove(new_name);
        if let Some(m) = moved {
            m.changed();
            m.known.forget();
            if let Some(dir) = to.this.borrow().upgrade() {
                *m.place.borrow_mut() = Some((dir, new_name.into()));
                to.children.borrow_mut().insert(new_name.into(), Rc::downgrade(&m));
            }
        }
        if flags & c::RENAME_EXCHANGE != 0
            && let Some(r) = replaced
            && let Some(me) = self.this.borrow().upgrade()
        {
            *r.place.borrow_mut() = Some((me, name.into()));
            self.children.borrow_mut().insert(name.into(), Rc::downgrade(&r));
        }
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if !self.look()?.is_link() {
            return Err(Errno::EINVAL);
        }
        ::host::fs::readlink(self.fd()?.as_fd(), b"")
    }

    fn set_attr(&self, s: &SetAttr) -> Result {
        let at = self.place.borrow().clone();
        let (dir, name) = match &at {
            Some((dir, name)) if !self.unlinked.get() => (dir.fd()?, &name[..]),
            _ => (self.fd()?, &b""[..]),
        };
        if let Some(len) = s.size {
            ::host::fs::ftruncate(self.reopen(c::O_WRONLY)?.as_fd(), len)?;
        }
        if (s.uid.is_some() || s.gid.is_some()) && !self.fs.single_id {
            ::host::fs::chown(dir.as_fd(), name, s.uid, s.gid)?;
        }
        if let Some(mode) = s.mode {
            ::host::fs::chmod(dir.as_fd(), name, mode)?;
        }
        if s.atime.is_some() || s.mtime.is_some() {
            ::host::fs::utimens(dir.as_fd(), name, s.atime, s.mtime)?;
        }
        self.changed();
        Ok(())
    }

    fn xattr_get(&self, name: &[u8]) -> Result<Vec<u8>> {
        at_host(name)?;
        ::host::fs::getxattr(self.real()?.as_fd(), name)
    }
    fn xattr_set(&self, name: &[u8], value: &[u8], flags: i32) -> Result {
        at_host(name)?;
        ::host::fs::setxattr(self.real()?.as_fd(), name, value, flags)
    }
    fn xattr_remove(&self, name: &[u8]) -> Result {
        at_host(name)?;
        ::host::fs::removexattr(self.real()?.as_fd(), name)
    }
    fn xattr_list(&self) -> Result<Vec<u8>> {
        match self.real() {
            Ok(fd) => {
                let all = ::host::fs::listxattr(fd.as_fd())?;
                let ours = |name: &&[u8]| at_host(name.strip_suffix(b"\0").unwrap_or(name)).is_ok();
                Ok(all.split_inclusive(|b| *b == 0).filter(ours).collect::<Vec<_>>().concat())
            }
            Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    fn open(&self, flags: i32) -> Result<Rc<dyn FileOps>> {
        let a = self.look()?;
        let me = self.this.borrow().upgrade().ok_or(Errno::ENOENT)?;
        match a.kind() {
            c::S_IFDIR => {
                let fd = self.reopen(c::O_RDONLY | c::O_DIRECTORY)?;
                Ok(Rc::new(HostDir::new(fd, me, a.ino)))
            }
            c::S_IFREG => {
                if let Some(fd) = self.fresh.take()
                    && flags & c::O_DIRECT == 0
                {
                    return Ok(Rc::new(HostFile::new(fd, me)));
                }
                let shareable = flags & (c::O_ACCMODE | c::O_DIRECT) == c::O_RDONLY && self.place.borrow().is_some();
                if shareable && let Some(fd) = self.readable.borrow().clone() {
                    return Ok(Rc::new(HostFile::new(fd, me)));
                }
                // The kernel checks each access itself, and may need to read what was opened for writing (mmap).
                let access = flags & (c::O_ACCMODE | c::O_DIRECT);
                let access =
                    if access & c::O_ACCMODE == c::O_WRONLY { access & !c::O_ACCMODE | c::O_RDWR } else { access };
                let fd = match self.reopen(access) {
                    Err(Errno::EACCES) => self.reopen(flags & c::O_ACCMODE)?,
                    r => r?,
                };
                let fd = Rc::new(fd);
                if shareable && !self.unlinked.get() {
                    *self.readable.borrow_mut() = Some(fd.clone());
                    self.fd.borrow_mut().get_or_insert_with(|| fd.clone());
                    self.keep();
                }
                Ok(Rc::new(HostFile::new(fd, me)))
            }
            // Devices of the host are not the container's.
            _ => Err(Errno::ENXIO),
        }
    }

    fn statfs(&self) -> Result<StatFs> {
        let [magic, bsize, blocks, bfree, bavail, files, ffree, namelen] = ::host::fs::statfs(self.fd()?.as_fd())?;
        Ok(StatFs {
            magic: magic as i64,
            bsize: bsize as i64,
            blocks,
            bfree,
            bavail,
            files,
            ffree,
            namelen: namelen as i64,
            flags: 0,
        })
    }

    fn cacheable(&self) -> bool {
        self.fs.exclusive
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
