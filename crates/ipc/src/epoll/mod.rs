//! epoll(7).
//!
//! Each watched file's wait queue calls a hook that lists the item as *perhaps* ready; the file itself is asked only
//! when someone collects, because a hook runs in the middle of other files' work. An edge is one wake of the queue.
mod nest;

#[cfg(test)]
mod tests;

use abi::poll::EpollEvent;
use abi::{Errno, Result, c};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use vfs::{FileOps, OpenFile, Ready};

const ET: u32 = c::EPOLLET as u32;
const ONESHOT: u32 = c::EPOLLONESHOT as u32;
const EXCLUSIVE: u32 = c::EPOLLEXCLUSIVE as u32;
const WAKEUP: u32 = c::EPOLLWAKEUP as u32;
/// Bits of an item that are not events: what remains of a one-shot item that has fired.
const MODES: u32 = ET | ONESHOT | EXCLUSIVE | WAKEUP;
/// What may go with EPOLLEXCLUSIVE.
const WITH_EXCLUSIVE: u32 =
    c::EPOLLIN as u32 | c::EPOLLOUT as u32 | c::EPOLLERR as u32 | c::EPOLLHUP as u32 | WAKEUP | ET | EXCLUSIVE;

thread_local! {
    /// The most files watched by all instances together: /proc/sys/fs/epoll/max_user_watches.
    pub static MAX_WATCHES: Cell<usize> = const { Cell::new(1 << 20) };
    static WATCHES: Cell<usize> = const { Cell::new(0) };
}

/// Which registration: the descriptor number and the description. The item's weak reference keeps the address from
/// being used again.
type ItemKey = (i32, *const OpenFile);

struct Item {
    key: ItemKey,
    file: Weak<OpenFile>,
    home: Weak<EpollInstance>,
    events: Cell<u32>,
    data: Cell<u64>,
    hook: Cell<Option<u64>>,
    /// In the ready list.
    listed: Cell<bool>,
}

impl Item {
    fn enabled(&self) -> bool {
        self.events.get() & !MODES != 0
    }

    fn ready(&self, file: &OpenFile) -> u32 {
        file.ops().ready().bits() & self.events.get() & !MODES
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        let _ = WATCHES.try_with(|w| w.set(w.get() - 1));
        let Some(file) = self.file.upgrade() else { return };
        if let (Some(q), Some(id)) = (file.ops().waiters(), self.hook.get()) {
            q.unhook(id);
        }
        if let Some(inner) = file.downcast::<EpollInstance>() {
            inner.remove_parent(&self.home);
        }
    }
}

/// An epoll instance. Another file's description may outlive its registration and the other way round.
pub struct EpollInstance {
    items: RefCell<HashMap<ItemKey, Rc<Item>>>,
    /// When so many items are registered, those of closed files are thrown out.
    sweep_at: Cell<usize>,
    list: RefCell<VecDeque<Rc<Item>>>,
    queue: WaitQueue,
    /// Who waits was told, and has not looked yet.
    told: Cell<bool>,
    /// The instances that watch this one.
    parents: RefCell<Vec<Weak<EpollInstance>>>,
    /// What the last look at the nesting found.
    mark: Cell<nest::Mark>,
    me: Weak<EpollInstance>,
}

/// epoll_create1(2). `flags`: EPOLL_CLOEXEC, which is the caller's business. EINVAL for others.
pub fn epoll(flags: i32) -> Result<Rc<OpenFile>> {
    if flags & !c::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(OpenFile::new(EpollInstance::new(), c::O_RDWR, None))
}

impl EpollInstance {
    fn new() -> Rc<EpollInstance> {
        Rc::new_cyclic(|me| EpollInstance {
            items: RefCell::default(),
            sweep_at: Cell::new(64),
            list: RefCell::default(),
            queue: WaitQueue::new(),
            told: Cell::new(false),
            parents: RefCell::default(),
            mark: Cell::default(),
            me: me.clone(),
        })
    }

    /// epoll_ctl(2). `op`: EPOLL_CTL_ADD, _MOD, _DEL (which ignores `event`); `fd`: the number `file` goes by.
    ///
    /// Errors: EPERM (a file that is always ready), EINVAL (itself, bad use of EPOLLEXCLUSIVE, `op`), EEXIST, ENOENT,
    /// ELOOP (instances watching each other in a circle, or more than five deep), ENOSPC.
    pub fn ctl(&self, op: i32, fd: i32, file: &Rc<OpenFile>, event: EpollEvent) -> Result {
        let Some(queue) = file.ops().waiters() else { return Err(Errno::EPERM) };
        let inner = file.downcast::<EpollInstance>();
        if inner.is_some_and(|i| std::ptr::eq(i, self)) {
            return Err(Errno::EINVAL);
        }
        let events = event.events;
        if op != c::EPOLL_CTL_DEL && events & EXCLUSIVE != 0 {
            let add = op == c::EPOLL_CTL_ADD;
            if !add || inner.is_some() || events & !WITH_EXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
        }
        let key = (fd, Rc::as_ptr(file));
        match op {
            c::EPOLL_CTL_ADD => self.add(key, file, queue, inner, event),
            c::EPOLL_CTL_MOD => self.modify(key, file, event),
            c::EPOLL_CTL_DEL => self.delete(key),
            _ => Err(Errno::EINVAL),
        }
    }

    fn add(
        &self,
        key: ItemKey,
        file: &Rc<OpenFile>,
        queue: &WaitQueue,
        inner: Option<&EpollInstance>,
        event: EpollEvent,
    ) -> Result {
        if self.items.borrow().contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        self.sweep();
        if let Some(inner) = inner {
            self.check_nesting(inner)?;
        }
        if WATCHES.get() >= MAX_WATCHES.get() {
            return Err(Errno::ENOSPC);
        }
        WATCHES.set(WATCHES.get() + 1);
        let item = Rc::new(Item {
            key,
            file: Rc::downgrade(file),
            home: self.me.clone(),
            events: Cell::new(event.events | Ready::ERR.bits() | Ready::HUP.bits()),
            data: Cell::new(event.data),
            hook: Cell::new(None),
            listed: Cell::new(false),
        });
        if let Some(inner) = inner {
            inner.parents.borrow_mut().push(self.me.clone());
        }
        let weak = Rc::downgrade(&item);
        let noted = move || match weak.upgrade().and_then(|item| Some((item.home.upgrade()?, item))) {
            Some((home, item)) => home.note(&item),
            None => false,
        };
        let kinds = event.events & (c::EPOLLIN | c::EPOLLOUT) as u32;
        item.hook.set(Some(if event.events & EXCLUSIVE != 0 && kinds != 0 {
            queue.hook_exclusive(kinds, Rc::new(noted))
        } else {
            queue.hook(Rc::new(move || {
                noted();
            }))
        }));
        self.items.borrow_mut().insert(key, item.clone());
        if item.ready(file) != 0 {
            self.note(&item);
        }
        Ok(())
    }

    fn modify(&self, key: ItemKey, file: &OpenFile, event: EpollEvent) -> Result {
        let item = self.items.borrow().get(&key).cloned().ok_or(Errno::ENOENT)?;
        if item.events.get() & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.events.set(event.events | Ready::ERR.bits() | Ready::HUP.bits());
        item.data.set(event.data);
        if item.ready(file) != 0 {
            self.note(&item);
        }
        Ok(())
    }

    fn delete(&self, key: ItemKey) -> Result {
        let item = self.items.borrow_mut().remove(&key).ok_or(Errno::ENOENT)?;
        self.unlist(&item);
        Ok(())
    }

    /// The item may be ready: lists it and tells those who wait. False: nobody does who has not been told already.
    fn note(&self, item: &Rc<Item>) -> bool {
        if !item.enabled() {
            return false;
        }
        self.relist(item);
        let waited_for = !self.queue.is_empty() && !self.told.replace(true);
        self.queue.wake();
        waited_for
    }

    fn relist(&self, item: &Rc<Item>) {
        if !item.listed.replace(true) {
            self.list.borrow_mut().push_back(item.clone());
        }
    }

    fn unlist(&self, item: &Rc<Item>) {
        if item.listed.replace(false) {
            self.list.borrow_mut().retain(|i| !Rc::ptr_eq(i, item));
        }
    }

    /// Takes the first of the `left` first listed items out, and its file. Items of closed files are forgotten on
    /// the way.
    fn pop(&self, left: &mut usize) -> Option<(Rc<Item>, Rc<OpenFile>)> {
        loop {
            *left = left.checked_sub(1)?;
            let item = self.list.borrow_mut().pop_front()?;
            item.listed.set(false);
            match item.file.upgrade() {
                Some(file) => return Some((item, file)),
                None => drop(self.items.borrow_mut().remove(&item.key)),
            }
        }
    }

    /// Throws out the items of closed files, now and then.
    fn sweep(&self) {
        if self.items.borrow().len() < self.sweep_at.get() {
            return;
        }
        let alive = |i: &Rc<Item>| i.file.strong_count() > 0;
        self.list.borrow_mut().retain(alive);
        let mut items = self.items.borrow_mut();
        items.retain(|_, i| alive(i));
        self.sweep_at.set((items.len() * 2).max(64));
    }

    /// epoll_wait(2) without the wait: gives up to `max` events to `emit`, and returns how many. When it is 0 nothing
    /// has changed, so a handler may look, wait on [`waiters`](FileOps::waiters), and look again.
    ///
    /// An error of `emit` leaves that item ready, and is returned if it was the first.
    pub fn try_wait(&self, max: usize, emit: &mut dyn FnMut(EpollEvent) -> Result) -> Result<usize> {
        self.told.set(false);
        let mut n = 0;
        // Level-triggered items go back to the end of the list: not to be met twice.
        let mut left = self.list.borrow().len();
        while n < max
            && let Some((item, file)) = self.pop(&mut left)
        {
            let ready = item.ready(&file);
            if ready == 0 {
                continue;
            }
            if let Err(e) = emit(EpollEvent::new(ready, item.data.get())) {
                if !item.listed.replace(true) {
                    self.list.borrow_mut().push_front(item);
                }
                return if n > 0 { Ok(n) } else { Err(e) };
            }
            n += 1;
            let events = item.events.get();
            if events & ONESHOT != 0 {
                item.events.set(events & MODES);
            } else if events & ET == 0 {
                self.relist(&item);
            }
        }
        Ok(n)
    }

    /// How many files are registered, closed ones not yet noticed included.
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What /proc/PID/fdinfo shows of each registration: descriptor, events, data.
    pub fn for_each(&self, f: &mut dyn FnMut(i32, u32, u64)) {
        let items: Vec<Rc<Item>> = self.items.borrow().values().cloned().collect();
        for i in items.iter().filter(|i| i.file.strong_count() > 0) {
            f(i.key.0, i.events.get(), i.data.get());
        }
    }
}

impl FileOps for EpollInstance {
    fn seekable(&self) -> bool {
        false
    }

    fn ready(&self) -> Ready {
        // Those that turn out not to be ready leave the list, so that nested instances are not asked again and again.
        let mut left = usize::MAX;
        while let Some((item, file)) = self.pop(&mut left) {
            if item.ready(&file) != 0 {
                if !item.listed.replace(true) {
                    self.list.borrow_mut().push_front(item);
                }
                return Ready::IN | Ready::RDNORM;
            }
        }
        Ready::empty()
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
