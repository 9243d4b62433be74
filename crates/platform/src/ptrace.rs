//! The `ptrace` platform, the slow oracle: the sentry traces every guest thread and moves its registers itself.
//!
//! Guest code runs under PTRACE_SYSEMU: each of its system calls stops it before the host looks at the call, and the
//! host never runs one. What only the guest's own context can do (mmap, clone) the sentry does by having the stopped
//! thread execute the stub's one system call instruction, `inject.rs`; the stubs' seccomp filter is on all the same.
mod fp;
mod inject;
mod ops;
mod start;
mod thread;

use crate::{Ask, Event, Features, Platform};
use abi::regs::Regs;
use abi::{Errno, Result};
use fp::Xstate;
use guest::Memory;
use guest::ops::{Op, Resume};
use host::ptrace::Report;
use std::collections::{HashMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use thread::{State, Thread};

const OTHERS: u64 = 1;
const TIMER: u64 = 2;
/// Events handed out before the descriptors are looked at.
const STREAK: u32 = 64;

pub struct Ptrace {
    /// Everything but the traced threads; the helper sleeps in it.
    inner: host::epoll::Epoll,
    poller: Option<host::poller::Poller>,
    timer: host::timer::Timer,
    features: Features,
    /// The address of `syscall; int3` in every stub, and of memory to pass arguments in.
    inject: u64,
    scratch: u64,
    xstate: Xstate,
    /// Every stub is forked from its process. Its thread never runs guest code.
    template: Rc<Thread>,
    init: i32,
    /// By tag.
    threads: Vec<Option<Rc<Thread>>>,
    by_tid: HashMap<i32, Rc<Thread>>,
    /// Stops heard of, not yet looked at: all that there are at one time, so that each gets its turn.
    stops: VecDeque<(i32, Report)>,
    events: VecDeque<Event>,
    running: usize,
    streak: u32,
    others_added: bool,
    others_ready: bool,
    counters: Counters,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counters {
    calls: u64,
    injected: u64,
    sleeps: u64,
}

impl Ptrace {
    fn thread(&self, tag: u64) -> Option<&Rc<Thread>> {
        self.threads.get(tag as usize)?.as_ref()
    }

    /// A new thread, stopped where it was made, stands ready.
    fn insert(&mut self, t: Thread) {
        let t = Rc::new(t);
        let at = t.tag as usize;
        if self.threads.len() <= at {
            self.threads.resize(at + 1, None);
        }
        self.by_tid.insert(t.tid, t.clone());
        t.process.tags.borrow_mut().push(t.tag);
        self.events.push_back(Event::Ask { tag: t.tag, ask: Ask::Ready });
        self.threads[at] = Some(t);
    }

    /// Takes in what has been reported until now.
    fn collect(&mut self) {
        loop {
            match host::ptrace::wait(None, false) {
                Ok(Some((tid, r))) => self.heard(tid, r),
                Ok(None) | Err(Errno::EINTR) => return,
                Err(e) => panic!("every stub is dead, the template too: {e}"),
            }
        }
    }

    fn heard(&mut self, tid: i32, r: Report) {
        if r != Report::Gone {
            return self.stops.push_back((tid, r));
        }
        assert!(tid != self.template.tid && tid != self.init, "the template stub died");
        if let Some(t) = self.by_tid.remove(&tid) {
            self.lost(&t);
        }
    }

    /// The host ended a thread: its whole process is dead, unless the thread was told to exit.
    fn lost(&mut self, t: &Rc<Thread>) {
        if t.state.get() == State::Leaving {
            return;
        }
        let tags = t.process.tags.take();
        for tag in &tags {
            self.forget(*tag);
        }
        if !tags.is_empty() {
            self.events.push_back(Event::Died { tags });
        }
    }

    fn forget(&mut self, tag: u64) -> Option<Rc<Thread>> {
        let t = self.threads.get_mut(tag as usize)?.take()?;
        t.process.tags.borrow_mut().retain(|x| *x != tag);
        self.events.retain(|e| !matches!(e, Event::Ask { tag: x, .. } if *x == tag));
        if t.state.get() == State::Running {
            self.running -= 1;
        }
        Some(t)
    }

    /// A running thread has stopped: what it asks.
    fn stopped(&mut self, tid: i32, r: Report) -> Option<Event> {
        let t = self.by_tid.get(&tid)?.clone();
        match t.state.get() {
            State::Running => {}
            State::Leaving => {
                self.exit(&t);
                return None;
            }
            State::Asking => return None,
        }
        // A thread killed meanwhile has no registers any more; its end comes by itself.
        let mut regs = host::ptrace::registers(tid).ok()?;
        let ask = match r {
            Report::Call => {
                self.counters.calls += 1;
                regs.rax = regs.orig_rax;
                if is_int80(tid, regs.rip) {
                    regs.rip -= INT80.len() as u64;
                    Ask::Fault { signo: abi::c::SIGSEGV, code: abi::c::SI_KERNEL, addr: 0 }
                } else {
                    call(&regs)
                }
            }
            // The filter's verdict on a call that the tracer is not told of: one of the vsyscall page.
            Report::Signal(abi::c::SIGSYS) => call(&regs),
            Report::Signal(_) => match host::ptrace::signal_info(tid).ok()? {
                (signo, code, addr) if thread::is_fault(signo) && code > 0 => Ask::Fault { signo, code, addr },
                _ => {
                    let _ = host::ptrace::go_to_call(tid);
                    return None;
                }
            },
            Report::Paused => Ask::Context,
            _ => {
                let _ = host::ptrace::go_to_call(tid);
                return None;
            }
        };
        t.regs.set(regs);
        t.state.set(State::Asking);
        self.running -= 1;
        if let Ask::Fault { signo, .. } = ask
            && self.fault_words(&t, signo).is_err()
        {
            self.broken(&t);
            return None;
        }
        Some(Event::Ask { tag: t.tag, ask })
    }

    /// Lets a thread go on with the registers it has here.
    fn run(&mut self, t: &Thread) {
        let mut regs = t.regs.get();
        // No call of the host's is to be restarted.
        regs.orig_rax = u64::MAX;
        t.state.set(State::Running);
        self.running += 1;
        // A failure is that of a dead thread, of which we shall hear.
        let _ = host::ptrace::set_registers(t.tid, &regs);
        let _ = host::ptrace::go_to_call(t.tid);
    }

    /// Ends a stopped thread that was forgotten: its tag may be another's by now.
    fn exit(&mut self, t: &Thread) {
        self.send_away(t);
        t.state.set(State::Leaving);
    }

    /// A process that cannot be worked with is ended; the kernel hears of it.
    fn broken(&mut self, t: &Rc<Thread>) {
        let tags = t.process.tags.borrow().clone();
        self.kill(t.tag);
        self.events.push_back(Event::Died { tags });
    }

    /// Looks at everything but the traced threads.
    fn look_inside(&mut self) {
        let mut ready = [(0, 0); 4];
        let n = self.inner.wait(&mut ready, Some(0)).expect("host epoll");
        for (token, _) in &ready[..n] {
            match *token {
                OTHERS => self.others_ready = true,
                _ => self.timer.drain(),
            }
        }
    }

    /// Sleeps until a thread stops or something else is ready.
    fn sleep(&mut self, deadline: Option<u64>) {
        self.counters.sleeps += 1;
        if self.poller.as_ref().is_some_and(|p| p.holds()) {
            self.look_inside();
            if self.others_ready {
                return;
            }
        }
        // Not before that look, which takes what the timer says.
        self.timer.set(deadline);
        let Some(p) = &self.poller else { return self.look_inside() };
        p.release();
        let heard = if p.begin_sleep() { host::ptrace::wait(None, true) } else { Err(Errno::EINTR) };
        let ready = p.end_sleep();
        match heard {
            Ok(Some((tid, r))) => self.heard(tid, r),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(e) => panic!("every stub is dead, the template too: {e}"),
        }
        if ready {
            self.look_inside();
        }
    }
}

/// `int $0x80`: a call of i386's, whose numbers are others. It is a fault, as of a Linux that does not run such programs.
const INT80: [u8; 2] = [0xcd, 0x80];

fn is_int80(tid: i32, after: u64) -> bool {
    let mut code = [0; INT80.len()];
    let at = after.wrapping_sub(INT80.len() as u64);
    host::stub::read_memory(tid, at, &mut code).is_ok_and(|n| n == code.len()) && code == INT80
}

fn call(regs: &host::ptrace::UserRegs) -> Ask {
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    Ask::Call { nr: regs.rax, args, full: true }
}

impl Platform for Ptrace {
    fn features(&self) -> Features {
        self.features
    }

    fn poll(&mut self) -> Option<Event> {
        self.streak += 1;
        if self.streak >= STREAK {
            self.streak = 0;
            self.look_inside();
        }
        if self.events.is_empty() && self.stops.is_empty() {
            self.collect();
        }
        while self.events.is_empty() {
            let (tid, r) = self.stops.pop_front()?;
            let event = self.stopped(tid, r);
            self.events.extend(event);
        }
        self.events.pop_front()
    }

    fn wait(&mut self, deadline: Option<u64>, others: BorrowedFd<'_>) {
        if !self.others_added {
            self.others_added = true;
            self.inner.add(others, host::epoll::LEVEL_IN, OTHERS).expect("host epoll");
        }
        if self.events.is_empty()
            && self.stops.is_empty()
            && !self.others_ready
            && deadline.is_none_or(|d| d > host::time::monotonic_ns())
        {
            self.sleep(deadline);
        }
    }

    fn take_others(&mut self) -> bool {
        std::mem::take(&mut self.others_ready)
    }

    fn spawn(&mut self, tag: u64) -> bool {
        let template = self.template.clone();
        match self.fork(&template, tag) {
            Ok(()) => true,
            Err(inject::Trouble::Failed(_)) => false,
            Err(inject::Trouble::Broken) => panic!("the template stub died"),
        }
    }

    fn resume(&mut self, tag: u64, ops: Vec<Op>, then: Resume, regs: Option<&Regs>) {
        let Some(t) = self.thread(tag).cloned() else { return };
        if t.state.get() != State::Asking {
            return;
        }
        let fault = match self.perform(&t, ops) {
            Ok(fault) => fault,
            Err(inject::Trouble::Failed(e)) => {
                return self.events.push_back(Event::Ask { tag, ask: Ask::Failed(e) });
            }
            Err(inject::Trouble::Broken) => return self.broken(&t),
        };
        let value = |ret: i64| if fault { Errno::EFAULT.to_ret() } else { ret };
        match then {
            Resume::Return(ret) => t.set_result(value(ret)),
            Resume::Regs | Resume::ReturnAt(_) => {
                if let Some(r) = regs {
                    t.load(r);
                }
                if let Resume::ReturnAt(ret) = then {
                    t.set_result(value(ret));
                }
            }
            // `Natively` and `NoLink` are not said here: `Features::answers`.
            Resume::Unchanged | Resume::Natively | Resume::NoLink(_) => {}
            Resume::Context(ret) => {
                t.set_result(value(ret));
                return self.events.push_back(Event::Ask { tag, ask: Ask::Context });
            }
            Resume::Pause => return self.events.push_back(Event::Ask { tag, ask: Ask::Done { fault } }),
            Resume::Exit => {
                self.forget(tag);
                return self.exit(&t);
            }
        }
        self.run(&t);
    }

    fn answer(&mut self, tag: u64, ret: i64) {
        let Some(t) = self.thread(tag).cloned() else { return };
        if t.state.get() == State::Asking {
            t.set_result(ret);
            self.run(&t);
        }
    }

    fn park(&mut self, _tag: u64) {}

    fn regs(&self, tag: u64) -> Option<Regs> {
        self.thread(tag).map(|t| t.show())
    }

    fn fp_size(&self, _tag: u64) -> u64 {
        self.xstate.frame_size()
    }

    fn fp(&self, tag: u64) -> Option<Vec<u8>> {
        self.xstate.framed(self.thread(tag)?.tid).ok()
    }

    fn memory(&self, tag: u64) -> Option<Rc<dyn Memory>> {
        self.thread(tag).map(|t| t.clone() as Rc<dyn Memory>)
    }

    fn kick(&mut self, tag: u64) {
        if let Some(t) = self.thread(tag)
            && t.state.get() == State::Running
        {
            let _ = host::ptrace::interrupt(t.tid);
        }
    }

    fn drop_thread(&mut self, tag: u64) {
        let Some(t) = self.forget(tag) else { return };
        match t.state.replace(State::Leaving) {
            // Not told yet: it is when it stops.
            State::Running => drop(host::ptrace::interrupt(t.tid)),
            State::Asking => self.exit(&t),
            State::Leaving => {}
        }
    }

    fn kill(&mut self, tag: u64) {
        let Some(t) = self.thread(tag).cloned() else { return };
        host::ptrace::kill(t.tid);
        for tag in t.process.tags.take() {
            if let Some(t) = self.forget(tag) {
                self.by_tid.remove(&t.tid);
            }
        }
    }

    fn running(&self) -> usize {
        self.running
    }

    fn report(&self) -> String {
        let c = self.counters;
        format!("calls {}, host calls injected {}, sleeps {}", c.calls, c.injected, c.sleeps)
    }

    fn start(&mut self) -> Result {
        self.poller = Some(host::poller::Poller::start(self.inner.share()?)?);
        Ok(())
    }
}
