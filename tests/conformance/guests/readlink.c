/* readlink(2), asked again and again of names that are no links: as realpath(3) does. What changes that is seen at once. */
#include "t.h"
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define OFTEN 20

static char here[PATH_MAX];

/* The absolute name of `name` in the case's directory. */
static const char *at(const char *name) {
    static char paths[4][2 * PATH_MAX];
    static int turn;
    if (!here[0])
        CHECK(getcwd(here, sizeof here));
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", here, name);
    return path;
}
static void fails_often(const char *path, int number) {
    char to[64];
    for (int i = 0; i < OFTEN; i++)
        ERR(readlink(path, to, sizeof to), number);
}
static void leads(const char *path, const char *want) {
    char to[64] = "";
    EQ(readlink(path, to, sizeof to - 1), strlen(want));
    EQ(strcmp(to, want), 0);
}
static void put(const char *path, const char *text) {
    FD(fd, open(path, O_WRONLY));
    EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}
/* d/e/f, a file; all three known to be no links. */
static void tree(void) {
    OK(mkdir(at("d"), 0755));
    OK(mkdir(at("d/e"), 0755));
    t_write_file(at("d/e/f"), "text");
    fails_often(at("d"), EINVAL);
    fails_often(at("d/e"), EINVAL);
    fails_often(at("d/e/f"), EINVAL);
}

CASE(a_link_comes_in_its_place) {
    tree();
    for (int i = 0; i < 3; i++) {
        OK(unlink(at("d/e/f")));
        ERR(readlink(at("d/e/f"), here, 1), ENOENT);
        OK(symlink("elsewhere", at("d/e/f")));
        leads(at("d/e/f"), "elsewhere");
        OK(unlink(at("d/e/f")));
        t_write_file(at("d/e/f"), "text");
        fails_often(at("d/e/f"), EINVAL);
    }
}
CASE(another_is_renamed_over_it) {
    tree();
    OK(symlink("over", at("link")));
    OK(rename(at("link"), at("d/e/f")));
    leads(at("d/e/f"), "over");
    t_write_file(at("file"), "");
    OK(rename(at("file"), at("d/e/f")));
    fails_often(at("d/e/f"), EINVAL);
}
CASE(two_names_are_exchanged) {
    tree();
    OK(symlink("exchanged", at("link")));
    fails_often(at("d/e/f"), EINVAL);
    if (syscall(SYS_renameat2, AT_FDCWD, at("link"), AT_FDCWD, at("d/e/f"), RENAME_EXCHANGE) != 0)
        SKIP("the file system exchanges no names");
    leads(at("d/e/f"), "exchanged");
    fails_often(at("link"), EINVAL);
}
CASE(a_directory_above_is_moved) {
    tree();
    OK(rename(at("d"), at("g")));
    fails_often(at("d/e/f"), ENOENT);
    fails_often(at("g/e/f"), EINVAL);
    OK(symlink("g", at("d")));
    leads(at("d"), "g");
    fails_often(at("d/e/f"), EINVAL);
    OK(unlink(at("d")));
    fails_often(at("d/e/f"), ENOENT);
    OK(mkdir(at("d"), 0755));
    OK(rename(at("g/e"), at("d/e")));
    fails_often(at("d/e/f"), EINVAL);
    fails_often(at("g/e/f"), ENOENT);
}
CASE(a_link_on_the_way_is_changed) {
    tree();
    OK(mkdir(at("other"), 0755));
    OK(symlink("../d/e/f", at("other/f")));
    OK(symlink("d/e", at("way")));
    fails_often(at("way/f"), EINVAL);
    OK(unlink(at("way")));
    OK(symlink("other", at("way")));
    leads(at("way/f"), "../d/e/f");
}
CASE(directories_are_removed) {
    tree();
    OK(unlink(at("d/e/f")));
    OK(rmdir(at("d/e")));
    fails_often(at("d/e"), ENOENT);
    fails_often(at("d"), EINVAL);
    OK(rmdir(at("d")));
    fails_often(at("d"), ENOENT);
}
CASE(another_process_changes_it) {
    tree();
    volatile int *said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(said != MAP_FAILED);
    for (int i = 0; i < 20; i++) {
        *said = 0;
        pid_t pid = fork();
        if (pid == 0) {
            fails_often(at("d/e/f"), EINVAL);
            OK(unlink(at("d/e/f")));
            OK(symlink("by another", at("d/e/f")));
            *said = 1;
            _exit(0);
        }
        /* Told through memory alone. */
        char to[64];
        long got;
        int before;
        do {
            before = *said;
            got = readlink(at("d/e/f"), to, sizeof to);
        } while (!before);
        EQ(got, strlen("by another"));
        CHILD_OK(pid);
        OK(unlink(at("d/e/f")));
        t_write_file(at("d/e/f"), "text");
        fails_often(at("d/e/f"), EINVAL);
    }
}
CASE(permission_is_taken) {
    NEED_ROOT();
    tree();
    OK(chmod(at("."), 0755));
    int go[2], done[2];
    OK(pipe(go));
    OK(pipe(done));
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        OK(setresuid(1000, 1000, 1000));
        fails_often(at("d/e/f"), EINVAL);
        EQ(write(done[1], "", 1), 1);
        EQ(read(go[0], &c, 1), 1);
        fails_often(at("d/e/f"), EACCES);
        fails_often(at("d/e"), EINVAL);
        EQ(write(done[1], "", 1), 1);
        EQ(read(go[0], &c, 1), 1);
        fails_often(at("d/e"), EACCES);
        fails_often(at("d"), EINVAL);
        _exit(0);
    }
    char c;
    EQ(read(done[0], &c, 1), 1);
    OK(chmod(at("d/e"), 0700));
    fails_often(at("d/e/f"), EINVAL);
    EQ(write(go[1], "", 1), 1);
    EQ(read(done[0], &c, 1), 1);
    FD(fd, open(at("d"), O_RDONLY | O_DIRECTORY));
    OK(fchmod(fd, 0700));
    EQ(write(go[1], "", 1), 1);
    CHILD_OK(pid);
}
static void *without_rights(void *argument) {
    (void)argument;
    fails_often(at("d/e/f"), EINVAL);
    OK(syscall(SYS_setresuid, 1000, 1000, 1000));
    fails_often(at("d/e/f"), EACCES);
    return NULL;
}
CASE(rights_are_given_up) {
    NEED_ROOT();
    tree();
    OK(chmod(at("d"), 0700));
    fails_often(at("d/e/f"), EINVAL);
    /* By one thread alone. */
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        EQ(pthread_create(&thread, NULL, without_rights, NULL), 0);
        EQ(pthread_join(thread, NULL), 0);
        fails_often(at("d/e/f"), EINVAL);
    }
    OK(setresuid(1000, 1000, 0));
    fails_often(at("d/e/f"), EACCES);
    OK(setresuid(0, 0, 0));
    fails_often(at("d/e/f"), EINVAL);
    OK(setfsuid(1000));
    fails_often(at("d/e/f"), EACCES);
}
CASE(the_root_is_changed) {
    NEED_ROOT();
    tree();
    pid_t pid = fork();
    if (pid == 0) {
        fails_often(at("d/e/f"), EINVAL);
        OK(chroot(at("d")));
        fails_often(at("d/e/f"), ENOENT);
        fails_often("/e/f", EINVAL);
        OK(chroot("/e"));
        fails_often("/e/f", ENOENT);
        fails_often("/f", EINVAL);
        _exit(0);
    }
    CHILD_OK(pid);
    fails_often(at("d/e/f"), EINVAL);
}
CASE(something_is_mounted) {
    NEED_ROOT();
    tree();
    pid_t pid = fork();
    if (pid == 0) {
        fails_often(at("d/e/f"), EINVAL);
        OK(unshare(CLONE_NEWUSER | CLONE_NEWNS));
        put("/proc/self/setgroups", "deny");
        put("/proc/self/uid_map", "0 0 1");
        put("/proc/self/gid_map", "0 0 1");
        OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
        fails_often(at("d/e/f"), EINVAL);
        OK(mount("none", at("d"), "tmpfs", 0, NULL));
        fails_often(at("d/e/f"), ENOENT);
        OK(mkdir(at("d/e"), 0755));
        OK(symlink("mounted", at("d/e/f")));
        leads(at("d/e/f"), "mounted");
        OK(umount2(at("d"), MNT_DETACH));
        fails_often(at("d/e/f"), EINVAL);
        OK(mkdir(at("b"), 0755));
        OK(mount(at("d"), at("b"), NULL, MS_BIND, NULL));
        fails_often(at("b/e/f"), EINVAL);
        OK(unlink(at("d/e/f")));
        fails_often(at("b/e/f"), ENOENT);
        t_write_file(at("b/e/f"), "text");
        fails_often(at("d/e/f"), EINVAL);
        OK(umount(at("b")));
        fails_often(at("b/e/f"), ENOENT);
        _exit(0);
    }
    CHILD_OK(pid);
    fails_often(at("d/e/f"), EINVAL);
}
CASE(a_filter_looks_at_the_call) {
    tree();
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_readlink, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDOM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {sizeof f / sizeof *f, f};
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0));
    fails_often(at("d/e/f"), EDOM);
}
CASE(a_tracer_sees_each_call) {
    tree();
    pid_t pid = fork();
    if (pid == 0) {
        fails_often(at("d/e/f"), EINVAL);
        OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
        raise(SIGSTOP);
        fails_often(at("d/e/f"), EINVAL);
        _exit(0);
    }
    int seen = 0, status;
    EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSTOPPED(status));
    OK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    for (;;) {
        OK(ptrace(PTRACE_SYSCALL, pid, 0, 0));
        EQ(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status))
            break;
        EQ(WSTOPSIG(status), SIGTRAP | 0x80);
        seen += ptrace(PTRACE_PEEKUSER, pid, 8L * 15, 0) == SYS_readlink;
    }
    EQ(status, 0);
    EQ(seen, 2 * OFTEN);
}
CASE(many_names_in_turn) {
    char name[64];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "file-%d", i);
        t_write_file(at(name), "");
    }
    OK(symlink("target", at("link")));
    for (int turn = 0; turn < 5; turn++)
        for (int i = 0; i < 200; i++) {
            snprintf(name, sizeof name, "file-%d", i);
            char to[8];
            ERR(readlink(at(name), to, sizeof to), EINVAL);
            snprintf(name, sizeof name, "none-%d", i);
            ERR(readlink(at(name), to, sizeof to), ENOENT);
            leads(at("link"), "target");
        }
}
CASE(names_said_otherwise) {
    tree();
    OK(chdir(at("d")));
    fails_often("e/f", EINVAL);
    OK(mkdir("x", 0755));
    OK(mkdir("x/e", 0755));
    OK(symlink("relative", "x/e/f"));
    OK(chdir("x"));
    leads("e/f", "relative");
    for (int i = 0; i < OFTEN; i++) {
        fails_often(at("d/e/f/"), ENOTDIR);
        fails_often(at("d/e/"), EINVAL);
        fails_often(at("d/./e/../e/f"), EINVAL);
        fails_often(at("d//e///f"), EINVAL);
        fails_often(at("d/e/f/g"), ENOTDIR);
        fails_often("", ENOENT);
        fails_often("/", EINVAL);
    }
    OK(rename(at("d/e/f"), at("d/e/g")));
    fails_often(at("d/e/f"), ENOENT);
    fails_often(at("d/./e/../e/f"), ENOENT);
    fails_often(at("d//e///f"), ENOENT);
}
CASE(sizes_and_addresses) {
    tree();
    OK(symlink("to", at("link")));
    char to[64];
    for (int i = 0; i < OFTEN; i++) {
        /* Through the library's own check of sizes, too. */
        ERR(syscall(SYS_readlink, at("link"), to, 0), EINVAL);
        ERR(syscall(SYS_readlink, at("link"), to, -1), EINVAL);
        leads(at("link"), "to");
        ERR(syscall(SYS_readlink, at("d/e/f"), to, 0), EINVAL);
        ERR(syscall(SYS_readlink, at("d/e/f"), BAD_ADDRESS, 64), EINVAL);
        ERR(syscall(SYS_readlink, BAD_ADDRESS, to, 64), EFAULT);
        ERR(syscall(SYS_readlink, at("link"), BAD_ADDRESS, 64), EFAULT);
    }
    /* A name that ends with its page, and one that does not end there. */
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    OK(munmap(pages + 4096, 4096));
    const char *path = at("d/e/f");
    char *end = pages + 4096 - strlen(path) - 1;
    strcpy(end, path);
    fails_often(end, EINVAL);
    memmove(end + 1, path, strlen(path));
    fails_often(end + 1, EFAULT);
    fails_often(path, EINVAL);
}
CASE(what_changes_by_itself) {
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    char path[64], way[64];
    snprintf(path, sizeof path, "/proc/%d", pid);
    snprintf(way, sizeof way, "/proc/%d/fd/77", getpid());
    fails_often(path, EINVAL);
    OK(kill(pid, SIGKILL));
    EQ(t_wait(pid), SIGKILL);
    fails_often(path, ENOENT);
    fails_often(way, ENOENT);
    FD(fd, open("/dev/null", O_RDONLY));
    EQ(dup2(fd, 77), 77);
    leads(way, "/dev/null");
}
static volatile int over;
static void *changes(void *argument) {
    for (int i = 0; i < 300; i++) {
        OK(unlink(at("d/e/f")));
        OK(symlink("changed", at("d/e/f")));
        OK(rename(at("spare"), at("d/e/f")));
        t_write_file(at("spare"), "");
    }
    OK(unlink(at("d/e/f")));
    OK(symlink("changed", at("d/e/f")));
    over = 1;
    return argument;
}
static void *asks(void *path) {
    char to[64];
    for (int last = 0; !last;) {
        last = over;
        long got = readlink(path, to, sizeof to);
        CHECK(got == (long)strlen("changed") || (got < 0 && !last && (errno == EINVAL || errno == ENOENT)));
    }
    return NULL;
}
CASE(threads_ask_while_one_changes) {
    tree();
    t_write_file(at("spare"), "");
    char path[2 * PATH_MAX];
    strcpy(path, at("d/e/f"));
    pthread_t threads[3];
    for (int i = 0; i < 2; i++)
        EQ(pthread_create(&threads[i], NULL, asks, path), 0);
    EQ(pthread_create(&threads[2], NULL, changes, NULL), 0);
    for (int i = 0; i < 3; i++)
        EQ(pthread_join(threads[i], NULL), 0);
}
CASE(children_and_threads_of_those_who_know) {
    tree();
    for (int i = 0; i < 10; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (i & 1)
                fails_often(at("d/e/f"), EINVAL);
            OK(rename(at("d"), at("z")));
            fails_often(at("d/e/f"), ENOENT);
            _exit(0);
        }
        CHILD_OK(pid);
        fails_often(at("d/e/f"), ENOENT);
        OK(rename(at("z"), at("d")));
        fails_often(at("d/e/f"), EINVAL);
    }
}
