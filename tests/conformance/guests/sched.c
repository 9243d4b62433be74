/* Scheduling, I/O priority, personality and kcmp: what is kept, and what is refused to an ordinary user. */
#include "t.h"
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/utsname.h>

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};
#define USER 1000
#define NOBODY_HERE 4194304

static pid_t somebody(int *end) {
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        char byte;
        read(ends[0], &byte, 1);
        _exit(0);
    }
    close(ends[0]);
    *end = ends[1];
    return pid;
}

CASE(batch_and_idle_are_kept) {
    struct sched_param none = {0}, one = {1};
    OK(sched_setscheduler(0, SCHED_BATCH, &none));
    EQ(sched_getscheduler(0), SCHED_BATCH);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(sched_getscheduler(0), SCHED_BATCH);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(sched_setscheduler(0, SCHED_IDLE, &none));
    EQ(sched_getscheduler(0), SCHED_IDLE);
    ERR(sched_setscheduler(0, SCHED_OTHER, &one), EINVAL);
    ERR(sched_setscheduler(0, 99, &none), EINVAL);
    ERR(sched_setscheduler(NOBODY_HERE, SCHED_OTHER, &none), ESRCH);
    ERR(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL), EINVAL);
}
CASE(children_begin_anew) {
    struct sched_param none = {0};
    OK(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &none));
    EQ(sched_getscheduler(0), SCHED_BATCH | SCHED_RESET_ON_FORK);
    OK(sched_setparam(0, &none));
    EQ(sched_getscheduler(0), SCHED_BATCH | SCHED_RESET_ON_FORK);
    struct attributes got = {0};
    OK(syscall(SYS_sched_getattr, 0, &got, sizeof got, 0));
    EQ(got.flags, 1);
    OK(setpriority(PRIO_PROCESS, 0, 4));
    pid_t pid = fork();
    if (pid == 0) {
        EQ(sched_getscheduler(0), SCHED_BATCH);
        EQ(getpriority(PRIO_PROCESS, 0), 4);
        _exit(0);
    }
    CHILD_OK(pid);
    if (getuid() == 0)
        OK(setresuid(USER, USER, USER));
    ERR(sched_setscheduler(0, SCHED_BATCH, &none), EPERM);
    OK(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none));
}
CASE(parameters) {
    struct sched_param none = {0}, bad = {5};
    OK(sched_getparam(0, &none));
    EQ(none.sched_priority, 0);
    OK(sched_setparam(0, &none));
    ERR(sched_setparam(0, &bad), EINVAL);
    ERR(sched_setparam(-1, &none), EINVAL);
    ERR(syscall(SYS_sched_setparam, 0, NULL), EINVAL);
    ERR(syscall(SYS_sched_getparam, 0, NULL), EINVAL);
    ERR(sched_getparam(NOBODY_HERE, &none), ESRCH);
}
CASE(real_time_is_for_the_privileged) {
    NEED_ROOT();
    struct sched_param one = {1};
    OK(setresuid(USER, USER, USER));
    ERR(sched_setscheduler(0, SCHED_FIFO, &one), EPERM);
    ERR(sched_setscheduler(0, SCHED_RR, &one), EPERM);
}
CASE(attributes) {
    struct attributes a = {.size = sizeof a, .policy = SCHED_BATCH, .nice = 3};
    OK(syscall(SYS_sched_setattr, 0, &a, 0));
    struct attributes got = {0};
    OK(syscall(SYS_sched_getattr, 0, &got, sizeof got, 0));
    EQ(got.size, sizeof got);
    EQ(got.policy, SCHED_BATCH);
    EQ(got.nice, 3);
    EQ(getpriority(PRIO_PROCESS, 0), 3);
    ERR(syscall(SYS_sched_getattr, 0, &got, sizeof got - 1, 0), EINVAL);
    ERR(syscall(SYS_sched_getattr, 0, &got, sizeof got, 1000), EINVAL);
    ERR(syscall(SYS_sched_getattr, 0, NULL, sizeof got, 0), EINVAL);
    ERR(syscall(SYS_sched_getattr, NOBODY_HERE, &got, sizeof got, 0), ESRCH);
    ERR(syscall(SYS_sched_setattr, 0, NULL, 0), EINVAL);
    ERR(syscall(SYS_sched_setattr, 0, &a, 1), EINVAL);
    ERR(syscall(SYS_sched_setattr, NOBODY_HERE, &a, 0), ESRCH);
    ERR(syscall(SYS_sched_setattr, 0, BAD_ADDRESS, 0), EFAULT);
    a.size = 8;
    ERR(syscall(SYS_sched_setattr, 0, &a, 0), E2BIG);
    CHECK(a.size >= sizeof a);
    a = (struct attributes){.size = sizeof a, .policy = 77};
    ERR(syscall(SYS_sched_setattr, 0, &a, 0), EINVAL);
}
CASE(another_users_processes_are_not_changed) {
    NEED_ROOT();
    int end;
    pid_t pid = somebody(&end);
    pid_t child = fork();
    if (child == 0) {
        OK(setresuid(USER, USER, USER));
        struct sched_param none = {0};
        unsigned long mask = 1;
        ERR(sched_setparam(pid, &none), EPERM);
        ERR(sched_setscheduler(pid, SCHED_OTHER, &none), EPERM);
        ERR(syscall(SYS_sched_setaffinity, pid, sizeof mask, &mask), EPERM);
        ERR(setpriority(PRIO_PROCESS, pid, 5), EPERM);
        ERR(setpriority(PRIO_PROCESS, 0, -5), EACCES);
        ERR(syscall(SYS_ioprio_set, 1, pid, 2 << 13 | 5), EPERM);
        ERR(syscall(SYS_kcmp, getpid(), pid, 1, 0, 0), EPERM);
        _exit(0);
    }
    CHILD_OK(child);
    close(end);
    CHILD_OK(pid);
}
CASE(io_priority_is_kept) {
    OK(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6));
    EQ(syscall(SYS_ioprio_get, 1, 0), 2 << 13 | 6);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(syscall(SYS_ioprio_get, 1, getpid()), 2 << 13 | 6);
        _exit(0);
    }
    CHILD_OK(pid);
    ERR(syscall(SYS_ioprio_set, 1, 0, 7 << 13), EINVAL);
    ERR(syscall(SYS_ioprio_set, 1, 0, 1), EINVAL);
    ERR(syscall(SYS_ioprio_set, 9, 0, 2 << 13 | 4), EINVAL);
    ERR(syscall(SYS_ioprio_set, 1, NOBODY_HERE, 2 << 13 | 4), ESRCH);
    ERR(syscall(SYS_ioprio_get, 9, 0), EINVAL);
    ERR(syscall(SYS_ioprio_get, 1, NOBODY_HERE), ESRCH);
}
CASE(real_time_io_is_for_the_privileged) {
    NEED_ROOT();
    OK(setresuid(USER, USER, USER));
    ERR(syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4), EPERM);
    OK(syscall(SYS_ioprio_set, 1, 0, 3 << 13));
}
CASE(personalities_are_kept) {
    EQ(personality(0xffffffff), 0);
    OK(personality(ADDR_NO_RANDOMIZE));
    EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(personality(PER_LINUX), ADDR_NO_RANDOMIZE);
        _exit(0);
    }
    CHILD_OK(pid);
    struct utsname name;
    OK(personality(PER_LINUX32));
    OK(uname(&name));
    CHECK(strcmp(name.machine, "i686") == 0);
    OK(personality(UNAME26));
    OK(uname(&name));
    CHECK(strncmp(name.release, "2.6.", 4) == 0);
    OK(personality(PER_LINUX));
    OK(uname(&name));
    CHECK(strcmp(name.machine, "x86_64") == 0);
}
CASE(timeouts_may_stick) {
    struct timeval left = {0, 20000};
    OK(personality(STICKY_TIMEOUTS));
    EQ(syscall(SYS_select, 0, NULL, NULL, NULL, &left), 0);
    EQ(left.tv_usec, 20000);
    OK(personality(PER_LINUX));
    EQ(syscall(SYS_select, 0, NULL, NULL, NULL, &left), 0);
    EQ(left.tv_usec, 0);
}
CASE(timer_slack_is_kept) {
    EQ(prctl(PR_GET_TIMERSLACK), 50000);
    OK(prctl(PR_SET_TIMERSLACK, 70000));
    pid_t pid = fork();
    if (pid == 0) {
        EQ(prctl(PR_GET_TIMERSLACK), 70000);
        OK(prctl(PR_SET_TIMERSLACK, 1));
        EQ(prctl(PR_GET_TIMERSLACK), 1);
        OK(prctl(PR_SET_TIMERSLACK, 0));
        EQ(prctl(PR_GET_TIMERSLACK), 70000);
        _exit(0);
    }
    CHILD_OK(pid);
}
static void *nothing(void *end) {
    char byte;
    read(*(int *)end, &byte, 1);
    return NULL;
}
CASE(what_is_shared) {
    pid_t me = getpid();
    int ends[2];
    OK(pipe(ends));
    int copy = dup(ends[0]);
    EQ(syscall(SYS_kcmp, me, me, 0, ends[0], copy), 0);
    CHECK(syscall(SYS_kcmp, me, me, 0, ends[0], ends[1]) > 0);
    EQ(syscall(SYS_kcmp, me, me, 0, ends[0], ends[1]) + syscall(SYS_kcmp, me, me, 0, ends[1], ends[0]), 3);
    int end;
    pid_t pid = somebody(&end);
    for (int kind = 1; kind <= 4; kind++) {
        EQ(syscall(SYS_kcmp, me, me, kind, 0, 0), 0);
        CHECK(syscall(SYS_kcmp, me, pid, kind, 0, 0) > 0);
    }
    /* Neither has I/O contexts or undone semaphores, which is the same. */
    for (int kind = 5; kind <= 6; kind++)
        EQ(syscall(SYS_kcmp, me, pid, kind, 0, 0), 0);
    EQ(syscall(SYS_kcmp, me, pid, 0, ends[0], ends[0]), 0);
    close(end);
    CHILD_OK(pid);
    ERR(syscall(SYS_kcmp, me, me, 0, ends[0], 99), EBADF);
    ERR(syscall(SYS_kcmp, me, me, 99, 0, 0), EINVAL);
    ERR(syscall(SYS_kcmp, me, NOBODY_HERE, 1, 0, 0), ESRCH);
}

static void *inherits(void *argument) {
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    return (void *)(long)CPU_COUNT(&set);
}
CASE(affinity_is_kept) {
    cpu_set_t all, set;
    OK(sched_getaffinity(0, sizeof all, &all));
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    OK(sched_setaffinity(0, sizeof set, &set));
    CPU_ZERO(&set);
    EQ(syscall(SYS_sched_getaffinity, 0, sizeof set, &set) > 0, 1);
    EQ(CPU_COUNT(&set), 1);
    CHECK(CPU_ISSET(cpu, &set));
    unsigned at;
    OK(syscall(SYS_getcpu, &at, NULL, NULL));
    EQ(at, cpu);
    pthread_t t;
    void *n;
    EQ(pthread_create(&t, NULL, inherits, NULL), 0);
    pthread_join(t, &n);
    EQ((long)n, 1);
    char want[64], line[256];
    snprintf(want, sizeof want, "Cpus_allowed_list:\t%d\n", cpu);
    FILE *f = fopen("/proc/self/status", "r");
    int found = 0;
    while (fgets(line, sizeof line, f))
        found += strcmp(line, want) == 0;
    EQ(found, 1);
    CPU_ZERO(&set);
    CPU_SET(1000, &set);
    ERR(sched_setaffinity(0, sizeof set, &set), EINVAL);
    OK(sched_setaffinity(0, sizeof all, &all));
}
static long locked(void) {
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f))
        sscanf(line, "VmLck: %ld", &kb);
    fclose(f);
    return kb;
}
CASE(locked_memory_is_told) {
    EQ(locked(), 0);
    char *a = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    CHECK(a != MAP_FAILED);
    EQ(locked(), 1024);
    OK(munlock(a, 1 << 19));
    EQ(locked(), 512);
    OK(munlockall());
    EQ(locked(), 0);
    OK(mlockall(MCL_FUTURE));
    char *b = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(b != MAP_FAILED);
    EQ(locked(), 64);
    OK(munlockall());
    OK(munmap(b, 1 << 16));
    pid_t pid = fork();
    if (pid == 0) {
        EQ(locked(), 0);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(more_of_kcmp) {
    EQ(syscall(SYS_kcmp, getpid(), getpid(), 6, 0, 0), 0);
    EQ(syscall(SYS_kcmp, getpid(), getpid(), 5, 0, 0), 0);
    ERR(syscall(SYS_kcmp, getpid(), getpid(), 99, 0, 0), EINVAL);
}
CASE(no_room_for_a_signal) {
    struct rlimit none = {0, 0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGUSR1);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    OK(setrlimit(RLIMIT_SIGPENDING, &none));
    ERR(syscall(SYS_tgkill, getpid(), getpid(), SIGRTMIN), EAGAIN);
    ERR(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}), EAGAIN);
    OK(kill(getpid(), SIGUSR1));
    OK(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1));
}
