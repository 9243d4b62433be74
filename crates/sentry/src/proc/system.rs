//! /proc's files about the whole container.
use super::{DIR, FILE, LINK};
use abi::{Errno, Result};
use fs::proc::Node;
use std::fmt::Write;
use syscalls::misc::{RELEASE, VERSION};
use task::Kernel;

const FILES: [&str; 10] =
    ["cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems", "cmdline", "swaps", "devices"];
const SYS: [(&str, &str); 26] = [
    ("kernel/ostype", "Linux\n"),
    ("kernel/pid_max", "4194304\n"),
    ("kernel/threads-max", "32768\n"),
    ("kernel/ngroups_max", "65536\n"),
    ("kernel/cap_last_cap", "40\n"),
    ("kernel/overflowuid", "65534\n"),
    ("kernel/overflowgid", "65534\n"),
    ("kernel/randomize_va_space", "2\n"),
    ("kernel/tainted", "0\n"),
    ("kernel/core_pattern", "core\n"),
    ("kernel/shmmax", "18446744073692774399\n"),
    ("kernel/shmall", "18446744073692774399\n"),
    ("kernel/shmmni", "4096\n"),
    ("kernel/sem", "32000\t1024000000\t500\t32000\n"),
    ("kernel/msgmax", "8192\n"),
    ("kernel/msgmnb", "16384\n"),
    ("kernel/msgmni", "32000\n"),
    ("vm/overcommit_memory", "0\n"),
    ("vm/max_map_count", "65530\n"),
    ("fs/aio-max-nr", "65536\n"),
    ("fs/file-max", "262144\n"),
    ("fs/nr_open", "1048576\n"),
    ("fs/dir-notify-enable", "1\n"),
    ("fs/lease-break-time", "45\n"),
    ("fs/leases-enable", "1\n"),
    ("fs/pipe-max-size", "1048576\n"),
];
const MADE: [&str; 11] = [
    "kernel/hostname",
    "kernel/domainname",
    "kernel/osrelease",
    "kernel/version",
    "kernel/random/uuid",
    "kernel/random/boot_id",
    "fs/mqueue/queues_max",
    "fs/mqueue/msg_max",
    "fs/mqueue/msgsize_max",
    "fs/mqueue/msg_default",
    "fs/mqueue/msgsize_default",
];

pub fn top() -> Vec<(String, u8)> {
    let mut v: Vec<_> = FILES.iter().map(|n| ((*n).to_owned(), FILE)).collect();
    v.extend([
        ("self".into(), LINK),
        ("thread-self".into(), LINK),
        ("mounts".into(), LINK),
        ("sys".into(), DIR),
        ("sysvipc".into(), DIR),
        ("net".into(), LINK),
    ]);
    v
}

fn file(s: String) -> Result<Node> {
    Ok(Node::File(s.into_bytes()))
}

/// /proc/PID/net, which every process has in common.
pub fn net(k: &Kernel, name: &str) -> Result<Node> {
    match name {
        "" => Ok(Node::Dir(net::route::PROC_FILES.iter().map(|n| ((*n).to_owned(), FILE)).collect())),
        _ => file(net::inet::proc_file(name)? + &super::sockets::rows(k, name)),
    }
}

pub fn node(k: &Kernel, path: &str) -> Result<Node> {
    if let Some(rest) = path.strip_prefix("sysvipc") {
        return super::sysvipc::node(k, rest.trim_start_matches('/'));
    }
    if let Some(rest) = path.strip_prefix("sys") {
        return sys(k, rest.trim_start_matches('/'));
    }
    let up = host::time::monotonic_ns() - k.boot;
    let cpu: u64 = k.processes().iter().map(|p| p.cpu_ns()).sum();
    match path {
        "mounts" => Ok(Node::Link(b"self/mounts".to_vec())),
        "net" => Ok(Node::Link(b"self/net".to_vec())),
        "cpuinfo" => file(super::cpuinfo::text(k.config.cpus)),
        "meminfo" => {
            let (total, free) = k.memory();
            file(format!(
                "MemTotal:       {:8} kB\nMemFree:        {:8} kB\nMemAvailable:   {:8} kB\nBuffers:        {:8} kB\n\
                 Cached:         {:8} kB\nSwapCached:     {:8} kB\nSwapTotal:      {:8} kB\nSwapFree:       {:8} kB\n\
                 Shmem:          {:8} kB\n",
                total / 1024,
                free / 1024,
                free / 1024,
                0,
                0,
                0,
                0,
                0,
                0
            ))
        }
        "stat" => {
            let ticks = cpu / 10_000_000;
            let idle = (up / 10_000_000 * k.config.cpus as u64).saturating_sub(ticks);
            let mut s = format!("cpu  {ticks} 0 0 {idle} 0 0 0 0 0 0\n");
            for i in 0..k.config.cpus {
                let n = k.config.cpus as u64;
                let _ = writeln!(s, "cpu{i} {} 0 0 {} 0 0 0 0 0 0", ticks / n, idle / n);
            }
            let btime = (host::time::realtime_ns() - up) / 1_000_000_000;
            let _ = writeln!(
                s,
                "intr 0\nctxt 0\nbtime {btime}\nprocesses {}\nprocs_running 1\nprocs_blocked 0",
                k.task_count()
            );
            file(s)
        }
        "uptime" => {
            let idle = (up * k.config.cpus as u64).saturating_sub(cpu);
            let secs = |ns: u64| format!("{}.{:02}", ns / 1_000_000_000, ns / 10_000_000 % 100);
            file(format!("{} {}\n", secs(up), secs(idle)))
        }
        "loadavg" => {
            let last = k.processes().last().map_or(1, |p| p.pid);
            file(format!("0.00 0.00 0.00 1/{} {last}\n", k.task_count()))
        }
        "version" => file(format!("Linux version {RELEASE} (rvisor) {VERSION}\n")),
        "filesystems" => file("nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\tramfs\nnodev\tmqueue\nnodev\toverlay\n\text4\n".into()),
        "cmdline" => file("rvisor\n".into()),
        "swaps" => file("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".into()),
        "devices" => file("Character devices:\n  1 mem\n  5 /dev/tty\n\nBlock devices:\n".into()),
        _ => Err(Errno::ENOENT),
    }
}

/// /proc/sys, by the rest of the path.
fn sys(k: &Kernel, path: &str) -> Result<Node> {
    if let Some((_, text)) = SYS.iter().find(|(n, _)| *n == path) {
        return file((*text).to_owned());
    }
    let mut line = match path {
        "kernel/hostname" => k.callers_namespaces().uts.hostname.borrow().clone(),
        "kernel/domainname" => k.callers_namespaces().uts.domainname.borrow().clone(),
        "kernel/osrelease" => RELEASE.as_bytes().to_vec(),
        "kernel/version" => VERSION.as_bytes().to_vec(),
        "kernel/random/uuid" => uuid(host::stub::random_u64(), host::stub::random_u64()).into_bytes(),
        _ if let Some(n) = path.strip_prefix("fs/mqueue/").and_then(|l| k.queues.limit(l)) => {
            n.to_string().into_bytes()
        }
        "kernel/random/boot_id" => uuid(k.boot, k.boot.rotate_left(17)).into_bytes(),
        _ => return directory(path),
    };
    line.push(b'\n');
    Ok(Node::File(line))
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

fn directory(path: &str) -> Result<Node> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut out: Vec<(String, u8)> = Vec::new();
    for name in SYS.iter().map(|(n, _)| *n).chain(MADE) {
        if let Some(rest) = name.strip_prefix(&prefix) {
            let (first, kind) = rest.split_once('/').map_or((rest, FILE), |(f, _)| (f, DIR));
            if !out.iter().any(|(n, _)| n == first) {
                out.push((first.to_owned(), kind));
            }
        }
    }
    if out.is_empty() { Err(Errno::ENOENT) } else { Ok(Node::Dir(out)) }
}
