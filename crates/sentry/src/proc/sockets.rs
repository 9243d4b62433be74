//! /proc/net/tcp and its kin: the sockets that some process has a descriptor of, as ss, netstat and lsof read them;
//! proc_net(5).
use abi::c;
use net::diag::{CLOSE, ESTABLISHED, LISTEN, Row};
use net::{Address, Socket, SocketFile};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use task::Kernel;
use vfs::OpenFile;

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
    for r in all(k).iter().filter(|r| r.domain == domain && r.protocol == protocol) {
        let row = if domain == c::AF_UNIX { Some(unix(r)) } else { internet(r, line) };
        if let Some(row) = row {
            line += 1;
            out.push_str(&row);
            out.push('\n');
        }
    }
    out
}

/// /proc/net/sockstat or, for version 6 of the protocol, sockstat6. What sockets take of memory is not told.
pub fn counts(k: &Kernel, six: bool) -> String {
    let all = all(k);
    let domain = if six { c::AF_INET6 } else { c::AF_INET };
    let used =
        |protocol| all.iter().filter(|r| r.domain == domain && r.protocol == protocol && r.ends().is_some()).count();
    let (tcp, udp) = (used(c::IPPROTO_TCP), used(c::IPPROTO_UDP));
    let raw = all.iter().filter(|r| r.domain == domain && r.kind == c::SOCK_RAW).count();
    if six {
        return format!(
            "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse {raw}\nFRAG6: inuse 0 memory 0\n"
        );
    }
    format!(
        "sockets: used {}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\n\
         RAW: inuse {raw}\nFRAG: inuse 0 memory 0\n",
        all.len()
    )
}

/// Every socket that some process has a descriptor of, by inode number.
pub fn all(k: &Kernel) -> Vec<Row> {
    let mut found: BTreeMap<u64, Rc<OpenFile>> = BTreeMap::new();
    for files in k.processes().iter().filter_map(|p| p.leader()?.files().ok()) {
        for f in files.numbers(0, u32::MAX).into_iter().filter_map(|n| files.get(n).ok()) {
            if let Some(ino) = f.downcast::<SocketFile>().map(SocketFile::ino) {
                found.insert(ino, f);
            }
        }
    }
    found.values().filter_map(|f| f.downcast::<SocketFile>()).map(row).collect()
}

/// A number an option tells, or its first byte.
fn first_byte(s: &dyn Socket, level: i32, name: i32) -> u8 {
    s.get_option(level, name, &[]).ok().and_then(|v| v.first().copied()).unwrap_or(0)
}

fn row(f: &SocketFile) -> Row {
    let s = &**f.socket();
    let (domain, protocol) = (s.domain(), s.protocol());
    let state = match (domain, protocol) {
        (c::AF_INET | c::AF_INET6, c::IPPROTO_TCP) => first_byte(s, c::IPPROTO_TCP, c::TCP_INFO),
        (c::AF_UNIX, _) if first_byte(s, c::SOL_SOCKET, c::SO_ACCEPTCONN) != 0 => LISTEN,
        _ if s.peer().is_ok() => ESTABLISHED,
        _ => CLOSE,
    };
    let (own, peer) = (s.name().ok(), s.peer().ok());
    Row {
        domain,
        kind: s.kind(),
        protocol,
        state,
        own,
        peer,
        queued: s.queued(),
        uid: f.maker().cred.euid,
        ino: f.ino(),
    }
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
fn internet(r: &Row, line: usize) -> Option<String> {
    let [own, peer] = r.ends()?;
    let tcp = r.protocol == c::IPPROTO_TCP;
    let (to, from, (out, inside)) = (place(&own), place(&peer), r.queued);
    let rest = if tcp { " 100 0 0 10 0" } else { " 0" };
    let mut row = if tcp { format!("{line:4}: ") } else { format!("{line:5}: ") };
    let _ = write!(row, "{to} {from} {:02X} {out:08X}:{inside:08X} 00:00000000 00000000 {:5} {:8} ", r.state, r.uid, 0);
    let _ = write!(row, "{} 2 {:016x}{rest}", r.ino, 0);
    Some(row)
}

fn unix(r: &Row) -> String {
    let flags = if r.state == LISTEN { SO_ACCEPTCON } else { 0 };
    let state = if r.state == ESTABLISHED { SS_CONNECTED } else { SS_UNCONNECTED };
    let mut row = format!("{:016x}: {:08X} {:08X} {flags:08X} {:04X} {state:02X} {:5}", 0, 2, 0, r.kind, r.ino);
    match &r.own {
        Some(Address::UnixPath { path, .. }) => row += &format!(" {}", String::from_utf8_lossy(path)),
        Some(Address::UnixAbstract(name)) => {
            row += &format!(" @{}", String::from_utf8_lossy(name).replace('\0', "@"));
        }
        _ => {}
    }
    row
}
