//! Processes started from outside: the first, and those of the control socket's `exec`. Nothing of them has run yet.
use abi::seccomp::Insn;
use abi::{Errno, PAGE_SIZE, c};
use ipc::stdio::HostStream;
use ipc::tty::Console;
use kernel::cred::{CAP_LAST, CAP_SYS_ADMIN, Cred};
use kernel::mm::AddressSpace;
use kernel::seccomp::{Filter, Seccomp};
use std::rc::Rc;
use task::ns::Namespaces;
use task::{Kernel, Mm, Process, Task};
use vfs::{FdTable, FsContext, MountTable, OpenFile};

/// Why there is no process.
#[derive(Debug)]
pub struct Failure {
    /// As `docker run` and `docker exec` number them: 125, 126, 127.
    pub status: u8,
    pub errno: Errno,
    pub message: String,
}

impl Failure {
    pub fn ours(errno: Errno, message: impl Into<String>) -> Failure {
        Failure { status: 125, errno, message: message.into() }
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// The standard streams the sandbox was started with; one that is closed is closed inside.
pub fn standard_streams() -> Vec<Option<Rc<OpenFile>>> {
    (0..3).map(|n| HostStream::standard(n).ok()).collect()
}

/// Where a process started from outside finds itself.
pub struct Place {
    /// The first process of its container; `None`: it is that itself.
    pub container: Option<i32>,
    pub mounts: Rc<MountTable>,
    pub namespaces: Rc<Namespaces>,
}

impl Place {
    /// The container that the sandbox was made with.
    pub fn first(k: &Kernel) -> Place {
        Place { container: Some(1), mounts: k.mounts.clone(), namespaces: k.first.clone() }
    }
}

/// A process whose program is loaded, and which begins with `Sentry::begin_exec`. `streams`: its descriptors 0 to 2; with
/// `terminal` the first is the terminal of the host's that its own is joined to.
pub fn process(
    k: &Rc<Kernel>,
    p: &wire::Process,
    place: &Place,
    streams: Vec<Option<Rc<OpenFile>>>,
) -> Result<Rc<Task>> {
    check(p)?;
    let (table, root) = (place.mounts.clone(), place.mounts.root());
    let root = root.ok_or_else(|| Failure::ours(Errno::ENOENT, "there is no root"))?;
    let fs = FsContext::new(table, root);
    fs.umask.set(p.umask.unwrap_or(0o022) & 0o777);
    let cred = credentials(p);
    let cwd = if p.cwd.is_empty() { "/" } else { &p.cwd };
    let at = fs.root.borrow().clone();
    let found = vfs::Caller { fs: &fs, cred: &cred, scope: Default::default() }.path(&at, cwd.as_bytes(), true);
    let env = environment(p, || home(&vfs::Caller { fs: &fs, cred: &cred, scope: Default::default() }, &at, p.uid));
    let dir = found.and_then(|d| if d.inode().attr()?.is_dir() { Ok(d) } else { Err(Errno::ENOTDIR) });
    let nowhere = |e| Failure { status: 126, errno: e, message: format!("cannot start in {cwd}: {}", describe(e, k)) };
    *fs.cwd.borrow_mut() = dir.map_err(nowhere)?;
    let pid = k.new_pid().map_err(|e| Failure::ours(e, "the limit of processes is reached"))?;
    let (files, console) = (FdTable::new(), if p.terminal { Some(open_console(k, p.uid, &streams)?) } else { None });
    for n in 0..3 {
        let own = console.as_ref().map(|(_, slave)| slave.clone());
        if let Some(f) = own.or_else(|| streams.get(n).cloned().flatten()) {
            let _ = files.put(n as i32, f, false, 1024);
        }
    }
    let process = Process::outside(k, pid, place.container.unwrap_or(pid));
    process.rlimits.replace(limits(p));
    process.block_devices.set(pid == process.container && has_block_devices(p));
    if let Some(score) = p.oom_score_adj {
        process.oom_score_adj.set((score, score.min(0)));
    }
    k.add_process(&process);
    if let Some((console, _)) = console {
        process.take_terminal(console.tty());
        k.consoles.borrow_mut().push((pid, console));
    }
    let mm = Mm::new(k.new_mm_id(), AddressSpace::default());
    let t = Task::new(pid, &process, mm, Rc::new(cred), fs, files);
    t.set_namespaces(place.namespaces.clone());
    load(&t, p, env).and_then(|()| filter(&t, p)).inspect_err(|_| unmake(&t))?;
    Ok(t)
}

/// What JSON may say and Linux not.
fn check(p: &wire::Process) -> Result<()> {
    let wrong = |what| Err(Failure::ours(Errno::EINVAL, what));
    if p.args.iter().chain(&p.env).chain([&p.cwd]).any(|s| s.contains('\0')) {
        return wrong("a NUL byte in arguments, environment or working directory");
    }
    if p.groups.len() > 65536 || p.rlimits.iter().any(|l| l.which >= 16 || l.soft > l.hard) {
        return wrong("a limit that is none, or too many groups");
    }
    if p.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return wrong("oom_score_adj: -1000 to 1000");
    }
    let sets = p.capabilities.unwrap_or_default();
    if sets.effective & !sets.permitted != 0 || sets.ambient & !(sets.permitted & sets.inheritable) != 0 {
        return wrong("capabilities: effective and ambient ones must be permitted, ambient ones inheritable");
    }
    Ok(())
}

fn credentials(p: &wire::Process) -> Cred {
    const KNOWN: u64 = (1 << (CAP_LAST + 1)) - 1;
    let mut cred = Cred::new(p.uid, p.gid, &p.groups);
    cred.no_new_privs = p.no_new_privs;
    if let Some(sets) = p.capabilities {
        cred.bounding = sets.bounding & KNOWN;
        cred.effective = sets.effective & KNOWN;
        cred.inheritable = sets.inheritable & KNOWN;
        cred.permitted = sets.permitted & KNOWN;
        cred.ambient = sets.ambient & KNOWN;
    }
    cred
}

/// Whoever may get no CAP_SYS_ADMIN is shown no loop devices.
pub fn has_block_devices(p: &wire::Process) -> bool {
    credentials(p).bounding & 1 << CAP_SYS_ADMIN != 0
}

fn limits(p: &wire::Process) -> task::Rlimits {
    let mut limits = task::Rlimits::default();
    for l in &p.rlimits {
        limits.0[l.which as usize] = (l.soft, l.hard);
    }
    let stack = &mut limits.0[c::RLIMIT_STACK as usize].0;
    *stack = (*stack).max(PAGE_SIZE);
    limits
}

/// A terminal of the container's, carried to and from one of the host's, and its slave.
fn open_console(k: &Kernel, uid: u32, streams: &[Option<Rc<OpenFile>>]) -> Result<(Rc<Console>, Rc<OpenFile>)> {
    let fail = |e| Failure::ours(e, format!("cannot make the terminal: {e}"));
    let host = streams.first().cloned().flatten().ok_or_else(|| fail(Errno::EBADF))?;
    if host.downcast::<HostStream>().is_none_or(|s| !s.is_terminal()) {
        return Err(fail(Errno::ENOTTY));
    }
    let console = Console::new(&k.terminals, host, uid).map_err(fail)?;
    let slave = k.terminals.open_console(&console).map_err(fail)?;
    Ok((Rc::new(console), slave))
}

/// The environment, with the home directory where it is asked for and not there.
fn environment(p: &wire::Process, home: impl FnOnce() -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut env: Vec<Vec<u8>> = p.env.iter().map(|s| s.clone().into_bytes()).collect();
    let known = env.iter().any(|e| e.starts_with(b"HOME=") && e.len() > 5);
    if p.home && !known {
        env.retain(|e| e != b"HOME=");
        env.push([b"HOME=", &home()[..]].concat());
    }
    env
}

/// What passwd(5) says of the user, in the first 64 KiB; / if it is not there.
fn home(caller: &vfs::Caller<'_>, at: &vfs::Path, uid: u32) -> Vec<u8> {
    let read = || -> abi::Result<Vec<u8>> {
        let path = caller.path(at, b"/etc/passwd", true)?;
        if !path.inode().attr()?.is_file() {
            return Err(Errno::EINVAL);
        }
        let file = OpenFile::new(path.inode().open(c::O_RDONLY)?, c::O_RDONLY, Some(path.clone()));
        let mut text = vec![0; 64 << 10];
        let length = syscalls::exec::read_at(&file, 0, &mut text)?;
        text.truncate(length);
        Ok(text)
    };
    let text = read().unwrap_or_default();
    let found = text.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let id = std::str::from_utf8(fields.get(2)?).ok()?.parse::<u32>().ok()?;
        fields.get(5).filter(|home| id == uid && !home.is_empty() && !home.contains(&0)).map(|home| home.to_vec())
    });
    found.unwrap_or_else(|| b"/".to_vec())
}

fn load(t: &Rc<Task>, p: &wire::Process, env: Vec<Vec<u8>>) -> Result<()> {
    let args = p.args.iter().map(|s| s.clone().into_bytes()).collect();
    syscalls::exec::first(t, args, env).map_err(|e| {
        let status = if e == Errno::ENOENT { 127 } else { 126 };
        let name = p.args.first().map_or("", String::as_str);
        Failure { status, errno: e, message: format!("cannot run {name}: {}", describe(e, &t.kernel)) }
    })
}

/// The filter it begins with; a process started later has that of its own specification.
fn filter(t: &Task, p: &wire::Process) -> Result<()> {
    if p.seccomp.is_empty() {
        return Ok(());
    }
    let program = p.seccomp.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
    let filter = Filter::new(program, None, true).map_err(|e| Failure::ours(e, format!("the seccomp filter: {e}")))?;
    t.set_seccomp(Seccomp::Filtered(filter));
    Ok(())
}

fn describe(e: Errno, k: &Kernel) -> String {
    let why = match e {
        Errno::ENOENT => "no such file or directory".to_owned(),
        Errno::EACCES => "permission denied".to_owned(),
        Errno::ENOTDIR => "not a directory".to_owned(),
        Errno::ENOEXEC => "not an executable this machine can run".to_owned(),
        Errno::E2BIG => "the argument list is too long".to_owned(),
        other => other.to_string(),
    };
    match k.log.borrow().last().filter(|l| l.starts_with("exec refused")) {
        Some(l) => format!("{why} ({l})"),
        None => why,
    }
}

/// Takes back a process that never was.
fn unmake(t: &Rc<Task>) {
    t.exiting.set(true);
    t.finish_exit();
    let mut consoles = t.kernel.consoles.borrow_mut();
    let own = consoles.iter().position(|(pid, _)| *pid == t.tid).map(|i| consoles.swap_remove(i));
    // Closing the master reaches back into the kernel.
    drop(consoles);
    drop(own);
}
