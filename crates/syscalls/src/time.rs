//! Clocks and sleeps: clock_gettime(2), nanosleep(2), gettimeofday(2), times(2).
use crate::args::Flags;
use abi::sys::{Timespec, Timeval, Tms};
use abi::{Errno, Result, c};
use guest::{UserIn, UserOut};
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::Task;
use zerocopy::IntoBytes;

/// Clock ticks a second, sysconf(_SC_CLK_TCK).
const HZ: u64 = 100;

fn clock(t: &Task, id: i32) -> Result<u64> {
    match id {
        c::CLOCK_REALTIME => Ok(host::time::realtime_ns()),
        c::CLOCK_MONOTONIC => Ok(host::time::monotonic_ns()),
        c::CLOCK_BOOTTIME => Ok(host::time::boottime_ns()),
        // Each as the vDSO tells it: a program may ask either way, and time must not go back.
        c::CLOCK_REALTIME_COARSE => Ok(host::time::realtime_coarse_ns()),
        c::CLOCK_MONOTONIC_COARSE => Ok(host::time::monotonic_coarse_ns()),
        c::CLOCK_MONOTONIC_RAW => Ok(host::time::monotonic_raw_ns()),
        c::CLOCK_TAI => Ok(host::time::tai_ns()),
        c::CLOCK_PROCESS_CPUTIME_ID => Ok(t.process.cpu_ns()),
        c::CLOCK_THREAD_CPUTIME_ID => Ok(t.cpu_ns()),
        // The CPU clock of another process, as clock_getcpuclockid(3) makes them.
        id if id < 0 && id & 7 == 2 => {
            let pid = !(id >> 3);
            match if pid == 0 { Some(t.process.clone()) } else { t.kernel.process(pid) } {
                Some(p) => Ok(p.cpu_ns()),
                None => Err(Errno::EINVAL),
            }
        }
        id if id < 0 && id & 7 == 6 => Ok(t.cpu_ns()),
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
pub fn clock_settime(t: &Rc<Task>, id: i32, _new: UserIn<Timespec>) -> Result {
    clock(t, id)?;
    Err(Errno::EPERM)
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
    if id == c::CLOCK_THREAD_CPUTIME_ID {
        return Err(Errno::EOPNOTSUPP);
    }
    let now = clock(t, id)?;
    let ns = req.get(&*t.mem())?.ns()?;
    let mono = host::time::monotonic_ns();
    if flags.bits() & c::TIMER_ABSTIME != 0 {
        sleep_until(t, mono.saturating_add(ns.saturating_sub(now)), None).await
    } else {
        sleep_until(t, mono.saturating_add(ns), Some(rem)).await
    }
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
