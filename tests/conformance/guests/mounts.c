/* mount(2), umount2(2), pivot_root(2): in a user and a mount namespace of the case's own. */
#include "mounts.h"
#include "t.h"
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

/* Where names are looked up anew each time. */
CASE(over_itself_in_proc) {
    alone();
    struct statvfs s;
    const unsigned long keep = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME | MS_RDONLY;
    ERR(mount(NULL, "/proc/sys/kernel", NULL, MS_BIND | MS_REMOUNT | keep, NULL), EINVAL);
    OK(mount("/proc/sys", "/proc/sys", NULL, MS_BIND | MS_REC, NULL));
    OK(mount(NULL, "/proc/sys", NULL, MS_BIND | MS_REMOUNT | keep, NULL));
    OK(statvfs("/proc/sys", &s));
    CHECK(s.f_flag & ST_RDONLY);
    t_read_is("/proc/sys/kernel/ostype", "Linux\n");
    OK(umount2("/proc/sys", MNT_DETACH));
    ERR(umount2("/proc/sys", MNT_DETACH), EINVAL);
}
CASE(tmpfs) {
    alone();
    INFO(".", "/ rw,relatime - tmpfs source rw,size=1024k,mode=755");
    struct statfs s;
    OK(statfs(".", &s));
    EQ(s.f_type, 0x01021994);
    EQ(s.f_blocks, 256);
    OK(mkdir("d", 0700));
    OK(mount("x", "d", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME, "nr_inodes=10"));
    INFO("d", "/ rw,nosuid,nodev,noexec,noatime - tmpfs x rw,nr_inodes=10");
    OK(statfs("d", &s));
    EQ(s.f_files, 10);
    EQ(s.f_flags & 0x14ff, ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME | 0x20);
    struct stat st;
    OK(stat("d", &st));
    EQ(st.st_mode, S_IFDIR | 01777);
    t_write_file("d/run", "#!/bin/sh\n");
    OK(chmod("d/run", 0755));
    ERR(execl("d/run", "run", NULL), EACCES);
    OK(mount(NULL, "d", NULL, MS_REMOUNT | MS_RDONLY, "nr_inodes=20"));
    ERR(open("d/new", O_CREAT | O_WRONLY, 0600), EROFS);
    OK(statfs("d", &s));
    EQ(s.f_files, 20);
    ERR(mount("x", "d", "tmpfs", 0, "nonsense=1"), EINVAL);
    ERR(mount("x", "d", "tmpfs", 0, "size=abc"), EINVAL);
    ERR(mount("x", "d", "nosuchfs", 0, NULL), ENODEV);
    ERR(mount("x", "none", "tmpfs", 0, NULL), ENOENT);
    t_write_file("file", "");
    ERR(mount("x", "file", "tmpfs", 0, NULL), ENOTDIR);
    ERR(mount("x", "d", NULL, 0, NULL), EINVAL);
    OK(umount("d"));
    ERR(umount("d"), EINVAL);
    ERR(umount("none"), ENOENT);
    ERR(umount2("d", 64), EINVAL);
    ERR(access("d/run", F_OK), ENOENT);
}

CASE(full) {
    alone();
    OK(mkdir("d", 0700));
    OK(mount("x", "d", "tmpfs", 0, "size=16k"));
    static char page[65536];
    FD(fd, open("d/f", O_CREAT | O_WRONLY, 0600));
    EQ(write(fd, page, sizeof page), 16384);
    ERR(write(fd, page, 1), ENOSPC);
    ERR(umount("d"), EBUSY);
    close(fd);
    OK(umount("d"));
}

CASE(bind) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("a/in", 0700));
    OK(mkdir("b", 0700));
    t_write_file("a/f", "one");
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    INFO("b", "/a rw,relatime - tmpfs source rw,size=1024k,mode=755");
    t_read_is("b/f", "one");
    t_write_file("b/f", "two");
    t_read_is("a/f", "two");
    struct stat one, two;
    OK(stat("a", &one));
    OK(stat("b", &two));
    CHECK(one.st_ino == two.st_ino && one.st_dev == two.st_dev);
    ERR(rename("a/f", "b/g"), EXDEV);
    ERR(link("a/f", "b/g"), EXDEV);
    ERR(rmdir("b"), EBUSY);
    ERR(rename("b", "c"), EBUSY);
    OK(mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL));
    INFO("b", "/a ro,nosuid,relatime - tmpfs source rw,size=1024k,mode=755");
    ERR(open("b/f", O_WRONLY), EROFS);
    ERR(mkdir("b/x", 0700), EROFS);
    ERR(unlink("b/f"), EROFS);
    ERR(chmod("b/f", 0600), EROFS);
    ERR(access("b/f", W_OK), EROFS);
    t_write_file("a/f", "three");
    struct statvfs v;
    OK(statvfs("b", &v));
    EQ(v.f_flag & (ST_RDONLY | ST_NOSUID), ST_RDONLY | ST_NOSUID);
    /* `..` leads out of the mount. */
    OK(chdir("b"));
    OK(chdir(".."));
    OK(access("a", F_OK));
    ERR(mount("none", "b", NULL, MS_BIND, NULL), ENOENT);
    ERR(mount(NULL, "b", NULL, MS_BIND, NULL), EINVAL);
    ERR(mount("a/f", "b", NULL, MS_BIND, NULL), ENOTDIR);
    ERR(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND, NULL), EINVAL);
    OK(umount("b"));
    OK(rmdir("b"));
}

CASE(bind_file) {
    alone();
    t_write_file("a", "one");
    t_write_file("b", "two");
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    t_read_is("b", "one");
    ERR(unlink("b"), EBUSY);
    ERR(rename("a", "b"), EBUSY);
    OK(umount("b"));
    t_read_is("b", "two");
    OK(unlink("b"));
}

CASE(recursive) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("a/in", 0700));
    OK(mkdir("b", 0700));
    OK(mount("inner", "a/in", "tmpfs", 0, NULL));
    t_write_file("a/in/f", "x");
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    ERR(access("b/in/f", F_OK), ENOENT);
    OK(umount("b"));
    OK(mount("a", "b", NULL, MS_BIND | MS_REC, NULL));
    OK(access("b/in/f", F_OK));
    ERR(umount("b"), EBUSY);
    OK(umount("b/in"));
    OK(umount("b"));
    OK(access("a/in/f", F_OK));
    /* A mount below itself. */
    OK(mount(".", "b", NULL, MS_BIND | MS_REC, NULL));
    OK(access("b/a/in/f", F_OK));
    OK(umount2("b", MNT_DETACH));
}

CASE(lazily) {
    alone();
    OK(mkdir("a", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    t_write_file("a/f", "text");
    FD(fd, open("a/f", O_RDWR));
    FD(dir, open("a", O_RDONLY));
    ERR(umount("a"), EBUSY);
    ERR(umount2("a", MNT_EXPIRE), EBUSY);
    OK(umount2("a", MNT_DETACH));
    ERR(access("a/f", F_OK), ENOENT);
    char text[8] = "";
    EQ(read(fd, text, 8), 4);
    OK(faccessat(dir, "f", F_OK, 0));
    OK(fchdir(dir));
    OK(access("f", F_OK));
    ERR(umount2("/none", MNT_DETACH), ENOENT);
    char cwd[PATH_MAX];
    CHECK(syscall(SYS_getcwd, cwd, sizeof cwd) > 0);
    CHECK(strncmp(cwd, "(unreachable)", 13) == 0);
}

CASE(expiring) {
    alone();
    OK(mkdir("a", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    ERR(umount2("a", MNT_EXPIRE), EAGAIN);
    ERR(umount2("a", MNT_EXPIRE | MNT_DETACH), EINVAL);
    OK(umount2("a", MNT_EXPIRE));
    ERR(umount2("a", MNT_EXPIRE), EINVAL);
}

CASE(links) {
    alone();
    OK(mkdir("a", 0700));
    OK(symlink("a", "l"));
    OK(mount("x", "l", "tmpfs", 0, NULL));
    CHECK(*info("a", 3));
    ERR(umount2("l", 8), EINVAL);
    OK(umount2("l", 0));
    CHECK(!*info("a", 3));
}

CASE(stacked) {
    alone();
    OK(mkdir("a", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mkdir("a/lower", 0700));
    OK(mount("y", "a", "tmpfs", 0, NULL));
    OK(mkdir("a/upper", 0700));
    ERR(access("a/lower", F_OK), ENOENT);
    OK(umount("a"));
    OK(access("a/lower", F_OK));
    ERR(access("a/upper", F_OK), ENOENT);
    OK(umount("a"));
}

CASE(moved) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mkdir("a/in", 0700));
    OK(mount("y", "a/in", "tmpfs", 0, NULL));
    t_write_file("a/in/f", "x");
    ERR(mount("a", "a/in", NULL, MS_MOVE, NULL), ELOOP);
    ERR(mount("b", "a", NULL, MS_MOVE, NULL), EINVAL);
    OK(mount("a", "b", NULL, MS_MOVE, NULL));
    ERR(access("a/in", F_OK), ENOENT);
    t_read_is("b/in/f", "x");
    ERR(umount("a"), EINVAL);
    OK(umount("b/in"));
    OK(umount("b"));
}

CASE(overlay) {
    alone();
    const char *dirs[] = {"l1", "l2", "u", "w", "m"};
    for (int i = 0; i < 5; i++)
        OK(mkdir(dirs[i], 0755));
    t_write_file("l1/both", "first");
    t_write_file("l2/both", "second");
    t_write_file("l2/only", "lower");
    OK(mount("ov", "m", "overlay", 0, "lowerdir=l1:l2,upperdir=u,workdir=w"));
    struct statfs s;
    OK(statfs("m", &s));
    t_read_is("m/both", "first");
    t_read_is("m/only", "lower");
    t_write_file("m/only", "changed");
    t_read_is("u/only", "changed");
    t_read_is("l2/only", "lower");
    OK(unlink("m/both"));
    ERR(access("m/both", F_OK), ENOENT);
    OK(mkdir("m/new", 0700));
    OK(access("u/new", F_OK));
    OK(umount("m"));
    OK(mount("ov", "m", "overlay", 0, "lowerdir=l1:l2"));
    t_read_is("m/both", "first");
    ERR(open("m/x", O_CREAT | O_WRONLY, 0600), EROFS);
    OK(umount("m"));
    ERR(mount("ov", "m", "overlay", 0, "upperdir=u,workdir=w"), EINVAL);
    ERR(mount("ov", "m", "overlay", 0, "lowerdir=none,upperdir=u,workdir=w"), ENOENT);
    ERR(mount("ov", "m", "overlay", 0, "lowerdir=l1,upperdir=u"), EINVAL);
}

CASE(pivot) {
    alone();
    OK(mkdir("new", 0755));
    OK(mkdir("plain", 0755));
    OK(mount("root", "new", "tmpfs", 0, NULL));
    OK(mkdir("new/old", 0755));
    OK(mkdir("new/proc", 0755));
    OK(mount("/proc", "new/proc", NULL, MS_BIND | MS_REC, NULL));
    ERR(syscall(SYS_pivot_root, "none", "new"), ENOENT);
    ERR(syscall(SYS_pivot_root, "plain", "plain"), EINVAL);
    ERR(syscall(SYS_pivot_root, "new", "plain"), EINVAL);
    ERR(syscall(SYS_pivot_root, "/", "/"), EINVAL);
    char here[PATH_MAX], old[PATH_MAX * 2];
    CHECK(getcwd(here, sizeof here));
    OK(syscall(SYS_pivot_root, "new", "new/old"));
    OK(chdir("/"));
    OK(access("/old/proc", F_OK));
    sprintf(old, "/old%s/plain", here);
    OK(access(old, F_OK));
    CHECK(strcmp(info("/", 3), "/ rw,relatime - tmpfs root rw") == 0);
    OK(umount2("/old", MNT_DETACH));
    ERR(access("/old/proc", F_OK), ENOENT);
    /* As bubblewrap leaves its first root. */
    OK(mkdir("/next", 0755));
    OK(mount("next", "/next", "tmpfs", 0, NULL));
    OK(chdir("/next"));
    OK(syscall(SYS_pivot_root, ".", "."));
    OK(umount2(".", MNT_DETACH));
    OK(chdir("/"));
    ERR(access("/next", F_OK), ENOENT);
}

CASE(shared) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    OK(mkdir("a/in", 0700));
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    OK(mount("y", "a/in", "tmpfs", 0, NULL));
    t_write_file("a/in/f", "x");
    t_read_is("b/in/f", "x");
    OK(umount("b/in"));
    ERR(access("a/in/f", F_OK), ENOENT);
    OK(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    OK(mount("y", "a/in", "tmpfs", 0, NULL));
    t_write_file("a/in/g", "x");
    OK(access("b/in/g", F_OK));
    OK(umount("b/in"));
    OK(access("a/in/g", F_OK));
    OK(umount("a/in"));
    OK(mount("z", "b/in", "tmpfs", 0, NULL));
    t_write_file("b/in/h", "x");
    ERR(access("a/in/h", F_OK), ENOENT);
    OK(mount(NULL, "a", NULL, MS_PRIVATE, NULL));
    OK(umount("b/in"));
    OK(mount(NULL, "a", NULL, MS_UNBINDABLE, NULL));
    ERR(mount("a", "b", NULL, MS_BIND, NULL), EINVAL);
    ERR(mount(NULL, "a", NULL, MS_SHARED | MS_PRIVATE, NULL), EINVAL);
    ERR(mount(NULL, "a/in", NULL, MS_SHARED, NULL), EINVAL);
}

CASE(peers_of_a_copy) {
    alone();
    OK(mkdir("a", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    OK(mkdir("a/in", 0700));
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWNS));
        OK(mount("y", "a/in", "tmpfs", 0, NULL));
        t_write_file("a/in/f", "x");
        OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
        OK(umount("a/in"));
        _exit(0);
    }
    CHILD_OK(pid);
    t_read_is("a/in/f", "x");
}

CASE(of_a_namespace) {
    alone();
    OK(mkdir("a", 0700));
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWNS));
        OK(mount("x", "a", "tmpfs", 0, NULL));
        OK(mkdir("a/seen", 0700));
        CHECK(*info("a", 3));
        _exit(0);
    }
    CHILD_OK(pid);
    ERR(access("a/seen", F_OK), ENOENT);
    CHECK(!*info("a", 3));
    OK(rmdir("a"));
}

/* What was mounted by somebody with more rights cannot be changed by somebody with fewer. */
CASE(locked) {
    alone();
    OK(mkdir("a", 0755));
    OK(mount("x", "a", "tmpfs", MS_RDONLY | MS_NOSUID, NULL));
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWUSER | CLONE_NEWNS));
        ERR(umount("a"), EINVAL);
        ERR(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND, NULL), EPERM);
        ERR(mount(NULL, "a", NULL, MS_REMOUNT, NULL), EPERM);
        OK(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL));
        _exit(0);
    }
    CHILD_OK(pid);
    OK(umount("a"));
}

CASE(not_permitted) {
    alone();
    OK(mkdir("a", 0755));
    ERR(mount("proc", "a", "proc", 0, NULL), EPERM);
    ERR(mount("sysfs", "a", "sysfs", 0, NULL), EPERM);
    pid_t pid = fork();
    if (pid == 0) {
        struct {
            uint32_t version;
            int pid;
        } header = {0x20080522, 0};
        uint32_t none[6] = {0};
        OK(syscall(SYS_capset, &header, none));
        ERR(mount("x", "a", "tmpfs", 0, NULL), EPERM);
        ERR(umount("."), EPERM);
        ERR(syscall(SYS_pivot_root, ".", "."), EPERM);
        ERR(unshare(CLONE_NEWNS), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}
