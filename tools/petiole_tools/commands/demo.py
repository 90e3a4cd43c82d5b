# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole demo`: everything at once."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples("petiole demo", "petiole demo --seconds 60", "petiole demo --keep")


def demo(
    context: typer.Context,
    seconds: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Go on for N seconds after the tour, without a terminal.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with all files and logs behind.")] = False,
) -> None:
    """Show a whole system at work on this machine.

    It starts three hub servers, the gateway with its leaf server, and simulated nodes on serial ports and UDP.
    Readings travel to the hub, a command travels back, the line to the hub is cut and healed, and the numbers are
    counted from the streams. Afterwards it stays up for you to look around, until Ctrl-C.
    """
    from petiole_tools import demo as showing

    run(showing.demo(options_of(context), seconds, keep=keep))
