//! The stubs' two seccomp programs.
use bpf::{Action, DOORBELL_NR, Policy, Rule, compile, stub_policy};
use slots::layout::{STUB_BASE, STUB_SIZE};
use zerocopy::IntoBytes;

/// The listener's program, and the policy's.
///
/// Two, because the template must send the listener away before the policy forbids it to. The stricter verdict wins:
/// the policy allows the doorbell (from the stub's text), and the listener hears it.
pub fn filters() -> [Vec<u8>; 2] {
    let listener = Policy {
        rules: vec![Rule { nr: DOORBELL_NR, args: vec![], action: Action::Notify }],
        default: Action::Allow,
        foreign: Action::Allow,
        code: None,
    };
    [program(&listener), policy()]
}

/// What host calls a stub may make, and from where.
pub fn policy() -> Vec<u8> {
    program(&stub_policy(STUB_BASE..STUB_BASE + STUB_SIZE, Action::Allow))
}

fn program(p: &Policy) -> Vec<u8> {
    let program = compile(p).expect("a constant policy");
    program.iter().flat_map(|i| i.as_bytes().iter().copied()).collect()
}
