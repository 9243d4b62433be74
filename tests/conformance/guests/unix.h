/* What the programs about unix sockets share. */
#ifndef UNIX_H
#define UNIX_H
#include "t.h"
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <linux/sockios.h>

static char big[1 << 20];

static inline socklen_t named(struct sockaddr_un *a, const char *path) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    strcpy(a->sun_path, path);
    return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}
static inline socklen_t abstract(struct sockaddr_un *a, const char *name) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    /* Native runs and those inside may meet in one namespace. */
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "rvisor-test-%d-%s", getpid(), name);
    return offsetof(struct sockaddr_un, sun_path) + 1 + n;
}
static inline int events(int fd) {
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    CHECK(poll(&p, 1, 0) >= 0);
    return p.revents;
}
static inline int bound(int kind, const char *path) {
    struct sockaddr_un a;
    socklen_t n = named(&a, path);
    FD(s, socket(AF_UNIX, kind, 0));
    OK(bind(s, (void *)&a, n));
    return s;
}
static inline int listening(int kind, const char *path, int backlog) {
    int s = bound(kind, path);
    OK(listen(s, backlog));
    return s;
}
static inline int try_connect(int s, const char *path) {
    struct sockaddr_un a;
    socklen_t n = named(&a, path);
    return connect(s, (void *)&a, n);
}
static inline int connected(int kind, const char *path) {
    FD(s, socket(AF_UNIX, kind, 0));
    OK(try_connect(s, path));
    return s;
}
static inline void pair(int kind, int s[2]) { OK(socketpair(AF_UNIX, kind, 0, s)); }

/* Sends `text` with `count` descriptors. */
static inline ssize_t send_fds(int s, const char *text, const int *fds, int count, int flags) {
    char control[CMSG_SPACE(256 * sizeof(int))] = {0};
    struct iovec v = {(void *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * 4)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * 4);
    memcpy(CMSG_DATA(c), fds, count * 4);
    return sendmsg(s, &m, flags);
}
/* Receives up to `size` bytes and `room` bytes of control; descriptors go to `fds`. */
struct got {
    ssize_t n;
    int flags, count, fds[256], creds;
    size_t controllen;
    struct ucred cred;
    char text[256];
};
static inline struct got receive(int s, size_t size, size_t room, int flags) {
    static char control[4096];
    struct got g = {0};
    struct iovec v = {g.text, size};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? control : NULL, .msg_controllen = room};
    g.n = recvmsg(s, &m, flags);
    if (g.n < 0)
        return g;
    g.flags = m.msg_flags;
    g.controllen = m.msg_controllen;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        CHECK(c->cmsg_level == SOL_SOCKET);
        if (c->cmsg_type == SCM_RIGHTS) {
            g.count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(g.fds, CMSG_DATA(c), g.count * sizeof(int));
        } else if (c->cmsg_type == SCM_CREDENTIALS) {
            g.creds = 1;
            memcpy(&g.cred, CMSG_DATA(c), sizeof g.cred);
        }
    }
    return g;
}
static inline int int_option(int s, int name) {
    int v = -1;
    socklen_t n = sizeof v;
    OK(getsockopt(s, SOL_SOCKET, name, &v, &n));
    EQ(n, sizeof v);
    return v;
}
static inline void set_int(int s, int name, int v) { OK(setsockopt(s, SOL_SOCKET, name, &v, sizeof v)); }
static inline void set_timeout(int s, int name, int ms) {
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    OK(setsockopt(s, SOL_SOCKET, name, &tv, sizeof tv));
}

#endif
