//! Traced threads: where they stop for their tracers, and how they go on. ptrace(2).
//!
//! A stop is first prepared: the thread shows its registers, does what the kernel has for it to do (its tracer is to find
//! its memory as it will be), and puts back the call sites that were rewritten. Then it stands, and everything is in `regs`.
use crate::deliver::restart_ip;
use crate::serve::Sentry;
use abi::signal::SigInfo;
use abi::{Errno, Result, c};
use guest::ops::{Op, Resume};
use platform::Platform;
use std::rc::Rc;
use task::{Ask as Inside, At, Coming, Errand, ExitStatus, How, Outcome, Stop, Task, Trace};

const TF: u64 = 0x100;
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const TRAP_HWBKPT: i32 = 4;

/// Takes back the trap flag that a step has set.
pub fn unforce(t: &Task, tr: &Trace) {
    if tr.forced_tf.take() {
        t.regs.borrow_mut().eflags &= !TF;
        t.changed.set(true);
    }
}

/// What a trap of a tracee's is told as; None: the step was for the debug registers, and none of them has met anything.
pub fn trapped(t: &Task, code: i32, addr: u64) -> Option<SigInfo> {
    let info = SigInfo::fault(c::SIGTRAP, code, addr);
    let Some(tr) = t.trace().filter(|tr| code == TRAP_TRACE && tr.debug.borrow().armed()) else { return Some(info) };
    let met = tr.debug.borrow_mut().stepped(|addr, buf| t.peek(addr, buf));
    match tr.own_step.take() {
        true if met => Some(SigInfo::fault(c::SIGTRAP, TRAP_HWBKPT, addr)),
        true => None,
        // As on Linux a step is told as one, whatever else it has met.
        false => Some(info),
    }
}

/// The call the thread is in, as orig_rax tells it.
fn current(t: &Task) -> i64 {
    match t.ask.get() {
        Inside::Call(nr) => nr as i64,
        _ => -1,
    }
}

/// siginfo of a stop that is no signal's.
fn own_info(t: &Task, signo: i32, code: i32) -> Option<SigInfo> {
    let mut i = SigInfo::from_user(signo, code, t.tid, t.cred().ruid);
    i.signo = signo;
    Some(i)
}

fn event_stop(t: &Task, event: i32, signo: i32, result: Option<Result<i64>>) -> Stop {
    let code = event << 8 | signo;
    let at = if event == c::PTRACE_EVENT_EXIT { At::End } else { At::Event };
    Stop { at, code, info: own_info(t, signo, code), nr: current(t), result }
}

impl<P: Platform> Sentry<P> {
    /// A call of a thread whose calls are looked at.
    pub fn watched_call(&mut self, t: &Rc<Task>, nr: u64, args: [u64; 6]) {
        if let Some(tr) = t.trace() {
            tr.in_call.set(true);
            if tr.how.get() == How::Syscall {
                let code = if tr.has(c::PTRACE_O_TRACESYSGOOD) { c::SIGTRAP | 0x80 } else { c::SIGTRAP };
                let info = own_info(t, c::SIGTRAP, code);
                return self.stop(t, Stop { at: At::Entry, code, info, nr: nr as i64, result: None });
            }
        }
        self.filtered_call(t, nr, args, false);
    }

    pub fn make_call(&mut self, t: &Rc<Task>, nr: u64, args: [u64; 6]) {
        if t.traced.get() {
            t.outcome.set(Outcome::Traced);
            if nr == c::SYS_restart_syscall as u64 && t.restart().is_some() {
                return self.dispatch(t, t.again.get(), args);
            }
        }
        self.dispatch(t, nr, args);
    }

    pub fn stop(&mut self, t: &Rc<Task>, stop: Stop) {
        t.coming.set(Some(Coming { stop, flushed: false }));
        self.prepare(t);
    }

    /// The next step towards a stop.
    pub fn prepare(&mut self, t: &Rc<Task>) {
        let tag = t.tag.get();
        if t.filtering.get().is_some() {
            return self.filter_with_context(t);
        }
        let Some(mut c) = t.coming.get() else { return };
        if !t.full.get() {
            return self.p.resume(tag, Vec::new(), Resume::Context(0), None);
        }
        // Before a call nothing has been done for it.
        let early = matches!(c.stop.at, At::Entry | At::Filter(_));
        let mut ops = syscalls::sites::restore(t);
        ops.extend(t.ops.take());
        if !c.flushed && (!early || !ops.is_empty()) {
            c.flushed = true;
            t.coming.set(Some(c));
            return self.p.resume(tag, ops, Resume::Pause, None);
        }
        t.coming.set(None);
        if t.gone() && c.stop.at != At::End {
            return self.end(t);
        }
        self.stand(t, c.stop);
    }

    /// Everything is done: the registers are those the tracer sees.
    fn stand(&mut self, t: &Rc<Task>, mut stop: Stop) {
        let (ip, rax) = syscalls::sites::own_ip(t, t.regs.borrow().rip);
        {
            let mut r = t.regs.borrow_mut();
            r.rip = ip;
            r.rax = rax.unwrap_or(r.rax);
            if t.outcome.get() == Outcome::Regs {
                // rt_sigreturn(2), or a new thread: no call's result.
                stop.nr = -1;
            } else if matches!(stop.at, At::Entry | At::Filter(_)) {
                r.rax = Errno::ENOSYS.to_ret() as u64;
            } else if let Some(v) = stop.result {
                r.rax = v.unwrap_or_else(Errno::to_ret) as u64;
            }
        }
        t.outcome.set(Outcome::Return);
        t.changed.set(true);
        self.p.park(t.tag.get());
        match t.trace() {
            Some(tr) => t.stand(&tr, stop),
            // Its tracer is gone meanwhile.
            None => {
                let signal = if stop.at == At::Signal { stop.info.map_or(0, |i| i.signo) } else { 0 };
                self.onward(t, stop, signal);
            }
        }
    }

    /// The operations of a pause are done.
    pub fn paused(&mut self, t: &Rc<Task>, fault: bool) {
        if t.on_errand.replace(false) {
            t.process.served.wake();
            if t.onward.get().is_some() || t.gone() {
                kernel::sched::make_ready(t.tag.get());
            }
        } else if let Some(mut c) = t.coming.get() {
            if fault && c.stop.at == At::Exit {
                c.stop.result = Some(Err(Errno::EFAULT));
                t.coming.set(Some(c));
            }
            self.prepare(t);
        } else {
            self.wait_vfork(t);
        }
    }

    /// Does what a tracer wants done.
    pub fn run_errand(&mut self, t: &Rc<Task>) {
        let errand = t.errand.take();
        let Some(tr) = t.trace().filter(|tr| tr.stop.get().is_some()) else { return t.process.served.wake() };
        match errand {
            Some(Errand::Poke(words)) => {
                let ops = words.into_iter().map(|(addr, word, prot)| Op::Patch { addr, word, prot });
                let ops = if self.p.features().sites { ops.collect() } else { ops.flat_map(plainly).collect() };
                t.on_errand.set(true);
                self.p.resume(t.tag.get(), ops, Resume::Pause, None);
            }
            Some(Errand::Fp) => {
                tr.fp.replace(Some(self.p.fp(t.tag.get()).unwrap_or_default()));
                t.process.served.wake();
            }
            None => {}
        }
    }

    /// What a traced thread stops for after its call, before signals. True: it stops, or comes back later.
    pub fn finish_traced(&mut self, t: &Rc<Task>, result: Option<Result<i64>>) -> bool {
        let Some(tr) = t.trace() else { return false };
        if t.outcome.get() == Outcome::Traced {
            t.outcome.set(Outcome::Return);
        }
        if let Some((event, message)) = tr.event.take() {
            if t.outcome.get() == Outcome::Pause {
                t.outcome.set(Outcome::Return);
            }
            tr.message.set(message);
            self.stop(t, event_stop(t, event, c::SIGTRAP, result));
            return true;
        }
        if t.outcome.get() == Outcome::Pause {
            return false;
        }
        if tr.in_call.take() {
            match tr.how.get() {
                How::Syscall => {
                    let code = if tr.has(c::PTRACE_O_TRACESYSGOOD) { c::SIGTRAP | 0x80 } else { c::SIGTRAP };
                    let info = own_info(t, c::SIGTRAP, code);
                    self.stop(t, Stop { at: At::Exit, code, info, nr: current(t), result });
                    return true;
                }
                How::Step => t.force_signal(SigInfo::fault(c::SIGTRAP, TRAP_BRKPT, t.regs.borrow().rip)),
                How::Cont => {}
            }
        }
        if t.trap.take() {
            let signo = t.process.stopped.get().unwrap_or(c::SIGTRAP);
            t.passed.set(true);
            self.stop(t, event_stop(t, c::PTRACE_EVENT_STOP, signo, result));
            return true;
        }
        if t.stop_due() {
            self.stop_with_group(t, result);
            return true;
        }
        false
    }

    pub fn stop_with_group(&mut self, t: &Rc<Task>, result: Option<Result<i64>>) {
        let Some(tr) = t.trace() else { return };
        let signo = t.process.stopped.get().unwrap_or(c::SIGSTOP);
        t.passed.set(true);
        let mut stop = event_stop(t, c::PTRACE_EVENT_STOP, signo, result);
        stop.at = At::Group;
        if !tr.seized {
            (stop.code, stop.info) = (signo, None);
        }
        self.stop(t, stop);
    }

    pub fn stop_for_signal(&mut self, t: &Rc<Task>, info: SigInfo, result: Option<Result<i64>>) {
        self.stop(t, Stop { at: At::Signal, code: info.signo, info: Some(info), nr: current(t), result });
    }

    /// A step that ends at a handler's first instruction.
    pub fn stop_in_handler(&mut self, t: &Rc<Task>) -> bool {
        if t.trace().is_none_or(|tr| tr.how.get() != How::Step) {
            return false;
        }
        let info = own_info(t, c::SIGTRAP, c::SIGTRAP);
        self.stop(t, Stop { at: At::Event, code: c::SIGTRAP, info, nr: -1, result: None });
        true
    }

    /// PTRACE_EVENT_EXIT, unless the thread was killed.
    pub fn stop_at_end(&mut self, t: &Rc<Task>) -> bool {
        let Some(tr) = t.trace().filter(|tr| tr.has(c::PTRACE_O_TRACEEXIT) && t.has_mem()) else { return false };
        let status = t.process.exiting.get().unwrap_or(t.exit_code.get());
        if tr.ended.replace(true) || matches!(status, ExitStatus::Signaled(c::SIGKILL, _)) {
            return false;
        }
        tr.message.set(status.word() as u64);
        t.outcome.set(Outcome::Return);
        self.stop(t, event_stop(t, c::PTRACE_EVENT_EXIT, c::SIGTRAP, None));
        true
    }

    /// The new program of a traced thread stands ready.
    pub fn traced_exec(&mut self, t: &Rc<Task>, tr: &Trace) {
        tr.debug.take();
        t.outcome.set(Outcome::Return);
        t.changed.set(true);
        t.ask.set(Inside::Call(c::SYS_execve as u64));
        if tr.has(c::PTRACE_O_TRACEEXEC) {
            tr.event.set(Some((c::PTRACE_EVENT_EXEC, t.tid as u64)));
        } else if !tr.seized {
            let info = SigInfo::from_user(c::SIGTRAP, c::SI_USER, t.process.pid, t.cred().ruid);
            t.pending.borrow_mut().push(info, usize::MAX);
        }
    }

    /// Goes on from a stop, with the signal that the tracer gave.
    pub fn onward(&mut self, t: &Rc<Task>, stop: Stop, signal: i32) {
        if t.gone() {
            return self.end(t);
        }
        t.ask.set(if stop.nr >= 0 { Inside::Call(stop.nr as u64) } else { Inside::Other });
        let rax = t.regs.borrow().rax as i64;
        let restart = Errno::from_raw(-rax.clamp(-4095, 0) as i32);
        let result = (stop.nr >= 0 && restart.is_restart()).then_some(Err(restart));
        match stop.at {
            At::Entry | At::Filter(_) => {
                if signal != 0 {
                    t.signal(SigInfo::new(signal, c::SI_KERNEL));
                }
                self.enter(t, stop);
            }
            At::Signal => {
                if let Some(info) = replaced(t, stop, signal) {
                    if t.blocked.get().has(info.signo) {
                        t.pending.borrow_mut().push(info, usize::MAX);
                    } else {
                        t.taken.set(Some(info));
                    }
                }
                self.finish(t, result);
            }
            At::End => self.end(t),
            At::Exit | At::Group | At::Event => {
                if signal != 0 && stop.at == At::Exit {
                    t.signal(SigInfo::new(signal, c::SI_KERNEL));
                }
                if stop.code >> 8 == c::PTRACE_EVENT_VFORK {
                    t.result.set(Some(Ok(rax)));
                    return self.wait_vfork(t);
                }
                self.finish(t, result);
            }
        }
    }

    /// Makes the call that the registers now tell; -1: none.
    fn enter(&mut self, t: &Rc<Task>, stop: Stop) {
        if stop.nr as i32 == -1 {
            return self.finish(t, None);
        }
        let (nr, args) = (stop.nr as u64, t.regs.borrow().args());
        t.args.set(args);
        // What a filter's stop made of the call is asked about once more.
        self.filtered_call(t, nr, args, matches!(stop.at, At::Filter(_)));
    }

    /// Lets a traced thread go whose whole context is here.
    pub fn go_traced(&mut self, t: &Rc<Task>, result: Option<Result<i64>>) {
        let Some(tr) = t.trace() else { return };
        if t.outcome.get() != Outcome::Regs {
            let mut r = t.regs.borrow_mut();
            match result {
                Some(Err(e)) if e.is_restart() => {
                    // No handler ran: the call is made again, and its tracer sees that.
                    if let Some(m) = t.saved_mask.take() {
                        t.blocked.set(m);
                    }
                    let nr = current(t) as u64;
                    if nr != c::SYS_restart_syscall as u64 {
                        t.again.set(nr);
                    }
                    let goes_on = e == Errno::ERESTART_RESTARTBLOCK;
                    r.rax = if goes_on { c::SYS_restart_syscall as u64 } else { t.again.get() };
                    r.rip = restart_ip(r.rip);
                }
                Some(v) => r.rax = v.unwrap_or_else(Errno::to_ret) as u64,
                None => {}
            }
        }
        let ip = t.regs.borrow().rip;
        let armed = tr.debug.borrow().armed();
        if armed && tr.debug.borrow_mut().meets(ip) {
            t.ask.set(Inside::Other);
            t.force_signal(SigInfo::fault(c::SIGTRAP, TRAP_HWBKPT, ip));
            return self.finish(t, None);
        }
        if armed {
            tr.debug.borrow_mut().look(|addr, buf| t.peek(addr, buf));
        }
        if armed || tr.how.get() == How::Step {
            let mut r = t.regs.borrow_mut();
            tr.forced_tf.set(r.eflags & TF == 0);
            tr.own_step.set(tr.how.get() != How::Step && tr.forced_tf.get());
            r.eflags |= TF;
        }
        t.outcome.set(Outcome::Return);
        t.changed.set(false);
        self.send(t, Resume::Regs);
    }
}

/// The signal that is acted on after a signal's stop.
fn replaced(t: &Task, stop: Stop, signal: i32) -> Option<SigInfo> {
    if signal == 0 {
        return None;
    }
    match stop.info {
        Some(i) if i.signo == signal => Some(i),
        _ => {
            let by = t.trace().and_then(|tr| tr.tracer());
            let (pid, uid) = by.map_or((0, 0), |b| (b.process.pid, b.cred().ruid));
            Some(SigInfo::from_user(signal, c::SI_USER, pid, uid))
        }
    }
}

/// A word written where the platform rewrites no sites.
fn plainly(op: Op) -> Vec<Op> {
    let Op::Patch { addr, word, prot } = op else { return vec![op] };
    let (page, len) = (addr & !(abi::PAGE_SIZE - 1), abi::PAGE_SIZE);
    vec![
        Op::Protect { addr: page, len, prot: prot | c::PROT_WRITE },
        Op::Write { addr, bytes: word.to_le_bytes().to_vec() },
        Op::Protect { addr: page, len, prot },
    ]
}
