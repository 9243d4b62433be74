"""The LTP runner's own logic, on made-up input: no LTP is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from framework import inside
from ltp import run

FAILS = "a.c:9: TINFO: on\na.c:10: TPASS: good\nb.c:11: TFAIL: got\t5, not 6\nb.c:12: TBROK: too\n"


def test_a_runtest_file_is_names_and_commands() -> None:
    text = "# comment\n\nopen01 open01\nfork13 fork13 -i 1000000\nbare\nopen01 other -x\n"
    assert run.tests(text) == {"open01": "open01", "fork13": "fork13 -i 1000000", "bare": "bare"}


@pytest.mark.parametrize(
    ("status", "output", "verdict", "reason"),
    [
        (0, "x: TPASS: fine", "PASS", ""),
        (1, FAILS, "FAIL", "TFAIL got 5, not 6"),
        (3, FAILS, "FAIL", "TFAIL got 5, not 6"),
        (2, "x.c:1: TBROK: no", "BROK", "TBROK no"),
        (4, "x.c:1: TWARN: odd", "FAIL", "TWARN odd"),
        (32, "x.c:1: TCONF: absent", "CONF", "TCONF absent"),
        (34, "x.c:1: TCONF: absent", "BROK", "TCONF absent"),
        (16, "last words", "BROK", "status 16: last words"),
        (127, "sh: 1: gone: not found", "BROK", "not executed: sh: 1: gone: not found"),
        (139, "", "BROK", "killed by signal 11"),
        (None, "", "HANG", ""),
        (124, "", "HANG", ""),
        (2, "Test timeouted, sending SIGKILL!", "HANG", "Test timeouted, sending SIGKILL!"),
        (125, "rvisor: the kernel stopped", "CRASH", "rvisor: the kernel stopped"),
    ],
)
def test_verdicts(status: int | None, output: str, verdict: str, reason: str) -> None:
    assert run.classify(status, output, inside=True) == (verdict, reason)


def test_natively_a_status_of_ours_is_the_tests() -> None:
    assert run.classify(125, FAILS, inside=False) == ("FAIL", "TFAIL got 5, not 6")


def test_what_is_expected() -> None:
    text = (
        '[[cause]]\nreason = "no x"\ntests = ["a", "b"]\n[[cause]]\nreason = "no y"\nby_chance = true\ntests = ["c"]\n'
    )
    assert run.expected(text) == {"a": run.Cause("no x"), "b": run.Cause("no x"), "c": run.Cause("no y", True)}
    with pytest.raises(ValueError, match="b twice"):
        run.expected(text + '[[cause]]\nreason = "no z"\ntests = ["b"]\n')


def test_the_list_itself_is_well_formed() -> None:
    known = run.expected((run.HERE / "expected.toml").read_text())
    assert all(cause.reason and name == name.strip() for name, cause in known.items())


def test_comparison_finds_both_kinds_of_news() -> None:
    results = [
        run.Result("good", "PASS", 1, ""),
        run.Result("mended", "PASS", 1, ""),
        run.Result("known", "CONF", 1, "absent"),
        run.Result("lucky", "PASS", 1, ""),
        run.Result("new", "HANG", 1, "late"),
    ]
    known = {"mended": run.Cause("was missing"), "known": run.Cause("is missing"), "lucky": run.Cause("varies", True)}
    wrong = run.compare(results, known)
    assert wrong == ["mended: passes, though expected.toml lists it: take it out", "new: HANG late"]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.write_text("# comment\na\tPASS\t0.5\nb\tFAIL\t0.10\tTFAIL no\n")
    assert run.read(results)["b"] == run.Result("b", "FAIL", 0.1, "TFAIL no")
    asked = []

    def one(command: str) -> tuple[int, str]:
        asked.append(command)
        return 32, "x: TCONF: absent"

    run.measure({"a": "a", "b": "b", "c": "c -x"}, one, results, 1, True)
    assert asked == ["c -x"]
    assert {name: result.verdict for name, result in run.read(results).items()} == {
        "a": "PASS",
        "b": "FAIL",
        "c": "CONF",
    }


def test_an_end_in_time_and_one_that_is_not() -> None:
    assert run.run(["sh", "-c", "echo hello; kill -9 $$"], {}, "/", 20) == (137, "hello\n")
    assert run.run(["sleep", "60"], {}, "/", 0.2)[0] is None


def test_the_whole_command(tmp_path: Path) -> None:
    """Against the host's kernel: a runtest file of two commands that are no LTP."""
    (tmp_path / "runtest").mkdir()
    (tmp_path / "runtest" / "syscalls").write_text("good true\nbad exit 1\nswapoff01 exit 9\n")
    done = inside.run([sys.executable, str(run.HERE / "run.py"), "--ltp", str(tmp_path), "--native"])
    assert done.status == 0, done.err
    assert done.out.startswith("2 tests: 1 PASS, 1 FAIL, 0 BROK")
