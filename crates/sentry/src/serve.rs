//! The kernel thread's loop: asks in, answers out, and what is due in between.
use crate::containers::Container;
use crate::control::Control;
use crate::report::Lines;
use abi::signal::SigInfo;
use abi::{Errno, Result, c};
use guest::ops::{Op, Resume};
use ipc::tty::Console;
use kernel::wait::WaitQueue;
use kernel::{reactor, sched, timer};
use platform::{Ask, Event, Platform};
use std::rc::Rc;
use std::task::{Poll, Waker};
use syscalls::table;
use task::{Ask as Inside, ExitStatus, Kernel, Outcome, Task};

/// Of SIGSEGV: nothing is mapped there.
const SEGV_MAPERR: i32 = 1;

pub struct Sentry<P: Platform> {
    pub p: P,
    pub k: Rc<Kernel>,
    strace: Lines,
    log: Lines,
    launched_ns: u64,
    started: bool,
    pub control: Option<Control>,
    /// The first processes of containers, until they may begin.
    pub held: Vec<Rc<Task>>,
    /// Root directories, and what stands on them, of containers beside the first.
    pub containers: Vec<Container>,
    /// What their /proc shows; and owners cannot be kept on the host.
    pub source: Rc<crate::proc::Source>,
    pub single: bool,
    /// Calls and faults served, and how many of them when timers were last looked at.
    pub served: u64,
    looked: u64,
    wakers: Vec<Waker>,
    signals: host::signals::Signals,
    signal_queue: Rc<WaitQueue>,
}

impl<P: Platform> Sentry<P> {
    pub fn new(
        p: P,
        k: Rc<Kernel>,
        signals: host::signals::Signals,
        strace: Lines,
        log: Lines,
        launched_ns: u64,
    ) -> Self {
        Sentry {
            p,
            k,
            strace,
            log,
            launched_ns,
            started: false,
            control: None,
            held: Vec::new(),
            containers: Vec::new(),
            source: Rc::default(),
            single: false,
            served: 0,
            looked: 0,
            wakers: Vec::new(),
            signals,
            signal_queue: Rc::new(WaitQueue::new()),
        }
    }

    /// Runs until the first process has ended. `hold`: it begins when the control socket says so.
    pub fn run(&mut self, first: &Rc<Task>, hold: bool, events: &Lines) -> ExitStatus {
        let _watch = reactor::watch(self.signals.fd(), self.signal_queue.clone()).expect("host epoll");
        if hold {
            first.ask.set(Inside::Other);
            self.held.push(first.clone());
            events.event(&wire::Event::Held { pid: None });
        } else {
            self.begin_exec(first);
        }
        loop {
            self.housekeeping();
            if let Some(status) = self.k.ended.get() {
                self.show_rest();
                self.tell_last(status);
                self.k.note(&self.p.report());
                self.flush_log();
                return status;
            }
            if let Some(e) = self.p.poll() {
                self.served += 1;
                self.handle(e, events);
                continue;
            }
            self.run_timers();
            if self.run_ready() || self.work_waits() || self.carry() || self.serve_control() {
                continue;
            }
            let p = &mut self.p;
            reactor::with_epoll_fd(|fd| p.wait(timer::next_deadline(), fd)).expect("host epoll");
            self.look_outside();
        }
    }

    /// Host descriptors that became ready, and signals to forward.
    fn look_outside(&mut self) {
        if self.p.take_others() {
            reactor::turn(Some(0)).expect("host epoll");
            self.forward_signals();
        }
    }

    fn work_waits(&self) -> bool {
        let k = &self.k;
        let none = k.gone.borrow().is_empty() && k.kicks.borrow().is_empty();
        !none || !k.errands.borrow().is_empty() || !k.killed.borrow().is_empty() || !k.overdue.borrow().is_empty()
    }

    fn run_timers(&mut self) {
        self.looked = self.served;
        if let Some(d) = timer::next_deadline() {
            let now = host::time::monotonic_ns();
            if d <= now {
                timer::fire(now);
            }
        }
    }

    fn housekeeping(&mut self) {
        if self.served - self.looked >= 64 {
            self.run_timers();
            self.look_outside();
        }
        if sched::has_ready() {
            self.run_ready();
        }
        self.carry();
        self.serve_control();
        if !self.k.killed.borrow().is_empty() || !self.k.overdue.borrow().is_empty() {
            self.kill();
        }
        if !self.k.gone.borrow().is_empty() {
            for (tag, whole) in self.k.gone.take() {
                if whole {
                    self.p.kill(tag);
                } else {
                    self.p.resume(tag, Vec::new(), Resume::Exit, None);
                    self.p.drop_thread(tag);
                }
            }
        }
        if !self.k.kicks.borrow().is_empty() {
            for tag in self.k.kicks.take() {
                self.p.kick(tag);
            }
        }
        if !self.k.errands.borrow().is_empty() {
            for t in self.k.errands.take() {
                self.run_errand(&t);
            }
        }
        if self.k.sigio.waits() {
            self.k.send_sigio();
        }
        if !self.k.execs.borrow().is_empty() {
            let waiting = self.k.execs.take();
            for t in waiting.into_iter().filter(|t| !t.dead.get()) {
                if !self.p.spawn(t.tag.get()) {
                    self.k.execs.borrow_mut().push(t);
                }
            }
        }
    }

    /// Signals sent to the sentry from outside go to the foreground group of the container, or to pid 1.
    fn forward_signals(&mut self) {
        while let Some(sig) = self.signals.take() {
            self.k.outside_signal.set(true);
            let info = SigInfo::from_user(sig, c::SI_USER, 0, 0);
            let group = self.k.group(self.k.foreground.get());
            let console = self.k.console(1);
            if let (c::SIGWINCH, Some(console)) = (sig, &console) {
                console.resize();
                self.k.outside_signal.set(false);
                continue;
            }
            let terminal = console.is_none() && matches!(sig, c::SIGINT | c::SIGQUIT | c::SIGTSTP | c::SIGWINCH);
            if terminal && !group.is_empty() {
                group.iter().for_each(|p| p.signal(info));
            } else if let Some(p) = self.k.process(1) {
                p.signal(info);
            }
            self.k.outside_signal.set(false);
        }
    }

    /// Carries the consoles' bytes. True: something moved.
    fn carry(&self) -> bool {
        let due: Vec<_> = self.k.consoles.borrow().iter().map(|(_, c)| c).filter(|c| c.due()).cloned().collect();
        due.iter().for_each(|c| c.carry());
        if !due.is_empty() {
            self.close_consoles();
        }
        !due.is_empty()
    }

    /// Hangs up the consoles whose processes have ended and whose output has been shown.
    pub fn close_consoles(&self) {
        let over = |pid: i32, c: &Console| pid != 1 && self.k.process(pid).is_none() && !c.unfinished();
        // Closing the masters reaches back into the kernel.
        let closed: Vec<_> = self.k.consoles.borrow_mut().extract_if(.., |(pid, c)| over(*pid, c)).collect();
        drop(closed);
    }

    /// What the program wrote last is still shown, if somebody looks.
    fn show_rest(&self) {
        let consoles = self.k.consoles.borrow().clone();
        if consoles.is_empty() {
            return;
        }
        let patience = host::time::monotonic_ns() + 5_000_000_000;
        loop {
            consoles.iter().for_each(|(_, c)| c.carry());
            if !consoles.iter().any(|(_, c)| c.unfinished()) || host::time::monotonic_ns() > patience {
                return;
            }
            reactor::turn(Some(20_000_000)).expect("host epoll");
        }
    }

    /// Polls every parked call that was woken, and looks at every stopped thread that was noticed.
    fn run_ready(&mut self) -> bool {
        let mut any = false;
        while let Some(tag) = sched::next_ready() {
            any = true;
            let Some(t) = self.k.by_tag(tag) else { continue };
            let parked = t.parked.take();
            let Some(mut call) = parked else {
                if t.coming.get().is_some() || t.filtering.get().is_some() || t.on_errand.get() {
                    // It has yet to come.
                } else if let Some((stop, signal)) = t.onward.take() {
                    self.onward(&t, stop, signal);
                } else if let Some(tr) = t.trace().filter(|tr| tr.stop.get().is_some()) {
                    if t.gone() {
                        tr.stop.set(None);
                        self.end(&t);
                    }
                } else if let Some(r) = t.held.take() {
                    self.finish(&t, r);
                }
                continue;
            };
            vfs::next_epoch();
            task::set_caller(&t);
            match sched::resume(t.interrupted(), &self.waker(tag), call.as_mut()) {
                Poll::Ready(r) => {
                    drop(call);
                    self.done(&t, r);
                }
                Poll::Pending => {
                    t.parked.replace(Some(call));
                }
            }
        }
        any
    }

    fn waker(&mut self, tag: u64) -> Waker {
        let i = tag as usize;
        while self.wakers.len() <= i {
            self.wakers.push(sched::waker(self.wakers.len() as u64));
        }
        self.wakers[i].clone()
    }

    fn handle(&mut self, e: Event, events: &Lines) {
        let (tag, ask) = match e {
            Event::Ask { tag, ask } => (tag, ask),
            Event::Died { tags } => return self.died(&tags),
        };
        let Some(t) = self.k.by_tag(tag) else { return };
        t.asked();
        let done = !matches!(ask, Ask::Failed(_));
        syscalls::sites::landed(&t, done);
        if done {
            // What was asked of the host before has been done.
            t.undo.take();
        }
        match ask {
            Ask::Call { nr, args, full } => self.call(&t, nr, args, full),
            Ask::Fault { signo, code, addr } => {
                let fault = matches!(signo, c::SIGILL | c::SIGTRAP | c::SIGBUS | c::SIGFPE);
                let signo = if fault { signo } else { c::SIGSEGV };
                self.context(&t);
                if signo == c::SIGSEGV && code == SEGV_MAPERR && syscalls::memory::grow(&t, addr) {
                    return self.finish(&t, None);
                }
                if signo == c::SIGTRAP && syscalls::sites::is_unfinished(&t) {
                    return self.finish(&t, None);
                }
                let (ip, sp) = (t.ip.get(), t.regs.borrow().rsp);
                // Of a tracee it is a breakpoint or a step, and there are many.
                if signo != c::SIGTRAP || !t.traced.get() {
                    self.k.note(&format!(
                        "[{}] fault: signal {signo} code {code} at {addr:#x}, ip {ip:#x}, sp {sp:#x}",
                        t.tid
                    ));
                }
                let info = match signo {
                    c::SIGTRAP => crate::trace::trapped(&t, code, addr),
                    _ => Some(SigInfo::fault(signo, code, addr)),
                };
                if let Some(info) = info {
                    t.force_signal(info);
                }
                self.finish(&t, None);
            }
            Ask::Context => {
                let inside = t.ask.get();
                self.context(&t);
                if t.coming.get().is_some() || t.filtering.get().is_some() {
                    t.ask.set(inside);
                    return self.prepare(&t);
                }
                let result = t.result.take();
                if result.is_some() {
                    t.ask.set(inside);
                }
                self.finish(&t, result);
            }
            Ask::Ready => {
                t.set_mem(self.p.memory(tag));
                t.place_futexes();
                t.ask.set(Inside::Other);
                t.full.set(true);
                if !self.started {
                    self.started = true;
                    let ns = host::time::monotonic_ns().saturating_sub(self.launched_ns);
                    events.event(&wire::Event::Started { ns });
                }
                if let Some(x) = t.exec.take() {
                    t.ops.replace(x.ops);
                    t.resume_with(x.regs);
                    if let Some(tr) = t.trace() {
                        self.traced_exec(&t, &tr);
                    }
                }
                self.finish(&t, None);
            }
            Ask::Done { fault } => self.paused(&t, fault),
            Ask::Failed(e) => {
                let undo = t.undo.take();
                if let Some(u) = undo {
                    u(&t);
                }
                t.ops.borrow_mut().clear();
                if t.on_errand.get() {
                    return self.paused(&t, true);
                }
                t.coming.set(None);
                t.outcome.set(Outcome::Return);
                if t.alive.get() {
                    self.finish(&t, Some(Err(e)));
                } else {
                    // A program whose image cannot be mapped is killed, as Linux does past the point of no return.
                    self.k.note(&format!("pid {}: the image cannot be mapped: {e}", t.process.pid));
                    t.process.exit_group(ExitStatus::Signaled(c::SIGKILL, false));
                    self.finish(&t, None);
                }
            }
        }
    }

    /// The thread is inside with its whole context.
    fn context(&mut self, t: &Rc<Task>) {
        t.ask.set(Inside::Other);
        t.full.set(true);
        if let Some(r) = self.p.regs(t.tag.get()) {
            t.ip.set(r.rip);
            t.regs.replace(r);
            if let Some(tr) = t.trace() {
                crate::trace::unforce(t, &tr);
            }
        }
        t.fp_size.set(self.p.fp_size(t.tag.get()));
    }

    fn call(&mut self, t: &Rc<Task>, nr: u64, args: [u64; 6], full: bool) {
        vfs::next_epoch();
        t.alive.set(true);
        if full {
            self.context(t);
        } else {
            t.full.set(false);
        }
        t.ask.set(Inside::Call(nr));
        t.args.set(args);
        if full && self.p.features().sites && syscalls::sites::consider(t, nr) {
            t.outcome.set(Outcome::Natively);
            return self.finish(t, Some(Err(Errno::ERESTARTNOINTR)));
        }
        if t.watched.get() {
            return self.watched_call(t, nr, args);
        }
        self.dispatch(t, nr, args);
    }

    /// Makes the call: tried, then, if it must wait, parked.
    pub fn dispatch(&mut self, t: &Rc<Task>, nr: u64, args: [u64; 6]) {
        task::set_caller(t);
        sched::begin(t.interrupted());
        if let Some(r) = table::dispatch_now(t, nr, args) {
            return self.done(t, Some(r));
        }
        if let Some(r) = sched::attempt(t.interrupted(), table::dispatch(t, nr, args)) {
            return self.done(t, r);
        }
        let me = t.clone();
        let call = async move { table::dispatch(&me, nr, args).await };
        self.park(t, Box::pin(call));
    }

    fn park(&mut self, t: &Rc<Task>, mut call: task::Parked) {
        let tag = t.tag.get();
        match sched::resume(t.interrupted(), &self.waker(tag), call.as_mut()) {
            Poll::Ready(r) => {
                drop(call);
                self.done(t, r);
            }
            Poll::Pending => {
                t.parked.replace(Some(call));
                self.p.park(tag);
            }
        }
    }

    fn done(&mut self, t: &Rc<Task>, r: Option<Result<i64>>) {
        let (Inside::Call(nr), args) = (t.ask.get(), t.args.get()) else { return self.finish(t, r) };
        let result = r.unwrap_or_else(|| {
            if self.k.unknown.borrow_mut().insert(nr) {
                self.k.note(&format!("unknown system call {nr} from pid {} answered ENOSYS", t.process.pid));
            }
            Err(Errno::ENOSYS)
        });
        if self.strace.on() {
            let row = table::ROWS.iter().find(|r| r.nr == nr);
            let shown = result.map_err(|e| if e.is_restart() { Errno::EINTR } else { e });
            let line = syscalls::strace::line(row, nr, args, shown, &*t.mem());
            self.strace.line(&format!("[{}] {line}", t.tid));
        }
        if self.k.sigio.waits() {
            // Who is the owner of what it has changed hears of it before it goes on.
            self.k.send_sigio();
        }
        // The fast path: nothing but a result.
        let plain = t.outcome.get() == Outcome::Return && !t.changed.get();
        if plain && t.ops.borrow().is_empty() && !t.interrupted() {
            let ret = match result {
                Ok(v) => v,
                Err(e) if e.is_restart() => return self.finish(t, Some(result)),
                Err(e) => e.to_ret(),
            };
            t.ask.set(Inside::Outside);
            return self.p.answer(t.tag.get(), ret);
        }
        self.finish(t, Some(result));
    }

    /// Starts a program that exec prepared: in a fresh stub.
    pub fn begin_exec(&mut self, t: &Rc<Task>) {
        let mm = t.exec.borrow().as_ref().map(|x| x.mm.clone());
        let Some(mm) = mm else { return };
        mm.traced.set(t.traced.get());
        t.change_mm(mm);
        t.end_vfork();
        t.outcome.set(Outcome::Return);
        t.ask.set(Inside::Other);
        t.alive.set(false);
        self.k.execs.borrow_mut().push(t.clone());
    }

    /// vfork: the parent's result waits for the child's exec or end.
    pub fn wait_vfork(&mut self, t: &Rc<Task>) {
        let me = t.clone();
        let result = t.result.take();
        let call = async move {
            kernel::wait::until_deaf(&[&me.vfork_done], || (!me.vforking.get() || me.gone()).then_some(())).await.ok();
            if let (Some(tr), Some(Ok(child))) = (me.trace(), result) {
                me.outcome.set(Outcome::Traced);
                if tr.has(c::PTRACE_O_TRACEVFORKDONE) {
                    tr.event.set(Some((c::PTRACE_EVENT_VFORK_DONE, child as u64)));
                }
            }
            result
        };
        self.park(t, Box::pin(call));
    }

    fn flush_log(&mut self) {
        for l in self.k.log.take() {
            self.log.line(&l);
        }
    }

    /// Sends what the thread's outcome and operations say.
    pub fn send(&mut self, t: &Rc<Task>, then: Resume) {
        let ops: Vec<Op> = t.ops.take();
        if !self.k.log.borrow().is_empty() && self.log.on() {
            self.flush_log();
        }
        if then != Resume::Pause && !matches!(then, Resume::Context(_)) {
            t.ask.set(Inside::Outside);
        }
        let regs = matches!(then, Resume::Regs | Resume::ReturnAt(_)).then(|| *t.regs.borrow());
        t.alive.set(true);
        self.p.resume(t.tag.get(), ops, then, regs.as_ref());
    }
}
