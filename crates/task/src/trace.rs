//! Who traces whom: ptrace(2). What a traced thread stops for is the sentry's to do; what its tracer sees is here.
use crate::debug::Debug;
use crate::{ExitStatus, Process, Task};
use abi::signal::{SIG_IGN, SigInfo};
use abi::{Errno, Result, c};
use kernel::cred::{CAP_SYS_PTRACE, Cred};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// How a tracee goes on from a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum How {
    #[default]
    Cont,
    /// To the next end of a system call.
    Syscall,
    /// For one instruction.
    Step,
}

/// Where a tracee stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before a call; the call is in the registers.
    Entry,
    /// As Entry, for a filter that said SECCOMP_RET_TRACE, with its data.
    Filter(u32),
    /// After a call.
    Exit,
    /// Before a signal is acted on.
    Signal,
    /// Stopped with its group.
    Group,
    /// At an event of PTRACE_O_*, or PTRACE_EVENT_STOP.
    Event,
    /// Before it ends.
    End,
}

/// One stop.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    pub at: At,
    /// What wait4(2) tells, above the 0x7f.
    pub code: i32,
    /// What PTRACE_GETSIGINFO tells.
    pub info: Option<SigInfo>,
    /// The call the thread is in: orig_rax; -1: none.
    pub nr: i64,
    /// What the call has returned, until the registers are seen.
    pub result: Option<Result<i64>>,
}

/// What a tracer wants of a tracee that only the thread's own context, or the platform, can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Aligned words to be written to a mapping that is not writable: address, word, protection.
    Poke(Vec<(u64, u64, i32)>),
    /// Fetch the floating point state.
    Fp,
}

/// A stop that its thread still prepares: its registers are fetched, its operations done.
#[derive(Debug, Clone, Copy)]
pub struct Coming {
    pub stop: Stop,
    /// The operations are done.
    pub flushed: bool,
}

/// What ties a tracee to its tracer.
pub struct Trace {
    pub tracer: Weak<Task>,
    /// By PTRACE_SEIZE, not PTRACE_ATTACH or PTRACE_TRACEME.
    pub seized: bool,
    /// PTRACE_O_*.
    pub options: Cell<u32>,
    pub how: Cell<How>,
    /// Where it stands still, seen by the tracer.
    pub stop: Cell<Option<Stop>>,
    /// orig_rax, as the tracer may have changed it.
    pub nr: Cell<i64>,
    /// wait4 has not told the stop yet.
    pub report: Cell<bool>,
    pub listening: Cell<bool>,
    /// PTRACE_GETEVENTMSG.
    pub message: Cell<u64>,
    /// A call has begun, and its end has not been looked at.
    pub in_call: Cell<bool>,
    /// An event that comes once the call is done: PTRACE_EVENT_*, message.
    pub event: Cell<Option<(i32, u64)>>,
    /// PTRACE_EVENT_EXIT was told.
    pub ended: Cell<bool>,
    /// The trap flag is ours, not the guest's.
    pub forced_tf: Cell<bool>,
    /// The step is for the debug registers, not for the tracer.
    pub own_step: Cell<bool>,
    pub debug: RefCell<Debug>,
    /// The floating point state, once fetched, in this stop.
    pub fp: RefCell<Option<Vec<u8>>>,
}

impl Trace {
    pub fn has(&self, option: i32) -> bool {
        self.options.get() & option as u32 != 0
    }
    pub fn tracer(&self) -> Option<Rc<Task>> {
        self.tracer.upgrade().filter(|t| !t.dead.get())
    }
}

fn covers(tracer: &Cred, tracee: &Cred) -> bool {
    let within = tracee.user_ns == tracer.user_ns && tracee.permitted & !tracer.permitted == 0;
    within || tracer.has_in(&tracee.user_ns, CAP_SYS_PTRACE)
}

impl Task {
    /// Reads its memory for a debugger: all that is mapped there, with the vDSO.
    pub fn peek(&self, addr: u64, buf: &mut [u8]) -> Result {
        let k = &self.kernel.config;
        let end = addr.checked_add(buf.len() as u64).ok_or(Errno::EIO)?;
        let vdso = addr >= k.vdso && end <= k.vdso + k.vdso_len;
        let mem = self.mem();
        let read = if vdso { mem.read_vdso(addr, buf) } else { mem.read_now(addr, buf) };
        read.map_err(|_| Errno::EIO)
    }

    pub fn trace(&self) -> Option<Rc<Trace>> {
        if self.traced.get() { self.trace.borrow().clone() } else { None }
    }

    /// Becomes a tracee of `by`.
    pub fn trace_by(self: &Rc<Task>, by: &Rc<Task>, seized: bool, options: u32) {
        let trace = Trace {
            tracer: Rc::downgrade(by),
            seized,
            options: Cell::new(options),
            how: Cell::default(),
            stop: Cell::new(None),
            nr: Cell::new(-1),
            report: Cell::new(false),
            listening: Cell::new(false),
            message: Cell::new(0),
            in_call: Cell::new(false),
            event: Cell::new(None),
            ended: Cell::new(false),
            forced_tf: Cell::new(false),
            own_step: Cell::new(false),
            debug: RefCell::default(),
            fp: RefCell::new(None),
        };
        self.trace.replace(Some(Rc::new(trace)));
        self.traced.set(true);
        self.watch();
        self.mm().traced.set(true);
        self.review_answers();
        by.tracees.borrow_mut().push(self.clone());
    }

    /// PTRACE_TRACEME. EPERM: it is traced already, or its parent may not.
    pub fn trace_me(self: &Rc<Task>) -> Result {
        let p = &self.process;
        let parent = p.parent().ok_or(Errno::EPERM)?;
        let maker = p.maker.borrow().upgrade().filter(|t| !t.dead.get() && Rc::ptr_eq(&t.process, &parent));
        let by = maker.or_else(|| parent.leader()).ok_or(Errno::EPERM)?;
        if self.traced.get() || !covers(&by.cred(), &self.cred()) {
            return Err(Errno::EPERM);
        }
        self.trace_by(&by, false, 0);
        Ok(())
    }

    /// PTRACE_ATTACH and PTRACE_SEIZE.
    pub fn attach(self: &Rc<Task>, to: &Rc<Task>, seize: bool, options: u32) -> Result {
        let same = Rc::ptr_eq(&self.process, &to.process);
        if same || !self.may_access(to, true) || to.traced.get() || to.dead.get() {
            return Err(Errno::EPERM);
        }
        to.trace_by(self, seize, options);
        if !seize {
            to.pending.borrow_mut().push(SigInfo::new(c::SIGSTOP, c::SI_KERNEL), usize::MAX);
        }
        if !seize || to.process.stopped.get().is_some() {
            to.passed.set(false);
            to.notice();
        }
        Ok(())
    }

    /// A new thread or process of a tracee with PTRACE_O_TRACEFORK or one of its kin.
    pub fn trace_too(self: &Rc<Task>, child: &Rc<Task>) {
        let Some(tr) = self.trace() else { return };
        let Some(by) = tr.tracer() else { return };
        child.trace_by(&by, tr.seized, tr.options.get());
        if tr.seized {
            child.trap.set(true);
        } else {
            child.pending.borrow_mut().push(SigInfo::new(c::SIGSTOP, c::SI_KERNEL), usize::MAX);
        }
    }

    /// Stands still from now on, and its tracer hears of it.
    pub fn stand(&self, tr: &Trace, stop: Stop) {
        tr.stop.set(Some(stop));
        tr.nr.set(stop.nr);
        tr.report.set(true);
        tr.listening.set(false);
        let Some(by) = tr.tracer() else { return };
        let why = if stop.at == At::Group { c::CLD_STOPPED } else { c::CLD_TRAPPED };
        let status = stop.code & 0x7f;
        let a = by.process.actions.borrow().borrow().get(c::SIGCHLD);
        if a.handler != SIG_IGN && !a.has(c::SA_NOCLDSTOP) {
            by.process.signal(SigInfo::child(why, self.tid, self.cred().ruid, status));
        }
        by.process.child_wait.wake();
    }

    /// Goes on from its stop, with the signal its tracer gives; 0: none.
    pub fn unstop(&self, tr: &Trace, signal: i32) {
        if let Some(mut stop) = tr.stop.take() {
            tr.report.set(false);
            tr.listening.set(false);
            tr.fp.take();
            stop.nr = tr.nr.get();
            self.onward.set(Some((stop, signal)));
            kernel::sched::make_ready(self.tag.get());
        }
    }

    /// The trap of PTRACE_INTERRUPT, or of a group's continuation.
    pub fn set_trap(&self, tr: &Trace) {
        self.trap.set(true);
        if tr.stop.get().is_none() {
            self.notice();
        } else if tr.listening.get() {
            self.unstop(tr, 0);
        }
    }

    /// Is no tracee any more.
    pub fn untrace(self: &Rc<Task>, signal: i32) {
        let Some(tr) = self.trace.take() else { return };
        self.traced.set(false);
        self.trap.set(false);
        self.watch();
        if let Some(by) = tr.tracer.upgrade() {
            by.tracees.borrow_mut().retain(|t| !Rc::ptr_eq(t, self));
        }
        // A group that is stopped stays so.
        self.passed.set(false);
        self.unstop(&tr, signal);
        let mm = self.mm();
        if !self.dead.get() && !self.kernel.traced_in(&mm) {
            mm.traced.set(false);
            mm.sites.borrow_mut().clear();
        }
        if self.dead.get() && self.tid == self.process.pid {
            self.process.dead_leader.take();
            self.process.exit_notify();
        }
    }

    /// Its tracer has waited for its end.
    pub(crate) fn forget_tracer(self: &Rc<Task>) {
        self.traced.set(false);
        if let Some(by) = self.trace.take().and_then(|tr| tr.tracer.upgrade()) {
            by.tracees.borrow_mut().retain(|t| !Rc::ptr_eq(t, self));
        }
    }

    /// A tracer ends: its tracees are their own masters again, or die.
    pub(crate) fn release_tracees(&self) {
        for t in self.tracees.take() {
            let kill = t.trace().is_some_and(|tr| tr.has(c::PTRACE_O_EXITKILL));
            t.untrace(0);
            if kill && !t.dead.get() {
                t.process.signal(SigInfo::new(c::SIGKILL, c::SI_KERNEL));
            }
        }
    }

    /// A tracee has ended. Its tracer waits for it as for a child.
    pub(crate) fn tracee_died(self: &Rc<Task>, status: ExitStatus) {
        let Some(tr) = self.trace() else { return };
        tr.stop.set(None);
        self.coming.set(None);
        self.process.served.wake();
        self.died.set(Some(status));
        if self.tid == self.process.pid {
            self.process.dead_leader.replace(Some(self.clone()));
            return;
        }
        match tr.tracer() {
            Some(by) => {
                let (code, value) = status.siginfo();
                by.process.signal(SigInfo::child(code, self.tid, self.cred().ruid, value));
                by.process.child_wait.wake();
            }
            None => self.untrace(0),
        }
    }
}

impl Process {
    /// Who is told of the end of this process before its parent: the tracer of its first thread.
    pub(crate) fn heir_tracer(&self) -> Option<Rc<Task>> {
        let leader = self.dead_leader.borrow().clone()?;
        let by = leader.trace()?.tracer()?;
        let natural = self.parent().is_some_and(|p| Rc::ptr_eq(&p, &by.process));
        (!natural).then_some(by)
    }
}
