//! What was said of a name and is known outside of the kernel: it holds until something changes, and each change gives
//! what is said from then on another number. `docs/design/slot-protocol.md`, "Names".
use crate::{Dentry, Path};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Then = Box<dyn FnOnce()>;

thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(1) };
    static TO_TELL: RefCell<Vec<Then>> = const { RefCell::new(Vec::new()) };
}

/// Of what is said now; never 0.
pub fn number() -> u64 {
    NUMBER.get()
}

/// `then` is called once, before the next change is over.
pub fn when_changed(then: impl FnOnce() + 'static) {
    TO_TELL.with_borrow_mut(|all| all.push(Box::new(then)));
}

/// A name, a mount, a permission or somebody's rights are others: what was said holds no longer.
pub fn changed() {
    // When the thread ends, dentries may go after the list.
    let all = TO_TELL.try_with(RefCell::take).unwrap_or_default();
    if !all.is_empty() {
        NUMBER.set(NUMBER.get() + 1);
    }
    all.into_iter().for_each(|then| then());
}

/// As [`changed`], if anything was said of this one or of what is below it.
pub(crate) fn changed_at(d: &Dentry) {
    if d.told.get() {
        changed();
    }
}

/// Whether `path`, absolute, leads to `p` from `root` by its own words alone, each a name in a directory that changes through
/// the kernel only. What is said of it then holds until [`changed`].
pub fn may_tell(path: &[u8], p: &Path, root: &Path) -> bool {
    let mut words = path.split(|b| *b == b'/').rev();
    let mut at = p.clone();
    while !at.same(root) {
        at.dentry.told.set(true);
        if Rc::ptr_eq(&at.dentry, &at.mount.root) {
            let Some(on) = at.mount.on() else { return false };
            at = on;
            continue;
        }
        let Some(up) = at.dentry.parent.borrow().clone() else { return false };
        let same = words.next() == Some(&**at.dentry.name.borrow());
        if !same || at.dentry.removed.get() || !up.inode.cacheable() {
            return false;
        }
        at.dentry = up;
    }
    at.dentry.told.set(true);
    words.eq([b"".as_slice()])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Attr, FileOps, Inode, MountOptions, MountTable, New, StatFs};
    use abi::{Errno, Result};
    use std::any::Any;

    /// A directory that has every name.
    pub(crate) struct Endless {
        pub(crate) cacheable: bool,
    }
    impl Inode for Endless {
        fn attr(&self) -> Result<Attr> {
            Ok(Attr::default())
        }
        fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
            Ok(Rc::new(Endless { cacheable: name != b"moving" }))
        }
        fn create(&self, _name: &[u8], _new: New, _rdev: u64) -> Result<Rc<dyn Inode>> {
            Err(Errno::EROFS)
        }
        fn mkdir(&self, _name: &[u8], _new: New) -> Result<Rc<dyn Inode>> {
            Err(Errno::EROFS)
        }
        fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
            Err(Errno::EROFS)
        }
        fn statfs(&self) -> Result<StatFs> {
            Err(Errno::EROFS)
        }
        fn cacheable(&self) -> bool {
            self.cacheable
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    pub(crate) fn walk(from: &Path, names: &[&[u8]]) -> Path {
        names.iter().fold(from.clone(), |p, name| {
            crate::mount::enter(Path { mount: p.mount.clone(), dentry: p.dentry.child(name).unwrap() })
        })
    }

    pub(crate) fn tree() -> (Rc<MountTable>, Path) {
        let table = MountTable::first();
        let root = table.mount(None, Rc::new(Endless { cacheable: true }), MountOptions::default());
        (table, root)
    }

    #[test]
    fn only_a_path_that_says_each_name_itself() {
        let (table, root) = tree();
        let b = walk(&root, &[b"a", b"b"]);
        assert!(may_tell(b"/a/b", &b, &root));
        for other in [b"/a/c".as_slice(), b"/b", b"/x/a/b", b"a/b", b"/a/b/", b"/a//b", b"/a/./b", b"/a/x/../b", b""] {
            assert!(!may_tell(other, &b, &root), "{}", other.escape_ascii());
        }
        // Seen from elsewhere its path is another.
        let a = walk(&root, &[b"a"]);
        assert!(may_tell(b"/b", &b, &a) && !may_tell(b"/a/b", &b, &a));
        assert!(!may_tell(b"/a", &a, &b));
        // Names that change by themselves.
        assert!(!may_tell(b"/moving/b", &walk(&root, &[b"moving", b"b"]), &root));
        // Through a mount: the name is that of its place.
        table.mount(Some(walk(&root, &[b"m"])), Rc::new(Endless { cacheable: true }), MountOptions::default());
        assert!(may_tell(b"/m/c", &walk(&root, &[b"m", b"c"]), &root));
    }

    #[test]
    fn each_change_of_what_was_told_is_heard_of_once() {
        let (table, root) = tree();
        let (heard, c) = (Rc::new(Cell::new(0)), [b"a".as_slice(), b"b", b"c"]);
        let told = || {
            let p = walk(&root, &c);
            assert!(may_tell(b"/a/b/c", &p, &root));
            let heard = heard.clone();
            when_changed(move || heard.set(heard.get() + 1));
            (number(), p)
        };
        let place = walk(&root, &[b"a", b"place"]);
        let changes: [&dyn Fn(Path); 6] = [
            &|p| walk(&root, &c[..2]).dentry.forget(&p.dentry.name.borrow().clone()),
            &|_| root.dentry.forget(b"a"),
            &|_| walk(&root, &c[..1]).dentry.moved(b"b", &root.dentry, b"z"),
            // Another comes over it.
            &|_| walk(&root, &[b"a", b"x"]).dentry.moved(b"y", &walk(&root, &c[..2]).dentry, b"c"),
            &|_| drop(table.mount(Some(place.clone()), Rc::new(Endless { cacheable: true }), MountOptions::default())),
            &|_| changed(),
        ];
        for (i, change) in changes.iter().enumerate() {
            let (before, p) = told();
            change(p);
            assert_eq!(heard.get(), i + 1);
            assert_ne!(number(), before);
            changed();
            assert_eq!(heard.get(), i + 1);
        }
        // What nothing was said of.
        let (before, _) = told();
        walk(&root, &[b"a", b"file"]);
        walk(&root, &[b"a"]).dentry.forget(b"file");
        assert_eq!(number(), before);
    }
}
