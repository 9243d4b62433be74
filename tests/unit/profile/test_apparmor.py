"""AppArmor's profiles, read; patterns of paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvisor.errors import ProfileError
from rvisor.profile import apparmor, patterns, read, write
from rvisor.profile.model import FileRule

# The rules of docker-default that say something of files.
DOCKER = """\
#include <tunables/global>

profile docker-default flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>
  network,
  capability,
  file,
  umount,
  # Host processes may send signals, with commas (and braces {).
  signal (send,receive) peer=docker-default,
  deny @{PROC}/* w,   # not in a subdirectory
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/firmware/** rwklx,
  ptrace (trace,read,tracedby,readby) peer=docker-default,
}
"""


def access(files: object, path: str) -> str:
    rules = [r for r in files.rules if patterns.regex(r.path).fullmatch(path)]  # type: ignore[attr-defined]
    return files.access(rules)  # type: ignore[attr-defined, no-any-return]


def test_docker_default(tmp_path: Path) -> None:
    found = apparmor.parse(DOCKER, "docker-default", top=str(tmp_path))
    made = found.profile
    assert made.name == "docker-default" and made.capabilities is None
    assert any("abstractions/base" in note for note in found.notes)
    assert any("signal (docker-default:10)" in note for note in found.notes)
    for path, expected in {
        "/proc/version": "rx",
        "/proc/1/mem": "rwx",
        "/proc/sys/vm/swappiness": "rx",
        "/proc/sys/kernel/shmmax": "rwx",
        "/proc/sys/kernel/hostname": "rx",
        "/proc/sysrq-trigger": "",
        "/sys/class": "rwx",
        "/sys/class/net/x": "r",
        "/sys/fs/cgroup/x": "rwx",
        "/sys/firmware/acpi": "",
        "/etc/passwd": "rwx",
    }.items():
        assert access(made.files, path) == expected, path
    assert made.syscalls is not None and made.syscalls.rules[0].names[0] == "mount"


def test_lists_of_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "abstractions").mkdir()
    (tmp_path / "abstractions" / "base").write_text("  /etc/ld.so.cache mr,\n  owner @{HOME}/.x rw,\n")
    text = """
    @{DIR}=/srv/a /srv/b
    @{DIR}+=/opt
    abi <abi/3.0>,
    /usr/bin/thing {
      include <abstractions/base>
      capability net_bind_service setuid,
      capability chown,
      deny capability setuid,
      network inet tcp,
      network unix,
      "@{DIR}/with space/**" r,
      r @{DIR}/other,
      /usr/bin/{thing,helper} ix,
      /bin/sh Px -> shell,
      audit deny /srv/a/other r,
      /srv/[ab]/x-*.log a,
    }
    """
    found = apparmor.parse(text, "thing", top=str(tmp_path))
    made = found.profile
    assert made.capabilities == {"NET_BIND_SERVICE", "CHOWN"}
    assert made.files.default == ""
    for path, expected in {
        "/etc/ld.so.cache": "r",
        "/root/.x": "rw",
        "/srv/a/with space/q/r": "r",
        "/opt/other": "r",
        "/srv/a/other": "",
        "/usr/bin/helper": "x",
        "/bin/sh": "x",
        "/srv/b/x-1.log": "w",
        "/etc/passwd": "",
    }.items():
        assert access(made.files, path) == expected, path
    assert any("owner only" in note for note in found.notes)
    assert made.syscalls is not None
    table = made.syscalls.table()
    asked = [(1, 2), (2, 1), (2, 0o2000001), (2, 2), (10, 1)]
    answers = [table.decide(41, (family, kind, 0, 0, 0, 0)).kind for family, kind in asked]
    assert answers == ["allow", "allow", "allow", "errno", "errno"]


@pytest.mark.parametrize(
    "rules, allowed",
    [
        # The rules of the sample in Docker's manual: what denies wins, whatever the order.
        (
            "network inet tcp, network inet udp, network inet icmp, deny network raw, deny network packet,",
            {(2, 1), (2, 2)},
        ),
        ("deny network inet stream, network,", {(1, 1), (2, 2), (2, 3), (10, 1), (17, 3)}),
        ("network stream,", {(1, 1), (2, 1), (10, 1)}),
        ("network, deny network,", set()),
        ("", set()),
    ],
)
def test_sockets(rules: str, allowed: set[tuple[int, int]], tmp_path: Path) -> None:
    made = apparmor.parse(f"profile x {{\n{rules}\n}}", "p", top=str(tmp_path)).profile
    table = made.syscalls.table()  # type: ignore[union-attr]
    asked = [(1, 1), (2, 1), (2, 2), (2, 3), (10, 1), (17, 3)]
    assert {one for one in asked if table.decide(41, (*one, 0, 0, 0, 0)).kind == "allow"} == allowed  # type: ignore[union-attr]
    again = read.loads(write.toml(made))
    assert again.table() == made.table()


WRONG = [
    ("profile x {\n  /etc/passwd zz,\n}", "p:2: '/etc/passwd zz' is not understood"),
    ("profile x {\n\n  deny ptrace,\n}", "p:3: deny ptrace: there is nothing here to refuse it with"),
    ("profile x {\n  capability flying,\n}", "p:2: there is no capability 'flying'"),
    ("profile x {\n  network inet inet6,\n}", "p:2: network inet inet6: one family, and one type"),
    ("profile x {\n  network moon,\n}", "p:2: network moon: this family is not known"),
    ("profile x {\n  /a r,\n", "the profile's brace is not closed"),
    ("profile x {\n  /a r\n}", "does not end"),
    ("profile x {\n}\nprofile y {\n}", "p:3: a second profile"),
    ("profile x {\n  profile y {\n  }\n}", "p:2: 'profile y': profiles within profiles"),
    ("/etc/passwd r,", "p:1: '/etc/passwd r' stands outside of a profile"),
    ("profile x {\n  @{NO}/x r,\n}", "p:2: the variable @{NO} is not set"),
    ("profile x {\n  /a[bc r,\n}", "p:2:"),
    ('profile x {\n  "/a r,\n}', "the quotation mark is not closed"),
    ("profile x {\n  set rlimit nofile <= 10,\n}", "p:2: 'set rlimit nofile <= 10' is not understood"),
    ("@{A}=@{B}\n@{B}=@{A}\nprofile x {\n @{A}/x r,\n}", "variables that contain each other"),
    ("", "there is no profile in it"),
]


@pytest.mark.parametrize("text, said", WRONG)
def test_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        apparmor.parse(text, "p", top=str(tmp_path))
    assert said in str(caught.value)


def test_patterns_on_files(tmp_path: Path) -> None:
    for name in ("etc/a.conf", "etc/b.conf", "etc/.c.conf", "etc/d/e.conf", "lib/x.so.1", "lib/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("")
    (tmp_path / "etc" / "out").symlink_to("/")
    root = str(tmp_path)
    assert sorted(patterns.expand("/etc/*.conf", root)) == ["/etc/.c.conf", "/etc/a.conf", "/etc/b.conf"]
    assert sorted(patterns.expand("/etc/**.conf", root)) == [
        "/etc/.c.conf",
        "/etc/a.conf",
        "/etc/b.conf",
        "/etc/d/e.conf",
    ]
    assert list(patterns.expand("/{etc,lib}/[xy].so.?", root)) == ["/lib/x.so.1"]
    assert list(patterns.expand("/none/*", root)) == []
    assert patterns.fixed("/etc/a*/b") == "/etc" and patterns.fixed("/*") == "/"
    for bad in ("/a[", "/a{b"):
        with pytest.raises(ProfileError):
            patterns.regex(bad)
    assert FileRule("/a/*").pattern
