//! Bytes on their way from one socket to another, in pages that are used again.
use abi::Result;
use guest::{Sink, Source};
use kernel::pages::{self, Page, give_back};
use std::collections::VecDeque;

const PAGE: usize = abi::PAGE_SIZE as usize;

/// Bytes, first in, first out.
#[derive(Default)]
pub(crate) struct Bytes {
    pages: VecDeque<Page>,
    /// Where the first byte is in the first page.
    start: usize,
    len: usize,
}

impl Bytes {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last byte. There must be one.
    pub fn last(&self) -> u8 {
        let at = self.start + self.len - 1;
        self.pages[at / PAGE][at % PAGE]
    }

    /// Appends `len` bytes of `src`: all, or none and EFAULT.
    pub fn append(&mut self, src: &mut dyn Source, len: usize) -> Result {
        let before = self.len;
        while self.len < before + len {
            let at = self.start + self.len;
            if at / PAGE == self.pages.len() {
                self.pages.push_back(pages::take());
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

    /// Keeps the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = len;
        let keep = if len == 0 { 0 } else { (self.start + len).div_ceil(PAGE) };
        self.pages.drain(keep..).for_each(give_back);
        if len == 0 {
            self.start = 0;
        }
    }

    /// Copies up to `len` bytes from offset `at` on; an error counts only if nothing came before it.
    pub fn copy(&self, at: usize, len: usize, dst: &mut dyn Sink) -> Result<usize> {
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

    /// Forgets the first `n`.
    pub fn consume(&mut self, n: usize) {
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
