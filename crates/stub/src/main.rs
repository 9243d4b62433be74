//! The stub: what lives in a guest's address space besides the guest.
//!
//! It turns the guest's system calls into requests in its slot, copies between guest memory and the slot, and does
//! what the answers say: mappings, threads, forks. It decides nothing. The guest may overwrite it, and then
//! owns what the stub's seccomp filter allows, and no more.
#![no_std]
#![no_main]

mod actions;
mod entry;
mod futex;
mod init;
mod mem;
mod names;
mod signals;
mod sys;

use core::sync::atomic::Ordering::Relaxed;
use slots::{Control, Hint, Slot, ask, handshake, layout};

/// A thread's private page; the assembly knows the offsets (`slots::tls`).
#[repr(C)]
pub struct Tls {
    pub entry: u64,
    pub this: *mut Tls,
    pub stack: u64,
    pub kick: u64,
    pub slot: *const Slot,
    pub index: u64,
    /// Number of the last request.
    pub seq: u32,
    /// Traps of futex calls.
    pub traps: u32,
    pub cookie: u64,
    /// What `kick` was when the sentry was asked last: no need to ask again for it.
    pub seen: u64,
    pub pad: [u64; 7],
    /// `abi::regs::Regs`.
    pub regs: [u64; 23],
    pub pad2: [u64; 9],
    pub xmm: [u128; 16],
    pub names: names::Names,
}

const _: () = assert!(core::mem::offset_of!(Tls, regs) as u64 == slots::tls::REGS);
const _: () = assert!(core::mem::offset_of!(Tls, xmm) as u64 == slots::tls::XMM);
const _: () = assert!(core::mem::offset_of!(Tls, kick) as u64 == slots::tls::KICK);
const _: () = assert!(core::mem::offset_of!(Tls, seen) as u64 == slots::tls::SEEN);
const _: () = assert!(size_of::<Tls>() <= 4096);

/// Indices into `regs`.
pub mod reg {
    pub const R10: usize = 2;
    pub const R8: usize = 0;
    pub const R9: usize = 1;
    pub const RDI: usize = 8;
    pub const RSI: usize = 9;
    pub const RDX: usize = 12;
    pub const RAX: usize = 13;
    pub const RCX: usize = 14;
    pub const RSP: usize = 15;
    pub const RIP: usize = 16;
}

/// Looks at the answer in each of the rounds that the hot flag counts.
const ROUND: u32 = 200;

/// Written once by the template before any guest runs; copied on write ever after.
pub static mut HINTS: [u32; slots::HINTS] = [0; slots::HINTS];

pub fn hint(nr: u64) -> u32 {
    if nr < slots::HINTS as u64 {
        // SAFETY: in bounds; nothing writes after the template's start.
        unsafe { HINTS[nr as usize] }
    } else {
        0
    }
}

impl Tls {
    pub fn slot(&self) -> &Slot {
        // SAFETY: set by `prepare_thread` to this thread's slot in the region, which stays mapped; all its fields are atomics.
        unsafe { &*self.slot }
    }
    /// Ends the host thread.
    pub fn exit(&self) -> ! {
        // SAFETY: the word is in this thread's slot, which stays mapped.
        unsafe { entry::stub_exit_thread(&self.slot().mode.busy) }
    }
    pub fn data(&self) -> *mut u8 {
        (self.slot as u64 + layout::DATA_OFFSET) as *mut u8
    }
}

pub fn control() -> &'static Control {
    // SAFETY: the region is mapped, and starts with its control block of atomics.
    unsafe { &*(layout::REGION_BASE as *const Control) }
}

/// Puts a call's number and arguments, and what the hints let us copy ahead, into the slot.
pub fn write_call(t: &Tls, regs: &[u64; 23]) {
    let s = t.slot();
    let nr = regs[reg::RAX];
    let args = [regs[reg::RDI], regs[reg::RSI], regs[reg::RDX], regs[reg::R10], regs[reg::R8], regs[reg::R9]];
    s.request.nr.store(nr, Relaxed);
    for (i, a) in args.iter().enumerate() {
        s.request.args[i].store(*a, Relaxed);
    }
    s.ahead.ip.store(regs[reg::RIP], Relaxed);
    s.ahead.sp.store(regs[reg::RSP], Relaxed);
    let h = hint(nr);
    let mut used = 0u32;
    for i in 0..2 {
        let h = (h >> (16 * i)) & 0xffff;
        let seg = &s.ahead.segments[i];
        let arg = h & 7;
        if arg == 0 || arg == 7 {
            seg.len.store(0, Relaxed);
            if h == 0 && i == 0 {
                s.ahead.segments[1].len.store(0, Relaxed);
                break;
            }
            continue;
        }
        let addr = args[arg as usize - 1];
        let to = (t.data() as u64 + used as u64) as *mut u8;
        let n = if addr == 0 {
            0
        } else if h & 8 != 0 {
            mem::copy_str(to, addr as *const u8, slots::STRING_MAX)
        } else {
            let want = if h & 16 != 0 {
                (args[((h >> 5) & 7) as usize % 6]).min(slots::BUFFER_MAX as u64) as usize
            } else {
                ((h >> 8) as usize) * 8
            };
            want - mem::copy(to, addr as *const u8, want)
        };
        seg.addr.store(addr, Relaxed);
        seg.offset.store(used, Relaxed);
        seg.len.store(n as u32, Relaxed);
        used += (n as u32 + 63) & !63;
    }
    s.ahead.used.store(used, Relaxed);
}

/// Asks, and waits for the answer: spinning while the sentry looks, then ringing. A call that will wait is marked parked,
/// and rings at once. Ringing gives the CPU to a sentry that waits for this very one; sched_yield(2) would, since Linux
/// 6.17, give away the whole time slice.
pub fn ask_and_wait(t: &mut Tls, kind: u32) {
    let s = t.slot();
    let seq = t.seq.wrapping_add(1);
    s.request.kind.store(kind, Relaxed);
    let (cookie, index) = (t.cookie, t.index);
    if handshake::publish(&s.request.seq, &s.mode.hot, seq) {
        for _ in 0..s.mode.hot.load(Relaxed).saturating_mul(ROUND) {
            if handshake::answered(&s.answer.seq, seq) || s.answer.parked.load(Relaxed) == seq {
                break;
            }
            core::hint::spin_loop();
        }
    }
    while !handshake::answered(&s.answer.seq, seq) {
        if sys::call6(sys::DOORBELL, cookie, index, seq as u64, sys::cpu(), 0, 0) == -sys::ENOSYS {
            sys::exit_group(125);
        }
    }
    t.seq = seq;
}

/// A patched call: from `entry`, on the thread's stub stack, registers in `t.regs`.
/// 0: return to the guest; 1: trap with the whole context; 2: trap to show the context.
pub extern "C" fn patched_call(t: &mut Tls) -> u32 {
    let nr = t.regs[reg::RAX];
    if hint(nr) == Hint::FULL.0 {
        return 1;
    }
    if nr == sys::FUTEX {
        // Of kicks that have come into the stub since it was entered the sentry knows nothing yet.
        t.seen = 0;
        if futex::natively(t) {
            return 0;
        }
    }
    let regs: *const [u64; 23] = &t.regs;
    // SAFETY: `regs` stays valid and unchanged while write_call borrows the rest of `t` shared.
    write_call(t, unsafe { &*regs });
    let name = names::asked(t);
    if name.is_some_and(|name| names::is_known(t, name)) {
        t.regs[reg::RAX] = -sys::EINVAL as u64;
        return 0;
    }
    let mut kind = ask::CALL;
    loop {
        ask_and_wait(t, kind);
        match actions::perform(t, None) {
            actions::Next::Ask(k) => kind = k,
            actions::Next::Then(slots::then::NATIVELY) => {
                if futex::natively(t) {
                    return 0;
                }
                // SAFETY: as above.
                write_call(t, unsafe { &*regs });
                kind = ask::CALL;
            }
            actions::Next::Then(slots::then::CONTEXT) => {
                t.regs[reg::RAX] = t.slot().answer.ret.load(Relaxed);
                return 2;
            }
            actions::Next::Then(slots::then::EXIT) => t.exit(),
            actions::Next::Then(slots::then::NO_LINK) => {
                let number = t.slot().answer.ret.load(Relaxed);
                if let Some(name) = name {
                    names::learn(t, name, number);
                }
                t.regs[reg::RAX] = -sys::EINVAL as u64;
                return 0;
            }
            actions::Next::Then(_) => {
                t.regs[reg::RAX] = t.slot().answer.ret.load(Relaxed);
                return 0;
            }
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit_group(124)
}
