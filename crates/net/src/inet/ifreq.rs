//! The questions about interfaces that are asked by ioctl(2), netdevice(7).
use crate::route::{Assigned, Link, Routes};
use abi::{Errno, Result, c};
use guest::Memory;

/// `struct ifreq`: a name, then what is asked for.
const IFREQ: usize = 40;
const NAME: usize = 16;
/// The most interfaces SIOCGIFCONF tells of.
const MAX_CONF: usize = 1024;

/// ENOTTY for what is not about interfaces; EPERM for what would change one.
pub fn ioctl(routes: &Routes, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
    let cmd = u64::from(cmd);
    match cmd {
        c::SIOCGIFCONF => conf(routes, mem, arg),
        c::SIOCGIFNAME
        | c::SIOCGIFFLAGS
        | c::SIOCGIFADDR
        | c::SIOCGIFDSTADDR
        | c::SIOCGIFBRDADDR
        | c::SIOCGIFNETMASK
        | c::SIOCGIFMETRIC
        | c::SIOCGIFMTU
        | c::SIOCGIFHWADDR
        | c::SIOCGIFINDEX
        | c::SIOCGIFTXQLEN => one(routes, mem, cmd, arg),
        c::SIOCSIFNAME
        | c::SIOCSIFFLAGS
        | c::SIOCSIFADDR
        | c::SIOCSIFDSTADDR
        | c::SIOCSIFBRDADDR
        | c::SIOCSIFNETMASK
        | c::SIOCSIFMETRIC
        | c::SIOCSIFMTU
        | c::SIOCSIFHWADDR
        | c::SIOCSIFTXQLEN => {
            mem.read(arg, &mut [0; IFREQ])?;
            Err(Errno::EPERM)
        }
        c::SIOCADDRT | c::SIOCDELRT | c::SIOCSARP | c::SIOCDARP => Err(Errno::EPERM),
        _ => Err(Errno::ENOTTY),
    }
}

/// `struct sockaddr_in` without a port.
fn sockaddr(ip: &[u8]) -> [u8; 16] {
    let mut b = [0; 16];
    b[..2].copy_from_slice(&(c::AF_INET as u16).to_ne_bytes());
    b[4..8].copy_from_slice(ip);
    b
}

fn v4(routes: &Routes) -> Result<Vec<Assigned>> {
    let mut all = routes.addresses()?;
    all.retain(|a| i32::from(a.family) == c::AF_INET && a.local.len() == 4 && a.address.len() == 4);
    Ok(all)
}

fn named(name: &str) -> [u8; IFREQ] {
    let mut b = [0; IFREQ];
    let n = name.len().min(NAME - 1);
    b[..n].copy_from_slice(&name.as_bytes()[..n]);
    b
}

/// `struct ifconf`: how many bytes there is room for, and where. Without room: how many it would be.
fn conf(routes: &Routes, mem: &dyn Memory, arg: u64) -> Result<i64> {
    let mut b = [0; 16];
    mem.read(arg, &mut b)?;
    let room = i32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
    let to = u64::from_ne_bytes(b[8..].try_into().map_err(|_| Errno::EFAULT)?);
    let mut out = Vec::new();
    for a in v4(routes)?.iter().take(MAX_CONF) {
        let mut r = named(&a.label);
        r[NAME..32].copy_from_slice(&sockaddr(&a.local));
        out.extend_from_slice(&r);
    }
    if to != 0 {
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        out.truncate(room / IFREQ * IFREQ);
        mem.write(to, &out)?;
    }
    mem.write(arg, &(out.len() as i32).to_ne_bytes())?;
    Ok(0)
}

fn one(routes: &Routes, mem: &dyn Memory, cmd: u64, arg: u64) -> Result<i64> {
    let mut req = [0; IFREQ];
    mem.read(arg, &mut req)?;
    let links = routes.links()?;
    if cmd == c::SIOCGIFNAME {
        let index = i32::from_ne_bytes([req[16], req[17], req[18], req[19]]);
        let l = links.iter().find(|l| l.index == index).ok_or(Errno::ENODEV)?;
        mem.write(arg, &named(&l.name)[..NAME])?;
        return Ok(0);
    }
    let end = req[..NAME].iter().position(|b| *b == 0).unwrap_or(NAME - 1);
    let name = std::str::from_utf8(&req[..end]).map_err(|_| Errno::ENODEV)?;
    // An alias (eth0:1) is one of the interface's addresses.
    let base = name.split_once(':').map_or(name, |(b, _)| b);
    let l = links.iter().find(|l| l.name == base).ok_or(Errno::ENODEV)?;
    let value = answer(routes, cmd, l, name)?;
    mem.write(arg + NAME as u64, &value)?;
    Ok(0)
}

fn answer(routes: &Routes, cmd: u64, l: &Link, label: &str) -> Result<Vec<u8>> {
    let number = |v: u32| Ok(v.to_ne_bytes().to_vec());
    match cmd {
        c::SIOCGIFFLAGS => Ok((l.flags as u16).to_ne_bytes().to_vec()),
        c::SIOCGIFMETRIC => number(0),
        c::SIOCGIFMTU => number(l.mtu),
        c::SIOCGIFINDEX => number(l.index as u32),
        c::SIOCGIFTXQLEN => number(l.queue),
        c::SIOCGIFHWADDR => {
            let mut b = [0; 16];
            b[..2].copy_from_slice(&l.kind.to_ne_bytes());
            let n = l.address.len().min(14);
            b[2..2 + n].copy_from_slice(&l.address[..n]);
            Ok(b.to_vec())
        }
        _ => {
            let all = v4(routes)?;
            let a = all.iter().find(|a| a.index == l.index && a.label == label).ok_or(Errno::EADDRNOTAVAIL)?;
            let ip = match cmd {
                c::SIOCGIFADDR => a.local.clone(),
                c::SIOCGIFDSTADDR => a.address.clone(),
                c::SIOCGIFBRDADDR if a.broadcast.len() == 4 => a.broadcast.clone(),
                c::SIOCGIFBRDADDR => vec![0; 4],
                _ => u32::MAX.checked_shl(32 - u32::from(a.prefix.min(32))).unwrap_or(0).to_be_bytes().to_vec(),
            };
            Ok(sockaddr(&ip).to_vec())
        }
    }
}
