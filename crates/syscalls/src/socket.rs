//! Sockets: socket(2), bind(2), connect(2), accept(2), getsockopt(2) and their kin. What they send is in `message`.
use crate::args::{Addr, Fd, Flags, InBuf, OutBuf};
use crate::fd::{install, limit};
use crate::path::as_caller;
use crate::sockaddr::{self, Raw, UnixName};
use abi::{Errno, Result, c};
use guest::{UserInOut, UserOut};
use kernel::wait::{self, Stop};
use net::{Address, Caller, Socket, SocketFile, SocketName};
use std::rc::Rc;
use task::Task;
use vfs::{OpenFile, Ready};

/// The largest value setsockopt(2) takes.
const OPTION_MAX: usize = 1 << 16;
/// net.core.somaxconn.
const SOMAXCONN: u32 = 4096;
/// SOCK_MAX: kinds are below it.
const KINDS: i32 = 11;
const FLAGS: i32 = c::SOCK_CLOEXEC | c::SOCK_NONBLOCK;

/// EBADF, ENOTSOCK.
pub(crate) fn file_of(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if f.downcast::<SocketFile>().is_some() { Ok(f) } else { Err(Errno::ENOTSOCK) }
}

/// The socket behind a file that [`file_of`] gave.
pub(crate) fn socket_of(f: &OpenFile) -> Result<&Rc<dyn Socket>> {
    f.downcast::<SocketFile>().map(SocketFile::socket).ok_or(Errno::ENOTSOCK)
}

pub(crate) fn caller(t: &Task) -> Caller {
    Caller { pid: t.process.pid, cred: t.cred() }
}

/// How long a call may wait: not at all, or until a deadline (monotonic nanoseconds).
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Option<u64>),
}

impl Patience {
    /// `timeout`: SO_RCVTIMEO or SO_SNDTIMEO.
    pub fn of(f: &OpenFile, flags: i32, timeout: Option<u64>) -> Patience {
        if f.nonblocking() || flags & c::MSG_DONTWAIT != 0 {
            return Patience::None;
        }
        Patience::Until(timeout.map(|ns| host::time::monotonic_ns().saturating_add(ns)))
    }
    pub fn waits(self) -> bool {
        matches!(self, Patience::Until(_))
    }
    /// MSG_DONTWAIT, if it does not wait.
    pub fn flag(self) -> i32 {
        if self.waits() { 0 } else { c::MSG_DONTWAIT }
    }
}

/// What a signal makes of a wait: with a timeout the call is not made again.
pub(crate) fn interrupted(deadline: Option<u64>) -> Errno {
    if deadline.is_some() { Errno::EINTR } else { Errno::ERESTARTSYS }
}

/// Does `act` again and again until it is not EAGAIN, or patience ends.
pub(crate) async fn attempt<T>(
    socket: &dyn Socket,
    patience: Patience,
    mut act: impl FnMut() -> Result<T> + Unpin,
) -> Result<T> {
    let Patience::Until(deadline) = patience else { return act() };
    let queues = [socket.waiters()];
    let look = || match act() {
        Err(Errno::EAGAIN) => None,
        r => Some(r),
    };
    match wait::until(&queues, deadline, look).await {
        Ok(r) => r,
        Err(Stop::TimedOut) => Err(Errno::EAGAIN),
        Err(Stop::Interrupted) => Err(interrupted(deadline)),
    }
}

/// The kind without its flags. EINVAL for other bits.
fn split_kind(kind: i32) -> Result<(i32, i32)> {
    let (kind, flags) = (kind & 0xf, kind & !0xf);
    if flags & !FLAGS != 0 || kind >= KINDS { Err(Errno::EINVAL) } else { Ok((kind, flags)) }
}

pub fn socket(t: &Rc<Task>, domain: i32, kind: i32, protocol: i32) -> Result<i32> {
    let (kind, flags) = split_kind(kind)?;
    let caller = caller(t);
    let s = net::make(&caller, domain, kind, protocol).map_err(crate::fd::host_limit)?;
    install(t, SocketFile::open(s, caller, flags), flags)
}

pub fn socketpair(t: &Rc<Task>, domain: i32, kind: i32, protocol: i32, out: UserOut<[i32; 2]>) -> Result {
    let (kind, flags) = split_kind(kind)?;
    let caller = caller(t);
    let (a, b) = net::make_pair(&caller, domain, kind, protocol)?;
    let files = t.files()?;
    let first = install(t, SocketFile::open(a, caller.clone(), flags), flags);
    // Both are files at once, so that either way they are released.
    let second = SocketFile::open(b, caller, flags);
    let first = first?;
    let second = install(t, second, flags).inspect_err(|_| drop(files.close(first)))?;
    out.put(&*t.mem(), &[first, second]).inspect_err(|_| {
        drop(files.close(first));
        drop(files.close(second));
    })
}

pub fn bind(t: &Rc<Task>, fd: Fd, addr: InBuf<2>, len: i32) -> Result {
    let f = file_of(t, fd)?;
    let (s, caller) = (socket_of(&f)?, caller(t));
    let raw = Raw::read(&*t.mem(), addr.0, len)?;
    if s.domain() != c::AF_UNIX {
        return s.bind(&caller, raw.plain()?);
    }
    match raw.unix()? {
        UnixName::Auto => s.bind(&caller, Address::UnixUnnamed),
        UnixName::Abstract(name) => s.bind(&caller, Address::UnixAbstract(name)),
        UnixName::Path(path) => bind_path(t, &**s, &caller, path),
    }
}

/// Makes the socket's file, which goes again if the socket does not take the name.
fn bind_path(t: &Task, s: &dyn Socket, caller: &Caller, path: Rc<[u8]>) -> Result {
    as_caller(t, |w| {
        let cwd = t.fs().cwd.borrow().clone();
        w.mknod(&cwd, &path, c::S_IFSOCK | 0o777, 0).map_err(|e| match e {
            Errno::EEXIST => Errno::EADDRINUSE,
            e => e,
        })?;
        let bound = w.path(&cwd, &path, false).and_then(|place| {
            let a = place.inode().attr()?;
            let name = SocketName { dev: a.dev, ino: a.ino };
            s.bind(caller, Address::UnixPath { path: path.clone(), name, inode: place.inode().clone() })
        });
        // The name was made here; whether it goes again does not change what is told.
        bound.inspect_err(|_| w.unlink(&cwd, &path).unwrap_or(()))
    })
}

pub fn listen(t: &Rc<Task>, fd: Fd, backlog: i32) -> Result {
    let f = file_of(t, fd)?;
    socket_of(&f)?.listen(&caller(t), (backlog as u32).min(SOMAXCONN) as i32)
}

pub async fn connect(t: &Rc<Task>, fd: Fd, addr: InBuf<2>, len: i32) -> Result {
    let f = file_of(t, fd)?;
    let s = socket_of(&f)?;
    let raw = Raw::read(&*t.mem(), addr.0, len)?;
    let patience = Patience::of(&f, 0, s.timeouts().1);
    let to = if raw.family() == c::AF_UNSPEC { Address::Unspecified } else { destination(t, &**s, &raw)? };
    if patience.waits() && s.domain() != c::AF_UNIX {
        // It begins what it then waits for.
        wait::settle().await;
    }
    let caller = caller(t);
    match attempt(&**s, patience, || s.connect(&caller, to.clone())).await {
        Err(Errno::EINPROGRESS | Errno::EALREADY) if patience.waits() => {
            connected(&**s, patience).await?;
            // Asked again, a host socket says how it went, and takes note that it is connected.
            match s.connect(&caller, to) {
                Err(Errno::EISCONN) => Ok(()),
                r => r,
            }
        }
        r => r,
    }
}

fn destination(t: &Task, s: &dyn Socket, raw: &Raw) -> Result<Address> {
    sockaddr::destination(t, s.domain(), raw)
}

/// Waits for the end of a connect that has begun.
async fn connected(s: &dyn Socket, patience: Patience) -> Result {
    let Patience::Until(deadline) = patience else { return Err(Errno::EINPROGRESS) };
    let done = Ready::OUT | Ready::ERR | Ready::HUP;
    let queues = [s.waiters()];
    match wait::until(&queues, deadline, || s.ready().intersects(done).then_some(())).await {
        Ok(()) => Ok(()),
        Err(Stop::TimedOut) => Err(Errno::EINPROGRESS),
        Err(Stop::Interrupted) => Err(interrupted(deadline)),
    }
}

pub async fn accept(t: &Rc<Task>, fd: Fd, addr: Addr, len: Addr) -> Result<i32> {
    accept4(t, fd, addr, len, Flags(0)).await
}

pub async fn accept4(t: &Rc<Task>, fd: Fd, addr: Addr, len: Addr, flags: Flags) -> Result<i32> {
    let flags = flags.only(FLAGS)?;
    let f = file_of(t, fd)?;
    let s = socket_of(&f)?;
    // A connection is not taken for want of a number.
    t.files()?.room(limit(t))?;
    let caller = caller(t);
    let accepted = attempt(&**s, Patience::of(&f, 0, s.timeouts().0), || s.accept(&caller)).await?;
    let new = SocketFile::open(accepted.socket, caller, flags);
    if addr.0 != 0 {
        sockaddr::write_sized(&*t.mem(), addr.0, UserInOut::new(len.0), Some(&accepted.peer))?;
    }
    install(t, new, flags)
}

pub fn getsockname(t: &Rc<Task>, fd: Fd, addr: Addr, len: UserInOut<i32>) -> Result {
    let f = file_of(t, fd)?;
    sockaddr::write_sized(&*t.mem(), addr.0, len, Some(&socket_of(&f)?.name()?))
}

pub fn getpeername(t: &Rc<Task>, fd: Fd, addr: Addr, len: UserInOut<i32>) -> Result {
    let f = file_of(t, fd)?;
    sockaddr::write_sized(&*t.mem(), addr.0, len, Some(&socket_of(&f)?.peer()?))
}

pub fn shutdown(t: &Rc<Task>, fd: Fd, how: i32) -> Result {
    let f = file_of(t, fd)?;
    let s = socket_of(&f)?;
    if (c::SHUT_RD..=c::SHUT_RDWR).contains(&how) { s.shutdown(how) } else { Err(Errno::EINVAL) }
}

pub fn getsockopt(t: &Rc<Task>, fd: Fd, level: i32, name: i32, value: OutBuf<4>, len: UserInOut<i32>) -> Result {
    let f = file_of(t, fd)?;
    let (s, mem) = (socket_of(&f)?, t.mem());
    let room = usize::try_from(len.get(&*mem)?).map_err(|_| Errno::EINVAL)?;
    let int = |v: i32| v.to_ne_bytes().to_vec();
    let got = match (level, name) {
        (c::SOL_SOCKET, c::SO_TYPE) => int(s.kind()),
        (c::SOL_SOCKET, c::SO_DOMAIN) => int(s.domain()),
        (c::SOL_SOCKET, c::SO_PROTOCOL) => int(s.protocol()),
        (c::SOL_SOCKET, c::SO_ERROR) => int(s.take_error().map_or(0, |e| e.raw())),
        _ => {
            let mut given = vec![0; room.min(256)];
            let n = mem.read_some(value.0, &mut given).unwrap_or(0);
            s.get_option(level, name, &given[..n])?
        }
    };
    let n = room.min(got.len());
    if n > 0 {
        mem.write(value.0, &got[..n])?;
    }
    len.put(&*mem, &(n as i32))
}

pub fn setsockopt(t: &Rc<Task>, fd: Fd, level: i32, name: i32, value: InBuf<4>, len: i32) -> Result {
    let f = file_of(t, fd)?;
    let s = socket_of(&f)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > OPTION_MAX {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0; len];
    if len > 0 {
        t.mem().read(value.0, &mut bytes)?;
    }
    if level == c::SOL_SOCKET && matches!(name, c::SO_TYPE | c::SO_DOMAIN | c::SO_PROTOCOL | c::SO_ERROR) {
        return Err(Errno::ENOPROTOOPT);
    }
    s.set_option(&caller(t), level, name, &bytes)
}
