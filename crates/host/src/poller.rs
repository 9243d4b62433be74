//! Waiting for a doorbell and for descriptors at once.
//!
//! Only a thread that sleeps in the listener's own call is woken on the caller's CPU; in epoll it would be woken on
//! another, at ten times the price. So the kernel thread sleeps in the listener, and this helper sleeps in epoll
//! on everything else, and interrupts it (SIGURG) when something is ready.
use crate::epoll::Epoll;
use abi::{Errno, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::Thread;
use std::time::Duration;

struct Shared {
    /// The kernel thread sleeps, or is about to.
    sleeping: AtomicBool,
    /// Something is ready that the kernel thread has not taken.
    pending: AtomicBool,
}

/// The helper, as the kernel thread knows it.
pub struct Poller {
    shared: Arc<Shared>,
    thread: Thread,
}

/// How long an interruption may go unnoticed (it came just before the sleep) until it is repeated.
const REPEAT: Duration = Duration::from_micros(200);

extern "C" fn nothing(_: libc::c_int) {}

impl Poller {
    /// Starts the helper for the calling thread. It never ends.
    pub fn start(epoll: Epoll) -> Result<Poller> {
        // SAFETY: the handler does nothing; without SA_RESTART it ends the sleeping call. gettid cannot fail.
        let tid = unsafe {
            let mut act: libc::sigaction = std::mem::zeroed();
            act.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(libc::SIGURG, &act, std::ptr::null_mut());
            libc::gettid()
        };
        let shared = Arc::new(Shared { sleeping: AtomicBool::new(false), pending: AtomicBool::new(false) });
        let theirs = shared.clone();
        let (runs, running) = std::sync::mpsc::channel();
        let handle = std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || {
                // What a thread asks of the host to come up is done: the sentry's filter does not allow it later.
                let _ = runs.send(());
                helper(&epoll, &theirs, tid)
            })
            .map_err(|_| Errno::EAGAIN)?;
        running.recv().map_err(|_| Errno::EAGAIN)?;
        Ok(Poller { shared, thread: handle.thread().clone() })
    }

    /// Marks the kernel thread as sleeping. False: something is ready, do not sleep.
    pub fn begin_sleep(&self) -> bool {
        self.shared.sleeping.store(true, SeqCst);
        !self.shared.pending.load(SeqCst)
    }

    /// It is awake again. True: something is ready.
    pub fn end_sleep(&self) -> bool {
        self.shared.sleeping.store(false, SeqCst);
        self.shared.pending.load(SeqCst)
    }

    /// It found something, and waits to be released.
    pub fn holds(&self) -> bool {
        self.shared.pending.load(SeqCst)
    }

    /// What was ready has been taken: it goes back to sleep. Before [`begin_sleep`](Self::begin_sleep) only.
    pub fn release(&self) {
        if self.shared.pending.load(SeqCst) {
            self.shared.pending.store(false, SeqCst);
            self.thread.unpark();
        }
    }
}

fn helper(epoll: &Epoll, shared: &Shared, kernel: i32) {
    loop {
        let mut ready = [(0, 0); 1];
        match epoll.wait(&mut ready, None) {
            Ok(0) => continue,
            Ok(_) => {}
            Err(e) => panic!("host epoll: {e}"),
        }
        shared.pending.store(true, SeqCst);
        while shared.pending.load(SeqCst) {
            if !shared.sleeping.load(SeqCst) {
                // It looks before it sleeps.
                std::thread::park();
                continue;
            }
            // SAFETY: no memory is involved; the kernel thread lives as long as the process.
            unsafe { libc::syscall(libc::SYS_tkill, kernel, libc::SIGURG) };
            std::thread::park_timeout(REPEAT);
        }
    }
}
