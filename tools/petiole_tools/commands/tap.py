# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole tap`: the frames."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples(
    "petiole tap",
    "petiole tap kitchen --hex",
    "petiole tap --json --count 10",
    "petiole tap --pcapng frames.pcapng",
    "petiole tap --pcapng - | wireshark -X lua_script:tools/wireshark/petiole.lua -k -i -",
)


def tap(
    context: typer.Context,
    device: Annotated[str | None, typer.Argument(metavar="[DEVICE]", help="Only this device.")] = None,
    show_hex: Annotated[bool, typer.Option("--hex", help="Show the bytes of each frame, too.")] = False,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after this many frames.")] = None,
    pcapng: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a capture for Wireshark; - for standard output.")
    ] = None,
) -> None:
    """Print every frame of the gateway's links, decoded.

    Who sent it, how large it is, what is in it with names and values, and why it was dropped if it was.

    The gateway decodes with the keys it has; here they never are. It stops by itself soon after the last tap ended.
    """
    from petiole_tools import tap as tapping

    run(tapping.tap(options_of(context), device, show_hex=show_hex, count=count, pcapng=pcapng))
