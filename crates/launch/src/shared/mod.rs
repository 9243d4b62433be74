//! The shared kernel: the program runs on the host's kernel, in namespaces, behind what a profile says. The order and its
//! reasons: `docs/design/shared-kernel.md`.
//!
//! The launcher stays, without rights, as the container's monitor ([`monitor`]).
mod child;
mod console;
mod control;
mod enter;
mod files;
mod glob;
mod hooks;
mod kmsg;
pub mod live;
mod log;
mod monitor;
mod oci;
mod plugins;
mod root;
mod rows;

use crate::cgroup::{self, Cgroups, Doors};
use crate::error::{Context, Failure, report};
use crate::parent::{self, Files};
use crate::proc::Proc;
use crate::{idmap, network, programs};
use host::process::Cloned;
use monitor::{Begun, Ends};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wire::shared::SharedSpec;
use wire::{Event, IdMap, LaunchSpec};

/// What the launcher hands to the process it made.
#[derive(Debug)]
pub struct Job<'a> {
    pub spec: &'a LaunchSpec,
    pub rules: &'a SharedSpec,
    pub proc: Proc,
    pub files: Files,
    /// The container has its own user namespace.
    pub own_users: bool,
    /// How its ids map to the host's.
    pub ids: IdMap,
    pub doors: Doors,
    /// A byte comes when ids and limits are set; the end of file if the launcher gave up.
    pub release: OwnedFd,
    /// What [`Doors::enter`] says, then the reason of a failure. Closed by exec.
    pub status: OwnedFd,
    /// To the monitor: the listener, if there are rows for it.
    pub monitor: OwnedFd,
}

/// Launches the container, and stays as its monitor until it has ended.
pub fn launch(spec: &LaunchSpec, rules: &SharedSpec, text: &str, started_ns: u64) -> Result<(), Failure> {
    seal(text)?;
    if rules.enter {
        return enter::launch(spec, rules, started_ns);
    }
    // Hooks of the operator's may stay: nothing that the launcher was given may stay with them.
    host::process::close_on_exec_from(3).context("close_range")?;
    let caller = rustix::process::getppid();
    let proc = Proc::open()?;
    let maps = idmap::maps(&proc, None)?;
    let own_users = rules.user_namespace || maps.kind == IdMap::Single;
    let files = parent::open_files(spec)?;
    let mut cgroups = match &spec.cgroups {
        Some(given) => Cgroups::given(given),
        None => Cgroups::create(&proc, &spec.id, &spec.limits, 0)?,
    };
    let for_programs = (!rules.programs.is_empty()).then(|| cgroups.for_programs(&proc, &spec.id)).transpose()?;
    let (release, releasing) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    let (status, reporting) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    let (ours, theirs) = host::stub::socketpair().context("making the monitor's socket")?;
    // The cgroup namespace is made by the child, once it is in the group that is to be the namespace's root.
    let mut namespaces = network::namespaces(spec, &proc)? & !abi::c::CLONE_NEWCGROUP | abi::c::CLONE_PARENT;
    if !own_users {
        namespaces &= !abi::c::CLONE_NEWUSER;
    }
    if let Some(oci) = &rules.oci {
        namespaces &= !oci::joined(oci)?;
    }
    let mut doors = cgroups.doors()?;
    // SAFETY: the launcher has one thread from start to end.
    match unsafe { doors.clone_process(namespaces) }.map_err(parent::no_namespaces)? {
        Cloned::Child => {
            host::process::reset_signals();
            drop((releasing, status, ours));
            let ids = maps.kind;
            let status = reporting;
            child::main(Job { spec, rules, proc, files, own_users, ids, doors, release, status, monitor: theirs })
        }
        Cloned::Parent { pid, pidfd } => {
            drop((release, reporting, theirs));
            // It opens them before it is in a group, or behind a program, where it could not.
            let log = if rules.kernel_log.is_some() { kmsg::receive(&ours) } else { vec![] };
            report(spec.events_fd, &Event::Launched { pid, cgroups: cgroups.paths() });
            let number = proc.number_of(pidfd.as_fd())?;
            let ids = if own_users { idmap::write(&proc, number, &maps) } else { Ok(()) };
            let go = ids
                .and_then(|()| cgroup::entered(&status))
                .and_then(|()| for_programs.map_or(Ok(()), |group| programs::put(&group, &rules.programs)))
                .and_then(|()| network::wait(spec))
                .and_then(|()| {
                    rustix::io::write(&releasing, &[1]).context("releasing the container's first process").map(drop)
                })
                .and_then(|()| parent::caller_is_there(caller));
            drop((releasing, files));
            let ends = Ends { socket: ours, status, log };
            let begun = go.and_then(|()| monitor::Monitor::begin(spec, rules, number, &pidfd, ends, started_ns));
            match begun {
                Ok(Begun::Running(monitor)) => match monitor.serve()? {
                    Some(caller) => cgroups.watch(caller.as_fd(), pidfd.as_fd()),
                    None => cgroups.keep(),
                },
                Ok(Begun::Failed(status, message)) => {
                    parent::end(pidfd.as_fd());
                    report(spec.events_fd, &Event::Failed { status, message });
                }
                Err(failure) => {
                    parent::end(pidfd.as_fd());
                    return Err(failure);
                }
            }
            Ok(())
        }
    }
}

/// Goes on as a copy of this executable that nobody can change. The container could otherwise open it for writing by
/// /proc/PID/exe of a process that is about to execute the container's program, and so change what root runs next.
fn seal(text: &str) -> Result<(), Failure> {
    let own = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("opening the launcher's executable")?;
    if rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(());
    }
    let memory = |name, flags| rustix::fs::memfd_create(name, flags).context("memfd_create");
    let sealable = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let copy = memory("rvisor-launch", sealable | MemfdFlags::EXEC).or_else(|_| memory("rvisor-launch", sealable))?;
    let mut left = rustix::fs::fstat(&own).context("stat")?.st_size as usize;
    while left > 0 {
        match rustix::fs::sendfile(&copy, &own, None, left).context("copying the launcher")? {
            0 => return Err(Failure::new("copying the launcher: it is shorter than it was")),
            n => left -= n,
        }
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).context("sealing the launcher's copy")?;
    let spec = memory("spec", MemfdFlags::empty())?;
    host::process::write_all(spec.as_raw_fd(), text.as_bytes()).context("writing the specification")?;
    let path = CString::new(format!("/proc/self/fd/{}", spec.as_raw_fd())).context("descriptor")?;
    let e = host::process::exec(copy.as_fd(), &[c"rvisor-launch", &path], &[]);
    Err(Failure::new(format!("executing the launcher's copy: {e}")))
}
