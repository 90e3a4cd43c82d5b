"""Write the list of all commands: `python -m petiole_tools.make_commands docs/commands.md`.

It is made from what `--help` shows, and so from the program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from petiole_tools.cli import app
from petiole_tools.commands.shared import ALL_COMMANDS
from petiole_tools.flash import errors

HEAD = """# Commands

All of them are `petiole COMMAND`; `petiole COMMAND --help` shows the same.
Exit codes: 0 done, 1 an error (a line `error:`, a line `hint:`), 2 wrong usage, 130 ended by Ctrl-C, 143 by SIGTERM.
It is 0 where that is how a command ends: `gateway run`, and with Ctrl-C `demo` after its tour.
Ctrl-C that comes too late is told so, and the command ends as if there had been none.
What has to do with a board has codes of its own: {kinds}.
`petiole shell`, `repl` and `port use` end with the code of what they have run.
Readings, tables and JSON go to standard output, everything else to standard error.

This list is made from the program: `make docs`.
"""


def document() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    kinds = ", ".join(f"{kind.exit_code} {kind.meaning}" for kind in errors.listed() if kind.meaning)
    lines = [HEAD.format(kinds=kinds), "## Options of all commands", "", *_parameters(root), ""]
    for path, command in _commands(root, ()):
        lines += _section(path, command)
    return "\n".join(lines).rstrip() + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in sorted(group.commands):
        command = group.commands[name]
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _section(path: tuple[str, ...], command: Any) -> list[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    shape = " ".join(_shape(each) for each in arguments)
    lines = [f"## petiole {' '.join(path)}", ""]
    lines += [f"`petiole {' '.join(path)}{' ' + shape if shape else ''}`", ""]
    for block in (command.help or "").split("\n\n"):
        lines += [" ".join(block.replace("\b", "").split()), ""]
    if rows := _parameters(command):
        lines += [*rows, ""]
    examples = _examples(command.epilog or "")
    if examples:
        lines += ["```", *examples, "```", ""]
    return lines


def _shape(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).strip("[]{}")
    text = name + ("..." if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def _parameters(command: Any) -> list[str]:
    rows = [_row(each) for each in command.params if not getattr(each, "hidden", False)]
    return ["| | | |", "|---|---|---|", *rows] if rows else []


def _row(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split())
    if parameter.param_type_name == "argument":
        return f"| `{_shape(parameter)}` | | {_cell(text)} |"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f"`{_cell((parameter.metavar or parameter.type.name).strip('[]'))}`"
    more = []
    # A default that is a function or a path of this machine says nothing elsewhere.
    if not parameter.is_flag and isinstance(parameter.default, (int, float, str)) and parameter.default != "":
        more.append(f"default {parameter.default}")
    if parameter.envvar:
        more.append(f"or `{parameter.envvar}`")
    return f"| {names} | {value} | {_cell(' '.join([text, *(f'({each})' for each in more)]).strip())} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _examples(epilog: str) -> list[str]:
    lines = epilog.replace("\b", "").replace(ALL_COMMANDS, "").splitlines()
    return [line.strip() for line in lines if line.startswith("  ")]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
