//! What the operator says to a running container: one JSON object a message, as to a sandbox (`docs/design/control.md`).
use super::monitor::Monitor;
use crate::error::{Context, Failure};
use host::landlock::Ruleset;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use wire::control::REQUEST_MAX;
use wire::shared::Uname;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: u64,
    call: Call,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Call {
    /// kill(2). `pid` absent: every process, or 1: the first.
    Signal {
        #[serde(default)]
        pid: Option<i32>,
        number: i32,
    },
    /// The first process, which is held, becomes the program: answered when it has.
    Start {
        #[serde(default = "first")]
        pid: i32,
    },
    /// What a further program needs: the first process, and the file rules. `running`: only if the first process is the
    /// program.
    Enter {
        #[serde(default)]
        running: bool,
    },
    /// A further program's listener.
    Listener {},
    /// File rules that hold beside those there are, for further programs.
    MoreRules {},
    /// Which processes are held.
    Stats {},
    /// What holds now.
    Show {},
    /// The container's kernel log.
    Log {},
    /// All of it, or nothing.
    Update {
        #[serde(default)]
        uname: Option<Uname>,
        #[serde(default)]
        sysctl: BTreeMap<String, String>,
    },
}

fn first() -> i32 {
    1
}

/// What comes beside a request, and goes beside its answer.
#[derive(Default)]
struct Beside {
    descriptors: Vec<OwnedFd>,
    answer: Vec<OwnedFd>,
    /// It is answered when there is something to say.
    later: bool,
}

/// Somebody who waits for an answer.
#[derive(Debug)]
pub(super) struct Waiting {
    client: OwnedFd,
    id: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Reply { id: u64, answer: Answer },
    Error { id: Option<u64>, errno: &'static str, status: u8, message: String },
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done {},
    Stats { held: Vec<i32> },
    Show { pid: i32, uname: Uname, sysctl: BTreeMap<String, String>, filter: usize, file_rules: usize },
    Log { lines: Vec<String> },
}

/// The longest answer a client takes.
const ANSWER: usize = 128 << 10;

impl Monitor<'_> {
    pub(super) fn client(&mut self, index: usize) {
        let Some(client) = self.clients.get(index) else { return };
        let mut buffer = vec![0; REQUEST_MAX];
        let received = match host::control::receive(client.as_fd(), &mut buffer) {
            Ok(received) if received.len > 0 && received.len <= REQUEST_MAX => received,
            Err(abi::Errno::EAGAIN | abi::Errno::EINTR) => return,
            _ => {
                self.clients.remove(index);
                return;
            }
        };
        let mut beside = Beside { descriptors: received.descriptors, ..Beside::default() };
        let message = match serde_json::from_slice::<Request>(&buffer[..received.len]) {
            Ok(request) => match self.call(request.call, &mut beside) {
                Ok(_) if beside.later => {
                    let client = rustix::io::fcntl_dupfd_cloexec(&self.clients[index], 0);
                    self.starter = client.ok().map(|client| Waiting { client, id: request.id });
                    return;
                }
                Ok(answer) => Message::Reply { id: request.id, answer },
                Err((errno, message)) => Message::Error { id: Some(request.id), errno, status: 125, message },
            },
            Err(e) => Message::Error { id: None, errno: "EINVAL", status: 125, message: e.to_string() },
        };
        if !send(&self.clients[index], &message, &beside.answer) {
            self.clients.remove(index);
        }
    }

    /// The held program runs, or why it does not.
    pub(super) fn started(&mut self, failed: Option<(i32, &str)>) {
        let Some(Waiting { client, id }) = self.starter.take() else { return };
        let message = match failed {
            None => Message::Reply { id, answer: Answer::Done {} },
            Some((status, text)) => Message::Error {
                id: Some(id),
                errno: "ENOEXEC",
                status: status.clamp(0, 255) as u8,
                message: text.into(),
            },
        };
        send(&client, &message, &[]);
    }

    /// Lets the held process go on.
    fn start(&mut self) -> Result<(), (&'static str, String)> {
        let socket = self.socket.as_ref().filter(|_| self.held && !self.started);
        let socket = socket.ok_or_else(|| ("EALREADY", "the program has begun".to_string()))?;
        rustix::io::write(socket, b"s").map_err(|e| ("ESRCH", e.to_string()))?;
        self.started = true;
        Ok(())
    }

    fn enter(&self) -> rustix::io::Result<Vec<OwnedFd>> {
        let given = [self.container].into_iter().chain(&self.rulesets);
        given.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).collect()
    }

    fn call(&mut self, call: Call, beside: &mut Beside) -> Result<Answer, (&'static str, String)> {
        match call {
            Call::Start { pid: 1 } => {
                beside.later = true;
                self.start().map(|()| Answer::Done {})
            }
            Call::Start { pid } => Err(("ESRCH", format!("{pid}: only the first process is held"))),
            Call::Enter { running: true } if !self.running => Err(("EAGAIN", "the program has not begun".into())),
            Call::Enter { .. } => {
                beside.answer = self.enter().map_err(|e| ("EMFILE", e.to_string()))?;
                Ok(Answer::Done {})
            }
            Call::Listener {} => {
                let listener =
                    beside.descriptors.pop().ok_or_else(|| ("EINVAL", "there is no listener".to_string()))?;
                self.listen(listener);
                Ok(Answer::Done {})
            }
            Call::MoreRules {} => {
                let rules = beside.descriptors.pop().ok_or_else(|| ("EINVAL", "there are no rules".to_string()))?;
                self.rulesets.push(rules);
                Ok(Answer::Done {})
            }
            Call::Signal { pid: None | Some(1), number } => {
                let signal = rustix::process::Signal::from_named_raw(number)
                    .ok_or_else(|| ("EINVAL", format!("{number} is no signal")))?;
                rustix::process::pidfd_send_signal(self.container.as_fd(), signal)
                    .map_err(|e| ("ESRCH", e.to_string()))?;
                Ok(Answer::Done {})
            }
            Call::Signal { pid: Some(pid), .. } => {
                Err(("ESRCH", format!("{pid}: on the shared kernel only the first process has signals from outside")))
            }
            Call::Stats {} => {
                Ok(Answer::Stats { held: (self.held && !self.started).then_some(1).into_iter().collect() })
            }
            Call::Show {} => Ok(Answer::Show {
                pid: self.pid,
                uname: self.uname.clone().unwrap_or_default(),
                sysctl: self.views.iter().map(|(name, file)| (name.clone(), read(file))).collect(),
                filter: self.rules.filter.len(),
                file_rules: self.rules.file_rules.len(),
            }),
            Call::Log {} => {
                let mut room = ANSWER;
                let mut lines: Vec<String> = self.log.records().map(super::log::Record::line).collect();
                lines.reverse();
                lines.retain(|line| {
                    room = room.saturating_sub(2 * line.len() + 8);
                    room > 0
                });
                lines.reverse();
                Ok(Answer::Log { lines })
            }
            Call::Update { uname, sysctl } => self.update(uname, &sysctl).map(|()| Answer::Done {}),
        }
    }

    fn update(
        &mut self,
        uname: Option<Uname>,
        sysctl: &BTreeMap<String, String>,
    ) -> Result<(), (&'static str, String)> {
        if uname.is_some() && self.rules.uname.is_none() {
            return Err(("EPERM", "uname: the container was started without this row: a filter only narrows".into()));
        }
        if let Some(name) = sysctl.keys().find(|name| !self.views.iter().any(|(n, _)| n == *name)) {
            return Err(("ENOENT", format!("sysctl {name}: the container was started without this view")));
        }
        if sysctl.values().any(|value| value.len() > 4096) {
            return Err(("E2BIG", "sysctl: a value is too long".into()));
        }
        let before: Vec<(usize, String)> = self
            .views
            .iter()
            .enumerate()
            .filter(|(_, (name, _))| sysctl.contains_key(name))
            .map(|(i, (_, file))| (i, read(file)))
            .collect();
        for (i, old) in &before {
            let (name, file) = &self.views[*i];
            if let Err(e) = write(file, &sysctl[name]) {
                for (i, old) in before.iter().take_while(|(j, _)| j != i).chain([&(*i, old.clone())]) {
                    let _ = write(&self.views[*i].1, old);
                }
                return Err(("EIO", e.to_string()));
            }
        }
        if uname.is_some() {
            self.uname = uname;
        }
        self.say(5, "vkernel: updated");
        Ok(())
    }
}

/// What `Call::Listener` is: the sender has a filter already, and need not be able to do much.
pub const LISTENER: &[u8] = br#"{"id":2,"call":{"listener":{}}}"#;

/// Asks a monitor for what a further program needs: the container's first process, and the file rules. `running`: fails if
/// the first process is not yet the program.
pub fn enter(monitor: &OwnedFd, running: bool) -> Result<(OwnedFd, Vec<Ruleset>), Failure> {
    let text = format!(r#"{{"id":1,"call":{{"enter":{{"running":{running}}}}}}}"#);
    let mut descriptors = ask(monitor, text.as_bytes(), &[])?.into_iter();
    match descriptors.next() {
        Some(container) => Ok((container, descriptors.map(Ruleset::from).collect())),
        None => Err(Failure::new(format!("{ASKING}: it has ended"))),
    }
}

/// Gives a monitor file rules for further programs.
pub fn more_rules(monitor: &OwnedFd, ruleset: &Ruleset) -> Result<(), Failure> {
    ask(monitor, br#"{"id":1,"call":{"more_rules":{}}}"#, &[ruleset.as_fd()]).map(drop)
}

const ASKING: &str = "asking the container's monitor";

fn ask(monitor: &OwnedFd, text: &[u8], given: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Failure> {
    host::stub::send_fds(monitor.as_fd(), text, given).context(ASKING)?;
    let mut ready = [rustix::event::PollFd::new(monitor, rustix::event::PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None)).context(ASKING)?;
    let mut buffer = [0; 4096];
    let received = host::control::receive(monitor.as_fd(), &mut buffer).context(ASKING)?;
    let said: serde_json::Value =
        serde_json::from_slice(&buffer[..received.len.min(buffer.len())]).context("its answer (has it ended?)")?;
    match said["error"]["message"].as_str() {
        Some(message) => Err(Failure::new(message)),
        None => Ok(received.descriptors),
    }
}

/// Who does not read is not waited for.
fn send(client: &OwnedFd, message: &Message, descriptors: &[OwnedFd]) -> bool {
    let text = serde_json::to_vec(message).unwrap_or_default();
    let given: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    host::stub::send_fds(client.as_fd(), &text, &given).is_ok()
}

fn read(file: &std::fs::File) -> String {
    let mut bytes = vec![0; 4097];
    let n = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..n]).trim_end().into()
}

/// First longer, then cut to its length: a reader sees the old value, the new one, or the new one with a rest of the old.
fn write(file: &std::fs::File, value: &str) -> std::io::Result<()> {
    let text = format!("{value}\n");
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}
