//! Descriptors that tell of their readiness by a signal: O_ASYNC, F_SETOWN and F_SETSIG of fcntl(2). Sockets tell their
//! owners of urgent data without O_ASYNC.
use crate::{Kernel, Process, may_signal};
use abi::signal::SigInfo;
use abi::{Errno, Result, c};
use kernel::cred::Cred;
use kernel::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use vfs::{OpenFile, Ready};

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    #[default]
    Nobody,
    Thread(i32),
    Process(i32),
    Group(i32),
}

/// One open file description with an owner, a signal, or O_ASYNC.
struct Entry {
    file: Weak<OpenFile>,
    owner: Cell<Owner>,
    /// Whose right to send it is: that of who named the owner.
    cred: RefCell<Option<Rc<Cred>>>,
    /// 0: SIGIO, without saying more.
    signal: Cell<i32>,
    fd: Cell<i32>,
    hook: Cell<Option<u64>>,
    fired: Cell<bool>,
}

/// Those there are, and those to be told of.
#[derive(Default)]
pub struct Sigio {
    entries: RefCell<HashMap<usize, Rc<Entry>>>,
    fired: Rc<RefCell<Vec<Weak<Entry>>>>,
    /// Descriptions whose owner is to be told of something but readiness, each with a descriptor.
    messages: RefCell<Vec<(Weak<OpenFile>, i32)>>,
}

impl Sigio {
    fn find(&self, f: &Rc<OpenFile>) -> Option<Rc<Entry>> {
        let e = self.entries.borrow().get(&(Rc::as_ptr(f) as usize)).cloned()?;
        e.file.upgrade().is_some_and(|of| Rc::ptr_eq(&of, f)).then_some(e)
    }

    fn entry(&self, f: &Rc<OpenFile>) -> Rc<Entry> {
        if let Some(e) = self.find(f) {
            return e;
        }
        let mut entries = self.entries.borrow_mut();
        entries.retain(|_, e| e.file.strong_count() > 0);
        let e = Rc::new(Entry {
            file: Rc::downgrade(f),
            owner: Cell::default(),
            cred: RefCell::default(),
            signal: Cell::new(0),
            fd: Cell::new(-1),
            hook: Cell::new(None),
            fired: Cell::new(false),
        });
        entries.insert(Rc::as_ptr(f) as usize, e.clone());
        e
    }

    pub fn owner(&self, f: &Rc<OpenFile>) -> Owner {
        self.find(f).map(|e| e.owner.get()).unwrap_or_default()
    }

    pub fn set_owner(&self, f: &Rc<OpenFile>, owner: Owner, cred: Rc<Cred>) {
        let e = self.entry(f);
        e.owner.set(owner);
        e.cred.replace(Some(cred));
        if let Some(queue) = f.ops().waiters().filter(|_| f.ops().urged().is_some()) {
            self.listen(&e, queue);
        }
    }

    /// Hears of what happens to the file, from now on.
    fn listen(&self, e: &Rc<Entry>, queue: &WaitQueue) {
        if e.hook.get().is_some() {
            return;
        }
        let (fired, weak) = (self.fired.clone(), Rc::downgrade(e));
        e.hook.set(Some(queue.hook(Rc::new(move || {
            if weak.upgrade().is_some_and(|e| !e.fired.replace(true)) {
                fired.borrow_mut().push(weak.clone());
            }
        }))));
    }

    pub fn signal(&self, f: &Rc<OpenFile>) -> i32 {
        self.find(f).map_or(0, |e| e.signal.get())
    }

    /// 0: SIGIO. EINVAL for what is no signal.
    pub fn set_signal(&self, f: &Rc<OpenFile>, signal: i32) -> Result {
        if !(0..=64).contains(&signal) {
            return Err(Errno::EINVAL);
        }
        self.entry(f).signal.set(signal);
        Ok(())
    }

    /// O_ASYNC on or off; `fd`: the descriptor it is asked through. ENOTTY: files of this kind do not tell.
    pub fn set_async(&self, f: &Rc<OpenFile>, fd: i32, on: bool) -> Result {
        let queue = f.ops().waiters().filter(|_| f.ops().sigio()).ok_or(Errno::ENOTTY)?;
        let e = self.entry(f);
        f.set_flags(f.flags() & !c::O_ASYNC);
        if on {
            e.fd.set(fd);
            self.listen(&e, queue);
            f.set_flags(f.flags() | c::O_ASYNC);
        } else if let Some(id) = e.hook.take().filter(|_| f.ops().urged().is_none()) {
            queue.unhook(id);
        }
        Ok(())
    }

    /// The owner is told of something but readiness: a lease to be given up, a change in a directory.
    pub fn message(&self, f: Weak<OpenFile>, fd: i32) {
        self.messages.borrow_mut().push((f, fd));
    }

    /// Somebody may have to be told.
    pub fn waits(&self) -> bool {
        !self.fired.borrow().is_empty() || !self.messages.borrow().is_empty()
    }
}

impl Entry {
    fn readiness(&self, ready: Ready) -> Option<SigInfo> {
        // POLL_IN, POLL_OUT, POLL_ERR, POLL_HUP.
        let code = match ready {
            r if r.contains(Ready::HUP) => 6,
            r if r.contains(Ready::ERR) => 4,
            r if r.contains(Ready::IN) => 1,
            r if r.contains(Ready::OUT) => 2,
            _ => return None,
        };
        Some(self.info(code, ready.bits(), self.fd.get()))
    }

    fn info(&self, code: i32, band: u32, fd: i32) -> SigInfo {
        let signal = self.signal.get();
        if signal == 0 {
            return SigInfo::new(c::SIGIO, c::SI_KERNEL);
        }
        let mut info = SigInfo::new(signal, code);
        info.fields[0] = band;
        info.fields[2] = fd as u32;
        info
    }
}

impl Kernel {
    /// Sends what is due.
    pub fn send_sigio(&self) {
        let fired = self.sigio.fired.take();
        for e in fired.iter().filter_map(Weak::upgrade) {
            e.fired.set(false);
            let Some(f) = e.file.upgrade() else { continue };
            let urgent = f.ops().urged().unwrap_or(false).then(|| SigInfo::new(c::SIGURG, c::SI_KERNEL));
            let ready = (f.flags() & c::O_ASYNC != 0).then(|| e.readiness(f.ops().ready())).flatten();
            for info in urgent.into_iter().chain(ready) {
                self.send_to_owner(&e, info);
            }
        }
        const POLL_MSG: i32 = 3;
        const EPOLLMSG: u32 = 0x400;
        for (f, fd) in self.sigio.messages.take() {
            if let Some(e) = f.upgrade().and_then(|f| self.sigio.find(&f)) {
                let band = Ready::IN.bits() | Ready::RDNORM.bits() | EPOLLMSG;
                self.send_to_owner(&e, e.info(POLL_MSG, band, fd));
            }
        }
    }

    fn send_to_owner(&self, e: &Entry, info: SigInfo) {
        let Some(from) = e.cred.borrow().clone() else { return };
        let may = |p: &Rc<Process>| p.leader().is_some_and(|l| may_signal(&from, &l.cred()));
        let tell = |p: &Rc<Process>| {
            if may(p) {
                p.signal(info);
            }
        };
        match e.owner.get() {
            Owner::Nobody => {}
            Owner::Thread(tid) => {
                if let Some(t) = self.task(tid).filter(|t| may_signal(&from, &t.cred())) {
                    t.signal(info);
                }
            }
            Owner::Process(pid) => self.process(pid).iter().for_each(tell),
            Owner::Group(pgid) => self.group(pgid).iter().for_each(tell),
        }
    }
}
