/* What a hostile guest knows of the stub in its address space, and how it makes host calls by it.
   The numbers are those of crates/slots. */
#ifndef HOSTILE_H
#define HOSTILE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STUB_BASE 0x7ff000000000ul
#define STUB_SIZE 0x100000ul
#define THREADS_BASE 0x7ff100000000ul
#define THREAD_STRIDE 0x10000ul
#define REGION_BASE 0x7ff200000000ul
#define SLOT_STRIDE 0x20000ul
#define SLOTS 1024ul
#define REGION_SIZE (SLOT_STRIDE * (SLOTS + 1))
#define DOORBELL 447
/* A free page where the stub's filter takes calls for the stub's own. */
#define OWN_PAGE (STUB_BASE + 0xf0000)

enum { ASK_CALL = 1, ASK_TRAP, ASK_FAULT, ASK_KICKED, ASK_READY, ASK_FAILED, ASK_DONE };

struct segment {
    volatile uint64_t addr;
    volatile uint32_t len, offset;
};
struct action {
    volatile uint32_t op, fd_arg;
    volatile uint64_t args[7];
};
struct slot {
    volatile uint32_t seq, kind;
    volatile uint64_t nr, args[6];
    struct segment segments[2];
    volatile uint32_t used, pad;
    volatile uint64_t ip, sp, pad1;
    volatile uint32_t answer, then;
    volatile uint64_t ret;
    volatile uint32_t actions, parked;
    volatile uint64_t pad2[5];
    volatile uint32_t hot, pad3[15];
    volatile uint32_t signo, code;
    volatile uint64_t addr, fp_size, regs[23];
    struct action action[40];
};
_Static_assert(__builtin_offsetof(struct slot, answer) == 128, "slots::Answer");
_Static_assert(__builtin_offsetof(struct slot, hot) == 192, "slots::Mode");
_Static_assert(__builtin_offsetof(struct slot, action) == 464, "slots::Slot");

struct tls {
    uint64_t entry, self, stack, kick;
    struct slot *slot;
    uint64_t index;
    volatile uint32_t seq, pad;
    uint64_t cookie;
};

static inline struct tls *tls(void) {
    struct tls *t;
    __asm__ volatile("mov %%gs:8, %0" : "=r"(t));
    return t;
}
static inline struct slot *slot_at(uint64_t index) {
    return (struct slot *)(REGION_BASE + SLOT_STRIDE * (index + 1));
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void broken(const char *format, ...) {
    char text[256];
    __builtin_va_list list;
    __builtin_va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    dprintf(1, "broken: %s\n", text);
    _exit(99);
}

/* call_at(where, nr, args): loads the registers and calls `where`, which is a system call and a return.
   pop_at: the same for code that pops a word before it returns.  */
long call_at(uint64_t where, long nr, const long *args);
long pop_at(uint64_t where, long nr, const long *args);
__asm__(".text\n"
        ".macro load_arguments\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rdi, %rbx; mov %rsi, %rax; mov %rdx, %rcx\n"
        "mov (%rcx), %rdi; mov 8(%rcx), %rsi; mov 16(%rcx), %rdx\n"
        "mov 24(%rcx), %r10; mov 32(%rcx), %r8; mov 40(%rcx), %r9\n"
        ".endm\n"
        "call_at:\n load_arguments\n call *%rbx\n jmp 2f\n"
        "pop_at:\n load_arguments\n lea 2f(%rip), %rcx; push %rcx; push %rbx; jmp *%rbx\n"
        "2: pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

static sigjmp_buf unreadable;
static inline void on_fault(int signo) { siglongjmp(unreadable, signo); }

/* The stub's text: the readable pages that hold system call instructions. */
struct text {
    uint8_t *first_syscall, *pops;
    uint8_t *begin, *end;
};

static inline struct text find_text(void) {
    struct text found = {0};
    struct sigaction old, act = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &act, &old);
    for (uint8_t *page = (uint8_t *)STUB_BASE; page < (uint8_t *)(STUB_BASE + STUB_SIZE); page += 4096) {
        if (sigsetjmp(unreadable, 1) != 0)
            continue;
        volatile uint8_t readable = *page;
        (void)readable;
        int any = 0;
        for (uint8_t *p = page; p < page + 4080; p++) {
            if (p[0] != 0x0f || p[1] != 0x05)
                continue;
            any = 1;
            if (!found.first_syscall)
                found.first_syscall = p;
            /* syscall; test rax, rax; jz ...; pop r12; ret */
            if (memcmp(p + 2, "\x48\x85\xc0", 3) == 0 &&
                ((p[5] == 0x74 && memcmp(p + 7, "\x41\x5c\xc3", 3) == 0) ||
                 (p[5] == 0x0f && p[6] == 0x84 && memcmp(p + 11, "\x41\x5c\xc3", 3) == 0)))
                found.pops = p;
        }
        if (any) {
            if (!found.begin)
                found.begin = page;
            found.end = page + 4096;
        }
    }
    sigaction(SIGSEGV, &old, NULL);
    if (!found.first_syscall || !found.pops)
        broken("no system call instruction was found in the stub");
    return found;
}

/* Host calls from here on, by a page of our own among the stub's. */
static inline long host_call(long nr, long a, long b, long c, long d, long e, long f) {
    return call_at(OWN_PAGE, nr, (long[]){a, b, c, d, e, f});
}
static inline void own_page(struct text text) {
    long args[6] = {OWN_PAGE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0};
    long r = pop_at((uint64_t)text.pops, SYS_mmap, args);
    if (r != (long)OWN_PAGE)
        broken("the host's mmap by the stub's instruction: %ld", r);
    memcpy((void *)OWN_PAGE, "\x0f\x05\xc3", 3);       /* syscall; ret */
    memcpy((void *)(OWN_PAGE + 16), "\xcd\x80\xc3", 3); /* int 0x80; ret */
}

static inline uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}
static inline void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}
static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
#endif
