//! The filter of a shared kernel's monitor: the launcher, once the program runs or is held. It has stayed root, with three
//! capabilities, so what it may call is what serving takes. A call that is not here ends it.
use crate::policy::{Action, Policy, arg};
use crate::surface::{Permission, permit};
use Action::Allow;
use abi::c;

const IOCTLS: [u64; 4] = [
    0xc050_2100, // SECCOMP_IOCTL_NOTIF_RECV
    0xc018_2101, // SECCOMP_IOCTL_NOTIF_SEND
    0x4008_2102, // SECCOMP_IOCTL_NOTIF_ID_VALID
    0x4008_2104, // SECCOMP_IOCTL_NOTIF_SET_FLAGS
];

/// What the monitor may call, and why.
pub fn monitor_permissions() -> Vec<Permission> {
    let answer = "answers on descriptors it holds: events, the control socket, the kernel log's files, the log";
    let there = (c::O_CREAT | c::O_TRUNC | c::O_APPEND) as u64;
    let memory = "its own memory";
    let no_code = || arg(2).masked(c::PROT_EXEC as u64, 0);
    let end = "ends itself";
    vec![
        permit!(SYS_poll, [], Allow, "waits for any of what it holds"),
        permit!(SYS_ppoll, [], Allow, "waits for any of what it holds"),
        permit!(SYS_read, [], Allow, answer),
        permit!(SYS_write, [], Allow, answer),
        permit!(SYS_recvmsg, [], Allow, answer),
        permit!(SYS_sendmsg, [], Allow, answer),
        permit!(SYS_sendto, [arg(4).eq(0)], Allow, "messages to the plug-ins; no address is named"),
        permit!(SYS_accept4, [arg(3).eq(c::SOCK_CLOEXEC as u64)], Allow, "the control socket's clients"),
        permit!(SYS_close, [], Allow, answer),
        permit!(SYS_fcntl, [arg(1).eq(c::F_DUPFD_CLOEXEC as u64)], Allow, "hands descriptors to those who come in"),
        permit!(SYS_ioctl, [arg(1).is_in(IOCTLS)], Allow, "the listeners"),
        permit!(
            SYS_openat,
            [arg(2).masked(there, 0)],
            Allow,
            "callers' memory, names and numbers in /proc; makes and empties no file"
        ),
        permit!(SYS_statx, [], Allow, "sizes of what it reads in /proc"),
        permit!(SYS_fstat, [], Allow, "sizes of what it reads in /proc"),
        permit!(SYS_lseek, [], Allow, "sizes of what it reads in /proc"),
        permit!(SYS_pread64, [], Allow, "callers' memory, views of settings"),
        permit!(SYS_pwrite64, [], Allow, "callers' memory, views of settings"),
        permit!(SYS_ftruncate, [], Allow, "views of settings"),
        permit!(SYS_uname, [], Allow, "what uname(2) answers"),
        permit!(SYS_sysinfo, [], Allow, "what sysinfo(2) answers"),
        permit!(SYS_clock_gettime, [], Allow, "times of records, where the vDSO has none"),
        permit!(SYS_getrandom, [], Allow, "keys of its tables"),
        permit!(SYS_pidfd_send_signal, [], Allow, "ends the container, and a plug-in that does not answer"),
        permit!(SYS_rmdir, [], Allow, "removes the container's control groups"),
        permit!(SYS_nanosleep, [], Allow, "until those are empty"),
        permit!(SYS_clock_nanosleep, [], Allow, "until those are empty"),
        permit!(SYS_mmap, [no_code()], Allow, memory),
        permit!(SYS_mprotect, [no_code()], Allow, memory),
        permit!(SYS_munmap, [], Allow, memory),
        permit!(SYS_mremap, [], Allow, memory),
        permit!(SYS_madvise, [], Allow, memory),
        permit!(SYS_brk, [], Allow, memory),
        permit!(SYS_restart_syscall, [], Allow, "the host's own continuation of an interrupted wait"),
        permit!(SYS_sigaltstack, [], Allow, end),
        permit!(SYS_exit_group, [], Allow, end),
    ]
}

/// The monitor's filter.
pub fn monitor_policy() -> Policy {
    Policy {
        rules: monitor_permissions().into_iter().map(|p| p.rule).collect(),
        default: Action::Kill,
        foreign: Action::Kill,
        code: None,
    }
}
