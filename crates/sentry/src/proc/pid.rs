//! /proc/PID.
use super::{DIR, FILE, LINK};
use abi::{Errno, PAGE_SIZE, Result, c};
use fs::proc::Node;
use guest::{Memory, UserIn, UserOut};
use kernel::mm::Query;
use std::fmt::Write;
use std::rc::Rc;
use task::ns::{Namespace, NsFile};
use task::{Kernel, Process, Task};
use vfs::Follow;

const FILES: [&str; 29] = [
    "mem",
    "stat",
    "status",
    "statm",
    "cmdline",
    "comm",
    "environ",
    "maps",
    "smaps",
    "smaps_rollup",
    "mounts",
    "mountinfo",
    "mountstats",
    "uid_map",
    "gid_map",
    "setgroups",
    "limits",
    "oom_score_adj",
    "cgroup",
    "auxv",
    "loginuid",
    "oom_score",
    "coredump_filter",
    "io",
    "oom_adj",
    "personality",
    "sessionid",
    "timerslack_ns",
    "wchan",
];
/// Nanoseconds of a clock tick, sysconf(3)'s _SC_CLK_TCK.
const TICK: u64 = 10_000_000;
const LINKS: [&str; 3] = ["exe", "cwd", "root"];
const DIRS: [&str; 5] = ["fd", "fdinfo", "net", "ns", "task"];

/// A process, and the thread that speaks for it; zombies have none.
fn find(k: &Kernel, pid: i32) -> Result<(Rc<Process>, Option<Rc<Task>>)> {
    if let Some(p) = k.process(pid) {
        let t = p.leader();
        return Ok((p, t));
    }
    let t = k.task(pid).ok_or(Errno::ENOENT)?;
    Ok((t.process.clone(), Some(t)))
}

pub fn node(k: &Kernel, pid: i32, rest: &str) -> Result<Node> {
    let (p, t) = find(k, pid)?;
    let (first, more) = rest.split_once('/').unwrap_or((rest, ""));
    match first {
        "" => {
            let mut v: Vec<(String, u8)> = FILES.iter().map(|n| ((*n).to_owned(), FILE)).collect();
            v.extend(LINKS.iter().map(|n| ((*n).to_owned(), LINK)));
            v.extend(DIRS.iter().map(|n| ((*n).to_owned(), DIR)));
            Ok(Node::Dir(v))
        }
        "task" => match more.split_once('/').unwrap_or((more, "")) {
            ("", _) => Ok(Node::Dir(p.threads().iter().map(|t| (t.tid.to_string(), DIR)).collect())),
            (tid, rest) => {
                let tid: i32 = tid.parse().map_err(|_| Errno::ENOENT)?;
                let t = p.threads().into_iter().find(|t| t.tid == tid).ok_or(Errno::ENOENT)?;
                if rest == "children" {
                    return Ok(Node::File(children(&p, &t).into_bytes()));
                }
                node(k, tid, if rest == "task" { "comm" } else { rest })
            }
        },
        "ns" => {
            let t = t.ok_or(Errno::ENOENT)?;
            if more.is_empty() {
                return Ok(Node::Dir(Namespace::NAMES.iter().map(|n| ((*n).to_owned(), LINK)).collect()));
            }
            Ok(Node::Link(Namespace::of(&t, more).ok_or(Errno::ENOENT)?.text().into_bytes()))
        }
        "net" => super::system::net(k, more),
        "fd" | "fdinfo" => descriptors(&*t.ok_or(Errno::ENOENT)?, first, more),
        _ if !more.is_empty() => Err(Errno::ENOENT),
        "exe" | "cwd" | "root" => {
            let place = place(&*t.ok_or(Errno::ENOENT)?, first)?;
            let fs = k.process(p.container).and_then(|p| p.leader()).map(|t| t.fs());
            let root = fs.map(|f| f.root.borrow().clone()).ok_or(Errno::ENOENT)?;
            Ok(Node::Link(vfs::name_of(&place, &root).unwrap_or_else(|| b"/".to_vec())))
        }
        name if FILES.contains(&name) => Ok(Node::File(text(k, &p, t.as_ref(), name)?)),
        _ => Err(Errno::ENOENT),
    }
}

/// Who is ended first when memory is short: -1000 to 1000. Only CAP_SYS_RESOURCE makes it less.
pub fn set_oom_score_adj(k: &Kernel, pid: i32, caller: Option<&Task>, data: &[u8]) -> Result {
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let to: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&to) {
        return Err(Errno::EINVAL);
    }
    let (p, _) = find(k, pid)?;
    let may = caller.is_some_and(|t| t.cred().has(kernel::cred::CAP_SYS_RESOURCE));
    let (_, least) = p.oom_score_adj.get();
    if to < least && !may {
        return Err(Errno::EACCES);
    }
    p.oom_score_adj.set((to, if may { to } else { least }));
    Ok(())
}

fn place(t: &Task, what: &str) -> Result<vfs::Path> {
    match what {
        "exe" => t.mm().exe.borrow().clone().ok_or(Errno::ENOENT),
        "cwd" => Ok(t.fs().cwd.borrow().clone()),
        _ => Ok(t.fs().root.borrow().clone()),
    }
}

pub fn follow(k: &Kernel, pid: i32, rest: &str) -> Option<Result<Follow>> {
    let t = find(k, pid).ok()?.1?;
    if LINKS.contains(&rest) {
        return Some(place(&t, rest).map(Follow::Path));
    }
    let rest = rest.strip_prefix("task/").and_then(|r| r.split_once('/')).map_or(rest, |(_, r)| r);
    if let Some(name) = rest.strip_prefix("ns/") {
        return Some(Namespace::of(&t, name).ok_or(Errno::ENOENT).map(|n| Follow::File(NsFile::open(n))));
    }
    let fd: i32 = rest.strip_prefix("fd/")?.parse().ok()?;
    let f = t.files().and_then(|f| f.get(fd)).map_err(|_| Errno::ENOENT);
    Some(f.map(|f| match f.path() {
        Some(p) if p.dentry.removed.get() => Follow::File(f),
        Some(p) => Follow::Path(p.clone()),
        None => Follow::File(f),
    }))
}

fn descriptors(t: &Task, which: &str, more: &str) -> Result<Node> {
    let files = t.files().map_err(|_| Errno::ENOENT)?;
    if more.is_empty() {
        let kind = if which == "fd" { LINK } else { FILE };
        return Ok(Node::Dir(files.numbers(0, u32::MAX).into_iter().map(|n| (n.to_string(), kind)).collect()));
    }
    let fd = more.parse().map_err(|_| Errno::ENOENT)?;
    let f = files.get(fd).map_err(|_| Errno::ENOENT)?;
    if which == "fdinfo" {
        return Ok(Node::File(super::fdinfo::text(&f, files.close_on_exec(fd)?).into_bytes()));
    }
    let fs = t.fs();
    let name = match f.path() {
        Some(p) => vfs::name_of(p, &fs.root.borrow()).unwrap_or_else(|| b"/".to_vec()),
        None => anonymous(&f).into_bytes(),
    };
    Ok(Node::Link(name))
}

fn anonymous(f: &vfs::OpenFile) -> String {
    if let Some(p) = f.downcast::<ipc::pipe::PipeEnd>() {
        return format!("pipe:[{}]", p.pipe().id());
    }
    if let Some(s) = f.downcast::<ipc::stdio::HostStream>() {
        return if s.is_terminal() { "/dev/console".into() } else { "pipe:[1]".into() };
    }
    if let Some(s) = f.downcast::<net::SocketFile>() {
        return format!("socket:[{}]", s.ino());
    }
    let kinds: [(&str, bool); 7] = [
        ("[fscontext]", f.downcast::<syscalls::mount::FsFile>().is_some()),
        ("[eventfd]", f.downcast::<ipc::eventfd::EventFd>().is_some()),
        ("[timerfd]", f.downcast::<ipc::timerfd::TimerFd>().is_some()),
        ("[signalfd]", f.downcast::<task::signalfd::SignalFd>().is_some()),
        ("[pidfd]", f.downcast::<task::pidfd::PidFd>().is_some()),
        ("inotify", f.downcast::<vfs::inotify::Inotify>().is_some()),
        ("[eventpoll]", f.downcast::<ipc::epoll::EpollInstance>().is_some()),
    ];
    let name = kinds.iter().find(|(_, is)| *is).map_or("[unknown]", |(n, _)| n);
    format!("anon_inode:{name}")
}

fn memory(t: &Task, range: (u64, u64)) -> Vec<u8> {
    let mut out = vec![0u8; (range.1 - range.0).min(1 << 20) as usize];
    if !t.has_mem() || t.mem().read_now(range.0, &mut out).is_err() {
        out.clear();
    }
    out
}

fn state(p: &Process, t: Option<&Rc<Task>>) -> (char, &'static str) {
    match t {
        _ if p.zombie.get() => ('Z', "zombie"),
        None => ('Z', "zombie"),
        Some(t) if t.trace().is_some_and(|tr| tr.stop.get().is_some()) => ('t', "tracing stop"),
        Some(t) if t.stop_due() => ('T', "stopped"),
        Some(t) if t.parked.borrow().is_some() || t.memory().is_some_and(|m| m.waits_at_host()) => ('S', "sleeping"),
        Some(_) => ('R', "running"),
    }
}

/// Bytes of a process's arguments that [`info`] tells.
const ARGS: u64 = 1000;

/// The process as the control socket shows it.
pub fn info(p: &Process) -> wire::control::ProcessInfo {
    let t = p.leader();
    let t = t.as_ref();
    let lossy = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (from, to) = t.map_or((0, 0), |t| t.mm().args.get());
    let args = t.map_or(Vec::new(), |t| memory(t, (from, to.min(from + ARGS))));
    let since = host::time::monotonic_ns() - p.started;
    wire::control::ProcessInfo {
        pid: p.pid,
        ppid: p.ppid(),
        uid: t.map_or(0, |t| t.cred().ruid),
        state: state(p, t).0,
        threads: p.threads().len() as u32,
        name: t.map_or(String::new(), |t| lossy(&t.comm.borrow())),
        args: args.split_inclusive(|b| *b == 0).map(|a| lossy(a.strip_suffix(&[0]).unwrap_or(a))).collect(),
        started_ns: host::time::realtime_ns() - since,
        cpu_ns: p.cpu_ns(),
        memory: t.map_or(0, |t| t.mm().space.borrow().accessible()),
    }
}

/// The children that a thread has made, each with a space; children of one that is gone are the first thread's.
fn children(p: &Process, t: &Rc<Task>) -> String {
    let made = |c: &Rc<Process>| c.maker.borrow().upgrade().map_or(t.tid == p.pid, |by| by.tid == t.tid);
    p.children.borrow().iter().filter(|c| made(c)).map(|c| format!("{} ", c.pid)).collect()
}

/// Who logged in, as pam_loginuid(8) writes it: once, and for oneself. EPERM otherwise, as without CAP_AUDIT_CONTROL.
pub fn set_login(k: &Kernel, pid: i32, data: &[u8]) -> Result {
    let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let uid: u32 = text.trim_end().parse().map_err(|_| Errno::EINVAL)?;
    let (p, _) = find(k, pid)?;
    if p.pid != task::caller().0 || p.login.get().0 != task::NO_LOGIN {
        return Err(Errno::EPERM);
    }
    p.login.set((uid, if uid == task::NO_LOGIN { uid } else { k.new_login() }));
    Ok(())
}

/// The controlling terminal as proc_pid_stat(5) numbers it.
fn tty_nr(p: &Process) -> u64 {
    let dev = p.tty.borrow().as_ref().map_or(0, |t| t.device());
    let (major, minor) = (u64::from(c::major(dev)), u64::from(c::minor(dev)));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

fn text(k: &Kernel, p: &Process, t: Option<&Rc<Task>>, name: &str) -> Result<Vec<u8>> {
    let comm = t.map(|t| t.comm.borrow().clone()).unwrap_or_default();
    let comm = String::from_utf8_lossy(&comm).into_owned();
    let size = t.map_or((0, 0), |t| {
        let mm = t.mm();
        let space = mm.space.borrow();
        (space.total(), space.accessible())
    });
    let s = match name {
        "stat" => stat(k, p, t, &comm, size),
        "statm" => format!("{} {} 0 0 0 {0} 0\n", size.0 / PAGE_SIZE, size.1 / PAGE_SIZE),
        "status" => super::status::text(p, t, state(p, t), &comm),
        "comm" => format!("{comm}\n"),
        "cmdline" => return Ok(t.map_or(Vec::new(), |t| memory(t, t.mm().args.get()))),
        "environ" => return Ok(t.map_or(Vec::new(), |t| memory(t, t.mm().env.get()))),
        "auxv" => return Ok(t.map_or(Vec::new(), |t| t.mm().auxv.borrow().clone())),
        "maps" => t.map_or(String::new(), |t| t.mm().space.borrow().maps()),
        "smaps" => t.map_or(String::new(), |t| t.mm().space.borrow().smaps()),
        "smaps_rollup" => t.map_or(String::new(), |t| t.mm().space.borrow().smaps_rollup()),
        "mounts" | "mountinfo" | "mountstats" => t.map_or(String::new(), |t| super::mounts::of(t, name)),
        "uid_map" | "gid_map" | "setgroups" => t.map_or(String::new(), |t| super::users::text(k, t, name)),
        "limits" => limits(p),
        "oom_score_adj" => format!("{}\n", p.oom_score_adj.get().0),
        "oom_score" => "0\n".into(),
        "cgroup" => "0::/\n".into(),
        "loginuid" => p.login.get().0.to_string(),
        "sessionid" => p.login.get().1.to_string(),
        "coredump_filter" => "00000033\n".into(),
        // What is read and written is not counted.
        "io" => {
            "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".into()
        }
        "oom_adj" => format!("{}\n", p.oom_score_adj.get().0 * 17 / 1000),
        "personality" => format!("{:08x}\n", t.map_or(0, |t| t.persona.get())),
        "timerslack_ns" => format!("{}\n", t.map_or(0, |t| t.timer_slack.get().0)),
        "wchan" => "0".into(),
        // Opened by itself: see `memory`.
        "mem" => String::new(),
        _ => return Err(Errno::ENOENT),
    };
    Ok(s.into_bytes())
}

/// PROCMAP_QUERY on maps: one mapping, as a structure.
pub fn query(k: &Kernel, pid: i32, mem: &dyn Memory, cmd: u32, arg: u64) -> Result<i64> {
    const PROCMAP_QUERY: u32 = 0xc068_6611;
    if cmd != PROCMAP_QUERY {
        return Err(Errno::ENOTTY);
    }
    let size = UserIn::<u64>::new(arg).get(mem)?;
    let size = usize::try_from(size).map_err(|_| Errno::E2BIG)?;
    let mut q = UserIn::<Query>::new(arg).get_sized(mem, size, Query::FIRST)?;
    q.check()?;
    let t = find(k, pid).ok().and_then(|(_, t)| t).ok_or(Errno::ESRCH)?;
    let name = t.mm().space.borrow().query(&mut q)?;
    if let Some(name) = name {
        mem.write(q.name_addr, &name)?;
    }
    UserOut::new(arg).put_sized(mem, size, &q).map(|()| 0)
}

fn stat(k: &Kernel, p: &Process, t: Option<&Rc<Task>>, comm: &str, (size, resident): (u64, u64)) -> String {
    let started = (p.started - k.boot) / TICK;
    let id = t.map_or(p.pid, |t| t.tid);
    let thread = t.filter(|t| t.tid != p.pid).map(|t| t.cpu_ns());
    let ticks = thread.unwrap_or_else(|| p.cpu_ns()) / TICK;
    let nice = p.nice.get();
    let ((arg, arg_end), (env, env_end)) = t.map_or(((0, 0), (0, 0)), |t| (t.mm().args.get(), t.mm().env.get()));
    format!(
        "{id} ({comm}) {} {} {} {} {} {} 4194304 0 0 0 0 {ticks} 0 {} 0 {} {nice} {} 0 {started} {size} {} 18446744073709551615 \
         0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 {} 0 0 0 0 0 0 {arg} {arg_end} {env} {env_end} 0\n",
        state(p, t).0,
        p.ppid(),
        p.pgid.get(),
        p.sid.get(),
        tty_nr(p),
        p.tty.borrow().as_ref().map_or(-1, |t| t.foreground.get()),
        p.child_cpu.get() / TICK,
        20 + nice,
        p.threads().len(),
        resident / PAGE_SIZE,
        t.map_or(0, |t| t.policy.get()),
    )
}

fn limits(p: &Process) -> String {
    const NAMES: [(&str, u32, &str); 16] = [
        ("Max cpu time", c::RLIMIT_CPU, "seconds"),
        ("Max file size", c::RLIMIT_FSIZE, "bytes"),
        ("Max data size", c::RLIMIT_DATA, "bytes"),
        ("Max stack size", c::RLIMIT_STACK, "bytes"),
        ("Max core file size", c::RLIMIT_CORE, "bytes"),
        ("Max resident set", c::RLIMIT_RSS, "bytes"),
        ("Max processes", c::RLIMIT_NPROC, "processes"),
        ("Max open files", c::RLIMIT_NOFILE, "files"),
        ("Max locked memory", c::RLIMIT_MEMLOCK, "bytes"),
        ("Max address space", c::RLIMIT_AS, "bytes"),
        ("Max file locks", c::RLIMIT_LOCKS, "locks"),
        ("Max pending signals", c::RLIMIT_SIGPENDING, "signals"),
        ("Max msgqueue size", c::RLIMIT_MSGQUEUE, "bytes"),
        ("Max nice priority", c::RLIMIT_NICE, ""),
        ("Max realtime priority", c::RLIMIT_RTPRIO, ""),
        ("Max realtime timeout", c::RLIMIT_RTTIME, "us"),
    ];
    let show = |v: u64| if v == task::RLIM_INFINITY { "unlimited".to_owned() } else { v.to_string() };
    let mut s = format!("{:25} {:20} {:20} {:10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (name, which, unit) in NAMES {
        let (soft, hard) = p.rlimits.borrow().0[which as usize];
        let _ = writeln!(s, "{name:25} {:20} {:20} {unit:10}", show(soft), show(hard));
    }
    s
}
