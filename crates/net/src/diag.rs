//! NETLINK_SOCK_DIAG: what ss asks, sock_diag(7). The sandbox's sockets, those that some process has a descriptor of.
//!
//! Only whole lists are told; attributes beyond what names a socket are not.
use crate::Address;
use crate::route::{Message, NLM_F_DUMP, NLMSG_DONE, attribute, message, number};
use abi::{Errno, Result, c};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_MULTI: u16 = 2;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_RQLEN: u16 = 4;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_RQLEN: u32 = 0x10;

/// tcp_states.h, which is used for every family here.
pub const ESTABLISHED: u8 = 1;
pub const CLOSE: u8 = 7;
pub const LISTEN: u8 = 10;

/// One socket, as the lists of them tell it.
pub struct Row {
    pub domain: i32,
    /// SOCK_STREAM …
    pub kind: i32,
    pub protocol: i32,
    /// [`ESTABLISHED`] …
    pub state: u8,
    pub own: Option<Address>,
    pub peer: Option<Address>,
    /// Bytes that wait to be taken by the peer, and to be received.
    pub queued: (usize, usize),
    /// Whose it is, and the inode number of `socket:[N]`.
    pub uid: u32,
    pub ino: u64,
}

/// Gives every socket of the sandbox.
pub type Lister = Rc<dyn Fn() -> Vec<Row>>;

thread_local! {
    static LISTER: RefCell<Option<Lister>> = const { RefCell::new(None) };
}

pub fn set_lister(lister: Lister) {
    LISTER.set(Some(lister));
}

/// The datagrams that answer a request. EPERM: to destroy a socket; EOPNOTSUPP: to tell about one alone.
pub(crate) fn answers(m: &Message<'_>) -> Result<Vec<Vec<u8>>> {
    match m.kind {
        SOCK_DIAG_BY_FAMILY => {}
        SOCK_DESTROY => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let [family, protocol] = *m.body.first_chunk().ok_or(Errno::EINVAL)?;
    let (domain, protocol) = (i32::from(family), i32::from(protocol));
    let needed = if domain == c::AF_UNIX { 24 } else { 56 };
    let states = number(m.body, 4).filter(|_| m.body.len() >= needed).ok_or(Errno::EINVAL)?;
    match (domain, protocol) {
        (c::AF_UNIX, 0) | (c::AF_INET | c::AF_INET6, c::IPPROTO_TCP | c::IPPROTO_UDP) => {}
        _ => return Err(Errno::ENOENT),
    }
    if m.flags & NLM_F_DUMP == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let lister = LISTER.with_borrow(Clone::clone);
    let mut rows = lister.map(|l| l()).unwrap_or_default();
    rows.retain(|r| r.domain == domain && states & 1 << r.state != 0);
    let bodies: Vec<Vec<u8>> = match domain {
        c::AF_UNIX => {
            let show = number(m.body, 12).unwrap_or(0);
            rows.iter().map(|r| unix(r, show)).collect()
        }
        _ => rows.iter().filter(|r| r.protocol == protocol).filter_map(internet).collect(),
    };
    let told = bodies.iter().map(|b| message(SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, m.seq, 0, b));
    Ok(told.chain([message(NLMSG_DONE, NLM_F_MULTI, m.seq, 0, &[0; 4])]).collect())
}

/// `struct unix_diag_msg`, and what else is asked for.
fn unix(r: &Row, show: u32) -> Vec<u8> {
    let mut b = vec![c::AF_UNIX as u8, r.kind as u8, r.state, 0];
    b.extend((r.ino as u32).to_ne_bytes());
    b.extend(r.ino.to_ne_bytes());
    let name = match &r.own {
        Some(Address::UnixPath { path, .. }) => Some(path.to_vec()),
        Some(Address::UnixAbstract(name)) => Some([&[0], &name[..]].concat()),
        _ => None,
    };
    if let Some(name) = name.filter(|_| show & UDIAG_SHOW_NAME != 0) {
        b.extend(attribute(UNIX_DIAG_NAME, &name));
    }
    if show & UDIAG_SHOW_RQLEN != 0 {
        let (out, inside) = r.queued;
        b.extend(attribute(UNIX_DIAG_RQLEN, &[(inside as u32).to_ne_bytes(), (out as u32).to_ne_bytes()].concat()));
    }
    b
}

/// `struct inet_diag_msg`. `None`: one that has no place in the lists yet.
fn internet(r: &Row) -> Option<Vec<u8>> {
    let ends = r.ends()?;
    let mut b = vec![r.domain as u8, r.state, 0, 0];
    ends.iter().for_each(|e| b.extend(e.port().to_be_bytes()));
    for e in ends {
        match e.ip() {
            IpAddr::V4(ip) => b.extend([&ip.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(ip) => b.extend(ip.octets()),
        }
    }
    b.extend(0u32.to_ne_bytes());
    b.extend(r.ino.to_ne_bytes());
    for n in [0, r.queued.1 as u32, r.queued.0 as u32, r.uid, r.ino as u32] {
        b.extend(n.to_ne_bytes());
    }
    Some(b)
}

impl Row {
    /// Both ends of an internet socket, the far one unspecified where there is none. `None`: it is in no list yet.
    pub fn ends(&self) -> Option<[SocketAddr; 2]> {
        let Some(Address::Inet(own)) = self.own else { return None };
        if own.port() == 0 || (self.protocol == c::IPPROTO_TCP && self.state == CLOSE) {
            return None;
        }
        let nobody = SocketAddr::new(if own.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() }, 0);
        let peer = match self.peer {
            Some(Address::Inet(peer)) => peer,
            _ => nobody,
        };
        Some([own, peer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(own: Address, state: u8) -> Row {
        let domain = if matches!(own, Address::Inet(_)) { c::AF_INET } else { c::AF_UNIX };
        let protocol = if domain == c::AF_INET { c::IPPROTO_TCP } else { 0 };
        Row {
            domain,
            kind: c::SOCK_STREAM,
            protocol,
            state,
            own: Some(own),
            peer: None,
            queued: (1, 2),
            uid: 7,
            ino: 9,
        }
    }

    fn ask(flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>> {
        answers(&Message { kind: SOCK_DIAG_BY_FAMILY, flags, seq: 1, body })
    }

    #[test]
    fn lists_are_told_by_family_and_state() {
        set_lister(Rc::new(|| {
            vec![
                row(Address::Inet("1.2.3.4:80".parse().unwrap()), LISTEN),
                row(Address::Inet("1.2.3.4:0".parse().unwrap()), LISTEN),
                row(Address::UnixAbstract(b"name".to_vec().into()), ESTABLISHED),
            ]
        }));
        let mut tcp = vec![0u8; 56];
        (tcp[0], tcp[1]) = (c::AF_INET as u8, c::IPPROTO_TCP as u8);
        assert_eq!(ask(NLM_F_DUMP, &tcp).unwrap().len(), 1);
        tcp[4..8].fill(0xff);
        let told = ask(NLM_F_DUMP, &tcp).unwrap();
        assert_eq!((told.len(), told[0].len()), (2, 16 + 72));
        assert_eq!(told[0][16 + 4..16 + 6], [0, 80]);
        assert_eq!(told[0][16 + 8..16 + 12], [1, 2, 3, 4]);
        assert_eq!(number(&told[0], 16 + 68), Some(9));
        let mut unix = vec![0u8; 24];
        unix[0] = c::AF_UNIX as u8;
        unix[4..16].fill(0xff);
        let told = ask(NLM_F_DUMP, &unix).unwrap();
        assert_eq!((told.len(), told[0].len()), (2, 16 + 16 + 12 + 12));
        assert_eq!(ask(0, &unix).err(), Some(Errno::EOPNOTSUPP));
        assert_eq!(ask(NLM_F_DUMP, &unix[..20]).err(), Some(Errno::EINVAL));
        assert_eq!(ask(NLM_F_DUMP, &[]).err(), Some(Errno::EINVAL));
    }
}
