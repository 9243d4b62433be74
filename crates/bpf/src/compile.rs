//! From rules to instructions.
//!
//! The program is written from its end to its beginning, so the place a jump goes to is always known.
//! A place ([`Label`]) is the number of instructions from it to the end.
use crate::interp::op;
use crate::policy::{Action, Policy, Rule, Test};
use abi::seccomp::{AUDIT_ARCH_X86_64, Insn, X32_BIT};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// The kernel takes no longer program (`BPF_MAXINSNS`).
pub const MAX_INSNS: usize = 4096;

/// Why a policy cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A system call has six arguments.
    ArgumentIndex { nr: u32, index: u8 },
    /// Numbers from `X32_BIT` on are not system calls of this architecture.
    Number(u32),
    /// An error number is 1 to 4095.
    Errno(u16),
    /// The code range is empty or crosses a 4 GiB boundary.
    CodeRange,
    /// More than [`MAX_INSNS`] instructions.
    TooLong(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ArgumentIndex { nr, index } => write!(f, "system call {nr} has no argument {index}"),
            Error::Number(nr) => write!(f, "{nr:#x} is not a system call number"),
            Error::Errno(n) => write!(f, "{n} is not an error number"),
            Error::CodeRange => f.write_str("the code range is empty or crosses a 4 GiB boundary"),
            Error::TooLong(n) => write!(f, "the filter has {n} instructions, the kernel takes {MAX_INSNS}"),
        }
    }
}

impl std::error::Error for Error {}

/// Compiles a policy.
pub fn compile(policy: &Policy) -> Result<Vec<Insn>, Error> {
    check(policy)?;
    let mut by_nr: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &policy.rules {
        by_nr.entry(rule.nr).or_default().push(rule);
    }
    let mut w = Writer::default();
    let default = w.ret(policy.default);

    // Every number below X32_BIT belongs to one run of numbers with the same code.
    let mut runs: Vec<(u32, Label)> = Vec::new();
    let mut push = |start: u32, label: Label| match runs.last_mut() {
        Some(last) if last.1 == label => {}
        Some(last) if last.0 == start => last.1 = label,
        _ => runs.push((start, label)),
    };
    push(0, default);
    for (&nr, rules) in &by_nr {
        let label = w.rules(rules, default);
        push(nr, label);
        push(nr + 1, default);
    }
    // Replacing an empty run may have left two equal neighbours.
    runs.dedup_by(|next, prev| next.1 == prev.1);
    let mut entry = w.search(&runs);
    w.load(NR, &mut entry);

    if let Some(code) = &policy.code {
        // The kernel reports the address after the instruction: start < ip <= end.
        let high = (code.start >> 32) as u32;
        let inside = w.jump(op::JGT, code.end as u32, default, entry);
        let mut low = w.jump(op::JGT, code.start as u32, inside, default);
        w.load(IP, &mut low);
        entry = w.jump(op::JEQ, high, low, default);
        w.load(IP + 4, &mut entry);
    }
    let foreign = w.ret(policy.foreign);
    entry = w.jump(op::JGE, X32_BIT, foreign, entry);
    w.load(NR, &mut entry);
    entry = w.jump(op::JEQ, AUDIT_ARCH_X86_64, entry, foreign);
    w.load(ARCH, &mut entry);
    w.finish(entry)
}

fn check(policy: &Policy) -> Result<(), Error> {
    for rule in &policy.rules {
        if rule.nr >= X32_BIT {
            return Err(Error::Number(rule.nr));
        }
        if let Some(a) = rule.args.iter().find(|a| a.index > 5) {
            return Err(Error::ArgumentIndex { nr: rule.nr, index: a.index });
        }
    }
    let actions = policy.rules.iter().map(|r| r.action).chain([policy.default, policy.foreign]);
    for action in actions {
        match action {
            Action::Errno(n) if n == 0 || n > 4095 => return Err(Error::Errno(n)),
            _ => {}
        }
    }
    match &policy.code {
        Some(c) if c.start >= c.end || c.start >> 32 != c.end >> 32 => Err(Error::CodeRange),
        _ => Ok(()),
    }
}

const NR: u32 = 0;
const ARCH: u32 = 4;
const IP: u32 = 8;

fn low_half(index: u8) -> u32 {
    16 + 8 * u32::from(index)
}

fn halves(v: u64) -> (u32, u32) {
    ((v >> 32) as u32, v as u32)
}

/// A place in the program, counted from its end; 0 is past the end.
type Label = usize;

/// The furthest a conditional jump goes here. The last ones up to 255 are for the trampolines that may
/// be written between the decision to jump directly and the jump.
const REACH: usize = 250;

#[derive(Default)]
struct Writer {
    /// Last instruction first.
    reversed: Vec<Insn>,
    returns: HashMap<Action, Label>,
    /// The latest trampoline to each place that needed one.
    trampolines: HashMap<Label, Label>,
}

impl Writer {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Insn { code, jt, jf, k });
        self.reversed.len()
    }

    /// The place of a return, written once.
    fn ret(&mut self, action: Action) -> Label {
        if let Some(&label) = self.returns.get(&action) {
            return label;
        }
        let label = self.push(op::RET, 0, 0, action.ret());
        self.returns.insert(action, label);
        label
    }

    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - to
    }

    /// `to`, or a trampoline to it where it is out of a conditional jump's reach.
    fn near(&mut self, to: Label) -> Label {
        let distance = self.distance(to);
        if distance <= REACH {
            return to;
        }
        match self.trampolines.get(&to) {
            Some(&t) if self.distance(t) <= REACH => t,
            _ => {
                let t = self.push(op::JA, 0, 0, distance as u32);
                self.trampolines.insert(to, t);
                t
            }
        }
    }

    /// A conditional jump, placed here.
    fn jump(&mut self, code: u16, k: u32, then: Label, otherwise: Label) -> Label {
        if then == otherwise {
            return then;
        }
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        let (jt, jf) = (self.distance(then), self.distance(otherwise));
        debug_assert!(jt <= 255 && jf <= 255);
        self.push(code, jt as u8, jf as u8, k)
    }

    /// Makes the code at `next` the next instruction, and puts a load before it.
    fn load(&mut self, offset: u32, next: &mut Label) {
        let far = self.distance(*next);
        if far > 0 {
            self.push(op::JA, 0, 0, far as u32);
        }
        *next = self.push(op::LD, 0, 0, offset);
    }

    /// Keeps the accumulator's bits in `mask`, then goes on at `next`, which must be what was written last.
    fn and(&mut self, mask: u32, next: Label) -> Label {
        debug_assert_eq!(next, self.reversed.len());
        if mask == u32::MAX { next } else { self.push(op::AND, 0, 0, mask) }
    }

    /// The rules of one number, in order; `default` when none decides.
    fn rules(&mut self, rules: &[&Rule], default: Label) -> Label {
        let reachable = rules.iter().position(|r| r.args.is_empty()).map_or(rules.len(), |i| i + 1);
        let mut next = default;
        for rule in rules[..reachable].iter().rev() {
            let mut entry = self.ret(rule.action);
            for a in rule.args.iter().rev() {
                entry = self.test(low_half(a.index), &a.test, entry, next);
            }
            next = entry;
        }
        next
    }

    fn test(&mut self, low: u32, test: &Test, pass: Label, fail: Label) -> Label {
        match test {
            Test::Eq(v) => self.masked(low, u64::MAX, *v, pass, fail),
            Test::Masked { mask, value } => self.masked(low, *mask, *value, pass, fail),
            Test::Le(v) => {
                let (hi, lo) = halves(*v);
                let mut entry = self.jump(op::JGT, lo, fail, pass);
                self.load(low, &mut entry);
                entry = self.jump(op::JEQ, hi, entry, pass);
                entry = self.jump(op::JGT, hi, fail, entry);
                self.load(low + 4, &mut entry);
                entry
            }
            Test::In(set) => self.member(low, set, pass, fail),
        }
    }

    fn masked(&mut self, low: u32, mask: u64, value: u64, pass: Label, fail: Label) -> Label {
        if value & !mask != 0 {
            return fail;
        }
        let ((mask_hi, mask_lo), (hi, lo)) = (halves(mask), halves(value));
        let mut entry = pass;
        for (offset, mask, value) in [(low, mask_lo, lo), (low + 4, mask_hi, hi)] {
            if mask != 0 {
                entry = self.jump(op::JEQ, value, entry, fail);
                if entry != fail {
                    entry = self.and(mask, entry);
                    self.load(offset, &mut entry);
                }
            }
        }
        entry
    }

    /// Membership: the high halves one after the other, under each its low halves.
    fn member(&mut self, low: u32, set: &[u64], pass: Label, fail: Label) -> Label {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &v in set {
            let (hi, lo) = halves(v);
            groups.entry(hi).or_default().push(lo);
        }
        let mut tests = Vec::new();
        for (hi, lows) in groups {
            let mut entry = fail;
            for lo in lows {
                entry = self.jump(op::JEQ, lo, pass, entry);
            }
            if entry != fail {
                self.load(low, &mut entry);
            }
            tests.push((hi, entry));
        }
        let mut entry = fail;
        for (hi, group) in tests {
            entry = self.jump(op::JEQ, hi, group, entry);
        }
        if entry != fail {
            self.load(low + 4, &mut entry);
        }
        entry
    }

    /// Binary search of the number in the accumulator; `runs` are sorted by their first number.
    fn search(&mut self, runs: &[(u32, Label)]) -> Label {
        match runs {
            [(_, label)] => *label,
            _ => {
                let (left, right) = runs.split_at(runs.len() / 2);
                let start = right[0].0;
                let right = self.search(right);
                let left = self.search(left);
                self.jump(op::JGE, start, right, left)
            }
        }
    }

    fn finish(mut self, entry: Label) -> Result<Vec<Insn>, Error> {
        debug_assert_eq!(entry, self.reversed.len());
        if self.reversed.len() > MAX_INSNS {
            return Err(Error::TooLong(self.reversed.len()));
        }
        self.reversed.reverse();
        Ok(self.reversed)
    }
}
