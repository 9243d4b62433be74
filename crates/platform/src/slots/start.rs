//! Bringing up the stubs: the init message, the listener, the template's first word.
use super::process::Process;
use super::thread::Thread;
use super::{Counters, FIRST_PROCESS, INNER, LISTENER, Slots, TEMPLATE, TIMER};
use crate::Features;
use abi::{Errno, Result};
use slots::{HINTS, Hint};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

impl Slots {
    /// `init`: the socket to the stubs' init process. `hints`: what each system call copies ahead. `cpus`: CPUs the sandbox may use at once.
    pub fn new(init: BorrowedFd<'_>, hints: &[Hint; HINTS], cpus: usize) -> Result<Slots> {
        let (template, socket) = Process::new()?;
        template.place(TEMPLATE, Some(0));
        let filters = super::filters::filters();
        let mut message = slots::mode::SLOTS.to_ne_bytes().to_vec();
        for f in &filters {
            message.extend_from_slice(&((f.len() / 8) as u32).to_ne_bytes());
        }
        for h in hints {
            message.extend_from_slice(&h.0.to_ne_bytes());
        }
        for f in &filters {
            message.extend_from_slice(f);
        }
        host::stub::send_fds(init, &message, &[socket.as_fd(), template.region.as_fd()])?;
        let mut reply = [0u8; size_of::<slots::InitReply>()];
        let (n, listener) = host::stub::receive_fd(init, &mut reply)?;
        let listener = listener.filter(|_| n == reply.len()).ok_or(Errno::EPROTO)?;
        let word = |i: usize| u64::from_ne_bytes(reply[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let features =
            Features { vdso: word(0), vdso_len: word(1), hwcap: word(2), hwcap2: word(3), sites: true, answers: true };
        // Without it (before Linux 6.6) only doorbells are slower.
        let _ = host::notify::set_sync_wake_up(listener.as_fd(), true);
        let epoll = host::epoll::Epoll::new()?;
        epoll.add(listener.as_fd(), host::epoll::LEVEL_IN, LISTENER)?;
        let (inner, timer) = (host::epoll::Epoll::new()?, host::timer::Timer::new()?);
        epoll.add(inner.as_fd(), host::epoll::LEVEL_IN, INNER)?;
        inner.add(timer.fd(), host::epoll::LEVEL_IN, TIMER)?;
        let template = Rc::new(template);
        let thread = Rc::new(Thread::new(template.clone(), 0, TEMPLATE));
        let mut made = Slots {
            listener,
            epoll,
            inner,
            poller: None,
            timer,
            features,
            template: thread.clone(),
            processes: HashMap::new(),
            by_token: HashMap::new(),
            next_token: FIRST_PROCESS,
            threads: Vec::new(),
            special: HashMap::from([(TEMPLATE, thread)]),
            hot: Vec::new(),
            turn: 0,
            doomed: Vec::new(),
            wanted: false,
            came: false,
            guest_cpu: 0,
            asker_runs: u64::MAX,
            warm: VecDeque::new(),
            warm_next: 0,
            warm_coming: 0,
            events: VecDeque::new(),
            mourned: VecDeque::new(),
            running: 0,
            threaded: Vec::new(),
            cpus,
            crowd: super::crowd::Crowd::new()?,
            streak: 0,
            others_added: false,
            others_ready: false,
            heated: false,
            sync: true,
            counters: Counters::default(),
        };
        made.expect(&template)?;
        Ok(made)
    }
}
