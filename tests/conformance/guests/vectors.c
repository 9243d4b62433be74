/* Vectors and arrays, of every length that is handed over in another way: writev(2), poll(2), epoll_wait(2). */
#include "t.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/uio.h>

static char bytes[200000], back[200000];

static void fill_bytes(void) {
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7 + i / 251);
}

/* Entries of `size` bytes and the next, and the next, each at an odd place. */
static size_t entries(struct iovec *v, int n, size_t size) {
    size_t at = 1;
    for (int i = 0; i < n; i++, size++) {
        v[i] = (struct iovec){bytes + at, size};
        at += size;
    }
    return at - 1;
}

CASE(writev_of_any_length) {
    static const size_t sizes[] = {0, 1, 13, 64, 500, 5000};
    struct iovec v[24];
    int fd = memfd_create("v", 0);
    fill_bytes();
    for (int n = 0; n <= 24; n++)
        for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            size_t all = entries(v, n, sizes[k]);
            EQ(ftruncate(fd, 0), 0);
            EQ(lseek(fd, 0, SEEK_SET), 0);
            EQ(writev(fd, v, n), all);
            EQ(pread(fd, back, sizeof back, 0), all);
            CHECK(memcmp(back, bytes + 1, all) == 0);
            EQ(pwritev(fd, v, n, 3), all);
            EQ(pread(fd, back, sizeof back, 3), all);
            CHECK(memcmp(back, bytes + 1, all) == 0);
        }
}

CASE(writev_of_long_entries) {
    static const size_t sizes[][4] = {
        {65536, 1, 0, 65536}, {65537, 5, 70000, 0}, {1, 65535, 1, 60000}, {0, 100000, 0, 90000}, {40000, 40000, 40000, 40000}};
    struct iovec v[4];
    int fd = memfd_create("v", 0);
    fill_bytes();
    for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t all = 0;
        for (int i = 0; i < 4; i++) {
            v[i] = (struct iovec){bytes + all, sizes[k][i]};
            all += sizes[k][i];
        }
        EQ(lseek(fd, 0, SEEK_SET), 0);
        EQ(writev(fd, v, 4), all);
        EQ(pread(fd, back, all, 0), all);
        CHECK(memcmp(back, bytes, all) == 0);
    }
}

CASE(writev_where_memory_ends) {
    void *volatile nowhere = (void *)8;
    int p[2];
    OK(pipe2(p, O_NONBLOCK));
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(two, 'x', 4096);
    OK(munmap(two + 4096, 4096));
    struct iovec empty[] = {{NULL, 0}, {"ab", 2}, {(void *)8, 0}, {"c", 1}};
    EQ(writev(p[1], empty, 4), 3);
    EQ(read(p[0], back, 10), 3);
    CHECK(memcmp(back, "abc", 3) == 0);
    struct iovec bad[] = {{(void *)8, 5}, {"ab", 2}};
    ERR(writev(p[1], bad, 2), EFAULT);
    ERR(read(p[0], back, 10), EAGAIN);
    /* The vector itself goes over the end. */
    struct iovec *last = (struct iovec *)(two + 4096 - sizeof *last);
    *last = (struct iovec){two, 7};
    EQ(writev(p[1], last, 1), 7);
    EQ(read(p[0], back, 10), 7);
    ERR(writev(p[1], last, 2), EFAULT);
    ERR(read(p[0], back, 10), EAGAIN);
    ERR(writev(p[1], nowhere, 1), EFAULT);
    ERR(writev(p[1], nowhere, 0x7fffffff), EINVAL);
    EQ(writev(p[1], nowhere, 0), 0);
}

enum { PIPES = 150 };
static int in[PIPES], out[PIPES];

static void many_pipes(void) {
    for (int i = 0; i < PIPES; i++) {
        int p[2];
        OK(pipe(p));
        in[i] = p[0], out[i] = p[1];
    }
}

CASE(epoll_of_many) {
    struct epoll_event got[PIPES + 2];
    many_pipes();
    int ep = epoll_create1(0);
    for (int i = 0; i < PIPES; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x100000000u * i + 5};
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, in[i], &e));
    }
    for (int ready = 1; ready <= PIPES; ready++) {
        EQ(write(out[ready - 1], "x", 1), 1);
        memset(got, 0xee, sizeof got);
        EQ(epoll_wait(ep, got, PIPES + 1, 0), ready);
        char seen[PIPES] = {0};
        for (int i = 0; i < ready; i++) {
            EQ(got[i].events, EPOLLIN);
            EQ(got[i].data.u64 & 0xffffffff, 5);
            CHECK(got[i].data.u64 >> 32 < (unsigned)ready && !seen[got[i].data.u64 >> 32]++);
        }
        EQ(got[ready].events, 0xeeeeeeee);
    }
    /* A few at a time, each comes in its turn. */
    int sum = 0;
    for (int i = 0; i < PIPES / 3; i++) {
        EQ(epoll_wait(ep, got, 3, 0), 3);
        for (int k = 0; k < 3; k++)
            sum += got[k].data.u64 >> 32;
    }
    EQ(sum, PIPES * (PIPES - 1) / 2);
}

CASE(poll_of_many) {
    struct pollfd p[PIPES];
    many_pipes();
    for (int n = 1; n <= PIPES; n += 7) {
        for (int i = 0; i < n; i++)
            p[i] = (struct pollfd){.fd = i % 5 == 4 ? -1 : i % 7 == 6 ? 900 : in[i], .events = POLLIN | POLLPRI, .revents = 77};
        int want = 0;
        EQ(write(out[n - 1], "x", 1), 1);
        for (int i = 0; i < n; i++)
            want += i % 5 == 4 ? 0 : i % 7 == 6 ? 1 : i % 7 == 0;
        EQ(poll(p, n, 0), want);
        for (int i = 0; i < n; i++) {
            EQ(p[i].events, POLLIN | POLLPRI);
            EQ(p[i].revents, i % 5 == 4 ? 0 : i % 7 == 6 ? POLLNVAL : i % 7 == 0 ? POLLIN : 0);
        }
    }
}
