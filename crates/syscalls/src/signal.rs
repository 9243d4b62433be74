//! Signals: rt_sigaction(2), rt_sigprocmask(2), kill(2), sigaltstack(2), rt_sigreturn(2), pause(2).
use crate::args::{Fd, Flags};
use abi::signal::{MINSIGSTKSZ, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, SigAction, SigInfo, SigSet, StackT};
use abi::sys::Timespec;
use abi::{Errno, Result, c};
use guest::ops::Op;
use guest::{UserIn, UserOut};
use kernel::signal::frame::{self, Frame};
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::Task;

fn valid(sig: i32) -> Result<i32> {
    if (1..=64).contains(&sig) { Ok(sig) } else { Err(Errno::EINVAL) }
}

fn set_size(size: usize) -> Result {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn rt_sigaction(t: &Rc<Task>, sig: i32, new: UserIn<SigAction>, old: UserOut<SigAction>, size: usize) -> Result {
    set_size(size)?;
    valid(sig)?;
    let mem = t.mem();
    let new = new.get_opt(&*mem)?;
    if new.is_some() && SigSet::UNBLOCKABLE.has(sig) {
        return Err(Errno::EINVAL);
    }
    let table = t.process.actions.borrow().clone();
    old.put_opt(&*mem, &table.borrow().get(sig))?;
    if let Some(mut a) = new {
        a.mask = SigSet(a.mask).blockable().0;
        let ignored = table.borrow().ignores(sig);
        table.borrow_mut().set(sig, a);
        if table.borrow().ignores(sig) {
            t.process.pending.borrow_mut().discard(SigSet::of(sig));
            for th in t.process.threads.borrow().iter() {
                th.pending.borrow_mut().discard(SigSet::of(sig));
            }
        } else if ignored {
            t.process.timers_unignored(sig);
        }
    }
    Ok(())
}

pub fn rt_sigprocmask(t: &Rc<Task>, how: i32, new: UserIn<u64>, old: UserOut<u64>, size: usize) -> Result {
    set_size(size)?;
    let mem = t.mem();
    let was = t.blocked.get();
    if let Some(set) = new.get_opt(&*mem)? {
        let set = SigSet(set).blockable();
        t.blocked.set(match how {
            c::SIG_BLOCK => was.with(set),
            c::SIG_UNBLOCK => was.without(set),
            c::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    old.put_opt(&*mem, &was.0)
}

pub fn rt_sigpending(t: &Rc<Task>, out: UserOut<u64>, size: usize) -> Result {
    if size > 8 {
        return Err(Errno::EINVAL);
    }
    let set = t.pending_set().0 & t.blocked.get().0;
    t.mem().write(out.addr(), &set.to_ne_bytes()[..size])
}

/// Waits under another mask, which the delivered signal's frame undoes.
pub(crate) fn with_mask(t: &Task, mask: SigSet) {
    if t.saved_mask.get().is_none() {
        t.saved_mask.set(Some(t.blocked.get()));
    }
    t.blocked.set(mask.blockable());
    kernel::sched::set_interrupted(t.interrupted());
}

pub async fn rt_sigsuspend(t: &Rc<Task>, mask: UserIn<u64>, size: usize) -> Result {
    set_size(size)?;
    let mask = SigSet(mask.get(&*t.mem())?);
    wait::settle().await;
    with_mask(t, mask);
    wait::until(&[], None, || (!t.deliverable().is_empty()).then_some(())).await.ok();
    Err(Errno::ERESTARTNOHAND)
}

pub async fn pause(_t: &Rc<Task>) -> Result {
    wait::sleep(None).await;
    Err(Errno::ERESTARTNOHAND)
}

pub async fn rt_sigtimedwait(
    t: &Rc<Task>,
    set: UserIn<u64>,
    info: UserOut<SigInfo>,
    timeout: UserIn<Timespec>,
    size: usize,
) -> Result<i32> {
    set_size(size)?;
    let mem = t.mem();
    let wanted = SigSet(set.get(&*mem)?).blockable();
    let deadline = match timeout.get_opt(&*mem)? {
        Some(ts) => Some(host::time::monotonic_ns().saturating_add(ts.ns()?)),
        None => None,
    };
    wait::settle().await;
    let si = match wait::until(&[&t.signal_wait], deadline, || t.take_from(wanted)).await {
        Ok(si) => si,
        Err(Stop::TimedOut) => return Err(Errno::EAGAIN),
        Err(Stop::Interrupted) => return Err(Errno::EINTR),
    };
    info.put_opt(&*mem, &si)?;
    Ok(si.signo)
}

pub fn signalfd(t: &Rc<Task>, fd: Fd, mask: UserIn<u64>, size: usize) -> Result<i32> {
    signalfd4(t, fd, mask, size, Flags(0))
}

/// signalfd4(2): a new descriptor, or with `fd` another mask for one there is.
pub fn signalfd4(t: &Rc<Task>, fd: Fd, mask: UserIn<u64>, size: usize, flags: Flags) -> Result<i32> {
    set_size(size)?;
    let mask = SigSet(mask.get(&*t.mem())?);
    let flags = flags.only(c::SFD_CLOEXEC | c::SFD_NONBLOCK)?;
    if fd.0 == -1 {
        return crate::fd::install(t, task::signalfd::signalfd(&t.kernel, mask, flags), flags);
    }
    let f = t.files()?.get(fd.0)?;
    f.downcast::<task::signalfd::SignalFd>().ok_or(Errno::EINVAL)?.set_mask(mask);
    Ok(fd.0)
}

fn checked(sig: i32) -> Result<i32> {
    if (0..=64).contains(&sig) { Ok(sig) } else { Err(Errno::EINVAL) }
}

pub fn kill(t: &Rc<Task>, pid: i32, sig: i32) -> Result {
    let info = SigInfo::from_user(checked(sig)?, c::SI_USER, t.process.pid, t.cred().ruid);
    if pid == i32::MIN {
        return Err(Errno::ESRCH);
    }
    t.kernel.kill(t, pid, info)
}

pub(crate) fn to_thread(t: &Task, tgid: Option<i32>, tid: i32, info: SigInfo) -> Result {
    if tid <= 0 || tgid.is_some_and(|g| g <= 0) {
        return Err(Errno::EINVAL);
    }
    let to = t.find_task(tid).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|g| to.process.pid != g) {
        return Err(Errno::ESRCH);
    }
    if !Rc::ptr_eq(&to.process, &t.process) && !task::may_signal(&t.cred(), &to.cred()) {
        return Err(Errno::EPERM);
    }
    if info.signo != 0 && !to.try_signal(info) {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

const SI_TKILL: i32 = -6;

pub fn tkill(t: &Rc<Task>, tid: i32, sig: i32) -> Result {
    let info = SigInfo::from_user(checked(sig)?, SI_TKILL, t.process.pid, t.cred().ruid);
    to_thread(t, None, tid, info)
}

pub fn tgkill(t: &Rc<Task>, tgid: i32, tid: i32, sig: i32) -> Result {
    let info = SigInfo::from_user(checked(sig)?, SI_TKILL, t.process.pid, t.cred().ruid);
    to_thread(t, Some(tgid), tid, info)
}

/// A siginfo that a program may send: not one that looks as if the kernel had sent it to somebody else.
fn queued(t: &Task, to: i32, sig: i32, info: UserIn<SigInfo>) -> Result<SigInfo> {
    let mut si = info.get(&*t.mem())?;
    si.signo = checked(sig)?;
    if (si.code >= 0 || si.code == SI_TKILL) && to != t.process.pid {
        return Err(Errno::EPERM);
    }
    Ok(si)
}

pub fn rt_sigqueueinfo(t: &Rc<Task>, pid: i32, sig: i32, info: UserIn<SigInfo>) -> Result {
    let si = queued(t, pid, sig, info)?;
    if pid <= 0 { Err(Errno::ESRCH) } else { t.kernel.kill(t, pid, si) }
}

pub fn rt_tgsigqueueinfo(t: &Rc<Task>, tgid: i32, tid: i32, sig: i32, info: UserIn<SigInfo>) -> Result {
    let si = queued(t, tgid, sig, info)?;
    to_thread(t, Some(tgid), tid, si)
}

pub fn sigaltstack(t: &Rc<Task>, new: UserIn<StackT>, old: UserOut<StackT>) -> Result {
    let mem = t.mem();
    let mut was = t.altstack.get();
    let on = was.contains(t.sp()) && was.flags & SS_AUTODISARM == 0;
    if was.flags & SS_DISABLE == 0 {
        was.flags = (was.flags & SS_AUTODISARM) | if on { SS_ONSTACK } else { 0 };
    }
    if let Some(mut s) = new.get_opt(&*mem)? {
        if on {
            return Err(Errno::EPERM);
        }
        match s.flags & !SS_AUTODISARM {
            SS_DISABLE => s = StackT { flags: s.flags, ..StackT::default() },
            0 | SS_ONSTACK if s.size < MINSIGSTKSZ => return Err(Errno::ENOMEM),
            0 | SS_ONSTACK => s.flags &= SS_AUTODISARM,
            _ => return Err(Errno::EINVAL),
        }
        s.pad = 0;
        t.altstack.set(s);
    }
    old.put_opt(&*mem, &was)
}

/// Takes the frame back: registers, mask, alternate stack, floating point. A frame nobody could have been given is SIGSEGV.
pub fn rt_sigreturn(t: &Rc<Task>) -> Result<i64> {
    let regs = *t.regs.borrow();
    match restore(t, &regs) {
        Ok(r) => {
            t.resume_with(r);
            Ok(r.rax as i64)
        }
        Err(_) => {
            t.force_signal(SigInfo::new(c::SIGSEGV, c::SI_KERNEL));
            Ok(0)
        }
    }
}

fn restore(t: &Task, regs: &abi::regs::Regs) -> Result<abi::regs::Regs> {
    let mem = t.mem();
    let f: Frame = UserIn::new(frame::returning(regs.rsp)).get(&*mem)?;
    let mut r = frame::sanitise(&f, regs)?;
    if let Some(copy) = t.mm().covered.borrow().get(&r.rip) {
        r.rip = *copy;
    }
    let size = t.fp_size.get();
    if f.fp != 0 && size > 0 {
        let mut fp = vec![0u8; size as usize];
        mem.read(f.fp, &mut fp)?;
        frame::sanitise_fp(&mut fp, size)?;
        t.op(Op::LoadFp(fp));
    }
    t.blocked.set(SigSet(f.mask).blockable());
    let s = f.stack;
    if s.flags & SS_DISABLE != 0 || s.size >= MINSIGSTKSZ {
        t.altstack.set(StackT { flags: s.flags & (SS_DISABLE | SS_AUTODISARM), pad: 0, ..s });
    }
    Ok(r)
}

/// Goes on with a sleep or poll that a stop interrupted; the kernel itself calls it with the old arguments.
pub fn restart_syscall(_t: &Rc<Task>, _flags: Flags) -> Result {
    Err(Errno::EINTR)
}
