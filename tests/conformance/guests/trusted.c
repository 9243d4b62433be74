/* Extended attributes that need CAP_SYS_ADMIN: trusted and security. xattr(7). */
#include "t.h"
#include <sys/xattr.h>

static int lists(const char *path, const char *name) {
    char list[1024];
    ssize_t n = llistxattr(path, list, sizeof list);
    CHECK(n >= 0);
    for (ssize_t at = 0; at < n; at += strlen(list + at) + 1)
        if (strcmp(list + at, name) == 0)
            return 1;
    return 0;
}
static void make(void) {
    FD(fd, open("file", O_CREAT | O_WRONLY, 0666));
    OK(close(fd));
    OK(chmod("file", 0666));
    OK(mkdir("dir", 0777));
    OK(symlink("file", "link"));
    if (lsetxattr("file", "trusted.probe", "1", 1, 0) < 0)
        SKIP("no such attributes here");
    OK(lremovexattr("file", "trusted.probe"));
}

CASE(every_kind_of_file_has_them) {
    make();
    static const char *files[] = {"file", "dir", "link"}, *names[] = {"trusted.one", "security.two"};
    for (int f = 0; f < 3; f++)
        for (int n = 0; n < 2; n++) {
            char value[8];
            ERR(lsetxattr(files[f], names[n], "abc", 3, XATTR_REPLACE), ENODATA);
            OK(lsetxattr(files[f], names[n], "abc", 3, XATTR_CREATE));
            ERR(lsetxattr(files[f], names[n], "abc", 3, XATTR_CREATE), EEXIST);
            EQ(lgetxattr(files[f], names[n], value, sizeof value), 3);
            ERR(lgetxattr(files[f], names[n], value, 2), ERANGE);
            CHECK(lists(files[f], names[n]));
            OK(lremovexattr(files[f], names[n]));
            ERR(lgetxattr(files[f], names[n], value, sizeof value), ENODATA);
            CHECK(!lists(files[f], names[n]));
        }
}

CASE(others_see_half_of_them) {
    make();
    char value[8];
    OK(setxattr("file", "trusted.one", "abc", 3, 0));
    OK(setxattr("file", "security.two", "def", 3, 0));
    OK(syscall(SYS_setresuid, 1000, 1000, 1000));
    ERR(getxattr("file", "trusted.one", value, sizeof value), ENODATA);
    EQ(getxattr("file", "security.two", value, sizeof value), 3);
    ERR(setxattr("file", "trusted.one", "x", 1, 0), EPERM);
    ERR(setxattr("file", "security.two", "x", 1, 0), EPERM);
    ERR(removexattr("file", "trusted.one"), EPERM);
    ERR(removexattr("file", "security.two"), EPERM);
    CHECK(!lists("file", "trusted.one"));
    CHECK(lists("file", "security.two"));
}
