"""JSON by the interpreter's own scanner and encoder, without the package `json`, which imports `re`.

A container's start is four starts of Python, and each of them would spend a sixth of its time on importing those.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Settings:
    """What the scanner asks for: those of `json.loads`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    def __init__(self, constant: Callable[[str], Any]) -> None:
        self.parse_constant = constant
        self.memo: dict[str, str] = {}


def loads(text: str | bytes, *, parse_constant: Callable[[str], Any] = float) -> Any:
    """The value; raises ValueError, or RecursionError."""
    try:
        from _json import make_scanner
    except ImportError:
        from json import loads as slow

        return slow(text, parse_constant=parse_constant)
    if isinstance(text, bytes):
        text = text.decode()
    text = text.strip(" \t\n\r")
    try:
        value, end = make_scanner(_Settings(parse_constant))(text, 0)  # type: ignore[arg-type]
        if end == len(text):
            return value
    except (StopIteration, SystemError):
        # The scanner asks the package for its exception, and has none where that is not imported.
        pass
    # What is wrong with it, the package says.
    from json import loads as slow

    return slow(text, parse_constant=parse_constant)


def dumps(value: object, *, ensure_ascii: bool = True) -> str:
    """One line; raises TypeError or ValueError for what JSON has not."""
    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder
    except ImportError:
        from json import dumps as slow

        return slow(value, ensure_ascii=ensure_ascii)
    text = encode_basestring_ascii if ensure_ascii else encode_basestring
    return "".join(make_encoder({}, _nothing, text, None, ": ", ", ", False, False, True)(value, 0))


def _nothing(value: object) -> object:
    raise TypeError(f"not in JSON: {value!r:.60}")
