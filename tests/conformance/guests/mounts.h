/* A namespace of mounts of the case's own, and what mountinfo says in it. */
#ifndef MOUNTS_H
#define MOUNTS_H
#include "t.h"
#include <sys/mount.h>

static inline void put(const char *path, const char *text) {
    FD(fd, open(path, O_WRONLY));
    EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}
/* Root of a namespace of users and mounts, below a tmpfs of its own named "m". */
static inline void alone(void) {
    char uid[32], gid[32];
    sprintf(uid, "0 %d 1", geteuid());
    sprintf(gid, "0 %d 1", getegid());
    OK(unshare(CLONE_NEWUSER | CLONE_NEWNS));
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", uid);
    put("/proc/self/gid_map", gid);
    OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
    OK(mkdir("m", 0755));
    OK(mount("source", "m", "tmpfs", 0, "size=1m,mode=755"));
    OK(chdir("m"));
}
/* The words of this process's line for `path` in mountinfo from `from` on, without ids. */
static inline const char *info(const char *path, int from) {
    static char line[4096];
    static char words[4096];
    char want[PATH_MAX];
    CHECK(realpath(path, want));
    FILE *f = fopen("/proc/self/mountinfo", "r");
    words[0] = 0;
    while (fgets(line, sizeof line, f)) {
        char at[4096];
        if (sscanf(line, "%*d %*d %*s %*s %4095s", at) == 1 && strcmp(at, want) == 0) {
            words[0] = 0;
            int n = 0;
            for (char *w = strtok(line, " \n"); w; w = strtok(NULL, " \n"), n++)
                if (n >= from && n != 4)
                    strcat(strcat(words, *words ? " " : ""), w);
        }
    }
    fclose(f);
    return words;
}
#define INFO(path, want)                                                                                               \
    do {                                                                                                               \
        const char *got_ = info(path, 3);                                                                              \
        if (strcmp(got_, want) != 0)                                                                                   \
            t_fail("line %d: '%s', not '%s'", __LINE__, got_, want);                                                   \
    } while (0)
/* The number of a mount that no other ever has. */
static inline uint64_t unique(int dir, const char *path) {
    struct statx x;
    OK(statx(dir, path, AT_EMPTY_PATH, 0x4000, &x));
    CHECK(x.stx_mask & 0x4000);
    return x.stx_mnt_id;
}
#endif
