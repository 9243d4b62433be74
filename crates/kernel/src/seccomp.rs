//! Filters that guests put on themselves: seccomp(2).
use abi::seccomp::{AUDIT_ARCH_X86_64, CallData, Insn};
use abi::{Errno, Result};
use bpf::interp;
use std::rc::Rc;

pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
pub const RET_KILL_THREAD: u32 = 0;
pub const RET_TRAP: u32 = 0x0003_0000;
pub const RET_ERRNO: u32 = 0x0005_0000;
pub const RET_TRACE: u32 = 0x7ff0_0000;
pub const RET_LOG: u32 = 0x7ffc_0000;
pub const RET_ALLOW: u32 = 0x7fff_0000;
/// The part of an answer that is the action, and the part that is its data.
pub const ACTION: u32 = 0xffff_0000;
pub const DATA: u32 = 0x0000_ffff;

/// Numbers for which "allowed whatever else" is worked out ahead.
const NUMBERS: usize = 512;
/// Instructions of all filters of a thread, at most, each filter counting for some more (MAX_INSNS_PER_PATH).
const PATH_MAX: usize = 32768;
const PENALTY: usize = 4;

/// A filter, and those that were there before it: all are asked.
#[derive(Debug)]
pub struct Filter {
    program: Vec<Insn>,
    before: Option<Rc<Filter>>,
    /// Actions other than allow are logged.
    pub log: bool,
    /// One of them looks at the instruction pointer.
    pub looks_at_ip: bool,
    /// Numbers that this one and those before it allow by the number alone.
    allowed: [u64; NUMBERS / 64],
    pub count: usize,
    instructions: usize,
}

impl Filter {
    /// `program` on top of `before`. EINVAL: it is none. ENOMEM: too much of it.
    pub fn new(program: Vec<Insn>, before: Option<Rc<Filter>>, log: bool) -> Result<Rc<Filter>> {
        if !interp::valid(&program) {
            return Err(Errno::EINVAL);
        }
        let instructions = program.len() + before.as_ref().map_or(0, |b| b.instructions + PENALTY);
        if instructions > PATH_MAX {
            return Err(Errno::ENOMEM);
        }
        let mut allowed = [0u64; NUMBERS / 64];
        for nr in 0..NUMBERS {
            let here = interp::run_by_number(&program, nr as u32, AUDIT_ARCH_X86_64) == Some(RET_ALLOW);
            if here && before.as_ref().is_none_or(|b| b.allows(nr as u64)) {
                allowed[nr / 64] |= 1 << (nr % 64);
            }
        }
        Ok(Rc::new(Filter {
            looks_at_ip: interp::loads(&program, 8, 16) || before.as_ref().is_some_and(|b| b.looks_at_ip),
            count: 1 + before.as_ref().map_or(0, |b| b.count),
            program,
            before,
            log,
            allowed,
            instructions,
        }))
    }

    /// Is the call allowed by its number alone?
    pub fn allows(&self, nr: u64) -> bool {
        (nr as usize) < NUMBERS && self.allowed[nr as usize / 64] & 1 << (nr % 64) != 0
    }

    /// The most restrictive answer of all filters, the newest first among equals, and whether its filter logs.
    pub fn decide(&self, call: &CallData) -> (u32, bool) {
        let mut worst = (RET_ALLOW, false);
        let mut at = Some(self);
        while let Some(f) = at {
            let said = interp::run(&f.program, call).unwrap_or(RET_KILL_THREAD);
            if ((said & ACTION) as i32) < (worst.0 & ACTION) as i32 {
                worst = (said, f.log);
            }
            at = f.before.as_deref();
        }
        worst
    }

    /// Is `other` this one, or one of those before it?
    pub fn includes(&self, other: &Rc<Filter>) -> bool {
        let mut at = Some(self);
        while let Some(f) = at {
            if std::ptr::eq(f, &**other) {
                return true;
            }
            at = f.before.as_deref();
        }
        false
    }
}

/// What a thread has put on itself.
#[derive(Debug, Clone, Default)]
pub enum Seccomp {
    #[default]
    Off,
    /// read, write, exit and rt_sigreturn only.
    Strict,
    Filtered(Rc<Filter>),
}

impl Seccomp {
    /// As PR_GET_SECCOMP and /proc/PID/status have it.
    pub fn mode(&self) -> i32 {
        match self {
            Seccomp::Off => 0,
            Seccomp::Strict => 1,
            Seccomp::Filtered(_) => 2,
        }
    }
    /// Is the call allowed by its number alone?
    pub fn allows(&self, nr: u64) -> bool {
        match self {
            Seccomp::Off => true,
            Seccomp::Strict => false,
            Seccomp::Filtered(f) => f.allows(nr),
        }
    }
    pub fn filter(&self) -> Option<Rc<Filter>> {
        match self {
            Seccomp::Filtered(f) => Some(f.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(list: &[(u16, u8, u8, u32)]) -> Vec<Insn> {
        list.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect()
    }

    #[test]
    fn the_most_restrictive_wins_and_numbers_are_known_ahead() {
        let errno = program(&[(0x20, 0, 0, 0), (0x15, 0, 1, 39), (6, 0, 0, RET_ERRNO | 5), (6, 0, 0, RET_ALLOW)]);
        let all = program(&[(0x20, 0, 0, 16), (6, 0, 0, RET_ALLOW)]);
        let kill = program(&[(6, 0, 0, RET_KILL_PROCESS)]);
        let first = Filter::new(errno, None, false).unwrap();
        assert!(first.allows(1) && !first.allows(39) && !first.allows(600));
        let second = Filter::new(all, Some(first.clone()), true).unwrap();
        assert!(!second.allows(1), "an argument was looked at");
        let call = CallData { nr: 39, arch: AUDIT_ARCH_X86_64, ..CallData::default() };
        assert_eq!(second.decide(&call), (RET_ERRNO | 5, false));
        assert!(second.includes(&first) && !first.includes(&second));
        let third = Filter::new(kill, Some(second), false).unwrap();
        assert_eq!(third.decide(&call).0, RET_KILL_PROCESS);
        assert_eq!(third.count, 3);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let long = vec![Insn { code: 6, k: RET_ALLOW, ..Insn::default() }; 4096];
        let mut last = None;
        for _ in 0..7 {
            last = Some(Filter::new(long.clone(), last, false).unwrap());
        }
        assert_eq!(Filter::new(long, last, false).unwrap_err(), Errno::ENOMEM);
    }
}
