/* compute N: N threads, each a fixed piece of arithmetic; prints the seconds it took. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 600000000ull

static void *work(void *seed) {
    uint64_t x = (uintptr_t)seed + 1;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return (void *)(uintptr_t)x;
}
int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 1;
    pthread_t threads[256];
    struct timespec a, b;
    if (n < 1 || n > 256)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) != 0)
            return 1;
    uint64_t all = 0;
    for (int i = 0; i < n; i++) {
        void *x;
        pthread_join(threads[i], &x);
        all ^= (uintptr_t)x;
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.6f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9 + (all == 0));
    return 0;
}
