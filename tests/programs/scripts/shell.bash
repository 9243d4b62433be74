# A long bash script: what shell scripts really do. Its output must be the same on every kernel.
set -u
export LC_ALL=C
failures=0
section() { printf '\n== %s\n' "$1"; }
expect() { # expect WHAT GOT WANTED
    if [[ $2 == "$3" ]]; then
        echo "ok: $1"
    else
        echo "NOT ok: $1: '$2' instead of '$3'"
        failures=$((failures + 1))
    fi
}

section 'variables and arithmetic'
a=5
b=$((a * 7 - 2))
expect arithmetic "$b" 33
expect default "${missing:-fallback}" fallback
text='hello world'
expect length "${#text}" 11
expect substring "${text:6:3}" wor
expect replace "${text/world/there}" 'hello there'
expect upper "${text^^}" 'HELLO WORLD'
expect prefix "${text#hello }" world
list=(one two three)
list+=(four)
expect array "${#list[@]} ${list[*]:1:2}" '4 two three'
declare -A map=([x]=1 [y]=2)
map[z]=3
sum=0
for key in "${!map[@]}"; do sum=$((sum + map[$key])); done
expect 'associative array' "$sum" 6

section 'control'
count=0
while ((count < 5)); do ((count++)); done
expect while "$count" 5
until ((count == 0)); do count=$((count - 1)); done
expect until "$count" 0
out=
for i in {1..10}; do
    ((i % 2)) && continue
    ((i > 8)) && break
    out+="$i "
done
expect for "$out" '2 4 6 8 '
classify() {
    case $1 in
        [0-9]*) echo number ;;
        a | b) echo letter ;;
        *.txt) echo file ;;
        *) echo other ;;
    esac
}
expect case "$(classify 7) $(classify b) $(classify x.txt) $(classify '')" 'number letter file other'
fact() { (($1 <= 1)) && echo 1 || echo $(($1 * $(fact $(($1 - 1))))); }
expect recursion "$(fact 8)" 40320
[[ abc123 =~ ^([a-z]+)([0-9]+)$ ]]
expect regex "${BASH_REMATCH[1]}-${BASH_REMATCH[2]}" abc-123

section 'pipelines'
expect pipeline "$(printf '%s\n' pear apple fig | sort | head -n 2 | tr '\n' ' ')" 'apple fig '
expect 'long pipeline' "$(seq 1 1000 | grep 7 | sed 's/7/x/g' | cut -c1 | sort | uniq -c | sort -rn | awk '{s += $1} END {print s}')" 271
false | true | false
expect pipestatus "${PIPESTATUS[*]}" '1 0 1'
set -o pipefail
false | true
expect pipefail $? 1
set +o pipefail
yes | head -n 100000 | wc -l | tr -d ' ' > lines
expect 'reader leaves early' "$(cat lines)" 100000
seq 1 100000 | (
    read -r first
    read -r second
    echo "$first $second" > two
)
expect 'subshell reads' "$(cat two)" '1 2'
expect 'process substitution' "$(diff <(seq 1 5) <(seq 2 6) | grep -c '^[<>]')" 2
tee copy1 copy2 <<< 'to all' > copy3
expect tee "$(cat copy1 copy2 copy3 | sort -u)" 'to all'

section 'here-documents'
name=guest
cat > doc <<END
Dear $name,
  sum: $((1 + 2))
  today: $(echo now)
END
expect 'here-document' "$(md5sum < doc | cut -c1-8)" "$(printf 'Dear guest,\n  sum: 3\n  today: now\n' | md5sum | cut -c1-8)"
cat > raw <<'END'
$name `ls` \n
END
expect 'quoted here-document' "$(cat raw)" '$name `ls` \n'
cat <<-END > tabs
	indented
	END
expect 'tabs stripped' "$(cat tabs)" indented
big=$(head -c 200000 /dev/zero | tr '\0' x)
expect 'large here-string' "$(wc -c <<< "$big" | tr -d ' ')" 200001

section 'redirections'
exec 3> three
echo 'to three' >&3
exec 3>&-
expect 'own descriptor' "$(cat three)" 'to three'
{ echo out; echo err >&2; } > both 2>&1
expect 'both streams' "$(tr '\n' ' ' < both)" 'out err '
ls /nowhere/at/all 2> errors
expect 'error status' $? 2
expect 'error text' "$(grep -c 'No such file' errors)" 1
echo one > append
echo two >> append
expect append "$(wc -l < append | tr -d ' ')" 2
set -o noclobber
(echo x > append) 2> /dev/null
expect noclobber $? 1
set +o noclobber
exec 4<> readwrite
echo 'line a' >&4
expect 'read and write' "$(cat readwrite)" 'line a'
exec 4>&-
while IFS=: read -r user _ uid _; do
    [[ $user == root ]] && found=$uid
done < /etc/passwd
expect 'read loop' "$found" 0
mapfile -t rows < <(seq 1 5)
expect mapfile "${rows[4]}" 5

section 'traps'
expect 'exit trap' "$(bash -c 'trap "echo bye" EXIT; echo hi')" $'hi\nbye'
expect 'exit status through a trap' "$(bash -c 'trap "echo bye" EXIT; exit 3'; echo $?)" $'bye\n3'
caught=
trap 'caught+=U' USR1
kill -USR1 $$
kill -USR1 $$
expect 'signal trap' "$caught" UU
trap '' USR2
kill -USR2 $$
expect 'ignored signal' alive alive
trap - USR2
expect 'killed by a signal' "$(bash -c 'kill -TERM $$'; echo $?)" 143
expect 'trap in a waiting shell' "$(bash -c 'trap "echo got; exit 5" TERM; (sleep 0.2; kill -TERM $$) & wait; echo not here'; echo $?)" $'got\n5'
expect 'err trap' "$(bash -c 'trap "echo failed" ERR; false; true')" failed
expect 'set -e' "$(bash -c 'set -e; echo a; false; echo b'; echo $?)" $'a\n1'
expect 'return trap' "$(bash -c 'f() { trap "echo left" RETURN; echo in; }; f')" $'in\nleft'
int=$(bash -c 'trap "echo int" INT; kill -INT $$; echo after')
expect 'interrupt trap' "$int" $'int\nafter'

section 'jobs'
sleep 0.3 &
first=$!
sleep 0.1 &
second=$!
expect 'two jobs' "$(jobs -p | wc -l | tr -d ' ')" 2
wait "$second"
expect 'wait for one' $? 0
wait "$first"
expect 'wait for the other' $? 0
(exit 7) &
wait $!
expect 'status of a job' $? 7
sleep 100 &
victim=$!
kill "$victim"
wait "$victim" 2> /dev/null
expect 'killed job' $? 143
kill -0 "$victim" 2> /dev/null
expect 'no such job' $? 1
for i in 3 1 2; do
    (sleep "0.$i"; echo "$i" >> finished) &
done
wait
expect 'order of ends' "$(tr '\n' ' ' < finished)" '1 2 3 '
wait
expect 'nothing to wait for' $? 0

section 'job control'
bash -s > control 2>&1 <<'END'
set -m
sleep 50 &
job=$!
[[ $(ps -o pgid= -p $job 2> /dev/null | tr -d ' ') == "$job" || $(cut -d' ' -f5 /proc/$job/stat) == "$job" ]] && echo 'own group'
kill -STOP %1
while [[ $(cut -d' ' -f3 /proc/$job/stat) != T ]]; do sleep 0.01; done
echo stopped
jobs | sed 's/  */ /g'
bg %1 > /dev/null
while [[ $(cut -d' ' -f3 /proc/$job/stat) == T ]]; do sleep 0.01; done
echo continued
kill %1
wait $job
echo "status $?"
sleep 0.1 &
fg %1 > /dev/null
echo "foreground $?"
(trap 'echo inner; exit 9' TERM; sleep 30 & wait) &
sleep 0.2
kill -TERM -- -$!
wait $!
echo "group $?"
END
expect 'job control' "$(grep -v Terminated control | tr '\n' ';')" 'own group;stopped;[1]+ Stopped sleep 50;continued;status 143;foreground 0;inner;group 9;'

section 'coprocess and fifo'
coproc BC { while read -r line; do echo $((line)); done; }
echo '6*7' >&"${BC[1]}"
read -r answer <&"${BC[0]}"
expect coprocess "$answer" 42
pid=$BC_PID
eval "exec ${BC[1]}>&-"
wait "$pid"
mkfifo pipe
(echo 'through the fifo' > pipe) &
read -r line < pipe
wait
expect fifo "$line" 'through the fifo'
rm pipe

section 'files'
mkdir -p tree/{a,b}/{1,2}
touch tree/a/1/file.{c,h} tree/b/2/other.c
expect glob "$(echo tree/*/*/*.c)" 'tree/a/1/file.c tree/b/2/other.c'
shopt -s globstar nullglob
files=(tree/**/*.h)
expect globstar "${files[*]}" tree/a/1/file.h
expect nullglob "$(echo nothing*here)" ''
shopt -u nullglob
expect 'no match' "$(echo nothing*here)" 'nothing*here'
ln -s a/1 tree/link
cd tree/link || exit 1
expect 'logical directory' "$(basename "$PWD") $(basename "$(pwd -P)")" 'link 1'
cd - > /dev/null || exit 1
[[ -d tree && -L tree/link && -e tree/link/file.c && ! -e tree/none && -w tree ]]
expect tests $? 0
touch -d '2001-02-03 04:05:06' old
[[ old -ot doc ]]
expect 'older than' $? 0
chmod 640 old
expect mode "$(stat -c %a old)" 640
pushd tree > /dev/null
popd > /dev/null
expect 'directory stack' "$(dirs | wc -w | tr -d ' ')" 1
rm -r tree
[[ -e tree ]]
expect removed $? 1

section 'functions and subshells'
outer=1
(outer=2)
expect 'subshell keeps out' "$outer" 1
f() { local outer=3; g; }
g() { echo "$outer"; }
expect 'dynamic scope' "$(f)" 3
h() { return 42; }
h
expect 'return value' $? 42
expect 'nested substitution' "$(echo "$(echo "$(echo deep)")")" deep
expect 'exec replaces' "$(bash -c 'exec echo replaced; echo never')" replaced
eval 'evaluated=yes'
expect eval "$evaluated" yes
expect 'not found' "$(bash -c 'no_such_command' 2> /dev/null; echo $?)" 127
touch plain
expect 'not executable' "$(./plain 2> /dev/null; echo $?)" 126
expect 'positional' "$(bash -c 'shift; echo "$# $1 $*"' x a b c)" '2 b b c'
getopts_test() {
    local OPTIND=1 option result=
    while getopts 'ab:c' option; do result+="$option${OPTARG:-} "; OPTARG=; done
    shift $((OPTIND - 1))
    echo "$result$*"
}
expect getopts "$(getopts_test -a -b value -c rest)" 'a bvalue c rest'
printf -v formatted '%05d|%-6s|%x' 42 ab 255
expect printf "$formatted" '00042|ab    |ff'
expect read "$(read -r -t 5 x y <<< 'first second third'; echo "$y")" 'second third'
read -r -t 0.1 nothing < <(sleep 1)
expect 'read times out' $(($? > 128)) 1
ulimit -n 64
expect ulimit "$(ulimit -n)" 64
umask 077
touch private
expect umask "$(stat -c %a private)" 600
time_spent=$SECONDS
expect seconds $((time_spent < 120)) 1

section 'many processes'
total=0
for i in {1..150}; do
    total=$((total + $(echo "$i")))
done
expect 'sum by subshells' "$total" 11325
for i in {1..40}; do (exit "$i") & done
wait
expect 'many jobs' $? 0
expect xargs "$(seq 1 60 | xargs -n 7 -P 4 sh -c 'echo $#' x | awk '{s += $1} END {print s}')" 60

echo
echo "$failures failures"
exit "$failures"
