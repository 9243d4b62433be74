# title: PostgreSQL: initdb, pgbench
# size: pgbench, {4} times 100,000 rows, 4 connections, unix socket; both ends inside
# needs: pg_ctl initdb pgbench psql
# target: 0.6
as_user() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
	else
		"$@"
	fi
}

run() {
	export HOME=$here PGHOST=$here PGPORT=$port PGUSER=bench PGDATABASE=postgres LC_ALL=C
	chmod 755 "$WORK" "$here" && [ "$(id -u)" != 0 ] || chown 65534:65534 "$here"
	timed initdb as_user initdb -D "$here/data" -U bench -A trust --no-locale
	as_user pg_ctl -D "$here/data" -l "$here/log" -w -o "-p $port -k $here -c listen_addresses=" start >/dev/null
	timed 'pgbench -i' as_user pgbench -q -i -s "$(scaled 4)" 2>/dev/null
	check "$(as_user psql -Atc 'select count(*), sum(abalance) from pgbench_accounts')"
	rate 'select only' "$(as_user pgbench -S -c 4 -T "$((SCALE > 50 ? 4 : 1))" 2>/dev/null | awk '/^tps/ { print $3 }')" /s
	rate 'read and write' "$(as_user pgbench -c 4 -T "$((SCALE > 50 ? 4 : 1))" 2>/dev/null | awk '/^tps/ { print $3 }')" /s
	as_user pg_ctl -D "$here/data" -w -m fast stop >/dev/null
	check "$(tail -n 1 log | sed 's/.*LOG: *//')"
}
