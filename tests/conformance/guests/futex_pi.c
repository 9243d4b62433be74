/* Futexes with priority inheritance: FUTEX_LOCK_PI and its family, and the mutexes of the C library made of them. */
#include "t.h"
#include <linux/futex.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

static long futex(volatile unsigned *word, int op, unsigned value, const void *t, volatile unsigned *other, unsigned value3) {
    return syscall(SYS_futex, word, op, value, t, other, value3);
}
static unsigned me(void) {
    return syscall(SYS_gettid);
}
static volatile unsigned word, cond, other;
static volatile int held, done;
static volatile unsigned holder;

/* Takes `word` and keeps it until `done`. */
static void *keeper(void *argument) {
    if (futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) != 0)
        t_fail("keeper: %s", strerror(errno));
    holder = me();
    held = 1;
    while (!done)
        t_sleep_ms(1);
    if (argument == NULL && futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) != 0)
        t_fail("keeper: %s", strerror(errno));
    return NULL;
}
static pthread_t keep(void *argument) {
    pthread_t t;
    held = done = 0;
    EQ(pthread_create(&t, NULL, keeper, argument), 0);
    while (!held)
        t_sleep_ms(1);
    return t;
}
static struct timespec in_ms(clockid_t clock, long ms) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

CASE(lock_and_unlock) {
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, me());
    ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    ERR(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, 0);
    ERR(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    OK(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, me());
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    OK(futex(&word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    OK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    /* A word left by one who died. */
    word = FUTEX_OWNER_DIED;
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, me() | FUTEX_OWNER_DIED);
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, 0);
}
CASE(errors) {
    word = 0x1ffffff0;
    ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), ESRCH);
    EQ(word, 0x1ffffff0 | FUTEX_WAITERS);
    ERR(futex((void *)((char *)&word + 1), FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EINVAL);
    ERR(futex(BAD_ADDRESS, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    ERR(futex(BAD_ADDRESS, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EFAULT);
    ERR(futex(BAD_ADDRESS, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    struct timespec bad = {0, 1000000000};
    ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, &bad, NULL, 0), EINVAL);
    ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0), ENOSYS);
    ERR(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0), ENOSYS);
    ERR(futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &word, 0), EINVAL);
    ERR(futex(&cond, FUTEX_WAIT_REQUEUE_PI, 1, NULL, &word, 0), EAGAIN);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE_PI, 2, NULL, &word, 0), EINVAL);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, NULL, &cond, 0), EINVAL);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, NULL, &word, 9), EAGAIN);
    EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI, 1, NULL, &word, 0), 0);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE, 1, (void *)-1l, &word, 0), EINVAL);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE, -1, (void *)1l, &word, 0), EINVAL);
    int *gone = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ERR(futex((void *)gone, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
    EQ(futex((void *)gone, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
}
CASE(contended) {
    pthread_t t = keep(NULL);
    EQ(word, holder);
    ERR(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EAGAIN);
    EQ(word, holder | FUTEX_WAITERS);
    ERR(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
    struct timespec soon = in_ms(CLOCK_REALTIME, 30);
    double start = t_now();
    ERR(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, &soon, NULL, 0), ETIMEDOUT);
    CHECK(t_now() - start > 0.02);
    soon = in_ms(CLOCK_MONOTONIC, 20);
    ERR(futex(&word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG, 0, &soon, NULL, 0), ETIMEDOUT);
    soon = in_ms(CLOCK_REALTIME, 20);
    ERR(futex(&word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, 0, &soon, NULL, 0), ETIMEDOUT);
    done = 1;
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word & FUTEX_TID_MASK, me());
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, 0);
    pthread_join(t, NULL);
}
CASE(the_owner_dies) {
    pthread_t t = keep("and does not unlock");
    pid_t was = holder;
    done = 0;
    struct timespec ms = {0, 30000000};
    pid_t pid = 0;
    /* It dies while we wait. */
    pthread_t later;
    void *finish(void *x) {
        t_sleep_ms(40);
        done = 1;
        return NULL;
    }
    EQ(pthread_create(&later, NULL, finish, NULL), 0);
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, me() | FUTEX_WAITERS | FUTEX_OWNER_DIED);
    pthread_join(t, NULL);
    pthread_join(later, NULL);
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word, 0);
}
static void *crosser(void *argument) {
    if (futex(&other, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) != 0)
        t_fail("other: %s", strerror(errno));
    held = 1;
    long r = futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    if (r == 0)
        futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    futex(&other, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    return (void *)r;
}
CASE(a_circle_is_refused) {
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    pthread_t t;
    EQ(pthread_create(&t, NULL, crosser, NULL), 0);
    while (!held)
        t_sleep_ms(1);
    t_sleep_ms(50);
    ERR(futex(&other, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
    /* Nobody is woken from a lock by anything else. */
    ERR(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EINVAL);
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    void *r;
    pthread_join(t, &r);
    EQ((long)r, 0);
    EQ(word, 0);
}
static volatile int through;
static void *mover(void *argument) {
    long r = futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, argument, &word, 0);
    if (r != 0)
        return (void *)(long)errno;
    if ((word & FUTEX_TID_MASK) != me())
        t_fail("it is not mine: 0x%x", word);
    through++;
    if (futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) != 0)
        t_fail("unlock: %s", strerror(errno));
    return NULL;
}
CASE(requeue) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        EQ(pthread_create(&t[i], NULL, mover, NULL), 0);
    t_sleep_ms(100);
    ERR(futex(&cond, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EINVAL);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1l, &word, 0), EINVAL);
    ERR(futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1l, &other, 0), EINVAL);
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1l, &word, 0), 2);
    t_sleep_ms(30);
    EQ(through, 0);
    CHECK(word == (me() | FUTEX_WAITERS));
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    while (through < 2)
        t_sleep_ms(1);
    t_sleep_ms(30);
    EQ(through, 2);
    /* A lock that is free goes to the first at once. */
    EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)9l, &word, 0), 2);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    EQ(through, 4);
    struct timespec soon = in_ms(CLOCK_MONOTONIC, 30);
    ERR(futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &soon, &word, 0), ETIMEDOUT);
    /* Over time while it waits for the lock. */
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    soon = in_ms(CLOCK_MONOTONIC, 100);
    EQ(pthread_create(&t[0], NULL, mover, &soon), 0);
    t_sleep_ms(40);
    EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1l, &word, 0), 1);
    void *r;
    pthread_join(t[0], &r);
    EQ((long)r, ETIMEDOUT);
    OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
}
static pthread_mutex_t mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long counter;
static void init(int robust, int shared, pthread_mutex_t *m) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    EQ(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT), 0);
    if (robust)
        EQ(pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST), 0);
    if (shared)
        EQ(pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED), 0);
    EQ(pthread_mutex_init(m, &a), 0);
}
static void *counting(void *argument) {
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
CASE(mutexes_exclude) {
    init(0, 0, &mutex);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        EQ(pthread_create(&t[i], NULL, counting, NULL), 0);
    for (int i = 0; i < 4; i++)
        EQ(pthread_join(t[i], NULL), 0);
    EQ(counter, 80000);
    EQ(pthread_mutex_destroy(&mutex), 0);
}
static void *waiter(void *argument) {
    pthread_mutex_lock(&mutex);
    while (!done)
        pthread_cond_wait(&condition, &mutex);
    counter++;
    pthread_mutex_unlock(&mutex);
    return NULL;
}
CASE(conditions) {
    init(0, 0, &mutex);
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        EQ(pthread_create(&t[i], NULL, waiter, NULL), 0);
    t_sleep_ms(30);
    pthread_mutex_lock(&mutex);
    done = 1;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 3; i++)
        EQ(pthread_join(t[i], NULL), 0);
    EQ(counter, 3);
}
CASE(robust_between_processes) {
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    init(1, 1, m);
    for (int wait = 0; wait < 2; wait++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (pthread_mutex_lock(m) != 0)
                _exit(1);
            t_sleep_ms(wait ? 60 : 0);
            _exit(0);
        }
        if (!wait) {
            CHILD_OK(pid);
        } else
            t_sleep_ms(30);
        EQ(pthread_mutex_lock(m), EOWNERDEAD);
        EQ(pthread_mutex_consistent(m), 0);
        EQ(pthread_mutex_unlock(m), 0);
        if (wait)
            CHILD_OK(pid);
    }
    EQ(pthread_mutex_lock(m), 0);
    EQ(pthread_mutex_unlock(m), 0);
}
static void nothing(int sig) {
}
CASE(a_signal_does_not_end_it) {
    struct sigaction sa = {.sa_handler = nothing};
    OK(sigaction(SIGALRM, &sa, NULL));
    pthread_t t = keep(NULL), later;
    void *finish(void *x) {
        kill(getpid(), SIGALRM);
        t_sleep_ms(50);
        done = 1;
        return NULL;
    }
    EQ(pthread_create(&later, NULL, finish, NULL), 0);
    OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
    EQ(word & FUTEX_TID_MASK, me());
    pthread_join(t, NULL);
    pthread_join(later, NULL);
}
