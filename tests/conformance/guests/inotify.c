/* inotify(7): events, their order and their names. */
#include "t.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/time.h>

static char seen[8192];
/* The events that are there, as text: "wd:mask:cookie?:name ". Cookies are told as whether there is one. */
static const char *events(int fd) {
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{IN_ACCESS, "access"}, {IN_MODIFY, "modify"}, {IN_ATTRIB, "attrib"},
                 {IN_CLOSE_WRITE, "close_write"}, {IN_CLOSE_NOWRITE, "close_nowrite"}, {IN_OPEN, "open"},
                 {IN_MOVED_FROM, "moved_from"}, {IN_MOVED_TO, "moved_to"}, {IN_CREATE, "create"},
                 {IN_DELETE, "delete"}, {IN_DELETE_SELF, "delete_self"}, {IN_MOVE_SELF, "move_self"},
                 {IN_IGNORED, "ignored"}, {IN_Q_OVERFLOW, "overflow"}};
    char buffer[4096];
    seen[0] = 0;
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + got;) {
            struct inotify_event *e = (struct inotify_event *)at;
            char *end = seen + strlen(seen);
            end += sprintf(end, "%d:", e->wd);
            for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
                if (e->mask & names[i].bit)
                    end += sprintf(end, "%s", names[i].name);
            end += sprintf(end, "%s%s%s%s ", e->mask & IN_ISDIR ? "/" : "", e->cookie ? "=" : "", e->len ? ":" : "",
                           e->len ? e->name : "");
            CHECK(e->len % 16 == 0);
            at += sizeof *e + e->len;
        }
    CHECK(got == -1 && errno == EAGAIN);
    return seen;
}
#define EVENTS(fd, want)                                                                                               \
    do {                                                                                                               \
        const char *got_ = events(fd);                                                                                 \
        if (strcmp(got_, want) != 0)                                                                                   \
            t_fail("line %d: '%s', not '%s'", __LINE__, got_, want);                                                   \
    } while (0)

CASE(files_in_a_directory) {
    FD(fd, inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ(inotify_add_watch(fd, ".", IN_ALL_EVENTS), 1);
    t_write_file("a", "one");
    EVENTS(fd, "1:create:a 1:open:a 1:modify:a 1:close_write:a ");
    t_read_is("a", "one");
    EVENTS(fd, "1:open:a 1:access:a 1:close_nowrite:a ");
    t_write_file("a", "two");
    EVENTS(fd, "1:open:a 1:modify:a 1:close_write:a ");
    OK(chmod("a", 0600));
    OK(truncate("a", 1));
    OK(link("a", "b"));
    EVENTS(fd, "1:attrib:a 1:modify:a 1:create:b ");
    OK(rename("b", "c"));
    EVENTS(fd, "1:moved_from=:b 1:moved_to=:c ");
    OK(unlink("a"));
    OK(mkdir("dir", 0755));
    OK(symlink("c", "link"));
    OK(mkfifo("fifo", 0600));
    OK(rmdir("dir"));
    EVENTS(fd, "1:delete:a 1:create/:dir 1:create:link 1:create:fifo 1:delete/:dir ");
}
CASE(a_file_itself) {
    t_write_file("f", "x");
    FD(fd, inotify_init1(IN_NONBLOCK));
    EQ(inotify_add_watch(fd, "f", IN_ALL_EVENTS), 1);
    FD(file, open("f", O_RDWR));
    EQ(write(file, "yz", 2), 2);
    EVENTS(fd, "1:open 1:modify ");
    OK(rename("f", "g"));
    EVENTS(fd, "1:move_self ");
    OK(unlink("g"));
    EVENTS(fd, "1:attrib ");
    OK(close(file));
    EVENTS(fd, "1:close_write 1:delete_self 1:ignored ");
    ERR(inotify_rm_watch(fd, 1), EINVAL);
}
CASE(a_directory_itself) {
    OK(mkdir("d", 0755));
    FD(fd, inotify_init1(IN_NONBLOCK));
    EQ(inotify_add_watch(fd, "d", IN_ALL_EVENTS | IN_ONLYDIR), 1);
    OK(rename("d", "e"));
    OK(chmod("e", 0700));
    OK(rmdir("e"));
    EVENTS(fd, "1:move_self 1:attrib/ 1:delete_self 1:ignored ");
}
CASE(masks) {
    t_write_file("f", "x");
    FD(fd, inotify_init1(IN_NONBLOCK));
    EQ(inotify_add_watch(fd, "f", IN_OPEN), 1);
    EQ(inotify_add_watch(fd, "f", IN_MODIFY), 1);
    EQ(inotify_add_watch(fd, "f", IN_CLOSE_WRITE | IN_MASK_ADD), 1);
    ERR(inotify_add_watch(fd, "f", IN_OPEN | IN_MASK_CREATE), EEXIST);
    t_write_file("f", "y");
    EVENTS(fd, "1:modify 1:close_write ");
    OK(inotify_rm_watch(fd, 1));
    EVENTS(fd, "1:ignored ");
    EQ(inotify_add_watch(fd, "f", IN_OPEN | IN_ONESHOT), 2);
    t_read_is("f", "y");
    t_read_is("f", "y");
    EVENTS(fd, "2:open 2:ignored ");
    ERR(inotify_add_watch(fd, "f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
    OK(symlink("f", "link"));
    EQ(inotify_add_watch(fd, "link", IN_OPEN), 3);
    EQ(inotify_add_watch(fd, "link", IN_OPEN | IN_DONT_FOLLOW), 4);
}
CASE(unlinked_children) {
    FD(fd, inotify_init1(IN_NONBLOCK));
    EQ(inotify_add_watch(fd, ".", IN_MODIFY | IN_EXCL_UNLINK), 1);
    FD(file, open("f", O_RDWR | O_CREAT, 0644));
    EQ(write(file, "x", 1), 1);
    OK(unlink("f"));
    EVENTS(fd, "1:modify:f ");
    EQ(write(file, "x", 1), 1);
    EVENTS(fd, "");
}
CASE(equal_events_are_one) {
    t_write_file("f", "x");
    FD(fd, inotify_init1(IN_NONBLOCK));
    EQ(inotify_add_watch(fd, ".", IN_MODIFY), 1);
    FD(file, open("f", O_RDWR));
    for (int i = 0; i < 5; i++)
        EQ(write(file, "abc", 3), 3);
    int bytes = 0;
    OK(ioctl(fd, FIONREAD, &bytes));
    EQ(bytes, 32);
    char buffer[64];
    ERR(read(fd, buffer, 31), EINVAL);
    EVENTS(fd, "1:modify:f ");
}
CASE(too_many) {
    t_write_file("f", "x");
    t_write_file("g", "x");
    FD(fd, inotify_init1(IN_NONBLOCK));
    EQ(inotify_add_watch(fd, ".", IN_ATTRIB), 1);
    for (int i = 0; i < 8300; i++) {
        chmod("f", 0600);
        chmod("g", 0600);
    }
    int last = 0;
    char buffer[4096];
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + got;) {
            struct inotify_event *e = (struct inotify_event *)at;
            last = e->mask;
            at += sizeof *e + e->len;
        }
    EQ(last, IN_Q_OVERFLOW);
}
CASE(a_read_waits) {
    FD(fd, inotify_init());
    EQ(inotify_add_watch(fd, ".", IN_CREATE), 1);
    pid_t child = fork();
    if (child == 0) {
        t_sleep_ms(50);
        close(open("made", O_CREAT | O_WRONLY, 0644));
        t_sleep_ms(50);
        close(open("more", O_CREAT | O_WRONLY, 0644));
        _exit(0);
    }
    char buffer[256];
    EQ(read(fd, buffer, sizeof buffer), 32);
    EQ(strcmp(((struct inotify_event *)buffer)->name, "made"), 0);
    struct pollfd p = {fd, POLLIN, 0};
    EQ(poll(&p, 1, 5000), 1);
    EQ(read(fd, buffer, sizeof buffer), 32);
    CHILD_OK(child);
}
CASE(watch_errors) {
    FD(fd, inotify_init1(IN_NONBLOCK));
    ERR(inotify_init1(1), EINVAL);
    ERR(inotify_add_watch(fd, ".", 0), EINVAL);
    ERR(inotify_add_watch(fd, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE), EINVAL);
    ERR(inotify_add_watch(99, ".", IN_OPEN), EBADF);
    ERR(inotify_add_watch(1, ".", IN_OPEN), EINVAL);
    ERR(inotify_add_watch(fd, "none", IN_OPEN), ENOENT);
    ERR(inotify_add_watch(fd, BAD_ADDRESS, IN_OPEN), EFAULT);
    ERR(inotify_rm_watch(fd, 1), EINVAL);
    ERR(inotify_rm_watch(99, 1), EBADF);
    ERR(inotify_rm_watch(1, 1), EINVAL);
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(readlink(path, text, sizeof text - 1) > 0);
    EQ(strcmp(text, "anon_inode:inotify"), 0);
    struct rlimit none = {0, 1024};
    OK(setrlimit(RLIMIT_NOFILE, &none));
    ERR(inotify_init(), EMFILE);
}
CASE(watches_are_in_proc) {
    FD(fd, inotify_init());
    int wd = inotify_add_watch(fd, ".", IN_MODIFY | IN_ONESHOT);
    CHECK(wd > 0);
    struct stat st;
    OK(stat(".", &st));
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FD(info, open(path, O_RDONLY));
    CHECK(read(info, text, sizeof text - 1) > 0);
    const char *line = strstr(text, "inotify wd:");
    CHECK(line);
    unsigned got_wd = 0, mask = 0;
    unsigned long ino = 0;
    EQ(sscanf(line, "inotify wd:%x ino:%lx sdev:%*x mask:%x ignored_mask:0", &got_wd, &ino, &mask), 3);
    EQ(got_wd, wd);
    EQ(ino, st.st_ino);
    EQ(mask, IN_MODIFY | IN_ONESHOT);
}
