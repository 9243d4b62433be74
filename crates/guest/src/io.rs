//! Where the bytes of a read go, and where those of a write come from.
//!
//! File systems see only these; whether bytes land in guest memory, in the shared slot or in a
//! vector is the caller's business. A host file is read straight into the destination by [`Sink::put_from`].
use crate::Memory;
use abi::{Errno, Result};
use std::os::fd::BorrowedFd;

/// The destination of a read.
pub trait Sink {
    /// How many more bytes it takes.
    fn remaining(&self) -> usize;
    /// How many bytes one [`put_from`](Self::put_from) asks the host for, if it may take all.
    fn stretch(&self) -> usize {
        self.remaining().min(16384)
    }
    /// Takes as many of `bytes` as fit; returns how many. EFAULT if the guest's buffer is bad.
    fn put(&mut self, bytes: &[u8]) -> Result<usize>;
    /// Reads up to `len` bytes from a host descriptor (at `offset`, or where it stands) straight in.
    /// Returns 0 at the end of the file. The default goes through a buffer.
    fn put_from(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> Result<usize> {
        let mut buf = [0u8; 16384];
        let want = len.min(self.remaining()).min(buf.len());
        let n = host::file::read(fd, &mut buf[..want], offset)?;
        self.put(&buf[..n])
    }
}

/// The source of a write.
pub trait Source {
    /// How many bytes are left.
    fn remaining(&self) -> usize;
    /// Moves up to `buf.len()` bytes out; returns how many. EFAULT if the guest's buffer is bad.
    fn take(&mut self, buf: &mut [u8]) -> Result<usize>;
    /// Writes up to `len` bytes to a host descriptor straight from the source. The default goes through a buffer;
    /// bytes the host did not take are lost to the source only if the host took none of a later part.
    fn take_into(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> Result<usize> {
        let mut buf = [0u8; 16384];
        let want = len.min(self.remaining()).min(buf.len());
        let n = self.take(&mut buf[..want])?;
        host::file::write(fd, &buf[..n], offset)
    }
}

/// A [`Sink`] into a list of guest buffers.
pub struct UserSink<'a> {
    mem: &'a dyn Memory,
    bufs: &'a [(u64, usize)],
    /// Bytes of the first buffer already used.
    at: usize,
    left: usize,
    /// How many of those left can be written.
    good: usize,
}

/// A [`Source`] out of a list of guest buffers.
pub struct UserSource<'a> {
    mem: &'a dyn Memory,
    bufs: &'a [(u64, usize)],
    at: usize,
    left: usize,
}

macro_rules! cursor {
    ($t:ident, $($more:tt)*) => {
        impl<'a> $t<'a> {
            /// `bufs`: addresses and lengths.
            pub fn new(mem: &'a dyn Memory, bufs: &'a [(u64, usize)]) -> Self {
                $t { mem, bufs, at: 0, left: bufs.iter().map(|b| b.1).sum(), $($more)* }
            }
            /// The rest of the current buffer.
            fn current(&mut self) -> (u64, usize) {
                while let Some((addr, len)) = self.bufs.first() {
                    if self.at < *len {
                        return (addr.wrapping_add(self.at as u64), len - self.at);
                    }
                    self.bufs = &self.bufs[1..];
                    self.at = 0;
                }
                (0, 0)
            }
            fn advance(&mut self, n: usize) {
                self.at += n;
                self.left -= n;
            }
        }
    };
}
cursor!(UserSink, good: usize::MAX);
cursor!(UserSource,);

impl<'a> UserSink<'a> {
    /// Only the first `good` bytes can be written: what would go beyond is EFAULT before any of it is, so that whoever
    /// gives it keeps it. Otherwise that is found out when the guest goes on.
    pub fn up_to(mem: &'a dyn Memory, bufs: &'a [(u64, usize)], good: usize) -> Self {
        UserSink { good, ..UserSink::new(mem, bufs) }
    }
    /// The rest of the current buffer, or of the first that has one.
    fn rest(&self) -> usize {
        let mut at = self.at;
        for (_, len) in self.bufs {
            if at < *len {
                return len - at;
            }
            at -= len;
        }
        0
    }
}

impl Sink for UserSink<'_> {
    fn remaining(&self) -> usize {
        self.left
    }
    fn stretch(&self) -> usize {
        self.rest().min(crate::BUFFER)
    }
    fn put(&mut self, mut bytes: &[u8]) -> Result<usize> {
        if bytes.len().min(self.left) > self.good {
            return Err(Errno::EFAULT);
        }
        let mut done = 0;
        while !bytes.is_empty() && self.left > 0 {
            let (addr, len) = self.current();
            let n = len.min(bytes.len());
            match self.mem.write(addr, &bytes[..n]) {
                Ok(()) => {}
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
            self.advance(n);
            bytes = &bytes[n..];
            done += n;
        }
        self.good = self.good.saturating_sub(done);
        Ok(done)
    }
    fn put_from(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> Result<usize> {
        let (addr, room) = self.current();
        let n = self.mem.fill(addr, room.min(len), fd, offset)?;
        self.advance(n);
        Ok(n)
    }
}

impl Source for UserSource<'_> {
    fn remaining(&self) -> usize {
        self.left
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() && self.left > 0 {
            let (addr, len) = self.current();
            let n = len.min(buf.len() - done);
            match self.mem.read(addr, &mut buf[done..done + n]) {
                Ok(()) => {}
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
            self.advance(n);
            done += n;
        }
        Ok(done)
    }
    fn take_into(&mut self, fd: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> Result<usize> {
        let (addr, room) = self.current();
        let n = self.mem.drain(addr, room.min(len), fd, offset)?;
        self.advance(n);
        Ok(n)
    }
}

/// A [`Sink`] into a slice of the kernel's own.
#[derive(Debug)]
pub struct SliceSink<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl<'a> SliceSink<'a> {
    pub fn new(buf: &'a mut [u8]) -> Self {
        SliceSink { buf, at: 0 }
    }
    /// How many bytes were taken.
    pub fn filled(&self) -> usize {
        self.at
    }
}

impl Sink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.buf.len() - self.at
    }
    fn put(&mut self, bytes: &[u8]) -> Result<usize> {
        let n = bytes.len().min(self.remaining());
        self.buf[self.at..self.at + n].copy_from_slice(&bytes[..n]);
        self.at += n;
        Ok(n)
    }
}

/// A [`Source`] of the kernel's own bytes.
#[derive(Debug)]
pub struct SliceSource<'a>(pub &'a [u8]);

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }
    fn take(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min(self.0.len());
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// A sink that takes nothing; for zero-length reads.
#[derive(Debug)]
pub struct NullSink;
impl Sink for NullSink {
    fn remaining(&self) -> usize {
        0
    }
    fn put(&mut self, _: &[u8]) -> Result<usize> {
        Err(Errno::EFAULT)
    }
}
