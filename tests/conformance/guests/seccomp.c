/* seccomp: strict mode, filters and their actions, inheritance, threads. */
#include "t.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

static int seccomp(unsigned op, unsigned flags, void *args) { return syscall(SYS_seccomp, op, flags, args); }

/* A filter that answers `action` for `nr`, and allows the rest. */
static int on(int nr, unsigned action, unsigned flags) {
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {4, f};
    return seccomp(SECCOMP_SET_MODE_FILTER, flags, &p);
}
static void alone(void) { OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }

CASE(errno_action) {
    alone();
    EQ(prctl(PR_GET_SECCOMP), 0);
    OK(on(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0));
    EQ(prctl(PR_GET_SECCOMP), 2);
    for (int i = 0; i < 50; i++)
        ERR(syscall(SYS_getppid), EXDEV);
    CHECK(getpid() > 0);
    OK(on(SYS_getuid, SECCOMP_RET_ERRNO | 0, 0));
    EQ(syscall(SYS_getuid), 0);
    ERR(syscall(SYS_getppid), EXDEV);
}
CASE(the_most_restrictive_wins) {
    alone();
    OK(on(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0));
    OK(on(SYS_getppid, SECCOMP_RET_LOG, 0));
    ERR(syscall(SYS_getppid), EXDEV);
    OK(on(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, 0));
    ERR(syscall(SYS_getppid), EDOM);
}
CASE(arguments_are_looked_at) {
    alone();
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {10, f};
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0));
    ERR(syscall(SYS_lseek, -1, 0x7500000000, 0), ENOTTY);
    ERR(syscall(SYS_lseek, -1, 0x8500000000, 0), EBADF);
}
static volatile int call_nr, call_errno, call_code;
static void *volatile call_at;
static void on_sys(int sig, siginfo_t *i, void *context) {
    call_nr = i->si_syscall;
    call_errno = i->si_errno;
    call_code = i->si_code;
    call_at = i->si_call_addr;
    ucontext_t *u = context;
    if (u->uc_mcontext.gregs[REG_RAX] == SYS_getppid)
        u->uc_mcontext.gregs[REG_RAX] = 4321;
}
CASE(trap_action) {
    alone();
    struct sigaction a = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
    OK(sigaction(SIGSYS, &a, NULL));
    for (int i = 0; i < 50; i++)
        syscall(SYS_getppid);
    OK(on(SYS_getppid, SECCOMP_RET_TRAP | 77, 0));
    for (int i = 0; i < 20; i++)
        EQ(syscall(SYS_getppid), 4321);
    EQ(call_nr, SYS_getppid);
    EQ(call_errno, 77);
    EQ(call_code, 1);
    CHECK(call_at > (void *)syscall && call_at < (void *)syscall + 100);
}
CASE(the_address_is_the_program_s) {
    alone();
    for (int i = 0; i < 50; i++)
        syscall(SYS_getppid);
    uintptr_t from = (uintptr_t)syscall;
    pid_t parent = getppid();
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)from, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)from + 100, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog p = {7, f};
    OK(seccomp(SECCOMP_SET_MODE_FILTER, 0, &p));
    for (int i = 0; i < 20; i++)
        EQ(syscall(SYS_getppid), parent);
}
CASE(kill_actions) {
    pid_t pid = fork();
    if (pid == 0) {
        alone();
        OK(on(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0));
        syscall(SYS_getppid);
        _exit(0);
    }
    int status = t_wait(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    pid = fork();
    if (pid == 0) {
        alone();
        OK(on(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0));
        signal(SIGSYS, SIG_IGN);
        syscall(SYS_getppid);
        _exit(0);
    }
    status = t_wait(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    pid = fork();
    if (pid == 0) {
        alone();
        OK(on(SYS_getppid, SECCOMP_RET_TRAP, 0));
        syscall(SYS_getppid);
        _exit(0);
    }
    status = t_wait(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}
static void *asks(void *unused) {
    syscall(SYS_getppid);
    return (void *)1;
}
CASE(one_thread_is_killed) {
    alone();
    OK(on(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0));
    pthread_t t;
    EQ(pthread_create(&t, NULL, asks, NULL), 0);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    void *got = (void *)2;
    EQ(pthread_timedjoin_np(t, &got, &until), 0);
    CHECK(got != (void *)1);
}
CASE(strict) {
    pid_t pid = fork();
    if (pid == 0) {
        OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        write(1, "", 0);
        syscall(SYS_exit, 5);
    }
    EQ(t_wait(pid), 5 << 8);
    pid = fork();
    if (pid == 0) {
        OK(seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL));
        syscall(SYS_getpid);
        syscall(SYS_exit, 5);
    }
    EQ(t_wait(pid), SIGKILL);
    alone();
    OK(on(SYS_getppid, SECCOMP_RET_ALLOW, 0));
    ERR(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
}
CASE(rights_and_refusals) {
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0)
            OK(setuid(1000));
        ERR(on(1, SECCOMP_RET_ALLOW, 0), EACCES);
        _exit(0);
    }
    CHILD_OK(pid);
    alone();
    struct sock_filter bad[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog p = {2, bad};
    ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &p), EINVAL);
    bad[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0);
    ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &p), EINVAL);
    bad[0] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0);
    ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &p), EINVAL);
    p.len = 0;
    ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &p), EINVAL);
    ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, BAD_ADDRESS), EFAULT);
    ERR(seccomp(SECCOMP_SET_MODE_FILTER, 1u << 20, &p), EINVAL);
    ERR(seccomp(99, 0, NULL), EINVAL);
    ERR(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
    unsigned action = SECCOMP_RET_TRAP;
    OK(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action));
    action = 0x12340000;
    ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action), EOPNOTSUPP);
    struct seccomp_notif_sizes sizes;
    OK(seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
    EQ(sizes.seccomp_data, 64);
    ERR(prctl(PR_SET_SECCOMP, 7), EINVAL);
}
CASE(children_and_programs_inherit) {
    alone();
    OK(on(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, SECCOMP_FILTER_FLAG_LOG));
    pid_t pid = fork();
    if (pid == 0) {
        ERR(syscall(SYS_getppid), EXDEV);
        execlp("grep", "grep", "-q", "^Seccomp:.2$", "/proc/self/status", NULL);
        _exit(9);
    }
    CHILD_OK(pid);
    pid = fork();
    if (pid == 0) {
        execlp("grep", "grep", "-q", "^Seccomp_filters:.1$", "/proc/self/status", NULL);
        _exit(9);
    }
    CHILD_OK(pid);
}
static pthread_barrier_t first, second;
static volatile int other_errno;
static void *waits(void *own) {
    if (own)
        OK(on(SYS_getuid, SECCOMP_RET_ALLOW, 0));
    pthread_barrier_wait(&first);
    pthread_barrier_wait(&second);
    other_errno = syscall(SYS_getppid) == -1 ? errno : 0;
    return NULL;
}
CASE(all_threads_at_once) {
    alone();
    pthread_barrier_init(&first, NULL, 2);
    pthread_barrier_init(&second, NULL, 2);
    pthread_t t;
    EQ(pthread_create(&t, NULL, waits, NULL), 0);
    pthread_barrier_wait(&first);
    EQ(on(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, SECCOMP_FILTER_FLAG_TSYNC), 0);
    pthread_barrier_wait(&second);
    pthread_join(t, NULL);
    EQ(other_errno, EXDEV);
    EQ(pthread_create(&t, NULL, waits, (void *)1), 0);
    pthread_barrier_wait(&first);
    CHECK(on(SYS_getgid, SECCOMP_RET_ALLOW, SECCOMP_FILTER_FLAG_TSYNC) > 0);
    ERR(on(SYS_getgid, SECCOMP_RET_ALLOW, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH), ESRCH);
    pthread_barrier_wait(&second);
    pthread_join(t, NULL);
}
CASE(a_tracer_is_asked) {
    alone();
    pid_t pid = fork();
    if (pid == 0) {
        OK(on(SYS_getppid, SECCOMP_RET_TRACE | 55, 0));
        ERR(syscall(SYS_getppid), ENOSYS);
        OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
        raise(SIGSTOP);
        if (syscall(SYS_getppid) != getpid())
            _exit(2);
        _exit(7);
    }
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    OK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP));
    OK(ptrace(PTRACE_CONT, pid, 0, 0));
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status >> 8, SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
    unsigned long data = 0;
    OK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &data));
    EQ(data, 55);
    struct __ptrace_syscall_info i;
    EQ(ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, &i), 84);
    EQ(i.op, PTRACE_SYSCALL_INFO_SECCOMP);
    EQ(i.seccomp.ret_data, 55);
    OK(ptrace(PTRACE_POKEUSER, pid, 15 * 8, SYS_getpid));
    OK(ptrace(PTRACE_CONT, pid, 0, 0));
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 7 << 8);
}
