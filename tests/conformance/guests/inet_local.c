/* TCP between two sockets of one machine: what depends on how the other end behaves; tcp(7), connect(2), poll(2). */
#include "t.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static struct sockaddr_in v4(const char *ip, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}
static struct sockaddr_in name_of(int fd) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    OK(getsockname(fd, (void *)&a, &n));
    return a;
}
static struct sockaddr_in peer_of(int fd) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    OK(getpeername(fd, (void *)&a, &n));
    return a;
}
static int listener(const char *ip, int backlog) {
    FD(fd, socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in a = v4(ip, 0);
    OK(bind(fd, (void *)&a, sizeof a));
    OK(listen(fd, backlog));
    return fd;
}
static int client(int l, int flags) {
    struct sockaddr_in a = v4("127.0.0.1", ntohs(name_of(l).sin_port));
    FD(c, socket(AF_INET, SOCK_STREAM | flags, 0));
    if (flags & SOCK_NONBLOCK)
        ERR(connect(c, (void *)&a, sizeof a), EINPROGRESS);
    else
        OK(connect(c, (void *)&a, sizeof a));
    return c;
}
static void pair(int out[2]) {
    int l = listener("0.0.0.0", 8);
    out[0] = client(l, 0);
    FD(s, accept(l, 0, 0));
    out[1] = s;
    close(l);
}
static int events(int fd, int want) {
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
    for (int i = 0; i < 200; i++) {
        OK(poll(&p, 1, 0));
        if (p.revents == want)
            break;
        t_sleep_ms(10);
    }
    return p.revents;
}
static int number(int fd, int level, int name) {
    int v = -1;
    socklen_t n = sizeof v;
    OK(getsockopt(fd, level, name, &v, &n));
    return v;
}
static int got_sigpipe;
static void on_sigpipe(int n) { got_sigpipe = n; }

#define OVER (POLLIN | POLLOUT | POLLHUP | POLLRDHUP)

/* What unix sockets would take means nothing here, and is no error. */
CASE(descriptors_are_not_sent) {
    int s[2];
    pair(s);
    char data[CMSG_SPACE(sizeof(int))] = "", c;
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = data, .msg_controllen = sizeof data};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &s[0], sizeof(int));
    EQ(sendmsg(s[0], &m, 0), 1);
    EQ(read(s[1], &c, 1), 1);
    CHECK(c == 'x');
    h->cmsg_type = SO_TYPE;
    ERR(sendmsg(s[0], &m, 0), EINVAL);
    close(s[0]), close(s[1]);
}
CASE(names_agree) {
    int l = listener("0.0.0.0", 8), c = client(l, 0);
    struct sockaddr_in from;
    socklen_t n = sizeof from;
    FD(s, accept(l, (void *)&from, &n));
    struct sockaddr_in cn = name_of(c), cp = peer_of(c), sn = name_of(s), sp = peer_of(s);
    CHECK(!memcmp(&cn, &sp, sizeof cn) && !memcmp(&cn, &from, sizeof cn) && !memcmp(&cp, &sn, sizeof cp));
    EQ(cn.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK(cn.sin_port != 0 && cp.sin_port == name_of(l).sin_port);
    /* The port is taken. */
    FD(u, socket(AF_INET, SOCK_STREAM, 0));
    ERR(bind(u, (void *)&cn, sizeof cn), EADDRINUSE);
    ERR(listen(c, 1), EINVAL);
    ERR(bind(c, (void *)&cn, sizeof cn), EINVAL);
    EQ(number(s, SOL_SOCKET, SO_ACCEPTCONN), 0);
    EQ(number(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
}
CASE(bound_before_connecting) {
    int l = listener("127.0.0.2", 8);
    struct sockaddr_in own = v4("127.0.0.3", 0), to = name_of(l);
    FD(c, socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(c, (void *)&own, sizeof own));
    own = name_of(c);
    OK(connect(c, (void *)&to, sizeof to));
    FD(s, accept(l, 0, 0));
    struct sockaddr_in p = peer_of(s), n = name_of(c);
    CHECK(!memcmp(&p, &own, sizeof p) && !memcmp(&n, &own, sizeof n));
    EQ(name_of(s).sin_addr.s_addr, to.sin_addr.s_addr);
    /* Nobody listens at the other addresses of that port. */
    to = v4("127.0.0.1", ntohs(to.sin_port));
    FD(d, socket(AF_INET, SOCK_STREAM, 0));
    ERR(connect(d, (void *)&to, sizeof to), ECONNREFUSED);
    to = v4("0.0.0.0", ntohs(name_of(client(listener("0.0.0.0", 8), 0)).sin_port));
    ERR(connect(d, (void *)&to, sizeof to), ECONNREFUSED);
}
CASE(both_families) {
    FD(l, socket(AF_INET6, SOCK_STREAM, 0));
    struct sockaddr_in6 any = {.sin6_family = AF_INET6}, a;
    socklen_t n = sizeof a;
    OK(bind(l, (void *)&any, sizeof any));
    OK(listen(l, 8));
    OK(getsockname(l, (void *)&any, &n));
    FD(c, socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in to = v4("127.0.0.1", ntohs(any.sin6_port));
    OK(connect(c, (void *)&to, sizeof to));
    FD(s, accept(l, (void *)&a, &n));
    EQ(n, sizeof a);
    CHECK(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr) && a.sin6_port == name_of(c).sin_port);
    OK(getsockname(s, (void *)&a, &n));
    CHECK(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr) && a.sin6_port == any.sin6_port);
    any.sin6_addr = in6addr_loopback;
    FD(d, socket(AF_INET6, SOCK_STREAM, 0));
    OK(connect(d, (void *)&any, sizeof any));
    FD(t, accept(l, (void *)&a, &n));
    CHECK(IN6_IS_ADDR_LOOPBACK(&a.sin6_addr));
    EQ(write(d, "six", 3), 3);
    char b[8];
    EQ(read(t, b, 8), 3);
    /* A mapped address, from a socket of IPv6 to one of IPv4. */
    int four = listener("127.0.0.1", 8);
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &any.sin6_addr);
    any.sin6_port = name_of(four).sin_port;
    FD(e, socket(AF_INET6, SOCK_STREAM, 0));
    OK(connect(e, (void *)&any, sizeof any));
    OK(getpeername(e, (void *)&a, &n));
    CHECK(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr));
    FD(x, accept(four, 0, 0));
    EQ(peer_of(x).sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    ERR(connect(socket(AF_INET6, SOCK_STREAM, 0), (void *)&to, sizeof to), EINVAL);
}
CASE(queue_is_full) {
    int l = listener("127.0.0.1", 1), a = client(l, 0), b = client(l, 0), c = client(l, SOCK_NONBLOCK);
    struct sockaddr_in to = name_of(l);
    EQ(events(a, POLLOUT), POLLOUT);
    EQ(events(b, POLLOUT), POLLOUT);
    struct pollfd p = {.fd = c, .events = POLLIN | POLLOUT};
    EQ(poll(&p, 1, 50), 0);
    ERR(connect(c, (void *)&to, sizeof to), EALREADY);
    ERR(getpeername(c, (void *)&to, &(socklen_t){sizeof to}), ENOTCONN);
    ERR(send(c, "x", 1, MSG_NOSIGNAL), EAGAIN);
    ERR(recv(c, &to, 1, 0), EAGAIN);
    FD(first, accept(l, 0, 0));
    CHECK(peer_of(first).sin_port == name_of(a).sin_port);
    EQ(poll(&p, 1, 10000), 1);
    EQ(p.revents, POLLOUT);
    EQ(number(c, SOL_SOCKET, SO_ERROR), 0);
    FD(second, accept(l, 0, 0));
    FD(third, accept(l, 0, 0));
    CHECK(peer_of(third).sin_port == name_of(c).sin_port);
    EQ(write(c, "x", 1), 1);
}
CASE(queued_data_and_close) {
    int l = listener("127.0.0.1", 8), c = client(l, 0);
    char b[8];
    EQ(write(c, "early", 5), 5);
    close(c);
    FD(s, accept(l, 0, 0));
    EQ(events(s, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    EQ(read(s, b, 8), 5);
    EQ(read(s, b, 8), 0);
    signal(SIGPIPE, on_sigpipe);
    EQ(write(s, "x", 1), 1);
    EQ(events(s, OVER | POLLERR), OVER | POLLERR);
    ERR(write(s, "x", 1), EPIPE);
    EQ(got_sigpipe, SIGPIPE);
    EQ(read(s, b, 8), 0);
    ERR(getpeername(s, (void *)b, &(socklen_t){8}), ENOTCONN);
    ERR(shutdown(s, SHUT_RDWR), ENOTCONN);
}
CASE(listener_closes) {
    int l = listener("127.0.0.1", 8), c = client(l, 0);
    char b;
    close(l);
    EQ(events(c, OVER | POLLERR), OVER | POLLERR);
    EQ(number(c, SOL_SOCKET, SO_ERROR), ECONNRESET);
    EQ(number(c, SOL_SOCKET, SO_ERROR), 0);
    EQ(read(c, &b, 1), 0);
    int m = listener("127.0.0.1", 8), d = client(m, 0);
    struct sockaddr_in a = name_of(m);
    OK(shutdown(m, SHUT_RD));
    ERR(read(d, &b, 1), ECONNRESET);
    ERR(accept(m, 0, 0), EINVAL);
    FD(e, socket(AF_INET, SOCK_STREAM, 0));
    ERR(connect(e, (void *)&a, sizeof a), ECONNREFUSED);
    OK(listen(m, 1));
    client(m, 0);
    FD(again, accept(m, 0, 0));
}
CASE(closed_with_unread_bytes) {
    int s[2];
    char b[8];
    pair(s);
    EQ(write(s[1], "kept", 4), 4);
    EQ(write(s[0], "lost", 4), 4);
    EQ(events(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
    close(s[1]);
    EQ(events(s[0], OVER | POLLERR), OVER | POLLERR);
    EQ(read(s[0], b, 8), 4);
    ERR(read(s[0], b, 8), ECONNRESET);
    EQ(read(s[0], b, 8), 0);
    ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}
CASE(shutdown_of_reading) {
    int s[2];
    char b[8];
    pair(s);
    EQ(write(s[0], "abc", 3), 3);
    OK(shutdown(s[1], SHUT_RD));
    EQ(events(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    EQ(events(s[0], POLLOUT), POLLOUT);
    EQ(read(s[1], b, 8), 3);
    EQ(read(s[1], b, 8), 0);
    EQ(write(s[0], "more", 4), 4);
    EQ(read(s[1], b, 8), 4);
    EQ(read(s[1], b, 8), 0);
    OK(shutdown(s[1], SHUT_WR));
    EQ(read(s[0], b, 8), 0);
    EQ(write(s[0], "x", 1), 1);
    ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}
CASE(kinds_of_receiving) {
    int s[2], n = -1;
    char b[16];
    pair(s);
    ERR(recv(s[1], b, 8, MSG_DONTWAIT), EAGAIN);
    struct iovec out[] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
    EQ(writev(s[0], out, 3), 8);
    EQ(events(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQ(recv(s[1], b, 4, MSG_PEEK), 4);
    EQ(recv(s[1], b, 2, 0), 2);
    CHECK(!memcmp(b, "ab", 2));
    EQ(recv(s[1], b, 3, MSG_TRUNC), 3);
    OK(ioctl(s[1], FIONREAD, &n));
    EQ(n, 3);
    struct iovec in[] = {{b, 1}, {b + 4, 8}};
    struct sockaddr_in from;
    char room[64];
    struct msghdr m = {&from, sizeof from, in, 2, room, sizeof room, 0};
    EQ(recvmsg(s[1], &m, 0), 3);
    CHECK(b[0] == 'f' && !memcmp(b + 4, "gh", 2));
    EQ(m.msg_namelen, 0);
    EQ(m.msg_controllen, 0);
    EQ(m.msg_flags, 0);
    ERR(recv(s[1], b, 1, MSG_OOB), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 4; i++) {
            t_sleep_ms(20);
            EQ(write(s[0], "1234", 4), 4);
        }
        _exit(0);
    }
    EQ(recv(s[1], b, 16, MSG_WAITALL), 16);
    CHILD_OK(pid);
    ERR(send(s[0], BAD_ADDRESS, 5, 0), EFAULT);
    EQ(write(s[0], "z", 1), 1);
    ERR(recv(s[1], BAD_ADDRESS, 5, 0), EFAULT);
}
CASE(low_water) {
    int s[2], low = 4;
    char b[16];
    pair(s);
    OK(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    EQ(number(s[1], SOL_SOCKET, SO_RCVLOWAT), 4);
    EQ(write(s[0], "abc", 3), 3);
    t_sleep_ms(20);
    EQ(events(s[1], POLLOUT), POLLOUT);
    EQ(recv(s[1], b, 8, MSG_DONTWAIT | MSG_PEEK), 3);
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(50);
        EQ(write(s[0], "defg", 4), 4);
        _exit(0);
    }
    EQ(read(s[1], b, 16), 7);
    CHILD_OK(pid);
}
CASE(more_is_to_come) {
    int s[2];
    char b[16];
    pair(s);
    EQ(send(s[0], "head", 4, MSG_MORE), 4);
    ERR(recv(s[1], b, 16, MSG_DONTWAIT), EAGAIN);
    EQ(events(s[1], POLLOUT), POLLOUT);
    EQ(send(s[0], "tail", 4, 0), 4);
    EQ(recv(s[1], b, 16, 0), 8);
    /* It does not wait for ever. */
    EQ(send(s[0], "late", 4, MSG_MORE), 4);
    EQ(recv(s[1], b, 16, 0), 4);
    EQ(send(s[0], "last", 4, MSG_MORE), 4);
    OK(shutdown(s[0], SHUT_WR));
    EQ(recv(s[1], b, 16, 0), 4);
    EQ(recv(s[1], b, 16, 0), 0);
}
CASE(urgent_in_line) {
    int s[2], one = 1, n = -1;
    char b[8];
    pair(s);
    OK(setsockopt(s[1], SOL_SOCKET, SO_OOBINLINE, &one, sizeof one));
    EQ(send(s[0], "ab!", 3, MSG_OOB), 3);
    EQ(write(s[0], "cd", 2), 2);
    t_sleep_ms(20);
    ERR(recv(s[1], b, 8, MSG_OOB), EINVAL);
    EQ(recv(s[1], b, 8, 0), 2);
    OK(ioctl(s[1], SIOCATMARK, &n));
    EQ(n, 1);
    EQ(recv(s[1], b, 8, 0), 3);
    CHECK(!memcmp(b, "!cd", 3));
    OK(ioctl(s[1], SIOCATMARK, &n));
    EQ(n, 0);
}
CASE(edges_of_writing) {
    int s[2];
    static char b[65536];
    pair(s);
    OK(fcntl(s[0], F_SETFL, O_NONBLOCK));
    OK(fcntl(s[1], F_SETFL, O_NONBLOCK));
    FD(ep, epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET}, got[2];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &e));
    EQ(epoll_wait(ep, got, 2, 1000), 1);
    EQ(got[0].events, EPOLLOUT);
    EQ(epoll_wait(ep, got, 2, 20), 0);
    /* Room that was never missed is not told of. */
    EQ(write(s[0], "x", 1), 1);
    EQ(events(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQ(read(s[1], b, 8), 1);
    EQ(epoll_wait(ep, got, 2, 20), 0);
    long total = 0, back = 0;
    for (int rounds = 0; rounds < 3; rounds++) {
        for (ssize_t n; (n = write(s[0], b, sizeof b)) > 0;)
            total += n;
        EQ(errno, EAGAIN);
        t_sleep_ms(20);
    }
    while (epoll_wait(ep, got, 2, 20) > 0)
        for (ssize_t n; (n = write(s[0], b, sizeof b)) > 0;)
            total += n;
    while (back < total) {
        ssize_t n = read(s[1], b, sizeof b);
        if (n < 0) {
            EQ(errno, EAGAIN);
            t_sleep_ms(5);
        } else
            back += n;
    }
    EQ(epoll_wait(ep, got, 2, 2000), 1);
    EQ(got[0].events, EPOLLOUT);
    OK(shutdown(s[1], SHUT_WR));
    EQ(epoll_wait(ep, got, 2, 2000), 1);
    EQ(got[0].events, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}
CASE(options_are_inherited_and_told) {
    FD(l, socket(AF_INET, SOCK_STREAM, 0));
    int one = 1, tos = 0x10;
    struct linger linger = {1, 3}, got;
    struct timeval time = {1, 0}, told;
    OK(setsockopt(l, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
    OK(setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    OK(setsockopt(l, IPPROTO_IP, IP_TOS, &tos, sizeof tos));
    OK(setsockopt(l, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    OK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    OK(listen(l, 4));
    int c = client(l, 0);
    FD(s, accept(l, 0, 0));
    EQ(number(s, SOL_SOCKET, SO_KEEPALIVE), 1);
    EQ(number(s, IPPROTO_TCP, TCP_NODELAY), 1);
    socklen_t n = sizeof got;
    OK(getsockopt(s, SOL_SOCKET, SO_LINGER, &got, &n));
    CHECK(got.l_onoff && got.l_linger == 3);
    n = sizeof told;
    OK(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &told, &n));
    EQ(told.tv_sec, 1);
    EQ(number(s, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EQ(number(s, SOL_SOCKET, SO_DOMAIN), AF_INET);
    EQ(number(s, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    struct tcp_info info;
    n = sizeof info;
    OK(getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &n));
    EQ(info.tcpi_state, TCP_ESTABLISHED);
    close(s);
    EQ(events(c, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    n = sizeof info;
    OK(getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &n));
    EQ(info.tcpi_state, TCP_CLOSE_WAIT);
}
CASE(connected_anew) {
    int l = listener("127.0.0.1", 8), c = client(l, 0);
    struct sockaddr_in a = name_of(l);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    char b;
    FD(s, accept(l, 0, 0));
    OK(connect(c, &none, sizeof none));
    ERR(read(s, &b, 1), ECONNRESET);
    ERR(getpeername(c, (void *)&(struct sockaddr_in){0}, &(socklen_t){sizeof a}), ENOTCONN);
    EQ(events(c, POLLOUT | POLLHUP) & ~POLLERR, POLLOUT | POLLHUP);
    OK(connect(c, (void *)&a, sizeof a));
    FD(t, accept(l, 0, 0));
    EQ(write(c, "x", 1), 1);
    EQ(read(t, &b, 1), 1);
}
CASE(shared_by_processes) {
    int l = listener("127.0.0.1", 8);
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        if ((pids[i] = fork()) == 0) {
            FD(s, accept(l, 0, 0));
            char b[8];
            EQ(read(s, b, 8), 2);
            EQ(write(s, "ok", 2), 2);
            _exit(0);
        }
    for (int i = 0; i < 3; i++) {
        int c = client(l, 0), d = dup(c);
        char b[8];
        close(c);
        EQ(write(d, "go", 2), 2);
        EQ(recv(d, b, 2, MSG_WAITALL), 2);
        EQ(read(d, b, 2), 0);
        close(d);
    }
    for (int i = 0; i < 3; i++)
        CHILD_OK(pids[i]);
}
CASE(files_are_sent) {
    int s[2], p[2];
    static char b[100000], got[100000];
    pair(s);
    for (unsigned i = 0; i < sizeof b; i++)
        b[i] = i * 7 + i / 999;
    FD(f, open("f", O_RDWR | O_CREAT, 0600));
    EQ(write(f, b, sizeof b), sizeof b);
    pid_t pid = fork();
    if (pid == 0) {
        off_t at = 0;
        while (at < (off_t)sizeof b)
            CHECK(sendfile(s[0], f, &at, sizeof b - at) > 0);
        _exit(0);
    }
    EQ(recv(s[1], got, sizeof got, MSG_WAITALL), sizeof got);
    CHECK(!memcmp(b, got, sizeof b));
    CHILD_OK(pid);
    OK(pipe(p));
    EQ(write(p[1], "spliced", 7), 7);
    EQ(splice(p[0], 0, s[0], 0, 7, 0), 7);
    EQ(splice(s[1], 0, p[1], 0, 7, 0), 7);
    EQ(read(p[0], got, 16), 7);
    CHECK(!memcmp(got, "spliced", 7));
}
CASE(groups_of_listeners) {
    FD(a, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    FD(b, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int one = 1, n = 0;
    struct sockaddr_in at = v4("127.0.0.1", 0);
    OK(setsockopt(a, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one));
    OK(setsockopt(b, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one));
    OK(bind(a, (void *)&at, sizeof at));
    at = name_of(a);
    OK(bind(b, (void *)&at, sizeof at));
    OK(listen(a, 32));
    OK(listen(b, 32));
    for (int i = 0; i < 16; i++)
        client(a, 0);
    t_sleep_ms(20);
    while (accept(a, 0, 0) >= 0)
        n++;
    while (accept(b, 0, 0) >= 0)
        n++;
    EQ(n, 16);
    close(a);
    client(b, 0);
    FD(s, accept(b, 0, 0));
}
static int urged;
static void on_urgent(int n) { urged += n == SIGURG; }
CASE(bad_addresses_lose_nothing) {
    int s[2];
    static char b[256];
    pair(s);
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OK(munmap(edge + 4096, 4096));
    EQ(write(s[0], "abcdef", 6), 6);
    t_sleep_ms(10);
    ERR(recv(s[1], BAD_ADDRESS, 3, 0), EFAULT);
    ERR(read(s[1], BAD_ADDRESS, 3), EFAULT);
    ERR(recv(s[1], edge + 4096 - 3, 6, 0), EFAULT);
    EQ(recv(s[1], edge + 4096 - 3, 3, 0), 3);
    CHECK(!memcmp(edge + 4093, "abc", 3));
    /* What is not reached does no harm. */
    EQ(recv(s[1], edge + 4096 - 3, 300, MSG_DONTWAIT), 3);
    ERR(recv(s[1], BAD_ADDRESS, 3, MSG_DONTWAIT), EAGAIN);
    ERR(send(s[0], edge + 4096 - 100, 200, 0), EFAULT);
    ERR(recv(s[1], b, 8, MSG_DONTWAIT), EAGAIN);
    int p[2];
    OK(pipe(p));
    EQ(write(p[1], "kept", 4), 4);
    ERR(read(p[0], BAD_ADDRESS, 4), EFAULT);
    EQ(read(p[0], b, 8), 4);
}
CASE(urgent_and_told) {
    int s[2], n = -1;
    char b[8];
    pair(s);
    signal(SIGURG, on_urgent);
    OK(fcntl(s[1], F_SETOWN, getpid()));
    EQ(send(s[0], "ab!", 3, MSG_OOB), 3);
    EQ(events(s[1], POLLIN | POLLOUT | POLLPRI), POLLIN | POLLOUT | POLLPRI);
    EQ(urged, 1);
    /* One that nobody took is like the others once the next has come. */
    EQ(send(s[0], "cd?", 3, MSG_OOB), 3);
    t_sleep_ms(20);
    EQ(urged, 2);
    OK(ioctl(s[1], FIONREAD, &n));
    EQ(n, 5);
    EQ(recv(s[1], b, 8, 0), 5);
    CHECK(!memcmp(b, "ab!cd", 5));
    OK(ioctl(s[1], SIOCATMARK, &n));
    EQ(n, 1);
    EQ(recv(s[1], b, 8, MSG_OOB | MSG_PEEK), 1);
    EQ(recv(s[1], b, 8, MSG_OOB), 1);
    EQ(b[0], '?');
    EQ(events(s[1], POLLOUT), POLLOUT);
    ERR(recv(s[1], b, 8, MSG_OOB), EINVAL);
    ERR(recv(s[1], b, 8, MSG_DONTWAIT), EAGAIN);
    /* Two of them with nothing before: the first is gone. */
    EQ(send(s[0], "X", 1, MSG_OOB), 1);
    EQ(send(s[0], "Y", 1, MSG_OOB), 1);
    EQ(send(s[0], "z", 1, 0), 1);
    t_sleep_ms(20);
    EQ(urged, 4);
    EQ(recv(s[1], b, 8, MSG_DONTWAIT), 1);
    EQ(b[0], 'z');
    ERR(recv(s[1], b, 8, MSG_OOB), EINVAL);
    EQ(send(s[0], "!", 1, MSG_OOB), 1);
    close(s[0]);
    EQ(recv(s[1], b, 8, MSG_OOB), 1);
    EQ(recv(s[1], b, 8, 0), 0);
}
CASE(owners_of_sockets) {
    int s[2], id = getpid();
    pair(s);
    signal(SIGURG, on_urgent);
    OK(ioctl(s[0], FIOSETOWN, &id));
    id = 0;
    OK(ioctl(s[0], FIOGETOWN, &id));
    EQ(id, getpid());
    id = -getpgrp();
    OK(ioctl(s[0], SIOCSPGRP, &id));
    id = 0;
    OK(ioctl(s[0], SIOCGPGRP, &id));
    EQ(id, -getpgrp());
    id = 999999;
    ERR(ioctl(s[0], FIOSETOWN, &id), ESRCH);
    ERR(ioctl(s[0], FIOSETOWN, BAD_ADDRESS), EFAULT);
    /* Nobody's, it tells nobody. */
    id = 0;
    OK(ioctl(s[0], FIOSETOWN, &id));
    EQ(send(s[1], "!", 1, MSG_OOB), 1);
    t_sleep_ms(20);
    EQ(urged, 0);
}
CASE(corked) {
    int s[2], one = 1, none = 0, n = -1;
    char b[16];
    pair(s);
    OK(setsockopt(s[0], IPPROTO_TCP, TCP_CORK, &one, sizeof one));
    EQ(write(s[0], "head", 4), 4);
    EQ(write(s[0], "tail", 4), 4);
    ERR(recv(s[1], b, 16, MSG_DONTWAIT), EAGAIN);
    OK(ioctl(s[0], TIOCOUTQ, &n));
    EQ(n, 8);
    OK(setsockopt(s[0], IPPROTO_TCP, TCP_CORK, &none, sizeof none));
    EQ(recv(s[1], b, 16, 0), 8);
    OK(setsockopt(s[0], IPPROTO_TCP, TCP_CORK, &one, sizeof one));
    EQ(number(s[0], IPPROTO_TCP, TCP_CORK), 1);
    /* It does not wait for ever. */
    EQ(write(s[0], "late", 4), 4);
    EQ(recv(s[1], b, 16, 0), 4);
    EQ(write(s[0], "now", 3), 3);
    OK(setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    EQ(recv(s[1], b, 16, 0), 3);
    EQ(write(s[0], "last", 4), 4);
    close(s[0]);
    EQ(recv(s[1], b, 16, 0), 4);
}
CASE(reset_on_close) {
    int s[2];
    char b[8];
    struct linger at_once = {1, 0};
    pair(s);
    OK(setsockopt(s[0], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    EQ(write(s[0], "abc", 3), 3);
    t_sleep_ms(10);
    close(s[0]);
    EQ(events(s[1], OVER | POLLERR), OVER | POLLERR);
    EQ(read(s[1], b, 8), 3);
    ERR(read(s[1], b, 8), ECONNRESET);
    EQ(read(s[1], b, 8), 0);
}
CASE(peers_that_are_killed) {
    char b[8];
    int l = listener("127.0.0.1", 8);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(write(client(l, 0), "abc", 3), 3);
        for (;;)
            pause();
    }
    FD(s, accept(l, 0, 0));
    EQ(events(s, POLLIN | POLLOUT), POLLIN | POLLOUT);
    kill(pid, SIGKILL);
    t_wait(pid);
    EQ(events(s, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    EQ(read(s, b, 8), 3);
    EQ(read(s, b, 8), 0);
    EQ(write(s, "1", 1), 1);
    EQ(events(s, OVER | POLLERR), OVER | POLLERR);
    ERR(send(s, "1", 1, MSG_NOSIGNAL), EPIPE);
    /* With something unread: a reset. */
    if ((pid = fork()) == 0) {
        int c = client(l, 0);
        EQ(recv(c, b, 1, MSG_PEEK), 1);
        EQ(write(c, "x", 1), 1);
        for (;;)
            pause();
    }
    FD(u, accept(l, 0, 0));
    EQ(write(u, "unread", 6), 6);
    EQ(events(u, POLLIN | POLLOUT), POLLIN | POLLOUT);
    kill(pid, SIGKILL);
    t_wait(pid);
    EQ(events(u, OVER | POLLERR), OVER | POLLERR);
    EQ(read(u, b, 8), 1);
    ERR(read(u, b, 8), ECONNRESET);
}
CASE(low_water_and_time) {
    int s[2], low = 10;
    char b[16];
    struct timeval soon = {0, 60000};
    pair(s);
    OK(setsockopt(s[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    OK(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    EQ(write(s[0], "abc", 3), 3);
    EQ(recv(s[1], b, 16, 0), 3);
    ERR(recv(s[1], b, 16, 0), EAGAIN);
}
CASE(counted_bytes) {
    int s[2];
    char b[8];
    pair(s);
    EQ(write(s[0], "hello", 5), 5);
    EQ(read(s[1], b, 3), 3);
    struct {
        uint8_t state, before[119];
        uint64_t acked, received;
    } a;
    socklen_t n = sizeof a;
    OK(getsockopt(s[0], IPPROTO_TCP, TCP_INFO, &a, &n));
    EQ(a.state, TCP_ESTABLISHED);
    EQ(a.acked, 6);
    EQ(a.received, 0);
    OK(getsockopt(s[1], IPPROTO_TCP, TCP_INFO, &a, &n));
    EQ(a.acked, 0);
    EQ(a.received, 5);
    OK(shutdown(s[0], SHUT_WR));
    EQ(events(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    t_sleep_ms(20);
    OK(getsockopt(s[0], IPPROTO_TCP, TCP_INFO, &a, &n));
    CHECK(a.state == TCP_FIN_WAIT1 || a.state == TCP_FIN_WAIT2);
}
/* The line of a file of /proc/net's that has these addresses in this state. */
static int listed(const char *file, const char *want) {
    char line[512];
    int found = 0;
    FILE *f = fopen(file, "r");
    CHECK(f != NULL);
    while (fgets(line, sizeof line, f))
        found += strstr(line, want) != NULL;
    fclose(f);
    return found;
}
CASE(told_in_proc_net) {
    int s[2];
    char want[128];
    int l = listener("127.0.0.1", 8);
    snprintf(want, sizeof want, ": 0100007F:%04X 00000000:0000 0A ", ntohs(name_of(l).sin_port));
    EQ(listed("/proc/net/tcp", want), 1);
    pair(s);
    snprintf(want, sizeof want, ": 0100007F:%04X 0100007F:%04X 01 ", ntohs(name_of(s[0]).sin_port),
             ntohs(peer_of(s[0]).sin_port));
    EQ(listed("/proc/net/tcp", want), 1);
    snprintf(want, sizeof want, ": 0100007F:%04X 0100007F:%04X 01 ", ntohs(peer_of(s[0]).sin_port),
             ntohs(name_of(s[0]).sin_port));
    EQ(listed("/proc/self/net/tcp", want), 1);
    struct stat st;
    OK(fstat(s[0], &st));
    snprintf(want, sizeof want, " %lu ", (unsigned long)st.st_ino);
    CHECK(listed("/proc/net/tcp", want) >= 1);
    FD(u, socket(AF_INET6, SOCK_DGRAM, 0));
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    socklen_t n = sizeof any;
    OK(bind(u, (void *)&any, sizeof any));
    OK(getsockname(u, (void *)&any, &n));
    snprintf(want, sizeof want, ": 00000000000000000000000001000000:%04X 00000000000000000000000000000000:0000 07 ",
             ntohs(any.sin6_port));
    EQ(listed("/proc/net/udp6", want), 1);
    FD(x, socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "told-%d", getpid());
    OK(bind(x, (void *)&at, sizeof at));
    OK(listen(x, 1));
    OK(fstat(x, &st));
    snprintf(want, sizeof want, " 00010000 0001 01 %5lu %s\n", (unsigned long)st.st_ino, at.sun_path);
    EQ(listed("/proc/net/unix", want), 1);
    /* One that is not bound has no place there. */
    FD(fresh, socket(AF_INET, SOCK_STREAM, 0));
    OK(fstat(fresh, &st));
    snprintf(want, sizeof want, " %lu 2 ", (unsigned long)st.st_ino);
    EQ(listed("/proc/net/tcp", want), 0);
}
