//! One key: its owner, its permissions, what it holds, and how it ends.
use super::ring::{Index, Links};
use super::{BIG, Keys, Need, Quota, User};
use crate::cred::Cred;
use abi::keys::*;
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

/// The group of a key that has none.
pub const NOBODY: u32 = u32::MAX;
/// Most bytes of a key's contents, but a big one's.
const PAYLOAD: usize = 32767;
const BIG_PAYLOAD: usize = 1 << 20;
/// What the contents of a big key count, however long they are.
const BIG_COUNTS: usize = 16;
/// What a link counts for the owner of its ring.
pub(super) const LINK: usize = 4;

/// Types of keys. Rings come last, so that a ring's own are found by range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    User,
    Logon,
    BigKey,
    Keyring,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::User, Kind::Logon, Kind::BigKey, Kind::Keyring];

    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Logon => "logon",
            Kind::BigKey => "big_key",
            Kind::Keyring => "keyring",
        }
    }

    pub fn by_name(name: &[u8]) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name().as_bytes() == name)
    }

    pub fn readable(self) -> bool {
        self != Kind::Logon
    }

    pub fn updatable(self) -> bool {
        self != Kind::Keyring
    }

    /// What contents of `len` bytes count. EINVAL if they do not fit the type.
    pub(super) fn counts(self, len: usize) -> Result<usize> {
        match self {
            Kind::User | Kind::Logon if (1..=PAYLOAD).contains(&len) => Ok(len),
            Kind::BigKey if (1..=BIG_PAYLOAD).contains(&len) => Ok(BIG_COUNTS),
            Kind::Keyring if len == 0 => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    /// EINVAL: a logon key's description has a service before a colon, and none may be empty.
    fn check_description(self, desc: &[u8]) -> Result {
        let qualified = || desc.iter().position(|b| *b == b':').is_some_and(|at| at > 0);
        if desc.is_empty() || self == Kind::Logon && !qualified() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// Permissions of a new key that its maker says nothing about.
    pub(super) fn default_perm(self) -> u32 {
        let mut own = KEY_VIEW | KEY_SEARCH | KEY_LINK | KEY_SETATTR;
        if self.readable() {
            own |= KEY_READ;
        }
        // Of the types served every one is updated, or is a ring.
        own |= KEY_WRITE;
        own << KEY_POS | KEY_VIEW << KEY_USR
    }
}

pub struct Key {
    pub serial: i32,
    pub kind: Kind,
    pub desc: Rc<[u8]>,
    /// How many were made before it.
    pub(super) nth: u64,
    /// Rings that have a name are found by it in the user namespace of this number.
    pub(super) home: u64,
    /// A user's ring, or its ring for sessions.
    pub(super) of_user: bool,
    all: Weak<Keys>,
    due: Rc<Cell<i64>>,
    user: RefCell<Rc<User>>,
    owner: Cell<(u32, u32)>,
    perm: Cell<u32>,
    /// Seconds since the epoch.
    expiry: Cell<Option<i64>>,
    negative: Cell<bool>,
    revoked: Cell<bool>,
    invalid: Cell<bool>,
    /// Bytes of the quota for the contents.
    counted: Cell<usize>,
    data: RefCell<Vec<u8>>,
    pub(super) links: RefCell<Links>,
    pub(super) restricted: Cell<bool>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.serial)
    }
}

/// What a new key is to be.
pub(super) struct New<'a> {
    pub kind: Kind,
    pub desc: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    pub perm: u32,
    pub quota: Quota,
    pub of_user: bool,
}

impl Keys {
    /// A key without contents, on no ring. EINVAL EDQUOT
    pub(super) fn make(&self, who: &Cred, new: New<'_>) -> Result<Rc<Key>> {
        new.kind.check_description(new.desc)?;
        let user = self.user(new.uid);
        let size = new.desc.len() + 1;
        if new.quota == Quota::Heeded {
            user.room(1, size)?;
        }
        user.keys.set(user.keys.get() + 1);
        user.count(1, size);
        let key = Rc::new(Key {
            serial: self.free_serial(),
            kind: new.kind,
            desc: new.desc.into(),
            nth: self.made.replace(self.made.get() + 1),
            home: who.user_ns.ino,
            of_user: new.of_user,
            all: self.me.clone(),
            due: self.due.clone(),
            user: RefCell::new(user),
            owner: Cell::new((new.uid, new.gid)),
            perm: Cell::new(new.perm),
            expiry: Cell::new(None),
            negative: Cell::new(false),
            revoked: Cell::new(false),
            invalid: Cell::new(false),
            counted: Cell::new(0),
            data: RefCell::default(),
            links: RefCell::default(),
            restricted: Cell::new(false),
        });
        self.serials.borrow_mut().insert(key.serial, Rc::downgrade(&key));
        Ok(key)
    }
}

impl Key {
    pub(super) fn index(&self) -> Index {
        Index { kind: self.kind, desc: self.desc.clone() }
    }
    pub fn uid(&self) -> u32 {
        self.owner.get().0
    }
    /// [`NOBODY`]: it has none.
    pub fn gid(&self) -> u32 {
        self.owner.get().1
    }
    pub fn own(&self, uid: u32, gid: u32) {
        self.owner.set((uid, gid));
    }
    /// Whom it counts for.
    pub fn user(&self) -> Rc<User> {
        self.user.borrow().clone()
    }
    pub fn perm(&self) -> u32 {
        self.perm.get()
    }
    pub fn set_perm(&self, perm: u32) {
        self.perm.set(perm);
    }
    pub fn expiry(&self) -> Option<i64> {
        self.expiry.get()
    }
    pub fn is_negative(&self) -> bool {
        self.negative.get()
    }
    pub fn revoked(&self) -> bool {
        self.revoked.get()
    }
    pub fn invalid(&self) -> bool {
        self.invalid.get()
    }
    pub(super) fn set_invalid(&self) {
        self.invalid.set(true);
    }

    pub(super) fn expired(&self, now: i64) -> bool {
        self.expiry.get().is_some_and(|at| now >= at)
    }

    /// KEYCTL_SET_TIMEOUT, seconds from now on; 0: it never expires.
    pub fn set_timeout(&self, seconds: u32) {
        self.expire_at((seconds > 0).then(|| super::now() + i64::from(seconds)));
    }

    pub(super) fn expire_at(&self, at: Option<i64>) {
        self.expiry.set(at);
        if let (Some(at), Some(all)) = (at, self.all.upgrade()) {
            let goes = at.saturating_add(all.limits().gc_delay.get() as i64);
            self.due.set(self.due.get().min(goes));
        }
    }

    /// ENOKEY EKEYREVOKED EKEYEXPIRED
    pub fn validate(&self) -> Result {
        if self.invalid() {
            Err(Errno::ENOKEY)
        } else if self.revoked() {
            Err(Errno::EKEYREVOKED)
        } else if self.expired(super::now()) {
            Err(Errno::EKEYEXPIRED)
        } else {
            Ok(())
        }
    }

    /// EACCES unless one of the classes that `who` is in allows it.
    pub fn permission(&self, possessed: bool, who: &Cred, need: Need) -> Result {
        let perm = self.perm();
        let group = |gid| gid != NOBODY && perm >> KEY_GRP & KEY_ALL != 0 && who.in_group(gid);
        let mut granted = match self.owner.get() {
            (uid, _) if uid == who.fsuid => perm >> KEY_USR,
            (_, gid) if group(gid) => perm >> KEY_GRP,
            _ => perm,
        };
        if possessed {
            granted |= perm >> KEY_POS;
        }
        if need.bit() & !granted == 0 { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// The contents are to count `bytes`. EDQUOT, and nothing is changed.
    pub(super) fn reserve(&self, bytes: usize) -> Result {
        let (user, was) = (self.user.borrow(), self.counted.get());
        user.room(0, bytes.saturating_sub(was))?;
        user.uncount(0, was);
        user.count(0, bytes);
        self.counted.set(bytes);
        Ok(())
    }
    pub(super) fn reserved(&self) -> usize {
        self.counted.get()
    }

    /// It counts for another user. EDQUOT
    pub(super) fn count_for(&self, new: Rc<User>) -> Result {
        let size = self.desc.len() + 1 + self.counted.get();
        new.room(1, size)?;
        new.keys.set(new.keys.get() + 1);
        new.count(1, size);
        let old = self.user.replace(new);
        old.keys.set(old.keys.get() - 1);
        old.uncount(1, size);
        Ok(())
    }

    /// The contents of a key that is new. EINVAL EDQUOT ENOMEM
    pub(super) fn fill(&self, data: Vec<u8>) -> Result {
        self.reserve(self.kind.counts(data.len())?)?;
        self.keep(data)
    }

    /// Other contents, which also make it positive. EOPNOTSUPP EINVAL EDQUOT ENOMEM
    pub fn update(&self, data: Vec<u8>) -> Result {
        if !self.kind.updatable() {
            return Err(Errno::EOPNOTSUPP);
        }
        let counts = self.kind.counts(data.len())?;
        self.reserve(data.len())?;
        self.reserve(counts)?;
        self.keep(data)?;
        if self.kind != Kind::BigKey {
            self.expiry.set(None);
        }
        self.negative.set(false);
        Ok(())
    }

    fn keep(&self, data: Vec<u8>) -> Result {
        if self.kind == Kind::BigKey {
            let user = self.user.borrow();
            let left = user.limits.big.get() - self.data.borrow().len();
            if left + data.len() > BIG {
                return Err(Errno::ENOMEM);
            }
            user.limits.big.set(left + data.len());
        }
        *self.data.borrow_mut() = data;
        Ok(())
    }

    /// What it holds: of a ring the serial numbers of its keys. ENOKEY EKEYREVOKED EKEYEXPIRED
    pub fn read(&self) -> Result<Vec<u8>> {
        self.validate()?;
        if self.kind == Kind::Keyring {
            return Ok(self.links.borrow().values().flat_map(|k| k.serial.to_ne_bytes()).collect());
        }
        Ok(self.data.borrow().clone())
    }

    /// It says from now on that there is no such key, for a while.
    pub(super) fn negate(&self) {
        self.negative.set(true);
        self.expire_at(Some(super::now() + super::NEGATIVE));
    }

    /// KEYCTL_REVOKE: what it holds goes at once.
    pub fn revoke(&self) {
        if !self.revoked.replace(true) {
            self.empty();
        }
    }

    /// Gives up contents and links, and what they count.
    pub(super) fn empty(&self) {
        let none = self.keep(Vec::new()).and_then(|()| self.reserve(0));
        debug_assert!(none.is_ok(), "less always fits");
        // Not dropped while the ring is borrowed: what goes may end with it.
        let links = self.links.take();
        drop(links);
    }

    /// As /proc/keys tells of it, after the columns.
    pub fn describe(&self) -> String {
        let desc = String::from_utf8_lossy(&self.desc);
        if self.is_negative() {
            return desc.into_owned();
        }
        match (self.kind, self.links.borrow().len(), self.data.borrow().len()) {
            (Kind::Keyring, 0, _) => format!("{desc}: empty"),
            (Kind::Keyring, n, _) => format!("{desc}: {n}"),
            (Kind::BigKey, _, n) => format!("{desc}: {n} [buff]"),
            (_, _, n) => format!("{desc}: {n}"),
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.empty_iteratively();
        let user = self.user.get_mut();
        user.keys.set(user.keys.get() - 1);
        user.uncount(1, self.desc.len() + 1 + self.counted.get());
        if self.kind == Kind::BigKey {
            user.limits.big.set(user.limits.big.get() - self.data.get_mut().len());
        }
        if let Some(all) = self.all.upgrade() {
            all.serials.borrow_mut().remove(&self.serial);
        }
    }
}

impl Key {
    /// A chain of rings may be longer than the stack is deep.
    fn empty_iteratively(&mut self) {
        let mut left: Vec<Rc<Key>> = std::mem::take(self.links.get_mut()).into_values().collect();
        while let Some(k) = left.pop() {
            if let Some(mut last) = Rc::into_inner(k) {
                left.extend(std::mem::take(last.links.get_mut()).into_values());
            }
        }
    }
}
