//! The options of SOL_SOCKET that a socket keeps itself: socket(7).
use crate::Caller;
use abi::sys::Timeval;
use abi::{Errno, Result, c};
use kernel::cred::CAP_NET_ADMIN;
use std::cell::Cell;
use zerocopy::{FromBytes, IntoBytes};

/// net.core.wmem_default and wmem_max, and the same of rmem.
const BUFFER: usize = 212_992;
const BUFFER_MAX: u32 = 212_992;
/// The most SO_SNDBUFFORCE gives.
const FORCED_MAX: u32 = 8 << 20;
/// SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF.
const SEND_MIN: usize = 4608;
const RECEIVE_MIN: usize = 2304;

/// Options a socket keeps, with Linux's defaults and limits.
#[derive(Debug)]
pub struct Options {
    /// SO_SNDBUF and SO_RCVBUF as getsockopt(2) tells them: twice what was asked for.
    pub send_buffer: Cell<usize>,
    pub receive_buffer: Cell<usize>,
    /// Nanoseconds.
    pub receive_timeout: Cell<Option<u64>>,
    pub send_timeout: Cell<Option<u64>>,
    pub pass_cred: Cell<bool>,
    /// SO_LINGER: on, seconds.
    linger: Cell<(i32, i32)>,
    priority: Cell<i32>,
    /// SO_REUSEADDR …: bit by option number.
    switches: Cell<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            send_buffer: Cell::new(BUFFER),
            receive_buffer: Cell::new(BUFFER),
            receive_timeout: Cell::new(None),
            send_timeout: Cell::new(None),
            pass_cred: Cell::new(false),
            linger: Cell::default(),
            priority: Cell::default(),
            switches: Cell::default(),
        }
    }
}

/// Kept and told, without effect on sockets that do not leave the machine.
const SWITCHES: [i32; 6] =
    [c::SO_REUSEADDR, c::SO_DONTROUTE, c::SO_BROADCAST, c::SO_KEEPALIVE, c::SO_OOBINLINE, c::SO_NO_CHECK];

fn int(value: &[u8]) -> Result<i32> {
    i32::read_from_prefix(value).map(|(v, _)| v).map_err(|_| Errno::EINVAL)
}

fn timeout(value: &[u8]) -> Result<Option<u64>> {
    let (tv, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if !(0..1_000_000).contains(&tv.usec) {
        return Err(Errno::EDOM);
    }
    Ok(match (tv.sec, tv.usec) {
        (0, 0) => None,
        (..0, _) => Some(0),
        _ => Some(tv.ns()?),
    })
}

fn timeval(ns: Option<u64>) -> Vec<u8> {
    Timeval::from_ns(ns.unwrap_or(0)).as_bytes().to_vec()
}

impl Options {
    /// The option's bytes. ENOPROTOOPT for those that are not kept here.
    pub fn get(&self, name: i32) -> Result<Vec<u8>> {
        let value = match name {
            c::SO_SNDBUF => self.send_buffer.get() as i32,
            c::SO_RCVBUF => self.receive_buffer.get() as i32,
            c::SO_RCVTIMEO => return Ok(timeval(self.receive_timeout.get())),
            c::SO_SNDTIMEO => return Ok(timeval(self.send_timeout.get())),
            c::SO_PASSCRED => i32::from(self.pass_cred.get()),
            c::SO_LINGER => {
                let (on, seconds) = self.linger.get();
                return Ok([on, seconds].as_bytes().to_vec());
            }
            c::SO_PRIORITY => self.priority.get(),
            c::SO_RCVLOWAT | c::SO_SNDLOWAT => 1,
            c::SO_REUSEPORT | c::SO_DEBUG | c::SO_TIMESTAMP | c::SO_TIMESTAMPNS | c::SO_MARK | c::SO_RXQ_OVFL => 0,
            _ if SWITCHES.contains(&name) => i32::from(self.switches.get() & 1 << name != 0),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(value.to_ne_bytes().to_vec())
    }

    /// Errors: EINVAL (too short), EDOM (a bad timeout), EPERM, EACCES, ENOPROTOOPT (not kept here).
    pub fn set(&self, caller: &Caller, name: i32, value: &[u8]) -> Result {
        let v = int(value)?;
        let admin = caller.cred.has(CAP_NET_ADMIN);
        // A negative size is a very large one.
        let buffer = |max: u32, min: usize| ((v as u32).min(max) as usize * 2).max(min);
        match name {
            c::SO_SNDBUF => self.send_buffer.set(buffer(BUFFER_MAX, SEND_MIN)),
            c::SO_RCVBUF => self.receive_buffer.set(buffer(BUFFER_MAX, RECEIVE_MIN)),
            c::SO_SNDBUFFORCE | c::SO_RCVBUFFORCE if !admin => return Err(Errno::EPERM),
            c::SO_SNDBUFFORCE => self.send_buffer.set(buffer(FORCED_MAX, SEND_MIN)),
            c::SO_RCVBUFFORCE => self.receive_buffer.set(buffer(FORCED_MAX, RECEIVE_MIN)),
            c::SO_RCVTIMEO => self.receive_timeout.set(timeout(value)?),
            c::SO_SNDTIMEO => self.send_timeout.set(timeout(value)?),
            c::SO_PASSCRED => self.pass_cred.set(v != 0),
            c::SO_LINGER => {
                let pair = <[i32; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?.0;
                self.linger.set(if pair[0] == 0 { (0, self.linger.get().1) } else { (1, pair[1]) });
            }
            c::SO_PRIORITY if !(0..=6).contains(&v) && !admin => return Err(Errno::EPERM),
            c::SO_PRIORITY => self.priority.set(v),
            c::SO_DEBUG if v == 0 => {}
            c::SO_DEBUG => return Err(Errno::EACCES),
            c::SO_MARK => return Err(Errno::EPERM),
            c::SO_RCVLOWAT if v <= 1 => {}
            c::SO_TIMESTAMP | c::SO_TIMESTAMPNS | c::SO_RXQ_OVFL if v == 0 => {}
            _ if SWITCHES.contains(&name) => {
                let bit = 1 << name;
                self.switches.set(self.switches.get() & !bit | if v != 0 { bit } else { 0 });
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}
