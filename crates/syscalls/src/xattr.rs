//! Extended attributes: xattr(7).
use crate::args::{Fd, Flags, InBuf, OutBuf, PathArg, StrArg};
use crate::path::{CWD, as_caller, file_at, maybe_null, named};
use abi::{Errno, Result, c};
use guest::UserIn;
use std::rc::Rc;
use task::Task;
use vfs::Path;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME: usize = 256;
const VALUE: usize = 65536;

fn inode(t: &Task, path: PathArg, flags: i32) -> Result<Path> {
    file_at(t, CWD, path, flags)
}
fn open(t: &Task, fd: Fd) -> Result<Path> {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    f.path().cloned().ok_or(Errno::EOPNOTSUPP)
}

/// The name, checked: user attributes follow the file's permissions, the others need privilege.
fn name(t: &Task, p: &Path, name: StrArg, write: bool) -> Result<Vec<u8>> {
    let n = name.get(&*t.mem(), NAME).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::ERANGE } else { e })?;
    if n.is_empty() {
        return Err(Errno::ERANGE);
    }
    let cred = t.cred();
    let a = p.inode().attr()?;
    if write {
        as_caller(t, |w| w.writable_mount(p))?;
        a.changeable()?;
    }
    if n.starts_with(b"user.") {
        if !a.is_file() && !a.is_dir() {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        vfs::permission(&a, &cred, if write { vfs::MAY_WRITE } else { vfs::MAY_READ })?;
    } else if n.starts_with(b"trusted.") {
        if !cred.has(kernel::cred::CAP_SYS_ADMIN) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
    } else if n == crate::privileges::FILE_CAPS {
        if write && (!a.is_file() || !cred.has(kernel::cred::CAP_SETFCAP)) {
            return Err(Errno::EPERM);
        }
    } else if n.starts_with(b"security.") {
        if write && !cred.has(kernel::cred::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
    } else if write || !n.starts_with(b"system.") {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(n)
}

fn give(t: &Task, value: &[u8], buf: u64, size: usize) -> Result<usize> {
    if size == 0 {
        return Ok(value.len());
    }
    if size < value.len() {
        return Err(Errno::ERANGE);
    }
    t.mem().write(buf, value)?;
    Ok(value.len())
}

pub fn get(t: &Task, p: Result<Path>, n: StrArg, buf: u64, size: usize) -> Result<usize> {
    let p = p?;
    let n = name(t, &p, n, false)?;
    give(t, &p.inode().xattr_get(&n)?, buf, size)
}
pub fn set(t: &Task, p: Result<Path>, n: StrArg, buf: u64, size: usize, flags: Flags) -> Result {
    let p = p?;
    let flags = flags.only(c::XATTR_CREATE | c::XATTR_REPLACE)?;
    if size > VALUE {
        return Err(Errno::E2BIG);
    }
    let n = name(t, &p, n, true)?;
    let mut value = vec![0u8; size];
    t.mem().read(buf, &mut value)?;
    if n == crate::privileges::FILE_CAPS && !crate::privileges::is_file_caps(&value) {
        return Err(Errno::EINVAL);
    }
    p.inode().xattr_set(&n, &value, flags)
}
pub fn remove(t: &Task, p: Result<Path>, n: StrArg) -> Result {
    let p = p?;
    let n = name(t, &p, n, true)?;
    p.inode().xattr_remove(&n)
}
pub fn list(t: &Task, p: Result<Path>, buf: u64, size: usize) -> Result<usize> {
    let mut all = p?.inode().xattr_list()?;
    if !t.cred().has(kernel::cred::CAP_SYS_ADMIN) {
        let seen = |name: &&[u8]| !name.starts_with(b"trusted.");
        all = all.split_inclusive(|b| *b == 0).filter(seen).collect::<Vec<_>>().concat();
    }
    give(t, &all, buf, size)
}

/// `struct xattr_args`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

impl XattrArgs {
    /// Bytes of its first version.
    const FIRST: usize = 16;
}

/// The file that the calls with a directory name.
pub(crate) fn at(t: &Task, dir: Fd, path: PathArg, flags: Flags) -> Result<Path> {
    let flags = flags.only(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH)?;
    match maybe_null(t, path, flags)?.is_empty() && dir != CWD {
        true if flags & c::AT_EMPTY_PATH != 0 => open(t, dir),
        _ => named(t, dir, &maybe_null(t, path, flags)?, flags),
    }
}

pub fn setxattrat(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    at_flags: Flags,
    n: StrArg,
    args: UserIn<XattrArgs>,
    size: usize,
) -> Result {
    let args = args.get_sized(&*t.mem(), size, XattrArgs::FIRST)?;
    set(t, at(t, dir, path, at_flags), n, args.value, args.size as usize, Flags(args.flags))
}
pub fn getxattrat(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    at_flags: Flags,
    n: StrArg,
    args: UserIn<XattrArgs>,
    size: usize,
) -> Result<usize> {
    let args = args.get_sized(&*t.mem(), size, XattrArgs::FIRST)?;
    if args.flags != 0 {
        return Err(Errno::EINVAL);
    }
    get(t, at(t, dir, path, at_flags), n, args.value, args.size as usize)
}
pub fn listxattrat(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    at_flags: Flags,
    buf: OutBuf<4>,
    size: usize,
) -> Result<usize> {
    list(t, at(t, dir, path, at_flags), buf.0, size)
}
pub fn removexattrat(t: &Rc<Task>, dir: Fd, path: PathArg, at_flags: Flags, n: StrArg) -> Result {
    remove(t, at(t, dir, path, at_flags), n)
}

macro_rules! three {
    ($get:ident $set:ident $remove:ident $list:ident, $arg:ty, $find:expr) => {
        pub fn $get(t: &Rc<Task>, at: $arg, n: StrArg, buf: OutBuf<3>, size: usize) -> Result<usize> {
            get(t, $find(t, at), n, buf.0, size)
        }
        pub fn $set(t: &Rc<Task>, at: $arg, n: StrArg, buf: InBuf<3>, size: usize, flags: Flags) -> Result {
            set(t, $find(t, at), n, buf.0, size, flags)
        }
        pub fn $remove(t: &Rc<Task>, at: $arg, n: StrArg) -> Result {
            remove(t, $find(t, at), n)
        }
        pub fn $list(t: &Rc<Task>, at: $arg, buf: OutBuf<2>, size: usize) -> Result<usize> {
            list(t, $find(t, at), buf.0, size)
        }
    };
}
three!(getxattr setxattr removexattr listxattr, PathArg, |t: &Task, p| inode(t, p, 0));
three!(lgetxattr lsetxattr lremovexattr llistxattr, PathArg, |t: &Task, p| inode(t, p, c::AT_SYMLINK_NOFOLLOW));
three!(fgetxattr fsetxattr fremovexattr flistxattr, Fd, |t: &Task, fd| open(t, fd));
