use super::*;

/// A small executable: text at 0x40_0000, data with bss at 0x40_2ff0.
fn sample(kind: u16) -> Vec<u8> {
    let mut f = vec![0u8; 0x3000];
    f[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    f[16..18].copy_from_slice(&kind.to_le_bytes());
    f[18..20].copy_from_slice(&62u16.to_le_bytes());
    f[24..32].copy_from_slice(&0x40_0100u64.to_le_bytes());
    f[32..40].copy_from_slice(&64u64.to_le_bytes());
    f[54..56].copy_from_slice(&56u16.to_le_bytes());
    f[56..58].copy_from_slice(&2u16.to_le_bytes());
    for (i, (flags, off, va, fs, ms)) in
        [(5u32, 0u64, 0x40_0000u64, 0x1000u64, 0x1000u64), (6, 0x1ff0, 0x40_2ff0, 0x20, 0x3000)].into_iter().enumerate()
    {
        let p = 64 + i * 56;
        f[p..p + 4].copy_from_slice(&1u32.to_le_bytes());
        f[p + 4..p + 8].copy_from_slice(&flags.to_le_bytes());
        for (j, v) in [off, va, va, fs, ms, 0x1000].into_iter().enumerate() {
            f[p + 8 + j * 8..p + 16 + j * 8].copy_from_slice(&v.to_le_bytes());
        }
    }
    f
}

fn parse(f: &[u8]) -> Result<Elf, Refused> {
    Elf::parse(&mut |at, buf| {
        let at = (at as usize).min(f.len());
        let n = buf.len().min(f.len() - at);
        buf[..n].copy_from_slice(&f[at..at + n]);
        Ok(n)
    })
}

#[test]
fn pieces_cover_the_file_and_the_bss() {
    let e = parse(&sample(2)).unwrap();
    assert_eq!((e.entry, e.phdr, e.range()), (0x40_0100, 0x40_0040, 0x40_0000..0x40_6000));
    let p = e.pieces(0);
    assert_eq!(p.len(), 3);
    assert_eq!((p[1].addr, p[1].len, p[1].offset, p[1].zero_from), (0x40_2000, 0x2000, Some(0x1000), Some(0x40_3010)));
    assert_eq!((p[2].addr, p[2].len, p[2].offset), (0x40_4000, 0x2000, None));
}

#[test]
fn corrupt_files_are_refused() {
    let good = sample(3);
    for (at, byte) in [(0, 0), (4, 1), (18, 40), (16, 1), (54, 57), (56, 0)] {
        let mut f = good.clone();
        f[at] = byte;
        assert!(parse(&f).is_err(), "byte {at}");
    }
    assert!(parse(&good[..100]).is_err());
    assert!(parse(b"").is_err());
    // Every single-byte corruption of the headers is refused or understood; none panics.
    for at in 0..176 {
        for byte in [0u8, 1, 0x7f, 0xff] {
            let mut f = good.clone();
            f[at] = byte;
            if let Ok(e) = parse(&f) {
                e.pieces(if e.relocatable { 0x5000_0000 } else { 0 });
            }
        }
    }
}

#[test]
fn scripts_name_their_interpreter() {
    let s = |b: &[u8]| script(b).map(|r| r.map(|(i, a)| (String::from_utf8(i).unwrap(), a)));
    assert_eq!(s(b"#!/bin/sh\n"), Some(Ok(("/bin/sh".into(), None))));
    assert_eq!(s(b"#! /usr/bin/env  python3 -u \nx"), Some(Ok(("/usr/bin/env".into(), Some(b"python3 -u".to_vec())))));
    assert_eq!(s(b"#!\n"), Some(Err(Errno::ENOEXEC)));
    assert_eq!(s(b"\x7fELF"), None);
    let long = [b"#!".to_vec(), vec![b'a'; 400]].concat();
    assert_eq!(s(&long), Some(Err(Errno::ENOEXEC)));
}

#[test]
fn a_stack_has_everything_in_its_place() {
    let args: Vec<Vec<u8>> = vec![b"prog".to_vec(), b"x y".to_vec()];
    let env = vec![b"A=1".to_vec()];
    let top = 0x7000_0000u64;
    let s = stack::build(top, &args, &env, b"/bin/prog", [7; 16], &vec![(6, 4096)], 1 << 20).unwrap();
    assert_eq!(s.sp % 16, 0);
    assert!(s.sp + s.bytes.len() as u64 <= top);
    let word = |i: usize| u64::from_le_bytes(s.bytes[i * 8..i * 8 + 8].try_into().unwrap());
    let text = |a: u64| {
        let b = &s.bytes[(a - s.sp) as usize..];
        b[..b.iter().position(|c| *c == 0).unwrap()].to_vec()
    };
    assert_eq!(
        (word(0), text(word(1)), text(word(2)), word(3), text(word(4)), word(5)),
        (2, args[0].clone(), args[1].clone(), 0, env[0].clone(), 0)
    );
    assert_eq!((word(6), word(7)), (6, 4096));
    let many = vec![vec![b'a'; 10]; 100_000];
    assert!(stack::build(top, &many, &[], b"x", [0; 16], &vec![], 2 << 20).is_ok());
    assert_eq!(stack::build(top, &many, &[], b"x", [0; 16], &vec![], 1 << 20).err(), Some(Errno::E2BIG));
}
