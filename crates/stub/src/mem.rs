//! Copies that survive a fault, and the functions the compiler expects.
use core::arch::global_asm;

global_asm!(
    // (dst rdi, src rsi, n rdx) -> bytes not copied
    ".global stub_copy",
    // `rep movsb` is slow to start, and slow when the addresses lie badly to each other: for long copies only.
    "stub_copy:",
    "mov rcx, rdx",
    "cmp rcx, 16384",
    "jae 5f",
    ".global stub_copy_begin",
    "stub_copy_begin:",
    "4:",
    "cmp rcx, 64",
    "jb 2f",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm2, [rsi + 32]",
    "movups xmm3, [rsi + 48]",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + 32], xmm2",
    "movups [rdi + 48], xmm3",
    "add rsi, 64",
    "add rdi, 64",
    "sub rcx, 64",
    "jmp 4b",
    "2:",
    "cmp rcx, 16",
    "jb 3f",
    "movups xmm0, [rsi]",
    "movups [rdi], xmm0",
    "add rsi, 16",
    "add rdi, 16",
    "sub rcx, 16",
    "jmp 2b",
    "3:",
    "test rcx, rcx",
    "jz stub_copy_end",
    "mov al, [rsi]",
    "mov [rdi], al",
    "inc rsi",
    "inc rdi",
    "dec rcx",
    "jmp 3b",
    "5:",
    "rep movsb",
    ".global stub_copy_end",
    "stub_copy_end:",
    "mov rax, rcx",
    "ret",
    // (dst rdi, n rsi) -> bytes not zeroed
    ".global stub_zero",
    "stub_zero:",
    "mov rcx, rsi",
    "xor eax, eax",
    ".global stub_zero_begin",
    "stub_zero_begin:",
    "rep stosb",
    ".global stub_zero_end",
    "stub_zero_end:",
    "mov rax, rcx",
    "ret",
    // (dst rdi, src rsi, max rdx) -> bytes copied, with the NUL
    ".global stub_copy_str",
    "stub_copy_str:",
    "xor eax, eax",
    "test rdx, rdx",
    "jz stub_str_end",
    ".global stub_str_begin",
    "stub_str_begin:",
    "mov cl, [rsi + rax]",
    "mov [rdi + rax], cl",
    "inc rax",
    "test cl, cl",
    "jz stub_str_end",
    "cmp rax, rdx",
    "jb stub_str_begin",
    ".global stub_str_end",
    "stub_str_end:",
    "ret",
    // The compiler's own.
    ".global memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".global memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".global memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "cmp rdi, rsi",
    "jbe 2f",
    "lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "2:",
    "rep movsb",
    "ret",
);

unsafe extern "C" {
    fn stub_copy(dst: *mut u8, src: *const u8, n: usize) -> usize;
    fn stub_zero(dst: *mut u8, n: usize) -> usize;
    fn stub_copy_str(dst: *mut u8, src: *const u8, max: usize) -> usize;
    fn stub_copy_begin();
    fn stub_copy_end();
    fn stub_zero_begin();
    fn stub_zero_end();
    fn stub_str_begin();
    fn stub_str_end();
}

/// Copies `n` bytes; returns how many were not copied because of a fault.
pub fn copy(dst: *mut u8, src: *const u8, n: usize) -> usize {
    // SAFETY: one side is the slot's data area, within bounds by the caller; the other is guest memory,
    // where a fault ends the copy (`recover`).
    unsafe { stub_copy(dst, src, n) }
}

/// Zeroes `n` bytes of guest memory; returns how many it could not.
pub fn zero(dst: *mut u8, n: usize) -> usize {
    // SAFETY: as for `copy`.
    unsafe { stub_zero(dst, n) }
}

/// Copies a string with its NUL, at most `max` bytes, stopping at a fault. Returns the bytes copied.
pub fn copy_str(dst: *mut u8, src: *const u8, max: usize) -> usize {
    // SAFETY: as for `copy`.
    unsafe { stub_copy_str(dst, src, max) }
}

/// Where to go on after a fault at `ip`, if it was in one of the copies.
pub fn recover(ip: u64) -> Option<u64> {
    let within = |a: unsafe extern "C" fn(), b: unsafe extern "C" fn()| {
        (ip >= a as *const () as u64 && ip < b as *const () as u64).then_some(b as *const () as u64)
    };
    within(stub_copy_begin, stub_copy_end)
        .or(within(stub_zero_begin, stub_zero_end))
        .or(within(stub_str_begin, stub_str_end))
}
