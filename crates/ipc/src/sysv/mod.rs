//! System V IPC: semaphore sets, message queues and shared memory segments. sysvipc(7).
pub mod msg;
pub mod sem;
pub mod shm;

use abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IpcPerm};
use abi::{Errno, Result};
use kernel::cred::{CAP_IPC_OWNER, CAP_SYS_ADMIN, Cred};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

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

pub trait Object {
    fn perm(&self) -> &Perm;
}

struct Place<T> {
    seq: u16,
    /// `None`: removed, and there only for those who still hold it.
    strong: Option<Rc<T>>,
    weak: Weak<T>,
}

/// Objects of one kind, by identifier: the place in the table, and a number that tells its users apart.
pub struct Table<T> {
    places: RefCell<Vec<Option<Place<T>>>>,
    next_seq: Cell<u16>,
    /// How many objects there may be.
    pub max: Cell<usize>,
    /// The identifier that the next object is to have, or -1.
    pub next_id: Cell<i32>,
}

const INDEX_BITS: u32 = 15;
const INDEXES: u32 = (1 << INDEX_BITS) - 1;
/// No kind has more objects.
pub const OBJECTS_MAX: usize = 1 << INDEX_BITS;

impl<T: Object> Table<T> {
    fn new(max: usize) -> Self {
        let (max, next_id) = (Cell::new(max), Cell::new(-1));
        Table { places: RefCell::default(), next_seq: Cell::new(0), max, next_id }
    }

    /// Every object, with its identifier, by place.
    pub fn all(&self) -> Vec<(i32, Rc<T>)> {
        let places = self.places.borrow();
        let live = places.iter().enumerate().filter_map(|(i, p)| {
            let p = p.as_ref()?;
            Some((id(i, p.seq), p.weak.upgrade()?))
        });
        live.collect()
    }

    /// The highest place in use; 0 if none is.
    pub fn highest(&self) -> i32 {
        self.all().last().map_or(0, |(id, _)| id & INDEXES as i32)
    }

    /// EINVAL if there is none.
    pub fn get(&self, want: i32) -> Result<Rc<T>> {
        let i = usize::try_from(want).map_err(|_| Errno::EINVAL)? & INDEXES as usize;
        self.at(i).filter(|(found, _)| *found == want).map(|(_, o)| o).ok_or(Errno::EINVAL)
    }

    /// The object at a place.
    pub fn at(&self, index: usize) -> Option<(i32, Rc<T>)> {
        let places = self.places.borrow();
        let p = places.get(index)?.as_ref()?;
        Some((id(index, p.seq), p.weak.upgrade()?))
    }

    /// shmget(2) and its kin: the object of `key`, or what `make` makes. `fits`: an object that is there will do.
    pub fn open(
        &self,
        key: i32,
        flags: i32,
        cred: &Cred,
        fits: impl FnOnce(&T) -> Result,
        make: impl FnOnce(Perm) -> Result<T>,
    ) -> Result<i32> {
        if key != IPC_PRIVATE {
            let there = self.all().into_iter().find(|(_, o)| o.perm().get().key == key);
            match there {
                Some(_) if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL => return Err(Errno::EEXIST),
                Some((id, o)) => {
                    fits(&o)?;
                    return o.perm().check(cred, flags as u32 & 0o777).map(|()| id);
                }
                None if flags & IPC_CREAT == 0 => return Err(Errno::ENOENT),
                None => {}
            }
        }
        let perm = Perm::new(key, flags, cred);
        let made = make(perm)?;
        self.add(made)
    }

    /// ENOSPC if the table is full.
    fn add(&self, object: T) -> Result<i32> {
        let mut places = self.places.borrow_mut();
        let free = |p: &Option<Place<T>>| p.as_ref().is_none_or(|p| p.weak.strong_count() == 0);
        if places.iter().filter(|p| !free(p)).count() >= self.max.get() {
            return Err(Errno::ENOSPC);
        }
        let wanted = u32::try_from(self.next_id.replace(-1)).ok();
        let first = wanted.map_or(0, |id| (id & INDEXES) as usize);
        let i = (first..).find(|i| places.get(*i).is_none_or(free)).unwrap_or(first);
        if i > INDEXES as usize {
            return Err(Errno::ENOSPC);
        }
        let next = || self.next_seq.replace((self.next_seq.get() + 1) & 0x7fff);
        let seq = wanted.map_or_else(next, |id| (id >> INDEX_BITS) as u16);
        if i > places.len() {
            places.resize_with(i, || None);
        }
        object.perm().change(|p| p.seq = seq);
        let strong = Rc::new(object);
        let place = Some(Place { seq, weak: Rc::downgrade(&strong), strong: Some(strong) });
        if i == places.len() {
            places.push(place);
        } else {
            places[i] = place;
        }
        Ok(id(i, seq))
    }

    /// Gives an object up: it is there as long as others hold it, and has no key.
    pub fn doom(&self, object: &Rc<T>) {
        object.perm().change(|p| p.key = IPC_PRIVATE);
        self.places.borrow_mut().iter_mut().flatten().filter(|p| p.weak.as_ptr() == Rc::as_ptr(object)).for_each(|p| {
            p.strong = None;
        });
    }

    /// Takes an object out, whoever holds it.
    fn remove(&self, object: &Rc<T>) {
        let mine = |p: &Option<Place<T>>| p.as_ref().is_some_and(|p| p.weak.as_ptr() == Rc::as_ptr(object));
        if let Some(p) = self.places.borrow_mut().iter_mut().find(|p| mine(p)) {
            *p = None;
        }
    }
}

fn id(index: usize, seq: u16) -> i32 {
    (i32::from(seq) << INDEX_BITS) | index as i32
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
