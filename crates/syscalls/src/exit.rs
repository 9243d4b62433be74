//! The end, and waiting for it: exit(2), exit_group(2), wait4(2), waitid(2).
use crate::args::Flags;
use abi::signal::SigInfo;
use abi::sys::{Rusage, Timeval};
use abi::{Errno, Result, c};
use guest::UserOut;
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::{Change, ExitStatus, Outcome, Process, Task, WaitFor, Waited};

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
        if !p.has_child(which, options) {
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
        None if !p.has_child(which, options) => Some(Err(Errno::ECHILD)),
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

/// Kinds of children. Those of all threads are waited for, whatever __WNOTHREAD says.
const OTHERS: i32 = c::__WNOTHREAD | c::__WCLONE | c::__WALL;

pub async fn wait4(
    t: &Rc<Task>,
    pid: i32,
    status: UserOut<i32>,
    options: Flags,
    rusage: UserOut<Rusage>,
) -> Result<i32> {
    let options = options.only(c::WNOHANG | c::WUNTRACED | c::WCONTINUED | OTHERS)?;
    if pid == i32::MIN {
        return Err(Errno::ESRCH);
    }
    let Some(w) = wait_child(t, which(t, pid), options | c::WEXITED).await? else { return Ok(0) };
    let mem = t.mem();
    let word = match w.change {
        Change::Exited(s) => s.word(),
        Change::Stopped(code) | Change::Trapped(code) => code << 8 | 0x7f,
        Change::Continued => 0xffff,
    };
    status.put_opt(&*mem, &word)?;
    rusage.put_opt(&*mem, &usage(&w.process))?;
    Ok(w.pid)
}

pub async fn waitid(
    t: &Rc<Task>,
    kind: i32,
    id: i32,
    info: UserOut<SigInfo>,
    options: Flags,
    rusage: UserOut<Rusage>,
) -> Result {
    const STATES: i32 = c::WEXITED | c::WSTOPPED | c::WCONTINUED;
    let options = options.only(c::WNOHANG | c::WNOWAIT | STATES | OTHERS)?;
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
    let Some(w) = found else {
        return if info.is_null() { Ok(()) } else { mem.write(info.addr(), &[0; 128]) };
    };
    let (code, status) = match w.change {
        Change::Exited(s) => s.siginfo(),
        Change::Stopped(sig) => (c::CLD_STOPPED, sig),
        Change::Trapped(code) => (c::CLD_TRAPPED, code),
        Change::Continued => (c::CLD_CONTINUED, c::SIGCONT),
    };
    let uid = w.process.leader().map_or(0, |l| t.cred().user_ns.show_user(l.cred().ruid));
    info.put_opt(&*mem, &SigInfo::child(code, w.pid, uid, status))?;
    rusage.put_opt(&*mem, &usage(&w.process))
}
