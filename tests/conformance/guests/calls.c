/* The rarer calls on files and memory: openat2, fchmodat2, preadv2, handles, locks, keys, memory policy. */
#include "t.h"
#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)

static int open2(int dir, const char *path, unsigned long flags, unsigned long mode, unsigned long resolve) {
    struct open_how how = {flags, mode, resolve};
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}
CASE(openat2_arguments) {
    struct {
        struct open_how how;
        unsigned long more;
    } big = {{O_RDONLY, 0, 0}, 0};
    OK(syscall(SYS_openat2, AT_FDCWD, ".", &big, sizeof big));
    big.more = 1;
    ERR(syscall(SYS_openat2, AT_FDCWD, ".", &big, sizeof big), E2BIG);
    ERR(syscall(SYS_openat2, AT_FDCWD, ".", &big, 16), EINVAL);
    ERR(syscall(SYS_openat2, AT_FDCWD, ".", &big, 5000), E2BIG);
    ERR(syscall(SYS_openat2, AT_FDCWD, ".", BAD_ADDRESS, 24), EFAULT);
    ERR(open2(AT_FDCWD, ".", 1ul << 40, 0, 0), EINVAL);
    ERR(open2(AT_FDCWD, ".", O_RDONLY, 0600, 0), EINVAL);
    ERR(open2(AT_FDCWD, "f", O_CREAT | O_RDWR, 0200000, 0), EINVAL);
    ERR(open2(AT_FDCWD, ".", O_RDONLY, 0, 0x80), EINVAL);
    ERR(open2(AT_FDCWD, ".", O_RDONLY, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
    ERR(open2(AT_FDCWD, ".", O_PATH | O_RDWR, 0, 0), EINVAL);
    ERR(open2(AT_FDCWD, "none", O_RDONLY, 0, 0), ENOENT);
    ERR(open2(-5, "none", O_RDONLY, 0, 0), EBADF);
    ERR(open2(AT_FDCWD, "f", O_CREAT | O_RDWR, 0600, RESOLVE_CACHED), EAGAIN);
    FD(fd, open2(AT_FDCWD, "f", O_CREAT | O_RDWR | O_CLOEXEC, 0640, 0));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}
CASE(openat2_resolve) {
    OK(mkdir("d", 0755));
    OK(mkdir("d/e", 0755));
    t_write_file("d/f", "inner");
    t_write_file("f", "outer");
    OK(symlink("f", "d/good"));
    OK(symlink("../f", "d/up"));
    OK(symlink("/f", "d/abs"));
    OK(symlink("e/../../f", "d/twice"));
    FD(d, open("d", O_RDONLY | O_DIRECTORY));
    OK(open2(d, "f", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(open2(d, "e/../f", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(open2(d, "good", O_RDONLY, 0, RESOLVE_BENEATH));
    OK(open2(d, ".", O_RDONLY, 0, RESOLVE_BENEATH));
    ERR(open2(d, "../f", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR(open2(d, "..", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR(open2(d, "up", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR(open2(d, "abs", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR(open2(d, "twice", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR(open2(d, "/etc", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR(open2(d, "../new", O_CREAT | O_RDWR, 0600, RESOLVE_BENEATH), EXDEV);
    const char *inner[] = {"f", "../f", "/f", "up", "abs", "twice", "../../../f", "/../f"};
    for (int i = 0; i < 8; i++) {
        char got[8] = {0};
        FD(fd, open2(d, inner[i], O_RDONLY, 0, RESOLVE_IN_ROOT));
        EQ(read(fd, got, 8), 5);
        CHECK(strcmp(got, "inner") == 0);
        close(fd);
    }
    ERR(open2(d, "good", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
    OK(open2(d, "good", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS));
    OK(open2(d, "f", O_RDONLY, 0, RESOLVE_NO_SYMLINKS));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", d);
    ERR(open2(AT_FDCWD, path, O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
    OK(open2(AT_FDCWD, path, O_RDONLY, 0, 0));
    OK(open2(d, "good", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS));
    ERR(open2(AT_FDCWD, "/proc/self/status", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
    OK(open2(d, "e/../good", O_RDONLY, 0, RESOLVE_NO_XDEV));
    FD(proc, open("/proc", O_RDONLY));
    ERR(open2(proc, "..", O_RDONLY, 0, RESOLVE_NO_XDEV), EXDEV);
    OK(open2(proc, "self/status", O_RDONLY, 0, RESOLVE_NO_XDEV));
}
CASE(fchmodat2_flags) {
    t_write_file("f", "x");
    OK(symlink("f", "l"));
    if (syscall(452, AT_FDCWD, "f", 0600, 0) == -1 && errno == ENOSYS)
        SKIP("no fchmodat2");
    OK(syscall(452, AT_FDCWD, "f", 0640, AT_SYMLINK_NOFOLLOW));
    struct stat st;
    OK(stat("f", &st));
    EQ(st.st_mode & 0777, 0640);
    ERR(syscall(452, AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    ERR(syscall(452, AT_FDCWD, "l", 0600, 1), EINVAL);
    ERR(syscall(452, AT_FDCWD, "none", 0600, 0), ENOENT);
    FD(fd, open("f", O_PATH));
    OK(syscall(452, fd, "", 0604, AT_EMPTY_PATH));
    OK(stat("f", &st));
    EQ(st.st_mode & 0777, 0604);
}
CASE(path_only) {
    t_write_file("f", "x");
    FD(fd, open("f", O_PATH));
    char c;
    struct stat st;
    ERR(read(fd, &c, 1), EBADF);
    ERR(fchmod(fd, 0600), EBADF);
    ERR(ftruncate(fd, 0), EBADF);
    ERR(lseek(fd, 0, SEEK_SET), EBADF);
    ERR((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
    OK(fstat(fd, &st));
    EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    FD(copy, dup(fd));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", copy);
    t_read_is(path, "x");
    OK(linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW));
    FD(dir, open(".", O_PATH | O_DIRECTORY));
    OK(fchdir(dir));
    OK(fstatat(dir, "g", &st, 0));
    ERR(openat(fd, "x", O_RDONLY), ENOTDIR);
}
CASE(preadv2_flags) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    char got[8] = {0};
    struct iovec out = {"12345", 5}, in = {got, 8};
    EQ(pwritev2(fd, &out, 1, 0, RWF_DSYNC), 5);
    EQ(pwritev2(fd, &out, 1, 0, RWF_APPEND | RWF_SYNC), 5);
    EQ(lseek(fd, 0, SEEK_CUR), 0);
    EQ(preadv2(fd, &in, 1, 3, 0), 7);
    CHECK(memcmp(got, "4512345", 7) == 0);
    EQ(preadv2(fd, &in, 1, -1, 0), 8);
    EQ(lseek(fd, 0, SEEK_CUR), 8);
    EQ(pwritev2(fd, &out, 1, -1, RWF_APPEND), 5);
    EQ(lseek(fd, 0, SEEK_CUR), 15);
    ERR(preadv2(fd, &in, 1, 0, 0x10000), EOPNOTSUPP);
    ERR(pwritev2(fd, &out, 1, 0, 0x10000), EOPNOTSUPP);
    ERR(preadv2(fd, &in, 1, -2, 0), EINVAL);
    ERR(pwritev2(-1, &out, 1, 0, 0), EBADF);
    int p[2];
    OK(pipe(p));
    ERR(preadv2(p[0], &in, 1, -1, RWF_NOWAIT), EAGAIN);
    ERR(preadv2(p[0], &in, 1, 0, 0), ESPIPE);
    EQ(pwritev2(p[1], &out, 1, -1, 0), 5);
    EQ(preadv2(p[0], &in, 1, -1, RWF_NOWAIT), 5);
}
CASE(busy_text) {
    FD(self, open("/proc/self/exe", O_RDONLY));
    FD(fd, open("program", O_CREAT | O_WRONLY, 0755));
    char buffer[65536];
    ssize_t n;
    while ((n = read(self, buffer, sizeof buffer)) > 0)
        EQ(write(fd, buffer, n), n);
    char *argv[] = {"program", "no such case", NULL};
    ERR(execv("./program", argv), ETXTBSY);
    close(fd);
    t_write_file("script", "#!/bin/sh\nread x\n");
    OK(chmod("script", 0755));
    int go[2], up[2];
    OK(pipe(go));
    OK(pipe2(up, O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        /* sleeps as the program itself */
        char *slow[] = {"program", "busy_sleep", NULL};
        dup2(go[0], 0);
        close(go[1]);
        dup2(open("/dev/null", O_WRONLY), 1);
        execv("./program", slow);
        _exit(9);
    }
    close(up[1]);
    char c;
    EQ(read(up[0], &c, 1), 0);
    ERR(open("program", O_WRONLY), ETXTBSY);
    ERR(open("program", O_RDWR), ETXTBSY);
    ERR(open("program", O_RDONLY | O_TRUNC), ETXTBSY);
    ERR(truncate("program", 0), ETXTBSY);
    OK(open("program", O_RDONLY));
    OK(rename("program", "other"));
    ERR(open("other", O_WRONLY), ETXTBSY);
    EQ(write(go[1], "x", 1), 1);
    CHILD_OK(pid);
    OK(open("other", O_WRONLY));
}
CASE(busy_sleep) {
    char c;
    if (strcmp(t_program, "program") == 0)
        read(0, &c, 1);
}
CASE(locking) {
    char *area = mmap(NULL, 64 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct rlimit limit = {8 * PAGE, 8 * PAGE};
    if (geteuid() == 0) {
        OK(setgid(12345));
        OK(setrlimit(RLIMIT_MEMLOCK, &limit));
        OK(setuid(12345));
    } else
        OK(setrlimit(RLIMIT_MEMLOCK, &limit));
    OK(mlock(area + 100, 4 * PAGE));
    OK(mlock(area, 5 * PAGE));
    OK(mlock(area, 8 * PAGE));
    ERR(mlock(area + 8 * PAGE, 1), ENOMEM);
    ERR(mlock(area, 9 * PAGE), ENOMEM);
    ERR(madvise(area, PAGE, MADV_DONTNEED), EINVAL);
    ERR(msync(area, PAGE, MS_INVALIDATE), EBUSY);
    OK(munlock(area, 4 * PAGE));
    OK(madvise(area, PAGE, MADV_DONTNEED));
    OK(mlock2(area + 8 * PAGE, 2 * PAGE, MLOCK_ONFAULT));
    ERR(mlock2(area, PAGE, 8), EINVAL);
    OK(munmap(area + 8 * PAGE, PAGE));
    OK(mlock(area + 10 * PAGE, PAGE));
    ERR(mlock(area + 7 * PAGE, PAGE * 3), ENOMEM);
    ERR(munlock(area + 7 * PAGE, PAGE * 3), ENOMEM);
    ERR(mlockall(0), EINVAL);
    ERR(mlockall(8), EINVAL);
    ERR(mlockall(MCL_ONFAULT), EINVAL);
    ERR(mlockall(MCL_CURRENT), ENOMEM);
    OK(munlockall());
    limit.rlim_cur = 0;
    OK(setrlimit(RLIMIT_MEMLOCK, &limit));
    ERR(mlock(area, 1), EPERM);
    OK(munlock(area, 1));
}
CASE(advice) {
    char *area = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FD(fd, memfd_create("m", 0));
    OK(ftruncate(fd, 4 * PAGE));
    char *file = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    memset(area, 1, 8 * PAGE);
    memset(file, 2, 4 * PAGE);
    OK(madvise(area, PAGE, MADV_DONTNEED));
    EQ(area[0], 0);
    OK(madvise(area + PAGE, PAGE, MADV_FREE));
    ERR(madvise(file, PAGE, MADV_FREE), EINVAL);
    ERR(madvise(shared, PAGE, MADV_WIPEONFORK), EINVAL);
    OK(madvise(area + 2 * PAGE, PAGE, MADV_WIPEONFORK));
    OK(madvise(area + 3 * PAGE, PAGE, MADV_DONTFORK));
    OK(madvise(area + 4 * PAGE, PAGE, MADV_DONTFORK));
    OK(madvise(area + 4 * PAGE, PAGE, MADV_DOFORK));
    OK(madvise(file + PAGE, PAGE, MADV_REMOVE));
    EQ(file[PAGE], 0);
    EQ(file[2 * PAGE], 2);
    ERR(madvise(area, PAGE, MADV_REMOVE), EINVAL);
    OK(madvise(area, 2 * PAGE, MADV_COLD));
    OK(madvise(area, PAGE, 22 /* POPULATE_READ */));
    OK(madvise(area, PAGE, 23 /* POPULATE_WRITE */));
    ERR(madvise(area + 1, PAGE, MADV_NORMAL), EINVAL);
    ERR(madvise(area, PAGE, 99), EINVAL);
    OK(madvise(area, 0, MADV_NORMAL));
    pid_t pid = fork();
    if (pid == 0) {
        unsigned char v[1];
        EQ(area[2 * PAGE], 0);
        EQ(area[4 * PAGE], 1);
        ERR(mincore(area + 3 * PAGE, PAGE, v), ENOMEM);
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(area[2 * PAGE], 1);
    OK(munmap(area + 5 * PAGE, PAGE));
    ERR(madvise(area + 4 * PAGE, 3 * PAGE, MADV_NORMAL), ENOMEM);
    ERR(madvise(area + 4 * PAGE, 3 * PAGE, MADV_COLD), ENOMEM);
}
CASE(keys) {
    char *area = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(syscall(SYS_pkey_mprotect, area, PAGE, PROT_READ, -1));
    ERR(syscall(SYS_pkey_mprotect, area, PAGE, PROT_READ, 77), EINVAL);
    ERR(syscall(SYS_pkey_alloc, 1, 0), EINVAL);
    ERR(syscall(SYS_pkey_alloc, 0, 77), EINVAL);
    ERR(syscall(SYS_pkey_free, 77), EINVAL);
}
CASE(memory_policy) {
    int policy = 7;
    unsigned long masks[16] = {0}, mask = 1;
    if (syscall(SYS_get_mempolicy, &policy, masks, 1024, NULL, 0) == -1 && errno == ENOSYS)
        SKIP("no NUMA");
    EQ(policy, 0);
    OK(syscall(SYS_get_mempolicy, NULL, masks, 1024, NULL, 4));
    EQ(masks[0] & 1, 1);
    ERR(syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 1 << 8), EINVAL);
    ERR(syscall(SYS_get_mempolicy, &policy, NULL, 0, BAD_ADDRESS, 2), EFAULT);
    char *area = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(syscall(SYS_get_mempolicy, &policy, NULL, 0, area, 2));
    OK(syscall(SYS_set_mempolicy, 0, NULL, 0));
    ERR(syscall(SYS_set_mempolicy, 99, NULL, 0), EINVAL);
    ERR(syscall(SYS_set_mempolicy, 2, NULL, 0), EINVAL);
    ERR(syscall(SYS_set_mempolicy, 2, BAD_ADDRESS, 64), EFAULT);
    OK(syscall(SYS_mbind, area, PAGE, 2, &mask, 64, 0));
    masks[0] = 0;
    OK(syscall(SYS_get_mempolicy, &policy, masks, 1024, area, 2));
    EQ(policy, 2);
    EQ(masks[0], 1);
    OK(syscall(SYS_mbind, area, PAGE, 1, NULL, 0, 0));
    OK(syscall(SYS_get_mempolicy, &policy, masks, 1024, area, 2));
    EQ(policy, 4);
    EQ(masks[0], 0);
    OK(syscall(SYS_set_mempolicy, 3, &mask, 64));
    pid_t pid = fork();
    if (pid == 0) {
        OK(syscall(SYS_get_mempolicy, &policy, masks, 1024, NULL, 0));
        EQ(policy, 3);
        EQ(masks[0], 1);
        OK(syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 1));
        EQ(policy, 0);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(syscall(SYS_set_mempolicy, 0, NULL, 0));
    ERR(syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 1), EINVAL);
    unsigned long none = 0;
    EQ(syscall(SYS_migrate_pages, 0, 64, &mask, &mask), 0);
    EQ(syscall(SYS_migrate_pages, getpid(), 64, &none, &mask), 0);
    ERR(syscall(SYS_migrate_pages, 0, 64, &mask, &none), EINVAL);
    ERR(syscall(SYS_migrate_pages, 4000000, 64, &mask, &mask), ESRCH);
    ERR(syscall(SYS_migrate_pages, 0, -1L, &mask, &mask), EINVAL);
    ERR(syscall(SYS_migrate_pages, 0, 64, &mask, BAD_ADDRESS), EFAULT);
    ERR(syscall(SYS_mbind, area + 1, PAGE, 2, &mask, 64, 0), EINVAL);
    ERR(syscall(SYS_mbind, area, PAGE, 2, &mask, 64, 0x100), EINVAL);
}
CASE(handles) {
    char handle[64] = {0};
    int mount;
    ERR(syscall(SYS_name_to_handle_at, AT_FDCWD, "none", handle, &mount, 0), ENOENT);
    ERR(syscall(SYS_name_to_handle_at, AT_FDCWD, ".", handle, &mount, 1 << 30), EINVAL);
    if (geteuid() == 0)
        OK(setuid(12345));
    CHECK(syscall(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY) == -1);
}
