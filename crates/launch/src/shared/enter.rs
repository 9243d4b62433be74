//! One more program in a running container: into its namespaces, behind the same rules, a child of the caller's.
use super::child::{self, Last, Stop, To};
use super::{console, control};
use crate::cgroup::{self, Cgroups};
use crate::error::{Context, Failure, report};
use crate::parent;
use crate::proc::Proc;
use host::landlock::Ruleset;
use host::process::Cloned;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::ThreadNameSpaceType as Kind;
use std::convert::Infallible;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use wire::shared::SharedSpec;
use wire::{Event, IdMap, LaunchSpec};

/// Enters the container whose monitor answers at the other end of `join_fd`, and is gone.
pub fn launch(spec: &LaunchSpec, rules: &SharedSpec, started_ns: u64) -> Result<(), Failure> {
    let proc = Proc::open()?;
    let monitor = host::process::take(spec.join_fd.ok_or_else(|| Failure::new("join_fd: there is none"))?);
    let (container, rulesets) = control::enter(&monitor, false)?;
    let cgroups = Cgroups::given(spec.cgroups.as_deref().unwrap_or(&[]));
    let mut doors = cgroups.doors()?;
    // They are the container's.
    cgroups.keep();
    let users = own_users(&proc, &container)?;
    let (release, releasing) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    let (status, reporting) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    // Nobody in the container may look into this process, or the one it makes, before that is the program.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("PR_SET_DUMPABLE")?;
    let mut kinds =
        Kind::CONTROL_GROUP | Kind::INTER_PROCESS_COMMUNICATION | Kind::MOUNT | Kind::NETWORK | Kind::PROCESS_ID;
    kinds |= Kind::HOST_NAME_AND_NIS_DOMAIN_NAME;
    kinds.set(Kind::USER, users);
    rustix::thread::move_into_thread_name_spaces(container.as_fd(), kinds)
        .context("entering the container's namespaces")?;
    // SAFETY: the launcher has one thread from start to end.
    let cloned = unsafe { doors.clone_process(abi::c::CLONE_PARENT) }.context("making a process in the container")?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            host::process::reset_signals();
            drop((releasing, status, container));
            let ids = if users { IdMap::Single } else { IdMap::Identity };
            doors.enter(&reporting);
            let Err(stop) = run(Entered { spec, rules, ids, proc: &proc, rulesets, monitor: &monitor, release });
            stop.report(&reporting)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((release, reporting));
    report(spec.events_fd, &Event::Launched { pid, cgroups: vec![] });
    let go = cgroup::entered(&status);
    let go = go.and_then(|()| rustix::io::write(&releasing, &[1]).context("releasing it").map(drop));
    drop(releasing);
    let mut message = String::new();
    let told = go.and_then(|()| std::fs::File::from(status).read_to_string(&mut message).context("watching it start"));
    match told {
        Ok(_) if message.is_empty() => {
            let ns = host::time::monotonic_ns().saturating_sub(started_ns);
            report(spec.events_fd, &Event::Started { ns });
            Ok(())
        }
        Ok(_) => {
            let (number, text) = message.split_once(' ').unwrap_or(("125", &message));
            let status = number.parse().unwrap_or(crate::FAILED.into());
            report(spec.events_fd, &Event::Failed { status, message: text.into() });
            Ok(())
        }
        Err(failure) => {
            parent::end(pidfd.as_fd());
            Err(failure)
        }
    }
}

/// Whether its user namespace is another than this process's: to enter one's own is an error.
fn own_users(proc: &Proc, container: &OwnedFd) -> Result<bool, Failure> {
    let number = proc.number_of(container.as_fd())?;
    Ok(proc.link("self/ns/user")? != proc.link(&format!("{number}/ns/user"))?)
}

struct Entered<'a> {
    spec: &'a LaunchSpec,
    rules: &'a SharedSpec,
    ids: IdMap,
    proc: &'a Proc,
    rulesets: Vec<Ruleset>,
    monitor: &'a OwnedFd,
    release: OwnedFd,
}

fn run(own: Entered<'_>) -> Result<Infallible, Stop> {
    let Entered { spec, rules, ids, proc, rulesets, monitor, release } = own;
    child::begin(spec, &release)?;
    child::session(spec, rules)?;
    if let Some(wanted) = &rules.console {
        console::make(wanted, false)?;
    }
    child::limit(&spec.process, proc)?;
    let home = child::go(&spec.process)?;
    child::become_program(Last { spec, rules, ids, proc, rulesets, to: To { monitor, entered: true }, home })
}
