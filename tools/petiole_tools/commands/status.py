# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole status`: how the gateway is."""

from __future__ import annotations

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples("petiole status", "petiole status --json")


def status(context: typer.Context) -> None:
    """Show links, leaf server, store and drops of the gateway."""
    from petiole_tools import status as state

    run(state.show(options_of(context)))
