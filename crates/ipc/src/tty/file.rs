//! The two ends of a pseudo-terminal as open files. ioctl_tty(2).
use super::termios::{TERMIO, TERMIOS, TERMIOS2, Termios};
use super::{PTS_MAJOR, Tty};
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

/// What one call moves at most.
const PIECE: usize = 4096;
const READ: Ready = Ready::IN.union(Ready::RDNORM);
const WRITE: Ready = Ready::OUT.union(Ready::WRNORM);

/// The end a terminal emulator holds.
pub struct Master(Rc<Tty>);

/// The end a program has as its terminal; one for each time it was opened.
pub struct Slave(Rc<Tty>);

/// The terminal of an open file, and whether that is its master.
pub fn slave_of(f: &OpenFile) -> Option<(&Rc<Tty>, bool)> {
    let slave = f.downcast::<Slave>().map(|s| (&s.0, false));
    slave.or_else(|| f.downcast::<Master>().map(|m| (&m.0, true)))
}

/// What a read at the slave waits for, by VMIN and VTIME. termios(3), "Canonical and noncanonical mode".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Bytes (or one line).
    pub least: usize,
    /// Nanoseconds it waits for the first byte; `None`: for ever.
    pub first: Option<u64>,
    /// Nanoseconds it waits from byte to byte.
    pub between: Option<u64>,
}

impl Master {
    pub(super) fn new(tty: Rc<Tty>) -> Master {
        Master(tty)
    }

    pub fn tty(&self) -> &Rc<Tty> {
        &self.0
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

impl Slave {
    /// Opens the slave once more. EIO: it is locked, or its master is gone. EBUSY: TIOCEXCL, unless `privileged`.
    pub fn open(tty: &Rc<Tty>, privileged: bool) -> Result<Slave> {
        if tty.hung_up.get() || tty.locked.get() {
            return Err(Errno::EIO);
        }
        if tty.exclusive.get() && !privileged {
            return Err(Errno::EBUSY);
        }
        tty.slaves.set(tty.slaves.get() + 1);
        tty.left.set(false);
        Ok(Slave(tty.clone()))
    }

    pub fn tty(&self) -> &Rc<Tty> {
        &self.0
    }

    /// How a read of `count` bytes waits.
    pub fn patience(&self, count: usize) -> Patience {
        let line = self.0.line.borrow();
        if line.by_lines() {
            return Patience { least: 1, first: None, between: None };
        }
        let tenths = Some(u64::from(line.termios.char(c::VTIME)) * 100_000_000);
        match usize::from(line.termios.char(c::VMIN)) {
            0 => Patience { least: 1, first: tenths, between: None },
            n => Patience { least: n.min(count), first: None, between: tenths.filter(|t| *t > 0) },
        }
    }

    /// Are there `least` bytes, or a line, or is the terminal gone?
    pub fn may_read(&self, least: usize) -> bool {
        self.0.hung_up.get() || self.0.line.borrow().has_input(least)
    }

    /// Bytes that lie there.
    pub fn arrived(&self) -> usize {
        self.0.line.borrow().readable()
    }

    pub fn queue(&self) -> &WaitQueue {
        &self.0.to_slave
    }
}

impl Drop for Slave {
    fn drop(&mut self) {
        let left = self.0.slaves.get() - 1;
        self.0.slaves.set(left);
        if left == 0 {
            self.0.left.set(true);
            self.0.to_master.wake();
        }
    }
}

impl FileOps for Slave {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if self.0.hung_up.get() || dst.remaining() == 0 {
            return Ok(0);
        }
        let line = self.0.line.borrow();
        if !line.has_input(1) {
            let polls = !line.by_lines() && line.termios.char(c::VMIN) == 0 && line.termios.char(c::VTIME) == 0;
            return if polls { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let (bytes, n) = line.peek(dst.remaining());
        drop(line);
        let got = if bytes.is_empty() { 0 } else { dst.put(&bytes)? };
        self.0.change(|line| line.consume(n));
        Ok(got)
    }

    fn write(&self, _file: &OpenFile, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        if self.0.hung_up.get() {
            return Err(Errno::EIO);
        }
        let mut done = 0;
        let mut buf = [0; PIECE];
        while src.remaining() > 0 {
            if !self.0.line.borrow().writable() {
                break;
            }
            let n = src.take(&mut buf).or_else(|e| if done > 0 { Ok(0) } else { Err(e) })?;
            let wrote = self.0.change(|line| line.write(&buf[..n]));
            done += wrote;
            if wrote < n || n == 0 {
                break;
            }
        }
        if done == 0 && src.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn sigio(&self) -> bool {
        true
    }
    fn seekable(&self) -> bool {
        false
    }

    /// A tab may become eight spaces.
    fn takes_whole(&self, len: usize) -> bool {
        len <= self.0.line.borrow().room() / 8
    }

    fn ready(&self) -> Ready {
        if self.0.hung_up.get() {
            return READ | WRITE | Ready::ERR | Ready::HUP;
        }
        let line = self.0.line.borrow();
        let least = match (line.termios.char(c::VMIN), line.termios.char(c::VTIME)) {
            (n, 0) => usize::from(n),
            _ => 1,
        };
        let mut r = Ready::empty();
        r.set(READ, line.has_input(least));
        r.set(WRITE, line.writable());
        r
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.0.to_slave)
    }

    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        if self.0.hung_up.get() {
            return Err(Errno::EIO);
        }
        match u64::from(cmd) {
            c::FIONREAD => {
                let n = self.0.line.borrow().readable();
                mem.write(arg, &(n as i32).to_ne_bytes())?;
            }
            c::TCFLSH => match arg as i32 {
                c::TCIFLUSH => self.0.change(|line| line.flush_input(true)),
                c::TCOFLUSH => self.0.change(|line| {
                    line.deliver();
                    line.flush_output();
                }),
                c::TCIOFLUSH => self.0.change(|line| {
                    line.flush_input(true);
                    line.deliver();
                    line.flush_output();
                }),
                _ => return Err(Errno::EINVAL),
            },
            _ => settings(&self.0, mem, cmd, arg)?,
        }
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for Master {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let room = dst.remaining();
        if room == 0 {
            return Ok(0);
        }
        let mut line = self.0.line.borrow_mut();
        if line.packet && line.status != 0 {
            let status = std::mem::take(&mut line.status);
            return dst.put(&[status]);
        }
        if line.output.is_empty() {
            return Err(if self.0.left.get() { Errno::EIO } else { Errno::EAGAIN });
        }
        let mark = usize::from(line.packet);
        let mut bytes = vec![0u8; mark];
        bytes.extend(line.output.iter().take(room.min(PIECE + mark) - mark));
        drop(line);
        let got = dst.put(&bytes)?;
        self.0.change(|line| line.output.drain(..got - mark).for_each(drop));
        Ok(got)
    }

    fn write(&self, _file: &OpenFile, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        let mut done = 0;
        let mut buf = [0; PIECE];
        while src.remaining() > 0 {
            let room = self.0.line.borrow().input_room().min(PIECE);
            if room == 0 {
                break;
            }
            let n = src.take(&mut buf[..room]).or_else(|e| if done > 0 { Ok(0) } else { Err(e) })?;
            if n == 0 {
                break;
            }
            self.0.change(|line| line.receive(&buf[..n]));
            done += n;
        }
        if done == 0 && src.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn sigio(&self) -> bool {
        true
    }
    fn seekable(&self) -> bool {
        false
    }

    fn takes_whole(&self, len: usize) -> bool {
        len <= self.0.line.borrow().input_room()
    }

    fn ready(&self) -> Ready {
        let line = self.0.line.borrow();
        let told = line.packet && line.status != 0;
        let mut r = Ready::empty();
        r.set(READ, told || !line.output.is_empty());
        r.set(Ready::PRI, told);
        r.set(WRITE, line.input_room() > 0);
        r.set(Ready::HUP, self.0.left.get());
        r
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.0.to_master)
    }

    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        let number = || -> Result<i32> {
            let mut b = [0; 4];
            mem.read(arg, &mut b)?;
            Ok(i32::from_ne_bytes(b))
        };
        let tell = |n: i32| mem.write(arg, &n.to_ne_bytes());
        let tty = &self.0;
        match u64::from(cmd) {
            c::TIOCGPTN => tell(tty.index as i32)?,
            c::TIOCSPTLCK => tty.locked.set(number()? != 0),
            c::TIOCGPTLCK => tell(tty.locked.get().into())?,
            c::TIOCPKT => {
                let on = number()? != 0;
                let mut line = tty.line.borrow_mut();
                if on && !line.packet {
                    line.status = 0;
                }
                line.packet = on;
            }
            c::TIOCGPKT => tell(tty.line.borrow().packet.into())?,
            c::TIOCSIG => match arg as i32 {
                sig @ (c::SIGINT | c::SIGQUIT | c::SIGTSTP) => tty.signal(sig),
                _ => return Err(Errno::EINVAL),
            },
            c::FIONREAD => tell(tty.line.borrow().output.len() as i32)?,
            // Of the master: its input is the slave's output.
            c::TCFLSH => match arg as i32 {
                c::TCOFLUSH => {}
                c::TCIFLUSH | c::TCIOFLUSH => tty.change(|line| line.output.clear()),
                _ => return Err(Errno::EINVAL),
            },
            _ => settings(tty, mem, cmd, arg)?,
        }
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What both ends answer alike: for the master, too, these are about the slave.
fn settings(tty: &Tty, mem: &dyn Memory, cmd: u32, arg: u64) -> Result {
    let tell = |n: i32| mem.write(arg, &n.to_ne_bytes());
    match u64::from(cmd) {
        c::TCGETS => mem.write(arg, &tty.line.borrow().termios.to_bytes()[..TERMIOS]),
        c::TCGETS2 => mem.write(arg, &tty.line.borrow().termios.to_bytes()),
        c::TCGETA => mem.write(arg, &tty.line.borrow().termios.to_old()),
        c::TCSETA | c::TCSETAW | c::TCSETAF => {
            let mut b = [0; TERMIO];
            mem.read(arg, &mut b)?;
            set(tty, u64::from(cmd) == c::TCSETAF, |old| old.with_old(&b));
            Ok(())
        }
        c::TCSETS | c::TCSETSW | c::TCSETSF => read_and_set(tty, mem, arg, TERMIOS, u64::from(cmd) == c::TCSETSF),
        c::TCSETS2 | c::TCSETSW2 | c::TCSETSF2 => read_and_set(tty, mem, arg, TERMIOS2, u64::from(cmd) == c::TCSETSF2),
        // Nothing to wait for: output is with the master at once. A break means nothing on a pty.
        c::TCSBRK | c::TCSBRKP => Ok(()),
        c::TCXONC => {
            match arg as i32 {
                c::TCOOFF => tty.change(|line| line.stop(true)),
                c::TCOON => tty.change(|line| {
                    if std::mem::take(&mut line.stopped_by_call) {
                        line.start();
                    }
                }),
                c::TCIOFF => tty.change(|line| line.send_character(c::VSTOP)),
                c::TCION => tty.change(|line| line.send_character(c::VSTART)),
                _ => return Err(Errno::EINVAL),
            }
            Ok(())
        }
        c::TIOCOUTQ => tell(0),
        c::TIOCGWINSZ => mem.write(arg, &tty.window.get()),
        c::TIOCSWINSZ => {
            let mut window = [0; 8];
            mem.read(arg, &mut window)?;
            tty.resize(window);
            Ok(())
        }
        c::TIOCEXCL => {
            tty.exclusive.set(true);
            Ok(())
        }
        c::TIOCNXCL => {
            tty.exclusive.set(false);
            Ok(())
        }
        c::TIOCGEXCL => tell(tty.exclusive.get().into()),
        // N_TTY is the only line discipline.
        c::TIOCGETD => tell(0),
        c::TIOCSETD => {
            let mut which = [0; 4];
            mem.read(arg, &mut which)?;
            if which == [0; 4] { Ok(()) } else { Err(Errno::EINVAL) }
        }
        c::TIOCGDEV => tell((PTS_MAJOR << 8 | tty.index & 0xff | (tty.index & !0xff) << 12) as i32),
        // Nothing of the settings is locked; locking takes CAP_SYS_ADMIN over the machine.
        c::TIOCGLCKTRMIOS => mem.write(arg, &[0; TERMIOS]),
        c::TIOCSLCKTRMIOS => Err(Errno::EPERM),
        // Typing for others: refused as by a Linux without CONFIG_LEGACY_TIOCSTI.
        c::TIOCSTI => Err(Errno::EIO),
        _ => Err(Errno::ENOTTY),
    }
}

fn read_and_set(tty: &Tty, mem: &dyn Memory, arg: u64, size: usize, flush: bool) -> Result {
    let mut b = [0; TERMIOS2];
    mem.read(arg, &mut b[..size])?;
    set(tty, flush, |old| old.with_bytes(&b[..size]));
    Ok(())
}

fn set(tty: &Tty, flush: bool, new: impl FnOnce(Termios) -> Termios) {
    tty.change(|line| {
        if flush {
            line.flush_input(false);
        }
        let new = new(line.termios);
        line.set_termios(new);
    });
}
