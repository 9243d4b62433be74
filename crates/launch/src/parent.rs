//! The launcher's own side: opens what the sandbox may touch, makes its first process, lets it go.
use crate::cgroup::{self, Cgroups, OWN_TASKS};
use crate::error::{Context, Failure, report};
use crate::first::{self, Job};
use crate::idmap::{self, Maps};
use crate::network;
use crate::proc::Proc;
use host::process::Cloned;
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use wire::{Event, IdMap, LaunchSpec, Overlay};

/// clone(2) flags: every kind of namespace that hides something of the host. (The time namespace only
/// shifts clocks.)
pub const NAMESPACES: i32 = abi::c::CLONE_NEWUSER
    | abi::c::CLONE_NEWPID
    | abi::c::CLONE_NEWNS
    | abi::c::CLONE_NEWNET
    | abi::c::CLONE_NEWIPC
    | abi::c::CLONE_NEWUTS
    | abi::c::CLONE_NEWCGROUP;

/// A host path the sandbox may touch. The descriptor tells later whether the path still means the same.
#[derive(Debug)]
pub struct HostPath {
    pub path: String,
    pub fd: OwnedFd,
    pub read_only: bool,
}

/// Everything of the host that goes into the sandbox.
#[derive(Debug)]
pub struct Inputs {
    pub sentry: OwnedFd,
    pub stub: OwnedFd,
    pub files: Files,
}

/// The host's files and directories that the sandbox sees.
#[derive(Debug)]
pub struct Files {
    pub root: HostPath,
    pub upper: Option<HostPath>,
    /// As in the specification; none for a file system in memory.
    pub volumes: Vec<Option<HostPath>>,
}

/// Launches the sandbox. On failure nothing of it is left, except a dead child for the caller to wait for
/// if `Launched` was reported.
pub fn launch(spec: &LaunchSpec, started_ns: u64) -> Result<(), Failure> {
    let caller = rustix::process::getppid();
    let proc = Proc::open()?;
    let maps = idmap::maps(&proc, spec.ids.as_ref())?;
    let inputs = open_inputs(spec, maps.kind)?;
    let cgroups = match &spec.cgroups {
        Some(given) => Cgroups::given(given),
        None => Cgroups::create(&proc, &spec.id, &spec.limits, OWN_TASKS)?,
    };
    let (release, releasing) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    let (status, reporting) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    let namespaces = network::namespaces(spec, &proc)? | abi::c::CLONE_PARENT;
    let mut doors = cgroups.doors()?;
    // SAFETY: the launcher has one thread from start to end.
    match unsafe { doors.clone_process(namespaces) }.map_err(no_namespaces)? {
        Cloned::Child => {
            // What the caller ignores or blocks is its own affair. The launcher goes on ignoring SIGPIPE: a caller that is
            // gone must not keep it from cleaning up.
            host::process::reset_signals();
            drop((releasing, status));
            first::main(Job { spec, proc, maps, inputs, started_ns, doors, release, status: reporting })
        }
        Cloned::Parent { pid, pidfd } => {
            drop((release, reporting));
            report(spec.events_fd, &Event::Launched { pid, cgroups: cgroups.paths() });
            let go = prepare(&proc, &maps, pidfd.as_fd())
                .and_then(|()| cgroup::entered(&status))
                .and_then(|()| network::wait(spec))
                .and_then(|()| release_and_watch(releasing, status))
                .and_then(|()| caller_is_there(caller));
            match (&go, spec.caller_fd) {
                (Err(_), _) => end(pidfd.as_fd()),
                (Ok(()), Some(caller)) if spec.detached => hand_over(cgroups, caller, &pidfd),
                (Ok(()), Some(caller)) if !cgroups.is_empty() => stay(&cgroups, caller, &pidfd),
                _ => cgroups.keep(),
            }
            go
        }
    }
}

/// Opens by path, once, what the operator named, so that a wrong path is reported before anything is made.
fn open_inputs(spec: &LaunchSpec, ids: IdMap) -> Result<Inputs, Failure> {
    let files = open_files(spec)?;
    let sentry = open_path("sentry", &spec.sentry, OFlags::RDONLY)?;
    let stub = open_path("stub", &spec.stub, OFlags::RDONLY)?;
    // The stubs run as another user than the file's owner.
    let others = Mode::ROTH | Mode::XOTH;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&stub).context("stub")?.st_mode);
    if ids == IdMap::Identity && !mode.contains(others) {
        let path = &spec.stub;
        return Err(Failure::new(format!("stub {path}: must be executable by everyone: chmod 755 {path}")));
    }
    Ok(Inputs { sentry, stub, files })
}

/// What the sandbox sees of the host's files.
pub fn open_files(spec: &LaunchSpec) -> Result<Files, Failure> {
    let directory = OFlags::DIRECTORY;
    let host_path = |what, path: &str, flags, read_only| {
        let fd = open_path(what, path, OFlags::PATH | flags)?;
        Ok::<_, Failure>(HostPath { path: path.into(), fd, read_only })
    };
    let lower_kept = spec.root.overlay != Overlay::None;
    let root = host_path("root directory", &spec.root.path, directory, lower_kept)?;
    let upper = match &spec.root.overlay {
        Overlay::Dir(path) => Some(host_path("overlay directory", path, directory, false)?),
        Overlay::Memory | Overlay::None => None,
    };
    let mut volumes = Vec::new();
    for v in &spec.volumes {
        let Some(path) = &v.source else {
            volumes.push(None);
            continue;
        };
        let volume = host_path("volume source", path, OFlags::empty(), v.read_only || v.copy_up)?;
        let kind = file_type(&volume.fd)?;
        let any = spec.shared.as_ref().is_some_and(|shared| shared.oci.is_some());
        if !(any || kind.is_dir() || kind.is_file() && !v.copy_up) {
            return Err(Failure::new(format!("volume source {path}: neither a directory nor a regular file")));
        }
        volumes.push(Some(volume));
    }
    Ok(Files { root, upper, volumes })
}

pub fn open_path(what: &str, path: &str, flags: OFlags) -> Result<OwnedFd, Failure> {
    open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
        let hint = match e {
            rustix::io::Errno::NOENT => ": it does not exist; create it or correct the path",
            rustix::io::Errno::NOTDIR => ": it is not a directory",
            rustix::io::Errno::ACCESS => ": this user may not reach it; check the modes of the directories above",
            _ => "",
        };
        Failure::new(format!("{what} {path}: {e}{hint}"))
    })
}

pub fn file_type(fd: &OwnedFd) -> Result<rustix::fs::FileType, Failure> {
    let stat = rustix::fs::fstat(fd).context("stat")?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode))
}

pub fn no_namespaces(e: abi::Errno) -> Failure {
    let hint = match e {
        abi::Errno::EPERM => {
            "the host does not let this user make user namespaces: allow them \
             (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), \
             or run as root"
        }
        abi::Errno::ENOSPC => "the limit is reached: raise sysctl user.max_user_namespaces and its siblings",
        abi::Errno::EINVAL => {
            "the host's kernel lacks a namespace, or the launcher is the first process of its pid namespace"
        }
        abi::Errno::EAGAIN => "the limit of processes is reached (ulimit -u, or pids.max of the cgroup)",
        _ => "see rvisor doctor",
    };
    Failure::new(format!("making the sandbox's namespaces: {e}: {hint}"))
}

/// Gives the new process its ids, before it runs anything.
fn prepare(proc: &Proc, maps: &Maps, pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
    idmap::write(proc, proc.number_of(pidfd)?, maps)
}

/// Lets the new process go on and waits until the sentry and the stub's init are running, or a report of
/// why they are not: the pipe ends when both have called exec.
fn release_and_watch(releasing: OwnedFd, status: OwnedFd) -> Result<(), Failure> {
    rustix::io::write(&releasing, &[1]).context("releasing the sandbox's first process")?;
    drop(releasing);
    let mut message = String::new();
    std::fs::File::from(status).read_to_string(&mut message).context("watching the sandbox start")?;
    if message.is_empty() { Ok(()) } else { Err(Failure::new(message)) }
}

/// The sandbox dies with the caller, by a signal that is set once it runs. A caller that was gone before
/// would not be missed.
pub fn caller_is_there(caller: Option<rustix::process::Pid>) -> Result<(), Failure> {
    if rustix::process::getppid() == caller { Ok(()) } else { Err(Failure::new("the caller has gone away")) }
}

/// Waits until the caller has written down what it needs to find the sandbox again. Without that nobody would end it.
fn hand_over(cgroups: Cgroups, caller: RawFd, sandbox: &OwnedFd) {
    let caller = host::process::take(caller);
    // Held open, the sandbox's output and its events would never end for those who read them.
    // SAFETY: this process only waits for the two, ends the sandbox or lets it be, removes directories and exits.
    let closed = unsafe { host::process::close_all_but(&[caller.as_fd(), sandbox.as_fd()]) };
    let mut either = [
        rustix::event::PollFd::new(&caller, rustix::event::PollFlags::IN),
        rustix::event::PollFd::new(sandbox, rustix::event::PollFlags::IN),
    ];
    let told = closed.is_ok() && rustix::io::retry_on_intr(|| rustix::event::poll(&mut either, None)).is_ok();
    let kept = told
        && !either[0].revents().is_empty()
        && matches!(rustix::io::retry_on_intr(|| rustix::io::read(&caller, &mut [0u8])), Ok(1));
    if kept { cgroups.keep() } else { end(sandbox.as_fd()) }
}

/// The caller may be killed at any time, and then cannot remove the cgroups: someone has to be left who can.
fn stay(cgroups: &Cgroups, caller: RawFd, sandbox: &OwnedFd) -> ! {
    let caller = host::process::take(caller);
    // Held open, the sandbox's output would never end for those who read it.
    // SAFETY: this process only waits for the two, removes directories and exits.
    let closed = unsafe { host::process::close_all_but(&[caller.as_fd(), sandbox.as_fd()]) };
    if closed.is_ok() {
        cgroups.watch(caller.as_fd(), sandbox.as_fd());
    }
    std::process::exit(0)
}

/// Kills the sandbox and waits for its end, after which its cgroups can be removed.
pub fn end(pidfd: BorrowedFd<'_>) {
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    let mut ended = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let _ = rustix::event::poll(&mut ended, None);
}
