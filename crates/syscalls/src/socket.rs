//! Sockets: for now connected pairs, socketpair(2).
use crate::args::{Addr, Fd, Flags, InBuf, OutBuf};
use crate::fd::install;
use abi::{Errno, Result, c};
use guest::{UserInOut, UserOut};
use ipc::pair::PairEnd;
use std::rc::Rc;
use task::Task;
use vfs::OpenFile;

fn socket_of(t: &Task, fd: Fd) -> Result<Rc<OpenFile>> {
    let f = t.files()?.get(fd.0)?;
    if f.downcast::<PairEnd>().is_some() { Ok(f) } else { Err(Errno::ENOTSOCK) }
}

/// There is no network and no name to connect to yet.
pub fn socket(_t: &Rc<Task>, domain: i32, _kind: i32, _protocol: i32) -> Result {
    if domain < 0 { Err(Errno::EINVAL) } else { Err(Errno::EAFNOSUPPORT) }
}

pub fn socketpair(t: &Rc<Task>, domain: i32, kind: i32, protocol: i32, out: UserOut<[i32; 2]>) -> Result {
    match domain {
        c::AF_UNIX => {}
        c::AF_INET | c::AF_INET6 => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let flags = kind & (c::SOCK_CLOEXEC | c::SOCK_NONBLOCK);
    if kind & !flags != c::SOCK_STREAM {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if protocol != 0 && protocol != c::PF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let (a, b) = ipc::pair::pair(flags & c::SOCK_NONBLOCK)?;
    let files = t.files()?;
    let first = install(t, a, flags & c::SOCK_CLOEXEC)?;
    let second = install(t, b, flags & c::SOCK_CLOEXEC).inspect_err(|_| drop(files.close(first)))?;
    out.put(&*t.mem(), &[first, second])
}

/// MSG_NOSIGNAL and MSG_DONTWAIT are kept; the others are for kinds of socket that are not here.
const KNOWN: i32 = c::MSG_NOSIGNAL | c::MSG_DONTWAIT;

pub async fn sendto(
    t: &Rc<Task>,
    fd: Fd,
    buf: InBuf<2>,
    len: usize,
    flags: Flags,
    addr: Addr,
    _addr_len: u32,
) -> Result<usize> {
    let f = socket_of(t, fd)?;
    let flags = flags.only(KNOWN).map_err(|_| Errno::EOPNOTSUPP)?;
    if addr.0 != 0 {
        return Err(Errno::EISCONN);
    }
    crate::io::write_message(t, &f, buf.0, len, flags).await
}

pub async fn recvfrom(
    t: &Rc<Task>,
    fd: Fd,
    buf: OutBuf<2>,
    len: usize,
    flags: Flags,
    addr: Addr,
    addr_len: Addr,
) -> Result<usize> {
    let f = socket_of(t, fd)?;
    let flags = flags.only(KNOWN).map_err(|_| Errno::EOPNOTSUPP)?;
    let n = crate::io::read_message(t, &f, buf.0, len, flags).await?;
    if addr.0 != 0 && addr_len.0 != 0 {
        UserOut::new(addr_len.0).put(&*t.mem(), &0u32)?;
    }
    Ok(n)
}

pub fn shutdown(t: &Rc<Task>, fd: Fd, how: i32) -> Result {
    socket_of(t, fd)?.downcast::<PairEnd>().ok_or(Errno::ENOTSOCK)?.shutdown(how)
}

pub fn getsockopt(t: &Rc<Task>, fd: Fd, level: i32, name: i32, value: OutBuf<4>, len: UserInOut<u32>) -> Result {
    socket_of(t, fd)?;
    let mem = t.mem();
    let room = len.get(&*mem)? as usize;
    let v: i32 = match (level, name) {
        (c::SOL_SOCKET, c::SO_TYPE) => c::SOCK_STREAM,
        (c::SOL_SOCKET, c::SO_ERROR) => 0,
        (c::SOL_SOCKET, c::SO_DOMAIN) => c::AF_UNIX,
        _ => return Err(Errno::ENOPROTOOPT),
    };
    let n = room.min(4);
    mem.write(value.0, &v.to_ne_bytes()[..n])?;
    len.put(&*mem, &(n as u32))
}
