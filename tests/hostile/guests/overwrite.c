/* Overwrites its stub and its slots in the ways named by the arguments, each in a forked child, while the parent
   goes on. Only the child may come to harm: afterwards the parent's kernel still answers. Prints "NAME survived" or
   "NAME ended 0xSTATUS" per way, then "alive". `NAME:SEED` gives a seed. */
#include "hostile.h"

/* How long a child may go on before it is killed. */
#define SECONDS 1.5

static uint64_t seed = 1;
static struct text text;

static void guest_calls_on_stub(void) {
    /* The addresses are not the guest's: the kernel refuses, and nothing happens. */
    uint64_t places[] = {STUB_BASE, STUB_BASE + 0x1000, THREADS_BASE, REGION_BASE, REGION_BASE + SLOT_STRIDE};
    char *mine = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 5; i++) {
        void *at = (void *)places[i];
        if (munmap(at, 4096) == 0 || mprotect(at, 4096, PROT_NONE) == 0 || madvise(at, 4096, MADV_DONTNEED) == 0 ||
            mmap(at, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED ||
            mremap(mine, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED ||
            mremap(at, 4096, 8192, MREMAP_MAYMOVE) != MAP_FAILED || read(0, at, 1) == 1 || brk(at) == 0)
            broken("a guest call reached the stub at %#lx", places[i]);
    }
    /* From below into it, too. */
    if (munmap((void *)(STUB_BASE - 4096), 8192) == 0)
        broken("munmap across the end");
    _exit(0);
}

static void host_munmap_text(void) { host_call(SYS_munmap, (long)text.begin, text.end - text.begin, 0, 0, 0, 0), getpid(); }
static void host_munmap_region(void) { host_call(SYS_munmap, REGION_BASE, REGION_SIZE, 0, 0, 0, 0), getpid(); }
static void host_munmap_threads(void) { host_call(SYS_munmap, THREADS_BASE, THREAD_STRIDE * SLOTS, 0, 0, 0, 0), getpid(); }
static void host_protect_text(void) { host_call(SYS_mprotect, (long)text.begin, text.end - text.begin, PROT_NONE, 0, 0, 0), getpid(); }
static void host_map_over_region(void) {
    host_call(SYS_mmap, REGION_BASE, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    getpid();
}
static void host_move_text(void) {
    host_call(SYS_mremap, (long)text.begin, text.end - text.begin, text.end - text.begin, MREMAP_MAYMOVE | MREMAP_FIXED, 0x600000000000, 0);
    getpid();
}
static void host_unmap_all(void) { host_call(SYS_munmap, 0, 0x7fffffffe000, 0, 0, 0, 0); }
static void scribble_text(void) {
    host_call(SYS_mprotect, (long)text.begin, text.end - text.begin, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
    for (int i = 0; i < 200; i++) {
        text.begin[next_random(&seed) % (text.end - text.begin)] = next_random(&seed);
        syscall(SYS_getppid);
    }
}
static void scribble_tls(void) {
    struct tls *t = tls();
    for (int i = 0; i < 200; i++) {
        ((uint64_t *)t)[next_random(&seed) % 96] = next_random(&seed) >> next_random(&seed) % 64;
        syscall(SYS_getppid);
    }
}

/* One request made by hand: rings until it is answered, but not for ever. */
static void ask(struct tls *t, uint32_t kind) {
    struct slot *s = t->slot;
    s->kind = kind;
    uint32_t seq = s->answer + 1;
    __atomic_store_n(&s->seq, seq, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 20 && s->answer != seq; i++)
        host_call(DOORBELL, t->cookie, t->index, seq, 0, 0, 0);
}

static uint64_t odd(void) {
    static const uint64_t values[] = {0, 1, 2, 3, 4, 7, 8, 9, 40, 41, 63, 64, 4095, 4096, 4097, 0x1f000, 0x1f001, 0x20000,
        0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7ff000000000, 0x7ff200000000, 0x7fffffffffff, 0x800000000000,
        0x8000000000000000, 0xffffffffffffffff, 0xffffffffff600000, 0x50f0000, 0x5100000, 0x400000};
    uint64_t r = next_random(&seed);
    if (r % 8 == 0)
        return next_random(&seed);
    if (r % 8 == 1)
        return (uint64_t)&seed;
    return values[(r >> 8) % (sizeof values / sizeof *values)];
}

static void fill(struct slot *s) {
    s->nr = next_random(&seed) % 4 ? next_random(&seed) % 470 : odd();
    /* Not these: they end or stop the child before it has done its worst. */
    if (s->nr == SYS_exit || s->nr == SYS_exit_group || s->nr == SYS_pause || s->nr == SYS_rt_sigsuspend)
        s->nr = SYS_getpid;
    for (int i = 0; i < 6; i++)
        s->args[i] = odd();
    for (int i = 0; i < 2; i++) {
        s->segments[i].addr = next_random(&seed) % 2 ? s->args[next_random(&seed) % 6] : odd();
        s->segments[i].len = odd();
        s->segments[i].offset = odd();
    }
    s->used = odd();
    s->ip = odd();
    s->sp = odd();
    s->actions = odd();
    s->parked = odd();
    s->then = odd();
    s->hot = odd();
    s->signo = odd();
    s->code = odd();
    s->addr = odd();
    s->fp_size = odd();
    for (int i = 0; i < 23; i++)
        s->regs[i] = odd();
}


/* Requests no stub would make, of every kind, in every order. */
static void garbage(void) {
    struct tls *t = tls();
    double end = now() + 0.3;
    for (int i = 0; i < 20000 && now() < end; i++) {
        fill(t->slot);
        uint64_t r = next_random(&seed);
        uint32_t kind = r % 16 < 9 ? r % 16 : odd();
        ask(t, kind == ASK_FAULT && r % 7 ? ASK_TRAP : kind);
    }
    host_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
/* The same with handlers installed, so that frames are built on stacks that are none. */
static void handler(int signo) { (void)signo; }
static void garbage_signals(void) {
    for (int i = 1; i < 32; i++)
        signal(i, handler);
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, NULL);
    int self = getpid();
    struct tls *t = tls();
    double end = now() + 0.3;
    for (int i = 0; i < 20000 && now() < end; i++) {
        fill(t->slot);
        if (i % 2) {
            t->slot->nr = SYS_kill;
            t->slot->args[0] = self;
            t->slot->args[1] = next_random(&seed) % 31 + 1;
            if (t->slot->args[1] == SIGKILL || t->slot->args[1] == SIGSTOP)
                t->slot->args[1] = SIGUSR2;
        } else if (next_random(&seed) % 3 == 0) {
            t->slot->nr = SYS_rt_sigreturn;
        }
        ask(t, 1 + next_random(&seed) % 4);
    }
    host_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
/* Whether it was told to fork, start threads or execute: it says it did, or that it failed, and did neither. */
static void garbage_forks(void) {
    static const int calls[] = {SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_mmap, SYS_munmap, SYS_execve, SYS_mremap};
    struct tls *t = tls();
    double end = now() + 0.3;
    for (int i = 0; i < 300 && now() < end; i++) {
        fill(t->slot);
        t->slot->nr = calls[next_random(&seed) % 8];
        if (t->slot->nr == SYS_clone)
            t->slot->args[0] = next_random(&seed) % 2 ? 0x50f00 : 17;
        ask(t, ASK_TRAP);
        t->slot->nr = odd();
        t->slot->args[0] = -next_random(&seed) % 200;
        ask(t, next_random(&seed) % 2 ? ASK_FAILED : ASK_DONE);
        if (i % 7 == 0)
            ask(t, ASK_READY);
    }
    host_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
/* A second thread rewrites the whole slot while the stub uses it. */
__attribute__((noreturn)) static void *scribbler(void *at) {
    for (;;) {
        volatile uint32_t *word = (volatile uint32_t *)at + next_random(&seed) % (sizeof(struct slot) / 4);
        *word = odd();
    }
}
static void flood_slot(void) {
    pthread_t t;
    pthread_create(&t, NULL, scribbler, tls()->slot);
    for (double end = now() + 1; now() < end;) {
        syscall(SYS_getppid);
        char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(p, 4096);
    }
    _exit(0);
}
__attribute__((noreturn)) static void *counter(void *at) {
    struct slot *s = at;
    for (;;)
        s->seq++;
}
static void flood_seq(void) {
    pthread_t t;
    pthread_create(&t, NULL, counter, tls()->slot);
    for (double end = now() + 1; now() < end;) {
        syscall(SYS_getppid);
        sched_yield();
    }
    _exit(0);
}
/* The hot flag is ours, too: the sentry's own idea of it must count. */
__attribute__((noreturn)) static void *heater(void *at) {
    struct slot *s = at;
    for (uint32_t i = 0;; i++)
        s->hot = i & 1;
}
static void flood_hot(void) {
    pthread_t t;
    pthread_create(&t, NULL, heater, tls()->slot);
    for (double end = now() + 1; now() < end;)
        if (syscall(SYS_getppid) <= 0)
            broken("a call went wrong by the hot flag alone");
    _exit(0);
}
/* Bells for slots that are nobody's, with cookies that are nobody's. */
static void wrong_bells(void) {
    struct tls *t = tls();
    for (int i = 0; i < 20000; i++)
        host_call(DOORBELL, i % 3 ? t->cookie : odd(), i % 2 ? odd() : t->index, odd(), odd(), odd(), odd());
    for (uint64_t i = 0; i < SLOTS + 2; i++)
        host_call(DOORBELL, t->cookie, i, i, 0, 0, 0);
    for (uint64_t i = 1; i < SLOTS; i++) {
        if (i == t->index)
            continue;
        slot_at(i)->kind = 1 + i % 7;
        slot_at(i)->seq = i;
        host_call(DOORBELL, t->cookie, i, i, 0, 0, 0);
    }
    if (getpid() <= 0)
        broken("getpid");
    _exit(0);
}
/* Its socket closed, it can be sent nothing. */
static void no_socket(void) {
    host_call(SYS_close, 3, 0, 0, 0, 0, 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    int fd = open("/bin/sh", O_RDONLY);
    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    for (;;)
        getppid();
}
/* Never takes what it is sent: the socket fills. */
static void full_socket(void) {
    struct tls *t = tls();
    int fd = open("/bin/sh", O_RDONLY);
    for (int i = 0; i < 3000; i++) {
        struct slot *s = t->slot;
        memset((void *)s->segments, 0, sizeof s->segments);
        s->nr = SYS_mmap;
        uint64_t args[] = {0, 4096, PROT_READ, MAP_PRIVATE, fd, 0};
        for (int k = 0; k < 6; k++)
            s->args[k] = args[k];
        ask(t, ASK_TRAP);
    }
    for (;;)
        host_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}
/* Host processes the kernel has not heard of, with the same slots and cookie. */
static void rogue_forks(void) {
    struct tls *t = tls();
    for (int i = 0; i < 20; i++)
        if (host_call(SYS_clone, 0x8000, 0, 0, 0, 0, 0) == 0)
            for (int k = 0;; k++) {
                t->slot->kind = k % 9;
                t->slot->seq++;
                host_call(DOORBELL, t->cookie, t->index, t->slot->seq, 0, 0, 0);
                if (k > 2000)
                    host_call(SYS_futex, (long)&seed, 0x80, (long)seed, 0, 0, 0);
            }
    for (double end = now() + 0.5; now() < end;)
        getppid();
    _exit(0);
}
/* A file of root's that others may read: mapped to be read, then made writable behind the kernel's back. */
#define ROOTS "/tmp/roots-own"
static void write_what_may_be_read(void) {
    int fd = open(ROOTS, O_RDONLY);
    for (int shared = 0; shared < 2; shared++) {
        char *p = mmap(NULL, 4096, PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED || memcmp(p, "root's", 6) != 0)
            broken("mmap of %s", ROOTS);
        if (host_call(SYS_mprotect, (long)p, 4096, PROT_READ | PROT_WRITE, 0, 0, 0) == 0)
            memcpy(p, "mine  ", 6);
    }
    /* And with the descriptor itself: asks by hand, takes it from the socket, and maps it otherwise. */
    struct tls *t = tls();
    memset((void *)t->slot->segments, 0, sizeof t->slot->segments);
    t->slot->nr = SYS_mmap;
    uint64_t args[] = {0, 4096, PROT_READ, MAP_SHARED, fd, 0};
    for (int i = 0; i < 6; i++)
        t->slot->args[i] = args[i];
    ask(t, ASK_TRAP);
    struct {
        long len;
        int level, type, fd, pad;
    } control = {0};
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    long got = host_call(SYS_recvmsg, 3, (long)&message, 0, 0, 0, 0);
    if (got == 1 && control.len >= 20) {
        long at = host_call(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, control.fd, 0);
        if (at > 0)
            memcpy((void *)at, "mine  ", 6);
    }
    host_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
static void check_roots(void) {
    char buffer[8] = "";
    int fd = open(ROOTS, O_RDONLY);
    if (read(fd, buffer, 6) != 6 || strcmp(buffer, "root's") != 0)
        broken("an ordinary user changed a file of root's: %s", buffer);
    close(fd);
}
/* Stops in the middle: asked, never looks at the answer. */
static void deaf(void) {
    struct tls *t = tls();
    t->slot->nr = SYS_getpid;
    t->slot->kind = ASK_TRAP;
    t->slot->seq = t->slot->answer + 1;
    uint32_t word = 0;
    host_call(SYS_futex, (long)&word, 0x80, 0, 0, 0, 0);
}

static const struct way {
    const char *name;
    void (*run)(void);
} ways[] = {
#define WAY(name) {#name, name}
    WAY(guest_calls_on_stub), WAY(host_munmap_text), WAY(host_munmap_region), WAY(host_munmap_threads),
    WAY(host_protect_text), WAY(host_map_over_region), WAY(host_move_text), WAY(host_unmap_all), WAY(scribble_text),
    WAY(scribble_tls), WAY(garbage), WAY(garbage_signals), WAY(garbage_forks), WAY(flood_slot), WAY(flood_seq),
    WAY(flood_hot), WAY(wrong_bells), WAY(no_socket), WAY(full_socket), WAY(rogue_forks),
    WAY(write_what_may_be_read), WAY(deaf),
};

static void one(const char *wanted) {
    const char *colon = strchr(wanted, ':');
    size_t length = colon ? (size_t)(colon - wanted) : strlen(wanted);
    seed = colon ? strtoull(colon + 1, NULL, 0) * 0x9e3779b97f4a7c15 + 1 : 1;
    const struct way *way = NULL;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strncmp(ways[i].name, wanted, length) == 0 && ways[i].name[length] == 0)
            way = &ways[i];
    if (!way)
        broken("no such way: %s", wanted);
    pid_t pid = fork();
    if (pid == 0) {
        /* What its own C library may say of the damage ("stack smashing") is nobody's fault. */
        dup2(open("/dev/null", O_WRONLY), 2);
        /* Of no user's: what garbage asks for, it must not get. */
        setgid(60000), setuid(60000 + getpid() % 5000);
        own_page(text);
        way->run();
        _exit(0);
    }
    int status;
    pid_t got = 0;
    for (double end = now() + SECONDS; (got = waitpid(pid, &status, WNOHANG)) == 0 && now() < end;)
        sleep_ms(5);
    if (got == 0) {
        kill(pid, SIGKILL);
        if (waitpid(pid, &status, 0) != pid)
            broken("%s cannot be killed", wanted);
    }
    printf("%s %s 0x%x\n", wanted, got == 0 ? "survived" : "ended", status);
    fflush(stdout);
    /* The kernel still does all it did. */
    check_roots();
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        broken("after %s the kernel does not serve: %d, status 0x%x", wanted, child, status);
}

int main(int argc, char **argv) {
    text = find_text();
    int fd = open(ROOTS, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (write(fd, "root's", 6) != 6)
        broken("%s", ROOTS);
    close(fd);
    for (int i = 1; i < argc; i++)
        one(argv[i]);
    if (argc == 1)
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
            puts(ways[i].name);
    else
        puts("alive");
    return 7;
}
