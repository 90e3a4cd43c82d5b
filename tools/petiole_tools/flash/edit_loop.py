"""Edit, save, see: the application is flashed whenever it is saved, and the node's log follows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from petiole_tools import node_logs
from petiole_tools.failure import CliError
from petiole_tools.flash.flash import flash
from petiole_tools.flash.wanted import Wanted
from petiole_tools.options import Options
from petiole_tools.output import note

_LOOK_S = 0.3  # an editor's save is one or two changes within a tenth of it


async def edit_loop(options: Options, wanted: Wanted, app: Path) -> None:
    """Until cancelled. A mistake in the application is shown and waits for the next save; what is wrong with the board
    at the very first flash ends it. Raises CliError."""
    wanted = replace(wanted, app=app)
    log: asyncio.Task[None] | None = None
    is_first = True
    try:
        while True:
            seen = _changes(app)
            try:
                result = await flash(options, wanted, "the log of the node comes through it")
                name = str(result[0]["name"])
                wanted = replace(wanted, name=name)
                is_first = False
                if log is None:
                    log = asyncio.create_task(node_logs.logs(options, name, is_followed=True, count=0))
            except CliError as error:
                if is_first:
                    raise
                note(f"error: {error.problem}")
                note(f"hint: {error.hint}")
            note(f"watching {app}: save it and the node starts with it; Ctrl-C ends this")
            while _changes(app) == seen:
                await asyncio.sleep(_LOOK_S)
                if log is not None and log.done():
                    log.result()
    finally:
        if log is not None:
            log.cancel()
            await asyncio.gather(log, return_exceptions=True)


def _changes(app: Path) -> list[tuple[str, int, int]]:
    """What differs once somebody has saved something."""
    paths = sorted(app.rglob("*.py")) if app.is_dir() else [app]
    found = []
    for path in paths:
        try:
            seen = path.stat()
        except FileNotFoundError:  # an editor is replacing it
            continue
        found.append((str(path), seen.st_mtime_ns, seen.st_size))
    return found
