//! Mounts, and the namespaces they are in: mount_namespaces(7).
use crate::{Dentry, Inode, Path, StatFs, name_of, names};
use abi::{Errno, Result};
use kernel::userns::{FIRST_MOUNT_INO, UserNs, new_ino};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

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
/// What whoever has fewer rights than the mount's maker may not take away.
const LOCKABLE: u32 = READ_ONLY | NO_SUID | NO_DEV | NO_EXEC;

/// A file system that stands somewhere, or several times.
pub struct Super {
    pub root: Rc<Dentry>,
    /// As /proc/mounts shows it.
    pub kind: String,
    pub read_only: Cell<bool>,
    /// Its own options, as /proc/mounts shows them after `rw`: each begins with a comma.
    pub options: RefCell<String>,
    /// Where its root is in what it was taken from, as mountinfo shows it; empty: it is that one's root.
    top: RefCell<String>,
    pub user_ns: Rc<UserNs>,
}

/// A mounted file system, or a part of one.
pub struct Mount {
    pub id: i32,
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
        let (read_only, options, top) = (Cell::new(false), RefCell::default(), RefCell::default());
        Rc::new(Super { root: Dentry::root(root), kind: kind.to_owned(), read_only, options, top, user_ns })
    }
}

impl Super {
    pub fn dev(&self) -> u64 {
        self.root.inode.attr().map_or(0, |a| a.dev)
    }
}

impl Mount {
    fn make(sb: Rc<Super>, root: Rc<Dentry>, source: String, flags: u32, hidden: bool) -> Rc<Mount> {
        let id = if hidden { 0 } else { NEXT_ID.replace(NEXT_ID.get() + 1) };
        let m = Rc::new(Mount {
            id,
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
        self.has(READ_ONLY) || self.sb.read_only.get()
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

    /// It and all that stands below it, each after what it stands on.
    pub fn tree(self: &Rc<Mount>) -> Vec<Rc<Mount>> {
        let mut out = vec![self.clone()];
        let mut i = 0;
        while i < out.len() {
            let below = out[i].children();
            out.extend(below);
            i += 1;
        }
        out
    }

    /// remount with MS_BIND. EPERM: a flag is locked.
    pub fn set_flags(&self, flags: u32) -> Result {
        let locked = self.locked_flags.get();
        let frees = locked & LOCKABLE & !flags != 0;
        let changes_atime = locked & ATIME != 0 && (flags ^ self.flags.get()) & ATIME != 0;
        if frees || changes_atime {
            return Err(Errno::EPERM);
        }
        self.flags.set(flags);
        Ok(())
    }

    pub fn set_propagation(&self, to: Propagation) {
        if to == Propagation::Shared {
            if self.group.get() == 0 {
                self.group.set(new_group());
            }
        } else {
            let group = self.group.take();
            if to != Propagation::Slave {
                self.master.set(0);
            } else if group != 0 && peers(group).next().is_some() {
                self.master.set(group);
            }
        }
        self.unbindable.set(to == Propagation::Unbindable);
    }

    /// What mountinfo says of it between the options and the hyphen.
    pub fn propagation_text(&self) -> String {
        let mut s = String::new();
        if self.group.get() != 0 {
            s += &format!(" shared:{}", self.group.get());
        }
        if self.master.get() != 0 {
            s += &format!(" master:{}", self.master.get());
        }
        if self.unbindable.get() {
            s += " unbindable";
        }
        s
    }

    /// Its options, as /proc/mounts begins them.
    pub fn option_text(&self) -> String {
        const NAMES: [(u32, &str); 7] = [
            (NO_SUID, ",nosuid"),
            (NO_DEV, ",nodev"),
            (NO_EXEC, ",noexec"),
            (NO_ATIME, ",noatime"),
            (NO_DIR_ATIME, ",nodiratime"),
            (RELATIME, ",relatime"),
            (NO_SYMFOLLOW, ",nosymfollow"),
        ];
        let set = NAMES.iter().filter(|(f, _)| self.has(*f)).map(|(_, n)| *n);
        std::iter::once(if self.has(READ_ONLY) { "ro" } else { "rw" }).chain(set).collect()
    }

    /// Where its root is in its file system.
    pub fn root_name(&self) -> Vec<u8> {
        let mut parts: Vec<Box<[u8]>> = Vec::new();
        let mut at = self.root.clone();
        let mut gone = false;
        while !Rc::ptr_eq(&at, &self.sb.root) {
            gone |= at.removed.get();
            parts.push(at.name.borrow().clone());
            let Some(up) = at.parent.borrow().clone() else { break };
            at = up;
        }
        let mut out = self.sb.top.borrow().as_bytes().to_vec();
        out.extend(parts.iter().rev().flat_map(|p| [b"/", &p[..]].concat()));
        if out.is_empty() {
            out.push(b'/');
        }
        if gone {
            out.extend_from_slice(b"//deleted");
        }
        out
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
        s.flags |= ST_VALID | if self.sb.read_only.get() { 1 } else { 0 };
        s.flags |= BITS.iter().filter(|(f, _)| self.has(*f)).fold(0, |a, (_, b)| a | b);
        Ok(s)
    }

    /// Another mount of the same file system at `root`, nowhere yet. Of a shared one it is a peer.
    pub fn clone_at(&self, root: Rc<Dentry>) -> Rc<Mount> {
        let m = Mount::make(self.sb.clone(), root, self.source.clone(), self.flags.get(), false);
        m.locked_flags.set(self.locked_flags.get());
        m.group.set(self.group.get());
        m.master.set(self.master.get());
        m
    }

    /// A copy of the tree at `root` of this mount. `all`: with what cannot be bound.
    fn copy_tree(self: &Rc<Mount>, root: Rc<Dentry>, all: bool) -> Tree {
        let top = self.clone_at(root.clone());
        let mut made = vec![(self.clone(), top.clone())];
        let mut i = 0;
        while i < made.len() {
            let (old, new) = made[i].clone();
            for child in old.children() {
                let Some(on) = child.on() else { continue };
                let inside = i > 0 || is_below(&on.dentry, &root);
                if !inside || (child.unbindable() && !all) {
                    continue;
                }
                let copy = child.clone_at(child.root.clone());
                copy.unbindable.set(child.unbindable());
                copy.locked.set(child.locked());
                stand(&copy, Path { mount: new.clone(), dentry: on.dentry.clone() });
                made.push((child, copy));
            }
            i += 1;
        }
        Tree { made }
    }

    /// A tree as bind mounts it. `deep`: with what stands below. EINVAL if it cannot be bound.
    pub fn bind(p: &Path, deep: bool) -> Result<Tree> {
        let m = &p.mount;
        if m.unbindable() {
            return Err(Errno::EINVAL);
        }
        if deep {
            return Ok(m.copy_tree(p.dentry.clone(), false));
        }
        let hides = |c: &Rc<Mount>| c.locked() && c.on().is_some_and(|on| is_below(&on.dentry, &p.dentry));
        if m.children().iter().any(hides) {
            return Err(Errno::EINVAL);
        }
        Ok(Tree { made: vec![(m.clone(), m.clone_at(p.dentry.clone()))] })
    }
}

/// Copies of mounts that stand on each other, the first nowhere yet, each beside what it is a copy of.
pub struct Tree {
    made: Vec<(Rc<Mount>, Rc<Mount>)>,
}

impl Tree {
    /// A mount that is no copy.
    pub fn of(m: Rc<Mount>) -> Tree {
        Tree { made: vec![(m.clone(), m)] }
    }
    pub fn top(&self) -> Rc<Mount> {
        self.made[0].1.clone()
    }
}

/// Is `d` the directory `top` or below it?
pub fn is_below(d: &Rc<Dentry>, top: &Rc<Dentry>) -> bool {
    let mut at = Some(d.clone());
    while let Some(x) = at {
        if Rc::ptr_eq(&x, top) {
            return true;
        }
        at = x.parent.borrow().clone();
    }
    false
}

/// Mounts of a peer group.
fn peers(group: u32) -> impl Iterator<Item = Rc<Mount>> {
    all().into_iter().filter(move |m| m.group.get() == group)
}

fn all() -> Vec<Rc<Mount>> {
    ALL.with_borrow(|all| all.iter().filter_map(Weak::upgrade).collect())
}

fn stand(m: &Rc<Mount>, on: Path) {
    on.dentry.reclaim();
    on.dentry.mounted.set(on.dentry.mounted.get() + 1);
    on.mount.children.borrow_mut().push(Rc::downgrade(m));
    m.on.replace(Some(on));
    names::changed();
}

fn leave(m: &Mount) -> Option<Path> {
    let on = m.on.take()?;
    on.dentry.mounted.set(on.dentry.mounted.get() - 1);
    on.mount.children.borrow_mut().retain(|c| !std::ptr::eq(c.as_ptr(), m));
    names::changed();
    Some(on)
}

/// Who takes what is mounted on `p`, besides its mount: the peers of that, and their slaves. The group it comes from,
/// and whether the taker is its slave.
fn takers(p: &Path) -> Vec<(Rc<Mount>, u32, bool)> {
    let mut out: Vec<(Rc<Mount>, u32, bool)> = Vec::new();
    let mut groups = vec![p.mount.group.get()];
    let mut i = 0;
    while i < groups.len() && groups[i] != 0 {
        for m in all() {
            let peer = m.group.get() == groups[i];
            let slave = !peer && m.master.get() == groups[i];
            if (!peer && !slave) || Rc::ptr_eq(&m, &p.mount) || out.iter().any(|(o, ..)| Rc::ptr_eq(o, &m)) {
                continue;
            }
            if slave && m.group.get() != 0 && !groups.contains(&m.group.get()) {
                groups.push(m.group.get());
            }
            if m.ns().is_some() && is_below(&p.dentry, &m.root) {
                out.push((m, groups[i], slave));
            }
        }
        i += 1;
    }
    out
}

/// The root of whatever is mounted on `p`, or `p`.
pub fn enter(mut p: Path) -> Path {
    while p.dentry.mounted.get() > 0 {
        let Some(top) = standing_on(&p) else { break };
        p = Path { dentry: top.root.clone(), mount: top };
    }
    p
}

/// The mount that stands right on `p`.
fn standing_on(p: &Path) -> Option<Rc<Mount>> {
    let children = p.mount.children.borrow();
    let mut here = children.iter().rev().filter_map(Weak::upgrade);
    here.find(|m| m.on.borrow().as_ref().is_some_and(|o| Rc::ptr_eq(&o.dentry, &p.dentry)))
}

thread_local! {
    /// The most mounts a namespace may have: /proc/sys/fs/mount-max.
    pub static MOUNTS_MAX: Cell<usize> = const { Cell::new(10_000) };
}

/// A mount namespace.
pub struct MountTable {
    pub ino: u64,
    pub user_ns: Rc<UserNs>,
    /// In the order in which they were mounted; the root of all is among them.
    mounts: RefCell<Vec<Rc<Mount>>>,
    root: RefCell<Weak<Mount>>,
    this: Weak<MountTable>,
}

impl MountTable {
    /// The first one.
    pub fn first() -> Rc<MountTable> {
        MountTable::new(FIRST_MOUNT_INO, UserNs::first())
    }

    /// An empty one beside it, which is the first user namespace's as well.
    pub fn further() -> Rc<MountTable> {
        MountTable::new(new_ino(), UserNs::first())
    }

    fn new(ino: u64, user_ns: Rc<UserNs>) -> Rc<MountTable> {
        Rc::new_cyclic(|this| MountTable {
            ino,
            user_ns,
            mounts: RefCell::default(),
            root: RefCell::default(),
            this: this.clone(),
        })
    }

    fn add(&self, m: &Rc<Mount>) {
        m.ns.replace(self.this.clone());
        self.mounts.borrow_mut().push(m.clone());
    }

    /// Mounts `root` on a place, or as the root of all, when the sandbox starts.
    pub fn mount(&self, on: Option<Path>, root: Rc<dyn Inode>, o: MountOptions) -> Path {
        let sb = Super::new(root, &o.kind, self.user_ns.clone());
        sb.options.replace(o.options);
        sb.top.replace(o.top);
        let m = Mount::new(sb, o.source, o.flags | RELATIME);
        match on {
            Some(p) => stand(&m, p),
            None => drop(self.root.replace(Rc::downgrade(&m))),
        }
        self.add(&m);
        Path { dentry: m.root.clone(), mount: m }
    }

    /// Is it one of this namespace's?
    pub fn holds(&self, m: &Mount) -> bool {
        std::ptr::eq(m.ns.borrow().as_ptr(), self)
    }

    /// Does something of this namespace stand on that directory?
    pub fn has_mount_on(&self, d: &Rc<Dentry>) -> bool {
        let here = |m: &Rc<Mount>| m.on.borrow().as_ref().is_some_and(|o| Rc::ptr_eq(&o.dentry, d));
        d.mounted.get() > 0 && self.mounts.borrow().iter().any(here)
    }

    /// In mount order.
    pub fn all(&self) -> Vec<Rc<Mount>> {
        self.mounts.borrow().clone()
    }

    pub fn root(&self) -> Option<Path> {
        let m = self.root.borrow().upgrade()?;
        Some(enter(Path { dentry: m.root.clone(), mount: m }))
    }

    fn room(&self, n: usize) -> Result {
        if self.mounts.borrow().len() + n > MOUNTS_MAX.get() { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Puts a tree on `p`, and copies of it where those take them that share the place.
    pub fn attach(&self, tree: &Tree, p: Path) -> Result {
        let takers = takers(&p);
        self.room(tree.made.len() * (1 + takers.len()))?;
        if p.mount.group.get() != 0 {
            for (_, m) in &tree.made {
                m.set_propagation(Propagation::Shared);
            }
        }
        let top = tree.top();
        for (taker, _, slave) in takers {
            let Some(ns) = taker.ns() else { continue };
            let copy = top.copy_tree(top.root.clone(), true);
            for (from, m) in &copy.made {
                if slave {
                    m.group.set(if taker.group.get() != 0 { new_group() } else { 0 });
                    m.master.set(from.group.get());
                }
                if ns.user_ns != self.user_ns {
                    m.lock(!Rc::ptr_eq(m, &copy.top()));
                }
                ns.add(m);
            }
            stand(&copy.top(), Path { mount: taker, dentry: p.dentry.clone() });
        }
        for (_, m) in &tree.made {
            self.add(m);
        }
        stand(&top, p);
        Ok(())
    }

    /// Takes a mount away, with all that stands below it, here and where it was taken along. Each stands nowhere then.
    pub fn detach(&self, m: &Rc<Mount>) {
        if let Some(on) = m.on() {
            for (taker, ..) in takers(&on) {
                let copy = standing_on(&Path { mount: taker.clone(), dentry: on.dentry.clone() });
                if let (Some(copy), Some(ns)) = (copy.filter(|c| !c.locked()), taker.ns()) {
                    ns.drop_tree(&copy);
                }
            }
        }
        self.drop_tree(m);
    }

    fn drop_tree(&self, top: &Rc<Mount>) {
        for m in top.tree() {
            leave(&m);
            m.ns.replace(Weak::new());
            m.set_propagation(Propagation::Private);
            self.mounts.borrow_mut().retain(|o| !Rc::ptr_eq(o, &m));
        }
    }

    /// Moves a mount of this namespace to `p`.
    pub fn relocate(&self, m: &Rc<Mount>, p: Path) -> Result {
        self.room(0)?;
        leave(m);
        if p.mount.group.get() == 0 {
            stand(m, p);
            return Ok(());
        }
        let made: Vec<_> = m.tree().into_iter().map(|m| (m.clone(), m)).collect();
        for (_, m) in &made {
            self.mounts.borrow_mut().retain(|o| !Rc::ptr_eq(o, m));
        }
        self.attach(&Tree { made }, p)
    }

    /// pivot_root(2): `new` takes the place of `old`, which goes to `put`.
    pub fn pivot(&self, new: &Rc<Mount>, old: &Rc<Mount>, put: Path) {
        leave(new);
        match leave(old) {
            Some(place) => stand(new, place),
            None => drop(self.root.replace(Rc::downgrade(new))),
        }
        new.locked.set(old.locked.replace(false));
        stand(old, put);
    }

    /// A copy of the namespace for `user_ns`, with what each of `places` is in it.
    pub fn fork(&self, user_ns: &Rc<UserNs>, places: &mut [&mut Path]) -> Result<Rc<MountTable>> {
        let ns = MountTable::new(new_ino(), user_ns.clone());
        let root = self.root.borrow().upgrade().ok_or(Errno::EINVAL)?;
        let copy = root.copy_tree(root.root.clone(), true);
        ns.root.replace(Rc::downgrade(&copy.top()));
        let other = *user_ns != self.user_ns;
        for (from, m) in &copy.made {
            ns.add(m);
            if other {
                m.lock(true);
                if from.group.get() != 0 {
                    m.group.set(0);
                    m.master.set(from.group.get());
                }
            }
            for p in places.iter_mut().filter(|p| Rc::ptr_eq(&p.mount, from)) {
                p.mount = m.clone();
            }
        }
        // In the order in which they were mounted, as lists show them.
        ns.mounts.borrow_mut().sort_by_key(|m| copy.made.iter().find(|(_, c)| Rc::ptr_eq(c, m)).map(|(f, _)| f.id));
        Ok(ns)
    }
}

impl Mount {
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

    /// Its line in /proc/PID/mounts or mountinfo, as seen from `root`. `None`: it is not below that.
    pub fn line(&self, me: &Rc<Mount>, root: &Path, info: bool) -> Option<String> {
        let at = name_of(&Path { mount: me.clone(), dentry: self.root.clone() }, root)?;
        let (at, kind) = (octal(&at), &self.sb.kind);
        let source = if self.source.is_empty() { "none".into() } else { octal(self.source.as_bytes()) };
        let sb = if self.sb.read_only.get() { "ro" } else { "rw" };
        let options = self.sb.options.borrow();
        let mine = self.option_text();
        if !info {
            let rest = mine.get(2..).unwrap_or("");
            let mode = if self.read_only() { "ro" } else { "rw" };
            return Some(format!("{source} {at} {kind} {mode}{rest}{options} 0 0\n"));
        }
        let parent = self.on().map_or(self.id, |p| p.mount.id);
        let (major, minor) = (abi::c::major(self.sb.dev()), abi::c::minor(self.sb.dev()));
        let (top, shared) = (octal(&self.root_name()), self.propagation_text());
        let id = self.id;
        Some(format!("{id} {parent} {major}:{minor} {top} {at} {mine}{shared} - {kind} {source} {sb}{options}\n"))
    }
}

/// Blanks, line ends, backslashes and hashes as /proc/mounts writes them.
fn octal(name: &[u8]) -> String {
    let mut out = Vec::with_capacity(name.len());
    for b in name {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend_from_slice(format!("\\{b:03o}").as_bytes()),
            _ => out.push(*b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Drop for MountTable {
    fn drop(&mut self) {
        for m in self.mounts.borrow().iter() {
            leave(m);
            m.ns.replace(Weak::new());
            m.group.set(0);
        }
    }
}
