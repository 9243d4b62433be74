//! The filter of the stubs: all that guest code can ever ask of the host.
//!
//! Only instructions of the stub's own text reach these rules; a system call of the guest's is a trap.
//! That keeps the guest's calls apart from the stub's, it is no defence: a guest can jump into the stub.
//! Each rule must be harmless whoever makes the call.
use crate::policy::{Action, Policy, Rule, arg};
use crate::surface::{Permission, permit};
use Action::{Allow, Notify};
use abi::c;
use std::ops::Range;

/// The call that rings the sentry: memfd_secret(2), which the listener answers and the host never runs.
pub const DOORBELL_NR: u32 = c::SYS_memfd_secret as u32;

/// The one descriptor of a stub that lasts: its socket to the sentry.
pub const SOCKET_FD: u32 = 3;

/// A new thread of the same stub.
const CLONE_THREAD: i32 =
    c::CLONE_VM | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SIGHAND | c::CLONE_THREAD | c::CLONE_SYSVSEM;

/// A new stub, a child of the stub's init as its parent is, with no signal of its own choice at its end.
const CLONE_FORK: i32 = c::CLONE_PARENT;

/// Mappings that would take from the host's reserves or grow by themselves.
const MAP_REFUSED: i32 = c::MAP_HUGETLB | c::MAP_LOCKED | c::MAP_GROWSDOWN;

/// Advice on the caller's own pages. Not here: merging pages between processes (a side channel), punching
/// holes in files, poisoning and soft-offlining memory, reclaim on demand.
const ADVICE: [i32; 18] = [
    c::MADV_NORMAL,
    c::MADV_RANDOM,
    c::MADV_SEQUENTIAL,
    c::MADV_WILLNEED,
    c::MADV_DONTNEED,
    c::MADV_FREE,
    c::MADV_DONTFORK,
    c::MADV_DOFORK,
    c::MADV_HUGEPAGE,
    c::MADV_NOHUGEPAGE,
    c::MADV_DONTDUMP,
    c::MADV_DODUMP,
    c::MADV_WIPEONFORK,
    c::MADV_KEEPONFORK,
    c::MADV_POPULATE_READ,
    c::MADV_POPULATE_WRITE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
];
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;

/// What a stub may call, and why.
pub fn stub_permissions() -> Vec<Permission> {
    let own = "changes the caller's own address space only";
    vec![
        permit!(
            SYS_memfd_secret,
            [],
            Notify,
            "the doorbell: wakes the sentry, which answers it; never run by the host"
        ),
        permit!(
            SYS_mmap,
            [arg(3).masked(MAP_REFUSED as u64, 0)],
            Allow,
            "maps memory and received descriptors; not huge, locked or growing pages"
        ),
        permit!(SYS_munmap, [], Allow, own),
        permit!(SYS_mprotect, [], Allow, own),
        permit!(SYS_mremap, [], Allow, own),
        permit!(SYS_madvise, [arg(2).is_in(ADVICE.map(|a| a as u64))], Allow, "advice on the caller's own pages"),
        permit!(SYS_mseal, [], Allow, "makes the stub's own text unchangeable"),
        permit!(
            SYS_futex,
            [arg(1).is_in(slots::futex::OPS.map(u64::from))],
            Allow,
            "waiting between threads of one stub; no shared, priority-inheriting or requeueing operation"
        ),
        permit!(
            SYS_clone,
            [arg(0).is_in([CLONE_THREAD as u64, CLONE_FORK as u64])],
            Allow,
            "a guest thread, or a guest's fork; no new namespace, no tracing, no shared memory with a child"
        ),
        permit!(SYS_exit, [], Allow, "ends a guest thread"),
        permit!(SYS_exit_group, [], Allow, "ends a guest process"),
        permit!(SYS_rt_sigreturn, [], Allow, "returns from the stub's signal handlers"),
        permit!(
            SYS_rt_sigprocmask,
            [],
            Allow,
            "keeps the stub's handlers out of its critical parts; the caller's own mask only"
        ),
        permit!(SYS_sigaltstack, [], Allow, "each slot's handler stack; the caller's own only"),
        permit!(SYS_restart_syscall, [], Allow, "the host's own continuation of an interrupted wait"),
        permit!(
            SYS_recvmsg,
            [arg(0).eq(SOCKET_FD.into())],
            Allow,
            "receives the descriptors the sentry sends for mapping"
        ),
        permit!(SYS_close, [], Allow, "gives up received descriptors once they are mapped"),
        permit!(
            SYS_dup3,
            [arg(1).eq(SOCKET_FD.into())],
            Allow,
            "a forked stub puts its own socket in its parent's place"
        ),
        permit!(SYS_arch_prctl, [arg(0).is_in([ARCH_SET_FS, ARCH_SET_GS])], Allow, "sets the caller's thread pointer"),
    ]
}

/// The stubs' filter. `code`: where the stub's system call instructions are; any other instruction's call
/// is a trap. `doorbell`: what the doorbell does: [`Action::Notify`] in a filter that has the listener,
/// [`Action::Allow`] below a [`doorbell_policy`] that has it.
pub fn stub_policy(code: Range<u64>, doorbell: Action) -> Policy {
    let mut rules: Vec<_> = stub_permissions().into_iter().map(|p| p.rule).collect();
    for rule in rules.iter_mut().filter(|r| r.nr == DOORBELL_NR) {
        rule.action = doorbell;
    }
    Policy { rules, default: Action::Trap, foreign: Action::Trap, code: Some(code) }
}

/// A filter for the listener alone, for a process that has more to do before [`stub_policy`] goes on top:
/// sending the listener away.
pub fn doorbell_policy() -> Policy {
    let rule = Rule { nr: DOORBELL_NR, args: vec![], action: Notify };
    Policy { rules: vec![rule], default: Allow, foreign: Allow, code: None }
}

#[cfg(test)]
mod tests {
    use super::c;

    #[test]
    fn the_futex_commands_are_those_of_the_host() {
        let private = c::FUTEX_PRIVATE_FLAG;
        let named = [
            c::FUTEX_WAIT | private,
            c::FUTEX_WAKE | private,
            c::FUTEX_WAIT_BITSET | private,
            c::FUTEX_WAKE_BITSET | private,
            c::FUTEX_WAIT_BITSET | private | c::FUTEX_CLOCK_REALTIME,
        ];
        assert_eq!(slots::futex::OPS.map(|op| op as i32), named);
    }
}
