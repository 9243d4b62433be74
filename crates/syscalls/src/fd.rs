//! Descriptors: close(2), dup(2), fcntl(2), ioctl(2), flock(2), fsync(2), pipe(2), getdents(2).
use crate::args::{Fd, Flags, OutBuf};
use abi::fs::{CloneRange, FICLONE, FICLONERANGE, Flock};
use abi::{Errno, Result, c};
use guest::{UserIn, UserInOut, UserOut};
use kernel::cred::CAP_SYS_RESOURCE;
use kernel::wait;
use net::SocketFile;
use std::rc::Rc;
use task::Task;
use task::ns::NsAnswer;
use task::sigio;
use vfs::OpenFile;
use vfs::locks::{END, Family, Lock, Owner};

pub(crate) fn limit(t: &Task) -> u64 {
    t.process.rlimit(c::RLIMIT_NOFILE)
}

/// Installs a new file at the lowest free number.
pub(crate) fn install(t: &Task, f: Rc<OpenFile>, flags: i32) -> Result<i32> {
    vfs::file::room(1)?;
    t.files()?.add(f, flags & c::O_CLOEXEC != 0, 0, limit(t))
}

/// When the kernel itself has no more descriptors of the host, the guest's own limit is not what was reached.
pub(crate) fn host_limit(e: Errno) -> Errno {
    if e == Errno::EMFILE { Errno::ENFILE } else { e }
}

pub fn close(t: &Rc<Task>, fd: Fd) -> Result {
    let f = t.files()?.close(fd.0)?;
    t.kernel.closed(f, t.process.pid);
    Ok(())
}

pub fn close_range(t: &Rc<Task>, first: u32, last: u32, flags: Flags) -> Result {
    const UNSHARE: i32 = c::CLOSE_RANGE_UNSHARE as i32;
    const CLOEXEC: i32 = c::CLOSE_RANGE_CLOEXEC as i32;
    let flags = flags.only(UNSHARE | CLOEXEC)?;
    if first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        let own = t.files()?.fork()?;
        t.files.replace(Some(own));
    }
    let files = t.files()?;
    for fd in files.numbers(first, last) {
        if flags & CLOEXEC != 0 {
            files.set_close_on_exec(fd, true)?;
        } else {
            t.kernel.closed(files.close(fd)?, t.process.pid);
        }
    }
    Ok(())
}

pub fn dup(t: &Rc<Task>, fd: Fd) -> Result<i32> {
    let files = t.files()?;
    files.add(files.get(fd.0)?, false, 0, limit(t))
}

pub fn dup2(t: &Rc<Task>, old: Fd, new: Fd) -> Result<i32> {
    if old == new {
        return t.files()?.get(old.0).map(|_| old.0);
    }
    replace(t, old, new, false)
}

pub fn dup3(t: &Rc<Task>, old: Fd, new: Fd, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::O_CLOEXEC)?;
    if old == new {
        return Err(Errno::EINVAL);
    }
    replace(t, old, new, flags != 0)
}

fn replace(t: &Task, old: Fd, new: Fd, close_on_exec: bool) -> Result<i32> {
    let files = t.files()?;
    let f = files.get(old.0)?;
    if new.0 < 0 || new.0 as u64 >= limit(t) {
        return Err(Errno::EBADF);
    }
    let was = files.get(new.0).ok();
    files.put(new.0, f, close_on_exec, limit(t))?;
    if let Some(was) = was {
        t.kernel.closed(was, t.process.pid);
    }
    Ok(new.0)
}

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_DUPFD_QUERY: i32 = 1027;
const F_CREATED_QUERY: i32 = 1028;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
const FIOGETOWN: u64 = 0x8903;
const SIOCGPGRP: u64 = 0x8904;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

/// Flags F_SETFL may change.
const SETTABLE: i32 = c::O_APPEND | c::O_DIRECT | c::O_NOATIME | c::O_NONBLOCK;

pub async fn fcntl(t: &Rc<Task>, fd: Fd, cmd: i32, arg: u64) -> Result<i64> {
    let files = t.files()?;
    let f = files.get(fd.0)?;
    let path_only = f.flags() & c::O_PATH != 0;
    match cmd {
        c::F_DUPFD | c::F_DUPFD_CLOEXEC => {
            if arg >= limit(t) {
                return Err(Errno::EINVAL);
            }
            files.add(f, cmd == c::F_DUPFD_CLOEXEC, arg as i32, limit(t)).map(i64::from)
        }
        F_DUPFD_QUERY => Ok(Rc::ptr_eq(&f, &files.get(arg as i32)?) as i64),
        F_CREATED_QUERY => Ok(f.created() as i64),
        c::F_GETFD => Ok(files.close_on_exec(fd.0)? as i64),
        c::F_SETFD => files.set_close_on_exec(fd.0, arg as i32 & c::FD_CLOEXEC != 0).map(|()| 0),
        // O_LARGEFILE is always on for what 64-bit programs open by a name.
        c::F_GETFL => Ok((f.flags() | if path_only || f.path().is_none() { 0 } else { 0x8000 }) as i64),
        _ if path_only => Err(Errno::EBADF),
        c::F_SETFL => {
            let wanted = arg as i32;
            let only_grows = || f.path().is_some_and(|p| p.inode().attr().is_ok_and(|a| a.flagged(vfs::APPEND)));
            if (f.flags() ^ wanted) & c::O_APPEND != 0 && only_grows() {
                return Err(Errno::EPERM);
            }
            f.set_flags((f.flags() & !SETTABLE) | (wanted & SETTABLE));
            if (f.flags() ^ wanted) & c::O_ASYNC != 0 {
                // Files that do not tell keep the flag off, and nobody is told.
                let _ = t.kernel.sigio.set_async(&f, fd.0, wanted & c::O_ASYNC != 0);
            }
            Ok(0)
        }
        c::F_GETLK | c::F_SETLK | c::F_SETLKW | c::F_OFD_GETLK | c::F_OFD_SETLK | c::F_OFD_SETLKW => {
            record_lock(t, &f, cmd, UserInOut::new(arg)).await
        }
        c::F_SETOWN | c::F_GETOWN | F_SETOWN_EX | F_GETOWN_EX => owner(t, &f, cmd, arg),
        F_SETSIG => t.kernel.sigio.set_signal(&f, arg as i32).map(|()| 0),
        F_GETSIG => Ok(t.kernel.sigio.signal(&f) as i64),
        c::F_SETPIPE_SZ | c::F_GETPIPE_SZ => {
            let end = f.downcast::<ipc::pipe::PipeEnd>().ok_or(Errno::EBADF)?;
            if cmd == c::F_SETPIPE_SZ {
                let bytes = usize::try_from(arg).map_err(|_| Errno::EINVAL)?;
                end.pipe().set_capacity(bytes, t.cred().has(CAP_SYS_RESOURCE))?;
            }
            Ok(end.pipe().capacity() as i64)
        }
        c::F_GET_SEALS => f.ops().seals().map(i64::from),
        c::F_ADD_SEALS => {
            // Who may not write may not seal; and a file that cannot be sealed says so first.
            f.ops().seals()?;
            if !f.writable() {
                return Err(Errno::EPERM);
            }
            let executable = f.path().and_then(|p| p.inode().attr().ok()).is_some_and(|a| a.mode & 0o111 != 0);
            f.ops().add_seals(arg as i32, executable).map(|()| 0)
        }
        c::F_SETLEASE => crate::lease::set(t, &f, fd.0, arg).map(|()| 0),
        c::F_GETLEASE => crate::lease::get(&f),
        c::F_NOTIFY => crate::lease::notify(t, &f, fd.0, arg as u32).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// F_SETOWN and its kin: who gets SIGIO.
fn owner(t: &Rc<Task>, f: &Rc<OpenFile>, cmd: i32, arg: u64) -> Result<i64> {
    const F_OWNER_TID: i32 = 0;
    const F_OWNER_PID: i32 = 1;
    const F_OWNER_PGRP: i32 = 2;
    use sigio::Owner;
    let (told, mem) = (&t.kernel.sigio, t.mem());
    let set = |kind: i32, id: i32| {
        let (there, owner) = match kind {
            F_OWNER_TID => (t.find_task(id).is_some(), Owner::Thread(id)),
            F_OWNER_PID => (t.find_process(id).is_some(), Owner::Process(id)),
            F_OWNER_PGRP => (!t.find_group(id).is_empty(), Owner::Group(id)),
            _ => return Err(Errno::EINVAL),
        };
        if id != 0 && !there {
            return Err(Errno::ESRCH);
        }
        told.set_owner(f, if id == 0 { Owner::Nobody } else { owner }, t.cred());
        Ok(0)
    };
    let (kind, id) = match told.owner(f) {
        Owner::Nobody => (F_OWNER_TID, 0),
        Owner::Thread(id) => (F_OWNER_TID, id),
        Owner::Process(id) => (F_OWNER_PID, id),
        Owner::Group(id) => (F_OWNER_PGRP, id),
    };
    match cmd {
        c::F_SETOWN => match arg as i32 {
            i32::MIN => Err(Errno::EINVAL),
            id if id < 0 => set(F_OWNER_PGRP, -id),
            id => set(F_OWNER_PID, id),
        },
        F_SETOWN_EX => {
            let [kind, id]: [i32; 2] = guest::UserIn::new(arg).get(&*mem)?;
            set(kind, id)
        }
        F_GETOWN_EX => UserOut::new(arg).put(&*mem, &[kind, id]).map(|()| 0),
        _ => Ok(if kind == F_OWNER_PGRP { -id as i64 } else { id as i64 }),
    }
}

fn id_of(f: &OpenFile) -> Result<(u64, u64)> {
    let a = f.path().ok_or(Errno::EBADF)?.inode().attr()?;
    Ok((a.dev, a.ino))
}

async fn record_lock(t: &Rc<Task>, f: &Rc<OpenFile>, cmd: i32, arg: UserInOut<Flock>) -> Result<i64> {
    let mem = t.mem();
    let mut l = arg.get(&*mem)?;
    let ofd = matches!(cmd, c::F_OFD_GETLK | c::F_OFD_SETLK | c::F_OFD_SETLKW);
    if ofd && l.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let base = match l.whence as i32 {
        c::SEEK_SET => 0,
        c::SEEK_CUR => f.pos() as i64,
        c::SEEK_END => f.ops().size()? as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(l.start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match l.len {
        0 => (start, None),
        n if n > 0 => (start, Some(start.checked_add(n).ok_or(Errno::EOVERFLOW)?)),
        n => (start + n, Some(start)),
    };
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let range = start as u64..end.map_or(END, |e| e as u64);
    let owner = if ofd { Owner::Description(Rc::as_ptr(f) as usize) } else { Owner::Process(t.process.pid) };
    let id = id_of(f)?;
    let locks = &t.kernel.locks;
    let exclusive = match l.kind as i32 {
        c::F_RDLCK => false,
        c::F_WRLCK => true,
        c::F_UNLCK if !matches!(cmd, c::F_GETLK | c::F_OFD_GETLK) => {
            locks.unlock(id, Family::Record, owner, &range);
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    let want = Lock { owner, exclusive, range };
    if matches!(cmd, c::F_GETLK | c::F_OFD_GETLK) {
        match locks.conflict(id, Family::Record, &want) {
            None => l.kind = c::F_UNLCK as i16,
            Some(other) => {
                l.kind = if other.exclusive { c::F_WRLCK } else { c::F_RDLCK } as i16;
                l.whence = c::SEEK_SET as i16;
                l.start = other.range.start as i64;
                l.len = if other.range.end == END { 0 } else { (other.range.end - other.range.start) as i64 };
                l.pid = match other.owner {
                    Owner::Process(p) => p,
                    Owner::Description(_) => -1,
                };
            }
        }
        arg.put(&*mem, &l)?;
        return Ok(0);
    }
    if (exclusive && !f.writable()) || (!exclusive && !f.readable()) {
        return Err(Errno::EBADF);
    }
    let wait = matches!(cmd, c::F_SETLKW | c::F_OFD_SETLKW);
    take(t, id, Family::Record, want, wait).await.map(|()| 0)
}

async fn take(t: &Rc<Task>, id: (u64, u64), family: Family, want: Lock, wait: bool) -> Result {
    let locks = &t.kernel.locks;
    match locks.lock(id, family, want.clone()) {
        Err(Errno::EAGAIN) if wait => {}
        r => return r,
    }
    wait::settle().await;
    let record = family == Family::Record;
    let _waiting = record.then(|| locks.wait(id, want.clone()));
    wait::until(&[&locks.released], None, || match locks.lock(id, family, want.clone()) {
        Err(Errno::EAGAIN) if record && locks.deadlock(id, &want) => Some(Err(Errno::EDEADLK)),
        Err(Errno::EAGAIN) => None,
        r => Some(r),
    })
    .await
    .map_err(|_| Errno::ERESTARTSYS)?
}

pub async fn flock(t: &Rc<Task>, fd: Fd, op: i32) -> Result {
    let f = t.files()?.get(fd.0)?;
    let id = id_of(&f)?;
    let owner = Owner::Description(Rc::as_ptr(&f) as usize);
    let exclusive = match op & !c::LOCK_NB {
        c::LOCK_SH => false,
        c::LOCK_EX => true,
        c::LOCK_UN => {
            t.kernel.locks.unlock(id, Family::Flock, owner, &(0..END));
            return Ok(());
        }
        _ => return Err(Errno::EINVAL),
    };
    let want = Lock { owner, exclusive, range: 0..END };
    take(t, id, Family::Flock, want, op & c::LOCK_NB == 0).await
}

/// Has a file written to where it is kept.
pub(crate) async fn sync_file(f: &OpenFile, data_only: bool) -> Result {
    match f.ops().slow_sync() {
        Some(fd) => kernel::helper::sync(fd?, data_only).await,
        None => f.ops().sync(data_only),
    }
}

pub async fn fsync(t: &Rc<Task>, fd: Fd) -> Result {
    let f = t.files()?.get(fd.0)?;
    sync_file(&f, false).await
}

pub async fn fdatasync(t: &Rc<Task>, fd: Fd) -> Result {
    let f = t.files()?.get(fd.0)?;
    sync_file(&f, true).await
}

const SYNC_FILE_RANGE_WAIT_BEFORE: i32 = 1;
const SYNC_FILE_RANGE_WRITE: i32 = 2;
const SYNC_FILE_RANGE_WAIT_AFTER: i32 = 4;

/// sync_file_range(2): where waiting is asked for, all of the file's data is written, not only the range.
pub async fn sync_file_range(t: &Rc<Task>, fd: Fd, offset: i64, count: i64, flags: Flags) -> Result {
    let waits = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let flags = flags.only(waits | SYNC_FILE_RANGE_WRITE)?;
    if offset < 0 || count < 0 || offset.checked_add(count).is_none() {
        return Err(Errno::EINVAL);
    }
    let attr = f.path().ok_or(Errno::ESPIPE)?.inode().attr()?;
    if !attr.is_file() && !attr.is_dir() && attr.kind() != c::S_IFBLK {
        return Err(Errno::ESPIPE);
    }
    if flags & waits == 0 { Ok(()) } else { sync_file(&f, true).await }
}

pub fn sync(_t: &Rc<Task>) -> Result {
    Ok(())
}

pub fn syncfs(t: &Rc<Task>, fd: Fd) -> Result {
    t.files()?.get(fd.0).map(|_| ())
}

pub fn fadvise64(t: &Rc<Task>, fd: Fd, _offset: i64, len: i64, advice: i32) -> Result {
    let f = t.files()?.get(fd.0)?;
    if !f.ops().seekable() {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || !(0..=5).contains(&advice) { Err(Errno::EINVAL) } else { Ok(()) }
}

pub fn readahead(t: &Rc<Task>, fd: Fd, _offset: i64, _count: usize) -> Result {
    let f = t.files()?.get(fd.0)?;
    if !f.readable() {
        return Err(Errno::EBADF);
    }
    let kind = f.path().and_then(|p| p.inode().kind().ok());
    if matches!(kind, Some(c::S_IFREG | c::S_IFBLK)) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// cachestat(2), of offset and length (0: to the end). Pages in memory are never dirty, written back or evicted.
pub fn cachestat(t: &Rc<Task>, fd: Fd, range: UserIn<[u64; 2]>, out: UserOut<[u64; 5]>, flags: Flags) -> Result {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let mem = t.mem();
    let [start, len] = range.get(&*mem)?;
    flags.only(0)?;
    let page = |at: u64| at & !(abi::PAGE_SIZE - 1);
    let end = if len == 0 { u64::MAX } else { start.saturating_add(len - 1) };
    let cached = f.ops().cached(page(start)..page(end).saturating_add(abi::PAGE_SIZE))?;
    out.put(&*mem, &[cached, 0, 0, 0, 0])
}

pub fn ftruncate(t: &Rc<Task>, fd: Fd, len: i64) -> Result {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if len < 0 || !f.writable() {
        return Err(Errno::EINVAL);
    }
    crate::io::may_be_long(t, len as u64)?;
    f.ops().truncate(len as u64)?;
    f.told(c::IN_MODIFY);
    Ok(())
}

pub fn fallocate(t: &Rc<Task>, fd: Fd, mode: i32, offset: i64, len: i64) -> Result {
    let f = t.files()?.get(fd.0)?;
    if !f.writable() {
        return Err(Errno::EBADF);
    }
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    if offset.checked_add(len).is_none() {
        return Err(Errno::EFBIG);
    }
    if !f.ops().seekable() {
        return Err(Errno::ESPIPE);
    }
    if !f.ops().has_fixed_size() {
        crate::io::may_be_long(t, offset as u64 + len as u64)?;
    }
    f.ops().allocate(mode, offset as u64, len as u64)?;
    f.told(c::IN_MODIFY);
    Ok(())
}

/// ioctl(2): the few that belong to every descriptor, and to terminals' job control; the rest is the file's.
pub fn ioctl(t: &Rc<Task>, fd: Fd, cmd: u32, arg: u64) -> Result<i64> {
    let files = t.files()?;
    let f = files.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let mem = t.mem();
    match cmd as u64 {
        c::FIOCLEX => files.set_close_on_exec(fd.0, true).map(|()| 0),
        c::FIONCLEX => files.set_close_on_exec(fd.0, false).map(|()| 0),
        c::FIOASYNC => {
            let on: i32 = guest::UserIn::new(arg).get(&*mem)?;
            t.kernel.sigio.set_async(&f, fd.0, on != 0).map(|()| 0)
        }
        c::FIONBIO => {
            let on: i32 = guest::UserIn::new(arg).get(&*mem)?;
            let flags = f.flags() & !c::O_NONBLOCK;
            f.set_flags(if on != 0 { flags | c::O_NONBLOCK } else { flags });
            Ok(0)
        }
        FICLONE => crate::splice::clone_file(t, &f, i64::from(arg as i32)),
        FICLONERANGE => {
            let range: CloneRange = guest::UserIn::new(arg).get(&*mem)?;
            crate::splice::clone_file(t, &f, range.src_fd)
        }
        FIOSETOWN | SIOCSPGRP if f.downcast::<SocketFile>().is_some() => {
            let id: i32 = guest::UserIn::new(arg).get(&*mem)?;
            owner(t, &f, c::F_SETOWN, id as u64)
        }
        FIOGETOWN | SIOCGPGRP if f.downcast::<SocketFile>().is_some() => {
            let id = owner(t, &f, c::F_GETOWN, 0)? as i32;
            guest::UserOut::new(arg).put(&*mem, &id).map(|()| 0)
        }
        _ if let Some(done) = crate::tty::ioctl(t, &f, cmd, arg) => done,
        _ if let Some(done) = crate::block::ioctl(t, &f, cmd, arg) => done,
        c::TIOCGPGRP | c::TIOCSPGRP | c::TIOCGSID | c::TIOCSCTTY | c::TIOCNOTTY => {
            let terminal = f.downcast::<ipc::stdio::HostStream>().is_some_and(|s| s.is_terminal());
            if !terminal {
                return Err(Errno::ENOTTY);
            }
            match cmd as u64 {
                c::TIOCGPGRP => UserOut::new(arg).put(&*mem, &t.kernel.foreground.get()),
                c::TIOCGSID => UserOut::new(arg).put(&*mem, &1i32),
                c::TIOCSPGRP => {
                    let group: i32 = guest::UserIn::new(arg).get(&*mem)?;
                    if t.find_group(group).is_empty() {
                        return Err(Errno::ESRCH);
                    }
                    t.kernel.foreground.set(group);
                    Ok(())
                }
                _ => Ok(()),
            }
            .map(|()| 0)
        }
        _ if let Some(done) = crate::file_attr::ioctl(t, &f, cmd, arg) => done,
        _ if let Some(of) = f.downcast::<task::pidfd::PidFd>() => crate::pidfd::ioctl(t, of, cmd, arg),
        _ if let Some(ns) = f.downcast::<task::ns::NsFile>() => match ns.ioctl(t, cmd)? {
            NsAnswer::File(f) => install(t, f, c::O_CLOEXEC).map(i64::from),
            NsAnswer::Number(n) => Ok(i64::from(n)),
            NsAnswer::Uid(id) => UserOut::new(arg).put(&*mem, &id).map(|()| 0),
            NsAnswer::Id(id) => UserOut::new(arg).put(&*mem, &id).map(|()| 0),
            // Who goes on to the next need not be told of it.
            NsAnswer::Mounts(None, _) if arg == 0 => Err(Errno::EINVAL),
            NsAnswer::Mounts(file, info) => {
                UserOut::new(arg).put_opt(&*mem, &info)?;
                file.map_or(Ok(0), |f| install(t, f, c::O_CLOEXEC).map(i64::from))
            }
        },
        _ => f.ops().ioctl(&f, &*mem, cmd, arg),
    }
}

pub fn pipe(t: &Rc<Task>, out: UserOut<[i32; 2]>) -> Result {
    pipe2(t, out, Flags(0))
}

pub fn pipe2(t: &Rc<Task>, out: UserOut<[i32; 2]>, flags: Flags) -> Result {
    let flags = flags.only(c::O_CLOEXEC | c::O_NONBLOCK | c::O_DIRECT)?;
    let (r, w) = ipc::pipe::pipe(flags & !c::O_CLOEXEC, t.cred().has(CAP_SYS_RESOURCE))?;
    let files = t.files()?;
    let a = install(t, r, flags)?;
    let b = match install(t, w, flags) {
        Ok(b) => b,
        Err(e) => {
            drop(files.close(a));
            return Err(e);
        }
    };
    out.put(&*t.mem(), &[a, b]).inspect_err(|_| {
        drop(files.close(a));
        drop(files.close(b));
    })
}

pub fn getdents64(t: &Rc<Task>, fd: Fd, buf: OutBuf<2>, count: usize) -> Result<usize> {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let room = count.min(1 << 16);
    let mut out: Vec<u8> = Vec::with_capacity(room);
    let mut next = f.pos();
    let mut small = false;
    f.ops().readdir(&f, f.pos(), &mut |e| {
        let len = (19 + e.name.len() + 1).next_multiple_of(8);
        if out.len() + len > room {
            small = out.is_empty();
            return false;
        }
        let end = out.len() + len;
        out.extend_from_slice(&e.ino.to_ne_bytes());
        out.extend_from_slice(&e.next.to_ne_bytes());
        out.extend_from_slice(&(len as u16).to_ne_bytes());
        out.push(e.kind);
        out.extend_from_slice(&e.name);
        out.resize(end, 0);
        next = e.next;
        true
    })?;
    if f.path().is_some_and(|p| p.dentry.removed.get()) {
        return Err(Errno::ENOENT);
    }
    if small {
        return Err(Errno::EINVAL);
    }
    t.mem().write(buf.0, &out)?;
    f.told(c::IN_ACCESS);
    f.set_pos(next);
    Ok(out.len())
}
