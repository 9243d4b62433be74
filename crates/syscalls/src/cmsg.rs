//! Control messages in guest memory: cmsg(3), SCM_RIGHTS and SCM_CREDENTIALS of unix(7).
use crate::fd::{install, limit};
use abi::socket::{CmsgHdr, Ucred};
use abi::{Errno, Result, c};
use kernel::cred::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use net::Control;
use std::rc::Rc;
use task::Task;
use vfs::OpenFile;
use zerocopy::{FromBytes, IntoBytes};

/// Descriptors in one message.
const SCM_MAX_FD: usize = 253;
/// net.core.optmem_max: bytes of control information a sender may give.
const SEND_MAX: u64 = 131_072;
const HEADER: usize = size_of::<CmsgHdr>();

/// Decodes and checks what the caller sends along.
///
/// Errors: ENOBUFS (too much), EINVAL (malformed, too many descriptors), EBADF, EPERM and ESRCH (credentials the
/// caller may not claim), ETOOMANYREFS (too many descriptors on their way).
pub(crate) fn read(t: &Task, domain: i32, addr: u64, len: u64) -> Result<Vec<Control>> {
    if len > SEND_MAX {
        return Err(Errno::ENOBUFS);
    }
    if len == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; len as usize];
    t.mem().read(addr, &mut bytes)?;
    let (mut rest, mut out, mut files) = (&bytes[..], Vec::new(), Vec::new());
    while rest.len() >= HEADER {
        let (h, body) = CmsgHdr::read_from_prefix(rest).map_err(|_| Errno::EINVAL)?;
        let size = usize::try_from(h.len).ok().filter(|n| (HEADER..=rest.len()).contains(n)).ok_or(Errno::EINVAL)?;
        let data = &body[..size - HEADER];
        match (h.level, h.kind) {
            (c::SOL_SOCKET, c::SCM_RIGHTS) if domain == c::AF_UNIX => rights(t, data, &mut files)?,
            (c::SOL_SOCKET, c::SCM_CREDENTIALS) if domain == c::AF_UNIX => out.push(credentials(t, data)?),
            (c::SOL_SOCKET, _) if domain == c::AF_UNIX => return Err(Errno::EINVAL),
            _ if domain == c::AF_UNIX => {}
            // They mean nothing elsewhere, and are passed over: unix(7).
            (c::SOL_SOCKET, c::SCM_RIGHTS | c::SCM_CREDENTIALS) => {}
            (level, kind) => out.push(Control::Raw { level, kind, data: data.to_vec() }),
        }
        rest = &rest[size.next_multiple_of(8).min(rest.len())..];
    }
    if !files.is_empty() {
        let free = t.cred().has(CAP_SYS_RESOURCE) || t.cred().has(CAP_SYS_ADMIN);
        net::unix::may_fly(if free { u64::MAX } else { limit(t) })?;
        out.push(Control::Rights(files));
    }
    Ok(out)
}

fn rights(t: &Task, data: &[u8], files: &mut Vec<Rc<OpenFile>>) -> Result {
    let n = data.len() / 4;
    if files.len() + n > SCM_MAX_FD {
        return Err(Errno::EINVAL);
    }
    let table = t.files()?;
    for fd in data.chunks_exact(4) {
        let fd = i32::read_from_bytes(fd).map_err(|_| Errno::EINVAL)?;
        files.push(table.get(fd)?);
    }
    Ok(())
}

fn credentials(t: &Task, data: &[u8]) -> Result<Control> {
    let mut u = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
    let cred = t.cred();
    u.uid = cred.user_ns.user(u.uid).ok_or(Errno::EINVAL)?;
    u.gid = cred.user_ns.group(u.gid).ok_or(Errno::EINVAL)?;
    let uid = [cred.ruid, cred.euid, cred.suid].contains(&u.uid) || cred.has_own(CAP_SETUID);
    let gid = [cred.rgid, cred.egid, cred.sgid].contains(&u.gid) || cred.has_own(CAP_SETGID);
    if !(uid && gid && (u.pid == t.process.pid || cred.has(CAP_SYS_ADMIN))) {
        return Err(Errno::EPERM);
    }
    if t.kernel.process(u.pid).is_none() { Err(Errno::ESRCH) } else { Ok(Control::Credentials(u)) }
}

/// What became of received control information.
pub(crate) struct Told {
    /// Bytes written.
    pub len: u64,
    /// MSG_CTRUNC: something did not fit.
    pub cut: bool,
}

/// Writes what was received to `to` (address, bytes), installing descriptors. `flags`: MSG_CMSG_CLOEXEC.
pub(crate) fn write(t: &Task, control: Vec<Control>, to: (u64, u64), flags: i32) -> Result<Told> {
    // Without a buffer there is no room.
    let room = if to.0 == 0 { 0 } else { usize::try_from(to.1).unwrap_or(usize::MAX) };
    let mut out = Writer { t, at: to.0, room, told: Told { len: 0, cut: false } };
    for c in control {
        match c {
            Control::Credentials(u) => out.put(c::SOL_SOCKET, c::SCM_CREDENTIALS, u.as_bytes())?,
            Control::Raw { level, kind, data } => out.put(level, kind, &data)?,
            Control::Rights(files) => out.rights(files, flags)?,
        }
    }
    Ok(out.told)
}

struct Writer<'a> {
    t: &'a Task,
    at: u64,
    room: usize,
    told: Told,
}

impl Writer<'_> {
    /// One message, cut if there is not room for all of it.
    fn put(&mut self, level: i32, kind: i32, data: &[u8]) -> Result {
        if self.room < HEADER {
            self.told.cut = true;
            return Ok(());
        }
        let whole = HEADER + data.len();
        let len = whole.min(self.room);
        self.told.cut |= len < whole;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(CmsgHdr { len: len as u64, level, kind }.as_bytes());
        bytes.extend_from_slice(&data[..len - HEADER]);
        self.t.mem().write(self.at, &bytes)?;
        let used = whole.next_multiple_of(8).min(self.room);
        self.at = self.at.wrapping_add(used as u64);
        self.room -= used;
        self.told.len += used as u64;
        Ok(())
    }

    /// As many descriptors as there is room for; the others are closed.
    fn rights(&mut self, files: Vec<Rc<OpenFile>>, flags: i32) -> Result {
        let fit = self.room.saturating_sub(HEADER) / 4;
        let flag = if flags & c::MSG_CMSG_CLOEXEC != 0 { c::O_CLOEXEC } else { 0 };
        let count = files.len();
        let mut numbers: Vec<u8> = Vec::new();
        let mut done = 0;
        for f in files.into_iter().take(fit) {
            match install(self.t, f, flag) {
                Ok(n) => numbers.extend_from_slice(&n.to_ne_bytes()),
                Err(_) => break,
            }
            done += 1;
        }
        if done > 0 {
            self.put(c::SOL_SOCKET, c::SCM_RIGHTS, &numbers)?;
        }
        self.told.cut |= done < count;
        Ok(())
    }
}
