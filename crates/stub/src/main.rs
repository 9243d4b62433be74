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

/// Puts a call's number and arguments, and what the hints let us copy ahead, into the slot. `ask::AHEAD` if there is any of that.
pub fn write_call(t: &Tls, regs: &[u64; 23]) -> u32 {
    let s = t.slot();
    let nr = regs[reg::RAX];
    let args = [regs[reg::RDI], regs[reg::RSI], regs[reg::RDX], regs[reg::R10], regs[reg::R8], regs[reg::R9]];
    s.request.nr.store(nr, Relaxed);
    for (i, a) in args.iter().enumerate() {
        s.request.args[i].store(*a, Relaxed);
    }
    s.ahead.back.store(regs[reg::RIP] as u32, Relaxed);
    s.ahead.sp.store(regs[reg::RSP], Relaxed);
    let mut ahead = Ahead { t, count: 0, used: 0 };
    let hints = hint(nr);
    for h in [hints & 0xffff, hints >> 16] {
        let arg = h & 7;
        if arg == 0 || arg == 7 || args[arg as usize - 1] == 0 || ahead.count == slots::SEGMENTS {
            continue;
        }
        let addr = args[arg as usize - 1];
        let len = args[((h >> 5) & 7) as usize % 6];
        match h & Hint::WHAT {
            Hint::STRING => ahead.keep(addr, mem::copy_str(ahead.to(), addr as *const u8, slots::STRING_MAX)),
            Hint::BUFFER => ahead.bytes(addr, len.min(slots::BUFFER_MAX as u64) as usize),
            Hint::VECTOR => ahead.vector(addr, len.min(slots::VECTOR_MAX as u64) as usize),
            _ => ahead.bytes(addr, (h >> 8) as usize * 8),
        }
    }
    ahead.end()
}

/// What is copied ahead for the call that is being written.
struct Ahead<'a> {
    t: &'a Tls,
    /// Segments, and bytes of the data area that they take.
    count: usize,
    used: usize,
}

impl Ahead<'_> {
    fn to(&self) -> *mut u8 {
        (self.t.data() as u64 + self.used as u64) as *mut u8
    }

    /// `n` bytes from `addr` have been put there.
    fn keep(&mut self, addr: u64, n: usize) {
        let seg = &self.t.slot().ahead.segments[self.count];
        seg.addr.store(addr, Relaxed);
        seg.offset.store(self.used as u32, Relaxed);
        seg.len.store(n as u32, Relaxed);
        self.count += 1;
        self.used += (n + 63) & !63;
    }

    fn bytes(&mut self, addr: u64, n: usize) {
        let left = mem::copy(self.to(), addr as *const u8, n);
        self.keep(addr, n - left);
    }

    /// Of `n` entries: them, and what they name, as far as there are segments and room.
    fn vector(&mut self, addr: u64, n: usize) {
        let entries = self.to() as *const [u64; 2];
        self.bytes(addr, n * size_of::<[u64; 2]>());
        let mut room = slots::BUFFER_MAX;
        for i in 0..n {
            // SAFETY: within what was just written of the slot's data area, or what was there before, had that faulted: an
            // address and a length of the guest's own, whatever they are.
            let [base, len] = unsafe { entries.add(i).read() };
            if len as usize > room || self.count == slots::SEGMENTS {
                return;
            }
            if len > 0 && base != 0 {
                self.bytes(base, len as usize);
                room -= len as usize;
            }
        }
    }

    /// `ask::AHEAD` if there is anything.
    fn end(self) -> u32 {
        let ahead = &self.t.slot().ahead;
        for seg in &ahead.segments[self.count..] {
            seg.len.store(0, Relaxed);
        }
        ahead.used.store(self.used as u32, Relaxed);
        if self.used > 0 { ask::AHEAD } else { 0 }
    }
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
    let ahead = write_call(t, unsafe { &*regs });
    let name = names::asked(t);
    if name.is_some_and(|name| names::is_known(t, name)) {
        t.regs[reg::RAX] = -sys::EINVAL as u64;
        return 0;
    }
    let mut kind = ask::CALL | ahead;
    loop {
        ask_and_wait(t, kind);
        match actions::perform(t, None) {
            actions::Next::Ask(k) => kind = k,
            actions::Next::Then(slots::then::NATIVELY) => {
                if futex::natively(t) {
                    return 0;
                }
                // SAFETY: as above.
                kind = ask::CALL | write_call(t, unsafe { &*regs });
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
