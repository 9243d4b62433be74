"""Who may use whom, where `unsafe` may stand, how long a file may be."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

LAYERS = (
    ("abi",),
    ("slots",),
    ("host", "stub"),
    ("bpf", "wire"),
    ("guest",),
    ("kernel",),
    ("vfs",),
    ("ipc", "net", "block"),
    ("task",),
    ("fs",),
    ("syscalls",),
    ("platform",),
    ("sentry", "launch"),
)
"""Rust crates, lowest first: a crate may use those of earlier lines, never its own line or later ones."""

MUST_NOT = {
    "launch": {"guest", "kernel", "vfs", "ipc", "net", "block", "task", "fs", "syscalls", "platform"},
    "stub": {"host", "abi"},
    "bpf": {"host"},
    "wire": {"abi", "host"},
    "fs": {"ipc", "net", "block", "task"},
}
"""Edges the order allows and security or simplicity forbids."""

UNSAFE = {"host", "stub", "launch"}

PYTHON = {
    "errors": set(),
    "_record": set(),
    "_sentry": {"errors"},
    "_options": {"errors"},
    "profile": {"errors", "_record", "_sentry"},
    "sandbox": {"errors", "_record", "_sentry", "_options", "profile", "policy"},
    "plugin": set(),
    "_plugged": {"_sentry", "profile", "plugin"},
    "vkernel": {"errors", "_record", "_sentry", "profile", "policy"},
    "bench": {"errors", "sandbox", "policy", "profile"},
    "testing": {"errors", "_sentry", "sandbox"},
    "policy": {"errors", "_record", "_sentry", "profile"},
    "cli": {"errors", "_record", "_sentry", "_options", "sandbox", "profile", "policy", "vkernel", "bench"},
    "oci": {"errors", "_sentry", "profile", "policy", "vkernel", "__init__"},
    "__main__": {"cli"},
    "__init__": {"errors", "sandbox"},
}
"""What each part of the Python package may import of the others."""

TARGETED = ("crates", "python", "tests", "tools", ".ci")
LIMIT = 800


def sources(*endings: str) -> list[Path]:
    everything = (path for top in TARGETED for path in (ROOT / top).rglob("*"))
    return [path for path in everything if path.is_file() and path.suffix in endings and "target" not in path.parts]


def crate_edges() -> dict[str, set[str]]:
    done = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=120,
    )
    packages = json.loads(done.stdout)["packages"]
    names = {package["name"] for package in packages}
    return {
        package["name"]: {
            dependency["name"]
            for dependency in package["dependencies"]
            if dependency["name"] in names and dependency["kind"] is None
        }
        for package in packages
    }


def test_crates_use_only_lower_layers() -> None:
    rank = {crate: number for number, line in enumerate(LAYERS) for crate in line}
    wrong = []
    for crate, used in crate_edges().items():
        if crate not in rank:
            wrong.append(f"{crate} is in no layer: add it to LAYERS")
            continue
        wrong += [f"{crate} uses {other}, which is not below it" for other in used if rank[other] >= rank[crate]]
        wrong += [f"{crate} must not use {other}" for other in used & MUST_NOT.get(crate, set())]
    assert wrong == []


def without_comments(text: str) -> str:
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', "", text, flags=re.DOTALL)


def test_unsafe_only_where_it_may_be() -> None:
    wrong = []
    for crate in sorted((ROOT / "crates").iterdir()):
        if crate.name in UNSAFE or not (crate / "src").is_dir():
            continue
        main = next(path for path in (crate / "src/lib.rs", crate / "src/main.rs") if path.is_file())
        if "#![forbid(unsafe_code)]" not in main.read_text():
            wrong.append(f"{main.relative_to(ROOT)}: no #![forbid(unsafe_code)]")
        wrong += [
            str(path.relative_to(ROOT))
            for path in (crate / "src").rglob("*.rs")
            if re.search(r"\bunsafe\b(?!_code)", without_comments(path.read_text()))
        ]
    assert wrong == []


def imports(path: Path) -> set[str]:
    """Parts of the package a module imports, type-checking imports too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "rvisor" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "rvisor":
                found.add(parts[1] if len(parts) > 1 else "")
    return {part for part in found if part in PYTHON}


def test_python_imports() -> None:
    package = ROOT / "python" / "rvisor"
    wrong = []
    for path in package.rglob("*.py"):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        assert part in PYTHON, f"{part} is in no layer: add it to PYTHON"
        wrong += [f"{path.relative_to(ROOT)} imports {other}" for other in imports(path) - PYTHON[part] - {part}]
    assert wrong == []


def test_only_sentry_knows_the_executables() -> None:
    package = ROOT / "python" / "rvisor"
    spawning = re.compile(r"posix_spawn|os\.exec|os\.fork|rvisor-(launch|sentry|stub)")
    allowed = {"_sentry", "testing"}
    wrong = [
        str(path)
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] not in allowed and spawning.search(path.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize("ending", [".rs", ".py", ".c", ".h", ".sh"])
def test_length_of_files(ending: str) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(ending)
        if (lines := path.read_text(errors="replace").count("\n")) > LIMIT
    }
    assert long == {}


def test_nothing_is_left_to_do() -> None:
    words = re.compile("TO" + r"DO\b|FIX" + r"ME\b|\btodo!|\bunimplemented!")
    here = Path(__file__).resolve()
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(".rs", ".py", ".c", ".h", ".sh", ".toml", ".md")
        if path != here
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if words.search(line)
    ]
    assert wrong == []


def test_every_guest_case_has_its_own_name() -> None:
    for path in (ROOT / "tests" / "conformance" / "guests").glob("*.c"):
        names = re.findall(r"^CASE\((\w+)\)", path.read_text(), re.MULTILINE)
        assert len(names) == len(set(names)), path
