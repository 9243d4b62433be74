//! AF_INET and AF_INET6: each socket is a host socket inside the sandbox's network namespace, never waited on. A TCP
//! connection between two sockets of the sandbox is ours, and only its names and options are the host's.
mod control;
mod ifreq;
mod listeners;
mod local;
mod options;
mod raw;

use crate::policy::{Act, Policy};
use crate::route::Routes;
use crate::{Accepted, Address, Caller, Incoming, Outgoing, Socket};
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use kernel::reactor::{self, Watch};
use kernel::wait::WaitQueue;
use listeners::{Listener, Listeners};
use local::{End, Limits};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use vfs::Ready;

/// CAP_NET_RAW, capabilities(7).
const CAP_NET_RAW: u32 = 13;
/// CAP_NET_BIND_SERVICE, capabilities(7).
const CAP_NET_BIND_SERVICE: u32 = 10;
/// The first port that needs no capability, if nothing else is said.
pub const FIRST_FREE_PORT: u16 = 1024;
/// The most that one call moves; the largest datagram fits.
const MAX_CALL: usize = 1 << 16;
/// Control information of one message.
const MAX_CONTROL: usize = 1024;
/// What is passed on of the flags of a send, and of a receive.
const SEND_FLAGS: i32 = c::MSG_OOB | c::MSG_DONTROUTE | c::MSG_MORE | c::MSG_CONFIRM | c::MSG_EOR | c::MSG_FASTOPEN;
const RECEIVE_FLAGS: i32 = c::MSG_PEEK | c::MSG_OOB | c::MSG_TRUNC | c::MSG_ERRQUEUE;

/// What all sockets of the sandbox share.
pub(crate) struct Stack {
    pub routes: Rc<Routes>,
    pub policy: Policy,
    first_free_port: u16,
    listeners: Listeners,
}

thread_local! {
    static STACK: RefCell<Option<Rc<Stack>>> = const { RefCell::new(None) };
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_CALL]);
}

/// Says what the sandbox's sockets go by. Until then there are none.
pub fn configure(routes: Rc<Routes>, policy: Policy, first_free_port: u16) {
    STACK.set(Some(Rc::new(Stack { routes, policy, first_free_port, listeners: Listeners::default() })));
}

/// EAFNOSUPPORT where there is no network.
pub(crate) fn stack() -> Result<Rc<Stack>> {
    STACK.with_borrow(Option::clone).ok_or(Errno::EAFNOSUPPORT)
}

/// A file of /proc/net, proc_net(5), by its name. ENOENT for those that are not here.
pub fn proc_file(name: &str) -> Result<String> {
    crate::route::proc_file(&stack()?.routes, name)
}

/// Every interface of the sandbox's network.
pub fn links() -> Result<Vec<crate::route::Link>> {
    stack()?.routes.links()
}

/// The ioctl(2) commands of netdevice(7). ENOTTY for others.
pub(crate) fn interface(mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
    let stack = stack().map_err(|_| Errno::ENOTTY)?;
    ifreq::ioctl(&stack.routes, mem, cmd, arg)
}

/// A socket of the network.
pub struct InetSocket {
    /// Dropped before the descriptor, of which there is no copy. `None`: an accepted end of ours.
    watch: RefCell<Option<Watch>>,
    shared: Rc<Shared>,
    fd: OwnedFd,
    domain: i32,
    kind: i32,
    protocol: i32,
    stack: Rc<Stack>,
    /// SO_RCVTIMEO and SO_SNDTIMEO, nanoseconds; 0: none.
    timeouts: [Cell<u64>; 2],
    /// SO_LINGER's seconds, which the host must not wait. `None`: off.
    linger: Cell<Option<i32>>,
    /// The connection, if its other end is in the sandbox too.
    own: RefCell<Option<Rc<End>>>,
    listener: RefCell<Option<Rc<Listener>>>,
    limits: Rc<Limits>,
    /// The host's socket has neither connected nor listened.
    fresh: Cell<bool>,
    /// The options that were set, for those that are accepted: level, name, value.
    settings: RefCell<Vec<(i32, i32, Vec<u8>)>>,
}

/// What the reactor tells.
#[derive(Default)]
struct Shared {
    queue: WaitQueue,
    /// What is known to hold. IN only until something is received; OUT until the host refuses bytes.
    ready: Cell<u32>,
    /// The connection is ours: what the host tells of its socket means nothing.
    own: Cell<bool>,
}

/// socket(2): TCP, UDP and ICMP echo; raw ones for ICMP echo only. Without flags in `kind`.
pub fn socket(caller: &Caller, domain: i32, kind: i32, protocol: i32) -> Result<Rc<dyn Socket>> {
    let stack = stack()?;
    if !(0..=i32::from(u8::MAX)).contains(&protocol) {
        return Err(if protocol == c::IPPROTO_MPTCP { Errno::EPROTONOSUPPORT } else { Errno::EINVAL });
    }
    let echo = if domain == c::AF_INET { c::IPPROTO_ICMP } else { c::IPPROTO_ICMPV6 };
    match (kind, protocol) {
        (c::SOCK_STREAM, 0 | c::IPPROTO_TCP) | (c::SOCK_DGRAM, 0 | c::IPPROTO_UDP) => {}
        (c::SOCK_DGRAM, p) if p == echo => {}
        (c::SOCK_STREAM | c::SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT),
        (c::SOCK_RAW, p) if p == echo && caller.cred.has(CAP_NET_RAW) => {
            // EACCES: the namespace's owner has not given echo sockets to the sandbox.
            let fd = host::net::socket(domain, c::SOCK_DGRAM, p).map_err(|_| Errno::EPERM)?;
            return Ok(raw::RawEcho::new(InetSocket::new(stack, fd, domain, c::SOCK_DGRAM, p)?)?);
        }
        // As for a process without CAP_NET_RAW.
        (c::SOCK_RAW, 1..) => return Err(Errno::EPERM),
        (c::SOCK_RAW, _) => return Err(Errno::EPROTONOSUPPORT),
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    }
    let fd = host::net::socket(domain, kind, protocol)?;
    let protocol = match (kind, protocol) {
        (c::SOCK_STREAM, 0) => c::IPPROTO_TCP,
        (_, 0) => c::IPPROTO_UDP,
        (_, p) => p,
    };
    Ok(Rc::new(InetSocket::new(stack, fd, domain, kind, protocol)?))
}

impl InetSocket {
    fn new(stack: Rc<Stack>, fd: OwnedFd, domain: i32, kind: i32, protocol: i32) -> Result<InetSocket> {
        let s = InetSocket::unwatched(stack, fd, (domain, kind, protocol), Rc::default(), Rc::default());
        s.watch()?;
        Ok(s)
    }

    fn unwatched(
        stack: Rc<Stack>,
        fd: OwnedFd,
        (domain, kind, protocol): (i32, i32, i32),
        shared: Rc<Shared>,
        limits: Rc<Limits>,
    ) -> InetSocket {
        InetSocket {
            watch: RefCell::new(None),
            shared,
            fd,
            domain,
            kind,
            protocol,
            stack,
            timeouts: [Cell::new(0), Cell::new(0)],
            linger: Cell::new(None),
            own: RefCell::new(None),
            listener: RefCell::new(None),
            limits,
            fresh: Cell::new(true),
            settings: RefCell::default(),
        }
    }

    /// Hears of the host's socket from now on.
    fn watch(&self) -> Result {
        if self.watch.borrow().is_none() {
            let told = self.shared.clone();
            let news = move |events| {
                if !told.own.get() {
                    told.ready.set(known(events));
                    told.queue.wake();
                }
            };
            self.watch.replace(Some(reactor::watch_with(self.fd(), host::epoll::EDGE_IN_OUT, Rc::new(news))?));
        }
        Ok(())
    }

    fn own(&self) -> Option<Rc<End>> {
        self.own.borrow().clone()
    }

    /// The connection of ours is over, and the host's socket, which has none, is what there is.
    fn disown(&self) -> Result {
        if let Some(end) = self.own.take() {
            end.close(true);
        }
        self.shared.own.set(false);
        self.watch()
    }

    /// The next connection from within the sandbox. EAGAIN: there is none.
    fn accept_own(&self) -> Result<Accepted> {
        let listener = self.listener.borrow().clone().ok_or(Errno::EAGAIN)?;
        while let Some(end) = listener.take() {
            let peer = self.shown(&end.peer_name);
            if self.stack.policy.check(Act::Accept, &peer).is_err() {
                end.close(true);
                continue;
            }
            let fd = match host::net::socket(self.domain, self.kind, self.protocol) {
                Ok(fd) => fd,
                Err(e) => {
                    listener.put_back(end);
                    return Err(e);
                }
            };
            for (level, name, value) in self.settings.borrow().iter() {
                // It was good for the listener; where it means nothing now, it is not there to be told.
                let _ = host::net::set_option(fd.as_fd(), *level, *name, value);
            }
            let what = (self.domain, self.kind, self.protocol);
            let new = InetSocket::unwatched(self.stack.clone(), fd, what, end.shared.clone(), end.limits.clone());
            new.settings.replace(self.settings.borrow().clone());
            new.own.replace(Some(end));
            self.bequeath(&new);
            return Ok(Accepted { socket: Rc::new(new), peer: Address::Inet(peer) });
        }
        Err(Errno::EAGAIN)
    }

    /// What an accepted socket has of its listener.
    fn bequeath(&self, new: &InetSocket) {
        for (n, own) in new.timeouts.iter().zip(&self.timeouts) {
            n.set(own.get());
        }
        new.linger.set(self.linger.get());
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn stream(&self) -> bool {
        self.kind == c::SOCK_STREAM
    }

    /// `bits` are no longer known to hold.
    fn forget(&self, bits: Ready) {
        self.shared.ready.set(self.shared.ready.get() & !bits.bits());
    }

    fn send_bytes(&self, bytes: &[u8], out: &Outgoing, to: Option<&SocketAddr>) -> Result<usize> {
        let flags = out.flags & SEND_FLAGS;
        if out.control.is_empty() {
            return host::net::send(self.fd(), bytes, flags, to);
        }
        let control = control::encode(&out.control)?;
        host::net::send_with(self.fd(), bytes, &control, flags, to)
    }

    /// A stream's bytes, of which nothing more is to be told. The hot path: one host call.
    fn receive_stream(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        let want = dst.remaining().min(MAX_CALL);
        BUFFER.with_borrow_mut(|buf| {
            let n = host::net::receive(self.fd(), &mut buf[..want], flags)?;
            // MSG_TRUNC: the host has thrown the bytes away.
            let len = if flags & c::MSG_TRUNC != 0 { n } else { dst.put(&buf[..n.min(want)])? };
            Ok(Incoming { len, ..Incoming::default() })
        })
    }

    fn receive_message(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        let want = dst.remaining().min(MAX_CALL);
        let mut space = [0u8; MAX_CONTROL];
        BUFFER.with_borrow_mut(|buf| {
            let m = host::net::receive_with(self.fd(), &mut buf[..want], &mut space, flags)?;
            let taken = m.len.min(want);
            if taken > 0 {
                dst.put(&buf[..taken])?;
            }
            let len = if flags & c::MSG_TRUNC != 0 { m.len } else { taken };
            let control = control::decode(&space[..m.control]);
            Ok(Incoming { len, from: m.from.map(Address::Inet), control, flags: m.flags })
        })
    }
}

/// EPOLLIN and its kin as [`Ready`], with the two that the watch does not ask for.
fn known(events: u32) -> u32 {
    let mut r = Ready::from_bits_truncate(events);
    r.set(Ready::RDNORM, r.contains(Ready::IN));
    r.set(Ready::WRNORM, r.contains(Ready::OUT));
    r.bits()
}

const INPUT: Ready = Ready::IN.union(Ready::RDNORM).union(Ready::PRI);
const OUTPUT: Ready = Ready::OUT.union(Ready::WRNORM);

impl Socket for InetSocket {
    fn domain(&self) -> i32 {
        self.domain
    }
    fn kind(&self) -> i32 {
        self.kind
    }
    fn protocol(&self) -> i32 {
        self.protocol
    }

    /// EACCES: the port is for those with CAP_NET_BIND_SERVICE.
    fn bind(&self, caller: &Caller, to: Address) -> Result {
        let Address::Inet(a) = to else { return Err(Errno::EAFNOSUPPORT) };
        if (1..self.stack.first_free_port).contains(&a.port()) && !caller.cred.has(CAP_NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        self.stack.policy.check(Act::Bind, &a)?;
        host::net::bind(self.fd(), &a)
    }

    fn listen(&self, _caller: &Caller, backlog: i32) -> Result {
        if self.own.borrow().is_some() {
            return Err(Errno::EINVAL);
        }
        self.forget(Ready::all());
        host::net::listen(self.fd(), backlog)?;
        self.fresh.set(false);
        self.start_listening(backlog)
    }

    fn connect(&self, _caller: &Caller, to: Address) -> Result {
        let to = match to {
            Address::Inet(a) => Some(a),
            Address::Unspecified => None,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        if let Some(a) = &to {
            self.stack.policy.check(Act::Connect, a)?;
        }
        match (self.own(), &to) {
            (Some(_), None) => self.disown()?,
            (Some(end), Some(_)) => {
                let r = end.connect_again();
                if r.is_err() && !matches!(r, Err(Errno::EALREADY | Errno::EISCONN)) {
                    self.disown()?;
                }
                return r;
            }
            (None, Some(a)) if self.stream() => {
                if let Some(r) = self.connect_here(a) {
                    return r;
                }
            }
            _ => {}
        }
        self.forget(Ready::all());
        self.fresh.set(self.fresh.get() && to.is_none());
        host::net::connect(self.fd(), to.as_ref())
    }

    fn accept(&self, _caller: &Caller) -> Result<Accepted> {
        match self.accept_own() {
            Err(Errno::EAGAIN) => {}
            r => return r,
        }
        loop {
            self.forget(INPUT);
            let (fd, peer) = host::net::accept(self.fd())?;
            if self.stack.policy.check(Act::Accept, &peer).is_err() {
                continue;
            }
            let new = InetSocket::new(self.stack.clone(), fd, self.domain, self.kind, self.protocol)?;
            new.fresh.set(false);
            self.bequeath(&new);
            return Ok(Accepted { socket: Rc::new(new), peer: Address::Inet(peer) });
        }
    }

    fn name(&self) -> Result<Address> {
        if let Some(end) = self.own() {
            return Ok(Address::Inet(self.shown(&end.name)));
        }
        host::net::name(self.fd()).map(Address::Inet)
    }

    fn peer(&self) -> Result<Address> {
        if let Some(end) = self.own() {
            end.connected()?;
            return Ok(Address::Inet(self.shown(&end.peer_name)));
        }
        host::net::peer(self.fd()).map(Address::Inet)
    }

    fn send(&self, _caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize> {
        if let Some(end) = self.own() {
            control::encode(&out.control)?;
            return end.send(src, out.flags);
        }
        let to = match &out.to {
            None => None,
            Some(Address::Inet(a)) => Some(*a),
            Some(_) => return Err(Errno::EAFNOSUPPORT),
        };
        if let Some(a) = &to {
            let act = if self.stream() { Act::Connect } else { Act::Send };
            self.stack.policy.check(act, a)?;
        }
        let want = src.remaining();
        if want > MAX_CALL && !self.stream() {
            return Err(Errno::EMSGSIZE);
        }
        BUFFER.with_borrow_mut(|buf| {
            let buf = &mut buf[..want.min(MAX_CALL)];
            let len = if buf.is_empty() { 0 } else { src.take(buf)? };
            if len < buf.len() && !self.stream() {
                return Err(Errno::EFAULT);
            }
            let sent = self.send_bytes(&buf[..len], out, to.as_ref());
            if !matches!(sent, Ok(n) if n == len) {
                self.forget(OUTPUT);
            }
            sent
        })
    }

    fn receive(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        if let Some(end) = self.own() {
            return end.receive(dst, flags);
        }
        self.forget(INPUT);
        let flags = flags & RECEIVE_FLAGS;
        if self.stream() && flags & (c::MSG_ERRQUEUE | c::MSG_OOB) == 0 {
            self.receive_stream(dst, flags)
        } else {
            self.receive_message(dst, flags)
        }
    }

    /// A datagram goes whole; of a stream the host may take any part.
    fn takes_whole(&self, len: usize) -> bool {
        match self.own.borrow().as_ref() {
            Some(end) => end.takes(len),
            None => !self.stream() || len <= 1,
        }
    }

    fn shutdown(&self, how: i32) -> Result {
        if let Some(end) = self.own() {
            return if end.is_opening() { self.disown() } else { end.shutdown(how) };
        }
        if how != c::SHUT_WR {
            self.stop_listening();
        }
        self.forget(Ready::all());
        let done = host::net::shutdown(self.fd(), how);
        self.shared.queue.wake();
        done
    }

    fn get_option(&self, level: i32, name: i32, optval: &[u8]) -> Result<Vec<u8>> {
        options::get(self, level, name, optval)
    }

    fn set_option(&self, caller: &Caller, level: i32, name: i32, value: &[u8]) -> Result {
        options::set(self, caller, level, name, value)?;
        if self.stream() {
            options::note(self, level, name, value)?;
        }
        Ok(())
    }

    fn take_error(&self) -> Option<Errno> {
        if let Some(end) = self.own() {
            return end.take_error();
        }
        let v = self.get_option(c::SOL_SOCKET, c::SO_ERROR, &[]).ok()?;
        let e = i32::from_ne_bytes(v.try_into().ok()?);
        (e != 0).then(|| Errno::from_raw(e))
    }

    fn timeouts(&self) -> (Option<u64>, Option<u64>) {
        let of = |n: &Cell<u64>| Some(n.get()).filter(|v| *v != 0);
        (of(&self.timeouts[0]), of(&self.timeouts[1]))
    }

    /// The host is asked only where nothing is known to be there to receive: that may have changed unnoticed.
    fn ready(&self) -> Ready {
        if let Some(end) = self.own.borrow().as_ref() {
            return end.ready();
        }
        if self.listener.borrow().as_ref().is_some_and(|l| !l.is_empty()) {
            return Ready::IN | Ready::RDNORM;
        }
        let r = Ready::from_bits_truncate(self.shared.ready.get());
        if r.contains(Ready::IN) {
            return r;
        }
        let now = Ready::from_bits_truncate(host::stream::poll_now(self.fd(), Ready::all().bits() as u16).into());
        self.shared.ready.set(now.bits());
        now
    }

    fn waiters(&self) -> &WaitQueue {
        &self.shared.queue
    }

    fn ioctl(&self, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        let number = match (u64::from(cmd), self.own()) {
            (c::FIONREAD, Some(end)) => end.input_bytes() as i32,
            (c::TIOCOUTQ, Some(end)) => end.output_bytes() as i32,
            (host::net::SIOCATMARK, Some(end)) => end.at_mark().into(),
            (c::FIONREAD, None) => host::term::input_bytes(self.fd())?,
            (c::TIOCOUTQ, None) => host::term::output_bytes(self.fd())?,
            (host::net::SIOCATMARK, None) => host::net::at_mark(self.fd())?.into(),
            _ => return Err(Errno::ENOTTY),
        };
        mem.write(arg, &number.to_ne_bytes())?;
        Ok(0)
    }

    fn queued(&self) -> (usize, usize) {
        if let Some(end) = self.own() {
            return (end.output_bytes(), end.input_bytes());
        }
        let bytes = |n: Result<i32>| n.ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        (bytes(host::term::output_bytes(self.fd())), bytes(host::term::input_bytes(self.fd())))
    }

    fn urged(&self) -> bool {
        self.own.borrow().as_ref().is_some_and(|end| end.urged())
    }

    fn release(&self) {
        self.stop_listening();
        if let Some(end) = self.own() {
            end.close(self.linger.get() == Some(0));
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
