//! The container's root: what is mounted where, hidden, or not to be written.
use super::{Job, hooks, kmsg, oci};
use crate::error::{Context, Failure};
use crate::first::{same, tree_with};
use crate::parent::HostPath;
use host::mount::MountAttrFlags as Attr;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wire::shared::SysctlView;
use wire::{Overlay, Volume};

/// A directory to build on; the first that is there.
const STANDS: [&str; 4] = ["/mnt", "/srv", "/tmp", "/sys"];
/// Character devices of every container: name, major, minor.
pub const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// EINVAL: what lies below the mounts of the host's would come to light.
const OF_OWN_USERS: &str = ": in a user namespace no directory with mounts below it, as / is, can be the root's lower layer: name another by --rootfs";

pub const PLAIN: Attr = Attr::MOUNT_ATTR_NOSUID.union(Attr::MOUNT_ATTR_NODEV).union(Attr::MOUNT_ATTR_NOEXEC);
/// What an operator's own directories do not bring in.
const OF_HOST: Attr = Attr::MOUNT_ATTR_NOSUID.union(Attr::MOUNT_ATTR_NODEV);
const READ_ONLY: Attr = Attr::MOUNT_ATTR_RDONLY;
const NO_EXEC: Attr = Attr::MOUNT_ATTR_NOEXEC;

/// Makes the root and goes there. Afterwards no path leads to the host's files.
/// `log`: what the files of its own kernel log are made of.
pub fn enter(job: &Job<'_>, log: Vec<OwnedFd>) -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("making mounts private")?;
    let oci = job.rules.oci.as_deref();
    let volumes = job.spec.volumes.iter().zip(&job.files.volumes).map(|(volume, opened)| {
        let attributes = oci.map_or(OF_HOST, |oci| oci::attributes(volume, oci.no_devices));
        opened.as_ref().map(|opened| tree_with(opened, attributes)).transpose()
    });
    let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    let devices = own_devices(job)?;
    let terminal = terminal(job)?;
    let stand = STANDS.into_iter().find(|s| std::path::Path::new(s).is_dir());
    let stand = stand.ok_or_else(|| Failure::new(format!("the host has none of {STANDS:?} to build the root on")))?;
    let root = assemble(job, stand)?;
    // While the place they are made in is still mounted: of what is not, nothing can be mounted again.
    let file =
        |number: usize, text: &str, mode, attributes| file_in(&format!("{stand}/{number}"), text, mode, attributes);
    let texts = job.spec.files.iter().enumerate().map(|(i, f)| file(i, &f.text, 0o644, PLAIN));
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    let views = views_of(job).enumerate().map(|(i, v)| {
        let (mode, more) = if v.writable { (0o644, Attr::empty()) } else { (0o444, READ_ONLY) };
        file(texts.len() + i, &format!("{}\n", v.value), mode, PLAIN | more)
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    if let Some(oci) = oci {
        hooks::run(&oci.create_container, "createContainer", &oci.state, &job.proc)?;
    }
    rustix::process::chdir(&root).context("entering the new root")?;
    // The old root comes to lie on top of the new one. It is taken away last: a /proc may be mounted by who is root in
    // a user namespace only as long as there is another to be seen.
    rustix::process::pivot_root(".", ".").context("pivot_root (not possible from an initramfs or a chroot)")?;
    let leave = || {
        unmount(".", UnmountFlags::DETACH).context("leaving the old root")?;
        rustix::process::chdir("/").context("entering the new root")
    };
    let volumes = match oci {
        Some(oci) => {
            oci::mounts(job, oci, volumes, &devices, leave)?;
            vec![]
        }
        None => {
            system(job)?;
            dev(&devices, terminal)?;
            leave()?;
            volumes
        }
    };
    for (file, (_, tree)) in job.spec.files.iter().zip(&texts) {
        // Left out where there is no place for it.
        if let Ok(at) = target_of(&file.target) {
            host::mount::attach(tree.as_fd(), at.as_fd()).context(&file.target)?;
        }
    }
    for (volume, tree) in job.spec.volumes.iter().zip(volumes) {
        place(volume, tree)?;
    }
    let settings = own_settings(job)?;
    for path in &job.spec.read_only {
        read_only(path)?;
    }
    for (path, tree) in &settings {
        attach(tree, path)?;
    }
    for (view, (file, tree)) in views_of(job).zip(&views) {
        // What is written there changes what is read there, and nothing else.
        attach(tree, &format!("/proc/sys/{}", view.name)).map_err(|f| Failure::new(format!("sysctl view: {f}")))?;
        let message = format!("v{}", view.name);
        host::stub::send_fds(job.monitor.as_fd(), message.as_bytes(), &[file.as_fd()]).context("passing a view on")?;
    }
    for path in &job.spec.masked {
        mask(path)?;
    }
    kmsg::mount(&log, oci.is_none_or(|_| oci::own_dev(job.spec)), &job.monitor)?;
    if job.spec.root.read_only {
        host::mount::restrict(open("/", OFlags::PATH)?.as_fd(), READ_ONLY).context("making the root read-only")?;
    }
    Ok(())
}

fn views_of<'a>(job: &'a Job<'_>) -> impl Iterator<Item = &'a SysctlView> {
    job.rules.sysctl_views.iter().filter(|view| !view.own)
}

/// Sets what belongs to the container's namespaces. Those it may write are kept apart from a /proc/sys that is read-only;
/// what is written there, a program looks at.
fn own_settings(job: &Job<'_>) -> Result<Vec<(String, OwnedFd)>, Failure> {
    let set = |view: &SysctlView| {
        let path = format!("/proc/sys/{}", view.name);
        let at = open(&path, OFlags::PATH)?;
        std::fs::write(&path, &view.value).context(&format!("setting {path} to {}", view.value))?;
        Ok((path.clone(), host::mount::clone_file(at.as_fd(), PLAIN).context(&path)?))
    };
    job.rules.sysctl_views.iter().filter(|view| view.own).map(set).collect()
}

/// The root's own mount, not yet at its place.
fn assemble(job: &Job<'_>, stand: &str) -> Result<String, Failure> {
    let lower = again(&job.files.root)?;
    let upper_of_host = job.files.upper.as_ref().map(again).transpose()?;
    let of_root = match job.rules.oci.as_deref() {
        None => OF_HOST,
        Some(oci) if oci.no_devices => Attr::MOUNT_ATTR_NODEV,
        Some(_) => Attr::empty(),
    };
    let whole = (job.spec.root.overlay == Overlay::None).then(|| tree_with(&job.files.root, of_root)).transpose()?;
    let memory = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV;
    mount("tmpfs", &[("mode", "0755")], memory, &open(stand, OFlags::PATH)?, stand)?;
    let root = format!("{stand}/root");
    make_directory(&root)?;
    if let Some(tree) = whole {
        attach(&tree, &root)?;
        return Ok(root);
    }
    let lower = format!("/proc/self/fd/{}", lower.as_raw_fd());
    let above = upper_of_host.as_ref().map_or(stand.into(), |u| format!("/proc/self/fd/{}", u.as_raw_fd()));
    let (upper, work) = (format!("{above}/upper"), format!("{above}/work"));
    make_directory(&upper)?;
    make_directory(&work)?;
    // As a layer in memory is gone with the container, nothing need be written safely.
    let mut options = vec![("lowerdir", lower.as_str()), ("upperdir", upper.as_str()), ("workdir", work.as_str())];
    if job.files.upper.is_none() {
        options.push(("volatile", ""));
    }
    if job.own_users {
        options.push(("userxattr", ""));
    }
    mount("overlay", &options, Attr::empty(), &open(&root, OFlags::PATH)?, "a writable layer over the root").map_err(
        |failure| {
            let hint = if job.own_users { OF_OWN_USERS } else { "" };
            Failure::new(format!("{failure}{hint}"))
        },
    )?;
    Ok(root)
}

/// The same directory, by its mount in this process's own mount namespace: an overlay takes no other.
fn again(host: &HostPath) -> Result<OwnedFd, Failure> {
    let fd = open(&host.path, OFlags::PATH | OFlags::DIRECTORY)?;
    same(&fd, host)?;
    Ok(fd)
}

/// /proc and /sys. An image could have links in their places: those are refused.
fn system(job: &Job<'_>) -> Result<(), Failure> {
    mount("proc", &[], PLAIN, &directory("/proc")?, "/proc")?;
    if let Err(failure) = mount("sysfs", &[], PLAIN | READ_ONLY, &directory("/sys")?, "/sys") {
        // Who is root in a user namespace only may show /sys of its own network alone.
        return if job.own_users { Ok(()) } else { Err(failure) };
    }
    cgroups(&job.proc.read("self/cgroup")?, "/sys/fs/cgroup", true)
}

/// The container's own groups: version 2, or the hierarchies of version 1.
pub fn cgroups(own: &str, place: &str, read_only: bool) -> Result<(), Failure> {
    let Ok(at) = open(place, OFlags::PATH) else { return Ok(()) };
    let mut attributes = PLAIN;
    attributes.set(READ_ONLY, read_only);
    let controllers = |line: &str| line.split(':').nth(1).unwrap_or("").to_string();
    let lists: Vec<String> = own.lines().map(controllers).filter(|c| !c.is_empty()).collect();
    if lists.is_empty() {
        // Absent in some kernels: then there is nothing to be seen.
        let _ = mount("cgroup2", &[], attributes, &at, place);
        return Ok(());
    }
    mount("tmpfs", &[("mode", "0755"), ("size", "64k")], PLAIN, &at, place)?;
    for list in lists {
        let path = format!("{place}/{}", list.trim_start_matches("name="));
        make_directory(&path)?;
        let one = |c: &str| c.split_once('=').map_or((c.to_string(), String::new()), |(k, v)| (k.into(), v.into()));
        let named: Vec<(String, String)> = list
            .split(',')
            .map(one)
            .chain(list.starts_with("name=").then(|| ("none".to_string(), String::new())))
            .collect();
        let options: Vec<(&str, &str)> = named.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        // One that is there for nobody to mount any more is left out.
        let _ = mount("cgroup", &options, attributes, &open(&path, OFlags::PATH)?, &path);
    }
    host::mount::restrict(open(place, OFlags::PATH)?.as_fd(), READ_ONLY).context(&format!("making {place} read-only"))
}

/// The devices of who may not make any: the host's own.
fn own_devices(job: &Job<'_>) -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    if !job.own_users {
        return Ok(vec![]);
    }
    let device = |name: &'static str| {
        let fd = open(&format!("/dev/{name}"), OFlags::PATH)?;
        let tree = host::mount::clone_file(fd.as_fd(), NO_EXEC).context(&format!("the device {name}"))?;
        Ok((name, tree))
    };
    DEVICES.iter().map(|d| device(d.0)).collect()
}

/// The terminal, to be /dev/console.
fn terminal(job: &Job<'_>) -> Result<Option<OwnedFd>, Failure> {
    if !job.spec.process.terminal || job.rules.console.is_some() {
        return Ok(None);
    }
    let name = rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new()).context("the terminal's name")?;
    let fd = open(&name.to_string_lossy(), OFlags::PATH)?;
    host::mount::clone_file(fd.as_fd(), NO_EXEC).context("the terminal").map(Some)
}

fn dev(own: &[(&str, OwnedFd)], terminal: Option<OwnedFd>) -> Result<(), Failure> {
    let devices = Attr::MOUNT_ATTR_NOSUID | NO_EXEC;
    mount("tmpfs", &[("mode", "0755"), ("size", "64k")], devices, &directory("/dev")?, "/dev")?;
    if own.is_empty() {
        for (name, major, minor) in DEVICES {
            let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
            let path = format!("/dev/{name}");
            let number = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(CWD, &path, kind, mode, number).context(&path)?;
            rustix::fs::chmod(&path, mode).context(&path)?;
        }
    }
    links(own)?;
    let terminals: &[(&str, &str)] = &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    let list: [(&str, &str, Attr, &[(&str, &str)]); 3] = [
        ("pts", "devpts", devices, terminals),
        ("shm", "tmpfs", PLAIN, &[("mode", "1777")]),
        ("mqueue", "mqueue", PLAIN, &[]),
    ];
    for (name, kind, attributes, options) in list {
        let path = format!("/dev/{name}");
        make_directory(&path)?;
        mount(kind, options, attributes, &open(&path, OFlags::PATH)?, &path)?;
    }
    terminal.map_or(Ok(()), |tree| console(&tree))
}

/// The terminal is /dev/console.
pub fn console(tree: &OwnedFd) -> Result<(), Failure> {
    empty_file("/dev/console")?;
    attach(tree, "/dev/console")
}

/// What /dev has beside nodes of its own: those of the host's, and names for others.
pub fn links(own: &[(&str, OwnedFd)]) -> Result<(), Failure> {
    for (name, tree) in own {
        let path = format!("/dev/{name}");
        empty_file(&path)?;
        attach(tree, &path)?;
    }
    for (name, to) in abi::fs::DEV_LINKS {
        match rustix::fs::symlink(to, format!("/dev/{name}")) {
            Err(rustix::io::Errno::EXIST) => {}
            made => made.context(name)?,
        }
    }
    Ok(())
}

pub fn place(volume: &Volume, tree: Option<OwnedFd>) -> Result<(), Failure> {
    let target = &volume.target;
    let Some(tree) = tree else {
        make_directories(target)?;
        let at = target_of(target)?;
        let mode = format!("{:o}", volume.mode.unwrap_or(0o1777));
        let size = volume.size.map(|s| s.to_string());
        let options: Vec<_> =
            [("mode", mode.as_str())].into_iter().chain(size.as_deref().map(|s| ("size", s))).collect();
        let mut attributes = Attr::empty();
        attributes.set(READ_ONLY, volume.read_only);
        attributes.set(NO_EXEC, volume.no_exec);
        attributes.set(Attr::MOUNT_ATTR_NOSUID, volume.no_suid);
        attributes.set(Attr::MOUNT_ATTR_NODEV, volume.no_dev);
        return mount("tmpfs", &options, attributes, &at, target);
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&tree).context(target)?.st_mode);
    if kind.is_dir() {
        make_directories(target)?;
    } else if !is_there(target) {
        make_directories(parent(target))?;
        empty_file(target)?;
    }
    let at = target_of(target)?;
    host::mount::attach(tree.as_fd(), at.as_fd()).context(&format!("mounting {target}"))
}

/// The place of a mount, which must not be in /proc: a process there could be led to take something else for it.
pub fn target_of(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let at = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).context(path)?;
    if rustix::fs::fstatfs(&at).context(path)?.f_type == PROC_MAGIC {
        return Err(Failure::new(format!("{path}: nothing may be mounted in /proc")));
    }
    Ok(at)
}

pub const PROC_MAGIC: i64 = 0x9fa0;

/// A file, and a mount of it that is attached nowhere.
fn file_in(path: &str, text: &str, mode: u32, attributes: Attr) -> Result<(OwnedFd, OwnedFd), Failure> {
    let mode = Mode::from_raw_mode(mode);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, mode).context(path)?;
    rustix::fs::fchmod(&file, mode).context(path)?;
    host::process::write_all(file.as_raw_fd(), text.as_bytes()).context(path)?;
    let tree = host::mount::clone_file(file.as_fd(), attributes).context(path)?;
    Ok((file, tree))
}

/// A path that cannot be written, with what is mounted below it; left out if it is not there.
pub fn read_only(path: &str) -> Result<(), Failure> {
    let Ok(at) = open(path, OFlags::PATH) else { return Ok(()) };
    let tree = host::mount::clone_file(at.as_fd(), READ_ONLY).context(path)?;
    host::mount::attach(tree.as_fd(), at.as_fd()).context(&format!("making {path} read-only"))
}

/// A path that shows nothing: an empty file or directory. Left out if it is not there.
pub fn mask(path: &str) -> Result<(), Failure> {
    let Ok(at) = open(path, OFlags::PATH) else { return Ok(()) };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&at).context(path)?.st_mode);
    if kind.is_dir() {
        let empty = [("mode", "0755"), ("size", "4096"), ("nr_inodes", "1")];
        return mount("tmpfs", &empty, PLAIN | READ_ONLY, &at, path);
    }
    let null = open("/dev/null", OFlags::PATH)?;
    let tree = host::mount::clone_file(null.as_fd(), NO_EXEC).context("/dev/null")?;
    host::mount::attach(tree.as_fd(), at.as_fd()).context(&format!("masking {path}"))
}

/// A file that nobody can open, whatever capabilities: a device node where no device can be opened. EACCES.
pub fn forbid(path: &str) -> Result<(), Failure> {
    let at = open(path, OFlags::PATH)?;
    let null = open("/dev/null", OFlags::PATH)?;
    let tree = host::mount::clone_file(null.as_fd(), PLAIN | READ_ONLY).context("/dev/null")?;
    host::mount::attach(tree.as_fd(), at.as_fd()).context(&format!("forbidding {path}"))
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).context(path)
}

/// A directory of the root's, made if need be, not a link to one.
pub fn directory(path: &str) -> Result<OwnedFd, Failure> {
    if !is_there(path) {
        make_directory(path)?;
    }
    open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY)
}

/// A new file system over `at`.
pub fn mount(kind: &str, options: &[(&str, &str)], attributes: Attr, at: &OwnedFd, what: &str) -> Result<(), Failure> {
    host::mount::new(kind, options, attributes)
        .and_then(|tree| host::mount::attach(tree.as_fd(), at.as_fd()))
        .context(&format!("mounting {what}"))
}

fn make_directory(path: &str) -> Result<(), Failure> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(Failure::new(format!("making the directory {path}: {e}"))),
    }
}

pub fn make_directories(path: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(path).context(&format!("making the directory {path}"))
}

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(above, _)| if above.is_empty() { "/" } else { above })
}

/// For something to be mounted over.
pub fn empty_file(path: &str) -> Result<(), Failure> {
    open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW).map(drop)
}

pub fn is_there(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// What is at this path, if no part of it is a symbolic link.
pub fn without_links(path: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).ok()
}

fn attach(tree: &OwnedFd, path: &str) -> Result<(), Failure> {
    let at = open(path, OFlags::PATH)?;
    host::mount::attach(tree.as_fd(), at.as_fd()).context(path)
}
