//! /proc/PID/mem: the memory of a process, for debuggers.
use abi::{Errno, PAGE_SIZE, Result, c};
use guest::{Sink, Source};
use kernel::wait::WaitQueue;
use std::any::Any;
use std::rc::Rc;
use task::{Errand, Kernel, Task};
use vfs::{FileOps, OpenFile};

const CHUNK: usize = 0x1_0000;

struct MemFile {
    task: Rc<Task>,
    /// The address space it was opened for; a new program's is another.
    mm: u64,
}

/// Opens it for thread `by`. EACCES: it may not look into that process.
pub fn open(k: &Kernel, by: i32, of: &Rc<Task>) -> Result<Rc<dyn FileOps>> {
    let caller = k.task(by).ok_or(Errno::ESRCH)?;
    if !task::may_access(&caller, of, false) {
        return Err(Errno::EACCES);
    }
    Ok(Rc::new(MemFile { task: of.clone(), mm: of.mm().id }))
}

impl MemFile {
    /// A thread that still lives in that memory.
    fn thread(&self) -> Option<Rc<Task>> {
        let own = [self.task.clone()];
        let others = self.task.process.threads();
        let lives = |t: &&Rc<Task>| !t.dead.get() && t.has_mem() && t.mm().id == self.mm;
        own.iter().chain(&others).find(lives).cloned()
    }

    /// Writes where the process itself may not: its thread does it, if it stands still for its tracer.
    fn force(&self, t: &Rc<Task>, addr: u64, bytes: &[u8]) -> Result {
        let mem = t.mem();
        let mut words = Vec::new();
        let mut at = addr & !7;
        let mut same = true;
        while at < addr + bytes.len() as u64 {
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
            at += 8;
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

impl FileOps for MemFile {
    fn read(&self, _file: &OpenFile, dst: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Some(t) = self.thread() else { return Ok(0) };
        let mut done = 0;
        let mut buf = vec![0u8; dst.remaining().min(CHUNK)];
        while dst.remaining() > 0 {
            let at = offset.checked_add(done as u64).ok_or(Errno::EIO)?;
            let n = dst.remaining().min(CHUNK).min((PAGE_SIZE - at % PAGE_SIZE) as usize);
            match t.peek(at, &mut buf[..n]) {
                Ok(()) => done += dst.put(&buf[..n])?,
                Err(_) if done > 0 => break,
                Err(_) => return Err(Errno::EIO),
            }
        }
        Ok(done)
    }

    fn write(&self, _file: &OpenFile, src: &mut dyn Source, offset: u64) -> Result<usize> {
        let Some(t) = self.thread() else { return Ok(0) };
        let mut buf = vec![0u8; src.remaining().min((PAGE_SIZE - offset % PAGE_SIZE) as usize)];
        let n = src.take(&mut buf)?;
        let end = offset.checked_add(n as u64).ok_or(Errno::EIO)?;
        if t.mm().writable(offset..end) {
            t.mem().write_now(offset, &buf[..n]).map_err(|_| Errno::EIO)?;
        } else {
            self.force(&t, offset, &buf[..n])?;
        }
        Ok(n)
    }

    fn waiters(&self) -> Option<&WaitQueue> {
        Some(&self.task.served)
    }

    fn ready(&self) -> vfs::Ready {
        // What waits, waits for a thread to have written.
        let threads = self.task.process.threads();
        let busy = threads.iter().any(|t| t.on_errand.get() || t.errand.borrow().is_some());
        if busy { vfs::Ready::IN } else { vfs::Ready::IN | vfs::Ready::OUT }
    }

    fn size(&self) -> Result<u64> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
