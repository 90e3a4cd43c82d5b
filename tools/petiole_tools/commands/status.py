# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole status` and `petiole top`: how the whole system is."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples(
    "petiole status",
    "petiole status --json",
    "petiole --server nats://hub.example.com --creds application.creds status",
)
TOP_EPILOG = examples("petiole top", "petiole top --every 10s --json")


def status(context: typer.Context) -> None:
    """Show the whole system: gateways, links, devices, mail, what is wrong and what to do about it.

    At the hub it shows all sites, on a gateway its own.
    """
    from petiole_tools import status as state

    run(state.show(options_of(context)))


def top(
    context: typer.Context,
    every: Annotated[str, typer.Option(metavar="DURATION", help="How often to look.")] = "2s",
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many looks.")] = None,
) -> None:
    """Show what `status` shows, refreshed in place, until q or Ctrl-C."""
    from petiole_tools import status as state
    from petiole_tools.arguments import seconds

    run(state.top(options_of(context), seconds("--every", every), count))
