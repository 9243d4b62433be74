//! Credentials of a thread: credentials(7), capabilities(7).
use crate::keys::Rings;
use crate::userns::UserNs;
use std::rc::Rc;

/// One thread's identity inside the container. Immutable; a change makes a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cred {
    pub ruid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub rgid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Rc<[u32]>,
    pub inheritable: u64,
    pub permitted: u64,
    pub effective: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub securebits: u32,
    pub no_new_privs: bool,
    pub user_ns: Rc<UserNs>,
    pub keys: Rings,
}

pub const CAP_CHOWN: u32 = 0;
pub const CAP_DAC_OVERRIDE: u32 = 1;
pub const CAP_DAC_READ_SEARCH: u32 = 2;
pub const CAP_FOWNER: u32 = 3;
pub const CAP_FSETID: u32 = 4;
pub const CAP_KILL: u32 = 5;
pub const CAP_SETGID: u32 = 6;
pub const CAP_SETUID: u32 = 7;
pub const CAP_SETPCAP: u32 = 8;
pub const CAP_LINUX_IMMUTABLE: u32 = 9;
pub const CAP_NET_ADMIN: u32 = 12;
pub const CAP_IPC_LOCK: u32 = 14;
pub const CAP_IPC_OWNER: u32 = 15;
pub const CAP_SYS_CHROOT: u32 = 18;
pub const CAP_SYS_PTRACE: u32 = 19;
pub const CAP_SYS_ADMIN: u32 = 21;
pub const CAP_SYS_NICE: u32 = 23;
pub const CAP_SYS_RESOURCE: u32 = 24;
pub const CAP_MKNOD: u32 = 27;
pub const CAP_LEASE: u32 = 28;
pub const CAP_SETFCAP: u32 = 31;
pub const CAP_MAC_OVERRIDE: u32 = 32;
pub const CAP_CHECKPOINT_RESTORE: u32 = 40;
/// The highest capability this kernel knows.
pub const CAP_LAST: u32 = CAP_CHECKPOINT_RESTORE;

/// Root's capabilities are not given at exec.
pub const SECBIT_NOROOT: u32 = 1 << 0;
/// Capabilities stay as they are when user ids change.
pub const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// Permitted capabilities survive a change from user 0.
pub const SECBIT_KEEP_CAPS: u32 = 1 << 4;
pub const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
/// Every secure bit, and above each the bit that locks it: capabilities(7).
pub const SECURE_BITS: u32 = 0x55;
pub const SECURE_LOCKS: u32 = SECURE_BITS << 1;

/// Every capability there is.
pub const CAPS_ALL: u64 = (1 << (CAP_LAST + 1)) - 1;
/// What `docker run` gives by default: 14 capabilities.
pub const CAPS_DEFAULT: u64 = 0xa804_25fb;

impl Cred {
    /// The first process's: full default capabilities for root, none else.
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> Cred {
        let caps = if uid == 0 { CAPS_DEFAULT } else { 0 };
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        Cred {
            ruid: uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            rgid: gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: groups.into(),
            inheritable: 0,
            permitted: caps,
            effective: caps,
            bounding: CAPS_DEFAULT,
            ambient: 0,
            securebits: 0,
            no_new_privs: false,
            user_ns: UserNs::first(),
            keys: Rings::default(),
        }
    }

    /// capable(): the capability is in the effective set, and counts in the whole sandbox.
    pub fn has(&self, cap: u32) -> bool {
        self.has_own(cap) && self.user_ns.is_first()
    }

    /// The capability is in the effective set, over what belongs to the own user namespace.
    pub fn has_own(&self, cap: u32) -> bool {
        self.effective & (1 << cap) != 0
    }

    /// ns_capable(): over what belongs to `ns`. Who made a namespace has every capability in it.
    pub fn has_in(&self, ns: &Rc<UserNs>, cap: u32) -> bool {
        let mut at = ns;
        loop {
            if *at == self.user_ns {
                return self.has_own(cap);
            }
            if at.level() <= self.user_ns.level() {
                return false;
            }
            let Some(parent) = &at.parent else { return false };
            if *parent == self.user_ns && at.owner == self.euid {
                return true;
            }
            at = parent;
        }
    }

    /// Over a file of these owners, who must have names in the own user namespace.
    pub fn has_over(&self, cap: u32, uid: u32, gid: u32) -> bool {
        self.has_own(cap) && self.user_ns.maps(uid, gid)
    }

    /// Is this user id the own namespace's root?
    pub fn is_root(&self, uid: u32) -> bool {
        self.user_ns.user(0) == Some(uid)
    }

    /// Is it the same user as `other`, as those calls ask that change another process?
    pub fn same_user(&self, other: &Cred) -> bool {
        self.euid == other.ruid || self.euid == other.euid
    }

    /// The file system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
