# find, tar, grep and their kind over real trees.
export LC_ALL=C
[ "$RVISOR_TEST_ROOT" = debian ] && find / -xdev -not -path '/tmp/*' -not -path '/scripts/*' -not -path /etc/hosts | wc -l
find /usr/share/perl5 /usr/lib/python3 -type f -name '*.p[my]' 2> /dev/null | sort | sha256sum
find /etc -maxdepth 1 -type f -name '*.conf' -size -100k | sort
find /bin/ -perm -4000 2> /dev/null | sort
find /usr/bin -type l -lname '*awk*' | sort
mkdir -p tree/{a,b,c}/{1,2,3}
for d in tree/*/*; do
    echo "in $d" > "$d/file"
    echo needle > "$d/.hidden"
done
find tree -type f | sort
find tree -name file -exec grep -l /1 {} + | sort
find tree -name .hidden -delete; find tree | wc -l
find tree -newer tree/a/1/file -type d | wc -l > /dev/null
find tree -type d -empty; find tree -depth | head -n 1 | wc -l
grep -r 'in tree/b' tree | sort; grep -rc in tree/a | sort; grep -rl --include='f*' c/2 tree; grep -v in tree/a/1/file; echo $?
grep -E '^(root|daemon):' /etc/passwd; grep -o 'bin/[a-z]*' /etc/passwd | sort | uniq -c | sort -rn | head -n 3; grep -rn root /etc/passwd /etc/group | head -n 5
grep -rIl 'copyright' /usr/share/doc 2> /dev/null | sort | head -n 200 | sha256sum
tar cf tree.tar --sort=name --mtime=@0 --owner=0 --group=0 tree; tar tf tree.tar; sha256sum tree.tar
mkdir out; tar xf tree.tar -C out; diff -r tree out/tree && echo same
tar czf tree.tgz --sort=name tree; tar xzOf tree.tgz tree/b/2/file; gzip -k < tree.tar | gunzip | cmp - tree.tar && echo same
tar cf - /usr/share/perl5 2> /dev/null | tar tf - | sort | sha256sum
(cd tree && tar cf - .) | (cd out && tar xf -); ls out
ls -lR /usr/share/perl5 2> /dev/null | awk '{print $1, $2, $5, $9}' | sha256sum
xargs -0 -n 2 echo < <(find tree -name file -print0 | sort -z); du -a tree | wc -l
cpio --version > /dev/null 2>&1; ls /usr/lib/x86_64-linux-gnu | wc -l; cat /usr/share/perl5/*.p[lm] 2> /dev/null | sha256sum
