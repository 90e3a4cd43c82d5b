# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole port`: the gateway's serial ports, and lending them."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

app = typer.Typer(
    help="Use a node's serial port beside the running gateway.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples(
        "petiole port list",
        "petiole port use kitchen -- mpremote connect {port} resume fs ls",
        "petiole port release kitchen --for 10m",
        "petiole port resume kitchen",
    ),
)

Port = Annotated[str, typer.Argument(metavar="PORT", help="A port's name or path, or the device that is on it.")]


@app.command("list", epilog=examples("petiole port list", "petiole port list --json"))
def list_ports(context: typer.Context) -> None:
    """List the gateway's serial ports: who is on them, and whether they are open, released, or away and why."""
    from petiole_tools import ports

    run(ports.show_all(options_of(context)))


@app.command(epilog=examples("petiole port release kitchen", "petiole port release /dev/ttyACM0 --for 1h"))
def release(
    context: typer.Context,
    port: Port,
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="Then the gateway takes it back.")] = "10m",
) -> None:
    """Have the gateway close a port, so that other programs can open it.

    It takes the port back at `petiole port resume`, or when the time is over. Nothing is lost meanwhile: the node keeps
    its readings, as with any cable that is out.
    """
    from petiole_tools import ports
    from petiole_tools.arguments import seconds

    run(ports.release_named(options_of(context), port, seconds("--for", for_)))


@app.command(epilog=examples("petiole port resume kitchen", "petiole port resume kitchen --restart"))
def resume(
    context: typer.Context,
    port: Port,
    restart: Annotated[
        bool, typer.Option("--restart", help="Stop what runs on the board first, as Ctrl-C does.")
    ] = False,
) -> None:
    """Have the gateway take a port back, and start the board's program if the board stands in its REPL.

    For a port that was not released it does the latter only.
    """
    from petiole_tools import ports

    run(ports.resume_named(options_of(context), port, restart))


@app.command(
    epilog=examples(
        "petiole port use kitchen -- mpremote connect {port} resume",
        "petiole port use kitchen -- mpremote connect {port} resume cp app.py :app.py",
        "petiole port use /dev/ttyUSB0 -- esptool --port {port} read_mac",
    )
)
def use(
    context: typer.Context,
    port: Port,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND", help="A program; {port} in it is the path of the port.")
    ],
) -> None:
    """Run a program on a port: released before, taken back after, whatever ends it. Exits as the program does.

    The path is in $PETIOLE_PORT, too. If this command is killed, the gateway takes the port back by itself within 2
    minutes.
    """
    from petiole_tools import ports

    code = 0

    async def work() -> None:
        nonlocal code
        code = await ports.use(options_of(context), port, command)

    run(work())
    raise typer.Exit(code)
