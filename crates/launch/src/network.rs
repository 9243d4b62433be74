//! The sandbox's network namespace: which one, and what it needs so that an unprivileged sentry can serve in it.
use crate::error::{Context, Failure, report};
use crate::parent::NAMESPACES;
use crate::proc::Proc;
use rustix::fs::{Mode, OFlags};
use rustix::thread::LinkNameSpaceType;
use std::os::fd::AsFd;
use wire::{Event, LaunchSpec, Network};

/// Every port may be bound by any process of the namespace: the sentry asks for the guest's own capability.
const PORTS: (&str, &str) = ("sys/net/ipv4/ip_unprivileged_port_start", "0");
/// The group that may have ICMP echo sockets: the sentry's.
const PING: (&str, &str) = ("sys/net/ipv4/ping_group_range", "0 0");

/// The namespaces to make. A network that is there already is entered by the launcher itself, since the new process, in
/// its own user namespace, would have no right to.
pub fn namespaces(spec: &LaunchSpec, proc: &Proc) -> Result<i32, Failure> {
    match &spec.network {
        Network::None | Network::User => return Ok(NAMESPACES),
        Network::Host => {}
        Network::Ns(path) => {
            let doing = format!("entering the network namespace {path}");
            let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(&doing)?;
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| {
                let hint = match e {
                    rustix::io::Errno::PERM => ": this needs root, or CAP_SYS_ADMIN over the namespace",
                    rustix::io::Errno::INVAL => ": it is no network namespace",
                    _ => "",
                };
                Failure::new(format!("{doing}: {e}{hint}"))
            })?;
            if serves(spec) {
                // A namespace made for containers: without this the container's root could not serve port 80. Where it
                // cannot be set the sandbox has what the namespace's owner left it.
                let _ = proc.write(PORTS.0, PORTS.1);
                if proc.read(PING.0).is_ok_and(|range| range.split_whitespace().eq(["1", "0"])) {
                    let _ = proc.write(PING.0, PING.1);
                }
            }
            set(proc, spec)?;
        }
    }
    Ok(NAMESPACES & !abi::c::CLONE_NEWNET)
}

/// Lets the caller connect the namespace, before anything runs in it.
pub fn wait(spec: &LaunchSpec) -> Result<(), Failure> {
    let Some(fd) = spec.network_fd else { return Ok(()) };
    report(spec.events_fd, &Event::Network {});
    let fd = host::process::take(fd);
    match rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut [0u8])).context("waiting for the network")? {
        1 => Ok(()),
        _ => Err(Failure::new("the network could not be connected")),
    }
}

/// In the sandbox's first process, root of its user namespace, before it gives that up: loopback works, and the two
/// settings that keep an unprivileged sentry from serving root's ports and ping are lifted.
pub fn set_up(spec: &LaunchSpec, proc: &Proc) -> Result<(), Failure> {
    match &spec.network {
        Network::Host | Network::Ns(_) => Ok(()),
        Network::None | Network::User => {
            host::net::raise("lo").context("bringing up the loopback interface")?;
            for (name, value) in [PORTS, PING].into_iter().filter(|_| serves(spec)) {
                proc.write(name, value)?;
            }
            set(proc, spec)
        }
    }
}

/// Whether it is served by somebody without rights: an OCI container on the host's kernel asks that kernel itself.
fn serves(spec: &LaunchSpec) -> bool {
    spec.shared.as_ref().is_none_or(|shared| shared.oci.is_none())
}

/// What the operator wants otherwise than the host has it for a new namespace.
fn set(proc: &Proc, spec: &LaunchSpec) -> Result<(), Failure> {
    let of_network = spec.sysctls.iter().filter(|(name, _)| name.starts_with("net/"));
    let mut named = of_network.map(|(name, value)| (format!("sys/{name}"), value));
    // Whose ports the low ones are the sentry decides, which must be able to take them all.
    named.try_for_each(|(name, value)| if name == PORTS.0 && serves(spec) { Ok(()) } else { proc.write(&name, value) })
}
