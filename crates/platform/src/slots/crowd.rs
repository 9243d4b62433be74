//! A CPU of its own for the kernel thread: while it looks at slots, and while guests occupy all CPUs and call all the time.
//!
//! With no CPU to spare every call is a bell, and takes two changes of thread: 10 us and more, one call at a time. Giving up one
//! CPU of C to looking at slots makes a call cost under 1 us instead. On a crowded machine a bell takes some 30 us of CPU time,
//! both sides together, so with C = 2 that pays where less than about 22 us pass between a guest's calls. Pinned, because a
//! scheduler that does not know who waits for whom puts caller and kernel thread on one CPU, and then each waits for the
//! other's time slice.
use super::thread::Thread;
use super::{Slots, WARM};
use host::cpu::Cpus;
use std::rc::Rc;

/// Calls between two looks at the clock.
const WINDOW: u32 = 64;
/// A window of bells as short as this is dense, nanoseconds.
const ENTER_NS: u64 = WINDOW as u64 * 30_000;
/// After so long with too few calls the CPU is given back, nanoseconds.
const LEAVE_NS: u64 = 1_000_000;
/// As many calls in that time are enough.
const ENOUGH: u64 = LEAVE_NS / 28_000;
/// So many of them must come in by being looked for, for each that rings: who rings has waited, and is woken across CPUs, which costs
/// that many times what looking saves.
const PAYS: u64 = 2;
/// How long it is not tried again when it did not pay, at first and at most, nanoseconds.
const BARRED_NS: u64 = 10_000_000;
const BARRED_MAX_NS: u64 = 640_000_000;
/// Who runs no longer than this between two waits, nanoseconds, and wakes another, does better beside it on one CPU: to wake an idle
/// CPU takes as long.
const SHORT_NS: u64 = 50_000;

pub(super) struct Crowd {
    /// What the sandbox may use, as the operator has set it.
    all: Cpus,
    /// While the kernel thread has a CPU of its own: that, and what is left for the stubs.
    parts: Option<(Cpus, Cpus)>,
    /// Threads kept on those.
    moved: Vec<Rc<Thread>>,
    /// Bells in this window, and those that found all CPUs taken.
    bells: u32,
    crowded: u32,
    /// Begin of the window, and calls until then: all, and those that rang.
    begun: u64,
    calls: u64,
    rang: u64,
    /// It did not pay: until when it is not tried, and for how long that was.
    barred_until: u64,
    barred_for: u64,
    /// The host will not have it.
    refused: bool,
}

impl Crowd {
    pub fn new() -> abi::Result<Crowd> {
        let all = Cpus::allowed()?;
        Ok(Crowd {
            all,
            parts: None,
            moved: Vec::new(),
            bells: 0,
            crowded: 0,
            begun: 0,
            calls: 0,
            rang: 0,
            barred_until: 0,
            barred_for: 0,
            refused: false,
        })
    }

    /// Whether the kernel thread has a CPU of its own.
    pub fn apart(&self) -> bool {
        self.parts.is_some()
    }

    /// How many CPUs the sandbox may use.
    pub fn count(&self) -> usize {
        self.all.count()
    }

    /// Sees what the operator has set since, who sets the kernel thread's CPUs like everybody's. True: something else than we.
    fn look(&mut self) -> bool {
        let now = Cpus::allowed().ok().filter(|now| self.parts.is_none_or(|(own, _)| own != *now));
        self.all = now.unwrap_or(self.all);
        now.is_some()
    }

    /// `child` was made by `parent`, on whose CPUs it begins.
    pub fn born(&mut self, parent: &Rc<Thread>, child: &Rc<Thread>) {
        if parent.moved.get() {
            child.moved.set(true);
            self.moved.push(child.clone());
        }
    }

    /// Nothing more is known of `t`.
    pub fn forget(&mut self, t: &Rc<Thread>) {
        if t.moved.replace(false) {
            self.moved.retain(|m| !Rc::ptr_eq(m, t));
        }
    }

    /// Keeps a thread that calls off the kernel thread's CPU, or gives it back what it lost before its id was known.
    pub fn place(&mut self, t: &Rc<Thread>) {
        // The template's children would keep for life what it has when they are made.
        if t.tag >= WARM {
            return;
        }
        match &self.parts {
            Some((_, others))
                if !t.moved.get() && t.host_tid.get() != 0 && others.keep(Some(t.host_tid.get())).is_ok() =>
            {
                t.moved.set(true);
                self.moved.push(t.clone());
            }
            None if t.moved.replace(false) => drop(self.all.keep(Some(t.host_tid.get()))),
            _ => {}
        }
    }

    /// Keeps a thread off `cpu`.
    pub fn put_aside(&mut self, tid: i32, cpu: usize) -> bool {
        self.look();
        self.all.without(cpu).keep(Some(tid)).is_ok()
    }

    /// Gives a thread back what [`Crowd::put_aside`] took.
    pub fn let_go(&mut self, tid: i32) {
        self.look();
        let _ = self.all.keep(Some(tid));
    }

    fn enter(&mut self) {
        self.look();
        if self.count() < 2 {
            return;
        }
        let cpu = Cpus::current();
        let mine = Cpus::only(cpu);
        self.refused = mine.keep(None).is_err();
        if !self.refused {
            self.parts = Some((mine, self.all.without(cpu)));
        }
    }

    pub fn leave(&mut self) {
        if !self.apart() {
            return;
        }
        if !self.look() {
            let _ = self.all.keep(None);
        }
        self.parts = None;
        for t in std::mem::take(&mut self.moved) {
            // One that has not rung yet is set free when it does.
            if t.host_tid.get() != 0 {
                t.moved.set(false);
                let _ = self.all.keep(Some(t.host_tid.get()));
            }
        }
    }
}

impl Slots {
    /// Whether a thread that is answered is best woken on the kernel thread's own CPU, which that is about to leave.
    pub(super) fn better_here(&self, t: &Thread) -> bool {
        if !self.hot.is_empty() || self.crowd.apart() {
            return false;
        }
        // Not while there is work for all: who calls would gather on one CPU, and leave the others idle. But who wakes another
        // and then waits itself leaves its own.
        let (busy, cpus) = (self.busy(), self.cpus());
        let pair = busy == cpus && self.asker_runs < SHORT_NS;
        busy < cpus || pair || t.cpu.get() == Cpus::current()
    }

    /// A bell has rung.
    pub(super) fn count_bell(&mut self) {
        let full = self.busy() >= self.cpus() && self.cpus() > 1;
        let c = &mut self.crowd;
        if c.refused || c.apart() {
            return;
        }
        c.bells += 1;
        c.crowded += u32::from(full);
        if c.bells < WINDOW {
            return;
        }
        let now = host::time::monotonic_ns();
        let dense = now - c.begun < ENTER_NS && c.crowded * 2 > WINDOW;
        (c.bells, c.crowded, c.begun) = (0, 0, now);
        c.look();
        if dense {
            self.go_apart(now);
        }
    }

    /// Takes a CPU for the kernel thread, if it has none of its own yet and the host lets it. False: it did not pay lately.
    pub(super) fn go_apart(&mut self, now: u64) -> bool {
        let c = &mut self.crowd;
        if c.refused || c.apart() {
            return true;
        }
        if now < c.barred_until {
            return false;
        }
        c.enter();
        if !c.apart() {
            return true;
        }
        c.begun = now;
        (c.calls, c.rang) = (self.counters.hot_calls + self.counters.bells, self.counters.bells);
        self.counters.apart += 1;
        true
    }

    /// Gives the CPU back if too few have called.
    pub(super) fn review_crowd(&mut self, now: u64) {
        let calls = self.counters.hot_calls + self.counters.bells;
        let c = &mut self.crowd;
        if !c.apart() || now - c.begun < LEAVE_NS {
            return;
        }
        if c.look() {
            return c.leave();
        }
        let (all, rang) = (calls - c.calls, self.counters.bells - c.rang);
        let pays = all - rang >= PAYS * rang;
        // Longer than the window when a call took long: the rate counts.
        if all * LEAVE_NS < ENOUGH * (now - c.begun) {
            c.leave();
        } else if !pays {
            c.leave();
            c.barred_for = (c.barred_for * 2).clamp(BARRED_NS, BARRED_MAX_NS);
            c.barred_until = now + c.barred_for;
        } else {
            c.barred_for /= 2;
        }
        (c.begun, c.calls, c.rang) = (now, calls, self.counters.bells);
    }
}
