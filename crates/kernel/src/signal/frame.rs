//! Signal frames of x86-64: what a handler finds on its stack, and what rt_sigreturn takes back.
//!
//! The frame is the host kernel's own layout (`struct rt_sigframe`): return address, `ucontext`, `siginfo`; the floating
//! point state lies above it, 64-byte aligned, and is copied there by the thread itself.
use super::{SigAction, SigInfo, SigSet};
use abi::regs::Regs;
use abi::signal::{SS_AUTODISARM, SS_DISABLE, StackT};
use abi::{Errno, Result, c};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct rt_sigframe` without the floating point state.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frame {
    pub restorer: u64,
    pub flags: u64,
    pub link: u64,
    pub stack: StackT,
    pub regs: Regs,
    pub fp: u64,
    pub reserved: [u64; 8],
    pub mask: u64,
    pub info: SigInfo,
}

const _: () = assert!(size_of::<Frame>() == 8 + 304 + 128);

/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
const UC_FLAGS: u64 = 1 | 2 | 4;
const RED_ZONE: u64 = 128;
/// cs 0x33, ss 0x2b
const USER_SEGMENTS: u64 = 0x002b_0000_0000_0033;
/// Flags a program may change: CF PF AF ZF SF TF DF OF RF AC.
const USER_FLAGS: u64 = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
const TF_DF_RF: u64 = 0x100 | 0x400 | 0x1_0000;

/// Where things go for one delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The frame, to be written at `addr`.
    pub frame: Frame,
    pub addr: u64,
    /// The handler's first registers.
    pub regs: Regs,
    /// Where the `fp_size` bytes of floating point state go.
    pub fp_addr: u64,
}

/// Lays out the frame of `info` for a thread at `regs`. SIGSEGV (as EFAULT) if there is no room for it.
pub fn deliver(
    regs: &Regs,
    action: &SigAction,
    info: SigInfo,
    mask: SigSet,
    stack: &StackT,
    fp_size: u64,
) -> Result<Delivery> {
    if !action.has(0x0400_0000) {
        // No SA_RESTORER: the 64-bit ABI has no other way back.
        return Err(Errno::EFAULT);
    }
    let on_stack = stack.flags & SS_DISABLE == 0 && stack.contains(regs.rsp) && stack.flags & SS_AUTODISARM == 0;
    let switch = action.has(c::SA_ONSTACK) && stack.flags & SS_DISABLE == 0 && !on_stack;
    let top = if switch { stack.sp + stack.size } else { regs.rsp.wrapping_sub(RED_ZONE) };
    let fp_addr = top.wrapping_sub(fp_size) & !63;
    let addr = ((fp_addr.wrapping_sub(size_of::<Frame>() as u64)) & !15).wrapping_sub(8);
    if addr > top || (switch && addr < stack.sp) {
        return Err(Errno::EFAULT);
    }
    let mut saved = *regs;
    saved.segments = USER_SEGMENTS;
    saved.oldmask = mask.0;
    let frame = Frame {
        restorer: action.restorer,
        flags: UC_FLAGS,
        link: 0,
        stack: *stack,
        regs: saved,
        fp: if fp_size > 0 { fp_addr } else { 0 },
        reserved: [0; 8],
        mask: mask.0,
        info,
    };
    let mut regs = *regs;
    regs.rdi = info.signo as u64;
    regs.rsi = addr + std::mem::offset_of!(Frame, info) as u64;
    regs.rdx = addr + std::mem::offset_of!(Frame, flags) as u64;
    regs.rax = 0;
    regs.rip = action.handler;
    regs.rsp = addr;
    regs.eflags &= !TF_DF_RF;
    regs.segments = USER_SEGMENTS;
    Ok(Delivery { frame, addr, regs, fp_addr })
}

/// Where the frame of a returning handler starts, from its stack pointer at rt_sigreturn.
pub fn returning(rsp: u64) -> u64 {
    rsp.wrapping_sub(8)
}

/// The registers a frame asks for, made harmless. EFAULT: the address is not one of a program's.
pub fn sanitise(frame: &Frame, now: &Regs) -> Result<Regs> {
    let mut r = frame.regs;
    const USER_END: u64 = 1 << 47;
    if r.rip >= USER_END || r.rsp >= USER_END {
        return Err(Errno::EFAULT);
    }
    r.eflags = (now.eflags & !USER_FLAGS) | (r.eflags & USER_FLAGS);
    r.segments = USER_SEGMENTS;
    Ok(r)
}

/// Offsets in the XSAVE image: FXSAVE's mxcsr and its mask, the software bytes, the XSAVE header.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const SOFTWARE: usize = 464;
const HEADER: usize = 512;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

/// Makes a floating point image from a guest's frame acceptable to the host. `size`: of the host's own images.
/// EFAULT: it is not one of the host's.
pub fn sanitise_fp(fp: &mut [u8], size: u64) -> Result {
    let word = |fp: &[u8], at: usize| u32::from_ne_bytes([fp[at], fp[at + 1], fp[at + 2], fp[at + 3]]);
    if fp.len() as u64 != size || fp.len() < HEADER {
        return Err(Errno::EFAULT);
    }
    let mask = match word(fp, MXCSR_MASK) {
        0 => 0xffbf,
        m => m & 0xffff,
    };
    let mxcsr = word(fp, MXCSR) & mask;
    fp[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_ne_bytes());
    if fp.len() == HEADER {
        return Ok(());
    }
    let extended = word(fp, SOFTWARE + 4) as usize;
    if word(fp, SOFTWARE) != MAGIC1 || extended != fp.len() || fp.len() < HEADER + 64 + 4 {
        return Err(Errno::EFAULT);
    }
    if word(fp, fp.len() - 4) != MAGIC2 {
        return Err(Errno::EFAULT);
    }
    let features: [u8; 8] = fp[SOFTWARE + 8..SOFTWARE + 16].try_into().map_err(|_| Errno::EFAULT)?;
    let allowed = u64::from_ne_bytes(features);
    let header: [u8; 8] = fp[HEADER..HEADER + 8].try_into().map_err(|_| Errno::EFAULT)?;
    let present = u64::from_ne_bytes(header) & allowed;
    fp[HEADER..HEADER + 8].copy_from_slice(&present.to_ne_bytes());
    fp[HEADER + 8..HEADER + 64].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(flags: i32) -> SigAction {
        SigAction { handler: 0x40_1000, flags: flags as u64 | 0x0400_0000, restorer: 0x40_2000, mask: 0 }
    }

    #[test]
    fn the_frame_is_linux_s() {
        assert_eq!(std::mem::offset_of!(Frame, regs) - 8, std::mem::offset_of!(c::ucontext_t, uc_mcontext));
        assert_eq!(std::mem::offset_of!(Frame, mask) - 8, 296);
        assert_eq!(std::mem::offset_of!(Frame, info) - 8, 304);
        let regs = Regs { rsp: 0x7000_0000, rip: 0x40_0000, ..Default::default() };
        let d = deliver(&regs, &action(0), SigInfo::new(10, 0), SigSet(4), &StackT::default(), 836).unwrap();
        assert_eq!(d.addr % 16, 8, "as after a call");
        assert_eq!(d.fp_addr % 64, 0);
        assert!(d.fp_addr + 836 <= regs.rsp - 128 && d.addr + size_of::<Frame>() as u64 <= d.fp_addr);
        assert_eq!((d.regs.rdi, d.regs.rip, d.regs.rsp), (10, 0x40_1000, d.addr));
        assert_eq!(d.frame.mask, 4);
    }

    #[test]
    fn the_alternate_stack_is_used_once_and_its_end_is_seen() {
        let regs = Regs { rsp: 0x7000_0000, ..Default::default() };
        let stack = StackT { sp: 0x10_0000, flags: 0, pad: 0, size: 8192 };
        let a = action(c::SA_ONSTACK);
        let d = deliver(&regs, &a, SigInfo::new(10, 0), SigSet(0), &stack, 836).unwrap();
        assert!(d.addr > stack.sp && d.addr < stack.sp + stack.size);
        let again = deliver(&d.regs, &a, SigInfo::new(10, 0), SigSet(0), &stack, 836).unwrap();
        assert!(again.addr < d.addr);
        let small = StackT { size: 1024, ..stack };
        assert!(deliver(&regs, &a, SigInfo::new(10, 0), SigSet(0), &small, 836).is_err());
    }

    #[test]
    fn what_comes_back_is_harmless() {
        let regs = Regs { rsp: 0x7000_0000, rip: 0x40_0000, eflags: 0x202, ..Default::default() };
        let mut f = deliver(&regs, &action(0), SigInfo::new(10, 0), SigSet(0), &StackT::default(), 0).unwrap().frame;
        f.regs.eflags = u64::MAX;
        f.regs.segments = u64::MAX;
        let r = sanitise(&f, &regs).unwrap();
        assert_eq!(r.eflags & 0x3000, 0, "no I/O privilege");
        assert_eq!(r.segments, USER_SEGMENTS);
        f.regs.rip = 0xffff_8000_0000_0000;
        assert!(sanitise(&f, &regs).is_err());
        let mut fp = vec![0xff; 900];
        assert!(sanitise_fp(&mut fp, 900).is_err());
        assert!(sanitise_fp(&mut fp[..512].to_vec(), 900).is_err());
    }
}
