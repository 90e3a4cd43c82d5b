"""`petiole flash` with the real mpremote transport against a real MicroPython on LittleFS, behind a pty."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import petiole_boot
from petiole_tools.flash import find, payload
from petiole_tools.flash import session as sessions
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


# With a gateway --------------------------------------------------------------------------------------------


def test_a_bare_board_becomes_a_node_that_has_joined_and_then_another_version_of_it(
    petiole: Run, plugged: str, board: BoardVm, tmp_path: Path
) -> None:
    one = app(tmp_path, "1.0")
    code, out, err = petiole(*FLASH, plugged, "--name", "leaf", "--app", one)
    assert code == 0, err
    steps = [line.split()[0] for line in out.splitlines()]
    assert steps == ["building", "found", "compared", "written", "gateway", "started", "joined"]
    code, text, _ = petiole("device", "show", "leaf", "--json")
    first = json.loads(text)
    assert (first["state"], first["firmware"]) == ("online", "1.0")

    # The same again, on a board that runs: nothing is copied, it is the same device with the same key.
    code, out, err = petiole(*FLASH, plugged, "--name", "leaf", "--app", one)
    assert code == 0, err
    assert "nothing to copy" in out
    assert "leaf is registered already" in out
    assert "joined" in out

    # Another application: one file goes over the cable, the firmware is copied on the board.
    code, out, err = petiole(*FLASH, plugged, "--app", app(tmp_path, "1.1"), "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["name"], result["slot"]) == ("leaf", "b")
    assert result["sent_bytes"] < 1000
    code, text, _ = petiole("device", "show", "leaf", "--json")
    second = json.loads(text)
    assert (second["id"], second["firmware"]) == (first["id"], "1.1")

    # Its answer has ended the trial.
    code, _, err = petiole("port", "release", plugged)
    assert code == 0, err
    assert look(board, state) == ("b", "a", 0, 0)
    petiole("port", "resume", plugged)
    assert petiole("device", "remove", "leaf")[0] == 0


def test_a_name_that_another_board_has_is_not_taken_from_it_unasked(
    petiole: Run, plugged: str, board: BoardVm, tmp_path: Path
) -> None:
    assert petiole("device", "add", "taken")[0] == 0
    code, _, err = petiole(*FLASH, plugged, "--name", "taken", "--app", app(tmp_path, "1"))
    assert code == 17
    assert err[-2] == "error: the site has a device taken already"
    assert "--replace" in err[-1]
    code, out, err = petiole(*FLASH, plugged, "--name", "taken", "--app", app(tmp_path, "1"), "--replace")
    assert code == 0, err
    assert "taken replaced" in out
    assert petiole("device", "remove", "taken")[0] == 0


def test_a_node_that_does_not_join_in_time_is_said_with_what_to_look_at(
    petiole: Run, plugged: str, tmp_path: Path
) -> None:
    words = ("--name", "deaf", "--link", "udp://127.0.0.1:9", "--timeout", "1", "--app", app(tmp_path, "1"))
    code, _, err = petiole(*FLASH, plugged, *words)
    assert code == 20
    assert err[-2] == "error: deaf has not joined within 1 s"
    assert "Wi-Fi" in err[-1]
    assert petiole("device", "remove", "deaf")[0] == 0


# Without one -----------------------------------------------------------------------------------------------


def flash(petiole: Run, board: BoardVm, *words: str, expect: int = 0) -> tuple[str, list[str]]:
    code, out, err = petiole(*FLASH, board.path, "--offline", *words)
    assert code == expect, err
    return out, err


def test_a_dry_run_changes_nothing(petiole: Run, board: BoardVm) -> None:
    out, _ = flash(petiole, board, "--name", "leaf", "--dry-run")
    assert "13 files to send for slot a" in out
    assert look(board, lambda session: session.tree("/")) == {"/": (-1, "-")}


def test_offline_says_what_registers_the_device(petiole: Run, board: BoardVm) -> None:
    out, _ = flash(petiole, board, "--name", "leaf")
    command = out.splitlines()[-1]
    settings = json.loads(look(board, lambda session: session.read("/petiole.json")))
    assert command.endswith(f"petiole device add leaf --key {settings['key']}")
    assert settings["links"] == [{"kind": "console"}]
    assert look(board, state) == ("a", "", 0, 0)


def test_a_main_py_of_somebody_else_is_kept(petiole: Run, board: BoardVm) -> None:
    with Session(board.path) as session:
        session.write("/main.py", b"print('mine')\n")
    out, _ = flash(petiole, board, "--name", "leaf")
    assert "main_before.py" in out
    assert look(board, lambda session: session.read("/main_before.py")) == b"print('mine')\n"


def test_another_board_than_the_one_that_is_meant(petiole: Run, board: BoardVm) -> None:
    code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--port", board.path, "--offline")
    assert code == 14
    assert "not a Raspberry Pi Pico" in err[-2]
    assert err[-1] == "hint: --board unix"


def test_a_micropython_that_is_too_old_is_said_and_its_program_runs_on(petiole: Run, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with BoardVm(tmp_path / "old", release="1.19.1") as board:
        board.wait_for_start(1)
        _, err = flash(petiole, board, "--name", "leaf", expect=16)
        assert err == [
            "error: MicroPython 1.19 is too old, 1.28 is the oldest that will do",
            "hint: install a newer one",
        ]
        board.wait_for_start(2)
        assert not board.image_has(b"petiole")


def test_a_board_without_room_is_left_as_it_was(petiole: Run, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with BoardVm(tmp_path / "small", sectors=24) as board:
        _, err = flash(petiole, board, "--name", "leaf", expect=15)
        assert "needs" in err[-2]
        assert "are free" in err[-2]
        assert look(board, lambda session: session.tree("/")) == {"/": (-1, "-")}


def test_a_flash_that_fills_up_meanwhile_is_said_and_the_old_firmware_stays(
    petiole: Run, board: BoardVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1"))
    room = Session.room
    monkeypatch.setattr(Session, "room", lambda self, root: (1 << 30, room(self, root)[1]))
    with Session(board.path) as session:
        free = room(session, "/")[0]
        session.call("p_open", "/big")
        for _ in range((free - 40_000) // 4096):
            session._run("p_file.write(b'x' * 4096)")
        session.call("p_close")
    _, err = flash(petiole, board, "--app", app(tmp_path, "2"), expect=15)
    assert err[-2] == "error: the board's flash is full"
    assert look(board, state) == ("a", "", 0, 0)


def test_a_port_that_somebody_has_open(petiole: Run, board: BoardVm) -> None:
    board.wait_for_start(1)  # the process that becomes the board has this one's files open for a moment
    fd = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _, err = flash(petiole, board, "--name", "x", expect=12)
    finally:
        os.close(fd)
    assert err[-2] == f"error: {board.path}: another program has it open"
    assert "petiole port release" in err[-1]


def test_a_port_that_is_forbidden(petiole: Run, board: BoardVm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, whom nothing is forbidden: what the system would say is said here."""

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", board.path)

    monkeypatch.setattr(sessions, "SerialTransport", refuse)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(sessions.PortForbidden) as caught:
        Session(board.path)
    assert "dialout" in caught.value.hint


def test_no_board_and_several_boards(petiole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--offline")
    assert (code, err[-2]) == (10, "error: no RPI_PICO is on a USB port")
    code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--offline", "--port", "id:E66")
    assert (code, err[-2]) == (10, "error: no port has the USB serial number E66")
    assert err[-1] == "hint: nothing is on USB: plug the board in, with a cable that carries data; --wait waits for it"

    class Info:
        vid, pid, description = 0x2E8A, 0x0005, "Board in FS mode"

        def __init__(self, device: str, serial_number: str) -> None:
            self.device, self.serial_number = device, serial_number

    there = [Info("/dev/ttyACM1", "E662"), Info("/dev/ttyACM0", "E661")]
    monkeypatch.setattr(find.list_ports, "comports", lambda: there)
    for wanted in ("id:E66", "/dev/ttyACM7"):
        code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--offline", "--port", wanted)
        listed = "on USB: /dev/ttyACM0 (id:E661), /dev/ttyACM1 (id:E662)"
        assert (code, err[-1]) == (10, f"hint: {listed}; --wait waits for it")
    code, _, err = petiole("shell", "--port", "/dev/ttyACM7", "ls")
    assert (code, err[-1]) == (10, f"hint: {listed}")
    code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--offline")
    assert code == 11
    assert err[-4:] == [
        "error: 2 ports may be a RPI_PICO",
        "  --port id:E661   Board in FS mode",
        "  --port id:E662   Board in FS mode",
        "hint: name one of them, or take --all",
    ]


def test_no_gateway_and_nobody_said_that_none_is_needed(petiole: Run, board: BoardVm) -> None:
    code, _, err = petiole(*FLASH, board.path, "--name", "x")
    assert code == 18
    assert "--offline" in err[-1]
    code, _, err = petiole("run", app(board.image.parent, "1"), "--board", "unix", "--name", "x", "--port", board.path)
    assert code == 18
    assert "--offline" not in err[-1], "it has no such option"
    assert "the log of the node comes through it" in err[-1]
    assert board.starts_total <= 1, "the board was not touched"


def test_something_that_is_no_repl(petiole: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PROMPT_S", 0.1)
    ours, theirs = os.openpty()
    try:
        code, _, err = petiole(*FLASH, os.ttyname(theirs), "--name", "x", "--offline")
    finally:
        os.close(ours)
        os.close(theirs)
    assert code == 16
    assert "reset button" in err[-1]


# Interrupted -----------------------------------------------------------------------------------------------


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


def test_a_new_firmware_that_never_reaches_a_gateway_is_given_up(
    petiole: Run, board: BoardVm, tmp_path: Path
) -> None:
    flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1"))
    bad = tmp_path / "bad.py"
    bad.write_text("import petiole_node\nraise ValueError('a mistake')\n")
    flash(petiole, board, "--app", str(bad))

    with Session(board.path) as session:
        session.replace("/slots.st", petiole_boot.encode("b", "a", petiole_boot.TRIALS + 1))
    board.power_off()
    for start in range(petiole_boot.TRIALS):
        board.power_on()
        counted = petiole_boot.encode("b", "a", petiole_boot.TRIALS - start, start + 1)
        wait_until(lambda counted=counted: board.image_has(counted))
        board.power_off()
    board.power_on()
    with Session(board.path) as session:
        assert state(session) == ("a", "", 0, 0)


def wait_until(probe: Callable[[], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < end
        time.sleep(0.05)
