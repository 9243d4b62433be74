//! Flags of files: ioctl_iflags(2), ioctl_xfs_fsgetxattr(2), file_getattr(2), file_setattr(2).
use crate::args::{Fd, Flags, PathArg};
use crate::path::as_caller;
use abi::{Errno, Result};
use guest::{UserIn, UserOut};
use std::rc::Rc;
use task::Task;
use vfs::{OpenFile, Path};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const AT: i32 = abi::c::AT_SYMLINK_NOFOLLOW | abi::c::AT_EMPTY_PATH;

const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// A flag of each kind: FS_SYNC_FL and FS_XFLAG_SYNC, then immutable, append, nodump, noatime, dax, projinherit.
const PAIRS: [(u32, u32); 7] =
    [(0x8, 0x20), (0x10, 0x8), (0x20, 0x10), (0x40, 0x80), (0x80, 0x40), (0x0200_0000, 0x8000), (0x2000_0000, 0x200)];
const EXTSIZE: u32 = 0x800;
const EXTSZINHERIT: u32 = 0x1000;
const COWEXTSIZE: u32 = 0x1_0000;
/// Every FS_XFLAG there is, and those that are only told.
const KNOWN: u64 = 0x8001_fffb;
const ONLY_TOLD: u32 = 0x8000_0002;

/// `struct file_attr`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileAttr {
    xflags: u64,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
}

/// Bytes of its first version.
const FIRST: usize = size_of::<FileAttr>();

/// `struct fsxattr`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// The flags of a file. ENOTTY: its file system keeps none.
fn flags(p: &Path) -> Result<u32> {
    p.inode().attr()?.flags.ok_or(Errno::ENOTTY)
}

fn xflags(flags: u32) -> u32 {
    PAIRS.iter().filter(|(f, _)| flags & f != 0).fold(0, |x, (_, add)| x | add)
}

/// Sets what a structure says. EOPNOTSUPP: what no file system here has; EINVAL: what no file of this kind has.
fn set(t: &Task, p: &Path, a: FileAttr) -> Result {
    let mut x = a.xflags as u32 & !ONLY_TOLD;
    flags(p)?;
    let of = p.inode().attr()?;
    let strange = x & EXTSIZE != 0 && !of.is_file()
        || x & EXTSZINHERIT != 0 && !of.is_dir()
        || x & COWEXTSIZE != 0 && !of.is_file() && !of.is_dir();
    if strange {
        return Err(Errno::EINVAL);
    }
    if a.extsize == 0 {
        x &= !(EXTSIZE | EXTSZINHERIT);
    }
    if a.cowextsize == 0 {
        x &= !COWEXTSIZE;
    }
    let common = PAIRS.iter().fold(0, |all, (_, f)| all | f);
    if x & !common != 0 || a.extsize != 0 || a.projid != 0 || a.cowextsize != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = PAIRS.iter().filter(|(_, f)| x & f != 0).fold(0, |flags, (add, _)| flags | add);
    as_caller(t, |w| w.set_flags(p, flags))
}

/// The commands of a file's flags; `None`: it is another command.
pub fn ioctl(t: &Task, f: &OpenFile, cmd: u32, arg: u64) -> Option<Result<i64>> {
    matches!(cmd, FS_IOC_GETFLAGS | FS_IOC_SETFLAGS | FS_IOC_FSGETXATTR | FS_IOC_FSSETXATTR)
        .then(|| f.path().ok_or(Errno::ENOTTY).and_then(|p| command(t, p, cmd, arg)).map(|()| 0))
}

fn command(t: &Task, p: &Path, cmd: u32, arg: u64) -> Result {
    let mem = t.mem();
    let now = flags(p)?;
    match cmd {
        FS_IOC_GETFLAGS => UserOut::new(arg).put(&*mem, &now),
        FS_IOC_FSGETXATTR => UserOut::new(arg).put(&*mem, &Fsxattr { xflags: xflags(now), ..Fsxattr::default() }),
        FS_IOC_SETFLAGS => {
            let to: u32 = UserIn::new(arg).get(&*mem)?;
            as_caller(t, |w| w.set_flags(p, to))
        }
        _ => {
            let a: Fsxattr = UserIn::new(arg).get(&*mem)?;
            let (xflags, extsize, projid, cowextsize) = (u64::from(a.xflags), a.extsize, a.projid, a.cowextsize);
            if xflags & !KNOWN != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            set(t, p, FileAttr { xflags, extsize, projid, cowextsize, nextents: 0 })
        }
    }
}

/// Where there are no flags to get or set: these calls say it so.
fn unsupported(e: Errno) -> Errno {
    if e == Errno::ENOTTY { Errno::EOPNOTSUPP } else { e }
}

pub fn file_getattr(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    out: UserOut<FileAttr>,
    size: usize,
    at_flags: Flags,
) -> Result {
    at_flags.only(AT)?;
    if size < FIRST {
        return Err(Errno::EINVAL);
    }
    if size as u64 > abi::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let p = crate::xattr::at(t, dir, path, at_flags)?;
    let xflags = u64::from(xflags(flags(&p).map_err(unsupported)?));
    out.put_sized(&*t.mem(), size, &FileAttr { xflags, ..FileAttr::default() })
}

pub fn file_setattr(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    attr: UserIn<FileAttr>,
    size: usize,
    at_flags: Flags,
) -> Result {
    at_flags.only(AT)?;
    let a = attr.get_sized(&*t.mem(), size, FIRST)?;
    if a.xflags & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let p = crate::xattr::at(t, dir, path, at_flags)?;
    set(t, &p, a).map_err(unsupported)
}
