//! Advisory locks: flock(2), and the record locks of fcntl(2).
use abi::{Errno, Result};
use kernel::wait::WaitQueue;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

/// Which file: device and inode.
pub type FileId = (u64, u64);

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A process, for POSIX record locks.
    Process(i32),
    /// An open file description, by its address: flock and OFD locks.
    Description(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub owner: Owner,
    pub exclusive: bool,
    pub range: Range<u64>,
}

#[derive(Default)]
struct File {
    flocks: Vec<Lock>,
    records: Vec<Lock>,
}

/// Which family: they do not see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Flock,
    Record,
}

/// Every advisory lock of the sandbox.
#[derive(Default)]
pub struct Locks {
    files: RefCell<HashMap<FileId, File>>,
    /// Who waits for whose record lock.
    waits: RefCell<HashMap<Owner, Owner>>,
    /// Woken when any lock goes.
    pub released: WaitQueue,
}

/// The end of a lock that reaches to the end of the file.
pub const END: u64 = u64::MAX;

impl File {
    fn list(&mut self, f: Family) -> &mut Vec<Lock> {
        match f {
            Family::Flock => &mut self.flocks,
            Family::Record => &mut self.records,
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Locks {
    /// The lock in the way of this one.
    pub fn conflict(&self, id: FileId, f: Family, want: &Lock) -> Option<Lock> {
        let mut files = self.files.borrow_mut();
        let list = files.get_mut(&id)?.list(f);
        let clash =
            |l: &&Lock| l.owner != want.owner && (l.exclusive || want.exclusive) && overlap(&l.range, &want.range);
        list.iter().find(clash).cloned()
    }

    /// Takes a lock, replacing the owner's own in that range. EAGAIN if another's is in the way.
    pub fn lock(&self, id: FileId, f: Family, want: Lock) -> Result {
        if self.conflict(id, f, &want).is_some() {
            return Err(Errno::EAGAIN);
        }
        self.cut(id, f, want.owner, &want.range);
        self.files.borrow_mut().entry(id).or_default().list(f).push(want);
        self.released.wake();
        Ok(())
    }

    /// `me` is going to wait for a lock of `by`. EDEADLK if that, or whom it waits for in turn, waits for `me`.
    pub fn wait_for(&self, me: Owner, by: Owner) -> Result {
        let mut waits = self.waits.borrow_mut();
        let mut next = Some(by);
        // No longer chain can be without a circle.
        for _ in 0..=waits.len() {
            match next {
                Some(o) if o == me => return Err(Errno::EDEADLK),
                Some(o) => next = waits.get(&o).copied(),
                None => break,
            }
        }
        waits.insert(me, by);
        Ok(())
    }

    /// `me` waits no more.
    pub fn waits_no_more(&self, me: Owner) {
        self.waits.borrow_mut().remove(&me);
    }

    pub fn unlock(&self, id: FileId, f: Family, owner: Owner, range: &Range<u64>) {
        self.cut(id, f, owner, range);
        self.released.wake();
    }

    fn cut(&self, id: FileId, f: Family, owner: Owner, range: &Range<u64>) {
        let mut files = self.files.borrow_mut();
        let Some(file) = files.get_mut(&id) else { return };
        let list = file.list(f);
        let mut kept = Vec::with_capacity(list.len() + 1);
        for l in list.drain(..) {
            if l.owner != owner || !overlap(&l.range, range) {
                kept.push(l);
                continue;
            }
            if l.range.start < range.start {
                kept.push(Lock { range: l.range.start..range.start, ..l.clone() });
            }
            if l.range.end > range.end {
                kept.push(Lock { range: range.end..l.range.end, ..l });
            }
        }
        *list = kept;
        if file.flocks.is_empty() && file.records.is_empty() {
            files.remove(&id);
        }
    }

    /// No file has any lock.
    pub fn is_empty(&self) -> bool {
        self.files.borrow().is_empty()
    }

    /// Drops all of an owner's locks on a file, or on every file.
    pub fn release(&self, id: Option<FileId>, owner: Owner) {
        if self.is_empty() {
            return;
        }
        let ids: Vec<FileId> = match id {
            Some(id) => vec![id],
            None => self.files.borrow().keys().copied().collect(),
        };
        for id in ids {
            self.cut(id, Family::Record, owner, &(0..END));
            self.cut(id, Family::Flock, owner, &(0..END));
        }
        self.released.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(p: i32, exclusive: bool, range: Range<u64>) -> Lock {
        Lock { owner: Owner::Process(p), exclusive, range }
    }

    #[test]
    fn records_split_and_conflict() {
        let l = Locks::default();
        let id = (1, 2);
        l.lock(id, Family::Record, lock(1, true, 0..100)).unwrap();
        assert_eq!(l.lock(id, Family::Record, lock(2, false, 50..60)), Err(Errno::EAGAIN));
        l.unlock(id, Family::Record, Owner::Process(1), &(40..70));
        l.lock(id, Family::Record, lock(2, false, 50..60)).unwrap();
        let c = l.conflict(id, Family::Record, &lock(2, true, 0..END)).unwrap();
        assert_eq!(c.range, 0..40);
        assert!(l.conflict(id, Family::Flock, &lock(2, true, 0..END)).is_none());
        l.release(None, Owner::Process(1));
        assert!(l.conflict(id, Family::Record, &lock(2, true, 0..END)).is_none());
    }

    #[test]
    fn a_shared_lock_upgrades_when_alone() {
        let l = Locks::default();
        l.lock((0, 0), Family::Flock, lock(1, false, 0..END)).unwrap();
        l.lock((0, 0), Family::Flock, lock(2, false, 0..END)).unwrap();
        assert!(l.lock((0, 0), Family::Flock, lock(1, true, 0..END)).is_err());
        l.release(Some((0, 0)), Owner::Process(2));
        assert!(l.lock((0, 0), Family::Flock, lock(1, true, 0..END)).is_ok());
    }
}
