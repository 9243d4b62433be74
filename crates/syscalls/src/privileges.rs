//! What a program may do that another could not: set-user-id, set-group-id and capabilities at execve(2), capabilities(7).
use abi::{Errno, Result, c};
use kernel::cred::*;
use std::rc::Rc;
use task::Task;
use vfs::Path;

/// The attribute that holds a file's capabilities.
pub const FILE_CAPS: &[u8] = b"security.capability";
const REVISION: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
const EFFECTIVE: u32 = 1;

/// A file's capabilities.
struct FileCaps {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

/// Reads the attribute; `None`: it is not one, or another user namespace's.
fn parse(b: &[u8]) -> Option<FileCaps> {
    let word = |i: usize| Some(u32::from_le_bytes(b.get(i * 4..i * 4 + 4)?.try_into().ok()?));
    let magic = word(0)?;
    match (magic & REVISION, b.len()) {
        (REVISION_2, 20) => {}
        (REVISION_3, 24) if word(5)? == 0 => {}
        _ => return None,
    }
    let pair = |low: usize| Some(word(low)? as u64 | (word(low + 2)? as u64) << 32);
    Some(FileCaps { permitted: pair(1)?, inheritable: pair(2)?, effective: magic & EFFECTIVE != 0 })
}

/// May this be a value of [`FILE_CAPS`]?
pub fn is_file_caps(value: &[u8]) -> bool {
    parse(value).is_some()
}

/// Credentials of the program at `p`, and whether it must distrust its environment (AT_SECURE).
pub fn at_exec(t: &Task, p: &Path) -> Result<(Cred, bool)> {
    let a = p.inode().attr()?;
    let old = t.cred();
    let mut new = Cred { keys: old.keys.passed_on(), ..Cred::clone(&old) };
    let honour = !p.mount.has(vfs::mount::NO_SUID) && t.fs().mounts.holds(&p.mount);
    let honour = honour && old.user_ns.is_within(&p.mount.sb.user_ns);
    if honour && !old.no_new_privs && old.user_ns.maps(a.uid, a.gid) {
        if a.mode & c::S_ISUID != 0 {
            new.euid = a.uid;
        }
        if a.mode & (c::S_ISGID | c::S_IXGRP) == c::S_ISGID | c::S_IXGRP {
            new.egid = a.gid;
        }
    }
    new.permitted = 0;
    let mut effective = false;
    let caps = p.inode().xattr_get(FILE_CAPS).ok().filter(|_| honour).and_then(|v| parse(&v));
    if let Some(f) = &caps {
        new.permitted = f.permitted & old.bounding | f.inheritable & old.inheritable;
        effective = f.effective;
        if effective && f.permitted & !new.permitted != 0 {
            return Err(Errno::EPERM);
        }
    }
    let suid_root = !new.is_root(new.ruid) && new.is_root(new.euid);
    if new.securebits & SECBIT_NOROOT == 0 && !(caps.is_some() && suid_root) {
        if new.is_root(new.euid) || new.is_root(new.ruid) {
            new.permitted = old.bounding | old.inheritable;
        }
        effective |= new.is_root(new.euid);
    }
    let is_setid = new.euid != old.ruid || new.egid != old.rgid;
    let tracer = t.trace().and_then(|tr| tr.tracer());
    let watched = tracer.is_some_and(|by| !by.cred().has_in(&old.user_ns, CAP_SYS_PTRACE));
    if (is_setid || new.permitted & !old.permitted != 0) && (old.no_new_privs || watched) {
        if old.no_new_privs || !old.has_own(CAP_SETUID) {
            new.euid = new.ruid;
            new.egid = new.rgid;
        }
        new.permitted &= old.permitted;
    }
    (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
    if caps.is_some() || is_setid {
        new.ambient = 0;
    }
    new.permitted |= new.ambient;
    new.effective = if effective { new.permitted } else { new.ambient };
    new.securebits &= !SECBIT_KEEP_CAPS;
    let secure = is_setid || !new.is_root(new.ruid) && (effective || new.permitted & !new.ambient != 0);
    Ok((new, secure))
}

/// prctl(PR_SET_SECUREBITS).
pub fn set_securebits(t: &Task, bits: u64) -> Result<i64> {
    let old = t.cred();
    let now = old.securebits;
    let changes_locked = (now & SECURE_LOCKS) >> 1 & (now ^ bits as u32) != 0;
    let unlocks = (now & SECURE_LOCKS) & !(bits as u32) != 0;
    if changes_locked || unlocks || bits & !((SECURE_LOCKS | SECURE_BITS) as u64) != 0 || !old.has_own(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    t.set_cred(Cred { securebits: bits as u32, ..Cred::clone(&old) });
    Ok(0)
}

/// prctl(PR_SET_KEEPCAPS).
pub fn set_keepcaps(t: &Task, on: u64) -> Result<i64> {
    let old = t.cred();
    if on > 1 {
        return Err(Errno::EINVAL);
    }
    if old.securebits & SECBIT_KEEP_CAPS << 1 != 0 {
        return Err(Errno::EPERM);
    }
    let securebits = (old.securebits & !SECBIT_KEEP_CAPS) | if on == 1 { SECBIT_KEEP_CAPS } else { 0 };
    t.set_cred(Cred { securebits, ..Cred::clone(&old) });
    Ok(0)
}

/// prctl(PR_CAPBSET_DROP).
pub fn drop_bound(t: &Task, cap: u64) -> Result<i64> {
    let old = t.cred();
    if !old.has_own(CAP_SETPCAP) {
        return Err(Errno::EPERM);
    }
    if cap > CAP_LAST as u64 {
        return Err(Errno::EINVAL);
    }
    t.set_cred(Cred { bounding: old.bounding & !(1 << cap), ..Cred::clone(&old) });
    Ok(0)
}

/// Capabilities that follow the user ids (capabilities(7), "Effect of user ID changes").
pub fn after_setuid(old: &Cred, new: &mut Cred) {
    if old.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
        return;
    }
    let root = |c: &Cred| [c.ruid, c.euid, c.suid].iter().any(|id| old.is_root(*id));
    if root(old) && !root(new) {
        if old.securebits & SECBIT_KEEP_CAPS == 0 {
            new.permitted = 0;
            new.effective = 0;
        }
        new.ambient = 0;
    }
    if old.is_root(old.euid) && !old.is_root(new.euid) {
        new.effective = 0;
    } else if !old.is_root(old.euid) && old.is_root(new.euid) {
        new.effective = new.permitted;
    }
}

/// The capabilities that override permissions of files: they go and come with the file system user id.
const FILES: u64 = 1 << CAP_CHOWN
    | 1 << CAP_DAC_OVERRIDE
    | 1 << CAP_DAC_READ_SEARCH
    | 1 << CAP_FOWNER
    | 1 << CAP_FSETID
    | 1 << CAP_LINUX_IMMUTABLE
    | 1 << CAP_MKNOD
    | 1 << CAP_MAC_OVERRIDE;

/// The same for the file system's user id.
pub fn after_setfsuid(old: &Cred, new: &mut Cred) {
    if old.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
        return;
    }
    if old.is_root(old.fsuid) && !old.is_root(new.fsuid) {
        new.effective &= !FILES;
    } else if !old.is_root(old.fsuid) && old.is_root(new.fsuid) {
        new.effective |= new.permitted & FILES;
    }
}

/// May others look into the new program? (`secure`: it gained something.) PR_GET_DUMPABLE.
pub fn dumpable(t: &Rc<Task>, new: &Cred, readable: bool) -> i32 {
    let old = t.cred();
    let same = (new.euid, new.egid) == (new.ruid, new.rgid);
    (same && readable && !gains(&old, new)) as i32
}

/// A change that makes a process undumpable and forgets PR_SET_PDEATHSIG (commit_creds in Linux).
fn gains(old: &Cred, new: &Cred) -> bool {
    (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid)
        || (new.permitted & !old.permitted != 0 && old.user_ns == new.user_ns)
}

/// Changes a thread's credentials as its own doing.
pub fn commit(t: &Task, new: Cred) {
    let old = t.cred();
    if gains(&old, &new) {
        t.process.dumpable.set(0);
        t.process.parent_death_signal.set(0);
    }
    new.keys.follow_ids(&old, &new);
    t.set_cred(new);
}
