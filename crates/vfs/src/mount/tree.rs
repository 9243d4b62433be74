//! Mounts that stand on each other, and how they follow each other: mount_namespaces(7), "Shared subtrees".
use super::*;

impl Mount {
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

    pub fn set_propagation(&self, to: Propagation) {
        if to == Propagation::Shared {
            if self.group.get() == 0 {
                self.group.set(new_group());
            }
        } else {
            let (group, above) = (self.group.take(), self.master.get());
            let peers_left = group != 0 && peers(group).next().is_some();
            if to != Propagation::Slave {
                self.master.set(0);
            } else if peers_left {
                self.master.set(group);
            }
            if group != 0 && !peers_left {
                // Who took mounts from it takes them from where it did.
                all().iter().filter(|m| m.master.get() == group).for_each(|m| m.master.set(above));
            }
        }
        self.unbindable.set(to == Propagation::Unbindable);
    }

    /// Does it take mounts from others, or give them?
    pub fn propagates(&self) -> bool {
        self.group.get() != 0 || self.master.get() != 0
    }

    /// Would a copy of what is mounted on `p` come over its own root?
    pub fn takes(self: &Rc<Mount>, p: &Path) -> bool {
        Rc::ptr_eq(&self.root, &p.dentry) && takers(p).iter().any(|(m, ..)| Rc::ptr_eq(m, self))
    }

    /// Takes mounts as `other` does, which has the same file system, and gives them to the same.
    pub fn join(&self, other: &Mount) {
        self.group.set(other.group.get());
        self.master.set(other.master.get());
    }

    /// The nearest group it takes mounts from that has a member below `root`; 0: none.
    pub fn dominating(&self, root: &Path) -> u32 {
        let seen = |m: &Rc<Mount>| m.ns.borrow().ptr_eq(&self.ns.borrow()) && m.reachable(root);
        let mut group = self.master.get();
        while group != 0 && !peers(group).any(|m| seen(&m)) {
            group = peers(group).next().map_or(0, |m| m.master.get());
        }
        group
    }

    /// Is it below `root`, or there?
    pub fn reachable(self: &Rc<Mount>, root: &Path) -> bool {
        let mut at = Path { mount: self.clone(), dentry: self.root.clone() };
        while !Rc::ptr_eq(&at.mount, &root.mount) {
            let Some(on) = at.mount.on() else { return false };
            at = on;
        }
        is_below(&at.dentry, &root.dentry)
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
    pub(super) fn copy_tree(self: &Rc<Mount>, root: Rc<Dentry>, all: bool) -> Tree {
        let top = self.clone_at(root.clone());
        let mut made = vec![(self.clone(), top.clone())];
        let below = |m: &Rc<Mount>, copy: &Rc<Mount>| -> Vec<(Rc<Mount>, Rc<Mount>)> {
            m.children().into_iter().rev().map(|c| (c, copy.clone())).collect()
        };
        let mut left = below(self, &top);
        while let Some((child, parent)) = left.pop() {
            let Some(on) = child.on() else { continue };
            let inside = !Rc::ptr_eq(&parent, &top) || is_below(&on.dentry, &root);
            if !inside || (child.unbindable() && !all) {
                continue;
            }
            let copy = child.clone_at(child.root.clone());
            copy.unbindable.set(child.unbindable());
            copy.locked.set(child.locked());
            stand(&copy, Path { mount: parent, dentry: on.dentry.clone() });
            left.extend(below(&child, &copy));
            made.push((child, copy));
        }
        Tree { made }
    }

    /// Does something that may not be taken away stand there, or below?
    pub fn hides_below(&self, d: &Rc<Dentry>) -> bool {
        let hides = |c: &Rc<Mount>| c.locked() && c.on().is_some_and(|on| is_below(&on.dentry, d));
        self.children().iter().any(hides)
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
        if m.hides_below(&p.dentry) {
            return Err(Errno::EINVAL);
        }
        Ok(Tree { made: vec![(m.clone(), m.clone_at(p.dentry.clone()))] })
    }
}

/// Copies of mounts that stand on each other, the first nowhere yet, each beside what it is a copy of.
pub struct Tree {
    pub(super) made: Vec<(Rc<Mount>, Rc<Mount>)>,
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
pub(super) fn peers(group: u32) -> impl Iterator<Item = Rc<Mount>> {
    all().into_iter().filter(move |m| m.group.get() == group)
}

pub(super) fn all() -> Vec<Rc<Mount>> {
    // When the thread ends, namespaces may go after the list.
    ALL.try_with(|all| all.borrow().iter().filter_map(Weak::upgrade).collect()).unwrap_or_default()
}

pub(super) fn stand(m: &Rc<Mount>, on: Path) {
    on.dentry.reclaim();
    on.dentry.mounted.set(on.dentry.mounted.get() + 1);
    on.mount.children.borrow_mut().push(Rc::downgrade(m));
    m.on.replace(Some(on));
    names::changed();
}

pub(super) fn leave(m: &Mount) -> Option<Path> {
    let on = m.on.take()?;
    on.dentry.mounted.set(on.dentry.mounted.get() - 1);
    on.mount.children.borrow_mut().retain(|c| !std::ptr::eq(c.as_ptr(), m));
    names::changed();
    Some(on)
}

/// As [`stand`]; what stood there stands on it then.
pub(super) fn stand_below(m: &Rc<Mount>, p: Path) {
    let over = standing_on(&p);
    if let Some(over) = &over {
        leave(over);
    }
    stand(m, p);
    if let Some(over) = over {
        stand(&over, enter(Path { mount: m.clone(), dentry: m.root.clone() }));
    }
}

/// Who takes what is mounted on `p`, besides its mount: the peers of that, and their slaves. The group it comes from,
/// and whether the taker is its slave.
pub(super) fn takers(p: &Path) -> Vec<(Rc<Mount>, u32, bool)> {
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
pub(super) fn standing_on(p: &Path) -> Option<Rc<Mount>> {
    let children = p.mount.children.borrow();
    let mut here = children.iter().rev().filter_map(Weak::upgrade);
    here.find(|m| m.on.borrow().as_ref().is_some_and(|o| Rc::ptr_eq(&o.dentry, &p.dentry)))
}
