//! Instances that watch instances: no circles, and no chain so long that a wake would use up the stack.
use super::EpollInstance;
use abi::{Errno, Result};
use std::cell::Cell;
use std::rc::Weak;

/// The most steps from an instance to another.
const MAX_DEPTH: usize = 4;
/// The most instances that watch the same one: a wake goes to all of them, and on from each.
const MAX_PARENTS: usize = 32;

/// What one search found at an instance: the search's number, and the depth.
pub(super) type Mark = (u64, usize);

thread_local! {
    static SEARCH: Cell<u64> = const { Cell::new(0) };
}

fn new_search() -> u64 {
    SEARCH.set(SEARCH.get() + 1);
    SEARCH.get()
}

impl EpollInstance {
    /// May this instance watch `inner`? ELOOP if not; EINVAL if too many watch it already.
    pub(super) fn check_nesting(&self, inner: &EpollInstance) -> Result {
        let below = inner.depth_below(self, new_search(), 0)?;
        let above = self.depth_above(new_search(), 0)?;
        if below + 1 + above > MAX_DEPTH {
            return Err(Errno::ELOOP);
        }
        let mut parents = inner.parents.borrow_mut();
        parents.retain(|p| p.strong_count() > 0);
        if parents.len() >= MAX_PARENTS { Err(Errno::EINVAL) } else { Ok(()) }
    }

    pub(super) fn remove_parent(&self, parent: &Weak<EpollInstance>) {
        let mut parents = self.parents.borrow_mut();
        if let Some(i) = parents.iter().position(|p| p.ptr_eq(parent)) {
            parents.swap_remove(i);
        }
    }

    /// Steps to the farthest instance below. ELOOP if `top` is among them.
    fn depth_below(&self, top: &EpollInstance, search: u64, level: usize) -> Result<usize> {
        if std::ptr::eq(self, top) || level > MAX_DEPTH {
            return Err(Errno::ELOOP);
        }
        if self.mark.get().0 == search {
            return Ok(self.mark.get().1);
        }
        let mut depth = 0;
        for item in self.items.borrow().values() {
            let Some(file) = item.file.upgrade() else { continue };
            if let Some(inner) = file.downcast::<EpollInstance>() {
                depth = depth.max(1 + inner.depth_below(top, search, level + 1)?);
            }
        }
        self.mark.set((search, depth));
        Ok(depth)
    }

    /// Steps to the farthest instance above.
    fn depth_above(&self, search: u64, level: usize) -> Result<usize> {
        if level > MAX_DEPTH {
            return Err(Errno::ELOOP);
        }
        if self.mark.get().0 == search {
            return Ok(self.mark.get().1);
        }
        let mut depth = 0;
        for outer in self.parents.borrow().iter().filter_map(Weak::upgrade) {
            depth = depth.max(1 + outer.depth_above(search, level + 1)?);
        }
        self.mark.set((search, depth));
        Ok(depth)
    }
}
