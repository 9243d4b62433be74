"""Starts /bin/true as a Python program does: `python -m rvisor.bench.sdk RUNS CROWD HOW`.

HOW is a platform of `rvisor.Sandbox`, or JSON: RUNS + CROWD commands, each of which starts it once.
Prints JSON: how long each of RUNS took one after the other, and all of CROWD beside each other, in seconds; with a
platform also how long each of RUNS took from the launcher's first instruction to the program's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ARGS = ["/bin/true"]


def by_sandbox(platform: str, within: list[float]) -> Callable[[], Callable[[], int]]:
    """What starts one sandbox by the SDK, and gives what waits for its end and notes the start's own time."""
    from rvisor import Sandbox

    box = Sandbox(platform=platform, cwd="/")

    def begin() -> Callable[[], int]:
        running = box.start(ARGS)

        def end() -> int:
            try:
                result = running.wait()
                within.append(result.started_ns / 1e9)
                return result.status
            finally:
                running.close()

        return end

    return begin


def by_commands(commands: list[list[str]]) -> Callable[[], Callable[[], int]]:
    """The same by the next of the commands."""
    left = iter(commands)

    def begin() -> Callable[[], int]:
        return subprocess.Popen(next(left), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).wait

    return begin


def main(argv: list[str]) -> int:
    """Start them."""
    runs, crowd = int(argv[0]), int(argv[1])
    within: list[float] = []
    begin = by_commands(json.loads(argv[2])) if argv[2].startswith("[") else by_sandbox(argv[2], within)
    times: list[float] = []
    failed = 0
    for _ in range(runs):
        begun = time.perf_counter()
        failed += begin()() != 0
        times.append(time.perf_counter() - begun)
    told: dict[str, object] = {"one": times, "within": within[:]}
    begun = time.perf_counter()
    ends = [begin() for _ in range(crowd)]
    failed += sum(end() != 0 for end in ends)
    print(json.dumps(told | {"crowd": time.perf_counter() - begun}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
