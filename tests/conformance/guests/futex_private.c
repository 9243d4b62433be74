/* Private futexes: threads of one process that wait for each other, and what comes between. */
#include "t.h"
#include <dirent.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#define WAITERS 4

static int word, other;
static int done;

static long futex(int *at, int op, int value, const void *timeout, int *second, int value3) {
    return syscall(SYS_futex, at, op | FUTEX_PRIVATE_FLAG, value, timeout, second, value3);
}

/* How many threads of the process sleep, the caller not counted. */
static int asleep(int pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    int n = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char name[320], text[256] = "";
        snprintf(name, sizeof name, "%s/%s/stat", path, e->d_name);
        int fd = open(name, O_RDONLY);
        if (e->d_name[0] != '.' && fd >= 0 && read(fd, text, sizeof text - 1) > 0)
            n += strstr(text, ") S ") != NULL;
        close(fd);
    }
    if (dir)
        closedir(dir);
    return n;
}
static void until_asleep(int pid, int n) {
    double end = t_now() + 10;
    while (asleep(pid) != n && t_now() < end)
        usleep(1000);
    EQ(asleep(pid), n);
}

static void *waits(void *argument) {
    long r;
    do
        r = futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0);
    while (r < 0 && errno == EINTR && argument);
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
    return (void *)(r < 0 ? (long)errno : 0L);
}
static void begin(pthread_t *threads, int n, void *argument) {
    for (int i = 0; i < n; i++)
        EQ(pthread_create(&threads[i], NULL, waits, argument), 0);
    until_asleep(getpid(), n);
}
static void end(pthread_t *threads, int n, long expected) {
    for (int i = 0; i < n; i++) {
        void *result;
        EQ(pthread_join(threads[i], &result), 0);
        EQ((long)result, expected);
    }
}

CASE(wakes_are_counted) {
    pthread_t threads[WAITERS];
    for (int round = 0; round < 20; round++) {
        begin(threads, WAITERS, NULL);
        EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
        EQ(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 4), 1);
        EQ(futex(&word, FUTEX_WAKE, 100, NULL, NULL, 0), WAITERS - 2);
        EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
        end(threads, WAITERS, 0);
    }
    ERR(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
    ERR(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
    ERR(futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    ERR(futex(BAD_ADDRESS, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
}

/* The command is an int: what else the register holds does not count. */
CASE(half_a_register_counts) {
    for (int i = 0; i < 20; i++) {
        EQ(syscall(SYS_futex, &word, 0xabcdef0000000000 | FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
        ERR(syscall(SYS_futex, &word, 0xabcdef0000000000 | FUTEX_WAIT_PRIVATE, 7, NULL, NULL, 0), EAGAIN);
    }
}

/* What moves sleepers finds those that began to sleep before anybody thought of moving. */
CASE(sleepers_are_moved) {
    pthread_t threads[WAITERS];
    for (int round = 0; round < 3; round++) {
        begin(threads, WAITERS, NULL);
        ERR(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)10L, &other, 7), EAGAIN);
        EQ(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)10L, &other, 0), WAITERS);
        EQ(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
        EQ(futex(&other, FUTEX_WAKE, 10, NULL, NULL, 0), WAITERS - 1);
        end(threads, WAITERS, 0);
    }
}
CASE(wake_op_finds_sleepers) {
    pthread_t threads[WAITERS];
    begin(threads, WAITERS, NULL);
    /* other |= 8; wakes 2 at word, and 1 at other if that was 0. */
    EQ(futex(&word, FUTEX_WAKE_OP, 2, (void *)1L, &other, FUTEX_OP(FUTEX_OP_OR, 8, FUTEX_OP_CMP_EQ, 0)), 2);
    EQ(other, 8);
    EQ(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), WAITERS - 2);
    end(threads, WAITERS, 0);
}
CASE(waitv_and_wait_meet) {
    struct {
        unsigned long value, address;
        unsigned flags, reserved;
    } list[1] = {{1, (unsigned long)&word, 2 | FUTEX_PRIVATE_FLAG, 0}};
    pthread_t threads[WAITERS];
    begin(threads, WAITERS, NULL);
    ERR(syscall(449, list, 1, 0, NULL, 0), EAGAIN);
    EQ(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), WAITERS);
    end(threads, WAITERS, 0);
}

static volatile int handled;
static void handler(int sig) { handled += sig == SIGUSR1; }
static void *waits_once(void *timeout) {
    long r = futex(&word, timeout ? FUTEX_WAIT_BITSET : FUTEX_WAIT, 0, timeout, NULL, FUTEX_BITSET_MATCH_ANY);
    return (void *)(r < 0 ? (long)errno : 0L);
}
static void interrupted(int flags, const struct timespec *timeout, long expected) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    OK(sigaction(SIGUSR1, &action, NULL));
    pthread_t thread;
    handled = 0;
    EQ(pthread_create(&thread, NULL, waits_once, (void *)timeout), 0);
    until_asleep(getpid(), 1);
    for (int i = 1; i <= (expected ? 1 : 5); i++) {
        pthread_kill(thread, SIGUSR1);
        double limit = t_now() + 10;
        while (handled < i && t_now() < limit)
            usleep(100);
        EQ(handled, i);
    }
    if (!expected) {
        until_asleep(getpid(), 1);
        EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
    }
    end(&thread, 1, expected);
}
CASE(signals_end_a_wait_as_elsewhere) {
    struct timespec far;
    clock_gettime(CLOCK_MONOTONIC, &far);
    far.tv_sec += 1000;
    for (int i = 0; i < 10; i++) {
        interrupted(0, NULL, EINTR);
        interrupted(SA_RESTART, NULL, 0);
        interrupted(0, &far, EINTR);
        interrupted(SA_RESTART, &far, EINTR);
    }
}
CASE(a_time_comes) {
    int ops[] = {FUTEX_WAIT_BITSET, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, FUTEX_WAIT};
    for (int i = 0; i < 30; i++) {
        int op = ops[i % 3];
        struct timespec t = {0, 0};
        if (op != FUTEX_WAIT)
            clock_gettime(op & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC, &t);
        t.tv_nsec += 20000000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        double before = t_now();
        ERR(futex(&word, op, 0, &t, NULL, FUTEX_BITSET_MATCH_ANY), ETIMEDOUT);
        CHECK(t_now() - before >= 0.019);
        CHECK(t_now() - before < 5);
    }
    struct timespec wrong = {0, 1000000000};
    ERR(futex(&word, FUTEX_WAIT_BITSET, 0, &wrong, NULL, FUTEX_BITSET_MATCH_ANY), EINVAL);
    ERR(futex(&word, FUTEX_WAIT_BITSET, 0, BAD_ADDRESS, NULL, FUTEX_BITSET_MATCH_ANY), EFAULT);
}

/* A process whose threads wait; it ends with 0 when they are woken by SIGUSR2. The word changes too: who is on the way
   back to its wait, after a stop, cannot be woken. */
static void wakes(int sig) {
    word = sig;
    futex(&word, FUTEX_WAKE, 100, NULL, NULL, 0);
}
static pid_t waiting_process(void) {
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGUSR2, wakes);
        pthread_t threads[WAITERS];
        for (int i = 0; i < WAITERS; i++)
            pthread_create(&threads[i], NULL, waits, NULL);
        for (int i = 0; i < WAITERS; i++)
            pthread_join(threads[i], NULL);
        _exit(done == WAITERS ? 0 : 1);
    }
    until_asleep(pid, WAITERS + 1);
    return pid;
}
CASE(stopped_and_continued) {
    for (int i = 0; i < 5; i++) {
        pid_t pid = waiting_process();
        int status;
        OK(kill(pid, SIGSTOP));
        EQ(waitpid(pid, &status, WUNTRACED), pid);
        CHECK(WIFSTOPPED(status));
        OK(kill(pid, SIGCONT));
        until_asleep(pid, WAITERS + 1);
        OK(kill(pid, SIGUSR2));
        EQ(t_wait(pid), 0);
    }
}
CASE(killed_while_all_wait) {
    for (int i = 0; i < 5; i++) {
        int status;
        pid_t pid = waiting_process();
        OK(kill(pid, i & 1 ? SIGTERM : SIGKILL));
        EQ(waitpid(pid, &status, 0), pid);
        EQ(WTERMSIG(status), i & 1 ? SIGTERM : SIGKILL);
    }
}
CASE(traced_while_all_wait) {
    for (int i = 0; i < 3; i++) {
        pid_t pid = waiting_process();
        int status;
        OK(ptrace(PTRACE_SEIZE, pid, 0, 0));
        OK(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
        EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFSTOPPED(status));
        OK(ptrace(PTRACE_DETACH, pid, 0, 0));
        OK(kill(pid, SIGUSR2));
        EQ(t_wait(pid), 0);
    }
}
/* A thread that waits is under a filter that comes meanwhile: its wait is not, its next call is. */
CASE(filtered_while_all_wait) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4711, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {6, code};
    pthread_t threads[WAITERS];
    begin(threads, WAITERS, NULL);
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program));
    EQ(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), WAITERS);
    end(threads, WAITERS, 0);
    ERR(futex(&word, FUTEX_WAKE, 4711, NULL, NULL, 0), EXDEV);
    ERR(futex(&word, FUTEX_WAIT, 4711, NULL, NULL, 0), EXDEV);
    EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}
static void *forks_and_executes(void *program) {
    pid_t pid = fork();
    if (pid == 0) {
        word = 1;
        /* Nobody waits in the copy. */
        _exit(futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0));
    }
    if (t_wait(pid) == 0)
        execl(program, program, NULL);
    return NULL;
}
CASE(forked_and_replaced_while_others_wait) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t threads[WAITERS], last;
        begin(threads, WAITERS, NULL);
        pthread_create(&last, NULL, forks_and_executes, "/bin/true");
        pthread_join(last, NULL);
        _exit(1);
    }
    EQ(t_wait(pid), 0);
}

/* Two threads take turns; a third disturbs them with signals that are ignored, handled, and with changes of memory. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static int turn, turns;
static volatile int over;
#define TURNS 20000
static void *takes_turns(void *me) {
    pthread_mutex_lock(&mutex);
    while (turns < TURNS) {
        if (turn != (int)(long)me) {
            pthread_cond_wait(&turn_changed, &mutex);
            continue;
        }
        turns++;
        turn = !turn;
        pthread_cond_signal(&turn_changed);
    }
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&mutex);
    return NULL;
}
static void *disturbs(void *threads) {
    for (int i = 0; !over; i++) {
        pthread_kill(((pthread_t *)threads)[i & 1], i & 2 ? SIGUSR1 : SIGWINCH);
        void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(at, 8192);
        usleep(300);
    }
    return NULL;
}
CASE(turns_are_taken_whatever_disturbs) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    OK(sigaction(SIGUSR1, &action, NULL));
    pthread_t threads[2], third;
    for (long i = 0; i < 2; i++)
        EQ(pthread_create(&threads[i], NULL, takes_turns, (void *)i), 0);
    EQ(pthread_create(&third, NULL, disturbs, threads), 0);
    for (int i = 0; i < 2; i++)
        EQ(pthread_join(threads[i], NULL), 0);
    over = 1;
    EQ(pthread_join(third, NULL), 0);
    CHECK(turns >= TURNS);
}
