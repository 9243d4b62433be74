//! Waiting for several things: poll(2), select(2), epoll(7), eventfd(2), timerfd_create(2).
use crate::args::{Addr, Fd, Flags};
use crate::fd::install;
use crate::signal::with_mask;
use abi::poll::{EpollEvent, PollFd};
use abi::signal::SigSet;
use abi::sys::{Timespec, Timeval};
use abi::{Errno, Result, c};
use guest::{UserIn, UserInOut, UserOut};
use ipc::epoll::EpollInstance;
use ipc::poll::{Entry, NVAL, poll_files};
use ipc::timerfd::TimerFd;
use kernel::itimer::Setting;
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::Task;
use vfs::{OpenFile, Ready};

pub(crate) fn after(ns: u64) -> Option<u64> {
    Some(host::time::monotonic_ns().saturating_add(ns))
}

fn millis(ms: i32) -> Option<u64> {
    if ms < 0 { None } else { after(ms as u64 * 1_000_000) }
}

/// Puts on the mask of ppoll(2) and its kin. Undone by the signal it lets in, or by [`unmask`].
pub(crate) async fn mask(t: &Task, set: UserIn<u64>, size: usize) -> Result {
    if !set.is_null() {
        if size != 8 {
            return Err(Errno::EINVAL);
        }
        let m = SigSet(set.get(&*t.mem())?);
        wait::settle().await;
        with_mask(t, m);
    }
    Ok(())
}

pub(crate) fn unmask<T>(t: &Task, r: Result<T>) -> Result<T> {
    let interrupted = matches!(&r, Err(e) if *e == Errno::EINTR || e.is_restart());
    if !interrupted && let Some(m) = t.saved_mask.take() {
        t.blocked.set(m);
    }
    r
}

async fn poll_fds(t: &Rc<Task>, fds: UserInOut<PollFd>, n: usize, deadline: Option<u64>) -> Result<usize> {
    if n as u64 > crate::fd::limit(t) {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    let files = t.files()?;
    let list = UserIn::<PollFd>::new(fds.addr()).get_array(&*mem, n)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(n);
    for p in &list {
        let file = if p.fd < 0 { None } else { files.get(p.fd).ok() };
        let returned = if p.fd >= 0 && file.is_none() { NVAL } else { Ready::empty() };
        entries.push((file, Ready::from_bits_retain(p.events as u16 as u32), returned));
    }
    let ready = poll_files(&mut entries, deadline).await.map_err(|_| Errno::EINTR)?;
    for (i, (mut p, (_, _, returned))) in list.into_iter().zip(&entries).enumerate() {
        p.revents = returned.bits() as u16 as _;
        fds.index(i)?.put(&*mem, &p)?;
    }
    Ok(ready)
}

pub async fn poll(t: &Rc<Task>, fds: UserInOut<PollFd>, n: usize, timeout: i32) -> Result<usize> {
    let deadline = millis(timeout).map(|d| t.restart_deadline(d));
    match poll_fds(t, fds, n, deadline).await {
        Err(Errno::EINTR) => match deadline {
            Some(d) => {
                t.set_restart_deadline(d);
                Err(Errno::ERESTART_RESTARTBLOCK)
            }
            None => Err(Errno::ERESTARTNOHAND),
        },
        r => r,
    }
}

pub async fn ppoll(
    t: &Rc<Task>,
    fds: UserInOut<PollFd>,
    n: usize,
    timeout: UserIn<Timespec>,
    set: UserIn<u64>,
    size: usize,
) -> Result<usize> {
    let deadline = match timeout.get_opt(&*t.mem())? {
        Some(ts) => after(ts.ns()?),
        None => None,
    };
    mask(t, set, size).await?;
    let r = poll_fds(t, fds, n, deadline).await;
    unmask(t, r.map_err(|e| if e == Errno::EINTR { Errno::ERESTARTNOHAND } else { e }))
}

const FD_SETSIZE: usize = 1024;

/// select(2): three bit sets in, three out.
async fn select_sets(t: &Rc<Task>, n: i32, sets: [u64; 3], deadline: Option<u64>) -> Result<usize> {
    let n = usize::try_from(n).map_err(|_| Errno::EINVAL)?.min(FD_SETSIZE * 64);
    let bytes = n.div_ceil(64) * 8;
    let mem = t.mem();
    let files = t.files()?;
    let wants = [ipc::poll::SELECT_IN, ipc::poll::SELECT_OUT, ipc::poll::SELECT_EX];
    let mut entries = Vec::new();
    let mut which = Vec::new();
    for (k, addr) in sets.iter().enumerate().filter(|(_, a)| **a != 0) {
        let mut raw = vec![0u8; bytes];
        mem.read(*addr, &mut raw)?;
        for fd in (0..n).filter(|fd| raw[fd / 8] & (1 << (fd % 8)) != 0) {
            let file = files.get(fd as i32)?;
            entries.push((Some(file), wants[k], Ready::empty()));
            which.push((k, fd));
        }
    }
    poll_files(&mut entries, deadline).await.map_err(|_| Errno::ERESTARTNOHAND)?;
    let mut out = [vec![0u8; bytes], vec![0u8; bytes], vec![0u8; bytes]];
    let mut count = 0;
    for ((k, fd), (_, _, returned)) in which.into_iter().zip(&entries) {
        if returned.intersects(wants[k]) {
            out[k][fd / 8] |= 1 << (fd % 8);
            count += 1;
        }
    }
    for (addr, raw) in sets.iter().zip(&out).filter(|(a, _)| **a != 0) {
        mem.write(*addr, raw)?;
    }
    Ok(count)
}

/// personality(2): the timeout is not to say what is left.
fn sticky(t: &Task) -> bool {
    t.persona.get() & crate::misc::STICKY_TIMEOUTS != 0
}

pub async fn select(t: &Rc<Task>, n: i32, r: Addr, w: Addr, e: Addr, timeout: UserInOut<Timeval>) -> Result<usize> {
    let mem = t.mem();
    let deadline = if timeout.is_null() { None } else { after(timeout.get(&*mem)?.ns()?) };
    let got = select_sets(t, n, [r.0, w.0, e.0], deadline).await;
    if let Some(d) = deadline
        && got.is_ok()
        && !sticky(t)
    {
        let left = d.saturating_sub(host::time::monotonic_ns());
        timeout.put(&*mem, &Timeval::from_ns(left))?;
    }
    got
}

/// pselect6(2): the call itself, unlike the library's, says what is left of the timeout.
pub async fn pselect6(
    t: &Rc<Task>,
    n: i32,
    r: Addr,
    w: Addr,
    e: Addr,
    timeout: UserInOut<Timespec>,
    sig: UserIn<[u64; 2]>,
) -> Result<usize> {
    let mem = t.mem();
    let deadline = if timeout.is_null() { None } else { after(timeout.get(&*mem)?.ns()?) };
    if let Some([set, size]) = sig.get_opt(&*mem)? {
        mask(t, UserIn::new(set), size as usize).await?;
    }
    let got = select_sets(t, n, [r.0, w.0, e.0], deadline).await;
    if let (Some(d), Ok(_)) = (deadline, &got)
        && !sticky(t)
    {
        timeout.put(&*mem, &Timespec::from_ns(d.saturating_sub(host::time::monotonic_ns())))?;
    }
    unmask(t, got)
}

pub fn epoll_create(t: &Rc<Task>, size: i32) -> Result<i32> {
    if size <= 0 { Err(Errno::EINVAL) } else { epoll_create1(t, Flags(0)) }
}

pub fn epoll_create1(t: &Rc<Task>, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::EPOLL_CLOEXEC)?;
    install(t, ipc::epoll::epoll(flags)?, flags)
}

fn epoll_of(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.downcast::<EpollInstance>().is_none() {
        return Err(Errno::EINVAL);
    }
    Ok(f)
}

pub fn epoll_ctl(t: &Rc<Task>, ep: Fd, op: i32, fd: Fd, event: UserIn<EpollEvent>) -> Result {
    let file = t.files()?.get(fd.0)?;
    let e = t.files()?.get(ep.0)?;
    if (file.flags() | e.flags()) & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    let event = if op == c::EPOLL_CTL_DEL { EpollEvent::default() } else { event.get(&*t.mem())? };
    if Rc::ptr_eq(&e, &file) {
        return Err(Errno::EINVAL);
    }
    e.downcast::<EpollInstance>().ok_or(Errno::EINVAL)?.ctl(op, fd.0, &file, event)
}

async fn epoll_for(t: &Rc<Task>, ep: Fd, out: UserOut<EpollEvent>, max: i32, deadline: Option<u64>) -> Result<usize> {
    if max <= 0 || max > i32::MAX / 16 {
        return Err(Errno::EINVAL);
    }
    let f = epoll_of(t, ep)?;
    let inst = f.downcast::<EpollInstance>().ok_or(Errno::EINVAL)?;
    let mem = t.mem();
    let look = || {
        let mut n = 0;
        let r = inst.try_wait(max as usize, &mut |e| {
            out.index(n)?.put(&*mem, &e)?;
            n += 1;
            Ok(())
        });
        match r {
            Ok(0) => None,
            r => Some(r),
        }
    };
    let queues: Vec<_> = f.ops().waiters().into_iter().collect();
    match wait::until(&queues, deadline, look).await {
        Ok(r) => r,
        Err(Stop::TimedOut) => Ok(0),
        Err(Stop::Interrupted) => Err(Errno::EINTR),
    }
}

pub async fn epoll_wait(t: &Rc<Task>, ep: Fd, out: UserOut<EpollEvent>, max: i32, timeout: i32) -> Result<usize> {
    epoll_for(t, ep, out, max, millis(timeout)).await
}

pub async fn epoll_pwait(
    t: &Rc<Task>,
    ep: Fd,
    out: UserOut<EpollEvent>,
    max: i32,
    timeout: i32,
    set: UserIn<u64>,
) -> Result<usize> {
    mask(t, set, 8).await?;
    let r = epoll_for(t, ep, out, max, millis(timeout)).await;
    unmask(t, r)
}

pub async fn epoll_pwait2(
    t: &Rc<Task>,
    ep: Fd,
    out: UserOut<EpollEvent>,
    max: i32,
    timeout: UserIn<Timespec>,
    set: UserIn<u64>,
) -> Result<usize> {
    let deadline = match timeout.get_opt(&*t.mem())? {
        Some(ts) => after(ts.ns()?),
        None => None,
    };
    mask(t, set, 8).await?;
    let r = epoll_for(t, ep, out, max, deadline).await;
    unmask(t, r)
}

pub fn eventfd(t: &Rc<Task>, initial: u32) -> Result<i32> {
    eventfd2(t, initial, Flags(0))
}

pub fn eventfd2(t: &Rc<Task>, initial: u32, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::EFD_CLOEXEC | c::EFD_NONBLOCK | c::EFD_SEMAPHORE)?;
    install(t, ipc::eventfd::eventfd(initial, flags)?, flags)
}

pub fn timerfd_create(t: &Rc<Task>, clock: i32, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::TFD_CLOEXEC | c::TFD_NONBLOCK)?;
    install(t, ipc::timerfd::timerfd(clock, flags)?, flags)
}

fn pair(s: Setting) -> [Timespec; 2] {
    [Timespec::from_ns(s.interval), Timespec::from_ns(s.value)]
}

fn put_pair(t: &Task, out: u64, s: Setting) -> Result {
    if out == 0 {
        return Ok(());
    }
    let bytes: Vec<u8> = pair(s).iter().flat_map(|ts| [ts.sec, ts.nsec]).flat_map(i64::to_ne_bytes).collect();
    t.mem().write(out, &bytes)
}

pub fn timerfd_settime(t: &Rc<Task>, fd: Fd, flags: Flags, new: UserIn<Timespec>, old: Addr) -> Result {
    let flags = flags.only(c::TFD_TIMER_ABSTIME | c::TFD_TIMER_CANCEL_ON_SET)?;
    let f = t.files()?.get(fd.0)?;
    let timer = f.downcast::<TimerFd>().ok_or(Errno::EINVAL)?;
    let mem = t.mem();
    let setting = Setting { interval: new.get(&*mem)?.ns()?, value: new.index(1)?.get(&*mem)?.ns()? };
    put_pair(t, old.0, timer.settime(flags, setting)?)
}

pub fn timerfd_gettime(t: &Rc<Task>, fd: Fd, out: Addr) -> Result {
    let f = t.files()?.get(fd.0)?;
    let timer = f.downcast::<TimerFd>().ok_or(Errno::EINVAL)?;
    put_pair(t, out.0, timer.gettime())
}
