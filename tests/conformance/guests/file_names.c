/* mkdir, rmdir, rename, link, symlink, unlink, readlink, chdir, getcwd, getdents and their *at forms. */
#include "t.h"
#include <dirent.h>

static int exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

CASE(mkdir_rmdir) {
    OK(mkdir("d", 0751));
    struct stat st;
    OK(stat("d", &st));
    EQ(st.st_mode, S_IFDIR | 0751);
    EQ(st.st_nlink, 2);
    ERR(mkdir("d", 0755), EEXIST);
    ERR(mkdir("missing/d", 0755), ENOENT);
    OK(mkdir("d/e", 0755));
    ERR(rmdir("d"), ENOTEMPTY);
    OK(rmdir("d/e"));
    OK(rmdir("d/"));
    ERR(rmdir("d"), ENOENT);
    t_write_file("f", "");
    ERR(rmdir("f"), ENOTDIR);
    ERR(mkdir("f/d", 0755), ENOTDIR);
    ERR(mkdir("f", 0755), EEXIST);
    ERR(rmdir("."), EINVAL);
    OK(mkdir("x", 0755));
    ERR(rmdir("x/.."), ENOTEMPTY);
    ERR(mkdir(BAD_ADDRESS, 0755), EFAULT);
}
CASE(mkdir_trailing_slash) {
    OK(mkdir("d/", 0755));
    CHECK(exists("d"));
    ERR(open("new/", O_CREAT | O_RDWR, 0644), EISDIR);
}
CASE(mkdirat_unlinkat) {
    OK(mkdir("d", 0755));
    FD(d, open("d", O_RDONLY));
    OK(mkdirat(d, "e", 0755));
    CHECK(exists("d/e"));
    ERR(unlinkat(d, "e", 0), EISDIR);
    OK(unlinkat(d, "e", AT_REMOVEDIR));
    ERR(unlinkat(d, "e", AT_REMOVEDIR), ENOENT);
    ERR(unlinkat(d, "e", 0x1), EINVAL);
    ERR(mkdirat(999, "e", 0755), EBADF);
    t_write_file("d/f", "");
    ERR(unlinkat(d, "f", AT_REMOVEDIR), ENOTDIR);
    OK(unlinkat(d, "f", 0));
}
CASE(unlink_errors) {
    ERR(unlink("missing"), ENOENT);
    OK(mkdir("d", 0755));
    ERR(unlink("d"), EISDIR);
    t_write_file("f", "");
    ERR(unlink("f/"), ENOTDIR);
    OK(unlink("f"));
    CHECK(!exists("f"));
}
CASE(link_counts) {
    t_write_file("a", "text");
    OK(link("a", "b"));
    struct stat a, b;
    OK(stat("a", &a));
    OK(stat("b", &b));
    EQ(a.st_nlink, 2);
    EQ(a.st_ino, b.st_ino);
    ERR(link("a", "b"), EEXIST);
    ERR(link("missing", "c"), ENOENT);
    OK(mkdir("d", 0755));
    ERR(link("d", "e"), EPERM);
    OK(unlink("a"));
    t_read_is("b", "text");
    OK(stat("b", &b));
    EQ(b.st_nlink, 1);
}
CASE(link_writes_seen_by_both) {
    t_write_file("a", "first");
    OK(link("a", "b"));
    FD(fd, open("a", O_WRONLY | O_TRUNC));
    EQ(write(fd, "second", 6), 6);
    t_read_is("b", "second");
}
CASE(linkat_symlink) {
    t_write_file("f", "");
    OK(symlink("f", "s"));
    OK(linkat(AT_FDCWD, "s", AT_FDCWD, "hard", 0));
    struct stat st;
    OK(lstat("hard", &st));
    CHECK(S_ISLNK(st.st_mode));
    OK(linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
    OK(lstat("followed", &st));
    CHECK(S_ISREG(st.st_mode));
    ERR(linkat(AT_FDCWD, "s", AT_FDCWD, "x", 0x4000), EINVAL);
}
CASE(symlink_readlink) {
    char buffer[64];
    OK(symlink("some/where", "s"));
    EQ(readlink("s", buffer, 64), 10);
    CHECK(memcmp(buffer, "some/where", 10) == 0);
    EQ(readlink("s", buffer, 4), 4);
    ERR(readlink("s", buffer, 0), EINVAL);
    ERR(readlink("missing", buffer, 64), ENOENT);
    ERR(readlink(".", buffer, 64), EINVAL);
    ERR(symlink("x", "s"), EEXIST);
    ERR(symlink("", "t"), ENOENT);
    struct stat st;
    ERR(stat("s", &st), ENOENT);
    OK(lstat("s", &st));
    EQ(st.st_size, 10);
    EQ(st.st_mode, S_IFLNK | 0777);
    OK(symlinkat("q", AT_FDCWD, "u"));
    EQ(readlinkat(AT_FDCWD, "u", buffer, 64), 1);
    FD(fd, open("u", O_PATH | O_NOFOLLOW));
    EQ(readlinkat(fd, "", buffer, 64), 1);
}
CASE(symlink_walk) {
    OK(mkdir("d", 0755));
    t_write_file("d/f", "deep");
    OK(symlink("d", "to-d"));
    OK(symlink("to-d/f", "to-f"));
    OK(symlink("../d/f", "d/up"));
    t_read_is("to-f", "deep");
    t_read_is("to-d/up", "deep");
    t_read_is("to-d/../d/./f", "deep");
    OK(symlink("loop2", "loop1"));
    OK(symlink("loop1", "loop2"));
    ERR(open("loop1", O_RDONLY), ELOOP);
    FD(fd, open("dangling-target-made-through", O_CREAT | O_RDWR, 0644));
    OK(symlink("made", "through"));
    FD(made, open("through", O_CREAT | O_RDWR, 0644));
    CHECK(exists("made"));
    ERR(open("through", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
}
CASE(symlink_depth) {
    char from[16], to[16];
    t_write_file("l0", "end");
    for (int i = 1; i <= 41; i++) {
        snprintf(from, sizeof from, "l%d", i);
        snprintf(to, sizeof to, "l%d", i - 1);
        OK(symlink(to, from));
    }
    t_read_is("l40", "end");
    ERR(open("l41", O_RDONLY), ELOOP);
}
CASE(rename_basic) {
    t_write_file("a", "A");
    t_write_file("b", "B");
    OK(rename("a", "b"));
    t_read_is("b", "A");
    CHECK(!exists("a"));
    ERR(rename("a", "c"), ENOENT);
    OK(rename("b", "b"));
    OK(mkdir("d", 0755));
    ERR(rename("b", "d"), EISDIR);
    ERR(rename("d", "b"), ENOTDIR);
    OK(rename("b", "d/b"));
    OK(mkdir("e", 0755));
    ERR(rename("e", "d"), ENOTEMPTY);
    OK(rename("d", "e"));
    t_read_is("e/b", "A");
    OK(mkdir("e/sub", 0755));
    ERR(rename("e", "e/sub/x"), EINVAL);
    ERR(rename("e/sub", "e"), ENOTEMPTY);
    ERR(rename(".", "x"), EBUSY);
}
CASE(rename_hard_links_of_one_file) {
    t_write_file("a", "x");
    OK(link("a", "b"));
    OK(rename("a", "b"));
    CHECK(exists("a"));
    CHECK(exists("b"));
}
CASE(rename_directory_moves_tree) {
    OK(mkdir("d", 0755));
    OK(mkdir("d/e", 0755));
    t_write_file("d/e/f", "leaf");
    OK(rename("d", "moved"));
    t_read_is("moved/e/f", "leaf");
    CHECK(!exists("d"));
    struct stat before, after;
    OK(stat("moved", &before));
    OK(rename("moved", "again"));
    OK(stat("again", &after));
    EQ(before.st_ino, after.st_ino);
}
CASE(renameat2_flags) {
    t_write_file("a", "A");
    t_write_file("b", "B");
    ERR(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
    OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
    OK(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_EXCHANGE));
    t_read_is("b", "A");
    t_read_is("c", "B");
    ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "missing", RENAME_EXCHANGE), ENOENT);
    ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    ERR(renameat2(AT_FDCWD, "c", AT_FDCWD, "b", 1 << 10), EINVAL);
}
CASE(cwd) {
    char before[PATH_MAX], after[PATH_MAX];
    CHECK(getcwd(before, sizeof before));
    OK(mkdir("d", 0755));
    OK(chdir("d"));
    CHECK(getcwd(after, sizeof after));
    EQ(strlen(after), strlen(before) + 2);
    CHECK(strncmp(before, after, strlen(before)) == 0 && strcmp(after + strlen(before), "/d") == 0);
    CHECK(getcwd(after, 2) == NULL);
    EQ(errno, ERANGE);
    FD(up, open("..", O_RDONLY));
    OK(fchdir(up));
    CHECK(getcwd(after, sizeof after));
    CHECK(strcmp(before, after) == 0);
    ERR(chdir("missing"), ENOENT);
    t_write_file("f", "");
    ERR(chdir("f"), ENOTDIR);
    FD(f, open("f", O_RDONLY));
    ERR(fchdir(f), ENOTDIR);
    ERR(fchdir(-1), EBADF);
}
CASE(cwd_removed) {
    OK(mkdir("d", 0755));
    OK(chdir("d"));
    OK(rmdir("../d"));
    char buffer[PATH_MAX];
    EQ(syscall(SYS_getcwd, buffer, sizeof buffer), -1);
    EQ(errno, ENOENT);
    ERR(open("f", O_CREAT | O_RDWR, 0644), ENOENT);
}
CASE(chroot_confines) {
    NEED_ROOT();
    OK(mkdir("jail", 0755));
    t_write_file("jail/f", "inside");
    OK(chroot("jail"));
    OK(chdir("/"));
    t_read_is("/f", "inside");
    t_read_is("/../../f", "inside");
    ERR(chroot("missing"), ENOENT);
    ERR(chroot("f"), ENOTDIR);
}
CASE(getdents_lists) {
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "entry-%d", i);
        t_write_file(name, "");
    }
    OK(mkdir("sub", 0755));
    OK(symlink("x", "sym"));
    DIR *directory = opendir(".");
    CHECK(directory);
    int files = 0, dots = 0, others = 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            dots++;
        else if (strncmp(entry->d_name, "entry-", 6) == 0)
            files += entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN;
        else
            others++;
    }
    EQ(files, 300);
    EQ(dots, 2);
    EQ(others, 2);
    rewinddir(directory);
    int again = 0;
    while (readdir(directory))
        again++;
    EQ(again, 304);
}
CASE(getdents_seek) {
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "e%d", i);
        t_write_file(name, "");
    }
    DIR *directory = opendir(".");
    CHECK(directory);
    for (int i = 0; i < 10; i++)
        CHECK(readdir(directory));
    long where = telldir(directory);
    char next[64];
    struct dirent *entry = readdir(directory);
    CHECK(entry);
    snprintf(next, sizeof next, "%s", entry->d_name);
    while (readdir(directory))
        ;
    seekdir(directory, where);
    entry = readdir(directory);
    CHECK(entry && strcmp(entry->d_name, next) == 0);
}
CASE(getdents_errors) {
    char buffer[1024];
    t_write_file("f", "");
    FD(f, open("f", O_RDONLY));
    ERR(syscall(SYS_getdents64, f, buffer, sizeof buffer), ENOTDIR);
    ERR(syscall(SYS_getdents64, -1, buffer, sizeof buffer), EBADF);
    FD(d, open(".", O_RDONLY));
    ERR(syscall(SYS_getdents64, d, buffer, 5), EINVAL);
    ERR(syscall(SYS_getdents64, d, BAD_ADDRESS, 1024), EFAULT);
}
CASE(getdents_while_removing) {
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "e%d", i);
        t_write_file(name, "");
    }
    DIR *directory = opendir(".");
    struct dirent *entry;
    while ((entry = readdir(directory)))
        if (entry->d_name[0] == 'e')
            OK(unlink(entry->d_name));
    rewinddir(directory);
    int left = 0;
    while (readdir(directory))
        left++;
    EQ(left, 2);
}
CASE(mknod_fifo) {
    OK(mkfifo("fifo", 0640));
    struct stat st;
    OK(stat("fifo", &st));
    EQ(st.st_mode, S_IFIFO | 0640);
    ERR(mkfifo("fifo", 0640), EEXIST);
    OK(mknod("regular", S_IFREG | 0600, 0));
    OK(stat("regular", &st));
    CHECK(S_ISREG(st.st_mode));
    ERR(mknod("odd", S_IFDIR | 0600, 0), EPERM);
    ERR(mknod("odd", S_IFMT | 0600, 0), EINVAL);
}
CASE(dot_and_slashes) {
    OK(mkdir("d", 0755));
    t_write_file("d/f", "x");
    t_read_is(".//d///./f", "x");
    t_read_is("d/../d/f", "x");
    struct stat st;
    OK(stat("d/.", &st));
    ERR(stat("d/f/.", &st), ENOTDIR);
    ERR(stat("d/missing/..", &st), ENOENT);
    OK(stat("/..", &st));
    ERR(stat("d/f/", &st), ENOTDIR);
}
CASE(sticky_directory) {
    NEED_ROOT();
    OK(mkdir("d", 0777));
    OK(chmod("d", 01777));
    t_write_file("d/f", "");
    OK(chmod(".", 0755));
    pid_t pid = fork();
    if (pid == 0) {
        FD(d, open("d", O_RDONLY));
        OK(setgid(1000));
        OK(setuid(1000));
        ERR(unlinkat(d, "f", 0), EPERM);
        ERR(renameat(d, "f", d, "g"), EPERM);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(the_empty_name_is_no_link) {
    char text[8];
    ERR(readlink("", text, sizeof text), ENOENT);
    ERR(readlinkat(AT_FDCWD, "", text, sizeof text), ENOENT);
    OK(symlink("to", "l"));
    FD(fd, open("l", O_PATH | O_NOFOLLOW));
    EQ(readlinkat(fd, "", text, sizeof text), 2);
}
CASE(chroot_looks_at_the_directory_first) {
    NEED_ROOT();
    OK(mkdir("closed", 0700));
    OK(setresuid(1000, 1000, 1000));
    ERR(chroot("closed"), EACCES);
    ERR(chroot("/"), EPERM);
}
