"""Work on a board by hand: its log, its REPL and its files, with a gateway beside it and without."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from petiole_gateway.links import serial
from petiole_gateway.links.port import PortError, permission_hint
from petiole_tools import hands_on
from petiole_tools.flash.session import Session

from .conftest import Run
from .rig import BoardVm

PETIOLE = [sys.executable, "-m", "petiole_tools"]
TALKER = b"""
import time
number = 0
while True:
    number += 1
    print("line", number)
    print("~AAECAwQFBgcICQ==")
    print("and ~AAECAwQFBgcICQ==")
    time.sleep_ms(20)
"""
APP = 'from petiole_node import Node\nnode = Node("petiole.json")\nnode.run()\n'


def run(*words: str, given: str = "", code: int = 0) -> tuple[list[str], str]:
    """Standard output as lines, and standard error."""
    done = subprocess.run([*PETIOLE, *words], capture_output=True, text=True, check=False, timeout=120, input=given)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines(), done.stderr


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No gateway has run here."""
    monkeypatch.setenv("PETIOLE_STATE_DIR", str(tmp_path / "nowhere"))


@pytest.fixture
def talker(board: BoardVm) -> BoardVm:
    """A board that says a line and sends frames all the time."""
    with Session(board.path) as session:
        session.write("/main.py", TALKER)
        number = board.starts_total  # a busy machine may have needed several tries to stop it
        session.reset()
    board.wait_for_start(number + 1)
    return board


@pytest.fixture
def node(petiole: Run, plugged: str, tmp_path: Path) -> Iterator[str]:
    """A node called hand, which has joined."""
    (tmp_path / "app.py").write_text(APP)
    words = ("flash", "--board", "unix", "--port", plugged, "--name", "hand", "--app", str(tmp_path / "app.py"))
    code, _, err = petiole(*words)
    assert code == 0, err
    yield "hand"
    assert petiole("device", "remove", "hand")[0] == 0


@contextlib.contextmanager
def terminal(*words: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command that has a terminal of its own; what is typed there is written to the descriptor."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *PETIOLE, *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, **env},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        os.close(ours)


def read_until(fd: int, text: bytes, timeout_s: float = 60) -> bytes:
    end = time.monotonic() + timeout_s
    found = bytearray()
    os.set_blocking(fd, False)
    while text not in found:
        assert time.monotonic() < end, bytes(found)
        try:
            found += os.read(fd, 4096)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            pytest.fail(f"it ended: {bytes(found)!r}")
    return bytes(found)


# The log ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone")
def test_what_a_board_says_is_read_from_its_port_without_frames(talker: BoardVm) -> None:
    number = talker.starts_total
    out, err = run("logs", "--port", talker.path, "--count", "6")
    texts = [line.split("  ", 1)[1] for line in out]
    assert f"{talker.path} is open; Ctrl-C ends this" in err
    assert sum(text.startswith("line ") for text in texts) == 3
    assert sum(text == "and " for text in texts) == 3
    (out, _) = run("logs", "--port", talker.path, "--count", "2", "--json")
    assert {json.loads(line)["link"] for line in out} == {talker.path}
    assert talker.starts_total == number, "nothing was sent that would have stopped it"


@pytest.mark.usefixtures("alone")
def test_a_log_goes_on_when_the_board_is_plugged_in_again(tmp_path: Path) -> None:
    link = tmp_path / "ttyACM0"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with BoardVm(tmp_path / "one") as one, BoardVm(tmp_path / "two") as two:
        for board in (one, two):
            with Session(board.path) as session:
                session.write("/main.py", TALKER)
                session.reset()
        link.symlink_to(one.path)
        process = subprocess.Popen(
            [*PETIOLE, "logs", "--port", str(link)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        try:
            assert any("line" in line for line in process.stdout)
            one.unplug()
            link.unlink()
            assert any("waiting until it is back" in line for line in process.stdout)
            link.symlink_to(two.path)
            assert any("is back" in line for line in process.stdout)
            assert any("line" in line for line in process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait(30) == 130, rest
            process.stdout.close()
        assert "Traceback" not in rest


def test_a_log_of_a_port_that_cannot_be_read(petiole: Run, board: BoardVm, tmp_path: Path) -> None:
    code, _, err = petiole("logs", "--port", str(tmp_path / "ttyACM9"))
    assert (code, err[-2]) == (10, f"error: there is no port {tmp_path / 'ttyACM9'}")
    fd = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        code, _, err = petiole("logs", "--port", board.path)
    finally:
        os.close(fd)
    assert (code, err[-2]) == (12, f"error: {board.path}: is in use")
    assert "petiole logs NAME" in err[-1]
    (tmp_path / "plain").touch()
    code, _, err = petiole("logs", "--port", str(tmp_path / "plain"))
    assert (code, err[-2]) == (10, f"error: {tmp_path / 'plain'}: is no serial port")
    assert petiole("logs", "kitchen", "--port", board.path)[0] == 2


# Files -----------------------------------------------------------------------------------------------------


def test_a_person_who_may_not_use_a_port_is_not_told_to_start_a_gateway(
    petiole: Run, board: BoardVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, whom nothing is forbidden."""
    os.chown(board.path, -1, grp.getgrnam("tty").gr_gid)
    os.chmod(board.path, 0o660)

    def refuse(port: str, _baud: int) -> None:
        raise PortError(port, "permission denied", permission_hint(port), "denied")

    monkeypatch.setattr(hands_on, "open_port", refuse)
    monkeypatch.setattr(serial, "open_port", refuse)
    for command, *more in (("shell", "ls"), ("repl",), ("logs",)):
        code, _, err = petiole(command, "--port", board.path, *more)
        assert (code, err[0]) == (13, f"error: {board.path}: permission denied")
        assert err[1].startswith("hint: sudo usermod -aG tty ")
        assert err[1].endswith(", then log in anew")


@pytest.mark.usefixtures("alone")
def test_files_of_a_board_without_a_gateway(talker: BoardVm, tmp_path: Path) -> None:
    out, err = run("shell", "--port", talker.path, "ls")
    assert any("main.py" in line for line in out)
    assert f"the board at {talker.path} starts again" in err
    talker.wait_for_start(3)
    (tmp_path / "text").write_text("some text\n")
    run("shell", "--port", talker.path, "cp", str(tmp_path / "text"), ":text")
    assert run("shell", "--port", talker.path, "cat", "text")[0] == ["some text"]
    # A command that fails has its own exit code, and the board starts all the same.
    number = talker.starts_total
    run("shell", "--port", talker.path, "cat", "nothing", code=1)
    talker.wait_for_start(number + 1)
    assert "is no serial port" in run("shell", "--port", str(tmp_path / "text"), "ls", code=10)[1]


def test_files_of_a_node_beside_its_gateway_which_runs_on_afterwards(node: str, plugged: str) -> None:
    out, err = run("shell", node, "ls")
    assert {"petiole.json", "slots.st"} <= {line.split()[-1] for line in out if line.strip()}
    assert "is the gateway's again" in err
    assert json.loads("\n".join(run("device", "show", node, "--json")[0]))["state"] == "online"
    # The same by the port: what the gateway has is lent, not taken.
    out, err = run("shell", "--port", plugged, "cat", "petiole.json")
    assert json.loads("\n".join(out))["name"] == node
    assert "is the gateway's again" in err
    assert "nobody is neither a serial port nor a device" in run("shell", "nobody", "ls", code=1)[1]


@pytest.mark.usefixtures("alone")
def test_a_script_of_file_commands_ends_at_the_first_that_fails(talker: BoardVm) -> None:
    out, _ = run("shell", "--port", talker.path, given="# a comment\nmkdir one\n\nls\nexit\ntouch never\n")
    assert any("one/" in line for line in out)
    run("shell", "--port", talker.path, given="rmdir two\ntouch never\n", code=1)
    out, _ = run("shell", "--port", talker.path, given="ls")
    assert any("one/" in line for line in out)
    assert not any("never" in line for line in out)


@pytest.mark.usefixtures("alone")
def test_a_prompt_for_files_completes_and_outlives_ctrl_c(talker: BoardVm) -> None:
    number = talker.starts_total
    with terminal("shell", "--port", talker.path) as (process, fd):
        prompt = f"{talker.path}> ".encode()
        read_until(fd, prompt)
        os.write(fd, b"sha\t main.py\r")
        assert b"main.py" in read_until(fd, prompt)
        os.write(fd, b"half\x03")
        read_until(fd, prompt)
        os.write(fd, b"help\r")
        read_until(fd, b"a colon stands before")
        os.write(fd, b"cat 'open\r")
        read_until(fd, b"no closing quotation")
        os.write(fd, b"\x04")
        read_until(fd, b"starts again")
        assert process.wait(30) == 0
    talker.wait_for_start(number + 1)


# The REPL --------------------------------------------------------------------------------------------------


def type_a_sum(fd: int) -> None:
    read_until(fd, b"Use Ctrl-] or Ctrl-x to exit this shell")
    os.write(fd, b"\x03")
    read_until(fd, b">>> ")
    os.write(fd, b"print(6 * 7)\r")
    read_until(fd, b"\n42")
    os.write(fd, b"\x1d")


@pytest.mark.usefixtures("alone")
def test_the_repl_of_a_board_without_a_gateway(talker: BoardVm) -> None:
    number = talker.starts_total
    with terminal("repl", "--port", talker.path) as (process, fd):
        type_a_sum(fd)
        read_until(fd, b"starts again")
        assert process.wait(30) == 0
    talker.wait_for_start(number + 1)


def test_the_repl_of_a_running_node_and_the_node_runs_again(node: str) -> None:
    before = json.loads("\n".join(run("device", "show", node, "--json")[0]))["joined_at"]
    with terminal("repl", node) as (process, fd):
        type_a_sum(fd)
        read_until(fd, b"is the gateway's again")
        assert process.wait(30) == 0
    end = time.monotonic() + 30
    while json.loads("\n".join(run("device", "show", node, "--json")[0]))["joined_at"] == before:
        assert time.monotonic() < end
    run("repl", code=2)
    run("repl", node, "--port", "/dev/ttyACM0", code=2)


# What runs on a port, interrupted ---------------------------------------------------------------------------

# Loaded by each Python that starts: that of mpremote gets Ctrl-C at this one of the things that Python tells its
# auditors (some 500 until mpremote is loaded, 3,500 for the prompt), or when it opens the port.
OPENING = -1
STRUCK = """
import os, signal, sys
if {module!r} in sys.orig_argv:
    left = {event}
    def heard(what, given):
        global left
        if left > 0:
            left -= 1
            is_now = left == 0
        else:
            is_now = left < 0 and what == "open" and given[0] == {path!r}
        if is_now:
            left = 0
            os.killpg(0, signal.SIGINT)
    sys.addaudithook(heard)
"""


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("command", "event"),
    [*(("repl", event) for event in (1, 40, 300, 450, OPENING)), *(("shell", event) for event in (1, 40, 300, 1500))],
)
def test_ctrl_c_while_a_board_is_reached_ends_it_without_a_traceback(
    board: BoardVm, tmp_path: Path, command: str, event: int
) -> None:
    module = "petiole_tools." + ("board_command" if command == "repl" else "board_prompt")
    (tmp_path / "start").mkdir()
    source = STRUCK.format(module=module, event=event, path=board.path)
    (tmp_path / "start" / "sitecustomize.py").write_text(source)
    number = board.starts_total
    with terminal(command, "--port", board.path, PYTHONPATH=str(tmp_path / "start")) as (process, fd):
        said = read_until(fd, b"starts again")
        assert process.wait(30) == 130
    assert b"Traceback" not in said
    board.wait_for_start(number + 1)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("typed", [None, b"", b"repl\r"], ids=["repl", "prompt", "repl at the prompt"])
def test_sigterm_leaves_the_terminal_as_it_was(talker: BoardVm, typed: bytes | None) -> None:
    command = "repl" if typed is None else "shell"
    with terminal(command, "--port", talker.path) as (process, fd):
        if typed is not None:
            read_until(fd, b"> ")
            os.write(fd, typed)
        if typed != b"":
            read_until(fd, b"exit this shell")
        process.terminate()
        read_until(fd, b"starts again")
        assert process.wait(30) == 143
        assert termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON
    talker.wait_for_start(3)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("words", "shown"),
    [(["repl"], b"exit this shell"), (["shell", "exec", "while True: print('on')"], b"on\r\non\r\n")],
    ids=["repl", "shell"],
)
def test_a_board_that_is_pulled_out_under_mpremote_is_an_error_of_ours(
    board: BoardVm, words: list[str], shown: bytes
) -> None:
    with terminal(words[0], "--port", board.path, *words[1:]) as (process, fd):
        read_until(fd, shown)
        board.unplug()
        said = read_until(fd, b"was not started again")
        assert process.wait(30) == 19
        assert termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON
    assert b"Traceback" not in said
    assert f"error: {board.path}: the board is gone, or silent".encode() in said
    assert b"hint: check the cable" in said


@pytest.mark.usefixtures("alone")
def test_a_reader_that_has_enough_is_no_lost_board(board: BoardVm) -> None:
    command = [*PETIOLE, "shell", "--port", board.path, "exec", "for _ in range(5000): print('a line')"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(6) == b"a line"
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(30) == 0, err
    assert err == f"the board at {board.path} starts again\n"


# Waiting for a board ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alone")
def test_a_board_that_is_plugged_in_later_is_waited_for(board: BoardVm, tmp_path: Path) -> None:
    link = tmp_path / "ttyACM0"
    words = ["flash", "--board", "unix", "--name", "late", "--offline", "--wait", "--port", str(link)]
    process = subprocess.Popen(
        [*PETIOLE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stderr is not None
    try:
        assert "waiting for a" in process.stderr.readline()
        # As after plugging in: for a moment another program has it.
        fd = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        link.symlink_to(board.path)
        threading.Timer(1, os.close, [fd]).start()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "late starts" in out


@pytest.mark.usefixtures("alone")
def test_waiting_for_a_board_ends_with_ctrl_c(tmp_path: Path) -> None:
    words = ["flash", "--board", "unix", "--name", "late", "--offline", "--wait", "--port", str(tmp_path / "ttyACM0")]
    process = subprocess.Popen([*PETIOLE, *words], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    assert "waiting for a" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 130
