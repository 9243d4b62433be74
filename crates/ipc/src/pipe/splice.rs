//! Moving bytes between pipes and files without the guest's memory: splice(2), tee(2), and sendfile(2) to a pipe.
//!
//! Nothing here waits: EAGAIN says that [`vfs::FileOps::waiters`] of the pipe end, or of the file, is to be waited on.
use super::{Pipe, PipeEnd};
use abi::{Errno, PAGE_SIZE, Result};
use guest::io::{SliceSink, SliceSource};
use std::rc::Rc;
use vfs::OpenFile;

const PAGE: usize = PAGE_SIZE as usize;

fn reader(end: &PipeEnd) -> Result<&Rc<Pipe>> {
    if end.reads() { Ok(end.pipe()) } else { Err(Errno::EBADF) }
}

/// The pipe to write to. EPIPE if nobody reads.
fn writer(end: &PipeEnd) -> Result<&Rc<Pipe>> {
    match (end.writes(), end.pipe().readers.get()) {
        (false, _) => Err(Errno::EBADF),
        (true, 0) => Err(Errno::EPIPE),
        (true, _) => Ok(end.pipe()),
    }
}

/// Moves up to `len` bytes from a pipe to `file` at `offset`. Returns how many; 0 at the pipe's end.
/// Errors: EAGAIN (the pipe is empty), EBADF, and what the file's write says if nothing was moved.
pub fn splice_from_pipe(from: &PipeEnd, file: &OpenFile, mut offset: u64, len: usize) -> Result<usize> {
    let pipe = reader(from)?;
    let mut done = 0;
    let mut buf = [0; PAGE];
    while done < len {
        // The file's write may come back to this pipe's queue, so the ring is not kept borrowed.
        let n = match pipe.ring.borrow().peek(0) {
            None => break,
            Some((bytes, _)) => {
                let n = bytes.len().min(len - done);
                buf[..n].copy_from_slice(&bytes[..n]);
                n
            }
        };
        let wrote = match file.ops().write(file, &mut SliceSource(&buf[..n]), offset) {
            Ok(0) => break,
            Ok(wrote) => wrote.min(n),
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        let made_room = pipe.ring.borrow_mut().skip(wrote);
        if made_room {
            pipe.wake_writers();
        }
        done += wrote;
        offset = offset.saturating_add(wrote as u64);
        if wrote < n {
            break;
        }
    }
    if done == 0 && len > 0 && pipe.ring.borrow().is_empty() && pipe.writers.get() > 0 {
        return Err(Errno::EAGAIN);
    }
    Ok(done)
}

/// Moves up to `len` bytes from `file` at `offset` to a pipe. Returns how many; 0 at the file's end.
/// Errors: EAGAIN (the pipe is full, or the file has nothing now), EPIPE, EBADF, and what the file's read says.
pub fn splice_to_pipe(file: &OpenFile, mut offset: u64, to: &PipeEnd, len: usize) -> Result<usize> {
    let pipe = writer(to)?;
    let mut done = 0;
    let mut buf = [0; PAGE];
    let mut full = false;
    while done < len {
        full = pipe.ring.borrow().is_full();
        if full {
            break;
        }
        let want = (len - done).min(PAGE);
        let n = match file.ops().read(file, &mut SliceSink::new(&mut buf[..want]), offset) {
            Ok(0) => break,
            Ok(n) => n.min(want),
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        pipe.ring.borrow_mut().push_bytes(&buf[..n], false);
        done += n;
        offset = offset.saturating_add(n as u64);
        if n < want {
            break;
        }
    }
    if done > 0 {
        pipe.wake_readers();
    } else if full && len > 0 {
        return Err(Errno::EAGAIN);
    }
    Ok(done)
}

/// Moves up to `len` bytes from pipe to pipe. Returns how many; 0 at the end.
/// Errors: EAGAIN (empty, or full), EINVAL (the same pipe), EPIPE, EBADF.
pub fn splice(from: &PipeEnd, to: &PipeEnd, len: usize) -> Result<usize> {
    transfer(from, to, len, true)
}

/// As [`splice`], but the bytes stay in the first pipe as well: tee(2).
pub fn tee(from: &PipeEnd, to: &PipeEnd, len: usize) -> Result<usize> {
    transfer(from, to, len, false)
}

fn transfer(from: &PipeEnd, to: &PipeEnd, len: usize, consume: bool) -> Result<usize> {
    let (source, sink) = (reader(from)?, writer(to)?);
    if Rc::ptr_eq(source, sink) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (mut done, mut at, mut made_room) = (0, 0, false);
    {
        let (mut a, mut b) = (source.ring.borrow_mut(), sink.ring.borrow_mut());
        if a.is_empty() {
            return if source.writers.get() == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        while done < len
            && !b.is_full()
            && let Some((bytes, packet)) = a.peek(at)
        {
            let n = bytes.len().min(len - done);
            b.push_bytes(&bytes[..n], packet);
            done += n;
            if consume {
                made_room |= a.skip(n);
            } else {
                at += 1;
            }
        }
    }
    if made_room {
        source.wake_writers();
    }
    if done == 0 {
        return Err(Errno::EAGAIN);
    }
    sink.wake_readers();
    Ok(done)
}
