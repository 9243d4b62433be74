//! inotify(7): who watches which file, and what is told.
//!
//! Only what is done through this kernel is seen. While nobody watches anything, a hook is one test of a counter.
use crate::{Dentry, FileOps, Inode, OpenFile, Ready};
use abi::{Errno, Result, c};
use guest::{Memory, Sink, UserOut};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::{Rc, Weak};

type FileId = (u64, u64);

thread_local! {
    /// /proc/sys/fs/inotify: events a new instance holds, instances, watches of all.
    pub static MAX_QUEUED: Cell<usize> = const { Cell::new(16384) };
    pub static MAX_INSTANCES: Cell<usize> = const { Cell::new(128) };
    pub static MAX_WATCHES: Cell<usize> = const { Cell::new(1 << 16) };
    static INSTANCES: Cell<usize> = const { Cell::new(0) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static WATCHES: RefCell<HashMap<FileId, Vec<Rc<Watch>>>> = RefCell::default();
    static COOKIE: Cell<u32> = const { Cell::new(0) };
}

/// Who is told of what happens to a file.
pub trait Listener {
    /// `wd`: the watch's number; `mask`: IN_ACCESS and its kin, IN_ISDIR; `cookie`: joins the two halves of a move.
    fn told(&self, wd: i32, mask: u32, cookie: u32, name: &[u8]);
    /// The watch goes: it was for one event (IN_ONESHOT), or the file is gone. False: there was none.
    fn forget(&self, wd: i32) -> bool;
}

/// One watched file, until [`unlist`] is told.
pub struct Watch {
    wd: i32,
    id: FileId,
    mask: Cell<u32>,
    home: Weak<dyn Listener>,
    /// Keeps the file's number from being used again.
    _inode: Rc<dyn Inode>,
}

#[derive(PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Box<[u8]>,
}

/// An instance: inotify_init1(2).
pub struct Inotify {
    events: RefCell<VecDeque<Event>>,
    watches: RefCell<BTreeMap<i32, Rc<Watch>>>,
    next: Cell<i32>,
    queue: WaitQueue,
    max_queued: usize,
    me: Weak<Inotify>,
}

/// `flags`: IN_NONBLOCK; IN_CLOEXEC is the caller's business. EMFILE: too many instances.
pub fn inotify(flags: i32) -> Result<Rc<OpenFile>> {
    if INSTANCES.get() >= MAX_INSTANCES.get() {
        return Err(Errno::EMFILE);
    }
    INSTANCES.set(INSTANCES.get() + 1);
    let ops = Rc::new_cyclic(|me| Inotify {
        events: RefCell::default(),
        watches: RefCell::default(),
        next: Cell::new(1),
        queue: WaitQueue::new(),
        max_queued: MAX_QUEUED.get(),
        me: me.clone(),
    });
    Ok(OpenFile::new(ops, c::O_RDONLY | flags & c::O_NONBLOCK, None))
}

/// Does anyone watch anything?
pub fn watched() -> bool {
    COUNT.get() > 0
}

/// Joins the two halves of a move.
pub fn new_cookie() -> u32 {
    COOKIE.set(COOKIE.get().wrapping_add(1).max(1));
    COOKIE.get()
}

/// Tells who watches a file; `gone`: its name is, which IN_EXCL_UNLINK asks about.
fn tell(inode: &Rc<dyn Inode>, mask: u32, cookie: u32, name: &[u8], gone: bool) {
    let Ok(a) = inode.attr() else { return };
    let list = WATCHES.with_borrow(|w| w.get(&(a.dev, a.ino)).cloned());
    for w in list.into_iter().flatten() {
        let wants = w.mask.get();
        if wants & mask & c::IN_ALL_EVENTS == 0 || (gone && wants & c::IN_EXCL_UNLINK != 0) {
            continue;
        }
        if let Some(home) = w.home.upgrade() {
            home.told(w.wd, mask, cookie, name);
            if wants & c::IN_ONESHOT != 0 {
                home.forget(w.wd);
            }
        }
    }
}

/// Something was done to a file: its directory's watchers hear of it, with the name, and its own.
pub fn happened(d: &Dentry, mask: u32) {
    if !watched() {
        return;
    }
    let mask = mask | if d.inode.kind() == Ok(c::S_IFDIR) { c::IN_ISDIR } else { 0 };
    let (parent, name) = (d.parent.borrow().clone(), d.name.borrow().clone());
    if let Some(p) = parent {
        tell(&p.inode, mask, 0, &name, d.removed.get());
    }
    tell(&d.inode, mask, 0, b"", false);
}

/// Something was done to a name in a directory; `dir`: it is a directory's.
pub fn named(parent: &Dentry, name: &[u8], mask: u32, cookie: u32, dir: bool) {
    if watched() {
        tell(&parent.inode, mask | if dir { c::IN_ISDIR } else { 0 }, cookie, name, false);
    }
}

/// Something became of a file itself: IN_ATTRIB for its count of links, IN_MOVE_SELF.
pub fn itself(d: &Dentry, mask: u32) {
    if watched() {
        tell(&d.inode, mask, 0, b"", false);
    }
}

/// A name of `d` is gone, or an open file: if it was the last, so is the file, and its watches go. `users`: those that
/// hold the dentry now.
pub fn perhaps_deleted(d: &Rc<Dentry>, users: usize) {
    if !watched() || !d.removed.get() || Rc::strong_count(d) > users {
        return;
    }
    let Ok(a) = d.inode.attr() else { return };
    if a.nlink > 0 && !a.is_dir() {
        return;
    }
    tell(&d.inode, c::IN_DELETE_SELF, 0, b"", false);
    let list = WATCHES.with_borrow(|w| w.get(&(a.dev, a.ino)).cloned());
    for w in list.into_iter().flatten() {
        if let Some(home) = w.home.upgrade() {
            home.forget(w.wd);
        }
    }
}

impl Inotify {
    fn push(&self, wd: i32, mask: u32, cookie: u32, name: &[u8]) {
        let mut events = self.events.borrow_mut();
        let same = |e: &Event| e.wd == wd && e.mask == mask && *e.name == *name;
        if events.back().is_some_and(same) {
            return;
        }
        if events.len() >= self.max_queued {
            if events.len() == self.max_queued {
                events.push_back(Event { wd: -1, mask: c::IN_Q_OVERFLOW, cookie: 0, name: Box::default() });
            }
            return;
        }
        events.push_back(Event { wd, mask, cookie, name: name.into() });
        drop(events);
        self.queue.wake();
    }

    /// inotify_add_watch(2). EEXIST: IN_MASK_CREATE and there is one; ENOSPC: too many.
    pub fn watch(&self, inode: &Rc<dyn Inode>, mask: u32) -> Result<i32> {
        let a = inode.attr()?;
        let id = (a.dev, a.ino);
        let kept = mask & (c::IN_ALL_EVENTS | c::IN_ONESHOT | c::IN_EXCL_UNLINK);
        let old = self.watches.borrow().values().find(|w| w.id == id).cloned();
        if let Some(w) = old {
            if mask & c::IN_MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            w.mask.set(kept | if mask & c::IN_MASK_ADD != 0 { w.mask.get() } else { 0 });
            return Ok(w.wd);
        }
        let wd = self.next.get();
        let w = listen(inode, wd, kept, self.me.clone())?;
        self.next.set(wd.checked_add(1).ok_or(Errno::ENOSPC)?);
        self.watches.borrow_mut().insert(wd, w);
        Ok(wd)
    }

    /// Every watch: its number, the file (device and inode), what it asks for.
    pub fn list(&self) -> Vec<(i32, (u64, u64), u32)> {
        self.watches.borrow().values().map(|w| (w.wd, w.id, w.mask.get())).collect()
    }
}

/// Has `home` told, from now on, of what happens to a file. ENOSPC: too many watches.
pub fn listen(inode: &Rc<dyn Inode>, wd: i32, mask: u32, home: Weak<dyn Listener>) -> Result<Rc<Watch>> {
    let a = inode.attr()?;
    if COUNT.get() >= MAX_WATCHES.get() {
        return Err(Errno::ENOSPC);
    }
    let id = (a.dev, a.ino);
    let w = Rc::new(Watch { wd, id, mask: Cell::new(mask), home, _inode: inode.clone() });
    WATCHES.with_borrow_mut(|all| all.entry(id).or_default().push(w.clone()));
    COUNT.set(COUNT.get() + 1);
    Ok(w)
}

/// No more of that.
pub fn unlist(w: &Rc<Watch>) {
    WATCHES.with_borrow_mut(|all| {
        if let Some(list) = all.get_mut(&w.id) {
            list.retain(|o| !Rc::ptr_eq(o, w));
            if list.is_empty() {
                all.remove(&w.id);
            }
        }
    });
    COUNT.set(COUNT.get() - 1);
}

impl Watch {
    pub fn set_mask(&self, mask: u32) {
        self.mask.set(mask);
    }
}

impl Listener for Inotify {
    fn told(&self, wd: i32, mask: u32, cookie: u32, name: &[u8]) {
        self.push(wd, mask, cookie, name);
    }

    /// inotify_rm_watch(2), and what happens by itself.
    fn forget(&self, wd: i32) -> bool {
        let Some(w) = self.watches.borrow_mut().remove(&wd) else { return false };
        unlist(&w);
        self.push(wd, c::IN_IGNORED, 0, b"");
        true
    }
}

/// Bytes of an event: the name is padded with NULs to a multiple of the head's size.
const HEAD: usize = 16;
fn length(e: &Event) -> usize {
    HEAD + if e.name.is_empty() { 0 } else { (e.name.len() + 1).next_multiple_of(HEAD) }
}

impl FileOps for Inotify {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        let mut done = 0;
        loop {
            let len = match self.events.borrow().front() {
                Some(e) => length(e),
                None if done == 0 => return Err(Errno::EAGAIN),
                None => return Ok(done),
            };
            if dst.remaining() < len {
                return if done == 0 { Err(Errno::EINVAL) } else { Ok(done) };
            }
            let Some(e) = self.events.borrow_mut().pop_front() else { return Ok(done) };
            let mut b = Vec::with_capacity(len);
            b.extend_from_slice(&e.wd.to_ne_bytes());
            b.extend_from_slice(&e.mask.to_ne_bytes());
            b.extend_from_slice(&e.cookie.to_ne_bytes());
            b.extend_from_slice(&((len - HEAD) as u32).to_ne_bytes());
            b.extend_from_slice(&e.name);
            b.resize(len, 0);
            done += dst.put(&b)?;
        }
    }

    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        if self.events.borrow().is_empty() { Ready::empty() } else { Ready::IN | Ready::RDNORM }
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        if cmd as u64 != c::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.events.borrow().iter().map(length).sum();
        UserOut::new(arg).put(mem, &(bytes as i32)).map(|()| 0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.watches.take().values().for_each(unlist);
        INSTANCES.set(INSTANCES.get() - 1);
    }
}
