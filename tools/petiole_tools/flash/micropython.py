"""MicroPython onto a board that may have none: looked at before, installed, waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path

from petiole_tools.boards import Board
from petiole_tools.flash import check, find, image
from petiole_tools.flash.errors import BoardLost, FlashError, NoMicroPython
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.report import Report
from petiole_tools.flash.session import Session
from petiole_tools.stoppable import in_thread

BACK_S = 30.0  # a port after a reset or a new image; USB takes 2 s
_LOOK_AGAIN_S = 0.5


async def install(
    board: Board, data: bytes, target: BoardPort, drive: Path | None, report: Report, stop: threading.Event
) -> str:
    """Put a checked image onto the board; the port at which it is afterwards. Raises FlashError.

    A board of another chip, as its MicroPython says, is left as it was.
    """
    before = {port.path for port in find.present()}
    has_run = bool(target.path) and await in_thread(stop, lambda: _stop(board, target.path, stop))
    try:
        if board.flash.method == "esptool":
            with tempfile.NamedTemporaryFile(suffix=".bin") as file:
                file.write(data)
                file.flush()
                await in_thread(stop, lambda: image.write_esptool(board, target.path, Path(file.name)))
        else:
            await in_thread(stop, lambda: image.write_uf2(board, data, drive, stop=stop))
    except BaseException:
        if has_run and board.flash.method == "esptool":  # it stands in the REPL
            with contextlib.suppress(FlashError):
                await asyncio.shield(asyncio.to_thread(_start, target.path))
        raise
    report.step("installed", "MicroPython; the board starts")
    end = time.monotonic() + BACK_S
    while True:
        found = _back(board, target, before)
        if found is not None:
            return found.path
        if time.monotonic() > end:
            raise BoardLost("the board has not come back after its new image", "pull the cable, and run this again")
        await asyncio.sleep(_LOOK_AGAIN_S)


def _stop(board: Board, path: str, stop: threading.Event) -> bool:
    """End what runs there, and go into the loader if a program can ask for it; whether there was a MicroPython."""
    try:
        session = Session(path, stop=stop)
    except NoMicroPython:  # a person has pressed BOOT, or will
        return False
    with session:
        try:
            with contextlib.suppress(NoMicroPython):  # an old one
                check.check_chip(board, session.facts())
            if board.flash.method == "uf2":
                session.start_loader()
        except BaseException:
            with contextlib.suppress(FlashError):
                session.recover()
            raise
    return True


def _start(path: str) -> None:
    with Session(path) as session:
        session.reset()


def _back(board: Board, target: BoardPort, before: set[str]) -> BoardPort | None:
    """Where it is now: its serial number, its path, or for a board that had no port the only one that is new."""
    if not target.path:
        new = [port for port in find.fitting(board) if port.path not in before]
        return new[0] if len(new) == 1 else None
    same = [port for port in find.present() if port.serial and port.serial == target.serial]
    found = same[0] if len(same) == 1 else target
    return found if os.path.exists(found.path) else None
