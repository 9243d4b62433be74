//! /proc/net/tcp and its kin: the sockets that some process has a descriptor of, as ss, netstat and lsof read them;
//! proc_net(5).
use abi::c;
use net::{Address, Socket, SocketFile};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use task::Kernel;
use vfs::OpenFile;

/// tcp_states.h.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
/// `enum socket_state`, and the flag of those that listen.
const SS_UNCONNECTED: u8 = 1;
const SS_CONNECTED: u8 = 3;
const SO_ACCEPTCON: u32 = 1 << 16;

/// The lines of the file `name` after its first: none for files that list no sockets.
pub fn rows(k: &Kernel, name: &str) -> String {
    let (domain, protocol) = match name {
        "tcp" => (c::AF_INET, c::IPPROTO_TCP),
        "tcp6" => (c::AF_INET6, c::IPPROTO_TCP),
        "udp" => (c::AF_INET, c::IPPROTO_UDP),
        "udp6" => (c::AF_INET6, c::IPPROTO_UDP),
        "unix" => (c::AF_UNIX, 0),
        _ => return String::new(),
    };
    let mut out = String::new();
    let mut line = 0;
    for f in all(k).values() {
        let Some(s) = f.downcast::<SocketFile>() else { continue };
        let row = match s.socket().domain() {
            d if d != domain => None,
            c::AF_UNIX => Some(unix(s)),
            _ if s.socket().protocol() != protocol => None,
            _ => internet(s, line),
        };
        if let Some(row) = row {
            line += 1;
            out.push_str(&row);
            out.push('\n');
        }
    }
    out
}

/// Every socket's file, by inode number.
fn all(k: &Kernel) -> BTreeMap<u64, Rc<OpenFile>> {
    let mut found = BTreeMap::new();
    for files in k.processes().iter().filter_map(|p| p.leader()?.files().ok()) {
        for f in files.numbers(0, u32::MAX).into_iter().filter_map(|n| files.get(n).ok()) {
            if let Some(ino) = f.downcast::<SocketFile>().map(SocketFile::ino) {
                found.insert(ino, f);
            }
        }
    }
    found
}

/// A number an option tells, or its first byte.
fn first_byte(s: &dyn Socket, level: i32, name: i32) -> u8 {
    s.get_option(level, name, &[]).ok().and_then(|v| v.first().copied()).unwrap_or(0)
}

/// Address and port in hexadecimal, the address as it lies in memory.
fn place(a: &SocketAddr) -> String {
    let ip = match a.ip() {
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => ip
            .octets()
            .chunks_exact(4)
            .map(|b| format!("{:08X}", u32::from_ne_bytes([b[0], b[1], b[2], b[3]])))
            .collect(),
    };
    format!("{ip}:{:04X}", a.port())
}

/// `None`: one that has no place in the tables yet.
fn internet(f: &SocketFile, line: usize) -> Option<String> {
    let s = &**f.socket();
    let tcp = s.protocol() == c::IPPROTO_TCP;
    let Ok(Address::Inet(own)) = s.name() else { return None };
    let nobody = match own.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let peer = match s.peer() {
        Ok(Address::Inet(peer)) => Some(peer),
        _ => None,
    };
    let state = match (tcp, &peer) {
        (true, _) => first_byte(s, c::IPPROTO_TCP, c::TCP_INFO),
        (false, Some(_)) => ESTABLISHED,
        (false, None) => CLOSE,
    };
    if own.port() == 0 || (tcp && state == CLOSE) {
        return None;
    }
    let (to, from) = (place(&own), place(&peer.unwrap_or(SocketAddr::new(nobody, 0))));
    let (out, inside) = s.queued();
    let uid = f.maker().cred.euid;
    let rest = if tcp { " 100 0 0 10 0" } else { " 0" };
    let mut row = if tcp { format!("{line:4}: ") } else { format!("{line:5}: ") };
    let _ = write!(row, "{to} {from} {state:02X} {out:08X}:{inside:08X} 00:00000000 00000000 {uid:5} {:8} ", 0);
    let _ = write!(row, "{} 2 {:016x}{rest}", f.ino(), 0);
    Some(row)
}

fn unix(f: &SocketFile) -> String {
    let s = &**f.socket();
    let listens = first_byte(s, c::SOL_SOCKET, c::SO_ACCEPTCONN) != 0;
    let flags = if listens { SO_ACCEPTCON } else { 0 };
    let state = if s.peer().is_ok() { SS_CONNECTED } else { SS_UNCONNECTED };
    let mut row = format!("{:016x}: {:08X} {:08X} {flags:08X} {:04X} {state:02X} {:5}", 0, 2, 0, s.kind(), f.ino());
    match s.name() {
        Ok(Address::UnixPath { path, .. }) => row += &format!(" {}", String::from_utf8_lossy(&path)),
        Ok(Address::UnixAbstract(name)) => row += &format!(" @{}", String::from_utf8_lossy(&name).replace('\0', "@")),
        _ => {}
    }
    row
}
