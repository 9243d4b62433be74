//! Making and becoming processes.
use abi::{Errno, Result};
use std::ffi::{CStr, c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The error of the libc call that just failed.
pub(crate) fn last() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn check(r: c_int) -> Result<c_int> {
    if r < 0 { Err(last()) } else { Ok(r) }
}

/// Which side of a [`clone_process`] this is.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// clone(2) as fork does it, with `flags` in addition (CLONE_NEW*, CLONE_PARENT). The child's end sends
/// SIGCHLD.
///
/// # Safety
/// The process must have one thread: locks that others hold stay locked in the child for ever.
/// `flags` must not share memory (CLONE_VM).
pub unsafe fn clone_process(flags: c_int) -> Result<Cloned> {
    let mut pidfd: c_int = -1;
    // CLONE_PARENT brings its own end signal.
    let signal = if flags & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD };
    let flags = flags | libc::CLONE_PIDFD | signal;
    // SAFETY: a copied address space and a null stack: the child goes on here on its own copy. The kernel
    // writes the parent's `pidfd` only.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, &raw mut pidfd, 0, 0) };
    match pid {
        0 => Ok(Cloned::Child),
        // SAFETY: the call has just made this descriptor.
        p if p > 0 => Ok(Cloned::Parent { pid: p as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        _ => Err(last()),
    }
}

/// As [`clone_process`], with the child in this control group of version 2 from the start: clone3(2), Linux 5.7.
///
/// # Safety
/// As [`clone_process`].
pub unsafe fn clone_process_into(flags: c_int, group: BorrowedFd<'_>) -> Result<Cloned> {
    const INTO_CGROUP: u64 = 1 << 33;
    let mut pidfd: c_int = -1;
    let signal = if flags & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD };
    // SAFETY: numbers only; zero means that something is not asked for.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (flags | libc::CLONE_PIDFD) as u64 | INTO_CGROUP;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = signal as u64;
    args.cgroup = group.as_raw_fd() as u64;
    // SAFETY: as in `clone_process`; the kernel reads `args`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match pid {
        0 => Ok(Cloned::Child),
        // SAFETY: the call has just made this descriptor.
        p if p > 0 => Ok(Cloned::Parent { pid: p as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        _ => Err(last()),
    }
}

/// Becomes the program of the descriptor: execveat(2) with AT_EMPTY_PATH. Returns only on failure.
pub fn exec(program: BorrowedFd<'_>, argv: &[&CStr], envp: &[&CStr]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: both vectors end with a null pointer, and their strings outlive the call.
    unsafe {
        libc::syscall(libc::SYS_execveat, program.as_raw_fd(), c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), flags)
    };
    last()
}

/// Becomes the program at the path: execve(2). Returns only on failure.
pub fn exec_path(path: &CStr, argv: &[&CStr], envp: &[&CStr]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both vectors end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last()
}

fn pointers(list: &[&CStr]) -> Vec<*const c_char> {
    list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Whether the number is an open descriptor.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: no memory is involved; a number that is not open is an error.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Lets the descriptor of this number live through exec. EBADF if it is not open.
pub fn keep_on_exec(fd: i32) -> Result {
    // SAFETY: no memory is involved; a number that is not open is an error.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed by exec: close_range(2).
pub fn close_on_exec_from(first: u32) -> Result {
    // SAFETY: no memory is involved, and no descriptor is closed now.
    check(unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as c_int) }).map(drop)
}

/// Closes every descriptor but these, for a process that goes on without owning anything else.
///
/// # Safety
/// Nothing that owns or borrows another descriptor is used or dropped afterwards.
pub unsafe fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result {
    let mut numbers: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    numbers.sort_unstable();
    let mut from = 0;
    for n in numbers {
        if n > from {
            // SAFETY: no memory is involved; the caller answers for the descriptors.
            check(unsafe { libc::close_range(from, n - 1, 0) })?;
        }
        from = n + 1;
    }
    // SAFETY: as above.
    check(unsafe { libc::close_range(from, u32::MAX, 0) }).map(drop)
}

/// Writes to a descriptor known by its number only. EBADF if it is not open.
pub fn write_all(fd: i32, mut bytes: &[u8]) -> Result {
    while !bytes.is_empty() {
        // SAFETY: the host reads at most the length given from `bytes`.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) if last() == Errno::EINTR => {}
            Err(_) => return Err(last()),
        }
    }
    Ok(())
}

/// Gives every signal its default action and unblocks all, so that what the caller ignored is not
/// inherited by the next program.
pub fn reset_signals() {
    /// The kernel's signals and the size of its set; the C library hides two of them for itself.
    const SIGNALS: c_int = 64;
    const SET_SIZE: usize = 8;
    // The kernel's `struct sigaction` and set of signals: all zeroes is the default action, and the empty set.
    let zeroes = [0u64; 4];
    let none = std::ptr::null_mut::<u64>();
    for signal in 1..=SIGNALS {
        // SAFETY: `zeroes` is as large as the structure and only read; the default action runs no code of
        // ours. SIGKILL and SIGSTOP refuse, and have it already.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const zeroes, none, SET_SIZE) };
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const zeroes, none, SET_SIZE) };
}

/// Lets signals that ask a process to end do so until exec, also where it is the first of its pid namespace, for which the
/// default is to ignore them. Its status is then 128 + the signal's number.
pub fn end_by_signals() {
    extern "C" fn end(signal: c_int) {
        exit_now(128 + signal)
    }
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: the handler only calls _exit(2), which is safe wherever it interrupts.
        unsafe { libc::signal(signal, end as extern "C" fn(c_int) as libc::sighandler_t) };
    }
}

/// From the next exec on, addresses are chosen alike each time: personality(2), ADDR_NO_RANDOMIZE.
pub fn fix_addresses() -> Result {
    // SAFETY: changes this process's flags only.
    check(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) }).map(drop)
}

/// Makes `at` a descriptor of the same file, which lives through exec: dup2(2).
///
/// # Safety
/// Whatever had the number `at` is closed: no owner of it may use or close it afterwards.
pub unsafe fn place(fd: BorrowedFd<'_>, at: i32) -> Result {
    if fd.as_raw_fd() == at {
        return keep_on_exec(at);
    }
    // SAFETY: no memory is involved; the caller answers for `at`.
    check(unsafe { libc::dup2(fd.as_raw_fd(), at) }).map(drop)
}

/// Takes over a descriptor that was inherited: its number is known only from what the parent says.
pub fn take(fd: i32) -> OwnedFd {
    // SAFETY: the caller was told that this number was passed to it and nobody else in the process knows it. A
    // number that is not open makes every call on it fail with EBADF.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// One of descriptors 0, 1, 2.
pub fn standard(fd: i32) -> BorrowedFd<'static> {
    assert!((0..=2).contains(&fd));
    // SAFETY: the standard descriptors are never closed.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The host's Linux version: major and minor number; zeroes if its release says neither.
pub fn version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Has the C library and the runtime ask the host now for what they would otherwise ask later, behind the filter. Before
/// the first thread is made: one that allocates first has an arena of its own, and its chunks come to be everybody's.
pub fn prepare_for_filter() {
    // SAFETY: only sets a number. One arena: more would grow by mprotect, and ask how many CPUs there are.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    crate::time::monotonic_ns();
    crate::time::realtime_ns();
}

/// Bytes of this process's heap in use.
pub fn heap_bytes() -> u64 {
    // SAFETY: only reads the allocator's counters.
    let heap = unsafe { libc::mallinfo2() };
    (heap.uordblks + heap.hblkhd) as u64
}

/// Ends the process without looking back: no destructors, nothing flushed.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not return; everything we hold, the host takes back.
    unsafe { libc::_exit(status) }
}

/// setrlimit(2) for a RLIMIT_ number; 2^64 - 1 is no limit.
pub fn set_limit(which: u32, soft: u64, hard: u64) -> Result {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is only read.
    let r = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, which, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    };
    if r < 0 { Err(last()) } else { Ok(()) }
}

/// membarrier(2), MEMBARRIER_CMD_GLOBAL_EXPEDITED: threads of processes that registered, which run now, pass a memory barrier.
/// EINVAL, ENOSYS: the host has none.
pub fn barrier() -> Result {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) } as c_int)
        .map(drop)
}

/// Makes the calling thread's own cgroup the root of the ones it sees: unshare(2), CLONE_NEWCGROUP.
pub fn own_cgroup_root() -> Result {
    // SAFETY: no memory is involved; of what threads share this takes nothing.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }).map(drop)
}

/// The namespace above one of pids or users: ioctl_ns(2). EPERM: it is not this process's to see.
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) })?;
    // SAFETY: the call has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
