# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole logs`, `petiole repl` and `petiole run`: what happens on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

LOGS_EPILOG = examples("petiole logs kitchen", "petiole logs kitchen --follow", "petiole logs --follow --json")
REPL_EPILOG = examples("petiole repl kitchen")
RUN_EPILOG = examples("petiole run", "petiole run app.py --board RPI_PICO_W", "petiole run app.py --port id:E661")


def logs(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A device; all without one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what it says from now on.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=0, help="The last N lines of what was said.")
    ] = None,
) -> None:
    """Show what nodes have said since their gateway started, up to 1,000 lines of all of them."""
    from petiole_tools import node_logs

    run(node_logs.logs(options_of(context), name, is_followed=follow, count=count))


def repl(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device on a console port, or the port.")],
) -> None:
    """Open the REPL of a running node: its gateway lends the port, and starts the node again afterwards.

    Ctrl-] or Ctrl-X ends it.
    """
    from petiole_tools import ports

    code = 0

    async def work() -> None:
        nonlocal code
        code = await ports.use(options_of(context), name, ["mpremote", "connect", ports.PLACE, "resume", "repl"])

    run(work())
    raise typer.Exit(code)


def run_app(
    context: typer.Context,
    app: Annotated[Path, typer.Argument(metavar="[APP]", help="An app.py, or a folder with one.")] = Path(),
    board: Annotated[str | None, typer.Option(metavar="BOARD", help="What is on the cable.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The device, if the board has no name yet.")] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help="id:SERIAL or /dev/…")] = None,
) -> None:
    """Flash an application whenever it is saved, and follow the log of its node."""
    from petiole_tools.commands.flash import check_tools
    from petiole_tools.flash.edit_loop import edit_loop
    from petiole_tools.flash.wanted import Wanted

    check_tools()
    run(edit_loop(options_of(context), Wanted(board=board, name=name, port=port), app))
