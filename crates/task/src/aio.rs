//! A context of io_setup(2): what was done, until it is asked for.
use abi::sys::IoEvent;
use kernel::wait::WaitQueue;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

pub struct Aio {
    /// Events it holds at most.
    pub room: u32,
    events: RefCell<VecDeque<IoEvent>>,
    ended: Cell<bool>,
    changed: WaitQueue,
}

impl Aio {
    pub fn new(room: u32) -> Rc<Aio> {
        Rc::new(Aio { room, events: RefCell::default(), ended: Cell::new(false), changed: WaitQueue::new() })
    }

    pub fn count(&self) -> usize {
        self.events.borrow().len()
    }

    pub fn full(&self) -> bool {
        self.count() >= self.room as usize
    }

    pub fn post(&self, e: IoEvent) {
        self.events.borrow_mut().push_back(e);
        self.changed.wake();
    }

    pub fn take(&self) -> Option<IoEvent> {
        self.events.borrow_mut().pop_front()
    }

    /// io_destroy(2): who waits gets what there is.
    pub fn end(&self) {
        self.ended.set(true);
        self.changed.wake();
    }

    pub fn ended(&self) -> bool {
        self.ended.get()
    }

    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }
}
