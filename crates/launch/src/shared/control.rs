//! What the operator says to a running container: one JSON object a message, as to a sandbox (`docs/design/control.md`).
use super::monitor::Monitor;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
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
    Show { pid: i32, uname: Uname, sysctl: BTreeMap<String, String>, filter: usize, file_rules: usize },
    Log { lines: Vec<String> },
}

/// The longest answer a client takes.
const ANSWER: usize = 128 << 10;

impl Monitor<'_> {
    pub(super) fn client(&mut self, index: usize) {
        let Some(client) = self.clients.get(index) else { return };
        let mut buffer = vec![0; REQUEST_MAX];
        let n = match rustix::net::recv(client, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((n, _)) if n > 0 => n,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            _ => {
                self.clients.remove(index);
                return;
            }
        };
        let message = match serde_json::from_slice::<Request>(&buffer[..n]) {
            Ok(request) => match self.call(request.call) {
                Ok(answer) => Message::Reply { id: request.id, answer },
                Err((errno, message)) => Message::Error { id: Some(request.id), errno, status: 125, message },
            },
            Err(e) => Message::Error { id: None, errno: "EINVAL", status: 125, message: e.to_string() },
        };
        let text = serde_json::to_vec(&message).unwrap_or_default();
        // Who does not read is not waited for.
        let sent = rustix::net::send(&self.clients[index], &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        if sent.is_err() {
            self.clients.remove(index);
        }
    }

    fn call(&mut self, call: Call) -> Result<Answer, (&'static str, String)> {
        match call {
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
