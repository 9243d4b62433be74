//! Mount namespaces, and trees of mounts that stand in none.
use super::tree::{leave, stand, stand_below, standing_on, takers};
use super::*;
use kernel::userns::{FIRST_MOUNT_INO, new_ino};
use kernel::wait::WaitQueue;

thread_local! {
    /// The most mounts a namespace may have: /proc/sys/fs/mount-max.
    pub static MOUNTS_MAX: Cell<usize> = const { Cell::new(10_000) };
}

thread_local! {
    static NEXT_NS: Cell<u64> = const { Cell::new(1) };
    /// Every namespace that has a number, in the order of these.
    static NAMESPACES: RefCell<Vec<Weak<MountTable>>> = const { RefCell::new(Vec::new()) };
}

/// What a namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its number, which no other ever has.
    Namespace(u64),
    /// A tree that stands nowhere, which a descriptor holds: the number of the namespace it is a copy from. 0: of none.
    Detached(u64),
}

/// A mount namespace, or a tree of mounts that is in none.
pub struct MountTable {
    pub ino: u64,
    pub user_ns: Rc<UserNs>,
    kind: Kind,
    /// The number of the first namespace of its container.
    home: u64,
    /// In the order in which they were made; the root of all is among them.
    mounts: RefCell<Vec<Rc<Mount>>>,
    root: RefCell<Weak<Mount>>,
    this: Weak<MountTable>,
    /// How often the list has changed, and who waits for that.
    changes: Cell<u64>,
    watchers: WaitQueue,
}

impl MountTable {
    /// The first one.
    pub fn first() -> Rc<MountTable> {
        MountTable::new(FIRST_MOUNT_INO, UserNs::first(), None)
    }

    /// An empty one beside it, which is the first user namespace's as well.
    pub fn further() -> Rc<MountTable> {
        MountTable::new(new_ino(), UserNs::first(), None)
    }

    fn new(ino: u64, user_ns: Rc<UserNs>, beside: Option<&MountTable>) -> Rc<MountTable> {
        let id = NEXT_NS.replace(NEXT_NS.get() + 1);
        let home = beside.map_or(id, |b| b.home);
        let ns = MountTable::make(ino, user_ns, Kind::Namespace(id), home);
        NAMESPACES.with_borrow_mut(|all| {
            all.retain(|w| w.strong_count() > 0);
            all.push(Rc::downgrade(&ns));
        });
        ns
    }

    fn make(ino: u64, user_ns: Rc<UserNs>, kind: Kind, home: u64) -> Rc<MountTable> {
        Rc::new_cyclic(|this| MountTable {
            ino,
            user_ns,
            kind,
            home,
            mounts: RefCell::default(),
            root: RefCell::default(),
            this: this.clone(),
            changes: Cell::default(),
            watchers: WaitQueue::new(),
        })
    }

    /// What holds a tree that stands nowhere. It is gone with this, unless it was moved somewhere. `from`: where it was
    /// copied from.
    pub fn detached(user_ns: &Rc<UserNs>, from: Option<&MountTable>, tree: &Tree) -> Rc<MountTable> {
        let origin = from.map_or(0, |from| match from.kind {
            Kind::Namespace(n) | Kind::Detached(n) => n,
        });
        let ns = MountTable::make(0, user_ns.clone(), Kind::Detached(origin), 0);
        ns.root.replace(Rc::downgrade(&tree.top()));
        tree.made.iter().for_each(|(_, m)| ns.add(m));
        ns
    }

    /// Every namespace of its container, by number.
    pub fn family(&self) -> Vec<Rc<MountTable>> {
        let all = NAMESPACES.with_borrow(|all| all.iter().filter_map(Weak::upgrade).collect::<Vec<_>>());
        all.into_iter().filter(|ns| ns.home == self.home).collect()
    }

    /// Its number as NS_GET_MNTNS_ID tells it; 0: it has none.
    pub fn id(&self) -> u64 {
        match self.kind {
            Kind::Namespace(id) => id,
            Kind::Detached(_) => 0,
        }
    }

    /// Is it a tree that stands nowhere, which who is in `by` may copy and mount on?
    pub fn is_detached_for(&self, by: &MountTable) -> bool {
        matches!(self.kind, Kind::Detached(origin) if origin == 0 || origin == by.id())
    }

    /// Is that the root of a tree that stands nowhere?
    pub fn is_detached_root(&self, m: &Mount) -> bool {
        matches!(self.kind, Kind::Detached(_)) && std::ptr::eq(self.root.borrow().as_ptr(), m)
    }

    fn add(&self, m: &Rc<Mount>) {
        m.ns.replace(self.this.clone());
        let mut all = self.mounts.borrow_mut();
        let at = all.partition_point(|o| o.unique < m.unique);
        all.insert(at, m.clone());
        drop(all);
        self.changed();
    }

    fn remove(&self, m: &Rc<Mount>) {
        m.ns.replace(Weak::new());
        self.mounts.borrow_mut().retain(|o| !Rc::ptr_eq(o, m));
        self.changed();
    }

    /// The list is another, as far as those know who watch it.
    pub(super) fn changed(&self) {
        self.changes.set(self.changes.get() + 1);
        self.watchers.wake();
    }

    /// How often the list has changed.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Woken when it changes.
    pub fn watchers(&self) -> &WaitQueue {
        &self.watchers
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

    /// In the order in which they were made.
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

    /// Puts a tree on `p`, and copies of it where those take them that share the place. What stands there already stands
    /// on the tree then.
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
            stand_below(&copy.top(), Path { mount: taker, dentry: p.dentry.clone() });
        }
        for (_, m) in &tree.made {
            self.add(m);
        }
        stand_below(&top, p);
        Ok(())
    }

    /// Takes a mount away, with all that stands below it, here and where it was taken along. Each stands nowhere then.
    pub fn detach(&self, m: &Rc<Mount>) {
        if let Some(on) = m.on() {
            for (taker, ..) in takers(&on) {
                let copy = standing_on(&Path { mount: taker.clone(), dentry: on.dentry.clone() });
                if let (Some(copy), Some(ns)) = (copy.filter(|c| !c.locked()), taker.ns()) {
                    ns.drop_copy(&copy);
                }
            }
        }
        self.drop_tree(m);
    }

    /// As [`drop_tree`](Self::drop_tree), for one that was taken along: what was put over it stays, in its place.
    fn drop_copy(&self, m: &Rc<Mount>) {
        let over = standing_on(&Path { mount: m.clone(), dentry: m.root.clone() });
        if let (Some(over), Some(on)) = (over, m.on()) {
            leave(&over);
            stand(&over, on);
        }
        self.drop_tree(m);
    }

    fn drop_tree(&self, top: &Rc<Mount>) {
        for m in top.tree() {
            leave(&m);
            self.remove(&m);
            m.set_propagation(Propagation::Private);
        }
    }

    /// Moves a mount to `p` of this namespace, with what stands on it. What stands there already stands on it then.
    pub fn relocate(&self, m: &Rc<Mount>, p: Path) -> Result {
        let made: Vec<_> = m.tree().into_iter().map(|m| (m.clone(), m)).collect();
        self.room(made.len() * (1 + takers(&p).len()))?;
        leave(m);
        let from = m.ns().filter(|ns| !std::ptr::eq(&**ns, self));
        for (_, m) in &made {
            match &from {
                Some(ns) => ns.remove(m),
                // It may take a copy of itself.
                None => self.mounts.borrow_mut().retain(|o| !Rc::ptr_eq(o, m)),
            }
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
        self.changed();
    }

    /// A copy of the namespace for `user_ns`, with what each of `places` is in it.
    pub fn fork(&self, user_ns: &Rc<UserNs>, places: &mut [&mut Path]) -> Result<Rc<MountTable>> {
        let ns = MountTable::new(new_ino(), user_ns.clone(), Some(self));
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
        Ok(ns)
    }
}

impl Drop for MountTable {
    fn drop(&mut self) {
        for m in self.mounts.borrow().iter() {
            leave(m);
            m.ns.replace(Weak::new());
            m.set_propagation(Propagation::Private);
        }
    }
}
