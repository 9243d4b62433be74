//! A socket as an open file: read(2), write(2), poll(2).
use crate::{Caller, Outgoing, Socket};
use abi::{Errno, Result};
use guest::{Memory, Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use vfs::{FileOps, OpenFile, Ready};

/// The file behind a socket's descriptor.
pub struct SocketFile {
    socket: Rc<dyn Socket>,
    /// Who made it: write(2) sends in its maker's name, as nothing tells more at this layer.
    maker: Caller,
    ino: u64,
}

thread_local! {
    static NEXT_INO: Cell<u64> = const { Cell::new(1) };
}

impl SocketFile {
    /// `flags`: O_NONBLOCK.
    pub fn open(socket: Rc<dyn Socket>, maker: Caller, flags: i32) -> Rc<OpenFile> {
        let keep = abi::c::O_RDWR | flags & abi::c::O_NONBLOCK;
        OpenFile::new(Rc::new(SocketFile { socket, maker, ino: NEXT_INO.replace(NEXT_INO.get() + 1) }), keep, None)
    }

    pub fn socket(&self) -> &Rc<dyn Socket> {
        &self.socket
    }
    pub fn maker(&self) -> &Caller {
        &self.maker
    }
    /// The inode number of `socket:[N]`.
    pub fn ino(&self) -> u64 {
        self.ino
    }
}

impl FileOps for SocketFile {
    fn read(&self, file: &OpenFile, dst: &mut dyn Sink, _offset: u64) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        self.socket.receive(dst, flags_of(file)).map(|got| got.len)
    }
    fn write(&self, file: &OpenFile, src: &mut dyn Source, _offset: u64) -> Result<usize> {
        self.socket.send(&self.maker, src, &mut Outgoing { flags: flags_of(file), ..Outgoing::default() })
    }
    fn sigio(&self) -> bool {
        true
    }
    fn urged(&self) -> Option<bool> {
        Some(self.socket.urged())
    }
    fn seekable(&self) -> bool {
        false
    }
    fn takes_whole(&self, len: usize) -> bool {
        self.socket.takes_whole(len)
    }
    fn ready(&self) -> Ready {
        self.socket.ready()
    }
    fn waiters(&self) -> Option<&WaitQueue> {
        Some(self.socket.waiters())
    }
    fn ioctl(&self, _file: &OpenFile, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
        match self.socket.ioctl(mem, cmd, arg) {
            // Questions about interfaces may be asked through any socket.
            Err(Errno::ENOTTY) => crate::inet::interface(mem, cmd, arg),
            r => r,
        }
    }
    fn release(&self, _file: &OpenFile) {
        self.socket.release();
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn flags_of(file: &OpenFile) -> i32 {
    if file.nonblocking() { abi::c::MSG_DONTWAIT } else { 0 }
}
