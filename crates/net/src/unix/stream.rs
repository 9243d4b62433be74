//! Streams: bytes without boundaries, but where descriptors or credentials differ.
use super::inbox::Message;
use super::{RECEIVE, SEND, State, UnixSocket};
use crate::{Caller, Control, Incoming, Outgoing};
use abi::{Errno, Result, c};
use guest::{Sink, Source};

const PAGE: usize = abi::PAGE_SIZE as usize;
/// What Linux keeps beside a message's bytes.
const STRUCT: usize = 256;
const TAIL: usize = 320;
/// The most of a message that is not in pages of its own.
const HEAD_MAX: usize = PAGE - TAIL;
/// The longest part of a stream that is one message.
const PART_MAX: usize = HEAD_MAX + 32768;

/// What a message of a head and pages counts against the sender's buffer.
pub(super) fn cost(head: usize, pages: usize) -> usize {
    STRUCT + (head.next_multiple_of(64) + TAIL).next_power_of_two() + pages
}

/// The same of a part of a stream.
fn part_cost(len: usize) -> usize {
    let pages = len.saturating_sub(HEAD_MAX).next_multiple_of(PAGE).min(len);
    cost(len - pages, pages.next_multiple_of(PAGE))
}

impl UnixSocket {
    fn part_max(&self) -> usize {
        PART_MAX.min(self.options.send_buffer.get() / 2 - 64)
    }

    /// Whether so many bytes go in now.
    pub(super) fn takes_stream(&self, len: usize) -> bool {
        let (mut left, mut sent) = (len, self.sent.get());
        while left > 0 {
            if sent >= self.options.send_buffer.get() {
                return false;
            }
            let part = left.min(self.part_max());
            sent += part_cost(part);
            left -= part;
        }
        true
    }

    /// Errors: EISCONN and EOPNOTSUPP (an address), ENOTCONN, EPIPE, EAGAIN, ECONNRESET.
    pub(super) fn send_stream(&self, caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize> {
        if out.to.is_some() {
            let connected = self.state.get() == State::Connected;
            return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if self.shut_down(SEND) {
            return Err(Errno::EPIPE);
        }
        let mut done = 0;
        while src.remaining() > 0 {
            match self.send_part(caller, &peer, src, out) {
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if done > 0 {
            peer.waiters.wake();
        }
        Ok(done)
    }

    fn send_part(
        &self,
        caller: &Caller,
        peer: &std::rc::Rc<UnixSocket>,
        src: &mut dyn Source,
        out: &mut Outgoing,
    ) -> Result<usize> {
        self.check_error()?;
        if self.sent.get() >= self.options.send_buffer.get() {
            return Err(Errno::EAGAIN);
        }
        if peer.dead.get() || peer.shut_down(RECEIVE) {
            return Err(Errno::EPIPE);
        }
        let len = src.remaining().min(self.part_max());
        let cost = part_cost(len);
        let (cred, rights) = self.baggage(caller, peer, out);
        peer.inbox.borrow_mut().push(src, Message { len, cost, sender: self.me(), cred, rights })?;
        self.sent.set(self.sent.get() + cost);
        Ok(len)
    }

    /// Errors: EINVAL (not connected), EAGAIN, ECONNRESET.
    pub(super) fn receive_stream(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        if self.state.get() != State::Connected {
            return Err(Errno::EINVAL);
        }
        if self.inbox.borrow().is_empty() {
            self.check_error()?;
            return if self.shut_down(RECEIVE) { Ok(Incoming::default()) } else { Err(Errno::EAGAIN) };
        }
        let mut got = Incoming { from: self.peer_name(), ..Incoming::default() };
        let peek = flags & c::MSG_PEEK != 0;
        let pass = self.options.pass_cred.get();
        let (mut index, mut cred) = (0, None);
        loop {
            let mut inbox = self.inbox.borrow_mut();
            let Some(m) = inbox.get(if peek { index } else { 0 }) else { break };
            // Messages of different writers are not joined.
            if pass && *cred.get_or_insert(m.cred) != m.cred {
                break;
            }
            let len = m.len;
            let n = match inbox.copy(if peek { got.len } else { 0 }, len, dst) {
                Ok(n) => n,
                Err(e) if got.len == 0 => return Err(e),
                Err(_) => break,
            };
            got.len += n;
            let stop = if peek {
                let m = inbox.get(index);
                let rights = m.and_then(|m| m.rights.as_ref()).map(|r| Control::Rights(r.copy()));
                index += 1;
                let stop = rights.is_some();
                got.control.extend(rights);
                stop
            } else {
                let rights = inbox.first_mut().and_then(|m| m.rights.take());
                let spent = inbox.consume(n, false);
                drop(inbox);
                spent.iter().for_each(UnixSocket::settle);
                let stop = rights.is_some();
                got.control.extend(rights.map(|r| Control::Rights(r.land())));
                stop
            };
            if stop || n < len || dst.remaining() == 0 {
                break;
            }
        }
        if pass {
            got.control.insert(0, UnixSocket::told(cred.flatten()));
        }
        Ok(got)
    }

    fn peer_name(&self) -> Option<crate::Address> {
        self.peer.borrow().as_ref().and_then(|p| p.name.borrow().clone())
    }
}
