//! Sending signals, and the life of groups: kill(2), setpgid(2), job control.
use crate::{ExitStatus, Process, Task};
use abi::signal::{SigInfo, SigSet};
use abi::{Errno, Result, c};
use kernel::cred::{CAP_KILL, Cred};
use kernel::signal::{Default as Act, SIG_IGN, STOPS, default_action};
use std::rc::Rc;

/// Does `from` have the right to signal `to`?
pub fn may_signal(from: &Cred, to: &Cred) -> bool {
    from.has_in(&to.user_ns, CAP_KILL) || [from.euid, from.ruid].iter().any(|u| *u == to.ruid || *u == to.suid)
}

impl Process {
    /// What happens to the whole group when the signal is generated, before it is queued.
    /// False: it is dropped.
    fn generate(&self, info: &SigInfo) -> bool {
        let sig = info.signo;
        if STOPS.has(sig) {
            self.discard_pending(SigSet::of(c::SIGCONT));
        }
        if sig == c::SIGCONT {
            self.discard_pending(STOPS);
            self.cont();
        }
        let outside = self.kernel.outside_signal.get();
        let guarded = self.is_init() && self.kernel.config.guarded_init;
        if guarded && matches!(sig, c::SIGKILL | c::SIGSTOP) && !outside && !info.from_kernel() {
            return false;
        }
        if sig == c::SIGKILL {
            // Even a stopped group dies, and one whose threads never come in.
            self.stopped.set(None);
            self.kernel.killed.borrow_mut().extend(self.weak().upgrade());
            return true;
        }
        // Pid 1 takes only what it handles, and what its own doing brings on: the broken pipe of `rvisor run -- yes | head`.
        let a = self.actions.borrow().borrow().get(sig);
        // What is blocked is kept, whatever becomes of it later: signalfd and sigwait find it.
        let blocked = self.threads.borrow().iter().any(|t| t.blocked.get().has(sig));
        if self.is_init() && !blocked && a.handler == kernel::signal::SIG_DFL && !matches!(sig, c::SIGSTOP) {
            return match default_action(sig) {
                _ if self.kernel.config.guarded_init => false,
                Act::Terminate | Act::Core => outside || info.from_kernel(),
                // Nobody could let it go on again but the operator.
                Act::Stop => outside,
                _ => false,
            };
        }
        if self.actions.borrow().borrow().ignores(sig) {
            // A tracer hears of what its tracee ignores.
            return self.threads.borrow().iter().any(|t| t.traced.get() || t.blocked.get().has(sig));
        }
        true
    }

    fn discard_pending(&self, which: SigSet) {
        self.pending.borrow_mut().discard(which);
        for t in self.threads.borrow().iter() {
            t.pending.borrow_mut().discard(which);
        }
    }

    /// Sends a signal to the group.
    pub fn signal(&self, info: SigInfo) {
        self.try_signal(info);
    }

    /// As [`signal`](Self::signal). False: a real-time signal for which there is no room.
    pub fn try_signal(&self, info: SigInfo) -> bool {
        if self.zombie.get() || !self.generate(&info) {
            return true;
        }
        let limit = self.rlimit(c::RLIMIT_SIGPENDING) as usize;
        if !self.pending.borrow_mut().push(info, limit) {
            return false;
        }
        self.wake_for(info.signo);
        crate::signalfd::sent(info.signo);
        true
    }

    fn wake_for(&self, sig: i32) {
        let threads = self.threads();
        let takes = |t: &&Rc<Task>| !t.blocked.get().has(sig) && !t.dead.get();
        // One thread that may take it is enough; one that waits is cheaper than one that runs.
        let waiting = threads.iter().find(|t| takes(t) && t.parked.borrow().is_some());
        if let Some(t) = waiting.or(threads.iter().find(takes)) {
            t.notice();
        }
        for t in &threads {
            t.signal_wait.wake();
        }
    }

    /// Stops the group; reported to the parent once.
    pub fn stop(self: &Rc<Process>, sig: i32) {
        if self.stopped.replace(Some(sig)).is_some() {
            return;
        }
        self.stop_report.set(Some(sig));
        self.continued.set(false);
        for t in self.threads() {
            t.passed.set(false);
            t.notice();
        }
        self.tell_parent(c::CLD_STOPPED, sig);
    }

    fn cont(&self) {
        if self.stopped.take().is_none() {
            return;
        }
        self.stop_report.set(None);
        self.continued.set(true);
        for t in self.threads() {
            t.passed.set(false);
            match t.trace() {
                Some(tr) if tr.seized => t.set_trap(&tr),
                _ => t.notice(),
            }
        }
        if let Some(me) = self.weak().upgrade() {
            me.tell_parent(c::CLD_CONTINUED, c::SIGCONT);
        }
    }

    fn tell_parent(self: &Rc<Process>, code: i32, status: i32) {
        let Some(p) = self.parent() else { return };
        let a = p.actions.borrow().borrow().get(c::SIGCHLD);
        if !a.has(c::SA_NOCLDSTOP) {
            p.signal(SigInfo::child(code, self.pid, self.uid(), status));
        }
        p.child_wait.wake();
    }

    fn uid(&self) -> u32 {
        self.leader().map_or(0, |t| t.cred().ruid)
    }

    /// Sends the exit signal. True: the parent does not want a zombie.
    pub(crate) fn notify_parent_of_exit(self: &Rc<Process>, parent: &Rc<Process>) -> bool {
        let sig = self.exit_signal.get();
        let (code, status) = self.exiting.get().unwrap_or(ExitStatus::Exited(0)).siginfo();
        let a = parent.actions.borrow().borrow().get(c::SIGCHLD);
        if sig != 0 && !(sig == c::SIGCHLD && a.handler == SIG_IGN) {
            let mut info = SigInfo::child(code, self.pid, self.uid(), status);
            info.signo = sig;
            parent.signal(info);
        }
        sig == c::SIGCHLD && (a.handler == SIG_IGN || a.has(c::SA_NOCLDWAIT))
    }

    /// PR_SET_PDEATHSIG of a child whose parent died. True if the child is a zombie that needs notice.
    pub(crate) fn death_signal(&self) -> bool {
        let sig = self.parent_death_signal.get();
        if sig != 0 && !self.zombie.get() {
            self.signal(SigInfo::from_user(sig, c::SI_USER, 0, 0));
        }
        self.zombie.get()
    }

    pub(crate) fn add_child_times(&self, child: &Process) {
        self.child_cpu.set(self.child_cpu.get() + child.cpu_ns() + child.child_cpu.get());
    }

    /// CPU time of all threads, nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        match self.leader() {
            Some(t) => t.host_cpu_ns().wrapping_add(self.cpu_base.get()),
            None => self.cpu_at_exit.get(),
        }
    }
}

impl Task {
    /// Sends a signal to this thread alone.
    pub fn signal(&self, info: SigInfo) {
        self.try_signal(info);
    }

    /// As [`signal`](Self::signal). False: as of [`Process::try_signal`].
    pub fn try_signal(&self, info: SigInfo) -> bool {
        let p = &self.process;
        if self.dead.get() || !p.generate(&info) {
            return true;
        }
        let limit = p.rlimit(c::RLIMIT_SIGPENDING) as usize;
        if !self.pending.borrow_mut().push(info, limit) {
            return false;
        }
        self.signal_wait.wake();
        crate::signalfd::sent(info.signo);
        if !self.blocked.get().has(info.signo) {
            self.notice();
        }
        true
    }

    /// A signal the thread's own instruction raised: it cannot be blocked or ignored.
    pub fn force_signal(&self, info: SigInfo) {
        let s = SigSet::of(info.signo);
        let actions = self.process.actions.borrow().clone();
        let mut table = actions.borrow_mut();
        if self.blocked.get().has(info.signo) || table.get(info.signo).handler == SIG_IGN {
            table.set(info.signo, Default::default());
            self.blocked.set(self.blocked.get().without(s));
        }
        drop(table);
        self.pending.borrow_mut().push(info, usize::MAX);
    }
}

impl crate::Kernel {
    /// kill(2) and its kin: to a process, a group, or everyone. `info.signo` 0 only checks.
    pub fn kill(&self, from: &Task, pid: i32, info: SigInfo) -> Result {
        let targets = match pid {
            0 => from.find_group(from.process.pgid.get()),
            -1 => from.all_processes().into_iter().filter(|p| !p.is_init() && p.pid != from.process.pid).collect(),
            p if p < 0 => from.find_group(-p),
            // The number of any of its threads means the process.
            p => from.find_process(p).or_else(|| from.find_task(p).map(|t| t.process.clone())).into_iter().collect(),
        };
        if targets.is_empty() {
            return Err(Errno::ESRCH);
        }
        let cred = from.cred();
        let mut allowed = false;
        for p in targets {
            let same_session = info.signo == c::SIGCONT && p.sid.get() == from.process.sid.get();
            let may = same_session || p.leader().is_none_or(|t| may_signal(&cred, &t.cred()));
            if may {
                allowed = true;
                if info.signo != 0 && !p.try_signal(info) && info.code != c::SI_USER {
                    return Err(Errno::EAGAIN);
                }
            }
        }
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }
}
