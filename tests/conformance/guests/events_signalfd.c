/* signalfd(2): what a read gives, who sees what, and waiting for it. */
#include "t.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

static int handled;
static void handler(int number) { handled = number; }

static sigset_t set_of(int a, int b) {
    sigset_t set;
    sigemptyset(&set);
    if (a)
        sigaddset(&set, a);
    if (b)
        sigaddset(&set, b);
    return set;
}
static int blocked_fd(int a, int b, int flags) {
    sigset_t set = set_of(a, b);
    OK(sigprocmask(SIG_BLOCK, &set, NULL));
    FD(fd, signalfd(-1, &set, flags));
    return fd;
}
static int readable(int fd) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1 && p.revents == POLLIN;
}

CASE(records) {
    int fd = blocked_fd(SIGUSR1, SIGRTMIN, SFD_NONBLOCK | SFD_CLOEXEC);
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
    struct signalfd_siginfo got[4];
    ERR(read(fd, got, sizeof got), EAGAIN);
    ERR(read(fd, got, 127), EINVAL);
    ERR(write(fd, got, 128), EINVAL);
    OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 7}));
    OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 8}));
    OK(kill(getpid(), SIGUSR1));
    OK(kill(getpid(), SIGUSR1));
    EQ(read(fd, got, sizeof got - 1), 3 * 128);
    EQ(got[0].ssi_signo, SIGUSR1);
    EQ(got[0].ssi_code, SI_USER);
    EQ(got[0].ssi_pid, getpid());
    EQ(got[0].ssi_uid, getuid());
    EQ(got[0].ssi_int, 0);
    EQ(got[1].ssi_signo, SIGRTMIN);
    EQ(got[1].ssi_code, SI_QUEUE);
    EQ(got[1].ssi_int, 7);
    EQ(got[2].ssi_ptr, 8);
    ERR(read(fd, got, sizeof got), EAGAIN);
}
CASE(another_mask) {
    int fd = blocked_fd(SIGUSR1, 0, SFD_NONBLOCK);
    sigset_t other = set_of(SIGUSR2, SIGKILL);
    OK(sigprocmask(SIG_BLOCK, &other, NULL));
    OK(raise(SIGUSR1));
    CHECK(readable(fd));
    EQ(signalfd(fd, &other, 0), fd);
    CHECK(!readable(fd));
    OK(raise(SIGUSR2));
    CHECK(readable(fd));
    struct signalfd_siginfo got;
    EQ(read(fd, &got, sizeof got), 128);
    EQ(got.ssi_signo, SIGUSR2);
    EQ(got.ssi_code, SI_TKILL);
    EQ(got.ssi_pid, getpid());
    sigset_t pending;
    OK(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
}
CASE(errors) {
    unsigned long mask = 1;
    ERR(syscall(SYS_signalfd4, -1, &mask, 4, 0), EINVAL);
    ERR(syscall(SYS_signalfd4, -1, &mask, 8, 1), EINVAL);
    ERR(syscall(SYS_signalfd4, 99, &mask, 8, 0), EBADF);
    ERR(syscall(SYS_signalfd4, 1, &mask, 8, 0), EINVAL);
    ERR(syscall(SYS_signalfd4, -1, BAD_ADDRESS, 8, 0), EFAULT);
    ERR(syscall(SYS_signalfd, -1, &mask, 9), EINVAL);
    FD(fd, syscall(SYS_signalfd, -1, &mask, 8));
    EQ(fcntl(fd, F_GETFD), 0);
}
CASE(a_read_waits) {
    int fd = blocked_fd(SIGUSR1, SIGCHLD, 0);
    pid_t child = fork();
    if (child == 0) {
        t_sleep_ms(50);
        _exit(9);
    }
    struct signalfd_siginfo got;
    EQ(read(fd, &got, sizeof got), 128);
    EQ(got.ssi_signo, SIGCHLD);
    EQ(got.ssi_code, CLD_EXITED);
    EQ(got.ssi_pid, child);
    EQ(got.ssi_status, 9);
    EQ(waitpid(child, NULL, 0), child);
}
CASE(a_handler_interrupts_the_read) {
    int fd = blocked_fd(SIGUSR1, 0, 0);
    struct sigaction action = {.sa_handler = handler};
    OK(sigaction(SIGUSR2, &action, NULL));
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        t_sleep_ms(50);
        kill(parent, SIGUSR2);
        _exit(0);
    }
    struct signalfd_siginfo got;
    ERR(read(fd, &got, sizeof got), EINTR);
    EQ(handled, SIGUSR2);
    CHILD_OK(child);
}
CASE(a_child_reads_its_own) {
    int fd = blocked_fd(SIGUSR1, 0, SFD_NONBLOCK);
    OK(raise(SIGUSR1));
    pid_t child = fork();
    if (child == 0) {
        struct signalfd_siginfo got;
        CHECK(!readable(fd));
        ERR(read(fd, &got, sizeof got), EAGAIN);
        OK(kill(getpid(), SIGUSR1));
        CHECK(readable(fd));
        EQ(read(fd, &got, sizeof got), 128);
        EQ(got.ssi_pid, getpid());
        _exit(0);
    }
    CHILD_OK(child);
    CHECK(readable(fd));
}

static int shared_fd;
static pthread_barrier_t barrier;
static void *other_thread(void *id) {
    pthread_barrier_wait(&barrier);
    struct signalfd_siginfo got;
    CHECK(readable(shared_fd));
    EQ(read(shared_fd, &got, sizeof got), 128);
    EQ(got.ssi_signo, SIGUSR2);
    ERR(read(shared_fd, &got, sizeof got), EAGAIN);
    pthread_barrier_wait(&barrier);
    return NULL;
}
CASE(a_threads_own_signals) {
    shared_fd = blocked_fd(SIGUSR1, SIGUSR2, SFD_NONBLOCK);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t thread;
    pthread_create(&thread, NULL, other_thread, NULL);
    EQ(pthread_kill(thread, SIGUSR2), 0);
    EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
    struct signalfd_siginfo got;
    EQ(read(shared_fd, &got, sizeof got), 128);
    EQ(got.ssi_signo, SIGUSR1);
    CHECK(!readable(shared_fd));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}
CASE(epoll_and_poll_wait) {
    int fd = blocked_fd(SIGUSR1, SIGALRM, 0);
    FD(ep, epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {.u64 = 5}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    EQ(epoll_wait(ep, &event, 1, 0), 0);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        t_sleep_ms(30);
        kill(parent, SIGUSR1);
        t_sleep_ms(60);
        kill(parent, SIGALRM);
        _exit(0);
    }
    EQ(epoll_wait(ep, &event, 1, 5000), 1);
    EQ(event.data.u64, 5);
    struct signalfd_siginfo got;
    EQ(read(fd, &got, sizeof got), 128);
    EQ(got.ssi_signo, SIGUSR1);
    EQ(epoll_wait(ep, &event, 1, 0), 0);
    struct pollfd p = {fd, POLLIN, 0};
    EQ(poll(&p, 1, 5000), 1);
    EQ(read(fd, &got, sizeof got), 128);
    EQ(got.ssi_signo, SIGALRM);
    CHILD_OK(child);
}
CASE(names_in_proc) {
    int fd = blocked_fd(SIGUSR1, 0, 0);
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(readlink(path, text, sizeof text - 1) > 0);
    EQ(strcmp(text, "anon_inode:[signalfd]"), 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FD(info, open(path, O_RDONLY));
    memset(text, 0, sizeof text);
    CHECK(read(info, text, sizeof text - 1) > 0);
    CHECK(strstr(text, "\nsigmask:\t0000000000000200\n"));
}
