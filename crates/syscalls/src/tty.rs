//! Terminals: what depends on who asks. ioctl_tty(2), tcsetpgrp(3), tty(4), ptmx(4).
use crate::fd::install;
use abi::{Errno, Result, c};
use guest::{Memory, UserIn, UserOut};
use ipc::tty::{PTS_MAJOR, Slave, TTYAUX_MAJOR, Tty, slave_of};
use kernel::cred::CAP_SYS_ADMIN;
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::Task;
use vfs::OpenFile;

/// Flags that a description keeps.
pub(crate) const KEPT: i32 = !(c::O_CREAT | c::O_EXCL | c::O_NOCTTY | c::O_TRUNC | c::O_CLOEXEC);

/// Opens a terminal by its device number: /dev/tty, /dev/ptmx, or a slave, which may become the controlling terminal.
pub(crate) fn open(t: &Rc<Task>, place: vfs::Path, rdev: u64, flags: i32) -> Result<Rc<OpenFile>> {
    let terminals = &t.kernel.terminals;
    let tty = match (c::major(rdev), c::minor(rdev)) {
        (TTYAUX_MAJOR, 0) => t.process.tty.borrow().clone().ok_or(Errno::ENXIO)?,
        (TTYAUX_MAJOR, 2) => {
            let master = terminals.create(t.cred().fsuid)?;
            return Ok(OpenFile::new(Rc::new(master), flags & KEPT, Some(place)));
        }
        (PTS_MAJOR, index) => terminals.get(index).ok_or(Errno::EIO)?,
        _ => return Err(Errno::ENXIO),
    };
    let slave = Slave::open(&tty, t.cred().has(CAP_SYS_ADMIN))?;
    let f = OpenFile::new(Rc::new(slave), flags & KEPT, Some(place));
    if flags & c::O_NOCTTY == 0 {
        adopt(t, &tty, &f);
    }
    Ok(f)
}

/// A session leader without a terminal gets the first it opens to read.
fn adopt(t: &Task, tty: &Rc<Tty>, f: &OpenFile) {
    let p = &t.process;
    if p.is_session_leader() && p.tty.borrow().is_none() && tty.session.get() == 0 && f.readable() {
        p.take_terminal(tty);
    }
}

/// A background group is stopped before it reads (SIGTTIN) or, with TOSTOP, writes (SIGTTOU).
async fn job_control(t: &Rc<Task>, tty: &Rc<Tty>, sig: i32) -> Result {
    if t.terminal_stop(tty, sig)? {
        wait::settle().await;
        t.kernel.signal_group(t.process.pgid.get(), &[sig]);
        return Err(Errno::ERESTARTSYS);
    }
    Ok(())
}

/// What comes before a write.
pub(crate) async fn before_write(t: &Rc<Task>, f: &OpenFile) -> Result {
    if let Some(s) = f.downcast::<Slave>()
        && s.tty().has_flag(c::TOSTOP)
    {
        job_control(t, s.tty(), c::SIGTTOU).await?;
    }
    Ok(())
}

/// What comes before a read of `count` bytes: job control, then the wait that VMIN and VTIME ask for. True: the time
/// for the first byte is over.
pub(crate) async fn before_read(t: &Rc<Task>, f: &OpenFile, count: usize) -> Result<bool> {
    let Some(s) = f.downcast::<Slave>() else { return Ok(false) };
    if s.tty().is_hung_up() {
        return Ok(false);
    }
    job_control(t, s.tty(), c::SIGTTIN).await?;
    let how = s.patience(count);
    if f.nonblocking() || count == 0 || how.first == Some(0) || s.may_read(how.least) {
        return Ok(false);
    }
    let after = |ns: u64| host::time::monotonic_ns().saturating_add(ns);
    let mut deadline = how.first.map(after);
    let mut arrived = s.arrived();
    if arrived > 0 {
        deadline = how.between.map(after).or(deadline);
    }
    loop {
        // With a time from byte to byte every byte counts, else only enough of them.
        let look = || (s.may_read(how.least) || (how.between.is_some() && s.arrived() != arrived)).then_some(());
        match wait::until(&[s.queue()], deadline, look).await {
            Ok(()) if s.tty().is_hung_up() => return Err(Errno::EIO),
            Ok(()) if s.may_read(how.least) => return Ok(false),
            Ok(()) => {
                arrived = s.arrived();
                deadline = how.between.filter(|_| arrived > 0).map(after);
            }
            Err(Stop::TimedOut) => return Ok(how.first.is_some()),
            // What has come is given out; the read is not made again.
            Err(Stop::Interrupted) if s.arrived() > 0 && how.least > 1 => return Ok(false),
            Err(Stop::Interrupted) => return Err(Errno::ERESTARTSYS),
        }
    }
}

/// ioctl(2) on either end of a terminal. `None`: it is not one.
pub(crate) fn ioctl(t: &Rc<Task>, f: &Rc<OpenFile>, cmd: u32, arg: u64) -> Option<Result<i64>> {
    let (tty, master) = slave_of(f)?;
    Some(command(t, f, tty, master, cmd, arg))
}

fn command(t: &Rc<Task>, f: &Rc<OpenFile>, tty: &Rc<Tty>, master: bool, cmd: u32, arg: u64) -> Result<i64> {
    let mem = t.mem();
    if tty.is_hung_up() {
        return Err(if u64::from(cmd) == c::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
    }
    match u64::from(cmd) {
        c::TIOCGPGRP if !master && !t.process.controlled_by(tty) => Err(Errno::ENOTTY),
        c::TIOCGPGRP => UserOut::new(arg).put(&*mem, &tty.foreground.get()).map(|()| 0),
        c::TIOCSPGRP => set_foreground(t, tty, &*mem, arg),
        c::TIOCGSID if (!master && !t.process.controlled_by(tty)) || tty.session.get() == 0 => Err(Errno::ENOTTY),
        c::TIOCGSID => UserOut::new(arg).put(&*mem, &tty.session.get()).map(|()| 0),
        c::TIOCSCTTY => set_controlling(t, f, tty, arg),
        c::TIOCNOTTY if master || !t.process.controlled_by(tty) => Err(Errno::ENOTTY),
        c::TIOCNOTTY => {
            if t.process.is_session_leader() {
                t.process.leave_terminal(false);
            }
            t.process.tty.take();
            Ok(0)
        }
        c::TIOCGPTPEER if !master => Err(Errno::EIO),
        c::TIOCGPTPEER => {
            let flags = arg as i32;
            let peer = t.kernel.terminals.open_slave(tty, flags & KEPT, t.cred().has(CAP_SYS_ADMIN))?;
            if flags & c::O_NOCTTY == 0 {
                adopt(t, tty, &peer);
            }
            install(t, peer, flags).map(i64::from)
        }
        c::TCSETS
        | c::TCSETSW
        | c::TCSETSF
        | c::TCSETS2
        | c::TCSETSW2
        | c::TCSETSF2
        | c::TCSETA
        | c::TCSETAW
        | c::TCSETAF
        | c::TCSBRK
        | c::TCSBRKP
        | c::TCXONC
        | c::TCFLSH
        | c::TIOCSETD => {
            may_change(t, tty)?;
            f.ops().ioctl(f, &*mem, cmd, arg)
        }
        _ => f.ops().ioctl(f, &*mem, cmd, arg),
    }
}

/// A background group is stopped by SIGTTOU before it changes its terminal.
fn may_change(t: &Task, tty: &Rc<Tty>) -> Result {
    if t.terminal_stop(tty, c::SIGTTOU)? {
        t.kernel.signal_group(t.process.pgid.get(), &[c::SIGTTOU]);
        return Err(Errno::ERESTARTSYS);
    }
    Ok(())
}

/// tcsetpgrp(3).
fn set_foreground(t: &Task, tty: &Rc<Tty>, mem: &dyn Memory, arg: u64) -> Result<i64> {
    may_change(t, tty).map_err(|e| if e == Errno::EIO { Errno::ENOTTY } else { e })?;
    let p = &t.process;
    if !p.controlled_by(tty) || tty.session.get() != p.sid.get() {
        return Err(Errno::ENOTTY);
    }
    let group: i32 = UserIn::new(arg).get(mem)?;
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let members = t.find_group(group);
    let first = members.first().ok_or(Errno::ESRCH)?;
    if first.sid.get() != p.sid.get() {
        return Err(Errno::EPERM);
    }
    tty.foreground.set(group);
    Ok(0)
}

/// TIOCSCTTY. `arg` 1 lets the privileged take it from another session.
fn set_controlling(t: &Task, f: &OpenFile, tty: &Rc<Tty>, arg: u64) -> Result<i64> {
    let p = &t.process;
    if p.is_session_leader() && tty.session.get() == p.sid.get() {
        return Ok(0);
    }
    if !p.is_session_leader() || p.tty.borrow().is_some() {
        return Err(Errno::EPERM);
    }
    let privileged = t.cred().has(CAP_SYS_ADMIN);
    if tty.session.get() != 0 {
        if arg != 1 || !privileged {
            return Err(Errno::EPERM);
        }
        t.kernel.session_without_terminal(tty.session.get());
    }
    if !f.readable() && !privileged {
        return Err(Errno::EPERM);
    }
    p.take_terminal(tty);
    Ok(0)
}
