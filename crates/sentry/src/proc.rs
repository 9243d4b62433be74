//! What /proc shows, from the task tree.
mod mem;
mod pid;
mod system;

use abi::{Errno, Result};
use fs::proc::Node;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use task::Kernel;
use vfs::{FileOps, Follow};

thread_local! {
    /// The process and thread whose call is being served: what /proc/self means.
    static CALLER: Cell<(i32, i32)> = const { Cell::new((1, 1)) };
}

/// Says who looks.
pub fn set_caller(pid: i32, tid: i32) {
    CALLER.set((pid, tid));
}

/// The kernel, once it exists.
#[derive(Default)]
pub struct Source {
    kernel: RefCell<Weak<Kernel>>,
}

pub(crate) const DIR: u8 = 4;
pub(crate) const FILE: u8 = 8;
pub(crate) const LINK: u8 = 10;

impl Source {
    pub fn set(&self, k: &Rc<Kernel>) {
        *self.kernel.borrow_mut() = Rc::downgrade(k);
    }

    fn kernel(&self) -> Result<Rc<Kernel>> {
        self.kernel.borrow().upgrade().ok_or(Errno::ENOENT)
    }
}

/// The process a path is about, and the rest of the path.
fn split(path: &str) -> Option<(i32, &str)> {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    first.parse().ok().filter(|p| *p > 0).map(|p| (p, rest))
}

impl fs::proc::Source for Source {
    fn node(&self, path: &str) -> Result<Node> {
        let k = self.kernel()?;
        let (pid, tid) = CALLER.get();
        match path {
            "" => {
                let mut names = system::top();
                names.extend(k.processes().iter().map(|p| (p.pid.to_string(), DIR)));
                Ok(Node::Dir(names))
            }
            "self" => Ok(Node::Link(pid.to_string().into_bytes())),
            "thread-self" => Ok(Node::Link(format!("{pid}/task/{tid}").into_bytes())),
            _ => match split(path) {
                Some((pid, rest)) => pid::node(&k, pid, rest),
                None => system::node(&k, path),
            },
        }
    }

    fn follow(&self, path: &str) -> Option<Result<Follow>> {
        let k = self.kernel().ok()?;
        let (pid, rest) = split(path)?;
        pid::follow(&k, pid, rest)
    }

    fn open(&self, path: &str) -> Option<Result<Rc<dyn FileOps>>> {
        let (pid, rest) = split(path)?;
        let tid = match rest.strip_prefix("task/").and_then(|r| r.split_once('/')) {
            Some((tid, "mem")) => tid.parse().ok()?,
            None if rest == "mem" => pid,
            _ => return None,
        };
        let k = self.kernel().ok()?;
        let t = k.task(tid).or_else(|| k.process(tid)?.leader())?;
        Some(mem::open(&k, CALLER.get().1, &t))
    }

    fn owner(&self, path: &str) -> (u32, u32) {
        let found = split(path).and_then(|(pid, _)| self.kernel().ok()?.process(pid)?.leader());
        found.map_or((0, 0), |t| (t.cred().euid, t.cred().egid))
    }

    fn writable(&self, path: &str) -> bool {
        path == "sys/kernel/hostname"
            || path.ends_with("/oom_score_adj")
            || path.ends_with("/comm")
            || path.ends_with("/mem")
    }

    fn write(&self, path: &str, data: &[u8]) -> Result {
        let k = self.kernel()?;
        match path {
            "sys/kernel/hostname" => {
                k.hostname.replace(data.trim_ascii_end().to_vec());
                Ok(())
            }
            p if p.ends_with("/oom_score_adj") => Ok(()),
            p if p.ends_with("/comm") => {
                let (pid, _) = split(p).ok_or(Errno::ENOENT)?;
                let t = k.process(pid).and_then(|p| p.leader()).ok_or(Errno::ESRCH)?;
                let name = data.trim_ascii_end();
                t.comm.replace(name[..name.len().min(15)].to_vec());
                Ok(())
            }
            _ => Err(Errno::EACCES),
        }
    }
}
