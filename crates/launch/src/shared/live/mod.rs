//! A narrower filter, or narrower file rules, for every process of a running container. Linux lets nobody put them on
//! another process, so each puts them on itself: all are stopped, make the calls, and go on as they were.
//!
//! First everything that can fail and can be undone, in every process; then what cannot be undone. A process that does not
//! take it then, as it has put too much on itself before, is ended.
mod thread;
mod world;

use super::{control, files};
use crate::error::{Context, Failure};
use crate::proc::Proc;
use abi::seccomp::Insn;
use abi::{Errno, c};
use host::landlock::Ruleset;
use host::process::{Cloned, clone_process};
use rustix::thread::ThreadNameSpaceType as Kind;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;
use thread::{Thread, Trouble};
use wire::shared::SharedSpec;
use world::{Members, Status, World};

/// `before` and `after`: the file rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// To be added; empty: none.
    filter: Vec<(u16, u8, u8, u32)>,
    before: SharedSpec,
    after: SharedSpec,
    groups: Vec<String>,
}

#[derive(Default, Serialize)]
struct Done {
    processes: usize,
    threads: usize,
    /// Those that could not take it.
    ended: Vec<String>,
    /// Why programs that are started later go without the file rules, if they do.
    not_later: Option<String>,
    /// How long the container stood still, in ns.
    stopped_ns: u128,
}

/// For the operator's side: `number` is a connection to the container's control socket; the request comes from standard
/// input. On failure nothing has changed.
pub fn change(number: &str) -> Result<(), Failure> {
    let request: Request = serde_json::from_str(&crate::spec::read("-")?).context("what is to change")?;
    let number = number.parse().ok().filter(|fd| host::process::is_open(*fd));
    let monitor = host::process::take(number.context_none("the control socket was not inherited")?);
    let program: Vec<Insn> = request.filter.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
    try_out(&program)?;
    let proc = Proc::open()?;
    let (container, _) = control::enter(&monitor, true)?;
    let first = proc.number_of(container.as_fd())?;
    let members = Members::of(&proc, first, &request.groups)?;
    let began = Instant::now();
    let mut world = World::stop(&proc, members)?;
    world.only_filtered()?;
    let ruleset = rules(&request, &proc, &container)?;
    let rules = Rules { proc: &proc, program: &program, ruleset: ruleset.as_ref() };
    let mut done = Done::default();
    if !program.is_empty() || ruleset.is_some() {
        let mut processes = rules.prepare_all(&world)?;
        processes.retain_mut(|process| rules.put_on(process, &mut done));
        done.processes = processes.len();
        done.threads = processes.iter().map(|process| process.threads.len()).sum();
        // Before anyone goes on: what came in later would be without them.
        let told = ruleset.as_ref().map_or(Ok(()), |ruleset| control::more_rules(&monitor, ruleset));
        let_go(processes);
        done.not_later = told.err().map(|failure| failure.to_string());
    }
    drop(world);
    done.stopped_ns = began.elapsed().as_nanos();
    crate::error::print(&serde_json::to_string(&done).context("the answer")?)
}

trait OrSay<T> {
    fn context_none(self, message: &str) -> Result<T, Failure>;
}

impl<T> OrSay<T> for Option<T> {
    fn context_none(self, message: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::new(message))
    }
}

/// Whether the host's kernel takes the program: a process of our own tries it.
fn try_out(program: &[Insn]) -> Result<(), Failure> {
    const REFUSED: i32 = 99;
    if program.is_empty() {
        return Ok(());
    }
    // SAFETY: the launcher has one thread from start to end.
    match unsafe { clone_process(0) }.context("a process to try the filter on")? {
        Cloned::Child => {
            let refused = host::seccomp::install(program).is_err();
            // The filter may refuse even that; then it ends by a signal.
            host::process::exit_now(if refused { REFUSED } else { 0 })
        }
        Cloned::Parent { pid, .. } => {
            let pid = rustix::process::Pid::from_raw(pid);
            let ended =
                rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).context("waiting for it")?;
            match ended.and_then(|(_, status)| status.exit_status()) {
                Some(REFUSED) => Err(Failure::new("the host's kernel does not take the filter")),
                _ => Ok(()),
            }
        }
    }
}

/// The new file rules, looked up in the container's root while nobody there can move anything; None: nothing changes.
fn rules(request: &Request, proc: &Proc, container: &OwnedFd) -> Result<Option<Ruleset>, Failure> {
    let alike = |a: &SharedSpec, b: &SharedSpec| a.default_access == b.default_access && a.file_rules == b.file_rules;
    if alike(&request.before, &request.after) {
        return Ok(None);
    }
    rustix::thread::move_into_thread_name_spaces(container.as_fd(), Kind::MOUNT)
        .context("entering the container's mounts")?;
    files::narrower(&request.before, &request.after, proc)
}

struct Rules<'a> {
    proc: &'a Proc,
    program: &'a [Insn],
    ruleset: Option<&'a Ruleset>,
}

/// One that has what it needs for the change; its first thread makes the calls that are its process's.
struct Process {
    threads: Vec<Thread>,
    name: String,
    place: u64,
    /// Memory of ours in it: `struct sock_fprog`, and the program.
    room: u64,
    size: u64,
    /// The ruleset's descriptor there.
    ruleset: Option<u64>,
}

/// Of a message's parts within the room, sendmsg(2): header, vector, control data, byte, pair of sockets.
const IOV: usize = 56;
const CONTROL: usize = 72;
const BYTE: usize = 96;
const PAIR: usize = 104;
const MESSAGE: usize = 112;
const FPROG: usize = 16;

impl Rules<'_> {
    fn prepare_all(&self, world: &World<'_>) -> Result<Vec<Process>, Failure> {
        let mut ready: Vec<Process> = Vec::new();
        for (pid, tids) in world.processes() {
            match self.prepare(pid, &tids) {
                Ok(process) => ready.extend(process),
                Err(failure) => {
                    let_go(ready);
                    return Err(failure);
                }
            }
        }
        Ok(ready)
    }

    /// None: it is dead.
    fn prepare(&self, pid: i32, tids: &[i32]) -> Result<Option<Process>, Failure> {
        let mut name = pid.to_string();
        for &tid in tids {
            let Some(status) = Status::of(self.proc, tid) else { return Ok(None) };
            name = format!("{pid} ({})", status.name);
            if !status.takes_rules {
                return Err(Failure::new(format!(
                    "process {name} may gain rights by exec, so Linux lets it put no filter or file rules on itself: \
                     a container started with no_new_privs can be changed"
                )));
            }
        }
        let Ok(threads) = tids.iter().map(|&tid| Thread::new(tid)).collect::<Result<Vec<_>, _>>() else {
            return Ok(None);
        };
        if !threads.iter().all(Thread::is_64_bit) {
            threads.into_iter().for_each(Thread::go);
            return Err(Failure::new(format!("process {name} runs 32-bit code")));
        }
        let Some(place) = self.place(threads[0].tid) else {
            threads.into_iter().for_each(Thread::go);
            return Err(Failure::new(format!("process {name} has no place to make a system call from")));
        };
        let size = (MESSAGE.max(FPROG + size_of_val(self.program)) as u64).next_multiple_of(4096);
        let mut process = Process { threads, name, place, room: 0, size, ruleset: None };
        match self.furnish(&mut process, pid) {
            Ok(()) => Ok(Some(process)),
            Err(Trouble::Gone) => Ok(None),
            Err(Trouble::Failed(e)) => {
                let failure = Failure::new(format!("process {} cannot be changed: {e}", process.name));
                let_go(vec![process]);
                Err(failure)
            }
        }
    }

    fn furnish(&self, process: &mut Process, pid: i32) -> Result<(), Trouble> {
        let all = if self.ruleset.is_some() { process.threads.len() } else { 1 };
        let place = process.place;
        process.threads[..all].iter_mut().try_for_each(|thread| thread.take(place))?;
        let size = process.size;
        let lead = &mut process.threads[0];
        let (prot, flags) = (c::PROT_READ | c::PROT_WRITE, c::MAP_PRIVATE | c::MAP_ANONYMOUS);
        let room = lead.call(c::SYS_mmap, [0, size, prot as u64, flags as u64, u64::MAX, 0])?;
        process.room = room;
        if let Some(ruleset) = self.ruleset {
            process.ruleset = Some(pass(lead, room, pid, ruleset)?);
        }
        let mut bytes = vec![0; FPROG];
        bytes[..2].copy_from_slice(&(self.program.len() as u16).to_ne_bytes());
        bytes[8..16].copy_from_slice(&(room + FPROG as u64).to_ne_bytes());
        for insn in self.program {
            bytes.extend(insn.code.to_ne_bytes());
            bytes.extend([insn.jt, insn.jf]);
            bytes.extend(insn.k.to_ne_bytes());
        }
        lead.set_memory(room, &bytes)
    }

    /// Of a `syscall` instruction: the host gives every process some for its clocks; who has done away with those has others.
    fn place(&self, tid: i32) -> Option<u64> {
        let maps = self.proc.read(&format!("{tid}/maps")).ok()?;
        let mut parts: Vec<(bool, u64, u64)> = maps.lines().filter_map(executable).collect();
        parts.sort_by_key(|part| !part.0);
        parts.into_iter().find_map(|(_, first, last)| {
            const MOST: u64 = 16 << 20;
            let mut code = vec![0; (last - first).min(MOST) as usize];
            let n = host::stub::read_memory(tid, first, &mut code).ok()?;
            let at = code[..n].windows(2).position(|pair| pair == [0x0f, 0x05])?;
            Some(first + at as u64)
        })
    }

    /// What cannot be undone; false if the process does not take it, and is ended.
    fn put_on(&self, process: &mut Process, done: &mut Done) -> bool {
        match self.restrict(process) {
            Ok(()) => true,
            Err(Trouble::Gone) => false,
            Err(Trouble::Failed(e)) => {
                host::ptrace::kill(process.threads[0].tid);
                done.ended.push(format!("{}: {e}", process.name));
                false
            }
        }
    }

    fn restrict(&self, process: &mut Process) -> Result<(), Trouble> {
        const SET_MODE_FILTER: u64 = 1;
        const TSYNC: u64 = 1;
        if let Some(ruleset) = process.ruleset {
            for thread in &mut process.threads {
                thread.call(c::SYS_landlock_restrict_self, [ruleset, 0, 0, 0, 0, 0])?;
            }
        }
        if self.program.is_empty() {
            return Ok(());
        }
        let filter = |flags| [SET_MODE_FILTER, flags, process.room, 0, 0, 0];
        // For all threads at once, so that they still have one filter between them, if they had.
        if process.threads[0].call(c::SYS_seccomp, filter(TSYNC))? == 0 {
            return Ok(());
        }
        for thread in &mut process.threads {
            thread.take_once(process.place)?;
            thread.call(c::SYS_seccomp, filter(0))?;
        }
        Ok(())
    }
}

/// A line of proc_pid_maps(5), if code can be executed there: whether it is the host's own, first and last address.
fn executable(line: &str) -> Option<(bool, u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (first, last) = range.split_once('-')?;
    let usable = rest.starts_with("r-x") || rest.starts_with("rwx");
    let number = |text| u64::from_str_radix(text, 16).ok();
    (usable && !line.ends_with("[vsyscall]")).then_some((line.ends_with("[vdso]"), number(first)?, number(last)?))
}

/// Gives the thread's process a descriptor, by a pair of sockets that it makes; its number there.
fn pass(lead: &mut Thread, room: u64, pid: i32, ruleset: &Ruleset) -> Result<u64, Trouble> {
    let at = |offset: usize| room + offset as u64;
    let kind = c::SOCK_DGRAM | c::SOCK_CLOEXEC;
    lead.call(c::SYS_socketpair, [c::AF_UNIX as u64, kind as u64, 0, at(PAIR), 0, 0])?;
    let mut pair = [0; 8];
    lead.memory(at(PAIR), &mut pair)?;
    let [ours, theirs] = [0, 4].map(|i| i32::from_ne_bytes([pair[i], pair[i + 1], pair[i + 2], pair[i + 3]]));
    let received = send_and_receive(lead, room, pid, [ours, theirs], ruleset);
    lead.call(c::SYS_close, [ours as u64, 0, 0, 0, 0, 0])?;
    lead.call(c::SYS_close, [theirs as u64, 0, 0, 0, 0, 0])?;
    received
}

fn send_and_receive(
    lead: &mut Thread,
    room: u64,
    pid: i32,
    [ours, theirs]: [i32; 2],
    ruleset: &Ruleset,
) -> Result<u64, Trouble> {
    let process = host::stub::pidfd(pid).map_err(Trouble::Failed)?;
    let socket = rustix::process::pidfd_getfd(&process, ours, rustix::process::PidfdGetfdFlags::empty());
    let socket = socket.map_err(|e| Trouble::Failed(Errno::from_raw(e.raw_os_error())))?;
    host::stub::send_fds(socket.as_fd(), &[0], &[ruleset.as_fd()]).map_err(Trouble::Failed)?;
    let mut message = [0u8; PAIR];
    let mut put = |offset: usize, word: u64| message[offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
    put(16, room + IOV as u64);
    put(24, 1);
    put(32, room + CONTROL as u64);
    put(40, (BYTE - CONTROL) as u64);
    put(IOV, room + BYTE as u64);
    put(IOV + 8, 1);
    lead.set_memory(room, &message)?;
    let flags = c::MSG_DONTWAIT | c::MSG_CMSG_CLOEXEC;
    lead.call(c::SYS_recvmsg, [theirs as u64, room, flags as u64, 0, 0, 0])?;
    // `struct cmsghdr` and the descriptor.
    let mut control = [0; 20];
    lead.memory(room + CONTROL as u64, &mut control)?;
    let word = |i: usize| i32::from_ne_bytes([control[i], control[i + 1], control[i + 2], control[i + 3]]);
    match (word(0), word(16)) {
        (20, fd @ 0..) => Ok(fd as u64),
        _ => Err(Trouble::Failed(Errno::EMFILE)),
    }
}

/// First all are as they were; one that runs early would be in the way of the others.
fn let_go(mut processes: Vec<Process>) {
    processes.iter_mut().for_each(Process::restore);
    processes.into_iter().flat_map(|process| process.threads).for_each(Thread::go);
}

impl Process {
    /// Without what it was given for the change, as it was. Who is dead by now needs nothing.
    fn restore(&mut self) {
        let lead = &mut self.threads[0];
        if let Some(fd) = self.ruleset {
            let _ = lead.call(c::SYS_close, [fd, 0, 0, 0, 0, 0]);
        }
        if self.room != 0 {
            let _ = lead.call(c::SYS_munmap, [self.room, self.size, 0, 0, 0, 0]);
        }
        self.threads.iter_mut().for_each(|thread| drop(thread.restore()));
    }
}
