# gcc compiles and runs C; make -j2 builds a project of 50 files.
export LC_ALL=C
cat > hello.c <<'END'
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void *work(void *n) { return (void *)((long)n * 3); }
int main(int argc, char **argv) {
    pthread_t t;
    void *r;
    pthread_create(&t, NULL, work, (void *)14);
    pthread_join(t, &r);
    char *s = malloc(1 << 20);
    memset(s, 'x', 1 << 20);
    printf("%s %d %ld %.6f %c\n", argv[argc - 1], argc, (long)r, sqrt(2), s[12345]);
    return 3;
}
END
gcc -O2 -Wall -pthread -o hello hello.c -lm && ./hello world; echo "status $?"
gcc -static -o static hello.c -lm -pthread && ./static too; echo "status $?"
gcc -g -fPIC -shared -o libx.so -x c - <<< 'int x(void) { return 5; }'
gcc -o usesx -x c - -L. -lx -Wl,-rpath,. <<< 'int x(void); int main(void) { return x(); }'; ./usesx; echo "status $?"
gcc -c broken.c 2>&1 | head -n 1; echo 'int main( {' > broken.c; gcc broken.c 2>&1 | grep -c error
gcc -S -O1 -o - -x c - <<< 'int f(int a) { return a * 2; }' | grep -c ret
mkdir project && cd project
for i in $(seq 1 50); do
    cat > "file$i.c" <<END
#include <stdio.h>
#include <string.h>
#include "all.h"
int function$i(int n) { char b[64]; snprintf(b, sizeof b, "%d", n * $i); return (int)strlen(b) + n; }
END
    echo "int function$i(int);"
done > all.h
{
    echo '#include <stdio.h>'
    echo '#include "all.h"'
    echo 'int main(void) { int s = 0;'
    for i in $(seq 1 50); do echo "s += function$i(s);"; echo 's %= 100000;'; done
    echo 'printf("%d\n", s); return 0; }'
} > main.c
cat > Makefile <<'END'
OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
	@gcc -o $@ $^
%.o: %.c all.h
	@gcc -O1 -c -o $@ $<
clean:
	rm -f *.o program
.PHONY: clean
END
make -j2 && ./program; ls *.o | wc -l
make; rm file7.o; make -n | wc -l
make -s clean; ls | wc -l
make missing 2>&1 | grep -c 'No rule'
make -j2 CFLAGS=-O0 program > /dev/null && ar rcs libfiles.a file*.o && ar t libfiles.a | wc -l && nm libfiles.a | grep -c ' T '
strip program && ./program; objdump -d program | grep -c '<main>' ; size program | wc -l; readelf -h program | grep Machine
