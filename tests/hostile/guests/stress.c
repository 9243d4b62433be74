/* THREADS CALLS [SEED [SABOTAGE]]: that many calls altogether, each with an answer that no other call has, with pauses that let
   slots grow cold, and bursts that make them hot. A call that was lost, made twice or answered with another's answer
   shows: steps are relative, so each counts once. Prints how many were made. SABOTAGE lseek or counter: makes one call
   more, as a kernel would that makes a call twice. */
#include "hostile.h"
#include <sys/eventfd.h>

static long calls, wrong;
static int threads, counter;
static const char *sabotage = "";

struct worker {
    pthread_t thread;
    int number;
    uint64_t seed;
    long made, counted;
};

static void fail(const struct worker *w, const char *what, long want, long got) {
    if (__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED) < 10)
        printf("thread %d, call %ld: %s answered %ld, not %ld\n", w->number, w->made, what, got, want);
}

static void burn(long nanoseconds) {
    for (double end = now() + nanoseconds / 1e9; now() < end;)
        ;
}

static void *work(void *at) {
    struct worker *w = at;
    char name[32];
    snprintf(name, sizeof name, "/tmp/stress.%d", w->number);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint32_t words[256];
    for (int i = 0; i < 256; i++)
        words[i] = i * 0x01010101u ^ w->number;
    if (write(fd, words, sizeof words) != sizeof words)
        broken("write");
    w->made = 2;
    long share = calls / threads, place = lseek(fd, 0, SEEK_SET);
    pid_t me = syscall(SYS_gettid);
    while (w->made < share) {
        uint64_t r = next_random(&w->seed);
        long got;
        switch (r % 16) {
        default:
            /* Relative: what is made twice is seen. */
            got = lseek(fd, 1, SEEK_CUR);
            if (got != place + 1)
                fail(w, "lseek SEEK_CUR", place + 1, got);
            place = got;
            break;
        case 0:
        case 1:
            place = r >> 20 & 0xfffffff;
            got = lseek(fd, place, SEEK_SET);
            if (got != place)
                fail(w, "lseek SEEK_SET", place, got);
            break;
        case 2: {
            uint32_t index = r >> 32 & 255, word = 0;
            got = pread(fd, &word, 4, index * 4);
            if (got != 4 || word != words[index])
                fail(w, "pread", words[index], word);
            break;
        }
        case 3:
            got = syscall(SYS_gettid);
            if (got != me)
                fail(w, "gettid", me, got);
            break;
        case 4: {
            uint64_t one = 1;
            got = write(counter, &one, 8);
            if (got != 8)
                fail(w, "write to the counter", 8, got);
            w->counted++;
            break;
        }
        case 5:
            got = close(100000 + w->number);
            if (got != -1 || errno != EBADF)
                fail(w, "close", -1, got);
            break;
        }
        w->made++;
        if (w->made == share / 2 && strcmp(sabotage, "lseek") == 0)
            lseek(fd, 1, SEEK_CUR);
        if (w->made == share / 2 && strcmp(sabotage, "counter") == 0)
            (void)!write(counter, &(uint64_t){1}, 8);
        if ((r >> 8) % 256 == 0)
            burn((r >> 16) % 200000);
        else if ((r >> 8) % 2048 == 1) {
            struct timespec t = {0, (r >> 16) % 300000};
            if (nanosleep(&t, NULL) != 0)
                fail(w, "nanosleep", 0, -1);
            w->made++;
        }
    }
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    threads = argc > 1 ? atoi(argv[1]) : 1;
    calls = argc > 2 ? atol(argv[2]) : 100000;
    sabotage = argc > 4 ? argv[4] : "";
    counter = eventfd(0, 0);
    struct worker workers[64] = {0};
    for (int i = 0; i < threads; i++) {
        workers[i].number = i;
        workers[i].seed = (argc > 3 ? strtoull(argv[3], NULL, 0) : 1) * 0x9e3779b97f4a7c15 + i + 1;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            broken("pthread_create");
    }
    long made = 0;
    uint64_t counted = 0, total = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        made += workers[i].made;
        counted += workers[i].counted;
    }
    if (read(counter, &total, 8) != 8 || total != counted) {
        printf("the counter is %lu, not %lu\n", total, counted);
        wrong++;
    }
    printf("%ld calls, %ld wrong\n", made, wrong);
    return wrong != 0;
}
