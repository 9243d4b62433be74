# title: gcc: a project of 200 files, make -j4
# size: {200} C files of 4 lines, -O1
# needs: gcc make
# target: 0.8
prepare() {
	local n
	n=$(scaled 200)
	for i in $(seq "$n"); do
		cat >"$made/f$i.c" <<-END
			#include <stdio.h>
			#include <stdlib.h>
			#include <string.h>
			int f$i(int x) { char b[64]; snprintf(b, sizeof b, "%d", x + $i); return (int)strlen(b) + atoi(b); }
		END
	done
	{
		seq -f 'int f%g(int);' "$n"
		echo 'int main(void) { int s = 0;'
		seq -f ' s += f%g(s);' "$n"
		echo ' return s % 251; }'
	} >"$made/main.c"
	cat >"$made/Makefile" <<-'END'
		OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
		program: $(OBJECTS); $(CC) -o $@ $^
		%.o: %.c; $(CC) -O1 -c -o $@ $<
	END
}

run() {
	cp "$made"/*.c "$made/Makefile" .
	timed make make -s -j4
	local status=0
	./program || status=$?
	check "$status $(ls ./*.o | wc -l)"
}
