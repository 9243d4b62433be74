//! Private futexes, while they are the host's: threads of one process wait for each other there, and the kernel has no part
//! in it. When it has to see who waits it takes them, for good: threads that wait at the host are fetched, and make their
//! calls again here. `docs/design/slot-protocol.md`, "Futexes".
use crate::Task;
use abi::c;
use std::rc::Rc;

impl Task {
    /// The first thread of an address space stands ready: whose its private futexes are. Not the host's where somebody looks at
    /// calls.
    pub fn place_futexes(&self) {
        let (mm, mem) = (self.mm(), self.mem());
        if mm.users.get() != 1 {
            return;
        }
        let at_host = self.unseen(c::SYS_futex);
        mm.futexes_at_host.set(at_host);
        if !at_host {
            mem.take_futexes();
        }
    }

    /// Private futexes of the thread's address space are the kernel's from now on.
    pub fn take_futexes(&self) {
        let mm = self.mm();
        let Some(mem) = self.memory().filter(|_| mm.futexes_at_host.replace(false)) else { return };
        mem.take_futexes();
        for t in self.kernel.threads_in(&mm) {
            if t.ask.get() == crate::Ask::Outside && t.memory().is_some_and(|m| m.waits_at_host()) {
                mm.fetched.borrow_mut().push((Rc::downgrade(&t), t.asks.get()));
                t.flying.set(true);
                t.notice();
            }
        }
    }

    /// Waits until the threads that waited at the host when the futexes were taken have come.
    pub async fn gathered(&self) {
        let mm = self.mm();
        if mm.fetched.borrow().is_empty() {
            return;
        }
        let come = || {
            let mut fetched = mm.fetched.borrow_mut();
            fetched.retain(|(t, asks)| t.upgrade().is_some_and(|t| !t.dead.get() && t.asks.get() == *asks));
            (fetched.is_empty() || self.gone()).then_some(())
        };
        kernel::wait::until_deaf(&[&mm.landing], come).await.ok();
    }
}
