/* Keys and rings. Every case has a session's ring of its own, and with its process all it made is gone. */
#define T_SELF
#include "t.h"
#include <grp.h>
#include <linux/keyctl.h>

#define ADD(type, desc, data, len, ring) syscall(SYS_add_key, type, desc, data, (size_t)(len), ring)
#define REQUEST(type, desc, callout, ring) syscall(SYS_request_key, type, desc, callout, ring)
#define CTL(...) syscall(SYS_keyctl, __VA_ARGS__)
#define RING(id, create) CTL(KEYCTL_GET_KEYRING_ID, id, create)

#define T KEY_SPEC_THREAD_KEYRING
#define P KEY_SPEC_PROCESS_KEYRING
#define S KEY_SPEC_SESSION_KEYRING
#define U KEY_SPEC_USER_KEYRING
#define US KEY_SPEC_USER_SESSION_KEYRING
#define VIEW 0x01
#define READ 0x02
#define WRITE 0x04
#define SEARCH 0x08
#define LINK 0x10
#define SETATTR 0x20
#define ALL 0x3f
#define POS(bits) ((unsigned)(bits) << 24)
#define USR(bits) ((unsigned)(bits) << 16)

/* A number that no other key has. */
#define NO_KEY 1

static int begin(void) {
    long ring = CTL(KEYCTL_JOIN_SESSION_KEYRING, NULL);
    if (ring < 0 && (errno == ENOSYS || errno == EPERM))
        SKIP("no keys for anybody here");
    CHECK(ring > 0);
    return ring;
}
static int user_key(const char *desc, const char *data, int ring) {
    int key = ADD("user", desc, data, strlen(data), ring);
    CHECK(key > 0);
    return key;
}
static int new_ring(const char *desc, int on) {
    int key = ADD("keyring", desc, NULL, 0, on);
    CHECK(key > 0);
    return key;
}
static void holds(int key, const char *want) {
    char data[64] = "";
    EQ(CTL(KEYCTL_READ, key, data, sizeof data), strlen(want));
    CHECK(memcmp(data, want, strlen(want)) == 0);
}
static void describes(int key, const char *want) {
    char text[200];
    EQ(CTL(KEYCTL_DESCRIBE, key, text, sizeof text), strlen(want) + 1);
    if (strcmp(text, want) != 0)
        t_fail("describes itself as %s, not %s", text, want);
}
static int links(int ring) {
    return CTL(KEYCTL_READ, ring, NULL, 0) / 4;
}

/* The real kernel takes its time. */
static void goes(int key) {
    for (int i = 0; i < 500 && (CTL(KEYCTL_DESCRIBE, key, NULL, 0) >= 0 || errno != ENOKEY); i++)
        t_sleep_ms(10);
    ERR(CTL(KEYCTL_DESCRIBE, key, NULL, 0), ENOKEY);
}

static void *has_its_own(void *ring) {
    int own = RING(T, 0);
    CHECK(own > 0 && own != (long)ring);
    return NULL;
}
CASE(whose_rings) {
    int session = begin();
    EQ(RING(S, 0), session);
    ERR(RING(T, 0), ENOKEY);
    ERR(RING(P, 0), ENOKEY);
    int thread = RING(T, 1), process = RING(P, 1);
    CHECK(thread > 0 && process > 0 && thread != process);
    EQ(RING(T, 0), thread);
    EQ(RING(P, 1), process);
    EQ(RING(process, 0), process);
    ERR(RING(-6, 1), EINVAL);
    ERR(RING(KEY_SPEC_REQKEY_AUTH_KEY, 1), ENOKEY);
    ERR(RING(KEY_SPEC_REQUESTOR_KEYRING, 1), ENOKEY);
    ERR(RING(-9, 0), EINVAL);
    ERR(RING(0, 0), EINVAL);
    ERR(RING(NO_KEY, 0), ENOKEY);
    pthread_t other;
    EQ(pthread_create(&other, NULL, has_its_own, (void *)(long)thread), 0);
    EQ(pthread_join(other, NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        ERR(RING(T, 0), ENOKEY);
        ERR(RING(P, 0), ENOKEY);
        EQ(RING(S, 0), session);
        CHECK(begin() != session);
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(RING(S, 0), session);
}
static int t_self(int argc, char **argv) {
    t_name = "in the new program";
    ERR(RING(T, 0), ENOKEY);
    ERR(RING(P, 0), ENOKEY);
    EQ(RING(S, 0), atoi(argv[1] + 5));
    EQ(CTL(KEYCTL_SET_REQKEY_KEYRING, -1), 4);
    return 0;
}
CASE(a_new_program) {
    char text[24];
    snprintf(text, sizeof text, "self:%d", begin());
    OK(RING(T, 1));
    OK(RING(P, 1));
    EQ(CTL(KEYCTL_SET_REQKEY_KEYRING, 4), 0);
    execl("/proc/self/exe", "keys", text, NULL);
    t_fail("exec");
}
CASE(a_users_rings) {
    NEED_ROOT();
    begin();
    long mine = RING(U, 0), session = RING(US, 0);
    CHECK(mine > 0 && session > 0 && mine != session);
    OK(setresuid(51001, 51001, 51001));
    int other = RING(U, 0);
    CHECK(other > 0 && other != mine);
    EQ(RING(U, 1), other);
    describes(U, "keyring;51001;65534;1f3f0000;_uid.51001");
    describes(US, "keyring;51001;65534;1f3f0000;_uid_ses.51001");
    int serial;
    EQ(CTL(KEYCTL_READ, US, &serial, 4), 4);
    EQ(serial, other);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(RING(U, 0), other);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(users_of_another_namespace) {
    int session = begin(), before = RING(U, 0);
    if (unshare(CLONE_NEWUSER) != 0)
        SKIP("no user namespaces for this user");
    EQ(RING(S, 0), session);
    CHECK(RING(U, 0) != before);
    describes(U, "keyring;65534;65534;1f3f0000;_uid.4294967295");
    t_write_file("/proc/self/uid_map", "7 0 1");
    describes(U, "keyring;7;65534;1f3f0000;_uid.7");
}
CASE(add) {
    begin();
    int key = user_key("a", "one", S);
    holds(key, "one");
    EQ(user_key("a", "second", S), key);
    holds(key, "second");
    describes(key, "user;0;0;3f010000;a");
    char data[8] = "-------";
    EQ(CTL(KEYCTL_READ, key, data, 5), 6);
    EQ(data[0], '-');
    EQ(CTL(KEYCTL_READ, key, NULL, 100), 6);
    ERR(CTL(KEYCTL_READ, key, BAD_ADDRESS, 100), EFAULT);
    EQ(CTL(KEYCTL_DESCRIBE, key, data, 3), 20);
    ERR(CTL(KEYCTL_DESCRIBE, key, BAD_ADDRESS, 100), EFAULT);
    OK(CTL(KEYCTL_UPDATE, key, "third", 5));
    holds(key, "third");
    ERR(CTL(KEYCTL_UPDATE, key, "", 0), EINVAL);
    ERR(CTL(KEYCTL_UPDATE, key, BAD_ADDRESS, 5), EFAULT);
    ERR(CTL(KEYCTL_UPDATE, key, data, 4097), EINVAL);
    ERR(CTL(KEYCTL_UPDATE, S, "", 0), EOPNOTSUPP);
    int secret = ADD("logon", "service:a", "xyz", 3, S);
    CHECK(secret > 0);
    ERR(CTL(KEYCTL_READ, secret, data, sizeof data), EOPNOTSUPP);
    describes(secret, "logon;0;0;3d010000;service:a");
    int first = new_ring("r", S), again = new_ring("r", S);
    CHECK(first != again);
    goes(first);
    EQ(links(S), 3);
}
CASE(add_errors) {
    begin();
    static char big[1 << 20], name[4200];
    memset(name, 'n', sizeof name - 1);
    ERR(ADD("user", "a", big, 1 << 20, S), EINVAL);
    ERR(ADD("user", "a", big, 32768, S), EINVAL);
    OK(ADD("user", "a", big, 32767, S));
    ERR(ADD("user", "a", "", 0, S), EINVAL);
    ERR(ADD("user", "a", NULL, 5, S), EFAULT);
    ERR(ADD(BAD_ADDRESS, "a", "x", 1, S), EFAULT);
    ERR(ADD("user", BAD_ADDRESS, "x", 1, S), EFAULT);
    ERR(ADD("user", NULL, "x", 1, S), EINVAL);
    ERR(ADD("user", "", "x", 1, S), EINVAL);
    ERR(ADD("", "a", "x", 1, S), EINVAL);
    ERR(ADD(".user", "a", "x", 1, S), EPERM);
    ERR(ADD("a_type_that_has_a_name_of_32_char", "a", "x", 1, S), EINVAL);
    ERR(ADD("no_such_type", "a", "x", 1, S), ENODEV);
    ERR(ADD("no_such_type", "a", "x", 1, NO_KEY), ENOKEY);
    ERR(ADD("user", name, "x", 1, S), EINVAL);
    name[4095] = 0;
    OK(ADD("user", name, "x", 1, S));
    ERR(ADD("keyring", "r", "x", 1, S), EINVAL);
    ERR(ADD("keyring", ".r", NULL, 0, S), EPERM);
    OK(ADD("user", ".r", "x", 1, S));
    ERR(ADD("logon", "a", "x", 1, S), EINVAL);
    ERR(ADD("logon", ":a", "x", 1, S), EINVAL);
    int key = user_key("k", "x", S);
    ERR(ADD("user", "b", "x", 1, key), ENOTDIR);
    ERR(ADD("user", "b", "", 0, key), ENOTDIR);
    ERR(ADD("user", "b", "x", 1, 0), EINVAL);
    ERR(ADD("user", "b", "x", 1, NO_KEY), ENOKEY);
}
CASE(big_keys) {
    begin();
    static char data[(1 << 20) - 1], back[1 << 20];
    memset(data, 'b', sizeof data);
    int key = ADD("big_key", "b", data, sizeof data, S);
    if (key < 0 && errno == ENODEV)
        SKIP("not in this kernel");
    EQ(CTL(KEYCTL_READ, key, back, sizeof back), sizeof data);
    CHECK(memcmp(data, back, sizeof data) == 0);
}
CASE(rings_on_rings) {
    begin();
    int a = new_ring("a", S), b = new_ring("b", a), key = user_key("k", "x", b);
    ERR(CTL(KEYCTL_LINK, a, a), EDEADLK);
    ERR(CTL(KEYCTL_LINK, a, b), EDEADLK);
    ERR(CTL(KEYCTL_LINK, S, b), EDEADLK);
    ERR(CTL(KEYCTL_LINK, key, key), ENOTDIR);
    ERR(CTL(KEYCTL_LINK, NO_KEY, a), ENOKEY);
    EQ(links(b), 1);
    OK(CTL(KEYCTL_LINK, key, a));
    OK(CTL(KEYCTL_LINK, key, a));
    EQ(links(a), 2);
    OK(CTL(KEYCTL_UNLINK, key, a));
    ERR(CTL(KEYCTL_UNLINK, key, a), ENOENT);
    ERR(CTL(KEYCTL_UNLINK, NO_KEY, a), ENOKEY);
    ERR(CTL(KEYCTL_UNLINK, a, key), ENOTDIR);
    /* By its name another goes. */
    int same = user_key("k", "y", a);
    OK(CTL(KEYCTL_UNLINK, key, a));
    goes(same);
    EQ(CTL(KEYCTL_SEARCH, S, "user", "k", 0), key);
    EQ(CTL(KEYCTL_SEARCH, S, "user", "k", S), key);
    EQ(links(S), 2);
    ERR(CTL(KEYCTL_SEARCH, S, "user", "l", 0), ENOKEY);
    ERR(CTL(KEYCTL_SEARCH, S, "no_such_type", "l", 0), ENOKEY);
    ERR(CTL(KEYCTL_SEARCH, key, "user", "k", 0), ENOTDIR);
    ERR(CTL(KEYCTL_SEARCH, S, "user", "k", key), ENOTDIR);
    ERR(CTL(KEYCTL_SEARCH, S, "user", BAD_ADDRESS, 0), EFAULT);
    EQ(CTL(KEYCTL_SEARCH, S, "keyring", "b", 0), b);
    EQ(CTL(KEYCTL_SEARCH, S, "keyring", "_ses", 0), RING(S, 0));
    ERR(CTL(KEYCTL_CLEAR, key), ENOTDIR);
    OK(CTL(KEYCTL_CLEAR, b));
    EQ(links(b), 0);
    OK(CTL(KEYCTL_CLEAR, S));
    goes(a);
}
CASE(depth) {
    begin();
    int chain[9];
    char name[2] = "0";
    for (int i = 0; i < 9; i++, name[0]++) {
        chain[i] = new_ring(name, S);
        if (i > 0)
            OK(CTL(KEYCTL_LINK, chain[i], chain[i - 1]));
    }
    int other = new_ring("other", S), key = user_key("deep", "x", chain[8]);
    ERR(CTL(KEYCTL_LINK, chain[1], other), ELOOP);
    OK(CTL(KEYCTL_LINK, chain[2], other));
    ERR(CTL(KEYCTL_SEARCH, chain[1], "user", "deep", 0), ENOKEY);
    EQ(CTL(KEYCTL_SEARCH, chain[2], "user", "deep", 0), key);
}
CASE(moves) {
    begin();
    int a = new_ring("a", S), b = new_ring("b", S), key = user_key("k", "x", a);
    ERR(CTL(KEYCTL_MOVE, key, a, b, 2), EINVAL);
    ERR(CTL(KEYCTL_MOVE, key, b, a, 0), ENOENT);
    ERR(CTL(KEYCTL_MOVE, key, a, key, 0), ENOTDIR);
    OK(CTL(KEYCTL_MOVE, key, a, a, 0));
    OK(CTL(KEYCTL_MOVE, key, a, b, KEYCTL_MOVE_EXCL));
    EQ(links(a), 0);
    int old = user_key("k", "y", a);
    ERR(CTL(KEYCTL_MOVE, key, b, a, KEYCTL_MOVE_EXCL), EEXIST);
    OK(CTL(KEYCTL_MOVE, key, b, a, 0));
    EQ(links(a), 1);
    EQ(links(b), 0);
    OK(CTL(KEYCTL_MOVE, b, S, a, 0));
    ERR(CTL(KEYCTL_MOVE, a, S, b, 0), EDEADLK);
    OK(CTL(KEYCTL_RESTRICT_KEYRING, b, NULL, NULL));
    ERR(CTL(KEYCTL_RESTRICT_KEYRING, b, NULL, NULL), EEXIST);
    ERR(CTL(KEYCTL_RESTRICT_KEYRING, a, "user", NULL), EINVAL);
    ERR(CTL(KEYCTL_RESTRICT_KEYRING, a, "user", "x"), ENOENT);
    ERR(CTL(KEYCTL_RESTRICT_KEYRING, a, "no_such_type", "x"), ENOKEY);
    ERR(CTL(KEYCTL_RESTRICT_KEYRING, key, NULL, NULL), ENOTDIR);
    ERR(CTL(KEYCTL_LINK, key, b), EPERM);
    ERR(ADD("user", "n", "x", 1, b), EPERM);
}
CASE(dead_keys) {
    begin();
    int key = user_key("k", "x", S);
    OK(CTL(KEYCTL_REVOKE, key));
    ERR(CTL(KEYCTL_REVOKE, key), EKEYREVOKED);
    ERR(CTL(KEYCTL_READ, key, NULL, 0), EKEYREVOKED);
    ERR(CTL(KEYCTL_DESCRIBE, key, NULL, 0), EKEYREVOKED);
    ERR(CTL(KEYCTL_SEARCH, S, "user", "k", 0), EKEYREVOKED);
    ERR(CTL(KEYCTL_LINK, key, S), EKEYREVOKED);
    ERR(REQUEST("user", "k", NULL, 0), EKEYREVOKED);
    CHECK(user_key("k", "y", S) != key);
    int gone = user_key("g", "x", S);
    OK(CTL(KEYCTL_INVALIDATE, gone));
    ERR(CTL(KEYCTL_INVALIDATE, gone), ENOKEY);
    ERR(CTL(KEYCTL_READ, gone, NULL, 0), ENOKEY);
    int ring = new_ring("r", S), short_lived = user_key("t", "x", S), updated = user_key("u", "x", S);
    /* Seconds that have begun count: a timeout of one may be over at once. */
    OK(CTL(KEYCTL_SET_TIMEOUT, short_lived, 2));
    OK(CTL(KEYCTL_SET_TIMEOUT, updated, 2));
    OK(CTL(KEYCTL_SET_TIMEOUT, ring, 2));
    holds(short_lived, "x");
    OK(CTL(KEYCTL_UPDATE, updated, "y", 1));
    t_sleep_ms(3100);
    holds(updated, "y");
    ERR(CTL(KEYCTL_READ, short_lived, NULL, 0), EKEYEXPIRED);
    ERR(CTL(KEYCTL_SET_TIMEOUT, short_lived, 0), EKEYEXPIRED);
    ERR(CTL(KEYCTL_SEARCH, S, "user", "t", 0), EKEYEXPIRED);
    ERR(REQUEST("user", "t", NULL, 0), ENOKEY);
    ERR(REQUEST("keyring", "z", NULL, ring), EKEYEXPIRED);
    ERR(ADD("user", "z", "x", 1, ring), EKEYEXPIRED);
    /* It lives again. */
    EQ(user_key("t", "z", S), short_lived);
    holds(short_lived, "z");
    OK(CTL(KEYCTL_REVOKE, S));
    ERR(RING(S, 0), EKEYREVOKED);
    ERR(ADD("user", "z", "x", 1, S), EKEYREVOKED);
}
CASE(requests) {
    begin();
    int key = user_key("k", "x", S), ring = new_ring("r", P);
    EQ(REQUEST("user", "k", NULL, 0), key);
    EQ(REQUEST("user", "k", "make", ring), key);
    EQ(links(ring), 1);
    EQ(REQUEST("keyring", "r", NULL, 0), ring);
    ERR(REQUEST("user", "l", NULL, 0), ENOKEY);
    ERR(REQUEST("no_such_type", "k", NULL, 0), ENOKEY);
    ERR(REQUEST(".type", "k", NULL, 0), EPERM);
    ERR(REQUEST("user", NULL, NULL, 0), EFAULT);
    ERR(REQUEST("user", "k", BAD_ADDRESS, 0), EFAULT);
    ERR(REQUEST("user", "k", NULL, NO_KEY), ENOKEY);
    ERR(REQUEST("user", "k", NULL, key), ENOTDIR);
    ERR(REQUEST("keyring", "l", "make", 0), EPERM);
    ERR(REQUEST("logon", "l", "make", 0), EINVAL);
    if (access("/sbin/request-key", F_OK) == 0)
        SKIP("a program answers");
    ERR(REQUEST("user", "l", "make", ring), ENOENT);
    ERR(REQUEST("user", "l", NULL, 0), ENOKEY);
    ERR(CTL(KEYCTL_SEARCH, P, "user", "l", 0), ENOKEY);
    EQ(links(ring), 2);
    int serials[2];
    EQ(CTL(KEYCTL_READ, ring, serials, sizeof serials), sizeof serials);
    int negative = serials[0] == key ? serials[1] : serials[0];
    describes(negative, "user;0;0;3f010000;l");
    ERR(CTL(KEYCTL_READ, negative, NULL, 0), ENOKEY);
    ERR(CTL(KEYCTL_UPDATE, negative, "x", 1), ENOKEY);
    ERR(CTL(KEYCTL_LINK, negative, S), ENOKEY);
    EQ(user_key("l", "found", ring), negative);
    EQ(REQUEST("user", "l", NULL, 0), negative);
    /* Where they are put that nobody names a ring for. */
    OK(RING(T, 1));
    ERR(REQUEST("user", "m", "make", 0), ENOENT);
    EQ(links(T), 1);
    EQ(CTL(KEYCTL_SET_REQKEY_KEYRING, 2), 0);
    ERR(REQUEST("user", "n", "make", 0), ENOENT);
    EQ(links(P), 2);
    EQ(CTL(KEYCTL_SET_REQKEY_KEYRING, 3), 2);
    OK(CTL(KEYCTL_SETPERM, S, POS(ALL & ~WRITE)));
    ERR(REQUEST("user", "o", "make", 0), EACCES);
    ERR(CTL(KEYCTL_SET_REQKEY_KEYRING, 6), EINVAL);
    EQ(CTL(KEYCTL_SET_REQKEY_KEYRING, -1), 3);
}
CASE(permissions) {
    NEED_ROOT();
    begin();
    int ring = new_ring("r", S), key = user_key("k", "x", ring);
    ERR(CTL(KEYCTL_SETPERM, key, 0x40000000), EINVAL);
    OK(CTL(KEYCTL_SETPERM, key, POS(ALL & ~READ) | USR(VIEW)));
    holds(key, "x");
    OK(CTL(KEYCTL_SETPERM, key, POS(SETATTR | SEARCH) | USR(VIEW)));
    ERR(CTL(KEYCTL_UPDATE, key, "y", 1), EACCES);
    ERR(CTL(KEYCTL_LINK, key, S), EACCES);
    OK(CTL(KEYCTL_SETPERM, key, POS(SETATTR) | USR(VIEW)));
    /* What cannot be searched is not possessed. */
    ERR(CTL(KEYCTL_SETPERM, key, POS(ALL)), EACCES);
    ERR(CTL(KEYCTL_READ, key, NULL, 0), EACCES);
    ERR(REQUEST("user", "k", NULL, 0), EACCES);
    int own = user_key("own", "x", ring), open = user_key("open", "x", ring), group = user_key("group", "x", ring);
    OK(CTL(KEYCTL_SETPERM, open, POS(ALL) | VIEW | READ | SEARCH));
    gid_t groups[] = {51000};
    OK(setgroups(1, groups));
    OK(CTL(KEYCTL_CHOWN, group, -1, 51000));
    OK(CTL(KEYCTL_SETPERM, group, POS(ALL) | (VIEW | READ | SEARCH) << 8));
    OK(CTL(KEYCTL_CHOWN, own, -1, -1));
    OK(CTL(KEYCTL_CHOWN, NO_KEY, -1, -1));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setresgid(51002, 51002, 51002));
        OK(setresuid(51002, 51002, 51002));
        /* It still has the session. */
        holds(own, "x");
        ERR(CTL(KEYCTL_CHOWN, own, 51002, -1), EACCES);
        ERR(CTL(KEYCTL_SETPERM, own, POS(ALL)), EACCES);
        OK(CTL(KEYCTL_CHOWN, own, -1, 51000));
        ERR(CTL(KEYCTL_CHOWN, own, -1, 51003), EACCES);
        begin();
        ERR(CTL(KEYCTL_READ, own, NULL, 0), EACCES);
        ERR(CTL(KEYCTL_DESCRIBE, own, NULL, 0), EACCES);
        ERR(CTL(KEYCTL_GET_SECURITY, own, NULL, 0), ENOKEY);
        ERR(CTL(KEYCTL_REVOKE, open), EACCES);
        holds(open, "x");
        holds(group, "x");
        OK(CTL(KEYCTL_DESCRIBE, group, NULL, 0));
        ERR(CTL(KEYCTL_LINK, open, S), EACCES);
        ERR(CTL(KEYCTL_INVALIDATE, own), EACCES);
        _exit(0);
    }
    CHILD_OK(pid);
    describes(own, "user;0;51000;3f010000;own");
}
CASE(sessions) {
    int session = begin(), key = user_key("k", "x", S);
    ERR(CTL(KEYCTL_JOIN_SESSION_KEYRING, ".name"), EPERM);
    ERR(CTL(KEYCTL_JOIN_SESSION_KEYRING, ""), EINVAL);
    ERR(CTL(KEYCTL_JOIN_SESSION_KEYRING, BAD_ADDRESS), EFAULT);
    char name[40];
    snprintf(name, sizeof name, "session-%d", getpid());
    int named = CTL(KEYCTL_JOIN_SESSION_KEYRING, name);
    CHECK(named > 0 && named != session);
    goes(key);
    OK(CTL(KEYCTL_SETPERM, S, POS(ALL) | USR(ALL)));
    EQ(CTL(KEYCTL_JOIN_SESSION_KEYRING, name), 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(begin() != named);
        EQ(CTL(KEYCTL_JOIN_SESSION_KEYRING, name), named);
        CHECK(begin() != named);
        user_key("given", "x", S);
        OK(CTL(KEYCTL_SESSION_TO_PARENT));
        OK(CTL(KEYCTL_SESSION_TO_PARENT));
        _exit(0);
    }
    CHILD_OK(pid);
    CHECK(RING(S, 0) != named);
    CHECK(CTL(KEYCTL_SEARCH, S, "user", "given", 0) > 0);
    OK(CTL(KEYCTL_SETPERM, S, POS(ALL & ~LINK)));
    ERR(CTL(KEYCTL_SESSION_TO_PARENT), EACCES);
}
/* Of a user's line in /proc/key-users: keys, bytes, and the most of both. */
static int used(int uid, int *n) {
    FILE *f = fopen("/proc/key-users", "r");
    char line[200];
    int found = 0, user, records, all, live;
    CHECK(f);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%d: %d %d/%d %d/%d %d/%d", &user, &records, &all, &live, n, n + 1, n + 2, n + 3) == 8)
            found |= user == uid;
        else
            t_fail("/proc/key-users has %s", line);
    rewind(f);
    while (found && fgets(line, sizeof line, f))
        if (sscanf(line, "%d: %*d %*d/%*d %d/%d %d/%d", &user, n, n + 1, n + 2, n + 3) == 5 && user == uid)
            break;
    fclose(f);
    return found;
}
CASE(quotas) {
    NEED_ROOT();
    begin();
    int uid = 52000 + getpid() % 10000, n[4], before[4];
    OK(setresuid(uid, uid, uid));
    CHECK(!used(uid, n));
    OK(RING(T, 1));
    CHECK(used(uid, before));
    EQ(before[0], 1);
    EQ(before[2], 5);
    static char data[32767];
    int room = before[3] - before[2] - 4 - 2;
    ERR(ADD("user", "k", data, room + 1, T), EDQUOT);
    used(uid, n);
    EQ(n[0], 1);
    EQ(n[2], 5);
    OK(ADD("user", "k", data, room, T));
    used(uid, n);
    EQ(n[2], n[3]);
    ERR(ADD("user", "k", data, room + 1, T), EDQUOT);
    ERR(ADD("user", "l", data, 1, T), EDQUOT);
    OK(CTL(KEYCTL_CLEAR, T));
    /* The real kernel counts a dead key until it has been swept up. */
    for (int i = 0; i < 500 && used(uid, n) && n[0] > 1; i++)
        t_sleep_ms(10);
    EQ(n[2], 5);
    char name[16];
    for (int i = 1; i < before[1]; i++) {
        snprintf(name, sizeof name, "k%d", i);
        OK(ADD("user", name, data, 1, T));
    }
    ERR(ADD("user", "more", data, 1, T), EDQUOT);
    used(uid, n);
    EQ(n[0], n[1]);
}
CASE(what_proc_tells) {
    begin();
    int key = user_key("name of it", "four", S), ring = new_ring("r", S);
    OK(CTL(KEYCTL_SET_TIMEOUT, key, 7200 + 1800));
    char line[300], want[2][200];
    snprintf(want[0], sizeof want[0], "%08x I--Q---     1   2h 3f010000 %5d %5d user      name of it: 4\n", key, getuid(), getgid());
    snprintf(want[1], sizeof want[1], "%08x I--Q---     1 perm 3f010000 %5d %5d keyring   r: empty\n", ring, getuid(), getgid());
    FILE *f = fopen("/proc/keys", "r");
    CHECK(f);
    int found = 0;
    while (fgets(line, sizeof line, f))
        found |= (strcmp(line, want[0]) == 0) | (strcmp(line, want[1]) == 0) << 1;
    fclose(f);
    EQ(found, 3);
    /* Who may not view it does not see it. */
    OK(CTL(KEYCTL_SETPERM, key, POS(ALL & ~VIEW)));
    CHECK((f = fopen("/proc/keys", "r")));
    while (fgets(line, sizeof line, f))
        CHECK(strtoul(line, NULL, 16) != (unsigned long)key);
    fclose(f);
    const char *settings[] = {"gc_delay", "maxbytes", "maxkeys", "root_maxbytes", "root_maxkeys"};
    for (int i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/sys/kernel/keys/%s", settings[i]);
        FD(fd, open(path, O_RDONLY));
        CHECK(read(fd, line, sizeof line) > 1);
        close(fd);
    }
}
CASE(other_operations) {
    begin();
    int key = user_key("k", "x", S);
    unsigned char caps[4] = {9, 9, 9, 9};
    EQ(CTL(KEYCTL_CAPABILITIES, caps, sizeof caps), 2);
    CHECK(caps[0] & KEYCTL_CAPS0_CAPABILITIES && caps[0] & KEYCTL_CAPS0_INVALIDATE && caps[0] & KEYCTL_CAPS0_MOVE);
    EQ(caps[1], 3);
    EQ(caps[2] + caps[3], 0);
    caps[0] = 9;
    EQ(CTL(KEYCTL_CAPABILITIES, caps, 0), 2);
    EQ(caps[0], 9);
    ERR(CTL(KEYCTL_CAPABILITIES, BAD_ADDRESS, 2), EFAULT);
    ERR(CTL(KEYCTL_GET_SECURITY, NO_KEY, caps, 4), ENOKEY);
    /* Only who makes a key for another instantiates it. */
    ERR(CTL(KEYCTL_INSTANTIATE, key, "x", 1, S), EPERM);
    ERR(CTL(KEYCTL_INSTANTIATE, key, "x", 1 << 20, S), EINVAL);
    ERR(CTL(KEYCTL_INSTANTIATE_IOV, key, NULL, 0, S), EPERM);
    ERR(CTL(KEYCTL_INSTANTIATE_IOV, key, BAD_ADDRESS, 1, S), EFAULT);
    ERR(CTL(KEYCTL_NEGATE, key, 1, S), EPERM);
    ERR(CTL(KEYCTL_REJECT, key, 1, ENOKEY, S), EPERM);
    ERR(CTL(KEYCTL_REJECT, key, 1, 0, S), EINVAL);
    ERR(CTL(KEYCTL_REJECT, key, 1, 512, S), EINVAL);
    ERR(CTL(KEYCTL_REJECT, key, 1, 4096, S), EINVAL);
    EQ(CTL(KEYCTL_ASSUME_AUTHORITY, 0), 0);
    ERR(CTL(KEYCTL_ASSUME_AUTHORITY, -1), EINVAL);
    ERR(CTL(KEYCTL_ASSUME_AUTHORITY, key), ENOKEY);
    ERR(CTL(999), EOPNOTSUPP);
}
static void *another_user(void *unused) {
    OK(RING(T, 1));
    OK(syscall(SYS_setresuid, -1, 51005, -1));
    describes(T, "keyring;51005;0;3f010000;_tid");
    OK(CTL(KEYCTL_SETPERM, T, POS(ALL)));
    return NULL;
}
CASE(a_thread_that_changes_who_it_is) {
    NEED_ROOT();
    begin();
    pthread_t other;
    EQ(pthread_create(&other, NULL, another_user, NULL), 0);
    EQ(pthread_join(other, NULL), 0);
}
