/* The line discipline under random settings and random bytes: `tty_random SEED ROUNDS` prints what came out at both ends.
   Run natively it is the oracle for the same run inside. After each step both ends are read empty, first the slave:
   a read that finds nothing waits for what the host's kernel has not handed on yet. A thread of that kernel hands it on:
   it has a while before each reading, or how much one read finds would be its race with ours. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static uint64_t state;
static unsigned below(unsigned n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 20) % n;
}

static const unsigned IFLAGS[] = {ICRNL, INLCR, IGNCR, ISTRIP, IUCLC, IXON, IXANY, IUTF8, PARMRK, IXOFF};
static const unsigned OFLAGS[] = {OPOST, ONLCR, OCRNL, ONOCR, ONLRET, TAB3, OLCUC};
static const unsigned LFLAGS[] = {ICANON, ECHO,   ECHOE,  ECHOK,  ECHONL,  ECHOCTL,
                                  ECHOKE, ECHOPRT, IEXTEN, ISIG, NOFLSH};
static unsigned some(const unsigned *from, int n, unsigned usual) {
    unsigned f = usual;
    for (int i = 0; i < n; i++)
        if (below(3) == 0)
            f ^= from[i];
    return f;
}
#define SOME(from, usual) some(from, sizeof from / sizeof *from, usual)

static int m, s;
static void show(const char *who, int fd, unsigned size) {
    unsigned char b[512];
    for (int n = 0;; n++) {
        ssize_t got = read(fd, b, size);
        if (got < 0 || (got == 0 && n > 20)) {
            if (got < 0 && errno != EAGAIN)
                printf(" %s:E%d", who, errno);
            return;
        }
        printf(" %s:", who);
        for (ssize_t i = 0; i < got; i++)
            printf("%02x", b[i]);
        if (got == 0 && size > 0) {
            struct termios t;
            tcgetattr(s, &t);
            if (!(t.c_lflag & ICANON))
                return;
        }
    }
}

static unsigned char byte(void) {
    static const char likely[] = "\x7f\x15\x17\x04\x16\x12\n\r\t\b\x13\x11\x03\x1c\x1a ab_Z.\xc3\xa4\xe2\x82\xac\xff\x01;,";
    return below(3) ? (unsigned char)likely[below(sizeof likely - 1)] : below(256);
}

int main(int argc, char **argv) {
    state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 88172645463325252u;
    int rounds = atoi(argv[2]);
    m = posix_openpt(O_RDWR | O_NOCTTY);
    if (m < 0 || unlockpt(m) || (s = open(ptsname(m), O_RDWR | O_NOCTTY)) < 0)
        return 1;
    fcntl(m, F_SETFL, O_RDWR | O_NONBLOCK);
    fcntl(s, F_SETFL, O_RDWR | O_NONBLOCK);
    for (int i = 0; i < rounds; i++) {
        unsigned what = below(20);
        if (i == 0 || what == 0) {
            struct termios t;
            tcgetattr(s, &t);
            t.c_iflag = SOME(IFLAGS, ICRNL), t.c_oflag = SOME(OFLAGS, OPOST | ONLCR);
            t.c_lflag = SOME(LFLAGS, ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN);
            for (int c = 0; c < 17; c++)
                if (c != VMIN && c != VTIME && below(12) == 0)
                    t.c_cc[c] = byte();
            t.c_cc[VEOL] = below(2) ? ';' : 0, t.c_cc[VEOL2] = below(2) ? ',' : 0;
            t.c_cc[VMIN] = below(3), t.c_cc[VTIME] = 0;
            tcsetattr(s, below(8) ? TCSANOW : TCSAFLUSH, &t);
            printf("%d set %x %x %x", i, t.c_iflag, t.c_oflag, t.c_lflag);
        } else if (what == 1) {
            int queue = below(2) ? TCIFLUSH : TCIOFLUSH;
            printf("%d flush", i);
            tcflush(s, queue);
        } else if (what == 2) {
            int how = below(4);
            printf("%d flow %d", i, how);
            tcflow(s, how);
        } else {
            unsigned char b[300];
            int n = 1 + below(below(10) ? 12 : sizeof b);
            for (int k = 0; k < n; k++)
                b[k] = byte();
            int fd = what < 7 ? s : m;
            printf("%d %s ", i, fd == s ? "write" : "type");
            for (int k = 0; k < n; k++)
                printf("%02x", b[k]);
            printf(" =%zd", write(fd, b, n));
        }
        usleep(500);
        unsigned size = below(3) ? 512 : 1 + below(6);
        int count = -1;
        show("slave", s, size);
        ioctl(s, FIONREAD, &count);
        printf(" %d", count);
        show("master", m, 512);
        printf("\n");
    }
    return 0;
}
