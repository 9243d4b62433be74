/* Code of a file that many threads call at once: whatever becomes of its call sites meanwhile, each call is as the file says. */
#include "sites.h"
#include "t.h"
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define PAGE 4096
#define SIZE (3 * PAGE)
enum { PLACES = 16, THREADS = 6, ROUNDS = 400 };

/* Every place that a site can have in two words, and one over the end of a page. */
static int at_move(int i) { return i == 0 ? PAGE - 3 : 128 * i + i; }
static int at_compare(int i) { return i == 0 ? 2 * PAGE - 6 : 128 * i + i + 48; }
static int at_read(int i) { return 128 * i + i + 80; }

static char *make(void) {
    unsigned char code[SIZE], reads[sizeof compares];
    memset(code, 0x90, sizeof code);
    memcpy(reads, compares, sizeof reads);
    reads[1] = SYS_read;
    for (int i = 0; i < PLACES; i++) {
        memcpy(code + at_move(i), moves, sizeof moves);
        memcpy(code + at_compare(i), compares, sizeof compares);
        memcpy(code + at_read(i), reads, sizeof reads);
    }
    FD(fd, open("code", O_RDWR | O_CREAT | O_TRUNC, 0755));
    EQ(write(fd, code, sizeof code), sizeof code);
    char *at = mmap(NULL, SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    close(fd);
    return at;
}

static char *code;
static pid_t parent;
static volatile int over;

static void call_all(int from) {
    for (int i = 0; i < PLACES; i++) {
        int at = (from + i) % PLACES;
        struct result r = run(code + at_move(at), 0, from + i);
        EQ(r.value, getpid());
        EQ(r.flag, 2);
        CHECK(r.kept);
        r = run(code + at_compare(at), 0, from + i);
        EQ(r.value, getppid());
        EQ(r.flag, 0);
        CHECK(r.kept);
        r = run(code + at_read(at), -1, from + i);
        EQ(r.value, -EBADF);
        EQ(r.flag, 1);
        CHECK(r.kept);
    }
}

static void *caller(void *arg) {
    for (int k = 0; k < ROUNDS; k++)
        call_all((long)arg + k);
    return NULL;
}

static pthread_t begin(void *(*f)(void *), long arg) {
    pthread_t t;
    EQ(pthread_create(&t, NULL, f, (void *)arg), 0);
    return t;
}

static void together(void (*meanwhile)(void)) {
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        t[i] = begin(caller, i * 3);
    if (meanwhile)
        meanwhile();
    for (int i = 0; i < THREADS; i++)
        EQ(pthread_join(t[i], NULL), 0);
    call_all(0);
}

CASE(threads_call_at_once) {
    code = make();
    together(NULL);
}

static void children(void) {
    for (int i = 0; i < 40; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int k = 0; k < 4; k++)
                call_all(k * 5);
            _exit(0);
        }
        CHILD_OK(pid);
    }
}
CASE(threads_call_while_children_are_made) {
    code = make();
    together(children);
}

static void *short_lived(void *arg) {
    call_all((long)arg);
    return arg;
}
static void others(void) {
    for (int i = 0; i < 150; i++)
        EQ(pthread_join(begin(short_lived, i), NULL), 0);
}
CASE(threads_call_while_others_begin_and_end) {
    code = make();
    together(others);
}

static volatile int signals;
static void handler(int sig) {
    int saved = errno;
    signals += sig == SIGALRM;
    call_all(signals);
    errno = saved;
}
CASE(threads_call_while_signals_come) {
    code = make();
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
    OK(sigaction(SIGALRM, &act, NULL));
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &often, NULL));
    together(NULL);
    OK(setitimer(ITIMER_REAL, &never, NULL));
    CHECK(signals > 0);
}

/* Threads wait in a call of the very site that others have rewritten: they return to what follows it in the file. */
static int pipes[THREADS][2];
static void *reader(void *arg) {
    long i = (long)arg;
    for (int k = 0; k < 20; k++) {
        struct result r = run(code + at_read(k % 5), pipes[i][0], k);
        char byte;
        EQ(r.value, -EFAULT);
        EQ(r.flag, 1);
        CHECK(r.kept);
        EQ(read(pipes[i][0], &byte, 1), 1);
    }
    return NULL;
}
CASE(threads_wait_in_calls_meanwhile) {
    code = make();
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        OK(pipe(pipes[i]));
        t[i] = begin(reader, i);
    }
    pthread_t busy[2] = {begin(caller, 0), begin(caller, 7)};
    for (int k = 0; k < 20; k++) {
        t_sleep_ms(3);
        for (int i = 0; i < THREADS; i++)
            EQ(write(pipes[i][1], "x", 1), 1);
    }
    for (int i = 0; i < THREADS; i++)
        EQ(pthread_join(t[i], NULL), 0);
    for (int i = 0; i < 2; i++)
        EQ(pthread_join(busy[i], NULL), 0);
}

/* One site for all calls, syscall(2)'s: for those that threads make to wait for each other, and to make children, too. */
static int words[THREADS];
static void wait_while(int *word, int value) {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value) {
        long r = syscall(SYS_futex, word, 128 /* FUTEX_WAIT | FUTEX_PRIVATE_FLAG */, value, NULL, NULL, 0);
        CHECK(r == 0 || errno == EAGAIN || errno == EINTR);
    }
}
static void *passes_on(void *arg) {
    long i = (long)arg;
    for (int k = 0; k < 1500; k++) {
        wait_while(&words[i], k);
        int next = (i + 1) % THREADS;
        __atomic_store_n(&words[next], i == THREADS - 1 ? k + 2 : k + 1, __ATOMIC_SEQ_CST);
        CHECK(syscall(SYS_futex, &words[next], 129 /* FUTEX_WAKE */, 1, NULL, NULL, 0) >= 0);
    }
    return NULL;
}
static void *asks(void *arg) {
    while (!over) {
        EQ(syscall(SYS_getppid), getppid());
        ERR(syscall(SYS_close, -1), EBADF);
        EQ(syscall(SYS_gettid), gettid());
    }
    return NULL;
}
CASE(one_site_for_all_calls) {
    pthread_t t[THREADS], busy[2];
    over = 0;
    words[0] = 1;
    for (int i = 0; i < 2; i++)
        busy[i] = begin(asks, 0);
    for (long i = 0; i < THREADS; i++)
        t[i] = begin(passes_on, i);
    for (int i = 0; i < 20; i++) {
        pid_t pid = syscall(SYS_fork);
        if (pid == 0)
            _exit(syscall(SYS_getpid) == getpid() ? 0 : 3);
        CHILD_OK(pid);
    }
    for (int i = 0; i < THREADS; i++)
        EQ(pthread_join(t[i], NULL), 0);
    over = 1;
    for (int i = 0; i < 2; i++)
        EQ(pthread_join(busy[i], NULL), 0);
}

/* A breakpoint of the program's own, where a site was. */
static volatile int traps;
static void trapped(int sig, siginfo_t *info, void *context) {
    traps++;
}
CASE(a_breakpoint_of_its_own) {
    code = make();
    struct sigaction act = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    OK(sigaction(SIGTRAP, &act, NULL));
    together(NULL);
    char *site = code + at_compare(3) + 3;
    OK(mprotect(code, SIZE, PROT_READ | PROT_WRITE));
    memcpy(site, "\xcc\x90", 2);
    memcpy(site + 2, compares + 5, 6);
    OK(mprotect(code, SIZE, PROT_READ | PROT_EXEC));
    struct result r = run(code + at_compare(3), 0, 0);
    EQ(traps, 1);
    EQ(r.value, SYS_getppid);
    CHECK(r.kept);
}
