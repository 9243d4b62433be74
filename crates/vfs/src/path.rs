//! The tree: dentries, mounts, and places in it.
use crate::{Inode, Mount, kept, names};
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// A name in a directory, and the inode it stands for.
pub struct Dentry {
    pub parent: RefCell<Option<Rc<Dentry>>>,
    pub name: RefCell<Box<[u8]>>,
    pub inode: Rc<dyn Inode>,
    children: RefCell<HashMap<Box<[u8]>, Weak<Dentry>>>,
    /// Its place among those that are kept while nobody holds them, and that it was used since that was last looked at.
    pub(crate) kept: Cell<usize>,
    pub(crate) used: Cell<bool>,
    /// The name is gone: unlinked, or renamed over.
    pub removed: Cell<bool>,
    /// How many mounts stand on it.
    pub mounted: Cell<u32>,
    /// Something was said of it or of what is below, and may be known outside ([`names`]).
    pub(crate) told: Cell<bool>,
}

impl Dentry {
    pub fn root(inode: Rc<dyn Inode>) -> Rc<Dentry> {
        Dentry::new(None, b"", inode)
    }

    fn new(parent: Option<Rc<Dentry>>, name: &[u8], inode: Rc<dyn Inode>) -> Rc<Dentry> {
        Rc::new(Dentry {
            parent: RefCell::new(parent),
            name: RefCell::new(name.into()),
            inode,
            children: RefCell::default(),
            kept: Cell::new(usize::MAX),
            used: Cell::new(false),
            removed: Cell::new(false),
            mounted: Cell::new(0),
            told: Cell::new(false),
        })
    }

    /// The child of that name that is known.
    pub fn known(&self, name: &[u8]) -> Option<Rc<Dentry>> {
        let d = self.children.borrow().get(name)?.upgrade()?;
        d.used.set(true);
        Some(d)
    }

    /// Looks a name up, asking the file system unless it is known.
    pub fn child(self: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        let known = self.known(name);
        if let Some(d) = &known
            && (self.inode.cacheable() || d.mounted.get() > 0)
        {
            return Ok(d.clone());
        }
        match self.inode.lookup(name) {
            Ok(inode) => {
                if let Some(d) = known
                    && same(&d.inode, &inode)
                {
                    return Ok(d);
                }
                Ok(self.insert(name, inode))
            }
            Err(e) => {
                if e == Errno::ENOENT {
                    self.forget(name);
                }
                Err(e)
            }
        }
    }

    /// Adds a child that was just created or found.
    pub fn insert(self: &Rc<Dentry>, name: &[u8], inode: Rc<dyn Inode>) -> Rc<Dentry> {
        let d = Dentry::new(Some(self.clone()), name, inode);
        self.children.borrow_mut().insert(name.into(), Rc::downgrade(&d));
        kept::keep(&d);
        d
    }

    /// Its name leads to it again. In directories whose names are looked up anew each time, as /proc's are, another may
    /// have come in its place since it was found.
    pub fn reclaim(self: &Rc<Self>) {
        if let Some(parent) = self.parent.borrow().as_ref().filter(|_| !self.removed.get()) {
            parent.children.borrow_mut().insert(self.name.borrow().clone(), Rc::downgrade(self));
        }
    }

    /// A child that no name leads to, though /proc shows one.
    pub fn nameless(self: &Rc<Dentry>, shown: &[u8], inode: Rc<dyn Inode>) -> Rc<Dentry> {
        let d = Dentry::new(Some(self.clone()), shown, inode);
        d.removed.set(true);
        d
    }

    fn take(&self, name: &[u8]) -> Option<Rc<Dentry>> {
        self.children.borrow_mut().remove(name)?.upgrade()
    }

    /// Forgets a child whose name is gone.
    pub fn forget(&self, name: &[u8]) {
        if let Some(d) = self.take(name) {
            d.removed.set(true);
            names::changed_at(&d);
            kept::release(&d);
        }
    }

    /// Gives a known child another parent and name.
    pub fn moved(self: &Rc<Dentry>, name: &[u8], to: &Rc<Dentry>, new_name: &[u8]) {
        to.forget(new_name);
        if let Some(d) = self.take(name) {
            names::changed_at(&d);
            *d.parent.borrow_mut() = Some(to.clone());
            *d.name.borrow_mut() = new_name.into();
            to.children.borrow_mut().insert(new_name.into(), Rc::downgrade(&d));
        }
    }

    /// How many names it knows, for tests.
    #[cfg(test)]
    pub(crate) fn children(&self) -> usize {
        self.children.borrow().len()
    }

    /// Leaves its parent, which comes back.
    fn leave(&mut self) -> Option<Rc<Dentry>> {
        // Who comes in its place knows nothing of what was said.
        names::changed_at(self);
        let up = self.parent.take()?;
        let mut children = up.children.borrow_mut();
        // Another may have the name by now.
        if children.get(&**self.name.borrow()).is_some_and(|w| w.strong_count() == 0) {
            children.remove(&**self.name.borrow());
        }
        drop(children);
        Some(up)
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        let mut up = self.leave();
        // Not by recursion: the way up may be longer than the stack is deep.
        while let Some(mut d) = up.and_then(Rc::into_inner) {
            up = d.leave();
        }
    }
}

fn same(a: &Rc<dyn Inode>, b: &Rc<dyn Inode>) -> bool {
    Rc::ptr_eq(a, b)
}

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    pub mount: Rc<Mount>,
    pub dentry: Rc<Dentry>,
}

impl Path {
    pub fn inode(&self) -> &Rc<dyn Inode> {
        &self.dentry.inode
    }
    pub fn same(&self, o: &Path) -> bool {
        Rc::ptr_eq(&self.mount, &o.mount) && Rc::ptr_eq(&self.dentry, &o.dentry)
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Path({})", self.dentry.name.borrow().escape_ascii())
    }
}

/// The absolute name of a place as seen from `root`; with ` (deleted)` if it is gone. `None`: it is not below `root`.
pub fn name_of(p: &Path, root: &Path) -> Option<Vec<u8>> {
    let mut parts: Vec<Box<[u8]>> = Vec::new();
    let mut at = p.clone();
    let mut gone = false;
    while !at.same(root) {
        if Rc::ptr_eq(&at.dentry, &at.mount.root) {
            if at.mount.is_hidden() {
                break;
            }
            at = at.mount.on()?;
            continue;
        }
        gone |= at.dentry.removed.get();
        parts.push(at.dentry.name.borrow().clone());
        let up = at.dentry.parent.borrow().clone()?;
        at.dentry = up;
    }
    let mut out = Vec::new();
    for n in parts.iter().rev() {
        out.push(b'/');
        out.extend_from_slice(n);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    if gone {
        out.extend_from_slice(b" (deleted)");
    }
    Some(out)
}
