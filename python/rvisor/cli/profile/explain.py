"""`rvisor profile explain`: what becomes of a call or a file, and why."""

from __future__ import annotations

from rvisor.cli.output import as_json
from rvisor.cli.parser import Parser
from rvisor.cli.profile import load
from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor.profile.model import Case, Profile, Rule

    Row = dict[str, str]


def parser() -> Parser:
    """The options of `rvisor profile explain`."""
    made = Parser(
        prog="rvisor profile explain",
        usage="rvisor profile explain [OPTIONS] PROFILE [CALL|PATH|CAPABILITY]…",
        description="What becomes of a system call, a file or a capability under a profile: by which rule, in which\n"
        "line, and for what reason. Without a subject: every rule with its reason.",
        epilog="Examples:\n  rvisor profile explain default\n  rvisor profile explain web.toml socket ptrace\n"
        "  rvisor profile explain web.toml /etc/ssl/private/key.pem CAP_NET_RAW\n",
    )
    made.add_argument("profile", metavar="PROFILE", help="a file, or the name of a shipped one")
    made.add_argument("subject", nargs="*", metavar="SUBJECT", help="system calls, absolute paths, capabilities")
    made.add_argument("--json", action="store_true", help="print JSON: subject, answer, when, reason, place")
    return made


def main(argv: list[str]) -> int:
    """Explain."""
    options = parser().parse_args(argv)
    profile = load(options.profile)
    rows: list[Row] = []
    for subject in options.subject or []:
        rows += _file(profile, subject) if subject.startswith("/") else _name(profile, subject)
    if not options.subject:
        rows = _every(profile)
    if options.json:
        print(as_json(rows))
        return 0
    for row in rows:
        when = f" if {row['when']}" if row["when"] else ""
        reason = f"  # {row['reason']}" if row["reason"] else ""
        print(f"{row['subject']}: {row['answer']}{when}{reason}")
        if options.subject and row["place"]:
            print(f"    {row['place'].removesuffix(': ')}")
    return 0


def _row(subject: str, answer: str, when: str = "", reason: str = "", place: str = "") -> Row:
    return {"subject": subject, "answer": answer, "when": when, "reason": reason, "place": place}


def _name(profile: Profile, subject: str) -> list[Row]:
    from itertools import groupby

    from rvisor.profile import conditions, read
    from rvisor.profile.vocabulary import CAPABILITIES, number_of, suggest

    short = subject.upper().removeprefix("CAP_")
    number = number_of(subject)
    if number is None and short in CAPABILITIES:
        if profile.capabilities is None:
            return [_row(subject, "as the kernel gives it")]
        answer = "below the ceiling" if short in profile.capabilities else "refused"
        return [_row(subject, answer, place=read.place(profile.capabilities_origin))]
    if number is None:
        near = suggest(subject)
        raise UsageError(
            f"{subject!r} is no system call, capability or absolute path", hint=f"did you mean {near}?" if near else ""
        )
    table = profile.table()
    if table is None:
        return [_row(subject, "allow", reason="nothing is said of system calls")]
    rows: list[Row] = []
    rules = profile.syscalls.rules if profile.syscalls is not None else ()
    cases = table.cases.get(number, ())
    for rule, alternatives in groupby(cases, key=lambda case: _of(rules, subject, case)):
        same = list(alternatives)
        case = same[0]
        when = " or ".join(" and ".join(lines) for lines in conditions.gathered([one.when for one in same]))
        if rule is None:
            text = "whoever makes a user namespace has every capability in it, and there is a ceiling"
            rows.append(_row(subject, str(case.action), when, text, read.place(profile.capabilities_origin)))
        else:
            rows.append(_row(subject, str(case.action), when, rule.reason, read.place(rule.origin)))
    if not rows or rows[-1]["when"]:
        default = profile.syscalls
        reason, place = (default.reason, read.place(default.origin)) if default is not None else ("", "")
        rows.append(_row(subject, str(table.default), "" if not rows else "not", reason or "the default", place))
        if len(rows) > 1:
            rows[-1]["when"] = "none of these"
    return rows


def _of(rules: tuple[Rule, ...], name: str, case: Case) -> Rule | None:
    """The rule a case comes from: of several with the same place, the first."""
    found = next((r for r in rules if name in r.names and (r.when, r.action) == (case.when, case.action)), None)
    return next((r for r in rules if found and r.origin == found.origin and r.origin.keys), found)


def _file(profile: Profile, path: str) -> list[Row]:
    from rvisor.profile import patterns, read

    rows, matching = [], []
    for rule in profile.files.rules:
        fits = path == rule.path or (rule.pattern and patterns.regex(rule.path).fullmatch(path) is not None)
        if not fits and rule.subtree:
            fits = path.startswith(rule.path.rstrip("/") + "/")
        if fits:
            matching.append(rule)
            said = [f"allow {rule.allow or '---'}"] if rule.allow is not None else []
            said += [f"deny {rule.deny}"] if rule.deny else []
            rows.append(_row(rule.path, ", ".join(said), "", rule.reason, read.place(rule.origin)))
    access = profile.files.access(matching)
    return [_row(path, "".join(letter if letter in access else "-" for letter in "rwx")), *rows]


def _every(profile: Profile) -> list[Row]:
    from rvisor.profile import read, write

    rows: list[Row] = []
    if profile.capabilities is not None:
        rows.append(_row("capabilities", " ".join(sorted(profile.capabilities)) or "none"))
    if profile.syscalls is not None:
        for rule, lines in write.gathered(profile.syscalls.rules):
            when = " and ".join(lines)
            rows.append(_row(" ".join(rule.names), str(rule.action), when, rule.reason, read.place(rule.origin)))
        rows.append(_row("every other call", str(profile.syscalls.default), "", profile.syscalls.reason))
    for one in profile.files.rules:
        answer = f"allow {one.allow or '---'}" if one.allow is not None else f"deny {one.deny}"
        rows.append(_row(one.path, answer, "", one.reason, read.place(one.origin)))
    return rows
