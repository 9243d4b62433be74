//! Filters on one's own system calls: seccomp(2), prctl(PR_SET_SECCOMP).
use crate::args::{Addr, Flags};
use abi::seccomp::Insn;
use abi::{Errno, Result, c};
use guest::UserIn;
use kernel::cred::{CAP_SYS_ADMIN, Cred};
use kernel::seccomp::{self, Filter, Seccomp};
use std::rc::Rc;
use task::Task;
use zerocopy::FromBytes;

/// Sizes of `struct seccomp_notif`, `seccomp_notif_resp` and `seccomp_data`.
const NOTIF_SIZES: [u16; 3] = [80, 24, 64];
const PROGRAM_MAX: usize = 4096;

pub fn seccomp(t: &Rc<Task>, op: u32, flags: Flags, args: Addr) -> Result<i64> {
    match op {
        c::SECCOMP_SET_MODE_STRICT if flags.0 != 0 || args.0 != 0 => Err(Errno::EINVAL),
        c::SECCOMP_SET_MODE_STRICT => strict(t),
        c::SECCOMP_SET_MODE_FILTER => filter(t, flags, args.0),
        c::SECCOMP_GET_ACTION_AVAIL if flags.0 != 0 => Err(Errno::EINVAL),
        c::SECCOMP_GET_ACTION_AVAIL => match UserIn::<u32>::new(args.0).get(&*t.mem())? {
            seccomp::RET_KILL_PROCESS
            | seccomp::RET_KILL_THREAD
            | seccomp::RET_TRAP
            | seccomp::RET_ERRNO
            | seccomp::RET_TRACE
            | seccomp::RET_LOG
            | seccomp::RET_ALLOW => Ok(0),
            _ => Err(Errno::EOPNOTSUPP),
        },
        c::SECCOMP_GET_NOTIF_SIZES if flags.0 != 0 => Err(Errno::EINVAL),
        c::SECCOMP_GET_NOTIF_SIZES => {
            let bytes: Vec<u8> = NOTIF_SIZES.iter().flat_map(|s| s.to_ne_bytes()).collect();
            t.mem().write(args.0, &bytes).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(PR_SET_SECCOMP).
pub(crate) fn set(t: &Rc<Task>, mode: u64, args: u64) -> Result<i64> {
    match mode {
        1 => strict(t),
        2 => filter(t, Flags(0), args),
        _ => Err(Errno::EINVAL),
    }
}

fn strict(t: &Rc<Task>) -> Result<i64> {
    if matches!(*t.seccomp.borrow(), Seccomp::Filtered(_)) {
        return Err(Errno::EINVAL);
    }
    t.set_seccomp(Seccomp::Strict);
    Ok(0)
}

fn filter(t: &Rc<Task>, flags: Flags, args: u64) -> Result<i64> {
    const TSYNC: u32 = c::SECCOMP_FILTER_FLAG_TSYNC as u32;
    const LOG: u32 = c::SECCOMP_FILTER_FLAG_LOG as u32;
    const TSYNC_ESRCH: u32 = c::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
    // What spares a mitigation of the processor's is taken, and changes nothing. There are no listeners.
    let known = TSYNC | LOG | TSYNC_ESRCH | c::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    if flags.0 & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    let [len, at] = UserIn::<[u64; 2]>::new(args).get(&*mem)?;
    let len = len as u16 as usize;
    if len == 0 || len > PROGRAM_MAX {
        return Err(Errno::EINVAL);
    }
    let cred = t.cred();
    if !cred.no_new_privs && !cred.has_own(CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let mut bytes = vec![0u8; len * size_of::<Insn>()];
    mem.read(at, &mut bytes)?;
    let program = <[Insn]>::ref_from_bytes(&bytes).map_or_else(|_| Vec::new(), <[Insn]>::to_vec);
    let before = match &*t.seccomp.borrow() {
        Seccomp::Strict => return Err(Errno::EINVAL),
        s => s.filter(),
    };
    if flags.0 & TSYNC != 0
        && let Some(tid) = ahead(t, before.as_ref())
    {
        return if flags.0 & TSYNC_ESRCH != 0 { Err(Errno::ESRCH) } else { Ok(tid as i64) };
    }
    let new = Filter::new(program, before, flags.0 & LOG != 0)?;
    if flags.0 & TSYNC != 0 {
        for other in t.process.threads() {
            if cred.no_new_privs && !other.cred().no_new_privs {
                let mut own = Cred::clone(&other.cred());
                own.no_new_privs = true;
                other.set_cred(own);
            }
            other.set_seccomp(Seccomp::Filtered(new.clone()));
        }
    }
    t.set_seccomp(Seccomp::Filtered(new));
    Ok(0)
}

/// A thread of the process whose filters are not among the caller's.
fn ahead(t: &Rc<Task>, own: Option<&Rc<Filter>>) -> Option<i32> {
    let fits = |other: &Rc<Task>| match &*other.seccomp.borrow() {
        Seccomp::Off => true,
        Seccomp::Strict => false,
        Seccomp::Filtered(f) => own.is_some_and(|o| o.includes(f)),
    };
    t.process.threads().iter().find(|other| !Rc::ptr_eq(other, t) && !fits(other)).map(|other| other.tid)
}
