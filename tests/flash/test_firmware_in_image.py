"""A board whose image has the firmware frozen into it: `petiole flash` brings the application, in slots as ever.

A MicroPython with our firmware in it takes minutes to build. Here the modules lie in a folder that is no part of the
board's file system; tests/emulated has such an image on a Pico.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from petiole_tools.flash import payload, session

from .conftest import Run
from .flashing import FLASH, app, flash, look, state
from .rig import BoardVm

BESIDE = {"/", "/main.py", "/petiole.json", "/slots.st"}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardVm]:
    for path, data in payload._firmware("unix").files.items():
        if path != payload.START:
            (tmp_path / "frozen" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "frozen" / path).write_bytes(data)
    monkeypatch.setattr(session, "IMAGE", "/frozen")
    (tmp_path / "board").mkdir()
    with BoardVm(tmp_path / "board", frozen=tmp_path / "frozen") as made:
        yield made


def paths(board: BoardVm) -> set[str]:
    tree = look(board, lambda session: session.tree("/"))
    return {path.replace("//", "/") for path in tree}


def slot(name: str) -> set[str]:
    return {f"/{name}", f"/{name}/app.mpy", f"/{name}/manifest.txt"}


def in_slot(name: str, paths: set[str]) -> set[str]:
    return {path for path in paths if f"{path}/".startswith(f"/{name}/")}


def test_it_gets_the_application_only_and_joins(petiole: Run, plugged: str, board: BoardVm, tmp_path: Path) -> None:
    code, out, err = petiole(*FLASH, plugged, "--name", "leaf", "--app", app(tmp_path, "1.0"))
    assert code == 0, err
    assert "which has the firmware in it" in out
    assert "1 file to send for slot a" in out

    code, out, err = petiole(*FLASH, plugged, "--app", app(tmp_path, "1.0"))
    assert code == 0, err
    assert "nothing to copy" in out

    code, out, err = petiole(*FLASH, plugged, "--app", app(tmp_path, "1.1"), "--json")
    assert code == 0, err
    assert json.loads(out)["is_firmware_in_image"] is True
    device = json.loads(petiole("device", "show", "leaf", "--json")[1])
    assert (device["state"], device["firmware"]) == ("online", "1.1")
    assert petiole("port", "release", plugged)[0] == 0
    assert look(board, state) == ("b", "a", 0, 0), "its answer has ended the trial"
    assert paths(board) - {"/boot.cnt"} == BESIDE | slot("a") | slot("b")
    petiole("port", "resume", plugged)
    assert petiole("device", "remove", "leaf")[0] == 0


def test_files_that_would_come_before_the_image_do_not_stay(
    petiole: Run, board: BoardVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session, "IMAGE", ".frozen")
        flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1.0"))
    assert "/petiole_boot.mpy" in paths(board)
    out, _ = flash(petiole, board, "--app", app(tmp_path, "1.0"))
    assert "0 files to send for slot b, 1 is on the board already" in out
    there = paths(board)
    assert "/petiole_boot.mpy" not in there
    assert slot("b") == in_slot("b", there)
    assert look(board, state)[:2] == ("b", "a")


def test_an_image_without_the_firmware_gets_it_as_files(
    petiole: Run, board: BoardVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1.0"))
    monkeypatch.setattr(session, "IMAGE", ".frozen")
    out, _ = flash(petiole, board, "--app", app(tmp_path, "1.0"))
    assert "which has the firmware in it" not in out
    there = paths(board)
    assert "/petiole_boot.mpy" in there
    assert slot("b") < in_slot("b", there)
