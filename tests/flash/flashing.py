"""What the tests of `petiole flash` share: an application, a flash that works, and a look at the board."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import petiole_boot
from petiole_tools.flash.session import Session

from .conftest import Run
from .rig import BoardVm

FLASH = ("flash", "--board", "unix", "--port")
APP = """
from petiole_node import Node
node = Node("petiole.json", firmware="{version}")
value = node.channel("value", type="i")
node.run()
"""


def app(folder: Path, version: str) -> str:
    path = folder / "app.py"
    path.write_text(APP.format(version=version))
    return str(path)


def state(session: Session) -> tuple[str, str, int, int] | None:
    return petiole_boot.decode(session.read("/slots.st") or b"")


def look(board: BoardVm, work: Callable[[Session], Any]) -> Any:
    """Ask the board, and let it start again."""
    number = board.starts_total
    with Session(board.path) as session:
        found = work(session)
        session.reset()
    board.wait_for_start(number + 1)
    return found


def flash(petiole: Run, board: BoardVm, *words: str, expect: int = 0) -> tuple[str, list[str]]:
    code, out, err = petiole(*FLASH, board.path, "--offline", *words)
    assert code == expect, err
    return out, err


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Do something before the so-many-th piece of code that a flash sends."""
    run = Session._run
    count = 0

    def counted(self: Session, code: str) -> str:
        nonlocal count
        count += 1
        if count == number:
            act()
        return run(self, code)

    monkeypatch.setattr(Session, "_run", counted)


def wait_until(probe: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < end
        time.sleep(0.05)
