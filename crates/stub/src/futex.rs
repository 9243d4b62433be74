//! Private futexes at the host: threads of one process wait for each other, and the sentry has no part in it.
use crate::{Tls, control, entry, mem, reg, sys};
use core::sync::atomic::Ordering::Relaxed;
use slots::{handshake, layout};

/// The instruction.
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Of the traps of futex calls, one in so many is the sentry's: it counts them to see what is worth rewriting.
const COUNTED: u32 = 8;

/// Is it a call that the host may answer now?
fn plain(regs: &[u64; 23]) -> bool {
    let known = slots::futex::at_host(regs[reg::RSI] as u32, regs[reg::R10]);
    known && regs[reg::RDI] < layout::GUEST_END && control().futexes.load(Relaxed) != 0
}

/// Where a call that trapped goes on.
pub enum Way {
    /// With the sentry.
    Asks,
    /// On the way of a rewritten site, where a kick can end a wait.
    Redirected,
    /// At its own instruction: its site is being rewritten, or was.
    Again,
}

pub fn way(t: &mut Tls, regs: &[u64; 23]) -> Way {
    if regs[reg::RAX] != sys::FUTEX || !plain(regs) {
        return Way::Asks;
    }
    t.traps = t.traps.wrapping_add(1);
    if t.traps.is_multiple_of(COUNTED) {
        return Way::Asks;
    }
    let ip = regs[reg::RIP];
    let may = handshake::may_return(&t.slot().ahead.back, &control().covering, ip);
    let mut site = SYSCALL;
    let left = mem::copy(site.as_mut_ptr(), ip.wrapping_sub(SYSCALL.len() as u64) as *const u8, SYSCALL.len());
    if may && (left > 0 || site == SYSCALL) { Way::Redirected } else { Way::Again }
}

/// Has the host answer the futex call in `t.regs`. False: the sentry has to; a wait that a kick ended is one of those, as it
/// decides what becomes of the call.
pub fn natively(t: &mut Tls) -> bool {
    let result = host(t);
    match result {
        Some(r) => t.regs[reg::RAX] = r as u64,
        // SAFETY: a word of this thread's own page, which its signal handler changes.
        None => t.seen = unsafe { (&raw const t.kick).read_volatile() },
    }
    result.is_some()
}

fn host(t: &Tls) -> Option<i64> {
    let r = &t.regs;
    if !plain(r) {
        return None;
    }
    // The filter looks at all of a register, futex(2) at an int.
    let op = u64::from(r[reg::RSI] as u32);
    let [addr, val, timeout, addr2, val3] = [r[reg::RDI], r[reg::RDX], r[reg::R10], r[reg::R8], r[reg::R9]];
    if !slots::futex::waits(op as u32) {
        return Some(sys::call6(sys::FUTEX, addr, op, val, timeout, addr2, val3));
    }
    let (waits, c) = (&t.slot().mode.waits, control());
    if !handshake::begin_wait(waits, &c.futexes) {
        return None;
    }
    c.waiting.fetch_add(1, Relaxed);
    // SAFETY: it waits in the host; the word is the guest's, and only read.
    let result = unsafe { entry::stub_wait(addr, op, val, timeout, addr2, val3) };
    c.waiting.fetch_sub(1, Relaxed);
    waits.store(0, Relaxed);
    (result != -sys::EINTR).then_some(result)
}
