//! Directories that tell of changes by a signal: F_NOTIFY of fcntl(2).
use crate::sigio::Sigio;
use abi::{Result, c};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use vfs::OpenFile;
use vfs::inotify::{Listener, Watch, listen, unlist};

const DN_ACCESS: u32 = 1;
const DN_MODIFY: u32 = 2;
const DN_CREATE: u32 = 4;
const DN_DELETE: u32 = 8;
const DN_RENAME: u32 = 0x10;
const DN_ATTRIB: u32 = 0x20;
/// More than one event.
pub const DN_MULTISHOT: u32 = 0x8000_0000;

thread_local! {
    /// Do directories tell? 0: no. /proc/sys/fs/dir-notify-enable.
    pub static ENABLED: Cell<i32> = const { Cell::new(1) };
}

/// What one process wants to know of one directory through one open file description.
struct Entry {
    file: Weak<OpenFile>,
    pid: i32,
    fd: Cell<i32>,
    wanted: Cell<u32>,
    watch: RefCell<Option<Rc<Watch>>>,
    /// A file left by this move. If it comes back by the same, it was renamed within the directory.
    left: Cell<u32>,
    sigio: Rc<Sigio>,
}

impl Entry {
    fn masks(&self) -> u32 {
        let pairs = [
            (DN_ACCESS, c::IN_ACCESS),
            (DN_MODIFY, c::IN_MODIFY),
            (DN_CREATE, c::IN_CREATE | c::IN_MOVED_TO),
            (DN_DELETE, c::IN_DELETE | c::IN_MOVED_FROM),
            (DN_RENAME, c::IN_MOVED_FROM | c::IN_MOVED_TO),
            (DN_ATTRIB, c::IN_ATTRIB),
        ];
        pairs.iter().filter(|(dn, _)| self.wanted.get() & dn != 0).fold(0, |all, (_, mask)| all | mask)
    }
}

impl Listener for Entry {
    fn told(&self, wd: i32, mask: u32, cookie: u32, _name: &[u8]) {
        let happened = match mask & c::IN_ALL_EVENTS {
            c::IN_ACCESS => DN_ACCESS,
            c::IN_MODIFY => DN_MODIFY,
            c::IN_CREATE => DN_CREATE,
            c::IN_DELETE => DN_DELETE,
            c::IN_ATTRIB => DN_ATTRIB,
            c::IN_MOVED_FROM => {
                self.left.set(cookie);
                DN_DELETE
            }
            c::IN_MOVED_TO if self.left.replace(0) == cookie => DN_CREATE | DN_RENAME,
            c::IN_MOVED_TO => DN_CREATE,
            _ => 0,
        };
        if self.wanted.get() & happened != 0 {
            self.sigio.message(self.file.clone(), self.fd.get());
            if self.wanted.get() & DN_MULTISHOT == 0 {
                self.forget(wd);
            }
        }
    }

    fn forget(&self, _wd: i32) -> bool {
        self.wanted.set(0);
        self.watch.take().inspect(unlist).is_some()
    }
}

/// Everything asked for.
pub struct Dnotify {
    sigio: Rc<Sigio>,
    entries: RefCell<Vec<Rc<Entry>>>,
}

impl Dnotify {
    pub(crate) fn new(sigio: &Rc<Sigio>) -> Dnotify {
        Dnotify { sigio: sigio.clone(), entries: RefCell::default() }
    }

    /// Process `pid` wants to know of what happens in a directory (DN_ACCESS and its kin), besides what it wanted before.
    /// ENOSPC: too many watches.
    pub fn watch(&self, f: &Rc<OpenFile>, fd: i32, pid: i32, wanted: u32) -> Result {
        let Some(place) = f.path() else { return Ok(()) };
        let mut entries = self.entries.borrow_mut();
        entries.retain(|e| e.watch.borrow().is_some());
        let same = |e: &&Rc<Entry>| e.pid == pid && std::ptr::eq(e.file.as_ptr(), Rc::as_ptr(f));
        if let Some(e) = entries.iter().find(same) {
            e.fd.set(fd);
            e.wanted.set(e.wanted.get() | wanted);
            if let Some(w) = &*e.watch.borrow() {
                w.set_mask(e.masks());
            }
            return Ok(());
        }
        let e = Rc::new(Entry {
            file: Rc::downgrade(f),
            pid,
            fd: Cell::new(fd),
            wanted: Cell::new(wanted),
            watch: RefCell::default(),
            left: Cell::new(0),
            sigio: self.sigio.clone(),
        });
        let home: Rc<dyn Listener> = e.clone();
        e.watch.replace(Some(listen(place.inode(), 0, e.masks(), Rc::downgrade(&home))?));
        entries.push(e);
        Ok(())
    }

    /// Process `pid` has closed a descriptor of the directory, or wants to know no more.
    pub fn closed(&self, f: &Rc<OpenFile>, pid: i32) {
        if self.entries.borrow().is_empty() {
            return;
        }
        self.entries.borrow_mut().retain(|e| {
            let over = e.pid == pid && std::ptr::eq(e.file.as_ptr(), Rc::as_ptr(f));
            if over {
                e.forget(0);
            }
            !over
        });
    }
}
