//! The stubs' init: pid 1 of a pid namespace inside the sentry's, in namespaces of its own, with an empty
//! root, no capabilities, and one descriptor. Every stub is forked from it.
use crate::error::{Context, Failure};
use crate::first::{Job, die_with_parent, wait_for};
use crate::parent::NAMESPACES;
use host::caps::CapabilitySet;
use host::process::{Cloned, clone_process};
use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, OwnedFd};
use wire::IdMap;

/// The number of the stubs' one descriptor, their socket to the sentry.
const SOCKET_FD: i32 = bpf::SOCKET_FD as i32;

/// When memory is short the host ends a stub first: the sentry can then tell the guest's parent process.
const FIRST_TO_DIE: &str = "1000";

/// Starts it and returns its pid in the caller's pid namespace.
pub fn start(job: &Job<'_>, socket: OwnedFd) -> Result<i32, Failure> {
    let (release, releasing) = pipe_with(PipeFlags::CLOEXEC).context("making a pipe")?;
    // SAFETY: this process is a copy of the launcher's one thread.
    match unsafe { clone_process(NAMESPACES) }
        .context("making the stubs' namespaces (nested user namespaces: sysctl user.max_user_namespaces)")?
    {
        Cloned::Child => {
            drop(releasing);
            let Err(failure) = run(job, &release, socket);
            let message = format!("stub init: {failure}");
            let _ = rustix::io::write(&job.status, message.as_bytes());
            std::process::exit(crate::FAILED.into())
        }
        Cloned::Parent { pid, pidfd } => {
            let number = job.proc.number_of(pidfd.as_fd())?;
            job.proc.write(&format!("{number}/uid_map"), &job.maps.stubs[0])?;
            job.proc.write(&format!("{number}/gid_map"), &job.maps.stubs[1])?;
            job.proc.write(&format!("{number}/oom_score_adj"), FIRST_TO_DIE)?;
            rustix::io::write(&releasing, &[1]).context("releasing the stubs' init")?;
            Ok(pid)
        }
    }
}

fn run(job: &Job<'_>, release: &OwnedFd, socket: OwnedFd) -> Result<std::convert::Infallible, Failure> {
    wait_for(release)?;
    // What the sentry's terminal tells its session is for the sentry alone.
    rustix::process::setsid().context("setsid")?;
    become_nobody(job)?;
    // After the change of user, which clears it.
    die_with_parent()?;
    host::caps::restrict(CapabilitySet::empty()).context("giving up capabilities")?;
    rustix::thread::set_no_new_privs(true).context("PR_SET_NO_NEW_PRIVS")?;
    // The stub's and the vDSO's addresses are the same in every run; the guest's own layout is the sentry's.
    host::process::fix_addresses().context("personality")?;
    become_stub(job, socket)
}

/// The one user and group of the stubs' user namespace.
fn become_nobody(job: &Job<'_>) -> Result<(), Failure> {
    if job.maps.kind == IdMap::Identity {
        rustix::thread::set_thread_groups(&[]).context("setgroups")?;
    }
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("setresgid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("setresuid")
}

/// Leaves only the socket open, at its fixed number, and executes the stub.
fn become_stub(job: &Job<'_>, socket: OwnedFd) -> Result<std::convert::Infallible, Failure> {
    let clear = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, SOCKET_FD + 1);
    let stub = clear(&job.inputs.stub).context("moving a descriptor")?;
    let status = clear(&job.status).context("moving a descriptor")?;
    host::process::close_on_exec_from(0).context("close_range")?;
    // SAFETY: whoever had this number is not used again: the two that are needed have just been moved.
    unsafe { host::process::place(socket.as_fd(), SOCKET_FD) }.context("placing the socket")?;
    let e = host::process::exec(stub.as_fd(), &[c"stub"], &[]);
    // The original may have been overwritten.
    let message = format!("stub init: executing the stub {}: {e}", job.spec.stub);
    let _ = rustix::io::write(&status, message.as_bytes());
    std::process::exit(crate::FAILED.into())
}
