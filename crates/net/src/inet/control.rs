//! Control information as bytes, cmsg(3), on its way to the host and back.
use crate::Control;
use abi::{Errno, Result, c};

/// `struct cmsghdr`: length, level, type.
const HEADER: usize = 16;

const fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// What a guest may send along.
const ALLOWED: [(i32, i32); 6] = [
    (c::IPPROTO_IP, c::IP_PKTINFO),
    (c::IPPROTO_IP, c::IP_TTL),
    (c::IPPROTO_IP, c::IP_TOS),
    (c::IPPROTO_IPV6, c::IPV6_PKTINFO),
    (c::IPPROTO_IPV6, c::IPV6_HOPLIMIT),
    (c::IPPROTO_IPV6, c::IPV6_TCLASS),
];

/// EINVAL for what is not allowed. Descriptors and credentials mean nothing to these sockets.
pub fn encode(list: &[Control]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for item in list {
        let Control::Raw { level, kind, data } = item else { continue };
        if !ALLOWED.contains(&(*level, *kind)) || data.len() > super::MAX_CONTROL {
            return Err(Errno::EINVAL);
        }
        out.extend_from_slice(&(HEADER + data.len()).to_ne_bytes());
        out.extend_from_slice(&level.to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(data);
        out.resize(padded(out.len()), 0);
    }
    Ok(out)
}

/// What the host told.
pub fn decode(mut bytes: &[u8]) -> Vec<Control> {
    let mut out = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let word = |at: usize| i32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let len = word(0) as usize;
        let Some(data) = bytes.get(HEADER..len) else { break };
        out.push(Control::Raw { level: word(8), kind: word(12), data: data.to_vec() });
        bytes = bytes.get(padded(len)..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back() {
        let raw = |kind, data: &[u8]| Control::Raw { level: c::IPPROTO_IP, kind, data: data.to_vec() };
        let bytes = encode(&[raw(c::IP_TTL, &[7, 0, 0, 0]), raw(c::IP_TOS, &[1])]).unwrap();
        assert_eq!(bytes.len(), 48);
        let back = decode(&bytes);
        let shown: Vec<_> = back
            .iter()
            .map(|item| match item {
                Control::Raw { level, kind, data } => (*level, *kind, data.clone()),
                _ => unreachable!("only raw ones"),
            })
            .collect();
        assert_eq!(shown, [(0, c::IP_TTL, vec![7, 0, 0, 0]), (0, c::IP_TOS, vec![1])]);
        assert_eq!(encode(&[raw(c::IP_OPTIONS, &[])]), Err(Errno::EINVAL));
        assert!(decode(&bytes[..19]).is_empty());
    }
}
