//! Scheduling beyond the classic calls: sched_setattr(2), ioprio_set(2). Kept, without effect.
use crate::args::Flags;
use abi::sys::SchedAttr;
use abi::{Errno, Result};
use guest::{UserInOut, UserOut};
use kernel::cred::{CAP_SYS_ADMIN, CAP_SYS_NICE};
use std::rc::Rc;
use task::{Process, Task};

/// Bytes of the first `struct sched_attr`, and of ours.
const FIRST: u32 = 48;
const OURS: u32 = size_of::<SchedAttr>() as u32;

fn process(t: &Rc<Task>, pid: i32) -> Result<Rc<Process>> {
    match pid {
        0 => Ok(t.process.clone()),
        p if p < 0 => Err(Errno::EINVAL),
        p => t.kernel.task(p).map(|t| t.process.clone()).ok_or(Errno::ESRCH),
    }
}

pub fn sched_getattr(t: &Rc<Task>, pid: i32, out: UserOut<SchedAttr>, size: u32, flags: Flags) -> Result {
    if out.is_null() || !(FIRST..=4096).contains(&size) {
        return Err(Errno::EINVAL);
    }
    flags.only(0)?;
    let size = size.min(OURS);
    let a = SchedAttr { size, nice: process(t, pid)?.nice.get(), ..SchedAttr::default() };
    t.mem().write(out.addr(), &zerocopy::IntoBytes::as_bytes(&a)[..size as usize])
}

/// sched_setattr(2): the ordinary policies; the others need rights that nobody has here.
pub fn sched_setattr(t: &Rc<Task>, pid: i32, attr: UserInOut<u32>, flags: Flags) -> Result {
    if attr.is_null() {
        return Err(Errno::EINVAL);
    }
    flags.only(0)?;
    let mem = t.mem();
    let size = match attr.get(&*mem)? {
        0 => FIRST,
        s => s,
    };
    if !(FIRST..=4096).contains(&size) {
        attr.put(&*mem, &OURS)?;
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0u8; size.max(OURS) as usize];
    mem.read(attr.addr(), &mut bytes[..size as usize])?;
    if bytes[OURS as usize..].iter().any(|b| *b != 0) {
        attr.put(&*mem, &OURS)?;
        return Err(Errno::E2BIG);
    }
    let a: SchedAttr = zerocopy::FromBytes::read_from_bytes(&bytes[..OURS as usize]).map_err(|_| Errno::EINVAL)?;
    let p = process(t, pid)?;
    match a.policy {
        0 | 3 | 5 if a.priority == 0 => {}
        1 | 2 if (1..=99).contains(&a.priority) => return Err(Errno::EPERM),
        6 => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let nice = a.nice.clamp(-20, 19);
    if nice < p.nice.get() && !t.cred().has(CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    p.nice.set(nice);
    Ok(())
}

/// The processes of ioprio_set(2): its kinds count from 1 where those of setpriority(2) count from 0.
fn named(t: &Rc<Task>, which: i32, who: i32) -> Result<Vec<Rc<Process>>> {
    crate::misc::ranked(t, which.checked_sub(1).ok_or(Errno::EINVAL)?, who)
}

pub fn ioprio_get(t: &Rc<Task>, which: i32, who: i32) -> Result<i32> {
    // The best of several: the lowest number, where no priority at all counts as the middle one.
    const MIDDLE: i32 = 2 << 13 | 4;
    let all = named(t, which, who)?;
    let best = all.iter().map(|p| p.ioprio.get()).min_by_key(|p| if *p == 0 { MIDDLE } else { *p });
    Ok(best.unwrap_or(0))
}

pub fn ioprio_set(t: &Rc<Task>, which: i32, who: i32, value: i32) -> Result {
    match value >> 13 {
        0 if value == 0 => {}
        1 if t.cred().has(CAP_SYS_NICE) || t.cred().has(CAP_SYS_ADMIN) => {}
        1 => return Err(Errno::EPERM),
        2 | 3 => {}
        _ => return Err(Errno::EINVAL),
    }
    for p in named(t, which, who)? {
        p.ioprio.set(value);
    }
    Ok(())
}
