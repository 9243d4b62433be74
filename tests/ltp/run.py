#!/usr/bin/env python3
"""Measure the private kernel with the Linux Test Project (LTP), which is fetched and built apart: none of it is here.

    git clone https://github.com/linux-test-project/ltp && cd ltp && make autotools && ./configure --prefix=/opt/ltp
    make -C lib && make -C libs && make -C testcases/kernel/syscalls && make -C testcases/lib
    make -C testcases/kernel/syscalls install; make -C testcases/lib install; make -C runtest install
    unshare -m tests/ltp/run.py --ltp /opt/ltp --native --results native.tsv
    tests/ltp/run.py --ltp /opt/ltp --baseline native.tsv --results inside.tsv

The shared kernel is measured beside runc, in containers of the same bundle with Docker's capabilities and no filter:

    tests/ltp/run.py --ltp /opt/ltp --runtime runc --rootfs build/rootfs --results runc.tsv
    tests/ltp/run.py --ltp /opt/ltp --runtime 'runrsc --kernel=shared' --rootfs build/rootfs --results shared.tsv \\
        --beside runc.tsv

Each test has a sandbox of its own, whose root has every capability there, as root natively has. The measure is how many
of the tests that pass natively pass inside.
What is known to differ is in expected.toml, by cause; a listed test that passes fails the run, as an unlisted one
that fails does. A run that was stopped goes on where it was when it is given the same --results.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

VERDICTS = ("PASS", "FAIL", "BROK", "CONF", "HANG", "CRASH")
"""CONF: the test says that what it needs is not there. HANG: it did not end in time. CRASH: rvisor itself failed."""

BITS = ((1, "FAIL"), (2, "BROK"), (4, "FAIL"), (32, "CONF"))
"""What LTP's exit status is made of, worst first; 4 is a warning, which LTP's own runner counts as a failure."""

DANGEROUS = re.compile(
    r"(clock_)?settime(ofday)?\d|stime\d|(clock_)?adjtime|leapsec|swapo|reboot|(init|delete|finit)_module|acct\d|"
    r"set(host|domain)name|quotactl|vhangup|syslog\d|io_control|ioctl_loop|msgstress|fork(13|14)|dirty|kexec|iopl|ioperm"
)
"""Left out natively: they change the machine, or fill it."""

ENVIRONMENT = {"LTP_COLORIZE_OUTPUT": "0", "KCONFIG_SKIP_CHECK": "1", "LC_ALL": "C"}
"""The private kernel has no build configuration to read, so no test asks for one, natively neither."""


@dataclass(frozen=True)
class Result:
    name: str
    verdict: str
    seconds: float
    reason: str

    def line(self) -> str:
        return f"{self.name}\t{self.verdict}\t{self.seconds:.2f}\t{self.reason}\n"


def tests(runtest: str) -> dict[str, str]:
    """A runtest file: name to command. A name given twice is one test, the first."""
    found: dict[str, str] = {}
    for line in runtest.splitlines():
        name, _, command = line.strip().partition(" ")
        if name and not name.startswith("#"):
            found.setdefault(name, command.strip() or name)
    return found


def reason(output: str) -> str:
    """The first line that says what was wrong, without where in the test it was said."""
    for word in ("TFAIL", "TBROK", "TWARN", "TCONF"):
        for line in output.splitlines():
            _, found, rest = line.partition(word)
            if found:
                return f"{word} {rest.strip(' :')}"[:200].replace("\t", " ")
    lines = output.strip().splitlines()
    return lines[-1][:200].replace("\t", " ") if lines else ""


def classify(status: int | None, output: str, *, inside: bool) -> tuple[str, str]:
    """Verdict and reason, from the output and an exit status as a shell gives it (None: it was killed, being late)."""
    why = reason(output)
    if status is None or (inside and status == 124) or "Test timeouted" in output:
        return "HANG", why
    if inside and status == 125:
        return "CRASH", output.strip().splitlines()[-1][:200] if output.strip() else "no message"
    if status == 0:
        return "PASS", ""
    if status >= 128:
        return "BROK", f"killed by signal {status - 128}"
    if status in (126, 127):
        return "BROK", f"not executed: {why}"
    for bit, verdict in BITS:
        if status & bit:
            return verdict, why
    return "BROK", f"status {status}: {why}"


def read(path: Path) -> dict[str, Result]:
    """A file of results: name, verdict and, if they are there, seconds and reason, between tabs."""
    found = {}
    for line in path.read_text().splitlines():
        name, *rest = line.split("\t")
        if rest and not line.startswith("#"):
            seconds = float(rest[1]) if len(rest) > 1 else 0.0
            found[name] = Result(name, rest[0], seconds, rest[2] if len(rest) > 2 else "")
    return found


@dataclass(frozen=True)
class Cause:
    reason: str
    by_chance: bool = False
    """Its tests pass now and then."""


def expected(text: str) -> dict[str, Cause]:
    """expected.toml: name of a test that does not pass inside to the cause."""
    found: dict[str, Cause] = {}
    for cause in tomllib.loads(text)["cause"]:
        for name in cause["tests"]:
            if name in found:
                raise ValueError(f"expected.toml lists {name} twice")
            found[name] = Cause(cause["reason"], cause.get("by_chance", False))
    return found


def compare(results: Iterable[Result], known: Mapping[str, Cause]) -> list[str]:
    """What is not as expected.toml says: one line each."""
    wrong = []
    for result in results:
        if result.verdict == "PASS" and result.name in known and not known[result.name].by_chance:
            wrong.append(f"{result.name}: passes, though expected.toml lists it: take it out")
        elif result.verdict != "PASS" and result.name not in known:
            wrong.append(f"{result.name}: {result.verdict} {result.reason}")
    return wrong


def run(argv: Sequence[str], env: Mapping[str, str], cwd: str, seconds: float) -> tuple[int | None, str]:
    """Status as a shell gives it, or None if its time was over, and the output. Nothing of it is left running."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        status: int | None = None
        try:
            code = process.wait(seconds)
            status = code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass
            process.wait()
        output.seek(0)
        return status, output.read(1 << 20).decode(errors="replace")


def shell(command: str) -> list[str]:
    """A test is never pid 1, whose signals are another matter."""
    return ["sh", "-c", f"{command}; exit $?"]


def natively(command: str, ltp: Path, seconds: float) -> tuple[int | None, str]:
    directory = tempfile.mkdtemp(prefix="rvisor-ltp-", dir="/var/tmp")
    try:
        return run(shell(command), {**os.environ, **variables(ltp), "TMPDIR": directory}, directory, seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sandboxed(command: str, ltp: Path, seconds: float) -> tuple[int | None, str]:
    options = ["--privileged", "--network", "none", "-w", "/tmp", "-v", f"{ltp}:{ltp}:ro", "--timeout", str(seconds)]
    for name, value in {**variables(ltp), "TMPDIR": "/tmp"}.items():
        options += ["-e", f"{name}={value}"]
    argv = [sys.executable, "-m", "rvisor", "run", *options, "--", *shell(command)]
    return run(argv, {**os.environ, "PYTHONPATH": str(ROOT / "python")}, "/", seconds + 30)


def contained(
    command: str, ltp: Path, seconds: float, *, runtime: Sequence[str], rootfs: Path
) -> tuple[int | None, str]:
    """In a container of this OCI runtime; its root cannot be written, but for /tmp."""
    name = f"ltp-{os.urandom(6).hex()}"
    with tempfile.TemporaryDirectory(prefix="rvisor-ltp-") as bundle:
        text = json.dumps(configuration(command, ltp, rootfs.resolve(), f"/{name}"))
        Path(bundle, "config.json").write_text(text, encoding="utf-8")
        try:
            return run([*runtime, "run", "--bundle", bundle, name], dict(os.environ), "/", seconds)
        finally:
            run([*runtime, "delete", "--force", name], dict(os.environ), "/", 30)


def configuration(command: str, ltp: Path, rootfs: Path, group: str) -> dict[str, object]:
    """A config.json with what Docker gives a container."""
    names = (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
        "AUDIT_WRITE"
    )
    sets = {kind: [f"CAP_{name}" for name in names.split()] for kind in ("bounding", "effective", "permitted")}

    def mount(target: str, kind: str, *options: str, source: str = "") -> dict[str, object]:
        return {"destination": target, "type": kind, "source": source or kind, "options": list(options)}

    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": shell(command),
            "env": [f"{name}={value}" for name, value in {**variables(ltp), "TMPDIR": "/tmp"}.items()],
            "cwd": "/tmp",
            "capabilities": sets,
        },
        "root": {"path": str(rootfs), "readonly": True},
        "hostname": "ltp",
        "mounts": [
            mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", "nosuid", "nodev", "noexec", "mode=1777", "size=65536k"),
            mount("/dev/mqueue", "mqueue", "nosuid", "nodev", "noexec"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/tmp", "tmpfs", "mode=1777"),
            mount(str(ltp), "bind", "rbind", "ro", source=str(ltp)),
        ],
        "linux": {
            "cgroupsPath": group,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def beside(own: Mapping[str, Result], other: Mapping[str, Result]) -> list[str]:
    """Where two runs do not agree: one line each."""
    both = [(own[name], other[name]) for name in own if name in other]
    return [f"{a.name}: {a.verdict} {a.reason} | {b.verdict} {b.reason}" for a, b in both if a.verdict != b.verdict]


def variables(ltp: Path) -> dict[str, str]:
    """Also every LTP_… the caller has set: LTP_TIMEOUT_MUL=4 helps on a slow machine."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("LTP_")}
    path = f"{ltp}/testcases/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**ENVIRONMENT, **ours, "LTPROOT": str(ltp), "PATH": path}


def measure(
    chosen: Mapping[str, str], one: Callable[[str], tuple[int | None, str]], results: Path, jobs: int, inside: bool
) -> None:
    """Run what `results` has no line for, and write a line for each as it ends."""
    done = read(results) if results.exists() else {}
    left = {name: command for name, command in chosen.items() if name not in done}
    started = time.monotonic()

    def job(item: tuple[str, str]) -> Result:
        begun = time.monotonic()
        verdict, why = classify(*one(item[1]), inside=inside)
        return Result(item[0], verdict, time.monotonic() - begun, why)

    with ThreadPoolExecutor(jobs) as pool, results.open("a") as out:
        for count, result in enumerate(pool.map(job, left.items()), 1):
            out.write(result.line())
            out.flush()
            rest = (time.monotonic() - started) / count * (len(left) - count)
            if result.verdict != "PASS" or sys.stderr.isatty():
                print(
                    f"[{count}/{len(left)}, {rest:.0f} s left] {result.name} {result.verdict} {result.reason}",
                    file=sys.stderr,
                )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 as expected.toml says; 1 otherwise; 2 when the command line is wrong.",
    )
    made.add_argument("--ltp", type=Path, required=True, metavar="DIR", help="where LTP is installed")
    made.add_argument("--runtest", default="syscalls", metavar="NAME", help="LTP's list of tests (default: syscalls)")
    made.add_argument("--native", action="store_true", help="on the host's kernel, as root; without what changes it")
    made.add_argument("--baseline", type=Path, metavar="FILE", help="native results: run only what passes there")
    made.add_argument("--results", type=Path, metavar="FILE", help="name, verdict, seconds, reason; goes on from there")
    made.add_argument("--only", metavar="PATTERN", help="tests whose name matches this regular expression")
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="tests at a time (default: 1)")
    made.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="for one test (default: 120)")
    made.add_argument("--runtime", metavar="COMMAND", help="in containers of this OCI runtime; needs --rootfs")
    made.add_argument("--rootfs", type=Path, metavar="DIR", help="their root: a Debian, as `make rootfs` makes it")
    made.add_argument("--beside", type=Path, metavar="FILE", help="results of another runtime: what differs is told")
    made.add_argument("--json", action="store_true", help="the outcome as JSON on standard output")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    ltp = options.ltp.resolve()
    listed = tests((ltp / "runtest" / options.runtest).read_text())
    apart = options.native or options.runtime is not None
    known = {} if apart else expected((HERE / "expected.toml").read_text())
    unknown = [f"{name}: expected.toml lists a test that LTP does not have" for name in known.keys() - listed.keys()]
    chosen = {name: command for name, command in listed.items() if re.search(options.only or "", name)}
    if options.native:
        chosen = {name: command for name, command in chosen.items() if not DANGEROUS.search(name)}
    if options.baseline:
        passing = {result.name for result in read(options.baseline).values() if result.verdict == "PASS"}
        chosen = {name: command for name, command in chosen.items() if name in passing}
    with tempfile.TemporaryDirectory(prefix="rvisor-ltp-") as scratch:
        results = options.results or Path(scratch) / "results"
        one: Callable[[str, Path, float], tuple[int | None, str]] = natively if options.native else sandboxed
        if options.runtime is not None:
            one = functools.partial(contained, runtime=options.runtime.split(), rootfs=options.rootfs)
        measure(chosen, lambda command: one(command, ltp, options.timeout), results, options.jobs, not apart)
        every = {name: result for name, result in read(results).items() if name in chosen} if chosen else {}
    counts = {verdict: Counter(result.verdict for result in every.values())[verdict] for verdict in VERDICTS}
    wrong = [] if apart else compare(every.values(), known) + unknown
    if options.beside:
        wrong = beside(every, read(options.beside))
    if options.json:
        details = [vars(result) for result in every.values() if result.verdict != "PASS"]
        print(json.dumps({"tests": len(every), "counts": counts, "unexpected": wrong, "not_passed": details}))
    else:
        print(f"{len(every)} tests: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
        print("\n".join(wrong) if wrong else "as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
