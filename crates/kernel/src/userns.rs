//! User namespaces: user_namespaces(7). Ids inside the kernel are those of the first namespace; the others' are
//! translated where calls take and give them.
use crate::keys::Key;
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What an id that has no name in a namespace is shown as.
pub const OVERFLOW_ID: u32 = 65534;
/// How deep namespaces may nest.
const DEPTH: u32 = 32;
/// Lines of a map.
const EXTENTS: usize = 340;

/// `count` ids from `first` on are the kernel's from `kernel` on. `outer`: what the writer of the map called them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub first: u32,
    pub outer: u32,
    pub kernel: u32,
    pub count: u32,
}

/// Ids of users, or of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    User,
    Group,
}

#[derive(Debug)]
pub struct UserNs {
    pub ino: u64,
    pub parent: Option<Rc<UserNs>>,
    /// Effective ids of who made it.
    pub owner: u32,
    pub group: u32,
    level: u32,
    maps: [RefCell<Vec<Extent>>; 2],
    pub setgroups: Cell<bool>,
    /// Its maker could give capabilities to files.
    pub setfcap: bool,
    /// The ring that holds those of its users, once there is one.
    pub keys: RefCell<Option<Rc<Key>>>,
}

impl PartialEq for UserNs {
    fn eq(&self, o: &UserNs) -> bool {
        std::ptr::eq(self, o)
    }
}
impl Eq for UserNs {}

/// Linux's numbers of the first namespaces.
pub const FIRST_IPC_INO: u64 = 0xefff_ffff;
pub const FIRST_UTS_INO: u64 = 0xefff_fffe;
pub const FIRST_USER_INO: u64 = 0xefff_fffd;
pub const FIRST_PID_INO: u64 = 0xefff_fffc;
pub const FIRST_CGROUP_INO: u64 = 0xefff_fffb;
pub const FIRST_TIME_INO: u64 = 0xefff_fffa;
pub const FIRST_NET_INO: u64 = 0xefff_fff9;
pub const FIRST_MOUNT_INO: u64 = 0xefff_fff8;

thread_local! {
    static FIRST: Rc<UserNs> = Rc::new(UserNs {
        ino: FIRST_USER_INO,
        parent: None,
        owner: 0,
        group: 0,
        level: 0,
        maps: Default::default(),
        setgroups: Cell::new(true),
        setfcap: true,
        keys: RefCell::default(),
    });
    static NEXT_INO: Cell<u64> = const { Cell::new(0xf000_0000) };
}

/// The inode number of a new namespace of any kind.
pub fn new_ino() -> u64 {
    NEXT_INO.replace(NEXT_INO.get() + 1)
}

impl UserNs {
    /// The sandbox's own.
    pub fn first() -> Rc<UserNs> {
        FIRST.with(Rc::clone)
    }

    /// A namespace below `parent`, its ids not mapped yet. ENOSPC if it were too deep.
    pub fn below(parent: &Rc<UserNs>, owner: u32, group: u32, setfcap: bool) -> Result<Rc<UserNs>> {
        if parent.level >= DEPTH {
            return Err(Errno::ENOSPC);
        }
        Ok(Rc::new(UserNs {
            ino: new_ino(),
            parent: Some(parent.clone()),
            owner,
            group,
            level: parent.level + 1,
            maps: Default::default(),
            setgroups: Cell::new(parent.setgroups.get()),
            setfcap,
            keys: RefCell::default(),
        }))
    }

    pub fn is_first(&self) -> bool {
        self.parent.is_none()
    }

    pub fn level(&self) -> u32 {
        self.level
    }

    /// Is it `other` or below it?
    pub fn is_within(&self, other: &UserNs) -> bool {
        self == other || self.parent.as_ref().is_some_and(|p| p.is_within(other))
    }

    pub fn extents(&self, kind: Kind) -> Vec<Extent> {
        self.maps[kind as usize].borrow().clone()
    }

    /// The kernel's number of an id of this namespace.
    pub fn inward(&self, kind: Kind, id: u32) -> Option<u32> {
        if self.is_first() {
            return (id != u32::MAX).then_some(id);
        }
        let maps = self.maps[kind as usize].borrow();
        maps.iter().find(|e| id >= e.first && id - e.first < e.count).map(|e| e.kernel + (id - e.first))
    }

    /// What this namespace calls an id of the kernel's.
    pub fn outward(&self, kind: Kind, id: u32) -> Option<u32> {
        if self.is_first() {
            return Some(id);
        }
        let maps = self.maps[kind as usize].borrow();
        maps.iter().find(|e| id >= e.kernel && id - e.kernel < e.count).map(|e| e.first + (id - e.kernel))
    }

    pub fn user(&self, id: u32) -> Option<u32> {
        self.inward(Kind::User, id)
    }
    pub fn group(&self, id: u32) -> Option<u32> {
        self.inward(Kind::Group, id)
    }
    pub fn show_user(&self, id: u32) -> u32 {
        self.outward(Kind::User, id).unwrap_or(OVERFLOW_ID)
    }
    pub fn show_group(&self, id: u32) -> u32 {
        self.outward(Kind::Group, id).unwrap_or(OVERFLOW_ID)
    }

    /// setgroups(2): only once group ids are mapped, and if it was not denied before.
    pub fn may_set_groups(&self) -> bool {
        self.is_first() || (self.setgroups.get() && !self.maps[Kind::Group as usize].borrow().is_empty())
    }

    /// Do both ids of a file have a name here?
    pub fn maps(&self, uid: u32, gid: u32) -> bool {
        self.is_first() || (self.outward(Kind::User, uid).is_some() && self.outward(Kind::Group, gid).is_some())
    }

    /// What a map's text says, as /proc/PID/uid_map takes it. EINVAL if it is none.
    pub fn parse(text: &str) -> Result<Vec<Extent>> {
        let mut out: Vec<Extent> = Vec::new();
        for line in text.lines() {
            let n: Vec<u32> =
                line.split_ascii_whitespace().map(|w| w.parse().map_err(|_| Errno::EINVAL)).collect::<Result<_>>()?;
            let [first, outer, count] = n[..] else { return Err(Errno::EINVAL) };
            let fits = |at: u32| at != u32::MAX && at.checked_add(count).is_some();
            let apart = |a: u32, b: u32, n: u32| a >= b.saturating_add(n) || b >= a.saturating_add(count);
            let free = out.iter().all(|e| apart(first, e.first, e.count) && apart(outer, e.outer, e.count));
            if count == 0 || !fits(first) || !fits(outer) || !free || out.len() == EXTENTS {
                return Err(Errno::EINVAL);
            }
            out.push(Extent { first, outer, kernel: 0, count });
        }
        if out.is_empty() { Err(Errno::EINVAL) } else { Ok(out) }
    }

    /// Sets a map, once. EPERM if it is set, or names ids that the namespace above does not have.
    pub fn set_map(&self, kind: Kind, mut extents: Vec<Extent>) -> Result {
        let parent = self.parent.as_ref().ok_or(Errno::EPERM)?;
        if !self.maps[kind as usize].borrow().is_empty() {
            return Err(Errno::EPERM);
        }
        for e in &mut extents {
            let last = parent.inward(kind, e.outer + (e.count - 1)).ok_or(Errno::EPERM)?;
            e.kernel = parent.inward(kind, e.outer).ok_or(Errno::EPERM)?;
            if last.checked_sub(e.kernel) != Some(e.count - 1) {
                return Err(Errno::EPERM);
            }
        }
        self.maps[kind as usize].replace(extents);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_in_and_out() {
        let first = UserNs::first();
        let ns = UserNs::below(&first, 1000, 1000, false).unwrap();
        assert_eq!((ns.user(0), ns.show_user(1000)), (None, OVERFLOW_ID));
        ns.set_map(Kind::User, UserNs::parse("0 1000 1\n1 5000 10\n").unwrap()).unwrap();
        assert_eq!((ns.user(0), ns.user(10), ns.user(11)), (Some(1000), Some(5009), None));
        assert_eq!((ns.show_user(1000), ns.show_user(5003)), (0, 4));
        assert_eq!(ns.set_map(Kind::User, UserNs::parse("0 0 1").unwrap()), Err(Errno::EPERM));
        let inner = UserNs::below(&ns, 1000, 1000, false).unwrap();
        assert_eq!(inner.set_map(Kind::User, UserNs::parse("7 11 1").unwrap()), Err(Errno::EPERM));
        inner.set_map(Kind::User, UserNs::parse("7 1 2").unwrap()).unwrap();
        assert_eq!(inner.user(8), Some(5001));
    }

    #[test]
    fn a_map_is_refused() {
        for text in ["", "0 0", "0 0 0", "0 0 1 1", "a 0 1", "0 4294967295 1", "0 0 4294967295\n5 5 1", "0 9 1\n1 9 1"]
        {
            assert_eq!(UserNs::parse(text), Err(Errno::EINVAL), "{text}");
        }
    }
}
