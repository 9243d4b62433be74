//! overlay: a lower tree that is only read, an upper one that takes the changes. As the host's overlayfs:
//! whiteouts are character devices 0/0, opaque directories carry an attribute, lower directories are not renamed (EXDEV).
mod copy;

use abi::{Errno, Result, c};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use vfs::{Attr, DirEntry, FileOps, Inode, New, OpenFile, SetAttr, StatFs};

const OPAQUE: &[u8] = b"user.overlay.opaque";
/// Inode numbers of files that exist only above start here, so that they never meet the lower ones.
const UPPER_INO: u64 = 1 << 48;

struct OverlayFs {
    dev: u64,
    /// Upper inode to the number shown, for files that were copied up.
    origin: RefCell<HashMap<(u64, u64), u64>>,
}

pub struct OverlayInode {
    fs: Rc<OverlayFs>,
    upper: RefCell<Option<Rc<dyn Inode>>>,
    lower: Option<Rc<dyn Inode>>,
    /// Where it is, for copying up. `None` for the root.
    place: RefCell<Option<(Rc<OverlayInode>, Box<[u8]>)>>,
    opaque: Cell<bool>,
    this: RefCell<Weak<OverlayInode>>,
}

/// Joins two directories.
pub fn mount(dev: u64, lower: Rc<dyn Inode>, upper: Rc<dyn Inode>) -> Rc<dyn Inode> {
    let fs = Rc::new(OverlayFs { dev, origin: RefCell::default() });
    if let Ok(a) = lower.attr() {
        let _ = upper.set_attr(&SetAttr {
            mode: Some(a.mode & 0o7777),
            uid: Some(a.uid),
            gid: Some(a.gid),
            ..SetAttr::default()
        });
    }
    OverlayInode::new(&fs, Some(upper), Some(lower), None)
}

/// Joins directories, the uppermost of the lower ones first. Without an upper one nothing may be written.
pub fn join(dev: u64, lowers: Vec<Rc<dyn Inode>>, upper: Option<Rc<dyn Inode>>) -> Rc<dyn Inode> {
    let mut all = lowers.into_iter().rev();
    let Some(mut below) = all.next() else { return upper.expect("a lower directory") };
    for above in all.chain(upper) {
        let fs = Rc::new(OverlayFs { dev, origin: RefCell::default() });
        below = OverlayInode::new(&fs, Some(above), Some(below), None);
    }
    below
}

fn is_whiteout(a: &Attr) -> bool {
    a.kind() == c::S_IFCHR && a.rdev == 0
}

impl OverlayInode {
    fn new(
        fs: &Rc<OverlayFs>,
        upper: Option<Rc<dyn Inode>>,
        lower: Option<Rc<dyn Inode>>,
        place: Option<(Rc<OverlayInode>, Box<[u8]>)>,
    ) -> Rc<OverlayInode> {
        let opaque = upper.as_ref().is_some_and(|u| lower.is_some() && u.xattr_get(OPAQUE).is_ok());
        let i = Rc::new(OverlayInode {
            fs: fs.clone(),
            upper: RefCell::new(upper),
            lower,
            place: RefCell::new(place),
            opaque: Cell::new(opaque),
            this: RefCell::default(),
        });
        *i.this.borrow_mut() = Rc::downgrade(&i);
        i
    }

    fn top(&self) -> Result<Rc<dyn Inode>> {
        self.upper.borrow().clone().or_else(|| self.lower.clone()).ok_or(Errno::ENOENT)
    }

    fn in_upper(&self, name: &[u8]) -> Result<Option<(Rc<dyn Inode>, Attr)>> {
        let Some(u) = self.upper.borrow().clone() else { return Ok(None) };
        match u.lookup(name) {
            Ok(i) => {
                let a = i.attr()?;
                Ok(Some((i, a)))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn in_lower(&self, name: &[u8]) -> Result<Option<Rc<dyn Inode>>> {
        match &self.lower {
            Some(l) if !self.opaque.get() => match l.lookup(name) {
                Ok(i) => Ok(Some(i)),
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
                Err(e) => Err(e),
            },
            _ => Ok(None),
        }
    }

    fn child(&self, name: &[u8], upper: Option<Rc<dyn Inode>>, lower: Option<Rc<dyn Inode>>) -> Rc<OverlayInode> {
        let me = self.this.borrow().upgrade().expect("called through an Rc");
        OverlayInode::new(&self.fs, upper, lower, Some((me, name.into())))
    }

    fn find(&self, name: &[u8]) -> Result<Rc<OverlayInode>> {
        let lower = self.in_lower(name)?;
        match self.in_upper(name)? {
            Some((_, a)) if is_whiteout(&a) => Err(Errno::ENOENT),
            Some((u, a)) => {
                let both = a.is_dir() && lower.as_ref().is_some_and(|l| l.attr().is_ok_and(|x| x.is_dir()));
                let known = self.fs.origin.borrow().contains_key(&(a.dev, a.ino));
                Ok(self.child(name, Some(u), if both || known { lower } else { None }))
            }
            None => Ok(self.child(name, None, Some(lower.ok_or(Errno::ENOENT)?))),
        }
    }

    /// The upper inode, made from the lower one if need be.
    fn up(&self) -> Result<Rc<dyn Inode>> {
        if let Some(u) = self.upper.borrow().clone() {
            return Ok(u);
        }
        let lower = self.lower.clone().ok_or(Errno::ENOENT)?;
        let (dir, name) = self.place.borrow().clone().ok_or(Errno::EROFS)?;
        let above = dir.up()?;
        let made = copy::up(&lower, &above, &name)?;
        if let (Ok(u), Ok(l)) = (made.attr(), lower.attr()) {
            self.fs.origin.borrow_mut().insert((u.dev, u.ino), l.ino);
        }
        *self.upper.borrow_mut() = Some(made.clone());
        Ok(made)
    }

    /// Prepares a name for something new: a whiteout in the upper directory goes away. True: there was one. EEXIST: above or
    /// below there is something of that name; whoever creates may not have looked.
    fn clear(&self, name: &[u8]) -> Result<bool> {
        match self.in_upper(name)? {
            Some((_, a)) if is_whiteout(&a) => {
                self.up()?.unlink(name)?;
                Ok(true)
            }
            Some(_) => Err(Errno::EEXIST),
            None if self.in_lower(name)?.is_some() => Err(Errno::EEXIST),
            None => Ok(false),
        }
    }

    /// Hides a lower name.
    fn white_out(&self, name: &[u8]) -> Result {
        if self.in_lower(name)?.is_some() {
            let new = New { mode: c::S_IFCHR, uid: 0, gid: 0 };
            self.up()?.create(name, new, 0)?;
        }
        Ok(())
    }

    fn made(&self, name: &[u8], made: Rc<dyn Inode>, covered: bool) -> Result<Rc<dyn Inode>> {
        let i = self.child(name, Some(made.clone()), None);
        if covered && made.attr()?.is_dir() {
            made.xattr_set(OPAQUE, b"y", 0)?;
        }
        Ok(i)
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.merged()?.is_empty())
    }

    fn merged(&self) -> Result<Vec<(Vec<u8>, u64, u8)>> {
        let mut out = Vec::new();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let upper = self.upper.borrow().clone();
        if let Some(u) = upper {
            for e in list(&u)? {
                let a = u.lookup(&e.name).and_then(|i| i.attr());
                if !a.is_ok_and(|a| is_whiteout(&a)) {
                    let ino = self.fs.origin.borrow().get(&(u.attr()?.dev, e.ino)).copied();
                    out.push((e.name.clone(), ino.unwrap_or(e.ino | UPPER_INO), e.kind));
                }
                seen.insert(e.name);
            }
        }
        if let Some(l) = &self.lower
            && !self.opaque.get()
        {
            out.extend(list(l)?.into_iter().filter(|e| !seen.contains(&e.name)).map(|e| (e.name, e.ino, e.kind)));
        }
        Ok(out)
    }

    fn as_overlay(to: &Rc<dyn Inode>) -> Result<&OverlayInode> {
        to.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }
}

/// Every entry of a directory but the dots.
fn list(dir: &Rc<dyn Inode>) -> Result<Vec<DirEntry>> {
    let f = OpenFile::new(dir.open(c::O_RDONLY | c::O_DIRECTORY)?, c::O_RDONLY, None);
    let mut out = Vec::new();
    f.ops().readdir(&f, 0, &mut |e| {
        if e.name != b"." && e.name != b".." {
            out.push(e);
        }
        true
    })?;
    Ok(out)
}

impl Inode for OverlayInode {
    fn attr(&self) -> Result<Attr> {
        let upper = self.upper.borrow();
        let mut a = match (&*upper, &self.lower) {
            (Some(u), _) => u.attr()?,
            (None, Some(l)) => l.attr()?,
            (None, None) => return Err(Errno::ENOENT),
        };
        if upper.is_some() {
            let origin = self.fs.origin.borrow().get(&(a.dev, a.ino)).copied();
            let lower =
                || if a.is_dir() { self.lower.as_ref().and_then(|l| l.attr().ok()).map(|l| l.ino) } else { None };
            a.ino = origin.or_else(lower).unwrap_or(a.ino | UPPER_INO);
        }
        a.dev = self.fs.dev;
        Ok(a)
    }

    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        Ok(self.find(name)?)
    }

    fn create(&self, name: &[u8], new: New, rdev: u64) -> Result<Rc<dyn Inode>> {
        if new.mode & c::S_IFMT == c::S_IFCHR && rdev == 0 {
            return Err(Errno::EPERM);
        }
        let up = self.up()?;
        let covered = self.clear(name)?;
        self.made(name, up.create(name, new, rdev)?, covered)
    }

    fn tmpfile(&self, new: New, linkable: bool) -> Result<Rc<dyn Inode>> {
        let made = self.up()?.tmpfile(new, linkable)?;
        Ok(OverlayInode::new(&self.fs, Some(made), None, None))
    }

    fn mkdir(&self, name: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        let up = self.up()?;
        let covered = self.clear(name)?;
        self.made(name, up.mkdir(name, new)?, covered)
    }

    fn symlink(&self, name: &[u8], target: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        let up = self.up()?;
        let covered = self.clear(name)?;
        self.made(name, up.symlink(name, target, new)?, covered)
    }

    fn link(&self, name: &[u8], to: &Rc<dyn Inode>) -> Result {
        let to = Self::as_overlay(to)?.up()?;
        let up = self.up()?;
        self.clear(name)?;
        up.link(name, &to)
    }

    fn unlink(&self, name: &[u8]) -> Result {
        let i = self.find(name)?;
        self.up()?;
        if i.upper.borrow().is_some() {
            self.up()?.unlink(name)?;
        }
        self.white_out(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result {
        let i = self.find(name)?;
        if !i.attr()?.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if !i.is_empty()? {
            return Err(Errno::ENOTEMPTY);
        }
        let up = self.up()?;
        let upper = i.upper.borrow().clone();
        if let Some(u) = upper {
            for white in list(&u)? {
                u.unlink(&white.name)?;
            }
            up.rmdir(name)?;
        }
        self.white_out(name)
    }

    fn rename(&self, name: &[u8], to: &Rc<dyn Inode>, new_name: &[u8], flags: u32) -> Result {
        if flags & c::RENAME_WHITEOUT != 0 {
            return Err(Errno::EINVAL);
        }
        let to = Self::as_overlay(to)?;
        let moving = self.find(name)?;
        if moving.attr()?.is_dir() && moving.lower.is_some() {
            return Err(Errno::EXDEV);
        }
        if flags & c::RENAME_EXCHANGE != 0 {
            let there = to.find(new_name)?;
            if there.attr()?.is_dir() && there.lower.is_some() {
                return Err(Errno::EXDEV);
            }
            moving.up()?;
            there.up()?;
            return self.up()?.rename(name, &to.up()?, new_name, flags);
        }
        moving.up()?;
        if let Ok(there) = to.find(new_name) {
            if there.attr()?.is_dir() {
                to.rmdir(new_name)?;
            } else if there.upper.borrow().is_some() && moving.attr()?.is_dir() {
                to.unlink(new_name)?;
            }
        }
        let (from_up, to_up) = (self.up()?, to.up()?);
        let covered = match to.in_upper(new_name)? {
            Some((_, a)) if is_whiteout(&a) => {
                to_up.unlink(new_name)?;
                true
            }
            _ => to.in_lower(new_name)?.is_some(),
        };
        from_up.rename(name, &to_up, new_name, 0)?;
        if covered && moving.attr()?.is_dir() {
            to_up.lookup(new_name)?.xattr_set(OPAQUE, b"y", 0)?;
        }
        self.white_out(name)?;
        if let Some(me) = to.this.borrow().upgrade() {
            *moving.place.borrow_mut() = Some((me, new_name.into()));
        }
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.top()?.readlink()
    }

    fn set_attr(&self, s: &SetAttr) -> Result {
        self.up()?.set_attr(s)
    }

    fn xattr_get(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name == OPAQUE { Err(Errno::ENODATA) } else { self.top()?.xattr_get(name) }
    }
    fn xattr_set(&self, name: &[u8], value: &[u8], flags: i32) -> Result {
        if name == OPAQUE { Err(Errno::EPERM) } else { self.up()?.xattr_set(name, value, flags) }
    }
    fn xattr_remove(&self, name: &[u8]) -> Result {
        if name == OPAQUE { Err(Errno::EPERM) } else { self.up()?.xattr_remove(name) }
    }
    fn xattr_list(&self) -> Result<Vec<u8>> {
        let all = self.top()?.xattr_list()?;
        Ok(all
            .split_inclusive(|b| *b == 0)
            .filter(|n| n.strip_suffix(b"\0") != Some(OPAQUE))
            .flatten()
            .copied()
            .collect())
    }

    fn open(&self, flags: i32) -> Result<Rc<dyn FileOps>> {
        if self.attr()?.is_dir() {
            let me = self.this.borrow().upgrade().ok_or(Errno::ENOENT)?;
            return Ok(Rc::new(Merged { dir: me, entries: RefCell::new(None) }));
        }
        let write = flags & c::O_ACCMODE != c::O_RDONLY || flags & c::O_TRUNC != 0;
        let i = if write { self.up()? } else { self.top()? };
        i.open(flags)
    }

    fn statfs(&self) -> Result<StatFs> {
        const MAGIC: i64 = 0x794c_7630;
        let s = match &*self.upper.borrow() {
            Some(u) => u.statfs()?,
            None => self.top()?.statfs()?,
        };
        Ok(StatFs { magic: MAGIC, ..s })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open directory: both layers, as they were when reading began.
struct Merged {
    dir: Rc<OverlayInode>,
    entries: RefCell<Option<Vec<(Vec<u8>, u64, u8)>>>,
}

impl FileOps for Merged {
    fn readdir(&self, _file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        if from == 0 || self.entries.borrow().is_none() {
            *self.entries.borrow_mut() = Some(self.dir.merged()?);
        }
        let ino = self.dir.attr()?.ino;
        let parent = self.dir.place.borrow().as_ref().map_or(Ok(ino), |(p, _)| p.attr().map(|a| a.ino))?;
        crate::emit_entries(ino, parent, self.entries.borrow().as_deref().unwrap_or(&[]), from, emit);
        Ok(())
    }
    fn size(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }
    fn sync(&self, _data_only: bool) -> Result {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 1 << 20;
    const FILE: New = New { mode: c::S_IFREG | 0o644, uid: 0, gid: 0 };
    const DIRECTORY: New = New { mode: c::S_IFDIR | 0o755, uid: 0, gid: 0 };
    const LINK: New = New { mode: c::S_IFLNK | 0o777, uid: 0, gid: 0 };

    /// A file and a directory below, with a file in it.
    fn layers() -> Rc<dyn Inode> {
        let (lower, upper) = (crate::tmp::mount(1, 0o755, ROOM, 100), crate::tmp::mount(2, 0o755, ROOM, 100));
        lower.create(b"file", FILE, 0).unwrap();
        lower.mkdir(b"directory", DIRECTORY).unwrap().create(b"within", FILE, 0).unwrap();
        mount(3, lower, upper)
    }

    #[test]
    fn nothing_is_made_over_what_is_below() {
        let top = layers();
        let other = top.create(b"other", FILE, 0).unwrap();
        for name in [b"file".as_slice(), b"directory"] {
            let made: [Result; 4] = [
                top.create(name, FILE, 0).map(drop),
                top.mkdir(name, DIRECTORY).map(drop),
                top.symlink(name, b"target", LINK).map(drop),
                top.link(name, &other),
            ];
            assert_eq!(made, [Err(Errno::EEXIST); 4], "{}", name.escape_ascii());
        }
        assert!(top.lookup(b"directory").unwrap().lookup(b"within").is_ok());
    }

    #[test]
    fn what_was_removed_is_made_anew_without_what_was_below() {
        let top = layers();
        top.unlink(b"file").unwrap();
        assert!(top.symlink(b"file", b"target", LINK).is_ok());
        top.lookup(b"directory").unwrap().unlink(b"within").unwrap();
        top.rmdir(b"directory").unwrap();
        let made = top.mkdir(b"directory", DIRECTORY).unwrap();
        assert_eq!(made.lookup(b"within").err(), Some(Errno::ENOENT));
        assert_eq!(top.mkdir(b"directory", DIRECTORY).err(), Some(Errno::EEXIST));
    }
}
