//! Addresses, as the families see them: sockaddr(3type) without its guest form.
use std::net::SocketAddr;
use std::rc::Rc;
use vfs::Inode;

/// The inode a unix socket's name leads to; one of its name's hard links is as good as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketName {
    pub dev: u64,
    pub ino: u64,
}

/// Where a message goes, where it came from, what a socket is bound to.
#[derive(Clone)]
pub enum Address {
    /// AF_UNSPEC: connect(2) dissolves an association with it.
    Unspecified,
    /// A unix socket without a name.
    UnixUnnamed,
    /// Its name without the leading NUL; unix(7).
    UnixAbstract(Rc<[u8]>),
    /// The path as it was given, and the inode it leads to (made by bind, found by connect and sendto), which lives
    /// as long as the address does.
    UnixPath { path: Rc<[u8]>, name: SocketName, inode: Rc<dyn Inode> },
    /// AF_INET and AF_INET6; ip(7), ipv6(7).
    Inet(SocketAddr),
    /// netlink(7).
    Netlink { pid: u32, groups: u32 },
}
