"""One schema: the Python messages have the names that `crates/wire` has."""

from __future__ import annotations

import re
import typing

import pytest

from framework.inside import ROOT
from rvisor._sentry import messages
from rvisor.errors import UsageError

WIRE = (ROOT / "crates/wire/src/lib.rs").read_text()


def rust_fields(kind: str, name: str) -> set[str]:
    body = re.search(rf"pub {kind} {name} \{{(.*?)\n\}}", WIRE, re.DOTALL)
    assert body, f"wire has no {kind} {name}"
    code = re.sub(r"//.*|#\[.*\]", "", body.group(1))
    return set(re.findall(r"^\s*pub (\w+):", code, re.MULTILINE))


def python_types() -> dict[str, type]:
    source = (
        (ROOT / "python/rvisor/_sentry/messages.py")
        .read_text()
        .replace("TYPE_CHECKING = False", "TYPE_CHECKING = True")
    )
    namespace: dict[str, typing.Any] = {"__name__": "messages"}
    exec(compile(source, "messages.py", "exec"), namespace)
    return {name: value for name, value in namespace.items() if isinstance(value, type)}


@pytest.mark.parametrize("name", ["LaunchSpec", "Root", "Volume", "Process", "Limits"])
def test_structures(name: str) -> None:
    assert set(python_types()[name].__annotations__) == rust_fields("struct", name)


def test_events() -> None:
    body = re.search(r"pub enum Event \{(.*?)\n\}", WIRE, re.DOTALL)
    assert body
    code = re.sub(r"//.*|#\[.*\]", "", body.group(1))
    variants = re.findall(r"(\w+) \{(.*?)\}", code, re.DOTALL)
    found = {name.lower(): tuple(re.findall(r"(\w+):", fields)) for name, fields in variants}
    assert found == messages.EVENTS


def test_enumerations() -> None:
    for name, words in (("Overlay", {"memory", "none", "dir"}), ("Platform", {"slots", "ptrace"})):
        body = re.search(rf"pub enum {name} \{{(.*?)\n\}}", WIRE, re.DOTALL)
        assert body
        variants = re.findall(r"^\s*(\w+)(?:\(\w+\))?,", re.sub(r"//.*", "", body.group(1)), re.MULTILINE)
        assert {variant.lower() for variant in variants} == words


def test_decode_refuses_nonsense() -> None:
    assert messages.decode(b'{"event": "launched", "pid": 5}')["pid"] == 5
    for line in (b"", b"hello", b"[]", b'{"event": "other"}', b"{}"):
        with pytest.raises(ValueError):
            messages.decode(line)


def test_encode_refuses_what_is_not_utf8() -> None:
    spec = typing.cast(typing.Any, {"id": "a\udcff"})
    with pytest.raises(UsageError, match="UTF-8"):
        messages.encode(spec)
