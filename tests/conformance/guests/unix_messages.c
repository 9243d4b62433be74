/* Unix sockets: timeouts, descriptors and credentials on their way, options, edges. */
#include "unix.h"

static int signalled;
static void on_pipe(int number) { signalled = number; }

CASE(timeouts_and_signals) {
    int s[2];
    char c;
    pair(SOCK_STREAM, s);
    struct timeval tv = {0, 2000000}, got;
    socklen_t len = sizeof got;
    ERR(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv), EDOM);
    ERR(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, 8), EINVAL);
    set_timeout(s[0], SO_RCVTIMEO, 40);
    OK(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &got, &len));
    EQ(got.tv_usec, 40000);
    double t = t_now();
    ERR(recv(s[0], &c, 1, 0), EAGAIN);
    ERR(read(s[0], &c, 1), EAGAIN);
    CHECK(t_now() - t >= 0.08);
    while (send(s[0], big, 10000, MSG_DONTWAIT) > 0)
        ;
    set_timeout(s[0], SO_SNDTIMEO, 30);
    ERR(send(s[0], big, 1, 0), EAGAIN);
    ERR(write(s[0], big, 1), EAGAIN);
    /* A handler with SA_RESTART restarts only what has no timeout. */
    struct sigaction sa = {.sa_handler = on_pipe, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &sa, NULL);
    set_timeout(s[0], SO_RCVTIMEO, 10000);
    for (int round = 0; round < 2; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            t_sleep_ms(40);
            kill(getppid(), SIGUSR1);
            t_sleep_ms(40);
            EQ(write(s[1], "w", 1), 1);
            _exit(0);
        }
        if (round == 0) {
            ERR(recv(s[0], &c, 1, 0), EINTR);
            CHILD_OK(pid);
            EQ(recv(s[0], &c, 1, 0), 1);
            set_timeout(s[0], SO_RCVTIMEO, 0);
        } else {
            EQ(recv(s[0], &c, 1, 0), 1);
            CHILD_OK(pid);
        }
    }
}

CASE(descriptors) {
    int s[2], p[2];
    OK(pipe(p));
    for (int kind = 0; kind < 2; kind++) {
        pair(kind ? SOCK_DGRAM : SOCK_STREAM, s);
        EQ(send_fds(s[0], "fds", (int[]){p[0], p[1]}, 2, 0), 3);
        struct got g = receive(s[1], 10, 100, MSG_CMSG_CLOEXEC);
        EQ(g.n, 3);
        EQ(g.count, 2);
        EQ(g.flags, MSG_CMSG_CLOEXEC);
        EQ(g.controllen, CMSG_SPACE(8));
        EQ(fcntl(g.fds[0], F_GETFD), FD_CLOEXEC);
        EQ(write(g.fds[1], "x", 1), 1);
        char c;
        EQ(read(g.fds[0], &c, 1), 1);
        close(g.fds[0]);
        close(g.fds[1]);
        /* Not enough room, none, and a plain read: they are lost. */
        EQ(send_fds(s[0], "a", p, 2, 0), 1);
        g = receive(s[1], 10, CMSG_LEN(4), 0);
        EQ(g.count, 1);
        EQ(g.flags, MSG_CTRUNC);
        EQ(fcntl(g.fds[0], F_GETFD), 0);
        close(g.fds[0]);
        EQ(send_fds(s[0], "a", p, 2, 0), 1);
        g = receive(s[1], 10, 0, 0);
        EQ(g.flags, MSG_CTRUNC);
        EQ(send_fds(s[0], "a", p, 2, 0), 1);
        EQ(read(s[1], &c, 1), 1);
        /* Peeked at, they are there twice. */
        EQ(send_fds(s[0], "a", p, 1, 0), 1);
        g = receive(s[1], 10, 100, MSG_PEEK);
        EQ(g.count, 1);
        struct got h = receive(s[1], 10, 100, 0);
        EQ(h.count, 1);
        CHECK(g.fds[0] != h.fds[0]);
        close(g.fds[0]);
        close(h.fds[0]);
        close(s[0]);
        close(s[1]);
    }
    close(p[1]);
    struct pollfd poll_end = {p[0], POLLIN, 0};
    EQ(poll(&poll_end, 1, 0), 1);
    EQ(poll_end.revents, POLLHUP);
}

CASE(descriptor_errors) {
    int s[2], many[256];
    pair(SOCK_STREAM, s);
    ERR(send_fds(s[0], "a", (int[]){99}, 1, 0), EBADF);
    ERR(send_fds(s[0], "a", (int[]){-1}, 1, 0), EBADF);
    for (int i = 0; i < 256; i++)
        many[i] = s[0];
    ERR(send_fds(s[0], "a", many, 254, 0), EINVAL);
    EQ(send_fds(s[0], "a", many, 253, 0), 1);
    struct got g = receive(s[1], 1, 4000, 0);
    EQ(g.count, 253);
    for (int i = 0; i < 253; i++)
        close(g.fds[i]);
    char control[64] = {0};
    struct iovec v = {"a", 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = 32};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = 40;
    ERR(sendmsg(s[0], &m, 0), EINVAL);
    c->cmsg_len = 8;
    ERR(sendmsg(s[0], &m, 0), EINVAL);
    c->cmsg_len = CMSG_LEN(4);
    c->cmsg_type = 77;
    ERR(sendmsg(s[0], &m, 0), EINVAL);
    c->cmsg_level = 77;
    EQ(sendmsg(s[0], &m, 0), 1);
    m.msg_iovlen = 1025;
    ERR(sendmsg(s[0], &m, 0), EMSGSIZE);
    ERR(recvmsg(s[1], &m, MSG_DONTWAIT), EMSGSIZE);
    m.msg_iovlen = 1;
    m.msg_name = control;
    m.msg_namelen = -1;
    ERR(sendmsg(s[0], &m, 0), EINVAL);
    m.msg_namelen = 0;
    m.msg_controllen = 1ul << 40;
    ERR(sendmsg(s[0], &m, 0), ENOBUFS);
    ERR(syscall(SYS_sendmsg, s[0], BAD_ADDRESS, 0), EFAULT);
    ERR(syscall(SYS_recvmsg, s[0], BAD_ADDRESS, 0), EFAULT);
    ERR(sendmsg(99, &m, 0), EBADF);
    ERR(recvmsg(99, &m, 0), EBADF);
    /* No number left: what fits is given, the rest is cut. */
    EQ(send_fds(s[0], "a", many, 2, 0), 1);
    struct rlimit {
        unsigned long cur, max;
    } limit = {6, 6};
    EQ(recv(s[1], big, 1, 0), 1);
    OK(dup2(0, 3));
    OK(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
    int lowest = dup(0), next = dup(0);
    for (int i = 0; i < 3; i++)
        dup(0);
    g = receive(s[1], 1, 100, 0);
    EQ(g.n, 1);
    EQ(g.flags, MSG_CTRUNC);
    EQ(g.count, 0);
}

CASE(descriptors_part_messages) {
    int s[2], p[2];
    OK(pipe(p));
    pair(SOCK_STREAM, s);
    EQ(write(s[0], "ab", 2), 2);
    EQ(send_fds(s[0], "cd", p, 1, 0), 2);
    EQ(send_fds(s[0], "ef", p, 2, 0), 2);
    EQ(write(s[0], "gh", 2), 2);
    struct got g = receive(s[1], 100, 100, 0);
    EQ(g.n, 4);
    EQ(g.count, 1);
    g = receive(s[1], 1, 100, 0);
    EQ(g.n, 1);
    EQ(g.count, 2);
    g = receive(s[1], 100, 100, 0);
    EQ(g.n, 3);
    EQ(g.count, 0);
    EQ(g.controllen, 0);
    /* Nothing to send them with. */
    EQ(send_fds(s[0], "", p, 1, 0), 0);
    ERR(recv(s[1], big, 1, MSG_DONTWAIT), EAGAIN);
}

CASE(descriptors_to_a_child) {
    int s[2];
    pair(SOCK_SEQPACKET, s);
    pid_t pid = fork();
    if (pid == 0) {
        close(s[0]);
        struct got g = receive(s[1], 10, 100, 0);
        EQ(g.count, 1);
        EQ(lseek(g.fds[0], 0, SEEK_CUR), 4);
        EQ(write(g.fds[0], "child", 5), 5);
        FD(f, open("other", O_RDWR | O_CREAT, 0600));
        EQ(write(f, "given", 5), 5);
        EQ(send_fds(s[1], "back", &f, 1, 0), 4);
        _exit(0);
    }
    close(s[1]);
    FD(f, open("file", O_RDWR | O_CREAT, 0600));
    EQ(write(f, "mine", 4), 4);
    EQ(send_fds(s[0], "go", &f, 1, 0), 2);
    CHILD_OK(pid);
    /* Sent by one that is gone. */
    struct got g = receive(s[0], 10, 100, 0);
    EQ(g.n, 4);
    EQ(pread(g.fds[0], big, 10, 0), 5);
    t_read_is("file", "minechild");
}

CASE(sockets_in_flight) {
    /* Circles: a socket that is sent through itself, and through each other. They must not use up anything. */
    for (int i = 0; i < 3000; i++) {
        int s[2], t[2];
        pair(i % 2 ? SOCK_STREAM : SOCK_DGRAM, s);
        EQ(send_fds(s[0], "x", s, 2, 0), 1);
        pair(SOCK_SEQPACKET, t);
        EQ(send_fds(s[0], "x", t, 2, 0), 1);
        EQ(send_fds(t[0], "x", s, 2, 0), 1);
        close(s[0]);
        close(s[1]);
        close(t[0]);
        close(t[1]);
    }
    /* One in the other, deep. */
    int at[2];
    pair(SOCK_STREAM, at);
    for (int i = 0; i < 400; i++) {
        int next[2];
        pair(SOCK_STREAM, next);
        EQ(send_fds(next[0], "x", at, 2, 0), 1);
        close(at[0]);
        close(at[1]);
        at[0] = next[0];
        at[1] = next[1];
    }
    struct got g = receive(at[1], 1, 100, 0);
    EQ(g.count, 2);
    struct got h = receive(g.fds[1], 1, 100, 0);
    EQ(h.count, 2);
    for (int i = 0; i < 2; i++) {
        close(at[i]);
        close(g.fds[i]);
        close(h.fds[i]);
    }
    /* A connection nobody accepts, with its listener's descriptor. */
    int l = listening(SOCK_STREAM, "l", 5), c = connected(SOCK_STREAM, "l");
    EQ(send_fds(c, "x", &l, 1, 0), 1);
    close(l);
    /* Linux looks for what is lost in its own time. */
    for (int i = 0; i < 500 && !(events(c) & POLLHUP); i++) {
        close(socket(AF_UNIX, SOCK_STREAM, 0));
        t_sleep_ms(10);
    }
    EQ(events(c), POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
    ERR(try_connect(socket(AF_UNIX, SOCK_STREAM, 0), "l"), ECONNREFUSED);
}

CASE(too_many_in_flight) {
    int s[2];
    if (geteuid() == 0) {
        OK(setgid(12345));
        OK(setuid(12345));
    }
    struct rlimit {
        unsigned long cur, max;
    } limit = {40, 40};
    OK(syscall(SYS_prlimit64, 0, 7, &limit, NULL));
    pair(SOCK_STREAM, s);
    int many[20], n = 0;
    for (int i = 0; i < 20; i++)
        many[i] = s[i % 2];
    while (n < 100 && send_fds(s[0], "x", many, 20, MSG_DONTWAIT) == 1)
        n++;
    EQ(errno, ETOOMANYREFS);
    CHECK(n >= 2 && n <= 4);
}

CASE(credentials) {
    int s[2];
    pair(SOCK_STREAM, s);
    struct ucred c;
    socklen_t n = sizeof c;
    OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &c, &n));
    EQ(c.pid, getpid());
    EQ(c.uid, geteuid());
    FD(u, socket(AF_UNIX, SOCK_STREAM, 0));
    OK(getsockopt(u, SOL_SOCKET, SO_PEERCRED, &c, &n));
    EQ(c.pid, 0);
    EQ(c.uid, -1u);
    /* Sent before anyone asked. */
    EQ(write(s[0], "a", 1), 1);
    EQ(int_option(s[1], SO_PASSCRED), 0);
    set_int(s[1], SO_PASSCRED, 5);
    EQ(int_option(s[1], SO_PASSCRED), 1);
    EQ(write(s[0], "b", 1), 1);
    EQ(write(s[0], "c", 1), 1);
    struct got g = receive(s[1], 10, 100, 0);
    EQ(g.n, 1);
    EQ(g.creds, 1);
    EQ(g.cred.pid, 0);
    EQ(g.cred.uid, 65534);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(write(s[0], "d", 1), 1);
        _exit(0);
    }
    CHILD_OK(pid);
    g = receive(s[1], 10, 100, 0);
    EQ(g.n, 2);
    EQ(g.cred.pid, getpid());
    EQ(g.cred.gid, getgid());
    g = receive(s[1], 10, 0, 0);
    EQ(g.n, 1);
    EQ(g.flags, MSG_CTRUNC);
    EQ(send_fds(s[0], "e", s, 1, 0), 1);
    g = receive(s[1], 10, 100, 0);
    EQ(g.creds, 1);
    EQ(g.count, 1);
    EQ(g.controllen, CMSG_SPACE(sizeof c) + CMSG_SPACE(4));
    /* Cut in the middle. */
    EQ(write(s[0], "f", 1), 1);
    g = receive(s[1], 10, CMSG_LEN(8), 0);
    EQ(g.flags, MSG_CTRUNC);
    EQ(g.controllen, CMSG_LEN(8));
}

static ssize_t send_cred(int s, int pid, unsigned uid, unsigned gid) {
    struct ucred u = {pid, uid, gid};
    char control[CMSG_SPACE(sizeof u)] = {0};
    struct iovec v = {"x", 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof u);
    memcpy(CMSG_DATA(c), &u, sizeof u);
    return sendmsg(s, &m, 0);
}

CASE(claimed_credentials) {
    NEED_ROOT();
    int s[2];
    pair(SOCK_DGRAM, s);
    set_int(s[1], SO_PASSCRED, 1);
    EQ(send_cred(s[0], getpid(), 7, 8), 1);
    struct got g = receive(s[1], 10, 100, 0);
    EQ(g.cred.pid, getpid());
    EQ(g.cred.uid, 7);
    EQ(g.cred.gid, 8);
    OK(setresgid(5, 6, 7));
    OK(setresuid(5, 6, 7));
    EQ(send_cred(s[0], getpid(), 5, 7), 1);
    EQ(send_cred(s[0], getpid(), 7, 6), 1);
    ERR(send_cred(s[0], getpid(), 0, 5), EPERM);
    ERR(send_cred(s[0], getpid(), 5, 0), EPERM);
    ERR(send_cred(s[0], 1, 5, 5), EPERM);
    struct got h = receive(s[1], 10, 100, 0);
    EQ(h.cred.uid, 5);
    EQ(h.cred.gid, 7);
    EQ(receive(s[1], 10, 100, 0).cred.uid, 7);
    EQ(write(s[0], "x", 1), 1);
    EQ(receive(s[1], 10, 100, 0).cred.uid, 5);
}

CASE(peer_credentials) {
    NEED_ROOT();
    int l = listening(SOCK_STREAM, "l", 5);
    OK(chmod("l", 0777));
    OK(chmod(".", 0755));
    int ready[2];
    OK(pipe(ready));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setresgid(5, 6, 7));
        OK(setresuid(5, 6, 7));
        int s = connected(SOCK_STREAM, "l");
        struct ucred c;
        socklen_t n = sizeof c;
        OK(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &n));
        EQ(c.pid, getppid());
        EQ(c.uid, 0);
        set_int(s, SO_PASSCRED, 1);
        EQ(write(s, "x", 1), 1);
        _exit(0);
    }
    FD(s, accept(l, NULL, NULL));
    struct ucred c;
    socklen_t n = sizeof c;
    OK(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &n));
    EQ(c.pid, pid);
    EQ(c.uid, 6);
    EQ(c.gid, 6);
    n = 4;
    OK(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &n));
    EQ(n, 4);
    CHILD_OK(pid);
}

CASE(auto_name_for_credentials) {
    int d = bound(SOCK_DGRAM, "d");
    FD(s, socket(AF_UNIX, SOCK_DGRAM, 0));
    set_int(s, SO_PASSCRED, 1);
    struct sockaddr_un a;
    socklen_t n = named(&a, "d");
    EQ(sendto(s, "x", 1, 0, (void *)&a, n), 1);
    n = sizeof a;
    EQ(recvfrom(d, big, 10, 0, (void *)&a, &n), 1);
    EQ(n, 8);
    EQ(sendto(d, "y", 1, 0, (void *)&a, n), 1);
    EQ(recv(s, big, 10, 0), 1);
    FD(c, socket(AF_UNIX, SOCK_STREAM, 0));
    set_int(c, SO_PASSCRED, 1);
    int l = listening(SOCK_STREAM, "l", 1);
    OK(try_connect(c, "l"));
    n = sizeof a;
    OK(getsockname(c, (void *)&a, &n));
    EQ(n, 8);
}

CASE(options) {
    FD(s, socket(AF_UNIX, SOCK_STREAM, 0));
    int v = 1, switches[] = {SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST, SO_DONTROUTE, SO_OOBINLINE};
    for (int i = 0; i < 5; i++) {
        EQ(int_option(s, switches[i]), 0);
        set_int(s, switches[i], 9);
        EQ(int_option(s, switches[i]), 1);
        set_int(s, switches[i], 0);
        EQ(int_option(s, switches[i]), 0);
    }
    struct linger l = {1, 5};
    socklen_t n = sizeof l;
    OK(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    ERR(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, 4), EINVAL);
    l = (struct linger){0, 0};
    OK(getsockopt(s, SOL_SOCKET, SO_LINGER, &l, &n));
    EQ(l.l_onoff, 1);
    EQ(l.l_linger, 5);
    ERR(setsockopt(s, SOL_SOCKET, SO_TYPE, &v, sizeof v), ENOPROTOOPT);
    ERR(setsockopt(s, SOL_SOCKET, SO_ERROR, &v, sizeof v), ENOPROTOOPT);
    ERR(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &v, 3), EINVAL);
    ERR(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &v, -1), EINVAL);
    ERR(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, BAD_ADDRESS, 4), EFAULT);
    ERR(setsockopt(s, SOL_SOCKET, 9999, &v, 4), ENOPROTOOPT);
    ERR(setsockopt(s, 6, 1, &v, 4), EOPNOTSUPP);
    ERR(setsockopt(0, SOL_SOCKET, SO_REUSEADDR, &v, 4), ENOTSOCK);
    n = 4;
    ERR(getsockopt(s, SOL_SOCKET, 9999, &v, &n), ENOPROTOOPT);
    ERR(getsockopt(s, 6, 1, &v, &n), EOPNOTSUPP);
    n = -1;
    ERR(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n), EINVAL);
    n = 1;
    v = 0;
    OK(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n));
    EQ(n, 1);
    EQ(v, SOCK_STREAM);
    n = 8;
    OK(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n));
    EQ(n, 4);
    EQ(int_option(s, SO_RCVLOWAT), 1);
    EQ(int_option(s, SO_SNDLOWAT), 1);
}

CASE(edge_readiness) {
    int s[2];
    pair(SOCK_STREAM | SOCK_NONBLOCK, s);
    FD(ep, epoll_create1(0));
    struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.fd = s[0]}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, s[0], &e));
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    EQ(e.events, EPOLLOUT);
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    EQ(write(s[1], "ab", 2), 2);
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    EQ(e.events, EPOLLIN | EPOLLOUT);
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    /* More data is news, though some was there. */
    EQ(write(s[1], "cd", 2), 2);
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    EQ(read(s[0], big, 1), 1);
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    while (write(s[0], big, 4096) > 0)
        ;
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    /* There is room again. */
    EQ(read(s[1], big, sizeof big) > 100000, 1);
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    CHECK(e.events & EPOLLOUT);
    OK(shutdown(s[1], SHUT_WR));
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    EQ(e.events, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    close(s[1]);
    EQ(epoll_wait(ep, &e, 1, 0), 1);
    CHECK(e.events & EPOLLHUP);
}

static void *echo(void *p) {
    int s = *(int *)p, v;
    while (recv(s, &v, sizeof v, MSG_WAITALL) == sizeof v) {
        v++;
        if (write(s, &v, sizeof v) != sizeof v)
            break;
    }
    return NULL;
}

CASE(ping_pong) {
    int kinds[2] = {SOCK_STREAM, SOCK_SEQPACKET};
    for (int k = 0; k < 2; k++) {
        int s[2], got;
        pair(kinds[k], s);
        pthread_t t;
        EQ(pthread_create(&t, NULL, echo, &s[1]), 0);
        for (int i = 0; i < 2000; i++) {
            EQ(write(s[0], &i, sizeof i), sizeof i);
            EQ(read(s[0], &got, sizeof got), sizeof got);
            EQ(got, i + 1);
        }
        OK(shutdown(s[0], SHUT_WR));
        EQ(pthread_join(t, NULL), 0);
    }
}

CASE(many_messages) {
    int s[2];
    pair(SOCK_DGRAM, s);
    struct iovec v[3] = {{"one", 3}, {"three", 5}, {"", 0}};
    struct mmsghdr m[3] = {0};
    for (int i = 0; i < 3; i++) {
        m[i].msg_hdr.msg_iov = &v[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    EQ(sendmmsg(s[0], m, 3, 0), 3);
    EQ(m[0].msg_len, 3);
    EQ(m[1].msg_len, 5);
    char text[4][8];
    struct iovec w[4];
    struct mmsghdr r[4] = {0};
    for (int i = 0; i < 4; i++) {
        w[i] = (struct iovec){text[i], i == 1 ? 2 : 8};
        r[i].msg_hdr.msg_iov = &w[i];
        r[i].msg_hdr.msg_iovlen = 1;
    }
    EQ(recvmmsg(s[1], r, 4, MSG_WAITFORONE, NULL), 3);
    EQ(r[0].msg_len, 3);
    EQ(r[1].msg_len, 2);
    EQ(r[1].msg_hdr.msg_flags, MSG_TRUNC);
    EQ(r[2].msg_len, 0);
    ERR(recvmmsg(s[1], r, 4, MSG_DONTWAIT, NULL), EAGAIN);
    struct timespec zero = {0, 0}, bad = {-1, 0};
    EQ(sendmmsg(s[0], m, 2, 0), 2);
    EQ(recvmmsg(s[1], r, 4, 0, &zero), 1);
    ERR(recvmmsg(s[1], r, 4, 0, &bad), EINVAL);
    ERR(recvmmsg(99, r, 4, 0, NULL), EBADF);
    ERR(sendmmsg(99, m, 2, 0), EBADF);
    EQ(sendmmsg(s[0], m, 0, 0), 0);
    EQ(recvmmsg(s[1], r, 0, 0, NULL), 0);
    v[1] = (struct iovec){BAD_ADDRESS, 4};
    EQ(sendmmsg(s[0], m, 3, 0), 1);
}

CASE(out_of_band) {
    int s[2];
    pair(SOCK_DGRAM, s);
    ERR(send(s[0], "x", 1, MSG_OOB), EOPNOTSUPP);
    ERR(recv(s[1], big, 1, MSG_OOB), EOPNOTSUPP);
    pair(SOCK_STREAM, s);
    EQ(send(s[0], "x", 1, MSG_OOB), 1);
    EQ(recv(s[1], big, 1, MSG_OOB), 1);
}

CASE(reopened_after_fork) {
    int s[2];
    pair(SOCK_STREAM, s);
    pid_t pid = fork();
    if (pid == 0) {
        close(s[0]);
        char c;
        EQ(read(s[1], &c, 1), 1);
        t_sleep_ms(20);
        _exit(0);
    }
    /* The child's descriptor keeps it open. */
    close(s[1]);
    EQ(write(s[0], "x", 1), 1);
    EQ(events(s[0]) & POLLHUP, 0);
    CHILD_OK(pid);
    EQ(events(s[0]) & POLLHUP, POLLHUP);
    char c;
    EQ(read(s[0], &c, 1), 0);
}

CASE(files_through_sockets) {
    int s[2];
    pair(SOCK_STREAM, s);
    FD(f, open("f", O_RDWR | O_CREAT, 0600));
    EQ(write(f, big, 50000), 50000);
    off_t at = 0;
    EQ(syscall(SYS_sendfile, s[0], f, &at, 50000), 50000);
    EQ(recv(s[1], big, sizeof big, 0), 50000);
    ERR(pread(s[0], big, 1, 0), ESPIPE);
    ERR(ftruncate(s[0], 0), EINVAL);
    ERR(fsync(s[0]), EINVAL);
    CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, s[0], 0) == MAP_FAILED);
    EQ(errno, ENODEV);
}
