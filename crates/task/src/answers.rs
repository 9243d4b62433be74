//! Calls that are answered without the kernel: by the host (`futexes`), or by the guest's side itself, of what it was told.
use crate::Task;
use crate::task::Outcome;
use abi::c;
use vfs::{Path, names};

impl Task {
    /// Whether calls of this number may go by the kernel: nobody looks at them.
    pub(crate) fn unseen(&self, nr: i64) -> bool {
        self.kernel.config.answers && !self.traced.get() && self.seccomp.borrow().allows(nr as u64)
    }

    /// Somebody may look at calls who did not before: the thread's filter is another, or it is traced.
    pub(crate) fn review_answers(&self) {
        if !self.unseen(c::SYS_futex) {
            self.take_futexes();
        }
        if !self.unseen(c::SYS_readlink) {
            names::changed();
        }
    }

    /// The thread asked whether `path` is a link, which leads to `p`, and that is none. It need not ask again until names change.
    pub fn tell_no_link(&self, path: &[u8], p: &Path) {
        let fs = self.fs();
        let told = self.unseen(c::SYS_readlink) && names::may_tell(path, p, &fs.root.borrow());
        let Some(memory) = self.memory().filter(|_| told) else { return };
        if memory.tell_names(names::number()) {
            let memory = std::rc::Rc::downgrade(&memory);
            names::when_changed(move || {
                if let Some(memory) = memory.upgrade() {
                    memory.tell_names(0);
                }
            });
        }
        self.outcome.set(Outcome::NoLink);
    }
}
