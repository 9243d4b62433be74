//! The bytes of a small tmpfs file, and which of its pages are there: the others are holes.
use super::data::{PAGE, page_floor, page_up};
use std::ops::Range;

/// Up to here a file may be kept inline.
pub const MAX: u64 = 1 << 20;
/// Holes that are kept as zeroes, in bytes together.
const HOLES: u64 = 16 << 10;
const WORDS: usize = (MAX / PAGE / 64) as usize;

#[derive(Default)]
pub struct Inline {
    pub bytes: Vec<u8>,
    there: [u64; WORDS],
}

impl Inline {
    fn has(&self, page: u64) -> bool {
        self.there[(page / 64) as usize] >> (page % 64) & 1 != 0
    }

    /// Bytes of the pages that are there.
    pub fn held(&self) -> u64 {
        self.there.iter().map(|w| u64::from(w.count_ones())).sum::<u64>() * PAGE
    }

    /// Could the file be of this length, with no more than `more` pages than it has?
    pub fn may_be(&self, len: u64, more: u64) -> bool {
        len <= MAX && page_up(len).saturating_sub(self.held() + more * PAGE) <= HOLES
    }

    /// Pages of a range of bytes that are not there.
    pub fn missing(&self, r: &Range<u64>) -> u64 {
        pages(r).filter(|p| !self.has(*p)).count() as u64
    }

    /// How far from `r.start` a write gets that may take `room` new bytes.
    pub fn reach(&self, r: &Range<u64>, room: u64) -> u64 {
        let mut left = room / PAGE;
        for p in pages(r) {
            if !self.has(p) {
                if left == 0 {
                    return (p * PAGE).max(r.start);
                }
                left -= 1;
            }
        }
        r.end
    }

    pub fn fill(&mut self, r: &Range<u64>) {
        for p in pages(r) {
            self.there[(p / 64) as usize] |= 1 << (p % 64);
        }
    }

    /// Pages wholly at or after `len` go; what is left of the last one is zeroes when it grows again.
    pub fn set_len(&mut self, len: u64) {
        self.bytes.resize(len as usize, 0);
        for p in page_up(len) / PAGE..MAX / PAGE {
            self.there[(p / 64) as usize] &= !(1 << (p % 64));
        }
    }

    /// A hole: whole pages go, the rest is zeroes.
    pub fn punch(&mut self, r: &Range<u64>) {
        let len = self.bytes.len() as u64;
        let (start, end) = (r.start.min(len), r.end.min(len));
        self.bytes[start as usize..end as usize].fill(0);
        for p in page_up(r.start) / PAGE..page_floor(r.end).min(MAX) / PAGE {
            self.there[(p / 64) as usize] &= !(1 << (p % 64));
        }
    }

    /// The ranges of bytes that are there.
    pub fn data(&self) -> impl Iterator<Item = Range<usize>> {
        let len = self.bytes.len();
        (0..page_up(len as u64) / PAGE)
            .filter(|p| self.has(*p))
            .map(move |p| (p * PAGE) as usize..(((p + 1) * PAGE) as usize).min(len))
    }

    /// lseek(2) with SEEK_DATA (`data`) or SEEK_HOLE; `None` is ENXIO.
    pub fn seek(&self, offset: u64, data: bool) -> Option<u64> {
        let len = self.bytes.len() as u64;
        if offset >= len {
            return None;
        }
        let found = (offset / PAGE..page_up(len) / PAGE).find(|p| self.has(*p) == data);
        match found {
            Some(p) => Some((p * PAGE).max(offset)),
            None if data => None,
            None => Some(len),
        }
    }
}

/// The pages a range of bytes touches.
fn pages(r: &Range<u64>) -> Range<u64> {
    if r.is_empty() { 0..0 } else { r.start / PAGE..page_up(r.end) / PAGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_known_by_page() {
        let mut i = Inline::default();
        i.set_len(5 * PAGE + 10);
        assert_eq!((i.held(), i.seek(0, true), i.seek(0, false)), (0, None, Some(0)));
        i.fill(&(PAGE + 1..PAGE + 2));
        assert_eq!((i.held(), i.seek(0, true), i.seek(PAGE + 5, false)), (PAGE, Some(PAGE), Some(2 * PAGE)));
        assert_eq!(i.missing(&(PAGE - 1..3 * PAGE)), 2);
        assert_eq!(i.reach(&(PAGE - 1..3 * PAGE), PAGE), 2 * PAGE);
        assert_eq!(i.reach(&(0..PAGE), 0), 0);
        i.fill(&(0..5 * PAGE + 10));
        i.punch(&(10..2 * PAGE + 10));
        assert_eq!((i.held(), i.seek(0, false), i.seek(PAGE, true)), (5 * PAGE, Some(PAGE), Some(2 * PAGE)));
        i.set_len(10);
        assert_eq!((i.held(), i.seek(0, false), i.seek(10, false)), (PAGE, Some(10), None));
    }

    #[test]
    fn large_holes_are_not_kept_inline() {
        let i = Inline::default();
        assert!(i.may_be(HOLES, 0));
        assert!(!i.may_be(HOLES + 1, 0));
        assert!(i.may_be(MAX, MAX / PAGE));
        assert!(!i.may_be(MAX + 1, 1 + MAX / PAGE));
    }
}
