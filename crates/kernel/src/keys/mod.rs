//! Keys and the rings that hold them: keyrings(7). Every sandbox has its own.
//!
//! A key is there as long as a ring, a thread's credentials or a user namespace holds it.
mod key;
mod ring;
#[cfg(test)]
mod tests;
mod whose;

pub use key::{Key, Kind, NOBODY};
pub use ring::{Query, Ref};
pub use whose::Rings;

use abi::keys::*;
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// Seconds that an answer of request_key(2) which says there is no key stays.
const NEGATIVE: i64 = 60;
/// Bytes that the contents of all big keys may take: their users' quotas hardly count them.
const BIG: usize = 64 << 20;

/// What a key is looked up for. The first six are permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    View,
    Read,
    Write,
    Search,
    Link,
    SetAttr,
    /// To be taken off a ring, which is all that must allow it.
    Unlink,
    /// The caller looks itself whether it may read.
    Deferred,
}

impl Need {
    fn bit(self) -> u32 {
        match self {
            Need::View => KEY_VIEW,
            Need::Read => KEY_READ,
            Need::Write => KEY_WRITE,
            Need::Search => KEY_SEARCH,
            Need::Link => KEY_LINK,
            Need::SetAttr => KEY_SETATTR,
            Need::Unlink | Need::Deferred => 0,
        }
    }

    /// Will a key do that says there is none?
    fn negative_too(self) -> bool {
        matches!(self, Need::View | Need::SetAttr | Need::Unlink)
    }
}

/// /proc/sys/kernel/keys: what a user's keys may come to, and how long dead ones stay.
#[derive(Debug)]
pub struct Limits {
    max_keys: Cell<usize>,
    max_bytes: Cell<usize>,
    root_max_keys: Cell<usize>,
    root_max_bytes: Cell<usize>,
    /// Seconds.
    gc_delay: Cell<usize>,
    big: Cell<usize>,
}

impl Limits {
    fn cell(&self, name: &str) -> Option<&Cell<usize>> {
        Some(match name {
            "gc_delay" => &self.gc_delay,
            "maxbytes" => &self.max_bytes,
            "maxkeys" => &self.max_keys,
            "root_maxbytes" => &self.root_max_bytes,
            "root_maxkeys" => &self.root_max_keys,
            _ => return None,
        })
    }

    /// One of them, by the name of its file.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.cell(name).map(Cell::get)
    }

    /// Most keys and bytes of a user.
    pub fn of(&self, uid: u32) -> (usize, usize) {
        if uid == 0 {
            (self.root_max_keys.get(), self.root_max_bytes.get())
        } else {
            (self.max_keys.get(), self.max_bytes.get())
        }
    }
}

/// What a user's keys come to.
#[derive(Debug)]
pub struct User {
    pub uid: u32,
    /// All keys, those that count, and bytes of the latter.
    pub keys: Cell<usize>,
    pub counted: Cell<usize>,
    pub bytes: Cell<usize>,
    limits: Rc<Limits>,
}

impl User {
    /// EDQUOT if so much more is too much.
    fn room(&self, keys: usize, bytes: usize) -> Result {
        let (max_keys, max_bytes) = self.limits.of(self.uid);
        let fits = |now: usize, more: usize, max: usize| more == 0 || now + more <= max;
        let room = fits(self.counted.get(), keys, max_keys) && fits(self.bytes.get(), bytes, max_bytes);
        if room { Ok(()) } else { Err(Errno::EDQUOT) }
    }

    fn count(&self, keys: usize, bytes: usize) {
        self.counted.set(self.counted.get() + keys);
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn uncount(&self, keys: usize, bytes: usize) {
        self.counted.set(self.counted.get() - keys);
        self.bytes.set(self.bytes.get() - bytes);
    }
}

/// Does a new key heed its owner's quota? It counts anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quota {
    Heeded,
    Overrun,
}

/// All keys of the sandbox.
pub struct Keys {
    me: Weak<Keys>,
    limits: Rc<Limits>,
    serials: RefCell<BTreeMap<i32, Weak<Key>>>,
    users: RefCell<BTreeMap<u32, Weak<User>>>,
    made: Cell<u64>,
    /// When a key that has expired is to go next, seconds of the real-time clock.
    due: Rc<Cell<i64>>,
    /// Linux counts root from the start.
    _root: Rc<User>,
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    (host::time::realtime_ns() / 1_000_000_000) as i64
}

impl Keys {
    pub fn new() -> Rc<Keys> {
        let limits = Rc::new(Limits {
            max_keys: Cell::new(200),
            max_bytes: Cell::new(20_000),
            root_max_keys: Cell::new(1_000_000),
            root_max_bytes: Cell::new(25_000_000),
            gc_delay: Cell::new(300),
            big: Cell::new(0),
        });
        let root = new_user(0, &limits);
        Rc::new_cyclic(|me| Keys {
            me: me.clone(),
            limits,
            serials: RefCell::default(),
            users: RefCell::new(BTreeMap::from([(0, Rc::downgrade(&root))])),
            made: Cell::new(0),
            due: Rc::new(Cell::new(i64::MAX)),
            _root: root,
        })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sets one of the limits, by the name of its file.
    pub fn set_limit(&self, name: &str, value: usize) -> Result {
        self.limits.cell(name).ok_or(Errno::ENOENT)?.set(value);
        self.due.set(0);
        Ok(())
    }

    /// Every key, by serial number.
    pub fn all(&self) -> Vec<Rc<Key>> {
        self.serials.borrow().values().filter_map(Weak::upgrade).collect()
    }

    /// Every user who has keys, and root, by number.
    pub fn users(&self) -> Vec<Rc<User>> {
        self.users.borrow().values().filter_map(Weak::upgrade).collect()
    }

    /// ENOKEY if there is none.
    fn by_serial(&self, serial: i32) -> Result<Rc<Key>> {
        self.serials.borrow().get(&serial).and_then(Weak::upgrade).ok_or(Errno::ENOKEY)
    }

    fn user(&self, uid: u32) -> Rc<User> {
        let mut users = self.users.borrow_mut();
        users.get(&uid).and_then(Weak::upgrade).unwrap_or_else(|| {
            users.retain(|_, u| u.strong_count() > 0);
            let user = new_user(uid, &self.limits);
            users.insert(uid, Rc::downgrade(&user));
            user
        })
    }

    fn free_serial(&self) -> i32 {
        let serials = self.serials.borrow();
        loop {
            let n = (host::stub::random_u64() >> 33) as i32;
            if n > 2 && !serials.contains_key(&n) {
                return n;
            }
        }
    }

    /// KEYCTL_CHOWN: who owns a key, and whose quota it counts for. EDQUOT
    pub fn give(&self, key: &Key, uid: u32) -> Result {
        let user = self.user(uid);
        key.count_for(user)?;
        key.own(uid, key.gid());
        Ok(())
    }

    /// Takes the key off every ring, and makes it none for whoever still holds it.
    pub fn invalidate(&self, key: &Key) {
        key.set_invalid();
        self.collect(now());
    }

    /// Takes off their rings the keys that expired long enough ago.
    pub fn sweep(&self) {
        let now = now();
        if now >= self.due.get() {
            self.collect(now);
        }
    }

    fn collect(&self, now: i64) {
        let delay = self.limits.gc_delay.get() as i64;
        let all = self.all();
        for ring in all.iter().filter(|k| k.kind == Kind::Keyring) {
            ring.retain(|k| !k.invalid() && k.expiry().is_none_or(|at| at.saturating_add(delay) > now));
        }
        let later = |k: &Rc<Key>| k.expiry().map(|at| at.saturating_add(delay)).filter(|at| *at > now);
        self.due.set(all.iter().filter_map(later).min().unwrap_or(i64::MAX));
    }
}

fn new_user(uid: u32, limits: &Rc<Limits>) -> Rc<User> {
    let zero = || Cell::new(0);
    Rc::new(User { uid, keys: zero(), counted: zero(), bytes: zero(), limits: limits.clone() })
}
