//! Shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2). A segment is a nameless file that is mapped.
use crate::args::Addr;
use crate::memory::{Mapped, Mapping, backing, map, settled};
use abi::ipc::*;
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::ops::Op;
use guest::{UserIn, UserOut};
use ipc::sysv::shm::Segment;
use ipc::sysv::{Object, READ, WRITE, now};
use kernel::cred::CAP_IPC_LOCK;
use std::collections::HashSet;
use std::rc::Rc;
use task::{Kernel, Task};
use vfs::New;

const EXEC: u32 = 0o111;

pub fn shmget(t: &Rc<Task>, key: i32, size: u64, flags: i32) -> Result<i32> {
    let cred = t.cred();
    if flags & SHM_HUGETLB != 0 {
        return Err(Errno::EPERM);
    }
    t.ipc().sysv.segment(key, size, flags, &cred, t.process.pid, |size| {
        let new = New { mode: flags as u32 & 0o777, uid: cred.euid, gid: cred.egid };
        let f = fs::tmp::memfd(format!("SYSV{key:08x}").as_bytes(), new, c::F_SEAL_SEAL)?;
        let pages = size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        f.ops().truncate(pages).map_err(|_| Errno::ENOMEM)?;
        Ok(f)
    })
}

pub async fn shmat(t: &Rc<Task>, id: i32, addr: Addr, flags: i32) -> Result<u64> {
    let mut at = addr.0;
    if !at.is_multiple_of(PAGE_SIZE) {
        if flags & SHM_RND == 0 {
            return Err(Errno::EINVAL);
        }
        at &= !(PAGE_SIZE - 1);
        if at == 0 && flags & SHM_REMAP != 0 {
            return Err(Errno::EINVAL);
        }
    }
    if addr.0 == 0 && flags & SHM_REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let s = t.ipc().sysv.segments.get(id)?;
    let write = flags & SHM_RDONLY == 0;
    let exec = flags & SHM_EXEC != 0;
    let want = READ | if write { WRITE } else { 0 } | if exec { EXEC } else { 0 };
    s.perm().check(&t.cred(), want)?;
    let place = match (at, flags & SHM_REMAP != 0) {
        (0, _) => 0,
        (_, true) => c::MAP_FIXED,
        (_, false) => c::MAP_FIXED_NOREPLACE,
    };
    let prot = c::PROT_READ | if write { c::PROT_WRITE } else { 0 } | if exec { c::PROT_EXEC } else { 0 };
    let host_fd = backing(&s.file, write)?;
    let mapped = Mapped::segment(t, id, &s, write);
    let what = Mapping { addr: at, len: s.size, prot, flags: place, shared: true, file: Some((mapped, 0)) };
    let got = map(t, what, host_fd).await.map_err(|e| if e == Errno::EEXIST { Errno::EINVAL } else { e })?;
    s.attached(t.process.pid);
    Ok(got)
}

pub async fn shmdt(t: &Rc<Task>, addr: Addr) -> Result {
    if !addr.0.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    settled(t, addr.0, PAGE_SIZE).await;
    let mm = t.mm();
    // What is left of one attachment: the mappings of the segment that lie where it put them.
    let mut found: Option<Rc<Segment>> = None;
    let mut pieces = Vec::new();
    for v in mm.space.borrow().overlapping(addr.0..kernel::mm::USER_END) {
        let Some((file, offset)) = &v.file else { continue };
        let Some(s) = file.as_any().downcast_ref::<Mapped>().and_then(Mapped::shared_segment) else { continue };
        if v.start - addr.0 != *offset {
            continue;
        }
        if found.as_ref().is_none_or(|f| Rc::ptr_eq(f, s)) {
            found = Some(s.clone());
            pieces.push(v.start..v.end);
        }
    }
    let s = found.ok_or(Errno::EINVAL)?;
    for r in pieces {
        // What is sealed stays, and nobody is told.
        if mm.space.borrow_mut().unmap(r.start, r.end - r.start).is_err() {
            return Ok(());
        }
        mm.forget_sites(r.clone());
        mm.takes_off(t, r.clone());
        t.op(Op::Unmap { addr: r.start, len: r.end - r.start });
    }
    s.detached(t.process.pid);
    Ok(())
}

/// How many mappings of the segment there are.
pub fn attachments(k: &Kernel, s: &Rc<Segment>) -> u64 {
    let mut seen = HashSet::new();
    let mut n = 0;
    for t in k.processes().iter().filter_map(|p| p.leader()) {
        let mm = t.mm();
        if seen.insert(mm.id) {
            let space = mm.space.borrow();
            let of = |f: &dyn kernel::mm::MappedFile| {
                f.as_any().downcast_ref::<Mapped>().and_then(Mapped::shared_segment).is_some_and(|o| Rc::ptr_eq(o, s))
            };
            n += space.iter().filter(|v| v.file.as_ref().is_some_and(|(f, _)| of(&**f))).count();
        }
    }
    n as u64
}

pub fn shmctl(t: &Rc<Task>, id: i32, cmd: i32, arg: u64) -> Result<i32> {
    if id < 0 || cmd < 0 {
        return Err(Errno::EINVAL);
    }
    let (mem, cred) = (t.mem(), t.cred());
    let table = &t.ipc().sysv.segments;
    match cmd {
        IPC_INFO => {
            let (set, shmmni) = (&t.ipc().sysv.limits, table.max.get() as u64);
            let (shmmax, shmall) = (set.shmmax.get(), set.shmall.get());
            let limits = ShmInfo64 { shmmax, shmmin: 1, shmmni, shmseg: shmmni, shmall, ..Default::default() };
            UserOut::new(arg).put(&*mem, &limits)?;
            Ok(table.highest())
        }
        SHM_INFO => {
            let all = table.all();
            let total = table.weight();
            let resident = all.iter().map(|(_, s)| resident(s) / PAGE_SIZE).sum();
            let info = ShmInfo { used_ids: all.len() as i32, total, resident, ..Default::default() };
            UserOut::new(arg).put(&*mem, &info)?;
            Ok(table.highest())
        }
        IPC_STAT => {
            let s = table.get(id)?;
            s.perm().check(&cred, READ)?;
            UserOut::new(arg).put(&*mem, &stat(t, &s)).map(|()| 0)
        }
        SHM_STAT | SHM_STAT_ANY => {
            let (id, s) = table.at(id as usize).ok_or(Errno::EINVAL)?;
            s.perm().check(&cred, if cmd == SHM_STAT { READ } else { 0 })?;
            UserOut::new(arg).put(&*mem, &stat(t, &s)).map(|()| id)
        }
        IPC_RMID => {
            let s = table.get(id)?;
            s.perm().owner(&cred)?;
            t.ipc().sysv.remove_segment(&s);
            Ok(0)
        }
        IPC_SET => {
            let new: ShmidDs = UserIn::new(arg).get(&*mem)?;
            let s = table.get(id)?;
            s.perm().owner(&cred)?;
            s.perm().set(&new.perm)?;
            s.ctime.set(now());
            Ok(0)
        }
        SHM_LOCK | SHM_UNLOCK => {
            let s = table.get(id)?;
            if !cred.has(CAP_IPC_LOCK) {
                let p = s.perm().get();
                let own = cred.euid == p.uid || cred.euid == p.cuid;
                if !own || (cmd == SHM_LOCK && t.process.rlimit(c::RLIMIT_MEMLOCK) == 0) {
                    return Err(Errno::EPERM);
                }
            }
            s.perm().change(|p| p.mode = (p.mode & !SHM_LOCKED) | if cmd == SHM_LOCK { SHM_LOCKED } else { 0 });
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Bytes of it that are there.
pub fn resident(s: &Segment) -> u64 {
    s.file.path().and_then(|p| p.inode().attr().ok()).map_or(0, |a| a.blocks * 512)
}

fn stat(t: &Task, s: &Rc<Segment>) -> ShmidDs {
    ShmidDs {
        perm: s.perm().get(),
        segsz: s.size,
        atime: s.atime.get(),
        dtime: s.dtime.get(),
        ctime: s.ctime.get(),
        cpid: s.cpid,
        lpid: s.lpid.get(),
        nattch: attachments(&t.kernel, s),
        ..ShmidDs::default()
    }
}
