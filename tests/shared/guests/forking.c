// Makes processes or threads as fast as it can; each tries to make the directory /b/made once the file /b/from-now is there, and
// shows by a file that it lives. `full`: puts filters on itself until no more are taken, and waits.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void try(const char *mark) {
    if (access("/b/from-now", F_OK)) return;
    mkdir("/b/made", 0700);
    close(open(mark, O_CREAT | O_WRONLY, 0600));
}

static void bomb(void) {
    for (;;) {
        try("/b/alive-bomb");
        if (fork() > 0) {
            usleep(1000);
            while (waitpid(-1, NULL, WNOHANG) > 0) {}
            if (getpid() != 1 && rand() % 4 == 0) _exit(0);
        } else srand(getpid());
    }
}

static void chain(void) {
    if (fork() == 0)
        for (;;) {
            try("/b/alive-chain");
            if (fork() > 0) _exit(0);
        }
    for (;;) wait(NULL);
}

static void vforks(void) {
    for (int i = 0; i < 6 && fork() > 0; i++) {}
    for (;;) {
        try("/b/alive-vfork");
        if (vfork() == 0) {
            usleep(2000);
            try("/b/alive-vfork-child");
            _exit(0);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
}

static void *brief(void *_) {
    try("/b/alive-thread");
    return _;
}

static void threads(void) {
    for (;;) {
        pthread_t made[8];
        int n = 0;
        while (n < 8 && !pthread_create(&made[n], NULL, brief, NULL)) n++;
        while (n-- > 0) pthread_join(made[n], NULL);
    }
}

static void full(void) {
    static struct sock_filter many[4096];
    for (int i = 0; i < 4095; i++) many[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    many[4095] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (int left = 4096; left > 0; left /= 2) {
        struct sock_fprog program = {left, many + 4096 - left};
        while (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {}
    }
    close(open("/b/alive-full", O_CREAT | O_WRONLY, 0600));
    for (;;) pause();
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    if (!strcmp(kind, "bomb")) bomb();
    if (!strcmp(kind, "chain")) chain();
    if (!strcmp(kind, "vfork")) vforks();
    if (!strcmp(kind, "threads")) threads();
    if (!strcmp(kind, "full")) full();
    return 2;
}
