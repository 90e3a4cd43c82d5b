"""What the commands have in common."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from petiole_tools.options import Options
from petiole_tools.quiet_start import TERMINATED

ALL_COMMANDS = "`petiole --help` lists the options of all commands, such as --config, --site and --json."


def examples(*commands: str) -> str:
    """The end of a help text. `\\b` keeps the lines as they are."""
    lines = "\n".join(f"  {command}" for command in commands)
    return f"\b\nExamples:\n{lines}\n\n{ALL_COMMANDS}"


def options_of(context: typer.Context) -> Options:
    """The global options."""
    found = context.obj
    assert isinstance(found, Options)
    return found


def run(work: Coroutine[Any, Any, Any], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Run the asynchronous part of a command. SIGTERM ends it in order, as Ctrl-C does."""
    terminated = False

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        await work

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise typer.Exit(TERMINATED) from None
