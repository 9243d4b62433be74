//! Host signals in a stub: traps, faults, kicks.
use crate::entry::*;
use crate::{Tls, actions, ask_and_wait, futex, mem, reg, sys, write_call};
use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;
use slots::{ask, layout, then};

pub const SIGILL: i32 = 4;
pub const SIGTRAP: i32 = 5;
pub const SIGBUS: i32 = 7;
pub const SIGFPE: i32 = 8;
pub const SIGUSR1: i32 = 10;
pub const SIGSEGV: i32 = 11;
pub const SIGSYS: i32 = 31;

#[repr(C)]
struct KernelSigaction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER
const FLAGS: u64 = 4 | 0x0400_0000 | SA_ONSTACK | 0x4000_0000;
const SA_ONSTACK: u64 = 0x0800_0000;

/// Installs the handlers; they are inherited by every stub.
pub fn install() {
    for sig in [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV, SIGSYS] {
        let act = KernelSigaction {
            handler: on_signal as *const () as u64,
            flags: FLAGS,
            restorer: at(stub_restore),
            // A kick waits until the handler is left: the answer to a call already carries what there is.
            mask: 1 << (SIGUSR1 - 1),
        };
        if sys::call6(sys::RT_SIGACTION, sig as u64, &raw const act as u64, 0, 8, 0, 0) < 0 {
            sys::exit_group(123);
        }
    }
}

/// With ptrace: the sentry sees faults before they are signals. It lets one become a signal to read the frame, and gets
/// the thread back at once.
pub fn install_traps() {
    for sig in [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV] {
        let (handler, restorer) = (at(stub_injected), at(stub_restore));
        let act = KernelSigaction { handler, flags: FLAGS & !SA_ONSTACK, restorer, mask: 0 };
        if sys::call6(sys::RT_SIGACTION, sig as u64, &raw const act as u64, 0, 8, 0, 0) < 0 {
            sys::exit_group(123);
        }
    }
}

/// The part of `struct ucontext` we use, and of `siginfo_t`.
#[repr(C)]
pub struct Ucontext {
    flags: u64,
    link: u64,
    stack: [u64; 3],
    pub regs: [u64; 23],
    /// The floating point state, in XSAVE format.
    pub fp: *mut u8,
}

#[repr(C)]
struct Siginfo {
    signo: i32,
    errno: i32,
    code: i32,
    pad: i32,
    addr: u64,
    /// Of SIGSYS alone: the call's number, and whose table it is of.
    _call: i32,
    arch: u32,
}

/// AUDIT_ARCH_X86_64, seccomp(2).
const OURS: u32 = 0xc000_003e;
/// The length of `int $0x80`.
const INT80: u64 = 2;
/// SI_KERNEL, sigaction(2).
const BY_KERNEL: i32 = 0x80;

/// Bytes of the XSAVE area with its trailing magic, from `fpx_sw_bytes.extended_size`.
fn fp_size(uc: &Ucontext) -> u64 {
    if uc.fp.is_null() {
        return 0;
    }
    // SAFETY: the host wrote a 512-byte FXSAVE image at least; the software bytes are its last 48.
    unsafe {
        let sw = uc.fp.add(464) as *const u32;
        if sw.read() == 0x4650_5853 { sw.add(1).read() as u64 } else { 512 }
    }
}

fn this() -> &'static mut Tls {
    let p: *mut Tls;
    // SAFETY: gs points to this thread's Tls from `prepare_thread` on. A guest that moves gs breaks only itself.
    unsafe {
        asm!("mov {}, gs:[{off}]", out(reg) p, off = const slots::tls::SELF, options(nostack, readonly));
        &mut *p
    }
}

extern "C" fn on_signal(sig: i32, info: &Siginfo, uc: &mut Ucontext) {
    let ip = uc.regs[reg::RIP];
    match sig {
        // A call of i386's, whose numbers are others: a fault, as of a Linux that does not run such programs.
        SIGSYS if info.arch != OURS && !in_stub(ip) => {
            uc.regs[reg::RIP] = ip.wrapping_sub(INT80);
            fault(this(), uc, SIGSEGV, BY_KERNEL, 0);
        }
        SIGSYS => trapped(this(), uc),
        SIGUSR1 => kicked(this(), uc),
        _ => {
            if let Some(to) = mem::recover(ip) {
                uc.regs[reg::RIP] = to;
                return;
            }
            if in_stub(ip) {
                sys::exit_group(122);
            }
            fault(this(), uc, sig, info.code, info.addr);
        }
    }
}

fn fault(t: &mut Tls, uc: &mut Ucontext, sig: i32, code: i32, addr: u64) {
    let f = &t.slot().fault;
    f.signo.store(sig as u32, Relaxed);
    f.code.store(code as u32, Relaxed);
    f.addr.store(addr, Relaxed);
    converse(t, uc, ask::FAULT);
}

fn in_stub(ip: u64) -> bool {
    (layout::STUB_BASE..layout::THREADS_BASE).contains(&ip)
}

fn trapped(t: &mut Tls, uc: &mut Ucontext) {
    let ip = uc.regs[reg::RIP];
    if ip == at(stub_after_ready) {
        return converse(t, uc, ask::READY);
    }
    if ip == at(stub_after_context) {
        uc.regs[reg::RIP] = t.regs[reg::RIP];
        uc.regs[reg::RCX] = t.regs[reg::RIP];
        uc.regs[reg::RAX] = t.regs[reg::RAX];
        return converse(t, uc, ask::KICKED);
    }
    if ip == at(stub_after_full) {
        uc.regs[reg::RIP] = t.regs[reg::RIP];
        uc.regs[reg::RCX] = t.regs[reg::RIP];
        uc.regs[reg::RAX] = t.regs[reg::RAX];
    } else if in_stub(ip) {
        sys::exit_group(121);
    }
    match futex::way(t, &uc.regs) {
        futex::Way::Asks => {}
        futex::Way::Redirected => {
            uc.regs[reg::RCX] = ip;
            uc.regs[reg::RIP] = at(stub_entry);
            return;
        }
        futex::Way::Again => {
            uc.regs[reg::RIP] = ip.wrapping_sub(futex::SYSCALL.len() as u64);
            return;
        }
    }
    let ahead = write_call(t, &uc.regs);
    converse(t, uc, ask::TRAP | ahead);
}

fn kicked(t: &mut Tls, uc: &mut Ucontext) {
    let ip = uc.regs[reg::RIP];
    if in_stub(ip) {
        t.kick += 1;
        if ip >= at(stub_wait_begin) && ip < at(stub_wait_end) {
            uc.regs[reg::RIP] = at(stub_wait_kicked);
        }
        if ip >= at(stub_exit_begin) && ip < at(stub_exit_end) {
            uc.regs[reg::RIP] = at(stub_exit_begin);
            uc.regs[reg::RSP] = t.stack;
        }
        return;
    }
    converse(t, uc, ask::KICKED);
}

/// Shows the whole context, and does as told until told to go on.
fn converse(t: &mut Tls, uc: &mut Ucontext, mut kind: u32) {
    loop {
        let s = t.slot();
        if kind != ask::DONE && kind != ask::FAILED {
            for (to, from) in s.regs.iter().zip(&uc.regs) {
                to.store(*from, Relaxed);
            }
            s.fp_size.store(fp_size(uc), Relaxed);
            s.fp_addr.store(uc.fp as u64, Relaxed);
        }
        ask_and_wait(t, kind);
        match actions::perform(t, Some(uc)) {
            actions::Next::Ask(k) => kind = k,
            actions::Next::Then(how @ (then::REGS | then::RETURN_AT)) => {
                let s = t.slot();
                for (to, from) in uc.regs.iter_mut().zip(&s.regs).take(18) {
                    *to = from.load(Relaxed);
                }
                if how == then::RETURN_AT {
                    uc.regs[reg::RAX] = s.answer.ret.load(Relaxed);
                }
                return;
            }
            actions::Next::Then(then::RETURN) => {
                uc.regs[reg::RAX] = t.slot().answer.ret.load(Relaxed);
                return;
            }
            actions::Next::Then(then::EXIT) => t.exit(),
            actions::Next::Then(_) => return,
        }
    }
}
