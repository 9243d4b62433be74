/* io_setup(2) and its kin. */
#include "t.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

static long setup(unsigned n, aio_context_t *ctx) {
    return syscall(SYS_io_setup, n, ctx);
}
static long submit(aio_context_t ctx, long n, struct iocb **list) {
    return syscall(SYS_io_submit, ctx, n, list);
}
static long events(aio_context_t ctx, long least, long most, struct io_event *out, const struct timespec *t) {
    return syscall(SYS_io_getevents, ctx, least, most, out, t);
}
static long destroy(aio_context_t ctx) {
    return syscall(SYS_io_destroy, ctx);
}
static struct iocb block(int op, int fd, const void *buf, size_t n, long at) {
    struct iocb b = {0};
    b.aio_lio_opcode = op;
    b.aio_fildes = fd;
    b.aio_buf = (long)buf;
    b.aio_nbytes = n;
    b.aio_offset = at;
    b.aio_data = 0x1234;
    return b;
}

CASE(contexts) {
    aio_context_t ctx = 0, other = 0;
    ERR(setup(0, &ctx), EINVAL);
    ERR(setup(8, BAD_ADDRESS), EFAULT);
    other = 5;
    ERR(setup(8, &other), EINVAL);
    OK(setup(8, &ctx));
    CHECK(ctx != 0);
    ERR(setup(8, &ctx), EINVAL);
    ERR(destroy(77), EINVAL);
    ERR(submit(77, 1, NULL), EINVAL);
    ERR(events(77, 0, 1, NULL, NULL), EINVAL);
    other = 0;
    ERR(setup(100000000, &other), EINVAL);
    ERR(setup(4000000, &other), EAGAIN);
    OK(destroy(ctx));
    ERR(destroy(ctx), EINVAL);
}
CASE(reads_and_writes) {
    aio_context_t ctx = 0;
    OK(setup(8, &ctx));
    FD(fd, open("f", O_RDWR | O_CREAT, 0644));
    char a[6] = "hello", b[6] = {0}, x[3] = {0}, y[3] = {0};
    struct iovec v[2] = {{x, 2}, {y, 2}};
    struct iocb w = block(IOCB_CMD_PWRITE, fd, a, 5, 10), r = block(IOCB_CMD_PREAD, fd, b, 5, 10),
                rv = block(IOCB_CMD_PREADV, fd, v, 2, 11), s = block(IOCB_CMD_FDSYNC, fd, NULL, 0, 0);
    struct iocb *one[] = {&w}, *rest[] = {&r, &rv, &s};
    EQ(submit(ctx, 1, one), 1);
    struct io_event e[4];
    EQ(events(ctx, 1, 4, e, NULL), 1);
    EQ(e[0].data, 0x1234);
    EQ(e[0].obj, (long)&w);
    EQ(e[0].res, 5);
    EQ(submit(ctx, 3, rest), 3);
    EQ(events(ctx, 3, 4, e, NULL), 3);
    EQ(memcmp(b, "hello", 5), 0);
    CHECK(memcmp(x, "el", 2) == 0 && memcmp(y, "lo", 2) == 0);
    struct timespec none = {0, 0}, soon = {0, 20000000}, bad = {0, 1000000000};
    EQ(events(ctx, 1, 4, e, &none), 0);
    EQ(events(ctx, 1, 4, e, &soon), 0);
    EQ(events(ctx, 0, 4, e, NULL), 0);
    ERR(events(ctx, 5, 4, e, NULL), EINVAL);
    ERR(events(ctx, -1, 4, e, NULL), EINVAL);
    ERR(events(ctx, 1, 4, e, BAD_ADDRESS), EFAULT);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(submit(ctx, 0, NULL), 0);
    sigset_t set;
    sigemptyset(&set);
    struct {
        const sigset_t *set;
        size_t size;
    } mask = {&set, 8};
    EQ(submit(ctx, 1, one), 1);
    EQ(syscall(SYS_io_pgetevents, ctx, 1, 4, e, NULL, &mask), 1);
    mask.size = 3;
    ERR(syscall(SYS_io_pgetevents, ctx, 1, 4, e, NULL, &mask), EINVAL);
    ERR(syscall(SYS_io_pgetevents, 77, 1, 4, e, NULL, NULL), EINVAL);
    OK(destroy(ctx));
}
CASE(errors) {
    aio_context_t ctx = 0;
    OK(setup(8, &ctx));
    FD(rd, open("f", O_RDONLY | O_CREAT, 0644));
    FD(wr, open("f", O_WRONLY));
    char buf[8];
    struct iocb good = block(IOCB_CMD_PREAD, rd, buf, 8, 0), bad;
    struct iocb *list[] = {&good, &bad}, *first[] = {&bad}, *nowhere[] = {BAD_ADDRESS};
    ERR(submit(ctx, -1, list), EINVAL);
    ERR(submit(ctx, 1, BAD_ADDRESS), EFAULT);
    ERR(submit(ctx, 1, nowhere), EFAULT);
    bad = block(99, rd, buf, 8, 0);
    ERR(submit(ctx, 1, first), EINVAL);
    bad = block(IOCB_CMD_PREAD, 99, buf, 8, 0);
    ERR(submit(ctx, 1, first), EBADF);
    bad = block(IOCB_CMD_PREAD, wr, buf, 8, 0);
    ERR(submit(ctx, 1, first), EBADF);
    EQ(submit(ctx, 2, list), 1);
    bad = block(IOCB_CMD_PWRITE, rd, buf, 8, 0);
    ERR(submit(ctx, 1, first), EBADF);
    bad = block(IOCB_CMD_PREAD, rd, buf, 8, 0);
    bad.aio_reserved2 = 1;
    ERR(submit(ctx, 1, first), EINVAL);
    bad.aio_reserved2 = 0;
    bad.aio_flags = IOCB_FLAG_RESFD;
    bad.aio_resfd = 99;
    ERR(submit(ctx, 1, first), EBADF);
    bad.aio_resfd = rd;
    ERR(submit(ctx, 1, first), EINVAL);
    struct io_event e;
    EQ(events(ctx, 1, 1, &e, NULL), 1);
    EQ(e.res, 0);
    ERR(syscall(SYS_io_cancel, ctx, NULL, NULL), EFAULT);
    ERR(syscall(SYS_io_cancel, ctx, &good, &e), EINVAL);
    ERR(syscall(SYS_io_cancel, 77, &good, &e), EINVAL);
    OK(destroy(ctx));
}
CASE(an_eventfd_is_told) {
    aio_context_t ctx = 0;
    OK(setup(4, &ctx));
    FD(fd, open("f", O_RDWR | O_CREAT, 0644));
    FD(ev, eventfd(0, EFD_NONBLOCK));
    struct iocb w = block(IOCB_CMD_PWRITE, fd, "abc", 3, 0);
    w.aio_flags = IOCB_FLAG_RESFD;
    w.aio_resfd = ev;
    struct iocb *list[] = {&w, &w};
    EQ(submit(ctx, 2, list), 2);
    struct pollfd p = {ev, POLLIN, 0};
    EQ(poll(&p, 1, 5000), 1);
    struct io_event e[4];
    EQ(events(ctx, 2, 4, e, NULL), 2);
    uint64_t n;
    EQ(read(ev, &n, 8), 8);
    EQ(n, 2);
    OK(destroy(ctx));
}
CASE(an_eventfd_overflows) {
    aio_context_t ctx = 0;
    OK(setup(4, &ctx));
    FD(fd, open("f", O_RDWR | O_CREAT, 0644));
    FD(ev, eventfd(0, EFD_NONBLOCK));
    uint64_t n = UINT64_MAX - 1;
    EQ(write(ev, &n, 8), 8);
    struct pollfd p = {ev, POLLIN | POLLOUT, 0};
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents, POLLIN);
    struct iocb w = block(IOCB_CMD_PWRITE, fd, "abc", 3, 0);
    w.aio_flags = IOCB_FLAG_RESFD;
    w.aio_resfd = ev;
    struct iocb *list[] = {&w, &w};
    struct io_event e[2];
    EQ(submit(ctx, 2, list), 2);
    EQ(events(ctx, 2, 2, e, NULL), 2);
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents, POLLIN | POLLERR);
    n = 0;
    ERR(write(ev, &n, 8), EAGAIN);
    EQ(read(ev, &n, 8), 8);
    CHECK(n == UINT64_MAX);
    OK(destroy(ctx));
}
CASE(flags_of_one_operation) {
    aio_context_t ctx = 0;
    OK(setup(4, &ctx));
    int ends[2];
    char got[8];
    OK(pipe(ends));
    FD(fd, open("f", O_RDWR | O_CREAT, 0644));
    struct iocb r = block(IOCB_CMD_PREAD, ends[0], got, 8, 0), w = block(IOCB_CMD_PWRITE, fd, "abc", 3, 0),
                s = block(IOCB_CMD_FDSYNC, fd, NULL, 0, 0);
    struct iocb *read_one[] = {&r}, *write_one[] = {&w}, *sync_one[] = {&s};
    struct io_event e;
    r.aio_rw_flags = RWF_NOWAIT;
    EQ(submit(ctx, 1, read_one), 1);
    EQ(events(ctx, 1, 1, &e, NULL), 1);
    EQ(e.res, -EAGAIN);
    EQ(write(ends[1], "xyz", 3), 3);
    EQ(submit(ctx, 1, read_one), 1);
    EQ(events(ctx, 1, 1, &e, NULL), 1);
    EQ(e.res, 3);
    w.aio_rw_flags = RWF_APPEND | RWF_DSYNC;
    for (int i = 0; i < 2; i++) {
        EQ(submit(ctx, 1, write_one), 1);
        EQ(events(ctx, 1, 1, &e, NULL), 1);
        EQ(e.res, 3);
    }
    EQ(pread(fd, got, 8, 0), 6);
    CHECK(memcmp(got, "abcabc", 6) == 0);
    w.aio_rw_flags = 0x40000000;
    ERR(submit(ctx, 1, write_one), EOPNOTSUPP);
    s.aio_rw_flags = RWF_APPEND;
    ERR(submit(ctx, 1, sync_one), EINVAL);
    OK(destroy(ctx));
}
static aio_context_t shared;
static struct iocb late;
static void *later(void *fd) {
    t_sleep_ms(40);
    late = block(IOCB_CMD_PWRITE, (long)fd, "abc", 3, 0);
    struct iocb *list[] = {&late};
    return (void *)submit(shared, 1, list);
}
static void nothing(int sig) {
}
CASE(another_thread_is_waited_for) {
    OK(setup(4, &shared));
    FD(fd, open("f", O_RDWR | O_CREAT, 0644));
    pthread_t t;
    EQ(pthread_create(&t, NULL, later, (void *)(long)fd), 0);
    struct io_event e;
    EQ(events(shared, 1, 1, &e, NULL), 1);
    EQ(e.res, 3);
    pthread_join(t, NULL);
    struct sigaction sa = {.sa_handler = nothing};
    OK(sigaction(SIGALRM, &sa, NULL));
    ualarm(30000, 0);
    ERR(events(shared, 1, 1, &e, NULL), EINTR);
    /* A child has none of its parent's. */
    pid_t pid = fork();
    if (pid == 0) {
        ERR(destroy(shared), EINVAL);
        _exit(0);
    }
    CHILD_OK(pid);
}
