"""`rvisor install`: make runrsc known to Docker, Podman or containerd, and forget it again."""

from __future__ import annotations

import os
import sys

from rvisor.cli.parser import Parser
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "rvisor"
SHARED = "rvisor-shared"
"""The same on the host's kernel, for Docker."""
FILES = {
    "docker": "/etc/docker/daemon.json",
    "podman": "/etc/containers/containers.conf.d/50-rvisor.conf",
    "containerd": "/etc/containerd/config.toml",
}
PROGRAMS = "/usr/local/libexec/rvisor"
"""Where the programs are that Docker calls; with --config in a directory of that name beside the file."""
_LONGEST = 200
"""An interpreter's path that the host's kernel takes in a script's first line, with room."""
AFTERWARDS = {
    "docker": "systemctl reload docker",
    "podman": "nothing: Podman reads it when it is called",
    "containerd": "systemctl restart containerd",
}
_BEGIN, _END = "# rvisor: begin", "# rvisor: end"


def parser() -> Parser:
    """The options of `rvisor install`."""
    made = Parser(
        prog="rvisor install",
        description="Make the OCI runtime runrsc known to Docker, Podman or containerd. The change is shown first; "
        "what was there is kept beside the file, with the ending .rvisor-backup.",
        epilog="Examples:\n  rvisor install docker             then: docker run --runtime=rvisor IMAGE,\n"
        "                                    or --runtime=rvisor-shared: on the host's kernel\n"
        "  rvisor install podman --dry-run\n  rvisor install containerd --remove\n",
    )
    made.add_argument("caller", choices=sorted(FILES), help="who is to know it")
    made.add_argument("--remove", action="store_true", help="take it out again")
    made.add_argument("--dry-run", action="store_true", help="only show the change")
    made.add_argument("--config", metavar="FILE", default="", help="the file to change, instead of the usual one")
    made.add_argument("--profile", metavar="NAME|FILE", default="", help="docker: the profile of rvisor-shared")
    made.add_argument("--runtime", metavar="PATH", default="", help="the runrsc to name, instead of the one in PATH")
    return made


def main(argv: list[str]) -> int:
    """Change the file; the exit status."""
    options = parser().parse_args(argv)
    caller: str = options.caller
    path: str = options.config or FILES[caller]
    old = _read(path)
    place = os.path.join(os.path.dirname(os.path.abspath(path)), "rvisor") if options.config else PROGRAMS
    programs: dict[str, str] = {}
    if options.remove:
        new = _without(caller, old)
    else:
        program: str = options.runtime or ("" if caller == "docker" else _runtime())
        if program and not os.access(program, os.X_OK):
            raise UsageError(f"--runtime: {program} is not a program")
        if caller == "docker" and not program:
            programs = _programs(place, options.profile)
        new = _with(caller, old, os.path.abspath(program) if program else "", options.profile, [*programs])
    if new == old and all(_read(name) == text for name, text in programs.items()):
        print(f"{path}: nothing to change")
        return 0
    for name, text in programs.items():
        _show(name, _read(name), text)
    _show(path, old, new)
    if options.dry_run:
        return 0
    for name, text in programs.items():
        _write(name, "", text, mode=0o755)
    _write(path, old, new)
    if options.remove and caller == "docker":
        _forget(place)
    _compile()
    print(f"{path}: changed; for it to be seen: {AFTERWARDS[caller]}")
    return 0


def _runtime() -> str:
    import shutil

    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "runrsc")
    found = beside if os.access(beside, os.X_OK) else shutil.which("runrsc")
    if found is None:
        raise UsageError("runrsc was not found", hint="name it with --runtime PATH")
    return found


def _programs(place: str, profile: str) -> dict[str, str]:
    """For each runtime a program of its own: this interpreter, without what it looks for at each of a container's four
    starts. To a program that is to have arguments Docker puts a shell before it, each time; so these need none.
    """
    import rvisor

    if len(sys.executable) > _LONGEST or any(c.isspace() for c in sys.executable):
        raise UsageError(
            f"{sys.executable}: a script cannot name this interpreter", hint="name a runrsc with --runtime"
        )
    above = os.path.dirname(os.path.dirname(os.path.abspath(rvisor.__file__)))

    def text(arguments: list[str]) -> str:
        return (
            f"#!{sys.executable} -IS\n# Written by `rvisor install docker`.\nimport sys\n\n"
            f"sys.path.insert(0, {above!r})\nsys.argv[1:1] = {arguments!r}\n"
            "from rvisor.oci.__main__ import main\n\nmain()\n"
        )

    shared = ["--kernel=shared", *([f"--profile={profile}"] if profile else [])]
    return {os.path.join(place, NAME): text([]), os.path.join(place, SHARED): text(shared)}


def _forget(place: str) -> None:
    try:
        for name in (NAME, SHARED):
            os.unlink(os.path.join(place, name))
        os.rmdir(place)
    except OSError:
        # They were never made, or there is more.
        return


def _compile() -> None:
    """A start that may not write beside the modules, and finds nothing there, would compile them all, each time."""
    import compileall

    import rvisor

    compileall.compile_dir(os.path.dirname(os.path.abspath(rvisor.__file__)), quiet=2)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _with(caller: str, old: str, runtime: str, profile: str, programs: list[str]) -> str:
    from json import dumps

    if caller == "docker" and programs:
        return _docker(old, {name: {"path": path} for name, path in zip((NAME, SHARED), programs, strict=True)})
    if caller == "docker":
        more = ["--kernel=shared", *([f"--profile={profile}"] if profile else [])]
        return _docker(old, {NAME: {"path": runtime}, SHARED: {"path": runtime, "runtimeArgs": more}})
    if caller == "podman":
        return f"[engine.runtimes]\n{NAME} = [{dumps(runtime)}]\n"
    kept = _without(caller, old)
    version = _containerd_version(kept)
    plugin = "io.containerd.cri.v1.runtime" if version >= 3 else "io.containerd.grpc.v1.cri"
    runtimes = f'plugins."{plugin}".containerd.runtimes'
    if f"containerd.runtimes.{NAME}" in kept:
        raise UsageError(f"a runtime {NAME} is configured already, but not by this command", hint="take it out first")
    lines = [] if kept.strip() else ["version = 2"]
    # A table of runtimes takes the place of containerd's own, where runc is, which is the default.
    for name, program in (("runc", ""), (NAME, runtime)):
        if program or "containerd.runtimes." not in kept:
            lines += [f"[{runtimes}.{name}]", '  runtime_type = "io.containerd.runc.v2"']
        if program:
            lines += [f"[{runtimes}.{name}.options]", f"  BinaryName = {dumps(program)}"]
    return "\n".join([*kept.splitlines(), _BEGIN, *lines, _END, ""])


def _containerd_version(text: str) -> int:
    """Of the file's form: what is not 2 or newer is written in another way."""
    import tomllib

    try:
        version = tomllib.loads(text).get("version", 1 if text.strip() else 2)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the file is not valid TOML: {error}") from None
    if not isinstance(version, int) or version < 2:
        raise UsageError(f"the file's version is {version!r}", hint="`containerd config migrate` makes it a newer one")
    return version


def _without(caller: str, old: str) -> str:
    if caller == "docker":
        return _docker(old, None)
    if caller == "podman":
        return ""
    head, begin, rest = old.partition(_BEGIN + "\n")
    _, end, tail = rest.partition(_END + "\n")
    return head + tail if begin and end else old


def _docker(old: str, entries: dict[str, dict[str, Any]] | None) -> str:
    from json import dumps, loads

    try:
        data = loads(old) if old.strip() else {}
    except ValueError as error:
        raise UsageError(f"the file is not valid JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("runtimes", {}), dict):
        raise UsageError("the file is not a configuration of Docker's")
    runtimes = dict(data.get("runtimes", {}))
    before = {name: runtimes.pop(name) for name in (NAME, SHARED) if name in runtimes}
    if before == (entries or {}):
        return old
    runtimes |= entries or {}
    data["runtimes"] = runtimes
    if not runtimes:
        del data["runtimes"]
    return dumps(data, indent=4) + "\n" if data else ""


def _show(path: str, old: str, new: str) -> None:
    from difflib import unified_diff

    lines = unified_diff(old.splitlines(), new.splitlines(), path, path, lineterm="")
    print("\n".join(lines))


def _write(path: str, old: str, new: str, *, mode: int = 0o644) -> None:
    try:
        if not new:
            _save(f"{path}.rvisor-backup", old)
            os.unlink(path)
            return
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if old:
            _save(f"{path}.rvisor-backup", old)
        _save(path, new, mode)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def _save(path: str, text: str, mode: int = 0o644) -> None:
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else mode
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(f"{path}.new", mode)
    os.rename(f"{path}.new", path)
