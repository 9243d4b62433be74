/* System V IPC: shared memory, semaphores, message queues. Every object is removed again: natively they stay. */
#include "t.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PAGE 4096
#define BAD ((void *)-1)
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif

union arg {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
    struct seminfo *info;
};
static pid_t keeper;
static key_t key(void) {
    return 0x52000000 + (keeper ? keeper : getpid());
}
/* Removes the object when the case ends well or not. */
static int shm_kept = -1, sem_kept = -1, msg_kept = -1;
static void lose(void) {
    if (getpid() != keeper)
        return;
    shmctl(shm_kept, IPC_RMID, NULL);
    semctl(sem_kept, 0, IPC_RMID);
    msgctl(msg_kept, IPC_RMID, NULL);
}
static unsigned long attached(int id) {
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    return ds.shm_nattch;
}

CASE(shm_life) {
    ERR(shmget(key(), PAGE, 0600), ENOENT);
    ERR(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600), EINVAL);
    FD(id, shmget(key(), 5000, IPC_CREAT | IPC_EXCL | 0640));
    EQ(shmget(key(), 100, 0), id);
    EQ(shmget(key(), 0, 0), id);
    ERR(shmget(key(), 5001, 0), EINVAL);
    ERR(shmget(key(), 5000, IPC_CREAT | IPC_EXCL), EEXIST);
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_segsz, 5000);
    EQ(ds.shm_perm.mode, 0640);
    EQ(ds.shm_perm.__key, key());
    EQ(ds.shm_cpid, getpid());
    EQ(ds.shm_lpid, 0);
    EQ(ds.shm_atime, 0);
    CHECK(ds.shm_ctime != 0);
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != BAD && b != BAD && a != b);
    EQ(attached(id), 2);
    a[0] = 'a';
    EQ(b[0], 'a');
    a[4999] = 'z';
    a[2 * PAGE - 1] = 'e';
    EQ(b[2 * PAGE - 1], 'e');
    ERR(mprotect(b, PAGE, PROT_READ | PROT_WRITE), EACCES);
    ERR(shmdt(a + 1), EINVAL);
    ERR(shmdt(a + PAGE), EINVAL);
    OK(shmctl(id, IPC_RMID, NULL));
    ERR(shmget(key(), 100, 0), ENOENT);
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_perm.mode, 0640 | 01000);
    EQ(ds.shm_lpid, getpid());
    char *c = shmat(id, NULL, 0);
    CHECK(c != BAD && c[0] == 'a');
    OK(shmdt(c));
    OK(shmdt(a));
    EQ(attached(id), 1);
    OK(shmdt(b));
    ERR(shmctl(id, IPC_STAT, &ds), EINVAL);
    ERR((long)shmat(id, NULL, 0), EINVAL);
    ERR(shmdt(a), EINVAL);
}
CASE(shm_fork_exec_exit) {
    keeper = getpid();
    FD(id, shm_kept = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600));
    atexit(lose);
    int *a = shmat(id, NULL, 0);
    CHECK(a != BAD);
    int go[2], up[2];
    char c;
    OK(pipe(go));
    OK(pipe(up));
    pid_t pid = fork();
    if (pid == 0) {
        a[0] = 1;
        EQ(attached(id), 2);
        write(up[1], "x", 1);
        read(go[0], &c, 1);
        EQ(a[1], 2);
        _exit(0);
    }
    EQ(read(up[0], &c, 1), 1);
    EQ(a[0], 1);
    a[1] = 2;
    EQ(attached(id), 2);
    write(go[1], "x", 1);
    CHILD_OK(pid);
    EQ(attached(id), 1);
    /* A mapping in pieces is as many. */
    OK(mprotect((char *)a + PAGE, PAGE, PROT_READ));
    EQ(attached(id), 3);
    OK(munmap((char *)a + PAGE, PAGE));
    EQ(attached(id), 2);
    pid = fork();
    if (pid == 0) {
        char *argv[] = {"sh", "-c", "read x", NULL};
        dup2(go[0], 0);
        close(go[1]);
        fcntl(up[1], F_SETFD, FD_CLOEXEC);
        execv("/bin/sh", argv);
        _exit(9);
    }
    close(up[1]);
    EQ(read(up[0], &c, 1), 0);
    for (int i = 0; i < 200 && attached(id) != 2; i++)
        t_sleep_ms(5);
    EQ(attached(id), 2);
    write(go[1], "x\n", 2);
    CHILD_OK(pid);
    OK(shmdt(a));
    EQ(attached(id), 0);
    ERR(shmdt(a), EINVAL);
    OK(shmctl(id, IPC_RMID, NULL));
    ERR(shmctl(id, IPC_RMID, NULL), EINVAL);
}
CASE(shm_places) {
    keeper = getpid();
    FD(id, shm_kept = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600));
    atexit(lose);
    char *room = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ERR((long)shmat(id, room, 0), EINVAL);
    EQ((long)shmat(id, room, SHM_REMAP), (long)room);
    room[0] = 1;
    ERR((long)shmat(id, NULL, SHM_REMAP), EINVAL);
    OK(munmap(room + 4 * PAGE, 4 * PAGE));
    ERR((long)shmat(id, room + 4 * PAGE + 5, 0), EINVAL);
    char *b = shmat(id, room + 4 * PAGE + 5, SHM_RND);
    CHECK(b == room + 4 * PAGE);
    EQ(b[0], 1);
    OK(shmdt(b));
    OK(shmdt(room));
    OK(munmap(room + 2 * PAGE, 2 * PAGE));
    OK(shmctl(id, IPC_RMID, NULL));
}
CASE(shm_control) {
    keeper = getpid();
    FD(id, shm_kept = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600));
    atexit(lose);
    struct shmid_ds ds;
    OK(shmctl(id, IPC_STAT, &ds));
    ds.shm_perm.mode = 0644;
    OK(shmctl(id, IPC_SET, &ds));
    OK(shmctl(id, SHM_LOCK, NULL));
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_perm.mode, 0644 | 02000);
    OK(shmctl(id, SHM_UNLOCK, NULL));
    OK(shmctl(id, IPC_STAT, &ds));
    EQ(ds.shm_perm.mode, 0644);
    struct shminfo limits;
    CHECK(shmctl(0, IPC_INFO, (void *)&limits) >= 0);
    EQ(limits.shmmin, 1);
    CHECK(limits.shmmni >= 4096);
    struct shm_info info;
    int highest = shmctl(0, SHM_INFO, (void *)&info);
    CHECK(highest >= 0 && info.used_ids >= 1 && info.shm_tot >= 1);
    int found = 0;
    for (int i = 0; i <= highest; i++)
        found |= shmctl(i, SHM_STAT, &ds) == id;
    CHECK(found);
    ERR(shmctl(id, 99, &ds), EINVAL);
    ERR(shmctl(-1, IPC_STAT, &ds), EINVAL);
    ERR(syscall(SYS_shmctl, id, IPC_STAT, BAD_ADDRESS), EFAULT);
    if (geteuid() == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            OK(setgid(12345));
            OK(setuid(12345));
            CHECK(shmat(id, NULL, SHM_RDONLY) != BAD);
            ERR((long)shmat(id, NULL, 0), EACCES);
            ERR(shmctl(id, IPC_RMID, NULL), EPERM);
            ERR(shmctl(id, IPC_SET, &ds), EPERM);
            ERR(shmctl(id, SHM_LOCK, NULL), EPERM);
            _exit(0);
        }
        CHILD_OK(pid);
    }
    FILE *f = fopen("/proc/sysvipc/shm", "r");
    char line[300], want[32];
    snprintf(want, sizeof want, " %d ", id);
    found = 0;
    CHECK(fgets(line, sizeof line, f) && strstr(line, "shmid perms"));
    while (fgets(line, sizeof line, f))
        found |= strstr(line, want) != NULL;
    CHECK(found);
    fclose(f);
    OK(shmctl(id, IPC_RMID, NULL));
}

static int op(int id, int num, int value, int flags) {
    struct sembuf b = {num, value, flags};
    /* The C library makes it a semtimedop. */
    return syscall(SYS_semop, id, &b, 1);
}
CASE(sem_values) {
    keeper = getpid();
    ERR(semget(key(), 1, 0), ENOENT);
    ERR(semget(IPC_PRIVATE, 0, IPC_CREAT), EINVAL);
    ERR(semget(IPC_PRIVATE, -1, IPC_CREAT), EINVAL);
    FD(id, sem_kept = semget(key(), 3, IPC_CREAT | IPC_EXCL | 0600));
    atexit(lose);
    ERR(semget(key(), 4, 0), EINVAL);
    EQ(semget(key(), 2, 0), id);
    unsigned short values[3] = {5, 6, 7}, got[3];
    OK(semctl(id, 0, SETALL, (union arg){.array = values}));
    OK(semctl(id, 0, GETALL, (union arg){.array = got}));
    CHECK(memcmp(values, got, sizeof got) == 0);
    OK(semctl(id, 1, SETVAL, (union arg){.val = 1}));
    EQ(semctl(id, 1, GETVAL), 1);
    EQ(semctl(id, 1, GETPID), getpid());
    ERR(semctl(id, 1, SETVAL, (union arg){.val = 32768}), ERANGE);
    ERR(semctl(id, 1, SETVAL, (union arg){.val = -1}), ERANGE);
    ERR(semctl(id, 3, GETVAL), EINVAL);
    ERR(semctl(id, -1, SETVAL, (union arg){.val = 1}), EINVAL);
    ERR(semctl(id, 0, 77), EINVAL);
    OK(op(id, 0, -5, 0));
    ERR(op(id, 0, -1, IPC_NOWAIT), EAGAIN);
    ERR(op(id, 1, 0, IPC_NOWAIT), EAGAIN);
    ERR(op(id, 0, 32767, 0) == 0 ? op(id, 0, 1, 0) : 0, ERANGE);
    ERR(op(id, 3, 1, 0), EFBIG);
    ERR(semop(id, NULL, 0), EINVAL);
    struct sembuf many[600] = {{0}};
    ERR(semop(id, many, 501), E2BIG);
    ERR(semop(id, BAD_ADDRESS, 1), EFAULT);
    ERR(op(-1, 0, 0, 0), EINVAL);
    /* All or nothing. */
    OK(semctl(id, 0, SETALL, (union arg){.array = values}));
    struct sembuf both[2] = {{0, -5, 0}, {1, -7, IPC_NOWAIT}};
    ERR(semop(id, both, 2), EAGAIN);
    EQ(semctl(id, 0, GETVAL), 5);
    struct semid_ds ds;
    OK(semctl(id, 0, IPC_STAT, (union arg){.buf = &ds}));
    EQ(ds.sem_nsems, 3);
    CHECK(ds.sem_otime != 0 && ds.sem_ctime != 0);
    ds.sem_perm.mode = 0644;
    OK(semctl(id, 0, IPC_SET, (union arg){.buf = &ds}));
    struct seminfo info;
    int highest = semctl(0, 0, SEM_INFO, (union arg){.info = &info});
    CHECK(highest >= 0 && info.semusz >= 1 && info.semaem >= 3 && info.semvmx == 32767);
    int found = 0;
    for (int i = 0; i <= highest; i++)
        found |= semctl(i, 0, SEM_STAT, (union arg){.buf = &ds}) == id && ds.sem_perm.mode == 0644;
    CHECK(found);
    if (geteuid() == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            OK(setgid(12345));
            OK(setuid(12345));
            EQ(semctl(id, 0, GETVAL), 5);
            ERR(op(id, 0, 1, 0), EACCES);
            ERR(semctl(id, 0, SETVAL, (union arg){.val = 1}), EACCES);
            ERR(semctl(id, 0, IPC_RMID), EPERM);
            ERR(semget(key(), 3, 0666), EACCES);
            _exit(0);
        }
        CHILD_OK(pid);
    }
    OK(semctl(id, 0, IPC_RMID));
    ERR(semctl(id, 0, IPC_RMID), EINVAL);
    ERR(op(id, 0, 1, 0), EINVAL);
}
static void wait_for(int id, int num, int cmd, int n) {
    for (int i = 0; i < 500 && semctl(id, num, cmd) != n; i++)
        t_sleep_ms(2);
    EQ(semctl(id, num, cmd), n);
}
CASE(sem_waits) {
    keeper = getpid();
    FD(id, sem_kept = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
    atexit(lose);
    pid_t down = fork();
    if (down == 0) {
        OK(op(id, 0, -2, 0));
        _exit(0);
    }
    wait_for(id, 0, GETNCNT, 1);
    EQ(semctl(id, 0, GETZCNT), 0);
    OK(op(id, 0, 1, 0));
    EQ(semctl(id, 0, GETNCNT), 1);
    pid_t zero = fork();
    if (zero == 0) {
        OK(op(id, 0, 0, 0));
        _exit(0);
    }
    wait_for(id, 0, GETZCNT, 1);
    OK(op(id, 0, 1, 0));
    CHILD_OK(down);
    CHILD_OK(zero);
    EQ(semctl(id, 0, GETVAL), 0);
    /* A time limit, a signal, the end of the set. */
    struct sembuf b = {1, -1, 0};
    struct timespec limit = {0, 30000000}, bad = {0, 1000000000};
    ERR(semtimedop(id, &b, 1, &limit), EAGAIN);
    ERR(semtimedop(id, &b, 1, &bad), EINVAL);
    b.sem_op = 1;
    OK(semtimedop(id, &b, 1, &limit));
    pid_t left = fork();
    if (left == 0) {
        ERR(op(id, 1, 0, 0), EIDRM);
        _exit(0);
    }
    wait_for(id, 1, GETZCNT, 1);
    OK(semctl(id, 0, IPC_RMID));
    CHILD_OK(left);
}
static void nothing(int sig) {
}
CASE(sem_interrupted) {
    keeper = getpid();
    FD(id, sem_kept = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
    atexit(lose);
    struct sigaction act = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    OK(sigaction(SIGUSR1, &act, NULL));
    pid_t me = getpid(), pid = fork();
    if (pid == 0) {
        wait_for(id, 0, GETNCNT, 1);
        OK(kill(me, SIGUSR1));
        _exit(0);
    }
    ERR(op(id, 0, -1, 0), EINTR);
    EQ(semctl(id, 0, GETNCNT), 0);
    CHILD_OK(pid);
    OK(semctl(id, 0, IPC_RMID));
}
static void *takes(void *arg) {
    op(*(int *)arg, 0, -2, SEM_UNDO);
    return NULL;
}
CASE(sem_undo) {
    keeper = getpid();
    FD(id, sem_kept = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600));
    atexit(lose);
    unsigned short values[2] = {10, 10};
    OK(semctl(id, 0, SETALL, (union arg){.array = values}));
    pid_t pid = fork();
    if (pid == 0) {
        OK(op(id, 0, -3, SEM_UNDO));
        OK(op(id, 1, 4, SEM_UNDO));
        EQ(semctl(id, 0, GETVAL), 7);
        pthread_t thread;
        pthread_create(&thread, NULL, takes, &id);
        pthread_join(thread, NULL);
        /* The threads of a process undo together. */
        EQ(semctl(id, 0, GETVAL), 5);
        /* A fork has nothing to undo. */
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        CHILD_OK(child);
        EQ(semctl(id, 0, GETVAL), 5);
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(semctl(id, 0, GETVAL), 10);
    EQ(semctl(id, 1, GETVAL), 10);
    EQ(semctl(id, 0, GETPID), pid);
    /* It lasts over exec, and death by a signal. */
    pid = fork();
    if (pid == 0) {
        OK(op(id, 0, -3, SEM_UNDO));
        char *argv[] = {"sh", "-c", "kill -9 $$", NULL};
        execv("/bin/sh", argv);
        _exit(9);
    }
    EQ(t_wait(pid), 9);
    EQ(semctl(id, 0, GETVAL), 10);
    pid = fork();
    if (pid == 0) {
        OK(op(id, 0, -3, SEM_UNDO));
        OK(semctl(id, 0, SETVAL, (union arg){.val = 2}));
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(semctl(id, 0, GETVAL), 2);
    OK(semctl(id, 0, IPC_RMID));
}

struct message {
    long type;
    char text[64];
};
static int send(int id, long type, const char *text, int flags) {
    struct message m = {.type = type};
    strcpy(m.text, text);
    return msgsnd(id, &m, strlen(text), flags);
}
CASE(msg_types) {
    keeper = getpid();
    ERR(msgget(key(), 0), ENOENT);
    FD(id, msg_kept = msgget(key(), IPC_CREAT | IPC_EXCL | 0600));
    atexit(lose);
    ERR(msgget(key(), IPC_CREAT | IPC_EXCL), EEXIST);
    EQ(msgget(key(), 0), id);
    OK(send(id, 5, "five", 0));
    OK(send(id, 3, "three", 0));
    OK(send(id, 7, "seven", 0));
    OK(send(id, 3, "again", 0));
    ERR(send(id, 0, "x", 0), EINVAL);
    ERR(send(id, -1, "x", 0), EINVAL);
    struct message m;
    ERR(msgsnd(id, &m, -1, 0), EINVAL);
    ERR(msgsnd(id, &m, 8193, 0), EINVAL);
    ERR(msgsnd(id, BAD_ADDRESS, 5, 0), EFAULT);
    int copy = msgrcv(id, &m, 64, 2, MSG_COPY | IPC_NOWAIT);
    if (copy != -1 || errno != ENOSYS) {
        EQ(copy, 5);
        EQ(m.type, 7);
        ERR(msgrcv(id, &m, 64, 9, MSG_COPY | IPC_NOWAIT), ENOMSG);
        ERR(msgrcv(id, &m, 64, 0, MSG_COPY), EINVAL);
    }
    EQ(msgrcv(id, &m, 64, -4, 0), 5);
    CHECK(m.type == 3 && memcmp(m.text, "three", 5) == 0);
    EQ(msgrcv(id, &m, 64, 5, MSG_EXCEPT), 5);
    CHECK(m.type == 7);
    ERR(msgrcv(id, &m, 2, 0, 0), E2BIG);
    EQ(msgrcv(id, &m, 2, 0, MSG_NOERROR), 2);
    CHECK(m.type == 5 && memcmp(m.text, "fi", 2) == 0);
    ERR(msgrcv(id, &m, 64, 9, IPC_NOWAIT), ENOMSG);
    EQ(msgrcv(id, &m, 64, 3, 0), 5);
    struct msqid_ds ds;
    OK(msgctl(id, IPC_STAT, &ds));
    EQ(ds.msg_qnum, 0);
    EQ(ds.msg_cbytes, 0);
    EQ(ds.msg_qbytes, 16384);
    EQ(ds.msg_lspid, getpid());
    EQ(ds.msg_lrpid, getpid());
    CHECK(ds.msg_stime != 0 && ds.msg_rtime != 0);
    ERR(msgctl(id, 99, &ds), EINVAL);
    ERR(msgctl(-1, IPC_STAT, &ds), EINVAL);
    struct msginfo info;
    CHECK(msgctl(0, IPC_INFO, (void *)&info) >= 0);
    EQ(info.msgmax, 8192);
    int highest = msgctl(0, MSG_INFO, (void *)&info), found = 0;
    CHECK(info.msgpool >= 1);
    for (int i = 0; i <= highest; i++)
        found |= msgctl(i, MSG_STAT, &ds) == id;
    CHECK(found);
    OK(msgctl(id, IPC_RMID, NULL));
    ERR(msgctl(id, IPC_RMID, NULL), EINVAL);
    ERR(send(id, 1, "x", 0), EINVAL);
    ERR(msgrcv(id, &m, 64, 0, 0), EINVAL);
}
CASE(msg_waits) {
    keeper = getpid();
    FD(id, msg_kept = msgget(IPC_PRIVATE, IPC_CREAT | 0600));
    atexit(lose);
    struct msqid_ds ds;
    OK(msgctl(id, IPC_STAT, &ds));
    ds.msg_qbytes = 10;
    OK(msgctl(id, IPC_SET, &ds));
    OK(send(id, 1, "eight888", 0));
    ERR(send(id, 1, "333", IPC_NOWAIT), EAGAIN);
    pid_t sender = fork();
    if (sender == 0) {
        OK(send(id, 2, "waits", 0));
        _exit(0);
    }
    pid_t receiver = fork();
    if (receiver == 0) {
        struct message m;
        EQ(msgrcv(id, &m, 64, 9, 0), 4);
        CHECK(memcmp(m.text, "last", 4) == 0);
        ERR(msgrcv(id, &m, 64, 9, 0), EIDRM);
        _exit(0);
    }
    t_sleep_ms(30);
    struct message m;
    EQ(msgrcv(id, &m, 64, 0, 0), 8);
    CHILD_OK(sender);
    EQ(msgrcv(id, &m, 64, 2, 0), 5);
    OK(send(id, 9, "last", 0));
    for (int i = 0; i < 500 && (msgctl(id, IPC_STAT, &ds), ds.msg_qnum != 0); i++)
        t_sleep_ms(2);
    t_sleep_ms(20);
    OK(msgctl(id, IPC_RMID, NULL));
    CHILD_OK(receiver);
}
CASE(proc_files) {
    int n = 0;
    FILE *f = fopen("/proc/sys/kernel/sem", "r");
    int a, b, c, d;
    CHECK(f && fscanf(f, "%d %d %d %d", &a, &b, &c, &d) == 4 && c == 500);
    t_read_is("/proc/sys/kernel/msgmax", "8192\n");
    t_read_is("/proc/sys/kernel/msgmnb", "16384\n");
    t_read_is("/proc/sys/kernel/shmmni", "4096\n");
    CHECK(access("/proc/sys/kernel/shmall", R_OK) == 0 && access("/proc/sys/kernel/msgmni", R_OK) == 0);
    CHECK(access("/proc/sysvipc/msg", R_OK) == 0 && access("/proc/sysvipc/sem", R_OK) == 0);
}
