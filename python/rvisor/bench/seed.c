/* The two measurements of the first rVisor's own benchmark: writing to the disk, and making and removing directories.
   Its counts were never published; these are given, and `rvisor bench seed` sets them so that each takes some two
   seconds natively.

   Usage: seed DIR write|mkdir COUNT
   write: COUNT blocks of 4 KiB into one file, which starts again every 16 MiB; no fsync.
   mkdir: COUNT times mkdir and rmdir of one name.
   Prints the CPU time by clock() and the wall time, both in microseconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS 4096

static void need(int condition, const char *what) {
    if (!condition) {
        perror(what);
        exit(1);
    }
}

static void disk(long count) {
    static char block[BLOCK];
    int fd = open("written", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    need(fd >= 0, "open");
    for (long i = 0; i < count; i++) {
        if (i % BLOCKS == 0)
            need(lseek(fd, 0, SEEK_SET) == 0, "lseek");
        need(write(fd, block, BLOCK) == BLOCK, "write");
    }
    close(fd);
    unlink("written");
}

static void directories(long count) {
    for (long i = 0; i < count; i++) {
        need(mkdir("made", 0755) == 0, "mkdir");
        need(rmdir("made") == 0, "rmdir");
    }
}

int main(int argc, char **argv) {
    struct timespec from, to;
    if (argc != 4) {
        fprintf(stderr, "usage: seed DIR write|mkdir COUNT\n");
        return 2;
    }
    need(chdir(argv[1]) == 0, argv[1]);
    clock_gettime(CLOCK_MONOTONIC, &from);
    clock_t begun = clock();
    if (strcmp(argv[2], "write") == 0)
        disk(atol(argv[3]));
    else
        directories(atol(argv[3]));
    clock_t cpu = clock() - begun;
    clock_gettime(CLOCK_MONOTONIC, &to);
    double wall = (to.tv_sec - from.tv_sec) * 1e6 + (to.tv_nsec - from.tv_nsec) / 1e3;
    printf("%.0f %.0f\n", cpu * (1e6 / CLOCKS_PER_SEC), wall);
    return 0;
}
