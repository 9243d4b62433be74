//! The container's first process, until it is the container's program. Rights go step by step, and each step needs only
//! what is still there: namespaces and mounts, file rules, user and capabilities, system calls, exec.
use super::{Job, console, control, files, hooks, kmsg, root, rows};
use crate::error::{Context, Failure};
use crate::proc::Proc;
use crate::{first, network};
use abi::seccomp::Insn;
use host::caps::{CapabilitySet, CapabilitySets};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use wire::shared::SharedSpec;
use wire::{Capabilities, IdMap, LaunchSpec, Process};

/// As `docker run`: the program is there and cannot be executed; it is not there.
const CANNOT: i32 = 126;
const NOT_THERE: i32 = 127;

/// The capabilities of Docker's containers.
pub const DOCKER: u64 = 0xa804_25fb;

/// Runs the new process. Returns by exec only.
pub fn main(job: Job<'_>) -> ! {
    let Err(stop) = run(&job);
    stop.report(&job.status)
}

/// Exit status and reason.
pub(super) struct Stop(i32, Failure);

impl Stop {
    pub(super) fn report(self, to: &OwnedFd) -> ! {
        let _ = rustix::io::write(to, format!("{} {}", self.0, self.1).as_bytes());
        std::process::exit(self.0)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop(crate::FAILED.into(), failure)
    }
}

fn run(job: &Job<'_>) -> Result<Infallible, Stop> {
    let (spec, rules) = (job.spec, job.rules);
    let log = if rules.kernel_log.is_some() { kmsg::open(&job.monitor)? } else { vec![] };
    job.doors.enter(&job.status);
    begin(spec, &job.release)?;
    // Its root is the group that this process has just been put into.
    host::process::own_cgroup_root().context("making the cgroup namespace")?;
    session(spec, rules)?;
    network::set_up(spec, &job.proc)?;
    settings(job)?;
    root::enter(job, log)?;
    if let Some(console) = &rules.console {
        console::make(console, true)?;
    }
    name(job)?;
    limit(&spec.process, &job.proc)?;
    let home = go(&spec.process)?;
    let rulesets: Vec<_> = files::ruleset(rules, &job.proc)?.into_iter().collect();
    let to = To { monitor: &job.monitor, entered: false };
    for ruleset in &rulesets {
        host::stub::send_fds(to.monitor.as_fd(), b"r", &[ruleset.as_fd()]).context("passing the file rules on")?;
    }
    become_program(Last { spec, rules, ids: job.ids, proc: &job.proc, rulesets, to, home })
}

/// Set-up that a first process and one that enters a container have in common.
pub(super) fn begin(spec: &LaunchSpec, release: &OwnedFd) -> Result<(), Failure> {
    host::process::end_by_signals();
    if !spec.detached {
        first::die_with_parent()?;
    }
    first::wait_for(release)
}

/// Where the monitor is reached: over the pair it has made, or over the control socket by one who has entered.
pub(super) struct To<'a> {
    pub monitor: &'a OwnedFd,
    pub entered: bool,
}

/// All is there but the program: what only takes rights away from here on.
pub(super) struct Last<'a> {
    pub spec: &'a LaunchSpec,
    pub rules: &'a SharedSpec,
    pub ids: IdMap,
    pub proc: &'a Proc,
    /// File rules; all hold.
    pub rulesets: Vec<host::landlock::Ruleset>,
    pub to: To<'a>,
    /// HOME, where the caller has not said it.
    pub home: Option<String>,
}

pub(super) fn become_program(last: Last<'_>) -> Result<Infallible, Stop> {
    let process = &last.spec.process;
    let filters = Filters::compile(last.rules)?;
    let program = find(process)?;
    // Everything but the standard descriptors ends with exec; what is opened from here on is made so.
    host::process::close_on_exec_from(3).context("close_range")?;

    // The group before the user: afterwards there is no right to change it.
    let capabilities = ceiling(process);
    host::caps::bound(set(capabilities.bounding)).context("the ceiling of capabilities")?;
    if last.ids == IdMap::Identity {
        let groups: Vec<Gid> = process.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        rustix::thread::set_thread_groups(&groups).context("setgroups")?;
    }
    if process.no_new_privs {
        rustix::thread::set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")?;
    }
    become_user(last.spec, capabilities)?;
    enforce(last.rulesets)?;
    if last.spec.hold {
        hold(last.to.monitor)?;
    }
    if let Some(oci) = &last.rules.oci {
        hooks::run(&oci.start_container, "startContainer", &oci.state, last.proc)?;
    }
    filters.install(&last.to)?;
    execute(&program, process, last.home)
}

/// Until the operator says so, or the monitor is gone.
fn hold(monitor: &OwnedFd) -> Result<(), Failure> {
    rustix::io::write(monitor, b"h").context("telling the monitor")?;
    match rustix::io::retry_on_intr(|| rustix::io::read(monitor, &mut [0u8])).context("waiting for the start")? {
        1 => Ok(()),
        _ => Err(Failure::new("the monitor has ended")),
    }
}

/// Into the working directory; HOME, where it is to be looked up.
pub(super) fn go(process: &Process) -> Result<Option<String>, Failure> {
    if !process.cwd.is_empty() {
        rustix::process::chdir(&process.cwd).context(&format!("working directory {}", process.cwd))?;
    }
    let wanted = process.home && !process.env.iter().any(|v| v.starts_with("HOME="));
    Ok(wanted.then(|| home(process.uid)))
}

/// What the container's own /etc/passwd says, of which no more than usual is read; or /.
fn home(uid: u32) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open("/etc/passwd", flags, Mode::empty()) {
        let _ = std::fs::File::from(fd).take(1 << 20).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let own = |line: &&str| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid);
    let found = text.lines().find(own).and_then(|line| line.split(':').nth(5));
    found.filter(|home| !home.is_empty() && !home.contains('\0')).unwrap_or("/").into()
}

/// Settings of namespaces other than the network's.
fn settings(job: &Job<'_>) -> Result<(), Failure> {
    let others = job.spec.sysctls.iter().filter(|(name, _)| !name.starts_with("net/"));
    others.into_iter().try_for_each(|(name, value)| job.proc.write(&format!("sys/{name}"), value))
}

/// A session of its own; with a terminal that is there, it is this session's.
pub(super) fn session(spec: &LaunchSpec, rules: &SharedSpec) -> Result<(), Failure> {
    rustix::process::setsid().context("setsid")?;
    if spec.process.terminal && rules.console.is_none() {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).context("taking the terminal")?;
    }
    Ok(())
}

fn name(job: &Job<'_>) -> Result<(), Failure> {
    if job.rules.oci.as_ref().is_some_and(|oci| !matches!(oci.namespaces.get("uts"), Some(None))) {
        // It is others' too.
        return Ok(());
    }
    rustix::system::sethostname(job.spec.hostname.as_bytes()).context("sethostname")?;
    match &job.spec.domainname {
        Some(name) => rustix::system::setdomainname(name.as_bytes()).context("setdomainname"),
        None => Ok(()),
    }
}

pub(super) fn limit(process: &Process, proc: &Proc) -> Result<(), Failure> {
    for l in &process.rlimits {
        host::process::set_limit(l.which, l.soft, l.hard).context(&format!("setrlimit {}", l.which))?;
    }
    if let Some(value) = process.oom_score_adj {
        proc.write("self/oom_score_adj", &value.to_string())?;
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

/// Without no_new_privs filters need CAP_SYS_ADMIN: it is kept for them, and exec takes it away, as that gives what is in
/// the bounding and ambient sets only. So no profile need allow the calls made here.
fn become_user(spec: &LaunchSpec, c: Capabilities) -> Result<(), Failure> {
    let process = &spec.process;
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    rustix::thread::set_keep_capabilities(true).context("PR_SET_KEEPCAPS")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("setresgid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("setresuid")?;
    rustix::thread::set_keep_capabilities(false).context("PR_SET_KEEPCAPS")?;
    let had = rustix::thread::capabilities(None).context("capget")?.permitted;
    let within = |bits: u64| set(bits).intersection(had);
    let for_filters = if process.no_new_privs { 0 } else { CapabilitySet::SYS_ADMIN.bits() };
    let sets = CapabilitySets {
        effective: within(c.effective | for_filters),
        permitted: within(c.permitted | for_filters),
        inheritable: within(c.inheritable),
    };
    host::caps::set(sets, within(c.ambient)).context("capset")?;
    if spec.detached {
        return Ok(());
    }
    // Cleared by the change of user.
    first::die_with_parent()
}

fn enforce(rulesets: Vec<host::landlock::Ruleset>) -> Result<(), Failure> {
    rulesets.into_iter().try_for_each(|rules| rules.enforce().context("landlock_restrict_self"))
}

/// The two filters: what the monitor answers, whose listener is passed on while every call is still allowed; then the
/// profile's, after which there is nothing left to do but exec.
struct Filters {
    rows: Option<Vec<Insn>>,
    profile: Vec<Insn>,
}

impl Filters {
    fn compile(rules: &SharedSpec) -> Result<Filters, Failure> {
        let rows = rows::filter(rules)?;
        let profile = rules.filter.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
        Ok(Filters { rows, profile })
    }

    fn install(&self, to: &To<'_>) -> Result<(), Failure> {
        if let Some(rows) = &self.rows {
            let listener = host::seccomp::add_with_listener(rows).context("installing the monitor's filter")?;
            let message: &[u8] = if to.entered { control::LISTENER } else { b"l" };
            host::stub::send_fds(to.monitor.as_fd(), message, &[listener.as_fd()])
                .context("passing the listener on")?;
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
    let mut denied = false;
    for place in places {
        let opened = rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        match opened {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd).context(&place)?;
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                if kind.is_file() && stat.st_mode & 0o111 != 0 {
                    return Ok((CString::new(place).context("path")?, fd));
                }
                denied = true;
            }
            Err(rustix::io::Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    // In the words of runc, whose messages Docker passes on: a directory too is what may not be executed.
    Err(match denied {
        true => Stop(CANNOT, Failure::new(format!("{name}: permission denied"))),
        false => Stop(NOT_THERE, Failure::new(format!("{name}: command not found"))),
    })
}

fn execute(program: &(CString, OwnedFd), process: &Process, home: Option<String>) -> Result<Infallible, Stop> {
    let strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
        list.iter().map(|s| CString::new(s.as_str()).context("argument")).collect()
    };
    let (args, mut env) = (strings(&process.args)?, strings(&process.env)?);
    if let Some(home) = home {
        env.push(CString::new(format!("HOME={home}")).context("HOME")?);
    }
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
