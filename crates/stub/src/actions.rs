//! Performing an answer's actions.
use crate::signals::Ucontext;
use crate::{Tls, entry, init, mem, sys};
use core::sync::atomic::Ordering::Relaxed;
use slots::{ACTIONS, REWRITE, ask, layout, op, then};

/// What to do next.
pub enum Next {
    /// Ask again with this kind.
    Ask(u32),
    /// One of `slots::then`.
    Then(u32),
}

const EFAULT: i64 = 14;
/// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM
const THREAD_FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000;
const CLONE_PARENT: u64 = 0x8000;

/// Does the current answer's actions. `uc`: the context of a trap, if there is one.
pub fn perform(t: &mut Tls, uc: Option<&mut Ucontext>) -> Next {
    let s = t.slot();
    let c = &s.answer.copy;
    let len = c.len.load(Relaxed) as usize;
    if len > 0 {
        let from = (t.data() as u64 + c.offset.load(Relaxed) as u64) as *const u8;
        if mem::copy(c.addr.load(Relaxed) as *mut u8, from, len) != 0 {
            s.answer.ret.store(-EFAULT as u64, Relaxed);
        }
    }
    let n = s.answer.actions.load(Relaxed) as usize;
    if n == 0 {
        return next(s.answer.then.load(Relaxed));
    }
    perform_all(t, uc, n.min(ACTIONS))
}

/// A pair of words that is not as it must be, or not there, stays.
fn rewrite(t: &Tls, offset: u64, len: usize) {
    for i in 0..len / REWRITE {
        let entry = (t.data() as u64 + offset) + (i * REWRITE) as u64;
        // SAFETY: within the slot's data area, as the sentry says; it writes nothing there until it is asked again.
        let [at, old @ .., new0, new1] = unsafe { (entry as *const [u64; 5]).read_unaligned() };
        let (mut now, new) = ([0u64; 2], [new0, new1]);
        if mem::copy((&raw mut now).cast(), at as *const u8, size_of_val(&now)) == 0 && now == old {
            mem::copy(at as *mut u8, (&raw const new).cast(), size_of_val(&new));
        }
    }
}

fn next(then: u32) -> Next {
    if then == then::MORE { Next::Ask(ask::DONE) } else { Next::Then(then) }
}

fn perform_all(t: &mut Tls, uc: Option<&mut Ucontext>, n: usize) -> Next {
    let mut fds = [-1i32; 8];
    for i in 0..n {
        let s = t.slot();
        let a = &s.action[i];
        let mut args = [0u64; 7];
        for (to, from) in args.iter_mut().zip(&a.args) {
            *to = from.load(Relaxed);
        }
        match a.op.load(Relaxed) {
            op::COPY => {
                let from = (t.data() as u64 + args[1]) as *const u8;
                if mem::copy(args[0] as *mut u8, from, args[2] as usize) != 0 {
                    s.answer.ret.store(-EFAULT as u64, Relaxed);
                }
            }
            kind @ (op::HOST | op::HOST_RET) => {
                let fd_arg = a.fd_arg.load(Relaxed);
                let (which, fd) = ((fd_arg & 0xff) as usize, (fd_arg >> 8) as usize);
                if which < 6 {
                    args[1 + which] = fds[fd & 7] as i64 as u64;
                }
                let r = sys::call6(args[0], args[1], args[2], args[3], args[4], args[5], args[6]);
                if (-4095..0).contains(&r) {
                    close_all(&fds);
                    s.request.nr.store(i as u64, Relaxed);
                    s.request.args[0].store(r as u64, Relaxed);
                    return Next::Ask(ask::FAILED);
                }
                if kind == op::HOST_RET {
                    s.answer.ret.store(r as u64, Relaxed);
                }
            }
            op::RECEIVE => init::receive_fds(layout::SOCKET_FD, &mut fds),
            op::CLOSE => {
                close_all(&fds);
                fds = [-1; 8];
            }
            op::ZERO => {
                mem::zero(args[0] as *mut u8, args[1] as usize);
            }
            op::REWRITE => rewrite(t, args[0], args[1] as usize),
            op::POKE => {
                // SAFETY: an aligned word of a guest page that the action before made writable; the guest's own
                // memory, and a fault is the guest's death.
                unsafe { (*(args[0] as *const core::sync::atomic::AtomicU64)).store(args[1], Relaxed) };
            }
            op::THREAD => {
                let tls = init::prepare_tls(args[0] as usize, t.cookie);
                // SAFETY: the child runs on its own stub stack with its own Tls.
                let r = unsafe { entry::stub_clone_thread(THREAD_FLAGS, (*tls).stack, tls as u64) };
                if r < 0 {
                    s.request.nr.store(i as u64, Relaxed);
                    s.request.args[0].store(r as u64, Relaxed);
                    return Next::Ask(ask::FAILED);
                }
            }
            op::FORK => {
                let r = sys::call6(sys::CLONE, CLONE_PARENT, 0, 0, 0, 0, 0);
                if r == 0 {
                    init::become_child(t, &fds);
                    return Next::Ask(ask::READY);
                }
                close_all(&fds);
                fds = [-1; 8];
                if r < 0 {
                    s.request.nr.store(i as u64, Relaxed);
                    s.request.args[0].store(r as u64, Relaxed);
                    return Next::Ask(ask::FAILED);
                }
            }
            op::SAVE_FP => {
                if let Some(uc) = &uc
                    && mem::copy(args[0] as *mut u8, uc.fp, args[1] as usize) != 0
                {
                    s.answer.ret.store(-EFAULT as u64, Relaxed);
                }
            }
            op::LOAD_FP => {
                if let Some(uc) = &uc {
                    mem::copy(uc.fp, (t.data() as u64 + args[0]) as *const u8, args[1] as usize);
                }
            }
            _ => {}
        }
    }
    next(t.slot().answer.then.load(Relaxed))
}

fn close_all(fds: &[i32; 8]) {
    for fd in fds {
        if *fd >= 0 {
            sys::call3(sys::CLOSE, *fd as u64, 0, 0);
        }
    }
}
