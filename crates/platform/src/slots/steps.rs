//! Turning the kernel's operations into actions of an answer, as many answers as it takes.
use super::process::Process;
use super::thread::{Step, Thread};
use super::{Slots, WARM};
use abi::{Errno, Result};
use guest::ops::{Op, Resume};
use slots::{ACTIONS, layout, op, then};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

const ARCH_SET_FS: u64 = 0x1002;

fn host(nr: i64, args: [u64; 6]) -> Step {
    let [a, b, c, d, e, f] = args;
    Step::Plain { op: op::HOST, args: [nr as u64, a, b, c, d, e, f] }
}

/// Descriptors that one answer can carry.
const FDS: usize = 8;

impl Slots {
    pub(super) fn enqueue(&mut self, t: &Rc<Thread>, o: Op) -> Result {
        use abi::c;
        let step = match o {
            Op::Write { addr, bytes } => Step::Bytes { addr, bytes, at: 0 },
            Op::Zero { addr, len } => Step::Plain { op: op::ZERO, args: [addr, len, 0, 0, 0, 0, 0] },
            Op::Map { addr, len, prot, flags, file } => {
                let (prot, flags) = (prot as u64, (flags | c::MAP_FIXED) as u64);
                match file {
                    None => host(c::SYS_mmap, [addr, len, prot, flags | c::MAP_ANONYMOUS as u64, u64::MAX, 0]),
                    Some((fd, offset)) => {
                        Step::WithFd { args: [c::SYS_mmap as u64, addr, len, prot, flags, 0, offset], arg: 4, fd }
                    }
                }
            }
            Op::Unmap { addr, len } => host(c::SYS_munmap, [addr, len, 0, 0, 0, 0]),
            Op::Protect { addr, len, prot } => host(c::SYS_mprotect, [addr, len, prot as u64, 0, 0, 0]),
            Op::Remap { addr, old_len, new_len, flags, new_addr } => {
                host(c::SYS_mremap, [addr, old_len, new_len, flags as u64, new_addr, 0])
            }
            Op::Advise { addr, len, advice } => host(c::SYS_madvise, [addr, len, advice as u64, 0, 0, 0]),
            Op::SetFs(base) => host(c::SYS_arch_prctl, [ARCH_SET_FS, base, 0, 0, 0, 0]),
            Op::Thread { tag } => {
                let p = &t.process;
                let index = p.place(tag, None).ok_or(Errno::EAGAIN)?;
                if !self.threaded.iter().any(|known| Rc::ptr_eq(known, p)) {
                    self.threaded.push(p.clone());
                }
                // A slot that was used before goes on counting where it stopped.
                let new = Thread::new(p.clone(), index, tag);
                new.seq.set(new.slot().answer.seq.load(std::sync::atomic::Ordering::Relaxed));
                self.running += 1;
                let new = Rc::new(new);
                self.crowd.born(t, &new);
                self.insert(new);
                Step::Plain { op: op::THREAD, args: [index as u64, 0, 0, 0, 0, 0, 0] }
            }
            Op::Fork { tag } => {
                self.begin_fork(t, tag)?;
                return Ok(());
            }
            Op::Patch { addr, word, prot } => {
                let page = addr & !(abi::PAGE_SIZE - 1);
                let rwx = (prot | c::PROT_WRITE) as u64;
                let mut q = t.queue.borrow_mut();
                q.push_back(host(c::SYS_mprotect, [page, abi::PAGE_SIZE, rwx, 0, 0, 0]));
                q.push_back(Step::Plain { op: op::POKE, args: [addr, word, 0, 0, 0, 0, 0] });
                host(c::SYS_mprotect, [page, abi::PAGE_SIZE, prot as u64, 0, 0, 0])
            }
            Op::SaveFp { addr, len } => Step::Plain { op: op::SAVE_FP, args: [addr, len, 0, 0, 0, 0, 0] },
            Op::LoadFp(bytes) => Step::Data { op: op::LOAD_FP, bytes },
            Op::Rewrite { addr, len, prot, words } => {
                let mut q = t.queue.borrow_mut();
                q.push_back(host(c::SYS_mprotect, [addr, len, (prot | c::PROT_WRITE) as u64, 0, 0, 0]));
                q.push_back(Step::Data { op: op::REWRITE, bytes: words });
                host(c::SYS_mprotect, [addr, len, prot as u64, 0, 0, 0])
            }
        };
        t.queue.borrow_mut().push_back(step);
        Ok(())
    }

    /// Queues a fork of `t`'s process into a new one whose thread is `tag`.
    pub(super) fn begin_fork(&mut self, t: &Rc<Thread>, tag: u64) -> Result {
        let (child, socket) = Process::new()?;
        child.place(tag, Some(t.index));
        let child = Rc::new(child);
        self.expect(&child)?;
        if tag < WARM {
            self.running += 1;
        }
        let new = Rc::new(Thread::new(child.clone(), t.index, tag));
        if tag < WARM {
            self.crowd.born(t, &new);
        } else {
            new.moved.set(t.moved.get());
        }
        self.insert(new);
        t.queue.borrow_mut().push_back(Step::Fork { socket, region: child });
        Ok(())
    }

    /// Answers with as much of the queue as fits.
    pub(super) fn proceed(&mut self, t: &Rc<Thread>) {
        let mut fds: Vec<Step> = Vec::new();
        let first = t.actions.get();
        let has_fds = t.queue.borrow().iter().any(|s| matches!(s, Step::WithFd { .. } | Step::Fork { .. }));
        if has_fds && !t.push(op::RECEIVE, 0, &[0]) {
            return self.publish(t, then::MORE, 0);
        }
        let mut full = false;
        loop {
            if t.actions.get() >= ACTIONS - 1 {
                full = !t.queue.borrow().is_empty();
                break;
            }
            let Some(step) = t.queue.borrow_mut().pop_front() else { break };
            match step {
                Step::Plain { op, args } => {
                    t.push(op, 7, &args);
                }
                Step::Bytes { addr, bytes, at } => {
                    let room = (layout::DATA_SIZE - t.used.get()).saturating_sub(16);
                    let n = room.min(bytes.len() - at);
                    if let Some(offset) = t.reserve(n) {
                        t.process.region.put(t.index, offset, &bytes[at..at + n]);
                        t.push(op::COPY, 0, &[addr + at as u64, offset as u64, n as u64]);
                    }
                    if at + n < bytes.len() {
                        t.queue.borrow_mut().push_front(Step::Bytes { addr, bytes, at: at + n });
                        full = true;
                        break;
                    }
                }
                Step::Data { op, bytes } => match t.reserve(bytes.len()) {
                    Some(offset) => {
                        t.process.region.put(t.index, offset, &bytes);
                        t.push(op, 0, &[offset as u64, bytes.len() as u64]);
                    }
                    None => {
                        t.queue.borrow_mut().push_front(Step::Data { op, bytes });
                        full = true;
                        break;
                    }
                },
                Step::WithFd { args, arg, fd } => {
                    let sent =
                        fds.iter().position(|s| matches!(s, Step::WithFd { fd: sent, .. } if Rc::ptr_eq(sent, &fd)));
                    if let Some(k) = sent {
                        t.push(op::HOST, arg | ((k as u32) << 8), &args);
                        continue;
                    }
                    if count(&fds) >= FDS {
                        t.queue.borrow_mut().push_front(Step::WithFd { args, arg, fd });
                        full = true;
                        break;
                    }
                    let k = count(&fds) as u32;
                    t.push(op::HOST, arg | (k << 8), &args);
                    fds.push(Step::WithFd { args, arg, fd });
                }
                Step::Fork { socket, region } => {
                    if count(&fds) > 0 {
                        t.queue.borrow_mut().push_front(Step::Fork { socket, region });
                        full = true;
                        break;
                    }
                    t.push(op::FORK, 0, &[]);
                    fds.push(Step::Fork { socket, region });
                    full = !t.queue.borrow().is_empty();
                    break;
                }
            }
        }
        if has_fds {
            if fds.is_empty() {
                // Nothing to receive in this round after all.
                t.slot().action[first].op.store(0, std::sync::atomic::Ordering::Relaxed);
            } else {
                let mut send: Vec<BorrowedFd<'_>> = Vec::new();
                for s in &fds {
                    match s {
                        Step::WithFd { fd, .. } => send.push(fd.as_fd()),
                        Step::Fork { socket, region } => send.extend([socket.as_fd(), region.region.as_fd()]),
                        _ => {}
                    }
                }
                if host::stub::send_fds(t.process.socket.as_fd(), &[0], &send).is_err() {
                    // The other end is gone, or never reads: its process is dead or as good as dead.
                    let tags = t.process.tags();
                    super::Platform::kill(self, t.tag);
                    self.events.push_back(crate::Event::Died { tags });
                    return;
                }
                if matches!(fds[0], Step::WithFd { .. }) {
                    t.push(op::CLOSE, 0, &[]);
                }
            }
        }
        if full {
            return self.publish(t, then::MORE, 0);
        }
        let (code, ret) = match t.then.get() {
            Resume::Return(r) => (then::RETURN, r),
            Resume::Regs => (then::REGS, 0),
            Resume::ReturnAt(r) => (then::RETURN_AT, r),
            Resume::Unchanged => (then::RESUME, 0),
            Resume::Natively => (then::NATIVELY, 0),
            Resume::NoLink(number) => (then::NO_LINK, number as i64),
            Resume::Pause => (then::MORE, 0),
            Resume::Context(r) => (then::CONTEXT, r),
            Resume::Exit => (then::EXIT, 0),
        };
        self.publish(t, code, ret);
    }
}

fn count(fds: &[Step]) -> usize {
    fds.iter().map(|s| if matches!(s, Step::Fork { .. }) { 2 } else { 1 }).sum()
}
