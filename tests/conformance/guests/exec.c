/* execve, execveat: arguments, environment, descriptors, signals, scripts, and what cannot be executed. */
#define T_SELF
#include "t.h"
#include <elf.h>
#include <sys/auxv.h>

extern char **environ;
static char exe[PATH_MAX];

static int t_self(int argc, char **argv) {
    t_name = "in the new image";
    const char *what = argv[1] + 5;
    if (strcmp(what, "args") == 0)
        return argc == 4 && strcmp(argv[2], "two words") == 0 && argv[3][0] == 0 && argv[4] == NULL ? 40 : 1;
    if (strcmp(what, "env") == 0)
        return environ[0] && strcmp(environ[0], "ONLY=this") == 0 && environ[1] == NULL ? 41 : 1;
    if (strcmp(what, "fds") == 0)
        return fcntl(30, F_GETFD) == 0 && fcntl(31, F_GETFD) == -1 && errno == EBADF ? 42 : 1;
    if (strcmp(what, "signals") == 0) {
        struct sigaction ignored, caught;
        sigset_t mask, pending;
        sigaction(SIGUSR1, NULL, &ignored);
        sigaction(SIGUSR2, NULL, &caught);
        sigprocmask(SIG_BLOCK, NULL, &mask);
        sigpending(&pending);
        return ignored.sa_handler == SIG_IGN && caught.sa_handler == SIG_DFL && sigismember(&mask, SIGTERM) &&
                       sigismember(&pending, SIGTERM)
                   ? 43
                   : 1;
    }
    if (strcmp(what, "ids") == 0)
        return getpid() == atoi(argv[2]) && getppid() == atoi(argv[3]) ? 44 : 1;
    if (strcmp(what, "count") == 0) {
        long bytes = 0;
        for (int i = 0; i < argc; i++)
            bytes += strlen(argv[i]) + 1;
        return argc == 30002 && bytes > 150000 ? 45 : 1;
    }
    if (strcmp(what, "aux") == 0) {
        CHECK(getauxval(AT_PAGESZ) == 4096);
        CHECK(getauxval(AT_UID) == getuid());
        CHECK(getauxval(AT_RANDOM) != 0);
        CHECK(getauxval(AT_PHDR) != 0);
        CHECK(getauxval(AT_CLKTCK) == 100);
        CHECK(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
        CHECK(strstr((char *)getauxval(AT_EXECFN), "exec") != NULL);
        CHECK(((uintptr_t)&argv & 7) == 0);
        return 46;
    }
    if (strcmp(what, "name") == 0) {
        t_read_is("/proc/self/comm", argv[2]);
        return 47;
    }
    return 2;
}
static void find_self(void) {
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    CHECK(length > 0);
    exe[length] = 0;
}
static int run(char *const *argv, char *const *env) {
    pid_t pid = fork();
    if (pid == 0) {
        execve(exe, argv, env);
        _exit(99);
    }
    int status = t_wait(pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}
static void script(const char *path, const char *text) {
    t_write_file(path, text);
    OK(chmod(path, 0755));
}

CASE(arguments) {
    find_self();
    EQ(run((char *[]){exe, "self:args", "two words", "", NULL}, environ), 40);
}
CASE(environment) {
    find_self();
    EQ(run((char *[]){exe, "self:env", NULL}, (char *[]){"ONLY=this", NULL}), 41);
}
CASE(descriptors) {
    find_self();
    dup2(1, 30);
    dup3(1, 31, O_CLOEXEC);
    EQ(run((char *[]){exe, "self:fds", NULL}, environ), 42);
}
static void handler(int number) { (void)number; }
CASE(signal_state) {
    find_self();
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, handler);
        sigset_t mask;
        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        raise(SIGTERM);
        execl(exe, exe, "self:signals", (char *)NULL);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 43);
}
CASE(ids_stay) {
    find_self();
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        char me[16], above[16];
        snprintf(me, sizeof me, "%d", getpid());
        snprintf(above, sizeof above, "%d", parent);
        execl(exe, exe, "self:ids", me, above, (char *)NULL);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 44);
}
CASE(many_arguments) {
    find_self();
    char **argv = calloc(30003, sizeof *argv);
    argv[0] = exe;
    argv[1] = "self:count";
    for (int i = 2; i < 30002; i++)
        argv[i] = "abcd";
    EQ(run(argv, environ), 45);
}
CASE(too_many_arguments) {
    find_self();
    char *big = malloc(200000);
    memset(big, 'x', 200000);
    big[199999] = 0;
    ERR(execve(exe, (char *[]){exe, big, NULL}, environ), E2BIG);
    big[100000] = 0;
    char **argv = calloc(1002, sizeof *argv);
    for (int i = 0; i < 1000; i++)
        argv[i] = big;
    ERR(execve(exe, argv, environ), E2BIG);
}
CASE(auxiliary_vector) {
    find_self();
    EQ(run((char *[]){exe, "self:aux", NULL}, environ), 46);
}
CASE(comm_is_the_file_name) {
    find_self();
    OK(symlink(exe, "called-this-way-long"));
    pid_t pid = fork();
    if (pid == 0) {
        execl("called-this-way-long", "x", "self:name", "called-this-way\n", (char *)NULL);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 47);
}
CASE(errors) {
    find_self();
    char *none[] = {NULL}, *argv[] = {"x", NULL};
    ERR(execve("missing", argv, none), ENOENT);
    ERR(execve("", argv, none), ENOENT);
    ERR(execve(".", argv, none), EACCES);
    t_write_file("plain", "#!/bin/sh\n");
    ERR(execve("plain", argv, none), EACCES);
    ERR(execve("plain/x", argv, none), ENOTDIR);
    script("garbage", "this is no program\n");
    ERR(execve("garbage", argv, none), ENOEXEC);
    script("empty", "");
    ERR(execve("empty", argv, none), ENOEXEC);
    ERR(execve(BAD_ADDRESS, argv, none), EFAULT);
    ERR(execve(exe, BAD_ADDRESS, none), EFAULT);
    ERR(execve(exe, argv, BAD_ADDRESS), EFAULT);
    script("no-interpreter", "#!/no/such/interpreter\n");
    ERR(execve("no-interpreter", argv, none), ENOENT);
    script("blank", "#!\n");
    ERR(execve("blank", argv, none), ENOEXEC);
    OK(symlink("loop", "loop"));
    ERR(execve("loop", argv, none), ELOOP);
}
CASE(corrupt_elf) {
    find_self();
    char *none[] = {NULL}, *argv[] = {"x", NULL}, page[4096];
    FD(self, open(exe, O_RDONLY));
    EQ(read(self, page, sizeof page), sizeof page);
    Elf64_Ehdr *head = (Elf64_Ehdr *)page;
    struct {
        const char *name;
        size_t keep;
    } cuts[] = {{"cut4", 4}, {"cut20", 20}, {"cut63", 63}};
    for (int i = 0; i < 3; i++) {
        FD(fd, open(cuts[i].name, O_CREAT | O_WRONLY, 0755));
        EQ(write(fd, page, cuts[i].keep), cuts[i].keep);
        close(fd);
        ERR(execve(cuts[i].name, argv, none), ENOEXEC);
    }
    Elf64_Ehdr saved = *head;
    head->e_machine = EM_AARCH64;
    FD(a, open("other-machine", O_CREAT | O_WRONLY, 0755));
    EQ(write(a, page, sizeof page), sizeof page);
    close(a);
    ERR(execve("other-machine", argv, none), ENOEXEC);
    *head = saved;
    head->e_phentsize = 7;
    FD(b, open("bad-phentsize", O_CREAT | O_WRONLY, 0755));
    EQ(write(b, page, sizeof page), sizeof page);
    close(b);
    ERR(execve("bad-phentsize", argv, none), ENOEXEC);
    *head = saved;
    head->e_type = ET_REL;
    FD(c, open("relocatable", O_CREAT | O_WRONLY, 0755));
    EQ(write(c, page, sizeof page), sizeof page);
    close(c);
    ERR(execve("relocatable", argv, none), ENOEXEC);
}
CASE(program_of_junk_dies_alone) {
    find_self();
    char *page = calloc(1, 8192);
    FD(self, open(exe, O_RDONLY));
    EQ(read(self, page, 4096), 4096);
    FD(fd, open("headers-only", O_CREAT | O_WRONLY, 0755));
    EQ(write(fd, page, 8192), 8192);
    close(fd);
    pid_t pid = fork();
    if (pid == 0) {
        execl("headers-only", "x", (char *)NULL);
        _exit(99);
    }
    int status = t_wait(pid);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 99);
}
CASE(script_with_argument) {
    script("show", "#!/bin/sh -e\necho \"$0 $# $1\" > out\nfalse\necho not-reached >> out\n");
    pid_t pid = fork();
    if (pid == 0) {
        execl("./show", "ignored", "one", "two", (char *)NULL);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 1);
    t_read_is("out", "./show 2 one\n");
}
CASE(script_of_script) {
    find_self();
    char text[PATH_MAX + 64];
    script("inner", "#!/bin/sh\necho \"inner $@\" > out\n");
    char here[PATH_MAX];
    CHECK(getcwd(here, sizeof here));
    snprintf(text, sizeof text, "#!%s/inner an argument\n", here);
    script("outer", text);
    pid_t pid = fork();
    if (pid == 0) {
        execl("./outer", "x", "last", (char *)NULL);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 0);
    t_read_is("out", "inner an argument ./outer last\n");
    snprintf(text, sizeof text, "#!%s/recursive\n", here);
    script("recursive", text);
    char *argv[] = {"x", NULL};
    ERR(execve("./recursive", argv, environ), ELOOP);
}
CASE(execveat_forms) {
    find_self();
    FD(fd, open(exe, O_PATH | O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, fd, "", (char *[]){"x", "self:12", NULL}, environ, AT_EMPTY_PATH);
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 2);
    char *argv[] = {"x", NULL};
    OK(symlink(exe, "link"));
    ERR(syscall(SYS_execveat, AT_FDCWD, "link", argv, environ, AT_SYMLINK_NOFOLLOW), ELOOP);
    ERR(syscall(SYS_execveat, 999, "rel", argv, environ, 0), EBADF);
    ERR(syscall(SYS_execveat, AT_FDCWD, "link", argv, environ, 1 << 20), EINVAL);
    FD(again, open(exe, O_RDONLY));
    pid = fork();
    if (pid == 0) {
        fexecve(again, (char *[]){"x", "self:env", NULL}, (char *[]){"ONLY=this", NULL});
        _exit(99);
    }
    EQ(WEXITSTATUS(t_wait(pid)), 41);
}
static void *executes(void *argument) {
    (void)argument;
    char me[16], above[16];
    snprintf(me, sizeof me, "%d", getpid());
    snprintf(above, sizeof above, "%d", getppid());
    execl(exe, exe, "self:ids", me, above, (char *)NULL);
    _exit(99);
}
static void *sleeps(void *argument) {
    pause();
    return argument;
}
CASE(exec_from_a_thread_ends_the_others) {
    find_self();
    for (int round = 0; round < 10; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t threads[4];
            for (int i = 0; i < 3; i++)
                pthread_create(&threads[i], NULL, sleeps, NULL);
            pthread_create(&threads[3], NULL, executes, NULL);
            pause();
        }
        EQ(WEXITSTATUS(t_wait(pid)), 44);
    }
}
CASE(setuid_program) {
    NEED_ROOT();
    find_self();
    OK(chmod("..", 0755));
    FD(from, open(exe, O_RDONLY));
    FD(to, open("copy", O_CREAT | O_WRONLY, 0755));
    char *buffer = malloc(1 << 20);
    ssize_t got;
    while ((got = read(from, buffer, 1 << 20)) > 0)
        EQ(write(to, buffer, got), got);
    close(to);
    OK(chmod("copy", 0700));
    pid_t pid = fork();
    if (pid == 0) {
        OK(setgid(1000));
        OK(setuid(1000));
        char *argv[] = {"x", NULL};
        ERR(execve("./copy", argv, environ), EACCES);
        _exit(0);
    }
    CHILD_OK(pid);
}
CASE(text_busy) {
    find_self();
    FD(fd, open("busy", O_CREAT | O_WRONLY, 0755));
    char page[4096] = {0};
    EQ(write(fd, page, sizeof page), sizeof page);
    char *argv[] = {"x", NULL};
    ERR(execve("./busy", argv, environ), ETXTBSY);
}
