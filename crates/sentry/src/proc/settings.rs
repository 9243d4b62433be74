//! /proc/sys: what sysctl(8) shows and sets. What means nothing to this kernel is what it is.
use super::{DIR, FILE};
use abi::{Errno, Result};
use fs::proc::Node;
use ipc::sysv::OBJECTS_MAX;
use kernel::cred::{CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN};
use kernel::mm::MAX_MAP_COUNT;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use syscalls::misc::{RELEASE, VERSION};
use task::ns::IpcNs;
use task::{Kernel, PID_MAX};

/// Settings that are always the same. Those of the network are a new network namespace's.
const SAME: [(&str, &str); 87] = [
    ("fs/aio-max-nr", "65536"),
    ("fs/aio-nr", "0"),
    ("fs/file-max", "262144"),
    ("fs/overflowgid", "65534"),
    ("fs/overflowuid", "65534"),
    ("fs/pipe-user-pages-hard", "0"),
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
    ("kernel/ngroups_max", "65536"),
    ("kernel/numa_balancing", "0"),
    ("kernel/ostype", "Linux"),
    ("kernel/overflowgid", "65534"),
    ("kernel/overflowuid", "65534"),
    ("kernel/panic", "0"),
    ("kernel/panic_on_oops", "0"),
    ("kernel/perf_event_paranoid", "4"),
    ("kernel/printk", "4\t4\t1\t7"),
    ("kernel/pty/max", "4096"),
    ("kernel/pty/reserve", "1024"),
    ("kernel/random/poolsize", "256"),
    ("kernel/random/urandom_min_reseed_secs", "60"),
    ("kernel/random/write_wakeup_threshold", "256"),
    ("kernel/sched_autogroup_enabled", "0"),
    ("kernel/sched_rr_timeslice_ms", "100"),
    ("kernel/sched_rt_period_us", "1000000"),
    ("kernel/sched_rt_runtime_us", "950000"),
    ("kernel/seccomp/actions_avail", "kill_process kill_thread trap errno trace log allow"),
    ("kernel/shm_rmid_forced", "0"),
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
const MADE: [&str; 10] = [
    "fs/file-nr",
    "fs/inode-nr",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/osrelease",
    "kernel/pty/nr",
    "kernel/random/boot_id",
    "kernel/random/entropy_avail",
    "kernel/random/uuid",
    "kernel/version",
];

/// A number that can be set, within bounds. Those of one name stand in one line.
struct Number {
    name: &'static str,
    bounds: RangeInclusive<i128>,
    get: fn(&Kernel) -> i128,
    set: fn(&Kernel, i128) -> Result,
}

/// A number by the cell that holds it.
macro_rules! number {
    ($name:literal, $bounds:expr, $k:ident, $cell:expr) => {
        Number {
            name: $name,
            bounds: $bounds,
            get: |$k| $cell.get() as i128,
            set: |$k, to| {
                $cell.set(to as _);
                Ok(())
            },
        }
    };
}

/// One of the limits on POSIX message queues.
macro_rules! queue_limit {
    ($name:literal, $limit:literal) => {
        Number {
            name: $name,
            bounds: LONG,
            get: |k| k.queues.limit($limit).unwrap_or(0).into(),
            set: |k, to| k.queues.set_limit($limit, to as i64),
        }
    };
}

/// One of the limits on keys.
macro_rules! key_limit {
    ($name:literal, $limit:literal) => {
        Number {
            name: $name,
            bounds: NATURAL,
            get: |k| k.keys.limits().get($limit).unwrap_or(0) as i128,
            set: |k, to| k.keys.set_limit($limit, to as usize),
        }
    };
}

const INT: RangeInclusive<i128> = i32::MIN as i128..=i32::MAX as i128;
const NATURAL: RangeInclusive<i128> = 0..=i32::MAX as i128;
const LONG: RangeInclusive<i128> = i64::MIN as i128..=i64::MAX as i128;
const UNSIGNED_LONG: RangeInclusive<i128> = 0..=u64::MAX as i128;
/// How many objects of System V IPC there may be, of a kind.
const OBJECTS: RangeInclusive<i128> = 0..=OBJECTS_MAX as i128;
/// What one call of System V IPC brings: all of it is done in one go.
const BYTES: RangeInclusive<i128> = 0..=1 << 24;
const OPERATIONS: RangeInclusive<i128> = 0..=1 << 16;

static NUMBERS: [Number; 38] = [
    number!("fs/dir-notify-enable", INT, _k, task::dnotify::ENABLED),
    number!("fs/epoll/max_user_watches", 0..=i64::MAX as i128, _k, ipc::epoll::MAX_WATCHES),
    number!("fs/inotify/max_queued_events", NATURAL, _k, vfs::inotify::MAX_QUEUED),
    number!("fs/inotify/max_user_instances", NATURAL, _k, vfs::inotify::MAX_INSTANCES),
    number!("fs/inotify/max_user_watches", NATURAL, _k, vfs::inotify::MAX_WATCHES),
    number!("fs/lease-break-time", NATURAL, _k, vfs::lease::BREAK_SECONDS),
    number!("fs/leases-enable", INT, _k, vfs::lease::ENABLED),
    number!("fs/mount-max", 1..=u32::MAX as i128, _k, vfs::mount::MOUNTS_MAX),
    queue_limit!("fs/mqueue/msg_default", "msg_default"),
    queue_limit!("fs/mqueue/msg_max", "msg_max"),
    queue_limit!("fs/mqueue/msgsize_default", "msgsize_default"),
    queue_limit!("fs/mqueue/msgsize_max", "msgsize_max"),
    queue_limit!("fs/mqueue/queues_max", "queues_max"),
    number!("fs/nr_open", 64..=0x7fff_ffc0, _k, vfs::fdtable::NR_OPEN),
    Number {
        name: "fs/pipe-max-size",
        bounds: 0..=u32::MAX as i128,
        get: |_| ipc::pipe::MAX_SIZE.get() as i128,
        set: |_, to| ipc::pipe::set_max_size(to as usize),
    },
    number!("fs/pipe-user-pages-soft", UNSIGNED_LONG, _k, ipc::pipe::SOFT_PAGES),
    key_limit!("kernel/keys/gc_delay", "gc_delay"),
    key_limit!("kernel/keys/maxbytes", "maxbytes"),
    key_limit!("kernel/keys/maxkeys", "maxkeys"),
    key_limit!("kernel/keys/root_maxbytes", "root_maxbytes"),
    key_limit!("kernel/keys/root_maxkeys", "root_maxkeys"),
    number!("kernel/msg_next_id", -1..=i32::MAX as i128, k, own_ipc(k).sysv.queues.next_id),
    number!("kernel/msgmax", BYTES, k, own_ipc(k).sysv.limits.msgmax),
    number!("kernel/msgmnb", NATURAL, k, own_ipc(k).sysv.limits.msgmnb),
    number!("kernel/msgmni", OBJECTS, k, own_ipc(k).sysv.queues.max),
    Number {
        name: "kernel/ns_last_pid",
        bounds: 0..=PID_MAX as i128,
        get: |k| k.last_pid().into(),
        set: |k, to| {
            k.set_last_pid(to as i32);
            Ok(())
        },
    },
    number!("kernel/pid_max", 301..=PID_MAX as i128, k, k.pid_max),
    number!("kernel/randomize_va_space", INT, k, k.randomize),
    number!("kernel/sem", NATURAL, k, own_ipc(k).sysv.limits.semmsl),
    number!("kernel/sem", NATURAL, k, own_ipc(k).sysv.limits.semmns),
    number!("kernel/sem", OPERATIONS, k, own_ipc(k).sysv.limits.semopm),
    number!("kernel/sem", OBJECTS, k, own_ipc(k).sysv.sems.max),
    number!("kernel/sem_next_id", -1..=i32::MAX as i128, k, own_ipc(k).sysv.sems.next_id),
    number!("kernel/shm_next_id", -1..=i32::MAX as i128, k, own_ipc(k).sysv.segments.next_id),
    number!("kernel/shmall", UNSIGNED_LONG, k, own_ipc(k).sysv.limits.shmall),
    number!("kernel/shmmax", UNSIGNED_LONG, k, own_ipc(k).sysv.limits.shmmax),
    number!("kernel/shmmni", OBJECTS, k, own_ipc(k).sysv.segments.max),
    Number {
        name: "vm/max_map_count",
        bounds: NATURAL,
        get: |_| MAX_MAP_COUNT.get() as i128,
        // What the host does not give a stub is not ours to give.
        set: |k, to| match usize::try_from(to).map_err(|_| Errno::EINVAL)? {
            n if n > k.config.max_map_count => Err(Errno::EINVAL),
            n => {
                MAX_MAP_COUNT.set(n);
                Ok(())
            }
        },
    },
];

fn own_ipc(k: &Kernel) -> Rc<IpcNs> {
    k.callers_namespaces().ipc.clone()
}

/// The numbers of one name.
fn numbers(name: &str) -> &'static [Number] {
    let start = NUMBERS.partition_point(|n| n.name < name);
    let len = NUMBERS[start..].iter().take_while(|n| n.name == name).count();
    &NUMBERS[start..start + len]
}

/// The name of the host or its domain, of those that the caller sees.
fn uts_name(k: &Kernel, path: &str, f: impl FnOnce(&RefCell<Vec<u8>>)) -> bool {
    let uts = &k.callers_namespaces().uts;
    match path {
        "kernel/hostname" => f(&uts.hostname),
        "kernel/domainname" => f(&uts.domainname),
        _ => return false,
    }
    true
}

/// May the caller set it? Root needs CAP_SYS_ADMIN over the sandbox besides, as nobody mounts this read-only for a program that has
/// not; but for the next number of something CAP_CHECKPOINT_RESTORE will do. What is harmless any root may set.
pub fn writable(k: &Kernel, path: &str) -> bool {
    let number = !numbers(path).is_empty();
    if path == "kernel/hostname" || number && (path.starts_with("fs/mqueue/") || path.starts_with("kernel/keys/")) {
        return true;
    }
    let known = path == "kernel/domainname" || number;
    let Some(cred) = k.task(task::caller().1).map(|t| t.cred()).filter(|_| known) else { return false };
    let next = path.ends_with("_next_id") || path == "kernel/ns_last_pid";
    cred.euid == 0 && (cred.has(CAP_SYS_ADMIN) || next && cred.has(CAP_CHECKPOINT_RESTORE))
}

/// Sets what stands at `path` to what a text says. EINVAL: it is no such value; EACCES: it cannot be set.
pub fn set(k: &Kernel, path: &str, text: &[u8]) -> Result {
    let line = text.split(|b| matches!(b, b'\n' | 0)).next().unwrap_or_default();
    if uts_name(k, path, |name| drop(name.replace(line[..line.len().min(64)].to_vec()))) {
        return Ok(());
    }
    let all = numbers(path);
    if all.is_empty() {
        return Err(Errno::EACCES);
    }
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let values = text.split_ascii_whitespace().take(all.len()).map(parse).collect::<Result<Vec<_>>>()?;
    let set: Vec<_> = all.iter().zip(values).collect();
    if set.is_empty() || set.iter().any(|(n, to)| !n.bounds.contains(to)) {
        return Err(Errno::EINVAL);
    }
    set.into_iter().try_for_each(|(n, to)| (n.set)(k, to))
}

/// A number as Linux reads it: decimal, or hexadecimal after `0x`, or octal after `0`.
fn parse(word: &str) -> Result<i128> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
    let (base, digits) = match digits.strip_prefix('0') {
        Some(hex) if hex.starts_with(['x', 'X']) => (16, &hex[1..]),
        Some(octal) if !octal.is_empty() => (8, octal),
        _ => (10, digits),
    };
    let plain = digits.starts_with(|c: char| c.is_ascii_hexdigit());
    let n = u64::from_str_radix(digits, base).ok().filter(|_| plain).ok_or(Errno::EINVAL)?;
    Ok(sign * i128::from(n))
}
/// What stands in /proc/sys, by the rest of the path.
pub fn node(k: &Kernel, path: &str) -> Result<Node> {
    let changed = k.config.sysctls.get(path).map(|text| text.trim());
    if let Some(text) = changed.or_else(|| SAME.iter().find(|(n, _)| *n == path).map(|(_, text)| *text)) {
        return Ok(Node::File(format!("{text}\n").into_bytes()));
    }
    let all = numbers(path);
    if !all.is_empty() {
        let line = all.iter().map(|n| (n.get)(k).to_string()).collect::<Vec<_>>().join("\t");
        return Ok(Node::File((line + "\n").into_bytes()));
    }
    let mut line = Vec::new();
    if uts_name(k, path, |name| line.clone_from(&name.borrow())) {
        line.push(b'\n');
        return Ok(Node::File(line));
    }
    let mut line = match path {
        "fs/file-nr" => format!("{}\t0\t262144", open_files(k)).into_bytes(),
        "fs/inode-nr" => format!("{}\t0", open_files(k)).into_bytes(),
        "kernel/osrelease" => RELEASE.as_bytes().to_vec(),
        "kernel/version" => VERSION.as_bytes().to_vec(),
        "kernel/pty/nr" => k.terminals.count().to_string().into_bytes(),
        "kernel/random/entropy_avail" => fs::dev::ENTROPY_BITS.to_string().into_bytes(),
        "kernel/random/uuid" => uuid(host::stub::random_u64(), host::stub::random_u64()).into_bytes(),
        "kernel/random/boot_id" => uuid(k.boot, k.boot.rotate_left(17)).into_bytes(),
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
    let set = NUMBERS.iter().map(|n| n.name).chain(k.config.sysctls.keys().map(String::as_str));
    for name in SAME.iter().map(|(n, _)| *n).chain(MADE).chain(set) {
        if let Some(rest) = name.strip_prefix(&prefix) {
            let (first, kind) = rest.split_once('/').map_or((rest, FILE), |(f, _)| (f, DIR));
            if !out.iter().any(|(n, _)| n == first) {
                out.push((first.to_owned(), kind));
            }
        }
    }
    if out.is_empty() { Err(Errno::ENOENT) } else { Ok(Node::Dir(out)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Rc<Kernel> {
        Kernel::new(task::Config { max_map_count: 65_530, ..Default::default() }, vfs::MountTable::first())
    }

    fn text(k: &Kernel, path: &str) -> String {
        match node(k, path) {
            Ok(Node::File(text)) => String::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_name_is_there_once_and_in_order() {
        assert!(NUMBERS.is_sorted_by_key(|n| n.name));
        let others = SAME.iter().map(|(n, _)| *n).chain(MADE);
        assert!(others.into_iter().all(|name| numbers(name).is_empty()));
        let k = kernel();
        for n in &NUMBERS {
            assert!(n.bounds.contains(&(n.get)(&k)), "{}", n.name);
        }
    }

    #[test]
    fn a_text_is_read_as_linux_reads_it() {
        let k = kernel();
        for (given, shown) in [("12", "12\n"), (" 0x20\n", "32\n"), ("010\t9", "8\n"), ("0", "0\n")] {
            set(&k, "kernel/shmmni", given.as_bytes()).unwrap();
            assert_eq!(text(&k, "kernel/shmmni"), shown);
        }
        for wrong in ["", " \n", "x", "-1", "+1", "0x", "0x+1", "5y", "32769", "99999999999999999999", "5\0"] {
            assert_eq!(set(&k, "kernel/shmmni", wrong.as_bytes()), Err(Errno::EINVAL), "{wrong:?}");
        }
        set(&k, "kernel/sem", b"250 1000").unwrap();
        assert_eq!(text(&k, "kernel/sem"), "250\t1000\t500\t32000\n");
        assert_eq!(set(&k, "kernel/sem", b"1 1 1 32769"), Err(Errno::EINVAL));
        assert_eq!(text(&k, "kernel/sem"), "250\t1000\t500\t32000\n");
        set(&k, "kernel/shmmax", b"18446744073709551615").unwrap();
        set(&k, "kernel/domainname", b"far.away\nmore").unwrap();
        assert_eq!(text(&k, "kernel/domainname"), "far.away\n");
        assert_eq!(set(&k, "kernel/ostype", b"x"), Err(Errno::EACCES));
        assert_eq!(set(&k, "vm/max_map_count", b"65531"), Err(Errno::EINVAL));
    }
}
