//! Open files: what every kind of descriptor can do.
use abi::{Errno, Result};
use guest::{Memory, Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

bitflags::bitflags! {
    /// Readiness, with the numbers of EPOLLIN and its kin.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Ready: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const RDNORM = 0x40;
        const WRNORM = 0x100;
        const RDHUP = 0x2000;
    }
}

/// One directory entry, as getdents64 shows it.
#[derive(Debug, Clone)]
pub struct DirEntry {
    pub ino: u64,
    /// Position of the *next* entry: what lseek takes to go on from there.
    pub next: u64,
    /// DT_REG …
    pub kind: u8,
    pub name: Vec<u8>,
}

/// What mmap needs from a file.
pub enum Backing<'a> {
    /// Map this host descriptor, file offset to file offset. The guest never keeps the descriptor.
    Host(BorrowedFd<'a>),
    /// Private or shared anonymous zeroes (/dev/zero).
    Zero,
}

/// What stands behind an open file description: a pipe end, a host file, an eventfd …
///
/// Nothing here waits: what cannot be done now is EAGAIN, and [`waiters`](Self::waiters) is woken when
/// it may be. The system call layer waits (or not, with O_NONBLOCK). `file` is the description the call came through.
pub trait FileOps: Any {
    /// Reads at `offset`, or for files without positions (pipes) what comes next. 0 is the end.
    fn read(&self, _file: &OpenFile, _dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// Writes at `offset` (the end, with O_APPEND: the implementation looks at `file.flags()`).
    fn write(&self, _file: &OpenFile, _src: &mut dyn Source, _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }
    /// False for pipes, sockets, eventfds: pread and lseek answer ESPIPE.
    fn seekable(&self) -> bool {
        true
    }
    /// False: a device, all of whose bytes are alike; lseek answers 0, wherever to.
    fn has_positions(&self) -> bool {
        true
    }
    /// A block device: it does not grow, there is nothing beyond its end, and appending means nothing.
    fn has_fixed_size(&self) -> bool {
        false
    }
    /// Its bytes are kept as they were written, for whoever reads them: a loop device can stand on it.
    fn is_storage(&self) -> bool {
        false
    }
    /// Whether a write of `len` bytes is now done whole or not at all. If not, a call that blocks may have to go on
    /// with the rest later, and must not be made again from its start.
    fn takes_whole(&self, _len: usize) -> bool {
        true
    }
    /// The size that SEEK_END counts from, and where O_APPEND writes.
    fn size(&self) -> Result<u64> {
        Err(Errno::ESPIPE)
    }
    /// SEEK_DATA (3) and SEEK_HOLE (4); other kinds of seek are done by the layer above.
    fn seek_data_hole(&self, offset: u64, whence: i32) -> Result<u64> {
        let size = self.size()?;
        match (offset < size, whence) {
            (false, _) => Err(Errno::ENXIO),
            (true, 3) => Ok(offset),
            (true, _) => Ok(size),
        }
    }
    /// How many pages of a range of bytes are in memory, cachestat(2): of what is no file none. EOPNOTSUPP: the host knows.
    fn cached(&self, _r: Range<u64>) -> Result<u64> {
        Ok(0)
    }
    fn ready(&self) -> Ready {
        Ready::IN | Ready::OUT | Ready::RDNORM | Ready::WRNORM
    }
    /// Woken when [`ready`](Self::ready) may have changed. `None`: always ready (regular files).
    fn waiters(&self) -> Option<&WaitQueue> {
        None
    }
    /// Whether urgent data has come since this was last asked. `None`: none ever comes.
    fn urged(&self) -> Option<bool> {
        None
    }
    /// Whether O_ASYNC means something here: pipes, sockets and terminals tell of their readiness by a signal.
    fn sigio(&self) -> bool {
        false
    }
    /// Gives the entries from position `from` on, until `emit` returns false. ENOTDIR unless a directory.
    fn readdir(&self, _file: &OpenFile, _from: u64, _emit: &mut dyn FnMut(DirEntry) -> bool) -> Result {
        Err(Errno::ENOTDIR)
    }
    /// ioctl(2) commands of this kind of file. ENOTTY for those it does not know.
    fn ioctl(&self, _file: &OpenFile, _mem: &dyn Memory, _cmd: u32, _arg: u64) -> Result<i64> {
        Err(Errno::ENOTTY)
    }
    fn truncate(&self, _len: u64) -> Result {
        Err(Errno::EINVAL)
    }
    fn allocate(&self, _mode: i32, _offset: u64, _len: u64) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    /// A file of the host, whose [`sync`](Self::sync) waits for a disk: its descriptor, for a helper to do it.
    fn slow_sync(&self) -> Option<Result<OwnedFd>> {
        None
    }
    fn sync(&self, _data_only: bool) -> Result {
        Err(Errno::EINVAL)
    }
    /// ENODEV: cannot be mapped. `writable_shared`: MAP_SHARED with PROT_WRITE, now or later.
    fn mmap(&self, _writable_shared: bool, _f: &mut dyn FnMut(Backing<'_>) -> Result) -> Result {
        Err(Errno::ENODEV)
    }
    /// Held for as long as a shared mapping lives that may write, by files that can be sealed.
    fn write_mapping(&self) -> Option<Rc<()>> {
        None
    }
    /// fcntl(2) F_GET_SEALS. EINVAL: a file that is not in memory.
    fn seals(&self) -> Result<i32> {
        Err(Errno::EINVAL)
    }
    /// fcntl(2) F_ADD_SEALS. `executable`: some execute permission bit is set. EPERM, EBUSY, EINVAL.
    fn add_seals(&self, _seals: i32, _executable: bool) -> Result {
        Err(Errno::EINVAL)
    }
    /// A process closed a descriptor of it, which need not be the last.
    fn closed_by(&self, _pid: i32) {}
    /// The last description is gone.
    fn release(&self, _file: &OpenFile) {}
    fn as_any(&self) -> &dyn Any;
}

/// The sandbox has no more open file descriptions (fs.file-max).
pub const FILES_MAX: usize = 1 << 18;

thread_local! {
    static FILES: Cell<usize> = const { Cell::new(0) };
}

/// ENFILE if one more open file description would be too many. Who has made it already counts it with `made`.
pub fn room(made: usize) -> Result {
    if FILES.get() - made < FILES_MAX { Ok(()) } else { Err(Errno::ENFILE) }
}

/// How many open file descriptions there are.
pub fn count() -> usize {
    FILES.get()
}

/// An open file description, open(2): what descriptors point to, and dup and fork share.
pub struct OpenFile {
    ops: Rc<dyn FileOps>,
    pos: Cell<u64>,
    /// O_ flags: the access mode, and what F_SETFL may change.
    flags: Cell<i32>,
    /// Where it was opened, if it has a name.
    path: Option<crate::Path>,
    created: Cell<bool>,
    /// Keeps a file that may be written to from being executed.
    writing: Option<crate::busy::Writing>,
}

impl OpenFile {
    pub fn new(ops: Rc<dyn FileOps>, flags: i32, path: Option<crate::Path>) -> Rc<OpenFile> {
        Self::writing(ops, flags, path, None)
    }
    /// A file that is executed by nobody as long as it is open.
    pub fn writing(
        ops: Rc<dyn FileOps>,
        flags: i32,
        path: Option<crate::Path>,
        writing: Option<crate::busy::Writing>,
    ) -> Rc<OpenFile> {
        FILES.set(FILES.get() + 1);
        if let (Some(_), Some(p)) = (&writing, &path) {
            p.mount.add_writers(1);
        }
        Rc::new(OpenFile { ops, pos: Cell::new(0), flags: Cell::new(flags), path, created: Cell::new(false), writing })
    }
    pub fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }
    /// The behaviour as its concrete type, if it is that.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }
    pub fn flags(&self) -> i32 {
        self.flags.get()
    }
    pub fn set_flags(&self, flags: i32) {
        self.flags.set(flags);
    }
    /// Whether the open(2) that made it made the file, too.
    pub fn created(&self) -> bool {
        self.created.get()
    }
    pub fn set_created(&self) {
        self.created.set(true);
    }
    pub fn nonblocking(&self) -> bool {
        self.flags.get() & abi::c::O_NONBLOCK != 0
    }
    pub fn readable(&self) -> bool {
        matches!(self.flags.get() & (abi::c::O_ACCMODE | abi::c::O_PATH), abi::c::O_RDONLY | abi::c::O_RDWR)
    }
    pub fn writable(&self) -> bool {
        matches!(self.flags.get() & (abi::c::O_ACCMODE | abi::c::O_PATH), abi::c::O_WRONLY | abi::c::O_RDWR)
    }
    pub fn pos(&self) -> u64 {
        self.pos.get()
    }
    pub fn set_pos(&self, pos: u64) {
        self.pos.set(pos);
    }
    pub fn path(&self) -> Option<&crate::Path> {
        self.path.as_ref()
    }
    /// Does reading through this description move the access time? See [`Mount::moves_atime`](crate::Mount::moves_atime).
    pub fn moves_atime(&self, dir: bool, stale: bool) -> bool {
        let wanted = |p: &crate::Path| p.mount.moves_atime(dir, stale);
        self.flags() & abi::c::O_NOATIME == 0 && self.path.as_ref().is_some_and(wanted)
    }
    /// Whoever watches the file hears of what was done through this description: IN_ACCESS, IN_MODIFY ...
    pub fn told(&self, event: u32) {
        if crate::inotify::watched()
            && self.flags() & abi::c::O_PATH == 0
            && let Some(p) = &self.path
        {
            crate::inotify::happened(&p.dentry, event);
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        FILES.set(FILES.get() - 1);
        if let (Some(_), Some(p)) = (&self.writing, &self.path) {
            p.mount.add_writers(-1);
        }
        self.ops.clone().release(self);
        if crate::lease::any() {
            crate::lease::ended(self);
        }
        if crate::inotify::watched() {
            self.told(if self.writable() { abi::c::IN_CLOSE_WRITE } else { abi::c::IN_CLOSE_NOWRITE });
            if let Some(p) = &self.path {
                crate::inotify::perhaps_deleted(&p.dentry, 1);
            }
        }
    }
}

/// What O_PATH opens: a place, without the file.
pub struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
