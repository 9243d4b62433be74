/* Unix sockets: names, connections, the three kinds, readiness, errors. */
#include "unix.h"

CASE(making) {
    ERR(socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
    ERR(socket(AF_UNIX, 0, 0), ESOCKTNOSUPPORT);
    ERR(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
    ERR(socket(AF_UNIX, 12, 0), EINVAL);
    ERR(socket(AF_UNIX, SOCK_STREAM | 0x100000, 0), EINVAL);
    ERR(socket(AF_UNIX, SOCK_STREAM, 5), EPROTONOSUPPORT);
    FD(raw, socket(AF_UNIX, SOCK_RAW, 0));
    EQ(int_option(raw, SO_TYPE), SOCK_DGRAM);
    FD(s, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, AF_UNIX));
    EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(s, F_GETFL), O_RDWR | O_NONBLOCK);
    EQ(int_option(s, SO_TYPE), SOCK_SEQPACKET);
    EQ(int_option(s, SO_DOMAIN), AF_UNIX);
    EQ(int_option(s, SO_PROTOCOL), 0);
    EQ(int_option(s, SO_ACCEPTCONN), 0);
    struct stat st;
    OK(fstat(s, &st));
    CHECK(S_ISSOCK(st.st_mode));
    EQ(st.st_mode & 07777, 0777);
    EQ(st.st_uid, geteuid());
    char link[64], name[64], want[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", s);
    ssize_t n = readlink(link, name, sizeof name - 1);
    CHECK(n > 0);
    name[n] = 0;
    snprintf(want, sizeof want, "socket:[%lu]", (unsigned long)st.st_ino);
    CHECK(strcmp(name, want) == 0);
    ERR(open(link, O_RDWR), ENXIO);
    ERR(lseek(s, 0, SEEK_SET), ESPIPE);
    int p[2];
    ERR(socketpair(AF_UNIX, 12, 0, p), EINVAL);
    ERR(socketpair(AF_UNIX, SOCK_STREAM, 3, p), EPROTONOSUPPORT);
}

CASE(names) {
    struct sockaddr_un a, b;
    char text[sizeof a + 8];
    socklen_t n = named(&a, "name");
    FD(s, socket(AF_UNIX, SOCK_STREAM, 0));
    socklen_t len = sizeof b;
    OK(getsockname(s, (void *)&b, &len));
    EQ(len, 2);
    EQ(b.sun_family, AF_UNIX);
    ERR(getpeername(s, (void *)&b, &len), ENOTCONN);
    ERR(bind(s, (void *)&a, 1), EINVAL);
    ERR(bind(s, (void *)&a, -1), EINVAL);
    ERR(bind(s, (void *)&a, sizeof a + 1), EINVAL);
    ERR(bind(s, (void *)&a, 500), EINVAL);
    ERR(bind(s, BAD_ADDRESS, n), EFAULT);
    a.sun_family = AF_INET;
    ERR(bind(s, (void *)&a, n), EINVAL);
    named(&a, "none/name");
    ERR(bind(s, (void *)&a, sizeof a), ENOENT);
    umask(027);
    named(&a, "name");
    OK(bind(s, (void *)&a, sizeof a));
    struct stat st;
    OK(stat("name", &st));
    CHECK(S_ISSOCK(st.st_mode));
    EQ(st.st_mode & 0777, 0750);
    len = sizeof b;
    OK(getsockname(s, (void *)&b, &len));
    EQ(len, n);
    CHECK(strcmp(b.sun_path, "name") == 0);
    len = 5;
    memset(text, 'x', sizeof text);
    OK(getsockname(s, (void *)text, &len));
    EQ(len, n);
    CHECK(memcmp(text + 2, "namxx", 5) == 0);
    len = -1;
    ERR(getsockname(s, (void *)text, &len), EINVAL);
    ERR(getsockname(0, (void *)text, &len), ENOTSOCK);
    ERR(open("name", O_RDONLY), ENXIO);
    ERR(bind(s, (void *)&a, n), EADDRINUSE);
    named(&a, "other");
    ERR(bind(s, (void *)&a, sizeof a), EINVAL);
    ERR(access("other", F_OK), ENOENT);
}

CASE(longest_name) {
    struct sockaddr_un a, b;
    FD(s, socket(AF_UNIX, SOCK_DGRAM, 0));
    memset(&a, 'n', sizeof a);
    a.sun_family = AF_UNIX;
    OK(bind(s, (void *)&a, sizeof a));
    struct {
        struct sockaddr_un a;
        char more[8];
    } got;
    socklen_t len = sizeof got;
    OK(getsockname(s, (void *)&got, &len));
    EQ(len, sizeof a + 1);
    EQ(got.more[0], 0);
    FD(t, socket(AF_UNIX, SOCK_DGRAM, 0));
    EQ(sendto(t, "x", 1, 0, (void *)&a, sizeof a), 1);
    EQ(recv(s, big, 10, 0), 1);
}

CASE(abstract_names) {
    struct sockaddr_un a, b;
    FD(s, socket(AF_UNIX, SOCK_STREAM, 0));
    socklen_t n = abstract(&a, "one"), len = sizeof b;
    OK(bind(s, (void *)&a, n));
    OK(getsockname(s, (void *)&b, &len));
    EQ(len, n);
    CHECK(memcmp(&a, &b, n) == 0);
    FD(t, socket(AF_UNIX, SOCK_STREAM, 0));
    ERR(bind(t, (void *)&a, n), EADDRINUSE);
    /* The length is part of the name. */
    OK(bind(t, (void *)&a, n + 1));
    FD(c, socket(AF_UNIX, SOCK_STREAM, 0));
    ERR(connect(c, (void *)&a, n), ECONNREFUSED);
    OK(listen(s, 1));
    OK(connect(c, (void *)&a, n));
    len = sizeof b;
    OK(getpeername(c, (void *)&b, &len));
    EQ(len, n);
    close(s);
    FD(u, socket(AF_UNIX, SOCK_STREAM, 0));
    OK(bind(u, (void *)&a, n));
    /* Chosen by the kernel. */
    FD(v, socket(AF_UNIX, SOCK_DGRAM, 0));
    sa_family_t family = AF_UNIX;
    OK(bind(v, (void *)&family, sizeof family));
    len = sizeof b;
    OK(getsockname(v, (void *)&b, &len));
    EQ(len, 8);
    EQ(b.sun_path[0], 0);
    for (int i = 1; i < 6; i++)
        CHECK(strchr("0123456789abcdef", b.sun_path[i]));
    OK(bind(v, (void *)&family, sizeof family));
    ERR(bind(v, (void *)&a, n), EINVAL);
}

CASE(listening_rules) {
    FD(s, socket(AF_UNIX, SOCK_STREAM, 0));
    ERR(listen(s, 1), EINVAL);
    ERR(listen(0, 1), ENOTSOCK);
    ERR(accept(s, NULL, NULL), EINVAL);
    EQ(events(s), POLLOUT | POLLHUP);
    int d = bound(SOCK_DGRAM, "d");
    ERR(listen(d, 1), EOPNOTSUPP);
    ERR(accept(d, NULL, NULL), EOPNOTSUPP);
    EQ(events(d), POLLOUT);
    int l = listening(SOCK_STREAM, "l", 5);
    EQ(int_option(l, SO_ACCEPTCONN), 1);
    EQ(events(l), 0);
    OK(listen(l, 2));
    ERR(accept4(l, NULL, NULL, 0x10), EINVAL);
    ERR(recv(l, big, 1, 0), EINVAL);
    ERR(send(l, big, 1, 0), ENOTCONN);
    int n;
    ERR(ioctl(l, FIONREAD, &n), EINVAL);
    ERR(try_connect(s, "none"), ENOENT);
    t_write_file("file", "x");
    ERR(try_connect(s, "file"), ECONNREFUSED);
    ERR(try_connect(s, "d"), EPROTOTYPE);
    ERR(try_connect(s, "l/x"), ENOTDIR);
    ERR(try_connect(l, "l"), EINVAL);
    struct sockaddr_un a = {.sun_family = AF_UNSPEC};
    ERR(connect(s, (void *)&a, sizeof a), EINVAL);
    named(&a, "l");
    ERR(connect(s, (void *)&a, 2), EINVAL);
    ERR(connect(s, BAD_ADDRESS, 20), EFAULT);
    ERR(connect(99, (void *)&a, sizeof a), EBADF);
    ERR(connect(0, (void *)&a, sizeof a), ENOTSOCK);
    OK(try_connect(s, "l"));
    ERR(try_connect(s, "l"), EISCONN);
    ERR(listen(s, 1), EINVAL);
    EQ(events(l), POLLIN);
    fcntl(l, F_SETFL, O_NONBLOCK);
    FD(c, accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    EQ(fcntl(c, F_GETFD), FD_CLOEXEC);
    EQ(fcntl(c, F_GETFL), O_RDWR | O_NONBLOCK);
    ERR(accept(l, NULL, NULL), EAGAIN);
    ERR(accept(99, NULL, NULL), EBADF);
    close(l);
    FD(t, socket(AF_UNIX, SOCK_STREAM, 0));
    ERR(try_connect(t, "l"), ECONNREFUSED);
    OK(unlink("l"));
    ERR(try_connect(t, "l"), ENOENT);
}

CASE(stream_by_name) {
    int l = listening(SOCK_STREAM, "l", 5);
    FD(c, socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un a, b;
    socklen_t n = named(&a, "client");
    OK(bind(c, (void *)&a, n));
    OK(try_connect(c, "./l"));
    /* What is sent before accept is there after it. */
    EQ(send(c, "early", 5, 0), 5);
    socklen_t len = sizeof b;
    FD(s, accept(l, (void *)&b, &len));
    EQ(len, n);
    CHECK(strcmp(b.sun_path, "client") == 0);
    char text[32] = "";
    len = sizeof b;
    EQ(recvfrom(s, text, sizeof text, 0, (void *)&b, &len), 5);
    EQ(len, n);
    len = sizeof b;
    OK(getsockname(s, (void *)&b, &len));
    CHECK(strcmp(b.sun_path, "l") == 0);
    len = sizeof b;
    OK(getpeername(c, (void *)&b, &len));
    CHECK(strcmp(b.sun_path, "l") == 0);
    EQ(sendto(s, "x", 1, 0, (void *)&a, n), -1);
    EQ(errno, EISCONN);
    /* Without a name. */
    int u = connected(SOCK_STREAM, "l");
    len = sizeof b;
    FD(v, accept(l, (void *)&b, &len));
    EQ(len, 2);
    len = sizeof b;
    EQ(write(u, "abc", 3), 3);
    EQ(recvfrom(v, text, sizeof text, 0, (void *)&b, &len), 3);
    EQ(len, 0);
    /* The name may go. */
    OK(unlink("l"));
    EQ(write(u, "abc", 3), 3);
    EQ(read(v, text, 10), 3);
    /* Renamed, it is still found. */
    int m = listening(SOCK_STREAM, "m", 5);
    OK(rename("m", "m2"));
    OK(link("m2", "m3"));
    close(connected(SOCK_STREAM, "m2"));
    close(connected(SOCK_STREAM, "m3"));
    OK(symlink("m3", "m4"));
    close(connected(SOCK_STREAM, "m4"));
}

CASE(permission_to_connect) {
    NEED_ROOT();
    int l = listening(SOCK_STREAM, "l", 5);
    OK(chmod(".", 0755));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setgid(12345));
        OK(setuid(12345));
        FD(s, socket(AF_UNIX, SOCK_STREAM, 0));
        ERR(try_connect(s, "l"), EACCES);
        struct sockaddr_un a;
        socklen_t n = named(&a, "mine");
        ERR(bind(s, (void *)&a, n), EACCES);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(chmod("l", 0777));
    pid = fork();
    if (pid == 0) {
        OK(setgid(12345));
        OK(setuid(12345));
        close(connected(SOCK_STREAM, "l"));
        _exit(0);
    }
    CHILD_OK(pid);
}

CASE(backlog) {
    int l = listening(SOCK_STREAM, "l", 1), c[3];
    c[0] = connected(SOCK_STREAM, "l");
    c[1] = connected(SOCK_STREAM, "l");
    FD(s, socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ERR(try_connect(s, "l"), EAGAIN);
    set_timeout(s, SO_SNDTIMEO, 50);
    fcntl(s, F_SETFL, 0);
    double t = t_now();
    ERR(try_connect(s, "l"), EAGAIN);
    CHECK(t_now() - t > 0.04);
    pid_t pid = fork();
    if (pid == 0) {
        set_timeout(s, SO_SNDTIMEO, 0);
        OK(try_connect(s, "l"));
        EQ(write(s, "late", 4), 4);
        _exit(0);
    }
    t_sleep_ms(30);
    close(accept(l, NULL, NULL));
    CHILD_OK(pid);
    close(accept(l, NULL, NULL));
    FD(a, accept(l, NULL, NULL));
    EQ(read(a, big, 10), 4);
    EQ(recv(c[0], big, 1, 0), 0);
    /* Who was not accepted is told. */
    int d = connected(SOCK_STREAM, "l");
    EQ(events(d), POLLOUT);
    close(l);
    CHECK(events(d) & POLLHUP);
    ERR(recv(d, big, 1, 0), ECONNRESET);
    EQ(recv(d, big, 1, 0), 0);
}

CASE(many_clients) {
    enum { CLIENTS = 20, ROUNDS = 5 };
    int l = listening(SOCK_STREAM, "l", 4);
    pid_t pids[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            for (int r = 0; r < ROUNDS; r++) {
                int s = connected(SOCK_STREAM, "l"), got = 0, sent = i * 100 + r;
                EQ(write(s, &sent, 4), 4);
                EQ(recv(s, &got, 4, MSG_WAITALL), 4);
                EQ(got, sent + 1);
                EQ(read(s, &got, 4), 0);
                close(s);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < CLIENTS * ROUNDS; i++) {
        FD(s, accept(l, NULL, NULL));
        int got;
        EQ(recv(s, &got, 4, MSG_WAITALL), 4);
        got++;
        EQ(write(s, &got, 4), 4);
        close(s);
    }
    for (int i = 0; i < CLIENTS; i++)
        CHILD_OK(pids[i]);
}

CASE(stream_bytes) {
    int s[2];
    pair(SOCK_STREAM, s);
    char text[64] = "";
    EQ(write(s[0], "hello", 5), 5);
    EQ(send(s[0], "world", 5, MSG_MORE), 5);
    int n = -1;
    OK(ioctl(s[1], FIONREAD, &n));
    EQ(n, 10);
    OK(ioctl(s[0], SIOCOUTQ, &n));
    CHECK(n > 10);
    EQ(recv(s[1], text, 7, MSG_PEEK), 7);
    CHECK(memcmp(text, "hellowo", 7) == 0);
    EQ(recv(s[1], text, sizeof text, 0), 10);
    CHECK(memcmp(text, "helloworld", 10) == 0);
    OK(ioctl(s[0], SIOCOUTQ, &n));
    EQ(n, 0);
    ERR(recv(s[1], text, 1, MSG_DONTWAIT), EAGAIN);
    EQ(read(s[1], text, 0), 0);
    EQ(write(s[0], text, 0), 0);
    EQ(send(s[0], text, 0, 0), 0);
    ERR(recv(s[1], text, 1, MSG_DONTWAIT), EAGAIN);
    struct iovec v[3] = {{"ab", 2}, {NULL, 0}, {"cde", 3}}, w[2] = {{text, 1}, {text + 8, 20}};
    EQ(writev(s[0], v, 3), 5);
    EQ(readv(s[1], w, 2), 5);
    CHECK(text[0] == 'a' && memcmp(text + 8, "bcde", 4) == 0);
    ERR(send(s[0], BAD_ADDRESS, 3, 0), EFAULT);
    EQ(write(s[0], "xyz", 3), 3);
    ERR(recv(s[1], BAD_ADDRESS, 3, 0), EFAULT);
}

CASE(waitall) {
    int s[2];
    pair(SOCK_STREAM, s);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 5; i++) {
            EQ(write(s[0], "0123456789", 10), 10);
            t_sleep_ms(5);
        }
        _exit(0);
    }
    char text[64];
    EQ(recv(s[1], text, 35, MSG_WAITALL), 35);
    close(s[0]);
    EQ(recv(s[1], text, 35, MSG_WAITALL), 15);
    EQ(recv(s[1], text, 35, MSG_WAITALL), 0);
    CHILD_OK(pid);
}

CASE(full_buffers_both_ways) {
    int s[2];
    pair(SOCK_STREAM, s);
    enum { TOTAL = 3 << 20 };
    pid_t pid = fork();
    if (pid == 0) {
        /* Echoes, with its own sizes. */
        size_t done = 0;
        while (done < TOTAL) {
            ssize_t n = read(s[1], big, 70001);
            CHECK(n > 0);
            for (ssize_t at = 0; at < n;) {
                ssize_t w = write(s[1], big + at, n - at);
                CHECK(w > 0);
                at += w;
            }
            done += n;
        }
        _exit(0);
    }
    fcntl(s[0], F_SETFL, O_NONBLOCK);
    static unsigned char out[100000], in[100000];
    size_t sent = 0, got = 0;
    while (got < TOTAL) {
        struct pollfd p = {s[0], POLLIN | (sent < TOTAL ? POLLOUT : 0), 0};
        EQ(poll(&p, 1, 10000), 1);
        if (p.revents & POLLOUT) {
            size_t n = TOTAL - sent < sizeof out ? TOTAL - sent : sizeof out;
            for (size_t i = 0; i < n; i++)
                out[i] = (sent + i) * 7 >> 3;
            ssize_t w = send(s[0], out, n, 0);
            CHECK(w > 0 || errno == EAGAIN);
            sent += w > 0 ? w : 0;
        }
        if (p.revents & POLLIN) {
            ssize_t n = recv(s[0], in, sizeof in, 0);
            CHECK(n > 0);
            for (ssize_t i = 0; i < n; i++)
                EQ(in[i], (unsigned char)((got + i) * 7 >> 3));
            got += n;
        }
    }
    CHILD_OK(pid);
}

CASE(one_long_write) {
    int s[2];
    pair(SOCK_STREAM, s);
    pid_t pid = fork();
    if (pid == 0) {
        close(s[1]);
        for (size_t i = 0; i < sizeof big; i++)
            big[i] = i % 251;
        EQ(write(s[0], big, sizeof big), sizeof big);
        _exit(0);
    }
    close(s[0]);
    static char in[300000];
    size_t got = 0;
    for (ssize_t n; (n = read(s[1], in, got % 2 ? 5000 : sizeof in)) > 0; got += n)
        for (ssize_t i = 0; i < n; i++)
            EQ(in[i], (char)((got + i) % 251));
    EQ(got, sizeof big);
    CHILD_OK(pid);
}

CASE(buffer_sizes) {
    int s[2];
    pair(SOCK_STREAM | SOCK_NONBLOCK, s);
    EQ(int_option(s[0], SO_SNDBUF), 212992);
    EQ(int_option(s[0], SO_RCVBUF), 212992);
    set_int(s[0], SO_SNDBUF, 1);
    EQ(int_option(s[0], SO_SNDBUF), 4608);
    set_int(s[0], SO_RCVBUF, 1);
    EQ(int_option(s[0], SO_RCVBUF), 2304);
    set_int(s[0], SO_SNDBUF, 10000);
    EQ(int_option(s[0], SO_SNDBUF), 20000);
    ssize_t n = 0, total = 0;
    while ((n = write(s[0], big, 1000)) > 0)
        total += n;
    EQ(errno, EAGAIN);
    EQ(total, 9000);
    EQ(events(s[0]), 0);
    EQ(read(s[1], big, 5000), 5000);
    EQ(events(s[0]), 0);
    EQ(read(s[1], big, 2000), 2000);
    EQ(events(s[0]), POLLOUT);
}

CASE(closing_streams) {
    int s[2];
    char c;
    pair(SOCK_STREAM, s);
    EQ(events(s[0]), POLLOUT);
    close(s[1]);
    EQ(events(s[0]), POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
    EQ(read(s[0], &c, 1), 0);
    signal(SIGPIPE, SIG_IGN);
    ERR(write(s[0], "x", 1), EPIPE);
    ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    close(s[0]);
    /* Unread data make it a reset. */
    pair(SOCK_STREAM, s);
    EQ(write(s[0], "x", 1), 1);
    EQ(write(s[1], "y", 1), 1);
    close(s[1]);
    EQ(events(s[0]), POLLIN | POLLOUT | POLLHUP | POLLRDHUP | POLLERR);
    EQ(int_option(s[0], SO_ERROR), ECONNRESET);
    EQ(int_option(s[0], SO_ERROR), 0);
    EQ(read(s[0], &c, 1), 1);
    EQ(read(s[0], &c, 1), 0);
    close(s[0]);
    pair(SOCK_STREAM, s);
    EQ(write(s[0], "x", 1), 1);
    close(s[1]);
    ERR(read(s[0], &c, 1), ECONNRESET);
    EQ(read(s[0], &c, 1), 0);
    close(s[0]);
    pair(SOCK_SEQPACKET, s);
    EQ(write(s[0], "x", 1), 1);
    EQ(write(s[1], "y", 1), 1);
    close(s[1]);
    ERR(read(s[0], &c, 1), ECONNRESET);
    EQ(read(s[0], &c, 1), 1);
    EQ(read(s[0], &c, 1), 0);
}

static int signalled;
static void on_pipe(int number) { signalled = number; }

CASE(sigpipe) {
    signal(SIGPIPE, on_pipe);
    int s[2];
    int kinds[3] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (int i = 0; i < 3; i++) {
        pair(kinds[i], s);
        OK(shutdown(s[0], SHUT_WR));
        signalled = 0;
        ERR(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
        EQ(signalled, 0);
        ERR(send(s[0], "x", 1, 0), EPIPE);
        EQ(signalled, i == 0 ? SIGPIPE : 0);
        ERR(write(s[0], "x", 1), EPIPE);
        close(s[0]);
        close(s[1]);
    }
}

CASE(shutting_down) {
    int s[2];
    char c;
    pair(SOCK_STREAM, s);
    ERR(shutdown(s[0], 3), EINVAL);
    ERR(shutdown(s[0], -1), EINVAL);
    EQ(write(s[0], "x", 1), 1);
    OK(shutdown(s[0], SHUT_WR));
    EQ(events(s[0]), POLLOUT);
    EQ(events(s[1]), POLLIN | POLLOUT | POLLRDHUP);
    EQ(read(s[1], &c, 1), 1);
    EQ(read(s[1], &c, 1), 0);
    EQ(write(s[1], "y", 1), 1);
    EQ(events(s[0]), POLLIN | POLLOUT);
    EQ(read(s[0], &c, 1), 1);
    OK(shutdown(s[0], SHUT_RD));
    EQ(events(s[0]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    EQ(events(s[1]), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    EQ(read(s[0], &c, 1), 0);
    signal(SIGPIPE, SIG_IGN);
    ERR(write(s[1], "y", 1), EPIPE);
    /* An unconnected one may be shut down, too. */
    FD(u, socket(AF_UNIX, SOCK_STREAM, 0));
    OK(shutdown(u, SHUT_RDWR));
    FD(d, socket(AF_UNIX, SOCK_DGRAM, 0));
    OK(shutdown(d, SHUT_RD));
    EQ(recv(d, &c, 1, 0), 0);
    ERR(recv(d, &c, 1, MSG_DONTWAIT), EAGAIN);
    /* It wakes who waits. */
    pair(SOCK_STREAM, s);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(read(s[1], &c, 1), 0);
        _exit(0);
    }
    t_sleep_ms(20);
    OK(shutdown(s[0], SHUT_WR));
    CHILD_OK(pid);
}

CASE(packets_in_order) {
    int s[2];
    char text[64];
    pair(SOCK_SEQPACKET, s);
    EQ(send(s[0], "one", 3, 0), 3);
    EQ(send(s[0], "twotwo", 6, MSG_EOR), 6);
    EQ(send(s[0], "", 0, 0), 0);
    EQ(send(s[0], "four", 4, 0), 4);
    int n;
    OK(ioctl(s[1], FIONREAD, &n));
    EQ(n, 13);
    EQ(recv(s[1], text, 2, MSG_PEEK), 2);
    EQ(recv(s[1], text, 2, MSG_PEEK | MSG_TRUNC), 3);
    EQ(recv(s[1], text, sizeof text, 0), 3);
    struct got g = receive(s[1], 4, 0, 0);
    EQ(g.n, 4);
    EQ(g.flags, MSG_TRUNC);
    EQ(recv(s[1], text, sizeof text, 0), 0);
    EQ(read(s[1], text, 0), 0);
    EQ(read(s[1], text, sizeof text), 4);
    ERR(recv(s[1], text, 1, MSG_DONTWAIT), EAGAIN);
    /* An address does not matter. */
    EQ(sendto(s[0], "x", 1, 0, (void *)"\x01\0none", 6), 1);
    ERR(send(s[0], big, sizeof big, 0), EMSGSIZE);
    FD(u, socket(AF_UNIX, SOCK_SEQPACKET, 0));
    ERR(recv(u, text, 1, 0), ENOTCONN);
    ERR(send(u, text, 1, 0), ENOTCONN);
    EQ(events(u), POLLOUT | POLLHUP);
    int l = listening(SOCK_SEQPACKET, "l", 3);
    OK(try_connect(u, "l"));
    EQ(write(u, "ab", 2), 2);
    EQ(write(u, "cd", 2), 2);
    FD(a, accept(l, NULL, NULL));
    EQ(read(a, text, 10), 2);
    EQ(read(a, text, 1), 1);
    ERR(recv(a, text, 10, MSG_DONTWAIT), EAGAIN);
    close(u);
    EQ(read(a, text, 10), 0);
}

CASE(datagrams) {
    int d = bound(SOCK_DGRAM, "d"), e = bound(SOCK_DGRAM, "e");
    struct sockaddr_un a, b;
    socklen_t n = named(&a, "d"), len = sizeof b;
    char text[64] = "";
    EQ(sendto(e, "hello", 5, 0, (void *)&a, n), 5);
    EQ(sendto(e, "", 0, 0, (void *)&a, n), 0);
    EQ(events(d), POLLIN | POLLOUT);
    int count;
    OK(ioctl(d, FIONREAD, &count));
    EQ(count, 5);
    EQ(recvfrom(d, text, 3, MSG_TRUNC, (void *)&b, &len), 5);
    CHECK(strcmp(b.sun_path, "e") == 0);
    EQ(len, offsetof(struct sockaddr_un, sun_path) + 2);
    len = sizeof b;
    EQ(recvfrom(d, text, 3, 0, (void *)&b, &len), 0);
    ERR(recvfrom(d, text, 3, MSG_DONTWAIT, (void *)&b, &len), EAGAIN);
    ERR(send(e, "x", 1, 0), ENOTCONN);
    ERR(sendto(e, "x", 1, 0, (void *)&a, 1), EINVAL);
    ERR(sendto(e, "x", 1, 0, BAD_ADDRESS, n), EFAULT);
    ERR(sendto(e, "x", 1, 0, (void *)&a, 500), EINVAL);
    ERR(sendto(99, "x", 1, 0, (void *)&a, n), EBADF);
    named(&b, "none");
    ERR(sendto(e, "x", 1, 0, (void *)&b, n + 3), ENOENT);
    int l = listening(SOCK_STREAM, "l", 1);
    named(&b, "l");
    ERR(sendto(e, "x", 1, 0, (void *)&b, n), EPROTOTYPE);
    ERR(sendto(e, big, 212961, 0, (void *)&a, n), EMSGSIZE);
    EQ(sendto(e, big, 212960, 0, (void *)&a, n), 212960);
    EQ(recv(d, big, sizeof big, 0), 212960);
    /* From one without a name. */
    FD(u, socket(AF_UNIX, SOCK_DGRAM, 0));
    EQ(sendto(u, "x", 1, 0, (void *)&a, n), 1);
    len = sizeof b;
    EQ(recvfrom(d, text, 3, 0, (void *)&b, &len), 1);
    EQ(len, 0);
    EQ(sendto(u, "x", 1, 0, (void *)&a, n), 1);
    ERR(recv(d, BAD_ADDRESS, 1, 0), EFAULT);
    close(d);
    ERR(sendto(e, "x", 1, 0, (void *)&a, n), ECONNREFUSED);
    /* To itself. */
    named(&b, "e");
    for (int i = 0; i < 20; i++)
        EQ(sendto(e, "x", 1, 0, (void *)&b, n), 1);
}

CASE(datagram_peers) {
    int d = bound(SOCK_DGRAM, "d"), e = bound(SOCK_DGRAM, "e"), f = bound(SOCK_DGRAM, "f");
    char text[8];
    struct sockaddr_un a;
    socklen_t n = named(&a, "e");
    OK(try_connect(d, "e"));
    EQ(send(d, "x", 1, 0), 1);
    /* d hears from e only. */
    OK(try_connect(e, "d"));
    ERR(sendto(f, "x", 1, 0, (void *)&a, n), EPERM);
    ERR(try_connect(f, "e"), EPERM);
    EQ(recv(e, text, 8, 0), 1);
    EQ(send(e, "yy", 2, 0), 2);
    EQ(recv(d, text, 8, 0), 2);
    /* Another address for one message. */
    n = named(&a, "f");
    EQ(sendto(d, "z", 1, 0, (void *)&a, n), 1);
    EQ(recv(f, text, 8, 0), 1);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    EQ(send(e, "lost", 4, 0), 4);
    OK(connect(d, &none, sizeof none));
    ERR(send(d, "x", 1, 0), ENOTCONN);
    ERR(recv(d, text, 8, MSG_DONTWAIT), EAGAIN);
    socklen_t len = sizeof a;
    ERR(getpeername(d, (void *)&a, &len), ENOTCONN);
    EQ(int_option(e, SO_ERROR), ECONNRESET);
    close(d);
    ERR(send(e, "x", 1, 0), ECONNREFUSED);
    ERR(send(e, "x", 1, 0), ENOTCONN);
    EQ(events(e), POLLOUT);
}

CASE(datagram_queue) {
    int d = bound(SOCK_DGRAM, "d");
    FD(s, socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    OK(try_connect(s, "d"));
    int n = 0;
    while (send(s, "x", 1, 0) == 1)
        n++;
    EQ(errno, EAGAIN);
    EQ(events(s), 0);
    FD(other, socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un a;
    socklen_t len = named(&a, "d");
    set_timeout(other, SO_SNDTIMEO, 30);
    ERR(sendto(other, "x", 1, 0, (void *)&a, len), EAGAIN);
    FD(ep, epoll_create1(0));
    struct epoll_event e = {EPOLLOUT | EPOLLET, {0}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    EQ(epoll_wait(ep, &e, 1, 0), 0);
    char c;
    EQ(recv(d, &c, 1, 0), 1);
    EQ(epoll_wait(ep, &e, 1, 1000), 1);
    EQ(events(s), POLLOUT);
    EQ(send(s, "y", 1, 0), 1);
    /* A sender that waits. */
    set_timeout(other, SO_SNDTIMEO, 0);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(sendto(other, "z", 1, 0, (void *)&a, len), 1);
        _exit(0);
    }
    t_sleep_ms(20);
    for (int i = 0; i < n; i++)
        EQ(recv(d, &c, 1, 0), 1);
    CHILD_OK(pid);
    EQ(recv(d, &c, 1, 0), 1);
    EQ(c, 'z');
}

