//! The sandbox's first process: root in its own user namespace, pid 1 in its own pid namespace. It empties
//! its root, starts the stubs' init below itself, gives up its rights and becomes the sentry.
use crate::cgroup::Doors;
use crate::error::{Context, Failure};
use crate::idmap::{self, Maps};
use crate::member;
use crate::network;
use crate::parent::{HostPath, Inputs, file_type};
use crate::proc::Proc;
use crate::shown;
use crate::stub_init;
use host::caps::CapabilitySet;
use host::mount::MountAttrFlags as Attr;
use rustix::fs::{MemfdFlags, Mode, OFlags, SeekFrom};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Resource, Rlimit, Signal};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use wire::{LaunchSpec, Mount, MountKind, Overlay, SentrySpec, Volume};

/// The rights the sentry keeps, all within its own user namespace and none outside: over files whose
/// owners are mapped there, that is the ones it serves.
///
/// - CHOWN: the guest's root gives files away.
/// - DAC_OVERRIDE: the container's users own files; the sentry checks their permissions itself.
/// - FOWNER: chmod, utimensat and sticky directories on files of any container user.
/// - FSETID: a file keeps its set-id bits when the sentry writes or changes it for another user.
///
/// Reading a stub's memory needs none: the user who made a user namespace has every right in it.
pub const SENTRY_CAPS: CapabilitySet =
    CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER).union(CapabilitySet::FSETID);

/// The usual stack: with an unlimited one the host lays out address spaces in another way.
const STACK: u64 = 8 << 20;

/// What the launcher hands to the process it made.
#[derive(Debug)]
pub struct Job<'a> {
    pub spec: &'a LaunchSpec,
    pub proc: Proc,
    pub maps: Maps,
    pub inputs: Inputs,
    pub started_ns: u64,
    pub doors: Doors,
    /// A byte comes when ids and limits are set; the end of file if the launcher gave up.
    pub release: OwnedFd,
    /// What [`Doors::enter`] says, then the reason of a failure. Closed by exec.
    pub status: OwnedFd,
}

/// Runs the new process. Returns by exec only.
pub fn main(job: Job<'_>) -> ! {
    let Err(failure) = run(&job);
    let _ = rustix::io::write(&job.status, failure.to_string().as_bytes());
    std::process::exit(crate::FAILED.into())
}

fn run(job: &Job<'_>) -> Result<std::convert::Infallible, Failure> {
    job.doors.enter(&job.status);
    // Should the parent die before, the wait fails.
    wait_for(&job.release)?;
    idmap::take_on(&job.maps)?;
    // After a change of user, which clears it.
    if !job.spec.detached {
        die_with_parent()?;
    }
    new_session(job.spec)?;
    set_limits()?;
    network::set_up(job.spec, &job.proc)?;
    let mounts = collect_mounts(job)?;
    let shown = shown::collect(job)?;
    let memory = host::mount::memory_store().context("making a file system in memory (fsmount, Linux 5.2)")?;
    empty_root()?;
    if let Some(sandbox) = job.spec.join_fd {
        shown.show();
        return member::run(job, &mounts, sandbox);
    }
    let (own, theirs) = host::stub::socketpair().context("making the socket to the stubs' init")?;
    let init_pid = stub_init::start(job, theirs)?;
    // Not before: the stubs' mount namespace is a copy of this one.
    shown.show();
    raise_file_limit();
    // Files get exactly the modes the guest's own umask leaves.
    rustix::process::umask(Mode::empty());
    give_up_rights()?;
    become_sentry(job, mounts, memory, own, init_pid)
}

/// The caller's end is the sandbox's end, however it comes. For a child made with CLONE_PARENT the parent
/// is the caller's thread that started the launcher.
pub fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")
}

/// Waits until the parent has written the id maps: before that this process is nobody.
pub fn wait_for(release: &OwnedFd) -> Result<(), Failure> {
    match rustix::io::retry_on_intr(|| rustix::io::read(release, &mut [0u8])).context("waiting for the parent")? {
        1 => Ok(()),
        _ => Err(Failure::new("the parent gave up")),
    }
}

/// No controlling terminal: a Ctrl-C at the operator's terminal is for the operator's program and for
/// the guest's terminal, never for a stub. A sandbox that has no caller to tell it of the size of its terminal, and
/// of its end, hears of them from the host: the terminal is raw, so that no key means a signal.
fn new_session(spec: &LaunchSpec) -> Result<(), Failure> {
    rustix::process::setsid().context("setsid")?;
    if spec.detached && spec.process.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).context("taking the terminal")?;
    }
    Ok(())
}

/// A core file would hold guest memory, written by the host's own core handler. The stack limit decides
/// the layout of address spaces.
fn set_limits() -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("RLIMIT_CORE")?;
    let old = rustix::process::getrlimit(Resource::Stack);
    let current = old.maximum.map_or(STACK, |m| m.min(STACK));
    let stack = Rlimit { current: Some(current), maximum: old.maximum };
    rustix::process::setrlimit(Resource::Stack, stack).context("RLIMIT_STACK")
}

/// A sentry serves many guest descriptors: as many as the host lets it have.
fn raise_file_limit() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    // Raising to the hard limit is always allowed; a refusal would leave the old limit, which also works.
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Turns the host paths into private mount trees: nothing mounted on the host later shows up in them, no
/// device opens through them, and what must not be written is read-only for the host's kernel.
fn collect_mounts(job: &Job<'_>) -> Result<Mounts, Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("making mounts private (the host may restrict user namespaces: see rvisor doctor)")?;
    let mut mounts = Mounts::default();
    let root = mounts.keep(&job.inputs.files.root)?;
    let upper = job.inputs.files.upper.as_ref().map(|u| mounts.keep(u)).transpose()?;
    let kind = match job.spec.root.overlay {
        Overlay::None => MountKind::Host { fd: root, dir: true, read_only: false, exclusive: false },
        Overlay::Memory | Overlay::Dir(_) => MountKind::Overlay { lower_fd: root, upper_fd: upper },
    };
    mounts.at("/", kind);
    mounts.list[0].propagation = job.spec.root.propagation;
    mounts.at("/proc", MountKind::Proc);
    mounts.at("/dev", MountKind::Dev);
    mounts.at("/dev/pts", MountKind::Devpts);
    let given = |target: &str| job.spec.volumes.iter().any(|v| v.target == target);
    if !given("/dev/shm") {
        mounts.at("/dev/shm", MountKind::Tmpfs { size: None, mode: Some(0o1777), read_only: false });
    }
    // The order is that of what people write, so the caller's own /dev/shm comes where ours would be.
    let (shm, others): (Vec<_>, Vec<_>) =
        job.spec.volumes.iter().zip(&job.inputs.files.volumes).partition(|(v, _)| v.target == "/dev/shm");
    for (volume, opened) in shm {
        mounts.volume(volume, opened)?;
    }
    mounts.at("/dev/mqueue", MountKind::Mqueue);
    if !job.spec.volumes.iter().any(|v| v.target.starts_with("/sys") && v.target != "/sys/fs/cgroup") {
        mounts.at("/sys", MountKind::Sysfs);
    }
    for file in &job.spec.files {
        mounts.at(&file.target, MountKind::Text { text: file.text.clone() });
    }
    for (volume, opened) in others {
        mounts.volume(volume, opened)?;
    }
    for device in &job.spec.devices {
        mounts.at(&device.path, MountKind::Node { device: device.clone() });
    }
    for path in &job.spec.read_only {
        mounts.at(path, MountKind::ReadOnly);
    }
    for path in &job.spec.masked {
        mounts.at(path, MountKind::Mask);
    }
    Ok(mounts)
}

/// The sentry's mounts, and the descriptors that they name.
#[derive(Debug, Default)]
pub struct Mounts {
    pub list: Vec<Mount>,
    pub trees: Vec<OwnedFd>,
}

impl Mounts {
    fn keep(&mut self, path: &HostPath) -> Result<RawFd, Failure> {
        let mut tree = tree(path)?;
        if file_type(&tree)?.is_file() {
            tree = for_use(&tree, path)?;
        }
        let number = tree.as_raw_fd();
        self.trees.push(tree);
        Ok(number)
    }

    fn at(&mut self, target: &str, kind: MountKind) {
        let target = target.into();
        let propagation = wire::Propagation::Private;
        self.list.push(Mount { target, no_exec: false, no_suid: false, no_dev: false, name: None, propagation, kind });
    }

    fn volume(&mut self, volume: &Volume, opened: &Option<HostPath>) -> Result<(), Failure> {
        let &Volume { read_only, size, mode, no_exec, no_suid, no_dev, propagation, .. } = volume;
        let kind = match opened {
            Some(opened) if volume.copy_up => MountKind::Overlay { lower_fd: self.keep(opened)?, upper_fd: None },
            Some(opened) => {
                let dir = file_type(&opened.fd)?.is_dir();
                MountKind::Host { fd: self.keep(opened)?, dir, read_only, exclusive: false }
            }
            None => MountKind::Tmpfs { size, mode, read_only },
        };
        let (target, name) = (volume.target.clone(), volume.name.clone());
        self.list.push(Mount { target, no_exec, no_suid, no_dev, name, propagation, kind });
        Ok(())
    }
}

/// A private copy of the mounts there, without set-ids and devices; the path must still mean the same.
pub fn tree(from: &HostPath) -> Result<OwnedFd, Failure> {
    tree_with(from, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV)
}

/// As [`tree`], without what `attributes` say.
pub fn tree_with(from: &HostPath, mut attributes: Attr) -> Result<OwnedFd, Failure> {
    attributes.set(Attr::MOUNT_ATTR_RDONLY, from.read_only);
    let path = CString::new(from.path.as_str()).context("path")?;
    let tree = host::mount::clone_tree(&path, attributes)
        .context(&format!("preparing {} (open_tree and mount_setattr, Linux 5.12)", from.path))?;
    same(&tree, from)?;
    Ok(tree)
}

/// Whether the path, opened again, still leads to what the operator named.
pub fn same(now: &OwnedFd, then: &HostPath) -> Result<(), Failure> {
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|s| (s.st_dev, s.st_ino)).context(&then.path);
    if identity(now)? == identity(&then.fd)? {
        return Ok(());
    }
    Err(Failure::new(format!("{}: replaced by another file while launching", then.path)))
}

/// A single file has no directory for the sentry to open it in again: it is given open.
fn for_use(tree: &OwnedFd, from: &HostPath) -> Result<OwnedFd, Failure> {
    let name = format!("/proc/self/fd/{}", tree.as_raw_fd());
    let open = |how: OFlags| rustix::fs::open(&name, how | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
    match open(if from.read_only { OFlags::RDONLY } else { OFlags::RDWR }) {
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS) => open(OFlags::RDONLY),
        r => r,
    }
    .context(&from.path)
}

/// An empty, read-only root: whatever the sentry or a stub is made to do, there is no path to open.
fn empty_root() -> Result<(), Failure> {
    // Any directory will do to stand on; this one exists, since ids are mapped through it.
    let stand = "/proc";
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", stand, "tmpfs", flags, c"size=4096,nr_inodes=1,mode=0555").context("mounting the empty root")?;
    rustix::process::chdir(stand).context("entering the empty root")?;
    // The old root comes to lie on top of the new one, and is taken away with all its mounts.
    rustix::process::pivot_root(".", ".").context("pivot_root (not possible from an initramfs or a chroot)")?;
    unmount(".", UnmountFlags::DETACH).context("detaching the host's root")?;
    rustix::process::chdir("/").context("entering the empty root")
}

/// From here on exec gives nothing back.
fn give_up_rights() -> Result<(), Failure> {
    host::caps::restrict(SENTRY_CAPS).context("giving up capabilities")?;
    rustix::thread::set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")
}

fn become_sentry(
    job: &Job<'_>,
    mounts: Mounts,
    memory: OwnedFd,
    init: OwnedFd,
    init_pid: i32,
) -> Result<std::convert::Infallible, Failure> {
    let spec = job.spec;
    let sentry = SentrySpec {
        id: spec.id.clone(),
        process: spec.process.clone(),
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        limits: spec.limits.clone(),
        platform: spec.platform,
        network_rules: spec.network_rules.clone(),
        mounts: mounts.list,
        root_read_only: spec.root.read_only,
        memory_fd: memory.as_raw_fd(),
        ids: job.maps.kind,
        id_ranges: spec.ids.clone(),
        init_fd: init.as_raw_fd(),
        init_pid,
        strace_fd: spec.strace_fd,
        log_fd: spec.log_fd,
        events_fd: spec.events_fd,
        control_fd: spec.control_fd,
        hold: spec.hold,
        guarded_init: spec.guarded_init,
        sysctls: spec.sysctls.clone(),
        millicpus: millicpus(spec.limits.millicpus),
        max_map_count: max_map_count(&job.proc),
        started_ns: job.started_ns,
    };
    let text = memory_file(&serde_json::to_vec(&sentry).context("writing the sentry's specification")?)?;

    // Exactly what is named below goes on: the three standard descriptors and these.
    host::process::close_on_exec_from(3).context("close_range")?;
    let inherited = [Some(spec.events_fd), spec.strace_fd, spec.log_fd, spec.control_fd].into_iter().flatten();
    let trees = mounts.trees.iter().map(AsRawFd::as_raw_fd);
    for fd in inherited.chain(trees).chain([text.as_raw_fd(), init.as_raw_fd(), memory.as_raw_fd()]) {
        host::process::keep_on_exec(fd).context(&format!("keeping descriptor {fd}"))?;
    }
    let number = CString::new(text.as_raw_fd().to_string()).context("descriptor")?;
    let e = host::process::exec(job.inputs.sentry.as_fd(), &[c"rvisor-sentry", &number], &[]);
    Err(Failure::new(format!("executing the sentry {}: {e}", spec.sentry)))
}

/// The host's, or Linux's own where it is not told.
fn max_map_count(proc: &Proc) -> usize {
    let text = proc.read("sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(65_530)
}

/// CPUs that may be used at once, in thousandths: by affinity and by quota.
fn millicpus(quota: Option<u64>) -> u64 {
    let affinity = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    (u64::from(affinity) * 1000).min(quota.unwrap_or(u64::MAX))
}

/// An anonymous file with these bytes, to be read from its beginning.
fn memory_file(bytes: &[u8]) -> Result<OwnedFd, Failure> {
    let fd = rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC).context("memfd_create")?;
    host::process::write_all(fd.as_raw_fd(), bytes).context("writing the sentry's specification")?;
    rustix::fs::seek(&fd, SeekFrom::Start(0)).context("writing the sentry's specification")?;
    Ok(fd)
}
