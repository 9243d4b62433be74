//! Names: open(2), stat(2), mkdir(2), rename(2), chmod(2) and their *at forms.
use crate::args::{Fd, Flags, OutBuf, PathArg};
use crate::fd::install;
use abi::fs::{Stat, Statfs, Statx, StatxTime, Ustat};
use abi::sys::{Timespec, Timeval};
use abi::{Errno, Result, c};
use guest::{UserIn, UserOut};
use kernel::cred::Cred;
use std::rc::Rc;
use task::Task;
use vfs::{Attr, Caller, Opened, Path, Scope, StatFs};

pub(crate) const CWD: Fd = Fd(c::AT_FDCWD);

/// Runs `f` as this thread, for path calls.
pub(crate) fn as_caller<T>(t: &Task, f: impl FnOnce(&Caller<'_>) -> Result<T>) -> Result<T> {
    let (fs, cred) = (t.fs(), t.cred());
    f(&Caller { fs: &fs, cred: &cred, scope: Scope::default() })
}

/// Where a relative path starts.
pub(crate) fn base(t: &Task, dir: Fd, path: &[u8]) -> Result<Path> {
    if path.first() == Some(&b'/') || dir == CWD {
        return Ok(t.fs().cwd.borrow().clone());
    }
    let f = t.files()?.get(dir.0)?;
    f.path().cloned().ok_or(Errno::ENOTDIR)
}

/// A path, which may be null instead of empty with AT_EMPTY_PATH, in the calls that have it so since Linux 6.11.
pub(crate) fn maybe_null(t: &Task, path: PathArg, flags: i32) -> Result<Vec<u8>> {
    if path.is_null() && flags & c::AT_EMPTY_PATH != 0 { Ok(Vec::new()) } else { path.get(&*t.mem()) }
}

/// The file that `dir` and `path` name; with AT_EMPTY_PATH the descriptor's own.
pub(crate) fn file_at(t: &Task, dir: Fd, path: PathArg, flags: i32) -> Result<Path> {
    named(t, dir, &path.get(&*t.mem())?, flags)
}

/// The same, of a name that has been read.
pub(crate) fn named(t: &Task, dir: Fd, name: &[u8], flags: i32) -> Result<Path> {
    if name.is_empty() && flags & c::AT_EMPTY_PATH != 0 {
        if dir == CWD {
            return Ok(t.fs().cwd.borrow().clone());
        }
        return t.files()?.get(dir.0)?.path().cloned().ok_or(Errno::ENOENT);
    }
    let from = base(t, dir, name)?;
    as_caller(t, |w| w.path(&from, name, flags & c::AT_SYMLINK_NOFOLLOW == 0))
}

async fn open_at(t: &Rc<Task>, dir: Fd, path: PathArg, flags: i32, mode: u32) -> Result<i32> {
    let name = path.get(&*t.mem())?;
    let from = base(t, dir, &name)?;
    vfs::file::room(0)?;
    let opened = as_caller(t, |w| w.open(&from, &name, flags, mode)).map_err(crate::fd::host_limit)?;
    finish_open(t, opened, flags).await
}

async fn finish_open(t: &Rc<Task>, mut opened: Opened, flags: i32) -> Result<i32> {
    let f = loop {
        break match opened {
            // /proc/self/fd/3
            Opened::File(f) if f.downcast::<net::SocketFile>().is_some() => return Err(Errno::ENXIO),
            Opened::File(f) => f,
            Opened::Fifo(p, id) => {
                let end = ipc::pipe::fifo_open(id, flags, t.cred().has(kernel::cred::CAP_SYS_RESOURCE)).await?;
                vfs::OpenFile::new(end, flags & !(c::O_CREAT | c::O_EXCL | c::O_CLOEXEC | c::O_TRUNC), Some(p))
            }
            Opened::Terminal(p, rdev) => crate::tty::open(t, p, rdev, flags)?,
            Opened::Loop(p, number) => crate::block::open(t, p, number, flags)?,
            Opened::Leased(p) => {
                crate::lease::wait_for_holders(t, &p, flags).await?;
                opened = as_caller(t, |w| w.open_path(p, flags, false))?;
                continue;
            }
        };
    };
    install(t, f, flags)
}

pub async fn open(t: &Rc<Task>, path: PathArg, flags: Flags, mode: u32) -> Result<i32> {
    open_at(t, CWD, path, flags.bits(), mode).await
}

pub async fn openat(t: &Rc<Task>, dir: Fd, path: PathArg, flags: Flags, mode: u32) -> Result<i32> {
    open_at(t, dir, path, flags.bits(), mode).await
}

/// openat2(2): `how` may be shorter or longer than ours; what we do not know must be zero.
pub async fn openat2(t: &Rc<Task>, dir: Fd, path: PathArg, how: UserIn<[u64; 3]>, size: usize) -> Result<i32> {
    const OPEN_FLAGS: u64 = 0o37_777_703;
    const PATH_FLAGS: u64 = (c::O_PATH | c::O_DIRECTORY | c::O_NOFOLLOW | c::O_CLOEXEC) as u64;
    let [flags, mode, resolve] = how.get_sized(&*t.mem(), size, 24)?;
    let scoped = resolve & (vfs::RESOLVE_BENEATH | vfs::RESOLVE_IN_ROOT);
    let makes = flags & (c::O_CREAT as u64 | (c::O_TMPFILE & !c::O_DIRECTORY) as u64) != 0;
    if flags & !OPEN_FLAGS != 0
        || resolve & !0x3f != 0
        || scoped == vfs::RESOLVE_BENEATH | vfs::RESOLVE_IN_ROOT
        || if makes { mode & !0o7777 != 0 } else { mode != 0 }
        || (flags & c::O_PATH as u64 != 0 && flags & !PATH_FLAGS != 0)
    {
        return Err(Errno::EINVAL);
    }
    // Nothing is known to be cached for what changes anything.
    if resolve & vfs::RESOLVE_CACHED != 0 && (makes || flags & c::O_TRUNC as u64 != 0) {
        return Err(Errno::EAGAIN);
    }
    let name = path.get(&*t.mem())?;
    let beneath = if scoped != 0 && dir != CWD { base(t, dir, b"")? } else { base(t, dir, &name)? };
    let scope = Scope { resolve, top: (scoped != 0).then(|| beneath.clone()) };
    let opened = {
        let (fs, cred) = (t.fs(), t.cred());
        Caller { fs: &fs, cred: &cred, scope }.open(&beneath, &name, flags as i32, mode as u32)?
    };
    finish_open(t, opened, flags as i32).await
}

pub async fn creat(t: &Rc<Task>, path: PathArg, mode: u32) -> Result<i32> {
    open_at(t, CWD, path, c::O_CREAT | c::O_WRONLY | c::O_TRUNC, mode).await
}

fn stat_of(t: &Task, a: &Attr) -> Stat {
    let cred = t.cred();
    let time = |ns: i64| [ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000)];
    Stat {
        dev: a.dev,
        ino: a.ino,
        nlink: a.nlink as u64,
        mode: a.mode,
        uid: cred.user_ns.show_user(a.uid),
        gid: cred.user_ns.show_group(a.gid),
        rdev: a.rdev,
        size: a.size as i64,
        blksize: a.blksize as i64,
        blocks: a.blocks as i64,
        atime: time(a.atime),
        mtime: time(a.mtime),
        ctime: time(a.ctime),
        ..Stat::default()
    }
}

pub fn stat(t: &Rc<Task>, path: PathArg, out: UserOut<Stat>) -> Result {
    let a = attr_at(t, CWD, path, 0)?;
    out.put(&*t.mem(), &stat_of(t, &a))
}

pub fn lstat(t: &Rc<Task>, path: PathArg, out: UserOut<Stat>) -> Result {
    let a = attr_at(t, CWD, path, c::AT_SYMLINK_NOFOLLOW)?;
    out.put(&*t.mem(), &stat_of(t, &a))
}

/// What fstat tells of a file without a name: a pipe, an eventfd, a standard stream.
fn anonymous(f: &vfs::OpenFile) -> Result<Attr> {
    if let Some(s) = f.downcast::<ipc::stdio::HostStream>() {
        let h = host::fs::stat(s.fd(), b"")?;
        return Ok(Attr {
            dev: h.dev,
            ino: h.ino,
            mode: h.mode,
            nlink: h.nlink,
            uid: h.uid,
            gid: h.gid,
            rdev: h.rdev,
            size: h.size,
            blksize: h.blksize,
            blocks: h.blocks,
            atime: h.atime,
            mtime: h.mtime,
            ctime: h.ctime,
            btime: h.btime,
            flags: None,
        });
    }
    let now = host::time::realtime_ns() as i64;
    if let Some(ns) = f.downcast::<task::ns::NsFile>() {
        /// nsfs.
        const DEV: u64 = 4;
        let attr = Attr { dev: DEV, ino: ns.0.ino(), mode: c::S_IFREG | 0o444, nlink: 1, ..Attr::default() };
        return Ok(Attr { blksize: 4096, atime: now, mtime: now, ctime: now, ..attr });
    }
    if let Some(s) = f.downcast::<net::SocketFile>() {
        /// sockfs.
        const DEV: u64 = 8;
        let cred = &s.maker().cred;
        let (mode, uid, gid) = (c::S_IFSOCK | 0o777, cred.fsuid, cred.fsgid);
        let attr = Attr { dev: DEV, ino: s.ino(), mode, uid, gid, nlink: 1, blksize: 4096, ..Attr::default() };
        return Ok(Attr { atime: now, mtime: now, ctime: now, ..attr });
    }
    /// anon_inodefs and pipefs.
    const DEV: u64 = 12;
    let mode = if f.downcast::<ipc::pipe::PipeEnd>().is_some() { c::S_IFIFO | 0o600 } else { 0o600 };
    let ino = std::ptr::from_ref(f.ops()).cast::<u8>() as u64 >> 4 & 0xff_ffff;
    Ok(Attr { dev: DEV, ino, mode, nlink: 1, blksize: 4096, atime: now, mtime: now, ctime: now, ..Attr::default() })
}

fn attr_of(f: &vfs::OpenFile) -> Result<Attr> {
    match f.path() {
        Some(p) => p.inode().attr(),
        None => anonymous(f),
    }
}

pub fn fstat(t: &Rc<Task>, fd: Fd, out: UserOut<Stat>) -> Result {
    let f = t.files()?.get(fd.0)?;
    out.put(&*t.mem(), &stat_of(t, &attr_of(&f)?))
}

/// What stat(2) and its kin are about.
fn found_at(t: &Task, dir: Fd, path: PathArg, flags: i32) -> Result<vfs::Found> {
    let name = maybe_null(t, path, flags)?;
    if name.is_empty() && flags & c::AT_EMPTY_PATH != 0 {
        return Ok(match dir {
            CWD => vfs::Found::Path(t.fs().cwd.borrow().clone()),
            _ => vfs::Found::File(t.files()?.get(dir.0)?),
        });
    }
    let from = base(t, dir, &name)?;
    let (fs, cred) = (t.fs(), t.cred());
    vfs::Walk::new(&fs, &cred).resolve(&from, &name, flags & c::AT_SYMLINK_NOFOLLOW == 0)
}

fn attr_at(t: &Task, dir: Fd, path: PathArg, flags: i32) -> Result<Attr> {
    match found_at(t, dir, path, flags)? {
        vfs::Found::Path(p) => p.inode().attr(),
        // /proc/self/fd/3 of something that has no name.
        vfs::Found::File(f) => attr_of(&f),
    }
}

pub fn newfstatat(t: &Rc<Task>, dir: Fd, path: PathArg, out: UserOut<Stat>, flags: Flags) -> Result {
    let flags = flags.only(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH | c::AT_NO_AUTOMOUNT)?;
    out.put(&*t.mem(), &stat_of(t, &attr_at(t, dir, path, flags)?))
}

pub fn statx(t: &Rc<Task>, dir: Fd, path: PathArg, flags: Flags, mask: u32, out: UserOut<Statx>) -> Result {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    const SYNC: i32 = c::AT_STATX_FORCE_SYNC | c::AT_STATX_DONT_SYNC;
    let flags = flags.only(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH | c::AT_NO_AUTOMOUNT | SYNC)?;
    if flags & SYNC == SYNC || mask & 0x8000_0000 != 0 {
        return Err(Errno::EINVAL);
    }
    // Their numbers here are those of ioctl_iflags(2).
    const ATTRIBUTES: u32 = (c::STATX_ATTR_APPEND | c::STATX_ATTR_IMMUTABLE | c::STATX_ATTR_NODUMP) as u32;
    const MOUNT_ROOT: u64 = c::STATX_ATTR_MOUNT_ROOT as u64;
    let (a, place) = match found_at(t, dir, path, flags)? {
        vfs::Found::Path(p) => (p.inode().attr()?, Some(p)),
        vfs::Found::File(f) => (attr_of(&f)?, f.path().cloned()),
    };
    let time =
        |ns: i64| StatxTime { sec: ns.div_euclid(1_000_000_000), nsec: ns.rem_euclid(1_000_000_000) as u32, pad: 0 };
    let (which, mnt_id) = match place.as_ref().map(|p| &p.mount) {
        Some(m) if mask & STATX_MNT_ID_UNIQUE != 0 => (STATX_MNT_ID_UNIQUE, m.unique),
        Some(m) => (c::STATX_MNT_ID, m.id as u64),
        None => (0, 0),
    };
    let is_root = place.is_some_and(|p| Rc::ptr_eq(&p.dentry, &p.mount.root));
    let s = Statx {
        mask: c::STATX_BASIC_STATS | which | if a.btime != 0 { c::STATX_BTIME } else { 0 },
        mnt_id,
        blksize: a.blksize,
        attributes: a.flags.map_or(0, |f| u64::from(f & ATTRIBUTES)) | if is_root { MOUNT_ROOT } else { 0 },
        attributes_mask: a.flags.map_or(0, |_| u64::from(ATTRIBUTES)) | MOUNT_ROOT,
        nlink: a.nlink,
        uid: t.cred().user_ns.show_user(a.uid),
        gid: t.cred().user_ns.show_group(a.gid),
        mode: a.mode as u16,
        ino: a.ino,
        size: a.size,
        blocks: a.blocks,
        atime: time(a.atime),
        btime: time(a.btime),
        ctime: time(a.ctime),
        mtime: time(a.mtime),
        rdev_major: c::major(a.rdev),
        rdev_minor: c::minor(a.rdev),
        dev_major: c::major(a.dev),
        dev_minor: c::minor(a.dev),
        ..Statx::default()
    };
    out.put(&*t.mem(), &s)
}

fn statfs_of(s: &StatFs) -> Statfs {
    Statfs {
        kind: s.magic,
        bsize: s.bsize,
        blocks: s.blocks,
        bfree: s.bfree,
        bavail: s.bavail,
        files: s.files,
        ffree: s.ffree,
        namelen: s.namelen,
        frsize: s.bsize,
        flags: s.flags,
        ..Statfs::default()
    }
}

pub fn statfs(t: &Rc<Task>, path: PathArg, out: UserOut<Statfs>) -> Result {
    let p = file_at(t, CWD, path, 0)?;
    out.put(&*t.mem(), &statfs_of(&p.mount.statfs(&p.dentry)?))
}

pub fn fstatfs(t: &Rc<Task>, fd: Fd, out: UserOut<Statfs>) -> Result {
    let f = t.files()?.get(fd.0)?;
    let s = match f.path() {
        Some(p) => p.mount.statfs(&p.dentry)?,
        // sockfs
        None if f.downcast::<task::ns::NsFile>().is_some() => {
            StatFs { magic: 0x6e73_6673, bsize: 4096, namelen: 255, ..StatFs::default() }
        }
        None if f.downcast::<net::SocketFile>().is_some() => {
            StatFs { magic: 0x534f_434b, bsize: 4096, namelen: 255, ..StatFs::default() }
        }
        // pipefs
        None => StatFs { magic: 0x5049_5045, bsize: 4096, namelen: 255, ..StatFs::default() },
    };
    out.put(&*t.mem(), &statfs_of(&s))
}

/// ustat(2), of the file system whose files have this device number. EINVAL: there is none.
pub fn ustat(t: &Rc<Task>, dev: u32, out: UserOut<Ustat>) -> Result {
    let mounts = t.fs().mounts.all();
    let is = |m: &&Rc<vfs::Mount>| m.root.inode.attr().is_ok_and(|a| a.dev as u32 == dev);
    let m = mounts.iter().find(is).ok_or(Errno::EINVAL)?;
    let s = m.statfs(&m.root)?;
    out.put(&*t.mem(), &Ustat { tfree: s.bfree as i32, tinode: s.ffree, ..Ustat::default() })
}

const ACCESS_FLAGS: i32 = c::AT_EACCESS | c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH;

fn access_at(t: &Task, dir: Fd, path: PathArg, mode: i32, flags: i32) -> Result {
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let old = t.cred();
    let p;
    if flags & c::AT_EACCESS == 0 {
        // access(2) asks for the real ids; root's capabilities count if the real user is root.
        let real = Cred {
            fsuid: old.ruid,
            fsgid: old.rgid,
            effective: if old.is_root(old.ruid) { old.permitted } else { 0 },
            ..Cred::clone(&old)
        };
        t.set_cred(real);
        p = file_at(t, dir, path, flags).and_then(|p| as_caller(t, |w| w.access(&p, mode as u32)));
        t.set_cred(Cred::clone(&old));
        return p;
    }
    let p = file_at(t, dir, path, flags)?;
    as_caller(t, |w| w.access(&p, mode as u32))
}

pub fn access(t: &Rc<Task>, path: PathArg, mode: i32) -> Result {
    access_at(t, CWD, path, mode, 0)
}
pub fn faccessat(t: &Rc<Task>, dir: Fd, path: PathArg, mode: i32) -> Result {
    access_at(t, dir, path, mode, 0)
}
pub fn faccessat2(t: &Rc<Task>, dir: Fd, path: PathArg, mode: i32, flags: Flags) -> Result {
    access_at(t, dir, path, mode, flags.only(ACCESS_FLAGS)?)
}

/// A call on one name in a directory.
fn on_name<T>(t: &Task, dir: Fd, path: PathArg, f: impl FnOnce(&Caller<'_>, &Path, &[u8]) -> Result<T>) -> Result<T> {
    let name = path.get(&*t.mem())?;
    let from = base(t, dir, &name)?;
    as_caller(t, |w| f(w, &from, &name))
}

pub fn mkdir(t: &Rc<Task>, path: PathArg, mode: u32) -> Result {
    on_name(t, CWD, path, |w, b, n| w.mkdir(b, n, mode))
}
pub fn mkdirat(t: &Rc<Task>, dir: Fd, path: PathArg, mode: u32) -> Result {
    on_name(t, dir, path, |w, b, n| w.mkdir(b, n, mode))
}
pub fn mknod(t: &Rc<Task>, path: PathArg, mode: u32, dev: u64) -> Result {
    on_name(t, CWD, path, |w, b, n| w.mknod(b, n, mode, dev))
}
pub fn mknodat(t: &Rc<Task>, dir: Fd, path: PathArg, mode: u32, dev: u64) -> Result {
    on_name(t, dir, path, |w, b, n| w.mknod(b, n, mode, dev))
}
pub fn rmdir(t: &Rc<Task>, path: PathArg) -> Result {
    on_name(t, CWD, path, |w, b, n| w.rmdir(b, n))
}
pub fn unlink(t: &Rc<Task>, path: PathArg) -> Result {
    on_name(t, CWD, path, |w, b, n| w.unlink(b, n))
}
pub fn unlinkat(t: &Rc<Task>, dir: Fd, path: PathArg, flags: Flags) -> Result {
    let flags = flags.only(c::AT_REMOVEDIR)?;
    on_name(t, dir, path, |w, b, n| if flags != 0 { w.rmdir(b, n) } else { w.unlink(b, n) })
}

fn symlink_at(t: &Task, target: PathArg, dir: Fd, path: PathArg) -> Result {
    let target = target.get(&*t.mem())?;
    on_name(t, dir, path, |w, b, n| w.symlink(b, n, &target))
}
pub fn symlink(t: &Rc<Task>, target: PathArg, path: PathArg) -> Result {
    symlink_at(t, target, CWD, path)
}
pub fn symlinkat(t: &Rc<Task>, target: PathArg, dir: Fd, path: PathArg) -> Result {
    symlink_at(t, target, dir, path)
}

pub fn linkat(t: &Rc<Task>, od: Fd, old: PathArg, nd: Fd, new: PathArg, flags: Flags) -> Result {
    let flags = flags.only(c::AT_SYMLINK_FOLLOW | c::AT_EMPTY_PATH)?;
    let nofollow = if flags & c::AT_SYMLINK_FOLLOW != 0 { 0 } else { c::AT_SYMLINK_NOFOLLOW };
    let from = file_at(t, od, old, nofollow | (flags & c::AT_EMPTY_PATH))?;
    on_name(t, nd, new, |w, b, n| w.link(&from, b, n))
}
pub fn link(t: &Rc<Task>, old: PathArg, new: PathArg) -> Result {
    linkat(t, CWD, old, CWD, new, Flags(0))
}

pub fn renameat2(t: &Rc<Task>, od: Fd, old: PathArg, nd: Fd, new: PathArg, flags: u32) -> Result {
    let mem = t.mem();
    let (old, new) = (old.get(&*mem)?, new.get(&*mem)?);
    let (ob, nb) = (base(t, od, &old)?, base(t, nd, &new)?);
    as_caller(t, |w| w.rename(&ob, &old, &nb, &new, flags))
}
pub fn rename(t: &Rc<Task>, old: PathArg, new: PathArg) -> Result {
    renameat2(t, CWD, old, CWD, new, 0)
}
pub fn renameat(t: &Rc<Task>, od: Fd, old: PathArg, nd: Fd, new: PathArg) -> Result {
    renameat2(t, od, old, nd, new, 0)
}

pub fn readlinkat(t: &Rc<Task>, dir: Fd, path: PathArg, buf: OutBuf<3>, size: i32) -> Result<usize> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let p = file_at(t, dir, path, c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH)?;
    if !p.inode().attr()?.is_link() && path.get(&*t.mem())?.is_empty() {
        return Err(Errno::ENOENT);
    }
    let target = match p.inode().readlink() {
        Err(Errno::EINVAL) if !p.inode().attr()?.is_link() => {
            t.tell_no_link(&path.get(&*t.mem())?, &p);
            return Err(Errno::EINVAL);
        }
        r => r?,
    };
    let n = target.len().min(size as usize);
    t.mem().write(buf.0, &target[..n])?;
    Ok(n)
}
pub fn readlink(t: &Rc<Task>, path: PathArg, buf: OutBuf<2>, size: i32) -> Result<usize> {
    readlinkat(t, CWD, path, OutBuf(buf.0), size)
}

pub fn chmod(t: &Rc<Task>, path: PathArg, mode: u32) -> Result {
    fchmodat(t, CWD, path, mode)
}
pub fn fchmodat(t: &Rc<Task>, dir: Fd, path: PathArg, mode: u32) -> Result {
    let p = file_at(t, dir, path, 0)?;
    as_caller(t, |w| w.chmod(&p, mode))
}
/// fchmodat2(2): the only way to say that a link is not to be followed, whose mode cannot be changed.
pub fn fchmodat2(t: &Rc<Task>, dir: Fd, path: PathArg, mode: u32, flags: Flags) -> Result {
    let flags = flags.only(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH)?;
    let p = file_at(t, dir, path, flags)?;
    if p.inode().attr()?.is_link() {
        return Err(Errno::EOPNOTSUPP);
    }
    as_caller(t, |w| w.chmod(&p, mode))
}
pub fn fchmod(t: &Rc<Task>, fd: Fd, mode: u32) -> Result {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    match f.path() {
        Some(p) => as_caller(t, |w| w.chmod(p, mode)),
        None => Ok(()),
    }
}

pub fn fchownat(t: &Rc<Task>, dir: Fd, path: PathArg, uid: u32, gid: u32, flags: Flags) -> Result {
    let flags = flags.only(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH)?;
    let p = file_at(t, dir, path, flags)?;
    change_owner(t, &p, uid, gid)
}

fn change_owner(t: &Task, p: &Path, uid: u32, gid: u32) -> Result {
    let ns = t.cred().user_ns.clone();
    let user = if uid == u32::MAX { uid } else { ns.user(uid).ok_or(Errno::EINVAL)? };
    let group = if gid == u32::MAX { gid } else { ns.group(gid).ok_or(Errno::EINVAL)? };
    as_caller(t, |w| w.chown(p, user, group))
}
pub fn chown(t: &Rc<Task>, path: PathArg, uid: u32, gid: u32) -> Result {
    fchownat(t, CWD, path, uid, gid, Flags(0))
}
pub fn lchown(t: &Rc<Task>, path: PathArg, uid: u32, gid: u32) -> Result {
    fchownat(t, CWD, path, uid, gid, Flags(c::AT_SYMLINK_NOFOLLOW as u32))
}
pub fn fchown(t: &Rc<Task>, fd: Fd, uid: u32, gid: u32) -> Result {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    match f.path() {
        Some(p) => change_owner(t, p, uid, gid),
        None => Ok(()),
    }
}

pub async fn truncate(t: &Rc<Task>, path: PathArg, len: i64) -> Result {
    if len < 0 {
        return Err(Errno::EINVAL);
    }
    let p = file_at(t, CWD, path, 0)?;
    crate::io::may_be_long(t, len as u64)?;
    if vfs::lease::any() {
        as_caller(t, |w| w.may_truncate(&p))?;
        crate::lease::wait_for_holders(t, &p, c::O_WRONLY).await?;
    }
    as_caller(t, |w| w.truncate(&p, len as u64))
}

fn set_times(t: &Task, p: &Path, times: Option<[Timespec; 2]>) -> Result {
    let now = host::time::realtime_ns() as i64;
    let one = |ts: Timespec| match ts.nsec {
        n if n == c::UTIME_OMIT => Ok(None),
        n if n == c::UTIME_NOW => Ok(Some(now)),
        n if !(0..1_000_000_000).contains(&n) => Err(Errno::EINVAL),
        n => Ok(Some(ts.sec.saturating_mul(1_000_000_000).saturating_add(n))),
    };
    let (a, m, both_now) = match times {
        None => (Some(now), Some(now), true),
        Some([a, m]) => (one(a)?, one(m)?, a.nsec == c::UTIME_NOW && m.nsec == c::UTIME_NOW),
    };
    as_caller(t, |w| w.utimens(p, a, m, both_now))
}

pub fn utimensat(t: &Rc<Task>, dir: Fd, path: PathArg, times: UserIn<[Timespec; 2]>, flags: Flags) -> Result {
    let flags = flags.only(c::AT_SYMLINK_NOFOLLOW | c::AT_EMPTY_PATH)?;
    let times = times_of(t, times)?;
    set_times(t, &timed(t, dir, path, flags)?, times)
}

/// What is to have other times: without a name the descriptor's own file.
fn timed(t: &Task, dir: Fd, path: PathArg, flags: i32) -> Result<Path> {
    if !path.is_null() || dir == CWD {
        return file_at(t, dir, path, flags);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let f = t.files()?.get(dir.0)?;
    f.path().filter(|_| f.flags() & c::O_PATH == 0).cloned().ok_or(Errno::EBADF)
}

fn times_of(t: &Task, times: UserIn<[Timespec; 2]>) -> Result<Option<[Timespec; 2]>> {
    if times.is_null() {
        return Ok(None);
    }
    let mut raw = [0u8; 32];
    t.mem().read(times.addr(), &mut raw)?;
    let word = |i: usize| i64::from_ne_bytes(raw[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
    Ok(Some([Timespec { sec: word(0), nsec: word(1) }, Timespec { sec: word(2), nsec: word(3) }]))
}

pub fn utimes(t: &Rc<Task>, path: PathArg, times: UserIn<[Timeval; 2]>) -> Result {
    futimesat(t, CWD, path, times)
}
pub fn futimesat(t: &Rc<Task>, dir: Fd, path: PathArg, times: UserIn<[Timeval; 2]>) -> Result {
    let times = match times_of(t, UserIn::new(times.addr()))? {
        None => None,
        Some(tv) => {
            if tv.iter().any(|v| !(0..1_000_000).contains(&v.nsec)) {
                return Err(Errno::EINVAL);
            }
            Some(tv.map(|v| Timespec { sec: v.sec, nsec: v.nsec * 1000 }))
        }
    };
    set_times(t, &timed(t, dir, path, 0)?, times)
}
pub fn utime(t: &Rc<Task>, path: PathArg, times: UserIn<[i64; 2]>) -> Result {
    let times = times.get_opt(&*t.mem())?.map(|v| v.map(|sec| Timespec { sec, nsec: 0 }));
    let p = file_at(t, CWD, path, 0)?;
    set_times(t, &p, times)
}

fn set_cwd(t: &Task, p: Path) -> Result {
    let a = p.inode().attr()?;
    if !a.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    vfs::permission(&a, &t.cred(), vfs::MAY_EXEC)?;
    *t.fs().cwd.borrow_mut() = p;
    Ok(())
}
pub fn chdir(t: &Rc<Task>, path: PathArg) -> Result {
    let p = file_at(t, CWD, path, 0)?;
    set_cwd(t, p)
}
pub fn fchdir(t: &Rc<Task>, fd: Fd) -> Result {
    let p = t.files()?.get(fd.0)?.path().cloned().ok_or(Errno::ENOTDIR)?;
    set_cwd(t, p)
}
pub fn chroot(t: &Rc<Task>, path: PathArg) -> Result {
    let p = file_at(t, CWD, path, 0)?;
    let a = p.inode().attr()?;
    if !a.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    vfs::permission(&a, &t.cred(), vfs::MAY_EXEC)?;
    if !t.cred().has_own(kernel::cred::CAP_SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    *t.fs().root.borrow_mut() = p;
    vfs::names::changed();
    Ok(())
}

pub fn getcwd(t: &Rc<Task>, buf: OutBuf<1>, size: usize) -> Result<usize> {
    let fs = t.fs();
    if fs.cwd.borrow().dentry.removed.get() {
        return Err(Errno::ENOENT);
    }
    let mut name = match vfs::name_of(&fs.cwd.borrow(), &fs.root.borrow()) {
        Some(n) => n,
        None => b"(unreachable)".to_vec(),
    };
    name.push(0);
    if name.len() > 4096 {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.len() > size {
        return Err(Errno::ERANGE);
    }
    t.mem().write(buf.0, &name)?;
    Ok(name.len())
}

pub fn umask(t: &Rc<Task>, mask: u32) -> Result<u32> {
    Ok(t.fs().umask.replace(mask & 0o777))
}
