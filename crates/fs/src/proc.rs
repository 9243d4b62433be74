//! procfs: a tree of names whose contents are made when they are looked at. proc(5).
//!
//! What it shows comes from a [`Source`], which the kernel implements.
use abi::{Errno, Result, c};
use guest::{Memory, Sink};
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use vfs::{Attr, DirEntry, FileOps, Follow, Inode, OpenFile, StatFs};

/// A place in /proc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Dir(Vec<(String, u8)>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// Of a directory's entry: it is one itself.
const DT_DIR: u8 = 4;

/// What the kernel tells. Paths are relative to /proc, without slashes at the ends; `caller` is the reader's process.
pub trait Source {
    /// What stands at `path`; ENOENT if nothing does.
    fn node(&self, path: &str) -> Result<Node>;
    /// Where a magic link leads; `None` if its text is to be walked.
    fn follow(&self, path: &str) -> Option<Result<Follow>>;
    /// Owner of a place.
    fn owner(&self, path: &str) -> (u32, u32);
    /// Does it take writes?
    fn writable(&self, path: &str) -> bool;
    /// The owner's alone (mode 0600).
    fn private(&self, path: &str) -> bool;
    /// A file that is more than a text.
    fn open(&self, path: &str) -> Option<Result<Rc<dyn FileOps>>>;
    /// The process whose directory this is: its number, and when it began (monotonic nanoseconds).
    fn process(&self, path: &str) -> Option<(i32, u64)>;
    /// May something be mounted on it?
    fn may_be_covered(&self, _path: &str) -> bool {
        true
    }
    /// Are its names always there, so that one looked up is true later?
    fn fixed(&self) -> bool {
        false
    }
    /// The number that statfs(2) tells the file system by.
    fn magic(&self) -> i64 {
        0x9fa0
    }
    /// ioctl(2) on a file. ENOTTY for commands it does not know.
    fn ioctl(&self, _path: &str, _mem: &dyn Memory, _cmd: u32, _arg: u64) -> Result<i64> {
        Err(Errno::ENOTTY)
    }
    /// A write to a file; EACCES for those that take none.
    fn write(&self, path: &str, data: &[u8]) -> Result;
}

struct ProcInode {
    source: Rc<dyn Source>,
    dev: u64,
    path: String,
}

/// The root of a procfs.
pub fn mount(dev: u64, source: Rc<dyn Source>) -> Rc<dyn Inode> {
    Rc::new(ProcInode { source, dev, path: String::new() })
}

/// A number that is the same each time for the same name, but another for each process that has it.
fn ino(source: &dyn Source, path: &str) -> u64 {
    let began = source.process(path).map_or(0, |(_, began)| began);
    let bytes = path.bytes().chain(began.to_ne_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)) >> 16 | 1
}

impl Inode for ProcInode {
    fn attr(&self) -> Result<Attr> {
        let node = self.source.node(&self.path)?;
        // Programs count their threads by the links of /proc/self/task.
        let nlink = match &node {
            Node::Dir(list) => 2 + list.iter().filter(|(_, kind)| *kind == DT_DIR).count() as u32,
            _ => 1,
        };
        let mode = match node {
            Node::Dir(_) => c::S_IFDIR | 0o555,
            Node::File(_) if self.source.private(&self.path) => c::S_IFREG | 0o600,
            Node::File(_) => c::S_IFREG | if self.source.writable(&self.path) { 0o644 } else { 0o444 },
            Node::Link(_) => c::S_IFLNK | 0o777,
        };
        let (uid, gid) = self.source.owner(&self.path);
        let now = crate::now();
        Ok(Attr {
            dev: self.dev,
            ino: ino(&*self.source, &self.path),
            mode,
            nlink,
            uid,
            gid,
            blksize: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            ..Attr::default()
        })
    }

    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        self.source.node(&path)?;
        Ok(Rc::new(ProcInode { source: self.source.clone(), dev: self.dev, path }))
    }

    fn create(&self, _name: &[u8], _new: vfs::New, _rdev: u64) -> Result<Rc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn mkdir(&self, _name: &[u8], _new: vfs::New) -> Result<Rc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match self.source.node(&self.path)? {
            Node::Link(to) => Ok(to),
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self) -> Option<Result<Follow>> {
        self.source.follow(&self.path)
    }

    fn set_attr(&self, s: &vfs::SetAttr) -> Result {
        // Opening with O_TRUNC is how shells write to these files.
        if s.size == Some(0) && s.mode.is_none() && s.uid.is_none() { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn open(&self, flags: i32) -> Result<Rc<dyn FileOps>> {
        match self.source.node(&self.path)? {
            Node::Dir(_) => {
                let process = self.source.process(&self.path);
                Ok(Rc::new(ProcDir { source: self.source.clone(), path: self.path.clone(), process }))
            }
            Node::File(_) if flags & c::O_ACCMODE != c::O_RDONLY && !self.source.writable(&self.path) => {
                Err(Errno::EACCES)
            }
            Node::File(_) if let Some(f) = self.source.open(&self.path) => f,
            Node::File(_) => Ok(Rc::new(ProcFile {
                source: self.source.clone(),
                path: self.path.clone(),
                text: RefCell::new(Vec::new()),
            })),
            Node::Link(_) => Err(Errno::ELOOP),
        }
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: self.source.magic(), bsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn cacheable(&self) -> bool {
        self.source.fixed()
    }

    fn may_be_covered(&self) -> bool {
        self.source.may_be_covered(&self.path)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct ProcFile {
    source: Rc<dyn Source>,
    path: String,
    /// As it was at the last read from the start.
    text: RefCell<Vec<u8>>,
}

impl FileOps for ProcFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        if offset == 0 {
            match self.source.node(&self.path)? {
                Node::File(t) => *self.text.borrow_mut() = t,
                _ => return Err(Errno::ENOENT),
            }
        }
        let text = self.text.borrow();
        let rest = &text[(offset as usize).min(text.len())..];
        if rest.is_empty() { Ok(0) } else { dst.put(&rest[..rest.len().min(dst.remaining())]) }
    }
    fn write(&self, _file: &OpenFile, src: &mut dyn guest::Source, _offset: u64) -> Result<usize> {
        let mut buf = vec![0u8; src.remaining().min(4096)];
        let n = src.take(&mut buf)?;
        self.source.write(&self.path, &buf[..n])?;
        Ok(n)
    }
    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        self.source.ioctl(&self.path, mem, cmd, arg)
    }
    fn size(&self) -> Result<u64> {
        Ok(self.text.borrow().len() as u64)
    }
    fn truncate(&self, _len: u64) -> Result {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct ProcDir {
    source: Rc<dyn Source>,
    path: String,
    process: Option<(i32, u64)>,
}

/// The process whose open /proc/PID this is: its number, and when it began.
pub fn process(f: &OpenFile) -> Option<(i32, u64)> {
    f.downcast::<ProcDir>()?.process
}

impl FileOps for ProcDir {
    fn readdir(&self, _file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        let Node::Dir(names) = self.source.node(&self.path)? else { return Err(Errno::ENOTDIR) };
        let full = |n: &str| if self.path.is_empty() { n.to_owned() } else { format!("{}/{n}", self.path) };
        let entries: Vec<_> =
            names.into_iter().map(|(n, kind)| (n.clone().into_bytes(), ino(&*self.source, &full(&n)), kind)).collect();
        let up = self.path.rsplit_once('/').map_or("", |(p, _)| p);
        crate::emit_entries(ino(&*self.source, &self.path), ino(&*self.source, up), &entries, from, emit);
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
