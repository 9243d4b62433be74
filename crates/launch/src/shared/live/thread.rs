//! Host calls made by a stopped thread of a container's, which afterwards goes on as if nothing had been.
use abi::{Errno, c};
use host::ptrace::{self, Dispatch, Report, UserRegs};

/// Why a call was not made, or failed.
#[derive(Debug)]
pub enum Trouble {
    Failed(Errno),
    /// The thread has been killed.
    Gone,
}

impl From<Errno> for Trouble {
    /// Of ptrace(2): who is stopped and does not answer is dead.
    fn from(_: Errno) -> Trouble {
        Trouble::Gone
    }
}

type Result<T = (), E = Trouble> = std::result::Result<T, E>;

/// `cs` and `ss` of 64-bit code.
const CODE: u64 = 0x33;
/// What a call answers that is to be made again, but if a handler runs first: never seen outside the host's kernel.
const AGAIN_UNLESS_HANDLED: i64 = -514;

/// Calls that end with EINTR when their thread was stopped for an instant, signal(7), though nothing was lost: they can
/// be made again as they were. Their time limits begin anew.
const AGAIN: [i64; 12] = [
    c::SYS_epoll_wait,
    c::SYS_epoll_pwait,
    c::SYS_epoll_pwait2,
    c::SYS_rt_sigtimedwait,
    c::SYS_semop,
    c::SYS_semtimedop,
    c::SYS_io_getevents,
    c::SYS_read,
    c::SYS_recvfrom,
    c::SYS_recvmsg,
    c::SYS_accept,
    c::SYS_accept4,
];

/// A stopped thread.
pub struct Thread {
    pub tid: i32,
    /// What it goes on with.
    saved: UserRegs,
    /// Set from [`Self::take`] on.
    taken: Option<Taken>,
    /// Signals that cannot be blocked, for its process when it goes on.
    held: Vec<i32>,
}

struct Taken {
    /// Of a `syscall` instruction.
    place: u64,
    mask: u64,
    dispatch: Dispatch,
}

impl Thread {
    pub fn new(tid: i32) -> Result<Thread> {
        let mut saved = ptrace::registers(tid)?;
        if saved.rax as i64 == i64::from(-c::EINTR) && AGAIN.contains(&(saved.orig_rax as i64)) {
            saved.rax = AGAIN_UNLESS_HANDLED as u64;
        }
        Ok(Thread { tid, saved, taken: None, held: Vec::new() })
    }

    pub fn is_64_bit(&self) -> bool {
        self.saved.cs == CODE
    }

    /// From here to [`Self::restore`] the thread makes the calls it is told to make, at `place`, and takes no signal.
    pub fn take(&mut self, place: u64) -> Result {
        let tid = self.tid;
        let mask = ptrace::signal_mask(tid)?;
        // Before Linux 6.4 it cannot be seen.
        let dispatch = ptrace::dispatch(tid).unwrap_or_default();
        self.leave_critical_section();
        ptrace::suspend_filters(tid).map_err(Trouble::Failed)?;
        ptrace::set_signal_mask(tid, u64::MAX)?;
        if dispatch[0] != 0 {
            ptrace::set_dispatch(tid, &[0; 4])?;
        }
        self.taken = Some(Taken { place, mask, dispatch });
        Ok(())
    }

    /// The same, if it was not taken before.
    pub fn take_once(&mut self, place: u64) -> Result {
        if self.taken.is_some() { Ok(()) } else { self.take(place) }
    }

    /// Whoever is stopped in a restartable sequence begins it anew, at the place it names for that: the host forgets
    /// the sequence when it sees the thread elsewhere.
    fn leave_critical_section(&mut self) {
        let Ok(area @ 1..) = ptrace::restartable(self.tid) else { return };
        // `struct rseq` and `struct rseq_cs`, rseq(2).
        const SEQUENCE: u64 = 8;
        let word = |at: u64| {
            let mut word = [0u8; 8];
            let n = host::stub::read_memory(self.tid, at, &mut word);
            (n == Ok(8)).then(|| u64::from_ne_bytes(word))
        };
        let at = area.wrapping_add(SEQUENCE);
        let Some(sequence @ 1..) = word(at) else { return };
        let field = |number: u64| word(sequence.wrapping_add(8 * number));
        let (Some(start), Some(length), Some(otherwise)) = (field(1), field(2), field(3)) else { return };
        if self.saved.rip.wrapping_sub(start) < length {
            let _ = host::stub::write_memory(self.tid, at, &[0; 8]);
            self.saved.rip = otherwise;
        }
    }

    /// One call; its answer.
    pub fn call(&mut self, nr: i64, args: [u64; 6]) -> Result<u64> {
        let place = self.taken.as_ref().map_or(0, |taken| taken.place);
        let mut r = self.saved;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
        (r.rax, r.orig_rax, r.rip) = (nr as u64, u64::MAX, place);
        ptrace::set_registers(self.tid, &r)?;
        // Its beginning and its end.
        self.go_to_edge()?;
        self.go_to_edge()?;
        match ptrace::registers(self.tid)?.rax as i64 {
            r @ -4095..0 => Err(Trouble::Failed(Errno::from_raw(-r as i32))),
            r => Ok(r as u64),
        }
    }

    fn go_to_edge(&mut self) -> Result {
        loop {
            ptrace::go_to_edge(self.tid)?;
            match ptrace::wait_for(self.tid) {
                Report::Call => return Ok(()),
                Report::Gone => return Err(Trouble::Gone),
                Report::Signal(number) => self.held.push(number),
                Report::Paused | Report::Made | Report::Other => {}
            }
        }
    }

    pub fn memory(&self, at: u64, bytes: &mut [u8]) -> Result {
        let wanted = bytes.len();
        whole(host::stub::read_memory(self.tid, at, bytes), wanted)
    }

    pub fn set_memory(&self, at: u64, bytes: &[u8]) -> Result {
        whole(host::stub::write_memory(self.tid, at, bytes), bytes.len())
    }

    /// Puts it back where it was, still stopped: nothing is left but [`Self::go`].
    pub fn restore(&mut self) -> Result {
        let tid = self.tid;
        ptrace::set_registers(tid, &self.saved)?;
        let Some(taken) = self.taken.take() else { return Ok(()) };
        // A call is begun again only by who comes from a signal's or a tracer's stop, not from the end of another.
        ptrace::interrupt(tid)?;
        loop {
            ptrace::go(tid)?;
            match ptrace::wait_for(tid) {
                Report::Paused | Report::Other => break,
                Report::Gone => return Err(Trouble::Gone),
                Report::Signal(number) => self.held.push(number),
                Report::Call | Report::Made => {}
            }
        }
        ptrace::set_signal_mask(tid, taken.mask)?;
        if taken.dispatch[0] != 0 {
            ptrace::set_dispatch(tid, &taken.dispatch)?;
        }
        Ok(())
    }

    /// Lets it go on. Who is dead by now need not.
    pub fn go(self) {
        self.held.iter().for_each(|&number| ptrace::send(self.tid, number));
        let _ = ptrace::detach(self.tid);
    }
}

fn whole(moved: abi::Result<usize>, wanted: usize) -> Result {
    match moved {
        Ok(n) if n == wanted => Ok(()),
        _ => Err(Trouble::Failed(Errno::EFAULT)),
    }
}
