# What every application's script begins with. It is run as `bash prelude.sh NAME prepare|run`, with
#   $WORK   a directory of its own, the same host file system natively and inside
#   $SCALE  how much to do, in per cent
# and defines `prepare` (natively, once: makes what `run` needs in $WORK/made) and `run`.
# `run` prints lines `check TEXT` (to be the same natively and inside) and `rate NAME N UNIT` or `time NAME SECONDS`.
set -euo pipefail
made=$WORK/made
here=$WORK/here
port=${PORT:-18080}

check() { echo "check $*"; }

rate() { echo "rate $*"; }

# timed NAME COMMAND…: how long the command takes; what it prints is in the file `out`.
timed() {
	local name=$1 begun=$EPOCHREALTIME
	shift
	"$@" >"$here/out"
	echo "time $name $(awk "BEGIN { print $EPOCHREALTIME - $begun }")"
}

# scaled N: N at full scale, at least 1.
scaled() { echo $(($1 * SCALE / 100 > 0 ? $1 * SCALE / 100 : 1)); }

# listening PORT: waits until somebody listens there.
listening() {
	for _ in $(seq 200); do
		if (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
			return
		fi
		sleep 0.05
	done
	echo "nobody listens on port $1" >&2
	return 1
}

# loaded NAME URL: requests a second that wrk gets through.
loaded() {
	rate "$1" "$(wrk -t 1 -c 32 -d "$((SCALE > 50 ? 4 : 1))" "$2" | awk '$1 == "Requests/sec:" { print $2 }')" /s
}

background=()
# Ends what the script left running, whatever became of it.
finish() {
	for pid in "${background[@]}"; do
		kill "$pid" 2>/dev/null || :
		wait "$pid" 2>/dev/null || :
	done
}
trap finish EXIT

prepare() { :; }
# shellcheck source=/dev/null
. "$(dirname "$0")/$1.sh"
mkdir -p "$made" "$here"
cd "$here"
"$2"
