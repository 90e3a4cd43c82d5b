"""What is to be flashed, and onto which boards; `one_board` does it to each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from petiole_tools import boards
from petiole_tools.boards import Board
from petiole_tools.failure import CliError
from petiole_tools.flash import find, identity, image, payload, project, registry
from petiole_tools.flash.errors import BadImage, NoBoard
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.names import names
from petiole_tools.flash.one_board import Job, flash_one
from petiole_tools.flash.report import Report
from petiole_tools.flash.wanted import Wanted
from petiole_tools.options import Options
from petiole_tools.output import note, say_json
from petiole_tools.stoppable import abandonable

_LOOK_AGAIN_S = 0.5


async def flash(
    options: Options, wanted: Wanted, otherwise: str = "--offline flashes without a gateway"
) -> list[dict[str, Any]]:
    """Flash one board, or all that fit; what was done to each. `otherwise`: what helps where no gateway answers. Raises
    CliError."""
    wanted, extra, app = _with_project(wanted)
    if wanted.board is None:
        raise CliError("which board is it?", "--board BOARD, or board = … in petiole.toml; `petiole boards` lists them")
    board = boards.load(wanted.board)
    _check_arguments(board, wanted, extra)
    client = None if wanted.is_offline else await registry.reach(options, otherwise)
    try:
        # What is wrong is told first: the port where it should be there, the sources where it is still to come.
        targets = None if wanted.waits else await _targets(board, wanted)
        shown = "petiole's example" if app == payload.EXAMPLE else app.name or "app.py"
        report = Report("", options.as_json)
        report.step("building", f"the firmware for {board.port}, and {shown}")
        built = await abandonable(lambda: payload.build(board, app))
        report.step("built", f"the firmware: {built.origin}")
        data = await _image(board, wanted)
        targets = targets or await _targets(board, wanted)
        job = Job(client, board, wanted, extra, built, data, keeps_name=wanted.all)
        if wanted.all:
            results = await _flash_all(job, targets, options.as_json)
        else:
            results = [await flash_one(job, targets[0], report)]
    finally:
        if client is not None:
            await client.connection.close()
    if options.as_json:
        say_json({"boards": results} if wanted.all else results[0])
    return results


def _check_arguments(board: Board, wanted: Wanted, extra: dict[str, Any]) -> None:
    """What is wrong whatever is on the cable, before anything there is stopped. Raises CliError."""
    if (wanted.image is None) != (wanted.sha256 is None):
        raise CliError("--image and --sha256 go together", "whoever offers an image shows its SHA-256")
    if wanted.sha256 is not None:
        image.check_sum(wanted.sha256)
        image.check_tool(board)
    identity.check_arguments(board, wanted.name, wanted.links, wanted.wifi, extra)


async def _image(board: Board, wanted: Wanted) -> bytes | None:
    """The image to install, checked. Raises BadImage."""
    if wanted.image is None or wanted.sha256 is None:
        return None
    source, sha256 = wanted.image, wanted.sha256
    try:
        async with asyncio.timeout(image.DOWNLOAD_S):
            data = await abandonable(lambda: image.fetch(source, sha256))
    except TimeoutError as error:
        raise BadImage(f"{source} has not come within {image.DOWNLOAD_S:g} s", "fetch it, and name its path") from error
    image.check(board, data)
    return data


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

    base = job.wanted.name
    wanted_names = [None] * len(targets) if base is None else names(base, targets)
    serials = [target.serial for target in targets]

    async def one(target: BoardPort, name: str | None) -> dict[str, Any] | CliError:
        own = replace(job.wanted, name=name)
        is_alone = bool(target.serial) and serials.count(target.serial) == 1
        report = Report(target.serial if is_alone else target.path, is_quiet)
        try:
            return await flash_one(replace(job, wanted=own), target, report)
        except CliError as error:
            report.step("failed", f"{error.problem}; {error.hint}")
            return error

    results = await asyncio.gather(*map(one, targets, wanted_names))
    failures = [result for result in results if isinstance(result, CliError)]
    if failures:
        worst = CliError(f"{len(failures)} of {len(targets)} boards were not flashed", failures[0].hint)
        worst.exit_code = failures[0].exit_code
        raise worst
    return [result for result in results if isinstance(result, dict)]
