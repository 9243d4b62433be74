"""Patterns of paths, as AppArmor has them, and what they stand for in a container's root when it starts.

`*` is any part of one name, `**` goes across names, `?` is one letter of a name, `[abc]` and `[^abc]` are one of these
and none of these, `{a,b}` is either. A backslash makes the next letter plain.
"""

from __future__ import annotations

import os
import re

from rvisor.errors import ProfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 200_000
"""Directory entries that are looked at for one pattern, at most."""


def regex(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression for a whole path. Raises ProfileError."""
    made, at = "", 0
    depth = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "\\" and at < len(pattern):
            made += re.escape(pattern[at])
            at += 1
        elif letter == "*":
            across = pattern.startswith("*", at)
            at += across
            # Alone between slashes there is at least one letter: the directory itself is not meant.
            alone = made.endswith("/") and (at == len(pattern) or pattern[at] == "/")
            made += (".+" if alone else ".*") if across else ("[^/]+" if alone else "[^/]*")
        elif letter == "?":
            made += "[^/]"
        elif letter == "[":
            end = pattern.find("]", at + 2 if pattern.startswith("^", at) else at + 1)
            if end < 0:
                raise ProfileError(f"{pattern}: the bracket is not closed")
            inner = pattern[at:end].replace("\\", "\\\\").replace("[", "\\[")
            # None of these, but a letter of the name all the same.
            made += f"[^/{inner[1:]}]" if inner.startswith("^") else f"[{inner}]"
            at = end + 1
        elif letter == "{":
            depth += 1
            made += "(?:"
        elif letter == "}" and depth:
            depth -= 1
            made += ")"
        elif letter == "," and depth:
            made += "|"
        else:
            made += re.escape(letter)
    if depth:
        raise ProfileError(f"{pattern}: the brace is not closed")
    try:
        return re.compile(made, re.DOTALL)
    except re.error as error:
        raise ProfileError(f"{pattern}: {error}") from None


def fixed(pattern: str) -> str:
    """The directory that all of its paths are in."""
    plain = re.match(r"(?:[^*?\[{\\])*", pattern)
    return (plain[0] if plain else "/").rpartition("/")[0] or "/"


def expand(pattern: str, root: str = "/") -> Iterator[str]:
    """The paths in `root` it stands for, as seen from inside; symbolic links are not followed.

    Raises ProfileError when there is more to look at than is sensible.
    """
    wanted = regex(pattern)
    whole = "**" in pattern
    deepest = pattern.count("/")
    seen = 0
    top = fixed(pattern)
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(os.path.join(root, directory.lstrip("/"))) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in found:
            seen += 1
            if seen > MOST:
                raise ProfileError(f"{pattern}: more than {MOST} files are below {top}")
            path = f"{directory.rstrip('/')}/{entry.name}"
            if wanted.fullmatch(path) or (pattern.endswith("/") and wanted.fullmatch(path + "/")):
                yield path
            if (whole or path.count("/") < deepest) and entry.is_dir(follow_symlinks=False):
                waiting.append(path)
