/* Memory objects: memfd and its seals, shared mappings of files in memory, other processes' memory. */
#include "t.h"
#include <sys/uio.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#define MFD_EXEC 16
#endif
extern char **environ;

CASE(memfd_flags) {
    ERR(memfd_create("x", MFD_NOEXEC_SEAL | MFD_EXEC), EINVAL);
    ERR(memfd_create("x", 1 << 20), EINVAL);
    char name[300];
    memset(name, 'n', sizeof name);
    name[250] = 0;
    ERR(memfd_create(name, 0), EINVAL);
    name[249] = 0;
    FD(fd, memfd_create(name, 0));
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_mode, S_IFREG | 0777);
    EQ(st.st_nlink, 0);
    EQ(st.st_size, 0);
    EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    FD(still, memfd_create("", MFD_NOEXEC_SEAL));
    OK(fstat(still, &st));
    EQ(st.st_mode & 0777, 0666);
    EQ(fcntl(still, F_GET_SEALS), F_SEAL_EXEC);
    ERR(fchmod(still, 0777), EPERM);
    OK(fchmod(still, 0600));
}
CASE(memfd_name) {
    FD(fd, memfd_create("a name", 0));
    char link[64], text[100] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    CHECK(readlink(link, text, sizeof text) > 0);
    CHECK(strcmp(text, "/memfd:a name (deleted)") == 0);
    OK(ftruncate(fd, PAGE));
    char *area = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[300];
    int found = 0;
    while (fgets(line, sizeof line, maps))
        found |= strstr(line, "/memfd:a name (deleted)") && strstr(line, "rw-s");
    CHECK(found);
    /* The link opens the same file anew. */
    FD(again, open(link, O_RDONLY));
    EQ(write(fd, "bytes", 5), 5);
    char got[8];
    EQ(read(again, got, 8), 8);
    CHECK(memcmp(got, "bytes\0\0\0", 8) == 0);
    EQ(write(again, "x", 1), -1);
    ERR(fcntl(again, F_ADD_SEALS, F_SEAL_GROW), EPERM);
}
CASE(memfd_seals) {
    FD(fd, memfd_create("s", MFD_ALLOW_SEALING));
    EQ(fcntl(fd, F_GET_SEALS), 0);
    OK(ftruncate(fd, 5000));
    ERR(fcntl(fd, F_ADD_SEALS, 1 << 20), EINVAL);
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    ERR(ftruncate(fd, 4999), EPERM);
    OK(ftruncate(fd, 6000));
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
    ERR(ftruncate(fd, 6001), EPERM);
    char bytes[8192] = {1};
    EQ(pwrite(fd, bytes, 2000, 4000), 2000);
    ERR(pwrite(fd, bytes, 10, 5995), EPERM);
    EQ(pwrite(fd, bytes, 8000, 10), 4086);
    ERR(fallocate(fd, 0, 0, 8000), EPERM);
    OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    ERR(pwrite(fd, bytes, 1, 0), EPERM);
    ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), EPERM);
    EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    FD(plain, open("plain", O_CREAT | O_RDWR, 0644));
    CHECK(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW) == -1);
}
CASE(memfd_seal_and_mappings) {
    FD(fd, memfd_create("s", MFD_ALLOW_SEALING));
    OK(ftruncate(fd, 4 * PAGE));
    char *area = mmap(NULL, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    /* In two pieces, one of them read only: both may still write. */
    OK(mprotect(area, 4 * PAGE, PROT_READ));
    OK(munmap(area + PAGE, PAGE));
    ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    OK(munmap(area, PAGE));
    ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    int ready[2];
    OK(pipe(ready));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(ready[1]);
        read(ready[0], &c, 1);
        _exit(0);
    }
    OK(munmap(area + 2 * PAGE, 2 * PAGE));
    ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    close(ready[1]);
    CHILD_OK(pid);
    char *private = mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0);
    CHECK(private != MAP_FAILED);
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    private[0] = 7;
    ERR((long)mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
    char *later = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    if (later != MAP_FAILED)
        ERR(mprotect(later, PAGE, RW), EACCES);
    CHECK(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}
CASE(memfd_future_write) {
    FD(fd, memfd_create("s", MFD_ALLOW_SEALING));
    OK(ftruncate(fd, PAGE));
    char *area = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
    OK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    area[3] = 'x';
    char c;
    EQ(pread(fd, &c, 1, 3), 1);
    EQ(c, 'x');
    ERR(pwrite(fd, "y", 1, 0), EPERM);
    ERR((long)mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
}
CASE(memfd_exec_seal) {
    FD(fd, memfd_create("s", MFD_ALLOW_SEALING | MFD_EXEC));
    int r = fcntl(fd, F_ADD_SEALS, F_SEAL_EXEC);
    if (r == -1)
        SKIP("no F_SEAL_EXEC");
    EQ(fcntl(fd, F_GET_SEALS), F_SEAL_EXEC | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
    ERR(fchmod(fd, 0644), EPERM);
    OK(fchmod(fd, 0711 | 0111));
}
CASE(memfd_runs) {
    FD(self, open("/proc/self/exe", O_RDONLY));
    FD(fd, memfd_create("program", 0));
    char buffer[65536];
    ssize_t n;
    while ((n = read(self, buffer, sizeof buffer)) > 0)
        EQ(write(fd, buffer, n), n);
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            dup2(open("/dev/null", O_WRONLY), 1);
            char *argv[] = {"memfd", "no such case", NULL}, path[64];
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            if (i)
                execve(path, argv, environ);
            else
                fexecve(fd, argv, environ);
            _exit(9);
        }
        EQ(t_wait(pid), 0);
    }
    OK(fchmod(fd, 0600));
    char *argv[] = {"memfd", NULL};
    if (geteuid() != 0)
        ERR(fexecve(fd, argv, environ), EACCES);
}
/* Two processes, and read and write, see one file. */
static void coherent(int fd) {
    OK(ftruncate(fd, 3 * PAGE));
    char *area = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    int there[2], back[2];
    OK(pipe(there));
    OK(pipe(back));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        OK(munmap(area, 3 * PAGE));
        EQ(read(there[0], &c, 1), 1);
        char *mine = mmap(NULL, PAGE, RW, MAP_SHARED, fd, PAGE);
        CHECK(mine != MAP_FAILED);
        EQ(mine[5], 'a');
        mine[6] = 'b';
        EQ(pwrite(fd, "c", 1, PAGE + 7), 1);
        EQ(write(back[1], "x", 1), 1);
        EQ(read(there[0], &c, 1), 1);
        EQ(mine[8], 'd');
        _exit(0);
    }
    char c;
    area[PAGE + 5] = 'a';
    EQ(write(there[1], "x", 1), 1);
    EQ(read(back[0], &c, 1), 1);
    EQ(area[PAGE + 6], 'b');
    EQ(area[PAGE + 7], 'c');
    EQ(pread(fd, &c, 1, PAGE + 6), 1);
    EQ(c, 'b');
    EQ(pwrite(fd, "d", 1, PAGE + 8), 1);
    EQ(write(there[1], "x", 1), 1);
    CHILD_OK(pid);
    /* Longer and shorter again: what was cut off is zeroes. */
    area[2 * PAGE] = 'e';
    OK(ftruncate(fd, 2 * PAGE));
    OK(ftruncate(fd, 3 * PAGE));
    EQ(area[2 * PAGE], 0);
}
CASE(shared_file_is_one) {
    FD(fd, memfd_create("m", 0));
    coherent(fd);
    FD(named, open("/dev/shm/t.objects", O_CREAT | O_RDWR | O_TRUNC, 0600));
    OK(unlink("/dev/shm/t.objects"));
    coherent(named);
    FD(here, open("f", O_CREAT | O_RDWR, 0600));
    coherent(here);
}

CASE(process_vm_between) {
    static char area[3 * PAGE] __attribute__((aligned(PAGE)));
    int go[2];
    OK(pipe(go));
    memcpy(area + PAGE - 4, "12345678", 8);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        memcpy(area + PAGE - 4, "abcdefgh", 8);
        OK(mprotect(area + 2 * PAGE, PAGE, PROT_NONE));
        close(go[0]);
        write(go[1], "x", 1);
        for (int i = 0; i < 1000 && *(volatile char *)area != 'w'; i++)
            t_sleep_ms(5);
        _exit(memcmp(area, "written", 7) != 0);
    }
    char c, got[64] = {0};
    EQ(read(go[0], &c, 1), 1);
    struct iovec local[2] = {{got, 3}, {got + 10, 5}}, remote[2] = {{area + PAGE - 4, 8}, {area + 2 * PAGE - 4, 4}};
    EQ(process_vm_readv(pid, local, 2, remote, 1, 0), 8);
    CHECK(memcmp(got, "abc", 3) == 0 && memcmp(got + 10, "defgh", 5) == 0);
    /* What lies before a page that cannot be read is read. */
    local[0].iov_len = 32;
    remote[1].iov_len = 100;
    EQ(process_vm_readv(pid, local, 1, remote + 1, 1, 0), 4);
    remote[1].iov_base = area + 2 * PAGE;
    ERR(process_vm_readv(pid, local, 1, remote + 1, 1, 0), EFAULT);
    remote[0].iov_base = BAD_ADDRESS;
    ERR(process_vm_readv(pid, local, 1, remote, 1, 0), EFAULT);
    ERR(process_vm_readv(pid, local, 1, remote, 1, 1), EINVAL);
    ERR(process_vm_readv(pid, local, 1, remote, 2000, 0), EINVAL);
    EQ(process_vm_readv(pid, local, 0, remote, 1, 0), 0);
    local[0].iov_base = "written";
    local[0].iov_len = 7;
    remote[0].iov_base = area;
    remote[0].iov_len = 7;
    ERR(process_vm_writev(999999, local, 1, remote, 1, 0), ESRCH);
    EQ(process_vm_writev(pid, local, 1, remote, 1, 0), 7);
    CHILD_OK(pid);
}
CASE(process_vm_needs_the_right) {
    NEED_ROOT();
    static int secret = 42;
    int go[2], up[2], got;
    OK(pipe(go));
    OK(pipe(up));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        write(up[1], "x", 1);
        read(go[0], &c, 1);
        _exit(0);
    }
    char c, path[64];
    EQ(read(up[0], &c, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    pid_t other = fork();
    if (other == 0) {
        struct iovec local = {&got, 4}, remote = {&secret, 4};
        OK(setgid(12345));
        OK(setuid(12345));
        ERR(process_vm_readv(pid, &local, 1, &remote, 1, 0), EPERM);
        ERR(process_vm_writev(pid, &local, 1, &remote, 1, 0), EPERM);
        ERR(open(path, O_RDONLY), EACCES);
        /* Its own memory it may see. */
        EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 4);
        EQ(got, 42);
        _exit(0);
    }
    CHILD_OK(other);
    write(go[1], "x", 1);
    CHILD_OK(pid);
}
CASE(proc_mem) {
    static char area[32] = "here";
    int go[2], up[2];
    OK(pipe(go));
    OK(pipe(up));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        write(up[1], "x", 1);
        read(go[0], &c, 1);
        _exit(strcmp(area, "therefore"));
    }
    char c, path[64], got[8];
    EQ(read(up[0], &c, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    FD(fd, open(path, O_RDWR));
    EQ(pread(fd, got, 5, (uintptr_t)area), 5);
    CHECK(strcmp(got, "here") == 0);
    EQ(pwrite(fd, "therefore", 10, (uintptr_t)area), 10);
    ERR(pread(fd, got, 5, 16), EIO);
    ERR(pwrite(fd, got, 5, 16), EIO);
    EQ(lseek(fd, (uintptr_t)area, SEEK_SET), (long)(uintptr_t)area);
    EQ(read(fd, got, 5), 5);
    CHECK(memcmp(got, "there", 5) == 0);
    struct stat st;
    OK(fstat(fd, &st));
    EQ(st.st_mode, S_IFREG | 0600);
    write(go[1], "x", 1);
    CHILD_OK(pid);
    /* The address space is gone. */
    EQ(pread(fd, got, 5, (uintptr_t)area), 0);
}
