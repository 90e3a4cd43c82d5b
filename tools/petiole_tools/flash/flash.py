"""What is to be flashed, and onto which boards; `one_board` does it to each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from petiole_tools import boards
from petiole_tools.boards import Board
from petiole_tools.failure import CliError
from petiole_tools.flash import find, image, payload, project, registry
from petiole_tools.flash.errors import NoBoard
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.one_board import Job, flash_one
from petiole_tools.flash.report import Report
from petiole_tools.flash.wanted import Wanted
from petiole_tools.options import Options
from petiole_tools.output import note, say_json

_LOOK_AGAIN_S = 0.5


async def flash(options: Options, wanted: Wanted) -> list[dict[str, Any]]:
    """Flash one board, or all that fit; what was done to each. Raises CliError."""
    wanted, extra, app = _with_project(wanted)
    if wanted.board is None:
        raise CliError("which board is it?", "--board BOARD, or board = … in petiole.toml; `petiole boards` lists them")
    board = boards.load(wanted.board)
    if (wanted.image is None) != (wanted.sha256 is None):
        raise CliError("--image and --sha256 go together", "whoever offers an image shows its SHA-256")
    data = None
    if wanted.image is not None and wanted.sha256 is not None:
        data = await asyncio.to_thread(image.fetch, wanted.image, wanted.sha256)
        image.check(board, data)
    client = None if wanted.is_offline else await registry.reach(options)
    try:
        targets = await _targets(board, wanted)
        built = await asyncio.to_thread(payload.build, board, app)
        job = Job(client, board, wanted, extra, built, data, keeps_name=wanted.all)
        if wanted.all:
            results = await _flash_all(job, targets, options.as_json)
        else:
            results = [await flash_one(job, targets[0], Report("", options.as_json))]
    finally:
        if client is not None:
            await client.connection.close()
    if options.as_json:
        say_json({"boards": results} if wanted.all else results[0])
    return results


def _with_project(wanted: Wanted) -> tuple[Wanted, dict[str, Any], Path]:
    """What the project's folder adds, and where the application is."""
    app = wanted.app if wanted.app is not None else Path()
    if wanted.app is None and not (app / "app.py").is_file():
        if not payload.EXAMPLE.is_file():  # an installed package has none
            raise CliError("there is no app.py here", "`petiole new FOLDER` makes one; --app names another place")
        return wanted, {}, payload.EXAMPLE
    if not app.exists():
        raise CliError(f"there is no {app}", "name an app.py, or a folder with one; `petiole new FOLDER` makes one")
    found = project.load(app if app.is_dir() else app.parent)
    name = wanted.name or (None if wanted.all else found.name)
    links = wanted.links or list(found.links)
    return replace(wanted, board=wanted.board or found.board, name=name, links=links), found.settings, app


async def _targets(board: Board, wanted: Wanted) -> list[BoardPort]:
    """The ports to flash. A board that waits for an image has none: then a port of no path."""
    is_told = False
    while True:
        try:
            if wanted.all:
                found = find.fitting(board)
                if not found:
                    find.choose(board, None)
                return found
            return [find.choose(board, wanted.port)]
        except NoBoard:
            if wanted.image is not None and board.flash.method == "uf2" and wanted.port is None and not wanted.all:
                return [BoardPort("")]  # its loader is a drive
            if not wanted.waits:
                raise
        if not is_told:
            note(f"waiting for a {board.title}; Ctrl-C ends it")
            is_told = True
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _flash_all(job: Job, targets: list[BoardPort], is_quiet: bool) -> list[dict[str, Any]]:
    """Side by side: each board has a cable of its own. All are tried; CliError if any has failed."""

    async def one(target: BoardPort) -> dict[str, Any] | CliError:
        base = job.wanted.name
        own = replace(job.wanted, name=f"{base}-{target.serial[-6:].lower()}" if base else None)
        report = Report(target.serial or target.path, is_quiet)
        try:
            return await flash_one(replace(job, wanted=own), target, report)
        except CliError as error:
            report.step("failed", f"{error.problem}; {error.hint}")
            return error

    results = await asyncio.gather(*(one(target) for target in targets))
    failures = [result for result in results if isinstance(result, CliError)]
    if failures:
        worst = CliError(f"{len(failures)} of {len(targets)} boards were not flashed", failures[0].hint)
        worst.exit_code = failures[0].exit_code
        raise worst
    return [result for result in results if isinstance(result, dict)]
