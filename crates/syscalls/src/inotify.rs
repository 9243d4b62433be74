//! Watching files: inotify(7).
use crate::args::{Fd, Flags, PathArg};
use crate::path::{as_caller, base};
use abi::{Errno, Result, c};
use std::rc::Rc;
use task::Task;
use vfs::inotify::{Inotify, Listener};

pub fn inotify_init(t: &Rc<Task>) -> Result<i32> {
    inotify_init1(t, Flags(0))
}

pub fn inotify_init1(t: &Rc<Task>, flags: Flags) -> Result<i32> {
    let flags = flags.only(c::IN_CLOEXEC | c::IN_NONBLOCK)?;
    crate::fd::install(t, vfs::inotify::inotify(flags)?, flags)
}

pub fn inotify_add_watch(t: &Rc<Task>, fd: Fd, path: PathArg, mask: u32) -> Result<i32> {
    const MODES: u32 =
        c::IN_DONT_FOLLOW | c::IN_EXCL_UNLINK | c::IN_MASK_ADD | c::IN_MASK_CREATE | c::IN_ONESHOT | c::IN_ONLYDIR;
    if mask & (c::IN_ALL_EVENTS | MODES) == 0 {
        return Err(Errno::EINVAL);
    }
    let f = t.files()?.get(fd.0)?;
    if mask & c::IN_MASK_ADD != 0 && mask & c::IN_MASK_CREATE != 0 {
        return Err(Errno::EINVAL);
    }
    let instance = f.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    let name = path.get(&*t.mem())?;
    let from = base(t, Fd(c::AT_FDCWD), &name)?;
    as_caller(t, |w| {
        let p = w.path(&from, &name, mask & c::IN_DONT_FOLLOW == 0)?;
        if mask & c::IN_ONLYDIR != 0 && !p.inode().attr()?.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        w.access(&p, vfs::MAY_READ)?;
        instance.watch(p.inode(), mask)
    })
}

pub fn inotify_rm_watch(t: &Rc<Task>, fd: Fd, wd: i32) -> Result {
    let f = t.files()?.get(fd.0)?;
    let instance = f.downcast::<Inotify>().ok_or(Errno::EINVAL)?;
    if instance.forget(wd) { Ok(()) } else { Err(Errno::EINVAL) }
}
