//! POSIX message queues: mq_overview(7).
pub mod fs;

#[cfg(test)]
mod tests;

use abi::ipc::{MQ_PRIO_MAX, MqAttr};
use abi::{Errno, Result, c};
use guest::Sink;
use kernel::cred::{CAP_SYS_RESOURCE, Cred};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::{Rc, Weak};
use vfs::{Attr, FileOps, Inode, Mount, New, OpenFile, Ready};

/// No limit may be set above these, and nobody gets past them.
const HARD_MSGMAX: i64 = 65_536;
const HARD_MSGSIZEMAX: i64 = 16 << 20;
/// What Linux keeps of a message besides its bytes, and of each priority in use: both count for RLIMIT_MSGQUEUE.
const PER_MESSAGE: u64 = 48;
const PER_PRIORITY: u64 = 48;

/// A limit under /proc/sys/fs/mqueue: its name, what it starts with, and its bounds.
pub const LIMITS: [(&str, i64, i64, i64); 5] = [
    ("queues_max", 256, 0, i32::MAX as i64),
    ("msg_max", 10, 1, HARD_MSGMAX),
    ("msgsize_max", 8192, 128, HARD_MSGSIZEMAX),
    ("msg_default", 10, 1, HARD_MSGMAX),
    ("msgsize_default", 8192, 128, HARD_MSGSIZEMAX),
];
const QUEUES_MAX: usize = 0;
const MSG_MAX: usize = 1;
const MSGSIZE_MAX: usize = 2;
const MSG_DEFAULT: usize = 3;
const MSGSIZE_DEFAULT: usize = 4;

/// Who asks for a queue: what the limits are held against.
pub struct Asker<'a> {
    pub cred: &'a Cred,
    /// RLIMIT_MSGQUEUE: bytes all queues of the user may take.
    pub bytes_max: u64,
}

/// All queues of a sandbox.
pub struct Queues {
    limits: [Cell<i64>; 5],
    by_name: RefCell<BTreeMap<Box<[u8]>, Rc<Queue>>>,
    /// Bytes that each user's queues take at most.
    charged: RefCell<HashMap<u32, u64>>,
    next_ino: Cell<u64>,
    dev: Cell<u64>,
    /// Where mq_open(2) looks for names, whatever is mounted.
    hidden: RefCell<Option<Rc<Mount>>>,
    root: Cell<Attr>,
}

impl Queues {
    pub fn new() -> Rc<Queues> {
        let root = Attr { ino: 1, mode: c::S_IFDIR | 0o1777, nlink: 2, blksize: 4096, ..Attr::default() };
        let q = Rc::new(Queues {
            limits: LIMITS.map(|l| Cell::new(l.1)),
            by_name: RefCell::default(),
            charged: RefCell::default(),
            next_ino: Cell::new(2),
            dev: Cell::new(0),
            hidden: RefCell::default(),
            root: Cell::new(Attr { atime: now(), mtime: now(), ctime: now(), ..root }),
        });
        q.hidden.replace(Some(Mount::hidden(fs::root(&q), "mqueue")));
        q
    }

    /// The directory of the names.
    pub fn place(&self) -> vfs::Path {
        let mount = self.hidden.borrow().clone().expect("set when it was made");
        vfs::Path { dentry: mount.root.clone(), mount }
    }

    pub fn limit(&self, name: &str) -> Option<i64> {
        let i = LIMITS.iter().position(|l| l.0 == name)?;
        Some(self.limits[i].get())
    }

    /// ENOENT: there is no such limit. EINVAL: out of bounds.
    pub fn set_limit(&self, name: &str, to: i64) -> Result {
        let i = LIMITS.iter().position(|l| l.0 == name).ok_or(Errno::ENOENT)?;
        if !(LIMITS[i].2..=LIMITS[i].3).contains(&to) {
            return Err(Errno::EINVAL);
        }
        self.limits[i].set(to);
        Ok(())
    }

    pub fn get(&self, name: &[u8]) -> Option<Rc<Queue>> {
        self.by_name.borrow().get(name).cloned()
    }

    /// A new queue. `attr`: how many messages, of how many bytes. ENOSPC, EINVAL, EMFILE (RLIMIT_MSGQUEUE).
    pub fn create(self: &Rc<Self>, name: &[u8], new: New, attr: Option<MqAttr>, by: &Asker<'_>) -> Result<Rc<Queue>> {
        let privileged = by.cred.has(CAP_SYS_RESOURCE);
        let limit = |i: usize| self.limits[i].get();
        if self.by_name.borrow().len() as i64 >= limit(QUEUES_MAX) && !privileged {
            return Err(Errno::ENOSPC);
        }
        let (messages, size) = match attr {
            Some(a) => (a.maxmsg, a.msgsize),
            None => (limit(MSG_MAX).min(limit(MSG_DEFAULT)), limit(MSGSIZE_MAX).min(limit(MSGSIZE_DEFAULT))),
        };
        let most = if privileged { (HARD_MSGMAX, HARD_MSGSIZEMAX) } else { (limit(MSG_MAX), limit(MSGSIZE_MAX)) };
        if !(1..=most.0).contains(&messages) || !(1..=most.1).contains(&size) {
            return Err(Errno::EINVAL);
        }
        let priorities = (messages as u64).min(MQ_PRIO_MAX.into());
        let bytes = messages as u64 * (size as u64 + PER_MESSAGE) + priorities * PER_PRIORITY;
        let user = by.cred.ruid;
        let mut charged = self.charged.borrow_mut();
        let all = charged.get(&user).copied().unwrap_or(0).saturating_add(bytes);
        if all > by.bytes_max {
            return Err(Errno::EMFILE);
        }
        charged.insert(user, all);
        let t = now();
        let attr = Attr {
            dev: self.dev.get(),
            ino: self.next_ino.replace(self.next_ino.get() + 1),
            mode: c::S_IFREG | new.mode & 0o7777,
            nlink: 1,
            uid: new.uid,
            gid: new.gid,
            size: fs::SHOWN_SIZE,
            blksize: 4096,
            atime: t,
            mtime: t,
            ctime: t,
            ..Attr::default()
        };
        let q = Rc::new_cyclic(|me| Queue {
            attr: Cell::new(attr),
            max: (messages, size),
            messages: RefCell::default(),
            notify: RefCell::new(None),
            receivers: Cell::new(0),
            changed: WaitQueue::new(),
            charge: (user, bytes),
            home: Rc::downgrade(self),
            me: me.clone(),
        });
        self.by_name.borrow_mut().insert(name.into(), q.clone());
        self.touch();
        Ok(q)
    }

    /// mq_unlink(2): the queue is there for those who have it open.
    fn unlink(&self, name: &[u8]) -> Result {
        let q = self.by_name.borrow_mut().remove(name).ok_or(Errno::ENOENT)?;
        q.attr.set(Attr { nlink: 0, ctime: now(), ..q.attr.get() });
        self.touch();
        Ok(())
    }

    fn touch(&self) {
        self.root.set(Attr { mtime: now(), ctime: now(), ..self.root.get() });
    }
}

fn now() -> i64 {
    host::time::realtime_ns() as i64
}

/// What mq_notify(2) asked for.
#[derive(Clone)]
pub enum Notify {
    Nothing,
    Signal {
        sig: i32,
        value: u64,
    },
    /// SIGEV_THREAD: the C library's helper thread is told.
    Thread(Rc<dyn Fn(Told)>),
}

/// What a helper thread is told: a message came, or the registration is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Came = 1,
    Removed = 2,
}

/// One queue.
pub struct Queue {
    attr: Cell<Attr>,
    /// Messages, and bytes of each.
    max: (i64, i64),
    /// By priority; never an empty list.
    messages: RefCell<BTreeMap<u32, VecDeque<Vec<u8>>>>,
    /// The process that is to be told of the next message in an empty queue.
    notify: RefCell<Option<(i32, Notify)>>,
    /// Calls that wait for a message.
    receivers: Cell<usize>,
    changed: WaitQueue,
    charge: (u32, u64),
    home: Weak<Queues>,
    me: Weak<Queue>,
}

/// Counts as a waiting receiver: a message it will have is announced to nobody.
pub struct Receiving(Rc<Queue>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.receivers.set(self.0.receivers.get() - 1);
    }
}

impl Queue {
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    pub fn message_size(&self) -> usize {
        self.max.1 as usize
    }

    pub fn count(&self) -> usize {
        self.messages.borrow().values().map(VecDeque::len).sum()
    }

    /// mq_getattr(3), without the flags.
    pub fn attributes(&self) -> MqAttr {
        MqAttr { maxmsg: self.max.0, msgsize: self.max.1, curmsgs: self.count() as i64, ..MqAttr::default() }
    }

    fn full(&self) -> bool {
        self.count() as i64 >= self.max.0
    }

    pub fn receiving(self: &Rc<Self>) -> Receiving {
        self.receivers.set(self.receivers.get() + 1);
        Receiving(self.clone())
    }

    /// Puts a message in; `None` if there is no room. What comes back is to be told to the process.
    pub fn send(&self, text: &[u8], priority: u32) -> Option<Option<(i32, Notify)>> {
        if self.full() {
            return None;
        }
        let first = self.count() == 0;
        self.messages.borrow_mut().entry(priority).or_default().push_back(text.to_vec());
        self.stamp();
        let told = if first && self.receivers.get() == 0 { self.notify.take() } else { None };
        self.changed.wake();
        Some(told)
    }

    /// Takes the oldest message of the highest priority.
    pub fn receive(&self) -> Option<(Vec<u8>, u32)> {
        let mut all = self.messages.borrow_mut();
        let mut highest = all.last_entry()?;
        let priority = *highest.key();
        let text = highest.get_mut().pop_front()?;
        if highest.get().is_empty() {
            highest.remove();
        }
        drop(all);
        self.stamp();
        self.changed.wake();
        Some((text, priority))
    }

    /// mq_notify(2) with a request. EBUSY: somebody is registered.
    pub fn register(&self, pid: i32, notify: Notify) -> Result {
        let mut there = self.notify.borrow_mut();
        if there.is_some() {
            return Err(Errno::EBUSY);
        }
        *there = Some((pid, notify));
        self.stamp();
        Ok(())
    }

    /// `pid` is no longer to be told.
    pub fn unregister(&self, pid: i32) {
        let gone = self.notify.borrow_mut().take_if(|(owner, _)| *owner == pid);
        if let Some((_, Notify::Thread(tell))) = gone {
            tell(Told::Removed);
        }
    }

    fn stamp(&self) {
        let t = now();
        self.attr.set(Attr { atime: t, ctime: t, ..self.attr.get() });
    }

    /// What read(2) gives.
    fn shown(&self) -> String {
        let bytes: usize = self.messages.borrow().values().flatten().map(Vec::len).sum();
        let (kind, sig, pid) = match &*self.notify.borrow() {
            None => (0, 0, 0),
            Some((pid, Notify::Nothing)) => (c::SIGEV_NONE, 0, *pid),
            Some((pid, Notify::Signal { sig, .. })) => (c::SIGEV_SIGNAL, *sig, *pid),
            Some((pid, Notify::Thread(_))) => (c::SIGEV_THREAD, 0, *pid),
        };
        format!("QSIZE:{bytes:<10} NOTIFY:{kind:<5} SIGNO:{sig:<5} NOTIFY_PID:{pid:<6}\n")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        if let Some(n) = home.charged.borrow_mut().get_mut(&self.charge.0) {
            *n -= self.charge.1;
        }
    }
}

/// An open queue.
pub struct QueueFile(Rc<Queue>);

impl QueueFile {
    pub fn queue(&self) -> &Rc<Queue> {
        &self.0
    }
}

impl FileOps for QueueFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let text = self.0.shown();
        let rest = text.as_bytes().get(offset as usize..).unwrap_or_default();
        if rest.is_empty() { Ok(0) } else { dst.put(&rest[..rest.len().min(dst.remaining())]) }
    }
    fn size(&self) -> Result<u64> {
        self.0.attr().map(|a| a.size)
    }
    fn ready(&self) -> Ready {
        let mut r = Ready::empty();
        if self.0.count() > 0 {
            r |= Ready::IN | Ready::RDNORM;
        }
        if !self.0.full() {
            r |= Ready::OUT | Ready::WRNORM;
        }
        r
    }
    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.0.changed)
    }
    fn closed_by(&self, pid: i32) {
        self.0.unregister(pid);
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
