//! Waiting for children: wait4(2), waitid(2).
use crate::{ExitStatus, Process};
use std::rc::Rc;

/// Which children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    Any,
    Pid(i32),
    Group(i32),
}

/// A child's change of state.
#[derive(Debug, Clone)]
pub enum Waited {
    Exited(Rc<Process>, ExitStatus),
    Stopped(Rc<Process>, i32),
    Continued(Rc<Process>),
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.pid)
    }
}

impl Process {
    fn matches(&self, which: WaitFor) -> bool {
        match which {
            WaitFor::Any => true,
            WaitFor::Pid(p) => self.pid == p,
            WaitFor::Group(g) => self.pgid.get() == g,
        }
    }

    /// Is there a child that `which` could ever name?
    pub fn has_child(&self, which: WaitFor) -> bool {
        self.children.borrow().iter().any(|c| c.matches(which))
    }

    /// A child that has changed state. `options`: WEXITED, WSTOPPED (WUNTRACED), WCONTINUED, WNOWAIT.
    /// Without WNOWAIT the change is consumed, and a zombie is gone.
    pub fn wait_look(&self, which: WaitFor, options: i32) -> Option<Waited> {
        use abi::c::{WCONTINUED, WEXITED, WNOWAIT, WSTOPPED};
        let keep = options & WNOWAIT != 0;
        let child = |f: &dyn Fn(&Rc<Process>) -> bool| {
            self.children.borrow().iter().find(|c| c.matches(which) && f(c)).cloned()
        };
        if options & WEXITED != 0
            && let Some(c) = child(&|c| c.zombie.get())
        {
            let status = c.exiting.get().unwrap_or(ExitStatus::Exited(0));
            if !keep {
                c.reap();
            }
            return Some(Waited::Exited(c, status));
        }
        if options & WSTOPPED != 0
            && let Some(c) = child(&|c| c.stop_report.get().is_some())
        {
            let sig = if keep { c.stop_report.get() } else { c.stop_report.take() };
            return Some(Waited::Stopped(c, sig.unwrap_or(abi::c::SIGSTOP)));
        }
        if options & WCONTINUED != 0
            && let Some(c) = child(&|c| c.continued.get())
        {
            if !keep {
                c.continued.set(false);
            }
            return Some(Waited::Continued(c));
        }
        None
    }
}
