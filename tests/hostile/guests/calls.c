/* Makes the calls that standard input lists, each in a forked child, and says what became of it.

   A line in: WAY NR A0 A1 A2 A3 A4 A5, numbers in any base; @ for an argument is a path in the canary directory
   (argv[1]), # a zeroed buffer. A line out: WAY NR OUTCOME VALUE.
   WAY guest: a plain system call. user: the same as an ordinary user. jump: a jump to the first system call
   instruction of the stub's image. stub: a call from the stub's range that returns. int80: the same with int 0x80.
   OUTCOME returned, trapped (SIGSYS), fault, ended STATUS, hung. */
#include "hostile.h"

enum { NOTHING, CALLED, RETURNED, TRAPPED, FAULT };
struct outcome {
    volatile int kind;
    volatile long value;
};
static struct outcome *out;
static char path[512], buffer[65536];

/* In the stub's place: every handler's address slides here. */
static void seize(int signo) {
    if (out->kind == CALLED) {
        out->kind = signo == SIGSYS ? TRAPPED : FAULT;
        out->value = signo;
    }
    for (;;)
        host_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

/* Replaces the stub's code by no-operations that end in a jump to `seize`. */
static void take_the_stub(struct text text) {
    long r = host_call(SYS_mprotect, (long)text.begin, text.end - text.begin, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0);
    if (r != 0)
        broken("the host's mprotect of the stub: %ld", r);
    memset(text.begin, 0x90, text.end - text.begin);
    uint8_t jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
    void (*to)(int) = seize;
    memcpy(jump + 2, &to, 8);
    memcpy(text.end - sizeof jump, jump, sizeof jump);
}

static void attempt(const char *way, long nr, long *args, struct text text) {
    if (strcmp(way, "guest") == 0 || strcmp(way, "user") == 0) {
        if (way[0] == 'u' && (setgid(60001) != 0 || setuid(60001) != 0))
            broken("setuid");
        out->kind = CALLED;
        long r;
        register long r10 __asm__("r10") = args[3], r8 __asm__("r8") = args[4], r9 __asm__("r9") = args[5];
        __asm__ volatile("syscall"
                         : "=a"(r)
                         : "a"(nr), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
        out->value = r;
        out->kind = RETURNED;
        _exit(0);
    }
    if (strcmp(way, "jump") == 0) {
        out->kind = CALLED;
        long r = call_at((uint64_t)text.first_syscall, nr, args);
        out->value = r;
        out->kind = RETURNED;
        _exit(0);
    }
    own_page(text);
    take_the_stub(text);
    out->kind = CALLED;
    long r = call_at(way[0] == 'i' ? OWN_PAGE + 16 : OWN_PAGE, nr, args);
    out->value = r;
    out->kind = RETURNED;
    seize(0);
}

static long number(const char *word) {
    if (word[0] == '@')
        return (long)path;
    if (word[0] == '#')
        return (long)buffer;
    return (long)strtoull(word, NULL, 0);
}

int main(int argc, char **argv) {
    char *line = NULL, *list = NULL;
    size_t size = 0, used = 0;
    snprintf(path, sizeof path, "%s/made", argc > 1 ? argv[1] : "/tmp");
    struct text text = find_text();
    out = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    /* All of it first: a child may read descriptor 0, too. */
    list = calloc(1, 8 << 20);
    for (ssize_t n; (n = read(0, list + used, (8 << 20) - 1 - used)) > 0;)
        used += n;
    close(0);
    open("/dev/null", O_RDONLY);
    /* The answers leave by a descriptor that no argument names. */
    int answers = fcntl(1, F_DUPFD_CLOEXEC, 700);
    char *report = calloc(1, 4 << 20);
    size_t written = 0;
    for (char *at = strtok_r(list, "\n", &line); at; at = strtok_r(NULL, "\n", &line)) {
        char way[16], word[7][64];
        if (sscanf(at, "%15s %63s %63s %63s %63s %63s %63s %63s", way, word[0], word[1], word[2], word[3], word[4], word[5], word[6]) != 8)
            broken("not understood: %s", at);
        long args[6];
        for (int i = 0; i < 6; i++)
            args[i] = number(word[i + 1]);
        out->kind = NOTHING;
        pid_t pid = fork();
        if (pid == 0) {
            int null = open("/dev/null", O_RDWR);
            dup2(null, 1);
            dup2(null, 2);
            close(answers);
            attempt(way, number(word[0]), args, text);
        }
        if (pid < 0)
            broken("fork: %s", strerror(errno));
        int status = 0;
        double end = now() + 2, quiet = 0;
        pid_t got;
        /* On a busy machine it may be long before a child begins. */
        while ((got = waitpid(pid, &status, WNOHANG)) == 0 && now() < (out->kind == NOTHING ? end + 20 : end)) {
            /* Called and gone quiet: it waits for something that will not come. */
            if (out->kind != NOTHING && quiet == 0)
                quiet = now();
            if (quiet != 0 && now() > quiet + 0.03)
                break;
            if (quiet != 0 || out->kind == NOTHING)
                sched_yield();
        }
        if (got == 0) {
            kill(pid, SIGKILL);
            if (waitpid(pid, &status, 0) != pid)
                broken("a child cannot be killed: %s", at);
        }
        const char *kinds[] = {"nothing", "ended", "returned", "trapped", "fault"};
        int kind = out->kind;
        const char *outcome = kind == CALLED && got == 0 ? "hung" : kinds[kind];
        written += sprintf(report + written, "%s %s %s %ld\n", way, word[0], outcome, kind == CALLED ? (long)status : out->value);
        /* Whatever else it left behind. */
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    for (size_t done = 0; done < written;) {
        ssize_t n = write(answers, report + done, written - done);
        if (n <= 0)
            return 98;
        done += n;
    }
    return 7;
}
