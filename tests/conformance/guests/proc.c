/* /proc as programs read it: themselves, the machine, the mounts. */
#include "t.h"
#include <dirent.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

static char text[1 << 16];
static char *slurp(const char *path) {
    FD(fd, open(path, O_RDONLY));
    size_t size = 0;
    ssize_t got;
    while ((got = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += got;
    EQ(got, 0);
    text[size] = 0;
    close(fd);
    return text;
}
static long field(const char *name) {
    char *line = strstr(slurp("/proc/self/status"), name);
    CHECK(line);
    return strtol(line + strlen(name), NULL, 10);
}

CASE(self_is_a_link_to_the_pid) {
    char target[64] = {0}, pid[64];
    CHECK(readlink("/proc/self", target, 63) > 0);
    snprintf(pid, sizeof pid, "%d", getpid());
    CHECK(strcmp(target, pid) == 0);
}
CASE(exe_cwd_root) {
    char link[PATH_MAX] = {0}, cwd[PATH_MAX];
    CHECK(readlink("/proc/self/exe", link, sizeof link - 1) > 0);
    CHECK(strcmp(strrchr(link, '/'), "/proc") == 0);
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self/cwd", link, sizeof link - 1) > 0);
    CHECK(getcwd(cwd, sizeof cwd) && strcmp(link, cwd) == 0);
    memset(link, 0, sizeof link);
    CHECK(readlink("/proc/self/root", link, sizeof link - 1) > 0);
    CHECK(strcmp(link, "/") == 0);
    FD(fd, open("/proc/self/exe", O_RDONLY));
    char magic[4];
    EQ(read(fd, magic, 4), 4);
    CHECK(memcmp(magic, "\177ELF", 4) == 0);
}
CASE(descriptors) {
    t_write_file("f", "text");
    FD(fd, open("f", O_RDONLY));
    char path[64], link[PATH_MAX] = {0}, cwd[PATH_MAX];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(readlink(path, link, sizeof link - 1) > 0);
    CHECK(getcwd(cwd, sizeof cwd));
    strcat(cwd, "/f");
    CHECK(strcmp(link, cwd) == 0);
    t_read_is(path, "text");
    OK(unlink("f"));
    memset(link, 0, sizeof link);
    CHECK(readlink(path, link, sizeof link - 1) > 0);
    CHECK(strstr(link, "/f (deleted)"));
    t_read_is(path, "text");
    int ends[2];
    OK(pipe(ends));
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    memset(link, 0, sizeof link);
    CHECK(readlink(path, link, sizeof link - 1) > 0);
    CHECK(strncmp(link, "pipe:[", 6) == 0);
    int seen = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory);
    struct dirent *entry;
    while ((entry = readdir(directory)))
        seen += atoi(entry->d_name) == fd || atoi(entry->d_name) == ends[1];
    EQ(seen, 2);
    ERR(readlink("/proc/self/fd/900", link, sizeof link), ENOENT);
}
CASE(dev_fd_links) {
    int ends[2];
    OK(pipe(ends));
    EQ(write(ends[1], "through", 7), 7);
    close(ends[1]);
    char path[64];
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    FD(again, open(path, O_RDONLY));
    char buffer[16];
    EQ(read(again, buffer, 16), 7);
    struct stat st;
    OK(lstat("/dev/stdin", &st));
    CHECK(S_ISLNK(st.st_mode));
}
CASE(cmdline_and_environ) {
    FD(fd, open("/proc/self/cmdline", O_RDONLY));
    char line[4096];
    ssize_t got = read(fd, line, sizeof line);
    CHECK(got > 1 && line[got - 1] == 0);
    CHECK(strcmp(line, t_program) == 0);
    FD(environment, open("/proc/self/environ", O_RDONLY));
    got = read(environment, text, sizeof text - 1);
    CHECK(got > 0);
    text[got] = 0;
    int path = 0;
    for (char *variable = text; variable < text + got; variable += strlen(variable) + 1)
        path |= strncmp(variable, "PATH=", 5) == 0;
    CHECK(path);
}
CASE(stat_fields) {
    int pid, parent, group, session;
    char comm[64], state;
    EQ(sscanf(slurp("/proc/self/stat"), "%d (%63[^)]) %c %d %d %d", &pid, comm, &state, &parent, &group, &session), 6);
    EQ(pid, getpid());
    EQ(parent, getppid());
    EQ(group, getpgrp());
    EQ(session, getsid(0));
    EQ(state, 'R');
    CHECK(strcmp(comm, "proc") == 0);
    int spaces = 0;
    for (char *c = strrchr(text, ')'); *c; c++)
        spaces += *c == ' ';
    EQ(spaces, 50);
}
CASE(status_fields) {
    EQ(field("\nPid:\t"), getpid());
    EQ(field("\nPPid:\t"), getppid());
    EQ(field("\nTgid:\t"), getpid());
    EQ(field("\nThreads:\t"), 1);
    EQ(field("\nUid:\t"), getuid());
    CHECK(field("\nVmRSS:\t") > 0);
    CHECK(field("\nVmSize:\t") > 0);
    CHECK(strstr(slurp("/proc/self/status"), "Name:\tproc\n"));
    CHECK(strstr(text, "\nSigBlk:\t0000000000000000\n"));
    CHECK(strstr(text, "\nState:\tR (running)\n"));
}
CASE(what_is_reserved_is_not_resident) {
    const long size = 1L << 30;
    void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    CHECK(field("\nVmSize:\t") >= size / 1024);
    CHECK(field("\nVmRSS:\t") < size / 1024);
    CHECK(field("\nVmRSS:\t") >= field("\nRssFile:\t"));
    long pages, resident;
    EQ(sscanf(slurp("/proc/self/statm"), "%ld %ld", &pages, &resident), 2);
    CHECK(pages >= size / 4096 && resident < size / 4096 && resident > 0);
    OK(munmap(at, size));
}
CASE(status_of_a_sleeping_child) {
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    t_sleep_ms(50);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    CHECK(strstr(slurp(path), "State:\tS (sleeping)"));
    kill(pid, SIGSTOP);
    int status;
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(strstr(slurp(path), "State:\tT (stopped)"));
    kill(pid, SIGKILL);
    siginfo_t info;
    OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    CHECK(strstr(slurp(path), "State:\tZ (zombie)"));
    EQ(WTERMSIG(t_wait(pid)), SIGKILL);
    ERR(open(path, O_RDONLY), ENOENT);
}
static void *stays(void *unused) {
    pause();
    return unused;
}
CASE(threads_are_counted_by_links) {
    struct stat st;
    OK(stat("/proc/self/task", &st));
    EQ(st.st_nlink, 3);
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, stays, NULL), 0);
    OK(stat("/proc/self/task", &st));
    EQ(st.st_nlink, 4);
}
CASE(machine_files) {
    CHECK(strstr(slurp("/proc/meminfo"), "MemTotal:"));
    CHECK(strstr(text, "MemAvailable:"));
    CHECK(strstr(slurp("/proc/cpuinfo"), "processor\t: 0"));
    CHECK(strstr(text, "model name"));
    /* What the processor can, as cpuid tells it too. */
    char *flags = strstr(text, "\nflags\t\t:");
    CHECK(flags != NULL);
    *strchrnul(flags + 1, '\n') = ' ';
#define SAYS(feature, name) EQ(strstr(flags, " " name " ") != NULL, __builtin_cpu_supports(feature) != 0)
    SAYS("sse2", "sse2");
    SAYS("sse3", "pni");
    SAYS("ssse3", "ssse3");
    SAYS("sse4.2", "sse4_2");
    SAYS("popcnt", "popcnt");
    SAYS("fma", "fma");
    SAYS("avx", "avx");
    SAYS("avx2", "avx2");
    SAYS("bmi2", "bmi2");
    SAYS("avx512f", "avx512f");
    CHECK(strncmp(slurp("/proc/version"), "Linux version ", 14) == 0);
    CHECK(strncmp(slurp("/proc/stat"), "cpu ", 4) == 0);
    CHECK(strstr(text, "\nbtime "));
    double up, idle;
    EQ(sscanf(slurp("/proc/uptime"), "%lf %lf", &up, &idle), 2);
    CHECK(up >= 0);
    double one, five, fifteen;
    EQ(sscanf(slurp("/proc/loadavg"), "%lf %lf %lf", &one, &five, &fifteen), 3);
    CHECK(strstr(slurp("/proc/filesystems"), "tmpfs"));
}
CASE(mount_files) {
    CHECK(strstr(slurp("/proc/mounts"), " / "));
    CHECK(strstr(text, " /proc proc "));
    CHECK(strstr(slurp("/proc/self/mounts"), " / "));
    CHECK(strstr(slurp("/proc/self/mountinfo"), " / / "));
}
CASE(sys_kernel) {
    char *line = slurp("/proc/sys/kernel/ostype");
    CHECK(strcmp(line, "Linux\n") == 0);
    CHECK(atoi(slurp("/proc/sys/kernel/pid_max")) > 300);
    CHECK(strlen(slurp("/proc/sys/kernel/hostname")) > 1);
    CHECK(strlen(slurp("/proc/sys/kernel/osrelease")) > 3);
    EQ(strlen(slurp("/proc/sys/kernel/random/boot_id")), 37);
}
CASE(processes_are_listed) {
    DIR *directory = opendir("/proc");
    CHECK(directory);
    int me = 0, others = 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        me += atoi(entry->d_name) == getpid();
        others += strcmp(entry->d_name, "meminfo") == 0 || strcmp(entry->d_name, "self") == 0;
    }
    EQ(me, 1);
    EQ(others, 2);
}
CASE(limits_file) { CHECK(strstr(slurp("/proc/self/limits"), "Max open files")); }
CASE(errors) {
    char buffer[64];
    ERR(open("/proc/999999", O_RDONLY), ENOENT);
    ERR(open("/proc/missing", O_RDONLY), ENOENT);
    ERR(open("/proc/new", O_CREAT | O_RDWR, 0644), ENOENT);
    ERR(mkdir("/proc/new", 0755), ENOENT);
    ERR(unlink("/proc/version"), EPERM);
    FD(directory, open("/proc", O_RDONLY));
    ERR(read(directory, buffer, 64), EISDIR);
    struct stat st;
    OK(stat("/proc/version", &st));
    EQ(st.st_size, 0);
    CHECK(S_ISREG(st.st_mode));
}
CASE(comm_may_be_written) {
    FD(fd, open("/proc/self/comm", O_WRONLY));
    EQ(write(fd, "renamed", 7), 7);
    t_read_is("/proc/self/comm", "renamed\n");
}
CASE(oom_score_is_kept) {
    CHECK(strlen(slurp("/proc/self/oom_score_adj")) >= 2);
    FD(fd, open("/proc/self/oom_score_adj", O_RDWR));
    EQ(write(fd, "500", 3), 3);
    t_read_is("/proc/self/oom_score_adj", "500\n");
    int pid = fork();
    if (pid == 0) {
        t_read_is("/proc/self/oom_score_adj", "500\n");
        _exit(0);
    }
    EQ(t_wait(pid), 0);
    ERR(write(fd, "1001", 4), EINVAL);
    ERR(write(fd, "much", 4), EINVAL);
    OK(setresuid(1000, 1000, 1000));
    EQ(write(fd, "600", 3), 3);
    ERR(write(fd, "-900", 4), EACCES);
    t_read_is("/proc/self/oom_score_adj", "600\n");
}
CASE(settings_of_the_kernel) {
    t_read_is("/proc/sys/kernel/domainname", "(none)\n");
    CHECK(strlen(slurp("/proc/sys/kernel/tainted")) >= 2);
    CHECK(strlen(slurp("/proc/sys/kernel/core_pattern")) >= 1);
}
/* A field of the mapping at an address, in kB; -1: there is none. */
static long in_smaps(const char *file, void *address, const char *name) {
    char *line, *at = slurp(file);
    int here = address == NULL;
    while ((line = strsep(&at, "\n"))) {
        unsigned long start, end;
        if (address && sscanf(line, "%lx-%lx", &start, &end) == 2)
            here = start <= (uintptr_t)address && (uintptr_t)address < end;
        else if (here && strncmp(line, name, strlen(name)) == 0)
            return strtol(line + strlen(name), NULL, 10);
    }
    return -1;
}
CASE(what_mappings_take) {
    char *none = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *full = mmap(NULL, 1 << 20, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    CHECK(none != MAP_FAILED && full != MAP_FAILED);
    memset(full, 1, 1 << 20);
    EQ(in_smaps("/proc/self/smaps", none, "Size:"), 1024);
    EQ(in_smaps("/proc/self/smaps", none, "Rss:"), 0);
    EQ(in_smaps("/proc/self/smaps", none, "Locked:"), 0);
    EQ(in_smaps("/proc/self/smaps", full, "Size:"), 1024);
    EQ(in_smaps("/proc/self/smaps", full, "Rss:"), 1024);
    EQ(in_smaps("/proc/self/smaps", full, "Private_Dirty:"), 1024);
    EQ(in_smaps("/proc/self/smaps", full, "Locked:"), 1024);
    CHECK(in_smaps("/proc/self/smaps_rollup", NULL, "Rss:") >= 1024);
    EQ(field("VmLck:"), 1024);
    OK(munlockall());
    EQ(field("VmLck:"), 0);
}

CASE(who_logged_in) {
    NEED_ROOT();
    unsigned before;
    EQ(sscanf(slurp("/proc/self/loginuid"), "%u", &before), 1);
    if (before != (unsigned)-1)
        SKIP("this session has a login already");
    FD(fd, open("/proc/self/loginuid", O_WRONLY));
    EQ(write(fd, "1234", 4), 4);
    CHECK(strcmp(slurp("/proc/self/loginuid"), "1234") == 0);
    CHECK(strtoul(slurp("/proc/self/sessionid"), NULL, 10) < (unsigned)-1);
    pid_t child = fork();
    if (child == 0)
        _exit(strcmp(slurp("/proc/self/loginuid"), "1234") != 0);
    int status;
    EQ(waitpid(child, &status, 0), child);
    EQ(status, 0);
    FD(parents, open("/proc/1/loginuid", O_WRONLY));
    ERR(write(parents, "1", 1), EPERM);
    ERR(write(fd, "somebody", 8), EINVAL);
}
CASE(groups_end_with_a_space) {
    NEED_ROOT();
    OK(setgroups(0, NULL));
    CHECK(strstr(slurp("/proc/self/status"), "\nGroups:\t \n"));
    gid_t two[] = {7, 9};
    OK(setgroups(2, two));
    CHECK(strstr(slurp("/proc/self/status"), "\nGroups:\t7 9 \n"));
}
CASE(memory_lines_and_nodes) {
    for (const char **name = (const char *[]){"VmPeak", "VmHWM", "RssAnon", "VmData", "VmStk", "VmSwap", NULL}; *name; name++) {
        char want[32];
        snprintf(want, sizeof want, "\n%s:\t", *name);
        CHECK(strstr(slurp("/proc/self/status"), want));
    }
    CHECK(strstr(text, "\nMems_allowed_list:\t0"));
    EQ(field("\nNSpid:\t"), getpid());
    CHECK(strstr(slurp("/proc/self/maps"), "[heap]"));
    CHECK(strstr(text, "[stack]"));
}
CASE(nice_in_stat) {
    OK(setpriority(PRIO_PROCESS, 0, 7));
    int priority, nice, threads;
    CHECK(strrchr(slurp("/proc/self/stat"), ')'));
    EQ(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %d %d %d", &priority, &nice,
              &threads),
       3);
    EQ(priority, 27);
    EQ(nice, 7);
    EQ(threads, 1);
}
static void *wait_for_end(void *ends) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/stat", syscall(SYS_gettid));
    FD(fd, open(path, O_RDONLY));
    char line[64] = {0};
    CHECK(read(fd, line, 63) > 0);
    EQ(atoi(line), syscall(SYS_gettid));
    return ends;
}
CASE(a_threads_stat_has_its_own_number) {
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, wait_for_end, NULL), 0);
    EQ(pthread_join(thread, NULL), 0);
}
CASE(children_of_a_thread) {
    char path[64], want[32];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    if (access(path, F_OK) != 0)
        SKIP("the host's kernel was built without it");
    CHECK(strcmp(slurp(path), "") == 0);
    pid_t child = fork();
    if (child == 0)
        pause();
    snprintf(want, sizeof want, "%d ", child);
    CHECK(strcmp(slurp(path), want) == 0);
    OK(kill(child, SIGKILL));
    EQ(waitpid(child, NULL, 0), child);
    CHECK(strcmp(slurp(path), "") == 0);
}
CASE(locks_are_listed) {
    t_write_file("locked", "text");
    FD(fd, open("locked", O_RDWR));
    struct stat st;
    OK(fstat(fd, &st));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 2};
    OK(fcntl(fd, F_SETLK, &lock));
    FD(again, open("locked", O_RDONLY));
    OK(flock(again, LOCK_SH));
    char posix[128], whole[128];
    snprintf(posix, sizeof posix, "POSIX  ADVISORY  WRITE %d %02x:%02x:%lu 1 2\n", getpid(), major(st.st_dev), minor(st.st_dev),
             st.st_ino);
    snprintf(whole, sizeof whole, "FLOCK  ADVISORY  READ %d %02x:%02x:%lu 0 EOF\n", getpid(), major(st.st_dev),
             minor(st.st_dev), st.st_ino);
    CHECK(strstr(slurp("/proc/locks"), posix));
    CHECK(strstr(text, whole));
    OK(flock(again, LOCK_UN));
    CHECK(!strstr(slurp("/proc/locks"), whole));
}
static long setting(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    return strtol(slurp(path), NULL, 10);
}
CASE(settings_that_programs_read) {
    CHECK(setting("fs/inotify/max_user_watches") >= 1024);
    EQ(setting("fs/inotify/max_user_instances"), 128);
    EQ(setting("fs/inotify/max_queued_events"), 16384);
    CHECK(setting("net/core/somaxconn") >= 128);
    CHECK(setting("vm/swappiness") >= 0);
    CHECK(setting("kernel/random/entropy_avail") > 0);
    int before;
    EQ(sscanf(slurp("/proc/sys/fs/file-nr"), "%d", &before), 1);
    CHECK(before > 0);
    ERR(open("/proc/sys/fs/inotify/missing", O_RDONLY), ENOENT);
}
CASE(the_machines_files) {
    CHECK(strncmp(slurp("/proc/cgroups"), "#subsys_name\thierarchy\tnum_cgroups\tenabled\n", 43) == 0);
    CHECK(strstr(text, "memory\t"));
    CHECK(strstr(slurp("/proc/vmstat"), "nr_free_pages "));
    CHECK(strstr(text, "pgpgin "));
    CHECK(strncmp(slurp("/proc/partitions"), "major minor  #blocks  name\n\n", 28) == 0);
    CHECK(strstr(slurp("/proc/interrupts"), "CPU0"));
    CHECK(strstr(slurp("/proc/meminfo"), "\nCommitted_AS:"));
    CHECK(strstr(text, "\nHugePages_Total:"));
    CHECK(strstr(text, "\nSlab:"));
    FD(disks, open("/proc/diskstats", O_RDONLY));
    CHECK(strncmp(slurp("/proc/net/sockstat"), "sockets: used ", 14) == 0);
    CHECK(strstr(text, "\nTCP: inuse "));
    CHECK(strncmp(slurp("/proc/net/snmp"), "Ip: Forwarding DefaultTTL ", 26) == 0);
    CHECK(strstr(text, "\nTcp: RtoAlgorithm "));
    CHECK(strncmp(slurp("/proc/net/netstat"), "TcpExt: ", 8) == 0);
    CHECK(strncmp(slurp("/proc/self/io"), "rchar: ", 7) == 0);
    CHECK(strlen(slurp("/proc/self/personality")) == 9);
}
