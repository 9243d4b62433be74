//! One guest thread.
use crate::{ExitStatus, Kernel, Mm, Process};
use abi::regs::Regs;
use abi::signal::{SigInfo, SigSet, StackT};
use abi::{Errno, Result};
use guest::Memory;
use guest::ops::{Op, Resume};
use ipc::sysv::sem::UndoList;
use kernel::cred::Cred;
use kernel::seccomp::Seccomp;
use kernel::signal::Pending;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use vfs::{FdTable, FsContext};

thread_local! {
    static CALLER: Cell<(i32, i32)> = const { Cell::new((1, 1)) };
}

/// The process and thread whose call is being served: what /proc/self means, and whose signals a signalfd reads.
pub fn caller() -> (i32, i32) {
    CALLER.get()
}

/// Says whose call is served from now on.
pub fn set_caller(t: &Task) {
    CALLER.set((t.process.pid, t.tid));
}

/// A parked call.
/// Its result; `None`: the number is in no row.
pub type Parked = Pin<Box<dyn Future<Output = Option<Result<i64>>>>>;

/// Why the thread is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ask {
    /// It is not: it runs guest code.
    #[default]
    Outside,
    /// A call, by number.
    Call(u64),
    /// Anything else: a fault, a kick, its first instruction.
    Other,
}

/// What a handler asked for besides a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// The result goes to the guest.
    #[default]
    Return,
    /// As Return, by the slow way: the thread is traced.
    Traced,
    /// The registers in `regs` are loaded.
    Regs,
    /// The program in `exec` takes over.
    Exec,
    /// The host answers the call: a private futex.
    Natively,
    /// As Return, and the guest's side knows from now on that the name is no link.
    NoLink,
    /// The operations are done, then the thread waits on (vfork).
    Pause,
    /// The thread ends.
    Exit,
}

/// A program to be started: what the fresh address space must do, and where it begins.
pub struct Exec {
    pub ops: Vec<Op>,
    pub regs: Regs,
    pub mm: Rc<Mm>,
}

pub struct Task {
    pub tid: i32,
    pub process: Rc<Process>,
    pub kernel: Rc<Kernel>,
    /// The platform's name for it.
    pub tag: Cell<u64>,
    mm: RefCell<Rc<Mm>>,
    mem: RefCell<Option<Rc<dyn Memory>>>,
    cred: RefCell<Rc<Cred>>,
    pub fs: RefCell<Rc<FsContext>>,
    pub ns: RefCell<Rc<crate::ns::Namespaces>>,
    /// What the thread, and those it shares it with, have to undo on semaphores at their end.
    pub sem_undo: RefCell<Option<Rc<UndoList>>>,
    pub files: RefCell<Option<Rc<FdTable>>>,
    pub comm: RefCell<Vec<u8>>,

    pub blocked: Cell<SigSet>,
    /// The mask to go back to once a signal is taken: sigsuspend(2), ppoll(2).
    pub saved_mask: Cell<Option<SigSet>>,
    pub pending: RefCell<Pending>,
    pub altstack: Cell<StackT>,
    /// Woken when a signal arrives, blocked or not: sigtimedwait(2).
    pub signal_wait: kernel::wait::WaitQueue,

    pub ask: Cell<Ask>,
    /// How often it has come into the kernel.
    pub asks: Cell<u64>,
    /// Its last answer changes the address space.
    pub(crate) flying: Cell<bool>,
    /// That is, a call site of it beside other threads (`Mm::unfinished`).
    pub rewriting: Cell<bool>,
    pub args: Cell<[u64; 6]>,
    /// Valid while `full`, or once the context was asked for.
    pub regs: RefCell<Regs>,
    pub full: Cell<bool>,
    /// Where the current call returns to, while `full`.
    pub ip: Cell<u64>,
    pub fp_size: Cell<u64>,
    /// The result of a call whose thread must first show its context.
    pub result: Cell<Option<Result<i64>>>,
    pub outcome: Cell<Outcome>,
    /// A signal taken off the queues whose frame waits for the context.
    pub taken: Cell<Option<SigInfo>>,
    /// The result of a thread that is stopped.
    pub held: Cell<Option<Option<Result<i64>>>>,
    /// `regs` were changed and must be loaded.
    pub changed: Cell<bool>,
    /// The call that restart_syscall(2) stands for.
    pub again: Cell<u64>,
    pub ops: RefCell<Vec<Op>>,
    pub exec: RefCell<Option<Exec>>,
    pub parked: RefCell<Option<Parked>>,
    /// Monotonic deadline of a call that restart_syscall(2) goes on with.
    restart: Cell<Option<u64>>,
    /// What the kernel must do if the host refuses the call's operations.
    pub undo: RefCell<Option<Box<dyn FnOnce(&Task)>>>,

    pub fs_base: Cell<u64>,
    pub clear_child_tid: Cell<u64>,
    pub robust_list: Cell<(u64, u64)>,
    /// personality(2).
    pub persona: Cell<u32>,
    /// PR_SET_TIMERSLACK, and what it falls back to, nanoseconds; kept, not acted on.
    pub timer_slack: Cell<(u64, u64)>,
    /// sched_setscheduler(2): SCHED_OTHER, SCHED_BATCH or SCHED_IDLE; kept, not acted on.
    pub policy: Cell<i32>,
    /// Children have the default again: SCHED_RESET_ON_FORK.
    pub reset_on_fork: Cell<bool>,
    /// set_mempolicy(2).
    pub nodes: Cell<kernel::mm::NodePolicy>,
    /// CPUs of the container's that sched_setaffinity(2) leaves it, a bit each; kept, not acted on.
    pub affinity: Cell<u64>,
    /// The parent that waits for this vfork child to exec or exit.
    pub vfork_parent: RefCell<Option<Rc<Task>>>,
    pub vfork_done: kernel::wait::WaitQueue,
    pub vforking: Cell<bool>,

    pub dead: Cell<bool>,
    /// The thread alone ends: exit(2).
    pub exiting: Cell<bool>,
    /// A tracer wants it to stop (PTRACE_INTERRUPT).
    pub trap: Cell<bool>,
    /// Its calls are looked at before they are made: it is traced, or has a filter.
    pub watched: Cell<bool>,
    pub traced: Cell<bool>,
    pub seccomp: RefCell<Seccomp>,
    pub(crate) trace: RefCell<Option<Rc<crate::Trace>>>,
    /// Whom it traces, the dead too until they are waited for.
    pub tracees: RefCell<Vec<Rc<Task>>>,
    pub coming: Cell<Option<crate::Coming>>,
    /// A call whose filter must see where it comes from: its context is asked for. True: asked before.
    pub filtering: Cell<Option<bool>>,
    /// What it is to do for its tracer while it stands, and that it does.
    pub errand: RefCell<Option<crate::Errand>>,
    pub on_errand: Cell<bool>,
    /// The stop it goes on from, and with which signal.
    pub onward: Cell<Option<(crate::Stop, i32)>>,
    /// It was stopped with its group, and its tracer let it go on.
    pub passed: Cell<bool>,
    /// How a tracee ended that its tracer has not waited for.
    pub died: Cell<Option<ExitStatus>>,
    pub exit_code: Cell<ExitStatus>,
    pub started: u64,
    /// The guest thread has run its first instruction.
    pub alive: Cell<bool>,
}

/// What a thread finds by a number is in its own container.
impl Task {
    fn sees(&self, p: &Process) -> bool {
        p.container == self.process.container
    }

    pub fn find_process(&self, pid: i32) -> Option<Rc<Process>> {
        self.kernel.process(pid).filter(|p| self.sees(p))
    }

    pub fn find_task(&self, tid: i32) -> Option<Rc<Task>> {
        self.kernel.task(tid).filter(|t| self.sees(&t.process))
    }

    pub fn find_group(&self, pgid: i32) -> Vec<Rc<Process>> {
        let mut group = self.kernel.group(pgid);
        group.retain(|p| self.sees(p));
        group
    }

    /// Every process, zombies too, by pid.
    pub fn all_processes(&self) -> Vec<Rc<Process>> {
        let mut all = self.kernel.processes();
        all.retain(|p| self.sees(p));
        all
    }
}

impl Task {
    pub fn new(
        tid: i32,
        process: &Rc<Process>,
        mm: Rc<Mm>,
        cred: Rc<Cred>,
        fs: Rc<FsContext>,
        files: Rc<FdTable>,
    ) -> Rc<Task> {
        mm.users.set(mm.users.get() + 1);
        let t = Rc::new(Task {
            tid,
            process: process.clone(),
            kernel: process.kernel.clone(),
            tag: Cell::new(u64::MAX),
            mm: RefCell::new(mm),
            mem: RefCell::new(None),
            cred: RefCell::new(cred),
            fs: RefCell::new(fs),
            ns: RefCell::new(process.kernel.first.clone()),
            sem_undo: RefCell::new(None),
            files: RefCell::new(Some(files)),
            comm: RefCell::default(),
            blocked: Cell::default(),
            saved_mask: Cell::default(),
            pending: RefCell::default(),
            altstack: Cell::default(),
            signal_wait: Default::default(),
            ask: Cell::default(),
            asks: Cell::default(),
            flying: Cell::default(),
            rewriting: Cell::default(),
            args: Cell::default(),
            regs: RefCell::default(),
            full: Cell::default(),
            ip: Cell::default(),
            fp_size: Cell::default(),
            result: Cell::default(),
            outcome: Cell::default(),
            taken: Cell::default(),
            held: Cell::default(),
            changed: Cell::default(),
            again: Cell::default(),
            ops: RefCell::default(),
            exec: RefCell::new(None),
            parked: RefCell::new(None),
            restart: Cell::default(),
            undo: RefCell::new(None),
            fs_base: Cell::default(),
            clear_child_tid: Cell::default(),
            robust_list: Cell::default(),
            persona: Cell::default(),
            timer_slack: Cell::new((50_000, 50_000)),
            nodes: Cell::default(),
            policy: Cell::default(),
            reset_on_fork: Cell::default(),
            affinity: Cell::new(process.kernel.config.all_cpus()),
            vfork_parent: RefCell::new(None),
            vfork_done: Default::default(),
            vforking: Cell::default(),
            dead: Cell::default(),
            exiting: Cell::default(),
            trap: Cell::default(),
            watched: Cell::default(),
            traced: Cell::default(),
            seccomp: RefCell::default(),
            trace: RefCell::new(None),
            tracees: RefCell::default(),
            coming: Cell::new(None),
            filtering: Cell::new(None),
            errand: RefCell::new(None),
            on_errand: Cell::default(),
            onward: Cell::new(None),
            passed: Cell::default(),
            died: Cell::default(),
            exit_code: Cell::new(ExitStatus::Exited(0)),
            started: host::time::monotonic_ns(),
            alive: Cell::default(),
        });
        process.kernel.add_task(&t);
        process.kernel.assign_tag(&t);
        t
    }

    /// Guest memory, in the current call.
    pub fn mem(&self) -> Rc<dyn Memory> {
        self.mem.borrow().clone().expect("a thread in the kernel has memory")
    }
    pub fn set_mem(&self, m: Option<Rc<dyn Memory>>) {
        *self.mem.borrow_mut() = m;
    }
    /// Guest memory, if there is any yet, and still.
    pub fn memory(&self) -> Option<Rc<dyn Memory>> {
        self.mem.borrow().clone()
    }
    pub fn has_mem(&self) -> bool {
        self.mem.borrow().is_some()
    }
    pub fn mm(&self) -> Rc<Mm> {
        self.mm.borrow().clone()
    }
    pub fn cred(&self) -> Rc<Cred> {
        self.cred.borrow().clone()
    }
    pub fn set_cred(&self, c: Cred) {
        if **self.cred.borrow() != c {
            vfs::names::changed();
        }
        *self.cred.borrow_mut() = Rc::new(c);
    }
    pub fn fs(&self) -> Rc<FsContext> {
        self.fs.borrow().clone()
    }
    /// EBADF once the thread is ending.
    pub fn files(&self) -> Result<Rc<FdTable>> {
        self.files.borrow().clone().ok_or(Errno::EBADF)
    }
    pub fn op(&self, op: Op) {
        self.ops.borrow_mut().push(op);
    }

    /// Replaces the address space (exec): the old one loses a user, and its host thread.
    pub fn change_mm(self: &Rc<Task>, new: Rc<Mm>) {
        self.process.cpu_base.set(self.process.cpu_ns());
        self.release_memory();
        new.users.set(new.users.get() + 1);
        *self.mm.borrow_mut() = new;
        self.kernel.assign_tag(self);
    }

    /// Leaves the address space, telling who waits for it: clear_child_tid, robust futexes.
    pub(crate) fn release_memory(&self) {
        let mm = self.mm();
        let left = mm.users.get() - 1;
        mm.users.set(left);
        if self.has_mem() && (left > 0 || self.robust_list.get().0 != 0) {
            self.kernel.leave_memory(self, &mm);
        }
        kernel::futex::pi::owner_died(self.tid as u32);
        self.set_mem(None);
        if left == 0 {
            mm.space.borrow_mut().end(self.process.pid);
            mm.running.take();
        }
        self.kernel.release_tag(self.tag.get(), left == 0);
    }

    /// The guest's stack pointer in the current call.
    pub fn sp(&self) -> u64 {
        if self.full.get() { self.regs.borrow().rsp } else { self.mem().stack_pointer() }
    }

    /// The parent of a vfork child may go on.
    pub fn end_vfork(&self) {
        if let Some(p) = self.vfork_parent.take() {
            p.vforking.set(false);
            p.vfork_done.wake();
        }
    }

    /// The deadline of a call: `fresh`, or on a restart the one it had.
    pub fn restart_deadline(&self, fresh: u64) -> u64 {
        if self.ask.get() == Ask::Call(abi::c::SYS_restart_syscall as u64) {
            self.restart.get().unwrap_or(fresh)
        } else {
            fresh
        }
    }
    pub fn set_restart_deadline(&self, deadline: u64) {
        self.restart.set(Some(deadline));
    }
    pub fn restart(&self) -> Option<u64> {
        self.restart.get()
    }

    /// CPU time of the thread, nanoseconds: that of its process, as the host tells nobody else a single thread's.
    pub fn cpu_ns(&self) -> u64 {
        self.process.cpu_ns()
    }

    /// CPU time of the host process it runs in, nanoseconds.
    pub fn host_cpu_ns(&self) -> u64 {
        let pid = self.mem.borrow().as_ref().map_or(0, |m| m.host_pid());
        host::time::process_cpu_ns(pid).unwrap_or(0)
    }

    /// Something changed for the thread: a signal, its end. A parked call looks again; a running thread is fetched.
    pub fn notice(&self) {
        match self.ask.get() {
            Ask::Outside => self.kernel.kicks.borrow_mut().push(self.tag.get()),
            _ => kernel::sched::make_ready(self.tag.get()),
        }
    }

    /// Signals that would be delivered now.
    pub fn deliverable(&self) -> SigSet {
        self.pending_set().without(self.blocked.get())
    }

    /// Signals sent to the thread or its process, and not yet taken.
    pub fn pending_set(&self) -> SigSet {
        self.pending.borrow().set().with(self.process.pending.borrow().set())
    }

    /// The thread, or its group, is to end.
    pub fn gone(&self) -> bool {
        self.exiting.get() || self.process.exiting.get().is_some()
    }

    /// Must a wait end?
    pub fn interrupted(&self) -> bool {
        self.exiting.get() | self.trap.get()
            || self.process.exiting.get().is_some()
            || self.stop_due()
            || !self.deliverable().is_empty()
    }

    /// Is it to stand still with its group?
    pub fn stop_due(&self) -> bool {
        self.process.stopped.get().is_some() && !self.passed.get()
    }

    /// Its calls are to be looked at from now on, or no longer.
    pub fn watch(&self) {
        self.watched.set(self.traced.get() || self.seccomp.borrow().mode() != 0);
    }

    pub fn set_seccomp(&self, s: Seccomp) {
        self.seccomp.replace(s);
        self.watch();
        self.review_answers();
    }

    /// Takes the next signal to deliver.
    pub fn take_signal(&self) -> Option<SigInfo> {
        self.take_from(SigSet(!self.blocked.get().0))
    }

    /// The thread goes on with the registers in `regs`.
    pub fn resume_with(&self, r: Regs) {
        *self.regs.borrow_mut() = r;
        self.outcome.set(Outcome::Regs);
    }

    /// What the platform is told.
    pub fn resume(&self) -> Resume {
        match self.outcome.take() {
            Outcome::Regs => Resume::Regs,
            Outcome::Exit => Resume::Exit,
            Outcome::Pause => Resume::Pause,
            _ => Resume::Unchanged,
        }
    }
}
