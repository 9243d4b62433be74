//! Executables: elf(5), and how execve(2) lays out a new image.
pub mod stack;

use crate::mm::{PAGE_SIZE_MASK, SITES, USER_END, USER_START};
use abi::{Errno, PAGE_SIZE, c};

/// Why a file cannot be executed, with the words for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub Errno, pub &'static str);

const fn bad(why: &'static str) -> Refused {
    Refused(Errno::ENOEXEC, why)
}

/// Reads bytes of the file at an offset; returns how many.
pub type Read<'a> = dyn FnMut(u64, &mut [u8]) -> abi::Result<usize> + 'a;

/// One PT_LOAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub vaddr: u64,
    pub file_size: u64,
    pub mem_size: u64,
    pub prot: i32,
}

/// What the headers say, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// ET_DYN: it may be put anywhere.
    pub relocatable: bool,
    pub entry: u64,
    pub segments: Vec<Segment>,
    pub interpreter: Option<Vec<u8>>,
    pub executable_stack: bool,
    /// Address of the program headers in the image, their size and number.
    pub phdr: u64,
    pub phentsize: u16,
    pub phnum: u16,
    pub align: u64,
}

const HEADER: usize = 64;
const PHDR: usize = 56;

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}
fn u64_at(b: &[u8], at: usize) -> u64 {
    u32_at(b, at) as u64 | (u32_at(b, at + 4) as u64) << 32
}

/// `#!`: the interpreter and its one optional argument. `head`: the file's first bytes, 256 at most are looked at.
pub fn script(head: &[u8]) -> Option<Result<(Vec<u8>, Option<Vec<u8>>), Errno>> {
    let rest = head.strip_prefix(b"#!")?;
    let rest = &rest[..rest.len().min(254)];
    let line = match rest.iter().position(|b| *b == b'\n') {
        Some(i) => &rest[..i],
        // A line that does not end in 256 bytes might be cut in its interpreter.
        None if head.len() >= 256 && !rest.trim_ascii_start().iter().any(|b| matches!(b, b' ' | b'\t')) => {
            return Some(Err(Errno::ENOEXEC));
        }
        None => rest,
    };
    let line = line.split(|b| *b == 0).next().unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Some(Err(Errno::ENOEXEC));
    }
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let arg = line[end..].trim_ascii();
    Some(Ok((line[..end].to_vec(), (!arg.is_empty()).then(|| arg.to_vec()))))
}

impl Elf {
    /// Reads and checks the headers.
    pub fn parse(read: &mut Read<'_>) -> Result<Elf, Refused> {
        let mut h = [0u8; HEADER];
        if read(0, &mut h).map_err(|e| Refused(e, "unreadable"))? < HEADER || h[..4] != *b"\x7fELF" {
            return Err(bad("not an ELF file"));
        }
        if h[4] != 2 || h[5] != 1 {
            return Err(bad("not a 64-bit little-endian executable"));
        }
        if u16_at(&h, 18) != c::EM_X86_64 {
            return Err(bad("made for another processor"));
        }
        let kind = u16_at(&h, 16);
        if kind != c::ET_EXEC && kind != c::ET_DYN {
            return Err(bad("neither an executable nor a shared object"));
        }
        let (phoff, phentsize, phnum) = (u64_at(&h, 32), u16_at(&h, 54), u16_at(&h, 56));
        let size = phnum as usize * PHDR;
        if phentsize as usize != PHDR || phnum == 0 || size > 65536 {
            return Err(bad("bad program headers"));
        }
        let mut ph = vec![0u8; size];
        if read(phoff, &mut ph).map_err(|e| Refused(e, "unreadable"))? < size {
            return Err(bad("program headers beyond the end of the file"));
        }
        let mut elf = Elf {
            relocatable: kind == c::ET_DYN,
            entry: u64_at(&h, 24),
            segments: Vec::new(),
            interpreter: None,
            executable_stack: false,
            phdr: 0,
            phentsize,
            phnum,
            align: PAGE_SIZE,
        };
        let mut phdr = None;
        for p in ph.chunks_exact(PHDR) {
            match u32_at(p, 0) {
                c::PT_LOAD => elf.load(p)?,
                c::PT_INTERP => {
                    let len = u64_at(p, 32);
                    if !(2..=4096).contains(&len) {
                        return Err(bad("bad interpreter name"));
                    }
                    let mut name = vec![0u8; len as usize];
                    let n = read(u64_at(p, 8), &mut name).map_err(|e| Refused(e, "unreadable"))?;
                    if n < name.len() || name.pop() != Some(0) {
                        return Err(bad("bad interpreter name"));
                    }
                    elf.interpreter.get_or_insert(name);
                }
                c::PT_PHDR => phdr = Some(u64_at(p, 16)),
                c::PT_GNU_STACK => elf.executable_stack = u32_at(p, 4) & c::PF_X != 0,
                _ => {}
            }
        }
        if elf.segments.is_empty() {
            return Err(bad("nothing to load"));
        }
        let holding = elf.segments.iter().find(|s| s.offset <= phoff && phoff < s.offset.saturating_add(s.file_size));
        elf.phdr = phdr.or(holding.map(|s| s.vaddr + (phoff - s.offset))).unwrap_or(0);
        if !elf.relocatable && elf.range().start < USER_START {
            return Err(Refused(Errno::EPERM, "loads below the lowest address"));
        }
        Ok(elf)
    }

    fn load(&mut self, p: &[u8]) -> Result<(), Refused> {
        let flags = u32_at(p, 4);
        let (offset, vaddr, file_size, mem_size) = (u64_at(p, 8), u64_at(p, 16), u64_at(p, 32), u64_at(p, 40));
        let align = u64_at(p, 48);
        let bit = |f: u32, prot: i32| if flags & f != 0 { prot } else { 0 };
        let prot = bit(c::PF_R, c::PROT_READ) | bit(c::PF_W, c::PROT_WRITE) | bit(c::PF_X, c::PROT_EXEC);
        let end = vaddr.checked_add(mem_size).filter(|e| *e <= USER_END - 2 * PAGE_SIZE);
        if file_size > mem_size || end.is_none() || offset.checked_add(file_size).is_none() {
            return Err(bad("a segment is out of bounds"));
        }
        if offset % PAGE_SIZE != vaddr % PAGE_SIZE {
            return Err(bad("a segment is not aligned as in the file"));
        }
        if mem_size == 0 {
            return Ok(());
        }
        if let Some(last) = self.segments.last()
            && vaddr < last.vaddr + last.mem_size
        {
            return Err(bad("segments overlap or are out of order"));
        }
        if align.is_power_of_two() && align <= 1 << 30 {
            self.align = self.align.max(align);
        }
        self.segments.push(Segment { offset, vaddr, file_size, mem_size, prot });
        Ok(())
    }

    /// The whole pages from the first segment to the last, before any bias.
    pub fn range(&self) -> std::ops::Range<u64> {
        let first = self.segments.first().map_or(0, |s| s.vaddr & PAGE_SIZE_MASK);
        let last = self.segments.last().map_or(0, |s| s.vaddr + s.mem_size);
        first..(last + PAGE_SIZE - 1) & PAGE_SIZE_MASK
    }

    /// Does the image lie on the site table?
    pub fn takes_sites(&self) -> bool {
        let r = self.range();
        !self.relocatable && r.start < SITES.end && r.end > SITES.start
    }
}

/// One mapping of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub addr: u64,
    pub len: u64,
    pub prot: i32,
    /// Offset in the file; `None`: zeroes.
    pub offset: Option<u64>,
    /// The end of the mapping's file part, if the rest of its page is to be zeroed (it is writable then).
    pub zero_from: Option<u64>,
}

impl Elf {
    /// The mappings of the image moved by `bias`, in order.
    pub fn pieces(&self, bias: u64) -> Vec<Piece> {
        let mut out = Vec::new();
        for s in &self.segments {
            let start = (s.vaddr & PAGE_SIZE_MASK) + bias;
            let skew = s.vaddr & !PAGE_SIZE_MASK;
            let file_end = s.vaddr + s.file_size + bias;
            let mem_end = s.vaddr + s.mem_size + bias;
            let up = |n: u64| (n + PAGE_SIZE - 1) & PAGE_SIZE_MASK;
            let mut zero_start = start;
            if s.file_size > 0 {
                let end = up(file_end);
                let tail = mem_end > file_end && file_end < end && s.prot & c::PROT_WRITE != 0;
                out.push(Piece {
                    addr: start,
                    len: end - start,
                    prot: s.prot,
                    offset: Some(s.offset - skew),
                    zero_from: tail.then_some(file_end),
                });
                zero_start = end;
            }
            if up(mem_end) > zero_start {
                let len = up(mem_end) - zero_start;
                out.push(Piece { addr: zero_start, len, prot: s.prot, offset: None, zero_from: None });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
