//! socketpair(2) of streams: two pipes, crossed.
use crate::pipe::pipe;
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

/// One end.
pub struct PairEnd {
    /// `None` once shut down.
    reader: RefCell<Option<Rc<OpenFile>>>,
    writer: RefCell<Option<Rc<OpenFile>>>,
    queue: Rc<WaitQueue>,
}

impl PairEnd {
    fn new(reader: Rc<OpenFile>, writer: Rc<OpenFile>) -> Rc<PairEnd> {
        let queue = Rc::new(WaitQueue::new());
        for f in [&reader, &writer] {
            let q = queue.clone();
            if let Some(w) = f.ops().waiters() {
                // The queue lives as long as the end, whose pipes hold the hook.
                w.hook(Rc::new(move || q.wake()));
            }
        }
        Rc::new(PairEnd { reader: RefCell::new(Some(reader)), writer: RefCell::new(Some(writer)), queue })
    }

    /// shutdown(2): SHUT_RD, SHUT_WR or SHUT_RDWR.
    pub fn shutdown(&self, how: i32) -> Result {
        let (r, w) = match how {
            c::SHUT_RD => (true, false),
            c::SHUT_WR => (false, true),
            c::SHUT_RDWR => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        if r {
            self.reader.take();
        }
        if w {
            self.writer.take();
        }
        self.queue.wake();
        Ok(())
    }
}

/// Two connected ends; `flags`: O_NONBLOCK.
pub fn pair(flags: i32) -> Result<(Rc<OpenFile>, Rc<OpenFile>)> {
    let (ar, aw) = pipe(c::O_NONBLOCK)?;
    let (br, bw) = pipe(c::O_NONBLOCK)?;
    let keep = c::O_RDWR | flags & c::O_NONBLOCK;
    let open = |e| OpenFile::new(e, keep, None);
    Ok((open(PairEnd::new(ar, bw)), open(PairEnd::new(br, aw))))
}

impl FileOps for PairEnd {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        match &*self.reader.borrow() {
            Some(r) => r.ops().read(r, dst, offset),
            None => Ok(0),
        }
    }
    fn write(&self, _file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        match &*self.writer.borrow() {
            Some(w) => w.ops().write(w, src, offset),
            None => Err(Errno::EPIPE),
        }
    }
    fn seekable(&self) -> bool {
        false
    }
    fn takes_whole(&self, len: usize) -> bool {
        self.writer.borrow().as_ref().is_none_or(|w| w.ops().takes_whole(len))
    }
    fn ready(&self) -> Ready {
        let part = |f: &RefCell<Option<Rc<OpenFile>>>| f.borrow().as_ref().map(|f| f.ops().ready());
        let read = part(&self.reader).unwrap_or(Ready::IN | Ready::RDNORM | Ready::RDHUP);
        let write = part(&self.writer).unwrap_or(Ready::OUT | Ready::WRNORM);
        let gone = read.contains(Ready::HUP);
        let mut r = (read | write) - Ready::HUP - Ready::ERR;
        if gone {
            r |= Ready::IN | Ready::RDNORM | Ready::RDHUP;
        }
        if gone && write.contains(Ready::ERR) {
            r |= Ready::HUP | Ready::OUT;
        }
        r
    }
    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }
    fn ioctl(&self, file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        match &*self.reader.borrow() {
            Some(r) => r.ops().ioctl(file, mem, cmd, arg),
            None => Err(Errno::ENOTTY),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::io::{SliceSink, SliceSource};

    #[test]
    fn what_one_writes_the_other_reads_until_it_shuts_down() {
        let (a, b) = pair(0).unwrap();
        let mut buf = [0u8; 8];
        assert_eq!(b.ops().read(&b, &mut SliceSink::new(&mut buf), 0), Err(Errno::EAGAIN));
        assert_eq!(a.ops().write(&a, &mut SliceSource(b"hello"), 0), Ok(5));
        assert!(b.ops().ready().contains(Ready::IN | Ready::OUT));
        assert_eq!(b.ops().read(&b, &mut SliceSink::new(&mut buf), 0), Ok(5));
        assert_eq!(&buf[..5], b"hello");
        a.downcast::<PairEnd>().unwrap().shutdown(c::SHUT_WR).unwrap();
        assert_eq!(b.ops().read(&b, &mut SliceSink::new(&mut buf), 0), Ok(0));
        assert_eq!(b.ops().write(&b, &mut SliceSource(b"x"), 0), Ok(1));
        drop(a);
        assert_eq!(b.ops().write(&b, &mut SliceSource(b"x"), 0), Err(Errno::EPIPE));
        assert!(b.ops().ready().contains(Ready::HUP));
    }
}
