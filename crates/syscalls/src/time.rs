//! Clocks and sleeps: clock_gettime(2), nanosleep(2), gettimeofday(2), times(2).
use crate::args::Flags;
use abi::sys::{Timespec, Timeval, Timex, Tms};
use abi::{Errno, Result, c};
use guest::{UserIn, UserInOut, UserOut};
use kernel::itimer::{Clock, IntervalTimer, Setting};
use kernel::wait::{self, Stop, WaitQueue};
use std::rc::Rc;
use task::Task;
use zerocopy::IntoBytes;

/// Clock ticks a second, sysconf(_SC_CLK_TCK).
const HZ: u64 = 100;

fn clock(t: &Rc<Task>, id: i32) -> Result<u64> {
    match id {
        c::CLOCK_REALTIME => Ok(host::time::realtime_ns()),
        c::CLOCK_MONOTONIC => Ok(host::time::monotonic_ns()),
        // Each as the vDSO tells it: a program may ask either way, and time must not go back.
        c::CLOCK_REALTIME_COARSE
        | c::CLOCK_TAI
        | c::CLOCK_MONOTONIC_RAW
        | c::CLOCK_MONOTONIC_COARSE
        | c::CLOCK_BOOTTIME => host::time::of(id),
        c::CLOCK_PROCESS_CPUTIME_ID => Ok(t.process.cpu_ns()),
        c::CLOCK_THREAD_CPUTIME_ID => Ok(t.cpu_ns()),
        id if id < 0 => cpu_clock(t, id).map(|(_, now)| now),
        _ => Err(Errno::EINVAL),
    }
}

/// The CPU clock of a process or thread, as clock_getcpuclockid(3) makes them, and its time.
pub(crate) fn cpu_clock(t: &Rc<Task>, id: i32) -> Result<(Clock, u64)> {
    let pid = !(id >> 3);
    match id & 7 {
        2 => {
            let p = if pid == 0 { t.process.clone() } else { t.find_process(pid).ok_or(Errno::EINVAL)? };
            Ok((p.cpu_clock(), p.cpu_ns()))
        }
        6 => {
            let of = if pid == 0 { t.clone() } else { t.find_task(pid).ok_or(Errno::EINVAL)? };
            if !Rc::ptr_eq(&of.process, &t.process) {
                return Err(Errno::EINVAL);
            }
            Ok((of.cpu_clock(), of.cpu_ns()))
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn clock_gettime(t: &Rc<Task>, id: i32, out: UserOut<Timespec>) -> Result {
    out.put(&*t.mem(), &Timespec::from_ns(clock(t, id)?))
}

pub fn clock_getres(t: &Rc<Task>, id: i32, out: UserOut<Timespec>) -> Result {
    clock(t, id)?;
    let ns = match id {
        c::CLOCK_REALTIME_COARSE | c::CLOCK_MONOTONIC_COARSE => 1_000_000_000 / HZ,
        _ => 1,
    };
    out.put_opt(&*t.mem(), &Timespec::from_ns(ns))
}

/// The clock is the host's: nobody inside may set it.
pub fn clock_settime(t: &Rc<Task>, id: i32, new: UserIn<Timespec>) -> Result {
    clock(t, id)?;
    if !matches!(id, c::CLOCK_REALTIME) && id >= 0 {
        return Err(Errno::EINVAL);
    }
    new.get(&*t.mem())?.ns()?;
    Err(Errno::EPERM)
}

pub fn adjtimex(t: &Rc<Task>, tx: UserInOut<Timex>) -> Result<i32> {
    clock_adjtime(t, c::CLOCK_REALTIME, tx)
}

/// clock_adjtime(2): what a clock says that nobody disciplines; it cannot be changed.
pub fn clock_adjtime(t: &Rc<Task>, id: i32, tx: UserInOut<Timex>) -> Result<i32> {
    const SINGLESHOT_READ: u32 = 0xa001;
    const TIME_ERROR: i32 = 5;
    let mem = t.mem();
    let asked = tx.get(&*mem)?;
    match id {
        c::CLOCK_REALTIME => {}
        0..=11 if id != 10 => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    }
    if asked.modes != 0 && asked.modes != SINGLESHOT_READ {
        return Err(Errno::EPERM);
    }
    let now = Timex {
        modes: asked.modes,
        maxerror: 16_000_000,
        esterror: 16_000_000,
        status: c::STA_UNSYNC,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        time: Timeval::from_ns(host::time::realtime_ns()),
        tick: 10_000,
        ..Timex::default()
    };
    tx.put(&*mem, &now)?;
    Ok(TIME_ERROR)
}

pub fn gettimeofday(t: &Rc<Task>, tv: UserOut<Timeval>, tz: UserOut<[i32; 2]>) -> Result {
    let mem = t.mem();
    tv.put_opt(&*mem, &Timeval::from_ns(host::time::realtime_ns()))?;
    tz.put_opt(&*mem, &[0, 0])
}

pub fn time(t: &Rc<Task>, out: UserOut<i64>) -> Result<i64> {
    let now = (host::time::realtime_ns() / 1_000_000_000) as i64;
    out.put_opt(&*t.mem(), &now)?;
    Ok(now)
}

pub fn times(t: &Rc<Task>, out: UserOut<Tms>) -> Result<i64> {
    let ticks = |ns: u64| (ns / (1_000_000_000 / HZ)) as i64;
    let tms = Tms { utime: ticks(t.process.cpu_ns()), stime: 0, cutime: ticks(t.process.child_cpu.get()), cstime: 0 };
    out.put_opt(&*t.mem(), &tms)?;
    Ok(ticks(host::time::monotonic_ns()))
}

pub async fn nanosleep(t: &Rc<Task>, req: UserIn<Timespec>, rem: UserOut<Timespec>) -> Result {
    let ns = req.get(&*t.mem())?.ns()?;
    sleep_until(t, host::time::monotonic_ns().saturating_add(ns), Some(rem)).await
}

pub async fn clock_nanosleep(
    t: &Rc<Task>,
    id: i32,
    flags: Flags,
    req: UserIn<Timespec>,
    rem: UserOut<Timespec>,
) -> Result {
    let on = match id {
        c::CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EOPNOTSUPP),
        id => crate::timer::clock(t, id)?,
    };
    let ns = req.get(&*t.mem())?.ns()?;
    let absolute = flags.bits() & c::TIMER_ABSTIME != 0;
    if let Clock::Cpu(_) = on {
        return sleep_on(&on, if absolute { ns } else { on.now().saturating_add(ns) }).await;
    }
    let mono = host::time::monotonic_ns();
    if absolute {
        sleep_until(t, mono.saturating_add(ns.saturating_sub(on.now())), None).await
    } else {
        sleep_until(t, mono.saturating_add(ns), Some(rem)).await
    }
}

/// Sleeps until a CPU clock says `at`.
async fn sleep_on(on: &Clock, at: u64) -> Result {
    let due = Rc::new(WaitQueue::new());
    let woken = due.clone();
    wait::settle().await;
    let timer = IntervalTimer::new(on.clone(), Box::new(move || woken.wake()));
    timer.set(true, Setting { value: at.max(1), interval: 0 });
    let passed = || (on.now() >= at).then_some(());
    wait::until(&[&due], None, passed).await.map_err(|_| Errno::ERESTARTNOHAND)
}

/// Sleeps; interrupted, it says what was left. A relative sleep goes on after a stop from where it was.
async fn sleep_until(t: &Rc<Task>, deadline: u64, rem: Option<UserOut<Timespec>>) -> Result {
    let deadline = t.restart_deadline(deadline);
    match wait::sleep(Some(deadline)).await {
        Stop::TimedOut => Ok(()),
        Stop::Interrupted => match rem {
            None => Err(Errno::ERESTARTNOHAND),
            Some(rem) => {
                let left = deadline.saturating_sub(host::time::monotonic_ns());
                if !rem.is_null() {
                    // Now, as a handler's frame comes before the answer: a fault must be known first.
                    t.mem().write_now(rem.addr(), Timespec::from_ns(left).as_bytes())?;
                }
                t.set_restart_deadline(deadline);
                Err(Errno::ERESTART_RESTARTBLOCK)
            }
        },
    }
}
