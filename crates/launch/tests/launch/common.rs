//! Launches the stand-ins (`examples/standin.rs`) and looks at them from outside. Needs root: what root and
//! an ordinary user get is compared.
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// An ordinary user.
pub const USER: u32 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Root,
    User,
}

/// A directory of one test: the executables, a root directory, and what the test adds.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> Place {
        assert!(rustix::process::geteuid().is_root(), "these tests must be run as root");
        let dir = std::env::temp_dir().join(format!("rvisor-launch-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("root")).expect("directory");
        let built = Path::new(env!("CARGO_BIN_EXE_rvisor-launch"));
        let standin = built.parent().expect("directory").join("examples/standin");
        for (from, to) in [(built, "launch"), (&standin, "sentry"), (&standin, "stub")] {
            std::fs::copy(from, dir.join(to)).expect("executable");
            mode(&dir.join(to), 0o755);
        }
        mode(&dir, 0o777);
        mode(&dir.join("root"), 0o777);
        Place(dir)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").into()
    }

    pub fn spec(&self, id: &str) -> Value {
        json!({
            "id": id, "sentry": self.path("sentry"), "stub": self.path("stub"),
            "root": {"path": self.path("root")},
            "process": {"args": ["true"], "env": [], "cwd": "/"}, "events_fd": 1,
        })
    }

    /// Starts the launcher with its events on a pipe.
    pub fn start(&self, by: By, spec: &Value) -> Launcher {
        let file = self.path("spec.json");
        std::fs::write(&file, spec.to_string()).expect("specification");
        let mut command = match by {
            By::Root => Command::new(self.path("launch")),
            By::User => {
                let mut c = Command::new("setpriv");
                c.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
                c.arg(self.path("launch"));
                c
            }
        };
        let command = command.arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("launcher");
        let events = BufReader::new(child.stdout.take().expect("pipe"));
        Launcher { child, events }
    }

    /// Launches, and waits for the sentry's report.
    pub fn launch(&self, by: By, spec: &Value) -> Sandbox {
        let mut launcher = self.start(by, spec);
        let launched = launcher.event().expect("an event");
        let report = launcher.event();
        let (status, message) = launcher.end();
        assert_eq!(status, 0, "{message} {launched}");
        let report = report.expect("a report");
        assert_eq!((&launched["event"], &report["event"]), (&json!("launched"), &json!("standin")), "{report}");
        let sentry = launched["pid"].as_i64().expect("pid") as i32;
        Sandbox { sentry, init: only_child(sentry), launched, report }
    }

    /// Launches what must fail; the message.
    pub fn refuse(&self, by: By, spec: &Value) -> String {
        let mut launcher = self.start(by, spec);
        let mut events = Vec::new();
        while let Some(e) = launcher.event() {
            events.push(e);
        }
        let (status, message) = launcher.end();
        assert_eq!(status, 125, "{message}");
        let failed = events.pop().expect("an event");
        assert_eq!((&failed["event"], &failed["status"]), (&json!("failed"), &json!(125)));
        if let Some(launched) = events.pop() {
            // The dead process is ours to wait for; its cgroups are gone.
            let pid = launched["pid"].as_i64().expect("pid") as i32;
            assert!(reap(pid), "left running: {launched}");
            for dir in launched["cgroups"].as_array().into_iter().flatten() {
                assert!(!Path::new(dir.as_str().expect("path")).exists(), "left behind: {dir}");
            }
        }
        let failed = failed["message"].as_str().expect("message").to_string();
        assert!(message.contains(&format!("rvisor-launch: {failed}\n")), "{message}");
        failed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

pub struct Launcher {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Launcher {
    pub fn event(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.events.read_line(&mut line).expect("events");
        (!line.is_empty()).then(|| serde_json::from_str(&line).expect(&line))
    }

    /// Exit status, and what the launcher said on standard error, which the sentry shares.
    fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("launcher").code().expect("not killed");
        if status == 0 {
            return (status, String::new());
        }
        let mut text = String::new();
        self.child.stderr.take().expect("pipe").read_to_string(&mut text).expect("errors");
        (status, text)
    }
}

/// A running sandbox, our child.
pub struct Sandbox {
    pub sentry: i32,
    pub init: i32,
    pub launched: Value,
    pub report: Value,
}

impl Sandbox {
    pub fn stub(&self) -> i32 {
        only_child(self.init)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.sentry).expect("pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        reap(self.sentry);
    }
}

/// Waits up to two seconds for our child's end.
pub fn reap(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid);
    eventually(|| !matches!(rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG), Ok(None)))
}

pub fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

pub fn only_child(pid: i32) -> i32 {
    let of = |p: i32| status(p).get("PPid").is_some_and(|v| v == &pid.to_string());
    let mut found = Vec::new();
    eventually(|| {
        found = std::fs::read_dir("/proc")
            .expect("proc")
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
            .filter(|p| of(*p))
            .collect();
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "children of {pid}: {found:?}");
    found[0]
}

pub fn running(pid: i32) -> bool {
    status(pid).get("State").is_some_and(|s| !s.starts_with(['Z', 'X']))
}

/// The lines of `/proc/PID/status`; empty if there is no such process.
pub fn status(pid: i32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = |l: &str| l.split_once(':').map(|(k, v)| (k.to_string(), v.trim().to_string()));
    text.lines().filter_map(line).collect()
}

pub fn fds(pid: i32) -> BTreeSet<i32> {
    let name = |e: std::io::Result<std::fs::DirEntry>| {
        e.expect("entry").file_name().to_str().expect("text").parse().expect("number")
    };
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").map(name).collect()
}

pub fn read(pid: i32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect(name).trim().into()
}
