//! Messages between the operator's side (Python), the launcher and the sentry: JSON, one schema.
//!
//! The launcher reads a [`LaunchSpec`], turns host paths into descriptors, and hands the sentry a
//! [`SentrySpec`] in which no host path is left. The sentry reports [`Event`]s, one JSON object a line.
#![forbid(unsafe_code)]

pub mod control;
pub mod shared;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the operator asks for. Read by `rvisor-launch` from the file named by its only argument
/// (`-` is standard input).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// Name of the sandbox: `[a-z0-9-]`, at most 64 bytes. Names the cgroup.
    pub id: String,
    /// The sentry's executable, and the stub's.
    pub sentry: String,
    pub stub: String,
    /// The root file system.
    pub root: Root,
    /// What else is mounted, in order.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Paths inside that show nothing: an empty file, or an empty directory. Those that do not exist are left out.
    #[serde(default)]
    pub masked: Vec<String>,
    /// Paths inside that cannot be written. Those that do not exist are left out.
    #[serde(default)]
    pub read_only: Vec<String>,
    pub process: Process,
    #[serde(default = "default_hostname")]
    pub hostname: String,
    #[serde(default)]
    pub domainname: Option<String>,
    #[serde(default)]
    pub network: Network,
    /// Settings of the sandbox's own network namespace, by their names in /proc/sys: `net/ipv4/ip_forward`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// With [`Network::User`]: a pipe to be read. A byte in it means that the network is there; its end that it will not be.
    #[serde(default)]
    pub network_fd: Option<i32>,
    #[serde(default)]
    pub network_rules: Vec<NetworkRule>,
    /// Small files laid over those of the root (/etc/resolv.conf), before the volumes.
    #[serde(default)]
    pub files: Vec<TextFile>,
    #[serde(default)]
    pub limits: Limits,
    /// Control groups that are there already and limit the sandbox; none are made then, whatever the limits.
    #[serde(default)]
    pub cgroups: Option<Vec<String>>,
    #[serde(default)]
    pub platform: Platform,
    /// Where strace lines go: a descriptor the launcher inherited.
    #[serde(default)]
    pub strace_fd: Option<i32>,
    /// Where the sentry's debug log goes: a descriptor the launcher inherited.
    #[serde(default)]
    pub log_fd: Option<i32>,
    /// Where [`Event`]s go: a descriptor the launcher inherited.
    pub events_fd: i32,
    /// Ends (a pipe, to be read) when the caller has removed the cgroups, or has died and cannot: then the launcher, which
    /// waits for that, removes them. Without it, or without cgroups, the launcher is gone at once.
    #[serde(default)]
    pub caller_fd: Option<i32>,
    /// The sandbox outlives the caller, from the moment on that the caller writes a byte to `caller_fd`. If that ends
    /// without one, the sandbox ends too.
    #[serde(default)]
    pub detached: bool,
    /// The sandbox's control socket, see [`control`]: AF_UNIX, SOCK_SEQPACKET, listening or connected.
    #[serde(default)]
    pub control_fd: Option<i32>,
    /// The program is loaded, and begins when [`control::Call::Start`] says so.
    #[serde(default)]
    pub hold: bool,
    /// Pid 1 is sent only what it handles, as in a pid namespace of Linux's, and SIGKILL and SIGSTOP from outside. Otherwise
    /// what comes from outside, and the terminal's SIGINT and SIGQUIT, end it.
    #[serde(default)]
    pub guarded_init: bool,
    /// No sentry: the program runs on the host's kernel. `sentry`, `stub` and `platform` are not looked at.
    #[serde(default)]
    pub shared: Option<Box<shared::SharedSpec>>,
    /// A connection to the control socket of a running sandbox: this is one more container in it ([`control::Container`]),
    /// and the process that is made only stands for its first one.
    #[serde(default)]
    pub join_fd: Option<i32>,
    /// Whoever enters the mount namespace of the process that is made finds the root and the volumes there. It does not
    /// see them itself.
    #[serde(default)]
    pub visible: bool,
    /// Which of the host's ids the sandbox's are; without it each is its own.
    #[serde(default)]
    pub ids: Option<IdRanges>,
    /// Nodes that are laid over their paths. What opens them is the sandbox's kernel.
    #[serde(default)]
    pub devices: Vec<shared::Device>,
}

/// Of users and of groups: linux.uidMappings and linux.gidMappings of the OCI's runtime specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRanges {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

/// The ids from `inside` on are the host's from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

fn default_hostname() -> String {
    "rvisor".into()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Absolute host path of the root directory.
    pub path: String,
    #[serde(default)]
    pub overlay: Overlay,
    /// The guest cannot write to it.
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub propagation: Propagation,
}

/// Where writes to the root go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlay {
    /// An in-memory layer, gone with the sandbox.
    #[default]
    Memory,
    /// The root directory itself is written to.
    None,
    /// The named host directory keeps the upper layer.
    Dir(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Absolute host path; a directory or a regular file. Absent: a file system in memory.
    #[serde(default)]
    pub source: Option<String>,
    /// Absolute path inside.
    pub target: String,
    /// What /proc/mounts calls the source of one in memory; of another, what mountinfo calls its root.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub propagation: Propagation,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub no_exec: bool,
    #[serde(default)]
    pub no_suid: bool,
    #[serde(default)]
    pub no_dev: bool,
    /// What is written to it stays in memory, and is gone with the sandbox.
    #[serde(default)]
    pub copy_up: bool,
    /// Of one in memory: bytes, and the permission bits of its root.
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    pub mode: Option<u32>,
    /// Not one in memory, but a new one of this kind. On the shared kernel only.
    #[serde(default)]
    pub file_system: Option<FileSystem>,
}

/// proc, sysfs, devpts, mqueue, cgroup (the container's own groups, of either version), tmpfs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSystem {
    pub kind: String,
    /// Those without a value are flags.
    #[serde(default)]
    pub options: Vec<(String, String)>,
}

/// How far mounts made on a mount are seen, among those of the sandbox: mount_namespaces(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    #[default]
    Private,
    Shared,
    Slave,
    Unbindable,
}

/// What network the sandbox is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// One of its own with a loopback interface and nothing else.
    #[default]
    None,
    /// The caller's.
    Host,
    /// The one this file names (/run/netns/NAME, /proc/PID/ns/net).
    Ns(String),
    /// One of its own, which the caller connects while the launcher waits: see [`Event::Network`].
    User,
}

/// Which peers may be reached; the first rule that fits decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRule {
    pub allow: bool,
    /// `10.0.0.0/8`, `fc00::/7`, or one address.
    pub net: String,
    /// First and last.
    pub ports: [u16; 2],
}

/// A file whose contents are given here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFile {
    /// Absolute path inside.
    pub target: String,
    pub text: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default)]
    pub groups: Vec<u32>,
    /// The three standard descriptors are one terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Absent: root has Docker's default set, others have none.
    #[serde(default)]
    pub capabilities: Option<Capabilities>,
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub no_new_privs: bool,
    /// Absent: 022.
    #[serde(default)]
    pub umask: Option<u32>,
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// A filter of seccomp(2) that it begins with: code, jt, jf, k of each instruction.
    #[serde(default)]
    pub seccomp: Vec<(u16, u8, u8, u32)>,
    /// Where there is no HOME in `env`, it is what the sandbox's /etc/passwd says, or /.
    #[serde(default)]
    pub home: bool,
}

/// The five sets of capabilities(7) before the program is executed, each a mask of `1 << CAP_…`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// A limit of setrlimit(2) by its RLIMIT_ number; 2^64 - 1 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    pub which: u32,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes, the sentry's own included; no swap.
    #[serde(default)]
    pub memory: Option<u64>,
    /// CPUs in thousandths: 1500 is one and a half.
    #[serde(default)]
    pub millicpus: Option<u64>,
    /// Guest tasks. The sentry keeps this limit; the cgroup allows a few more for the sandbox's own.
    #[serde(default)]
    pub pids: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    #[default]
    Slots,
    Ptrace,
}

/// What the sentry starts from. Every descriptor number is open in the sentry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentrySpec {
    pub id: String,
    pub process: Process,
    pub hostname: String,
    pub domainname: Option<String>,
    pub limits: Limits,
    pub platform: Platform,
    pub network_rules: Vec<NetworkRule>,
    /// In mount order; the first is the root.
    pub mounts: Vec<Mount>,
    pub root_read_only: bool,
    /// A directory in memory that nobody else sees.
    pub memory_fd: i32,
    /// How container ids map to the ids the sentry sees on files.
    pub ids: IdMap,
    /// What /proc/PID/uid_map and gid_map say, where the container's ids were given.
    #[serde(default)]
    pub id_ranges: Option<IdRanges>,
    /// SOCK_SEQPACKET to the stub's init process.
    pub init_fd: i32,
    /// Host pid of the stub's init, as the sentry sees it.
    pub init_pid: i32,
    #[serde(default)]
    pub strace_fd: Option<i32>,
    #[serde(default)]
    pub log_fd: Option<i32>,
    pub events_fd: i32,
    #[serde(default)]
    pub control_fd: Option<i32>,
    #[serde(default)]
    pub hold: bool,
    #[serde(default)]
    pub guarded_init: bool,
    /// Settings that the operator has changed, by their names in /proc/sys.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// CPUs the sandbox may use: affinity and quota, in thousandths.
    pub millicpus: u64,
    /// Mappings the host lets one process have: its vm.max_map_count.
    pub max_map_count: usize,
    /// Monotonic nanoseconds at the launcher's first instruction.
    pub started_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdMap {
    /// Container ids are what the sentry sees.
    Identity,
    /// The sentry sees one id only, its own 0; owners cannot be kept on the host.
    Single,
}

// Without deny_unknown_fields: serde does not have it together with flatten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub target: String,
    #[serde(default)]
    pub no_exec: bool,
    #[serde(default)]
    pub no_suid: bool,
    #[serde(default)]
    pub no_dev: bool,
    /// What /proc/mounts calls the source of one in memory; of another, what mountinfo calls its root.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub propagation: Propagation,
    #[serde(flatten)]
    pub kind: MountKind,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum MountKind {
    /// A host directory or file, by an O_PATH descriptor. `exclusive`: nobody else changes it while
    /// the sandbox runs, so look-ups may be kept.
    Host {
        fd: i32,
        /// Not a single file.
        dir: bool,
        read_only: bool,
        exclusive: bool,
    },
    /// `upper_fd` absent: the upper layer is in memory.
    Overlay {
        lower_fd: i32,
        upper_fd: Option<i32>,
    },
    Tmpfs {
        size: Option<u64>,
        mode: Option<u32>,
        read_only: bool,
    },
    /// What is there is hidden by something empty.
    Mask,
    /// What is there, and cannot be written.
    ReadOnly,
    /// A file in memory with these contents; left out where there is no place for it.
    Text {
        text: String,
    },
    Proc,
    Dev,
    /// A single node. What opens it is the sandbox's kernel.
    Node {
        device: shared::Device,
    },
    /// The terminals of the sandbox.
    Devpts,
    /// The names of its message queues.
    Mqueue,
    /// And the view of the cgroup in it. Left out where there is no place for it.
    Sysfs,
}

/// What the sentry tells the operator's side, one JSON object a line on `events_fd`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// From the launcher: the sentry's pid in the launcher's pid namespace. It is the caller's child: it must
    /// be waited for even if `Failed` follows. `cgroups` are directories the caller removes after that.
    Launched {
        pid: i32,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cgroups: Vec<String>,
    },
    /// From the launcher: the sandbox's network namespace is there and waits for a byte in `network_fd`.
    Network {},
    /// With `hold`: the program is loaded, and waits for [`control::Call::Start`]. `pid`: of a further container's first
    /// process, inside.
    Held {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
    },
    /// The guest's first instruction is about to run. `ns`: since the launcher's first instruction.
    Started { ns: u64 },
    /// The command could not be started: exit status 125, 126 or 127 as `docker run`.
    Failed { status: i32, message: String },
    /// The first process ended: `status` is its exit status, or 128 + `signal`.
    Exited { status: i32, signal: Option<i32> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_comes_back() {
        for kind in [
            MountKind::Host { fd: 7, dir: true, read_only: true, exclusive: false },
            MountKind::Overlay { lower_fd: 3, upper_fd: Some(4) },
            MountKind::Overlay { lower_fd: 3, upper_fd: None },
            MountKind::Tmpfs { size: None, mode: Some(0o700), read_only: false },
            MountKind::Mask,
        ] {
            let text = serde_json::to_string(&Mount {
                target: "/x".into(),
                no_exec: true,
                no_suid: false,
                no_dev: true,
                name: None,
                propagation: Propagation::Private,
                kind,
            })
            .expect("writes");
            let back: Mount = serde_json::from_str(&text).expect("reads");
            assert_eq!(serde_json::to_string(&back).expect("writes"), text);
        }
    }

    #[test]
    fn launched_without_cgroups_is_as_it_was() {
        let event = Event::Launched { pid: 5, cgroups: vec![] };
        assert_eq!(serde_json::to_string(&event).expect("writes"), r#"{"event":"launched","pid":5}"#);
        let old: Event = serde_json::from_str(r#"{"event":"launched","pid":5}"#).expect("reads");
        assert!(matches!(old, Event::Launched { pid: 5, cgroups } if cgroups.is_empty()));
    }
}
