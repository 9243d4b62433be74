//! How much of the processor a thread gets: sched_*(2), getpriority(2), ioprio_set(2). Kept and told, not acted on:
//! the host schedules.
use crate::args::{InBuf, OutBuf};
use abi::sys::Timespec;
use abi::{Errno, Result};
use guest::{UserIn, UserOut};
use kernel::cred::CAP_SYS_NICE;
use std::rc::Rc;
use task::{Process, Task};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub fn sched_getaffinity(t: &Rc<Task>, pid: i32, len: usize, mask: OutBuf<1>) -> Result<usize> {
    if len < 8 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let who = if pid == 0 { t.clone() } else { t.find_task(pid).ok_or(Errno::ESRCH)? };
    t.mem().write(mask.0, &who.affinity.get().to_ne_bytes())?;
    Ok(8)
}
pub fn sched_setaffinity(t: &Rc<Task>, pid: i32, len: usize, mask: InBuf<1>) -> Result {
    let mut b = [0u8; 8];
    let n = len.min(8);
    t.mem().read(mask.0, &mut b[..n])?;
    let who = if pid == 0 { t.clone() } else { t.find_task(pid).ok_or(Errno::ESRCH)? };
    may_change(t, &who)?;
    let left = u64::from_ne_bytes(b) & t.kernel.config.all_cpus();
    if left == 0 {
        return Err(Errno::EINVAL);
    }
    who.affinity.set(left);
    Ok(())
}

/// The thread that `pid` means.
fn target(t: &Rc<Task>, pid: i32) -> Result<Rc<Task>> {
    match pid {
        p if p < 0 => Err(Errno::EINVAL),
        0 => Ok(t.clone()),
        p => t.find_task(p).ok_or(Errno::ESRCH),
    }
}

/// EPERM unless it is the caller's user's, or the caller may change anyone's.
fn may_change(t: &Task, who: &Task) -> Result {
    let cred = t.cred();
    if cred.same_user(&who.cred()) || cred.has_in(&who.cred().user_ns, CAP_SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

const SCHED_OTHER: i32 = 0;
const SCHED_FIFO: i32 = 1;
const SCHED_RR: i32 = 2;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;
const SCHED_DEADLINE: i32 = 6;
const SCHED_RESET_ON_FORK: i32 = 0x4000_0000;

/// Real-time policies are refused to everyone: that nobody else runs meanwhile is not ours to promise. Who has asked for
/// SCHED_RESET_ON_FORK needs privilege to get out of it.
fn set_policy(t: &Task, who: &Task, policy: i32, priority: i32, reset_on_fork: bool) -> Result {
    match policy {
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE if priority == 0 => {
            may_change(t, who)?;
            if who.reset_on_fork.get() && !reset_on_fork && !t.cred().has(CAP_SYS_NICE) {
                return Err(Errno::EPERM);
            }
            who.policy.set(policy);
            who.reset_on_fork.set(reset_on_fork);
            Ok(())
        }
        SCHED_FIFO | SCHED_RR if (1..=99).contains(&priority) => Err(Errno::EPERM),
        SCHED_DEADLINE if priority == 0 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_getscheduler(t: &Rc<Task>, pid: i32) -> Result<i32> {
    let who = target(t, pid)?;
    Ok(who.policy.get() | if who.reset_on_fork.get() { SCHED_RESET_ON_FORK } else { 0 })
}
pub fn sched_setscheduler(t: &Rc<Task>, pid: i32, policy: i32, param: UserIn<i32>) -> Result {
    if param.is_null() || pid < 0 || policy < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = param.get(&*t.mem())?;
    let who = target(t, pid)?;
    set_policy(t, &who, policy & !SCHED_RESET_ON_FORK, priority, policy & SCHED_RESET_ON_FORK != 0)
}
pub fn sched_getparam(t: &Rc<Task>, pid: i32, out: UserOut<i32>) -> Result {
    if out.is_null() {
        return Err(Errno::EINVAL);
    }
    target(t, pid)?;
    out.put(&*t.mem(), &0)
}
pub fn sched_setparam(t: &Rc<Task>, pid: i32, param: UserIn<i32>) -> Result {
    if param.is_null() || pid < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = param.get(&*t.mem())?;
    let who = target(t, pid)?;
    set_policy(t, &who, who.policy.get(), priority, who.reset_on_fork.get())
}

/// `struct sched_attr`, the first version.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}
const FLAG_RESET_ON_FORK: u64 = 1;
const ATTR_SIZE: u32 = size_of::<SchedAttr>() as u32;

pub fn sched_setattr(t: &Rc<Task>, pid: i32, attr: UserIn<SchedAttr>, flags: u32) -> Result {
    if attr.is_null() || pid < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    let size = UserIn::<u32>::new(attr.addr()).get(&*mem)?;
    if size != 0 && !(ATTR_SIZE..=4096).contains(&size) {
        UserOut::<u32>::new(attr.addr()).put(&*mem, &ATTR_SIZE)?;
        return Err(Errno::E2BIG);
    }
    let a = attr.get(&*mem)?;
    let policy = i32::try_from(a.policy).map_err(|_| Errno::EINVAL)?;
    let who = target(t, pid)?;
    if a.flags & !FLAG_RESET_ON_FORK != 0 {
        return Err(Errno::EINVAL);
    }
    let nice = a.nice.clamp(-20, 19);
    if policy == SCHED_OTHER && nice < who.process.nice.get() && !t.cred().has(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let priority = i32::try_from(a.priority).map_err(|_| Errno::EINVAL)?;
    set_policy(t, &who, policy, priority, a.flags == FLAG_RESET_ON_FORK)?;
    if matches!(policy, SCHED_OTHER | SCHED_BATCH) {
        who.process.nice.set(nice);
    }
    Ok(())
}

pub fn sched_getattr(t: &Rc<Task>, pid: i32, out: UserOut<SchedAttr>, size: u32, flags: u32) -> Result {
    if out.is_null() || pid < 0 || flags != 0 || !(ATTR_SIZE..=4096).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let who = target(t, pid)?;
    let (policy, nice) = (who.policy.get() as u32, who.process.nice.get());
    let flags = if who.reset_on_fork.get() { FLAG_RESET_ON_FORK } else { 0 };
    out.put(&*t.mem(), &SchedAttr { size: ATTR_SIZE, policy, flags, nice, ..SchedAttr::default() })
}

pub fn sched_get_priority_max(_t: &Rc<Task>, policy: i32) -> Result<i32> {
    match policy {
        1 | 2 => Ok(99),
        0 | 3 | 5 | 6 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
pub fn sched_get_priority_min(_t: &Rc<Task>, policy: i32) -> Result<i32> {
    match policy {
        1 | 2 => Ok(1),
        0 | 3 | 5 | 6 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
pub fn sched_rr_get_interval(t: &Rc<Task>, pid: i32, out: UserOut<Timespec>) -> Result {
    target(t, pid)?;
    out.put(&*t.mem(), &Timespec::default())
}

/// The processes that `which` and `who` name.
fn ranked(t: &Task, which: i32, who: i32) -> Result<Vec<Rc<Process>>> {
    const PRIO_PROCESS: i32 = 0;
    const PRIO_PGRP: i32 = 1;
    const PRIO_USER: i32 = 2;
    let uid = if who == 0 { t.cred().ruid } else { who as u32 };
    let found = match which {
        PRIO_PROCESS if who == 0 => vec![t.process.clone()],
        PRIO_PROCESS => t.find_task(who).map(|t| t.process.clone()).into_iter().collect(),
        PRIO_PGRP => t.find_group(if who == 0 { t.process.pgid.get() } else { who }),
        PRIO_USER => {
            t.all_processes().into_iter().filter(|p| p.leader().is_some_and(|l| l.cred().ruid == uid)).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

/// The call's own result counts from 20 (nice 0) to 40 (nice -20).
pub fn getpriority(t: &Rc<Task>, which: i32, who: i32) -> Result<i32> {
    let lowest = ranked(t, which, who)?.iter().map(|p| p.nice.get()).min();
    Ok(20 - lowest.unwrap_or(0))
}
pub fn setpriority(t: &Rc<Task>, which: i32, who: i32, nice: i32) -> Result {
    let nice = nice.clamp(-20, 19);
    for p in ranked(t, which, who)? {
        if let Some(leader) = p.leader() {
            may_change(t, &leader)?;
        }
        if nice < p.nice.get() && !t.cred().has(CAP_SYS_NICE) {
            return Err(Errno::EACCES);
        }
        p.nice.set(nice);
    }
    Ok(())
}

/// What `which` and `who` name, as for [`getpriority`], but counted from 1.
fn io_ranked(t: &Task, which: i32, who: i32) -> Result<Vec<Rc<Process>>> {
    if (1..=3).contains(&which) { ranked(t, which - 1, who) } else { Err(Errno::EINVAL) }
}

const IOPRIO_CLASS_SHIFT: i32 = 13;
const IOPRIO_CLASS_NONE: i32 = 0;
const IOPRIO_CLASS_RT: i32 = 1;
const IOPRIO_CLASS_BE: i32 = 2;
const IOPRIO_CLASS_IDLE: i32 = 3;

pub fn ioprio_get(t: &Rc<Task>, which: i32, who: i32) -> Result<i32> {
    Ok(io_ranked(t, which, who)?.iter().map(|p| p.io_priority.get()).min().unwrap_or(0))
}
pub fn ioprio_set(t: &Rc<Task>, which: i32, who: i32, priority: i32) -> Result {
    // Above the level there are hints, which only advise.
    let level = priority & 7;
    match priority >> IOPRIO_CLASS_SHIFT {
        IOPRIO_CLASS_RT if !t.cred().has(CAP_SYS_NICE) => return Err(Errno::EPERM),
        IOPRIO_CLASS_RT | IOPRIO_CLASS_BE | IOPRIO_CLASS_IDLE => {}
        IOPRIO_CLASS_NONE if level == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    for p in io_ranked(t, which, who)? {
        if let Some(leader) = p.leader() {
            may_change(t, &leader)?;
        }
        p.io_priority.set(priority);
    }
    Ok(())
}
