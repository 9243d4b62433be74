//! Leases: who holds one is told before somebody opens its file, and has a while to give way. F_SETLEASE of fcntl(2).
//!
//! Only what is done through this kernel is seen. While there are no leases, opening a file costs one test of a counter.
use crate::OpenFile;
use crate::locks::FileId;
use abi::{Errno, Result};
use kernel::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// F_RDLCK: nobody writes.
    Read,
    /// F_WRLCK: nobody else has it open.
    Write,
}

struct Lease {
    file: Weak<OpenFile>,
    /// What the holder is told through.
    fd: i32,
    kind: Kind,
    /// It is to become less: what is to be left of it, and the monotonic nanoseconds when it is taken.
    breaking: Option<(Option<Kind>, u64)>,
}

thread_local! {
    /// How long a holder may take to give way, seconds: /proc/sys/fs/lease-break-time.
    pub static BREAK_SECONDS: Cell<u32> = const { Cell::new(45) };
    /// Are leases given? 0: no. /proc/sys/fs/leases-enable.
    pub static ENABLED: Cell<i32> = const { Cell::new(1) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static LEASES: RefCell<HashMap<FileId, Vec<Lease>>> = RefCell::default();
    static CHANGED: Rc<WaitQueue> = Rc::default();
}

/// Has anybody a lease?
pub fn any() -> bool {
    COUNT.get() > 0
}

/// Woken when a lease goes, or becomes less.
pub fn changed() -> Rc<WaitQueue> {
    CHANGED.with(Rc::clone)
}

/// Changes the leases on one file.
fn alter<T>(id: FileId, f: impl FnOnce(&mut Vec<Lease>) -> T) -> T {
    let (done, was, is) = LEASES.with_borrow_mut(|all| {
        let list = all.entry(id).or_default();
        let was = list.len();
        let done = f(list);
        let is = list.len();
        if is == 0 {
            all.remove(&id);
        }
        (done, was, is)
    });
    COUNT.set(COUNT.get() - was + is);
    done
}

fn held_by(l: &Lease, f: *const OpenFile) -> bool {
    std::ptr::eq(l.file.as_ptr(), f)
}

/// Whether somebody has to give way before the file is opened to read, or to write.
pub fn conflicts(id: FileId, writes: bool) -> bool {
    LEASES.with_borrow(|all| all.get(&id).is_some_and(|list| list.iter().any(|l| writes || l.kind == Kind::Write)))
}

/// Asks the holders that are in the way to give way, those that were not asked yet: their files, and the descriptors they
/// asked through. Also when the last of them has to be gone.
pub fn break_for(id: FileId, writes: bool, now: u64) -> (Vec<(Rc<OpenFile>, i32)>, u64) {
    let left = if writes { None } else { Some(Kind::Read) };
    let mut told = Vec::new();
    let mut last = now;
    alter(id, |list| {
        for l in list.iter_mut().filter(|l| writes || l.kind == Kind::Write) {
            let asked = l.breaking.is_some_and(|(to, _)| !writes || to.is_none());
            if !asked {
                l.breaking = Some((left, now + u64::from(BREAK_SECONDS.get()) * 1_000_000_000));
                told.extend(l.file.upgrade().map(|f| (f, l.fd)));
            }
            last = last.max(l.breaking.map_or(now, |(_, end)| end));
        }
    });
    (told, last)
}

/// Takes what holders have not given up in time.
pub fn expire(id: FileId, now: u64) {
    alter(id, |list| {
        list.retain_mut(|l| match l.breaking {
            Some((None, end)) if end <= now => false,
            Some((Some(kind), end)) if end <= now => {
                (l.kind, l.breaking) = (kind, None);
                true
            }
            _ => true,
        })
    });
    changed().wake();
}

/// What a description holds, or will be left with: F_GETLEASE.
pub fn held(id: FileId, f: &Rc<OpenFile>) -> Option<Kind> {
    LEASES.with_borrow(|all| {
        let l = all.get(&id)?.iter().find(|l| held_by(l, Rc::as_ptr(f)))?;
        l.breaking.map_or(Some(l.kind), |(left, _)| left)
    })
}

/// Takes a lease or changes the one there is. True: it is new. EAGAIN: another's is in the way.
pub fn take(id: FileId, f: &Rc<OpenFile>, fd: i32, kind: Kind) -> Result<bool> {
    let new = alter(id, |list| {
        let mut others = list.iter().filter(|l| !held_by(l, Rc::as_ptr(f)));
        if others.any(|l| kind == Kind::Write || matches!(l.breaking, Some((None, _)))) {
            return Err(Errno::EAGAIN);
        }
        if let Some(l) = list.iter_mut().find(|l| held_by(l, Rc::as_ptr(f))) {
            l.kind = kind;
            l.breaking = l.breaking.filter(|(left, _)| left.is_none() || kind == Kind::Write);
            return Ok(false);
        }
        list.push(Lease { file: Rc::downgrade(f), fd, kind, breaking: None });
        Ok(true)
    })?;
    changed().wake();
    Ok(new)
}

/// Gives a lease up. EAGAIN: there is none.
pub fn give_up(id: FileId, f: *const OpenFile) -> Result {
    let gone = alter(id, |list| {
        let was = list.len();
        list.retain(|l| !held_by(l, f));
        list.len() < was
    });
    changed().wake();
    if gone { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// The description ends.
pub(crate) fn ended(f: &OpenFile) {
    if let Some(a) = f.path().and_then(|p| p.inode().attr().ok()) {
        let _ = give_up((a.dev, a.ino), f);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Rc<OpenFile> {
        OpenFile::new(Rc::new(crate::PathOnly), 0, None)
    }

    #[test]
    fn a_holder_gives_way_or_is_made_to() {
        let (id, f) = ((1, 2), file());
        assert!(take(id, &f, 3, Kind::Write).unwrap());
        assert!(any() && conflicts(id, false) && !conflicts((1, 3), true));
        let (told, end) = break_for(id, false, 5);
        assert_eq!((told.len(), told[0].1, end), (1, 3, 5 + 45_000_000_000));
        assert!(break_for(id, false, 6).0.is_empty());
        assert_eq!(held(id, &f), Some(Kind::Read));
        assert!(!take(id, &f, 3, Kind::Read).unwrap());
        assert!(!conflicts(id, false) && conflicts(id, true));
        assert_eq!(break_for(id, true, 7).0.len(), 1);
        assert_eq!(held(id, &f), None);
        expire(id, 7);
        assert!(conflicts(id, true));
        expire(id, u64::MAX);
        assert!(!any());
        assert_eq!(give_up(id, Rc::as_ptr(&f)), Err(Errno::EAGAIN));
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let (id, f, g) = ((1, 2), file(), file());
        assert!(take(id, &f, 3, Kind::Read).unwrap());
        assert_eq!(take(id, &g, 4, Kind::Write), Err(Errno::EAGAIN));
        assert!(take(id, &g, 4, Kind::Read).unwrap());
        give_up(id, Rc::as_ptr(&f)).unwrap();
        assert!(!take(id, &g, 4, Kind::Write).unwrap());
        give_up(id, Rc::as_ptr(&g)).unwrap();
        assert!(!any());
    }
}
