# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole request`: a command of a device."""

from __future__ import annotations

from typing import Annotated

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples(
    "petiole request kitchen identify",
    "petiole request kitchen blink 3 0.5",
    "petiole request kitchen blink times=3",
    "petiole request kitchen label '\"top shelf\"'",
    "petiole request kitchen set '{\"level\": 3}' --timeout 30s",
    "petiole request kitchen identify --wait 10m",
)


def request(
    context: typer.Context,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Name of the device.")],
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="Name of one of its commands.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENT", help="JSON values in order, or name=value.")
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="How long to wait for the reply.")] = "5s",
    wait: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="If the device cannot be reached now, queue it and wait so long."),
    ] = None,
) -> None:
    """Run a command of a device and print its reply as JSON."""
    from petiole_tools import requests

    run(requests.request(options_of(context), device, command, arguments or [], timeout, wait))
