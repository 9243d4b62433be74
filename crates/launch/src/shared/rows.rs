//! Which calls the monitor is asked about. Everything else this filter allows; the profile's own filter is a second one.
use bpf::{Action, Policy, Rule, arg};
use wire::shared::SharedSpec;

pub const SYSLOG: i32 = abi::c::SYS_syslog as i32;
pub const UNAME: i32 = abi::c::SYS_uname as i32;
pub const SYSINFO: i32 = abi::c::SYS_sysinfo as i32;
pub const CAPSET: i32 = abi::c::SYS_capset as i32;
pub const CLONE: i32 = abi::c::SYS_clone as i32;
pub const UNSHARE: i32 = abi::c::SYS_unshare as i32;
pub const SETNS: i32 = abi::c::SYS_setns as i32;

/// None if there is nothing to ask.
pub fn policy(rules: &SharedSpec) -> Option<Policy> {
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
    (!list.is_empty()).then_some(Policy {
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
