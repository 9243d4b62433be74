"""Who decides: the classes a user derives from, and those that are here already.

A policy is told once a window what the container did, and says what is to be set; None, or a setting that holds
already, changes nothing. It keeps what it likes between calls. Options are its constructor's keyword arguments.

    class Quiet(CpuPolicy):
        def decide(self, metrics):
            return Cpu(policy="idle" if metrics.cpu_percent > 80 else "normal")
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from rvisor.profile.model import Cpu, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.policy.metrics import CpuMetrics, MemoryMetrics

__all__ = ["CPU", "MEMORY", "Adaptive", "Cpu", "CpuPolicy", "Fixed", "Headroom", "Memory", "MemoryPolicy", "Slices"]


class CpuPolicy(ABC):
    """Decides about a container's CPU settings."""

    reason = ""
    """Why it decided so, for whoever watches; set it in `decide`."""

    @abstractmethod
    def decide(self, metrics: CpuMetrics) -> Cpu | None:
        """What is to be set from now on."""


class MemoryPolicy(ABC):
    """Decides about a container's memory settings."""

    reason = ""

    @abstractmethod
    def decide(self, metrics: MemoryMetrics) -> Memory | None:
        """What is to be set from now on."""


class Fixed(CpuPolicy):
    """Always the same, so also for what enters the container later."""

    def __init__(self, policy: str = "normal", priority: int | None = None, slice: int | None = None) -> None:
        self._chosen = Cpu(policy=policy, priority=priority, slice=slice)

    def decide(self, metrics: CpuMetrics) -> Cpu | None:
        """What it was made with."""
        self.reason = "fixed"
        return self._chosen


class Adaptive(CpuPolicy):
    """The rule of the first vKernel: many short tasks are scheduled fairly, few long ones in turn.

    Busy (more than `busy_percent` of its CPUs, and more than `busy_switches` context switches a second): `busy`. Calm
    (less than `calm_percent` and `calm_switches`): `calm`. Between the two nothing changes, and a change waits until
    `hold` windows in a row ask for it.
    """

    def __init__(
        self,
        *,
        busy_percent: float = 70,
        busy_switches: float = 1000,
        calm_percent: float = 50,
        calm_switches: float = 500,
        hold: int = 2,
        busy: str = "normal",
        calm: str = "fifo",
    ) -> None:
        if calm_percent > busy_percent or calm_switches > busy_switches or hold < 1:
            raise ValueError("calm thresholds must not be above busy ones, and hold must be at least 1")
        self._busy, self._calm, self._hold = (busy_percent, busy_switches), (calm_percent, calm_switches), hold
        self._choices = {"busy": Cpu(policy=busy), "calm": Cpu(policy=calm)}
        self._asked = ""
        self._times = 0

    def decide(self, metrics: CpuMetrics) -> Cpu | None:
        """One of the two, or None."""
        cpu, switches = metrics.cpu_percent, metrics.switches_per_s
        state = ""
        if cpu > self._busy[0] and switches > self._busy[1]:
            state = "busy"
        elif cpu < self._calm[0] and switches < self._calm[1]:
            state = "calm"
        self._times = self._times + 1 if state == self._asked else 1
        self._asked = state
        self.reason = f"{state or 'between'}: {cpu:.0f} % of its CPUs, {switches:.0f} switches/s"
        if not state:
            return None
        if self._times < self._hold:
            self.reason += f", {self._times} of {self._hold} windows"
            return None
        return self._choices[state]


class Slices(CpuPolicy):
    """Long slices while threads are driven off their CPU, short ones while they leave it themselves.

    Who computes gains from fewer switches; who answers others gains from its turn coming sooner. Slices in ns.
    """

    def __init__(self, *, short: int = 700_000, long: int = 10_000_000, waiting_percent: float = 10) -> None:
        self._short, self._long, self._waiting = short, long, waiting_percent

    def decide(self, metrics: CpuMetrics) -> Cpu | None:
        """A slice, or None while nobody waits for a CPU."""
        if metrics.waiting_percent is None or metrics.waiting_percent < self._waiting:
            self.reason = "nobody waits"
            return None
        driven = metrics.involuntary_per_s > metrics.voluntary_per_s
        self.reason = f"{metrics.involuntary_per_s:.0f} driven off, {metrics.voluntary_per_s:.0f} left, a second"
        return Cpu(slice=self._long if driven else self._short)


class Headroom(MemoryPolicy):
    """Keeps `high` a part above what is used, and lets pages go early while the container waits for memory itself.

    `step_percent` above use, between `least` and `most` bytes; more at once when pressure says that it is too tight.
    """

    def __init__(
        self, *, step_percent: float = 25, least: int = 32 << 20, most: int = 1 << 40, pressure_percent: float = 5
    ) -> None:
        self._step, self._least, self._most, self._pressure = step_percent, least, most, pressure_percent

    def decide(self, metrics: MemoryMetrics) -> Memory | None:
        """Where reclaim is to begin."""
        if metrics.used is None:
            self.reason = "its group does not count memory"
            return None
        tight = metrics.pressure_percent is not None and metrics.pressure_percent > self._pressure
        aim = int(metrics.used * (1 + self._step * (4 if tight else 1) / 100))
        aim = max(self._least, min(self._most, metrics.max or self._most, aim))
        self.reason = f"{metrics.used >> 20} MiB used" + (", pressed" if tight else "")
        # Small steps are not worth the host's reclaim.
        if metrics.high is not None and abs(aim - metrics.high) * 10 < aim:
            return None
        return Memory(high=aim)


CPU = {
    "adaptive": (Adaptive, {}),
    "slices": (Slices, {}),
    **{name: (Fixed, {"policy": name}) for name in ("normal", "batch", "idle", "fifo", "rr")},
}
"""By name: the class, and options it is given in any case."""
MEMORY: dict[str, tuple[type[MemoryPolicy], dict[str, object]]] = {"headroom": (Headroom, {})}
