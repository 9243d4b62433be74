//! Calls that the operator's functions serve, in a process of their own (`rvisor._plugged`): the monitor hands them over, one
//! at a time, and never waits. Whatever becomes of that process, every call has its answer in time.
//!
//! One message each way is a head of 16 bytes (kind, a number, the call's id) and what belongs to the kind.
use super::monitor::memory;
use abi::Errno;
use host::notify::{self, Bell};
use rustix::event::Timespec;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use wire::shared::SharedSpec;

/// What a function has for one call. Its process is ended then.
const SERVED_NS: u64 = 2_000_000_000;
/// What a call waits for its turn.
const WAITS_NS: u64 = 10_000_000_000;
/// Calls that wait at once.
const MOST: usize = 256;
/// Of the caller's memory, in one message.
const PIECE: usize = 64 << 10;
const HEAD: usize = 16;
/// Nobody answered, or nothing that is an answer.
const FAILED: Errno = Errno::EIO;

/// From the process: it is ready, with a descriptor of itself; the call's value, error, or why it has neither; then what it
/// asks of the caller. To the process: a call, and what it asked for.
mod kind {
    pub const READY: u32 = 0;
    pub const VALUE: u32 = 1;
    pub const ERROR: u32 = 2;
    pub const NONE: u32 = 3;
    pub const READ: u32 = 4;
    pub const WRITE: u32 = 5;
    pub const PID: u32 = 6;
    pub const CALL: u32 = 1;
    pub const ANSWER: u32 = 2;
}

#[derive(Debug, Default)]
pub struct Plugins {
    functions: BTreeMap<i32, String>,
    socket: Option<OwnedFd>,
    /// Of the process, while it takes calls.
    process: Option<OwnedFd>,
    waiting: VecDeque<Asked>,
    served: Option<Served>,
}

#[derive(Debug)]
struct Asked {
    from: Rc<OwnedFd>,
    bell: Bell,
    until: u64,
}

impl Asked {
    /// A caller that has been killed needs none.
    fn answer(&self, result: Result<i64, Errno>) {
        let _ = notify::answer(self.from.as_fd(), self.bell.id, result);
    }
}

#[derive(Debug)]
struct Served {
    call: Asked,
    /// Stays the caller's, whoever has its number later.
    memory: Option<File>,
}

impl Plugins {
    pub fn new(rules: &SharedSpec) -> Plugins {
        let functions = rules.plugins.as_ref().map(|p| p.functions.clone()).unwrap_or_default();
        Plugins { functions, socket: rules.plugin_fd.map(host::process::take), ..Plugins::default() }
    }

    pub fn serve(&self, nr: i32) -> bool {
        self.functions.contains_key(&nr)
    }

    pub fn wait_for(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [&self.socket, &self.process].map(|fd| fd.as_ref().map(AsFd::as_fd))
    }

    /// Until somebody has waited too long.
    pub fn timeout(&self) -> Option<Timespec> {
        let served = self.served.as_ref().map(|s| s.call.until);
        let until = served.into_iter().chain(self.waiting.front().map(|w| w.until)).min()?;
        let ns = until.saturating_sub(host::time::monotonic_ns());
        Some(Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 })
    }

    /// Takes a call, which is answered later.
    pub fn ask(&mut self, from: &Rc<OwnedFd>, bell: Bell) -> Result<(), Errno> {
        if self.socket.is_none() {
            return Err(FAILED);
        }
        if self.waiting.len() >= MOST {
            return Err(Errno::EAGAIN);
        }
        self.waiting.push_back(Asked { from: from.clone(), bell, until: host::time::monotonic_ns() + WAITS_NS });
        self.hand_over();
        Ok(())
    }

    fn hand_over(&mut self) {
        while self.process.is_some() && self.served.is_none() {
            let Some(mut call) = self.waiting.pop_front() else { return };
            if !notify::still_waits(call.from.as_fd(), call.bell.id) {
                continue;
            }
            let arguments: Vec<u8> = call.bell.args.iter().flat_map(|a| a.to_ne_bytes()).collect();
            match self.send(kind::CALL, call.bell.nr, call.bell.id, &arguments) {
                Ok(()) => {
                    call.until = host::time::monotonic_ns() + SERVED_NS;
                    self.served = Some(Served { call, memory: None });
                }
                Err(_) => call.answer(Err(FAILED)),
            }
        }
    }

    fn send(&self, kind: u32, number: i32, id: u64, body: &[u8]) -> Result<(), Errno> {
        let mut message = kind.to_ne_bytes().to_vec();
        message.extend(number.to_ne_bytes());
        message.extend(id.to_ne_bytes());
        message.extend(body);
        self.socket.as_ref().map_or(Err(Errno::EPIPE), |socket| host::control::send(socket.as_fd(), &message))
    }

    /// The process says something. Returns what the operator is told.
    pub fn told(&mut self) -> Vec<String> {
        let Some(socket) = &self.socket else { return vec![] };
        let mut buffer = vec![0; HEAD + 8 + PIECE];
        match host::control::receive(socket.as_fd(), &mut buffer) {
            Ok(mut got) if got.len >= HEAD && got.len <= buffer.len() => {
                let said = Said::new(&buffer[..got.len]);
                self.heard(&said, got.descriptors.pop())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => vec![],
            _ => self.end(),
        }
    }

    fn heard(&mut self, said: &Said<'_>, descriptor: Option<OwnedFd>) -> Vec<String> {
        if said.kind == kind::READY {
            self.process = descriptor;
            self.hand_over();
            return vec![];
        }
        // About a call that is over: nobody waits for that.
        let Some(served) = self.served.as_mut().filter(|s| s.call.bell.id == said.id) else { return vec![] };
        let result = match said.kind {
            kind::VALUE => said.word(0).and_then(|v| i64::try_from(v).ok()).ok_or(FAILED),
            kind::ERROR if (1..4096).contains(&said.number) => Err(Errno::from_raw(said.number)),
            kind::READ | kind::WRITE | kind::PID => {
                let (number, bytes) = match served.asked(said) {
                    Ok(found) => found,
                    Err(e) => (-e.raw(), vec![]),
                };
                return match self.send(kind::ANSWER, number, said.id, &bytes) {
                    Ok(()) => vec![],
                    Err(_) => self.give_up("it does not take what it asked for"),
                };
            }
            kind::NONE => {
                let lines = self.give_up(&String::from_utf8_lossy(said.body));
                self.hand_over();
                return lines;
            }
            _ => Err(FAILED),
        };
        if let Some(served) = self.served.take() {
            served.call.answer(result);
        }
        self.hand_over();
        vec![]
    }

    /// The process has ended; there will be another.
    pub fn ended(&mut self) -> Vec<String> {
        self.process = None;
        self.give_up("its process has ended")
    }

    /// The call that is served gets the error that means it.
    fn give_up(&mut self, why: &str) -> Vec<String> {
        let Some(Served { call, .. }) = self.served.take() else { return vec![] };
        call.answer(Err(FAILED));
        let nr = call.bell.nr;
        let name = self.functions.get(&nr).map_or("", String::as_str);
        vec![format!("plug-in {name}, call {nr}: {why}")]
    }

    /// Answers those who have waited too long, and ends the process that did not serve its call.
    pub fn expire(&mut self) -> Vec<String> {
        let now = host::time::monotonic_ns();
        while self.waiting.front().is_some_and(|call| call.until <= now) {
            self.waiting.pop_front().into_iter().for_each(|call| call.answer(Err(FAILED)));
        }
        if self.served.as_ref().is_none_or(|s| s.call.until > now) {
            return vec![];
        }
        if let Some(process) = self.process.take() {
            let _ = host::stub::kill(process.as_fd());
        }
        self.give_up("no answer within 2 s: its process was ended")
    }

    /// There will be no process any more.
    fn end(&mut self) -> Vec<String> {
        (self.socket, self.process) = (None, None);
        let mut lines = self.give_up("its process has ended");
        self.waiting.drain(..).for_each(|call| call.answer(Err(FAILED)));
        lines.push("the plug-ins' process has ended: their calls fail".into());
        lines
    }
}

impl Served {
    /// What the function asks of the caller: a number, and bytes.
    fn asked(&mut self, said: &Said<'_>) -> Result<(i32, Vec<u8>), Errno> {
        let Asked { from, bell, .. } = &self.call;
        if said.kind == kind::PID {
            let status = std::fs::read_to_string(format!("/proc/{}/status", bell.tid)).map_err(|_| Errno::ESRCH)?;
            let line = status.lines().find_map(|line| line.strip_prefix("NStgid:"));
            let pid = line.and_then(|line| line.split_whitespace().last()?.parse().ok()).ok_or(Errno::ESRCH)?;
            let there = notify::still_waits(from.as_fd(), bell.id);
            return if there { Ok((pid, vec![])) } else { Err(Errno::ESRCH) };
        }
        if self.memory.is_none() {
            self.memory = Some(memory(from, *bell)?);
        } else if !notify::still_waits(from.as_fd(), bell.id) {
            return Err(Errno::ESRCH);
        }
        let Some(file) = &self.memory else { return Err(Errno::ESRCH) };
        let address = said.word(0).ok_or(Errno::EINVAL)?;
        if said.kind == kind::WRITE {
            file.write_all_at(&said.body[8..], address).map_err(|_| Errno::EFAULT)?;
            return Ok((0, vec![]));
        }
        let length = said.word(8).and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= PIECE).ok_or(Errno::EINVAL)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, address).map_err(|_| Errno::EFAULT)?;
        Ok((0, bytes))
    }
}

/// A message of the process, whose head is whole.
struct Said<'a> {
    kind: u32,
    number: i32,
    id: u64,
    body: &'a [u8],
}

impl<'a> Said<'a> {
    fn new(message: &'a [u8]) -> Said<'a> {
        let (head, body) = message.split_at(HEAD);
        let four = |at: usize| [0, 1, 2, 3].map(|i| head[at + i]);
        let id = u64::from_ne_bytes([8, 9, 10, 11, 12, 13, 14, 15].map(|i| head[i]));
        Said { kind: u32::from_ne_bytes(four(0)), number: i32::from_ne_bytes(four(4)), id, body }
    }

    fn word(&self, at: usize) -> Option<u64> {
        self.body.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes)
    }
}
