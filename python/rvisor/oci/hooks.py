"""The operator's programs that run at the turns of a container's life."""

from __future__ import annotations

from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rvisor._sentry import messages
    from rvisor.oci.config import Hook

_SAID = 4096


def run(stage: str, hooks: Iterable[Hook], state: dict[str, object], *, bundle: str) -> None:
    """Run them one after another with the state on their standard input; raises OciError at the first that fails."""
    import os
    import signal
    import subprocess
    from json import dumps

    for number, hook in enumerate(hooks):
        name = f"hook {stage} #{number} ({hook.path})"
        env = dict(entry.partition("=")[::2] for entry in hook.env)
        try:
            started = subprocess.Popen(
                hook.args,
                executable=hook.path,
                env=env,
                cwd=bundle,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise OciError(f"{name}: {(error.strerror or '').lower()}") from None
        try:
            _, said = started.communicate(dumps(state).encode(), timeout=hook.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            raise OciError(f"{name}: not done after {hook.timeout} s: killed") from None
        if started.returncode != 0:
            text = said[-_SAID:].decode(errors="replace").strip()
            raise OciError(f"{name}: ended with status {started.returncode}: {text}")


def record(hooks: Iterable[Hook]) -> list[messages.Hook]:
    """As written down, for the stages that come later; or for the launcher, which runs those of inside."""
    return [{"path": h.path, "args": h.args, "env": h.env, "timeout": h.timeout} for h in hooks]
