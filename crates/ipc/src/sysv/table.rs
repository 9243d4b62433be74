//! The objects of one kind: by identifier, and by key.
use super::Perm;
use abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE};
use abi::{Errno, Result};
use kernel::cred::Cred;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

pub trait Object {
    fn perm(&self) -> &Perm;
    /// What it counts for where all of its kind together are limited. It never changes.
    fn weight(&self) -> u64 {
        0
    }
}

struct Place<T> {
    seq: u16,
    weight: u64,
    /// `None`: removed, and there only for those who still hold it.
    strong: Option<Rc<T>>,
    weak: Weak<T>,
}

/// Objects of one kind, by identifier: the place in the table, and a number that tells its users apart.
pub struct Table<T> {
    list: RefCell<List<T>>,
    next_seq: Cell<u16>,
    /// How many objects there may be.
    pub max: Cell<usize>,
    /// The identifier that the next object is to have, or -1.
    pub next_id: Cell<i32>,
}

struct List<T> {
    places: Vec<Option<Place<T>>>,
    /// Where the object of each key is.
    keys: HashMap<i32, usize>,
    /// Places that are taken, and what is in them weighs.
    taken: usize,
    weight: u64,
    /// Before this no place is free.
    low: usize,
    /// Places of objects that were removed, and go with those who hold them.
    doomed: Vec<usize>,
}

const INDEX_BITS: u32 = 15;
const INDEXES: u32 = (1 << INDEX_BITS) - 1;
/// No kind has more objects.
pub const OBJECTS_MAX: usize = 1 << INDEX_BITS;

impl<T: Object> List<T> {
    fn clear(&mut self, i: usize) {
        if let Some(p) = self.places.get_mut(i).and_then(Option::take) {
            self.taken -= 1;
            self.weight -= p.weight;
            self.low = self.low.min(i);
        }
    }

    /// Frees the places of removed objects that nobody holds any more.
    fn reap(&mut self) {
        let mut doomed = std::mem::take(&mut self.doomed);
        doomed.retain(|i| {
            let held = self.places[*i].as_ref().is_some_and(|p| p.weak.strong_count() > 0);
            if !held {
                self.clear(*i);
            }
            held
        });
        self.doomed = doomed;
    }

    fn place_of(&self, object: &Rc<T>) -> Option<usize> {
        let is = |p: &Option<Place<T>>| p.as_ref().is_some_and(|p| p.weak.as_ptr() == Rc::as_ptr(object));
        let by_key = self.keys.get(&object.perm().get().key).copied().filter(|i| is(&self.places[*i]));
        by_key.or_else(|| self.places.iter().position(is))
    }

    fn forget_key(&mut self, key: i32, i: usize) {
        if self.keys.get(&key) == Some(&i) {
            self.keys.remove(&key);
        }
    }
}

impl<T: Object> Table<T> {
    pub(super) fn new(max: usize) -> Self {
        let (places, keys, doomed) = (Vec::new(), HashMap::new(), Vec::new());
        let list = List { places, keys, taken: 0, weight: 0, low: 0, doomed };
        Table { list: RefCell::new(list), next_seq: Cell::new(0), max: Cell::new(max), next_id: Cell::new(-1) }
    }

    /// Every object, with its identifier, by place.
    pub fn all(&self) -> Vec<(i32, Rc<T>)> {
        let list = self.list.borrow();
        let live = list.places.iter().enumerate().filter_map(|(i, p)| {
            let p = p.as_ref()?;
            Some((id(i, p.seq), p.weak.upgrade()?))
        });
        live.collect()
    }

    /// The highest place in use; 0 if none is.
    pub fn highest(&self) -> i32 {
        self.all().last().map_or(0, |(id, _)| id & INDEXES as i32)
    }

    /// What all objects weigh together.
    pub fn weight(&self) -> u64 {
        let mut list = self.list.borrow_mut();
        list.reap();
        list.weight
    }

    /// EINVAL if there is none.
    pub fn get(&self, want: i32) -> Result<Rc<T>> {
        let i = usize::try_from(want).map_err(|_| Errno::EINVAL)? & INDEXES as usize;
        self.at(i).filter(|(found, _)| *found == want).map(|(_, o)| o).ok_or(Errno::EINVAL)
    }

    /// The object at a place.
    pub fn at(&self, index: usize) -> Option<(i32, Rc<T>)> {
        let list = self.list.borrow();
        let p = list.places.get(index)?.as_ref()?;
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
            let place = self.list.borrow().keys.get(&key).copied();
            match place.and_then(|i| self.at(i)) {
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
        let list = &mut *self.list.borrow_mut();
        list.reap();
        if list.taken >= self.max.get() {
            return Err(Errno::ENOSPC);
        }
        let wanted = u32::try_from(self.next_id.replace(-1)).ok();
        let first = wanted.map_or(list.low, |id| (id & INDEXES) as usize);
        let i = (first..).find(|i| list.places.get(*i).is_none_or(Option::is_none)).unwrap_or(first);
        if i > INDEXES as usize {
            return Err(Errno::ENOSPC);
        }
        if first <= list.low {
            list.low = i + 1;
        }
        let next = || self.next_seq.replace((self.next_seq.get() + 1) & 0x7fff);
        let seq = wanted.map_or_else(next, |id| (id >> INDEX_BITS) as u16);
        if i >= list.places.len() {
            list.places.resize_with(i + 1, || None);
        }
        object.perm().change(|p| p.seq = seq);
        let (key, weight, strong) = (object.perm().get().key, object.weight(), Rc::new(object));
        list.places[i] = Some(Place { seq, weight, weak: Rc::downgrade(&strong), strong: Some(strong) });
        list.taken += 1;
        list.weight += weight;
        if key != IPC_PRIVATE {
            list.keys.insert(key, i);
        }
        Ok(id(i, seq))
    }

    /// Gives an object up: it is there as long as others hold it, and has no key.
    pub fn doom(&self, object: &Rc<T>) {
        let list = &mut *self.list.borrow_mut();
        let Some(i) = list.place_of(object) else { return };
        list.forget_key(object.perm().get().key, i);
        object.perm().change(|p| p.key = IPC_PRIVATE);
        if let Some(p) = list.places[i].as_mut().filter(|p| p.strong.is_some()) {
            p.strong = None;
            list.doomed.push(i);
        }
    }

    /// Takes an object out, whoever holds it.
    pub(super) fn remove(&self, object: &Rc<T>) {
        let list = &mut *self.list.borrow_mut();
        if let Some(i) = list.place_of(object) {
            list.forget_key(object.perm().get().key, i);
            list.doomed.retain(|d| *d != i);
            list.clear(i);
        }
    }
}

fn id(index: usize, seq: u16) -> i32 {
    (i32::from(seq) << INDEX_BITS) | index as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Perm, u64);
    impl Object for Thing {
        fn perm(&self) -> &Perm {
            &self.0
        }
        fn weight(&self) -> u64 {
            self.1
        }
    }

    fn root() -> Cred {
        Cred::new(0, 0, &[])
    }
    fn open(t: &Table<Thing>, key: i32, flags: i32, weight: u64) -> Result<i32> {
        t.open(key, flags | 0o600, &root(), |_| Ok(()), |perm| Ok(Thing(perm, weight)))
    }

    #[test]
    fn keys_are_found_until_their_object_is_removed() {
        let t = Table::new(4);
        let a = open(&t, 7, IPC_CREAT, 3).unwrap();
        assert_eq!(open(&t, 7, 0, 0), Ok(a));
        assert_eq!(open(&t, 7, IPC_CREAT | IPC_EXCL, 0), Err(Errno::EEXIST));
        assert_eq!(open(&t, 8, 0, 0), Err(Errno::ENOENT));
        let held = t.get(a).unwrap();
        t.doom(&held);
        assert_eq!(open(&t, 7, 0, 0), Err(Errno::ENOENT));
        assert_eq!((t.get(a).is_ok(), t.weight()), (true, 3));
        let b = open(&t, 7, IPC_CREAT, 5).unwrap();
        assert_eq!((open(&t, 7, 0, 0), t.weight()), (Ok(b), 8));
        t.doom(&held);
        assert_eq!(open(&t, 7, 0, 0), Ok(b));
        drop(held);
        assert_eq!((t.get(a).err(), t.weight()), (Some(Errno::EINVAL), 5));
        t.remove(&t.get(b).unwrap());
        assert_eq!((open(&t, 7, 0, 0), t.weight(), t.all().len()), (Err(Errno::ENOENT), 0, 0));
    }

    #[test]
    fn the_lowest_free_place_is_taken() {
        let t = Table::new(5);
        let ids: Vec<i32> = (1..=5).map(|k| open(&t, k, IPC_CREAT, 1).unwrap()).collect();
        assert_eq!(open(&t, 6, IPC_CREAT, 1), Err(Errno::ENOSPC));
        for i in [3, 1] {
            t.remove(&t.get(ids[i]).unwrap());
        }
        let places: Vec<i32> = (6..=7).map(|k| open(&t, k, IPC_CREAT, 1).unwrap() & INDEXES as i32).collect();
        assert_eq!(places, [1, 3]);
        assert_eq!((t.highest(), t.weight()), (4, 5));
    }

    #[test]
    fn an_identifier_may_be_asked_for() {
        let t = Table::new(5);
        t.next_id.set((9 << INDEX_BITS) | 2);
        assert_eq!(open(&t, IPC_PRIVATE, 0, 0), Ok((9 << INDEX_BITS) | 2));
        let places: Vec<i32> = (0..3).map(|_| open(&t, IPC_PRIVATE, 0, 0).unwrap() & INDEXES as i32).collect();
        assert_eq!(places, [0, 1, 3]);
        t.next_id.set(2);
        assert_eq!(open(&t, IPC_PRIVATE, 0, 0).unwrap() & INDEXES as i32, 4);
    }
}
