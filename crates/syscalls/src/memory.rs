//! Memory: mmap(2), munmap(2), mprotect(2), mremap(2), brk(2), memfd_create(2).
use crate::args::{Addr, Fd, Flags, StrArg};
use crate::fd::install;
use crate::sites::Ahead;
use abi::signal::SigInfo;
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::ops::Op;
use ipc::sysv::shm::Segment;
use kernel::mm::{BrkChange, Limits, MappedFile, Remap, Vma, anonymous};
use std::any::Any;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use task::Task;
use vfs::{Backing, New, OpenFile};

/// A file as a mapping knows it.
pub struct Mapped {
    file: Option<Rc<OpenFile>>,
    /// What the name is relative to.
    root: Option<vfs::Path>,
    id: (u64, u64),
    write_shared: bool,
    /// The System V segment that it is an attachment of.
    segment: Option<Rc<Segment>>,
    /// A shared mapping that may write keeps its file from being sealed.
    _writes: Option<Rc<()>>,
}

thread_local! {
    static ANONYMOUS: Cell<u64> = const { Cell::new(1) };
}

impl Mapped {
    /// `write_shared`: it is shared, and the guest may write to it, now or later.
    pub fn new(t: &Task, f: &Rc<OpenFile>, write_shared: bool) -> Rc<Mapped> {
        let root = Some(t.fs().root.borrow().clone());
        let id = f.path().and_then(|p| p.inode().attr().ok()).map_or((0, 0), |a| (a.dev, a.ino));
        let writes = if write_shared { f.ops().write_mapping() } else { None };
        Rc::new(Mapped { file: Some(f.clone()), root, id, write_shared, segment: None, _writes: writes })
    }
    /// Shared anonymous memory: an object of its own, known by a number.
    fn shared_zeroes() -> Rc<Mapped> {
        let n = ANONYMOUS.replace(ANONYMOUS.get() + 1);
        Rc::new(Mapped { file: None, root: None, id: (1, n), write_shared: true, segment: None, _writes: None })
    }
    /// An attachment of a System V segment.
    pub fn segment(t: &Task, id: i32, s: &Rc<Segment>, write: bool) -> Rc<Mapped> {
        let dev = s.file.path().and_then(|p| p.inode().attr().ok()).map_or(0, |a| a.dev);
        let root = Some(t.fs().root.borrow().clone());
        let file = Some(s.file.clone());
        let id = (dev, id as u64);
        Rc::new(Mapped { file, root, id, write_shared: write, segment: Some(s.clone()), _writes: None })
    }
    pub fn shared_segment(&self) -> Option<&Rc<Segment>> {
        self.segment.as_ref()
    }
    pub fn file(&self) -> Option<&Rc<OpenFile>> {
        self.file.as_ref()
    }
}

impl MappedFile for Mapped {
    fn path(&self) -> Vec<u8> {
        match (&self.file, &self.root) {
            (Some(f), Some(root)) => f.path().and_then(|p| vfs::name_of(p, root)).unwrap_or_default(),
            _ => b"/dev/zero (deleted)".to_vec(),
        }
    }
    fn dev_ino(&self) -> (u64, u64) {
        self.id
    }
    fn may_write_shared(&self) -> bool {
        self.write_shared
    }
    fn left(&self, pid: i32) {
        if let Some(s) = &self.segment {
            s.detached(pid);
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub(crate) fn limits(t: &Task) -> Limits {
    Limits { address_space: t.process.rlimit(c::RLIMIT_AS), data: t.process.rlimit(c::RLIMIT_DATA) }
}

/// The host descriptor to map a file by; `None`: plain zeroes.
pub(crate) fn backing(f: &Rc<OpenFile>, writable_shared: bool) -> Result<Option<Rc<OwnedFd>>> {
    let mut got = None;
    f.ops().mmap(writable_shared, &mut |b| {
        if let Backing::Host(fd) = b {
            got = Some(Rc::new(host::fs::dup(fd)?));
        }
        Ok(())
    })?;
    Ok(got)
}

/// Private memory without a file, that may be lost (Linux 6.11): here it never is.
const MAP_DROPPABLE: i32 = 8;

const PROT: i32 = c::PROT_READ | c::PROT_WRITE | c::PROT_EXEC;
/// Flags the host sees; the others only say where.
const HOST_FLAGS: i32 =
    c::MAP_SHARED | c::MAP_PRIVATE | c::MAP_ANONYMOUS | c::MAP_NORESERVE | c::MAP_POPULATE | c::MAP_STACK;

/// What MAP_SHARED_VALIDATE accepts; without it unknown flags do nothing.
const KNOWN_FLAGS: i32 = HOST_FLAGS
    | c::MAP_SHARED_VALIDATE
    | c::MAP_FIXED
    | c::MAP_FIXED_NOREPLACE
    | c::MAP_GROWSDOWN
    | c::MAP_LOCKED
    | c::MAP_NONBLOCK
    | c::MAP_DENYWRITE
    | c::MAP_EXECUTABLE
    | c::MAP_HUGETLB
    | c::MAP_32BIT;

pub async fn mmap(t: &Rc<Task>, addr: Addr, len: u64, prot: i32, flags: Flags, fd: Fd, offset: u64) -> Result<u64> {
    let flags = flags.bits();
    let kind = flags & 0xf;
    let shared = match kind {
        c::MAP_PRIVATE => false,
        MAP_DROPPABLE if flags & c::MAP_ANONYMOUS != 0 => false,
        c::MAP_SHARED | c::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL),
    };
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    if flags & c::MAP_ANONYMOUS == 0 {
        t.files()?.get(fd.0)?;
    }
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if kind == c::MAP_SHARED_VALIDATE && flags & !KNOWN_FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if kind == MAP_DROPPABLE && flags & (c::MAP_LOCKED | c::MAP_HUGETLB | c::MAP_GROWSDOWN) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & c::MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    let prot = prot & PROT;
    let mut host_fd = None;
    let mut mapped: Option<Rc<Mapped>> = None;
    if flags & c::MAP_ANONYMOUS == 0 {
        let f = t.files()?.get(fd.0)?;
        if f.flags() & c::O_PATH != 0 {
            return Err(Errno::EBADF);
        }
        if !f.readable() || (shared && prot & c::PROT_WRITE != 0 && !f.writable()) {
            return Err(Errno::EACCES);
        }
        if prot & c::PROT_EXEC != 0 && f.path().is_some_and(|p| p.mount.has(vfs::mount::NO_EXEC)) {
            return Err(Errno::EPERM);
        }
        offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        let sealed = shared && f.ops().seals().is_ok_and(|s| s & (c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) != 0);
        if sealed && prot & c::PROT_WRITE != 0 {
            return Err(Errno::EPERM);
        }
        let write_shared = shared && f.writable() && !sealed;
        host_fd = backing(&f, write_shared)?;
        mapped = Some(Mapped::new(t, &f, write_shared));
    } else if shared {
        mapped = Some(Mapped::shared_zeroes());
    }
    let file = mapped.map(|m| (m, if flags & c::MAP_ANONYMOUS == 0 { offset } else { 0 }));
    let at = map(t, Mapping { addr: addr.0, len, prot, flags, shared, file }, host_fd).await?;
    if kind == MAP_DROPPABLE {
        let len = len.next_multiple_of(PAGE_SIZE);
        t.op(Op::Advise { addr: at, len, advice: c::MADV_WIPEONFORK });
    }
    Ok(at)
}

/// remap_file_pages(2): another part of a shared file, where one is mapped. `page`: which, in pages.
///
/// EINVAL: not such a mapping, all of one file; `prot` is not 0.
pub async fn remap_file_pages(t: &Rc<Task>, addr: Addr, len: u64, prot: i32, page: u64, flags: Flags) -> Result {
    let (start, len) = (addr.0 & !(PAGE_SIZE - 1), len & !(PAGE_SIZE - 1));
    let end = start.checked_add(len).filter(|e| *e > start).ok_or(Errno::EINVAL)?;
    let offset = page.checked_mul(PAGE_SIZE).filter(|o| o.checked_add(len).is_some()).ok_or(Errno::EINVAL)?;
    if prot != 0 {
        return Err(Errno::EINVAL);
    }
    settled(t, start, len).await;
    let (file, write_shared, prot, locked) = {
        let mm = t.mm();
        let space = mm.space.borrow();
        space.check_mapped(start..end).map_err(|_| Errno::EINVAL)?;
        let of = |v: &Vma| {
            let (m, _) = v.file.as_ref().filter(|_| v.shared)?;
            let m = m.as_any().downcast_ref::<Mapped>().filter(|m| m.segment.is_none())?;
            Some((m.file.clone()?, m.write_shared, v.prot, v.locked))
        };
        let first = space.at(start).and_then(of).ok_or(Errno::EINVAL)?;
        let same = |v: &Vma| of(v).is_some_and(|(f, _, p, _)| Rc::ptr_eq(&f, &first.0) && p == first.2);
        if !space.overlapping(start..end).all(same) {
            return Err(Errno::EINVAL);
        }
        first
    };
    let nonblock = flags.0 as i32 & c::MAP_NONBLOCK;
    let flags = c::MAP_FIXED | c::MAP_POPULATE | nonblock | if locked { c::MAP_LOCKED } else { 0 };
    let host_fd = backing(&file, write_shared)?;
    let mapped = Mapped::new(t, &file, write_shared);
    let m = Mapping { addr: start, len, prot, flags, shared: true, file: Some((mapped, offset)) };
    map(t, m, host_fd).await.map(|_| ())
}

/// What is to be mapped, and where. `flags`: mmap(2)'s, without the kind.
pub(crate) struct Mapping {
    pub addr: u64,
    pub len: u64,
    pub prot: i32,
    pub flags: i32,
    pub shared: bool,
    pub file: Option<(Rc<Mapped>, u64)>,
}

/// Maps it: in the kernel's list now, in the guest with the answer.
pub(crate) async fn map(t: &Rc<Task>, m: Mapping, host_fd: Option<Rc<OwnedFd>>) -> Result<u64> {
    let Mapping { addr, len, prot, flags, shared, file } = m;
    let mm = t.mm();
    mm.space.borrow().may_execute(prot, prot)?;
    let mut waited = false;
    let range = loop {
        let r = mm.space.borrow().place(addr, len, flags, limits(t))?;
        if waited && mm.in_flight(t, &r).is_none() || !mm.landed(t, r.clone()).await {
            break r;
        }
        waited = true;
    };
    let droppable = flags & 0xf == MAP_DROPPABLE;
    let locked = !droppable && (flags & c::MAP_LOCKED != 0 || mm.space.borrow().lock_future);
    if locked {
        let limit = crate::pages::memlock(t, true)?;
        let all = mm.space.borrow().locked(0..kernel::mm::USER_END) + (range.end - range.start);
        if all > limit {
            return Err(Errno::EAGAIN);
        }
    }
    let offset = file.as_ref().map_or(0, |(_, o)| *o);
    let file = file.map(|(m, o)| (m as Rc<dyn MappedFile>, o));
    let grows = flags & c::MAP_GROWSDOWN != 0 && !shared && file.is_none();
    let (start, end) = (range.start, range.end);
    let wipe_on_fork = droppable;
    let v = Vma { start, end, prot, shared, file, locked, grows, droppable, wipe_on_fork, ..anonymous() };
    mm.space.borrow_mut().map(v.clone());
    mm.forget_sites(range.clone());
    let sites = crate::sites::ahead(&mm, &v);
    let flags = (flags & HOST_FLAGS & !0xf) | if shared { c::MAP_SHARED } else { c::MAP_PRIVATE };
    mm.takes_off(t, range.clone());
    let mapping =
        Op::Map { addr: range.start, len: range.end - range.start, prot, flags, file: host_fd.map(|fd| (fd, offset)) };
    match sites {
        Some(Ahead { before, after }) => before.into_iter().chain([mapping, after]).for_each(|op| t.op(op)),
        None => t.op(mapping),
    }
    t.undo.replace(Some(Box::new({
        let r = range.clone();
        move |t: &Task| {
            t.mm().forget_sites(r.clone());
            t.mm().space.borrow_mut().forget(r);
        }
    })));
    Ok(range.start)
}

/// After a fault: the pages that a mapping with MAP_GROWSDOWN has there from now on. False: it has none.
pub fn grow(t: &Rc<Task>, addr: u64) -> bool {
    let mm = t.mm();
    // Another thread's fault may have made it grow just now.
    if mm.space.borrow().at(addr).is_some_and(|v| v.grows) {
        return true;
    }
    let grown = mm.space.borrow_mut().grow(addr, t.process.rlimit(c::RLIMIT_STACK), limits(t));
    let Some(v) = grown else { return false };
    let flags = c::MAP_PRIVATE | c::MAP_ANONYMOUS | c::MAP_NORESERVE;
    mm.takes_off(t, v.start..v.end);
    t.op(Op::Map { addr: v.start, len: v.end - v.start, prot: v.prot, flags, file: None });
    t.undo.replace(Some(Box::new(move |t: &Task| {
        t.mm().space.borrow_mut().forget(v.start..v.end);
        t.force_signal(SigInfo::new(c::SIGSEGV, c::SI_KERNEL));
    })));
    true
}

/// How many bytes of `bufs` the calling thread can write before the first it cannot; more than there are if it can all.
pub(crate) fn writable(t: &Task, bufs: &[(u64, usize)]) -> usize {
    let mm = t.mm();
    let space = mm.space.borrow();
    let mut good = 0usize;
    for (addr, len) in bufs {
        let (mut at, end) = (*addr, addr.saturating_add(*len as u64));
        while at < end {
            let Some(v) = space.at(at).filter(|v| v.prot & c::PROT_WRITE != 0) else { return good };
            good = good.saturating_add((v.end.min(end) - at) as usize);
            at = v.end;
        }
    }
    usize::MAX
}

/// Waits for other threads' changes of what a call names to land. A bad range is the call's own affair.
pub(crate) async fn settled(t: &Rc<Task>, addr: u64, len: u64) {
    if let Some(end) = addr.checked_add(len) {
        t.mm().landed(t, addr..end.max(addr + 1)).await;
    }
}

/// memfd_create(2). Huge pages are not to be had.
pub fn memfd_create(t: &Rc<Task>, name: StrArg, flags: Flags) -> Result<i32> {
    const NAME_MAX: usize = 249;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 0x10;
    const SEAL_EXEC: i32 = 0x20;
    if flags.0 & c::MFD_HUGETLB != 0 {
        return Err(Errno::ENOSYS);
    }
    let flags = flags.only((c::MFD_CLOEXEC | c::MFD_ALLOW_SEALING | NOEXEC_SEAL | EXEC) as i32)? as u32;
    if flags & (NOEXEC_SEAL | EXEC) == NOEXEC_SEAL | EXEC {
        return Err(Errno::EINVAL);
    }
    let name =
        name.get(&*t.mem(), NAME_MAX + 1).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e })?;
    let shown = [b"memfd:", &name[..]].concat();
    let (mode, seals) = match flags {
        f if f & NOEXEC_SEAL != 0 => (0o666, SEAL_EXEC),
        f if f & c::MFD_ALLOW_SEALING != 0 => (0o777, 0),
        _ => (0o777, c::F_SEAL_SEAL),
    };
    let cred = t.cred();
    let f = fs::tmp::memfd(&shown, New { mode, uid: cred.fsuid, gid: cred.fsgid }, seals)?;
    install(t, f, if flags & c::MFD_CLOEXEC != 0 { c::O_CLOEXEC } else { 0 })
}

pub async fn munmap(t: &Rc<Task>, addr: Addr, len: u64) -> Result {
    settled(t, addr.0, len).await;
    let mm = t.mm();
    let r = mm.space.borrow_mut().unmap(addr.0, len)?;
    mm.forget_sites(r.clone());
    mm.takes_off(t, r.clone());
    t.op(Op::Unmap { addr: r.start, len: r.end - r.start });
    Ok(())
}

pub async fn mprotect(t: &Rc<Task>, addr: Addr, len: u64, prot: i32) -> Result {
    settled(t, addr.0, len).await;
    let r = t.mm().space.borrow_mut().protect(addr.0, len, prot & !(c::PROT_GROWSDOWN | c::PROT_GROWSUP))?;
    if !r.is_empty() {
        t.mm().takes_off(t, r.clone());
        t.op(Op::Protect { addr: r.start, len: r.end - r.start, prot });
    }
    Ok(())
}

pub async fn mremap(t: &Rc<Task>, addr: Addr, old: u64, new: u64, flags: Flags, new_addr: Addr) -> Result<u64> {
    // Where it goes is found only by doing it: all of the address space must be settled.
    settled(t, 0, u64::MAX).await;
    let flags = flags.bits();
    let mm = t.mm();
    let did = mm.space.borrow_mut().remap(addr.0, old, new, flags, new_addr.0, limits(t))?;
    match did {
        Remap::InPlace => {
            mm.takes_off(t, addr.0..addr.0.saturating_add(old.max(new)));
            t.op(Op::Remap { addr: addr.0, old_len: old, new_len: new, flags: 0, new_addr: 0 });
            Ok(addr.0)
        }
        Remap::To(to) => {
            mm.takes_off(t, addr.0..addr.0.saturating_add(old));
            mm.takes_off(t, to..to.saturating_add(new));
            let flags = (flags & c::MREMAP_DONTUNMAP) | c::MREMAP_MAYMOVE | c::MREMAP_FIXED;
            t.op(Op::Remap { addr: addr.0, old_len: old, new_len: new, flags, new_addr: to });
            Ok(to)
        }
    }
}

pub async fn brk(t: &Rc<Task>, addr: Addr) -> Result<u64> {
    let (start, now) = {
        let mm = t.mm();
        let space = mm.space.borrow();
        (space.brk_start, space.brk)
    };
    settled(t, start, now.max(addr.0).saturating_sub(start).saturating_add(PAGE_SIZE)).await;
    let (end, change) = t.mm().space.borrow_mut().set_brk(addr.0, limits(t));
    if let Some(BrkChange::Grow(r) | BrkChange::Shrink(r)) = &change {
        t.mm().takes_off(t, r.clone());
    }
    match change {
        Some(BrkChange::Grow(r)) => t.op(Op::Map {
            addr: r.start,
            len: r.end - r.start,
            prot: c::PROT_READ | c::PROT_WRITE,
            flags: c::MAP_PRIVATE | c::MAP_ANONYMOUS,
            file: None,
        }),
        Some(BrkChange::Shrink(r)) => t.op(Op::Unmap { addr: r.start, len: r.end - r.start }),
        None => {}
    }
    Ok(end)
}
