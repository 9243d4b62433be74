//! What goes through sockets: send(2), recv(2), sendmsg(2), recvmmsg(2) …
use crate::args::{Addr, Fd, Flags, InBuf, OutBuf};
use crate::cmsg;
use crate::io::{MAX, vector};
use crate::sockaddr::{self, Raw};
use crate::socket::{Patience, attempt, caller, file_of, socket_of};
use abi::signal::SigInfo;
use abi::socket::{MmsgHdr, MsgHdr};
use abi::sys::Timespec;
use abi::{Errno, Result, c};
use guest::{UserIn, UserInOut, UserSink, UserSource};
use kernel::wait;
use net::{Address, Control, Incoming, Outgoing, Socket};
use std::rc::Rc;
use task::Task;
use vfs::OpenFile;

/// UIO_MAXIOV, for vectors and for messages.
const IOV_MAX: u64 = 1024;

/// Sends `bufs`, waiting as the file, the flags and the timeout say; raises SIGPIPE.
pub(crate) async fn send(t: &Rc<Task>, f: &OpenFile, bufs: &[(u64, usize)], mut out: Outgoing) -> Result<usize> {
    let s = &**socket_of(f)?;
    let patience = Patience::of(f, out.flags, s.timeouts().1);
    out.flags |= patience.flag();
    let (mem, caller) = (t.mem(), caller(t));
    let mut src = UserSource::new(&*mem, bufs);
    let total: usize = bufs.iter().map(|b| b.1).sum();
    let stream = s.kind() == c::SOCK_STREAM;
    if stream && patience.waits() && !s.takes_whole(total) {
        // A long message goes in parts: each is sent once.
        wait::settle().await;
    }
    let mut done = 0;
    loop {
        match attempt(s, patience, || s.send(&caller, &mut src, &mut out)).await {
            Ok(n) => {
                done += n;
                if done >= total || n == 0 || !stream {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(Errno::EPIPE) => {
                if stream && out.flags & c::MSG_NOSIGNAL == 0 {
                    t.signal(SigInfo::new(c::SIGPIPE, c::SI_USER));
                }
                return Err(Errno::EPIPE);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Receives into `bufs`, waiting as the file, the flags and the timeout say.
async fn receive(t: &Rc<Task>, f: &OpenFile, bufs: &[(u64, usize)], flags: i32) -> Result<Incoming> {
    let s = &**socket_of(f)?;
    // The queue of errors is looked at, never waited for.
    let errors = flags & c::MSG_ERRQUEUE != 0 && s.domain() != c::AF_UNIX;
    let patience = if errors { Patience::None } else { Patience::of(f, flags, s.timeouts().0) };
    let flags = flags | patience.flag();
    let mem = t.mem();
    let mut dst = UserSink::up_to(&*mem, bufs, crate::memory::writable(t, bufs));
    let all = flags & (c::MSG_WAITALL | c::MSG_PEEK | c::MSG_DONTWAIT) == c::MSG_WAITALL;
    let all = all && s.kind() == c::SOCK_STREAM;
    if all {
        wait::settle().await;
    }
    let mut got = match attempt(s, patience, || s.receive(&mut dst, flags)).await {
        // What there is, if it was less than SO_RCVLOWAT asks for.
        Err(e @ (Errno::EAGAIN | Errno::EINTR | Errno::ERESTARTSYS)) if patience.waits() => {
            s.receive(&mut dst, flags | c::MSG_DONTWAIT).map_err(|_| e)?
        }
        r => r?,
    };
    let total: usize = bufs.iter().map(|b| b.1).sum();
    let rights = |i: &Incoming| i.control.iter().any(|c| matches!(c, Control::Rights(_)));
    while all && got.len < total && !rights(&got) {
        match attempt(s, patience, || s.receive(&mut dst, flags)).await {
            Ok(more) if more.len > 0 => {
                got.len += more.len;
                got.control.extend(more.control.into_iter().filter(|c| matches!(c, Control::Rights(_))));
                got.flags |= more.flags;
            }
            _ => break,
        }
    }
    Ok(got)
}

/// Where a message goes. The kinds that do not look at it are not made to walk a path.
fn destination(t: &Task, s: &dyn Socket, raw: &Raw, flags: i32) -> Result<Option<Address>> {
    if raw.is_empty() {
        return Ok(None);
    }
    match (s.domain(), s.kind()) {
        (c::AF_UNIX, c::SOCK_SEQPACKET) => Ok(None),
        (c::AF_UNIX, c::SOCK_STREAM) => Ok(Some(Address::Unspecified)),
        (c::AF_INET | c::AF_INET6, c::SOCK_STREAM) if flags & c::MSG_FASTOPEN == 0 => Ok(None),
        (domain, _) => sockaddr::destination(t, domain, raw).map(Some),
    }
}

pub async fn sendto(
    t: &Rc<Task>,
    fd: Fd,
    buf: InBuf<2>,
    len: usize,
    flags: Flags,
    addr: Addr,
    addr_len: i32,
) -> Result<usize> {
    let f = file_of(t, fd)?;
    let to = match addr.0 {
        0 => None,
        at => destination(t, &**socket_of(&f)?, &Raw::read(&*t.mem(), at, addr_len)?, flags.bits())?,
    };
    let out = Outgoing { to, flags: flags.bits(), ..Outgoing::default() };
    send(t, &f, &[(buf.0, len.min(MAX))], out).await
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
    let f = file_of(t, fd)?;
    let got = receive(t, &f, &[(buf.0, len.min(MAX))], flags.bits()).await?;
    if addr.0 != 0 {
        sockaddr::write_sized(&*t.mem(), addr.0, UserInOut::new(addr_len.0), got.from.as_ref())?;
    }
    Ok(got.len)
}

/// The header, checked. EINVAL: a negative name length; EMSGSIZE: too long a vector.
fn header(t: &Task, msg: UserIn<MsgHdr>) -> Result<MsgHdr> {
    let mut h = msg.get(&*t.mem())?;
    if h.name != 0 {
        if h.namelen < 0 {
            return Err(Errno::EINVAL);
        }
        // Longer ones are cut, not refused.
        h.namelen = h.namelen.min(128);
    }
    if h.iovlen > IOV_MAX { Err(Errno::EMSGSIZE) } else { Ok(h) }
}

async fn send_message(t: &Rc<Task>, f: &OpenFile, msg: UserIn<MsgHdr>, flags: i32) -> Result<usize> {
    let h = header(t, msg)?;
    let s = &**socket_of(f)?;
    let bufs = vector(t, UserIn::new(h.iov), h.iovlen as usize)?;
    let to = match h.name {
        0 => None,
        at => destination(t, s, &Raw::read(&*t.mem(), at, h.namelen)?, flags)?,
    };
    let control = cmsg::read(t, s.domain(), h.control, h.controllen)?;
    send(t, f, &bufs, Outgoing { to, control, flags }).await
}

pub async fn sendmsg(t: &Rc<Task>, fd: Fd, msg: UserIn<MsgHdr>, flags: Flags) -> Result<usize> {
    let f = file_of(t, fd)?;
    send_message(t, &f, msg, flags.bits()).await
}

async fn receive_message(t: &Rc<Task>, f: &OpenFile, msg: UserInOut<MsgHdr>, flags: i32) -> Result<usize> {
    let mut h = header(t, UserIn::new(msg.addr()))?;
    let bufs = vector(t, UserIn::new(h.iov), h.iovlen as usize)?;
    let got = receive(t, f, &bufs, flags).await?;
    let mem = t.mem();
    if h.name != 0 {
        h.namelen = sockaddr::write(&*mem, h.name, h.namelen, got.from.as_ref())?;
    }
    let told = cmsg::write(t, got.control, (h.control, h.controllen), flags)?;
    h.controllen = told.len;
    h.flags = got.flags | flags & c::MSG_CMSG_CLOEXEC | if told.cut { c::MSG_CTRUNC } else { 0 };
    msg.put(&*mem, &h)?;
    Ok(got.len)
}

pub async fn recvmsg(t: &Rc<Task>, fd: Fd, msg: UserInOut<MsgHdr>, flags: Flags) -> Result<usize> {
    let f = file_of(t, fd)?;
    receive_message(t, &f, msg, flags.bits()).await
}

pub async fn sendmmsg(t: &Rc<Task>, fd: Fd, msgs: UserInOut<MmsgHdr>, n: u32, flags: Flags) -> Result<u32> {
    let f = file_of(t, fd)?;
    let n = n.min(IOV_MAX as u32);
    if n > 1 {
        wait::settle().await;
    }
    for i in 0..n {
        let sent = match msgs.index(i as usize) {
            Ok(at) => send_message(t, &f, UserIn::new(at.addr()), flags.bits()).await,
            Err(e) => Err(e),
        };
        match sent.and_then(|len| put_len(t, msgs, i, len)) {
            Ok(()) => {}
            Err(e) if i == 0 => return Err(e),
            Err(_) => return Ok(i),
        }
    }
    Ok(n)
}

/// Tells how many bytes message `i` had.
fn put_len(t: &Task, msgs: UserInOut<MmsgHdr>, i: u32, len: usize) -> Result {
    let at = msgs.index(i as usize)?.addr() + size_of::<MsgHdr>() as u64;
    t.mem().write(at, &(len as u32).to_ne_bytes())
}

pub async fn recvmmsg(
    t: &Rc<Task>,
    fd: Fd,
    msgs: UserInOut<MmsgHdr>,
    n: u32,
    flags: Flags,
    timeout: UserInOut<Timespec>,
) -> Result<u32> {
    let f = file_of(t, fd)?;
    let n = n.min(IOV_MAX as u32);
    let now = host::time::monotonic_ns;
    let end = match timeout.is_null() {
        true => None,
        false => Some(now().saturating_add(timeout.get(&*t.mem())?.ns()?)),
    };
    if n > 1 {
        wait::settle().await;
    }
    let mut flags = flags.bits();
    let first_only = flags & c::MSG_WAITFORONE != 0;
    flags &= !c::MSG_WAITFORONE;
    let mut done = 0;
    while done < n {
        let got = match msgs.index(done as usize) {
            Ok(at) => receive_message(t, &f, UserInOut::new(at.addr()), flags).await,
            Err(e) => Err(e),
        };
        match got.and_then(|len| put_len(t, msgs, done, len)) {
            Ok(()) => done += 1,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
        if first_only {
            flags |= c::MSG_DONTWAIT;
        }
        // The timeout is looked at between messages only.
        if end.is_some_and(|end| now() >= end) {
            break;
        }
    }
    if let Some(end) = end {
        timeout.put(&*t.mem(), &Timespec::from_ns(end.saturating_sub(now())))?;
    }
    Ok(done)
}
