//! Numbers of add_key(2), request_key(2) and keyctl(2), which the `libc` crate does not have.

/// Rings that a thread names without knowing their serial numbers.
pub const KEY_SPEC_THREAD_KEYRING: i32 = -1;
pub const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
pub const KEY_SPEC_SESSION_KEYRING: i32 = -3;
pub const KEY_SPEC_USER_KEYRING: i32 = -4;
pub const KEY_SPEC_USER_SESSION_KEYRING: i32 = -5;
pub const KEY_SPEC_REQKEY_AUTH_KEY: i32 = -7;
pub const KEY_SPEC_REQUESTOR_KEYRING: i32 = -8;

/// Where request_key(2) puts what it makes.
pub const KEY_REQKEY_DEFL_NO_CHANGE: i32 = -1;
pub const KEY_REQKEY_DEFL_DEFAULT: i32 = 0;
pub const KEY_REQKEY_DEFL_THREAD_KEYRING: i32 = 1;
pub const KEY_REQKEY_DEFL_PROCESS_KEYRING: i32 = 2;
pub const KEY_REQKEY_DEFL_SESSION_KEYRING: i32 = 3;
pub const KEY_REQKEY_DEFL_USER_KEYRING: i32 = 4;
pub const KEY_REQKEY_DEFL_USER_SESSION_KEYRING: i32 = 5;
pub const KEY_REQKEY_DEFL_REQUESTOR_KEYRING: i32 = 7;

/// Operations of keyctl(2).
pub const KEYCTL_GET_KEYRING_ID: i32 = 0;
pub const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
pub const KEYCTL_UPDATE: i32 = 2;
pub const KEYCTL_REVOKE: i32 = 3;
pub const KEYCTL_CHOWN: i32 = 4;
pub const KEYCTL_SETPERM: i32 = 5;
pub const KEYCTL_DESCRIBE: i32 = 6;
pub const KEYCTL_CLEAR: i32 = 7;
pub const KEYCTL_LINK: i32 = 8;
pub const KEYCTL_UNLINK: i32 = 9;
pub const KEYCTL_SEARCH: i32 = 10;
pub const KEYCTL_READ: i32 = 11;
pub const KEYCTL_INSTANTIATE: i32 = 12;
pub const KEYCTL_NEGATE: i32 = 13;
pub const KEYCTL_SET_REQKEY_KEYRING: i32 = 14;
pub const KEYCTL_SET_TIMEOUT: i32 = 15;
pub const KEYCTL_ASSUME_AUTHORITY: i32 = 16;
pub const KEYCTL_GET_SECURITY: i32 = 17;
pub const KEYCTL_SESSION_TO_PARENT: i32 = 18;
pub const KEYCTL_REJECT: i32 = 19;
pub const KEYCTL_INSTANTIATE_IOV: i32 = 20;
pub const KEYCTL_INVALIDATE: i32 = 21;
pub const KEYCTL_RESTRICT_KEYRING: i32 = 29;
pub const KEYCTL_MOVE: i32 = 30;
pub const KEYCTL_CAPABILITIES: i32 = 31;

/// KEYCTL_MOVE: only if nothing is displaced.
pub const KEYCTL_MOVE_EXCL: u32 = 1;

/// What KEYCTL_CAPABILITIES tells: that call itself, big keys, invalidation, restricted rings, KEYCTL_MOVE.
pub const KEYCTL_CAPS0: u8 = 0x01 | 0x10 | 0x20 | 0x40 | 0x80;
/// Names of rings, and keys, belong to user namespaces.
pub const KEYCTL_CAPS1: u8 = 0x01 | 0x02;

/// Permissions of one class, keyrings(7); those of the possessor are 24 bits up, the owner's 16, the group's 8.
pub const KEY_VIEW: u32 = 0x01;
pub const KEY_READ: u32 = 0x02;
pub const KEY_WRITE: u32 = 0x04;
pub const KEY_SEARCH: u32 = 0x08;
pub const KEY_LINK: u32 = 0x10;
pub const KEY_SETATTR: u32 = 0x20;
pub const KEY_ALL: u32 = 0x3f;
pub const KEY_POS: u32 = 24;
pub const KEY_USR: u32 = 16;
pub const KEY_GRP: u32 = 8;
