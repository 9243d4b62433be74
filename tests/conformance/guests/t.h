/* What every guest program is made of: cases, each in a process of its own, one line of output each.

   CASE(name) { ... CHECK(condition); ... } prints "ok name" or "FAIL name: detail".
   SKIP("reason") prints "skip name: reason": natively the host cannot show it, so nothing is compared.
   A program runs in an empty directory of its own; `program NAME...` runs only those cases. */
#ifndef T_H
#define T_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define T_SECONDS 60
#define T_MAX 256
#define T_SKIPPED 77

struct t_case {
    const char *name;
    void (*run)(void);
};
static struct t_case t_cases[T_MAX];
static int t_count;
static const char *t_name;

#define CASE(id)                                                                                                       \
    static void case_##id(void);                                                                                       \
    __attribute__((constructor)) static void add_##id(void) {                                                          \
        t_cases[t_count].name = #id;                                                                                   \
        t_cases[t_count++].run = case_##id;                                                                            \
    }                                                                                                                  \
    static void case_##id(void)

__attribute__((format(printf, 1, 2), noreturn)) static inline void t_fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    dprintf(1, "FAIL %s: %s\n", t_name, text);
    _exit(1);
}
__attribute__((noreturn)) static inline void t_skip(const char *reason) {
    dprintf(1, "skip %s: %s\n", t_name, reason);
    _exit(T_SKIPPED);
}

#define SKIP(reason) t_skip(reason)
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            t_fail("line %d: %s (errno %d %s)", __LINE__, #condition, errno, strerror(errno));                        \
    } while (0)
/* The numbers are equal. */
#define EQ(got, want)                                                                                                  \
    do {                                                                                                               \
        long long got_ = (long long)(got), want_ = (long long)(want);                                                  \
        if (got_ != want_)                                                                                             \
            t_fail("line %d: %s is %lld, not %lld (errno %d)", __LINE__, #got, got_, want_, errno);                    \
    } while (0)
/* The call succeeds. */
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        if ((long long)(call) == -1)                                                                                   \
            t_fail("line %d: %s: %s", __LINE__, #call, strerror(errno));                                               \
    } while (0)
/* The call answers -1 with this errno. */
#define ERR(call, number)                                                                                              \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        long long got_ = (long long)(call);                                                                            \
        if (got_ != -1 || errno != (number))                                                                           \
            t_fail("line %d: %s is %lld errno %d %s, not %s", __LINE__, #call, got_, errno, strerror(errno), #number); \
    } while (0)
/* The call answers a descriptor, kept in `name`. */
#define FD(name, call)                                                                                                 \
    int name = (call);                                                                                                 \
    if (name < 0)                                                                                                      \
    t_fail("line %d: %s: %s", __LINE__, #call, strerror(errno))

#define NEED_ROOT()                                                                                                    \
    do {                                                                                                               \
        if (geteuid() != 0)                                                                                            \
            SKIP("needs root");                                                                                        \
    } while (0)

/* An address no program has mapped. */
#define BAD_ADDRESS ((void *)0x10)

static inline void t_write_file(const char *path, const char *text) {
    FD(fd, open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}
static inline void t_read_is(const char *path, const char *text) {
    char buffer[4096];
    FD(fd, open(path, O_RDONLY));
    ssize_t got = read(fd, buffer, sizeof buffer - 1);
    CHECK(got >= 0);
    buffer[got] = 0;
    close(fd);
    if (strcmp(buffer, text) != 0)
        t_fail("%s holds '%s', not '%s'", path, buffer, text);
}
/* Reap one child; its wait status. */
static inline int t_wait(pid_t pid) {
    int status = -1;
    CHECK(pid > 0);
    EQ(waitpid(pid, &status, 0), pid);
    return status;
}
/* The child ended with status 0; a failed check in it has been printed already. */
#define CHILD_OK(pid)                                                                                                  \
    do {                                                                                                               \
        int status_ = t_wait(pid);                                                                                     \
        if (WIFEXITED(status_) && WEXITSTATUS(status_) == 1)                                                           \
            _exit(1);                                                                                                  \
        if (status_ != 0)                                                                                              \
            t_fail("line %d: the child ended with 0x%x", __LINE__, status_);                                           \
    } while (0)
static inline void t_sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
}
static inline double t_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* To give a guest its own main, for the programs that execute themselves. */
#ifndef T_NO_MAIN
#ifdef T_SELF
static int t_self(int argc, char **argv);
#endif
static const char *t_program;
int main(int argc, char **argv) {
    t_program = argv[0];
#ifdef T_SELF
    if (argc > 1 && strncmp(argv[1], "self:", 5) == 0)
        return t_self(argc, argv);
#endif
    for (int i = 0; i < t_count; i++) {
        int wanted = argc == 1;
        for (int j = 1; j < argc; j++)
            wanted |= strcmp(argv[j], t_cases[i].name) == 0;
        if (!wanted)
            continue;
        t_name = t_cases[i].name;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            char directory[300];
            snprintf(directory, sizeof directory, "d.%s", t_name);
            /* A case that hangs kills itself, whatever it has done to its signals and its group. */
            alarm(T_SECONDS);
            if (mkdir(directory, 0755) != 0 || chdir(directory) != 0)
                t_fail("its directory: %s", strerror(errno));
            t_cases[i].run();
            _exit(0);
        }
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            dprintf(1, "FAIL %s: fork or waitpid: %s\n", t_name, strerror(errno));
        else if (WIFSIGNALED(status))
            dprintf(1, "FAIL %s: killed by signal %d\n", t_name, WTERMSIG(status));
        else if (status == 0)
            dprintf(1, "ok %s\n", t_name);
        else if (WEXITSTATUS(status) != 1 && WEXITSTATUS(status) != T_SKIPPED)
            dprintf(1, "FAIL %s: status %d\n", t_name, WEXITSTATUS(status));
    }
    return 0;
}
#endif
#endif
