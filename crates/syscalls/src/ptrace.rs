//! Tracing: ptrace(2). The stops themselves are the sentry's; here a tracer looks at a thread that stands still.
use abi::regs::Regs;
use abi::seccomp::AUDIT_ARCH_X86_64;
use abi::signal::{SigInfo, SigSet};
use abi::sys::Iovec;
use abi::{Errno, Result, c};
use guest::ops::Op;
use guest::{Memory, UserIn, UserInOut, UserOut};
use kernel::mm::USER_END;
use kernel::signal::frame;
use kernel::wait;
use std::rc::Rc;
use task::{At, Errand, How, Stop, Task, Trace};
use zerocopy::IntoBytes;

/// Every PTRACE_O_* but PTRACE_O_SUSPEND_SECCOMP.
const OPTIONS: u64 = 0x0010_00ff;
const PTRACE_ARCH_PRCTL: u32 = 30;
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
const FXSAVE: usize = 512;
/// The software's bytes of the FXSAVE image.
const SOFTWARE: usize = 464;
/// Words of `struct user_regs_struct`, and where some are.
const WORDS: usize = 27;
const ORIG_RAX: usize = 15;
/// `struct user`: its size, and the debug registers in it.
const USER_SIZE: u64 = 912;
const DEBUGREG: u64 = 848;
/// Flags a tracer may change, as in `kernel::signal::frame`.
const FLAGS: u64 = 0x5_0dd5;

pub async fn ptrace(t: &Rc<Task>, op: u64, pid: i32, addr: u64, data: u64) -> Result<i64> {
    let op = op as u32;
    if op == c::PTRACE_TRACEME {
        return t.trace_me().map(|()| 0);
    }
    let who = t.find_task(pid).ok_or(Errno::ESRCH)?;
    match op {
        c::PTRACE_ATTACH => return attach(t, &who, false, 0).await,
        c::PTRACE_SEIZE if addr != 0 || data & !OPTIONS != 0 => return Err(Errno::EIO),
        c::PTRACE_SEIZE => return attach(t, &who, true, data as u32).await,
        _ => {}
    }
    let mine = |tr: &Rc<Trace>| std::ptr::eq(tr.tracer.as_ptr(), &**t);
    let tr = who.trace().filter(mine).ok_or(Errno::ESRCH)?;
    match op {
        c::PTRACE_KILL => {
            who.process.signal(SigInfo::new(c::SIGKILL, c::SI_USER));
            return Ok(0);
        }
        c::PTRACE_INTERRUPT if !tr.seized => return Err(Errno::EIO),
        c::PTRACE_INTERRUPT => {
            who.set_trap(&tr);
            return Ok(0);
        }
        _ => {}
    }
    let stop = tr.stop.get().filter(|_| !tr.listening.get()).ok_or(Errno::ESRCH)?;
    let s = Stopped { who: &who, tr: &tr, stop };
    let mem = t.mem();
    match op {
        c::PTRACE_CONT | c::PTRACE_SYSCALL | c::PTRACE_SINGLESTEP => s.go(op, data),
        c::PTRACE_DETACH => {
            let signal = signal(data)?;
            who.untrace(signal);
            Ok(0)
        }
        c::PTRACE_LISTEN => s.listen(),
        c::PTRACE_PEEKTEXT | c::PTRACE_PEEKDATA => {
            let mut word = [0u8; 8];
            who.peek(addr, &mut word)?;
            mem.write(data, &word).map(|()| 0)
        }
        c::PTRACE_POKETEXT | c::PTRACE_POKEDATA => s.poke(addr, data).await.map(|()| 0),
        c::PTRACE_PEEKUSER => mem.write(data, &s.peek_user(addr)?.to_ne_bytes()).map(|()| 0),
        c::PTRACE_POKEUSER => s.poke_user(addr, data).map(|()| 0),
        c::PTRACE_GETREGS => mem.write(data, s.words().as_bytes()).map(|()| 0),
        c::PTRACE_SETREGS => s.load(&mut copied(&*mem, data, WORDS * 8)?).map(|()| 0),
        c::PTRACE_GETFPREGS => {
            let fp = s.fp().await?;
            mem.write(data, fp.get(..FXSAVE).ok_or(Errno::EIO)?).map(|()| 0)
        }
        c::PTRACE_SETFPREGS => {
            let bytes = copied(&*mem, data, FXSAVE)?;
            s.set_fp(NT_PRFPREG, &bytes).await.map(|()| 0)
        }
        c::PTRACE_GETREGSET => s.get_set(&*mem, addr, UserInOut::new(data)).await.map(|()| 0),
        c::PTRACE_SETREGSET => s.set_set(&*mem, addr, UserInOut::new(data)).await.map(|()| 0),
        c::PTRACE_GETSIGINFO => UserOut::new(data).put(&*mem, &stop.info.ok_or(Errno::EINVAL)?).map(|()| 0),
        c::PTRACE_SETSIGINFO => {
            stop.info.ok_or(Errno::EINVAL)?;
            let info = UserIn::new(data).get(&*mem)?;
            tr.stop.set(Some(Stop { info: Some(info), ..stop }));
            Ok(0)
        }
        c::PTRACE_PEEKSIGINFO => s.queued(&*mem, addr, data),
        c::PTRACE_GETSIGMASK | c::PTRACE_SETSIGMASK if addr != 8 => Err(Errno::EINVAL),
        c::PTRACE_GETSIGMASK => {
            let mask = who.saved_mask.get().unwrap_or(who.blocked.get());
            UserOut::new(data).put(&*mem, &mask.0).map(|()| 0)
        }
        c::PTRACE_SETSIGMASK => {
            who.blocked.set(SigSet(UserIn::new(data).get(&*mem)?).blockable());
            who.saved_mask.set(None);
            Ok(0)
        }
        c::PTRACE_SETOPTIONS if data & !OPTIONS != 0 => Err(Errno::EINVAL),
        c::PTRACE_SETOPTIONS => {
            tr.options.set(data as u32);
            Ok(0)
        }
        c::PTRACE_GETEVENTMSG => UserOut::new(data).put(&*mem, &tr.message.get()).map(|()| 0),
        c::PTRACE_GET_SYSCALL_INFO => s.call_info(&*mem, addr as usize, data),
        PTRACE_ARCH_PRCTL => s.arch(&*mem, addr, data),
        _ => Err(Errno::EIO),
    }
}

/// Who is stopped already can be looked at as soon as this returns.
async fn attach(t: &Rc<Task>, who: &Rc<Task>, seize: bool, options: u32) -> Result<i64> {
    let stopped = who.process.stopped.get().is_some();
    if stopped {
        wait::settle().await;
    }
    t.attach(who, seize, options)?;
    if stopped {
        let stands = || (who.dead.get() || who.trace().is_none_or(|tr| tr.stop.get().is_some())).then_some(());
        wait::until_deaf(&[&t.process.child_wait], stands).await.ok();
    }
    Ok(0)
}

fn signal(data: u64) -> Result<i32> {
    if data <= 64 { Ok(data as i32) } else { Err(Errno::EIO) }
}

fn copied(mem: &dyn Memory, addr: u64, len: usize) -> Result<Vec<u8>> {
    let mut b = vec![0u8; len];
    mem.read(addr, &mut b)?;
    Ok(b)
}

/// A tracee that stands still.
struct Stopped<'a> {
    who: &'a Rc<Task>,
    tr: &'a Rc<Trace>,
    stop: Stop,
}

impl Stopped<'_> {
    fn go(&self, op: u32, data: u64) -> Result<i64> {
        let signal = signal(data)?;
        self.tr.how.set(match op {
            c::PTRACE_SYSCALL => How::Syscall,
            c::PTRACE_SINGLESTEP => How::Step,
            _ => How::Cont,
        });
        self.who.unstop(self.tr, signal);
        Ok(0)
    }

    fn listen(&self) -> Result<i64> {
        if !self.tr.seized || self.stop.code >> 8 != c::PTRACE_EVENT_STOP {
            return Err(Errno::EIO);
        }
        self.tr.listening.set(true);
        if self.who.trap.get() {
            self.who.unstop(self.tr, 0);
        }
        Ok(0)
    }

    /// Writes a word, to a mapping that is not writable too: a breakpoint.
    async fn poke(&self, addr: u64, data: u64) -> Result {
        let bytes = data.to_le_bytes();
        let end = addr.checked_add(8).ok_or(Errno::EIO)?;
        let mem = self.who.mem();
        if self.who.mm().writable(addr..end) {
            return mem.write_now(addr, &bytes).map_err(|_| Errno::EIO);
        }
        let mut words = Vec::new();
        let mut at = addr & !7;
        while at < end {
            let (prot, shared) = {
                let mm = self.who.mm();
                let space = mm.space.borrow();
                let v = space.at(at).ok_or(Errno::EIO)?;
                (v.prot, v.shared)
            };
            let mut word = [0u8; 8];
            if shared && prot & c::PROT_WRITE == 0 || mem.read_now(at, &mut word).is_err() {
                return Err(Errno::EIO);
            }
            for (i, b) in word.iter_mut().enumerate() {
                if let Some(new) = (at + i as u64).checked_sub(addr).and_then(|k| bytes.get(k as usize)) {
                    *b = *new;
                }
            }
            words.push((at, u64::from_le_bytes(word), prot));
            at += 8;
        }
        self.send(Errand::Poke(words)).await
    }

    /// Has the tracee do it, and waits until it is done.
    async fn send(&self, e: Errand) -> Result {
        wait::settle().await;
        self.who.errand.replace(Some(e));
        self.who.kernel.errands.borrow_mut().push(self.who.clone());
        let done = || {
            let waits = self.who.errand.borrow().is_some() || self.who.on_errand.get();
            (!waits || self.who.dead.get()).then_some(())
        };
        wait::until_deaf(&[&self.who.process.served], done).await.ok();
        if self.who.dead.get() { Err(Errno::ESRCH) } else { Ok(()) }
    }

    /// The floating point state, as a signal frame holds it.
    async fn fp(&self) -> Result<Vec<u8>> {
        if self.tr.fp.borrow().is_none() {
            self.send(Errand::Fp).await?;
        }
        let fp = self.tr.fp.borrow().clone().unwrap_or_default();
        if fp.len() < FXSAVE { Err(Errno::EIO) } else { Ok(fp) }
    }

    async fn set_fp(&self, which: u64, bytes: &[u8]) -> Result {
        let mut fp = self.fp().await?;
        let whole = fp.len().saturating_sub(4).max(FXSAVE);
        let len = if which == NT_PRFPREG { FXSAVE } else { whole };
        if bytes.len() != len {
            return Err(if which == NT_PRFPREG { Errno::EINVAL } else { Errno::EFAULT });
        }
        fp[..SOFTWARE].copy_from_slice(&bytes[..SOFTWARE]);
        match bytes.get(FXSAVE..) {
            Some(more) if !more.is_empty() => fp[FXSAVE..len].copy_from_slice(more),
            // What is set is in use: x87 and SSE.
            _ if fp.len() > FXSAVE => fp[FXSAVE] |= 3,
            _ => {}
        }
        let size = fp.len() as u64;
        frame::sanitise_fp(&mut fp, size).map_err(|_| Errno::EINVAL)?;
        self.tr.fp.replace(Some(fp.clone()));
        self.who.op(Op::LoadFp(fp));
        Ok(())
    }

    /// As NT_X86_XSTATE has it: the software's bytes tell the features.
    async fn xstate(&self) -> Result<Vec<u8>> {
        let mut fp = self.fp().await?;
        let features: [u8; 8] = std::array::from_fn(|i| fp[SOFTWARE + 8 + i]);
        fp[SOFTWARE..FXSAVE].fill(0);
        fp[SOFTWARE..SOFTWARE + 8].copy_from_slice(&features);
        fp.truncate(fp.len().saturating_sub(4).max(FXSAVE));
        Ok(fp)
    }

    async fn get_set(&self, mem: &dyn Memory, which: u64, iov: UserInOut<Iovec>) -> Result {
        let mut v = iov.get(mem)?;
        let bytes = match which {
            NT_PRSTATUS => self.words().as_bytes().to_vec(),
            NT_PRFPREG => self.fp().await?[..FXSAVE].to_vec(),
            NT_X86_XSTATE => self.xstate().await?,
            _ => return Err(Errno::EINVAL),
        };
        if !v.len.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        v.len = v.len.min(bytes.len() as u64);
        mem.write(v.base, &bytes[..v.len as usize])?;
        iov.put(mem, &v)
    }

    async fn set_set(&self, mem: &dyn Memory, which: u64, iov: UserInOut<Iovec>) -> Result {
        let mut v = iov.get(mem)?;
        if !v.len.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let most = match which {
            NT_PRSTATUS => WORDS * 8,
            NT_PRFPREG => FXSAVE,
            NT_X86_XSTATE => self.xstate().await?.len(),
            _ => return Err(Errno::EINVAL),
        };
        v.len = v.len.min(most as u64);
        let mut bytes = copied(mem, v.base, v.len as usize)?;
        match which {
            NT_PRSTATUS => self.load(&mut bytes)?,
            _ => self.set_fp(which, &bytes).await?,
        }
        iov.put(mem, &v)
    }

    /// `struct user_regs_struct`.
    fn words(&self) -> [u64; WORDS] {
        let r = self.who.regs.borrow();
        let seg = |i: u32| r.segments >> (16 * i) & 0xffff;
        [
            r.r15,
            r.r14,
            r.r13,
            r.r12,
            r.rbp,
            r.rbx,
            r.r11,
            r.r10,
            r.r9,
            r.r8,
            r.rax,
            r.rcx,
            r.rdx,
            r.rsi,
            r.rdi,
            self.tr.nr.get() as u64,
            r.rip,
            seg(0),
            r.eflags,
            r.rsp,
            seg(3),
            self.who.fs_base.get(),
            0,
            0,
            0,
            0,
            0,
        ]
    }

    /// Takes as many registers as `bytes` holds. EIO: an address is not one of a program's.
    fn load(&self, bytes: &mut [u8]) -> Result {
        let mut words = self.words();
        for (w, b) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *w = u64::from_ne_bytes(std::array::from_fn(|i| b[i]));
        }
        self.set_words(&words)
    }

    fn set_words(&self, w: &[u64; WORDS]) -> Result {
        if w[16] >= USER_END || w[21] >= USER_END || w[22] >= USER_END {
            return Err(Errno::EIO);
        }
        let mut r = self.who.regs.borrow_mut();
        let eflags = r.eflags & !FLAGS | w[18] & FLAGS;
        let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, ..] = *w;
        let (rip, rsp) = (w[16], w[19]);
        *r = Regs { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, rip, rsp, eflags, ..*r };
        // orig_rax has 32 bits that count.
        self.tr.nr.set(w[ORIG_RAX] as i32 as i64);
        if w[21] != self.who.fs_base.replace(w[21]) {
            self.who.op(Op::SetFs(w[21]));
        }
        Ok(())
    }

    fn peek_user(&self, addr: u64) -> Result<u64> {
        if !addr.is_multiple_of(8) || addr >= USER_SIZE {
            return Err(Errno::EIO);
        }
        if let Some(n) = addr.checked_sub(DEBUGREG) {
            return Ok(self.tr.debug.borrow().peek(n as usize / 8));
        }
        Ok(self.words().get(addr as usize / 8).copied().unwrap_or(0))
    }

    fn poke_user(&self, addr: u64, data: u64) -> Result {
        if !addr.is_multiple_of(8) || addr >= USER_SIZE {
            return Err(Errno::EIO);
        }
        if let Some(n) = addr.checked_sub(DEBUGREG) {
            return self.tr.debug.borrow_mut().poke(n as usize / 8, data);
        }
        let mut words = self.words();
        *words.get_mut(addr as usize / 8).ok_or(Errno::EIO)? = data;
        self.set_words(&words)
    }

    /// PTRACE_PEEKSIGINFO: pending signals, of the process with flag 1.
    fn queued(&self, mem: &dyn Memory, addr: u64, data: u64) -> Result<i64> {
        let [off, flags_nr] = UserIn::<[u64; 2]>::new(addr).get(mem)?;
        let (flags, n) = (flags_nr as u32, (flags_nr >> 32) as i32);
        if flags & !1 != 0 || n < 0 {
            return Err(Errno::EINVAL);
        }
        let queue = if flags == 1 { &self.who.process.pending } else { &self.who.pending };
        let skip = usize::try_from(off).unwrap_or(usize::MAX);
        let found: Vec<SigInfo> = queue.borrow().list().skip(skip).take(n as usize).copied().collect();
        mem.write(data, found.as_bytes())?;
        Ok(found.len() as i64)
    }

    /// PTRACE_GET_SYSCALL_INFO: the whole size, however much of it fits.
    fn call_info(&self, mem: &dyn Memory, room: usize, data: u64) -> Result<i64> {
        let r = self.who.regs.borrow();
        let rax = r.rax as i64;
        let nr = self.tr.nr.get();
        let mut words = vec![(AUDIT_ARCH_X86_64 as u64) << 32, r.rip, r.rsp];
        let (op, size) = match self.stop.at {
            At::Entry | At::Filter(_) => {
                words.push(nr as u64);
                words.extend(r.args());
                match self.stop.at {
                    At::Filter(said) => {
                        words.push(said as u64);
                        (c::PTRACE_SYSCALL_INFO_SECCOMP, 84)
                    }
                    _ => (c::PTRACE_SYSCALL_INFO_ENTRY, 80),
                }
            }
            At::Exit => {
                words.extend([r.rax, (-4095..0).contains(&rax) as u64]);
                (c::PTRACE_SYSCALL_INFO_EXIT, 33)
            }
            _ => (c::PTRACE_SYSCALL_INFO_NONE, 24),
        };
        words[0] |= op as u64;
        mem.write(data, &words.as_bytes()[..size.min(room)])?;
        Ok(size as i64)
    }

    fn arch(&self, mem: &dyn Memory, addr: u64, code: u64) -> Result<i64> {
        match code as i32 {
            crate::misc::ARCH_GET_FS => mem.write(addr, &self.who.fs_base.get().to_ne_bytes())?,
            crate::misc::ARCH_GET_GS => mem.write(addr, &[0; 8])?,
            crate::misc::ARCH_SET_FS if addr >= USER_END => return Err(Errno::EPERM),
            crate::misc::ARCH_SET_FS => {
                self.who.fs_base.set(addr);
                self.who.op(Op::SetFs(addr));
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }
}
