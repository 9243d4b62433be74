//! Bytes through descriptors: read(2), write(2) and their kin, lseek(2), sendfile(2), copy_file_range(2).
use crate::args::{Fd, Flags, InBuf, OutBuf};
use abi::signal::SigInfo;
use abi::sys::Iovec;
use abi::{Errno, Result, c};
use guest::io::{SliceSink, SliceSource};
use guest::{UserIn, UserInOut, UserSink, UserSource};
use kernel::wait::{self, WaitQueue};
use std::rc::Rc;
use task::Task;
use vfs::{OpenFile, Ready};

/// The most one call moves (MAX_RW_COUNT).
const MAX: usize = 0x7fff_f000;
const IOV_MAX: usize = 1024;

/// Waits until the file may be ready; EAGAIN if it must not wait, ERESTARTSYS on a signal.
async fn wait_ready(f: &Rc<OpenFile>, want: Ready) -> Result {
    if f.nonblocking() {
        return Err(Errno::EAGAIN);
    }
    let Some(q) = f.ops().waiters() else { return Err(Errno::EAGAIN) };
    let queues: [&WaitQueue; 1] = [q];
    let look = || f.ops().ready().intersects(want | Ready::ERR | Ready::HUP).then_some(());
    wait::until(&queues, None, look).await.map_err(|_| Errno::ERESTARTSYS)
}

async fn read_at(t: &Rc<Task>, f: &Rc<OpenFile>, bufs: &[(u64, usize)], offset: Option<u64>) -> Result<usize> {
    let mem = t.mem();
    loop {
        let pos = offset.unwrap_or_else(|| f.pos());
        let mut dst = UserSink::new(&*mem, bufs);
        match f.ops().read(f, &mut dst, pos) {
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
    let stream = !f.ops().seekable();
    if stream && !f.nonblocking() && !f.ops().takes_whole(total) {
        // A long write goes in parts: each is done once.
        wait::settle().await;
    }
    let mut done = 0;
    loop {
        let pos = offset.unwrap_or_else(|| f.pos()) + if offset.is_some() { done as u64 } else { 0 };
        let room = if stream || total == 0 { total } else { may_grow(t, || Ok(pos.max(end_if_append(f)?)), total)? };
        let rest = part(bufs, done, room);
        let mut src = UserSource::new(&*mem, &rest);
        match f.ops().write(f, &mut src, pos) {
            Ok(n) => {
                done += n;
                if n > 0 {
                    f.told(c::IN_MODIFY);
                }
                if offset.is_none() && !stream {
                    let append = f.flags() & c::O_APPEND != 0;
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
fn may_grow(t: &Task, pos: impl FnOnce() -> Result<u64>, len: usize) -> Result<usize> {
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

fn readable(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.readable() { Ok(f) } else { Err(Errno::EBADF) }
}

fn writable(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.writable() { Ok(f) } else { Err(Errno::EBADF) }
}

/// A position argument: EINVAL below zero, ESPIPE for streams.
fn position(f: &OpenFile, offset: i64) -> Result<u64> {
    if offset < 0 {
        return Err(Errno::EINVAL);
    }
    if f.ops().seekable() { Ok(offset as u64) } else { Err(Errno::ESPIPE) }
}

/// recvfrom(2) on a stream: MSG_DONTWAIT is O_NONBLOCK for one call.
pub(crate) async fn read_message(t: &Rc<Task>, f: &Rc<OpenFile>, addr: u64, len: usize, flags: i32) -> Result<usize> {
    if flags & c::MSG_DONTWAIT == 0 {
        return read_at(t, f, &[(addr, len.min(MAX))], None).await;
    }
    let mem = t.mem();
    let bufs = [(addr, len.min(MAX))];
    f.ops().read(f, &mut UserSink::new(&*mem, &bufs), 0)
}

/// sendto(2) on a stream: MSG_NOSIGNAL spares the SIGPIPE.
pub(crate) async fn write_message(t: &Rc<Task>, f: &Rc<OpenFile>, addr: u64, len: usize, flags: i32) -> Result<usize> {
    if flags == 0 {
        return write_at(t, f, &[(addr, len.min(MAX))], None).await;
    }
    let mem = t.mem();
    let bufs = [(addr, len.min(MAX))];
    loop {
        match f.ops().write(f, &mut UserSource::new(&*mem, &bufs), 0) {
            Err(Errno::EAGAIN) if flags & c::MSG_DONTWAIT == 0 => wait_ready(f, Ready::OUT).await?,
            Err(Errno::EPIPE) if flags & c::MSG_NOSIGNAL == 0 => {
                t.signal(SigInfo::new(c::SIGPIPE, c::SI_USER));
                return Err(Errno::EPIPE);
            }
            r => return r,
        }
    }
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
    let f = readable(t, fd)?;
    let at = position(&f, offset)?;
    read_at(t, &f, &[(buf.0, count.min(MAX))], Some(at)).await
}

pub async fn pwrite64(t: &Rc<Task>, fd: Fd, buf: InBuf<2>, count: usize, offset: i64) -> Result<usize> {
    let f = writable(t, fd)?;
    let at = position(&f, offset)?;
    write_at(t, &f, &[(buf.0, count.min(MAX))], Some(at)).await
}

fn vector(t: &Task, iov: UserIn<Iovec>, n: usize) -> Result<Vec<(u64, usize)>> {
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

pub async fn writev(t: &Rc<Task>, fd: Fd, iov: UserIn<Iovec>, n: usize) -> Result<usize> {
    let f = writable(t, fd)?;
    let bufs = vector(t, iov, n)?;
    write_at(t, &f, &bufs, None).await
}

pub async fn preadv(t: &Rc<Task>, fd: Fd, iov: UserIn<Iovec>, n: usize, offset: i64) -> Result<usize> {
    let f = readable(t, fd)?;
    let (at, bufs) = (position(&f, offset)?, vector(t, iov, n)?);
    read_at(t, &f, &bufs, Some(at)).await
}

pub async fn pwritev(t: &Rc<Task>, fd: Fd, iov: UserIn<Iovec>, n: usize, offset: i64) -> Result<usize> {
    let f = writable(t, fd)?;
    let (at, bufs) = (position(&f, offset)?, vector(t, iov, n)?);
    write_at(t, &f, &bufs, Some(at)).await
}

/// preadv2(2): the flags only advise, but RWF_NOWAIT, which would have to be kept.
pub async fn preadv2(
    t: &Rc<Task>,
    fd: Fd,
    iov: UserIn<Iovec>,
    n: usize,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> Result<usize> {
    flags.only(c::RWF_HIPRI).map_err(|_| Errno::EOPNOTSUPP)?;
    if offset == -1 { readv(t, fd, iov, n).await } else { preadv(t, fd, iov, n, offset).await }
}

pub async fn pwritev2(
    t: &Rc<Task>,
    fd: Fd,
    iov: UserIn<Iovec>,
    n: usize,
    offset: i64,
    _high: u64,
    flags: Flags,
) -> Result<usize> {
    flags.only(c::RWF_HIPRI).map_err(|_| Errno::EOPNOTSUPP)?;
    if offset == -1 { writev(t, fd, iov, n).await } else { pwritev(t, fd, iov, n, offset).await }
}

pub fn lseek(t: &Rc<Task>, fd: Fd, offset: i64, whence: i32) -> Result<u64> {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if !f.ops().seekable() {
        return Err(Errno::ESPIPE);
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
    f.set_pos(to);
    Ok(to)
}

/// Moves up to `len` bytes between files, through the kernel. Stops at the end, or where one would wait.
fn shift(from: &Rc<OpenFile>, mut at: u64, to: &Rc<OpenFile>, mut to_at: u64, len: usize) -> Result<usize> {
    let mut buf = vec![0u8; len.min(1 << 16)];
    let mut done = 0;
    while done < len {
        let want = buf.len().min(len - done);
        let mut sink = SliceSink::new(&mut buf[..want]);
        let n = match from.ops().read(from, &mut sink, at) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        };
        let mut src = SliceSource(&buf[..n]);
        let wrote = match to.ops().write(to, &mut src, to_at) {
            Ok(w) => w,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        };
        at += wrote as u64;
        to_at += wrote as u64;
        done += wrote;
        if wrote < n {
            break;
        }
    }
    if done > 0 {
        from.told(c::IN_ACCESS);
        to.told(c::IN_MODIFY);
    }
    Ok(done)
}

pub async fn sendfile(t: &Rc<Task>, out: Fd, input: Fd, offset: UserInOut<i64>, count: usize) -> Result<usize> {
    let (from, to) = (readable(t, input)?, writable(t, out)?);
    if !from.ops().seekable() {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    let at = if offset.is_null() { None } else { Some(position(&from, offset.get(&*mem)?)?) };
    if let Some(q) = to.ops().waiters()
        && !to.nonblocking()
    {
        let look = || to.ops().ready().intersects(Ready::OUT | Ready::ERR | Ready::HUP).then_some(());
        wait::until(&[q], None, look).await.map_err(|_| Errno::ERESTARTSYS)?;
    }
    let pos = at.unwrap_or_else(|| from.pos());
    let n = match shift(&from, pos, &to, to.pos(), count.min(MAX)) {
        Err(Errno::EPIPE) => {
            t.signal(SigInfo::new(c::SIGPIPE, c::SI_USER));
            return Err(Errno::EPIPE);
        }
        r => r?,
    };
    to.set_pos(to.pos() + n as u64);
    match at {
        Some(at) => offset.put(&*mem, &((at + n as u64) as i64))?,
        None => from.set_pos(pos + n as u64),
    }
    Ok(n)
}

pub fn copy_file_range(
    t: &Rc<Task>,
    input: Fd,
    in_off: UserInOut<i64>,
    out: Fd,
    out_off: UserInOut<i64>,
    len: usize,
    flags: Flags,
) -> Result<usize> {
    flags.only(0)?;
    let (from, to) = (readable(t, input)?, writable(t, out)?);
    if to.flags() & c::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    for f in [&from, &to] {
        let p = f.path().ok_or(Errno::EINVAL)?;
        let a = p.inode().attr()?;
        if a.is_dir() {
            return Err(Errno::EISDIR);
        }
        if !a.is_file() {
            return Err(Errno::EINVAL);
        }
    }
    let mem = t.mem();
    let pos = |f: &OpenFile, p: UserInOut<i64>| if p.is_null() { Ok(f.pos()) } else { position(f, p.get(&*mem)?) };
    let (a, b) = (pos(&from, in_off)?, pos(&to, out_off)?);
    let n = shift(&from, a, &to, b, len.min(MAX))?;
    let advance = |f: &OpenFile, p: UserInOut<i64>, at: u64| {
        if p.is_null() {
            f.set_pos(at);
            Ok(())
        } else {
            p.put(&*mem, &(at as i64))
        }
    };
    advance(&from, in_off, a + n as u64)?;
    advance(&to, out_off, b + n as u64)?;
    Ok(n)
}
