//! The end, and waiting for it: exit(2), exit_group(2), wait4(2), waitid(2).
use crate::args::Flags;
use abi::signal::SigInfo;
use abi::sys::{Rusage, Timeval};
use abi::{Errno, Result, c};
use guest::UserOut;
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::{ExitStatus, Outcome, Process, Task, WaitFor, Waited};

pub fn exit(t: &Rc<Task>, code: i32) -> Result {
    t.exit_code.set(ExitStatus::Exited(code as u8));
    t.exiting.set(true);
    t.outcome.set(Outcome::Exit);
    Ok(())
}

pub fn exit_group(t: &Rc<Task>, code: i32) -> Result {
    t.process.exit_group(ExitStatus::Exited(code as u8));
    t.outcome.set(Outcome::Exit);
    Ok(())
}

fn usage(p: &Process) -> Rusage {
    Rusage { utime: Timeval::from_ns(p.cpu_ns() + p.child_cpu.get()), ..Rusage::default() }
}

async fn wait_child(t: &Rc<Task>, which: WaitFor, options: i32) -> Result<Option<Waited>> {
    let p = t.process.clone();
    if let Some(w) = {
        if !p.has_child(which) {
            return Err(Errno::ECHILD);
        }
        let looked = p.wait_look(which, options | c::WNOWAIT);
        if looked.is_some() || options & c::WNOHANG != 0 { Some(looked) } else { None }
    } {
        return match w {
            Some(_) => {
                wait::settle().await;
                Ok(p.wait_look(which, options))
            }
            None => Ok(None),
        };
    }
    let found = wait::until(&[&p.child_wait], None, || match p.wait_look(which, options) {
        Some(w) => Some(Ok(w)),
        None if !p.has_child(which) => Some(Err(Errno::ECHILD)),
        None => None,
    })
    .await;
    match found {
        Ok(r) => r.map(Some),
        Err(Stop::Interrupted | Stop::TimedOut) => Err(Errno::ERESTARTSYS),
    }
}

fn which(t: &Task, pid: i32) -> WaitFor {
    match pid {
        -1 => WaitFor::Any,
        0 => WaitFor::Group(t.process.pgid.get()),
        p if p < -1 => WaitFor::Group(p.wrapping_neg()),
        p => WaitFor::Pid(p),
    }
}

pub async fn wait4(
    t: &Rc<Task>,
    pid: i32,
    status: UserOut<i32>,
    options: Flags,
    rusage: UserOut<Rusage>,
) -> Result<i32> {
    const OTHERS: i32 = c::__WNOTHREAD | c::__WCLONE | c::__WALL;
    let options = options.only(c::WNOHANG | c::WUNTRACED | c::WCONTINUED | OTHERS)?;
    if pid == i32::MIN {
        return Err(Errno::ESRCH);
    }
    let found = wait_child(t, which(t, pid), (options & !OTHERS) | c::WEXITED).await?;
    let mem = t.mem();
    let (p, word) = match found {
        None => return Ok(0),
        Some(Waited::Exited(p, s)) => (p, s.word()),
        Some(Waited::Stopped(p, sig)) => (p, sig << 8 | 0x7f),
        Some(Waited::Continued(p)) => (p, 0xffff),
    };
    status.put_opt(&*mem, &word)?;
    rusage.put_opt(&*mem, &usage(&p))?;
    Ok(p.pid)
}

pub async fn waitid(
    t: &Rc<Task>,
    kind: i32,
    id: i32,
    info: UserOut<SigInfo>,
    options: Flags,
    rusage: UserOut<Rusage>,
) -> Result {
    const OTHERS: i32 = c::__WNOTHREAD | c::__WCLONE | c::__WALL;
    const STATES: i32 = c::WEXITED | c::WSTOPPED | c::WCONTINUED;
    let options = options.only(c::WNOHANG | c::WNOWAIT | STATES | OTHERS)? & !OTHERS;
    if options & STATES == 0 {
        return Err(Errno::EINVAL);
    }
    let gone = |e| if e == Errno::ESRCH { Errno::ECHILD } else { e };
    let which = match kind as u32 {
        c::P_ALL => WaitFor::Any,
        c::P_PID if id > 0 => WaitFor::Pid(id),
        c::P_PGID if id >= 0 => WaitFor::Group(if id == 0 { t.process.pgid.get() } else { id }),
        c::P_PIDFD if id >= 0 => WaitFor::Pid(crate::pidfd::process(t, id).map_err(gone)?.pid),
        _ => return Err(Errno::EINVAL),
    };
    // PIDFD_NONBLOCK: a wait that would last is EAGAIN.
    let impatient = kind as u32 == c::P_PIDFD && options & c::WNOHANG == 0 && t.files()?.get(id)?.nonblocking();
    let found = wait_child(t, which, if impatient { options | c::WNOHANG } else { options }).await?;
    if impatient && found.is_none() {
        return Err(Errno::EAGAIN);
    }
    let mem = t.mem();
    let uid = |p: &Process| p.leader().map_or(0, |l| l.cred().ruid);
    let (p, si) = match found {
        None => {
            return if info.is_null() { Ok(()) } else { mem.write(info.addr(), &[0; 128]) };
        }
        Some(Waited::Exited(p, s)) => {
            let (code, status) = s.siginfo();
            let si = SigInfo::child(code, p.pid, uid(&p), status);
            (p, si)
        }
        Some(Waited::Stopped(p, sig)) => {
            let si = SigInfo::child(c::CLD_STOPPED, p.pid, uid(&p), sig);
            (p, si)
        }
        Some(Waited::Continued(p)) => {
            let si = SigInfo::child(c::CLD_CONTINUED, p.pid, uid(&p), c::SIGCONT);
            (p, si)
        }
    };
    info.put_opt(&*mem, &si)?;
    rusage.put_opt(&*mem, &usage(&p))
}
