//! Reading the operator's request and refusing what cannot be meant.
use crate::error::{Context, Failure};
use std::io::Read;
use wire::shared::SharedSpec;
use wire::{LaunchSpec, Network, Overlay};

/// No honest request is larger.
const MAX_BYTES: u64 = 16 << 20;
const MAX_ID: usize = 64;
const MAX_HOSTNAME: usize = 64;
/// The host's shortest quota is 1 ms in each 100 ms.
const MIN_MILLICPUS: u64 = 10;
/// Below this the sentry itself does not fit.
const MIN_MEMORY: u64 = 16 << 20;

/// The text of the request: of a file, or of standard input for `-`.
pub fn read(path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path {
        "-" => std::io::stdin().take(MAX_BYTES).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_string(&mut text)),
    };
    read.context(&format!("reading the launch specification {path}"))?;
    Ok(text)
}

/// Where events go, even if the rest cannot be understood.
pub fn events_fd(text: &str) -> Option<i32> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let fd = i32::try_from(value.get("events_fd")?.as_i64()?).ok()?;
    host::process::is_open(fd).then_some(fd)
}

/// The request, checked.
pub fn parse(text: &str) -> Result<LaunchSpec, Failure> {
    let spec: LaunchSpec = serde_json::from_str(text).context("launch specification")?;
    check(&spec)?;
    Ok(spec)
}

fn check(spec: &LaunchSpec) -> Result<(), Failure> {
    let id = spec.id.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    require(!id.is_empty() && id.len() <= MAX_ID && id.iter().all(plain), || {
        format!("id {:?}: must be 1 to {MAX_ID} of a-z, 0-9 and -", spec.id)
    })?;
    require(spec.hostname.len() <= MAX_HOSTNAME && !spec.hostname.contains('\0'), || {
        format!("hostname: must be at most {MAX_HOSTNAME} bytes")
    })?;
    absolute("root", &spec.root.path)?;
    match &spec.shared {
        None => [("sentry", &spec.sentry), ("stub", &spec.stub)].iter().try_for_each(|(what, p)| absolute(what, p))?,
        Some(shared) => check_shared(spec, shared)?,
    }
    if let Overlay::Dir(upper) = &spec.root.overlay {
        absolute("overlay", upper)?;
    }
    for v in &spec.volumes {
        require(v.file_system.is_none() || spec.shared.is_some(), || {
            format!("volume target {:?}: file_system: on the shared kernel only", v.target)
        })?;
        v.source.iter().try_for_each(|source| absolute("volume source", source))?;
        inside("volume target", &v.target)?;
    }
    for device in &spec.devices {
        inside("device", &device.path)?;
        require("cubp".contains(device.kind), || format!("device {:?}: no kind {:?}", device.path, device.kind))?;
    }
    for path in spec.masked.iter().chain(&spec.read_only) {
        absolute("masked or read-only path", path)?;
    }
    for path in spec.cgroups.iter().flatten() {
        absolute("cgroup", path)?;
    }
    for name in spec.sysctls.keys() {
        let network = name.starts_with("net/");
        let ours =
            network || of_ipc(name) && spec.shared.as_ref().map_or(spec.join_fd.is_none(), |shared| own_ipc(shared));
        let plain = ours && !name.split('/').any(|part| part.is_empty() || part == "..");
        require(plain, || format!("sysctl {name:?}: only those of the network and of IPC can be set"))?;
        let own = !network || spec.network != Network::Host;
        require(own, || format!("sysctl {name:?}: the network is the host's"))?;
    }
    require(!spec.detached || spec.caller_fd.is_some(), || {
        "detached: needs a caller_fd, over which it is kept".into()
    })?;
    for f in &spec.files {
        absolute("file", &f.target)?;
    }
    if let Network::Ns(path) = &spec.network {
        absolute("network namespace", path)?;
    }
    require((spec.network == Network::User) == spec.network_fd.is_some(), || {
        "network_fd: belongs to the network \"user\", and to no other".into()
    })?;
    require(!spec.hold || spec.control_fd.or(spec.join_fd).is_some(), || {
        "hold: needs a control_fd, over which it is ended".into()
    })?;
    let member = spec.join_fd.is_some() && !spec.shared.as_ref().is_some_and(|shared| shared.enter);
    require(!member || spec.hold && !matches!(spec.network, Network::None | Network::User), || {
        "join_fd: such a container is held, and has the sandbox's network".into()
    })?;
    require(spec.ids.is_none() || spec.shared.is_none(), || "ids: the shared kernel keeps the host's".into())?;
    let p = &spec.process;
    require(!p.args.is_empty(), || "process: there is no command".into())?;
    absolute("working directory", &p.cwd)?;
    require(!p.args.iter().chain(&p.env).any(|s| s.contains('\0')), || {
        "process: arguments and environment must not have NUL bytes".into()
    })?;
    let at_least = |what, value: Option<u64>, min| {
        require(value.is_none_or(|v| v >= min), || format!("limit {what}: must be at least {min}"))
    };
    at_least("memory", spec.limits.memory, MIN_MEMORY)?;
    at_least("millicpus", spec.limits.millicpus, MIN_MILLICPUS)?;
    at_least("pids", spec.limits.pids, 1)?;
    for (what, fd) in [
        ("events_fd", Some(spec.events_fd)),
        ("strace_fd", spec.strace_fd),
        ("log_fd", spec.log_fd),
        ("caller_fd", spec.caller_fd),
        ("network_fd", spec.network_fd),
        ("control_fd", spec.control_fd),
        ("join_fd", spec.join_fd),
    ] {
        require(fd.is_none_or(host::process::is_open), || {
            format!("{what}: the launcher did not inherit this descriptor")
        })?;
    }
    Ok(())
}

fn check_shared(spec: &LaunchSpec, shared: &SharedSpec) -> Result<(), Failure> {
    let oci = shared.oci.is_some() || shared.enter;
    require(oci || !spec.detached && !spec.hold, || "detached, hold: not without oci".into())?;
    require(!shared.enter || spec.join_fd.is_some(), || "enter: needs a join_fd".into())?;
    require(shared.console.as_ref().is_none_or(|c| host::process::is_open(c.fd)), || {
        "console: the launcher did not inherit this descriptor".into()
    })?;
    require(shared.plugin_fd.is_none_or(host::process::is_open), || {
        "plugin_fd: the launcher did not inherit this descriptor".into()
    })?;
    let devices = shared.oci.iter().flat_map(|oci| &oci.devices);
    devices.into_iter().try_for_each(|device| absolute("device", &device.path))?;
    require(spec.strace_fd.is_none(), || "strace_fd: the shared kernel has no trace".into())?;
    require(spec.process.seccomp.is_empty(), || "process.seccomp: belongs into shared.filter".into())?;
    let fits = shared.filter.len() <= bpf::MAX_INSNS;
    require(fits, || format!("filter: more than {} instructions", bpf::MAX_INSNS))?;
    for rule in &shared.file_rules {
        absolute("file rule", &rule.path)?;
        require(rule.allow.unwrap_or(0) | rule.deny | shared.default_access <= 7, || {
            format!("file rule {:?}: access is of three bits", rule.path)
        })?;
    }
    for view in &shared.sysctl_views {
        let plain = !view.name.split('/').any(|part| part.is_empty() || part == "." || part == "..");
        require(plain, || format!("sysctl view {:?}: no name", view.name))?;
        let own = !view.own || !view.name.starts_with("net/") || spec.network != Network::Host;
        require(own, || format!("sysctl {:?}: the network is the host's", view.name))?;
    }
    Ok(())
}

/// A setting that an IPC namespace of the container's own has.
fn of_ipc(name: &str) -> bool {
    ["kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/"].iter().any(|start| name.starts_with(start))
}

/// Has the container on the host's kernel an IPC namespace of its own?
fn own_ipc(shared: &SharedSpec) -> bool {
    shared.oci.as_ref().is_some_and(|oci| oci.namespaces.contains_key("ipc"))
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(message())) }
}

fn absolute(what: &str, path: &str) -> Result<(), Failure> {
    require(path.starts_with('/') && !path.contains('\0'), || format!("{what} {path:?}: must be an absolute path"))
}

/// A path in the sandbox.
fn inside(what: &str, path: &str) -> Result<(), Failure> {
    absolute(what, path)?;
    require(!path.split('/').any(|part| part == ".." || part == "."), || {
        format!("{what} {path:?}: must not have . or .. in it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut serde_json::Value)) -> Result<LaunchSpec, Failure> {
        let mut v = serde_json::json!({
            "id": "a-1", "sentry": "/s", "stub": "/t", "root": {"path": "/r"},
            "process": {"args": ["true"], "env": [], "cwd": "/"}, "events_fd": 2,
        });
        change(&mut v);
        parse(&v.to_string())
    }

    fn refused(change: impl FnOnce(&mut serde_json::Value), why: &str) {
        let message = with(change).expect_err(why).to_string();
        assert!(message.contains(why), "{message}");
    }

    #[test]
    fn defaults() {
        let spec = with(|_| {}).expect("valid");
        assert_eq!(spec.root.overlay, Overlay::Memory);
        assert_eq!(spec.hostname, "rvisor");
    }

    #[test]
    fn refusals() {
        refused(|v| v["id"] = "A".into(), "id \"A\"");
        refused(|v| v["id"] = "".into(), "id");
        refused(|v| v["id"] = "a/../b".into(), "id");
        refused(|v| v["root"]["path"] = "r".into(), "root \"r\": must be an absolute path");
        refused(|v| v["process"]["args"] = serde_json::json!([]), "no command");
        refused(|v| v["process"]["cwd"] = "".into(), "working directory");
        refused(|v| v["process"]["env"] = serde_json::json!(["A=\0"]), "NUL");
        refused(|v| v["limits"] = serde_json::json!({"millicpus": 9}), "millicpus");
        refused(|v| v["limits"] = serde_json::json!({"memory": 4096}), "memory");
        refused(|v| v["events_fd"] = 999.into(), "events_fd");
        refused(|v| v["hold"] = true.into(), "control_fd");
        refused(|v| v["control_fd"] = 999.into(), "control_fd");
        refused(|v| v["surprise"] = 1.into(), "unknown field");
        refused(|v| v["detached"] = true.into(), "caller_fd");
        refused(|v| v["sysctls"] = serde_json::json!({"kernel/panic": "1"}), "only those of the network");
        refused(|v| v["sysctls"] = serde_json::json!({"net/../kernel/panic": "1"}), "only those of the network");
        refused(|v| v["masked"] = serde_json::json!(["proc"]), "absolute");
        let volume = serde_json::json!([{"source": "/a", "target": "/b/../c"}]);
        refused(|v| v["volumes"] = volume, "..");
    }

    #[test]
    fn events_go_where_they_can() {
        assert_eq!(events_fd(r#"{"events_fd": 2, "id": 7}"#), Some(2));
        assert_eq!(events_fd(r#"{"events_fd": 9999}"#), None);
        assert_eq!(events_fd("nonsense"), None);
    }
}
