"""Profiles from TOML files: every mistake is said with its place, all of a file's at once."""

from __future__ import annotations

import os
import re
import stat

from rvisor.errors import ProfileError
from rvisor.profile import sections, support
from rvisor.profile.fields import PROFILE, Field
from rvisor.profile.model import Origin, Profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rvisor.profile.model import Kernel

    Keys = tuple[str | int, ...]

LARGEST = 64 << 20
DEEPEST = 16
_MISTAKES = 20
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load(path: str | os.PathLike[str], *, kernel: Kernel | None = None) -> Profile:
    """The profile of this file, or with a plain name the one shipped under it.

    With `kernel`, what that kernel cannot enforce is refused. Raises ProfileError.
    """
    reader = _Reader()
    profile = reader.file(_find(os.fspath(path), "", ""), Profile(name=""), ())
    if kernel is not None:
        support.refuse(profile, kernel)
    return profile


def loads(text: str, *, name: str = "profile") -> Profile:
    """The profile of this text; `name` stands for a file's in what is said of it."""
    return _Reader().text(text, name, Profile(name=""), ())


def place(origin: Origin) -> str:
    """`file:line:column: ` of something that was said, or as much of it as is known."""
    if not origin.file:
        return ""
    try:
        text = text_of(origin.file)
    except ProfileError:
        return f"{origin.file}: "
    return _place(origin.file, text, origin.keys)


def shipped() -> dict[str, str]:
    """Names and paths of the profiles that come with rVisor."""
    found = {}
    directory = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "profiles")
    for where, _, names in os.walk(directory):
        for name in names:
            if name.endswith(".toml"):
                path = os.path.join(where, name)
                found[os.path.relpath(path, directory).removesuffix(".toml")] = path
    return dict(sorted(found.items()))


def _find(name: str, directory: str, said: str) -> str:
    if name.endswith(".toml") or os.path.isabs(name) or name.startswith("."):
        return os.path.join(directory, name)
    paths = shipped()
    if name in paths:
        return paths[name]
    from difflib import get_close_matches

    near = get_close_matches(name, paths, n=1)
    hint = f"did you mean {near[0]}?" if near else "those shipped: " + ", ".join(paths)
    raise ProfileError(f"{said}there is no profile {name!r}; {hint}", hint="a file's name ends in .toml")


def text_of(path: str) -> str:
    """A file's text; only of a regular file, of a sensible size, in UTF-8. Raises ProfileError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ProfileError(f"{path!r}: no name of a file") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ProfileError(f"{path}: not a regular file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ProfileError(f"{path}: larger than {LARGEST >> 20} MiB")
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ProfileError(f"{path}:{line}: not UTF-8") from None


def _end(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _place(file: str, text: str, keys: Keys) -> str:
    from rvisor.profile import positions

    at = positions.find(text, keys) if keys else None
    return f"{file}:{at[0]}:{at[1]}: " if at else f"{file}: "


class _Reader:
    def __init__(self) -> None:
        self._read: set[str] = set()

    def file(self, path: str, base: Profile, above: tuple[str, ...], said: str = "") -> Profile:
        """The file's profile on top of `base`, by the line `said`. A file that several include counts once."""
        real = os.path.realpath(path)
        if real in above:
            ring = " includes ".join((*above[above.index(real) :], real))
            raise ProfileError(f"{said}profiles include each other: {ring}")
        if len(above) >= DEEPEST:
            raise ProfileError(f"{said}{path}: includes are more than {DEEPEST} deep")
        if real in self._read:
            return base
        text = text_of(path)
        made = self.text(text, path, base, (*above, real))
        self._read.add(real)
        return made

    def text(self, text: str, name: str, base: Profile, above: tuple[str, ...]) -> Profile:
        import tomllib

        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _AT.search(str(error))
            said = _AT.sub("", str(error))
            line, column = (found[1], found[2]) if found and found[1] else _end(text)
            raise ProfileError(f"{name}:{line}:{column}: {said[:1].lower()}{said[1:]}") from None
        except (RecursionError, ValueError) as error:
            said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ProfileError(f"{name}: {said}") from None
        problems = _Problems(name, text)
        check_table(data, PROFILE, (), problems)
        problems.end()
        directory = os.path.dirname(name)
        for number, include in enumerate(data.get("include", [])):
            said = _place(name, text, ("include", number))
            path = _find(include, directory, said)
            if not os.path.exists(path):
                raise ProfileError(f"{said}{path}: there is no such file")
            base = self.file(path, base, above or (os.path.realpath(name),), said)
        made = sections.profile(data, base, name, problems)
        problems.end()
        return made


class _Problems(sections.Problems):
    """Collects what is wrong with one file."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._found: list[tuple[Keys, str]] = []

    def add(self, keys: Keys, what: str) -> None:
        self._found.append((keys, what))
        self.full = len(self._found) >= _MISTAKES

    def end(self) -> None:
        """Raises ProfileError if there was anything."""
        if not self._found:
            return
        from rvisor.profile import positions

        lines = []
        shown = self._found[:_MISTAKES]
        for (_, what), at in zip(shown, positions.find_all(self._text, [keys for keys, _ in shown]), strict=True):
            lines.append(f"{self._file}:{at[0]}:{at[1]}: {what}" if at else f"{self._file}: {what}")
        if len(self._found) > _MISTAKES:
            lines.append(f"… and {len(self._found) - _MISTAKES} more")
        raise ProfileError("\n".join(lines))


def check_table(data: Mapping[str, Any], fields: Mapping[str, Field], keys: Keys, problems: sections.Problems) -> None:
    """Every key is known, every value of the kind it has to be."""
    for name, value in data.items():
        field = fields.get(name)
        if field is None:
            near = "" if problems.full else _near(name, fields)
            problems.add((*keys, name), f"{_path(keys)}there is no key {name!r}{near}")
        else:
            _check(value, field, (*keys, name), problems)
    for name, field in fields.items():
        if field.needed and name not in data:
            problems.add(keys, f"{_path(keys)}{name} is missing: {field.text}")


def _check(value: Any, field: Field, keys: Keys, problems: sections.Problems) -> None:
    def wrong(what: str) -> None:
        problems.add(keys, f"{_path(keys, '')}: {what}")

    match field.kind:
        case "text":
            if not isinstance(value, str):
                wrong(f"must be text, not {_shown(value)}")
            elif field.choices and value not in field.choices:
                wrong(f"{value!r} is none of {', '.join(field.choices)}{_near(value, field.choices)}")
            elif "\0" in value:
                wrong("a zero byte has no place in it")
        case "texts":
            if not isinstance(value, list):
                wrong(f"must be a list of texts, not {_shown(value)}")
            else:
                for number, one in enumerate(value):
                    if not isinstance(one, str) or "\0" in one:
                        problems.add((*keys, number), f"{_path(keys, '')}: must be text, not {_shown(one)}")
        case "number":
            if not isinstance(value, int) or isinstance(value, bool):
                wrong(f"must be a whole number, not {_shown(value)}")
            elif not field.low <= value <= field.high:
                wrong(f"{value} is not between {field.low} and {field.high}")
        case "fraction":
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 10000:
                wrong(f"must be a number between 0.01 and 10000, not {_shown(value)}")
        case "flag":
            if not isinstance(value, bool):
                wrong(f"must be true or false, not {_shown(value)}")
        case "size" | "time":
            _check_measure(value, field, wrong)
        case "free":
            if not isinstance(value, dict):
                wrong(f"must be a table, not {_shown(value)}")
            elif not all(isinstance(one, str | int | float | bool) for one in value.values()):
                wrong("its values must be texts, numbers, true or false")
        case "table":
            if isinstance(value, dict):
                check_table(value, field.fields or {}, keys, problems)
            else:
                wrong(f"must be a table, not {_shown(value)}")
        case "tables":
            if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
                wrong(f"must be tables, each begun with [[{_path(keys, '')}]]")
            else:
                for number, one in enumerate(value):
                    check_table(one, field.fields or {}, (*keys, number), problems)
        case "views":
            _check_views(value, field, keys, problems)


def _check_measure(value: Any, field: Field, wrong: Any) -> None:
    try:
        number = sections.measure(value, field.kind)
    except ValueError as error:
        wrong(str(error))
        return
    if not field.low <= number <= field.high:
        wrong(f"{value} is not between {field.low} and {field.high}")


def _check_views(value: Any, field: Field, keys: Keys, problems: sections.Problems) -> None:
    if not isinstance(value, dict):
        problems.add(keys, f"{_path(keys, '')}: must be a table, not {_shown(value)}")
        return
    for name, view in value.items():
        if isinstance(view, dict):
            # Without quotes, `a.b = 1` is a table b in a table a.
            if not view or not set(view) & set(field.fields or {}):
                problems.add(
                    (*keys, name),
                    f'{_path(keys, "")}: write the whole name in quotes: "{name}.{next(iter(view), "…")}"',
                )
            else:
                check_table(view, field.fields or {}, (*keys, name), problems)
        elif not isinstance(view, str | int) or isinstance(view, bool):
            problems.add((*keys, name), f"{_path(keys, '')}: must be text, a number or a table, not {_shown(view)}")


def _path(keys: Keys, ending: str = ": ") -> str:
    """The keys as people write them; numbers of lists are left to line and column."""
    names = ".".join(str(key) for key in keys if isinstance(key, str))
    return names + ending if names else ""


def _near(word: str, known: Any) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    names = list(known)
    return "" if len(names) > 20 else f"; there are {', '.join(names)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
