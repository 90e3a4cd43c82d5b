"""Whether what is on a port is the board that is meant, with a MicroPython that the firmware runs on."""

from __future__ import annotations

from petiole_tools import boards
from petiole_tools.boards import Board
from petiole_tools.flash.errors import NoMicroPython, WrongBoard

MPY_VERSION = 6  # of the files that mpy-cross makes; a runtime reads this one only
Facts = tuple[str, tuple[int, ...], str, int, str]


def check(board: Board, facts: Facts) -> str:
    """What runs there, in words for people. Raises WrongBoard, NoMicroPython."""
    _, version, machine, mpy, build = facts
    release = ".".join(map(str, version[:2]))
    wanted = board.micropython
    title, mcu = check_chip(board, facts)
    other = next((one for one in boards.load_all() if one.name != board.name and _is(one, title, build)), None)
    if other is not None and not _is(board, title, build):
        raise WrongBoard(f"this is a {machine}, not a {board.title}", f"--board {other.name}")
    if not (mcu or _is(board, title, build)):
        raise WrongBoard(f"this is {machine}, not a {board.title}", _other(title, mcu, build, "another --port"))
    if tuple(version[:2]) < tuple(map(int, wanted.minimum.split("."))) or mpy & 0xFF != MPY_VERSION:
        hint = "install a newer one"
        if board.flash.method != "none":
            hint += f": petiole flash --board {board.name} --image FILE --sha256 SUM"
        raise NoMicroPython(f"MicroPython {release} is too old, {wanted.minimum} is the oldest that will do", hint)
    return f"MicroPython {release} on {machine}"


def check_chip(board: Board, facts: Facts) -> tuple[str, str]:
    """The board and the chip, as its MicroPython calls them. Raises WrongBoard, NoMicroPython."""
    name, _, machine, _, build = facts
    if name != "micropython":
        raise NoMicroPython(f"{name} is on the board", f"install MicroPython: --image FILE (boards/{board.name})")
    # The name of a board may have the word, too: "Generic ESP32 module with SPIRAM with ESP32".
    title, has_mcu, mcu = machine.rpartition(" with ")
    if not has_mcu:
        title, mcu = machine, ""
    if _plain(mcu) != _plain(board.micropython.mcu):
        raise WrongBoard(f"this is a {machine}, not a {board.title}", _other(title, mcu, build, "another --port"))
    return title, mcu


def _is(board: Board, title: str, build: str) -> bool:
    """By the name of the build where there is one (from 1.25 on), else by what the board calls itself."""
    known = board.micropython
    if build and known.build:
        return build == known.build or build.startswith(known.build + "-")
    return title == known.machine or (not known.mcu and title.startswith(known.machine + " "))


def _other(title: str, mcu: str, build: str, otherwise: str) -> str:
    for board in boards.load_all():
        if _plain(board.micropython.mcu) == _plain(mcu) and _is(board, title, build):
            return f"--board {board.name}"
    return otherwise


def _plain(mcu: str) -> str:
    return mcu.replace("-", "").upper()
