//! eventfd(2).
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

/// A counter that reads take and writes add to. Only signals take it as far as `u64::MAX`, which is its overflow.
pub struct EventFd {
    count: Cell<u64>,
    semaphore: bool,
    queue: WaitQueue,
    /// A write did not fit, or someone saw that none would: the next read is news to writers.
    refused: Cell<bool>,
}

/// eventfd2(2). `flags`: EFD_SEMAPHORE, EFD_NONBLOCK; EFD_CLOEXEC is the caller's business. EINVAL for others.
pub fn eventfd(initial: u32, flags: i32) -> Result<Rc<OpenFile>> {
    if flags & !(c::EFD_SEMAPHORE | c::EFD_NONBLOCK | c::EFD_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let ops = EventFd {
        count: Cell::new(initial.into()),
        semaphore: flags & c::EFD_SEMAPHORE != 0,
        queue: WaitQueue::new(),
        refused: Cell::new(false),
    };
    Ok(OpenFile::new(Rc::new(ops), c::O_RDWR | flags & c::O_NONBLOCK, None))
}

impl EventFd {
    /// Adds for the kernel, which nothing holds up.
    pub fn signal(&self, n: u64) {
        self.count.set(self.count.get().saturating_add(n));
        self.queue.wake();
    }

    pub fn count(&self) -> u64 {
        self.count.get()
    }
}

impl FileOps for EventFd {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let count = self.count.get();
        let taken = match (count, self.semaphore) {
            (0, _) => return Err(Errno::EAGAIN),
            (_, true) => 1,
            (n, false) => n,
        };
        dst.put(&taken.to_ne_bytes())?;
        self.count.set(count - taken);
        if self.refused.replace(false) {
            self.queue.wake();
        }
        Ok(8)
    }

    fn write(&self, _file: &OpenFile, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        let mut b = [0; 8];
        if src.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut at = 0;
        while at < 8 {
            match src.take(&mut b[at..])? {
                0 => return Err(Errno::EFAULT),
                n => at += n,
            }
        }
        let n = u64::from_ne_bytes(b);
        if n == u64::MAX {
            return Err(Errno::EINVAL);
        }
        if n >= u64::MAX - self.count.get() {
            self.refused.set(true);
            return Err(Errno::EAGAIN);
        }
        self.count.set(self.count.get() + n);
        self.queue.wake();
        Ok(8)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        let mut r = Ready::empty();
        if self.count.get() > 0 {
            r |= Ready::IN;
        }
        if self.count.get() < u64::MAX - 1 {
            r |= Ready::OUT;
        } else {
            self.refused.set(true);
        }
        if self.count.get() == u64::MAX {
            r |= Ready::ERR;
        }
        r
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::io::{SliceSink, SliceSource};

    fn read(f: &OpenFile) -> Result<u64> {
        let mut b = [0; 8];
        assert_eq!(f.ops().read(f, &mut SliceSink::new(&mut b), 0)?, 8);
        Ok(u64::from_ne_bytes(b))
    }
    fn write(f: &OpenFile, n: u64) -> Result<usize> {
        f.ops().write(f, &mut SliceSource(&n.to_ne_bytes()), 0)
    }

    #[test]
    fn counts_and_empties() {
        let f = eventfd(3, 0).unwrap();
        assert_eq!(read(&f), Ok(3));
        assert_eq!(read(&f), Err(Errno::EAGAIN));
        assert_eq!(f.ops().ready(), Ready::OUT);
        write(&f, 2).unwrap();
        write(&f, 5).unwrap();
        assert_eq!(f.ops().ready(), Ready::IN | Ready::OUT);
        assert_eq!(read(&f), Ok(7));
    }

    #[test]
    fn semaphore_takes_one_at_a_time() {
        let f = eventfd(2, c::EFD_SEMAPHORE | c::EFD_NONBLOCK).unwrap();
        assert!(f.nonblocking());
        assert_eq!((read(&f), read(&f), read(&f)), (Ok(1), Ok(1), Err(Errno::EAGAIN)));
    }

    #[test]
    fn limits() {
        let f = eventfd(0, 0).unwrap();
        assert_eq!(write(&f, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(write(&f, u64::MAX - 1), Ok(8));
        assert_eq!(f.ops().ready(), Ready::IN);
        assert_eq!(write(&f, 1), Err(Errno::EAGAIN));
        let woken = Rc::new(Cell::new(0));
        let w = woken.clone();
        f.ops().waiters().unwrap().hook(Rc::new(move || w.set(w.get() + 1)));
        assert_eq!(read(&f), Ok(u64::MAX - 1));
        assert_eq!(woken.get(), 1, "a blocked writer is told");
        assert_eq!(f.ops().read(&f, &mut SliceSink::new(&mut [0; 7]), 0), Err(Errno::EINVAL));
        assert_eq!(f.ops().write(&f, &mut SliceSource(&[0; 7]), 0), Err(Errno::EINVAL));
        assert!(eventfd(0, 2).is_err());
    }
}
