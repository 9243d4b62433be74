/* Calls that the C library makes by newer ones, made by their own numbers; and the errors the other programs leave out. */
#include "t.h"
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <utime.h>

#define RAW(name, ...) syscall(SYS_##name, ##__VA_ARGS__)

CASE(open_and_creat) {
    FD(fd, RAW(open, "f", O_CREAT | O_RDWR | O_EXCL, 0640));
    ERR(RAW(open, "f", O_CREAT | O_EXCL, 0640), EEXIST);
    ERR(RAW(open, "gone", O_RDONLY, 0), ENOENT);
    FD(made, RAW(creat, "g", 0600));
    EQ(RAW(write, made, "abc", 3L), 3);
    ERR(RAW(read, made, &fd, 1L), EBADF);
    ERR(RAW(creat, "no/g", 0600), ENOENT);
    FD(again, RAW(creat, "g", 0600));
    struct stat st;
    OK(RAW(fstat, again, &st));
    EQ(st.st_size, 0);
}
CASE(stat_family) {
    t_write_file("f", "four");
    OK(symlink("f", "l"));
    struct stat st;
    OK(RAW(stat, "l", &st));
    EQ(st.st_size, 4);
    CHECK(S_ISREG(st.st_mode));
    OK(RAW(lstat, "l", &st));
    CHECK(S_ISLNK(st.st_mode));
    ERR(RAW(stat, "gone", &st), ENOENT);
    ERR(RAW(lstat, "f/x", &st), ENOTDIR);
    ERR(RAW(fstat, 99, &st), EBADF);
    ERR(RAW(stat, BAD_ADDRESS, &st), EFAULT);
    ERR(RAW(stat, "f", BAD_ADDRESS), EFAULT);
}
CASE(pipe_by_number) {
    int ends[2];
    OK(RAW(pipe, ends));
    EQ(write(ends[1], "x", 1), 1);
    char c;
    EQ(read(ends[0], &c, 1), 1);
    ERR(RAW(pipe, BAD_ADDRESS), EFAULT);
}
CASE(select_by_number) {
    int ends[2];
    OK(pipe(ends));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval none = {0, 0}, bad = {0, -1};
    EQ(RAW(select, ends[0] + 1, &set, NULL, NULL, &none), 0);
    EQ(write(ends[1], "x", 1), 1);
    FD_SET(ends[0], &set);
    EQ(RAW(select, ends[0] + 1, &set, NULL, NULL, &none), 1);
    CHECK(FD_ISSET(ends[0], &set));
    ERR(RAW(select, -1, NULL, NULL, NULL, &none), EINVAL);
    ERR(RAW(select, 0, NULL, NULL, NULL, &bad), EINVAL);
    FD_SET(60, &set);
    ERR(RAW(select, 61, &set, NULL, NULL, &none), EBADF);
}
static void note(int sig) {}
CASE(pause_and_sigsuspend) {
    struct sigaction act = {.sa_handler = note};
    OK(sigaction(SIGALRM, &act, NULL));
    struct itimerval soon = {{0, 0}, {0, 20000}};
    OK(setitimer(ITIMER_REAL, &soon, NULL));
    ERR(RAW(pause), EINTR);
    OK(setitimer(ITIMER_REAL, &soon, NULL));
    unsigned long none = 0;
    ERR(RAW(rt_sigsuspend, &none, sizeof none), EINTR);
    ERR(RAW(rt_sigsuspend, &none, 4L), EINVAL);
    ERR(RAW(rt_sigsuspend, BAD_ADDRESS, sizeof none), EFAULT);
}
CASE(nanosleep_by_number) {
    struct timespec tiny = {0, 1000000}, bad = {0, 1000000000};
    OK(RAW(nanosleep, &tiny, NULL));
    ERR(RAW(nanosleep, &bad, NULL), EINVAL);
    ERR(RAW(nanosleep, BAD_ADDRESS, NULL), EFAULT);
}
CASE(socket_pairs) {
    int s[2], kind;
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    EQ(RAW(sendto, s[0], "hello", 5L, 0, NULL, 0), 5);
    char text[8];
    EQ(RAW(recvfrom, s[1], text, sizeof text, 0, NULL, NULL), 5);
    ERR(RAW(recvfrom, s[1], text, sizeof text, MSG_DONTWAIT, NULL, NULL), EAGAIN);
    socklen_t size = sizeof kind;
    OK(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &kind, &size));
    EQ(kind, SOCK_STREAM);
    ERR(getsockopt(0, SOL_SOCKET, SO_TYPE, &kind, &size), ENOTSOCK);
    OK(shutdown(s[0], SHUT_WR));
    EQ(RAW(recvfrom, s[1], text, sizeof text, 0, NULL, NULL), 0);
    ERR(shutdown(99, SHUT_RD), EBADF);
    ERR(shutdown(0, SHUT_RD), ENOTSOCK);
    ERR(RAW(sendto, 99, text, 1L, 0, NULL, 0), EBADF);
    signal(SIGPIPE, SIG_IGN);
    ERR(RAW(sendto, s[0], text, 1L, MSG_NOSIGNAL, NULL, 0), EPIPE);
    ERR(socketpair(AF_INET, SOCK_STREAM, 0, s), EOPNOTSUPP);
    ERR(RAW(socketpair, AF_UNIX, SOCK_STREAM, 0, BAD_ADDRESS), EFAULT);
}
CASE(fork_by_number) {
    pid_t pid = RAW(fork);
    if (pid == 0)
        _exit(0);
    EQ(t_wait(pid), 0);
}
CASE(limits_by_number) {
    struct rlimit l;
    OK(RAW(getrlimit, RLIMIT_NOFILE, &l));
    l.rlim_cur = 50;
    OK(RAW(setrlimit, RLIMIT_NOFILE, &l));
    OK(RAW(getrlimit, RLIMIT_NOFILE, &l));
    EQ(l.rlim_cur, 50);
    l.rlim_cur = l.rlim_max + (l.rlim_max == RLIM_INFINITY ? 0 : 1);
    if (l.rlim_max != RLIM_INFINITY)
        ERR(RAW(setrlimit, RLIMIT_NOFILE, &l), EINVAL);
    ERR(RAW(getrlimit, 99, &l), EINVAL);
    ERR(RAW(setrlimit, 99, &l), EINVAL);
    ERR(RAW(getrlimit, RLIMIT_NOFILE, BAD_ADDRESS), EFAULT);
}
CASE(capabilities_by_number) {
    NEED_ROOT();
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    OK(RAW(capget, &head, data));
    data[0].effective &= ~(1u << CAP_CHOWN);
    OK(RAW(capset, &head, data));
    t_write_file("f", "");
    ERR(chown("f", 5, 5), EPERM);
    data[0].permitted &= ~(1u << CAP_KILL);
    data[0].effective |= 1u << CAP_KILL;
    ERR(RAW(capset, &head, data), EPERM);
    head.version = 1;
    ERR(RAW(capset, &head, data), EINVAL);
}
CASE(times_of_files) {
    t_write_file("f", "");
    struct utimbuf u = {100, 200};
    struct stat st;
    OK(RAW(utime, "f", &u));
    OK(stat("f", &st));
    EQ(st.st_atime, 100);
    EQ(st.st_mtime, 200);
    ERR(RAW(utime, "gone", &u), ENOENT);
    struct timeval tv[2] = {{7, 8}, {9, 10}}, bad[2] = {{0, 1000000}, {0, 0}};
    OK(RAW(utimes, "f", tv));
    OK(stat("f", &st));
    EQ(st.st_mtime, 9);
    EQ(st.st_mtim.tv_nsec, 10000);
    ERR(RAW(utimes, "gone", tv), ENOENT);
    ERR(RAW(utimes, "f", bad), EINVAL);
    OK(RAW(futimesat, AT_FDCWD, "f", tv));
    ERR(RAW(futimesat, 99, "f", tv), EBADF);
    ERR(RAW(utimes, NULL, tv), EFAULT);
    ERR(RAW(futimesat, AT_FDCWD, NULL, tv), EFAULT);
    FD(named, open("f", O_RDONLY));
    tv[1].tv_sec = 3000;
    OK(RAW(futimesat, named, NULL, tv));
    CHECK(stat("f", &st) == 0 && st.st_mtim.tv_sec == 3000);
    ERR(RAW(futimesat, open("f", O_PATH), NULL, tv), EBADF);
    ERR(RAW(utimensat, named, NULL, NULL, AT_SYMLINK_NOFOLLOW), EINVAL);
}
CASE(mknod_by_number) {
    OK(RAW(mknod, "p", S_IFIFO | 0600, 0));
    struct stat st;
    OK(lstat("p", &st));
    CHECK(S_ISFIFO(st.st_mode));
    ERR(RAW(mknod, "p", S_IFIFO | 0600, 0), EEXIST);
    ERR(RAW(mknod, "d", S_IFDIR | 0600, 0), EPERM);
    ERR(RAW(mknod, "x", 0170000 | 0600, 0), EINVAL);
}
CASE(personality_is_linux) {
    EQ(personality(0xffffffff), 0);
}
CASE(scheduling) {
    struct sched_param p = {0};
    OK(sched_getparam(0, &p));
    EQ(p.sched_priority, 0);
    OK(sched_setparam(0, &p));
    OK(RAW(sched_setscheduler, 0, SCHED_OTHER, &p));
    p.sched_priority = 5;
    ERR(sched_setparam(0, &p), EINVAL);
    ERR(RAW(sched_setscheduler, 0, SCHED_OTHER, &p), EINVAL);
    ERR(RAW(sched_setscheduler, 0, 99, &p), EINVAL);
    ERR(sched_getparam(-1, &p), EINVAL);
    ERR(sched_getscheduler(-1), EINVAL);
    struct timespec slice;
    OK(sched_rr_get_interval(0, &slice));
    ERR(sched_rr_get_interval(-1, &slice), EINVAL);
    ERR(sched_get_priority_max(99), EINVAL);
    ERR(sched_get_priority_min(99), EINVAL);
    cpu_set_t set;
    CPU_ZERO(&set);
    ERR(sched_setaffinity(0, sizeof set, &set), EINVAL);
    OK(sched_getaffinity(0, sizeof set, &set));
    OK(sched_setaffinity(0, sizeof set, &set));
}
CASE(locking_all) {
    OK(mlockall(MCL_CURRENT));
    OK(munlockall());
    ERR(mlockall(0), EINVAL);
    ERR(mlockall(64), EINVAL);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(RAW(mlock2, page, 4096L, 0));
    ERR(RAW(mlock2, page, 4096L, 8), EINVAL);
    OK(munmap(page, 4096));
    ERR(munlock(page, 4096), ENOMEM);
}
CASE(names_of_the_host) {
    NEED_ROOT();
    ERR(RAW(uname, BAD_ADDRESS), EFAULT);
    /* Whoever may would rename the machine: only the refusal is tried. */
    OK(setuid(1));
    ERR(RAW(sethostname, "x", 1), EPERM);
    ERR(RAW(setdomainname, "x", 1), EPERM);
}
CASE(readahead_and_sync) {
    t_write_file("f", "abc");
    FD(fd, open("f", O_RDONLY));
    OK(readahead(fd, 0, 100));
    ERR(readahead(99, 0, 100), EBADF);
    OK(syncfs(fd));
    ERR(syncfs(99), EBADF);
    sync();
}
CASE(xattr_of_links) {
    t_write_file("f", "");
    if (setxattr("f", "user.a", "1", 1, 0) != 0 && errno == EOPNOTSUPP)
        SKIP("the file system has no user attributes");
    char value[8], list[64];
    EQ(lgetxattr("f", "user.a", value, sizeof value), 1);
    OK(lsetxattr("f", "user.b", "22", 2, 0));
    CHECK(llistxattr("f", list, sizeof list) >= 14);
    OK(lremovexattr("f", "user.b"));
    ERR(lgetxattr("f", "user.b", value, sizeof value), ENODATA);
    ERR(lremovexattr("f", "user.b"), ENODATA);
    ERR(llistxattr("gone", list, sizeof list), ENOENT);
    ERR(lsetxattr("gone", "user.a", "", 0, 0), ENOENT);
    FD(fd, open("f", O_RDONLY));
    ERR(fgetxattr(fd, "user.x", value, sizeof value), ENODATA);
    ERR(fsetxattr(99, "user.x", value, 1, 0), EBADF);
    ERR(flistxattr(99, list, sizeof list), EBADF);
    ERR(fremovexattr(fd, "user.x"), ENODATA);
}
CASE(signals_to_threads) {
    struct sigaction act = {.sa_handler = note};
    OK(sigaction(SIGUSR1, &act, NULL));
    OK(RAW(tkill, gettid(), SIGUSR1));
    ERR(RAW(tkill, -1, SIGUSR1), EINVAL);
    ERR(RAW(tkill, 0x3fffffff, 0), ESRCH);
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    OK(RAW(rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info));
    ERR(RAW(rt_tgsigqueueinfo, getpid(), gettid(), 99, &info), EINVAL);
    ERR(RAW(rt_tgsigqueueinfo, -1, -1, SIGUSR1, &info), EINVAL);
    unsigned long set;
    ERR(RAW(rt_sigpending, &set, 99L), EINVAL);
    ERR(RAW(rt_sigpending, BAD_ADDRESS, 8L), EFAULT);
}
CASE(names_at_by_number) {
    t_write_file("f", "");
    OK(RAW(renameat, AT_FDCWD, "f", AT_FDCWD, "g"));
    ERR(RAW(renameat, AT_FDCWD, "f", AT_FDCWD, "g"), ENOENT);
    OK(RAW(faccessat, AT_FDCWD, "g", R_OK));
    ERR(RAW(faccessat, AT_FDCWD, "f", F_OK), ENOENT);
    ERR(RAW(symlinkat, "t", 99, "l"), EBADF);
    ERR(RAW(symlinkat, "t", AT_FDCWD, "g"), EEXIST);
    char text[8];
    ERR(RAW(readlinkat, AT_FDCWD, "g", text, sizeof text), EINVAL);
    ERR(RAW(fchown, 99, 0, 0), EBADF);
    ERR(RAW(lchown, "gone", 0, 0), ENOENT);
}
CASE(polls_by_number) {
    struct timespec none = {0, 0}, bad = {-1, 0};
    struct pollfd p = {.fd = 0, .events = POLLIN};
    EQ(RAW(ppoll, NULL, 0L, &none, NULL, 8L), 0);
    ERR(RAW(ppoll, &p, 1L, &bad, NULL, 8L), EINVAL);
    FD(ep, epoll_create1(0));
    struct epoll_event e;
    EQ(RAW(epoll_pwait, ep, &e, 1, 0, NULL, 8L), 0);
    ERR(RAW(epoll_pwait, ep, &e, 0, 0, NULL, 8L), EINVAL);
    ERR(RAW(epoll_pwait, 99, &e, 1, 0, NULL, 8L), EBADF);
    EQ(RAW(epoll_pwait2, ep, &e, 1, &none, NULL, 8L), 0);
    ERR(RAW(epoll_pwait2, ep, &e, 1, &bad, NULL, 8L), EINVAL);
    ERR(RAW(epoll_pwait2, 0, &e, 1, &none, NULL, 8L), EINVAL);
    FD(ev, RAW(eventfd, 3));
    uint64_t n;
    EQ(read(ev, &n, 8), 8);
    EQ(n, 3);
    struct itimerspec it;
    ERR(timerfd_gettime(99, &it), EBADF);
    ERR(timerfd_gettime(ev, &it), EINVAL);
}
CASE(robust_list_by_number) {
    void *head;
    size_t size;
    OK(RAW(get_robust_list, 0, &head, &size));
    ERR(RAW(get_robust_list, 0x3fffffff, &head, &size), ESRCH);
    ERR(RAW(get_robust_list, 0, BAD_ADDRESS, &size), EFAULT);
    ERR(RAW(set_robust_list, head, 5L), EINVAL);
}
CASE(vectors) {
    t_write_file("f", "abcdef");
    FD(fd, open("f", O_RDWR));
    char a[2], b[2];
    struct iovec v[2] = {{a, 2}, {b, 2}};
    EQ(RAW(preadv, fd, v, 2L, 1L, 0L), 4);
    CHECK(a[0] == 'b' && b[1] == 'e');
    EQ(RAW(pwritev2, fd, v, 2L, 0L, 0L, 0), 4);
    EQ(RAW(preadv2, fd, v, 2L, 0L, 0L, 0), 4);
    CHECK(a[0] == 'b');
    ERR(RAW(preadv, 99, v, 2L, 0L, 0L), EBADF);
    ERR(RAW(pwritev, 99, v, 2L, 0L, 0L), EBADF);
    ERR(RAW(preadv2, 99, v, 2L, 0L, 0L, 0), EBADF);
    ERR(RAW(pwritev2, 99, v, 2L, 0L, 0L, 0), EBADF);
    ERR(RAW(preadv, fd, v, 2000L, 0L, 0L), EINVAL);
    ERR(RAW(preadv2, fd, v, 2L, 0L, 0L, 0x40000000), EOPNOTSUPP);
}
CASE(clocks_and_usage) {
    struct timeval tv;
    ERR(RAW(gettimeofday, BAD_ADDRESS, NULL), EFAULT);
    ERR(RAW(time, BAD_ADDRESS), EFAULT);
    struct rusage u;
    ERR(getrusage(7, &u), EINVAL);
    ERR(RAW(sysinfo, BAD_ADDRESS), EFAULT);
    ERR(RAW(times, BAD_ADDRESS), EFAULT);
    ERR(RAW(getcpu, BAD_ADDRESS, NULL, NULL), EFAULT);
    struct itimerval it;
    ERR(getitimer(9, &it), EINVAL);
    struct timespec bad = {0, -1};
    ERR(clock_settime(CLOCK_REALTIME, &bad), EINVAL);
    ERR(clock_settime(CLOCK_MONOTONIC, &bad), EINVAL);
    ERR(RAW(membarrier, 1 << 30, 0, 0), EINVAL);
}
CASE(ids_that_are_refused) {
    NEED_ROOT();
    OK(setresuid(1, 1, 1));
    ERR(setregid(5, 5), EPERM);
    ERR(setresgid(5, 5, 5), EPERM);
    unsigned id;
    ERR(RAW(getresuid, BAD_ADDRESS, &id, &id), EFAULT);
    ERR(RAW(getresgid, BAD_ADDRESS, &id, &id), EFAULT);
    ERR(socket(AF_MAX, SOCK_STREAM, 0), EAFNOSUPPORT);
}

/* i386's call 39 is mkdir, ours is getpid: where `int $0x80` is no call it is a fault, and never a call of ours. */
CASE(int80_is_not_ours) {
    pid_t child = fork();
    if (child == 0) {
        long number = 39;
        __asm__ volatile("int $0x80" : "+a"(number) : "b"(0), "c"(0) : "memory", "r8", "r9", "r10", "r11");
        _exit(number == getpid());
    }
    int status;
    EQ(waitpid(child, &status, 0), child);
    CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
}
