"""Policies by name: built-in ones here, a user's own in a process of its own.

A user's class may raise, hang or end its process; the container then keeps what it has, and whoever watches is told.
It runs with the operator's rights: it is the operator's program, not the container's.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from typing import Any

from rvisor._record import items
from rvisor.errors import UsageError
from rvisor.policy import policies
from rvisor.policy.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rvisor.policy.metrics import CpuMetrics, MemoryMetrics
    from rvisor.profile.model import Cpu, Memory

    Decision = Cpu | Memory | None

ENTRY_POINTS = "rvisor.{}_policies"
"""Group of entry points, for `cpu` and `memory`."""
DECISION_SECONDS = 2.0
START_SECONDS = 20.0
ATTEMPTS = 3
"""A class that fails so often in a row is asked no more."""


class Decider:
    """A policy that can be asked. PolicyError: it failed; `given_up`: it will not be asked again."""

    given_up = False

    def decide(self, metrics: CpuMetrics | MemoryMetrics) -> tuple[Decision, str]:
        """What is to be set, and why."""
        raise NotImplementedError

    def close(self) -> None:
        """End what runs for it."""


class Watching(Decider):
    """Nobody decides: the container is only measured."""

    def decide(self, metrics: CpuMetrics | MemoryMetrics) -> tuple[Decision, str]:
        """Nothing."""
        return None, ""


class BuiltIn(Decider):
    """One of ours."""

    def __init__(self, policy: policies.CpuPolicy | policies.MemoryPolicy) -> None:
        self._policy: Any = policy

    def decide(self, metrics: CpuMetrics | MemoryMetrics) -> tuple[Decision, str]:
        """Ask it."""
        decision: Decision = self._policy.decide(metrics)
        return decision, self._policy.reason


class Apart(Decider):
    """A user's class in a process of its own, which is started anew when it has died or does not answer."""

    def __init__(self, kind: str, spec: str, options: Mapping[str, object]) -> None:
        self._kind, self._spec, self._options = kind, spec, dict(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = 0
        self._start()

    def decide(self, metrics: CpuMetrics | MemoryMetrics) -> tuple[Decision, str]:
        """Ask it; PolicyError says how it failed."""
        try:
            if self._process is None:
                self._start()
            answer = self._ask(dict(items(metrics)), DECISION_SECONDS)
            decision = read_decision(self._kind, answer["decision"])
        except PolicyError as error:
            self._failed += 1
            self.given_up = self._failed >= ATTEMPTS
            last = f"; it failed {ATTEMPTS} times in a row and is asked no more" if self.given_up else ""
            raise PolicyError(f"{error}{last}") from None
        self._failed = 0
        return decision, str(answer.get("reason") or "")

    def close(self) -> None:
        """End its process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> None:
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rvisor.policy.worker", self._kind, self._spec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            self._ask(self._options, START_SECONDS)
        except PolicyError:
            self.close()
            raise

    def _ask(self, question: Mapping[str, object], seconds: float) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise PolicyError(f"{self._spec}: its process does not run")
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = _line(process.stdout.fileno(), seconds)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self.close()
            raise PolicyError(f"{self._spec}: no decision within {seconds:g} s; its process was ended") from None
        if not line.endswith(b"\n"):
            status = process.wait()
            self.close()
            raise PolicyError(f"{self._spec}: its process ended with status {status}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PolicyError(f"{self._spec}: {answer['error']}")
        return answer


def _line(fd: int, seconds: float) -> bytes:
    import time

    end = time.monotonic() + seconds
    found = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                raise TimeoutError
            part = os.read(fd, 1 << 16)
            if not part:
                break
            found += part
            if len(found) > _LONGEST_ANSWER:
                raise PolicyError("a policy's answer is longer than any decision")
    return found


_LONGEST_ANSWER = 1 << 20


def load(kind: str, spec: str, options: Mapping[str, object] | None = None) -> Decider:
    """The policy `spec` of `kind` cpu or memory: built in, an entry point's, `FILE.py[:Class]`, or `module:Class`.

    UsageError: there is none, or it does not take these options.
    """
    known: Mapping[str, Any] = policies.CPU if kind == "cpu" else policies.MEMORY
    if spec in known:
        made, given = known[spec]
        try:
            return BuiltIn(made(**{**given, **(options or {})}))
        except (TypeError, ValueError) as error:
            raise UsageError(f"--policy {spec}: {error}") from None
    if ":" not in spec and not spec.endswith(".py") and spec not in entry_points(kind):
        raise UsageError(
            f"--policy: there is no {kind} policy {spec!r}",
            hint=f"built in: {', '.join(known)}; or FILE.py[:Class], module:Class, an entry point of "
            + ENTRY_POINTS.format(kind),
        )
    try:
        return Apart(kind, spec, options or {})
    except PolicyError as error:
        raise UsageError(f"--policy {error}") from None


def entry_points(kind: str) -> dict[str, str]:
    """Names that installed packages offer, and where they point."""
    from importlib import metadata

    return {point.name: point.value for point in metadata.entry_points(group=ENTRY_POINTS.format(kind))}


def read_decision(kind: str, said: object) -> Decision:
    """A decision as JSON has it; PolicyError."""
    if said is None:
        return None
    if not isinstance(said, dict):
        raise PolicyError(f"a decision is a {kind} setting or None, not {said!r}")
    types = SETTINGS[kind]
    for name, value in said.items():
        wanted = types.get(name)
        if wanted is None or isinstance(value, bool) or not isinstance(value, wanted):
            raise PolicyError(f"a decision with {name} = {value!r}, which is no {kind} setting")
    if "cores" in said:
        if not all(type(core) is int and core >= 0 for core in said["cores"]):
            raise PolicyError(f"a decision with cores = {said['cores']!r}, which are no CPUs")
        said = said | {"cores": tuple(said["cores"])}
    made: Any = policies.Cpu if kind == "cpu" else policies.Memory
    decision: Decision = made(**said)
    return decision


def plain(decision: Decision) -> dict[str, object] | None:
    """A decision's settings by name, those it leaves alone left out; TypeError if it is none."""
    if decision is None:
        return None
    kinds = {policies.Cpu: "cpu", policies.Memory: "memory"}
    if type(decision) not in kinds:
        raise TypeError(f"{decision!r} is no setting")
    names = SETTINGS[kinds[type(decision)]]
    return {name: value for name in names if (value := getattr(decision, name)) is not None}


SETTINGS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "cpu": {
        "policy": str,
        "nice": int,
        "priority": int,
        "weight": int,
        "quota": (int, float),
        "slice": int,
        "cores": (list, tuple),
    },
    "memory": {
        "max": int,
        "high": int,
        "swappiness": int,
        "overcommit": str,
        "overcommit_ratio": int,
        "overcommit_kbytes": int,
        "thp": str,
    },
}
"""What a policy may set."""
