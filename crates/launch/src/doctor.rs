//! `--doctor`: what this host offers, each tried, not guessed.
use crate::cgroup;
use crate::error::{Context, Failure};
use crate::parent::NAMESPACES;
use crate::proc::Proc;
use abi::c;
use host::process::{Cloned, clone_process};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::{Pid, WaitOptions};
use serde::Serialize;
use std::os::fd::AsFd;

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// What to do when it is not ok.
    fix: &'static str,
}

type Outcome = Result<String, String>;

/// Oldest kernel with everything that is required, and the one with all that makes it fast.
const REQUIRED: (u32, u32) = (5, 12);
const FAST: (u32, u32) = (6, 6);
/// AT_HWCAP2, bit 1: the fsgsbase instructions are enabled.
const HWCAP2_FSGSBASE: u64 = 1 << 1;

pub fn print() -> Result<(), Failure> {
    let mut checks = vec![
        check("kernel", kernel(), "upgrade to Linux 6.6 or newer"),
        check(
            "user namespaces",
            namespaces(),
            "sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a container: allow clone with CLONE_NEWUSER",
        ),
        check(
            "private mounts",
            mounts(),
            "a kernel with open_tree and mount_setattr (5.12); in a container: allow both, and mount and pivot_root",
        ),
        check("seccomp notify", notify(), "a kernel with CONFIG_SECCOMP_FILTER, 6.6 or newer for SYNC_WAKE_UP"),
        check("pidfd", pidfd(), "a kernel with pidfd_open (5.3)"),
        check("memfd", memfd(), "a kernel with memfd_create (3.17)"),
        check("openat2", openat2(), "a kernel with openat2 (5.6); in a container: allow it"),
        check(
            "process_vm_readv",
            vm_read(),
            "sysctl kernel.yama.ptrace_scope below 3; in a container: allow process_vm_readv",
        ),
        check("fsgsbase", fsgsbase(), "a processor with FSGSBASE and a kernel without the option nofsgsbase"),
    ];
    for (controller, found) in cgroup::available(&Proc::open()?)? {
        let name = match controller {
            "memory" => "cgroup memory",
            "cpu" => "cgroup cpu",
            _ => "cgroup pids",
        };
        let outcome = found.map(String::from).ok_or_else(|| "not available: this limit cannot be set".into());
        checks.push(check(name, outcome, "enable the controller for this cgroup, or run without this limit"));
    }
    crate::error::print(&serde_json::to_string_pretty(&checks).context("writing the report")?)
}

fn check(name: &'static str, outcome: Outcome, fix: &'static str) -> Check {
    let ok = outcome.is_ok();
    Check { name, ok, detail: outcome.unwrap_or_else(|e| e), fix: if ok { "" } else { fix } }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn kernel() -> Outcome {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    match host::process::version() {
        v if v < REQUIRED => Err(format!("{release}: too old")),
        v if v < FAST => Err(format!("{release}: works, with slow doorbells")),
        _ => Ok(release.into_owned()),
    }
}

/// Runs `work` in a child made with `flags`; its error number is the child's exit status. `meanwhile` runs
/// in this process.
fn in_child<T>(
    flags: i32,
    work: impl FnOnce() -> abi::Result,
    meanwhile: impl FnOnce(i32) -> Result<T, String>,
) -> Result<T, String> {
    // SAFETY: the launcher has one thread.
    match unsafe { clone_process(flags) }.map_err(text)? {
        Cloned::Child => std::process::exit(work().err().map_or(0, |e| e.raw() & 0xff)),
        Cloned::Parent { pid, .. } => {
            let outcome = meanwhile(pid);
            if outcome.is_err() {
                Pid::from_raw(pid).map(|p| rustix::process::kill_process(p, rustix::process::Signal::KILL));
            }
            let ended = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::empty()).map_err(text)?;
            let outcome = outcome?;
            match ended.and_then(|(_, status)| status.exit_status()) {
                Some(0) => Ok(outcome),
                Some(e) => Err(text(abi::Errno::from_raw(e))),
                None => Err("killed (by a seccomp filter of the surrounding container?)".into()),
            }
        }
    }
}

fn namespaces() -> Outcome {
    in_child(NAMESPACES, || Ok(()), |_| Ok("user, pid, mount, net, ipc, uts and cgroup".into()))
}

fn mounts() -> Outcome {
    let work = || {
        use rustix::mount::{MountPropagationFlags, mount_change};
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(host::errno)?;
        host::mount::clone_tree(c"/", host::mount::MountAttrFlags::MOUNT_ATTR_RDONLY).map(drop)
    };
    in_child(NAMESPACES, work, |_| Ok("open_tree and mount_setattr".into()))
}

fn notify() -> Outcome {
    let (ours, theirs) = host::stub::socketpair().map_err(text)?;
    let program = bpf::compile(&bpf::doorbell_policy()).map_err(text)?;
    let ring = || {
        let listener = host::seccomp::install_with_listener(&program)?;
        host::stub::send_fds(theirs.as_fd(), b"l", &[listener.as_fd()])?;
        drop(listener);
        // SAFETY: the filter answers this call; without one it makes a descriptor nobody uses.
        match unsafe { c::syscall(c::SYS_memfd_secret, 0) } {
            0 => Ok(()),
            _ => Err(abi::Errno::ENOSYS),
        }
    };
    let answer = |_| {
        let (_, listener) = host::stub::receive_fd(ours.as_fd(), &mut [0]).map_err(text)?;
        let listener = listener.ok_or("no listener")?;
        let fast = host::notify::set_sync_wake_up(listener.as_fd(), true);
        let bell = host::notify::receive(listener.as_fd()).map_err(text)?;
        host::notify::reply(listener.as_fd(), bell.id).map_err(text)?;
        fast.map_err(|e| format!("works, but not SYNC_WAKE_UP: {e}"))?;
        Ok("listener, answer and SYNC_WAKE_UP".into())
    };
    in_child(0, ring, answer)
}

fn pidfd() -> Outcome {
    host::stub::pidfd(rustix::process::getpid().as_raw_nonzero().get()).map_err(text)?;
    Ok("pidfd_open".into())
}

fn memfd() -> Outcome {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create("doctor", flags).map_err(text)?;
    Ok("memfd_create".into())
}

fn openat2() -> Outcome {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(text)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(text)?;
    Ok("RESOLVE_BENEATH".into())
}

fn vm_read() -> Outcome {
    static MARK: u64 = 0x7265_6164_5f6d_656d;
    let (keep, wait) = rustix::pipe::pipe().map_err(text)?;
    let work = || rustix::io::read(&keep, &mut [0u8]).map(drop).map_err(host::errno);
    let read = |pid| {
        let mut bytes = [0; 8];
        let n = host::stub::read_memory(pid, &raw const MARK as u64, &mut bytes);
        rustix::io::write(&wait, &[1]).map_err(text)?;
        match n {
            Ok(8) if u64::from_ne_bytes(bytes) == MARK => Ok("a child's memory".into()),
            Ok(_) => Err("read something else".into()),
            Err(_) => Err("refused".into()),
        }
    };
    in_child(0, work, read)
}

fn fsgsbase() -> Outcome {
    // SAFETY: reads a value the host put beside the stack at exec.
    let hwcap2 = unsafe { c::getauxval(c::AT_HWCAP2) };
    if hwcap2 & HWCAP2_FSGSBASE != 0 { Ok("enabled".into()) } else { Err("not enabled".into()) }
}
