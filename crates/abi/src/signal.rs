//! Signals as data: signal(7), sigaction(2), sigaltstack(2).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `siginfo_t`: 128 bytes, its union as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: i32,
    /// kill: pid and uid. SIGCHLD: pid, uid; status; times. Fault: address. Timer: id, overrun; value.
    pub fields: [u32; 28],
}

impl SigInfo {
    pub fn new(signo: i32, code: i32) -> SigInfo {
        SigInfo { signo, errno: 0, code, pad: 0, fields: [0; 28] }
    }
    /// From kill(2), tgkill(2) and the like.
    pub fn from_user(signo: i32, code: i32, pid: i32, uid: u32) -> SigInfo {
        let mut s = SigInfo::new(signo, code);
        s.fields[0] = pid as u32;
        s.fields[1] = uid;
        s
    }
    /// Raised by the kernel, not sent by a process: SIGPIPE, SIGXFSZ, SIGALRM.
    pub fn from_kernel(&self) -> bool {
        self.code >= 0 && self.fields[0] == 0
    }
    /// A fault at `addr`.
    pub fn fault(signo: i32, code: i32, addr: u64) -> SigInfo {
        let mut s = SigInfo::new(signo, code);
        s.fields[0] = addr as u32;
        s.fields[1] = (addr >> 32) as u32;
        s
    }
    /// SIGCHLD: `status` is the exit status or the signal.
    pub fn child(code: i32, pid: i32, uid: u32, status: i32) -> SigInfo {
        let mut s = SigInfo::from_user(crate::c::SIGCHLD, code, pid, uid);
        s.fields[2] = status as u32;
        s
    }
}

/// `struct sigevent`: 64 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigEvent {
    pub value: u64,
    pub signo: i32,
    pub notify: i32,
    /// With SIGEV_THREAD_ID.
    pub tid: i32,
    pub rest: [u32; 11],
}

/// `struct sigaction` as the kernel has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

pub const SIG_DFL: u64 = 0;
pub const SIG_IGN: u64 = 1;

impl SigAction {
    pub fn has(&self, flag: i32) -> bool {
        self.flags & flag as u32 as u64 != 0
    }
}

/// `stack_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    pub sp: u64,
    pub flags: i32,
    pub pad: i32,
    pub size: u64,
}

pub const SS_ONSTACK: i32 = 1;
pub const SS_DISABLE: i32 = 2;
pub const SS_AUTODISARM: i32 = 1 << 31;
pub const MINSIGSTKSZ: u64 = 2048;

impl Default for StackT {
    fn default() -> Self {
        StackT { sp: 0, flags: SS_DISABLE, pad: 0, size: 0 }
    }
}

impl StackT {
    pub fn contains(&self, sp: u64) -> bool {
        self.flags & SS_DISABLE == 0 && sp > self.sp && sp - self.sp <= self.size
    }
}

/// A set of signals, bit 0 for signal 1.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

impl SigSet {
    /// SIGKILL and SIGSTOP, which no mask holds.
    pub const UNBLOCKABLE: SigSet = SigSet(1 << 8 | 1 << 18);

    pub const fn of(sig: i32) -> SigSet {
        SigSet(1 << (sig - 1))
    }
    pub const fn has(self, sig: i32) -> bool {
        self.0 & (1 << (sig - 1)) != 0
    }
    pub const fn with(self, o: SigSet) -> SigSet {
        SigSet(self.0 | o.0)
    }
    pub const fn without(self, o: SigSet) -> SigSet {
        SigSet(self.0 & !o.0)
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// As a mask that may be set.
    pub const fn blockable(self) -> SigSet {
        self.without(SigSet::UNBLOCKABLE)
    }
}

impl core::fmt::Debug for SigSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries((1..=64).filter(|s| self.has(*s))).finish()
    }
}
