//! Trees of mounts: open_tree(2), open_tree_attr(2), move_mount(2).
use super::{attr, is_dir, is_mounted, may_change_propagation, may_cover, may_mount};
use crate::args::{Fd, Flags, PathArg};
use crate::fd::install;
use crate::path::{file_at, maybe_null, named};
use abi::fs::MountAttr;
use abi::{Errno, Result, c};
use guest::UserIn;
use std::any::Any;
use std::rc::Rc;
use task::Task;
use vfs::mount::{self, Tree};
use vfs::{FileOps, Mount, MountTable, OpenFile, Path};

pub(super) const AT_RECURSIVE: i32 = 0x8000;
const OPEN_TREE_CLONE: i32 = 1;

/// What open_tree(2) with OPEN_TREE_CLONE and fsmount(2) open: a place in a tree that is gone with the last descriptor,
/// unless it was moved somewhere.
struct Detached {
    _tree: Rc<MountTable>,
}

impl FileOps for Detached {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens a tree that stands nowhere. `from`: where it is a copy from.
pub(super) fn open_detached(t: &Task, tree: &Tree, from: Option<&MountTable>) -> Rc<OpenFile> {
    let holder = MountTable::detached(&t.fs().mounts.user_ns, from, tree);
    let mount = tree.top();
    let place = Path { dentry: mount.root.clone(), mount };
    OpenFile::new(Rc::new(Detached { _tree: holder }), c::O_PATH, Some(place))
}

/// May the caller mount things there? In its namespace, and in a tree that was copied from it.
fn may_use(t: &Task, m: &Mount) -> bool {
    let mine = t.fs().mounts.clone();
    mine.holds(m) || m.ns().is_some_and(|ns| ns.is_detached_for(&mine))
}

/// A copy of what is mounted there, for a bind mount. `deep`: with what stands below.
pub(super) fn copy(t: &Task, from: &Path, deep: bool) -> Result<Tree> {
    if !may_use(t, &from.mount) {
        return Err(Errno::EINVAL);
    }
    Mount::bind(from, deep)
}

/// open_tree(2) without the descriptor.
fn open(t: &Task, dir: Fd, path: PathArg, flags: Flags) -> Result<Rc<OpenFile>> {
    const AT: i32 = c::AT_EMPTY_PATH | c::AT_NO_AUTOMOUNT | c::AT_SYMLINK_NOFOLLOW;
    let flags = flags.only(AT | AT_RECURSIVE | OPEN_TREE_CLONE | c::O_CLOEXEC)?;
    let clone = flags & OPEN_TREE_CLONE != 0;
    let deep = flags & AT_RECURSIVE != 0;
    if deep && !clone {
        return Err(Errno::EINVAL);
    }
    if clone {
        may_mount(t)?;
    }
    let p = file_at(t, dir, path, flags & AT)?;
    if clone {
        return Ok(open_detached(t, &copy(t, &p, deep)?, p.mount.ns().as_deref()));
    }
    Ok(OpenFile::new(Rc::new(vfs::PathOnly), c::O_PATH, Some(p)))
}

pub fn open_tree(t: &Rc<Task>, dir: Fd, path: PathArg, flags: Flags) -> Result<i32> {
    let f = open(t, dir, path, flags)?;
    install(t, f, flags.bits() & c::O_CLOEXEC)
}

/// open_tree_attr(2): open_tree(2), and mount_setattr(2) on what it opened.
pub fn open_tree_attr(
    t: &Rc<Task>,
    dir: Fd,
    path: PathArg,
    flags: Flags,
    attr: UserIn<MountAttr>,
    size: usize,
) -> Result<i32> {
    if attr.is_null() && size != 0 {
        return Err(Errno::EINVAL);
    }
    let f = open(t, dir, path, flags)?;
    if !attr.is_null()
        && let Some(change) = attr::wanted(t, attr, size)?
        && let Some(p) = f.path()
    {
        attr::apply(t, p, &change, flags.bits() & AT_RECURSIVE != 0)?;
    }
    install(t, f, flags.bits() & c::O_CLOEXEC)
}

const F_SYMLINKS: i32 = 0x1;
const F_AUTOMOUNTS: i32 = 0x2;
const F_EMPTY_PATH: i32 = 0x4;
const T_SYMLINKS: i32 = 0x10;
const T_AUTOMOUNTS: i32 = 0x20;
const T_EMPTY_PATH: i32 = 0x40;
const SET_GROUP: i32 = 0x100;
const BENEATH: i32 = 0x200;

pub fn move_mount(t: &Rc<Task>, from: Fd, from_path: PathArg, to: Fd, to_path: PathArg, flags: Flags) -> Result {
    const ALL: i32 =
        F_SYMLINKS | F_AUTOMOUNTS | F_EMPTY_PATH | T_SYMLINKS | T_AUTOMOUNTS | T_EMPTY_PATH | SET_GROUP | BENEATH;
    may_mount(t)?;
    let flags = flags.only(ALL)?;
    if flags & (SET_GROUP | BENEATH) == SET_GROUP | BENEATH {
        return Err(Errno::EINVAL);
    }
    let find = |dir, path, links, empty| {
        let links = if flags & links != 0 { 0 } else { c::AT_SYMLINK_NOFOLLOW };
        let at = links | if flags & empty != 0 { c::AT_EMPTY_PATH } else { 0 };
        named(t, dir, &maybe_null(t, path, at)?, at)
    };
    let to = find(to, to_path, T_SYMLINKS, T_EMPTY_PATH)?;
    let from = find(from, from_path, F_SYMLINKS, F_EMPTY_PATH)?;
    if flags & SET_GROUP != 0 { join(t, &from, &to) } else { relocate(t, &from, to, flags & BENEATH != 0) }
}

/// MOVE_MOUNT_SET_GROUP: a private mount takes and gives mounts as another of its file system does.
fn join(t: &Task, from: &Path, to: &Path) -> Result {
    may_change_propagation(t, &from.mount)?;
    may_change_propagation(t, &to.mount)?;
    let (f, m) = (&from.mount, &to.mount);
    let wider = mount::is_below(&m.root, &f.root) && !f.hides_below(&m.root);
    let fits = is_mounted(from) && is_mounted(to) && Rc::ptr_eq(&f.sb, &m.sb) && wider;
    if !fits || m.propagates() || !f.propagates() {
        return Err(Errno::EINVAL);
    }
    m.join(f);
    Ok(())
}

/// Moves a mount: MS_MOVE, move_mount(2). `beneath`: below the topmost mount there.
pub(super) fn relocate(t: &Task, from: &Path, to: Path, beneath: bool) -> Result {
    let m = &from.mount;
    if !is_mounted(from) || is_dir(from)? != is_dir(&to)? || (beneath && !is_mounted(&to)) {
        return Err(Errno::EINVAL);
    }
    let top = mount::enter(to);
    let p = if beneath { top.mount.on().ok_or(Errno::EINVAL)? } else { top.clone() };
    may_cover(&p)?;
    let (mine, there) = (t.fs().mounts.clone(), p.mount.ns().ok_or(Errno::EINVAL)?);
    if mine.holds(m) {
        let on = m.on().ok_or(Errno::EINVAL)?;
        if m.locked() || on.mount.group() != 0 || !mine.holds(&p.mount) {
            return Err(Errno::EINVAL);
        }
    } else {
        let ns = m.ns().filter(|ns| ns.is_detached_root(m)).ok_or(Errno::EINVAL)?;
        if Rc::ptr_eq(&ns, &there) || !may_use(t, &p.mount) {
            return Err(Errno::EINVAL);
        }
    }
    if beneath {
        may_go_beneath(t, m, &top.mount, &p)?;
    }
    let tree = m.tree();
    if p.mount.group() != 0 && tree.iter().any(|m| m.unbindable()) {
        return Err(Errno::EINVAL);
    }
    if tree.iter().any(|below| Rc::ptr_eq(below, &p.mount)) {
        return Err(Errno::ELOOP);
    }
    there.relocate(m, p)
}

/// May `m` go between `over` and the place `p` on which that stands?
fn may_go_beneath(t: &Task, m: &Rc<Mount>, over: &Rc<Mount>, p: &Path) -> Result {
    let covered = !Rc::ptr_eq(&mount::enter(Path { mount: m.clone(), dentry: m.root.clone() }).mount, m);
    let is_root = Rc::ptr_eq(over, &t.fs().root.borrow().mount);
    let loops = over.tree().iter().any(|below| Rc::ptr_eq(below, m));
    // A copy of it would come over one of the two.
    let copied = over.takes(p) || (t.fs().mounts.holds(m) && m.takes(p));
    if over.locked() || covered || is_root || loops || copied { Err(Errno::EINVAL) } else { Ok(()) }
}
