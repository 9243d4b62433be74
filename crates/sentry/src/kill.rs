//! Ends that ask nobody: SIGKILL, and stubs that died in the host. A hostile thread need not come in when it is kicked.
use crate::serve::Sentry;
use abi::c;
use kernel::timer;
use platform::Platform;
use std::rc::Rc;
use task::{ExitStatus, Process};

const KILLED: ExitStatus = ExitStatus::Signaled(c::SIGKILL, false);
/// How long the thread of a killed process may take to leave an address space that other processes use.
const GRACE_NS: u64 = 1_000_000_000;

impl<P: Platform> Sentry<P> {
    /// Ends the processes that were sent SIGKILL.
    pub fn kill(&mut self) {
        for p in self.k.killed.take() {
            let threads = p.threads();
            let Some(t) = threads.first().filter(|_| !p.zombie.get()) else { continue };
            p.exit_group(KILLED);
            if t.mm().users.get() == threads.len() {
                for t in threads {
                    t.parked.take();
                    t.finish_exit();
                }
            } else {
                // A vfork child: its threads alone cannot be ended from outside.
                let k = self.k.clone();
                let end = host::time::monotonic_ns() + GRACE_NS;
                timer::at(end, Rc::new(move || k.overdue.borrow_mut().push(p.clone())));
            }
        }
        for p in self.k.overdue.take() {
            self.kill_address_space(&p);
        }
    }

    fn kill_address_space(&mut self, p: &Process) {
        let threads = p.threads();
        let Some(t) = threads.first() else { return };
        let tags = self.k.tags_in(&t.mm());
        self.p.kill(t.tag.get());
        self.died(&tags);
    }

    /// The host process of these threads is gone: it was out of memory, or the guest ended itself behind our back.
    pub fn died(&mut self, tags: &[u64]) {
        for tag in tags {
            if let Some(t) = self.k.by_tag(*tag) {
                self.k.note(&format!("the host process of pid {} died", t.process.pid));
                t.process.exit_group(KILLED);
                t.parked.take();
                t.set_mem(None);
                t.finish_exit();
            }
        }
    }
}
