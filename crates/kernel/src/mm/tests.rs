use super::*;

const UNLIMITED: Limits = Limits { address_space: u64::MAX, data: u64::MAX };
const RW: i32 = c::PROT_READ | c::PROT_WRITE;

fn space() -> AddressSpace {
    AddressSpace::new(0x7000_0000_0000)
}

fn put(s: &mut AddressSpace, start: u64, pages: u64, prot: i32) {
    s.map(Vma { start, end: start + pages * PAGE_SIZE, prot, ..anonymous() });
}

#[test]
fn neighbours_merge_and_holes_split() {
    let mut s = space();
    put(&mut s, 0x10_0000, 2, RW);
    put(&mut s, 0x10_2000, 2, RW);
    assert_eq!(s.iter().count(), 1);
    s.unmap(0x10_1000, 0x1000).unwrap();
    assert_eq!(
        s.iter().map(|v| (v.start, v.end)).collect::<Vec<_>>(),
        [(0x10_0000, 0x10_1000), (0x10_2000, 0x10_4000)]
    );
    assert_eq!(s.protect(0x10_0000, 0x3000, 0), Err(Errno::ENOMEM));
    s.protect(0x10_3000, 1, c::PROT_READ).unwrap();
    assert_eq!(s.at(0x10_3000).map(|v| v.prot), Some(c::PROT_READ));
    assert_eq!(s.iter().count(), 3);
}

#[test]
fn what_ends_before_it_begins_overlaps_nothing() {
    let mut s = space();
    put(&mut s, 0x10_0000, 4, RW);
    assert_eq!(s.overlapping(0x10_1000..0x10_2000).count(), 1);
    for start in [0x10_1000, 0x20_0000, u64::MAX] {
        assert_eq!(s.overlapping(start..0x1000).count(), 0);
    }
}

#[test]
fn addresses_are_chosen_top_down_and_never_at_the_sites() {
    let mut s = space();
    let a = s.place(0, 0x3000, 0, UNLIMITED).unwrap();
    assert_eq!(a.end, s.mmap_base);
    put(&mut s, a.start, 3, RW);
    assert_eq!(s.place(0, 1, 0, UNLIMITED).unwrap().end, a.start);
    assert_eq!(s.place(SITES.start, 0x1000, c::MAP_32BIT, UNLIMITED).unwrap().end, 0x8000_0000);
    let big = s.place(0, 0x7b00_0000, c::MAP_32BIT, UNLIMITED).unwrap();
    assert!(big.end <= SITES.start || big.start >= SITES.end);
    assert_eq!(s.place(0x1001, 1, c::MAP_FIXED, UNLIMITED), Err(Errno::EINVAL));
    assert_eq!(s.place(a.start, 1, c::MAP_FIXED_NOREPLACE, UNLIMITED), Err(Errno::EEXIST));
    assert_eq!(s.place(0, 0, 0, UNLIMITED), Err(Errno::EINVAL));
    let small = Limits { address_space: 0x4000, ..UNLIMITED };
    assert_eq!(s.place(0, 0x2000, 0, small), Err(Errno::ENOMEM));
}

#[test]
fn brk_grows_shrinks_and_stops_at_others() {
    let mut s = space();
    s.brk_start = 0x60_0000;
    s.brk = 0x60_0000;
    assert_eq!(s.set_brk(0x60_1800, UNLIMITED), (0x60_1800, Some(BrkChange::Grow(0x60_0000..0x60_2000))));
    assert_eq!(s.set_brk(0x60_1900, UNLIMITED), (0x60_1900, None));
    assert_eq!(s.set_brk(0x60_0800, UNLIMITED), (0x60_0800, Some(BrkChange::Shrink(0x60_1000..0x60_2000))));
    put(&mut s, 0x60_2000, 1, RW);
    assert_eq!(s.set_brk(0x60_3000, UNLIMITED).0, 0x60_0800);
    assert_eq!(s.set_brk(0, UNLIMITED).0, 0x60_0800);
}

#[test]
fn mremap_grows_in_place_or_moves() {
    let mut s = space();
    put(&mut s, 0x10_0000, 2, RW);
    assert_eq!(s.remap(0x10_0000, 0x2000, 0x4000, 0, 0, UNLIMITED), Ok(Remap::InPlace));
    put(&mut s, 0x10_4000, 1, c::PROT_READ);
    assert_eq!(s.remap(0x10_0000, 0x4000, 0x8000, 0, 0, UNLIMITED), Err(Errno::ENOMEM));
    let Ok(Remap::To(to)) = s.remap(0x10_0000, 0x4000, 0x8000, c::MREMAP_MAYMOVE, 0, UNLIMITED) else { panic!() };
    assert!(s.is_free(0x10_0000..0x10_4000) && s.at(to + 0x7fff).is_some());
    assert_eq!(s.remap(0x90_0000, 0x1000, 0x2000, 0, 0, UNLIMITED), Err(Errno::EFAULT));
    assert_eq!(s.remap(to, 0x8000, 0x1000, 0, 0, UNLIMITED), Ok(Remap::InPlace));
    assert_eq!(s.total(), 0x2000);
}

/// Against a plain set of pages, with random operations.
#[test]
fn agrees_with_a_page_map() {
    let mut s = space();
    let mut pages = std::collections::BTreeMap::<u64, i32>::new();
    let mut x = 0x2545_f491_4f6c_dd1du64;
    let mut next = |n: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % n
    };
    for _ in 0..20_000 {
        let first = 0x100 + next(64);
        let n = 1 + next(8);
        let prot = next(4) as i32;
        let range = first..first + n;
        match next(3) {
            0 => {
                put(&mut s, first * PAGE_SIZE, n, prot);
                range.for_each(|p| {
                    pages.insert(p, prot);
                });
            }
            1 => {
                s.unmap(first * PAGE_SIZE, n * PAGE_SIZE).unwrap();
                range.for_each(|p| {
                    pages.remove(&p);
                });
            }
            _ => {
                let whole = range.clone().all(|p| pages.contains_key(&p));
                assert_eq!(s.protect(first * PAGE_SIZE, n * PAGE_SIZE, prot).is_ok(), whole);
                if whole {
                    range.for_each(|p| {
                        pages.insert(p, prot);
                    });
                }
            }
        }
        let mut seen = std::collections::BTreeMap::new();
        let mut last: Option<Vma> = None;
        for v in s.iter() {
            assert!(last.as_ref().is_none_or(|l| l.end <= v.start && !l.continues(v)));
            (v.start / PAGE_SIZE..v.end / PAGE_SIZE).for_each(|p| {
                seen.insert(p, v.prot);
            });
            last = Some(v.clone());
        }
        assert_eq!(seen, pages);
    }
}

#[test]
fn what_grows_stops_before_its_neighbour_and_at_the_limit() {
    let mut s = space();
    let top = 0x1000_0000;
    s.map(Vma { start: top - PAGE_SIZE, end: top, prot: RW, grows: true, ..anonymous() });
    assert!(s.grow(top + 8, u64::MAX, UNLIMITED).is_none());
    let new = s.grow(top - 3 * PAGE_SIZE + 5, u64::MAX, UNLIMITED).unwrap();
    assert_eq!((new.start, new.end), (top - 3 * PAGE_SIZE, top - PAGE_SIZE));
    assert_eq!(s.iter().count(), 1);
    assert!(s.grow(top - 9 * PAGE_SIZE, 8 * PAGE_SIZE, UNLIMITED).is_none());
    put(&mut s, top - 300 * PAGE_SIZE, 1, RW);
    assert!(s.grow(top - 100 * PAGE_SIZE, u64::MAX, UNLIMITED).is_none());
    assert!(s.grow(top - 43 * PAGE_SIZE, u64::MAX, UNLIMITED).is_some());
    // Nothing is put right below it unasked.
    let at = s.find_below(PAGE_SIZE, top).unwrap();
    assert!(at < top - (43 + 255) * PAGE_SIZE);
}

#[test]
fn mappings_are_counted() {
    let mut s = space();
    put(&mut s, 0x10_0000, 8, RW);
    s.protect(0x10_2000, 0x1000, c::PROT_READ).unwrap();
    assert_eq!((s.iter().count(), s.total()), (3, 8 * PAGE_SIZE));
    MAX_MAP_COUNT.set(STUB_MAPS + 3);
    assert_eq!(s.unmap(0x10_5000, 0x1000), Err(Errno::ENOMEM));
    assert_eq!(s.protect(0x10_0000, 0x1000, c::PROT_READ), Err(Errno::ENOMEM));
    assert_eq!(s.advise_fork(0x10_5000..0x10_6000, Some(true), None), Err(Errno::ENOMEM));
    assert_eq!(s.lock(0x10_5000..0x10_6000, true), Err(Errno::ENOMEM));
    assert_eq!(s.remap(0x10_5000, 0x3000, 0x4000, c::MREMAP_MAYMOVE, 0, UNLIMITED), Ok(Remap::InPlace));
    assert_eq!(s.remap(0x10_5000, 0x1000, 0x2000, c::MREMAP_MAYMOVE, 0, UNLIMITED), Err(Errno::ENOMEM));
    // What changes nothing splits nothing, and what goes as a whole leaves fewer.
    s.protect(0x10_5000, 0x1000, RW).unwrap();
    s.lock(0x10_5000..0x10_6000, false).unwrap();
    assert!(s.place(0, 1, 0, UNLIMITED).is_ok());
    put(&mut s, 0x20_0000, 1, RW);
    assert_eq!(s.place(0, 1, 0, UNLIMITED), Err(Errno::ENOMEM));
    s.unmap(0x10_7000, 0x10_0000).unwrap();
    assert_eq!((s.iter().count(), s.total()), (3, 7 * PAGE_SIZE));
    MAX_MAP_COUNT.set(65_530);
}

#[test]
fn what_is_sealed_stays_as_it_is() {
    let mut s = space();
    let (at, page) = (0x10_0000, PAGE_SIZE);
    put(&mut s, at, 4, RW);
    assert_eq!(s.seal(at..at + 5 * page), Err(Errno::ENOMEM));
    s.seal(at + page..at + 2 * page).unwrap();
    s.seal(at + 2 * page..at + 3 * page).unwrap();
    assert_eq!(s.iter().map(|v| v.sealed).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(s.unmap(at, 4 * page), Err(Errno::EPERM));
    assert_eq!(s.protect(at, 4 * page, RW), Err(Errno::EPERM));
    assert_eq!(s.place(at + page, page, c::MAP_FIXED, UNLIMITED), Err(Errno::EPERM));
    assert_eq!(s.remap(at + page, 2 * page, page, 0, 0, UNLIMITED), Err(Errno::EPERM));
    assert_eq!(s.remap(at + page, 2 * page, 4 * page, c::MREMAP_MAYMOVE, 0, UNLIMITED), Err(Errno::EPERM));
    let fixed = c::MREMAP_MAYMOVE | c::MREMAP_FIXED;
    assert_eq!(s.remap(at + 3 * page, page, page, fixed, at + page, UNLIMITED), Err(Errno::EPERM));
    assert_eq!(s.remap(at, 4 * page, page, fixed, at + 8 * page, UNLIMITED), Err(Errno::EPERM));
    assert_eq!(s.remap(at + page, 2 * page, 2 * page, 0, 0, UNLIMITED), Err(Errno::EPERM));
    assert_eq!(s.fork().unmap(at, 2 * page), Err(Errno::EPERM));
    assert_eq!(s.total(), 4 * page);
}

#[test]
fn a_mapping_is_asked_for_by_address_and_rights() {
    let mut s = space();
    put(&mut s, 0x10_0000, 1, c::PROT_READ);
    put(&mut s, 0x20_0000, 2, RW);
    let ask = |addr, flags| Query { addr, flags, ..Query::default() };
    let mut q = ask(0x20_0fff, 0);
    assert_eq!(s.query(&mut q), Ok(None));
    assert_eq!((q.start, q.end, q.vma_flags, q.page_size), (0x20_0000, 0x20_2000, 3, PAGE_SIZE));
    assert_eq!(s.query(&mut ask(0xf_ffff, 0)), Err(Errno::ENOENT));
    assert_eq!(s.query(&mut ask(0x10_0000, 2)), Err(Errno::ENOENT));
    let mut next = ask(0x10_0000, 2 | 0x10);
    assert_eq!((s.query(&mut next), next.start), (Ok(None), 0x20_0000));
    assert_eq!(s.query(&mut ask(0, 0x10 | 0x20)), Err(Errno::ENOENT));
    assert_eq!((ask(0, 0x40).check(), ask(0, 0x3f).check()), (Err(Errno::EINVAL), Ok(())));
    assert_eq!(Query { name_size: 1, ..Query::default() }.check(), Err(Errno::EINVAL));
}
