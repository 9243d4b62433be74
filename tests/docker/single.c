/* The only file of an image: what such a program finds. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char cwd[64] = "", host[65] = "";

	getcwd(cwd, sizeof cwd);
	gethostname(host, sizeof host - 1);
	printf("pid %d cwd %s host %s args", getpid(), cwd, host);
	for (int i = 1; i < argc; i++)
		printf(" %s", argv[i]);
	printf("\n");
	return argc > 1 && !strcmp(argv[1], "fail") ? 42 : 0;
}
