//! Connections whose both ends are in the sandbox: streams of ours with tcp(7)'s manners, which never reach the host.
use super::{BUFFER, Shared};
use crate::Incoming;
use crate::bytes::Bytes;
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use kernel::timer;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use vfs::Ready;

/// sk_shutdown: no more is received; no more is sent.
const RECEIVE: u8 = 1;
const SEND: u8 = 2;
const BOTH: u8 = RECEIVE | SEND;
/// What a direction holds for either end's buffer, unless SO_SNDBUF or SO_RCVBUF says otherwise.
const BUFFER_SIZE: usize = 1 << 18;
/// Bytes sent with MSG_MORE wait until they fill a segment of the loopback interface, or so long: nanoseconds.
const SEGMENT: usize = 65483;
const HOLD_NS: u64 = 200_000_000;
/// `tcpi_state`, tcp_states.h.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const FIN_WAIT2: u8 = 5;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

/// The options that streams of ours go by.
#[derive(Clone)]
pub(super) struct Limits {
    /// SO_SNDBUF and SO_RCVBUF.
    pub send: Cell<usize>,
    pub receive: Cell<usize>,
    /// SO_RCVLOWAT.
    pub low: Cell<usize>,
    /// SO_OOBINLINE.
    pub inline: Cell<bool>,
    /// TCP_CORK.
    pub cork: Cell<bool>,
    /// An option that only the host can keep is set, so connections are the host's.
    pub host_only: Cell<bool>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            send: Cell::new(BUFFER_SIZE),
            receive: Cell::new(BUFFER_SIZE),
            low: Cell::new(1),
            inline: Cell::new(false),
            cork: Cell::new(false),
            host_only: Cell::new(false),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The listener's queue has no room yet.
    Opening,
    Open,
    /// Reset, or both ends have said that they are done.
    Closed,
}

/// The byte sent with MSG_OOB last. It lies among the others, and is left out of them unless SO_OOBINLINE.
#[derive(Clone, Copy)]
struct Urgent {
    /// Bytes before it.
    at: usize,
    byte: u8,
    /// It was not received with MSG_OOB yet.
    unread: bool,
}

/// One end of a connection.
pub(super) struct End {
    pub shared: Rc<Shared>,
    pub limits: Rc<Limits>,
    pub name: SocketAddr,
    pub peer_name: SocketAddr,
    peer: RefCell<Weak<End>>,
    /// Sent by the peer, not yet received.
    bytes: RefCell<Bytes>,
    urgent: Cell<Option<Urgent>>,
    /// Another has come, of which the owner has not been told.
    urged: Cell<bool>,
    /// How many bytes it has sent.
    sent: Cell<u64>,
    /// It is the end that connected.
    first: Cell<bool>,
    /// How many of them, the last, were sent with MSG_MORE and are not shown yet, and what shows them.
    held: Cell<usize>,
    show: Cell<Option<timer::Id>>,
    state: Cell<State>,
    /// connect(2) has said that it is connected.
    told: Cell<bool>,
    shut: Cell<u8>,
    /// FIN: this end has sent it; the peer has.
    said_end: Cell<bool>,
    heard_end: Cell<bool>,
    error: Cell<Option<Errno>>,
    /// It found no room to send.
    starved: Cell<bool>,
    /// The last descriptor is closed.
    gone: Cell<bool>,
}

/// A connection that waits to be opened: who connects, and who is to be accepted.
pub(super) fn pair(
    shared: Rc<Shared>,
    limits: [Rc<Limits>; 2],
    name: SocketAddr,
    to: SocketAddr,
) -> (Rc<End>, Rc<End>) {
    let [own, other] = limits;
    let a = End::new(shared, own, name, to);
    let b = End::new(Rc::default(), other, to, name);
    a.peer.replace(Rc::downgrade(&b));
    b.peer.replace(Rc::downgrade(&a));
    b.shared.own.set(true);
    a.first.set(true);
    (a, b)
}

impl End {
    fn new(shared: Rc<Shared>, limits: Rc<Limits>, name: SocketAddr, peer_name: SocketAddr) -> Rc<End> {
        Rc::new(End {
            shared,
            limits,
            name,
            peer_name,
            peer: RefCell::default(),
            bytes: RefCell::default(),
            urgent: Cell::new(None),
            urged: Cell::new(false),
            sent: Cell::new(0),
            first: Cell::new(false),
            held: Cell::new(0),
            show: Cell::new(None),
            state: Cell::new(State::Opening),
            told: Cell::new(false),
            shut: Cell::new(0),
            said_end: Cell::new(false),
            heard_end: Cell::new(false),
            error: Cell::new(None),
            starved: Cell::new(false),
            gone: Cell::new(false),
        })
    }

    fn peer(&self) -> Option<Rc<End>> {
        self.peer.borrow().upgrade()
    }

    fn shut_down(&self, bits: u8) -> bool {
        self.shut.get() & bits != 0
    }

    pub fn wake(&self) {
        self.shared.queue.wake();
    }

    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// It is established, and connects or is accepted from now on.
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    pub fn is_opening(&self) -> bool {
        self.state.get() == State::Opening
    }

    /// The listener's queue has room for it, of which either end may be told.
    pub fn open(&self) {
        for end in [self.peer().as_deref(), Some(self)].into_iter().flatten() {
            if end.is_opening() {
                end.state.set(State::Open);
                end.wake();
            }
        }
    }

    /// connect(2) once more. Errors: EALREADY, EISCONN, and why it came to nothing.
    pub fn connect_again(&self) -> Result {
        match self.state.get() {
            State::Opening => Err(Errno::EALREADY),
            _ if self.told.get() => Err(Errno::EISCONN),
            State::Closed if !self.heard_end.get() => Err(self.error.take().unwrap_or(Errno::ECONNABORTED)),
            _ => {
                self.told.set(true);
                Ok(())
            }
        }
    }

    /// ENOTCONN.
    pub fn connected(&self) -> Result {
        if self.is_open() { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    pub fn take_error(&self) -> Option<Errno> {
        self.error.take()
    }

    /// `tcpi_state`.
    pub fn tcp_state(&self) -> u8 {
        match self.state.get() {
            State::Opening => SYN_SENT,
            State::Closed => CLOSE,
            State::Open if self.said_end.get() => FIN_WAIT2,
            State::Open if self.heard_end.get() => CLOSE_WAIT,
            State::Open => ESTABLISHED,
        }
    }

    /// How many bytes `peer` takes now, and how many it could.
    fn room(&self, peer: &End) -> (usize, usize) {
        let all = self.limits.send.get().saturating_add(peer.limits.receive.get());
        (all.saturating_sub(peer.bytes.borrow().len()), all)
    }

    /// There is room enough for POLLOUT: half of what is there already.
    fn roomy(&self, peer: &End) -> bool {
        let (room, all) = self.room(peer);
        room > 0 && room >= (all - room.min(all)) / 2
    }

    /// Whether so many bytes go in now.
    pub fn takes(&self, len: usize) -> bool {
        self.is_open() && self.peer().is_none_or(|p| self.room(&p).0 >= len)
    }

    /// Errors: EAGAIN, EPIPE, ECONNRESET, EFAULT.
    pub fn send(&self, src: &mut dyn Source, flags: i32) -> Result<usize> {
        if self.is_opening() {
            return Err(Errno::EAGAIN);
        }
        let error = self.error.take();
        if error.is_some() || self.shut_down(SEND) {
            return Err(error.unwrap_or(Errno::EPIPE));
        }
        let want = src.remaining();
        if want == 0 {
            return Ok(0);
        }
        let peer = self.peer();
        let Some(peer) = peer.filter(|p| !p.deaf()) else { return self.send_in_vain(src) };
        let room = self.room(&peer).0;
        self.starved.set(room < want);
        if room == 0 {
            return Err(Errno::EAGAIN);
        }
        let len = want.min(room);
        let urgent = flags & c::MSG_OOB != 0 && len == want;
        peer.bytes.borrow_mut().append(src, len)?;
        self.sent.set(self.sent.get() + len as u64);
        if urgent {
            peer.urge();
        }
        if (flags & c::MSG_MORE != 0 || self.limits.cork.get()) && !urgent {
            peer.hold(len)
        } else {
            peer.show()
        }
        if urgent || peer.readable() {
            peer.wake();
        }
        Ok(len)
    }

    /// The last byte is urgent. The one before it, if nobody took it, is one of the others; or, if it is the next, gone.
    fn urge(&self) {
        let mut bytes = self.bytes.borrow_mut();
        // Whether or not it was received with MSG_OOB.
        if self.hole() {
            bytes.consume(1);
        }
        let at = bytes.len() - 1;
        self.urgent.set(Some(Urgent { at, byte: bytes.last(), unread: true }));
        self.urged.set(true);
    }

    /// Urgent data has come since this was asked.
    pub fn urged(&self) -> bool {
        self.urged.replace(false)
    }

    /// TCP_CORK was taken off, or TCP_NODELAY put on: what was held is sent.
    pub fn push(&self) {
        if let Some(peer) = self.peer().filter(|p| p.held.get() > 0) {
            peer.show();
            peer.wake();
        }
    }

    /// Shows the last `len` bytes later.
    fn hold(self: &Rc<End>, len: usize) {
        self.held.set(self.held.get() + len);
        if self.held.get() >= SEGMENT {
            self.show();
        } else if self.show.get().is_none() {
            let end = Rc::downgrade(self);
            let late = move || {
                if let Some(end) = end.upgrade() {
                    end.show.set(None);
                    end.show();
                    end.wake();
                }
            };
            self.show.set(Some(timer::at(host::time::monotonic_ns().saturating_add(HOLD_NS), Rc::new(late))));
        }
    }

    /// Shows all there is.
    fn show(&self) {
        self.held.set(0);
        self.show.take().into_iter().for_each(timer::cancel);
    }

    /// Bytes there are to be received.
    fn shown(&self) -> usize {
        self.bytes.borrow().len() - self.held.get()
    }

    /// What is sent to it is answered with a reset: it is closed, or will neither send nor receive.
    fn deaf(&self) -> bool {
        self.gone.get() || self.shut_down(RECEIVE) && self.said_end.get()
    }

    /// The bytes go, and the reset comes back.
    fn send_in_vain(&self, src: &mut dyn Source) -> Result<usize> {
        let len = BUFFER.with_borrow_mut(|buf| {
            let n = src.remaining().min(buf.len());
            src.take(&mut buf[..n])
        })?;
        self.reset();
        if let Some(peer) = self.peer() {
            peer.reset();
        }
        Ok(len)
    }

    /// Errors: EAGAIN, ECONNRESET, ENOTCONN; EINVAL (MSG_OOB, and there is none).
    pub fn receive(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        if flags & c::MSG_ERRQUEUE != 0 {
            return Err(Errno::EAGAIN);
        }
        if flags & c::MSG_OOB != 0 {
            return self.receive_urgent(dst, flags & c::MSG_PEEK != 0);
        }
        let (mut shown, want) = (self.shown(), dst.remaining());
        if self.hole() && shown > 0 && want > 0 && flags & c::MSG_PEEK == 0 {
            self.bytes.borrow_mut().consume(1);
            self.pass(1);
            shown -= 1;
        }
        // A peek goes past it.
        let hole = usize::from(self.hole());
        shown -= hole.min(shown);
        if shown == 0 {
            return self.nothing().map(|()| Incoming::default());
        }
        let target = if flags & c::MSG_DONTWAIT != 0 { 1 } else { self.limits.low.get().min(want).max(1) };
        // What is before the mark is received alone.
        let mark = self.urgent.get().map(|u| u.at).filter(|at| *at > 0);
        if shown < target && mark.is_none() && !self.ended() {
            return Err(Errno::EAGAIN);
        }
        let have = mark.unwrap_or(shown).min(want);
        let mut bytes = self.bytes.borrow_mut();
        let len = if flags & c::MSG_TRUNC != 0 { have } else { bytes.copy(hole, have, dst)? };
        if flags & c::MSG_PEEK == 0 {
            bytes.consume(len);
            drop(bytes);
            self.pass(len);
        }
        Ok(Incoming { len, ..Incoming::default() })
    }

    /// The next byte is the urgent one, which is not received with the others.
    fn hole(&self) -> bool {
        self.urgent.get().is_some_and(|u| u.at == 0) && !self.limits.inline.get()
    }

    /// So many bytes were received: the mark is nearer, or behind, and the peer has room again.
    fn pass(&self, len: usize) {
        if len == 0 {
            return;
        }
        if let Some(u) = self.urgent.get() {
            self.urgent.set((u.at >= len).then(|| Urgent { at: u.at - len, ..u }));
        }
        if let Some(peer) = self.peer()
            && peer.starved.get()
            && peer.roomy(self)
        {
            peer.starved.set(false);
            peer.wake();
        }
    }

    /// Whether nothing more will come.
    fn ended(&self) -> bool {
        let error = self.error.take();
        self.error.set(error);
        error.is_some() || self.shut_down(RECEIVE) || self.state.get() == State::Closed
    }

    /// There are no bytes: the end of them, or why.
    fn nothing(&self) -> Result {
        if self.heard_end.get() {
            return Ok(());
        }
        match self.error.take() {
            Some(e) => Err(e),
            None if self.shut_down(RECEIVE) => Ok(()),
            None if self.state.get() == State::Closed => Err(Errno::ENOTCONN),
            None => Err(Errno::EAGAIN),
        }
    }

    fn receive_urgent(&self, dst: &mut dyn Sink, peek: bool) -> Result<Incoming> {
        let u = self.urgent.get().filter(|u| u.unread && !self.limits.inline.get()).ok_or(Errno::EINVAL)?;
        let room = dst.remaining() > 0;
        let len = if room { dst.put(&[u.byte])? } else { 0 };
        if !peek {
            self.urgent.set(Some(Urgent { unread: false, ..u }));
        }
        let flags = c::MSG_OOB | if room { 0 } else { c::MSG_TRUNC };
        Ok(Incoming { len, flags, ..Incoming::default() })
    }

    /// SIOCATMARK.
    pub fn at_mark(&self) -> bool {
        self.urgent.get().is_some_and(|u| u.at == 0)
    }

    /// SIOCINQ: up to the mark, if there is one.
    pub fn input_bytes(&self) -> usize {
        let mark = self.urgent.get().filter(|_| !self.limits.inline.get());
        mark.map_or(self.shown(), |u| u.at)
    }

    /// SIOCOUTQ: what is held, or beyond the peer's own buffer.
    pub fn output_bytes(&self) -> usize {
        let beyond = |p: &End| p.bytes.borrow().len().saturating_sub(p.limits.receive.get());
        self.peer().map_or(0, |p| p.held.get().max(beyond(&p)))
    }

    /// tcpi_bytes_acked, which counts the SYN; tcpi_bytes_received; tcpi_bytes_sent.
    pub fn counts(&self) -> [u64; 3] {
        let got = self.peer().map_or(0, |p| p.sent.get());
        [self.sent.get() + u64::from(self.first.get()), got, self.sent.get()]
    }

    fn readable(&self) -> bool {
        self.shown() >= self.limits.low.get() + usize::from(self.hole())
    }

    /// tcp_poll(): asked without room, it is told when there is some.
    pub fn ready(&self) -> Ready {
        let mut r = Ready::empty();
        let error = self.error.take();
        self.error.set(error);
        r.set(Ready::ERR, error.is_some());
        r.set(Ready::HUP, self.shut.get() == BOTH || self.state.get() == State::Closed);
        if self.shut_down(RECEIVE) {
            r |= Ready::RDHUP | Ready::IN | Ready::RDNORM;
        }
        if self.is_opening() {
            return r;
        }
        if self.readable() {
            r |= Ready::IN | Ready::RDNORM;
        }
        r.set(Ready::PRI, self.urgent.get().is_some_and(|u| u.unread));
        if self.shut_down(SEND) || self.peer().is_none_or(|p| self.roomy(&p)) {
            r |= Ready::OUT | Ready::WRNORM;
        } else {
            self.starved.set(true);
        }
        r
    }

    /// shutdown(2). ENOTCONN.
    pub fn shutdown(&self, how: i32) -> Result {
        self.connected()?;
        let bits = match how {
            c::SHUT_RD => RECEIVE,
            c::SHUT_WR => SEND,
            _ => BOTH,
        };
        self.shut.set(self.shut.get() | bits);
        if bits & SEND != 0 {
            self.say_end();
        }
        self.wake();
        Ok(())
    }

    /// FIN. With the peer's, the connection is over.
    fn say_end(&self) {
        if self.said_end.replace(true) {
            return;
        }
        let Some(peer) = self.peer() else { return };
        peer.show();
        peer.heard_end.set(true);
        peer.shut.set(peer.shut.get() | RECEIVE);
        if self.heard_end.get() {
            for end in [self, &peer] {
                end.state.set(State::Closed);
                end.shut.set(BOTH);
            }
        }
        peer.wake();
    }

    /// RST has come.
    pub fn reset(&self) {
        let error = match self.state.get() {
            State::Closed => return,
            State::Opening => Errno::ECONNREFUSED,
            State::Open if self.heard_end.get() => Errno::EPIPE,
            State::Open => Errno::ECONNRESET,
        };
        self.show();
        self.error.set(Some(error));
        self.shut.set(BOTH);
        self.state.set(State::Closed);
        self.wake();
    }

    /// The listener is closed before it was accepted.
    pub fn refuse(&self) {
        self.gone.set(true);
        self.state.set(State::Closed);
        if let Some(peer) = self.peer() {
            peer.reset();
        }
    }

    /// The last descriptor is closed. What the peer has not received stays there for it; what this end has not
    /// received, or `reset` (SO_LINGER with 0 seconds), makes it a reset.
    pub fn close(&self, reset: bool) {
        if self.gone.replace(true) {
            return;
        }
        let unread = !self.bytes.borrow().is_empty();
        self.bytes.borrow_mut().truncate(0);
        self.show();
        match self.state.get() {
            // Nobody has been told of the other end.
            State::Opening => {
                if let Some(peer) = self.peer() {
                    peer.gone.set(true);
                }
            }
            State::Open if reset || unread => {
                if let Some(peer) = self.peer() {
                    peer.reset();
                }
            }
            State::Open => self.say_end(),
            State::Closed => {}
        }
        self.state.set(State::Closed);
        self.shut.set(BOTH);
        self.wake();
    }
}
