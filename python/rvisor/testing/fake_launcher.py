"""A launcher without a sandbox: it runs the program on the host and reports as the real one does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

_CLONE_PARENT = 0x8000
_SYS_CLONE = 56
_PR_SET_PDEATHSIG = 1
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(argv: list[str]) -> int:
    """Launch the specification named by the only argument, or answer --doctor, --surface, --syscalls."""
    answers = {
        "--doctor": [{"name": "fake", "ok": True, "required": True, "detail": "nothing is needed", "fix": ""}],
        "--surface": {
            part: {
                "default": "kill",
                "foreign": "kill",
                "instructions": 3,
                "calls": [{"nr": 0, "name": "read", "conditions": "", "action": "allow", "reason": "a fake"}],
            }
            for part in ("stub", "sentry")
        },
        "--syscalls": [
            {"nr": 0, "name": "read", "support": "full", "caveat": ""},
            {"nr": 16, "name": "ioctl", "support": "partial", "caveat": "terminals only"},
        ],
    }
    if len(argv) != 1:
        return 125
    if argv[0] in answers:
        print(json.dumps(answers[argv[0]]))
        return 0
    with open(argv[0], encoding="utf-8") as file:
        spec = json.load(file)
    os.set_inheritable(spec["events_fd"], False)
    mode = os.environ.get("RVISOR_FAKE", "")
    if mode == "launcher-fails":
        return 3
    if mode == "launcher-says":
        _event(spec, {"event": "failed", "status": 125, "message": "no luck"})
        print("rvisor-launch: no luck", file=sys.stderr)
        return 125
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        return 125
    if pid:
        _event(spec, {"event": "launched", "pid": pid})
        return 0
    _sentry(spec, mode, libc)
    os._exit(0)


def _sentry(spec: dict[str, Any], mode: str, libc: ctypes.CDLL) -> None:
    if mode == "sentry-dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "nonsense":
        os.write(spec["events_fd"], b"hello\n")
        signal.pause()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    process = spec["process"]
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        try:
            os.chdir(process["cwd"])
            os.execvpe(process["args"][0], process["args"], dict(v.split("=", 1) for v in process["env"]))
        except FileNotFoundError:
            status = 127
        except OSError:
            status = 126
        _event(spec, {"event": "failed", "status": status, "message": f"{process['args'][0]}: cannot be executed"})
        os._exit(status)
    for number in _FORWARDED:
        signal.signal(number, lambda caught, _frame: os.kill(child, caught))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    _event(spec, {"event": "started", "ns": 1})
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _event(
        spec, {"event": "exited", "status": code if code >= 0 else 128 - code, "signal": -code if code < 0 else None}
    )


def _event(spec: dict[str, Any], event: dict[str, Any]) -> None:
    os.write(spec["events_fd"], json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
