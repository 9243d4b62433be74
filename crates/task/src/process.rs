//! Processes (thread groups) and their address spaces.
use crate::{ExitStatus, Kernel, Task};
use kernel::mm::AddressSpace;
use kernel::signal::{ActionTable, Pending};
use kernel::wait::WaitQueue;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};

/// No limit, getrlimit(2).
pub const RLIM_INFINITY: u64 = u64::MAX;

/// /proc/PID/loginuid and sessionid of who has not logged in.
pub const NO_LOGIN: u32 = u32::MAX;

/// Soft and hard limits by RLIMIT_ number.
#[derive(Debug, Clone)]
pub struct Rlimits(pub [(u64, u64); 16]);

impl Default for Rlimits {
    fn default() -> Self {
        let mut r = [(RLIM_INFINITY, RLIM_INFINITY); 16];
        r[abi::c::RLIMIT_STACK as usize].0 = 8 << 20;
        r[abi::c::RLIMIT_CORE as usize] = (0, RLIM_INFINITY);
        r[abi::c::RLIMIT_NOFILE as usize] = (1024, 1 << 20);
        r[abi::c::RLIMIT_NPROC as usize] = (1 << 15, 1 << 15);
        r[abi::c::RLIMIT_MEMLOCK as usize] = (8 << 20, 8 << 20);
        r[abi::c::RLIMIT_SIGPENDING as usize] = (1 << 15, 1 << 15);
        r[abi::c::RLIMIT_MSGQUEUE as usize] = (819_200, 819_200);
        r[abi::c::RLIMIT_NICE as usize] = (0, 0);
        r[abi::c::RLIMIT_RTPRIO as usize] = (0, 0);
        Rlimits(r)
    }
}

/// One guest address space: one stub process. Shared by threads, and by a vfork child until it execs.
pub struct Mm {
    /// Names the address space in futex keys.
    pub id: u64,
    pub space: RefCell<AddressSpace>,
    /// Threads that live in it.
    pub users: Cell<usize>,
    /// How often each call site trapped, by the address after the `syscall` instruction.
    pub sites: RefCell<HashMap<u64, u32>>,
    /// Entries of the site table in use; the table is mapped when it is not 0.
    pub sites_used: Cell<usize>,
    /// Instructions after a call that a rewritten site covers, and where each is copied: what a signal interrupted may yet
    /// return there.
    pub covered: RefCell<HashMap<u64, u64>>,
    /// The table's entries of sites whose code is written, for a rewriting beside other threads; by the address that the call
    /// returns to.
    pub prepared: RefCell<HashMap<u64, usize>>,
    /// The site that is being rewritten so.
    pub unfinished: Cell<Option<u64>>,
    /// The bytes that were at each site that was rewritten.
    pub rewritten: RefCell<Rc<BTreeMap<u64, [u8; 7]>>>,
    /// Somebody traces a thread of it: its sites stay as they are in the file.
    pub traced: Cell<bool>,
    /// Registered for membarrier(2)'s private commands.
    pub barriers: Cell<bool>,
    /// Its private futexes are the host's; and threads that were fetched from there when they were taken, with how often each
    /// had asked before.
    pub(crate) futexes_at_host: Cell<bool>,
    pub(crate) fetched: RefCell<Vec<(Weak<crate::Task>, u64)>>,
    /// Changes on their way, and who waits for one to land.
    pub(crate) flights: RefCell<Vec<crate::flight::Flight>>,
    pub(crate) line: crate::flight::Line,
    pub(crate) landing: WaitQueue,
    /// Contexts of io_setup(2), by the address that names them.
    pub aio: RefCell<BTreeMap<u64, Rc<crate::Aio>>>,
    /// Set by exec: what /proc/PID/exe, cmdline, environ and auxv show.
    pub exe: RefCell<Option<vfs::Path>>,
    /// Nobody writes to the program's file while it runs.
    pub running: RefCell<Option<Rc<vfs::busy::Running>>>,
    pub args: Cell<(u64, u64)>,
    pub env: Cell<(u64, u64)>,
    pub auxv: RefCell<Vec<u8>>,
}

impl Mm {
    pub fn new(id: u64, space: AddressSpace) -> Rc<Mm> {
        Rc::new(Mm {
            id,
            space: RefCell::new(space),
            users: Cell::new(0),
            sites: RefCell::default(),
            sites_used: Cell::new(0),
            covered: RefCell::default(),
            prepared: RefCell::default(),
            unfinished: Cell::new(None),
            rewritten: RefCell::default(),
            traced: Cell::new(false),
            barriers: Cell::new(false),
            futexes_at_host: Cell::new(false),
            fetched: RefCell::default(),
            flights: RefCell::default(),
            line: Default::default(),
            landing: WaitQueue::new(),
            aio: RefCell::default(),
            exe: RefCell::new(None),
            running: RefCell::new(None),
            args: Cell::new((0, 0)),
            env: Cell::new((0, 0)),
            auxv: RefCell::default(),
        })
    }

    /// Whether threads of it wait for private futexes at the host.
    pub fn futexes_at_host(&self) -> bool {
        self.futexes_at_host.get()
    }

    /// Names a futex word: by the object for shared mappings.
    pub fn futex_key(&self, addr: u64, private: bool) -> kernel::futex::Key {
        use kernel::futex::Key;
        if !private
            && let Some(v) = self.space.borrow().at(addr)
            && v.shared
            && let Some((file, offset)) = &v.file
        {
            let (dev, ino) = file.dev_ino();
            return Key::Shared { object: dev.rotate_left(32) ^ ino, offset: offset + (addr - v.start) };
        }
        Key::Private { space: self.id, addr }
    }

    /// May the guest write to all of the range?
    pub fn writable(&self, r: std::ops::Range<u64>) -> bool {
        let space = self.space.borrow();
        let all = space.overlapping(r.clone()).all(|v| v.prot & abi::c::PROT_WRITE != 0);
        all && space.check_mapped(r).is_ok()
    }

    /// The range has other contents now: its call sites are to be looked at anew.
    pub fn forget_sites(&self, r: std::ops::Range<u64>) {
        let mut sites = self.sites.borrow_mut();
        if !sites.is_empty() {
            sites.retain(|s, _| !r.contains(s));
            self.covered.borrow_mut().retain(|ip, _| !r.contains(ip));
            self.prepared.borrow_mut().retain(|ip, _| !r.contains(ip));
        }
        let mut rewritten = self.rewritten.borrow_mut();
        if rewritten.range(r.clone()).next().is_some() {
            Rc::make_mut(&mut rewritten).retain(|s, _| !r.contains(s));
        }
    }

    /// What was at sites that are rewritten.
    pub fn keep_rewritten(&self, sites: impl IntoIterator<Item = (u64, [u8; 7])>) {
        Rc::make_mut(&mut self.rewritten.borrow_mut()).extend(sites);
    }

    /// The copy that a forked child has.
    pub fn fork(&self, id: u64) -> Rc<Mm> {
        let m = Mm::new(id, self.space.borrow().fork());
        *m.sites.borrow_mut() = self.sites.borrow().clone();
        m.sites_used.set(self.sites_used.get());
        m.barriers.set(self.barriers.get());
        *m.covered.borrow_mut() = self.covered.borrow().clone();
        *m.prepared.borrow_mut() = self.prepared.borrow().clone();
        m.unfinished.set(self.unfinished.get());
        m.rewritten.replace(self.rewritten.borrow().clone());
        m.exe.replace(self.exe.borrow().clone());
        m.running.replace(self.running.borrow().clone());
        m.args.set(self.args.get());
        m.env.set(self.env.get());
        m.auxv.replace(self.auxv.borrow().clone());
        m
    }
}

/// A thread group.
pub struct Process {
    pub pid: i32,
    pub kernel: Rc<Kernel>,
    parent: RefCell<Weak<Process>>,
    pub children: RefCell<Vec<Rc<Process>>>,
    pub threads: RefCell<Vec<Rc<Task>>>,
    /// The first process of its container. Those of another container do not exist for it.
    pub container: i32,
    /// The thread that made it.
    pub maker: RefCell<Weak<Task>>,
    /// The first thread, if it ended traced and its tracer has not waited for the process.
    pub dead_leader: RefCell<Option<Rc<Task>>>,
    pub pgid: Cell<i32>,
    pub sid: Cell<i32>,
    /// The controlling terminal.
    pub tty: RefCell<Option<Rc<ipc::tty::Tty>>>,
    /// Of a session leader whose terminal is gone: the group that was in its foreground.
    pub old_foreground: Cell<i32>,
    pub actions: RefCell<Rc<RefCell<ActionTable>>>,
    pub pending: RefCell<Pending>,
    pub rlimits: RefCell<Rlimits>,
    /// The signal the parent gets at the end; 0: none.
    pub exit_signal: Cell<i32>,
    /// PR_SET_PDEATHSIG.
    pub parent_death_signal: Cell<i32>,
    pub dumpable: Cell<i32>,
    /// Of the first of a container: there are block devices for those in it.
    pub block_devices: Cell<bool>,
    /// getpriority(2); kept, not acted on.
    pub nice: Cell<i32>,
    /// ioprio_set(2); kept, not acted on.
    pub io_priority: Cell<i32>,
    /// /proc/PID/oom_score_adj, and how low it may be made without a right to; kept, not acted on.
    pub oom_score_adj: Cell<(i32, i32)>,
    /// /proc/PID/loginuid and sessionid.
    pub login: Cell<(u32, u32)>,
    pub child_subreaper: Cell<bool>,
    /// Woken when a thread has done an errand of its tracer's, or is gone.
    pub served: WaitQueue,
    /// Woken when a child changes state.
    pub child_wait: WaitQueue,
    /// The status of a group that is ending or has ended.
    pub exiting: Cell<Option<ExitStatus>>,
    pub zombie: Cell<bool>,
    /// Woken when a thread has ended, when the process has, and when it has been waited for.
    pub ended: WaitQueue,
    /// The signal that stopped the group, while it is stopped.
    pub stopped: Cell<Option<i32>>,
    /// A stop, and a continuation, that wait4 has not reported yet.
    pub stop_report: Cell<Option<i32>>,
    pub continued: Cell<bool>,
    pub has_execed: Cell<bool>,
    /// Monotonic nanoseconds.
    pub started: u64,
    pub timers: crate::timers::Timers,
    /// What is added to the host process's CPU time (modulo 2^64): what was used in those before it was executed in this
    /// one, less what others had used in this one before.
    pub cpu_base: Cell<u64>,
    /// CPU time of reaped children, nanoseconds.
    pub child_cpu: Cell<u64>,
    /// CPU time when the last thread left, nanoseconds.
    pub cpu_at_exit: Cell<u64>,
    /// Weak to itself, for callbacks.
    this: OnceCell<Weak<Process>>,
}

impl Process {
    /// A child of `parent`, in its container.
    pub fn new(kernel: &Rc<Kernel>, pid: i32, parent: Option<&Rc<Process>>) -> Rc<Process> {
        Process::make(kernel, pid, parent, pid)
    }

    /// A process started from outside, in the container whose first process is `container`.
    pub fn outside(kernel: &Rc<Kernel>, pid: i32, container: i32) -> Rc<Process> {
        Process::make(kernel, pid, None, container)
    }

    fn make(kernel: &Rc<Kernel>, pid: i32, parent: Option<&Rc<Process>>, container: i32) -> Rc<Process> {
        let p = Rc::new(Process {
            pid,
            kernel: kernel.clone(),
            parent: RefCell::new(parent.map_or_else(Weak::new, Rc::downgrade)),
            children: RefCell::default(),
            threads: RefCell::default(),
            container: parent.map_or(container, |p| p.container),
            maker: RefCell::default(),
            dead_leader: RefCell::new(None),
            pgid: Cell::new(parent.map_or(pid, |p| p.pgid.get())),
            sid: Cell::new(parent.map_or(pid, |p| p.sid.get())),
            tty: RefCell::new(parent.and_then(|p| p.tty.borrow().clone())),
            old_foreground: Cell::default(),
            actions: RefCell::default(),
            pending: RefCell::default(),
            rlimits: RefCell::new(parent.map_or_else(Rlimits::default, |p| p.rlimits.borrow().clone())),
            exit_signal: Cell::new(abi::c::SIGCHLD),
            parent_death_signal: Cell::new(0),
            dumpable: Cell::new(1),
            block_devices: Cell::new(false),
            nice: Cell::new(parent.map_or(0, |p| p.nice.get())),
            io_priority: Cell::new(0),
            oom_score_adj: Cell::new((0, 0)),
            login: Cell::new(parent.map_or((NO_LOGIN, NO_LOGIN), |p| p.login.get())),
            child_subreaper: Cell::new(false),
            served: WaitQueue::new(),
            child_wait: WaitQueue::new(),
            exiting: Cell::new(None),
            zombie: Cell::new(false),
            ended: WaitQueue::new(),
            stopped: Cell::new(None),
            stop_report: Cell::new(None),
            continued: Cell::new(false),
            has_execed: Cell::new(false),
            started: host::time::monotonic_ns(),
            timers: Default::default(),
            cpu_base: Cell::new(0),
            child_cpu: Cell::new(0),
            cpu_at_exit: Cell::new(0),
            this: OnceCell::new(),
        });
        let _ = p.this.set(Rc::downgrade(&p));
        p
    }

    pub fn weak(&self) -> Weak<Process> {
        self.this.get().cloned().unwrap_or_default()
    }

    pub fn parent(&self) -> Option<Rc<Process>> {
        self.parent.borrow().upgrade()
    }

    /// 0 for pid 1.
    pub fn ppid(&self) -> i32 {
        self.parent().map_or(0, |p| p.pid)
    }

    /// Is it the first of its container? As pid 1 of a namespace it takes only the signals that it handles.
    pub fn is_init(&self) -> bool {
        self.pid == self.container
    }

    /// Nobody will wait for it.
    pub fn disown(&self) {
        *self.parent.borrow_mut() = Weak::new();
    }

    pub fn adopt(&self, by: &Rc<Process>) {
        *self.parent.borrow_mut() = Rc::downgrade(by);
    }

    pub fn threads(&self) -> Vec<Rc<Task>> {
        self.threads.borrow().clone()
    }

    /// The thread whose id is the process's, or another that is left.
    pub fn leader(&self) -> Option<Rc<Task>> {
        let t = self.threads.borrow();
        t.iter().find(|t| t.tid == self.pid).or(t.first()).cloned()
    }

    pub fn rlimit(&self, which: u32) -> u64 {
        self.rlimits.borrow().0[which as usize].0
    }
}
