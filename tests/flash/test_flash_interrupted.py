"""`petiole flash` that is interrupted, wherever it is: what runs then, and what a repetition does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import petiole_boot
from petiole_tools.flash import payload
from petiole_tools.flash import session as sessions
from petiole_tools.flash.session import Session

from .conftest import Run
from .flashing import FLASH, app, at_step, flash, look, state, wait_until
from .rig import BoardVm

# For a board whose application ends at once, so that it starts again and again, on a busy machine.
BUSY_S = 30.0


@pytest.mark.parametrize("step", [9, 40])
def test_power_that_goes_in_the_middle_leaves_the_old_firmware_and_a_repetition_completes(
    step: int, petiole: Run, board: BoardVm, tmp_path: Path
) -> None:
    flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1"))
    # So that all of it has to be sent again.
    look(board, lambda session: session.write("/a/app.mpy", b"worn"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "ANSWER_S", 1.0)
        patch.setattr(sessions.SerialTransport.read_until, "__defaults__", (1.0, None, None))
        at_step(patch, step, board.power_off)
        code, _, err = petiole(*FLASH, board.path, "--offline", "--app", app(tmp_path, "2"))
    assert code == 19, err
    assert "run the same command again" in err[-1]
    board.power_on()
    with Session(board.path) as session:
        found = state(session)
        assert found is not None
        assert found[0] == "a"
    flash(petiole, board, "--app", app(tmp_path, "2"))
    assert look(board, state) == ("b", "a", 0, 0)


def test_a_cable_that_is_pulled_in_the_middle(petiole: Run, tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    with BoardVm(tmp_path / "board") as board, pytest.MonkeyPatch.context() as patch:
        at_step(patch, 30, board.unplug)
        _, err = flash(petiole, board, "--name", "leaf", expect=19)
        assert "check the cable" in err[-1]
    # In again: what was copied stays, and is not sent again.
    with BoardVm(tmp_path / "board") as board:
        out, _ = flash(petiole, board, "--name", "leaf")
        sent = int(next(line for line in out.splitlines() if line.startswith("compared")).split()[1])
        assert 0 < sent < 13
        assert look(board, state) == ("a", "", 0, 0)


def test_ctrl_c_ends_it_in_order_and_the_board_runs_again(board: BoardVm, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "petiole_tools", *FLASH, board.path, "--offline", "--name", "leaf"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    while "compared" not in process.stdout.readline():
        assert process.poll() is None
    number = board.starts_total
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    board.wait_for_start(number + 1)
    tree = look(board, lambda session: session.tree("/"))
    assert not any(path.endswith("manifest.txt") for path in tree)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_does_not_wait_for_what_is_being_built(
    petiole: Run, board: BoardVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, built = threading.Event(), []

    def build(*_: Any) -> Any:
        ctrl_c()
        goes_on.wait(20)
        built.append(True)

    monkeypatch.setattr(payload, "build", build)
    _, err = flash(petiole, board, "--name", "leaf", expect=130)
    assert (err, built) == ([], [])
    goes_on.set()


def test_ctrl_c_while_the_board_is_started_does_not_start_it_again(
    petiole: Run, board: BoardVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset, resets = Session.reset, 0

    def interrupted(self: Session) -> None:
        nonlocal resets
        resets += 1
        ctrl_c()
        reset(self)

    monkeypatch.setattr(Session, "reset", interrupted)
    flash(petiole, board, "--name", "leaf", expect=130)
    assert resets == 1, "it runs already, and would not answer for half a minute"
    board.wait_for_start(2)


def test_a_new_firmware_that_never_reaches_a_gateway_is_given_up(petiole: Run, board: BoardVm, tmp_path: Path) -> None:
    flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1"))
    bad = tmp_path / "bad.py"
    bad.write_text("import petiole_node\nraise ValueError('a mistake')\n")
    flash(petiole, board, "--app", str(bad))

    with Session(board.path, patience_s=BUSY_S) as session:
        session.replace("/slots.st", petiole_boot.encode("b", "a", petiole_boot.TRIALS + 1))
    board.power_off()
    for start in range(petiole_boot.TRIALS):
        board.power_on()
        counted = petiole_boot.encode("b", "a", petiole_boot.TRIALS - start, start + 1)
        wait_until(lambda counted=counted: board.image_has(counted))
        board.power_off()
    board.power_on()
    with Session(board.path, patience_s=BUSY_S) as session:
        assert state(session) == ("a", "", 0, 0)
