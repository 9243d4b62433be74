//! What the shared kernel enforces on a container: the profile, already checked and compiled by the operator's side.
use serde::{Deserialize, Serialize};

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
    /// Bytes of the container's own kernel log; absent: syslog(2) is not answered by the monitor.
    #[serde(default)]
    pub kernel_log: Option<u32>,
    /// What uname(2) says; absent: what the host's kernel says.
    #[serde(default)]
    pub uname: Option<Uname>,
    /// sysinfo(2) tells the container's memory and tasks.
    #[serde(default)]
    pub sysinfo: bool,
    /// Attempts to get more capabilities are refused and told in the container's log.
    #[serde(default)]
    pub watch_escalation: bool,
}

pub const READ: u8 = 4;
pub const WRITE: u8 = 2;
pub const EXECUTE: u8 = 1;

fn everything() -> u8 {
    READ | WRITE | EXECUTE
}

/// Access to a file, or with `subtree` to a directory and all below it. What the rules for a file allow together, or the
/// default if none says, less what any denies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
