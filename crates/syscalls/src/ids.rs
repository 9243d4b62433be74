//! Who a thread is: getpid(2), setsid(2), setpgid(2), credentials(7).
use abi::{Errno, Result};
use guest::{UserIn, UserOut};
use kernel::cred::*;
use std::rc::Rc;
use task::{Process, Task};
use zerocopy::IntoBytes;

pub fn getpid(t: &Rc<Task>) -> Result<i32> {
    Ok(t.process.pid)
}

pub fn gettid(t: &Rc<Task>) -> Result<i32> {
    Ok(t.tid)
}

pub fn getppid(t: &Rc<Task>) -> Result<i32> {
    Ok(t.process.ppid())
}

fn target(t: &Task, pid: i32) -> Result<Rc<Process>> {
    if pid == 0 { Ok(t.process.clone()) } else { t.find_process(pid).ok_or(Errno::ESRCH) }
}

pub fn getpgid(t: &Rc<Task>, pid: i32) -> Result<i32> {
    Ok(target(t, pid)?.pgid.get())
}

pub fn getpgrp(t: &Rc<Task>) -> Result<i32> {
    Ok(t.process.pgid.get())
}

pub fn getsid(t: &Rc<Task>, pid: i32) -> Result<i32> {
    Ok(target(t, pid)?.sid.get())
}

pub fn setsid(t: &Rc<Task>) -> Result<i32> {
    let p = &t.process;
    if p.pgid.get() == p.pid || !t.find_group(p.pid).is_empty() {
        return Err(Errno::EPERM);
    }
    p.sid.set(p.pid);
    p.pgid.set(p.pid);
    p.tty.take();
    Ok(p.pid)
}

/// setpgid(2): EACCES once the child has executed something, EPERM across sessions.
pub fn setpgid(t: &Rc<Task>, pid: i32, pgid: i32) -> Result {
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    let p = target(t, pid)?;
    let own = Rc::ptr_eq(&p, &t.process);
    if !own {
        if p.ppid() != t.process.pid {
            return Err(Errno::ESRCH);
        }
        if p.sid.get() != t.process.sid.get() {
            return Err(Errno::EPERM);
        }
        if p.has_execed.get() {
            return Err(Errno::EACCES);
        }
    }
    if p.sid.get() == p.pid {
        return Err(Errno::EPERM);
    }
    let to = if pgid == 0 { p.pid } else { pgid };
    if to != p.pid && !t.find_group(to).iter().any(|m| m.sid.get() == p.sid.get()) {
        return Err(Errno::EPERM);
    }
    p.pgid.set(to);
    Ok(())
}

pub fn getuid(t: &Rc<Task>) -> Result<u32> {
    let c = t.cred();
    Ok(c.user_ns.show_user(c.ruid))
}
pub fn geteuid(t: &Rc<Task>) -> Result<u32> {
    let c = t.cred();
    Ok(c.user_ns.show_user(c.euid))
}
pub fn getgid(t: &Rc<Task>) -> Result<u32> {
    let c = t.cred();
    Ok(c.user_ns.show_group(c.rgid))
}
pub fn getegid(t: &Rc<Task>) -> Result<u32> {
    let c = t.cred();
    Ok(c.user_ns.show_group(c.egid))
}

pub fn getresuid(t: &Rc<Task>, r: UserOut<u32>, e: UserOut<u32>, s: UserOut<u32>) -> Result {
    let (c, mem) = (t.cred(), t.mem());
    r.put(&*mem, &c.user_ns.show_user(c.ruid))?;
    e.put(&*mem, &c.user_ns.show_user(c.euid))?;
    s.put(&*mem, &c.user_ns.show_user(c.suid))
}

pub fn getresgid(t: &Rc<Task>, r: UserOut<u32>, e: UserOut<u32>, s: UserOut<u32>) -> Result {
    let (c, mem) = (t.cred(), t.mem());
    r.put(&*mem, &c.user_ns.show_group(c.rgid))?;
    e.put(&*mem, &c.user_ns.show_group(c.egid))?;
    s.put(&*mem, &c.user_ns.show_group(c.sgid))
}

const SAME: u32 = u32::MAX;

/// The kernel's number of an id that the caller gives; SAME stays. EINVAL if it stands for nobody.
fn user(c: &Cred, id: u32) -> Result<u32> {
    if id == SAME { Ok(SAME) } else { c.user_ns.user(id).ok_or(Errno::EINVAL) }
}
fn group(c: &Cred, id: u32) -> Result<u32> {
    if id == SAME { Ok(SAME) } else { c.user_ns.group(id).ok_or(Errno::EINVAL) }
}

/// Changes the user ids, and the capabilities with them (capabilities(7), "Effect of user ID changes").
fn set_uids(t: &Task, ruid: u32, euid: u32, suid: u32) -> Result {
    let old = t.cred();
    let mut c = Cred::clone(&old);
    let pick = |new: u32, old: u32| if new == SAME { old } else { new };
    c.ruid = pick(ruid, old.ruid);
    c.euid = pick(euid, old.euid);
    c.suid = pick(suid, old.suid);
    c.fsuid = c.euid;
    crate::privileges::after_setuid(&old, &mut c);
    crate::privileges::commit(t, c);
    Ok(())
}

fn set_gids(t: &Task, rgid: u32, egid: u32, sgid: u32) -> Result {
    let mut c = Cred::clone(&t.cred());
    let pick = |new: u32, old: u32| if new == SAME { old } else { new };
    c.rgid = pick(rgid, c.rgid);
    c.egid = pick(egid, c.egid);
    c.sgid = pick(sgid, c.sgid);
    c.fsgid = c.egid;
    crate::privileges::commit(t, c);
    Ok(())
}

pub fn setuid(t: &Rc<Task>, uid: u32) -> Result {
    let c = t.cred();
    let uid = user(&c, uid)?;
    if uid == SAME {
        Err(Errno::EINVAL)
    } else if c.has_own(CAP_SETUID) {
        set_uids(t, uid, uid, uid)
    } else if uid == c.ruid || uid == c.suid {
        set_uids(t, SAME, uid, SAME)
    } else {
        Err(Errno::EPERM)
    }
}

pub fn setgid(t: &Rc<Task>, gid: u32) -> Result {
    let c = t.cred();
    let gid = group(&c, gid)?;
    if gid == SAME {
        Err(Errno::EINVAL)
    } else if c.has_own(CAP_SETGID) {
        set_gids(t, gid, gid, gid)
    } else if gid == c.rgid || gid == c.sgid {
        set_gids(t, SAME, gid, SAME)
    } else {
        Err(Errno::EPERM)
    }
}

pub fn setreuid(t: &Rc<Task>, r: u32, e: u32) -> Result {
    let c = t.cred();
    let (r, e) = (user(&c, r)?, user(&c, e)?);
    let may = |id: u32, set: &[u32]| id == SAME || c.has_own(CAP_SETUID) || set.contains(&id);
    if !may(r, &[c.ruid, c.euid]) || !may(e, &[c.ruid, c.euid, c.suid]) {
        return Err(Errno::EPERM);
    }
    let new_e = if e == SAME { c.euid } else { e };
    let s = if r != SAME || (e != SAME && e != c.ruid) { new_e } else { SAME };
    set_uids(t, r, e, s)
}

pub fn setregid(t: &Rc<Task>, r: u32, e: u32) -> Result {
    let c = t.cred();
    let (r, e) = (group(&c, r)?, group(&c, e)?);
    let may = |id: u32, set: &[u32]| id == SAME || c.has_own(CAP_SETGID) || set.contains(&id);
    if !may(r, &[c.rgid, c.egid]) || !may(e, &[c.rgid, c.egid, c.sgid]) {
        return Err(Errno::EPERM);
    }
    let new_e = if e == SAME { c.egid } else { e };
    let s = if r != SAME || (e != SAME && e != c.rgid) { new_e } else { SAME };
    set_gids(t, r, e, s)
}

pub fn setresuid(t: &Rc<Task>, r: u32, e: u32, s: u32) -> Result {
    let c = t.cred();
    let (r, e, s) = (user(&c, r)?, user(&c, e)?, user(&c, s)?);
    let own = [SAME, c.ruid, c.euid, c.suid];
    if !c.has_own(CAP_SETUID) && ![r, e, s].iter().all(|id| own.contains(id)) {
        return Err(Errno::EPERM);
    }
    set_uids(t, r, e, s)
}

pub fn setresgid(t: &Rc<Task>, r: u32, e: u32, s: u32) -> Result {
    let c = t.cred();
    let (r, e, s) = (group(&c, r)?, group(&c, e)?, group(&c, s)?);
    let own = [SAME, c.rgid, c.egid, c.sgid];
    if !c.has_own(CAP_SETGID) && ![r, e, s].iter().all(|id| own.contains(id)) {
        return Err(Errno::EPERM);
    }
    set_gids(t, r, e, s)
}

/// setfsuid(2): the old id, whether or not the change was allowed.
pub fn setfsuid(t: &Rc<Task>, uid: u32) -> Result<u32> {
    let old = t.cred();
    let uid = user(&old, uid).unwrap_or(SAME);
    if uid != SAME && (old.has_own(CAP_SETUID) || [old.ruid, old.euid, old.suid, old.fsuid].contains(&uid)) {
        let mut c = Cred::clone(&old);
        c.fsuid = uid;
        crate::privileges::after_setfsuid(&old, &mut c);
        crate::privileges::commit(t, c);
    }
    Ok(old.user_ns.show_user(old.fsuid))
}

pub fn setfsgid(t: &Rc<Task>, gid: u32) -> Result<u32> {
    let old = t.cred();
    let gid = group(&old, gid).unwrap_or(SAME);
    if gid != SAME && (old.has_own(CAP_SETGID) || [old.rgid, old.egid, old.sgid, old.fsgid].contains(&gid)) {
        let mut c = Cred::clone(&old);
        c.fsgid = gid;
        crate::privileges::commit(t, c);
    }
    Ok(old.user_ns.show_group(old.fsgid))
}

const NGROUPS_MAX: i32 = 65536;

pub fn getgroups(t: &Rc<Task>, size: i32, list: UserOut<u32>) -> Result<i32> {
    let c = t.cred();
    let n = c.groups.len() as i32;
    if size < 0 || (size > 0 && size < n) {
        return Err(Errno::EINVAL);
    }
    if size > 0 {
        let bytes: Vec<u8> = c.groups.iter().flat_map(|g| c.user_ns.show_group(*g).to_ne_bytes()).collect();
        t.mem().write(list.addr(), &bytes)?;
    }
    Ok(n)
}

pub fn setgroups(t: &Rc<Task>, size: i32, list: UserIn<u32>) -> Result {
    let old = t.cred();
    let may = old.user_ns.may_set_groups();
    if !old.has_own(CAP_SETGID) || !may {
        return Err(Errno::EPERM);
    }
    if !(0..=NGROUPS_MAX).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let mut bytes = vec![0u8; size as usize * 4];
    t.mem().read(list.addr(), &mut bytes)?;
    let given = bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    let mut groups: Vec<u32> = given.map(|g| old.user_ns.group(g).ok_or(Errno::EINVAL)).collect::<Result<_>>()?;
    groups.sort_unstable();
    let mut c = Cred::clone(&old);
    c.groups = groups.into();
    t.set_cred(c);
    Ok(())
}

/// The versions of capget(2)'s header: one word of each set, and twice two.
const CAP_VERSION_1: u32 = 0x1998_0330;
const CAP_VERSION_2: u32 = 0x2007_1026;
const CAP_VERSION_3: u32 = 0x2008_0522;

/// Whom the header means, and how many bytes of data there are.
fn cap_target(t: &Task, header: UserIn<[u32; 2]>, out: UserOut<u32>) -> Result<(Rc<Task>, usize)> {
    let mem = t.mem();
    let [version, pid] = header.get(&*mem)?;
    let len = match version {
        CAP_VERSION_1 => 12,
        CAP_VERSION_2 | CAP_VERSION_3 => 24,
        _ => {
            out.put(&*mem, &CAP_VERSION_3)?;
            return Err(Errno::EINVAL);
        }
    };
    let who = match pid as i32 {
        pid if pid < 0 => return Err(Errno::EINVAL),
        0 => t.find_task(t.tid),
        pid => t.find_task(pid),
    };
    Ok((who.ok_or(Errno::ESRCH)?, len))
}

pub fn capget(t: &Rc<Task>, header: UserIn<[u32; 2]>, data: UserOut<[u32; 6]>) -> Result {
    let (c, len) = match cap_target(t, header, UserOut::new(header.addr())) {
        Err(Errno::EINVAL) if data.is_null() => return Ok(()),
        r => r.map(|(who, len)| (who.cred(), len))?,
    };
    if data.is_null() {
        return Ok(());
    }
    let low = |x: u64| x as u32;
    let high = |x: u64| (x >> 32) as u32;
    let words = [
        low(c.effective),
        low(c.permitted),
        low(c.inheritable),
        high(c.effective),
        high(c.permitted),
        high(c.inheritable),
    ];
    t.mem().write(data.addr(), &words.as_bytes()[..len])
}

pub fn capset(t: &Rc<Task>, header: UserIn<[u32; 2]>, data: UserIn<[u32; 6]>) -> Result {
    let (who, len) = cap_target(t, header, UserOut::new(header.addr()))?;
    if who.tid != t.tid {
        return Err(Errno::EPERM);
    }
    let mut w = [0u32; 6];
    t.mem().read(data.addr(), &mut w.as_mut_bytes()[..len])?;
    let join = |i: usize| w[i] as u64 | (w[i + 3] as u64) << 32;
    let (effective, permitted, inheritable) = (join(0), join(1), join(2));
    let old = t.cred();
    if permitted & !old.permitted != 0
        || effective & !permitted != 0
        || inheritable & !(old.inheritable | old.bounding) != 0
        || (inheritable & !(old.inheritable | old.permitted) != 0 && !old.has_own(kernel::cred::CAP_SETPCAP))
    {
        return Err(Errno::EPERM);
    }
    let mut c = Cred::clone(&old);
    c.effective = effective;
    c.permitted = permitted;
    c.inheritable = inheritable;
    c.ambient &= permitted & inheritable;
    t.set_cred(c);
    Ok(())
}

const KCMP_FILE: i32 = 0;
const KCMP_VM: i32 = 1;
const KCMP_FILES: i32 = 2;
const KCMP_FS: i32 = 3;
const KCMP_SIGHAND: i32 = 4;
const KCMP_IO: i32 = 5;
const KCMP_SYSVSEM: i32 = 6;

/// kcmp(2): 0 if two threads share a thing, else 1 or 2, an order that tells nothing else.
pub fn kcmp(t: &Rc<Task>, pid1: i32, pid2: i32, kind: i32, fd1: u64, fd2: u64) -> Result<i32> {
    let find = |pid: i32| t.find_task(pid).ok_or(Errno::ESRCH);
    let (a, b) = (find(pid1)?, find(pid2)?);
    let cred = t.cred();
    let may = |who: &Task| {
        let other = who.cred();
        let same = [other.ruid, other.euid, other.suid].iter().all(|id| *id == cred.ruid)
            && [other.rgid, other.egid, other.sgid].iter().all(|id| *id == cred.rgid);
        same || Rc::ptr_eq(&who.process, &t.process) || cred.has(CAP_SYS_PTRACE)
    };
    if !may(&a) || !may(&b) {
        return Err(Errno::EPERM);
    }
    let file = |who: &Task, fd: u64| {
        let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
        Ok(Rc::as_ptr(&who.files()?.get(fd)?).addr())
    };
    let of = |who: &Task, fd: u64| match kind {
        KCMP_FILE => file(who, fd),
        KCMP_VM => Ok(Rc::as_ptr(&who.mm()).addr()),
        KCMP_FILES => Ok(Rc::as_ptr(&who.files()?).addr()),
        KCMP_FS => Ok(Rc::as_ptr(&who.fs()).addr()),
        KCMP_SIGHAND => Ok(Rc::as_ptr(&*who.process.actions.borrow()).addr()),
        // There are no I/O contexts, so all have the same: none.
        KCMP_IO => Ok(0),
        KCMP_SYSVSEM => Ok(who.sem_undo.borrow().as_ref().map_or(0, |u| Rc::as_ptr(u).addr())),
        _ => Err(Errno::EINVAL),
    };
    // Where things lie in the kernel is no business of the guest's.
    let hidden = |address: usize| (address as u64 ^ t.kernel.boot).wrapping_mul(t.kernel.boot << 1 | 1);
    Ok(match hidden(of(&a, fd1)?).cmp(&hidden(of(&b, fd2)?)) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Greater => 2,
    })
}
