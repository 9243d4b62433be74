//! Descriptors on their way: SCM_RIGHTS.
//!
//! A socket sent through itself keeps itself alive, and nobody can receive it any more. How many descriptions may be on
//! their way is therefore bounded, and [`collect`] frees such circles when a socket is closed, or many are on their way.
use super::UnixSocket;
use crate::SocketFile;
use abi::{Errno, Result};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use vfs::OpenFile;

/// Descriptions on their way in the whole sandbox, whatever anyone's limit.
const MAX: usize = 1 << 16;
/// With fewer on their way, circles wait for a socket to be closed.
const COLLECT_MIN: usize = 256;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Unix sockets among them: without, there are no circles.
    static SOCKETS: Cell<usize> = const { Cell::new(0) };
    static COLLECT_AT: Cell<usize> = const { Cell::new(COLLECT_MIN) };
    /// Descriptions nobody will receive, to be closed one after the other: closing one may drop others, and a chain
    /// of them is longer than the stack is deep.
    static DYING: RefCell<Vec<Rc<OpenFile>>> = const { RefCell::new(Vec::new()) };
    static CLOSING: Cell<bool> = const { Cell::new(false) };
    /// A socket was closed meanwhile: there may be more to collect.
    static AGAIN: Cell<bool> = const { Cell::new(false) };
    /// Sockets that were sent descriptions.
    static HOLDERS: RefCell<HashMap<*const UnixSocket, Weak<UnixSocket>>> = RefCell::default();
}

/// Before descriptions are sent: ETOOMANYREFS if more than `limit` are on their way already (RLIMIT_NOFILE).
pub fn may_fly(limit: u64) -> Result {
    let too_many = || COUNT.get() as u64 > limit || COUNT.get() >= MAX;
    if COUNT.get() > COLLECT_AT.get() || too_many() {
        collect();
        COLLECT_AT.set((COUNT.get() * 2).max(COLLECT_MIN));
    }
    if too_many() { Err(Errno::ETOOMANYREFS) } else { Ok(()) }
}

/// Descriptions in a message.
pub(super) struct InFlight(Vec<Rc<OpenFile>>);

impl InFlight {
    /// On their way to `to`.
    pub fn new(files: Vec<Rc<OpenFile>>, to: &Rc<UnixSocket>) -> InFlight {
        COUNT.set(COUNT.get() + files.len());
        SOCKETS.set(SOCKETS.get() + sockets_in(&files));
        if !to.holder.replace(true) {
            HOLDERS.with_borrow_mut(|h| h.insert(Rc::as_ptr(to), Rc::downgrade(to)));
        }
        InFlight(files)
    }

    /// They have come.
    pub fn land(mut self) -> Vec<Rc<OpenFile>> {
        let files = std::mem::take(&mut self.0);
        COUNT.set(COUNT.get() - files.len());
        SOCKETS.set(SOCKETS.get() - sockets_in(&files));
        files
    }

    pub fn each(&self, f: &mut dyn FnMut(&Rc<OpenFile>)) {
        self.0.iter().for_each(f);
    }

    /// MSG_PEEK.
    pub fn copy(&self) -> Vec<Rc<OpenFile>> {
        self.0.clone()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let files = std::mem::take(&mut self.0);
        // At the thread's end there may be nothing left to account to.
        let _ = COUNT.try_with(|c| c.set(c.get() - files.len()));
        let _ = SOCKETS.try_with(|c| c.set(c.get() - sockets_in(&files)));
        let _ = DYING.try_with(|d| d.borrow_mut().extend(files));
        if CLOSING.try_with(|c| c.replace(true)) != Ok(false) {
            return;
        }
        while let Ok(Some(f)) = DYING.try_with(|d| d.borrow_mut().pop()) {
            drop(f);
        }
        let _ = CLOSING.try_with(|c| c.set(false));
        if AGAIN.try_with(|a| a.replace(false)) == Ok(true) {
            collect();
        }
    }
}

/// `s` is closed.
pub(super) fn forget(s: &UnixSocket) {
    if s.holder.replace(false) {
        let _ = HOLDERS.try_with(|h| h.borrow_mut().remove(&std::ptr::from_ref(s)));
    }
}

fn socket_of(f: &OpenFile) -> Option<*const UnixSocket> {
    let s = f.downcast::<SocketFile>()?.socket().as_any().downcast_ref::<UnixSocket>()?;
    Some(std::ptr::from_ref(s))
}

fn sockets_in(files: &[Rc<OpenFile>]) -> usize {
    files.iter().filter(|f| socket_of(f).is_some()).count()
}

/// Frees the sockets that only their own messages lead to.
pub(super) fn collect() {
    if SOCKETS.get() == 0 {
        return;
    }
    if CLOSING.get() {
        AGAIN.set(true);
        return;
    }
    // All at once, so that what goes with them is collected after them.
    drop(lost());
}

/// The descriptions on their way to sockets that no descriptor leads to.
fn lost() -> Option<InFlight> {
    let holders: Vec<Rc<UnixSocket>> = HOLDERS.with_borrow(|h| h.values().filter_map(Weak::upgrade).collect());
    // How often each socket's description is on its way, and how many references it has.
    let mut flying: HashMap<*const OpenFile, (usize, usize, *const UnixSocket)> = HashMap::new();
    for h in &holders {
        h.each_right(&mut |f| {
            if let Some(s) = socket_of(f) {
                flying.entry(Rc::as_ptr(f)).or_insert((0, Rc::strong_count(f), s)).0 += 1;
            }
        });
    }
    // At first all whose every reference is on its way; then without those that come to a socket that is not lost.
    let mut lost: HashSet<*const UnixSocket> =
        flying.values().filter(|(flies, all, _)| flies == all).map(|(_, _, s)| *s).collect();
    let mut by_owner: HashMap<*const UnixSocket, Vec<&UnixSocket>> = HashMap::new();
    for h in &holders {
        by_owner.entry(h.owner()).or_default().push(h);
    }
    let mut work: Vec<&UnixSocket> = holders.iter().filter(|h| !lost.contains(&h.owner())).map(|h| &**h).collect();
    while let Some(h) = work.pop() {
        h.each_right(&mut |f| {
            if let Some(s) = socket_of(f)
                && lost.remove(&s)
            {
                work.extend(by_owner.get(&s).into_iter().flatten());
            }
        });
    }
    let mut all: Option<InFlight> = None;
    for mut r in holders.iter().filter(|h| lost.contains(&h.owner())).flat_map(|h| h.take_rights()) {
        match &mut all {
            Some(all) => all.0.append(&mut r.0),
            None => all = Some(r),
        }
    }
    all
}
