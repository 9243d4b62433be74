//! Files that are written to are not executed, and the other way round: ETXTBSY.
use abi::{Errno, Result};
use std::cell::RefCell;
use std::collections::HashMap;

/// Device and inode number.
type Id = (u64, u64);

thread_local! {
    /// How many have a file open for writing; below zero, how many programs run it.
    static USES: RefCell<HashMap<Id, i32>> = RefCell::default();
}

/// ETXTBSY if there is a use of the other kind.
fn take(id: Id, step: i32) -> Result {
    USES.with_borrow_mut(|u| {
        let n = u.entry(id).or_insert(0);
        if *n * step < 0 {
            return Err(Errno::ETXTBSY);
        }
        *n += step;
        Ok(())
    })
}

/// How many have a file open for writing.
pub fn writers(id: Id) -> usize {
    USES.with_borrow(|u| u.get(&id).map_or(0, |n| (*n).max(0) as usize))
}

fn give_back(id: Id, step: i32) {
    // A file may be dropped while the thread ends, after the map.
    let _ = USES.try_with(|u| {
        let mut u = u.borrow_mut();
        if let Some(n) = u.get_mut(&id) {
            *n -= step;
            if *n == 0 {
                u.remove(&id);
            }
        }
    });
}

/// A regular file is open for writing.
#[derive(Debug)]
pub struct Writing(Id);

impl Writing {
    /// ETXTBSY: a program runs it.
    pub fn begin(id: Id) -> Result<Writing> {
        take(id, 1).map(|()| Writing(id))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        give_back(self.0, 1);
    }
}

/// A program runs from a file.
#[derive(Debug)]
pub struct Running(Id);

impl Running {
    /// ETXTBSY: it is open for writing.
    pub fn begin(id: Id) -> Result<Running> {
        take(id, -1).map(|()| Running(id))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        give_back(self.0, -1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_programs_exclude_each_other() {
        let id = (1, 2);
        let (a, b) = (Writing::begin(id).unwrap(), Writing::begin(id).unwrap());
        assert_eq!(Running::begin(id).err(), Some(Errno::ETXTBSY));
        drop((a, b));
        let r = Running::begin(id).unwrap();
        let s = Running::begin(id).unwrap();
        drop(r);
        assert_eq!(Writing::begin(id).err(), Some(Errno::ETXTBSY));
        assert!(Writing::begin((1, 3)).is_ok());
        drop(s);
        assert!(Writing::begin(id).is_ok());
        assert!(USES.with_borrow(HashMap::is_empty));
    }
}
