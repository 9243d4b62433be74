/* What there is to know of mounts: statmount(2), listmount(2), ioctl_nsfs(2), and who watches the list of them. In a user and
   a mount namespace of the case's own. */
#include "mounts.h"
#include "t.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

static const uint64_t LSMT_ROOT_ = -1, OFFSET = 1ull << 31;

struct request {
    uint32_t size, ns_fd;
    uint64_t id, param, ns_id;
};
struct about {
    uint32_t size, opts;
    uint64_t mask;
    uint32_t major, minor;
    uint64_t magic;
    uint32_t sb_flags, type;
    uint64_t id, parent;
    uint32_t id_old, parent_old;
    uint64_t attr, propagation, group, master, from;
    uint32_t root, point;
    uint64_t ns;
    uint32_t subtype, source, opt_num, opt_array, sec_num, sec_array;
    uint64_t supported;
    uint32_t maps[4];
    uint64_t spare[43];
    char str[1024];
};
static int open_tree_(int dir, const char *path, unsigned flags) {
    return syscall(428, dir, path, flags);
}
static int about(uint64_t id, uint64_t mask, struct about *out, size_t size) {
    struct request r = {.size = 24, .id = id, .param = mask};
    memset(out, 0, sizeof *out);
    return syscall(457, &r, out, size, 0);
}
static long list(uint64_t id, uint64_t last, uint64_t *out, size_t n, unsigned flags) {
    struct request r = {.size = 24, .id = id, .param = last};
    return syscall(458, &r, out, n, flags);
}

CASE(statmount) {
    alone();
    OK(mkdir("d", 0700));
    OK(mkdir("e", 0700));
    OK(mkdir("d/top", 0700));
    OK(mount("it self", "e", "tmpfs", MS_RDONLY | MS_NOSUID, "size=1m,mode=700"));
    uint64_t id = unique(AT_FDCWD, "e"), up = unique(AT_FDCWD, ".");
    CHECK(id > OFFSET && id > up);
    struct about s;
    struct stat st;
    OK(stat("e", &st));
    OK(about(id, 0, &s, 512));
    EQ(s.size, 512);
    EQ(s.mask, 0);
    OK(about(id, 1 | 2 | 4 | 0x40 | 0x1000, &s, 512));
    EQ(s.size, 512);
    EQ(s.mask, 1 | 2 | 4 | 0x40 | 0x1000);
    EQ(s.magic, 0x01021994);
    EQ(s.sb_flags, MS_RDONLY);
    EQ(st.st_dev, (dev_t)(s.major << 8 | s.minor));
    EQ(s.id, id);
    EQ(s.parent, up);
    EQ(s.attr, 1 | 2);
    EQ(s.propagation, MS_PRIVATE);
    EQ(s.group, 0);
    EQ(s.master, 0);
    EQ(s.from, 0);
    EQ(s.supported & 0x7fff, 0x7fff);
    struct statx x;
    OK(statx(AT_FDCWD, "e", 0, 0x1000, &x));
    EQ(s.id_old, x.stx_mnt_id);
    CHECK(x.stx_mask & 0x1000);
    CHECK(x.stx_attributes & 0x2000);
    OK(statx(AT_FDCWD, "d", 0, 0x1000, &x));
    EQ(s.parent_old, x.stx_mnt_id);
    CHECK(!(x.stx_attributes & 0x2000));
    CHECK(x.stx_attributes_mask & 0x2000);
    char want[PATH_MAX];
    CHECK(realpath("e", want));
    OK(about(id, 0x7ff8 & ~0x1040, &s, sizeof s));
    EQ(s.mask, 8 | 0x10 | 0x20 | 0x80 | 0x200 | 0x400);
    CHECK(strcmp(s.str + s.type, "tmpfs") == 0);
    CHECK(strcmp(s.str + s.root, "/") == 0);
    CHECK(strcmp(s.str + s.point, want) == 0);
    CHECK(strncmp(s.str + s.opts, "size=1024k,mode=700", 19) == 0);
    CHECK(strcmp(s.str + s.source, "it self") == 0);
    CHECK(s.opt_num >= 2);
    CHECK(memcmp(s.str + s.opt_array, "size=1024k\0mode=700", 20) == 0);
    CHECK(*s.str == 0 && s.subtype == 0 && s.sec_num == 0);
    OK(about(id, 0x20, &s, sizeof s));
    EQ(s.size, 512 + 1 + 6);
    OK(about(id, 0x20, &s, 512 + 7));
    OK(mount("d/top", "d", NULL, MS_BIND, NULL));
    OK(about(unique(AT_FDCWD, "d"), 8, &s, sizeof s));
    CHECK(strcmp(s.str + s.root, "/d/top") == 0);
    /* Errors. */
    ERR(about(id, 0x20, &s, 512), EOVERFLOW);
    ERR(about(id, 0x20, &s, 512 + 6), EOVERFLOW);
    ERR(about(id, 0x20, &s, 100), EOVERFLOW);
    memset(&s, 1, sizeof s);
    struct request r = {.size = 24, .id = id, .param = 2};
    OK(syscall(457, &r, &s, 100, 0));
    EQ(s.size, 100);
    EQ(((char *)&s)[100], 1);
    ERR(about(id + 1000, 1, &s, 512), ENOENT);
    ERR(about(OFFSET, 1, &s, 512), EINVAL);
    ERR(syscall(457, &r, &s, 512, 2), EINVAL);
    ERR(syscall(457, &r, NULL, 512, 0), EFAULT);
    ERR(syscall(457, NULL, &s, 512, 0), EFAULT);
    r.size = 23;
    ERR(syscall(457, &r, &s, 512, 0), EINVAL);
    r.size = 5000;
    ERR(syscall(457, &r, &s, 512, 0), E2BIG);
    r.size = 32;
    r.ns_id = 1ull << 60;
    ERR(syscall(457, &r, &s, 512, 0), ENOENT);
    int m = open_tree_(AT_FDCWD, "d", 1);
    ERR(about(unique(m, ""), 2, &s, 512), ENOENT);
}

CASE(propagation_told) {
    alone();
    OK(mkdir("a", 0700));
    OK(mkdir("b", 0700));
    OK(mkdir("c", 0700));
    OK(mount("x", "a", "tmpfs", 0, NULL));
    OK(mount(NULL, "a", NULL, MS_SHARED, NULL));
    OK(mount("a", "b", NULL, MS_BIND, NULL));
    OK(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    struct about a, b, c;
    OK(about(unique(AT_FDCWD, "a"), 2 | 4, &a, 512));
    EQ(a.propagation, MS_SHARED);
    CHECK(a.group != 0);
    OK(about(unique(AT_FDCWD, "b"), 2 | 4, &b, 512));
    EQ(b.propagation, MS_SLAVE);
    EQ(b.master, a.group);
    EQ(b.from, a.group);
    EQ(b.group, 0);
    OK(mount(NULL, "b", NULL, MS_SHARED, NULL));
    OK(mount("b", "c", NULL, MS_BIND, NULL));
    OK(mount(NULL, "c", NULL, MS_SLAVE, NULL));
    OK(about(unique(AT_FDCWD, "b"), 2, &b, 512));
    EQ(b.propagation, MS_SHARED | MS_SLAVE);
    OK(about(unique(AT_FDCWD, "c"), 2 | 4, &c, 512));
    EQ(c.master, b.group);
    /* Where there is no peer any more, its master is the master. */
    OK(umount("b"));
    OK(about(unique(AT_FDCWD, "c"), 2 | 4, &c, 512));
    EQ(c.master, a.group);
}

CASE(listmount) {
    alone();
    OK(mkdir("d", 0700));
    OK(mount("x", "d", "tmpfs", 0, NULL));
    OK(mkdir("d/a", 0700));
    OK(mkdir("d/b", 0700));
    OK(mount("y", "d/a", "tmpfs", 0, NULL));
    OK(mount("z", "d/b", "tmpfs", 0, NULL));
    uint64_t got[256], d = unique(AT_FDCWD, "d"), a = unique(AT_FDCWD, "d/a"), b = unique(AT_FDCWD, "d/b");
    EQ(list(d, 0, got, 256, 0), 2);
    CHECK(got[0] == a && got[1] == b);
    EQ(list(d, 0, got, 256, 1), 2);
    CHECK(got[0] == b && got[1] == a);
    EQ(list(d, a, got, 256, 0), 1);
    CHECK(got[0] == b);
    EQ(list(d, b, got, 256, 1), 1);
    CHECK(got[0] == a);
    EQ(list(d, b, got, 256, 0), 0);
    EQ(list(d, 0, got, 1, 0), 1);
    EQ(list(d, 0, NULL, 0, 0), 0);
    long all = list(LSMT_ROOT_, 0, got, 256, 0);
    CHECK(all > 4);
    CHECK(got[0] == unique(AT_FDCWD, "/"));
    for (long i = 1; i < all; i++)
        CHECK(got[i] > got[i - 1]);
    CHECK(got[all - 1] == b);
    ERR(list(d, 0, NULL, 256, 0), EFAULT);
    ERR(list(d, 0, got, 256, 2), EINVAL);
    ERR(list(d, 0, got, 2000000, 0), EOVERFLOW);
    ERR(list(d, 5, got, 256, 0), EINVAL);
    ERR(list(0, 0, got, 256, 0), EINVAL);
    ERR(list(LSMT_ROOT_ - 1, 0, got, 256, 0), ENOENT);
    /* Below the caller's root alone. */
    OK(chroot("d"));
    EQ(list(LSMT_ROOT_, 0, got, 256, 0), 3);
    CHECK(got[0] == d && got[1] == a && got[2] == b);
}

CASE(not_below_the_root) {
    alone();
    OK(mkdir("d", 0755));
    uint64_t id = unique(AT_FDCWD, "/"), got[8];
    OK(chroot("d"));
    struct about s;
    OK(about(id, 2, &s, 512));
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    uint32_t none[6] = {0};
    OK(syscall(SYS_capset, &header, none));
    ERR(about(id, 2, &s, 512), EPERM);
    ERR(list(id, 0, got, 8, 0), EPERM);
}

CASE(namespaces_told) {
    alone();
    FD(ns, open("/proc/self/ns/mnt", O_RDONLY));
    FD(other, open("/proc/self/ns/uts", O_RDONLY));
    uint64_t id = 0, ids[256];
    OK(ioctl(ns, 0x8008b705, &id));
    CHECK(id != 0);
    ERR(ioctl(other, 0x8008b705, &id), EINVAL);
    struct {
        uint32_t size, mounts;
        uint64_t id;
    } ours, next;
    OK(ioctl(ns, 0x8010b70a, &ours));
    EQ(ours.size, 16);
    EQ(ours.id, id);
    EQ(ours.mounts, list(LSMT_ROOT_, 0, ids, 256, 0));
    ERR(ioctl(ns, 0x8010b70a, NULL), EINVAL);
    struct about s;
    OK(about(unique(AT_FDCWD, "."), 0x40, &s, 512));
    EQ(s.ns, id);
    int there[2];
    OK(pipe(there));
    pid_t pid = fork();
    if (pid == 0) {
        OK(prctl(PR_SET_PDEATHSIG, SIGKILL));
        OK(unshare(CLONE_NEWNS));
        EQ(write(there[1], "x", 1), 1);
        pause();
    }
    char x;
    EQ(read(there[0], &x, 1), 1);
    /* From one to the next goes only who may know of all. */
    ERR(ioctl(ns, 0x8010b70b, &next), EPERM);
    char path[64];
    sprintf(path, "/proc/%d/ns/mnt", pid);
    FD(n, open(path, O_RDONLY));
    struct request r = {.size = 32, .id = LSMT_ROOT_};
    uint64_t theirs;
    OK(ioctl(n, 0x8008b705, &theirs));
    CHECK(theirs != id);
    r.ns_id = theirs;
    CHECK(syscall(458, &r, ids, 256, 0) > 1);
    r = (struct request){.size = 24, .ns_fd = n, .id = LSMT_ROOT_};
    CHECK(syscall(458, &r, ids, 256, 0) > 1);
    r.ns_fd = 99;
    ERR(syscall(458, &r, ids, 256, 0), EBADF);
    r.ns_fd = other;
    ERR(syscall(458, &r, ids, 256, 0), EINVAL);
    kill(pid, SIGKILL);
    t_wait(pid);
}

CASE(watched) {
    alone();
    OK(mkdir("d", 0700));
    const char *files[] = {"/proc/self/mounts", "/proc/self/mountinfo"};
    for (int i = 0; i < 2; i++) {
        FD(f, open(files[i], O_RDONLY));
        struct pollfd p = {.fd = f, .events = POLLPRI | POLLIN};
        EQ(poll(&p, 1, 0), 1);
        EQ(p.revents, POLLIN);
        p.events = POLLPRI;
        EQ(poll(&p, 1, 0), 0);
        FD(ep, epoll_create1(0));
        struct epoll_event e = {.events = EPOLLPRI};
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, f, &e));
        EQ(epoll_wait(ep, &e, 1, 0), 0);
        OK(mount("x", "d", "tmpfs", 0, NULL));
        EQ(epoll_wait(ep, &e, 1, 1000), 1);
        EQ(e.events, EPOLLPRI | EPOLLERR);
        EQ(epoll_wait(ep, &e, 1, 0), 0);
        OK(mount(NULL, "d", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL));
        EQ(poll(&p, 1, 0), 1);
        EQ(p.revents, POLLPRI | POLLERR);
        EQ(poll(&p, 1, 0), 0);
        uint64_t attr[4] = {8};
        OK(syscall(442, AT_FDCWD, "d", 0, attr, sizeof attr));
        EQ(poll(&p, 1, 0), 1);
        pid_t pid = fork();
        if (pid == 0) {
            t_sleep_ms(30);
            OK(umount("d"));
            _exit(0);
        }
        EQ(poll(&p, 1, 10000), 1);
        EQ(p.revents, POLLPRI | POLLERR);
        CHILD_OK(pid);
        int m = open_tree_(AT_FDCWD, ".", 1);
        CHECK(m >= 0);
        EQ(poll(&p, 1, 0), 0);
        OK(syscall(429, m, "", AT_FDCWD, "d", 4));
        EQ(poll(&p, 1, 0), 1);
        close(m);
        OK(umount("d"));
        close(f);
        close(ep);
    }
}
