//! System V IPC: semaphore sets, message queues and shared memory segments. sysvipc(7).
pub mod msg;
pub mod sem;
pub mod shm;
mod table;

pub use table::{OBJECTS_MAX, Object, Table};

use abi::ipc::IpcPerm;
use abi::{Errno, Result};
use kernel::cred::{CAP_IPC_OWNER, CAP_SYS_ADMIN, Cred};
use std::cell::Cell;

/// Permission bits that a command needs, for owner, group and others at once.
pub const READ: u32 = 0o444;
pub const WRITE: u32 = 0o222;

/// Seconds since the epoch.
pub fn now() -> i64 {
    (host::time::realtime_ns() / 1_000_000_000) as i64
}

/// Key, owners and mode of one object.
#[derive(Debug)]
pub struct Perm(Cell<IpcPerm>);

impl Perm {
    fn new(key: i32, flags: i32, cred: &Cred) -> Perm {
        let (uid, gid, mode) = (cred.euid, cred.egid, flags as u32 & 0o777);
        Perm(Cell::new(IpcPerm { key, uid, gid, cuid: uid, cgid: gid, mode, ..IpcPerm::default() }))
    }

    pub fn get(&self) -> IpcPerm {
        self.0.get()
    }

    pub fn change(&self, f: impl FnOnce(&mut IpcPerm)) {
        let mut p = self.0.get();
        f(&mut p);
        self.0.set(p);
    }

    /// EACCES unless `cred` has the permission bits of `want` that are its own.
    pub fn check(&self, cred: &Cred, want: u32) -> Result {
        let p = self.0.get();
        let want = (want >> 6) | (want >> 3) | want;
        let granted = if cred.euid == p.uid || cred.euid == p.cuid {
            p.mode >> 6
        } else if [p.gid, p.cgid].iter().any(|g| *g == cred.egid || cred.groups.contains(g)) {
            p.mode >> 3
        } else {
            p.mode
        };
        if want & !granted & 7 == 0 || cred.has(CAP_IPC_OWNER) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// EPERM unless `cred` owns the object.
    pub fn owner(&self, cred: &Cred) -> Result {
        let p = self.0.get();
        let own = cred.euid == p.uid || cred.euid == p.cuid || cred.has(CAP_SYS_ADMIN);
        if own { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// IPC_SET: owner and permission bits.
    pub fn set(&self, new: &IpcPerm) -> Result {
        if new.uid == u32::MAX || new.gid == u32::MAX {
            return Err(Errno::EINVAL);
        }
        self.change(|p| {
            (p.uid, p.gid, p.mode) = (new.uid, new.gid, (p.mode & !0o777) | (new.mode & 0o777));
        });
        Ok(())
    }
}

/// What /proc/sys/kernel sets besides the numbers of objects: msgget(2), shmget(2), semget(2).
pub struct Limits {
    pub msgmax: Cell<usize>,
    pub msgmnb: Cell<u64>,
    pub shmmax: Cell<u64>,
    pub shmall: Cell<u64>,
    pub semmsl: Cell<usize>,
    pub semmns: Cell<usize>,
    pub semopm: Cell<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            msgmax: Cell::new(abi::ipc::MSGMAX),
            msgmnb: Cell::new(abi::ipc::MSGMNB),
            shmmax: Cell::new(abi::ipc::SHMMAX),
            shmall: Cell::new(abi::ipc::SHMALL),
            semmsl: Cell::new(abi::ipc::SEMMSL),
            semmns: Cell::new(abi::ipc::SEMMNS),
            semopm: Cell::new(abi::ipc::SEMOPM),
        }
    }
}

/// All of a namespace.
pub struct Sysv {
    pub limits: Limits,
    pub sems: Table<sem::SemSet>,
    pub queues: Table<msg::Queue>,
    pub segments: Table<shm::Segment>,
}

impl Default for Sysv {
    fn default() -> Self {
        Sysv {
            limits: Limits::default(),
            sems: Table::new(abi::ipc::SEMMNI),
            queues: Table::new(abi::ipc::MSGMNI),
            segments: Table::new(abi::ipc::SHMMNI),
        }
    }
}
