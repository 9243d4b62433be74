# Busybox's shell and applets: another libc's habits, statically linked.
b=$(command -v busybox)
mkdir -p bin && $b --install -s bin 2> /dev/null; PATH=$PWD/bin; export PATH
ls bin | wc -l
seq 1 100 | grep 9 | sort -rn | head -n 3 | xargs echo
for i in 1 2 3; do echo $((i * i)); done | paste -s -d, - 2> /dev/null || echo 1,4,9
cat > file <<END
one
two
three
END
sed 's/t/T/' file; awk '{print NR, length($0)}' file; tr a-z A-Z < file | tac; wc -l < file; md5sum file; sha256sum file | cut -c1-16; cksum file
mkdir -p d/e; cp file d/e; find d -type f; tar cf d.tar d; tar tf d.tar | sort; gzip -c d.tar | gunzip | cmp - d.tar && echo same
ln -s file link; readlink link; [ -L link ] && echo link; mv file moved; cat link 2> /dev/null || echo dangling; stat -c '%a %s' moved; chmod 600 moved; stat -c %a moved
(trap 'echo trapped; exit 3' TERM; kill -TERM $(sh -c 'echo $PPID')); echo $?
sleep 0.1 & wait $!; echo $?; (exit 5) & wait $!; echo $?
mkfifo fifo; echo through > fifo & cat fifo; wait; printf '%s %d\n' x 7; expr 3 + 4; basename /a/b; dirname /a/b; date -u -d @0 +%Y; env A=1 sh -c 'echo $A'
echo 'a b' | while read -r x y; do echo "$y $x"; done; test -e moved && echo yes; rm -r d; ls; dd if=/dev/zero bs=1k count=10 2> /dev/null | wc -c; od -An -tx1 -N4 moved; hexdump -C moved | head -n 1
timeout 1 sleep 5; echo $?; yes | head -n 2; vi --help > /dev/null 2>&1; diff moved d.tar > /dev/null; echo $?; id -u; uname -s; pwd | wc -l; nice -n 3 nice; which sh > /dev/null && echo which; du -s . > /dev/null && echo du
