//! The control socket: who is connected, and what is asked. `docs/design/control.md`.
use crate::serve::Sentry;
use crate::start::{self, Failure, Place};
use abi::signal::SigInfo;
use abi::{Errno, Result, c};
use host::control as socket;
use ipc::stdio::HostStream;
use kernel::reactor::{self, Watch};
use platform::Platform;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use task::{ExitStatus, Kernel, Task};
use wire::control::{Answer, Call, Message, ProcessInfo, REQUEST_MAX, Request, Stats};

/// Those connected at once; more wait to be accepted.
const CLIENTS: usize = 256;
/// Requests of one client that are served before the guests have their turn.
const TURN: usize = 16;
/// Bytes a client may leave unread before it is dropped.
const UNREAD: usize = 16 << 20;
/// Processes in one message.
const PIECE: usize = 16;

/// A host descriptor, and that something has happened to it.
struct Watched {
    fd: OwnedFd,
    watch: Option<Watch>,
    due: Rc<Cell<bool>>,
}

impl Watched {
    /// `any`: set as well.
    fn new(fd: OwnedFd, any: &Rc<Cell<bool>>) -> Result<Watched> {
        let due = Rc::new(Cell::new(true));
        any.set(true);
        let (own, all) = (due.clone(), any.clone());
        let ready = Rc::new(move |_| {
            own.set(true);
            all.set(true);
        });
        let watch = reactor::watch_with(fd.as_fd(), host::epoll::EDGE_IN_OUT, ready)?;
        Ok(Watched { fd, watch: Some(watch), due })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            reactor::unwatch(watch, self.fd.as_fd());
        }
    }
}

struct Client {
    number: u64,
    socket: Watched,
    unsent: VecDeque<Vec<u8>>,
    unread: usize,
    /// It wants to hear of every process.
    events: bool,
    /// It stands for a program that was started from outside, and ends when it is told of its end.
    bound: bool,
    gone: bool,
}

impl Client {
    fn tell(&mut self, m: &Message) {
        let bytes = serde_json::to_vec(m).expect("plain data");
        self.unread += bytes.len();
        self.unsent.push_back(bytes);
        self.flush();
        self.gone |= self.unread > UNREAD;
    }

    fn flush(&mut self) {
        while let Some(first) = self.unsent.front() {
            match socket::send(self.socket.fd.as_fd(), first) {
                Ok(()) => {
                    self.unread -= first.len();
                    self.unsent.pop_front();
                }
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    fn fail(&mut self, id: Option<u64>, f: Failure) {
        self.tell(&Message::Error { id, errno: f.errno.to_string(), status: f.status, message: f.message });
    }
}

/// The socket's end here.
pub struct Control {
    listener: Option<Watched>,
    clients: Vec<Client>,
    next: u64,
    /// Something has happened to one of the sockets.
    due: Rc<Cell<bool>>,
    /// Who started each process that was started over the socket, and whether it ends with them.
    owners: HashMap<i32, (u64, bool)>,
    /// Processes that were started, and nobody has been told.
    started: Vec<i32>,
    buf: Vec<u8>,
}

impl Control {
    /// `fd`: listening, or connected to the one client there will be.
    pub fn new(fd: OwnedFd) -> Result<Control> {
        let listens = socket::prepare(fd.as_fd())?;
        let mut control = Control {
            listener: None,
            clients: Vec::new(),
            next: 0,
            due: Rc::default(),
            owners: HashMap::new(),
            started: Vec::new(),
            buf: vec![0; REQUEST_MAX],
        };
        if listens {
            control.listener = Some(Watched::new(fd, &control.due)?);
        } else {
            control.welcome(fd)?;
        }
        Ok(control)
    }

    fn welcome(&mut self, fd: OwnedFd) -> Result {
        let socket = Watched::new(fd, &self.due)?;
        self.next += 1;
        let (number, unsent) = (self.next, VecDeque::new());
        self.clients.push(Client { number, socket, unsent, unread: 0, events: false, bound: false, gone: false });
        Ok(())
    }

    fn accept(&mut self) {
        while self.clients.len() < CLIENTS
            && let Some(l) = &self.listener
            && l.due.get()
        {
            match socket::accept(l.fd.as_fd()) {
                Ok(fd) => drop(self.welcome(fd)),
                // What the host has no room for now is asked for again when a client goes.
                Err(_) => l.due.set(false),
            }
        }
    }

    /// Forgets those that are gone, with the processes that were to end with them, and lets others in.
    fn sweep(&mut self, k: &Kernel) {
        let before = self.clients.len();
        let gone: Vec<u64> = self.clients.extract_if(.., |client| client.gone).map(|client| client.number).collect();
        if self.clients.len() < before {
            let bound = self.owners.iter().filter(|(_, (owner, bound))| *bound && gone.contains(owner));
            for pid in bound.map(|(pid, _)| *pid).collect::<Vec<_>>() {
                let _ = signal(k, Some(pid), None, c::SIGKILL);
            }
            self.listener.iter().for_each(|l| l.due.set(true));
            self.accept();
        }
    }

    /// Tells those who want to hear of every process, and `owner`.
    fn tell(&mut self, owner: Option<u64>, m: &Message) {
        self.clients.iter_mut().filter(|c| c.events || Some(c.number) == owner).for_each(|c| c.tell(m));
    }

    /// In a pid namespace of Linux's whatever was started in it has been reaped before its first process is: who waits for
    /// both, as containerd does, counts on that order. Those whom nobody waits for may take their time no longer than this.
    fn see_off(&self) {
        const LONGEST_NS: u64 = 3_000_000_000;
        let end = host::time::monotonic_ns() + LONGEST_NS;
        for client in self.clients.iter().filter(|c| c.bound && !c.gone) {
            let left = end.saturating_sub(host::time::monotonic_ns());
            // No events but the hang-up, which is always told.
            host::stream::poll_within(client.socket.fd.as_fd(), 0, left);
        }
    }

    fn exited(&mut self, pid: i32, status: ExitStatus) {
        let (status, signal) = match status {
            ExitStatus::Exited(code) => (code.into(), None),
            ExitStatus::Signaled(sig, _) => (128 + sig, Some(sig)),
        };
        let owner = self.owners.remove(&pid);
        self.tell(owner.map(|(client, _)| client), &Message::Exited { pid, status, signal });
    }
}

impl<P: Platform> Sentry<P> {
    /// Serves the control socket, if something waits there. True: something did.
    pub fn serve_control(&mut self) -> bool {
        if !self.k.ended_outside.borrow().is_empty() {
            self.tell_ended();
        }
        if !self.control.as_ref().is_some_and(|control| control.due.get()) {
            return false;
        }
        let Some(mut control) = self.control.take() else { return false };
        control.due.set(false);
        control.accept();
        let mut clients = std::mem::take(&mut control.clients);
        for client in clients.iter_mut().filter(|client| client.socket.due.get()) {
            client.flush();
            for _ in 0..TURN {
                if client.gone || !self.serve_one(&mut control, client) {
                    break;
                }
            }
            if client.socket.due.get() {
                control.due.set(true);
            }
        }
        control.clients = clients;
        for pid in std::mem::take(&mut control.started) {
            control.tell(None, &Message::Started { pid });
        }
        control.sweep(&self.k);
        self.control = Some(control);
        true
    }

    /// The next message of a client. False: there is none.
    fn serve_one(&mut self, control: &mut Control, client: &mut Client) -> bool {
        client.socket.due.set(false);
        let got = match socket::receive(client.socket.fd.as_fd(), &mut control.buf) {
            Ok(got) if got.len > 0 => got,
            Err(Errno::EAGAIN | Errno::EINTR) => return false,
            _ => {
                client.gone = true;
                return false;
            }
        };
        client.socket.due.set(true);
        if got.len > control.buf.len() {
            client.fail(None, Failure::ours(Errno::EMSGSIZE, format!("a request is at most {REQUEST_MAX} bytes")));
            return true;
        }
        let bytes = &control.buf[..got.len];
        let request: Request = match serde_json::from_slice(bytes) {
            Ok(request) => request,
            Err(e) => {
                let id = serde_json::from_slice(bytes).ok().and_then(|v: serde_json::Value| v.get("id")?.as_u64());
                client.fail(id, Failure::ours(Errno::EINVAL, format!("not understood: {e}")));
                return true;
            }
        };
        let id = request.id;
        let done = if got.more
            || !(got.descriptors.is_empty() || matches!(request.call, Call::Exec { .. } | Call::Container { .. }))
        {
            Err(Failure::ours(Errno::EINVAL, "more descriptors than the call has a use for"))
        } else {
            self.obey(control, client, request, got.descriptors)
        };
        match done {
            Ok(answer) => client.tell(&Message::Reply { id, answer }),
            Err(f) => client.fail(Some(id), f),
        }
        true
    }

    fn obey(
        &mut self,
        control: &mut Control,
        client: &mut Client,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> std::result::Result<Answer, Failure> {
        match request.call {
            Call::Start { pid } => {
                let first = pid.unwrap_or(1);
                let found = self.held.iter().position(|t| t.tid == first);
                let found = found.ok_or_else(|| Failure::ours(Errno::EALREADY, "it was started already"))?;
                let t = self.held.remove(found);
                self.begin_exec(&t);
                control.started.push(t.tid);
            }
            Call::Exec { process, bound, container } => {
                let place = self.place(container)?;
                let t = self.outside(&process, &place, descriptors)?;
                control.owners.insert(t.tid, (client.number, bound));
                client.bound |= bound;
                control.started.push(t.tid);
                self.begin_exec(&t);
                return Ok(Answer::Exec { pid: t.tid });
            }
            Call::Container { container } => {
                let pid = self.container(*container, descriptors)?;
                // Nobody else could end it.
                control.owners.insert(pid, (client.number, true));
                client.bound = true;
                return Ok(Answer::Exec { pid });
            }
            Call::Signal { pid, container, number } => signal(&self.k, pid, container, number).map_err(|e| {
                Failure::ours(e, if e == Errno::ESRCH { "there is no such process" } else { "there is no such signal" })
            })?,
            Call::Processes {} => {
                let mut all: Vec<ProcessInfo> = self.k.processes().iter().map(|p| crate::proc::info(p)).collect();
                while all.len() > PIECE {
                    let rest = all.split_off(PIECE);
                    let answer = Answer::Processes { processes: std::mem::replace(&mut all, rest), more: true };
                    client.tell(&Message::Reply { id: request.id, answer });
                }
                return Ok(Answer::Processes { processes: all, more: false });
            }
            Call::Resize { pid, rows, columns } => {
                let console = self.k.console(pid);
                let console =
                    console.ok_or_else(|| Failure::ours(Errno::ENOTTY, "it was not started at a terminal"))?;
                let [a, b] = rows.to_ne_bytes();
                let [d, e] = columns.to_ne_bytes();
                console.tty().resize([a, b, d, e, 0, 0, 0, 0]);
            }
            Call::Limits { memory, millicpus, pids } => {
                let config = &self.k.config;
                let known = [(&config.memory, memory), (&config.quota, millicpus), (&config.pids, pids)];
                for (limit, to) in known.into_iter().filter_map(|(limit, to)| Some((limit, to?))) {
                    limit.set((to > 0).then_some(to));
                }
            }
            Call::Stats {} => return Ok(Answer::Stats(self.stats())),
            Call::Events {} => client.events = true,
        }
        Ok(Answer::Done {})
    }

    /// A process that has not begun.
    pub fn outside(
        &mut self,
        process: &wire::Process,
        place: &Place,
        descriptors: Vec<OwnedFd>,
    ) -> std::result::Result<Rc<Task>, Failure> {
        let wanted = if process.terminal { 1 } else { 3 };
        if descriptors.len() != wanted {
            let (got, terminal) = (descriptors.len(), if process.terminal { "a" } else { "no" });
            let why = format!("{got} descriptors; with {terminal} terminal it is {wanted}");
            return Err(Failure::ours(Errno::EINVAL, why));
        }
        let refused = |e| Failure::ours(e, format!("a descriptor is of no use: {e}"));
        let streams = descriptors.into_iter().map(|fd| HostStream::open(fd).map(Some)).collect::<Result<_>>();
        start::process(&self.k, process, place, streams.map_err(refused)?)
    }

    fn stats(&self) -> Stats {
        let processes = self.k.processes();
        let mut tables: Vec<Rc<vfs::FdTable>> = Vec::new();
        for t in processes.iter().flat_map(|p| p.threads()) {
            if let Ok(files) = t.files()
                && !tables.iter().any(|known| Rc::ptr_eq(known, &files))
            {
                tables.push(files);
            }
        }
        Stats {
            processes: processes.len() as u64,
            threads: self.k.task_count() as u64,
            files: tables.iter().map(|files| files.numbers(0, u32::MAX).len() as u64).sum(),
            calls: self.served,
            sentry_memory: host::process::heap_bytes(),
            allocations: host::heap::allocations(),
            uptime_ns: host::time::monotonic_ns() - self.k.boot,
            held: self.held.iter().map(|t| t.tid).collect(),
        }
    }

    /// Tells of processes started from outside that have ended.
    fn tell_ended(&mut self) {
        for (pid, status) in self.k.ended_outside.take() {
            if let Some(console) = self.k.console(pid) {
                console.carry();
                self.close_consoles();
            }
            if let Some(control) = &mut self.control {
                control.exited(pid, status);
                control.sweep(&self.k);
            }
        }
    }

    /// The first process has ended, and everything with it.
    pub fn tell_last(&mut self, status: ExitStatus) {
        self.tell_ended();
        let Some(control) = &mut self.control else { return };
        for pid in control.owners.keys().copied().collect::<Vec<_>>() {
            control.exited(pid, ExitStatus::Signaled(c::SIGKILL, false));
        }
        control.exited(1, status);
        control.see_off();
    }
}

/// kill(2) by the operator, whom pid 1 must obey.
fn signal(k: &Kernel, pid: Option<i32>, container: Option<i32>, number: i32) -> Result {
    if !(0..=64).contains(&number) {
        return Err(Errno::EINVAL);
    }
    let mut targets = match pid {
        None => k.processes(),
        Some(pid) => k.process(pid).into_iter().collect(),
    };
    targets.retain(|p| container.is_none_or(|c| p.container == c));
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    if number > 0 {
        k.outside_signal.set(true);
        targets.iter().for_each(|p| p.signal(SigInfo::from_user(number, c::SI_USER, 0, 0)));
        k.outside_signal.set(false);
    }
    Ok(())
}
