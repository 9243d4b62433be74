//! devpts: the slaves by their numbers, and ptmx. pts(4).
use super::{PTS_MAJOR, TTYAUX_MAJOR, Terminals, blank};
use abi::{Errno, Result, c};
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use vfs::{Attr, DirEntry, FileOps, Inode, OpenFile, SetAttr, StatFs};

/// The group that owns terminals.
const TTY_GROUP: u32 = 5;
const MAGIC: i64 = 0x1cd1;

/// A device in devpts.
pub struct Node(Cell<Attr>);

impl Node {
    pub(super) fn slave(dev: u64, index: u32, uid: u32) -> Node {
        let attr = blank(dev, u64::from(index) + 3, c::S_IFCHR | 0o620);
        Node(Cell::new(Attr { uid, gid: TTY_GROUP, rdev: c::makedev(PTS_MAJOR, index), ..attr }))
    }

    pub(super) fn give(&self, uid: u32) {
        self.0.set(Attr { uid, ..self.0.get() });
    }
}

impl Inode for Node {
    fn attr(&self) -> Result<Attr> {
        Ok(self.0.get())
    }
    fn set_attr(&self, s: &SetAttr) -> Result {
        let mut a = self.0.get();
        a.mode = s.mode.map_or(a.mode, |m| a.mode & c::S_IFMT | m & 0o7777);
        a.uid = s.uid.unwrap_or(a.uid);
        a.gid = s.gid.unwrap_or(a.gid);
        a.atime = s.atime.unwrap_or(a.atime);
        a.mtime = s.mtime.unwrap_or(a.mtime);
        a.ctime = super::now();
        self.0.set(a);
        Ok(())
    }
    /// Terminals are opened by their device number.
    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Root {
    terminals: Rc<Terminals>,
    ptmx: Rc<Node>,
    attr: Cell<Attr>,
}

/// The root of devpts. `dev`: its device number.
pub fn mount(dev: u64, terminals: Rc<Terminals>) -> Rc<dyn Inode> {
    terminals.dev.set(dev);
    let ptmx = Attr { rdev: c::makedev(TTYAUX_MAJOR, 2), ..blank(dev, 2, c::S_IFCHR | 0o666) };
    let attr = Attr { nlink: 2, ..blank(dev, 1, c::S_IFDIR | 0o755) };
    Rc::new(Root { terminals, ptmx: Rc::new(Node(Cell::new(ptmx))), attr: Cell::new(attr) })
}

impl Inode for Root {
    fn attr(&self) -> Result<Attr> {
        Ok(self.attr.get())
    }
    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(self.ptmx.clone());
        }
        let index: u32 = std::str::from_utf8(name).ok().and_then(|n| n.parse().ok()).ok_or(Errno::ENOENT)?;
        if index.to_string().as_bytes() != name {
            return Err(Errno::ENOENT);
        }
        let list = self.terminals.list.borrow();
        list.get(&index).map(|e| e.1.clone() as Rc<dyn Inode>).ok_or(Errno::ENOENT)
    }
    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        Ok(Rc::new(Listing(self.terminals.clone())))
    }
    fn statfs(&self) -> Result<StatFs> {
        self.ptmx.statfs()
    }
    fn cacheable(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Listing(Rc<Terminals>);

impl FileOps for Listing {
    fn readdir(&self, _file: &OpenFile, from: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        const DIR: u8 = 4;
        const DEVICE: u8 = 2;
        let fixed = [(1, DIR, b".".to_vec()), (1, DIR, b"..".to_vec()), (2, DEVICE, b"ptmx".to_vec())];
        let slaves: Vec<u32> = self.0.list.borrow().keys().copied().collect();
        let slaves = slaves.into_iter().map(|i| (u64::from(i) + 3, DEVICE, i.to_string().into_bytes()));
        for (at, (ino, kind, name)) in fixed.into_iter().chain(slaves).enumerate().skip(from as usize) {
            if !emit(DirEntry { ino, next: at as u64 + 1, kind, name }) {
                break;
            }
        }
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
