"""What people write, turned into values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rvisor import Sandbox, UsageError, _options
from rvisor.cli.parser import split_command
from rvisor.cli.run import parser
from rvisor.profile import private


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512m", 512 << 20),
        ("2g", 2 << 30),
        ("1.5G", 3 << 29),
        ("16MiB", 16 << 20),
        ("64mb", 64 << 20),
        (1 << 30, 1 << 30),
    ],
)
def test_memory(text: str | int, size: int) -> None:
    assert _options.memory(text) == size


@pytest.mark.parametrize("text", ["", "m", "lots", "-5m", "1k", "0", "nan", "infg", "99999999999t", "5x"])
def test_memory_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        _options.memory(text)


def test_cpus() -> None:
    assert _options.millicpus("1.5") == 1500
    assert _options.millicpus(0.5) == 500
    for text in ("0", "-1", "x", "nan", "inf", "0.001"):
        with pytest.raises(UsageError, match="--cpus"):
            _options.millicpus(text)


def test_timeout_and_pids() -> None:
    assert _options.seconds("0.5") == 0.5
    assert _options.pids("7") == 7
    for text in ("0", "-1", "soon", "nan", "inf"):
        with pytest.raises(UsageError, match="--timeout"):
            _options.seconds(text)
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(UsageError, match="--pids"):
            _options.pids(text)


@pytest.mark.parametrize(
    ("add", "drop", "mask"),
    [
        ([], [], 0xA80425FB),
        (["SYS_ADMIN"], [], 0xA82425FB),
        (["cap_sys_admin"], ["CHOWN"], 0xA82425FA),
        (["ALL"], [], 0x1FFFFFFFFFF),
        (["ALL"], ["CAP_CHOWN"], 0x1FFFFFFFFFE),
        ([], ["ALL"], 0),
        (["CHOWN"], ["all"], 1),
    ],
)
def test_capabilities(add: list[str], drop: list[str], mask: int) -> None:
    assert private.capabilities(add, drop) == mask


def test_capabilities_refused() -> None:
    for text in ("", "SYS", "CAP_", "21"):
        with pytest.raises(UsageError, match="--cap-add"):
            private.capabilities([text], [])
    with pytest.raises(UsageError, match="--cap-drop: 'CHWN'") as caught:
        private.capabilities([], ["CHWN"])
    assert "CHOWN" in str(caught.value.hint)
    with pytest.raises(UsageError, match="host's"):
        Sandbox(kernel="shared", cap_add=["ALL"])
    with pytest.raises(UsageError, match="the profile says"):
        Sandbox(profile="default", cap_add=["ALL"])


def test_volume(tmp_path: Path) -> None:
    assert _options.volume(f"{tmp_path}:/data") == (str(tmp_path), "/data", False)
    assert _options.volume(f"{tmp_path}:/data/../x:ro") == (str(tmp_path), "/x", True)
    os.mkfifo(tmp_path / "fifo")
    for text in (
        "x",
        ":",
        f"{tmp_path}:",
        f"{tmp_path}:relative",
        f"{tmp_path}:/",
        f"{tmp_path}:/d:wo",
        f"{tmp_path}/missing:/d",
        f"{tmp_path}/fifo:/d",
        "a:b:c:d",
    ):
        with pytest.raises(UsageError, match="-v"):
            _options.volume(text)


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.delenv("NOT_MINE", raising=False)
    assert _options.variables(["A=b=c", "MINE", "NOT_MINE", "E="]) == {"A": "b=c", "MINE": "1", "E": ""}
    with pytest.raises(UsageError, match="has no name"):
        _options.variables(["=x"])


def make_root(path: Path) -> Path:
    (path / "etc").mkdir()
    (path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\nbad line\n")
    (path / "etc/group").write_text("users:x:100:\nstaff:x:50:bob,ann\nother:x:60:bob\n")
    return path


def test_user(tmp_path: Path) -> None:
    root = str(make_root(tmp_path))
    ann = _options.user("ann", root)
    assert (ann.uid, ann.gid, ann.groups, ann.home) == (1000, 100, [50], "/home/ann")
    assert _options.user("1000", root).home == "/home/ann"
    assert _options.user("ann:staff", root).gid == 50
    stranger = _options.user("77:88", root)
    assert (stranger.uid, stranger.gid, stranger.groups, stranger.home) == (77, 88, [], "/")
    assert _options.user(None, root).home == "/root"
    for text in ("nobody", "ann:nobody", ":5", "5:", "-1", "4294967295"):
        with pytest.raises(UsageError, match="-u"):
            _options.user(text, root)


def test_user_follows_no_link_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text("spy:x:1:1::/:/bin/sh\n")
    (root / "etc/passwd").symlink_to(tmp_path / "passwd")
    with pytest.raises(UsageError, match="no user"):
        _options.user("spy", str(root))


def test_overlay_and_root(tmp_path: Path) -> None:
    assert _options.overlay("memory") == "memory"
    assert _options.overlay(str(tmp_path)) == {"dir": str(tmp_path)}
    with pytest.raises(UsageError, match="--overlay"):
        _options.overlay("/nowhere/at/all")
    with pytest.raises(UsageError, match="--rootfs: /nowhere: No such file"):
        Sandbox(rootfs="/nowhere")
    with pytest.raises(UsageError, match="not a directory"):
        Sandbox(rootfs="/etc/passwd")
    with pytest.raises(UsageError, match="host's own root"):
        Sandbox(overlay="none")


@pytest.mark.parametrize("text", ["", "a b", "x" * 65, "ä", "a/b"])
def test_hostname_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--hostname"):
        _options.hostname(text)


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        ("ls -l", "ls -l"),
        ("-- -odd", "-odd"),
        ("-it -e A=b bash -c x", "bash -c x"),
        ("--strace ls -v", "ls -v"),
        ("--strace=f ls", "ls"),
        ("-v a:b --timeout 3 -- ls -- x", "ls -- x"),
        ("-va:b ls", "ls"),
        ("-itu 5 ls", "ls"),
        ("--memory=5m ls --memory 5", "ls --memory 5"),
        ("-i", ""),
    ],
)
def test_split(argv: str, command: str) -> None:
    assert split_command(parser(), argv.split())[1] == command.split()
