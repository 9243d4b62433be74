//! One socket, whatever its family.
use crate::Address;
use abi::socket::Ucred;
use abi::{Errno, Result};
use guest::{Memory, Sink, Source};
use kernel::cred::Cred;
use kernel::wait::WaitQueue;
use std::any::Any;
use std::rc::Rc;
use vfs::{OpenFile, Ready};

/// Who makes a call.
#[derive(Debug, Clone)]
pub struct Caller {
    pub pid: i32,
    pub cred: Rc<Cred>,
}

impl Caller {
    /// As SO_PEERCRED shows it to the peer.
    pub fn ucred(&self) -> Ucred {
        Ucred { pid: self.pid, uid: self.cred.euid, gid: self.cred.egid }
    }
}

/// Control information, cmsg(3), decoded.
pub enum Control {
    /// SCM_RIGHTS: descriptions on their way.
    Rights(Vec<Rc<OpenFile>>),
    /// SCM_CREDENTIALS: already checked against the sender when it is sent.
    Credentials(Ucred),
    /// Any other (IP_PKTINFO, SO_TIMESTAMP …): level, type, and the bytes as they are.
    Raw { level: i32, kind: i32, data: Vec<u8> },
}

/// What is sent beside the bytes.
#[derive(Default)]
pub struct Outgoing {
    /// `None`: to the peer.
    pub to: Option<Address>,
    pub control: Vec<Control>,
    /// MSG_ flags; MSG_NOSIGNAL is the layer above's. MSG_DONTWAIT: the call will not wait, for whatever reason.
    pub flags: i32,
}

/// What was received beside the bytes.
#[derive(Default)]
pub struct Incoming {
    /// Bytes taken from the socket; with MSG_TRUNC asked for, the message's whole length.
    pub len: usize,
    pub from: Option<Address>,
    pub control: Vec<Control>,
    /// MSG_TRUNC, MSG_EOR, MSG_OOB …; MSG_CTRUNC is the layer above's.
    pub flags: i32,
}

/// What accept(2) took from the queue.
pub struct Accepted {
    pub socket: Rc<dyn Socket>,
    pub peer: Address,
}

/// What stands behind a socket's descriptor.
///
/// Nothing here waits: what cannot be done now is EAGAIN, and [`waiters`](Self::waiters) is woken when it may be.
/// The system call layer waits or not, as O_NONBLOCK, MSG_DONTWAIT and the timeouts (SO_RCVTIMEO, which it asks for
/// by [`timeouts`](Self::timeouts)) say.
pub trait Socket: Any {
    /// AF_UNIX …
    fn domain(&self) -> i32;
    /// SOCK_STREAM …, without flags.
    fn kind(&self) -> i32;
    fn protocol(&self) -> i32 {
        0
    }
    fn bind(&self, caller: &Caller, to: Address) -> Result;
    fn listen(&self, _caller: &Caller, _backlog: i32) -> Result {
        Err(Errno::EOPNOTSUPP)
    }
    /// EINPROGRESS: begun; the caller waits for OUT, ERR or HUP and asks [`take_error`](Self::take_error).
    /// EAGAIN: the listener's queue is full; to be tried again.
    fn connect(&self, caller: &Caller, to: Address) -> Result;
    fn accept(&self, _caller: &Caller) -> Result<Accepted> {
        Err(Errno::EOPNOTSUPP)
    }
    /// getsockname(2).
    fn name(&self) -> Result<Address>;
    /// getpeername(2); ENOTCONN.
    fn peer(&self) -> Result<Address>;
    /// Sends what it can of `src`; for a stream, perhaps not all. The control information goes with the first byte.
    fn send(&self, caller: &Caller, src: &mut dyn Source, out: &mut Outgoing) -> Result<usize>;
    /// `flags`: MSG_PEEK, MSG_TRUNC, MSG_OOB …; MSG_DONTWAIT: the call will not wait, for whatever reason.
    fn receive(&self, dst: &mut dyn Sink, flags: i32) -> Result<Incoming>;
    /// Whether a send of `len` bytes is now done whole or not at all, as [`vfs::FileOps::takes_whole`].
    fn takes_whole(&self, _len: usize) -> bool {
        true
    }
    /// SHUT_RD …
    fn shutdown(&self, how: i32) -> Result;
    /// The value's bytes; the layer above cuts them to the guest's room. `optval`: the bytes the guest gave, for the few
    /// options that read them. ENOPROTOOPT for what is not on the list.
    fn get_option(&self, level: i32, name: i32, optval: &[u8]) -> Result<Vec<u8>>;
    fn set_option(&self, caller: &Caller, level: i32, name: i32, value: &[u8]) -> Result;
    /// The error waiting to be told (SO_ERROR), taken.
    fn take_error(&self) -> Option<Errno> {
        None
    }
    /// SO_RCVTIMEO and SO_SNDTIMEO, nanoseconds.
    fn timeouts(&self) -> (Option<u64>, Option<u64>) {
        (None, None)
    }
    fn ready(&self) -> Ready;
    fn waiters(&self) -> &WaitQueue;
    /// FIONREAD, SIOCGIFCONF …
    fn ioctl(&self, _mem: &dyn Memory, _cmd: u32, _arg: u64) -> Result<i64> {
        Err(Errno::ENOTTY)
    }
    /// The last descriptor is closed.
    /// Bytes that wait to be taken by the peer, and to be received.
    fn queued(&self) -> (usize, usize) {
        (0, 0)
    }
    /// Urgent data has come since this was last asked, socket(7) (SIGURG).
    fn urged(&self) -> bool {
        false
    }
    fn release(&self) {}
    fn as_any(&self) -> &dyn Any;
}
