//! Threads that wait on words of memory: futex(2), futex_waitv(2), and futex(2)'s commands as calls of their own (Linux 6.7).
use crate::args::Flags;
use crate::events::after;
use abi::sys::{FutexWaitv, Timespec};
use abi::{Errno, Result, c};
use guest::{Memory, UserIn};
use kernel::futex::{self, Key, pi};
use kernel::mm::USER_END;
use std::rc::Rc;
use task::{Outcome, Task};

const FUTEX_LOCK_PI2: i32 = 13;

/// A word in the caller's memory.
struct Word {
    mem: Rc<dyn Memory>,
    addr: u64,
    kernel: Rc<task::Kernel>,
}

impl Word {
    fn of(t: &Task, addr: u64) -> Word {
        Word { mem: t.mem(), addr, kernel: t.kernel.clone() }
    }
}

impl pi::Word for Word {
    fn load(&self) -> Result<u32> {
        load(&*self.mem, self.addr)
    }
    fn store(&self, value: u32) -> Result<()> {
        self.mem.write_now(self.addr, &value.to_ne_bytes())
    }
    fn store_high(&self, byte: u8) -> Result<()> {
        self.mem.write_now(self.addr + 3, &[byte])
    }
    fn alive(&self, tid: u32) -> bool {
        self.kernel.task(tid as i32).is_some()
    }
}

fn load(mem: &dyn Memory, addr: u64) -> Result<u32> {
    let mut b = [0u8; 4];
    mem.read_now(addr, &mut b)?;
    Ok(u32::from_ne_bytes(b))
}

/// Which futex an address means. A word that may be shared must be there, as Linux asks for its page.
fn key(t: &Task, addr: u64, private: bool) -> Result<Key> {
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    if !private {
        let space = mm.space.borrow();
        let v = space.at(addr).filter(|v| v.prot & c::PROT_READ != 0).ok_or(Errno::EFAULT)?;
        let shared = v.shared && v.file.is_some();
        drop(space);
        // The file may be shorter than its mapping.
        if shared {
            load(&*t.mem(), addr)?;
        }
    }
    Ok(mm.futex_key(addr, private))
}

/// The time a wait ends, as monotonic nanoseconds. FUTEX_WAIT has an interval, the others a time of a clock.
fn deadline(t: &Task, cmd: i32, realtime: bool, timeout: u64) -> Result<Option<u64>> {
    let Some(ts) = UserIn::<Timespec>::new(timeout).get_opt(&*t.mem())? else { return Ok(None) };
    Ok(match cmd {
        c::FUTEX_WAIT => after(ts.ns()?).map(|d| t.restart_deadline(d)),
        _ if realtime || cmd == c::FUTEX_LOCK_PI => after(ts.ns()?.saturating_sub(host::time::realtime_ns())),
        _ => Some(ts.ns()?),
    })
}

/// Leaves the call to the host; `wait`: the word, and what it must be, of one that waits. A signal ends that here, where nobody
/// may begin to wait meanwhile.
fn natively(t: &Task, wait: Option<(u64, u32)>, timeout: u64) -> Result<usize> {
    if let Some((addr, expected)) = wait.filter(|_| t.interrupted()) {
        if load(&*t.mem(), addr)? != expected {
            return Err(Errno::EAGAIN);
        }
        return Err(if timeout == 0 { Errno::ERESTARTSYS } else { Errno::ERESTART_RESTARTBLOCK });
    }
    t.outcome.set(Outcome::Natively);
    Err(Errno::ERESTARTNOINTR)
}

/// futex(2). The word is read as it is now, in the guest's memory.
pub async fn futex(t: &Rc<Task>, addr: u64, op: i32, val: u32, timeout: u64, addr2: u64, val3: u32) -> Result<usize> {
    let private = op & c::FUTEX_PRIVATE_FLAG != 0;
    let realtime = op & c::FUTEX_CLOCK_REALTIME != 0;
    let cmd = op & !(c::FUTEX_PRIVATE_FLAG | c::FUTEX_CLOCK_REALTIME);
    if realtime && !matches!(cmd, c::FUTEX_WAIT_BITSET | c::FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    let waits = matches!(cmd, c::FUTEX_WAIT | c::FUTEX_WAIT_BITSET);
    if private && addr < USER_END && t.mm().futexes_at_host() {
        if slots::futex::at_host(op as u32, timeout) {
            return natively(t, waits.then_some((addr, val)), timeout);
        }
        t.take_futexes();
    }
    if private && !waits {
        // Those who wait must be here before somebody looks for them.
        t.gathered().await;
    }
    let mem = t.mem();
    let load = |addr: u64| load(&*mem, addr);
    match cmd {
        c::FUTEX_WAIT | c::FUTEX_WAIT_BITSET => {
            let bitset = if cmd == c::FUTEX_WAIT { futex::ANY } else { val3 };
            let deadline = deadline(t, cmd, realtime, timeout)?;
            let key = key(t, addr, private)?;
            let r = futex::wait(key, bitset, val, deadline, &|| load(addr)).await;
            if let (Err(Errno::ERESTART_RESTARTBLOCK), Some(d)) = (r, deadline) {
                t.set_restart_deadline(d);
            }
            r.map(|()| 0)
        }
        c::FUTEX_WAKE => futex::wake(key(t, addr, private)?, val, futex::ANY),
        c::FUTEX_WAKE_BITSET => futex::wake(key(t, addr, private)?, val, val3),
        c::FUTEX_REQUEUE | c::FUTEX_CMP_REQUEUE => {
            let n = timeout as u32;
            if (val as i32) < 0 || (n as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (key(t, addr, private)?, key(t, addr2, private)?);
            let read = || load(addr);
            let compare: Option<(u32, &dyn Fn() -> Result<u32>)> =
                if cmd == c::FUTEX_CMP_REQUEUE { Some((val3, &read)) } else { None };
            futex::requeue(from, to, val, n, compare)
        }
        c::FUTEX_WAKE_OP => {
            let (key, key2) = (key(t, addr, private)?, key(t, addr2, private)?);
            let op = futex::WakeOp::decode(val3)?;
            futex::wake_op(key, val, key2, timeout as u32, op, |f| {
                let old = load(addr2)?;
                mem.write_now(addr2, &f(old).to_ne_bytes())?;
                Ok(old)
            })
        }
        _ => {
            inheriting(t, cmd, [addr, addr2], [val, timeout as u32, val3], private, deadline(t, cmd, realtime, timeout))
                .await
        }
    }
}

/// The commands with priority inheritance. `timeout` is looked at by those that wait.
async fn inheriting(
    t: &Rc<Task>,
    cmd: i32,
    [addr, addr2]: [u64; 2],
    [val, n, val3]: [u32; 3],
    private: bool,
    timeout: Result<Option<u64>>,
) -> Result<usize> {
    let key = |addr| key(t, addr, private);
    let (tid, mem) = (t.tid as u32, t.mem());
    let load = || load(&*mem, addr);
    let word = Word::of(t, addr);
    match cmd {
        c::FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            let deadline = timeout?;
            pi::lock(key(addr)?, &word, tid, deadline).await.map(|()| 0)
        }
        c::FUTEX_TRYLOCK_PI => pi::try_lock(key(addr)?, &word, tid).map(|()| 0),
        c::FUTEX_UNLOCK_PI => pi::unlock(key(addr)?, &word, tid).map(|()| 0),
        c::FUTEX_WAIT_REQUEUE_PI => {
            let deadline = timeout?;
            if addr == addr2 {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (key(addr)?, key(addr2)?);
            pi::wait_requeue(from, val, deadline, &load, (to, &Word::of(t, addr2), tid)).await.map(|()| 0)
        }
        c::FUTEX_CMP_REQUEUE_PI => {
            if val != 1 || (n as i32) < 0 || addr == addr2 {
                return Err(Errno::EINVAL);
            }
            pi::requeue(key(addr)?, key(addr2)?, n, (val3, &load), &Word::of(t, addr2))
        }
        _ => Err(Errno::ENOSYS),
    }
}

const PRIVATE: u32 = c::FUTEX_PRIVATE_FLAG as u32;

/// Flags of the calls that came after futex(2); whether they say that the word is private. EINVAL: not a word of 32 bits.
fn private(flags: u32) -> Result<bool> {
    const FUTEX2_SIZE_U32: u32 = 2;
    if flags & !PRIVATE == FUTEX2_SIZE_U32 { Ok(flags & PRIVATE != 0) } else { Err(Errno::EINVAL) }
}

/// A value as wide as the word. EINVAL: it is not.
fn narrow(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// `timeout`: a time on the clock. EINVAL: another clock.
fn until(t: &Task, timeout: UserIn<Timespec>, clock: i32) -> Result<Option<u64>> {
    let Some(ts) = timeout.get_opt(&*t.mem())? else { return Ok(None) };
    match clock {
        c::CLOCK_MONOTONIC => Ok(Some(ts.ns()?)),
        c::CLOCK_REALTIME => Ok(after(ts.ns()?.saturating_sub(host::time::realtime_ns()))),
        _ => Err(Errno::EINVAL),
    }
}

/// The words of a list, checked.
fn words_of(t: &Task, list: UserIn<FutexWaitv>, n: usize) -> Result<Vec<(FutexWaitv, Key)>> {
    let one = |w: FutexWaitv| {
        let private = private(w.flags)?;
        narrow(w.val)?;
        if w.reserved != 0 { Err(Errno::EINVAL) } else { Ok((w, private)) }
    };
    let checked: Vec<_> = list.get_array(&*t.mem(), n)?.into_iter().map(one).collect::<Result<_>>()?;
    checked.into_iter().map(|(w, private)| Ok((w, key(t, w.addr, private)?))).collect()
}

/// futex_waitv(2): `timeout` is a time on the clock. Words of 32 bits.
pub async fn futex_waitv(
    t: &Rc<Task>,
    words: UserIn<FutexWaitv>,
    n: usize,
    flags: Flags,
    timeout: UserIn<Timespec>,
    clock: i32,
) -> Result<usize> {
    flags.only(0)?;
    if n == 0 || n > futex::WAITV_MAX || words.is_null() {
        return Err(Errno::EINVAL);
    }
    t.take_futexes();
    let deadline = until(t, timeout, clock)?;
    let (list, mem) = (words_of(t, words, n)?, t.mem());
    let loads: Vec<_> = list.iter().map(|(w, _)| || load(&*mem, w.addr)).collect();
    let word = |((w, key), load): (&(FutexWaitv, Key), _)| futex::Word { key: *key, expected: w.val as u32, load };
    let words: Vec<_> = list.iter().zip(loads.iter().map(|l| l as &dyn Fn() -> Result<u32>)).map(word).collect();
    futex::wait_any(&words, deadline).await
}

/// futex_wake(2): FUTEX_WAKE_BITSET, but that none may be asked for.
pub async fn futex_wake(t: &Rc<Task>, addr: u64, mask: u64, n: i32, flags: Flags) -> Result<usize> {
    let (private, mask) = (private(flags.0)?, narrow(mask)?);
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    if private {
        t.take_futexes();
        t.gathered().await;
    }
    let key = key(t, addr, private)?;
    // As Linux counts: it looks whether it is enough after each.
    if n == 0 { Ok(0) } else { futex::wake(key, n.max(1) as u32, mask) }
}

/// futex_wait(2): FUTEX_WAIT_BITSET, with the clock named.
pub async fn futex_wait(
    t: &Rc<Task>,
    addr: u64,
    val: u64,
    mask: u64,
    flags: Flags,
    timeout: UserIn<Timespec>,
    clock: i32,
) -> Result {
    let (private, val, mask) = (private(flags.0)?, narrow(val)?, narrow(mask)?);
    let deadline = until(t, timeout, clock)?;
    if private {
        t.take_futexes();
    }
    let (key, mem) = (key(t, addr, private)?, t.mem());
    // A time on a clock needs no memory of when the call began.
    futex::wait(key, mask, val, deadline, &|| load(&*mem, addr)).await.map_err(|e| match e {
        Errno::ERESTART_RESTARTBLOCK => Errno::ERESTARTSYS,
        e => e,
    })
}

/// futex_requeue(2): FUTEX_CMP_REQUEUE between the two words of a list; the first has the value to compare.
pub async fn futex_requeue(
    t: &Rc<Task>,
    words: UserIn<FutexWaitv>,
    flags: Flags,
    wake: i32,
    requeue: i32,
) -> Result<usize> {
    flags.only(0)?;
    if words.is_null() {
        return Err(Errno::EINVAL);
    }
    t.take_futexes();
    t.gathered().await;
    let (list, mem) = (words_of(t, words, 2)?, t.mem());
    if wake < 0 || requeue < 0 {
        return Err(Errno::EINVAL);
    }
    let [(from, from_key), (_, to_key)] = list[..] else { return Err(Errno::EINVAL) };
    futex::requeue(from_key, to_key, wake as u32, requeue as u32, Some((from.val as u32, &|| load(&*mem, from.addr))))
}
