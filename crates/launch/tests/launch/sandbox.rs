//! What the sentry and the stubs really get, seen from outside.
use crate::common::{self, By, Place, Sandbox, USER, eventually, fds, read, running, status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

fn namespace(pid: i32, kind: &str) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect(kind)
}

fn confined(s: &Sandbox, by: By) {
    let me = std::process::id() as i32;
    let stub = s.stub();
    for kind in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let all: BTreeSet<_> = [me, s.sentry, s.init].map(|p| namespace(p, kind)).into();
        assert_eq!(all.len(), 3, "{kind} namespaces: {all:?}");
        assert_eq!(namespace(s.init, kind), namespace(stub, kind));
    }
    let (sentry, init) = (status(s.sentry), status(s.init));
    assert_eq!(sentry["PPid"], me.to_string(), "the sentry is the caller's child");
    assert_eq!(sentry["NSpid"].split_whitespace().count(), me_depth() + 1);
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
    let kept = format!("{:016x}", 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4);
    let none = format!("{:016x}", 0);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!((&sentry[set], &init[set]), (&kept, &none), "{set}");
    }
    for set in ["CapInh", "CapAmb", "SigIgn", "SigBlk"] {
        assert_eq!((&sentry[set], &init[set]), (&none, &none), "{set}");
    }
    assert_eq!((sentry["NoNewPrivs"].as_str(), init["NoNewPrivs"].as_str()), ("1", "1"));
    let four = |id: u32| [id.to_string().as_str(); 4].join("\t");
    let (sentry_id, stub_id) = if by == By::Root { (0, 65534) } else { (USER, USER) };
    assert_eq!((&sentry["Uid"], &sentry["Gid"]), (&four(sentry_id), &four(sentry_id)));
    assert_eq!((&init["Uid"], &init["Gid"]), (&four(stub_id), &four(stub_id)));
    assert_eq!((sentry["Groups"].as_str(), init["Groups"].as_str()), ("", ""));

    for (pid, what) in [(s.sentry, "sentry"), (s.init, "init"), (stub, "stub")] {
        let mounts = read(pid, "mountinfo");
        assert_eq!(mounts.lines().count(), 1, "{what}: {mounts}");
        assert!(mounts.contains(" / / ro,nosuid,nodev,noexec") && mounts.contains(" - tmpfs "), "{mounts}");
        let root = std::fs::read_dir(format!("/proc/{pid}/root/")).expect("root");
        assert_eq!(root.count(), 0, "{what}: files in the root");
        assert!(read(pid, "limits").lines().any(|l| l.starts_with("Max core file size        0")), "{what}");
        let session = read(pid, "stat").rsplit(") ").next().expect("stat").split(' ').nth(3).map(str::to_string);
        // The sentry's terminal, if it has one, is none of the stubs'.
        let leader = if what == "sentry" { s.sentry } else { s.init };
        assert_eq!(session, Some(leader.to_string()), "{what}: session");
    }
    assert_eq!((fds(s.init), fds(stub)), ([3].into(), [3].into()));
    assert_eq!(read(s.init, "oom_score_adj"), "1000");
    assert_eq!(read(s.sentry, "oom_score_adj"), read(me, "oom_score_adj"));
    assert_eq!(read(s.init, "personality"), "00040000");
    assert_eq!(read(s.init, "cmdline"), "stub\0");
    assert_eq!(read(s.init, "environ"), "");
}

fn me_depth() -> usize {
    status(std::process::id() as i32)["NSpid"].split_whitespace().count()
}

fn told(s: &Sandbox, by: By) {
    let r = &s.report;
    for (key, want) in [
        ("pid", json!(1)),
        ("read", json!(true)),
        ("wrote", json!(true)),
        ("root", json!(0)),
        ("root_writable", json!(false)),
        ("proc", json!(false)),
        ("environment", json!(0)),
        ("umask", json!(0)),
        ("fd_limit_raised", json!(true)),
    ] {
        assert_eq!(r[key], want, "{key}");
    }
    let spec = &r["spec"];
    assert_eq!(spec["ids"], json!(if by == By::Root { "identity" } else { "single" }));
    assert_eq!(spec["init_pid"], 2);
    let cpus = std::thread::available_parallelism().expect("count").get();
    assert!(spec["millicpus"].as_u64().is_some_and(|m| m >= 1000 && m % 1000 == 0 && m <= 64_000 * cpus as u64));
    let started = spec["started_ns"].as_u64().expect("time");
    let age = host::time::monotonic_ns() - started;
    assert!(age < 60_000_000_000, "{age}");
    let numbers = |v: &Value| v.as_i64().expect("descriptor") as i32;
    let lower = numbers(&spec["mounts"][0]["lower_fd"]);
    let expected: BTreeSet<i32> = [0, 1, 2, lower, numbers(&spec["init_fd"]), numbers(&spec["memory_fd"])].into();
    let mut have = fds(s.sentry);
    // The stand-in owns this one and may have closed it.
    have.retain(|fd| {
        !std::fs::read_link(format!("/proc/{}/fd/{fd}", s.sentry))
            .is_ok_and(|l| l.to_string_lossy().contains("memfd:spec"))
    });
    assert_eq!(have, expected);
}

#[test]
fn root_is_confined() {
    let place = Place::new("root");
    let s = place.launch(By::Root, &place.spec("t-root"));
    told(&s, By::Root);
    confined(&s, By::Root);
}

#[test]
fn an_ordinary_user_is_confined() {
    let place = Place::new("user");
    let s = place.launch(By::User, &place.spec("t-user"));
    told(&s, By::User);
    confined(&s, By::User);
}

fn outcome<'a>(s: &'a Sandbox, target: &str, index: usize, what: &str) -> &'a str {
    s.report["trees"][target][index][what].as_str().expect("an outcome")
}

/// Where the sentry can write, whatever it is made to try.
fn writes(by: By) {
    let place = Place::new(if by == By::Root { "writes-root" } else { "writes-user" });
    for dir in ["upper", "ro", "rw"] {
        std::fs::create_dir(place.0.join(dir)).expect("directory");
        common::mode(&place.0.join(dir), 0o777);
    }
    std::fs::write(place.0.join("file"), "text").expect("file");
    let made = |dir: &str| place.0.join(dir).join("made-by-sentry");
    let mut spec = place.spec("t-writes");
    spec["volumes"] = json!([
        {"source": place.path("ro"), "target": "/ro", "read_only": true},
        {"source": place.path("rw"), "target": "/rw"},
        {"source": place.path("file"), "target": "/etc/file", "read_only": true},
    ]);
    let device = rustix::fs::mknodat(
        rustix::fs::CWD,
        place.0.join("root/null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    );
    assert!(device.is_ok(), "{device:?}");

    let s = place.launch(by, &spec);
    let targets: Vec<&str> =
        s.report["spec"]["mounts"].as_array().expect("list").iter().filter_map(|m| m["target"].as_str()).collect();
    assert_eq!(
        targets,
        ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/ro", "/rw", "/etc/file"]
    );
    assert!(outcome(&s, "/", 0, "create").contains("ReadOnlyFilesystem"));
    assert!(outcome(&s, "/", 0, "device").contains("PermissionDenied"), "a device opened");
    assert!(outcome(&s, "/ro", 0, "create").contains("ReadOnlyFilesystem"));
    assert_eq!(outcome(&s, "/rw", 0, "create"), "ok");
    assert!(outcome(&s, "/etc/file", 0, "create").contains("NotADirectory"));
    assert!(!made("root").exists() && !made("ro").exists());
    let written = std::fs::metadata(made("rw")).expect("written");
    assert_eq!(written.uid(), if by == By::Root { 0 } else { USER });
    assert_eq!(written.mode() & 0o777, 0o666, "no umask of the host's");
    drop(s);

    spec["root"]["overlay"] = json!({"dir": place.path("upper")});
    let s = place.launch(by, &spec);
    assert!(outcome(&s, "/", 0, "create").contains("ReadOnlyFilesystem"));
    assert_eq!(outcome(&s, "/", 1, "create"), "ok");
    assert!(made("upper").exists() && !made("root").exists());
    drop(s);

    spec["root"]["overlay"] = json!("none");
    let s = place.launch(by, &spec);
    assert_eq!(s.report["spec"]["mounts"][0]["kind"], "host");
    assert_eq!(outcome(&s, "/", 0, "create"), "ok");
    assert!(made("root").exists());
}

#[test]
fn root_writes_where_allowed() {
    writes(By::Root);
}

#[test]
fn a_user_writes_where_allowed() {
    writes(By::User);
}

#[test]
fn only_named_descriptors_are_inherited() {
    let place = Place::new("fds");
    let mut spec = place.spec("t-fds");
    spec["strace_fd"] = 21.into();
    spec["log_fd"] = 22.into();
    std::fs::write(place.path("spec.json"), spec.to_string()).expect("specification");
    let script = "exec \"$0\"/launch \"$0\"/spec.json 21>/dev/null 22>/dev/null 23</etc/passwd";
    let mut launcher = Command::new("bash")
        .args(["-c", script, place.0.to_str().expect("text")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("shell");
    let mut events = std::io::BufReader::new(launcher.stdout.take().expect("pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut events, &mut line).expect("event");
    let launched: Value = serde_json::from_str(&line).expect(&line);
    let sentry = launched["pid"].as_i64().expect("pid") as i32;
    assert!(launcher.wait().expect("launcher").success());
    let have = fds(sentry);
    assert!(have.contains(&21) && have.contains(&22) && !have.contains(&23), "{have:?}");
    for fd in have {
        let link = std::fs::read_link(format!("/proc/{sentry}/fd/{fd}")).unwrap_or_default();
        assert_ne!(link, std::path::Path::new("/etc/passwd"));
    }
    let pid = rustix::process::Pid::from_raw(sentry).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    assert!(common::reap(sentry));
}

/// The caller is killed outright: nothing of the sandbox may live on.
fn dies_with_caller(by: By) {
    let place = Place::new(if by == By::Root { "death-root" } else { "death-user" });
    std::fs::write(place.path("spec.json"), place.spec("t-death").to_string()).expect("specification");
    let become_user = match by {
        By::Root => String::new(),
        By::User => format!("setpriv --reuid={USER} --regid={USER} --clear-groups "),
    };
    let script = format!("{become_user}\"$0\"/launch \"$0\"/spec.json; exec sleep 1000");
    let mut caller = Command::new("sh")
        .args(["-c", &script, place.0.to_str().expect("text")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("shell");
    let mut events = std::io::BufReader::new(caller.stdout.take().expect("pipe"));
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        std::io::BufRead::read_line(&mut events, line).expect("event");
    }
    let launched: Value = serde_json::from_str(&lines[0]).expect(&lines[0]);
    let sentry = launched["pid"].as_i64().expect("pid") as i32;
    let init = common::only_child(sentry);
    let stub = common::only_child(init);
    assert_eq!(status(sentry)["PPid"], caller.id().to_string());
    caller.kill().expect("kill");
    caller.wait().expect("end");
    assert!(eventually(|| ![sentry, init, stub].into_iter().any(running)), "something lives on");
}

#[test]
fn root_dies_with_caller() {
    dies_with_caller(By::Root);
}

#[test]
fn a_user_dies_with_caller() {
    dies_with_caller(By::User);
}

#[test]
fn stubs_die_with_the_sentry() {
    let place = Place::new("sentry-death");
    let s = place.launch(By::Root, &place.spec("t-sentry-death"));
    let (init, stub) = (s.init, s.stub());
    drop(s);
    assert!(eventually(|| !running(init) && !running(stub)));
}
