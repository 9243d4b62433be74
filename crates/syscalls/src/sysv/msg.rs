//! Message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).
use crate::args::Addr;
use abi::ipc::*;
use abi::{Errno, Result};
use guest::{UserIn, UserOut};
use ipc::sysv::msg::{Message, Queue};
use ipc::sysv::{Object, READ, WRITE, now};
use kernel::cred::CAP_SYS_RESOURCE;
use kernel::wait;
use std::rc::Rc;
use task::Task;

pub fn msgget(t: &Rc<Task>, key: i32, flags: i32) -> Result<i32> {
    t.ipc().sysv.queue(key, flags, &t.cred())
}

pub async fn msgsnd(t: &Rc<Task>, id: i32, msg: Addr, size: usize, flags: i32) -> Result {
    let mem = t.mem();
    let kind: i64 = UserIn::new(msg.0).get(&*mem)?;
    if size > t.ipc().sysv.limits.msgmax.get() || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = vec![0u8; size];
    mem.read(msg.0.checked_add(8).ok_or(Errno::EFAULT)?, &mut text)?;
    let q = t.ipc().sysv.queues.get(id)?;
    q.perm().check(&t.cred(), WRITE)?;
    let m = Message { kind, text };
    let send = || q.send(&m, t.process.pid);
    if flags & IPC_NOWAIT != 0 {
        return send().unwrap_or(Err(Errno::EAGAIN));
    }
    wait::until(&[&q.changed], None, send).await.map_err(|_| Errno::ERESTARTNOHAND)?
}

pub async fn msgrcv(t: &Rc<Task>, id: i32, msg: Addr, size: usize, kind: i64, flags: i32) -> Result<usize> {
    if id < 0 || size > i64::MAX as usize {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 && (flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let q = t.ipc().sysv.queues.get(id)?;
    q.perm().check(&t.cred(), READ)?;
    let receive = || q.receive(kind, size, flags, t.process.pid);
    let m = if flags & IPC_NOWAIT != 0 {
        receive().unwrap_or(Err(Errno::ENOMSG))?
    } else {
        wait::until(&[&q.changed], None, receive).await.map_err(|_| Errno::ERESTARTNOHAND)??
    };
    let bytes = [&m.kind.to_ne_bytes()[..], &m.text].concat();
    t.mem().write(msg.0, &bytes)?;
    Ok(m.text.len())
}

pub fn msgctl(t: &Rc<Task>, id: i32, cmd: i32, arg: u64) -> Result<i32> {
    if id < 0 || cmd < 0 {
        return Err(Errno::EINVAL);
    }
    let (mem, cred) = (t.mem(), t.cred());
    let table = &t.ipc().sysv.queues;
    match cmd {
        IPC_INFO | MSG_INFO => {
            UserOut::new(arg).put(&*mem, &info(t, cmd == MSG_INFO))?;
            Ok(table.highest())
        }
        IPC_STAT => {
            let q = table.get(id)?;
            q.perm().check(&cred, READ)?;
            UserOut::new(arg).put(&*mem, &stat(&q)).map(|()| 0)
        }
        MSG_STAT | MSG_STAT_ANY => {
            let (id, q) = table.at(id as usize).ok_or(Errno::EINVAL)?;
            q.perm().check(&cred, if cmd == MSG_STAT { READ } else { 0 })?;
            UserOut::new(arg).put(&*mem, &stat(&q)).map(|()| id)
        }
        IPC_RMID => {
            let q = table.get(id)?;
            q.perm().owner(&cred)?;
            t.ipc().sysv.remove_queue(&q);
            Ok(0)
        }
        IPC_SET => {
            let new: MsqidDs = UserIn::new(arg).get(&*mem)?;
            let q = table.get(id)?;
            q.perm().owner(&cred)?;
            if new.qbytes > t.ipc().sysv.limits.msgmnb.get() && !cred.has(CAP_SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            q.perm().set(&new.perm)?;
            q.bytes_max.set(new.qbytes);
            q.ctime.set(now());
            // Who waits for room may have it now.
            q.changed.wake();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn stat(q: &Queue) -> MsqidDs {
    MsqidDs {
        perm: q.perm().get(),
        stime: q.stime.get(),
        rtime: q.rtime.get(),
        ctime: q.ctime.get(),
        cbytes: q.bytes.get(),
        qnum: q.count() as u64,
        qbytes: q.bytes_max.get(),
        lspid: q.lspid.get(),
        lrpid: q.lrpid.get(),
        ..MsqidDs::default()
    }
}

/// The limits; with `used`, what is in use in three of the fields.
fn info(t: &Task, used: bool) -> MsgInfo {
    let ns = t.ipc();
    let (all, limits) = (ns.sysv.queues.all(), &ns.sysv.limits);
    let (msgmni, msgmnb) = (ns.sysv.queues.max.get() as i32, limits.msgmnb.get() as i32);
    let messages: usize = all.iter().map(|(_, q)| q.count()).sum();
    let bytes: u64 = all.iter().map(|(_, q)| q.bytes.get()).sum();
    let (pool, map, tql) = if used {
        (all.len() as i32, messages as i32, bytes as i32)
    } else {
        ((i64::from(msgmni) * i64::from(msgmnb) / 1024) as i32, msgmnb, msgmnb)
    };
    MsgInfo {
        msgpool: pool,
        msgmap: map,
        msgmax: limits.msgmax.get() as i32,
        msgmnb,
        msgmni,
        msgssz: 16,
        msgtql: tql,
        msgseg: 0xffff,
        pad: 0,
    }
}
