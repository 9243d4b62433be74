//! Debug registers of a tracee: up to four breakpoints and watchpoints. ptrace(2), PTRACE_POKEUSER.
//!
//! The processor's own are not a guest's. A thread with an enabled one goes on instruction by instruction, and the kernel
//! compares. So a watchpoint tells of a new value, not of the same one written again, and reads cannot be watched: EINVAL.
use abi::{Errno, Result};
use kernel::mm::USER_END;

const COUNT: usize = 4;
const STATUS: usize = 6;
const CONTROL: usize = 7;
/// Bits of the control register that do not exist.
const RESERVED: u64 = 0xffff_ffff_0000_fc00;

/// What an enabled register looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Execution,
    /// Of so many bytes.
    Write(usize),
}

#[derive(Debug, Default)]
pub struct Debug {
    addr: [u64; COUNT],
    status: u64,
    control: u64,
    /// What was last read there.
    seen: [Option<u64>; COUNT],
    /// Where a breakpoint has been told of: it is passed once. The resume flag.
    passes: Option<u64>,
}

/// What `control` has register `n` look at, at `addr`; None: it is not enabled. EINVAL: that cannot be.
fn kind(control: u64, n: usize, addr: u64) -> Result<Option<Kind>> {
    if control >> (2 * n) & 3 == 0 {
        return Ok(None);
    }
    let size = [1, 2, 8, 4][(control >> (18 + 4 * n) & 3) as usize];
    match control >> (16 + 4 * n) & 3 {
        0 if size == 1 => Ok(Some(Kind::Execution)),
        1 if addr.is_multiple_of(size) => Ok(Some(Kind::Write(size as usize))),
        _ => Err(Errno::EINVAL),
    }
}

impl Debug {
    pub fn peek(&self, n: usize) -> u64 {
        match n {
            0..COUNT => self.addr[n],
            STATUS => self.status,
            CONTROL => self.control,
            _ => 0,
        }
    }

    /// EIO: there is no such register. EINVAL: an address that is no program's, or not aligned, or what cannot be watched.
    pub fn poke(&mut self, n: usize, value: u64) -> Result {
        match n {
            0..COUNT if value >= USER_END => return Err(Errno::EINVAL),
            0..COUNT => {
                kind(self.control, n, value)?;
                self.addr[n] = value;
                self.seen[n] = None;
            }
            STATUS => self.status = value,
            CONTROL => {
                let value = value & !RESERVED;
                for (i, addr) in self.addr.iter().enumerate() {
                    kind(value, i, *addr)?;
                }
                self.control = value;
            }
            _ => return Err(Errno::EIO),
        }
        Ok(())
    }

    /// One is enabled: the thread goes on step by step.
    pub fn armed(&self) -> bool {
        self.control & 0xff != 0
    }

    fn enabled(&self) -> impl Iterator<Item = (usize, u64, Kind)> + use<> {
        let (addr, control) = (self.addr, self.control);
        (0..COUNT).filter_map(move |n| Some((n, addr[n], kind(control, n, addr[n]).ok()??)))
    }

    /// The thread is about to execute what is at `ip`. True: it has met a breakpoint there, and stops first.
    pub fn meets(&mut self, ip: u64) -> bool {
        let here = self.enabled().filter(|&(_, addr, kind)| kind == Kind::Execution && addr == ip);
        let bits = here.fold(0, |bits, (n, ..)| bits | 1 << n);
        if bits == 0 || self.passes == Some(ip) {
            return false;
        }
        self.passes = Some(ip);
        self.status |= bits;
        true
    }

    /// What is watched is now as `read` tells.
    pub fn look(&mut self, read: impl Fn(u64, &mut [u8]) -> Result) {
        for (n, addr, kind) in self.enabled() {
            self.seen[n] = value(addr, kind, &read);
        }
    }

    /// The thread has made a step. True: something watched is not what it was.
    pub fn stepped(&mut self, read: impl Fn(u64, &mut [u8]) -> Result) -> bool {
        self.passes = None;
        let was = self.seen;
        self.look(read);
        let bits = (0..COUNT).filter(|&n| was[n].is_some() && self.seen[n] != was[n]).fold(0, |bits, n| bits | 1 << n);
        self.status |= bits;
        bits != 0
    }
}

fn value(addr: u64, kind: Kind, read: &impl Fn(u64, &mut [u8]) -> Result) -> Option<u64> {
    let Kind::Write(size) = kind else { return None };
    let mut word = [0; 8];
    read(addr, &mut word[..size]).ok()?;
    Some(u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let mut d = Debug::default();
        assert_eq!(d.poke(0, USER_END), Err(Errno::EINVAL));
        assert_eq!(d.poke(4, 0), Err(Errno::EIO));
        d.poke(0, 0x1001).unwrap();
        // Reads; ports; two bytes at an odd address; a breakpoint of two bytes.
        for control in [0x3_0001, 0x2_0001, 0x5_0001, 0x4_0001] {
            assert_eq!(d.poke(CONTROL, control), Err(Errno::EINVAL));
        }
        assert!(!d.armed());
        d.poke(CONTROL, 0x1_0001).unwrap();
        assert!(d.armed());
        assert_eq!(d.peek(CONTROL), 0x1_0001);
    }

    #[test]
    fn a_new_value_is_told_once() {
        let mut d = Debug::default();
        d.poke(1, 0x1000).unwrap();
        d.poke(CONTROL, 0x50_0004).unwrap();
        let with = |v: u16| {
            move |_: u64, b: &mut [u8]| -> Result {
                b.copy_from_slice(&v.to_le_bytes());
                Ok(())
            }
        };
        d.look(with(1));
        assert!(!d.stepped(with(1)));
        assert!(d.stepped(with(2)));
        assert_eq!(d.peek(STATUS), 2);
        assert!(!d.stepped(with(2)));
    }

    #[test]
    fn a_breakpoint_is_passed_once() {
        let mut d = Debug::default();
        d.poke(0, 0x1000).unwrap();
        d.poke(CONTROL, 1).unwrap();
        assert!(!d.meets(0xfff));
        assert!(d.meets(0x1000));
        assert!(!d.meets(0x1000));
        d.stepped(|_, _| Ok(()));
        assert!(d.meets(0x1000));
    }
}
