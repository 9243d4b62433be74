//! What is said over the control socket of a running sandbox: one JSON object a message, [`Request`]s in, [`Message`]s
//! out. `docs/design/control.md` tells the rules.
use crate::{Mount, Process};
use serde::{Deserialize, Serialize};

/// The longest request, in bytes.
pub const REQUEST_MAX: usize = 192 << 10;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The caller's own number for it, which the answer bears.
    pub id: u64,
    pub call: Call,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// The first process, which was held, begins; or that of a further container, by its pid.
    Start {
        #[serde(default)]
        pid: Option<i32>,
    },
    /// A further container, whose first process is held. Descriptors: those of the process, as for `Exec`, then those that
    /// the mounts name by their place among the rest. It ends with the connection.
    Container {
        container: Box<Container>,
    },
    /// Starts one more process. With three descriptors: its standard ones. With one: `process.terminal` is set, and this
    /// is the raw terminal of the host's that its own is joined to.
    Exec {
        process: Box<Process>,
        /// It is killed when this client goes away.
        #[serde(default)]
        bound: bool,
        /// The container it is started in, by its first process; absent: the first.
        #[serde(default)]
        container: Option<i32>,
    },
    /// kill(2) from outside. `pid` absent: every process, or every one of `container`. `number` 0 only asks whether there
    /// is one.
    Signal {
        #[serde(default)]
        pid: Option<i32>,
        #[serde(default)]
        container: Option<i32>,
        number: i32,
    },
    Processes {},
    /// The size of the terminal that the process was started at.
    Resize {
        pid: i32,
        rows: u16,
        columns: u16,
    },
    /// The limits that the sentry keeps and shows, as in [`crate::Limits`]: absent, as it was; 0, none. The host's cgroups
    /// are the caller's to change.
    Limits {
        #[serde(default)]
        memory: Option<u64>,
        #[serde(default)]
        millicpus: Option<u64>,
        #[serde(default)]
        pids: Option<u64>,
    },
    Stats {},
    /// From now on this client is told of the start and end of every process started from outside.
    Events {},
}

/// A container beside the first: a root, mounts and processes of its own. Network, System V IPC and terminals are the
/// sandbox's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub process: Process,
    /// In mount order; the first is the root.
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub root_read_only: bool,
    /// Absent: the sandbox's.
    #[serde(default)]
    pub hostname: Option<String>,
    #[serde(default)]
    pub domainname: Option<String>,
}

/// What the sentry says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Reply {
        id: u64,
        answer: Answer,
    },
    /// The request `id` failed; without a number: it was none that could be read.
    Error {
        id: Option<u64>,
        /// As errno(3) names it.
        errno: String,
        /// What `docker exec` ends with: 127 the program is not there, 126 it cannot be executed, 125 anything else.
        status: u8,
        message: String,
    },
    /// A process was started from outside.
    Started {
        pid: i32,
    },
    /// It ended: `status` is its exit status, or 128 + `signal`.
    Exited {
        pid: i32,
        status: i32,
        signal: Option<i32>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done {},
    Exec {
        pid: i32,
    },
    /// Some of the processes. `more`: the next message has more of them.
    Processes {
        processes: Vec<ProcessInfo>,
        more: bool,
    },
    Stats(Stats),
}

/// One process, as ps(1) shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessInfo {
    pub pid: i32,
    /// 0: it was started from outside.
    pub ppid: i32,
    pub uid: u32,
    /// As proc_pid_stat(5) has it: R, S, T, t, Z.
    pub state: char,
    pub threads: u32,
    pub name: String,
    /// Cut off after a thousand bytes.
    pub args: Vec<String>,
    /// Since 1970.
    pub started_ns: u64,
    pub cpu_ns: u64,
    /// Bytes of address space.
    pub memory: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stats {
    pub processes: u64,
    pub threads: u64,
    /// Descriptors in use.
    pub files: u64,
    /// Calls and faults of the guests' served so far.
    pub calls: u64,
    /// Bytes of the sentry's own heap.
    pub sentry_memory: u64,
    /// How often the sentry has asked its heap for memory.
    pub allocations: u64,
    pub uptime_ns: u64,
    /// The first processes of containers that have not been started.
    pub held: Vec<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn what_is_understood() {
        assert!(matches!(read(r#"{"id":1,"call":{"start":{}}}"#).unwrap().call, Call::Start { pid: None }));
        let exec = r#"{"id":2,"call":{"exec":{"process":{"args":["a"],"env":[],"cwd":"/"}}}}"#;
        let exec = read(exec).unwrap().call;
        assert!(matches!(exec, Call::Exec { process, bound: false, container: None } if process.args == ["a"]));
        let all = read(r#"{"id":3,"call":{"signal":{"number":9}}}"#).unwrap();
        assert!(matches!(all.call, Call::Signal { pid: None, container: None, number: 9 }));
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":-1,"call":{"start":{}}}"#,
            r#"{"id":1,"call":"start"}"#,
            r#"{"id":1,"call":{"start":{"now":1}}}"#,
            r#"{"id":1,"call":{"start":{}},"more":1}"#,
            r#"{"id":1,"call":{"start":{},"stats":{}}}"#,
            r#"{"id":1,"call":{"halt":{}}}"#,
            r#"{"id":1,"call":{"resize":{"pid":1,"rows":-1,"columns":1}}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
