# title: sqlite3: inserts, updates, selects
# size: {200000} rows in one transaction; {300} transactions of one row
# needs: sqlite3
# target: 0.7
run() {
	local n
	n=$(scaled 200000)
	timed 'one transaction' sqlite3 one.db "
		create table t (a integer primary key, b integer, c text);
		with recursive k(i) as (select 1 union all select i + 1 from k where i < $n)
		insert into t select i, (i * 7919) % $n, printf('number %d', i) from k;
		create index tb on t (b);
		update t set c = c || '!' where b % 3 = 0;
		delete from t where b % 7 = 0;"
	check "$(sqlite3 one.db 'select count(*), sum(b), max(c) from t; pragma integrity_check')"
	seq "$(scaled 300)" | sed 's/.*/insert into t values (&, & * 2);/' >many.sql
	sqlite3 many.db 'create table t (a, b)'
	timed 'a transaction each' sqlite3 many.db '.read many.sql'
	check "$(sqlite3 many.db 'select count(*), sum(b) from t')"
}
