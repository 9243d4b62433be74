/* Mounts by descriptor: fsopen(2), fsconfig(2), fsmount(2), fspick(2), open_tree(2), move_mount(2), mount_setattr(2). In a
   user and a mount namespace of the case's own. */
#include "mounts.h"
#include "t.h"
#include <sys/statvfs.h>

enum { OPEN_CLONE = 1, RECURSIVE = 0x8000, F_EMPTY = 4, T_EMPTY = 0x40, SET_GROUP_ = 0x100, BENEATH_ = 0x200 };
enum { C_FLAG, C_STRING, C_BINARY, C_PATH, C_PATH_EMPTY, C_FD, C_CREATE, C_RECONFIGURE, C_EXCL };

struct attr {
    uint64_t set, clear, propagation, userns;
};
static int open_tree_(int dir, const char *path, unsigned flags) {
    return syscall(428, dir, path, flags);
}
static int move_mount_(int from, const char *a, int to, const char *b, unsigned flags) {
    return syscall(429, from, a, to, b, flags);
}
static int fsopen_(const char *name, unsigned flags) {
    return syscall(430, name, flags);
}
static int fsconfig_(int fd, unsigned cmd, const char *key, const void *value, int aux) {
    return syscall(431, fd, cmd, key, value, aux);
}
static int fsmount_(int fd, unsigned flags, unsigned attr) {
    return syscall(432, fd, flags, attr);
}
static int fspick_(int dir, const char *path, unsigned flags) {
    return syscall(433, dir, path, flags);
}
static int setattr(int dir, const char *path, unsigned flags, struct attr a) {
    return syscall(442, dir, path, flags, &a, sizeof a);
}
/* A mount of a fresh tmpfs that stands nowhere. */
static int nowhere(const char *source) {
    FD(fs, fsopen_("tmpfs", 1));
    OK(fsconfig_(fs, C_STRING, "source", source, 0));
    OK(fsconfig_(fs, C_CREATE, NULL, NULL, 0));
    FD(m, fsmount_(fs, 1, 0));
    close(fs);
    return m;
}
/* The next message of a context. */
static void says(int fs, const char *text) {
    char got[256] = "";
    ssize_t n = read(fs, got, sizeof got - 1);
    CHECK(n >= 0);
    if (strcmp(got, text) != 0)
        t_fail("'%s', not '%s'", got, text);
}

CASE(fsopen) {
    alone();
    OK(mkdir("d", 0700));
    FD(fs, fsopen_("tmpfs", 1));
    EQ(fcntl(fs, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(fs, F_GETFL) & O_ACCMODE, O_RDWR);
    char link[64], to[64];
    sprintf(link, "/proc/self/fd/%d", fs);
    ssize_t n = readlink(link, to, sizeof to - 1);
    CHECK(n > 0);
    to[n] = 0;
    CHECK(strcmp(to, "anon_inode:[fscontext]") == 0);
    ERR(lseek(fs, 0, SEEK_SET), ESPIPE);
    ERR(write(fs, "x", 1), EINVAL);
    OK(fsconfig_(fs, C_STRING, "source", "here", 0));
    OK(fsconfig_(fs, C_STRING, "size", "1m", 0));
    OK(fsconfig_(fs, C_STRING, "mode", "750", 0));
    OK(fsconfig_(fs, C_STRING, "nr_inodes", "0x20", 0));
    ERR(fsmount_(fs, 0, 0), EINVAL);
    ERR(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0), EBUSY);
    OK(fsconfig_(fs, C_CREATE, NULL, NULL, 0));
    ERR(fsconfig_(fs, C_CREATE, NULL, NULL, 0), EBUSY);
    ERR(fsconfig_(fs, C_FLAG, "ro", NULL, 0), EBUSY);
    FD(m, fsmount_(fs, 1, 1 | 2 | 0x10));
    EQ(fcntl(m, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(m, F_GETFL) & O_PATH);
    ERR(fsmount_(fs, 0, 0), EBUSY);
    CHECK(*info("d", 3) == 0);
    OK(move_mount_(m, "", AT_FDCWD, "d", F_EMPTY));
    INFO("d", "/ ro,nosuid,noatime - tmpfs here rw,size=1024k,nr_inodes=32,mode=750");
    ERR(open("d/f", O_CREAT | O_WRONLY, 0600), EROFS);
    ERR(umount("d"), EBUSY);
    ERR(move_mount_(m, "", m, "", F_EMPTY | T_EMPTY), ELOOP);
    close(m);
    /* The context goes on as one that changes what it made. */
    OK(fsconfig_(fs, C_STRING, "size", "2m", 0));
    OK(fsconfig_(fs, C_FLAG, "ro", NULL, 0));
    OK(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0));
    INFO("d", "/ ro,nosuid,noatime - tmpfs here ro,size=2048k,nr_inodes=32,mode=750");
    OK(umount("d"));
}

CASE(fsopen_errors) {
    alone();
    ERR(fsopen_("nosuchfs", 0), ENODEV);
    ERR(fsopen_("tmpfs.x", 0), ENODEV);
    ERR(fsopen_("", 0), ENODEV);
    ERR(fsopen_("tmpfs", 2), EINVAL);
    ERR(fsopen_(BAD_ADDRESS, 0), EFAULT);
    ERR(fsopen_(NULL, 0), EFAULT);
    FD(fs, fsopen_("tmpfs", 0));
    EQ(fcntl(fs, F_GETFD), 0);
    ERR(fsmount_(fs, 2, 0), EINVAL);
    ERR(fsmount_(fs, 0, 0x100), EINVAL);
    ERR(fsmount_(fs, 0, 0x30), EINVAL);
    ERR(fsmount_(fs, 0, 0x100000), EINVAL);
    ERR(fsmount_(-1, 0, 0), EBADF);
    ERR(fsmount_(1, 0, 0), EINVAL);
    ERR(fspick_(-1, "x", 0), EBADF);
    ERR(fspick_(AT_FDCWD, "none", 0), ENOENT);
    ERR(fspick_(AT_FDCWD, ".", 0x10), EINVAL);
    OK(mkdir("plain", 0700));
    ERR(fspick_(AT_FDCWD, "plain", 0), EINVAL);
}

CASE(fsconfig_errors) {
    alone();
    FD(fs, fsopen_("tmpfs", 0));
    ERR(fsconfig_(-1, C_FLAG, "rw", NULL, 0), EINVAL);
    ERR(fsconfig_(99, C_FLAG, "rw", NULL, 0), EBADF);
    ERR(fsconfig_(1, C_FLAG, "rw", NULL, 0), EINVAL);
    ERR(fsconfig_(fs, 100, "rw", NULL, 0), EOPNOTSUPP);
    ERR(fsconfig_(fs, C_FLAG, NULL, NULL, 0), EINVAL);
    ERR(fsconfig_(fs, C_FLAG, "rw", "x", 0), EINVAL);
    ERR(fsconfig_(fs, C_FLAG, "rw", NULL, 1), EINVAL);
    ERR(fsconfig_(fs, C_STRING, "source", NULL, 0), EINVAL);
    ERR(fsconfig_(fs, C_STRING, BAD_ADDRESS, "x", 0), EFAULT);
    ERR(fsconfig_(fs, C_STRING, "size", BAD_ADDRESS, 0), EFAULT);
    ERR(fsconfig_(fs, C_BINARY, "size", "x", 0), EINVAL);
    ERR(fsconfig_(fs, C_BINARY, "size", "x", (1 << 20) + 1), EINVAL);
    ERR(fsconfig_(fs, C_PATH, "size", "x", -1), EINVAL);
    ERR(fsconfig_(fs, C_PATH, "size", "", AT_FDCWD), ENOENT);
    ERR(fsconfig_(fs, C_FD, "size", NULL, -1), EINVAL);
    ERR(fsconfig_(fs, C_FD, "size", NULL, 99), EBADF);
    ERR(fsconfig_(fs, C_CREATE, "x", NULL, 0), EINVAL);
    ERR(read(fs, link, 0), ENODATA);
    char *longest = malloc(300);
    memset(longest, 'a', 299);
    longest[299] = 0;
    ERR(fsconfig_(fs, C_FLAG, longest, NULL, 0), EINVAL);
    ERR(fsconfig_(fs, C_STRING, "source", longest, 0), EINVAL);
    ERR(read(fs, longest, 300), ENODATA);
    /* Whatever they are set to. */
    OK(fsconfig_(fs, C_PATH, "sync", "/dev/null", AT_FDCWD));
    OK(fsconfig_(fs, C_PATH_EMPTY, "async", "", AT_FDCWD));
    OK(fsconfig_(fs, C_FD, "ro", NULL, 1));
    OK(fsconfig_(fs, C_BINARY, "rw", "x", 1));
}

CASE(messages) {
    alone();
    FD(fs, fsopen_("tmpfs", 0));
    const char *wrong[][2] = {{"size", "abc"}, {"size", ""}, {"size", "1x"}, {"mode", "9"}, {"nr_inodes", "5x"}};
    for (int i = 0; i < 5; i++)
        ERR(fsconfig_(fs, C_STRING, wrong[i][0], wrong[i][1], 0), EINVAL);
    char little[4];
    ERR(read(fs, little, sizeof little), EMSGSIZE);
    for (int i = 0; i < 5; i++) {
        char want[64];
        sprintf(want, "e tmpfs: Bad value for '%s'\n", wrong[i][0]);
        says(fs, want);
    }
    ERR(read(fs, little, sizeof little), ENODATA);
    ERR(fsconfig_(fs, C_FLAG, "size", NULL, 0), EINVAL);
    says(fs, "e tmpfs: Bad value for 'size'\n");
    ERR(fsconfig_(fs, C_STRING, "", "x", 0), EINVAL);
    says(fs, "e tmpfs: Unknown parameter ''\n");
    ERR(fsconfig_(fs, C_STRING, "nonsense", "x", 0), EINVAL);
    says(fs, "e tmpfs: Unknown parameter 'nonsense'\n");
    ERR(fsconfig_(fs, C_STRING, "inode64", "x", 0), EINVAL);
    says(fs, "e tmpfs: Unexpected value for 'inode64'\n");
    ERR(fsconfig_(fs, C_FLAG, "source", NULL, 0), EINVAL);
    says(fs, "e Non-string source\n");
    OK(fsconfig_(fs, C_STRING, "source", "a", 0));
    ERR(fsconfig_(fs, C_STRING, "source", "b", 0), EINVAL);
    says(fs, "e Multiple sources\n");
    /* Eight are kept. */
    for (int i = 0; i < 10; i++) {
        char key[8];
        sprintf(key, "k%d", i);
        ERR(fsconfig_(fs, C_FLAG, key, NULL, 0), EINVAL);
    }
    says(fs, "e tmpfs: Unknown parameter 'k2'\n");
    FD(ram, fsopen_("ramfs", 0));
    OK(fsconfig_(ram, C_STRING, "nonsense", "x", 0));
    ERR(fsconfig_(ram, C_STRING, "mode", "9", 0), EINVAL);
    says(ram, "e ramfs: Bad value for 'mode'\n");
    FD(over, fsopen_("overlay", 0));
    ERR(fsconfig_(over, C_STRING, "lowerdir", "none", 0), ENOENT);
    t_write_file("file", "");
    ERR(fsconfig_(over, C_STRING, "upperdir", "file", 0), EINVAL);
    says(over, "e overlay: file is not a directory\n");
    ERR(fsconfig_(over, C_CREATE, NULL, NULL, 0), EINVAL);
    ERR(fsconfig_(over, C_FLAG, "ro", NULL, 0), EBUSY);
    ERR(fsconfig_(over, C_CREATE, NULL, NULL, 0), EBUSY);
}

CASE(ramfs) {
    alone();
    OK(mkdir("d", 0700));
    OK(mount("r", "d", "ramfs", 0, "whatever"));
    struct stat s;
    OK(stat("d", &s));
    EQ(s.st_mode, S_IFDIR | 0755);
    INFO("d", "/ rw,relatime - ramfs r rw");
}

CASE(flags_of_file_systems) {
    alone();
    OK(mkdir("d", 0700));
    OK(mount("x", "d", "tmpfs", MS_SYNCHRONOUS | MS_DIRSYNC | MS_LAZYTIME, "size=1m"));
    INFO("d", "/ rw,relatime - tmpfs x rw,sync,dirsync,lazytime,size=1024k");
    OK(mount(NULL, "d", NULL, MS_REMOUNT, NULL));
    INFO("d", "/ rw,relatime - tmpfs x rw,dirsync,size=1024k");
    OK(mount("y", "d", "tmpfs", 0, "ro,size=1m"));
    INFO("d", "/ rw,relatime - tmpfs y ro,size=1024k");
    ERR(mount("y", "d", "tmpfs", 0, "source=z"), EINVAL);
}

CASE(overlay) {
    alone();
    const char *dirs[] = {"l1", "l2", "u", "w", "m"};
    for (int i = 0; i < 5; i++)
        OK(mkdir(dirs[i], 0755));
    t_write_file("l1/one", "1");
    t_write_file("l2/two", "2");
    FD(fs, fsopen_("overlay", 0));
    OK(fsconfig_(fs, C_STRING, "lowerdir+", "l1", 0));
    FD(l2, open("l2", O_PATH));
    OK(fsconfig_(fs, C_FD, "lowerdir+", NULL, l2));
    ERR(fsconfig_(fs, C_PATH, "upperdir", "u", AT_FDCWD), EINVAL);
    OK(fsconfig_(fs, C_STRING, "upperdir", "u", 0));
    OK(fsconfig_(fs, C_STRING, "workdir", "w", 0));
    OK(fsconfig_(fs, C_CREATE, NULL, NULL, 0));
    FD(m, fsmount_(fs, 0, 0));
    OK(move_mount_(m, "", AT_FDCWD, "m", F_EMPTY));
    t_read_is("m/one", "1");
    t_read_is("m/two", "2");
    t_write_file("m/new", "3");
    t_read_is("u/new", "3");
}

CASE(detached) {
    alone();
    OK(mkdir("d", 0700));
    int m = nowhere("x");
    FD(f, openat(m, "f", O_CREAT | O_RDWR, 0600));
    EQ(write(f, "text", 4), 4);
    OK(mkdirat(m, "sub", 0700));
    struct stat s;
    OK(fstatat(m, "sub", &s, 0));
    /* Nothing is above it. */
    struct stat root, up;
    OK(fstat(m, &root));
    OK(fstatat(m, "..", &up, 0));
    EQ(root.st_ino, up.st_ino);
    ERR(fstatat(m, "../d", &s, 0), ENOENT);
    int twin = dup(m);
    close(m);
    OK(fstatat(twin, "f", &s, 0));
    FD(dir, openat(twin, ".", O_RDONLY | O_DIRECTORY));
    close(twin);
    /* It is gone, but for who has it open. */
    char got[8] = "";
    EQ(pread(f, got, 8, 0), 4);
    OK(fstatat(dir, "f", &s, 0));
    ERR(open_tree_(dir, "", AT_EMPTY_PATH | OPEN_CLONE), EINVAL);
    ERR(move_mount_(dir, "", AT_FDCWD, "d", F_EMPTY), EINVAL);
    /* It stays where it was moved to. */
    int n = nowhere("y");
    OK(mkdirat(n, "sub", 0700));
    OK(move_mount_(n, "", AT_FDCWD, "d", F_EMPTY));
    close(n);
    OK(access("d/sub", F_OK));
    INFO("d", "/ rw,relatime - tmpfs y rw");
    OK(umount("d"));
    ERR(access("d/sub", F_OK), ENOENT);
}

CASE(detached_on_detached) {
    alone();
    OK(mkdir("d", 0700));
    int a = nowhere("a"), b = nowhere("b");
    OK(mkdirat(a, "in", 0700));
    OK(mkdirat(b, "deep", 0700));
    OK(move_mount_(b, "", a, "in", F_EMPTY));
    struct stat s;
    OK(fstatat(a, "in/deep", &s, 0));
    ERR(move_mount_(a, "", b, "deep", F_EMPTY), EINVAL);
    char path[64];
    sprintf(path, "/proc/self/fd/%d/in/deep", a);
    ERR(mount("x", path, "tmpfs", 0, NULL), EINVAL);
    ERR(umount2(path, MNT_DETACH), EINVAL);
    close(b);
    OK(fstatat(a, "in/deep", &s, 0));
    OK(move_mount_(a, "", AT_FDCWD, "d", F_EMPTY));
    OK(access("d/in/deep", F_OK));
    CHECK(*info("d/in", 3));
    close(a);
    ERR(umount("d"), EBUSY);
    OK(umount("d/in"));
    OK(umount("d"));
}

CASE(open_tree) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mkdir("a/in", 0700));
    OK(mount("y", "a/in", "tmpfs", 0, NULL));
    OK(mkdir("a/in/deep", 0700));
    ERR(open_tree_(AT_FDCWD, "a", 0x10000), EINVAL);
    ERR(open_tree_(AT_FDCWD, "a", RECURSIVE), EINVAL);
    ERR(open_tree_(AT_FDCWD, "none", 0), ENOENT);
    ERR(open_tree_(-1, "a", OPEN_CLONE), EBADF);
    ERR(open_tree_(AT_FDCWD, "", OPEN_CLONE), ENOENT);
    FD(plain, open_tree_(AT_FDCWD, "a", O_CLOEXEC));
    CHECK(fcntl(plain, F_GETFL) & O_PATH);
    EQ(unique(plain, ""), unique(AT_FDCWD, "a"));
    FD(flat, open_tree_(AT_FDCWD, "a", OPEN_CLONE));
    EQ(fcntl(flat, F_GETFD), 0);
    CHECK(unique(flat, "") != unique(AT_FDCWD, "a"));
    struct stat s;
    OK(fstatat(flat, "in", &s, 0));
    ERR(fstatat(flat, "in/deep", &s, 0), ENOENT);
    FD(deep, open_tree_(AT_FDCWD, "a", OPEN_CLONE | RECURSIVE));
    OK(fstatat(deep, "in/deep", &s, 0));
    OK(move_mount_(deep, "", AT_FDCWD, "b", F_EMPTY));
    OK(access("b/in/deep", F_OK));
    /* A copy of a copy. */
    FD(again, open_tree_(flat, "", AT_EMPTY_PATH | OPEN_CLONE));
    OK(fstatat(again, "in", &s, 0));
    FD(dir, open_tree_(AT_FDCWD, "a/in/deep", OPEN_CLONE | O_CLOEXEC));
    OK(mkdir("c", 0700));
    OK(move_mount_(dir, "", AT_FDCWD, "c", F_EMPTY));
    INFO("c", "/deep rw,relatime - tmpfs y rw");
    /* Not from a copy that was made for another namespace. */
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWNS));
        ERR(open_tree_(flat, "", AT_EMPTY_PATH | OPEN_CLONE), EINVAL);
        ERR(open_tree_(plain, "", AT_EMPTY_PATH | OPEN_CLONE), EINVAL);
        FD(same, open_tree_(plain, "", AT_EMPTY_PATH));
        OK(fstatat(same, "in", &s, 0));
        _exit(0);
    }
    CHILD_OK(pid);
    OK(mount(NULL, "a", NULL, MS_UNBINDABLE, NULL));
    ERR(open_tree_(AT_FDCWD, "a", OPEN_CLONE), EINVAL);
}

CASE(move_mount) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    t_write_file("file", "");
    OK(symlink("b", "link"));
    int m = nowhere("x");
    OK(mkdirat(m, "in", 0700));
    ERR(move_mount_(-1, "", AT_FDCWD, "a", F_EMPTY), EBADF);
    ERR(move_mount_(m, "none", AT_FDCWD, "a", F_EMPTY), ENOENT);
    ERR(move_mount_(m, "", -1, "a", F_EMPTY), EBADF);
    ERR(move_mount_(m, "", AT_FDCWD, "none", F_EMPTY), ENOENT);
    ERR(move_mount_(m, "", AT_FDCWD, "a", F_EMPTY | 8), EINVAL);
    ERR(move_mount_(m, "", AT_FDCWD, "a", F_EMPTY | SET_GROUP_ | BENEATH_), EINVAL);
    ERR(move_mount_(m, "", AT_FDCWD, "a", 0), ENOENT);
    ERR(move_mount_(m, "in", AT_FDCWD, "a", 0), EINVAL);
    ERR(move_mount_(m, "", AT_FDCWD, "file", F_EMPTY), EINVAL);
    ERR(move_mount_(m, "", AT_FDCWD, "link", F_EMPTY), EINVAL);
    ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", 0), EINVAL);
    OK(move_mount_(m, "", AT_FDCWD, "link", F_EMPTY | 0x10));
    CHECK(*info("b", 3));
    /* As MS_MOVE. */
    OK(move_mount_(AT_FDCWD, "b", AT_FDCWD, "a", 0));
    OK(access("a/in", F_OK));
    ERR(access("b/in", F_OK), ENOENT);
    ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, "a/in", 0), ELOOP);
    OK(move_mount_(m, "", AT_FDCWD, "b", F_EMPTY));
    FD(to, open("a", O_PATH));
    OK(move_mount_(m, NULL, to, NULL, F_EMPTY | T_EMPTY));
    OK(access("a/in", F_OK));
    /* Not out of what is shared. */
    OK(mount("y", "b", "tmpfs", 0, NULL));
    OK(mount(NULL, "b", NULL, MS_SHARED, NULL));
    OK(mkdir("b/in", 0700));
    OK(mount("z", "b/in", "tmpfs", 0, NULL));
    ERR(move_mount_(AT_FDCWD, "b/in", AT_FDCWD, "file", 0), EINVAL);
    OK(mkdir("c", 0700));
    ERR(move_mount_(AT_FDCWD, "b/in", AT_FDCWD, "c", 0), EINVAL);
    int gone = nowhere("gone");
    FD(removed, open("c", O_PATH));
    OK(rmdir("c"));
    ERR(move_mount_(gone, "", removed, "", F_EMPTY | T_EMPTY), ENOENT);
}

CASE(beneath) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mount("upper", "b", "tmpfs", 0, NULL));
    OK(mkdir("b/upper", 0700));
    int m = nowhere("lower");
    OK(mkdirat(m, "lower", 0700));
    ERR(move_mount_(m, "", AT_FDCWD, "a", F_EMPTY | BENEATH_), EINVAL);
    ERR(move_mount_(m, "", AT_FDCWD, "/", F_EMPTY | BENEATH_), EINVAL);
    FD(to, open("b", O_PATH));
    OK(move_mount_(m, "", to, "", F_EMPTY | T_EMPTY | BENEATH_));
    close(to);
    close(m);
    OK(access("b/upper", F_OK));
    ERR(access("b/lower", F_OK), ENOENT);
    OK(umount("b"));
    OK(access("b/lower", F_OK));
    OK(umount("b"));
    ERR(access("b/lower", F_OK), ENOENT);
}

/* A copy that arrives where something stands goes below it. */
CASE(tucked) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mkdir("a/in", 0700));
    OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    OK(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    OK(mount("mine", "b/in", "tmpfs", 0, NULL));
    OK(mkdir("b/in/mine", 0700));
    OK(mount("theirs", "a/in", "tmpfs", 0, NULL));
    OK(mkdir("a/in/theirs", 0700));
    OK(access("b/in/mine", F_OK));
    OK(umount("b/in"));
    OK(access("b/in/theirs", F_OK));
    OK(mount("mine", "b/in", "tmpfs", 0, NULL));
    OK(mkdir("b/in/mine", 0700));
    OK(umount("a/in"));
    OK(access("b/in/mine", F_OK));
    OK(umount("b/in"));
    ERR(access("b/in/theirs", F_OK), ENOENT);
}

CASE(set_group) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mkdir("a/in", 0700));
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", SET_GROUP_), EINVAL);
    OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b/in", SET_GROUP_), EINVAL);
    ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, ".", SET_GROUP_), EINVAL);
    OK(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", SET_GROUP_));
    ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", SET_GROUP_), EINVAL);
    OK(mount("y", "a/in", "tmpfs", 0, NULL));
    OK(mkdir("a/in/seen", 0700));
    OK(access("b/in/seen", F_OK));
}

CASE(fspick) {
    alone();
    OK(mkdir("d", 0700));
    OK(mount("x", "d", "tmpfs", 0, "size=1m"));
    FD(fs, fspick_(AT_FDCWD, "d", 1));
    EQ(fcntl(fs, F_GETFD), FD_CLOEXEC);
    ERR(fsmount_(fs, 0, 0), EBUSY);
    ERR(fsconfig_(fs, C_CREATE, NULL, NULL, 0), EBUSY);
    OK(fsconfig_(fs, C_STRING, "sync", "false", 0));
    OK(fsconfig_(fs, C_FLAG, "ro", NULL, 0));
    INFO("d", "/ rw,relatime - tmpfs x rw,size=1024k");
    OK(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0));
    INFO("d", "/ rw,relatime - tmpfs x ro,sync,size=1024k");
    OK(fsconfig_(fs, C_FLAG, "rw", NULL, 0));
    OK(fsconfig_(fs, C_STRING, "nr_inodes", "50", 0));
    OK(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0));
    INFO("d", "/ rw,relatime - tmpfs x rw,size=1024k,nr_inodes=50");
    static char page[8192];
    FD(f, open("d/f", O_CREAT | O_WRONLY, 0600));
    EQ(write(f, page, sizeof page), sizeof page);
    OK(fsconfig_(fs, C_STRING, "size", "4k", 0));
    ERR(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0), EINVAL);
    says(fs, "e tmpfs: Too small a size for current use\n");
    ERR(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0), EBUSY);
    ERR(fsconfig_(fs, C_FLAG, "ro", NULL, 0), EBUSY);
    /* Somebody writes. */
    FD(dir, open("d", O_PATH));
    FD(again, fspick_(dir, "", 8));
    OK(fsconfig_(again, C_FLAG, "ro", NULL, 0));
    ERR(fsconfig_(again, C_RECONFIGURE, NULL, NULL, 0), EBUSY);
    ERR(mount(NULL, "d", NULL, MS_REMOUNT | MS_RDONLY, NULL), EBUSY);
    ERR(mount(NULL, "d", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EBUSY);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 1}), EBUSY);
    close(f);
    OK(mount(NULL, "d", NULL, MS_REMOUNT | MS_RDONLY, NULL));
}

CASE(mount_setattr) {
    alone();
    OK(mkdir("d", 0700));
    OK(mount("x", "d", "tmpfs", MS_NODEV, NULL));
    OK(mkdir("d/in", 0700));
    OK(mount("y", "d/in", "tmpfs", 0, NULL));
    struct {
        struct attr a;
        uint64_t more;
    } big = {0};
    EQ(syscall(442, -1, "none", 0, &big, 40), 0);
    big.more = 1;
    ERR(syscall(442, AT_FDCWD, "d", 0, &big, 40), E2BIG);
    ERR(syscall(442, AT_FDCWD, "d", 0, &big, 31), EINVAL);
    ERR(syscall(442, AT_FDCWD, "d", 0, &big, 4097), E2BIG);
    ERR(syscall(442, AT_FDCWD, "d", 0, BAD_ADDRESS, 32), EFAULT);
    ERR(syscall(442, AT_FDCWD, "d", 0x10000, &big, 32), EINVAL);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 0x100}), EINVAL);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 0x10}), EINVAL);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.clear = 0x10}), EINVAL);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 0x30, .clear = 0x70}), EINVAL);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.propagation = -1}), EINVAL);
    ERR(setattr(AT_FDCWD, "d", 0, (struct attr){.propagation = MS_SHARED | MS_SLAVE}), EINVAL);
    ERR(setattr(AT_FDCWD, "none", 0, (struct attr){.set = 1}), ENOENT);
    ERR(setattr(-1, "d", 0, (struct attr){.set = 1}), EBADF);
    OK(mkdir("plain", 0700));
    ERR(setattr(AT_FDCWD, "plain", 0, (struct attr){.set = 1}), EINVAL);
    OK(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 1 | 2 | 8 | 0x80 | 0x200000, .clear = 4}));
    INFO("d", "/ ro,nosuid,noexec,nodiratime,relatime,nosymfollow - tmpfs x rw");
    INFO("d/in", "/ rw,relatime - tmpfs y rw");
    OK(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 0x10, .clear = 0x70 | 1 | 0x200000}));
    INFO("d", "/ rw,nosuid,noexec,noatime,nodiratime - tmpfs x rw");
    OK(setattr(AT_FDCWD, "d", 0, (struct attr){.set = 0x20, .clear = 0x70}));
    INFO("d", "/ rw,nosuid,noexec,nodiratime - tmpfs x rw");
    /* All of them or none. */
    FD(f, open("d/in/f", O_CREAT | O_WRONLY, 0600));
    ERR(setattr(AT_FDCWD, "d", RECURSIVE, (struct attr){.set = 1}), EBUSY);
    INFO("d", "/ rw,nosuid,noexec,nodiratime - tmpfs x rw");
    close(f);
    OK(setattr(AT_FDCWD, "d", RECURSIVE, (struct attr){.set = 1, .propagation = MS_SHARED}));
    CHECK(strstr(info("d", 3), "/ ro,nosuid,noexec,nodiratime shared:"));
    CHECK(strstr(info("d/in", 3), "/ ro,relatime shared:"));
    OK(setattr(AT_FDCWD, "d", RECURSIVE, (struct attr){.propagation = MS_UNBINDABLE}));
    INFO("d/in", "/ ro,relatime unbindable - tmpfs y rw");
    int m = nowhere("n");
    OK(setattr(m, "", AT_EMPTY_PATH, (struct attr){.set = 2}));
    struct statvfs v;
    OK(fstatvfs(m, &v));
    CHECK(v.f_flag & ST_NOSUID);
    struct attr nodev = {.set = 4};
    FD(copy, syscall(467, m, "", AT_EMPTY_PATH | OPEN_CLONE, &nodev, sizeof nodev));
    OK(fstatvfs(copy, &v));
    EQ(v.f_flag & (ST_NOSUID | ST_NODEV), ST_NOSUID | ST_NODEV);
    ERR(syscall(467, m, "", AT_EMPTY_PATH, NULL, sizeof nodev), EINVAL);
    nodev.set = 0x100;
    ERR(syscall(467, m, "", AT_EMPTY_PATH, &nodev, sizeof nodev), EINVAL);
}

CASE(owners_mapped) {
    alone();
    int m = nowhere("x");
    FD(users, open("/proc/self/ns/user", O_RDONLY));
    FD(mounts, open("/proc/self/ns/mnt", O_RDONLY));
    ERR(setattr(m, "", AT_EMPTY_PATH, (struct attr){.set = 0x100000, .userns = 99}), EBADF);
    ERR(setattr(m, "", AT_EMPTY_PATH, (struct attr){.set = 0x100000, .userns = -1}), EINVAL);
    ERR(setattr(m, "", AT_EMPTY_PATH, (struct attr){.set = 0x100000, .userns = 1}), EINVAL);
    ERR(setattr(m, "", AT_EMPTY_PATH, (struct attr){.set = 0x100000, .userns = mounts}), EINVAL);
    ERR(setattr(m, "", AT_EMPTY_PATH, (struct attr){.clear = 0x100000}), EINVAL);
    ERR(setattr(AT_FDCWD, ".", 0, (struct attr){.set = 0x100000, .userns = users}), EINVAL);
}

/* What was mounted with more rights keeps what it has. */
CASE(locked) {
    alone();
    OK(mkdir("a", 0755));
    OK(mkdir("b", 0755));
    OK(mount("x", "a", "tmpfs", MS_RDONLY | MS_NOSUID, NULL));
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWUSER | CLONE_NEWNS));
        ERR(setattr(AT_FDCWD, "a", 0, (struct attr){.clear = 1}), EPERM);
        ERR(setattr(AT_FDCWD, "a", 0, (struct attr){.set = 0x10, .clear = 0x70}), EPERM);
        OK(setattr(AT_FDCWD, "a", 0, (struct attr){.set = 8}));
        ERR(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", 0), EINVAL);
        ERR(open_tree_(AT_FDCWD, ".", OPEN_CLONE), EINVAL);
        FD(copy, open_tree_(AT_FDCWD, "a", OPEN_CLONE));
        ERR(setattr(copy, "", AT_EMPTY_PATH, (struct attr){.clear = 1}), EPERM);
        FD(fs, fspick_(AT_FDCWD, "a", 0));
        OK(fsconfig_(fs, C_FLAG, "rw", NULL, 0));
        ERR(fsconfig_(fs, C_RECONFIGURE, NULL, NULL, 0), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}

CASE(not_permitted) {
    alone();
    OK(mkdir("a", 0755));
    FD(fs, fsopen_("tmpfs", 0));
    FD(bad, fsopen_("proc", 0));
    ERR(fsconfig_(bad, C_CREATE, NULL, NULL, 0), EPERM);
    /* It has not failed: somebody else may make it. */
    OK(fsconfig_(bad, C_FLAG, "ro", NULL, 0));
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t none[6] = {0};
    OK(syscall(SYS_capset, &header, none));
    ERR(fsopen_("tmpfs", 0), EPERM);
    ERR(fsopen_("nosuchfs", 77), EPERM);
    ERR(fspick_(AT_FDCWD, ".", 0), EPERM);
    OK(fsconfig_(fs, C_STRING, "size", "1m", 0));
    ERR(fsconfig_(fs, C_CREATE, NULL, NULL, 0), EPERM);
    ERR(fsmount_(fs, 0, 0), EPERM);
    ERR(open_tree_(AT_FDCWD, ".", OPEN_CLONE), EPERM);
    ERR(move_mount_(AT_FDCWD, ".", AT_FDCWD, "a", 0), EPERM);
    ERR(setattr(AT_FDCWD, ".", 0, (struct attr){0}), EPERM);
    OK(open_tree_(AT_FDCWD, ".", 0));
}

CASE(not_on_links_to_files) {
    alone();
    t_write_file("a", "a");
    t_write_file("b", "b");
    FD(f, open("a", O_RDONLY));
    char path[64];
    sprintf(path, "/proc/%d/fd/%d", getpid(), f);
    FD(link, open(path, O_PATH | O_NOFOLLOW));
    sprintf(path, "/proc/%d/fd/%d", getpid(), link);
    ERR(mount("b", path, NULL, MS_BIND, NULL), ENOENT);
}

/* What file systems show once is not mounted a second time over itself. */
CASE(once) {
    alone();
    OK(mkdir("d", 0700));
    OK(unshare(CLONE_NEWIPC));
    OK(mount("q", "d", "mqueue", 0, NULL));
    struct statvfs v;
    OK(statvfs("d", &v));
    ERR(mount("q", "d", "mqueue", 0, NULL), EBUSY);
    FD(fs, fsopen_("mqueue", 0));
    ERR(fsconfig_(fs, C_FLAG, "nonsense", NULL, 0), EINVAL);
    says(fs, "e mqueue: Unknown parameter 'nonsense'\n");
    ERR(fsconfig_(fs, C_EXCL, NULL, NULL, 0), EBUSY);
    FD(tmp, fsopen_("tmpfs", 0));
    OK(fsconfig_(tmp, C_EXCL, NULL, NULL, 0));
}
