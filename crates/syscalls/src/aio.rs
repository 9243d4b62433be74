//! Asynchronous I/O as Linux has had it for long: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2).
//!
//! What is submitted is done before io_submit returns, as Linux does it for files that are not open with O_DIRECT.
use crate::args::{Addr, Fd, Flags};
use crate::events::{after, mask, unmask};
use crate::io;
use crate::memory::{Mapping, map, settled};
use abi::sys::{IoEvent, Iocb, Iovec, Timespec};
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::ops::Op;
use guest::{UserIn, UserInOut, UserOut};
use ipc::eventfd::EventFd;
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::{Aio, Task};
use vfs::OpenFile;

/// /proc/sys/fs/aio-max-nr, for each address space.
const MAX_EVENTS: u32 = 65536;
/// No ring of more is ever made.
const MOST: u32 = 0x1000_0000 / size_of::<IoEvent>() as u32 / 2;

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;
const FLAG_RESFD: u32 = 1;
const FLAG_IOPRIO: u32 = 2;

fn context(t: &Task, ctx: u64) -> Result<Rc<Aio>> {
    t.mm().aio.borrow().get(&ctx).cloned().ok_or(Errno::EINVAL)
}

/// io_setup(2). A context is named by the address of a page of its own, which the C library reads: as there is no ring in
/// it, it asks the kernel.
pub async fn io_setup(t: &Rc<Task>, events: u32, out: UserInOut<u64>) -> Result {
    if out.get(&*t.mem())? != 0 || events == 0 || events > MOST {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    let used: u32 = mm.aio.borrow().values().map(|a| a.room).sum();
    if events > MAX_EVENTS - used {
        return Err(Errno::EAGAIN);
    }
    let (prot, flags) = (c::PROT_READ, c::MAP_PRIVATE | c::MAP_ANONYMOUS);
    let what = Mapping { addr: 0, len: PAGE_SIZE, prot, flags, shared: false, file: None };
    let at = map(t, what, None).await?;
    mm.aio.borrow_mut().insert(at, Aio::new(events));
    out.put(&*t.mem(), &at)
}

pub async fn io_destroy(t: &Rc<Task>, ctx: u64) -> Result {
    let a = context(t, ctx)?;
    settled(t, ctx, PAGE_SIZE).await;
    let mm = t.mm();
    mm.aio.borrow_mut().remove(&ctx).ok_or(Errno::EINVAL)?;
    a.end();
    // The page is the guest's, who may have put something else there.
    let own = mm.space.borrow().at(ctx).is_some_and(|v| v.file.is_none() && v.prot == c::PROT_READ && !v.fixed);
    if own {
        mm.space.borrow_mut().unmap(ctx, PAGE_SIZE)?;
        mm.takes_off(t, ctx..ctx + PAGE_SIZE);
        t.op(Op::Unmap { addr: ctx, len: PAGE_SIZE });
    }
    Ok(())
}

/// Does what one control block says; the result of the operation itself is inside.
async fn one(t: &Rc<Task>, b: &Iocb) -> Result<Result<usize>> {
    if b.reserved != 0 || b.nbytes > i64::MAX as u64 || b.flags & !(FLAG_RESFD | FLAG_IOPRIO) != 0 {
        return Err(Errno::EINVAL);
    }
    let (fd, n) = (Fd(b.fd as i32), b.nbytes as usize);
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if b.flags & FLAG_RESFD != 0 && t.files()?.get(b.resfd as i32)?.downcast::<EventFd>().is_none() {
        return Err(Errno::EINVAL);
    }
    let allowed = match b.opcode {
        PREAD | PREADV => f.readable(),
        PWRITE | PWRITEV => f.writable(),
        FSYNC | FDSYNC => f.path().is_some(),
        _ => return Err(Errno::EINVAL),
    };
    match b.opcode {
        FSYNC | FDSYNC if !allowed || b.buf != 0 || b.offset != 0 || n != 0 || b.rw_flags != 0 => {
            return Err(Errno::EINVAL);
        }
        FSYNC | FDSYNC => return Ok(crate::fd::sync_file(&f, b.opcode == FDSYNC).await.map(|()| 0)),
        _ => io::known(Flags(b.rw_flags)).and(if allowed { Ok(()) } else { Err(Errno::EBADF) })?,
    }
    Ok(transfer(t, &f, b).await)
}

async fn transfer(t: &Rc<Task>, f: &Rc<OpenFile>, b: &Iocb) -> Result<usize> {
    let at = if f.ops().seekable() { Some(io::position(f, b.offset)?) } else { None };
    let n = b.nbytes as usize;
    let bufs = match b.opcode {
        PREADV | PWRITEV => io::vector(t, UserIn::<Iovec>::new(b.buf), n)?,
        _ => vec![(b.buf, n.min(io::MAX))],
    };
    let flags = Flags(b.rw_flags);
    match b.opcode {
        PREAD | PREADV => io::read_with(t, f, &bufs, at, flags).await,
        _ => io::write_with(t, f, &bufs, at, flags).await,
    }
}

/// io_submit(2): returns how many were taken; the error of the first that was not, if none was.
pub async fn io_submit(t: &Rc<Task>, ctx: u64, n: i64, blocks: UserIn<u64>) -> Result<usize> {
    let a = context(t, ctx)?;
    let n = usize::try_from(n).map_err(|_| Errno::EINVAL)?;
    if n > 0 {
        wait::settle().await;
    }
    for i in 0..n.min(a.room as usize) {
        if let Err(e) = submit(t, &a, blocks, i).await {
            return if i > 0 { Ok(i) } else { Err(e) };
        }
    }
    Ok(n.min(a.room as usize))
}

async fn submit(t: &Rc<Task>, a: &Aio, blocks: UserIn<u64>, i: usize) -> Result {
    let mem = t.mem();
    let at = blocks.index(i)?.get(&*mem)?;
    let b = UserIn::<Iocb>::new(at).get(&*mem)?;
    if a.full() {
        return Err(Errno::EAGAIN);
    }
    // The key, which io_cancel(2) asks for.
    UserOut::<u32>::new(at + 8).put(&*mem, &0)?;
    let done = match one(t, &b).await? {
        Ok(n) => n as i64,
        // It is not made again: what it did is done.
        Err(e) if e.is_restart() => -i64::from(Errno::EINTR.raw()),
        Err(e) => -i64::from(e.raw()),
    };
    a.post(IoEvent { data: b.data, obj: at, res: done, res2: 0 });
    if b.flags & FLAG_RESFD != 0
        && let Ok(f) = t.files()?.get(b.resfd as i32)
        && let Some(e) = f.downcast::<EventFd>()
    {
        e.signal(1);
    }
    Ok(())
}

async fn collect(
    t: &Rc<Task>,
    ctx: u64,
    [least, most]: [i64; 2],
    out: UserOut<IoEvent>,
    timeout: Option<Timespec>,
) -> Result<usize> {
    let deadline = match timeout {
        Some(ts) => after(ts.ns()?),
        None => None,
    };
    let a = context(t, ctx)?;
    if least < 0 || most < least {
        return Err(Errno::EINVAL);
    }
    let (least, mem) = (least as usize, t.mem());
    let mut got = 0;
    if a.count() < least && deadline.is_none_or(|d| d > host::time::monotonic_ns()) {
        wait::settle().await;
    }
    let look = || {
        while got < most as usize
            && let Some(e) = a.take()
        {
            if let Err(e) = out.index(got).and_then(|o| o.put(&*mem, &e)) {
                return Some(if got > 0 { Ok(()) } else { Err(e) });
            }
            got += 1;
        }
        (got >= least || a.ended()).then_some(Ok(()))
    };
    match wait::until(&[a.changed()], deadline, look).await {
        Ok(r) => r.map(|()| got),
        Err(Stop::Interrupted) if got == 0 => Err(Errno::EINTR),
        Err(_) => Ok(got),
    }
}

pub async fn io_getevents(
    t: &Rc<Task>,
    ctx: u64,
    least: i64,
    most: i64,
    out: UserOut<IoEvent>,
    timeout: UserIn<Timespec>,
) -> Result<usize> {
    let timeout = timeout.get_opt(&*t.mem())?;
    collect(t, ctx, [least, most], out, timeout).await
}

/// io_pgetevents(2): as io_getevents, with another signal mask meanwhile.
pub async fn io_pgetevents(
    t: &Rc<Task>,
    ctx: u64,
    least: i64,
    most: i64,
    out: UserOut<IoEvent>,
    timeout: UserIn<Timespec>,
    sig: UserIn<[u64; 2]>,
) -> Result<usize> {
    let timeout = timeout.get_opt(&*t.mem())?;
    if let Some([set, size]) = sig.get_opt(&*t.mem())? {
        mask(t, UserIn::new(set), size as usize).await?;
    }
    let got = collect(t, ctx, [least, most], out, timeout).await;
    unmask(t, got)
}

/// io_cancel(2): there is nothing on its way that could be.
pub fn io_cancel(t: &Rc<Task>, ctx: u64, block: Addr, _out: Addr) -> Result {
    let at = block.0.checked_add(8).ok_or(Errno::EFAULT)?;
    UserIn::<u32>::new(at).get(&*t.mem())?;
    context(t, ctx)?;
    Err(Errno::EINVAL)
}
