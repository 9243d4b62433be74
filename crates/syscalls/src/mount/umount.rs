//! umount2(2), pivot_root(2).
use super::{is_mounted, may_mount, own, place};
use crate::args::{Flags, PathArg};
use abi::{Errno, Result, c};
use kernel::cred::CAP_SYS_ADMIN;
use std::rc::Rc;
use task::Task;
use vfs::Path;
use vfs::mount::{self, SB_RDONLY};

const UMOUNT_NOFOLLOW: i32 = 8;

pub fn umount2(t: &Rc<Task>, target: PathArg, flags: Flags) -> Result {
    let flags = flags.only(c::MNT_FORCE | c::MNT_DETACH | c::MNT_EXPIRE | UMOUNT_NOFOLLOW)?;
    let name = target.get(&*t.mem())?;
    let p = mount::enter(place(t, &name, flags & UMOUNT_NOFOLLOW == 0)?);
    may_mount(t)?;
    if !is_mounted(&p) {
        return Err(Errno::EINVAL);
    }
    own(t, &p.mount)?;
    let (fs, m) = (t.fs(), p.mount.clone());
    drop(p);
    if m.locked() {
        return Err(Errno::EINVAL);
    }
    if flags & c::MNT_FORCE != 0 && !t.cred().has_in(&m.sb.user_ns, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let is_root = Rc::ptr_eq(&m, &fs.root.borrow().mount);
    if flags & c::MNT_EXPIRE != 0 {
        if is_root || flags & (c::MNT_FORCE | c::MNT_DETACH) != 0 {
            return Err(Errno::EINVAL);
        }
        if m.busy(1) {
            return Err(Errno::EBUSY);
        }
        if !m.expiring.replace(true) {
            return Err(Errno::EAGAIN);
        }
    }
    let detach = flags & c::MNT_DETACH != 0;
    if is_root && !detach {
        // A process cannot lose its root: the file system becomes read-only instead.
        if !t.cred().has_in(&m.sb.user_ns, CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        return m.sb.set_flags(SB_RDONLY, SB_RDONLY);
    }
    if m.on().is_none() {
        return Err(Errno::EINVAL);
    }
    if !detach && m.busy(1) {
        return Err(Errno::EBUSY);
    }
    fs.mounts.detach(&m);
    Ok(())
}

/// pivot_root(2). Who has the old root as root or working directory gets the new one.
pub fn pivot_root(t: &Rc<Task>, new: PathArg, put: PathArg) -> Result {
    may_mount(t)?;
    let directory = |name: Vec<u8>| {
        let p = place(t, &name, true)?;
        if p.inode().kind()? == c::S_IFDIR { Ok(p) } else { Err(Errno::ENOTDIR) }
    };
    let new = directory(new.get(&*t.mem())?)?;
    let put = mount::enter(directory(put.get(&*t.mem())?)?);
    let fs = t.fs();
    let root = fs.root.borrow().clone();
    own(t, &root.mount)?;
    own(t, &new.mount)?;
    own(t, &put.mount)?;
    let shared = |m: Option<Path>| m.is_some_and(|p| p.mount.group() != 0);
    if put.mount.group() != 0 || shared(new.mount.on()) || shared(root.mount.on()) || new.mount.locked() {
        return Err(Errno::EINVAL);
    }
    if new.dentry.removed.get() {
        return Err(Errno::ENOENT);
    }
    if Rc::ptr_eq(&new.mount, &root.mount) || Rc::ptr_eq(&put.mount, &root.mount) {
        return Err(Errno::EBUSY);
    }
    let below = |p: &Path, top: &Path| vfs::name_of(p, top).is_some();
    if !is_mounted(&root) || !is_mounted(&new) || new.mount.on().is_none() || !below(&put, &new) || !below(&new, &root)
    {
        return Err(Errno::EINVAL);
    }
    fs.mounts.pivot(&new.mount, &root.mount, put);
    for p in t.kernel.processes() {
        for who in p.threads() {
            let fs = who.fs();
            for place in [&fs.root, &fs.cwd] {
                let old = place.borrow().same(&root);
                if old {
                    place.replace(new.clone());
                }
            }
        }
    }
    Ok(())
}
