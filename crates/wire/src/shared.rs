//! What the shared kernel enforces on a container: the profile, already checked and compiled by the operator's side.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// With this in a [`crate::LaunchSpec`] there is no sentry: the program runs on the host's kernel.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedSpec {
    /// The container's root is not the host's: it has a user namespace of its own. Always so for who is not root.
    #[serde(default)]
    pub user_namespace: bool,
    /// The filter of system calls: code, jt, jf, k of each instruction. Empty: none.
    #[serde(default)]
    pub filter: Vec<(u16, u8, u8, u32)>,
    /// Access to files that no rule speaks of: of [`READ`], [`WRITE`], [`EXECUTE`].
    #[serde(default = "everything")]
    pub default_access: u8,
    #[serde(default)]
    pub file_rules: Vec<FileRule>,
    #[serde(default)]
    pub sysctl_views: Vec<SysctlView>,
    /// Programs for the container's control group: networks, devices, settings.
    #[serde(default)]
    pub programs: Vec<Program>,
    /// Bytes of the container's own kernel log; absent: syslog(2) is not answered by the monitor.
    #[serde(default)]
    pub kernel_log: Option<u32>,
    /// What uname(2) says; absent: what the host's kernel says.
    #[serde(default)]
    pub uname: Option<Uname>,
    /// sysinfo(2) tells the container's memory and tasks.
    #[serde(default)]
    pub sysinfo: bool,
    /// Calls that the operator's functions serve.
    #[serde(default)]
    pub plugins: Option<Plugins>,
    /// A connected socket to the process that has those functions.
    #[serde(default)]
    pub plugin_fd: Option<i32>,
    /// Attempts to get more capabilities are refused and told in the container's log.
    #[serde(default)]
    pub watch_escalation: bool,
    /// As an OCI runtime has it: `volumes` are all that is mounted, and what is below is made and asked.
    #[serde(default)]
    pub oci: Option<Box<Oci>>,
    /// The terminal is made inside.
    #[serde(default)]
    pub console: Option<Console>,
    /// One more program in the container whose control socket `join_fd` is connected to: of the rest only the process, the
    /// control groups and the filter are looked at.
    #[serde(default)]
    pub enter: bool,
}

/// System calls that functions outside of the container serve.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugins {
    /// Which calls are asked about and which pass: code, jt, jf, k of each instruction.
    pub filter: Vec<(u16, u8, u8, u32)>,
    /// By the call's number, what the operator knows the function by.
    pub functions: BTreeMap<i32, String>,
}

/// What the runtime specification has and a container of `rvisor run` has not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oci {
    /// Namespaces to be made, or files of those to be joined: pid, ipc, uts. The others are the host's; mounts and
    /// control groups are always the container's own, the network is named elsewhere.
    #[serde(default)]
    pub namespaces: BTreeMap<String, Option<String>>,
    /// What /dev has beside the devices of every container.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// There is no control group for devices: none can be opened but those in /dev.
    #[serde(default)]
    pub no_devices: bool,
    /// The container's state as hooks read it; the pid is put in.
    #[serde(default)]
    pub state: String,
    /// Run in the container's namespaces, before its root is entered; and inside, before its program.
    #[serde(default)]
    pub create_container: Vec<Hook>,
    #[serde(default)]
    pub start_container: Vec<Hook>,
}

/// mknod(2). `kind`: c, u, b or p.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    pub path: String,
    pub kind: char,
    #[serde(default)]
    pub major: u32,
    #[serde(default)]
    pub minor: u32,
    pub mode: u32,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

/// A program of the operator's. `timeout` in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    pub path: String,
    pub args: Vec<String>,
    pub env: Vec<String>,
    #[serde(default)]
    pub timeout: Option<u64>,
}

/// Where the master of a terminal goes: a connected socket that the launcher inherited.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    pub fd: i32,
    /// Rows and columns.
    #[serde(default)]
    pub size: Option<[u16; 2]>,
}

pub const READ: u8 = 4;
pub const WRITE: u8 = 2;
pub const EXECUTE: u8 = 1;

fn everything() -> u8 {
    READ | WRITE | EXECUTE
}

/// Access to a file, or with `subtree` to a directory and all below it. What the rules for a file allow together, or the
/// default if none says, less what any denies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// Inside; may be a pattern, which may fit nothing.
    pub path: String,
    #[serde(default)]
    pub allow: Option<u8>,
    #[serde(default)]
    pub deny: u8,
    #[serde(default)]
    pub subtree: bool,
}

/// What a file of /proc/sys shows: `name` with slashes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysctlView {
    pub name: String,
    pub value: String,
    #[serde(default)]
    pub writable: bool,
    /// It is the container's own setting, by its namespaces, and not a picture of the host's.
    #[serde(default)]
    pub own: bool,
}

/// A program that the host's kernel runs where it decides about something in a control group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Where: `connect4`, `device`, `sysctl` …
    pub attach: String,
    /// The instructions of the host's in-kernel machine.
    pub code: Vec<u64>,
}

/// Absent fields are the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uname {
    #[serde(default)]
    pub release: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
}
