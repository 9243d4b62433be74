//! Mounts: mount(2), umount2(2), pivot_root(2).
use crate::args::{Addr, Flags, PathArg};
use crate::path::as_caller;
use abi::{Errno, Result, c};
use kernel::cred::CAP_SYS_ADMIN;
use std::rc::Rc;
use task::Task;
use vfs::mount::{self, Propagation, Tree};
use vfs::{Mount, Path, Super};

mod types;

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

/// A string that may be missing.
fn text(t: &Task, at: Addr) -> Result<Option<Vec<u8>>> {
    if at.0 == 0 { Ok(None) } else { crate::args::StrArg(at.0).get(&*t.mem(), 4096).map(Some) }
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
const TYPES: u64 = c::MS_SHARED | c::MS_PRIVATE | c::MS_SLAVE | c::MS_UNBINDABLE;

pub fn mount(t: &Rc<Task>, source: Addr, target: PathArg, kind: Addr, flags: u64, data: Addr) -> Result {
    let flags = if flags & c::MS_MGC_MSK == c::MS_MGC_VAL { flags & !c::MS_MGC_MSK } else { flags };
    let kind = text(t, kind)?;
    let source = text(t, source)?;
    let data = page(t, data)?;
    let p = place(t, &target.get(&*t.mem())?, true)?;
    if flags & MS_NOUSER != 0 {
        return Err(Errno::EINVAL);
    }
    may_mount(t)?;
    if flags & (c::MS_REMOUNT | c::MS_BIND) == c::MS_REMOUNT | c::MS_BIND {
        remounted(t, &p)?;
        p.mount.set_flags(restrictions(flags, Some(p.mount.flags())))
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
    let sb = &p.mount.sb;
    if !t.cred().has_in(&sb.user_ns, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let now = p.mount.flags();
    let wanted = restrictions(flags, Some(now));
    types::change(t, sb, data)?;
    p.mount.set_flags(wanted)?;
    sb.read_only.set(flags & c::MS_RDONLY != 0);
    Ok(())
}

fn bind(t: &Task, source: Option<Vec<u8>>, p: Path, deep: bool) -> Result {
    let source = source.filter(|s| !s.is_empty()).ok_or(Errno::EINVAL)?;
    let from = place(t, &source, true)?;
    let p = mount::enter(p);
    own(t, &p.mount)?;
    own(t, &from.mount)?;
    let tree = Mount::bind(&from, deep)?;
    graft(t, &tree, p)
}

/// Puts a tree on a place, of which it must be a kind.
fn graft(t: &Task, tree: &Tree, p: Path) -> Result {
    if p.dentry.removed.get() {
        return Err(Errno::ENOENT);
    }
    let is_dir = |i: &Rc<dyn vfs::Inode>| Ok::<_, Errno>(i.kind()? == c::S_IFDIR);
    if is_dir(p.inode())? != is_dir(&tree.top().root.inode)? {
        return Err(Errno::ENOTDIR);
    }
    t.fs().mounts.attach(tree, p)
}

fn change_type(t: &Task, p: &Path, flags: u64) -> Result {
    let to = match flags & !(c::MS_REC | c::MS_SILENT) {
        c::MS_SHARED => Propagation::Shared,
        c::MS_PRIVATE => Propagation::Private,
        c::MS_SLAVE => Propagation::Slave,
        c::MS_UNBINDABLE => Propagation::Unbindable,
        _ => return Err(Errno::EINVAL),
    };
    if !is_mounted(p) {
        return Err(Errno::EINVAL);
    }
    own(t, &p.mount)?;
    let all = if flags & c::MS_REC != 0 { p.mount.tree() } else { vec![p.mount.clone()] };
    all.iter().for_each(|m| m.set_propagation(to));
    Ok(())
}

/// MS_MOVE.
fn relocate(t: &Task, source: Option<Vec<u8>>, p: Path) -> Result {
    let source = source.filter(|s| !s.is_empty()).ok_or(Errno::EINVAL)?;
    let from = place(t, &source, true)?;
    let p = mount::enter(p);
    own(t, &p.mount)?;
    own(t, &from.mount)?;
    let m = &from.mount;
    let on = m.on().ok_or(Errno::EINVAL)?;
    let same_kind = (p.inode().kind()? == c::S_IFDIR) == (from.inode().kind()? == c::S_IFDIR);
    if !is_mounted(&from) || m.locked() || !same_kind || on.mount.group() != 0 {
        return Err(Errno::EINVAL);
    }
    if p.mount.group() != 0 && m.tree().iter().any(|m| m.unbindable()) {
        return Err(Errno::EINVAL);
    }
    if m.tree().iter().any(|below| Rc::ptr_eq(below, &p.mount)) {
        return Err(Errno::ELOOP);
    }
    if p.dentry.removed.get() {
        return Err(Errno::ENOENT);
    }
    t.fs().mounts.relocate(m, p)
}

fn new_mount(t: &Rc<Task>, source: Option<Vec<u8>>, p: Path, kind: Option<Vec<u8>>, flags: u64, data: &str) -> Result {
    let kind = String::from_utf8(kind.ok_or(Errno::EINVAL)?).map_err(|_| Errno::ENODEV)?;
    let sb: Rc<Super> = types::make(t, &kind, data, flags)?;
    let p = mount::enter(p);
    own(t, &p.mount)?;
    sb.read_only.set(sb.read_only.get() || flags & c::MS_RDONLY != 0);
    if is_mounted(&p) && Rc::ptr_eq(&p.mount.sb, &sb) {
        return Err(Errno::EBUSY);
    }
    let source = String::from_utf8_lossy(&source.unwrap_or_else(|| b"none".to_vec())).into_owned();
    let m = Mount::new(sb, source, restrictions(flags, None));
    graft(t, &Tree::of(m), p)
}

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
        m.sb.read_only.set(true);
        return Ok(());
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
