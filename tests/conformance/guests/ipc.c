/* pipe, fifo, poll, select, epoll, eventfd, timerfd, splice, socketpair's absence of surprises. */
#include "t.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>

static void nonblock(int fd) { OK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)); }

CASE(pipe_basic) {
    int ends[2];
    char buffer[16];
    OK(pipe(ends));
    EQ(write(ends[1], "hello", 5), 5);
    EQ(read(ends[0], buffer, 2), 2);
    EQ(read(ends[0], buffer, 16), 3);
    CHECK(memcmp(buffer, "llo", 3) == 0);
    close(ends[1]);
    EQ(read(ends[0], buffer, 16), 0);
    ERR(pipe(BAD_ADDRESS), EFAULT);
    ERR(pipe2(ends, 1 << 20), EINVAL);
    OK(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    EQ(fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    ERR(read(ends[0], buffer, 1), EAGAIN);
    ERR(read(ends[1], buffer, 1), EBADF);
    ERR(write(ends[0], buffer, 1), EBADF);
}
CASE(pipe_fills) {
    int ends[2];
    char chunk[4096] = {0};
    OK(pipe2(ends, O_NONBLOCK));
    int size = fcntl(ends[0], F_GETPIPE_SZ);
    EQ(size, 65536);
    long total = 0;
    ssize_t put;
    while ((put = write(ends[1], chunk, sizeof chunk)) > 0)
        total += put;
    EQ(errno, EAGAIN);
    EQ(total, 65536);
    EQ(read(ends[0], chunk, 4096), 4096);
    EQ(write(ends[1], chunk, 4096), 4096);
    EQ(fcntl(ends[1], F_SETPIPE_SZ, 131072), 131072);
    EQ(write(ends[1], chunk, 4096), 4096);
    ERR(fcntl(ends[1], F_SETPIPE_SZ, 4096), EBUSY);
}
CASE(pipe_atomic_writes) {
    int ends[2];
    OK(pipe2(ends, O_NONBLOCK));
    char *block = calloc(1, 65536);
    EQ(write(ends[1], block, 65536 - 100), 65536 - 100);
    char small[4096];
    /* At most PIPE_BUF bytes: all or nothing. */
    ssize_t put = write(ends[1], small, 4096);
    CHECK(put == -1 && errno == EAGAIN);
}
CASE(pipe_blocking_writer_is_resumed) {
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        char *block = malloc(300000);
        memset(block, 'p', 300000);
        EQ(write(ends[1], block, 300000), 300000);
        _exit(0);
    }
    close(ends[1]);
    char buffer[10000];
    long total = 0;
    ssize_t got;
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0)
        total += got;
    EQ(total, 300000);
    CHILD_OK(pid);
}
CASE(pipe_eof_needs_every_writer) {
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(60);
        _exit(0);
    }
    close(ends[1]);
    char byte;
    double start = t_now();
    EQ(read(ends[0], &byte, 1), 0);
    CHECK(t_now() - start > 0.03);
    CHILD_OK(pid);
}
CASE(fifo_rendezvous) {
    OK(mkfifo("fifo", 0644));
    ERR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    FD(reader, open("fifo", O_RDONLY | O_NONBLOCK));
    char buffer[8];
    EQ(read(reader, buffer, 8), 0);
    close(reader);
    pid_t pid = fork();
    if (pid == 0) {
        FD(out, open("fifo", O_WRONLY));
        EQ(write(out, "fifo!", 5), 5);
        _exit(0);
    }
    FD(in, open("fifo", O_RDONLY));
    EQ(read(in, buffer, 8), 5);
    EQ(read(in, buffer, 8), 0);
    CHILD_OK(pid);
    FD(both, open("fifo", O_RDWR));
    EQ(write(both, "x", 1), 1);
    EQ(read(both, buffer, 8), 1);
}
CASE(poll_basic) {
    int ends[2];
    OK(pipe(ends));
    struct pollfd fds[3] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}, {-1, POLLIN, 77}};
    EQ(poll(fds, 3, 0), 1);
    EQ(fds[0].revents, 0);
    EQ(fds[1].revents, POLLOUT);
    EQ(fds[2].revents, 0);
    EQ(write(ends[1], "x", 1), 1);
    EQ(poll(fds, 1, -1), 1);
    EQ(fds[0].revents, POLLIN);
    close(ends[1]);
    EQ(poll(fds, 1, -1), 1);
    EQ(fds[0].revents, POLLIN | POLLHUP);
    fds[0].fd = 900;
    EQ(poll(fds, 1, -1), 1);
    EQ(fds[0].revents, POLLNVAL);
    ERR(poll(BAD_ADDRESS, 1, 0), EFAULT);
    ERR(poll(fds, 1u << 30, 0), EINVAL);
    OK(pipe(ends));
    close(ends[0]);
    fds[0] = (struct pollfd){ends[1], POLLOUT, 0};
    EQ(poll(fds, 1, 0), 1);
    EQ(fds[0].revents & POLLERR, POLLERR);
    FD(file, open("f", O_CREAT | O_RDWR, 0644));
    fds[0] = (struct pollfd){file, POLLIN | POLLOUT, 0};
    EQ(poll(fds, 1, 0), 1);
    EQ(fds[0].revents, POLLIN | POLLOUT);
}
CASE(poll_times_out_and_wakes) {
    int ends[2];
    OK(pipe(ends));
    struct pollfd fds[1] = {{ends[0], POLLIN, 0}};
    double start = t_now();
    EQ(poll(fds, 1, 60), 0);
    CHECK(t_now() - start >= 0.055);
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(40);
        EQ(write(ends[1], "w", 1), 1);
        _exit(0);
    }
    EQ(poll(fds, 1, 5000), 1);
    CHILD_OK(pid);
}
static volatile sig_atomic_t alarms;
static void counts(int number) {
    (void)number;
    alarms++;
}
CASE(poll_interrupted_and_ppoll_mask) {
    int ends[2];
    OK(pipe(ends));
    struct pollfd fds[1] = {{ends[0], POLLIN, 0}};
    struct sigaction action = {.sa_handler = counts, .sa_flags = SA_RESTART};
    OK(sigaction(SIGUSR1, &action, NULL));
    sigset_t mask, none;
    sigemptyset(&mask);
    sigemptyset(&none);
    sigaddset(&mask, SIGUSR1);
    OK(sigprocmask(SIG_BLOCK, &mask, NULL));
    OK(raise(SIGUSR1));
    EQ(poll(fds, 1, 10), 0);
    EQ(alarms, 0);
    struct timespec t = {5, 0};
    ERR(ppoll(fds, 1, &t, &none), EINTR);
    EQ(alarms, 1);
    t.tv_nsec = -1;
    ERR(ppoll(fds, 1, &t, &none), EINVAL);
}
CASE(select_basic) {
    int ends[2];
    OK(pipe(ends));
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(ends[0], &in);
    FD_SET(ends[1], &out);
    struct timeval t = {0, 0};
    EQ(select(ends[1] + 1, &in, &out, NULL, &t), 1);
    CHECK(!FD_ISSET(ends[0], &in) && FD_ISSET(ends[1], &out));
    EQ(write(ends[1], "x", 1), 1);
    FD_SET(ends[0], &in);
    EQ(select(ends[1] + 1, &in, &out, NULL, NULL), 2);
    t.tv_usec = 40000;
    double start = t_now();
    EQ(select(0, NULL, NULL, NULL, &t), 0);
    CHECK(t_now() - start >= 0.035);
    EQ(t.tv_sec + t.tv_usec, 0);
    FD_ZERO(&in);
    FD_SET(40, &in);
    ERR(select(41, &in, NULL, NULL, NULL), EBADF);
    ERR(select(-1, NULL, NULL, NULL, NULL), EINVAL);
    t.tv_sec = -1;
    ERR(select(0, NULL, NULL, NULL, &t), EINVAL);
    struct timespec ts = {0, 1000000};
    sigset_t none;
    sigemptyset(&none);
    EQ(pselect(0, NULL, NULL, NULL, &ts, &none), 0);
}
/* How many of three instances, each with a waiting process, one byte wakes. */
static int woken(uint32_t mode) {
    int p[2], *n = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    OK(pipe(p));
    pid_t pid[3];
    for (int i = 0; i < 3; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            FD(ep, epoll_create1(0));
            struct epoll_event e = {EPOLLIN | EPOLLET | mode, {.fd = p[0]}};
            OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
            __atomic_add_fetch(n + 1, 1, __ATOMIC_SEQ_CST);
            if (epoll_wait(ep, &e, 1, 1500) == 1)
                __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST);
            _exit(0);
        }
    }
    while (__atomic_load_n(n + 1, __ATOMIC_SEQ_CST) < 3)
        t_sleep_ms(1);
    t_sleep_ms(100);
    EQ(write(p[1], "x", 1), 1);
    t_sleep_ms(200);
    int first = __atomic_load_n(n, __ATOMIC_SEQ_CST);
    EQ(write(p[1], "x", 1), 1);
    for (int i = 0; i < 3; i++)
        CHILD_OK(pid[i]);
    return first * 10 + *n;
}
CASE(epoll_exclusive) {
    EQ(woken(EPOLLEXCLUSIVE), 12);
    EQ(woken(0), 33);
    int p[2];
    OK(pipe(p));
    FD(ep, epoll_create1(0));
    struct epoll_event e = {EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, {.fd = p[0]}};
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e), EINVAL);
    e.events = EPOLLIN | EPOLLEXCLUSIVE;
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
    ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e), EINVAL);
    FD(outer, epoll_create1(0));
    ERR(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e), EINVAL);
    EQ(write(p[1], "x", 1), 1);
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    EQ(epoll_wait(ep, &e, 1, 0), 1);
}
CASE(epoll_level) {
    int ends[2];
    OK(pipe(ends));
    FD(ep, epoll_create1(EPOLL_CLOEXEC));
    EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {.u64 = 0x1122334455667788}}, got[4];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    EQ(epoll_wait(ep, got, 4, 0), 0);
    EQ(write(ends[1], "xy", 2), 2);
    EQ(epoll_wait(ep, got, 4, -1), 1);
    EQ(got[0].events, EPOLLIN);
    EQ(got[0].data.u64, 0x1122334455667788);
    EQ(epoll_wait(ep, got, 4, 0), 1);
    char buffer[4];
    EQ(read(ends[0], buffer, 4), 2);
    EQ(epoll_wait(ep, got, 4, 0), 0);
    close(ends[1]);
    EQ(epoll_wait(ep, got, 4, 0), 1);
    EQ(got[0].events, EPOLLHUP);
    OK(epoll_ctl(ep, EPOLL_CTL_DEL, ends[0], NULL));
    EQ(epoll_wait(ep, got, 4, 0), 0);
}
CASE(epoll_edge_and_oneshot) {
    int ends[2];
    OK(pipe(ends));
    FD(ep, epoll_create1(0));
    struct epoll_event event = {EPOLLIN | EPOLLET, {.fd = 1}}, got[4];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    EQ(write(ends[1], "x", 1), 1);
    EQ(epoll_wait(ep, got, 4, 0), 1);
    EQ(epoll_wait(ep, got, 4, 0), 0);
    EQ(write(ends[1], "y", 1), 1);
    EQ(epoll_wait(ep, got, 4, 0), 1);
    event.events = EPOLLIN | EPOLLONESHOT;
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, ends[0], &event));
    EQ(epoll_wait(ep, got, 4, 0), 1);
    EQ(epoll_wait(ep, got, 4, 0), 0);
    EQ(write(ends[1], "z", 1), 1);
    EQ(epoll_wait(ep, got, 4, 0), 0);
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, ends[0], &event));
    EQ(epoll_wait(ep, got, 4, 0), 1);
}
CASE(epoll_errors) {
    int ends[2];
    OK(pipe(ends));
    FD(ep, epoll_create(1));
    struct epoll_event event = {EPOLLIN, {.fd = 1}}, got[1];
    ERR(epoll_create(0), EINVAL);
    ERR(epoll_create1(99), EINVAL);
    ERR(epoll_ctl(ep, EPOLL_CTL_MOD, ends[0], &event), ENOENT);
    ERR(epoll_ctl(ep, EPOLL_CTL_DEL, ends[0], &event), ENOENT);
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event), EEXIST);
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, 900, &event), EBADF);
    ERR(epoll_ctl(ep, 77, ends[1], &event), EINVAL);
    ERR(epoll_ctl(ends[0], EPOLL_CTL_ADD, ends[1], &event), EINVAL);
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &event), EINVAL);
    FD(file, open("f", O_CREAT | O_RDWR, 0644));
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, file, &event), EPERM);
    ERR(epoll_wait(ep, got, 0, 0), EINVAL);
    ERR(epoll_wait(ends[0], got, 1, 0), EINVAL);
    ERR(epoll_wait(900, got, 1, 0), EBADF);
    EQ(write(ends[1], "x", 1), 1);
    ERR(epoll_wait(ep, BAD_ADDRESS, 1, 0), EFAULT);
}
CASE(epoll_of_epoll_and_poll) {
    int ends[2];
    OK(pipe(ends));
    FD(inner, epoll_create1(0));
    FD(outer, epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {.fd = 5}}, got[2];
    OK(epoll_ctl(inner, EPOLL_CTL_ADD, ends[0], &event));
    OK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event));
    ERR(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &event), ELOOP);
    EQ(epoll_wait(outer, got, 2, 0), 0);
    EQ(write(ends[1], "x", 1), 1);
    EQ(epoll_wait(outer, got, 2, 1000), 1);
    struct pollfd fds[1] = {{outer, POLLIN, 0}};
    EQ(poll(fds, 1, 0), 1);
}
CASE(epoll_closed_descriptor_leaves) {
    int ends[2];
    OK(pipe(ends));
    FD(ep, epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {.fd = 5}}, got[2];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[0], &event));
    EQ(write(ends[1], "x", 1), 1);
    int copy = dup(ends[0]);
    close(ends[0]);
    EQ(epoll_wait(ep, got, 2, 0), 1);
    close(copy);
    EQ(epoll_wait(ep, got, 2, 0), 0);
}
CASE(epoll_many_wake_in_turn) {
    FD(ep, epoll_create1(0));
    int ends[50][2];
    struct epoll_event got[10];
    for (int i = 0; i < 50; i++) {
        OK(pipe(ends[i]));
        struct epoll_event event = {EPOLLIN, {.u32 = i}};
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, ends[i][0], &event));
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 50; i++)
            EQ(write(ends[i][1], "x", 1), 1);
        _exit(0);
    }
    int seen = 0;
    while (seen < 50) {
        int n = epoll_wait(ep, got, 10, 5000);
        CHECK(n > 0 && n <= 10);
        for (int i = 0; i < n; i++) {
            char byte;
            EQ(read(ends[got[i].data.u32][0], &byte, 1), 1);
            seen++;
        }
    }
    CHILD_OK(pid);
}
CASE(eventfd_counts) {
    FD(fd, eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    uint64_t value = 4;
    EQ(write(fd, &value, 8), 8);
    EQ(read(fd, &value, 8), 8);
    EQ(value, 7);
    ERR(read(fd, &value, 8), EAGAIN);
    ERR(read(fd, &value, 4), EINVAL);
    ERR(write(fd, &value, 4), EINVAL);
    value = ~0ull;
    ERR(write(fd, &value, 8), EINVAL);
    value = ~0ull - 1;
    EQ(write(fd, &value, 8), 8);
    value = 1;
    ERR(write(fd, &value, 8), EAGAIN);
    struct pollfd fds[1] = {{fd, POLLIN | POLLOUT, 0}};
    EQ(poll(fds, 1, 0), 1);
    EQ(fds[0].revents, POLLIN);
    ERR(eventfd(0, 0x10), EINVAL);
    FD(semaphore, eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    EQ(read(semaphore, &value, 8), 8);
    EQ(value, 1);
    EQ(read(semaphore, &value, 8), 8);
    ERR(read(semaphore, &value, 8), EAGAIN);
}
CASE(eventfd_wakes_a_child) {
    FD(fd, eventfd(0, 0));
    pid_t pid = fork();
    uint64_t value = 9;
    if (pid == 0) {
        EQ(read(fd, &value, 8), 8);
        EQ(value, 9);
        _exit(0);
    }
    t_sleep_ms(30);
    EQ(write(fd, &value, 8), 8);
    CHILD_OK(pid);
}
CASE(timerfd_fires) {
    FD(fd, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    struct itimerspec timer = {{0, 20000000}, {0, 30000000}}, now;
    uint64_t times;
    ERR(read(fd, &times, 8), EAGAIN);
    OK(timerfd_settime(fd, 0, &timer, NULL));
    OK(timerfd_gettime(fd, &now));
    EQ(now.it_interval.tv_nsec, 20000000);
    CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 30000000);
    struct pollfd fds[1] = {{fd, POLLIN, 0}};
    double start = t_now();
    EQ(poll(fds, 1, 2000), 1);
    CHECK(t_now() - start >= 0.025);
    EQ(read(fd, &times, 8), 8);
    CHECK(times >= 1);
    t_sleep_ms(100);
    EQ(read(fd, &times, 8), 8);
    CHECK(times >= 3 && times <= 20);
    struct itimerspec off = {{0, 0}, {0, 0}};
    OK(timerfd_settime(fd, 0, &off, &now));
    EQ(poll(fds, 1, 50), 0);
    ERR(timerfd_create(99, 0), EINVAL);
    ERR(timerfd_create(CLOCK_REALTIME, 1 << 20), EINVAL);
    timer.it_value.tv_nsec = 1000000000;
    ERR(timerfd_settime(fd, 0, &timer, NULL), EINVAL);
    ERR(timerfd_settime(1000, 0, &off, NULL), EBADF);
    int ends[2];
    OK(pipe(ends));
    ERR(timerfd_settime(ends[0], 0, &off, NULL), EINVAL);
}
CASE(timerfd_absolute_blocking) {
    FD(fd, timerfd_create(CLOCK_MONOTONIC, 0));
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct itimerspec timer = {{0, 0}, {now.tv_sec, now.tv_nsec + 50000000}};
    if (timer.it_value.tv_nsec >= 1000000000) {
        timer.it_value.tv_sec++;
        timer.it_value.tv_nsec -= 1000000000;
    }
    OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer, NULL));
    uint64_t times = 0;
    double start = t_now();
    EQ(read(fd, &times, 8), 8);
    EQ(times, 1);
    CHECK(t_now() - start >= 0.04);
}
CASE(splice_tee) {
    int a[2], b[2];
    OK(pipe(a));
    OK(pipe(b));
    EQ(write(a[1], "hello", 5), 5);
    EQ(tee(a[0], b[1], 5, 0), 5);
    char buffer[8];
    EQ(read(b[0], buffer, 8), 5);
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(splice(a[0], NULL, fd, NULL, 5, 0), 5);
    t_read_is("f", "hello");
    loff_t offset = 1;
    EQ(splice(fd, &offset, b[1], NULL, 3, 0), 3);
    EQ(read(b[0], buffer, 8), 3);
    CHECK(memcmp(buffer, "ell", 3) == 0);
    ERR(splice(fd, NULL, fd, NULL, 1, 0), EINVAL);
}
CASE(a_descriptor_for_the_name_only_is_not_watched) {
    FD(ep, epoll_create1(0));
    FD(fd, open("/", O_PATH));
    struct epoll_event event = {.events = EPOLLIN};
    ERR(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), EBADF);
    ERR(epoll_ctl(fd, EPOLL_CTL_ADD, ep, &event), EBADF);
}
