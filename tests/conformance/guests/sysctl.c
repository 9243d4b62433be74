/* /proc/sys as who has every capability sets it. Natively only what belongs to namespaces that each case makes for itself. */
#include "t.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/utsname.h>

static int put(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return -1;
    ssize_t got = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return got == (ssize_t)strlen(text) ? 0 : -1;
}
static const char *get(const char *name) {
    static char text[128];
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    FD(fd, open(path, O_RDONLY));
    ssize_t n = read(fd, text, sizeof text - 1);
    CHECK(n > 0 && text[n - 1] == '\n');
    text[n - 1] = 0;
    OK(close(fd));
    return text;
}
static void own(void) {
    if (unshare(CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        SKIP("no namespaces for this user");
    int fd = open("/proc/sys/kernel/shmmax", O_WRONLY);
    if (fd < 0)
        SKIP("/proc/sys is read-only");
    close(fd);
}
/* Who is not root, though every capability is left. */
static void another_user(void) {
    OK(syscall(SYS_setresuid, -1, 1000, -1));
}

CASE(segments_have_limits) {
    own();
    OK(put("kernel/shmmax", "8192"));
    CHECK(strcmp(get("kernel/shmmax"), "8192") == 0);
    ERR(shmget(IPC_PRIVATE, 8193, 0600), EINVAL);
    int id = shmget(IPC_PRIVATE, 8192, 0600);
    CHECK(id >= 0);
    OK(put("kernel/shmall", "3"));
    ERR(shmget(IPC_PRIVATE, 4097, 0600), ENOSPC);
    OK(put("kernel/shmall", "0x100"));
    OK(put("kernel/shmmni", "1"));
    ERR(shmget(IPC_PRIVATE, 1, 0600), ENOSPC);
    struct shminfo info;
    CHECK(shmctl(0, IPC_INFO, (struct shmid_ds *)&info) >= 0);
    EQ(info.shmmax, 8192);
    EQ(info.shmall, 256);
    EQ(info.shmmni, 1);
}

CASE(queues_have_limits) {
    own();
    struct {
        long type;
        char text[64];
    } message = {1, ""};
    int before = msgget(IPC_PRIVATE, 0600);
    OK(put("kernel/msgmax", "16"));
    OK(put("kernel/msgmnb", "20"));
    OK(put("kernel/msgmni", "2"));
    int id = msgget(IPC_PRIVATE, 0600);
    CHECK(before >= 0 && id >= 0);
    ERR(msgget(IPC_PRIVATE, 0600), ENOSPC);
    ERR(msgsnd(id, &message, 17, 0), EINVAL);
    OK(msgsnd(id, &message, 16, 0));
    ERR(msgsnd(id, &message, 5, IPC_NOWAIT), EAGAIN);
    OK(msgsnd(before, &message, 16, IPC_NOWAIT));
    OK(msgsnd(before, &message, 16, IPC_NOWAIT));
    struct msqid_ds ds;
    OK(msgctl(id, IPC_STAT, &ds));
    EQ(ds.msg_qbytes, 20);
    OK(msgctl(id, IPC_SET, &ds));
    struct msginfo info;
    CHECK(msgctl(0, IPC_INFO, (struct msqid_ds *)&info) >= 0);
    EQ(info.msgmax, 16);
    EQ(info.msgmnb, 20);
    EQ(info.msgmni, 2);
}

CASE(semaphores_have_limits) {
    own();
    CHECK(strcmp(get("kernel/sem"), "32000\t1024000000\t500\t32000") == 0);
    OK(put("kernel/sem", "3 5"));
    CHECK(strcmp(get("kernel/sem"), "3\t5\t500\t32000") == 0);
    OK(put("kernel/sem", " 3\t5 2 \n"));
    ERR(semget(IPC_PRIVATE, 4, 0600), EINVAL);
    int id = semget(IPC_PRIVATE, 3, 0600);
    CHECK(id >= 0);
    ERR(semget(IPC_PRIVATE, 3, 0600), ENOSPC);
    struct sembuf ops[3] = {{0, 1, 0}, {1, 1, 0}, {2, 1, 0}};
    OK(semop(id, ops, 2));
    ERR(semop(id, ops, 3), E2BIG);
    OK(put("kernel/sem", "3 50 2 1"));
    ERR(semget(IPC_PRIVATE, 1, 0600), ENOSPC);
    struct seminfo info;
    CHECK(semctl(0, 0, IPC_INFO, &info) >= 0);
    EQ(info.semmsl, 3);
    EQ(info.semmns, 50);
    EQ(info.semopm, 2);
    EQ(info.semmni, 1);
}

CASE(an_identifier_is_asked_for) {
    own();
    static const char *names[] = {"kernel/msg_next_id", "kernel/sem_next_id", "kernel/shm_next_id"};
    if (access("/proc/sys/kernel/msg_next_id", F_OK) < 0)
        SKIP("no checkpoints");
    for (int i = 0; i < 3; i++) {
        CHECK(strcmp(get(names[i]), "-1") == 0);
        ERR(put(names[i], "-2"), EINVAL);
        OK(put(names[i], "98305"));
        int made = i == 0 ? msgget(IPC_PRIVATE, 0600) : i == 1 ? semget(IPC_PRIVATE, 1, 0600) : shmget(IPC_PRIVATE, 1, 0600);
        EQ(made, 98305);
        CHECK(strcmp(get(names[i]), "-1") == 0);
        /* Its place is taken: another with the same number of its own. */
        OK(put(names[i], "98305"));
        made = i == 0 ? msgget(IPC_PRIVATE, 0600) : i == 1 ? semget(IPC_PRIVATE, 1, 0600) : shmget(IPC_PRIVATE, 1, 0600);
        EQ(made, 98306);
    }
}

CASE(each_namespace_has_its_own) {
    own();
    OK(put("kernel/shmmni", "7"));
    OK(unshare(CLONE_NEWIPC));
    CHECK(strcmp(get("kernel/shmmni"), "4096") == 0);
}

CASE(values_are_read) {
    own();
    static const struct {
        const char *given, *shown;
    } good[] = {{"12", "12"}, {" 0x20\n", "32"}, {"010\t", "8"}, {"0", "0"}, {"32768", "32768"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        OK(put("kernel/shmmni", good[i].given));
        CHECK(strcmp(get("kernel/shmmni"), good[i].shown) == 0);
    }
    static const char *bad[] = {" ", "\n", "x", "-1", "+1", "5y", "32769", "99999999999999999999", "5,6"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (put("kernel/shmmni", bad[i]) == 0 || errno != EINVAL)
            t_fail("%s is taken", bad[i]);
    CHECK(strcmp(get("kernel/shmmni"), "32768") == 0);
}

CASE(names_of_the_host) {
    own();
    struct utsname names;
    OK(put("kernel/hostname", "near\nmore"));
    OK(put("kernel/domainname", "far.away"));
    OK(uname(&names));
    CHECK(strcmp(names.nodename, "near") == 0);
    CHECK(strcmp(names.domainname, "far.away") == 0);
    char longest[80];
    memset(longest, 'x', sizeof longest);
    longest[79] = 0;
    OK(put("kernel/domainname", longest));
    EQ(strlen(get("kernel/domainname")), 64);
}

CASE(only_root_sets) {
    own();
    FD(fd, open("/proc/sys/kernel/shmmni", O_WRONLY));
    another_user();
    ERR(put("kernel/shmmni", "1"), EACCES);
    ERR(put("kernel/domainname", "x"), EACCES);
    /* It is asked again at the write. */
    ERR(write(fd, "1", 1), EPERM);
}

CASE(what_only_tells_is_not_set) {
    own();
    static const char *names[] = {"kernel/ostype", "kernel/osrelease", "kernel/cap_last_cap", "fs/file-nr"};
    for (int i = 0; i < 4; i++)
        ERR(put(names[i], "1"), EACCES);
}
