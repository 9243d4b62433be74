//! Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).
use crate::args::{Fd, Flags};
use abi::signal::SigInfo;
use abi::{Errno, Result, c};
use guest::UserIn;
use std::rc::Rc;
use task::pidfd::PidFd;
use task::{Process, Task};

/// The process behind a descriptor. EBADF: it is not a pidfd; ESRCH: the process has been waited for.
pub(crate) fn process(t: &Task, fd: i32) -> Result<Rc<Process>> {
    let f = t.files()?.get(fd)?;
    let p = f.downcast::<PidFd>().ok_or(Errno::EBADF)?;
    p.process().cloned().ok_or(Errno::ESRCH)
}

pub fn pidfd_open(t: &Rc<Task>, pid: i32, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::O_NONBLOCK)?;
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    match t.find_process(pid) {
        Some(p) => crate::fd::install(t, task::pidfd::pidfd(&p, flags), c::O_CLOEXEC),
        None if t.find_task(pid).is_some() => Err(Errno::EINVAL),
        None => Err(Errno::ESRCH),
    }
}

pub fn pidfd_send_signal(t: &Rc<Task>, fd: Fd, sig: i32, info: UserIn<SigInfo>, flags: Flags) -> Result {
    flags.only(0)?;
    let f = t.files()?.get(fd.0)?;
    let to = match f.downcast::<PidFd>() {
        Some(p) => p.process().cloned(),
        // Before there were pidfds, /proc/PID stood for the process; it still does here.
        None => {
            let (pid, began) = fs::proc::process(&f).ok_or(Errno::EBADF)?;
            t.find_process(pid).filter(|p| p.started == began)
        }
    };
    if !(0..=64).contains(&sig) {
        return Err(Errno::EINVAL);
    }
    let info = match info.get_opt(&*t.mem())? {
        None => SigInfo::from_user(sig, c::SI_USER, t.process.pid, t.cred().ruid),
        Some(i) if i.signo != sig => return Err(Errno::EINVAL),
        Some(i) => {
            let own = to.as_ref().is_some_and(|p| Rc::ptr_eq(p, &t.process));
            if !own && (i.code >= 0 || i.code == c::SI_TKILL) {
                return Err(Errno::EPERM);
            }
            i
        }
    };
    let pid = to.ok_or(Errno::ESRCH)?.pid;
    t.kernel.kill(t, pid, info)
}

/// pidfd_getfd(2): EPERM unless the caller might trace the process.
pub fn pidfd_getfd(t: &Rc<Task>, pidfd: Fd, target: Fd, flags: Flags) -> Result<i32> {
    flags.only(0)?;
    let of = process(t, pidfd.0)?.leader().ok_or(Errno::ESRCH)?;
    if !t.may_access(&of, true) {
        return Err(Errno::EPERM);
    }
    let f = of.files().map_err(|_| Errno::ESRCH)?.get(target.0)?;
    crate::fd::install(t, f, c::O_CLOEXEC)
}
