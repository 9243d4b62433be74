/* Loop devices: loop(4). Each case takes free ones and gives them back. */
#include "t.h"
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, uint64_t)
#endif
#define MIB (1 << 20)

static char dev[32];
static int number;

static int opened_control(void) {
    if (geteuid() != 0)
        SKIP("needs root");
    int control = open("/dev/loop-control", O_RDWR);
    if (control < 0)
        SKIP("there are no loop devices");
    return control;
}

/* A device nobody had, bound to `backing`, and open: others may be looking for one too. Without a `config` it goes when it
   is closed, so that a case that fails leaves nothing behind. */
static int bound(int backing, int flags, const struct loop_config *config) {
    int control = opened_control();
    for (int tries = 0; tries < 50; tries++) {
        number = ioctl(control, LOOP_CTL_GET_FREE);
        CHECK(number >= 0);
        snprintf(dev, sizeof dev, "/dev/loop%d", number);
        int fd = open(dev, flags);
        if (fd < 0)
            continue;
        struct loop_config own = {.info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
        if (config)
            own = *config;
        own.fd = backing;
        if (ioctl(fd, LOOP_CONFIGURE, &own) == 0) {
            close(control);
            return fd;
        }
        CHECK(errno == EBUSY);
        close(fd);
    }
    t_fail("no device is free");
}

static int image(const char *name, long size) {
    FD(fd, open(name, O_RDWR | O_CREAT, 0600));
    OK(ftruncate(fd, size));
    return fd;
}

static uint64_t size_of(int fd) {
    uint64_t n = 77;
    OK(ioctl(fd, BLKGETSIZE64, &n));
    return n;
}

static struct loop_info64 status_of(int fd) {
    struct loop_info64 info;
    memset(&info, 0x55, sizeof info);
    OK(ioctl(fd, LOOP_GET_STATUS64, &info));
    return info;
}

CASE(what_is_written_is_in_the_file) {
    int f = image("f", MIB), d = bound(f, O_RDWR, NULL);
    char b[600], got[600];
    memset(b, 'x', sizeof b);
    EQ(pwrite(d, b, sizeof b, 4000), sizeof b);
    OK(fsync(d));
    EQ(pread(f, got, sizeof got, 4000), sizeof got);
    EQ(memcmp(b, got, sizeof b), 0);
    EQ(pread(d, got, sizeof got, 4000), sizeof got);
    EQ(memcmp(b, got, sizeof b), 0);
    EQ(pwrite(d, b, sizeof b, MIB - 100), 100);
    ERR(pwrite(d, b, 1, MIB), ENOSPC);
    EQ(pwrite(d, b, 0, MIB), 0);
    EQ(pread(d, got, sizeof got, MIB - 10), 10);
    EQ(pread(d, got, sizeof got, MIB), 0);
    EQ(lseek(d, 0, SEEK_END), MIB);
    EQ(read(d, got, 1), 0);
    ERR(write(d, b, 1), ENOSPC);
    EQ(lseek(d, -5, SEEK_CUR), MIB - 5);
    EQ(read(d, got, 50), 5);
    ERR(lseek(d, MIB + 1, SEEK_SET), EINVAL);
    ERR(lseek(d, 0, SEEK_DATA), EINVAL);
    ERR(lseek(d, 0, SEEK_HOLE), EINVAL);
    ERR(ftruncate(d, 512), EINVAL);
    ERR(truncate(dev, 512), EINVAL);
    struct iovec v = {"app", 3};
    EQ(pwritev2(d, &v, 1, 8192, RWF_APPEND), 3);
    EQ(pread(d, got, 3, 8192), 3);
    EQ(memcmp(got, "app", 3), 0);
    OK(readahead(d, 0, 4096));
    OK(posix_fadvise(d, 0, 0, POSIX_FADV_SEQUENTIAL));
    OK(sync_file_range(d, 0, 4096, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    OK(lseek(d, 0, SEEK_SET));
    EQ(sendfile(f, d, NULL, 512), 512);
    ERR(copy_file_range(d, NULL, f, NULL, 512, 0), EINVAL);
    ERR(ioctl(f, FICLONE, d), EXDEV);
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
}

CASE(it_is_a_block_device) {
    int d = bound(image("f", MIB), O_RDWR, NULL);
    struct stat st, named;
    OK(fstat(d, &st));
    OK(stat(dev, &named));
    CHECK(S_ISBLK(st.st_mode) && st.st_rdev == makedev(7, number) && st.st_size == 0 && st.st_ino == named.st_ino);
    OK(stat("/dev/loop-control", &st));
    CHECK(S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 237));
    FD(again, open(dev, O_RDWR | O_TRUNC | O_APPEND));
    EQ(size_of(again), MIB);
    EQ(write(again, "abc", 3), 3);
    EQ(lseek(again, 0, SEEK_CUR), 3);
    CHECK(fcntl(again, F_GETFL) & O_APPEND);
    char got[4];
    EQ(pread(d, got, 4, 0), 4);
    EQ(memcmp(got, "abc", 4), 0);
    EQ(mknod("node", S_IFBLK | 0600, makedev(7, number)), 0);
    FD(node, open("node", O_RDONLY));
    EQ(pread(node, got, 4, 0), 4);
    EQ(memcmp(got, "abc", 4), 0);
    ERR(write(node, "x", 1), EBADF);
    ERR(open(dev, O_RDONLY | O_DIRECTORY), ENOTDIR);
    ERR(mkdir(dev, 0700), EEXIST);
    ERR(readlink(dev, got, 4), EINVAL);
    OK(flock(d, LOCK_EX));
    ERR(flock(again, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    OK(ioctl(d, LOOP_CLR_FD));
}

static volatile sig_atomic_t too_long;
static void on_xfsz(int sig) { too_long++; }

CASE(a_limit_of_files_is_none_of_devices) {
    int f = image("f", MIB), d = bound(f, O_RDWR, NULL);
    struct rlimit small = {4096, 4096};
    signal(SIGXFSZ, on_xfsz);
    OK(setrlimit(RLIMIT_FSIZE, &small));
    EQ(pwrite(d, "abc", 3, 8192), 3);
    ERR(pwrite(f, "abc", 3, 8192), EFBIG);
    EQ(too_long, 1);
    OK(fallocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096));
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(descriptors_that_cannot_be_stood_on) {
    int f = image("f", MIB), d = bound(f, O_RDWR, NULL), ends[2];
    ERR(ioctl(d, LOOP_SET_FD, f), EBUSY);
    struct loop_config config = {.fd = f};
    ERR(ioctl(d, LOOP_CONFIGURE, &config), EBUSY);
    ERR(ioctl(d, LOOP_CONFIGURE, BAD_ADDRESS), EFAULT);
    int e = bound(f, O_RDWR, NULL);
    ERR(ioctl(e, LOOP_CHANGE_FD, d), EINVAL);
    ERR(ioctl(e, LOOP_CHANGE_FD, 999), EBADF);
    OK(ioctl(e, LOOP_CLR_FD));
    ERR(ioctl(e, LOOP_CLR_FD), ENXIO);
    ERR(open(dev, O_RDONLY), ENXIO);
    close(e);
    FD(free, open(dev, O_RDWR));
    if (ioctl(free, LOOP_GET_STATUS64, &config.info) != -1)
        SKIP("another took the device");
    OK(pipe(ends));
    ERR(ioctl(free, LOOP_SET_FD, ends[0]), EINVAL);
    ERR(ioctl(free, LOOP_SET_FD, 999), EBADF);
    ERR(ioctl(free, LOOP_SET_FD, open(".", O_RDONLY)), EINVAL);
    ERR(ioctl(free, LOOP_SET_FD, open("f", O_PATH)), EBADF);
    ERR(ioctl(free, LOOP_SET_FD, free), EBADF);
    config.fd = f;
    config.info.lo_flags = 1 << 20;
    ERR(ioctl(free, LOOP_CONFIGURE, &config), EINVAL);
    config.info.lo_flags = 0;
    config.block_size = 300;
    ERR(ioctl(free, LOOP_CONFIGURE, &config), EINVAL);
    config.block_size = 0;
    config.info.lo_encrypt_type = LO_CRYPT_XOR;
    ERR(ioctl(free, LOOP_CONFIGURE, &config), EINVAL);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(nothing_is_bound) {
    int d = bound(image("f", MIB), O_RDWR, NULL);
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
    FD(e, open(dev, O_RDWR));
    struct loop_info64 info = {0};
    struct loop_info old = {0};
    if (ioctl(e, LOOP_GET_STATUS64, &info) == 0)
        SKIP("another took the device");
    EQ(errno, ENXIO);
    ERR(ioctl(e, LOOP_GET_STATUS, &old), ENXIO);
    ERR(ioctl(e, LOOP_SET_STATUS64, &info), ENXIO);
    ERR(ioctl(e, LOOP_SET_STATUS, &old), ENXIO);
    ERR(ioctl(e, LOOP_CLR_FD), ENXIO);
    ERR(ioctl(e, LOOP_SET_CAPACITY), ENXIO);
    ERR(ioctl(e, LOOP_SET_DIRECT_IO, 1), ENXIO);
    ERR(ioctl(e, LOOP_SET_BLOCK_SIZE, 1024), ENXIO);
    ERR(ioctl(e, LOOP_CHANGE_FD, e), ENXIO);
    EQ(size_of(e), 0);
    char byte;
    EQ(read(e, &byte, 1), 0);
    ERR(lseek(e, 1, SEEK_SET), EINVAL);
    uint64_t range[2] = {0, 512};
    ERR(ioctl(e, BLKZEROOUT, range), EINVAL);
}

CASE(offset_limit_and_capacity) {
    int f = image("f", MIB);
    struct loop_config config = {.info = {.lo_offset = 1024, .lo_sizelimit = 100000}};
    int d = bound(f, O_RDWR, &config);
    EQ(size_of(d), 100000 / 512 * 512);
    struct loop_info64 info = status_of(d);
    struct stat st;
    OK(fstat(f, &st));
    CHECK(info.lo_offset == 1024 && info.lo_sizelimit == 100000 && info.lo_number == (uint32_t)number);
    CHECK(info.lo_inode == st.st_ino && info.lo_device == st.st_dev && info.lo_rdevice == 0);
    CHECK(info.lo_flags == 0 && info.lo_encrypt_type == 0 && info.lo_file_name[0] == 0 && info.lo_init[1] == 0);
    EQ(pwrite(d, "begin", 5, 0), 5);
    OK(fsync(d));
    char got[8];
    EQ(pread(f, got, 5, 1024), 5);
    EQ(memcmp(got, "begin", 5), 0);
    info.lo_offset = 100;
    info.lo_sizelimit = 0;
    strcpy((char *)info.lo_file_name, "a name");
    OK(ioctl(d, LOOP_SET_STATUS64, &info));
    EQ(size_of(d), (MIB - 100) / 512 * 512);
    info = status_of(d);
    CHECK(strcmp((char *)info.lo_file_name, "a name") == 0);
    info.lo_offset = 1 << 30;
    OK(ioctl(d, LOOP_SET_STATUS64, &info));
    EQ(size_of(d), 0);
    info.lo_offset = 0;
    OK(ioctl(d, LOOP_SET_STATUS64, &info));
    OK(ftruncate(f, 2 * MIB));
    EQ(size_of(d), MIB);
    OK(ioctl(d, LOOP_SET_CAPACITY));
    EQ(size_of(d), 2 * MIB);
    OK(ftruncate(f, MIB));
    ERR(pread(d, got, 8, MIB + MIB / 2), EIO);
    OK(ioctl(d, LOOP_SET_CAPACITY));
    EQ(size_of(d), MIB);
    info.lo_offset = 1ull << 63;
    ERR(ioctl(d, LOOP_SET_STATUS64, &info), EOVERFLOW);
    info.lo_offset = 0;
    info.lo_encrypt_key_size = 33;
    ERR(ioctl(d, LOOP_SET_STATUS64, &info), EINVAL);
    ERR(ioctl(d, LOOP_SET_STATUS64, BAD_ADDRESS), EFAULT);
    ERR(ioctl(d, LOOP_GET_STATUS64, BAD_ADDRESS), EFAULT);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(status_as_it_was_told_once) {
    int d = bound(image("f", MIB), O_RDWR, NULL);
    struct loop_info info = {.lo_offset = 512, .lo_flags = LO_FLAGS_AUTOCLEAR};
    strcpy(info.lo_name, "old");
    OK(ioctl(d, LOOP_SET_STATUS, &info));
    memset(&info, 0x55, sizeof info);
    OK(ioctl(d, LOOP_GET_STATUS, &info));
    CHECK(info.lo_number == number && info.lo_offset == 512 && info.lo_flags == LO_FLAGS_AUTOCLEAR);
    CHECK(strcmp(info.lo_name, "old") == 0 && info.lo_encrypt_type == 0 && info.reserved[3] == 0);
    struct loop_info64 large = status_of(d);
    large.lo_offset = 1ull << 40;
    OK(ioctl(d, LOOP_SET_STATUS64, &large));
    ERR(ioctl(d, LOOP_GET_STATUS, &info), EOVERFLOW);
}

CASE(flags_that_can_be_set) {
    struct loop_config config = {.info = {.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN}};
    int d = bound(image("f", MIB), O_RDWR, &config);
    struct loop_info64 info = status_of(d);
    EQ(info.lo_flags, LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN);
    info.lo_flags = LO_FLAGS_AUTOCLEAR;
    OK(ioctl(d, LOOP_SET_STATUS64, &info));
    EQ(status_of(d).lo_flags, LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN | LO_FLAGS_AUTOCLEAR);
    info.lo_flags = 0;
    OK(ioctl(d, LOOP_SET_STATUS64, &info));
    EQ(status_of(d).lo_flags, LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(it_goes_with_who_has_it_open) {
    struct loop_config config = {.info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int f = image("f", MIB), d = bound(f, O_RDWR, &config);
    FD(e, open(dev, O_RDONLY));
    close(d);
    EQ(status_of(e).lo_flags, LO_FLAGS_AUTOCLEAR);
    void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, e, 0);
    CHECK(at != MAP_FAILED);
    close(e);
    FD(again, open(dev, O_RDONLY));
    EQ(size_of(again), MIB);
    close(again);
    OK(munmap(at, 4096));
    FD(last, open(dev, O_RDONLY));
    struct loop_info64 info;
    if (ioctl(last, LOOP_GET_STATUS64, &info) == 0)
        CHECK(info.lo_offset == 0);
    close(last);
    d = bound(f, O_RDWR, NULL);
    FD(other, open(dev, O_RDWR));
    OK(ioctl(d, LOOP_CLR_FD));
    EQ(status_of(d).lo_flags, LO_FLAGS_AUTOCLEAR);
    EQ(pwrite(other, "still", 5, 0), 5);
    close(other);
    OK(ioctl(d, LOOP_CLR_FD));
    ERR(ioctl(d, LOOP_GET_STATUS64, &info), ENXIO);
}

CASE(read_only) {
    image("f", MIB);
    FD(r, open("f", O_RDONLY));
    int d = bound(r, O_RDWR, NULL), ro = 0;
    EQ(status_of(d).lo_flags, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR);
    OK(ioctl(d, BLKROGET, &ro));
    EQ(ro, 1);
    ERR(pwrite(d, "x", 1, 0), EPERM);
    ERR(pwrite(d, "x", 0, 0), EPERM);
    uint64_t range[2] = {0, 512};
    ERR(ioctl(d, BLKZEROOUT, range), EPERM);
    ERR(ioctl(d, BLKDISCARD, range), EPERM);
    ERR((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, d, 0), EINVAL);
    ro = 0;
    OK(ioctl(d, BLKROSET, &ro));
    OK(ioctl(d, BLKROGET, &ro));
    EQ(ro, 1);
    image("same", MIB);
    FD(same, open("same", O_RDWR));
    EQ(pwrite(same, "same", 4, 0), 4);
    ERR(ioctl(d, LOOP_CHANGE_FD, image("small", MIB / 2)), EINVAL);
    OK(ioctl(d, LOOP_CHANGE_FD, same));
    char got[4];
    EQ(pread(d, got, 4, 0), 4);
    EQ(memcmp(got, "same", 4), 0);
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
    int f = image("f", MIB);
    d = bound(f, O_RDWR, NULL);
    ERR(ioctl(d, LOOP_CHANGE_FD, f), EINVAL);
    ro = 1;
    OK(ioctl(d, BLKROSET, &ro));
    ERR(pwrite(d, "x", 1, 0), EPERM);
    ro = 0;
    OK(ioctl(d, BLKROSET, &ro));
    EQ(pwrite(d, "x", 1, 0), 1);
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
    d = bound(f, O_RDONLY, NULL);
    EQ(status_of(d).lo_flags, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(what_disks_are_asked) {
    int d = bound(image("f", MIB), O_RDWR, NULL), n = 77;
    unsigned long sectors = 77, ahead = 77;
    unsigned short small = 77;
    uint64_t seq = 0;
    OK(ioctl(d, BLKGETSIZE, &sectors));
    EQ(sectors, MIB / 512);
    for (const int *p = (int[]){BLKSSZGET, BLKPBSZGET, BLKIOMIN, 0}; *p; p++) {
        OK(ioctl(d, *p, &n));
        EQ(n, 512);
    }
    OK(ioctl(d, BLKBSZGET, &n));
    EQ(n, 4096);
    OK(ioctl(d, FIGETBSZ, &n));
    EQ(n, 4096);
    for (const int *p = (int[]){BLKIOOPT, BLKALIGNOFF, BLKDISCARDZEROES, BLKROGET, 0}; *p; p++) {
        OK(ioctl(d, *p, &n));
        EQ(n, 0);
    }
    OK(ioctl(d, BLKSECTGET, &small));
    EQ(small, 2560);
    OK(ioctl(d, BLKROTATIONAL, &small));
    OK(ioctl(d, BLKGETDISKSEQ, &seq));
    CHECK(seq > 0 && small < 2);
    OK(ioctl(d, BLKRASET, 515));
    OK(ioctl(d, BLKRAGET, &ahead));
    EQ(ahead, 512);
    OK(ioctl(d, BLKFRASET, 256));
    OK(ioctl(d, BLKFRAGET, &ahead));
    EQ(ahead, 256);
    ERR(ioctl(d, BLKRAGET, NULL), EINVAL);
    OK(ioctl(d, BLKFLSBUF));
    ERR(ioctl(d, BLKRRPART), EINVAL);
    ERR(ioctl(d, 0x301, &n), ENOTTY);
    ERR(ioctl(d, 0x5401, &n), EINVAL);
    ERR(ioctl(d, BLKGETSIZE64, BAD_ADDRESS), EFAULT);
    ERR(ioctl(d, LOOP_CTL_GET_FREE), EINVAL);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(block_sizes) {
    struct loop_config config = {.block_size = 1024};
    int d = bound(image("f", MIB), O_RDWR, &config), n = 0;
    OK(ioctl(d, BLKSSZGET, &n));
    EQ(n, 1024);
    OK(ioctl(d, LOOP_SET_BLOCK_SIZE, 2048));
    OK(ioctl(d, BLKSSZGET, &n));
    EQ(n, 2048);
    ERR(ioctl(d, LOOP_SET_BLOCK_SIZE, 256), EINVAL);
    ERR(ioctl(d, LOOP_SET_BLOCK_SIZE, 3000), EINVAL);
    ERR(ioctl(d, LOOP_SET_BLOCK_SIZE, 131072), EINVAL);
    n = 1024;
    ERR(ioctl(d, BLKBSZSET, &n), EINVAL);
    ERR(ioctl(d, BLKBSZSET, NULL), EINVAL);
    n = 2048;
    OK(ioctl(d, BLKBSZSET, &n));
    n = 0;
    OK(ioctl(d, BLKBSZGET, &n));
    EQ(n, 2048);
    FD(direct, open(dev, O_RDWR | O_DIRECT));
    char *b = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(b, 'd', 8192);
    EQ(pwrite(direct, b, 4096, 2048), 4096);
    EQ(pread(direct, b + 4096, 2048, 4096), 2048);
    ERR(pread(direct, b, 512, 0), EINVAL);
    ERR(pread(direct, b, 2048, 512), EINVAL);
    ERR(pwrite(direct, b, 2047, 0), EINVAL);
    EQ(pread(direct, b, 4096, MIB - 2048), 2048);
    EQ(pread(direct, b, 1, MIB), 0);
    OK(ioctl(d, LOOP_SET_BLOCK_SIZE, 512));
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(zeroes_and_holes) {
    int f = image("f", MIB), d = bound(f, O_RDWR, NULL);
    char *all = malloc(MIB);
    memset(all, 'z', MIB);
    EQ(pwrite(d, all, MIB, 0), MIB);
    OK(fsync(d));
    uint64_t range[2] = {512, 100 * 512};
    OK(ioctl(d, BLKZEROOUT, range));
    range[0] = 4096 * 32;
    OK(ioctl(d, BLKDISCARD, range));
    OK(fallocate(d, FALLOC_FL_ZERO_RANGE, 4096 * 64, 4096));
    OK(fallocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096 * 70, 4096));
    OK(fallocate(d, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, MIB - 512, MIB));
    EQ(pread(d, all, MIB, 0), MIB);
    for (int i = 0; i < MIB; i++) {
        int zero = (i >= 512 && i < 101 * 512) || (i >= 4096 * 32 && i < 4096 * 32 + 100 * 512) || i / 4096 == 64
                   || i / 4096 == 70 || i >= MIB - 512;
        if (all[i] != (zero ? 0 : 'z'))
            t_fail("byte %d is %d", i, all[i]);
    }
    for (int i = 0; i < 2; i++) {
        int cmd = i ? BLKDISCARD : BLKZEROOUT;
        ERR(ioctl(d, cmd, ((uint64_t[]){1, 512})), EINVAL);
        ERR(ioctl(d, cmd, ((uint64_t[]){0, 511})), EINVAL);
        ERR(ioctl(d, cmd, ((uint64_t[]){0, 0})), EINVAL);
        ERR(ioctl(d, cmd, ((uint64_t[]){MIB - 512, 1024})), EINVAL);
        ERR(ioctl(d, cmd, ((uint64_t[]){512, -512ull})), EINVAL);
        ERR(ioctl(d, cmd, BAD_ADDRESS), EFAULT);
    }
    ERR(ioctl(d, BLKSECDISCARD, range), EOPNOTSUPP);
    ERR(fallocate(d, 0, 0, 4096), EOPNOTSUPP);
    ERR(fallocate(d, FALLOC_FL_KEEP_SIZE, 0, 4096), EOPNOTSUPP);
    ERR(fallocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 4096), EINVAL);
    ERR(fallocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, 4096), EINVAL);
    ERR(fallocate(d, FALLOC_FL_ZERO_RANGE, 0, 2 * MIB), EINVAL);
    FD(r, open(dev, O_RDONLY));
    ERR(ioctl(r, BLKZEROOUT, range), EBADF);
    ERR(ioctl(r, BLKDISCARD, range), EBADF);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(mapped) {
    int f = image("f", MIB), d = bound(f, O_RDWR, NULL);
    char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, d, 4096), got[4];
    CHECK(at != MAP_FAILED);
    memcpy(at, "page", 4);
    EQ(pread(d, got, 4, 4096), 4);
    EQ(memcmp(got, "page", 4), 0);
    OK(msync(at, 8192, MS_SYNC));
    OK(munmap(at, 8192));
    ERR((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, d, 100), EINVAL);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(for_one_alone) {
    int f = image("f", MIB), d = bound(f, O_RDWR | O_EXCL, NULL), n = 512;
    ERR(open(dev, O_RDWR | O_EXCL), EBUSY);
    FD(e, open(dev, O_RDWR));
    CHECK(!(fcntl(d, F_GETFL) & O_EXCL));
    ERR(ioctl(e, BLKBSZSET, &n), EBUSY);
    close(d);
    FD(again, open(dev, O_RDWR | O_EXCL));
    OK(ioctl(again, LOOP_CLR_FD));
}

CASE(devices_on_devices) {
    int f = image("f", MIB), lower = bound(f, O_RDWR, NULL);
    struct loop_config config = {.info = {.lo_offset = 4096, .lo_flags = LO_FLAGS_AUTOCLEAR}};
    int upper = bound(lower, O_RDWR, &config);
    EQ(size_of(upper), MIB - 4096);
    EQ(pwrite(upper, "deep", 4, 0), 4);
    OK(fsync(upper));
    OK(fsync(lower));
    char got[4];
    EQ(pread(f, got, 4, 4096), 4);
    EQ(memcmp(got, "deep", 4), 0);
    EQ(status_of(upper).lo_rdevice >> 8, 7);
    OK(ioctl(lower, LOOP_CLR_FD));
    EQ(size_of(lower), MIB);
    close(upper);
}

CASE(control) {
    int c = opened_control();
    char byte;
    ERR(read(c, &byte, 1), EINVAL);
    ERR(write(c, &byte, 1), EINVAL);
    ERR(lseek(c, 0, SEEK_SET), ESPIPE);
    ERR(ioctl(c, 0x4c99), ENOSYS);
    ERR(ioctl(c, LOOP_CTL_ADD, 0), EEXIST);
    ERR(ioctl(c, LOOP_CTL_ADD, 1 << 20), EINVAL);
    ERR(ioctl(c, LOOP_CTL_REMOVE, -1), EINVAL);
    ERR(ioctl(c, LOOP_CTL_REMOVE, 54321), ENODEV);
    int n = 20000 + getpid() % 20000;
    EQ(ioctl(c, LOOP_CTL_ADD, n), n);
    snprintf(dev, sizeof dev, "/dev/loop%d", n);
    FD(d, open(dev, O_RDWR));
    ERR(ioctl(c, LOOP_CTL_REMOVE, n), EBUSY);
    OK(ioctl(d, LOOP_SET_FD, image("f", MIB)));
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
    OK(ioctl(c, LOOP_CTL_REMOVE, n));
    ERR(access(dev, F_OK), ENOENT);
    ERR(ioctl(c, LOOP_CTL_REMOVE, n), ENODEV);
}

static void holds(const char *path, const char *text) {
    char buffer[1 << 16];
    FD(fd, open(path, O_RDONLY));
    ssize_t got = read(fd, buffer, sizeof buffer - 1);
    CHECK(got >= 0);
    buffer[got] = 0;
    if (!strstr(buffer, text))
        t_fail("%s does not hold '%s' but '%.300s'", path, text, buffer);
    close(fd);
}

CASE(in_sys_and_proc) {
    struct loop_config config = {.info = {.lo_offset = 512, .lo_sizelimit = 8192}};
    int d = bound(image("f", MIB), O_RDWR, &config);
    char path[300], text[400], cwd[200];
    const char *rest[] = {"size", "16\n", "ro", "0\n", "loop/offset", "512\n", "loop/sizelimit", "8192\n",
                          "loop/autoclear", "0\n", "loop/partscan", "0\n", "loop/dio", "0\n",
                          "queue/logical_block_size", "512\n", "removable", "0\n", NULL};
    for (const char **r = rest; *r; r += 2) {
        snprintf(path, sizeof path, "/sys/block/loop%d/%s", number, r[0]);
        t_read_is(path, r[1]);
    }
    snprintf(path, sizeof path, "/sys/dev/block/7:%d/loop/backing_file", number);
    snprintf(text, sizeof text, "%s/f\n", getcwd(cwd, sizeof cwd));
    t_read_is(path, text);
    snprintf(path, sizeof path, "/sys/class/block/loop%d/dev", number);
    snprintf(text, sizeof text, "7:%d\n", number);
    t_read_is(path, text);
    snprintf(path, sizeof path, "/sys/dev/block/7:%d", number);
    ssize_t n = readlink(path, text, sizeof text - 1);
    CHECK(n > 0);
    text[n] = 0;
    snprintf(path, sizeof path, "../../devices/virtual/block/loop%d", number);
    EQ(strcmp(text, path), 0);
    snprintf(text, sizeof text, "%4d  %7d %10d loop%d\n", 7, number, 8, number);
    holds("/proc/partitions", text);
    holds("/proc/devices", "Block devices:\n");
    holds("/proc/devices", "  7 loop\n");
    holds("/proc/misc", "237 loop-control\n");
    snprintf(text, sizeof text, "   7 %7d loop%d ", number, number);
    holds("/proc/diskstats", text);
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
}

CASE(who_may) {
    int d = bound(image("f", MIB), O_RDWR, NULL);
    FD(r, open(dev, O_RDONLY));
    pid_t pid = fork();
    if (pid == 0) {
        int n = 1;
        struct loop_info64 info = {0};
        OK(setgid(54321));
        OK(setuid(54321));
        ERR(open(dev, O_RDONLY), EACCES);
        ERR(ioctl(d, BLKROSET, &n), EACCES);
        ERR(ioctl(d, BLKRASET, 256), EACCES);
        ERR(ioctl(d, BLKFLSBUF), EACCES);
        ERR(ioctl(d, BLKRRPART), EACCES);
        ERR(ioctl(d, BLKBSZSET, &n), EACCES);
        ERR(ioctl(r, LOOP_SET_STATUS64, &info), EPERM);
        ERR(ioctl(r, LOOP_SET_CAPACITY), EPERM);
        OK(ioctl(d, LOOP_SET_CAPACITY));
        OK(ioctl(d, LOOP_SET_STATUS64, &info));
        OK(ioctl(r, LOOP_GET_STATUS64, &info));
        _exit(0);
    }
    CHILD_OK(pid);
    OK(ioctl(d, LOOP_CLR_FD));
}

CASE(a_file_in_use_keeps_its_mount) {
    if (unshare(CLONE_NEWNS) != 0)
        SKIP("no mount namespaces");
    OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    OK(mkdir("m", 0700));
    OK(mount("none", "m", "tmpfs", 0, NULL));
    int f = image("m/f", MIB), d = bound(f, O_RDWR, NULL);
    close(f);
    OK(unlink("m/f"));
    ERR(umount("m"), EBUSY);
    EQ(pwrite(d, "x", 1, 0), 1);
    OK(ioctl(d, LOOP_CLR_FD));
    close(d);
    OK(umount("m"));
    ERR(mount(dev, "m", "no-such-type", 0, NULL), ENODEV);
}
