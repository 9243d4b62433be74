//! Inodes: what a file system keeps of a file.
use crate::FileOps;
use abi::{Errno, Result, c};
use std::any::Any;
use std::rc::Rc;

/// What stat(2) and statx(2) tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Nanoseconds since the epoch.
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    /// 0: unknown.
    pub btime: i64,
    /// FS_IMMUTABLE_FL and its kin, ioctl_iflags(2). `None`: the file system keeps none.
    pub flags: Option<u32>,
}

/// Flags of [`Attr::flags`] that something here acts on.
pub const IMMUTABLE: u32 = 0x10;
pub const APPEND: u32 = 0x20;

impl Attr {
    /// Is one of these flags set?
    pub fn flagged(&self, flags: u32) -> bool {
        self.flags.is_some_and(|f| f & flags != 0)
    }
    /// EPERM of a file that stays as it is, but perhaps for what is added at its end.
    pub fn changeable(&self) -> Result {
        if self.flagged(IMMUTABLE | APPEND) { Err(Errno::EPERM) } else { Ok(()) }
    }
    pub fn kind(&self) -> u32 {
        self.mode & c::S_IFMT
    }
    pub fn is_dir(&self) -> bool {
        self.kind() == c::S_IFDIR
    }
    pub fn is_link(&self) -> bool {
        self.kind() == c::S_IFLNK
    }
    pub fn is_file(&self) -> bool {
        self.kind() == c::S_IFREG
    }
}

/// What chmod, chown, truncate, utimensat and FS_IOC_SETFLAGS change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits only.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<i64>,
    pub mtime: Option<i64>,
    /// Only where [`Attr::flags`] are kept.
    pub flags: Option<u32>,
}

/// Who owns what is created, and its permission bits (after the umask).
#[derive(Debug, Clone, Copy)]
pub struct New {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// statfs(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct StatFs {
    pub magic: i64,
    pub bsize: i64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: i64,
    pub flags: i64,
}

/// Where a magic link leads.
pub enum Follow {
    Path(crate::Path),
    File(Rc<crate::OpenFile>),
}

/// One file of a file system. Names are single components, checked by the walk; permissions are, too.
pub trait Inode: Any {
    fn attr(&self) -> Result<Attr>;
    /// The type bits of the mode, which never change.
    fn kind(&self) -> Result<u32> {
        Ok(self.attr()?.kind())
    }
    /// ENOENT if there is none.
    fn lookup(&self, _name: &[u8]) -> Result<Rc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }
    /// A regular file, FIFO, socket or device, by the type bits of `new.mode`.
    fn create(&self, _name: &[u8], _new: New, _rdev: u64) -> Result<Rc<dyn Inode>> {
        Err(Errno::EPERM)
    }
    /// A regular file without a name (O_TMPFILE). `linkable`: link(2) may give it one.
    fn tmpfile(&self, _new: New, _linkable: bool) -> Result<Rc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }
    fn mkdir(&self, _name: &[u8], _new: New) -> Result<Rc<dyn Inode>> {
        Err(Errno::EPERM)
    }
    fn symlink(&self, _name: &[u8], _target: &[u8], _new: New) -> Result<Rc<dyn Inode>> {
        Err(Errno::EPERM)
    }
    fn link(&self, _name: &[u8], _to: &Rc<dyn Inode>) -> Result {
        Err(Errno::EPERM)
    }
    fn unlink(&self, _name: &[u8]) -> Result {
        Err(Errno::EPERM)
    }
    fn rmdir(&self, _name: &[u8]) -> Result {
        Err(Errno::EPERM)
    }
    /// Moves `name` of this directory to `new_name` of `to`, a directory of the same file system.
    /// `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE.
    fn rename(&self, _name: &[u8], _to: &Rc<dyn Inode>, _new_name: &[u8], _flags: u32) -> Result {
        Err(Errno::EPERM)
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }
    /// A link whose target is not a name (/proc/PID/fd/3).
    fn follow(&self) -> Option<Result<Follow>> {
        None
    }
    fn set_attr(&self, _set: &SetAttr) -> Result {
        Err(Errno::EPERM)
    }
    /// ENODATA if there is none.
    fn xattr_get(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `flags`: XATTR_CREATE, XATTR_REPLACE.
    fn xattr_set(&self, _name: &[u8], _value: &[u8], _flags: i32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    fn xattr_remove(&self, _name: &[u8]) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    /// Names, each with a NUL.
    fn xattr_list(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
    /// Behaviour of a description opened with these O_ flags. FIFOs and sockets are not opened here.
    fn open(&self, flags: i32) -> Result<Rc<dyn FileOps>>;
    fn statfs(&self) -> Result<StatFs>;
    /// Is a name looked up here still true later without asking again?
    fn cacheable(&self) -> bool {
        true
    }
    /// May something be mounted on it? Not on what leads to another process's files.
    fn may_be_covered(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any;
}
