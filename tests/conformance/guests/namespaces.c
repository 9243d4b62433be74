/* namespaces(7): unshare(2), setns(2), clone(2) with their flags; user_namespaces(7). */
#include "t.h"
#include <grp.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

static int put(const char *path, const char *text) {
    FD(fd, open(path, O_WRONLY));
    ssize_t got = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return got == (ssize_t)strlen(text) ? 0 : -1;
}
static void users(int more, int inside) {
    char uid[32], gid[32];
    sprintf(uid, "%d %d 1", inside, geteuid());
    sprintf(gid, "%d %d 1", inside, getegid());
    OK(unshare(CLONE_NEWUSER | more));
    OK(put("/proc/self/setgroups", "deny"));
    OK(put("/proc/self/uid_map", uid));
    OK(put("/proc/self/gid_map", gid));
}
static const char *link_of(const char *path) {
    static char text[4][64];
    static int next;
    char *to = text[next++ % 4];
    ssize_t n = readlink(path, to, 63);
    CHECK(n > 0);
    to[n] = 0;
    return to;
}
static uint64_t capabilities(void) {
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t data[6];
    OK(syscall(SYS_capget, &header, data));
    return data[0] | (uint64_t)data[3] << 32;
}

CASE(ids) {
    FD(file, open("own", O_CREAT | O_WRONLY, 0600));
    uid_t outside = geteuid();
    OK(unshare(CLONE_NEWUSER));
    EQ(getuid(), 65534);
    EQ(getegid(), 65534);
    EQ(capabilities(), (1ull << 41) - 1);
    struct stat st;
    OK(fstat(file, &st));
    EQ(st.st_uid, 65534);
    ERR(setuid(0), EINVAL);
    ERR(chown("own", 0, -1), EINVAL);
    char map[64];
    sprintf(map, "7 %d 1", outside);
    ERR(put("/proc/self/uid_map", "x"), EINVAL);
    ERR(put("/proc/self/uid_map", "0 5000 3"), EPERM);
    OK(put("/proc/self/uid_map", map));
    ERR(put("/proc/self/uid_map", map), EPERM);
    EQ(getuid(), 7);
    OK(fstat(file, &st));
    EQ(st.st_uid, 7);
    EQ(st.st_gid, 65534);
    OK(stat("/", &st));
    ERR(setgroups(0, NULL), EPERM);
    ERR(setresuid(8, 8, 8), EINVAL);
    OK(setresuid(7, 7, 7));
    sprintf(map, "%10d %10d %10d\n", 7, outside, 1);
    t_read_is("/proc/self/uid_map", map);
    t_read_is("/proc/self/gid_map", "");
}

CASE(set_groups) {
    char gid[32];
    sprintf(gid, "0 %d 1", getegid());
    OK(unshare(CLONE_NEWUSER));
    t_read_is("/proc/self/setgroups", "allow\n");
    ERR(put("/proc/self/gid_map", gid), EPERM);
    ERR(put("/proc/self/setgroups", "maybe"), EINVAL);
    OK(put("/proc/self/setgroups", "deny"));
    t_read_is("/proc/self/setgroups", "deny\n");
    OK(put("/proc/self/gid_map", gid));
    EQ(getgid(), 0);
    ERR(put("/proc/self/setgroups", "allow"), EPERM);
    ERR(setgroups(0, NULL), EPERM);
}

CASE(mapped_by_the_parent) {
    NEED_ROOT();
    int ready[2], go[2];
    OK(pipe(ready));
    OK(pipe(go));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        OK(unshare(CLONE_NEWUSER));
        EQ(write(ready[1], "x", 1), 1);
        EQ(read(go[0], &c, 1), 1);
        EQ(getuid(), 0);
        OK(setresgid(5, 5, 5));
        OK(setgroups(0, NULL));
        OK(setresuid(5, 5, 5));
        EQ(capabilities(), 0);
        FD(fd, open("made", O_CREAT | O_WRONLY, 0600));
        struct stat st;
        OK(fstat(fd, &st));
        EQ(st.st_uid, 5);
        EQ(st.st_gid, 5);
        _exit(0);
    }
    char c, path[64];
    OK(chmod(".", 0777));
    EQ(read(ready[0], &c, 1), 1);
    sprintf(path, "/proc/%d/uid_map", pid);
    OK(put(path, "0 0 1\n1 1000 10\n"));
    sprintf(path, "/proc/%d/gid_map", pid);
    OK(put(path, "0 0 1\n1 2000 10\n"));
    EQ(write(go[1], "x", 1), 1);
    CHILD_OK(pid);
    struct stat st;
    OK(stat("made", &st));
    EQ(st.st_uid, 1004);
    EQ(st.st_gid, 2004);
}

/* Capabilities in it count for nothing outside. */
CASE(powerless) {
    NEED_ROOT();
    t_write_file("other", "x");
    OK(chown("other", 1234, 1234));
    OK(chmod("other", 0600));
    t_write_file("mine", "x");
    users(0, 0);
    EQ(capabilities(), (1ull << 41) - 1);
    ERR(open("other", O_RDONLY), EACCES);
    ERR(chown("mine", 1, 1), EINVAL);
    ERR(chown("other", 0, 0), EPERM);
    OK(chmod("mine", 0400));
    ERR(sethostname("x", 1), EPERM);
    ERR(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
    ERR(mount("x", ".", "tmpfs", 0, NULL), EPERM);
    OK(chroot("."));
}

CASE(nested) {
    users(0, 0);
    users(0, 3);
    EQ(getuid(), 3);
    char map[64];
    sprintf(map, "%10d %10d %10d\n", 3, 0, 1);
    t_read_is("/proc/self/uid_map", map);
}

CASE(by_clone) {
    const char *before = link_of("/proc/self/ns/user");
    pid_t pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        CHECK(strcmp(before, link_of("/proc/self/ns/user")) != 0);
        OK(sethostname("clone", 5));
        _exit(0);
    }
    CHILD_OK(pid);
    CHECK(strcmp(before, link_of("/proc/self/ns/user")) == 0);
    ERR(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    ERR(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
    ERR(unshare(1 << 30 | 1), EINVAL);
}

CASE(names) {
    struct utsname before, after;
    OK(uname(&before));
    users(CLONE_NEWUTS, 0);
    OK(sethostname("inside", 6));
    OK(setdomainname("there", 5));
    OK(uname(&after));
    CHECK(strcmp(after.nodename, "inside") == 0 && strcmp(after.domainname, "there") == 0);
    t_read_is("/proc/sys/kernel/hostname", "inside\n");
    ERR(syscall(SYS_sethostname, "x", 65), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWUTS));
        OK(sethostname("deeper", 6));
        _exit(0);
    }
    CHILD_OK(pid);
    OK(uname(&after));
    CHECK(strcmp(after.nodename, "inside") == 0);
}

CASE(ipc) {
    int id = shmget(4711, 4096, IPC_CREAT | 0666);
    OK(id);
    pid_t pid = fork();
    if (pid == 0) {
        users(CLONE_NEWIPC, 0);
        ERR(shmget(4711, 4096, 0), ENOENT);
        int own = shmget(4711, 4096, IPC_CREAT | IPC_EXCL | 0600);
        OK(own);
        _exit(0);
    }
    int status = t_wait(pid);
    OK(shmctl(id, IPC_RMID, NULL));
    EQ(status, 0);
}

CASE(links) {
    const char *kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
    for (int i = 0; i < 7; i++) {
        char path[64], want[64];
        sprintf(path, "/proc/self/ns/%s", kinds[i]);
        struct stat st;
        OK(stat(path, &st));
        CHECK(S_ISREG(st.st_mode));
        sprintf(want, "%s:[%lu]", kinds[i], (unsigned long)st.st_ino);
        CHECK(strcmp(want, link_of(path)) == 0);
        FD(fd, open(path, O_RDONLY));
        struct stat two;
        OK(fstat(fd, &two));
        EQ(two.st_ino, st.st_ino);
        close(fd);
    }
    ERR(open("/proc/self/ns/none", O_RDONLY), ENOENT);
}

#define GET_USERNS 0xb701
#define GET_PARENT 0xb702
#define GET_NSTYPE 0xb703
#define GET_OWNER_UID 0xb704

CASE(ioctls) {
    uid_t me = geteuid();
    FD(outer, open("/proc/self/ns/user", O_RDONLY));
    EQ(ioctl(outer, GET_NSTYPE), CLONE_NEWUSER);
    users(CLONE_NEWUTS, 0);
    FD(uts, open("/proc/self/ns/uts", O_RDONLY));
    FD(user, open("/proc/self/ns/user", O_RDONLY));
    EQ(ioctl(uts, GET_NSTYPE), CLONE_NEWUTS);
    FD(owner, ioctl(uts, GET_USERNS));
    struct stat one, two;
    OK(fstat(owner, &one));
    OK(fstat(user, &two));
    EQ(one.st_ino, two.st_ino);
    ERR(ioctl(user, GET_PARENT), EPERM);
    ERR(ioctl(uts, GET_PARENT), EINVAL);
    uid_t id = 99;
    OK(ioctl(user, GET_OWNER_UID, &id));
    EQ(id, 0);
    ERR(ioctl(uts, GET_OWNER_UID, &id), EINVAL);
    ERR(ioctl(uts, 0xb7ff), ENOTTY);
}

CASE(into_another) {
    users(0, 0);
    int ready[2], go[2];
    OK(pipe(ready));
    OK(pipe(go));
    char c;
    pid_t pid = fork();
    if (pid == 0) {
        OK(unshare(CLONE_NEWUTS | CLONE_NEWNS));
        OK(sethostname("other", 5));
        OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        OK(mount("x", ".", "tmpfs", 0, NULL));
        t_write_file("/proc/self/comm", "there");
        FD(fd, open(".", O_RDONLY));
        EQ(write(ready[1], "x", 1), 1);
        read(go[0], &c, 1);
        _exit(0);
    }
    EQ(read(ready[0], &c, 1), 1);
    char path[64];
    sprintf(path, "/proc/%d/ns/uts", pid);
    FD(uts, open(path, O_RDONLY));
    sprintf(path, "/proc/%d/ns/mnt", pid);
    FD(mnt, open(path, O_RDONLY));
    ERR(setns(uts, CLONE_NEWNS), EINVAL);
    OK(setns(uts, CLONE_NEWUTS));
    struct utsname name;
    OK(uname(&name));
    CHECK(strcmp(name.nodename, "other") == 0);
    OK(setns(mnt, 0));
    char cwd[PATH_MAX];
    CHECK(getcwd(cwd, sizeof cwd));
    CHECK(strcmp(cwd, "/") == 0);
    FD(self, open("/proc/self/ns/user", O_RDONLY));
    ERR(setns(self, 0), EINVAL);
    ERR(setns(0, 0), EINVAL);
    ERR(setns(99, 0), EBADF);
    FD(pidfd, syscall(SYS_pidfd_open, pid, 0));
    OK(setns(pidfd, CLONE_NEWUTS | CLONE_NEWNS));
    ERR(setns(pidfd, 0), EINVAL);
    EQ(write(go[1], "x", 1), 1);
    CHILD_OK(pid);
}

static void *idle(void *nothing) {
    pause();
    return nothing;
}
CASE(alone) {
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, idle, NULL), 0);
    ERR(unshare(CLONE_NEWUSER), EINVAL);
    ERR(unshare(CLONE_THREAD), EINVAL);
    OK(unshare(CLONE_FS | CLONE_FILES));
}
