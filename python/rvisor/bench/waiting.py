"""Sandboxes that stand and wait: each says a line, and goes on when it is given one."""

from __future__ import annotations

import subprocess
import threading

from rvisor.bench.native import last_line
from rvisor.bench.peers import Job
from rvisor.errors import RvisorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvisor.bench.peers import Peer

SECONDS = 180.0
"""Who has not ended by then is killed."""

IDLE = ["/bin/sh", "-c", "echo ready; read line"]


class Waiting:
    """Jobs beside each other; leave it, and none of them is left."""

    def __init__(self, peer: Peer, jobs: Sequence[Job]) -> None:
        self._peer = peer
        commands = [(peer.argv(job), peer.env(job)) for job in jobs]
        pipe = subprocess.PIPE
        self.processes = [
            peer.place.start(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe) for argv, env in commands
        ]
        self._alarm = threading.Timer(SECONDS, self._kill)
        self._alarm.daemon = True
        self._alarm.start()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._alarm.cancel()
        self._kill()
        for process in self.processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._peer.place.group.clear()

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()

    def ready(self) -> None:
        """Wait until every one has said its line."""
        for process in self.processes:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                process.kill()
                _, said = process.communicate()
                raise RvisorError(f"{self._peer.name}: does not start: {last_line(said)}")

    def finish(self) -> list[bytes]:
        """Let all go on, to their ends; what each has written."""
        for process in self.processes:
            assert process.stdin is not None
            try:
                process.stdin.write(b"\n")
                process.stdin.close()
            except BrokenPipeError:
                continue
            finally:
                process.stdin = None
        written = []
        for process in self.processes:
            out, said = process.communicate()
            if process.returncode != 0:
                raise RvisorError(f"{self._peer.name}: status {process.returncode}: {last_line(said or out)}")
            written.append(out)
        return written
