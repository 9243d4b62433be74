//! What interfaces, addresses and routes the sandbox's network namespace has: asked of the host by rtnetlink(7) over one
//! socket, opened before the sentry's confinement. Requests are written here; of a guest's request only checked
//! numbers go into them. Nothing is kept: an interface that Docker or CNI adds later is there at once.
use abi::{Result, c};
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};

/// `struct nlmsghdr`.
pub const HEADER: usize = 16;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
pub const NLM_F_DUMP: u16 = 0x300;
/// More than any answer is.
const MAX_ANSWER: usize = 4 << 20;
/// The largest part of an answer.
const PART: usize = 1 << 16;

pub const IFLA_ADDRESS: u16 = 1;
pub const IFLA_BROADCAST: u16 = 2;
pub const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_STATS64: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;

/// The socket.
pub struct Routes {
    fd: OwnedFd,
    seq: Cell<u32>,
}

/// An interface, netdevice(7).
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub index: i32,
    pub name: String,
    /// ARPHRD_LOOPBACK …
    pub kind: u16,
    /// IFF_UP …
    pub flags: u32,
    pub mtu: u32,
    pub queue: u32,
    pub address: Vec<u8>,
    pub broadcast: Vec<u8>,
    /// `struct rtnl_link_stats64`'s fields.
    pub stats: Vec<u64>,
}

/// An address of an interface.
#[derive(Debug, Clone, Default)]
pub struct Assigned {
    pub family: u8,
    pub prefix: u8,
    pub flags: u8,
    pub scope: u8,
    pub index: i32,
    /// The interface's own; 4 or 16 bytes.
    pub local: Vec<u8>,
    /// The peer's on point-to-point links, otherwise as `local`.
    pub address: Vec<u8>,
    pub broadcast: Vec<u8>,
    pub label: String,
}

/// An attribute, rtnetlink(7).
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + value.len() + 3);
    out.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The attributes in `bytes`: type and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        // NLA_F_NESTED and NLA_F_NET_BYTEORDER are about the value.
        Some((kind & 0x3fff, value))
    })
}

/// One message: `struct nlmsghdr` and what follows it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub body: &'a [u8],
}

/// The messages of a datagram. Ends at the first that is broken.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = number(bytes, 0)? as usize;
        let body = bytes.get(HEADER..len)?;
        let kinds = number(bytes, 4)?;
        let m = Message { kind: kinds as u16, flags: (kinds >> 16) as u16, seq: number(bytes, 8)?, body };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(m)
    })
}

/// The 32-bit number at `at`.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A whole message.
pub fn message(kind: u16, flags: u16, seq: u32, pid: u32, body: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(HEADER + body.len());
    m.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    m.extend_from_slice(&kind.to_ne_bytes());
    m.extend_from_slice(&flags.to_ne_bytes());
    m.extend_from_slice(&seq.to_ne_bytes());
    m.extend_from_slice(&pid.to_ne_bytes());
    m.extend_from_slice(body);
    m.resize(m.len().next_multiple_of(4), 0);
    m
}

impl Routes {
    /// `fd`: what [`host::net::routes`] made.
    pub fn new(fd: OwnedFd) -> Routes {
        Routes { fd, seq: Cell::new(1) }
    }

    /// What the host answers to a request of this type (RTM_GETLINK …), datagram by datagram. An error the host tells is
    /// among the messages.
    pub fn ask(&self, kind: u16, dump: bool, body: &[u8]) -> Result<Vec<Vec<u8>>> {
        let seq = self.seq.get().wrapping_add(1);
        self.seq.set(seq);
        let flags = NLM_F_REQUEST | if dump { NLM_F_DUMP } else { 0 };
        host::net::send(self.fd.as_fd(), &message(kind, flags, seq, 0, body), 0, None)?;
        let (mut parts, mut total, mut end) = (Vec::new(), 0, false);
        let mut buf = vec![0; PART];
        while !end && total < MAX_ANSWER {
            // The host writes each part while it is asked for it: there is nothing to wait for.
            let n = host::net::receive(self.fd.as_fd(), &mut buf, 0)?;
            let part = &buf[..n.min(PART)];
            let ours = || messages(part).filter(|m| m.seq == seq);
            // What an earlier answer that was given up left behind.
            if ours().next().is_none() {
                continue;
            }
            end = ours().any(|m| matches!(m.kind, NLMSG_DONE | NLMSG_ERROR) || m.flags & NLM_F_MULTI == 0);
            total += part.len();
            parts.push(part.to_vec());
        }
        Ok(parts)
    }

    /// Every interface.
    pub fn links(&self) -> Result<Vec<Link>> {
        let parts = self.ask(c::RTM_GETLINK, true, &[0; 16])?;
        let all = parts.iter().flat_map(|p| messages(p)).filter(|m| m.kind == c::RTM_NEWLINK);
        Ok(all.filter_map(|m| link(m.body)).collect())
    }

    /// Every address, IPv4 and IPv6.
    pub fn addresses(&self) -> Result<Vec<Assigned>> {
        let parts = self.ask(c::RTM_GETADDR, true, &[0; 8])?;
        let all = parts.iter().flat_map(|p| messages(p)).filter(|m| m.kind == c::RTM_NEWADDR);
        Ok(all.filter_map(|m| assigned(m.body)).collect())
    }
}

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;

/// The names of /proc/net's files.
pub const PROC_FILES: [&str; 13] = [
    "dev",
    "if_inet6",
    "netstat",
    "raw",
    "route",
    "snmp",
    "sockstat",
    "sockstat6",
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "unix",
];

/// Counters of the protocols that programs look for, proc_net(5). The host counts; here they are 0.
const SNMP: [(&str, &str); 4] = [
    (
        "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers \
         OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates",
        "Ip: 2 64",
    ),
    (
        "Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos \
         InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutDestUnreachs OutTimeExcds \
         OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps OutTimestampReps OutAddrMasks \
         OutAddrMaskReps",
        "Icmp:",
    ),
    (
        "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs \
         RetransSegs InErrs OutRsts InCsumErrors",
        "Tcp: 1 200 120000 -1",
    ),
    (
        "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
        "Udp:",
    ),
];
const NETSTAT: [(&str, &str); 2] = [
    (
        "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows ListenDrops TCPTimeouts TCPSynRetrans",
        "TcpExt:",
    ),
    (
        "IpExt: InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets",
        "IpExt:",
    ),
];

/// Two lines for each protocol: names, then as many numbers, of which the last ones are 0.
fn counters(of: &[(&str, &str)]) -> String {
    let row = |(names, values): &(&str, &str)| {
        let zeroes = names.split(' ').count() - values.split(' ').count();
        format!("{names}\n{values}{}\n", " 0".repeat(zeroes))
    };
    of.iter().map(row).collect()
}

/// Of those that list sockets, the first line.
pub fn proc_file(routes: &Routes, name: &str) -> Result<String> {
    let sockets = "local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    let sockets6 = "local_address                         remote_address                        st tx_queue rx_queue \
                    tr tm->when retrnsmt   uid  timeout inode";
    match name {
        "dev" => Ok(proc_dev(&routes.links()?)),
        "if_inet6" => proc_addresses(routes),
        "route" => proc_routes(routes),
        "tcp" => Ok(format!("  sl  {sockets}\n")),
        "udp" | "raw" => Ok(format!("   sl  {sockets} ref pointer drops\n")),
        "tcp6" => Ok(format!("  sl  {sockets6}\n")),
        "udp6" => Ok(format!("  sl  {sockets6} ref pointer drops\n")),
        "snmp" => Ok(counters(&SNMP)),
        "netstat" => Ok(counters(&NETSTAT)),
        "unix" => Ok("Num       RefCount Protocol Flags    Type St Inode Path\n".into()),
        _ => Err(abi::Errno::ENOENT),
    }
}

fn proc_dev(links: &[Link]) -> String {
    let mut out = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    );
    for l in links {
        let s = |i: usize| l.stats.get(i).copied().unwrap_or(0);
        // Of rtnl_link_stats64: rx and tx packets, bytes, errors, dropped; then multicast, collisions.
        let row = [s(2), s(0), s(4), s(6), 0, 0, 0, s(8), s(3), s(1), s(5), s(7), 0, s(9), 0, 0];
        out.push_str(&format!("{:>6}:", l.name));
        row.iter().for_each(|v| out.push_str(&format!(" {v:7}")));
        out.push('\n');
    }
    out
}

fn proc_addresses(routes: &Routes) -> Result<String> {
    let links = routes.links()?;
    let mut out = String::new();
    for a in routes.addresses()?.iter().filter(|a| i32::from(a.family) == c::AF_INET6) {
        let hex: String = a.local.iter().map(|b| format!("{b:02x}")).collect();
        let name = links.iter().find(|l| l.index == a.index).map_or("", |l| &l.name);
        // The scopes of the file are those of ipv6(7): node, link, global.
        let scope = match a.scope {
            254 => 0x10,
            253 => 0x20,
            _ => 0,
        };
        out.push_str(&format!("{hex} {:02x} {:02x} {scope:02x} {:02x} {name:>8}\n", a.index, a.prefix, a.flags));
    }
    Ok(out)
}

fn proc_routes(routes: &Routes) -> Result<String> {
    let mut out =
        format!("{:<127}\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT");
    let mut body = [0; 12];
    body[0] = c::AF_INET as u8;
    let (links, parts) = (routes.links()?, routes.ask(c::RTM_GETROUTE, true, &body)?);
    for m in parts.iter().flat_map(|p| messages(p)).filter(|m| m.kind == c::RTM_NEWROUTE) {
        let Some(head) = m.body.get(..12).filter(|h| h[4] == RT_TABLE_MAIN) else { continue };
        let (mut to, mut via, mut metric, mut name) = (0, 0, 0, "*");
        for (kind, v) in attributes(&m.body[12..]) {
            let v = number(v, 0).unwrap_or(0);
            match kind {
                RTA_DST => to = v,
                RTA_GATEWAY => via = v,
                RTA_PRIORITY => metric = v,
                RTA_OIF => name = links.iter().find(|l| l.index == v as i32).map_or("*", |l| &l.name),
                _ => {}
            }
        }
        // RTF_UP, and RTF_GATEWAY. Addresses as they lie in memory.
        let flags = 1 | if via != 0 { 2 } else { 0 };
        let mask = u32::MAX.checked_shl(32 - u32::from(head[1].min(32))).unwrap_or(0).to_be();
        let line = format!("{name}\t{to:08X}\t{via:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0");
        out.push_str(&format!("{line:<127}\n"));
    }
    Ok(out)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn link(body: &[u8]) -> Option<Link> {
    let mut l = Link {
        kind: (number(body, 0)? >> 16) as u16,
        index: number(body, 4)? as i32,
        flags: number(body, 8)?,
        ..Link::default()
    };
    for (kind, v) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => l.name = text(v),
            IFLA_ADDRESS => l.address = v.to_vec(),
            IFLA_BROADCAST => l.broadcast = v.to_vec(),
            IFLA_MTU => l.mtu = number(v, 0)?,
            IFLA_TXQLEN => l.queue = number(v, 0)?,
            IFLA_STATS64 => {
                l.stats = v.chunks_exact(8).filter_map(|b| b.try_into().ok().map(u64::from_ne_bytes)).collect();
            }
            _ => {}
        }
    }
    Some(l)
}

fn assigned(body: &[u8]) -> Option<Assigned> {
    let head = body.get(..4)?;
    let index = number(body, 4)? as i32;
    let mut a =
        Assigned { family: head[0], prefix: head[1], flags: head[2], scope: head[3], index, ..Assigned::default() };
    for (kind, v) in attributes(body.get(8..)?) {
        match kind {
            IFA_ADDRESS => a.address = v.to_vec(),
            IFA_LOCAL => a.local = v.to_vec(),
            IFA_BROADCAST => a.broadcast = v.to_vec(),
            IFA_LABEL => a.label = text(v),
            _ => {}
        }
    }
    if a.local.is_empty() {
        a.local = a.address.clone();
    }
    Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there() {
        let r = Routes::new(host::net::routes().unwrap());
        let links = r.links().unwrap();
        let lo = links.iter().find(|l| l.name == "lo").expect("lo");
        assert_eq!((lo.index, lo.kind), (1, c::ARPHRD_LOOPBACK));
        assert!(lo.mtu > 1000 && lo.stats.len() >= 8);
        r.addresses().unwrap();
    }

    #[test]
    fn broken_messages_end_the_list() {
        let good = message(7, 1, 9, 0, &attribute(3, b"lo\0"));
        let list: Vec<_> = messages(&good).collect();
        assert_eq!((list.len(), list[0].kind, list[0].flags, list[0].seq), (1, 7, 1, 9));
        assert_eq!(attributes(list[0].body).collect::<Vec<_>>(), [(3, &b"lo\0"[..])]);
        for cut in 0..good.len() - 4 {
            assert_eq!(messages(&good[..cut]).count(), 0);
        }
        let mut lies = good;
        lies[0] = 3;
        assert_eq!(messages(&lies).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}
