//! The rest: uname(2), sysinfo(2), sysfs(2), prctl(2), getrlimit(2), arch_prctl(2), getrandom(2), personality(2).
use crate::args::{Flags, InBuf, OutBuf};
use crate::privileges;
use abi::sys::{Rlimit, Rusage, Sysinfo, Timeval, Utsname};
use abi::{Errno, Result, c};
use guest::ops::Op;
use guest::{UserIn, UserOut};
use kernel::cred::*;
use std::rc::Rc;
use task::Task;

/// What uname(2) says this kernel is: the Linux whose behaviour it keeps to.
pub const RELEASE: &str = "6.12.0-rvisor";
/// The same, for programs that only know version 2 (UNAME26).
const RELEASE_26: &str = "2.6.72-rvisor";
pub const VERSION: &str = "#1 SMP PREEMPT_DYNAMIC rVisor";

/// Types of file systems there are, and whether they need a block device: /proc/filesystems.
pub const FILE_SYSTEMS: [(&str, bool); 10] = [
    ("sysfs", false),
    ("tmpfs", false),
    ("proc", false),
    ("cgroup2", false),
    ("devtmpfs", false),
    ("devpts", false),
    ("ramfs", false),
    ("mqueue", false),
    ("overlay", false),
    ("ext4", true),
];

/// sysfs(2): a type's number by its name (at `at`), the name of number `at`, how many there are.
pub fn sysfs(t: &Rc<Task>, option: i32, at: u64, name: u64) -> Result<usize> {
    match option {
        1 => {
            let wanted = guest::read_cstr(&*t.mem(), at, abi::PAGE_SIZE as usize)?;
            FILE_SYSTEMS.iter().position(|(name, _)| name.as_bytes() == wanted).ok_or(Errno::EINVAL)
        }
        2 => {
            let (found, _) = FILE_SYSTEMS.get(at as u32 as usize).ok_or(Errno::EINVAL)?;
            t.mem().write(name, format!("{found}\0").as_bytes()).map(|()| 0)
        }
        3 => Ok(FILE_SYSTEMS.len()),
        _ => Err(Errno::EINVAL),
    }
}

pub fn uname(t: &Rc<Task>, out: UserOut<Utsname>) -> Result {
    let field = |s: &[u8]| {
        let mut f = [0u8; 65];
        let n = s.len().min(64);
        f[..n].copy_from_slice(&s[..n]);
        f
    };
    let persona = t.persona.get();
    out.put(
        &*t.mem(),
        &Utsname {
            sysname: field(b"Linux"),
            nodename: field(&t.namespaces().uts.hostname.borrow()),
            release: field(if persona & UNAME26 != 0 { RELEASE_26 } else { RELEASE }.as_bytes()),
            version: field(VERSION.as_bytes()),
            machine: field(if persona & PER_MASK == PER_LINUX32 { b"i686" } else { b"x86_64" }),
            domainname: field(&t.namespaces().uts.domainname.borrow()),
        },
    )
}

fn set_name(t: &Task, buf: u64, len: usize, to: &std::cell::RefCell<Vec<u8>>) -> Result {
    if !t.cred().has_in(&t.namespaces().uts.user_ns, CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if len > 64 {
        return Err(Errno::EINVAL);
    }
    let mut name = vec![0u8; len];
    t.mem().read(buf, &mut name)?;
    to.replace(name);
    Ok(())
}
pub fn sethostname(t: &Rc<Task>, buf: InBuf<1>, len: usize) -> Result {
    set_name(t, buf.0, len, &t.namespaces().uts.hostname)
}
pub fn setdomainname(t: &Rc<Task>, buf: InBuf<1>, len: usize) -> Result {
    set_name(t, buf.0, len, &t.namespaces().uts.domainname)
}

pub fn sysinfo(t: &Rc<Task>, out: UserOut<Sysinfo>) -> Result {
    let k = &t.kernel;
    let (total, free) = k.memory();
    let up = (host::time::monotonic_ns() - k.boot) / 1_000_000_000;
    out.put(
        &*t.mem(),
        &Sysinfo {
            uptime: up as i64,
            totalram: total,
            freeram: free,
            procs: k.task_count() as u16,
            mem_unit: 1,
            ..Sysinfo::default()
        },
    )
}

pub fn getrandom(t: &Rc<Task>, buf: OutBuf<1>, len: usize, flags: Flags) -> Result<usize> {
    let flags = flags.only((c::GRND_NONBLOCK | c::GRND_RANDOM | c::GRND_INSECURE) as i32)? as u32;
    if flags & (c::GRND_RANDOM | c::GRND_INSECURE) == c::GRND_RANDOM | c::GRND_INSECURE {
        return Err(Errno::EINVAL);
    }
    let mem = t.mem();
    let len = len.min(1 << 20);
    let mut chunk = [0u8; 256];
    let mut done = 0;
    while done < len {
        let n = chunk.len().min(len - done);
        host::stub::random(&mut chunk[..n]);
        mem.write(buf.0 + done as u64, &chunk[..n])?;
        done += n;
    }
    Ok(done)
}

pub fn set_tid_address(t: &Rc<Task>, addr: u64) -> Result<i32> {
    t.clear_child_tid.set(addr);
    Ok(t.tid)
}

pub fn set_robust_list(t: &Rc<Task>, head: u64, len: usize) -> Result {
    if len != 24 {
        return Err(Errno::EINVAL);
    }
    t.robust_list.set((head, len as u64));
    Ok(())
}

pub fn get_robust_list(t: &Rc<Task>, pid: i32, head: UserOut<u64>, len: UserOut<u64>) -> Result {
    let who = if pid == 0 { t.clone() } else { t.find_task(pid).ok_or(Errno::ESRCH)? };
    if !Rc::ptr_eq(&who.process, &t.process) && !task::may_signal(&t.cred(), &who.cred()) {
        return Err(Errno::EPERM);
    }
    let (h, l) = who.robust_list.get();
    let mem = t.mem();
    head.put(&*mem, &h)?;
    len.put(&*mem, &if l == 0 { 24 } else { l })
}

const ARCH_SET_GS: i32 = 0x1001;
pub(crate) const ARCH_SET_FS: i32 = 0x1002;
pub(crate) const ARCH_GET_FS: i32 = 0x1003;
pub(crate) const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

/// The gs base is the stub's own.
pub fn arch_prctl(t: &Rc<Task>, op: i32, addr: u64) -> Result<i64> {
    match op {
        ARCH_GET_CPUID => return Ok(1),
        // As on a processor that cannot fault on cpuid.
        ARCH_SET_CPUID => return Err(Errno::ENODEV),
        _ => {}
    }
    match op {
        ARCH_SET_FS if addr >= kernel::mm::USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            t.fs_base.set(addr);
            t.op(Op::SetFs(addr));
            Ok(())
        }
        ARCH_GET_FS => UserOut::new(addr).put(&*t.mem(), &t.fs_base.get()),
        ARCH_GET_GS => UserOut::new(addr).put(&*t.mem(), &0u64),
        ARCH_SET_GS if addr == 0 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
    .map(|()| 0)
}

pub fn prctl(t: &Rc<Task>, op: i32, a: u64, b: u64, d: u64, e: u64) -> Result<i64> {
    let mem = t.mem();
    let p = &t.process;
    match op {
        c::PR_SET_NAME => {
            let mut name = guest::read_cstr(&*mem, a, 15).or_else(|_| {
                let mut raw = vec![0u8; 15];
                mem.read(a, &mut raw)?;
                Ok(raw)
            })?;
            name.truncate(15);
            t.comm.replace(name);
            Ok(0)
        }
        c::PR_GET_NAME => {
            let mut name = t.comm.borrow().clone();
            name.resize(16, 0);
            mem.write(a, &name)?;
            Ok(0)
        }
        c::PR_SET_PDEATHSIG if a <= 64 => {
            p.parent_death_signal.set(a as i32);
            Ok(0)
        }
        c::PR_GET_PDEATHSIG => UserOut::new(a).put(&*mem, &p.parent_death_signal.get()).map(|()| 0),
        c::PR_GET_DUMPABLE => Ok(p.dumpable.get() as i64),
        c::PR_SET_DUMPABLE if a <= 1 => {
            p.dumpable.set(a as i32);
            Ok(0)
        }
        c::PR_SET_NO_NEW_PRIVS if a == 1 && b == 0 && d == 0 && e == 0 => {
            let mut cr = Cred::clone(&t.cred());
            cr.no_new_privs = true;
            t.set_cred(cr);
            Ok(0)
        }
        c::PR_GET_NO_NEW_PRIVS if a == 0 && b == 0 && d == 0 && e == 0 => Ok(t.cred().no_new_privs as i64),
        c::PR_SET_CHILD_SUBREAPER => {
            p.child_subreaper.set(a != 0);
            Ok(0)
        }
        c::PR_GET_CHILD_SUBREAPER => UserOut::new(a).put(&*mem, &(p.child_subreaper.get() as i32)).map(|()| 0),
        c::PR_SET_KEEPCAPS => privileges::set_keepcaps(t, a),
        c::PR_GET_KEEPCAPS => Ok((t.cred().securebits & SECBIT_KEEP_CAPS != 0) as i64),
        c::PR_GET_SECCOMP => Ok(t.seccomp.borrow().mode() as i64),
        c::PR_SET_SECCOMP => crate::seccomp::set(t, a, b),
        c::PR_GET_SECUREBITS => Ok(t.cred().securebits as i64),
        c::PR_SET_SECUREBITS => privileges::set_securebits(t, a),
        c::PR_CAPBSET_READ if a <= CAP_LAST as u64 => Ok((t.cred().bounding >> a & 1) as i64),
        c::PR_CAPBSET_DROP => privileges::drop_bound(t, a),
        c::PR_CAP_AMBIENT if d == 0 && e == 0 => ambient(t, a as i32, b),
        c::PR_SET_TIMERSLACK => {
            let (_, default) = t.timer_slack.get();
            t.timer_slack.set((if a as i64 > 0 { a } else { default }, default));
            Ok(0)
        }
        c::PR_GET_TIMERSLACK => Ok(t.timer_slack.get().0 as i64),
        c::PR_SET_THP_DISABLE if b == 0 && d == 0 && e == 0 => Ok(0),
        c::PR_GET_THP_DISABLE if a == 0 && b == 0 && d == 0 && e == 0 => Ok(0),
        c::PR_SET_VMA => Ok(0),
        c::PR_SET_MDWE if b == 0 && d == 0 && e == 0 => set_write_or_execute(t, a),
        c::PR_GET_MDWE if a == 0 && b == 0 && d == 0 && e == 0 => Ok(write_or_execute(t)),
        PR_GET_AUXV if d == 0 && e == 0 => {
            let mm = t.mm();
            let auxv = mm.auxv.borrow();
            mem.write(a, &auxv[..auxv.len().min(b as usize)])?;
            Ok(auxv.len() as i64)
        }
        _ => Err(Errno::EINVAL),
    }
}

const PR_GET_AUXV: i32 = 0x4155_5856;

/// PR_GET_MDWE.
fn write_or_execute(t: &Task) -> i64 {
    let inherited = t.mm().space.borrow().write_or_execute;
    inherited.map_or(0, |inherited| if inherited { REFUSE_EXEC_GAIN } else { REFUSE_EXEC_GAIN | NO_INHERIT }) as i64
}
const REFUSE_EXEC_GAIN: u64 = c::PR_MDWE_REFUSE_EXEC_GAIN as u64;
const NO_INHERIT: u64 = c::PR_MDWE_NO_INHERIT as u64;

/// PR_SET_MDWE. EPERM: it was set before, and is to be otherwise.
fn set_write_or_execute(t: &Task, bits: u64) -> Result<i64> {
    if bits & !(REFUSE_EXEC_GAIN | NO_INHERIT) != 0 || bits == NO_INHERIT {
        return Err(Errno::EINVAL);
    }
    match write_or_execute(t) {
        0 => {}
        now if now as u64 == bits => {}
        _ => return Err(Errno::EPERM),
    }
    if bits != 0 {
        t.mm().space.borrow_mut().write_or_execute = Some(bits & NO_INHERIT == 0);
    }
    Ok(0)
}

fn ambient(t: &Task, op: i32, cap: u64) -> Result<i64> {
    let mut cr = Cred::clone(&t.cred());
    if op == c::PR_CAP_AMBIENT_CLEAR_ALL {
        if cap != 0 {
            return Err(Errno::EINVAL);
        }
        cr.ambient = 0;
        t.set_cred(cr);
        return Ok(0);
    }
    if cap > CAP_LAST as u64 {
        return Err(Errno::EINVAL);
    }
    let bit = 1u64 << cap;
    match op {
        c::PR_CAP_AMBIENT_IS_SET => return Ok((cr.ambient & bit != 0) as i64),
        c::PR_CAP_AMBIENT_RAISE if cr.permitted & cr.inheritable & bit == 0 => return Err(Errno::EPERM),
        c::PR_CAP_AMBIENT_RAISE if cr.securebits & SECBIT_NO_CAP_AMBIENT_RAISE != 0 => return Err(Errno::EPERM),
        c::PR_CAP_AMBIENT_RAISE => cr.ambient |= bit,
        c::PR_CAP_AMBIENT_LOWER => cr.ambient &= !bit,
        _ => return Err(Errno::EINVAL),
    }
    t.set_cred(cr);
    Ok(0)
}

pub fn getrlimit(t: &Rc<Task>, which: u32, out: UserOut<Rlimit>) -> Result {
    prlimit64(t, 0, which, UserIn::new(0), out)
}
pub fn setrlimit(t: &Rc<Task>, which: u32, new: UserIn<Rlimit>) -> Result {
    let mem = t.mem();
    let new = new.get(&*mem)?;
    change_limit(t, t, which, new)
}

fn change_limit(t: &Task, who: &Task, which: u32, new: Rlimit) -> Result {
    if new.cur > new.max {
        return Err(Errno::EINVAL);
    }
    if which == c::RLIMIT_NOFILE && new.max > vfs::fdtable::NR_OPEN.get() {
        return Err(Errno::EPERM);
    }
    let mut limits = who.process.rlimits.borrow_mut();
    let l = limits.0.get_mut(which as usize).ok_or(Errno::EINVAL)?;
    if new.max > l.1 && !t.cred().has(CAP_SYS_RESOURCE) {
        return Err(Errno::EPERM);
    }
    *l = (new.cur, new.max);
    drop(limits);
    if which == c::RLIMIT_CPU {
        who.process.watch_cpu_limit();
    }
    Ok(())
}

pub fn prlimit64(t: &Rc<Task>, pid: i32, which: u32, new: UserIn<Rlimit>, old: UserOut<Rlimit>) -> Result {
    let mem = t.mem();
    let who = if pid == 0 { t.clone() } else { t.find_task(pid).ok_or(Errno::ESRCH)? };
    if which >= 16 {
        return Err(Errno::EINVAL);
    }
    let was = who.process.rlimits.borrow().0[which as usize];
    if let Some(new) = new.get_opt(&*mem)? {
        change_limit(t, &who, which, new)?;
    }
    old.put_opt(&*mem, &Rlimit { cur: was.0, max: was.1 })
}

pub fn getrusage(t: &Rc<Task>, who: i32, out: UserOut<Rusage>) -> Result {
    let ns = match who {
        c::RUSAGE_SELF => t.process.cpu_ns(),
        c::RUSAGE_CHILDREN => t.process.child_cpu.get(),
        c::RUSAGE_THREAD => t.cpu_ns(),
        _ => return Err(Errno::EINVAL),
    };
    out.put(&*t.mem(), &Rusage { utime: Timeval::from_ns(ns), ..Rusage::default() })
}

/// The processor is given to whoever wants it when the thread next waits; here it only goes round.
pub fn sched_yield(_t: &Rc<Task>) -> Result {
    Ok(())
}

pub fn getcpu(t: &Rc<Task>, cpu: UserOut<u32>, node: UserOut<u32>) -> Result {
    let mem = t.mem();
    cpu.put_opt(&*mem, &t.affinity.get().trailing_zeros())?;
    node.put_opt(&*mem, &0)
}

const MEMBARRIER_CMD_QUERY: i32 = 0;
const MEMBARRIER_CMD_GLOBAL: i32 = 1;
const MEMBARRIER_CMD_GLOBAL_EXPEDITED: i32 = 2;
const MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED: i32 = 4;
const MEMBARRIER_CMD_PRIVATE_EXPEDITED: i32 = 8;
const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: i32 = 16;

/// EPERM: a private one, and the process has not registered. EINVAL: for code that changes itself, or rseq(2)'s.
pub fn membarrier(t: &Rc<Task>, cmd: i32, flags: Flags) -> Result<i32> {
    const SERVED: i32 = MEMBARRIER_CMD_GLOBAL
        | MEMBARRIER_CMD_GLOBAL_EXPEDITED
        | MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
        | MEMBARRIER_CMD_PRIVATE_EXPEDITED
        | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
    flags.only(0)?;
    let mm = t.mm();
    // Every stub has registered for the host's own.
    let barrier = || host::process::barrier().map(|()| 0).map_err(|_| Errno::EINVAL);
    match cmd {
        MEMBARRIER_CMD_QUERY => Ok(barrier().map_or(0, |_| SERVED)),
        MEMBARRIER_CMD_PRIVATE_EXPEDITED if !mm.barriers.get() => Err(Errno::EPERM),
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED => {
            mm.barriers.set(true);
            barrier()
        }
        _ if cmd.count_ones() == 1 && SERVED & cmd != 0 => barrier(),
        _ => Err(Errno::EINVAL),
    }
}

/// The low byte, and the flags that do something here.
const PER_MASK: u32 = 0xff;
const PER_LINUX32: u32 = 8;
const UNAME26: u32 = 0x2_0000;
pub(crate) const ADDR_NO_RANDOMIZE: u32 = 0x4_0000;
pub(crate) const STICKY_TIMEOUTS: u32 = 0x400_0000;
/// Mappings executable unasked: nothing here would honour it. (A page at 0 Linux refuses at exec, and says nothing.)
const READ_IMPLIES_EXEC: u32 = 0x40_0000;
/// No change is asked for.
const PER_QUERY: u32 = u32::MAX;

pub fn personality(t: &Rc<Task>, persona: u64) -> Result<i64> {
    let to = persona as u32;
    let was = t.persona.get();
    if to != PER_QUERY {
        if to & READ_IMPLIES_EXEC != 0 {
            return Err(Errno::EINVAL);
        }
        t.persona.set(to);
    }
    Ok(was as i64)
}

/// Calls that are known, and that programs handle the refusal of.
pub fn nosys(_t: &Rc<Task>) -> Result {
    Err(Errno::ENOSYS)
}
