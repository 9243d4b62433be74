//! Kernel timers: a callback at a monotonic time.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A pending timer: its deadline and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64, u64);

#[derive(Default)]
struct Timers {
    next: u64,
    pending: BTreeMap<Id, Rc<dyn Fn()>>,
}

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
}

/// Calls `f` once at `deadline` (monotonic nanoseconds), from the kernel's main loop.
pub fn at(deadline: u64, f: Rc<dyn Fn()>) -> Id {
    TIMERS.with_borrow_mut(|t| {
        t.next += 1;
        let id = Id(deadline, t.next);
        t.pending.insert(id, f);
        id
    })
}

/// Forgets a timer; nothing happens if it has fired.
pub fn cancel(id: Id) {
    TIMERS.with_borrow_mut(|t| t.pending.remove(&id));
}

/// When the main loop must call [`fire`] next.
pub fn next_deadline() -> Option<u64> {
    TIMERS.with_borrow(|t| t.pending.first_key_value().map(|(k, _)| k.0))
}

/// Runs what is due at `now`.
pub fn fire(now: u64) {
    loop {
        let due = TIMERS.with_borrow_mut(|t| match t.pending.first_entry() {
            Some(e) if e.key().0 <= now => Some(e.remove()),
            _ => None,
        });
        match due {
            Some(f) => f(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn fires_in_order_once_and_not_when_cancelled() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |n: i32| {
            let log = log.clone();
            Rc::new(move || log.borrow_mut().push(n)) as Rc<dyn Fn()>
        };
        at(20, note(2));
        at(10, note(1));
        let gone = at(15, note(9));
        cancel(gone);
        assert_eq!(next_deadline(), Some(10));
        fire(5);
        assert!(log.borrow().is_empty());
        fire(30);
        fire(30);
        assert_eq!(*log.borrow(), [1, 2]);
        assert_eq!(next_deadline(), None);
    }
}
