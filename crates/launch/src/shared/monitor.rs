//! The monitor: answers the few calls that are the operator's to answer, keeps the container's kernel log, and speaks with
//! the operator. It is what the launcher becomes; of its rights it keeps two.
//!
//! What it answers it answers itself. A call whose arguments are pointers is never sent on to the host's kernel because of
//! what they led to: another thread could have changed that by then. capset(2) alone goes on, as there the host's kernel
//! makes the decision itself: permitted sets only shrink; what was read only decides about a line in the log.
use super::control::Waiting;
use super::kmsg::Kmsg;
use super::log::{Log, Reply};
use super::plugins::Plugins;
use super::rows;
use crate::error::{Context, Failure, report};
use abi::Errno;
use host::caps::CapabilitySet;
use host::notify::{self, Bell};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use wire::shared::{SharedSpec, Uname};
use wire::{Event, LaunchSpec};

/// Reading and writing a caller's memory; ending the container; removing its control group from a hierarchy whose top nobody
/// may write to.
const RIGHTS: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::KILL).union(CapabilitySet::DAC_OVERRIDE);
/// More than anybody has opened at once.
pub(super) const CLIENTS: usize = 16;
/// What one container may have the operator keep, in bytes; its own log goes on.
const OPERATORS_LOG: usize = 1 << 20;
/// Its index among what is waited for.
const FIRST_LISTENER: usize = 8;
const NOTICE: u32 = 5;
const WARNING: u32 = 4;

/// The program runs, or it does not, and why: the exit status as `docker run` has it.
pub enum Begun<'a> {
    Running(Box<Monitor<'a>>),
    Failed(i32, String),
}

/// What the monitor has of the process that is to become the program.
pub struct Ends {
    /// What it passes on comes here.
    pub socket: OwnedFd,
    /// Why it did not start; nothing if it did.
    pub status: OwnedFd,
    /// Of its kernel log's files; none where the host has no such file systems for it.
    pub log: Vec<OwnedFd>,
}

pub struct Monitor<'a> {
    pub(super) spec: &'a LaunchSpec,
    pub(super) rules: &'a SharedSpec,
    pub(super) pid: i32,
    pub(super) container: &'a OwnedFd,
    /// To the container's first process; none when that has become the program.
    pub(super) socket: Option<OwnedFd>,
    caller: Option<OwnedFd>,
    /// The first process's, and those of programs that came in later.
    listeners: Vec<Rc<OwnedFd>>,
    /// The file rules, for those who come in later: all hold.
    pub(super) rulesets: Vec<OwnedFd>,
    /// The first process is the program.
    pub(super) running: bool,
    /// The first process waits for its start; it was told.
    pub(super) held: bool,
    pub(super) started: bool,
    pub(super) starter: Option<Waiting>,
    small: bool,
    control: Option<OwnedFd>,
    pub(super) clients: Vec<OwnedFd>,
    pub(super) log: Log,
    kmsg: Kmsg,
    plugins: Plugins,
    /// Left of [`OPERATORS_LOG`].
    keeps: usize,
    /// Those who wait in syslog(2) for a record.
    readers: Vec<(Rc<OwnedFd>, Bell)>,
    pub(super) uname: Option<Uname>,
    /// Settings the container sees, by name: what is written there is read inside.
    pub(super) views: Vec<(String, File)>,
}

impl<'a> Monitor<'a> {
    /// Serves until the program runs: a container's set-up may itself make calls that have rows.
    pub fn begin(
        spec: &'a LaunchSpec,
        rules: &'a SharedSpec,
        pid: i32,
        container: &'a OwnedFd,
        ends: Ends,
        started_ns: u64,
    ) -> Result<Begun<'a>, Failure> {
        let mut monitor = Monitor {
            spec,
            rules,
            pid,
            container,
            socket: Some(ends.socket),
            caller: spec.caller_fd.map(host::process::take),
            listeners: Vec::new(),
            rulesets: Vec::new(),
            running: false,
            held: false,
            started: false,
            starter: None,
            small: false,
            control: spec.control_fd.map(host::process::take),
            clients: Vec::new(),
            log: Log::new(rules.kernel_log.unwrap_or(0)),
            kmsg: Kmsg::new(ends.log),
            plugins: Plugins::new(rules),
            keeps: OPERATORS_LOG,
            readers: Vec::new(),
            uname: rules.uname.clone(),
            views: Vec::new(),
        };
        if let Some(message) = monitor.until_started(ends.status)? {
            let (number, text) = message.split_once(' ').unwrap_or(("125", &message));
            let number = number.parse().unwrap_or(crate::FAILED.into());
            monitor.started(Some((number, text)));
            return Ok(Begun::Failed(number, text.into()));
        }
        monitor.become_small()?;
        monitor.running = true;
        monitor.started(None);
        let ns = host::time::monotonic_ns().saturating_sub(started_ns);
        monitor.say(NOTICE, &format!("vkernel: {} started", spec.id));
        report(spec.events_fd, &Event::Started { ns });
        Ok(Begun::Running(Box::new(monitor)))
    }

    /// The message of why it did not start.
    fn until_started(&mut self, status: OwnedFd) -> Result<Option<String>, Failure> {
        let mut said = Vec::new();
        loop {
            let ready = self.turn(status.as_fd())?;
            if self.held && !self.small {
                self.become_small()?;
                report(self.spec.events_fd, &Event::Held { pid: None });
            }
            if ready {
                let mut buffer = [0; 4096];
                match retry_on_intr(|| rustix::io::read(&status, &mut buffer)).context("watching the start")? {
                    0 if said.is_empty() => return Ok(None),
                    0 => return Ok(Some(String::from_utf8_lossy(&said).into_owned())),
                    n => said.extend_from_slice(&buffer[..n]),
                }
            }
        }
    }

    /// From here on nothing is opened for the container, only answered.
    fn become_small(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.small, true) {
            return Ok(());
        }
        // Held open, the container's output would never end for those who read it.
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("/dev/null")?;
        rustix::stdio::dup2_stdin(&null).context("standard input")?;
        rustix::stdio::dup2_stdout(&null).context("standard output")?;
        rustix::stdio::dup2_stderr(&null).context("standard error")?;
        if rustix::process::geteuid().is_root() {
            host::caps::restrict(RIGHTS).context("giving up capabilities")?;
        }
        let program = bpf::compile(&bpf::monitor_policy()).context("the monitor's own filter")?;
        host::seccomp::install(&program).context("installing the monitor's own filter")
    }

    /// Until the container has ended. Returns what tells of the caller's end.
    pub fn serve(mut self) -> Result<Option<OwnedFd>, Failure> {
        let container = self.container;
        while !self.turn(container.as_fd())? {}
        self.say(NOTICE, &format!("vkernel: {} ended", self.spec.id));
        // The caller reads events to their end before it cleans up.
        drop(host::process::take(self.spec.events_fd));
        Ok(self.caller.take())
    }

    /// Waits for something and serves it; whether `until` is ready.
    fn turn(&mut self, until: BorrowedFd<'_>) -> Result<bool, Failure> {
        let own = [&self.socket, &self.caller, &self.control];
        let own = own.map(|fd| fd.as_ref().map(AsFd::as_fd));
        let own = own.into_iter().chain(self.kmsg.wait_for()).chain(self.plugins.wait_for());
        let listeners = self.listeners.iter().map(|fd| Some(fd.as_fd()));
        let first_client = FIRST_LISTENER + self.listeners.len();
        let clients = self.clients.iter().map(|fd| Some(fd.as_fd()));
        let mut which: Vec<usize> = Vec::new();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        // What tells of the start is looked at after what the started program asks: its start is always seen first.
        let others = own.chain(listeners).chain(clients).enumerate().map(|(index, fd)| (index + 1, fd));
        for (index, fd) in others.chain([(0, Some(until))]) {
            if let Some(fd) = fd {
                which.push(index);
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let timeout = self.plugins.timeout();
        retry_on_intr(|| poll(&mut fds, timeout.as_ref())).context("poll")?;
        let ready: Vec<(usize, bool)> = which
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(&index, fd)| (index, fd.revents().contains(PollFlags::HUP)))
            .collect();
        // Clients and listeners go from their lists: the last first.
        let told = ready.last().is_some_and(|&(index, _)| index == 0);
        for &(index, over) in ready.iter().rev() {
            match index {
                0 => {}
                4 | 5 | FIRST_LISTENER.. if told && index < first_client => {}
                1 => self.told(),
                2 => self.caller_said(),
                3 => self.connected(),
                4 | 5 => self.kernel_log(index - 4),
                6 => {
                    let said = self.plugins.told();
                    self.tell_operator(said);
                }
                7 => {
                    let said = self.plugins.ended();
                    self.tell_operator(said);
                }
                listener if listener < first_client => match over {
                    // Nobody is left who has the filter.
                    true => drop(self.listeners.remove(listener - FIRST_LISTENER)),
                    false => self.asked(listener - FIRST_LISTENER),
                },
                client => self.client(client - first_client),
            }
        }
        let said = self.plugins.expire();
        self.tell_operator(said);
        Ok(told)
    }

    /// The container's first process passes something on.
    fn told(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut name = [0; 256];
        match host::stub::receive_fd(socket.as_fd(), &mut name) {
            Ok((n, Some(fd))) if n > 0 && name[0] == b'l' => {
                self.listen(fd);
            }
            Ok((n, Some(fd))) if n > 0 && name[0] == b'r' => self.rulesets.push(fd),
            Ok((n, None)) if n > 0 && name[0] == b'h' => self.held = true,
            Ok((n, None)) if n > 0 && name[0] == b'k' => self.kmsg.mounted(),
            Ok((n, Some(fd))) if n > 0 && name[0] == b'v' => {
                self.views.push((String::from_utf8_lossy(&name[1..n]).into_owned(), File::from(fd)));
            }
            _ => self.socket = None,
        }
    }

    pub(super) fn listen(&mut self, listener: OwnedFd) {
        // Before Linux 6.6 answers are only slower.
        let _ = notify::set_sync_wake_up(listener.as_fd(), true);
        self.listeners.push(Rc::new(listener));
    }

    /// The caller lets the container stay, where it may; or it ends, and the container with it. The descriptor is kept then:
    /// at its end the control groups go.
    fn caller_said(&mut self) {
        let Some(caller) = &self.caller else { return };
        if self.spec.detached && matches!(retry_on_intr(|| rustix::io::read(caller, &mut [0u8])), Ok(1)) {
            self.caller = None;
            return;
        }
        let _ = host::stub::kill(self.container.as_fd());
        // Who waits for an answer cannot end, and nobody answers any more.
        self.kmsg.end();
        let mut ended = [PollFd::from_borrowed_fd(self.container.as_fd(), PollFlags::IN)];
        let _ = retry_on_intr(|| poll(&mut ended, None));
    }

    fn connected(&mut self) {
        let Some(control) = &self.control else { return };
        let Ok(client) = rustix::net::accept_with(control, rustix::net::SocketFlags::CLOEXEC) else { return };
        if self.clients.len() < CLIENTS {
            self.clients.push(client);
        }
    }

    /// A line for the container's log and the operator's.
    pub(super) fn say(&mut self, level: u32, text: &str) {
        let line = self.log.add(level, host::time::monotonic_ns(), text).line();
        self.keep(&line);
        for (listener, bell) in std::mem::take(&mut self.readers) {
            self.answer(&listener, bell);
        }
        self.kmsg.wake(&mut self.log);
    }

    /// What is not for the container to know.
    fn tell_operator(&mut self, lines: Vec<String>) {
        for text in lines {
            let line = Log::new(0).add(WARNING, host::time::monotonic_ns(), &format!("vkernel: {text}")).line();
            self.keep(&line);
        }
    }

    fn keep(&mut self, line: &str) {
        let Some(fd) = self.spec.log_fd else { return };
        let tagged = format!("vkernel_{} {line}", self.spec.id);
        if self.keeps >= tagged.len() {
            self.keeps -= tagged.len();
            let _ = host::process::write_all(fd, tagged.as_bytes());
        }
    }

    /// Someone in the container reads or writes its kernel log by a file.
    fn kernel_log(&mut self, file: usize) {
        if let Some((level, text)) = self.kmsg.serve(file, &mut self.log) {
            self.say(level, &text);
        }
    }

    /// Someone in the container made a call that has a row.
    fn asked(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index).cloned() else { return };
        match notify::receive(listener.as_fd()) {
            Ok(bell) => self.answer(&listener, bell),
            // Gone again, or a signal came.
            Err(Errno::ENOENT | Errno::EINTR) => {}
            // Nobody is left who has the filter.
            Err(_) => drop(self.listeners.remove(index)),
        }
    }

    fn answer(&mut self, from: &Rc<OwnedFd>, bell: Bell) {
        let result = match bell.nr {
            rows::SYSLOG => self.syslog(from, bell),
            rows::UNAME => self.tell_uname(from, bell).map(Some),
            rows::SYSINFO => self.tell_sysinfo(from, bell).map(Some),
            rows::CAPSET => return self.capset(from, bell),
            rows::CLONE | rows::UNSHARE | rows::SETNS => {
                self.escalation(bell, "a user namespace");
                Err(Errno::EPERM)
            }
            nr if self.plugins.serve(nr) => self.plugins.ask(from, bell).map(|()| None),
            _ => Err(Errno::ENOSYS),
        };
        match result {
            Ok(None) => {}
            // A caller that has been killed needs no answer.
            Ok(Some(value)) => drop(notify::answer(from.as_fd(), bell.id, Ok(value))),
            Err(e) => drop(notify::answer(from.as_fd(), bell.id, Err(e))),
        }
    }

    /// None: it waits.
    fn syslog(&mut self, from: &Rc<OwnedFd>, bell: Bell) -> Result<Option<i64>, Errno> {
        let [action, buffer, length, ..] = bell.args;
        match self.log.syslog(action as i32, buffer != 0, length as i32)? {
            Reply::Value(value) => Ok(Some(value)),
            Reply::Wait => {
                // Those who have gone since make room for others.
                self.readers.retain(|(from, r)| notify::still_waits(from.as_fd(), r.id));
                self.readers.push((from.clone(), bell));
                Ok(None)
            }
            Reply::Bytes(bytes) => {
                memory(from, bell)?.write_all_at(&bytes, buffer).map_err(|_| Errno::EFAULT)?;
                Ok(Some(bytes.len() as i64))
            }
        }
    }

    fn tell_uname(&self, from: &OwnedFd, bell: Bell) -> Result<i64, Errno> {
        const FIELD: usize = 65;
        let host = rustix::system::uname();
        let chosen = self.uname.clone().unwrap_or_default();
        let domain = self.spec.domainname.clone().unwrap_or_else(|| "(none)".into());
        let fields = [
            host.sysname().to_string_lossy().into_owned(),
            self.spec.hostname.clone(),
            chosen.release.unwrap_or_else(|| host.release().to_string_lossy().into_owned()),
            chosen.version.unwrap_or_else(|| host.version().to_string_lossy().into_owned()),
            host.machine().to_string_lossy().into_owned(),
            domain,
        ];
        let mut bytes = vec![0u8; FIELD * fields.len()];
        for (place, field) in bytes.chunks_mut(FIELD).zip(&fields) {
            let n = field.len().min(FIELD - 1);
            place[..n].copy_from_slice(&field.as_bytes()[..n]);
        }
        memory(from, bell)?.write_all_at(&bytes, bell.args[0]).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }

    fn tell_sysinfo(&self, from: &OwnedFd, bell: Bell) -> Result<i64, Errno> {
        let host = rustix::system::sysinfo();
        let unit = u64::from(host.mem_unit.max(1));
        let (total, free) = (host.totalram as u64 * unit, host.freeram as u64 * unit);
        let total_here = self.spec.limits.memory.map_or(total, |limit| limit.min(total));
        let (total, free) = (total_here, free.min(total_here));
        let mut bytes = Vec::with_capacity(112);
        let mut word = |value: u64| bytes.extend_from_slice(&value.to_ne_bytes());
        word(host.uptime as u64);
        host.loads.iter().for_each(|&l| word(l));
        // Shared, buffers, swap total and free: the host's, and so not the container's.
        [total, free, 0, 0, 0, 0].into_iter().for_each(&mut word);
        word(u64::from(host.procs));
        [0, 0].into_iter().for_each(&mut word);
        word(1);
        memory(from, bell)?.write_all_at(&bytes, bell.args[0]).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }

    /// Refused by the host's kernel if it asks for more than there is: seen here, so that it can be told.
    fn capset(&mut self, from: &OwnedFd, bell: Bell) {
        if self.asks_for_more(from, bell).unwrap_or(false) {
            self.escalation(bell, "capset");
        }
        let _ = notify::let_pass(from.as_fd(), bell.id);
    }

    fn asks_for_more(&self, from: &OwnedFd, bell: Bell) -> Result<bool, Errno> {
        let memory = memory(from, bell)?;
        // Two of: effective, permitted, inheritable, each of 32 bits.
        let mut data = [0u8; 24];
        memory.read_exact_at(&mut data, bell.args[1]).map_err(|_| Errno::EFAULT)?;
        let word = |i: usize| u64::from(u32::from_ne_bytes([0, 1, 2, 3].map(|b| data[4 * i + b])));
        let permitted = word(1) | word(4) << 32;
        let ceiling = self.spec.process.capabilities.map_or(super::child::DOCKER, |c| c.bounding);
        Ok(permitted & !ceiling != 0)
    }

    fn escalation(&mut self, bell: Bell, how: &str) {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", bell.tid)).unwrap_or_default();
        self.say(WARNING, &format!("vkernel: refused more capabilities by {how} to {}", name.trim_end()));
    }
}

/// The caller's memory. It stays this process's even if the caller dies and another gets its number.
pub(super) fn memory(from: &OwnedFd, bell: Bell) -> Result<File, Errno> {
    let memory = std::fs::OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", bell.tid));
    let memory = memory.map_err(|_| Errno::EFAULT)?;
    if notify::still_waits(from.as_fd(), bell.id) { Ok(memory) } else { Err(Errno::ESRCH) }
}
