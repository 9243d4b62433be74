//! Shared memory segments: shmget(2). Who has one attached holds it.
use super::{Object, Perm, Sysv, now};
use abi::ipc::SHM_DEST;
use abi::{Errno, PAGE_SIZE, Result};
use kernel::cred::Cred;
use std::cell::Cell;
use std::rc::Rc;
use vfs::OpenFile;

pub struct Segment {
    perm: Perm,
    pub size: u64,
    /// A nameless file in memory.
    pub file: Rc<OpenFile>,
    pub cpid: i32,
    pub lpid: Cell<i32>,
    pub atime: Cell<i64>,
    pub dtime: Cell<i64>,
    pub ctime: Cell<i64>,
}

impl Object for Segment {
    fn perm(&self) -> &Perm {
        &self.perm
    }
    /// Its pages.
    fn weight(&self) -> u64 {
        self.pages()
    }
}

impl Segment {
    pub fn pages(&self) -> u64 {
        self.size.div_ceil(PAGE_SIZE)
    }

    pub fn attached(&self, pid: i32) {
        self.atime.set(now());
        self.lpid.set(pid);
    }

    pub fn detached(&self, pid: i32) {
        self.dtime.set(now());
        self.lpid.set(pid);
    }
}

impl Sysv {
    /// shmget(2). `file`: makes the nameless file of a segment of `size` bytes.
    pub fn segment(
        &self,
        key: i32,
        size: u64,
        flags: i32,
        cred: &Cred,
        pid: i32,
        file: impl FnOnce(u64) -> Result<Rc<OpenFile>>,
    ) -> Result<i32> {
        let fits = |s: &Segment| if s.size < size { Err(Errno::EINVAL) } else { Ok(()) };
        self.segments.open(key, flags, cred, fits, |perm| {
            if size == 0 || size > self.limits.shmmax.get() {
                return Err(Errno::EINVAL);
            }
            if size.div_ceil(PAGE_SIZE).checked_add(self.segments.weight()).is_none_or(|n| n > self.limits.shmall.get())
            {
                return Err(Errno::ENOSPC);
            }
            let zero = || Cell::new(0);
            let (file, ctime) = (file(size)?, Cell::new(now()));
            Ok(Segment { perm, size, file, cpid: pid, lpid: Cell::new(0), atime: zero(), dtime: zero(), ctime })
        })
    }

    /// IPC_RMID: the segment goes with its last attachment.
    pub fn remove_segment(&self, s: &Rc<Segment>) {
        s.perm.change(|p| p.mode |= SHM_DEST);
        self.segments.doom(s);
    }
}
