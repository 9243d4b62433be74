//! The control socket: AF_UNIX, SOCK_SEQPACKET, never waited for.
use abi::Result;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketFlags};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Descriptors one message may bring: as many as Linux sends at once.
pub const DESCRIPTORS: usize = 253;

/// One message.
#[derive(Debug)]
pub struct Received {
    /// More than the buffer holds: the message was cut off. 0: the peer is gone.
    pub len: usize,
    pub descriptors: Vec<OwnedFd>,
    /// There were more than [`DESCRIPTORS`].
    pub more: bool,
}

/// Makes the socket one that does not wait; whether it is one to accept from.
pub fn prepare(fd: BorrowedFd<'_>) -> Result<bool> {
    let flags = rustix::fs::fcntl_getfl(fd).map_err(crate::errno)?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(crate::errno)?;
    rustix::net::sockopt::socket_acceptconn(fd).map_err(crate::errno)
}

/// accept4(2). EAGAIN: nobody waits.
pub fn accept(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::net::accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).map_err(crate::errno)
}

/// recvmsg(2). EAGAIN: there is no message.
pub fn receive(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [std::io::IoSliceMut::new(buf)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    let n = rustix::net::recvmsg(fd, &mut iov, &mut control, flags).map_err(crate::errno)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    // Alignment may leave room for one more than was asked for.
    let more = n.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > DESCRIPTORS;
    Ok(Received { len: n.bytes, descriptors, more })
}

/// One message, whole or not at all. EAGAIN: there is no room now.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result {
    rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop).map_err(crate::errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Errno;
    use std::os::fd::AsFd;

    #[test]
    fn messages_with_too_much_in_them() {
        let (a, b) = crate::stub::socketpair().unwrap();
        assert_eq!(prepare(b.as_fd()), Ok(false));
        let mut buf = [0; 4];
        assert_eq!(receive(b.as_fd(), &mut buf).unwrap_err(), Errno::EAGAIN);
        send(a.as_fd(), b"hello").unwrap();
        assert_eq!(receive(b.as_fd(), &mut buf).unwrap().len, 5);
        for given in [0, 1, 3, 8, DESCRIPTORS] {
            let fds = vec![a.as_fd(); given];
            crate::stub::send_fds(a.as_fd(), b"x", &fds).unwrap();
            let got = receive(b.as_fd(), &mut buf).unwrap();
            assert_eq!((got.len, got.more, got.descriptors.len()), (1, false, given));
        }
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buf).unwrap().len, 0);
        assert_eq!(send(b.as_fd(), b"x"), Err(Errno::EPIPE));
    }
}
