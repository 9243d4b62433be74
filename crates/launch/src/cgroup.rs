//! The host's limits on the whole sandbox: cgroups(7), version 1 and 2.
use crate::error::{Context, Failure};
use crate::proc::Proc;
use host::process::{Cloned, clone_process};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::Limits;

const MOUNT: &str = "/sys/fs/cgroup";
/// Microseconds, the kernel's own default.
const CPU_PERIOD: u64 = 100_000;
/// The sandbox's own tasks beside the guest's: sentry and helpers, stub init, template, warm stubs.
pub const OWN_TASKS: u64 = 32;

/// A thread's way into a group, of version 1 only.
const OF_VERSION_1: &str = "tasks";
/// What a process says when it is in its groups.
const IN: u8 = b'.';

/// How often the removal of a group is tried, each 10 ms.
const REMOVALS: u32 = 200;

/// One value for one file; `optional`: the kernel may have been built without it.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: String,
    optional: bool,
}

/// The cgroups made for one sandbox. They are removed on drop, unless they are kept.
#[derive(Debug, Default)]
pub struct Cgroups {
    dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes the cgroups that the limits ask for; none if there are no limits.
    pub fn create(proc: &Proc, id: &str, limits: &Limits, own_tasks: u64) -> Result<Cgroups, Failure> {
        let mut made = Cgroups::default();
        let unified = Path::new(MOUNT).join("cgroup.controllers").exists();
        let settings = settings(unified, limits, own_tasks);
        if settings.is_empty() {
            return Ok(made);
        }
        let own = proc.read("self/cgroup")?;
        let name = format!("rvisor-{id}");
        for s in &settings {
            let base = if unified { unified_base(&own, s.controller)? } else { base_v1(&own, s.controller)? };
            let dir = base.join(&name);
            if !made.dirs.contains(&dir) {
                made.make(&dir)?;
            }
            write(&dir.join(s.file), &s.value, s.optional)?;
        }
        Ok(made)
    }

    /// Those the caller has made and set the limits of.
    pub fn given(dirs: &[String]) -> Cgroups {
        Cgroups { dirs: dirs.iter().map(PathBuf::from).collect() }
    }

    /// The group that programs are attached to: of version 2, made if there is none yet.
    pub fn for_programs(&mut self, proc: &Proc, id: &str) -> Result<PathBuf, Failure> {
        let mounts = proc.read("self/mountinfo")?;
        let mount = unified_mount(&mounts).ok_or_else(|| {
            Failure::new("this host has no control groups of version 2 mounted, which programs are attached to")
        })?;
        if let Some(there) = self.dirs.iter().find(|d| d.starts_with(&mount) && d.join("cgroup.procs").exists()) {
            return Ok(there.clone());
        }
        let own = proc.read("self/cgroup")?;
        let base = mount.join(own_path(&own, "").unwrap_or(""));
        // In a container the host's path may not exist: the mount's top is then the caller's own.
        let dir = if base.is_dir() { base } else { mount }.join(format!("rvisor-{id}"));
        self.make(&dir)?;
        Ok(dir)
    }

    fn make(&mut self, dir: &Path) -> Result<(), Failure> {
        // One that a sandbox of this name left behind is empty and goes; one in use stays.
        let _ = std::fs::remove_dir(dir);
        std::fs::create_dir(dir).map_err(|e| {
            let hint = match e.kind() {
                ErrorKind::AlreadyExists => "a sandbox with this id is running",
                _ => "limits need root or a delegated cgroup; run without them or as root",
            };
            Failure::new(format!("making the cgroup {}: {e}: {hint}", dir.display()))
        })?;
        self.dirs.push(dir.to_owned());
        Ok(())
    }

    /// The ways in, for a process that is to be made.
    pub fn doors(&self) -> Result<Doors, Failure> {
        let open = |path: PathBuf| File::options().write(true).open(&path).context(&path.to_string_lossy());
        let mut doors = Doors::default();
        for dir in &self.dirs {
            if dir.join(OF_VERSION_1).exists() {
                doors.files.push(open(dir.join(OF_VERSION_1))?);
            } else {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let group = rustix::fs::open(dir, flags, Mode::empty()).context(&dir.to_string_lossy())?;
                doors.unified = Some((group, open(dir.join("cgroup.procs"))?));
            }
        }
        Ok(doors)
    }

    /// Where they are.
    pub fn paths(&self) -> Vec<String> {
        self.dirs.iter().map(|d| d.to_string_lossy().into_owned()).collect()
    }

    /// Lets them stay: from here on they are the caller's to remove.
    pub fn keep(mut self) {
        self.dirs.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Waits until `caller` ends and the sandbox has ended, and removes what the caller did not: it may have been killed.
    pub fn watch(&self, caller: BorrowedFd<'_>, sandbox: BorrowedFd<'_>) {
        for fd in [caller, sandbox] {
            let mut ended = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut ended, None));
        }
        self.remove();
    }

    fn remove(&self) {
        // The last process leaves its group a moment after its end was told.
        for _ in 0..REMOVALS {
            let there = |d: &&PathBuf| matches!(std::fs::remove_dir(d), Err(e) if e.kind() == ErrorKind::ResourceBusy);
            if self.dirs.iter().filter(there).count() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How a process gets in without a wait. To move another, or one with threads, the host's kernel first keeps all of them from
/// being forked, for which it waits until each CPU has been through its scheduler: 10 to 20 ms. So the process is made in the
/// group of version 2, and goes into those of version 1 itself, one thread. The files were opened with this process's rights.
#[derive(Debug, Default)]
pub struct Doors {
    unified: Option<(OwnedFd, File)>,
    files: Vec<File>,
}

impl Doors {
    /// Makes the process; the child is to call [`Doors::enter`] before it runs anything of the sandbox: what it uses is charged
    /// there.
    ///
    /// # Safety
    /// As [`clone_process`].
    pub unsafe fn clone_process(&mut self, flags: i32) -> abi::Result<Cloned> {
        if let Some((group, _)) = &self.unified {
            // SAFETY: the caller's.
            if let Ok(cloned) = unsafe { host::process::clone_process_into(flags, group.as_fd()) } {
                self.unified = None;
                return Ok(cloned);
            }
            // A host that is older, or a group that this process cannot get into from its own cgroup namespace.
        }
        // SAFETY: the caller's.
        unsafe { clone_process(flags) }
    }

    /// In the child, while it has one thread. Says on `status` that it is in, or ends, having said why not.
    pub fn enter(&self, status: &OwnedFd) {
        let unified = self.unified.as_ref().map(|(_, procs)| procs);
        let mut enter = unified.into_iter().chain(&self.files).map(|mut file| file.write_all(b"0"));
        let entered = enter.try_for_each(|done| done).context("entering the control groups");
        let said = entered.as_ref().map_or_else(|failure| failure.to_string().into_bytes(), |()| vec![IN]);
        let told = rustix::io::write(status, &said);
        if entered.is_err() || told.is_err() {
            std::process::exit(crate::FAILED.into());
        }
    }
}

/// What [`Doors::enter`] says on `status`, at which whoever has made the process may go on; else the reason.
pub fn entered(status: &OwnedFd) -> Result<(), Failure> {
    let mut said = [0; 4096];
    match rustix::io::retry_on_intr(|| rustix::io::read(status, &mut said)).context("watching the new process")? {
        1 if said[0] == IN => Ok(()),
        n => Err(Failure::new(String::from_utf8_lossy(&said[..n]))),
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove();
    }
}

fn settings(unified: bool, limits: &Limits, own_tasks: u64) -> Vec<Setting> {
    let mut list = Vec::new();
    let mut set = |controller, v1: &'static str, v2: &'static str, value: String, optional| {
        let file = if unified { v2 } else { v1 };
        list.push(Setting { controller, file, value, optional });
    };
    if let Some(bytes) = limits.memory {
        set("memory", "memory.limit_in_bytes", "memory.max", bytes.to_string(), false);
        // Version 1 limits the sum of memory and swap, version 2 the swap.
        let swap = if unified { 0 } else { bytes };
        set("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", swap.to_string(), true);
    }
    if let Some(milli) = limits.millicpus {
        let quota = milli.saturating_mul(CPU_PERIOD / 1000);
        if unified {
            set("cpu", "", "cpu.max", format!("{quota} {CPU_PERIOD}"), false);
        } else {
            set("cpu", "cpu.cfs_period_us", "", CPU_PERIOD.to_string(), false);
            set("cpu", "cpu.cfs_quota_us", "", quota.to_string(), false);
        }
    }
    if let Some(tasks) = limits.pids {
        set("pids", "pids.max", "pids.max", tasks.saturating_add(own_tasks).to_string(), false);
    }
    list
}

/// The caller's own cgroup in a hierarchy, from the lines of `/proc/self/cgroup`.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = match controller {
            "" => controllers.is_empty(),
            c => controllers.split(',').any(|x| x == c),
        };
        found.then(|| path.trim_start_matches('/'))
    })
}

/// Version 1: below the caller's own cgroup, so that what limits the caller limits the sandbox.
fn base_v1(own: &str, controller: &str) -> Result<PathBuf, Failure> {
    let mount = Path::new(MOUNT).join(controller);
    let path = own_path(own, controller).filter(|_| mount.is_dir()).ok_or_else(|| missing(controller))?;
    let base = mount.join(path);
    // In a container the host's path may not exist: the mount's top is then the caller's own.
    Ok(if base.is_dir() { base } else { mount })
}

/// Version 2: beside the caller's own cgroup, because one with processes cannot have limited children.
fn unified_base(own: &str, controller: &str) -> Result<PathBuf, Failure> {
    let own = own_path(own, "").unwrap_or("");
    let mut dir = PathBuf::from(MOUNT);
    let mut levels = vec![dir.clone()];
    for part in Path::new(own).parent().into_iter().flatten() {
        dir.push(part);
        levels.push(dir.clone());
    }
    let dir = levels.iter().rev().find(|d| d.is_dir()).cloned().unwrap_or_else(|| MOUNT.into());
    let enabled = |d: &Path, file: &str| {
        std::fs::read_to_string(d.join(file)).is_ok_and(|s| s.split_whitespace().any(|c| c == controller))
    };
    // Each level hands a controller down only if told so. The last level's answer counts.
    for level in levels.iter().filter(|l| !enabled(l, "cgroup.subtree_control")) {
        let _ = std::fs::write(level.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    if enabled(&dir, "cgroup.subtree_control") { Ok(dir) } else { Err(missing(controller)) }
}

/// Where version 2 is mounted, from the lines of `/proc/self/mountinfo`.
fn unified_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn missing(controller: &str) -> Failure {
    Failure::new(format!(
        "this host does not offer the cgroup controller {controller} here: enable it for the parent cgroup, or run without this limit"
    ))
}

fn write(file: &Path, value: &str, optional: bool) -> Result<(), Failure> {
    let opened = std::fs::OpenOptions::new().write(true).open(file);
    match opened {
        Err(e) if optional && e.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened
            .and_then(|mut f| f.write_all(value.as_bytes()))
            .context(&format!("writing {value} to {}", file.display())),
    }
}

/// Which of the three controllers can be used, for the doctor: name and where it was found.
pub fn available(proc: &Proc) -> Result<Vec<(&'static str, Option<&'static str>)>, Failure> {
    let own = proc.read("self/cgroup")?;
    let unified = std::fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers")).ok();
    let find = |c: &'static str| match &unified {
        Some(list) => list.split_whitespace().any(|x| x == c).then_some("version 2"),
        None => base_v1(&own, c).is_ok().then_some("version 1"),
    };
    Ok(["memory", "cpu", "pids"].map(|c| (c, find(c))).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory: Some(64 << 20), millicpus: Some(1500), pids: Some(10) };

    fn flat(unified: bool) -> Vec<(&'static str, String)> {
        settings(unified, &LIMITS, OWN_TASKS).into_iter().map(|s| (s.file, s.value)).collect()
    }

    #[test]
    fn version_1() {
        let expected = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "67108864"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "150000"),
            ("pids.max", "42"),
        ];
        assert_eq!(flat(false), expected.map(|(f, v)| (f, v.to_string())));
    }

    #[test]
    fn version_2() {
        let expected =
            [("memory.max", "67108864"), ("memory.swap.max", "0"), ("cpu.max", "150000 100000"), ("pids.max", "42")];
        assert_eq!(flat(true), expected.map(|(f, v)| (f, v.to_string())));
        assert!(settings(true, &Limits::default(), OWN_TASKS).is_empty());
    }

    #[test]
    fn own_cgroup() {
        let own = "8:pids:/a\n4:cpu,cpuacct:/b/c\n1:name=systemd:/\n0::/u:v\n";
        assert_eq!(own_path(own, "cpu"), Some("b/c"));
        assert_eq!(own_path(own, "pids"), Some("a"));
        assert_eq!(own_path(own, ""), Some("u:v"));
        assert_eq!(own_path(own, "memory"), None);
        let mounts =
            "22 1 0:20 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n23 1 0:21 / /x rw,relatime - cgroup2 none rw\n";
        assert_eq!(unified_mount(mounts), Some("/x".into()));
        assert_eq!(unified_mount("22 1 0:20 / /y rw - tmpfs tmpfs rw\n"), None);
    }
}
