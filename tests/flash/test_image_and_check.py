"""What is on a board, and what is put there: facts of interpreters, images and their checksums."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from petiole_tools import boards
from petiole_tools.flash import check, find, identity, image, project
from petiole_tools.flash.errors import BadImage, FlashError, NoBoard, NoMicroPython, WrongBoard, listed

from .conftest import Run
from .rig import BoardVm

MPY = 6 | 3 << 8
PICO_W = boards.load("RPI_PICO_W")
PICO = boards.load("RPI_PICO")


def facts(
    machine: str, version: tuple[int, ...] = (1, 28, 0), build: str = "", name: str = "micropython"
) -> check.Facts:
    return name, version, machine, MPY, build


GOOD = [
    ("RPI_PICO_W", facts("Raspberry Pi Pico W with RP2040", build="RPI_PICO_W")),
    ("RPI_PICO_W", facts("Raspberry Pi Pico W with RP2040", (1, 22, 2))),
    ("RPI_PICO", facts("Raspberry Pi Pico with RP2040", build="RPI_PICO")),
    ("RPI_PICO", facts("Somebody's board with RP2040", build="SOMEBODYS")),  # a build of one's own
    ("RPI_PICO2_W", facts("Raspberry Pi Pico 2 W with RP2350", build="RPI_PICO2_W")),
    ("ESP32_GENERIC", facts("Generic ESP32 module with ESP32", build="ESP32_GENERIC")),
    ("ESP32_GENERIC", facts("Generic ESP32 module with SPIRAM with ESP32", build="ESP32_GENERIC-SPIRAM")),
    ("ESP32_GENERIC_C3", facts("ESP32C3 module with ESP32C3", build="ESP32_GENERIC_C3")),
    ("ESP32_GENERIC_S3", facts("Generic ESP32S3 module with ESP32-S3", build="ESP32_GENERIC_S3")),
]


@pytest.mark.parametrize(("name", "found"), GOOD)
def test_a_board_is_known_by_what_its_interpreter_says(name: str, found: check.Facts) -> None:
    assert "MicroPython 1." in check.check(boards.load(name), found)


@pytest.mark.parametrize(
    ("name", "found", "hint"),
    [
        ("RPI_PICO", facts("Raspberry Pi Pico W with RP2040", build="RPI_PICO_W"), "--board RPI_PICO_W"),
        ("RPI_PICO", facts("Raspberry Pi Pico W with RP2040", (1, 22, 0)), "--board RPI_PICO_W"),
        ("RPI_PICO_W", facts("Raspberry Pi Pico2 with RP2350", build="RPI_PICO2"), "--board RPI_PICO2"),
        ("ESP32_GENERIC", facts("ESP32C3 module with ESP32C3", build="ESP32_GENERIC_C3"), "--board ESP32_GENERIC_C3"),
        ("ESP32_GENERIC", facts("Arduino Nano with nRF52840"), "another --port"),
    ],
)
def test_another_board_is_said_with_its_name(name: str, found: check.Facts, hint: str) -> None:
    with pytest.raises(WrongBoard) as caught:
        check.check(boards.load(name), found)
    assert caught.value.hint == hint
    assert caught.value.exit_code == 14


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (facts("Raspberry Pi Pico W with RP2040", (1, 19, 1)), "1.19 is too old, 1.22 is the oldest"),
        ((*facts("Raspberry Pi Pico W with RP2040")[:3], 5, ""), "too old"),
        (facts("Raspberry Pi Pico W with rp2040", name="circuitpython"), "circuitpython is on the board"),
    ],
)
def test_an_interpreter_that_will_not_do(found: check.Facts, problem: str) -> None:
    with pytest.raises(NoMicroPython) as caught:
        check.check(PICO_W, found)
    assert problem in caught.value.problem
    assert "--image" in caught.value.hint


def test_every_failure_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in listed() if kind.exit_code != FlashError.exit_code]
    assert codes == list(range(10, 22))


# Images ----------------------------------------------------------------------------------------------------


def uf2(family: int, blocks: int = 3) -> bytes:
    head = [struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, 256 * n, 256, n, blocks, family) for n in range(blocks)]
    return b"".join(one.ljust(508, b"\0") + struct.pack("<I", 0x0AB16F30) for one in head)


def test_an_image_is_taken_only_with_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "image.uf2"
    path.write_bytes(b"image")
    right = hashlib.sha256(b"image").hexdigest()
    assert image.fetch(str(path), right.upper()) == b"image"
    for sha256, problem in ((right[:-1] + "x", "64 hexadecimal"), ("0" * 64, "not the one that was given")):
        with pytest.raises(BadImage) as caught:
            image.fetch(str(path), sha256)
        assert problem in caught.value.problem
    with pytest.raises(BadImage):
        image.fetch(str(tmp_path / "gone"), right)


@pytest.mark.parametrize(
    ("board", "data", "problem"),
    [
        ("RPI_PICO_W", uf2(0xE48BFF59), "another chip (family e48bff59) than the RP2040"),
        ("RPI_PICO2", uf2(0xE48BFF56), "another chip"),
        ("RPI_PICO", uf2(0xE48BFF56)[:-1], "no whole blocks"),
        ("RPI_PICO", uf2(0xE48BFF56)[:-4] + b"\0\0\0\0", "block 2 is none"),
        ("RPI_PICO", b"", "no whole blocks"),
        ("ESP32_GENERIC", uf2(0xE48BFF56), "does not begin with E9"),
        ("unix", b"x", "takes no image"),
    ],
)
def test_an_image_for_something_else_is_refused(board: str, data: bytes, problem: str) -> None:
    with pytest.raises(BadImage) as caught:
        image.check(boards.load(board), data)
    assert problem in caught.value.problem


def test_an_image_is_copied_to_the_drive_that_the_board_shows(tmp_path: Path) -> None:
    data = uf2(PICO.flash.family)
    image.check(PICO, data)
    drive = tmp_path / PICO.flash.volume
    with pytest.raises(NoBoard) as caught:
        image.write_uf2(PICO, data, drive, wait_s=0)
    assert "BOOTSEL" in caught.value.hint
    plug = threading.Timer(0.2, lambda: (drive.mkdir(), (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader")))
    plug.start()
    image.write_uf2(PICO, data, drive, wait_s=10)
    assert (drive / "petiole.uf2").read_bytes() == data
    assert image.find_drive(PICO, [tmp_path]) == drive
    assert image.find_drive(boards.load("RPI_PICO2"), [tmp_path]) is None


def test_esptool_takes_our_words_and_its_failure_is_said(tmp_path: Path) -> None:
    """The real esptool, for a port that is not there."""
    pytest.importorskip("esptool")
    board = boards.load("ESP32_GENERIC")
    path = tmp_path / "image.bin"
    path.write_bytes(b"\xe9" + bytes(1000))
    image.check(board, path.read_bytes())
    with pytest.raises(NoBoard) as caught:
        image.write_esptool(board, str(tmp_path / "ttyUSB0"), path)
    told = " ".join([caught.value.problem, *caught.value.more])
    assert "ttyUSB0" in told
    assert "sage:" not in told, "it did not understand the command line"


# Identity and projects -------------------------------------------------------------------------------------


def decide(there: bytes | None = None, name: str | None = None, **more: Any) -> identity.Identity:
    wanted: dict[str, Any] = {"links": [], "wifi": None, "extra": {}} | more
    return identity.decide(PICO_W, there, name, **wanted)


def test_a_key_that_is_there_stays_with_its_name_and_with_no_other() -> None:
    first = decide(None, "leaf")
    again = decide(first.document, None, extra={"outbox_bytes": 65536})
    assert (again.name, again.key, again.is_known) == ("leaf", first.key, True)
    assert again.settings["outbox_bytes"] == 65536
    other = decide(first.document, "root")
    assert other.key != first.key
    assert not other.is_known
    assert first.key not in repr(first)


@pytest.mark.parametrize("there", [b"", b"{", b"[]", b'{"name": "leaf", "key": "12"}', b"\xff\xfe"])
def test_settings_that_are_not_whole_make_a_new_identity(there: bytes) -> None:
    assert not decide(there, "leaf").is_known


def test_links_are_those_of_the_board() -> None:
    assert decide(None, "a").settings["links"] == [{"kind": "console"}]
    uart = decide(None, "a", links=["uart"]).settings["links"]
    assert uart == [{"kind": "uart", "id": 1, "tx": 4, "rx": 5}]
    udp = decide(None, "a", wifi=("home", "secret")).settings["links"][0]
    assert (udp["kind"], udp["ssid"], udp["password"]) == ("udp", "home", "secret")
    with pytest.raises(Exception, match="needs a Wi-Fi"):
        decide(None, "a", links=["udp://gateway"])
    with pytest.raises(Exception, match="has no udp"):
        identity.decide(PICO, None, "a", ["udp://gateway"], ("home", ""), {})
    with pytest.raises(Exception, match="no name yet"):
        decide()
    with pytest.raises(Exception, match="outbox_byte "):
        decide(None, "a", extra={"outbox_byte": 1})


def test_a_board_keeps_its_wifi_when_a_project_says_where_the_gateway_is() -> None:
    first = decide(None, "a", wifi=("home", "secret"))
    again = decide(first.document, links=["udp://gateway.local"])
    assert again.settings["links"] == [
        {"kind": "udp", "host": "gateway.local", "port": 6363, "ssid": "home", "password": "secret"}
    ]
    identity.check_arguments(PICO_W, None, ["udp://gateway.local"], None, {})  # what the board has is not known yet


def test_a_new_project_is_what_flash_takes_up(petiole: Run, board: BoardVm, tmp_path: Path) -> None:
    code, out, err = petiole("new", "greenhouse", "--board", "unix")
    assert code == 0, err
    assert [Path(line).name for line in out.split()] == ["app.py", "petiole.toml", "README.md"]
    assert petiole("new", "greenhouse")[0] == 1
    (tmp_path / "greenhouse" / "lib").mkdir()
    (tmp_path / "greenhouse" / "lib" / "more.py").write_text("x = 1\n")
    words = ("flash", "--app", "greenhouse", "--name", "g", "--port", board.path, "--offline", "--json")
    code, out, err = petiole(*words, "--dry-run")
    assert code == 0, err
    assert json.loads(out)["board"] == "unix"
    (tmp_path / "greenhouse" / "app.py").write_text("def (:\n")
    code, _, err = petiole(*words)
    assert code == 1
    assert "app.py" in err[-2]
    assert "SyntaxError" in err[-2]
    (tmp_path / "greenhouse" / "petiole.toml").write_text("bord = 1\n")
    code, _, err = petiole(*words)
    assert "petiole.toml: bord: there is no such key" in err[-2]


def test_a_project_without_a_word_changes_nothing(tmp_path: Path) -> None:
    assert project.load(tmp_path) == project.Project()


def test_all_boards_are_flashed_side_by_side_and_one_that_fails_holds_up_no_other(
    petiole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with BoardVm(tmp_path / "one") as one, BoardVm(tmp_path / "two") as two:
        there = [find.BoardPort(one.path, "AA0001"), find.BoardPort(two.path, "AA0002")]
        monkeypatch.setattr(find, "fitting", lambda _board: there)
        code, out, err = petiole("flash", "--board", "unix", "--all", "--name", "bed", "--offline")
        assert code == 0, err
        assert "AA0001: started   bed-aa0001 starts" in out
        assert "AA0002: started   bed-aa0002 starts" in out
        there.append(find.BoardPort(str(tmp_path / "gone"), "AA0003"))
        code, out, err = petiole("flash", "--board", "unix", "--all", "--name", "other", "--offline")
        assert code == 10
        assert "error: 1 of 3 boards were not flashed" in err[-2]
        assert "AA0002: started   bed-aa0002 starts" in out, "a board keeps its name"
