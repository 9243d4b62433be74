/* open, close, read, write, lseek, pread, pwrite, readv, writev, dup, fcntl: man 2 pages on descriptors and bytes. */
#include "t.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

CASE(open_creat_excl) {
    FD(fd, open("f", O_CREAT | O_EXCL | O_RDWR, 0640));
    ERR(open("f", O_CREAT | O_EXCL | O_RDWR, 0640), EEXIST);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_mode, S_IFREG | 0640);
    EQ(st.st_size, 0);
    EQ(st.st_nlink, 1);
}
CASE(open_errors) {
    ERR(open("missing", O_RDONLY), ENOENT);
    ERR(open("", O_RDONLY), ENOENT);
    t_write_file("f", "x");
    ERR(open("f/below", O_RDONLY), ENOTDIR);
    ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    ERR(open(".", O_WRONLY), EISDIR);
    ERR(open(".", O_CREAT | O_RDWR, 0644), EISDIR);
    ERR(open(BAD_ADDRESS, O_RDONLY), EFAULT);
    char name[NAME_MAX + 2];
    memset(name, 'n', sizeof name);
    name[NAME_MAX + 1] = 0;
    ERR(open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
    name[NAME_MAX] = 0;
    FD(fd, open(name, O_CREAT | O_RDWR, 0644));
    char path[PATH_MAX + 10];
    memset(path, '/', sizeof path);
    path[PATH_MAX + 9] = 0;
    ERR(open(path, O_RDONLY), ENAMETOOLONG);
}
CASE(open_umask) {
    umask(027);
    FD(fd, open("f", O_CREAT | O_RDWR, 0777));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_mode & 07777, 0750);
    EQ(umask(022), 027);
}
CASE(open_trunc) {
    t_write_file("f", "some text");
    FD(fd, open("f", O_WRONLY | O_TRUNC));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_size, 0);
}
CASE(open_append) {
    t_write_file("f", "one");
    FD(fd, open("f", O_WRONLY | O_APPEND));
    EQ(lseek(fd, 0, SEEK_SET), 0);
    EQ(write(fd, "two", 3), 3);
    EQ(lseek(fd, 0, SEEK_CUR), 6);
    t_read_is("f", "onetwo");
}
CASE(open_nofollow) {
    t_write_file("f", "x");
    OK(symlink("f", "link"));
    ERR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    FD(fd, open("link", O_PATH | O_NOFOLLOW));
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(S_ISLNK(st.st_mode));
}
CASE(open_path_descriptor) {
    t_write_file("f", "x");
    FD(fd, open("f", O_PATH));
    char byte;
    ERR(read(fd, &byte, 1), EBADF);
    ERR(write(fd, &byte, 1), EBADF);
    ERR(fchmod(fd, 0600), EBADF);
    EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    FD(directory, open(".", O_PATH | O_DIRECTORY));
    FD(again, openat(directory, "f", O_RDONLY));
    EQ(read(again, &byte, 1), 1);
}
CASE(open_lowest_descriptor) {
    FD(a, open(".", O_RDONLY));
    FD(b, open(".", O_RDONLY));
    EQ(b, a + 1);
    OK(close(a));
    FD(c, open(".", O_RDONLY));
    EQ(c, a);
}
CASE(open_tmpfile) {
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0 && errno == EOPNOTSUPP)
        SKIP("the file system has no O_TMPFILE");
    CHECK(fd >= 0);
    EQ(write(fd, "abc", 3), 3);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_nlink, 0);
    EQ(st.st_size, 3);
}
CASE(openat_relative_and_bad) {
    OK(mkdir("d", 0755));
    t_write_file("d/f", "in d");
    FD(d, open("d", O_RDONLY | O_DIRECTORY));
    FD(fd, openat(d, "f", O_RDONLY));
    FD(up, openat(d, "../d/f", O_RDONLY));
    ERR(openat(999, "f", O_RDONLY), EBADF);
    ERR(openat(fd, "f", O_RDONLY), ENOTDIR);
    FD(absolute, openat(999, "/", O_RDONLY));
}
CASE(close_errors) {
    FD(fd, open(".", O_RDONLY));
    OK(close(fd));
    ERR(close(fd), EBADF);
    ERR(close(-1), EBADF);
    ERR(close(100000), EBADF);
}
CASE(close_range_some) {
    FD(a, open(".", O_RDONLY));
    FD(b, open(".", O_RDONLY));
    FD(c, open(".", O_RDONLY));
    OK(syscall(SYS_close_range, a, b, 0));
    ERR(fcntl(a, F_GETFD), EBADF);
    ERR(fcntl(b, F_GETFD), EBADF);
    OK(fcntl(c, F_GETFD));
    OK(syscall(SYS_close_range, c, c, 4 /* CLOEXEC */));
    EQ(fcntl(c, F_GETFD), FD_CLOEXEC);
    ERR(syscall(SYS_close_range, 5, 4, 0), EINVAL);
}
CASE(read_write_basic) {
    char buffer[16] = {0};
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(write(fd, "hello world", 11), 11);
    EQ(read(fd, buffer, 16), 0);
    EQ(lseek(fd, 6, SEEK_SET), 6);
    EQ(read(fd, buffer, 16), 5);
    CHECK(strcmp(buffer, "world") == 0);
    EQ(write(fd, "", 0), 0);
    EQ(read(fd, buffer, 0), 0);
}
CASE(read_errors) {
    char byte;
    FD(fd, open("f", O_CREAT | O_WRONLY, 0644));
    EQ(write(fd, "abc", 3), 3);
    ERR(read(fd, &byte, 1), EBADF);
    ERR(read(-1, &byte, 1), EBADF);
    FD(back, open("f", O_RDONLY));
    ERR(read(back, BAD_ADDRESS, 3), EFAULT);
    ERR(write(back, "x", 1), EBADF);
    ERR(write(fd, BAD_ADDRESS, 3), EFAULT);
    FD(directory, open(".", O_RDONLY));
    ERR(read(directory, &byte, 1), EISDIR);
}
CASE(read_into_partly_bad_memory) {
    long page = sysconf(_SC_PAGESIZE);
    char *area = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    OK(munmap(area + page, page));
    FD(zero, open("/dev/zero", O_RDONLY));
    ssize_t got = read(zero, area + page - 8, 16);
    CHECK(got == 8 || (got == -1 && errno == EFAULT));
}
CASE(read_large) {
    size_t size = 3 << 20;
    char *out = malloc(size), *in = calloc(1, size);
    for (size_t i = 0; i < size; i++)
        out[i] = i * 2654435761u >> 13;
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(write(fd, out, size), size);
    EQ(lseek(fd, 0, SEEK_SET), 0);
    EQ(read(fd, in, size), size);
    CHECK(memcmp(in, out, size) == 0);
}
CASE(lseek_all) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(write(fd, "0123456789", 10), 10);
    EQ(lseek(fd, -3, SEEK_END), 7);
    EQ(lseek(fd, 1, SEEK_CUR), 8);
    EQ(lseek(fd, 100, SEEK_SET), 100);
    ERR(lseek(fd, -1, SEEK_SET), EINVAL);
    ERR(lseek(fd, 0, 99), EINVAL);
    EQ(lseek(fd, 0, SEEK_CUR), 100);
    ERR(lseek(-1, 0, SEEK_SET), EBADF);
    int ends[2];
    OK(pipe(ends));
    ERR(lseek(ends[0], 0, SEEK_CUR), ESPIPE);
}
CASE(lseek_hole) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(pwrite(fd, "x", 1, 1 << 20), 1);
    char byte = 1;
    EQ(pread(fd, &byte, 1, 1000), 1);
    EQ(byte, 0);
    EQ(lseek(fd, 0, SEEK_HOLE) >= 0, 1);
    ERR(lseek(fd, 2 << 20, SEEK_DATA), ENXIO);
}
CASE(pread_pwrite) {
    char buffer[8] = {0};
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(pwrite(fd, "abcdef", 6, 2), 6);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(pread(fd, buffer, 3, 4), 3);
    CHECK(memcmp(buffer, "cde", 3) == 0);
    EQ(pread(fd, buffer, 3, 100), 0);
    ERR(pread(fd, buffer, 3, -1), EINVAL);
    ERR(pwrite(fd, buffer, 3, -1), EINVAL);
    int ends[2];
    OK(pipe(ends));
    ERR(pread(ends[0], buffer, 1, 0), ESPIPE);
    ERR(pwrite(ends[1], buffer, 1, 0), ESPIPE);
}
CASE(readv_writev) {
    char a[4] = {0}, b[4] = {0};
    struct iovec out[3] = {{"one", 3}, {"", 0}, {"two!", 4}}, in[2] = {{a, 3}, {b, 4}};
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(writev(fd, out, 3), 7);
    EQ(lseek(fd, 0, SEEK_SET), 0);
    EQ(readv(fd, in, 2), 7);
    CHECK(memcmp(a, "one", 3) == 0 && memcmp(b, "two!", 4) == 0);
    EQ(preadv(fd, in, 2, 3), 4);
    CHECK(memcmp(a, "two", 3) == 0);
    EQ(pwritev(fd, out, 3, 7), 7);
    EQ(lseek(fd, 0, SEEK_END), 14);
    EQ(preadv2(fd, in, 1, 0, 0), 3);
    ERR(readv(fd, in, -1), EINVAL);
    ERR(writev(fd, BAD_ADDRESS, 1), EFAULT);
    EQ(writev(fd, out, 0), 0);
    ERR(readv(fd, in, 1025), EINVAL);
    struct iovec bad[1] = {{a, (size_t)-1}};
    ERR(writev(fd, bad, 1), EINVAL);
}
CASE(dup_family) {
    FD(fd, open("f", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    FD(copy, dup(fd));
    EQ(fcntl(copy, F_GETFD), 0);
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ(write(fd, "ab", 2), 2);
    EQ(lseek(copy, 0, SEEK_CUR), 2);
    EQ(dup2(fd, 50), 50);
    EQ(dup2(fd, fd), fd);
    ERR(dup2(99, 5), EBADF);
    ERR(dup2(fd, -1), EBADF);
    EQ(dup3(fd, 51, O_CLOEXEC), 51);
    EQ(fcntl(51, F_GETFD), FD_CLOEXEC);
    ERR(dup3(fd, fd, 0), EINVAL);
    ERR(dup3(fd, 52, O_APPEND), EINVAL);
    ERR(dup(99), EBADF);
    EQ(fcntl(fd, F_DUPFD, 60), 60);
    EQ(fcntl(fd, F_DUPFD_CLOEXEC, 60), 61);
    EQ(fcntl(61, F_GETFD), FD_CLOEXEC);
    ERR(fcntl(fd, F_DUPFD, -1), EINVAL);
}
CASE(fcntl_flags) {
    FD(fd, open("f", O_CREAT | O_WRONLY | O_APPEND, 0644));
    EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_WRONLY | O_APPEND);
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
    OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ERR(fcntl(fd, 9999), EINVAL);
    ERR(fcntl(-1, F_GETFL), EBADF);
}
CASE(sendfile_copies) {
    t_write_file("from", "0123456789");
    FD(in, open("from", O_RDONLY));
    FD(out, open("to", O_CREAT | O_RDWR, 0644));
    off_t offset = 3;
    EQ(sendfile(out, in, &offset, 4), 4);
    EQ(offset, 7);
    EQ(lseek(in, 0, SEEK_CUR), 0);
    EQ(sendfile(out, in, NULL, 100), 10);
    EQ(sendfile(out, in, NULL, 100), 0);
    t_read_is("to", "34560123456789");
    int ends[2];
    OK(pipe(ends));
    offset = 0;
    EQ(sendfile(ends[1], in, &offset, 5), 5);
    char buffer[8];
    EQ(read(ends[0], buffer, 8), 5);
    ERR(sendfile(out, 999, NULL, 1), EBADF);
    ERR(sendfile(in, out, NULL, 1), EBADF);
}
CASE(copy_file_range_copies) {
    t_write_file("from", "0123456789");
    FD(in, open("from", O_RDONLY));
    FD(out, open("to", O_CREAT | O_RDWR, 0644));
    off_t from = 2, to = 1;
    EQ(copy_file_range(in, &from, out, &to, 5, 0), 5);
    EQ(from, 7);
    EQ(to, 6);
    char buffer[8] = {0};
    EQ(pread(out, buffer, 8, 0), 6);
    CHECK(memcmp(buffer, "\00023456", 6) == 0);
    EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 10);
    EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
    ERR(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
    ERR(copy_file_range(in, NULL, in, NULL, 1, 0), EBADF);
    FD(directory, open(".", O_RDONLY));
    ERR(copy_file_range(directory, NULL, out, NULL, 1, 0), EISDIR);
}
CASE(fsync_family) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    OK(fsync(fd));
    OK(fdatasync(fd));
    OK(syncfs(fd));
    sync();
    ERR(fsync(-1), EBADF);
    int ends[2];
    OK(pipe(ends));
    ERR(fsync(ends[0]), EINVAL);
    ERR(fdatasync(ends[1]), EINVAL);
}
CASE(fallocate_extends) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    struct stat st;
    if (fallocate(fd, 0, 0, 8192) == -1 && errno == EOPNOTSUPP)
        SKIP("the file system has no fallocate");
    OK(fstat(fd, &st));
    EQ(st.st_size, 8192);
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536));
    OK(fstat(fd, &st));
    EQ(st.st_size, 8192);
    OK(posix_fallocate(fd, 0, 10000));
    ERR(fallocate(fd, 0, -1, 10), EINVAL);
    ERR(fallocate(fd, 0, 0, 0), EINVAL);
    ERR(fallocate(-1, 0, 0, 1), EBADF);
    FD(back, open("f", O_RDONLY));
    ERR(fallocate(back, 0, 0, 1), EBADF);
}
CASE(posix_fadvise_accepts) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
    EQ(posix_fadvise(fd, 0, 0, 99), EINVAL);
    EQ(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL), EBADF);
}
CASE(truncate_family) {
    t_write_file("f", "0123456789");
    OK(truncate("f", 4));
    t_read_is("f", "0123");
    FD(fd, open("f", O_RDWR));
    OK(ftruncate(fd, 8));
    char buffer[8];
    EQ(pread(fd, buffer, 8, 0), 8);
    CHECK(memcmp(buffer, "0123\0\0\0\0", 8) == 0);
    ERR(truncate("missing", 0), ENOENT);
    ERR(truncate(".", 0), EISDIR);
    ERR(truncate("f", -1), EINVAL);
    ERR(ftruncate(fd, -1), EINVAL);
    FD(back, open("f", O_RDONLY));
    ERR(ftruncate(back, 0), EINVAL);
}
CASE(file_size_limit) {
    struct { long cur, max; } limit = {100, 100};
    signal(SIGXFSZ, SIG_IGN);
    OK(syscall(SYS_prlimit64, 0, 1 /* FSIZE */, &limit, NULL));
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    char buffer[200] = {0};
    EQ(write(fd, buffer, 200), 100);
    ERR(write(fd, buffer, 1), EFBIG);
    ERR(ftruncate(fd, 101), EFBIG);
}
CASE(descriptor_limit) {
    struct { long cur, max; } limit = {10, 10};
    OK(syscall(SYS_prlimit64, 0, 7 /* NOFILE */, &limit, NULL));
    int fd, last = -1;
    while ((fd = open(".", O_RDONLY)) >= 0)
        last = fd;
    EQ(errno, EMFILE);
    EQ(last, 9);
    ERR(dup(0), EMFILE);
    ERR(fcntl(0, F_DUPFD, 10), EINVAL);
    ERR(dup2(0, 10), EBADF);
    int ends[2];
    close(9);
    ERR(pipe(ends), EMFILE);
}
CASE(dev_files) {
    char buffer[64];
    FD(null, open("/dev/null", O_RDWR));
    EQ(write(null, buffer, 64), 64);
    EQ(read(null, buffer, 64), 0);
    FD(zero, open("/dev/zero", O_RDWR));
    memset(buffer, 1, 64);
    EQ(read(zero, buffer, 64), 64);
    for (int i = 0; i < 64; i++)
        EQ(buffer[i], 0);
    FD(full, open("/dev/full", O_RDWR));
    ERR(write(full, buffer, 1), ENOSPC);
    EQ(read(full, buffer, 4), 4);
    FD(urandom, open("/dev/urandom", O_RDONLY));
    EQ(read(urandom, buffer, 64), 64);
    int different = 0;
    for (int i = 1; i < 64; i++)
        different |= buffer[i] != buffer[0];
    CHECK(different);
    int bits = 0;
    OK(syscall(SYS_ioctl, urandom, 0x80045200 /* RNDGETENTCNT */, &bits));
    CHECK(bits > 0);
    ERR(syscall(SYS_ioctl, full, 0x80045200, &bits), ENOTTY);
    struct stat st;
    OK(stat("/dev/null", &st));
    CHECK(S_ISCHR(st.st_mode));
    EQ(st.st_rdev, 0x103);
}
CASE(ioctl_errors) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    int value;
    ERR(syscall(SYS_ioctl, fd, 0x5401 /* TCGETS */, &value), ENOTTY);
    ERR(syscall(SYS_ioctl, -1, 0x5401, &value), EBADF);
    int ends[2];
    OK(pipe(ends));
    EQ(write(ends[1], "abc", 3), 3);
    OK(syscall(SYS_ioctl, ends[0], 0x541b /* FIONREAD */, &value));
    EQ(value, 3);
    value = 1;
    OK(syscall(SYS_ioctl, ends[0], 0x5421 /* FIONBIO */, &value));
    EQ(fcntl(ends[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    CHECK(!isatty(fd));
}
CASE(unlinked_file_lives_on) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(write(fd, "still", 5), 5);
    OK(unlink("f"));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_nlink, 0);
    char buffer[5];
    EQ(pread(fd, buffer, 5, 0), 5);
    ERR(stat("f", &st), ENOENT);
}
CASE(shared_offset_after_fork) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    pid_t pid = fork();
    if (pid == 0) {
        EQ(write(fd, "child", 5), 5);
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(lseek(fd, 0, SEEK_CUR), 5);
}
CASE(positions_are_looked_at_before_rights) {
    int ends[2];
    OK(pipe(ends));
    struct iovec one = {"x", 1};
    ERR(pwrite(ends[0], "x", 1, 0), ESPIPE);
    ERR(pwritev(ends[0], &one, 1, 0), ESPIPE);
    ERR(pwrite(ends[0], "x", 1, -1), EINVAL);
}
CASE(streams_have_no_positions_whatever_the_rights) {
    int p[2];
    OK(pipe(p));
    char byte = 0;
    struct iovec v = {&byte, 1};
    ERR(pread(p[1], &byte, 1, 0), ESPIPE);
    ERR(preadv(p[1], &v, 1, 0), ESPIPE);
    ERR(preadv2(p[1], &v, 1, 0, 0), ESPIPE);
    ERR(pwritev2(p[0], &v, 1, 0, 0), ESPIPE);
    ERR(pwritev2(p[0], &v, 1, -1, 0), EBADF);
    ERR(preadv2(p[1], &v, 1, -1, 0), EBADF);
}
CASE(only_files_are_read_ahead) {
    FD(directory, open(".", O_RDONLY));
    ERR(readahead(directory, 0, 4096), EINVAL);
    int ends[2];
    OK(pipe(ends));
    ERR(readahead(ends[0], 0, 4096), EINVAL);
}
CASE(the_smallest_pipe_is_a_page) {
    int ends[2];
    OK(pipe(ends));
    EQ(fcntl(ends[0], F_SETPIPE_SZ, 0), 4096);
    EQ(fcntl(ends[1], F_GETPIPE_SZ), 4096);
}
CASE(a_range_is_written) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    EQ(write(fd, "text", 4), 4);
    OK(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE));
    OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    ERR(sync_file_range(fd, -1, 4, 0), EINVAL);
    ERR(sync_file_range(fd, 0, -1, 0), EINVAL);
    ERR(sync_file_range(fd, 0, 4, 8), EINVAL);
    ERR(sync_file_range(99, 0, 4, 0), EBADF);
    int ends[2];
    OK(pipe(ends));
    ERR(sync_file_range(ends[1], 0, 4, 0), ESPIPE);
}
CASE(devices_have_no_positions) {
    static const char *const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        FD(fd, open(names[i], O_RDONLY));
        char byte;
        CHECK(read(fd, &byte, 1) >= 0);
        for (int whence = SEEK_SET; whence <= SEEK_HOLE; whence++) {
            EQ(lseek(fd, -5, whence), 0);
            EQ(lseek(fd, LONG_MAX, whence), 0);
        }
        ERR(lseek(fd, 0, SEEK_HOLE + 1), EINVAL);
    }
}
