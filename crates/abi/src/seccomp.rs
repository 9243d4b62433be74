//! What a seccomp filter is made of, and what it sees (seccomp(2)).
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One instruction of classic BPF: `struct sock_filter`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Insn {
    pub code: u16,
    /// How many instructions to skip when the test holds, and when it does not.
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// What the filter decides on: `struct seccomp_data`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallData {
    pub nr: u32,
    /// One of the `AUDIT_ARCH_*` values.
    pub arch: u32,
    /// The address after the system call instruction.
    pub ip: u64,
    pub args: [u64; 6],
}

/// 64-bit x86.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Set in the number of a call made through the x32 interface.
pub const X32_BIT: u32 = 0x4000_0000;

const _: () = assert!(size_of::<Insn>() == 8 && size_of::<CallData>() == 64);
