"""strace and gdb on programs of the same sandbox, natively and inside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import inside

SECONDS = 100

SOURCE = """
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
int total;
__attribute__((noinline)) int add(int a, int b) { return a + b; }
static void *other(void *unused) { for (;;) pause(); }
int main(int argc, char **argv) {
    if (argc > 1) {
        pthread_t t;
        pthread_create(&t, NULL, other, NULL);
        for (;;) {
            total = add(total, 1);
            usleep(1000);
        }
    }
    for (int i = 0; i < 3; i++)
        total = add(total, i + 1);
    printf("total %d\\n", total);
    return 7;
}
"""

GDB = ["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "set can-use-hw-watchpoints 0"]

RUN = [
    "break add", "run", "bt", "print a", "print b", "stepi", "next", "continue", "finish", "delete", "watch total",
    "continue", "info threads", "delete", "continue",
]  # fmt: skip

ATTACH = [
    "bt 1",
    "print total > 0",
    "break add",
    "continue",
    "info threads",
    "thread apply all bt 1",
    "delete",
    "detach",
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for tool in ("gdb", "strace", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    directory = tmp_path_factory.mktemp("debugged")
    source = directory / "sums.c"
    source.write_text(SOURCE)
    binary = directory / "sums"
    done = inside.run(["gcc", "-g", "-O0", "-pthread", "-o", str(binary), str(source)])
    assert done.status == 0, done.err
    yield binary


def commands(*lines: str) -> list[str]:
    return [word for line in lines for word in ("-ex", line)]


def both(platform: str, argv: list[str]) -> tuple[inside.Done, inside.Done]:
    native = inside.run(argv, timeout=SECONDS)
    return native, inside.rvisor(
        "run", f"--platform={platform}", f"--timeout={SECONDS}", "--", *argv, timeout=SECONDS + 20
    )


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run: addresses, process ids, library paths."""
    out = []
    for line in text.splitlines():
        line = re.sub(r"0x[0-9a-f]+", "ADDR", line)
        line = re.sub(r"LWP \d+|process \d+", "ID", line)
        out.append(re.sub(r" +", " ", line))
    return out


def calls(text: str) -> dict[str, list[str]]:
    """What each process did, by its order of appearance, as names and results of calls."""
    found: dict[str, list[str]] = {}
    begun: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"(?:\[pid +(\d+)\] )?(.*)", line)
        assert match is not None
        who, what = match[1] or "", match[2]
        if m := re.match(r"(\w+)\(.*<unfinished", what):
            begun[who] = m[1]
        elif m := re.match(r"<\.\.\. (\w+) resumed", what) or re.match(r"(\w+)\(", what):
            found.setdefault(who, []).append(m[1])
        elif what.startswith("+++"):
            found.setdefault(who, []).append(what)
    return found


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("platform", inside.PLATFORMS)
def test_strace_follows(program: Path, platform: str) -> None:
    native, ours = both(
        platform, ["strace", "-f", "-e", "trace=execve,pipe2,write,exit_group", "sh", "-c", "echo a | cat"]
    )
    assert (native.status, native.out) == (ours.status, ours.out) == (0, "a\n")
    flat = [sorted(name for names in calls(text).values() for name in names) for text in (native.err, ours.err)]
    assert flat[0] == flat[1], ours.err
    assert 'execve("/usr/bin/cat", ["cat"]' in ours.err or 'execve("/bin/cat", ["cat"]' in ours.err
    assert ours.err.rstrip().endswith("+++ exited with 0 +++")


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("platform", inside.PLATFORMS)
def test_strace_counts(program: Path, platform: str) -> None:
    native, ours = both(platform, ["strace", "-c", "-e", "trace=write,getpid,exit_group,execve", str(program)])
    assert native.status == ours.status == 7
    row = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)
    table = [row.findall(done.err) for done in (native, ours)]
    assert ("1", "write") in table[1]
    assert sorted(table[0]) == sorted(table[1]), ours.err


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("platform", inside.PLATFORMS)
def test_strace_injects(program: Path, platform: str) -> None:
    native, ours = both(platform, ["strace", "-e", "inject=write:error=ENOSPC", "-e", "trace=write", str(program)])
    assert (native.status, native.out, plain(native.err)) == (ours.status, ours.out, plain(ours.err))
    assert "ENOSPC (No space left on device) (INJECTED)" in ours.err


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("platform", inside.PLATFORMS)
def test_gdb_runs(program: Path, platform: str) -> None:
    native, ours = both(platform, [*GDB, *commands(*RUN), str(program)])
    assert "Old value = 1\nNew value = 3" in ours.out, ours.out + ours.err
    assert "total 6" in ours.out and "exited with code 07" in ours.out
    assert plain(native.out) == plain(ours.out)
    assert "warning" not in ours.err, ours.err


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("platform", inside.PLATFORMS)
def test_gdb_watches_as_it_does_by_itself(program: Path, platform: str) -> None:
    lines = [
        "break main",
        "run",
        "watch total",
        "continue",
        "continue",
        "delete",
        "hbreak add",
        "continue",
        "bt",
        "delete",
    ]
    argv = [*GDB[:5], *commands(*lines, "continue"), str(program)]
    native, ours = both(platform, argv)
    assert "Hardware watchpoint" in ours.out and "Old value = 1\nNew value = 3" in ours.out, ours.out + ours.err
    assert "exited with code 07" in ours.out
    assert plain(native.out) == plain(ours.out)


@pytest.mark.usefixtures("binaries")
@pytest.mark.parametrize("platform", inside.PLATFORMS)
def test_gdb_attaches(program: Path, platform: str) -> None:
    quoted = " ".join(f"-ex '{line}'" for line in ATTACH)
    # Long enough for the loop's call sites to have been rewritten.
    script = (
        f"{program} on & sleep 0.5; {' '.join(GDB[:3])} -ex 'set debuginfod enabled off' -p $! {quoted}; "
        f"kill -0 $! && echo goes on; gdb -nx -batch -p $! -ex kill >/dev/null 2>&1; wait $!; echo $?"
    )
    _, ours = both(platform, ["bash", "-c", script])
    assert re.search(r"Breakpoint 1, .*add \(a=\d+, b=1\)|hit Breakpoint 1, add \(a=\d+, b=1\)", ours.out), (
        ours.out + ours.err
    )
    assert "$1 = 1" in ours.out
    assert re.search(r"\* 1 +Thread .* add \(", ours.out)
    assert re.search(r"  2 +Thread .* pause", ours.out) or "Thread 2" in ours.out
    assert "detached]" in ours.out
    assert ours.out.rstrip().endswith("goes on\n137")
