//! Other processes' memory: process_vm_readv(2), process_vm_writev(2).
use crate::args::Flags;
use crate::io::vector;
use abi::sys::Iovec;
use abi::{Errno, PAGE_SIZE, Result};
use guest::{Memory, UserIn};
use std::rc::Rc;
use task::Task;

/// Bytes that are moved at a time, never over the end of a page on either side: what comes before a fault is moved.
const PIECE: usize = PAGE_SIZE as usize;

/// A position in a list of buffers.
struct Cursor<'a> {
    bufs: &'a [(u64, usize)],
    at: usize,
}

impl Cursor<'_> {
    /// The next bytes that lie in one page. `None`: there are no more.
    fn next(&mut self) -> Option<(u64, usize)> {
        while let Some((addr, len)) = self.bufs.first() {
            if self.at < *len {
                let addr = addr.wrapping_add(self.at as u64);
                let to_page_end = (PAGE_SIZE - addr % PAGE_SIZE) as usize;
                return Some((addr, (len - self.at).min(to_page_end)));
            }
            self.bufs = &self.bufs[1..];
            self.at = 0;
        }
        None
    }
}

fn transfer(
    mine: &dyn Memory,
    local: &[(u64, usize)],
    theirs: &dyn Memory,
    remote: &[(u64, usize)],
    write: bool,
) -> Result<usize> {
    let (mut l, mut r) = (Cursor { bufs: local, at: 0 }, Cursor { bufs: remote, at: 0 });
    let mut buf = [0u8; PIECE];
    let mut done = 0;
    while let (Some((la, ln)), Some((ra, rn))) = (l.next(), r.next()) {
        let piece = &mut buf[..ln.min(rn)];
        let moved = if write {
            mine.read_now(la, piece).and_then(|()| theirs.write_now(ra, piece))
        } else {
            theirs.read_now(ra, piece).and_then(|()| mine.write_now(la, piece))
        };
        match moved {
            Ok(()) => {}
            Err(_) if done > 0 => break,
            Err(_) => return Err(Errno::EFAULT),
        }
        let n = piece.len();
        (l.at, r.at, done) = (l.at + n, r.at + n, done + n);
    }
    Ok(done)
}

/// One of the two calls: the arguments are the same.
fn process_vm(t: &Rc<Task>, pid: i32, bufs: [(UserIn<Iovec>, usize); 2], flags: Flags, write: bool) -> Result<usize> {
    flags.only(0)?;
    let [(local, ln), (remote, rn)] = bufs;
    let (local, remote) = (vector(t, local, ln)?, vector(t, remote, rn)?);
    if local.iter().all(|b| b.1 == 0) || remote.iter().all(|b| b.1 == 0) {
        return Ok(0);
    }
    let who = t.find_task(pid).or_else(|| t.find_process(pid)?.leader()).ok_or(Errno::ESRCH)?;
    if !t.may_access(&who, true) {
        return Err(Errno::EPERM);
    }
    // One that has just been made, or is between two programs, shows nothing yet.
    let theirs = who.memory().ok_or(Errno::EFAULT)?;
    transfer(&*t.mem(), &local, &*theirs, &remote, write)
}

pub fn process_vm_readv(
    t: &Rc<Task>,
    pid: i32,
    local: UserIn<Iovec>,
    ln: usize,
    remote: UserIn<Iovec>,
    rn: usize,
    flags: Flags,
) -> Result<usize> {
    process_vm(t, pid, [(local, ln), (remote, rn)], flags, false)
}

pub fn process_vm_writev(
    t: &Rc<Task>,
    pid: i32,
    local: UserIn<Iovec>,
    ln: usize,
    remote: UserIn<Iovec>,
    rn: usize,
    flags: Flags,
) -> Result<usize> {
    process_vm(t, pid, [(local, ln), (remote, rn)], flags, true)
}
