# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole logs`, `repl`, `shell` and `run`: what happens on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

LOGS_EPILOG = examples(
    "petiole logs kitchen",
    "petiole logs kitchen --follow",
    "petiole logs --follow --json",
    "petiole logs --port /dev/ttyACM0",
)
REPL_EPILOG = examples("petiole repl kitchen", "petiole repl --port /dev/ttyACM0")
SHELL_EPILOG = examples(
    "petiole shell kitchen",
    "petiole shell kitchen ls",
    "petiole shell kitchen cp :petiole.json petiole.json",
    "petiole shell --port id:E6614103E72B502C df",
)
RUN_EPILOG = examples("petiole run", "petiole run app.py --board RPI_PICO_W", "petiole run app.py --port id:E661")


def logs(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A device; all without one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what it says from now on.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=0, help="The last N lines of what was said.")
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(metavar="PORT", help="id:SERIAL or /dev/…: what its board says from now on, without a gateway."),
    ] = None,
    baud: Annotated[int, typer.Option(metavar="RATE", min=1, help="Of that port.")] = 115200,
) -> None:
    """Show what nodes have said since their gateway started, up to 1,000 lines of all of them."""
    from petiole_tools import node_logs

    if port is not None:
        if name is not None:
            raise typer.BadParameter("it is the port itself that is read: leave the name out", context, None, "--port")
        if count == 0:
            return
        from petiole_tools.port_log import port_log

        run(port_log(options_of(context), port, count=count, baud=baud))
        return
    run(node_logs.logs(options_of(context), name, is_followed=follow, count=count))


def repl(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A device on a console port, or a port of the gateway.")
    ] = None,
    port: Annotated[
        str | None, typer.Option(metavar="PORT", help="id:SERIAL or /dev/…, with a gateway or without.")
    ] = None,
) -> None:
    """Open the REPL of a running node: its gateway lends the port, and the node starts again afterwards.

    Ctrl-] or Ctrl-X ends it.
    """
    from petiole_tools import hands_on

    if (name is None) == (port is None):
        raise typer.BadParameter("give a device, or --port PORT", context, param_hint="NAME")
    _on_board(context, name, port, [*hands_on.MPREMOTE, "repl"])


def shell(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME] [COMMAND]...", help="A device, or a port of the gateway; what to do there."),
    ] = None,
    port: Annotated[
        str | None, typer.Option(metavar="PORT", help="id:SERIAL or /dev/… instead of NAME, with a gateway or without.")
    ] = None,
) -> None:
    """Work with the files of a node: one of mpremote's commands, or a prompt for them.

    ls, tree, cat, cp, rm, mkdir, df, edit, exec, run and others; a colon stands before a file on the board. The node's
    program stops meanwhile, and starts again afterwards. A command's exit code is that of this one. Options of
    petiole stand before NAME.
    """
    from petiole_tools import hands_on

    given = words or []
    if port is None and not given:
        raise typer.BadParameter("give a device, or --port PORT", context, param_hint="NAME")
    name, command = (None, given) if port is not None else (given[0], given[1:])
    _on_board(context, name, port, hands_on.shell_command(command, str(name or port)))


def _on_board(context: typer.Context, name: str | None, port: str | None, command: list[str]) -> None:
    """Run a program on the port of a device, or on one that is named; exit as it does."""
    from petiole_tools import hands_on, ports

    hands_on.check_mpremote()
    code = 0

    async def work() -> None:
        nonlocal code
        options = options_of(context)
        code = await (ports.use(options, name, command) if name else hands_on.use(options, str(port), command))

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
