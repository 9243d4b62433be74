//! The sandbox's own listening sockets, and how a connect(2) finds one without the host.
use super::local::{self, End, Limits};
use super::{InetSocket, Shared};
use abi::{Errno, Result, c};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

/// A listening socket as those who connect see it. The host's socket listens too, for those outside.
pub(super) struct Listener {
    address: SocketAddr,
    /// IPV6_V6ONLY.
    v6_only: bool,
    shared: Rc<Shared>,
    limits: Rc<Limits>,
    backlog: Cell<usize>,
    /// The first `backlog + 1` are open; the others wait for room.
    queue: RefCell<VecDeque<Rc<End>>>,
}

/// By port.
#[derive(Default)]
pub(super) struct Listeners {
    all: RefCell<HashMap<u16, Vec<Rc<Listener>>>>,
    /// Which of several with the same address (SO_REUSEPORT) is next.
    turn: Cell<usize>,
}

impl Listeners {
    fn add(&self, l: Rc<Listener>) {
        self.all.borrow_mut().entry(l.address.port()).or_default().push(l);
    }

    fn remove(&self, l: &Rc<Listener>) {
        let mut all = self.all.borrow_mut();
        if let Some(same) = all.get_mut(&l.address.port()) {
            same.retain(|other| !Rc::ptr_eq(l, other));
            if same.is_empty() {
                all.remove(&l.address.port());
            }
        }
    }

    /// Who listens there, the one that was bound most closely. A wildcard is taken for loopback addresses only: which
    /// others are the sandbox's is the host's to know.
    fn find(&self, to: &SocketAddr) -> Option<Rc<Listener>> {
        let all = self.all.borrow();
        let same = all.get(&to.port())?;
        let best = same.iter().map(|l| l.rank(to.ip())).max().filter(|r| *r > 0)?;
        let fit = || same.iter().filter(|l| l.rank(to.ip()) == best);
        self.turn.set(self.turn.get().wrapping_add(1));
        fit().nth(self.turn.get() % fit().count()).filter(|l| !l.limits.host_only.get()).cloned()
    }
}

impl Listener {
    fn rank(&self, to: IpAddr) -> u8 {
        let own = self.address.ip();
        match (own, to) {
            _ if own.to_canonical() == to => 3,
            _ if !own.is_unspecified() || !to.is_loopback() => 0,
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => 2,
            (IpAddr::V6(_), IpAddr::V4(_)) if !self.v6_only => 1,
            _ => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    fn push(&self, end: Rc<End>) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() == queue.capacity() {
            queue.retain(|e| !e.is_gone() || e.is_open());
        }
        let room = queue.len() <= self.backlog.get();
        queue.push_back(end.clone());
        drop(queue);
        if room {
            end.open();
            self.shared.queue.wake();
        }
    }

    /// The next to be accepted. That leaves room for another.
    pub fn take(&self) -> Option<Rc<End>> {
        let first = self.queue.borrow_mut().pop_front()?;
        self.fill();
        Some(first)
    }

    /// It could not be accepted after all.
    pub fn put_back(&self, end: Rc<End>) {
        self.queue.borrow_mut().push_front(end);
    }

    fn fill(&self) {
        let mut opened = Vec::new();
        let mut queue = self.queue.borrow_mut();
        let mut at = queue.len().min(self.backlog.get() + 1);
        while at > 0 && queue[at - 1].is_opening() {
            at -= 1;
        }
        while at <= self.backlog.get()
            && let Some(end) = queue.get(at)
        {
            if end.is_gone() {
                queue.remove(at);
            } else {
                opened.push(end.clone());
                at += 1;
            }
        }
        drop(queue);
        opened.iter().for_each(|e| e.open());
    }

    /// Those in the queue are told that nobody will accept them.
    fn close(&self) {
        for end in self.queue.take() {
            end.refuse();
        }
    }
}

/// An address without IPv4 in IPv6's clothes; the unspecified one is this machine.
fn plain(a: &SocketAddr) -> SocketAddr {
    let ip = match a.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, a.port())
}

impl InetSocket {
    /// An address as sockets of this one's family tell it.
    pub(super) fn shown(&self, a: &SocketAddr) -> SocketAddr {
        match a {
            SocketAddr::V4(v4) if self.domain == c::AF_INET6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            _ => *a,
        }
    }

    fn v6_only(&self) -> Result<bool> {
        let mut value = [0; 4];
        host::net::option(self.fd(), c::IPPROTO_IPV6, c::IPV6_V6ONLY, &mut value)?;
        Ok(i32::from_ne_bytes(value) != 0)
    }

    /// The host listens: so do we.
    pub(super) fn start_listening(&self, backlog: i32) -> Result {
        let backlog = usize::try_from(backlog).unwrap_or(0);
        if let Some(l) = self.listener.borrow().as_ref() {
            l.backlog.set(backlog);
            l.fill();
            return Ok(());
        }
        let l = Rc::new(Listener {
            address: host::net::name(self.fd())?,
            v6_only: self.domain == c::AF_INET6 && self.v6_only()?,
            shared: self.shared.clone(),
            limits: self.limits.clone(),
            backlog: Cell::new(backlog),
            queue: RefCell::default(),
        });
        self.stack.listeners.add(l.clone());
        self.listener.replace(Some(l));
        Ok(())
    }

    pub(super) fn stop_listening(&self) {
        if let Some(l) = self.listener.take() {
            self.stack.listeners.remove(&l);
            l.close();
        }
    }

    /// connect(2) to a listener of the sandbox's own; `None`: there is none, or something only the host can do is asked
    /// for. EINPROGRESS.
    pub(super) fn connect_here(&self, to: &SocketAddr) -> Option<Result> {
        let scoped = matches!(to, SocketAddr::V6(a) if a.scope_id() != 0);
        if !self.fresh.get() || self.limits.host_only.get() || scoped || to.is_ipv6() != (self.domain == c::AF_INET6) {
            return None;
        }
        let plain_to = plain(to);
        let l = self.stack.listeners.find(&plain_to)?;
        let name = self.reserve(&plain_to).ok()?;
        let limits = [self.limits.clone(), Rc::new(Limits::clone(&l.limits))];
        let (own, other) = local::pair(self.shared.clone(), limits, name, plain_to);
        self.shared.own.set(true);
        self.own.replace(Some(own));
        l.push(other);
        Some(Err(Errno::EINPROGRESS))
    }

    /// This end's name. The host keeps its port for us.
    fn reserve(&self, to: &SocketAddr) -> Result<SocketAddr> {
        let bound = host::net::name(self.fd.as_fd())?;
        if self.domain == c::AF_INET6 && to.is_ipv4() && self.v6_only()? {
            return Err(Errno::ENETUNREACH);
        }
        let ip = match (bound.ip(), to.ip()) {
            (ip, to) if !ip.is_unspecified() && ip.to_canonical().is_ipv4() == to.is_ipv4() => ip.to_canonical(),
            (ip, _) if !ip.is_unspecified() => return Err(Errno::ENETUNREACH),
            (_, IpAddr::V4(to)) if to.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            (_, to) => to,
        };
        if bound.port() != 0 {
            return Ok(SocketAddr::new(ip, bound.port()));
        }
        host::net::bind(self.fd(), &self.shown(&SocketAddr::new(ip, 0)))?;
        Ok(SocketAddr::new(ip, host::net::name(self.fd())?.port()))
    }
}
