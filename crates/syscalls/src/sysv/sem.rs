//! Semaphores: semget(2), semop(2), semtimedop(2), semctl(2).
use abi::ipc::*;
use abi::sys::Timespec;
use abi::{Errno, Result};
use guest::{UserIn, UserOut};
use ipc::sysv::sem::{SemSet, UndoList};
use ipc::sysv::{Object, READ, WRITE, now};
use kernel::wait::{self, Stop};
use std::rc::Rc;
use task::Task;

pub fn semget(t: &Rc<Task>, key: i32, n: i32, flags: i32) -> Result<i32> {
    t.ipc().sysv.semaphores(key, n, flags, &t.cred())
}

pub async fn semop(t: &Rc<Task>, id: i32, ops: UserIn<Sembuf>, n: usize) -> Result {
    operate(t, id, ops, n, None).await
}

pub async fn semtimedop(t: &Rc<Task>, id: i32, ops: UserIn<Sembuf>, n: usize, timeout: UserIn<Timespec>) -> Result {
    let limit = timeout.get_opt(&*t.mem())?;
    operate(t, id, ops, n, limit).await
}

async fn operate(t: &Rc<Task>, id: i32, ops: UserIn<Sembuf>, n: usize, limit: Option<Timespec>) -> Result {
    if n == 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if n > t.ipc().sysv.limits.semopm.get() {
        return Err(Errno::E2BIG);
    }
    let ops = ops.get_array(&*t.mem(), n)?;
    let deadline = match limit {
        Some(l) => Some(host::time::monotonic_ns().saturating_add(l.ns()?)),
        None => None,
    };
    let set = t.ipc().sysv.sems.get(id)?;
    if ops.iter().any(|o| usize::from(o.num) >= set.len()) {
        return Err(Errno::EFBIG);
    }
    set.perm().check(&t.cred(), if ops.iter().any(|o| o.op != 0) { WRITE } else { READ })?;
    let undo = ops.iter().any(|o| o.flags & SEM_UNDO != 0).then(|| {
        let list = t.sem_undo.borrow_mut().get_or_insert_with(UndoList::new).clone();
        list.covers(&set);
        list
    });
    let waiter = set.waiter();
    let look = || set.attempt(&ops, undo.as_deref(), t.process.pid, &waiter);
    match wait::until(&[&set.changed], deadline, look).await {
        Ok(r) => r,
        Err(Stop::TimedOut) => Err(Errno::EAGAIN),
        Err(Stop::Interrupted) => Err(Errno::EINTR),
    }
}

pub fn semctl(t: &Rc<Task>, id: i32, num: i32, cmd: i32, arg: u64) -> Result<i32> {
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let (mem, cred, pid) = (t.mem(), t.cred(), t.process.pid);
    let table = &t.ipc().sysv.sems;
    let find = |want: u32| -> Result<Rc<SemSet>> {
        let set = table.get(id)?;
        set.perm().check(&cred, want)?;
        Ok(set)
    };
    match cmd {
        IPC_INFO | SEM_INFO => {
            UserOut::new(arg).put(&*mem, &info(t, cmd == SEM_INFO))?;
            Ok(table.highest())
        }
        IPC_STAT => UserOut::new(arg).put(&*mem, &stat(&*find(READ)?)).map(|()| 0),
        SEM_STAT | SEM_STAT_ANY => {
            let (id, set) = table.at(id as usize).ok_or(Errno::EINVAL)?;
            set.perm().check(&cred, if cmd == SEM_STAT { READ } else { 0 })?;
            UserOut::new(arg).put(&*mem, &stat(&set)).map(|()| id)
        }
        GETVAL => find(READ)?.sem(num).map(|s| i32::from(s.val)),
        GETPID => find(READ)?.sem(num).map(|s| s.pid),
        GETNCNT | GETZCNT => {
            let set = find(READ)?;
            set.sem(num)?;
            Ok(set.waiters(num, cmd == GETZCNT) as i32)
        }
        GETALL => {
            let bytes: Vec<u8> = find(READ)?.values().iter().flat_map(|v| v.to_ne_bytes()).collect();
            mem.write(arg, &bytes).map(|()| 0)
        }
        SETVAL => {
            let val = u16::try_from(arg as i32).ok().filter(|v| i32::from(*v) <= SEMVMX).ok_or(Errno::ERANGE)?;
            let set = table.get(id)?;
            set.sem(num)?;
            set.perm().check(&cred, WRITE)?;
            set.set(num as usize, &[val], pid);
            Ok(0)
        }
        SETALL => {
            let set = find(WRITE)?;
            let mut bytes = vec![0u8; 2 * set.len()];
            mem.read(arg, &mut bytes)?;
            let values: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect();
            if values.iter().any(|v| i32::from(*v) > SEMVMX) {
                return Err(Errno::ERANGE);
            }
            set.set(0, &values, pid);
            Ok(0)
        }
        IPC_RMID => {
            let set = table.get(id)?;
            set.perm().owner(&cred)?;
            t.ipc().sysv.remove_semaphores(&set);
            Ok(0)
        }
        IPC_SET => {
            let new: SemidDs = UserIn::new(arg).get(&*mem)?;
            let set = table.get(id)?;
            set.perm().owner(&cred)?;
            set.perm().set(&new.perm)?;
            set.ctime.set(now());
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn stat(s: &SemSet) -> SemidDs {
    SemidDs {
        perm: s.perm().get(),
        otime: s.otime.get(),
        ctime: s.ctime.get(),
        nsems: s.len() as u64,
        ..SemidDs::default()
    }
}

/// The limits; with `used`, what is in use in two of the fields.
fn info(t: &Task, used: bool) -> SemInfo {
    let ns = t.ipc();
    let (all, limits) = (ns.sysv.sems.all(), &ns.sysv.limits);
    let sems = ns.sysv.sems.weight();
    let (semmns, semopm) = (limits.semmns.get() as i32, limits.semopm.get() as i32);
    SemInfo {
        semmap: semmns,
        semmni: ns.sysv.sems.max.get() as i32,
        semmns,
        semmnu: semmns,
        semmsl: limits.semmsl.get() as i32,
        semopm,
        semume: semopm,
        semusz: if used { all.len() as i32 } else { 20 },
        semvmx: SEMVMX,
        semaem: if used { sems as i32 } else { SEMVMX },
    }
}
