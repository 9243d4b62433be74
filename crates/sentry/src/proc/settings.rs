//! /proc/sys: what sysctl(8) shows. Nearly all is what it is: root of a container changes none of it.
use super::{DIR, FILE};
use abi::{Errno, Result};
use fs::proc::Node;
use syscalls::misc::{RELEASE, VERSION};
use task::Kernel;

/// Settings that are always the same. Those of the network are a new network namespace's.
const SAME: [(&str, &str); 106] = [
    ("fs/aio-max-nr", "65536"),
    ("fs/aio-nr", "0"),
    ("fs/dir-notify-enable", "1"),
    ("fs/epoll/max_user_watches", "1048576"),
    ("fs/file-max", "262144"),
    ("fs/lease-break-time", "45"),
    ("fs/leases-enable", "1"),
    ("fs/mount-max", "100000"),
    ("fs/nr_open", "1048576"),
    ("fs/overflowgid", "65534"),
    ("fs/overflowuid", "65534"),
    ("fs/pipe-max-size", "1048576"),
    ("fs/pipe-user-pages-hard", "0"),
    ("fs/pipe-user-pages-soft", "16384"),
    ("fs/protected_fifos", "0"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "0"),
    ("fs/protected_symlinks", "0"),
    ("fs/suid_dumpable", "0"),
    ("kernel/arch", "x86_64"),
    ("kernel/cap_last_cap", "40"),
    ("kernel/core_pattern", "core"),
    ("kernel/core_uses_pid", "0"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/io_uring_disabled", "2"),
    ("kernel/kptr_restrict", "1"),
    ("kernel/msgmax", "8192"),
    ("kernel/msgmnb", "16384"),
    ("kernel/msgmni", "32000"),
    ("kernel/ngroups_max", "65536"),
    ("kernel/numa_balancing", "0"),
    ("kernel/ostype", "Linux"),
    ("kernel/overflowgid", "65534"),
    ("kernel/overflowuid", "65534"),
    ("kernel/panic", "0"),
    ("kernel/panic_on_oops", "0"),
    ("kernel/perf_event_paranoid", "4"),
    ("kernel/pid_max", "4194304"),
    ("kernel/printk", "4\t4\t1\t7"),
    ("kernel/pty/max", "4096"),
    ("kernel/pty/reserve", "1024"),
    ("kernel/random/entropy_avail", "256"),
    ("kernel/random/poolsize", "256"),
    ("kernel/random/urandom_min_reseed_secs", "60"),
    ("kernel/random/write_wakeup_threshold", "256"),
    ("kernel/randomize_va_space", "2"),
    ("kernel/sched_autogroup_enabled", "0"),
    ("kernel/sched_rr_timeslice_ms", "100"),
    ("kernel/sched_rt_period_us", "1000000"),
    ("kernel/sched_rt_runtime_us", "950000"),
    ("kernel/seccomp/actions_avail", "kill_process kill_thread trap errno trace log allow"),
    ("kernel/sem", "32000\t1024000000\t500\t32000"),
    ("kernel/shm_rmid_forced", "0"),
    ("kernel/shmall", "18446744073692774399"),
    ("kernel/shmmax", "18446744073692774399"),
    ("kernel/shmmni", "4096"),
    ("kernel/sysctl_writes_strict", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/tainted", "0"),
    ("kernel/threads-max", "32768"),
    ("kernel/unprivileged_bpf_disabled", "2"),
    ("net/core/optmem_max", "131072"),
    ("net/core/rmem_default", "212992"),
    ("net/core/rmem_max", "212992"),
    ("net/core/somaxconn", "4096"),
    ("net/core/wmem_default", "212992"),
    ("net/core/wmem_max", "212992"),
    ("net/ipv4/icmp_echo_ignore_all", "0"),
    ("net/ipv4/ip_default_ttl", "64"),
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/ip_local_port_range", "32768\t60999"),
    ("net/ipv4/ip_nonlocal_bind", "0"),
    ("net/ipv4/ip_unprivileged_port_start", "1024"),
    ("net/ipv4/ping_group_range", "0\t2147483647"),
    ("net/ipv4/tcp_ecn", "2"),
    ("net/ipv4/tcp_fastopen", "1"),
    ("net/ipv4/tcp_fin_timeout", "60"),
    ("net/ipv4/tcp_keepalive_intvl", "75"),
    ("net/ipv4/tcp_keepalive_probes", "9"),
    ("net/ipv4/tcp_keepalive_time", "7200"),
    ("net/ipv4/tcp_max_syn_backlog", "2048"),
    ("net/ipv4/tcp_moderate_rcvbuf", "1"),
    ("net/ipv4/tcp_retries2", "15"),
    ("net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
    ("net/ipv4/tcp_sack", "1"),
    ("net/ipv4/tcp_syn_retries", "6"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/tcp_timestamps", "1"),
    ("net/ipv4/tcp_tw_reuse", "2"),
    ("net/ipv4/tcp_window_scaling", "1"),
    ("net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
    ("net/ipv6/bindv6only", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("vm/max_map_count", "65530"),
    ("vm/mmap_min_addr", "65536"),
    ("vm/nr_hugepages", "0"),
    ("vm/overcommit_kbytes", "0"),
    ("vm/overcommit_memory", "0"),
    ("vm/overcommit_ratio", "50"),
    ("vm/page-cluster", "3"),
    ("vm/swappiness", "60"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("vm/vfs_cache_pressure", "100"),
    ("vm/dirty_background_ratio", "10"),
    ("vm/dirty_ratio", "20"),
];
/// Those that are made when they are read.
const MADE: [&str; 23] = [
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inotify/max_queued_events",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/mqueue/msg_default",
    "fs/mqueue/msg_max",
    "fs/mqueue/msgsize_default",
    "fs/mqueue/msgsize_max",
    "fs/mqueue/queues_max",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/keys/gc_delay",
    "kernel/keys/maxbytes",
    "kernel/keys/maxkeys",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/ns_last_pid",
    "kernel/osrelease",
    "kernel/pty/nr",
    "kernel/random/boot_id",
    "kernel/random/uuid",
    "kernel/version",
];

/// What stands in /proc/sys, by the rest of the path.
pub fn node(k: &Kernel, path: &str) -> Result<Node> {
    let changed = k.config.sysctls.get(path).map(|text| text.trim());
    if let Some(text) = changed.or_else(|| SAME.iter().find(|(n, _)| *n == path).map(|(_, text)| *text)) {
        return Ok(Node::File(format!("{text}\n").into_bytes()));
    }
    let number = |n: usize| n.to_string().into_bytes();
    let mut line = match path {
        "fs/file-nr" => format!("{}\t0\t262144", open_files(k)).into_bytes(),
        "fs/inode-nr" => format!("{}\t0", open_files(k)).into_bytes(),
        "fs/inotify/max_queued_events" => number(vfs::inotify::MAX_QUEUED),
        "fs/inotify/max_user_instances" => number(vfs::inotify::MAX_INSTANCES),
        "fs/inotify/max_user_watches" => number(vfs::inotify::MAX_WATCHES),
        "kernel/hostname" => k.callers_namespaces().uts.hostname.borrow().clone(),
        "kernel/domainname" => k.callers_namespaces().uts.domainname.borrow().clone(),
        "kernel/ns_last_pid" => number(k.last_pid() as usize),
        "kernel/osrelease" => RELEASE.as_bytes().to_vec(),
        "kernel/version" => VERSION.as_bytes().to_vec(),
        "kernel/pty/nr" => number(k.terminals.count()),
        "kernel/random/uuid" => uuid(host::stub::random_u64(), host::stub::random_u64()).into_bytes(),
        "kernel/random/boot_id" => uuid(k.boot, k.boot.rotate_left(17)).into_bytes(),
        _ if let Some(n) = path.strip_prefix("fs/mqueue/").and_then(|l| k.queues.limit(l)) => {
            n.to_string().into_bytes()
        }
        _ if let Some(n) = path.strip_prefix("kernel/keys/").and_then(|l| k.keys.limits().get(l)) => number(n),
        _ => return directory(k, path),
    };
    line.push(b'\n');
    Ok(Node::File(line))
}

/// Descriptors that are open, which a file may have several of.
fn open_files(k: &Kernel) -> usize {
    let files = |p: &std::rc::Rc<task::Process>| Some(p.leader()?.files().ok()?.numbers(0, u32::MAX).len());
    k.processes().iter().filter_map(files).sum()
}

fn uuid(a: u64, b: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

fn directory(k: &Kernel, path: &str) -> Result<Node> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut out: Vec<(String, u8)> = Vec::new();
    for name in SAME.iter().map(|(n, _)| *n).chain(MADE).chain(k.config.sysctls.keys().map(String::as_str)) {
        if let Some(rest) = name.strip_prefix(&prefix) {
            let (first, kind) = rest.split_once('/').map_or((rest, FILE), |(f, _)| (f, DIR));
            if !out.iter().any(|(n, _)| n == first) {
                out.push((first.to_owned(), kind));
            }
        }
    }
    if out.is_empty() { Err(Errno::ENOENT) } else { Ok(Node::Dir(out)) }
}
