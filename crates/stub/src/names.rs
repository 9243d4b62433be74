//! Names that are no links, as readlink(2) was told: realpath(3) asks of every directory above a file, each time. What is known
//! here holds while the region says so.
use crate::{Tls, control, reg, sys};
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// Names that a thread knows; a newer one takes an older one's place.
const KNOWN: usize = 64;
/// A name: two sums of its bytes.
type Key = [u64; 2];

#[repr(C)]
pub struct Names {
    /// What the region said when the first of them was told.
    pub number: u64,
    known: [Key; KNOWN],
}

/// The name that the call in `t.regs`, as written to the slot, asks about; if it is one.
pub fn asked(t: &Tls) -> Option<Key> {
    if t.regs[reg::RAX] != sys::READLINK || t.regs[reg::RDX] as i32 <= 0 {
        return None;
    }
    let n = t.slot().ahead.segments[0].len.load(Relaxed) as usize;
    // SAFETY: the slot's data area, to which `write_call` has just copied so many bytes, at most STRING_MAX; nobody writes there
    // before the sentry is asked.
    let name = unsafe { core::slice::from_raw_parts(t.data(), n.min(slots::STRING_MAX)) };
    let (0, path) = name.split_last()? else { return None };
    (path.first() == Some(&b'/')).then(|| key(path))
}

/// Is it known to be no link?
pub fn is_known(t: &Tls, name: Key) -> bool {
    let names = &t.names;
    names.number != 0 && control().names.load(Acquire) == names.number && names.known[place(name)] == name
}

/// It is known from now on, as long as the region says `number`.
pub fn learn(t: &mut Tls, name: Key, number: u64) {
    let names = &mut t.names;
    if names.number != number {
        names.number = number;
        names.known = [[0; 2]; KNOWN];
    }
    names.known[place(name)] = name;
}

fn place(name: Key) -> usize {
    name[0] as usize % KNOWN
}

/// 128 bits, so that two names of one process never meet by chance. A guest that makes them meet deceives itself.
fn key(path: &[u8]) -> Key {
    let mut sums: Key = [0xcbf2_9ce4_8422_2325, path.len() as u64];
    let mut add = |word: u64| {
        sums[0] = (sums[0] ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        sums[1] = (sums[1].rotate_left(23) ^ word).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    };
    let (words, rest) = path.as_chunks::<8>();
    words.iter().for_each(|w| add(u64::from_ne_bytes(*w)));
    add(rest.iter().fold(0, |word, b| word << 8 | u64::from(*b)));
    sums.map(|sum| (sum ^ sum >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)).map(|sum| sum ^ sum >> 32)
}
