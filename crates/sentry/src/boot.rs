//! From the launcher's specification to a running first process.
use crate::control::Control;
use crate::report::Lines;
use crate::serve::Sentry;
use crate::start;
use kernel::cred::Cred;
use platform::{Platform, Ptrace, Slots};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use task::{Config, ExitStatus, Kernel};
use vfs::mount::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use vfs::{FsContext, Inode, MountOptions, MountTable};
use wire::{Event, IdMap, MountKind, SentrySpec};

fn take(fd: i32) -> OwnedFd {
    host::process::take(fd)
}

fn read_spec(fd: i32) -> Result<SentrySpec, String> {
    let fd = take(fd);
    let mut text = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        match host::file::read(fd.as_fd(), &mut buf, Some(text.len() as u64)) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buf[..n]),
            Err(e) => return Err(format!("cannot read the specification: {e}")),
        }
    }
    serde_json::from_slice(&text).map_err(|e| format!("the specification is not understood: {e}"))
}

/// Device numbers of our own file systems: major 0, as for Linux's.
const FIRST_DEV: u64 = 0x40;
/// Half of the container's memory, as Linux's tmpfs has half of the machine's; and as many files as that is pages.
fn tmpfs(dev: u64, mode: u32, size: Option<u64>, spec: &SentrySpec) -> Rc<dyn Inode> {
    let machine = host::time::memory().0;
    let limit = size.unwrap_or(spec.limits.memory.unwrap_or(machine).min(machine) / 2) & kernel::mm::PAGE_SIZE_MASK;
    fs::tmp::mount(dev, mode, limit, machine / 2 / abi::PAGE_SIZE)
}

/// Everything, in the order in which it is listed.
fn mount_all(k: &Rc<Kernel>, spec: &SentrySpec, source: &Rc<crate::proc::Source>) -> Result<(), String> {
    let table = &k.mounts;
    let read_only_root = spec.root_read_only;
    let single = spec.ids == IdMap::Single;
    for (i, m) in spec.mounts.iter().enumerate() {
        let dev = FIRST_DEV + i as u64;
        let mut o = MountOptions { kind: "tmpfs".into(), source: "tmpfs".into(), ..MountOptions::default() };
        if let Some(name) = &m.name {
            o.source.clone_from(name);
        }
        for (wanted, flag) in [(m.no_exec, NO_EXEC), (m.no_suid, NO_SUID), (m.no_dev, NO_DEV)] {
            o.flags |= if wanted { flag } else { 0 };
        }
        let root: Rc<dyn Inode> = match &m.kind {
            &MountKind::Host { fd, read_only, exclusive, .. } => {
                o.flags |= if read_only { READ_ONLY } else { 0 };
                o.kind = "rvisor".into();
                o.source = "host".into();
                fs::host::mount(take(fd), read_only, exclusive, single)
            }
            &MountKind::Overlay { lower_fd, upper_fd } => {
                o.kind = "overlay".into();
                o.source = "overlay".into();
                let lower = fs::host::mount(take(lower_fd), true, true, single);
                let upper = match upper_fd {
                    Some(fd) => fs::host::mount(take(fd), false, true, single),
                    None => tmpfs(dev, 0o755, None, spec),
                };
                fs::overlay::mount(dev, lower, upper)
            }
            &MountKind::Tmpfs { size, mode, read_only } => {
                o.flags |= if read_only { READ_ONLY } else { 0 };
                tmpfs(dev, mode.unwrap_or(0o1777), size, spec)
            }
            // When all that they could be laid over is there.
            MountKind::Mask | MountKind::ReadOnly => continue,
            MountKind::Text { text } => {
                let e = |e| format!("cannot make {}: {e}", m.target);
                let file = fs::tmp::text(dev, text.as_bytes()).map_err(e)?;
                // A root that has no place for it, or none that may be made, does without.
                if let Ok(on) = place(table, m.target.as_bytes(), false) {
                    table.mount(Some(on), file, o);
                }
                continue;
            }
            MountKind::Proc => {
                (o.kind, o.source) = ("proc".into(), "proc".into());
                fs::proc::mount(dev, source.clone())
            }
            MountKind::Sysfs => {
                crate::sys::mount(k, |target| place(table, target, true));
                continue;
            }
            MountKind::Mqueue => {
                o.flags |= NO_EXEC | NO_SUID | NO_DEV;
                (o.kind, o.source) = ("mqueue".into(), "mqueue".into());
                ipc::mqueue::fs::mount(dev, &k.queues)
            }
            MountKind::Devpts => {
                (o.kind, o.source) = ("devpts".into(), "devpts".into());
                ipc::tty::devpts::mount(dev, k.terminals.clone())
            }
            MountKind::Dev => fs::dev::mount(dev, console(spec)).map_err(|e| format!("cannot make /dev: {e}"))?,
        };
        if i == 0 {
            if read_only_root {
                make_places(&root, &spec.mounts[1..]).map_err(|e| format!("cannot prepare the root: {e}"))?;
                o.flags |= READ_ONLY;
            }
            propagate(&table.mount(None, root, o).mount, m.propagation);
            continue;
        }
        let on = place(table, m.target.as_bytes(), root.attr().is_ok_and(|a| a.is_dir()))
            .map_err(|e| format!("cannot mount on {}: {e}", m.target))?;
        let made = table.mount(Some(on), root, o);
        propagate(&made.mount, m.propagation);
        match m.kind {
            MountKind::Proc => _ = k.proc_fs.set(made.mount.sb.clone()),
            MountKind::Devpts => k.terminals.mounted(made),
            _ => {}
        }
    }
    cover_all(table, spec)
}

/// With a terminal /dev/console is the first of /dev/pts.
fn console(spec: &SentrySpec) -> Option<(u64, u32)> {
    let rdev = abi::c::makedev(ipc::tty::PTS_MAJOR, 0);
    spec.process.terminal.then_some((rdev, spec.process.uid))
}

fn propagate(mount: &vfs::Mount, to: wire::Propagation) {
    use vfs::mount::Propagation::{Private, Shared, Slave, Unbindable};
    mount.set_propagation(match to {
        wire::Propagation::Private => Private,
        wire::Propagation::Shared => Shared,
        wire::Propagation::Slave => Slave,
        wire::Propagation::Unbindable => Unbindable,
    });
}

/// What will be mounted has its place before the root is read-only.
fn make_places(root: &Rc<dyn Inode>, mounts: &[wire::Mount]) -> abi::Result {
    let table = MountTable::first();
    table.mount(None, root.clone(), MountOptions::default());
    let covered = |i: usize| mounts[..i].iter().any(|m| mounts[i].target.starts_with(&format!("{}/", m.target)));
    for (_, m) in mounts.iter().enumerate().filter(|&(i, _)| !covered(i)) {
        let dir = match &m.kind {
            MountKind::Host { dir, .. } => *dir,
            MountKind::Text { .. } | MountKind::Mask | MountKind::ReadOnly | MountKind::Sysfs => continue,
            _ => true,
        };
        place(&table, m.target.as_bytes(), dir)?;
    }
    Ok(())
}

fn cover_all(table: &Rc<MountTable>, spec: &SentrySpec) -> Result<(), String> {
    for (i, m) in spec.mounts.iter().enumerate() {
        let mask = match m.kind {
            MountKind::Mask => true,
            MountKind::ReadOnly => false,
            _ => continue,
        };
        cover(table, FIRST_DEV + i as u64, m, mask).map_err(|e| format!("cannot cover {}: {e}", m.target))?;
    }
    Ok(())
}

/// Lays something empty over what is there, or itself, but not to be written. What does not exist stays so.
fn cover(table: &Rc<MountTable>, dev: u64, m: &wire::Mount, mask: bool) -> abi::Result {
    let root = table.root().ok_or(abi::Errno::ENOENT)?;
    let fs = FsContext::new(table.clone(), root.clone());
    let cred = Cred { effective: u64::MAX, ..Cred::new(0, 0, &[]) };
    let caller = vfs::Caller { fs: &fs, cred: &cred, scope: Default::default() };
    let on = match caller.path(&root, m.target.as_bytes(), true) {
        Err(abi::Errno::ENOENT | abi::Errno::ENOTDIR) => return Ok(()),
        on => on?,
    };
    let flags = READ_ONLY | on.mount.flags() & (NO_EXEC | NO_SUID | NO_DEV);
    let (kind, source) = (on.mount.sb.kind.clone(), on.mount.source.clone());
    let mut o = MountOptions { flags, kind, source, ..MountOptions::default() };
    let dir = on.inode().attr()?.is_dir();
    let over = match (mask, dir) {
        (false, _) => on.inode().clone(),
        (true, true) => fs::tmp::mount(dev, 0o755, 0, 1),
        (true, false) => fs::tmp::text(dev, b"")?,
    };
    if mask {
        (o.kind, o.source) = ("tmpfs".into(), "tmpfs".into());
    }
    table.mount(Some(on), over, o);
    Ok(())
}

/// The place to mount on, made if it is missing and can be.
fn place(table: &Rc<MountTable>, target: &[u8], dir: bool) -> abi::Result<vfs::Path> {
    let root = table.root().ok_or(abi::Errno::ENOENT)?;
    let fs = FsContext::new(table.clone(), root.clone());
    fs.umask.set(0o022);
    let cred = Cred { effective: u64::MAX, ..Cred::new(0, 0, &[]) };
    let caller = vfs::Caller { fs: &fs, cred: &cred, scope: Default::default() };
    let mut done = Vec::new();
    let parts: Vec<&[u8]> = target.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    for (i, part) in parts.iter().enumerate() {
        done.push(b'/');
        done.extend_from_slice(part);
        if matches!(caller.path(&root, &done, true), Err(abi::Errno::ENOENT)) {
            if i + 1 == parts.len() && !dir {
                caller.open(&root, &done, abi::c::O_CREAT | abi::c::O_WRONLY, 0o644)?;
            } else {
                caller.mkdir(&root, &done, 0o755)?;
            }
        }
    }
    caller.path(&root, target, true)
}

/// Runs the sandbox; its exit status.
pub fn boot(spec_fd: i32) -> Result<u8, String> {
    let spec = read_spec(spec_fd)?;
    let events = Lines::new(Some(take(spec.events_fd)));
    let strace = Lines::new(spec.strace_fd.map(take_line));
    let log = Lines::new(spec.log_fd.map(take_line));
    match run(spec, &events, strace, log) {
        Ok(status) => Ok(status),
        Err((status, message)) => {
            events.event(&Event::Failed { status: status as i32, message });
            Ok(status)
        }
    }
}

/// Standard error may also be where the lines go.
fn take_line(fd: i32) -> OwnedFd {
    if fd <= 2 { host::fs::dup(host::process::standard(fd)).unwrap_or_else(|_| take(fd)) } else { take(fd) }
}

fn run(spec: SentrySpec, events: &Lines, strace: Lines, log: Lines) -> Result<u8, (u8, String)> {
    let fail = |m: String| (125u8, m);
    let started = |e| fail(format!("cannot start the stubs: {e}"));
    let init = take(spec.init_fd);
    match spec.platform {
        wire::Platform::Slots => {
            let cpus = (spec.millicpus / 1000).max(1) as usize;
            let hints = syscalls::row::hints(syscalls::table::ROWS);
            let p = Slots::new(init.as_fd(), &hints, cpus).map_err(started)?;
            run_on(p, spec, events, strace, log)
        }
        wire::Platform::Ptrace => {
            let p = Ptrace::new(init.as_fd(), spec.init_pid).map_err(started)?;
            run_on(p, spec, events, strace, log)
        }
    }
}

fn run_on<P: Platform>(
    mut p: P,
    spec: SentrySpec,
    events: &Lines,
    strace: Lines,
    log: Lines,
) -> Result<u8, (u8, String)> {
    let fail = |m: String| (125u8, m);
    let signals = host::signals::Signals::new().map_err(|e| fail(format!("cannot listen for signals: {e}")))?;
    host::process::prepare_for_filter();
    // From here on there is a second thread; it inherits the signals blocked above.
    p.start().map_err(|e| fail(format!("cannot start the stubs: {e}")))?;
    let features = p.features();
    let version = host::process::version();
    network(&spec).map_err(fail)?;
    kernel::helper::start().map_err(|e| fail(format!("cannot start the helpers: {e}")))?;
    confine(spec.platform).map_err(fail)?;
    fs::host::set_host_version(version.0, version.1);
    fs::tmp::set_store(take(spec.memory_fd));
    let source = Rc::new(crate::proc::Source::default());
    let config = Config {
        hostname: spec.hostname.clone(),
        memory: spec.limits.memory,
        millicpus: spec.millicpus,
        quota: spec.limits.millicpus,
        pids: spec.limits.pids,
        cpus: spec.millicpus.div_ceil(1000).max(1) as usize,
        vdso: features.vdso,
        vdso_len: features.vdso_len,
        hwcap: features.hwcap,
        hwcap2: features.hwcap2,
        guarded_init: spec.guarded_init,
    };
    let k = Kernel::new(config, MountTable::first());
    if let Some(name) = &spec.domainname {
        *k.first.uts.domainname.borrow_mut() = name.clone().into_bytes();
    }
    source.set(&k);
    mount_all(&k, &spec, &source).map_err(fail)?;
    let t = start::process(&k, &spec.process, start::standard_streams()).map_err(|e| (e.status, e.message))?;
    let mut s = Sentry::new(p, k.clone(), signals, strace, log, spec.started_ns);
    if let Some(fd) = spec.control_fd {
        s.control = Some(Control::new(take(fd)).map_err(|e| fail(format!("the control socket: {e}")))?);
    }
    let status = s.run(&t, spec.hold, events);
    let (code, signal) = match status {
        ExitStatus::Exited(c) => (c as i32, None),
        ExitStatus::Signaled(sig, _) => (128 + sig, Some(sig)),
    };
    events.event(&Event::Exited { status: code, signal });
    Ok(code as u8)
}

/// The socket that tells of interfaces and routes is of a kind that the filter does not let be made.
fn network(spec: &SentrySpec) -> Result<(), String> {
    let routes = host::net::routes().map_err(|e| format!("cannot ask for the network's interfaces: {e}"))?;
    let rule = |r: &wire::NetworkRule| {
        let net = net::policy::Net::parse(&r.net).ok_or_else(|| format!("{:?} is no network", r.net))?;
        Ok(net::policy::Rule { allow: r.allow, act: None, net, ports: r.ports[0]..=r.ports[1] })
    };
    let rules = spec.network_rules.iter().map(rule).collect::<Result<_, String>>()?;
    net::inet::configure(Rc::new(net::route::Routes::new(routes)), net::policy::Policy { rules });
    Ok(())
}

/// From here on only the calls of `bpf::sentry_policy` are left; no byte of the guest's has been read yet.
fn confine(platform: wire::Platform) -> Result<(), String> {
    let platform = match platform {
        wire::Platform::Slots => bpf::Platform::Slots,
        wire::Platform::Ptrace => bpf::Platform::Ptrace,
    };
    let program = bpf::compile(&bpf::sentry_policy(platform)).map_err(|e| format!("the sentry's filter: {e:?}"))?;
    host::seccomp::install(&program).map_err(|e| format!("the sentry's filter is refused by the host: {e}"))
}
