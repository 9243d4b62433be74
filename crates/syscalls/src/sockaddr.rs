//! Socket addresses in guest memory: sockaddr(3type), unix(7), ip(7), ipv6(7), netlink(7).
use crate::path::as_caller;
use abi::{Errno, Result, c};
use guest::{Memory, UserInOut};
use net::{Address, SocketName};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::Rc;
use task::Task;

/// `struct sockaddr_storage`: no address is longer.
const STORAGE: usize = 128;
/// Where the path of a `sockaddr_un` begins, and how long it may be.
const PATH_AT: usize = 2;
const PATH_MAX: usize = 108;

/// An address's bytes, copied once.
pub(crate) struct Raw {
    bytes: [u8; STORAGE],
    len: usize,
}

/// A name for a unix socket, not yet looked for.
pub(crate) enum UnixName {
    /// bind(2) is to choose one.
    Auto,
    Abstract(Rc<[u8]>),
    Path(Rc<[u8]>),
}

impl Raw {
    /// Copies an address. EINVAL: the length is negative or above that of `sockaddr_storage`.
    pub fn read(mem: &dyn Memory, addr: u64, len: i32) -> Result<Raw> {
        let len = usize::try_from(len).ok().filter(|n| *n <= STORAGE).ok_or(Errno::EINVAL)?;
        let mut bytes = [0; STORAGE];
        if len > 0 {
            mem.read(addr, &mut bytes[..len])?;
        }
        Ok(Raw { bytes, len })
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// -1 if it has none.
    pub fn family(&self) -> i32 {
        if self.len < 2 { -1 } else { i32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]])) }
    }

    /// As a unix name. EINVAL if it is none.
    pub fn unix(&self) -> Result<UnixName> {
        if self.family() != c::AF_UNIX || self.len > PATH_AT + PATH_MAX {
            return Err(Errno::EINVAL);
        }
        match &self.get()[PATH_AT..] {
            [] => Ok(UnixName::Auto),
            [0, name @ ..] => Ok(UnixName::Abstract(name.into())),
            path => Ok(UnixName::Path(path.split(|b| *b == 0).next().unwrap_or(path).into())),
        }
    }

    /// As an address of a family without file names. EINVAL: too short; EAFNOSUPPORT: of no such family.
    pub fn plain(&self) -> Result<Address> {
        let b = self.get();
        let port = || u16::from_be_bytes([b[2], b[3]]);
        let word = |at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let short = |min: usize| if b.len() < min { Err(Errno::EINVAL) } else { Ok(()) };
        match self.family() {
            -1 => Err(Errno::EINVAL),
            c::AF_UNSPEC => Ok(Address::Unspecified),
            c::AF_INET => {
                short(16)?;
                Ok(Address::Inet(SocketAddrV4::new(Ipv4Addr::new(b[4], b[5], b[6], b[7]), port()).into()))
            }
            c::AF_INET6 => {
                // Without the scope it is an old one.
                short(24)?;
                let ip: [u8; 16] = b[8..24].try_into().map_err(|_| Errno::EINVAL)?;
                let scope = if b.len() < 28 { 0 } else { word(24) };
                Ok(Address::Inet(SocketAddrV6::new(Ipv6Addr::from(ip), port(), word(4), scope).into()))
            }
            c::AF_NETLINK => {
                short(12)?;
                Ok(Address::Netlink { pid: word(4), groups: word(8) })
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }
}

/// The address of a unix socket to connect or send to. The path is walked: EACCES without write permission.
pub(crate) fn find_unix(t: &Task, raw: &Raw) -> Result<Address> {
    match raw.unix()? {
        UnixName::Auto => Err(Errno::EINVAL),
        UnixName::Abstract(name) => Ok(Address::UnixAbstract(name)),
        UnixName::Path(path) => as_caller(t, |w| {
            let cwd = t.fs().cwd.borrow().clone();
            let place = w.path(&cwd, &path, true)?;
            let a = place.inode().attr()?;
            vfs::permission(&a, w.cred, vfs::MAY_WRITE)?;
            if a.kind() != c::S_IFSOCK {
                return Err(Errno::ECONNREFUSED);
            }
            let name = SocketName { dev: a.dev, ino: a.ino };
            Ok(Address::UnixPath { path: path.clone(), name, inode: place.inode().clone() })
        }),
    }
}

/// The address a socket of `domain` connects or sends to.
pub(crate) fn destination(t: &Task, domain: i32, raw: &Raw) -> Result<Address> {
    if domain == c::AF_UNIX { find_unix(t, raw) } else { raw.plain() }
}

/// Appends an address as the guest sees it.
fn encode(a: &Address, out: &mut [u8; STORAGE + 8]) -> usize {
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        out[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
    };
    let mut family = |f: i32| put(&(f as u16).to_ne_bytes());
    match a {
        Address::Unspecified => family(c::AF_UNSPEC),
        Address::UnixUnnamed => family(c::AF_UNIX),
        Address::UnixAbstract(name) => {
            family(c::AF_UNIX);
            put(&[0]);
            put(&name[..name.len().min(PATH_MAX - 1)]);
        }
        Address::UnixPath { path, .. } => {
            family(c::AF_UNIX);
            put(&path[..path.len().min(PATH_MAX)]);
            put(&[0]);
        }
        Address::Inet(SocketAddr::V4(a)) => {
            family(c::AF_INET);
            put(&a.port().to_be_bytes());
            put(&a.ip().octets());
            put(&[0; 8]);
        }
        Address::Inet(SocketAddr::V6(a)) => {
            family(c::AF_INET6);
            put(&a.port().to_be_bytes());
            put(&a.flowinfo().to_ne_bytes());
            put(&a.ip().octets());
            put(&a.scope_id().to_ne_bytes());
        }
        Address::Netlink { pid, groups } => {
            family(c::AF_NETLINK);
            put(&[0; 2]);
            put(&pid.to_ne_bytes());
            put(&groups.to_ne_bytes());
        }
    }
    len
}

/// Writes an address, cut to `room` bytes; returns its whole length. `None`: no address, of length 0.
pub(crate) fn write(mem: &dyn Memory, addr: u64, room: i32, a: Option<&Address>) -> Result<i32> {
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let mut bytes = [0; STORAGE + 8];
    let len = a.map_or(0, |a| encode(a, &mut bytes));
    let n = len.min(room);
    if n > 0 {
        mem.write(addr, &bytes[..n])?;
    }
    Ok(len as i32)
}

/// As [`write`], with the room read from `len` and the length written there.
pub(crate) fn write_sized(mem: &dyn Memory, addr: u64, len: UserInOut<i32>, a: Option<&Address>) -> Result {
    let room = len.get(mem)?;
    len.put(mem, &write(mem, addr, room, a)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(b: &[u8]) -> Raw {
        let mut bytes = [0; STORAGE];
        bytes[..b.len()].copy_from_slice(b);
        Raw { bytes, len: b.len() }
    }

    #[test]
    fn unix_names() {
        assert!(matches!(raw(&[1, 0]).unix(), Ok(UnixName::Auto)));
        assert!(matches!(raw(b"\x01\0\0ab\0").unix(), Ok(UnixName::Abstract(n)) if *n == *b"ab\0"));
        assert!(matches!(raw(b"\x01\0/a\0junk").unix(), Ok(UnixName::Path(n)) if *n == *b"/a"));
        assert!(raw(&[1]).unix().is_err());
        assert!(raw(&[2, 0, 1]).unix().is_err());
        assert!(raw(&[1; 111]).unix().is_err());
    }

    #[test]
    fn plain_addresses_survive_the_way_out() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut v6 = [0u8; 28];
        v6[0] = 10;
        v6[3] = 80;
        v6[23] = 1;
        v6[24] = 7;
        let netlink = [16, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0];
        for b in [&v4[..], &v6[..], &netlink[..]] {
            let mut out = [0; STORAGE + 8];
            let n = encode(&raw(b).plain().unwrap(), &mut out);
            assert_eq!(&out[..n], b);
            assert!(raw(&b[..b.len() - 5]).plain().is_err());
        }
        assert!(matches!(raw(&[0, 0]).plain(), Ok(Address::Unspecified)));
        assert_eq!(raw(&[1, 0]).plain().err(), Some(Errno::EAFNOSUPPORT));
    }
}
