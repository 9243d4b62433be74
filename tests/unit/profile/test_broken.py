"""Broken and hostile input: each loader says what is wrong, soon, and in no other way than it says everything."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rvisor.errors import ProfileError
from rvisor.profile import apparmor, elf, filter, learn, positions, read, seccomp, write

APPARMOR = """\
@{D}=/a /b
profile x flags=(attach_disconnected) {
  #include <abstractions/base>
  capability chown, network inet stream,
  deny @{PROC}/{[^1-9],a*}/** wklx,  # comment
  owner "@{D}/with space" rw,
  /usr/bin/** Px -> y,
}
"""
JSON = json.dumps(
    {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": None}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8", "caps": ["CAP_CHOWN"]}},
            {
                "names": ["clone", "socket"],
                "action": "SCMP_ACT_TRACE",
                "errnoRet": 5,
                "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 7, "valueTwo": 3}],
            },
        ],
    }
)
SPECIAL = ["\0", "\ud800", *"\"'[]{}\n\\#=,é ", "9" * 5000, "-1", "null", "true"]


def mutated(chance: random.Random, text: str) -> str:
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:at] + text[at + chance.randrange(1, 20) :]
            case 1:
                text = text[:at] + chance.choice(SPECIAL) + text[at:]
            case 2:
                other = chance.randrange(len(text) + 1)
                text = text[:at] + text[other : other + chance.randrange(60)] + text[at:]
            case _:
                text = text[:at]
    return text


def quietly(do: Callable[[], object]) -> bool:
    try:
        do()
    except ProfileError as error:
        assert str(error)
        return False
    return True


def test_toml() -> None:
    chance = random.Random(1)
    texts = [Path(path).read_text() for path in read.shipped().values()]
    fine = 0
    for _ in range(400):
        text = mutated(chance, chance.choice(texts)[: chance.choice([300, 1000, 5000])])

        def do(text: str = text) -> None:
            made = read.loads(text)
            if made.table() is not None:
                filter.compile_table(made.table())  # type: ignore[arg-type]
            read.loads(write.toml(made))

        fine += quietly(do)
    assert 0 < fine < 400


def test_positions_of_whatever_is_valid() -> None:
    import tomllib

    chance = random.Random(2)
    text = 'a.b = [[1,2],\n [3, {x = 1, "y z" = [4.5e3]}]] # c\n[t."u v"]\ns = """\na = 3 ]\n"""\n'
    text += "w = 1979-05-27 07:32:00.5\n"
    text += "[[l]]\nk=1\n[[l]]\nk='''x'y'''\n[l.m]\nz=[[1],]\nn = { a = { b = [] } }\n"
    valid = 0
    for _ in range(3000):
        one = mutated(chance, text)
        try:
            data = tomllib.loads(one)
        except (ValueError, RecursionError):
            continue
        valid += 1
        places = positions.index(one)
        for key in data:
            assert (key,) in places, one
    assert valid > 50


def test_json() -> None:
    chance = random.Random(3)
    fine = 0
    for _ in range(1500):
        try:
            data = json.loads(mutated(chance, JSON))
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            fine += quietly(lambda data=data: seccomp.read(data).syscalls.table())  # type: ignore[misc]
    values = [None, True, -1, 1.5, 1 << 70, "x", [], {}, [None], {"a": 1}]

    def replaced(data: object) -> object:
        if chance.random() < 0.1:
            return chance.choice(values)
        if isinstance(data, dict):
            return {key: replaced(value) for key, value in data.items()}
        return [replaced(value) for value in data] if isinstance(data, list) else data

    for _ in range(1500):
        data = replaced(json.loads(JSON))
        if isinstance(data, dict):
            fine += quietly(lambda data=data: seccomp.read(data).syscalls.table())  # type: ignore[misc]
    assert fine > 10


def test_apparmor(tmp_path: Path) -> None:
    chance = random.Random(4)
    fine = sum(quietly(lambda: apparmor.parse(mutated(chance, APPARMOR), "p", top=str(tmp_path))) for _ in range(2000))
    assert 0 < fine < 2000


def test_elf(tmp_path: Path) -> None:
    chance = random.Random(5)
    data = Path("/bin/true").read_bytes()
    path = tmp_path / "x"
    for _ in range(60):
        made = bytearray(data[: chance.choice([len(data), 70, 5000])])
        for _ in range(chance.randrange(1, 30)):
            made[chance.randrange(min(len(made), chance.choice([64, 1200, 1 << 20])))] = chance.randrange(256)
        path.write_bytes(made)
        quietly(lambda: elf.calls(str(path)))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProfileError, match="not a regular file"):
        elf.calls(str(tmp_path / "pipe"))


def test_traces() -> None:
    chance = random.Random(6)
    text = '[1] execve(path="/bin/x") = 0\n[1] clone(0x1, 0x2) = 5\n[5] socket(family=2) = 3\n'
    text += "7 <... fork resumed>) = 0x9\n"
    for _ in range(100):
        learn.lines(mutated(chance, text).split("\n"), only=chance.choice(["", "x"])).profile("p")


WIDE = ", ".join(f'"arg{n} in {{{", ".join(str(v * 3) for v in range(300))}}}"' for n in range(3))
RULE = '[syscalls]\ndefault = "kill"\nrule = [{ names = ["read"], action = "allow", when = ['
SLOW = [
    (f"{RULE}{WIDE}] }}]", "cases"),
    (f'{RULE}"arg0 == {" " * 50000}"] }}]', "no condition"),
    (f'{RULE}"arg0 {"& " * 50000} 1"] }}]', "is"),
    ("[" * 100_000, "profile"),
    ('a = "' + "x" * 2_000_000, "profile"),
    ("\n".join(f"k{n} = 1" for n in range(50_000)), "… and 49980 more"),
]


@pytest.mark.parametrize("text, said", SLOW, ids=range(len(SLOW)))
def test_soon(text: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(ProfileError, match=said):
        read.loads(text)
    assert time.process_time() - began < 10


def test_a_hundred_thousand_rules() -> None:
    """Read in seconds; one program if they fit, else refused with the call that is too much."""
    head = '[syscalls]\ndefault = "errno"\n'
    rule = '[[syscalls.rule]]\nnames = ["lseek"]\naction = "allow"\nwhen = ["arg1 == {}"]\n'
    began = time.process_time()
    table = read.loads(head + "".join(rule.format(7 * n) for n in range(100_000))).table()
    assert table is not None
    with pytest.raises(ProfileError, match="instructions; Linux takes 4096") as caught:
        filter.compile_table(table)
    assert "lseek (100000 conditions)" in caught.value.hint
    assert time.process_time() - began < 40


def test_variables_that_multiply(tmp_path: Path) -> None:
    text = "@{A}=" + " ".join(f"/x{n}" for n in range(20)) + "\nprofile p {\n  " + "@{A}" * 12 + "/y r,\n}\n"
    began = time.process_time()
    with pytest.raises(ProfileError, match="more than 4096 paths by its variables"):
        apparmor.parse(text, "p", top=str(tmp_path))
    assert time.process_time() - began < 5


def test_halves_of_surrogates_are_written(tmp_path: Path) -> None:
    entry = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "\ud800"}
    data = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [entry]}
    found = seccomp.read(data).syscalls
    from rvisor.profile.model import Profile

    text = write.toml(Profile(name="x", syscalls=found))
    (tmp_path / "x.toml").write_text(text)
    assert read.load(tmp_path / "x.toml").syscalls is not None


def test_the_kernel_takes_the_filter() -> None:
    """The host itself checks a program when it is installed: each shipped one, in a process of its own."""
    code = """
import ctypes, struct, sys
from rvisor.profile import filter, read
program = b"".join(struct.pack("<HBBI", *one) for one in filter.compile_table(read.load(sys.argv[1]).table()))
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(program)
head = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, head, 0, 0) == 0, ctypes.get_errno()
"""
    import sys

    env = {**os.environ, "PYTHONPATH": str(Path(read.__file__).parents[2])}
    for name in ("default", "agent", "build", "web-server", "python"):
        done = subprocess.run([sys.executable, "-c", code, name], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
