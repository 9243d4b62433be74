/* timer_create(2), setitimer(2) by CPU time, RLIMIT_CPU, and what each clock can do. */
#include "t.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>

#define MS 1000000L
static volatile int count;
static volatile siginfo_t last;
static void counts(int number, siginfo_t *info, void *context) {
    count++;
    last = *info;
    syscall(SYS_gettid);
}
static pthread_t handled_by;
static void says_who(int number) {
    count++;
    handled_by = pthread_self();
}
static void handle(int number) {
    struct sigaction action = {.sa_sigaction = counts, .sa_flags = SA_SIGINFO | SA_RESTART};
    OK(sigaction(number, &action, NULL));
}
static void mask(int how, int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    OK(sigprocmask(how, &set, NULL));
}
static void wait_count(int n) {
    double end = t_now() + 5;
    while (count < n && t_now() < end)
        t_sleep_ms(2);
    CHECK(count >= n);
}
static void burn(double seconds) {
    struct timespec now;
    double from = -1, at;
    do {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        at = now.tv_sec + now.tv_nsec / 1e9;
        if (from < 0)
            from = at;
        for (volatile int i = 0; i < 10000; i++)
            ;
    } while (at - from < seconds);
}
/* The C library keeps threads behind SIGEV_THREAD; these are the calls themselves. */
static int create(int clock, struct sigevent *event, int *id) { return syscall(SYS_timer_create, clock, event, id); }
static int settime(int id, int flags, const struct itimerspec *to, struct itimerspec *old) {
    return syscall(SYS_timer_settime, id, flags, to, old);
}
static int gettime(int id, struct itimerspec *now) { return syscall(SYS_timer_gettime, id, now); }

CASE(every_clock_fires) {
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI};
    handle(SIGRTMIN + 1);
    for (int i = 0; i < 4; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1,
                                 .sigev_value.sival_ptr = (void *)0x123456789abcL};
        int id = -1;
        count = 0;
        OK(create(clocks[i], &event, &id));
        struct itimerspec to = {{0, 0}, {0, 5 * MS}}, old;
        OK(settime(id, 0, &to, &old));
        EQ(old.it_value.tv_nsec, 0);
        wait_count(1);
        EQ(last.si_code, SI_TIMER);
        EQ(last.si_timerid, id);
        EQ(last.si_overrun, 0);
        EQ((long)last.si_value.sival_ptr, 0x123456789abcL);
        OK(gettime(id, &old));
        CHECK(old.it_value.tv_sec == 0 && old.it_value.tv_nsec == 0);
        /* A time that has passed. */
        OK(clock_gettime(clocks[i], &to.it_value));
        to.it_value.tv_sec -= to.it_value.tv_sec > 1;
        OK(settime(id, TIMER_ABSTIME, &to, NULL));
        wait_count(2);
        OK(syscall(SYS_timer_delete, id));
        ERR(syscall(SYS_timer_delete, id), EINVAL);
    }
}
CASE(overruns_while_blocked) {
    handle(SIGUSR1);
    mask(SIG_BLOCK, SIGUSR1);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    int id;
    OK(create(CLOCK_MONOTONIC, &event, &id));
    struct itimerspec to = {{0, 5 * MS}, {0, 5 * MS}}, now;
    OK(settime(id, 0, &to, NULL));
    t_sleep_ms(60);
    EQ(syscall(SYS_timer_getoverrun, id), 0);
    OK(gettime(id, &now));
    CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 5 * MS && now.it_interval.tv_nsec == 5 * MS);
    struct timespec no_wait = {0, 0};
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    EQ(sigtimedwait(&set, &info, &no_wait), SIGUSR1);
    CHECK(info.si_overrun >= 10 && info.si_overrun < 1000);
    EQ(syscall(SYS_timer_getoverrun, id), info.si_overrun);
    to = (struct itimerspec){{0, 0}, {0, 0}};
    OK(settime(id, 0, &to, &now));
    EQ(now.it_interval.tv_nsec, 5 * MS);
}
CASE(two_timers_one_signal) {
    handle(SIGUSR1);
    mask(SIG_BLOCK, SIGUSR1);
    int id[2];
    for (int i = 0; i < 2; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = i};
        OK(create(CLOCK_MONOTONIC, &event, &id[i]));
        struct itimerspec to = {{0, 0}, {0, MS}};
        OK(settime(id[i], 0, &to, NULL));
    }
    t_sleep_ms(30);
    EQ(count, 0);
    mask(SIG_UNBLOCK, SIGUSR1);
    EQ(count, 2);
}
CASE(default_event_and_none) {
    handle(SIGALRM);
    int id, quiet;
    OK(create(CLOCK_REALTIME, NULL, &id));
    struct itimerspec to = {{0, 0}, {0, MS}}, now;
    OK(settime(id, 0, &to, NULL));
    wait_count(1);
    EQ(last.si_value.sival_int, id);
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    OK(create(CLOCK_MONOTONIC, &none, &quiet));
    CHECK(quiet != id);
    to = (struct itimerspec){{0, 20 * MS}, {0, 10 * MS}};
    OK(settime(quiet, 0, &to, NULL));
    t_sleep_ms(45);
    OK(gettime(quiet, &now));
    CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 20 * MS);
    EQ(count, 1);
    to.it_interval.tv_nsec = 0;
    OK(settime(quiet, 0, &to, NULL));
    t_sleep_ms(20);
    OK(gettime(quiet, &now));
    EQ(now.it_value.tv_nsec, 0);
}
static pthread_barrier_t barrier;
static volatile pid_t worker_tid;
static void *worker(void *unused) {
    worker_tid = syscall(SYS_gettid);
    pthread_barrier_wait(&barrier);
    double end = t_now() + 5;
    while (count == 0 && t_now() < end)
        t_sleep_ms(2);
    return NULL;
}
CASE(to_one_thread) {
    signal(SIGUSR2, says_who);
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, worker, NULL);
    pthread_barrier_wait(&barrier);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
    event._sigev_un._tid = worker_tid;
    int id;
    OK(create(CLOCK_MONOTONIC, &event, &id));
    struct itimerspec to = {{0, 0}, {0, MS}};
    OK(settime(id, 0, &to, NULL));
    pthread_join(thread, NULL);
    EQ(count, 1);
    CHECK(handled_by == thread);
    event._sigev_un._tid = getppid();
    ERR(create(CLOCK_MONOTONIC, &event, &id), EINVAL);
}
CASE(an_ignored_signal_comes_when_it_is_handled) {
    signal(SIGUSR1, SIG_IGN);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    int id;
    OK(create(CLOCK_MONOTONIC, &event, &id));
    struct itimerspec to = {{0, 5 * MS}, {0, 5 * MS}}, now;
    OK(settime(id, 0, &to, NULL));
    t_sleep_ms(30);
    OK(gettime(id, &now));
    CHECK(now.it_value.tv_nsec > 0);
    handle(SIGUSR1);
    wait_count(2);
}
CASE(cpu_timers) {
    handle(SIGUSR1);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    static const int clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (int i = 0; i < 2; i++) {
        int id;
        count = 0;
        OK(create(clocks[i], &event, &id));
        struct itimerspec to = {{0, 0}, {0, 50 * MS}}, now;
        OK(settime(id, 0, &to, NULL));
        t_sleep_ms(150);
        EQ(count, 0);
        OK(gettime(id, &now));
        CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 50 * MS);
        burn(0.12);
        EQ(count, 1);
        OK(syscall(SYS_timer_delete, id));
    }
}
CASE(interval_timers_by_cpu_time) {
    handle(SIGVTALRM);
    handle(SIGPROF);
    static const int kinds[] = {ITIMER_VIRTUAL, ITIMER_PROF}, signals[] = {SIGVTALRM, SIGPROF};
    for (int i = 0; i < 2; i++) {
        struct itimerval to = {{0, 20000}, {0, 20000}}, old;
        count = 0;
        OK(setitimer(kinds[i], &to, NULL));
        OK(getitimer(kinds[i], &old));
        EQ(old.it_interval.tv_usec, 20000);
        CHECK(old.it_value.tv_usec > 0);
        t_sleep_ms(100);
        CHECK(count <= 1);
        double end = t_now() + 5;
        while (count < 3 && t_now() < end)
            ;
        CHECK(count >= 3);
        EQ(last.si_signo, signals[i]);
        to = (struct itimerval){{0, 0}, {0, 0}};
        OK(setitimer(kinds[i], &to, &old));
        EQ(old.it_interval.tv_usec, 20000);
    }
    ERR(getitimer(3, NULL), EINVAL);
}
CASE(limit_on_cpu_time) {
    /* Two seconds of work, which a loaded machine may be long about. */
    alarm(100);
    static const struct rlimit limits[] = {{1, RLIM_INFINITY}, {1, 1}};
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(0);
            OK(setrlimit(RLIMIT_CPU, &limits[i]));
            for (;;)
                ;
        }
        int status = t_wait(child);
        CHECK(WIFSIGNALED(status));
        EQ(WTERMSIG(status), i == 0 ? SIGXCPU : SIGKILL);
    }
}
CASE(fork_has_no_timers) {
    handle(SIGUSR1);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    int id;
    OK(create(CLOCK_MONOTONIC, &event, &id));
    struct itimerspec to = {{0, 0}, {0, 30 * MS}}, now;
    OK(settime(id, 0, &to, NULL));
    pid_t child = fork();
    if (child == 0) {
        ERR(gettime(id, &now), EINVAL);
        t_sleep_ms(80);
        EQ(count, 0);
        _exit(0);
    }
    CHILD_OK(child);
    wait_count(1);
}
CASE(exec_drops_timers) {
    pid_t child = fork();
    if (child == 0) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        int id;
        OK(create(CLOCK_MONOTONIC, &event, &id));
        struct itimerspec to = {{0, 0}, {1, 500 * MS}};
        OK(settime(id, 0, &to, NULL));
        execl("/bin/sleep", "sleep", "1.7", NULL);
        _exit(1);
    }
    EQ(t_wait(child), 0);
}
CASE(timer_errors) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    int id;
    ERR(create(CLOCK_MONOTONIC, &event, &id), EINVAL);
    event.sigev_signo = 0;
    ERR(create(CLOCK_MONOTONIC, &event, &id), EINVAL);
    event = (struct sigevent){.sigev_notify = 3, .sigev_signo = SIGUSR1};
    ERR(create(CLOCK_MONOTONIC, &event, &id), EINVAL);
    ERR(create(99, NULL, &id), EINVAL);
    ERR(create(CLOCK_MONOTONIC_RAW, NULL, &id), EOPNOTSUPP);
    ERR(create(CLOCK_REALTIME_COARSE, NULL, &id), EOPNOTSUPP);
    ERR(create(CLOCK_MONOTONIC, NULL, BAD_ADDRESS), EFAULT);
    ERR(create(CLOCK_MONOTONIC, BAD_ADDRESS, &id), EFAULT);
    OK(create(CLOCK_MONOTONIC, NULL, &id));
    struct itimerspec to = {{0, 0}, {0, 1000000000}};
    ERR(settime(id, 0, &to, NULL), EINVAL);
    to.it_value.tv_nsec = -1;
    ERR(settime(id, 0, &to, NULL), EINVAL);
    ERR(settime(id, 0, NULL, NULL), EINVAL);
    ERR(settime(id, 0, BAD_ADDRESS, NULL), EFAULT);
    ERR(settime(id + 77, 0, &(struct itimerspec){0}, NULL), EINVAL);
    ERR(gettime(id, BAD_ADDRESS), EFAULT);
    ERR(gettime(-1, &to), EINVAL);
    ERR(syscall(SYS_timer_getoverrun, id + 77), EINVAL);
    EQ(syscall(SYS_timer_getoverrun, id), 0);
}
CASE(clocks_and_their_refusals) {
    struct timespec now, later = {0, 1}, bad = {-1, 0};
    static const int real[] = {0, 1, 4, 5, 6, 7, 11};
    for (int i = 0; i < 7; i++) {
        OK(syscall(SYS_clock_gettime, real[i], &now));
        OK(syscall(SYS_clock_getres, real[i], &later));
    }
    static const int sleepers[] = {0, 1, 7, 11};
    for (int i = 0; i < 4; i++)
        OK(syscall(SYS_clock_nanosleep, sleepers[i], 0, &(struct timespec){0, 1000}, NULL));
    for (int i = 3; i < 7; i++)
        ERR(syscall(SYS_clock_nanosleep, i, 0, &(struct timespec){0, 1}, NULL), EOPNOTSUPP);
    ERR(syscall(SYS_clock_nanosleep, 12, 0, &later, NULL), EINVAL);
    ERR(syscall(SYS_clock_gettime, 10, &now), EINVAL);
    ERR(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &now), EINVAL);
    ERR(syscall(SYS_clock_settime, CLOCK_REALTIME, &bad), EINVAL);
    struct timespec cpu, wall;
    OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu));
    burn(0.02);
    OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &wall));
    CHECK((wall.tv_sec - cpu.tv_sec) * 1e9 + wall.tv_nsec - cpu.tv_nsec >= 15e6);
}
static void *burns(void *unused) {
    burn(0.3);
    return NULL;
}
CASE(sleeping_by_anothers_cpu_time) {
    pthread_t thread;
    pthread_create(&thread, NULL, burns, NULL);
    EQ(syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &(struct timespec){0, 50 * MS}, NULL), 0);
    struct timespec all;
    OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &all));
    CHECK(all.tv_sec > 0 || all.tv_nsec >= 50 * MS);
    pthread_join(thread, NULL);
}
CASE(reading_the_adjustment) {
    struct timex now = {0};
    int state = adjtimex(&now);
    CHECK(state >= 0 && state <= 5);
    CHECK(now.time.tv_sec > 1600000000);
    CHECK(now.tick > 9000 && now.tick < 11000);
    CHECK(syscall(SYS_adjtimex, &now) >= 0);
    OK(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &now));
    ERR(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &now), EOPNOTSUPP);
    ERR(syscall(SYS_clock_adjtime, 99, &now), EINVAL);
    ERR(syscall(SYS_adjtimex, BAD_ADDRESS), EFAULT);
}
CASE(timer_descriptors) {
    ERR(timerfd_create(CLOCK_TAI, 0), EINVAL);
    ERR(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (int i = 0; i < 3; i++) {
        FD(fd, timerfd_create(clocks[i], TFD_CLOEXEC));
        struct itimerspec to = {{0, 0}, {0, 0}};
        uint64_t ticks;
        OK(clock_gettime(clocks[i], &to.it_value));
        to.it_value.tv_nsec += 3 * MS;
        to.it_value.tv_sec += to.it_value.tv_nsec / 1000000000;
        to.it_value.tv_nsec %= 1000000000;
        OK(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &to, NULL));
        EQ(read(fd, &ticks, 8), 8);
        EQ(ticks, 1);
        ERR(timerfd_settime(fd, 4, &to, NULL), EINVAL);
    }
}
