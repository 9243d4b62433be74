//! Semaphore sets: semget(2), and what is undone when a process ends (SEM_UNDO).
use super::{Object, Perm, Sysv, now};
use abi::ipc::{IPC_NOWAIT, SEM_UNDO, SEMVMX, Sembuf};
use abi::{Errno, Result};
use kernel::cred::Cred;
use kernel::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// Semaphores in all sets together: what the kernel is ready to keep.
const SEMAPHORES: usize = 1 << 24;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sem {
    pub val: u16,
    pub pid: i32,
}

/// What a call that waits is held up by: the semaphore, and whether it must become zero.
type Block = (u16, bool);

pub struct SemSet {
    perm: Perm,
    sems: RefCell<Vec<Sem>>,
    pub otime: Cell<i64>,
    pub ctime: Cell<i64>,
    removed: Cell<bool>,
    /// By list and semaphore: what is added when the list's processes have ended.
    undo: RefCell<HashMap<(u64, u16), i32>>,
    waiting: RefCell<HashMap<u64, Block>>,
    next_waiter: Cell<u64>,
    /// Woken by every change.
    pub changed: WaitQueue,
}

impl Object for SemSet {
    fn perm(&self) -> &Perm {
        &self.perm
    }
    /// Its semaphores.
    fn weight(&self) -> u64 {
        self.len() as u64
    }
}

/// A call that may wait, while it does.
pub struct Waiter<'a> {
    set: &'a SemSet,
    id: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.set.waiting.borrow_mut().remove(&self.id);
    }
}

impl SemSet {
    fn new(perm: Perm, n: usize) -> SemSet {
        SemSet {
            perm,
            sems: RefCell::new(vec![Sem::default(); n]),
            otime: Cell::new(0),
            ctime: Cell::new(now()),
            removed: Cell::new(false),
            undo: RefCell::default(),
            waiting: RefCell::default(),
            next_waiter: Cell::new(0),
            changed: WaitQueue::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.sems.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.sems.borrow().is_empty()
    }

    /// EINVAL: no such semaphore.
    pub fn sem(&self, num: i32) -> Result<Sem> {
        let i = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
        self.sems.borrow().get(i).copied().ok_or(Errno::EINVAL)
    }

    pub fn values(&self) -> Vec<u16> {
        self.sems.borrow().iter().map(|s| s.val).collect()
    }

    /// How many wait for the semaphore to become zero (`zero`), or to grow.
    pub fn waiters(&self, num: i32, zero: bool) -> usize {
        self.waiting.borrow().values().filter(|w| i32::from(w.0) == num && w.1 == zero).count()
    }

    pub fn waiter(&self) -> Waiter<'_> {
        Waiter { set: self, id: self.next_waiter.replace(self.next_waiter.get() + 1) }
    }

    /// Does all of the operations, or none. `None`: they must wait. Errors: EAGAIN (they must not), ERANGE, EIDRM.
    pub fn attempt(&self, ops: &[Sembuf], undo: Option<&UndoList>, pid: i32, w: &Waiter<'_>) -> Option<Result> {
        if self.removed.get() {
            return Some(Err(Errno::EIDRM));
        }
        let mut vals = self.values();
        for o in ops {
            let val = i32::from(vals[o.num as usize]);
            let new = val + i32::from(o.op);
            if (o.op == 0 && val != 0) || new < 0 {
                if i32::from(o.flags) & IPC_NOWAIT != 0 {
                    return Some(Err(Errno::EAGAIN));
                }
                self.waiting.borrow_mut().insert(w.id, (o.num, o.op == 0));
                return None;
            }
            if new > SEMVMX {
                return Some(Err(Errno::ERANGE));
            }
            vals[o.num as usize] = new as u16;
        }
        if let Some(list) = undo
            && let Err(e) = self.note(ops, list)
        {
            return Some(Err(e));
        }
        let mut sems = self.sems.borrow_mut();
        for o in ops {
            sems[o.num as usize] = Sem { val: vals[o.num as usize], pid };
        }
        drop(sems);
        self.otime.set(now());
        if ops.iter().any(|o| o.op != 0) {
            self.changed.wake();
        }
        Some(Ok(()))
    }

    /// Keeps the opposite of the operations that are to be undone. ERANGE: it grows too large.
    fn note(&self, ops: &[Sembuf], list: &UndoList) -> Result {
        let mut undo = self.undo.borrow_mut();
        let mut new: HashMap<u16, i32> = HashMap::new();
        for o in ops.iter().filter(|o| o.flags & SEM_UNDO != 0 && o.op != 0) {
            let adj = new.entry(o.num).or_insert_with(|| undo.get(&(list.id, o.num)).copied().unwrap_or(0));
            *adj -= i32::from(o.op);
            if !(-SEMVMX - 1..=SEMVMX).contains(adj) {
                return Err(Errno::ERANGE);
            }
        }
        for (num, adj) in new {
            undo.insert((list.id, num), adj);
        }
        Ok(())
    }

    /// SETVAL and SETALL: nothing is left to undo.
    pub fn set(&self, first: usize, values: &[u16], pid: i32) {
        let range = first..first + values.len();
        for (s, val) in self.sems.borrow_mut()[range.clone()].iter_mut().zip(values) {
            *s = Sem { val: *val, pid };
        }
        self.undo.borrow_mut().retain(|(_, num), _| !range.contains(&(*num as usize)));
        self.ctime.set(now());
        self.changed.wake();
    }

    /// The last process of an undo list ended.
    fn undo(&self, list: u64, pid: i32) {
        let mut undo = self.undo.borrow_mut();
        let mut sems = self.sems.borrow_mut();
        let mut any = false;
        undo.retain(|(id, num), adj| {
            if *id != list {
                return true;
            }
            let s = &mut sems[*num as usize];
            *s = Sem { val: (i32::from(s.val) + *adj).clamp(0, SEMVMX) as u16, pid };
            any = true;
            false
        });
        drop((undo, sems));
        if any {
            self.otime.set(now());
            self.changed.wake();
        }
    }
}

/// What the threads that share it (CLONE_SYSVSEM) have to undo. It is done when the last lets go.
pub struct UndoList {
    id: u64,
    sets: RefCell<Vec<Weak<SemSet>>>,
    pid: Cell<i32>,
}

thread_local! {
    static NEXT_LIST: Cell<u64> = const { Cell::new(1) };
}

impl UndoList {
    pub fn new() -> Rc<UndoList> {
        let id = NEXT_LIST.replace(NEXT_LIST.get() + 1);
        Rc::new(UndoList { id, sets: RefCell::default(), pid: Cell::new(0) })
    }

    /// Operations on this set may be kept.
    pub fn covers(&self, set: &Rc<SemSet>) {
        let mut sets = self.sets.borrow_mut();
        if !sets.iter().any(|s| s.as_ptr() == Rc::as_ptr(set)) {
            sets.retain(|s| s.strong_count() > 0);
            sets.push(Rc::downgrade(set));
        }
    }

    /// A thread of process `pid` lets go.
    pub fn leave(self: Rc<UndoList>, pid: i32) {
        self.pid.set(pid);
    }
}

impl Drop for UndoList {
    fn drop(&mut self) {
        for s in self.sets.borrow().iter().filter_map(Weak::upgrade) {
            s.undo(self.id, self.pid.get());
        }
    }
}

impl Sysv {
    /// semget(2).
    pub fn semaphores(&self, key: i32, n: i32, flags: i32, cred: &Cred) -> Result<i32> {
        let n = usize::try_from(n).ok().filter(|n| *n <= self.limits.semmsl.get()).ok_or(Errno::EINVAL)?;
        let fits = |s: &SemSet| if s.len() < n { Err(Errno::EINVAL) } else { Ok(()) };
        self.sems.open(key, flags, cred, fits, |perm| {
            if n == 0 {
                return Err(Errno::EINVAL);
            }
            if self.sems.weight() as usize + n > SEMAPHORES.min(self.limits.semmns.get()) {
                Err(Errno::ENOSPC)
            } else {
                Ok(SemSet::new(perm, n))
            }
        })
    }

    /// IPC_RMID: who waits learns of it.
    pub fn remove_semaphores(&self, s: &Rc<SemSet>) {
        s.removed.set(true);
        self.sems.remove(s);
        s.changed.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize) -> Rc<SemSet> {
        Rc::new(SemSet::new(Perm::new(0, 0o600, &Cred::new(0, 0, &[])), n))
    }
    fn op(num: u16, op: i16, flags: i32) -> Sembuf {
        Sembuf { num, op, flags: flags as i16 }
    }

    #[test]
    fn all_operations_or_none() {
        let s = set(2);
        let w = s.waiter();
        assert_eq!(s.attempt(&[op(0, 2, 0), op(1, -1, 0)], None, 5, &w), None);
        assert_eq!((s.values(), s.waiters(1, false), s.waiters(1, true)), (vec![0, 0], 1, 0));
        assert_eq!(s.attempt(&[op(0, 2, 0), op(0, 0, IPC_NOWAIT)], None, 5, &w), Some(Err(Errno::EAGAIN)));
        assert_eq!(s.attempt(&[op(0, 2, 0), op(0, -1, 0), op(1, 0, 0)], None, 5, &w), Some(Ok(())));
        assert_eq!((s.values(), s.sem(0).unwrap().pid), (vec![1, 0], 5));
        assert_eq!(s.attempt(&[op(0, 32767, 0)], None, 5, &w), Some(Err(Errno::ERANGE)));
        drop(w);
        assert_eq!(s.waiters(1, false), 0);
    }

    #[test]
    fn the_end_of_a_process_undoes_what_it_did() {
        let s = set(2);
        let w = s.waiter();
        let (list, other) = (UndoList::new(), UndoList::new());
        for l in [&list, &other] {
            l.covers(&s);
        }
        let undo = SEM_UNDO as i32;
        s.set(0, &[10, 10], 1);
        s.attempt(&[op(0, -3, undo), op(1, 4, undo), op(0, -1, 0)], Some(&list), 2, &w);
        s.attempt(&[op(0, 5, undo)], Some(&other), 3, &w);
        assert_eq!(s.values(), [11, 14]);
        // Two threads share the list: the first to go undoes nothing.
        let shared = list.clone();
        shared.leave(7);
        assert_eq!(s.values(), [11, 14]);
        list.leave(7);
        assert_eq!((s.values(), s.sem(1).unwrap().pid), (vec![14, 10], 7));
        // A value that was set has no past; and none falls below zero.
        s.set(0, &[2], 1);
        s.attempt(&[op(1, 5, undo)], Some(&other), 3, &w);
        s.attempt(&[op(1, -12, 0)], None, 3, &w);
        other.leave(8);
        assert_eq!(s.values(), [2, 0]);
    }

    #[test]
    fn what_is_to_be_undone_has_bounds() {
        let s = set(1);
        let w = s.waiter();
        let list = UndoList::new();
        list.covers(&s);
        for _ in 0..2 {
            s.attempt(&[op(0, 16384, SEM_UNDO as i32)], Some(&list), 1, &w);
            s.attempt(&[op(0, -16384, 0)], None, 1, &w);
        }
        assert_eq!(s.attempt(&[op(0, 16384, SEM_UNDO as i32)], Some(&list), 1, &w), Some(Err(Errno::ERANGE)));
        assert_eq!(s.values(), [0]);
    }
}
