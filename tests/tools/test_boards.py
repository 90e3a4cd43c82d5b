"""What is known about boards: every folder reads, says what the firmware needs, and stands in the table."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from petiole_node import settings
from petiole_tools import boards
from petiole_tools.cli import main
from petiole_tools.failure import CliError
from petiole_tools.firmware_build import PORTS

BOARDS = boards.load_all()
WANTED = {"ESP32_GENERIC", "ESP32_GENERIC_C3", "ESP32_GENERIC_S3", "RPI_PICO", "RPI_PICO_W", "RPI_PICO2", "RPI_PICO2_W"}


def test_the_boards_of_the_project_are_there() -> None:
    assert {board.name for board in BOARDS} >= WANTED


def test_every_folder_of_a_board_is_whole() -> None:
    for folder in boards.folder().iterdir():
        if folder.is_dir():
            assert {path.name for path in folder.iterdir()} >= {"board.toml", "manifest.py", "README.md"}, folder


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_node_takes_what_its_board_says(board: boards.Board) -> None:
    links: list[dict[str, Any]] = []
    for kind in board.links:
        pins = {"id": board.pins.uart, "tx": board.pins.tx, "rx": board.pins.rx} if board.pins else {}
        links.append({"kind": kind} | (pins if kind == "uart" else {}))
    checked = settings.check({"name": "n", "key": "00" * 16, "links": links})
    assert checked["warnings"] == []
    assert board.port in PORTS


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_what_flashes_a_board_knows_what_it_needs(board: boards.Board) -> None:
    flash = board.flash
    assert (flash.method == "esptool") == bool(flash.chip)
    assert (flash.method == "uf2") == bool(flash.volume and flash.family)
    assert bool(board.usb.ids) == (flash.method != "none")
    assert board.micropython.machine


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_what_is_frozen_exists(board: boards.Board) -> None:
    """The manifest is run with the functions that MicroPython's `makemanifest.py` gives it."""
    frozen: list[str] = []

    def run(path: Path) -> None:
        def package(name: str, files: tuple[str, ...] | None = None, base_path: str = ".", opt: int = 0) -> None:
            folder = (path.parent / base_path / name).resolve()
            found = [folder / file for file in files] if files else list(folder.rglob("*.py"))
            assert found
            assert all(file.is_file() for file in found), folder
            frozen.append(name)

        def include(name: str) -> None:
            if not name.startswith("$("):  # MicroPython's own
                run(path.parent / name)

        exec(compile(path.read_text(), str(path), "exec"), {"package": package, "include": include})

    run(boards.folder() / board.name / "manifest.py")
    assert {"petiole_boot", "petiole", "petiole_node"} <= set(frozen)


@pytest.mark.parametrize("board", [one for one in BOARDS if one.port == "rp2"], ids=lambda board: board.name)
def test_an_own_build_of_a_board_with_a_radio_keeps_what_its_stock_image_has(board: boards.Board) -> None:
    """There MicroPython freezes more than for the port: `mip`, `ntptime`, `requests`, Bluetooth."""
    text = (boards.folder() / board.name / "manifest.py").read_text()
    has_radio = "udp" in board.links
    assert ('include("$(BOARD_DIR)/manifest.py")' in text) == has_radio
    assert ('include("$(PORT_DIR)/boards/manifest.py")' in text) == (not has_radio)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_texts_of_a_folder_speak_of_its_own_board(board: boards.Board) -> None:
    assert boards.strange_names(board) == []


def test_a_folder_that_began_as_a_copy_of_another_is_told_where_it_still_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(boards.folder(), tmp_path, dirs_exist_ok=True)
    new = tmp_path / "MY_PICO"
    shutil.copytree(tmp_path / "RPI_PICO", new)
    (new / boards.FILE).write_text(GOOD.replace('name = "RPI_PICO"', 'name = "MY_PICO"'))
    monkeypatch.setattr(boards, "_CHECKOUT", tmp_path)
    with pytest.raises(SystemExit) as caught:
        boards.main()
    said = str(caught.value)
    for place in (
        "README.md:1: the title",
        "README.md:3: RPI_PICO",
        "README.md:11: RPI_PICO",
        "manifest.py:1: RPI_PICO",
    ):
        assert f"{new}/{place} is not MY_PICO" in said
    assert "| [MY_PICO](MY_PICO/README.md) |" in (tmp_path / boards.TABLE_FILE).read_text()
    for name in ("README.md", "manifest.py"):
        (new / name).write_text((new / name).read_text().replace("RPI_PICO", "MY_PICO"))
    boards.main()


def test_the_table_is_current() -> None:
    text = (boards.folder() / boards.TABLE_FILE).read_text()
    assert text == boards.with_table(text, BOARDS), "run `python -m petiole_tools.boards`"


GOOD = (boards.folder() / "RPI_PICO" / boards.FILE).read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = RPI", "not TOML: "),
        (GOOD.replace("heap_kb = 245", 'heap_kb = "much"'), "memory.heap_kb: input should be a valid integer"),
        (GOOD.replace("heap_kb = 245", ""), "memory.heap_kb: is missing"),
        (GOOD.replace("heap_kb", "heap_kbs"), "has 2 problems"),
        (GOOD.replace('method = "uf2"', 'method = "dfu"'), "flash.method: 'dfu' is none of 'esptool', 'uf2' or 'none'"),
        (GOOD.replace("tx = 4", "tx = 99"), "pins.tx: input should be less than or equal to 63, got 99"),
        (GOOD.replace('"2e8a:0005"', '"2E8A"'), "usb.ids.0: string should match pattern"),
        (GOOD.replace('name = "RPI_PICO"', 'name = "PICO"'), "name: 'PICO' is not the name of its folder"),
    ],
)
def test_a_broken_file_says_which_key_and_why(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "RPI_PICO" / boards.FILE
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CliError) as caught:
        boards.load("RPI_PICO", tmp_path)
    assert caught.value.problem.startswith(str(path))
    assert problem in caught.value.problem
    assert caught.value.hint


def test_a_board_that_is_not_there_is_nearly_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "rpi-pico-w"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "hint: did you mean RPI_PICO_W?"
    assert main(["boards", "arduino"]) == 1
    assert "RPI_PICO_W" in capsys.readouterr().err


def test_boards_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]} == {board.name for board in BOARDS}
    assert main(["boards", "RPI_PICO_W", "--json"]) == 0
    assert '"chip": "RP2040"' in capsys.readouterr().out
