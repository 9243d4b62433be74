# title: dpkg: installing a package
# size: a package of {500} files
# needs: dpkg dpkg-deb
# target: 0.7
prepare() {
	mkdir -p "$made/tree/DEBIAN" "$made/tree/usr/share/rvisor-bench"
	printf 'Package: rvisor-bench\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: many files\n' >"$made/tree/DEBIAN/control"
	for i in $(seq "$(scaled 500)"); do
		echo "$i" >"$made/tree/usr/share/rvisor-bench/$i"
	done
	dpkg-deb -b "$made/tree" "$made/bench.deb" >/dev/null
}

run() {
	mkdir -p root/var/lib/dpkg/{updates,info}
	touch root/var/lib/dpkg/status
	timed install dpkg --root="$here/root" --force-not-root --force-script-chrootless -i "$made/bench.deb"
	check "$(dpkg-query --admindir="$here/root/var/lib/dpkg" -W) $(cat root/usr/share/rvisor-bench/* | md5sum)"
}
