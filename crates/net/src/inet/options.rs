//! Socket options, by allow list ([`abi::inet`]): what is not on it is ENOPROTOOPT, as in a kernel without it.
use super::local::End;
use super::{CAP_NET_RAW, InetSocket};
use crate::Caller;
use abi::{Errno, Result, c, inet};
use vfs::Ready;

/// The largest value any of them has.
const MAX_VALUE: usize = 512;
/// SO_RCVTIMEO_NEW and SO_SNDTIMEO_NEW: the same on 64-bit machines.
const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;

pub fn get(s: &InetSocket, level: i32, name: i32, optval: &[u8]) -> Result<Vec<u8>> {
    if level == c::SOL_SOCKET {
        match name {
            c::SO_RCVTIMEO | SO_RCVTIMEO_NEW => return Ok(timeval(s.timeouts[0].get())),
            c::SO_SNDTIMEO | SO_SNDTIMEO_NEW => return Ok(timeval(s.timeouts[1].get())),
            c::SO_LINGER => {
                let on = s.linger.get();
                return Ok([i32::from(on.is_some()), on.unwrap_or(0)].map(i32::to_ne_bytes).concat());
            }
            // As for a socket without a peer on this machine: no pid, and no ids.
            c::SO_PEERCRED => return Ok([0, -1, -1].map(i32::to_ne_bytes).concat()),
            c::SO_SNDLOWAT => return Ok(1i32.to_ne_bytes().to_vec()),
            // What nobody here can set is off.
            c::SO_DEBUG | c::SO_NO_CHECK | c::SO_MARK | c::SO_RXQ_OVFL | c::SO_BUSY_POLL | c::SO_ZEROCOPY => {
                return Ok(vec![0; 4]);
            }
            // Reading takes the error away.
            c::SO_ERROR => s.forget(Ready::all()),
            _ => {}
        }
    }
    if (level, name) == (c::IPPROTO_IP, c::IP_OPTIONS) {
        return Ok(Vec::new());
    }
    if !inet::listed(&[inet::BOTH, inet::READ], level, name) {
        // ip(7) knows levels, ipv6(7) does not tell them apart.
        let own = [c::SOL_SOCKET, c::IPPROTO_IP, s.protocol].contains(&level) || s.domain == c::AF_INET6;
        return Err(if own { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP });
    }
    let mut value = [0; MAX_VALUE];
    let given = optval.len().min(MAX_VALUE);
    value[..given].copy_from_slice(&optval[..given]);
    let n = host::net::option(s.fd(), level, name, &mut value)?;
    if (level, name) == (c::IPPROTO_TCP, c::TCP_INFO)
        && let Some(end) = s.own()
    {
        tell(&end, &mut value[..n]);
    }
    Ok(value[..n].to_vec())
}

/// `struct tcp_info` of a connection of ours: state, sizes as on the loopback interface, and how many bytes went.
fn tell(end: &End, info: &mut [u8]) {
    if let Some(state) = info.first_mut() {
        *state = end.tcp_state();
    }
    let mut put = |at: usize, v: &[u8]| {
        if let Some(to) = info.get_mut(at..at + v.len()) {
            to.copy_from_slice(v);
        }
    };
    // snd_mss, rcv_mss, pmtu, rtt, rttvar, snd_cwnd.
    for (at, v) in [(16, 32768u32), (20, 536), (60, 65535), (68, 20), (72, 10), (80, 10)] {
        put(at, &v.to_ne_bytes());
    }
    for (at, v) in [120, 128, 200].into_iter().zip(end.counts()) {
        put(at, &v.to_ne_bytes());
    }
}

pub fn set(s: &InetSocket, caller: &Caller, level: i32, name: i32, value: &[u8]) -> Result {
    match (level, name) {
        (c::SOL_SOCKET, c::SO_RCVTIMEO | SO_RCVTIMEO_NEW) => {
            s.timeouts[0].set(nanoseconds(value)?);
            return Ok(());
        }
        (c::SOL_SOCKET, c::SO_SNDTIMEO | SO_SNDTIMEO_NEW) => {
            s.timeouts[1].set(nanoseconds(value)?);
            return Ok(());
        }
        (c::SOL_SOCKET, c::SO_LINGER) => return linger(s, value),
        // Whatever the host would allow this process, the container's root is asked for.
        (c::SOL_SOCKET, c::SO_BINDTODEVICE) if !caller.cred.has(CAP_NET_RAW) => return Err(Errno::EPERM),
        (c::SOL_SOCKET, c::SO_MARK | c::SO_SNDBUFFORCE | c::SO_RCVBUFFORCE | c::SO_BUSY_POLL)
        | (c::IPPROTO_IP, c::IP_TRANSPARENT)
        | (c::IPPROTO_IPV6, c::IPV6_TRANSPARENT)
        | (c::IPPROTO_TCP, c::TCP_CONGESTION | c::TCP_REPAIR) => return Err(Errno::EPERM),
        _ => {}
    }
    if !inet::listed(&[inet::BOTH, inet::WRITTEN], level, name) {
        return Err(Errno::ENOPROTOOPT);
    }
    if value.len() > MAX_VALUE {
        return Err(Errno::EINVAL);
    }
    host::net::set_option(s.fd(), level, name, value)
}

/// Keeps what a connection of ours goes by, and what accepted sockets start with.
pub fn note(s: &InetSocket, level: i32, name: i32, value: &[u8]) -> Result {
    let number = || -> Result<usize> {
        let mut now = [0; 4];
        host::net::option(s.fd(), level, name, &mut now)?;
        Ok(usize::try_from(i32::from_ne_bytes(now)).unwrap_or(0))
    };
    match (level, name) {
        (c::SOL_SOCKET, c::SO_SNDBUF) => s.limits.send.set(number()?),
        (c::SOL_SOCKET, c::SO_RCVBUF) => s.limits.receive.set(number()?),
        (c::SOL_SOCKET, c::SO_RCVLOWAT) => s.limits.low.set(number()?.max(1)),
        (c::IPPROTO_TCP, c::TCP_CORK) => {
            s.limits.cork.set(number()? != 0);
            s.own().filter(|_| !s.limits.cork.get()).inspect(|end| end.push());
        }
        (c::IPPROTO_TCP, c::TCP_NODELAY) if number()? != 0 => drop(s.own().inspect(|end| end.push())),
        (c::SOL_SOCKET, c::SO_OOBINLINE) => s.limits.inline.set(number()? != 0),
        (c::SOL_SOCKET, c::SO_BINDTODEVICE) => s.limits.host_only.set(true),
        (c::IPPROTO_TCP, c::TCP_DEFER_ACCEPT | c::TCP_FASTOPEN_CONNECT) => s.limits.host_only.set(true),
        // They are ours, and go another way.
        (c::SOL_SOCKET, c::SO_RCVTIMEO | SO_RCVTIMEO_NEW | c::SO_SNDTIMEO | SO_SNDTIMEO_NEW | c::SO_LINGER) => {
            return Ok(());
        }
        _ => {}
    }
    let mut settings = s.settings.borrow_mut();
    settings.retain(|(l, n, _)| (*l, *n) != (level, name));
    settings.push((level, name, value.to_vec()));
    Ok(())
}

/// A close that waits would hold up the kernel thread, so only one that resets the connection (0 seconds) is the host's.
fn linger(s: &InetSocket, value: &[u8]) -> Result {
    let (on, seconds) = (word(value, 0)?, word(value, 4)?);
    let host = [i32::from(on != 0 && seconds == 0), 0].map(i32::to_ne_bytes).concat();
    host::net::set_option(s.fd(), c::SOL_SOCKET, c::SO_LINGER, &host)?;
    s.linger.set((on != 0).then_some(seconds));
    Ok(())
}

fn word(value: &[u8], at: usize) -> Result<i32> {
    let b = value.get(at..at + 4).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// `struct timeval`.
fn timeval(ns: u64) -> Vec<u8> {
    [ns / 1_000_000_000, ns % 1_000_000_000 / 1000].map(u64::to_ne_bytes).concat()
}

/// EDOM: the microseconds are no fraction. Negative seconds mean: at once, which comes to the shortest time there is.
fn nanoseconds(value: &[u8]) -> Result<u64> {
    let half = |at: usize| -> Result<i64> {
        let b = value.get(at..at + 8).ok_or(Errno::EINVAL)?;
        b.try_into().map(i64::from_ne_bytes).map_err(|_| Errno::EINVAL)
    };
    let (seconds, micros) = (half(0)?, half(8)?);
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    match u64::try_from(seconds) {
        Ok(s) => Ok(s.saturating_mul(1_000_000_000).saturating_add(micros as u64 * 1000)),
        Err(_) => Ok(1),
    }
}
