//! Attributes of mounts: mount_setattr(2), and as fsmount(2) has them.
use super::tree::AT_RECURSIVE;
use super::{is_mounted, may_mount, propagation};
use crate::args::{Fd, Flags, PathArg};
use crate::path::file_at;
use abi::fs::MountAttr;
use abi::{Errno, Result, c};
use guest::UserIn;
use kernel::cred::CAP_SYS_ADMIN;
use std::rc::Rc;
use task::Task;
use task::ns::{Namespace, NsFile};
use vfs::mount::{self, Propagation};
use vfs::{Mount, Path};

const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const IDMAP: u64 = 0x10_0000;

/// Those that are a bit each, and what they restrict.
const BITS: [(u64, u32); 6] = [
    (0x1, mount::READ_ONLY),
    (0x2, mount::NO_SUID),
    (0x4, mount::NO_DEV),
    (0x8, mount::NO_EXEC),
    (0x80, mount::NO_DIR_ATIME),
    (0x20_0000, mount::NO_SYMFOLLOW),
];

fn known() -> u64 {
    BITS.iter().fold(ATIME, |all, (bit, _)| all | bit)
}

fn restrictions(attr: u64) -> u32 {
    BITS.iter().filter(|(bit, _)| attr & bit != 0).fold(0, |all, (_, f)| all | f)
}

/// Of the way access times are kept, which is a number and not bits.
fn times(attr: u64) -> Result<u32> {
    match attr & ATIME {
        0 => Ok(mount::RELATIME),
        NOATIME => Ok(mount::NO_ATIME),
        STRICTATIME => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// The restrictions of a new mount with these attributes.
pub(super) fn of_new(attr: u64) -> Result<u32> {
    if attr & !known() != 0 { Err(Errno::EINVAL) } else { Ok(restrictions(attr) | times(attr)?) }
}

/// The attributes of a mount.
pub(super) fn of(m: &Mount) -> u64 {
    let bits = BITS.iter().filter(|(_, f)| m.has(*f)).fold(0, |all, (bit, _)| all | bit);
    let times = match () {
        () if m.has(mount::NO_ATIME) => NOATIME,
        () if m.has(mount::RELATIME) => 0,
        () => STRICTATIME,
    };
    bits | times
}

/// What is to become of mounts.
pub(super) struct Change {
    set: u32,
    clear: u32,
    propagation: Option<Propagation>,
    /// Their owners are to be others: no file system here can do that.
    idmap: bool,
}

/// What mount_setattr(2) is asked for. `None`: nothing.
pub(super) fn wanted(t: &Task, attr: UserIn<MountAttr>, size: usize) -> Result<Option<Change>> {
    let first = size_of::<MountAttr>();
    if size < first {
        return Err(Errno::EINVAL);
    }
    if size as u64 > abi::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    may_mount(t)?;
    let a = attr.get_sized(&*t.mem(), size, first)?;
    if a.set | a.clear | a.propagation == 0 {
        return Ok(None);
    }
    let propagation = if a.propagation == 0 { None } else { Some(propagation(a.propagation)?) };
    if (a.set | a.clear) & !(known() | IDMAP) != 0 {
        return Err(Errno::EINVAL);
    }
    let (mut set, mut clear) = (restrictions(a.set), restrictions(a.clear));
    match a.clear & ATIME {
        ATIME => {
            clear |= mount::RELATIME | mount::NO_ATIME;
            set |= times(a.set)?;
        }
        0 if a.set & ATIME == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    if a.clear & IDMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let idmap = a.set & IDMAP != 0;
    if idmap {
        may_map(t, a.userns_fd)?;
    }
    Ok(Some(Change { set, clear, propagation, idmap }))
}

/// Is it a user namespace that the ids of a mount can be those of, and the caller's to use?
fn may_map(t: &Task, fd: u64) -> Result {
    let fd = i32::try_from(fd).map_err(|_| Errno::EINVAL)?;
    let f = t.files()?.get(fd)?;
    match f.downcast::<NsFile>() {
        Some(NsFile(Namespace::User(ns))) if ns.is_first() || !t.cred().has_in(ns, CAP_SYS_ADMIN) => Err(Errno::EPERM),
        Some(NsFile(Namespace::User(_))) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Changes a mount. `deep`: and all that stands below it; all of them or none.
pub(super) fn apply(t: &Task, p: &Path, change: &Change, deep: bool) -> Result {
    let m = &p.mount;
    let mine = t.fs().mounts.holds(m) || m.ns().is_some_and(|ns| ns.is_detached_root(m));
    if !is_mounted(p) || !mine {
        return Err(Errno::EINVAL);
    }
    let all = if deep { m.tree() } else { vec![m.clone()] };
    let flags = |m: &Mount| m.flags() & !change.clear | change.set;
    for m in &all {
        m.check_flags(flags(m))?;
        if change.idmap {
            return Err(Errno::EINVAL);
        }
    }
    for m in &all {
        m.set_flags(flags(m));
        if let Some(to) = change.propagation {
            m.set_propagation(to);
        }
    }
    Ok(())
}

pub fn mount_setattr(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    flags: Flags,
    attr: UserIn<MountAttr>,
    size: usize,
) -> Result {
    const AT: i32 = c::AT_EMPTY_PATH | c::AT_SYMLINK_NOFOLLOW | c::AT_NO_AUTOMOUNT;
    let flags = flags.only(AT | AT_RECURSIVE)?;
    let Some(change) = wanted(t, attr, size)? else { return Ok(()) };
    let p = file_at(t, dir, path, flags & AT)?;
    apply(t, &p, &change, flags & AT_RECURSIVE != 0)
}
