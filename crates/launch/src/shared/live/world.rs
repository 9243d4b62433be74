//! Every thread of a running container, stopped. Each that is seized stops, and what it makes before that is seized with
//! it; so the lists of processes are read until they hold nobody new.
use crate::error::{Context, Failure};
use crate::proc::Proc;
use abi::Errno;
use host::ptrace::{self, Report};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long all of it may take. Meanwhile the container stands still.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that another waits for may go on, before it is stopped again.
const BREATH: Duration = Duration::from_millis(3);

/// Which processes are the container's: those in its control groups, or, where it has none, in its pid namespace and in
/// those below.
pub struct Members {
    groups: Vec<String>,
    namespace: (u64, u64),
    own: (u64, u64),
}

impl Members {
    pub fn of(proc: &Proc, first: i32, groups: &[String]) -> Result<Members, Failure> {
        let identity =
            |name: &str| -> Result<(u64, u64), Failure> { identity(&proc.namespace(name)?).context("a pid namespace") };
        let (namespace, own) = (identity(&format!("{first}/ns/pid"))?, identity("self/ns/pid")?);
        let groups: Vec<String> = groups.iter().filter(|g| !processes(Path::new(g)).is_empty()).cloned().collect();
        if groups.is_empty() && namespace == own {
            return Err(Failure::new("the container has neither a control group nor a pid namespace of its own"));
        }
        Ok(Members { groups, namespace, own })
    }

    /// Newest first: a process that only hands on to the next one is met before it has.
    fn list(&self, proc: &Proc) -> Result<Vec<i32>, Failure> {
        let mut found: Vec<i32> = match self.groups.is_empty() {
            false => self.groups.iter().flat_map(|group| processes(Path::new(group))).collect(),
            true => proc.numbers("")?.into_iter().filter(|pid| self.inside(proc, *pid)).collect(),
        };
        found.sort_unstable();
        found.dedup();
        found.reverse();
        Ok(found)
    }

    fn inside(&self, proc: &Proc, pid: i32) -> bool {
        let mut at = proc.namespace(&format!("{pid}/ns/pid")).ok();
        while let Some(namespace) = at {
            match identity(&namespace) {
                Ok(id) if id == self.namespace => return true,
                Ok(id) if id != self.own => at = host::process::parent_namespace(namespace.as_fd()).ok(),
                _ => return false,
            }
        }
        false
    }
}

fn identity(namespace: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    rustix::fs::fstat(namespace).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Of a group and those below it.
fn processes(group: &Path) -> Vec<i32> {
    let own = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// What is asked of a thread's status, proc_pid_status(5).
pub struct Status {
    pub name: String,
    pub process: i32,
    pub parent: i32,
    state: char,
    tracer: i32,
    filtered: bool,
    /// It may have more filters and rules put on it: no_new_privs, or CAP_SYS_ADMIN.
    pub takes_rules: bool,
}

impl Status {
    pub fn of(proc: &Proc, tid: i32) -> Option<Status> {
        let text = proc.read(&format!("{tid}/status")).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map_or("", str::trim)
        };
        let number = |name| field(name).parse().unwrap_or(0);
        let effective = u64::from_str_radix(field("CapEff"), 16).unwrap_or(0);
        Some(Status {
            name: field("Name").into(),
            process: number("Tgid"),
            parent: number("PPid"),
            state: field("State").chars().next().unwrap_or('X'),
            tracer: number("TracerPid"),
            filtered: field("Seccomp") == "2",
            takes_rules: field("NoNewPrivs") == "1" || effective & host::caps::CapabilitySet::SYS_ADMIN.bits() != 0,
        })
    }

    fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

struct Thread {
    process: i32,
    stopped: bool,
}

/// The container's threads, of which this process is the tracer.
pub struct World<'a> {
    proc: &'a Proc,
    members: Members,
    threads: BTreeMap<i32, Thread>,
}

impl<'a> World<'a> {
    /// Stops it. On failure nothing has changed, and it goes on when this process ends.
    pub fn stop(proc: &'a Proc, members: Members) -> Result<World<'a>, Failure> {
        let mut world = World { proc, members, threads: BTreeMap::new() };
        let end = Instant::now() + PATIENCE;
        let mut quiet = 0;
        let mut tick = Instant::now() + BREATH;
        while quiet < 2 {
            let new = world.seize()?;
            world.collect();
            let running = world.running();
            quiet = if new || !running.is_empty() { 0 } else { quiet + 1 };
            if Instant::now() > end {
                return Err(world.does_not_stop(&running));
            }
            if !running.is_empty() && Instant::now() > tick {
                world.let_others_go(&running);
                tick = Instant::now() + BREATH;
            }
            if !new && quiet == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(world)
    }

    /// Its threads by process.
    pub fn processes(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut found: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (&tid, thread) in &self.threads {
            found.entry(thread.process).or_default().push(tid);
        }
        found
    }

    /// Becomes the tracer of those that are not yet known; whether there were any.
    fn seize(&mut self) -> Result<bool, Failure> {
        let mut new = false;
        for pid in self.members.list(self.proc)? {
            for tid in self.proc.numbers(&format!("{pid}/task")).unwrap_or_default() {
                if !self.threads.contains_key(&tid) {
                    new |= self.seize_one(tid)?;
                }
            }
        }
        Ok(new)
    }

    fn seize_one(&mut self, tid: i32) -> Result<bool, Failure> {
        match ptrace::seize_for_a_while(tid) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(false),
            Err(e) => {
                let Some(status) = Status::of(self.proc, tid).filter(|status| !status.ended()) else {
                    return Ok(false);
                };
                // What one of ours has made is ours, and may not have reported yet.
                if status.tracer != self.proc.own_number()? {
                    let why = if status.tracer == 0 { e.to_string() } else { "another process traces it".into() };
                    return Err(Failure::new(format!("process {tid} ({}) cannot be stopped: {why}", status.name)));
                }
            }
        }
        let Some(status) = Status::of(self.proc, tid) else { return Ok(true) };
        self.threads.insert(tid, Thread { process: status.process, stopped: false });
        let _ = ptrace::interrupt(tid);
        Ok(true)
    }

    /// What they report. A signal that came first is acted on first.
    fn collect(&mut self) {
        while let Ok(Some((tid, report))) = ptrace::wait(None, false) {
            let _ = match report {
                Report::Gone => {
                    self.threads.remove(&tid);
                    continue;
                }
                // Interrupted, just made, or stopped with its process by a signal.
                Report::Paused | Report::Other => {
                    let process = Status::of(self.proc, tid).map_or(tid, |status| status.process);
                    self.threads.insert(tid, Thread { process, stopped: true });
                    continue;
                }
                Report::Made | Report::Call => ptrace::go(tid),
                Report::Signal(number) => ptrace::go_with(tid, number),
            };
            let _ = ptrace::interrupt(tid);
        }
    }

    /// Those who have not stopped; who has ended does not count.
    fn running(&mut self) -> Vec<i32> {
        let running: Vec<i32> = self.threads.iter().filter(|(_, t)| !t.stopped).map(|(&tid, _)| tid).collect();
        let proc = self.proc;
        let alive = |tid: &i32| Status::of(proc, *tid).is_some_and(|status| !status.ended());
        let (alive, ended): (Vec<i32>, Vec<i32>) = running.into_iter().partition(alive);
        for tid in ended {
            self.threads.remove(&tid);
        }
        alive
    }

    /// Who has called vfork stops only when its child has become a program or has ended: for that it goes on.
    fn let_others_go(&mut self, running: &[i32]) {
        let wait: Vec<i32> = running.iter().map(|tid| self.threads[tid].process).collect();
        for tid in running {
            let _ = ptrace::interrupt(*tid);
        }
        for (&tid, thread) in &mut self.threads {
            let child = || Status::of(self.proc, tid).is_some_and(|status| wait.contains(&status.parent));
            if thread.stopped && child() && ptrace::go(tid).is_ok() {
                thread.stopped = false;
            }
        }
    }

    fn does_not_stop(&self, running: &[i32]) -> Failure {
        let tid = running.first().copied().unwrap_or(0);
        match Status::of(self.proc, tid) {
            Some(status) => Failure::new(format!(
                "process {tid} ({}) does not come to a stop: it waits in the host's kernel, or for a child of vfork",
                status.name
            )),
            None => Failure::new("the container makes processes faster than they can be stopped"),
        }
    }

    /// Leaves alone those that are behind none of the container's filters: somebody outside has put them there.
    pub fn only_filtered(&mut self) -> Result<(), Failure> {
        let proc = self.proc;
        let outside = |tid: &i32| Status::of(proc, *tid).is_none_or(|status| !status.filtered);
        for tid in self.threads.keys().copied().filter(outside).collect::<Vec<i32>>() {
            self.threads.remove(&tid);
            let _ = ptrace::detach(tid);
        }
        match self.threads.is_empty() {
            true => Err(Failure::new("the container has ended")),
            false => Ok(()),
        }
    }
}
