/* Flags of files: ioctl_iflags(2), file_getattr(2), file_setattr(2). */
#include "t.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

#define NR_file_getattr 468
#define NR_file_setattr 469
#define LINUX_IMMUTABLE 9

struct attr {
    uint64_t xflags;
    uint32_t extsize, nextents, projid, cowextsize;
};
static long get(int dir, const char *path, struct attr *a) {
    return syscall(NR_file_getattr, dir, path, a, sizeof *a, 0);
}
static long set(int dir, const char *path, struct attr *a) {
    return syscall(NR_file_setattr, dir, path, a, sizeof *a, 0);
}

/* Everything is done on a tmpfs of its own: others differ in what they keep. */
static void begin(void) {
    NEED_ROOT();
    if (unshare(CLONE_NEWNS) != 0)
        SKIP("no mount namespace of its own");
    OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    OK(mkdir("m", 0755));
    OK(mount("none", "m", "tmpfs", 0, NULL));
    OK(chdir("m"));
    t_write_file("f", "text");
    OK(mkdir("d", 0755));
    t_write_file("d/within", "");
    FD(fd, open("f", O_RDONLY));
    int flags;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0)
        SKIP("the host's tmpfs has no flags (Linux 6.6 has)");
    int immutable = FS_IMMUTABLE_FL, none = 0;
    if (ioctl(fd, FS_IOC_SETFLAGS, &immutable) == -1 && errno == EPERM)
        SKIP("without CAP_LINUX_IMMUTABLE");
    OK(ioctl(fd, FS_IOC_SETFLAGS, &none));
    close(fd);
}
static void flag(const char *path, int flags) {
    FD(fd, open(path, O_RDONLY));
    OK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
    int now = -1;
    OK(ioctl(fd, FS_IOC_GETFLAGS, &now));
    EQ(now, flags);
    close(fd);
}
static int attributes(const char *path) {
    struct statx s;
    OK(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &s));
    EQ(s.stx_attributes_mask & 0x70, 0x70);
    return s.stx_attributes & 0x70;
}

CASE(immutable) {
    begin();
    FD(open_before, open("f", O_RDWR));
    OK(link("f", "other"));
    flag("f", FS_IMMUTABLE_FL);
    EQ(attributes("f"), STATX_ATTR_IMMUTABLE);
    ERR(open("f", O_WRONLY), EPERM);
    ERR(open("f", O_RDONLY | O_TRUNC), EPERM);
    ERR(truncate("f", 1), EPERM);
    ERR(chmod("f", 0600), EPERM);
    ERR(chown("f", 1, 1), EPERM);
    ERR(utimensat(AT_FDCWD, "f", NULL, 0), EPERM);
    ERR(link("f", "new"), EPERM);
    ERR(unlink("f"), EPERM);
    ERR(unlink("other"), EPERM);
    ERR(rename("f", "new"), EPERM);
    ERR(rename("d/within", "f"), EPERM);
    ERR(access("f", W_OK), EPERM);
    ERR(setxattr("f", "user.a", "b", 1, 0), EPERM);
    ERR(removexattr("f", "user.a"), EPERM);
    ERR(fallocate(open_before, 0, 0, 10000), EPERM);
    EQ(write(open_before, "more", 4), 4);
    OK(ftruncate(open_before, 2));
    t_read_is("f", "mo");
    flag("f", 0);
    EQ(attributes("f"), 0);
    OK(unlink("f"));
    flag("d", FS_IMMUTABLE_FL);
    ERR(open("d/new", O_WRONLY | O_CREAT, 0600), EPERM);
    ERR(mkdir("d/new", 0700), EPERM);
    ERR(unlink("d/within"), EPERM);
    ERR(rename("d/within", "new"), EPERM);
    ERR(rmdir("d"), EPERM);
    t_write_file("d/within", "changed");
}
CASE(only_growing) {
    begin();
    FD(open_before, open("f", O_RDWR));
    flag("f", FS_APPEND_FL);
    EQ(attributes("f"), STATX_ATTR_APPEND);
    ERR(open("f", O_WRONLY), EPERM);
    ERR(open("f", O_WRONLY | O_APPEND | O_TRUNC), EPERM);
    FD(fd, open("f", O_WRONLY | O_APPEND));
    EQ(write(fd, "more", 4), 4);
    t_read_is("f", "textmore");
    ERR(fcntl(fd, F_SETFL, 0), EPERM);
    OK(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
    ERR(ftruncate(fd, 1), EPERM);
    ERR(ftruncate(open_before, 1), EPERM);
    ERR(truncate("f", 1), EPERM);
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 10000));
    OK(fallocate(fd, 0, 0, 10000));
    ERR(fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 10), EPERM);
    ERR(chmod("f", 0600), EPERM);
    ERR(unlink("f"), EPERM);
    ERR(link("f", "new"), EPERM);
    ERR(setxattr("f", "user.a", "b", 1, 0), EPERM);
    OK(utimensat(AT_FDCWD, "f", NULL, 0));
    struct timespec then[2] = {{1, 0}, {1, 0}};
    ERR(utimensat(AT_FDCWD, "f", then, 0), EPERM);
    flag("d", FS_APPEND_FL);
    t_write_file("d/new", "");
    ERR(unlink("d/new"), EPERM);
    ERR(rename("d/new", "d/newer"), EPERM);
}
CASE(who_may_and_what) {
    begin();
    FD(fd, open("f", O_RDONLY));
    FD(place, open("f", O_PATH));
    int flags = FS_NODUMP_FL | FS_NOATIME_FL, got = 0;
    OK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
    EQ(attributes("f"), STATX_ATTR_NODUMP);
    flags = FS_COMPR_FL;
    ERR(ioctl(fd, FS_IOC_SETFLAGS, &flags), EOPNOTSUPP);
    ERR(ioctl(fd, FS_IOC_SETFLAGS, NULL), EFAULT);
    ERR(ioctl(fd, FS_IOC_GETFLAGS, NULL), EFAULT);
    ERR(ioctl(place, FS_IOC_GETFLAGS, &got), EBADF);
    int ends[2];
    OK(pipe(ends));
    ERR(ioctl(ends[0], FS_IOC_GETFLAGS, &got), ENOTTY);
    struct fsxattr x;
    OK(ioctl(fd, FS_IOC_FSGETXATTR, &x));
    EQ(x.fsx_xflags, FS_XFLAG_NODUMP | FS_XFLAG_NOATIME);
    x.fsx_xflags = FS_XFLAG_APPEND;
    OK(ioctl(fd, FS_IOC_FSSETXATTR, &x));
    OK(ioctl(fd, FS_IOC_GETFLAGS, &got));
    EQ(got, FS_APPEND_FL);
    x.fsx_projid = 3;
    ERR(ioctl(fd, FS_IOC_FSSETXATTR, &x), EOPNOTSUPP);
    x = (struct fsxattr){.fsx_xflags = FS_XFLAG_SYNC};
    ERR(ioctl(fd, FS_IOC_FSSETXATTR, &x), EOPNOTSUPP);
    flag("f", 0);
    pid_t pid = fork();
    if (pid == 0) {
        OK(prctl(PR_CAPBSET_DROP, LINUX_IMMUTABLE, 0, 0, 0));
        OK(setresuid(7, 7, 7));
        flags = FS_NODUMP_FL;
        ERR(ioctl(fd, FS_IOC_SETFLAGS, &flags), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(chown("f", 7, 7));
    pid = fork();
    if (pid == 0) {
        OK(setresuid(7, 7, 7));
        flags = FS_NODUMP_FL;
        OK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
        flags |= FS_APPEND_FL;
        ERR(ioctl(fd, FS_IOC_SETFLAGS, &flags), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
    /* What is made in a directory has some of its flags. */
    flag("d", FS_NODUMP_FL | FS_APPEND_FL);
    t_write_file("d/new", "");
    EQ(attributes("d/new"), STATX_ATTR_NODUMP);
}
CASE(by_name) {
    begin();
    struct attr a = {0};
    if (get(AT_FDCWD, "f", &a) == -1 && errno == ENOSYS)
        SKIP("the host has no such call");
    flag("f", FS_NODUMP_FL);
    OK(get(AT_FDCWD, "f", &a));
    EQ(a.xflags, FS_XFLAG_NODUMP);
    FD(dir, open("d", O_RDONLY));
    a.xflags = FS_XFLAG_APPEND;
    OK(set(dir, "within", &a));
    EQ(attributes("d/within"), STATX_ATTR_APPEND);
    ERR(open("d/within", O_WRONLY), EPERM);
    OK(syscall(NR_file_getattr, dir, "", &a, sizeof a, AT_EMPTY_PATH));
    EQ(a.xflags, 0);
    OK(symlink("f", "link"));
    OK(get(AT_FDCWD, "link", &a));
    EQ(a.xflags, FS_XFLAG_NODUMP);
    ERR(syscall(NR_file_getattr, AT_FDCWD, "link", &a, sizeof a, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    int ends[2];
    OK(pipe(ends));
    ERR(get(ends[0], "f", &a), ENOTDIR);
    ERR(get(-1, "f", &a), EBADF);
    ERR(get(AT_FDCWD, "none", &a), ENOENT);
    ERR(get(AT_FDCWD, NULL, &a), EFAULT);
    ERR(get(AT_FDCWD, "f", NULL), EFAULT);
    ERR(set(AT_FDCWD, "f", NULL), EFAULT);
    ERR(syscall(NR_file_getattr, AT_FDCWD, "f", &a, sizeof a - 1, 0), EINVAL);
    ERR(syscall(NR_file_getattr, AT_FDCWD, "f", &a, 4097, 0), E2BIG);
    ERR(syscall(NR_file_getattr, AT_FDCWD, "f", &a, sizeof a, 1), EINVAL);
    ERR(syscall(NR_file_setattr, AT_FDCWD, "f", &a, sizeof a, 1), EINVAL);
    ERR(syscall(NR_file_setattr, AT_FDCWD, "f", &a, sizeof a - 1, 0), EINVAL);
    a = (struct attr){.xflags = 1ULL << 40};
    ERR(set(AT_FDCWD, "f", &a), EINVAL);
    a = (struct attr){.xflags = FS_XFLAG_EXTSIZE, .extsize = 4096};
    ERR(set(AT_FDCWD, "f", &a), EOPNOTSUPP);
    ERR(set(AT_FDCWD, "d", &a), EINVAL);
}
