//! What was sent to a socket and not yet received: bytes in pages, and the messages they are.
use super::UnixSocket;
use super::rights::InFlight;
use abi::Result;
use abi::socket::Ucred;
use guest::{Sink, Source};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

const PAGE: usize = abi::PAGE_SIZE as usize;
type Page = Box<[u8; PAGE]>;

/// Pages kept for the next message of any socket, the last used on top.
const SPARE_PAGES: usize = 512;

thread_local! {
    static SPARE: RefCell<Vec<Page>> = const { RefCell::new(Vec::new()) };
}

fn new_page() -> Page {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new([0; PAGE]))
}

fn give_back(page: Page) {
    // A socket may be dropped while the thread ends, after the list.
    let _ = SPARE.try_with(|s| {
        let mut s = s.borrow_mut();
        if s.len() < SPARE_PAGES {
            s.push(page);
        }
    });
}

/// Bytes, first in, first out.
#[derive(Default)]
struct Bytes {
    pages: VecDeque<Page>,
    /// Where the first byte is in the first page.
    start: usize,
    len: usize,
}

impl Bytes {
    /// Appends `len` bytes of `src`: all, or none and EFAULT.
    fn append(&mut self, src: &mut dyn Source, len: usize) -> Result {
        let before = self.len;
        while self.len < before + len {
            let at = self.start + self.len;
            if at / PAGE == self.pages.len() {
                self.pages.push_back(new_page());
            }
            let within = at % PAGE;
            let want = (PAGE - within).min(before + len - self.len);
            let page = self.pages.back_mut().expect("one was pushed");
            match src.take(&mut page[within..within + want]) {
                Ok(n) if n > 0 => self.len += n,
                r => {
                    self.truncate(before);
                    return Err(r.err().unwrap_or(abi::Errno::EFAULT));
                }
            }
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.len = len;
        let keep = if len == 0 { 0 } else { (self.start + len).div_ceil(PAGE) };
        self.pages.drain(keep..).for_each(give_back);
        if len == 0 {
            self.start = 0;
        }
    }

    /// Copies up to `len` bytes from offset `at` on; an error counts only if nothing came before it.
    fn copy(&self, at: usize, len: usize, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        while done < len && dst.remaining() > 0 {
            let from = self.start + at + done;
            let within = from % PAGE;
            let n = (PAGE - within).min(len - done);
            match dst.put(&self.pages[from / PAGE][within..within + n]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.len -= n;
        if self.len == 0 {
            self.truncate(0);
            return;
        }
        while self.start >= PAGE {
            self.start -= PAGE;
            self.pages.pop_front().into_iter().for_each(give_back);
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.pages.drain(..).for_each(give_back);
    }
}

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
        self.bytes.len
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
