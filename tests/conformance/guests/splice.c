/* splice, tee, vmsplice, sendfile, copy_file_range: which ends they take, how much they move, when they wait. */
#include "t.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#define PIPE(name)                                                                                                     \
    int name[2];                                                                                                       \
    OK(pipe(name))

CASE(splice_arguments) {
    PIPE(a);
    PIPE(b);
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    FD(append, open("f", O_WRONLY | O_APPEND));
    loff_t off = 0, bad = -1;
    EQ(write(a[1], "hello", 5), 5);
    EQ(splice(a[0], NULL, fd, NULL, 0, 0), 0);
    ERR(splice(a[0], NULL, fd, NULL, 1, 0x100), EINVAL);
    ERR(splice(-1, NULL, fd, NULL, 1, 0), EBADF);
    ERR(splice(a[1], NULL, fd, NULL, 1, 0), EBADF);
    ERR(splice(a[0], NULL, b[0], NULL, 1, 0), EBADF);
    ERR(splice(a[0], &off, fd, NULL, 1, 0), ESPIPE);
    ERR(splice(a[0], NULL, b[1], &off, 1, 0), ESPIPE);
    ERR(splice(fd, NULL, b[1], &off, 1, 0), ESPIPE);
    ERR(splice(a[0], NULL, fd, &bad, 1, 0), EINVAL);
    ERR(splice(a[0], NULL, a[1], NULL, 1, 0), EINVAL);
    ERR(splice(fd, NULL, fd, NULL, 1, 0), EINVAL);
    ERR(splice(a[0], NULL, append, NULL, 1, 0), EINVAL);
    ERR(splice(a[0], NULL, fd, BAD_ADDRESS, 1, 0), EFAULT);
    ERR(tee(a[0], fd, 1, 0), EINVAL);
    ERR(tee(a[0], a[1], 1, 0), EINVAL);
    ERR(tee(a[0], b[1], 1, 0x100), EINVAL);
    struct iovec v = {"x", 1};
    ERR(vmsplice(fd, &v, 1, 0), EBADF);
    ERR(vmsplice(a[1], &v, 2000, 0), EINVAL);
    ERR(vmsplice(a[1], &v, 1, 0x100), EINVAL);
}
CASE(splice_moves) {
    PIPE(a);
    PIPE(b);
    char got[64] = {0};
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(write(a[1], "hello world", 11), 11);
    EQ(splice(a[0], NULL, b[1], NULL, 6, 0), 6);
    loff_t off = 3;
    EQ(splice(b[0], NULL, fd, &off, 100, 0), 6);
    EQ(off, 9);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(splice(a[0], NULL, fd, NULL, 2, 0), 2);
    EQ(lseek(fd, 0, SEEK_CUR), 2);
    EQ(pread(fd, got, 64, 0), 9);
    CHECK(memcmp(got, "wo\0hello ", 9) == 0);
    off = 4;
    EQ(splice(fd, &off, b[1], NULL, 100, 0), 5);
    EQ(off, 9);
    EQ(splice(fd, &off, b[1], NULL, 100, 0), 0);
    EQ(splice(fd, NULL, b[1], NULL, 3, 0), 3);
    EQ(lseek(fd, 0, SEEK_CUR), 5);
    EQ(read(b[0], got, 64), 8);
    CHECK(memcmp(got, "ello \0he", 8) == 0);
    /* The end of a pipe is the end. */
    close(a[1]);
    EQ(splice(a[0], NULL, fd, NULL, 100, 0), 3);
    EQ(splice(a[0], NULL, fd, NULL, 100, 0), 0);
    EQ(splice(a[0], NULL, b[1], NULL, 100, 0), 0);
    EQ(tee(a[0], b[1], 100, 0), 0);
}
CASE(splice_waits) {
    PIPE(a);
    PIPE(b);
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    ERR(splice(a[0], NULL, fd, NULL, 5, SPLICE_F_NONBLOCK), EAGAIN);
    ERR(tee(a[0], b[1], 5, SPLICE_F_NONBLOCK), EAGAIN);
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(30);
        EQ(write(a[1], "later", 5), 5);
        _exit(0);
    }
    EQ(splice(a[0], NULL, b[1], NULL, 100, 0), 5);
    CHILD_OK(pid);
    /* A full pipe. */
    char page[4096] = {0};
    OK(fcntl(a[1], F_SETPIPE_SZ, 4096));
    EQ(write(a[1], page, 4096), 4096);
    EQ(pwrite(fd, page, 4096, 0), 4096);
    ERR(splice(fd, NULL, a[1], NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
    struct iovec v = {page, 10};
    ERR(vmsplice(a[1], &v, 1, SPLICE_F_NONBLOCK), EAGAIN);
    pid = fork();
    if (pid == 0) {
        t_sleep_ms(30);
        EQ(read(a[0], page, 4096), 4096);
        _exit(0);
    }
    EQ(splice(fd, NULL, a[1], NULL, 10, 0), 10);
    CHILD_OK(pid);
    close(a[0]);
    signal(SIGPIPE, SIG_IGN);
    ERR(splice(fd, NULL, a[1], NULL, 10, 0), EPIPE);
}
CASE(splice_sockets) {
    int s[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    PIPE(a);
    EQ(write(a[1], "to a socket", 11), 11);
    EQ(splice(a[0], NULL, s[0], NULL, 11, 0), 11);
    EQ(splice(s[1], NULL, a[1], NULL, 100, 0), 11);
    char got[16];
    EQ(read(a[0], got, 16), 11);
    CHECK(memcmp(got, "to a socket", 11) == 0);
}
CASE(vmsplice_both_ways) {
    PIPE(a);
    char got[16] = {0};
    struct iovec v[2] = {{"hello ", 6}, {"world", 5}};
    EQ(vmsplice(a[1], v, 2, 0), 11);
    struct iovec back = {got, 16};
    EQ(vmsplice(a[0], &back, 1, 0), 11);
    CHECK(strcmp(got, "hello world") == 0);
    EQ(vmsplice(a[0], &back, 0, 0), 0);
}
CASE(tee_leaves) {
    PIPE(a);
    PIPE(b);
    char got[16];
    EQ(write(a[1], "abc", 3), 3);
    EQ(write(a[1], "def", 3), 3);
    EQ(tee(a[0], b[1], 4, 0), 4);
    EQ(read(b[0], got, 16), 4);
    CHECK(memcmp(got, "abcd", 4) == 0);
    EQ(read(a[0], got, 16), 6);
    CHECK(memcmp(got, "abcdef", 6) == 0);
}
CASE(sendfile_kinds) {
    PIPE(a);
    FD(in, open("in", O_CREAT | O_RDWR, 0644));
    FD(out, open("out", O_CREAT | O_RDWR, 0644));
    FD(append, open("out", O_WRONLY | O_APPEND));
    EQ(write(in, "0123456789", 10), 10);
    off_t off = 2;
    EQ(sendfile(out, in, &off, 5), 5);
    EQ(off, 7);
    EQ(sendfile(out, in, &off, 100), 3);
    EQ(sendfile(out, in, &off, 100), 0);
    t_read_is("out", "23456789");
    EQ(lseek(out, 0, SEEK_CUR), 8);
    off = 0;
    EQ(sendfile(a[1], in, &off, 4), 4);
    char got[16];
    EQ(read(a[0], got, 16), 4);
    ERR(sendfile(append, in, &off, 4), EINVAL);
    ERR(sendfile(out, a[0], NULL, 4), EINVAL);
    off = -1;
    ERR(sendfile(out, in, &off, 4), EINVAL);
    ERR(sendfile(out, -1, NULL, 4), EBADF);
    ERR(sendfile(out, in, BAD_ADDRESS, 4), EFAULT);
    FD(readonly, open("out", O_RDONLY));
    ERR(sendfile(readonly, in, NULL, 4), EBADF);
    EQ(sendfile(out, in, NULL, 0), 0);
}
CASE(sendfile_to_slow_socket) {
    int s[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    FD(in, open("in", O_CREAT | O_RDWR, 0644));
    long size = 3 << 20;
    OK(ftruncate(in, size));
    EQ(pwrite(in, "end", 3, size - 3), 3);
    pid_t pid = fork();
    if (pid == 0) {
        char buffer[65536];
        long n, total = 0;
        close(s[0]);
        while ((n = read(s[1], buffer, sizeof buffer)) > 0)
            total += n;
        _exit(total != size);
    }
    off_t off = 0;
    long left = size;
    while (left > 0) {
        long n = sendfile(s[0], in, &off, left);
        CHECK(n > 0);
        left -= n;
    }
    EQ(off, size);
    close(s[0]);
    close(s[1]);
    CHILD_OK(pid);
}
CASE(copy_range) {
    FD(in, open("in", O_CREAT | O_RDWR, 0644));
    FD(out, open("out", O_CREAT | O_RDWR, 0644));
    FD(append, open("out", O_WRONLY | O_APPEND));
    FD(dir, open(".", O_RDONLY));
    PIPE(a);
    EQ(write(in, "0123456789", 10), 10);
    loff_t i = 2, o = 3;
    EQ(copy_file_range(in, &i, out, &o, 4, 0), 4);
    EQ(i, 6);
    EQ(o, 7);
    EQ(copy_file_range(in, &i, out, NULL, 100, 0), 4);
    EQ(lseek(out, 0, SEEK_CUR), 4);
    EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
    char got[16];
    EQ(pread(out, got, 16, 0), 7);
    CHECK(memcmp(got, "6789345", 7) == 0);
    i = 0, o = 5;
    EQ(copy_file_range(in, &i, in, &o, 5, 0), 5);
    i = 0, o = 3;
    ERR(copy_file_range(in, &i, in, &o, 5, 0), EINVAL);
    ERR(copy_file_range(in, &i, append, NULL, 5, 0), EBADF);
    ERR(copy_file_range(in, &i, out, NULL, 5, 1), EINVAL);
    ERR(copy_file_range(dir, &i, out, NULL, 5, 0), EISDIR);
    ERR(copy_file_range(a[0], NULL, out, NULL, 5, 0), EINVAL);
    ERR(copy_file_range(in, &i, a[1], NULL, 5, 0), EINVAL);
    i = LLONG_MAX - 2;
    ERR(copy_file_range(in, &i, out, NULL, -1ul, 0), EOVERFLOW);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {8, 8};
    OK(setrlimit(RLIMIT_FSIZE, &limit));
    i = 0, o = 6;
    EQ(copy_file_range(in, &i, out, &o, 5, 0), 2);
    ERR(copy_file_range(in, &i, out, &o, 5, 0), EFBIG);
}
CASE(what_only_counts_does_not_splice) {
    PIPE(p);
    FD(counter, eventfd(1, 0));
    FD(clock, timerfd_create(CLOCK_MONOTONIC, 0));
    FD(zero, open("/dev/zero", O_RDONLY));
    FD(f, open("f", O_CREAT | O_RDWR, 0644));
    ERR(splice(counter, NULL, p[1], NULL, 8, 0), EINVAL);
    ERR(splice(clock, NULL, p[1], NULL, 8, 0), EINVAL);
    EQ(splice(zero, NULL, p[1], NULL, 8, 0), 8);
    ERR(splice(p[0], NULL, counter, NULL, 8, 0), EINVAL);
    EQ(write(f, "12345678", 8), 8);
    EQ(lseek(f, 0, SEEK_SET), 0);
    ERR(sendfile(counter, f, NULL, 8), EINVAL);
}

CASE(blocks_that_cannot_be_shared) {
    t_write_file("from", "text");
    FD(from, open("from", O_RDONLY));
    FD(to, open("to", O_RDWR | O_CREAT, 0600));
    FD(append, open("to", O_WRONLY | O_APPEND));
    FD(dir, open(".", O_RDONLY));
    FD(other, open("/proc/self/stat", O_RDONLY));
    struct file_clone_range range = {.src_fd = from};
    if (ioctl(to, FICLONE, from) == 0)
        SKIP("the file system can");
    EQ(errno, EOPNOTSUPP);
    ERR(ioctl(to, FICLONERANGE, &range), EOPNOTSUPP);
    ERR(ioctl(to, FICLONERANGE, BAD_ADDRESS), EFAULT);
    ERR(ioctl(to, FICLONE, 99), EBADF);
    ERR(ioctl(to, FICLONE, open("from", O_PATH)), EBADF);
    ERR(ioctl(to, FICLONE, append), EBADF);
    ERR(ioctl(append, FICLONE, from), EBADF);
    ERR(ioctl(from, FICLONE, to), EBADF);
    ERR(ioctl(to, FICLONE, dir), EISDIR);
    ERR(ioctl(dir, FICLONE, from), EISDIR);
    ERR(ioctl(to, FICLONE, other), EXDEV);
}
