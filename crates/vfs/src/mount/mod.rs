//! Mounts, and the namespaces they are in: mount_namespaces(7).
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use crate::{Dentry, Inode, Path, StatFs, names};
use abi::{Errno, Result};
use kernel::userns::UserNs;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
pub use table::{MOUNTS_MAX, MountTable};
pub use tree::{Tree, enter, is_below};

/// How a mount restricts what is below it: bits of [`Mount::flags`].
pub const READ_ONLY: u32 = 1;
pub const NO_SUID: u32 = 2;
pub const NO_DEV: u32 = 4;
pub const NO_EXEC: u32 = 8;
pub const NO_SYMFOLLOW: u32 = 16;
pub const NO_ATIME: u32 = 32;
pub const NO_DIR_ATIME: u32 = 64;
pub const RELATIME: u32 = 128;
const ATIME: u32 = NO_ATIME | NO_DIR_ATIME | RELATIME;

/// What holds for a whole file system: bits of [`Super::flags`], as mount(2) and statmount(2) have them.
pub const SB_RDONLY: u32 = 1;
pub const SB_SYNCHRONOUS: u32 = 16;
pub const SB_MANDLOCK: u32 = 64;
pub const SB_DIRSYNC: u32 = 128;
pub const SB_LAZYTIME: u32 = 1 << 25;

/// No mount has a unique id of this number or below.
pub const UNIQUE_ID_OFFSET: u64 = 1 << 31;

/// What whoever has fewer rights than the mount's maker may not take away.
const LOCKABLE: u32 = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC;

/// A file system that stands somewhere, or several times.
pub struct Super {
    pub root: Rc<Dentry>,
    /// As /proc/mounts shows it.
    pub kind: String,
    flags: Cell<u32>,
    /// Its own options, as /proc/mounts shows them after `rw`: each begins with a comma.
    pub options: RefCell<String>,
    /// Where its root is in what it was taken from, as mountinfo shows it; empty: it is that one's root.
    top: RefCell<String>,
    pub user_ns: Rc<UserNs>,
}

/// A mounted file system, or a part of one.
pub struct Mount {
    pub id: i32,
    /// As statx(2) tells with STATX_MNT_ID_UNIQUE: never that of another.
    pub unique: u64,
    pub sb: Rc<Super>,
    pub root: Rc<Dentry>,
    /// As /proc/mounts shows it.
    pub source: String,
    flags: Cell<u32>,
    /// Flags that may not be changed, and whether it may not be taken away: it was mounted with more rights.
    locked_flags: Cell<u32>,
    locked: Cell<bool>,
    /// Where it stands. `None`: the root of its namespace, or it is in none.
    on: RefCell<Option<Path>>,
    /// What stands in it, lowest first.
    children: RefCell<Vec<Weak<Mount>>>,
    ns: RefCell<Weak<MountTable>>,
    /// Its peer group, and that it takes mounts from; 0: none. mount_namespaces(7), "Shared subtrees".
    group: Cell<u32>,
    master: Cell<u32>,
    unbindable: Cell<bool>,
    /// In no tree: for files that never have a name.
    hidden: bool,
    /// umount2(MNT_EXPIRE) has marked it.
    pub expiring: Cell<bool>,
    /// How many descriptions write to a file of it.
    writers: Cell<u32>,
}

/// How a file system is mounted.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// READ_ONLY and the like.
    pub flags: u32,
    pub source: String,
    pub kind: String,
    pub options: String,
    /// Where the root is in what it was taken from, for mountinfo.
    pub top: String,
}

/// What becomes of mounts below a mount: the four kinds of mount(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
    Slave,
    Unbindable,
}

thread_local! {
    static NEXT_ID: Cell<i32> = const { Cell::new(1) };
    static NEXT_GROUP: Cell<u32> = const { Cell::new(1) };
    /// Every mount of every namespace, for peers.
    static ALL: RefCell<Vec<Weak<Mount>>> = const { RefCell::new(Vec::new()) };
}

fn new_group() -> u32 {
    NEXT_GROUP.replace(NEXT_GROUP.get() + 1)
}

impl Super {
    pub fn new(root: Rc<dyn Inode>, kind: &str, user_ns: Rc<UserNs>) -> Rc<Super> {
        let (flags, options, top) = (Cell::new(0), RefCell::default(), RefCell::default());
        Rc::new(Super { root: Dentry::root(root), kind: kind.to_owned(), flags, options, top, user_ns })
    }

    /// SB_RDONLY and the like.
    pub fn flags(&self) -> u32 {
        self.flags.get()
    }
    pub fn read_only(&self) -> bool {
        self.flags.get() & SB_RDONLY != 0
    }

    /// Gives it those of `mask`. EBUSY: somebody writes to what would be read-only.
    pub fn set_flags(&self, flags: u32, mask: u32) -> Result {
        let wanted = self.flags.get() & !mask | flags & mask;
        let mine = |m: &Rc<Mount>| std::ptr::eq(&*m.sb, self);
        if wanted & SB_RDONLY != 0 && !self.read_only() && tree::all().iter().any(|m| mine(m) && m.written()) {
            return Err(Errno::EBUSY);
        }
        self.flags.set(wanted);
        names::changed();
        Ok(())
    }

    pub fn dev(&self) -> u64 {
        self.root.inode.attr().map_or(0, |a| a.dev)
    }
}

impl Mount {
    fn make(sb: Rc<Super>, root: Rc<Dentry>, source: String, flags: u32, hidden: bool) -> Rc<Mount> {
        let id = if hidden { 0 } else { NEXT_ID.replace(NEXT_ID.get() + 1) };
        let m = Rc::new(Mount {
            id,
            unique: UNIQUE_ID_OFFSET + id as u64,
            sb,
            root,
            source,
            flags: Cell::new(flags),
            locked_flags: Cell::default(),
            locked: Cell::default(),
            on: RefCell::default(),
            children: RefCell::default(),
            ns: RefCell::default(),
            group: Cell::default(),
            master: Cell::default(),
            unbindable: Cell::default(),
            hidden,
            expiring: Cell::default(),
            writers: Cell::default(),
        });
        if !hidden {
            ALL.with_borrow_mut(|all| {
                all.retain(|w| w.strong_count() > 0);
                all.push(Rc::downgrade(&m));
            });
        }
        m
    }

    /// A whole file system, nowhere yet.
    pub fn new(sb: Rc<Super>, source: String, flags: u32) -> Rc<Mount> {
        let root = sb.root.clone();
        Mount::make(sb, root, source, flags, false)
    }

    /// A file system that never stands anywhere.
    pub fn hidden(root: Rc<dyn Inode>, kind: &str) -> Rc<Mount> {
        let sb = Super::new(root, kind, UserNs::first());
        let root = sb.root.clone();
        Mount::make(sb, root, kind.to_owned(), NO_DEV | NO_SUID, true)
    }

    pub fn is_hidden(&self) -> bool {
        self.hidden
    }
    pub fn on(&self) -> Option<Path> {
        self.on.borrow().clone()
    }
    pub fn read_only(&self) -> bool {
        self.has(READ_ONLY) || self.sb.read_only()
    }
    /// Does looking at a file move its access time? `dir`: it is a directory; `stale`: it was changed since, or the time is
    /// a day old, which is all that MS_RELATIME moves it for.
    pub fn moves_atime(&self, dir: bool, stale: bool) -> bool {
        let never = NO_ATIME | if dir { NO_DIR_ATIME } else { 0 };
        (stale || !self.has(RELATIME)) && !self.has(never) && !self.read_only()
    }
    pub fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }
    pub fn flags(&self) -> u32 {
        self.flags.get()
    }
    pub fn locked(&self) -> bool {
        self.locked.get()
    }
    /// Of a shared mount.
    pub fn group(&self) -> u32 {
        self.group.get()
    }
    /// The group it takes mounts from.
    pub fn master(&self) -> u32 {
        self.master.get()
    }
    pub fn unbindable(&self) -> bool {
        self.unbindable.get()
    }
    /// The namespace it is in.
    pub fn ns(&self) -> Option<Rc<MountTable>> {
        self.ns.borrow().upgrade()
    }
    pub fn children(&self) -> Vec<Rc<Mount>> {
        self.children.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// May it be restricted so? EPERM: a flag is locked. EBUSY: somebody writes to what would be read-only.
    pub fn check_flags(&self, flags: u32) -> Result {
        let locked = self.locked_flags.get();
        let frees = locked & LOCKABLE & !flags != 0;
        let changes_atime = locked & ATIME != 0 && (flags ^ self.flags.get()) & ATIME != 0;
        if frees || changes_atime {
            return Err(Errno::EPERM);
        }
        if flags & READ_ONLY != 0 && !self.has(READ_ONLY) && self.written() { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Restricts it. Whether that may be was asked before.
    pub fn set_flags(&self, flags: u32) {
        self.flags.set(flags);
        names::changed();
        self.tell();
    }

    /// Those who watch the list of mounts hear of a change.
    pub fn tell(&self) {
        if let Some(ns) = self.ns() {
            ns.changed();
        }
    }

    /// A description that writes to a file of it was opened (1), or closed (-1).
    pub(crate) fn add_writers(&self, n: i32) {
        self.writers.set(self.writers.get().wrapping_add_signed(n));
    }
    fn written(&self) -> bool {
        self.writers.get() != 0
    }

    pub fn statfs(&self, d: &Dentry) -> Result<StatFs> {
        const ST_VALID: i64 = 0x20;
        const BITS: [(u32, i64); 8] = [
            (READ_ONLY, 1),
            (NO_SUID, 2),
            (NO_DEV, 4),
            (NO_EXEC, 8),
            (NO_ATIME, 0x400),
            (NO_DIR_ATIME, 0x800),
            (RELATIME, 0x1000),
            (NO_SYMFOLLOW, 0x2000),
        ];
        let mut s = d.inode.statfs()?;
        s.flags |= ST_VALID | if self.sb.read_only() { 1 } else { 0 };
        s.flags |= BITS.iter().filter(|(f, _)| self.has(*f)).fold(0, |a, (_, b)| a | b);
        Ok(s)
    }

    /// What was mounted with more rights stays as it is: mount_namespaces(7), "Restrictions".
    fn lock(&self, place: bool) {
        let flags = self.flags.get();
        self.locked_flags.set(flags & LOCKABLE | ATIME);
        self.locked.set(place);
    }

    /// Is it used, but for `held` references the caller has?
    pub fn busy(self: &Rc<Mount>, held: usize) -> bool {
        // One is the namespace's.
        !self.children().is_empty() || Rc::strong_count(self) > held + 1
    }
}
