//! Bytes through descriptors: read(2), write(2) and their kin, lseek(2).
use crate::args::{Fd, Flags, InBuf, InVec, OutBuf};
use crate::message;
use abi::signal::SigInfo;
use abi::sys::Iovec;
use abi::{Errno, Result, c};
use guest::{UserIn, UserSink, UserSource};
use kernel::wait::{self, Stop, WaitQueue};
use net::{Outgoing, SocketFile};
use std::rc::Rc;
use task::Task;
use vfs::{OpenFile, Ready};

/// The most one call moves (MAX_RW_COUNT).
pub(crate) const MAX: usize = 0x7fff_f000;
const IOV_MAX: usize = 1024;

/// Waits until the file may be ready; EAGAIN if it must not wait, ERESTARTSYS on a signal.
async fn wait_ready(f: &Rc<OpenFile>, want: Ready) -> Result {
    if f.nonblocking() {
        return Err(Errno::EAGAIN);
    }
    let Some(q) = f.ops().waiters() else { return Err(Errno::EAGAIN) };
    let queues: [&WaitQueue; 1] = [q];
    // A terminal's master still takes bytes, or must wait, when nobody has the slave open.
    let end = if f.downcast::<ipc::tty::Master>().is_some() { Ready::empty() } else { Ready::ERR | Ready::HUP };
    let look = || f.ops().ready().intersects(want | end).then_some(());
    // A socket may have been given a timeout.
    let timeout = f.downcast::<SocketFile>().and_then(|s| s.socket().timeouts().0);
    let deadline = timeout.map(|ns| host::time::monotonic_ns().saturating_add(ns));
    wait::until(&queues, deadline, look).await.map_err(|stop| match stop {
        Stop::TimedOut => Errno::EAGAIN,
        Stop::Interrupted => crate::socket::interrupted(deadline),
    })
}

async fn read_at(t: &Rc<Task>, f: &Rc<OpenFile>, bufs: &[(u64, usize)], offset: Option<u64>) -> Result<usize> {
    let mem = t.mem();
    let too_late = crate::tty::before_read(t, f, bufs.iter().map(|b| b.1).sum()).await?;
    // What is read there is gone from the file.
    let good = if f.ops().seekable() { usize::MAX } else { crate::memory::writable(t, bufs) };
    loop {
        let pos = offset.unwrap_or_else(|| f.pos());
        let mut dst = UserSink::up_to(&*mem, bufs, good);
        match f.ops().read(f, &mut dst, pos) {
            Err(Errno::EAGAIN) if too_late => return Ok(0),
            Err(Errno::EAGAIN) => wait_ready(f, Ready::IN).await?,
            Ok(n) => {
                if offset.is_none() {
                    f.set_pos(pos + n as u64);
                }
                if n > 0 {
                    f.told(c::IN_ACCESS);
                }
                return Ok(n);
            }
            Err(Errno::EINVAL) if f.path().is_some_and(|p| p.inode().attr().is_ok_and(|a| a.is_dir())) => {
                return Err(Errno::EISDIR);
            }
            Err(e) => return Err(e),
        }
    }
}

async fn write_at(t: &Rc<Task>, f: &Rc<OpenFile>, bufs: &[(u64, usize)], offset: Option<u64>) -> Result<usize> {
    let mem = t.mem();
    let total: usize = bufs.iter().map(|b| b.1).sum();
    crate::tty::before_write(t, f).await?;
    let stream = !f.ops().seekable();
    if stream && f.downcast::<SocketFile>().is_some() {
        return message::send(t, f, bufs, Outgoing::default()).await;
    }
    let grows = !stream && !f.ops().has_fixed_size();
    if stream && !f.nonblocking() && !f.ops().takes_whole(total) {
        // A long write goes in parts: each is done once.
        wait::settle().await;
    }
    let mut done = 0;
    loop {
        let pos = offset.unwrap_or_else(|| f.pos()) + if offset.is_some() { done as u64 } else { 0 };
        let room = if !grows || total == 0 { total } else { may_grow(t, || Ok(pos.max(end_if_append(f)?)), total)? };
        let rest = part(bufs, done, room);
        let mut src = UserSource::new(&*mem, &rest);
        match f.ops().write(f, &mut src, pos) {
            Ok(n) => {
                done += n;
                if n > 0 {
                    f.told(c::IN_MODIFY);
                }
                if offset.is_none() && !stream {
                    let append = grows && f.flags() & c::O_APPEND != 0;
                    f.set_pos(if append { f.ops().size()? } else { pos + n as u64 });
                } else if offset.is_none() {
                    f.set_pos(pos + n as u64);
                }
                if done >= total || n == 0 || !stream || f.nonblocking() {
                    return Ok(done);
                }
            }
            Err(Errno::EAGAIN) => match wait_ready(f, Ready::OUT).await {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            },
            Err(Errno::EPIPE) => {
                t.signal(SigInfo::new(c::SIGPIPE, c::SI_USER));
                return if done > 0 { Ok(done) } else { Err(Errno::EPIPE) };
            }
            Err(_) if done > 0 => return Ok(done),
            Err(e) => return Err(e),
        }
    }
}

fn end_if_append(f: &OpenFile) -> Result<u64> {
    if f.flags() & c::O_APPEND != 0 { f.ops().size() } else { Ok(0) }
}

/// How many of `len` bytes at `pos` RLIMIT_FSIZE lets a file take; EFBIG and SIGXFSZ if none.
pub(crate) fn may_grow(t: &Task, pos: impl FnOnce() -> Result<u64>, len: usize) -> Result<usize> {
    let limit = t.process.rlimit(c::RLIMIT_FSIZE);
    if limit == task::RLIM_INFINITY {
        return Ok(len);
    }
    let pos = pos()?;
    if pos < limit {
        return Ok((limit - pos).min(len as u64) as usize);
    }
    t.signal(SigInfo::new(c::SIGXFSZ, c::SI_KERNEL));
    Err(Errno::EFBIG)
}

/// Checks a new file size against RLIMIT_FSIZE: EFBIG and SIGXFSZ beyond it.
pub(crate) fn may_be_long(t: &Task, len: u64) -> Result {
    if len > 0 { may_grow(t, || Ok(len - 1), 1).map(drop) } else { Ok(()) }
}

/// The buffers without their first `from` bytes, and of those after them at most `len`.
fn part(bufs: &[(u64, usize)], mut from: usize, mut len: usize) -> std::borrow::Cow<'_, [(u64, usize)]> {
    if from == 0 && bufs.iter().map(|b| b.1).sum::<usize>() <= len {
        return bufs.into();
    }
    let mut out = Vec::with_capacity(bufs.len());
    for (addr, size) in bufs {
        let skipped = from.min(*size);
        let taken = (size - skipped).min(len);
        from -= skipped;
        len -= taken;
        if taken > 0 {
            out.push((addr + skipped as u64, taken));
        }
    }
    out.into()
}

pub(crate) fn readable(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.readable() { Ok(f) } else { Err(Errno::EBADF) }
}

pub(crate) fn writable(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.writable() { Ok(f) } else { Err(Errno::EBADF) }
}

/// A position argument: EINVAL below zero, ESPIPE for streams.
pub(crate) fn position(f: &OpenFile, offset: i64) -> Result<u64> {
    if offset < 0 {
        return Err(Errno::EINVAL);
    }
    if f.ops().seekable() { Ok(offset as u64) } else { Err(Errno::ESPIPE) }
}

pub async fn read(t: &Rc<Task>, fd: Fd, buf: OutBuf<2>, count: usize) -> Result<usize> {
    let f = readable(t, fd)?;
    read_at(t, &f, &[(buf.0, count.min(MAX))], None).await
}

pub async fn write(t: &Rc<Task>, fd: Fd, buf: InBuf<2>, count: usize) -> Result<usize> {
    let f = writable(t, fd)?;
    write_at(t, &f, &[(buf.0, count.min(MAX))], None).await
}

pub async fn pread64(t: &Rc<Task>, fd: Fd, buf: OutBuf<2>, count: usize, offset: i64) -> Result<usize> {
    let at = position(&*t.files()?.get(fd.0)?, offset)?;
    let f = readable(t, fd)?;
    read_at(t, &f, &[(buf.0, count.min(MAX))], Some(at)).await
}

pub async fn pwrite64(t: &Rc<Task>, fd: Fd, buf: InBuf<2>, count: usize, offset: i64) -> Result<usize> {
    let at = position(&*t.files()?.get(fd.0)?, offset)?;
    let f = writable(t, fd)?;
    write_at(t, &f, &[(buf.0, count.min(MAX))], Some(at)).await
}

pub(crate) fn vector(t: &Task, iov: UserIn<Iovec>, n: usize) -> Result<Vec<(u64, usize)>> {
    if n > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let mut left = MAX;
    iov.get_array(&*t.mem(), n)?
        .into_iter()
        .map(|v| {
            if v.len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            let len = (v.len as usize).min(left);
            left -= len;
            Ok((v.base, len))
        })
        .collect()
}

pub async fn readv(t: &Rc<Task>, fd: Fd, iov: UserIn<Iovec>, n: usize) -> Result<usize> {
    let f = readable(t, fd)?;
    let bufs = vector(t, iov, n)?;
    read_at(t, &f, &bufs, None).await
}

pub async fn writev(t: &Rc<Task>, fd: Fd, iov: InVec<2>, n: usize) -> Result<usize> {
    let f = writable(t, fd)?;
    let bufs = vector(t, UserIn::new(iov.0), n)?;
    write_at(t, &f, &bufs, None).await
}

pub async fn preadv(t: &Rc<Task>, fd: Fd, iov: UserIn<Iovec>, n: usize, offset: i64) -> Result<usize> {
    let at = position(&*t.files()?.get(fd.0)?, offset)?;
    let (f, bufs) = (readable(t, fd)?, vector(t, iov, n)?);
    read_at(t, &f, &bufs, Some(at)).await
}

pub async fn pwritev(t: &Rc<Task>, fd: Fd, iov: InVec<2>, n: usize, offset: i64) -> Result<usize> {
    let at = position(&*t.files()?.get(fd.0)?, offset)?;
    let (f, bufs) = (writable(t, fd)?, vector(t, UserIn::new(iov.0), n)?);
    write_at(t, &f, &bufs, Some(at)).await
}

/// preadv2(2). Offset -1: where the file stands.
pub async fn preadv2(
    t: &Rc<Task>,
    fd: Fd,
    iov: UserIn<Iovec>,
    n: usize,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> Result<usize> {
    let at = if offset == -1 { None } else { Some(position(&*t.files()?.get(fd.0)?, offset)?) };
    let f = readable(t, fd)?;
    let bufs = vector(t, iov, n)?;
    read_with(t, &f, &bufs, at, flags).await
}

/// What may be asked for of a single operation. EOPNOTSUPP: something else is.
pub(crate) fn known(flags: Flags) -> Result<i32> {
    const KNOWN: i32 = c::RWF_HIPRI | c::RWF_DSYNC | c::RWF_SYNC | c::RWF_NOWAIT | c::RWF_APPEND;
    flags.only(KNOWN).map_err(|_| Errno::EOPNOTSUPP)
}

/// Reads as `flags` (RWF_NOWAIT and its kin) say.
pub(crate) async fn read_with(
    t: &Rc<Task>,
    f: &Rc<OpenFile>,
    bufs: &[(u64, usize)],
    at: Option<u64>,
    flags: Flags,
) -> Result<usize> {
    if known(flags)? & c::RWF_NOWAIT == 0 {
        return read_at(t, f, bufs, at).await;
    }
    let mem = t.mem();
    let pos = at.unwrap_or_else(|| f.pos());
    let n = f.ops().read(f, &mut UserSink::new(&*mem, bufs), pos)?;
    if at.is_none() {
        f.set_pos(pos + n as u64);
    }
    Ok(n)
}

pub async fn pwritev2(
    t: &Rc<Task>,
    fd: Fd,
    iov: InVec<2>,
    n: usize,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> Result<usize> {
    let at = if offset == -1 { None } else { Some(position(&*t.files()?.get(fd.0)?, offset)?) };
    let f = writable(t, fd)?;
    let bufs = vector(t, UserIn::new(iov.0), n)?;
    write_with(t, &f, &bufs, at, flags).await
}

/// Writes as `flags` say: RWF_APPEND at the end wherever the offset points; RWF_DSYNC and RWF_SYNC sync what was written.
pub(crate) async fn write_with(
    t: &Rc<Task>,
    f: &Rc<OpenFile>,
    bufs: &[(u64, usize)],
    mut at: Option<u64>,
    flags: Flags,
) -> Result<usize> {
    const SYNCS: i32 = c::RWF_DSYNC | c::RWF_SYNC;
    let flags = known(flags)?;
    let sync = flags & SYNCS != 0 && f.ops().seekable();
    if sync {
        wait::settle().await;
    }
    let append = flags & c::RWF_APPEND != 0 && f.ops().seekable() && !f.ops().has_fixed_size();
    let moves = append && at.is_none();
    if append {
        at = Some(f.ops().size()?);
    }
    let n = if flags & c::RWF_NOWAIT != 0 && !f.ops().seekable() {
        let mem = t.mem();
        f.ops().write(f, &mut UserSource::new(&*mem, bufs), 0)?
    } else {
        write_at(t, f, bufs, at).await?
    };
    if let Some(end) = at.filter(|_| moves) {
        f.set_pos(end + n as u64);
    }
    if sync {
        crate::fd::sync_file(f, flags & c::RWF_SYNC == 0).await?;
    }
    Ok(n)
}

pub fn lseek(t: &Rc<Task>, fd: Fd, offset: i64, whence: i32) -> Result<u64> {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if !f.ops().seekable() {
        return Err(Errno::ESPIPE);
    }
    if !f.ops().has_positions() && (0..=c::SEEK_HOLE).contains(&whence) {
        return Ok(0);
    }
    let base = match whence {
        c::SEEK_SET => 0,
        c::SEEK_CUR => f.pos(),
        c::SEEK_END => f.ops().size().or(Err(Errno::EINVAL))?,
        c::SEEK_DATA | c::SEEK_HOLE => {
            if offset < 0 {
                return Err(Errno::ENXIO);
            }
            let at = f.ops().seek_data_hole(offset as u64, whence)?;
            f.set_pos(at);
            return Ok(at);
        }
        _ => return Err(Errno::EINVAL),
    };
    let to = (base as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    let to = u64::try_from(to).map_err(|_| Errno::EINVAL)?;
    if f.ops().has_fixed_size() && to > f.ops().size()? {
        return Err(Errno::EINVAL);
    }
    f.set_pos(to);
    Ok(to)
}
