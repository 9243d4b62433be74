/* Dispositions, masks, queues, restarts, job control, timers that signal. */
#include "t.h"
#include <sys/syscall.h>
#include <sys/time.h>

static volatile sig_atomic_t count, last, order[16];
static volatile siginfo_t info;

static void counts(int number) {
    order[count & 15] = number;
    count++;
    last = number;
}
static void with_info(int number, siginfo_t *given, void *context) {
    (void)context;
    info = *given;
    counts(number);
}
static void set(int number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    OK(sigaction(number, &action, NULL));
}
static void set_info(int number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    OK(sigaction(number, &action, NULL));
}
static void block(int number) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    OK(sigprocmask(SIG_BLOCK, &mask, NULL));
}
static void unblock(int number) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, number);
    OK(sigprocmask(SIG_UNBLOCK, &mask, NULL));
}
/* A signal to this process after a while, from another. */
static pid_t later(int number, int ms) {
    pid_t target = getpid(), pid = fork();
    if (pid == 0) {
        t_sleep_ms(ms);
        kill(target, number);
        _exit(0);
    }
    return pid;
}

CASE(handler_runs_before_kill_returns) {
    set(SIGUSR1, counts, 0);
    OK(kill(getpid(), SIGUSR1));
    EQ(count, 1);
    OK(raise(SIGUSR1));
    EQ(count, 2);
    EQ(last, SIGUSR1);
}
CASE(sigaction_reads_back) {
    struct sigaction old, action = {.sa_handler = counts, .sa_flags = SA_RESTART | SA_NODEFER};
    sigaddset(&action.sa_mask, SIGTERM);
    OK(sigaction(SIGUSR1, &action, &old));
    CHECK(old.sa_handler == SIG_DFL);
    OK(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == counts);
    EQ(old.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO), SA_RESTART | SA_NODEFER);
    CHECK(sigismember(&old.sa_mask, SIGTERM) && !sigismember(&old.sa_mask, SIGINT));
    ERR(sigaction(SIGKILL, &action, NULL), EINVAL);
    ERR(sigaction(SIGSTOP, &action, NULL), EINVAL);
    ERR(sigaction(0, &action, NULL), EINVAL);
    ERR(sigaction(65, &action, NULL), EINVAL);
    ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
    ERR(syscall(SYS_rt_sigaction, SIGUSR1, BAD_ADDRESS, NULL, 8), EFAULT);
}
CASE(ignored_is_dropped) {
    signal(SIGUSR1, SIG_IGN);
    OK(raise(SIGUSR1));
    block(SIGUSR1);
    OK(raise(SIGUSR1));
    set(SIGUSR1, counts, 0);
    unblock(SIGUSR1);
    CHECK(count <= 1);
}
CASE(default_ignored) {
    OK(raise(SIGCHLD));
    OK(raise(SIGURG));
    OK(raise(SIGWINCH));
    OK(raise(SIGCONT));
}
CASE(mask_and_pending) {
    set(SIGUSR1, counts, 0);
    block(SIGUSR1);
    OK(raise(SIGUSR1));
    OK(raise(SIGUSR1));
    EQ(count, 0);
    sigset_t pending;
    OK(sigpending(&pending));
    CHECK(sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGUSR2));
    unblock(SIGUSR1);
    EQ(count, 1);
    OK(sigpending(&pending));
    CHECK(!sigismember(&pending, SIGUSR1));
}
CASE(kill_and_stop_cannot_be_blocked) {
    sigset_t all, got;
    sigfillset(&all);
    OK(sigprocmask(SIG_SETMASK, &all, NULL));
    OK(sigprocmask(SIG_BLOCK, NULL, &got));
    CHECK(!sigismember(&got, SIGKILL) && !sigismember(&got, SIGSTOP) && sigismember(&got, SIGTERM));
    ERR(sigprocmask(99, &all, NULL), EINVAL);
    ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 4), EINVAL);
    ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BAD_ADDRESS, NULL, 8), EFAULT);
}
static volatile int depth, deepest;
static void nests(int number) {
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (++count < 3)
        raise(number);
    depth--;
}
CASE(blocked_during_its_handler) {
    set(SIGUSR1, nests, 0);
    OK(raise(SIGUSR1));
    EQ(deepest, 1);
    EQ(count, 3);
}
CASE(nodefer_nests) {
    set(SIGUSR1, nests, SA_NODEFER);
    OK(raise(SIGUSR1));
    EQ(deepest, 3);
}
CASE(resethand_once) {
    set(SIGUSR1, counts, SA_RESETHAND);
    OK(raise(SIGUSR1));
    struct sigaction now;
    OK(sigaction(SIGUSR1, NULL, &now));
    CHECK(now.sa_handler == SIG_DFL);
}
static void checks_mask(int number) {
    (void)number;
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    last = sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGTERM);
}
CASE(handler_mask) {
    struct sigaction action = {.sa_handler = checks_mask};
    sigaddset(&action.sa_mask, SIGUSR2);
    OK(sigaction(SIGUSR1, &action, NULL));
    OK(raise(SIGUSR1));
    EQ(last, 1);
    sigset_t mask;
    OK(sigprocmask(SIG_BLOCK, NULL, &mask));
    CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2));
}
CASE(siginfo_of_kill) {
    set_info(SIGUSR1, with_info, 0);
    OK(kill(getpid(), SIGUSR1));
    EQ(info.si_signo, SIGUSR1);
    EQ(info.si_code, SI_USER);
    EQ(info.si_pid, getpid());
    EQ(info.si_uid, getuid());
    OK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
    EQ(info.si_code, SI_TKILL);
    EQ(count, 2);
}
CASE(sigqueue_values_in_order) {
    set_info(SIGRTMIN, with_info, 0);
    block(SIGRTMIN);
    for (int i = 0; i < 5; i++)
        OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 100 + i}));
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN);
    for (int i = 0; i < 3; i++) {
        siginfo_t got;
        EQ(sigwaitinfo(&mask, &got), SIGRTMIN);
        EQ(got.si_value.sival_int, 100 + i);
        EQ(got.si_code, SI_QUEUE);
    }
    unblock(SIGRTMIN);
    EQ(count, 2);
    EQ(info.si_value.sival_int, 104);
    ERR(sigqueue(999999, SIGRTMIN, (union sigval){0}), ESRCH);
    ERR(sigqueue(getpid(), 65, (union sigval){0}), EINVAL);
}
CASE(lowest_number_first) {
    int numbers[] = {SIGRTMIN + 3, SIGRTMIN + 1, SIGUSR2, SIGUSR1};
    sigset_t all;
    sigemptyset(&all);
    for (int i = 0; i < 4; i++) {
        sigaddset(&all, numbers[i]);
        block(numbers[i]);
    }
    for (int i = 0; i < 4; i++)
        OK(raise(numbers[i]));
    EQ(sigwaitinfo(&all, NULL), SIGUSR1);
    EQ(sigwaitinfo(&all, NULL), SIGUSR2);
    EQ(sigwaitinfo(&all, NULL), SIGRTMIN + 1);
    EQ(sigwaitinfo(&all, NULL), SIGRTMIN + 3);
}
CASE(sigtimedwait_times_out) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    block(SIGUSR1);
    struct timespec t = {0, 50000000};
    double start = t_now();
    ERR(sigtimedwait(&mask, NULL, &t), EAGAIN);
    CHECK(t_now() - start >= 0.045);
    struct timespec bad = {0, 2000000000};
    ERR(sigtimedwait(&mask, NULL, &bad), EINVAL);
    pid_t pid = later(SIGUSR1, 30);
    t.tv_sec = 5;
    siginfo_t got;
    EQ(sigtimedwait(&mask, &got, &t), SIGUSR1);
    EQ(got.si_pid, pid);
    CHILD_OK(pid);
}
CASE(sigsuspend_swaps_the_mask) {
    set(SIGUSR1, counts, 0);
    block(SIGUSR1);
    OK(raise(SIGUSR1));
    sigset_t none, now;
    sigemptyset(&none);
    ERR(sigsuspend(&none), EINTR);
    EQ(count, 1);
    OK(sigprocmask(SIG_BLOCK, NULL, &now));
    CHECK(sigismember(&now, SIGUSR1));
}
CASE(pause_is_interrupted) {
    set(SIGUSR1, counts, SA_RESTART);
    pid_t pid = later(SIGUSR1, 50);
    ERR(pause(), EINTR);
    EQ(count, 1);
    CHILD_OK(pid);
}
CASE(read_is_interrupted_without_restart) {
    int ends[2];
    char byte;
    OK(pipe(ends));
    set(SIGUSR1, counts, 0);
    pid_t pid = later(SIGUSR1, 50);
    ERR(read(ends[0], &byte, 1), EINTR);
    EQ(count, 1);
    CHILD_OK(pid);
}
CASE(read_is_restarted) {
    int ends[2];
    char byte = 0;
    OK(pipe(ends));
    set(SIGUSR1, counts, SA_RESTART);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        t_sleep_ms(50);
        kill(parent, SIGUSR1);
        t_sleep_ms(50);
        EQ(write(ends[1], "r", 1), 1);
        _exit(0);
    }
    EQ(read(ends[0], &byte, 1), 1);
    EQ(byte, 'r');
    EQ(count, 1);
    CHILD_OK(pid);
}
CASE(waitpid_is_restarted_or_interrupted) {
    pid_t sleeper = fork();
    if (sleeper == 0) {
        t_sleep_ms(200);
        _exit(3);
    }
    set(SIGUSR1, counts, 0);
    pid_t pid = later(SIGUSR1, 50);
    int status;
    ERR(waitpid(sleeper, &status, 0), EINTR);
    set(SIGUSR1, counts, SA_RESTART);
    CHILD_OK(pid);
    pid = later(SIGUSR1, 20);
    EQ(waitpid(sleeper, &status, 0), sleeper);
    EQ(WEXITSTATUS(status), 3);
    CHILD_OK(pid);
    EQ(count, 2);
}
CASE(nanosleep_tells_what_is_left) {
    set(SIGUSR1, counts, SA_RESTART);
    pid_t pid = later(SIGUSR1, 50);
    struct timespec want = {2, 0}, left = {0, 0};
    ERR(nanosleep(&want, &left), EINTR);
    CHECK(left.tv_sec == 1 && left.tv_nsec > 500000000);
    CHILD_OK(pid);
}
CASE(ignored_signal_does_not_interrupt) {
    signal(SIGUSR1, SIG_IGN);
    pid_t pid = later(SIGUSR1, 20);
    struct timespec want = {0, 100000000};
    double start = t_now();
    OK(nanosleep(&want, NULL));
    CHECK(t_now() - start >= 0.095);
    CHILD_OK(pid);
}
CASE(stop_and_continue_do_not_interrupt_read) {
    int ends[2], ready[2];
    OK(pipe(ends));
    OK(pipe(ready));
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        EQ(write(ready[1], "r", 1), 1);
        EQ(read(ends[0], &byte, 1), 1);
        _exit(byte);
    }
    char byte;
    EQ(read(ready[0], &byte, 1), 1);
    t_sleep_ms(30);
    OK(kill(pid, SIGSTOP));
    int status;
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    EQ(WSTOPSIG(status), SIGSTOP);
    OK(kill(pid, SIGCONT));
    EQ(waitpid(pid, &status, WCONTINUED), pid);
    CHECK(WIFCONTINUED(status));
    EQ(write(ends[1], "\7", 1), 1);
    EQ(WEXITSTATUS(t_wait(pid)), 7);
}
CASE(stopped_process_does_not_run) {
    volatile int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            (*shared)++;
    while (*shared == 0)
        t_sleep_ms(1);
    OK(kill(pid, SIGSTOP));
    int status;
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    int before = *shared;
    t_sleep_ms(50);
    EQ(*shared, before);
    siginfo_t got;
    OK(kill(pid, SIGCONT));
    OK(waitid(P_PID, pid, &got, WCONTINUED));
    EQ(got.si_code, CLD_CONTINUED);
    t_sleep_ms(50);
    CHECK(*shared != before);
    OK(kill(pid, SIGSTOP));
    OK(waitid(P_PID, pid, &got, WSTOPPED));
    EQ(got.si_code, CLD_STOPPED);
    EQ(got.si_status, SIGSTOP);
    OK(kill(pid, SIGKILL));
    EQ(WTERMSIG(t_wait(pid)), SIGKILL);
}
CASE(sigchld_tells_who) {
    set_info(SIGCHLD, with_info, 0);
    block(SIGCHLD);
    pid_t pid = fork();
    if (pid == 0)
        _exit(21);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    siginfo_t got;
    EQ(sigwaitinfo(&mask, &got), SIGCHLD);
    EQ(got.si_pid, pid);
    EQ(got.si_code, CLD_EXITED);
    EQ(got.si_status, 21);
    EQ(WEXITSTATUS(t_wait(pid)), 21);
}
CASE(sigchld_nocldstop) {
    set(SIGCHLD, counts, SA_NOCLDSTOP | SA_RESTART);
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    kill(pid, SIGSTOP);
    int status;
    EQ(waitpid(pid, &status, WUNTRACED), pid);
    EQ(count, 0);
    kill(pid, SIGKILL);
    EQ(WTERMSIG(t_wait(pid)), SIGKILL);
    EQ(count, 1);
}
CASE(sigpipe) {
    int ends[2];
    OK(pipe(ends));
    close(ends[0]);
    set(SIGPIPE, counts, 0);
    ERR(write(ends[1], "x", 1), EPIPE);
    EQ(count, 1);
    signal(SIGPIPE, SIG_IGN);
    ERR(write(ends[1], "x", 1), EPIPE);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        EQ(write(ends[1], "x", 1), 0);
        _exit(0);
    }
    EQ(WTERMSIG(t_wait(pid)), SIGPIPE);
}
CASE(alarm_fires) {
    set(SIGALRM, counts, 0);
    EQ(alarm(100) > 0, 1);
    EQ(alarm(1), 100);
    double start = t_now();
    ERR(pause(), EINTR);
    double passed = t_now() - start;
    CHECK(passed > 0.9 && passed < 10);
    EQ(alarm(0), 0);
}
CASE(setitimer_repeats) {
    set(SIGALRM, counts, 0);
    struct itimerval timer = {{0, 20000}, {0, 20000}}, now;
    OK(setitimer(ITIMER_REAL, &timer, NULL));
    while (count < 3)
        pause();
    OK(getitimer(ITIMER_REAL, &now));
    EQ(now.it_interval.tv_usec, 20000);
    struct itimerval off = {{0, 0}, {0, 0}};
    OK(setitimer(ITIMER_REAL, &off, &now));
    ERR(setitimer(99, &timer, NULL), EINVAL);
    timer.it_value.tv_usec = 1000000;
    ERR(setitimer(ITIMER_REAL, &timer, NULL), EINVAL);
}
CASE(timer_interrupts_computation) {
    set(SIGALRM, counts, 0);
    struct itimerval timer = {{0, 0}, {0, 50000}};
    OK(setitimer(ITIMER_REAL, &timer, NULL));
    double end = t_now() + 5;
    volatile unsigned long spin = 0;
    while (!count && spin < 20000000000ul)
        spin++;
    EQ(count, 1);
    CHECK(t_now() < end);
}
CASE(kill_targets) {
    ERR(kill(999999, 0), ESRCH);
    ERR(kill(getpid(), 65), EINVAL);
    ERR(kill(getpid(), -1), EINVAL);
    OK(kill(getpid(), 0));
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        for (int i = 0; i < 3; i++)
            if (fork() == 0) {
                for (;;)
                    pause();
            }
        set(SIGTERM, counts, 0);
        OK(kill(0, SIGTERM));
        EQ(count, 1);
        for (int i = 0; i < 3; i++) {
            int status;
            CHECK(wait(&status) > 0);
            EQ(WTERMSIG(status), SIGTERM);
        }
        _exit(0);
    }
    CHILD_OK(pid);
    ERR(kill(-pid, 0), ESRCH);
    ERR(syscall(SYS_tgkill, getpid(), 999999, 0), ESRCH);
    ERR(syscall(SYS_tgkill, -1, 1, 0), EINVAL);
    ERR(syscall(SYS_tkill, 0, 0), EINVAL);
}
CASE(fork_keeps_handlers_clears_pending) {
    set(SIGUSR1, counts, 0);
    block(SIGUSR1);
    OK(raise(SIGUSR1));
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t pending;
        OK(sigpending(&pending));
        CHECK(!sigismember(&pending, SIGUSR1));
        unblock(SIGUSR1);
        EQ(count, 0);
        OK(raise(SIGUSR1));
        EQ(count, 1);
        _exit(0);
    }
    CHILD_OK(pid);
}
static void *waits(void *argument) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    int number = 0;
    sigwait(&mask, &number);
    *(int *)argument = number;
    return NULL;
}
CASE(process_signal_goes_to_a_thread_that_takes_it) {
    block(SIGUSR1);
    int got = 0;
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, waits, &got), 0);
    t_sleep_ms(30);
    OK(kill(getpid(), SIGUSR1));
    pthread_join(thread, NULL);
    EQ(got, SIGUSR1);
}
static volatile pid_t handled_by;
static void notes_thread(int number) {
    (void)number;
    handled_by = syscall(SYS_gettid);
    count++;
}
static void *spins(void *argument) {
    *(volatile pid_t *)argument = syscall(SYS_gettid);
    while (!count)
        ;
    return NULL;
}
CASE(thread_signal_reaches_a_running_thread) {
    set(SIGUSR1, notes_thread, 0);
    volatile pid_t tid = 0;
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, spins, (void *)&tid), 0);
    while (!tid)
        t_sleep_ms(1);
    EQ(pthread_kill(thread, SIGUSR1), 0);
    pthread_join(thread, NULL);
    EQ(handled_by, tid);
}
CASE(signalfd_reads) {
    block(SIGUSR1);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    int fd = syscall(SYS_signalfd4, -1, &mask, 8, 04000 /* NONBLOCK */);
    CHECK(fd >= 0);
    unsigned char record[128];
    ERR(read(fd, record, sizeof record), EAGAIN);
    OK(raise(SIGUSR1));
    EQ(read(fd, record, sizeof record), 128);
    EQ(*(unsigned *)record, SIGUSR1);
    ERR(read(fd, record, 10), EINVAL);
}
CASE(many_signals_between_two) {
    set(SIGUSR1, counts, 0);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        sigset_t mask;
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR1);
        for (int i = 0; i < 200; i++) {
            while (count <= i)
                t_sleep_ms(0);
            kill(parent, SIGUSR1);
        }
        _exit(0);
    }
    for (int i = 0; i < 200; i++) {
        kill(pid, SIGUSR1);
        double end = t_now() + 5;
        while (count <= i && t_now() < end)
            sched_yield();
        CHECK(count > i);
    }
    CHILD_OK(pid);
}
static volatile int t_took;
static void takes(int number) {
    struct sigaction now;
    sigaction(number, NULL, &now);
    t_took = number == SIGSEGV ? number : now.sa_flags;
}
CASE(reset_handlers_keep_their_flags) {
    struct sigaction action = {.sa_handler = takes, .sa_flags = SA_RESETHAND | SA_NODEFER | SA_RESTART};
    OK(sigaction(SIGUSR1, &action, NULL));
    OK(raise(SIGUSR1));
    CHECK(t_took & SA_RESETHAND);
    CHECK(t_took & SA_RESTART);
    OK(sigaction(SIGUSR1, NULL, &action));
    CHECK(action.sa_handler == SIG_DFL);
}
CASE(no_room_for_a_frame_is_a_fault) {
    char *low = mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(low != MAP_FAILED);
    stack_t stack = {.ss_sp = low, .ss_size = 1 << 16};
    OK(sigaltstack(&stack, NULL));
    struct sigaction action = {.sa_handler = takes, .sa_flags = SA_ONSTACK};
    OK(sigaction(SIGUSR1, &action, NULL));
    action.sa_flags = 0;
    OK(sigaction(SIGSEGV, &action, NULL));
    OK(raise(SIGUSR1));
    EQ(t_took, SIGSEGV);
    pid_t pid = fork();
    if (pid == 0) {
        action.sa_flags = SA_ONSTACK;
        OK(sigaction(SIGSEGV, &action, NULL));
        raise(SIGUSR1);
        _exit(2);
    }
    int status = t_wait(pid);
    CHECK(WIFSIGNALED(status));
    EQ(WTERMSIG(status), SIGSEGV);
}
static void *sends_by_its_number(void *unused) {
    siginfo_t info = {.si_code = SI_QUEUE};
    info.si_value.sival_int = 5;
    OK(syscall(SYS_rt_sigqueueinfo, gettid(), SIGUSR1, &info));
    OK(kill(gettid(), 0));
    return NULL;
}
CASE(a_threads_number_means_its_process) {
    struct sigaction action = {.sa_handler = takes};
    OK(sigaction(SIGUSR1, &action, NULL));
    t_took = -1;
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, sends_by_its_number, NULL), 0);
    EQ(pthread_join(thread, NULL), 0);
    CHECK(t_took != -1);
}
/* Run alone this is pid 1, which takes only what it handles: what it blocks waits all the same. */
CASE(a_blocked_signal_without_handler_waits) {
    block(SIGUSR2);
    OK(kill(getpid(), SIGUSR2));
    sigset_t mask;
    OK(sigpending(&mask));
    EQ(sigismember(&mask, SIGUSR2), 1);
    struct timespec soon = {5, 0};
    EQ(sigtimedwait(&mask, NULL, &soon), SIGUSR2);
}
