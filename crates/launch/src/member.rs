//! A further container of a running sandbox. The process made for it stands for its first one: in the control groups, for
//! whoever waits for it, and for whoever enters its namespaces. The sandbox's kernel serves the container; when this
//! process ends, however that is, the container ends.
use crate::error::{Context, Failure, report};
use crate::first::{Job, Mounts};
use host::caps::CapabilitySet;
use host::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use wire::control::{Answer, Call, Container, Message, REQUEST_MAX, Request};
use wire::{Event, MountKind};

/// The kernel is gone, and the container with it.
const GONE: i32 = 128 + 9;

/// Asks the sandbox for the container, and waits for its end. Returns only if there is none.
pub fn run(job: &Job<'_>, mounts: &Mounts, sandbox: i32) -> Result<std::convert::Infallible, Failure> {
    host::caps::restrict(CapabilitySet::empty()).context("giving up capabilities")?;
    rustix::thread::set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")?;
    let mut signals = Signals::new().context("listening for signals")?;
    let mut sandbox = Sandbox { socket: host::process::take(sandbox), asked: 0, buf: vec![0; REQUEST_MAX] };
    let pid = sandbox.container(job, mounts)?;
    report(job.spec.events_fd, &Event::Held { pid: Some(pid) });
    let terminal = job.spec.process.terminal.then(rustix::stdio::stdin);
    let kept: Vec<BorrowedFd<'_>> = [sandbox.socket.as_fd(), signals.fd()].into_iter().chain(terminal).collect();
    // SAFETY: of all descriptors only these are used from here on, and this process never returns from this function but
    // by exiting.
    unsafe { host::process::close_all_but(&kept) }.context("close_range")?;
    loop {
        let mut both =
            [PollFd::new(&sandbox.socket, PollFlags::IN), PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut both, None)).is_err() {
            std::process::exit(GONE);
        }
        while let Some(signal) = signals.take() {
            sandbox.pass_on(pid, signal, terminal);
        }
        while let Some(message) = sandbox.receive() {
            match message {
                Message::Exited { pid: who, status, .. } if who == pid => std::process::exit(status),
                _ => continue,
            }
        }
    }
}

struct Sandbox {
    socket: OwnedFd,
    asked: u64,
    buf: Vec<u8>,
}

impl Sandbox {
    fn ask(&mut self, call: Call, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        self.asked += 1;
        let text = serde_json::to_vec(&Request { id: self.asked, call }).context("asking the sandbox")?;
        host::stub::send_fds(self.socket.as_fd(), &text, fds).context("asking the sandbox for a container")
    }

    /// The next message, if there is one; the end of the sandbox is this process's.
    fn receive(&mut self) -> Option<Message> {
        match host::control::receive(self.socket.as_fd(), &mut self.buf) {
            Ok(got) if got.len == 0 || got.len > self.buf.len() => std::process::exit(GONE),
            Ok(got) => match serde_json::from_slice(&self.buf[..got.len]) {
                Ok(message) => Some(message),
                Err(_) => std::process::exit(GONE),
            },
            Err(abi::Errno::EAGAIN | abi::Errno::EINTR) => None,
            Err(_) => std::process::exit(GONE),
        }
    }

    /// Has it made; its first process, which is held.
    fn container(&mut self, job: &Job<'_>, mounts: &Mounts) -> Result<i32, Failure> {
        let spec = job.spec;
        let own: &[i32] = if spec.process.terminal { &[0] } else { &[0, 1, 2] };
        let own = own.iter().map(|n| host::process::standard(*n));
        let fds: Vec<_> = own.chain(mounts.trees.iter().map(AsFd::as_fd)).collect();
        let container = Container {
            process: spec.process.clone(),
            mounts: mounts.by_place(),
            root_read_only: spec.root.read_only,
            hostname: (!spec.hostname.is_empty()).then(|| spec.hostname.clone()),
            domainname: spec.domainname.clone(),
        };
        self.ask(Call::Container { container: Box::new(container) }, &fds)?;
        loop {
            let mut one = [PollFd::new(&self.socket, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut one, None)).context("waiting for the sandbox")?;
            match self.receive() {
                Some(Message::Reply { answer: Answer::Exec { pid }, .. }) => return Ok(pid),
                Some(Message::Error { status, message, .. }) => {
                    report(job.spec.events_fd, &Event::Failed { status: status.into(), message });
                    std::process::exit(status.into());
                }
                _ => continue,
            }
        }
    }

    /// What was sent to this process is meant for the one it stands for.
    fn pass_on(&mut self, pid: i32, number: i32, terminal: Option<BorrowedFd<'_>>) {
        let call = match (number, terminal) {
            (abi::c::SIGWINCH, Some(terminal)) => match rustix::termios::tcgetwinsize(terminal) {
                Ok(size) => Call::Resize { pid, rows: size.ws_row, columns: size.ws_col },
                Err(_) => return,
            },
            _ => Call::Signal { pid: Some(pid), container: None, number },
        };
        let _ = self.ask(call, &[]);
    }
}

impl Mounts {
    /// The descriptors named by their place among those that are sent.
    fn by_place(&self) -> Vec<wire::Mount> {
        let place = |fd: i32| self.trees.iter().position(|t| t.as_raw_fd() == fd).map_or(-1, |n| n as i32);
        let mut list = self.list.clone();
        for m in &mut list {
            match &mut m.kind {
                MountKind::Host { fd, .. } => *fd = place(*fd),
                MountKind::Overlay { lower_fd, upper_fd } => {
                    *lower_fd = place(*lower_fd);
                    *upper_fd = upper_fd.map(place);
                }
                _ => {}
            }
        }
        list
    }
}
