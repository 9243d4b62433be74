//! /proc/PID/maps and /proc/PID/smaps, proc(5).
use super::{AddressSpace, Vma};
use abi::c;
use std::fmt::Write;
use std::ops::Range;

/// What smaps counts of mappings, in bytes.
#[derive(Default)]
struct Amounts {
    resident: u64,
    shared: u64,
    private_clean: u64,
    private_dirty: u64,
    anonymous: u64,
    locked: u64,
}

impl Amounts {
    /// Which pages are there is the host's to know: all that may be touched counts, and what may be written as written.
    fn add(&mut self, v: &Vma) {
        let size = if v.prot == c::PROT_NONE { 0 } else { v.end - v.start };
        let written = v.prot & c::PROT_WRITE != 0;
        self.resident += size;
        match (v.shared, written || v.file.is_none()) {
            (true, _) => self.shared += size,
            (false, true) => {
                self.private_dirty += size;
                self.anonymous += size;
            }
            (false, false) => self.private_clean += size,
        }
        self.locked += if v.locked { size } else { 0 };
    }

    fn show(&self, s: &mut String) {
        let lines = [
            ("Rss", self.resident),
            ("Pss", self.resident),
            ("Shared_Clean", 0),
            ("Shared_Dirty", self.shared),
            ("Private_Clean", self.private_clean),
            ("Private_Dirty", self.private_dirty),
            ("Referenced", self.resident),
            ("Anonymous", self.anonymous),
            ("Swap", 0),
            ("SwapPss", 0),
            ("Locked", self.locked),
        ];
        for (name, bytes) in lines {
            line(s, name, bytes);
        }
    }
}

fn line(s: &mut String, name: &str, bytes: u64) {
    let _ = writeln!(s, "{:16}{:8} kB", format!("{name}:"), bytes / 1024);
}

impl Vma {
    /// Its line in maps; `heap`: what brk(2) has moved over.
    fn show(&self, s: &mut String, heap: &Range<u64>) {
        let flag = |bit: i32, ch: char| if self.prot & bit != 0 { ch } else { '-' };
        let (offset, (dev, ino)) = self.file.as_ref().map_or((0, (0, 0)), |(f, o)| (*o, f.dev_ino()));
        let start = s.len();
        let _ = write!(
            s,
            "{:x}-{:x} {}{}{}{} {:08x} {:02x}:{:02x} {}",
            self.start,
            self.end,
            flag(c::PROT_READ, 'r'),
            flag(c::PROT_WRITE, 'w'),
            flag(c::PROT_EXEC, 'x'),
            if self.shared { 's' } else { 'p' },
            offset,
            c::major(dev),
            c::minor(dev),
            ino,
        );
        let path = self.file.as_ref().map(|(f, _)| f.path());
        let name = match &path {
            Some(p) => String::from_utf8_lossy(p).replace('\n', "\\012"),
            None if self.start <= heap.end && self.end > heap.start => "[heap]".to_owned(),
            None => self.label.to_owned(),
        };
        if !name.is_empty() {
            let pad = 73usize.saturating_sub(s.len() - start);
            let _ = write!(s, "{:pad$}{name}", "");
        }
        s.push('\n');
    }

    /// The VmFlags of smaps that are known.
    fn flags(&self) -> String {
        let has = |bit: i32, name: &'static str| (self.prot & bit != 0).then_some(name);
        let also = [
            has(c::PROT_READ, "rd"),
            has(c::PROT_WRITE, "wr"),
            has(c::PROT_EXEC, "ex"),
            self.shared.then_some("sh"),
            self.locked.then_some("lo"),
            self.dont_fork.then_some("dc"),
            self.wipe_on_fork.then_some("wf"),
        ];
        also.into_iter().flatten().map(|f| format!(" {f}")).collect()
    }
}

impl AddressSpace {
    /// One line a mapping, by address.
    pub fn maps(&self) -> String {
        let mut s = String::new();
        self.iter().for_each(|v| v.show(&mut s, &(self.brk_start..self.brk)));
        s
    }

    /// The same, each with what it takes of memory.
    pub fn smaps(&self) -> String {
        let mut s = String::new();
        for v in self.iter() {
            v.show(&mut s, &(self.brk_start..self.brk));
            line(&mut s, "Size", v.end - v.start);
            line(&mut s, "KernelPageSize", abi::PAGE_SIZE);
            line(&mut s, "MMUPageSize", abi::PAGE_SIZE);
            let mut own = Amounts::default();
            own.add(v);
            own.show(&mut s);
            let _ = writeln!(s, "VmFlags:{}", v.flags());
        }
        s
    }

    /// What all mappings take together.
    pub fn smaps_rollup(&self) -> String {
        let mut all = Amounts::default();
        self.iter().for_each(|v| all.add(v));
        let start = self.iter().next().map_or(0, |v| v.start);
        let end = self.iter().last().map_or(0, |v| v.end);
        let mut s = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0 {:26}[rollup]\n", "");
        all.show(&mut s);
        s
    }
}
