//! Changes to an address space on their way: the kernel has decided them, the host does them when the thread that asked
//! gets its answer. Two that overlap, from two threads, must not meet on the way: the later one waits, and goes before
//! those that come after it.
use crate::{Mm, Task};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::{Rc, Weak};

/// One change. It has landed once its thread asks again.
pub(crate) struct Flight {
    range: Range<u64>,
    task: Weak<Task>,
    /// How often the thread had asked when it was decided.
    asks: u64,
}

impl Flight {
    fn by(&self) -> Option<Rc<Task>> {
        self.task.upgrade().filter(|t| !t.dead.get() && t.asks.get() == self.asks)
    }
}

/// Who waits to change what, in the order they came.
#[derive(Default)]
pub(crate) struct Line {
    waiting: RefCell<VecDeque<(u64, Range<u64>)>>,
    next: Cell<u64>,
}

/// A place in the line, until it is dropped.
struct Turn<'a> {
    mm: &'a Mm,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.mm.line.waiting.borrow_mut().retain(|(n, _)| *n != self.number);
        self.mm.landing.wake();
    }
}

impl Line {
    /// Somebody who came before number `before` waits to change some of `range`.
    fn awaits(&self, range: &Range<u64>, before: u64) -> bool {
        self.waiting.borrow().iter().any(|(n, r)| *n < before && meet(r, range))
    }
}

fn meet(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Mm {
    fn line_up(&self, range: Range<u64>) -> Turn<'_> {
        let number = self.line.next.replace(self.line.next.get() + 1);
        self.line.waiting.borrow_mut().push_back((number, range));
        Turn { mm: self, number }
    }

    /// Another thread whose change of some of `range` is on its way.
    pub fn in_flight(&self, t: &Task, range: &Range<u64>) -> Option<Rc<Task>> {
        if self.users.get() < 2 {
            return None;
        }
        let mut flights = self.flights.borrow_mut();
        flights.retain(|f| f.by().is_some());
        flights.iter().filter(|f| meet(&f.range, range)).filter_map(Flight::by).find(|by| !std::ptr::eq(&**by, t))
    }

    /// Waits until no other thread's change of `range` is on its way, and those who waited for it before have made theirs:
    /// a thread that makes one change after the other would keep others out. True if it had to wait: what was looked
    /// at before may have changed.
    pub async fn landed(&self, t: &Rc<Task>, range: Range<u64>) -> bool {
        if self.in_flight(t, &range).is_none() && !self.line.awaits(&range, u64::MAX) {
            return false;
        }
        kernel::wait::settle().await;
        let turn = self.line_up(range.clone());
        let mut noticed = None;
        let clear = || {
            if t.gone() {
                return Some(());
            }
            if self.line.awaits(&range, turn.number) {
                return None;
            }
            let Some(by) = self.in_flight(t, &range) else { return Some(()) };
            // It may compute for long before it asks for anything.
            if noticed.replace(by.tid) != Some(by.tid) {
                by.notice();
            }
            None
        };
        kernel::wait::until_deaf(&[&self.landing], clear).await.ok();
        true
    }

    /// `t` was told to change `range`.
    pub fn takes_off(&self, t: &Rc<Task>, range: Range<u64>) {
        if self.users.get() > 1 {
            self.flights.borrow_mut().push(Flight { range, task: Rc::downgrade(t), asks: t.asks.get() });
            t.flying.set(true);
        }
    }
}

impl Task {
    /// The thread asks: what it was told to do is done.
    pub fn asked(&self) {
        self.asks.set(self.asks.get() + 1);
        if self.flying.replace(false) {
            self.mm().landing.wake();
        }
    }
}
