/* Terminals and who uses them: sessions, job control, signals, hang-up. credentials(7), ioctl_tty(2). */
#include "tty.h"

/* Runs `leader` in a session of its own, as its leader, with the slave as its terminal. */
static void in_session(void (*leader)(void)) {
    fresh();
    pid_t pid = fork();
    if (pid == 0) {
        EQ(setsid(), getpid());
        OK(ioctl(s, TIOCSCTTY, 0));
        close(m);
        leader();
        _exit(0);
    }
    close(s);
    SHOWS(m, "");
    CHILD_OK(pid);
}

static void control_leader(void) {
    EQ(tcgetpgrp(s), getpid());
    EQ(tcgetsid(s), getpid());
    FD(tty, open("/dev/tty", O_RDWR));
    struct stat st;
    OK(fstat(tty, &st));
    EQ(st.st_rdev, makedev(5, 0));
    EQ(tcgetpgrp(tty), getpid());
    char text[512];
    FD(stat_file, open("/proc/self/stat", O_RDONLY));
    CHECK(read(stat_file, text, sizeof text) > 0);
    int group, session, nr, foreground;
    EQ(sscanf(strrchr(text, ')') + 1, " %*c %*d %d %d %d %d", &group, &session, &nr, &foreground), 4);
    EQ(session, getpid());
    OK(fstat(s, &st));
    EQ(nr, (minor(st.st_rdev) & 0xff) | 136 << 8 | (minor(st.st_rdev) & ~0xffu) << 12);
    EQ(foreground, getpid());
    ERR(ioctl(s, TIOCSPGRP, BAD_ADDRESS), EFAULT);
    ERR(tcsetpgrp(s, -5), EINVAL);
    ERR(tcsetpgrp(s, 4190000), ESRCH);
    pid_t pid = fork();
    if (pid == 0) {
        OK(setpgid(0, 0));
        OK(ioctl(s, TIOCNOTTY));
        ERR(open("/dev/tty", O_RDWR), ENXIO);
        ERR(tcgetpgrp(s) == -1 ? -1 : 0, ENOTTY);
        _exit(0);
    }
    CHILD_OK(pid);
    pid = fork();
    if (pid == 0) {
        setsid();
        ERR(open("/dev/tty", O_RDWR), ENXIO);
        ERR(ioctl(s, TIOCSCTTY, 0), EPERM);
        ERR(ioctl(s, TIOCNOTTY), ENOTTY);
        pid_t group = getpid();
        ERR(ioctl(s, TIOCSPGRP, &group), ENOTTY);
        ERR(tcgetsid(s), ENOTTY);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(controlling_terminal) { in_session(control_leader); }

CASE(opening_takes_the_terminal) {
    fresh();
    char name[64];
    strcpy(name, ptsname(m));
    close(s);
    pid_t pid = fork();
    if (pid == 0) {
        ERR(ioctl(m, TIOCGSID, &pid), ENOTTY);
        setsid();
        FD(not, open(name, O_RDWR | O_NOCTTY));
        ERR(open("/dev/tty", O_RDWR), ENXIO);
        FD(write_only, open(name, O_WRONLY));
        ERR(open("/dev/tty", O_RDWR), ENXIO);
        FD(yes, open(name, O_RDWR));
        FD(tty, open("/dev/tty", O_RDWR));
        EQ(tcgetsid(yes), getpid());
        _exit(0);
    }
    CHILD_OK(pid);
}

static volatile int seen;
static void note(int sig) { seen = sig; }
static void catch (int sig) {
    struct sigaction a = {.sa_handler = note};
    sigaction(sig, &a, NULL);
}

static void background_leader(void) {
    struct termios t = get();
    signal(SIGTTOU, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) {
        OK(setpgid(0, 0));
        signal(SIGTTOU, SIG_DFL);
        /* Stopped by the read, let go on in the foreground. */
        ssize_t n = read(s, line, 10);
        EQ(n, 3);
        _exit(7);
    }
    setpgid(pid, pid);
    int status;
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    EQ(WSTOPSIG(status), SIGTTIN);
    OK(tcsetpgrp(s, pid));
    EQ(tcgetpgrp(s), pid);
    OK(kill(-pid, SIGCONT));
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    EQ(status, 7 << 8);
    OK(tcsetpgrp(s, getpid()));
    pid = fork();
    if (pid == 0) {
        OK(setpgid(0, 0));
        signal(SIGTTOU, SIG_DFL);
        OK(tcsetattr(s, TCSANOW, &t));
        _exit(0);
    }
    setpgid(pid, pid);
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    EQ(WSTOPSIG(status), SIGTTOU);
    kill(-pid, SIGKILL);
    t_wait(pid);
    /* Writing is free, but for TOSTOP. */
    for (int stop = 0; stop < 2; stop++) {
        t.c_lflag = stop ? t.c_lflag | TOSTOP : t.c_lflag;
        OK(tcsetattr(s, TCSANOW, &t));
        pid = fork();
        if (pid == 0) {
            OK(setpgid(0, 0));
            signal(SIGTTOU, SIG_DFL);
            EQ(write(s, "", 1), 1);
            _exit(0);
        }
        setpgid(pid, pid);
        EQ(waitpid(pid, &status, WUNTRACED), pid);
        EQ(WIFSTOPPED(status), stop);
        if (stop) {
            EQ(WSTOPSIG(status), SIGTTOU);
            kill(-pid, SIGKILL);
            t_wait(pid);
        }
    }
    /* Who ignores or blocks SIGTTIN gets EIO; who handles it EINTR. */
    for (int how = 0; how < 3; how++) {
        pid = fork();
        if (pid == 0) {
            OK(setpgid(0, 0));
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGTTIN);
            if (how == 0)
                signal(SIGTTIN, SIG_IGN);
            else if (how == 1)
                sigprocmask(SIG_BLOCK, &set, NULL);
            else
                catch (SIGTTIN);
            ERR(read(s, line, 10), how == 2 ? EINTR : EIO);
            EQ(seen, how == 2 ? SIGTTIN : 0);
            _exit(0);
        }
        setpgid(pid, pid);
        CHILD_OK(pid);
    }
}
CASE(background) {
    fresh();
    pid_t pid = fork();
    if (pid == 0) {
        EQ(setsid(), getpid());
        OK(ioctl(s, TIOCSCTTY, 0));
        close(m);
        background_leader();
        _exit(0);
    }
    type("hi\n");
    CHILD_OK(pid);
}

static void orphan_leader(void) {
    int to[2];
    OK(pipe(to));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setpgid(0, 0));
        if (fork() == 0) {
            while (getppid() == getpgrp())
                t_sleep_ms(5);
            int bad = !(read(s, line, 10) == -1 && errno == EIO);
            signal(SIGTTOU, SIG_DFL);
            struct termios t;
            bad |= tcgetattr(s, &t) != 0 || !(tcsetattr(s, TCSANOW, &t) == -1 && errno == EIO) ? 2 : 0;
            OK(raise(SIGTSTP));
            EQ(write(to[1], &bad, 4), 4);
        }
        _exit(0);
    }
    CHILD_OK(pid);
    int bad = -1;
    EQ(read(to[0], &bad, 4), 4);
    EQ(bad, 0);
}
CASE(orphaned_group) { in_session(orphan_leader); }

CASE(orphaned_and_stopped) {
    int to[2];
    OK(pipe(to));
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            pid_t stopped = fork();
            if (stopped == 0) {
                catch (SIGHUP);
                OK(setpgid(0, 0));
                raise(SIGSTOP);
                EQ(write(to[1], (int[]){seen}, 4), 4);
                _exit(0);
            }
            int status;
            EQ(waitpid(stopped, &status, WUNTRACED), stopped);
            _exit(0); /* Who was the only one outside the group to look after it. */
        }
        t_sleep_ms(1000);
        _exit(0);
    }
    int got = -1;
    EQ(read(to[0], &got, 4), 4);
    EQ(got, SIGHUP);
    CHILD_OK(pid);
}

/* Signals of characters: a child in the foreground reports what it gets. */
static void signalled(int lflag, const char *typed, int sig, const char *shown, const char *left) {
    fresh();
    flags(ICRNL | IXON, OPOST | ONLCR, lflag);
    int to[2], back[2];
    OK(pipe(to));
    OK(pipe(back));
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        OK(ioctl(s, TIOCSCTTY, 0));
        close(m);
        catch (sig);
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, sig);
        sigprocmask(SIG_BLOCK, &set, &old);
        EQ(write(to[1], "r", 1), 1);
        while (!seen)
            sigsuspend(&old);
        EQ(write(to[1], "s", 1), 1);
        EQ(read(back[0], line, 1), 1);
        nonblocking(s);
        ssize_t n = read(s, line, 100);
        line[n > 0 ? n : 0] = 0;
        EQ(strcmp(line, left), 0);
        _exit(0);
    }
    EQ(read(to[0], line, 1), 1);
    type("before");
    EQ(strcmp(gives(m, lflag & ECHO ? 6 : 0), lflag & ECHO ? "before" : ""), 0);
    type(typed);
    EQ(read(to[0], line, 1), 1);
    SHOWS(m, shown);
    type("after\n");
    t_sleep_ms(20);
    EQ(write(back[1], "x", 1), 1);
    CHILD_OK(pid);
}
CASE(interrupt) { signalled(COOKED, "\x03", SIGINT, "^C", "after\n"); }
CASE(quit) { signalled(COOKED, "\x1c", SIGQUIT, "^\\", "after\n"); }
CASE(suspend) { signalled(COOKED, "\x1a", SIGTSTP, "^Z", "after\n"); }
CASE(interrupt_without_flush) { signalled(COOKED | NOFLSH, "\x03", SIGINT, "^C", "beforeafter\n"); }
CASE(interrupt_without_echo) { signalled(ISIG | ICANON, "\x03", SIGINT, "", "after\n"); }

CASE(window_size) {
    fresh();
    int to[2];
    OK(pipe(to));
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        OK(ioctl(s, TIOCSCTTY, 0));
        catch (SIGWINCH);
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, SIGWINCH);
        sigprocmask(SIG_BLOCK, &set, &old);
        EQ(write(to[1], "r", 1), 1);
        while (!seen)
            sigsuspend(&old);
        struct winsize w;
        OK(ioctl(s, TIOCGWINSZ, &w));
        EQ(w.ws_row, 50);
        EQ(w.ws_col, 132);
        _exit(0);
    }
    EQ(read(to[0], line, 1), 1);
    struct winsize w = {.ws_row = 50, .ws_col = 132};
    ERR(ioctl(m, TIOCSWINSZ, BAD_ADDRESS), EFAULT);
    OK(ioctl(m, TIOCSWINSZ, &w));
    CHILD_OK(pid);
}

CASE(hang_up) {
    fresh();
    int to[2];
    OK(pipe(to));
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        OK(ioctl(s, TIOCSCTTY, 0));
        close(m);
        catch (SIGHUP);
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, &old);
        EQ(write(to[1], "r", 1), 1);
        while (!seen)
            sigsuspend(&old);
        ERR(open("/dev/tty", O_RDWR), ENXIO);
        _exit(0);
    }
    EQ(read(to[0], line, 1), 1);
    close(m);
    CHILD_OK(pid);
}

CASE(leader_ends) {
    fresh();
    int to[2];
    OK(pipe(to));
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        OK(ioctl(s, TIOCSCTTY, 0));
        sigset_t set, old;
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, &old);
        catch (SIGHUP);
        if (fork() == 0) {
            while (!seen)
                sigsuspend(&old);
            EQ(write(to[1], "h", 1), 1);
            ERR(open("/dev/tty", O_RDWR), ENXIO);
            EQ(write(to[1], "n", 1), 1);
            _exit(0);
        }
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(read(to[0], line, 1), 1);
    EQ(read(to[0], line, 1), 1);
    /* The terminal is free for another session. */
    pid = fork();
    if (pid == 0) {
        setsid();
        OK(ioctl(s, TIOCSCTTY, 0));
        _exit(0);
    }
    CHILD_OK(pid);
}

CASE(no_typing_for_others) {
    NEED_ROOT();
    fresh();
    pid_t pid = fork();
    if (pid == 0) {
        OK(setuid(65534));
        EQ(ioctl(s, TIOCSTI, "x"), -1);
        /* EPERM where the host still knows it at all. */
        CHECK(errno == EIO || errno == EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}
