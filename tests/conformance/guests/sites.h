/* Calls as a C library makes them, and how to call them from anywhere: what guest programs about call sites share. */
#ifndef SITES_H
#define SITES_H
#include <sys/syscall.h>

/* mov eax, NUMBER; syscall; ret */
static const unsigned char moves[] = {0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3};
/* push NUMBER; pop rax; syscall; cmp rax, -4095; setae dl; movzx edx, dl; ret */
static const unsigned char compares[] = {0x6a, SYS_getppid, 0x58, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0,
                                         0xff, 0xff, 0x0f, 0x93, 0xc2, 0x0f, 0xb6, 0xd2, 0xc3};

struct result {
    long value, flag, kept;
};
/* Calls code; every register that a call keeps has a value of its own before, which `k` makes another. */
static struct result run(const char *code, long argument, long k) {
    register long r8 __asm__("r8") = 8 + k, r9 __asm__("r9") = 9 + k, r10 __asm__("r10") = 10 + k, r12 __asm__("r12") = 12 + k;
    register long r13 __asm__("r13") = 13 + k, r14 __asm__("r14") = 14 + k;
    long rbx = 3 + k, rdx = 2, rsi = 6, value;
    double before = 1.5 + k, after;
    __asm__ volatile("movq %[before], %%xmm7\n sub $128, %%rsp\n call *%[code]\n add $128, %%rsp\n movq %%xmm7, %[after]"
                     : "=&a"(value), "+d"(rdx), "+S"(rsi), "+b"(rbx), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r12), "+r"(r13),
                       "+r"(r14), "+D"(argument), [after] "=r"(after)
                     : [code] "r"(code), [before] "r"(before)
                     : "rcx", "r11", "memory", "cc", "xmm7");
    int kept = rbx == 3 + k && rsi == 6 && r8 == 8 + k && r9 == 9 + k && r10 == 10 + k && r12 == 12 + k && r13 == 13 + k &&
               r14 == 14 + k && after == before;
    return (struct result){value, rdx, kept};
}
#endif
