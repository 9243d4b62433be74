/* What the programs about terminals share. */
#ifndef TTY_H
#define TTY_H
#include "t.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#define SIXTEEN_K 16384

static int m, s;
static char line[SIXTEEN_K];

static void nonblocking(int fd) {
    OK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
}
/* A fresh pair in `m` and `s`, neither the controlling terminal. */
static void fresh(void) {
    m = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(m >= 0);
    OK(unlockpt(m));
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    CHECK(s >= 0);
}
static struct termios get(void) {
    struct termios t;
    OK(tcgetattr(s, &t));
    return t;
}
static void flags(tcflag_t i, tcflag_t o, tcflag_t l) {
    struct termios t = get();
    t.c_iflag = i, t.c_oflag = o, t.c_lflag = l;
    OK(tcsetattr(s, TCSANOW, &t));
}
#define COOKED (ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN)
static void raw_by(int least, int tenths) {
    struct termios t = get();
    cfmakeraw(&t);
    t.c_cc[VMIN] = least, t.c_cc[VTIME] = tenths;
    OK(tcsetattr(s, TCSANOW, &t));
}
static void type(const char *text) {
    EQ(write(m, text, strlen(text)), strlen(text));
}
/* What `fd` gives until nothing more comes for a moment. A busy host takes its time between the two ends, so the `least`
   bytes that must come have seconds, and where nothing must come the moment is longer. */
static const char *gives(int fd, size_t least) {
    static char text[SIXTEEN_K];
    size_t got = 0;
    struct pollfd p = {fd, POLLIN, 0};
    while (poll(&p, 1, got < least ? 5000 : least ? 100 : 300) > 0 && p.revents & POLLIN) {
        ssize_t n = read(fd, text + got, sizeof text - 1 - got);
        if (n <= 0)
            break;
        got += n;
    }
    text[got] = 0;
    return text;
}
#define SHOWS(fd, want)                                                                                                \
    do {                                                                                                               \
        const char *got_ = gives(fd, strlen(want));                                                                 \
        if (strcmp(got_, want) != 0)                                                                                   \
            t_fail("line %d: '%s', not '%s'", __LINE__, got_, want);                                                  \
    } while (0)
/* One read of at most `size` bytes gives `want`. */
static void reads(int size, const char *want) {
    ssize_t n = read(s, line, size);
    CHECK(n >= 0);
    line[n] = 0;
    if (strcmp(line, want) != 0)
        t_fail("read '%s', not '%s'", line, want);
}
#endif
