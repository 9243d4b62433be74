//! /proc's files about the whole container.
use super::{DIR, FILE, LINK};
use crate::sys::block as disks;
use abi::block::LOOP_CTRL_MINOR;
use abi::{Errno, PAGE_SIZE, Result};
use fs::proc::Node;
use std::fmt::Write;
use std::rc::Rc;
use syscalls::misc::{RELEASE, VERSION};
use task::{Kernel, Task};

const FILES: [&str; 24] = [
    "cgroups",
    "cmdline",
    "consoles",
    "cpuinfo",
    "devices",
    "diskstats",
    "execdomains",
    "filesystems",
    "interrupts",
    "key-users",
    "keys",
    "loadavg",
    "locks",
    "meminfo",
    "misc",
    "modules",
    "partitions",
    "softirqs",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
    "zoneinfo",
];
/// Controllers of the one hierarchy, which is that of version 2.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "cpuacct", "memory", "pids"];
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
        "sockstat" | "sockstat6" => file(super::sockets::counts(k, name == "sockstat6")),
        _ => file(net::inet::proc_file(name)? + &super::sockets::rows(k, name)),
    }
}

/// Threads that wait for nothing.
fn running(k: &Kernel) -> usize {
    let runs = |t: &Rc<Task>| t.parked.borrow().is_none() && !t.stop_due();
    k.processes().iter().map(|p| p.threads().iter().filter(|t| runs(t)).count()).sum()
}

/// What is not told is 0: whose pages they are is the host's to know.
fn meminfo(k: &Kernel) -> String {
    let (total, free) = k.memory();
    let used = total.saturating_sub(free);
    let amounts = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("Active(anon)", used),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", 0),
        ("Shmem", 0),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", used),
        ("VmallocTotal", (1 << 45) - 1024),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("AnonHugePages", 0),
    ];
    let mut s = String::new();
    for (name, bytes) in amounts {
        let _ = writeln!(s, "{:<15} {:8} kB", format!("{name}:"), bytes / 1024);
    }
    for name in ["HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:", "HugePages_Surp:"] {
        let _ = writeln!(s, "{name:<15} {:8}", 0);
    }
    s + "Hugepagesize:       2048 kB\nHugetlb:               0 kB\n"
}

/// The counters that vmstat, sar and their like read.
fn vmstat(k: &Kernel) -> String {
    let (total, free) = k.memory();
    let used = total.saturating_sub(free) / PAGE_SIZE;
    let counts = [
        ("nr_free_pages", free / PAGE_SIZE),
        ("nr_inactive_anon", 0),
        ("nr_active_anon", used),
        ("nr_inactive_file", 0),
        ("nr_active_file", 0),
        ("nr_anon_pages", used),
    ];
    const NONE: [&str; 16] = [
        "nr_mapped",
        "nr_file_pages",
        "nr_dirty",
        "nr_writeback",
        "nr_shmem",
        "pgpgin",
        "pgpgout",
        "pswpin",
        "pswpout",
        "pgalloc_normal",
        "pgfree",
        "pgactivate",
        "pgdeactivate",
        "pgfault",
        "pgmajfault",
        "oom_kill",
    ];
    let line = |s: String, (name, n): (&str, u64)| s + &format!("{name} {n}\n");
    counts.into_iter().chain(NONE.map(|name| (name, 0))).fold(String::new(), line)
}

pub fn node(k: &Kernel, path: &str) -> Result<Node> {
    if let Some(rest) = path.strip_prefix("sysvipc") {
        return super::sysvipc::node(k, rest.trim_start_matches('/'));
    }
    if let Some(rest) = path.strip_prefix("sys") {
        return super::settings::node(k, rest.trim_start_matches('/'));
    }
    let up = host::time::monotonic_ns() - k.boot;
    let cpu: u64 = k.processes().iter().map(|p| p.cpu_ns()).sum();
    match path {
        "mounts" => Ok(Node::Link(b"self/mounts".to_vec())),
        "net" => Ok(Node::Link(b"self/net".to_vec())),
        "cpuinfo" => file(super::cpuinfo::text(k.config.cpus)),
        "meminfo" => file(meminfo(k)),
        "vmstat" => file(vmstat(k)),
        "zoneinfo" => {
            let (total, free) = k.memory();
            let (total, free) = (total / PAGE_SIZE, free / PAGE_SIZE);
            file(format!(
                "Node 0, zone   Normal\n  pages free     {free}\n        min      0\n        low      0\n        high     0\n        \
                 spanned  {total}\n        present  {total}\n        managed  {total}\n"
            ))
        }
        "cgroups" => {
            let line = |name: &&str| format!("{name}\t0\t1\t1\n");
            file(
                "#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_owned()
                    + &CONTROLLERS.iter().map(line).collect::<String>(),
            )
        }
        "locks" => file(super::locks::text(k)),
        "keys" => file(super::keys::text(k)),
        "key-users" => file(super::keys::users(k)),
        // No modules, and no interrupts but the host's.
        "modules" | "consoles" => file(String::new()),
        "diskstats" => file(disks::disk_stats(k)),
        "partitions" => file(disks::partitions(k)),
        "misc" if k.loops.any() => file(format!("{LOOP_CTRL_MINOR:3} loop-control\n")),
        "misc" => file(String::new()),
        "execdomains" => file("0-0\tLinux           \t[kernel]\n".into()),
        "interrupts" | "softirqs" => {
            let cpus = (0..k.config.cpus).map(|i| format!("CPU{i:<8}")).collect::<String>();
            let indent = if path == "interrupts" { 11 } else { 20 };
            file(format!("{:indent$}{cpus}\n", ""))
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
                "intr 0\nctxt 0\nbtime {btime}\nprocesses {}\nprocs_running {}\nprocs_blocked 0",
                k.last_pid(),
                running(k)
            );
            file(s)
        }
        "uptime" => {
            let idle = (up * k.config.cpus as u64).saturating_sub(cpu);
            let secs = |ns: u64| format!("{}.{:02}", ns / 1_000_000_000, ns / 10_000_000 % 100);
            file(format!("{} {}\n", secs(up), secs(idle)))
        }
        "loadavg" => {
            // Averages would have to be taken while nothing happens.
            file(format!("0.00 0.00 0.00 {}/{} {}\n", running(k), k.task_count(), k.last_pid()))
        }
        "version" => file(format!("Linux version {RELEASE} (rvisor) {VERSION}\n")),
        "filesystems" => {
            let line = |(name, device): &(&str, bool)| format!("{}\t{name}\n", if *device { "" } else { "nodev" });
            file(syscalls::misc::FILE_SYSTEMS.iter().map(line).collect())
        }
        "cmdline" => file("rvisor\n".into()),
        "swaps" => file("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".into()),
        "devices" => {
            let (misc, disks) = if k.loops.any() { (" 10 misc\n", "  7 loop\n") } else { ("", "") };
            file(format!(
                "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n{misc}136 pts\n\n\
                 Block devices:\n{disks}"
            ))
        }
        _ => Err(Errno::ENOENT),
    }
}
