//! socket(2): which family makes what.
use crate::{Caller, Socket, inet, netlink, unix};
use abi::{Errno, Result, c};
use std::rc::Rc;

/// A new socket. `kind`: SOCK_STREAM …, without flags.
///
/// Errors: EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, and the family's own.
pub fn make(caller: &Caller, domain: i32, kind: i32, protocol: i32) -> Result<Rc<dyn Socket>> {
    match domain {
        c::AF_UNIX => Ok(unix::make(kind, protocol)?),
        c::AF_INET | c::AF_INET6 => inet::socket(caller, domain, kind, protocol),
        c::AF_NETLINK => netlink::socket(caller, kind, protocol),
        // As for a process without CAP_NET_RAW.
        c::AF_PACKET => Err(Errno::EPERM),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Two connected sockets, socketpair(2).
///
/// Errors: as [`make`]; EOPNOTSUPP where there are no pairs.
pub fn make_pair(caller: &Caller, domain: i32, kind: i32, protocol: i32) -> Result<(Rc<dyn Socket>, Rc<dyn Socket>)> {
    match domain {
        c::AF_UNIX => {
            let (a, b) = unix::pair(caller, kind, protocol)?;
            Ok((a, b))
        }
        // What is wrong with the socket itself is told first.
        c::AF_INET | c::AF_INET6 | c::AF_NETLINK => {
            make(caller, domain, kind, protocol)?;
            Err(Errno::EOPNOTSUPP)
        }
        _ => Err(Errno::EAFNOSUPPORT),
    }
}
