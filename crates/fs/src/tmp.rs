//! tmpfs: files in the sentry's memory. Large, sparse or mapped ones move to a nameless file of the host's tmpfs.
mod data;
mod file;
mod inline;
mod memfd;

use abi::{Errno, Result, c};
pub use data::set_store;
use data::{Data, PAGE, SEAL_EXEC};
use file::{TmpDir, TmpFile};
pub use memfd::memfd;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use vfs::{APPEND, Attr, FileOps, IMMUTABLE, Inode, New, OpenFile, SetAttr, StatFs};

const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
/// Flags a file may have, as Linux's tmpfs, and those that what is made in a directory has from it.
const FLAGS: u32 = IMMUTABLE | APPEND | NODUMP | NOATIME;
const INHERITED: u32 = NODUMP | NOATIME;

/// After so many nanoseconds a file that is read has been read anew, even if nothing changed.
const DAY: i64 = 86_400_000_000_000;
const MAGIC: i64 = 0x0102_1994;

/// One instance.
pub struct TmpFs {
    dev: u64,
    next: Cell<u64>,
    bytes: Cell<u64>,
    /// Bytes all files together may have.
    limit: Cell<u64>,
    inodes: Cell<u64>,
    inodes_max: Cell<u64>,
}

impl TmpFs {
    fn new(dev: u64, limit: u64, inodes_max: u64) -> Rc<TmpFs> {
        let (next, bytes, inodes) = (Cell::new(1), Cell::new(0), Cell::new(0));
        Rc::new(TmpFs { dev, next, bytes, limit: Cell::new(limit), inodes, inodes_max: Cell::new(inodes_max) })
    }

    fn limit(&self) -> u64 {
        self.limit.get()
    }

    /// Bytes that are left, in whole pages.
    fn room(&self) -> u64 {
        self.limit.get().saturating_sub(self.bytes.get()) & !(PAGE - 1)
    }

    /// One file has `new` bytes instead of `old`. ENOSPC beyond the limit.
    fn charge(&self, old: u64, new: u64) -> Result {
        if new > old && new - old > self.room() {
            return Err(Errno::ENOSPC);
        }
        self.recharge(old, new);
        Ok(())
    }

    fn recharge(&self, old: u64, new: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(old).saturating_add(new));
    }

    fn may_add_inode(&self) -> Result {
        if self.inodes.get() < self.inodes_max.get() { Ok(()) } else { Err(Errno::ENOSPC) }
    }
}

struct Entry {
    cookie: u64,
    inode: Rc<TmpInode>,
}

#[derive(Default)]
struct Entries {
    by_name: HashMap<Box<[u8]>, Entry>,
    order: BTreeMap<u64, Box<[u8]>>,
    next: u64,
}

enum Body {
    File(Rc<Data>),
    Dir(RefCell<Entries>, RefCell<Weak<TmpInode>>),
    Link(Vec<u8>),
    Special,
}

pub struct TmpInode {
    fs: Rc<TmpFs>,
    attr: Cell<Attr>,
    /// ioctl_iflags(2); its open files see them, too.
    flags: Rc<Cell<u32>>,
    body: Body,
    xattrs: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Without a name, but link(2) may give it one (O_TMPFILE).
    linkable: Cell<bool>,
    this: RefCell<Weak<TmpInode>>,
}

/// A fresh file system, its root owned by root with these permission bits. `limit`: bytes; `inodes_max`: files.
pub fn mount(dev: u64, mode: u32, limit: u64, inodes_max: u64) -> Rc<dyn Inode> {
    let fs = TmpFs::new(dev, limit, inodes_max);
    let root = TmpInode::new(&fs, New { mode: c::S_IFDIR | mode, uid: 0, gid: 0 }, 0, dir_body());
    root.bump(|a| a.nlink = 2);
    root
}

/// How mount(2) makes one.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of the root: permission bits and owner.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// u64::MAX: no limit.
    pub bytes: u64,
    pub inodes: u64,
    pub said: Said,
}

/// Which options were given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    pub size: bool,
    pub inodes: bool,
}

pub fn mount_with(dev: u64, o: &Options) -> Rc<dyn Inode> {
    let root = mount(dev, o.mode, o.bytes, o.inodes);
    if let Some(i) = root.as_any().downcast_ref::<TmpInode>() {
        i.bump(|a| (a.uid, a.gid) = (o.uid, o.gid));
    }
    root
}

/// The options of the file system whose root this is, if it is one of these.
pub fn options(root: &Rc<dyn Inode>) -> Option<Options> {
    let i = root.as_any().downcast_ref::<TmpInode>()?;
    let a = i.attr.get();
    let (bytes, inodes) = (i.fs.limit.get(), i.fs.inodes_max.get());
    Some(Options { mode: a.mode & 0o7777, uid: a.uid, gid: a.gid, bytes, inodes, said: Said::default() })
}

/// Gives it the limits that were said. Otherwise what is wrong with them, in Linux's words.
pub fn change(root: &Rc<dyn Inode>, o: &Options) -> std::result::Result<(), &'static str> {
    let i = root.as_any().downcast_ref::<TmpInode>().ok_or("Not this file system's")?;
    let limits = |now: u64, wanted: u64, used: u64, late, few| match () {
        _ if wanted == u64::MAX || wanted == now => Ok(()),
        _ if now == u64::MAX => Err(late),
        _ if used > wanted => Err(few),
        _ => Ok(()),
    };
    let fs = &i.fs;
    let (late, small) = ("Cannot retroactively limit size", "Too small a size for current use");
    limits(fs.limit.get(), o.bytes, fs.bytes.get(), late, small)?;
    let (late, few) = ("Cannot retroactively limit inodes", "Too few inodes for current use");
    limits(fs.inodes_max.get(), o.inodes, fs.inodes.get(), late, few)?;
    fs.limit.set(o.bytes);
    fs.inodes_max.set(o.inodes);
    Ok(())
}

/// A file with these contents, alone in a file system of its own: root's, and for everyone to read.
pub fn text(dev: u64, contents: &[u8]) -> Result<Rc<dyn Inode>> {
    let root = mount(dev, 0o755, 1 << 20, 2);
    let inode = root.create(b"text", New { mode: c::S_IFREG | 0o644, uid: 0, gid: 0 }, 0)?;
    let file = OpenFile::new(inode.open(c::O_WRONLY)?, c::O_WRONLY, None);
    file.ops().write(&file, &mut guest::io::SliceSource(contents), 0)?;
    Ok(inode)
}

fn dir_body() -> Body {
    Body::Dir(RefCell::default(), RefCell::default())
}

impl TmpInode {
    fn new(fs: &Rc<TmpFs>, new: New, rdev: u64, body: Body) -> Rc<TmpInode> {
        let now = crate::now();
        fs.inodes.set(fs.inodes.get() + 1);
        let ino = fs.next.replace(fs.next.get() + 1);
        let attr = Attr {
            dev: fs.dev,
            ino,
            mode: new.mode,
            nlink: 1,
            uid: new.uid,
            gid: new.gid,
            rdev,
            blksize: 4096,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Attr::default()
        };
        let i = Rc::new(TmpInode {
            fs: fs.clone(),
            attr: Cell::new(attr),
            flags: Rc::default(),
            body,
            xattrs: RefCell::default(),
            linkable: Cell::new(false),
            this: RefCell::default(),
        });
        *i.this.borrow_mut() = Rc::downgrade(&i);
        i
    }

    fn bump(&self, f: impl FnOnce(&mut Attr)) {
        let mut a = self.attr.get();
        f(&mut a);
        self.attr.set(a);
        if let Body::File(d) = &self.body {
            d.changed();
        }
    }

    /// A directory was read through that description.
    fn listed_by(&self, file: &OpenFile) {
        let (mut a, now) = (self.attr.get(), crate::now());
        let stale = a.atime <= a.mtime.max(a.ctime) || a.atime < now - DAY;
        if self.flags.get() & NOATIME == 0 && file.moves_atime(true, stale) {
            a.atime = now;
            self.attr.set(a);
        }
    }

    fn touched(&self) {
        let now = crate::now();
        self.bump(|a| {
            a.mtime = now;
            a.ctime = now;
        });
    }

    fn dir(&self) -> Result<&RefCell<Entries>> {
        match &self.body {
            Body::Dir(e, _) => Ok(e),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn add(&self, name: &[u8], inode: Rc<TmpInode>) -> Result {
        let mut e = self.dir()?.borrow_mut();
        if e.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if let Body::Dir(_, parent) = &inode.body {
            *parent.borrow_mut() = self.this.borrow().clone();
            self.bump(|a| a.nlink += 1);
        }
        e.next += 1;
        let cookie = e.next;
        e.order.insert(cookie, name.into());
        e.by_name.insert(name.into(), Entry { cookie, inode });
        drop(e);
        self.touched();
        Ok(())
    }

    fn take(&self, name: &[u8]) -> Result<Rc<TmpInode>> {
        let mut e = self.dir()?.borrow_mut();
        let old = e.by_name.remove(name).ok_or(Errno::ENOENT)?;
        e.order.remove(&old.cookie);
        drop(e);
        if matches!(old.inode.body, Body::Dir(..)) {
            self.bump(|a| a.nlink -= 1);
        }
        self.touched();
        Ok(old.inode)
    }

    fn get(&self, name: &[u8]) -> Result<Rc<TmpInode>> {
        self.dir()?.borrow().by_name.get(name).map(|e| e.inode.clone()).ok_or(Errno::ENOENT)
    }

    fn is_empty_dir(&self) -> Result<bool> {
        Ok(self.dir()?.borrow().by_name.is_empty())
    }

    fn unlinked(&self) {
        let now = crate::now();
        self.bump(|a| {
            a.nlink = if a.is_dir() { 0 } else { a.nlink.saturating_sub(1) };
            a.ctime = now;
        });
    }

    fn make(&self, name: &[u8], new: New, rdev: u64, body: Body) -> Result<Rc<dyn Inode>> {
        self.fs.may_add_inode()?;
        let i = TmpInode::new(&self.fs, new, rdev, body);
        if new.mode & c::S_IFMT == c::S_IFDIR {
            i.bump(|a| a.nlink = 2);
        }
        i.flags.set(self.flags.get() & INHERITED);
        self.add(name, i.clone())?;
        Ok(i)
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        self.fs.inodes.set(self.fs.inodes.get() - 1);
    }
}

impl Inode for TmpInode {
    fn attr(&self) -> Result<Attr> {
        let mut a = self.attr.get();
        match &self.body {
            Body::File(d) => {
                a.size = d.size();
                a.blocks = d.charged().div_ceil(512);
                a.atime = d.accessed().unwrap_or(a.atime);
                if let Some(t) = d.modified() {
                    (a.mtime, a.ctime) = (a.mtime.max(t), a.ctime.max(t));
                }
            }
            Body::Link(t) => a.size = t.len() as u64,
            Body::Dir(e, _) => a.size = 40 + 20 * e.borrow().by_name.len() as u64,
            Body::Special => {}
        }
        if matches!(self.body, Body::File(_) | Body::Dir(..)) {
            a.flags = Some(self.flags.get());
        }
        Ok(a)
    }

    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        Ok(self.get(name)?)
    }

    fn create(&self, name: &[u8], new: New, rdev: u64) -> Result<Rc<dyn Inode>> {
        let body = match new.mode & c::S_IFMT {
            c::S_IFREG => Body::File(Data::new(self.fs.clone(), c::F_SEAL_SEAL)),
            _ => Body::Special,
        };
        self.make(name, new, rdev, body)
    }

    fn tmpfile(&self, new: New, linkable: bool) -> Result<Rc<dyn Inode>> {
        self.dir()?;
        self.fs.may_add_inode()?;
        let i = TmpInode::new(&self.fs, new, 0, Body::File(Data::new(self.fs.clone(), c::F_SEAL_SEAL)));
        i.bump(|a| a.nlink = 0);
        i.flags.set(self.flags.get() & INHERITED);
        i.linkable.set(linkable);
        Ok(i)
    }

    fn mkdir(&self, name: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        self.make(name, new, 0, dir_body())
    }

    fn symlink(&self, name: &[u8], target: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        self.make(name, new, 0, Body::Link(target.to_vec()))
    }

    fn link(&self, name: &[u8], to: &Rc<dyn Inode>) -> Result {
        let to = to.as_any().downcast_ref::<TmpInode>().ok_or(Errno::EXDEV)?;
        if to.attr.get().nlink == 0 && !to.linkable.get() {
            return Err(Errno::ENOENT);
        }
        self.add(name, to.this.borrow().upgrade().ok_or(Errno::ENOENT)?)?;
        to.linkable.set(false);
        let now = crate::now();
        to.bump(|a| {
            a.nlink += 1;
            a.ctime = now;
        });
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result {
        if matches!(self.get(name)?.body, Body::Dir(..)) {
            return Err(Errno::EISDIR);
        }
        self.take(name)?.unlinked();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result {
        if !self.get(name)?.is_empty_dir()? {
            return Err(Errno::ENOTEMPTY);
        }
        self.take(name)?.unlinked();
        Ok(())
    }

    fn rename(&self, name: &[u8], to: &Rc<dyn Inode>, new_name: &[u8], flags: u32) -> Result {
        let to = to.as_any().downcast_ref::<TmpInode>().ok_or(Errno::EXDEV)?;
        let moving = self.get(name)?;
        let there = to.get(new_name).ok();
        if flags & c::RENAME_EXCHANGE != 0 {
            let other = there.ok_or(Errno::ENOENT)?;
            self.take(name)?;
            to.take(new_name)?;
            to.add(new_name, moving)?;
            return self.add(name, other);
        }
        if let Some(old) = there {
            if matches!(old.body, Body::Dir(..)) && !old.is_empty_dir()? {
                return Err(Errno::ENOTEMPTY);
            }
            to.take(new_name)?.unlinked();
        }
        if flags & c::RENAME_WHITEOUT != 0 {
            self.fs.may_add_inode()?;
        }
        self.take(name)?;
        to.add(new_name, moving.clone())?;
        let now = crate::now();
        moving.bump(|a| a.ctime = now);
        if flags & c::RENAME_WHITEOUT != 0 {
            let white = New { mode: c::S_IFCHR, uid: moving.attr.get().uid, gid: moving.attr.get().gid };
            self.make(name, white, 0, Body::Special)?;
        }
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Link(t) => Ok(t.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn set_attr(&self, s: &SetAttr) -> Result {
        if let (Some(m), Body::File(d)) = (s.mode, &self.body)
            && d.seals() & SEAL_EXEC != 0
            && (m ^ self.attr.get().mode) & 0o111 != 0
        {
            return Err(Errno::EPERM);
        }
        if let Some(flags) = s.flags {
            if flags & !FLAGS != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            self.flags.set(flags);
        }
        if let (Some(len), Body::File(d)) = (s.size, &self.body) {
            d.truncate(len)?;
        }
        let now = crate::now();
        self.bump(|a| {
            if let Some(m) = s.mode {
                a.mode = (a.mode & c::S_IFMT) | (m & 0o7777);
            }
            a.uid = s.uid.unwrap_or(a.uid);
            a.gid = s.gid.unwrap_or(a.gid);
            a.atime = s.atime.unwrap_or(a.atime);
            a.mtime = s.mtime.unwrap_or(a.mtime);
            a.ctime = now;
        });
        if let Body::File(d) = &self.body {
            s.mtime.inspect(|_| d.forget_modified());
            s.atime.inspect(|_| d.forget_accessed());
        }
        Ok(())
    }

    fn xattr_get(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattrs.borrow().get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn xattr_set(&self, name: &[u8], value: &[u8], flags: i32) -> Result {
        let mut x = self.xattrs.borrow_mut();
        let there = x.contains_key(name);
        if there && flags & c::XATTR_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if !there && flags & c::XATTR_REPLACE != 0 {
            return Err(Errno::ENODATA);
        }
        if !there && x.len() >= 128 {
            return Err(Errno::ENOSPC);
        }
        x.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    fn xattr_remove(&self, name: &[u8]) -> Result {
        self.xattrs.borrow_mut().remove(name).map(|_| ()).ok_or(Errno::ENODATA)
    }

    fn xattr_list(&self) -> Result<Vec<u8>> {
        Ok(self.xattrs.borrow().keys().flat_map(|k| k.iter().copied().chain([0])).collect())
    }

    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        match &self.body {
            Body::File(d) => {
                if d.accessed().unwrap_or(self.attr.get().atime) < crate::now() - DAY {
                    d.changed();
                }
                Ok(Rc::new(TmpFile(d.clone(), self.flags.clone())))
            }
            Body::Dir(..) => Ok(Rc::new(TmpDir(self.this.borrow().upgrade().ok_or(Errno::ENOENT)?))),
            Body::Special if self.attr.get().kind() == c::S_IFCHR => crate::dev::open(self.attr.get().rdev),
            _ => Err(Errno::ENXIO),
        }
    }

    fn statfs(&self) -> Result<StatFs> {
        // As Linux's, no limit shows as no size.
        let limited = |n: u64| if n == u64::MAX { 0 } else { n };
        let free = limited(self.fs.limit.get()).saturating_sub(self.fs.bytes.get()) / PAGE;
        Ok(StatFs {
            magic: MAGIC,
            bsize: PAGE as i64,
            blocks: limited(self.fs.limit.get()) / PAGE,
            bfree: free,
            bavail: free,
            files: limited(self.fs.inodes_max.get()),
            ffree: limited(self.fs.inodes_max.get()).saturating_sub(self.fs.inodes.get()),
            namelen: 255,
            flags: 0,
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
