//! Containers beside the first in one sandbox: a pod's. Each has a root, mounts and processes of its own; network,
//! System V IPC, message queues and terminals are the sandbox's, and so is its memory.
use crate::mounts::{self, Plan};
use crate::serve::Sentry;
use crate::start::{Failure, Place};
use abi::{Errno, c};
use platform::Platform;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use task::ns::Namespaces;
use vfs::MountTable;

/// As many as a sandbox has room for beside the first.
const MOST: usize = 64;

pub struct Container {
    /// Its first process.
    pid: i32,
    mounts: Rc<MountTable>,
    namespaces: Rc<Namespaces>,
}

impl<P: Platform> Sentry<P> {
    /// Where a further process of a container is started; `None`: of the first.
    pub fn place(&self, container: Option<i32>) -> Result<Place, Failure> {
        let first = container.unwrap_or(1);
        if first == 1 {
            return Ok(Place::first(&self.k));
        }
        let found = self.containers.iter().find(|c| c.pid == first && self.k.process(first).is_some());
        let c = found.ok_or_else(|| Failure::ours(Errno::ESRCH, "there is no such container"))?;
        Ok(Place { container: Some(first), mounts: c.mounts.clone(), namespaces: c.namespaces.clone() })
    }

    /// Makes one, whose first process is held; its pid.
    pub fn container(&mut self, spec: wire::control::Container, mut descriptors: Vec<OwnedFd>) -> Result<i32, Failure> {
        let k = self.k.clone();
        self.containers.retain(|c| k.process(c.pid).is_some());
        if self.containers.len() >= MOST {
            return Err(Failure::ours(Errno::EAGAIN, format!("a sandbox has at most {MOST} further containers")));
        }
        let own = if spec.process.terminal { 1 } else { 3 };
        if descriptors.len() < own {
            return Err(Failure::ours(Errno::EINVAL, "there are no descriptors for the process"));
        }
        let mut trees: Vec<Option<OwnedFd>> = descriptors.split_off(own).into_iter().map(Some).collect();
        let table = MountTable::further();
        let plan = Plan {
            mounts: &spec.mounts,
            root_read_only: spec.root_read_only,
            process: &spec.process,
            memory: k.config.memory.get(),
            single: self.single,
            dev: k.new_devs(spec.mounts.len() as u64),
        };
        let mut take = |n: i32| {
            let tree = usize::try_from(n).ok().and_then(|n| trees.get_mut(n)?.take());
            tree.ok_or_else(|| format!("descriptor {n} was not sent"))
        };
        let ours = |why| Failure::ours(Errno::EINVAL, why);
        mounts::mount(&k, &table, &plan, &mut take, &self.source).map_err(ours)?;
        if table.root().is_none() {
            return Err(Failure::ours(Errno::ENOENT, "there is no root"));
        }
        let mut namespaces = k.first.clone();
        if let Some(name) = spec.hostname {
            namespaces = namespaces.with_new(c::CLONE_NEWUTS, &k.first.uts.user_ns);
            *namespaces.uts.hostname.borrow_mut() = name.into_bytes();
            if let Some(name) = spec.domainname {
                *namespaces.uts.domainname.borrow_mut() = name.into_bytes();
            }
        }
        let place = Place { container: None, mounts: table.clone(), namespaces: namespaces.clone() };
        let t = self.outside(&spec.process, &place, descriptors)?;
        t.ask.set(task::Ask::Other);
        self.held.push(t.clone());
        self.containers.push(Container { pid: t.tid, mounts: table, namespaces });
        Ok(t.tid)
    }
}
