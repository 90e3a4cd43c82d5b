"""`petiole flash` with the real mpremote transport against a real MicroPython on LittleFS, behind a pty."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from petiole_tools.flash import find
from petiole_tools.flash import session as sessions
from petiole_tools.flash.errors import FlashError
from petiole_tools.flash.session import Session

from .conftest import Run
from .flashing import FLASH, app, flash, look, state
from .rig import BoardVm
from .steps import WITHOUT_IMAGE

# With a gateway --------------------------------------------------------------------------------------------


def test_a_bare_board_becomes_a_node_that_has_joined_and_then_another_version_of_it(
    petiole: Run, plugged: str, board: BoardVm, tmp_path: Path
) -> None:
    one = app(tmp_path, "1.0")
    code, out, err = petiole(*FLASH, plugged, "--name", "leaf", "--app", one)
    assert code == 0, err
    steps = [line.split()[0] for line in out.splitlines()]
    assert steps == WITHOUT_IMAGE
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


def test_a_board_whose_key_is_not_that_of_the_gateway_is_found_at_once(
    petiole: Run, plugged: str, tmp_path: Path
) -> None:
    words = (*FLASH, plugged, "--name", "leaf", "--app", app(tmp_path, "1"))
    assert petiole(*words)[0] == 0
    assert petiole("device", "remove", "leaf")[0] == 0
    assert petiole("device", "add", "leaf")[0] == 0
    code, out, err = petiole(*words)
    assert code == 17
    assert err[-2] == "error: the board is leaf, but the site's leaf has another key"
    assert "gateway  " not in out
    code, out, err = petiole(*words, "--replace")
    assert code == 0, err
    assert "leaf replaced" in out
    assert petiole("device", "remove", "leaf")[0] == 0


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


def test_what_is_sent_is_told_as_it_is(petiole: Run, board: BoardVm, tmp_path: Path) -> None:
    flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "1"))
    out, _ = flash(petiole, board, "--name", "leaf", "--app", app(tmp_path, "2"))
    assert "1 file to send for slot b, 12 are on the board already" in out
    # Only its settings: a file beside the slots.
    out, _ = flash(petiole, board, "--name", "twig", "--app", app(tmp_path, "2"))
    size = len(look(board, lambda session: session.read("/petiole.json")))
    assert "petiole.json to write" in out
    assert f"written   petiole.json, {size} bytes sent\n" in out


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


def test_a_port_that_somebody_lets_go_at_this_moment(board: BoardVm, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process does that is being started: until it is another program it has the files of its parent."""
    board.wait_for_start(1)
    fd = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    why_not = sessions._why_not
    refused: list[str] = []

    def let_go(path: str, error: OSError | None) -> FlashError:
        problem = why_not(path, error)
        refused.append(str(problem))
        fcntl.flock(fd, fcntl.LOCK_UN)
        return problem

    monkeypatch.setattr(sessions, "_why_not", let_go)
    try:
        with Session(board.path):
            assert refused == [f"{board.path}: another program has it open"]
    finally:
        os.close(fd)


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
