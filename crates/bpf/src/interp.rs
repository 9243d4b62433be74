//! Runs a filter as the kernel would, for tests and explanations.
use abi::seccomp::{CallData, Insn};

/// The instructions the compiler writes, which are a part of what seccomp accepts.
pub mod op {
    /// Load the 32-bit word at this byte of the call's data.
    pub const LD: u16 = 0x20;
    /// Keep the accumulator's bits that are set in the constant.
    pub const AND: u16 = 0x54;
    /// Return the constant.
    pub const RET: u16 = 0x06;
    /// Skip this many instructions.
    pub const JA: u16 = 0x05;
    pub const JEQ: u16 = 0x15;
    /// Unsigned greater.
    pub const JGT: u16 = 0x25;
    /// Unsigned greater or equal.
    pub const JGE: u16 = 0x35;
}

/// The 32-bit word at a byte offset of `struct seccomp_data`, little-endian.
fn word(call: &CallData, offset: u32) -> Option<u32> {
    let half = |v: u64| {
        if offset & 4 != 0 { (v >> 32) as u32 } else { v as u32 }
    };
    match offset {
        o if !o.is_multiple_of(4) => None,
        0 => Some(call.nr),
        4 => Some(call.arch),
        8 | 12 => Some(half(call.ip)),
        o => call.args.get((o as usize - 16) / 8).map(|&v| half(v)),
    }
}

/// The filter's return value, or `None` when the program is not one the kernel would take: an unknown
/// instruction, a jump past the end, a load outside the data.
pub fn run(program: &[Insn], call: &CallData) -> Option<u32> {
    let (mut pc, mut acc) = (0usize, 0u32);
    loop {
        let i = program.get(pc)?;
        let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        pc += 1;
        match i.code {
            op::LD => acc = word(call, i.k)?,
            op::AND => acc &= i.k,
            op::RET => return Some(i.k),
            op::JA => pc = pc.checked_add(i.k as usize)?,
            op::JEQ => pc += branch(acc == i.k),
            op::JGT => pc += branch(acc > i.k),
            op::JGE => pc += branch(acc >= i.k),
            _ => return None,
        }
    }
}
