//! Timers of a process: timer_create(2), setitimer(2), the limit on CPU time.
use crate::{Process, Task};
use abi::signal::{SigInfo, SigSet};
use abi::{Errno, Result, c};
use kernel::itimer::{Clock, IntervalTimer, Setting};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

const SECOND: u64 = 1_000_000_000;

/// What happens at an expiry: `struct sigevent`, checked.
#[derive(Clone)]
pub enum Notify {
    Nothing,
    Process { sig: i32, value: u64 },
    Thread { sig: i32, value: u64, to: Weak<Task> },
}

/// A timer of timer_create(2). Its signal is queued once at most; it runs on when that has been taken.
pub struct PosixTimer {
    id: i32,
    notify: Notify,
    timer: IntervalTimer,
    overrun: Cell<i32>,
}

/// The timers of a process.
#[derive(Default)]
pub struct Timers {
    posix: RefCell<BTreeMap<i32, Rc<PosixTimer>>>,
    next: Cell<i32>,
    /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
    interval: RefCell<[Option<Rc<IntervalTimer>>; 3]>,
    /// RLIMIT_CPU.
    limit: RefCell<Option<IntervalTimer>>,
}

impl PosixTimer {
    fn sig(&self) -> i32 {
        match self.notify {
            Notify::Nothing => 0,
            Notify::Process { sig, .. } | Notify::Thread { sig, .. } => sig,
        }
    }

    fn expired(&self, p: &Process) {
        let info = |sig, value: u64| {
            let mut s = SigInfo::new(sig, c::SI_TIMER);
            (s.fields[0], s.fields[2], s.fields[3]) = (self.id as u32, value as u32, (value >> 32) as u32);
            s
        };
        match &self.notify {
            Notify::Nothing => {}
            Notify::Process { sig, value } => p.signal(info(*sig, *value)),
            Notify::Thread { sig, value, to } => {
                if let Some(t) = to.upgrade() {
                    t.signal(info(*sig, *value));
                }
            }
        }
    }

    /// timer_settime(2): returns the old setting.
    pub fn set(&self, absolute: bool, to: Setting) -> Setting {
        let old = self.timer.left();
        self.overrun.set(0);
        self.timer.set(absolute, to);
        old
    }

    pub fn get(&self) -> Setting {
        self.timer.left()
    }

    /// Expiries that passed while the signal last taken was pending.
    pub fn overrun(&self) -> i32 {
        self.overrun.get()
    }
}

impl Timers {
    /// EINVAL if there is none of that id.
    pub fn get(&self, id: i32) -> Result<Rc<PosixTimer>> {
        self.posix.borrow().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    pub fn delete(&self, id: i32) -> Result {
        let gone = self.posix.borrow_mut().remove(&id);
        gone.map(drop).ok_or(Errno::EINVAL)
    }

    fn named(&self) -> Vec<Rc<PosixTimer>> {
        self.posix.borrow().values().cloned().collect()
    }
}

impl Process {
    /// The clock of the CPU time of all threads.
    pub fn cpu_clock(&self) -> Clock {
        let me = self.weak();
        Clock::Cpu(Rc::new(move || me.upgrade().map_or(0, |p| p.cpu_ns())))
    }

    /// timer_create(2); `notify` is given the new id. EAGAIN beyond RLIMIT_SIGPENDING.
    pub fn create_timer(&self, clock: Clock, notify: impl FnOnce(i32) -> Notify) -> Result<i32> {
        let timers = &self.timers;
        if timers.posix.borrow().len() as u64 >= self.rlimit(c::RLIMIT_SIGPENDING) {
            return Err(Errno::EAGAIN);
        }
        let mut id = timers.next.get();
        while timers.posix.borrow().contains_key(&id) {
            id = (id + 1) & i32::MAX;
        }
        timers.next.set((id + 1) & i32::MAX);
        let me = self.weak();
        let expired = move || {
            if let Some(p) = me.upgrade()
                && let Ok(t) = p.timers.get(id)
            {
                t.expired(&p);
            }
        };
        let timer = IntervalTimer::new(clock, Box::new(expired));
        let t = PosixTimer { id, notify: notify(id), timer, overrun: Cell::new(0) };
        timers.posix.borrow_mut().insert(id, Rc::new(t));
        Ok(id)
    }

    /// A timer's signal is taken: it says how many expiries it stands for, and a periodic timer runs on.
    pub(crate) fn timer_taken(&self, info: &mut SigInfo) {
        if let Ok(t) = self.timers.get(info.fields[0] as i32) {
            t.overrun.set(i32::try_from(t.timer.rearm()).unwrap_or(i32::MAX));
            info.fields[1] = t.overrun.get() as u32;
        }
    }

    /// Signals are no longer ignored: timers that waited for one of them to be taken send it.
    pub fn timers_unignored(&self, sig: i32) {
        for t in self.timers.named().into_iter().filter(|t| t.sig() == sig) {
            if t.timer.get().value == 0 && t.timer.left().value != 0 {
                t.expired(self);
            }
        }
    }

    /// execve(2): the timers of timer_create(2) go, with their signals.
    pub fn drop_timers(&self) {
        self.timers.posix.borrow_mut().clear();
        self.pending.borrow_mut().discard_code(c::SI_TIMER);
        for t in self.threads.borrow().iter() {
            t.pending.borrow_mut().discard_code(c::SI_TIMER);
        }
    }

    /// setitimer(2): `which` is ITIMER_REAL, _VIRTUAL or _PROF. Returns the old setting.
    pub fn set_itimer(&self, which: usize, to: Setting) -> Setting {
        let old = self.get_itimer(which);
        let mut all = self.timers.interval.borrow_mut();
        if to.value == 0 {
            all[which] = None;
            return old;
        }
        let (clock, sig) = match which {
            0 => (Clock::Monotonic, c::SIGALRM),
            1 => (self.cpu_clock(), c::SIGVTALRM),
            _ => (self.cpu_clock(), c::SIGPROF),
        };
        let me = self.weak();
        let expired = move || {
            let Some(p) = me.upgrade() else { return };
            let timer = p.timers.interval.borrow()[which].clone();
            if let Some(t) = timer {
                t.rearm();
            }
            p.signal(SigInfo::new(sig, c::SI_KERNEL));
        };
        let timer = all[which].insert(Rc::new(IntervalTimer::new(clock, Box::new(expired))));
        timer.set(false, to);
        old
    }

    pub fn get_itimer(&self, which: usize) -> Setting {
        self.timers.interval.borrow()[which].as_ref().map_or(Setting::default(), |t| t.get())
    }

    /// Keeps watch over RLIMIT_CPU, if there is one: SIGXCPU every second from the soft limit on, SIGKILL at the hard.
    pub fn watch_cpu_limit(&self) {
        let (soft, hard) = self.rlimits.borrow().0[c::RLIMIT_CPU as usize];
        *self.timers.limit.borrow_mut() = None;
        if soft.min(hard) == crate::RLIM_INFINITY {
            return;
        }
        let me = self.weak();
        let expired = move || {
            let Some(p) = me.upgrade() else { return };
            let (_, hard) = p.rlimits.borrow().0[c::RLIMIT_CPU as usize];
            let over = hard != crate::RLIM_INFINITY && p.cpu_ns() >= hard.saturating_mul(SECOND);
            if let Some(t) = &*p.timers.limit.borrow() {
                t.rearm();
            }
            p.signal(SigInfo::new(if over { c::SIGKILL } else { c::SIGXCPU }, c::SI_KERNEL));
        };
        let timer = IntervalTimer::new(self.cpu_clock(), Box::new(expired));
        timer.set(true, Setting { value: soft.min(hard).saturating_mul(SECOND).max(1), interval: SECOND });
        *self.timers.limit.borrow_mut() = Some(timer);
    }

    pub(crate) fn timers_off(&self) {
        self.timers.posix.borrow_mut().clear();
        *self.timers.interval.borrow_mut() = Default::default();
        *self.timers.limit.borrow_mut() = None;
    }
}

impl Task {
    /// The clock of this thread's CPU time.
    pub fn cpu_clock(self: &Rc<Task>) -> Clock {
        let me = Rc::downgrade(self);
        Clock::Cpu(Rc::new(move || me.upgrade().map_or(0, |t| t.cpu_ns())))
    }

    /// Takes a pending signal of `wanted`, the thread's own first.
    pub fn take_from(&self, wanted: SigSet) -> Option<SigInfo> {
        let own = self.pending.borrow_mut().take(wanted);
        let mut info = own.or_else(|| self.process.pending.borrow_mut().take(wanted))?;
        if info.code == c::SI_TIMER {
            self.process.timer_taken(&mut info);
        }
        Some(info)
    }
}
