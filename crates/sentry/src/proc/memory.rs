//! /proc/PID/mem: a process's memory as a file.
use abi::{Errno, PAGE_SIZE, Result};
use guest::{Memory, Sink, Source};
use std::any::Any;
use std::rc::{Rc, Weak};
use task::{Kernel, Mm, Process};
use vfs::{FileOps, OpenFile};

/// Is it the path of such a file?
pub fn is(path: &str) -> bool {
    let mut parts = path.split('/');
    let pid = |p: Option<&str>| p.is_some_and(|p| p.parse::<u32>().is_ok());
    match (pid(parts.next()), parts.next()) {
        (true, Some("mem")) => parts.next().is_none(),
        (true, Some("task")) => pid(parts.next()) && parts.next() == Some("mem") && parts.next().is_none(),
        _ => false,
    }
}

/// Opens it for thread `caller`. EACCES unless that may access the process.
pub fn open(k: &Rc<Kernel>, pid: i32, caller: i32) -> Result<Rc<dyn FileOps>> {
    let process = k.process(pid).or_else(|| Some(k.task(pid)?.process.clone())).ok_or(Errno::ENOENT)?;
    let who = process.leader().ok_or(Errno::ESRCH)?;
    let me = k.task(caller).ok_or(Errno::ESRCH)?;
    if !me.may_access(&who) {
        return Err(Errno::EACCES);
    }
    Ok(Rc::new(MemoryFile { process: process.weak(), mm: Rc::downgrade(&who.mm()) }))
}

/// The address space that the process had when the file was opened.
struct MemoryFile {
    process: Weak<Process>,
    mm: Weak<Mm>,
}

impl MemoryFile {
    /// `None`: the address space is gone.
    fn memory(&self) -> Option<Rc<dyn Memory>> {
        let (p, mm) = (self.process.upgrade()?, self.mm.upgrade()?);
        p.threads().iter().find(|t| Rc::ptr_eq(&t.mm(), &mm))?.memory()
    }
}

/// How much of `want` lies in the page of `at`.
fn piece(at: u64, want: usize) -> usize {
    want.min((PAGE_SIZE - at % PAGE_SIZE) as usize)
}

impl FileOps for MemoryFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Some(mem) = self.memory() else { return Ok(0) };
        let mut buf = [0u8; PAGE_SIZE as usize];
        let mut done = 0;
        while dst.remaining() > 0 {
            let at = offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let n = piece(at, dst.remaining());
            if mem.read_now(at, &mut buf[..n]).is_err() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            done += dst.put(&buf[..n])?;
        }
        Ok(done)
    }

    fn write(&self, _file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let Some(mem) = self.memory() else { return Ok(0) };
        let mut buf = [0u8; PAGE_SIZE as usize];
        let mut done = 0;
        while src.remaining() > 0 {
            let at = offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let n = piece(at, src.remaining());
            let n = src.take(&mut buf[..n])?;
            if mem.write_now(at, &buf[..n]).is_err() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            done += n;
        }
        Ok(done)
    }

    fn truncate(&self, _len: u64) -> Result {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
