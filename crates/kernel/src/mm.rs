//! Address spaces: which ranges are mapped, to what, with which rights. mmap(2), munmap(2), mprotect(2), mremap(2), brk(2).
//!
//! The kernel keeps the map and chooses every address; the mappings themselves are made by the stub. An operation
//! here changes the map and says what the stub must do.
mod maps;

pub use maps::Query;

use abi::{Errno, PAGE_SIZE, Result, c};
use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// First and last address a guest may map.
pub const USER_START: u64 = 0x1_0000;
pub const USER_END: u64 = 0x7ff0_0000_0000;
/// Kept free for rewritten call sites, unless the program's own image lies there.
pub const SITES: Range<u64> = 0x050f_0000..0x0530_0000;

/// Kept free below a mapping that grows.
const GUARD_GAP: u64 = 256 * PAGE_SIZE;

/// How many of its host's mappings a stub needs for itself, at most.
const STUB_MAPS: usize = 64;

thread_local! {
    /// Mappings an address space may have, the stub's own with them: /proc/sys/vm/max_map_count.
    pub static MAX_MAP_COUNT: Cell<usize> = const { Cell::new(65_530) };
}

/// A file behind a mapping.
pub trait MappedFile: Any {
    /// As /proc/PID/maps shows it.
    fn path(&self) -> Vec<u8>;
    fn dev_ino(&self) -> (u64, u64);
    /// False: PROT_WRITE on a shared mapping is EACCES.
    fn may_write_shared(&self) -> bool;
    /// An address space that had a mapping of it ended, with process `pid`.
    fn left(&self, _pid: i32) {}
    fn as_any(&self) -> &dyn Any;
}

/// From which nodes memory is taken, set_mempolicy(2): kept and told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodePolicy {
    /// MPOL_DEFAULT is 0; with MPOL_F_STATIC_NODES and its kin.
    pub mode: i32,
    /// Node 0, the only one, is in its set.
    pub node: bool,
}

/// One mapping.
#[derive(Clone)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub prot: i32,
    pub shared: bool,
    pub file: Option<(Rc<dyn MappedFile>, u64)>,
    /// `[heap]`, `[stack]`, `[vdso]`.
    pub label: &'static str,
    pub dont_fork: bool,
    pub wipe_on_fork: bool,
    /// Counted against RLIMIT_MEMLOCK.
    pub locked: bool,
    /// It grows when it is reached for below its start: MAP_GROWSDOWN.
    pub grows: bool,
    /// It stays as it is until the program ends: mseal(2).
    pub sealed: bool,
    /// It is never locked, and empty in children: MAP_DROPPABLE.
    pub droppable: bool,
    pub nodes: NodePolicy,
    /// Not the guest's to change: the vDSO, the site table.
    pub fixed: bool,
}

impl Vma {
    fn offset_at(&self, addr: u64) -> Option<(Rc<dyn MappedFile>, u64)> {
        self.file.as_ref().map(|(f, o)| (f.clone(), o + (addr - self.start)))
    }

    fn slice(&self, r: Range<u64>) -> Vma {
        Vma { start: r.start, end: r.end, file: self.offset_at(r.start), ..self.clone() }
    }

    fn lockable(&self) -> bool {
        !self.fixed && !self.droppable && self.label != "[stack]"
    }

    fn continues(&self, next: &Vma) -> bool {
        let same_file = match (&self.file, &next.file) {
            (None, None) => true,
            (Some((a, ao)), Some((b, bo))) => Rc::ptr_eq(a, b) && ao + (self.end - self.start) == *bo,
            _ => false,
        };
        self.end == next.start
            && self.prot == next.prot
            && self.shared == next.shared
            && self.label == next.label
            && self.dont_fork == next.dont_fork
            && self.wipe_on_fork == next.wipe_on_fork
            && self.locked == next.locked
            && self.grows == next.grows
            && self.sealed == next.sealed
            && self.droppable == next.droppable
            && self.nodes == next.nodes
            && self.fixed == next.fixed
            && same_file
    }
}

/// Limits that mapping calls look at, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub address_space: u64,
    pub data: u64,
}

#[derive(Clone, Default)]
pub struct AddressSpace {
    vmas: BTreeMap<u64, Vma>,
    /// Of all mappings together, kept so that mapping the thousandth costs no more than the first.
    bytes: u64,
    pub brk_start: u64,
    pub brk: u64,
    /// Mappings grow down from here.
    pub mmap_base: u64,
    /// What is mapped from now on is locked: mlockall(2).
    pub lock_future: bool,
    /// Nothing may be written to and executed, now or by turns: PR_SET_MDWE; and whether children keep to that.
    pub write_or_execute: Option<bool>,
}

/// Clears the offset within a page.
pub const PAGE_SIZE_MASK: u64 = !(PAGE_SIZE - 1);

pub fn page_up(n: u64) -> Option<u64> {
    n.checked_add(PAGE_SIZE - 1).map(|n| n & !(PAGE_SIZE - 1))
}

impl AddressSpace {
    pub fn new(mmap_base: u64) -> AddressSpace {
        AddressSpace { mmap_base, ..AddressSpace::default() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.vmas.values()
    }

    pub fn total(&self) -> u64 {
        self.bytes
    }

    fn put(&mut self, v: Vma) {
        self.bytes += v.end - v.start;
        self.vmas.insert(v.start, v);
    }

    fn take(&mut self, start: u64) {
        self.bytes -= self.vmas.remove(&start).map_or(0, |v| v.end - v.start);
    }

    /// Bytes that may be touched: what counts as resident, since the host alone knows which pages are there.
    pub fn accessible(&self) -> u64 {
        self.vmas.values().filter(|v| v.prot != c::PROT_NONE).map(|v| v.end - v.start).sum()
    }

    pub fn at(&self, addr: u64) -> Option<&Vma> {
        self.vmas.range(..=addr).next_back().map(|(_, v)| v).filter(|v| addr < v.end)
    }

    /// Mappings that overlap the range, in order. A range that ends before it begins overlaps nothing.
    pub fn overlapping(&self, r: Range<u64>) -> impl Iterator<Item = &Vma> {
        let first = self.at(r.start).map_or(r.start, |v| v.start);
        self.vmas.range(first..r.end.max(first)).map(|(_, v)| v).filter(move |v| v.end > r.start)
    }

    pub fn is_free(&self, r: Range<u64>) -> bool {
        self.overlapping(r).next().is_none()
    }

    /// ENOMEM: there are more mappings than there may be, if `more` are made.
    fn room(&self, more: usize) -> Result {
        if self.vmas.len() + STUB_MAPS + more > MAX_MAP_COUNT.get() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// ENOMEM: a change of what lies in the range, where `changes` says it is one, would make too many mappings.
    fn room_to_split(&self, r: &Range<u64>, changes: impl Fn(&Vma) -> bool) -> Result {
        let split = |edge: u64| self.at(edge).is_some_and(|v| v.start < edge && changes(v));
        if split(r.start) || split(r.end) { self.room(1) } else { Ok(()) }
    }

    /// What moves may be cut out of the middle of one mapping, and land in that of another.
    fn room_to_move(&self) -> Result {
        self.room(3)
    }

    fn covered(&self, r: Range<u64>) -> bool {
        let mut at = r.start;
        for v in self.overlapping(r.clone()) {
            if v.start > at {
                return false;
            }
            at = v.end;
        }
        at >= r.end
    }

    /// Cuts a hole, returning what was there.
    fn carve(&mut self, r: Range<u64>) -> Vec<Vma> {
        let old: Vec<Vma> = self.overlapping(r.clone()).cloned().collect();
        let mut cut = Vec::with_capacity(old.len());
        for v in old {
            self.take(v.start);
            if v.start < r.start {
                self.put(v.slice(v.start..r.start));
            }
            if v.end > r.end {
                self.put(v.slice(r.end..v.end));
            }
            cut.push(v.slice(v.start.max(r.start)..v.end.min(r.end)));
        }
        cut
    }

    /// Adds a mapping where nothing is, merging it with its neighbours.
    pub fn insert(&mut self, mut v: Vma) {
        if let Some((_, p)) = self.vmas.range(..v.start).next_back()
            && p.continues(&v)
        {
            v = Vma { end: v.end, ..p.clone() };
            self.take(v.start);
        }
        if let Some(n) = self.vmas.get(&v.end)
            && v.continues(n)
        {
            let end = n.end;
            self.take(v.end);
            v.end = end;
        }
        self.put(v);
    }

    /// The highest free range of `len` bytes below `below`.
    pub fn find_below(&self, len: u64, below: u64) -> Option<u64> {
        let mut top = below;
        for v in self.vmas.range(..below).rev().map(|(_, v)| v) {
            if v.end < top && top - v.end >= len && (top - len >= SITES.end || top <= SITES.start) {
                return Some(top - len);
            }
            top = top.min(if v.grows { v.start.saturating_sub(GUARD_GAP) } else { v.start });
            if top > SITES.start && top < SITES.end + len {
                top = top.min(SITES.start.max(v.end));
            }
        }
        let at = top.checked_sub(len)?;
        let clash = at < SITES.end && at + len > SITES.start;
        let at = if clash { SITES.start.checked_sub(len)? } else { at };
        (at >= USER_START && self.is_free(at..at + len)).then_some(at)
    }

    /// EPERM if something in the range is sealed.
    pub fn unsealed(&self, r: Range<u64>) -> Result {
        if self.overlapping(r).any(|v| v.sealed) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// mseal(2). ENOMEM: over a hole, or too many mappings.
    pub fn seal(&mut self, r: Range<u64>) -> Result {
        self.check_mapped(r.clone())?;
        self.room_to_split(&r, |v| !v.sealed)?;
        for v in self.carve(r) {
            self.insert(Vma { sealed: true, ..v });
        }
        Ok(())
    }

    /// Where an mmap(2) call's mapping goes. Errors: EINVAL, ENOMEM, EEXIST, EPERM.
    pub fn place(&self, hint: u64, len: u64, flags: i32, limits: Limits) -> Result<Range<u64>> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        if len > USER_END {
            return Err(Errno::ENOMEM);
        }
        self.room(0)?;
        if flags & (c::MAP_FIXED | c::MAP_FIXED_NOREPLACE) != 0 {
            if !hint.is_multiple_of(PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            let end = hint.checked_add(len).filter(|e| *e <= USER_END).ok_or(Errno::ENOMEM)?;
            if hint < USER_START {
                return Err(Errno::EPERM);
            }
            let r = hint..end;
            if self.overlapping(r.clone()).any(|v| v.fixed) {
                return Err(Errno::ENOMEM);
            }
            if flags & c::MAP_FIXED_NOREPLACE != 0 && !self.is_free(r.clone()) {
                return Err(Errno::EEXIST);
            }
            self.unsealed(r.clone())?;
            let replaced: u64 = self.overlapping(r.clone()).map(|v| v.end.min(r.end) - v.start.max(r.start)).sum();
            self.fits(len.saturating_sub(replaced), limits)?;
            return Ok(r);
        }
        self.fits(len, limits)?;
        let hint = hint & !(PAGE_SIZE - 1);
        if hint >= USER_START
            && let Some(end) = hint.checked_add(len).filter(|e| *e <= USER_END)
            && self.is_free(hint..end)
            && (end <= SITES.start || hint >= SITES.end)
        {
            return Ok(hint..end);
        }
        let below = if flags & c::MAP_32BIT != 0 { 0x8000_0000 } else { self.mmap_base };
        let at = self.find_below(len, below).or_else(|| self.find_below(len, USER_END)).ok_or(Errno::ENOMEM)?;
        Ok(at..at + len)
    }

    fn fits(&self, more: u64, limits: Limits) -> Result {
        match self.total().checked_add(more) {
            Some(t) if t <= limits.address_space => Ok(()),
            _ => Err(Errno::ENOMEM),
        }
    }

    /// Maps over whatever was there.
    pub fn map(&mut self, v: Vma) {
        self.carve(v.start..v.end);
        self.insert(v);
    }

    /// The program reaches for `addr`, where nothing is mapped: the mapping above grows, if it is one that does, to at most `stack`
    /// bytes. What is new of it; None: it is a fault.
    pub fn grow(&mut self, addr: u64, stack: u64, limits: Limits) -> Option<Vma> {
        let start = addr & PAGE_SIZE_MASK;
        let above = self.vmas.range(addr..).next().map(|(_, v)| v).filter(|v| v.grows)?;
        let below = self.vmas.range(..addr).next_back().map(|(_, v)| v);
        let crowded = below.is_some_and(|v| !v.grows && v.prot != 0 && start.saturating_sub(v.end) < GUARD_GAP);
        if below.is_some_and(|v| v.end > start) || crowded || start < USER_START || above.end - start > stack {
            return None;
        }
        let new = Vma { start, end: above.start, ..above.clone() };
        self.fits(new.end - start, limits).ok()?;
        self.insert(new.clone());
        Some(new)
    }

    /// Unmaps; EINVAL for a bad range, ENOMEM where that leaves too many mappings, EPERM if something there is sealed.
    pub fn unmap(&mut self, addr: u64, len: u64) -> Result<Range<u64>> {
        if !addr.is_multiple_of(PAGE_SIZE) || len == 0 {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len).and_then(|l| addr.checked_add(l)).ok_or(Errno::EINVAL)?;
        if end > USER_END || self.overlapping(addr..end).any(|v| v.fixed) {
            return Err(Errno::EINVAL);
        }
        if self.at(addr).is_some_and(|v| v.start < addr && end < v.end) {
            self.room(1)?;
        }
        self.unsealed(addr..end)?;
        self.carve(addr..end);
        Ok(addr..end)
    }

    /// The last thread of process `pid` left: nothing is mapped any more.
    pub fn end(&mut self, pid: i32) {
        self.bytes = 0;
        for (f, _) in std::mem::take(&mut self.vmas).into_values().filter_map(|v| v.file) {
            f.left(pid);
        }
    }

    /// A mapping the host refused to make.
    pub fn forget(&mut self, r: Range<u64>) {
        self.carve(r);
    }

    /// The range as whole pages. EINVAL if it does not start on one; ENOMEM if it wraps.
    pub fn pages(addr: u64, len: u64) -> Result<Range<u64>> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len).and_then(|l| addr.checked_add(l)).filter(|e| *e <= USER_END);
        Ok(addr..end.ok_or(Errno::ENOMEM)?)
    }

    /// EACCES if what has these rights, and had those, may not be. Of something new they are the same.
    pub fn may_execute(&self, prot: i32, before: i32) -> Result {
        let refused = prot & c::PROT_EXEC != 0 && (prot & c::PROT_WRITE != 0 || before & c::PROT_EXEC == 0);
        if refused && self.write_or_execute.is_some() { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// mprotect(2): ENOMEM over a hole, EPERM if something is sealed, EACCES to write a shared mapping of a read-only file.
    pub fn protect(&mut self, addr: u64, len: u64, prot: i32) -> Result<Range<u64>> {
        if prot & !(c::PROT_READ | c::PROT_WRITE | c::PROT_EXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        let r = Self::pages(addr, len)?;
        if !self.covered(r.clone()) {
            return Err(Errno::ENOMEM);
        }
        self.unsealed(r.clone())?;
        for v in self.overlapping(r.clone()) {
            self.may_execute(prot, v.prot)?;
            if v.fixed {
                return Err(Errno::EACCES);
            }
            let write_file = v.shared && v.file.as_ref().is_some_and(|(f, _)| !f.may_write_shared());
            if prot & c::PROT_WRITE != 0 && write_file {
                return Err(Errno::EACCES);
            }
        }
        self.room_to_split(&r, |v| v.prot != prot)?;
        for v in self.carve(r.clone()) {
            self.insert(Vma { prot, ..v });
        }
        Ok(r)
    }

    /// Marks a range for madvise(2)'s fork advice. ENOMEM: too many mappings.
    pub fn advise_fork(&mut self, r: Range<u64>, dont: Option<bool>, wipe: Option<bool>) -> Result {
        let differs = |new: Option<bool>, old| new.is_some_and(|new| new != old);
        self.room_to_split(&r, |v| differs(dont, v.dont_fork) || differs(wipe, v.wipe_on_fork))?;
        for v in self.carve(r) {
            let dont_fork = dont.unwrap_or(v.dont_fork);
            let wipe_on_fork = wipe.unwrap_or(v.wipe_on_fork);
            self.insert(Vma { dont_fork, wipe_on_fork, ..v });
        }
        Ok(())
    }

    /// mbind(2).
    pub fn bind(&mut self, r: Range<u64>, nodes: NodePolicy) {
        for v in self.carve(r) {
            self.insert(Vma { nodes, ..v });
        }
    }

    /// Locks or unlocks what is mapped in a range: mlock(2). The stack, mapped in full from the start, does not count.
    /// ENOMEM: too many mappings.
    pub fn lock(&mut self, r: Range<u64>, on: bool) -> Result {
        self.room_to_split(&r, |v| v.locked != on && v.lockable())?;
        for v in self.carve(r) {
            self.insert(Vma { locked: on && v.lockable(), ..v });
        }
        Ok(())
    }

    /// Bytes that [`lock`](Self::lock) locks of everything.
    pub fn lockable(&self) -> u64 {
        self.vmas.values().filter(|v| v.lockable()).map(|v| v.end - v.start).sum()
    }

    /// Bytes of a range that are locked.
    pub fn locked(&self, r: Range<u64>) -> u64 {
        self.overlapping(r.clone()).filter(|v| v.locked).map(|v| v.end.min(r.end) - v.start.max(r.start)).sum()
    }

    /// ENOMEM if the range has a hole.
    pub fn check_mapped(&self, r: Range<u64>) -> Result {
        if self.covered(r) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// mremap(2): where the mapping will be. The host call is made with the same arguments and that address.
    pub fn remap(
        &mut self,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: i32,
        new_addr: u64,
        limits: Limits,
    ) -> Result<Remap> {
        const KNOWN: i32 = c::MREMAP_MAYMOVE | c::MREMAP_FIXED | c::MREMAP_DONTUNMAP;
        let fixed = flags & c::MREMAP_FIXED != 0;
        let keep = flags & c::MREMAP_DONTUNMAP != 0;
        let may_move = flags & c::MREMAP_MAYMOVE != 0;
        if flags & !KNOWN != 0 || !addr.is_multiple_of(PAGE_SIZE) || ((fixed || keep) && !may_move) {
            return Err(Errno::EINVAL);
        }
        let old_len = page_up(old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_up(new_len).filter(|n| *n > 0).ok_or(Errno::EINVAL)?;
        if keep && old_len != new_len {
            return Err(Errno::EINVAL);
        }
        let v = self.at(addr).cloned().ok_or(Errno::EFAULT)?;
        if v.fixed {
            return Err(Errno::EFAULT);
        }
        if old_len == 0 && !v.shared {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(old_len).ok_or(Errno::EINVAL)?;
        // What is cut off goes first, whatever mappings it is of.
        let cut = if new_len < old_len { addr + new_len..end } else { addr..addr };
        if v.sealed || self.unsealed(cut).is_err() {
            return Err(Errno::EPERM);
        }
        if end > v.end {
            return Err(Errno::EFAULT);
        }
        if fixed {
            let to = Self::pages(new_addr, new_len).map_err(|_| Errno::EINVAL)?;
            if to.start < end && addr < to.end || to.start < USER_START {
                return Err(Errno::EINVAL);
            }
            if self.overlapping(to.clone()).any(|v| v.fixed) {
                return Err(Errno::EINVAL);
            }
            self.room_to_move()?;
            self.unsealed(to.clone())?;
            self.carve(to);
            return Ok(self.moved(&v, addr, old_len, new_len, new_addr, keep));
        }
        if new_len < old_len {
            self.room(usize::from(end < v.end))?;
            self.carve(addr + new_len..end);
            return Ok(Remap::InPlace);
        }
        if new_len == old_len && !keep {
            return Ok(Remap::InPlace);
        }
        self.fits(new_len - old_len, limits)?;
        let grown = addr.checked_add(new_len).filter(|e| *e <= USER_END);
        if !keep
            && end == v.end
            && grown.is_some_and(|g| self.is_free(end..g) && (g <= SITES.start || end >= SITES.end))
        {
            let more = v.slice(addr..end);
            self.carve(addr..end);
            self.insert(Vma { end: addr + new_len, ..more });
            return Ok(Remap::InPlace);
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let to = self.find_below(new_len, self.mmap_base).ok_or(Errno::ENOMEM)?;
        self.room_to_move()?;
        Ok(self.moved(&v, addr, old_len, new_len, to, keep))
    }

    fn moved(&mut self, v: &Vma, addr: u64, old_len: u64, new_len: u64, to: u64, keep: bool) -> Remap {
        let file = v.offset_at(addr);
        if !keep && old_len > 0 {
            self.carve(addr..addr + old_len);
        }
        self.map(Vma { start: to, end: to + new_len, file, label: "", ..v.clone() });
        Remap::To(to)
    }

    /// brk(2): the new end, and what must be mapped or unmapped for it. The old end if it cannot be.
    pub fn set_brk(&mut self, new: u64, limits: Limits) -> (u64, Option<BrkChange>) {
        let (Some(old_end), Some(new_end)) = (page_up(self.brk), page_up(new)) else { return (self.brk, None) };
        if new < self.brk_start || new_end >= USER_END || new - self.brk_start > limits.data {
            return (self.brk, None);
        }
        if new_end > old_end {
            let clash = old_end < SITES.end && new_end > SITES.start;
            if clash || !self.is_free(old_end..new_end) || self.fits(new_end - old_end, limits).is_err() {
                return (self.brk, None);
            }
            self.insert(Vma {
                start: old_end,
                end: new_end,
                prot: c::PROT_READ | c::PROT_WRITE,
                label: "[heap]",
                ..anonymous()
            });
            self.brk = new;
            return (new, Some(BrkChange::Grow(old_end..new_end)));
        }
        if self.unsealed(new_end..old_end).is_err() {
            return (self.brk, None);
        }
        self.brk = new;
        if new_end < old_end {
            self.carve(new_end..old_end);
            return (new, Some(BrkChange::Shrink(new_end..old_end)));
        }
        (new, None)
    }

    /// The child's map after fork(2).
    pub fn fork(&self) -> AddressSpace {
        let mut s = self.clone();
        s.vmas.retain(|_, v| !v.dont_fork);
        s.bytes = s.vmas.values().map(|v| v.end - v.start).sum();
        s.vmas.values_mut().for_each(|v| v.locked = false);
        s.lock_future = false;
        s.write_or_execute = s.write_or_execute.filter(|inherited| *inherited);
        s
    }
}

/// What mremap did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remap {
    InPlace,
    To(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrkChange {
    Grow(Range<u64>),
    Shrink(Range<u64>),
}

/// A private anonymous mapping, to be given a place.
pub fn anonymous() -> Vma {
    Vma {
        start: 0,
        end: 0,
        prot: 0,
        shared: false,
        file: None,
        label: "",
        dont_fork: false,
        wipe_on_fork: false,
        locked: false,
        grows: false,
        sealed: false,
        droppable: false,
        nodes: NodePolicy::default(),
        fixed: false,
    }
}

#[cfg(test)]
mod tests;
