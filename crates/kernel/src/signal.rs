//! Signals: what is pending, what is done about it. signal(7).
pub mod frame;

pub use abi::signal::{SIG_DFL, SIG_IGN, SigAction, SigInfo, SigSet, StackT};

use abi::c;
use std::collections::VecDeque;

/// Highest signal number; from SIGRTMIN on they queue.
pub const SIGNALS: i32 = 64;
pub const SIGRTMIN: i32 = 32;

/// Signals raised by the thread's own instruction; they come first.
pub const SYNCHRONOUS: SigSet = SigSet(
    SigSet::of(c::SIGSEGV).0
        | SigSet::of(c::SIGBUS).0
        | SigSet::of(c::SIGILL).0
        | SigSet::of(c::SIGTRAP).0
        | SigSet::of(c::SIGFPE).0
        | SigSet::of(c::SIGSYS).0,
);
pub const STOPS: SigSet =
    SigSet(SigSet::of(c::SIGSTOP).0 | SigSet::of(c::SIGTSTP).0 | SigSet::of(c::SIGTTIN).0 | SigSet::of(c::SIGTTOU).0);

/// What happens without a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    Terminate,
    Core,
    Ignore,
    Stop,
    Continue,
}

pub fn default_action(sig: i32) -> Default {
    match sig {
        c::SIGCHLD | c::SIGURG | c::SIGWINCH => Default::Ignore,
        c::SIGSTOP | c::SIGTSTP | c::SIGTTIN | c::SIGTTOU => Default::Stop,
        c::SIGCONT => Default::Continue,
        c::SIGQUIT
        | c::SIGILL
        | c::SIGTRAP
        | c::SIGABRT
        | c::SIGFPE
        | c::SIGSEGV
        | c::SIGBUS
        | c::SIGSYS
        | c::SIGXCPU
        | c::SIGXFSZ => Default::Core,
        _ => Default::Terminate,
    }
}

/// Dispositions of a process.
#[derive(Debug, Clone)]
pub struct ActionTable([SigAction; SIGNALS as usize]);

impl std::default::Default for ActionTable {
    fn default() -> Self {
        ActionTable([SigAction::default(); SIGNALS as usize])
    }
}

impl ActionTable {
    pub fn get(&self, sig: i32) -> SigAction {
        self.0[sig as usize - 1]
    }
    pub fn set(&mut self, sig: i32, a: SigAction) {
        self.0[sig as usize - 1] = a;
    }
    /// execve(2): handlers are gone, what is ignored stays so.
    pub fn exec(&mut self) {
        for a in &mut self.0 {
            let handler = if a.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *a = SigAction { handler, ..SigAction::default() };
        }
    }
    /// Would the signal, unblocked, do nothing at all?
    pub fn ignores(&self, sig: i32) -> bool {
        match self.get(sig).handler {
            SIG_IGN => true,
            SIG_DFL => matches!(default_action(sig), Default::Ignore),
            _ => false,
        }
    }
}

/// Signals sent and not yet taken, of a thread or of a process.
#[derive(Debug, Default, Clone)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// A standard signal that is already pending is not queued again, but from a timer, which has a place of its own.
    /// False: more than `limit` are queued.
    pub fn push(&mut self, info: SigInfo, limit: usize) -> bool {
        let s = SigSet::of(info.signo);
        if info.code == c::SI_TIMER {
            self.set = self.set.with(s);
            self.queue.push_back(info);
            return true;
        }
        if info.signo < SIGRTMIN && self.set.has(info.signo) {
            return true;
        }
        if info.signo >= SIGRTMIN && self.queue.len() >= limit {
            return false;
        }
        self.set = self.set.with(s);
        self.queue.push_back(info);
        true
    }

    /// Takes the next signal that is in `wanted`: synchronous ones first, then the lowest number.
    pub fn take(&mut self, wanted: SigSet) -> Option<SigInfo> {
        let have = self.set.0 & wanted.0;
        if have == 0 {
            return None;
        }
        let first = if have & SYNCHRONOUS.0 != 0 { have & SYNCHRONOUS.0 } else { have };
        let sig = first.trailing_zeros() as i32 + 1;
        let at = self.queue.iter().position(|i| i.signo == sig)?;
        let info = self.queue.remove(at)?;
        if !self.queue.iter().any(|i| i.signo == sig) {
            self.set = self.set.without(SigSet::of(sig));
        }
        Some(info)
    }

    /// Everything that is queued, oldest first.
    pub fn list(&self) -> impl Iterator<Item = &SigInfo> {
        self.queue.iter()
    }

    /// Forgets every signal with this si_code.
    pub fn discard_code(&mut self, code: i32) {
        self.queue.retain(|i| i.code != code);
        self.set = self.queue.iter().fold(SigSet::default(), |s, i| s.with(SigSet::of(i.signo)));
    }

    /// Forgets every signal of `which`.
    pub fn discard(&mut self, which: SigSet) {
        self.queue.retain(|i| !which.has(i.signo));
        self.set = self.set.without(which);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_synchronous_then_lowest_and_realtime_queues() {
        let mut p = Pending::default();
        for s in [40, 15, 40, 10, 11, 10] {
            assert!(p.push(SigInfo::new(s, s), 100));
        }
        let all = SigSet(u64::MAX);
        let got: Vec<i32> = std::iter::from_fn(|| p.take(all)).map(|i| i.signo).collect();
        assert_eq!(got, [11, 10, 15, 40, 40]);
        assert!(p.set().is_empty());
    }

    #[test]
    fn a_mask_holds_back_and_discard_forgets() {
        let mut p = Pending::default();
        p.push(SigInfo::new(10, 0), 1);
        p.push(SigInfo::new(12, 0), 1);
        assert_eq!(p.take(SigSet::of(12)).map(|i| i.signo), Some(12));
        p.discard(SigSet::of(10));
        assert!(p.take(SigSet(u64::MAX)).is_none());
        assert!(p.push(SigInfo::new(35, 0), 1));
        assert!(!p.push(SigInfo::new(36, 0), 1));
    }

    #[test]
    fn exec_keeps_only_what_is_ignored() {
        let mut a = ActionTable::default();
        a.set(2, SigAction { handler: SIG_IGN, flags: 4, ..SigAction::default() });
        a.set(3, SigAction { handler: 0x1000, ..SigAction::default() });
        a.exec();
        assert_eq!((a.get(2).handler, a.get(3).handler, a.get(2).flags), (SIG_IGN, SIG_DFL, 0));
        assert!(a.ignores(2) && a.ignores(17) && !a.ignores(3));
    }
}
