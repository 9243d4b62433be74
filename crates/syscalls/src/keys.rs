//! Keys: add_key(2), request_key(2), keyctl(2).
use crate::args::{InBuf, StrArg};
use abi::keys::*;
use abi::sys::Iovec;
use abi::{Errno, Result};
use guest::UserIn;
use kernel::cred::{CAP_SYS_ADMIN, Cred};
use kernel::keys::{Key, Keys, Kind, NOBODY, Need, Query, Ref};
use kernel::userns::{OVERFLOW_ID, UserNs};
use std::rc::Rc;
use task::Task;

/// Most bytes of a description, with its NUL.
const DESC_MAX: usize = 4096;
/// The same of what request_key(2) passes on.
const CALLOUT_MAX: usize = 4096;
const TYPE_MAX: usize = 32;
const PAYLOAD_MAX: usize = (1 << 20) - 1;
/// Most bytes that KEYCTL_UPDATE takes.
const UPDATE_MAX: usize = 4096;

/// Does something as the caller, who may get rings of its own by it, whether or not it succeeds.
fn with<T>(t: &Task, act: impl FnOnce(&Keys, &mut Cred) -> Result<T>) -> Result<T> {
    t.kernel.keys.sweep();
    let old = t.cred();
    let mut who = Cred::clone(&old);
    let done = act(&t.kernel.keys, &mut who);
    if who.keys != old.keys {
        t.set_cred(who);
    }
    done
}

/// The key that an id names, for something the caller wants with it.
fn find(t: &Task, id: i32, create: bool, need: Need) -> Result<Ref> {
    with(t, |keys, who| keys.find(who, id, create, need))
}

/// The ring that something is to be put on, if there is to be one.
fn destination(t: &Task, id: i32) -> Result<Option<Rc<Key>>> {
    if id == 0 { Ok(None) } else { find(t, id, true, Need::Write).map(|r| Some(r.key)) }
}

fn string(t: &Task, s: StrArg, max: usize) -> Result<Vec<u8>> {
    s.get(&*t.mem(), max).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e })
}

/// The name of a type. EINVAL EFAULT; EPERM: one that only the kernel uses.
fn type_name(t: &Task, s: StrArg) -> Result<Vec<u8>> {
    let name = string(t, s, TYPE_MAX)?;
    match name.first() {
        None => Err(Errno::EINVAL),
        Some(b'.') => Err(Errno::EPERM),
        Some(_) => Ok(name),
    }
}

fn bytes(t: &Task, addr: u64, len: usize) -> Result<Vec<u8>> {
    let mut data = vec![0; len];
    t.mem().read(addr, &mut data)?;
    Ok(data)
}

pub fn add_key(t: &Rc<Task>, kind: StrArg, desc: StrArg, data: InBuf<3>, len: usize, ring: i32) -> Result<i32> {
    if len > PAYLOAD_MAX {
        return Err(Errno::EINVAL);
    }
    let name = type_name(t, kind)?;
    let desc = if desc.0 == 0 { Vec::new() } else { string(t, desc, DESC_MAX)? };
    if desc.first() == Some(&b'.') && name.starts_with(b"keyring") {
        return Err(Errno::EPERM);
    }
    let data = bytes(t, data.0, len)?;
    with(t, |keys, who| {
        let ring = keys.find(who, ring, true, Need::Write)?;
        let kind = Kind::by_name(&name).ok_or(Errno::ENODEV)?;
        keys.add(who, &ring, kind, &desc, data).map(|k| k.serial)
    })
}

pub fn request_key(t: &Rc<Task>, kind: StrArg, desc: StrArg, callout: StrArg, ring: i32) -> Result<i32> {
    let name = type_name(t, kind)?;
    let desc = string(t, desc, DESC_MAX)?;
    let make = callout.0 != 0;
    if make {
        string(t, callout, CALLOUT_MAX)?;
    }
    let ring = destination(t, ring)?;
    let kind = Kind::by_name(&name).ok_or(Errno::ENOKEY)?;
    with(t, |keys, who| keys.request(who, kind, &desc, make, ring.as_ref()).map(|k| k.serial))
}

/// keyctl(2): each operation takes of the arguments what its type holds.
pub fn keyctl(t: &Rc<Task>, op: i32, a: u64, b: u64, d: u64, e: u64) -> Result<i64> {
    let id = a as i32;
    let none = |()| 0;
    match op {
        KEYCTL_GET_KEYRING_ID => serial(find(t, id, b as i32 != 0, Need::Search)),
        KEYCTL_JOIN_SESSION_KEYRING => join_session(t, StrArg(a)),
        KEYCTL_UPDATE => update(t, id, b, d as usize).map(none),
        KEYCTL_REVOKE => revoke(t, id).map(none),
        KEYCTL_CHOWN => chown(t, id, b as u32, d as u32).map(none),
        KEYCTL_SETPERM => set_perm(t, id, b as u32).map(none),
        KEYCTL_DESCRIBE => describe(t, id, b, d as usize),
        KEYCTL_CLEAR => find(t, id, true, Need::Write)?.key.clear().map(none),
        KEYCTL_LINK => link(t, id, b as i32).map(none),
        KEYCTL_UNLINK => unlink(t, id, b as i32).map(none),
        KEYCTL_SEARCH => search(t, id, StrArg(b), StrArg(d), e as i32),
        KEYCTL_READ => read(t, id, b, d as usize),
        KEYCTL_INSTANTIATE if d as usize > PAYLOAD_MAX => Err(Errno::EINVAL),
        // Only who makes a key for another may do these, and nobody does.
        KEYCTL_INSTANTIATE | KEYCTL_NEGATE => Err(Errno::EPERM),
        KEYCTL_INSTANTIATE_IOV => instantiate_iov(t, UserIn::new(b), d as u32),
        KEYCTL_REJECT => reject(d as u32),
        KEYCTL_SET_REQKEY_KEYRING => set_default(t, id),
        KEYCTL_SET_TIMEOUT => find(t, id, true, Need::SetAttr).map(|r| r.key.set_timeout(b as u32)).map(none),
        KEYCTL_ASSUME_AUTHORITY => match id {
            0 => Ok(0),
            id if id < 0 => Err(Errno::EINVAL),
            _ => Err(Errno::ENOKEY),
        },
        KEYCTL_GET_SECURITY => security(t, id, b, d as usize),
        KEYCTL_SESSION_TO_PARENT => session_to_parent(t).map(none),
        KEYCTL_INVALIDATE => {
            let key = find(t, id, false, Need::Search)?.key;
            t.kernel.keys.invalidate(&key);
            Ok(0)
        }
        KEYCTL_RESTRICT_KEYRING => restrict(t, id, StrArg(b), StrArg(d)).map(none),
        KEYCTL_MOVE => move_key(t, id, b as i32, d as i32, e as u32).map(none),
        KEYCTL_CAPABILITIES => capabilities(t, a, b as usize),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn serial(found: Result<Ref>) -> Result<i64> {
    found.map(|r| i64::from(r.key.serial))
}

fn join_session(t: &Task, name: StrArg) -> Result<i64> {
    if name.0 == 0 {
        return with(t, |keys, who| keys.new_session(who)).map(|k| i64::from(k.serial));
    }
    let name = string(t, name, DESC_MAX)?;
    if name.first() == Some(&b'.') {
        return Err(Errno::EPERM);
    }
    let (ring, had) = with(t, |keys, who| keys.join_session(who, &name))?;
    Ok(if had { 0 } else { i64::from(ring.serial) })
}

fn update(t: &Task, id: i32, data: u64, len: usize) -> Result {
    if len > UPDATE_MAX {
        return Err(Errno::EINVAL);
    }
    let data = bytes(t, data, len)?;
    find(t, id, false, Need::Write)?.key.update(data)
}

/// Who may change the permissions may revoke it, too.
fn revoke(t: &Task, id: i32) -> Result {
    let found = match find(t, id, false, Need::Write) {
        Err(Errno::EACCES) => find(t, id, false, Need::SetAttr)?,
        found => found?,
    };
    found.key.revoke();
    Ok(())
}

/// The kernel's number of an id; `None`: it stays.
fn given(ns: &UserNs, id: u32, inward: fn(&UserNs, u32) -> Option<u32>) -> Result<Option<u32>> {
    if id == u32::MAX { Ok(None) } else { inward(ns, id).map(Some).ok_or(Errno::EINVAL) }
}

fn chown(t: &Task, id: i32, user: u32, group: u32) -> Result {
    let who = t.cred();
    let user = given(&who.user_ns, user, UserNs::user)?;
    let group = given(&who.user_ns, group, UserNs::group)?;
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    let key = find(t, id, true, Need::SetAttr)?.key;
    let other_user = user.filter(|u| *u != key.uid());
    let other_group = group.filter(|g| *g != key.gid());
    if (other_user.is_some() || other_group.is_some_and(|g| !who.in_group(g))) && !who.has(CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    if let Some(user) = other_user {
        t.kernel.keys.give(&key, user)?;
    }
    if let Some(group) = other_group {
        key.own(key.uid(), group);
    }
    Ok(())
}

fn set_perm(t: &Task, id: i32, perm: u32) -> Result {
    const KNOWN: u32 = KEY_ALL << KEY_POS | KEY_ALL << KEY_USR | KEY_ALL << KEY_GRP | KEY_ALL;
    if perm & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let key = find(t, id, true, Need::SetAttr)?.key;
    let who = t.cred();
    if key.uid() != who.fsuid && !who.has(CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    key.set_perm(perm);
    Ok(())
}

/// Type, owner, group, permissions and description of a key, to somebody of `ns`.
fn describe(t: &Task, id: i32, out: u64, len: usize) -> Result<i64> {
    let key = find(t, id, false, Need::View)?.key;
    let (uid, gid) = shown_owner(&key, &t.cred().user_ns);
    let mut text = format!("{};{uid};{gid};{:08x};", key.kind.name(), key.perm()).into_bytes();
    text.extend_from_slice(&key.desc);
    text.push(0);
    give(t, out, len, &text)
}

/// Owner and group as somebody in `ns` sees them.
pub fn shown_owner(key: &Key, ns: &UserNs) -> (u32, u32) {
    let gid = if key.gid() == NOBODY { OVERFLOW_ID } else { ns.show_group(key.gid()) };
    (ns.show_user(key.uid()), gid)
}

/// Writes `data` out, if there is room for all of it, and says how much it is.
fn give(t: &Task, out: u64, len: usize, data: &[u8]) -> Result<i64> {
    if out != 0 && len >= data.len() {
        t.mem().write(out, data)?;
    }
    Ok(data.len() as i64)
}

fn link(t: &Task, id: i32, ring: i32) -> Result {
    let ring = find(t, ring, true, Need::Write)?.key;
    let key = find(t, id, true, Need::Link)?.key;
    ring.link(&key)
}

fn unlink(t: &Task, id: i32, ring: i32) -> Result {
    let ring = find(t, ring, false, Need::Write)?.key;
    let key = find(t, id, false, Need::Unlink)?.key;
    ring.unlink(&key)
}

fn search(t: &Task, ring: i32, kind: StrArg, desc: StrArg, dest: i32) -> Result<i64> {
    let name = type_name(t, kind)?;
    let desc = string(t, desc, DESC_MAX)?;
    let ring = find(t, ring, false, Need::Search)?;
    let dest = destination(t, dest)?;
    let kind = Kind::by_name(&name).ok_or(Errno::ENOKEY)?;
    let who = t.cred();
    let found = ring.search(&who, &Query::new(kind, &desc));
    let found = found.map_err(|e| if e == Errno::EAGAIN { Errno::ENOKEY } else { e })?;
    if let Some(dest) = dest {
        found.permission(&who, Need::Link)?;
        dest.link(&found.key)?;
    }
    Ok(i64::from(found.key.serial))
}

/// Who possesses a key may read it, even without the permission.
fn read(t: &Task, id: i32, out: u64, len: usize) -> Result<i64> {
    let found = find(t, id, false, Need::Deferred).map_err(|_| Errno::ENOKEY)?;
    if found.key.is_negative() {
        return Err(Errno::ENOKEY);
    }
    if !found.possessed {
        found.permission(&t.cred(), Need::Read)?;
    }
    if !found.key.kind.readable() {
        return Err(Errno::EOPNOTSUPP);
    }
    give(t, out, len, &found.key.read()?)
}

fn instantiate_iov(t: &Task, iov: UserIn<Iovec>, n: u32) -> Result<i64> {
    if !iov.is_null() {
        if n > 1024 {
            return Err(Errno::EINVAL);
        }
        iov.get_array(&*t.mem(), n as usize)?;
    }
    Err(Errno::EPERM)
}

/// EINVAL for what is no error number that a caller may see.
fn reject(error: u32) -> Result<i64> {
    let shown = (1..4095).contains(&error) && !Errno::from_raw(error as i32).is_restart();
    Err(if shown { Errno::EPERM } else { Errno::EINVAL })
}

fn set_default(t: &Task, ring: i32) -> Result<i64> {
    with(t, |keys, who| {
        let old = who.keys.default;
        match ring {
            KEY_REQKEY_DEFL_NO_CHANGE => return Ok(i64::from(old)),
            KEY_REQKEY_DEFL_THREAD_KEYRING => drop(keys.thread_ring(who)?),
            KEY_REQKEY_DEFL_PROCESS_KEYRING => drop(keys.process_ring(who)?),
            KEY_REQKEY_DEFL_DEFAULT
            | KEY_REQKEY_DEFL_SESSION_KEYRING
            | KEY_REQKEY_DEFL_USER_KEYRING
            | KEY_REQKEY_DEFL_USER_SESSION_KEYRING
            | KEY_REQKEY_DEFL_REQUESTOR_KEYRING => {}
            _ => return Err(Errno::EINVAL),
        }
        who.keys.default = ring;
        Ok(i64::from(old))
    })
}

/// There are no labels: an empty string. Who may not view the key might make it for another, and nobody does: ENOKEY.
fn security(t: &Task, id: i32, out: u64, len: usize) -> Result<i64> {
    find(t, id, false, Need::View).map_err(|e| if e == Errno::EACCES { Errno::ENOKEY } else { e })?;
    give(t, out, len, &[0])
}

/// KEYCTL_SESSION_TO_PARENT, for a parent of one thread and the same owners.
fn session_to_parent(t: &Task) -> Result {
    let ring = find(t, KEY_SPEC_SESSION_KEYRING, false, Need::Link)?.key;
    let parent = t.process.parent().filter(|p| p.pid > 1).ok_or(Errno::EPERM)?;
    let [thread] = &parent.threads()[..] else { return Err(Errno::EPERM) };
    let (mine, theirs) = (t.cred(), thread.cred());
    if theirs.keys.session.as_ref().is_some_and(|k| Rc::ptr_eq(k, &ring)) {
        return Ok(());
    }
    let same = [theirs.ruid, theirs.euid, theirs.suid].iter().all(|id| *id == mine.euid)
        && [theirs.rgid, theirs.egid, theirs.sgid].iter().all(|id| *id == mine.egid);
    let owned = theirs.keys.session.iter().chain([&ring]).all(|k| k.uid() == mine.euid);
    if !same || !owned {
        return Err(Errno::EPERM);
    }
    let mut new = Cred::clone(&theirs);
    new.keys.session = Some(ring);
    thread.set_cred(new);
    Ok(())
}

/// KEYCTL_RESTRICT_KEYRING. Of the types served none has rules of its own: ENOENT.
fn restrict(t: &Task, id: i32, kind: StrArg, rule: StrArg) -> Result {
    let ring = find(t, id, false, Need::SetAttr)?.key;
    if (kind.0 == 0) != (rule.0 == 0) {
        return Err(Errno::EINVAL);
    }
    if kind.0 == 0 {
        return ring.restrict();
    }
    let name = type_name(t, kind)?;
    string(t, rule, CALLOUT_MAX)?;
    match Kind::by_name(&name) {
        _ if ring.kind != Kind::Keyring => Err(Errno::ENOTDIR),
        Some(_) => Err(Errno::ENOENT),
        None => Err(Errno::ENOKEY),
    }
}

fn move_key(t: &Task, id: i32, from: i32, to: i32, flags: u32) -> Result {
    if flags & !KEYCTL_MOVE_EXCL != 0 {
        return Err(Errno::EINVAL);
    }
    let key = find(t, id, true, Need::Link)?.key;
    let from = find(t, from, false, Need::Write)?.key;
    let to = find(t, to, true, Need::Write)?.key;
    from.move_to(&key, &to, flags & KEYCTL_MOVE_EXCL != 0)
}

/// What this kernel has; what the caller has room for beyond that is zeroed.
fn capabilities(t: &Task, out: u64, len: usize) -> Result<i64> {
    const CAPS: [u8; 2] = [KEYCTL_CAPS0, KEYCTL_CAPS1];
    const ZEROES: [u8; 4096] = [0; 4096];
    let mem = t.mem();
    if len == 0 {
        return Ok(CAPS.len() as i64);
    }
    mem.write(out, &CAPS[..len.min(CAPS.len())])?;
    let mut done = CAPS.len();
    while done < len {
        let n = (len - done).min(ZEROES.len());
        mem.write(out.checked_add(done as u64).ok_or(Errno::EFAULT)?, &ZEROES[..n])?;
        done += n;
    }
    Ok(CAPS.len() as i64)
}
