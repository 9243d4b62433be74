# The everyday set of coreutils.
export LC_ALL=C TZ=UTC
seq 1 20 > numbers
printf 'b 2\na 10\nc 1\n' > table
echo '-- text'
head -n 3 numbers; tail -n 2 numbers; tail -c 3 numbers; tac numbers | head -n 1
sort table; sort -k2 -n table; sort -r table; printf '3\n1\n3\n' | sort -u
uniq -c <<< $'x\nx\ny'; cut -d' ' -f2 table; paste -s -d+ numbers; paste table table
join <(sort table) <(sort table); comm -12 <(seq 1 5) <(seq 3 8); nl table; fold -w 4 <<< abcdefghij
tr a-z A-Z < table; expand <<< $'a\tb'; wc numbers; wc -c numbers; od -An -tx1 -N8 numbers; rev < table 2> /dev/null
split -l 7 numbers part-; ls part-*; cat part-* | cmp - numbers && echo same; csplit -s numbers 10; ls xx*
shuf -e one --random-source=/dev/zero; fmt -w 20 <<< 'some words that are to be filled'; pr -t -2 numbers | head -n 3
echo '-- sums'
md5sum numbers; sha1sum numbers; sha256sum numbers; cksum numbers; sum numbers; b2sum numbers | cut -c1-16
sha256sum numbers > sums && sha256sum -c sums; base64 numbers | head -n 1; base64 numbers | base64 -d | cmp - numbers && echo same
echo '-- files'
cp numbers copy; cp -p numbers kept; cp -r . ../copy-of-all 2> /dev/null; mv copy moved; ln moved hard; ln -s moved soft
ls; ls -1 | wc -l; stat -c '%n %s %h %F %a' moved hard soft; readlink soft; basename /a/b.c .c; dirname /a/b.c
touch -d '2020-01-02 03:04:05' dated; stat -c %Y dated; date -r dated '+%F %T'; ls -l --time-style=long-iso dated | awk '{print $6, $7}'
chmod u=rwx,g=rx,o= dated; stat -c %A dated; chmod -x dated; stat -c %a dated; install -m 751 -D dated deep/er/installed; stat -c %a deep/er/installed
mkdir -p x/y/z; rmdir -p x/y/z; ls -d x 2>&1; mktemp -d ./tmp.XXXXXX | wc -c; truncate -s 1000 holes; stat -c '%s' holes
dd if=/dev/zero of=zeros bs=1k count=64 2> /dev/null; stat -c %s zeros; dd if=numbers bs=1 skip=4 count=5 2> /dev/null
cmp numbers zeros; cmp numbers moved && echo same; diff numbers <(sed s/5/five/ numbers); du -b numbers | cut -f1; df . > /dev/null && echo df
rm -rf ../copy-of-all; mkfifo fifo; (cat fifo &) ; echo 'from fifo' > fifo; sleep 0.1; realpath --relative-to=. ./moved; pathchk moved && echo ok
sync moved; shred -u -n 1 zeros; ls zeros 2>&1; link moved linked; unlink linked; mknod made p; stat -c %F made
ls -la | awk '{print $1, $NF}' | grep -v '^total' | grep -v ' tmp\.' | sort
echo '-- numbers and words'
seq -s, 1 2 9; expr 6 \* 7; factor 360; numfmt --to=iec 1048576; printf '%s-%d\n' a 1 b 2; echo -e 'a\tb'; yes y | head -n 2; test 3 -gt 2; echo $?
echo '-- processes'
env -i A=1 env; nice -n 5 nice; nohup echo nohup 2> /dev/null; timeout 0.2 sleep 10; echo $?; timeout 5 true; echo $?; sleep 0.05; true; false; echo $?
id -u; id -un; whoami; groups; logname 2> /dev/null; tty; uname -s -m; nproc > /dev/null && echo nproc; printenv LC_ALL; pwd | wc -l; arch; hostid > /dev/null; stdbuf -oL echo buffered
chroot / /bin/echo chrooted; tee teed <<< teed; cat teed; date -d @0 '+%F %T'; stty 2>&1 | head -n 1; users; who; uptime > /dev/null; echo $?
