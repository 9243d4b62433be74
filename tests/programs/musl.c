/* What a musl program starts with: its loader, threads, files, time, a child. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long sum;

static void *add(void *n) {
    for (long i = 0; i < 20000; i++) {
        pthread_mutex_lock(&mutex);
        sum += (long)n;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}
int main(void) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, add, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("sum %ld\n", sum);
    char name[] = "/tmp/musl.XXXXXX", text[64] = "";
    int fd = mkstemp(name);
    struct stat st;
    long calls = 0;
    for (int i = 0; i < 2000; i++)
        calls += fstat(fd, &st) == 0 && getppid() > 0 - 1 && lseek(fd, i, SEEK_SET) == i;
    printf("calls %ld\n", calls);
    pwrite(fd, "written", 7, 0);
    pread(fd, text, sizeof text - 1, 0);
    printf("file %s, %s\n", text, unlink(name) == 0 && access(name, F_OK) != 0 ? "gone" : "there");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    int status;
    waitpid(pid, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
    FILE *p = popen("echo from a shell", "r");
    printf("popen %s", fgets(text, sizeof text, p));
    pclose(p);
    errno = 0;
    printf("error %s\n", open("/nowhere", O_RDONLY) < 0 ? strerror(errno) : "none");
    struct timespec tiny = {0, 1000000};
    printf("sleep %d\n", nanosleep(&tiny, NULL));
    return 3;
}
