//! Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), ioctl_pidfd(2).
use crate::args::{Fd, Flags};
use abi::signal::SigInfo;
use abi::sys::PidfdInfo;
use abi::{Errno, Result, c};
use guest::{UserIn, UserOut};
use std::rc::Rc;
use task::ns::{Namespace, NsFile};
use task::pidfd::{PidFd, THREAD};
use task::{Process, Task};

/// The process behind a descriptor, to be waited for. EBADF: it is not a pidfd; ESRCH: the process has been waited for, or it is
/// one of its threads.
pub(crate) fn process(t: &Task, fd: i32) -> Result<Rc<Process>> {
    let f = t.files()?.get(fd)?;
    let p = f.downcast::<PidFd>().ok_or(Errno::EBADF)?;
    p.process().filter(|_| !p.is_thread()).cloned().ok_or(Errno::ESRCH)
}

pub fn pidfd_open(t: &Rc<Task>, pid: i32, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::O_NONBLOCK | THREAD)?;
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let f = match (t.find_process(pid), t.find_task(pid)) {
        (_, Some(thread)) if flags & THREAD != 0 => task::pidfd::of_thread(&thread, flags),
        (Some(p), _) if flags & THREAD == 0 => task::pidfd::pidfd(&p, flags),
        // Linux 6.12 says EINVAL of a thread, later ones ENOENT.
        (_, Some(_)) => return Err(Errno::EINVAL),
        _ => return Err(Errno::ESRCH),
    };
    crate::fd::install(t, f, c::O_CLOEXEC)
}

/// pidfd_send_signal(2). `flags`: to whom, of those the descriptor stands for; one of PIDFD_SIGNAL_*, or by its kind.
pub fn pidfd_send_signal(t: &Rc<Task>, fd: Fd, sig: i32, info: UserIn<SigInfo>, flags: Flags) -> Result {
    const TO_THREAD: i32 = 1;
    const TO_PROCESS: i32 = 2;
    const TO_GROUP: i32 = 4;
    let flags = flags.only(TO_THREAD | TO_PROCESS | TO_GROUP)?;
    if flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let f = t.files()?.get(fd.0)?;
    let (to, thread) = match f.downcast::<PidFd>() {
        Some(p) => (p.number(), p.is_thread()),
        // Before there were pidfds, /proc/PID stood for the process; it still does here.
        None => {
            let (pid, began) = fs::proc::process(&f).ok_or(Errno::EBADF)?;
            (t.find_process(pid).filter(|p| p.started == began).map(|p| p.pid), false)
        }
    };
    let scope = match flags {
        0 if thread => TO_THREAD,
        0 => TO_PROCESS,
        said => said,
    };
    if !(0..=64).contains(&sig) {
        return Err(Errno::EINVAL);
    }
    let info = match info.get_opt(&*t.mem())? {
        None => {
            let code = if scope == TO_THREAD { c::SI_TKILL } else { c::SI_USER };
            SigInfo::from_user(sig, code, t.process.pid, t.cred().ruid)
        }
        Some(i) if i.signo != sig => return Err(Errno::EINVAL),
        Some(i) => {
            let own = scope != TO_GROUP && to.is_some_and(|n| n == t.tid);
            if !own && (i.code >= 0 || i.code == c::SI_TKILL) {
                return Err(Errno::EPERM);
            }
            i
        }
    };
    let to = to.ok_or(Errno::ESRCH)?;
    match scope {
        TO_GROUP => t.kernel.kill(t, -to, info),
        // A zombie has no thread to tell.
        TO_THREAD if t.find_task(to).is_some() => crate::signal::to_thread(t, None, to, info),
        _ => t.kernel.kill(t, to, info),
    }
}

/// ioctl_pidfd(2): what the process is, and its namespaces.
pub fn ioctl(t: &Rc<Task>, of: &PidFd, cmd: u32, arg: u64) -> Result<i64> {
    /// _IOC_TYPE.
    const PIDFS: u32 = 0xff;
    const GET_INFO: u32 = 11;
    /// _IO and _IOWR.
    const PLAIN: u32 = 0;
    const BOTH: u32 = 3;
    /// By their numbers, from 1 on, as in /proc/PID/ns.
    const NAMES: [&str; 10] =
        ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];
    let (way, size, kind, nr) = (cmd >> 30, (cmd >> 16 & 0x3fff) as usize, cmd >> 8 & 0xff, cmd & 0xff);
    match (kind, way, nr) {
        (PIDFS, BOTH, GET_INFO) => info(t, of, arg, size).map(|()| 0),
        (PIDFS, PLAIN, 1..=10) if size == 0 => {
            if arg != 0 {
                return Err(Errno::EINVAL);
            }
            let who = of.task().ok_or(Errno::ESRCH)?;
            if !t.may_access(&who, false) {
                return Err(Errno::EACCES);
            }
            let ns = Namespace::of(&who, NAMES[nr as usize - 1]).ok_or(Errno::EOPNOTSUPP)?;
            crate::fd::install(t, NsFile::open(ns), c::O_CLOEXEC).map(i64::from)
        }
        _ => Err(Errno::ENOTTY),
    }
}

/// PIDFD_GET_INFO. How it ended is told to who asks, once it has been waited for. Control groups are not told.
fn info(t: &Task, of: &PidFd, arg: u64, size: usize) -> Result {
    const PID: u64 = 1;
    const CREDS: u64 = 2;
    const EXIT: u64 = 8;
    let mem = t.mem();
    if arg == 0 || size < size_of::<PidfdInfo>() {
        return Err(Errno::EINVAL);
    }
    let asked = UserIn::<u64>::new(arg).get(&*mem)?;
    let mut told = PidfdInfo::default();
    if let Some(status) = of.ended().filter(|_| asked & EXIT != 0) {
        (told.mask, told.exit_code) = (EXIT, status.word());
    }
    if let (Some(number), Some(p)) = (of.number(), of.process()) {
        if t.find_process(p.pid).is_none() {
            return Err(Errno::ESRCH);
        }
        (told.pid, told.tgid, told.ppid) = (number as u32, p.pid as u32, p.ppid() as u32);
        told.mask |= PID;
        if let Some(who) = of.task() {
            let (c, ns) = (who.cred(), t.cred().user_ns.clone());
            let pair = |uid, gid| [ns.show_user(uid), ns.show_group(gid)];
            let all = [pair(c.ruid, c.rgid), pair(c.euid, c.egid), pair(c.suid, c.sgid), pair(c.fsuid, c.fsgid)];
            told.ids.copy_from_slice(all.as_flattened());
            told.mask |= CREDS;
        }
    } else if told.mask == 0 {
        return Err(Errno::ESRCH);
    }
    UserOut::new(arg).put_sized(&*mem, size, &told)
}

/// pidfd_getfd(2): EPERM unless the caller might trace the process.
pub fn pidfd_getfd(t: &Rc<Task>, pidfd: Fd, target: Fd, flags: Flags) -> Result<i32> {
    flags.only(0)?;
    let f = t.files()?.get(pidfd.0)?;
    let of = f.downcast::<PidFd>().ok_or(Errno::EBADF)?.task().ok_or(Errno::ESRCH)?;
    if !t.may_access(&of, true) {
        return Err(Errno::EPERM);
    }
    let f = of.files().map_err(|_| Errno::ESRCH)?.get(target.0)?;
    crate::fd::install(t, f, c::O_CLOEXEC)
}
