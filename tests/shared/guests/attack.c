// What a program behind the shared kernel tries: argv[1] names the attempt. Status 0: it was refused as it should be.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static int expect(const char *what, long result, int error) {
	int got = result < 0 ? errno : 0;
	printf("%s: %s\n", what, result < 0 ? strerror(got) : "allowed");
	return got == error ? 0 : 1;
}

static int capset_more(void) {
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &head, data)) return 2;
	// Fewer are always possible.
	struct __user_cap_data_struct fewer[2] = {data[0], data[1]};
	fewer[0].effective &= ~(1u << CAP_CHOWN);
	if (syscall(SYS_capset, &head, fewer)) return 3;
	data[0].permitted |= 1u << CAP_SYS_ADMIN;
	data[0].effective |= 1u << CAP_SYS_ADMIN;
	return expect("capset", syscall(SYS_capset, &head, data), EPERM);
}

static int user_namespaces(void) {
	int bad = expect("unshare", unshare(CLONE_NEWUSER), EPERM);
	bad |= expect("clone", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), EPERM);
	char args[88] = {0};
	bad |= expect("clone3", syscall(SYS_clone3, args, sizeof args), ENOSYS);
	int fd = open("/proc/self/ns/user", O_RDONLY);
	if (fd < 0) return 2;
	bad |= expect("setns", setns(fd, 0), EPERM);
	return bad | expect("setns user", setns(fd, CLONE_NEWUSER), EPERM);
}

static int pid_namespace(void) {
	int bad = expect("unshare", unshare(CLONE_NEWPID), EPERM);
	bad |= expect("clone", syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0), EPERM);
	int fd = open("/proc/1/ns/pid", O_RDONLY);
	return bad | expect("setns", setns(fd, CLONE_NEWPID), EPERM);
}

static int remount(void) {
	int bad = expect("umount", umount2("/proc/sys", MNT_DETACH), EPERM);
	bad |= expect("mount", mount("none", "/tmp", "tmpfs", 0, ""), EPERM);
	return bad | expect("chroot pivot", syscall(SYS_pivot_root, "/", "/tmp"), EPERM);
}

// A filter and a listener of its own: the filter may only narrow, and there is room for one listener.
static int own_filter(void) {
	struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
	struct sock_fprog program = {1, code};
	int bad = expect("listener", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program), EBUSY);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) return 4;
	bad |= expect("still unshare", unshare(CLONE_NEWUSER), EPERM);
	struct utsname name;
	return bad | expect("still uname", uname(&name), EPERM);
}

static char shared_path[64];
static volatile int stop;

static void *rewrite(void *other) {
	while (!stop) {
		memcpy(shared_path, other, 32);
		memcpy(shared_path, "/etc/hostname\0                  ", 32);
	}
	return 0;
}

// A thread changes the path between any check and its use.
static int race(const char *forbidden) {
	pthread_t thread;
	char other[64] = {0};
	strncpy(other, forbidden, 31);
	if (pthread_create(&thread, 0, rewrite, other)) return 2;
	int leaked = 0;
	char text[64];
	for (int i = 0; i < 50000; i++) {
		int fd = open(shared_path, O_RDONLY);
		if (fd < 0) continue;
		ssize_t n = read(fd, text, sizeof text - 1);
		if (n > 0 && (text[n] = 0, strstr(text, "SECRET"))) leaked++;
		close(fd);
	}
	stop = 1;
	pthread_join(thread, 0);
	printf("leaked %d times\n", leaked);
	return leaked ? 1 : 0;
}

static struct sockaddr_in peer = {.sin_family = AF_INET};

static void *readdress(void *unused) {
	volatile in_addr_t *address = &peer.sin_addr.s_addr;
	while (!stop) {
		*address = htonl(0x7f000001);
		*address = htonl(0x7f000002);
	}
	return unused;
}

// A thread changes the address between any check and its use: of 127.0.0.1 and .2 only the second may be reached.
static int race_connect(void) {
	int server = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = {.sin_family = AF_INET};
	socklen_t length = sizeof any;
	if (bind(server, (void *)&any, sizeof any) || listen(server, 100)) return 2;
	if (getsockname(server, (void *)&any, &length)) return 3;
	peer.sin_port = any.sin_port;
	pthread_t thread;
	if (pthread_create(&thread, 0, readdress, 0)) return 4;
	int reached = 0, refused = 0, leaked = 0;
	for (int i = 0; i < 3000; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (void *)&peer, sizeof peer)) {
			refused += errno == EPERM;
		} else {
			struct sockaddr_in other;
			length = sizeof other;
			reached++;
			if (getpeername(fd, (void *)&other, &length)) return 5;
			leaked += other.sin_addr.s_addr == htonl(0x7f000001);
			close(accept(server, 0, 0));
		}
		close(fd);
	}
	stop = 1;
	pthread_join(thread, 0);
	printf("both %d, leaked %d times\n", reached && refused, leaked);
	return leaked ? 1 : 0;
}

// The monitor's rows, with addresses that are none, and a caller that dies while it is answered.
static int bad_pointers(void) {
	int bad = expect("syslog", syscall(SYS_syslog, 3, (char *)8, 100), EFAULT);
	bad |= expect("uname", syscall(SYS_uname, (void *)8), EFAULT);
	bad |= expect("sysinfo", syscall(SYS_sysinfo, (void *)~0ul), EFAULT);
	bad |= expect("syslog length", syscall(SYS_syslog, 3, (char *)8, -1), EINVAL);
	for (int i = 0; i < 50; i++) {
		pid_t pid = fork();
		if (!pid) {
			char buffer[64];
			for (;;) syscall(SYS_syslog, 3, buffer, sizeof buffer);
		}
		usleep(1000);
		kill(pid, SIGKILL);
		waitpid(pid, 0, 0);
	}
	return bad;
}

int main(int argc, char **argv) {
	setvbuf(stdout, 0, _IONBF, 0);
	if (argc < 2) return 9;
	if (!strcmp(argv[1], "capset")) return capset_more();
	if (!strcmp(argv[1], "userns")) return user_namespaces();
	if (!strcmp(argv[1], "pidns")) return pid_namespace();
	if (!strcmp(argv[1], "mount")) return remount();
	if (!strcmp(argv[1], "filter")) return own_filter();
	if (!strcmp(argv[1], "pointers")) return bad_pointers();
	if (!strcmp(argv[1], "race")) return race(argv[2]);
	if (!strcmp(argv[1], "connect")) return race_connect();
	return 9;
}
