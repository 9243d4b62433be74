"""The seed's demonstrations on the shared kernel, and attempts to get around them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from framework import inside
from framework.shared import begun, run, running

pytestmark = pytest.mark.timeout(120)

CEILING = """
[capabilities]
keep = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "SETPCAP", "SETFCAP"]
"""


def profile(tmp_path: Path, text: str, name: str = "p.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_uname_is_allowed_in_one_and_denied_in_another(tmp_path: Path) -> None:
    denying = '[syscalls]\ndefault = "allow"\n[[syscalls.rule]]\nnames = ["uname"]\naction = "errno"\n'
    a = run("--", "uname", "-s")
    b = run("--profile", profile(tmp_path, denying), "--", "uname", "-s")
    assert (a.status, a.out) == (0, "Linux\n")
    assert (b.status != 0 and "Operation not permitted" in b.err + b.out) or b.status == 1


def test_file_rules(tmp_path: Path) -> None:
    """The five rows of table 5-1, as rwx bits; a second container is not touched by them."""
    files = tmp_path / "doc"
    files.mkdir()
    rows = {"adduser": "rwx", "apt": "rx", "bash": "wx", "bzip2": "x"}
    rules = ""
    for name, letters in rows.items():
        (files / name).write_text("#!/bin/true\n")
        (files / name).chmod(0o755)
        rules += f'[[files.rule]]\npaths = ["/doc/{name}"]\nallow = "{letters}"\n'
    rules += '[[files.rule]]\npaths = ["/sys/fs/cgroup"]\nallow = ""\nsubtree = true\n'
    script = """
for f in adduser apt bash bzip2 other; do
  r=-; w=-; x=-
  cat /doc/$f >/dev/null 2>&1 && r=r
  (: >> /doc/$f) 2>/dev/null && w=w
  /doc/$f 2>/dev/null && x=x
  echo $f $r$w$x
done
cat /sys/fs/cgroup/*/cgroup.procs 2>&1 | grep -c 'Permission denied'
cat /etc/hostname >/dev/null && echo outside ok
"""
    (files / "other").write_text("#!/bin/true\n")
    (files / "other").chmod(0o755)
    inside_ = run("--profile", profile(tmp_path, rules), "-v", f"{files}:/doc", "--", "sh", "-c", script)
    lines = inside_.out.splitlines()
    # A script is read by its interpreter: without r it does not run, though it may be executed.
    assert lines[:5] == ["adduser rwx", "apt r-x", "bash -w-", "bzip2 ---", "other rwx"], inside_
    assert int(lines[5]) >= 1 and lines[6] == "outside ok", inside_
    second = run("-v", f"{files}:/doc", "--", "sh", "-c", script)
    assert second.out.splitlines()[:5] == [f"{n} rwx" for n in ("adduser", "apt", "bash", "bzip2", "other")]


def test_execute_without_read(tmp_path: Path, attack: Path) -> None:
    """Landlock counts executing as reading too, so x alone allows neither: stricter than the bits say."""
    import shutil

    shutil.copy(attack, tmp_path / "program")
    for letters, status in (("x", 126), ("rx", 9), ("r", 126)):
        rule = f'[[files.rule]]\npaths = ["/bin-x/program"]\nallow = "{letters}"\n'
        more = ("--profile", profile(tmp_path, rule), "-v", f"{tmp_path}:/bin-x")
        assert run(*more, "--", "/bin-x/program").status == status
        assert (run(*more, "--", "cat", "/bin-x/program").status == 0) == ("r" in letters)


def test_aliases_of_a_protected_file(tmp_path: Path) -> None:
    """Other names: a symbolic link, a hard link, the same directory mounted elsewhere, and a link made inside."""
    secret = tmp_path / "data" / "secret"
    secret.parent.mkdir()
    secret.write_text("SECRET\n")
    os.link(secret, tmp_path / "data" / "hard")
    (tmp_path / "data" / "soft").symlink_to("secret")
    rule = profile(tmp_path, '[[files.rule]]\npaths = ["/a/soft"]\nallow = ""\n')
    mounts = ("-v", f"{tmp_path}/data:/a", "-v", f"{tmp_path}/data:/b")
    script = """
cat /a/secret /a/soft /a/hard /b/secret /b/soft /b/hard
ln /a/secret /a/new && cat /a/new
mv /a/secret /tmp/moved; cat /tmp/moved
cp -l /b/hard /b/more && cat /b/more
exec 3</proc/self/root/a/secret; cat <&3
"""
    done = run("--profile", rule, *mounts, "--", "sh", "-c", script)
    assert "SECRET" not in done.out, done
    assert "SECRET" in run(*mounts, "--", "cat", "/b/hard").out


def test_a_racing_thread(tmp_path: Path, attack: Path) -> None:
    (tmp_path / "secret").write_text("SECRET\n")
    rule = profile(tmp_path, '[[files.rule]]\npaths = ["/s/secret"]\nallow = ""\n')
    mounts = ("-v", f"{tmp_path}:/s", "-v", f"{attack}:/attack:ro")
    done = run("--profile", rule, *mounts, "--", "/attack", "race", "/s/secret")
    assert (done.status, done.out) == (0, "leaked 0 times\n")


def test_a_path_that_vanishes(tmp_path: Path) -> None:
    rule = profile(tmp_path, '[[files.rule]]\npaths = ["/gone/file"]\nallow = ""\n')
    done = run("--profile", rule, "--", "true")
    assert done.status == 125 and "/gone/file" in done.err


def test_patterns_are_looked_up_at_start(tmp_path: Path) -> None:
    for name in ("a.key", "b.key", "c.txt"):
        (tmp_path / name).write_text("text\n")
    rule = profile(tmp_path, '[[files.rule]]\npaths = ["/k/*.key"]\nallow = ""\n', "p")
    os.rename(rule, rule + ".toml")
    done = run("--profile", rule + ".toml", "-v", f"{tmp_path}:/k", "--", "sh", "-c", "cat /k/*")
    assert done.err.count("Permission denied") == 2 and "text" in done.out


APPARMOR = """
profile docker-nginx flags=(attach_disconnected,mediate_deleted) {
  network inet tcp,
  network inet icmp,
  deny network raw,
  file,
  umount,
  deny /protected/** wl,
  deny /protected/dash mrwklx,
  capability chown,
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
}
"""


def test_an_apparmor_profile(tmp_path: Path) -> None:
    """The rules of the sample in Docker's manual. Links in /proc, and what vanishes in /sys meanwhile, end no start."""
    files = tmp_path / "protected"
    files.mkdir()
    (files / "dash").write_text("TEXT\n")
    (files / "other").write_text("TEXT\n")
    source, made = profile(tmp_path, APPARMOR, "sample"), str(tmp_path / "made.toml")
    assert inside.rvisor("profile", "build", source, "-o", made).status == 0
    script = """
cat /protected/dash; cat /protected/other; (: > /protected/other)
(: > /tmp/rvisor-new) && echo written; (: > /proc/version)
perl -e 'use Socket; print socket(S, PF_INET, SOCK_RAW, 1) ? 1 : 0, socket(T, PF_INET, SOCK_STREAM, 6) ? 1 : 0, "\n"'
grep CapBnd /proc/self/status
"""
    done = run("--profile", made, "-v", f"{files}:/protected", "--", "sh", "-c", script)
    assert done.out == "TEXT\nwritten\n01\nCapBnd:\t0000000000000001\n", done
    assert done.err.count("ermission denied") + done.err.count("Read-only") == 3, done


def test_what_belongs_to_a_process_is_refused_by_name(tmp_path: Path) -> None:
    """A rule on it would hold for the process that has the number at the start."""
    rule = profile(tmp_path, '[[files.rule]]\npaths = ["/proc/self/mem"]\nallow = ""\n')
    done = run("--profile", rule, "--", "true")
    assert done.status == 125 and "/proc/1/mem: processes come and go" in done.err, done


@pytest.mark.parametrize("attempt", ["capset", "userns", "pidns", "mount"])
def test_escalation(tmp_path: Path, attack: Path, attempt: str) -> None:
    done = run("--profile", profile(tmp_path, CEILING), "-v", f"{attack}:/attack:ro", "--", "/attack", attempt)
    assert done.status == 0, done


def test_escalation_is_logged(attack: Path) -> None:
    script = "/attack capset; /attack userns; dmesg"
    done = run("-v", f"{attack}:/attack:ro", "--", "sh", "-c", script)
    assert "refused more capabilities by capset" in done.out, done
    assert "refused more capabilities by a user namespace" in done.out


def test_set_uid_and_file_capabilities(tmp_path: Path) -> None:
    """The other two ways: a set-uid program, and one with file capabilities. exec gives neither anything."""
    import shutil

    tmp_path.chmod(0o755)
    shutil.copy("/usr/bin/cat", tmp_path / "cat")
    os.chmod(tmp_path / "cat", 0o4755)
    shutil.copy("/usr/bin/cat", tmp_path / "cap")
    assert inside.run(["setcap", "cap_sys_admin,cap_dac_override+ep", str(tmp_path / "cap")]).status == 0
    for name in ("cat", "cap"):
        more = ("-u", "65534", "-v", f"{tmp_path}:/x")
        done = run(*more, "--", f"/x/{name}", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in done.out.splitlines() if ":\t" in line)
        assert fields["CapEff"] == fields["CapPrm"] == "0" * 16, done
        assert fields["Uid"].split() == ["65534"] * 4
        assert run(*more, "--", f"/x/{name}", "/etc/shadow").status == 1


def test_a_filter_of_its_own(tmp_path: Path, attack: Path) -> None:
    text = '[syscalls]\ndefault = "allow"\n[[syscalls.rule]]\nnames = ["uname"]\naction = "errno"\n'
    done = run("--profile", profile(tmp_path, text), "-v", f"{attack}:/attack:ro", "--", "/attack", "filter")
    assert done.status == 0, done


def test_bad_pointers(tmp_path: Path, attack: Path) -> None:
    text = '[syscalls]\ndefault = "allow"\n[[syscalls.rule]]\nnames = ["uname", "sysinfo"]\naction = "notify"\n'
    # With nothing in the log yet nothing is written where the pointer leads.
    script = "until dmesg | grep -q started; do :; done; exec /attack pointers"
    done = run("--profile", profile(tmp_path, text), "-v", f"{attack}:/attack:ro", "--", "sh", "-c", script)
    assert done.status == 0, done


def test_kernel_logs_are_apart() -> None:
    from rvisor import vkernel

    with running("--name", "log-a", "--", "sleep", "100"), running("--name", "log-b", "--", "sleep", "100"):
        a, b = ("".join(vkernel.log(name)) for name in ("log-a", "log-b"))
        every = "".join(vkernel.log(None))
        names = [vkernel.name_of(about["id"]) for about in vkernel.instances()]
        identities = [about["id"] for about in vkernel.instances()]
        assert identities[0] in a and identities[1] not in a
        assert identities[1] in b and identities[0] not in b
        assert all(name in every for name in names)
    # Of those that have ended the operator still has all.
    end = time.monotonic() + 10
    while not all(f"{one} ended" in "".join(vkernel.log(None)) for one in identities) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(f"{identity} ended" in "".join(vkernel.log(None)) for identity in identities)
    assert identities[0] not in run("--", "dmesg").out


def test_twenty_at_once() -> None:
    import contextlib

    with contextlib.ExitStack() as stack:
        for number in range(20):
            stack.enter_context(running("--name", f"many-{number}", "--", "sleep", "100", wait=False))
        end = time.monotonic() + 60
        while len(begun()) < 20 and time.monotonic() < end:
            time.sleep(0.2)
        done = inside.rvisor("vkernel", "ls", "--json")
        names = [one["vkernel"] for one in json.loads(done.out)]
        assert len(set(names)) == 20 and all(len(name) == 20 for name in names)


def test_views_and_updates(tmp_path: Path) -> None:
    def text(value: int) -> str:
        return f'[sysctl]\n"vm.overcommit_ratio" = "{value}"\n[[syscalls.rule]]\nnames = ["uname"]\naction = "notify"\n'

    first = profile(tmp_path, '[syscalls]\ndefault = "allow"\n' + text(31))
    with running("--name", "views", "--profile", first, "--", "sh", "-c", _WATCH) as process:
        assert process.stdout is not None and process.stdout.readline() == b"31\n"
        second = profile(tmp_path, '[syscalls]\ndefault = "allow"\n' + text(77), "q.toml")
        assert inside.rvisor("vkernel", "update", "views", second).status == 0
        assert process.stdout.readline() == b"77\n"
        narrower = profile(tmp_path, '[syscalls]\ndefault = "errno"\n', "r.toml")
        refused = inside.rvisor("vkernel", "update", "views", narrower)
        assert refused.status != 0 and "cannot be taken away again" in refused.err, refused
        shown = json.loads(inside.rvisor("vkernel", "show", "views", "--json").out)
        assert shown["sysctl"] == {"vm/overcommit_ratio": "77"} and shown["updates"] == 1
        assert inside.rvisor("vkernel", "unload", "views").status == 0
        assert process.wait(timeout=20) == 137
    assert Path("/proc/sys/vm/overcommit_ratio").read_text() not in ("31\n", "77\n")


_WATCH = """
old=
while :; do new=$(cat /proc/sys/vm/overcommit_ratio); [ "$new" = "$old" ] || echo $new; old=$new; sleep 0.05; done
"""


def test_policies_of_the_profile(tmp_path: Path) -> None:
    text = "[cpu]\npolicy = 'batch'\ncores = '0'\n[memory]\nthp = 'never'\n"
    wait = "for i in $(seq 100); do grep -q 'THP_enabled:.0' /proc/self/status && break; sleep 0.1; done; "
    script = wait + "grep -E 'Cpus_allowed_list|THP_enabled' /proc/self/status; chrt -p $$"
    done = run("--profile", profile(tmp_path, text), "--", "sh", "-c", script)
    assert "SCHED_BATCH" in done.out and "Cpus_allowed_list:\t0\n" in done.out, done
    assert "THP_enabled:\t0\n" in done.out


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[[network.rule]]\naction = 'deny'\nnet = 'any'\nprotocol = 'icmp'\n", "network"),
        ("[sysctl]\n'vm.swappiness' = {value = '1', writable = true, maximum = 9}\n", "swappiness"),
        ("[cpu]\ncontroller = 'no-such'\n", "no-such"),
        ("[[syscalls.rule]]\nnames = ['openat']\naction = 'notify'\n", "openat"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(tmp_path: Path, text: str, name: str) -> None:
    head = "[syscalls]\ndefault = 'allow'\n" if "syscalls" in text else ""
    done = run("--profile", profile(tmp_path, head + text), "--", "true")
    assert done.status == 125 and name in done.err, done


def test_policies_of_a_running_container(tmp_path: Path) -> None:
    """`vkernel update` sets them; with one bad part nothing changes, of the settings before it neither."""

    def write(name: str, nice: int, more: str = "") -> str:
        (tmp_path / name).write_text(
            f"[sysctl]\n'vm.overcommit_ratio' = '{nice}'\n[cpu]\npolicy = 'batch'\nnice = {nice}\n{more}"
        )
        return str(tmp_path / name)

    script = "while sleep 0.05; do :; done"
    with running("--name", "tuned", "--profile", write("a.toml", 3), "--", "sh", "-c", script):
        pid = json.loads(inside.rvisor("vkernel", "show", "tuned", "--json").out)["pid"]

        def seen() -> tuple[int, int, str]:
            shown = json.loads(inside.rvisor("vkernel", "show", "tuned", "--json").out)["sysctl"]
            return os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid), shown["vm/overcommit_ratio"]

        assert seen() == (os.SCHED_BATCH, 3, "3")
        done = inside.rvisor("vkernel", "update", "tuned", write("b.toml", 7))
        assert done.out == "sysctl_views\ncpu.nice\n", done
        assert seen() == (os.SCHED_BATCH, 7, "7")
        bad = inside.rvisor("vkernel", "update", "tuned", write("c.toml", 9, "cores = '900'\n"))
        assert bad.status != 0 and "cores" in bad.err, bad
        assert seen() == (os.SCHED_BATCH, 7, "7")
        watched = inside.rvisor("vkernel", "update", "tuned", write("d.toml", 9, "controller = 'adaptive'\n"))
        assert watched.status != 0 and "controller" in watched.err, watched
        assert seen() == (os.SCHED_BATCH, 7, "7")
