//! What /proc shows, from the task tree.
mod cpuinfo;
mod fdinfo;
mod keys;
mod locks;
mod memory;
mod mounts;
mod pid;
pub mod settings;
pub mod sockets;
mod status;
mod system;
mod sysvipc;
mod users;

use abi::{Errno, Result};
use fs::proc::Node;
use guest::Memory;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use task::{Kernel, Process};
use vfs::{FileOps, Follow};

/// The kernel, once it exists.
#[derive(Default)]
pub struct Source {
    kernel: RefCell<Weak<Kernel>>,
}

pub use pid::info;

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

/// Does the one who looks see this process? Those of other containers are not there.
fn sees(k: &Kernel, p: &Process) -> bool {
    k.process(task::caller().0).is_none_or(|by| by.container == p.container)
}

/// The process a path is about, and the rest of the path.
fn split(path: &str) -> Option<(i32, &str)> {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    first.parse().ok().filter(|p| *p > 0).map(|p| (p, rest))
}

/// As [`sees`], by the number of a process or thread.
fn visible(k: &Kernel, pid: i32) -> bool {
    let process = k.process(pid).or_else(|| Some(k.task(pid)?.process.clone()));
    process.is_none_or(|p| sees(k, &p))
}

impl fs::proc::Source for Source {
    fn node(&self, path: &str) -> Result<Node> {
        let k = self.kernel()?;
        let (pid, tid) = task::caller();
        match path {
            "" => {
                let mut names = system::top();
                names.extend(k.processes().iter().filter(|p| sees(&k, p)).map(|p| (p.pid.to_string(), DIR)));
                Ok(Node::Dir(names))
            }
            "self" => Ok(Node::Link(pid.to_string().into_bytes())),
            "thread-self" => Ok(Node::Link(format!("{pid}/task/{tid}").into_bytes())),
            _ => match split(path) {
                Some((pid, _)) if !visible(&k, pid) => Err(Errno::ENOENT),
                Some((pid, rest)) => pid::node(&k, pid, rest),
                None => system::node(&k, path),
            },
        }
    }

    fn follow(&self, path: &str) -> Option<Result<Follow>> {
        let k = self.kernel().ok()?;
        let (pid, rest) = split(path).filter(|(pid, _)| visible(&k, *pid))?;
        pid::follow(&k, pid, rest)
    }

    fn owner(&self, path: &str) -> (u32, u32) {
        let found = split(path).and_then(|(pid, _)| self.kernel().ok()?.process(pid)?.leader());
        found.map_or((0, 0), |t| (t.cred().euid, t.cred().egid))
    }

    fn writable(&self, path: &str) -> bool {
        if let Some(setting) = path.strip_prefix("sys/") {
            return self.kernel().is_ok_and(|k| settings::writable(&k, setting));
        }
        memory::is(path)
            || path.ends_with("/oom_score_adj")
            || path.ends_with("/comm")
            || path.ends_with("/loginuid")
            || users::is(path)
    }

    fn private(&self, path: &str) -> bool {
        memory::is(path)
    }

    /// Not what leads to open files, nor what is told of them.
    fn may_be_covered(&self, path: &str) -> bool {
        let Some((_, rest)) = split(path) else { return true };
        let own = rest.strip_prefix("task/").and_then(|r| r.split_once('/')).map_or(rest, |(_, r)| r);
        !["fd/", "fdinfo/", "map_files/"].iter().any(|d| own.starts_with(d))
    }

    fn process(&self, path: &str) -> Option<(i32, u64)> {
        let (pid, _) = split(path).filter(|(_, rest)| rest.is_empty())?;
        Some((pid, self.kernel().ok()?.process(pid)?.started))
    }

    fn open(&self, path: &str) -> Option<Result<Rc<dyn FileOps>>> {
        let k = self.kernel().ok()?;
        let (pid, rest) = split(path).filter(|(pid, _)| visible(&k, *pid))?;
        if let Some(name) = mounts::name(rest) {
            return Some(mounts::open(&k, pid, name));
        }
        if !memory::is(path) {
            return None;
        }
        Some(Ok(k).and_then(|k| memory::open(&k, pid, task::caller().1)))
    }

    fn ioctl(&self, path: &str, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        let k = self.kernel()?;
        match split(path) {
            Some((pid, rest)) if (rest == "maps" || rest.ends_with("/maps")) && visible(&k, pid) => {
                pid::query(&k, pid, mem, cmd, arg)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn write(&self, path: &str, data: &[u8]) -> Result {
        let k = self.kernel()?;
        match path {
            p if let Some(setting) = p.strip_prefix("sys/") => match settings::writable(&k, setting) {
                true => settings::set(&k, setting, data),
                false => Err(Errno::EPERM),
            },
            p if p.ends_with("/oom_score_adj") => {
                let (pid, _) = split(p).ok_or(Errno::ENOENT)?;
                pid::set_oom_score_adj(&k, pid, k.task(task::caller().1).as_deref(), data)
            }
            p if p.ends_with("/loginuid") => {
                let (pid, _) = split(p).ok_or(Errno::ENOENT)?;
                pid::set_login(&k, pid, data)
            }
            p if p.ends_with("/comm") => {
                let (pid, _) = split(p).ok_or(Errno::ENOENT)?;
                let t = k.process(pid).and_then(|p| p.leader()).ok_or(Errno::ESRCH)?;
                let name = data.trim_ascii_end();
                t.comm.replace(name[..name.len().min(15)].to_vec());
                Ok(())
            }
            p if users::is(p) => {
                let (pid, rest) = split(p).ok_or(Errno::ENOENT)?;
                let t = k.process(pid).and_then(|p| p.leader()).ok_or(Errno::ESRCH)?;
                let by = k.task(task::caller().1).ok_or(Errno::ESRCH)?;
                users::write(&t, &by, rest.rsplit('/').next().unwrap_or(rest), data)
            }
            _ => Err(Errno::EACCES),
        }
    }
}
