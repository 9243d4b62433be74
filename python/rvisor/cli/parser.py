"""argparse with this command's manners."""

from __future__ import annotations

import argparse
import os

from rvisor.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class _Formatter(argparse.RawDescriptionHelpFormatter):
    # With a width of its own argparse need not import shutil, which costs milliseconds at every start.
    def __init__(self, prog: str) -> None:
        try:
            width = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            width = 100
        super().__init__(prog, width=max(40, width - 2))


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the process, takes no abbreviations, keeps examples as they are written."""

    def __init__(self, *, prog: str, description: str, epilog: str = "", usage: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            usage=usage,
            allow_abbrev=False,
            formatter_class=_Formatter,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"`{self.prog} --help` explains")


def split_command(parser: Parser, argv: list[str]) -> tuple[list[str], list[str]]:
    """Part `[OPTIONS] [--] CMD [ARG…]` into the options and the command, which may look like options itself."""
    takes_value = {}
    for action in parser._actions:
        for option in action.option_strings:
            takes_value[option] = action.nargs is None
    index = 0
    while index < len(argv):
        word = argv[index]
        if word == "--":
            return argv[:index], argv[index + 1 :]
        if not word.startswith("-") or word == "-":
            break
        index += 1
        if word.startswith("--"):
            if "=" not in word and takes_value.get(word, False):
                index += 1
            continue
        # A cluster of short options: the first that takes a value takes the rest of the word, or the next word.
        for position, letter in enumerate(word[1:], start=1):
            if takes_value.get("-" + letter, False):
                if position == len(word) - 1:
                    index += 1
                break
    return argv[:index], argv[index:]
