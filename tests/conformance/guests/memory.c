/* mmap of every ordinary kind, mprotect, mremap, brk, madvise, /proc/self/maps, shared memory. */
#include "t.h"
#include <setjmp.h>
#include <sys/resource.h>

#define PAGE 4096ul
static sigjmp_buf back;
static void faults(int number) { siglongjmp(back, number); }
static void catch_faults(void) {
    struct sigaction action = {.sa_handler = faults};
    OK(sigaction(SIGSEGV, &action, NULL));
    OK(sigaction(SIGBUS, &action, NULL));
}
static int touch(volatile char *address, int write) {
    int number = sigsetjmp(back, 1);
    if (number == 0) {
        if (write)
            *address = *address;
        else
            (void)*address;
    }
    return number;
}
static char *map(size_t size, int prot) {
    char *area = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    return area;
}
#define RW (PROT_READ | PROT_WRITE)
#define MAP_ERR(call, number)                                                                                          \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CHECK((call) == MAP_FAILED);                                                                                   \
        EQ(errno, number);                                                                                             \
    } while (0)

CASE(anonymous_is_zero) {
    char *area = map(1 << 20, RW);
    EQ((uintptr_t)area % PAGE, 0);
    for (size_t i = 0; i < 1 << 20; i += 512)
        EQ(area[i], 0);
    memset(area, 7, 1 << 20);
    OK(munmap(area, 1 << 20));
    catch_faults();
    EQ(touch(area, 0), SIGSEGV);
}
CASE(mmap_errors) {
    MAP_ERR(mmap(NULL, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    MAP_ERR(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
    MAP_ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE, -1, 0), EBADF);
    MAP_ERR(mmap((void *)1, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    MAP_ERR(mmap(NULL, ~0ul - PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    FD(fd, open("f", O_CREAT | O_WRONLY, 0644));
    MAP_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
    FD(back_fd, open("f", O_RDONLY));
    MAP_ERR(mmap(NULL, PAGE, RW, MAP_SHARED, back_fd, 0), EACCES);
    MAP_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, back_fd, 100), EINVAL);
    int ends[2];
    OK(pipe(ends));
    MAP_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0), ENODEV);
    ERR(munmap((void *)1, PAGE), EINVAL);
    ERR(munmap(NULL, 0), EINVAL);
    OK(munmap(map(PAGE, RW) , PAGE));
}
CASE(fixed_replaces) {
    char *area = map(3 * PAGE, RW);
    memset(area, 1, 3 * PAGE);
    CHECK(mmap(area + PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area + PAGE);
    EQ(area[0], 1);
    EQ(area[PAGE], 0);
    EQ(area[2 * PAGE], 1);
    MAP_ERR(mmap(area, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    OK(munmap(area + PAGE, PAGE));
    CHECK(mmap(area + PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == area + PAGE);
}
CASE(hint_is_taken) {
    char *area = map(PAGE, RW);
    OK(munmap(area, PAGE));
    CHECK(mmap(area, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == area);
    CHECK(mmap(area, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != area);
}
CASE(partial_unmap) {
    char *area = map(5 * PAGE, RW);
    memset(area, 3, 5 * PAGE);
    OK(munmap(area + PAGE, PAGE));
    OK(munmap(area + 3 * PAGE, PAGE));
    catch_faults();
    EQ(touch(area, 1), 0);
    EQ(touch(area + PAGE, 1), SIGSEGV);
    EQ(touch(area + 2 * PAGE, 1), 0);
    EQ(touch(area + 3 * PAGE, 1), SIGSEGV);
    EQ(area[4 * PAGE], 3);
    OK(munmap(area, 5 * PAGE));
}
CASE(file_private) {
    t_write_file("f", "hello");
    FD(fd, open("f", O_RDWR));
    char *area = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(area != MAP_FAILED);
    close(fd);
    CHECK(memcmp(area, "hello\0\0", 7) == 0);
    area[0] = 'J';
    t_read_is("f", "hello");
}
CASE(file_private_read_only_descriptor) {
    t_write_file("f", "hello");
    FD(fd, open("f", O_RDONLY));
    char *area = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(area != MAP_FAILED);
    area[0] = 'J';
    CHECK(memcmp(area, "Jello", 5) == 0);
}
CASE(file_shared) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, 2 * PAGE));
    char *a = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
    char *b = mmap(NULL, PAGE, RW, MAP_SHARED, fd, PAGE);
    CHECK(a != MAP_FAILED && b != MAP_FAILED);
    strcpy(a + PAGE, "through a");
    CHECK(strcmp(b, "through a") == 0);
    char buffer[16];
    EQ(pread(fd, buffer, 10, PAGE), 10);
    CHECK(strcmp(buffer, "through a") == 0);
    EQ(pwrite(fd, "W", 1, PAGE), 1);
    EQ(b[0], 'W');
    OK(msync(a, 2 * PAGE, MS_SYNC));
    pid_t pid = fork();
    if (pid == 0) {
        a[0] = 'C';
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(a[0], 'C');
    ERR(msync(a, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    ERR(msync(a + 1, PAGE, MS_SYNC), EINVAL);
}
CASE(shared_mapping_survives_close_and_unlink) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, PAGE));
    char *area = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    close(fd);
    OK(unlink("f"));
    area[10] = 1;
    EQ(area[10], 1);
}
CASE(beyond_the_end_is_bus) {
    t_write_file("f", "x");
    FD(fd, open("f", O_RDWR));
    char *area = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    catch_faults();
    EQ(touch(area + 100, 1), 0);
    EQ(touch(area + PAGE, 0), SIGBUS);
    OK(ftruncate(fd, 3 * PAGE));
    EQ(touch(area + PAGE, 1), 0);
}
CASE(anonymous_shared_with_children) {
    volatile int *area = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        area[5] = 55;
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(area[5], 55);
}
CASE(protect) {
    char *area = map(3 * PAGE, RW);
    catch_faults();
    OK(mprotect(area + PAGE, PAGE, PROT_READ));
    EQ(touch(area + PAGE, 0), 0);
    EQ(touch(area + PAGE, 1), SIGSEGV);
    EQ(touch(area, 1), 0);
    OK(mprotect(area + PAGE, PAGE, PROT_NONE));
    EQ(touch(area + PAGE, 0), SIGSEGV);
    OK(mprotect(area, 3 * PAGE, RW));
    EQ(touch(area + PAGE, 1), 0);
    ERR(mprotect(area + 1, PAGE, RW), EINVAL);
    OK(munmap(area + PAGE, PAGE));
    ERR(mprotect(area, 3 * PAGE, PROT_READ), ENOMEM);
    t_write_file("f", "x");
    FD(fd, open("f", O_RDONLY));
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(file != MAP_FAILED);
    ERR(mprotect(file, PAGE, RW), EACCES);
}
CASE(execute_what_was_written) {
    unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};
    char *area = map(PAGE, RW);
    memcpy(area, code, sizeof code);
    OK(mprotect(area, PAGE, PROT_READ | PROT_EXEC));
    EQ(((int (*)(void))area)(), 42);
    unsigned char call[] = {0xb8, 0x27, 0, 0, 0, 0x0f, 0x05, 0xc3};
    OK(mprotect(area, PAGE, RW | PROT_EXEC));
    memcpy(area, call, sizeof call);
    for (int i = 0; i < 3; i++)
        EQ(((int (*)(void))area)(), getpid());
}
CASE(calls_into_protected_memory_fail) {
    char *area = map(2 * PAGE, RW);
    OK(mprotect(area + PAGE, PAGE, PROT_READ));
    FD(zero, open("/dev/zero", O_RDONLY));
    ERR(read(zero, area + PAGE, 10), EFAULT);
    struct stat st;
    ERR(syscall(SYS_newfstatat, AT_FDCWD, ".", area + PAGE, 0), EFAULT);
    OK(mprotect(area + PAGE, PAGE, PROT_NONE));
    ERR(write(1, area + PAGE, 0 + 10), EFAULT);
    /* A path that ends where memory ends. */
    memcpy(area + PAGE - 2, ".", 2);
    OK(stat(area + PAGE - 2, &st));
    area[PAGE - 1] = 'x';
    ERR(stat(area + PAGE - 2, &st), EFAULT);
}
CASE(mremap_grow_move_shrink) {
    char *area = map(2 * PAGE, RW);
    area[PAGE] = 9;
    char *grown = mremap(area, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED);
    EQ(grown[PAGE], 9);
    EQ(grown[63 * PAGE], 0);
    char *shrunk = mremap(grown, 64 * PAGE, PAGE, 0);
    CHECK(shrunk == grown);
    catch_faults();
    EQ(touch(grown + PAGE, 0), SIGSEGV);
    char *target = map(4 * PAGE, RW);
    CHECK(mremap(shrunk, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    EQ(touch(shrunk, 0), SIGSEGV);
    MAP_ERR(mremap(target, PAGE, 0, 0), EINVAL);
    MAP_ERR(mremap(target + 1, PAGE, PAGE, 0), EINVAL);
    MAP_ERR(mremap(target, PAGE, PAGE, 99), EINVAL);
    char *full = map(2 * PAGE, RW);
    MAP_ERR(mremap(full, PAGE, 2 * PAGE, 0), ENOMEM);
    OK(munmap(full, 2 * PAGE));
    MAP_ERR(mremap(full, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
}
CASE(brk_moves) {
    char *start = sbrk(0);
    CHECK(sbrk(3 * PAGE) == start);
    start[2 * PAGE] = 5;
    EQ(start[2 * PAGE + 1], 0);
    CHECK(sbrk(0) == start + 3 * PAGE);
    CHECK(sbrk(-3 * (long)PAGE) == start + 3 * PAGE);
    CHECK(sbrk(3 * PAGE) == start);
    EQ(start[2 * PAGE], 0);
    EQ(syscall(SYS_brk, 1), (long)sbrk(0));
    errno = 0;
    CHECK(sbrk(1l << 46) == (void *)-1);
    EQ(errno, ENOMEM);
}
CASE(madvise_kinds) {
    char *area = map(4 * PAGE, RW);
    memset(area, 8, 4 * PAGE);
    OK(madvise(area + PAGE, PAGE, MADV_DONTNEED));
    EQ(area[0], 8);
    EQ(area[PAGE], 0);
    OK(madvise(area, 4 * PAGE, MADV_NORMAL));
    OK(madvise(area, 4 * PAGE, MADV_WILLNEED));
    OK(madvise(area, 4 * PAGE, MADV_FREE));
    ERR(madvise(area + 1, PAGE, MADV_NORMAL), EINVAL);
    ERR(madvise(area, PAGE, 9999), EINVAL);
    OK(munmap(area + 2 * PAGE, PAGE));
    ERR(madvise(area, 4 * PAGE, MADV_DONTNEED), ENOMEM);
}
CASE(mincore_and_lock) {
    char *area = map(2 * PAGE, RW);
    unsigned char seen[2];
    area[0] = 1;
    OK(mincore(area, 2 * PAGE, seen));
    EQ(seen[0] & 1, 1);
    ERR(mincore(area + 1, PAGE, seen), EINVAL);
    OK(munmap(area + PAGE, PAGE));
    ERR(mincore(area, 2 * PAGE, seen), ENOMEM);
    OK(mlock(area, PAGE));
    OK(munlock(area, PAGE));
    ERR(mlock(area, 2 * PAGE), ENOMEM);
}
static int find_map(uintptr_t address, char *line, size_t size) {
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, size, maps)) {
        unsigned long start, end;
        CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
        if (start <= address && address < end) {
            fclose(maps);
            return 1;
        }
    }
    fclose(maps);
    return 0;
}
CASE(proc_maps) {
    char line[4096];
    char *area = map(2 * PAGE, RW);
    OK(mprotect(area + PAGE, PAGE, PROT_READ));
    CHECK(find_map((uintptr_t)area, line, sizeof line) && strstr(line, " rw-p "));
    CHECK(find_map((uintptr_t)area + PAGE, line, sizeof line) && strstr(line, " r--p "));
    OK(munmap(area, 2 * PAGE));
    CHECK(!find_map((uintptr_t)area, line, sizeof line));
    int local;
    CHECK(find_map((uintptr_t)&local, line, sizeof line) && strstr(line, "[stack]"));
    CHECK(find_map((uintptr_t)sbrk(0) - 1, line, sizeof line) && strstr(line, "[heap]"));
    CHECK(find_map((uintptr_t)&find_map, line, sizeof line) && strstr(line, "r-xp") && strstr(line, "/memory"));
    t_write_file("mapped", "x");
    FD(fd, open("mapped", O_RDWR));
    char *file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(find_map((uintptr_t)file, line, sizeof line) && strstr(line, "r--s") && strstr(line, "/mapped"));
    OK(unlink("mapped"));
    CHECK(find_map((uintptr_t)file, line, sizeof line) && strstr(line, "/mapped (deleted)"));
}
CASE(memfd) {
    FD(fd, memfd_create("name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    OK(ftruncate(fd, PAGE));
    char *area = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    EQ(pwrite(fd, "memfd", 5, 0), 5);
    CHECK(memcmp(area, "memfd", 5) == 0);
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    EQ(fcntl(fd, F_GET_SEALS), F_SEAL_GROW);
    ERR(ftruncate(fd, 2 * PAGE), EPERM);
    ERR(memfd_create("x", 1 << 20), EINVAL);
    ERR(syscall(SYS_memfd_create, BAD_ADDRESS, 0), EFAULT);
    FD(plain, memfd_create("y", 0));
    ERR(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW), EPERM);
}
CASE(address_space_limit) {
    struct { unsigned long cur, max; } limit = {1ul << 28, 1ul << 28};
    OK(syscall(SYS_prlimit64, 0, 9 /* AS */, &limit, NULL));
    MAP_ERR(mmap(NULL, 1ul << 29, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK(mmap(NULL, 1ul << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}
CASE(stack_grows) {
    volatile char big[4 << 20];
    big[0] = 1;
    big[sizeof big - 1] = 2;
    EQ(big[0] + big[sizeof big - 1], 3);
}
/* A mapping that grows to where it is reached for, but not next to another, nor further than a stack may. */
static char *room_for_growth(size_t pages) {
    char *low = mmap(NULL, (pages + 300) * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(low != MAP_FAILED);
    OK(munmap(low, (pages + 300) * 4096));
    char *top = low + (pages + 300) * 4096;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
    CHECK(mmap(top - 8192, 8192, PROT_READ | PROT_WRITE, flags, -1, 0) == top - 8192);
    return top;
}
static int end_of_touching(volatile char *at) {
    pid_t pid = fork();
    if (pid == 0) {
        *at = 7;
        _exit(*at);
    }
    return t_wait(pid);
}
CASE(mappings_that_grow) {
    volatile char *top = room_for_growth(100);
    top[-8192] = 1;
    top[-8193] = 2;
    top[-50 * 4096] = 3;
    EQ(top[-8192] + top[-8193] + top[-50 * 4096], 6);
    top[-49 * 4096] = 4;
    EQ(end_of_touching(top - 60 * 4096), 7 << 8);
    CHECK(mmap((char *)top - 350 * 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    EQ(WTERMSIG(end_of_touching(top - 100 * 4096)), SIGSEGV);
    struct rlimit less = {55 * 4096, RLIM_INFINITY};
    OK(setrlimit(RLIMIT_STACK, &less));
    EQ(WTERMSIG(end_of_touching(top - 60 * 4096)), SIGSEGV);
}
CASE(many_mappings) {
    char *areas[500];
    for (int i = 0; i < 500; i++) {
        areas[i] = mmap(NULL, PAGE, i & 1 ? RW : PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(areas[i] != MAP_FAILED);
    }
    for (int i = 0; i < 500; i += 3)
        OK(munmap(areas[i], PAGE));
    pid_t pid = fork();
    if (pid == 0) {
        areas[1][0] = 1;
        _exit(areas[1][0] - 1);
    }
    CHILD_OK(pid);
}
CASE(fork_copies_on_write) {
    char *area = map(64 * PAGE, RW);
    memset(area, 1, 64 * PAGE);
    pid_t pid = fork();
    if (pid == 0) {
        memset(area, 2, 64 * PAGE);
        EQ(area[5 * PAGE], 2);
        _exit(0);
    }
    area[5 * PAGE] = 3;
    CHILD_OK(pid);
    EQ(area[5 * PAGE], 3);
    EQ(area[6 * PAGE], 1);
}
CASE(process_vm_calls) {
    char secret[16] = "my own memory", copy[16] = {0};
    struct { void *base; size_t length; } local = {copy, 16}, remote = {secret, 16};
    pid_t me = getpid();
    EQ(syscall(SYS_process_vm_readv, me, &local, 1, &remote, 1, 0), 16);
    CHECK(strcmp(copy, secret) == 0);
    ERR(syscall(SYS_process_vm_readv, 999999, &local, 1, &remote, 1, 0), ESRCH);
    remote.base = BAD_ADDRESS;
    ERR(syscall(SYS_process_vm_readv, me, &local, 1, &remote, 1, 0), EFAULT);
}
CASE(what_is_wrong_is_looked_for_in_order) {
    ERR(mmap(NULL, 0, PROT_READ, MAP_SHARED, 99, 0), EBADF);
    ERR(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, 4096));
    ERR(mmap(NULL, 4096, PROT_READ, MAP_SHARED_VALIDATE | 1 << 10, fd, 0), EOPNOTSUPP);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED_VALIDATE, fd, 0) != MAP_FAILED);
}
CASE(locked_from_the_start) {
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    OK(ftruncate(fd, PAGE));
    char *area = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_LOCKED, fd, 0);
    CHECK(area != MAP_FAILED);
    ERR(msync(area, PAGE, MS_INVALIDATE), EBUSY);
    OK(munlock(area, PAGE));
    OK(msync(area, PAGE, MS_INVALIDATE));
    NEED_ROOT();
    struct rlimit limit = {4 * PAGE, 4 * PAGE};
    OK(setrlimit(RLIMIT_MEMLOCK, &limit));
    OK(setuid(1));
    area = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    CHECK(area != MAP_FAILED);
    MAP_ERR(mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0), EAGAIN);
    OK(munmap(area, 3 * PAGE));
    limit.rlim_cur = 0;
    OK(setrlimit(RLIMIT_MEMLOCK, &limit));
    MAP_ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0), EPERM);
}
CASE(pages_of_a_file_in_another_order) {
    char page[PAGE];
    FD(fd, open("f", O_CREAT | O_RDWR, 0644));
    for (int i = 0; i < 4; i++) {
        memset(page, 'a' + i, PAGE);
        EQ(write(fd, page, PAGE), PAGE);
    }
    char *shared = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(shared != MAP_FAILED && private != MAP_FAILED);
    OK(syscall(SYS_remap_file_pages, shared, PAGE, 0, 2, 0));
    OK(syscall(SYS_remap_file_pages, shared + PAGE, 2 * PAGE, 0, 0, 0));
    EQ(shared[0], 'c');
    EQ(shared[PAGE], 'a');
    EQ(shared[2 * PAGE], 'b');
    EQ(shared[3 * PAGE], 'd');
    shared[0] = 'x';
    EQ(pread(fd, page, 1, 2 * PAGE), 1);
    EQ(page[0], 'x');
    ERR(syscall(SYS_remap_file_pages, private, PAGE, 0, 2, 0), EINVAL);
    ERR(syscall(SYS_remap_file_pages, shared, PAGE, PROT_READ, 2, 0), EINVAL);
    ERR(syscall(SYS_remap_file_pages, shared, 0, 0, 2, 0), EINVAL);
    OK(munmap(shared + 3 * PAGE, PAGE));
    ERR(syscall(SYS_remap_file_pages, shared + 3 * PAGE, PAGE, 0, 2, 0), EINVAL);
    ERR(syscall(SYS_remap_file_pages, shared + 2 * PAGE, 2 * PAGE, 0, 2, 0), EINVAL);
}
