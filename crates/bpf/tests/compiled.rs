//! The compiled program must say what the policy says, on random policies and random calls.
use bpf::{Action, ArgTest, CallData, Error, Insn, Policy, Rule, Test, arg, compile, interp};

const X86_64: u32 = 0xc000_003e;

/// xorshift64*: repeatable randomness.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
    /// Values near the edges of the halves, so that tests and arguments meet.
    fn value(&mut self) -> u64 {
        let half = [0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
        match self.below(4) {
            0 => self.next(),
            1 => self.below(8),
            _ => self.of(&half) << 32 | self.of(&half),
        }
    }
    fn action(&mut self) -> Action {
        let n = 1 + self.below(4095) as u16;
        self.of(&[Action::Allow, Action::Errno(n), Action::Trap, Action::Notify, Action::Kill])
    }
    fn test(&mut self) -> Test {
        match self.below(5) {
            0 => Test::Eq(self.value()),
            1 => {
                let mask = self.value();
                Test::Masked { mask, value: self.value() & mask }
            }
            2 => Test::Masked { mask: self.value(), value: self.value() },
            3 => Test::Le(self.value()),
            _ => Test::In((0..self.below(7)).map(|_| self.value()).collect()),
        }
    }
    fn rule(&mut self, numbers: u64) -> Rule {
        let tests = self.below(4);
        let args = (0..tests).map(|_| ArgTest { index: self.below(6) as u8, test: self.test() }).collect();
        Rule { nr: self.below(numbers) as u32, args, action: self.action() }
    }
    fn policy(&mut self) -> Policy {
        let numbers = self.of(&[1, 3, 20, 500]);
        let rules = (0..self.below(80)).map(|_| self.rule(numbers)).collect();
        let code = (self.below(2) == 0).then(|| {
            let high = self.of(&[0, 1, 0x7fff]) << 32;
            let start = self.below(1 << 31);
            high | start..high | (start + 1 + self.below(1 << 20))
        });
        Policy { rules, default: self.action(), foreign: self.action(), code }
    }
    fn call(&mut self, policy: &Policy) -> CallData {
        let mut nr = self.below(510) as u32;
        let mut args = std::array::from_fn(|_| self.value());
        if !policy.rules.is_empty() && self.below(4) != 0 {
            let rule = &policy.rules[self.below(policy.rules.len() as u64) as usize];
            nr = rule.nr;
            for a in &rule.args {
                let arg = &mut args[usize::from(a.index)];
                *arg = match &a.test {
                    Test::Eq(v) | Test::Le(v) => *v,
                    Test::Masked { mask, value } => *arg & !mask | value,
                    Test::In(set) if set.is_empty() => *arg,
                    Test::In(set) => self.of(set),
                };
                // One in four is just beside.
                match self.below(12) {
                    0 => *arg ^= 1 << self.below(64),
                    1 => *arg = arg.wrapping_add(1),
                    2 => *arg = arg.wrapping_sub(1),
                    _ => {}
                }
            }
        }
        let ip = match &policy.code {
            Some(c) => match self.below(8) {
                0 => c.start,
                1 => c.end + 1,
                2 => c.end,
                3 => c.start + 1,
                4 => c.start ^ 1 << (32 + self.below(15)),
                _ => c.start + 1 + self.below(c.end - c.start),
            },
            None => self.next(),
        };
        let arch = if self.below(16) == 0 { self.of(&[0x4000_0003, 0xc000_00b7, 0]) } else { X86_64 };
        if self.below(16) == 0 {
            nr |= self.of(&[0x4000_0000, 0x8000_0000, 0xffff_ffff]);
        }
        CallData { nr, arch, ip, args }
    }
}

fn agree(random: &mut Random, policy: &Policy, calls: usize) {
    let program = compile(policy).expect("compiles");
    for _ in 0..calls {
        let call = random.call(policy);
        let want = policy.decide(&call).ret();
        assert_eq!(interp::run(&program, &call), Some(want), "{call:x?}\n{policy:x?}");
    }
}

#[test]
fn random_policies() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3000 {
        let policy = random.policy();
        agree(&mut random, &policy, 150);
    }
}

#[test]
fn long_policies_need_far_jumps() {
    let mut random = Random(7);
    for _ in 0..200 {
        let rules: Vec<Rule> = (0..250)
            .map(|nr| Rule {
                nr,
                args: vec![arg(1).eq(random.value()), arg(5).le(random.value())],
                action: random.action(),
            })
            .collect();
        let policy = Policy { rules, default: Action::Trap, foreign: Action::Kill, code: Some(0x1000..0x2000) };
        agree(&mut random, &policy, 500);
    }
    let set: Vec<u64> = (0..600).map(|_| random.value()).collect();
    let rule = Rule { nr: 3, args: vec![arg(0).is_in(set)], action: Action::Allow };
    let policy = Policy { rules: vec![rule], default: Action::Kill, foreign: Action::Kill, code: None };
    agree(&mut random, &policy, 50_000);
}

#[test]
fn own_policies() {
    let mut random = Random(11);
    let stub = bpf::stub_policy(0x7fff_0000..0x7fff_8000, Action::Notify);
    let sentries = [bpf::Platform::Slots, bpf::Platform::Ptrace].map(bpf::sentry_policy);
    for policy in sentries.into_iter().chain([stub, bpf::monitor_policy()]) {
        agree(&mut random, &policy, 200_000);
    }
}

#[test]
fn every_jump_lands_inside() {
    let mut random = Random(23);
    for _ in 0..500 {
        let program = compile(&random.policy()).expect("compiles");
        for (i, insn) in program.iter().enumerate() {
            let furthest = match insn.code {
                interp::op::JA => insn.k as usize,
                interp::op::JEQ | interp::op::JGT | interp::op::JGE => usize::from(insn.jt.max(insn.jf)),
                _ => 0,
            };
            let last = insn.code == interp::op::RET;
            assert!(i + 1 + furthest < program.len() || last, "{i} {insn:?} of {}", program.len());
        }
    }
}

#[test]
fn refusals() {
    let policy = |rule: Rule| Policy { rules: vec![rule], default: Action::Kill, foreign: Action::Kill, code: None };
    let rule = |nr, args, action| Rule { nr, args, action };
    assert_eq!(
        compile(&policy(rule(0, vec![arg(6).eq(0)], Action::Allow))),
        Err(Error::ArgumentIndex { nr: 0, index: 6 })
    );
    assert_eq!(compile(&policy(rule(0x4000_0001, vec![], Action::Allow))), Err(Error::Number(0x4000_0001)));
    assert_eq!(compile(&policy(rule(0, vec![], Action::Errno(0)))), Err(Error::Errno(0)));
    assert_eq!(compile(&policy(rule(0, vec![], Action::Errno(4096)))), Err(Error::Errno(4096)));
    let across = 0xffff_fff0..0x1_0000_0010;
    let bad = Policy { code: Some(across), ..policy(rule(0, vec![], Action::Allow)) };
    assert_eq!(compile(&bad), Err(Error::CodeRange));
    let set = (0..5000).map(|i| i * 0x1_0000_0001);
    let long = policy(rule(0, vec![arg(0).is_in(set)], Action::Allow));
    assert!(matches!(compile(&long), Err(Error::TooLong(n)) if n > 4096));
}

#[test]
fn interpreter_refuses_what_the_kernel_refuses() {
    let insn = |code, k| Insn { code, jt: 0, jf: 0, k };
    let call = CallData::default();
    assert_eq!(interp::run(&[], &call), None);
    assert_eq!(interp::run(&[insn(interp::op::LD, 64), insn(interp::op::RET, 0)], &call), None);
    assert_eq!(interp::run(&[insn(interp::op::LD, 2), insn(interp::op::RET, 0)], &call), None);
    assert_eq!(interp::run(&[insn(interp::op::JA, 5)], &call), None);
    assert_eq!(interp::run(&[insn(0xb1, 0), insn(interp::op::RET, 0)], &call), None);
}

/// What must never be let through, whoever makes the call.
#[test]
fn stub_refuses() {
    let code = 0x10000..0x20000;
    let program = compile(&bpf::stub_policy(code, Action::Notify)).expect("compiles");
    let run = |nr: i64, args: [u64; 6], ip: u64| {
        interp::run(&program, &CallData { nr: nr as u32, arch: X86_64, ip, args }).expect("valid")
    };
    let (trap, allow) = (Action::Trap.ret(), Action::Allow.ret());
    let inside = 0x18000;
    let c = |nr, args| run(nr, args, inside);
    assert_eq!(c(libc_nr::MUNMAP, [0; 6]), allow);
    assert_eq!(run(libc_nr::MUNMAP, [0; 6], 0x30000), trap, "the guest's own call");
    assert_eq!(run(libc_nr::MUNMAP, [0; 6], 0x1_0001_8000), trap, "same low half");
    assert_eq!(c(libc_nr::DOORBELL, [0; 6]), Action::Notify.ret());
    assert_eq!(run(libc_nr::DOORBELL, [0; 6], 0x30000), trap);
    assert_eq!(c(libc_nr::CLONE, [0x5_0f00, 0, 0, 0, 0, 0]), allow);
    assert_eq!(c(libc_nr::CLONE, [0x8000, 0, 0, 0, 0, 0]), allow);
    assert_eq!(c(libc_nr::CLONE, [0x8000 | 0x1000_0000, 0, 0, 0, 0, 0]), trap, "a new user namespace");
    assert_eq!(c(libc_nr::CLONE, [0x1_0000_8000, 0, 0, 0, 0, 0]), trap, "clone's flags are 64 bits");
    assert_eq!(c(libc_nr::RECVMSG, [3, 0, 0, 0, 0, 0]), allow);
    assert_eq!(c(libc_nr::RECVMSG, [4, 0, 0, 0, 0, 0]), trap);
    assert_eq!(c(libc_nr::FUTEX, [0, 0x80, 0, 0, 0, 0]), allow);
    assert_eq!(c(libc_nr::FUTEX, [0, 0, 0, 0, 0, 0]), trap, "a shared futex");
    assert_eq!(c(libc_nr::MADVISE, [0, 0, 12, 0, 0, 0]), trap, "merging pages");
    for nr in [0, 1, 2, 16, 41, 59, 101, 105, 165, 257, 272, 310, 317, 321, 425, 435] {
        assert_eq!(c(nr, [0; 6]), trap, "{nr}");
    }
}

mod libc_nr {
    pub const MMAP: i64 = 9;
    pub const IOCTL: i64 = 16;
    pub const SOCKET: i64 = 41;
    pub const SENDTO: i64 = 44;
    pub const EXECVE: i64 = 59;
    pub const KILL: i64 = 62;
    pub const PTRACE: i64 = 101;
    pub const OPENAT: i64 = 257;
    pub const MUNMAP: i64 = 11;
    pub const MADVISE: i64 = 28;
    pub const RECVMSG: i64 = 47;
    pub const CLONE: i64 = 56;
    pub const FUTEX: i64 = 202;
    pub const DOORBELL: i64 = 447;
}

#[test]
fn surfaces_have_reasons() {
    let sentry = bpf::sentry_permissions(bpf::Platform::Slots);
    let monitor = bpf::monitor_permissions();
    for list in
        [bpf::stub_permissions(), sentry.clone(), monitor.clone(), bpf::sentry_permissions(bpf::Platform::Ptrace)]
    {
        for line in bpf::surface(&list) {
            assert!(line.reason.len() > 5 && !line.name.is_empty(), "{line:?}");
        }
    }
    let stub = bpf::surface(&bpf::stub_permissions());
    let recv = stub.iter().find(|l| l.name == "recvmsg").expect("listed");
    assert_eq!((recv.nr, recv.conditions.as_str()), (47, "arg0 == 0x3"));
    let calls = |l: &[bpf::Surface]| {
        l.iter().filter(|l| l.action == Action::Allow).map(|l| l.nr).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert!(calls(&stub) < 20);
    assert!(calls(&bpf::surface(&sentry)) < 100);
    assert!(calls(&bpf::surface(&monitor)) < 40);
}

/// It keeps three capabilities: nothing is made, executed, connected or looked into with them.
#[test]
fn the_monitor_only_serves() {
    let policy = bpf::monitor_policy();
    let decide = |nr: i64, args: [u64; 6]| policy.decide(&CallData { nr: nr as u32, arch: X86_64, ip: 0, args });
    let flags = |flags: i32| [0, 0, flags as u64, 0, 0, 0];
    assert_eq!(decide(libc_nr::OPENAT, flags(0o2)), Action::Allow);
    for (nr, args) in [
        (libc_nr::OPENAT, flags(0o100)),
        (libc_nr::OPENAT, flags(0o1000)),
        (libc_nr::MMAP, flags(4)),
        (libc_nr::IOCTL, [3, 0x5412, 0, 0, 0, 0]),
        (libc_nr::SENDTO, [3, 0, 0, 0, 0x1000, 16]),
        (libc_nr::SOCKET, [1, 1, 0, 0, 0, 0]),
        (libc_nr::CLONE, [17, 0, 0, 0, 0, 0]),
        (libc_nr::EXECVE, [0; 6]),
        (libc_nr::PTRACE, [0; 6]),
        (libc_nr::KILL, [1, 9, 0, 0, 0, 0]),
    ] {
        assert_eq!(decide(nr, args), Action::Kill, "{nr}");
    }
}
