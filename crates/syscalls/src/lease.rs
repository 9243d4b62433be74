//! What fcntl(2) tells of files and directories by a signal: F_SETLEASE, F_GETLEASE, F_NOTIFY.
use abi::{Errno, Result, c};
use kernel::cred::CAP_LEASE;
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::Task;
use task::dnotify::DN_MULTISHOT;
use task::sigio::Owner;
use vfs::lease::{self, Kind};
use vfs::locks::FileId;
use vfs::{Attr, OpenFile, Path};

fn attr_of(f: &OpenFile) -> Result<Attr> {
    f.path().ok_or(Errno::EINVAL)?.inode().attr()
}

/// Who has no owner yet tells the caller from now on.
fn own(t: &Task, f: &Rc<OpenFile>) {
    if t.kernel.sigio.owner(f) == Owner::Nobody {
        t.kernel.sigio.set_owner(f, Owner::Process(t.process.pid), t.cred());
    }
}

/// F_SETLEASE. EACCES: the file is another's; EAGAIN: it is open in a way that the lease is to tell of, or, for F_UNLCK,
/// there is none.
pub fn set(t: &Rc<Task>, f: &Rc<OpenFile>, fd: i32, arg: u64) -> Result {
    let kind = match arg as i32 {
        c::F_RDLCK => Some(Kind::Read),
        c::F_WRLCK => Some(Kind::Write),
        c::F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    let a = attr_of(f)?;
    let cred = t.cred();
    if cred.fsuid != a.uid && !cred.has_over(CAP_LEASE, a.uid, a.gid) {
        return Err(Errno::EACCES);
    }
    if !a.is_file() {
        return Err(Errno::EINVAL);
    }
    let id = (a.dev, a.ino);
    let Some(kind) = kind else { return lease::give_up(id, Rc::as_ptr(f)) };
    if lease::ENABLED.get() == 0 {
        return Err(Errno::EINVAL);
    }
    let writers = vfs::busy::writers(id);
    let free = match kind {
        Kind::Read => writers == 0,
        Kind::Write => writers == usize::from(f.writable()) && !read_elsewhere(t, id, f),
    };
    if !free {
        return Err(Errno::EAGAIN);
    }
    if lease::take(id, f, fd, kind)? {
        own(t, f);
    }
    Ok(())
}

/// Whether another description has the file open for reading only.
fn read_elsewhere(t: &Task, id: FileId, f: &Rc<OpenFile>) -> bool {
    let other = |o: &Rc<OpenFile>| {
        !Rc::ptr_eq(o, f)
            && o.readable()
            && !o.writable()
            && o.path().and_then(|p| p.inode().attr().ok()).is_some_and(|a| (a.dev, a.ino) == id)
    };
    let threads = t.kernel.processes().into_iter().flat_map(|p| p.threads());
    let mut tables: Vec<_> = threads.filter_map(|o| o.files().ok()).collect();
    tables.dedup_by(|a, b| Rc::ptr_eq(a, b));
    tables.iter().any(|files| files.numbers(0, u32::MAX).iter().any(|n| files.get(*n).is_ok_and(|o| other(&o))))
}

/// F_GETLEASE.
pub fn get(f: &Rc<OpenFile>) -> Result<i64> {
    let a = attr_of(f)?;
    Ok(i64::from(match lease::held((a.dev, a.ino), f) {
        Some(Kind::Read) => c::F_RDLCK,
        Some(Kind::Write) => c::F_WRLCK,
        None => c::F_UNLCK,
    }))
}

/// Holders of leases on a file that is to be opened with `flags` are told, and waited for until they give way or their time
/// is over. EAGAIN: O_NONBLOCK.
pub async fn wait_for_holders(t: &Rc<Task>, p: &Path, flags: i32) -> Result {
    let a = p.inode().attr()?;
    let id = (a.dev, a.ino);
    let writes = flags & (c::O_ACCMODE | c::O_TRUNC) != c::O_RDONLY;
    if !lease::conflicts(id, writes) {
        return Ok(());
    }
    wait::settle().await;
    // Who waits to write counts as a writer: no lease to read is given meanwhile.
    let _writing = if writes { Some(vfs::busy::Writing::begin(id)?) } else { None };
    let changed = lease::changed();
    while lease::conflicts(id, writes) {
        let (told, end) = lease::break_for(id, writes, host::time::monotonic_ns());
        for (f, fd) in told {
            t.kernel.sigio.message(Rc::downgrade(&f), fd);
        }
        if flags & c::O_NONBLOCK != 0 {
            return Err(Errno::EAGAIN);
        }
        match wait::until(&[&changed], Some(end), || (!lease::conflicts(id, writes)).then_some(())).await {
            Ok(()) => {}
            Err(Stop::TimedOut) => lease::expire(id, host::time::monotonic_ns()),
            Err(Stop::Interrupted) => return Err(Errno::ERESTARTSYS),
        }
    }
    Ok(())
}

/// F_NOTIFY. ENOTDIR: only directories tell; EINVAL: none do.
pub fn notify(t: &Rc<Task>, f: &Rc<OpenFile>, fd: i32, wanted: u32) -> Result {
    const ALL: u32 = 0x3f | DN_MULTISHOT;
    let pid = t.process.pid;
    if task::dnotify::ENABLED.get() == 0 {
        return Err(Errno::EINVAL);
    }
    if wanted & !DN_MULTISHOT == 0 {
        t.kernel.dnotify.closed(f, pid);
        return Ok(());
    }
    if !attr_of(f).is_ok_and(|a| a.is_dir()) {
        return Err(Errno::ENOTDIR);
    }
    if wanted & !ALL != 0 {
        return Err(Errno::EINVAL);
    }
    t.kernel.dnotify.watch(f, fd, pid, wanted)?;
    own(t, f);
    Ok(())
}
