//! What is said about pages: madvise(2), mseal(2), mlock(2), msync(2), mincore(2), pkeys(7).
use crate::args::{Addr, Flags, OutBuf};
use crate::memory::{Mapped, mprotect, settled};
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::ops::Op;
use kernel::cred::{CAP_IPC_LOCK, CAP_SYS_ADMIN};
use kernel::mm::{AddressSpace, MappedFile, USER_END, Vma};
use std::ops::Range;
use std::rc::Rc;
use task::Task;
use vfs::OpenFile;

/// Advice of Linux 6.13: pages that are faults to touch, until they are asked back.
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;
/// Advice after which a page no longer holds what it did.
const DISCARDS: [i32; 6] =
    [c::MADV_DONTNEED, c::MADV_FREE, c::MADV_REMOVE, c::MADV_DONTFORK, c::MADV_WIPEONFORK, MADV_GUARD_INSTALL];

pub async fn madvise(t: &Rc<Task>, addr: Addr, len: u64, advice: i32) -> Result {
    settled(t, addr.0, len).await;
    let r = AddressSpace::pages(addr.0, len).map_err(|_| Errno::EINVAL)?;
    let mm = t.mm();
    if r.is_empty() {
        return Ok(());
    }
    let has = |f: fn(&Vma) -> bool| mm.space.borrow().overlapping(r.clone()).any(f);
    // Who may write the pages may as well discard them.
    let kept = |v: &Vma| v.sealed && v.file.is_none() && v.prot & c::PROT_WRITE == 0;
    match advice {
        _ if DISCARDS.contains(&advice) && has(kept) => return Err(Errno::EPERM),
        c::MADV_DONTFORK => mm.space.borrow_mut().advise_fork(r.clone(), Some(true), None)?,
        c::MADV_DOFORK => mm.space.borrow_mut().advise_fork(r.clone(), Some(false), None)?,
        c::MADV_WIPEONFORK if has(|v| v.file.is_some() || v.shared) => return Err(Errno::EINVAL),
        c::MADV_FREE if has(|v| v.file.is_some() || v.shared) => return Err(Errno::EINVAL),
        c::MADV_DONTNEED | c::MADV_FREE | MADV_GUARD_INSTALL if has(|v| v.locked) => return Err(Errno::EINVAL),
        c::MADV_KEEPONFORK | c::MADV_DODUMP if has(|v| v.droppable) => return Err(Errno::EINVAL),
        c::MADV_REMOVE => return remove(t, r),
        c::MADV_WIPEONFORK => mm.space.borrow_mut().advise_fork(r.clone(), None, Some(true))?,
        c::MADV_KEEPONFORK => mm.space.borrow_mut().advise_fork(r.clone(), None, Some(false))?,
        c::MADV_NORMAL
        | c::MADV_RANDOM
        | c::MADV_SEQUENTIAL
        | c::MADV_WILLNEED
        | c::MADV_DONTNEED
        | c::MADV_FREE
        | c::MADV_HUGEPAGE
        | c::MADV_NOHUGEPAGE
        | c::MADV_DONTDUMP
        | c::MADV_DODUMP
        | c::MADV_POPULATE_READ
        | c::MADV_POPULATE_WRITE
        | MADV_GUARD_INSTALL
        | MADV_GUARD_REMOVE => {}
        // Merging pages between processes would be a side channel; it is advice, and not taken.
        c::MADV_MERGEABLE | c::MADV_UNMERGEABLE | c::MADV_COLD | c::MADV_PAGEOUT => {
            return mm.space.borrow().check_mapped(r);
        }
        // Pages cannot be taken away here, which only who might do it hears.
        c::MADV_HWPOISON | c::MADV_SOFT_OFFLINE if !t.cred().has(CAP_SYS_ADMIN) => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    mm.space.borrow().check_mapped(r.clone())?;
    mm.takes_off(t, r.clone());
    t.op(Op::Advise { addr: r.start, len: r.end - r.start, advice });
    Ok(())
}

/// mseal(2). EINVAL: a range that is none; ENOMEM: it has a hole.
pub fn mseal(t: &Rc<Task>, addr: Addr, len: u64, flags: u64) -> Result {
    let r = AddressSpace::pages(addr.0, len).map_err(|_| Errno::EINVAL)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    t.mm().space.borrow_mut().seal(r)
}

/// MADV_REMOVE: the pages of a file go, with what they hold.
fn remove(t: &Task, r: Range<u64>) -> Result {
    const MODE: i32 = c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_KEEP_SIZE;
    let mm = t.mm();
    let mut holes: Vec<(Rc<OpenFile>, u64, u64)> = Vec::new();
    for v in mm.space.borrow().overlapping(r.clone()) {
        let (file, offset) = v.file.as_ref().filter(|_| !v.locked).ok_or(Errno::EINVAL)?;
        let file = file.as_any().downcast_ref::<Mapped>().ok_or(Errno::EINVAL)?;
        if !v.shared || !file.may_write_shared() {
            return Err(Errno::EACCES);
        }
        let f = file.file().ok_or(Errno::EINVAL)?;
        let (start, end) = (r.start.max(v.start), r.end.min(v.end));
        holes.push((f.clone(), offset + (start - v.start), end - start));
    }
    mm.space.borrow().check_mapped(r)?;
    holes.into_iter().try_for_each(|(f, at, len)| f.ops().allocate(MODE, at, len))
}

/// Memory is never swapped out by us: a lock is counted against RLIMIT_MEMLOCK, and changes nothing else.
fn lock(t: &Task, addr: Addr, len: u64, on: bool) -> Result {
    let start = addr.0 & !(PAGE_SIZE - 1);
    let len = len.checked_add(addr.0 - start).ok_or(Errno::EINVAL)?;
    let limit = memlock(t, on)?;
    let r = AddressSpace::pages(start, len).map_err(|_| if on { Errno::ENOMEM } else { Errno::EINVAL })?;
    let mm = t.mm();
    let mut space = mm.space.borrow_mut();
    if on && space.locked(0..USER_END) + (r.end - r.start) - space.locked(r.clone()) > limit {
        return Err(Errno::ENOMEM);
    }
    let whole = space.check_mapped(r.clone());
    space.lock(r, on)?;
    whole
}

/// How many bytes may be locked. EPERM if none, and some are to be.
pub(crate) fn memlock(t: &Task, on: bool) -> Result<u64> {
    let limit = t.process.rlimit(c::RLIMIT_MEMLOCK);
    match t.cred().has(CAP_IPC_LOCK) {
        true => Ok(u64::MAX),
        false if on && limit == 0 => Err(Errno::EPERM),
        false => Ok(limit),
    }
}

pub fn mlock(t: &Rc<Task>, addr: Addr, len: u64) -> Result {
    lock(t, addr, len, true)
}
pub fn munlock(t: &Rc<Task>, addr: Addr, len: u64) -> Result {
    lock(t, addr, len, false)
}
pub fn mlock2(t: &Rc<Task>, addr: Addr, len: u64, flags: Flags) -> Result {
    flags.only(1)?;
    lock(t, addr, len, true)
}
/// What is mapped now is locked (MCL_CURRENT), and what mmap(2) maps from now on (MCL_FUTURE).
pub fn mlockall(t: &Rc<Task>, flags: Flags) -> Result {
    let flags = flags.only(c::MCL_CURRENT | c::MCL_FUTURE | c::MCL_ONFAULT)?;
    if flags & !c::MCL_ONFAULT == 0 {
        return Err(Errno::EINVAL);
    }
    let limit = memlock(t, true)?;
    let mm = t.mm();
    let mut space = mm.space.borrow_mut();
    if flags & c::MCL_CURRENT != 0 {
        if space.lockable() > limit {
            return Err(Errno::ENOMEM);
        }
        space.lock(0..USER_END, true)?;
    }
    space.lock_future = flags & c::MCL_FUTURE != 0;
    Ok(())
}
pub fn munlockall(t: &Rc<Task>) -> Result {
    let mm = t.mm();
    let mut space = mm.space.borrow_mut();
    space.lock_future = false;
    space.lock(0..USER_END, false)
}

/// pkey_mprotect(2) on a machine without keys: only -1, no key, will do.
pub async fn pkey_mprotect(t: &Rc<Task>, addr: Addr, len: u64, prot: i32, key: i32) -> Result {
    if key != -1 {
        return Err(Errno::EINVAL);
    }
    mprotect(t, addr, len, prot).await
}
pub fn pkey_alloc(_t: &Rc<Task>, flags: u64, rights: u64) -> Result<i32> {
    Err(if flags != 0 || rights & !3 != 0 { Errno::EINVAL } else { Errno::ENOSPC })
}
pub fn pkey_free(_t: &Rc<Task>, _key: i32) -> Result {
    Err(Errno::EINVAL)
}

pub async fn msync(t: &Rc<Task>, addr: Addr, len: u64, flags: Flags) -> Result {
    let flags = flags.only(c::MS_ASYNC | c::MS_SYNC | c::MS_INVALIDATE)?;
    if flags & (c::MS_ASYNC | c::MS_SYNC) == c::MS_ASYNC | c::MS_SYNC {
        return Err(Errno::EINVAL);
    }
    let r = AddressSpace::pages(addr.0, len)?;
    let mm = t.mm();
    if flags & c::MS_INVALIDATE != 0 && mm.space.borrow().locked(r.clone()) > 0 {
        return Err(Errno::EBUSY);
    }
    mm.space.borrow().check_mapped(r.clone())?;
    if flags & c::MS_SYNC == 0 {
        return Ok(());
    }
    let shared = |v: &Vma| {
        let (file, _) = v.file.as_ref().filter(|_| v.shared)?;
        file.as_any().downcast_ref::<Mapped>().and_then(Mapped::file).cloned()
    };
    let files: Vec<Rc<OpenFile>> = t.mm().space.borrow().overlapping(r).filter_map(shared).collect();
    for f in files {
        crate::fd::sync_file(&f, true).await?;
    }
    Ok(())
}

/// Every mapped page is said to be resident.
pub fn mincore(t: &Rc<Task>, addr: Addr, len: u64, vec: OutBuf<1>) -> Result {
    let r = AddressSpace::pages(addr.0, len)?;
    t.mm().space.borrow().check_mapped(r.clone())?;
    let pages = (r.end - r.start) / PAGE_SIZE;
    if pages > 1 << 24 {
        return Err(Errno::ENOMEM);
    }
    t.mem().write(vec.0, &vec![1u8; pages as usize])
}
