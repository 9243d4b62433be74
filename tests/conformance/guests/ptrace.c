/* ptrace: attaching, stops, registers, memory, events, steps, and the end of tracers and tracees. */
#include "t.h"
#include <elf.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#define PT(op, pid, addr, data) ptrace(op, pid, (void *)(uintptr_t)(addr), (void *)(uintptr_t)(data))
#define STOPPED(status, sig) EQ((status) >> 8, sig)
#define EVENT(status) ((status) >> 16)

static int next(pid_t pid) {
    int status = 0;
    EQ(waitpid(pid, &status, __WALL), pid);
    return status;
}
/* A child that traces itself, stopped with SIGSTOP, and then runs `body`. */
static pid_t traced(void (*body)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        OK(PT(PTRACE_TRACEME, 0, 0, 0));
        raise(SIGSTOP);
        body();
        _exit(0);
    }
    STOPPED(next(pid), SIGSTOP);
    return pid;
}
static void end(pid_t pid) {
    kill(pid, SIGKILL);
    for (;;) {
        int status = next(pid);
        if (WIFSIGNALED(status) || WIFEXITED(status))
            break;
    }
}
static void nothing(void) {}
static volatile long word = 0x1122334455667788;

static void two_calls(void) {
    syscall(SYS_getppid);
    syscall(SYS_lseek, -1l, 5l, 9l);
    _exit(3);
}
CASE(calls_stop_at_entry_and_exit) {
    pid_t pid = traced(two_calls);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    struct user_regs_struct r;
    STOPPED(next(pid), SIGTRAP | 0x80);
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.orig_rax, SYS_getppid);
    EQ(r.rax, -ENOSYS);
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.rax, getpid());
    EQ(PT(PTRACE_PEEKTEXT, pid, r.rip - 2, 0) & 0xffff, 0x050f);
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    struct __ptrace_syscall_info i;
    EQ(PT(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, &i), 80);
    EQ(i.op, PTRACE_SYSCALL_INFO_ENTRY);
    EQ(i.arch, 0xc000003e);
    EQ(i.entry.nr, SYS_lseek);
    EQ(i.entry.args[0], -1ul);
    EQ(i.entry.args[2], 9);
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    EQ(PT(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, &i), offsetof(struct __ptrace_syscall_info, exit.is_error) + 1);
    EQ(i.op, PTRACE_SYSCALL_INFO_EXIT);
    EQ(i.exit.is_error, 1);
    EQ(i.exit.rval, -EBADF);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 3 << 8);
}
static void asks_ids(void) {
    pid_t own = getpid();
    kill(own, SIGSTOP);
    if (syscall(SYS_getppid) != 42)
        _exit(1);
    if (syscall(SYS_getuid) != own)
        _exit(2);
    errno = 0;
    if (syscall(SYS_getgid) != -1 || errno != EPERM)
        _exit(4);
    _exit(0);
}
CASE(tracer_changes_skips_and_answers_calls) {
    pid_t pid = traced(asks_ids);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGSTOP);
    struct user_regs_struct r;
    for (int n = 0; n < 6; n++) {
        OK(PT(PTRACE_SYSCALL, pid, 0, 0));
        STOPPED(next(pid), SIGTRAP);
        OK(PT(PTRACE_GETREGS, pid, 0, &r));
        if (n == 0)
            EQ(r.orig_rax, SYS_getppid);
        if (n == 1)
            r.rax = 42;
        if (n == 2)
            r.orig_rax = SYS_getpid;
        if (n == 4) {
            r.orig_rax = -1;
            r.rax = -EPERM;
        }
        OK(PT(PTRACE_SETREGS, pid, 0, &r));
    }
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 0);
}
CASE(memory_is_read_and_written) {
    pid_t pid = traced(nothing);
    errno = 0;
    EQ(PT(PTRACE_PEEKDATA, pid, &word, 0), 0x1122334455667788);
    OK(PT(PTRACE_POKEDATA, pid, &word, 77));
    EQ(PT(PTRACE_PEEKDATA, pid, &word, 0), 77);
    EQ(word, 0x1122334455667788);
    /* Text is not writable, and written all the same. */
    long text = PT(PTRACE_PEEKTEXT, pid, &nothing, 0);
    OK(PT(PTRACE_POKETEXT, pid, (char *)&nothing + 3, 0xcc));
    EQ(PT(PTRACE_PEEKTEXT, pid, (char *)&nothing + 3, 0), 0xcc);
    EQ(PT(PTRACE_PEEKTEXT, pid, &nothing, 0) & 0xffffff, text & 0xffffff);
    ERR(PT(PTRACE_PEEKDATA, pid, 0x10, 0), EIO);
    ERR(PT(PTRACE_POKEDATA, pid, 0x10, 0), EIO);
    end(pid);
}
CASE(proc_mem) {
    pid_t pid = traced(nothing);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    FD(fd, open(path, O_RDWR));
    long got = 0, new = 99;
    EQ(pread(fd, &got, 8, (uintptr_t)&word), 8);
    EQ(got, 0x1122334455667788);
    EQ(pwrite(fd, &new, 8, (uintptr_t)&word), 8);
    EQ(PT(PTRACE_PEEKDATA, pid, &word, 0), 99);
    EQ(pwrite(fd, "\xcc", 1, (uintptr_t)&nothing), 1);
    EQ(PT(PTRACE_PEEKTEXT, pid, &nothing, 0) & 0xff, 0xcc);
    ERR(pread(fd, &got, 8, 16), EIO);
    end(pid);
}
static void waits_at_int3(void) {
    long answer;
    __asm__ volatile("mov $7, %%rax; int3; mov %%rax, %0" : "=r"(answer) : : "rax");
    _exit(answer);
}
CASE(registers_are_read_and_written) {
    pid_t pid = traced(waits_at_int3);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    siginfo_t info;
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &info));
    EQ(info.si_signo, SIGTRAP);
    EQ(info.si_code, SI_KERNEL);
    EQ(PT(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rax), 0), 7);
    EQ(PT(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, orig_rax), 0), -1);
    EQ(PT(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, cs), 0), 0x33);
    OK(PT(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), 11));
    struct user_regs_struct r;
    struct iovec v = {&r, sizeof r};
    OK(PT(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v));
    EQ(v.iov_len, sizeof r);
    EQ(r.rax, 11);
    r.rax = 12;
    OK(PT(PTRACE_SETREGSET, pid, NT_PRSTATUS, &v));
    v.iov_len = 12;
    ERR(PT(PTRACE_GETREGSET, pid, NT_PRSTATUS, &v), EINVAL);
    ERR(PT(PTRACE_GETREGSET, pid, 0x7777, &v), EINVAL);
    ERR(PT(PTRACE_PEEKUSER, pid, 3, 0), EIO);
    ERR(PT(PTRACE_PEEKUSER, pid, 100000, 0), EIO);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 12 << 8);
}
static void uses_xmm(void) {
    double in = 2.5, out;
    __asm__ volatile("movsd %1, %%xmm3; int3; movsd %%xmm3, %0" : "=m"(out) : "m"(in) : "xmm3");
    _exit(out * 2);
}
CASE(floating_point_registers) {
    pid_t pid = traced(uses_xmm);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    struct user_fpregs_struct fp;
    double value;
    OK(PT(PTRACE_GETFPREGS, pid, 0, &fp));
    memcpy(&value, &fp.xmm_space[3 * 4], 8);
    EQ(value * 10, 25);
    value = 8.5;
    memcpy(&fp.xmm_space[3 * 4], &value, 8);
    OK(PT(PTRACE_SETFPREGS, pid, 0, &fp));
    static char state[65536];
    struct iovec v = {state, sizeof state};
    OK(PT(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &v));
    CHECK(v.iov_len >= 576);
    memcpy(&value, state + 160 + 3 * 16, 8);
    EQ(value * 10, 85);
    value = 9.5;
    memcpy(state + 160 + 3 * 16, &value, 8);
    OK(PT(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &v));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 19 << 8);
}
static void steps(void) {
    __asm__ volatile("int3; nop; nop; mov $39, %%eax; syscall; nop; nop" : : : "rax", "rcx", "r11", "memory");
    _exit(0);
}
CASE(single_steps) {
    pid_t pid = traced(steps);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    struct user_regs_struct r;
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    unsigned long at = r.rip;
    static const int sizes[] = {1, 1, 5, 2, 1};
    for (int i = 0; i < 5; i++) {
        OK(PT(PTRACE_SINGLESTEP, pid, 0, 0));
        STOPPED(next(pid), SIGTRAP);
        OK(PT(PTRACE_GETREGS, pid, 0, &r));
        EQ(r.rip - at, sizes[i]);
        EQ(r.eflags & 0x100, 0);
        at = r.rip;
        if (i == 3)
            EQ(r.rax, pid);
    }
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 0);
}
static volatile int handled;
static void on_usr1(int sig) { handled++; }
static void handles(void) {
    signal(SIGUSR1, on_usr1);
    raise(SIGUSR1);
    _exit(handled);
}
CASE(signals_stop_first) {
    pid_t pid = traced(handles);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGUSR1);
    siginfo_t info;
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &info));
    EQ(info.si_code, SI_TKILL);
    EQ(info.si_pid, pid);
    OK(PT(PTRACE_CONT, pid, 0, SIGUSR1));
    EQ(next(pid), 1 << 8);
    pid = traced(handles);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGUSR1);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 0);
    pid = traced(handles);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGUSR1);
    OK(PT(PTRACE_CONT, pid, 0, SIGTERM));
    EQ(next(pid), SIGTERM);
}
CASE(a_step_into_a_handler) {
    pid_t pid = traced(handles);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGUSR1);
    OK(PT(PTRACE_SINGLESTEP, pid, 0, SIGUSR1));
    STOPPED(next(pid), SIGTRAP);
    struct user_regs_struct r;
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.rip, (uintptr_t)on_usr1);
    EQ(r.rdi, SIGUSR1);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 1 << 8);
}
static void forks(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(5);
    int status;
    waitpid(child, &status, 0);
    _exit(WEXITSTATUS(status));
}
CASE(fork_event) {
    pid_t pid = traced(forks);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    int status = next(pid);
    EQ(status >> 8, SIGTRAP | PTRACE_EVENT_FORK << 8);
    unsigned long child = 0;
    OK(PT(PTRACE_GETEVENTMSG, pid, 0, &child));
    STOPPED(next(child), SIGSTOP);
    OK(PT(PTRACE_CONT, child, 0, 0));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(child), 5 << 8);
    STOPPED(next(pid), SIGCHLD);
    OK(PT(PTRACE_CONT, pid, 0, SIGCHLD));
    EQ(next(pid), 5 << 8);
}
static void vforks(void) {
    pid_t child = vfork();
    if (child == 0)
        _exit(6);
    signal(SIGCHLD, SIG_IGN);
    _exit(0);
}
CASE(vfork_events) {
    pid_t pid = traced(vforks);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_VFORK << 8);
    unsigned long child = 0, done = 0;
    OK(PT(PTRACE_GETEVENTMSG, pid, 0, &child));
    STOPPED(next(child), SIGSTOP);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(waitpid(pid, NULL, __WALL | WNOHANG), 0);
    OK(PT(PTRACE_CONT, child, 0, 0));
    EQ(next(child), 6 << 8);
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_VFORK_DONE << 8);
    OK(PT(PTRACE_GETEVENTMSG, pid, 0, &done));
    EQ(done, child);
    end(pid);
}
static void *thread(void *unused) { return NULL; }
static void clones(void) {
    pthread_t t;
    pthread_create(&t, NULL, thread, NULL);
    pthread_join(t, NULL);
    _exit(0);
}
CASE(clone_event_and_the_end_of_threads) {
    pid_t pid = traced(clones);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_CLONE << 8);
    unsigned long tid = 0;
    OK(PT(PTRACE_GETEVENTMSG, pid, 0, &tid));
    STOPPED(next(tid), SIGSTOP);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    OK(PT(PTRACE_CONT, tid, 0, 0));
    EQ(next(tid), 0);
    EQ(next(pid), 0);
    ERR(waitpid(tid, NULL, __WALL), ECHILD);
}
static void execs(void) {
    execl("/bin/true", "true", NULL);
    _exit(9);
}
CASE(exec_traps) {
    pid_t pid = traced(execs);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    struct user_regs_struct r;
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(PT(PTRACE_PEEKDATA, pid, r.rsp, 0), 1);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 0);
    pid = traced(execs);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_EXEC << 8);
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.orig_rax, SYS_execve);
    EQ(r.rax, 0);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
    unsigned long status = 9;
    OK(PT(PTRACE_GETEVENTMSG, pid, 0, &status));
    EQ(status, 0);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 0);
}
static void spins(void) {
    for (;;)
        ;
}
static pid_t child(void (*body)(void)) {
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        EQ(write(p[1], "x", 1), 1);
        body();
        _exit(0);
    }
    char c;
    EQ(read(p[0], &c, 1), 1);
    return pid;
}
static void sleeps(void) {
    struct timespec ts = {0, 300000000};
    _exit(nanosleep(&ts, NULL) ? 1 : 0);
}
CASE(attach_and_detach) {
    pid_t pid = child(spins);
    OK(PT(PTRACE_ATTACH, pid, 0, 0));
    ERR(PT(PTRACE_ATTACH, pid, 0, 0), EPERM);
    STOPPED(next(pid), SIGSTOP);
    char text[4096], path[64], want[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FD(fd, open(path, O_RDONLY));
    text[read(fd, text, sizeof text - 1)] = 0;
    snprintf(want, sizeof want, "TracerPid:\t%d\n", getpid());
    CHECK(strstr(text, want));
    CHECK(strstr(text, "State:\tt (tracing stop)"));
    OK(PT(PTRACE_DETACH, pid, 0, 0));
    ERR(PT(PTRACE_CONT, pid, 0, 0), ESRCH);
    EQ(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGKILL);
    EQ(next(pid), SIGKILL);
    pid = child(sleeps);
    OK(PT(PTRACE_ATTACH, pid, 0, 0));
    STOPPED(next(pid), SIGSTOP);
    OK(PT(PTRACE_DETACH, pid, 0, SIGTERM));
    EQ(next(pid), SIGTERM);
}
CASE(seize_and_interrupt) {
    pid_t pid = child(sleeps);
    t_sleep_ms(50);
    OK(PT(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    ERR(PT(PTRACE_GETSIGINFO, pid, 0, &pid), ESRCH);
    OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
    int status = next(pid);
    EQ(status >> 8, SIGTRAP | PTRACE_EVENT_STOP << 8);
    /* The sleep goes on, through restart_syscall. */
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    struct user_regs_struct r;
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.orig_rax, SYS_restart_syscall);
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.rax, 0);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), 0);
}
static void pauses(void) {
    for (;;)
        pause();
}
CASE(group_stop_and_listen) {
    pid_t pid = child(pauses);
    OK(PT(PTRACE_SEIZE, pid, 0, 0));
    OK(kill(pid, SIGSTOP));
    int status = next(pid);
    EQ(status >> 8, SIGSTOP);
    OK(PT(PTRACE_CONT, pid, 0, SIGSTOP));
    EQ(next(pid) >> 8, SIGSTOP | PTRACE_EVENT_STOP << 8);
    OK(PT(PTRACE_LISTEN, pid, 0, 0));
    EQ(waitpid(pid, NULL, WNOHANG), 0);
    OK(kill(pid, SIGCONT));
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_STOP << 8);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGCONT);
    ERR(PT(PTRACE_LISTEN, pid, 0, 0), EIO);
    end(pid);
    pid = traced(pauses);
    OK(PT(PTRACE_CONT, pid, 0, SIGSTOP));
    STOPPED(next(pid), SIGSTOP);
    siginfo_t info;
    ERR(PT(PTRACE_GETSIGINFO, pid, 0, &info), EINVAL);
    end(pid);
}
CASE(a_group_that_is_stopped_is_seized) {
    pid_t pid = child(pauses);
    OK(kill(pid, SIGSTOP));
    int status;
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    OK(PT(PTRACE_SEIZE, pid, 0, 0));
    OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
    EQ(next(pid) >> 8, SIGSTOP | PTRACE_EVENT_STOP << 8);
    end(pid);
}
CASE(waitid_tells_traps) {
    pid_t pid = traced(handles);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    siginfo_t info;
    OK(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT));
    EQ(info.si_code, CLD_TRAPPED);
    EQ(info.si_status, SIGUSR1);
    OK(waitid(P_PID, pid, &info, WSTOPPED));
    end(pid);
}
CASE(the_tracer_is_no_parent) {
    int p[2];
    OK(pipe(p));
    pid_t pid = child(pauses);
    pid_t tracer = fork();
    if (tracer == 0) {
        OK(PT(PTRACE_SEIZE, pid, 0, 0));
        EQ(write(p[1], "x", 1), 1);
        EQ(next(pid) >> 8, SIGTERM);
        EQ(write(p[1], "x", 1), 1);
        OK(PT(PTRACE_CONT, pid, 0, SIGTERM));
        t_sleep_ms(100);
        EQ(next(pid), SIGTERM);
        ERR(waitpid(pid, NULL, __WALL), ECHILD);
        _exit(0);
    }
    char c;
    EQ(read(p[0], &c, 1), 1);
    OK(kill(pid, SIGTERM));
    EQ(read(p[0], &c, 1), 1);
    EQ(waitpid(pid, NULL, WNOHANG), 0);
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, SIGTERM);
    CHILD_OK(tracer);
}
CASE(the_tracer_ends) {
    for (int kills = 0; kills < 2; kills++) {
        pid_t pid = child(pauses);
        pid_t tracer = fork();
        if (tracer == 0) {
            OK(PT(PTRACE_SEIZE, pid, 0, kills ? PTRACE_O_EXITKILL : 0));
            OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
            next(pid);
            _exit(0);
        }
        CHILD_OK(tracer);
        if (!kills) {
            t_sleep_ms(20);
            EQ(waitpid(pid, NULL, WNOHANG), 0);
            OK(kill(pid, SIGTERM));
        }
        EQ(next(pid), kills ? SIGKILL : SIGTERM);
    }
}
CASE(who_may_trace) {
    ERR(PT(PTRACE_ATTACH, 999999, 0, 0), ESRCH);
    ERR(PT(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
    ERR(PT(PTRACE_CONT, getppid(), 0, 0), ESRCH);
    ERR(PT(PTRACE_SEIZE, getppid(), 1, 0), EIO);
    NEED_ROOT();
    pid_t victim = child(pauses);
    pid_t pid = fork();
    if (pid == 0) {
        OK(setresgid(1000, 1000, 1000));
        OK(setresuid(1000, 1000, 1000));
        ERR(PT(PTRACE_ATTACH, victim, 0, 0), EPERM);
        pid_t own = fork();
        if (own == 0) {
            prctl(PR_SET_DUMPABLE, 0);
            raise(SIGSTOP);
            _exit(0);
        }
        int status;
        EQ(waitpid(own, &status, WUNTRACED), own);
        ERR(PT(PTRACE_ATTACH, own, 0, 0), EPERM);
        kill(own, SIGKILL);
        EQ(waitpid(own, &status, 0), own);
        _exit(0);
    }
    CHILD_OK(pid);
    kill(victim, SIGKILL);
    next(victim);
}
CASE(masks_and_queues) {
    pid_t pid = traced(nothing);
    unsigned long mask = 1ul << (SIGUSR2 - 1), got = 0;
    OK(PT(PTRACE_SETSIGMASK, pid, 8, &mask));
    OK(PT(PTRACE_GETSIGMASK, pid, 8, &got));
    EQ(got, mask);
    ERR(PT(PTRACE_GETSIGMASK, pid, 4, &got), EINVAL);
    OK(kill(pid, SIGUSR2));
    struct __ptrace_peeksiginfo_args a = {0, 1, 4};
    siginfo_t queue[4];
    EQ(PT(PTRACE_PEEKSIGINFO, pid, &a, queue), 1);
    EQ(queue[0].si_signo, SIGUSR2);
    ERR(PT(PTRACE_SETOPTIONS, pid, 0, 1ul << 30), EINVAL);
    ERR(PT(PTRACE_CONT, pid, 0, 1000), EIO);
    end(pid);
}
static void reads_a_lot(void) {
    for (int i = 0; i < 1000; i++)
        syscall(SYS_getppid);
    raise(SIGUSR1);
    for (int i = 0; i < 10; i++)
        syscall(SYS_getppid);
    _exit(0);
}
CASE(a_busy_call_site_is_as_in_the_file) {
    /* Where the same call was made often before the tracer came. */
    pid_t pid = child(spins);
    kill(pid, SIGKILL);
    next(pid);
    signal(SIGUSR1, SIG_IGN);
    int p[2];
    OK(pipe(p));
    pid = fork();
    if (pid == 0) {
        char c;
        for (int i = 0; i < 1000; i++)
            syscall(SYS_getppid);
        EQ(write(p[1], "x", 1), 1);
        for (;;)
            syscall(SYS_getppid);
    }
    char c;
    EQ(read(p[0], &c, 1), 1);
    OK(PT(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
    EQ(next(pid) >> 8, SIGTRAP | PTRACE_EVENT_STOP << 8);
    struct user_regs_struct r;
    for (int i = 0; i < 20; i++) {
        OK(PT(PTRACE_SYSCALL, pid, 0, 0));
        STOPPED(next(pid), SIGTRAP | 0x80);
        OK(PT(PTRACE_GETREGS, pid, 0, &r));
        EQ(r.orig_rax, SYS_getppid);
        EQ(PT(PTRACE_PEEKTEXT, pid, r.rip - 2, 0) & 0xffff, 0x050f);
        CHECK((r.rip & ~0xffffful) == ((uintptr_t)syscall & ~0xffffful));
    }
    long text = PT(PTRACE_PEEKTEXT, pid, r.rip, 0);
    EQ(text, *(long *)r.rip);
    /* A breakpoint just after the call. */
    OK(PT(PTRACE_POKETEXT, pid, r.rip, (text & ~0xfful) | 0xcc));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    unsigned long at = r.rip;
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.rip, at + 1);
    end(pid);
}
CASE(who_is_stopped_is_attached_to_at_once) {
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            raise(SIGSTOP);
            _exit(4);
        }
        int status;
        EQ(waitpid(pid, &status, WUNTRACED), pid);
        OK(PT(i % 2 ? PTRACE_SEIZE : PTRACE_ATTACH, pid, 0, 0));
        errno = 0;
        PT(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), 0);
        EQ(errno, 0);
        OK(PT(PTRACE_DETACH, pid, 0, 0));
        OK(kill(pid, SIGCONT));
        EQ(next(pid), 4 << 8);
    }
}
/* The debug registers: what is written or executed stops a thread that goes on by itself. */
#define DEBUGREG(n) offsetof(struct user, u_debugreg[n])
static volatile long counts, elsewhere;
__attribute__((noinline)) static void passed_by(void) { __asm__ volatile("" ::: "memory"); }
static void writes_now_and_then(void) {
    for (int i = 0; i < 30; i++) {
        elsewhere += i;
        if (i % 10 == 7)
            counts += i;
        if (i == 20)
            passed_by();
    }
    syscall(SYS_getppid);
    _exit(counts);
}
CASE(watchpoints_stop_at_writes) {
    pid_t pid = traced(writes_now_and_then);
    OK(PT(PTRACE_POKEUSER, pid, DEBUGREG(1), &counts));
    /* Register 1: writes of eight bytes. */
    OK(PT(PTRACE_POKEUSER, pid, DEBUGREG(7), 1l << 2 | 1l << 20 | 2l << 22));
    siginfo_t info;
    for (long want = 7, seen = 0; want < 30; want += 10) {
        OK(PT(PTRACE_CONT, pid, 0, 0));
        STOPPED(next(pid), SIGTRAP);
        OK(PT(PTRACE_GETSIGINFO, pid, 0, &info));
        EQ(info.si_code, TRAP_HWBKPT);
        EQ(PT(PTRACE_PEEKUSER, pid, DEBUGREG(6), 0) & 15, 2);
        OK(PT(PTRACE_POKEUSER, pid, DEBUGREG(6), 0));
        EQ(PT(PTRACE_PEEKDATA, pid, &counts, 0), seen += want);
    }
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), (7 + 17 + 27) << 8);
}
CASE(hardware_breakpoints_stop_before_what_is_there) {
    pid_t pid = traced(writes_now_and_then);
    OK(PT(PTRACE_POKEUSER, pid, DEBUGREG(0), passed_by));
    OK(PT(PTRACE_POKEUSER, pid, DEBUGREG(7), 1));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    struct user_regs_struct r;
    OK(PT(PTRACE_GETREGS, pid, 0, &r));
    EQ(r.rip, (uintptr_t)passed_by);
    CHECK(!(r.eflags & 0x100));
    EQ(PT(PTRACE_PEEKUSER, pid, DEBUGREG(6), 0) & 15, 1);
    siginfo_t info;
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &info));
    EQ(info.si_code, TRAP_HWBKPT);
    EQ(PT(PTRACE_PEEKDATA, pid, &elsewhere, 0), 20 * 21 / 2);
    /* A step tells of itself; the calls of a thread that is watched are made as ever. */
    OK(PT(PTRACE_SINGLESTEP, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP);
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &info));
    EQ(info.si_code, TRAP_TRACE);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_SYSCALL, pid, 0, 0));
    STOPPED(next(pid), SIGTRAP | 0x80);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    EQ(next(pid), (7 + 17 + 27) << 8);
}
CASE(debug_registers_that_cannot_be) {
    pid_t pid = traced(nothing);
    OK(PT(PTRACE_POKEUSER, pid, DEBUGREG(0), (char *)&word + 1));
    EQ(PT(PTRACE_PEEKUSER, pid, DEBUGREG(0), 0), (uintptr_t)&word + 1);
    ERR(PT(PTRACE_POKEUSER, pid, DEBUGREG(0), 0xffff800000000000), EINVAL);
    /* Eight bytes that are not aligned; ports; a breakpoint of two bytes. */
    ERR(PT(PTRACE_POKEUSER, pid, DEBUGREG(7), 1 | 1 << 16 | 2 << 18), EINVAL);
    ERR(PT(PTRACE_POKEUSER, pid, DEBUGREG(7), 1 | 2 << 16), EINVAL);
    ERR(PT(PTRACE_POKEUSER, pid, DEBUGREG(7), 1 | 1 << 18), EINVAL);
    EQ(PT(PTRACE_PEEKUSER, pid, DEBUGREG(7), 0), 0);
    ERR(PT(PTRACE_POKEUSER, pid, DEBUGREG(4), 1), EIO);
    end(pid);
}
