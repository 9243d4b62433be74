/* What the first rVisor measured: writing a file, and making and removing directories. Its counts were not published;
   these take some seconds natively. Microseconds of CPU time as clock(3) has them, then of the clock on the wall. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WRITES 400000
#define DIRECTORIES 60000

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void tell(const char *what, clock_t cpu, double wall)
{
	printf("%s: %ld (wall %.0f)\n", what, (long)((clock() - cpu) * 1e6 / CLOCKS_PER_SEC), now() - wall);
}

int main(void)
{
	static char block[4096];
	char file[] = "rvisor-benchmark-file", directory[] = "rvisor-benchmark-directory";
	clock_t cpu = clock();
	double wall = now();
	int fd = open(file, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	if (fd < 0)
		return perror(file), 1;
	for (int i = 0; i < WRITES; i++)
		if (pwrite(fd, block, sizeof block, i % 1024 * sizeof block) != sizeof block)
			return perror("write"), 1;
	close(fd);
	unlink(file);
	tell("Writting disk", cpu, wall);
	cpu = clock();
	wall = now();
	for (int i = 0; i < DIRECTORIES; i++)
		if (mkdir(directory, 0700) != 0 || rmdir(directory) != 0)
			return perror(directory), 1;
	tell("Mkdir/Rmdir", cpu, wall);
	return 0;
}
