"""Boxes: a directory with a kernel of its own, in which programs are started by path.

`runrsc box` and the control socket use this.
A box is a container whose first process only waits (and lets orphans go), so that programs come and end as they like.
What runs in it is started over its kernel's control socket. `docs/box.md` is for people.
"""

from __future__ import annotations

import os
import shutil
import struct

from rvisor.errors import SandboxGone
from rvisor.oci import about, state
from rvisor.oci import create as creating
from rvisor.oci.errors import NoSuchContainer, OciError
from rvisor.oci.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rvisor._sentry.control import Control
    from rvisor._sentry.messages import Process
    from rvisor.oci.state import Container

MEMORY = 64 << 20
SWAPPINESS = 0
_INIT = "/dev/.init"
_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
]  # fmt: skip


def waiting_program() -> bytes:
    """An x86-64 executable: sigaction(SIGCHLD, SIG_IGN), so that orphans are reaped; then pause(2) for ever."""
    code = bytes.fromhex(
        "b80d000000"  # mov eax, 13
        "bf11000000"  # mov edi, 17
        "488d3518000000"  # lea rsi, [rip + 24]: behind the code
        "31d2"  # xor edx, edx
        "41ba08000000"  # mov r10d, 8
        "0f05"  # syscall
        "b822000000"  # mov eax, 34
        "0f05"  # syscall
        "ebf7"  # jmp to the last mov
    )
    code = code.ljust(17 + 24, b"\x90") + struct.pack("<QQQQ", 1, 0, 0, 0)
    base, start = 0x400000, 64 + 56
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, start + len(code), start + len(code), 4096)
    return header + segment + code


class Boxes:
    """The boxes of one `--root`."""

    def __init__(self, root: str = "") -> None:
        self.root = root or state.default_root()
        self._bundles = f"{self.root}-boxes"

    def create(
        self,
        path: str,
        *,
        memory: int = MEMORY,
        swappiness: int | None = SWAPPINESS,
        files: Sequence[tuple[str, str]] = (),
    ) -> int:
        """CREATE: a box whose root is this directory; its id.

        `files`: of the host's, and where they are inside, read-only.
        """
        if not os.path.isdir(path):
            raise OciError(f"box: {path}: not a directory")
        number, bundle = self._new()
        try:
            with open(os.path.join(bundle, "init"), "wb") as file:
                file.write(waiting_program())
            os.chmod(os.path.join(bundle, "init"), 0o755)
            mounts = [(os.path.join(bundle, "init"), _INIT), *files]
            self._configure(bundle, os.path.abspath(path), mounts, memory, swappiness)
            request = creating.Request(root=self.root, name=_name(number), bundle=bundle, log=Log())
            # The box outlives this call: nothing may wait for the end of its output.
            null = os.open(os.devnull, os.O_RDWR)
            request.streams = (null, null, null)
            try:
                container = creating.create(request)
            finally:
                os.close(null)
            with container.control() as control:
                control.start()
            container.write(phase="running")
        except BaseException:
            self._discard(number)
            raise
        return number

    def control(self, number: int) -> Control:
        """A connection to the box's kernel."""
        try:
            return self.find(number).control()
        except SandboxGone:
            raise OciError(f"box {number} has ended: `runrsc box shutdown` removes it") from None

    def add(self, number: int, process: Process, descriptors: Sequence[int] = (0, 1, 2)) -> tuple[Control, int]:
        """Start a program in the box: the connection over which its end is told, and its pid inside."""
        control = self.control(number)
        return control, control.exec(process, descriptors=descriptors)

    def remove(self, number: int) -> None:
        """REMOVE: end all that runs in the box, and forget it."""
        self.find(number)
        self._discard(number)

    def find(self, number: int) -> Container:
        try:
            return state.find(self.root, _name(number))
        except NoSuchContainer:
            raise OciError(f"there is no box {number}") from None

    def every(self) -> list[int]:
        """The ids of all boxes, oldest first."""
        try:
            names = os.listdir(self._bundles)
        except FileNotFoundError:
            return []
        numbers = sorted(int(name) for name in names if name.isdecimal())
        return [n for n in numbers if os.path.isdir(os.path.join(self.root, _name(n)))]

    def root_of(self, number: int) -> str:
        return str(self.find(number).data.get("rootfs", ""))

    def _new(self) -> tuple[int, str]:
        try:
            os.makedirs(self._bundles, 0o700, exist_ok=True)
            number = max([0, *(int(name) for name in os.listdir(self._bundles) if name.isdecimal())]) + 1
            while True:
                bundle = os.path.join(self._bundles, str(number))
                try:
                    os.mkdir(bundle, 0o700)
                    return number, bundle
                except FileExistsError:
                    number += 1
        except OSError as error:
            raise OciError(f"box: making {self._bundles}: {error.strerror}") from None

    def _configure(
        self, bundle: str, root: str, files: Sequence[tuple[str, str]], memory: int, swappiness: int | None
    ) -> None:
        from json import dumps

        from rvisor.oci import cgroups

        config: dict[str, Any] = about.default()
        sets = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
        config["process"].update(args=[_INIT], env=[], capabilities=sets, noNewPrivileges=False, rlimits=[])
        config["root"] = {"path": root, "readonly": False}
        config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/dev/shm"]
        config["mounts"] += [
            {"destination": inside, "type": "bind", "source": path, "options": ["bind", "ro"]} for path, inside in files
        ]
        limits: dict[str, int] = {"limit": memory}
        if swappiness is not None and not cgroups.unified():
            limits["swappiness"] = swappiness
        elif swappiness == 0:
            limits["swap"] = memory
        config["linux"]["resources"] = {"memory": limits}
        config["linux"]["cgroupsPath"] = f"/runrsc-{os.path.basename(bundle)}-{os.getpid()}"
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
            file.write(dumps(config))

    def _discard(self, number: int) -> None:
        try:
            state.find(self.root, _name(number), lock=True, damaged=True).destroy()
        except NoSuchContainer:
            pass
        shutil.rmtree(os.path.join(self._bundles, str(number)), ignore_errors=True)
        try:
            os.rmdir(self._bundles)
        except OSError:
            return


def _name(number: int) -> str:
    return f"box-{number}"


def program(args: Sequence[str], env: Sequence[str] = ()) -> Process:
    """As the boxes have it: an empty environment but for what is given, and PWD; the directory is /."""
    from rvisor._sentry import messages

    made = messages.process(list(args), env={}, cwd="/")
    made["env"] = [*env, "PWD=/"]
    mask = sum(1 << _config().CAPABILITIES.index(name.removeprefix("CAP_")) for name in _CAPABILITIES)
    made["capabilities"] = {"bounding": mask, "effective": mask, "permitted": mask, "inheritable": 0, "ambient": 0}
    return made


def _config() -> Any:
    from rvisor.oci import config

    return config
