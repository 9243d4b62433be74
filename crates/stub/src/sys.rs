//! Host calls.
use core::arch::asm;

/// The notified call: `bpf::DOORBELL_NR`.
pub const DOORBELL: u64 = 447;
pub const EINTR: i64 = 4;
pub const EINVAL: i64 = 22;
pub const ENOSYS: i64 = 38;

pub const MMAP: u64 = 9;
pub const RT_SIGACTION: u64 = 13;
pub const RT_SIGPROCMASK: u64 = 14;
pub const PAUSE: u64 = 34;
pub const SENDMSG: u64 = 46;
pub const RECVMSG: u64 = 47;
pub const CLONE: u64 = 56;
pub const CLOSE: u64 = 3;
pub const SIGALTSTACK: u64 = 131;
pub const READLINK: u64 = 89;
pub const ARCH_PRCTL: u64 = 158;
pub const FUTEX: u64 = 202;
pub const EXIT_GROUP: u64 = 231;
pub const DUP3: u64 = 292;
pub const SECCOMP: u64 = 317;
pub const MEMBARRIER: u64 = 324;

/// Any host call.
#[inline(always)]
pub fn call6(nr: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64 {
    let r: i64;
    // SAFETY: the stub's filter bounds what the number can be; the memory it may change is the guest's, or
    // named by a pointer the caller owns.
    unsafe {
        asm!("syscall", inlateout("rax") nr => r, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    r
}

/// The CPU this runs on: what the host writes in the limit of the segment that getcpu(2) in the vDSO reads.
#[inline(always)]
pub fn cpu() -> u64 {
    let mut limit = 0u64;
    // SAFETY: reads a limit of the host's descriptor table, no memory; leaves `limit` as it is if there is none.
    unsafe { asm!("lsl {0:e}, {1:e}", inout(reg) limit, in(reg) 0x7b, options(nomem, nostack)) };
    limit & 0xfff
}

#[inline(always)]
pub fn call3(nr: u64, a: u64, b: u64, c: u64) -> i64 {
    call6(nr, a, b, c, 0, 0, 0)
}

pub fn exit_group(status: u64) -> ! {
    loop {
        call3(EXIT_GROUP, status, 0, 0);
    }
}
