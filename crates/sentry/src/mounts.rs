//! The mounts of a container, from its specification.
use kernel::cred::Cred;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use task::Kernel;
use vfs::mount::{NO_DEV, NO_EXEC, NO_SUID, READ_ONLY};
use vfs::{FsContext, Inode, MountOptions, MountTable};
use wire::MountKind;

/// Device numbers of our own file systems: major 0, as for Linux's.
pub const FIRST_DEV: u64 = 0x40;
/// Half of the container's memory, as Linux's tmpfs has half of the machine's; and as many files as that is pages.
fn tmpfs(dev: u64, mode: u32, size: Option<u64>, plan: &Plan<'_>) -> Rc<dyn Inode> {
    let machine = host::time::memory().0;
    let limit = size.unwrap_or(plan.memory.unwrap_or(machine).min(machine) / 2) & kernel::mm::PAGE_SIZE_MASK;
    fs::tmp::mount(dev, mode, limit, machine / 2 / abi::PAGE_SIZE)
}

/// What a container has mounted.
pub struct Plan<'a> {
    pub mounts: &'a [wire::Mount],
    pub root_read_only: bool,
    pub process: &'a wire::Process,
    /// Bytes that the sandbox may have.
    pub memory: Option<u64>,
    /// Owners cannot be kept on the host.
    pub single: bool,
    /// The first of as many device numbers as there are mounts.
    pub dev: u64,
}

/// Mounts everything in `table`, which is empty, in the order in which it is listed. `take`: the descriptors that are named.
pub fn mount(
    k: &Rc<Kernel>,
    table: &Rc<MountTable>,
    plan: &Plan<'_>,
    take: &mut dyn FnMut(i32) -> Result<OwnedFd, String>,
    source: &Rc<crate::proc::Source>,
) -> Result<(), String> {
    let single = plan.single;
    for (i, m) in plan.mounts.iter().enumerate() {
        let dev = plan.dev + i as u64;
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
                o.top = m.name.clone().unwrap_or_default();
                fs::host::mount(take(fd)?, read_only, exclusive, single)
            }
            &MountKind::Overlay { lower_fd, upper_fd } => {
                o.kind = "overlay".into();
                o.source = "overlay".into();
                let lower = fs::host::mount(take(lower_fd)?, true, true, single);
                let upper = match upper_fd {
                    Some(fd) => fs::host::mount(take(fd)?, false, true, single),
                    None => tmpfs(dev, 0o755, None, plan),
                };
                fs::overlay::mount(dev, lower, upper)
            }
            &MountKind::Tmpfs { size, mode, read_only } => {
                o.flags |= if read_only { READ_ONLY } else { 0 };
                tmpfs(dev, mode.unwrap_or(0o1777), size, plan)
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
            MountKind::Node { device } => {
                (o.kind, o.source) = ("devtmpfs".into(), "devtmpfs".into());
                node(dev, device).map_err(|e| format!("cannot make {}: {e}", m.target))?
            }
            MountKind::Proc => {
                (o.kind, o.source) = ("proc".into(), "proc".into());
                fs::proc::mount(dev, source.clone())
            }
            MountKind::Sysfs => {
                crate::sys::mount(k, table, |target| place(table, target, true));
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
            MountKind::Dev => fs::dev::mount(dev, console(plan)).map_err(|e| format!("cannot make /dev: {e}"))?,
        };
        if i == 0 {
            if plan.root_read_only {
                make_places(&root, &plan.mounts[1..]).map_err(|e| format!("cannot prepare the root: {e}"))?;
                o.flags |= READ_ONLY;
            }
            propagate(&table.mount(None, root, o).mount, m.propagation);
            continue;
        }
        let on = place(table, m.target.as_bytes(), root.attr().is_ok_and(|a| a.is_dir()))
            .map_err(|e| format!("cannot mount on {}: {e}", m.target))?;
        let made = table.mount(Some(on), root, o);
        propagate(&made.mount, m.propagation);
        // The first container's are the kernel's.
        match m.kind {
            MountKind::Proc => _ = k.proc_fs.set(made.mount.sb.clone()),
            MountKind::Devpts if k.terminals.file_system().is_none() => k.terminals.mounted(made),
            MountKind::Dev if crate::start::has_block_devices(plan.process) => {
                k.loops.show_in(&made.dentry).map_err(|e| format!("cannot make the loop devices: {e}"))?;
            }
            _ => {}
        }
    }
    cover_all(table, plan)
}

/// With a terminal /dev/console is the first of /dev/pts.
fn console(plan: &Plan<'_>) -> Option<(u64, u32)> {
    let rdev = abi::c::makedev(ipc::tty::PTS_MAJOR, 0);
    plan.process.terminal.then_some((rdev, plan.process.uid))
}

fn node(dev: u64, device: &wire::shared::Device) -> abi::Result<Rc<dyn Inode>> {
    let kind = match device.kind {
        'b' => abi::c::S_IFBLK,
        'p' => abi::c::S_IFIFO,
        _ => abi::c::S_IFCHR,
    };
    let new = vfs::New { mode: kind | device.mode & 0o7777, uid: device.uid, gid: device.gid };
    fs::tmp::mount(dev, 0o755, 0, 2).create(b"node", new, abi::c::makedev(device.major, device.minor))
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
            MountKind::Node { .. } => false,
            _ => true,
        };
        place(&table, m.target.as_bytes(), dir)?;
    }
    Ok(())
}

fn cover_all(table: &Rc<MountTable>, plan: &Plan<'_>) -> Result<(), String> {
    for (i, m) in plan.mounts.iter().enumerate() {
        let mask = match m.kind {
            MountKind::Mask => true,
            MountKind::ReadOnly => false,
            _ => continue,
        };
        cover(table, plan.dev + i as u64, m, mask).map_err(|e| format!("cannot cover {}: {e}", m.target))?;
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
