/* /sys as programs read it: processors, nodes, interfaces. */
#include "t.h"
#include <dirent.h>
#include <sys/statfs.h>

static const char *slurp(const char *path) {
    static char text[2][4096];
    static int next;
    char *to = text[next++ % 2];
    FD(fd, open(path, O_RDONLY));
    ssize_t n = read(fd, to, 4095);
    CHECK(n >= 0);
    to[n] = 0;
    close(fd);
    return to;
}

CASE(processors) {
    struct statfs s;
    OK(statfs("/sys", &s));
    EQ(s.f_type, 0x62656572);
    int first = -1, last = 0;
    CHECK(sscanf(slurp("/sys/devices/system/cpu/online"), "%d-%d", &first, &last) >= 1);
    EQ(first, 0);
    EQ(last + 1, sysconf(_SC_NPROCESSORS_ONLN));
    CHECK(*slurp("/sys/devices/system/cpu/possible") == '0');
    CHECK(strcmp(slurp("/sys/devices/system/cpu/cpu0/topology/core_id"), "0\n") == 0);
    CHECK(*slurp("/sys/devices/system/cpu/cpu0/topology/core_siblings_list") == '0');
    CHECK(strcmp(slurp("/sys/devices/system/node/online"), "0\n") == 0);
    CHECK(strstr(slurp("/sys/devices/system/node/node0/meminfo"), "Node 0 MemTotal:"));
    ERR(open("/sys/devices/system/cpu/none", O_RDONLY), ENOENT);
    DIR *d = opendir("/sys/devices/system/cpu");
    int cpus = 0, n;
    for (struct dirent *e; (e = readdir(d));)
        cpus += sscanf(e->d_name, "cpu%d", &n) == 1;
    closedir(d);
    EQ(cpus, last + 1);
}

CASE(caches) {
    DIR *d = opendir("/sys/devices/system/cpu/cpu0/cache");
    if (!d)
        SKIP("this processor tells of no caches");
    closedir(d);
    CHECK(strcmp(slurp("/sys/devices/system/cpu/cpu0/cache/index0/level"), "1\n") == 0);
    CHECK(strcmp(slurp("/sys/devices/system/cpu/cpu0/cache/index0/type"), "Data\n") == 0);
    long size = strtol(slurp("/sys/devices/system/cpu/cpu0/cache/index0/size"), NULL, 10);
    EQ(size * 1024, sysconf(_SC_LEVEL1_DCACHE_SIZE));
    long line = strtol(slurp("/sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size"), NULL, 10);
    EQ(line, sysconf(_SC_LEVEL1_DCACHE_LINESIZE));
    CHECK(*slurp("/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list") == '0');
    ERR(open("/sys/devices/system/cpu/cpu0/cache/index9/size", O_RDONLY), ENOENT);
}

CASE(interfaces) {
    CHECK(strcmp(slurp("/sys/class/net/lo/address"), "00:00:00:00:00:00\n") == 0);
    CHECK(strcmp(slurp("/sys/class/net/lo/type"), "772\n") == 0);
    CHECK(strcmp(slurp("/sys/class/net/lo/ifindex"), "1\n") == 0);
    CHECK(strcmp(slurp("/sys/class/net/lo/mtu"), "65536\n") == 0);
    CHECK(strstr(slurp("/sys/class/net/lo/uevent"), "INTERFACE=lo\n"));
    unsigned long bytes;
    EQ(sscanf(slurp("/sys/class/net/lo/statistics/rx_bytes"), "%lu", &bytes), 1);
    ERR(open("/sys/class/net/nosuch0/mtu", O_RDONLY), ENOENT);
}

CASE(types_of_file_systems) {
    enum { NUMBER = 1, NAME, COUNT };
    char name[64], listed[80];
    long count = syscall(SYS_sysfs, COUNT);
    if (count < 0 && errno == ENOSYS)
        SKIP("this kernel was built without sysfs(2)");
    CHECK(count > 3);
    for (long i = 0; i < count; i++) {
        OK(syscall(SYS_sysfs, NAME, i, name));
        EQ(syscall(SYS_sysfs, NUMBER, name), i);
        snprintf(listed, sizeof listed, "\t%s\n", name);
        CHECK(strstr(slurp("/proc/filesystems"), listed));
    }
    ERR(syscall(SYS_sysfs, NUMBER, "nosuch"), EINVAL);
    ERR(syscall(SYS_sysfs, NUMBER, BAD_ADDRESS), EFAULT);
    ERR(syscall(SYS_sysfs, NAME, count, name), EINVAL);
    ERR(syscall(SYS_sysfs, NAME, 0, BAD_ADDRESS), EFAULT);
    ERR(syscall(SYS_sysfs, 4), EINVAL);
}
