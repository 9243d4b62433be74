//! The ways in and out, in assembly: patched call sites, traps, new threads, the process start.
use core::arch::global_asm;
use slots::tls;

/// Numbers no kernel has; the filter turns them into SIGSYS.
pub const SHOW_CONTEXT: u64 = 1022;
pub const SHOW_READY: u64 = 1023;
pub const SHOW_CALL: u64 = 1021;

global_asm!(
    ".macro restore_all",
    "movups xmm0, gs:[{xmm} + 0x00]",
    "movups xmm1, gs:[{xmm} + 0x10]",
    "movups xmm2, gs:[{xmm} + 0x20]",
    "movups xmm3, gs:[{xmm} + 0x30]",
    "movups xmm4, gs:[{xmm} + 0x40]",
    "movups xmm5, gs:[{xmm} + 0x50]",
    "movups xmm6, gs:[{xmm} + 0x60]",
    "movups xmm7, gs:[{xmm} + 0x70]",
    "movups xmm8, gs:[{xmm} + 0x80]",
    "movups xmm9, gs:[{xmm} + 0x90]",
    "movups xmm10, gs:[{xmm} + 0xa0]",
    "movups xmm11, gs:[{xmm} + 0xb0]",
    "movups xmm12, gs:[{xmm} + 0xc0]",
    "movups xmm13, gs:[{xmm} + 0xd0]",
    "movups xmm14, gs:[{xmm} + 0xe0]",
    "movups xmm15, gs:[{xmm} + 0xf0]",
    "mov r8, gs:[{regs} + 0]",
    "mov r9, gs:[{regs} + 8]",
    "mov r10, gs:[{regs} + 16]",
    "mov r12, gs:[{regs} + 32]",
    "mov r13, gs:[{regs} + 40]",
    "mov r14, gs:[{regs} + 48]",
    "mov r15, gs:[{regs} + 56]",
    "mov rdi, gs:[{regs} + 64]",
    "mov rsi, gs:[{regs} + 72]",
    "mov rbp, gs:[{regs} + 80]",
    "mov rbx, gs:[{regs} + 88]",
    "mov rdx, gs:[{regs} + 96]",
    "mov rax, gs:[{regs} + 104]",
    "mov rcx, gs:[{regs} + 128]",
    "mov rsp, gs:[{regs} + 120]",
    ".endm",
    // rax: number; rcx: return address; r11: free. Everything else is the guest's and comes back unchanged.
    ".global stub_entry",
    "stub_entry:",
    "mov gs:[{regs} + 120], rsp",
    "mov gs:[{regs} + 128], rcx",
    "mov gs:[{regs} + 0], r8",
    "mov gs:[{regs} + 8], r9",
    "mov gs:[{regs} + 16], r10",
    "mov gs:[{regs} + 32], r12",
    "mov gs:[{regs} + 40], r13",
    "mov gs:[{regs} + 48], r14",
    "mov gs:[{regs} + 56], r15",
    "mov gs:[{regs} + 64], rdi",
    "mov gs:[{regs} + 72], rsi",
    "mov gs:[{regs} + 80], rbp",
    "mov gs:[{regs} + 88], rbx",
    "mov gs:[{regs} + 96], rdx",
    "mov gs:[{regs} + 104], rax",
    "mov rsp, gs:[{stack}]",
    "movups gs:[{xmm} + 0x00], xmm0",
    "movups gs:[{xmm} + 0x10], xmm1",
    "movups gs:[{xmm} + 0x20], xmm2",
    "movups gs:[{xmm} + 0x30], xmm3",
    "movups gs:[{xmm} + 0x40], xmm4",
    "movups gs:[{xmm} + 0x50], xmm5",
    "movups gs:[{xmm} + 0x60], xmm6",
    "movups gs:[{xmm} + 0x70], xmm7",
    "movups gs:[{xmm} + 0x80], xmm8",
    "movups gs:[{xmm} + 0x90], xmm9",
    "movups gs:[{xmm} + 0xa0], xmm10",
    "movups gs:[{xmm} + 0xb0], xmm11",
    "movups gs:[{xmm} + 0xc0], xmm12",
    "movups gs:[{xmm} + 0xd0], xmm13",
    "movups gs:[{xmm} + 0xe0], xmm14",
    "movups gs:[{xmm} + 0xf0], xmm15",
    "cld",
    "mov rdi, gs:[{this}]",
    "call {patched_call}",
    "cmp eax, 1",
    "je 5f",
    "ja 4f",
    // A kick that arrives from here to the jump starts again here (signals.rs).
    ".global stub_exit_begin",
    "stub_exit_begin:",
    "cmp qword ptr gs:[{kick}], 0",
    "jne 3f",
    "restore_all",
    "jmp qword ptr gs:[{regs} + 128]",
    ".global stub_exit_end",
    "stub_exit_end:",
    "3:",
    "mov qword ptr gs:[{kick}], 0",
    "4:",
    "restore_all",
    "mov eax, {show_context}",
    "syscall",
    ".global stub_after_context",
    "stub_after_context:",
    "ud2",
    "5:",
    "restore_all",
    "mov eax, {show_call}",
    "syscall",
    ".global stub_after_full",
    "stub_after_full:",
    "ud2",
    // A new thread: r12 is its Tls.
    ".global stub_thread",
    "stub_thread:",
    "xor ebp, ebp",
    "mov rdi, r12",
    "call {thread_main}",
    "mov eax, {show_ready}",
    "syscall",
    ".global stub_after_ready",
    "stub_after_ready:",
    "ud2",
    // clone(flags rdi, stack rsi, tls rdx): the child begins at stub_thread.
    ".global stub_clone_thread",
    "stub_clone_thread:",
    "push r12",
    "mov r12, rdx",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jz stub_thread",
    "pop r12",
    "ret",
    // The word at rdi frees the slot, and with it this very stack: nothing may touch memory after that.
    ".global stub_exit_thread",
    "stub_exit_thread:",
    "xor esi, esi",
    "mov dword ptr [rdi], esi",
    "xor edi, edi",
    "mov eax, 60",
    "syscall",
    "ud2",
    // futex(2) that waits: no later than here a kick ends it (signals.rs). One that came before and that the sentry
    // has not heard of lets it not begin.
    ".global stub_wait",
    "stub_wait:",
    "mov r10, rcx",
    "mov r11, gs:[{seen}]",
    "mov eax, 202",
    ".global stub_wait_begin",
    "stub_wait_begin:",
    "cmp qword ptr gs:[{kick}], r11",
    "jne stub_wait_kicked",
    "syscall",
    ".global stub_wait_end",
    "stub_wait_end:",
    "ret",
    ".global stub_wait_kicked",
    "stub_wait_kicked:",
    "mov rax, {interrupted}",
    "ret",
    ".global stub_restore",
    "stub_restore:",
    "mov eax, 15",
    "syscall",
    "ud2",
    // With ptrace: the sentry sets all registers to make a host call here, and is told of its end by the trap.
    ".global stub_inject",
    "stub_inject:",
    "syscall",
    ".global stub_injected",
    "stub_injected:",
    "int3",
    "ud2",
    ".global _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    regs = const tls::REGS,
    xmm = const tls::XMM,
    stack = const tls::STACK,
    this = const tls::SELF,
    kick = const tls::KICK,
    seen = const tls::SEEN,
    interrupted = const -crate::sys::EINTR,
    show_context = const SHOW_CONTEXT,
    show_ready = const SHOW_READY,
    show_call = const SHOW_CALL,
    patched_call = sym crate::patched_call,
    thread_main = sym crate::init::thread_main,
    start = sym crate::init::start,
);

unsafe extern "C" {
    pub fn stub_entry();
    pub fn stub_exit_begin();
    pub fn stub_exit_end();
    pub fn stub_after_context();
    pub fn stub_after_full();
    pub fn stub_after_ready();
    pub fn stub_wait_begin();
    pub fn stub_wait_end();
    pub fn stub_wait_kicked();
    /// As futex(2); EINTR too if a kick came first.
    pub fn stub_wait(addr: u64, op: u64, val: u64, timeout: u64, addr2: u64, val3: u64) -> i64;
    pub fn stub_restore();
    pub fn stub_thread();
    /// Ends this host thread, having cleared `busy`.
    pub fn stub_exit_thread(busy: *const core::sync::atomic::AtomicU32) -> !;
    pub fn stub_inject();
    pub fn stub_injected();
    /// As clone(2) for a thread; 0 is never returned.
    pub fn stub_clone_thread(flags: u64, stack: u64, tls: u64) -> i64;
}

/// The address of a label.
pub fn at(f: unsafe extern "C" fn()) -> u64 {
    f as *const () as u64
}
