//! The bytes of a pipe: a ring of slots, each at most a page, filled and emptied as Linux does it, so that what
//! fits, what merges and what a full pipe is come out the same.
use abi::{PAGE_SIZE, Result};
use guest::{Sink, Source};
use kernel::pages::{self, Page, give_back};

const PAGE: usize = PAGE_SIZE as usize;

#[derive(Default)]
struct Slot {
    page: Option<Page>,
    offset: usize,
    len: usize,
    /// Read whole or lost: written in O_DIRECT mode. Nothing is merged into it.
    packet: bool,
}

/// A power of two of slots.
pub(super) struct Ring {
    slots: Box<[Slot]>,
    /// Count the slots ever taken into use and emptied.
    head: usize,
    tail: usize,
    bytes: usize,
}

/// What a read did.
pub(super) struct Moved {
    pub bytes: usize,
    /// A full ring has room again.
    pub made_room: bool,
}

impl Ring {
    /// `slots`: a power of two.
    pub fn new(slots: usize) -> Ring {
        assert!(slots.is_power_of_two());
        Ring { slots: (0..slots).map(|_| Slot::default()).collect(), head: 0, tail: 0, bytes: 0 }
    }

    pub fn capacity_slots(&self) -> usize {
        self.slots.len()
    }
    pub fn used_slots(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }
    pub fn is_full(&self) -> bool {
        self.used_slots() == self.slots.len()
    }
    /// How many bytes can be read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn slot(&mut self, n: usize) -> &mut Slot {
        let i = n & (self.slots.len() - 1);
        &mut self.slots[i]
    }

    /// How many bytes a write of `len` would move in now.
    pub fn room_for(&self, len: usize) -> usize {
        let free = (self.slots.len() - self.used_slots()) * PAGE;
        let part = len % PAGE;
        if part != 0 && !self.is_empty() {
            let last = &self.slots[self.head.wrapping_sub(1) & (self.slots.len() - 1)];
            if !last.packet && last.offset + last.len + part <= PAGE {
                return len.min(free + part);
            }
        }
        len.min(free)
    }

    /// Moves in what fits. 0 only if nothing does (or there is nothing).
    pub fn write(&mut self, src: &mut dyn Source, packet: bool) -> Result<usize> {
        let len = src.remaining();
        let mut done = 0;
        let part = len % PAGE;
        if part != 0 && !self.is_empty() {
            let last = self.slot(self.head.wrapping_sub(1));
            let end = last.offset + last.len;
            if !last.packet
                && end + part <= PAGE
                && let Some(page) = &mut last.page
            {
                done = fill(src, &mut page[end..end + part])?;
                last.len += done;
                self.bytes += done;
                if done < part {
                    return Ok(done);
                }
            }
        }
        while done < len && !self.is_full() {
            let mut page = pages::take();
            let want = (len - done).min(PAGE);
            let n = match fill(src, &mut page[..want]) {
                Ok(n) => n,
                Err(_) if done > 0 => {
                    give_back(page);
                    break;
                }
                Err(e) => {
                    give_back(page);
                    return Err(e);
                }
            };
            if n == 0 {
                give_back(page);
                break;
            }
            self.push(page, n, packet);
            done += n;
            if n < want {
                break;
            }
        }
        Ok(done)
    }

    fn push(&mut self, page: Page, len: usize, packet: bool) {
        *self.slot(self.head) = Slot { page: Some(page), offset: 0, len, packet };
        self.head = self.head.wrapping_add(1);
        self.bytes += len;
    }

    /// Moves out what there is and `dst` takes; a packet ends it.
    pub fn read(&mut self, dst: &mut dyn Sink) -> Result<Moved> {
        let mut moved = Moved { bytes: 0, made_room: false };
        while !self.is_empty() {
            let want = dst.remaining();
            if want == 0 {
                break;
            }
            let tail = self.tail;
            let slot = self.slot(tail);
            let chunk = slot.len.min(want);
            let page = slot.page.as_ref().expect("a used slot has a page");
            let n = match dst.put(&page[slot.offset..slot.offset + chunk]) {
                Ok(n) => n,
                Err(e) if moved.bytes == 0 => return Err(e),
                Err(_) => break,
            };
            let packet = slot.packet;
            moved.bytes += n;
            moved.made_room |= self.consume(if packet { usize::MAX } else { n });
            if packet || n < chunk {
                break;
            }
        }
        Ok(moved)
    }

    /// Forgets up to `n` bytes of the oldest slot. True if a full ring has room again.
    fn consume(&mut self, n: usize) -> bool {
        let was_full = self.is_full();
        let tail = self.tail;
        let slot = self.slot(tail);
        let n = n.min(slot.len);
        slot.offset += n;
        slot.len -= n;
        let page = if slot.len == 0 { slot.page.take() } else { None };
        self.bytes -= n;
        match page {
            Some(page) => {
                give_back(page);
                self.tail = self.tail.wrapping_add(1);
                was_full
            }
            None => false,
        }
    }

    /// Changes the number of slots. False if more than that are in use.
    pub fn resize(&mut self, slots: usize) -> bool {
        assert!(slots.is_power_of_two());
        if self.used_slots() > slots {
            return false;
        }
        let mut new = Ring::new(slots);
        for n in 0..self.used_slots() {
            let old = std::mem::take(self.slot(self.tail.wrapping_add(n)));
            *new.slot(n) = old;
        }
        new.head = self.used_slots();
        new.bytes = self.bytes;
        *self = new;
        true
    }

    /// The bytes of the `n`-th used slot, the oldest first, and whether it is a packet.
    pub fn peek(&self, n: usize) -> Option<(&[u8], bool)> {
        if n >= self.used_slots() {
            return None;
        }
        let slot = &self.slots[self.tail.wrapping_add(n) & (self.slots.len() - 1)];
        slot.page.as_ref().map(|p| (&p[slot.offset..slot.offset + slot.len], slot.packet))
    }

    /// Puts up to a page of bytes in a slot of their own. The ring must not be full.
    pub fn push_bytes(&mut self, bytes: &[u8], packet: bool) {
        assert!(!self.is_full() && !bytes.is_empty());
        let mut page = pages::take();
        page[..bytes.len()].copy_from_slice(bytes);
        self.push(page, bytes.len(), packet);
    }

    /// Forgets `n` bytes of the oldest slot, all of them if that empties it. True if a full ring has room again.
    pub fn skip(&mut self, n: usize) -> bool {
        !self.is_empty() && self.consume(n)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.slots.iter_mut().filter_map(|s| s.page.take()).for_each(give_back);
    }
}

/// Takes from `src` until `buf` is full or nothing more comes. An error counts only if nothing came before it.
fn fill(src: &mut dyn Source, buf: &mut [u8]) -> Result<usize> {
    let mut at = 0;
    while at < buf.len() {
        match src.take(&mut buf[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if at == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(at)
}
