//! The sandbox's standard streams: host pipes, terminals, sockets or files that the caller gave, and shares.
//!
//! The kernel thread must not be held up by them, and O_NONBLOCK is the caller's to set. So before anything is read or
//! written poll(2) is asked, and what can block is done with RWF_NOWAIT, or in pieces that fit when POLLOUT is told.
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use host::stream::{self, Kind};
use host::term;
use kernel::reactor::{self, Watch};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use vfs::{Backing, FileOps, OpenFile, Ready};

/// What a pipe or socket takes without waiting once POLLOUT is told.
const PIECE: usize = 4096;
/// For terminals, whose POLLOUT promises less.
const TERMINAL_PIECE: usize = 256;
/// The most that one call moves.
const MAX_CALL: usize = 1 << 16;
/// poll(2)'s events that are readiness.
const EVENTS: u16 = 0x1 | 0x2 | 0x4 | 0x40 | 0x100 | 0x2000;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_CALL]);
}

/// A stream of the host, as a file.
pub struct HostStream {
    /// `None`: always ready.
    watch: Option<Watch>,
    queue: Rc<WaitQueue>,
    fd: OwnedFd,
    kind: Kind,
    /// The description has O_NONBLOCK already.
    nonblocking: bool,
    /// RWF_NOWAIT is understood.
    nowait: Cell<bool>,
    /// Of a file with positions: where the guest's description would stand had nobody moved it since our last use.
    expected: Cell<u64>,
}

impl HostStream {
    /// The stream as an open file: access mode, O_APPEND and position as the host has them.
    pub fn open(fd: OwnedFd) -> Result<Rc<OpenFile>> {
        let kind = stream::kind(fd.as_fd())?;
        let flags = stream::flags(fd.as_fd())?;
        let pos = if kind == Kind::Regular { stream::tell(fd.as_fd())? } else { 0 };
        let queue = Rc::new(WaitQueue::new());
        let watch = match reactor::watch(fd.as_fd(), queue.clone()) {
            Ok(w) => Some(w),
            Err(Errno::EPERM) => None,
            Err(e) => return Err(e),
        };
        let ops = HostStream {
            watch,
            queue,
            fd,
            kind,
            nonblocking: flags & c::O_NONBLOCK != 0,
            nowait: Cell::new(!matches!(kind, Kind::Regular | Kind::Terminal)),
            expected: Cell::new(pos),
        };
        let file = OpenFile::new(Rc::new(ops), flags & (c::O_ACCMODE | c::O_APPEND), None);
        file.set_pos(pos);
        Ok(file)
    }

    /// The process's own stream 0, 1 or 2. EBADF if it is closed.
    pub fn standard(n: u32) -> Result<Rc<OpenFile>> {
        Self::open(stream::standard(n)?)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn is_terminal(&self) -> bool {
        self.kind == Kind::Terminal
    }

    /// The host's descriptor, for fstat(2) and the like.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Is any of `events` told now, or an error or hang-up (which make reads and writes return)?
    fn may(&self, events: u16) -> bool {
        const ALSO: u16 = (c::POLLERR | c::POLLHUP) as u16;
        self.watch.is_none() || stream::poll_now(self.fd(), events) & (events | ALSO) != 0
    }

    fn read_stream(&self, dst: &mut dyn Sink) -> Result<usize> {
        let want = dst.remaining().min(MAX_CALL);
        if want == 0 {
            return Ok(0);
        }
        BUFFER.with_borrow_mut(|buf| {
            let n = self.read_now(&mut buf[..want])?;
            dst.put(&buf[..n])
        })
    }

    fn read_now(&self, buf: &mut [u8]) -> Result<usize> {
        if self.nowait.get() {
            match stream::read_nowait(self.fd(), buf) {
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => self.nowait.set(false),
                r => return r,
            }
        }
        if !self.nonblocking && !self.may(c::POLLIN as u16) {
            return Err(Errno::EAGAIN);
        }
        host::file::read(self.fd(), buf, None)
    }

    fn write_stream(&self, src: &mut dyn Source) -> Result<usize> {
        let piece = if self.is_terminal() && !self.nonblocking { TERMINAL_PIECE } else { PIECE };
        let mut buf = [0; PIECE];
        let mut done = 0;
        while done < MAX_CALL {
            let want = src.remaining().min(piece);
            if want == 0 {
                break;
            }
            // Asked before the bytes leave the source, to which they cannot go back.
            if !self.may(c::POLLOUT as u16) {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            let n = src.take(&mut buf[..want]).or_else(|e| if done > 0 { Ok(0) } else { Err(e) })?;
            if n == 0 {
                break;
            }
            match self.write_now(&buf[..n]) {
                Ok(wrote) => {
                    done += wrote;
                    if wrote < n {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_now(&self, buf: &[u8]) -> Result<usize> {
        if self.nowait.get() {
            match stream::write_nowait(self.fd(), buf) {
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => self.nowait.set(false),
                r => return r,
            }
        }
        host::file::write(self.fd(), buf, None)
    }

    /// Where to read or write in a file with positions. `None`: at the position the description has on the host, which
    /// the caller's other processes move as well. That is so for calls without an offset of their own.
    fn place(&self, file: &OpenFile, offset: u64) -> Result<Option<u64>> {
        if offset != file.pos() {
            return Ok(Some(offset));
        }
        if offset != self.expected.get() {
            // The guest has moved its position since.
            stream::seek(self.fd(), offset)?;
        }
        Ok(None)
    }

    fn moved(&self, at: Option<u64>, offset: u64, n: usize) -> usize {
        if at.is_none() {
            self.expected.set(offset.saturating_add(n as u64));
        }
        n
    }

    fn regular(&self) -> Result {
        if self.kind == Kind::Regular { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

impl FileOps for HostStream {
    fn cached(&self, _r: std::ops::Range<u64>) -> Result<u64> {
        if self.kind == Kind::Regular { Err(Errno::EOPNOTSUPP) } else { Ok(0) }
    }

    fn read(&self, file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        if self.kind != Kind::Regular {
            return self.read_stream(dst);
        }
        let at = self.place(file, offset)?;
        let n = repeat(at, |at| dst.put_from(self.fd(), at, dst.remaining()))?;
        Ok(self.moved(at, offset, n))
    }

    /// A write that returns fewer bytes than the source had may, if others write to the same stream, have taken more
    /// from the source: go on from the count, not from the source.
    fn write(&self, file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        if self.kind != Kind::Regular {
            return self.write_stream(src);
        }
        let append = file.flags() & c::O_APPEND != 0;
        let at = if append { None } else { self.place(file, offset)? };
        let n = repeat(at, |at| src.take_into(self.fd(), at, src.remaining()))?;
        Ok(self.moved(at, offset, n))
    }

    fn seekable(&self) -> bool {
        matches!(self.kind, Kind::Regular | Kind::Device)
    }

    /// Room in a pipe is told by the page; the others may take any part.
    fn takes_whole(&self, len: usize) -> bool {
        self.watch.is_none() || len <= if self.kind == Kind::Pipe { PIECE } else { 1 }
    }

    fn size(&self) -> Result<u64> {
        match self.kind {
            Kind::Regular => stream::size(self.fd()),
            Kind::Device => Ok(0),
            _ => Err(Errno::ESPIPE),
        }
    }

    fn ready(&self) -> Ready {
        if self.watch.is_none() {
            return Ready::IN | Ready::OUT | Ready::RDNORM | Ready::WRNORM;
        }
        Ready::from_bits_truncate(stream::poll_now(self.fd(), EVENTS).into())
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        self.watch.as_ref().map(|_| &*self.queue)
    }

    /// FIONREAD and, for terminals, what tells and sets their attributes. What is about sessions and process groups is
    /// not the host's to say.
    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        let cmd = u64::from(cmd);
        if cmd == c::FIONREAD && matches!(self.kind, Kind::Pipe | Kind::Socket | Kind::Terminal) {
            mem.write(arg, &term::input_bytes(self.fd())?.to_ne_bytes())?;
            return Ok(0);
        }
        if !self.is_terminal() {
            return Err(Errno::ENOTTY);
        }
        terminal_ioctl(self.fd(), mem, cmd, arg)?;
        Ok(0)
    }

    fn truncate(&self, len: u64) -> Result {
        self.regular()?;
        stream::truncate(self.fd(), len)
    }

    fn sync(&self, data_only: bool) -> Result {
        self.regular()?;
        stream::sync(self.fd(), data_only)
    }

    fn mmap(&self, _writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        if self.kind != Kind::Regular {
            return Err(Errno::ENODEV);
        }
        f(Backing::Host(self.fd()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes `step` again, further on, until it moves nothing. An error counts only if nothing moved before it.
fn repeat(mut at: Option<u64>, mut step: impl FnMut(Option<u64>) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    loop {
        match step(at) {
            Ok(0) => return Ok(done),
            Ok(n) => {
                done += n;
                at = at.map(|a| a.saturating_add(n as u64));
            }
            Err(e) if done == 0 => return Err(e),
            Err(_) => return Ok(done),
        }
    }
}

impl Drop for HostStream {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            reactor::unwatch(watch, self.fd.as_fd());
        }
    }
}

fn read_bytes<const N: usize>(mem: &dyn Memory, addr: u64) -> Result<[u8; N]> {
    let mut b = [0; N];
    mem.read(addr, &mut b)?;
    Ok(b)
}

/// The forms that drain output first do not wait for it: what was written goes out before what follows in any case.
fn terminal_ioctl(fd: BorrowedFd<'_>, mem: &dyn Memory, cmd: u64, arg: u64) -> Result {
    match cmd {
        c::TCGETS => mem.write(arg, &term::attributes(fd)?),
        c::TCGETS2 => mem.write(arg, &term::attributes2(fd)?),
        c::TCSETS | c::TCSETSW | c::TCSETSF => {
            let v = read_bytes(mem, arg)?;
            if cmd == c::TCSETSF {
                term::flush(fd, c::TCIFLUSH)?;
            }
            term::set_attributes(fd, &v)
        }
        c::TCSETS2 | c::TCSETSW2 | c::TCSETSF2 => {
            let v = read_bytes(mem, arg)?;
            if cmd == c::TCSETSF2 {
                term::flush(fd, c::TCIFLUSH)?;
            }
            term::set_attributes2(fd, &v)
        }
        c::TIOCGWINSZ => mem.write(arg, &term::window_size(fd)?),
        c::TIOCSWINSZ => term::set_window_size(fd, &read_bytes(mem, arg)?),
        c::TIOCOUTQ => mem.write(arg, &term::output_bytes(fd)?.to_ne_bytes()),
        c::TCFLSH => term::flush(fd, arg as i32),
        c::TCXONC => term::flow(fd, arg as i32),
        // A break takes a quarter of a second on a serial line and means nothing on others.
        c::TCSBRK | c::TCSBRKP => Ok(()),
        _ => Err(Errno::ENOTTY),
    }
}

#[cfg(test)]
mod tests;
