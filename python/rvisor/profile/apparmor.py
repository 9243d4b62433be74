"""AppArmor's profiles, read: files, capabilities, families of sockets, mounts.

What denies wins over what allows, as it does there; patterns stay patterns, looked up when the container starts.
What a profile of ours has no words for is refused with its line, or said in a note where leaving it out only means that
nothing more is allowed than without the rule.
"""

from __future__ import annotations

import errno
import os
import re

from rvisor.errors import ProfileError
from rvisor.profile import patterns
from rvisor.profile import read as read_profile
from rvisor.profile.constants import CONSTANTS
from rvisor.profile.model import ALLOW, INT, Action, Condition, FileRule, Files, Origin, Profile, Rule, Syscalls
from rvisor.profile.vocabulary import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = "/etc/apparmor.d"
_DEEPEST = 16
_EXPANDED = 4096
"""Paths that one rule may stand for by its variables."""
_WHOLE = re.compile(r"\s*(?:#?include\b|@\{\w+\}\s*\+?=)")
"""Statements that end with their line."""
_VARIABLES = {
    "PROC": ["/proc/"],
    "sys": ["/sys/"],
    "run": ["/run/", "/var/run/"],
    "HOMEDIRS": ["/home/"],
    "HOME": ["/home/*/", "/root/"],
    "pid": ["[1-9]*"],
    "pids": ["[1-9]*"],
    "tid": ["[1-9]*"],
    "uid": ["[0-9]*"],
}
"""What the tunables say where they are not installed."""
_SILENT = ("signal", "ptrace", "unix", "dbus", "mqueue", "io_uring", "userns", "umount", "pivot_root", "change_profile")
"""Kinds of rules that allow what nothing here forbids."""
_TYPES = ("stream", "dgram", "seqpacket", "rdm", "raw")
_PROTOCOLS = {"tcp": "stream", "udp": "dgram", "icmp": "raw"}
"""The type of socket that AppArmor, which does not see protocols, looks at."""
_MOUNTS = ("mount", "move_mount", "open_tree", "fsopen", "fspick", "fsconfig", "fsmount", "mount_setattr")
_REFUSED = Action("errno", errno.EACCES)
_PERMISSIONS = "rwaxmklpPuUcCib"


class Found:
    """The profile, and what somebody should know of how it was read."""

    def __init__(self, profile: Profile, notes: list[str]) -> None:
        self.profile = profile
        self.notes = notes


def read(path: str, *, top: str = TOP) -> Found:
    """The one profile of a file; raises ProfileError. `top` is where `<…>` includes are."""
    return parse(read_profile.text_of(path), path, top=top)


def parse(text: str, name: str, *, top: str = TOP) -> Found:
    """As `read`, of a text."""
    reader = _Reader(top)
    reader.text(text, name, 0)
    return reader.end(name)


class _Reader:
    def __init__(self, top: str) -> None:
        self._top = top
        self._variables = {name: list(values) for name, values in _VARIABLES.items()}
        self._files: list[FileRule] = []
        self._every_file = False
        self._capabilities: set[str] = set()
        self._denied: set[str] = set()
        self._sockets: dict[tuple[Condition, ...], str] = {}
        self._no_sockets: dict[tuple[Condition, ...], str] = {}
        self._no_mounts = False
        self._name = ""
        self._profiles = 0
        self._inside = False
        self._silent: dict[str, str] = {}
        self._owner = 0
        self._included: set[str] = set()
        self._missing: list[str] = []
        self._steps = 0

    def text(self, text: str, name: str, depth: int) -> None:
        for line, statement in _statements(text, name):
            try:
                self._statement(statement, name, line, depth)
            except ProfileError as error:
                message = str(error)
                raise (
                    error
                    if message.startswith(f"{name}:") or ":" in message.partition(" ")[0]
                    else ProfileError(f"{name}:{line}: {message}")
                ) from None

    def _statement(self, words: str, name: str, line: int, depth: int) -> None:
        if words == "}":
            self._inside = False
            return
        include = re.fullmatch(r"#?include\s+(if\s+exists\s+)?(?:<([^>]+)>|\"([^\"]+)\"|(\S+))", words)
        if include:
            self._include(include, name, depth)
        elif re.match(r"@\{\w+\}\s*\+?=", words):
            self._variable(words)
        elif words.endswith("{"):
            self._begin(words[:-1].strip())
        elif re.match(r"abi\b|alias\b", words):
            if words.startswith("alias"):
                raise ProfileError("alias: names of our own are not given to others' paths")
        elif not self._inside and depth == 0:
            raise ProfileError(f"{words[:60]!r} stands outside of a profile")
        else:
            self._rule(words, Origin(name), line)

    def _include(self, found: re.Match[str], name: str, depth: int) -> None:
        missing_is_fine, system, quoted, bare = found.groups()
        path = os.path.join(self._top, system) if system else os.path.join(os.path.dirname(name), quoted or bare)
        if depth >= _DEEPEST:
            raise ProfileError(f"includes are more than {_DEEPEST} deep: {path}")
        if os.path.isdir(path):
            paths = [os.path.join(path, one) for one in sorted(os.listdir(path)) if not one.startswith(".")]
        else:
            paths = [path]
        for one in paths:
            if one in self._included:
                continue
            if not os.path.exists(one) and (system or missing_is_fine):
                if system and not missing_is_fine and not system.startswith("tunables/"):
                    self._missing.append(system)
                continue
            self._included.add(one)
            self.text(read_profile.text_of(one), one, depth + 1)

    def _variable(self, words: str) -> None:
        found = re.fullmatch(r"@\{(\w+)\}\s*(\+?=)\s*(.*)", words, re.DOTALL)
        if not found:
            raise ProfileError(f"{words!r} is no variable")
        values = [one.strip('"') for one in re.findall(r'"[^"]*"|\S+', found[3])]
        if found[2] == "=":
            self._variables[found[1]] = values
        else:
            self._variables.setdefault(found[1], []).extend(values)

    def _begin(self, words: str) -> None:
        if self._inside:
            raise ProfileError(f"{words!r}: profiles within profiles, hats and conditions are not understood")
        self._profiles += 1
        if self._profiles > 1:
            raise ProfileError("a second profile: give each a file of its own")
        self._inside = True
        found = re.match(r"(?:profile\s+)?(\"[^\"]+\"|\S+)", words)
        self._name = (found[1] if found else "").strip('"').replace("/", ".").strip(".")

    def _rule(self, words: str, origin: Origin, line: int) -> None:
        qualifiers = re.match(r"(?:(?:audit|quiet|priority=\S+)\s+)*(allow\s+|deny\s+)?(?:audit\s+)?(owner\s+)?", words)
        assert qualifiers is not None
        deny, owner = (qualifiers[1] or "").strip() == "deny", bool(qualifiers[2])
        rest = words[qualifiers.end() :]
        kind = re.match(r"[a-z_]+(?=\s|$|\()", rest)
        keyword = kind[0] if kind else ""
        if keyword == "capability":
            self._capability(rest.split()[1:], deny)
        elif keyword == "network":
            self._network(rest.split()[1:], deny)
        elif keyword in ("mount", "remount") and rest == keyword and deny:
            self._no_mounts = True
        elif keyword in _SILENT or (keyword in ("mount", "remount") and not deny):
            if deny:
                raise ProfileError(f"deny {keyword}: there is nothing here to refuse it with")
            self._silent.setdefault(keyword, f"{origin.file}:{line}")
        elif keyword == "file" and rest == "file":
            if deny:
                raise ProfileError("deny file: no program could run")
            self._every_file = True
        else:
            self._file(rest.removeprefix("file").strip() if keyword == "file" else rest, deny, owner, origin)

    def _capability(self, names: list[str], deny: bool) -> None:
        found = {name.upper().strip(",") for name in names} or set(CAPABILITIES)
        for name in found - set(CAPABILITIES):
            raise ProfileError(f"there is no capability {name.lower()!r}")
        (self._denied if deny else self._capabilities).update(found)

    def _network(self, words: list[str], deny: bool) -> None:
        """A family, a type or protocol, or both: arguments of socket(2)."""
        conditions: dict[int, Condition] = {}
        for word in words:
            kind = _PROTOCOLS.get(word, word)
            if kind in _TYPES:
                condition = Condition(1, "==", CONSTANTS[f"SOCK_{kind.upper()}"], 0xF)
            elif (family := f"AF_{word.upper()}") in CONSTANTS:
                condition = Condition(0, "==", CONSTANTS[family], INT)
            else:
                raise ProfileError(f"network {word}: this family is not known here")
            if condition.argument in conditions:
                raise ProfileError(f"network {' '.join(words)}: one family, and one type or protocol")
            conditions[condition.argument] = condition
        text = " ".join(["deny network" if deny else "network", *words])
        (self._no_sockets if deny else self._sockets).setdefault(
            tuple(conditions[index] for index in sorted(conditions)), text
        )

    def _file(self, rest: str, deny: bool, owner: bool, origin: Origin) -> None:
        rest = re.sub(r"\s*->\s*\S+$", "", rest)
        word = r"\"[^\"]+\"|(?:\\.|[^\s\"])+"
        letters = f"[{_PERMISSIONS}]+|ux|px|ix|cx"
        found = re.fullmatch(rf"({word})\s+({letters})", rest) or None
        path, permissions = (found[1], found[2]) if found else ("", "")
        if not found or not re.match(r"[/@\"{]", path):
            other = re.fullmatch(rf"({letters})\s+({word})", rest)
            if not other:
                raise ProfileError(f"{rest[:80]!r} is not understood")
            permissions, path = other[1], other[2]
        path = path.strip('"')
        access = "".join(letter for letter in "rwx" if letter in permissions or (letter == "w" and "a" in permissions))
        if not access:
            return
        self._owner += owner and not deny
        self._steps = 0
        for one in self._expand(path, 0):
            clean = re.sub(r"/{2,}", "/", one)
            if not clean.startswith("/"):
                raise ProfileError(f"{clean!r} is no absolute path")
            patterns.regex(clean)
            if deny and clean.startswith(("/proc/", "/sys/")) and clean[-1].isalnum():
                # A pattern may fit nothing: which of them there are is the host's to say, and nobody can make one.
                clean = f"{clean[:-1]}[{clean[-1]}]"
            self._files.append(
                FileRule(clean, deny=access, origin=origin) if deny else FileRule(clean, access, origin=origin)
            )

    def _expand(self, path: str, depth: int) -> Iterator[str]:
        found = re.search(r"@\{(\w+)\}", path)
        self._steps += 1
        if self._steps > _EXPANDED:
            raise ProfileError(f"{path[:80]}: more than {_EXPANDED} paths by its variables")
        if not found:
            yield path
            return
        if found[1] not in self._variables:
            raise ProfileError(f"the variable @{{{found[1]}}} is not set")
        if depth > _DEEPEST:
            raise ProfileError(f"variables that contain each other: {path}")
        for value in self._variables[found[1]]:
            yield from self._expand(path[: found.start()] + value + path[found.end() :], depth + 1)

    def end(self, name: str) -> Found:
        if self._inside:
            raise ProfileError(f"{name}: the profile's brace is not closed")
        if not self._profiles:
            raise ProfileError(f"{name}: there is no profile in it")
        notes = []
        if self._silent:
            notes.append("nothing restricts these here: " + ", ".join(f"{k} ({at})" for k, at in self._silent.items()))
        if self._owner:
            notes.append(f"{self._owner} rules are for a file's owner only there, and for everybody here")
        if self._missing:
            names = ", ".join(dict.fromkeys(self._missing))
            notes.append(f"not installed in {self._top}, so that what it says is left out: {names}")
        rules = [rule for rule in dict.fromkeys(self._files) if rule.deny or not self._every_file]
        kept = self._capabilities - self._denied
        made = Profile(
            name=self._name or "apparmor",
            description=f"from AppArmor's {os.path.basename(name)}",
            capabilities=None if kept == set(CAPABILITIES) else frozenset(kept),
            files=Files("rwx" if self._every_file else "", tuple(rules)),
            syscalls=self._syscalls(),
        )
        return Found(made, notes)

    def _syscalls(self) -> Syscalls | None:
        rules = []
        if self._no_mounts:
            rules.append(Rule(_MOUNTS, _REFUSED, reason="deny mount"))
        # What denies comes first, and so wins.
        rules += [Rule(("socket",), _REFUSED, when, why) for when, why in self._no_sockets.items() if when]
        if () not in self._sockets or () in self._no_sockets:
            rules += (
                []
                if () in self._no_sockets
                else [Rule(("socket",), ALLOW, when, why) for when, why in self._sockets.items()]
            )
            rules.append(Rule(("socket",), _REFUSED, reason="no other network is allowed"))
        return Syscalls(ALLOW, tuple(rules)) if rules else None


def _statements(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Each statement with its line: to a comma, a brace, or for includes and variables the end of the line."""
    line, start, current, depth, quoted = 1, 1, "", 0, False
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if letter == "\n":
            line += 1
        if quoted:
            current += letter
            quoted = letter != '"'
            continue
        if (
            letter == "#"
            and not (current.strip() == "" and text.startswith("include", at))
            and (current == "" or current[-1].isspace())
        ):
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
            continue
        if not current.strip() and not letter.isspace():
            start, current = line, ""
        if letter == "\n" and _WHOLE.match(current):
            yield start, current.strip()
            current = ""
        elif letter == '"':
            quoted = True
            current += letter
        elif letter in "{[" and current.strip() and not current[-1].isspace():
            depth += 1
            current += letter
        elif letter in "}]" and depth:
            depth -= 1
            current += letter
        elif letter == "{" and (current.endswith((" ", "\t", "\n")) or not current) and not text[at : at + 1].strip():
            yield start, (current + "{").strip()
            current = ""
        elif letter == "}" and not current.strip():
            yield line, "}"
            current = ""
        elif letter == "," and not depth:
            # A comma within parentheses parts values, not rules.
            if current.count("(") > current.count(")"):
                current += letter
                continue
            if current.strip():
                yield start, " ".join(current.split())
            current = ""
        else:
            current += letter
    if quoted:
        raise ProfileError(f"{name}:{start}: the quotation mark is not closed")
    if _WHOLE.match(current):
        yield start, current.strip()
    elif current.strip():
        raise ProfileError(f"{name}:{start}: {current.strip()[:60]!r} does not end")
