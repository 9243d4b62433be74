//! raw(7) for ICMP and ICMPv6, as far as ping goes: over the host's echo sockets, as the sandbox has no raw ones. What is
//! sent is echo requests, what comes is the answers to them. The host's socket gives requests an identifier of its own;
//! the program finds in the answers the one it has sent.
use super::{BUFFER, InetSocket, MAX_CALL, MAX_CONTROL, control};
use crate::policy::Act;
use crate::{Address, Caller, Control, Incoming, Outgoing, Socket};
use abi::{Errno, Result, c};
use guest::{Memory, Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use vfs::Ready;

/// Type, code, checksum, identifier, sequence number.
const ICMP: usize = 8;
/// An IPv4 header without options.
const IP: usize = 20;
/// Echo request and reply: ICMP's, and ICMPv6's.
const TYPES: [(u8, u8); 2] = [(8, 0), (128, 129)];
/// `ICMP_FILTER` of raw(7) at its level, `ICMP6_FILTER` of RFC 3542, and where a checksum is: what ping sets.
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;
const ICMP6_FILTER: i32 = 1;
const IPV6_CHECKSUM: i32 = 7;

/// An echo socket that looks like a raw one.
pub struct RawEcho {
    inner: InetSocket,
    /// What the program calls its requests.
    id: Cell<[u8; 2]>,
    /// The program's own wish for what is asked of the host in any case: IP_RECVTTL, IP_PKTINFO.
    told: [Cell<bool>; 2],
    /// Answers are not to be received: ICMP_FILTER.
    deaf: Cell<bool>,
}

const TOLD: [i32; 2] = [c::IP_RECVTTL, c::IP_PKTINFO];

impl RawEcho {
    /// `inner`: a socket of the host's for ICMP echo.
    pub fn new(inner: InetSocket) -> Result<Rc<RawEcho>> {
        if inner.domain == c::AF_INET {
            for name in TOLD {
                host::net::set_option(inner.fd(), c::IPPROTO_IP, name, &1i32.to_ne_bytes())?;
            }
        }
        Ok(Rc::new(RawEcho { inner, id: Cell::default(), told: Default::default(), deaf: Cell::new(false) }))
    }

    fn v4(&self) -> bool {
        self.inner.domain == c::AF_INET
    }

    fn types(&self) -> (u8, u8) {
        TYPES[usize::from(!self.v4())]
    }

    /// One of [`TOLD`], if that is what is meant.
    fn told(&self, level: i32, name: i32) -> Option<&Cell<bool>> {
        let at = TOLD.iter().position(|n| *n == name)?;
        (self.v4() && level == c::IPPROTO_IP).then(|| &self.told[at])
    }

    /// The answer in `packet`, as the program is to see it, and what is told of it.
    fn answer(&self, packet: &mut [u8], told: Vec<Control>, from: Option<SocketAddr>) -> (Vec<u8>, Vec<Control>) {
        if let Some(id) = packet.get_mut(4..6) {
            id.copy_from_slice(&self.id.get());
        }
        if !self.v4() {
            return (Vec::new(), told);
        }
        if let Some(sum) = packet.get_mut(2..4) {
            sum.fill(0);
        }
        let sum = checksum(packet);
        if let Some(to) = packet.get_mut(2..4) {
            to.copy_from_slice(&sum);
        }
        let (mut ttl, mut local) = (0, [0; 4]);
        for item in &told {
            match item {
                Control::Raw { level: c::IPPROTO_IP, kind: c::IP_TTL, data } => {
                    ttl = data.first().copied().unwrap_or(0)
                }
                Control::Raw { level: c::IPPROTO_IP, kind: c::IP_PKTINFO, data } => {
                    local = data.get(8..12).and_then(|a| a.try_into().ok()).unwrap_or(local);
                }
                _ => {}
            }
        }
        let remote = match from.map(|a| a.ip()) {
            Some(IpAddr::V4(a)) => a,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let wanted = |item: &Control| match item {
            Control::Raw { level: c::IPPROTO_IP, kind: c::IP_TTL, .. } => self.told[0].get(),
            Control::Raw { level: c::IPPROTO_IP, kind: c::IP_PKTINFO, .. } => self.told[1].get(),
            _ => true,
        };
        let header = ip_header(packet.len(), ttl, remote.octets(), local);
        (header, told.into_iter().filter(wanted).collect())
    }
}

/// The header that an answer had, as far as it can be known.
fn ip_header(len: usize, ttl: u8, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let total = u16::try_from(IP + len).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, ttl, c::IPPROTO_ICMP as u8, 0, 0];
    header.extend_from_slice(&from);
    header.extend_from_slice(&to);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    header
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    // At most 2^15 words of 16 bits: no overflow.
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

impl Socket for RawEcho {
    fn domain(&self) -> i32 {
        self.inner.domain()
    }
    fn kind(&self) -> i32 {
        c::SOCK_RAW
    }
    fn protocol(&self) -> i32 {
        self.inner.protocol()
    }

    /// The port means nothing, raw(7).
    fn bind(&self, caller: &Caller, to: Address) -> Result {
        let Address::Inet(mut a) = to else { return Err(Errno::EAFNOSUPPORT) };
        a.set_port(0);
        self.inner.bind(caller, Address::Inet(a))
    }

    fn connect(&self, caller: &Caller, to: Address) -> Result {
        self.inner.connect(caller, to)
    }

    fn name(&self) -> Result<Address> {
        let mut name = self.inner.name()?;
        if let Address::Inet(a) = &mut name {
            a.set_port(self.protocol() as u16);
        }
        Ok(name)
    }

    fn peer(&self) -> Result<Address> {
        self.inner.peer()
    }

    /// EPERM for what is no echo request.
    fn send(&self, _caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize> {
        let to = match &out.to {
            None => None,
            Some(Address::Inet(a)) => Some(SocketAddr::new(a.ip(), 0)),
            Some(_) => return Err(Errno::EAFNOSUPPORT),
        };
        if let Some(a) = &to {
            self.inner.stack.policy.check(Act::Send, a)?;
        }
        let want = src.remaining();
        if want > MAX_CALL {
            return Err(Errno::EMSGSIZE);
        }
        BUFFER.with_borrow_mut(|buf| {
            let buf = &mut buf[..want];
            if src.take(buf)? < want {
                return Err(Errno::EFAULT);
            }
            if want < ICMP {
                return Err(Errno::EINVAL);
            }
            if (buf[0], buf[1]) != (self.types().0, 0) {
                return Err(Errno::EPERM);
            }
            self.id.set([buf[4], buf[5]]);
            self.inner.send_bytes(buf, out, to.as_ref())
        })
    }

    fn receive(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming> {
        self.inner.forget(super::INPUT);
        let room = dst.remaining();
        let mut space = [0u8; MAX_CONTROL];
        BUFFER.with_borrow_mut(|buf| {
            loop {
                let passed = flags & super::RECEIVE_FLAGS & !c::MSG_TRUNC;
                let m = host::net::receive_with(self.inner.fd(), buf, &mut space, passed)?;
                let packet = &mut buf[..m.len.min(MAX_CALL)];
                let told = control::decode(&space[..m.control]);
                let queued_error = passed & c::MSG_ERRQUEUE != 0;
                if self.deaf.get() && !queued_error {
                    continue;
                }
                let (header, control) =
                    if queued_error { (Vec::new(), told) } else { self.answer(packet, told, m.from) };
                let whole = header.len() + packet.len();
                let mut taken = dst.put(&header[..header.len().min(room)])?;
                taken += dst.put(&packet[..packet.len().min(room - taken)])?;
                let cut = if whole > taken { c::MSG_TRUNC } else { 0 };
                let len = if flags & c::MSG_TRUNC != 0 { whole } else { taken };
                return Ok(Incoming { len, from: m.from.map(Address::Inet), control, flags: m.flags | cut });
            }
        })
    }

    fn shutdown(&self, how: i32) -> Result {
        self.inner.shutdown(how)
    }

    fn get_option(&self, level: i32, name: i32, optval: &[u8]) -> Result<Vec<u8>> {
        match self.told(level, name) {
            Some(told) => Ok(i32::from(told.get()).to_ne_bytes().to_vec()),
            None => self.inner.get_option(level, name, optval),
        }
    }

    fn set_option(&self, caller: &Caller, level: i32, name: i32, value: &[u8]) -> Result {
        let number = value.first_chunk().map(|v| i32::from_ne_bytes(*v));
        if let Some(told) = self.told(level, name) {
            told.set(number.ok_or(Errno::EINVAL)? != 0);
            return Ok(());
        }
        let answer = self.types().1;
        match (self.v4(), level, name) {
            (true, SOL_RAW, ICMP_FILTER) => self.deaf.set(number.ok_or(Errno::EINVAL)? >> answer & 1 != 0),
            (false, c::IPPROTO_ICMPV6, ICMP6_FILTER) => {
                let byte = value.get(usize::from(answer) / 8).ok_or(Errno::EINVAL)?;
                self.deaf.set(byte >> (answer % 8) & 1 != 0);
            }
            // The host sums in any case, where the checksum of ICMP is.
            (false, SOL_RAW | c::IPPROTO_IPV6, IPV6_CHECKSUM) if number == Some(2) => {}
            _ => return self.inner.set_option(caller, level, name, value),
        }
        Ok(())
    }

    fn take_error(&self) -> Option<Errno> {
        self.inner.take_error()
    }
    fn timeouts(&self) -> (Option<u64>, Option<u64>) {
        self.inner.timeouts()
    }
    fn ready(&self) -> Ready {
        self.inner.ready()
    }
    fn waiters(&self) -> &WaitQueue {
        self.inner.waiters()
    }
    fn ioctl(&self, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        self.inner.ioctl(mem, cmd, arg)
    }
    fn queued(&self) -> (usize, usize) {
        self.inner.queued()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        // RFC 1071, section 3, with the complement taken.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), [0x22, 0x0d]);
        assert_eq!(checksum(&[0xFF; 65535]), [0x00, 0xFF]);
        assert_eq!(checksum(&[]), [0xFF, 0xFF]);
    }

    #[test]
    fn header() {
        let h = ip_header(64, 63, [10, 0, 0, 1], [10, 0, 0, 2]);
        assert_eq!(h.len(), IP);
        assert_eq!((h[0], h[3], h[8], h[9]), (0x45, 84, 63, 1));
        assert_eq!(checksum(&h), [0, 0]);
    }
}
