/* pidfd_open(2) and what takes its descriptor; ioctl_pidfd(2); futex_waitv(2). */
#include "t.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#define CLONE_PIDFD_ 0x1000
#define P_PIDFD_ 3
#define FUTEX2_PRIVATE32 (2 | 128)

static int pidfd_open_(pid_t pid, int flags) { return syscall(SYS_pidfd_open, pid, flags); }
static int send(int fd, int number) { return syscall(SYS_pidfd_send_signal, fd, number, NULL, 0); }
static pid_t sleeper(void) {
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    return pid;
}

CASE(poll_says_when_it_ended) {
    pid_t pid = sleeper();
    FD(fd, pidfd_open_(pid, 0));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    struct pollfd p = {fd, POLLIN, 0};
    EQ(poll(&p, 1, 0), 0);
    FD(ep, epoll_create1(0));
    struct epoll_event event = {EPOLLIN, {.u64 = 1}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    EQ(epoll_wait(ep, &event, 1, 0), 0);
    OK(send(fd, 0));
    OK(send(fd, SIGKILL));
    EQ(epoll_wait(ep, &event, 1, 5000), 1);
    EQ(poll(&p, 1, 5000), 1);
    EQ(p.revents, POLLIN);
    OK(send(fd, SIGTERM));
    siginfo_t info;
    OK(waitid(P_PIDFD_, fd, &info, WEXITED | WNOWAIT));
    EQ(info.si_pid, pid);
    OK(waitid(P_PIDFD_, fd, &info, WEXITED));
    EQ(info.si_status, SIGKILL);
    ERR(send(fd, SIGTERM), ESRCH);
    ERR(waitid(P_PIDFD_, fd, &info, WEXITED), ECHILD);
    EQ(poll(&p, 1, 0), 1);
    CHECK(p.revents & POLLIN);
    char byte;
    ERR(read(fd, &byte, 1), EINVAL);
    ERR(write(fd, &byte, 1), EINVAL);
}
CASE(without_blocking) {
    pid_t pid = sleeper();
    FD(fd, pidfd_open_(pid, O_NONBLOCK));
    siginfo_t info = {0};
    ERR(waitid(P_PIDFD_, fd, &info, WEXITED), EAGAIN);
    OK(waitid(P_PIDFD_, fd, &info, WEXITED | WNOHANG));
    EQ(info.si_pid, 0);
    OK(send(fd, SIGKILL));
    struct pollfd p = {fd, POLLIN, 0};
    EQ(poll(&p, 1, 5000), 1);
    OK(waitid(P_PIDFD_, fd, &info, WEXITED));
    EQ(info.si_pid, pid);
}
CASE(clone_gives_one) {
    int fd = -1;
    pid_t pid = syscall(SYS_clone, CLONE_PIDFD_ | SIGCHLD, 0, &fd, 0, 0);
    if (pid == 0)
        _exit(fcntl(3, F_GETFD) == -1 ? 7 : 8);
    CHECK(fd >= 0);
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    siginfo_t info;
    OK(waitid(P_PIDFD_, fd, &info, WEXITED));
    EQ(info.si_pid, pid);
    EQ(info.si_status, 7);
    ERR(syscall(SYS_clone, CLONE_PIDFD_ | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, 0, 0), EINVAL);
    uint64_t args[8] = {CLONE_PIDFD_, (uint64_t)&fd, 0, 0, SIGCHLD};
    fd = -1;
    pid = syscall(SYS_clone3, args, sizeof args);
    if (pid == 0)
        _exit(9);
    OK(waitid(P_PIDFD_, fd, &info, WEXITED));
    EQ(info.si_status, 9);
}
CASE(a_descriptor_of_another) {
    int ends[2], sync_[2];
    OK(pipe(sync_));
    pid_t pid = fork();
    if (pid == 0) {
        OK(pipe(ends));
        OK(dup2(ends[1], 100));
        EQ(write(sync_[1], "r", 1), 1);
        char got;
        EQ(read(ends[0], &got, 1), 1);
        EQ(got, 'x');
        _exit(0);
    }
    char byte;
    EQ(read(sync_[0], &byte, 1), 1);
    FD(fd, pidfd_open_(pid, 0));
    ERR(syscall(SYS_pidfd_getfd, fd, 100, 1), EINVAL);
    ERR(syscall(SYS_pidfd_getfd, fd, 99, 0), EBADF);
    ERR(syscall(SYS_pidfd_getfd, sync_[0], 100, 0), EBADF);
    FD(got, syscall(SYS_pidfd_getfd, fd, 100, 0));
    EQ(fcntl(got, F_GETFD), FD_CLOEXEC);
    EQ(write(got, "x", 1), 1);
    CHILD_OK(pid);
    ERR(syscall(SYS_pidfd_getfd, fd, 100, 0), ESRCH);
}
static void is_queued(int number, siginfo_t *info, void *context) { _exit(info->si_code == SI_QUEUE ? 5 : 6); }
CASE(signals_and_errors) {
    FD(self, pidfd_open_(getpid(), 0));
    ERR(send(self, 65), EINVAL);
    ERR(syscall(SYS_pidfd_send_signal, self, SIGUSR1, NULL, 99), EINVAL);
    ERR(syscall(SYS_pidfd_send_signal, 1, SIGUSR1, NULL, 0), EBADF);
    ERR(syscall(SYS_pidfd_send_signal, 99, SIGUSR1, NULL, 0), EBADF);
    siginfo_t info = {.si_signo = SIGUSR2, .si_code = SI_QUEUE};
    ERR(syscall(SYS_pidfd_send_signal, self, SIGUSR1, &info, 0), EINVAL);
    FD(parent, pidfd_open_(getppid(), 0));
    info = (siginfo_t){.si_signo = SIGUSR1, .si_code = SI_USER};
    ERR(syscall(SYS_pidfd_send_signal, parent, SIGUSR1, &info, 0), EPERM);
    ERR(pidfd_open_(0, 0), EINVAL);
    ERR(pidfd_open_(getpid(), 1), EINVAL);
    ERR(pidfd_open_(4000000, 0), ESRCH);
    ERR(waitid(P_PIDFD_, 1, &info, WEXITED), EBADF);
    ERR(waitid(P_PIDFD_, self, &info, WEXITED), ECHILD);
    pid_t child = fork();
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = is_queued, .sa_flags = SA_SIGINFO};
        OK(sigaction(SIGUSR1, &action, NULL));
        FD(me, pidfd_open_(getpid(), 0));
        siginfo_t queued = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
        OK(syscall(SYS_pidfd_send_signal, me, SIGUSR1, &queued, 0));
        _exit(1);
    }
    EQ(WEXITSTATUS(t_wait(child)), 5);
}
CASE(names_in_proc) {
    FD(fd, pidfd_open_(getpid(), 0));
    char path[64], text[512] = "", want[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(readlink(path, text, sizeof text - 1) > 0);
    EQ(strcmp(text, "anon_inode:[pidfd]"), 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FD(info, open(path, O_RDONLY));
    memset(text, 0, sizeof text);
    CHECK(read(info, text, sizeof text - 1) > 0);
    snprintf(want, sizeof want, "\nPid:\t%d\nNSpid:\t%d\n", getpid(), getpid());
    CHECK(strstr(text, want));
}

struct waitv {
    uint64_t val, addr;
    uint32_t flags, reserved;
};
static uint32_t words[3] = {1, 2, 3};
static void *wakes(void *unused) {
    t_sleep_ms(50);
    while (syscall(SYS_futex, &words[1], 1 /* WAKE */ | 128, 1, NULL, NULL, 0) == 0)
        t_sleep_ms(5);
    return NULL;
}
CASE(waiting_on_several_futexes) {
    struct waitv list[3];
    for (int i = 0; i < 3; i++)
        list[i] = (struct waitv){words[i], (uint64_t)&words[i], FUTEX2_PRIVATE32, 0};
    pthread_t thread;
    pthread_create(&thread, NULL, wakes, NULL);
    EQ(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0), 1);
    pthread_join(thread, NULL);
    struct timespec until;
    OK(clock_gettime(CLOCK_MONOTONIC, &until));
    ERR(syscall(SYS_futex_waitv, list, 3, 0, &until, CLOCK_MONOTONIC), ETIMEDOUT);
    ERR(syscall(SYS_futex_waitv, list, 3, 0, &until, CLOCK_BOOTTIME), EINVAL);
    list[2].val = 9;
    ERR(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0), EAGAIN);
    ERR(syscall(SYS_futex_waitv, list, 0, 0, NULL, 0), EINVAL);
    ERR(syscall(SYS_futex_waitv, list, 129, 0, NULL, 0), EINVAL);
    ERR(syscall(SYS_futex_waitv, list, 3, 1, NULL, 0), EINVAL);
    list[1].flags = 128;
    ERR(syscall(SYS_futex_waitv, list, 3, 0, NULL, 0), EINVAL);
    ERR(syscall(SYS_futex_waitv, BAD_ADDRESS, 1, 0, NULL, 0), EFAULT);
}
static void is_told(int sig) { _exit(sig); }
CASE(a_directory_of_proc_is_a_process) {
    FD(self, open("/proc/self", O_DIRECTORY));
    FD(other, open("/proc/self/fd", O_DIRECTORY));
    FD(path, open("/proc/self", O_PATH));
    siginfo_t queued = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    ERR(syscall(SYS_pidfd_send_signal, other, 0, NULL, 0), EBADF);
    ERR(syscall(SYS_pidfd_send_signal, path, 0, NULL, 0), EBADF);
    ERR(syscall(SYS_pidfd_send_signal, self, SIGUSR2, &queued, 0), EINVAL);
    OK(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0));
    pid_t child = fork();
    if (child == 0) {
        signal(SIGUSR1, is_told);
        FD(me, open("/proc/self", O_DIRECTORY));
        OK(syscall(SYS_pidfd_send_signal, me, SIGUSR1, &queued, 0));
        _exit(1);
    }
    char name[32];
    snprintf(name, sizeof name, "/proc/%d", child);
    FD(gone, open(name, O_DIRECTORY));
    EQ(WEXITSTATUS(t_wait(child)), SIGUSR1);
    ERR(syscall(SYS_pidfd_send_signal, gone, 0, NULL, 0), ESRCH);
}

#define PIDFD_THREAD_ O_EXCL
static volatile int at_work;
static pid_t thread_id;
static void *works(void *unused) {
    thread_id = syscall(SYS_gettid);
    at_work = 1;
    while (at_work)
        t_sleep_ms(2);
    return NULL;
}
static _Thread_local int mine;
static volatile pid_t heard;
static void hears(int number) { heard = syscall(SYS_gettid); }
CASE(a_thread_by_descriptor) {
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, works, NULL), 0);
    while (!at_work)
        t_sleep_ms(1);
    int fd = pidfd_open_(thread_id, PIDFD_THREAD_);
    if (fd == -1 && errno == EINVAL)
        SKIP("the host has none for threads");
    CHECK(fd >= 0);
    EQ(fcntl(fd, F_GETFL), O_RDWR | PIDFD_THREAD_);
    EQ(pidfd_open_(thread_id, 0), -1);
    CHECK(errno == EINVAL || errno == ENOENT);
    FD(process, pidfd_open_(getpid(), 0));
    FD(first, pidfd_open_(getpid(), PIDFD_THREAD_));
    signal(SIGUSR1, hears);
    struct {
        int fd, flags;
        pid_t to;
    } cases[] = {{fd, 0, thread_id}, {fd, 1, thread_id}, {first, 0, getpid()}, {process, 1, getpid()}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heard = 0;
        OK(syscall(SYS_pidfd_send_signal, cases[i].fd, SIGUSR1, NULL, cases[i].flags));
        while (!heard)
            t_sleep_ms(1);
        EQ(heard, cases[i].to);
    }
    heard = 0;
    OK(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 2));
    while (!heard)
        t_sleep_ms(1);
    ERR(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 3), EINVAL);
    ERR(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 8), EINVAL);
    ERR(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 4), ESRCH);
    siginfo_t info;
    ERR(waitid(P_PIDFD_, fd, &info, WEXITED), ECHILD);
    int got = syscall(SYS_pidfd_getfd, fd, 1, 0);
    CHECK(got > 2);
    struct pollfd p = {fd, POLLIN, 0};
    EQ(poll(&p, 1, 0), 0);
    at_work = 0;
    EQ(poll(&p, 1, 5000), 1);
    pthread_join(thread, NULL);
    while (syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0)
        t_sleep_ms(1);
    ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents & (POLLIN | POLLHUP), POLLIN | POLLHUP);
}
CASE(a_group_by_descriptor) {
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        if (fork() == 0)
            for (;;)
                pause();
        for (;;)
            pause();
    }
    FD(fd, pidfd_open_(pid, 0));
    while (getpgid(pid) != pid)
        t_sleep_ms(1);
    if (syscall(SYS_pidfd_send_signal, fd, 0, NULL, 4) == -1 && errno == EINVAL)
        SKIP("the host has no PIDFD_SIGNAL_PROCESS_GROUP");
    siginfo_t queued = {.si_signo = SIGKILL, .si_code = SI_QUEUE};
    OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, &queued, 4));
    EQ(WTERMSIG(t_wait(pid)), SIGKILL);
}

struct info {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t code;
    uint32_t more[4];
};
#define GET_INFO(size) _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, size)
CASE(what_a_process_is) {
    NEED_ROOT();
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        setresgid(5, 6, 7);
        setresuid(1, 2, 3);
        OK(write(ends[1], "x", 1));
        for (;;)
            pause();
    }
    char byte;
    EQ(read(ends[0], &byte, 1), 1);
    FD(fd, pidfd_open_(pid, 0));
    struct info told = {.mask = 3 | 8};
    if (ioctl(fd, GET_INFO(64), &told) == -1)
        SKIP("the host does not tell");
    EQ(told.mask & (3 | 8), 3);
    EQ(told.pid, pid);
    EQ(told.tgid, pid);
    EQ(told.ppid, getpid());
    uint32_t ids[8] = {1, 5, 2, 6, 3, 7, 2, 6};
    EQ(memcmp(ids, told.ids, sizeof ids), 0);
    EQ(told.code, 0);
    memset(&told, 0xff, sizeof told);
    told.mask = 0;
    OK(ioctl(fd, GET_INFO(sizeof told), &told));
    EQ(told.pid, pid);
    EQ(told.more[2], 0);
    ERR(ioctl(fd, GET_INFO(64), NULL), EINVAL);
    ERR(ioctl(fd, GET_INFO(64), BAD_ADDRESS), EFAULT);
    ERR(ioctl(fd, _IO(0xff, 99), 0), ENOTTY);
    OK(send(fd, SIGTERM));
    siginfo_t ended;
    OK(waitid(P_PID, pid, &ended, WEXITED | WNOWAIT));
    told.mask = 8;
    OK(ioctl(fd, GET_INFO(64), &told));
    EQ(told.mask & 8, 0);
    EQ(t_wait(pid), SIGTERM);
    told.mask = 0;
    ERR(ioctl(fd, GET_INFO(64), &told), ESRCH);
    told.mask = 8;
    if (ioctl(fd, GET_INFO(64), &told) == -1)
        SKIP("the host does not tell how it ended");
    EQ(told.mask & 8, 8);
    EQ(told.code, SIGTERM);
}
CASE(namespaces_of_a_process) {
    pid_t pid = sleeper();
    FD(fd, pidfd_open_(pid, 0));
    int first = ioctl(fd, _IO(0xff, 1), 0);
    if (first == -1 && errno != EACCES)
        SKIP("the host does not open them");
    const char *names[] = {"cgroup", "ipc",  "mnt",  "net", "pid", "pid_for_children",
                           "time",   "time_for_children", "user", "uts"};
    for (int i = 0; i < 10; i++) {
        FD(ns, ioctl(fd, _IO(0xff, i + 1), 0));
        EQ(fcntl(ns, F_GETFD), FD_CLOEXEC);
        char path[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        FD(own, open(path, O_RDONLY));
        struct stat a, b;
        OK(fstat(ns, &a));
        OK(fstat(own, &b));
        EQ(a.st_ino, b.st_ino);
        close(ns);
        close(own);
    }
    ERR(ioctl(fd, _IO(0xff, 3), 1), EINVAL);
    OK(send(fd, SIGKILL));
    t_wait(pid);
    ERR(ioctl(fd, _IO(0xff, 3), 0), ESRCH);
}
static int nothing(void *unused) { return 0; }
CASE(clone_gives_one_of_a_thread) {
    static char stack[65536] __attribute__((aligned(16)));
    int fd = -1;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PIDFD_;
    int tid = clone(nothing, stack + sizeof stack, flags, NULL, &fd);
    if (tid == -1 && errno == EINVAL)
        SKIP("the host gives none for threads");
    CHECK(tid > 0 && fd >= 0);
    EQ(fcntl(fd, F_GETFL) & PIDFD_THREAD_, PIDFD_THREAD_);
    struct pollfd p = {fd, POLLIN, 0};
    EQ(poll(&p, 1, 5000), 1);
}
