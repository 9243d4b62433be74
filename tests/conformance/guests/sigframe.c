/* Faults, what the frame says, alternate stacks, and the state of the processor across a handler. */
#include "t.h"
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile sig_atomic_t count, last, order[16];
static volatile siginfo_t info;

static void counts(int number) {
    order[count & 15] = number;
    count++;
    last = number;
}
static void with_info(int number, siginfo_t *given, void *context) {
    (void)context;
    info = *given;
    counts(number);
}
static void set(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    OK(sigaction(number, &action, NULL));
}
static void set_info(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    OK(sigaction(number, &action, NULL));
}
static void block(int number) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    OK(sigprocmask(SIG_BLOCK, &mask, NULL));
}
static sigjmp_buf back;
static void *volatile fault_address;
static void faults(int number, siginfo_t *given, void *context) {
    (void)number, (void)context;
    info = *given;
    fault_address = given->si_addr;
    siglongjmp(back, 1);
}
CASE(segv_maperr_and_accerr) {
    set_info(SIGSEGV, faults, 0);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile char *)(page + 100) = 1;
        t_fail("wrote to a read-only page");
    }
    CHECK(fault_address == page + 100);
    EQ(info.si_code, SEGV_ACCERR);
    munmap(page, 4096);
    if (sigsetjmp(back, 1) == 0) {
        (void)*(volatile char *)(page + 8);
        t_fail("read an unmapped page");
    }
    CHECK(fault_address == page + 8);
    EQ(info.si_code, SEGV_MAPERR);
    if (sigsetjmp(back, 1) == 0) {
        *(volatile int *)0 = 1;
        t_fail("wrote to 0");
    }
    CHECK(fault_address == NULL);
}
CASE(segv_kills_by_default) {
    pid_t pid = fork();
    if (pid == 0) {
        *(volatile int *)8 = 1;
        _exit(0);
    }
    int status = t_wait(pid);
    CHECK(WIFSIGNALED(status));
    EQ(WTERMSIG(status), SIGSEGV);
}
CASE(segv_blocked_or_ignored_kills_all_the_same) {
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_IGN);
        block(SIGSEGV);
        *(volatile int *)8 = 1;
        _exit(0);
    }
    EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}
CASE(fpe_ill_trap_bus) {
    set_info(SIGFPE, faults, 0);
    if (sigsetjmp(back, 1) == 0) {
        volatile int zero = 0, one = 1;
        one = one / zero;
        t_fail("divided by zero");
    }
    EQ(info.si_code, FPE_INTDIV);
    set_info(SIGILL, faults, 0);
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile("ud2");
        t_fail("executed ud2");
    }
    EQ(info.si_signo, SIGILL);
    set_info(SIGTRAP, with_info, 0);
    __asm__ volatile("int3");
    EQ(info.si_signo, SIGTRAP);
    set_info(SIGBUS, faults, 0);
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(page != MAP_FAILED);
    if (sigsetjmp(back, 1) == 0) {
        (void)*page;
        t_fail("read beyond the end of the file");
    }
    EQ(info.si_code, BUS_ADRERR);
}
CASE(abort_kills) {
    pid_t pid = fork();
    if (pid == 0)
        abort();
    EQ(WTERMSIG(t_wait(pid)), SIGABRT);
}
static void *volatile handler_stack;
static void notes_stack(int number) {
    (void)number;
    char here;
    handler_stack = &here;
    count++;
    stack_t now;
    sigaltstack(NULL, &now);
    last = now.ss_flags;
}
CASE(sigaltstack_is_used) {
    static char area[65536];
    stack_t stack = {.ss_sp = area, .ss_size = sizeof area}, old;
    OK(sigaltstack(&stack, &old));
    EQ(old.ss_flags, SS_DISABLE);
    set(SIGUSR1, notes_stack, SA_ONSTACK);
    OK(raise(SIGUSR1));
    CHECK((char *)handler_stack >= area && (char *)handler_stack < area + sizeof area);
    EQ(last, SS_ONSTACK);
    set(SIGUSR1, notes_stack, 0);
    OK(raise(SIGUSR1));
    EQ(count, 2);
    CHECK((char *)handler_stack < area || (char *)handler_stack >= area + sizeof area);
    stack.ss_size = 100;
    ERR(sigaltstack(&stack, NULL), ENOMEM);
    stack.ss_flags = 99;
    ERR(sigaltstack(&stack, NULL), EINVAL);
    ERR(syscall(SYS_sigaltstack, BAD_ADDRESS, NULL), EFAULT);
}
static void overflow_caught(int number) {
    (void)number;
    siglongjmp(back, 1);
}
static volatile int sink;
static __attribute__((noinline)) int recurse(int n) {
    volatile char frame[4096];
    frame[0] = n;
    sink += frame[0];
    return n == 0x7fffffff ? 0 : recurse(n + 1) + frame[0];
}
CASE(stack_overflow_is_caught) {
    static char area[65536];
    stack_t stack = {.ss_sp = area, .ss_size = sizeof area};
    OK(sigaltstack(&stack, NULL));
    set(SIGSEGV, overflow_caught, SA_ONSTACK);
    if (sigsetjmp(back, 1) == 0) {
        recurse(0);
        t_fail("no overflow");
    }
}
static void spoils_registers(int number) {
    (void)number;
    __asm__ volatile("pxor %%xmm0, %%xmm0\n pxor %%xmm7, %%xmm7\n pxor %%xmm15, %%xmm15\n fldz\n fstp %%st(0)\n"
                     :
                     :
                     : "xmm0", "xmm7", "xmm15");
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroall" ::: "memory");
    unsigned csr = 0x1f80 | 0x6000;
    __asm__ volatile("ldmxcsr %0" ::"m"(csr));
    unsigned short control = 0x27f;
    __asm__ volatile("fldcw %0" ::"m"(control));
    count++;
}
CASE(sse_state_survives_a_handler) {
    set(SIGUSR1, spoils_registers, 0);
    pid_t me = getpid();
    double in[2] = {1.25, -7.5}, out0[2], out15[2];
    unsigned csr_before = 0x1f80 | 0x2000, csr_after = 0;
    unsigned short control_before = 0x37f, control_after = 0;
    long result;
    __asm__ volatile("ldmxcsr %0\n fldcw %1" ::"m"(csr_before), "m"(control_before));
    __asm__ volatile("movupd (%[in]), %%xmm0\n"
                     "movupd (%[in]), %%xmm15\n"
                     "syscall\n"
                     "movupd %%xmm0, (%[out0])\n"
                     "movupd %%xmm15, (%[out15])\n"
                     : "=a"(result)
                     : "a"(SYS_kill), "D"(me), "S"(SIGUSR1), [in] "b"(in), [out0] "r"(out0), [out15] "r"(out15)
                     : "rcx", "r11", "memory", "xmm0", "xmm15");
    __asm__ volatile("stmxcsr %0\n fnstcw %1" : "=m"(csr_after), "=m"(control_after));
    EQ(result, 0);
    EQ(count, 1);
    CHECK(memcmp(in, out0, 16) == 0 && memcmp(in, out15, 16) == 0);
    EQ(csr_after & 0xffc0, csr_before & 0xffc0);
    EQ(control_after, control_before);
}
__attribute__((target("avx"))) static void avx_body(pid_t me) {
    float in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
    long result;
    __asm__ volatile("vmovups (%[in]), %%ymm3\n"
                     "syscall\n"
                     "vmovups %%ymm3, (%[out])\n"
                     : "=a"(result)
                     : "a"(SYS_kill), "D"(me), "S"(SIGUSR1), [in] "b"(in), [out] "r"(out)
                     : "rcx", "r11", "memory", "ymm3");
    EQ(result, 0);
    EQ(count, 1);
    CHECK(memcmp(in, out, sizeof in) == 0);
}
CASE(avx_state_survives_a_handler) {
    if (!__builtin_cpu_supports("avx"))
        SKIP("the processor has no AVX");
    set(SIGUSR1, spoils_registers, 0);
    avx_body(getpid());
}
__attribute__((target("avx"))) static long avx_counts(void) {
    float in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
    long turns = 0;
    while (count < 20) {
        __asm__ volatile("vmovups (%[in]), %%ymm9\n"
                         "mov $2000, %%ecx\n"
                         "1: dec %%ecx\n"
                         "jnz 1b\n"
                         "vmovups %%ymm9, (%[out])\n"
                         :
                         : [in] "r"(in), [out] "r"(out)
                         : "rcx", "memory", "ymm9");
        if (memcmp(in, out, sizeof in) != 0)
            return -1;
        turns++;
    }
    return turns;
}
CASE(avx_state_survives_asynchronous_handlers) {
    if (!__builtin_cpu_supports("avx"))
        SKIP("the processor has no AVX");
    set(SIGALRM, spoils_registers, 0);
    struct itimerval timer = {{0, 3000}, {0, 3000}};
    OK(setitimer(ITIMER_REAL, &timer, NULL));
    CHECK(avx_counts() > 0);
}
static void changes_context(int number, siginfo_t *given, void *context) {
    (void)number, (void)given;
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_RBX] = 0x1234567890;
    sigaddset(&u->uc_sigmask, SIGUSR2);
}
CASE(handler_may_change_the_context) {
    set_info(SIGUSR1, changes_context, 0);
    long rbx, result;
    __asm__ volatile("xor %%ebx, %%ebx\n syscall\n"
                     : "=b"(rbx), "=a"(result)
                     : "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)
                     : "rcx", "r11", "memory");
    EQ(result, 0);
    EQ(rbx, 0x1234567890);
    sigset_t mask;
    OK(sigprocmask(SIG_BLOCK, NULL, &mask));
    CHECK(sigismember(&mask, SIGUSR2));
}
static void notes_registers(int number, siginfo_t *given, void *context) {
    (void)number;
    ucontext_t *u = context;
    info = *given;
    order[0] = u->uc_mcontext.gregs[REG_TRAPNO];
    order[1] = u->uc_mcontext.gregs[REG_ERR];
    order[2] = u->uc_mcontext.gregs[REG_R12];
    fault_address = (void *)u->uc_mcontext.gregs[REG_CR2];
    u->uc_mcontext.gregs[REG_RIP] += 2;
}
CASE(fault_context_tells_all) {
    set_info(SIGSEGV, notes_registers, 0);
    __asm__ volatile("mov $77, %%r12d\n mov $0x18, %%eax\n .byte 0x8b, 0x00\n" ::: "r12", "rax", "memory");
    EQ(order[0], 14);
    EQ(order[1], 4);
    EQ(order[2], 77);
    EQ((long)fault_address, 0x18);
}
CASE(flags_survive) {
    set(SIGUSR1, counts, 0);
    unsigned long flags;
    __asm__ volatile("std\n stc\n syscall\n pushfq\n pop %0\n cld\n"
                     : "=r"(flags)
                     : "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)
                     : "rcx", "r11", "memory");
    EQ(count, 1);
    EQ(flags & 0x401, 0x401);
}
CASE(red_zone_is_left_alone) {
    set(SIGUSR1, counts, 0);
    long result = SYS_kill, seen;
    __asm__ volatile("movq $0x5a5a, -16(%%rsp)\n movq $0x5a5b, -120(%%rsp)\n syscall\n"
                     "mov -16(%%rsp), %1\n sub $0x5a5a, %1\n mov -120(%%rsp), %%rcx\n sub $0x5a5b, %%rcx\n or %%rcx, %1\n"
                     : "+a"(result), "=&r"(seen)
                     : "D"(getpid()), "S"(SIGUSR1)
                     : "rcx", "r11", "memory");
    EQ(count, 1);
    EQ(seen, 0);
}
static void calls_where_it_was_called(int number) {
    (void)number;
    for (int i = 0; i < 20; i++)
        syscall(SYS_gettid);
}
/* The instruction after the call that was interrupted may be rewritten by then. */
CASE(handler_calls_through_the_same_code) {
    signal(SIGUSR1, calls_where_it_was_called);
    for (int i = 0; i < 20; i++)
        EQ(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1), 0);
}
