//! What was sent to a socket and not yet received: bytes, and the messages they are.
use super::UnixSocket;
use super::rights::InFlight;
use crate::bytes::Bytes;
use abi::Result;
use abi::socket::Ucred;
use guest::{Sink, Source};
use std::collections::VecDeque;
use std::rc::Rc;

/// One message: a datagram, or what one part of a send put into a stream.
pub(super) struct Message {
    /// Bytes not yet received.
    pub len: usize,
    /// What it counts against its sender's buffer.
    pub cost: usize,
    pub sender: Rc<UnixSocket>,
    /// Known if either side asked for credentials when it was sent.
    pub cred: Option<Ucred>,
    pub rights: Option<InFlight>,
}

#[derive(Default)]
pub(super) struct Inbox {
    bytes: Bytes,
    messages: VecDeque<Message>,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
    /// Messages in it.
    pub fn count(&self) -> usize {
        self.messages.len()
    }
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    pub fn get(&self, i: usize) -> Option<&Message> {
        self.messages.get(i)
    }
    pub fn first_mut(&mut self) -> Option<&mut Message> {
        self.messages.front_mut()
    }

    /// Adds a message whose bytes come from `src`. EFAULT: nothing was added.
    pub fn push(&mut self, src: &mut dyn Source, m: Message) -> Result {
        self.bytes.append(src, m.len)?;
        self.messages.push_back(m);
        Ok(())
    }

    /// Copies up to `len` bytes from offset `at` of all.
    pub fn copy(&self, at: usize, len: usize, dst: &mut dyn Sink) -> Result<usize> {
        self.bytes.copy(at, len, dst)
    }

    /// Forgets `n` bytes of the first message, which goes if it is empty then, or `whole`. It is the caller's to
    /// settle with its sender.
    pub fn consume(&mut self, n: usize, whole: bool) -> Option<Message> {
        let m = self.messages.front_mut()?;
        let n = if whole { m.len } else { n.min(m.len) };
        m.len -= n;
        let done = m.len == 0;
        self.bytes.consume(n);
        if done { self.messages.pop_front() } else { None }
    }

    /// Takes every message out.
    pub fn clear(&mut self) -> VecDeque<Message> {
        self.bytes.truncate(0);
        std::mem::take(&mut self.messages)
    }

    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut Message> {
        self.messages.iter_mut()
    }

    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }
}
