//! What the sandbox may reach, beyond what its network namespace lets it: asked at every bind, connect, send to an
//! address, and accept.
use abi::{Errno, Result};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// What is about to be done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Bind,
    Connect,
    Send,
    /// The address is the peer's.
    Accept,
}

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    first: IpAddr,
    bits: u32,
}

impl Net {
    /// `1.2.3.0/24`, `fc00::/7`, or one address.
    pub fn parse(text: &str) -> Option<Net> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let first: IpAddr = ip.parse().ok()?;
        let all = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(all), |b| b.parse().ok()).filter(|b| *b <= all)?;
        Some(Net { first, bits })
    }

    /// An IPv4 address is what it is, also in its IPv6 form.
    pub fn has(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0,
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// One line of a policy.
#[derive(Debug, Clone)]
pub struct Rule {
    pub allow: bool,
    /// `None`: every act but a bind, which is about an address of our own.
    pub act: Option<Act>,
    pub net: Net,
    pub ports: RangeInclusive<u16>,
}

/// Rules in order; the first that fits decides, and if none does the act is allowed.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub rules: Vec<Rule>,
}

impl Policy {
    /// EPERM as from the host's own packet filter; a peer who may not come in is not seen at all.
    pub fn check(&self, act: Act, to: &SocketAddr) -> Result {
        if self.rules.is_empty() {
            return Ok(());
        }
        let about = |r: &&Rule| r.act.map_or(act != Act::Bind, |a| a == act);
        let fits = |r: &&Rule| about(r) && r.net.has(to.ip()) && r.ports.contains(&to.port());
        match self.rules.iter().find(fits) {
            Some(r) if !r.allow => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_rule_that_fits_decides() {
        let rule = |allow, net, ports| Rule { allow, act: None, net: Net::parse(net).unwrap(), ports };
        let p = Policy {
            rules: vec![
                rule(true, "10.1.0.0/16", 443..=443),
                rule(false, "10.0.0.0/8", 0..=u16::MAX),
                rule(false, "fc00::/7", 0..=u16::MAX),
                rule(false, "0.0.0.0/0", 25..=25),
            ],
        };
        let says = |to: &str| p.check(Act::Connect, &to.parse().unwrap());
        assert_eq!(p.check(Act::Bind, &"10.9.9.9:80".parse().unwrap()), Ok(()));
        assert_eq!(says("10.1.2.3:443"), Ok(()));
        assert_eq!(says("10.1.2.3:80"), Err(Errno::EPERM));
        assert_eq!(says("[::ffff:10.9.9.9]:80"), Err(Errno::EPERM));
        assert_eq!(says("[fd00::1]:80"), Err(Errno::EPERM));
        assert_eq!(says("[2001:db8::1]:25"), Ok(()));
        assert_eq!(says("8.8.8.8:25"), Err(Errno::EPERM));
        assert_eq!(says("8.8.8.8:53"), Ok(()));
        assert!(Net::parse("1.2.3.4/33").is_none() && Net::parse("x").is_none());
    }
}
