"""Bad input: one clear sentence on standard error, the exit status of `docker run`, nothing left behind."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from framework import inside

OURS, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
SECONDS = 20


def refused(done: inside.Done, status: int, *words: str) -> None:
    """It failed as it should: that status, and one sentence (with perhaps a hint) that has these words."""
    assert done.status == status, done
    assert done.out == ""
    lines = done.err.splitlines()
    assert 1 <= len(lines) <= 2, done.err
    assert lines[0].startswith("rvisor")
    assert all(line.startswith("  ") for line in lines[1:])
    for word in words:
        assert word in done.err, (word, done.err)
    assert not re.search(r"Traceback|panicked|Errno\(|Os \{|None|\bEE", done.err), done.err


def run(*arguments: str, **more: object) -> inside.Done:
    return inside.rvisor("run", *arguments, timeout=SECONDS + 10, **more)  # type: ignore[arg-type]


OPTIONS = {
    "no rootfs": (["--rootfs", "/does/not/exist"], "/does/not/exist"),
    "rootfs is a file": (["--rootfs", "/etc/passwd"], "not a directory"),
    "no source": (["-v", "/does/not/exist:/x"], "/does/not/exist"),
    "volume without target": (["-v", "/tmp"], "SRC:DST"),
    "volume of colons": (["-v", ":::"], "SRC:DST"),
    "empty volume": (["-v", ""], "SRC:DST"),
    "volume with a mode that is none": (["-v", "/tmp:/x:rx"], "SRC:DST"),
    "relative target": (["-v", "/tmp:x"], "absolute"),
    "target is the root": (["-v", "/tmp:/../"], "other than /"),
    "source is a device": (["-v", "/dev/null:/x"], "neither a directory nor a regular file"),
    "user nobody knows": (["-u", "no-such-user"], "no-such-user"),
    "negative user": (["-u", "-5"], "-5"),
    "huge user": (["-u", "99999999999"], "out of range"),
    "user with an empty group": (["-u", "0:"], "UID[:GID]"),
    "user of colons": (["-u", "::"], "UID[:GID]"),
    "group nobody knows": (["-u", "0:no-such-group"], "no-such-group"),
    "user of other digits": (["-u", "²"], "-u"),
    "memory nonsense": (["--memory", "lots"], "not a size"),
    "memory nan": (["--memory", "nank"], "not a size"),
    "negative memory": (["--memory", "-1g"], "--memory"),
    "memory zero": (["--memory", "0"], "too small"),
    "memory huge": (["--memory", "99999999999t"], "too large"),
    "empty memory": (["--memory", ""], "not a size"),
    "cpus nonsense": (["--cpus", "two"], "not a number"),
    "cpus nan": (["--cpus", "nan"], "--cpus"),
    "cpus zero": (["--cpus", "0"], "out of range"),
    "pids nonsense": (["--pids", "few"], "not a number"),
    "pids zero": (["--pids", "0"], "at least 1"),
    "pids huge": (["--pids", "9" * 30], "--pids"),
    "timeout zero": (["--timeout", "0"], "out of range"),
    "timeout negative": (["--timeout", "-3"], "out of range"),
    "timeout nonsense": (["--timeout", "soon"], "not a number"),
    "timeout nan": (["--timeout", "nan"], "out of range"),
    "timeout endless": (["--timeout", "inf"], "out of range"),
    "relative directory": (["-w", "here"], "absolute"),
    "host name nonsense": (["--hostname", "a b"], "host name"),
    "host name too long": (["--hostname", "a" * 65], "at most 64"),
    "environment without a name": (["-e", "=x"], "no name"),
    "overlay nonsense": (["--overlay", "/does/not/exist"], "not a directory"),
    "overlay none on the host": (["--overlay", "none"], "the host's own root"),
    "platform nonsense": (["--platform", "magic"], "magic"),
    "unknown option": (["--does-not-exist"], "--does-not-exist"),
    "network nonsense": (["--network", "all"], "all"),
    "a value is missing": (["--memory"], "--memory"),
    "log in a file": (["--debug-log", "/etc/passwd"], "/etc/passwd"),
    "strace in no directory": (["--strace=/does/not/exist/x"], "/does/not/exist"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option(name: str) -> None:
    options, word = OPTIONS[name]
    refused(run(*options, "--", "true"), OURS, word)


def test_no_command() -> None:
    for arguments in ([], ["--"], ["--memory", "1g"], ["-i", "--"]):
        refused(run(*arguments), OURS, "no command")


def test_no_such_command_of_rvisor() -> None:
    done = inside.rvisor("walk")
    assert (done.status, done.out) == (2, "")
    assert "'walk'" in done.err


def test_what_is_no_utf8() -> None:
    refused(run("--", "echo", os.fsdecode(b"\xff\xfe")), OURS, "UTF-8")


@pytest.mark.parametrize("place", ["/does/not/exist", "/etc/passwd"])
def test_working_directory(place: str) -> None:
    refused(run("-w", place, "--", "true"), NOT_EXECUTABLE, place)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("no-such-command", NOT_FOUND),
        ("/no/such/command", NOT_FOUND),
        ("./no-such-command", NOT_FOUND),
        ("", NOT_FOUND),
        ("/etc/passwd", NOT_EXECUTABLE),
        ("/etc", NOT_EXECUTABLE),
        ("/etc/passwd/x", NOT_EXECUTABLE),
        ("x" * 300, NOT_EXECUTABLE),
        ("/" + "x/" * 3000, NOT_EXECUTABLE),
    ],
    ids=["name", "path", "relative", "empty", "file", "directory", "below a file", "long name", "long path"],
)
def test_command(command: str, status: int) -> None:
    refused(run("--", command), status, "cannot run")


def executable(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


EI = b"\x7fELF\x02\x01\x01" + bytes(9)
EM_X86_64, EM_AARCH64 = 62, 183
ET_EXEC, ET_DYN, ET_REL = 2, 3, 1
PT_LOAD, PT_INTERP = 1, 3
HEADER, ENTRY = 64, 56


def elf(
    segments: list[tuple[int, int, int, int, int, int, int]],
    *,
    machine: int = EM_X86_64,
    kind: int = ET_EXEC,
    entry: int = 0x400078,
    phoff: int = HEADER,
    phnum: int | None = None,
    phentsize: int = ENTRY,
    ident: bytes = EI,
    body: bytes = b"",
) -> bytes:
    """An ELF file. A segment: type, flags, offset, address, size in the file, size in memory, alignment."""
    head = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        kind,
        machine,
        1,
        entry,
        phoff,
        0,
        0,
        HEADER,
        phentsize,
        len(segments) if phnum is None else phnum,
        0,
        0,
        0,
    )
    table = b"".join(struct.pack("<IIQQQQQQ", t, f, o, a, a, s, m, al) for t, f, o, a, s, m, al in segments)
    return head + table + body


CODE = b"\xb8\x3c\x00\x00\x00\xbf\x2a\x00\x00\x00\x0f\x05"
"""exit(42)"""
WHOLE = (PT_LOAD, 5, 0, 0x400000, 0x1000, 0x1000, 0x1000)
BASE = 0x400000


def good(**more: object) -> bytes:
    return elf([WHOLE], entry=BASE + HEADER + ENTRY, body=CODE, **more)  # type: ignore[arg-type]


INTERP = HEADER + 2 * ENTRY
ELFS = {
    "another architecture": good(machine=EM_AARCH64),
    "a relocatable": good(kind=ET_REL),
    "32 bits": good(ident=EI[:4] + b"\x01" + EI[5:]),
    "big-endian": good(ident=EI[:5] + b"\x02" + EI[6:]),
    "header cut": good()[:40],
    "only the magic": EI[:4],
    "program headers cut": good()[: HEADER + 20],
    "no program headers": elf([]),
    "headers past the end": good(phoff=1 << 40),
    "headers at the end of numbers": good(phoff=(1 << 64) - 8),
    "65535 program headers": good(phnum=65535),
    "program headers of another size": good(phentsize=57),
    "program headers of size 0": good(phentsize=0),
    "more in the file than in memory": elf([(PT_LOAD, 5, 0, BASE, 0x2000, 0x1000, 0x1000)], body=CODE),
    "addresses that wrap": elf([(PT_LOAD, 5, 0, (1 << 64) - 0x1000, 0x1000, 0x2000, 0x1000)], body=CODE),
    "sizes that wrap": elf([(PT_LOAD, 5, 0, BASE, (1 << 64) - 1, (1 << 64) - 1, 0x1000)], body=CODE),
    "at the kernel's addresses": elf([(PT_LOAD, 5, 0, 0xFFFFFFFF80000000, 0x1000, 0x1000, 0x1000)], body=CODE),
    "in the stub": elf([(PT_LOAD, 5, 0, 0x7FF000000000, 0x1000, 0x1000, 0x1000)], body=CODE),
    "over the slots": elf([(PT_LOAD, 7, 0, 0x7FF200000000, 0x1000, 0x1000, 0x1000)], body=CODE),
    "up into the stub": elf([(PT_LOAD, 5, 0, 0x7FEFFFFFF000, 0x1000, 0x2000, 0x1000)], body=CODE),
    "a terabyte of memory": elf([(PT_LOAD, 6, 0, BASE, 0x100, 1 << 46, 0x1000)], body=CODE),
    "at address 0": elf([(PT_LOAD, 5, 0, 0, 0x1000, 0x1000, 0x1000)], body=CODE),
    "offset and address that disagree": elf([(PT_LOAD, 5, 1, BASE, 0x1000, 0x1000, 0x1000)], body=CODE),
    "an offset past the file": elf([(PT_LOAD, 5, 1 << 30, BASE, 0x1000, 0x1000, 0x1000)], body=CODE),
    "an odd alignment": elf([(PT_LOAD, 5, 0, BASE, 0x1000, 0x1000, 0x1234)], body=CODE),
    "overlapping segments": elf([WHOLE, (PT_LOAD, 6, 0, BASE, 0x1000, 0x3000, 0x1000)], body=CODE),
    "segments in no order": elf([(PT_LOAD, 6, 0, BASE + 0x10000, 0x1000, 0x1000, 0x1000), WHOLE], body=CODE),
    "no interpreter": elf([(PT_INTERP, 4, INTERP, 0, 9, 9, 1), WHOLE], body=b"/no/such\0" + CODE),
    "an interpreter that is a directory": elf([(PT_INTERP, 4, INTERP, 0, 5, 5, 1), WHOLE], body=b"/etc\0" + CODE),
    "an interpreter that is text": elf([(PT_INTERP, 4, INTERP, 0, 12, 12, 1), WHOLE], body=b"/etc/passwd\0" + CODE),
    "an interpreter without end": elf([(PT_INTERP, 4, INTERP, 0, 5, 5, 1), WHOLE], body=b"/lib6" + CODE),
    "an empty interpreter": elf([(PT_INTERP, 4, INTERP, 0, 0, 0, 1), WHOLE], body=CODE),
    "an interpreter too long": elf([(PT_INTERP, 4, INTERP, 0, 5000, 5000, 1), WHOLE], body=b"/" * 4999 + b"\0" + CODE),
    "an interpreter past the file": elf([(PT_INTERP, 4, 1 << 40, 0, 9, 9, 1), WHOLE], body=CODE),
    "two interpreters": elf([(PT_INTERP, 4, INTERP + ENTRY, 0, 9, 9, 1)] * 2 + [WHOLE], body=b"/no/such\0" + CODE),
}


def test_the_crafted_file_is_sound(tmp_path: Path) -> None:
    """What the others are bent from runs, natively and inside."""
    program = executable(tmp_path / "program", good())
    assert inside.run([program]).status == 42
    assert run("--", program).status == 42


def natively(program: str) -> int:
    """The status by which a shell would report it."""
    try:
        return inside.run([program], timeout=SECONDS).status
    except FileNotFoundError:
        return NOT_FOUND
    except OSError:
        return NOT_EXECUTABLE


@pytest.mark.parametrize("name", ELFS)
def test_elf(name: str, tmp_path: Path) -> None:
    """As on the host's kernel: refused, or killed past the point of no return, or it even runs."""
    program = executable(tmp_path / "program", ELFS[name])
    done = run("--timeout", str(SECONDS), "--", program)
    want = natively(program)
    if name in ("32 bits", "big-endian"):
        # Linux looks at neither mark; here they are believed.
        assert (want, done.status) == (42, NOT_EXECUTABLE)
    elif name in ("in the stub", "over the slots", "up into the stub"):
        # Free addresses natively; here they are taken.
        assert done.status in (NOT_EXECUTABLE, 137), done
    elif want == NOT_EXECUTABLE or want >= 128:
        # Where exactly the host gives up is its own affair; that it does is not.
        assert done.status == NOT_EXECUTABLE or done.status >= 128, (done, want)
    else:
        assert done.status == want, done
    if done.status in (NOT_EXECUTABLE, NOT_FOUND):
        refused(done, done.status, "cannot run", program)
    else:
        assert done.err == ""


FLIPS = 200


def test_flipped_bits(guest: Callable[[str], str], tmp_path: Path) -> None:
    """A static program with random bits of its headers flipped: always an end, and the kernel goes on."""
    source = Path(guest("end")).read_bytes()
    phnum = struct.unpack_from("<H", source, 56)[0]
    random_ = random.Random(20)
    directory = tmp_path / "flipped"
    directory.mkdir()
    for number in range(FLIPS):
        content = bytearray(source)
        for _ in range(random_.choice((1, 1, 2, 4, 16))):
            # Not the magic: everything would end there.
            content[random_.randrange(4, HEADER + ENTRY * phnum)] ^= 1 << random_.randrange(8)
        executable(directory / f"{number:03}", bytes(content))
    script = 'for p in "$1"/*; do timeout -s KILL 5 "$p" </dev/null >/dev/null 2>&1; echo "${p##*/} $?"; done; echo end'
    done = run("--timeout", "100", "--", "bash", "-c", script, "bash", str(directory))
    lines = done.out.splitlines()
    assert (done.status, lines[-1:], len(lines)) == (0, ["end"], FLIPS + 1), (done.status, lines[-3:], done.err[-1000:])
    statuses = {int(line.split()[1]) for line in lines[:-1]}
    # Some ran on as if nothing were, some were refused, some were killed.
    assert 42 in statuses
    assert statuses & {126, 127}
    assert any(status > 128 for status in statuses)


def test_flipped_bits_as_the_first_program(guest: Callable[[str], str], tmp_path: Path) -> None:
    source = Path(guest("end")).read_bytes()
    random_ = random.Random(7)
    for number in range(20):
        content = bytearray(source)
        for _ in range(3):
            content[random_.randrange(16, HEADER + ENTRY * 4)] ^= 1 << random_.randrange(8)
        done = run("--timeout", "10", "--", executable(tmp_path / f"{number}", bytes(content)))
        assert done.status in (42, NOT_EXECUTABLE) or done.status > 128, (number, done)
        assert "panicked" not in done.err


SCRIPTS = {
    "a directory": "#!/etc\n",
    "a missing file": "#!/no/such/file\n",
    "not executable": "#!/etc/passwd\n",
    "nothing": "#!\n",
    "blanks": "#!   \t \n",
    "a relative name": "#!no-such\n",
    "too long": "#!/" + "x" * 5000 + "\n",
    "no line end": "#!/no/such",
    "itself": "#!{self}\n",
    "one of a pair": "#!{other}\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str, tmp_path: Path) -> None:
    program = tmp_path / "script"
    other = tmp_path / "other"
    executable(program, SCRIPTS[name].replace("{self}", str(program)).replace("{other}", str(other)).encode())
    executable(other, f"#!{program}\n".encode())
    want = natively(str(program))
    assert want in (NOT_EXECUTABLE, NOT_FOUND)
    refused(run("--", str(program)), want, "cannot run", str(program))


def test_modes(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    refused(run("--", executable(tmp_path / "plain", good(), 0o644)), NOT_EXECUTABLE, "permission denied")
    only_root = executable(tmp_path / "roots", good(), 0o700)
    if os.geteuid() == 0:
        refused(run("-u", "1234", "--", only_root), NOT_EXECUTABLE, "permission denied")
    refused(run("--", executable(tmp_path / "empty", b"")), NOT_EXECUTABLE)


ARGUMENTS = {
    "100,000 entries": ["x"] * 100_000,
    "an argument of 200 KiB": ["x" * (200 << 10)],
    "the longest argument": ["x" * ((128 << 10) - 1)],
    "one byte longer": ["x" * (128 << 10)],
    "3 MiB in all": ["x" * 100_000] * 30,
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_long_argument_lists(name: str) -> None:
    """Made inside, so that the host's own limit on rvisor's arguments is not what is tested."""
    arguments = ARGUMENTS[name]
    script = (
        "import subprocess\n"
        f"arguments = [{len(arguments[0])} * 'x'] * {len(arguments)}\n"
        "try: print(subprocess.run(['/bin/sh', '-c', 'echo $#', *arguments], capture_output=True, text=True).stdout)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    want = inside.run(["python3", "-c", script])
    got = run("--", "python3", "-c", script)
    assert want.out.strip()
    assert (got.status, got.out, got.err) == (want.status, want.out, want.err)


def test_100000_arguments_of_ours() -> None:
    done = run("--", "sh", "-c", "echo $#", *["x"] * 100_000)
    assert (done.status, done.out, done.err) == (0, "99999\n", "")


def test_the_root_may_be_empty(tmp_path: Path) -> None:
    refused(run("--rootfs", str(tmp_path), "--", "sh"), NOT_FOUND, "cannot run sh")
    shutil.rmtree(tmp_path)
    refused(run("--rootfs", str(tmp_path), "--", "sh"), OURS, str(tmp_path))
