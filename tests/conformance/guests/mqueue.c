/* POSIX message queues. */
#include "t.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>

static char name[32];
static void named(void) {
    /* In a namespace of its own, where it may have one, nothing stays when a case fails. */
    (void)!unshare(CLONE_NEWIPC);
    snprintf(name, sizeof name, "/rv.%d", getpid());
}
static mqd_t make(int flags, long messages, long size) {
    named();
    struct mq_attr a = {.mq_maxmsg = messages, .mq_msgsize = size};
    mqd_t q = mq_open(name, O_CREAT | O_EXCL | O_RDWR | flags, 0600, &a);
    if (q == -1)
        t_fail("mq_open: %s", strerror(errno));
    return q;
}
static struct timespec in_ms(long ms) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

CASE(open_and_unlink) {
    named();
    ERR(mq_open(name, O_RDWR), ENOENT);
    ERR(mq_unlink(name), ENOENT);
    umask(022);
    FD(q, mq_open(name, O_CREAT | O_RDWR, 0666, NULL));
    ERR(mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, NULL), EEXIST);
    ERR(mq_open(name, O_ACCMODE), EINVAL);
    FD(again, mq_open(name, O_CREAT | O_RDONLY, 0600, NULL));
    EQ(fcntl(q, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(q, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    struct stat st;
    OK(fstat(q, &st));
    EQ(st.st_mode, S_IFREG | 0644);
    EQ(st.st_size, 80);
    EQ(st.st_nlink, 1);
    EQ(st.st_uid, geteuid());
    struct mq_attr a;
    OK(mq_getattr(q, &a));
    EQ(a.mq_maxmsg, 10);
    EQ(a.mq_msgsize, 8192);
    OK(mq_unlink(name));
    OK(mq_send(q, "there", 5, 0));
    char buf[8192];
    EQ(mq_receive(again, buf, sizeof buf, NULL), 5);
    OK(fstat(q, &st));
    EQ(st.st_nlink, 0);
    ERR(mq_unlink(name), ENOENT);
}
CASE(names) {
    char longest[300] = "/";
    memset(longest + 1, 'n', 256);
    longest[257] = 0;
    ERR(syscall(SYS_mq_open, longest + 1, O_RDWR | O_CREAT, 0600, NULL), ENAMETOOLONG);
    ERR(mq_unlink(longest), ENAMETOOLONG);
    longest[256] = 0;
    FD(q, mq_open(longest, O_RDWR | O_CREAT, 0600, NULL));
    OK(mq_unlink(longest));
    ERR(syscall(SYS_mq_open, "", O_RDWR | O_CREAT, 0600, NULL), ENOENT);
    ERR(syscall(SYS_mq_open, "a/b", O_RDWR | O_CREAT, 0600, NULL), EACCES);
    ERR(syscall(SYS_mq_open, "/a", O_RDWR | O_CREAT, 0600, NULL), EACCES);
    ERR(syscall(SYS_mq_open, "..", O_RDWR, 0600, NULL), EACCES);
    ERR(syscall(SYS_mq_unlink, "."), EACCES);
    ERR(syscall(SYS_mq_unlink, ""), ENOENT);
    ERR(syscall(SYS_mq_open, BAD_ADDRESS, O_RDWR, 0600, NULL), EFAULT);
    ERR(syscall(SYS_mq_open, "x", O_RDWR, 0600, BAD_ADDRESS), EFAULT);
}
CASE(limits) {
    named();
    setgid(65534);
    setuid(65534);
    long bad[][2] = {{0, 8}, {8, 0}, {-1, 8}, {8, -1}, {11, 8}, {1, 8193}, {LONG_MAX, LONG_MAX}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mq_attr a = {.mq_maxmsg = bad[i][0], .mq_msgsize = bad[i][1]};
        ERR(mq_open(name, O_CREAT | O_RDWR, 0600, &a), EINVAL);
    }
    struct rlimit r = {10 * (8192 + 96) - 1, 819200};
    OK(setrlimit(RLIMIT_MSGQUEUE, &r));
    ERR(mq_open(name, O_CREAT | O_RDWR, 0600, NULL), EMFILE);
    r.rlim_cur++;
    OK(setrlimit(RLIMIT_MSGQUEUE, &r));
    FD(q, mq_open(name, O_CREAT | O_RDWR, 0600, NULL));
    struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 1};
    ERR(mq_open("/rv.other", O_CREAT | O_RDWR, 0600, &a), EMFILE);
    OK(mq_unlink(name));
    ERR(mq_open("/rv.other", O_CREAT | O_RDWR, 0600, &a), EMFILE);
    OK(mq_close(q));
    FD(other, mq_open("/rv.other", O_CREAT | O_RDWR, 0600, &a));
    OK(mq_unlink("/rv.other"));
    /* The limits themselves. */
    t_read_is("/proc/sys/fs/mqueue/queues_max", "256\n");
    t_read_is("/proc/sys/fs/mqueue/msg_max", "10\n");
    t_read_is("/proc/sys/fs/mqueue/msgsize_max", "8192\n");
    t_read_is("/proc/sys/fs/mqueue/msg_default", "10\n");
    t_read_is("/proc/sys/fs/mqueue/msgsize_default", "8192\n");
}
CASE(permissions) {
    NEED_ROOT();
    named();
    FD(q, mq_open(name, O_CREAT | O_RDWR, 0644, NULL));
    fchmod(q, 0640);
    pid_t pid = fork();
    if (pid == 0) {
        setgid(12345);
        setuid(12345);
        ERR(mq_open(name, O_RDONLY), EACCES);
        ERR(mq_open(name, O_CREAT | O_RDWR, 0600, NULL), EACCES);
        ERR(mq_unlink(name), EACCES);
        ERR(syscall(SYS_mq_unlink, name + 1), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(fchown(q, 0, 12345));
    pid = fork();
    if (pid == 0) {
        setgid(12345);
        setuid(12345);
        FD(r, mq_open(name, O_RDONLY));
        ERR(mq_open(name, O_WRONLY), EACCES);
        ERR(mq_send(r, "x", 1, 0), EBADF);
        _exit(0);
    }
    CHILD_OK(pid);
    FD(w, mq_open(name, O_WRONLY));
    char buf[8192];
    ERR(mq_receive(w, buf, sizeof buf, NULL), EBADF);
}
CASE(order) {
    mqd_t q = make(0, 5, 16);
    unsigned priorities[] = {3, 32767, 0, 3, 32767};
    for (int i = 0; i < 5; i++) {
        char c = 'a' + i;
        OK(mq_send(q, &c, i ? 1 : 0, priorities[i]));
    }
    ERR(mq_send(q, "x", 1, 32768), EINVAL);
    struct mq_attr a;
    OK(mq_getattr(q, &a));
    EQ(a.mq_curmsgs, 5);
    EQ(a.mq_maxmsg, 5);
    EQ(a.mq_msgsize, 16);
    EQ(a.mq_flags, 0);
    char buf[16];
    unsigned p, left[] = {32767, 32767, 3, 3, 0};
    const char want[] = {'b', 'e', 0, 'd', 'c'};
    for (int i = 0; i < 5; i++) {
        memset(buf, 0, sizeof buf);
        EQ(mq_receive(q, buf, sizeof buf, &p), want[i] ? 1 : 0);
        EQ(buf[0], want[i]);
        EQ(p, left[i]);
    }
}
CASE(errors) {
    mqd_t q = make(O_NONBLOCK, 2, 4);
    char buf[16];
    ERR(mq_receive(q, buf, 3, NULL), EMSGSIZE);
    ERR(mq_receive(q, buf, 4, NULL), EAGAIN);
    ERR(mq_send(q, buf, 5, 0), EMSGSIZE);
    OK(mq_send(q, "ab", 2, 0));
    OK(mq_send(q, "cd", 2, 0));
    ERR(mq_send(q, "ef", 2, 0), EAGAIN);
    ERR(syscall(SYS_mq_timedsend, q, BAD_ADDRESS, 2, 0, NULL), EFAULT);
    ERR(syscall(SYS_mq_timedsend, q, "x", 1, 0, BAD_ADDRESS), EFAULT);
    ERR(syscall(SYS_mq_timedreceive, q, BAD_ADDRESS, 16, NULL, NULL), EFAULT);
    ERR(syscall(SYS_mq_timedreceive, q, buf, 16, NULL, BAD_ADDRESS), EFAULT);
    struct timespec bad = {1, 1000000000}, negative = {-1, 0};
    ERR(mq_timedsend(q, "x", 1, 0, &bad), EINVAL);
    ERR(mq_timedreceive(q, buf, 16, NULL, &negative), EINVAL);
    int p[2];
    OK(pipe(p));
    ERR(mq_send(p[1], "x", 1, 0), EBADF);
    ERR(mq_receive(p[0], buf, 16, NULL), EBADF);
    ERR(mq_send(-1, "x", 1, 0), EBADF);
    struct mq_attr a = {.mq_flags = O_APPEND};
    ERR(mq_setattr(q, &a, NULL), EINVAL);
    ERR(syscall(SYS_mq_getsetattr, p[0], NULL, &a), EBADF);
    ERR(syscall(SYS_mq_getsetattr, q, BAD_ADDRESS, NULL), EFAULT);
    ERR(syscall(SYS_mq_getsetattr, q, NULL, BAD_ADDRESS), EFAULT);
    a.mq_flags = 0;
    a.mq_maxmsg = 100;
    struct mq_attr old;
    OK(mq_setattr(q, &a, &old));
    EQ(old.mq_flags, O_NONBLOCK);
    OK(mq_getattr(q, &a));
    EQ(a.mq_flags, 0);
    EQ(a.mq_maxmsg, 2);
    EQ(a.mq_curmsgs, 1);
    ERR(write(q, "x", 1), EINVAL);
    ERR((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, q, 0), ENODEV);
}
CASE(timeouts) {
    mqd_t q = make(0, 1, 4);
    char buf[4];
    struct timespec past = {1, 0}, soon;
    ERR(mq_timedreceive(q, buf, 4, NULL, &past), ETIMEDOUT);
    double start = t_now();
    soon = in_ms(30);
    ERR(mq_timedreceive(q, buf, 4, NULL, &soon), ETIMEDOUT);
    CHECK(t_now() - start > 0.025);
    OK(mq_timedsend(q, "x", 1, 0, &past));
    ERR(mq_timedsend(q, "y", 1, 0, &past), ETIMEDOUT);
    soon = in_ms(20);
    ERR(mq_timedsend(q, "y", 1, 0, &soon), ETIMEDOUT);
    EQ(mq_timedreceive(q, buf, 4, NULL, &past), 1);
}
static void nothing(int sig) {
}
CASE(interrupted) {
    mqd_t q = make(0, 1, 4);
    char buf[4];
    struct sigaction sa = {.sa_handler = nothing};
    OK(sigaction(SIGUSR1, &sa, NULL));
    pid_t me = getpid(), pid = fork();
    if (pid == 0) {
        t_sleep_ms(30);
        kill(me, SIGUSR1);
        t_sleep_ms(50);
        kill(me, SIGUSR1);
        t_sleep_ms(50);
        _exit(mq_send(q, "late", 4, 7));
    }
    ERR(mq_receive(q, buf, 4, NULL), EINTR);
    sa.sa_flags = SA_RESTART;
    OK(sigaction(SIGUSR1, &sa, NULL));
    unsigned p;
    EQ(mq_receive(q, buf, 4, &p), 4);
    EQ(p, 7);
    CHILD_OK(pid);
}
CASE(between_processes) {
    mqd_t q = make(0, 2, 64);
    pid_t pid = fork();
    if (pid == 0) {
        FD(w, mq_open(name, O_WRONLY));
        for (int i = 0; i < 500; i++)
            OK(mq_send(w, (char *)&i, sizeof i, 0));
        _exit(0);
    }
    for (int i = 0; i < 500; i++) {
        char buf[64];
        EQ(mq_receive(q, buf, sizeof buf, NULL), sizeof i);
        EQ(*(int *)buf, i);
    }
    CHILD_OK(pid);
}
CASE(poll_and_epoll) {
    mqd_t q = make(0, 1, 4);
    struct pollfd p = {q, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM, 0};
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents, POLLOUT | POLLWRNORM);
    FD(ep, epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = 5};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, q, &e));
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(20);
        _exit(mq_send(q, "x", 1, 0));
    }
    EQ(epoll_wait(ep, &e, 1, 5000), 1);
    EQ(e.events, EPOLLIN);
    EQ(e.data.u32, 5);
    CHILD_OK(pid);
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents, POLLIN | POLLRDNORM);
}
static volatile siginfo_t seen;
static volatile int signals;
static void note(int sig, siginfo_t *info, void *context) {
    signals++;
    *(siginfo_t *)&seen = *info;
}
static void told(char *want, mqd_t q) {
    char text[100] = "";
    CHECK(pread(q, text, sizeof text - 1, 0) > 0);
    if (strncmp(text, want, strlen(want)) != 0)
        t_fail("'%s', not '%s'", text, want);
}
CASE(notify_signal) {
    mqd_t q = make(0, 4, 4);
    struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    OK(sigaction(SIGRTMIN, &sa, NULL));
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_ptr = (void *)0x123456789a};
    told("QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n", q);
    OK(mq_notify(q, &ev));
    char want[100];
    snprintf(want, sizeof want, "QSIZE:0          NOTIFY:0     SIGNO:%-5d NOTIFY_PID:%-6d\n", SIGRTMIN, getpid());
    told(want, q);
    ERR(mq_notify(q, &ev), EBUSY);
    pid_t pid = fork();
    if (pid == 0) {
        ERR(mq_notify(q, &ev), EBUSY);
        OK(mq_notify(q, NULL));
        ERR(mq_notify(q, &ev), EBUSY);
        _exit(mq_send(q, "abc", 3, 0));
    }
    CHILD_OK(pid);
    EQ(signals, 1);
    EQ(seen.si_code, SI_MESGQ);
    EQ(seen.si_pid, pid);
    EQ(seen.si_uid, getuid());
    EQ((long)seen.si_ptr, 0x123456789a);
    told("QSIZE:3          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n", q);
    OK(mq_send(q, "x", 1, 0));
    EQ(signals, 1);
    /* Not while there are messages. */
    OK(mq_notify(q, &ev));
    OK(mq_send(q, "y", 1, 0));
    EQ(signals, 1);
    char buf[4];
    for (int i = 0; i < 3; i++)
        OK(mq_receive(q, buf, 4, NULL));
    OK(mq_send(q, "z", 1, 0));
    EQ(signals, 2);
    OK(mq_receive(q, buf, 4, NULL));
    /* A waiting receiver has it. */
    OK(mq_notify(q, &ev));
    pid = fork();
    if (pid == 0)
        _exit(mq_receive(q, buf, 4, NULL) != 1);
    t_sleep_ms(50);
    OK(mq_send(q, "w", 1, 0));
    CHILD_OK(pid);
    EQ(signals, 2);
    ERR(mq_notify(q, &ev), EBUSY);
    OK(mq_notify(q, NULL));
    OK(mq_notify(q, &ev));
    /* Closing any descriptor of it ends the registration. */
    FD(other, dup(q));
    OK(close(other));
    told("QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n", q);
    ev.sigev_notify = SIGEV_NONE;
    OK(mq_notify(q, &ev));
    OK(mq_send(q, "x", 1, 0));
    OK(mq_notify(q, &ev));
    ev.sigev_signo = 65;
    ev.sigev_notify = SIGEV_SIGNAL;
    ERR(mq_notify(q, &ev), EINVAL);
    ev.sigev_notify = 77;
    ERR(mq_notify(q, &ev), EINVAL);
    ERR(syscall(SYS_mq_notify, q, BAD_ADDRESS), EFAULT);
    ERR(mq_notify(-1, NULL), EBADF);
    int p[2];
    OK(pipe(p));
    ERR(mq_notify(p[0], NULL), EBADF);
}
CASE(exec_ends_notify) {
    mqd_t q = make(0, 4, 4);
    pid_t pid = fork();
    if (pid == 0) {
        struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        OK(mq_notify(q, &ev));
        execl("/bin/sleep", "sleep", "0.3", NULL);
        _exit(9);
    }
    t_sleep_ms(150);
    told("QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n", q);
    OK(mq_send(q, "x", 1, 0));
    CHILD_OK(pid);
}
static int threaded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t come = PTHREAD_COND_INITIALIZER;
static void in_thread(union sigval v) {
    pthread_mutex_lock(&lock);
    threaded = v.sival_int;
    pthread_cond_signal(&come);
    pthread_mutex_unlock(&lock);
}
CASE(notify_thread) {
    mqd_t q = make(0, 4, 4);
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = in_thread, .sigev_value.sival_int = 42};
    OK(mq_notify(q, &ev));
    OK(mq_notify(q, NULL));
    OK(mq_notify(q, &ev));
    OK(mq_send(q, "x", 1, 0));
    pthread_mutex_lock(&lock);
    while (threaded != 42)
        pthread_cond_wait(&come, &lock);
    pthread_mutex_unlock(&lock);
    char cookie[32];
    struct sigevent raw = {.sigev_notify = SIGEV_THREAD, .sigev_signo = q, .sigev_value.sival_ptr = cookie};
    ERR(syscall(SYS_mq_notify, q, &raw), ENOTSOCK);
    raw.sigev_signo = -1;
    ERR(syscall(SYS_mq_notify, q, &raw), EBADF);
    raw.sigev_value.sival_ptr = BAD_ADDRESS;
    ERR(syscall(SYS_mq_notify, q, &raw), EFAULT);
}
CASE(file_system) {
    named();
    char path[100];
    struct stat st;
    const char *at = "/dev/mqueue";
    if (stat(at, &st) != 0) {
        at = "mounted";
        OK(mkdir(at, 0755));
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("mqueue", at, "mqueue", 0, NULL) != 0)
            SKIP("the host has no mqueue, and none may be mounted");
        OK(stat(at, &st));
    }
    EQ(st.st_mode, S_IFDIR | 01777);
    snprintf(path, sizeof path, "%s%s", at, name);
    FD(q, mq_open(name, O_CREAT | O_RDWR, 0600, NULL));
    OK(stat(path, &st));
    EQ(st.st_size, 80);
    FD(f, open(path, O_RDWR));
    OK(mq_send(q, "hello", 5, 0));
    char buf[8192];
    CHECK(read(f, buf, sizeof buf) > 0);
    CHECK(strncmp(buf, "QSIZE:5 ", 8) == 0);
    EQ(mq_receive(f, buf, sizeof buf, NULL), 5);
    OK(unlink(path));
    ERR(mq_open(name, O_RDWR), ENOENT);
    FD(made, open(path, O_CREAT | O_EXCL | O_RDWR, 0600));
    OK(mq_send(made, "hello", 5, 0));
    OK(mq_unlink(name));
    snprintf(path, sizeof path, "%s/dir", at);
    ERR(mkdir(path, 0755), EPERM);
}
