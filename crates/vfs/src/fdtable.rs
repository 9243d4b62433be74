//! Descriptors: which number is which open file.
use crate::OpenFile;
use abi::{Errno, Result};
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Clone)]
struct Entry {
    file: Rc<OpenFile>,
    close_on_exec: bool,
}

/// A table of descriptors, shared with CLONE_FILES.
#[derive(Default)]
pub struct FdTable {
    entries: RefCell<Vec<Option<Entry>>>,
}

/// No table is larger, whatever RLIMIT_NOFILE says (fs.nr_open).
pub const MAX: u64 = 1 << 20;

impl FdTable {
    pub fn new() -> Rc<FdTable> {
        Rc::default()
    }

    pub fn fork(&self) -> Rc<FdTable> {
        Rc::new(FdTable { entries: RefCell::new(self.entries.borrow().clone()) })
    }

    /// EBADF if it is not open.
    pub fn get(&self, fd: i32) -> Result<Rc<OpenFile>> {
        match self.entries.borrow().get(fd as usize) {
            Some(Some(e)) => Ok(e.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// The lowest free number from `min` on. EMFILE at `limit`.
    pub fn add(&self, file: Rc<OpenFile>, close_on_exec: bool, min: i32, limit: u64) -> Result<i32> {
        let mut v = self.entries.borrow_mut();
        let min = min as usize;
        let at = (min..v.len()).find(|i| v[*i].is_none()).unwrap_or(v.len().max(min));
        if at as u64 >= limit.min(MAX) {
            return Err(Errno::EMFILE);
        }
        if at >= v.len() {
            v.resize(at + 1, None);
        }
        v[at] = Some(Entry { file, close_on_exec });
        Ok(at as i32)
    }

    /// EMFILE if no number below `limit` is free.
    pub fn room(&self, limit: u64) -> Result {
        let v = self.entries.borrow();
        let limit = limit.min(MAX);
        if (v.len() as u64) < limit || v.iter().take(limit as usize).any(Option::is_none) {
            Ok(())
        } else {
            Err(Errno::EMFILE)
        }
    }

    /// Puts a file on a number, closing what was there. EBADF beyond `limit`.
    pub fn put(&self, fd: i32, file: Rc<OpenFile>, close_on_exec: bool, limit: u64) -> Result {
        if fd < 0 || fd as u64 >= limit.min(MAX) {
            return Err(Errno::EBADF);
        }
        let old = {
            let mut v = self.entries.borrow_mut();
            let at = fd as usize;
            if at >= v.len() {
                v.resize(at + 1, None);
            }
            v[at].replace(Entry { file, close_on_exec })
        };
        drop(old);
        Ok(())
    }

    /// Closes; the file comes back so that the caller may release its locks.
    pub fn close(&self, fd: i32) -> Result<Rc<OpenFile>> {
        let old = self.entries.borrow_mut().get_mut(fd as usize).and_then(Option::take);
        old.map(|e| e.file).ok_or(Errno::EBADF)
    }

    pub fn close_on_exec(&self, fd: i32) -> Result<bool> {
        match self.entries.borrow().get(fd as usize) {
            Some(Some(e)) => Ok(e.close_on_exec),
            _ => Err(Errno::EBADF),
        }
    }

    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result {
        match self.entries.borrow_mut().get_mut(fd as usize) {
            Some(Some(e)) => {
                e.close_on_exec = on;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Open numbers in `first..=last`.
    pub fn numbers(&self, first: u32, last: u32) -> Vec<i32> {
        let v = self.entries.borrow();
        let end = (last as usize).saturating_add(1).min(v.len());
        (first as usize..end).filter(|i| v[*i].is_some()).map(|i| i as i32).collect()
    }

    /// execve(2): closes what is marked; the files come back as from [`close`](Self::close).
    pub fn exec(&self) -> Vec<Rc<OpenFile>> {
        let marked = self.numbers(0, u32::MAX).into_iter().filter(|fd| self.close_on_exec(*fd) == Ok(true));
        marked.filter_map(|fd| self.close(fd).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileOps;
    use std::collections::BTreeMap;

    struct Nothing;
    impl FileOps for Nothing {
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }

    /// Against a plain map, with random operations.
    #[test]
    fn agrees_with_a_model() {
        let t = FdTable::new();
        let mut model: BTreeMap<i32, bool> = BTreeMap::new();
        let mut x = 88172645463325252u64;
        let mut next = |n: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % n
        };
        let file = || OpenFile::new(Rc::new(Nothing), 0, None);
        for _ in 0..50_000 {
            let fd = next(40) as i32 - 2;
            let on = next(2) == 0;
            match next(5) {
                0 => {
                    let min = fd.max(0);
                    let free = (min..32).find(|n| !model.contains_key(n));
                    assert_eq!(t.add(file(), on, min, 32).ok(), free);
                    free.map(|n| model.insert(n, on));
                }
                1 => assert_eq!(t.close(fd).is_ok(), model.remove(&fd).is_some()),
                2 => {
                    assert_eq!(t.put(fd, file(), on, 32).is_ok(), (0..32).contains(&fd));
                    if (0..32).contains(&fd) {
                        model.insert(fd, on);
                    }
                }
                3 => {
                    assert_eq!(t.set_close_on_exec(fd, on).is_ok(), model.contains_key(&fd));
                    if let Some(m) = model.get_mut(&fd) {
                        *m = on;
                    }
                }
                _ if next(50) == 0 => {
                    t.exec();
                    model.retain(|_, on| !*on);
                }
                _ => assert_eq!(t.close_on_exec(fd).ok(), model.get(&fd).copied()),
            }
        }
        assert_eq!(t.numbers(0, u32::MAX), model.keys().copied().collect::<Vec<_>>());
    }
}
