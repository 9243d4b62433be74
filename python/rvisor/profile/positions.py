"""Where each key of a TOML text stands. tomllib says this of syntax errors only.

The text is known to be valid, so that this need only follow its brackets and strings; it is read when there is an error
to report.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r]+|\#[^\n]*)
    |(?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<double>\[\[|\]\])
    |(?P<mark>[\[\]{}=,.\n])
    |(?P<bare>[^\s\[\]{}=,.\#"']+)""",
    re.VERBOSE | re.DOTALL,
)


def find(text: str, keys: tuple[str | int, ...]) -> tuple[int, int] | None:
    """Line and column, from 1, of the longest part of `keys` that is in the text."""
    return find_all(text, [keys])[0]


def find_all(text: str, wanted: list[tuple[str | int, ...]]) -> list[tuple[int, int] | None]:
    """As `find`, for several at once."""
    places = index(text)
    found: list[tuple[int, int] | None] = []
    for keys in wanted:
        at = next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), None)
        found.append(None if at is None else (text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)))
    return found


def index(text: str) -> dict[tuple[str | int, ...], int]:
    """The offset of every key, table and element of a list."""
    return _Index(text).places


def find_in_json(text: str, keys: tuple[str | int, ...]) -> tuple[int, int]:
    """As `find`, in a JSON text that is known to be valid; its beginning if nothing of `keys` is there."""
    import json.decoder

    skip = json.JSONDecoder().raw_decode
    at = found = _blanks(text, 0)
    for key in keys:
        if text[at] != ("{" if isinstance(key, str) else "["):
            break
        begins: int | None = None
        number, end = 0, _blanks(text, at + 1)
        while text[end] not in "]}":
            place, name = end, number
            if isinstance(key, str):
                name, end = json.decoder.scanstring(text, end + 1)  # type: ignore[attr-defined]
                end = _blanks(text, _blanks(text, end) + 1)
            if name == key:
                # Of a name that is there twice the last counts.
                found, begins = place, end
            number, end = number + 1, _blanks(text, skip(text, end)[1])
            end = _blanks(text, end + 1) if text[end] == "," else end
        if begins is None:
            break
        at = begins
    return text.count("\n", 0, found) + 1, found - text.rfind("\n", 0, found)


def _blanks(text: str, at: int) -> int:
    """Where something begins again."""
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at


class _Index:
    def __init__(self, text: str) -> None:
        self.places: dict[tuple[str | int, ...], int] = {}
        self._tokens = [
            (found.lastgroup or "", found.group(), found.start())
            for found in _TOKEN.finditer(text)
            if found.lastgroup != "skip"
        ]
        self._at = 0
        self._counts: dict[tuple[str | int, ...], int] = {}
        self._document()

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", -1)

    def _next(self) -> tuple[str, str, int]:
        token = self._peek()
        self._at += 1
        return token

    def _split(self) -> None:
        # `[[` and `]]` are one token only where a line begins with them: elsewhere lists stand in lists.
        kind, word, at = self._peek()
        if kind == "double":
            self._tokens[self._at : self._at + 1] = [("mark", word[0], at), ("mark", word[0], at + 1)]

    def _document(self) -> None:
        table: tuple[str | int, ...] = ()
        while self._peek()[0] != "end":
            kind, word, at = self._peek()
            if word == "\n":
                self._next()
            elif kind == "double" or word == "[":
                self._next()
                keys, _ = self._key()
                self._next()
                table = (*self._resolve(keys[:-1]), keys[-1])
                for length in range(1, len(table)):
                    self.places.setdefault(table[:length], at)
                if kind == "double":
                    count = self._counts.get(table, 0)
                    self._counts[table] = count + 1
                    self.places.setdefault(table, at)
                    table = (*table, count)
                self.places.setdefault(table, at)
            else:
                self._pair(table)

    def _resolve(self, keys: list[str]) -> tuple[str | int, ...]:
        """A header's names: where a list of tables is named, its last one is meant."""
        path: tuple[str | int, ...] = ()
        for key in keys:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _key(self) -> tuple[list[str], int]:
        start = self._peek()[2]
        names = []
        while True:
            kind, word, _ = self._next()
            names.append(_unquoted(word) if kind == "string" else word)
            if self._peek()[1] != ".":
                return names, start
            self._next()

    def _pair(self, table: tuple[str | int, ...]) -> None:
        names, at = self._key()
        path = table
        for name in names:
            path = (*path, name)
            self.places.setdefault(path, at)
        self._next()
        self._value(path)

    def _value(self, path: tuple[str | int, ...]) -> None:
        self._split()
        kind, word, _ = self._next()
        if word == "[" and kind == "mark":
            self._list(path)
        elif word == "{" and kind == "mark":
            while self._peek()[1] != "}":
                if self._peek()[1] in (",", "\n"):
                    self._next()
                else:
                    self._pair(path)
            self._next()
        elif kind == "bare":
            # A number or a time may have a point or a blank in it.
            while self._peek()[0] == "bare" or self._peek()[1] == ".":
                self._next()

    def _list(self, path: tuple[str | int, ...]) -> None:
        count = 0
        while True:
            self._split()
            kind, word, at = self._peek()
            if kind == "mark" and word in ("]", ",", "\n"):
                self._next()
                if word == "]":
                    return
                continue
            self.places[(*path, count)] = at
            self._value((*path, count))
            count += 1


def _unquoted(word: str) -> str:
    import tomllib

    return str(tomllib.loads(f"key = {word}")["key"])
