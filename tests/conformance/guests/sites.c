/* Code of files that many processes map and call: it is what the file says, wherever and however often it is mapped. */
#include "sites.h"
#include "t.h"
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#define PAGE 4096
#define SIZE (2 * PAGE)
#define PROCESSES 12
#define CALLS 4

static const int at_moves[] = {64, 64 + 13, PAGE - 3, PAGE + 100};
static const int at_compares[] = {256, 256 + 37, PAGE + 201};
#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

static void put(const char *path, int offset, const void *bytes, int n) {
    FD(fd, open(path, O_WRONLY));
    EQ(pwrite(fd, bytes, n, offset), n);
    close(fd);
}
static void make(const char *path) {
    unsigned char code[SIZE];
    memset(code, 0x90, sizeof code);
    for (int i = 0; i < COUNT(at_moves); i++)
        memcpy(code + at_moves[i], moves, sizeof moves);
    for (int i = 0; i < COUNT(at_compares); i++)
        memcpy(code + at_compares[i], compares, sizeof compares);
    FD(fd, open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755));
    EQ(write(fd, code, sizeof code), sizeof code);
    close(fd);
}
static char *map(const char *path, void *where, int prot) {
    FD(fd, open(path, O_RDONLY));
    char *code = mmap(where, SIZE, prot, MAP_PRIVATE | (where ? MAP_FIXED : 0), fd, 0);
    CHECK(code != MAP_FAILED);
    close(fd);
    return code;
}

static void all(const char *code) {
    for (int k = 0; k < CALLS; k++) {
        for (int i = 0; i < COUNT(at_moves); i++) {
            struct result r = run(code + at_moves[i], 0, 0);
            EQ(r.value, syscall(SYS_getpid));
            EQ(r.flag, 2);
            CHECK(r.kept);
        }
        for (int i = 0; i < COUNT(at_compares); i++) {
            struct result r = run(code + at_compares[i], 0, 0);
            EQ(r.value, getppid());
            EQ(r.flag, 0);
            CHECK(r.kept);
        }
    }
}
/* So many processes map it and call it, each a fresh one. */
static void processes(const char *path, void (*body)(const char *)) {
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            body(path);
            _exit(0);
        }
        CHILD_OK(pid);
    }
}
static void once(const char *path) {
    all(map(path, NULL, PROT_READ | PROT_EXEC));
}

CASE(in_each_process) {
    make("code");
    processes("code", once);
}
static void twice(const char *path) {
    char *first = map(path, NULL, PROT_READ | PROT_EXEC), *second = map(path, NULL, PROT_READ | PROT_EXEC);
    all(first);
    all(second);
    OK(munmap(first, SIZE));
    all(second);
    EQ(map(path, second, PROT_READ | PROT_EXEC), second);
    all(second);
    EQ(map(path, second + PAGE, PROT_READ | PROT_EXEC), second + PAGE);
    struct result r = run(second + PAGE + 64, 0, 0);
    EQ(r.value, getpid());
    OK(munmap(second, 3 * PAGE));
}
CASE(mapped_more_than_once) {
    make("code");
    processes("code", twice);
}
static int expected_uid = -1;
static void changed(const char *path) {
    const char *code = map(path, NULL, PROT_READ | PROT_EXEC);
    for (int k = 0; k < CALLS; k++) {
        EQ(run(code + at_moves[0], 0, 0).value, expected_uid);
        EQ(run(code + at_moves[1], 0, 0).value, getpid());
        struct result r = run(code + at_compares[0], -1, 0);
        EQ(r.value, -EBADF);
        EQ(r.flag, 1);
    }
}
CASE(changed_in_its_place) {
    make("code");
    processes("code", once);
    unsigned char other = SYS_getuid;
    put("code", at_moves[0] + 1, &other, 1);
    other = SYS_close;
    put("code", at_compares[0] + 1, &other, 1);
    expected_uid = getuid();
    processes("code", changed);
    make("code");
    processes("code", once);
}
static void written(const char *path) {
    char *code = map(path, NULL, PROT_READ | PROT_WRITE | PROT_EXEC);
    all(code);
    code[at_moves[0] + 1] = SYS_getppid;
    EQ(run(code + at_moves[0], 0, 0).value, getppid());
    char *other = map(path, NULL, PROT_READ | PROT_EXEC);
    all(other);
    OK(mprotect(other, SIZE, PROT_READ | PROT_WRITE));
    other[at_moves[1] + 1] = SYS_getppid;
    OK(mprotect(other, SIZE, PROT_READ | PROT_EXEC));
    EQ(run(other + at_moves[2], 0, 0).value, getpid());
}
CASE(written_to_in_memory) {
    make("code");
    processes("code", once);
    processes("code", written);
}
static void shortened(const char *path) {
    const char *code = map(path, NULL, PROT_READ | PROT_EXEC);
    EQ(run(code + at_moves[0], 0, 0).value, getpid());
}
CASE(shorter_than_it_was) {
    make("code");
    processes("code", once);
    OK(truncate("code", PAGE / 2));
    processes("code", shortened);
}
static void child_of_it(const char *path) {
    const char *code = map(path, NULL, PROT_READ | PROT_EXEC);
    pid_t pid = fork();
    if (pid == 0) {
        all(code);
        once(path);
        _exit(0);
    }
    CHILD_OK(pid);
    all(code);
}
CASE(in_children_of_who_mapped_it) {
    make("code");
    processes("code", child_of_it);
}
static void *in_thread(void *path) {
    once(path);
    return NULL;
}
static void threads(const char *path) {
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        EQ(pthread_create(&thread[i], NULL, in_thread, (void *)path), 0);
    for (int i = 0; i < 3; i++)
        EQ(pthread_join(thread[i], NULL), 0);
}
CASE(by_threads) {
    make("code");
    processes("code", once);
    processes("code", threads);
}
static volatile int signals;
static void counts(int number) {
    signals += number == SIGALRM;
}
static void interrupted(const char *path) {
    const char *code = map(path, NULL, PROT_READ | PROT_EXEC);
    struct sigaction action = {.sa_handler = counts};
    OK(sigaction(SIGALRM, &action, NULL));
    struct itimerval often = {{0, 200}, {0, 200}};
    OK(setitimer(ITIMER_REAL, &often, NULL));
    while (signals < 30)
        all(code);
}
CASE(while_signals_come) {
    make("code");
    processes("code", interrupted);
}
CASE(a_tracer_sees_the_file) {
    make("code");
    processes("code", once);
    unsigned char file[SIZE], memory[SIZE];
    FD(fd, open("code", O_RDONLY));
    EQ(read(fd, file, SIZE), SIZE);
    int ready[2];
    OK(pipe(ready));
    pid_t pid = fork();
    if (pid == 0) {
        char *code = map("code", NULL, PROT_READ | PROT_EXEC);
        EQ(write(ready[1], &code, sizeof code), sizeof code);
        for (;;)
            all(code);
    }
    char *code;
    EQ(read(ready[0], &code, sizeof code), sizeof code);
    int status;
    OK(ptrace(PTRACE_ATTACH, pid, 0, 0));
    EQ(waitpid(pid, &status, 0), pid);
    struct iovec mine = {memory, SIZE}, theirs = {code, SIZE};
    EQ(process_vm_readv(pid, &mine, 1, &theirs, 1, 0), SIZE);
    EQ(memcmp(memory, file, SIZE), 0);
    OK(kill(pid, SIGKILL));
    EQ(t_wait(pid), SIGKILL);
}
