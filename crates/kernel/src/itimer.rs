//! Interval timers on a clock: what timerfd, setitimer(2) and timer_create(2) are made of.
//!
//! As in Linux a periodic timer that has expired starts again only when its expiry is taken note of
//! ([`IntervalTimer::rearm`]), so the shortest period costs the kernel nothing while nobody looks.
use crate::timer;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A clock that timers run on.
#[derive(Clone)]
pub enum Clock {
    Realtime,
    Monotonic,
    Boottime,
    Tai,
    /// CPU time, which only the given function tells: nanoseconds. It is asked again and again while a timer runs.
    Cpu(Rc<dyn Fn() -> u64>),
}

/// How often a CPU clock is asked at most and at least, nanoseconds.
const CPU_STEPS: std::ops::RangeInclusive<u64> = 1_000_000..=50_000_000;

impl Clock {
    /// Nanoseconds on this clock.
    pub fn now(&self) -> u64 {
        match self {
            Clock::Cpu(f) => f(),
            Clock::Tai => host::time::tai_ns(),
            Clock::Realtime => host::time::realtime_ns(),
            Clock::Monotonic => host::time::monotonic_ns(),
            Clock::Boottime => host::time::boottime_ns(),
        }
    }

    /// A time on this clock as a monotonic one, as far as is known now.
    pub fn to_monotonic(&self, at: u64) -> u64 {
        match self {
            Clock::Monotonic => at,
            // Two threads may use it up in half the time, so half of what is left is waited for.
            Clock::Cpu(f) => {
                let left = at.saturating_sub(f());
                host::time::monotonic_ns() + (left / 2).clamp(*CPU_STEPS.start(), *CPU_STEPS.end())
            }
            _ => host::time::monotonic_ns().saturating_add(at.saturating_sub(self.now())),
        }
    }
}

/// What a timer is set to, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry (or its time, when set as absolute); 0: not running.
    pub value: u64,
    /// Between expiries; 0: only one.
    pub interval: u64,
}

/// A timer that calls back when it expires. Dropping it stops it.
pub struct IntervalTimer(Rc<Inner>);

struct Inner {
    clock: Clock,
    expired: Box<dyn Fn()>,
    /// The next expiry, or the last while `fired`, on `clock`.
    at: Cell<u64>,
    interval: Cell<u64>,
    pending: RefCell<Option<timer::Id>>,
    fired: Cell<bool>,
}

impl IntervalTimer {
    /// `expired` runs from the main loop at each expiry; it must not wait.
    pub fn new(clock: Clock, expired: Box<dyn Fn()>) -> Self {
        IntervalTimer(Rc::new(Inner {
            clock,
            expired,
            at: Cell::new(0),
            interval: Cell::new(0),
            pending: RefCell::new(None),
            fired: Cell::new(false),
        }))
    }

    /// Sets it anew; an expiry not yet taken note of is forgotten. `absolute`: `value` is a time on the clock.
    pub fn set(&self, absolute: bool, to: Setting) {
        let t = &self.0;
        t.stop();
        t.fired.set(false);
        t.interval.set(to.interval);
        if to.value != 0 {
            t.at.set(if absolute { to.value } else { t.clock.now().saturating_add(to.value) });
            Inner::start(t);
        }
    }

    /// What is left, and the interval.
    pub fn get(&self) -> Setting {
        let t = &self.0;
        let running = t.pending.borrow().is_some();
        // A running timer whose time has come but whose callback has not shows the least time left.
        let value = if running { t.at.get().saturating_sub(t.clock.now()).max(1) } else { 0 };
        Setting { value, interval: t.interval.get() }
    }

    /// As [`get`](Self::get), but of a periodic timer whose expiry nobody has noted, when it would expire next.
    pub fn left(&self) -> Setting {
        let t = &self.0;
        let (at, interval) = (t.at.get(), t.interval.get());
        if !t.fired.get() || interval == 0 {
            return self.get();
        }
        let late = t.clock.now().saturating_sub(at);
        Setting { value: (interval - late % interval).max(1), interval }
    }

    /// Takes note of an expiry: a periodic timer runs on. Returns how many further periods have passed since.
    pub fn rearm(&self) -> u64 {
        let t = &self.0;
        if !t.fired.replace(false) || t.interval.get() == 0 {
            return 0;
        }
        let late = t.clock.now().saturating_sub(t.at.get());
        let missed = late / t.interval.get();
        t.at.set(t.at.get().saturating_add(missed.saturating_add(1).saturating_mul(t.interval.get())));
        Inner::start(t);
        missed
    }
}

impl Inner {
    fn start(t: &Rc<Inner>) {
        let me = Rc::downgrade(t);
        let id = timer::at(
            t.clock.to_monotonic(t.at.get()),
            Rc::new(move || {
                if let Some(t) = me.upgrade() {
                    Inner::due(&t);
                }
            }),
        );
        *t.pending.borrow_mut() = Some(id);
    }

    fn due(t: &Rc<Inner>) {
        *t.pending.borrow_mut() = None;
        if t.clock.now() < t.at.get() {
            // The clock was set back since.
            Inner::start(t);
            return;
        }
        t.fired.set(true);
        (t.expired)();
    }

    fn stop(&self) {
        if let Some(id) = self.pending.borrow_mut().take() {
            timer::cancel(id);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(clock: Clock) -> (IntervalTimer, Rc<Cell<u32>>) {
        let n = Rc::new(Cell::new(0));
        let m = n.clone();
        (IntervalTimer::new(clock, Box::new(move || m.set(m.get() + 1))), n)
    }

    fn pass(ns: u64) {
        std::thread::sleep(std::time::Duration::from_nanos(ns));
        timer::fire(host::time::monotonic_ns());
    }

    #[test]
    fn one_shot_and_stop() {
        let (t, n) = counted(Clock::Monotonic);
        t.set(false, Setting { value: 1_000_000, interval: 0 });
        assert!((1..=1_000_000).contains(&t.get().value));
        pass(2_000_000);
        assert_eq!((n.get(), t.rearm(), t.get()), (1, 0, Setting::default()));
        t.set(false, Setting { value: 1, interval: 0 });
        t.set(false, Setting::default());
        pass(1_000_000);
        assert_eq!(n.get(), 1);
    }

    #[test]
    fn a_period_waits_to_be_noted() {
        let (t, n) = counted(Clock::Realtime);
        t.set(true, Setting { value: 1, interval: 1_000_000 });
        pass(100_000);
        pass(5_000_000);
        assert_eq!(n.get(), 1, "expired once, however often it was due");
        assert!(t.rearm() >= 5);
        assert!((1..=1_000_000).contains(&t.get().value));
        pass(2_000_000);
        assert_eq!(n.get(), 2);
    }

    #[test]
    fn dropping_stops() {
        let (t, n) = counted(Clock::Boottime);
        t.set(false, Setting { value: 1, interval: 1 });
        drop(t);
        pass(1_000_000);
        assert_eq!((n.get(), timer::next_deadline()), (0, None));
    }
}
