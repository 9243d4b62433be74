//! The end of threads and processes: exit(2), exit_group(2), death by a signal.
use crate::{Process, Task};
use guest::Memory;
use std::rc::Rc;

/// How a process ended, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    Exited(u8),
    /// By a signal; true: a core would have been dumped.
    Signaled(i32, bool),
}

impl ExitStatus {
    /// The status word of wait4(2).
    pub fn word(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => (code as i32) << 8,
            ExitStatus::Signaled(sig, core) => sig | if core { 0x80 } else { 0 },
        }
    }
    /// si_code and si_status of waitid(2).
    pub fn siginfo(self) -> (i32, i32) {
        match self {
            ExitStatus::Exited(code) => (abi::c::CLD_EXITED, code as i32),
            ExitStatus::Signaled(sig, true) => (abi::c::CLD_DUMPED, sig),
            ExitStatus::Signaled(sig, false) => (abi::c::CLD_KILLED, sig),
        }
    }
}

impl Process {
    /// Begins the end of the whole group. The first status given stays; every thread is told to go.
    pub fn exit_group(&self, status: ExitStatus) {
        if self.exiting.get().is_some() {
            return;
        }
        self.exiting.set(Some(status));
        for t in self.threads() {
            t.notice();
        }
    }
}

/// Memory as it is at this moment: other threads look at these words.
struct Now(Rc<dyn Memory>);

impl Memory for Now {
    fn read(&self, addr: u64, buf: &mut [u8]) -> abi::Result {
        self.0.read_now(addr, buf)
    }
    fn write(&self, addr: u64, bytes: &[u8]) -> abi::Result {
        self.0.write_now(addr, bytes)
    }
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> abi::Result<usize> {
        self.0.read_now(addr, buf).map(|()| buf.len())
    }
}

impl crate::Kernel {
    /// A thread leaves an address space that others still use: they are told through its robust list and clear_child_tid.
    pub(crate) fn leave_memory(&self, t: &Task, mm: &crate::Mm) {
        let mem = Now(t.mem());
        let wake = |addr: u64| {
            for private in [true, false] {
                let _ = kernel::futex::wake(mm.futex_key(addr, private), 1, kernel::futex::ANY);
            }
        };
        let (head, _) = t.robust_list.get();
        if head != 0 {
            kernel::futex::exit_robust_list(&mem, head, t.tid as u32, &mut |addr| wake(addr));
        }
        let clear = t.clear_child_tid.replace(0);
        // Nobody is left to see it in an address space that ends (mm_release in Linux).
        if clear != 0 && mm.users.get() > 0 && mem.write(clear, &0u32.to_ne_bytes()).is_ok() {
            wake(clear);
        }
    }

    /// Closes a table of descriptors, if nobody else shares it.
    pub(crate) fn close_files(&self, files: Rc<vfs::FdTable>, owner: &Process) {
        if Rc::strong_count(&files) > 1 {
            return;
        }
        for fd in files.numbers(0, u32::MAX) {
            if let Ok(f) = files.close(fd) {
                self.closed(f, owner.pid);
            }
        }
    }
}

impl Task {
    /// What semop(2) was to undo is undone, if nobody else shares the list.
    pub fn undo_semaphores(&self) {
        if let Some(list) = self.sem_undo.take() {
            list.leave(self.process.pid);
        }
    }

    /// The thread is gone: its traces in memory, its place in the group; with the last thread the process ends.
    pub fn finish_exit(self: &Rc<Task>) {
        let p = self.process.clone();
        if self.dead.replace(true) {
            return;
        }
        p.cpu_at_exit.set(p.cpu_ns());
        self.release_memory();
        self.kernel.forget_task(self);
        p.threads.borrow_mut().retain(|t| !Rc::ptr_eq(t, self));
        self.end_vfork();
        self.undo_semaphores();
        if let Some(files) = self.files.borrow_mut().take() {
            self.kernel.close_files(files, &p);
        }
        self.release_tracees();
        let status = p.exiting.get().unwrap_or(self.exit_code.get());
        self.exit_code.set(status);
        self.tracee_died(status);
        if p.threads.borrow().is_empty() {
            p.become_zombie(status);
        } else {
            p.ended.wake();
        }
    }
}

impl Process {
    fn become_zombie(self: &Rc<Process>, status: ExitStatus) {
        let k = &self.kernel;
        self.exiting.set(Some(status));
        self.zombie.set(true);
        self.ended.wake();
        self.timers_off();
        // Children go to pid 1, or vanish with it.
        let children: Vec<_> = self.children.borrow_mut().drain(..).collect();
        if self.pid == 1 {
            k.end(status);
            return;
        }
        if self.is_init() {
            return self.end_container(&children);
        }
        // Or to the nearest ancestor that asked for them (PR_SET_CHILD_SUBREAPER).
        let mut heir = self.parent();
        while let Some(p) = &heir
            && !p.child_subreaper.get()
        {
            heir = p.parent();
        }
        let init = heir.or_else(|| k.process(self.container));
        for c in children {
            if let Some(init) = &init {
                c.adopt(init);
                init.children.borrow_mut().push(c.clone());
                c.orphaned_by(self);
                if c.death_signal() {
                    c.exit_notify();
                }
            }
        }
        if self.sid.get() == self.pid {
            self.leave_terminal(true);
        }
        if let Some(parent) = self.parent() {
            self.orphaned_by(&parent);
        }
        self.exit_notify();
    }

    /// Everything else in the container ends too, and nobody waits for it.
    fn end_container(self: &Rc<Process>, children: &[Rc<Process>]) {
        for c in children {
            c.disown();
            c.exit_notify();
        }
        for p in self.kernel.processes() {
            if p.container == self.pid && p.pid != self.pid {
                p.signal(abi::signal::SigInfo::from_user(abi::c::SIGKILL, abi::c::SI_KERNEL, 0, 0));
            }
        }
        if self.sid.get() == self.pid {
            self.leave_terminal(true);
        }
        self.exit_notify();
    }

    /// Tells the parent; a parent that ignores SIGCHLD leaves no zombie.
    pub(crate) fn exit_notify(self: &Rc<Process>) {
        if !self.zombie.get() {
            return;
        }
        if let Some(by) = self.heir_tracer() {
            let (code, value) = self.exiting.get().unwrap_or(ExitStatus::Exited(0)).siginfo();
            by.process.signal(abi::signal::SigInfo::child(code, self.pid, 0, value));
            return by.process.child_wait.wake();
        }
        let Some(parent) = self.parent() else {
            let status = self.exiting.get().unwrap_or(ExitStatus::Exited(0));
            self.kernel.ended_outside.borrow_mut().push((self.pid, status));
            return self.reap();
        };
        if self.notify_parent_of_exit(&parent) {
            self.reap();
        }
        parent.child_wait.wake();
    }

    /// Takes the zombie out of the tree.
    pub fn reap(self: &Rc<Process>) {
        if let Some(t) = self.dead_leader.take() {
            t.forget_tracer();
        }
        if let Some(parent) = self.parent() {
            parent.children.borrow_mut().retain(|c| !Rc::ptr_eq(c, self));
            parent.add_child_times(self);
        }
        self.kernel.forget_process(self);
        self.ended.wake();
    }
}
