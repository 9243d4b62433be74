/* What files and directories tell by a signal: leases (F_SETLEASE) and directory notification (F_NOTIFY). */
#include "t.h"

#ifndef POLL_MSG
#define POLL_MSG 3
#endif

static volatile sig_atomic_t signals, code, told_fd;
static void tells(int signal, siginfo_t *info, void *context) {
    signals++;
    code = info->si_code;
    told_fd = info->si_fd;
}
static void on(int signal) {
    struct sigaction action = {.sa_sigaction = tells, .sa_flags = SA_SIGINFO | SA_RESTART};
    OK(sigaction(signal, &action, NULL));
}
static int file(const char *name, int flags) {
    int fd = open(name, flags | O_CREAT, 0644);
    CHECK(fd >= 0);
    return fd;
}

CASE(who_may_have_a_lease) {
    close(file("f", O_RDWR));
    int reads = file("f", O_RDONLY), directory = open(".", O_RDONLY);
    EQ(fcntl(reads, F_GETLEASE), F_UNLCK);
    ERR(fcntl(reads, F_SETLEASE, F_UNLCK), EAGAIN);
    ERR(fcntl(reads, F_SETLEASE, 77), EINVAL);
    ERR(fcntl(directory, F_SETLEASE, F_RDLCK), EINVAL);
    ERR(fcntl(-1, F_SETLEASE, F_RDLCK), EBADF);
    int place = open("f", O_PATH);
    ERR(fcntl(place, F_SETLEASE, F_RDLCK), EBADF);
    EQ(fcntl(reads, F_SETLEASE, F_RDLCK), 0);
    EQ(fcntl(reads, F_GETLEASE), F_RDLCK);
    EQ(fcntl(reads, F_SETLEASE, F_WRLCK), 0);
    EQ(fcntl(reads, F_GETLEASE), F_WRLCK);
    EQ(fcntl(reads, F_SETLEASE, F_UNLCK), 0);
    EQ(fcntl(reads, F_GETLEASE), F_UNLCK);
    int again = file("f", O_RDONLY);
    EQ(fcntl(reads, F_SETLEASE, F_RDLCK), 0);
    ERR(fcntl(reads, F_SETLEASE, F_WRLCK), EAGAIN);
    EQ(fcntl(again, F_SETLEASE, F_RDLCK), 0);
    EQ(fcntl(again, F_SETLEASE, F_UNLCK), 0);
    close(again);
    EQ(fcntl(reads, F_SETLEASE, F_WRLCK), 0);
}

CASE(a_writer_has_no_lease_to_read) {
    int writes = file("f", O_RDWR);
    ERR(fcntl(writes, F_SETLEASE, F_RDLCK), EAGAIN);
    EQ(fcntl(writes, F_SETLEASE, F_WRLCK), 0);
    ERR(fcntl(writes, F_SETLEASE, F_RDLCK), EAGAIN);
    EQ(fcntl(writes, F_GETLEASE), F_WRLCK);
}

CASE(somebody_elses_file) {
    close(file("f", O_RDWR));
    OK(chmod(".", 0777));
    if (fork() == 0) {
        OK(setuid(1000));
        int reads = open("f", O_RDONLY);
        ERR(fcntl(reads, F_SETLEASE, F_RDLCK), EACCES);
        int own = open("mine", O_RDONLY | O_CREAT, 0600);
        EQ(fcntl(own, F_SETLEASE, F_RDLCK), 0);
        _exit(7);
    }
    int status;
    wait(&status);
    EQ(WEXITSTATUS(status), 7);
}

CASE(the_holder_is_told_and_the_other_waits) {
    on(SIGIO);
    on(SIGRTMIN);
    close(file("f", O_RDWR));
    int reads = file("f", O_RDONLY), ready[2];
    EQ(fcntl(reads, F_SETSIG, SIGRTMIN), 0);
    EQ(fcntl(reads, F_SETLEASE, F_RDLCK), 0);
    EQ(fcntl(reads, F_GETOWN), getpid());
    OK(pipe(ready));
    pid_t pid = fork();
    if (pid == 0) {
        /* Others read; that is nobody's business. */
        int fd = open("f", O_RDONLY);
        CHECK(fd >= 0);
        ERR(open("f", O_WRONLY | O_NONBLOCK), EAGAIN);
        EQ(write(ready[1], "x", 1), 1);
        fd = open("f", O_WRONLY);
        _exit(fd >= 0 ? 5 : 6);
    }
    char c;
    EQ(read(ready[0], &c, 1), 1);
    while (signals == 0)
        usleep(1000);
    EQ(code, POLL_MSG);
    EQ(told_fd, reads);
    EQ(fcntl(reads, F_GETLEASE), F_UNLCK);
    usleep(20000);
    EQ(waitpid(pid, NULL, WNOHANG), 0);
    EQ(fcntl(reads, F_SETLEASE, F_UNLCK), 0);
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 5);
    EQ(signals, 1);
}

CASE(a_lease_to_write_becomes_one_to_read) {
    on(SIGIO);
    close(file("f", O_RDWR));
    int reads = file("f", O_RDONLY);
    EQ(fcntl(reads, F_SETLEASE, F_WRLCK), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(reads);
        int fd = open("f", O_RDONLY);
        _exit(fd >= 0 ? 5 : 6);
    }
    while (signals == 0)
        usleep(1000);
    EQ(code, SI_KERNEL);
    EQ(fcntl(reads, F_GETLEASE), F_RDLCK);
    EQ(fcntl(reads, F_SETLEASE, F_RDLCK), 0);
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 5);
    EQ(fcntl(reads, F_GETLEASE), F_RDLCK);
}

CASE(truncate_waits_for_the_holder) {
    on(SIGIO);
    int writes = file("f", O_RDWR);
    EQ(write(writes, "abc", 3), 3);
    EQ(fcntl(writes, F_SETLEASE, F_WRLCK), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(truncate("f", 1) == 0 ? 5 : 6);
    while (signals == 0)
        usleep(1000);
    usleep(20000);
    EQ(waitpid(pid, NULL, WNOHANG), 0);
    EQ(lseek(writes, 0, SEEK_END), 3);
    EQ(fcntl(writes, F_SETLEASE, F_UNLCK), 0);
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 5);
    EQ(lseek(writes, 0, SEEK_END), 1);
}

CASE(a_lease_ends_with_its_file) {
    on(SIGIO);
    close(file("f", O_RDWR));
    int reads = file("f", O_RDONLY);
    EQ(fcntl(reads, F_SETLEASE, F_RDLCK), 0);
    int same = dup(reads);
    close(reads);
    EQ(fcntl(same, F_GETLEASE), F_RDLCK);
    ERR(open("f", O_RDWR | O_NONBLOCK), EAGAIN);
    close(same);
    CHECK(open("f", O_RDWR | O_NONBLOCK) >= 0);
}

CASE(a_signal_ends_the_wait) {
    close(file("f", O_RDWR));
    int reads = file("f", O_RDONLY);
    signal(SIGIO, SIG_IGN);
    EQ(fcntl(reads, F_SETLEASE, F_RDLCK), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction action = {.sa_sigaction = tells, .sa_flags = SA_SIGINFO};
        sigaction(SIGALRM, &action, NULL);
        ualarm(50000, 0);
        ERR(open("f", O_WRONLY), EINTR);
        _exit(5);
    }
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(WEXITSTATUS(status), 5);
}

CASE(a_directory_tells_once) {
    on(SIGIO);
    on(SIGRTMIN + 1);
    OK(mkdir("d", 0755));
    int d = open("d", O_RDONLY), plain = file("plain", O_RDWR);
    ERR(fcntl(plain, F_NOTIFY, DN_CREATE), ENOTDIR);
    EQ(fcntl(plain, F_NOTIFY, 0), 0);
    ERR(fcntl(-1, F_NOTIFY, DN_CREATE), EBADF);
    EQ(fcntl(d, F_SETSIG, SIGRTMIN + 1), 0);
    EQ(fcntl(d, F_NOTIFY, DN_CREATE), 0);
    EQ(fcntl(d, F_GETOWN), getpid());
    close(file("plain", O_RDWR));
    EQ(signals, 0);
    close(file("d/a", O_RDWR));
    EQ(signals, 1);
    EQ(code, POLL_MSG);
    EQ(told_fd, d);
    close(file("d/b", O_RDWR));
    EQ(signals, 1);
}

/* How often something was told of while that was done. */
static int told_by(int mask, int what) {
    int d = open("d", O_RDONLY), fd;
    char c;
    CHECK(d >= 0);
    EQ(fcntl(d, F_NOTIFY, mask | DN_MULTISHOT), 0);
    signals = 0;
    switch (what) {
    case 0:
        fd = open("d/a", O_RDONLY);
        EQ(read(fd, &c, 1), 1);
        close(fd);
        break;
    case 1:
        fd = open("d/a", O_WRONLY);
        EQ(write(fd, "y", 1), 1);
        close(fd);
        break;
    case 2:
        OK(mkdir("d/new", 0755));
        OK(rmdir("d/new"));
        break;
    case 3:
        OK(chmod("d/a", 0600));
        break;
    case 4:
        OK(rename("d/a", "d/z"));
        OK(rename("d/z", "d/a"));
        break;
    case 5:
        OK(rename("d/a", "a"));
        OK(rename("a", "d/a"));
        break;
    default:
        OK(chmod("d", 0700));
    }
    close(d);
    return signals != 0;
}
CASE(a_directory_tells_what_it_is_asked_for) {
    static const int masks[] = {DN_ACCESS, DN_MODIFY, DN_CREATE, DN_DELETE, DN_RENAME, DN_ATTRIB};
    static const char *const want[] = {"100000", "010000", "001100", "000001", "001110", "001100", "000001"};
    on(SIGIO);
    OK(mkdir("d", 0755));
    int a = file("d/a", O_RDWR);
    EQ(write(a, "x", 1), 1);
    close(a);
    for (int what = 0; what < 7; what++) {
        char got[7] = "";
        for (int i = 0; i < 6; i++)
            got[i] = '0' + told_by(masks[i], what);
        if (strcmp(got, want[what]) != 0)
            t_fail("%d: %s, not %s", what, got, want[what]);
    }
}

CASE(a_closed_directory_tells_nothing) {
    on(SIGIO);
    OK(mkdir("d", 0755));
    int d = open("d", O_RDONLY), same = dup(d);
    EQ(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT), 0);
    close(file("d/a", O_RDWR));
    EQ(signals, 1);
    close(same);
    close(file("d/b", O_RDWR));
    EQ(signals, 1);
    EQ(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT), 0);
    EQ(fcntl(d, F_NOTIFY, 0), 0);
    close(file("d/c", O_RDWR));
    EQ(signals, 1);
}

