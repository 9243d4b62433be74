"""Servers, languages and tools that people run: their pace natively and inside, and whether they do the same.

Each is a script beside this file (`apps/NAME.sh`, see `apps/prelude.sh`); what it works on lies in one directory of the
host, shared with the sandbox, so that both work on the same file system.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from rvisor.bench.native import last_line
from rvisor.errors import RvisorError
from rvisor.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCRIPTS = Path(__file__).with_name("apps")
SECONDS = 600
"""Longer than any script takes."""


def search_path() -> str:
    """Where commands are looked for: the caller's path, and where Debian keeps servers."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    return ":".join([*places, *(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin")))])


class App:
    """One application's script: its `name`, what it shows, the commands it needs, and the pace it is to reach."""

    __slots__ = ("_size", "name", "needs", "target", "title")

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        told: dict[str, str] = {}
        for line in path.read_text().splitlines():
            if not line.startswith("# "):
                break
            key, _, value = line[2:].partition(": ")
            told[key] = value
        self.title = told["title"]
        self.needs = told["needs"].split()
        self._size = told.get("size", "")
        self.target = float(told["target"]) if "target" in told else None

    def size(self, scale: int) -> str:
        """How much it does; what stands in brackets in its script is at full scale."""
        return re.sub(r"\{(\d+)\}", lambda found: f"{max(1, int(found[1]) * scale // 100):,}", self._size)

    def absent(self) -> list[str]:
        """The commands that this machine lacks."""
        return [command for command in self.needs if shutil.which(command, path=search_path()) is None]


def apps(only: Sequence[str] = ()) -> list[App]:
    """All applications, or those named; RvisorError for a name there is not."""
    known = {path.stem: path for path in sorted(SCRIPTS.glob("*.sh")) if path.stem != "prelude"}
    for name in only:
        if name not in known:
            raise RvisorError(f"there is no application {name!r}", hint="there are: " + ", ".join(known))
    return [App(path) for name, path in known.items() if not only or name in only]


class Output:
    """What one run of a script printed."""

    __slots__ = ("checks", "figures")

    def __init__(self, text: str) -> None:
        self.checks: list[str] = []
        self.figures: dict[str, tuple[float, str]] = {}
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")
            words = rest.split()
            if kind == "rate":
                self.figures[" ".join(words[:-2])] = (float(words[-2]), words[-1])
            elif kind == "time":
                self.figures[" ".join(words[:-1])] = (float(words[-1]), "s")
            else:
                self.checks.append(line)


class Pace:
    """One figure of one application. `pace`: the part of the native speed that is reached inside."""

    __slots__ = ("app", "inside", "name", "native", "target", "unit")

    def __init__(self, app: App, name: str, native: float, inside: float, unit: str) -> None:
        self.app = app.name
        self.name = name
        self.native = native
        self.inside = inside
        self.unit = unit
        self.target = app.target

    @property
    def pace(self) -> float:
        low, high = (self.native, self.inside) if self.unit == "s" else (self.inside, self.native)
        return low / high if high else 0.0

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        return None if self.target is None else self.pace >= self.target

    def as_dict(self) -> dict[str, object]:
        return {
            "app": self.app,
            "name": self.name,
            "native": self.native,
            "inside": self.inside,
            "unit": self.unit,
            "pace": self.pace,
            "target": self.target,
            "reached": self.reached,
        }


class Work:
    """The directories an application works in; a fresh one for each run, one for what was prepared."""

    def __init__(self, app: App, *, scale: int, directory: str | None = None) -> None:
        self._app = app
        self._scale = scale
        self._held = tempfile.TemporaryDirectory(prefix="rvisor-apps-", dir=directory)
        self._root = self._held.name
        os.chmod(self._root, 0o755)

    def __enter__(self) -> Work:
        _output(self._app, "prepare", *self._native("prepare"))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.cleanup()

    def natively(self) -> Output:
        """Run it on the host."""
        self._clear()
        return _output(self._app, "run", *self._native("run"))

    def inside(self, *, platform: str) -> Output:
        """Run it in a sandbox."""
        self._clear()
        shared = [f"{self._root}:{self._root}", f"{SCRIPTS}:{SCRIPTS}:ro"]
        with Sandbox(volumes=shared, env=self._env(), platform=platform) as box:
            result = box.run(self._command("run"), capture=True, timeout=SECONDS)
        return _output(self._app, "run inside", result.status, result.stdout, result.stderr)

    def _clear(self) -> None:
        shutil.rmtree(os.path.join(self._root, "here"), ignore_errors=True)

    def _env(self) -> dict[str, str]:
        return {"WORK": self._root, "SCALE": str(self._scale), "PATH": search_path(), "LC_ALL": "C.UTF-8"}

    def _command(self, what: str) -> list[str]:
        return ["bash", str(SCRIPTS / "prelude.sh"), self._app.name, what]

    def _native(self, what: str) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            self._command(what),
            env={**self._env(), "HOME": self._home()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def _home(self) -> str:
        # rustc and go keep their own things below the user's home.
        return os.environ.get("HOME", self._root)


def _output(app: App, what: str, status: int, stdout: bytes, stderr: bytes) -> Output:
    if status != 0:
        raise RvisorError(f"{app.name}: {what} ended with status {status}: {last_line(stderr or stdout)}")
    return Output(stdout.decode(errors="replace"))


def measure(
    *,
    runs: int,
    platform: str,
    only: Sequence[str],
    scale: int,
    directory: str | None,
    say: Callable[[str], None],
) -> tuple[list[Pace], list[str]]:
    """The paces, and a line for each application that is absent, fails, or does not do the same inside."""
    paces: list[Pace] = []
    troubles: list[str] = []
    for app in apps(only):
        if absent := app.absent():
            troubles.append(f"{app.name}: not measured, absent here: {', '.join(absent)}")
            continue
        native: list[Output] = []
        inside: list[Output] = []
        try:
            with Work(app, scale=scale, directory=directory) as work:
                for turn in range(runs):
                    say(f"{app.title}: turn {turn + 1} of {runs}")
                    native.append(work.natively())
                    inside.append(work.inside(platform=platform))
        except RvisorError as error:
            troubles.append(str(error))
            continue
        troubles.extend(
            f"{app.name}: inside {got!r}, natively {wanted!r}"
            for wanted, got in zip(native[0].checks, inside[0].checks, strict=False)
            if wanted != got
        )
        for name, (_, unit) in native[0].figures.items():
            values = [[run.figures[name][0] for run in side if name in run.figures] for side in (native, inside)]
            if all(values):
                paces.append(Pace(app, name, statistics.median(values[0]), statistics.median(values[1]), unit))
    return paces, troubles
