/* Clocks, sleeps, POSIX timers, random numbers, system information. */
#include "t.h"
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/time.h>

CASE(clocks_run) {
    clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                       CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (int i = 0; i < 8; i++) {
        struct timespec a, b, resolution;
        OK(clock_gettime(ids[i], &a));
        OK(syscall(SYS_clock_gettime, ids[i], &b));
        CHECK(b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec));
        OK(clock_getres(ids[i], &resolution));
        CHECK(resolution.tv_sec == 0 && resolution.tv_nsec > 0);
    }
    struct timespec t;
    ERR(clock_gettime(99, &t), EINVAL);
    ERR(syscall(SYS_clock_gettime, CLOCK_REALTIME, BAD_ADDRESS), EFAULT);
    ERR(clock_getres(99, &t), EINVAL);
    t.tv_sec = 1;
    t.tv_nsec = -1;
    ERR(clock_settime(CLOCK_REALTIME, &t), EINVAL);
}
CASE(vdso_and_call_agree) {
    struct timespec a, b;
    OK(clock_gettime(CLOCK_REALTIME, &a));
    OK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &b));
    CHECK(b.tv_sec - a.tv_sec <= 1);
    struct timeval v;
    OK(gettimeofday(&v, NULL));
    OK(syscall(SYS_gettimeofday, &v, NULL));
    CHECK(labs(v.tv_sec - a.tv_sec) <= 1);
    CHECK(labs(time(NULL) - a.tv_sec) <= 1);
    CHECK(labs(syscall(SYS_time, NULL) - a.tv_sec) <= 1);
}
CASE(nanosleep_sleeps) {
    struct timespec t = {0, 50000000};
    double start = t_now();
    OK(nanosleep(&t, NULL));
    double passed = t_now() - start;
    CHECK(passed >= 0.05 && passed < 2);
    t.tv_nsec = 1000000000;
    ERR(nanosleep(&t, NULL), EINVAL);
    t.tv_nsec = 0;
    t.tv_sec = -1;
    ERR(nanosleep(&t, NULL), EINVAL);
    ERR(nanosleep(BAD_ADDRESS, NULL), EFAULT);
    t.tv_sec = 0;
    OK(nanosleep(&t, NULL));
}
CASE(clock_nanosleep_absolute) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    double start = t_now();
    t.tv_nsec += 40000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
    CHECK(t_now() - start >= 0.035);
    EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
    EQ(clock_nanosleep(99, 0, &t, NULL), EINVAL);
    EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), EINVAL);
}
static volatile sig_atomic_t count;
static volatile siginfo_t info;
static void counts(int number, siginfo_t *given, void *context) {
    (void)number, (void)context;
    info = *given;
    count++;
}
CASE(posix_timer) {
    struct sigaction action = {.sa_sigaction = counts, .sa_flags = SA_SIGINFO};
    OK(sigaction(SIGRTMIN, &action, NULL));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 71};
    timer_t timer;
    OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    struct itimerspec every = {{0, 10000000}, {0, 20000000}}, now;
    OK(timer_settime(timer, 0, &every, NULL));
    double end = t_now() + 5;
    while (count < 3 && t_now() < end)
        t_sleep_ms(5);
    CHECK(count >= 3);
    EQ(info.si_code, SI_TIMER);
    EQ(info.si_value.sival_int, 71);
    OK(timer_gettime(timer, &now));
    EQ(now.it_interval.tv_nsec, 10000000);
    CHECK(timer_getoverrun(timer) >= 0);
    OK(timer_delete(timer));
    ERR(syscall(SYS_timer_delete, 12345), EINVAL);
    ERR(timer_create(99, &event, &timer), EINVAL);
}
CASE(cpu_clock_counts_work_only) {
    struct timespec a, b, c;
    OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a));
    t_sleep_ms(100);
    OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b));
    double end = t_now() + 0.1;
    while (t_now() < end)
        ;
    OK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &c));
    double slept = b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9;
    double worked = c.tv_sec - b.tv_sec + (c.tv_nsec - b.tv_nsec) / 1e9;
    CHECK(slept < 0.08);
    CHECK(worked > 0.01);
}
CASE(getrandom_fills) {
    unsigned char a[64] = {0}, b[64] = {0};
    EQ(getrandom(a, 64, 0), 64);
    EQ(getrandom(b, 64, GRND_NONBLOCK), 64);
    CHECK(memcmp(a, b, 64) != 0);
    EQ(getrandom(a, 0, 0), 0);
    ERR(getrandom(a, 64, 99), EINVAL);
    ERR(syscall(SYS_getrandom, BAD_ADDRESS, 10, 0), EFAULT);
    char *large = malloc(100000);
    EQ(getrandom(large, 100000, 0), 100000);
}
CASE(sysinfo_answers) {
    struct sysinfo s;
    OK(sysinfo(&s));
    CHECK(s.totalram * s.mem_unit >= 16 << 20);
    CHECK(s.freeram <= s.totalram);
    CHECK(s.procs >= 1);
    CHECK(s.uptime >= 0);
    ERR(syscall(SYS_sysinfo, BAD_ADDRESS), EFAULT);
}
CASE(sleeping_order) {
    int ends[2];
    OK(pipe(ends));
    struct timespec now;
    OK(clock_gettime(CLOCK_MONOTONIC, &now));
    for (int i = 3; i >= 1; i--) {
        if (fork() == 0) {
            long at = now.tv_nsec + i * 250000000l;
            struct timespec until = {now.tv_sec + at / 1000000000, at % 1000000000};
            EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL), 0);
            char byte = '0' + i;
            EQ(write(ends[1], &byte, 1), 1);
            _exit(0);
        }
    }
    char order[4] = {0};
    for (int i = 0; i < 3; i++)
        EQ(read(ends[0], order + i, 1), 1);
    CHECK(strcmp(order, "123") == 0);
    while (wait(NULL) > 0)
        ;
}
static long long t_clock(clockid_t id, int trapping) {
    struct timespec now;
    OK(trapping ? syscall(SYS_clock_gettime, id, &now) : clock_gettime(id, &now));
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
CASE(asked_either_way_time_does_not_go_back) {
    const clockid_t clocks[] = {CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW,
                                CLOCK_BOOTTIME, CLOCK_TAI};
    for (unsigned i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        long long last = 0;
        for (int n = 0; n < 200; n++) {
            long long now = t_clock(clocks[i], n & 1);
            if (now < last)
                t_fail("clock %d went back by %lld ns", clocks[i], last - now);
            last = now;
        }
    }
}
CASE(a_threads_cpu_clock_is_not_slept_on) {
    struct timespec soon = {0, 1000};
    ERR(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &soon, NULL), EOPNOTSUPP);
}
static void t_noted(int number) {
}
CASE(what_is_left_of_a_sleep_needs_a_place) {
    struct sigaction action = {.sa_handler = t_noted};
    OK(sigaction(SIGALRM, &action, NULL));
    struct timespec *readable = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct timespec left = {0, 0}, long_time = {60, 0};
    alarm(1);
    ERR(syscall(SYS_nanosleep, &long_time, &left), EINTR);
    CHECK(left.tv_sec >= 50);
    alarm(1);
    ERR(syscall(SYS_nanosleep, &long_time, readable), EFAULT);
    alarm(1);
    ERR(syscall(SYS_nanosleep, &long_time, NULL), EINTR);
}
