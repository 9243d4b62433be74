/* System calls of the profile's: NUMBER ARGUMENT…, where an argument is a number, a text, or @ for room of 256 bytes that
 * is printed afterwards. `threads NUMBER` makes many at once, `time NUMBER COUNT` tells what one takes. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char room[256];
static long number;

static long argument(char *text)
{
    char *end;
    long value = strtol(text, &end, 0);

    if (!strcmp(text, "@"))
        return (long)room;
    return *text && !*end ? value : (long)text;
}

static void *many(void *from)
{
    long wrong = 0;

    for (long n = (long)from; n < (long)from + 50; n++)
        wrong += syscall(number, n) != n * n;
    return (void *)wrong;
}

static int threads(void)
{
    pthread_t made[4];
    long wrong = 0;
    void *one;

    for (long n = 0; n < 4; n++)
        pthread_create(&made[n], NULL, many, (void *)(1000 * n));
    for (int n = 0; n < 4; n++) {
        pthread_join(made[n], &one);
        wrong += (long)one;
    }
    printf("wrong %ld\n", wrong);
    return 0;
}

static int timed(long count)
{
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long n = 0; n < count; n++)
        syscall(number, room);
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%.1f us\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / count / 1e3);
    return 0;
}

int main(int argc, char **argv)
{
    long args[6] = {0};
    long got;

    if (!strcmp(argv[1], "threads") || !strcmp(argv[1], "time")) {
        number = atol(argv[2]);
        return argc > 3 ? timed(atol(argv[3])) : threads();
    }
    for (int n = 2; n < argc && n < 8; n++)
        args[n - 2] = argument(argv[n]);
    got = syscall(atol(argv[1]), args[0], args[1], args[2], args[3], args[4], args[5]);
    printf("%ld %s %s\n", got, got < 0 ? strerrorname_np(errno) : "-", room);
    return 0;
}
