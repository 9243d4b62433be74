"""`rvisor doctor`: does this host have what rVisor needs? `--surface`: what may the sandbox ask of the host?"""

from __future__ import annotations

import json
import os

from rvisor._sentry import find, spawn
from rvisor.cli.output import as_json, table
from rvisor.cli.parser import Parser
from rvisor.errors import BinaryMissing, LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parser() -> Parser:
    """The options of `rvisor doctor`."""
    made = Parser(
        prog="rvisor doctor",
        description="Check every requirement, and say what to do about those that fail.",
        epilog="Exit status: 0 when all required checks pass, 1 when one fails.\n\nExamples:\n  rvisor doctor\n"
        "  rvisor doctor --surface\n",
    )
    made.add_argument("--json", action="store_true", help="print JSON: name, ok, required, detail, fix")
    made.add_argument("--surface", action="store_true", help="list the host calls that our processes may make")
    return made


def main(argv: list[str]) -> int:
    """Print the checks."""
    options = parser().parse_args(argv)
    if options.surface:
        return _surface(as_text=not options.json)
    checks = binaries()
    if all(check["ok"] for check in checks):
        checks += parse_checks(spawn.run_tool([find.find(find.LAUNCHER), "--doctor"]))
    checks.append(_network_helper())
    failed = [check for check in checks if not check["ok"] and check.get("required", True)]
    if options.json:
        print(as_json(checks))
        return 1 if failed else 0
    for check in checks:
        word = "pass" if check["ok"] else "FAIL" if check.get("required", True) else "warn"
        print(f"{word}  {check['name']}" + (f": {check['detail']}" if check.get("detail") else ""))
        if not check["ok"] and check.get("fix"):
            print(f"      what to do: {check['fix']}")
    print("\nThis host can run rVisor." if not failed else f"\n{len(failed)} of {len(checks)} checks failed.")
    return 1 if failed else 0


def _network_helper() -> dict[str, Any]:
    from rvisor._sentry import network

    check: dict[str, Any] = {"name": "--network user", "ok": True, "required": False}
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return {
            **check,
            "ok": False,
            "detail": "/dev/net/tun is not for this user",
            "fix": "modprobe tun; chmod 666 /dev/net/tun",
        }
    if found := network.find():
        return {**check, "detail": f"{found[0]}: {found[1]}"}
    return {**check, "ok": False, "detail": "neither pasta nor slirp4netns is here", "fix": network.INSTALL}


def binaries() -> list[dict[str, Any]]:
    """Whether the executables are there."""
    checks: list[dict[str, Any]] = []
    for name in (find.LAUNCHER, find.SENTRY, find.STUB):
        try:
            checks.append({"name": f"executable {name}", "ok": True, "detail": find.find(name)})
        except BinaryMissing as error:
            checks.append({"name": f"executable {name}", "ok": False, "detail": str(error), "fix": error.hint})
    return checks


def parse_checks(answer: tuple[int, bytes, bytes]) -> list[dict[str, Any]]:
    """The launcher's checks: a JSON array, or one object a line, with name, ok, detail, fix and perhaps required."""
    status, out, err = answer
    text = out.decode(errors="replace").strip()
    try:
        parsed = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
        if not parsed:
            raise ValueError("empty")
        return [check for check in parsed if check["name"] is not None and check["ok"] is not None]
    except (ValueError, KeyError, TypeError, AttributeError):
        said = err.decode(errors="replace").strip() or text
        raise LaunchError(f"{find.LAUNCHER} --doctor ended with status {status}: {said[:500]}") from None


def _surface(*, as_text: bool) -> int:
    status, out, err = spawn.run_tool([find.find(find.LAUNCHER), "--surface"])
    try:
        surface = json.loads(out)
        if status != 0:
            raise ValueError(status)
        if not as_text:
            print(as_json(surface))
            return 0
        for part, policy in surface.items():
            rules = policy["calls"]
            numbers = {rule["nr"] for rule in rules}
            instructions, default = policy["instructions"], policy["default"]
            print(f"{part}: {len(numbers)} host calls; every other: {default} ({instructions} instructions)\n")
            rows = [[rule["name"], rule["action"], rule["conditions"], rule["reason"]] for rule in rules]
            print(table(["call", "answer", "only if", "because"], rows) + "\n")
    except (ValueError, KeyError, TypeError):
        said = err.decode(errors="replace").strip() or out.decode(errors="replace")
        raise LaunchError(f"{find.LAUNCHER} --surface ended with status {status}: {said[:500]}") from None
    return 0
