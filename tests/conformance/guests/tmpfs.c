/* tmpfs: holes, limits, names, large directories, renames. In /dev/shm, which is one natively too. */
#include "t.h"
#include <dirent.h>
#include <grp.h>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define PAGE 4096

/* A directory of this case's own; the working directory from then on. */
static void shm(void) {
    char path[100];
    snprintf(path, sizeof path, "/dev/shm/t.%s.%d", t_name, getpid());
    OK(mkdir(path, 0700));
    OK(chdir(path));
}
static void done(void) {
    char path[100];
    snprintf(path, sizeof path, "/dev/shm/t.%s.%d", t_name, getpid());
    OK(chdir("/"));
    OK(rmdir(path));
}
static long blocks(int fd) {
    struct stat st;
    OK(fstat(fd, &st));
    return st.st_blocks;
}
static void holes(int fd, long scale) {
    char *block = calloc(scale, PAGE);
    memset(block, 'x', scale * PAGE);
    long unit = scale * PAGE;
    OK(ftruncate(fd, 8 * unit));
    EQ(blocks(fd), 0);
    EQ(lseek(fd, 0, SEEK_HOLE), 0);
    ERR(lseek(fd, 0, SEEK_DATA), ENXIO);
    EQ(pwrite(fd, block, unit, 2 * unit), unit);
    EQ(blocks(fd), unit / 512);
    EQ(lseek(fd, 0, SEEK_DATA), 2 * unit);
    EQ(lseek(fd, 2 * unit + 5, SEEK_DATA), 2 * unit + 5);
    EQ(lseek(fd, 2 * unit + 5, SEEK_HOLE), 3 * unit);
    ERR(lseek(fd, 3 * unit, SEEK_DATA), ENXIO);
    ERR(lseek(fd, 8 * unit, SEEK_HOLE), ENXIO);
    OK(fallocate(fd, 0, 4 * unit, unit));
    EQ(blocks(fd), 2 * unit / 512);
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 7 * unit, 2 * unit));
    EQ(blocks(fd), 4 * unit / 512);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_size, 8 * unit);
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * unit, unit));
    EQ(blocks(fd), 3 * unit / 512);
    char c = 1;
    EQ(pread(fd, &c, 1, 2 * unit + 7), 1);
    EQ(c, 0);
    ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, unit), EOPNOTSUPP);
    ERR(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, unit), EOPNOTSUPP);
    ERR(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, unit), EOPNOTSUPP);
    ERR(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, unit), EOPNOTSUPP);
    ERR(fallocate(fd, 0, -1, unit), EINVAL);
    ERR(fallocate(fd, 0, 0, 0), EINVAL);
    OK(fallocate(fd, 0, 9 * unit, 10));
    OK(fstat(fd, &st));
    EQ(st.st_size, 9 * unit + 10);
    OK(ftruncate(fd, 1));
    EQ(blocks(fd), 0);
    /* What a shorter file leaves behind is zeroes. */
    EQ(pwrite(fd, block, 10, 0), 10);
    OK(ftruncate(fd, 5));
    OK(ftruncate(fd, 10));
    char got[10];
    EQ(pread(fd, got, 10, 0), 10);
    CHECK(memcmp(got, "xxxxx\0\0\0\0\0", 10) == 0);
    free(block);
}
CASE(holes_small) {
    shm();
    FD(fd, open("f", O_CREAT | O_RDWR, 0600));
    holes(fd, 1);
    OK(unlink("f"));
    done();
}
CASE(holes_large) {
    shm();
    FD(fd, open("f", O_CREAT | O_RDWR, 0600));
    holes(fd, 100);
    OK(unlink("f"));
    done();
}
CASE(space_is_counted) {
    shm();
    struct statvfs before, after;
    FD(fd, open("f", O_CREAT | O_RDWR, 0600));
    OK(statvfs(".", &before));
    CHECK(before.f_blocks > 0 && before.f_files > 0 && before.f_namemax == 255);
    OK(fallocate(fd, 0, 0, 8 << 20));
    FD(other, open("g", O_CREAT | O_RDWR, 0600));
    OK(statvfs(".", &after));
    /* Others use /dev/shm as well, natively. */
    long used = before.f_bfree - after.f_bfree, files = before.f_ffree - after.f_ffree;
    CHECK(used >= 2048 && used < 4096);
    CHECK(files >= 1 && files < 100);
    ERR(fallocate(fd, 0, 0, (off_t)before.f_blocks * 4096 + (1 << 30)), ENOSPC);
    struct statfs type;
    OK(statfs(".", &type));
    EQ(type.f_type, 0x01021994);
    OK(unlink("f"));
    OK(unlink("g"));
    done();
}
CASE(names) {
    shm();
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    ERR(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    ERR(mkdir(name, 0700), ENAMETOOLONG);
    name[255] = 0;
    FD(fd, open(name, O_CREAT | O_RDWR, 0600));
    OK(unlink(name));
    const char *odd = "\xff\xfe\x80 \n\t*";
    FD(fd2, open(odd, O_CREAT | O_RDWR, 0600));
    DIR *d = opendir(".");
    struct dirent *e;
    int seen = 0;
    while ((e = readdir(d)))
        seen += strcmp(e->d_name, odd) == 0;
    EQ(seen, 1);
    closedir(d);
    OK(unlink(odd));
    /* A path may be 4095 bytes long. */
    char path[4200];
    memset(path, '/', sizeof path);
    path[0] = '.';
    strcpy(path + 4094, "x");
    FD(fd3, open(path, O_CREAT | O_RDWR, 0600));
    OK(unlink("x"));
    strcpy(path + 4094, "xy");
    ERR(open(path, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    done();
}
CASE(large_directory) {
    shm();
    int n = 20000;
    char name[32];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%d", i);
        OK(symlink("t", name));
    }
    DIR *d = opendir(".");
    struct dirent *e;
    int seen = 0;
    while ((e = readdir(d)))
        seen++;
    EQ(seen, n + 2);
    rewinddir(d);
    /* Removed while it is read. */
    seen = 0;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.') {
            OK(unlink(e->d_name));
            seen++;
        }
    EQ(seen, n);
    closedir(d);
    done();
}
static int move(const char *a, const char *b, unsigned flags) {
    return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}
CASE(renames) {
    shm();
    t_write_file("a", "a");
    t_write_file("b", "b");
    OK(mkdir("d", 0700));
    OK(mkdir("d/sub", 0700));
    ERR(move("a", "b", 1), EEXIST);
    ERR(move("a", "none", 2), ENOENT);
    ERR(move("a", "b", 3), EINVAL);
    ERR(move("a", "b", 2 | 4), EINVAL);
    ERR(move("a", "b", 8), EINVAL);
    ERR(move("none", "x", 1), ENOENT);
    OK(move("a", "b", 2));
    t_read_is("a", "b");
    t_read_is("b", "a");
    /* A file and a directory change places. */
    OK(move("a", "d/sub", 2));
    t_read_is("d/sub", "b");
    struct stat st;
    OK(stat("a", &st));
    CHECK(S_ISDIR(st.st_mode));
    OK(stat("d", &st));
    EQ(st.st_nlink, 2);
    OK(stat(".", &st));
    EQ(st.st_nlink, 4);
    ERR(move("d", "d/x", 0), EINVAL);
    ERR(move("d", "d/sub", 2), EINVAL);
    ERR(move("b", "a", 0), EISDIR);
    ERR(move("a", "b", 0), ENOTDIR);
    ERR(move("a", "d", 0), ENOTEMPTY);
    OK(link("b", "b2"));
    OK(move("b", "b2", 0));
    OK(stat("b", &st));
    EQ(st.st_nlink, 2);
    OK(move("b", "c", 1));
    t_read_is("c", "a");
    ERR(move("c", "/proc/c", 0), EXDEV);
    ERR(move(".", "x", 0), EBUSY);
    ERR(move("d/..", "x", 0), EBUSY);
    OK(rmdir("a"));
    OK(unlink("b2"));
    OK(unlink("c"));
    OK(unlink("d/sub"));
    OK(rmdir("d"));
    done();
}
CASE(whiteouts) {
    NEED_ROOT();
    shm();
    t_write_file("a", "a");
    t_write_file("b", "b");
    OK(move("a", "b", 4));
    t_read_is("b", "a");
    struct stat st;
    OK(lstat("a", &st));
    EQ(st.st_mode & S_IFMT, S_IFCHR);
    EQ(st.st_rdev, 0);
    t_write_file("c", "c");
    OK(move("b", "new", 4 | 1));
    OK(lstat("b", &st));
    EQ(st.st_mode & S_IFMT, S_IFCHR);
    ERR(move("new", "c", 4 | 1), EEXIST);
    OK(unlink("a"));
    OK(unlink("b"));
    OK(unlink("c"));
    OK(unlink("new"));
    done();
}
CASE(many_links) {
    shm();
    t_write_file("f", "x");
    char name[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "l%d", i);
        OK(link("f", name));
    }
    struct stat st;
    OK(stat("f", &st));
    EQ(st.st_nlink, 2001);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "l%d", i);
        OK(unlink(name));
    }
    OK(unlink("f"));
    done();
}

static long long ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }
static long long atime(const char *path) {
    struct stat st;
    OK(stat(path, &st));
    return ns(st.st_atim);
}

/* Whether reading a file, and listing a directory, moves the access time on a mount with these flags: bits 1 and 2; and
   whether it does so again with nothing changed: bits 4 and 8. */
static int moves(unsigned long flags, int open_flags) {
    int moved = 0;
    char byte;
    OK(mount("none", "m", "tmpfs", flags, NULL));
    OK(mkdir("m/d", 0700));
    t_write_file("m/f", "text");
    t_write_file("m/d/f", "text");
    for (int again = 0; again < 2; again++) {
        t_sleep_ms(20);
        long long file = atime("m/f"), dir = atime("m/d");
        FD(fd, open("m/f", O_RDONLY | open_flags));
        EQ(read(fd, &byte, 1), 1);
        close(fd);
        FD(list, open("m/d", O_RDONLY | O_DIRECTORY | open_flags));
        char buffer[500];
        CHECK(syscall(SYS_getdents64, list, buffer, sizeof buffer) > 0);
        close(list);
        moved |= (atime("m/f") > file ? 1 : 0) << 2 * again | (atime("m/d") > dir ? 2 : 0) << 2 * again;
        CHECK(atime("m/f") >= file && atime("m/d") >= dir);
    }
    OK(umount("m"));
    return moved;
}

CASE(access_times) {
    NEED_ROOT();
    if (unshare(CLONE_NEWNS) != 0 && (errno != EPERM || unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0))
        SKIP("no mount namespaces");
    OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    OK(mkdir("m", 0700));
    EQ(moves(0, 0), 3);
    EQ(moves(MS_STRICTATIME, 0), 15);
    EQ(moves(MS_STRICTATIME, O_NOATIME), 0);
    EQ(moves(MS_NOATIME, 0), 0);
    EQ(moves(MS_NODIRATIME, 0), 1);
    EQ(moves(MS_STRICTATIME | MS_NODIRATIME, 0), 5);
    OK(mount("none", "m", "tmpfs", 0, NULL));
    t_write_file("m/f", "text");
    struct timespec set[2] = {{5, 0}, {100, 0}};
    OK(utimensat(AT_FDCWD, "m/f", set, 0));
    EQ(atime("m/f"), 5000000000LL);
    t_read_is("m/f", "text");
    CHECK(atime("m/f") > 100000000000LL);
    long long before = atime("m/f");
    t_sleep_ms(20);
    OK(chmod("m/f", 0600));
    t_read_is("m/f", "text");
    CHECK(atime("m/f") > before);
    set[0].tv_sec = time(NULL) - 100000, set[1].tv_nsec = UTIME_OMIT;
    OK(utimensat(AT_FDCWD, "m/f", set, 0));
    OK(mount("none", "m", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    t_read_is("m/f", "text");
    EQ(atime("m/f"), set[0].tv_sec * 1000000000LL);
    OK(umount("m"));
}

CASE(a_removed_directory_has_no_list) {
    shm();
    OK(mkdir("d", 0700));
    FD(d, open("d", O_RDONLY | O_DIRECTORY));
    char buffer[500];
    CHECK(syscall(SYS_getdents64, d, buffer, sizeof buffer) > 0);
    OK(lseek(d, 0, SEEK_SET));
    OK(rmdir("d"));
    ERR(syscall(SYS_getdents64, d, buffer, sizeof buffer), ENOENT);
    done();
}

CASE(programs_of_groups_one_is_not_in) {
    NEED_ROOT();
    shm();
    OK(mkdir("d", 0777));
    OK(chown("d", 54321, 777));
    OK(chmod("d", 02777));
    OK(chmod(".", 0711));
    for (int in = 0; in < 2; in++) {
        pid_t pid = fork();
        if (pid == 0) {
            gid_t group = 777;
            struct stat st;
            int want = in ? S_ISGID : 0;
            OK(setgroups(in, &group));
            OK(setgid(54321));
            OK(setuid(54321));
            for (int mask = 0; mask <= 010; mask += 010) {
                umask(mask);
                FD(fd, open("d/f", O_RDWR | O_CREAT | O_EXCL, 02777));
                OK(fstat(fd, &st));
                CHECK(st.st_gid == 777);
                EQ(st.st_mode & 07777, want | (0777 & ~mask));
                OK(unlink("d/f"));
                OK(mknod("d/f", S_IFREG | 02770, 0));
                OK(stat("d/f", &st));
                EQ(st.st_mode & 07777, want | (0770 & ~mask));
                OK(unlink("d/f"));
                FD(plain, open("d/f", O_RDWR | O_CREAT | O_EXCL, 02767));
                OK(fstat(plain, &st));
                EQ(st.st_mode & 07777, 02767 & ~mask);
                OK(unlink("d/f"));
                OK(mkdir("d/d", 02770));
                OK(stat("d/d", &st));
                EQ(st.st_mode & 07777, 02770 & ~mask);
                OK(rmdir("d/d"));
            }
            _exit(0);
        }
        CHILD_OK(pid);
    }
    OK(rmdir("d"));
    done();
}
