//! AF_NETLINK: NETLINK_ROUTE sockets that tell about interfaces, addresses and routes, and NETLINK_SOCK_DIAG ones that tell
//! about sockets. netlink(7), rtnetlink(7), sock_diag(7).
//!
//! Nothing can be changed through them, and no news come by themselves.
use crate::route::{self, HEADER, Message, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Routes, attribute, attributes, number};
use crate::{Address, Caller, Incoming, Outgoing, Socket, diag};
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use kernel::cred::CAP_NET_ADMIN;
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use vfs::Ready;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_ACK: u16 = 4;
/// The first type that is not netlink's own.
const FIRST_TYPE: u16 = 16;
/// The largest request.
const MAX_REQUEST: usize = 1 << 15;
/// Bytes of answers that nobody has read.
const MAX_QUEUE: usize = 8 << 20;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// Port ids of sockets beyond a process's first.
const FIRST_OTHER_PORT: u32 = 0xffff_efff;

thread_local! {
    static PORTS: RefCell<HashSet<u32>> = RefCell::default();
}

/// A socket.
pub struct NetlinkSocket {
    kind: i32,
    /// What it tells about: routes, or without them sockets.
    routes: Option<Rc<Routes>>,
    /// 0: not bound yet.
    port: Cell<u32>,
    groups: Cell<u32>,
    answers: RefCell<VecDeque<Vec<u8>>>,
    queued: Cell<usize>,
    /// Options that were set, all of them numbers.
    options: RefCell<Vec<((i32, i32), i32)>>,
    queue: WaitQueue,
}

/// socket(2). EPROTONOSUPPORT for other protocols: this kernel does not have them.
pub fn socket(_caller: &Caller, kind: i32, protocol: i32) -> Result<Rc<dyn Socket>> {
    if kind != c::SOCK_RAW && kind != c::SOCK_DGRAM {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    let routes = match protocol {
        c::NETLINK_ROUTE => Some(crate::inet::stack()?.routes.clone()),
        c::NETLINK_SOCK_DIAG => None,
        _ => return Err(Errno::EPROTONOSUPPORT),
    };
    Ok(Rc::new(NetlinkSocket {
        kind,
        routes,
        port: Cell::new(0),
        groups: Cell::new(0),
        answers: RefCell::default(),
        queued: Cell::new(0),
        options: RefCell::default(),
        queue: WaitQueue::new(),
    }))
}

impl NetlinkSocket {
    /// Takes port id `wanted`; 0 is the process's own, or if that is taken any.
    fn take_port(&self, caller: &Caller, wanted: u32) -> Result {
        PORTS.with_borrow_mut(|ports| {
            let port = match wanted {
                0 if !ports.contains(&(caller.pid as u32)) => caller.pid as u32,
                0 => (1..=FIRST_OTHER_PORT).rev().find(|p| !ports.contains(p)).ok_or(Errno::EADDRINUSE)?,
                p => p,
            };
            if !ports.insert(port) {
                return Err(Errno::EADDRINUSE);
            }
            self.port.set(port);
            Ok(())
        })
    }

    /// A datagram that is no answer: what mq_notify(2) tells.
    pub fn deliver(&self, datagram: Vec<u8>) {
        self.answer(datagram);
        self.queue.wake();
    }

    fn answer(&self, datagram: Vec<u8>) {
        if self.queued.get() + datagram.len() > MAX_QUEUE {
            return;
        }
        self.queued.set(self.queued.get() + datagram.len());
        self.answers.borrow_mut().push_back(datagram);
    }

    /// NLMSG_ERROR with the request's header; 0 is an acknowledgement.
    fn error(&self, m: &Message<'_>, header: &[u8], e: Option<Errno>) {
        let mut body = e.map_or(0, |e| -e.raw()).to_ne_bytes().to_vec();
        body.extend_from_slice(header);
        if e.is_some() {
            body.extend_from_slice(m.body);
        }
        self.answer(route::message(NLMSG_ERROR, 0, m.seq, self.port.get(), &body));
    }

    fn serve(&self, caller: &Caller, m: &Message<'_>, header: &[u8]) {
        if m.flags & NLM_F_REQUEST == 0 || m.kind < FIRST_TYPE {
            return;
        }
        let dump = m.flags & NLM_F_DUMP != 0;
        match self.answers_to(caller, m, dump) {
            Ok(parts) => {
                for mut p in parts {
                    readdress(&mut p, m.seq, self.port.get());
                    self.answer(p);
                }
                if m.flags & NLM_F_ACK != 0 && !dump {
                    self.error(m, header, None);
                }
            }
            Err(e) => self.error(m, header, Some(e)),
        }
    }

    /// What the host says to a request written anew from the guest's, or what we know of sockets.
    fn answers_to(&self, caller: &Caller, m: &Message<'_>, dump: bool) -> Result<Vec<Vec<u8>>> {
        let Some(routes) = &self.routes else { return diag::answers(m) };
        let family = *m.body.first().ok_or(Errno::EINVAL)?;
        let none = || Ok(vec![route::message(NLMSG_DONE, NLM_F_MULTI, m.seq, 0, &[0; 4])]);
        match m.kind {
            c::RTM_GETLINK => {
                let mut body = vec![0; 16];
                body[0] = family;
                if !dump {
                    body[4..8].copy_from_slice(m.body.get(4..8).ok_or(Errno::EINVAL)?);
                    let name = attributes(m.body.get(16..).unwrap_or_default()).find(|a| a.0 == route::IFLA_IFNAME);
                    if let Some((kind, v)) = name.filter(|a| (1..=16).contains(&a.1.len())) {
                        body.extend(attribute(kind, v));
                    }
                }
                routes.ask(m.kind, dump, &body)
            }
            c::RTM_GETADDR if dump => routes.ask(m.kind, true, &[family, 0, 0, 0, 0, 0, 0, 0]),
            c::RTM_GETROUTE => {
                let mut body = vec![0; 12];
                body[0] = family;
                if !dump {
                    for (kind, v) in attributes(m.body.get(12..).unwrap_or_default()) {
                        match (kind, v.len()) {
                            (RTA_DST, 4 | 16) => body[1] = v.len() as u8 * 8,
                            (RTA_OIF, 4) => {}
                            _ => continue,
                        }
                        body.extend(attribute(kind, v));
                    }
                }
                routes.ask(m.kind, dump, &body)
            }
            c::RTM_GETRULE | c::RTM_GETNEIGH | c::RTM_GETNEIGHTBL | c::RTM_GETQDISC if dump => none(),
            c::RTM_NEWLINK if caller.cred.has(CAP_NET_ADMIN) => as_it_is(routes, m).map(|()| Vec::new()),
            // Types come in fours: new, delete, get, set.
            kind if kind % 4 != 2 => Err(Errno::EPERM),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

/// `ip link set lo up`, where it is up: what leaves an interface as it is. EPERM: it would be another's doing.
fn as_it_is(routes: &Routes, m: &Message<'_>) -> Result {
    const NLM_F_CREATE: u16 = 0x400;
    let word = |at: usize| number(m.body, at).ok_or(Errno::EINVAL);
    let (index, flags, change) = (word(4)?, word(8)?, word(12)?);
    let mut others = attributes(&m.body[16..]).filter(|a| a.0 != route::IFLA_IFNAME);
    if m.flags & NLM_F_CREATE != 0 || others.next().is_some() {
        return Err(Errno::EPERM);
    }
    let name = attributes(&m.body[16..]).next().map(|(_, name)| name.split(|b| *b == 0).next().unwrap_or_default());
    let meant = |l: &route::Link| if index != 0 { l.index as u32 == index } else { name == Some(l.name.as_bytes()) };
    let link = routes.links()?.into_iter().find(meant).ok_or(Errno::ENODEV)?;
    let renamed = name.is_some_and(|n| n != link.name.as_bytes());
    if renamed || (link.flags ^ flags) & change != 0 { Err(Errno::EPERM) } else { Ok(()) }
}

/// Gives every message the sequence number and port id the guest knows.
fn readdress(datagram: &mut [u8], seq: u32, port: u32) {
    let mut at = 0;
    while let Some(len) = number(datagram, at).map(|n| n as usize).filter(|n| *n >= HEADER) {
        if let Some(ids) = datagram.get_mut(at + 8..at + 16) {
            ids[..4].copy_from_slice(&seq.to_ne_bytes());
            ids[4..].copy_from_slice(&port.to_ne_bytes());
        }
        at += len.next_multiple_of(4);
    }
}

impl Socket for NetlinkSocket {
    fn domain(&self) -> i32 {
        c::AF_NETLINK
    }
    fn kind(&self) -> i32 {
        self.kind
    }
    fn protocol(&self) -> i32 {
        if self.routes.is_some() { c::NETLINK_ROUTE } else { c::NETLINK_SOCK_DIAG }
    }

    fn bind(&self, caller: &Caller, to: Address) -> Result {
        let Address::Netlink { pid, groups } = to else { return Err(Errno::EINVAL) };
        match self.port.get() {
            0 => self.take_port(caller, pid)?,
            own if pid == own || pid == 0 => {}
            _ => return Err(Errno::EINVAL),
        }
        self.groups.set(groups);
        Ok(())
    }

    fn connect(&self, caller: &Caller, to: Address) -> Result {
        match to {
            Address::Unspecified => Ok(()),
            Address::Netlink { pid: 0, .. } if self.port.get() == 0 => self.take_port(caller, 0),
            Address::Netlink { pid: 0, .. } => Ok(()),
            Address::Netlink { .. } => Err(Errno::ECONNREFUSED),
            _ => Err(Errno::EINVAL),
        }
    }

    fn name(&self) -> Result<Address> {
        Ok(Address::Netlink { pid: self.port.get(), groups: self.groups.get() })
    }

    fn peer(&self) -> Result<Address> {
        Ok(Address::Netlink { pid: 0, groups: 0 })
    }

    fn send(&self, caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize> {
        match out.to {
            None | Some(Address::Netlink { pid: 0, groups: 0 }) => {}
            Some(Address::Netlink { groups: 0, .. }) => return Err(Errno::ECONNREFUSED),
            Some(Address::Netlink { .. }) => return Err(Errno::EPERM),
            Some(_) => return Err(Errno::EINVAL),
        }
        let len = src.remaining();
        if len > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = vec![0; len];
        let mut at = 0;
        while at < len {
            match src.take(&mut bytes[at..])? {
                0 => return Err(Errno::EFAULT),
                n => at += n,
            }
        }
        if self.port.get() == 0 {
            self.take_port(caller, 0)?;
        }
        let mut at = 0;
        for m in route::messages(&bytes) {
            self.serve(caller, &m, &bytes[at..at + HEADER]);
            at += (HEADER + m.body.len()).next_multiple_of(4);
        }
        self.queue.wake();
        Ok(len)
    }

    fn receive(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        let mut answers = self.answers.borrow_mut();
        let first = answers.front().ok_or(Errno::EAGAIN)?;
        let (whole, room) = (first.len(), dst.remaining());
        let taken = whole.min(room);
        if taken > 0 {
            dst.put(&first[..taken])?;
        }
        if flags & c::MSG_PEEK == 0 {
            self.queued.set(self.queued.get() - whole);
            answers.pop_front();
        }
        let len = if flags & c::MSG_TRUNC != 0 { whole } else { taken };
        let flags = if whole > room { c::MSG_TRUNC } else { 0 };
        Ok(Incoming { len, from: Some(Address::Netlink { pid: 0, groups: 0 }), control: Vec::new(), flags })
    }

    fn shutdown(&self, _how: i32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }

    fn get_option(&self, level: i32, name: i32, _optval: &[u8]) -> Result<Vec<u8>> {
        let set = self.options.borrow().iter().find(|o| o.0 == (level, name)).map(|o| o.1);
        let v = match (level, name) {
            (c::SOL_SOCKET, c::SO_TYPE) => self.kind,
            (c::SOL_SOCKET, c::SO_DOMAIN) => c::AF_NETLINK,
            (c::SOL_SOCKET, c::SO_PROTOCOL) => self.protocol(),
            (c::SOL_SOCKET, c::SO_ERROR | c::SO_ACCEPTCONN) => 0,
            (c::SOL_SOCKET, c::SO_SNDBUF | c::SO_RCVBUF) => set.map_or(212_992, |v| v.saturating_mul(2)),
            (c::SOL_NETLINK, c::NETLINK_PKTINFO..=c::NETLINK_GET_STRICT_CHK) => set.unwrap_or(0),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(v.to_ne_bytes().to_vec())
    }

    fn set_option(&self, _caller: &Caller, level: i32, name: i32, value: &[u8]) -> Result {
        let v = value.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)?;
        match (level, name) {
            (c::SOL_SOCKET, c::SO_SNDBUF | c::SO_RCVBUF | c::SO_PASSCRED) => {}
            (c::SOL_SOCKET, c::SO_SNDBUFFORCE | c::SO_RCVBUFFORCE) => return Err(Errno::EPERM),
            // What the groups would tell never happens.
            (c::SOL_NETLINK, c::NETLINK_ADD_MEMBERSHIP | c::NETLINK_DROP_MEMBERSHIP) => return Ok(()),
            (c::SOL_NETLINK, c::NETLINK_PKTINFO..=c::NETLINK_GET_STRICT_CHK) => {}
            _ => return Err(Errno::ENOPROTOOPT),
        }
        let mut options = self.options.borrow_mut();
        options.retain(|o| o.0 != (level, name));
        options.push(((level, name), v));
        Ok(())
    }

    fn ready(&self) -> Ready {
        let out = Ready::OUT | Ready::WRNORM;
        if self.answers.borrow().is_empty() { out } else { out | Ready::IN | Ready::RDNORM }
    }

    fn waiters(&self) -> &WaitQueue {
        &self.queue
    }

    fn release(&self) {
        PORTS.with_borrow_mut(|p| p.remove(&self.port.replace(0)));
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
