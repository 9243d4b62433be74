//! The part of a read or write that ends where the device does.
use abi::Result;
use guest::{Sink, Source};
use std::os::fd::BorrowedFd;

pub struct Part<T> {
    whole: T,
    left: usize,
}

impl<T> Part<T> {
    pub fn new(whole: T, left: usize) -> Part<T> {
        Part { whole, left }
    }
}

impl Sink for Part<&mut dyn Sink> {
    fn remaining(&self) -> usize {
        self.whole.remaining().min(self.left)
    }
    fn stretch(&self) -> usize {
        self.whole.stretch().min(self.left)
    }
    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let n = self.whole.put(&bytes[..bytes.len().min(self.left)])?;
        self.left -= n;
        Ok(n)
    }
    fn put_from(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> Result<usize> {
        let n = self.whole.put_from(fd, offset, len.min(self.left))?;
        self.left -= n;
        Ok(n)
    }
}

impl Source for Part<&mut dyn Source> {
    fn remaining(&self) -> usize {
        self.whole.remaining().min(self.left)
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let most = buf.len().min(self.left);
        let n = self.whole.take(&mut buf[..most])?;
        self.left -= n;
        Ok(n)
    }
    fn take_into(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> Result<usize> {
        let n = self.whole.take_into(fd, offset, len.min(self.left))?;
        self.left -= n;
        Ok(n)
    }
}
