//! Waiting for children and tracees: wait4(2), waitid(2).
use crate::{ExitStatus, Process, Task};
use std::rc::Rc;

/// Which children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    Any,
    Pid(i32),
    Group(i32),
}

/// What became of a child or of a tracee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Exited(ExitStatus),
    Stopped(i32),
    Continued,
    /// A tracee's stop: the status word above its 0x7f.
    Trapped(i32),
}

/// A change of state.
#[derive(Debug, Clone)]
pub struct Waited {
    pub process: Rc<Process>,
    /// The process's, or the traced thread's.
    pub pid: i32,
    pub change: Change,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.pid)
    }
}

impl Process {
    fn matches(&self, pid: i32, which: WaitFor) -> bool {
        match which {
            WaitFor::Any => true,
            WaitFor::Pid(p) => pid == p,
            WaitFor::Group(g) => self.pgid.get() == g,
        }
    }

    /// Children that `which` and `options` (__WALL, __WCLONE) name.
    fn named_children(&self, which: WaitFor, options: i32) -> Vec<Rc<Process>> {
        let all = options & abi::c::__WALL != 0;
        let clones = options & abi::c::__WCLONE != 0;
        let kind = |c: &Process| all || (c.exit_signal.get() != abi::c::SIGCHLD) == clones;
        self.children.borrow().iter().filter(|c| c.matches(c.pid, which) && kind(c)).cloned().collect()
    }

    fn named_tracees(&self, which: WaitFor) -> Vec<Rc<Task>> {
        let threads = self.threads.borrow();
        let all = threads.iter().flat_map(|t| t.tracees.borrow().clone());
        all.filter(|t| t.process.matches(t.tid, which)).collect()
    }

    /// Is there anybody that a wait could ever end for?
    pub fn has_child(&self, which: WaitFor, options: i32) -> bool {
        !self.named_children(which, options).is_empty() || !self.named_tracees(which).is_empty()
    }

    /// Is its first thread traced by a thread of `by`?
    fn leader_traced_by(&self, by: &Process) -> bool {
        let leader = self.dead_leader.borrow().clone().or_else(|| self.leader().filter(|t| t.tid == self.pid));
        let tracer = leader.and_then(|t| t.trace()).and_then(|tr| tr.tracer());
        tracer.is_some_and(|t| std::ptr::eq(&*t.process, by))
    }

    /// A change of state. `options`: WEXITED, WSTOPPED (WUNTRACED), WCONTINUED, WNOWAIT, __WALL, __WCLONE.
    /// Without WNOWAIT the change is consumed, and a zombie is gone.
    pub fn wait_look(&self, which: WaitFor, options: i32) -> Option<Waited> {
        use abi::c::{WCONTINUED, WEXITED, WNOWAIT, WSTOPPED};
        let keep = options & WNOWAIT != 0;
        let children = self.named_children(which, options);
        let found = |p: &Rc<Process>, change| Some(Waited { process: p.clone(), pid: p.pid, change });
        let ended = |p: &Process| p.exiting.get().unwrap_or(ExitStatus::Exited(0));
        if options & WEXITED != 0
            && let Some(c) = children.iter().find(|c| c.zombie.get() && c.heir_tracer().is_none())
        {
            if !keep {
                c.reap();
            }
            return found(c, Change::Exited(ended(c)));
        }
        for t in self.named_tracees(which) {
            if let Some(w) = t.tracee_look(options) {
                return Some(w);
            }
        }
        // Stops of a child that is traced from here are its tracer's to see, and no second time.
        let mine = |c: &&Rc<Process>| !c.leader_traced_by(self);
        if options & WSTOPPED != 0
            && let Some(c) = children.iter().filter(mine).find(|c| c.stop_report.get().is_some())
        {
            let sig = if keep { c.stop_report.get() } else { c.stop_report.take() };
            return found(c, Change::Stopped(sig.unwrap_or(abi::c::SIGSTOP)));
        }
        if options & WCONTINUED != 0
            && let Some(c) = children.iter().find(|c| c.continued.get())
        {
            if !keep {
                c.continued.set(false);
            }
            return found(c, Change::Continued);
        }
        None
    }
}

impl Task {
    /// What its tracer may wait for.
    fn tracee_look(self: &Rc<Task>, options: i32) -> Option<Waited> {
        let keep = options & abi::c::WNOWAIT != 0;
        let found = |change| Some(Waited { process: self.process.clone(), pid: self.tid, change });
        let p = &self.process;
        let leader = self.tid == p.pid;
        let exits = options & abi::c::WEXITED != 0;
        match self.died.get() {
            Some(_) if leader && exits && p.zombie.get() => {
                let status = p.exiting.get().unwrap_or(ExitStatus::Exited(0));
                if !keep {
                    // Now its parent may hear of it.
                    p.dead_leader.take();
                    self.forget_tracer();
                    p.exit_notify();
                }
                found(Change::Exited(status))
            }
            Some(status) if !leader && exits => {
                if !keep {
                    self.forget_tracer();
                }
                found(Change::Exited(status))
            }
            Some(_) => None,
            None => {
                let tr = self.trace()?;
                let stop = tr.stop.get().filter(|_| tr.report.get())?;
                if !keep {
                    tr.report.set(false);
                }
                found(Change::Trapped(stop.code))
            }
        }
    }
}
