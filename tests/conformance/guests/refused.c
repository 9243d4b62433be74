/* What an unprivileged user is refused, as a container without privileges refuses it to root too. */
#include "t.h"
#include <linux/bpf.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/time.h>

static void leave_root(void) {
    NEED_ROOT();
    OK(setresuid(1000, 1000, 1000));
}

/* EPERM, unless the host's kernel was built without the call. */
#define REFUSED(call)                                                                                                  \
    do {                                                                                                               \
        EQ(call, -1);                                                                                                  \
        if (errno == ENOSYS)                                                                                           \
            SKIP("not in this kernel");                                                                                \
        EQ(errno, EPERM);                                                                                              \
    } while (0)

CASE(mounts) {
    leave_root();
    ERR(mount("none", "/tmp", "tmpfs", 0, ""), EPERM);
    ERR(umount2("/proc", 0), EPERM);
    ERR(syscall(SYS_pivot_root, "/", "/"), EPERM);
}
CASE(the_machine) {
    leave_root();
    struct timeval now;
    OK(gettimeofday(&now, NULL));
    ERR(syscall(SYS_settimeofday, &now, NULL), EPERM);
    ERR(reboot(RB_ENABLE_CAD), EPERM);
    ERR(swapon("/missing", 0), EPERM);
    ERR(swapoff("/missing"), EPERM);
    ERR(acct("/missing"), EPERM);
    ERR(vhangup(), EPERM);
}
CASE(the_kernels_log) {
    leave_root();
    char line[16];
    ERR(syscall(SYS_syslog, 2 /* SYSLOG_ACTION_READ */, line, sizeof line), EPERM);
    ERR(syscall(SYS_syslog, 5 /* SYSLOG_ACTION_CLEAR */, NULL, 0), EPERM);
}
CASE(ports) {
    leave_root();
    REFUSED(syscall(SYS_iopl, 3));
    REFUSED(syscall(SYS_ioperm, 0x80, 1, 1));
}
CASE(modules_and_kernels) {
    leave_root();
    REFUSED(syscall(SYS_init_module, "", 0, ""));
    REFUSED(syscall(SYS_finit_module, 0, "", 0));
    REFUSED(syscall(SYS_delete_module, "missing", 0));
    REFUSED(syscall(SYS_kexec_load, 0, 0, NULL, 0));
    REFUSED(syscall(SYS_kexec_file_load, 0, 0, 0, "", 0));
}
CASE(programs_in_the_kernel) {
    leave_root();
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    int fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr);
    if (fd >= 0)
        SKIP("this host lets everyone");
    EQ(errno, EPERM);
}
CASE(faults_of_the_kernel_to_user_space) {
    leave_root();
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd >= 0)
        SKIP("this host lets everyone");
    EQ(errno, EPERM);
}
CASE(handles) {
    leave_root();
    struct {
        struct file_handle head;
        char bytes[64];
    } handle = {{64, 1}, {0}};
    ERR(open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY), EPERM);
}
CASE(namespaces) {
    leave_root();
    ERR(unshare(CLONE_NEWNS), EPERM);
    ERR(unshare(CLONE_NEWPID), EPERM);
    ERR(unshare(CLONE_NEWNET | CLONE_FILES), EPERM);
    ERR(unshare(-1), EINVAL);
    ERR(setns(99, 0), EBADF);
    FD(fd, open("/dev/null", O_RDONLY));
    ERR(setns(fd, CLONE_NEWNS), EINVAL);
}
static void *changes(void *unused) {
    OK(unshare(CLONE_FS | CLONE_FILES));
    OK(chdir("/"));
    OK(close(0));
    ERR(unshare(CLONE_VM), EINVAL);
    return NULL;
}
CASE(a_thread_of_its_own_directory_and_descriptors) {
    OK(unshare(0));
    pthread_t thread;
    char before[PATH_MAX], after[PATH_MAX];
    CHECK(getcwd(before, sizeof before));
    FD(fd, open("/dev/null", O_RDONLY));
    OK(dup2(fd, 0));
    EQ(pthread_create(&thread, NULL, changes, NULL), 0);
    EQ(pthread_join(thread, NULL), 0);
    CHECK(getcwd(after, sizeof after));
    CHECK(strcmp(before, after) == 0);
    OK(fcntl(0, F_GETFD));
    /* The thread may still be on its way out of the address space. */
    for (int i = 0; i < 2000 && unshare(CLONE_VM) < 0; i++)
        usleep(1000);
    OK(unshare(CLONE_VM));
}
