/* Calls, commands and flags that came after Linux 6.1. A host that is older skips them. */
#include "t.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/xattr.h>

#define NR_cachestat 451
#define NR_map_shadow_stack 453
#define NR_futex_wake 454
#define NR_futex_wait 455
#define NR_futex_requeue 456
#define NR_lsm_get_self_attr 459
#define NR_lsm_set_self_attr 460
#define NR_lsm_list_modules 461
#define NR_mseal 462
#define NR_setxattrat 463
#define NR_getxattrat 464
#define NR_listxattrat 465
#define NR_removexattrat 466

#define PAGE 4096UL
#define U32_PRIVATE (2 | 128)
#define U32_SHARED 2

/* The call is one the host has. */
#define NEED(call)                                                                                                     \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        if ((long)(call) == -1 && errno == ENOSYS)                                                                     \
            SKIP("the host has no such call");                                                                         \
    } while (0)

static long mseal_(void *at, size_t length, unsigned long flags) { return syscall(NR_mseal, at, length, flags); }
static char *pages(int n, int prot) {
    char *at = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

CASE(sealed_memory_stays) {
    NEED(mseal_(NULL, 0, 0));
    char *at = pages(4, PROT_READ | PROT_WRITE), *other = pages(4, PROT_READ);
    at[PAGE] = 7;
    OK(mseal_(at + PAGE, PAGE, 0));
    OK(mseal_(at + PAGE, PAGE, 0));
    OK(mseal_(at, 0, 0));
    ERR(munmap(at, 4 * PAGE), EPERM);
    ERR(munmap(at + PAGE, 1), EPERM);
    ERR(mprotect(at + PAGE, PAGE, PROT_READ), EPERM);
    ERR(mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE), EPERM);
    ERR(mmap(at + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EPERM);
    ERR(mremap(at + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EPERM);
    ERR(mremap(at + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other), EPERM);
    ERR(mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE), EPERM);
    /* Who may write it may discard it. */
    OK(madvise(at + PAGE, PAGE, MADV_DONTNEED));
    EQ(at[PAGE], 0);
    OK(mlock(at + PAGE, PAGE));
    OK(munlock(at + PAGE, PAGE));
    OK(munmap(at, PAGE));
    OK(munmap(at + 2 * PAGE, 2 * PAGE));
    pid_t pid = fork();
    if (pid == 0) {
        ERR(munmap(at + PAGE, PAGE), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(sealed_memory_that_is_only_read) {
    NEED(mseal_(NULL, 0, 0));
    char *at = pages(2, PROT_READ | PROT_WRITE);
    at[0] = 7;
    OK(mprotect(at, 2 * PAGE, PROT_READ));
    OK(mseal_(at, 2 * PAGE, 0));
    int destructive[] = {MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_WIPEONFORK};
    for (size_t i = 0; i < sizeof destructive / sizeof *destructive; i++)
        ERR(madvise(at, PAGE, destructive[i]), EPERM);
    OK(madvise(at, PAGE, MADV_WILLNEED));
    EQ(at[0], 7);
    FD(fd, open("file", O_RDWR | O_CREAT, 0644));
    OK(ftruncate(fd, PAGE));
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    OK(mseal_(file, PAGE, 0));
    OK(madvise(file, PAGE, MADV_DONTNEED));
    ERR(munmap(file, PAGE), EPERM);
}
CASE(what_cannot_be_sealed) {
    NEED(mseal_(NULL, 0, 0));
    char *at = pages(3, PROT_READ);
    OK(munmap(at + PAGE, PAGE));
    ERR(mseal_(at, PAGE, 1), EINVAL);
    ERR(mseal_(at + 1, PAGE, 0), EINVAL);
    ERR(mseal_(at, -PAGE + 2, 0), EINVAL);
    ERR(mseal_(at, 3 * PAGE, 0), ENOMEM);
    ERR(mseal_(at + PAGE, PAGE, 0), ENOMEM);
    OK(munmap(at, PAGE));
    int id = shmget(IPC_PRIVATE, PAGE, 0600);
    CHECK(id >= 0);
    char *segment = shmat(id, NULL, 0);
    CHECK(segment != (char *)-1);
    OK(shmctl(id, IPC_RMID, NULL));
    OK(mseal_(segment, PAGE, 0));
    /* It says that it has gone, and stays. */
    OK(shmdt(segment));
    segment[0] = 1;
    ERR(munmap(segment, PAGE), EPERM);
    char *end = sbrk(0);
    end = sbrk((PAGE - (unsigned long)end % PAGE) + PAGE);
    char *top = sbrk(0);
    OK(mseal_(top - PAGE, PAGE, 0));
    EQ(syscall(SYS_brk, top - PAGE), top);
}
static void touch(char *at, int signal_) {
    pid_t pid = fork();
    if (pid == 0) {
        *(volatile char *)at = 1;
        _exit(0);
    }
    int status = t_wait(pid);
    EQ(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signal_);
}
CASE(guards_are_faults_until_they_are_removed) {
    const int install = 102, away = 103;
    char *at = pages(4, PROT_READ | PROT_WRITE);
    memset(at, 7, 4 * PAGE);
    if (madvise(at + PAGE, PAGE, install) == -1 && errno == EINVAL)
        SKIP("the host has no guard pages");
    touch(at + PAGE, SIGSEGV);
    touch(at + 2 * PAGE, 0);
    FD(zero, open("/dev/zero", O_RDONLY));
    ERR(read(zero, at + PAGE, 1), EFAULT);
    OK(madvise(at, 4 * PAGE, away));
    touch(at + PAGE, 0);
    EQ(at[PAGE], 0);
    EQ(at[0], 7);
    OK(mlock(at, PAGE));
    ERR(madvise(at, PAGE, install), EINVAL);
    OK(munmap(at + 2 * PAGE, PAGE));
    ERR(madvise(at + PAGE, 3 * PAGE, install), ENOMEM);
}

static uint32_t word, second;
static long woken;
static void *waits(void *private) {
    long flags = private ? U32_PRIVATE : U32_SHARED;
    while ((woken = syscall(NR_futex_wait, &word, 0UL, 1UL, flags, NULL, CLOCK_MONOTONIC)) == -1 && errno == EINTR)
        ;
    return NULL;
}
static long wake(uint32_t *at, unsigned long mask, int n, int flags) {
    return syscall(NR_futex_wake, at, mask, n, flags);
}
CASE(futexes_by_calls_of_their_own) {
    NEED(wake(&word, 1, 1, U32_PRIVATE));
    for (long private = 0; private < 2; private++) {
        pthread_t thread;
        int flags = private ? U32_PRIVATE : U32_SHARED;
        woken = 9;
        EQ(pthread_create(&thread, NULL, waits, (void *)private), 0);
        t_sleep_ms(20);
        EQ(wake(&word, 2, 1, flags), 0);
        EQ(wake(&word, 1, 0, flags), 0);
        while (wake(&word, 3, 1, flags) == 0)
            t_sleep_ms(2);
        pthread_join(thread, NULL);
        EQ(woken, 0);
    }
    struct timespec until;
    for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++) {
        OK(clock_gettime(clock, &until));
        ERR(syscall(NR_futex_wait, &word, 0UL, 1UL, U32_PRIVATE, &until, clock), ETIMEDOUT);
    }
    ERR(syscall(NR_futex_wait, &word, 0UL, 1UL, U32_PRIVATE, &until, CLOCK_BOOTTIME), EINVAL);
    ERR(syscall(NR_futex_wait, &word, 1UL, 1UL, U32_PRIVATE, NULL, 0), EAGAIN);
    ERR(syscall(NR_futex_wait, &word, 0UL, 0UL, U32_PRIVATE, NULL, 0), EINVAL);
    ERR(syscall(NR_futex_wait, &word, 1UL << 32, 1UL, U32_PRIVATE, NULL, 0), EINVAL);
    ERR(syscall(NR_futex_wait, &word, 0UL, 1UL, 1, NULL, 0), EINVAL);
    ERR(wake(&word, 1, 1, 0), EINVAL);
    ERR(wake(&word, 0, 1, U32_PRIVATE), EINVAL);
    ERR(wake(&word, 1UL << 32, 1, U32_PRIVATE), EINVAL);
    ERR(wake((uint32_t *)((char *)&word + 1), 1, 1, U32_PRIVATE), EINVAL);
    ERR(wake(&word, 1, 1, 0x1000 | U32_PRIVATE), EINVAL);
}
/* One waits by futex(2), the other call wakes it: both mean the same word. */
static void *waits_as_before(void *unused) {
    while (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == -1 && errno == EINTR)
        ;
    return NULL;
}
struct waitv {
    uint64_t val, addr;
    uint32_t flags, reserved;
};
CASE(waiters_are_moved_from_word_to_word) {
    NEED(wake(&word, 1, 1, U32_PRIVATE));
    struct waitv list[2] = {{0, (uint64_t)&word, U32_PRIVATE, 0}, {0, (uint64_t)&second, U32_PRIVATE, 0}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        EQ(pthread_create(&threads[i], NULL, waits_as_before, NULL), 0);
    int done = 0;
    for (int round = 0; round < 5000 && done < 3; round++) {
        long n = syscall(NR_futex_requeue, list, 0, 1, 1);
        CHECK(n >= 0 && n <= 2);
        if (n == 2)
            EQ(wake(&second, -1U, 5, U32_PRIVATE), 1);
        done += n;
        t_sleep_ms(1);
    }
    EQ(done, 3);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    list[0].val = 1;
    ERR(syscall(NR_futex_requeue, list, 0, 1, 1), EAGAIN);
    ERR(syscall(NR_futex_requeue, list, 1, 1, 1), EINVAL);
    ERR(syscall(NR_futex_requeue, list, 0, -1, 1), EINVAL);
    ERR(syscall(NR_futex_requeue, NULL, 0, 1, 1), EINVAL);
    ERR(syscall(NR_futex_requeue, BAD_ADDRESS, 0, 1, 1), EFAULT);
    list[1].reserved = 1;
    ERR(syscall(NR_futex_requeue, list, 0, 1, 1), EINVAL);
    list[1] = (struct waitv){1UL << 32, (uint64_t)&second, U32_PRIVATE, 0};
    ERR(syscall(NR_futex_requeue, list, 0, 1, 1), EINVAL);
}

CASE(cached_pages) {
    uint64_t range[2] = {0, 0}, told[5];
    FD(fd, memfd_create("cached", 0));
    NEED(syscall(NR_cachestat, fd, range, told, 0));
    EQ(told[0], 0);
    char text[PAGE] = "text";
    EQ(pwrite(fd, text, PAGE, 0), PAGE);
    EQ(pwrite(fd, text, 5, 5 * PAGE - 2), 5);
    OK(ftruncate(fd, 900 * PAGE));
    struct {
        uint64_t range[2], pages;
    } cases[] = {{{0, 0}, 3},           {{0, PAGE}, 1},           {{0, PAGE + 1}, 1}, {{PAGE, 2 * PAGE}, 0},
                 {{PAGE - 1, 2}, 1},    {{4 * PAGE, 2 * PAGE}, 2}, {{5 * PAGE, 1}, 1}, {{5 * PAGE + 9, 0}, 1},
                 {{6 * PAGE, 0}, 0},    {{1000 * PAGE, 9}, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(told, 0xff, sizeof told);
        OK(syscall(NR_cachestat, fd, cases[i].range, told, 0));
        if (told[0] != cases[i].pages)
            t_fail("case %zu: %lu pages", i, (unsigned long)told[0]);
        EQ(told[1] + told[2] + told[3] + told[4], 0);
    }
    ERR(syscall(NR_cachestat, -1, range, told, 0), EBADF);
    ERR(syscall(NR_cachestat, fd, NULL, told, 0), EFAULT);
    ERR(syscall(NR_cachestat, fd, range, NULL, 0), EFAULT);
    ERR(syscall(NR_cachestat, fd, range, told, 1), EINVAL);
    int ends[2];
    OK(pipe(ends));
    OK(syscall(NR_cachestat, ends[0], range, told, 0));
    EQ(told[0], 0);
    FD(place, open(".", O_PATH));
    ERR(syscall(NR_cachestat, place, range, told, 0), EBADF);
}

struct lsm {
    uint64_t id, flags, len, value;
};
CASE(security_modules) {
    uint64_t ids[32];
    uint32_t size = sizeof ids;
    NEED(syscall(NR_lsm_list_modules, ids, &size, 0));
    long n = syscall(NR_lsm_list_modules, ids, &size, 0);
    CHECK(n >= 1);
    EQ(size, 8 * n);
    int capability = 0;
    for (int i = 0; i < n; i++)
        capability |= ids[i] == 100;
    EQ(capability, 1);
    ERR(syscall(NR_lsm_list_modules, ids, &size, 1), EINVAL);
    ERR(syscall(NR_lsm_list_modules, ids, NULL, 0), EFAULT);
    ERR(syscall(NR_lsm_list_modules, NULL, &size, 0), EFAULT);
    size = 7;
    ERR(syscall(NR_lsm_list_modules, ids, &size, 0), E2BIG);
    EQ(size, 8 * n);
    ERR(syscall(NR_lsm_get_self_attr, 0, NULL, &size, 0), EINVAL);
    ERR(syscall(NR_lsm_get_self_attr, 100, NULL, NULL, 0), EINVAL);
    ERR(syscall(NR_lsm_get_self_attr, 100, NULL, BAD_ADDRESS, 0), EFAULT);
    ERR(syscall(NR_lsm_get_self_attr, 100, NULL, &size, 2), EINVAL);
    ERR(syscall(NR_lsm_get_self_attr, 100, NULL, &size, 1), EINVAL);
    struct lsm context = {100, 0, sizeof context, 0};
    ERR(syscall(NR_lsm_set_self_attr, 100, &context, sizeof context, 1), EINVAL);
    ERR(syscall(NR_lsm_set_self_attr, 100, &context, sizeof context - 1, 0), EINVAL);
    ERR(syscall(NR_lsm_set_self_attr, 100, &context, PAGE + 1, 0), E2BIG);
    ERR(syscall(NR_lsm_set_self_attr, 100, BAD_ADDRESS, sizeof context, 0), EFAULT);
    ERR(syscall(NR_lsm_set_self_attr, 100, &context, sizeof context, 0), EOPNOTSUPP);
    context.value = 1;
    ERR(syscall(NR_lsm_set_self_attr, 100, &context, sizeof context, 0), EINVAL);
}

struct xattr_arguments {
    uint64_t value;
    uint32_t size, flags;
};
CASE(attributes_below_a_directory) {
    OK(mkdir("d", 0755));
    t_write_file("d/f", "");
    OK(symlink("f", "d/link"));
    FD(dir, open("d", O_RDONLY | O_DIRECTORY));
    FD(file, open("d/f", O_RDWR));
    FD(place, open("d/f", O_PATH));
    struct xattr_arguments set = {(uint64_t)"value", 5, XATTR_CREATE};
    char text[64];
    struct xattr_arguments get = {(uint64_t)text, sizeof text, 0};
    NEED(syscall(NR_setxattrat, dir, "f", 0, "user.a", &set, sizeof set));
    ERR(syscall(NR_setxattrat, dir, "link", 0, "user.a", &set, sizeof set), EEXIST);
    ERR(syscall(NR_setxattrat, dir, "link", AT_SYMLINK_NOFOLLOW, "user.a", &set, sizeof set), EPERM);
    set.flags = 0;
    OK(syscall(NR_setxattrat, file, "", AT_EMPTY_PATH, "user.b", &set, sizeof set));
    OK(syscall(NR_setxattrat, file, NULL, AT_EMPTY_PATH, "user.b", &set, sizeof set));
    ERR(syscall(NR_setxattrat, place, "", AT_EMPTY_PATH, "user.b", &set, sizeof set), EBADF);
    ERR(syscall(NR_setxattrat, file, "", 0, "user.b", &set, sizeof set), ENOENT);
    ERR(syscall(NR_setxattrat, dir, "f", 1, "user.b", &set, sizeof set), EINVAL);
    ERR(syscall(NR_setxattrat, dir, "f", 0, "user.b", &set, sizeof set - 1), EINVAL);
    ERR(syscall(NR_setxattrat, dir, "f", 0, "user.b", &set, PAGE + 1), E2BIG);
    EQ(syscall(NR_getxattrat, dir, "link", 0, "user.a", &get, sizeof get), 5);
    EQ(memcmp(text, "value", 5), 0);
    EQ(syscall(NR_getxattrat, file, NULL, AT_EMPTY_PATH, "user.b", &get, sizeof get), 5);
    get.size = 3;
    ERR(syscall(NR_getxattrat, dir, "f", 0, "user.a", &get, sizeof get), ERANGE);
    get.flags = 1;
    ERR(syscall(NR_getxattrat, dir, "f", 0, "user.a", &get, sizeof get), EINVAL);
    EQ(syscall(NR_listxattrat, dir, "f", 0, text, sizeof text), 14);
    ERR(syscall(NR_listxattrat, -1, "f", 0, text, sizeof text), EBADF);
    OK(syscall(NR_removexattrat, dir, "f", 0, "user.a"));
    ERR(syscall(NR_removexattrat, dir, "f", 0, "user.a"), ENODATA);
    OK(syscall(NR_removexattrat, file, "", AT_EMPTY_PATH, "user.b"));
}

CASE(a_descriptor_of_the_same_description) {
    FD(fd, open("made", O_RDWR | O_CREAT, 0600));
    int same = dup(fd);
    long is = fcntl(fd, 1027 /* F_DUPFD_QUERY */, same);
    if (is == -1 && errno == EINVAL)
        SKIP("the host does not tell");
    EQ(is, 1);
    FD(other, open("made", O_RDWR | O_CREAT, 0600));
    FD(place, open("made", O_PATH));
    EQ(fcntl(fd, 1027, other), 0);
    EQ(fcntl(place, 1027, place), 1);
    is = fcntl(fd, 1028 /* F_CREATED_QUERY */);
    if (is == -1 && errno == EINVAL)
        SKIP("the host does not tell who made a file");
    EQ(is, 1);
    EQ(fcntl(same, 1028), 1);
    EQ(fcntl(other, 1028), 0);
    EQ(fcntl(place, 1028), 0);
}
CASE(the_descriptor_itself_without_a_name) {
    struct stat st;
    struct statx sx;
    FD(fd, open(".", O_RDONLY));
    if (syscall(SYS_newfstatat, fd, NULL, &st, AT_EMPTY_PATH) == -1 && errno == EFAULT)
        SKIP("the host wants a name");
    OK(syscall(SYS_newfstatat, AT_FDCWD, NULL, &st, AT_EMPTY_PATH));
    OK(syscall(SYS_newfstatat, AT_FDCWD, "", &st, AT_EMPTY_PATH));
    CHECK(S_ISDIR(st.st_mode));
    OK(syscall(SYS_statx, fd, NULL, AT_EMPTY_PATH, STATX_INO, &sx));
    EQ(sx.stx_ino, st.st_ino);
    OK(syscall(SYS_statx, AT_FDCWD, NULL, AT_EMPTY_PATH, STATX_INO, &sx));
    EQ(sx.stx_ino, st.st_ino);
    ERR(syscall(SYS_newfstatat, fd, NULL, &st, 0), EFAULT);
    ERR(syscall(SYS_statx, fd, NULL, 0, STATX_INO, &sx), EFAULT);
    ERR(syscall(SYS_newfstatat, -1, NULL, &st, AT_EMPTY_PATH), EBADF);
}

struct query {
    uint64_t size, flags, addr, start, end, vma_flags, page_size, offset, inode;
    uint32_t major, minor, name_size, build_id_size;
    uint64_t name_addr, build_id_addr;
};
#define PROCMAP_QUERY_ _IOWR('f', 17, struct query)
CASE(a_mapping_is_asked_for) {
    FD(maps, open("/proc/self/maps", O_RDONLY));
    FD(fd, open("mapped", O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, 3 * PAGE));
    char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
    char name[300] = "", directory[200];
    struct query q = {.size = sizeof q, .addr = (uint64_t)at + 5, .name_addr = (uint64_t)name, .name_size = sizeof name};
    if (ioctl(maps, PROCMAP_QUERY_, &q) == -1 && errno == ENOTTY)
        SKIP("the host knows no such question");
    struct stat st;
    OK(fstat(fd, &st));
    EQ(q.start, at);
    EQ(q.end, at + 2 * PAGE);
    EQ(q.vma_flags, 1 | 2 | 8);
    EQ(q.page_size, PAGE);
    EQ(q.offset, PAGE);
    EQ(q.inode, st.st_ino);
    CHECK(getcwd(directory, sizeof directory));
    EQ(strncmp(name, directory, strlen(directory)), 0);
    EQ(q.name_size, strlen(name) + 1);
    CHECK(strcmp(name + strlen(directory), "/mapped") == 0);
    q.name_size = 4;
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), ENAMETOOLONG);
    q.name_size = 0;
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), EINVAL);
    q = (struct query){.size = sizeof q, .addr = (uint64_t)at, .flags = 4};
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), ENOENT);
    q = (struct query){.size = sizeof q, .addr = 1};
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), ENOENT);
    q.flags = 0x10;
    OK(ioctl(maps, PROCMAP_QUERY_, &q));
    CHECK(q.start > 1);
    q.flags = 0x40;
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), EINVAL);
    q.size = 23;
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), EINVAL);
    q.size = PAGE + 1;
    ERR(ioctl(maps, PROCMAP_QUERY_, &q), E2BIG);
    ERR(ioctl(maps, PROCMAP_QUERY_, BAD_ADDRESS), EFAULT);
    FD(status, open("/proc/self/status", O_RDONLY));
    ERR(ioctl(status, PROCMAP_QUERY_, &q), ENOTTY);
}
#define DROPPABLE (8 | MAP_ANONYMOUS)
CASE(memory_that_may_be_lost) {
    char *at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, DROPPABLE, -1, 0);
    if (at == MAP_FAILED && errno == EINVAL)
        SKIP("the host has none");
    at[0] = 7;
    touch(at, 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(at[0]);
    EQ(t_wait(pid), 0);
    ERR(madvise(at, PAGE, MADV_KEEPONFORK), EINVAL);
    ERR(madvise(at, PAGE, MADV_DODUMP), EINVAL);
    OK(mlock(at, PAGE));
    OK(madvise(at, PAGE, MADV_DONTNEED));
    EQ(at[0], 0);
    ERR(mmap(NULL, PAGE, PROT_READ, DROPPABLE | MAP_LOCKED, -1, 0), EINVAL);
    FD(fd, open("file", O_RDWR | O_CREAT, 0600));
    ERR(mmap(NULL, PAGE, PROT_READ, 8, fd, 0), EINVAL);
}
static void gains(int error) {
    char *at = pages(1, PROT_READ | PROT_WRITE);
    int got = mprotect(at, PAGE, PROT_READ | PROT_EXEC) == 0 ? 0 : errno;
    EQ(got, error);
    void *both = mmap(NULL, PAGE, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EQ(both == MAP_FAILED ? errno : 0, error);
}
CASE(what_was_written_is_not_executed) {
    const int set = 65, get = 66;
    if (prctl(get, 0, 0, 0, 0) == -1)
        SKIP("the host has no PR_SET_MDWE");
    EQ(prctl(get, 0, 0, 0, 0), 0);
    ERR(prctl(set, 4, 0, 0, 0), EINVAL);
    ERR(prctl(set, 2, 0, 0, 0), EINVAL);
    ERR(prctl(set, 1, 1, 0, 0), EINVAL);
    ERR(prctl(get, 1, 0, 0, 0), EINVAL);
    gains(0);
    char *text = pages(1, PROT_READ | PROT_EXEC);
    OK(prctl(set, 1, 0, 0, 0));
    OK(prctl(set, 1, 0, 0, 0));
    EQ(prctl(get, 0, 0, 0, 0), 1);
    ERR(prctl(set, 0, 0, 0, 0), EPERM);
    gains(EACCES);
    OK(mprotect(text, PAGE, PROT_READ | PROT_EXEC));
    ERR(mprotect(text, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC), EACCES);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(prctl(get, 0, 0, 0, 0), 1);
        gains(EACCES);
        _exit(0);
    }
    CHILD_OK(pid);
    char auxv[4096];
    long n = prctl(0x41555856 /* PR_GET_AUXV */, auxv, sizeof auxv, 0, 0);
    if (n == -1)
        SKIP("the host has no PR_GET_AUXV");
    CHECK(n >= 16 && n <= (long)sizeof auxv);
    FD(fd, open("/proc/self/auxv", O_RDONLY));
    char same[4096];
    long m = read(fd, same, sizeof same);
    CHECK(m > 0 && m <= n);
    EQ(memcmp(auxv, same, m), 0);
    EQ(prctl(0x41555856, auxv, 8, 0, 0), n);
    ERR(prctl(0x41555856, auxv, 8, 1, 0), EINVAL);
    ERR(prctl(0x41555856, BAD_ADDRESS, 8, 0, 0), EFAULT);
}
struct handle {
    uint32_t bytes;
    int32_t kind;
    unsigned char of[128];
};
static long handle_of(const char *path, struct handle *h, int flags) {
    int mount;
    return syscall(SYS_name_to_handle_at, AT_FDCWD, path, h, &mount, flags);
}
CASE(handles_to_compare) {
    const int fid = 0x200;
    struct handle a = {.bytes = 128}, b = {.bytes = 128};
    t_write_file("f", "");
    t_write_file("g", "");
    OK(link("f", "same"));
    if (handle_of("f", &a, fid) == -1 && errno == EINVAL)
        SKIP("the host has no AT_HANDLE_FID");
    OK(handle_of("same", &b, fid));
    EQ(a.kind, b.kind);
    EQ(a.bytes, b.bytes);
    EQ(memcmp(a.of, b.of, a.bytes), 0);
    b.bytes = 128;
    OK(handle_of("g", &b, fid));
    CHECK(memcmp(a.of, b.of, a.bytes) != 0);
    uint32_t needed = b.bytes;
    b.bytes = 128;
    OK(handle_of("/proc/self/status", &b, fid));
    b.bytes = 4;
    ERR(handle_of("g", &b, fid), EOVERFLOW);
    EQ(b.bytes, needed);
    b.bytes = 129;
    ERR(handle_of("g", &b, fid), EINVAL);
    ERR(handle_of("none", &b, fid), ENOENT);
    ERR(handle_of("g", &b, fid | 2), EINVAL);
    ERR(handle_of("g", BAD_ADDRESS, fid), EFAULT);
    b.bytes = 128;
    ERR(handle_of("/proc/self/status", &b, 0), EOPNOTSUPP);
    b.bytes = 0;
    ERR(syscall(SYS_open_by_handle_at, AT_FDCWD, &b, O_RDONLY), EINVAL);
    ERR(syscall(SYS_open_by_handle_at, AT_FDCWD, BAD_ADDRESS, O_RDONLY), EFAULT);
    b = (struct handle){.bytes = 12, .kind = 0x81};
    ERR(syscall(SYS_open_by_handle_at, -1, &b, O_RDONLY), EBADF);
}
CASE(shadow_stacks) {
    long r = syscall(NR_map_shadow_stack, 0UL, PAGE, 0);
    if (r != -1 || errno != EOPNOTSUPP)
        SKIP("the host has no such call, or shadow stacks");
}
