//! /proc/PID/mounts, mountinfo and mountstats: poll(2) tells that there is something new.
use abi::{Errno, Result};
use guest::Sink;
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use task::{Kernel, Task};
use vfs::{FileOps, Mount, MountTable, OpenFile, Path, Ready};

/// The name of such a file, if the path, without the process, is one's.
pub fn name(rest: &str) -> Option<&'static str> {
    let own = rest.strip_prefix("task/").and_then(|r| r.split_once('/')).map_or(rest, |(_, r)| r);
    ["mounts", "mountinfo", "mountstats"].into_iter().find(|n| *n == own)
}

/// Of the mounts of `ns` that are below `root`.
fn text(ns: &MountTable, root: &Path, name: &str) -> String {
    let line = |m: &Rc<Mount>| {
        let line = m.line(m, root, name == "mountinfo")?;
        if name != "mountstats" {
            return Some(line);
        }
        let mut words = line.split(' ');
        let (source, at, kind) = (words.next()?, words.next()?, words.next()?);
        Some(format!("device {source} mounted on {at} with fstype {kind}\n"))
    };
    ns.all().iter().filter_map(line).collect()
}

/// As the thread sees them.
pub fn of(t: &Task, name: &str) -> String {
    let fs = t.fs();
    let root = fs.root.borrow();
    text(&fs.mounts, &root, name)
}

/// Opens it: what it shows is what this process's threads see now, whatever they change to.
pub fn open(k: &Rc<Kernel>, pid: i32, name: &'static str) -> Result<Rc<dyn FileOps>> {
    let process = k.process(pid).or_else(|| Some(k.task(pid)?.process.clone())).ok_or(Errno::ENOENT)?;
    let fs = process.leader().ok_or(Errno::EINVAL)?.fs();
    let (ns, root) = (fs.mounts.clone(), fs.root.borrow().clone());
    let seen = Cell::new(ns.changes());
    Ok(Rc::new(MountsFile { ns, root, name, seen, text: RefCell::default() }))
}

struct MountsFile {
    ns: Rc<MountTable>,
    root: Path,
    name: &'static str,
    /// The changes that were told of.
    seen: Cell<u64>,
    /// As it was at the last read from the start.
    text: RefCell<String>,
}

impl FileOps for MountsFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        if offset == 0 {
            self.text.replace(text(&self.ns, &self.root, self.name));
        }
        let text = self.text.borrow();
        let rest = &text.as_bytes()[(offset as usize).min(text.len())..];
        if rest.is_empty() { Ok(0) } else { dst.put(&rest[..rest.len().min(dst.remaining())]) }
    }
    fn size(&self) -> Result<u64> {
        Ok(self.text.borrow().len() as u64)
    }
    /// Each change is told of once.
    fn ready(&self) -> Ready {
        let now = self.ns.changes();
        let news = self.name != "mountstats" && self.seen.replace(now) != now;
        Ready::IN | Ready::RDNORM | if news { Ready::ERR | Ready::PRI } else { Ready::empty() }
    }
    fn waiters(&self) -> Option<&WaitQueue> {
        Some(self.ns.watchers())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
