/* stat, statx, chmod, chown, access, utimensat, xattr, statfs, flock and fcntl locks. */
#include "t.h"
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>

CASE(stat_fields) {
    t_write_file("f", "0123456789");
    struct stat a, b, c;
    OK(stat("f", &a));
    EQ(a.st_mode, S_IFREG | 0644);
    EQ(a.st_size, 10);
    EQ(a.st_nlink, 1);
    EQ(a.st_uid, geteuid());
    EQ(a.st_gid, getegid());
    CHECK(a.st_blksize >= 512);
    FD(fd, open("f", O_RDONLY));
    OK(fstat(fd, &b));
    EQ(a.st_ino, b.st_ino);
    EQ(a.st_dev, b.st_dev);
    OK(fstatat(fd, "", &c, AT_EMPTY_PATH));
    EQ(c.st_ino, a.st_ino);
    ERR(stat("missing", &a), ENOENT);
    ERR(stat("", &a), ENOENT);
    ERR(stat("f", BAD_ADDRESS), EFAULT);
    ERR(stat(BAD_ADDRESS, &a), EFAULT);
    ERR(fstat(-1, &a), EBADF);
    ERR(fstatat(AT_FDCWD, "f", &a, 0x1), EINVAL);
}
CASE(stat_of_pipe_and_directory) {
    struct stat st;
    int ends[2];
    OK(pipe(ends));
    OK(fstat(ends[0], &st));
    CHECK(S_ISFIFO(st.st_mode));
    OK(stat(".", &st));
    CHECK(S_ISDIR(st.st_mode));
    OK(stat("/", &st));
    CHECK(S_ISDIR(st.st_mode));
}
CASE(inode_numbers_differ) {
    t_write_file("a", "");
    t_write_file("b", "");
    struct stat a, b;
    OK(stat("a", &a));
    OK(stat("b", &b));
    CHECK(a.st_ino != b.st_ino);
    EQ(a.st_dev, b.st_dev);
}
CASE(statx_fields) {
    t_write_file("f", "0123");
    struct statx x;
    OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
    EQ(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    EQ(x.stx_size, 4);
    EQ(x.stx_mode, S_IFREG | 0644);
    struct stat st;
    OK(stat("f", &st));
    EQ(x.stx_ino, st.st_ino);
    EQ(makedev(x.stx_dev_major, x.stx_dev_minor), st.st_dev);
    EQ(x.stx_mtime.tv_sec, st.st_mtim.tv_sec);
    ERR(statx(AT_FDCWD, "missing", 0, STATX_BASIC_STATS, &x), ENOENT);
    ERR(statx(AT_FDCWD, "f", 0, 0x80000000, &x), EINVAL);
    ERR(statx(AT_FDCWD, "f", 1 << 20, STATX_BASIC_STATS, &x), EINVAL);
    OK(symlink("f", "s"));
    OK(statx(AT_FDCWD, "s", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &x));
    CHECK(S_ISLNK(x.stx_mode));
}
CASE(chmod_family) {
    t_write_file("f", "");
    struct stat st;
    OK(chmod("f", 04711));
    OK(stat("f", &st));
    EQ(st.st_mode, S_IFREG | 04711);
    FD(fd, open("f", O_RDONLY));
    OK(fchmod(fd, 0600));
    OK(fchmodat(AT_FDCWD, "f", 0444, 0));
    OK(stat("f", &st));
    EQ(st.st_mode, S_IFREG | 0444);
    ERR(chmod("missing", 0600), ENOENT);
    ERR(fchmod(-1, 0600), EBADF);
    OK(mkdir("d", 0700));
    OK(chmod("d", 01777));
    OK(stat("d", &st));
    EQ(st.st_mode, S_IFDIR | 01777);
}
CASE(chown_family) {
    NEED_ROOT();
    t_write_file("f", "");
    struct stat st;
    OK(chown("f", 1234, 2345));
    OK(stat("f", &st));
    EQ(st.st_uid, 1234);
    EQ(st.st_gid, 2345);
    OK(chown("f", -1, 77));
    OK(stat("f", &st));
    EQ(st.st_uid, 1234);
    EQ(st.st_gid, 77);
    OK(symlink("f", "s"));
    OK(lchown("s", 5, 6));
    OK(lstat("s", &st));
    EQ(st.st_uid, 5);
    OK(stat("s", &st));
    EQ(st.st_uid, 1234);
    FD(fd, open("f", O_RDONLY));
    OK(fchown(fd, 8, 9));
    OK(fchownat(fd, "", 10, 11, AT_EMPTY_PATH));
    OK(fstat(fd, &st));
    EQ(st.st_uid, 10);
    ERR(chown("missing", 1, 1), ENOENT);
}
CASE(chown_clears_setuid) {
    NEED_ROOT();
    t_write_file("f", "");
    OK(chmod("f", 06755));
    OK(chown("f", 1000, 1000));
    struct stat st;
    OK(stat("f", &st));
    EQ(st.st_mode & 07777, 0755);
}
CASE(permission_checks_as_user) {
    NEED_ROOT();
    t_write_file("private", "");
    OK(chmod("private", 0600));
    t_write_file("readable", "");
    OK(chmod("readable", 0644));
    t_write_file("grouped", "");
    OK(chown("grouped", 0, 2000));
    OK(chmod("grouped", 0640));
    t_write_file("others-only", "");
    OK(chown("others-only", 1000, 1000));
    OK(chmod("others-only", 0007));
    OK(mkdir("closed", 0700));
    t_write_file("closed/f", "");
    pid_t pid = fork();
    if (pid == 0) {
        FD(here, open(".", O_RDONLY));
        OK(syscall(SYS_setgroups, 1, (unsigned[]){2000}));
        OK(setgid(1000));
        OK(setuid(1000));
        ERR(openat(here, "private", O_RDONLY), EACCES);
        FD(a, openat(here, "readable", O_RDONLY));
        ERR(openat(here, "readable", O_WRONLY), EACCES);
        FD(b, openat(here, "grouped", O_RDONLY));
        ERR(openat(here, "grouped", O_RDWR), EACCES);
        ERR(openat(here, "others-only", O_RDONLY), EACCES);
        ERR(openat(here, "closed/f", O_RDONLY), EACCES);
        ERR(openat(here, "closed", O_RDONLY), EACCES);
        ERR(openat(here, "new", O_CREAT | O_RDWR, 0644), EACCES);
        ERR(mkdirat(here, "new", 0755), EACCES);
        ERR(unlinkat(here, "readable", 0), EACCES);
        ERR(fchmodat(here, "readable", 0777, 0), EPERM);
        ERR(fchownat(here, "readable", 1000, -1, 0), EPERM);
        ERR(faccessat(here, "private", R_OK, 0), EACCES);
        OK(faccessat(here, "readable", R_OK, 0));
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(setgid_directory_inherits) {
    NEED_ROOT();
    OK(mkdir("d", 0755));
    OK(chown("d", 0, 3000));
    OK(chmod("d", 02755));
    t_write_file("d/f", "");
    OK(mkdir("d/sub", 0755));
    struct stat st;
    OK(stat("d/f", &st));
    EQ(st.st_gid, 3000);
    OK(stat("d/sub", &st));
    EQ(st.st_gid, 3000);
    EQ(st.st_mode & 02000, 02000);
}
CASE(access_family) {
    t_write_file("f", "");
    OK(chmod("f", 0600));
    OK(access("f", F_OK));
    OK(access("f", R_OK | W_OK));
    ERR(access("f", X_OK), EACCES);
    ERR(access("missing", F_OK), ENOENT);
    ERR(access("f", 8), EINVAL);
    ERR(access("f/x", F_OK), ENOTDIR);
    OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
    OK(symlink("missing", "s"));
    ERR(access("s", F_OK), ENOENT);
    OK(faccessat(AT_FDCWD, "s", F_OK, AT_SYMLINK_NOFOLLOW));
}
CASE(utimens_sets) {
    t_write_file("f", "");
    struct timespec times[2] = {{1000, 123456789}, {2000, 987654321}};
    OK(utimensat(AT_FDCWD, "f", times, 0));
    struct stat st;
    OK(stat("f", &st));
    EQ(st.st_atim.tv_sec, 1000);
    EQ(st.st_mtim.tv_sec, 2000);
    EQ(st.st_mtim.tv_nsec, 987654321);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_nsec = UTIME_NOW;
    OK(utimensat(AT_FDCWD, "f", times, 0));
    OK(stat("f", &st));
    EQ(st.st_atim.tv_sec, 1000);
    CHECK(labs(st.st_mtim.tv_sec - time(NULL)) <= 2);
    FD(fd, open("f", O_RDWR));
    struct timespec both[2] = {{5, 0}, {6, 0}};
    OK(futimens(fd, both));
    OK(fstat(fd, &st));
    EQ(st.st_mtim.tv_sec, 6);
    OK(utimensat(AT_FDCWD, "f", NULL, 0));
    struct timeval old[2] = {{11, 500000}, {12, 0}};
    OK(utimes("f", old));
    OK(stat("f", &st));
    EQ(st.st_atim.tv_nsec, 500000000);
    OK(symlink("f", "s"));
    OK(utimensat(AT_FDCWD, "s", both, AT_SYMLINK_NOFOLLOW));
    OK(lstat("s", &st));
    EQ(st.st_mtim.tv_sec, 6);
    times[0].tv_nsec = 1000000000;
    ERR(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
    ERR(utimensat(AT_FDCWD, "missing", NULL, 0), ENOENT);
}
CASE(times_change) {
    t_write_file("f", "x");
    struct timespec past[2] = {{1000, 0}, {1000, 0}};
    OK(utimensat(AT_FDCWD, "f", past, 0));
    FD(fd, open("f", O_RDWR));
    EQ(write(fd, "y", 1), 1);
    struct stat st;
    OK(fstat(fd, &st));
    CHECK(labs(st.st_mtim.tv_sec - time(NULL)) <= 2);
    OK(utimensat(AT_FDCWD, ".", past, 0));
    t_write_file("g", "");
    OK(stat(".", &st));
    CHECK(labs(st.st_mtim.tv_sec - time(NULL)) <= 2);
}
CASE(xattr_user) {
    t_write_file("f", "");
    char value[64], names[256];
    if (setxattr("f", "user.one", "1", 1, 0) == -1 && errno == EOPNOTSUPP)
        SKIP("the file system has no user attributes");
    OK(setxattr("f", "user.two", "second", 6, XATTR_CREATE));
    ERR(setxattr("f", "user.two", "x", 1, XATTR_CREATE), EEXIST);
    ERR(setxattr("f", "user.three", "x", 1, XATTR_REPLACE), ENODATA);
    EQ(getxattr("f", "user.two", value, 64), 6);
    CHECK(memcmp(value, "second", 6) == 0);
    EQ(getxattr("f", "user.two", NULL, 0), 6);
    ERR(getxattr("f", "user.two", value, 3), ERANGE);
    ERR(getxattr("f", "user.none", value, 64), ENODATA);
    ssize_t size = listxattr("f", names, sizeof names);
    int ours = 0;
    for (char *name = names; name < names + size; name += strlen(name) + 1)
        ours += strncmp(name, "user.", 5) == 0;
    EQ(ours, 2);
    ERR(listxattr("f", names, 3), ERANGE);
    OK(removexattr("f", "user.one"));
    ERR(removexattr("f", "user.one"), ENODATA);
    FD(fd, open("f", O_RDWR));
    OK(fsetxattr(fd, "user.four", "4", 1, 0));
    EQ(fgetxattr(fd, "user.four", value, 64), 1);
    OK(fremovexattr(fd, "user.four"));
    EQ(flistxattr(fd, NULL, 0) >= 9, 1);
    ERR(setxattr("missing", "user.x", "", 0, 0), ENOENT);
    ERR(setxattr("f", "nonsense", "", 0, 0), EOPNOTSUPP);
    ERR(setxattr("f", "user.x", "", 0, 99), EINVAL);
    OK(symlink("f", "s"));
    ERR(lsetxattr("s", "user.x", "", 0, 0), EPERM);
    EQ(getxattr("s", "user.two", value, 64), 6);
}
CASE(statfs_answers) {
    struct statfs s;
    OK(statfs(".", &s));
    CHECK(s.f_bsize >= 512);
    EQ(s.f_namelen, 255);
    FD(fd, open(".", O_RDONLY));
    OK(fstatfs(fd, &s));
    ERR(statfs("missing", &s), ENOENT);
    ERR(fstatfs(-1, &s), EBADF);
    OK(statfs("/proc", &s));
    EQ(s.f_type, 0x9fa0);
}
CASE(flock_excludes) {
    FD(a, open("f", O_CREAT | O_RDWR, 0644));
    FD(b, open("f", O_RDWR));
    OK(flock(a, LOCK_EX));
    ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    ERR(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    OK(flock(a, LOCK_SH));
    OK(flock(b, LOCK_SH | LOCK_NB));
    ERR(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    OK(flock(b, LOCK_UN));
    OK(flock(a, LOCK_EX | LOCK_NB));
    int copy = dup(a);
    OK(flock(copy, LOCK_EX | LOCK_NB));
    close(a);
    ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    close(copy);
    OK(flock(b, LOCK_EX | LOCK_NB));
    ERR(flock(-1, LOCK_EX), EBADF);
    ERR(flock(b, 0), EINVAL);
}
CASE(flock_waits) {
    FD(a, open("f", O_CREAT | O_RDWR, 0644));
    OK(flock(a, LOCK_EX));
    pid_t pid = fork();
    if (pid == 0) {
        FD(b, open("f", O_RDWR));
        close(a);
        double start = t_now();
        OK(flock(b, LOCK_EX));
        CHECK(t_now() - start > 0.05);
        _exit(0);
    }
    t_sleep_ms(100);
    OK(flock(a, LOCK_UN));
    CHILD_OK(pid);
}
static struct flock region(short type, off_t start, off_t length) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return lock;
}
CASE(fcntl_locks_exclude) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    struct flock lock = region(F_WRLCK, 10, 10);
    OK(fcntl(fd, F_SETLK, &lock));
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        struct flock probe = region(F_RDLCK, 0, 0);
        OK(fcntl(fd, F_GETLK, &probe));
        EQ(probe.l_type, F_WRLCK);
        EQ(probe.l_start, 10);
        EQ(probe.l_len, 10);
        EQ(probe.l_pid, parent);
        probe = region(F_WRLCK, 15, 1);
        errno = 0;
        EQ(fcntl(fd, F_SETLK, &probe), -1);
        CHECK(errno == EAGAIN || errno == EACCES);
        probe = region(F_WRLCK, 20, 5);
        OK(fcntl(fd, F_SETLK, &probe));
        probe = region(F_WRLCK, 0, 10);
        OK(fcntl(fd, F_SETLK, &probe));
        _exit(0);
    }
    CHILD_OK(pid);
    lock = region(F_RDLCK, 0, 0);
    OK(fcntl(fd, F_GETLK, &lock));
    EQ(lock.l_type, F_UNLCK);
    lock.l_type = 99;
    ERR(fcntl(fd, F_SETLK, &lock), EINVAL);
    ERR(fcntl(fd, F_SETLK, BAD_ADDRESS), EFAULT);
}
CASE(fcntl_locks_split_and_close) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    struct flock lock = region(F_WRLCK, 0, 100);
    OK(fcntl(fd, F_SETLK, &lock));
    lock = region(F_UNLCK, 40, 20);
    OK(fcntl(fd, F_SETLK, &lock));
    pid_t pid = fork();
    if (pid == 0) {
        struct flock probe = region(F_WRLCK, 45, 5);
        OK(fcntl(fd, F_SETLK, &probe));
        probe = region(F_WRLCK, 70, 5);
        OK(fcntl(fd, F_GETLK, &probe));
        EQ(probe.l_start, 60);
        EQ(probe.l_len, 40);
        _exit(0);
    }
    CHILD_OK(pid);
    /* Closing any descriptor of the file drops the process's locks. */
    close(dup(fd));
    pid = fork();
    if (pid == 0) {
        struct flock probe = region(F_WRLCK, 0, 0);
        OK(fcntl(fd, F_SETLK, &probe));
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(fcntl_locks_wait_and_deadlock) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    struct flock lock = region(F_WRLCK, 0, 1);
    OK(fcntl(fd, F_SETLK, &lock));
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        struct flock mine = region(F_WRLCK, 1, 1);
        OK(fcntl(fd, F_SETLK, &mine));
        EQ(write(ends[1], "x", 1), 1);
        mine = region(F_WRLCK, 0, 1);
        OK(fcntl(fd, F_SETLKW, &mine));
        _exit(0);
    }
    char byte;
    EQ(read(ends[0], &byte, 1), 1);
    t_sleep_ms(50);
    lock = region(F_WRLCK, 1, 1);
    ERR(fcntl(fd, F_SETLKW, &lock), EDEADLK);
    lock = region(F_UNLCK, 0, 1);
    OK(fcntl(fd, F_SETLK, &lock));
    CHILD_OK(pid);
}
CASE(ofd_locks) {
    FD(a, open("f", O_CREAT | O_RDWR, 0644));
    FD(b, open("f", O_RDWR));
    struct flock lock = region(F_WRLCK, 0, 0);
    OK(fcntl(a, F_OFD_SETLK, &lock));
    lock = region(F_WRLCK, 0, 0);
    ERR(fcntl(b, F_OFD_SETLK, &lock), EAGAIN);
    close(a);
    OK(fcntl(b, F_OFD_SETLK, &lock));
}
CASE(locks_that_touch_are_one_and_the_first_is_told) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    struct flock lock = region(F_WRLCK, 10, 5);
    OK(fcntl(fd, F_SETLK, &lock));
    lock = region(F_RDLCK, 1, 5);
    OK(fcntl(fd, F_SETLK, &lock));
    lock = region(F_WRLCK, 15, 5);
    OK(fcntl(fd, F_SETLK, &lock));
    pid_t pid = fork();
    if (pid == 0) {
        lock = region(F_WRLCK, 0, 0);
        OK(fcntl(fd, F_GETLK, &lock));
        EQ(lock.l_type, F_RDLCK);
        EQ(lock.l_start, 1);
        EQ(lock.l_len, 5);
        lock = region(F_WRLCK, 6, 0);
        OK(fcntl(fd, F_GETLK, &lock));
        EQ(lock.l_type, F_WRLCK);
        EQ(lock.l_start, 10);
        EQ(lock.l_len, 10);
        _exit(0);
    }
    CHILD_OK(pid);
}
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
CASE(modes_of_links_are_not_changed) {
    t_write_file("f", "x");
    OK(symlink("f", "l"));
    OK(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0600, AT_SYMLINK_NOFOLLOW));
    OK(syscall(SYS_fchmodat2, AT_FDCWD, "l", 0640, 0));
    struct stat st;
    OK(stat("f", &st));
    EQ(st.st_mode & 0777, 0640);
    ERR(syscall(SYS_fchmodat2, AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    ERR(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0600, -1), EINVAL);
    ERR(syscall(SYS_fchmodat2, AT_FDCWD, "missing", 0600, 0), ENOENT);
    ERR(syscall(SYS_fchmodat2, 99, "f", 0600, 0), EBADF);
    FD(fd, open("f", O_PATH));
    OK(syscall(SYS_fchmodat2, fd, "", 0604, AT_EMPTY_PATH));
    OK(stat("f", &st));
    EQ(st.st_mode & 0777, 0604);
}
CASE(a_descriptor_for_the_name_only_has_no_attributes) {
    t_write_file("f", "x");
    FD(fd, open("f", O_PATH));
    char value[8];
    ERR(syscall(SYS_fgetxattr, fd, "user.a", value, sizeof value), EBADF);
    ERR(syscall(SYS_fsetxattr, fd, "user.a", value, sizeof value, 0), EBADF);
    ERR(syscall(SYS_flistxattr, fd, value, sizeof value), EBADF);
}
CASE(a_file_system_by_its_device) {
    struct {
        int free_blocks;
        unsigned long free_inodes;
        char names[12], room[32];
    } u;
    struct stat st;
    OK(stat("/proc", &st));
    OK(syscall(SYS_ustat, (unsigned)st.st_dev, &u));
    EQ(u.free_blocks, 0);
    ERR(syscall(SYS_ustat, -1, &u), EINVAL);
    ERR(syscall(SYS_ustat, (unsigned)st.st_dev, BAD_ADDRESS), EFAULT);
}
CASE(attributes_of_security_need_privilege) {
    NEED_ROOT();
    t_write_file("f", "");
    OK(chmod(".", 0755));
    OK(chmod("f", 0666));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setuid(1));
        ERR(setxattr("f", "security.t", "x", 1, 0), EPERM);
        ERR(removexattr("f", "security.t"), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}
