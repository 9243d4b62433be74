//! Unix sockets, unix(7): streams, datagrams and packets in order.
//!
//! A socket has an [`Inbox`](inbox::Inbox); a peer sends by putting messages there, which count against the sender's
//! buffer until they are received, as Linux counts them. Readiness, errors and limits are Linux's.
mod connect;
mod inbox;
mod names;
mod packet;
mod rights;
mod stream;

#[cfg(test)]
mod tests;

pub use rights::may_fly;

use crate::{Accepted, Address, Caller, Control, Incoming, Options, Outgoing, Socket};
use abi::socket::Ucred;
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use inbox::{Inbox, Message};
use kernel::wait::WaitQueue;
use rights::InFlight;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use vfs::{OpenFile, Ready};
use zerocopy::IntoBytes;

/// net.unix.max_dgram_qlen: messages beyond this many wait at their sender.
const QUEUE_MAX: usize = 10;
/// sk_shutdown: no more is received; no more is sent.
const RECEIVE: u8 = 1;
const SEND: u8 = 2;
const WRBAND: Ready = Ready::from_bits_retain(0x200);
const SIOCATMARK: u32 = 0x8905;
/// What a peer is that has not been told.
const NOBODY: Ucred = Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Listening,
    Connected,
}

/// A unix socket of any kind.
pub struct UnixSocket {
    me: Weak<UnixSocket>,
    kind: i32,
    options: Options,
    waiters: Rc<WaitQueue>,
    inbox: RefCell<Inbox>,
    /// What its messages that are not yet received count against its buffer.
    sent: Cell<usize>,
    state: Cell<State>,
    /// Two that are connected hold each other; closing ends that.
    peer: RefCell<Option<Rc<UnixSocket>>>,
    name: RefCell<Option<Address>>,
    /// RECEIVE and SEND.
    shut: Cell<u8>,
    dead: Cell<bool>,
    error: Cell<Option<Errno>>,
    /// SO_PEERCRED; of a listener, its own.
    peer_cred: Cell<Ucred>,
    /// A listener's connections not yet accepted, and how many there may be.
    backlog: RefCell<VecDeque<Rc<UnixSocket>>>,
    backlog_max: Cell<usize>,
    /// The listener, until it is accepted.
    listener: RefCell<Weak<UnixSocket>>,
    /// Those who found the inbox or the backlog full.
    blocked: RefCell<Vec<Weak<WaitQueue>>>,
    /// It is on the list of those that were sent descriptions.
    holder: Cell<bool>,
}

/// A socket without a name or peer. ESOCKTNOSUPPORT, EPROTONOSUPPORT.
pub(crate) fn make(kind: i32, protocol: i32) -> Result<Rc<UnixSocket>> {
    if protocol != 0 && protocol != c::PF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        c::SOCK_RAW => Ok(UnixSocket::new(c::SOCK_DGRAM)),
        c::SOCK_STREAM | c::SOCK_DGRAM | c::SOCK_SEQPACKET => Ok(UnixSocket::new(kind)),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Two connected ones.
pub(crate) fn pair(caller: &Caller, kind: i32, protocol: i32) -> Result<(Rc<UnixSocket>, Rc<UnixSocket>)> {
    let (a, b) = (make(kind, protocol)?, make(kind, protocol)?);
    for (x, y) in [(&a, &b), (&b, &a)] {
        x.peer.replace(Some(y.clone()));
        x.state.set(State::Connected);
        x.peer_cred.set(caller.ucred());
    }
    Ok((a, b))
}

impl UnixSocket {
    fn new(kind: i32) -> Rc<UnixSocket> {
        Rc::new_cyclic(|me| UnixSocket {
            me: me.clone(),
            kind,
            options: Options::default(),
            waiters: Rc::new(WaitQueue::new()),
            inbox: RefCell::default(),
            sent: Cell::new(0),
            state: Cell::new(State::Closed),
            peer: RefCell::new(None),
            name: RefCell::new(None),
            shut: Cell::new(0),
            dead: Cell::new(false),
            error: Cell::new(None),
            peer_cred: Cell::new(NOBODY),
            backlog: RefCell::default(),
            backlog_max: Cell::new(0),
            listener: RefCell::default(),
            blocked: RefCell::default(),
            holder: Cell::new(false),
        })
    }

    fn me(&self) -> Rc<UnixSocket> {
        self.me.upgrade().expect("a socket in use is alive")
    }

    fn peer(&self) -> Option<Rc<UnixSocket>> {
        self.peer.borrow().clone()
    }

    /// SOCK_STREAM or SOCK_SEQPACKET.
    fn connects(&self) -> bool {
        self.kind != c::SOCK_DGRAM
    }

    fn is_peer(&self, other: &UnixSocket) -> bool {
        self.peer.borrow().as_ref().is_some_and(|p| std::ptr::eq(Rc::as_ptr(p), other))
    }

    fn shut_down(&self, bits: u8) -> bool {
        self.shut.get() & bits != 0
    }

    /// There is room in its buffer for POLLOUT.
    fn roomy(&self) -> bool {
        self.sent.get() * 4 <= self.options.send_buffer.get()
    }

    /// Waits for what this socket has too much of: it is woken when there is less.
    fn block(&self, who: &Rc<WaitQueue>) {
        let mut blocked = self.blocked.borrow_mut();
        if blocked.iter().any(|q| std::ptr::eq(q.as_ptr(), Rc::as_ptr(who))) {
            return;
        }
        if blocked.len() == blocked.capacity() {
            blocked.retain(|q| q.strong_count() > 0);
        }
        blocked.push(Rc::downgrade(who));
    }

    fn unblock(&self) {
        let blocked = self.blocked.take();
        blocked.iter().filter_map(Weak::upgrade).for_each(|q| q.wake());
    }

    /// A message is received or lost: its sender has that room again.
    fn settle(m: &Message) {
        let s = &m.sender;
        s.sent.set(s.sent.get() - m.cost);
        if s.roomy() {
            s.waiters.wake();
        }
    }

    /// The inbox as it is thrown away.
    fn lose(&self) -> bool {
        let lost = self.inbox.borrow_mut().clear();
        lost.iter().for_each(UnixSocket::settle);
        !lost.is_empty()
    }

    /// What goes with a message from `caller` to `to`; descriptors are taken out of `out`.
    fn baggage(&self, caller: &Caller, to: &Rc<UnixSocket>, out: &mut Outgoing) -> (Option<Ucred>, Option<InFlight>) {
        let real = || Ucred { pid: caller.pid, uid: caller.cred.ruid, gid: caller.cred.rgid };
        let asked = self.options.pass_cred.get() || to.options.pass_cred.get() || to.is_embryo();
        let mut cred = asked.then(real);
        let mut rights = None;
        for control in &mut out.control {
            match control {
                // They go with the first part of a long message; the credentials are those of all.
                Control::Rights(files) if !files.is_empty() => {
                    rights = Some(InFlight::new(std::mem::take(files), to));
                }
                Control::Credentials(u) => cred = Some(*u),
                _ => {}
            }
        }
        (cred, rights)
    }

    /// Credentials as the receiver is told them: those nobody asked for in time are the overflow ids.
    fn told(cred: Option<Ucred>) -> Control {
        const OVERFLOW: u32 = 65534;
        Control::Credentials(cred.unwrap_or(Ucred { pid: 0, uid: OVERFLOW, gid: OVERFLOW }))
    }

    fn is_embryo(&self) -> bool {
        self.listener.borrow().strong_count() > 0
    }

    /// The socket by which it can be reached: until it is accepted, its listener.
    fn owner(&self) -> *const UnixSocket {
        let l = self.listener.borrow().as_ptr();
        if self.is_embryo() { l } else { std::ptr::from_ref(self) }
    }

    fn each_right(&self, f: &mut dyn FnMut(&Rc<OpenFile>)) {
        for r in self.inbox.borrow().messages().filter_map(|m| m.rights.as_ref()) {
            r.each(f);
        }
    }

    fn take_rights(&self) -> Vec<InFlight> {
        self.inbox.borrow_mut().messages_mut().filter_map(|m| m.rights.take()).collect()
    }

    /// The error waiting to be told, as a result.
    fn check_error(&self) -> Result {
        self.error.take().map_or(Ok(()), Err)
    }
}

impl Socket for UnixSocket {
    fn domain(&self) -> i32 {
        c::AF_UNIX
    }
    fn kind(&self) -> i32 {
        self.kind
    }
    fn bind(&self, _caller: &Caller, to: Address) -> Result {
        self.bind_to(to)
    }
    fn listen(&self, caller: &Caller, backlog: i32) -> Result {
        self.start_listening(caller, backlog)
    }
    fn connect(&self, caller: &Caller, to: Address) -> Result {
        if self.connects() { self.connect_to(caller, &to) } else { self.associate(&to) }
    }
    fn accept(&self, _caller: &Caller) -> Result<Accepted> {
        self.take_connection()
    }
    fn name(&self) -> Result<Address> {
        Ok(self.name.borrow().clone().unwrap_or(Address::UnixUnnamed))
    }
    fn peer(&self) -> Result<Address> {
        UnixSocket::peer(self).ok_or(Errno::ENOTCONN)?.name()
    }
    fn send(&self, caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize> {
        if out.flags & c::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.kind {
            c::SOCK_STREAM => self.send_stream(caller, src, out),
            _ => self.send_packet(caller, src, out),
        }
    }
    fn receive(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        if flags & (c::MSG_OOB | c::MSG_ERRQUEUE) != 0 {
            return Err(if flags & c::MSG_OOB != 0 { Errno::EOPNOTSUPP } else { Errno::EAGAIN });
        }
        match self.kind {
            c::SOCK_STREAM => self.receive_stream(dst, flags),
            _ => self.receive_packet(dst, flags),
        }
    }
    fn takes_whole(&self, len: usize) -> bool {
        self.kind != c::SOCK_STREAM || self.takes_stream(len)
    }
    fn shutdown(&self, how: i32) -> Result {
        self.shut_both(match how {
            c::SHUT_RD => RECEIVE,
            c::SHUT_WR => SEND,
            _ => RECEIVE | SEND,
        });
        Ok(())
    }

    fn get_option(&self, level: i32, name: i32, _optval: &[u8]) -> Result<Vec<u8>> {
        if level != c::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        match name {
            c::SO_ACCEPTCONN => Ok(i32::from(self.state.get() == State::Listening).to_ne_bytes().to_vec()),
            c::SO_PEERCRED => Ok(self.peer_cred.get().as_bytes().to_vec()),
            _ => self.options.get(name),
        }
    }
    fn set_option(&self, caller: &Caller, level: i32, name: i32, value: &[u8]) -> Result {
        if level != c::SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        if name == c::SO_REUSEPORT {
            return Err(Errno::EOPNOTSUPP);
        }
        self.options.set(caller, name, value)?;
        self.waiters.wake();
        Ok(())
    }
    fn take_error(&self) -> Option<Errno> {
        self.error.take()
    }
    fn timeouts(&self) -> (Option<u64>, Option<u64>) {
        (self.options.receive_timeout.get(), self.options.send_timeout.get())
    }

    fn ready(&self) -> Ready {
        let mut r = Ready::empty();
        let error = self.error.take();
        self.error.set(error);
        if error.is_some() {
            r |= Ready::ERR;
        }
        if self.shut.get() == RECEIVE | SEND || self.connects() && self.state.get() == State::Closed {
            r |= Ready::HUP;
        }
        if self.shut_down(RECEIVE) {
            r |= Ready::RDHUP | Ready::IN | Ready::RDNORM;
        }
        if !self.inbox.borrow().is_empty() || !self.backlog.borrow().is_empty() {
            r |= Ready::IN | Ready::RDNORM;
        }
        if self.state.get() != State::Listening && self.roomy() && !self.peer_full() {
            r |= Ready::OUT | Ready::WRNORM | WRBAND;
        }
        r
    }
    fn waiters(&self) -> &WaitQueue {
        &self.waiters
    }

    fn ioctl(&self, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        let n = match u64::from(cmd) {
            c::FIONREAD if self.state.get() == State::Listening => return Err(Errno::EINVAL),
            c::FIONREAD if self.connects() => self.inbox.borrow().len(),
            c::FIONREAD => self.inbox.borrow().get(0).map_or(0, |m| m.len),
            c::TIOCOUTQ => self.sent.get(),
            _ if cmd == SIOCATMARK => 0,
            _ => return Err(Errno::ENOTTY),
        };
        mem.write(arg, &(n as i32).to_ne_bytes())?;
        Ok(0)
    }
    fn release(&self) {
        self.close();
        rights::collect();
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
