//! Messages with boundaries: datagrams, and packets in order.
use super::inbox::Message;
use super::stream::cost;
use super::{QUEUE_MAX, RECEIVE, SEND, State, UnixSocket};
use crate::{Caller, Control, Incoming, Outgoing};
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use std::rc::Rc;

const PAGE: usize = abi::PAGE_SIZE as usize;
/// The most of a message that is not in pages of its own.
const HEAD_MAX: usize = 4 * PAGE - 320;

fn packet_cost(len: usize) -> usize {
    let pages = len.saturating_sub(HEAD_MAX).next_multiple_of(PAGE).min(len);
    cost(len - pages, pages.next_multiple_of(PAGE))
}

impl UnixSocket {
    /// More is queued here than a sender that is not the peer may add to.
    fn full(&self) -> bool {
        self.inbox.borrow().count() > QUEUE_MAX
    }

    /// The peer takes no more datagrams for now; this socket is woken when it does.
    pub(super) fn peer_full(&self) -> bool {
        if self.kind == c::SOCK_STREAM {
            return false;
        }
        let Some(peer) = UnixSocket::peer(self) else { return false };
        let full = !peer.is_peer(self) && peer.full();
        if full {
            peer.block(&self.waiters);
        }
        full
    }

    /// Whom a datagram goes to.
    fn target(&self, out: &Outgoing) -> Result<Rc<UnixSocket>> {
        if let Some(to) = &out.to {
            return self.find(to);
        }
        let peer = UnixSocket::peer(self).ok_or(Errno::ENOTCONN)?;
        if peer.dead.get() && !self.connects() {
            self.peer.take();
            self.state.set(State::Closed);
            self.waiters.wake();
            return Err(Errno::ECONNREFUSED);
        }
        Ok(peer)
    }

    /// Errors: ENOTCONN, EMSGSIZE, ECONNREFUSED, EPERM (the other is connected to a third), EPIPE, EAGAIN.
    pub(super) fn send_packet(&self, caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize> {
        let len = src.remaining();
        if self.connects() {
            self.check_error()?;
            if self.state.get() != State::Connected {
                return Err(Errno::ENOTCONN);
            }
        }
        self.auto_bind()?;
        if out.to.is_none() && self.peer.borrow().is_none() {
            return Err(Errno::ENOTCONN);
        }
        let limit = self.options.send_buffer.get();
        if len > limit - 32 {
            return Err(Errno::EMSGSIZE);
        }
        self.check_error()?;
        if self.shut_down(SEND) {
            return Err(Errno::EPIPE);
        }
        if self.sent.get() >= limit {
            return Err(Errno::EAGAIN);
        }
        let other = self.target(out)?;
        if !self.may_send(&other) {
            return Err(Errno::EPERM);
        }
        if other.shut_down(RECEIVE) {
            return Err(Errno::EPIPE);
        }
        let me = self.me();
        if !Rc::ptr_eq(&other, &me) && !other.is_peer(self) && other.full() {
            other.block(&self.waiters);
            return Err(Errno::EAGAIN);
        }
        let cost = packet_cost(len);
        let (cred, rights) = self.baggage(caller, &other, out);
        other.inbox.borrow_mut().push(src, Message { len, cost, sender: me, cred, rights })?;
        self.sent.set(self.sent.get() + cost);
        other.waiters.wake();
        Ok(len)
    }

    /// Errors: ENOTCONN (packets, not connected), EAGAIN, ECONNRESET.
    pub(super) fn receive_packet(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        if self.connects() && self.state.get() != State::Connected {
            return Err(Errno::ENOTCONN);
        }
        self.check_error()?;
        let peek = flags & c::MSG_PEEK != 0;
        let mut inbox = self.inbox.borrow_mut();
        let Some(m) = inbox.first_mut() else {
            // A datagram socket that will not wait is told that there is nothing, not that it is the end.
            let end = self.shut_down(RECEIVE) && (self.connects() || flags & c::MSG_DONTWAIT == 0);
            return if end { Ok(Incoming::default()) } else { Err(Errno::EAGAIN) };
        };
        let (len, cred) = (m.len, m.cred);
        let mut got = Incoming { from: m.sender.name.borrow().clone(), ..Incoming::default() };
        let rights = if peek { m.rights.as_ref().map(|r| r.copy()) } else { m.rights.take().map(|r| r.land()) };
        let want = len.min(dst.remaining());
        let copied = if want > 0 { inbox.copy(0, want, dst) } else { Ok(0) };
        let spent = if peek { None } else { inbox.consume(0, true) };
        let woken = inbox.count() <= QUEUE_MAX;
        drop(inbox);
        if let Some(m) = &spent {
            UnixSocket::settle(m);
            if woken {
                self.unblock();
            }
        }
        // A message that cannot be stored is lost.
        let n = copied?;
        if n < want {
            return Err(Errno::EFAULT);
        }
        got.len = if flags & c::MSG_TRUNC != 0 { len } else { n };
        got.flags = if n < len { c::MSG_TRUNC } else { 0 };
        if self.options.pass_cred.get() {
            got.control.push(UnixSocket::told(cred));
        }
        got.control.extend(rights.map(Control::Rights));
        Ok(got)
    }
}
