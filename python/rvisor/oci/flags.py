"""Flags as Go's commands take them: `--name value`, `--name=value`, `-n value`; a switch may have `=false`."""

from __future__ import annotations

from rvisor.oci.errors import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Flags:
    """What was given. `words` are the arguments that are no flags."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """The last value of a flag."""
        return self.values.get(name, [default])[-1]

    def every(self, name: str) -> list[str]:
        """All values of a flag that may be repeated."""
        return self.values.get(name, [])

    def on(self, name: str) -> bool:
        """Is the switch on?"""
        return self.text(name, "false") == "true"

    def given(self, name: str) -> bool:
        return name in self.values


def parse(args: Sequence[str], known: Mapping[str, str], *, command: str, mixed: bool = False) -> Flags:
    """`known`: each flag's name, `v` if it has a value, `s` for a switch, `=x` for another name of `x`.

    Flags end at the first word that is none, unless `mixed`; `--` ends them always.
    """
    flags = Flags()
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            flags.words += rest
            break
        if not word.startswith("-") or word == "-":
            flags.words.append(word)
            if not mixed:
                flags.words += rest
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        kind = known.get(name, "")
        if kind.startswith("="):
            name = kind[1:]
            kind = known[name]
        if kind == "s":
            value = value.lower() if equals else "true"
            if value in ("1", "t", "true"):
                value = "true"
            elif value in ("0", "f", "false"):
                value = "false"
            else:
                raise OciError(f"{command}: --{name}: {value!r} is neither true nor false")
        elif kind == "v":
            if not equals:
                if not rest:
                    raise OciError(f"{command}: --{name} needs a value")
                value = rest.pop(0)
        else:
            raise OciError(f"{command}: there is no flag {word.partition('=')[0]}")
        flags.values.setdefault(name, []).append(value)
    return flags
