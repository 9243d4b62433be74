//! /proc/PID/mem: a process's memory as a file.
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::{Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::rc::{Rc, Weak};
use task::{Errand, Kernel, Mm, Task};
use vfs::{FileOps, OpenFile, Ready};

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
    if !me.may_access(&who, false) {
        return Err(Errno::EACCES);
    }
    Ok(Rc::new(MemoryFile { mm: Rc::downgrade(&who.mm()), who }))
}

/// The address space that the process had when the file was opened.
struct MemoryFile {
    who: Rc<Task>,
    mm: Weak<Mm>,
}

impl MemoryFile {
    /// A thread that lives there. `None`: the address space is gone.
    fn thread(&self) -> Option<Rc<Task>> {
        let mm = self.mm.upgrade()?;
        self.who.process.threads().into_iter().find(|t| t.has_mem() && Rc::ptr_eq(&t.mm(), &mm))
    }

    /// Writes where the process itself may not: a thread of it does that which stands still for its tracer. EAGAIN: it has
    /// yet to be done.
    fn force(&self, t: &Rc<Task>, addr: u64, bytes: &[u8]) -> Result {
        let mem = t.mem();
        let mut words = Vec::new();
        let mut same = true;
        for at in (addr & !7..addr + bytes.len() as u64).step_by(8) {
            let mm = t.mm();
            let place = mm.space.borrow().at(at).map(|v| (v.prot, v.shared));
            let (prot, shared) = place.ok_or(Errno::EIO)?;
            let mut now = [0u8; 8];
            mem.read_now(at, &mut now).map_err(|_| Errno::EIO)?;
            let mut word = now;
            for (i, b) in word.iter_mut().enumerate() {
                if let Some(new) = (at + i as u64).checked_sub(addr).and_then(|k| bytes.get(k as usize)) {
                    *b = *new;
                }
            }
            if shared && prot & c::PROT_WRITE == 0 {
                return Err(Errno::EIO);
            }
            same &= word == now;
            words.push((at, u64::from_le_bytes(word), prot));
        }
        if same {
            return Ok(());
        }
        let threads = t.process.threads();
        let standing = |t: &&Rc<Task>| t.trace().is_some_and(|tr| tr.stop.get().is_some());
        let by = threads.iter().find(standing).ok_or(Errno::EIO)?;
        let errand = Some(Errand::Poke(words));
        if *by.errand.borrow() != errand && !by.on_errand.get() {
            by.errand.replace(errand);
            by.kernel.errands.borrow_mut().push(by.clone());
        }
        Err(Errno::EAGAIN)
    }
}

/// How much of `want` lies in the page of `at`.
fn piece(at: u64, want: usize) -> usize {
    want.min((PAGE_SIZE - at % PAGE_SIZE) as usize)
}

impl FileOps for MemoryFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Some(t) = self.thread() else { return Ok(0) };
        let mut buf = [0u8; PAGE_SIZE as usize];
        let mut done = 0;
        while dst.remaining() > 0 {
            let at = offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let n = piece(at, dst.remaining());
            if t.peek(at, &mut buf[..n]).is_err() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            done += dst.put(&buf[..n])?;
        }
        Ok(done)
    }

    fn write(&self, _file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let Some(t) = self.thread() else { return Ok(0) };
        let mut buf = [0u8; PAGE_SIZE as usize];
        let mut done = 0;
        while src.remaining() > 0 {
            let at = offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let n = piece(at, src.remaining());
            let n = src.take(&mut buf[..n])?;
            let end = at.checked_add(n as u64).ok_or(Errno::EIO)?;
            let written = if t.mm().writable(at..end) {
                t.mem().write_now(at, &buf[..n]).map_err(|_| Errno::EIO)
            } else if done > 0 {
                // One page a call is forced: what waits has not been written.
                return Ok(done);
            } else {
                self.force(&t, at, &buf[..n])
            };
            match written {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            }
            done += n;
        }
        Ok(done)
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.who.process.served)
    }

    fn ready(&self) -> Ready {
        // What waits, waits for a thread to have written.
        let busy = |t: &Rc<Task>| t.on_errand.get() || t.errand.borrow().is_some();
        if self.who.process.threads().iter().any(busy) { Ready::IN } else { Ready::IN | Ready::OUT }
    }

    fn truncate(&self, _len: u64) -> Result {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
