//! /proc/PID/status, proc_pid_status(5).
use abi::c;
use kernel::mm::AddressSpace;
use std::fmt::Write;
use std::rc::Rc;
use task::{Process, Task};

/// `state` is a letter and a word.
pub fn text(p: &Process, t: Option<&Rc<Task>>, (letter, word): (char, &str), comm: &str) -> String {
    let mut s = format!(
        "Name:\t{comm}\nUmask:\t{:04o}\nState:\t{letter} ({word})\nTgid:\t{tgid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{}\nTracerPid:\t{}\n",
        t.map_or(0, |t| t.fs().umask.get()),
        p.ppid(),
        t.and_then(|t| t.trace()).and_then(|tr| tr.tracer()).map_or(0, |by| by.process.pid),
        tgid = p.pid,
        pid = t.map_or(p.pid, |t| t.tid),
    );
    if let Some(t) = t {
        let cr = t.cred();
        let mine = super::users::callers(&t.kernel);
        let (user, group) = (|id| mine.show_user(id), |id| mine.show_group(id));
        // Each with a space, and one for none.
        let groups: String = cr.groups.iter().map(|g| format!("{} ", group(*g))).collect();
        let groups = if groups.is_empty() { " ".to_owned() } else { groups };
        let set = |x: u64| format!("{x:016x}");
        let (mut ignored, mut caught) = (0u64, 0u64);
        let table = p.actions.borrow().clone();
        for sig in 1..=64 {
            match table.borrow().get(sig).handler {
                0 => {}
                1 => ignored |= 1 << (sig - 1),
                _ => caught |= 1 << (sig - 1),
            }
        }
        let _ = write!(
            s,
            "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t64\nGroups:\t{}\n\
             NStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}\n{}CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t{}\n\
             SigQ:\t0/32768\nSigPnd:\t{}\nShdPnd:\t{}\nSigBlk:\t{}\nSigIgn:\t{}\nSigCgt:\t{}\nCapInh:\t{}\nCapPrm:\t{}\nCapEff:\t{}\n\
             CapBnd:\t{}\nCapAmb:\t{}\nNoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}\nCpus_allowed:\t{:x}\nCpus_allowed_list:\t{}\n\
             Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\n\
             nonvoluntary_ctxt_switches:\t0\n",
            user(cr.ruid),
            user(cr.euid),
            user(cr.suid),
            user(cr.fsuid),
            group(cr.rgid),
            group(cr.egid),
            group(cr.sgid),
            group(cr.fsgid),
            groups,
            p.pid,
            t.tid,
            p.pgid.get(),
            p.sid.get(),
            memory(&t.mm().space.borrow()),
            p.threads().len(),
            set(t.pending.borrow().set().0),
            set(p.pending.borrow().set().0),
            set(t.blocked.get().0),
            set(ignored),
            set(caught),
            set(cr.inheritable),
            set(cr.permitted),
            set(cr.effective),
            set(cr.bounding),
            set(cr.ambient),
            cr.no_new_privs as u8,
            t.seccomp.borrow().mode(),
            t.seccomp.borrow().filter().map_or(0, |f| f.count),
            t.affinity.get(),
            cpu_list(t.affinity.get()),
        );
    }
    s
}

/// The lines about memory. All that may be touched counts as resident: which pages are is the host's to know.
fn memory(space: &AddressSpace) -> String {
    let [mut file, mut shared, mut stack, mut text, mut data] = [0; 5];
    for v in space.iter() {
        let size = v.end - v.start;
        let of = |on: bool| if on { size } else { 0 };
        let resident = v.prot != c::PROT_NONE;
        shared += of(resident && v.shared);
        file += of(resident && !v.shared && v.file.is_some());
        stack += of(v.label == "[stack]");
        text += of(v.prot & c::PROT_EXEC != 0 && v.file.is_some());
        data += of(v.prot & c::PROT_WRITE != 0 && !v.shared && v.label != "[stack]");
    }
    let (all, resident) = (space.total(), space.accessible());
    let lines = [
        ("VmPeak", all),
        ("VmSize", all),
        ("VmLck", space.locked(0..kernel::mm::USER_END)),
        ("VmPin", 0),
        ("VmHWM", resident),
        ("VmRSS", resident),
        ("RssAnon", resident - file - shared),
        ("RssFile", file),
        ("RssShmem", shared),
        ("VmData", data),
        ("VmStk", stack),
        ("VmExe", text),
        ("VmLib", 0),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    lines.iter().map(|(name, bytes)| format!("{name}:\t{:8} kB\n", bytes / 1024)).collect()
}

/// Bits as ranges: `0-3,5`.
fn cpu_list(bits: u64) -> String {
    let has = |i: u32| i < 64 && bits >> i & 1 != 0;
    let first = (0..64).filter(|i| has(*i) && (*i == 0 || !has(i - 1)));
    let ranges = first.map(|i| match (i..).take_while(|j| has(*j)).last() {
        Some(last) if last > i => format!("{i}-{last}"),
        _ => i.to_string(),
    });
    ranges.collect::<Vec<_>>().join(",")
}
