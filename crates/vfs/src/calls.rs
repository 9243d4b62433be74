//! What system calls do to names: open, create, remove, rename, and attributes.
use crate::busy::Writing;
use crate::inode::{APPEND, IMMUTABLE};
use crate::walk::{MAY_EXEC, MAY_READ, MAY_WRITE};
use crate::walk::{RESOLVE_NO_SYMLINKS, Scope};
use crate::{Attr, Found, FsContext, Last, New, OpenFile, Path, SetAttr, Walk, permission};
use crate::{inotify, lease, mount, names};
use abi::block::{LOOP_CTRL_MINOR, LOOP_MAJOR, MISC_MAJOR};
use abi::{Errno, Result, c};
use kernel::cred::{CAP_CHOWN, CAP_FOWNER, CAP_FSETID, CAP_LINUX_IMMUTABLE, CAP_MKNOD, Cred};
use std::rc::Rc;

/// What open(2) found.
pub enum Opened {
    File(Rc<OpenFile>),
    /// A FIFO: opening it may wait for the other end. The place, and its identity.
    Fifo(Path, (u64, u64)),
    /// A terminal, by its device number: which one that is depends on who asks.
    Terminal(Path, u64),
    /// A loop device by its number; `None`: /dev/loop-control. Not everybody's are there.
    Loop(Path, Option<u32>),
    /// A file whose lease somebody holds who has to give way first. Nothing was done to it yet: to be opened again.
    Leased(Path),
}

/// One caller's view of the tree.
pub struct Caller<'a> {
    pub fs: &'a FsContext,
    pub cred: &'a Cred,
    /// What openat2(2) forbids its walk.
    pub scope: Scope,
}

/// Flags a description keeps.
const KEPT: i32 = !(c::O_CREAT | c::O_EXCL | c::O_NOCTTY | c::O_TRUNC | c::O_CLOEXEC);

impl Caller<'_> {
    fn walk(&self) -> Walk<'_> {
        let mut walk = Walk::new(self.fs, self.cred);
        walk.scope = self.scope.clone();
        walk
    }

    /// The file a path names.
    pub fn path(&self, base: &Path, path: &[u8], follow: bool) -> Result<Path> {
        match self.walk().resolve(base, path, follow)? {
            Found::Path(p) => Ok(p),
            Found::File(f) => f.path().cloned().ok_or(Errno::ENOENT),
        }
    }

    pub fn last(&self, base: &Path, path: &[u8]) -> Result<Last> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        self.walk().parent(base, path)
    }

    /// open(2). `mode`: permission bits of a new file, before the umask.
    pub fn open(&self, base: &Path, path: &[u8], flags: i32, mode: u32) -> Result<Opened> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if flags & c::O_TMPFILE == c::O_TMPFILE {
            return self.tmpfile(base, path, flags, mode);
        }
        let no_follow = flags & c::O_NOFOLLOW != 0 || flags & (c::O_CREAT | c::O_EXCL) == c::O_CREAT | c::O_EXCL;
        let mut walk = self.walk();
        let found = if flags & c::O_CREAT == 0 || flags & c::O_PATH != 0 {
            walk.resolve(base, path, !no_follow)?
        } else {
            return self.create(base, path, flags, mode, 0);
        };
        match found {
            Found::Path(p) => self.open_path(p, flags, false),
            Found::File(f) => self.reopen(&f, flags),
        }
    }

    /// open(2) with O_CREAT; `depth`: dangling links followed so far.
    fn create(&self, base: &Path, path: &[u8], flags: i32, mode: u32, depth: u32) -> Result<Opened> {
        let mut walk = self.walk();
        let last = walk.parent(base, path)?;
        if last.name.is_empty() || last.slash {
            return Err(Errno::EISDIR);
        }
        let exclusive = flags & c::O_EXCL != 0;
        let there = if exclusive { self.vacant(&last)? } else { walk.existing(&last)? };
        match there {
            Some(_) if exclusive => Err(Errno::EEXIST),
            Some(d) => {
                let p = mount::enter(Path { mount: last.parent.mount.clone(), dentry: d });
                let a = p.inode().attr()?;
                if !a.is_link() {
                    return self.open_path(p, flags, false);
                }
                if flags & c::O_NOFOLLOW != 0 || depth >= 40 || self.scope.refuses(RESOLVE_NO_SYMLINKS) {
                    return Err(Errno::ELOOP);
                }
                match p.inode().follow() {
                    Some(_) => match walk.finish(last, true)? {
                        Found::Path(p) => self.open_path(p, flags, false),
                        Found::File(f) => self.reopen(&f, flags),
                    },
                    // The link's target may be the name to create.
                    None => self.create(&last.parent, &p.inode().readlink()?, flags, mode, depth + 1),
                }
            }
            None => {
                walk.may_change(&last.parent)?;
                let new = self.new_in(&last.parent, c::S_IFREG | mode & 0o7777)?;
                let inode = last.parent.inode().create(&last.name, new, 0)?;
                let dentry = last.parent.dentry.insert(&last.name, inode);
                inotify::named(&last.parent.dentry, &last.name, c::IN_CREATE, 0, false);
                self.open_path(Path { mount: last.parent.mount.clone(), dentry }, flags & !c::O_TRUNC, true)
            }
        }
    }

    /// open(2) with O_TMPFILE: `path` is the directory.
    fn tmpfile(&self, base: &Path, path: &[u8], flags: i32, mode: u32) -> Result<Opened> {
        if flags & c::O_ACCMODE == c::O_RDONLY {
            return Err(Errno::EINVAL);
        }
        let dir = self.path(base, path, flags & c::O_NOFOLLOW == 0)?;
        if !dir.inode().attr()?.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        self.walk().may_change(&dir)?;
        let new = self.new_in(&dir, c::S_IFREG | mode & 0o7777)?;
        let inode = dir.inode().tmpfile(new, flags & c::O_EXCL == 0)?;
        let place = Path { mount: dir.mount.clone(), dentry: dir.dentry.nameless(b"#tmpfile", inode) };
        self.open_path(place, flags & !(c::O_TMPFILE | c::O_EXCL), true)
    }

    /// Opening what /proc/PID/fd names: the same file anew.
    fn reopen(&self, f: &Rc<OpenFile>, flags: i32) -> Result<Opened> {
        match f.path() {
            Some(p) => self.open_path(p.clone(), flags, false),
            None => Ok(Opened::File(f.clone())),
        }
    }

    /// Opens a place. `created`: just made by this call, so its mode does not matter.
    pub fn open_path(&self, p: Path, flags: i32, created: bool) -> Result<Opened> {
        let a = p.inode().attr()?;
        if flags & c::O_PATH != 0 {
            if flags & c::O_DIRECTORY != 0 && !a.is_dir() {
                return Err(Errno::ENOTDIR);
            }
            let ops = Rc::new(crate::PathOnly);
            return Ok(Opened::File(OpenFile::new(ops, flags & KEPT, Some(p))));
        }
        if a.is_link() {
            return Err(Errno::ELOOP);
        }
        let write = flags & c::O_ACCMODE != c::O_RDONLY;
        let read = flags & c::O_ACCMODE != c::O_WRONLY;
        if a.is_dir() && (write || flags & (c::O_CREAT | c::O_TRUNC) != 0) {
            return Err(Errno::EISDIR);
        }
        if flags & c::O_DIRECTORY != 0 && !a.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let trunc = flags & c::O_TRUNC != 0;
        let want = if read { MAY_READ } else { 0 } | if write || trunc { MAY_WRITE } else { 0 };
        if !created {
            permission(&a, self.cred, want)?;
            if a.flagged(APPEND) && (trunc || write && flags & c::O_APPEND == 0) {
                return Err(Errno::EPERM);
            }
        }
        let regular = a.is_file() || a.is_dir();
        if p.mount.read_only() && (write || trunc) && regular {
            return Err(Errno::EROFS);
        }
        if flags & c::O_NOATIME != 0 && a.uid != self.cred.fsuid && !self.cred.has_over(CAP_FOWNER, a.uid, a.gid) {
            return Err(Errno::EPERM);
        }
        match a.kind() {
            c::S_IFIFO => return Ok(Opened::Fifo(p, (a.dev, a.ino))),
            c::S_IFSOCK => return Err(Errno::ENXIO),
            c::S_IFCHR | c::S_IFBLK if p.mount.has(mount::NO_DEV) => return Err(Errno::EACCES),
            c::S_IFBLK if c::major(a.rdev) == LOOP_MAJOR => return Ok(Opened::Loop(p, Some(c::minor(a.rdev)))),
            c::S_IFCHR if a.rdev == c::makedev(MISC_MAJOR, LOOP_CTRL_MINOR) => return Ok(Opened::Loop(p, None)),
            c::S_IFCHR if matches!(c::major(a.rdev), 5 | 136) => return Ok(Opened::Terminal(p, a.rdev)),
            _ => {}
        }
        if a.is_file() && lease::any() && lease::conflicts((a.dev, a.ino), write || trunc) {
            return Ok(Opened::Leased(p));
        }
        let writing = if a.is_file() && (write || trunc) { Some(Writing::begin((a.dev, a.ino))?) } else { None };
        if trunc && a.is_file() {
            p.inode().set_attr(&SetAttr { size: Some(0), ..SetAttr::default() })?;
        }
        let ops = p.inode().open(flags)?;
        inotify::happened(&p.dentry, c::IN_OPEN);
        if trunc && a.is_file() {
            inotify::happened(&p.dentry, c::IN_MODIFY);
        }
        let writing = writing.filter(|_| write);
        let f = OpenFile::writing(ops, flags & KEPT, Some(p), writing);
        if created {
            f.set_created();
        }
        Ok(Opened::File(f))
    }

    /// Owner and mode of something new in a directory, from a mode before the umask: setgid directories pass their group
    /// on, but no program of it to those who are not in it.
    fn new_in(&self, dir: &Path, mut mode: u32) -> Result<New> {
        const PROGRAM: u32 = c::S_ISGID | c::S_IXGRP;
        let d = dir.inode().attr()?;
        if dir.dentry.removed.get() {
            return Err(Errno::ENOENT);
        }
        let (inherit, kind) = (d.mode & c::S_ISGID != 0, mode & c::S_IFMT);
        let gid = if inherit { d.gid } else { self.cred.fsgid };
        if inherit && kind == c::S_IFDIR {
            mode |= c::S_ISGID;
        } else if inherit
            && mode & PROGRAM == PROGRAM
            && !self.cred.in_group(gid)
            && !self.cred.has_over(CAP_FSETID, d.uid, gid)
        {
            mode &= !c::S_ISGID;
        }
        let umask = if kind == c::S_IFLNK { 0 } else { self.fs.umask.get() };
        Ok(New { mode: mode & !umask, uid: self.cred.fsuid, gid })
    }

    /// What has the name that is to be new. Where the caller may make it, the file system refuses a name that is taken,
    /// and is not asked twice.
    fn vacant(&self, last: &Last) -> Result<Option<std::rc::Rc<crate::Dentry>>> {
        let walk = self.walk();
        let short = last.name.len() <= crate::walk::NAME_MAX;
        if short
            && !last.slash
            && last.parent.dentry.known(&last.name).is_none()
            && walk.may_change(&last.parent).is_ok()
        {
            return Ok(None);
        }
        walk.existing(last)
    }

    /// Prepares a new name: EEXIST if it is there.
    fn fresh(&self, base: &Path, path: &[u8], dir: bool) -> Result<Last> {
        let last = self.last(base, path)?;
        if last.name.is_empty() {
            return Err(Errno::EEXIST);
        }
        let walk = self.walk();
        if self.vacant(&last)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if last.slash && !dir {
            return Err(Errno::ENOENT);
        }
        walk.may_change(&last.parent)?;
        Ok(last)
    }

    pub fn mkdir(&self, base: &Path, path: &[u8], mode: u32) -> Result {
        let last = self.fresh(base, path, true)?;
        let new = self.new_in(&last.parent, c::S_IFDIR | mode & 0o1777)?;
        let inode = last.parent.inode().mkdir(&last.name, new)?;
        last.parent.dentry.insert(&last.name, inode);
        inotify::named(&last.parent.dentry, &last.name, c::IN_CREATE, 0, true);
        Ok(())
    }

    pub fn mknod(&self, base: &Path, path: &[u8], mode: u32, rdev: u64) -> Result {
        let kind = match mode & c::S_IFMT {
            0 => c::S_IFREG,
            c::S_IFDIR => return Err(Errno::EPERM),
            k @ (c::S_IFREG | c::S_IFIFO | c::S_IFSOCK) => k,
            k @ (c::S_IFCHR | c::S_IFBLK) if self.cred.has(CAP_MKNOD) => k,
            c::S_IFCHR | c::S_IFBLK => return Err(Errno::EPERM),
            _ => return Err(Errno::EINVAL),
        };
        let last = self.fresh(base, path, false)?;
        let new = self.new_in(&last.parent, kind | mode & 0o7777)?;
        let inode = last.parent.inode().create(&last.name, new, rdev)?;
        last.parent.dentry.insert(&last.name, inode);
        inotify::named(&last.parent.dentry, &last.name, c::IN_CREATE, 0, false);
        Ok(())
    }

    pub fn symlink(&self, base: &Path, path: &[u8], target: &[u8]) -> Result {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        let last = self.fresh(base, path, false)?;
        let new = self.new_in(&last.parent, c::S_IFLNK | 0o777)?;
        let inode = last.parent.inode().symlink(&last.name, target, new)?;
        last.parent.dentry.insert(&last.name, inode);
        inotify::named(&last.parent.dentry, &last.name, c::IN_CREATE, 0, false);
        Ok(())
    }

    pub fn link(&self, from: &Path, base: &Path, path: &[u8]) -> Result {
        let a = from.inode().attr()?;
        let last = self.fresh(base, path, false)?;
        if !Rc::ptr_eq(&last.parent.mount, &from.mount) {
            return Err(Errno::EXDEV);
        }
        if a.is_dir() {
            return Err(Errno::EPERM);
        }
        a.changeable()?;
        last.parent.inode().link(&last.name, from.inode())?;
        last.parent.dentry.insert(&last.name, from.inode().clone());
        inotify::itself(&from.dentry, c::IN_ATTRIB);
        inotify::named(&last.parent.dentry, &last.name, c::IN_CREATE, 0, false);
        Ok(())
    }

    pub fn unlink(&self, base: &Path, path: &[u8]) -> Result {
        let last = self.last(base, path)?;
        if last.name.is_empty() {
            return Err(Errno::EISDIR);
        }
        let walk = self.walk();
        let d = walk.existing(&last)?.ok_or(Errno::ENOENT)?;
        let a = d.inode.attr()?;
        walk.may_remove(&last.parent, &a)?;
        if a.is_dir() {
            return Err(Errno::EISDIR);
        }
        if last.slash {
            return Err(Errno::ENOTDIR);
        }
        if self.fs.mounts.has_mount_on(&d) {
            return Err(Errno::EBUSY);
        }
        last.parent.inode().unlink(&last.name)?;
        last.parent.dentry.forget(&last.name);
        inotify::itself(&d, c::IN_ATTRIB);
        inotify::named(&last.parent.dentry, &last.name, c::IN_DELETE, 0, false);
        inotify::perhaps_deleted(&d, 1);
        Ok(())
    }

    pub fn rmdir(&self, base: &Path, path: &[u8]) -> Result {
        let last = self.last(base, path)?;
        if last.name.is_empty() {
            let dots = path.split(|b| *b == b'/').rfind(|p| !p.is_empty());
            return Err(match dots {
                Some(b".") => Errno::EINVAL,
                Some(b"..") => Errno::ENOTEMPTY,
                _ => Errno::EBUSY,
            });
        }
        let walk = self.walk();
        let d = walk.existing(&last)?.ok_or(Errno::ENOENT)?;
        let a = d.inode.attr()?;
        walk.may_remove(&last.parent, &a)?;
        if !a.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if self.fs.mounts.has_mount_on(&d) {
            return Err(Errno::EBUSY);
        }
        last.parent.inode().rmdir(&last.name)?;
        last.parent.dentry.forget(&last.name);
        inotify::named(&last.parent.dentry, &last.name, c::IN_DELETE, 0, true);
        inotify::perhaps_deleted(&d, 1);
        Ok(())
    }

    pub fn rename(&self, ob: &Path, old: &[u8], nb: &Path, new: &[u8], flags: u32) -> Result {
        const NOREPLACE: u32 = c::RENAME_NOREPLACE;
        const EXCHANGE: u32 = c::RENAME_EXCHANGE;
        const WHITEOUT: u32 = c::RENAME_WHITEOUT;
        if flags & !(NOREPLACE | EXCHANGE | WHITEOUT) != 0 || (flags & EXCHANGE != 0 && flags != EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        if flags & WHITEOUT != 0 && !self.cred.has(CAP_MKNOD) {
            return Err(Errno::EPERM);
        }
        let (from, to) = (self.last(ob, old)?, self.last(nb, new)?);
        if from.name.is_empty() || to.name.is_empty() {
            return Err(Errno::EBUSY);
        }
        if !Rc::ptr_eq(&from.parent.mount, &to.parent.mount) {
            return Err(Errno::EXDEV);
        }
        let walk = self.walk();
        let d = walk.existing(&from)?.ok_or(Errno::ENOENT)?;
        let a = d.inode.attr()?;
        let target = walk.existing(&to)?;
        if target.is_some() && flags & NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        if !a.is_dir() && (from.slash || (to.slash && flags & EXCHANGE == 0)) {
            return Err(Errno::ENOTDIR);
        }
        walk.may_remove(&from.parent, &a)?;
        // A directory cannot be moved below itself.
        let mut up = Some(to.parent.dentry.clone());
        while let Some(u) = up {
            if Rc::ptr_eq(&u, &d) {
                return Err(Errno::EINVAL);
            }
            up = u.parent.borrow().clone();
        }
        match &target {
            Some(t) => {
                if Rc::ptr_eq(t, &d) || Rc::ptr_eq(&t.inode, &d.inode) {
                    return Ok(());
                }
                let ta = t.inode.attr()?;
                walk.may_remove(&to.parent, &ta)?;
                if (ta.dev, ta.ino) == (a.dev, a.ino) {
                    return Ok(());
                }
                if flags & EXCHANGE == 0 {
                    match (a.is_dir(), ta.is_dir()) {
                        (true, false) => return Err(Errno::ENOTDIR),
                        (false, true) => return Err(Errno::EISDIR),
                        _ => {}
                    }
                }
                if self.fs.mounts.has_mount_on(t) {
                    return Err(Errno::EBUSY);
                }
            }
            None if flags & EXCHANGE != 0 => return Err(Errno::ENOENT),
            None => walk.may_change(&to.parent)?,
        }
        if self.fs.mounts.has_mount_on(&d) {
            return Err(Errno::EBUSY);
        }
        from.parent.inode().rename(&from.name, to.parent.inode(), &to.name, flags)?;
        if flags & EXCHANGE != 0 {
            from.parent.dentry.forget(&from.name);
            to.parent.dentry.forget(&to.name);
        } else {
            from.parent.dentry.moved(&from.name, &to.parent.dentry, &to.name);
        }
        if inotify::watched() {
            let cookie = inotify::new_cookie();
            inotify::named(&from.parent.dentry, &from.name, c::IN_MOVED_FROM, cookie, a.is_dir());
            inotify::named(&to.parent.dentry, &to.name, c::IN_MOVED_TO, cookie, a.is_dir());
            let over = target.filter(|_| flags & EXCHANGE == 0);
            if let Some(t) = &over {
                inotify::itself(t, c::IN_ATTRIB);
            }
            inotify::itself(&d, c::IN_MOVE_SELF);
            if let Some(t) = over {
                inotify::perhaps_deleted(&t, 1);
            }
        }
        Ok(())
    }

    /// EROFS on a read-only mount.
    pub fn writable_mount(&self, p: &Path) -> Result {
        if p.mount.read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn owner(&self, a: &Attr) -> Result {
        if a.uid == self.cred.fsuid || self.cred.has_over(CAP_FOWNER, a.uid, a.gid) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    pub fn chmod(&self, p: &Path, mode: u32) -> Result {
        self.writable_mount(p)?;
        let a = p.inode().attr()?;
        if a.is_link() {
            return Err(Errno::EOPNOTSUPP);
        }
        a.changeable()?;
        self.owner(&a)?;
        let mut mode = mode & 0o7777;
        if !self.cred.in_group(a.gid) && !self.cred.has_over(CAP_FSETID, a.uid, a.gid) {
            mode &= !c::S_ISGID;
        }
        p.inode().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })?;
        names::changed_at(&p.dentry);
        inotify::happened(&p.dentry, c::IN_ATTRIB);
        Ok(())
    }

    /// `u32::MAX` leaves an id as it is.
    pub fn chown(&self, p: &Path, uid: u32, gid: u32) -> Result {
        self.writable_mount(p)?;
        let a = p.inode().attr()?;
        a.changeable()?;
        let pick = |new: u32| (new != u32::MAX).then_some(new);
        let (uid, gid) = (pick(uid), pick(gid));
        if !self.cred.has_over(CAP_CHOWN, a.uid, a.gid) {
            let same_owner = a.uid == self.cred.fsuid;
            let own_group = |g| self.cred.in_group(g);
            if uid.is_some_and(|u| u != a.uid || !same_owner) || gid.is_some_and(|g| !same_owner || !own_group(g)) {
                return Err(Errno::EPERM);
            }
        }
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        let mut set = SetAttr { uid, gid, ..SetAttr::default() };
        if a.is_file() && a.mode & 0o6000 != 0 && a.mode & 0o111 != 0 {
            let keep_gid = a.mode & c::S_IXGRP == 0;
            set.mode = Some(a.mode & 0o7777 & !c::S_ISUID & if keep_gid { !0 } else { !c::S_ISGID });
        }
        p.inode().set_attr(&set)?;
        names::changed_at(&p.dentry);
        inotify::happened(&p.dentry, c::IN_ATTRIB);
        Ok(())
    }

    /// utimensat(2): `None` leaves a time; `now`: both are the current time, for which write permission is enough.
    pub fn utimens(&self, p: &Path, atime: Option<i64>, mtime: Option<i64>, now: bool) -> Result {
        if atime.is_none() && mtime.is_none() {
            return Ok(());
        }
        self.writable_mount(p)?;
        let a = p.inode().attr()?;
        if a.flagged(IMMUTABLE) || a.flagged(APPEND) && !now {
            return Err(Errno::EPERM);
        }
        if self.owner(&a).is_err() {
            if !now {
                return Err(Errno::EPERM);
            }
            permission(&a, self.cred, MAY_WRITE)?;
        }
        p.inode().set_attr(&SetAttr { atime, mtime, ..SetAttr::default() })?;
        let event = match (atime, mtime) {
            (Some(_), None) => c::IN_ACCESS,
            (None, Some(_)) => c::IN_MODIFY,
            _ => c::IN_ATTRIB,
        };
        inotify::happened(&p.dentry, event);
        Ok(())
    }

    /// Whether [`truncate`](Self::truncate) is for the caller to do.
    pub fn may_truncate(&self, p: &Path) -> Result {
        let a = p.inode().attr()?;
        if a.is_dir() {
            return Err(Errno::EISDIR);
        }
        if !a.is_file() {
            return Err(Errno::EINVAL);
        }
        permission(&a, self.cred, MAY_WRITE)?;
        self.writable_mount(p)?;
        if a.flagged(APPEND) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// ioctl_iflags(2): what a file's [`Attr::flags`] are to be.
    pub fn set_flags(&self, p: &Path, flags: u32) -> Result {
        self.writable_mount(p)?;
        let a = p.inode().attr()?;
        self.owner(&a)?;
        let now = a.flags.ok_or(Errno::EOPNOTSUPP)?;
        if (now ^ flags) & (IMMUTABLE | APPEND) != 0 && !self.cred.has(CAP_LINUX_IMMUTABLE) {
            return Err(Errno::EPERM);
        }
        p.inode().set_attr(&SetAttr { flags: Some(flags), ..SetAttr::default() })?;
        inotify::happened(&p.dentry, c::IN_ATTRIB);
        Ok(())
    }

    pub fn truncate(&self, p: &Path, len: u64) -> Result {
        self.may_truncate(p)?;
        let a = p.inode().attr()?;
        let _writing = Writing::begin((a.dev, a.ino))?;
        p.inode().set_attr(&SetAttr { size: Some(len), ..SetAttr::default() })?;
        inotify::happened(&p.dentry, c::IN_MODIFY);
        Ok(())
    }

    /// access(2) with this caller's fsuid and fsgid.
    pub fn access(&self, p: &Path, want: u32) -> Result {
        let a = p.inode().attr()?;
        if want & MAY_WRITE != 0 && p.mount.read_only() && (a.is_file() || a.is_dir() || a.is_link()) {
            return Err(Errno::EROFS);
        }
        if want & MAY_EXEC != 0 && p.mount.has(mount::NO_EXEC) && a.is_file() {
            return Err(Errno::EACCES);
        }
        permission(&a, self.cred, want)
    }
}
