//! An end of a pipe, as a file.
use super::Pipe;
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

/// The read end, the write end, or (a FIFO opened O_RDWR) both.
pub struct PipeEnd {
    pipe: Rc<Pipe>,
    reads: bool,
    writes: bool,
    queue: Rc<WaitQueue>,
    /// Opened without waiting while nobody wrote: no hang-up until the number of writers ever goes past this.
    no_hup_at: Cell<Option<u64>>,
}

impl PipeEnd {
    pub(super) fn attach(pipe: &Rc<Pipe>, reads: bool, writes: bool) -> Rc<PipeEnd> {
        let queue = Rc::new(WaitQueue::new());
        if reads {
            pipe.readers.set(pipe.readers.get() + 1);
            pipe.readers_ever.set(pipe.readers_ever.get() + 1);
            pipe.read_queues.borrow_mut().push(queue.clone());
        }
        if writes {
            pipe.writers.set(pipe.writers.get() + 1);
            pipe.writers_ever.set(pipe.writers_ever.get() + 1);
            pipe.write_queues.borrow_mut().push(queue.clone());
        }
        pipe.opening.wake();
        Rc::new(PipeEnd { pipe: pipe.clone(), reads, writes, queue, no_hup_at: Cell::new(None) })
    }

    pub(super) fn without_hup_yet(self: Rc<Self>) -> Rc<Self> {
        self.no_hup_at.set(Some(self.pipe.writers_ever.get()));
        self
    }

    pub fn pipe(&self) -> &Rc<Pipe> {
        &self.pipe
    }
    pub fn reads(&self) -> bool {
        self.reads
    }
    pub fn writes(&self) -> bool {
        self.writes
    }
}

impl FileOps for PipeEnd {
    /// Errors: EAGAIN (empty, and someone can still write), EBADF (the write end).
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if !self.reads {
            return Err(Errno::EBADF);
        }
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let moved = {
            let mut ring = self.pipe.ring.borrow_mut();
            if ring.is_empty() {
                return if self.pipe.writers.get() == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            ring.read(dst)?
        };
        if moved.made_room {
            self.pipe.wake_writers();
        }
        Ok(moved.bytes)
    }

    /// Moves in what fits; up to 4096 bytes (PIPE_BUF) wholly or not at all.
    /// Errors: EPIPE (nobody can read; the caller raises SIGPIPE), EAGAIN (nothing fits), EBADF (the read end).
    fn write(&self, file: &OpenFile, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        if !self.writes {
            return Err(Errno::EBADF);
        }
        if src.remaining() == 0 {
            return Ok(0);
        }
        if self.pipe.readers.get() == 0 {
            return Err(Errno::EPIPE);
        }
        let n = self.pipe.ring.borrow_mut().write(src, file.flags() & c::O_DIRECT != 0)?;
        if n == 0 {
            return Err(Errno::EAGAIN);
        }
        self.pipe.wake_readers();
        Ok(n)
    }

    fn takes_whole(&self, len: usize) -> bool {
        self.pipe.room_for(len) >= len
    }
    fn sigio(&self) -> bool {
        true
    }
    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        let ring = self.pipe.ring.borrow();
        let mut r = Ready::empty();
        if self.reads {
            if !ring.is_empty() {
                r |= Ready::IN | Ready::RDNORM;
            }
            if self.pipe.writers.get() == 0 && self.no_hup_at.get() != Some(self.pipe.writers_ever.get()) {
                r |= Ready::HUP;
            }
        }
        if self.writes {
            if !ring.is_full() {
                r |= Ready::OUT | Ready::WRNORM;
            }
            if self.pipe.readers.get() == 0 {
                r |= Ready::ERR;
            }
        }
        r
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        match u64::from(cmd) {
            c::FIONREAD => {
                mem.write(arg, &(self.pipe.bytes() as i32).to_ne_bytes())?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let pipe = &self.pipe;
        if self.reads {
            pipe.readers.set(pipe.readers.get() - 1);
            pipe.read_queues.borrow_mut().retain(|q| !Rc::ptr_eq(q, &self.queue));
        }
        if self.writes {
            pipe.writers.set(pipe.writers.get() - 1);
            pipe.write_queues.borrow_mut().retain(|q| !Rc::ptr_eq(q, &self.queue));
        }
        if self.writes && pipe.writers.get() == 0 {
            pipe.wake_readers();
        }
        if self.reads && pipe.readers.get() == 0 {
            pipe.wake_writers();
        }
    }
}
