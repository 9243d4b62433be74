//! /proc/locks, which lslocks(8) reads; proc_locks(5).
use abi::c;
use std::collections::HashMap;
use std::rc::Rc;
use task::Kernel;
use vfs::locks::{END, Family, Lock, Owner};

pub fn text(k: &Kernel) -> String {
    let all = k.locks.all();
    if all.is_empty() {
        return String::new();
    }
    let holders = holders(k);
    let line = |(i, ((dev, ino), family, l)): (usize, ((u64, u64), Family, Lock))| {
        let kind = match (family, l.owner) {
            (Family::Flock, _) => "FLOCK ",
            (Family::Record, Owner::Process(_)) => "POSIX ",
            (Family::Record, Owner::Description(_)) => "OFDLCK",
        };
        let pid = match l.owner {
            Owner::Process(pid) => pid,
            Owner::Description(at) if family == Family::Flock => holders.get(&at).copied().unwrap_or(0),
            Owner::Description(_) => -1,
        };
        let how = if l.exclusive { "WRITE" } else { "READ" };
        let end = if l.range.end == END { "EOF".to_owned() } else { (l.range.end - 1).to_string() };
        let (major, minor) = (c::major(dev), c::minor(dev));
        format!("{}: {kind} ADVISORY  {how} {pid} {major:02x}:{minor:02x}:{ino} {} {end}\n", i + 1, l.range.start)
    };
    all.into_iter().enumerate().map(line).collect()
}

/// The first process that has each open file, by the file's address.
fn holders(k: &Kernel) -> HashMap<usize, i32> {
    let mut found = HashMap::new();
    for p in k.processes() {
        let Some(files) = p.leader().and_then(|t| t.files().ok()) else { continue };
        for f in files.numbers(0, u32::MAX).into_iter().filter_map(|n| files.get(n).ok()) {
            found.entry(Rc::as_ptr(&f) as usize).or_insert(p.pid);
        }
    }
    found
}
