# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole send` and `petiole mailbox`: commands for devices that sleep."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

SEND_EPILOG = examples(
    "petiole send kitchen identify",
    "petiole send kitchen set level=3 --expires 1d --key level",
    "petiole --server nats://hub:4222 --creds ops.creds --site barn send pump stop --priority 9",
)
MAILBOX_EPILOG = examples(
    "petiole mailbox kitchen",
    "petiole mailbox kitchen --json",
    "petiole mailbox kitchen --cancel qkdv72mzxa",
)
Device = Annotated[str, typer.Argument(metavar="DEVICE", help="Name of the device.")]


def send(
    context: typer.Context,
    device: Device,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="Name of one of its commands.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENT", help="JSON values in order, or name=value.")
    ] = None,
    expires: Annotated[str, typer.Option(metavar="DURATION", help="After that it is not delivered any more.")] = "1h",
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="A newer item with this key replaces an older one.")
    ] = None,
    priority: Annotated[int, typer.Option(metavar="0-9", min=0, max=9, help="Higher is sent first.")] = 5,
    sender: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of your program, which then has places of its own in the box."),
    ] = None,
) -> None:
    """Queue a command for a device; it is delivered at its next wake.

    It is kept from this moment on, whether or not the device's gateway can be reached.
    """
    from petiole_tools import mailbox as mail

    run(mail.send(options_of(context), device, command, arguments or [], expires, key, priority, sender))


def mailbox(
    context: typer.Context,
    device: Device,
    cancel: Annotated[str | None, typer.Option(metavar="ID", help="Take this item back.")] = None,
) -> None:
    """Show what waits for a device, and what became of earlier items."""
    from petiole_tools import mailbox as mail

    if cancel is not None:
        run(mail.cancel(options_of(context), device, cancel))
    else:
        run(mail.show(options_of(context), device))
