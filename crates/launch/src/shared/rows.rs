//! Which calls the monitor is asked about. Everything else this filter allows; the profile's own filter is a second one.
use crate::error::{Context, Failure};
use abi::seccomp::Insn;
use bpf::{Action, Policy, Rule, arg};
use wire::shared::SharedSpec;

pub const SYSLOG: i32 = abi::c::SYS_syslog as i32;
pub const UNAME: i32 = abi::c::SYS_uname as i32;
pub const SYSINFO: i32 = abi::c::SYS_sysinfo as i32;
pub const CAPSET: i32 = abi::c::SYS_capset as i32;
pub const CLONE: i32 = abi::c::SYS_clone as i32;
pub const UNSHARE: i32 = abi::c::SYS_unshare as i32;
pub const SETNS: i32 = abi::c::SYS_setns as i32;

/// The program that asks the monitor; none if there is nothing to ask. What the monitor's own rows let pass is looked at by
/// the plug-ins' rows: one program, as the host allows one listener.
pub fn filter(rules: &SharedSpec) -> Result<Option<Vec<Insn>>, Failure> {
    let Some(policy) = policy(rules) else { return Ok(None) };
    let mut program = bpf::compile(&policy).context("the monitor's filter")?;
    if let Some(plugins) = &rules.plugins {
        const JUMP: u16 = 0x05;
        const RETURN: u16 = 0x06;
        let end = program.len();
        for (at, insn) in program.iter_mut().enumerate() {
            if (insn.code, insn.k) == (RETURN, Action::Allow.ret()) {
                *insn = Insn { code: JUMP, jt: 0, jf: 0, k: (end - at - 1) as u32 };
            }
        }
        program.extend(plugins.filter.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }));
    }
    Ok(Some(program))
}

/// The monitor's own rows.
fn policy(rules: &SharedSpec) -> Option<Policy> {
    let mut list = Vec::new();
    let mut ask = |nr: i32, args| list.push(Rule { nr: nr as u32, args, action: Action::Notify });
    if rules.kernel_log.is_some() {
        ask(SYSLOG, vec![]);
    }
    if rules.uname.is_some() {
        ask(UNAME, vec![]);
    }
    if rules.sysinfo {
        ask(SYSINFO, vec![]);
    }
    if rules.watch_escalation {
        // A new user namespace has every capability over itself. Flags are in a register: nothing to race with.
        let new_user = abi::c::CLONE_NEWUSER as u64;
        ask(CAPSET, vec![]);
        ask(CLONE, vec![arg(0).masked(new_user, new_user)]);
        ask(UNSHARE, vec![arg(0).masked(new_user, new_user)]);
        // Of no kind named: it might be a user namespace.
        ask(SETNS, vec![arg(1).masked(0xffff_ffff, 0)]);
        ask(SETNS, vec![arg(1).masked(new_user, new_user)]);
        // Its flags are behind a pointer; C libraries take clone for it then.
        let no_clone3 = Action::Errno(abi::Errno::ENOSYS.raw() as u16);
        list.push(Rule { nr: abi::c::SYS_clone3 as u32, args: vec![], action: no_clone3 });
    }
    (!list.is_empty() || rules.plugins.is_some()).then_some(Policy {
        rules: list,
        default: Action::Allow,
        // The other interfaces of this processor have other numbers; no row holds there.
        foreign: Action::Errno(abi::Errno::ENOSYS.raw() as u16),
        code: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::seccomp::{AUDIT_ARCH_X86_64, CallData};

    fn decide(rules: &SharedSpec, nr: i64, args: [u64; 6]) -> Action {
        let call = CallData { nr: nr as u32, arch: AUDIT_ARCH_X86_64, ip: 0, args };
        policy(rules).map_or(Action::Allow, |p| p.decide(&call))
    }

    #[test]
    fn nothing_is_asked_for_nothing() {
        assert!(policy(&SharedSpec::default()).is_none());
    }

    #[test]
    fn plug_ins_are_asked_about_what_the_own_rows_let_pass() {
        // Call 400 is asked about, the rest passes.
        let (load, equal, jump_to) = (0x20, 0x15, 0x06);
        let own = [
            (load, 0, 0, 0),
            (equal, 0, 1, 400),
            (jump_to, 0, 0, Action::Notify.ret()),
            (jump_to, 0, 0, Action::Allow.ret()),
        ];
        let plugins = wire::shared::Plugins { filter: own.to_vec(), ..Default::default() };
        for watch_escalation in [false, true] {
            let rules = SharedSpec { watch_escalation, plugins: Some(plugins.clone()), ..SharedSpec::default() };
            let program = filter(&rules).expect("compiled").expect("there is one");
            let answer = |nr: u32, arch: u32| bpf::interp::run(&program, &CallData { nr, arch, ip: 0, args: [0; 6] });
            assert_eq!(answer(400, AUDIT_ARCH_X86_64), Some(Action::Notify.ret()));
            assert_eq!(answer(1, AUDIT_ARCH_X86_64), Some(Action::Allow.ret()));
            assert_eq!(answer(400, 0x4000_0003), Some(Action::Errno(38).ret()));
            let capset = if watch_escalation { Action::Notify } else { Action::Allow };
            assert_eq!(answer(CAPSET as u32, AUDIT_ARCH_X86_64), Some(capset.ret()));
        }
    }

    #[test]
    fn ways_to_more_capabilities() {
        let rules = SharedSpec { watch_escalation: true, ..SharedSpec::default() };
        let user = abi::c::CLONE_NEWUSER as u64;
        assert_eq!(decide(&rules, abi::c::SYS_clone, [user | 17, 0, 0, 0, 0, 0]), Action::Notify);
        assert_eq!(decide(&rules, abi::c::SYS_clone, [17, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide(&rules, abi::c::SYS_unshare, [user, 0, 0, 0, 0, 0]), Action::Notify);
        assert_eq!(decide(&rules, abi::c::SYS_setns, [3, 0, 0, 0, 0, 0]), Action::Notify);
        assert_eq!(decide(&rules, abi::c::SYS_setns, [3, abi::c::CLONE_NEWNET as u64, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide(&rules, abi::c::SYS_clone3, [0; 6]), Action::Errno(38));
    }
}
