//! The container's first process, until it is the container's program. Rights go step by step, and each step needs only
//! what is still there: namespaces and mounts, file rules, user and capabilities, system calls, exec.
use super::{Job, files, root, rows};
use crate::error::{Context, Failure};
use crate::{first, network};
use abi::seccomp::Insn;
use host::caps::{CapabilitySet, CapabilitySets};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use wire::{Capabilities, IdMap, Process};

/// As `docker run`: the program is there and cannot be executed; it is not there.
const CANNOT: i32 = 126;
const NOT_THERE: i32 = 127;

/// The capabilities of Docker's containers.
pub const DOCKER: u64 = 0xa804_25fb;

/// Runs the new process. Returns by exec only.
pub fn main(job: Job<'_>) -> ! {
    let Err(stop) = run(&job);
    let _ = rustix::io::write(&job.status, format!("{} {}", stop.0, stop.1).as_bytes());
    std::process::exit(stop.0)
}

/// Exit status and reason.
struct Stop(i32, Failure);

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop(crate::FAILED.into(), failure)
    }
}

fn run(job: &Job<'_>) -> Result<Infallible, Stop> {
    let process = &job.spec.process;
    first::die_with_parent()?;
    first::wait_for(&job.release)?;
    // Its root is the group that this process has just been put into.
    host::process::own_cgroup_root().context("making the cgroup namespace")?;
    session(process)?;
    network::set_up(job.spec, &job.proc)?;
    root::enter(job)?;
    name(job)?;
    limit(job)?;
    if !process.cwd.is_empty() {
        rustix::process::chdir(&process.cwd).context(&format!("working directory {}", process.cwd))?;
    }
    let ruleset = files::ruleset(job.rules)?;
    let filters = Filters::compile(job)?;
    let program = find(process)?;
    // Everything but the standard descriptors ends with exec; what is opened from here on is made so.
    host::process::close_on_exec_from(3).context("close_range")?;

    // The group before the user: afterwards there is no right to change it.
    let capabilities = ceiling(process);
    host::caps::bound(set(capabilities.bounding)).context("the ceiling of capabilities")?;
    if job.ids == IdMap::Identity {
        let groups: Vec<Gid> = process.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        rustix::thread::set_thread_groups(&groups).context("setgroups")?;
    }
    if process.no_new_privs {
        rustix::thread::set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")?;
    } else {
        // What needs CAP_SYS_ADMIN comes before it is gone; the filter has to allow the calls below.
        enforce(ruleset)?;
        filters.install(job)?;
        become_user(process, capabilities)?;
        return execute(&program, process);
    }
    become_user(process, capabilities)?;
    enforce(ruleset)?;
    filters.install(job)?;
    execute(&program, process)
}

/// A session of its own; with a terminal, it is this session's.
fn session(process: &Process) -> Result<(), Failure> {
    rustix::process::setsid().context("setsid")?;
    if process.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).context("taking the terminal")?;
    }
    Ok(())
}

fn name(job: &Job<'_>) -> Result<(), Failure> {
    rustix::system::sethostname(job.spec.hostname.as_bytes()).context("sethostname")?;
    match &job.spec.domainname {
        Some(name) => rustix::system::setdomainname(name.as_bytes()).context("setdomainname"),
        None => Ok(()),
    }
}

fn limit(job: &Job<'_>) -> Result<(), Failure> {
    let process = &job.spec.process;
    for l in &process.rlimits {
        host::process::set_limit(l.which, l.soft, l.hard).context(&format!("setrlimit {}", l.which))?;
    }
    if let Some(value) = process.oom_score_adj {
        job.proc.write("self/oom_score_adj", &value.to_string())?;
    }
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022)));
    Ok(())
}

fn set(bits: u64) -> CapabilitySet {
    CapabilitySet::from_bits_retain(bits)
}

/// As Docker: root has the default set, others have none, and nobody gets more than the ceiling.
fn ceiling(process: &Process) -> Capabilities {
    process.capabilities.unwrap_or_else(|| {
        let own = if process.uid == 0 { DOCKER } else { 0 };
        Capabilities { bounding: DOCKER, effective: own, permitted: own, inheritable: 0, ambient: 0 }
    })
}

fn become_user(process: &Process, c: Capabilities) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    rustix::thread::set_keep_capabilities(true).context("PR_SET_KEEPCAPS")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("setresgid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("setresuid")?;
    rustix::thread::set_keep_capabilities(false).context("PR_SET_KEEPCAPS")?;
    let had = rustix::thread::capabilities(None).context("capget")?.permitted;
    let within = |bits: u64| set(bits).intersection(had);
    let sets = CapabilitySets {
        effective: within(c.effective),
        permitted: within(c.permitted),
        inheritable: within(c.inheritable),
    };
    host::caps::set(sets, within(c.ambient)).context("capset")?;
    // Cleared by the change of user.
    first::die_with_parent()
}

fn enforce(ruleset: Option<host::landlock::Ruleset>) -> Result<(), Failure> {
    ruleset.map_or(Ok(()), |r| r.enforce().context("landlock_restrict_self"))
}

/// The two filters: what the monitor answers, whose listener is passed on while every call is still allowed; then the
/// profile's, after which there is nothing left to do but exec.
struct Filters {
    rows: Option<Vec<Insn>>,
    profile: Vec<Insn>,
}

impl Filters {
    fn compile(job: &Job<'_>) -> Result<Filters, Failure> {
        let rows = rows::policy(job.rules).map(|p| bpf::compile(&p)).transpose().context("the monitor's filter")?;
        let profile = job.rules.filter.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
        Ok(Filters { rows, profile })
    }

    fn install(&self, job: &Job<'_>) -> Result<(), Failure> {
        if let Some(rows) = &self.rows {
            let listener = host::seccomp::add_with_listener(rows).context("installing the monitor's filter")?;
            host::stub::send_fds(job.monitor.as_fd(), b"l", &[listener.as_fd()]).context("passing the listener on")?;
        }
        if !self.profile.is_empty() {
            host::seccomp::add(&self.profile).context("installing the profile's filter")?;
        }
        Ok(())
    }
}

/// The program, opened as long as there is a message for its absence.
fn find(process: &Process) -> Result<(CString, OwnedFd), Stop> {
    let name = &process.args[0];
    let path = process.env.iter().find_map(|v| v.strip_prefix("PATH=")).unwrap_or("/usr/bin:/bin");
    let places: Vec<String> = match name.contains('/') {
        true => vec![name.clone()],
        false => path.split(':').map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir })).collect(),
    };
    let mut denied = None;
    for place in places {
        let opened = rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        match opened {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).context(&place)?;
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                if kind.is_file() && stat.st_mode & 0o111 != 0 {
                    return Ok((CString::new(place).context("path")?, fd));
                }
                denied = Some(if kind.is_dir() { "is a directory" } else { "permission denied" });
            }
            Err(rustix::io::Errno::ACCESS) => denied = Some("permission denied"),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(why) => Stop(CANNOT, Failure::new(format!("{name}: {why}"))),
        None => Stop(NOT_THERE, Failure::new(format!("{name}: command not found"))),
    })
}

fn execute(program: &(CString, OwnedFd), process: &Process) -> Result<Infallible, Stop> {
    let strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
        list.iter().map(|s| CString::new(s.as_str()).context("argument")).collect()
    };
    let (args, env) = (strings(&process.args)?, strings(&process.env)?);
    let (args, env): (Vec<&CStr>, Vec<&CStr>) =
        (args.iter().map(CString::as_c_str).collect(), env.iter().map(CString::as_c_str).collect());
    let e = host::process::exec_path(&program.0, &args, &env);
    let hint = match e {
        abi::Errno::ENOEXEC => ": not a program this host's kernel can execute",
        abi::Errno::EPERM | abi::Errno::EACCES => ": the profile may not allow execve, or to execute this file",
        _ => "",
    };
    let status = if e == abi::Errno::ENOENT { NOT_THERE } else { CANNOT };
    Err(Stop(status, Failure::new(format!("{}: {e}{hint}", process.args[0]))))
}
