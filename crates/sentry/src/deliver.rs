//! The way out: signals, stops, restarts, and then the answer.
use crate::serve::Sentry;
use abi::signal::{SS_AUTODISARM, SigAction, SigInfo, SigSet, StackT};
use abi::{Errno, Result, c};
use guest::ops::{Op, Resume};
use kernel::signal::{Default as Act, SIG_DFL, SIG_IGN, SYNCHRONOUS, default_action, frame};
use platform::Platform;
use slots::layout::{SITE_CODE_SIZE, SITES_CODE, SITES_SIZE, SITES_TABLE};
use std::rc::Rc;
use task::{Ask as Inside, ExitStatus, Outcome, Task};
use zerocopy::IntoBytes;

/// Where a call is made again from, given where it returns to.
pub fn restart_ip(ip: u64) -> u64 {
    if (SITES_CODE..SITES_TABLE + SITES_SIZE).contains(&ip) { ip & !(SITE_CODE_SIZE - 1) } else { ip - 2 }
}

impl<P: Platform> Sentry<P> {
    /// Lets the thread go on, after whatever must happen first. `result`: of the call it made, if it made one.
    pub fn finish(&mut self, t: &Rc<Task>, result: Option<Result<i64>>) {
        if t.dead.get() {
            return;
        }
        if t.gone() {
            return self.end(t);
        }
        if t.outcome.get() == Outcome::Exec {
            return self.begin_exec(t);
        }
        if t.traced.get() && self.finish_traced(t, result) {
            return;
        }
        if t.outcome.get() == Outcome::Pause {
            t.result.set(result);
            t.outcome.set(Outcome::Return);
            return self.send(t, Resume::Pause);
        }
        let mut result = result;
        // One that was held back its tracer has heard of.
        let held = t.taken.take();
        let mut told = held.is_some();
        let mut next = held.or_else(|| t.take_signal());
        while let Some(info) = next {
            if t.traced.get() && !told && info.signo != c::SIGKILL {
                return self.stop_for_signal(t, info, result);
            }
            told = false;
            let table = t.process.actions.borrow().clone();
            let action = table.borrow().get(info.signo);
            match action.handler {
                SIG_IGN => {}
                SIG_DFL => match default_action(info.signo) {
                    Act::Ignore | Act::Continue => {}
                    // In an orphaned group only SIGSTOP stops.
                    Act::Stop if info.signo != c::SIGSTOP && t.process.in_orphaned_group() => {}
                    Act::Stop => {
                        t.process.stop(info.signo);
                        t.passed.set(false);
                    }
                    _ if t.process.is_init() && !self.fatal_to_init(&info) => {}
                    kind => {
                        self.k.note(&format!("pid {} killed by signal {}", t.process.pid, info.signo));
                        t.process.exit_group(ExitStatus::Signaled(info.signo, kind == Act::Core));
                        return self.end(t);
                    }
                },
                _ => {
                    if !t.full.get() {
                        // The frame needs every register: the thread comes again with them.
                        t.taken.set(Some(info));
                        t.result.set(result);
                        return self.send(t, Resume::Context(0));
                    }
                    result = self.settle_result(t, result, Some(&action));
                    if self.handle_signal(t, info, action).is_err() {
                        // No room for the frame: a fault, which a handler on another stack may yet take.
                        if info.signo == c::SIGSEGV {
                            table.borrow_mut().set(c::SIGSEGV, SigAction::default());
                        }
                        t.force_signal(SigInfo::new(c::SIGSEGV, c::SI_KERNEL));
                    } else if t.traced.get() && self.stop_in_handler(t) {
                        return;
                    }
                }
            }
            next = t.take_signal();
        }
        if t.gone() {
            return self.end(t);
        }
        if t.stop_due() {
            if t.traced.get() {
                return self.stop_with_group(t, result);
            }
            t.held.set(Some(result));
            self.p.park(t.tag.get());
            return;
        }
        self.go(t, result);
    }

    /// Pid 1 dies only of faults, or of what the operator sends; when it is guarded, of SIGKILL.
    fn fatal_to_init(&self, info: &SigInfo) -> bool {
        let fault = info.code > 0 && SYNCHRONOUS.has(info.signo);
        let sent = info.code > 0 || info.fields[0] == 0;
        info.signo == c::SIGKILL || fault || (sent && !self.k.config.guarded_init)
    }

    fn go(&mut self, t: &Rc<Task>, result: Option<Result<i64>>) {
        if t.traced.get() && t.full.get() {
            return self.go_traced(t, result);
        }
        if t.outcome.get() == Outcome::Natively {
            t.outcome.set(Outcome::Return);
            if !t.full.get() {
                return self.send(t, Resume::Natively);
            }
            // By its own instruction: what is rewritten meanwhile is so for this call, too.
            self.settle_result(t, Some(Err(Errno::ERESTARTNOINTR)), None);
            t.changed.set(false);
            return self.send(t, Resume::Regs);
        }
        if t.outcome.get() == Outcome::NoLink {
            t.outcome.set(Outcome::Return);
            if !t.full.get() {
                return self.send(t, Resume::NoLink(vfs::names::number()));
            }
        }
        if let Some(Err(e)) = result
            && e.is_restart()
        {
            // No handler ran: the call is made again, unseen by the guest.
            if let Some(m) = t.saved_mask.take() {
                t.blocked.set(m);
            }
            let (nr, args) = match t.ask.get() {
                Inside::Call(nr) if nr != c::SYS_restart_syscall as u64 => (nr, t.args.get()),
                _ => (t.again.get(), t.args.get()),
            };
            t.again.set(nr);
            let goes_on = e == Errno::ERESTART_RESTARTBLOCK;
            t.ask.set(Inside::Call(if goes_on { c::SYS_restart_syscall as u64 } else { nr }));
            return self.dispatch(t, nr, args);
        }
        if t.outcome.get() == Outcome::Regs || (t.full.get() && t.changed.get()) {
            let elsewhere = t.outcome.get() != Outcome::Regs;
            t.outcome.set(Outcome::Return);
            t.changed.set(false);
            return match result {
                Some(r) if elsewhere => self.send(t, Resume::ReturnAt(r.unwrap_or_else(Errno::to_ret))),
                _ => self.send(t, Resume::Regs),
            };
        }
        t.changed.set(false);
        match result {
            Some(Ok(v)) => self.send(t, Resume::Return(v)),
            Some(Err(e)) => self.send(t, Resume::Return(e.to_ret())),
            None => self.send(t, Resume::Unchanged),
        }
    }

    /// Puts the call's result into the registers, as the interrupted code will find it.
    fn settle_result(
        &mut self,
        t: &Rc<Task>,
        result: Option<Result<i64>>,
        action: Option<&SigAction>,
    ) -> Option<Result<i64>> {
        let result = result?;
        if t.outcome.get() == Outcome::Regs {
            return None;
        }
        let mut r = t.regs.borrow_mut();
        let nr = match t.ask.get() {
            Inside::Call(nr) if nr != c::SYS_restart_syscall as u64 => nr,
            _ => t.again.get(),
        };
        match result {
            Err(e) if e.is_restart() => {
                let again = match e {
                    Errno::ERESTARTNOINTR => true,
                    Errno::ERESTARTSYS => action.is_some_and(|a| a.has(c::SA_RESTART)),
                    _ => false,
                };
                if again {
                    r.rax = nr;
                    r.rip = restart_ip(r.rip);
                } else {
                    r.rax = Errno::EINTR.to_ret() as u64;
                }
            }
            Ok(v) => r.rax = v as u64,
            Err(e) => r.rax = e.to_ret() as u64,
        }
        t.changed.set(true);
        None
    }

    fn handle_signal(&mut self, t: &Rc<Task>, info: SigInfo, action: SigAction) -> Result {
        let regs = *t.regs.borrow();
        let mask = t.saved_mask.get().unwrap_or(t.blocked.get());
        let stack = t.altstack.get();
        let fp = self.p.fp_size(t.tag.get());
        let d = frame::deliver(&regs, &action, info, mask, &stack, fp)?;
        if !t.mm().writable(d.addr..d.fp_addr + fp) {
            return Err(Errno::EFAULT);
        }
        t.op(Op::Write { addr: d.addr, bytes: d.frame.as_bytes().to_vec() });
        if fp > 0 {
            t.op(Op::SaveFp { addr: d.fp_addr, len: fp });
        }
        t.saved_mask.take();
        if stack.flags & SS_AUTODISARM != 0 && action.has(c::SA_ONSTACK) {
            t.altstack.set(StackT::default());
        }
        let mut blocked = t.blocked.get().with(SigSet(action.mask));
        if !action.has(c::SA_NODEFER) {
            blocked = blocked.with(SigSet::of(info.signo));
        }
        t.blocked.set(blocked.blockable());
        if action.has(c::SA_RESETHAND) {
            let reset = SigAction { handler: SIG_DFL, ..action };
            t.process.actions.borrow().borrow_mut().set(info.signo, reset);
        }
        t.regs.replace(d.regs);
        t.outcome.set(Outcome::Return);
        t.changed.set(true);
        Ok(())
    }

    /// The thread ends; with a whole group in an address space of its own, all its threads do.
    pub fn end(&mut self, t: &Rc<Task>) {
        if t.traced.get() && self.stop_at_end(t) {
            return;
        }
        t.parked.take();
        t.ops.take();
        let p = t.process.clone();
        if p.exiting.get().is_some() && t.mm().users.get() == p.threads().len() {
            for other in p.threads() {
                other.parked.take();
                other.finish_exit();
            }
            return;
        }
        t.finish_exit();
    }
}
