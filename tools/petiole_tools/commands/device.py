# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole device`: who may join."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

app = typer.Typer(
    help="Add, list, show and remove devices.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples(
        "petiole device add kitchen --output petiole.json --link udp://gateway.local", "petiole device list"
    ),
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="1 to 32 characters of A-Z a-z 0-9 _ -")]


@app.command(
    epilog=examples(
        "petiole device add kitchen",
        "petiole device add kitchen --output petiole.json --link udp://192.168.1.20:6363",
        "petiole device add pump --output petiole.json --link uart",
        "petiole device add kitchen --replace",
    )
)
def add(
    context: typer.Context,
    name: Name,
    key: Annotated[
        str | None, typer.Option(metavar="HEX", help="Its key, 32 hexadecimal digits; a new one if left out.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the node's settings here instead of showing the key.")
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(metavar="LINK", help="How the node reaches the gateway: udp://HOST:PORT, udp://, uart, console."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the name from the device that has it now, which joins no more.")
    ] = False,
) -> None:
    """Add a device, and show its key once or write the settings file of its node.

    The gateway keeps the key encrypted and never shows it again. If this was interrupted, run it again: a file that it
    had written is used, and a name that it had taken is free with --replace.
    """
    from petiole_tools import devices

    run(devices.add(options_of(context), name, key, output, link or [], replaces=replace))


@app.command("list", epilog=examples("petiole device list", "petiole device list --json"))
def list_devices(context: typer.Context) -> None:
    """List all devices of the site: whether they are online, and when they were last heard."""
    from petiole_tools import devices

    run(devices.show_all(options_of(context)))


@app.command(epilog=examples("petiole device show kitchen", "petiole device show kitchen --json"))
def show(context: typer.Context, name: Name) -> None:
    """Show one device: its channels and commands, its link, what was dropped and why."""
    from petiole_tools import devices

    run(devices.show(options_of(context), name))


@app.command(
    epilog=examples(
        "petiole device policy barn",
        "petiole device policy barn --period 10m",
        "petiole device policy barn --clear",
    )
)
def policy(
    context: typer.Context,
    name: Name,
    period: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How often it is to wake; 0: as its application says.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="DURATION", help="The least time between its frames; 0: none.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Want nothing of it any more.")] = False,
) -> None:
    """Say how often a device that sleeps is to wake, or show what was said.

    It is kept, and told to the device at its next wake.
    """
    from petiole_tools import wake_policy

    run(wake_policy.policy(options_of(context), name, period, spacing, clear=clear))


@app.command(epilog=examples("petiole device awake barn", "petiole device awake barn 30m --wait 1h"))
def awake(
    context: typer.Context,
    name: Name,
    duration: Annotated[str, typer.Argument(metavar="[DURATION]", help="For how long; 0: no more.")] = "5m",
    wait: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Return when it has woken, or after so long.")
    ] = None,
) -> None:
    """Ask a device that sleeps to stay awake for once, from its next wake on."""
    from petiole_tools import wake_policy

    run(wake_policy.awake(options_of(context), name, duration, wait))


@app.command(epilog=examples("petiole device remove kitchen"))
def remove(context: typer.Context, name: Name) -> None:
    """Remove a device: its key opens nothing from now on. Its readings stay."""
    from petiole_tools import devices

    run(devices.remove(options_of(context), name))
