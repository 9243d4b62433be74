//! Limits, refusals, and that nothing is left behind. Needs the cgroup controllers memory, cpu and pids.
use crate::common::{self, By, Place};
use serde_json::json;
use std::path::Path;

fn value(dirs: &[String], names: [&str; 2]) -> String {
    let file = dirs.iter().flat_map(|d| names.map(|n| Path::new(d).join(n))).find(|f| f.exists());
    std::fs::read_to_string(file.unwrap_or_else(|| panic!("{names:?} in {dirs:?}"))).expect("value").trim().into()
}

#[test]
fn limits_hold_the_whole_sandbox() {
    let place = Place::new("limits");
    let mut spec = place.spec("t-limits");
    spec["limits"] = json!({"memory": 256 << 20, "millicpus": 500, "pids": 20});
    let s = place.launch(By::Root, &spec);
    assert_eq!(s.report["spec"]["millicpus"], 500);
    let dirs: Vec<String> = serde_json::from_value(s.launched["cgroups"].clone()).expect("cgroups");
    assert_eq!(value(&dirs, ["memory.limit_in_bytes", "memory.max"]), (256u64 << 20).to_string());
    assert_eq!(value(&dirs, ["pids.max", "pids.max"]), "52");
    let quota = value(&dirs, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["50000", "50000 100000"].contains(&quota.as_str()), "{quota}");
    for dir in &dirs {
        assert!(dir.ends_with("/rvisor-t-limits"), "{dir}");
        let inside = std::fs::read_to_string(Path::new(dir).join("cgroup.procs")).expect("processes");
        for pid in [s.sentry, s.init, s.stub()] {
            assert!(inside.lines().any(|l| l == pid.to_string()), "{pid} not in {dir}");
        }
    }
    let again = place.refuse(By::Root, &spec);
    assert!(again.contains("a sandbox with this id is running"), "{again}");
    drop(s);
    // A launch after the caller forgot to remove them takes them over.
    let s = place.launch(By::Root, &spec);
    drop(s);
    for dir in &dirs {
        std::fs::remove_dir(dir).expect("empty after the sandbox's end");
    }
}

#[test]
fn no_limits_no_cgroups() {
    let place = Place::new("no-limits");
    let s = place.launch(By::Root, &place.spec("t-no-limits"));
    assert!(s.launched.get("cgroups").is_none());
}

#[test]
fn a_user_cannot_set_limits() {
    let place = Place::new("user-limits");
    let mut spec = place.spec("t-user-limits");
    spec["limits"] = json!({"pids": 5});
    let message = place.refuse(By::User, &spec);
    assert!(message.contains("run without them or as root") || message.contains("cgroup controller"), "{message}");
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new("missing");
    let refuse = |key: &str, value: serde_json::Value, says: &str| {
        let mut spec = place.spec("t-missing");
        spec[key] = value;
        let message = place.refuse(By::Root, &spec);
        assert!(message.contains(says), "{key}: {message}");
    };
    refuse("root", json!({"path": place.path("nowhere")}), "nowhere: No such file");
    refuse("root", json!({"path": place.path("sentry")}), "it is not a directory");
    refuse("root", json!({"path": place.path("root"), "overlay": {"dir": "/no/upper"}}), "overlay directory /no/upper");
    refuse("sentry", json!(place.path("no-sentry")), "no-sentry: No such file");
    refuse("stub", json!(place.path("no-stub")), "no-stub: No such file");
    refuse("volumes", json!([{"source": "/no/volume", "target": "/x"}]), "volume source /no/volume");
    refuse("volumes", json!([{"source": "/dev/null", "target": "/x"}]), "neither a directory nor a regular file");
    refuse("id", json!("Not good"), "id");
    refuse("nonsense", json!(1), "unknown field");
    common::mode(&place.0.join("stub"), 0o700);
    refuse("hostname", json!("h"), "chmod 755");
}

/// Failures after the sandbox's first process exists: it ends, and its cgroups go.
#[test]
fn late_failures_leave_nothing() {
    let place = Place::new("late");
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    std::fs::write(place.path("text"), "not a program").expect("file");
    common::mode(&place.0.join("text"), 0o755);
    for by in [By::Root, By::User] {
        for (key, says) in [("sentry", "executing the sentry"), ("stub", "stub init: executing the stub")] {
            let mut spec = place.spec("t-late");
            spec[key] = json!(place.path("text"));
            if by == By::Root {
                spec["limits"] = json!({"memory": 64 << 20, "pids": 5});
            }
            let message = place.refuse(by, &spec);
            assert!(message.contains(says), "{message}");
        }
    }
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").expect("mounts"), before);
}

#[test]
fn reports_are_json() {
    let place = Place::new("reports");
    for (by, flag) in [(By::Root, "--doctor"), (By::Root, "--surface"), (By::User, "--doctor")] {
        let mut command = std::process::Command::new(place.path("launch"));
        if by == By::User {
            std::os::unix::process::CommandExt::uid(&mut command, common::USER);
        }
        let out = command.arg(flag).output().expect("launcher");
        assert!(out.status.success());
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        if flag == "--doctor" {
            for check in report.as_array().expect("a list") {
                let ok = check["ok"].as_bool().expect("ok");
                assert!(check["name"].is_string() && check["detail"].is_string());
                assert_eq!(ok, check["fix"] == "", "{check}");
            }
        } else {
            for part in ["stub", "sentry"] {
                assert!(report[part]["instructions"].as_u64().is_some_and(|n| n > 50 && n < 4096));
                let calls = report[part]["calls"].as_array().expect("a list");
                assert!(calls.iter().all(|c| c["reason"].as_str().is_some_and(|r| !r.is_empty())));
            }
        }
    }
}
