//! Descriptors: which number is which open file.
use crate::OpenFile;
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
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
    /// No number below it is free.
    free_from: Cell<usize>,
}

/// All tables of the sandbox together have no more entries, of 16 bytes: a program may fork with a large one.
const MAX_IN_ALL: usize = 1 << 22;

/// Tables grow by so many entries at Linux, and up to that many there are in any.
const STEP: usize = 64;

thread_local! {
    /// No table grows larger, whatever RLIMIT_NOFILE says: /proc/sys/fs/nr_open.
    pub static NR_OPEN: Cell<u64> = const { Cell::new(1 << 20) };
    static IN_ALL: Cell<usize> = const { Cell::new(0) };
}

/// So many more entries. ENOMEM: there are too many.
fn grow(by: usize) -> Result {
    let all = IN_ALL.get() + by;
    if all > MAX_IN_ALL {
        return Err(Errno::ENOMEM);
    }
    IN_ALL.set(all);
    Ok(())
}

impl Drop for FdTable {
    fn drop(&mut self) {
        IN_ALL.set(IN_ALL.get() - self.entries.get_mut().len());
    }
}

impl FdTable {
    pub fn new() -> Rc<FdTable> {
        Rc::default()
    }

    /// A copy. ENOMEM: the tables of all processes together are too large; EMFILE: it is larger than a new one may be.
    pub fn fork(&self) -> Result<Rc<FdTable>> {
        let v = self.entries.borrow();
        let used = v.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        if used > STEP && used.next_multiple_of(STEP) as u64 > NR_OPEN.get().next_multiple_of(STEP as u64) {
            return Err(Errno::EMFILE);
        }
        grow(used)?;
        Ok(Rc::new(FdTable {
            entries: RefCell::new(v[..used].to_vec()),
            free_from: Cell::new(self.free_from.get().min(used)),
        }))
    }

    /// The lowest free number from `min` on.
    fn lowest_free(&self, v: &[Option<Entry>], min: usize) -> usize {
        let from = min.max(self.free_from.get());
        (from..v.len()).find(|i| v[*i].is_none()).unwrap_or(v.len().max(min))
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
        let at = self.lowest_free(&v, min);
        if at as u64 >= limit.min(NR_OPEN.get()) {
            return Err(Errno::EMFILE);
        }
        if at >= v.len() {
            grow(at + 1 - v.len())?;
            v.resize(at + 1, None);
        }
        v[at] = Some(Entry { file, close_on_exec });
        if min <= self.free_from.get() {
            self.free_from.set(at + 1);
        }
        Ok(at as i32)
    }

    /// EMFILE if no number below `limit` is free.
    pub fn room(&self, limit: u64) -> Result {
        let at = self.lowest_free(&self.entries.borrow(), 0);
        if (at as u64) < limit.min(NR_OPEN.get()) { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Puts a file on a number, closing what was there. EBADF beyond `limit`; ENOMEM: the tables are too large.
    pub fn put(&self, fd: i32, file: Rc<OpenFile>, close_on_exec: bool, limit: u64) -> Result {
        if fd < 0 || fd as u64 >= limit.min(NR_OPEN.get()) {
            return Err(Errno::EBADF);
        }
        let old = {
            let mut v = self.entries.borrow_mut();
            let at = fd as usize;
            if at >= v.len() {
                grow(at + 1 - v.len())?;
                v.resize(at + 1, None);
            }
            v[at].replace(Entry { file, close_on_exec })
        };
        drop(old);
        Ok(())
    }

    /// Closes; the file comes back so that the caller may release its locks.
    pub fn close(&self, fd: i32) -> Result<Rc<OpenFile>> {
        let old = self.entries.borrow_mut().get_mut(fd as usize).and_then(Option::take).ok_or(Errno::EBADF)?;
        self.free_from.set(self.free_from.get().min(fd as usize));
        Ok(old.file)
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

    const MAX: u64 = 1 << 20;

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

    #[test]
    fn all_tables_together_have_a_limit() {
        let t = FdTable::new();
        let file = OpenFile::new(Rc::new(Nothing), 0, None);
        t.put(MAX as i32 - 1, file.clone(), false, MAX).unwrap();
        let mut copies = Vec::new();
        while let Ok(copy) = t.fork() {
            copies.push(copy);
        }
        assert_eq!(copies.len(), MAX_IN_ALL / MAX as usize - 1);
        let other = FdTable::new();
        assert_eq!(other.add(file.clone(), false, 0, MAX), Err(Errno::ENOMEM));
        copies.pop();
        assert_eq!(other.add(file, false, 0, MAX), Ok(0));
        t.close(MAX as i32 - 1).unwrap();
        assert_eq!(t.fork().unwrap().entries.borrow().len(), 0);
    }

    #[test]
    fn a_table_may_be_larger_than_a_new_one() {
        let t = FdTable::new();
        let file = OpenFile::new(Rc::new(Nothing), 0, None);
        t.put(65, file.clone(), false, MAX).unwrap();
        NR_OPEN.set(64);
        assert_eq!(t.fork().err(), Some(Errno::EMFILE));
        assert_eq!(t.put(64, file.clone(), false, MAX), Err(Errno::EBADF));
        t.close(65).unwrap();
        t.put(63, file, false, MAX).unwrap();
        assert!(t.fork().is_ok());
        NR_OPEN.set(MAX);
    }

    #[test]
    fn many_are_added_and_closed_quickly() {
        let t = FdTable::new();
        let file = OpenFile::new(Rc::new(Nothing), 0, None);
        for n in 0..300_000 {
            assert_eq!(t.add(file.clone(), false, 0, MAX), Ok(n));
        }
        for n in (0..300_000).rev() {
            t.close(n).unwrap();
        }
        assert_eq!(t.add(file, false, 0, MAX), Ok(0));
    }
}
