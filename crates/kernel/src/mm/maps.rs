//! /proc/PID/maps and /proc/PID/smaps, proc(5); PROCMAP_QUERY.
use super::{AddressSpace, Vma};
use abi::{Errno, Result, c};
use std::fmt::Write;
use std::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct procmap_query` (Linux 6.11): which mapping is meant, what it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Query {
    pub size: u64,
    pub flags: u64,
    pub addr: u64,
    pub start: u64,
    pub end: u64,
    pub vma_flags: u64,
    pub page_size: u64,
    pub offset: u64,
    pub inode: u64,
    /// Major and minor.
    pub dev: [u32; 2],
    pub name_size: u32,
    pub build_id_size: u32,
    pub name_addr: u64,
    pub build_id_addr: u64,
}

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
    /// The file's, or what it is known as; `heap`: what brk(2) has moved over.
    fn name(&self, heap: &Range<u64>) -> Vec<u8> {
        match &self.file {
            Some((f, _)) => f.path(),
            None if self.start <= heap.end && self.end > heap.start => b"[heap]".to_vec(),
            None => self.label.into(),
        }
    }

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
        let name = String::from_utf8_lossy(&self.name(heap)).replace('\n', "\\012");
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
            self.sealed.then_some("sl"),
        ];
        also.into_iter().flatten().map(|f| format!(" {f}")).collect()
    }
}

impl Query {
    const SHARED: u64 = 8;
    const COVERING_OR_NEXT: u64 = 0x10;
    const FILE_BACKED: u64 = 0x20;
    /// Bytes without which there is no question.
    pub const FIRST: usize = 24;

    /// What is to be answered can be: flags are known, and buffers have a length. EINVAL.
    pub fn check(&self) -> Result {
        let pair = |addr: u64, size: u32| (addr == 0) == (size == 0);
        let known = 7 | Self::SHARED | Self::COVERING_OR_NEXT | Self::FILE_BACKED;
        let good = self.flags & !known == 0
            && pair(self.name_addr, self.name_size)
            && pair(self.build_id_addr, self.build_id_size);
        if good { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn flags_of(v: &Vma) -> u64 {
        v.prot as u64 & 7 | if v.shared { Self::SHARED } else { 0 }
    }

    fn wants(&self, v: &Vma) -> bool {
        let wanted = self.flags & (7 | Self::SHARED);
        Self::flags_of(v) & wanted == wanted && (v.file.is_some() || self.flags & Self::FILE_BACKED == 0)
    }
}

impl AddressSpace {
    /// Answers a question that is well made; the name, with a NUL. No build id is looked for: as of a file that has none.
    ///
    /// ENOENT: no such mapping; ENAMETOOLONG: there is no room for its name.
    pub fn query(&self, q: &mut Query) -> Result<Option<Vec<u8>>> {
        let next = q.flags & Query::COVERING_OR_NEXT != 0;
        let mut from = self.overlapping(q.addr..u64::MAX);
        let found = if next { from.find(|v| q.wants(v)) } else { self.at(q.addr).filter(|v| q.wants(v)) };
        let v = found.ok_or(Errno::ENOENT)?;
        (q.start, q.end, q.vma_flags, q.page_size) = (v.start, v.end, Query::flags_of(v), abi::PAGE_SIZE);
        let (offset, (dev, ino)) = v.file.as_ref().map_or((0, (0, 0)), |(f, o)| (*o, f.dev_ino()));
        (q.offset, q.inode, q.dev) = (offset, ino, [c::major(dev), c::minor(dev)]);
        q.build_id_size = 0;
        if q.name_size == 0 {
            return Ok(None);
        }
        let mut name = v.name(&(self.brk_start..self.brk));
        if name.is_empty() {
            q.name_size = 0;
            return Ok(None);
        }
        name.push(0);
        if name.len() > q.name_size.min(4096) as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        q.name_size = name.len() as u32;
        Ok(Some(name))
    }

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
