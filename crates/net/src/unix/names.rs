//! The names of unix sockets: paths (by the inode) and abstract names.
use super::UnixSocket;
use crate::{Address, SocketName};
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::{Rc, Weak};

thread_local! {
    static PATHS: RefCell<HashMap<SocketName, Weak<UnixSocket>>> = RefCell::default();
    static ABSTRACT: RefCell<HashMap<Rc<[u8]>, Weak<UnixSocket>>> = RefCell::default();
    static NEXT_AUTO: Cell<u32> = const { Cell::new(0) };
}

/// The socket of this name. ECONNREFUSED: none; EINVAL: not a unix address with a name.
pub(super) fn find(a: &Address) -> Result<Rc<UnixSocket>> {
    let found = match a {
        Address::UnixAbstract(name) => ABSTRACT.with_borrow(|m| m.get(name).and_then(Weak::upgrade)),
        Address::UnixPath { name, .. } => PATHS.with_borrow(|m| m.get(name).and_then(Weak::upgrade)),
        _ => return Err(Errno::EINVAL),
    };
    found.ok_or(Errno::ECONNREFUSED)
}

/// Gives `s` the name. EADDRINUSE: another has it; EINVAL: not a unix address with a name.
pub(super) fn register(s: &Rc<UnixSocket>, a: &Address) -> Result {
    match a {
        Address::UnixAbstract(_) if find(a).is_ok() => return Err(Errno::EADDRINUSE),
        Address::UnixAbstract(name) => ABSTRACT.with_borrow_mut(|m| drop(m.insert(name.clone(), Rc::downgrade(s)))),
        Address::UnixPath { name, .. } => PATHS.with_borrow_mut(|m| drop(m.insert(*name, Rc::downgrade(s)))),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// The name is free again, if it was `s`'s: an accepted socket only shows its listener's.
pub(super) fn forget(s: &UnixSocket, a: &Address) {
    // A socket may be closed while the thread ends, after the lists.
    let _ = match a {
        Address::UnixAbstract(name) => ABSTRACT.try_with(|m| remove(m, name, s)),
        Address::UnixPath { name, .. } => PATHS.try_with(|m| remove(m, name, s)),
        _ => Ok(()),
    };
}

fn remove<K: Eq + Hash>(m: &RefCell<HashMap<K, Weak<UnixSocket>>>, name: &K, s: &UnixSocket) {
    let mut m = m.borrow_mut();
    if m.get(name).is_some_and(|w| std::ptr::eq(w.as_ptr(), s)) {
        m.remove(name);
    }
}

/// An abstract name that is free, unix(7): autobind. ENOSPC if none is.
pub(super) fn auto() -> Result<Address> {
    const NAMES: u32 = 1 << 20;
    for _ in 0..NAMES {
        let n = NEXT_AUTO.get();
        NEXT_AUTO.set((n + 1) % NAMES);
        let a = Address::UnixAbstract(format!("{n:05x}").into_bytes().into());
        if find(&a).is_err() {
            return Ok(a);
        }
    }
    Err(Errno::ENOSPC)
}
