/* Signals for readiness: F_SETOWN, F_SETSIG, O_ASYNC, FIOASYNC. */
#include "t.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static volatile int told, told_fd, told_code;
static void tell(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    told++;
    told_fd = info->si_fd;
    told_code = info->si_code;
}
static void listen_to(int signal) {
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    OK(sigaction(signal, &action, NULL));
}
static void until_told(int times) {
    for (int i = 0; i < 2000 && told < times; i++)
        usleep(1000);
    CHECK(told >= times);
}

CASE(a_socket_tells_its_owner) {
    int ends[2], on = 1;
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    listen_to(SIGIO);
    EQ(fcntl(ends[0], F_GETOWN), 0);
    OK(fcntl(ends[0], F_SETOWN, getpid()));
    EQ(fcntl(ends[0], F_GETOWN), getpid());
    OK(ioctl(ends[0], FIOASYNC, &on));
    CHECK(fcntl(ends[0], F_GETFL) & O_ASYNC);
    EQ(write(ends[1], "x", 1), 1);
    until_told(1);
    on = 0;
    OK(ioctl(ends[0], FIOASYNC, &on));
    EQ(fcntl(ends[0], F_GETFL) & O_ASYNC, 0);
    told = 0;
    EQ(write(ends[1], "y", 1), 1);
    usleep(20000);
    EQ(told, 0);
}
CASE(a_pipe_tells_with_a_signal_of_ones_own) {
    int ends[2];
    OK(pipe(ends));
    int want = SIGRTMIN + 3;
    listen_to(want);
    OK(fcntl(ends[0], F_SETSIG, want));
    EQ(fcntl(ends[0], F_GETSIG), want);
    OK(fcntl(ends[0], F_SETOWN, getpid()));
    OK(fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK));
    EQ(write(ends[1], "x", 1), 1);
    until_told(1);
    EQ(told_fd, ends[0]);
    EQ(told_code, POLL_IN);
}
CASE(a_group_is_told) {
    int ends[2], ready[2];
    OK(pipe(ends));
    OK(pipe(ready));
    OK(setpgid(0, 0));
    pid_t pid = fork();
    if (pid == 0) {
        listen_to(SIGIO);
        EQ(write(ready[1], "r", 1), 1);
        until_told(1);
        _exit(0);
    }
    listen_to(SIGIO);
    char byte;
    EQ(read(ready[0], &byte, 1), 1);
    OK(fcntl(ends[0], F_SETOWN, -getpgrp()));
    EQ(fcntl(ends[0], F_GETOWN), -getpgrp());
    struct f_owner_ex owner;
    OK(fcntl(ends[0], F_GETOWN_EX, &owner));
    EQ(owner.type, F_OWNER_PGRP);
    EQ(owner.pid, getpgrp());
    OK(fcntl(ends[0], F_SETFL, O_ASYNC));
    EQ(write(ends[1], "x", 1), 1);
    until_told(1);
    CHILD_OK(pid);
}
CASE(what_cannot_own_or_tell) {
    int ends[2], on = 1;
    OK(pipe(ends));
    ERR(fcntl(ends[0], F_SETOWN, 999999), ESRCH);
    ERR(fcntl(ends[0], F_SETSIG, 65), EINVAL);
    ERR(fcntl(ends[0], F_SETSIG, -1), EINVAL);
    struct f_owner_ex owner = {.type = 7, .pid = getpid()};
    ERR(fcntl(ends[0], F_SETOWN_EX, &owner), EINVAL);
    int file = open("file", O_RDWR | O_CREAT, 0600);
    OK(file);
    ERR(ioctl(file, FIOASYNC, &on), ENOTTY);
    OK(fcntl(file, F_SETOWN, getpid()));
}
/* Who tells himself is told before his call returns. */
CASE(told_within_the_call) {
    int ends[2];
    OK(pipe(ends));
    OK(mkdir("watched", 0700));
    FD(dir, open("watched", O_RDONLY));
    int want = SIGRTMIN + 3;
    listen_to(want);
    for (int i = 0; i < 2; i++) {
        int fd = i ? dir : ends[0];
        OK(fcntl(fd, F_SETSIG, want));
        OK(fcntl(fd, F_SETOWN, getpid()));
    }
    OK(fcntl(ends[0], F_SETFL, O_ASYNC));
    OK(fcntl(dir, F_NOTIFY, DN_ATTRIB | DN_MULTISHOT));
    for (int i = 0; i < 300; i++) {
        told = 0;
        EQ(write(ends[1], "x", 1), 1);
        EQ(told, 1);
        EQ(told_fd, ends[0]);
        OK(fchmod(dir, 0700 + i % 8));
        EQ(told, 2);
        EQ(told_fd, dir);
    }
}
