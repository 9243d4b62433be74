//! What a thread's own filters say of its calls. seccomp(2).
use crate::serve::Sentry;
use abi::seccomp::{AUDIT_ARCH_X86_64, CallData};
use abi::signal::SigInfo;
use abi::{Errno, c};
use guest::ops::Resume;
use kernel::seccomp::{ACTION, DATA, Seccomp};
use kernel::seccomp::{RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_KILL_THREAD, RET_LOG, RET_TRACE, RET_TRAP};
use platform::Platform;
use std::rc::Rc;
use syscalls::sites;
use task::{At, ExitStatus, Stop, Task};

const SYS_SECCOMP: i32 = 1;
const ERRNO_MAX: u32 = 4095;

impl<P: Platform> Sentry<P> {
    /// Makes the call if the thread's filters let it. `again`: they have been asked, and its tracer has changed it since.
    pub fn filtered_call(&mut self, t: &Rc<Task>, nr: u64, args: [u64; 6], again: bool) {
        let f = match &*t.seccomp.borrow() {
            Seccomp::Off => None,
            Seccomp::Strict => Some(None),
            Seccomp::Filtered(f) => Some(Some(f.clone())),
        };
        let Some(f) = f else { return self.make_call(t, nr, args) };
        let Some(f) = f else {
            let fine = matches!(nr as i64, c::SYS_read | c::SYS_write | c::SYS_exit | c::SYS_rt_sigreturn);
            if fine {
                return self.make_call(t, nr, args);
            }
            return self.kill_thread(t, c::SIGKILL);
        };
        if f.allows(nr) {
            return self.make_call(t, nr, args);
        }
        if !t.full.get() && f.looks_at_ip {
            return self.fetch_context(t, again);
        }
        let ip = if t.full.get() { sites::own_ip(t, t.regs.borrow().rip).0 } else { 0 };
        let call = CallData { nr: nr as u32, arch: AUDIT_ARCH_X86_64, ip, args };
        let (said, log) = f.decide(&call);
        let (action, data) = (said & ACTION, said & DATA);
        if action == RET_LOG || (log && action != RET_ALLOW) {
            self.k.note(&format!("seccomp: pid {} call {nr} action {action:#x}", t.process.pid));
        }
        match action {
            RET_ALLOW | RET_LOG => self.make_call(t, nr, args),
            RET_ERRNO => {
                let errno = Errno::from_raw(data.min(ERRNO_MAX) as i32);
                let result = if data == 0 { Ok(0) } else { Err(errno) };
                self.finish(t, Some(result));
            }
            RET_TRAP if !t.full.get() => self.fetch_context(t, again),
            RET_TRAP => {
                // The handler finds the registers of before the call, but for where it returns to.
                t.regs.borrow_mut().rax = nr;
                t.changed.set(true);
                t.force_signal(refused(ip, nr, data));
                self.finish(t, None);
            }
            RET_TRACE => self.ask_tracer(t, nr, args, data, again),
            RET_KILL_THREAD if t.process.threads().len() > 1 => self.kill_thread(t, c::SIGSYS),
            RET_KILL_THREAD | RET_KILL_PROCESS => self.kill_process(t),
            _ => self.kill_process(t),
        }
    }

    /// PTRACE_EVENT_SECCOMP; without a tracer that wants it, there is no such call.
    fn ask_tracer(&mut self, t: &Rc<Task>, nr: u64, args: [u64; 6], data: u32, again: bool) {
        let Some(tr) = t.trace().filter(|tr| tr.has(c::PTRACE_O_TRACESECCOMP)) else {
            return self.finish(t, Some(Err(Errno::ENOSYS)));
        };
        if again {
            return self.make_call(t, nr, args);
        }
        tr.message.set(data as u64);
        let code = c::PTRACE_EVENT_SECCOMP << 8 | c::SIGTRAP;
        let mut info = SigInfo::from_user(c::SIGTRAP, code, t.tid, t.cred().ruid);
        info.signo = c::SIGTRAP;
        self.stop(t, Stop { at: At::Filter(data), code, info: Some(info), nr: nr as i64, result: None });
    }

    fn fetch_context(&mut self, t: &Rc<Task>, again: bool) {
        t.filtering.set(Some(again));
        self.p.resume(t.tag.get(), Vec::new(), Resume::Context(0), None);
    }

    /// The context is there.
    pub fn filter_with_context(&mut self, t: &Rc<Task>) {
        let again = t.filtering.take().unwrap_or(false);
        let task::Ask::Call(nr) = t.ask.get() else { return };
        self.filtered_call(t, nr, t.args.get(), again);
    }

    fn kill_thread(&mut self, t: &Rc<Task>, sig: i32) {
        t.exit_code.set(ExitStatus::Signaled(sig, false));
        t.exiting.set(true);
        self.finish(t, None);
    }

    fn kill_process(&mut self, t: &Rc<Task>) {
        t.process.exit_group(ExitStatus::Signaled(c::SIGSYS, true));
        self.finish(t, None);
    }
}

/// siginfo of SECCOMP_RET_TRAP: the address, the number, the architecture; the filter's data as errno.
fn refused(ip: u64, nr: u64, data: u32) -> SigInfo {
    let mut i = SigInfo::fault(c::SIGSYS, SYS_SECCOMP, ip);
    i.errno = data as i32;
    i.fields[2] = nr as u32;
    i.fields[3] = AUDIT_ARCH_X86_64;
    i
}
