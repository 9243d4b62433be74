"""`runrsc box`: the client of the first rVisor, with its words, over `rvisor.oci.box`."""

from __future__ import annotations

import os
import signal
import sys

from rvisor.errors import ControlError, RvisorError
from rvisor.oci import box, device
from rvisor.oci.errors import OciError
from rvisor.oci.flags import Flags, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvisor._sentry.control import Control
    from rvisor.oci.box import Boxes

_BOX = {"box": "v"}
VERBS: dict[str, tuple[str, dict[str, str], str]] = {
    "create": (
        "ROOT",
        {"memory": "v", "swappiness": "v"},
        "make a box whose root is the directory ROOT; prints its id. Limits: 64m of memory, swappiness 0",
    ),
    "exec": (
        "PATH [-env NAME=VALUE]… [ARG…] [&]",
        _BOX | {"env": "v"},
        "run the program at PATH inside; its environment is what is given, and PWD=/. A last & does not wait",
    ),
    "ps": ("", _BOX, "what runs in it"),
    "shutdown": ("", _BOX, "end all that runs in it, and remove it"),
    "benchmark": (
        "[PATH]",
        _BOX,
        "run PATH, or file calls on the host and in a box of the same root: µs of CPU and of time",
    ),
    "serve": ("", {"socket": "v"}, "answer CREATE, ADD_SELF and REMOVE on a socket, until a signal ends it"),
}
_UNITS = {"k": 10, "m": 20, "g": 30}


def usage() -> str:
    lines = ["runrsc [--root DIR] box VERB", ""]
    lines += [f"  {f'{name} {form}':46} {what}" for name, (form, _, what) in VERBS.items()]
    return "\n".join([*lines, "", "--box ID says which box is meant, where it is not the last that was made."])


def main(args: Sequence[str], root: str) -> int:
    """One verb; its exit status."""
    if not args or args[0] in ("--help", "-h", "help"):
        print(usage())
        return 0 if args else 1
    verb, *rest = args
    if verb not in VERBS:
        raise OciError(f"box: there is no verb {verb!r}: runrsc box --help lists them")
    boxes = box.Boxes(root)
    if verb == "exec":
        return _exec(boxes, rest)
    flags = parse(rest, VERBS[verb][1], command=f"box {verb}", mixed=True)
    least, most = {"create": (1, 1), "benchmark": (0, 1)}.get(verb, (0, 0))
    if not least <= len(flags.words) <= most:
        raise OciError(f"box {verb}: expects {VERBS[verb][0] or 'no arguments'}")
    verbs = {"create": _create, "ps": _ps, "shutdown": _shutdown, "benchmark": _benchmark, "serve": _serve}
    return verbs[verb](boxes, flags)


def _which(boxes: Boxes, flags: Flags) -> int:
    if text := flags.text("box"):
        if not text.isdecimal():
            raise OciError(f"box: --box: {text!r} is no id")
        boxes.find(int(text))
        return int(text)
    every = boxes.every()
    if not every:
        raise OciError("there is no box: `runrsc box create ROOT` makes one")
    return every[-1]


def _create(boxes: Boxes, flags: Flags) -> int:
    text = flags.text("memory", "64m").lower().removesuffix("b")
    shift = _UNITS.get(text[-1:], 0)
    number, swappiness = text[:-1] if shift else text, flags.text("swappiness", "0")
    if not number.isdecimal() or not swappiness.isdecimal() or int(swappiness) > 100:
        raise OciError("box create: --memory is a size as 64m, --swappiness a number from 0 to 100")
    print(boxes.create(flags.words[0], memory=int(number) << shift, swappiness=int(swappiness)))
    return 0


def _exec(boxes: Boxes, rest: Sequence[str]) -> int:
    words = list(rest)
    behind = bool(words) and words[-1] == "&"
    flags = parse(words[:-1] if behind else words, VERBS["exec"][1], command="box exec")
    # As the original has it, flags also stand behind the path; an argument that looks like one comes after --.
    path, *more = flags.words or [""]
    after = parse(more, VERBS["exec"][1], command="box exec")
    env = [*flags.every("env"), *after.every("env")]
    while after.words[1:] and after.words[1] in ("-env", "--env"):
        raise OciError("box exec: -env stands before the arguments")
    if not path.startswith("/"):
        raise OciError("box exec: expects the path of a program inside, from /")
    if any("=" not in entry for entry in env):
        raise OciError("box exec: -env needs NAME=VALUE")
    for name, values in after.values.items():
        flags.values.setdefault(name, []).extend(values)
    number = _which(boxes, flags)
    control = boxes.control(number)
    pid = device.start(control, box.program([path, *after.words], env))
    print(f"[INFO] son process = {pid}", file=sys.stderr, flush=True)
    if behind:
        return 0
    from rvisor.oci.execute import attend

    return attend(control, pid, lambda: boxes.control(number))


def _ps(boxes: Boxes, flags: Flags) -> int:
    with boxes.control(_which(boxes, flags)) as control:
        print("  PID TTY          TIME CMD")
        for row in _programs(control):
            seconds = int(str(row["cpu_ns"])) // 10**9
            clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            print(f"{row['pid']:>5} {'?':8} {clock} {row['name']}")
    return 0


def _programs(control: Control) -> list[dict[str, object]]:
    """All but the one that only waits."""
    found: list[dict[str, object]] = [row for row in control.processes() if row["pid"] != 1]
    return found


def _shutdown(boxes: Boxes, flags: Flags) -> int:
    number = _which(boxes, flags)
    try:
        with boxes.control(number) as control:
            for row in _programs(control):
                pid = int(str(row["pid"]))
                try:
                    control.signal(signal.SIGKILL, pid=pid)
                    print(f"[INFO] {pid} has been killed.")
                except ControlError:
                    continue
    except RvisorError:
        # It has ended by itself; what is left of it goes all the same.
        pass
    boxes.remove(number)
    return 0


def _benchmark(boxes: Boxes, flags: Flags) -> int:
    if flags.words:
        return _exec(boxes, [*(["--box", flags.text("box")] if flags.given("box") else []), *flags.words])
    import shutil
    import subprocess
    import tempfile

    root = boxes.root_of(_which(boxes, flags))
    source = os.path.join(os.path.dirname(__file__), "benchmark.c")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise OciError("box benchmark: needs a C compiler, or the PATH of a program inside")
    with tempfile.TemporaryDirectory(prefix="rvisor-bench-") as scratch:
        made = os.path.join(scratch, "benchmark")
        done = subprocess.run(
            [compiler, "-O2", "-static", "-o", made, source], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise OciError(f"box benchmark: {compiler}: {done.stderr}")
        os.chmod(scratch, 0o755)
        print("host:", flush=True)
        subprocess.run([made], cwd=root, check=False)
        number = boxes.create(root, memory=1 << 30, files=[(made, "/dev/.benchmark")])
        try:
            print("box:", flush=True)
            control = boxes.control(number)
            from rvisor.oci.execute import attend

            pid = device.start(control, box.program(["/dev/.benchmark"]))
            return attend(control, pid, lambda: boxes.control(number))
        finally:
            boxes.remove(number)


def _serve(boxes: Boxes, flags: Flags) -> int:
    path = flags.text("socket") or device.default_path(boxes.root)
    with device.listen(path) as listener:
        print(f"[INFO] boot ready to accept on {path}", flush=True)

        def ended(_number: int, _frame: object) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, ended)
        try:
            device.serve(boxes, listener)
        except KeyboardInterrupt:
            return 0
        finally:
            os.unlink(path)
    return 0
