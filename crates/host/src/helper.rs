//! Host calls that may take long, made by threads of their own: the kernel thread never waits for a disk.
use abi::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Helper threads: as many long calls are made at once, the others wait their turn.
const THREADS: usize = 2;

enum Job {
    /// fsync(2), or fdatasync(2).
    Sync { fd: OwnedFd, data_only: bool },
}

/// The helpers, as the kernel thread knows them.
pub struct Helpers {
    jobs: Vec<Sender<(u64, Job)>>,
    done: Receiver<(u64, Result)>,
    bell: Arc<OwnedFd>,
    next: u64,
}

impl Helpers {
    /// Starts the threads; they never end.
    pub fn start() -> Result<Helpers> {
        use rustix::event::{EventfdFlags, eventfd};
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(crate::errno)?);
        let (tell, done) = channel();
        let (runs, running) = channel();
        let mut jobs = Vec::new();
        for _ in 0..THREADS {
            let (send, receive) = channel();
            let (tell, bell, runs) = (tell.clone(), bell.clone(), runs.clone());
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || {
                    // What a thread asks of the host to come up is done: the sentry's filter does not allow it later.
                    let _ = runs.send(());
                    helper(&receive, &tell, &bell);
                })
                .map_err(|_| Errno::EAGAIN)?;
            running.recv().map_err(|_| Errno::EAGAIN)?;
            jobs.push(send);
        }
        Ok(Helpers { jobs, done, bell, next: 0 })
    }

    /// Readable when [`take`](Self::take) has something.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Has a file written to its disk; the number its result will come with.
    pub fn sync(&mut self, fd: OwnedFd, data_only: bool) -> u64 {
        self.next += 1;
        let to = &self.jobs[self.next as usize % THREADS];
        to.send((self.next, Job::Sync { fd, data_only })).expect("helpers never end");
        self.next
    }

    /// The next result, and the number of its job.
    pub fn take(&self) -> Option<(u64, Result)> {
        let next = self.done.try_recv().ok();
        if next.is_none() {
            // Nothing to read is as good: the bell is quiet then.
            let _ = crate::file::read(self.bell.as_fd(), &mut [0; 8], None);
            return self.done.try_recv().ok();
        }
        next
    }
}

fn helper(jobs: &Receiver<(u64, Job)>, tell: &Sender<(u64, Result)>, bell: &OwnedFd) {
    while let Ok((id, Job::Sync { fd, data_only })) = jobs.recv() {
        let result = crate::fs::sync(fd.as_fd(), data_only);
        drop(fd);
        if tell.send((id, result)).is_err() {
            return;
        }
        let _ = crate::file::write(bell.as_fd(), &1u64.to_ne_bytes(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_answered_once() {
        let mut h = Helpers::start().expect("helpers");
        let file = || OwnedFd::from(std::fs::File::open("Cargo.toml").expect("this crate's"));
        let asked: Vec<u64> = (0..20).map(|i| h.sync(file(), i % 2 == 0)).collect();
        let (read, _write) = crate::stub::socketpair().expect("sockets");
        let bad = h.sync(read, false);
        let mut told = Vec::new();
        while told.len() < 21 {
            told.extend(h.take());
            std::thread::yield_now();
        }
        told.sort_by_key(|t| t.0);
        assert_eq!(told.pop(), Some((bad, Err(Errno::EINVAL))));
        assert_eq!(told, asked.into_iter().map(|n| (n, Ok(()))).collect::<Vec<_>>());
        assert_eq!(h.take(), None);
    }
}
