//! The sentry's own filter. A call that is not here ends the sandbox: it is a fault of the sentry, or
//! somebody else's code running in it.
use crate::policy::{Action, Policy, arg};
use crate::surface::{Permission, permit};
use Action::Allow;
use abi::{c, inet};

const IOCTLS: [u64; 19] = [
    0xc050_2100, // SECCOMP_IOCTL_NOTIF_RECV
    0xc018_2101, // SECCOMP_IOCTL_NOTIF_SEND
    0x4008_2102, // SECCOMP_IOCTL_NOTIF_ID_VALID
    0x4008_2104, // SECCOMP_IOCTL_NOTIF_SET_FLAGS
    c::TCGETS,
    c::TCSETS,
    c::TCSETSW,
    c::TCSETSF,
    c::TCGETS2,
    c::TCSETS2,
    c::TCSETSW2,
    c::TCSETSF2,
    c::TIOCGWINSZ,
    c::TIOCSWINSZ,
    c::TCFLSH,
    c::TIOCOUTQ,
    c::FIONREAD,
    c::FIONBIO,
    0x8905, // SIOCATMARK
];

const FCNTLS: [i32; 11] = [
    c::F_GETFD,
    c::F_SETFD,
    c::F_GETFL,
    c::F_SETFL,
    c::F_DUPFD_CLOEXEC,
    c::F_ADD_SEALS,
    c::F_GET_SEALS,
    c::F_OFD_GETLK,
    c::F_OFD_SETLK,
    c::F_GETPIPE_SZ,
    c::F_SETPIPE_SZ,
];

/// The types of file a guest may make in a host directory: no device.
const MADE: [u32; 3] = [c::S_IFREG, c::S_IFIFO, c::S_IFSOCK];

/// How the sentry runs its guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Slots,
    Ptrace,
}

/// ptrace(2) on threads that are traced already: their registers, signals and going on. Nobody new is attached to.
const PTRACE: [u64; 9] = [
    7,      // PTRACE_CONT
    12,     // PTRACE_GETREGS
    13,     // PTRACE_SETREGS
    31,     // PTRACE_SYSEMU
    0x4201, // PTRACE_GETEVENTMSG
    0x4202, // PTRACE_GETSIGINFO
    0x4204, // PTRACE_GETREGSET
    0x4205, // PTRACE_SETREGSET
    0x4207, // PTRACE_INTERRUPT
];

/// What the sentry may call, and why.
pub fn sentry_permissions(platform: Platform) -> Vec<Permission> {
    let mut list = files();
    if platform == Platform::Ptrace {
        list.push(permit!(SYS_wait4, [], Allow, "learns why a traced thread stopped"));
        list.push(permit!(SYS_ptrace, [arg(0).is_in(PTRACE)], Allow, "runs the guests' threads; attaches to none"));
    }
    list.extend(names());
    list.extend(sockets());
    list.extend(processes());
    list.extend(own());
    list
}

fn files() -> Vec<Permission> {
    let io = "guest file and terminal I/O, on descriptors the sentry holds";
    let about = "stat, statfs and sizes of guest files";
    let size = "the guest's change of a file's size or reservation";
    let sync = "the guest's fsync";
    let xattr = "the guest's extended attributes, and its owners where the host cannot keep them";
    vec![
        permit!(SYS_read, [], Allow, io),
        permit!(SYS_write, [], Allow, io),
        permit!(SYS_pread64, [], Allow, io),
        permit!(SYS_pwrite64, [], Allow, io),
        permit!(SYS_preadv2, [], Allow, "reads that fail instead of waiting for the disk"),
        permit!(SYS_pwritev2, [], Allow, "writes that fail instead of waiting for the disk"),
        permit!(SYS_lseek, [], Allow, "SEEK_DATA and SEEK_HOLE; starting a directory again"),
        permit!(SYS_fstat, [], Allow, about),
        permit!(SYS_statx, [], Allow, about),
        permit!(SYS_fstatfs, [], Allow, about),
        permit!(SYS_getdents64, [], Allow, "listing guest directories"),
        permit!(SYS_ftruncate, [], Allow, size),
        permit!(SYS_fallocate, [], Allow, size),
        permit!(SYS_fsync, [], Allow, sync),
        permit!(SYS_fdatasync, [], Allow, sync),
        permit!(SYS_fgetxattr, [], Allow, xattr),
        permit!(SYS_fsetxattr, [], Allow, xattr),
        permit!(SYS_flistxattr, [], Allow, xattr),
        permit!(SYS_fremovexattr, [], Allow, xattr),
        permit!(
            SYS_fcntl,
            [arg(1).is_in(FCNTLS.map(|f| f as u64))],
            Allow,
            "flags, seals, locks and duplicates of the sentry's descriptors; not owners, signals or leases"
        ),
        permit!(
            SYS_ioctl,
            [arg(1).is_in(IOCTLS)],
            Allow,
            "the doorbell's listener, the terminal's settings, bytes to read; not TIOCSTI"
        ),
        permit!(SYS_close, [], Allow, "closing"),
    ]
}

fn names() -> Vec<Permission> {
    let change = "the guest's change of a directory it was given, by name below a descriptor";
    let attr = "the guest's change of mode, owner or times";
    let mut list = vec![
        permit!(
            SYS_openat2,
            [],
            Allow,
            "opens below the descriptors it was given (RESOLVE_BENEATH); the root is empty"
        ),
        permit!(SYS_readlinkat, [], Allow, "reading guest symbolic links"),
        permit!(SYS_mkdirat, [], Allow, change),
        permit!(SYS_unlinkat, [], Allow, change),
        permit!(SYS_renameat2, [], Allow, change),
        permit!(SYS_symlinkat, [], Allow, change),
        permit!(SYS_linkat, [], Allow, change),
        permit!(SYS_fchmodat2, [], Allow, attr),
        permit!(SYS_fchownat, [], Allow, attr),
        permit!(SYS_utimensat, [], Allow, attr),
    ];
    for kind in MADE {
        let test = arg(2).masked(c::S_IFMT.into(), kind.into());
        list.push(permit!(SYS_mknodat, [test], Allow, "regular files, fifos and sockets by name; no device"));
    }
    let character = arg(2).masked(c::S_IFMT.into(), c::S_IFCHR.into());
    list.push(permit!(
        SYS_mknodat,
        [character, arg(3).eq(0)],
        Allow,
        "an overlay's mark of a removed file, device 0:0"
    ));
    list
}

/// Every sandbox has a network namespace, if only with a loopback interface in it; what the guest may reach is decided by
/// what is in that namespace, and by the sentry's own policy.
fn sockets() -> Vec<Permission> {
    let made = "the guest's TCP, UDP and ICMP echo sockets, in the sandbox's network namespace; none raw, none of another family";
    let one = "one guest socket, one host socket: no path and no other process is named";
    let option = "options about a socket itself; no filters, marks or protocol modules";
    let ours = (c::SOCK_NONBLOCK | c::SOCK_CLOEXEC) as u64;
    let (stream, datagram) = (c::SOCK_STREAM as u64 | ours, c::SOCK_DGRAM as u64 | ours);
    let (v4, v6, tcp, udp) = (c::AF_INET as u64, c::AF_INET6 as u64, c::IPPROTO_TCP as u64, c::IPPROTO_UDP as u64);
    let domain = || arg(0).is_in([v4, v6]);
    let echo = |d: u64, p: i32| [arg(0).eq(d), arg(1).eq(datagram), arg(2).eq(p as u64)];
    let mut list = vec![
        permit!(SYS_socket, [domain(), arg(1).eq(stream), arg(2).is_in([0, tcp])], Allow, made),
        permit!(SYS_socket, [domain(), arg(1).eq(datagram), arg(2).is_in([0, udp])], Allow, made),
    ];
    for test in [echo(v4, c::IPPROTO_ICMP), echo(v6, c::IPPROTO_ICMPV6)] {
        let [a, b, d] = test;
        list.push(permit!(SYS_socket, [a, b, d], Allow, made));
    }
    list.extend([
        permit!(SYS_bind, [], Allow, one),
        permit!(SYS_listen, [], Allow, one),
        permit!(SYS_connect, [], Allow, one),
        permit!(SYS_accept4, [arg(3).eq(ours)], Allow, one),
        permit!(SYS_getsockname, [], Allow, one),
        permit!(SYS_getpeername, [], Allow, one),
        permit!(SYS_shutdown, [], Allow, one),
        permit!(SYS_sendto, [], Allow, one),
        permit!(SYS_recvfrom, [], Allow, one),
        permit!(SYS_recvmsg, [], Allow, "bytes with their control information; requests about interfaces and routes"),
    ]);
    let tests = |level: i32, names: &[i32]| [arg(1).eq(level as u64), arg(2).is_in(names.iter().map(|n| *n as u64))];
    for (level, names) in inet::BOTH.iter().chain(inet::READ) {
        let [a, b] = tests(*level, names);
        list.push(permit!(SYS_getsockopt, [a, b], Allow, option));
    }
    for (level, names) in inet::BOTH.iter().chain(inet::WRITTEN) {
        let [a, b] = tests(*level, names);
        list.push(permit!(SYS_setsockopt, [a, b], Allow, option));
    }
    list
}

fn processes() -> Vec<Permission> {
    let memory = "guest memory: arguments and results that the slots do not carry";
    let kick = "kicks a stub's thread; no process outside its pid namespace has a number";
    vec![
        permit!(SYS_process_vm_readv, [], Allow, memory),
        permit!(SYS_process_vm_writev, [], Allow, memory),
        permit!(SYS_pidfd_open, [], Allow, "learns of a stub's end"),
        permit!(SYS_pidfd_send_signal, [], Allow, "ends a stub"),
        permit!(SYS_tkill, [], Allow, kick),
        permit!(SYS_socketpair, [arg(0).eq(c::AF_UNIX as u64)], Allow, "a forked stub's socket"),
        permit!(SYS_sendmsg, [], Allow, "sends descriptors to stubs"),
        permit!(
            SYS_membarrier,
            [arg(0).eq(c::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u64), arg(1).eq(0)],
            Allow,
            "the guest's membarrier: stubs that run pass a barrier"
        ),
        permit!(SYS_memfd_create, [], Allow, "slots, shared memory and in-memory files"),
    ]
}

fn own() -> Vec<Permission> {
    let memory = "the sentry's own memory, slots and shared frames";
    let signals = "the sentry's own signal handling";
    let wait = "waits for the doorbell, host descriptors and timers";
    let end = "ends the sentry";
    vec![
        permit!(SYS_mmap, [], Allow, memory),
        permit!(SYS_munmap, [], Allow, memory),
        permit!(SYS_mremap, [], Allow, memory),
        permit!(SYS_brk, [], Allow, memory),
        permit!(SYS_epoll_ctl, [], Allow, wait),
        permit!(SYS_epoll_pwait2, [], Allow, wait),
        permit!(SYS_ppoll, [], Allow, wait),
        permit!(SYS_futex, [], Allow, "the helper that sleeps in epoll, and the kernel thread, wake each other"),
        permit!(SYS_rt_sigreturn, [], Allow, signals),
        permit!(SYS_restart_syscall, [], Allow, "the host's own continuation of an interrupted wait"),
        permit!(SYS_clock_gettime, [], Allow, "the clocks the vDSO does not serve"),
        permit!(SYS_sched_yield, [], Allow, "spinning gives way"),
        permit!(
            SYS_sched_setaffinity,
            [],
            Allow,
            "a CPU for the kernel thread and the others for stubs, while calls are dense"
        ),
        permit!(SYS_sched_getaffinity, [], Allow, "which CPUs the operator lets the sandbox have"),
        permit!(SYS_sysinfo, [], Allow, "how much memory there is, for /proc/meminfo"),
        permit!(SYS_timerfd_settime, [], Allow, "the kernel's next timer"),
        permit!(SYS_getrandom, [], Allow, "the guest's random bytes, cookies and hash keys"),
        permit!(SYS_exit_group, [], Allow, end),
    ]
}

/// The sentry's filter.
pub fn sentry_policy(platform: Platform) -> Policy {
    Policy {
        rules: sentry_permissions(platform).into_iter().map(|p| p.rule).collect(),
        default: Action::Kill,
        foreign: Action::Kill,
        code: None,
    }
}
