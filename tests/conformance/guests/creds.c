/* getuid, setuid, setresuid, setgroups, umask, capabilities: who a process is. */
#include "t.h"
#include <sys/fsuid.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>

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
