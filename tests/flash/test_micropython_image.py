"""MicroPython itself onto a board: fetched with its checksum, looked at before, and only when it is meant."""

from __future__ import annotations

import hashlib
import http.server
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from petiole_tools import boards
from petiole_tools.boards import Board
from petiole_tools.flash import find, image
from petiole_tools.flash import session as sessions

from .conftest import Run
from .flashing import app
from .rig import BoardVm
from .steps import BEGIN, LOOK, WITH_IMAGE

FAMILY = 0xE48BFF56
LOADER = 11  # exit code of the board's VM for machine.bootloader()


def uf2() -> bytes:
    head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 0, 256, 0, 1, FAMILY)
    return head.ljust(508, b"\0") + struct.pack("<I", 0x0AB16F30)


IMAGE = uf2()
SUM = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unix board takes an image as a Pico does: on this drive, which is there all the time."""
    load = boards.load

    def with_loader(name: str, root: Path | None = None) -> Board:
        board = load(name, root)
        if name != "unix":
            return board
        flash = board.flash.model_copy(update={"method": "uf2", "volume": "RPI-RP2", "family": FAMILY})
        return board.model_copy(update={"flash": flash})

    monkeypatch.setattr(boards, "load", with_loader)
    (tmp_path / "image.uf2").write_bytes(IMAGE)
    folder = tmp_path / "RPI-RP2"
    folder.mkdir()
    (folder / "INFO_UF2.TXT").write_text("UF2 Bootloader")
    return folder


def words(board: BoardVm, drive: Path, *more: str) -> list[str]:
    given = ["flash", "--board", "unix", "--name", "leaf", "--offline", "--port", board.path, "--drive", str(drive)]
    return [*given, "--image", "image.uf2", "--sha256", SUM, *more]


def test_a_dry_run_installs_no_image(petiole: Run, board: BoardVm, drive: Path) -> None:
    code, out, err = petiole(*words(board, drive, "--dry-run"))
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == [*BEGIN, "image", *LOOK, "stopped"]
    assert "without it the image would be installed first" in out
    assert sorted(path.name for path in drive.iterdir()) == ["INFO_UF2.TXT"]
    assert LOADER not in board.ended
    assert not board.image_has(b"leaf")


def test_a_dry_run_on_a_board_without_micropython_says_that_it_knows_no_more(
    petiole: Run, board: BoardVm, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unix = boards.load("unix")
    later = unix.micropython.model_copy(update={"minimum": "9.0"})
    monkeypatch.setattr(boards, "load", lambda *_: unix.model_copy(update={"micropython": later}))
    board.wait_for_start(1)
    code, out, err = petiole(*words(board, drive, "--dry-run"))
    assert code == 0, err
    assert "nothing was changed; MicroPython 1." in out
    assert "is too old" in out
    board.wait_for_start(2)  # it runs again
    assert sorted(path.name for path in drive.iterdir()) == ["INFO_UF2.TXT"]
    # Nor on one that answers nothing, which is waiting for its image.
    board.power_off()
    code, out, err = petiole(*words(board, drive, "--dry-run"))
    assert code == 0, err
    assert "answers as MicroPython does, so the rest shows once the image is installed" in out


def test_an_image_is_installed_before_the_firmware(
    petiole: Run, board: BoardVm, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A VM that gets Ctrl-C before it knows what that is starts once more, and on a busy machine takes long to.
    monkeypatch.setattr(sessions, "PROMPT_S", 30.0)
    code, out, err = petiole(*words(board, drive))
    assert code == 0, err
    assert (drive / "petiole.uf2").read_bytes() == IMAGE
    assert LOADER in board.ended
    assert [line.split()[0] for line in out.splitlines()][:6] == WITH_IMAGE[:6]


def test_a_board_that_has_its_port_only_now_is_lent_by_the_gateway_that_found_it_first(
    petiole: Run, site: Path, board: BoardVm, drive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A blank board shows a drive and no port. With the image it gets one, and the gateway looks for ports, too."""
    monkeypatch.setenv("PETIOLE_CONFIG", str(site))
    monkeypatch.delenv("PETIOLE_STATE_DIR")
    link = site.parent / "ports" / f"ttyACMnew{os.getpid()}"
    log = site.parent / "gateway.log"

    def has_opened() -> bool:
        return any(str(link) in line and "port_opened" in line for line in log.read_text().splitlines())

    def comports() -> list[SimpleNamespace]:
        if not (drive / "petiole.uf2").exists():
            return []
        if not link.is_symlink():
            link.symlink_to(board.path)
        if not has_opened():
            return []
        return [
            SimpleNamespace(vid=0x2E8A, pid=5, device=str(link), serial_number="E66", description="Board in FS mode")
        ]

    monkeypatch.setattr(find.list_ports, "comports", comports)
    monkeypatch.setattr(type(Board.model_fields["usb"].default), "knows", lambda *_: True)
    image_words = ("--drive", str(drive), "--image", "image.uf2", "--sha256", SUM)
    try:
        code, out, err = petiole(
            "flash", "--board", "unix", "--name", "blank", "--app", app(tmp_path, "1"), *image_words
        )
        assert code == 0, err
        assert [line.split()[0] for line in out.splitlines()] == WITH_IMAGE
        assert has_opened()
        assert petiole("device", "remove", "blank")[0] == 0
    finally:
        link.unlink(missing_ok=True)


def test_a_board_of_another_chip_gets_no_image_and_runs_on(
    petiole: Run, board: BoardVm, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unix = boards.load("unix")
    other = unix.micropython.model_copy(update={"mcu": "RP2350"})
    monkeypatch.setattr(boards, "load", lambda *_: unix.model_copy(update={"micropython": other}))
    board.wait_for_start(1)
    code, _, err = petiole(*words(board, drive))
    assert code == 14, err
    assert not (drive / "petiole.uf2").exists()
    assert LOADER not in board.ended
    board.wait_for_start(2)


# Downloads -------------------------------------------------------------------------------------------------


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/good":
            self.send_response(200)
            self.send_header("Content-Length", str(len(IMAGE)))
            self.end_headers()
            self.wfile.write(IMAGE)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(IMAGE)))
            self.end_headers()
            self.wfile.write(IMAGE[:100])
        elif self.path == "/pieces":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"64\r\n" + IMAGE[:100])
        elif self.path == "/huge":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(17):
                self.wfile.write(bytes(1 << 20))
        elif self.path in ("/moved", "/away"):
            self.send_response(302)
            self.send_header("Location", "/good" if self.path == "/moved" else "ftp://127.0.0.1/good")
            self.end_headers()
        elif self.path == "/circle":
            self.send_response(302)
            self.send_header("Location", "/circle")
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def speak() -> Iterator[Callable[[bytes], str]]:
    """A server that answers with these bytes, whatever it is asked, and then says nothing more."""
    stop = threading.Event()
    threads, sockets = [], []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(answer)
                stop.wait(60)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/image.uf2"

    yield start
    stop.set()
    for listener in sockets:
        listener.close()


@pytest.mark.parametrize("path", ["/good", "/moved"])
def test_an_image_is_fetched_from_its_address(path: str, server: str) -> None:
    assert image.fetch(server + path, SUM) == IMAGE


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/none", ": the server answers 404 Not Found"),
        ("/cut", " ended after 100 of 512 bytes"),
        ("/pieces", ": what came has ended before its end"),
        ("/huge", " is larger than 16 MB"),
        ("/endless", " is larger than 16 MB"),
        ("/circle", ": the server answers a redirection without an end"),
        ("/away", ": unknown url type: ftp"),
    ],
)
def test_a_download_that_fails_is_said_with_its_reason(path: str, problem: str, server: str, petiole: Run) -> None:
    code, _, err = petiole(*FROM, server + path, "--sha256", SUM)
    assert code == 21
    assert err[-2].startswith(f"error: {server}{path}{problem}")
    assert err[-1].startswith("hint: ")
    assert "unexpected" not in err[-2]


FROM = ("flash", "--board", "RPI_PICO", "--name", "x", "--offline", "--image")


def test_an_image_with_another_checksum_is_not_taken(server: str, petiole: Run) -> None:
    code, _, err = petiole(*FROM, server + "/good", "--sha256", "0" * 64)
    assert code == 21
    assert err[-2] == f"error: {server}/good has the SHA-256 {SUM}, not the one that was given"


def test_a_server_that_speaks_something_else_or_is_not_there(speak: Callable[[bytes], str], petiole: Run) -> None:
    address = speak(b"SSH-2.0-OpenSSH_9.2\r\n")
    code, _, err = petiole(*FROM, address, "--sha256", SUM)
    assert (code, err[-2]) == (21, f"error: {address}: what came is no answer of HTTP")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}/image.uf2"
    code, _, err = petiole(*FROM, gone, "--sha256", SUM)
    assert (code, err[-2]) == (21, f"error: {gone}: connection refused")
    code, _, err = petiole(*FROM, "http://there:x/", "--sha256", SUM)
    assert (code, err[-2]) == (21, "error: http://there:x/ is no address")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 512\r\n\r\nUF2\n"])
def test_a_server_that_hangs_is_given_up(
    answer: bytes, speak: Callable[[bytes], str], petiole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_STALL_S", 0.5)
    address = speak(answer)
    started = time.monotonic()
    code, _, err = petiole(*FROM, address, "--sha256", SUM)
    assert (code, err[-2]) == (21, f"error: {address}: nothing came for 0.5 s")
    assert time.monotonic() - started < 30


def test_a_server_that_drips_is_given_up(
    speak: Callable[[bytes], str], petiole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps the pause short: the whole has a bound, too."""
    monkeypatch.setattr(image, "DOWNLOAD_S", 0.5)
    address = speak(b"HTTP/1.1 200 OK\r\n")
    code, _, err = petiole(*FROM, address, "--sha256", SUM)
    assert (code, err[-2]) == (21, f"error: {address} has not come within 0.5 s")


def test_ctrl_c_ends_a_download_at_once(speak: Callable[[bytes], str], tmp_path: Path) -> None:
    address = speak(b"HTTP/1.1 200 OK\r\n")
    command = [sys.executable, "-c", _ASKED, *FROM, address, "--sha256", SUM]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("building")
    assert process.stdout.readline().startswith("built")
    assert process.stdout.readline() == "fetching\n"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert time.monotonic() - started < image._STALL_S / 2


_ASKED = """
import sys
from petiole_tools.cli import main
from petiole_tools.flash import find, image
from petiole_tools.flash import session as sessions
fetch = image._download
def told(source):
    print("fetching", flush=True)
    return fetch(source)
image._download = told
sys.exit(main())
"""
