# title: pip: a virtual environment, a wheel
# size: a wheel of {300} modules
# needs: python3
# target: 0.7
prepare() {
	cd "$made" && python3 - "$(scaled 300)" <<-'END'
		import sys, zipfile
		with zipfile.ZipFile("many-1.0-py3-none-any.whl", "w") as wheel:
		    names = []
		    def add(name, text):
		        wheel.writestr(name, text)
		        names.append(name)
		    for i in range(int(sys.argv[1])):
		        add(f"many/m{i}.py", f"def value():\n    return {i}\n")
		    add("many/__init__.py", "")
		    add("many-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: many\nVersion: 1.0\n")
		    add("many-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
		    record = "many-1.0.dist-info/RECORD"
		    wheel.writestr(record, "".join(f"{name},,\n" for name in [*names, record]))
	END
}

run() {
	timed venv python3 -m venv --without-pip env
	timed install python3 -m pip --python env/bin/python install -q --no-index --disable-pip-version-check "$made"/many-1.0-*.whl
	check "$(env/bin/python -c 'import many.m7; print(many.m7.value())') $(find env -name '*.pyc' -path '*many*' | wc -l)"
}
