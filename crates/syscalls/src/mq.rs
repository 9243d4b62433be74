//! POSIX message queues: mq_open(2), mq_send(2), mq_receive(2), mq_notify(2), mq_getattr(3), mq_unlink(2).
use crate::args::{Fd, InBuf, OutBuf, StrArg};
use crate::fd::install;
use crate::path::as_caller;
use abi::ipc::{MQ_PRIO_MAX, MqAttr};
use abi::signal::{SigEvent, SigInfo};
use abi::sys::Timespec;
use abi::{Errno, Result, c};
use guest::{UserIn, UserOut};
use ipc::mqueue::{Asker, Notify, Queue, QueueFile};
use kernel::wait::{self, Stop};
use net::netlink::NetlinkSocket;
use std::rc::Rc;
use task::Task;
use vfs::{MAY_WRITE, OpenFile, Opened};

const NAME_MAX: usize = 255;

/// A queue's name as the call gives it: without the slash before it, which the C library takes off.
fn name(t: &Task, name: StrArg) -> Result<Vec<u8>> {
    let name = name.get(&*t.mem(), 4096)?;
    match &name[..] {
        b"" => Err(Errno::ENOENT),
        n if n.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        b"." | b".." => Err(Errno::EACCES),
        n if n.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(name),
    }
}

pub fn mq_open(t: &Rc<Task>, path: StrArg, flags: i32, mode: u32, attr: UserIn<MqAttr>) -> Result<i32> {
    let attr = attr.get_opt(&*t.mem())?;
    let name = name(t, path)?;
    let queues = &t.kernel.queues;
    let mut place = queues.place();
    let there = queues.get(&name);
    if there.is_some() && flags & (c::O_CREAT | c::O_EXCL) == c::O_CREAT | c::O_EXCL {
        return Err(Errno::EEXIST);
    }
    t.files()?.room(crate::fd::limit(t))?;
    let created = there.is_none();
    if created {
        if flags & c::O_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let cred = t.cred();
        vfs::permission(&place.inode().attr()?, &cred, MAY_WRITE)?;
        let mode = mode & 0o7777 & !t.fs().umask.get();
        let by = Asker { cred: &cred, bytes_max: t.process.rlimit(c::RLIMIT_MSGQUEUE) };
        queues.create(&name, vfs::New { mode, uid: cred.fsuid, gid: cred.fsgid }, attr, &by)?;
    } else if flags & c::O_ACCMODE == c::O_ACCMODE {
        return Err(Errno::EINVAL);
    }
    place.dentry = place.dentry.child(&name)?;
    let flags = flags & (c::O_ACCMODE | c::O_NONBLOCK);
    match as_caller(t, |w| w.open_path(place, flags, created))? {
        Opened::File(f) => install(t, f, c::O_CLOEXEC),
        _ => Err(Errno::EBADF),
    }
}

pub fn mq_unlink(t: &Rc<Task>, path: StrArg) -> Result {
    let name = name(t, path)?;
    let place = t.kernel.queues.place();
    as_caller(t, |w| w.unlink(&place, &name))
}

/// An open queue. EBADF for other files, and for one not opened for this.
fn queue(t: &Task, fd: Fd, access: fn(&OpenFile) -> bool) -> Result<(Rc<OpenFile>, Rc<Queue>)> {
    let f = t.files()?.get(fd.0)?;
    let q = f.downcast::<QueueFile>().ok_or(Errno::EBADF)?.queue().clone();
    if access(&f) { Ok((f, q)) } else { Err(Errno::EBADF) }
}

/// A time of the real-time clock as a deadline. Looked at before anything else, as on Linux.
fn deadline(t: &Task, timeout: UserIn<Timespec>) -> Result<Option<u64>> {
    let Some(ts) = timeout.get_opt(&*t.mem())? else { return Ok(None) };
    let left = ts.ns()?.saturating_sub(host::time::realtime_ns());
    Ok(Some(host::time::monotonic_ns().saturating_add(left)))
}

fn stopped(s: Stop) -> Errno {
    match s {
        Stop::TimedOut => Errno::ETIMEDOUT,
        Stop::Interrupted => Errno::ERESTARTSYS,
    }
}

pub async fn mq_timedsend(
    t: &Rc<Task>,
    fd: Fd,
    text: InBuf<2>,
    len: usize,
    priority: u32,
    timeout: UserIn<Timespec>,
) -> Result {
    let deadline = deadline(t, timeout)?;
    if priority >= MQ_PRIO_MAX {
        return Err(Errno::EINVAL);
    }
    let (f, q) = queue(t, fd, OpenFile::writable)?;
    if len > q.message_size() {
        return Err(Errno::EMSGSIZE);
    }
    let mut bytes = vec![0; len];
    t.mem().read(text.0, &mut bytes)?;
    let send = || q.send(&bytes, priority);
    let told = if f.nonblocking() {
        send().ok_or(Errno::EAGAIN)?
    } else {
        wait::until(&[q.changed()], deadline, send).await.map_err(stopped)?
    };
    if let Some((pid, notify)) = told {
        tell(t, pid, notify);
    }
    Ok(())
}

/// A message came into an empty queue: the registered process is told, once, whatever the sender may signal.
fn tell(t: &Task, pid: i32, notify: Notify) {
    match notify {
        Notify::Nothing | Notify::Signal { sig: 0, .. } => {}
        Notify::Signal { sig, value } => {
            let mut info = SigInfo::from_user(sig, c::SI_MESGQ, t.process.pid, t.cred().ruid);
            (info.fields[2], info.fields[3]) = (value as u32, (value >> 32) as u32);
            if let Some(p) = t.kernel.process(pid) {
                p.signal(info);
            }
        }
        Notify::Thread(tell) => tell(ipc::mqueue::Told::Came),
    }
}

pub async fn mq_timedreceive(
    t: &Rc<Task>,
    fd: Fd,
    text: OutBuf<2>,
    len: usize,
    priority: UserOut<u32>,
    timeout: UserIn<Timespec>,
) -> Result<usize> {
    let deadline = deadline(t, timeout)?;
    let (f, q) = queue(t, fd, OpenFile::readable)?;
    if len < q.message_size() {
        return Err(Errno::EMSGSIZE);
    }
    let (bytes, level) = match q.receive() {
        Some(m) => m,
        None if f.nonblocking() => return Err(Errno::EAGAIN),
        None => {
            if deadline.is_none_or(|d| d > host::time::monotonic_ns()) {
                wait::settle().await;
            }
            let _waiting = q.receiving();
            wait::until(&[q.changed()], deadline, || q.receive()).await.map_err(stopped)?
        }
    };
    let mem = t.mem();
    priority.put_opt(&*mem, &level)?;
    mem.write(text.0, &bytes)?;
    Ok(bytes.len())
}

/// What a helper thread of the C library's waits for: its cookie, the last byte of which says what happened.
const COOKIE: usize = 32;

fn thread(t: &Task, e: &SigEvent) -> Result<Notify> {
    let mut cookie = [0; COOKIE];
    t.mem().read(e.value, &mut cookie)?;
    let f = t.files()?.get(e.signo)?;
    let socket = f.downcast::<net::SocketFile>().ok_or(Errno::ENOTSOCK)?.socket().clone();
    socket.as_any().downcast_ref::<NetlinkSocket>().ok_or(Errno::EINVAL)?;
    Ok(Notify::Thread(Rc::new(move |told| {
        if let Some(s) = socket.as_any().downcast_ref::<NetlinkSocket>() {
            let mut text = cookie;
            text[COOKIE - 1] = told as u8;
            s.deliver(text.to_vec());
        }
    })))
}

pub fn mq_notify(t: &Rc<Task>, fd: Fd, event: UserIn<SigEvent>) -> Result {
    let notify = match event.get_opt(&*t.mem())? {
        None => None,
        Some(e) => Some(match e.notify {
            c::SIGEV_NONE => Notify::Nothing,
            c::SIGEV_SIGNAL if (0..=64).contains(&e.signo) => Notify::Signal { sig: e.signo, value: e.value },
            c::SIGEV_THREAD => thread(t, &e)?,
            _ => return Err(Errno::EINVAL),
        }),
    };
    let (_, q) = queue(t, fd, |_| true)?;
    match notify {
        Some(n) => q.register(t.process.pid, n),
        None => {
            q.unregister(t.process.pid);
            Ok(())
        }
    }
}

pub fn mq_getsetattr(t: &Rc<Task>, fd: Fd, new: UserIn<MqAttr>, old: UserOut<MqAttr>) -> Result {
    const NONBLOCK: i64 = c::O_NONBLOCK as i64;
    let mem = t.mem();
    let new = new.get_opt(&*mem)?;
    if new.is_some_and(|a| a.flags & !NONBLOCK != 0) {
        return Err(Errno::EINVAL);
    }
    let (f, q) = queue(t, fd, |_| true)?;
    let was = MqAttr { flags: i64::from(f.flags() & c::O_NONBLOCK), ..q.attributes() };
    if let Some(a) = new {
        f.set_flags(f.flags() & !c::O_NONBLOCK | a.flags as i32 & c::O_NONBLOCK);
    }
    old.put_opt(&*mem, &was)
}
