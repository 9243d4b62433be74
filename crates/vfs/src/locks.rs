//! Advisory locks: flock(2), and the record locks of fcntl(2).
use abi::{Errno, Result};
use kernel::wait::WaitQueue;
use std::cell::{Cell, RefCell};
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
    /// Who waits for which record lock, each by a number of its own.
    waiting: RefCell<Vec<(u64, FileId, Lock)>>,
    waits: Cell<u64>,
    /// Woken when any lock goes.
    pub released: WaitQueue,
}

/// A wait for a record lock, as others' search for deadlocks sees it, until it is dropped.
pub struct Waiting<'a> {
    locks: &'a Locks,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.locks.waiting.borrow_mut().retain(|(n, ..)| *n != self.number);
    }
}

/// How long a chain of waits is followed, as Linux does.
const CHAIN: usize = 10;

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

    /// Every lock, with its file and family, by file.
    pub fn all(&self) -> Vec<(FileId, Family, Lock)> {
        let files = self.files.borrow();
        let flocks = |id, f: &File| f.flocks.iter().map(move |l| (id, Family::Flock, l.clone())).collect::<Vec<_>>();
        let records = |id, f: &File| f.records.iter().map(move |l| (id, Family::Record, l.clone())).collect::<Vec<_>>();
        let mut all: Vec<_> = files.iter().flat_map(|(id, f)| [flocks(*id, f), records(*id, f)].concat()).collect();
        all.sort_by_key(|(id, _, l)| (*id, l.range.start));
        all
    }

    /// Would a wait for this record lock never end, because its holder waits, maybe for others, for its owner?
    pub fn deadlock(&self, id: FileId, want: &Lock) -> bool {
        let Owner::Process(_) = want.owner else { return false };
        let mut next = self.conflict(id, Family::Record, want);
        for _ in 0..CHAIN {
            let Some(holder) = next else { return false };
            if holder.owner == want.owner {
                return true;
            }
            let waits = self.waiting.borrow().iter().find(|(_, _, l)| l.owner == holder.owner).cloned();
            next = waits.and_then(|(_, id, l)| self.conflict(id, Family::Record, &l));
        }
        false
    }

    /// Notes a wait for a record lock.
    pub fn wait(&self, id: FileId, want: Lock) -> Waiting<'_> {
        let number = self.waits.get();
        self.waits.set(number + 1);
        self.waiting.borrow_mut().push((number, id, want));
        Waiting { locks: self, number }
    }

    /// Takes a lock, replacing the owner's own in that range. EAGAIN if another's is in the way.
    /// Locks of one kind that touch become one; the list is by where they start.
    pub fn lock(&self, id: FileId, f: Family, mut want: Lock) -> Result {
        if self.conflict(id, f, &want).is_some() {
            return Err(Errno::EAGAIN);
        }
        self.cut(id, f, want.owner, &want.range);
        let mut files = self.files.borrow_mut();
        let list = files.entry(id).or_default().list(f);
        list.retain(|l| {
            let same = l.owner == want.owner && l.exclusive == want.exclusive;
            let touches = same && (l.range.end == want.range.start || want.range.end == l.range.start);
            if touches {
                want.range = l.range.start.min(want.range.start)..l.range.end.max(want.range.end);
            }
            !touches
        });
        let at = list.partition_point(|l| l.range.start <= want.range.start);
        list.insert(at, want);
        drop(files);
        self.released.wake();
        Ok(())
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
    fn the_first_lock_in_the_way_is_told_and_neighbours_become_one() {
        let l = Locks::default();
        let id = (1, 2);
        for range in [20..30, 0..10, 10..20, 40..50] {
            l.lock(id, Family::Record, lock(1, true, range)).unwrap();
        }
        let first = |from: u64| l.conflict(id, Family::Record, &lock(2, true, from..END)).unwrap().range;
        assert_eq!(first(0), 0..30);
        assert_eq!(first(30), 40..50);
        l.lock(id, Family::Record, lock(1, false, 5..10)).unwrap();
        assert_eq!(first(0), 0..5);
        assert_eq!(first(5), 5..10);
        assert_eq!(first(10), 10..30);
    }

    #[test]
    fn a_ring_of_waits_is_a_deadlock() {
        let l = Locks::default();
        let id = (1, 2);
        for p in 1..=3 {
            l.lock(id, Family::Record, lock(p, true, p as u64..p as u64 + 1)).unwrap();
        }
        let (wants_2, wants_3, wants_1) = (lock(1, true, 2..3), lock(2, true, 3..4), lock(3, true, 1..2));
        assert!(!l.deadlock(id, &wants_2));
        let first = l.wait(id, wants_2);
        let _second = l.wait(id, wants_3);
        assert!(l.deadlock(id, &wants_1));
        drop(first);
        assert!(!l.deadlock(id, &wants_1));
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
