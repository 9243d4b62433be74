//! Classic BPF as seccomp(2) has it: what is a program, and what it says of a call. Bounded: jumps only go forward.
use abi::seccomp::{CallData, Insn};
use std::ops::{BitAnd, BitOr, BitXor};

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

/// The others that seccomp accepts. `X`: the operand is the index register, not the constant.
mod more {
    pub const X: u16 = 0x08;
    pub const LD_IMM: u16 = 0x00;
    pub const LD_MEM: u16 = 0x60;
    pub const LD_LEN: u16 = 0x80;
    pub const LDX_IMM: u16 = 0x01;
    pub const LDX_MEM: u16 = 0x61;
    pub const LDX_LEN: u16 = 0x81;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ADD: u16 = 0x04;
    pub const SUB: u16 = 0x14;
    pub const MUL: u16 = 0x24;
    pub const DIV: u16 = 0x34;
    pub const OR: u16 = 0x44;
    pub const LSH: u16 = 0x64;
    pub const RSH: u16 = 0x74;
    pub const NEG: u16 = 0x84;
    pub const XOR: u16 = 0xa4;
    pub const JSET: u16 = 0x45;
    pub const RET_A: u16 = 0x16;
    pub const TAX: u16 = 0x07;
    pub const TXA: u16 = 0x87;
}
use more::*;

/// Words of memory a program has.
const CELLS: usize = 16;
/// The most instructions a program may have (BPF_MAXINSNS).
pub const PROGRAM_MAX: usize = 4096;

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

/// Does `program` load a word at or after byte `from` of the call's data, before byte `to`?
pub fn loads(program: &[Insn], from: u32, to: u32) -> bool {
    program.iter().any(|i| i.code == op::LD && (from..to).contains(&i.k))
}

/// Whether the kernel would take the program (bpf_check_classic, seccomp_check_filter).
pub fn valid(program: &[Insn]) -> bool {
    let n = program.len();
    if n == 0 || n > PROGRAM_MAX {
        return false;
    }
    // Which cells are sure to have been written, at each instruction: jumps only go forward.
    let mut written = vec![u16::MAX; n];
    let mut here = 0u16;
    for (pc, i) in program.iter().enumerate() {
        here &= written[pc];
        let within = |skip: usize| pc + 1 + skip < n;
        let cell = |k: u32| (k as usize) < CELLS;
        let ok = match i.code {
            op::LD => i.k < size_of::<CallData>() as u32 && i.k.is_multiple_of(4),
            LD_MEM | LDX_MEM => cell(i.k) && here & 1 << i.k != 0,
            ST | STX if cell(i.k) => {
                here |= 1 << i.k;
                true
            }
            DIV => i.k != 0,
            LSH | RSH => i.k < 32,
            op::JA => (i.k as usize) < n && within(i.k as usize),
            c if jump(c) => within(i.jt as usize) && within(i.jf as usize),
            LD_IMM | LDX_IMM | LD_LEN | LDX_LEN | NEG | TAX | TXA | op::RET | RET_A => true,
            c => arithmetic(c & !X),
        };
        if !ok {
            return false;
        }
        match i.code {
            op::JA => {
                written[pc + 1 + i.k as usize] &= here;
                here = u16::MAX;
            }
            c if jump(c) => {
                written[pc + 1 + i.jt as usize] &= here;
                written[pc + 1 + i.jf as usize] &= here;
                here = u16::MAX;
            }
            op::RET | RET_A => here = u16::MAX,
            _ => {}
        }
    }
    matches!(program[n - 1].code, op::RET | RET_A)
}

fn jump(code: u16) -> bool {
    matches!(code & !X, op::JEQ | op::JGT | op::JGE | JSET)
}

fn arithmetic(code: u16) -> bool {
    matches!(code, ADD | SUB | MUL | DIV | op::AND | OR | XOR | LSH | RSH)
}

/// The filter's return value, or `None` when the program is not one the kernel would take: an unknown
/// instruction, a jump past the end, a load outside the data.
pub fn run(program: &[Insn], call: &CallData) -> Option<u32> {
    run_with(program, |offset| word(call, offset))
}

/// As [`run`], where only the call's number is known: `None` too if more is looked at.
pub fn run_by_number(program: &[Insn], nr: u32, arch: u32) -> Option<u32> {
    run_with(program, |offset| match offset {
        0 => Some(nr),
        4 => Some(arch),
        _ => None,
    })
}

fn run_with(program: &[Insn], load: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    let (mut pc, mut acc, mut index) = (0usize, 0u32, 0u32);
    let mut cells = [0u32; CELLS];
    loop {
        let i = program.get(pc)?;
        pc += 1;
        let with = if i.code & X != 0 { index } else { i.k };
        let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            op::LD => acc = load(i.k)?,
            LD_IMM => acc = i.k,
            LDX_IMM => index = i.k,
            LD_LEN => acc = size_of::<CallData>() as u32,
            LDX_LEN => index = size_of::<CallData>() as u32,
            LD_MEM => acc = *cells.get(i.k as usize)?,
            LDX_MEM => index = *cells.get(i.k as usize)?,
            ST => *cells.get_mut(i.k as usize)? = acc,
            STX => *cells.get_mut(i.k as usize)? = index,
            NEG => acc = acc.wrapping_neg(),
            TAX => index = acc,
            TXA => acc = index,
            op::RET => return Some(i.k),
            RET_A => return Some(acc),
            op::JA => pc = pc.checked_add(i.k as usize)?,
            c => match c & !X {
                op::JEQ => pc += branch(acc == with),
                op::JGT => pc += branch(acc > with),
                op::JGE => pc += branch(acc >= with),
                JSET => pc += branch(acc & with != 0),
                ADD => acc = acc.wrapping_add(with),
                SUB => acc = acc.wrapping_sub(with),
                MUL => acc = acc.wrapping_mul(with),
                // A division by nothing ends the program, with the answer 0.
                DIV => match acc.checked_div(with) {
                    Some(q) => acc = q,
                    None => return Some(0),
                },
                op::AND => acc = acc.bitand(with),
                OR => acc = acc.bitor(with),
                XOR => acc = acc.bitxor(with),
                LSH => acc <<= with & 31,
                RSH => acc >>= with & 31,
                _ => return None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    #[test]
    fn arithmetic_memory_and_jumps() {
        let call = CallData { nr: 39, arch: 7, ip: 0, args: [6, 0, 0, 0, 0, 0] };
        let program = [
            insn(op::LD, 0, 0, 16),
            insn(ST, 0, 0, 3),
            insn(LDX_MEM, 0, 0, 3),
            insn(MUL | X, 0, 0, 0),
            insn(SUB, 0, 0, 1),
            insn(JSET, 0, 1, 0x20),
            insn(RET_A, 0, 0, 0),
            insn(op::RET, 0, 0, 0),
        ];
        assert!(valid(&program));
        assert_eq!(run(&program, &call), Some(35));
        assert_eq!(run_by_number(&program, 39, 7), None, "it looks at an argument");
        assert_eq!(run(&[insn(LD_IMM, 0, 0, 9), insn(DIV | X, 0, 0, 0), insn(RET_A, 0, 0, 0)], &call), Some(0));
    }

    #[test]
    fn what_is_no_program() {
        let ret = insn(op::RET, 0, 0, 0);
        assert!(valid(&[ret]));
        let cases = [
            vec![],
            vec![insn(op::LD, 0, 0, 0)],
            vec![insn(op::LD, 0, 0, 64), ret],
            vec![insn(op::LD, 0, 0, 2), ret],
            vec![insn(0x28, 0, 0, 0), ret],
            vec![insn(LD_MEM, 0, 0, 0), ret],
            vec![insn(ST, 0, 0, 16), ret],
            vec![insn(DIV, 0, 0, 0), ret],
            vec![insn(LSH, 0, 0, 32), ret],
            vec![insn(op::JA, 0, 0, 1), ret],
            vec![insn(op::JEQ, 0, 1, 0), ret],
            // One way to the load does not write the cell.
            vec![insn(op::JEQ, 1, 0, 0), insn(ST, 0, 0, 1), insn(LD_MEM, 0, 0, 1), ret],
        ];
        for program in cases {
            assert!(!valid(&program), "{program:?}");
        }
        let both = [insn(ST, 0, 0, 1), insn(op::JEQ, 1, 0, 0), insn(NEG, 0, 0, 0), insn(LD_MEM, 0, 0, 1), ret];
        assert!(valid(&both));
    }
}
