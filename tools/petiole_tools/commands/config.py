# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole config`: the settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of

app = typer.Typer(
    help="Check a settings file, or print an example.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("petiole config check gateway.toml", "petiole config example > gateway.toml"),
)


@app.command("check", epilog=examples("petiole config check gateway.toml", "petiole config check --json gateway.toml"))
def check(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Instead of the one of --config.")] = None,
) -> None:
    """Say what is wrong in a settings file: line, key, problem, and what is meant.

    It ends with 1 if there is anything.
    """
    from petiole_tools import config_check

    config_check.check(options_of(context), file)


@app.command("example", epilog=examples("petiole config example > gateway.toml"))
def example() -> None:
    """Print a settings file with every setting, what it does and its default."""
    from petiole_gateway.settings.example import example as text

    print(text(), end="")
