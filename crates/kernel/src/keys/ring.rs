//! Rings: keys by type and description, links between rings, and the search through them.
use super::key::{Key, Kind, LINK};
use super::{Need, now};
use crate::cred::Cred;
use abi::{Errno, Result};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How deep rings in rings are searched, and may be when they are linked.
const DEPTH: usize = 6;

/// What a ring tells its keys apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index {
    pub kind: Kind,
    pub desc: Rc<[u8]>,
}

pub(super) type Links = BTreeMap<Index, Rc<Key>>;

/// The rings on a ring.
fn nested(links: &Links) -> impl Iterator<Item = &Rc<Key>> {
    let first = Index { kind: Kind::Keyring, desc: Rc::new([]) };
    links.range(first..).map(|(_, k)| k)
}

/// A key as somebody found it. `possessed`: on one of its own rings.
#[derive(Debug, Clone)]
pub struct Ref {
    pub key: Rc<Key>,
    pub possessed: bool,
}

impl Ref {
    pub fn permission(&self, who: &Cred, need: Need) -> Result {
        self.key.permission(self.possessed, who, need)
    }
}

/// What is searched for, and how.
#[derive(Debug, Clone)]
pub struct Query {
    pub(super) index: Index,
    /// This very key, in whatever state.
    pub(super) exact: Option<i32>,
    /// Expired keys are as if they were not there.
    pub(super) over_expired: bool,
    /// In the rings on the ring, too.
    pub(super) recursive: bool,
}

enum Look {
    Found,
    /// It would be, but for this.
    Passed(Option<Errno>),
    Another,
}

impl Query {
    pub fn new(kind: Kind, desc: &[u8]) -> Query {
        Query { index: Index { kind, desc: desc.into() }, exact: None, over_expired: false, recursive: true }
    }

    pub(super) fn exactly(key: &Key) -> Query {
        Query { index: key.index(), exact: Some(key.serial), over_expired: false, recursive: true }
    }

    fn look(&self, key: &Key, possessed: bool, who: &Cred) -> Look {
        if self.exact.is_some_and(|serial| serial != key.serial) {
            return Look::Another;
        }
        let any_state = self.exact.is_some();
        if !any_state && (key.invalid() || key.revoked()) {
            return Look::Passed(Some(Errno::EKEYREVOKED));
        }
        if !any_state && key.expired(now()) {
            return Look::Passed((!self.over_expired).then_some(Errno::EKEYEXPIRED));
        }
        if key.permission(possessed, who, Need::Search).is_err() {
            return Look::Passed(Some(Errno::EACCES));
        }
        if !any_state && key.is_negative() {
            return Look::Passed(Some(Errno::ENOKEY));
        }
        Look::Found
    }
}

/// One search: whose it is, and where it was.
struct Search<'a> {
    query: &'a Query,
    who: &'a Cred,
    possessed: bool,
    /// Rings, and how deep they were. Again, and no less deep, they have nothing new.
    seen: BTreeMap<i32, usize>,
    /// Why the last key that was passed by was.
    error: Errno,
}

impl Search<'_> {
    fn below(&mut self, ring: &Key, depth: usize) -> Option<Rc<Key>> {
        if ring.invalid() || ring.revoked() || self.seen.get(&ring.serial).is_some_and(|d| *d <= depth) {
            return None;
        }
        self.seen.insert(ring.serial, depth);
        let links = ring.links.borrow();
        if let Some(key) = links.get(&self.query.index) {
            match self.query.look(key, self.possessed, self.who) {
                Look::Found => return Some(key.clone()),
                Look::Passed(Some(e)) => self.error = e,
                Look::Passed(None) | Look::Another => {}
            }
        }
        if !self.query.recursive || depth == DEPTH {
            return None;
        }
        let may = |k: &&Rc<Key>| k.permission(self.possessed, self.who, Need::Search).is_ok();
        let open: Vec<_> = nested(&links).filter(may).collect();
        open.into_iter().find_map(|k| self.below(k, depth + 1))
    }
}

impl Ref {
    /// Looks for a key on this ring. EAGAIN: it is not there; ENOTDIR EACCES, and what is wrong with the one that is.
    pub fn search(&self, who: &Cred, query: &Query) -> Result<Ref> {
        let ring = &self.key;
        if ring.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        self.permission(who, Need::Search)?;
        if ring.index() == query.index {
            match query.look(ring, self.possessed, who) {
                Look::Found => return Ok(self.clone()),
                Look::Passed(e) => return Err(e.unwrap_or(Errno::EAGAIN)),
                Look::Another => {}
            }
        }
        let (possessed, seen) = (self.possessed, BTreeMap::new());
        let mut search = Search { query, who, possessed, seen, error: Errno::EAGAIN };
        let found = search.below(ring, 0);
        found.map(|key| Ref { key, possessed }).ok_or(search.error)
    }
}

impl Key {
    /// Would `ring` hold itself if it held this? EDEADLK, and ELOOP where that goes too deep to tell.
    fn check_cycle(&self, ring: &Key) -> Result {
        let mut deepest = BTreeMap::new();
        self.leads_to(ring, 0, &mut deepest)
    }

    fn leads_to(&self, ring: &Key, depth: usize, deepest: &mut BTreeMap<i32, usize>) -> Result {
        if self.serial == ring.serial {
            return Err(Errno::EDEADLK);
        }
        if self.invalid() || self.revoked() || deepest.get(&self.serial).is_some_and(|d| *d >= depth) {
            return Ok(());
        }
        deepest.insert(self.serial, depth);
        let links = self.links.borrow();
        if links.get(&ring.index()).is_some_and(|k| k.serial == ring.serial) {
            return Err(Errno::EDEADLK);
        }
        if depth == DEPTH && nested(&links).next().is_some() {
            return Err(Errno::ELOOP);
        }
        nested(&links).try_for_each(|k| k.leads_to(ring, depth + 1, deepest))
    }

    /// Room for a link. True: it is a new one, and counts. ENOTDIR EKEYREVOKED EDQUOT
    pub(super) fn begin_link(&self, index: &Index) -> Result<bool> {
        if self.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        if self.revoked() {
            return Err(Errno::EKEYREVOKED);
        }
        let new = !self.links.borrow().contains_key(index);
        if new {
            self.reserve(self.reserved() + LINK)?;
        }
        Ok(new)
    }

    /// The link is not made.
    pub(super) fn cancel_link(&self, new: bool) {
        if new {
            self.forget_links(1);
        }
    }

    fn forget_links(&self, n: usize) {
        let less = self.reserve(self.reserved().saturating_sub(n * LINK));
        debug_assert!(less.is_ok(), "less always fits");
    }

    /// EPERM: KEYCTL_RESTRICT_KEYRING.
    pub(super) fn admits(&self) -> Result {
        if self.restricted.get() { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// After [`Key::begin_link`]; a key that was in the place goes.
    pub(super) fn put(&self, key: &Rc<Key>) {
        let old = self.links.borrow_mut().insert(key.index(), key.clone());
        drop(old);
    }

    /// KEYCTL_LINK. ENOTDIR EKEYREVOKED EDQUOT EPERM EDEADLK ELOOP
    pub fn link(&self, key: &Rc<Key>) -> Result {
        self.link_unless(key, false)
    }

    fn link_unless(&self, key: &Rc<Key>, there: bool) -> Result {
        let new = self.begin_link(&key.index())?;
        let held = if there && !new { Err(Errno::EEXIST) } else { Ok(()) };
        let fits = held.and_then(|()| self.admits()).and_then(|()| match key.kind {
            Kind::Keyring => key.check_cycle(self),
            _ => Ok(()),
        });
        fits.inspect_err(|_| self.cancel_link(new))?;
        self.put(key);
        Ok(())
    }

    /// KEYCTL_UNLINK: what has the key's type and description goes. ENOTDIR ENOENT
    pub fn unlink(&self, key: &Key) -> Result {
        if self.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        let gone = self.links.borrow_mut().remove(&key.index()).ok_or(Errno::ENOENT)?;
        self.forget_links(1);
        drop(gone);
        Ok(())
    }

    /// KEYCTL_MOVE from this ring. `exclusive`: EEXIST where it would displace another. As unlink and link.
    pub fn move_to(&self, key: &Rc<Key>, to: &Key, exclusive: bool) -> Result {
        if self.serial == to.serial {
            return Ok(());
        }
        if self.kind != Kind::Keyring || to.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        if !self.links.borrow().contains_key(&key.index()) {
            return Err(Errno::ENOENT);
        }
        to.link_unless(key, exclusive)?;
        self.unlink(key)
    }

    /// KEYCTL_CLEAR. ENOTDIR
    pub fn clear(&self) -> Result {
        if self.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        self.empty();
        Ok(())
    }

    /// KEYCTL_RESTRICT_KEYRING without a type: nothing more is linked. ENOTDIR EEXIST
    pub fn restrict(&self) -> Result {
        if self.kind != Kind::Keyring {
            return Err(Errno::ENOTDIR);
        }
        if self.restricted.replace(true) { Err(Errno::EEXIST) } else { Ok(()) }
    }

    /// Keeps the keys that are to stay.
    pub(super) fn retain(&self, stays: impl Fn(&Key) -> bool) {
        let gone: Vec<_> = self.links.borrow_mut().extract_if(.., |_, k| !stays(k)).collect();
        self.forget_links(gone.len());
    }
}
