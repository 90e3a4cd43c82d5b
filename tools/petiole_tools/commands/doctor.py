# ruff: noqa: PLC0415 - start-up time: what a command needs is imported by the command
"""`petiole doctor`: what is wrong with this machine, for a gateway."""

from __future__ import annotations

import typer

from petiole_tools.commands.shared import examples, options_of, run

EPILOG = examples("petiole doctor", "petiole --config /etc/petiole/gateway.toml doctor", "petiole doctor --json")


def doctor(context: typer.Context) -> None:
    """Look for what keeps a gateway on this machine from working well, whether it runs or not.

    Settings, clock, power, server program, the running gateway, serial ports, data folder, disk and its wear, secrets,
    hub. Each finding says what comes of it and what to do. Nothing is changed. The exit code is 1 if there is an error.

    Without --config and --state-dir it means the service's, where there is one.
    """
    from petiole_tools.doctor import examination

    code = 0

    async def work() -> None:
        nonlocal code
        code = await examination.show(options_of(context))

    run(work())
    if code:
        raise typer.Exit(code)
