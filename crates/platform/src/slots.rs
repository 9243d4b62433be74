//! The `slots` platform: shared memory, patched call sites, a doorbell. `docs/design/slot-protocol.md`.
mod crowd;
mod filters;
mod process;
mod start;
mod steps;
mod thread;

pub use filters::policy;

use crate::{Ask, Event, Features, Platform};
use abi::regs::Regs;
use abi::{Errno, Result};
use guest::Memory;
use guest::ops::{Op, Resume};
use process::Process;
use slots::{ask, handshake, then};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use thread::{State, Thread};
use zerocopy::{FromBytes, IntoBytes};

/// Slots looked at without being called, at most: no more threads can be running at once.
const HOT_MAX: usize = 8;
/// How long to look before sleeping, nanoseconds: about what a cross-CPU wake-up costs.
const SPIN_NS: u64 = 100_000;
/// The same, just after a slot became hot: its thread has yet to be woken on another CPU.
const GRACE_NS: u64 = 400_000;
/// Bells that must come close together before a slot is looked at. A thread that waits between its calls (a pipe's
/// reader) never gets there: it and whom it waits for do better on one CPU.
const DENSE: u32 = 4;
/// As many at most, for a thread whose slot was looked at in vain: each time that happens it takes four times as many.
const DENSE_MAX: u32 = 1024;
/// Calls that must have come in while a slot was looked at for that to have been worth it.
const WORTH: u32 = 8;
/// How long a stub looks for its answer before it rings, in its own rounds of about 10 us: more than nearly all calls take. No longer,
/// because who has to be heard may be waiting for its CPU.
const ROUNDS: u32 = 10;
/// Looks at the slots before the clock is read.
const LOOKS: u32 = 512;
/// Tag of the template's thread: the kernel's own tags are small.
const TEMPLATE: u64 = u64::MAX;
/// Tags of warm stubs.
const WARM: u64 = 1 << 62;
const WARM_MAX: usize = 2;

/// When the host ends all stubs at once, with their init, a guest's end may be seen before the template's: so long is waited
/// to tell the end of a program from that of the sandbox. Nanoseconds.
const GRACE_DEATH_NS: u64 = 5_000_000;

const LISTENER: u64 = 0;
const OTHERS: u64 = 1;
const INNER: u64 = 2;
const TIMER: u64 = 3;
const FIRST_PROCESS: u64 = 4;

pub struct Slots {
    listener: OwnedFd,
    /// The listener and `inner`: looked at, never slept in.
    epoll: host::epoll::Epoll,
    /// Everything but the listener; the helper sleeps in it.
    inner: host::epoll::Epoll,
    poller: Option<host::poller::Poller>,
    timer: host::timer::Timer,
    features: Features,
    template: Rc<Thread>,
    processes: HashMap<u64, Rc<Process>>,
    /// By the epoll token of the process's pidfd.
    by_token: HashMap<u64, Rc<Process>>,
    next_token: u64,
    /// By tag.
    threads: Vec<Option<Rc<Thread>>>,
    special: HashMap<u64, Rc<Thread>>,
    hot: Vec<Rc<Thread>>,
    /// Where the next scan of `hot` begins.
    turn: usize,
    /// Processes that are over and whose threads all wait: they are killed when there is time.
    doomed: Vec<Rc<Process>>,
    /// The CPU that was last given back to a guest.
    guest_cpu: usize,
    /// How long the thread that asked last runs between its waits, nanoseconds.
    asker_runs: u64,
    /// A program waits for a warm stub; one has come.
    wanted: bool,
    came: bool,
    warm: VecDeque<u64>,
    warm_next: u64,
    warm_coming: usize,
    events: VecDeque<Event>,
    /// Threads whose host process died, and when to tell.
    mourned: VecDeque<(u64, Vec<u64>)>,
    running: usize,
    /// Processes that have or had threads: some of those that run may be waiting at the host.
    threaded: Vec<Rc<Process>>,
    cpus: usize,
    crowd: crowd::Crowd,
    /// Hot calls served since the descriptors were last looked at.
    streak: u32,
    others_added: bool,
    others_ready: bool,
    /// A slot became hot since the last wait.
    heated: bool,
    /// Whether wake-ups stay on the waker's CPU.
    sync: bool,
    /// Time spent looking, nanoseconds; doorbells; calls.
    pub counters: Counters,
}

/// What the platform did, for `--debug-log`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counters {
    pub spun_ns: u64,
    pub bells: u64,
    pub hot_calls: u64,
    pub sleeps: u64,
    pub heats: u64,
    /// Times the kernel thread took a CPU of its own.
    pub apart: u64,
}

impl Slots {
    fn thread(&self, tag: u64) -> Option<&Rc<Thread>> {
        if tag >= WARM { self.special.get(&tag) } else { self.threads.get(tag as usize)?.as_ref() }
    }

    fn insert(&mut self, t: Rc<Thread>) {
        if t.tag >= WARM {
            self.special.insert(t.tag, t);
            return;
        }
        let i = t.tag as usize;
        if self.threads.len() <= i {
            self.threads.resize(i + 1, None);
        }
        self.threads[i] = Some(t);
    }

    /// Guest threads that need a CPU, as far as can be told from the first few processes.
    fn busy(&self) -> usize {
        let waiting = |p: &Rc<Process>| p.region.control().waiting.load(Relaxed) as usize;
        self.running.saturating_sub(self.threaded.iter().take(HOT_MAX).map(waiting).sum())
    }

    /// How many CPUs it may use at once: by its quota, and by where its threads may run.
    fn cpus(&self) -> usize {
        self.cpus.min(self.crowd.count())
    }

    /// Spinning pays only while a CPU is to spare.
    fn may_spin(&self) -> bool {
        self.cpus() > 1 && (self.crowd.apart() || self.busy() < self.cpus())
    }

    /// Right while callers are sparse: both sides share a CPU and no wake-up crosses. Wrong while spinning,
    /// when the other side needs a CPU of its own.
    fn set_sync(&mut self, on: bool) {
        if self.sync != on {
            self.sync = on;
            let _ = host::notify::set_sync_wake_up(self.listener.as_fd(), on);
        }
    }

    fn heat(&mut self, t: &Rc<Thread>) {
        if t.hot.get() || t.tag >= WARM {
            return;
        }
        if self.hot.len() >= HOT_MAX {
            let old = self.hot.remove(0);
            self.cool(&old);
        }
        t.hot.set(true);
        t.served.set(0);
        t.slot().mode.hot.store(ROUNDS, Relaxed);
        self.hot.push(t.clone());
        self.heated = true;
        self.counters.heats += 1;
    }

    /// Takes a thread off the list; what it asked meanwhile becomes an event.
    fn cool(&mut self, t: &Rc<Thread>) {
        t.hot.set(false);
        self.hot.retain(|h| !Rc::ptr_eq(h, t));
        if !handshake::cool(&t.slot().request.seq, &t.slot().mode.hot, t.seq.get())
            && t.look()
            && let Some(e) = self.asked(&t.clone())
        {
            self.events.push_back(e);
        }
    }

    /// Reads a new request of `t`. Requests within a longer answer are served here.
    fn asked(&mut self, t: &Rc<Thread>) -> Option<Event> {
        if t.tag < WARM {
            self.running = self.running.saturating_sub(1);
        }
        let s = t.slot();
        let r = &s.request;
        let kind = t.kind.get();
        if kind != ask::DONE {
            // A hostile stub asks before it has done all that the last answer said.
            t.queue.borrow_mut().clear();
        }
        let a = match kind {
            k @ (ask::CALL | ask::TRAP) => {
                self.asker_runs = t.ran.get();
                let args = std::array::from_fn(|i| r.args[i].load(Relaxed));
                Ask::Call { nr: r.nr.load(Relaxed), args, full: k == ask::TRAP }
            }
            ask::FAULT => Ask::Fault {
                signo: s.fault.signo.load(Relaxed) as i32,
                code: s.fault.code.load(Relaxed) as i32,
                addr: s.fault.addr.load(Relaxed),
            },
            ask::KICKED => Ask::Context,
            ask::READY => Ask::Ready,
            ask::DONE => {
                t.used.set(0);
                let done = t.queue.borrow().is_empty();
                match (done, t.then.get()) {
                    (true, Resume::Pause) if t.tag < WARM => {
                        Ask::Done { fault: s.answer.ret.load(Relaxed) == Errno::EFAULT.to_ret() as u64 }
                    }
                    // The template sleeps on its doorbell until the next fork.
                    (true, Resume::Pause) => return None,
                    _ => {
                        self.proceed(t);
                        return None;
                    }
                }
            }
            ask::FAILED => {
                t.used.set(0);
                Ask::Failed(Errno::from_raw((r.args[0].load(Relaxed) as i64).wrapping_neg() as i32))
            }
            // Garbage: the guest overwrote its stub. It is answered as an unknown call.
            _ => Ask::Call { nr: u64::MAX, args: [0; 6], full: false },
        };
        if t.tag >= WARM {
            if a == Ask::Ready && t.tag != TEMPLATE {
                self.warm.push_back(t.tag);
                self.came |= std::mem::take(&mut self.wanted);
                self.warm_coming -= 1;
            }
            return None;
        }
        Some(Event::Ask { tag: t.tag, ask: a })
    }

    /// Looks at the hot slots `times` times; true as soon as one asks.
    fn spin(&self, times: u32) -> bool {
        for _ in 0..times {
            let asks =
                |t: &Rc<Thread>| t.slot().request.seq.load(Relaxed) != t.seq.get() && t.state.get() == State::Running;
            if self.hot.iter().any(asks) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    fn scan(&mut self) -> Option<Event> {
        for i in 0..self.hot.len() {
            let k = (self.turn + i) % self.hot.len();
            if self.hot[k].look() {
                self.turn = k;
                self.counters.hot_calls += 1;
                let t = self.hot[k].clone();
                t.served.set(t.served.get().saturating_add(1));
                if let Some(e) = self.asked(&t) {
                    return Some(e);
                }
                return self.events.pop_front();
            }
        }
        None
    }

    /// Looks at the descriptors. True: something was there.
    fn look_around(&mut self) -> bool {
        let mut ready = [(0, 0); 2];
        let n = self.epoll.wait(&mut ready, Some(0)).expect("host epoll");
        for (token, what) in &ready[..n] {
            match *token {
                LISTENER if what & host::epoll::HANG_UP != 0 => panic!("every stub is dead, the template too"),
                LISTENER => {
                    // ENOENT: whoever rang has been killed meanwhile.
                    if let Ok(bell) = host::notify::receive(self.listener.as_fd()) {
                        self.bell(bell);
                    }
                }
                _ => self.look_inside(),
            }
        }
        n > 0
    }

    /// Looks at everything but the listener.
    fn look_inside(&mut self) {
        let mut ready = [(0, 0); 16];
        let n = self.inner.wait(&mut ready, Some(0)).expect("host epoll");
        for (token, _) in &ready[..n] {
            match *token {
                OTHERS => self.others_ready = true,
                TIMER => self.timer.drain(),
                token => self.died(token),
            }
        }
    }

    /// Sleeps until a bell rings or something else is ready.
    fn sleep(&mut self, deadline: Option<u64>) {
        self.counters.sleeps += 1;
        self.crowd.leave();
        self.set_sync(true);
        if self.poller.as_ref().is_some_and(|p| p.holds()) {
            // What woke it last was taken. It is sent back to sleep only when nothing more has come: sockets of guests that
            // talk to each other never wake it.
            // A bell may have made a slot hot, which then asks without ringing; the template's, that it is to make another stub.
            if self.look_around() {
                return;
            }
        }
        // Not before that look: it takes what the timer says, and may learn of a death.
        self.timer.set(self.or_told(deadline));
        let Some(p) = &self.poller else {
            self.look_around();
            return;
        };
        p.release();
        let bell = if p.begin_sleep() { host::notify::receive(self.listener.as_fd()) } else { Err(Errno::EINTR) };
        let ready = p.end_sleep();
        match bell {
            Ok(b) => self.bell(b),
            Err(Errno::EINTR | Errno::ENOENT) => {}
            Err(e) => panic!("the listener: {e}"),
        }
        if ready {
            self.look_inside();
        }
    }

    fn bell(&mut self, bell: host::notify::Bell) {
        self.counters.bells += 1;
        let [cookie, index, seq, cpu, ..] = bell.args;
        if let Some(p) = self.processes.get(&cookie).filter(|p| p.dead.get()).cloned() {
            self.adopt(&p, bell.tid);
            self.processes.remove(&cookie);
        }
        let left = |p: &&Rc<Process>| index == 0 && p.threads.borrow().first().is_some_and(Option::is_none);
        if let Some(p) = self.processes.get(&cookie).filter(left).cloned() {
            // See `resume`: it sleeps until its process ends.
            if p.pid.get() == 0 {
                self.adopt(&p, bell.tid);
            }
            return;
        }
        let thread = self.processes.get(&cookie).and_then(|p| {
            let tag = (*p.threads.borrow().get(index as usize)?)?;
            self.thread(tag).cloned()
        });
        let Some(t) = thread else {
            // Whoever rings without a valid cookie is let go at once; it is told nothing.
            let _ = host::notify::reply(self.listener.as_fd(), bell.id);
            return;
        };
        if t.process.pid.get() == 0 {
            self.adopt(&t.process, bell.tid);
        }
        t.host_tid.set(bell.tid);
        t.cpu.set(cpu as usize);
        self.count_bell();
        self.crowd.place(&t);
        if !t.hot.get() && self.may_spin() {
            let now = host::time::monotonic_ns();
            let close = now - t.bell_answered.get() < SPIN_NS;
            t.dense.set(if close { t.dense.get() + 1 } else { 0 });
            // Who is looked at beside others costs nothing more. The stub is placed before it is answered.
            let earned = t.dense.get() >= t.needed.get();
            if (earned || !self.hot.is_empty() || self.crowd.apart()) && self.go_apart(now) {
                t.earned.set(earned);
                self.heat(&t);
            }
        }
        if t.state.get() == State::Asking && t.seq.get() == seq as u32 {
            t.bell.set(Some(bell.id));
        } else if t.look() {
            t.bell.set(Some(bell.id));
            if let Some(e) = self.asked(&t) {
                self.events.push_back(e);
            }
        } else {
            let _ = host::notify::reply(self.listener.as_fd(), bell.id);
        }
    }

    fn adopt(&mut self, p: &Rc<Process>, pid: i32) {
        p.pid.set(pid);
        let _ = self.inner.remove(p.socket.as_fd());
        if let Ok(fd) = host::stub::pidfd(pid) {
            let _ = self.inner.add(fd.as_fd(), host::epoll::LEVEL_IN, p.token.get());
            let _ = p.pidfd.set(fd);
        }
        if p.dead.get() {
            // It was ended before it was known.
            let _ = p.pidfd.get().map(|fd| host::stub::kill(fd.as_fd()));
        }
    }

    /// Learns of the end of a process, until it is adopted by its socket's: it may die before it is heard of.
    fn expect(&mut self, p: &Rc<Process>) -> Result {
        p.token.set(self.next_token);
        self.next_token += 1;
        self.inner.add(p.socket.as_fd(), host::epoll::HANG_UP, p.token.get())?;
        self.by_token.insert(p.token.get(), p.clone());
        self.processes.insert(p.cookie, p.clone());
        Ok(())
    }

    fn died(&mut self, token: u64) {
        let Some(p) = self.by_token.remove(&token) else { return };
        let _ = self.inner.remove(p.pidfd.get().map_or(p.socket.as_fd(), |fd| fd.as_fd()));
        let tags = p.tags();
        self.forget(&p);
        self.processes.remove(&p.cookie);
        if tags.contains(&TEMPLATE) {
            panic!("the template stub died");
        }
        let tags: Vec<u64> = tags.into_iter().filter(|t| *t < WARM).collect();
        if !tags.is_empty() {
            self.mourned.push_back((host::time::monotonic_ns() + GRACE_DEATH_NS, tags));
        }
    }

    /// The deadline, or when the next death is told of if that is earlier.
    fn or_told(&self, deadline: Option<u64>) -> Option<u64> {
        let told = self.mourned.front().map(|(due, _)| *due);
        deadline.into_iter().chain(told).min()
    }

    /// Tells of deaths that were not our doing, once it is clear that the template lives.
    fn tell_deaths(&mut self) {
        while let Some((due, _)) = self.mourned.front()
            && *due <= host::time::monotonic_ns()
            && let Some((_, tags)) = self.mourned.pop_front()
        {
            self.events.push_back(Event::Died { tags });
        }
    }

    /// Drops a process and its threads from every list.
    fn forget(&mut self, p: &Rc<Process>) {
        p.dead.set(true);
        self.threaded.retain(|known| !Rc::ptr_eq(known, p));
        if p.pid.get() != 0 {
            self.processes.remove(&p.cookie);
        }
        for tag in p.tags() {
            self.drop_thread(tag);
        }
    }

    /// Publishes the answer as it stands in the slot, and wakes the thread if it sleeps.
    fn publish(&mut self, t: &Rc<Thread>, then: u32, ret: i64) {
        let a = &t.slot().answer;
        a.then.store(then, Relaxed);
        a.ret.store(ret as u64, Relaxed);
        a.actions.store(t.actions.get() as u32, Relaxed);
        if !t.copied.get() {
            a.copy.len.store(0, Relaxed);
        }
        t.state.set(State::Running);
        if t.tag < WARM {
            self.running += 1;
        }
        if self.crowd.apart() {
            // Whoever is woken asks soon.
            self.crowd.place(t);
            self.heat(t);
        }
        handshake::answer(&t.slot().answer.seq, t.seq.get());
        if t.parked.take() {
            t.woken.set(host::time::monotonic_ns());
        }
        if let Some(id) = t.bell.take() {
            self.set_sync(self.better_here(t));
            let _ = host::notify::reply(self.listener.as_fd(), id);
            t.bell_answered.set(host::time::monotonic_ns());
            if self.sync {
                t.cpu.set(host::cpu::Cpus::current());
            }
        }
        if t.tag < WARM {
            self.guest_cpu = t.cpu.get();
        }
    }

    /// There is something to do other than to wait.
    fn has_news(&self) -> bool {
        !self.events.is_empty() || self.others_ready || self.came
    }

    /// While a CPU is to spare: has a stub that no guest waits for run where no guest is.
    fn put_aside(&mut self, tid: i32) -> bool {
        let spare = self.busy() < self.cpus() && !self.crowd.apart() && tid != 0;
        spare && self.crowd.put_aside(tid, self.guest_cpu)
    }

    /// Ends those that are over. An end takes longer than most calls: the host gives back all that was mapped.
    fn end_doomed(&mut self) {
        for p in std::mem::take(&mut self.doomed) {
            self.put_aside(p.pid.get());
            let _ = p.pidfd.get().map(|fd| host::stub::kill(fd.as_fd()));
        }
    }

    fn request_warm(&mut self) {
        while self.warm.len() + self.warm_coming < WARM_MAX && self.template.state.get() == State::Asking {
            let tag = WARM + self.warm_next;
            self.warm_next += 1;
            self.warm_coming += 1;
            let t = self.template.clone();
            // Its children begin there, and are let go when they are wanted.
            if self.put_aside(t.host_tid.get()) {
                t.moved.set(true);
            }
            if self.begin_fork(&t, tag).is_err() {
                self.warm_coming -= 1;
                return;
            }
            t.then.set(Resume::Pause);
            self.proceed(&t);
        }
    }
}

impl Platform for Slots {
    fn features(&self) -> Features {
        self.features
    }

    fn poll(&mut self) -> Option<Event> {
        self.came = false;
        if !self.mourned.is_empty() {
            self.tell_deaths();
        }
        if let Some(e) = self.events.pop_front() {
            return Some(e);
        }
        self.streak += 1;
        if self.streak < 128 {
            return self.scan();
        }
        self.streak = 0;
        self.end_doomed();
        if self.crowd.apart() {
            self.review_crowd(host::time::monotonic_ns());
        }
        self.look_around();
        self.events.pop_front().or_else(|| self.scan())
    }

    fn wait(&mut self, deadline: Option<u64>, others: BorrowedFd<'_>) {
        self.asker_runs = u64::MAX;
        if !self.others_added {
            self.others_added = true;
            self.inner.add(others, host::epoll::LEVEL_IN, OTHERS).expect("host epoll");
        }
        if self.has_news() {
            return;
        }
        let deadline = self.or_told(deadline);
        if (!self.hot.is_empty() || self.crowd.apart()) && self.may_spin() {
            if self.spin(LOOKS) {
                return;
            }
            let begun = host::time::monotonic_ns();
            let grace = std::mem::take(&mut self.heated) || self.crowd.apart();
            let patience = if grace { GRACE_NS } else { SPIN_NS };
            let until = deadline.unwrap_or(u64::MAX).min(begun + patience);
            loop {
                self.look_around();
                if self.has_news() || self.spin(LOOKS / 4) {
                    return;
                }
                self.end_doomed();
                if self.hot.is_empty() && !self.crowd.apart() {
                    return;
                }
                // The thread being waited for may be waiting for this very CPU.
                std::thread::yield_now();
                let now = host::time::monotonic_ns();
                self.review_crowd(now);
                if now >= until {
                    self.counters.spun_ns += now - begun;
                    break;
                }
            }
        }
        while let Some(t) = self.hot.first().cloned() {
            // Whose bells asked for it pays for a look in vain.
            match (t.served.get() >= WORTH, t.earned.take()) {
                (true, _) => t.needed.set(DENSE),
                (false, true) => t.needed.set((t.needed.get() * 4).min(DENSE_MAX)),
                (false, false) => {}
            }
            t.dense.set(0);
            self.cool(&t);
        }
        self.end_doomed();
        self.request_warm();
        if self.has_news() {
            return;
        }
        if deadline.is_none_or(|d| d > host::time::monotonic_ns()) {
            self.sleep(deadline);
        }
    }

    fn take_others(&mut self) -> bool {
        std::mem::take(&mut self.others_ready)
    }

    fn spawn(&mut self, tag: u64) -> bool {
        // The next one is asked for when there is time, before sleeping.
        let Some(w) = self.warm.pop_front() else {
            self.wanted = true;
            self.request_warm();
            return false;
        };
        let Some(old) = self.special.remove(&w) else { return false };
        old.process.threads.borrow_mut()[0] = Some(tag);
        let t = Thread::new(old.process.clone(), 0, tag);
        t.seq.set(old.seq.get());
        t.state.set(State::Asking);
        t.bell.set(old.bell.take());
        t.host_tid.set(old.host_tid.get());
        if old.moved.get() {
            self.crowd.let_go(old.host_tid.get());
        }
        self.insert(Rc::new(t));
        self.events.push_back(Event::Ask { tag, ask: Ask::Ready });
        true
    }

    fn resume(&mut self, tag: u64, ops: Vec<Op>, then: Resume, regs: Option<&Regs>) {
        let Some(t) = self.thread(tag).cloned() else { return };
        if t.state.get() != State::Asking {
            return;
        }
        if then == Resume::Exit && t.index == 0 {
            // Without its first thread the host knows no memory of the process: it stays, its bell never answered.
            return;
        }
        if let Some(r) = regs {
            let words = <[u64; 23]>::read_from_bytes(r.as_bytes()).expect("23 words");
            for (to, from) in t.slot().regs.iter().zip(words) {
                to.store(from, Relaxed);
            }
        }
        t.then.set(then);
        for op in ops {
            if let Err(e) = self.enqueue(&t, op) {
                t.queue.borrow_mut().clear();
                t.clear();
                self.events.push_back(Event::Ask { tag, ask: Ask::Failed(e) });
                return;
            }
        }
        self.proceed(&t);
    }

    fn answer(&mut self, tag: u64, ret: i64) {
        let Some(t) = self.threads.get(tag as usize).and_then(|t| t.clone()) else { return };
        if t.state.get() == State::Asking {
            self.publish(&t, then::RETURN, ret);
        }
    }

    fn park(&mut self, tag: u64) {
        let Some(t) = self.thread(tag).cloned() else { return };
        t.dense.set(0);
        t.parked.set(true);
        t.ran.set(host::time::monotonic_ns() - t.woken.get());
        t.slot().answer.parked.store(t.seq.get(), Relaxed);
        if t.hot.replace(false) {
            t.slot().mode.hot.store(0, Relaxed);
            self.hot.retain(|h| !Rc::ptr_eq(h, &t));
        }
    }

    fn regs(&self, tag: u64) -> Option<Regs> {
        let t = self.thread(tag)?;
        let words: [u64; 23] = std::array::from_fn(|i| t.slot().regs[i].load(Relaxed));
        Regs::read_from_bytes(words.as_bytes()).ok()
    }

    fn fp_size(&self, tag: u64) -> u64 {
        self.thread(tag).map_or(0, |t| t.slot().fp_size.load(Relaxed).min(65536))
    }

    fn fp(&self, tag: u64) -> Option<Vec<u8>> {
        let t = self.thread(tag)?;
        let mut state = vec![0u8; self.fp_size(tag) as usize];
        // Where the stub says: it is its own memory, whatever it says.
        let at = t.slot().fp_addr.load(Relaxed);
        let n = host::stub::read_memory(t.process.pid.get(), at, &mut state).ok()?;
        (n == state.len() && n > 0).then_some(state)
    }

    fn memory(&self, tag: u64) -> Option<Rc<dyn Memory>> {
        self.thread(tag).map(|t| t.clone() as Rc<dyn Memory>)
    }

    fn kick(&mut self, tag: u64) {
        if let Some(t) = self.thread(tag)
            && t.state.get() == State::Running
            && t.host_tid.get() != 0
        {
            let _ = host::stub::kick(t.host_tid.get());
        }
    }

    fn drop_thread(&mut self, tag: u64) {
        let t = if tag >= WARM {
            self.special.remove(&tag)
        } else {
            self.threads.get_mut(tag as usize).and_then(Option::take)
        };
        // The tag may soon be another thread's.
        self.events.retain(|e| !matches!(e, Event::Ask { tag: of, .. } if *of == tag));
        self.events.iter_mut().for_each(|e| {
            if let Event::Died { tags } = e {
                tags.retain(|of| *of != tag);
            }
        });
        let Some(t) = t else { return };
        if tag >= WARM {
            match self.warm.iter().position(|w| *w == tag) {
                Some(i) => drop(self.warm.remove(i)),
                None => self.warm_coming = self.warm_coming.saturating_sub(1),
            }
        }
        self.crowd.forget(&t);
        if t.hot.replace(false) {
            t.slot().mode.hot.store(0, Relaxed);
            self.hot.retain(|h| !Rc::ptr_eq(h, &t));
        }
        if t.state.get() == State::Running && tag < WARM {
            self.running = self.running.saturating_sub(1);
        }
        if let Some(x) = t.process.threads.borrow_mut().get_mut(t.index) {
            *x = None;
        }
    }

    fn kill(&mut self, tag: u64) {
        let Some(t) = self.thread(tag).cloned() else { return };
        if let Some(fd) = t.process.pidfd.get() {
            // Its end is certain; nobody needs to be woken to hear of it.
            if self.by_token.remove(&t.process.token.get()).is_some() {
                let _ = self.inner.remove(fd.as_fd());
            }
            let waits = |tag: &u64| self.thread(*tag).is_some_and(|t| t.state.get() == State::Asking);
            if t.process.tags().iter().all(waits) {
                self.doomed.push(t.process.clone());
            } else {
                let _ = host::stub::kill(fd.as_fd());
            }
        }
        self.forget(&t.process);
    }

    fn running(&self) -> usize {
        self.busy()
    }

    fn report(&self) -> String {
        let c = self.counters;
        format!(
            "hot calls {}, bells {}, sleeps {}, slots heated {}, spun in vain {} us, apart {} times",
            c.hot_calls,
            c.bells,
            c.sleeps,
            c.heats,
            c.spun_ns / 1000,
            c.apart
        )
    }

    fn start(&mut self) -> Result {
        self.poller = Some(host::poller::Poller::start(self.inner.share()?)?);
        self.request_warm();
        Ok(())
    }
}
