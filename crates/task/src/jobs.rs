//! Job control: sessions and their terminals, foreground and background, orphaned groups. credentials(7), setsid(2).
use crate::{Kernel, Process, Task};
use abi::signal::SigInfo;
use abi::{Errno, Result, c};
use ipc::tty::{Control, Tty};
use kernel::signal::SIG_IGN;
use std::rc::{Rc, Weak};

struct Terminals(Weak<Kernel>);

/// What the kernel does for its terminals.
pub(crate) fn control(k: &Rc<Kernel>) -> Rc<dyn Control> {
    Rc::new(Terminals(Rc::downgrade(k)))
}

impl Control for Terminals {
    fn signal_group(&self, group: i32, sig: i32) {
        if let Some(k) = self.0.upgrade() {
            k.signal_group(group, &[sig]);
        }
    }

    fn hung_up(&self, session: i32, foreground: i32) {
        let Some(k) = self.0.upgrade() else { return };
        k.session_without_terminal(session);
        if let Some(leader) = k.process(session) {
            leader.old_foreground.set(foreground);
            leader.signal(SigInfo::new(c::SIGHUP, c::SI_KERNEL));
            leader.signal(SigInfo::new(c::SIGCONT, c::SI_KERNEL));
        }
    }
}

impl Kernel {
    /// Sends the kernel's own signals to a group.
    pub fn signal_group(&self, group: i32, signals: &[i32]) {
        let members = self.group(group);
        for sig in signals {
            members.iter().for_each(|p| p.signal(SigInfo::new(*sig, c::SI_KERNEL)));
        }
    }

    /// Takes the controlling terminal from everybody in a session.
    pub fn session_without_terminal(&self, session: i32) {
        for p in self.processes() {
            if p.sid.get() == session {
                p.tty.take();
            }
        }
    }
}

impl Process {
    pub fn is_session_leader(&self) -> bool {
        self.sid.get() == self.pid
    }

    /// Is the terminal this process's controlling one?
    pub fn controlled_by(&self, tty: &Rc<Tty>) -> bool {
        self.tty.borrow().as_ref().is_some_and(|t| Rc::ptr_eq(t, tty))
    }

    /// Makes it the controlling terminal of the session that the process leads.
    pub fn take_terminal(&self, tty: &Rc<Tty>) {
        tty.control(self.sid.get(), self.pgid.get());
        self.old_foreground.set(0);
        *self.tty.borrow_mut() = Some(tty.clone());
    }

    /// Nobody outside the group, but in its session, could look after it: its stops would last for ever.
    pub fn in_orphaned_group(&self) -> bool {
        self.kernel.is_orphaned(self.pgid.get())
    }

    /// A session leader gives its terminal up, by its end or with TIOCNOTTY.
    pub fn leave_terminal(&self, ends: bool) {
        let k = &self.kernel;
        let old = self.old_foreground.take();
        let Some(tty) = self.tty.borrow().clone() else {
            if ends && old > 0 {
                k.signal_group(old, &[c::SIGHUP, c::SIGCONT]);
            }
            return;
        };
        let group = tty.foreground.get();
        if group > 0 {
            k.signal_group(group, if ends { &[c::SIGHUP] } else { &[c::SIGHUP, c::SIGCONT] });
        }
        tty.control(0, 0);
        k.session_without_terminal(self.sid.get());
    }

    /// If `parent`, or this process's own end, was what kept the group from being orphaned, and members are stopped,
    /// they get SIGHUP and SIGCONT.
    pub(crate) fn orphaned_by(&self, parent: &Process) {
        let (k, group) = (&self.kernel, self.pgid.get());
        let outside = parent.pgid.get() != group && parent.sid.get() == self.sid.get();
        if outside && k.is_orphaned(group) && k.group(group).iter().any(|p| p.stopped.get().is_some()) {
            k.signal_group(group, &[c::SIGHUP, c::SIGCONT]);
        }
    }
}

impl Kernel {
    fn is_orphaned(&self, group: i32) -> bool {
        !self
            .group(group)
            .iter()
            .any(|p| p.parent().is_some_and(|up| up.pgid.get() != group && up.sid.get() == p.sid.get()))
    }
}

impl Task {
    /// May this thread use the terminal now? A background group is sent `sig` (SIGTTIN, SIGTTOU): `stop` says whether
    /// that is so, or EIO if it would not help.
    pub fn terminal_stop(&self, tty: &Rc<Tty>, sig: i32) -> Result<bool> {
        let p = &self.process;
        let foreground = tty.foreground.get();
        if !p.controlled_by(tty) || foreground == 0 || foreground == p.pgid.get() {
            return Ok(false);
        }
        let ignored = p.actions.borrow().borrow().get(sig).handler == SIG_IGN || self.blocked.get().has(sig);
        match (ignored, sig) {
            (true, c::SIGTTIN) => Err(Errno::EIO),
            (true, _) => Ok(false),
            _ if p.in_orphaned_group() => Err(Errno::EIO),
            _ => Ok(true),
        }
    }
}
