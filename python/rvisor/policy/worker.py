"""A user's policy class, in a process of its own: a JSON object a line comes in, one goes out.

The first line is the options; every other one is metrics. What the class prints goes to standard error.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from typing import Any

from rvisor.policy import metrics, policies
from rvisor.policy.load import entry_points, plain


def main(kind: str, spec: str) -> int:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    base: Any = policies.CpuPolicy if kind == "cpu" else policies.MemoryPolicy
    told: Any = metrics.CpuMetrics if kind == "cpu" else metrics.MemoryMetrics
    policy: Any = None
    for line in sys.stdin:
        answer: dict[str, object]
        try:
            said = json.loads(line)
            if policy is None:
                policy = find(spec, base, entry_points(kind))(**said)
                answer = {"ready": True}
            else:
                answer = {"decision": plain(policy.decide(told(**said))), "reason": str(policy.reason)}
            text = json.dumps(answer)
        # Whatever a user's class raises is told, not passed on: SystemExit ends this process, as it asks.
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}, line {place.lineno})"
            text = json.dumps({"error": why})
        answers.write(text + "\n")
        answers.flush()
    return 0


def find(spec: str, base: type, points: dict[str, str]) -> type:
    """The class `spec` names; of a file without one, the only class in it that is a policy."""
    spec = points.get(spec, spec)
    place, colon, name = spec.rpartition(":")
    if not colon or (place == "" and name.endswith(".py")):
        place, name = spec, ""
    if place.endswith(".py"):
        found = importlib.util.spec_from_file_location("rvisor_user_policy", place)
        if found is None or found.loader is None:
            raise ImportError(f"{place} is no Python file")
        module = importlib.util.module_from_spec(found)
        sys.modules[found.name] = module
        found.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    if name:
        made = getattr(module, name)
        if not (isinstance(made, type) and issubclass(made, base)):
            raise TypeError(f"{spec} is not derived from {base.__name__}")
        return made
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise TypeError(f"{place} has {len(own)} classes derived from {base.__name__}: name one, as {place}:CLASS")
    return own[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
