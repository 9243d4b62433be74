/* getuid, setuid, setresuid, setgroups, umask, capabilities: who a process is. */
#include "t.h"
#include <sys/fsuid.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/xattr.h>

CASE(get_agree) {
    uid_t r, e, s;
    OK(getresuid(&r, &e, &s));
    EQ(r, getuid());
    EQ(e, geteuid());
    gid_t a, b, c;
    OK(getresgid(&a, &b, &c));
    EQ(a, getgid());
    EQ(b, getegid());
    ERR(syscall(SYS_getresuid, BAD_ADDRESS, &e, &s), EFAULT);
}
CASE(setuid_drops_for_good) {
    NEED_ROOT();
    OK(setuid(1000));
    uid_t r, e, s;
    OK(getresuid(&r, &e, &s));
    EQ(r, 1000);
    EQ(e, 1000);
    EQ(s, 1000);
    ERR(setuid(0), EPERM);
    ERR(seteuid(0), EPERM);
    ERR(setgid(0 + 5), EPERM);
    ERR(setgroups(0, NULL), EPERM);
    OK(setuid(1000));
}
CASE(seteuid_comes_back) {
    NEED_ROOT();
    OK(seteuid(1000));
    EQ(geteuid(), 1000);
    EQ(getuid(), 0);
    ERR(chroot("."), EPERM);
    OK(seteuid(0));
    EQ(geteuid(), 0);
    OK(chroot("."));
}
CASE(setresuid_rules) {
    NEED_ROOT();
    OK(setresuid(1, 2, 3));
    OK(setresuid(-1, 3, -1));
    EQ(geteuid(), 3);
    ERR(setresuid(5, -1, -1), EPERM);
    OK(setresuid(3, 1, 1));
    ERR(setresuid(2, -1, -1), EPERM);
}
CASE(setreuid_rules) {
    NEED_ROOT();
    OK(setreuid(100, 200));
    EQ(getuid(), 100);
    EQ(geteuid(), 200);
    OK(setreuid(200, 100));
    ERR(setreuid(300, -1), EPERM);
}
CASE(setgid_family) {
    NEED_ROOT();
    OK(setresgid(10, 20, 30));
    gid_t r, e, s;
    OK(getresgid(&r, &e, &s));
    EQ(r, 10);
    EQ(e, 20);
    EQ(s, 30);
    OK(setregid(11, 21));
    OK(setgid(40));
    OK(getresgid(&r, &e, &s));
    EQ(s, 40);
}
CASE(groups) {
    NEED_ROOT();
    gid_t want[3] = {5, 7, 6}, got[10];
    OK(setgroups(3, want));
    EQ(getgroups(0, NULL), 3);
    EQ(getgroups(10, got), 3);
    int sum = got[0] + got[1] + got[2];
    EQ(sum, 18);
    ERR(getgroups(2, got), EINVAL);
    ERR(getgroups(-1, got), EINVAL);
    OK(setgroups(0, NULL));
    EQ(getgroups(10, got), 0);
    ERR(setgroups(70000, want), EINVAL);
}
CASE(setfsuid_answers_the_old) {
    NEED_ROOT();
    EQ(syscall(SYS_setfsuid, 1000), 0);
    EQ(syscall(SYS_setfsuid, -1), 1000);
    EQ(syscall(SYS_setfsgid, -1), getegid());
}
CASE(umask_is_inherited) {
    EQ(umask(077), 022);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(umask(0), 077);
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(umask(022), 077);
}
CASE(kill_needs_the_same_user) {
    NEED_ROOT();
    pid_t root = getpid(), pid = fork();
    if (pid == 0) {
        OK(setuid(1000));
        ERR(kill(root, 0), EPERM);
        ERR(kill(root, SIGTERM), EPERM);
        OK(kill(getpid(), 0));
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(capget_follows_uid) {
    NEED_ROOT();
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    OK(syscall(SYS_capget, &head, data));
    CHECK(data[0].effective & 1 << CAP_CHOWN);
    OK(setuid(1000));
    OK(syscall(SYS_capget, &head, data));
    EQ(data[0].effective, 0);
    EQ(data[0].permitted, 0);
    head.version = 0;
    errno = 0;
    EQ(syscall(SYS_capget, &head, data), -1);
    EQ(errno, EINVAL);
    EQ(head.version, _LINUX_CAPABILITY_VERSION_3);
}
CASE(root_reads_everything) {
    NEED_ROOT();
    t_write_file("f", "x");
    OK(chmod("f", 0));
    FD(fd, open("f", O_RDWR));
    ERR(access("f", X_OK), EACCES);
    OK(mkdir("d", 0));
    t_write_file("d/f", "");
}
static char exe[4096];
static void find_program(void) {
    if (realpath("/proc/self/exe", exe) == NULL)
        t_fail("no /proc/self/exe");
}
/* A copy of this program, owned by root. */
static void copy_program(const char *name, mode_t mode) {
    find_program();
    OK(chmod("..", 0755));
    OK(chmod(".", 0755));
    FD(from, open(exe, O_RDONLY));
    FD(to, open(name, O_CREAT | O_WRONLY | O_TRUNC, 0755));
    char *buffer = malloc(1 << 20);
    ssize_t got;
    while ((got = read(from, buffer, 1 << 20)) > 0)
        EQ(write(to, buffer, got), got);
    free(buffer);
    close(from);
    close(to);
    OK(chmod(name, mode));
}
/* Run the copy as user 1000; what it tells of itself: "ruid euid egid permitted effective ambient secure dumpable". */
static void tells_to(int no_new_privs, const char *name, char *text, size_t size) {
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setgroups(0, NULL));
        OK(setresgid(1000, 1000, 1000));
        OK(setresuid(1000, 1000, 1000));
        if (no_new_privs)
            OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        char fd[16];
        snprintf(fd, sizeof fd, "%d", p[1]);
        setenv("T_TELL", fd, 1);
        execl(name, name, NULL);
        dprintf(p[1], "errno %d", errno);
        _exit(0);
    }
    close(p[1]);
    ssize_t got, n = 0;
    while ((got = read(p[0], text + n, size - 1 - n)) > 0)
        n += got;
    text[n] = 0;
    close(p[0]);
    EQ(t_wait(pid), 0);
}
#define TELLS(no_new_privs, name, want)                                                                                \
    do {                                                                                                               \
        char text_[256];                                                                                               \
        tells_to(no_new_privs, name, text_, sizeof text_);                                                             \
        if (strcmp(text_, want) != 0)                                                                                  \
            t_fail("line %d: '%s', not '%s'", __LINE__, text_, want);                                                  \
    } while (0)
/* Only some capabilities are compared: how many there are in all is the container's business. */
#define SOME (1u << CAP_CHOWN | 1u << CAP_SETUID | 1u << CAP_NET_RAW)
__attribute__((constructor)) static void tell(void) {
    const char *fd = getenv("T_TELL");
    if (fd == NULL)
        return;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    syscall(SYS_capget, &header, data);
    int ambient = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0);
    dprintf(atoi(fd), "%d %d %d %x %x %d %ld %d", getuid(), geteuid(), getegid(), data[0].permitted & SOME,
            data[0].effective & SOME, ambient, getauxval(AT_SECURE), prctl(PR_GET_DUMPABLE));
    _exit(0);
}
CASE(set_user_id_program) {
    NEED_ROOT();
    copy_program("plain", 0755);
    TELLS(0, "./plain", "1000 1000 1000 0 0 0 0 1");
    copy_program("suid", 04755);
    TELLS(0, "./suid", "1000 0 1000 2081 2081 0 1 0");
    TELLS(1, "./suid", "1000 1000 1000 0 0 0 0 1");
    copy_program("sgid", 02755);
    TELLS(0, "./sgid", "1000 1000 0 0 0 0 1 0");
    copy_program("sgid", 02745);
    TELLS(0, "./sgid", "1000 1000 1000 0 0 0 0 1");
    copy_program("unreadable", 0711);
    TELLS(0, "./unreadable", "1000 1000 1000 0 0 0 0 0");
    copy_program("other", 0755);
    OK(chown("other", 2000, 2000));
    OK(chmod("other", 06755));
    TELLS(0, "./other", "1000 2000 2000 0 0 0 1 0");
}
static void caps_of(const char *name, unsigned magic, unsigned permitted, unsigned inheritable) {
    unsigned value[5] = {0x02000000 | magic, permitted, inheritable, 0, 0};
    OK(setxattr(name, "security.capability", value, sizeof value, 0));
}
CASE(file_capabilities) {
    NEED_ROOT();
    copy_program("ping", 0755);
    unsigned junk[5] = {7};
    ERR(setxattr("ping", "security.capability", junk, sizeof junk, 0), EINVAL);
    caps_of("ping", 1, 1u << CAP_NET_RAW, 0);
    TELLS(0, "./ping", "1000 1000 1000 2000 2000 0 1 0");
    TELLS(1, "./ping", "1000 1000 1000 0 0 0 1 1");
    caps_of("ping", 0, 1u << CAP_NET_RAW, 0);
    TELLS(0, "./ping", "1000 1000 1000 2000 0 0 1 0");
    copy_program("both", 04755);
    caps_of("both", 1, 1u << CAP_NET_RAW, 0);
    TELLS(0, "./both", "1000 0 1000 2000 2000 0 1 0");
    /* What is out of bounds cannot be given: the program that counts on it does not start. */
    OK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0));
    EQ(prctl(PR_CAPBSET_READ, CAP_NET_RAW, 0, 0, 0), 0);
    caps_of("ping", 1, 1u << CAP_NET_RAW, 0);
    TELLS(0, "./ping", "errno 1");
    caps_of("ping", 0, 1u << CAP_NET_RAW, 0);
    TELLS(0, "./ping", "1000 1000 1000 0 0 0 0 1");
    pid_t pid = fork();
    if (pid == 0) {
        OK(setuid(1000));
        unsigned value[5] = {0x02000000};
        ERR(setxattr("ping", "security.capability", value, sizeof value, 0), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(ambient_capabilities) {
    NEED_ROOT();
    copy_program("plain", 0755);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    OK(syscall(SYS_capget, &header, data));
    ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0), EPERM);
    data[0].inheritable |= 1u << CAP_NET_RAW;
    OK(syscall(SYS_capset, &header, data));
    OK(prctl(PR_SET_KEEPCAPS, 1));
    OK(setresgid(1000, 1000, 1000));
    OK(setresuid(1000, 1000, 1000));
    EQ(prctl(PR_GET_KEEPCAPS), 1);
    OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
    EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0), 1);
    ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 200, 0, 0), EINVAL);
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", p[1]);
        setenv("T_TELL", fd, 1);
        execl("./plain", "plain", NULL);
        _exit(9);
    }
    EQ(t_wait(pid), 0);
    char text[256] = "";
    CHECK(read(p[0], text, sizeof text - 1) > 0);
    EQ(strcmp(text, "1000 1000 1000 2000 2000 1 0 1"), 0);
}
CASE(secure_bits_that_are_locked) {
    NEED_ROOT();
    EQ(prctl(PR_GET_SECUREBITS), 0);
    ERR(prctl(PR_SET_SECUREBITS, 1 << 20), EPERM);
    OK(prctl(PR_SET_SECUREBITS, 1 << 2 | 1 << 3));
    EQ(prctl(PR_GET_SECUREBITS), 12);
    ERR(prctl(PR_SET_SECUREBITS, 0), EPERM);
    /* No fix-up: capabilities outlive the user id. */
    OK(setresuid(1000, 1000, 1000));
    OK(prctl(PR_SET_SECUREBITS, 1 << 2 | 1 << 3 | 1 << 5));
    ERR(prctl(PR_SET_KEEPCAPS, 1), EPERM);
    ERR(prctl(PR_SET_KEEPCAPS, 2), EINVAL);
    OK(setresuid(0, 0, 0));
}
CASE(set_user_id_of_a_tracee) {
    NEED_ROOT();
    copy_program("suid", 04755);
    int p[2];
    OK(pipe(p));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setresgid(1000, 1000, 1000));
        OK(setresuid(1000, 1000, 1000));
        pid_t child = fork();
        if (child == 0) {
            char fd[16];
            snprintf(fd, sizeof fd, "%d", p[1]);
            setenv("T_TELL", fd, 1);
            OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
            execl("./suid", "suid", NULL);
            _exit(9);
        }
        int status;
        EQ(waitpid(child, &status, 0), child);
        OK(ptrace(PTRACE_CONT, child, 0, 0));
        EQ(waitpid(child, &status, 0), child);
        EQ(status, 0);
        _exit(0);
    }
    CHILD_OK(pid);
    char text[256] = "";
    CHECK(read(p[0], text, sizeof text - 1) > 0);
    EQ(strcmp(text, "1000 1000 1000 0 0 0 1 1"), 0);
}
CASE(threads_share_through_libc) {
    NEED_ROOT();
    OK(setresuid(7, 7, 0));
    EQ(syscall(SYS_geteuid), 7);
    OK(setresuid(0, 0, 0));
    EQ(geteuid(), 0);
}
CASE(fsuid_takes_rights_over_files_along) {
    NEED_ROOT();
    t_write_file("mine", "x");
    OK(chmod("mine", 0600));
    setfsuid(1000);
    ERR(open("mine", O_RDWR), EACCES);
    pid_t pid = fork();
    if (pid == 0) {
        ERR(open("mine", O_RDWR), EACCES);
        _exit(0);
    }
    CHILD_OK(pid);
    setfsuid(0);
    OK(open("mine", O_RDWR));
}
CASE(capabilities_in_the_first_version) {
    uint32_t header[2] = {0x19980330, 0}, data[6] = {0, 0, 0, 77, 77, 77};
    OK(syscall(SYS_capget, header, data));
    EQ(data[3], 77);
    OK(syscall(SYS_capset, header, data));
    header[0] = 0x20071026;
    OK(syscall(SYS_capget, header, data));
    CHECK(data[3] != 77);
}
#define SECBITS_NOROOT 1
#define SECBITS_KEEP_LOCKED 0x20
#define SECBITS_NO_RAISE 0x40
CASE(secure_bits) {
    NEED_ROOT();
    EQ(prctl(PR_GET_SECUREBITS), 0);
    OK(prctl(PR_SET_SECUREBITS, SECBITS_NO_RAISE | SECBITS_KEEP_LOCKED));
    EQ(prctl(PR_GET_SECUREBITS), SECBITS_NO_RAISE | SECBITS_KEEP_LOCKED);
    ERR(prctl(PR_SET_SECUREBITS, 0), EPERM);
    ERR(prctl(PR_SET_SECUREBITS, 0x1000), EPERM);
    ERR(prctl(PR_SET_KEEPCAPS, 1), EPERM);
    ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0), EPERM);
    ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 1, 0), EINVAL);
    ERR(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0), EINVAL);
    OK(setresuid(1000, 1000, 1000));
    ERR(prctl(PR_SET_SECUREBITS, SECBITS_NO_RAISE | SECBITS_KEEP_LOCKED), EPERM);
}
CASE(user_ids_may_change_without_the_capabilities) {
    NEED_ROOT();
    OK(prctl(PR_SET_SECUREBITS, 1 << 2));
    OK(setresuid(1000, 1000, 1000));
    t_write_file("own", "x");
    OK(setresuid(2000, 2000, 2000));
}
