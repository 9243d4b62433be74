//! What an OCI runtime's configuration says of namespaces, mounts and devices, where the launcher's own container has its
//! fixed ones.
use super::{Job, root};
use crate::error::{Context, Failure};
use host::mount::MountAttrFlags as Attr;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::LinkNameSpaceType as Kind;
use std::os::fd::{AsFd, OwnedFd};
use wire::shared::{Device, Oci};
use wire::{FileSystem, LaunchSpec, Volume};

/// Enters those that are there already; the flags of all that are not to be made.
pub fn joined(oci: &Oci) -> Result<i32, Failure> {
    let kinds = [
        ("pid", abi::c::CLONE_NEWPID, Kind::ProcessID),
        ("ipc", abi::c::CLONE_NEWIPC, Kind::InterProcessCommunication),
        ("uts", abi::c::CLONE_NEWUTS, Kind::HostNameAndNISDomainName),
    ];
    let mut flags = 0;
    for (name, flag, kind) in kinds {
        match oci.namespaces.get(name) {
            Some(None) => continue,
            Some(Some(path)) => {
                let doing = format!("entering the {name} namespace {path}");
                let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(&doing)?;
                rustix::thread::move_into_link_name_space(fd.as_fd(), Some(kind)).context(&doing)?;
            }
            None => {}
        }
        flags |= flag;
    }
    Ok(flags)
}

/// What does not come through the mount of a volume.
pub fn attributes(volume: &Volume, no_devices: bool) -> Attr {
    let mut attributes = Attr::empty();
    attributes.set(Attr::MOUNT_ATTR_RDONLY, volume.read_only);
    attributes.set(Attr::MOUNT_ATTR_NOEXEC, volume.no_exec);
    attributes.set(Attr::MOUNT_ATTR_NOSUID, volume.no_suid);
    attributes.set(Attr::MOUNT_ATTR_NODEV, volume.no_dev || no_devices);
    attributes
}

/// Mounts all volumes in their order, and makes the devices. The /proc that comes first is mounted while the host's can still
/// be seen, as who is root in a user namespace needs; `leave` takes that away before a path of the image's is followed.
pub fn mounts(
    job: &Job<'_>,
    oci: &Oci,
    volumes: Vec<Option<OwnedFd>>,
    own: &[(&str, OwnedFd)],
    leave: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut list = job.spec.volumes.iter().zip(volumes).peekable();
    if let Some((volume, _)) = list.next_if(|(v, _)| v.target == "/proc" && v.file_system.is_some()) {
        new(job, volume)?;
    }
    leave()?;
    for (volume, tree) in list {
        match (&volume.file_system, tree) {
            (Some(_), _) => new(job, volume)?,
            (None, tree) => root::place(volume, tree)?,
        }
    }
    if own_dev(job.spec) {
        devices(oci, own)?;
    }
    Ok(())
}

/// Its /dev is made for it.
pub fn own_dev(spec: &LaunchSpec) -> bool {
    spec.volumes.iter().any(|v| v.target == "/dev" && v.file_system.is_some())
}

fn new(job: &Job<'_>, volume: &Volume) -> Result<(), Failure> {
    let Some(FileSystem { kind, options }) = &volume.file_system else { return Ok(()) };
    let target = &volume.target;
    let at = match kind.as_str() {
        // A link of the image's would lead what these show elsewhere.
        "proc" | "sysfs" => root::directory(target)?,
        _ => {
            root::make_directories(target)?;
            root::target_of(target)?
        }
    };
    let attributes = attributes(volume, false);
    if kind == "cgroup" {
        return root::cgroups(&job.proc.read("self/cgroup")?, target, volume.read_only);
    }
    let options: Vec<_> = options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mounted = root::mount(kind, &options, attributes, &at, target);
    match (kind.as_str(), mounted) {
        // Who is root in a user namespace only may show /sys of its own network alone.
        ("sysfs", Err(_)) if job.own_users => Ok(()),
        (_, mounted) => mounted,
    }
}

/// `own`: the host's, of who may not make any.
fn devices(oci: &Oci, own: &[(&str, OwnedFd)]) -> Result<(), Failure> {
    if own.is_empty() {
        let usual = root::DEVICES.map(|(name, major, minor)| Device {
            path: format!("/dev/{name}"),
            kind: 'c',
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
        usual.iter().chain(&oci.devices).try_for_each(device)?;
    }
    root::links(own)
}

fn device(device: &Device) -> Result<(), Failure> {
    let (path, mode) = (&device.path, Mode::from_raw_mode(device.mode));
    let kind = match device.kind {
        'c' | 'u' => FileType::CharacterDevice,
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        other => return Err(Failure::new(format!("device {path}: {other:?} is no kind of device"))),
    };
    root::make_directories(root::parent(path))?;
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(CWD, path, kind, mode, number) {
        Ok(()) => {}
        // Named twice, or in the image.
        Err(rustix::io::Errno::EXIST) if same(path, kind, number) => return Ok(()),
        made => made.context(&format!("device {path}"))?,
    }
    rustix::fs::chmod(path, mode).context(path)?;
    rustix::fs::chown(path, Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid))).context(path)
}

fn same(path: &str, kind: FileType, number: u64) -> bool {
    rustix::fs::lstat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == kind && s.st_rdev == number)
}
