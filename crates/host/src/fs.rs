//! Host files by descriptor: everything is named relative to a directory that was donated.
use abi::{Errno, Result};
use rustix::fs::{
    AtFlags, FallocateFlags, Gid, Mode, OFlags, RawMode, RenameFlags, ResolveFlags, StatxFlags, Timespec, Timestamps,
    Uid, XattrFlags,
};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

fn e(e: rustix::io::Errno) -> Errno {
    crate::errno(e)
}

/// What statx(2) tells of a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    pub blocks: u64,
    /// Nanoseconds since the epoch.
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub btime: i64,
}

/// Of `name` in `dir` without following a link, or of `dir` itself for an empty name.
pub fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let s = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME).map_err(e)?;
    let ns = |t: rustix::fs::StatxTimestamp| t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as i64);
    Ok(Stat {
        dev: rustix::fs::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: s.stx_mode as u32,
        nlink: s.stx_nlink,
        uid: s.stx_uid,
        gid: s.stx_gid,
        rdev: rustix::fs::makedev(s.stx_rdev_major, s.stx_rdev_minor),
        size: s.stx_size,
        blksize: s.stx_blksize,
        blocks: s.stx_blocks,
        atime: ns(s.stx_atime),
        mtime: ns(s.stx_mtime),
        ctime: ns(s.stx_ctime),
        btime: ns(s.stx_btime),
    })
}

/// Of an open file; `btime`, which fstat(2) does not tell, is passed through.
pub fn fstat(fd: BorrowedFd<'_>, btime: i64) -> Result<Stat> {
    let s = rustix::fs::fstat(fd).map_err(e)?;
    let ns = |s: i64, n: i64| s.saturating_mul(1_000_000_000).saturating_add(n);
    Ok(Stat {
        dev: s.st_dev,
        ino: s.st_ino,
        mode: s.st_mode,
        nlink: s.st_nlink as u32,
        uid: s.st_uid,
        gid: s.st_gid,
        rdev: s.st_rdev,
        size: s.st_size as u64,
        blksize: s.st_blksize as u32,
        blocks: s.st_blocks as u64,
        atime: ns(s.st_atime, s.st_atime_nsec as i64),
        mtime: ns(s.st_mtime, s.st_mtime_nsec as i64),
        ctime: ns(s.st_ctime, s.st_ctime_nsec as i64),
        btime,
    })
}

/// openat2(2) of one component, never out of `dir`, never through a link.
pub fn open(dir: BorrowedFd<'_>, name: &[u8], flags: i32, mode: u32) -> Result<OwnedFd> {
    let mut flags = OFlags::from_bits_retain(flags as u32) | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !flags.contains(OFlags::PATH) {
        flags |= OFlags::NOCTTY;
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(dir, name, flags, Mode::from_raw_mode(mode as RawMode), resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            r => return r.map_err(e),
        }
    }
}

pub fn mkdir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result {
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode as RawMode)).map_err(e)
}

/// mknodat(2) of a FIFO, socket or device.
pub fn mknod(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u64) -> Result {
    let kind = rustix::fs::FileType::from_raw_mode(mode as RawMode);
    rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode((mode & 0o7777) as RawMode), rdev).map_err(e)
}

pub fn symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result {
    rustix::fs::symlinkat(target, dir, name).map_err(e)
}

pub fn readlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    rustix::fs::readlinkat(dir, name, Vec::new()).map(|s| s.into_bytes()).map_err(e)
}

pub fn link(from: BorrowedFd<'_>, old: &[u8], to: BorrowedFd<'_>, new: &[u8]) -> Result {
    let flags = if old.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    rustix::fs::linkat(from, old, to, new, flags).map_err(e)
}

/// unlinkat(2); `dir_too`: of a directory.
pub fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result {
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(e)
}

pub fn rmdir(dir: BorrowedFd<'_>, name: &[u8]) -> Result {
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(e)
}

/// renameat2(2).
pub fn rename(from: BorrowedFd<'_>, old: &[u8], to: BorrowedFd<'_>, new: &[u8], flags: u32) -> Result {
    rustix::fs::renameat_with(from, old, to, new, RenameFlags::from_bits_retain(flags)).map_err(e)
}

/// fchmodat2(2) without following; an empty name is `dir` itself, which may be O_PATH.
pub fn chmod(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    // SAFETY: the name is a C string that outlives the call.
    let r = unsafe { libc::syscall(libc::SYS_fchmodat2, dir.as_raw_fd(), name.as_ptr(), mode, flags) };
    if r == 0 { Ok(()) } else { Err(crate::last()) }
}

/// fchownat(2) without following; an empty name is `dir` itself.
pub fn chown(dir: BorrowedFd<'_>, name: &[u8], uid: Option<u32>, gid: Option<u32>) -> Result {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    rustix::fs::chownat(dir, name, uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags).map_err(e)
}

/// utimensat(2); `None` leaves a time as it is.
pub fn utimens(dir: BorrowedFd<'_>, name: &[u8], atime: Option<i64>, mtime: Option<i64>) -> Result {
    let ts = |t: Option<i64>| match t {
        Some(ns) => Timespec { tv_sec: ns.div_euclid(1_000_000_000), tv_nsec: ns.rem_euclid(1_000_000_000) as _ },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT as _ },
    };
    let times = Timestamps { last_access: ts(atime), last_modification: ts(mtime) };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    rustix::fs::utimensat(dir, name, &times, flags).map_err(e)
}

pub fn ftruncate(fd: BorrowedFd<'_>, len: u64) -> Result {
    rustix::fs::ftruncate(fd, len).map_err(e)
}

pub fn fallocate(fd: BorrowedFd<'_>, mode: i32, offset: u64, len: u64) -> Result {
    rustix::fs::fallocate(fd, FallocateFlags::from_bits_retain(mode as u32), offset, len).map_err(e)
}

/// fsync(2) or fdatasync(2).
pub fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result {
    if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }.map_err(e)
}

/// lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4).
pub fn seek_data_hole(fd: BorrowedFd<'_>, offset: u64, whence: i32) -> Result<u64> {
    let from = if whence == 3 { rustix::fs::SeekFrom::Data(offset) } else { rustix::fs::SeekFrom::Hole(offset) };
    rustix::fs::seek(fd, from).map_err(e)
}

/// Names, inode numbers and types of a directory's entries, without `.` and `..`. The descriptor must not be O_PATH.
pub fn entries(fd: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, u64, u8)>> {
    rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0)).map_err(e)?;
    let mut out = Vec::new();
    let mut buf = Vec::with_capacity(32 << 10);
    let mut raw = rustix::fs::RawDir::new(fd, buf.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let d = entry.map_err(e)?;
        let name = d.file_name().to_bytes();
        if name != b"." && name != b".." {
            let kind = match d.file_type() {
                rustix::fs::FileType::Unknown => 0,
                t => (t.as_raw_mode() >> 12) as u8,
            };
            out.push((name.to_vec(), d.ino(), kind));
        }
    }
    Ok(out)
}

/// Type, block size, blocks, free, available, files, free files, name length.
pub fn statfs(fd: BorrowedFd<'_>) -> Result<[u64; 8]> {
    let s = rustix::fs::fstatfs(fd).map_err(e)?;
    Ok([s.f_type as u64, s.f_bsize as u64, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, s.f_namelen as u64])
}

/// A new file without a name in a directory nobody else sees: to write, and to read only. Two descriptions, because a
/// mapping may do what its description may, whatever it was asked for.
pub fn nameless(dir: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    const NAME: &[u8] = b"new";
    let write = open(dir, NAME, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, 0o600)?;
    let read = open(dir, NAME, libc::O_RDONLY, 0);
    unlink(dir, NAME)?;
    Ok((write, read?))
}

pub fn getxattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let mut buf = vec![0u8; 65536];
    let n = rustix::fs::fgetxattr(fd, name, &mut buf[..]).map_err(e)?;
    buf.truncate(n);
    Ok(buf)
}

pub fn setxattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: i32) -> Result {
    rustix::fs::fsetxattr(fd, name, value, XattrFlags::from_bits_retain(flags as u32)).map_err(e)
}

pub fn removexattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result {
    rustix::fs::fremovexattr(fd, name).map_err(e)
}

/// Names, each with a NUL.
pub fn listxattr(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut buf = vec![0u8; 65536];
    let n = rustix::fs::flistxattr(fd, &mut buf[..]).map_err(e)?;
    buf.truncate(n);
    Ok(buf)
}

/// Another descriptor of the same description.
pub fn dup(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(e)
}
