/* Many at once: processes, threads, descriptors, files, names, generations; and signals without end. */
#include "t.h"
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

CASE(a_thousand_processes) {
    int ends[2];
    OK(pipe(ends));
    pid_t first = 0;
    for (int i = 0; i < 1000; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            char c;
            close(ends[1]);
            _exit(read(ends[0], &c, 1) == 0 ? i % 100 : 200);
        }
        CHECK(pid > 0);
        if (i == 0)
            first = pid;
    }
    EQ(kill(first, 0), 0);
    close(ends[1]);
    long sum = 0;
    for (int i = 0; i < 1000; i++) {
        int status;
        CHECK(waitpid(-1, &status, 0) > 0);
        CHECK(WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    EQ(sum, 10 * (99 * 100 / 2));
    ERR(waitpid(-1, NULL, 0), ECHILD);
}

static pthread_barrier_t all_there;
static void *meets(void *number) {
    pthread_barrier_wait(&all_there);
    return (void *)((long)number + syscall(SYS_getpid));
}
CASE(a_thousand_threads) {
    static pthread_t threads[999];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    EQ(pthread_barrier_init(&all_there, NULL, 1000), 0);
    for (long i = 0; i < 999; i++)
        EQ(pthread_create(&threads[i], &small, meets, (void *)i), 0);
    pthread_barrier_wait(&all_there);
    for (long i = 0; i < 999; i++) {
        void *result;
        EQ(pthread_join(threads[i], &result), 0);
        EQ((long)result, i + getpid());
    }
}

/* Each generation is the parent of the next; all are there at once, and statuses come back through all of them. */
static int generation(int left) {
    if (left == 0)
        return 7;
    pid_t pid = fork();
    if (pid == 0)
        _exit(generation(left - 1));
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return 1;
    return WEXITSTATUS(status);
}
CASE(two_hundred_generations) { EQ(generation(200), 7); }

CASE(a_hundred_thousand_descriptors) {
    /* As many as the host allows; inside it is always these. */
    struct rlimit wanted;
    OK(getrlimit(RLIMIT_NOFILE, &wanted));
    int count = wanted.rlim_max < 100010 ? wanted.rlim_max : 100010;
    if (count < 1000)
        SKIP("the limit on descriptors is too low");
    wanted.rlim_cur = count;
    OK(setrlimit(RLIMIT_NOFILE, &wanted));
    OK(syscall(SYS_close_range, 3, ~0U, 0));
    FD(event, eventfd(3, 0));
    int last = event;
    while (last < count - 1) {
        int next = dup(event);
        EQ(next, last + 1);
        last = next;
    }
    ERR(dup(event), EMFILE);
    ERR(open("/", O_RDONLY), EMFILE);
    uint64_t value;
    EQ(read(last, &value, 8), 8);
    EQ(value, 3);
    OK(close(count / 2));
    OK(close(count / 3));
    EQ(dup(event), count / 3);
    EQ(open("/", O_RDONLY), count / 2);
    pid_t pid = fork();
    if (pid == 0) {
        EQ(fcntl(last, F_GETFD), 0);
        OK(syscall(SYS_close_range, 10, last, 0));
        EQ(dup(event), 10);
        _exit(0);
    }
    CHILD_OK(pid);
    EQ(fcntl(last, F_GETFD), 0);
}

CASE(ten_thousand_files_in_a_directory) {
    OK(mkdir("many", 0755));
    FD(dir, open("many", O_RDONLY | O_DIRECTORY));
    char name[32];
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "file-%05d", i);
        int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        CHECK(fd >= 0);
        close(fd);
    }
    static char seen[10000], entries[65536];
    long count = 0, got;
    while ((got = syscall(SYS_getdents64, dir, entries, sizeof entries)) > 0)
        for (long at = 0; at < got; at += *(unsigned short *)(entries + at + 16)) {
            int number;
            if (sscanf(entries + at + 19, "file-%d", &number) == 1) {
                CHECK(number >= 0 && number < 10000 && !seen[number]);
                seen[number] = 1;
                count++;
            }
        }
    EQ(got, 0);
    EQ(count, 10000);
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "file-%05d", i);
        OK(unlinkat(dir, name, 0));
    }
    OK(rmdir("many"));
}

CASE(a_path_of_four_thousand_bytes) {
    char path[4200] = ".";
    int depth = 0;
    while (strlen(path) < 4000) {
        strcat(path, "/");
        size_t at = strlen(path);
        memset(path + at, 'd', 200);
        path[at + 200] = 0;
        OK(mkdir(path, 0755));
        depth++;
    }
    size_t directory = strlen(path);
    memset(path + directory, 'f', 4095 - directory);
    path[directory] = '/';
    path[4095] = 0;
    FD(fd, open(path, O_CREAT | O_RDWR, 0644));
    EQ(write(fd, "x", 1), 1);
    struct stat st;
    OK(stat(path, &st));
    EQ(st.st_size, 1);
    OK(unlink(path));
    path[4095] = 'f';
    path[4096] = 0;
    ERR(open(path, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
    path[directory] = 0;
    for (; depth > 0; depth--) {
        OK(rmdir(path));
        *strrchr(path, '/') = 0;
    }
}

/* Deeper than any path, one step at a time: the walk back up is as long. */
CASE(five_thousand_directories_deep) {
    for (int i = 0; i < 5000; i++) {
        OK(mkdir("d", 0755));
        OK(chdir("d"));
    }
    char path[PATH_MAX];
    ERR(syscall(SYS_getcwd, path, sizeof path), ENAMETOOLONG);
    for (int i = 0; i < 5000; i++) {
        OK(chdir(".."));
        OK(rmdir("d"));
    }
}

static volatile long signals;
static volatile int word;
static void counts(int signal) { signals++; }

static void *changes_the_word(void *unused) {
    word = 1;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return unused;
}

/* One round of what a program does; what it saw is added up. */
static unsigned long round_of_work(int number) {
    unsigned long seen = 0;
    char name[32], text[64];
    snprintf(name, sizeof name, "storm-%d", number % 10);
    FD(fd, open(name, O_CREAT | O_TRUNC | O_RDWR, 0640));
    int length = snprintf(text, sizeof text, "round %d of the storm", number);
    EQ(write(fd, text, length), length);
    struct stat st;
    OK(stat(name, &st));
    seen = seen * 31 + st.st_size + st.st_mode + st.st_nlink;
    char back[64] = "";
    EQ(pread(fd, back, sizeof back, 0), length);
    EQ(strcmp(text, back), 0);
    OK(close(fd));
    OK(unlink(name));
    ERR(stat(name, &st), ENOENT);

    int ends[2], status;
    OK(pipe(ends));
    pid_t pid = fork();
    if (pid == 0) {
        /* With no signals of its own from here on: timers are not inherited, and the sibling knows the parent only. */
        char bytes[5000];
        memset(bytes, number, sizeof bytes);
        for (int i = 0; i < 20; i++)
            if (write(ends[1], bytes, sizeof bytes) != sizeof bytes)
                _exit(99);
        _exit(number % 50);
    }
    CHECK(pid > 0);
    OK(close(ends[1]));
    static char bytes[100000];
    size_t total = 0;
    ssize_t got;
    while ((got = read(ends[0], bytes + total, sizeof bytes - total)) > 0)
        total += got;
    EQ(got, 0);
    EQ(total, sizeof bytes);
    for (size_t i = 0; i < total; i += 97)
        EQ(bytes[i], (char)number);
    OK(close(ends[0]));
    EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    seen = seen * 31 + WEXITSTATUS(status);

    pthread_t thread;
    word = 0;
    EQ(pthread_create(&thread, NULL, changes_the_word, NULL), 0);
    while (word == 0)
        if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == -1)
            CHECK(errno == EAGAIN || errno == EINTR);
    EQ(pthread_join(thread, NULL), 0);

    FD(event, eventfd(0, 0));
    uint64_t value = number + 1;
    EQ(write(event, &value, 8), 8);
    EQ(read(event, &value, 8), 8);
    seen = seen * 31 + value;
    OK(close(event));
    return seen;
}

static unsigned long work(int rounds) {
    unsigned long seen = 0;
    for (int i = 0; i < rounds; i++)
        seen = seen * 1000003 + round_of_work(i);
    return seen;
}

CASE(a_storm_of_signals_changes_no_result) {
    const int rounds = 60;
    unsigned long quiet = work(rounds);
    struct sigaction action = {.sa_handler = counts, .sa_flags = SA_RESTART};
    OK(sigaction(SIGUSR1, &action, NULL));
    OK(sigaction(SIGRTMIN, &action, NULL));
    pid_t storm = fork(), target = getppid();
    if (storm == 0) {
        target = getppid();
        struct timespec pause = {0, 1000000};
        for (double end = t_now() + 10; t_now() < end; nanosleep(&pause, NULL))
            for (int i = 0; i < 10; i++)
                kill(target, i % 2 ? SIGUSR1 : SIGRTMIN);
        _exit(0);
    }
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec often = {{0, 100000}, {0, 100000}};
    OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
    OK(timer_settime(timer, 0, &often, NULL));
    double begun = t_now();
    unsigned long stormy;
    int times = 0;
    do
        stormy = work(rounds);
    while (stormy == quiet && ++times < 20 && t_now() < begun + 2);
    OK(timer_delete(timer));
    kill(storm, SIGKILL);
    t_wait(storm);
    EQ(stormy, quiet);
    CHECK(signals > 500);
}
