//! Floating point state, between ptrace's format and that of a signal frame: the frame has magic words.
use abi::{Errno, Result};

/// The largest state any processor has, with room to spare.
const MAX: usize = 0x4000;
/// The software's bytes of the FXSAVE image, then the XSAVE header.
const SOFTWARE: usize = 464;
const HEADER: usize = 512;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const MXCSR_MASK: usize = 28;

/// What this host's states look like.
#[derive(Debug)]
pub struct Xstate {
    /// Bytes of a state, and the features it may hold.
    len: usize,
    features: [u8; 8],
}

impl Xstate {
    /// Learns it from a stopped thread, whose state becomes that of a new program.
    pub fn learn(tid: i32) -> Result<Xstate> {
        let mut buf = vec![0u8; MAX];
        let len = host::ptrace::xstate(tid, &mut buf)?;
        if len < HEADER + 64 || len == MAX {
            return Err(Errno::EOPNOTSUPP);
        }
        let features = buf[SOFTWARE..SOFTWARE + 8].try_into().map_err(|_| Errno::EIO)?;
        let mut fresh = vec![0u8; len];
        fresh[..2].copy_from_slice(&0x37fu16.to_ne_bytes());
        fresh[24..28].copy_from_slice(&0x1f80u32.to_ne_bytes());
        fresh[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&buf[MXCSR_MASK..MXCSR_MASK + 4]);
        // x87 and SSE are given, all else is as after a reset.
        fresh[HEADER] = 3;
        host::ptrace::set_xstate(tid, &fresh)?;
        Ok(Xstate { len, features })
    }

    /// Bytes in a signal frame.
    pub fn frame_size(&self) -> u64 {
        self.len as u64 + 4
    }

    /// As ptrace gives it, for [`Self::put`].
    pub fn raw(&self, tid: i32) -> Result<Vec<u8>> {
        let mut buf = vec![0u8; self.len];
        host::ptrace::xstate(tid, &mut buf)?;
        Ok(buf)
    }

    /// As a signal frame holds it.
    pub fn framed(&self, tid: i32) -> Result<Vec<u8>> {
        let mut buf = self.raw(tid)?;
        let size = self.frame_size() as u32;
        buf[SOFTWARE..SOFTWARE + 4].copy_from_slice(&MAGIC1.to_ne_bytes());
        buf[SOFTWARE + 4..SOFTWARE + 8].copy_from_slice(&size.to_ne_bytes());
        buf[SOFTWARE + 8..SOFTWARE + 16].copy_from_slice(&self.features);
        buf[SOFTWARE + 16..SOFTWARE + 20].copy_from_slice(&(self.len as u32).to_ne_bytes());
        buf[SOFTWARE + 20..HEADER].fill(0);
        buf.extend_from_slice(&MAGIC2.to_ne_bytes());
        Ok(buf)
    }

    /// Gives a thread the state, from either format.
    pub fn put(&self, tid: i32, bytes: &[u8]) -> Result {
        let bytes = bytes.get(..self.len).ok_or(Errno::EINVAL)?;
        let mut own = bytes.to_vec();
        // Features this host does not have are refused by it.
        for (b, f) in own[HEADER..HEADER + 8].iter_mut().zip(self.features) {
            *b &= f;
        }
        host::ptrace::set_xstate(tid, &own)
    }
}
