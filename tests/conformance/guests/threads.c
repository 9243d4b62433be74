/* Threads, futexes, robust lists, thread exit, clocks of threads. */
#include "t.h"
#include <linux/futex.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/uio.h>

static long futex(volatile int *word, int op, int value, const struct timespec *t, volatile int *other, int value3) {
    return syscall(SYS_futex, word, op, value, t, other, value3);
}

static void *answer(void *argument) { return (void *)((long)argument * 2); }
CASE(create_join) {
    pthread_t threads[20];
    for (long i = 0; i < 20; i++)
        EQ(pthread_create(&threads[i], NULL, answer, (void *)i), 0);
    for (long i = 0; i < 20; i++) {
        void *result;
        EQ(pthread_join(threads[i], &result), 0);
        EQ((long)result, i * 2);
    }
}
CASE(create_join_many_times) {
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        EQ(pthread_create(&thread, NULL, answer, NULL), 0);
        EQ(pthread_join(thread, NULL), 0);
    }
}
static pid_t seen_tid, seen_pid;
static void *notes_ids(void *argument) {
    seen_tid = syscall(SYS_gettid);
    seen_pid = getpid();
    return argument;
}
CASE(ids) {
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, notes_ids, NULL), 0);
    pthread_join(thread, NULL);
    EQ(seen_pid, getpid());
    CHECK(seen_tid != getpid());
    EQ(syscall(SYS_gettid), getpid());
    /* pthread_join waits for the clear_child_tid word, which is cleared before the id is given back. */
    double end = t_now() + 5;
    while (syscall(SYS_tgkill, getpid(), seen_tid, 0) == 0 && t_now() < end)
        sched_yield();
    ERR(syscall(SYS_tgkill, getpid(), seen_tid, 0), ESRCH);
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long total;
static void *adds(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        total++;
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}
CASE(mutex_contended) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        EQ(pthread_create(&threads[i], NULL, adds, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    EQ(total, 80000);
}
static int turn;
static void *ping(void *argument) {
    int me = (long)argument;
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != me)
            pthread_cond_wait(&condition, &mutex);
        turn = !me;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
CASE(condition_ping_pong) {
    pthread_t a, b;
    EQ(pthread_create(&a, NULL, ping, (void *)0), 0);
    EQ(pthread_create(&b, NULL, ping, (void *)1), 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
}
CASE(condition_times_out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 50000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    double start = t_now();
    pthread_mutex_lock(&mutex);
    EQ(pthread_cond_timedwait(&condition, &mutex, &t), ETIMEDOUT);
    CHECK(t_now() - start >= 0.04);
}
CASE(futex_wait_errors) {
    volatile int word = 5;
    struct timespec t = {0, 30000000};
    ERR(futex(&word, FUTEX_WAIT, 4, NULL, NULL, 0), EAGAIN);
    double start = t_now();
    ERR(futex(&word, FUTEX_WAIT_PRIVATE, 5, &t, NULL, 0), ETIMEDOUT);
    CHECK(t_now() - start >= 0.025);
    ERR(futex((int *)((char *)&word + 1), FUTEX_WAIT, 5, NULL, NULL, 0), EINVAL);
    ERR(futex(BAD_ADDRESS + 0, FUTEX_WAIT, 5, NULL, NULL, 0), EFAULT);
    ERR(futex(&word, 99, 5, NULL, NULL, 0), ENOSYS);
    t.tv_nsec = -1;
    ERR(futex(&word, FUTEX_WAIT, 5, &t, NULL, 0), EINVAL);
    EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
    ERR(futex(&word, FUTEX_WAIT_BITSET, 5, NULL, NULL, 0), EINVAL);
}
static volatile int gate, passed;
static void *waits_at_gate(void *argument) {
    while (gate == 0)
        futex(&gate, (int)(long)argument, 0, NULL, NULL, FUTEX_BITSET_MATCH_ANY);
    __sync_fetch_and_add(&passed, 1);
    return NULL;
}
CASE(futexes_of_others_must_be_mapped) {
    static volatile int word = 5;
    volatile int *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct timespec *one = (void *)1, *negative = (void *)-1;
    ERR(futex(none, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    EQ(futex(none, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
    ERR(futex(none, FUTEX_CMP_REQUEUE, 1, one, &word, 5), EFAULT);
    ERR(futex(&word, FUTEX_CMP_REQUEUE, 1, one, none, 5), EFAULT);
    OK(munmap((void *)none, 4096));
    ERR(futex(none, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    ERR(futex(&word, FUTEX_CMP_REQUEUE, 1, negative, &word + 1, 5), EINVAL);
    ERR(futex(&word, FUTEX_CMP_REQUEUE, -1, one, &word + 1, 5), EINVAL);
    ERR(futex(&word, FUTEX_REQUEUE, -1, one, &word + 1, 5), EINVAL);
}
CASE(futex_wakes_all) {
    pthread_t threads[5];
    for (int i = 0; i < 5; i++)
        EQ(pthread_create(&threads[i], NULL, waits_at_gate, (void *)(long)FUTEX_WAIT_PRIVATE), 0);
    t_sleep_ms(200);
    gate = 1;
    EQ(futex(&gate, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 5);
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    EQ(passed, 5);
}
CASE(futex_bitset_selects) {
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, waits_at_gate, (void *)(long)FUTEX_WAIT_BITSET), 0);
    t_sleep_ms(200);
    gate = 1;
    EQ(futex(&gate, FUTEX_WAKE_BITSET, 1, NULL, NULL, FUTEX_BITSET_MATCH_ANY), 1);
    pthread_join(thread, NULL);
}
static volatile int first_word, second_word;
static void *waits_on_first(void *argument) {
    long result = futex(&first_word, FUTEX_WAIT, 0, NULL, NULL, 0);
    __sync_fetch_and_add(&passed, result == 0);
    return argument;
}
CASE(futex_requeue) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        EQ(pthread_create(&threads[i], NULL, waits_on_first, NULL), 0);
    t_sleep_ms(300);
    ERR(futex(&first_word, FUTEX_CMP_REQUEUE, 1, (void *)2l, &second_word, 7), EAGAIN);
    EQ(futex(&first_word, FUTEX_CMP_REQUEUE, 1, (void *)2l, &second_word, 0), 3);
    double end = t_now() + 5;
    while (passed == 0 && t_now() < end)
        sched_yield();
    EQ(passed, 1);
    EQ(futex(&first_word, FUTEX_WAKE, 5, NULL, NULL, 0), 0);
    EQ(futex(&second_word, FUTEX_WAKE, 5, NULL, NULL, 0), 2);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    EQ(passed, 3);
}
CASE(futex_between_processes) {
    volatile int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        while (*word == 0)
            futex(word, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(0);
    }
    t_sleep_ms(200);
    *word = 1;
    EQ(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
    CHILD_OK(pid);
}
CASE(semaphore_between_processes) {
    sem_t *semaphore = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    OK(sem_init(semaphore, 1, 0));
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 100; i++)
            OK(sem_wait(semaphore));
        _exit(0);
    }
    for (int i = 0; i < 100; i++)
        OK(sem_post(semaphore));
    CHILD_OK(pid);
}
static void *locks_and_leaves(void *argument) {
    pthread_mutex_lock(argument);
    return NULL;
}
CASE(robust_mutex_of_a_dead_thread) {
    static pthread_mutex_t robust;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    EQ(pthread_mutex_init(&robust, &attributes), 0);
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, locks_and_leaves, &robust), 0);
    pthread_join(thread, NULL);
    EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
    EQ(pthread_mutex_consistent(&robust), 0);
    EQ(pthread_mutex_unlock(&robust), 0);
}
CASE(robust_mutex_of_a_dead_process) {
    pthread_mutex_t *robust = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    EQ(pthread_mutex_init(robust, &attributes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_mutex_lock(robust);
        kill(getpid(), SIGKILL);
    }
    EQ(WTERMSIG(t_wait(pid)), SIGKILL);
    EQ(pthread_mutex_lock(robust), EOWNERDEAD);
}
static void *sleeps(void *argument) {
    pause();
    return argument;
}
static void *exits_the_process(void *argument) { exit((long)argument); }
static void *forever(void *nothing) {
    pause();
    return nothing;
}
/* More than a process may have here: what remains of those that could not be made is nothing, so its parent still waits for it. */
CASE(a_thread_that_is_not_made) {
    int child = fork();
    if (child == 0) {
        pthread_attr_t small;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 32768);
        for (int i = 0; i < 1100; i++) {
            pthread_t t;
            int r = pthread_create(&t, &small, forever, NULL);
            CHECK(r == 0 || r == EAGAIN);
        }
        _exit(7);
    }
    int status;
    EQ(waitpid(child, &status, 0), child);
    EQ(WEXITSTATUS(status), 7);
}
CASE(exit_ends_all_threads) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        for (int i = 0; i < 5; i++)
            pthread_create(&thread, NULL, sleeps, NULL);
        pthread_create(&thread, NULL, exits_the_process, (void *)33l);
        for (;;)
            ;
    }
    EQ(WEXITSTATUS(t_wait(pid)), 33);
}
CASE(leader_leaves_first) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, exits_the_process, (void *)44l);
        pthread_exit(NULL);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 44);
}
/* The host's view of the memory must not be the first thread's. */
static void *writes_reads_executes(void *argument) {
    static char large[300000], back[300000];
    t_sleep_ms(100);
    memset(large, 'x', sizeof large);
    int file = open("large", O_RDWR | O_CREAT, 0600);
    EQ(write(file, large, sizeof large), sizeof large);
    struct iovec parts[3] = {{back, 100000}, {back + 100000, 150000}, {back + 250000, 50000}};
    EQ(preadv(file, parts, 3, 0), sizeof back);
    EQ(memcmp(large, back, sizeof back), 0);
    execl("/bin/sh", "sh", "-c", "exit $#", "sh", "1", "2", "3", NULL);
    t_fail("execl: %s", strerror(errno));
    return argument;
}
CASE(memory_stays_when_the_leader_left) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, writes_reads_executes, NULL);
        pthread_exit(NULL);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 3);
    OK(unlink("large"));
}
CASE(signal_kills_all_threads) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        for (int i = 0; i < 3; i++)
            pthread_create(&thread, NULL, sleeps, NULL);
        t_sleep_ms(20);
        kill(getpid(), SIGTERM);
        for (;;)
            pause();
    }
    EQ(WTERMSIG(t_wait(pid)), SIGTERM);
}
static void *faults(void *argument) {
    *(volatile int *)8 = 1;
    return argument;
}
CASE(fault_in_a_thread_kills_the_process) {
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, faults, NULL);
        for (;;)
            pause();
    }
    EQ(WTERMSIG(t_wait(pid)), SIGSEGV);
}
static void *forks(void *argument) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(getpid() == syscall(SYS_gettid) ? 5 : 6);
    *(int *)argument = WEXITSTATUS(t_wait(pid));
    return NULL;
}
CASE(fork_from_a_thread) {
    int status = 0;
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, forks, &status), 0);
    pthread_join(thread, NULL);
    EQ(status, 5);
}
static void *closes(void *argument) {
    t_sleep_ms(30);
    EQ(write(*(int *)argument, "x", 1), 1);
    return NULL;
}
CASE(blocked_thread_does_not_block_others) {
    int ends[2];
    OK(pipe(ends));
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, closes, &ends[1]), 0);
    char byte;
    EQ(read(ends[0], &byte, 1), 1);
    pthread_join(thread, NULL);
}
static __thread int local = 7;
static void *changes_local(void *argument) {
    CHECK(local == 7);
    local = (long)argument;
    sched_yield();
    return (void *)(long)local;
}
CASE(thread_local_storage) {
    pthread_t threads[8];
    for (long i = 0; i < 8; i++)
        EQ(pthread_create(&threads[i], NULL, changes_local, (void *)(i + 100)), 0);
    for (long i = 0; i < 8; i++) {
        void *result;
        pthread_join(threads[i], &result);
        EQ((long)result, i + 100);
    }
    EQ(local, 7);
}
CASE(arch_prctl_reads_fs) {
    unsigned long base = 0;
    OK(syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &base));
    CHECK(base != 0);
    ERR(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
    ERR(syscall(SYS_arch_prctl, 0x1003, BAD_ADDRESS), EFAULT);
}
static void *names_itself(void *argument) {
    prctl(PR_SET_NAME, "worker");
    char text[64], path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
    t_read_is(path, "worker\n");
    return argument;
}
CASE(proc_task) {
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, names_itself, NULL), 0);
    pthread_join(thread, NULL);
}
CASE(thread_cpu_clock) {
    struct timespec a, b;
    OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a));
    double end = t_now() + 0.05;
    while (t_now() < end)
        ;
    OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b));
    CHECK(b.tv_sec * 1e9 + b.tv_nsec - a.tv_sec * 1e9 - a.tv_nsec > 1e6);
}
CASE(set_tid_address_answers_tid) { EQ(syscall(SYS_set_tid_address, NULL), syscall(SYS_gettid)); }
static volatile int map_stop;
static void *maps_and_unmaps(void *argument) {
    size_t size = 4096 * (1 + (size_t)argument);
    while (!map_stop) {
        volatile char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED)
            return "mmap";
        for (size_t i = 0; i < size; i += 4096)
            pages[i] = (char)i + 1;
        if (mprotect((void *)pages, size, PROT_READ) != 0)
            return "mprotect";
        for (size_t i = 0; i < size; i += 4096)
            if (pages[i] != (char)i + 1)
                return "the page is another's";
        if (munmap((void *)pages, size) != 0)
            return "munmap";
    }
    return NULL;
}
CASE(threads_map_and_unmap) {
    pthread_t threads[5];
    for (long i = 0; i < 5; i++)
        EQ(pthread_create(&threads[i], NULL, maps_and_unmaps, (void *)i), 0);
    for (int i = 0; i < 20; i++) {
        t_sleep_ms(20);
        pid_t pid = fork();
        if (pid == 0)
            _exit(maps_and_unmaps == NULL);
        EQ(t_wait(pid), 0);
    }
    map_stop = 1;
    for (int i = 0; i < 5; i++) {
        void *why;
        pthread_join(threads[i], &why);
        if (why)
            t_fail("%s", (char *)why);
    }
}
/* membarrier(2): who is read often needs no barrier of his own when the other side asks for one. */
#define ROUNDS 400000
static volatile int fast_says, slow_says;
static int *fast_saw;
static volatile int fast_ended;
static void *fast(void *argument) {
    for (int i = 1; i <= ROUNDS; i++) {
        fast_says = i;
        __asm__ volatile("" ::: "memory");
        fast_saw[i] = slow_says;
    }
    fast_ended = 1;
    return argument;
}
CASE(membarrier_orders_another_threads_memory) {
    int offered = syscall(SYS_membarrier, 0, 0, 0);
    if (offered < 0)
        SKIP("no membarrier");
    EQ(offered & 31, 31);
    ERR(syscall(SYS_membarrier, 0, 1, 0), EINVAL);
    OK(syscall(SYS_membarrier, 1, 0, 0));
    OK(syscall(SYS_membarrier, 2, 0, 0));
    ERR(syscall(SYS_membarrier, 8, 0, 0), EPERM);
    OK(syscall(SYS_membarrier, 16, 0, 0));
    OK(syscall(SYS_membarrier, 8, 0, 0));
    pid_t pid = fork();
    if (pid == 0)
        _exit(syscall(SYS_membarrier, 8, 0, 0));
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
    static int slow_saw[20000];
    CHECK((fast_saw = calloc(ROUNDS + 2, sizeof *fast_saw)) != NULL);
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, fast, NULL), 0);
    int asked = 0;
    while (!fast_ended && asked + 1 < 20000) {
        slow_says = ++asked;
        EQ(syscall(SYS_membarrier, 8, 0, 0), 0);
        slow_saw[asked] = fast_says;
    }
    EQ(pthread_join(thread, NULL), 0);
    /* Of two sides that write and then read, one at least has seen the other. */
    for (int i = 1; i <= asked; i++)
        if (slow_saw[i] < ROUNDS)
            CHECK(fast_saw[slow_saw[i] + 1] >= i);
    free(fast_saw);
}
