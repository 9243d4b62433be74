//! Timers that send signals: timer_create(2) and its kin, setitimer(2), alarm(2).
use crate::args::Flags;
use abi::signal::SigEvent;
use abi::sys::{Itimerspec, Itimerval, Timespec, Timeval};
use abi::{Errno, Result, c};
use guest::{UserIn, UserOut};
use kernel::itimer::{Clock, Setting};
use std::rc::{Rc, Weak};
use task::Task;
use task::timers::Notify;

/// The clock of a timer. EOPNOTSUPP: it has none (the coarse and the raw clocks; the alarm clocks need hardware that
/// wakes a machine up).
pub(crate) fn clock(t: &Rc<Task>, id: i32) -> Result<Clock> {
    match id {
        c::CLOCK_REALTIME => Ok(Clock::Realtime),
        c::CLOCK_MONOTONIC => Ok(Clock::Monotonic),
        c::CLOCK_BOOTTIME => Ok(Clock::Boottime),
        c::CLOCK_TAI => Ok(Clock::Tai),
        c::CLOCK_PROCESS_CPUTIME_ID => Ok(t.process.cpu_clock()),
        c::CLOCK_THREAD_CPUTIME_ID => Ok(t.cpu_clock()),
        c::CLOCK_MONOTONIC_RAW | c::CLOCK_REALTIME_COARSE | c::CLOCK_MONOTONIC_COARSE => Err(Errno::EOPNOTSUPP),
        c::CLOCK_REALTIME_ALARM | c::CLOCK_BOOTTIME_ALARM => Err(Errno::EOPNOTSUPP),
        id if id < 0 => crate::time::cpu_clock(t, id).map(|(clock, _)| clock),
        _ => Err(Errno::EINVAL),
    }
}

/// What is to happen at an expiry; without an event SIGALRM with the timer's id.
fn notify(t: &Rc<Task>, e: Option<SigEvent>, id: i32) -> Result<Notify> {
    let Some(e) = e else { return Ok(Notify::Process { sig: c::SIGALRM, value: id as u64 }) };
    const THREAD_ID: i32 = c::SIGEV_SIGNAL | c::SIGEV_THREAD_ID;
    let to = match e.notify {
        c::SIGEV_NONE => return Ok(Notify::Nothing),
        c::SIGEV_SIGNAL | c::SIGEV_THREAD => None,
        THREAD_ID => {
            let to = t.find_task(e.tid).filter(|o| Rc::ptr_eq(&o.process, &t.process)).ok_or(Errno::EINVAL)?;
            Some(to)
        }
        _ => return Err(Errno::EINVAL),
    };
    if !(1..=64).contains(&e.signo) {
        return Err(Errno::EINVAL);
    }
    let (sig, value) = (e.signo, e.value);
    Ok(match to {
        None => Notify::Process { sig, value },
        Some(to) => Notify::Thread { sig, value, to: Rc::downgrade(&to) as Weak<Task> },
    })
}

pub fn timer_create(t: &Rc<Task>, id: i32, event: UserIn<SigEvent>, out: UserOut<i32>) -> Result {
    let mem = t.mem();
    let event = event.get_opt(&*mem)?;
    let clock = clock(t, id)?;
    let checked = notify(t, event, 0)?;
    let made = t.process.create_timer(clock, |id| match event {
        None => Notify::Process { sig: c::SIGALRM, value: id as u64 },
        Some(_) => checked,
    })?;
    out.put(&*mem, &made).inspect_err(|_| {
        let _ = t.process.timers.delete(made);
    })
}

fn spec(s: Setting) -> Itimerspec {
    Itimerspec { interval: Timespec::from_ns(s.interval), value: Timespec::from_ns(s.value) }
}

pub fn timer_settime(t: &Rc<Task>, id: i32, flags: Flags, new: UserIn<Itimerspec>, old: UserOut<Itimerspec>) -> Result {
    if new.is_null() {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    let new = new.get(&*mem)?;
    let to = Setting { interval: new.interval.ns()?, value: new.value.ns()? };
    let was = t.process.timers.get(id)?.set(flags.bits() & c::TIMER_ABSTIME != 0, to);
    old.put_opt(&*mem, &spec(was))
}

pub fn timer_gettime(t: &Rc<Task>, id: i32, out: UserOut<Itimerspec>) -> Result {
    let s = t.process.timers.get(id)?.get();
    out.put(&*t.mem(), &spec(s))
}

pub fn timer_getoverrun(t: &Rc<Task>, id: i32) -> Result<i32> {
    Ok(t.process.timers.get(id)?.overrun())
}

pub fn timer_delete(t: &Rc<Task>, id: i32) -> Result {
    t.process.timers.delete(id)
}

pub fn alarm(t: &Rc<Task>, seconds: u32) -> Result<u32> {
    let was = t.process.set_itimer(0, Setting { value: seconds as u64 * 1_000_000_000, interval: 0 });
    Ok(was.value.div_ceil(1_000_000_000) as u32)
}

fn kind(which: i32) -> Result<usize> {
    usize::try_from(which).ok().filter(|w| *w < 3).ok_or(Errno::EINVAL)
}

fn val(s: Setting) -> Itimerval {
    Itimerval { interval: Timeval::from_ns(s.interval), value: Timeval::from_ns(s.value) }
}

/// setitimer(2). The CPU time that ITIMER_VIRTUAL counts has the kernel's share in it.
pub fn setitimer(t: &Rc<Task>, which: i32, new: UserIn<Itimerval>, old: UserOut<Itimerval>) -> Result {
    let mem = t.mem();
    let it = new.get_opt(&*mem)?.unwrap_or_default();
    let to = Setting { value: it.value.ns()?, interval: it.interval.ns()? };
    let was = t.process.set_itimer(kind(which)?, to);
    old.put_opt(&*mem, &val(was))
}

pub fn getitimer(t: &Rc<Task>, which: i32, out: UserOut<Itimerval>) -> Result {
    out.put(&*t.mem(), &val(t.process.get_itimer(kind(which)?)))
}
