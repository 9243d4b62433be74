//! One guest thread's host thread, and the guest memory it can reach.
use super::process::Process;
use abi::{Errno, Result};
use guest::Memory;
use guest::ops::Resume;
use slots::{ACTIONS, Action, Slot, ask, handshake, layout, op};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// A step that did not fit into the current answer.
pub enum Step {
    Plain {
        op: u32,
        args: [u64; 7],
    },
    /// A host call with a descriptor in argument `arg`.
    WithFd {
        args: [u64; 7],
        arg: u32,
        fd: Rc<OwnedFd>,
    },
    Bytes {
        addr: u64,
        bytes: Vec<u8>,
        at: usize,
    },
    /// An action on what is put in the data area.
    Data {
        op: u32,
        bytes: Vec<u8>,
    },
    /// Fork into this process: the descriptors are its socket and region.
    Fork {
        socket: OwnedFd,
        region: Rc<Process>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Running guest code (or not yet heard of).
    Running,
    /// Waiting for an answer.
    Asking,
}

pub struct Thread {
    pub process: Rc<Process>,
    pub index: usize,
    pub tag: u64,
    /// Number of the request being served, or served last.
    pub seq: Cell<u32>,
    pub state: Cell<State>,
    /// Its [`ask`]; something came with it.
    pub kind: Cell<u32>,
    ahead: Cell<bool>,
    /// An unanswered doorbell.
    pub bell: Cell<Option<u64>>,
    pub host_tid: Cell<i32>,
    /// The CPU it rang on last, as it says.
    pub cpu: Cell<usize>,
    /// When the last bell was answered, monotonic nanoseconds, and how many came close after another without a
    /// parked call between.
    pub bell_answered: Cell<u64>,
    pub dense: Cell<u32>,
    /// It waits for something else than its answer.
    pub parked: Cell<bool>,
    /// When it last was woken from that, and how long it ran until it waited again: nanoseconds.
    pub woken: Cell<u64>,
    pub ran: Cell<u64>,
    /// How many such bells it takes to be looked at, and calls served while it was.
    pub needed: Cell<u32>,
    /// It is looked at for its own bells, not because others were.
    pub earned: Cell<bool>,
    pub served: Cell<u32>,
    /// Whether the sentry looks at the slot.
    pub hot: Cell<bool>,
    /// Whether it is kept off the kernel thread's CPU.
    pub moved: Cell<bool>,
    /// Bytes of the data area in use, and actions written, for the current request.
    pub used: Cell<usize>,
    pub actions: Cell<usize>,
    /// The answer's own copy is taken.
    pub copied: Cell<bool>,
    /// The last copy, if nothing came after it: where it ends in guest memory and in the data area, and its length.
    last: Cell<Option<(u64, usize, usize)>>,
    pub queue: RefCell<VecDeque<Step>>,
    /// What comes after the queue.
    pub then: Cell<Resume>,
}

impl Thread {
    pub fn new(process: Rc<Process>, index: usize, tag: u64) -> Thread {
        Thread {
            process,
            index,
            tag,
            seq: Cell::new(0),
            state: Cell::new(State::Running),
            kind: Cell::new(ask::CALL),
            ahead: Cell::new(false),
            bell: Cell::new(None),
            host_tid: Cell::new(0),
            cpu: Cell::new(0),
            bell_answered: Cell::new(0),
            dense: Cell::new(0),
            parked: Cell::new(false),
            woken: Cell::new(0),
            ran: Cell::new(u64::MAX),
            needed: Cell::new(super::DENSE),
            earned: Cell::new(false),
            served: Cell::new(0),
            hot: Cell::new(false),
            moved: Cell::new(false),
            used: Cell::new(0),
            actions: Cell::new(0),
            copied: Cell::new(false),
            last: Cell::new(None),
            queue: RefCell::default(),
            then: Cell::new(Resume::Unchanged),
        }
    }

    pub fn slot(&self) -> &Slot {
        self.process.region.slot(self.index)
    }

    /// A request that was not there before.
    pub fn look(&self) -> bool {
        if self.state.get() == State::Asking {
            return false;
        }
        match handshake::look(&self.slot().request.seq, self.seq.get()) {
            Some(seq) => {
                self.seq.set(seq);
                self.state.set(State::Asking);
                self.clear();
                let kind = self.slot().request.kind.load(Relaxed);
                self.kind.set(kind & !ask::AHEAD);
                self.ahead.set(kind & ask::AHEAD != 0);
                let used = if self.ahead.get() { self.slot().ahead.used.load(Relaxed) } else { 0 };
                self.used.set((used as usize).min(layout::DATA_SIZE));
                true
            }
            None => false,
        }
    }

    /// Adds an action to the answer; false if the list is full.
    pub fn push(&self, op: u32, fd_arg: u32, args: &[u64]) -> bool {
        let n = self.actions.get();
        if n >= ACTIONS {
            return false;
        }
        self.last.set(None);
        let a: &Action = &self.slot().action[n];
        a.op.store(op, Relaxed);
        a.fd_arg.store(fd_arg, Relaxed);
        for (to, from) in a.args.iter().zip(args) {
            to.store(*from, Relaxed);
        }
        self.actions.set(n + 1);
        true
    }

    /// Has the stub copy `len` bytes of the data area to `addr`: by the answer's own line if nothing came before.
    pub fn push_copy(&self, addr: u64, at: usize, len: usize) {
        if self.copied.get() || self.actions.get() > 0 {
            if !self.push(op::COPY, 0, &[addr, at as u64, len as u64]) {
                return;
            }
        } else {
            self.copied.set(true);
            let c = &self.slot().answer.copy;
            c.addr.store(addr, Relaxed);
            c.offset.store(at as u32, Relaxed);
            c.len.store(len as u32, Relaxed);
        }
        self.last.set(Some((addr + len as u64, at + len, len)));
    }

    /// Takes all actions back.
    pub fn clear(&self) {
        self.actions.set(0);
        self.copied.set(false);
        self.last.set(None);
    }

    /// Has the last copy go on for `len` bytes, should they be for `addr`; where they lie in the data area. An array that is
    /// written element by element is one copy.
    fn extend(&self, addr: u64, len: usize) -> Option<usize> {
        let (_, at, before) = self.last.get().filter(|(end, ..)| *end == addr)?;
        // Nothing else was put there since.
        if len > layout::DATA_SIZE - at || self.used.get() != rounded(at) {
            return None;
        }
        let whole = before + len;
        match self.actions.get() {
            0 => self.slot().answer.copy.len.store(whole as u32, Relaxed),
            n => self.slot().action[n - 1].args[2].store(whole as u64, Relaxed),
        }
        self.used.set(rounded(at + len));
        self.last.set(Some((addr + len as u64, at + len, whole)));
        Some(at)
    }

    /// Takes `len` bytes of the data area; `None` if they are not left.
    pub fn reserve(&self, len: usize) -> Option<usize> {
        let at = self.used.get();
        if len > layout::DATA_SIZE - at {
            return None;
        }
        self.used.set(rounded(at + len));
        Some(at)
    }

    /// Where `[addr, addr + len)` was copied ahead, or its first part: data offset and length.
    fn ahead(&self, addr: u64, len: usize) -> Option<(usize, usize)> {
        if !self.ahead.get() {
            return None;
        }
        self.slot().ahead.segments.iter().find_map(|s| {
            let (start, have, at) =
                (s.addr.load(Relaxed), s.len.load(Relaxed) as usize, s.offset.load(Relaxed) as usize);
            if have > layout::DATA_SIZE || at > layout::DATA_SIZE - have {
                return None;
            }
            let skip = usize::try_from(addr.checked_sub(start)?).ok()?;
            (skip < have).then(|| (at + skip, len.min(have - skip)))
        })
    }
}

/// Where what is put behind `at` in the data area begins.
fn rounded(at: usize) -> usize {
    ((at + 15) & !15).min(layout::DATA_SIZE)
}

/// Addresses a guest may name: its own, and the vDSO page range is never written.
fn guest_range(addr: u64, len: usize) -> Result {
    match addr.checked_add(len as u64) {
        Some(end) if end <= layout::GUEST_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

impl Memory for Thread {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result {
        match self.ahead(addr, buf.len()) {
            Some((at, n)) if n == buf.len() => {
                self.process.region.get(self.index, at, buf);
                Ok(())
            }
            _ => self.read_now(addr, buf),
        }
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result {
        guest_range(addr, bytes.len())?;
        if self.state.get() == State::Asking
            && let Some(at) = self.extend(addr, bytes.len())
        {
            self.process.region.put(self.index, at, bytes);
            return Ok(());
        }
        if self.state.get() == State::Asking
            && self.actions.get() < ACTIONS - 4
            && let Some(at) = self.reserve(bytes.len())
        {
            self.process.region.put(self.index, at, bytes);
            self.push_copy(addr, at, bytes.len());
            return Ok(());
        }
        self.write_now(addr, bytes)
    }

    fn write_now(&self, addr: u64, bytes: &[u8]) -> Result {
        guest_range(addr, bytes.len())?;
        match host::stub::write_memory(self.process.pid.get(), addr, bytes)? {
            n if n == bytes.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn read_now(&self, addr: u64, buf: &mut [u8]) -> Result {
        guest_range(addr, buf.len())?;
        match host::stub::read_memory(self.process.pid.get(), addr, buf)? {
            n if n == buf.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn read_vdso(&self, addr: u64, buf: &mut [u8]) -> Result {
        match host::stub::read_memory(self.process.pid.get(), addr, buf)? {
            n if n == buf.len() => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize> {
        if let Some((at, n)) = self.ahead(addr, buf.len()) {
            self.process.region.get(self.index, at, &mut buf[..n]);
            return Ok(n);
        }
        guest_range(addr, buf.len().min(1))?;
        let room = (layout::GUEST_END - addr).min(buf.len() as u64) as usize;
        host::stub::read_memory(self.process.pid.get(), addr, &mut buf[..room])
    }

    fn stack_pointer(&self) -> u64 {
        self.slot().ahead.sp.load(Relaxed)
    }

    fn host_pid(&self) -> i32 {
        self.process.pid.get()
    }

    fn take_futexes(&self) {
        handshake::take_futexes(&self.process.region.control().futexes);
    }

    fn waits_at_host(&self) -> bool {
        self.slot().mode.waits.load(Relaxed) != 0
    }

    fn cover(&self, ip: u64) {
        handshake::cover(&self.process.region.control().covering, ip);
    }

    fn returns_to(&self, ip: u64) -> bool {
        handshake::returns_to(&self.slot().ahead.back, ip)
    }

    fn tell_names(&self, number: u64) -> bool {
        self.process.region.control().names.store(number, Release);
        self.process.names.replace(number) != number
    }

    fn fill(&self, addr: u64, len: usize, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize> {
        guest_range(addr, len)?;
        let len = len.min(0x4_0000);
        if self.state.get() == State::Asking
            && self.actions.get() < ACTIONS - 4
            && let Some(at) = self.reserve(len)
        {
            let n = self.process.region.read_from(self.index, at, len, fd, offset)?;
            self.push_copy(addr, at, n);
            return Ok(n);
        }
        let mut buf = vec![0u8; len];
        let n = host::file::read(fd, &mut buf, offset)?;
        self.write(addr, &buf[..n])?;
        Ok(n)
    }

    fn drain(&self, addr: u64, len: usize, fd: BorrowedFd<'_>, offset: Option<u64>) -> Result<usize> {
        if let Some((at, n)) = self.ahead(addr, len) {
            return self.process.region.write_to(self.index, at, n, fd, offset);
        }
        let mut buf = vec![0u8; len.min(0x4_0000)];
        let n = self.read_some(addr, &mut buf)?;
        host::file::write(fd, &buf[..n], offset)
    }
}
