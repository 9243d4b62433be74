/* fork, vfork, clone, wait, exit, process groups and sessions, limits, prctl. */
#define T_SELF
#include "t.h"
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/utsname.h>

static int t_self(int argc, char **argv) {
    (void)argc;
    return atoi(argv[1] + 5);
}

CASE(fork_copies_memory) {
    volatile int value = 1;
    pid_t pid = fork();
    if (pid == 0) {
        EQ(value, 1);
        value = 2;
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(value, 1);
}
CASE(fork_many) {
    pid_t pids[60];
    for (int i = 0; i < 60; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(i);
        CHECK(pids[i] > 0);
    }
    for (int i = 0; i < 60; i++) {
        int status;
        EQ(waitpid(pids[i], &status, 0), pids[i]);
        EQ(WEXITSTATUS(status), i);
    }
    ERR(wait(NULL), ECHILD);
}
CASE(fork_ids) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        EQ(getppid(), parent);
        CHECK(getpid() != parent);
        EQ(syscall(SYS_gettid), getpid());
        EQ(getpgrp(), getpgid(parent));
        EQ(getsid(0), getsid(parent));
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(fork_descriptors_are_copies) {
    FD(fd, open(".", O_RDONLY));
    pid_t pid = fork();
    if (pid == 0) {
        OK(close(fd));
        _exit(0);
    }
    CHILD_OK(pid);
    OK(fcntl(fd, F_GETFD));
}
CASE(fork_orphan_gets_a_new_parent) {
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            while (getppid() == middle)
                t_sleep_ms(1);
            pid_t now = getppid();
            EQ(write(ends[1], &now, sizeof now), sizeof now);
            _exit(0);
        }
        _exit(0);
    }
    CHILD_OK(pid);
    pid_t adopted = 0;
    EQ(read(ends[0], &adopted, sizeof adopted), sizeof adopted);
    CHECK(adopted >= 0 && adopted != pid);
}
CASE(subreaper) {
    OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
    int on = 0;
    OK(prctl(PR_GET_CHILD_SUBREAPER, &on));
    EQ(on, 1);
    pid_t me = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        pid_t middle = getpid();
        if (fork() == 0) {
            while (getppid() == middle)
                t_sleep_ms(1);
            _exit(getppid() == me ? 7 : 8);
        }
        _exit(0);
    }
    CHILD_OK(pid);
    int status;
    CHECK(wait(&status) > 0);
    EQ(WEXITSTATUS(status), 7);
}
CASE(vfork_shares_memory_and_stops_the_parent) {
    static volatile int value = 1;
    pid_t pid = vfork();
    if (pid == 0) {
        value = 2;
        _exit(3);
    }
    EQ(value, 2);
    EQ(WEXITSTATUS(t_wait(pid)), 3);
}
CASE(vfork_exec) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    self[length] = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        execl(self, self, "self:42", (char *)NULL);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 42);
}
CASE(exit_status) {
    for (int code = 0; code < 256; code += 51) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(code);
        int status = t_wait(pid);
        CHECK(WIFEXITED(status));
        EQ(WEXITSTATUS(status), code);
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(0x1ff);
    EQ(WEXITSTATUS(t_wait(pid)), 0xff);
}
CASE(exit_by_signal) {
    int numbers[] = {SIGKILL, SIGTERM, SIGABRT, SIGUSR1, SIGRTMIN};
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            kill(getpid(), numbers[i]);
            _exit(0);
        }
        int status = t_wait(pid);
        CHECK(WIFSIGNALED(status));
        EQ(WTERMSIG(status), numbers[i]);
    }
}
CASE(wait_errors) {
    int status;
    ERR(waitpid(-1, &status, 0), ECHILD);
    ERR(waitpid(1, &status, 0), ECHILD);
    ERR(waitpid(-1, &status, 1 << 20), EINVAL);
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    EQ(waitpid(pid, &status, WNOHANG), 0);
    ERR(waitpid(pid + 10000, &status, 0), ECHILD);
    kill(pid, SIGKILL);
    EQ(WTERMSIG(t_wait(pid)), SIGKILL);
    ERR(waitpid(pid, &status, 0), ECHILD);
}
CASE(wait_by_group) {
    pid_t a = fork();
    if (a == 0) {
        setpgid(0, 0);
        _exit(5);
    }
    setpgid(a, a);
    pid_t b = fork();
    if (b == 0)
        _exit(6);
    int status;
    EQ(waitpid(-a, &status, 0), a);
    EQ(WEXITSTATUS(status), 5);
    ERR(waitpid(-a, &status, 0), ECHILD);
    EQ(waitpid(0, &status, 0), b);
    EQ(WEXITSTATUS(status), 6);
}
CASE(wait4_usage) {
    pid_t pid = fork();
    if (pid == 0) {
        for (volatile long i = 0; i < 30000000; i++)
            ;
        _exit(0);
    }
    struct rusage usage;
    memset(&usage, 0xff, sizeof usage);
    int status;
    EQ(wait4(pid, &status, 0, &usage), pid);
    CHECK(usage.ru_utime.tv_sec >= 0 && usage.ru_utime.tv_sec < 20);
    CHECK(usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec > 1000);
}
CASE(waitid_fields) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(9);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    EQ(info.si_pid, pid);
    EQ(info.si_code, CLD_EXITED);
    EQ(info.si_status, 9);
    EQ(info.si_signo, SIGCHLD);
    OK(waitid(P_ALL, 0, &info, WEXITED));
    EQ(info.si_pid, pid);
    ERR(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
    ERR(waitid(P_ALL, 0, &info, 0), EINVAL);
    ERR(waitid(99, 0, &info, WEXITED), EINVAL);
    pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    memset(&info, 0xff, sizeof info);
    OK(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
    EQ(info.si_pid, 0);
    kill(pid, SIGKILL);
    OK(waitid(P_PID, pid, &info, WEXITED));
    EQ(info.si_code, CLD_KILLED);
    EQ(info.si_status, SIGKILL);
}
CASE(wait_ignored_children_are_not_kept) {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    ERR(waitpid(pid, NULL, 0), ECHILD);
}
CASE(pgrp_session) {
    pid_t pid = fork();
    if (pid == 0) {
        OK(setpgid(0, 0));
        EQ(getpgrp(), getpid());
        ERR(setsid(), EPERM);
        pid_t child = fork();
        if (child == 0) {
            EQ(getpgrp(), getppid());
            EQ(setsid(), getpid());
            EQ(getsid(0), getpid());
            EQ(getpgrp(), getpid());
            ERR(setpgid(0, 0), EPERM);
            _exit(0);
        }
        CHILD_OK(child);
        _exit(0);
    }
    CHILD_OK(pid);
    ERR(setpgid(0, -1), EINVAL);
    ERR(setpgid(999999, 0), ESRCH);
    ERR(setpgid(0, 999999), EPERM);
    ERR(getpgid(999999), ESRCH);
    ERR(getsid(999999), ESRCH);
}
CASE(clone_raw_flags) {
    pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(4);
    EQ(WEXITSTATUS(t_wait(pid)), 4);
    ERR(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
    ERR(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0), EINVAL);
    ERR(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0), EINVAL);
}
CASE(clone_tids) {
    pid_t parent_tid = 0, child_tid = 0;
    pid_t pid = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &parent_tid, &child_tid, 0);
    if (pid == 0)
        _exit(child_tid == getpid() ? 0 : 8);
    EQ(parent_tid, pid);
    EQ(child_tid, 0);
    CHILD_OK(pid);
}
CASE(clone_shares_files_and_fs) {
    pid_t pid = syscall(SYS_clone, CLONE_FILES | CLONE_FS | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        OK(mkdir("d", 0755));
        OK(chdir("d"));
        EQ(dup2(1, 40), 40);
        _exit(0);
    }
    CHILD_OK(pid);
    OK(fcntl(40, F_GETFD));
    char where[PATH_MAX];
    CHECK(getcwd(where, sizeof where));
    CHECK(strcmp(where + strlen(where) - 2, "/d") == 0);
}
CASE(clone3_with_a_chosen_tid) {
    pid_t wanted = 4000;
    struct clone_args a = {.exit_signal = SIGCHLD, .set_tid_size = 1};
    ERR(syscall(SYS_clone3, &a, sizeof a), EINVAL);
    a = (struct clone_args){.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted};
    ERR(syscall(SYS_clone3, &a, sizeof a), EINVAL);
    a.set_tid_size = 33;
    ERR(syscall(SYS_clone3, &a, sizeof a), EINVAL);
    a.set_tid_size = 1;
    OK(setuid(1000));
    ERR(syscall(SYS_clone3, &a, sizeof a), EPERM);
}

CASE(clone3_forks) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(6);
    EQ(WEXITSTATUS(t_wait(pid)), 6);
    ERR(syscall(SYS_clone3, &args, 8), EINVAL);
    args.flags = 1ull << 60;
    ERR(syscall(SYS_clone3, &args, sizeof args), EINVAL);
    ERR(syscall(SYS_clone3, BAD_ADDRESS, sizeof args), EFAULT);
}
CASE(rlimits) {
    struct rlimit limit, old;
    OK(getrlimit(RLIMIT_NOFILE, &old));
    limit = old;
    limit.rlim_cur = 64;
    OK(setrlimit(RLIMIT_NOFILE, &limit));
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    EQ(limit.rlim_cur, 64);
    EQ(limit.rlim_max, old.rlim_max);
    limit.rlim_cur = 100;
    limit.rlim_max = 50;
    ERR(setrlimit(RLIMIT_NOFILE, &limit), EINVAL);
    ERR(getrlimit(99, &limit), EINVAL);
    ERR(prlimit(999999, RLIMIT_NOFILE, NULL, &old), ESRCH);
    OK(prlimit(0, RLIMIT_CORE, NULL, &old));
    OK(getrlimit(RLIMIT_STACK, &old));
    CHECK(old.rlim_cur >= 1 << 20);
    pid_t pid = fork();
    if (pid == 0) {
        OK(getrlimit(RLIMIT_NOFILE, &limit));
        EQ(limit.rlim_cur, 64);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(prctl_name) {
    char name[17] = {0};
    OK(prctl(PR_SET_NAME, "a-name-longer-than-15"));
    OK(prctl(PR_GET_NAME, name));
    CHECK(strcmp(name, "a-name-longer-t") == 0);
    t_read_is("/proc/self/comm", "a-name-longer-t\n");
    ERR(prctl(PR_SET_NAME, BAD_ADDRESS), EFAULT);
}
CASE(prctl_options) {
    OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
    int number = 0;
    OK(prctl(PR_GET_PDEATHSIG, &number));
    EQ(number, SIGUSR1);
    ERR(prctl(PR_SET_PDEATHSIG, 999), EINVAL);
    EQ(prctl(PR_GET_DUMPABLE), 1);
    OK(prctl(PR_SET_DUMPABLE, 0));
    EQ(prctl(PR_GET_DUMPABLE), 0);
    EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    ERR(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
    OK(prctl(PR_SET_KEEPCAPS, 1));
    EQ(prctl(PR_GET_KEEPCAPS), 1);
    ERR(prctl(123456), EINVAL);
    CHECK(prctl(PR_GET_TIMERSLACK) > 0);
}
CASE(pdeathsig_arrives) {
    int ends[2];
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            EQ(write(ends[1], "x", 1), 1);
            close(ends[0]);
            pause();
        }
        char byte;
        EQ(read(ends[0], &byte, 1), 1);
        _exit(0);
    }
    close(ends[1]);
    CHILD_OK(pid);
    char byte;
    /* End of file only when the grandchild is dead too. */
    EQ(read(ends[0], &byte, 1), 0);
}
CASE(priority_and_nice) {
    errno = 0;
    EQ(getpriority(PRIO_PROCESS, 0), 0);
    OK(setpriority(PRIO_PROCESS, 0, 5));
    EQ(getpriority(PRIO_PROCESS, 0), 5);
    errno = 0;
    EQ(nice(2), 7);
    ERR(getpriority(99, 0), EINVAL);
    ERR(setpriority(PRIO_PROCESS, 999999, 1), ESRCH);
}
CASE(uname_answers) {
    struct utsname name;
    OK(uname(&name));
    CHECK(strcmp(name.sysname, "Linux") == 0);
    CHECK(strcmp(name.machine, "x86_64") == 0);
    CHECK(name.release[0] >= '3' && name.release[0] <= '9');
    CHECK(name.nodename[0]);
    ERR(syscall(SYS_uname, BAD_ADDRESS), EFAULT);
}
CASE(times_grow) {
    struct tms a, b;
    clock_t start = times(&a);
    CHECK(start != (clock_t)-1);
    double end = t_now() + 5;
    do
        CHECK(times(&b) >= start);
    while (b.tms_utime + b.tms_stime == a.tms_utime + a.tms_stime && t_now() < end);
    CHECK(b.tms_utime + b.tms_stime > a.tms_utime + a.tms_stime);
    struct rusage usage;
    OK(getrusage(RUSAGE_SELF, &usage));
    CHECK(usage.ru_maxrss > 0);
    ERR(getrusage(99, &usage), EINVAL);
}
CASE(affinity) {
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0);
    CHECK(CPU_COUNT(&set) >= 1);
    ERR(sched_getaffinity(999999, sizeof set, &set), ESRCH);
    ERR(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
    OK(sched_yield());
    EQ(sched_getscheduler(0), SCHED_OTHER);
    EQ(sched_get_priority_max(SCHED_FIFO), 99);
    EQ(sched_get_priority_min(SCHED_OTHER), 0);
    unsigned cpu;
    OK(syscall(SYS_getcpu, &cpu, NULL, NULL));
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
}
CASE(unknown_call) {
    ERR(syscall(1000), ENOSYS);
    ERR(syscall(-1), ENOSYS);
}
CASE(pidfd) {
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    FD(fd, syscall(SYS_pidfd_open, pid, 0));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    siginfo_t info;
    OK(waitid(3 /* P_PIDFD */, fd, &info, WEXITED));
    EQ(info.si_status, SIGKILL);
    ERR(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
    ERR(syscall(SYS_pidfd_open, 999999, 0), ESRCH);
    ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}
