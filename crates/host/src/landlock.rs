//! Rules on files that hold for this process and all it starts: landlock(7).
use abi::Result;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub const EXECUTE: u64 = 1;
pub const WRITE_FILE: u64 = 1 << 1;
pub const READ_FILE: u64 = 1 << 2;
pub const READ_DIR: u64 = 1 << 3;
/// Removing, making and moving names of any kind: REMOVE_DIR to MAKE_SYM, REFER.
pub const CHANGE_DIR: u64 = 0x1ff0 | 1 << 13;
pub const TRUNCATE: u64 = 1 << 14;

/// `struct landlock_ruleset_attr` of version 1.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

const RULE_PATH_BENEATH: i32 = 1;
const CREATE_RULESET_VERSION: u32 = 1;

fn check(r: i64) -> Result<i64> {
    if r < 0 { Err(crate::process::last()) } else { Ok(r) }
}

/// Which version the host has. EOPNOTSUPP: switched off; ENOSYS: none.
pub fn version() -> Result<u32> {
    // SAFETY: no memory is involved.
    let r = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, CREATE_RULESET_VERSION) };
    check(r).map(|v| v as u32)
}

/// Kinds of access that are refused from [`Ruleset::enforce`] on, but where a rule allows them.
#[derive(Debug)]
pub struct Ruleset(OwnedFd);

impl AsFd for Ruleset {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One that another process has made.
impl From<OwnedFd> for Ruleset {
    fn from(fd: OwnedFd) -> Ruleset {
        Ruleset(fd)
    }
}

impl Ruleset {
    /// `handled`: the kinds of access. EINVAL: the host does not know one of them.
    pub fn new(handled: u64) -> Result<Ruleset> {
        let attr = RulesetAttr { handled_access_fs: handled };
        // SAFETY: `attr` has the size given and is only read.
        let r =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of::<RulesetAttr>(), 0) };
        // SAFETY: the call has just made this descriptor.
        check(r).map(|fd| Ruleset(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Allows `access` to the inode of `file`, and if it is a directory to all below it. EINVAL: a kind that is not
    /// handled, or one of directories for a file.
    pub fn allow(&self, file: BorrowedFd<'_>, access: u64) -> Result {
        if access == 0 {
            return Ok(());
        }
        let rule = PathBeneath { allowed_access: access, parent_fd: file.as_raw_fd() };
        // SAFETY: `rule` is of the type named and only read.
        let r = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, self.0.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
        };
        check(r).map(drop)
    }

    /// From here on, for ever. EPERM without no_new_privs or CAP_SYS_ADMIN.
    pub fn enforce(self) -> Result {
        // SAFETY: no memory is involved.
        check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) }).map(drop)
    }
}
