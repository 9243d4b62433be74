"""What `runrsc` refuses or fails at."""

from __future__ import annotations

from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.messages import Process


class OciError(RvisorError):
    """A command of the runtime's failed; callers read the text, so what runc has words for is said in them."""

    status = 1


class NoSuchContainer(OciError):
    """There is no container of this name."""

    def __init__(self) -> None:
        super().__init__("container does not exist")


def not_begun(error: RvisorError, process: Process) -> OciError:
    """A program that could not be started, in runc's words: Docker and Podman choose their exit status by them."""
    why, name, cwd = str(error), process["args"][0], process["cwd"]
    if why.startswith(f"cannot start in {cwd}: "):
        why = f"chdir to cwd ({_quoted(cwd)}) set in config.json failed: {why.removeprefix(f'cannot start in {cwd}: ')}"
    elif why.startswith(f"cannot run {name}: "):
        why = why.removeprefix(f"cannot run {name}: ")
        if why == "no such file or directory":
            why = f"stat {name}: {why}" if "/" in name else "executable file not found in $PATH"
        why = f"exec: {_quoted(name)}: {why}"
    else:
        return OciError(why, hint=error.hint)
    return OciError(f"unable to start container process: {why}")


def _quoted(text: str) -> str:
    from rvisor._sentry.plainjson import dumps

    return dumps(text, ensure_ascii=False)
