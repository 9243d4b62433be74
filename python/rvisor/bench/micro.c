/* What single system calls cost. `rvisor bench micro` runs it natively and inside, and compares.

   Usage: micro DIR PAUSE_US [NAME...]
   DIR is writable; PAUSE_US is the busy pause before each cold call. Each result is one JSON line:
   {"name": "stat", "mode": "hot", "ns": 991.2}

   Hot: the call in a tight loop, median of batches. Cold: one call after a pause of pure computation, median of
   samples. Calls go through libc's own functions, as programs make them. `micro --exit` ends at once: the exec rows
   start it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_SIZE (1 << 20)
#define BATCHES 9
#define BATCH_NS 4e6
#define COLD_SAMPLES 61

static const char *self;
static char buffer[65536];
static int file = -1, directory = -1;
static int to_child[2], from_child[2];
static pid_t child;
static volatile sig_atomic_t signals;
static unsigned long used;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void need(int condition, const char *what) {
    if (!condition)
        die(what);
}

static void op_getppid(void) { getppid(); }

static void set_file(void) {
    file = open("data", O_RDWR | O_CREAT, 0644);
    need(file >= 0, "open data");
    for (int done = 0; done < FILE_SIZE; done += sizeof buffer)
        need(write(file, buffer, sizeof buffer) == sizeof buffer, "write data");
    lseek(file, 0, SEEK_SET);
    used = 0;
}
static void end_file(void) {
    close(file);
    unlink("data");
}
static void advance(unsigned long size) {
    used += size;
    if (used >= FILE_SIZE) {
        used = 0;
        lseek(file, 0, SEEK_SET);
    }
}
static void op_read(size_t size) {
    need(read(file, buffer, size) == (ssize_t)size, "read");
    advance(size);
}
static void op_write(size_t size) {
    need(write(file, buffer, size) == (ssize_t)size, "write");
    advance(size);
}
static void op_read4(void) { op_read(4096); }
static void op_write4(void) { op_write(4096); }
static void op_read64(void) { op_read(65536); }
static void op_write64(void) { op_write(65536); }

static void op_fstat(void) {
    struct stat st;
    need(fstat(file, &st) == 0, "fstat");
}
static void op_stat(void) {
    struct stat st;
    need(stat("data", &st) == 0, "stat");
}
static void op_open(void) {
    int fd = open("data", O_RDONLY);
    need(fd >= 0, "open");
    close(fd);
}
static void op_creat(void) {
    int fd = open("new", O_CREAT | O_EXCL | O_WRONLY, 0644);
    need(fd >= 0, "creat");
    close(fd);
    need(unlink("new") == 0, "unlink");
}
static void op_mkdir(void) {
    need(mkdir("dir", 0755) == 0, "mkdir");
    need(rmdir("dir") == 0, "rmdir");
}
static void op_mmap(void) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(page != MAP_FAILED, "mmap");
    *page = 1;
    munmap(page, 4096);
}
static void reap(pid_t pid) {
    int status;
    need(pid > 0, "fork");
    need(waitpid(pid, &status, 0) == pid && status == 0, "waitpid");
}
static void op_fork(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    reap(pid);
}
static void op_fork_exec(void) {
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, "--exit", (char *)NULL);
        _exit(1);
    }
    reap(pid);
}
static void op_vfork_exec(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self, self, "--exit", (char *)NULL);
        _exit(1);
    }
    reap(pid);
}

static void set_pipe(void) {
    need(pipe(to_child) == 0 && pipe(from_child) == 0, "pipe");
    child = fork();
    need(child >= 0, "fork");
    if (child == 0) {
        char byte;
        close(to_child[1]);
        close(from_child[0]);
        while (read(to_child[0], &byte, 1) == 1)
            if (write(from_child[1], &byte, 1) != 1)
                break;
        _exit(0);
    }
    close(to_child[0]);
    close(from_child[1]);
}
static void op_pipe(void) {
    char byte = 1;
    need(write(to_child[1], &byte, 1) == 1, "write pipe");
    need(read(from_child[0], &byte, 1) == 1, "read pipe");
}
static void end_pipe(void) {
    close(to_child[1]);
    close(from_child[0]);
    reap(child);
}

static void *nothing(void *argument) { return argument; }
static void op_thread(void) {
    pthread_t thread;
    need(pthread_create(&thread, NULL, nothing, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
}

static void caught(int number) {
    (void)number;
    signals++;
}
static void set_signal(void) { signal(SIGUSR1, caught); }
static void op_signal(void) {
    sig_atomic_t before = signals;
    kill(getpid(), SIGUSR1);
    need(signals == before + 1, "signal");
}

static void set_directory(void) {
    char name[32];
    need(mkdir("many", 0755) == 0, "mkdir many");
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "many/entry-%04d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0644);
        need(fd >= 0, name);
        close(fd);
    }
    directory = open("many", O_RDONLY | O_DIRECTORY);
    need(directory >= 0, "open many");
}
static void op_getdents(void) {
    ssize_t got, all = 0;
    lseek(directory, 0, SEEK_SET);
    while ((got = getdents64(directory, buffer, 32768)) > 0)
        all += got;
    need(got == 0 && all > 20000, "getdents");
}
static void end_directory(void) {
    char name[32];
    close(directory);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "many/entry-%04d", i);
        unlink(name);
    }
    rmdir("many");
}

static void no(void) {}

static const struct row {
    const char *name;
    void (*set)(void);
    void (*op)(void);
    void (*end)(void);
} rows[] = {
    {"getppid", no, op_getppid, no},
    {"read 4 KiB", set_file, op_read4, end_file},
    {"write 4 KiB", set_file, op_write4, end_file},
    {"read 64 KiB", set_file, op_read64, end_file},
    {"write 64 KiB", set_file, op_write64, end_file},
    {"fstat", set_file, op_fstat, end_file},
    {"stat", set_file, op_stat, end_file},
    {"open+close", set_file, op_open, end_file},
    {"creat+unlink", no, op_creat, no},
    {"mkdir+rmdir", no, op_mkdir, no},
    {"mmap+munmap", no, op_mmap, no},
    {"fork+wait", no, op_fork, no},
    {"fork+exec+wait", no, op_fork_exec, no},
    {"vfork+exec+wait", no, op_vfork_exec, no},
    {"pipe ping-pong", set_pipe, op_pipe, end_pipe},
    {"thread create+join", no, op_thread, no},
    {"signal round trip", set_signal, op_signal, no},
    {"getdents 1000", set_directory, op_getdents, end_directory},
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(double *values, int count) {
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}
static double timed(const struct row *row, long count) {
    double start = now();
    for (long i = 0; i < count; i++)
        row->op();
    return now() - start;
}
static void answer(const char *name, const char *mode, double ns) {
    printf("{\"name\": \"%s\", \"mode\": \"%s\", \"ns\": %.1f}\n", name, mode, ns);
    fflush(stdout);
}
static void hot(const struct row *row) {
    double values[BATCHES];
    long count = 1;
    while (timed(row, count) < BATCH_NS)
        count *= 2;
    for (int i = 0; i < BATCHES; i++)
        values[i] = timed(row, count) / count;
    answer(row->name, "hot", median(values, BATCHES));
}
static void cold(const struct row *row, double pause_ns, double clock_ns) {
    double values[COLD_SAMPLES];
    for (int i = 0; i < COLD_SAMPLES; i++) {
        double end = now() + pause_ns;
        while (now() < end)
            ;
        values[i] = timed(row, 1) - clock_ns;
    }
    answer(row->name, "cold", median(values, COLD_SAMPLES));
}
static int wanted(const char *name, char **names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return 1;
    return count == 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--exit") == 0)
        return 0;
    if (argc < 3) {
        fprintf(stderr, "usage: micro DIR PAUSE_US [NAME...]\n");
        return 2;
    }
    self = argv[0];
    need(chdir(argv[1]) == 0, argv[1]);
    double pause_ns = atof(argv[2]) * 1000, clocks[BATCHES * 10];
    for (int i = 0; i < BATCHES * 10; i++) {
        double start = now();
        clocks[i] = now() - start;
    }
    double clock_ns = median(clocks, BATCHES * 10);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!wanted(rows[i].name, argv + 3, argc - 3))
            continue;
        rows[i].set();
        hot(&rows[i]);
        cold(&rows[i], pause_ns, clock_ns);
        rows[i].end();
    }
    return 0;
}
