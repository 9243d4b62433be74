#!/bin/bash
# Show the main job on real programs: each command is printed, then run.
#
#   tools/demo.sh [RVISOR]
set -u
rvisor=${1:-rvisor}
work=$(mktemp -d /var/tmp/rvisor-demo.XXXXXX)
trap 'rm -rf "$work"' EXIT
failed=0

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() {
    printf '$ rvisor'
    printf ' %q' "$@"
    printf '\n'
    "$rvisor" "$@"
    local status=$?
    if ((status != ${want:-0})); then
        echo "(exit status $status, expected ${want:-0})"
        failed=$((failed + 1))
    fi
}

say 'Does this host have what it takes?'
show doctor

say 'A program on a kernel of its own: other processes, another host name, another process 1'
show run -- bash -c 'echo "I am process $$ on $(uname -n), user $(id -un)"; ls /proc | grep -c "^[0-9]"'

say 'It sees the host'"'"'s files and may change them all; the host never notices'
show run -- bash -c 'echo overwritten > /etc/hostname; rm -rf /usr/share/doc; cat /etc/hostname; ls -d /usr/share/doc 2>&1 || :'
ls -d /usr/share/doc
echo "on the host: $(cat /etc/hostname)"

say 'Python, with threads, processes and a database'
show run -- python3 -c '
import multiprocessing, sqlite3, subprocess, threading
print(subprocess.check_output(["echo", "from a child process"], text=True), end="")
with multiprocessing.Pool(2) as pool:
    print(pool.map(abs, range(-3, 3)))
db = sqlite3.connect("/tmp/demo.db")
db.execute("create table t (x)")
print("sqlite", sqlite3.sqlite_version, db.execute("select count(*) from t").fetchone())
'

say 'A C compiler, in a directory shared with the host'
cat > "$work/hello.c" <<'END'
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("compiled and run inside, pid %d\n", getpid()); return 0; }
END
show run -v "$work:/work" -w /work -- sh -c 'gcc -O2 -o hello hello.c && ./hello'
ls -l "$work/hello"

say 'A repository'
show run -w /tmp -- sh -c 'git init -q r && cd r && echo text > f && git add f && git -c user.name=n -c user.email=e commit -qm first && git log --format=%s && cd .. && git clone -q r clone && ls clone'

say 'Standard input, exit status, limits'
echo '6 7' | show run -i -- awk '{print $1 * $2}'
want=3 show run -- sh -c 'exit 3'
want=124 show run --timeout 1 -- sleep 60
want=137 show run --memory 64m -- python3 -c 'x = bytearray(1 << 30)'
want=127 show run -- no-such-program

say 'What a system call costs, natively and inside (a few rows; `rvisor bench micro` shows all)'
show bench micro --runs 1 --only getppid --only stat --only 'read 4 KiB' --only 'pipe ping-pong' --only 'vfork+exec+wait'

echo
if ((failed)); then
    echo "$failed steps did not go as expected"
    exit 1
fi
echo 'Every step went as expected.'
