//! /proc/cpuinfo: a processor of ours, with the host's instructions.
use std::fmt::Write;

/// Words of `cpuid` in which features are told: leaf, subleaf, register (eax to edx).
type Word = (u32, u32, usize);

const BASIC_D: Word = (1, 0, 3);
const BASIC_C: Word = (1, 0, 2);
const MORE_B: Word = (7, 0, 1);
const MORE_C: Word = (7, 0, 2);
const MORE_D: Word = (7, 0, 3);
const XSAVE: Word = (0xd, 1, 0);
const EXTENDED_D: Word = (0x8000_0001, 0, 3);
const EXTENDED_C: Word = (0x8000_0001, 0, 2);

/// Instructions that a program may use, by Linux's names, and the bits that tell of them. What only a kernel uses is left out, and
/// protection keys and the instructions for the segments' bases, as the sandbox has neither.
const FEATURES: &[(Word, &[(u32, &str)])] = &[
    (
        BASIC_D,
        &[
            (0, "fpu"),
            (4, "tsc"),
            (8, "cx8"),
            (11, "sep"),
            (15, "cmov"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (28, "ht"),
        ],
    ),
    (
        EXTENDED_D,
        &[
            (11, "syscall"),
            (20, "nx"),
            (22, "mmxext"),
            (25, "fxsr_opt"),
            (26, "pdpe1gb"),
            (27, "rdtscp"),
            (29, "lm"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ],
    ),
    (
        BASIC_C,
        &[
            (0, "pni"),
            (1, "pclmulqdq"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (19, "sse4_1"),
            (20, "sse4_2"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (26, "xsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
            (31, "hypervisor"),
        ],
    ),
    (
        EXTENDED_C,
        &[
            (0, "lahf_lm"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (11, "xop"),
            (16, "fma4"),
            (21, "tbm"),
        ],
    ),
    (
        MORE_B,
        &[
            (3, "bmi1"),
            (5, "avx2"),
            (8, "bmi2"),
            (9, "erms"),
            (11, "rtm"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (21, "avx512ifma"),
            (23, "clflushopt"),
            (24, "clwb"),
            (28, "avx512cd"),
            (29, "sha_ni"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ],
    ),
    (XSAVE, &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1")]),
    (
        MORE_C,
        &[
            (1, "avx512vbmi"),
            (5, "waitpkg"),
            (6, "avx512_vbmi2"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512_vnni"),
            (12, "avx512_bitalg"),
            (14, "avx512_vpopcntdq"),
            (22, "rdpid"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
        ],
    ),
    (MORE_D, &[(4, "fsrm"), (8, "avx512_vp2intersect"), (14, "serialize"), (23, "avx512_fp16")]),
];

/// The flags of a processor whose `cpuid` answers so.
fn flags(cpuid: impl Fn(u32, u32) -> Option<[u32; 4]>) -> Vec<&'static str> {
    let mut out = Vec::new();
    for ((leaf, subleaf, register), names) in FEATURES {
        let Some(answer) = cpuid(*leaf, *subleaf) else { continue };
        out.extend(names.iter().filter(|(bit, _)| answer[*register] >> bit & 1 != 0).map(|(_, name)| *name));
    }
    out
}

/// The text, for so many processors.
pub fn text(cpus: usize) -> String {
    let flags = flags(host::cpu::cpuid).join(" ");
    let mut s = String::new();
    for i in 0..cpus {
        let _ = write!(
            s,
            "processor\t: {i}\nvendor_id\t: GenuineRvisor\ncpu family\t: 6\nmodel\t\t: 1\nmodel name\t: rVisor virtual CPU\n\
             stepping\t: 1\ncpu MHz\t\t: 2000.000\nphysical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {i}\ncpu cores\t: {cpus}\n\
             apicid\t\t: {i}\ninitial apicid\t: {i}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\n\
             flags\t\t: {flags}\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n",
        );
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_linux_names_each_once() {
        let all = flags(|_, _| Some([u32::MAX; 4]));
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        assert!(all.contains(&"pni") && !all.contains(&"fsgsbase"));
        assert_eq!(flags(|leaf, _| (leaf == 1).then_some([0, 0, 1, 1])), ["fpu", "pni"]);
    }
}
