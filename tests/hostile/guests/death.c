/* Dies in the state that the argument names: another thread, or the child itself, sends SIGKILL meanwhile.
   `death STATE` dies as the first process; `death child STATE...` forks one that dies per state and prints its status. */
#include "hostile.h"
#include <poll.h>

static pid_t victim;
static void *killer(void *unused) {
    (void)unused;
    sleep_ms(60);
    kill(victim, SIGKILL);
    return NULL;
}
__attribute__((noreturn)) static void *idle(void *unused) {
    (void)unused;
    for (;;)
        sleep_ms(20);
}
__attribute__((noreturn)) static void *busy(void *unused) {
    (void)unused;
    for (;;)
        getppid();
}
__attribute__((noreturn)) static void *computes(void *unused) {
    for (volatile long i = 0;; i++)
        (void)unused;
}

static void blocked_read(void) {
    int ends[2];
    if (pipe(ends) != 0)
        broken("pipe");
    char c;
    (void)!read(ends[0], &c, 1);
}
static void blocked_write(void) {
    int ends[2];
    static char much[1 << 20];
    if (pipe(ends) != 0)
        broken("pipe");
    (void)!write(ends[1], much, sizeof much);
}
static void blocked_futex(void) {
    int word = 0;
    syscall(SYS_futex, &word, 0, 0, NULL);
}
static void blocked_nanosleep(void) { sleep_ms(60000); }
static void blocked_wait4(void) {
    if (fork() == 0)
        for (;;)
            pause();
    wait(NULL);
}
static void blocked_poll(void) { poll(NULL, 0, -1); }
static void blocked_vfork(void) {
    pid_t me = getpid();
    pid_t pid = vfork();
    if (pid == 0) {
        /* The parent waits for this: it dies first. */
        kill(me, SIGKILL);
        for (int i = 0; i < 100; i++)
            getppid();
        _exit(0);
    }
}
/* The child of vfork dies, and does not end the wait in any other way. */
static void vfork_child_dies(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid || status != SIGKILL)
        broken("the child of vfork: 0x%x", status);
    kill(getpid(), SIGKILL);
}
static void executing(void) {
    if (fork() == 0)
        for (;;)
            getppid();
    if (getenv("ROUND") == NULL || atoi(getenv("ROUND")) < 100000) {
        char next[16];
        snprintf(next, sizeof next, "%d", getenv("ROUND") ? atoi(getenv("ROUND")) + 1 : 1);
        setenv("ROUND", next, 1);
        execl("/bin/sh", "sh", "-c", "while :; do /bin/true; done", NULL);
    }
}
static void computing(void) { computes(NULL); }
static void calling(void) { busy(NULL); }
static void stopped(void) { raise(SIGSTOP); }
/* The first thread is gone, the others go on until the end. */
static void main_thread_gone(void) {
    pthread_t t;
    pthread_create(&t, NULL, idle, NULL);
    pthread_create(&t, NULL, busy, NULL);
    pthread_exit(NULL);
}
static void exit_while_others_run(void) {
    pthread_t t;
    pthread_create(&t, NULL, computes, NULL);
    pthread_create(&t, NULL, busy, NULL);
    pthread_create(&t, NULL, idle, NULL);
    sleep_ms(30);
    _exit(5);
}

static const struct state {
    const char *name;
    void (*enter)(void);
} states[] = {
#define STATE(name) {#name, name}
    STATE(blocked_read), STATE(blocked_write), STATE(blocked_futex), STATE(blocked_nanosleep), STATE(blocked_wait4),
    STATE(blocked_poll), STATE(blocked_vfork), STATE(vfork_child_dies), STATE(executing), STATE(computing),
    STATE(calling), STATE(stopped), STATE(main_thread_gone), STATE(exit_while_others_run),
};

static void enter(const char *name) {
    victim = getpid();
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (strcmp(states[i].name, name) != 0)
            continue;
        if (states[i].enter == executing || states[i].enter == stopped) {
            /* No thread of its own would be left to do it. */
            if (fork() == 0) {
                killer(NULL);
                _exit(0);
            }
        } else if (states[i].enter != exit_while_others_run) {
            pthread_t t;
            pthread_create(&t, NULL, killer, NULL);
        }
        states[i].enter();
        broken("%s did not wait", name);
    }
    broken("no state %s", name);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        for (size_t i = 0; i < sizeof states / sizeof *states; i++)
            puts(states[i].name);
        return 0;
    }
    if (strcmp(argv[1], "child") != 0)
        enter(argv[1]);
    for (int i = 2; i < argc; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            enter(argv[i]);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid)
            broken("waitpid: %s", strerror(errno));
        printf("%s 0x%x\n", argv[i], status);
        kill(-pid, SIGKILL);
    }
    return 0;
}
