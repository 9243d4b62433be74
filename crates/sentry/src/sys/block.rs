//! The loop devices in /sys/block and its kin, and the files of /proc about disks.
use super::Entry;
use abi::block::{LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_PARTSCAN, LOOP_MAJOR, SECTOR};
use block::Device;
use fs::proc::Node;
use std::fmt::Write;
use task::Kernel;

pub fn entries(k: &Kernel, out: &mut Vec<Entry>) {
    for d in k.loops.all() {
        let (name, n) = (format!("loop{}", d.number), d.number);
        let place = format!("devices/virtual/block/{name}");
        let mut link = |at: String, to: String| out.push((at, Node::Link(to.into_bytes())));
        link(format!("block/{name}"), format!("../{place}"));
        link(format!("class/block/{name}"), format!("../../{place}"));
        link(format!("dev/block/{LOOP_MAJOR}:{n}"), format!("../../{place}"));
        link(format!("{place}/subsystem"), "../../../../class/block".into());
        let mut add = |name: &str, text: &str| out.push((format!("{place}/{name}"), Node::File(text.into())));
        for (name, text) in [
            ("alignment_offset", 0),
            ("diskseq", d.sequence()),
            ("ext_range", 256),
            ("hidden", 0),
            ("range", 1),
            ("removable", 0),
            ("ro", d.read_only().into()),
            ("size", d.size() / SECTOR),
            ("queue/hw_sector_size", d.logical()),
            ("queue/logical_block_size", d.logical()),
            ("queue/minimum_io_size", d.logical()),
            ("queue/optimal_io_size", 0),
            ("queue/physical_block_size", d.logical()),
            ("queue/read_ahead_kb", d.read_ahead() * SECTOR / 1024),
            ("queue/rotational", 0),
        ] {
            add(name, &format!("{text}\n"));
        }
        add("dev", &format!("{LOOP_MAJOR}:{n}\n"));
        add("holders/", "");
        add("slaves/", "");
        add("stat", &format!("{}\n", counts(&d)));
        let seq = d.sequence();
        add("uevent", &format!("MAJOR={LOOP_MAJOR}\nMINOR={n}\nDEVNAME={name}\nDEVTYPE=disk\nDISKSEQ={seq}\n"));
        bound(k, &d, &mut add);
    }
}

/// What is there while a file is bound.
fn bound(k: &Kernel, d: &Device, add: &mut impl FnMut(&str, &str)) {
    let Some((file, s)) = d.backing() else { return };
    let root = k.task(task::caller().1).map(|t| t.fs().root.borrow().clone());
    let name = root.and_then(|root| vfs::name_of(file.path()?, &root)).unwrap_or_default();
    add("loop/backing_file", &format!("{}\n", String::from_utf8_lossy(&name)));
    let flag = |f: u32| u64::from(s.flags & f != 0);
    for (name, n) in [
        ("autoclear", flag(LO_FLAGS_AUTOCLEAR)),
        ("dio", flag(LO_FLAGS_DIRECT_IO)),
        ("offset", s.offset),
        ("partscan", flag(LO_FLAGS_PARTSCAN)),
        ("sizelimit", s.limit),
    ] {
        add(&format!("loop/{name}"), &format!("{n}\n"));
    }
}

/// The seventeen numbers of a disk. Times are not taken.
fn counts(d: &Device) -> String {
    let n = d.counts();
    format!("{} 0 {} 0 {} 0 {} 0 0 0 0 0 0 0 0 0 0", n.reads, n.sectors_read, n.writes, n.sectors_written)
}

/// /proc/diskstats.
pub fn disk_stats(k: &Kernel) -> String {
    k.loops.all().iter().fold(String::new(), |mut s, d| {
        let _ = writeln!(s, "{LOOP_MAJOR:4} {n:7} loop{n} {}", counts(d), n = d.number);
        s
    })
}

/// /proc/partitions, in kibibytes.
pub fn partitions(k: &Kernel) -> String {
    let head = "major minor  #blocks  name\n\n".to_owned();
    k.loops.all().iter().filter(|d| d.size() > 0).fold(head, |mut s, d| {
        let _ = writeln!(s, "{LOOP_MAJOR:4}  {n:7} {:10} loop{n}", d.size() / 1024, n = d.number);
        s
    })
}
