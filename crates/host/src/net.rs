//! Sockets of the network, never waiting: every one has SOCK_NONBLOCK, and nothing here raises SIGPIPE.
use abi::{Errno, Result};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const OURS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// MSG_ flags of every send.
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// socket(2). `kind`: SOCK_STREAM …
pub fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    let family = AddressFamily::from_raw(domain as u16);
    let protocol = std::num::NonZeroU32::new(protocol as u32).map(Protocol::from_raw);
    rustix::net::socket_with(family, SocketType::from_raw(kind as u32), OURS, protocol).map_err(crate::errno)
}

/// bind(2).
pub fn bind(fd: BorrowedFd<'_>, to: &SocketAddr) -> Result {
    rustix::net::bind(fd, to).map_err(crate::errno)
}

/// listen(2).
pub fn listen(fd: BorrowedFd<'_>, backlog: i32) -> Result {
    rustix::net::listen(fd, backlog).map_err(crate::errno)
}

/// connect(2); EINPROGRESS where it takes time. `None` is AF_UNSPEC, which dissolves the association.
pub fn connect(fd: BorrowedFd<'_>, to: Option<&SocketAddr>) -> Result {
    match to {
        Some(to) => rustix::net::connect(fd, to),
        None => rustix::net::connect_unspec(fd),
    }
    .map_err(crate::errno)
}

/// accept4(2).
pub fn accept(fd: BorrowedFd<'_>) -> Result<(OwnedFd, SocketAddr)> {
    let (fd, from) = rustix::net::acceptfrom_with(fd, OURS).map_err(crate::errno)?;
    Ok((fd, from.map_or(Err(Errno::ECONNABORTED), inet)?))
}

/// getsockname(2).
pub fn name(fd: BorrowedFd<'_>) -> Result<SocketAddr> {
    rustix::net::getsockname(fd).map_err(crate::errno).and_then(inet)
}

/// getpeername(2).
pub fn peer(fd: BorrowedFd<'_>) -> Result<SocketAddr> {
    rustix::net::getpeername(fd).map_err(crate::errno)?.map_or(Err(Errno::ENOTCONN), inet)
}

fn inet(any: SocketAddrAny) -> Result<SocketAddr> {
    SocketAddr::try_from(any).map_err(|_| Errno::EAFNOSUPPORT)
}

/// shutdown(2). `how`: SHUT_RD, SHUT_WR, SHUT_RDWR; EINVAL for others.
pub fn shutdown(fd: BorrowedFd<'_>, how: i32) -> Result {
    let how = match how {
        libc::SHUT_RD => Shutdown::Read,
        libc::SHUT_WR => Shutdown::Write,
        libc::SHUT_RDWR => Shutdown::Both,
        _ => return Err(Errno::EINVAL),
    };
    rustix::net::shutdown(fd, how).map_err(crate::errno)
}

/// send(2), or sendto(2) with an address.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8], flags: i32, to: Option<&SocketAddr>) -> Result<usize> {
    let flags = SendFlags::from_bits_retain(flags as u32) | SEND;
    match to {
        None => rustix::net::send(fd, bytes, flags),
        Some(to) => rustix::net::sendto(fd, bytes, flags, to),
    }
    .map_err(crate::errno)
}

/// sendmsg(2) with control information, encoded as cmsg(3) has it.
pub fn send_with(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    control: &[u8],
    flags: i32,
    to: Option<&SocketAddr>,
) -> Result<usize> {
    let (mut name, len) = to.map_or(([0; NAME], 0), encode);
    let mut iov = libc::iovec { iov_base: bytes.as_ptr() as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: zero is a value of every field; the pointers set below are to what outlives the call, which only reads them.
    let n = unsafe {
        let mut m: libc::msghdr = std::mem::zeroed();
        if len > 0 {
            (m.msg_name, m.msg_namelen) = (name.as_mut_ptr().cast(), len as u32);
        }
        (m.msg_iov, m.msg_iovlen) = (&raw mut iov, 1);
        (m.msg_control, m.msg_controllen) = (control.as_ptr() as *mut libc::c_void, control.len());
        libc::sendmsg(fd.as_raw_fd(), &raw const m, flags | SEND.bits() as i32)
    };
    usize::try_from(n).map_err(|_| crate::last())
}

/// recv(2) with MSG_DONTWAIT. With MSG_TRUNC the answer may be more than `buf` holds.
pub fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], flags: i32) -> Result<usize> {
    let flags = RecvFlags::from_bits_retain(flags as u32) | RecvFlags::DONTWAIT;
    rustix::net::recv(fd, buf, flags).map(|(_, n)| n).map_err(crate::errno)
}

/// What recvmsg(2) tells beside the bytes.
#[derive(Debug)]
pub struct Message {
    /// With MSG_TRUNC, perhaps more than the buffer holds.
    pub len: usize,
    pub from: Option<SocketAddr>,
    /// Bytes of control information.
    pub control: usize,
    /// MSG_TRUNC …
    pub flags: i32,
}

/// recvmsg(2) with MSG_DONTWAIT.
pub fn receive_with(fd: BorrowedFd<'_>, buf: &mut [u8], control: &mut [u8], flags: i32) -> Result<Message> {
    let mut name = [0; NAME];
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: zero is a value of every field; the pointers are to buffers of the lengths given, which outlive the call.
    let (n, m) = unsafe {
        let mut m: libc::msghdr = std::mem::zeroed();
        (m.msg_name, m.msg_namelen) = (name.as_mut_ptr().cast(), NAME as u32);
        (m.msg_iov, m.msg_iovlen) = (&raw mut iov, 1);
        (m.msg_control, m.msg_controllen) = (control.as_mut_ptr().cast(), control.len());
        let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        (libc::recvmsg(fd.as_raw_fd(), &raw mut m, flags), m)
    };
    let len = usize::try_from(n).map_err(|_| crate::last())?;
    let from = decode(&name[..(m.msg_namelen as usize).min(NAME)]);
    let flags = m.msg_flags & !libc::MSG_CMSG_CLOEXEC;
    Ok(Message { len, from, control: m.msg_controllen.min(control.len()), flags })
}

/// Room for `struct sockaddr_in6`, the larger of the two.
const NAME: usize = 28;

/// `struct sockaddr_in` or `sockaddr_in6`, and its length.
fn encode(a: &SocketAddr) -> ([u8; NAME], usize) {
    let mut b = [0; NAME];
    b[2..4].copy_from_slice(&a.port().to_be_bytes());
    match a {
        SocketAddr::V4(v4) => {
            b[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            b[4..8].copy_from_slice(&v4.ip().octets());
            (b, 16)
        }
        SocketAddr::V6(v6) => {
            b[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            b[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
            b[8..24].copy_from_slice(&v6.ip().octets());
            b[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (b, NAME)
        }
    }
}

fn decode(b: &[u8]) -> Option<SocketAddr> {
    let word = |at: usize| b.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let port = u16::from_be_bytes(b.get(2..4)?.try_into().ok()?);
    match i32::from(u16::from_ne_bytes(b.get(..2)?.try_into().ok()?)) {
        libc::AF_INET => {
            let ip: [u8; 4] = b.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = b.get(8..24)?.try_into().ok()?;
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, word(4)?, word(24)?)))
        }
        _ => None,
    }
}

/// getsockopt(2) into `value`, whose first bytes some options read; how many bytes it is.
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the host writes at most `len` bytes, which is what `value` has.
    let r = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    if r == 0 { Ok((len as usize).min(value.len())) } else { Err(crate::last()) }
}

/// setsockopt(2).
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the host reads at most `len` bytes of `value`.
    let r = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if r == 0 { Ok(()) } else { Err(crate::last()) }
}

/// SIOCATMARK: sockatmark(3).
pub fn at_mark(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut v: libc::c_int = 0;
    // SAFETY: the command writes one int.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCATMARK as _, &raw mut v) };
    if r == 0 { Ok(v != 0) } else { Err(crate::last()) }
}

/// Which is not in libc.
pub const SIOCATMARK: u64 = 0x8905;

/// Brings an interface up, for one who may.
pub fn raise(interface: &str) -> Result {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // `struct ifreq`: the name, then the flags.
    let mut request = [0u8; 40];
    let name = interface.as_bytes();
    request.get_mut(..name.len().min(15)).ok_or(Errno::EINVAL)?.copy_from_slice(&name[..name.len().min(15)]);
    // SAFETY: both commands use 40 bytes.
    let r = unsafe {
        match libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, request.as_mut_ptr()) {
            0 => {
                let flags = u16::from_ne_bytes([request[16], request[17]]) | libc::IFF_UP as u16;
                request[16..18].copy_from_slice(&flags.to_ne_bytes());
                libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, request.as_ptr())
            }
            r => r,
        }
    };
    if r == 0 { Ok(()) } else { Err(crate::last()) }
}

/// A NETLINK_ROUTE socket of this process's network namespace.
pub fn routes() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, OURS, None).map_err(crate::errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn addresses_come_back() {
        for text in ["1.2.3.4:5", "[fe80::1%3]:77", "[::]:0"] {
            let a: SocketAddr = text.parse().unwrap();
            let (bytes, len) = encode(&a);
            assert_eq!(decode(&bytes[..len]), Some(a));
        }
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[1, 0, 0, 0]), None);
    }

    #[test]
    fn datagrams_with_control() {
        let open = || socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        let (a, b) = (open(), open());
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bind(b.as_fd(), &any).unwrap();
        let to = name(b.as_fd()).unwrap();
        set_option(b.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTTL, &1i32.to_ne_bytes()).unwrap();
        assert_eq!(receive_with(b.as_fd(), &mut [0; 4], &mut [], 0).unwrap_err(), Errno::EAGAIN);
        assert_eq!(send_with(a.as_fd(), b"hello", &[], 0, Some(&to)), Ok(5));
        let (mut buf, mut control) = ([0; 3], [0; 64]);
        let m = receive_with(b.as_fd(), &mut buf, &mut control, libc::MSG_TRUNC).unwrap();
        assert_eq!((m.len, m.flags, &buf, m.control), (5, libc::MSG_TRUNC, b"hel", 24));
        assert!(m.from.is_some_and(|f| f.ip() == any.ip()));
    }
}
