"""`rvisor completion`: a completion script, made from the parsers themselves."""

from __future__ import annotations

from rvisor.cli import COMMANDS
from rvisor.cli.parser import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def parser() -> Parser:
    """The options of `rvisor completion`."""
    made = Parser(
        prog="rvisor completion",
        description="Print a completion script for a shell.",
        epilog='Examples:\n  eval "$(rvisor completion bash)"\n  rvisor completion zsh > ~/.zfunc/_rvisor\n'
        "  rvisor completion fish > ~/.config/fish/completions/rvisor.fish\n",
    )
    made.add_argument("shell", choices=["bash", "zsh", "fish"])
    return made


def main(argv: list[str]) -> int:
    """Print the script."""
    shell = parser().parse_args(argv).shell
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](), end="")
    return 0


def _actions() -> dict[str, list[argparse.Action]]:
    from importlib import import_module

    found = {}
    for name in COMMANDS:
        module = import_module(f"rvisor.cli.{name}")
        verbs = [import_module(f"rvisor.cli.{name}.{verb}") for verb in getattr(module, "VERBS", ())]
        parsers: list[Parser] = [one.parser() for one in (module, *verbs)]
        actions = [action for made in parsers for action in made._actions if action.option_strings or action.choices]
        # Verbs share options; each is completed once.
        found[name] = list({tuple(action.option_strings) or action.dest: action for action in actions}.values())
    return found


def _words(actions: list[argparse.Action]) -> list[str]:
    words: list[str] = []
    for action in actions:
        words += action.option_strings or [str(choice) for choice in action.choices or []]
    return words


def _choice_cases(actions: dict[str, list[argparse.Action]]) -> dict[str, list[str]]:
    return {
        option: [str(choice) for choice in action.choices]
        for group in actions.values()
        for action in group
        for option in action.option_strings
        if action.choices
    }


def _bash() -> str:
    actions = _actions()
    cases = "".join(f"        {name}) words='{' '.join(_words(group))}' ;;\n" for name, group in actions.items())
    choices = "".join(
        f"        {option}) COMPREPLY=($(compgen -W '{' '.join(values)}' -- \"$word\")); return ;;\n"
        for option, values in _choice_cases(actions).items()
    )
    return f"""\
_rvisor() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} words=
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '{" ".join(COMMANDS)}' -- "$word"))
        return
    fi
    case $before in
{choices}        --rootfs | --debug-log) COMPREPLY=($(compgen -d -- "$word")); return ;;
    esac
    case ${{COMP_WORDS[1]}} in
{cases}    esac
    if [[ $word == -* || ${{COMP_WORDS[1]}} != run ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    else
        COMPREPLY=($(compgen -c -f -- "$word"))
    fi
}}
complete -o default -F _rvisor rvisor
"""


def _zsh() -> str:
    lines = ["#compdef rvisor", "_rvisor() {", "  local -a commands"]
    described = " ".join(f"'{name}:{_quiet(text)}'" for name, text in COMMANDS.items())
    lines += [
        f"  commands=({described})",
        "  if (( CURRENT == 2 )); then _describe command commands; return; fi",
        "  local command=$words[2]; shift words; (( CURRENT-- ))",
        "  case $command in",
    ]
    for name, group in _actions().items():
        specs = []
        for action in group:
            if not action.option_strings:
                specs.append(f"'1:{action.dest}:({' '.join(str(c) for c in action.choices or [])})'")
            for option in action.option_strings:
                value = ""
                if action.nargs is None:
                    values = f"({' '.join(str(c) for c in action.choices)})" if action.choices else "_files"
                    value = f":{action.dest}:{values}"
                specs.append(f"'*{option}[{_quiet(action.help or '')}]{value}'")
        rest = " '*::: :_normal'" if name == "run" else ""
        lines.append(f"    {name}) _arguments -S {' '.join(specs)}{rest} ;;")
    lines += ["  esac", "}", "compdef _rvisor rvisor", ""]
    return "\n".join(lines)


def _fish() -> str:
    lines = [
        f"complete -c rvisor -n __fish_use_subcommand -f -a {name} -d '{_quiet(text)}'"
        for name, text in COMMANDS.items()
    ]
    for name, group in _actions().items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for action in group:
            flags = " ".join(
                f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                for option in action.option_strings
            )
            choices = f" -x -a '{' '.join(str(c) for c in action.choices)}'" if action.choices else ""
            needs = " -r" if action.option_strings and action.nargs is None and not action.choices else ""
            lines.append(
                " ".join(f"complete -c rvisor {seen} {flags}{choices}{needs} -d '{_quiet(action.help or '')}'".split())
            )
    return "\n".join(lines) + "\n"


def _quiet(text: str) -> str:
    for character in "'[]:\\":
        text = text.replace(character, "")
    return text
