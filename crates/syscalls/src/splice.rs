//! Bytes from file to file: splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2). All of them copy.
use crate::args::{Fd, Flags};
use crate::io::{MAX, may_grow, position, readable, vector, writable};
use abi::signal::SigInfo;
use abi::sys::Iovec;
use abi::{Errno, Result, c};
use guest::io::{SliceSink, SliceSource};
use guest::{UserIn, UserInOut, UserSink, UserSource};
use ipc::pipe::{self, PipeEnd};
use ipc::stdio::HostStream;
use kernel::wait;
use net::SocketFile;
use std::rc::Rc;
use task::Task;
use vfs::{OpenFile, Ready};

const KNOWN: i32 = (c::SPLICE_F_MOVE | c::SPLICE_F_NONBLOCK | c::SPLICE_F_MORE | c::SPLICE_F_GIFT) as i32;

/// Waits until `f` may take (`Ready::OUT`) or give (`Ready::IN`) something.
async fn ready(f: &OpenFile, want: Ready) -> Result {
    let q = f.ops().waiters().ok_or(Errno::EAGAIN)?;
    let look = || f.ops().ready().intersects(want | Ready::ERR | Ready::HUP).then_some(());
    wait::until(&[q], None, look).await.map_err(|_| Errno::ERESTARTSYS)
}

/// Has it bytes to give and take? What only counts or tells, eventfd(2) and its like, does not splice.
fn has_bytes(f: &OpenFile) -> bool {
    let stream = f.downcast::<SocketFile>().is_some() || f.downcast::<HostStream>().is_some();
    stream || f.path().is_some() || f.downcast::<PipeEnd>().is_some()
}

/// EPIPE comes with a signal; of sockets, only streams have it.
fn told<T>(t: &Task, to: &OpenFile, r: Result<T>) -> Result<T> {
    let silent = to.downcast::<SocketFile>().is_some_and(|s| s.socket().kind() != c::SOCK_STREAM);
    if matches!(r, Err(Errno::EPIPE)) && !silent {
        t.signal(SigInfo::new(c::SIGPIPE, c::SI_USER));
    }
    r
}

/// Makes `step` until it does not say EAGAIN, waiting between for the one of the two files that holds it up.
async fn moved(
    t: &Task,
    from: &OpenFile,
    to: &OpenFile,
    nonblock: bool,
    mut step: impl FnMut() -> Result<usize>,
) -> Result<usize> {
    loop {
        match step() {
            Err(Errno::EAGAIN) if !nonblock => {
                let gives = from.ops().ready().intersects(Ready::IN | Ready::HUP | Ready::ERR);
                if gives { ready(to, Ready::OUT).await? } else { ready(from, Ready::IN).await? }
            }
            r => return told(t, to, r),
        }
    }
}

/// The position an offset argument stands for, in a file that has positions.
fn place(t: &Task, f: &OpenFile, offset: UserInOut<i64>) -> Result<u64> {
    if offset.is_null() {
        return Ok(f.pos());
    }
    position(f, offset.get(&*t.mem())?).map_err(|_| Errno::EINVAL)
}

/// Where the next transfer goes on: in the argument, or in the file.
fn advance(t: &Task, f: &OpenFile, offset: UserInOut<i64>, at: u64) -> Result {
    if offset.is_null() {
        f.set_pos(at);
        return Ok(());
    }
    offset.put(&*t.mem(), &(at as i64))
}

pub async fn splice(
    t: &Rc<Task>,
    input: Fd,
    in_off: UserInOut<i64>,
    out: Fd,
    out_off: UserInOut<i64>,
    len: usize,
    flags: Flags,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    let flags = flags.only(KNOWN)?;
    let (from, to) = (readable(t, input)?, writable(t, out)?);
    let nonblock = flags & c::SPLICE_F_NONBLOCK as i32 != 0 || from.nonblocking() || to.nonblocking();
    let len = len.min(MAX);
    if !has_bytes(&from) || !has_bytes(&to) {
        return Err(Errno::EINVAL);
    }
    match (from.downcast::<PipeEnd>(), to.downcast::<PipeEnd>()) {
        (Some(_), _) if !in_off.is_null() => Err(Errno::ESPIPE),
        (_, Some(_)) if !out_off.is_null() => Err(Errno::ESPIPE),
        (Some(a), Some(b)) => moved(t, &from, &to, nonblock, || pipe::splice(a, b, len)).await,
        (Some(a), None) => {
            let at = place(t, &to, out_off)?;
            if to.flags() & c::O_APPEND != 0 {
                return Err(Errno::EINVAL);
            }
            let len = if to.ops().seekable() { may_grow(t, || Ok(at), len)? } else { len };
            let n = moved(t, &from, &to, nonblock, || pipe::splice_from_pipe(a, &to, at, len)).await?;
            advance(t, &to, out_off, at + n as u64).map(|()| n)
        }
        (None, Some(b)) => {
            let at = place(t, &from, in_off)?;
            let n = moved(t, &from, &to, nonblock, || pipe::splice_to_pipe(&from, at, b, len)).await?;
            advance(t, &from, in_off, at + n as u64).map(|()| n)
        }
        (None, None) => Err(Errno::EINVAL),
    }
}

pub async fn tee(t: &Rc<Task>, input: Fd, out: Fd, len: usize, flags: Flags) -> Result<usize> {
    let flags = flags.only(KNOWN)?;
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = (readable(t, input)?, writable(t, out)?);
    let (Some(a), Some(b)) = (from.downcast::<PipeEnd>(), to.downcast::<PipeEnd>()) else {
        return Err(Errno::EINVAL);
    };
    let nonblock = flags & c::SPLICE_F_NONBLOCK as i32 != 0 || from.nonblocking() || to.nonblocking();
    moved(t, &from, &to, nonblock, || pipe::tee(a, b, len.min(MAX))).await
}

/// vmsplice(2): what fits is moved; it waits only if nothing does.
pub async fn vmsplice(t: &Rc<Task>, fd: Fd, iov: UserIn<Iovec>, n: usize, flags: Flags) -> Result<usize> {
    let flags = flags.only(KNOWN)?;
    let f = t.files()?.get(fd.0)?;
    let end = f.downcast::<PipeEnd>().ok_or(Errno::EBADF)?;
    let bufs = vector(t, iov, n)?;
    if bufs.iter().all(|b| b.1 == 0) {
        return Ok(0);
    }
    let nonblock = flags & c::SPLICE_F_NONBLOCK as i32 != 0 || f.nonblocking();
    let mem = t.mem();
    moved(t, &f, &f, nonblock, || {
        if end.writes() {
            f.ops().write(&f, &mut UserSource::new(&*mem, &bufs), 0)
        } else {
            f.ops().read(&f, &mut UserSink::new(&*mem, &bufs), 0)
        }
    })
    .await
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
    Ok(done)
}

/// sendfile(2). A stream that takes not all at once is waited for, a pipe only until it takes something.
pub async fn sendfile(t: &Rc<Task>, out: Fd, input: Fd, offset: UserInOut<i64>, count: usize) -> Result<usize> {
    let (from, to) = (readable(t, input)?, writable(t, out)?);
    if !from.ops().seekable() || !has_bytes(&to) || to.flags() & c::O_APPEND != 0 || count > i64::MAX as usize {
        return Err(Errno::EINVAL);
    }
    let start = if offset.is_null() { from.pos() } else { position(&from, offset.get(&*t.mem())?)? };
    let stream = !to.ops().seekable();
    let mut len = count.min(MAX);
    if !stream && len > 0 {
        len = may_grow(t, || Ok(to.pos()), len)?;
    }
    let all = stream && !to.nonblocking() && to.downcast::<PipeEnd>().is_none();
    if all && len > 1 << 12 {
        wait::settle().await;
    }
    let mut done = 0;
    while done < len || len == 0 {
        let at = start + done as u64;
        let sent = moved(t, &from, &to, to.nonblocking(), || shift(&from, at, &to, to.pos(), len - done)).await;
        match sent {
            Err(e) if done == 0 => return Err(e),
            Ok(0) | Err(_) => break,
            Ok(n) => {
                to.set_pos(to.pos() + n as u64);
                done += n;
            }
        }
        if !all {
            break;
        }
    }
    advance(t, &from, offset, start + done as u64)?;
    Ok(done)
}

/// ioctl_ficlone(2): no file system here has files that share their blocks, EOPNOTSUPP; but what is wrong comes first.
///
/// EBADF, EXDEV, EISDIR, EINVAL: not two regular files of one file system, to read from and to write to.
pub(crate) fn clone_file(t: &Task, to: &OpenFile, from: i64) -> Result<i64> {
    let from = t.files()?.get(i32::try_from(from).map_err(|_| Errno::EBADF)?)?;
    if from.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let attr = |f: &OpenFile| f.path().ok_or(Errno::EINVAL)?.inode().attr();
    let (a, b) = (attr(&from)?, attr(to)?);
    if a.dev != b.dev {
        return Err(Errno::EXDEV);
    }
    if a.is_dir() || b.is_dir() {
        return Err(Errno::EISDIR);
    }
    if !a.is_file() || !b.is_file() {
        return Err(Errno::EINVAL);
    }
    let open = from.readable() && to.writable() && to.flags() & c::O_APPEND == 0;
    Err(if open { Errno::EOPNOTSUPP } else { Errno::EBADF })
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
    let mut ids = [(0, 0); 2];
    for (f, id) in [&from, &to].into_iter().zip(&mut ids) {
        let a = f.path().ok_or(Errno::EINVAL)?.inode().attr()?;
        if a.is_dir() {
            return Err(Errno::EISDIR);
        }
        if !a.is_file() {
            return Err(Errno::EINVAL);
        }
        *id = (a.dev, a.ino);
    }
    if ids[0].0 != ids[1].0 {
        return Err(Errno::EXDEV);
    }
    let (a, b) = (place(t, &from, in_off)?, place(t, &to, out_off)?);
    let past = |at: u64| at.checked_add(len as u64).is_none();
    if past(a) || past(b) {
        return Err(Errno::EOVERFLOW);
    }
    let len = (len as u64).min(from.ops().size()?.saturating_sub(a));
    if ids[0] == ids[1] && b < a + len && a < b + len {
        return Err(Errno::EINVAL);
    }
    let len = if len > 0 { may_grow(t, || Ok(b), (len as usize).min(MAX))? } else { 0 };
    let n = shift(&from, a, &to, b, len)?;
    advance(t, &from, in_off, a + n as u64)?;
    advance(t, &to, out_off, b + n as u64)?;
    Ok(n)
}
