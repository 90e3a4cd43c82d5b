"""Which board is flashed, and what it is called, where several look alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from petiole_tools.boards import Board
from petiole_tools.failure import CliError
from petiole_tools.flash import find
from petiole_tools.flash.find import BoardPort
from petiole_tools.flash.names import names

from . import desk
from .conftest import Run
from .rig import BoardVm

Plug = Callable[..., None]
USB = Path(__file__).parent / "usb"


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Have these (path, USB serial number) be on this machine's USB ports, and be what a unix board may be on."""

    def plug(*ports: tuple[str, str]) -> None:
        found = [
            SimpleNamespace(vid=0x2E8A, pid=5, device=path, serial_number=serial, description="Board in FS mode")
            for path, serial in ports
        ]
        monkeypatch.setattr(find.list_ports, "comports", lambda: found)
        monkeypatch.setattr(type(_usb()), "knows", lambda *_: True)

    return plug


def _usb() -> object:
    return Board.model_fields["usb"].default


# Ports -----------------------------------------------------------------------------------------------------


def test_a_serial_number_that_several_ports_have_names_none_of_them(petiole: Run, plug: Plug) -> None:
    plug(("/dev/ttyUSB1", "0001"), ("/dev/ttyUSB0", "0001"), ("/dev/ttyACM0", "E66"))
    code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--offline", "--port", "id:0001")
    assert code == 11
    assert err[-4:] == [
        "error: 2 ports have the USB serial number 0001",
        "  --port /dev/ttyUSB0   Board in FS mode",
        "  --port /dev/ttyUSB1   Board in FS mode",
        "hint: name one by its path; those below /dev/serial/by-path stay with the socket",
    ]
    # Nor is one of them offered by it.
    code, _, err = petiole("flash", "--board", "RPI_PICO", "--name", "x", "--offline")
    assert code == 11
    assert [line.split()[1] for line in err[-4:-1]] == ["/dev/ttyUSB0", "/dev/ttyUSB1", "id:E66"]


def test_all_boards_and_one_of_them_is_a_usage_error(petiole: Run, board: BoardVm, plug: Plug) -> None:
    plug((board.path, "E66"))
    words = ("flash", "--board", "unix", "--all", "--name", "bed", "--offline", "--port", board.path)
    code, out, err = petiole(*words)
    assert (code, out) == (2, "")
    assert err[-2] == "error: invalid value for --port: it names one board, --all flashes all of a kind"
    assert not board.image_has(b"bed")


@pytest.mark.parametrize("kind", ["file", "folder", "device"])
def test_what_is_no_serial_port_is_not_called_busy(kind: str, petiole: Run, tmp_path: Path) -> None:
    path = {"file": tmp_path / "firmware.bin", "folder": tmp_path, "device": Path(os.devnull)}[kind]
    if kind == "file":
        path.write_bytes(b"not to be touched")
    code, _, err = petiole("flash", "--board", "unix", "--name", "x", "--offline", "--port", str(path))
    assert (code, err[-2]) == (10, f"error: {path} is no serial port")
    assert "on USB" in err[-1]
    assert kind != "file" or path.read_bytes() == b"not to be touched"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--name", "a b"), "device name 'a b' cannot be part of a NATS subject"),
        (("--name", "x", "--link", "mqtt://there"), "--link: 'mqtt://there' is not a link"),
        (("--name", "x", "--link", "udp://"), ""),
        (("--name", "x", "--image", "none.bin"), "--image and --sha256 go together"),
        (("--name", "x", "--image", "none.bin", "--sha256", "12"), "--sha256: 64 hexadecimal digits are wanted"),
        (("--all", "--name", "n" * 30), "--name 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnn' has no room for -e66 behind it"),
    ],
)
def test_wrong_arguments_are_told_before_anything_on_the_board_is_stopped(
    words: tuple[str, ...], problem: str, petiole: Run, board: BoardVm, plug: Plug
) -> None:
    plug((board.path, "E66"))
    board.wait_for_start(1)
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("petiole_tools.flash.one_board.Session", lambda path, **_: opened.append(path) or _refuse())
        patch.setattr("petiole_tools.flash.micropython.Session", lambda path, **_: opened.append(path) or _refuse())
        where = () if "--all" in words else ("--port", board.path)
        code, _, err = petiole("flash", "--board", "unix", "--offline", *where, *words)
    if not problem:  # it is one of the good ones: the board is asked
        assert opened
        return
    assert code != 0
    assert err[-2] == f"error: {problem}"
    assert opened == []


def _refuse() -> None:
    raise CliError("it was opened", "")


# Names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serials", "ends"),
    [
        (["E6614103E72B502C", "E6614103E72B4A2C"], ["2b502c", "2b4a2c"]),
        (["AA000001", "BB000001"], ["b000001", "a000001"][::-1]),
        (["0001", "AA0001"], ["0001", "aa0001"]),
        (["AA0001", "BBAA0001"], ["aa0001", "baa0001"]),
        (["F4:12:FA:00:11:22", "F4:12:FA:00:11:23"], ["001122", "001123"]),
        (["0001", "0001"], ["ttyusb0", "ttyusb1"]),
        (["", "E66"], ["ttyusb0", "e66"]),
        (["A:B", "AB"], ["ttyusb0", "ttyusb1"]),
        (["1.2 (3)"], ["123"]),
    ],
)
def test_boards_that_are_flashed_together_get_names_of_their_own(serials: list[str], ends: list[str]) -> None:
    ports = [BoardPort(f"/dev/ttyUSB{number}", serial) for number, serial in enumerate(serials)]
    assert names("bed", ports) == [f"bed-{end}" for end in ends]


def test_boards_with_one_serial_number_become_two_nodes(petiole: Run, tmp_path: Path, plug: Plug) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with BoardVm(tmp_path / "one") as one, BoardVm(tmp_path / "two") as two:
        links = [tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"]
        for link, board in zip(links, (one, two), strict=True):
            link.symlink_to(board.path)
        plug(*((str(link), "0001") for link in links))
        code, out, err = petiole("flash", "--board", "unix", "--all", "--name", "bed", "--offline")
        assert code == 0, err
        assert [line.split()[0] for line in out.splitlines()].count("built") == 1, "for both"
        assert f"{links[0]}: started   bed-ttyusb0 starts" in out
        assert f"{links[1]}: started   bed-ttyusb1 starts" in out

        # A copy of a board's file system has its name and its key: they are not two nodes.
        two.power_off()
        two.image.write_bytes(one.image.read_bytes())
        two.power_on()
        code, out, err = petiole("flash", "--board", "unix", "--all", "--offline")
        assert code == 17
        assert "is bed-ttyusb0, too" in out
        assert err[-2] == "error: 1 of 2 boards were not flashed"


# With a gateway that knows one of them by its serial number --------------------------------------------------


def test_the_gateway_lends_the_port_that_is_meant_and_not_one_with_the_same_serial_number(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    usb = tmp_path / "usb.json"
    command = [sys.executable, "-m", "petiole_tools"]
    with BoardVm(tmp_path / "first") as first, BoardVm(tmp_path / "second") as second:
        usb.write_text(json.dumps([[first.path, "0001"], [second.path, "0001"]]))
        shown = {"PYTHONPATH": str(USB), "PETIOLE_TEST_USB": str(usb)}
        with desk.gateway(tmp_path, "usb:0001", **shown) as config:
            env = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
            env |= shown | {"PETIOLE_CONFIG": str(config)}

            def petiole(*words: str) -> subprocess.CompletedProcess[str]:
                return subprocess.run(
                    [*command, *words], capture_output=True, text=True, check=False, env=env, cwd=tmp_path
                )

            end = time.monotonic() + 60
            while not (found := petiole("port", "list", "--json").stdout) or "open" not in found:
                assert time.monotonic() < end, (tmp_path / "gateway.log").read_text()
            assert json.loads(found)["ports"][0]["path"] == first.path
            words = ("flash", "--board", "unix", "--timeout", "0")
            done = petiole(*words, "--name", "meant", "--port", second.path)
            assert done.returncode == 20, done.stderr  # the gateway does not listen there
            assert second.image_has(b'"meant"')
            assert not first.image_has(b'"meant"')

            # That it has the other one is known by the path as well.
            done = petiole(*words, "--name", "other", "--port", first.path)
            assert done.returncode == 20, done.stderr
            assert first.image_has(b'"other"')
