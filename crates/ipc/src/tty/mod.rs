//! Terminals of the sandbox: pseudo-terminal pairs, their line discipline, and /dev/pts. pty(7), termios(3).
//!
//! A [`Tty`] is one pair. What the master writes is input the slave reads; what the slave writes, and the echo, is
//! output the master reads. Which process may do what is the system call layer's to say; signals to groups go out
//! through [`Control`].
mod console;
pub mod devpts;
mod file;
mod ldisc;
mod output;
mod termios;

pub use console::Console;
pub use file::{Master, Slave, slave_of};
pub use termios::{TERMIOS, TERMIOS2, Termios};

use abi::{Errno, Result, c};
use kernel::wait::WaitQueue;
use ldisc::Line;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use vfs::{Attr, OpenFile};

/// Major device numbers: /dev/tty and /dev/ptmx are 5:0 and 5:2, /dev/pts/N is 136:N.
pub const TTYAUX_MAJOR: u32 = 5;
pub const PTS_MAJOR: u32 = 136;
/// As /proc/sys/kernel/pty/max.
const MAX: u32 = 4096;

/// What a master in packet mode reads before its data, ioctl_tty(2).
const TIOCPKT_FLUSHREAD: u8 = 1;
const TIOCPKT_FLUSHWRITE: u8 = 2;
const TIOCPKT_STOP: u8 = 4;
const TIOCPKT_START: u8 = 8;
const TIOCPKT_NOSTOP: u8 = 16;
const TIOCPKT_DOSTOP: u8 = 32;
const TIOCPKT_IOCTL: u8 = 64;

/// What terminals ask of the task tree.
pub trait Control {
    /// Sends a signal of the kernel's own to a process group.
    fn signal_group(&self, group: i32, sig: i32);
    /// The terminal that controlled `session` is gone: its members have none, its leader is told by SIGHUP and SIGCONT.
    fn hung_up(&self, session: i32, foreground: i32);
}

/// Every terminal of the sandbox: the one instance of devpts.
#[derive(Default)]
pub struct Terminals {
    control: RefCell<Option<Rc<dyn Control>>>,
    /// Those whose master is open, and their names in /dev/pts.
    list: RefCell<BTreeMap<u32, (Rc<Tty>, Rc<devpts::Node>)>>,
    /// Numbers in use: also of those without a master that somebody still has open.
    used: RefCell<std::collections::BTreeSet<u32>>,
    /// Where devpts is mounted.
    root: RefCell<Option<vfs::Path>>,
    dev: Cell<u64>,
}

impl Terminals {
    pub fn set_control(&self, control: Rc<dyn Control>) {
        *self.control.borrow_mut() = Some(control);
    }

    fn control(&self) -> Option<Rc<dyn Control>> {
        self.control.borrow().clone()
    }

    /// devpts, once it is mounted somewhere.
    pub fn file_system(&self) -> Option<Rc<vfs::Super>> {
        self.root.borrow().as_ref().map(|p| p.mount.sb.clone())
    }

    /// Says where devpts is mounted, for files that are opened without a name.
    pub fn mounted(&self, root: vfs::Path) {
        *self.root.borrow_mut() = Some(root);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.used.borrow().len()
    }

    pub fn get(&self, index: u32) -> Option<Rc<Tty>> {
        self.list.borrow().get(&index).map(|e| e.0.clone())
    }

    /// A new pair, its slave locked and owned by `uid`. ENOSPC: there are too many.
    pub fn create(self: &Rc<Self>, uid: u32) -> Result<Master> {
        let index = (0..MAX).find(|i| !self.used.borrow().contains(i)).ok_or(Errno::ENOSPC)?;
        let tty = Rc::new(Tty {
            index,
            terminals: Rc::downgrade(self),
            line: RefCell::default(),
            to_slave: WaitQueue::new(),
            to_master: WaitQueue::new(),
            window: Cell::default(),
            session: Cell::default(),
            foreground: Cell::default(),
            locked: Cell::new(true),
            exclusive: Cell::default(),
            slaves: Cell::default(),
            left: Cell::default(),
            hung_up: Cell::default(),
        });
        self.used.borrow_mut().insert(index);
        let node = devpts::Node::slave(self.dev.get(), index, uid);
        self.list.borrow_mut().insert(index, (tty.clone(), Rc::new(node)));
        Ok(Master::new(tty))
    }

    /// The slave under its name in /dev/pts.
    pub fn open_slave(&self, tty: &Rc<Tty>, flags: i32, privileged: bool) -> Result<Rc<OpenFile>> {
        let root = self.root.borrow().clone();
        let path = root.and_then(|r| {
            let dentry = r.dentry.child(tty.index.to_string().as_bytes()).ok()?;
            Some(vfs::Path { mount: r.mount.clone(), dentry })
        });
        Ok(OpenFile::new(Rc::new(Slave::open(tty, privileged)?), flags, path))
    }
}

/// One pseudo-terminal pair.
pub struct Tty {
    pub index: u32,
    terminals: Weak<Terminals>,
    line: RefCell<Line>,
    /// Woken for those at the slave, and at the master.
    to_slave: WaitQueue,
    to_master: WaitQueue,
    /// `struct winsize`.
    window: Cell<[u8; 8]>,
    /// The session it controls, 0: none; and the group in its foreground.
    pub session: Cell<i32>,
    pub foreground: Cell<i32>,
    locked: Cell<bool>,
    exclusive: Cell<bool>,
    /// Open descriptions of the slave.
    slaves: Cell<usize>,
    /// The slave was open, and is no more.
    left: Cell<bool>,
    /// The master is closed: there is nothing left to do here.
    hung_up: Cell<bool>,
}

impl Tty {
    /// Changes the line, then tells whom that concerns.
    fn change<T>(&self, f: impl FnOnce(&mut Line) -> T) -> T {
        let (out, signals) = {
            let mut line = self.line.borrow_mut();
            let out = f(&mut line);
            (out, std::mem::take(&mut line.signals))
        };
        for sig in signals {
            self.signal(sig);
        }
        self.to_slave.wake();
        self.to_master.wake();
        out
    }

    /// Sends a signal to the foreground group.
    fn signal(&self, sig: i32) {
        let group = self.foreground.get();
        let control = self.terminals.upgrade().and_then(|t| t.control());
        if let Some(control) = control
            && group > 0
        {
            control.signal_group(group, sig);
        }
    }

    pub fn is_hung_up(&self) -> bool {
        self.hung_up.get()
    }

    pub fn has_flag(&self, lflag: u32) -> bool {
        self.line.borrow().termios.l(lflag)
    }

    /// `struct winsize`; the foreground group gets SIGWINCH if it is another.
    pub fn resize(&self, window: [u8; 8]) {
        if self.window.replace(window) != window {
            self.signal(c::SIGWINCH);
        }
    }

    /// The device number of the slave.
    pub fn device(&self) -> u64 {
        c::makedev(PTS_MAJOR, self.index)
    }

    /// Makes it the controlling terminal of `session`, with `group` in the foreground.
    pub fn control(&self, session: i32, group: i32) {
        self.session.set(session);
        self.foreground.set(group);
    }

    /// unlockpt(3), and who owns the slave: for a terminal the sandbox starts with.
    pub fn prepare(&self, uid: u32) {
        self.locked.set(false);
        if let Some(t) = self.terminals.upgrade()
            && let Some((_, node)) = t.list.borrow().get(&self.index)
        {
            node.give(uid);
        }
    }

    /// The master was closed.
    fn hang_up(&self) {
        self.hung_up.set(true);
        let (session, group) = (self.session.take(), self.foreground.take());
        if let Some(terminals) = self.terminals.upgrade() {
            terminals.list.borrow_mut().remove(&self.index);
            if let Some(control) = terminals.control()
                && session > 0
            {
                control.hung_up(session, group);
            }
        }
        self.to_slave.wake();
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if let Some(t) = self.terminals.upgrade() {
            t.used.borrow_mut().remove(&self.index);
        }
    }
}

fn now() -> i64 {
    host::time::realtime_ns() as i64
}

fn blank(dev: u64, ino: u64, mode: u32) -> Attr {
    let t = now();
    Attr { dev, ino, mode, nlink: 1, blksize: 1024, atime: t, mtime: t, ctime: t, ..Attr::default() }
}

#[cfg(test)]
mod tests;
