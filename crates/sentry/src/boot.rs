//! From the launcher's specification to a running first process.
use crate::control::Control;
use crate::mounts::{self, FIRST_DEV, Plan};
use crate::proc::settings;
use crate::report::Lines;
use crate::serve::Sentry;
use crate::start::{self, Place};
use kernel::userns::Extent;
use platform::{Platform, Ptrace, Slots};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use task::{Config, ExitStatus, Kernel};
use vfs::MountTable;
use wire::{Event, IdMap, SentrySpec};

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
    let (of_network, own): (BTreeMap<_, _>, BTreeMap<_, _>) =
        spec.sysctls.clone().into_iter().partition(|(name, _)| name.starts_with("net/"));
    let config = Config {
        hostname: spec.hostname.clone(),
        memory: spec.limits.memory.into(),
        millicpus: spec.millicpus,
        quota: spec.limits.millicpus.into(),
        pids: spec.limits.pids.into(),
        cpus: spec.millicpus.div_ceil(1000).max(1) as usize,
        vdso: features.vdso,
        vdso_len: features.vdso_len,
        hwcap: features.hwcap,
        hwcap2: features.hwcap2,
        // What others answer would be missing in the trace.
        answers: features.answers && !strace.on(),
        guarded_init: spec.guarded_init,
        max_map_count: spec.max_map_count,
        sysctls: of_network,
        id_ranges: spec.id_ranges.as_ref().map(|r| [&r.uids, &r.gids].map(|list| extents(list))),
    };
    let k = Kernel::new(config, MountTable::first());
    let listed = Rc::downgrade(&k);
    net::diag::set_lister(Rc::new(move || listed.upgrade().map(|k| crate::proc::sockets::all(&k)).unwrap_or_default()));
    if let Some(name) = &spec.domainname {
        *k.first.uts.domainname.borrow_mut() = name.clone().into_bytes();
    }
    source.set(&k);
    kernel::mm::MAX_MAP_COUNT.set(spec.max_map_count);
    for (name, text) in &own {
        settings::set(&k, name, text.as_bytes()).map_err(|e| fail(format!("sysctl {name}: {text:?}: {e}")))?;
    }
    let plan = Plan {
        mounts: &spec.mounts,
        root_read_only: spec.root_read_only,
        process: &spec.process,
        memory: spec.limits.memory,
        single: spec.ids == IdMap::Single,
        dev: FIRST_DEV,
    };
    mounts::mount(&k, &k.mounts, &plan, &mut |fd| Ok(take(fd)), &source).map_err(fail)?;
    let t = start::process(&k, &spec.process, &Place::first(&k), start::standard_streams())
        .map_err(|e| (e.status, e.message))?;
    let mut s = Sentry::new(p, k.clone(), signals, strace, log, spec.started_ns);
    (s.source, s.single) = (source, plan.single);
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

/// As user_namespaces(7) has them. What they are outside is only shown.
fn extents(ranges: &[wire::IdRange]) -> Vec<Extent> {
    ranges.iter().map(|r| Extent { first: r.inside, outer: r.outside, kernel: r.inside, count: r.count }).collect()
}

/// The socket that tells of interfaces and routes is of a kind that the filter does not let be made.
fn network(spec: &SentrySpec) -> Result<(), String> {
    let routes = host::net::routes().map_err(|e| format!("cannot ask for the network's interfaces: {e}"))?;
    let rule = |r: &wire::NetworkRule| {
        let net = net::policy::Net::parse(&r.net).ok_or_else(|| format!("{:?} is no network", r.net))?;
        Ok(net::policy::Rule { allow: r.allow, act: None, net, ports: r.ports[0]..=r.ports[1] })
    };
    let rules = spec.network_rules.iter().map(rule).collect::<Result<_, String>>()?;
    let free = spec.sysctls.get("net/ipv4/ip_unprivileged_port_start").and_then(|port| port.trim().parse().ok());
    let (routes, policy) = (Rc::new(net::route::Routes::new(routes)), net::policy::Policy { rules });
    net::inet::configure(routes, policy, free.unwrap_or(net::inet::FIRST_FREE_PORT));
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
