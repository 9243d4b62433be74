"""Guests that overwrite their stub, forge requests and scribble over their slots: only their own death is allowed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from framework import host, inside

SECONDS = 60
STATUS = 7
"""What overwrite.c ends with."""
WAYS = {
    "guest_calls_on_stub": 1,
    "host_munmap_text": 1,
    "host_munmap_region": 1,
    "host_munmap_threads": 1,
    "host_protect_text": 1,
    "host_map_over_region": 1,
    "host_move_text": 1,
    "host_unmap_all": 1,
    "scribble_text": 20,
    "scribble_tls": 20,
    "garbage": 40,
    "garbage_signals": 40,
    "garbage_forks": 4,
    "flood_slot": 5,
    "flood_seq": 1,
    "flood_hot": 1,
    "wrong_bells": 1,
    "no_socket": 1,
    "full_socket": 1,
    "rogue_forks": 2,
    "write_what_may_be_read": 1,
    "deaf": 1,
}
"""Each way, and how many seeds it is tried with."""

NEIGHBOUR = """
i=0 line=
while [ -e /etc/passwd ]; do
    i=$((i + 1)); [ "$(echo $i)" = $i ] || exit 3
    if read -t 0.05 part; then [ "$line$part" = end ] && break; line=; else line=$line$part; fi
done
echo $i
"""
"""read may be out of time between two bytes of a line."""


@pytest.fixture(scope="module")
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """Another sandbox, which forks and reads all the while, and counts."""
    script = f"echo ready;{NEIGHBOUR}"
    with host.sandbox("run", "-i", "--", "bash", "-c", script, ready="ready", stdin=subprocess.PIPE) as n:
        yield n
        assert n.poll() is None, "the neighbour was harmed"
        assert n.stdin is not None
        n.stdin.write(b"end\n")
        n.stdin.flush()
        done = host.status(n, 20)
        assert (done.status, done.err) == (0, "")
        assert int(done.out) > 0


def test_every_way_is_tried(guest: Callable[[str], str]) -> None:
    assert inside.rvisor("run", "--", guest("overwrite")).out.split() == list(WAYS)


@pytest.mark.parametrize("way", WAYS)
def test_only_the_guest_is_harmed(way: str, guest: Callable[[str], str], neighbour: subprocess.Popen[bytes]) -> None:
    seeds = [f"{way}:{seed}" for seed in range(WAYS[way])]
    done = inside.rvisor("run", "--timeout", str(SECONDS), "--", guest("overwrite"), *seeds, timeout=SECONDS + 10)
    assert done.out.splitlines()[-1:] == ["alive"], (done.out[-500:], done.err[-2000:])
    assert (done.status, done.err) == (STATUS, "")
    outcomes = [line.split() for line in done.out.splitlines()[:-1]]
    assert [name for name, *_ in outcomes] == seeds
    if way in ("guest_calls_on_stub", "flood_hot", "wrong_bells"):
        # These do nothing that could not be answered.
        assert [rest for _, *rest in outcomes] == [["ended", "0x0"]]
    assert neighbour.poll() is None
