"""An ordinary user, without any right: the same command works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework import inside

NOBODY = 65534
SETPRIV = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def public(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the executables and the package that every user can read."""
    from rvisor._sentry import find

    place = Path("/var/tmp") / f"rvisor-program-{os.getpid()}-rootless"
    place.mkdir()
    try:
        (place / "bin").mkdir()
        for name in (find.LAUNCHER, find.SENTRY, find.STUB):
            shutil.copy(find.find(name), place / "bin" / name)
        shutil.copytree(inside.ROOT / "python", place / "python", ignore=shutil.ignore_patterns("__pycache__"))
        for path in [place, *place.rglob("*")]:
            path.chmod(0o755)
        yield place
    finally:
        shutil.rmtree(place)


def readable_python() -> str:
    """An interpreter that an ordinary user may execute."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        done = subprocess.run(
            [*SETPRIV, candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
            cwd="/",
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return candidate
    pytest.fail("there is no Python 3.11 that an ordinary user may execute")


def as_nobody(public: Path, *arguments: str) -> inside.Done:
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(public / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RVISOR_BIN_DIR": str(public / "bin"),
    }
    rights = ["--no-new-privs", "--bounding-set=-all"]
    return inside.run([*SETPRIV, *rights, readable_python(), "-m", "rvisor", *arguments], env=env, cwd="/", timeout=60)


def test_it_runs(public: Path) -> None:
    done = as_nobody(public, "run", "--", "/bin/sh", "-c", "id; f=$(mktemp); echo hi >$f; cat $f")
    assert (done.status, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first.startswith("uid=0(root) gid=0(root)")
    assert second == "hi"


def test_it_is_nobody_on_the_host(public: Path) -> None:
    """What it could not read before, it cannot read inside, whatever its number there."""
    secret = public / "secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    script = f"cat {secret}; cat /etc/shadow; echo changed > /etc/passwd && cat /etc/passwd; ls {public}"
    done = as_nobody(public, "run", "--", "/bin/sh", "-c", script)
    assert "secret\n" in done.out
    assert done.out.splitlines()[0] != "secret"
    assert "root:" not in done.out
    assert done.err.count("ermission denied") >= 2
    assert Path("/etc/passwd").read_text() != "changed\n"


def test_a_volume_is_written_as_the_user(public: Path) -> None:
    shared = public / "shared"
    shared.mkdir()
    os.chown(shared, NOBODY, NOBODY)
    script = "echo hi > /shared/x; mkdir /shared/d"
    done = as_nobody(public, "run", "-v", f"{shared}:/shared", "--", "/bin/sh", "-c", script)
    assert (done.status, done.err) == (0, "")
    assert (shared / "x").read_text() == "hi\n"
    assert {(path.name, path.stat().st_uid) for path in shared.iterdir()} == {("x", NOBODY), ("d", NOBODY)}


def test_programs_run_as_they_do_for_root(public: Path) -> None:
    script = "for i in 1 2 3; do (echo $i | cat); done; python3 -c 'import os; print(os.getpid() > 1)'; exit 3"
    done = as_nobody(public, "run", "--", "/bin/sh", "-c", script)
    assert (done.status, done.out, done.err) == (3, "1\n2\n3\nTrue\n", "")


def test_what_it_may_not_set_is_said(public: Path) -> None:
    done = as_nobody(public, "run", "--memory", "64m", "--", "true")
    assert done.status == 125
    assert "cgroup" in done.err
    assert "Traceback" not in done.err
