/* TCP, UDP, ICMP echo and netlink sockets on the loopback interface: ip(7), tcp(7), udp(7), ipv6(7), netlink(7). */
#include "t.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

static struct sockaddr_in v4(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}
static struct sockaddr_in name_of(int fd) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    OK(getsockname(fd, (void *)&a, &n));
    EQ(n, sizeof a);
    return a;
}
static int bound(int kind) {
    FD(fd, socket(AF_INET, kind, 0));
    struct sockaddr_in a = v4(0);
    OK(bind(fd, (void *)&a, sizeof a));
    return fd;
}
static int listener(void) {
    int fd = bound(SOCK_STREAM);
    OK(listen(fd, 8));
    return fd;
}
/* A connection: the two ends. */
static void tcp_pair(int out[2]) {
    int l = listener();
    struct sockaddr_in a = name_of(l);
    FD(c, socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(c, (void *)&a, sizeof a));
    FD(s, accept(l, 0, 0));
    close(l);
    out[0] = c;
    out[1] = s;
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

CASE(socket_makes_and_refuses) {
    FD(a, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    EQ(fcntl(a, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(a, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
    FD(b, socket(AF_INET, SOCK_DGRAM, 0));
    EQ(fcntl(b, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
    EQ(number(a, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EQ(number(b, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
    EQ(number(b, SOL_SOCKET, SO_DOMAIN), AF_INET);
    ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    ERR(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    ERR(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    ERR(socket(AF_INET, SOCK_STREAM, -1), EINVAL);
    ERR(socket(AF_INET, SOCK_STREAM, 4000), EINVAL);
    int v[2];
    ERR(socketpair(AF_INET, SOCK_STREAM, 0, v), EOPNOTSUPP);
    struct stat st;
    OK(fstat(a, &st));
    CHECK(S_ISSOCK(st.st_mode));
    ERR(lseek(a, 0, SEEK_SET), ESPIPE);
}

CASE(tcp_talks) {
    int s[2];
    char b[16] = {0};
    tcp_pair(s);
    EQ(send(s[0], "hello", 5, 0), 5);
    EQ(recv(s[1], b, sizeof b, MSG_PEEK), 5);
    EQ(recv(s[1], b, 2, 0), 2);
    EQ(read(s[1], b + 2, 10), 3);
    EQ(memcmp(b, "hello", 5), 0);
    ERR(recv(s[1], b, 1, MSG_DONTWAIT), EAGAIN);
    EQ(write(s[1], "back", 4), 4);
    struct iovec v[2] = {{b, 1}, {b + 8, 8}};
    EQ(readv(s[0], v, 2), 4);
    EQ(b[0], 'b');
    EQ(memcmp(b + 8, "ack", 3), 0);
    struct sockaddr_in mine = name_of(s[0]), peer;
    socklen_t n = sizeof peer;
    OK(getpeername(s[1], (void *)&peer, &n));
    EQ(peer.sin_port, mine.sin_port);
    EQ(peer.sin_addr.s_addr, mine.sin_addr.s_addr);
}

CASE(tcp_large_both_ways) {
    int s[2];
    enum { SIZE = 3000000 };
    tcp_pair(s);
    pid_t pid = fork();
    if (pid == 0) {
        close(s[0]);
        char *all = malloc(SIZE);
        EQ(recv(s[1], all, SIZE, MSG_WAITALL), SIZE);
        for (int i = 0; i < SIZE; i++)
            if (all[i] != (char)(i * 7 + i / 1000))
                t_fail("byte %d", i);
        EQ(send(s[1], all, SIZE, 0), SIZE);
        _exit(0);
    }
    close(s[1]);
    char *all = malloc(SIZE);
    for (int i = 0; i < SIZE; i++)
        all[i] = (char)(i * 7 + i / 1000);
    EQ(write(s[0], all, SIZE), SIZE);
    char *back = malloc(SIZE);
    int at = 0;
    for (ssize_t n; (n = read(s[0], back + at, SIZE - at)) > 0; at += n)
        ;
    EQ(at, SIZE);
    EQ(memcmp(all, back, SIZE), 0);
    CHILD_OK(pid);
}

CASE(connect_refused) {
    int l = listener();
    struct sockaddr_in a = name_of(l);
    close(l);
    FD(c, socket(AF_INET, SOCK_STREAM, 0));
    ERR(connect(c, (void *)&a, sizeof a), ECONNREFUSED);
    EQ(number(c, SOL_SOCKET, SO_ERROR), 0);
    FD(d, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ERR(connect(d, (void *)&a, sizeof a), EINPROGRESS);
    EQ(events(d, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP), POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
    EQ(number(d, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    EQ(number(d, SOL_SOCKET, SO_ERROR), 0);
    ERR(connect(c, (void *)&a, 4), EINVAL);
    struct sockaddr_in other = a;
    other.sin_family = AF_UNIX;
    FD(e, socket(AF_INET, SOCK_STREAM, 0));
    CHECK(connect(e, (void *)&other, sizeof other) == -1);
    ERR(getpeername(e, (void *)&other, &(socklen_t){sizeof other}), ENOTCONN);
    ERR(send(e, "x", 1, MSG_NOSIGNAL), EPIPE);
    ERR(recv(e, &other, 1, 0), ENOTCONN);
    ERR(shutdown(e, SHUT_RDWR), ENOTCONN);
}

CASE(connect_without_waiting) {
    int l = listener();
    struct sockaddr_in a = name_of(l);
    FD(c, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    EQ(events(c, POLLOUT | POLLHUP), POLLOUT | POLLHUP);
    ERR(connect(c, (void *)&a, sizeof a), EINPROGRESS);
    EQ(events(c, POLLOUT), POLLOUT);
    EQ(number(c, SOL_SOCKET, SO_ERROR), 0);
    OK(connect(c, (void *)&a, sizeof a));
    ERR(connect(c, (void *)&a, sizeof a), EISCONN);
    EQ(events(l, POLLIN), POLLIN);
    FD(s, accept4(l, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC));
    EQ(fcntl(s, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
    OK(fcntl(l, F_SETFL, O_NONBLOCK));
    ERR(accept(l, 0, 0), EAGAIN);
    ERR(accept(c, 0, 0), EINVAL);
    ERR(accept4(l, 0, 0, 1), EINVAL);
    EQ(events(l, 0), 0);
}

CASE(accept_waits) {
    int l = listener();
    struct sockaddr_in a = name_of(l), from;
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(50);
        FD(c, socket(AF_INET, SOCK_STREAM, 0));
        OK(connect(c, (void *)&a, sizeof a));
        char b;
        EQ(read(c, &b, 1), 1);
        _exit(0);
    }
    socklen_t n = sizeof from;
    FD(s, accept(l, (void *)&from, &n));
    EQ(n, sizeof from);
    EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    EQ(number(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
    t_sleep_ms(50);
    EQ(write(s, "x", 1), 1);
    CHILD_OK(pid);
}

CASE(half_close) {
    int s[2];
    char b[8];
    tcp_pair(s);
    EQ(write(s[0], "last", 4), 4);
    OK(shutdown(s[0], SHUT_WR));
    EQ(events(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    EQ(read(s[1], b, 8), 4);
    EQ(read(s[1], b, 8), 0);
    ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(write(s[1], "more", 4), 4);
    EQ(read(s[0], b, 8), 4);
    ERR(shutdown(s[0], 7), EINVAL);
    OK(shutdown(s[1], SHUT_RDWR));
    EQ(read(s[0], b, 8), 0);
    EQ(events(s[0], POLLIN | POLLOUT | POLLHUP | POLLRDHUP), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
}

CASE(reset) {
    int s[2];
    char b[8];
    tcp_pair(s);
    struct linger l = {1, 0};
    OK(setsockopt(s[1], SOL_SOCKET, SO_LINGER, &l, sizeof l));
    close(s[1]);
    CHECK(events(s[0], POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP) & POLLERR);
    ERR(read(s[0], b, 8), ECONNRESET);
    EQ(read(s[0], b, 8), 0);
}

static int got_sigpipe;
static void on_sigpipe(int n) { got_sigpipe = n; }
CASE(broken_pipe) {
    int s[2];
    tcp_pair(s);
    signal(SIGPIPE, on_sigpipe);
    OK(shutdown(s[0], SHUT_WR));
    ERR(write(s[0], "x", 1), EPIPE);
    EQ(got_sigpipe, SIGPIPE);
}

CASE(epoll_edges) {
    int s[2];
    char b[8];
    tcp_pair(s);
    OK(fcntl(s[1], F_SETFL, O_NONBLOCK));
    FD(ep, epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLET | EPOLLRDHUP, .data.u32 = 7}, got[4];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, s[1], &e));
    EQ(epoll_wait(ep, got, 4, 0), 0);
    EQ(write(s[0], "abc", 3), 3);
    EQ(epoll_wait(ep, got, 4, 2000), 1);
    EQ(got[0].events, EPOLLIN);
    EQ(epoll_wait(ep, got, 4, 20), 0);
    EQ(read(s[1], b, 1), 1);
    EQ(epoll_wait(ep, got, 4, 20), 0);
    EQ(write(s[0], "d", 1), 1);
    EQ(epoll_wait(ep, got, 4, 2000), 1);
    EQ(read(s[1], b, 8), 3);
    ERR(read(s[1], b, 8), EAGAIN);
    e.events = EPOLLIN;
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, s[1], &e));
    EQ(epoll_wait(ep, got, 4, 0), 0);
    EQ(write(s[0], "xy", 2), 2);
    EQ(epoll_wait(ep, got, 4, 2000), 1);
    EQ(read(s[1], b, 1), 1);
    EQ(epoll_wait(ep, got, 4, 2000), 1);
    EQ(read(s[1], b, 1), 1);
    EQ(epoll_wait(ep, got, 4, 0), 0);
}

CASE(full_and_writable_again) {
    int s[2];
    static char b[65536];
    tcp_pair(s);
    OK(fcntl(s[0], F_SETFL, O_NONBLOCK));
    long total = 0;
    for (ssize_t n; (n = write(s[0], b, sizeof b)) > 0;)
        total += n;
    EQ(errno, EAGAIN);
    t_sleep_ms(50);
    for (ssize_t n; (n = write(s[0], b, sizeof b)) > 0;)
        total += n;
    EQ(events(s[0], 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        t_sleep_ms(50);
        for (long left = total; left > 0;)
            left -= read(s[1], b, sizeof b);
        _exit(0);
    }
    struct pollfd p = {.fd = s[0], .events = POLLOUT};
    EQ(poll(&p, 1, 5000), 1);
    EQ(p.revents, POLLOUT);
    CHILD_OK(pid);
}

CASE(out_of_band) {
    int s[2], at = -1;
    char b[8];
    tcp_pair(s);
    EQ(send(s[0], "ab", 2, 0), 2);
    EQ(send(s[0], "!", 1, MSG_OOB), 1);
    EQ(events(s[1], POLLIN | POLLOUT | POLLPRI), POLLIN | POLLOUT | POLLPRI);
    EQ(recv(s[1], b, 8, MSG_OOB), 1);
    EQ(b[0], '!');
    EQ(recv(s[1], b, 8, 0), 2);
    OK(ioctl(s[1], SIOCATMARK, &at));
    EQ(at, 1);
    ERR(recv(s[1], b, 8, MSG_OOB), EINVAL);
}

CASE(timeouts) {
    int s[2];
    char b;
    tcp_pair(s);
    struct timeval t = {0, 50000}, back;
    socklen_t n = sizeof back;
    OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    OK(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &back, &n));
    EQ(n, sizeof back);
    EQ(back.tv_sec, 0);
    double start = t_now();
    ERR(recv(s[0], &b, 1, 0), EAGAIN);
    CHECK(t_now() - start > 0.04);
    t.tv_usec = 2000000;
    ERR(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t), EDOM);
    int l = listener();
    t.tv_usec = 20000;
    OK(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    ERR(accept(l, 0, 0), EAGAIN);
}

CASE(pending_bytes) {
    int s[2], n = -1;
    tcp_pair(s);
    EQ(write(s[0], "12345", 5), 5);
    EQ(events(s[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
    OK(ioctl(s[1], FIONREAD, &n));
    EQ(n, 5);
    OK(ioctl(s[0], TIOCOUTQ, &n));
    EQ(n, 0);
    ERR(ioctl(s[0], TCGETS, &n), ENOTTY);
}

CASE(udp_talks) {
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM);
    struct sockaddr_in to = name_of(b), from;
    char buf[16];
    EQ(sendto(a, "one", 3, 0, (void *)&to, sizeof to), 3);
    EQ(sendto(a, "", 0, 0, (void *)&to, sizeof to), 0);
    EQ(sendto(a, "three", 5, 0, (void *)&to, sizeof to), 5);
    socklen_t n = sizeof from;
    EQ(recvfrom(b, buf, sizeof buf, 0, (void *)&from, &n), 3);
    EQ(from.sin_port, name_of(a).sin_port);
    EQ(recv(b, buf, sizeof buf, 0), 0);
    EQ(recv(b, buf, sizeof buf, MSG_PEEK), 5);
    EQ(recv(b, buf, 2, MSG_TRUNC), 5);
    ERR(recv(b, buf, 2, MSG_DONTWAIT), EAGAIN);
    ERR(send(a, "x", 1, 0), EDESTADDRREQ);
    static char big[70000];
    ERR(sendto(a, big, sizeof big, 0, (void *)&to, sizeof to), EMSGSIZE);
    EQ(sendto(a, big, 60000, 0, (void *)&to, sizeof to), 60000);
    EQ(recv(b, big, sizeof big, 0), 60000);
    ERR(listen(a, 1), EOPNOTSUPP);
    ERR(accept(a, 0, 0), EOPNOTSUPP);
}

CASE(udp_truncates) {
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM);
    struct sockaddr_in to = name_of(b);
    char buf[4];
    EQ(sendto(a, "too long", 8, 0, (void *)&to, sizeof to), 8);
    struct iovec v = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    EQ(recvmsg(b, &m, 0), 4);
    EQ(m.msg_flags, MSG_TRUNC);
    EQ(sendto(a, "x", 1, 0, (void *)&to, sizeof to), 1);
    EQ(recv(b, buf, 0, 0), 0);
    ERR(recv(b, buf, 4, MSG_DONTWAIT), EAGAIN);
}

CASE(udp_connected) {
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM), c = bound(SOCK_DGRAM);
    struct sockaddr_in to = name_of(b), from_c = name_of(a), un = {.sin_family = AF_UNSPEC};
    char buf[8];
    OK(connect(a, (void *)&to, sizeof to));
    EQ(send(a, "hi", 2, 0), 2);
    EQ(read(b, buf, 8), 2);
    EQ(sendto(c, "no", 2, 0, (void *)&from_c, sizeof from_c), 2);
    ERR(recv(a, buf, 8, MSG_DONTWAIT), EAGAIN);
    struct sockaddr_in mine = name_of(a);
    EQ(sendto(b, "yes", 3, 0, (void *)&mine, sizeof mine), 3);
    EQ(recv(a, buf, 8, 0), 3);
    close(b);
    EQ(send(a, "gone", 4, 0), 4);
    ERR(recv(a, buf, 8, 0), ECONNREFUSED);
    OK(connect(a, (void *)&un, sizeof un));
    ERR(getpeername(a, (void *)&un, &(socklen_t){sizeof un}), ENOTCONN);
}

CASE(ipv6) {
    FD(l, socket(AF_INET6, SOCK_STREAM, 0));
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback}, from;
    if (bind(l, (void *)&a, sizeof a) != 0)
        SKIP("no IPv6");
    OK(listen(l, 4));
    socklen_t n = sizeof a;
    OK(getsockname(l, (void *)&a, &n));
    EQ(n, sizeof a);
    FD(c, socket(AF_INET6, SOCK_STREAM, 0));
    OK(connect(c, (void *)&a, sizeof a));
    n = sizeof from;
    FD(s, accept(l, (void *)&from, &n));
    CHECK(IN6_IS_ADDR_LOOPBACK(&from.sin6_addr));
    EQ(write(c, "six", 3), 3);
    char b[8];
    EQ(read(s, b, 8), 3);
    /* Both families on one socket, and only one. */
    FD(d, socket(AF_INET6, SOCK_DGRAM, 0));
    EQ(number(d, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    OK(bind(d, (void *)&any, sizeof any));
    n = sizeof any;
    OK(getsockname(d, (void *)&any, &n));
    struct sockaddr_in to = v4(ntohs(any.sin6_port));
    FD(u, socket(AF_INET, SOCK_DGRAM, 0));
    EQ(sendto(u, "four", 4, 0, (void *)&to, sizeof to), 4);
    n = sizeof from;
    EQ(recvfrom(d, b, 8, 0, (void *)&from, &n), 4);
    CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    FD(o, socket(AF_INET6, SOCK_DGRAM, 0));
    int one = 1;
    OK(setsockopt(o, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    EQ(number(o, IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

CASE(bind_errors) {
    int l = listener();
    struct sockaddr_in a = name_of(l);
    FD(b, socket(AF_INET, SOCK_STREAM, 0));
    ERR(bind(b, (void *)&a, sizeof a), EADDRINUSE);
    ERR(bind(b, (void *)&a, 3), EINVAL);
    ERR(bind(b, BAD_ADDRESS, sizeof a), EFAULT);
    a.sin_addr.s_addr = htonl(0x08080808);
    a.sin_port = 0;
    ERR(bind(b, (void *)&a, sizeof a), EADDRNOTAVAIL);
    a = v4(0);
    OK(bind(b, (void *)&a, sizeof a));
    ERR(bind(b, (void *)&a, sizeof a), EINVAL);
    ERR(bind(0x7000, (void *)&a, sizeof a), EBADF);
    FD(f, open("/dev/null", O_RDWR));
    ERR(bind(f, (void *)&a, sizeof a), ENOTSOCK);
}

CASE(low_ports_need_the_capability) {
    NEED_ROOT();
    FILE *host = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
    int start = 0;
    if (host && fscanf(host, "%d", &start) == 1 && start <= 922)
        SKIP("this host lets anybody have low ports");
    FD(a, socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in to = v4(921);
    OK(bind(a, (void *)&to, sizeof to));
    OK(setresuid(1234, 1234, 1234));
    FD(b, socket(AF_INET, SOCK_STREAM, 0));
    to = v4(922);
    ERR(bind(b, (void *)&to, sizeof to), EACCES);
}

CASE(options) {
    FD(s, socket(AF_INET, SOCK_STREAM, 0));
    static const int names[][2] = {
        {SOL_SOCKET, SO_REUSEADDR},   {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_OOBINLINE},
        {IPPROTO_TCP, TCP_NODELAY},   {IPPROTO_TCP, TCP_CORK},    {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL},
        {IPPROTO_TCP, TCP_KEEPCNT},   {IPPROTO_TCP, TCP_SYNCNT},  {IPPROTO_TCP, TCP_USER_TIMEOUT},
        {IPPROTO_IP, IP_RECVTTL},     {IPPROTO_IP, IP_PKTINFO},   {IPPROTO_IP, IP_TTL},        {IPPROTO_IP, IP_RECVERR},
    };
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        int one = 1;
        if (setsockopt(s, names[i][0], names[i][1], &one, sizeof one) != 0)
            t_fail("set %d %d: %s", names[i][0], names[i][1], strerror(errno));
        EQ(number(s, names[i][0], names[i][1]), 1);
    }
    int v = 5000;
    OK(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &v, sizeof v));
    EQ(number(s, SOL_SOCKET, SO_RCVBUF), 10000);
    v = IPTOS_LOWDELAY;
    OK(setsockopt(s, IPPROTO_IP, IP_TOS, &v, sizeof v));
    EQ(number(s, IPPROTO_IP, IP_TOS), IPTOS_LOWDELAY);
    struct linger l = {1, 3}, back;
    socklen_t n = sizeof back;
    OK(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    OK(getsockopt(s, SOL_SOCKET, SO_LINGER, &back, &n));
    EQ(back.l_onoff, 1);
    EQ(back.l_linger, 3);
    struct tcp_info info;
    n = sizeof info;
    OK(getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &n));
    EQ(info.tcpi_state, TCP_CLOSE);
    char name[16];
    n = sizeof name;
    OK(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &n));
    n = sizeof v;
    ERR(setsockopt(s, SOL_SOCKET, SO_ERROR, &v, sizeof v), ENOPROTOOPT);
    ERR(setsockopt(s, IPPROTO_TCP, 9999, &v, sizeof v), ENOPROTOOPT);
    ERR(getsockopt(s, IPPROTO_TCP, 9999, &v, &n), ENOPROTOOPT);
    ERR(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, 1), EINVAL);
    n = 1;
    OK(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, &n));
    EQ(n, 1);
}

CASE(control_messages) {
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM), one = 1, ttl = 42;
    struct sockaddr_in to = name_of(b);
    OK(setsockopt(b, IPPROTO_IP, IP_RECVTTL, &one, sizeof one));
    OK(setsockopt(b, IPPROTO_IP, IP_PKTINFO, &one, sizeof one));
    char space[256] = {0}, data[4] = "abc";
    struct iovec v = {data, 3};
    struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &v, .msg_iovlen = 1};
    m.msg_control = space;
    m.msg_controllen = CMSG_SPACE(sizeof ttl);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = IP_TTL;
    c->cmsg_len = CMSG_LEN(sizeof ttl);
    memcpy(CMSG_DATA(c), &ttl, sizeof ttl);
    EQ(sendmsg(a, &m, 0), 3);
    struct sockaddr_in from;
    m.msg_name = &from;
    m.msg_controllen = sizeof space;
    EQ(recvmsg(b, &m, 0), 3);
    EQ(m.msg_flags, 0);
    int seen = 0;
    for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        EQ(c->cmsg_level, IPPROTO_IP);
        if (c->cmsg_type == IP_TTL) {
            int got;
            memcpy(&got, CMSG_DATA(c), sizeof got);
            EQ(got, 42);
            seen |= 1;
        } else if (c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            EQ(info.ipi_addr.s_addr, htonl(INADDR_LOOPBACK));
            seen |= 2;
        }
    }
    EQ(seen, 3);
}

CASE(many_messages) {
    int a = bound(SOCK_DGRAM), b = bound(SOCK_DGRAM);
    struct sockaddr_in to = name_of(b);
    char data[2][4] = {"one", "two"}, got[2][4];
    struct iovec v[2] = {{data[0], 3}, {data[1], 3}}, w[2] = {{got[0], 4}, {got[1], 4}};
    struct mmsghdr out[2] = {{.msg_hdr = {&to, sizeof to, v, 1, 0, 0, 0}}, {.msg_hdr = {&to, sizeof to, v + 1, 1, 0, 0, 0}}};
    struct mmsghdr in[2] = {{.msg_hdr = {.msg_iov = w, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = w + 1, .msg_iovlen = 1}}};
    EQ(sendmmsg(a, out, 2, 0), 2);
    EQ(out[1].msg_len, 3);
    EQ(recvmmsg(b, in, 2, 0, 0), 2);
    EQ(in[1].msg_len, 3);
    EQ(memcmp(got[1], "two", 3), 0);
    ERR(sendmmsg(0x7000, out, 2, 0), EBADF);
    ERR(recvmmsg(0x7000, in, 2, 0, 0), EBADF);
    ERR(sendmsg(0x7000, &out[0].msg_hdr, 0), EBADF);
    ERR(recvmsg(0x7000, &in[0].msg_hdr, 0), EBADF);
    ERR(getsockname(0x7000, (void *)&to, &(socklen_t){sizeof to}), EBADF);
}

CASE(icmp_echo) {
    int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    if (fd < 0)
        SKIP("ping_group_range");
    struct icmphdr echo = {.type = ICMP_ECHO, .un.echo.sequence = htons(5)}, back;
    struct sockaddr_in to = v4(0);
    EQ(sendto(fd, &echo, sizeof echo, 0, (void *)&to, sizeof to), sizeof echo);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    EQ(poll(&p, 1, 2000), 1);
    EQ(recv(fd, &back, sizeof back, 0), sizeof back);
    EQ(back.type, ICMP_ECHOREPLY);
    EQ(back.un.echo.sequence, htons(5));
    echo.type = ICMP_DEST_UNREACH;
    ERR(sendto(fd, &echo, sizeof echo, 0, (void *)&to, sizeof to), EINVAL);
}

/* As ping of busybox: raw(7). The request itself is seen as well where the host's raw sockets are. */
CASE(icmp_echo_raw) {
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    if (fd < 0)
        SKIP("CAP_NET_RAW");
    int kind;
    EQ(getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &(socklen_t){sizeof kind}), 0);
    EQ(kind, SOCK_RAW);
    struct {
        struct icmphdr h;
        char text[8];
    } echo = {{.type = ICMP_ECHO, .un.echo.id = htons(0x1234), .un.echo.sequence = htons(5)}, "abcdefg"};
    uint16_t *words = (void *)&echo;
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof echo / 2; i++)
        sum += words[i];
    sum = (sum & 0xffff) + (sum >> 16);
    echo.h.checksum = ~((sum & 0xffff) + (sum >> 16));
    struct sockaddr_in to = v4(0), from;
    EQ(sendto(fd, &echo, sizeof echo, 0, (void *)&to, sizeof to), sizeof echo);
    unsigned char got[100];
    struct icmphdr back;
    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        EQ(poll(&p, 1, 2000), 1);
        EQ(recvfrom(fd, got, sizeof got, 0, (void *)&from, &(socklen_t){sizeof from}), 20 + sizeof echo);
        memcpy(&back, got + 20, sizeof back);
    } while (back.type == ICMP_ECHO);
    EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    EQ(from.sin_port, 0);
    EQ(got[0], 0x45);
    EQ(got[3], 20 + sizeof echo);
    EQ(got[8], 64);
    EQ(got[9], IPPROTO_ICMP);
    EQ(memcmp(got + 12, got + 16, 4), 0);
    EQ(back.type, ICMP_ECHOREPLY);
    EQ(back.un.echo.id, htons(0x1234));
    EQ(back.un.echo.sequence, htons(5));
    EQ(memcmp(got + 28, "abcdefg", 8), 0);
    sum = 0;
    for (int i = 20; i < 20 + (int)sizeof echo; i += 2)
        sum += got[i] << 8 | got[i + 1];
    EQ((sum & 0xffff) + (sum >> 16), 0xffff);
    EQ(sendto(fd, &echo, sizeof echo, 0, (void *)&to, sizeof to), sizeof echo);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    EQ(poll(&p, 1, 2000), 1);
    EQ(recv(fd, got, 10, MSG_TRUNC), 20 + sizeof echo);
    ERR(recv(fd, got, 10, MSG_DONTWAIT | MSG_ERRQUEUE), EAGAIN);
    OK(seteuid(1000));
    ERR(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
}

CASE(interfaces) {
    struct ifaddrs *all, *i;
    int v4s = 0, up = 0;
    OK(getifaddrs(&all));
    for (i = all; i; i = i->ifa_next)
        if (strcmp(i->ifa_name, "lo") == 0) {
            up |= (i->ifa_flags & (IFF_UP | IFF_LOOPBACK)) == (IFF_UP | IFF_LOOPBACK);
            if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET)
                v4s |= ((struct sockaddr_in *)i->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
        }
    EQ(up, 1);
    EQ(v4s, 1);
    EQ(if_nametoindex("lo"), 1);
    char name[IF_NAMESIZE];
    CHECK(if_indextoname(1, name) && strcmp(name, "lo") == 0);
    FD(s, socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq r = {.ifr_name = "lo"};
    OK(ioctl(s, SIOCGIFFLAGS, &r));
    CHECK(r.ifr_flags & IFF_UP);
    OK(ioctl(s, SIOCGIFADDR, &r));
    EQ(((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    OK(ioctl(s, SIOCGIFNETMASK, &r));
    EQ(((struct sockaddr_in *)&r.ifr_netmask)->sin_addr.s_addr, htonl(0xff000000));
    OK(ioctl(s, SIOCGIFMTU, &r));
    CHECK(r.ifr_mtu >= 16436);
    OK(ioctl(s, SIOCGIFHWADDR, &r));
    EQ(r.ifr_hwaddr.sa_family, 772);
    char room[4000];
    struct ifconf conf = {.ifc_len = sizeof room, .ifc_buf = room};
    OK(ioctl(s, SIOCGIFCONF, &conf));
    CHECK(conf.ifc_len >= (int)sizeof r && conf.ifc_len % sizeof r == 0);
    strcpy(r.ifr_name, "none0");
    ERR(ioctl(s, SIOCGIFFLAGS, &r), ENODEV);
    ERR(ioctl(s, SIOCGIFFLAGS, BAD_ADDRESS), EFAULT);
}

CASE(netlink) {
    FD(s, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    struct sockaddr_nl a = {.nl_family = AF_NETLINK}, from;
    socklen_t n = sizeof a;
    OK(bind(s, (void *)&a, sizeof a));
    OK(getsockname(s, (void *)&a, &n));
    EQ(n, sizeof a);
    CHECK(a.nl_pid != 0);
    struct {
        struct nlmsghdr h;
        struct rtgenmsg g;
    } req = {{sizeof req, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 77, 0}, {AF_UNSPEC}};
    static char buf[65536];
    EQ(send(s, &req, sizeof req, 0), sizeof req);
    int lo = 0, done = 0;
    while (!done) {
        n = sizeof from;
        ssize_t len = recvfrom(s, buf, sizeof buf, 0, (void *)&from, &n);
        CHECK(len > 0);
        EQ(from.nl_pid, 0);
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
            EQ(h->nlmsg_seq, 77);
            EQ(h->nlmsg_pid, a.nl_pid);
            if (h->nlmsg_type == NLMSG_DONE)
                done = 1;
            else
                lo |= ((struct ifinfomsg *)NLMSG_DATA(h))->ifi_index == 1;
        }
    }
    EQ(lo, 1);
    struct {
        struct nlmsghdr h;
        struct ifinfomsg i;
    } one = {{sizeof one, RTM_GETLINK, NLM_F_REQUEST, 78, 0}, {.ifi_index = 1}};
    EQ(send(s, &one, sizeof one, 0), sizeof one);
    CHECK(recv(s, buf, sizeof buf, 0) > 0);
    EQ(((struct nlmsghdr *)buf)->nlmsg_type, RTM_NEWLINK);
    one.i.ifi_index = 9999;
    EQ(send(s, &one, sizeof one, 0), sizeof one);
    CHECK(recv(s, buf, sizeof buf, 0) > 0);
    EQ(((struct nlmsghdr *)buf)->nlmsg_type, NLMSG_ERROR);
    EQ(((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)buf))->error, -ENODEV);
    ERR(recv(s, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    ERR(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE), ESOCKTNOSUPPORT);
    ERR(socket(AF_NETLINK, SOCK_RAW, 77), EPROTONOSUPPORT);
}
CASE(the_queue_of_errors_is_not_waited_for) {
    int s[2];
    tcp_pair(s);
    char byte;
    ERR(recv(s[0], &byte, 1, MSG_ERRQUEUE), EAGAIN);
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    ERR(recvmsg(s[0], &m, MSG_ERRQUEUE), EAGAIN);
}
CASE(a_connection_is_made_once) {
    int l = listener();
    struct sockaddr_in a = name_of(l), other = {.sin_family = 47};
    FD(c, socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(c, (void *)&a, sizeof a));
    ERR(connect(c, (void *)&a, sizeof a), EISCONN);
    /* Where a connected stream sends to is not asked. */
    EQ(sendto(c, "x", 1, 0, (void *)&other, sizeof other), 1);
    ERR(sendto(c, "x", 1, 0, BAD_ADDRESS, sizeof other), EFAULT);
    FD(u, bound(SOCK_DGRAM));
    ERR(sendto(u, "x", 1, 0, (void *)&other, sizeof other), EAFNOSUPPORT);
}
CASE(levels_that_are_not_the_sockets) {
    FD(tcp, socket(AF_INET, SOCK_STREAM, 0));
    FD(udp, socket(AF_INET, SOCK_DGRAM, 0));
    FD(six, socket(AF_INET6, SOCK_STREAM, 0));
    int v = 0;
    socklen_t n = sizeof v;
    ERR(getsockopt(tcp, 500, 1, &v, &n), EOPNOTSUPP);
    ERR(getsockopt(tcp, IPPROTO_UDP, SO_OOBINLINE, &v, &n), EOPNOTSUPP);
    ERR(getsockopt(udp, IPPROTO_TCP, -1, &v, &n), EOPNOTSUPP);
    ERR(getsockopt(tcp, IPPROTO_TCP, -1, &v, &n), ENOPROTOOPT);
    ERR(getsockopt(tcp, IPPROTO_IP, -1, &v, &n), ENOPROTOOPT);
    ERR(getsockopt(six, 500, 1, &v, &n), ENOPROTOOPT);
    ERR(setsockopt(tcp, 500, 1, &v, n), ENOPROTOOPT);
}
CASE(pairs_are_refused_after_the_sockets) {
    int s[2];
    ERR(socketpair(AF_INET, SOCK_DGRAM, IPPROTO_TCP, s), EPROTONOSUPPORT);
    ERR(socketpair(AF_INET, SOCK_STREAM, IPPROTO_ICMP, s), EPROTONOSUPPORT);
    ERR(socketpair(AF_INET, SOCK_STREAM, IPPROTO_TCP, s), EOPNOTSUPP);
    ERR(socketpair(AF_INET, SOCK_DGRAM, IPPROTO_UDP, s), EOPNOTSUPP);
    FD(u, socket(AF_INET, SOCK_DGRAM, 0));
    ERR(ioctl(u, SIOCSIFFLAGS, NULL), EFAULT);
}
