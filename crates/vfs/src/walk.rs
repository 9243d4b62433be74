//! Path walk: path_resolution(7).
use crate::mount::{self, MountTable};
use crate::{APPEND, Attr, Dentry, Follow, IMMUTABLE, OpenFile, Path};
use abi::{Errno, Result, c};
use kernel::cred::{CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, Cred};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub const NAME_MAX: usize = 255;
const LINKS_MAX: u32 = 40;

pub const MAY_READ: u32 = 4;
pub const MAY_WRITE: u32 = 2;
pub const MAY_EXEC: u32 = 1;

/// Where a process stands: its root, working directory and umask. Shared with CLONE_FS.
pub struct FsContext {
    pub mounts: Rc<MountTable>,
    pub root: RefCell<Path>,
    pub cwd: RefCell<Path>,
    pub umask: Cell<u32>,
}

impl FsContext {
    pub fn new(mounts: Rc<MountTable>, root: Path) -> Rc<FsContext> {
        let (root, cwd) = (RefCell::new(root.clone()), RefCell::new(root));
        Rc::new(FsContext { mounts, root, cwd, umask: Cell::new(0o022) })
    }
    pub fn fork(&self) -> Rc<FsContext> {
        Rc::new(FsContext {
            mounts: self.mounts.clone(),
            root: RefCell::new(self.root.borrow().clone()),
            cwd: RefCell::new(self.cwd.borrow().clone()),
            umask: Cell::new(self.umask.get()),
        })
    }
}

/// May `cred` do `want` (MAY_ bits) to a file of these attributes? EACCES if not; EPERM if nobody may.
pub fn permission(a: &Attr, cred: &Cred, want: u32) -> Result {
    if want & MAY_WRITE != 0 && a.flagged(IMMUTABLE) {
        return Err(Errno::EPERM);
    }
    let bits = if cred.fsuid == a.uid {
        a.mode >> 6
    } else if cred.in_group(a.gid) {
        a.mode >> 3
    } else {
        a.mode
    };
    if want & !bits & 7 == 0 {
        return Ok(());
    }
    let exec_somewhere = a.is_dir() || a.mode & 0o111 != 0;
    if cred.has_over(CAP_DAC_OVERRIDE, a.uid, a.gid) && (want & MAY_EXEC == 0 || exec_somewhere) {
        return Ok(());
    }
    if cred.has_over(CAP_DAC_READ_SEARCH, a.uid, a.gid) && (want == MAY_READ || (a.is_dir() && want & MAY_WRITE == 0)) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// What a walk ended at.
pub enum Found {
    Path(Path),
    /// A magic link to an open file.
    File(Rc<OpenFile>),
}

/// The last component of a walk that stops before it.
pub struct Last {
    pub parent: Path,
    /// Empty: the path was `/`, or ended in `.` or `..`.
    pub name: Vec<u8>,
    /// The path ended in a slash.
    pub slash: bool,
}

pub const RESOLVE_NO_XDEV: u64 = 1;
pub const RESOLVE_NO_MAGICLINKS: u64 = 2;
pub const RESOLVE_NO_SYMLINKS: u64 = 4;
pub const RESOLVE_BENEATH: u64 = 8;
pub const RESOLVE_IN_ROOT: u64 = 0x10;
pub const RESOLVE_CACHED: u64 = 0x20;

/// What a walk must keep to: openat2(2).
#[derive(Clone, Default)]
pub struct Scope {
    /// RESOLVE_ flags.
    pub resolve: u64,
    /// Where it starts; for RESOLVE_BENEATH and RESOLVE_IN_ROOT.
    pub top: Option<Path>,
}

impl Scope {
    pub fn refuses(&self, flag: u64) -> bool {
        self.resolve & flag != 0
    }
    /// May the walk go to another mount? EXDEV if not.
    fn cross(&self, from: &Path, to: &Path) -> Result {
        let stays = !self.refuses(RESOLVE_NO_XDEV) || Rc::ptr_eq(&from.mount, &to.mount);
        if stays { Ok(()) } else { Err(Errno::EXDEV) }
    }
}

/// One walk.
pub struct Walk<'a> {
    pub fs: &'a FsContext,
    pub cred: &'a Cred,
    pub(crate) scope: Scope,
    links: u32,
}

impl<'a> Walk<'a> {
    pub fn new(fs: &'a FsContext, cred: &'a Cred) -> Self {
        Walk { fs, cred, scope: Scope::default(), links: 0 }
    }

    fn start(&self, base: &Path, path: &[u8]) -> Result<Path> {
        if path.first() != Some(&b'/') {
            return Ok(base.clone());
        }
        if self.scope.refuses(RESOLVE_BENEATH) {
            return Err(Errno::EXDEV);
        }
        let root = self.fs.root.borrow().clone();
        let to = self.scope.top.clone().filter(|_| self.scope.refuses(RESOLVE_IN_ROOT)).unwrap_or(root);
        self.scope.cross(base, &to)?;
        Ok(to)
    }

    fn search(&self, p: &Path) -> Result {
        if p.inode().kind()? != c::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        // Who may search every directory need not know this one's mode.
        if self.cred.has(CAP_DAC_OVERRIDE) || self.cred.has(CAP_DAC_READ_SEARCH) {
            return Ok(());
        }
        permission(&p.inode().attr()?, self.cred, MAY_EXEC)
    }

    fn up(&self, p: Path) -> Result<Path> {
        let root = self.fs.root.borrow().clone();
        let mut at = p;
        loop {
            if self.scope.top.as_ref().is_some_and(|top| at.same(top)) {
                return if self.scope.refuses(RESOLVE_BENEATH) { Err(Errno::EXDEV) } else { Ok(at) };
            }
            if at.same(&root) {
                return Ok(at);
            }
            if Rc::ptr_eq(&at.dentry, &at.mount.root) {
                match at.mount.on() {
                    Some(on) => {
                        self.scope.cross(&at, &on)?;
                        at = on;
                    }
                    None => return Ok(at),
                }
                continue;
            }
            let parent = at.dentry.parent.borrow().clone();
            if let Some(d) = parent {
                at.dentry = d;
            }
            return Ok(mount::enter(at));
        }
    }

    /// Walks to the end. `follow`: also through a symbolic link at the end.
    pub fn resolve(&mut self, base: &Path, path: &[u8], follow: bool) -> Result<Found> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let last = self.parent(base, path)?;
        if last.name.is_empty() {
            return Ok(Found::Path(last.parent));
        }
        self.finish(last, follow)
    }

    /// Takes the last step of a walk.
    pub fn finish(&mut self, last: Last, follow: bool) -> Result<Found> {
        let slash = last.slash;
        let found = self.step(&last.parent, &last.name, follow || slash)?;
        if slash
            && let Found::Path(p) = &found
            && !p.inode().attr()?.is_dir()
        {
            return Err(Errno::ENOTDIR);
        }
        Ok(found)
    }

    /// One component that is a name; through links if `follow`.
    fn step(&mut self, dir: &Path, name: &[u8], follow: bool) -> Result<Found> {
        self.search(dir)?;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let dentry = dir.dentry.child(name)?;
        let p = mount::enter(Path { mount: dir.mount.clone(), dentry });
        self.scope.cross(dir, &p)?;
        if !follow || !p.inode().attr()?.is_link() {
            return Ok(Found::Path(p));
        }
        if dir.mount.has(mount::NO_SYMFOLLOW) {
            return Err(Errno::ELOOP);
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP);
        }
        if self.scope.refuses(RESOLVE_NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        let magic = p.inode().follow();
        if magic.is_some() {
            if self.scope.refuses(RESOLVE_NO_MAGICLINKS) {
                return Err(Errno::ELOOP);
            }
            // It leads anywhere.
            if self.scope.top.is_some() {
                return Err(Errno::EXDEV);
            }
        }
        match magic {
            Some(Ok(Follow::Path(to))) if self.scope.cross(&p, &to).is_err() => Err(Errno::EXDEV),
            Some(Ok(Follow::Path(to))) => Ok(Found::Path(to)),
            Some(Ok(Follow::File(f))) => Ok(Found::File(f)),
            Some(Err(e)) => Err(e),
            None => {
                let target = p.inode().readlink()?;
                if target.is_empty() {
                    return Err(Errno::ENOENT);
                }
                self.resolve(dir, &target, true)
            }
        }
    }

    /// Walks to the directory of the last component, through every link before it.
    pub fn parent(&mut self, base: &Path, path: &[u8]) -> Result<Last> {
        if path.len() >= 4096 {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut at = self.start(base, path)?;
        let slash = path.last() == Some(&b'/');
        let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            match part {
                b"." | b".." => {
                    self.search(&at)?;
                    if part == b".." {
                        at = self.up(at)?;
                    }
                }
                name if last => return Ok(Last { parent: at, name: name.to_vec(), slash }),
                name => match self.step(&at, name, true)? {
                    Found::Path(p) => at = p,
                    Found::File(f) => at = f.path().cloned().ok_or(Errno::ENOTDIR)?,
                },
            }
        }
        Ok(Last { parent: at, name: Vec::new(), slash })
    }

    /// The child of a walk's end, if it exists.
    pub fn existing(&self, last: &Last) -> Result<Option<Rc<Dentry>>> {
        self.search(&last.parent)?;
        if last.name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        match last.parent.dentry.child(&last.name) {
            Ok(d) => Ok(Some(d)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// EROFS or EACCES unless names may be changed in the directory.
    pub fn may_change(&self, dir: &Path) -> Result {
        if dir.mount.read_only() {
            return Err(Errno::EROFS);
        }
        permission(&dir.inode().attr()?, self.cred, MAY_WRITE | MAY_EXEC)
    }

    /// The rules of sticky directories, and of files and directories that only grow.
    pub fn may_remove(&self, dir: &Path, victim: &Attr) -> Result {
        self.may_change(dir)?;
        let d = dir.inode().attr()?;
        victim.changeable()?;
        if d.flagged(APPEND) {
            return Err(Errno::EPERM);
        }
        let sticky = d.mode & c::S_ISVTX != 0;
        if sticky
            && self.cred.fsuid != d.uid
            && self.cred.fsuid != victim.uid
            && !self.cred.has_over(kernel::cred::CAP_FOWNER, victim.uid, victim.gid)
        {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}
