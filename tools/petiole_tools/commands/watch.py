# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole watch`: readings as they come."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples(
    "petiole watch",
    "petiole watch kitchen --json | jq .value",
    "petiole --server nats://hub.example.com --creds application.creds watch --hub --since 1h",
)


def watch(
    context: typer.Context,
    device: Annotated[str | None, typer.Argument(metavar="[DEVICE]", help="Only this device.")] = None,
    hub: Annotated[
        bool, typer.Option("--hub", help="Read the hub's stream UP at --server: durable, of all sites or of --site.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --hub: begin this long ago instead of now.")
    ] = None,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after this many readings.")] = None,
) -> None:
    """Print readings as they come in, one line each, until Ctrl-C."""
    from petiole_tools import watching

    run(watching.watch(options_of(context), device, from_hub=hub, since=since, count=count))
