//! /sys: processors, memory nodes, interfaces, and in /sys/fs/cgroup the container's limits. sysfs(5), cgroups(7).
use abi::{Errno, PAGE_SIZE, Result};
use fs::proc::Node;
use std::fmt::Write;
use std::rc::{Rc, Weak};
use task::Kernel;
use vfs::mount::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use vfs::{FileOps, Follow, MountOptions, MountTable};

use crate::proc::{DIR, FILE, LINK};

pub mod block;

const SYSFS_MAGIC: i64 = 0x6265_6572;
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// A path and what it is; a directory's ends in a slash.
type Entry = (String, Node);

struct Tree {
    kernel: Weak<Kernel>,
    magic: i64,
    entries: fn(&Kernel) -> Vec<Entry>,
}

/// Mounts /sys and the view of the cgroup in it, unless something else is to be there.
pub fn mount(k: &Rc<Kernel>, table: &MountTable, place: impl Fn(&[u8]) -> Result<vfs::Path>) {
    let flags = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC;
    let tree = |entries, magic| Rc::new(Tree { kernel: Rc::downgrade(k), magic, entries });
    let options = |kind: &str, source: &str| MountOptions {
        flags,
        kind: kind.into(),
        source: source.into(),
        ..MountOptions::default()
    };
    let Ok(on) = place(b"/sys") else { return };
    let root = fs::proc::mount(k.new_dev(), tree(system, SYSFS_MAGIC));
    let at = table.mount(Some(on), root, options("sysfs", "sysfs"));
    k.sys_fs.set(at.mount.sb.clone()).ok();
    if let Ok(on) = place(b"/sys/fs/cgroup") {
        let root = fs::proc::mount(k.new_dev(), tree(cgroup, CGROUP2_MAGIC));
        let at = table.mount(Some(on), root, options("cgroup2", "cgroup"));
        k.cgroup_fs.set(at.mount.sb.clone()).ok();
    }
}

/// The numbers of `n` processors as a list, and as a mask.
fn list(n: usize) -> String {
    if n < 2 { "0\n".into() } else { format!("0-{}\n", n - 1) }
}
fn mask(bits: impl Iterator<Item = usize>) -> String {
    let words = bits.fold(Vec::new(), |mut w: Vec<u32>, b| {
        w.resize(w.len().max(b / 32 + 1), 0);
        w[b / 32] |= 1 << (b % 32);
        w
    });
    let mut s: Vec<String> = words.iter().map(|w| format!("{w:08x}")).collect();
    s.reverse();
    s.join(",") + "\n"
}

fn system(k: &Kernel) -> Vec<Entry> {
    let n = k.config.cpus.max(1);
    let mut out: Vec<Entry> = Vec::new();
    let mut add = |path: String, text: String| out.push((path, Node::File(text.into_bytes())));
    for empty in [
        "block",
        "bus",
        "class/block",
        "class/tty",
        "dev/block",
        "dev/char",
        "firmware",
        "fs/cgroup",
        "module",
        "power",
    ] {
        add(format!("{empty}/"), String::new());
    }
    let cpu = "devices/system/cpu";
    for name in ["online", "possible", "present"] {
        add(format!("{cpu}/{name}"), list(n));
    }
    add(format!("{cpu}/offline"), "\n".into());
    add(format!("{cpu}/isolated"), "\n".into());
    add(format!("{cpu}/kernel_max"), "8191\n".into());
    for i in 0..n {
        let topology = format!("{cpu}/cpu{i}/topology");
        for (name, text) in [
            ("physical_package_id", "0\n".to_owned()),
            ("die_id", "0\n".to_owned()),
            ("core_id", format!("{i}\n")),
            ("core_cpus", mask(std::iter::once(i))),
            ("core_cpus_list", format!("{i}\n")),
            ("thread_siblings", mask(std::iter::once(i))),
            ("thread_siblings_list", format!("{i}\n")),
            ("core_siblings", mask(0..n)),
            ("core_siblings_list", list(n)),
            ("package_cpus", mask(0..n)),
            ("package_cpus_list", list(n)),
        ] {
            add(format!("{topology}/{name}"), text);
        }
        caches(n, i, &mut add);
    }
    let node = "devices/system/node";
    for name in ["online", "possible", "has_cpu", "has_memory", "has_normal_memory"] {
        add(format!("{node}/{name}"), "0\n".into());
    }
    let (total, free) = k.memory();
    add(format!("{node}/node0/cpulist"), list(n));
    add(format!("{node}/node0/cpumap"), mask(0..n));
    add(format!("{node}/node0/distance"), "10\n".into());
    let line = |name: &str, bytes: u64| format!("Node 0 {name:<15} {:8} kB\n", bytes / 1024);
    let memory = [("MemTotal:", total), ("MemFree:", free), ("MemUsed:", total.saturating_sub(free))];
    add(format!("{node}/node0/meminfo"), memory.iter().map(|(name, b)| line(name, *b)).collect());
    add(
        format!("{node}/node0/numastat"),
        "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n".into(),
    );
    for name in ["free_hugepages", "nr_hugepages", "nr_overcommit_hugepages", "resv_hugepages", "surplus_hugepages"] {
        add(format!("kernel/mm/hugepages/hugepages-2048kB/{name}"), "0\n".into());
    }
    let huge = "kernel/mm/transparent_hugepage";
    add(format!("{huge}/enabled"), "always [madvise] never\n".into());
    add(format!("{huge}/hpage_pmd_size"), "2097152\n".into());
    // Merging of pages is there to be asked for, and off.
    add("kernel/mm/ksm/run".into(), "0\n".into());
    for l in net::inet::links().unwrap_or_default() {
        interface(&l, &mut add);
    }
    add("class/net/".into(), String::new());
    block::entries(k, &mut out);
    out
}

/// The caches of processor `i` of `n`, as the host's processor tells of them; what each of ours has for itself it shares with none.
fn caches(n: usize, i: usize, add: &mut impl FnMut(String, String)) {
    /// The leaf of `cpuid` on Intel's processors, and that on AMD's.
    const LEAVES: [u32; 2] = [4, 0x8000_001d];
    const KINDS: [&str; 4] = ["", "Data", "Instruction", "Unified"];
    const MOST: u32 = 8;
    let of = |leaf| (0..MOST).map_while(move |k| host::cpu::cpuid(leaf, k).filter(|r| matches!(r[0] & 0x1f, 1..=3)));
    let found = LEAVES.iter().map(|l| of(*l).collect::<Vec<_>>()).find(|l| !l.is_empty()).unwrap_or_default();
    for (k, [a, b, sets, _]) in found.into_iter().enumerate() {
        let (level, line, parts, ways) = (a >> 5 & 7, (b & 0xfff) + 1, (b >> 12 & 0x3ff) + 1, (b >> 22) + 1);
        let bytes = u64::from(line) * u64::from(parts) * u64::from(ways) * (u64::from(sets) + 1);
        let own = level < 3;
        let place = format!("devices/system/cpu/cpu{i}/cache/index{k}");
        for (name, text) in [
            ("coherency_line_size", format!("{line}\n")),
            ("id", format!("{}\n", if own { i } else { 0 })),
            ("level", format!("{level}\n")),
            ("number_of_sets", format!("{}\n", u64::from(sets) + 1)),
            ("physical_line_partition", format!("{parts}\n")),
            ("shared_cpu_list", if own { format!("{i}\n") } else { list(n) }),
            ("shared_cpu_map", if own { mask(std::iter::once(i)) } else { mask(0..n) }),
            ("size", format!("{}K\n", bytes / 1024)),
            ("type", format!("{}\n", KINDS[(a & 3) as usize])),
            ("ways_of_associativity", format!("{ways}\n")),
        ] {
            add(format!("{place}/{name}"), text);
        }
    }
}

/// /sys/class/net/NAME.
fn interface(l: &net::route::Link, add: &mut impl FnMut(String, String)) {
    const UP: u32 = 1;
    const LOOPBACK: u32 = 8;
    const RUNNING: u32 = 0x40;
    let hex = |b: &[u8]| b.iter().map(|x| format!("{x:02x}")).collect::<Vec<_>>().join(":");
    let state = match l.flags {
        f if f & UP == 0 => "down",
        f if f & LOOPBACK != 0 => "unknown",
        f if f & RUNNING != 0 => "up",
        _ => "lowerlayerdown",
    };
    let top = format!("class/net/{}", l.name);
    for (name, text) in [
        ("addr_len", l.address.len().to_string()),
        ("address", hex(&l.address)),
        ("broadcast", hex(&l.broadcast)),
        ("carrier", u32::from(l.flags & RUNNING != 0).to_string()),
        ("flags", format!("{:#x}", l.flags & 0xffff & !RUNNING)),
        ("ifindex", l.index.to_string()),
        ("iflink", l.index.to_string()),
        ("mtu", l.mtu.to_string()),
        ("operstate", state.to_owned()),
        ("tx_queue_len", l.queue.to_string()),
        ("type", l.kind.to_string()),
        ("uevent", format!("INTERFACE={}\nIFINDEX={}", l.name, l.index)),
    ] {
        add(format!("{top}/{name}"), text + "\n");
    }
    const COUNTS: [&str; 10] = [
        "rx_packets",
        "tx_packets",
        "rx_bytes",
        "tx_bytes",
        "rx_errors",
        "tx_errors",
        "rx_dropped",
        "tx_dropped",
        "multicast",
        "collisions",
    ];
    for (name, count) in COUNTS.iter().zip(&l.stats) {
        add(format!("{top}/statistics/{name}"), format!("{count}\n"));
    }
}

/// A cgroup of version 2 with the container's limits, that is the root of its namespace.
fn cgroup(k: &Kernel) -> Vec<Entry> {
    let or_max = |n: Option<u64>| n.map_or("max\n".to_owned(), |n| format!("{n}\n"));
    let (total, free) = k.memory();
    let used = total.saturating_sub(free);
    let usec = k.processes().iter().map(|p| p.cpu_ns()).sum::<u64>() / 1000;
    let pids = k.processes().iter().fold(String::new(), |mut s, p| {
        let _ = writeln!(s, "{}", p.pid);
        s
    });
    let quota = k.config.quota.get().map_or("max".to_owned(), |m| (m * 100).to_string());
    let files = [
        ("cgroup.controllers", "cpuset cpu memory pids\n".to_owned()),
        ("cgroup.events", "populated 1\nfrozen 0\n".into()),
        ("cgroup.procs", pids),
        ("cgroup.subtree_control", "\n".into()),
        ("cgroup.type", "domain\n".into()),
        ("cpu.max", format!("{quota} 100000\n")),
        ("cpu.stat", format!("usage_usec {usec}\nuser_usec {usec}\nsystem_usec 0\n")),
        ("cpu.weight", "100\n".into()),
        ("cpuset.cpus.effective", list(k.config.cpus)),
        ("cpuset.mems.effective", "0\n".into()),
        ("memory.current", format!("{}\n", used / PAGE_SIZE * PAGE_SIZE)),
        ("memory.high", "max\n".into()),
        ("memory.low", "0\n".into()),
        ("memory.max", or_max(k.config.memory.get())),
        ("memory.min", "0\n".into()),
        ("memory.swap.current", "0\n".into()),
        ("memory.swap.max", "0\n".into()),
        ("pids.current", format!("{}\n", k.task_count())),
        ("pids.max", or_max(k.config.pids.get())),
    ];
    files.into_iter().map(|(name, text)| (name.to_owned(), Node::File(text.into_bytes()))).collect()
}

impl fs::proc::Source for Tree {
    fn node(&self, path: &str) -> Result<Node> {
        let k = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let entries = (self.entries)(&k);
        if let Some((_, node)) = entries.iter().find(|(p, _)| p == path) {
            return Ok(node.clone());
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names: Vec<(String, u8)> = Vec::new();
        let mut there = false;
        for (rest, node) in entries.iter().filter_map(|(p, node)| Some((p.strip_prefix(&prefix)?, node))) {
            there = true;
            let leaf = if matches!(node, Node::Link(_)) { LINK } else { FILE };
            let (first, kind) = rest.split_once('/').map_or((rest, leaf), |(f, _)| (f, DIR));
            if !first.is_empty() && !names.iter().any(|(n, _)| n == first) {
                names.push((first.to_owned(), kind));
            }
        }
        if there { Ok(Node::Dir(names)) } else { Err(Errno::ENOENT) }
    }
    fn fixed(&self) -> bool {
        true
    }
    fn magic(&self) -> i64 {
        self.magic
    }
    fn follow(&self, _path: &str) -> Option<Result<Follow>> {
        None
    }
    fn owner(&self, _path: &str) -> (u32, u32) {
        (0, 0)
    }
    fn writable(&self, _path: &str) -> bool {
        false
    }
    fn private(&self, _path: &str) -> bool {
        false
    }
    fn open(&self, _path: &str) -> Option<Result<Rc<dyn FileOps>>> {
        None
    }
    fn process(&self, _path: &str) -> Option<(i32, u64)> {
        None
    }
    fn write(&self, _path: &str, _data: &[u8]) -> Result {
        Err(Errno::EACCES)
    }
}
