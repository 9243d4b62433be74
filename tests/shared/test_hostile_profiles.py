"""Profiles that are wrong, or made to be: told with line and column before anything starts, or the rule holds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from framework import inside
from framework.shared import run

pytestmark = pytest.mark.timeout(120)

ALLOW = '[syscalls]\ndefault = "allow"\n'
RULE = '[[syscalls.rule]]\nnames = ["{name}"]\naction = "{action}"\n'

WRONG = [
    (ALLOW + RULE.format(name="read", action="allow") + RULE.format(name="read", action="kill"), ":6:1: ", "read"),
    ('[capabilities]\nkeep = ["CHOWN"]\ndrop = ["CHOWN"]\n', ":3:", "CHOWN"),
    ('[memory]\nmax = "64m"\nhigh = "65m"\n', ":3:1: ", "contradiction"),
    (ALLOW + RULE.format(name="opennat", action="allow"), ":4:", "openat"),
    ('[capabilities]\nkeep = ["CAP_EVERYTHING"]\n', ":2:", "CAP_EVERYTHING"),
    ('[cpu]\npolicy = "fast"\n', ":2:1: ", "fast"),
    ("[devices]\nrule = [{ action = 'allow', device = 'sda' }]\n", ":2:", "sda"),
    ("[sysctl]\n'kernel.shmmax' = { value = '9', writable = true, minimum = 10, maximum = 1 }\n", ":2:", "minimum"),
]


def write(tmp_path: Path, text: str, name: str = "p.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("kernel", ["private", "shared"])
@pytest.mark.parametrize(("text", "place", "what"), WRONG)
def test_with_line_and_column(tmp_path: Path, kernel: str, text: str, place: str, what: str) -> None:
    path = write(tmp_path, text)
    done = inside.rvisor("run", f"--kernel={kernel}", "--profile", path, "--", "true")
    assert done.status == 125 and f"{path}{place}" in done.err and what in done.err, done


def test_a_ring_of_includes(tmp_path: Path) -> None:
    a = write(tmp_path, 'include = ["./b.toml"]\n', "a.toml")
    write(tmp_path, '\ninclude = ["./a.toml"]\n', "b.toml")
    done = run("--profile", a, "--", "true")
    assert done.status == 125 and "b.toml:2:" in done.err and "a.toml" in done.err, done
    write(tmp_path, 'include = ["./gone.toml"]\n', "b.toml")
    done = run("--profile", a, "--", "true")
    assert done.status == 125 and "b.toml:1:" in done.err and "gone.toml" in done.err, done


def test_too_many_rules_of_each_kind(tmp_path: Path) -> None:
    """What does not fit is refused within some seconds; what fits holds."""
    peers = "[[network.rule]]\naction = 'deny'\nnet = '10.0.0.1'\n" * 2000
    calls = ALLOW + "".join(
        f'[[syscalls.rule]]\nnames = ["lseek"]\naction = "errno"\nwhen = ["arg1 == {7 * n}"]\n' for n in range(9000)
    )
    for text, what in ((peers, "more than 500"), (calls, "instructions")):
        began = time.monotonic()
        done = run("--profile", write(tmp_path, text), "--", "true", timeout=60)
        assert done.status == 125 and what in done.err, done
        assert time.monotonic() - began < 50


def test_a_path_that_vanishes_between_load_and_start(tmp_path: Path) -> None:
    from rvisor.errors import LaunchError
    from rvisor.sandbox import Sandbox

    files = tmp_path / "files"
    files.mkdir()
    (files / "secret").write_text("SECRET")
    path = write(tmp_path, "[[files.rule]]\npaths = ['/f/secret']\nallow = ''\n")
    with Sandbox(kernel="shared", profile=path, volumes=[f"{files}:/f"]) as box:
        assert box.run(["cat", "/f/secret"], capture=True).status == 1
        (files / "secret").rename(files / "moved")
        with pytest.raises(LaunchError, match="/f/secret"):
            box.run(["cat", "/f/moved"], capture=True)
        # Another file of that name is the one that is protected: rules are of what is there at the start.
        (files / "secret").symlink_to("moved")
        assert box.run(["cat", "/f/moved"], capture=True).status == 1
