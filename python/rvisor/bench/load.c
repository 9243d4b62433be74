/* What system calls cost as the load grows: as many as so many threads get through.

   Usage: load DIR SECONDS THREADS... [CALL...]
   DIR is writable. Says "ready" and waits for a line; then, for each number of threads and each call (those named, or
   all), all threads make the call for SECONDS, and the result is one JSON line:
   {"name": "stat", "threads": 4, "calls": 812342, "seconds": 0.3} */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 256
/* Calls between two looks at the clock. */
#define PIECE 32

static int file;
static double end;
static pthread_barrier_t together;

static void need(int condition, const char *what) {
    if (!condition) {
        perror(what);
        exit(1);
    }
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void op_getppid(void) { getppid(); }
static void op_stat(void) {
    struct stat st;
    need(stat("data", &st) == 0, "stat");
}
static void op_pread(void) {
    char buffer[4096];
    need(pread(file, buffer, sizeof buffer, 0) == sizeof buffer, "pread");
}

static const struct row {
    const char *name;
    void (*op)(void);
} rows[] = {{"getppid", op_getppid}, {"stat", op_stat}, {"pread 4 KiB", op_pread}};

static void *work(void *argument) {
    const struct row *row = argument;
    long done = 0;
    pthread_barrier_wait(&together);
    while (now() < end) {
        for (int i = 0; i < PIECE; i++)
            row->op();
        done += PIECE;
    }
    return (void *)done;
}

static void measure(const struct row *row, int threads, double seconds) {
    pthread_t made[THREADS_MAX];
    long calls = 0;
    need(pthread_barrier_init(&together, NULL, threads + 1) == 0, "barrier");
    for (int i = 0; i < threads; i++)
        need(pthread_create(&made[i], NULL, work, (void *)row) == 0, "pthread_create");
    double begun = now();
    end = begun + seconds;
    pthread_barrier_wait(&together);
    for (int i = 0; i < threads; i++) {
        void *done;
        need(pthread_join(made[i], &done) == 0, "pthread_join");
        calls += (long)done;
    }
    printf("{\"name\": \"%s\", \"threads\": %d, \"calls\": %ld, \"seconds\": %.6f}\n", row->name, threads, calls,
           now() - begun);
    fflush(stdout);
    pthread_barrier_destroy(&together);
}

static int wanted(const char *name, char **words, int count) {
    int names = 0;
    for (int i = 0; i < count; i++) {
        if (strcmp(words[i], name) == 0)
            return 1;
        names += atoi(words[i]) == 0;
    }
    return names == 0;
}

int main(int argc, char **argv) {
    static char block[4096];
    if (argc < 4) {
        fprintf(stderr, "usage: load DIR SECONDS THREADS... [CALL...]\n");
        return 2;
    }
    need(chdir(argv[1]) == 0, argv[1]);
    file = open("data", O_RDWR | O_CREAT, 0644);
    need(file >= 0 && pwrite(file, block, sizeof block, 0) == sizeof block, "data");
    puts("ready");
    fflush(stdout);
    char line[16];
    need(read(0, line, sizeof line) > 0, "read");
    for (int i = 3; i < argc && atoi(argv[i]) != 0; i++)
        for (unsigned row = 0; row < sizeof rows / sizeof *rows; row++) {
            int threads = atoi(argv[i]);
            if (threads < 1 || threads > THREADS_MAX)
                return 2;
            if (wanted(rows[row].name, argv + 3, argc - 3))
                measure(&rows[row], threads, atof(argv[2]));
        }
    return 0;
}
