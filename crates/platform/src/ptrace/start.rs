//! Bringing up the stubs under the sentry's eyes.
use super::fp::Xstate;
use super::thread::{Process, Thread};
use super::{Counters, Ptrace, TIMER};
use crate::Features;
use abi::{Errno, Result, c};
use host::ptrace::{self, Report};
use slots::{HINTS, InitReply, mode};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// The template's tag, which no guest thread has.
const TEMPLATE: u64 = u64::MAX;

fn expect(tid: i32, report: Report) -> Result {
    if ptrace::wait_for(tid) == report { Ok(()) } else { Err(Errno::EPROTO) }
}

impl Ptrace {
    /// `init`: the socket to the stubs' init process, whose number is `pid`.
    pub fn new(init: BorrowedFd<'_>, pid: i32) -> Result<Ptrace> {
        let (ours, theirs) = host::stub::socketpair()?;
        let policy = crate::slots::policy();
        let mut message = mode::PTRACE.to_ne_bytes().to_vec();
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(&((policy.len() / 8) as u32).to_ne_bytes());
        message.extend_from_slice(&[0; HINTS * 4]);
        message.extend_from_slice(&policy);
        host::stub::send_fds(init, &message, &[theirs.as_fd()])?;
        let mut reply = [0u8; size_of::<InitReply>()];
        if host::stub::receive_fd(init, &mut reply)?.0 != reply.len() {
            return Err(Errno::EPROTO);
        }
        let word = |i: usize| u64::from_ne_bytes(std::array::from_fn(|k| reply[i * 8 + k]));
        let features = Features {
            vdso: word(0),
            vdso_len: word(1),
            hwcap: word(2),
            hwcap2: word(3),
            sites: false,
            answers: false,
        };
        let (inject, scratch) = (word(4), word(5));

        // The child of a traced process is traced from its first instruction on; init itself need not be.
        ptrace::seize(pid)?;
        host::stub::send_fds(init, &[0], &[])?;
        expect(pid, Report::Made)?;
        let tid = ptrace::event_message(pid)?;
        ptrace::detach(pid)?;
        expect(tid, Report::Paused)?;
        ptrace::go(tid)?;
        expect(tid, Report::Signal(c::SIGTRAP))?;
        let regs = ptrace::registers(tid)?;
        if regs.rip != inject + 3 {
            return Err(Errno::EPROTO);
        }
        let xstate = Xstate::learn(tid)?;

        let process = Process { pid: tid, socket: ours, tags: Default::default() };
        let template = Rc::new(Thread::new(Rc::new(process), TEMPLATE, tid, regs));
        let (inner, timer) = (host::epoll::Epoll::new()?, host::timer::Timer::new()?);
        inner.add(timer.fd(), host::epoll::LEVEL_IN, TIMER)?;
        Ok(Ptrace {
            inner,
            poller: None,
            timer,
            features,
            inject,
            scratch,
            xstate,
            template,
            init: pid,
            threads: Vec::new(),
            by_tid: HashMap::new(),
            stops: VecDeque::new(),
            events: VecDeque::new(),
            running: 0,
            streak: 0,
            others_added: false,
            others_ready: false,
            counters: Counters::default(),
        })
    }
}
