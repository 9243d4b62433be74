//! Dentries that live while nobody holds them, so that names are not looked up again and again: those used of late.
//!
//! One list for all directories. A directory must not hold its children itself: they hold it, and nothing of such a ring
//! would ever be given back.
use crate::Dentry;
use std::cell::RefCell;
use std::rc::Rc;

/// As many at most.
const KEPT: usize = 8192;

/// A clock: the hand passes once over whoever was used since it came by.
#[derive(Default)]
struct Clock {
    places: Vec<Option<Rc<Dentry>>>,
    free: Vec<usize>,
    hand: usize,
}

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

impl Clock {
    /// Who had to go for it comes back.
    fn put(&mut self, d: Rc<Dentry>) -> Option<Rc<Dentry>> {
        let at = self.free.pop().unwrap_or_else(|| {
            if self.places.len() < KEPT {
                self.places.push(None);
                return self.places.len() - 1;
            }
            loop {
                let at = self.hand;
                self.hand = (at + 1) % KEPT;
                if !self.places[at].as_ref().is_some_and(|d| d.used.take()) {
                    return at;
                }
            }
        });
        d.kept.set(at);
        self.places[at].replace(d)
    }

    fn take(&mut self, d: &Rc<Dentry>) -> Option<Rc<Dentry>> {
        let at = d.kept.get();
        let held = self.places.get_mut(at)?.take_if(|held| Rc::ptr_eq(held, d))?;
        self.free.push(at);
        Some(held)
    }
}

/// Holds it until others are used more. It must not be held already.
pub(crate) fn keep(d: &Rc<Dentry>) {
    // Dropped when the borrow is over: it may be the last of its parents' children.
    let gone = CLOCK.with_borrow_mut(|c| c.put(d.clone()));
    drop(gone);
}

/// Holds it no longer.
pub(crate) fn release(d: &Rc<Dentry>) {
    let held = CLOCK.with_borrow_mut(|c| c.take(d));
    drop(held);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attr, FileOps, Inode, New, StatFs};
    use abi::{Errno, Result};
    use std::any::Any;
    use std::cell::Cell;

    thread_local! {
        static ALIVE: Cell<usize> = const { Cell::new(0) };
    }

    /// A directory that has every name, and is another each time, as in /proc.
    struct Endless;
    impl Endless {
        fn made() -> Rc<dyn Inode> {
            ALIVE.set(ALIVE.get() + 1);
            Rc::new(Endless)
        }
    }
    impl Drop for Endless {
        fn drop(&mut self) {
            ALIVE.set(ALIVE.get() - 1);
        }
    }
    impl Inode for Endless {
        fn attr(&self) -> Result<Attr> {
            Ok(Attr::default())
        }
        fn lookup(&self, _name: &[u8]) -> Result<Rc<dyn Inode>> {
            Ok(Endless::made())
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
            false
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    #[test]
    fn what_was_looked_up_long_ago_is_given_back() {
        let root = Dentry::root(Endless::made());
        for i in 0..4 * KEPT {
            let directory = root.child(i.to_string().as_bytes()).unwrap();
            for name in [b"exe", b"fd/", b"env"] {
                directory.child(name).unwrap();
            }
        }
        assert!(ALIVE.get() <= 2 * KEPT, "{} are left", ALIVE.get());
        assert!(root.children() <= KEPT);
    }

    #[test]
    fn what_is_used_stays() {
        let root = Dentry::root(Endless::made());
        let often = Rc::downgrade(&root.child(b"often").unwrap());
        for i in 0..4 * KEPT {
            drop(root.known(b"often"));
            root.child(i.to_string().as_bytes()).unwrap();
        }
        assert!(often.upgrade().is_some());
        root.forget(b"often");
        assert!(often.upgrade().is_none());
    }

    #[test]
    fn a_long_way_up_is_given_back_without_a_deep_stack() {
        let mut at = Dentry::root(Endless::made());
        for _ in 0..1_000_000 {
            at = at.nameless(b"d", Endless::made());
        }
        drop(at);
        assert!(ALIVE.get() == 0);
    }
}
