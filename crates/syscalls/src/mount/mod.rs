//! Mounts: mount(2), and what the other calls about mounts share with it.
mod attr;
mod config;
mod overlay;
mod stat;
mod tmpfs;
mod tree;
mod types;
mod umount;

use crate::args::{Addr, PathArg};
use crate::path::as_caller;
use abi::{Errno, Result, c};
pub use attr::mount_setattr;
pub use config::{FsFile, fsconfig, fsmount, fsopen, fspick};
use kernel::cred::CAP_SYS_ADMIN;
pub use stat::{listmount, statmount};
use std::rc::Rc;
use task::Task;
pub use tree::{move_mount, open_tree, open_tree_attr};
use types::{Context, Value};
pub use umount::{pivot_root, umount2};
use vfs::mount::{self, Propagation, Tree};
use vfs::{Mount, Path};

/// EPERM unless the caller may change the mounts of its namespace.
fn may_mount(t: &Task) -> Result {
    let ns = t.fs().mounts.clone();
    if t.cred().has_in(&ns.user_ns, CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The place a path names.
fn place(t: &Task, path: &[u8], follow: bool) -> Result<Path> {
    let cwd = t.fs().cwd.borrow().clone();
    as_caller(t, |w| w.path(&cwd, path, follow))
}

fn is_mounted(p: &Path) -> bool {
    Rc::ptr_eq(&p.dentry, &p.mount.root)
}

/// EINVAL unless the mount is one of the caller's namespace.
fn own(t: &Task, m: &Mount) -> Result {
    if t.fs().mounts.holds(m) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// A string that may be missing. EINVAL: it has `max` bytes or more.
fn text(t: &Task, at: Addr, max: usize) -> Result<Option<String>> {
    if at.0 == 0 {
        return Ok(None);
    }
    let bytes = crate::args::StrArg(at.0).get(&*t.mem(), max);
    let bytes = bytes.map_err(|e| if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e })?;
    String::from_utf8(bytes).map(Some).map_err(|_| Errno::EINVAL)
}

/// The options of a file system: a page that is cut short where the guest's memory ends.
fn page(t: &Task, at: Addr) -> Result<String> {
    let mut out = Vec::new();
    let mem = t.mem();
    let mut byte = [0u8];
    while at.0 != 0 && out.len() < abi::PAGE_SIZE as usize - 1 {
        match mem.read(at.0 + out.len() as u64, &mut byte) {
            Ok(()) if byte[0] == 0 => break,
            Ok(()) => out.push(byte[0]),
            Err(e) if out.is_empty() => return Err(e),
            Err(_) => break,
        }
    }
    String::from_utf8(out).map_err(|_| Errno::EINVAL)
}

/// The restrictions that MS_ flags ask for.
fn restrictions(flags: u64, now: Option<u32>) -> u32 {
    const PAIRS: [(u64, u32); 6] = [
        (c::MS_RDONLY, mount::READ_ONLY),
        (c::MS_NOSUID, mount::NO_SUID),
        (c::MS_NODEV, mount::NO_DEV),
        (c::MS_NOEXEC, mount::NO_EXEC),
        (c::MS_NODIRATIME, mount::NO_DIR_ATIME),
        (MS_NOSYMFOLLOW, mount::NO_SYMFOLLOW),
    ];
    let mut out = PAIRS.iter().filter(|(ms, _)| flags & ms != 0).fold(0, |a, (_, f)| a | f);
    let times = c::MS_NOATIME | c::MS_NODIRATIME | c::MS_RELATIME | c::MS_STRICTATIME;
    match now {
        // A remount that says nothing of access times leaves them.
        Some(now) if flags & times == 0 => out |= now & (mount::NO_ATIME | mount::NO_DIR_ATIME | mount::RELATIME),
        _ if flags & c::MS_STRICTATIME != 0 => {}
        _ if flags & c::MS_NOATIME != 0 => out |= mount::NO_ATIME,
        _ => out |= mount::RELATIME,
    }
    out
}

const MS_NOSYMFOLLOW: u64 = 256;
const MS_NOUSER: u64 = 1 << 31;
/// What mount(2) sets of the file system itself, and what it changes with MS_REMOUNT.
const SB_FLAGS: u32 =
    mount::SB_RDONLY | mount::SB_SYNCHRONOUS | mount::SB_MANDLOCK | mount::SB_DIRSYNC | mount::SB_LAZYTIME;
const SB_CHANGED: u32 = SB_FLAGS & !mount::SB_DIRSYNC;
const TYPES: u64 = c::MS_SHARED | c::MS_PRIVATE | c::MS_SLAVE | c::MS_UNBINDABLE;

pub fn mount(t: &Rc<Task>, source: Addr, target: PathArg, kind: Addr, flags: u64, data: Addr) -> Result {
    let flags = if flags & c::MS_MGC_MSK == c::MS_MGC_VAL { flags & !c::MS_MGC_MSK } else { flags };
    let kind = text(t, kind, 4096)?;
    let source = text(t, source, 4096)?;
    let data = page(t, data)?;
    let p = place(t, &target.get(&*t.mem())?, true)?;
    if flags & MS_NOUSER != 0 {
        return Err(Errno::EINVAL);
    }
    may_mount(t)?;
    if flags & (c::MS_REMOUNT | c::MS_BIND) == c::MS_REMOUNT | c::MS_BIND {
        remounted(t, &p)?;
        let wanted = restrictions(flags, Some(p.mount.flags()));
        p.mount.check_flags(wanted)?;
        p.mount.set_flags(wanted);
        Ok(())
    } else if flags & c::MS_REMOUNT != 0 {
        remount(t, &p, flags, &data)
    } else if flags & c::MS_BIND != 0 {
        bind(t, source, p, flags & c::MS_REC != 0)
    } else if flags & TYPES != 0 {
        change_type(t, &p, flags)
    } else if flags & c::MS_MOVE != 0 {
        relocate(t, source, p)
    } else {
        new_mount(t, source, p, kind, flags, &data)
    }
}

fn remounted(t: &Task, p: &Path) -> Result {
    own(t, &p.mount)?;
    if is_mounted(p) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Changes a file system and this mount of it.
fn remount(t: &Task, p: &Path, flags: u64, data: &str) -> Result {
    remounted(t, p)?;
    let (m, sb) = (&p.mount, &p.mount.sb);
    let wanted = restrictions(flags, Some(m.flags()));
    // Whoever writes is told by the file system itself.
    m.check_flags(wanted & !mount::READ_ONLY | m.flags() & mount::READ_ONLY & wanted)?;
    let mut fs = Context::of(t, sb);
    fs.set_flags(flags as u32, SB_CHANGED);
    fs.set_all(t, data)?;
    fs.may_create(t)?;
    fs.change(t, sb, true)?;
    m.set_flags(wanted);
    Ok(())
}

fn bind(t: &Task, source: Option<String>, p: Path, deep: bool) -> Result {
    let source = source.filter(|s| !s.is_empty()).ok_or(Errno::EINVAL)?;
    let from = place(t, source.as_bytes(), true)?;
    let p = mount::enter(p);
    own(t, &p.mount)?;
    let tree = tree::copy(t, &from, deep)?;
    graft(t, &tree, p)
}

/// ENOENT where nothing can be mounted: the name is gone, or was never one that stays.
fn may_cover(p: &Path) -> Result {
    if p.dentry.removed.get() || !p.inode().may_be_covered() { Err(Errno::ENOENT) } else { Ok(()) }
}

fn is_dir(p: &Path) -> Result<bool> {
    Ok(p.inode().kind()? == c::S_IFDIR)
}

/// Puts a tree on a place, of which it must be a kind.
fn graft(t: &Task, tree: &Tree, p: Path) -> Result {
    may_cover(&p)?;
    if is_dir(&p)? != (tree.top().root.inode.kind()? == c::S_IFDIR) {
        return Err(Errno::ENOTDIR);
    }
    t.fs().mounts.attach(tree, p)
}

/// What one of MS_SHARED and its kin asks for. EINVAL: it is not one.
fn propagation(flags: u64) -> Result<Propagation> {
    Ok(match flags {
        c::MS_SHARED => Propagation::Shared,
        c::MS_PRIVATE => Propagation::Private,
        c::MS_SLAVE => Propagation::Slave,
        c::MS_UNBINDABLE => Propagation::Unbindable,
        _ => return Err(Errno::EINVAL),
    })
}

/// May it take and give mounts otherwise? EINVAL: it stands nowhere. EPERM: it is another's.
fn may_change_propagation(t: &Task, m: &Mount) -> Result {
    let ns = m.ns().ok_or(Errno::EINVAL)?;
    if t.cred().has_in(&ns.user_ns, CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

fn change_type(t: &Task, p: &Path, flags: u64) -> Result {
    if !is_mounted(p) {
        return Err(Errno::EINVAL);
    }
    let to = propagation(flags & !(c::MS_REC | c::MS_SILENT))?;
    may_change_propagation(t, &p.mount)?;
    let all = if flags & c::MS_REC != 0 { p.mount.tree() } else { vec![p.mount.clone()] };
    all.iter().for_each(|m| m.set_propagation(to));
    Ok(())
}

/// MS_MOVE.
fn relocate(t: &Task, source: Option<String>, p: Path) -> Result {
    let source = source.filter(|s| !s.is_empty()).ok_or(Errno::EINVAL)?;
    let from = place(t, source.as_bytes(), true)?;
    tree::relocate(t, &from, p, false)
}

fn new_mount(t: &Rc<Task>, source: Option<String>, p: Path, kind: Option<String>, flags: u64, data: &str) -> Result {
    let mut fs = Context::new(t, &kind.ok_or(Errno::EINVAL)?)?;
    fs.set_flags(flags as u32, SB_FLAGS);
    if let Some(source) = source {
        fs.set(t, "source", &Value::Text(source))?;
    }
    fs.set_all(t, data)?;
    fs.may_create(t)?;
    let sb = fs.create(t, false)?;
    let p = mount::enter(p);
    own(t, &p.mount)?;
    if is_mounted(&p) && Rc::ptr_eq(&p.mount.sb, &sb) {
        return Err(Errno::EBUSY);
    }
    let m = Mount::new(sb, fs.source.unwrap_or_else(|| "none".into()), restrictions(flags, None));
    graft(t, &Tree::of(m), p)
}
