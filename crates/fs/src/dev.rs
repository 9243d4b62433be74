//! /dev: the devices every container has, and the links it expects.
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source, UserOut};
use std::any::Any;
use std::rc::Rc;
use vfs::{Attr, Backing, FileOps, Inode, New, OpenFile, StatFs};

/// A character device by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Null,
    Zero,
    Full,
    Random,
}

const DEVICES: [(&str, u32, u32, Option<Device>); 6] = [
    ("null", 1, 3, Some(Device::Null)),
    ("zero", 1, 5, Some(Device::Zero)),
    ("full", 1, 7, Some(Device::Full)),
    ("random", 1, 8, Some(Device::Random)),
    ("urandom", 1, 9, Some(Device::Random)),
    // Terminals are opened by their numbers, in the system call layer.
    ("tty", 5, 0, None),
];

/// Of the random pool, which is never short of it.
pub const ENTROPY_BITS: i32 = 256;

/// A tmpfs with the devices in it. `console`: the terminal it starts with, by device number and owner.
pub fn mount(dev: u64, console: Option<(u64, u32)>) -> Result<Rc<dyn Inode>> {
    let root = crate::tmp::mount(dev, 0o755, 1 << 20, 1 << 12);
    let owner = |mode| New { mode, uid: 0, gid: 0 };
    for (name, major, minor, _) in DEVICES {
        root.create(name.as_bytes(), owner(c::S_IFCHR | 0o666), c::makedev(major, minor))?;
    }
    if let Some((rdev, uid)) = console {
        root.create(b"console", New { mode: c::S_IFCHR | 0o620, uid, gid: 5 }, rdev)?;
    }
    for (name, to) in abi::fs::DEV_LINKS {
        root.symlink(name.as_bytes(), to.as_bytes(), owner(c::S_IFLNK | 0o777))?;
    }
    root.mkdir(b"shm", owner(c::S_IFDIR | 0o1777))?;
    root.mkdir(b"mqueue", owner(c::S_IFDIR | 0o1777))?;
    root.mkdir(b"pts", owner(c::S_IFDIR | 0o755))?;
    Ok(Rc::new(DevRoot(root)))
}

/// The root of /dev: nodes made here work as devices.
struct DevRoot(Rc<dyn Inode>);

impl Inode for DevRoot {
    fn attr(&self) -> Result<Attr> {
        self.0.attr()
    }
    fn lookup(&self, name: &[u8]) -> Result<Rc<dyn Inode>> {
        let i = self.0.lookup(name)?;
        let a = i.attr()?;
        Ok(if a.kind() == c::S_IFCHR { Rc::new(Node(i, a.rdev)) } else { i })
    }
    fn create(&self, name: &[u8], new: New, rdev: u64) -> Result<Rc<dyn Inode>> {
        self.0.create(name, new, rdev)
    }
    fn mkdir(&self, name: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        self.0.mkdir(name, new)
    }
    fn symlink(&self, name: &[u8], target: &[u8], new: New) -> Result<Rc<dyn Inode>> {
        self.0.symlink(name, target, new)
    }
    fn unlink(&self, name: &[u8]) -> Result {
        self.0.unlink(name)
    }
    fn rmdir(&self, name: &[u8]) -> Result {
        self.0.rmdir(name)
    }
    fn open(&self, flags: i32) -> Result<Rc<dyn FileOps>> {
        self.0.open(flags)
    }
    fn set_attr(&self, s: &vfs::SetAttr) -> Result {
        self.0.set_attr(s)
    }
    fn statfs(&self) -> Result<StatFs> {
        self.0.statfs()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Node(Rc<dyn Inode>, u64);

impl Inode for Node {
    fn attr(&self) -> Result<Attr> {
        self.0.attr()
    }
    fn set_attr(&self, s: &vfs::SetAttr) -> Result {
        self.0.set_attr(&vfs::SetAttr { size: None, ..*s })
    }
    fn open(&self, _flags: i32) -> Result<Rc<dyn FileOps>> {
        open(self.1)
    }
    fn statfs(&self) -> Result<StatFs> {
        self.0.statfs()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A character device, wherever its node is. ENXIO if there is none of this number.
pub(crate) fn open(rdev: u64) -> Result<Rc<dyn FileOps>> {
    let found = DEVICES.iter().find(|(_, a, b, _)| c::makedev(*a, *b) == rdev);
    match found {
        Some((_, _, _, Some(d))) => Ok(Rc::new(Open(*d))),
        _ => Err(Errno::ENXIO),
    }
}

struct Open(Device);

impl FileOps for Open {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if self.0 == Device::Null {
            return Ok(0);
        }
        let mut buf = [0u8; 4096];
        let mut done = 0;
        while dst.remaining() > 0 {
            let n = dst.remaining().min(buf.len());
            if self.0 == Device::Random {
                ::host::stub::random(&mut buf[..n]);
            }
            done += dst.put(&buf[..n])?;
        }
        Ok(done)
    }
    fn write(&self, _file: &OpenFile, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        if self.0 == Device::Full { Err(Errno::ENOSPC) } else { Ok(src.remaining()) }
    }
    /// random(4): how much entropy there is. Who adds some, or takes it away, changes nothing here.
    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        const RNDGETENTCNT: u32 = 0x8004_5200;
        match cmd {
            RNDGETENTCNT if self.0 == Device::Random => UserOut::new(arg).put(mem, &ENTROPY_BITS).map(|()| 0),
            _ => Err(Errno::ENOTTY),
        }
    }
    fn size(&self) -> Result<u64> {
        Ok(0)
    }
    fn has_positions(&self) -> bool {
        false
    }
    fn truncate(&self, _len: u64) -> Result {
        Err(Errno::EINVAL)
    }
    fn mmap(&self, _writable_shared: bool, f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        if self.0 == Device::Zero { f(Backing::Zero) } else { Err(Errno::ENODEV) }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
