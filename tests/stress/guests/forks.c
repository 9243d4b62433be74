/* COUNT SECONDS: forks, executes, ends and waits for that many children, or for that long; each has opened and mapped files,
   started a thread and a timer, waited for a futex, and some are killed. A line "COUNT SECONDS" a second, so that the
   kernel's memory can be set against it. Nothing may be left of any of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *wakes(void *semaphore) {
    return write(*(int *)semaphore, &(uint64_t){1}, 8) == 8 ? NULL : semaphore;
}

/* What has to be forgotten when its owner ends: objects of every kind, waits, timers, a thread. */
static void leave_things_behind(long number) {
    char name[64];
    snprintf(name, sizeof name, "/tmp/forks.%d.%ld", getpid(), number);
    int file = open(name, O_RDWR | O_CREAT, 0600), ends[2], pair[2];
    if (file < 0 || ftruncate(file, 8192) != 0 || unlink(name) != 0 || pipe(ends) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(3);
    mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    int poller = epoll_create1(0), clock = timerfd_create(CLOCK_MONOTONIC, 0), counter = eventfd(0, 0);
    struct epoll_event event = {.events = EPOLLIN};
    struct itimerspec later = {.it_value = {100, 0}};
    timerfd_settime(clock, 0, &later, NULL);
    timer_t timer;
    struct sigevent signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    pthread_t thread;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event) != 0 || epoll_ctl(poller, EPOLL_CTL_ADD, clock, &event) != 0 ||
        timer_create(CLOCK_MONOTONIC, &signal, &timer) != 0 || timer_settime(timer, 0, &later, NULL) != 0 ||
        pthread_create(&thread, NULL, wakes, &counter) != 0)
        exit(4);
    uint64_t value;
    if (read(counter, &value, 8) != 8)
        exit(5);
    sigqueue(getpid(), SIGCHLD, (union sigval){0});
}

static int child(long number, char **argv) {
    switch (number % 8) {
    case 0:
        leave_things_behind(number);
        _exit(0);
    case 1:
        raise(SIGKILL);
        _exit(6);
    case 2:
        if (fork() == 0)
            _exit(0);
        _exit(0); /* The orphan is pid 1's, which is this program's parent. */
    default:
        execl("/proc/self/exe", argv[0], "end", NULL);
        _exit(7);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "end") == 0)
        return 0;
    long count = argc > 1 ? atol(argv[1]) : 1000;
    double begun = now(), end = begun + (argc > 2 ? atof(argv[2]) : 1e9), told = begun;
    for (long i = 0; i < count && now() < end; i++) {
        pid_t pid = i % 8 == 3 ? vfork() : fork();
        if (pid == 0)
            _exit(child(i, argv));
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
            printf("failed: fork %ld: %s\n", i, strerror(errno));
            return 1;
        }
        if (status != (i % 8 == 1 ? SIGKILL : 0)) {
            printf("failed: child %ld ended with 0x%x\n", i, status);
            return 1;
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (now() - told >= 1) {
            told = now();
            printf("%ld %.1f\n", i + 1, told - begun);
            fflush(stdout);
        }
    }
    puts("done");
    return 0;
}
