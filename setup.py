"""One wheel with the Python package and the Rust executables; everything else is in pyproject.toml.

The executables are programs, not extension modules, so the wheel fits every Python 3 on its platform.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    from wheel.bdist_wheel import bdist_wheel

RELEASE = Path("target/x86_64-unknown-linux-gnu/release")
EXECUTABLES = ("rvisor-launch", "rvisor-sentry", "rvisor-stub")


class BuildWithExecutables(build_py):
    """Puts the executables into the package, built with cargo. An editable install finds them in the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        subprocess.run(["cargo", "build", "--release", "--locked"], check=True)
        target = Path(self.build_lib) / "rvisor" / "bin"
        target.mkdir(parents=True, exist_ok=True)
        for name in EXECUTABLES:
            shutil.copy2(RELEASE / name, target / name)


class PlatformWheel(bdist_wheel):
    """py3-none, for this platform."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildWithExecutables, "bdist_wheel": PlatformWheel})
