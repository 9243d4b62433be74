//! Host clocks, read through the vDSO.
use rustix::time::{ClockId, clock_gettime};

fn ns(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    ns(ClockId::Monotonic)
}

/// CLOCK_REALTIME in nanoseconds since the epoch.
pub fn realtime_ns() -> u64 {
    ns(ClockId::Realtime)
}

/// CLOCK_BOOTTIME in nanoseconds: monotonic, and counting while the host is suspended.
pub fn boottime_ns() -> u64 {
    ns(ClockId::Boottime)
}

/// CLOCK_TAI in nanoseconds.
pub fn tai_ns() -> u64 {
    of(libc::CLOCK_TAI).unwrap_or_else(|_| realtime_ns())
}

/// Any of the host's clocks, nanoseconds: CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE ...
pub fn of(id: i32) -> abi::Result<u64> {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is valid for writing.
    if unsafe { libc::clock_gettime(id, &mut ts) } < 0 {
        return Err(abi::Errno::EINVAL);
    }
    Ok(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
}

/// CPU time a process has used, nanoseconds. ESRCH if it is gone.
pub fn process_cpu_ns(pid: i32) -> abi::Result<u64> {
    // The clock id that clock_getcpuclockid(3) makes: CPUCLOCK_SCHED of the process.
    if pid <= 0 { Err(abi::Errno::ESRCH) } else { of((!pid << 3) | 2).or(Err(abi::Errno::ESRCH)) }
}

/// Memory of the host and what is free of it, bytes: sysinfo(2).
pub fn memory() -> (u64, u64) {
    let s = rustix::system::sysinfo();
    let unit = s.mem_unit as u64;
    (s.totalram as u64 * unit, s.freeram as u64 * unit)
}
