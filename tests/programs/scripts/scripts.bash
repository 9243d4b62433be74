# perl, awk and sed.
export LC_ALL=C
perl -e 'print join(",", map { $_ * $_ } grep { $_ % 2 } 1..10), "\n"'
perl -e 'my %h; $h{$_}++ for split //, "mississippi"; print "$_$h{$_} " for sort keys %h; print "\n"'
perl -e 'open(my $p, "-|", "seq 1 5") or die; my $s = 0; $s += $_ while <$p>; close $p; print "$s $?\n"'
perl -e 'my $pid = fork; if (!$pid) { exit 9 } waitpid($pid, 0); print $? >> 8, "\n"'
perl -e 'pipe(R, W); if (!fork) { close R; print W "child\n"; exit } close W; print <R>; wait'
perl -e '$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select(undef, undef, undef, 5) }; print $@'
perl -e 'opendir(D, "/") or die; print scalar(grep { /^(etc|usr)$/ } readdir D), "\n"; print -d "/etc" ? "dir\n" : "no\n"'
perl -e 'open(F, "+>", "data") or die; print F "line $_\n" for 1..5; seek F, 0, 0; print scalar(() = <F>), "\n"; print -s "data", "\n"'
perl -MFile::Temp=tempfile -MFile::Find -MTime::Local -e 'my ($f, $n) = tempfile(UNLINK => 1); print $f "x"; close $f; print -s $n, "\n"; my $c = 0; find(sub { $c++ }, "."); print $c > 0, "\n"'
perl -pi -e 's/line/row/' data; cat data; perl -ne 'print if /3/ .. /4/' data; perl -le 'print for sort { $b <=> $a } 3, 11, 2'
perl -e 'print sprintf("%.3f %s %x\n", atan2(1, 1) * 4, "a" x 3, 255)'; perl -MPOSIX -e 'print POSIX::floor(-1.5), " ", strftime("%Y", gmtime(0)), "\n"'
perl -e 'die "dead\n"' 2>&1; echo $?; perl -e 'kill 15, $$'; echo $?; perl -MSocket -MIO::Handle -e 'print "ok\n"'
seq 1 10 | awk '{s += $1; p = p $1} END {print s, p, NR, s / NR}'
awk -F: '$3 < 5 {print $1, $3}' /etc/passwd; awk 'BEGIN {while (("seq 1 3" | getline x) > 0) t = t x; print t; close("seq 1 3"); print length("abc"), substr("hello", 2, 3), toupper("x")}'
awk 'BEGIN {printf "%d %5.2f %s\n", 42, 3.14159, "s"; n = split("a,b,c", q, ","); print n, q[2]; print match("foobar", "bar"), index("abc", "c")}'
awk '{n[$1] += $2} END {for (k in n) print k, n[k]}' <<< $'a 1\nb 2\na 3' | sort; awk 'BEGIN {system("echo system; exit 3")}'; awk 'BEGIN {print "to sort\na" | "sort"; close("sort"); print "x" > "made"; close("made"); exit 4}'; echo $?; cat made
seq 1 20 | sed -n '3,5p;$p'; seq 1 5 | sed '2d;s/4/four/;3i\inserted'; echo 'a b c' | sed -E 's/(\w) (\w)/\2 \1/'; seq 1 6 | sed 'N;s/\n/-/'
seq 1 3 > s; sed -i.bak 's/2/two/' s; cat s s.bak; sed '/two/w written' s > /dev/null; cat written; seq 1 10 | sed '1~3d' | tr '\n' ' '; echo; printf 'x\ny\n' | sed 'y/xy/ab/;G' ; sed --expression='s/a/b/' <<< aaa; sed q 2> /dev/null < /dev/null; echo $?
