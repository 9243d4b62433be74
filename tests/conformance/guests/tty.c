/* Pseudo-terminals: the line discipline and the ioctls. pty(7), termios(3), ioctl_tty(2). */
#include "tty.h"

CASE(names) {
    fresh();
    char name[64], link[64];
    unsigned n;
    OK(ioctl(m, TIOCGPTN, &n));
    snprintf(name, sizeof name, "/dev/pts/%u", n);
    EQ(strcmp(ptsname(m), name), 0);
    CHECK(ttyname(s) && strcmp(ttyname(s), name) == 0);
    snprintf(link, sizeof link, "/proc/self/fd/%d", s);
    char to[64] = {0};
    CHECK(readlink(link, to, sizeof to - 1) > 0);
    EQ(strcmp(to, name), 0);
    struct stat st;
    OK(fstat(s, &st));
    EQ(st.st_rdev, makedev(136, n));
    CHECK(S_ISCHR(st.st_mode));
    EQ(st.st_uid, getuid());
    OK(stat("/dev/ptmx", &st));
    EQ(st.st_rdev, makedev(5, 2));
    CHECK(isatty(s) && isatty(m));
    close(s);
    close(m);
    ERR(stat(name, &st), ENOENT);
    ERR(open(name, O_RDWR | O_NOCTTY), ENOENT);
}

CASE(locked_until_told) {
    m = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CHECK(m >= 0);
    int on = -1;
    OK(ioctl(m, TIOCGPTLCK, &on));
    EQ(on, 1);
    ERR(open(ptsname(m), O_RDWR | O_NOCTTY), EIO);
    ERR(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY), EIO);
    ERR(ioctl(m, TIOCSPTLCK, BAD_ADDRESS), EFAULT);
    OK(unlockpt(m));
    FD(peer, ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY));
    s = peer;
    CHECK(ttyname(s) && strcmp(ttyname(s), ptsname(m)) == 0);
    ERR(ioctl(s, TIOCGPTN, &on), ENOTTY);
    ERR(ioctl(s, TIOCSPTLCK, &on), ENOTTY);
    ERR(ioctl(s, TIOCGPTPEER, O_RDWR), EIO);
}

CASE(exclusive) {
    fresh();
    int on = -1;
    OK(ioctl(s, TIOCGEXCL, &on));
    EQ(on, 0);
    OK(ioctl(s, TIOCEXCL));
    OK(ioctl(s, TIOCGEXCL, &on));
    EQ(on, 1);
    NEED_ROOT();
    pid_t pid = fork();
    if (pid == 0) {
        char name[64];
        strcpy(name, ptsname(m));
        OK(chmod(name, 0666));
        OK(setuid(65534));
        ERR(open(name, O_RDWR | O_NOCTTY), EBUSY);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(ioctl(s, TIOCNXCL));
    FD(again, open(ptsname(m), O_RDWR | O_NOCTTY));
}

CASE(first_settings) {
    fresh();
    struct termios t = get();
    EQ(t.c_iflag, ICRNL | IXON);
    EQ(t.c_oflag, OPOST | ONLCR);
    EQ(t.c_cflag, B38400 | CS8 | CREAD);
    EQ(t.c_lflag, COOKED);
    EQ(t.c_cc[VINTR], 3);
    EQ(t.c_cc[VERASE], 127);
    EQ(t.c_cc[VMIN], 1);
    EQ(cfgetospeed(&t), B38400);
    struct winsize w = {1, 1, 1, 1};
    OK(ioctl(s, TIOCGWINSZ, &w));
    EQ(w.ws_row | w.ws_col, 0);
    int n = -1;
    OK(ioctl(s, TIOCGETD, &n));
    EQ(n, 0);
    OK(ioctl(s, TIOCSETD, &n));
    n = 77;
    ERR(ioctl(s, TIOCSETD, &n), EINVAL);
    OK(ioctl(s, TIOCOUTQ, &n));
    EQ(n, 0);
    ERR(ioctl(s, TCGETS, BAD_ADDRESS), EFAULT);
    ERR(ioctl(s, TCSETS, BAD_ADDRESS), EFAULT);
    ERR(ioctl(s, 0x54ff, &n), ENOTTY);
    ERR(ioctl(s, TCFLSH, 9), EINVAL);
    ERR(ioctl(s, TCXONC, 9), EINVAL);
    OK(tcdrain(s));
    OK(tcsendbreak(s, 0));
    ERR(lseek(s, 0, SEEK_SET), ESPIPE);
    ERR(pread(s, line, 1, 0), ESPIPE);
}

CASE(old_settings) {
    fresh();
    struct termio {
        unsigned short iflag, oflag, cflag, lflag;
        unsigned char line, cc[8];
    } old, now;
    OK(ioctl(s, TCGETA, &old));
    struct termios all = get();
    EQ(old.iflag, all.c_iflag & 0xffff);
    EQ(old.lflag, all.c_lflag & 0xffff);
    EQ(memcmp(old.cc, all.c_cc, 8), 0);
    old.lflag &= ~ECHO;
    old.cc[VINTR] = 7;
    OK(ioctl(s, TCSETA, &old));
    OK(ioctl(s, TCGETA, &now));
    EQ(memcmp(&old, &now, 17), 0);
    all = get();
    CHECK(!(all.c_lflag & ECHO) && (all.c_lflag & ECHOKE));
    EQ(all.c_cc[VINTR], 7);
    EQ(all.c_cc[VLNEXT], 22);
    EQ(write(m, "lost\n", 5), 5);
    OK(ioctl(s, TCSETAW, &old));
    OK(ioctl(s, TCSETAF, &old));
    int waiting;
    OK(ioctl(s, FIONREAD, &waiting));
    EQ(waiting, 0);
    ERR(ioctl(s, TCGETA, BAD_ADDRESS), EFAULT);
    ERR(ioctl(s, TCSETA, BAD_ADDRESS), EFAULT);
}
CASE(locked_settings) {
    NEED_ROOT();
    fresh();
    struct termios locks;
    memset(&locks, -1, sizeof locks);
    OK(ioctl(s, TIOCGLCKTRMIOS, &locks));
    EQ(locks.c_iflag | locks.c_lflag | locks.c_cc[VINTR], 0);
    OK(setresuid(1000, 1000, 1000));
    ERR(ioctl(s, TIOCSLCKTRMIOS, &locks), EPERM);
    ERR(ioctl(s, TIOCGLCKTRMIOS, BAD_ADDRESS), EFAULT);
}
CASE(speeds) {
    fresh();
    unsigned char b[64] = {0};
    OK(ioctl(s, 0x802c542a /* TCGETS2 */, b));
    unsigned *w = (unsigned *)b;
    EQ(w[9], 38400);
    EQ(w[10], 38400);
    w[2] = (w[2] & ~CBAUD) | 010000 /* BOTHER */;
    w[9] = 12345, w[10] = 54321;
    OK(ioctl(s, 0x402c542b /* TCSETS2 */, b));
    memset(b, 0, sizeof b);
    OK(ioctl(s, 0x802c542a, b));
    EQ(w[10], 54321);
    struct termios t = get();
    cfsetospeed(&t, B115200);
    cfsetispeed(&t, B115200);
    t.c_cflag = (t.c_cflag & ~CSIZE) | CS5 | PARENB;
    OK(tcsetattr(s, TCSANOW, &t));
    OK(ioctl(s, 0x802c542a, b));
    EQ(w[10], 115200);
    EQ(get().c_cflag & (CSIZE | PARENB), CS8);
}

CASE(a_line) {
    fresh();
    type("one\ntw");
    int n = -1;
    OK(ioctl(s, FIONREAD, &n));
    SHOWS(m, "one\r\ntw");
    OK(ioctl(s, FIONREAD, &n));
    EQ(n, 4);
    reads(100, "one\n");
    nonblocking(s);
    ERR(read(s, line, 100), EAGAIN);
    type("o\r");
    SHOWS(m, "o\r\n");
    reads(2, "tw");
    reads(100, "o\n");
    ERR(read(s, line, 100), EAGAIN);
    EQ(write(s, "a\nb", 3), 3);
    SHOWS(m, "a\r\nb");
}

CASE(end_of_file) {
    fresh();
    nonblocking(s);
    type("abc\x04");
    SHOWS(m, "abc");
    reads(100, "abc");
    ERR(read(s, line, 100), EAGAIN);
    type("\x04");
    EQ(read(s, line, 100), 0);
    ERR(read(s, line, 100), EAGAIN);
    type("xyz\x04");
    gives(m, 3);
    reads(3, "xyz");
    ERR(read(s, line, 100), EAGAIN);
    type("pq\x04");
    reads(1, "p");
    reads(100, "q");
    ERR(read(s, line, 100), EAGAIN);
}

CASE(erasing) {
    fresh();
    type("abx\x7f");
    SHOWS(m, "abx\b \b");
    type("c one_two  three\x17");
    SHOWS(m, "c one_two  three\b \b\b \b\b \b\b \b\b \b");
    type("\x17");
    SHOWS(m, "\b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \b\b \b");
    type("\n");
    reads(100, "abc \n");
    gives(m, 1);
    type("\x7f");
    SHOWS(m, "");
    type("kill me\x15");
    SHOWS(m, "kill me\b \b\b \b\b \b\b \b\b \b\b \b\b \b");
    type("\x01\x7f");
    SHOWS(m, "^A\b \b\b \b");
    type("a\tb\x7f\x7f|");
    SHOWS(m, "a\tb\b \b\b\b\b\b\b\b\b|");
    type("\n");
    reads(100, "a|\n");
}

CASE(erasing_without_ECHOE) {
    fresh();
    flags(ICRNL, OPOST | ONLCR, ICANON | ECHO | IEXTEN);
    type("ab\x7f");
    SHOWS(m, "ab\x7f");
    type("c\x15");
    SHOWS(m, "c\x15");
    flags(ICRNL, OPOST | ONLCR, ICANON | ECHO | IEXTEN | ECHOK | ECHOCTL);
    type("ab\x15");
    SHOWS(m, "ab^U\r\n");
    flags(ICRNL, OPOST | ONLCR, ICANON | ECHO | IEXTEN | ECHOPRT);
    type("abc\x7f\x7f" "d\n");
    SHOWS(m, "abc\\cb/d\r\n");
    reads(100, "ad\n");
}

CASE(erasing_utf8) {
    fresh();
    flags(ICRNL | IUTF8, OPOST | ONLCR, COOKED);
    type("a\xc3\xa4\xe2\x82\xac\x7f");
    SHOWS(m, "a\xc3\xa4\xe2\x82\xac\b \b");
    type("\x7f\n");
    SHOWS(m, "\b \b\r\n");
    reads(100, "a\n");
}

CASE(literal_and_reprint) {
    fresh();
    type("a\x16\x03");
    SHOWS(m, "a^\b^C");
    type("b\x12");
    SHOWS(m, "b^R\r\na^Cb");
    type("\x16\n\n");
    SHOWS(m, "^\b^J\r\n");
    reads(100, "a\x03" "b\n\n");
}

CASE(other_line_ends) {
    fresh();
    struct termios t = get();
    t.c_cc[VEOL] = ';', t.c_cc[VEOL2] = '.';
    OK(tcsetattr(s, TCSANOW, &t));
    type("a;b.c\n");
    SHOWS(m, "a;b.c\r\n");
    reads(100, "a;");
    reads(100, "b.");
    reads(100, "c\n");
}

CASE(input_flags) {
    fresh();
    raw_by(1, 0);
    nonblocking(s);
    flags(INLCR, 0, 0);
    type("a\nb\rc");
    SHOWS(s, "a\rb\rc");
    flags(IGNCR, 0, 0);
    type("a\nb\rc");
    SHOWS(s, "a\nbc");
    flags(ISTRIP, 0, 0);
    type("\xc1\xe2");
    SHOWS(s, "Ab");
    flags(IUCLC, 0, IEXTEN);
    type("AbC");
    SHOWS(s, "abc");
    flags(PARMRK, 0, 0);
    type("\xff.");
    SHOWS(s, "\xff\xff.");
    flags(0, 0, ECHO);
    type("x\x01");
    SHOWS(m, "x\x01");
    flags(0, 0, ICANON | ECHONL);
    gives(s, 0);
    type("x\n");
    SHOWS(m, "\n");
}

CASE(output_flags) {
    fresh();
    flags(0, OPOST | OCRNL, 0);
    EQ(write(s, "a\rb\n", 4), 4);
    SHOWS(m, "a\nb\n");
    flags(0, OPOST | ONOCR, 0);
    EQ(write(s, "\r\ra\r\r", 5), 5);
    gives(m, 1);
    EQ(write(s, "\rab\r\rc", 6), 6);
    SHOWS(m, "ab\rc");
    flags(0, OPOST | TAB3, 0);
    EQ(write(s, "\r\tab\tc\b\td", 9), 9);
    SHOWS(m, "\r        ab      c\b        d");
    flags(0, OPOST | OLCUC, 0);
    EQ(write(s, "aBc", 3), 3);
    SHOWS(m, "ABC");
    flags(0, ONLCR, 0);
    EQ(write(s, "a\n", 2), 2);
    SHOWS(m, "a\n");
    flags(0, OPOST | ONLRET, 0);
    EQ(write(s, "\rabc\n\r", 6), 6);
    SHOWS(m, "\rabc\n\r");
}

CASE(stop_and_start) {
    fresh();
    type("\x13");
    nonblocking(s);
    SHOWS(m, "");
    ERR(write(s, "held", 4), EAGAIN);
    struct pollfd p = {s, POLLOUT, 0};
    EQ(poll(&p, 1, 0), 0);
    type("x");
    SHOWS(m, "");
    type("\x11");
    SHOWS(m, "x");
    EQ(write(s, "free", 4), 4);
    SHOWS(m, "free");
    OK(tcflow(s, TCOOFF));
    ERR(write(s, "held", 4), EAGAIN);
    type("\x11");
    ERR(write(s, "held", 4), EAGAIN);
    OK(tcflow(s, TCOON));
    EQ(write(s, "free", 4), 4);
    SHOWS(m, "free");
    OK(tcflow(s, TCIOFF));
    OK(tcflow(s, TCION));
    SHOWS(m, "\x13\x11");
    flags(IXON | IXANY, 0, 0);
    type("\x13");
    gives(s, 0);
    ERR(write(s, "held", 4), EAGAIN);
    type("x");
    gives(s, 0);
    EQ(write(s, "free", 4), 4);
    flags(IXON, 0, 0);
    type("\x13");
    gives(s, 0);
    ERR(write(s, "held", 4), EAGAIN);
    flags(0, 0, 0);
    EQ(write(s, "free", 4), 4);
}

CASE(half_a_line_and_the_mode) {
    fresh();
    nonblocking(s);
    type("half");
    gives(m, 4);
    ERR(read(s, line, 9), EAGAIN);
    raw_by(1, 0);
    reads(2, "ha");
    flags(ICRNL, 0, COOKED);
    reads(100, "lf");
    type("one\ntwo");
    gives(m, 7);
    OK(tcflush(s, TCIFLUSH));
    ERR(read(s, line, 9), EAGAIN);
    type("gone");
    gives(m, 4);
    struct termios t = get();
    OK(tcsetattr(s, TCSAFLUSH, &t));
    type("\n");
    reads(100, "\n");
}

CASE(line_of_4096) {
    fresh();
    flags(ICRNL, 0, ICANON);
    nonblocking(s);
    nonblocking(m);
    memset(line, 'x', 5000);
    size_t done = 0;
    while (done < 5000) {
        ssize_t n = write(m, line + done, 5000 - done);
        CHECK(n > 0);
        done += n;
        poll(NULL, 0, 5);
    }
    type("\n");
    poll(NULL, 0, 50);
    ssize_t n = 0, got;
    while ((got = read(s, line + n, sizeof line - n)) > 0)
        n += got;
    EQ(n, 4096);
    EQ(line[4095], '\n');
    EQ(line[4094], 'x');
}

CASE(back_pressure) {
    fresh();
    raw_by(1, 0);
    nonblocking(s);
    nonblocking(m);
    size_t in = 0, out = 0;
    ssize_t n;
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 100 && (n = write(m, line, sizeof line)) > 0; i++, poll(NULL, 0, 2))
        in += n;
    EQ(errno, EAGAIN);
    CHECK(in >= 4095 && in < 100000);
    struct pollfd p = {m, POLLOUT, 0};
    EQ(poll(&p, 1, 0), 0);
    for (int i = 0; i < 3;) {
        n = read(s, line, sizeof line);
        out += n > 0 ? n : 0;
        i = n > 0 ? 0 : i + 1;
        poll(NULL, 0, 5);
    }
    EQ(out, in);
    EQ(poll(&p, 1, 1000), 1);
    in = out = 0;
    for (int i = 0; i < 100 && (n = write(s, line, sizeof line)) > 0; i++, poll(NULL, 0, 2))
        in += n;
    CHECK(in >= 4095 && in < 100000);
    for (int i = 0; i < 3;) {
        n = read(m, line, sizeof line);
        out += n > 0 ? n : 0;
        i = n > 0 ? 0 : i + 1;
        poll(NULL, 0, 5);
    }
    EQ(out, in);
}

CASE(a_writer_waits_for_the_reader) {
    fresh();
    raw_by(1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        memset(line, 'y', sizeof line);
        for (int i = 0; i < 8; i++)
            EQ(write(s, line, sizeof line), sizeof line);
        _exit(0);
    }
    size_t got = 0;
    while (got < 8 * sizeof line) {
        ssize_t n = read(m, line, sizeof line);
        CHECK(n > 0);
        got += n;
    }
    CHILD_OK(pid);
}

/* Writes `text` a byte at a time, `ms` apart, from a child. */
static pid_t slowly(const char *text, int ms) {
    pid_t pid = fork();
    if (pid == 0) {
        for (; *text; text++) {
            t_sleep_ms(ms);
            EQ(write(m, text, 1), 1);
        }
        _exit(0);
    }
    return pid;
}

CASE(least_and_time) {
    fresh();
    raw_by(3, 0);
    pid_t pid = slowly("abcde", 50);
    ssize_t n = read(s, line, 100);
    CHECK(n >= 3);
    CHILD_OK(pid);
    t_sleep_ms(50);
    OK(tcflush(s, TCIFLUSH));
    struct pollfd p = {s, POLLIN, 0};
    type("ab");
    EQ(poll(&p, 1, 100), 0);
    type("c");
    EQ(poll(&p, 1, 1000), 1);
    reads(100, "abc");
    pid = slowly("xy", 50);
    EQ(read(s, line, 2), 2);
    CHILD_OK(pid);
    nonblocking(s);
    type("k");
    t_sleep_ms(50);
    reads(100, "k");
    ERR(read(s, line, 10), EAGAIN);
}

CASE(time_alone) {
    fresh();
    raw_by(0, 2);
    double start = t_now();
    EQ(read(s, line, 10), 0);
    CHECK(t_now() - start >= 0.15);
    pid_t pid = slowly("a", 50);
    reads(10, "a");
    CHILD_OK(pid);
    nonblocking(s);
    ERR(read(s, line, 10), EAGAIN);
}

CASE(neither) {
    fresh();
    raw_by(0, 0);
    EQ(read(s, line, 10), 0);
    type("ab");
    t_sleep_ms(50);
    reads(10, "ab");
    nonblocking(s);
    EQ(read(s, line, 10), 0);
}

CASE(time_between) {
    fresh();
    raw_by(10, 2);
    pid_t pid = slowly("ab", 20);
    ssize_t n = read(s, line, 100);
    CHECK(n == 1 || n == 2);
    CHILD_OK(pid);
    gives(s, 0);
    pid = slowly("c", 500);
    double start = t_now();
    EQ(read(s, line, 100), 1);
    CHECK(t_now() - start >= 0.5);
    CHILD_OK(pid);
}

static void nothing(int sig) { (void)sig; }

CASE(a_signal_ends_a_read) {
    fresh();
    struct sigaction a = {.sa_handler = nothing};
    sigaction(SIGUSR1, &a, NULL);
    pid_t me = getpid(), pid = fork();
    if (pid == 0) {
        t_sleep_ms(200);
        kill(me, SIGUSR1);
        _exit(0);
    }
    ERR(read(s, line, 10), EINTR);
    CHILD_OK(pid);
    raw_by(3, 0);
    type("a");
    pid = fork();
    if (pid == 0) {
        t_sleep_ms(200);
        kill(me, SIGUSR1);
        _exit(0);
    }
    EQ(read(s, line, 10), 1);
    CHILD_OK(pid);
}

CASE(packets) {
    fresh();
    nonblocking(m);
    int on = 1;
    ERR(ioctl(s, TIOCPKT, &on), ENOTTY);
    OK(ioctl(m, TIOCPKT, &on));
    OK(ioctl(m, TIOCGPKT, &on));
    EQ(on, 1);
    EQ(write(s, "hi", 2), 2);
    t_sleep_ms(20);
    EQ(read(m, line, 100), 3);
    EQ(line[0], TIOCPKT_DATA);
    EQ(line[1], 'h');
    ERR(read(m, line, 100), EAGAIN);
    OK(tcflush(s, TCIFLUSH));
    struct pollfd p = {m, POLLIN | POLLPRI, 0};
    EQ(poll(&p, 1, 1000), 1);
    EQ(p.revents, POLLIN | POLLPRI);
    EQ(read(m, line, 100), 1);
    EQ(line[0], TIOCPKT_FLUSHREAD);
    OK(tcflow(s, TCOOFF));
    EQ(read(m, line, 100), 1);
    EQ(line[0], TIOCPKT_STOP);
    OK(tcflow(s, TCOON));
    EQ(read(m, line, 100), 1);
    EQ(line[0], TIOCPKT_START);
    flags(0, 0, 0);
    EQ(read(m, line, 100), 1);
    EQ(line[0], TIOCPKT_NOSTOP);
    flags(IXON, 0, 0);
    EQ(read(m, line, 100), 1);
    EQ(line[0], TIOCPKT_DOSTOP);
    OK(tcflush(s, TCOFLUSH));
    EQ(read(m, line, 100), 1);
    EQ(line[0], TIOCPKT_FLUSHWRITE);
    on = 0;
    OK(ioctl(m, TIOCPKT, &on));
}

CASE(ends_close) {
    fresh();
    struct pollfd p = {m, POLLIN | POLLOUT, 0};
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents, POLLOUT);
    EQ(write(s, "last", 4), 4);
    char name[64];
    strcpy(name, ptsname(m));
    close(s);
    t_sleep_ms(20);
    EQ(poll(&p, 1, 1000), 1);
    EQ(p.revents, POLLIN | POLLOUT | POLLHUP);
    EQ(read(m, line, 100), 4);
    ERR(read(m, line, 100), EIO);
    EQ(write(m, "in\n", 3), 3);
    s = open(name, O_RDWR | O_NOCTTY);
    CHECK(s >= 0);
    EQ(poll(&p, 1, 50), 1);
    CHECK((p.revents & POLLHUP) == 0);
    reads(100, "in\n");
    close(m);
    EQ(read(s, line, 100), 0);
    ERR(write(s, "x", 1), EIO);
    struct termios t;
    ERR(tcgetattr(s, &t), EIO);
    pid_t group = 0;
    ERR(ioctl(s, TIOCSPGRP, &group), ENOTTY);
    p.fd = s;
    EQ(poll(&p, 1, 0), 1);
    EQ(p.revents & (POLLIN | POLLOUT | POLLERR | POLLHUP), POLLIN | POLLOUT | POLLERR | POLLHUP);
}

CASE(master_closes_under_a_reader) {
    fresh();
    int to[2];
    OK(pipe(to));
    pid_t pid = fork();
    if (pid == 0) {
        close(m);
        EQ(write(to[1], "x", 1), 1);
        ERR(read(s, line, 10), EIO);
        _exit(0);
    }
    EQ(read(to[0], line, 1), 1);
    t_sleep_ms(100);
    close(m);
    CHILD_OK(pid);
}
