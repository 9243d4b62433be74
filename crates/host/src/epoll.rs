//! A host epoll instance with 64-bit tokens.
use abi::Result;
use rustix::event::epoll;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP, edge-triggered.
pub const EDGE_IN_OUT: u32 = 0x1 | 0x2 | 0x4 | 0x2000 | (1 << 31);
/// EPOLLIN, level-triggered.
pub const LEVEL_IN: u32 = 0x1;

/// EPOLLHUP
pub const HANG_UP: u32 = 0x10;

#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> Result<Epoll> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Epoll).map_err(crate::errno)
    }

    /// Another descriptor of the same instance, for another thread.
    pub fn share(&self) -> Result<Epoll> {
        self.0.try_clone().map(Epoll).map_err(|_| abi::Errno::EMFILE)
    }

    pub fn add(&self, fd: BorrowedFd<'_>, events: u32, token: u64) -> Result {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token), epoll::EventFlags::from_bits_retain(events))
            .map_err(crate::errno)
    }

    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result {
        epoll::delete(&self.0, fd).map_err(crate::errno)
    }

    /// Fills `(token, events)` pairs; a signal counts as nothing ready.
    pub fn wait(&self, out: &mut [(u64, u32)], timeout_ns: Option<u64>) -> Result<usize> {
        let mut buf = [const { std::mem::MaybeUninit::uninit() }; 64];
        let max = out.len().min(64);
        let ts = timeout_ns
            .map(|n| rustix::time::Timespec { tv_sec: (n / 1_000_000_000) as i64, tv_nsec: (n % 1_000_000_000) as _ });
        let got = match epoll::wait(&self.0, &mut buf[..max], ts.as_ref()) {
            Ok((got, _)) => got,
            Err(rustix::io::Errno::INTR) => return Ok(0),
            Err(e) => return Err(crate::errno(e)),
        };
        for (o, e) in out.iter_mut().zip(got.iter()) {
            let flags = e.flags;
            *o = (e.data.u64(), flags.bits());
        }
        Ok(got.len())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
