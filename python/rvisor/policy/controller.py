"""A policy at work on a container: a window, a decision, a change, and an event that tells of it."""

from __future__ import annotations

import time
from typing import Any

from rvisor._record import items
from rvisor.policy import cpu, memory
from rvisor.policy.errors import PolicyError
from rvisor.policy.load import plain
from rvisor.policy.metrics import CpuSampler, MemorySampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rvisor.policy.container import Container
    from rvisor.policy.load import Decider, Decision


class Controller:
    """`kind` is cpu or memory. Nothing is applied with `dry`."""

    def __init__(self, kind: str, container: Container, decider: Decider, *, dry: bool = False) -> None:
        self._container, self._decider, self._dry = container, decider, dry
        self._sampler: Any = CpuSampler(container) if kind == "cpu" else MemorySampler(container)
        self._apply: Any = cpu.apply if kind == "cpu" else memory.apply
        self._last: Decision = None

    def step(self) -> dict[str, Any]:
        """One window's end. `changed`: the decision differs from the last one; `error`: what failed, or nothing."""
        metrics = self._sampler.sample()
        event: dict[str, Any] = {"at": time.time(), "container": self._container.name, "metrics": dict(items(metrics))}
        decision, reason, error = None, "", ""
        changed = False
        try:
            if not self._decider.given_up:
                decision, reason = self._decider.decide(metrics)
            if decision is not None:
                changed = decision != self._last
                # Again even if it is the same: others may have come in since, by exec. Who has it is left alone.
                if not self._dry:
                    self._apply(decision, self._container)
                self._last = decision
        except PolicyError as failure:
            error = str(failure)
        return event | {"decision": plain(decision), "reason": reason, "changed": changed, "error": error}

    def run(self, *, interval: float, windows: int | None = None) -> Iterator[dict[str, Any]]:
        """An event each `interval` seconds, until the container has ended."""
        done = 0
        while windows is None or done < windows:
            time.sleep(interval)
            if not self._container.alive():
                return
            yield self.step()
            done += 1
