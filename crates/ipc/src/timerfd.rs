//! timerfd_create(2) and its kin.
use abi::{Errno, Result, c};
use guest::{Sink, Source};
use kernel::itimer::{Clock, IntervalTimer, Setting};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::Cell;
use std::rc::{Rc, Weak};
use vfs::{FileOps, OpenFile, Ready};

/// A timer whose expiries are read.
pub struct TimerFd {
    timer: IntervalTimer,
    /// Expiries since the last read or setting, without those the timer still owes (see [`IntervalTimer::rearm`]).
    ticks: Cell<u64>,
    queue: WaitQueue,
}

/// timerfd_create(2). `flags`: TFD_NONBLOCK; TFD_CLOEXEC is the caller's business.
/// Errors: EINVAL (clock, flags), EPERM (an alarm clock: the container cannot wake the host up).
pub fn timerfd(clock: i32, flags: i32) -> Result<Rc<OpenFile>> {
    if flags & !(c::TFD_NONBLOCK | c::TFD_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let clock = match clock {
        c::CLOCK_REALTIME => Clock::Realtime,
        c::CLOCK_MONOTONIC => Clock::Monotonic,
        c::CLOCK_BOOTTIME => Clock::Boottime,
        c::CLOCK_REALTIME_ALARM | c::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let ops = Rc::new_cyclic(|me: &Weak<TimerFd>| {
        let me = me.clone();
        let expired = move || {
            if let Some(t) = me.upgrade() {
                t.ticks.set(t.ticks.get().saturating_add(1));
                t.queue.wake();
            }
        };
        TimerFd { timer: IntervalTimer::new(clock, Box::new(expired)), ticks: Cell::new(0), queue: WaitQueue::new() }
    });
    Ok(OpenFile::new(ops, c::O_RDWR | flags & c::O_NONBLOCK, None))
}

impl TimerFd {
    /// timerfd_settime(2): returns the old setting. `flags`: TFD_TIMER_ABSTIME and TFD_TIMER_CANCEL_ON_SET (which has
    /// nothing to do: the container's clocks are not set). EINVAL for others.
    pub fn settime(&self, flags: i32, to: Setting) -> Result<Setting> {
        if flags & !(c::TFD_TIMER_ABSTIME | c::TFD_TIMER_CANCEL_ON_SET) != 0 {
            return Err(Errno::EINVAL);
        }
        let old = self.gettime();
        self.ticks.set(0);
        self.timer.set(flags & c::TFD_TIMER_ABSTIME != 0, to);
        Ok(old)
    }

    /// timerfd_gettime(2): what is left until the next expiry, and the interval.
    pub fn gettime(&self) -> Setting {
        self.catch_up();
        self.timer.get()
    }

    fn catch_up(&self) {
        self.ticks.set(self.ticks.get().saturating_add(self.timer.rearm()));
    }
}

impl FileOps for TimerFd {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        if self.ticks.get() == 0 {
            return Err(Errno::EAGAIN);
        }
        self.catch_up();
        dst.put(&self.ticks.get().to_ne_bytes())?;
        self.ticks.set(0);
        Ok(8)
    }

    fn write(&self, _file: &OpenFile, _src: &mut dyn Source, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        if self.ticks.get() > 0 { Ready::IN } else { Ready::empty() }
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::io::SliceSink;
    use kernel::testing::Executor;

    const MS: u64 = 1_000_000;

    fn read(f: &OpenFile) -> Result<u64> {
        let mut b = [0; 8];
        assert_eq!(f.ops().read(f, &mut SliceSink::new(&mut b), 0)?, 8);
        Ok(u64::from_ne_bytes(b))
    }

    fn blocking_read(ex: &mut Executor, f: &Rc<OpenFile>) -> u64 {
        let f = f.clone();
        let h = ex.spawn(move || {
            let f = f.clone();
            async move { kernel::wait::until(&[f.ops().waiters().unwrap()], None, || read(&f).ok()).await }
        });
        ex.finish(&h).unwrap()
    }

    #[test]
    fn one_shot_periodic_and_missed() {
        let mut ex = Executor::new();
        for clock in [c::CLOCK_MONOTONIC, c::CLOCK_REALTIME, c::CLOCK_BOOTTIME] {
            let f = timerfd(clock, 0).unwrap();
            let t = f.downcast::<TimerFd>().unwrap();
            assert_eq!(read(&f), Err(Errno::EAGAIN));
            assert_eq!(t.settime(0, Setting { value: 2 * MS, interval: 0 }), Ok(Setting::default()));
            assert!(f.ops().ready().is_empty());
            assert_eq!(blocking_read(&mut ex, &f), 1);
            assert_eq!(t.gettime(), Setting::default());

            t.settime(0, Setting { value: MS, interval: 2 * MS }).unwrap();
            assert_eq!(blocking_read(&mut ex, &f), 1);
            std::thread::sleep(std::time::Duration::from_millis(7));
            assert!(blocking_read(&mut ex, &f) >= 3, "missed periods are counted");
            let left = t.settime(0, Setting::default()).unwrap();
            assert!(left.interval == 2 * MS && (1..=2 * MS).contains(&left.value));
            assert_eq!(read(&f), Err(Errno::EAGAIN));
        }
    }

    #[test]
    fn an_absolute_time_in_the_past_is_due_at_once() {
        let f = timerfd(c::CLOCK_REALTIME, c::TFD_NONBLOCK).unwrap();
        let t = f.downcast::<TimerFd>().unwrap();
        t.settime(c::TFD_TIMER_ABSTIME | c::TFD_TIMER_CANCEL_ON_SET, Setting { value: 1, interval: 0 }).unwrap();
        assert_eq!(blocking_read(&mut Executor::new(), &f), 1);
    }

    #[test]
    fn refusals() {
        assert_eq!(timerfd(2, 0).err(), Some(Errno::EINVAL));
        assert_eq!(timerfd(c::CLOCK_BOOTTIME_ALARM, 0).err(), Some(Errno::EPERM));
        assert_eq!(timerfd(0, 1).err(), Some(Errno::EINVAL));
        let f = timerfd(0, 0).unwrap();
        assert_eq!(f.downcast::<TimerFd>().unwrap().settime(4, Setting::default()), Err(Errno::EINVAL));
        assert_eq!(f.ops().read(&f, &mut SliceSink::new(&mut [0; 7]), 0), Err(Errno::EINVAL));
    }
}
