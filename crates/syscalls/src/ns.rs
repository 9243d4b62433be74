//! Namespaces: unshare(2), setns(2), and what clone(2) makes of their flags.
use crate::args::{Fd, Flags};
use abi::{Errno, Result, c};
use kernel::cred::{CAP_SETFCAP, CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAPS_ALL, Cred};
use kernel::userns::UserNs;
use std::rc::Rc;
use task::Task;
use task::ns::{CLONE_NEWTIME, Namespace, Namespaces, NsFile};
use vfs::FsContext;

/// The kinds a process can have of its own.
const OWN: i32 = c::CLONE_NEWNS | c::CLONE_NEWUTS | c::CLONE_NEWIPC | c::CLONE_NEWUSER | c::CLONE_NEWCGROUP;
/// The kinds of which there is one each.
const ONE: i32 = c::CLONE_NEWNET | c::CLONE_NEWPID | CLONE_NEWTIME;
/// What only a thread without siblings may ask for; it has it then.
const ALONE: i32 = c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_VM;

/// What a thread, or its child, is to have.
pub struct Fresh {
    pub cred: Option<Cred>,
    pub fs: Option<Rc<FsContext>>,
    pub ns: Option<Rc<Namespaces>>,
}

/// Makes the namespaces that `flags` asks for, for the caller or a child of it. EPERM for what is not to be had.
pub fn fresh(t: &Task, flags: i32) -> Result<Fresh> {
    let mut out = Fresh { cred: None, fs: None, ns: None };
    if flags & ONE != 0 {
        return Err(Errno::EPERM);
    }
    let mut cred = t.cred();
    if flags & c::CLONE_NEWUSER != 0 {
        let new = new_user(t, &cred)?;
        cred = Rc::new(new.clone());
        out.cred = Some(new);
    }
    if flags & OWN & !c::CLONE_NEWUSER == 0 {
        return Ok(out);
    }
    if !cred.has_own(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if flags & c::CLONE_NEWNS != 0 {
        let old = t.fs();
        let (mut root, mut cwd) = (old.root.borrow().clone(), old.cwd.borrow().clone());
        let mounts = old.mounts.fork(&cred.user_ns, &mut [&mut root, &mut cwd])?;
        let new = FsContext::new(mounts, root);
        new.cwd.replace(cwd);
        new.umask.set(old.umask.get());
        out.fs = Some(new);
    }
    if flags & (c::CLONE_NEWUTS | c::CLONE_NEWIPC | c::CLONE_NEWCGROUP) != 0 {
        out.ns = Some(t.namespaces().with_new(flags, &cred.user_ns));
    }
    Ok(out)
}

/// Credentials in a user namespace of the caller's own making: every capability there.
fn new_user(t: &Task, old: &Cred) -> Result<Cred> {
    let fs = t.fs();
    let chrooted = fs.mounts.root().is_none_or(|r| !r.same(&fs.root.borrow()));
    if chrooted || !old.user_ns.maps(old.euid, old.egid) {
        return Err(Errno::EPERM);
    }
    let ns = UserNs::below(&old.user_ns, old.euid, old.egid, old.has_own(CAP_SETFCAP))?;
    Ok(all_in(old, ns))
}

fn all_in(old: &Cred, user_ns: Rc<UserNs>) -> Cred {
    Cred {
        inheritable: 0,
        permitted: CAPS_ALL,
        effective: CAPS_ALL,
        bounding: CAPS_ALL,
        ambient: 0,
        securebits: 0,
        user_ns,
        ..Cred::clone(old)
    }
}

/// unshare(2): directories, descriptors and namespaces become the caller's own.
pub fn unshare(t: &Rc<Task>, flags: Flags) -> Result {
    let mut flags = flags.only(OWN | ONE | ALONE | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SYSVSEM)?;
    if flags & c::CLONE_NEWUSER != 0 {
        flags |= c::CLONE_THREAD | c::CLONE_FS;
    }
    if flags & c::CLONE_NEWNS != 0 {
        flags |= c::CLONE_FS;
    }
    if flags & ALONE != 0 && t.process.threads().len() > 1 {
        return Err(Errno::EINVAL);
    }
    let made = fresh(t, flags)?;
    let files = if flags & c::CLONE_FILES != 0 { Some(t.files()?.fork()?) } else { None };
    if let Some(fs) = made.fs {
        t.fs.replace(fs);
        vfs::names::changed();
    } else if flags & c::CLONE_FS != 0 {
        let own = t.fs().fork();
        t.fs.replace(own);
    }
    if let Some(files) = files {
        t.files.replace(Some(files));
    }
    if flags & (c::CLONE_NEWIPC | c::CLONE_SYSVSEM) != 0 {
        t.undo_semaphores();
    }
    if let Some(ns) = made.ns {
        t.ns.replace(ns);
    }
    if let Some(cred) = made.cred {
        t.set_cred(cred);
    }
    Ok(())
}

/// setns(2): into a namespace that a descriptor is of, or some of those of a process.
pub fn setns(t: &Rc<Task>, fd: Fd, kind: i32) -> Result {
    let f = t.files()?.get(fd.0)?;
    if let Some(ns) = f.downcast::<NsFile>() {
        if kind != 0 && kind != ns.0.kind() {
            return Err(Errno::EINVAL);
        }
        return enter(t, std::slice::from_ref(&ns.0));
    }
    let p = f.downcast::<task::pidfd::PidFd>().ok_or(Errno::EINVAL)?;
    if kind == 0 || kind & !(OWN | ONE) != 0 {
        return Err(Errno::EINVAL);
    }
    let who = p.task().ok_or(Errno::ESRCH)?;
    if !t.may_access(&who, true) {
        return Err(Errno::EPERM);
    }
    // The user namespace comes first: it gives the right to the others.
    let names = ["user", "mnt", "uts", "ipc", "cgroup", "net", "pid", "time"];
    let all = names.iter().filter_map(|n| Namespace::of(&who, n));
    enter(t, &all.filter(|n| n.kind() & kind != 0).collect::<Vec<_>>())
}

fn shares_directories(t: &Task) -> bool {
    let fs = t.fs();
    let threads = t.kernel.processes().into_iter().flat_map(|p| p.threads());
    threads.filter(|o| Rc::ptr_eq(&o.fs(), &fs)).count() > 1
}

fn enter(t: &Task, all: &[Namespace]) -> Result {
    let mut cred = t.cred();
    let (mut fs, mut ns) = (t.fs(), Namespaces::clone(&t.namespaces()));
    for n in all {
        if let Namespace::User(to) = n {
            if *to == cred.user_ns || t.process.threads().len() > 1 || shares_directories(t) {
                return Err(Errno::EINVAL);
            }
            if !cred.has_in(to, CAP_SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            cred = Rc::new(all_in(&cred, to.clone()));
            continue;
        }
        let owner = n.owner().ok_or(Errno::EINVAL)?;
        if !cred.has_in(&owner, CAP_SYS_ADMIN) || !cred.has_own(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        match n {
            Namespace::Mount(to) => {
                if !cred.has_own(CAP_SYS_CHROOT) {
                    return Err(Errno::EPERM);
                }
                if shares_directories(t) {
                    return Err(Errno::EINVAL);
                }
                let new = FsContext::new(to.clone(), to.root().ok_or(Errno::EINVAL)?);
                new.umask.set(fs.umask.get());
                fs = new;
            }
            Namespace::Uts(to) => ns.uts = to.clone(),
            Namespace::Ipc(to) => ns.ipc = to.clone(),
            Namespace::Cgroup(to) => ns.cgroup = to.clone(),
            // There is no other.
            _ => {}
        }
    }
    if all.iter().any(|n| matches!(n, Namespace::Ipc(_))) {
        t.undo_semaphores();
    }
    t.fs.replace(fs);
    vfs::names::changed();
    t.ns.replace(Rc::new(ns));
    if *cred != *t.cred() {
        t.set_cred(Cred::clone(&cred));
    }
    Ok(())
}
