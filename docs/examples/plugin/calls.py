"""System calls of one's own, for the profile beside this file.

rvisor run --kernel=shared --profile docs/examples/plugin/profile.toml -- python3 -c '
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(400, 12))
room = ctypes.create_string_buffer(64)
print(libc.syscall(401, b"PATH", room, 64), room.value)'
"""

import errno
import os

from rvisor.plugin import Call

SETTINGS = {"PATH": "/srv/shop", "LEVEL": "3"}


def square(call: Call) -> int:
    """square(n)."""
    return call.args[0] ** 2


def setting(call: Call) -> int:
    """setting(name, room, size): a value of the operator's; how long it is."""
    name, room, size = call.args[:3]
    value = SETTINGS.get(call.string(name, limit=64))
    if value is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    data = value.encode() + b"\0"
    if len(data) > size:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
    call.write(room, data)
    return len(value)
