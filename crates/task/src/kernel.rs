//! The sandbox: every process, and what they share.
use crate::ns::Namespaces;
use crate::{ExitStatus, Mm, Process, Task};
use kernel::userns::Extent;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What the sandbox was started with.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub hostname: String,
    /// Bytes; `None`: the host's.
    pub memory: Cell<Option<u64>>,
    /// Thousandths of a CPU.
    pub millicpus: u64,
    /// The limit on them, if there is one.
    pub quota: Cell<Option<u64>>,
    pub pids: Cell<Option<u64>>,
    /// CPUs the guest sees.
    pub cpus: usize,
    pub vdso: u64,
    pub vdso_len: u64,
    pub hwcap: u64,
    pub hwcap2: u64,
    /// The platform can answer calls without the kernel, and nobody wants to see them all.
    pub answers: bool,
    /// Pid 1 is sent only what it handles, and from outside SIGKILL and SIGSTOP.
    pub guarded_init: bool,
    /// Mappings the host lets one process have.
    pub max_map_count: usize,
    /// Settings of the network that the operator has changed, by their names in /proc/sys.
    pub sysctls: BTreeMap<String, String>,
    /// What the maps of the first user namespace say: of users and of groups, if not that each id is its own.
    pub id_ranges: Option<[Vec<Extent>; 2]>,
}

impl Config {
    /// A bit for each CPU.
    pub fn all_cpus(&self) -> u64 {
        u64::MAX >> (64 - self.cpus.clamp(1, 64))
    }
}

/// Device numbers of file systems that guests mount: above those that are there from the start.
const FIRST_DEV: u64 = 0x80;

/// The largest pid there can be; numbers begin anew at the second.
pub const PID_MAX: i32 = 4_194_304;
const RESERVED_PIDS: i32 = 300;

pub struct Kernel {
    pub config: Config,
    /// The namespaces of the first process.
    pub first: Rc<Namespaces>,
    processes: RefCell<BTreeMap<i32, Rc<Process>>>,
    tasks: RefCell<BTreeMap<i32, Rc<Task>>>,
    by_tag: RefCell<Vec<Option<Rc<Task>>>>,
    next_pid: Cell<i32>,
    /// No pid reaches it: /proc/sys/kernel/pid_max.
    pub pid_max: Cell<i32>,
    /// How addresses are made random, 0: not at all. /proc/sys/kernel/randomize_va_space.
    pub randomize: Cell<i32>,
    next_mm: Cell<u64>,
    last_login: Cell<u32>,
    /// How pid 1 ended; the sandbox ends with it.
    pub ended: Cell<Option<ExitStatus>>,
    /// Threads whose place in the host is to be given up: (tag, the whole address space goes).
    pub gone: RefCell<Vec<(u64, bool)>>,
    /// Threads that must come in from guest code.
    pub kicks: RefCell<Vec<u64>>,
    /// Processes that were sent SIGKILL, and those that did not leave an address space they share: they need not come in
    /// to die.
    pub killed: RefCell<Vec<Rc<Process>>>,
    pub overdue: RefCell<Vec<Rc<Process>>>,
    /// Threads whose exec waits for a fresh stub.
    pub execs: RefCell<Vec<Rc<Task>>>,
    /// Tracees that have something to do for their tracers.
    pub errands: RefCell<Vec<Rc<Task>>>,
    pub mounts: Rc<vfs::MountTable>,
    /// What mount(2) shows of the kernel.
    pub proc_fs: std::cell::OnceCell<Rc<vfs::Super>>,
    pub sys_fs: std::cell::OnceCell<Rc<vfs::Super>>,
    pub cgroup_fs: std::cell::OnceCell<Rc<vfs::Super>>,
    next_dev: Cell<u64>,
    pub locks: vfs::locks::Locks,
    pub queues: Rc<ipc::mqueue::Queues>,
    pub keys: Rc<kernel::keys::Keys>,
    pub sigio: Rc<crate::sigio::Sigio>,
    pub dnotify: crate::dnotify::Dnotify,
    /// Lines for the debug log.
    pub log: RefCell<Vec<String>>,
    /// Monotonic nanoseconds at the start.
    pub boot: u64,
    /// Every terminal.
    pub terminals: Rc<ipc::tty::Terminals>,
    pub loops: block::Loops,
    /// Joined to terminals of the host's, with the process that was started at each.
    pub consoles: RefCell<Vec<(i32, Rc<ipc::tty::Console>)>>,
    /// Processes that were started from outside, and have ended since these were last told.
    pub ended_outside: RefCell<Vec<(i32, ExitStatus)>>,
    /// The group in the foreground of a terminal of the host's.
    pub foreground: Cell<i32>,
    /// The signal being sent comes from the operator, whom pid 1 must obey.
    pub outside_signal: Cell<bool>,
    /// Numbers of calls nobody serves, already logged.
    pub unknown: RefCell<std::collections::HashSet<u64>>,
}

impl Kernel {
    pub fn new(config: Config, mounts: Rc<vfs::MountTable>) -> Rc<Kernel> {
        let sigio = Rc::new(crate::sigio::Sigio::default());
        let k = Rc::new(Kernel {
            first: Namespaces::first(&config.hostname),
            config,
            processes: RefCell::default(),
            tasks: RefCell::default(),
            by_tag: RefCell::default(),
            next_pid: Cell::new(1),
            pid_max: Cell::new(PID_MAX),
            randomize: Cell::new(2),
            next_mm: Cell::new(1),
            last_login: Cell::new(0),
            ended: Cell::new(None),
            gone: RefCell::default(),
            kicks: RefCell::default(),
            killed: RefCell::default(),
            overdue: RefCell::default(),
            execs: RefCell::default(),
            errands: RefCell::default(),
            mounts,
            proc_fs: Default::default(),
            sys_fs: Default::default(),
            cgroup_fs: Default::default(),
            next_dev: Cell::new(FIRST_DEV),
            locks: Default::default(),
            queues: ipc::mqueue::Queues::new(),
            keys: kernel::keys::Keys::new(),
            dnotify: crate::dnotify::Dnotify::new(&sigio),
            sigio,
            log: RefCell::default(),
            boot: host::time::monotonic_ns(),
            terminals: Default::default(),
            loops: Default::default(),
            consoles: Default::default(),
            ended_outside: Default::default(),
            foreground: Cell::new(1),
            outside_signal: Cell::new(false),
            unknown: RefCell::default(),
        });
        k.terminals.set_control(crate::jobs::control(&k));
        k
    }

    /// A pid that no process, thread, group or session uses. EAGAIN at the limit on processes.
    pub fn new_pid(&self) -> abi::Result<i32> {
        let limit = self.config.pids.get().unwrap_or(1 << 15).min(1 << 15) as usize;
        if self.tasks.borrow().len() >= limit {
            return Err(abi::Errno::EAGAIN);
        }
        for _ in 0..self.pid_max.get() {
            let next = self.next_pid.get();
            let pid = if next >= self.pid_max.get() { RESERVED_PIDS } else { next };
            self.next_pid.set(pid + 1);
            let procs = self.processes.borrow();
            let used = procs.contains_key(&pid)
                || self.tasks.borrow().contains_key(&pid)
                || procs.values().any(|p| p.pgid.get() == pid || p.sid.get() == pid);
            if !used {
                return Ok(pid);
            }
        }
        Err(abi::Errno::EAGAIN)
    }

    /// The number that was given out last. It is also how many threads there have been, until they begin anew.
    pub fn last_pid(&self) -> i32 {
        self.next_pid.get() - 1
    }

    /// As if it were that number.
    pub fn set_last_pid(&self, pid: i32) {
        self.next_pid.set(pid + 1);
    }

    /// A device number for a file system that is mounted.
    pub fn new_dev(&self) -> u64 {
        self.new_devs(1)
    }

    /// The first of `n` such numbers.
    pub fn new_devs(&self, n: u64) -> u64 {
        self.next_dev.replace(self.next_dev.get() + n)
    }

    pub fn new_mm_id(&self) -> u64 {
        self.next_mm.replace(self.next_mm.get() + 1)
    }

    /// A number for the session of somebody who logged in.
    pub fn new_login(&self) -> u32 {
        self.last_login.set(self.last_login.get() + 1);
        self.last_login.get()
    }

    /// A platform tag for `t`: the lowest that is free.
    pub fn assign_tag(&self, t: &Rc<Task>) -> u64 {
        let mut tags = self.by_tag.borrow_mut();
        let i = tags.iter().position(Option::is_none).unwrap_or(tags.len());
        if i == tags.len() {
            tags.push(None);
        }
        tags[i] = Some(t.clone());
        t.tag.set(i as u64);
        i as u64
    }

    /// Gives `tag` up. Its host thread is to end; `whole`: with its address space.
    pub fn release_tag(&self, tag: u64, whole: bool) {
        if let Some(x) = self.by_tag.borrow_mut().get_mut(tag as usize) {
            *x = None;
        }
        self.gone.borrow_mut().push((tag, whole));
    }

    pub fn by_tag(&self, tag: u64) -> Option<Rc<Task>> {
        self.by_tag.borrow().get(tag as usize)?.clone()
    }

    /// The tags of all threads in an address space.
    pub fn tags_in(&self, mm: &Rc<Mm>) -> Vec<u64> {
        self.tasks.borrow().values().filter(|t| Rc::ptr_eq(&t.mm(), mm)).map(|t| t.tag.get()).collect()
    }

    /// Is a thread in this address space traced?
    pub fn traced_in(&self, mm: &Rc<Mm>) -> bool {
        self.tasks.borrow().values().any(|t| t.traced.get() && Rc::ptr_eq(&t.mm(), mm))
    }

    /// The threads that live in `mm`.
    pub fn threads_in(&self, mm: &Rc<Mm>) -> Vec<Rc<Task>> {
        self.tasks.borrow().values().filter(|t| Rc::ptr_eq(&t.mm(), mm)).cloned().collect()
    }

    pub fn add_process(&self, p: &Rc<Process>) {
        self.processes.borrow_mut().insert(p.pid, p.clone());
    }

    pub fn add_task(&self, t: &Rc<Task>) {
        self.tasks.borrow_mut().insert(t.tid, t.clone());
        t.process.threads.borrow_mut().push(t.clone());
    }

    pub fn forget_task(&self, t: &Task) {
        self.tasks.borrow_mut().remove(&t.tid);
    }

    pub fn forget_process(&self, p: &Process) {
        self.processes.borrow_mut().remove(&p.pid);
    }

    pub fn process(&self, pid: i32) -> Option<Rc<Process>> {
        self.processes.borrow().get(&pid).cloned()
    }

    pub fn task(&self, tid: i32) -> Option<Rc<Task>> {
        self.tasks.borrow().get(&tid).cloned()
    }

    /// Every process, zombies too, by pid.
    pub fn processes(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().values().cloned().collect()
    }

    pub fn task_count(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Members of a process group.
    pub fn group(&self, pgid: i32) -> Vec<Rc<Process>> {
        self.processes.borrow().values().filter(|p| p.pgid.get() == pgid && !p.zombie.get()).cloned().collect()
    }

    /// A descriptor of process `pid` was closed: its record locks on the file go; with the last, the description's.
    pub fn closed(&self, f: Rc<vfs::OpenFile>, pid: i32) {
        use vfs::locks::Owner;
        f.ops().closed_by(pid);
        self.dnotify.closed(&f, pid);
        if self.locks.is_empty() {
            return;
        }
        if let Some(a) = f.path().and_then(|p| p.inode().attr().ok()) {
            let id = Some((a.dev, a.ino));
            self.locks.release(id, Owner::Process(pid));
            if Rc::strong_count(&f) == 1 {
                self.locks.release(id, Owner::Description(Rc::as_ptr(&f) as usize));
            }
        }
    }

    /// The terminal that a process started from outside was started at.
    pub fn console(&self, pid: i32) -> Option<Rc<ipc::tty::Console>> {
        self.consoles.borrow().iter().find(|(of, _)| *of == pid).map(|(_, c)| c.clone())
    }

    /// A line for the debug log.
    pub fn note(&self, line: &str) {
        let mut log = self.log.borrow_mut();
        if log.len() < 10_000 {
            log.push(line.to_owned());
        }
    }

    /// Memory of the container and what is free of it, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let (total, free) = host::time::memory();
        match self.config.memory.get() {
            Some(m) if m < total => (m, free.min(m)),
            _ => (total, free),
        }
    }

    /// Pid 1 is gone: everything goes.
    pub fn end(&self, status: ExitStatus) {
        self.ended.set(Some(status));
    }
}
