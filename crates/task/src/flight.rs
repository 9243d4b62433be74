//! Changes to an address space on their way: the kernel has decided them, the host does them when the thread that asked
//! gets its answer. Two that overlap, from two threads, must not meet on the way: the later one waits.
use crate::{Mm, Task};
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

impl Mm {
    /// Another thread whose change of some of `range` is on its way.
    pub fn in_flight(&self, t: &Task, range: &Range<u64>) -> Option<Rc<Task>> {
        if self.users.get() < 2 {
            return None;
        }
        let mut flights = self.flights.borrow_mut();
        flights.retain(|f| f.by().is_some());
        let meets = |f: &&Flight| f.range.start < range.end && range.start < f.range.end;
        flights.iter().filter(meets).filter_map(Flight::by).find(|by| !std::ptr::eq(&**by, t))
    }

    /// Waits until no other thread's change of `range` is on its way. What was looked at before may have changed.
    pub async fn landed(&self, t: &Rc<Task>, range: Range<u64>) {
        let Some(by) = self.in_flight(t, &range) else { return };
        kernel::wait::settle().await;
        // It may compute for long before it asks for anything.
        by.notice();
        let clear = || (self.in_flight(t, &range).is_none() || t.gone()).then_some(());
        kernel::wait::until_deaf(&[&self.landing], clear).await.ok();
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
