"""Which port a board is on: by USB serial number, or by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from serial.tools import list_ports

from petiole_tools.boards import Board
from petiole_tools.flash.errors import NoBoard, SeveralBoards

_WAIT_HINT = "plug it in with a cable that carries data; --wait waits for it, --port names another port"
_MAX_SHOWN = 8  # ports in a hint
_SAME_HINT = "name one by its path; those below /dev/serial/by-path stay with the socket"


@dataclass(frozen=True)
class BoardPort:
    """A serial port; `serial`: the USB serial number of what is on it, "" if it has none."""

    path: str
    serial: str = ""
    shown: str = ""

    @property
    def label(self) -> str:
        return f"{self.path} (id:{self.serial})" if self.serial else self.path


def present() -> list[BoardPort]:
    """All USB serial ports of this machine."""
    found = [port for port in list_ports.comports() if port.vid is not None]
    return [BoardPort(port.device, port.serial_number or "", port.description or "") for port in found]


def shown() -> str:
    """Which ports there are, as a hint."""
    found = [port.label for port in sorted(present(), key=lambda port: port.path)]
    if not found:
        return "nothing is on USB: plug the board in, with a cable that carries data"
    more = ", …" if len(found) > _MAX_SHOWN else ""
    return f"on USB: {', '.join(found[:_MAX_SHOWN])}{more}"


def fitting(board: Board) -> list[BoardPort]:
    """Ports whose USB ids are those of such a board, by serial number."""
    known = {port.device for port in list_ports.comports() if board.usb.knows(port.vid, port.pid)}
    return sorted((port for port in present() if port.path in known), key=lambda port: (port.serial, port.path))


def choose(board: Board, wanted: str | None) -> BoardPort:
    """The port that is meant: `id:SERIAL` (also `usb:SERIAL`), a path, or the only one that fits. Raises FlashError."""
    if wanted is not None:
        try:
            return named(wanted)
        except NoBoard as error:
            raise NoBoard(error.problem, f"{error.hint}; --wait waits for it") from error
    found = fitting(board)
    if not found:
        if not board.usb.ids:
            raise NoBoard(f"{board.name} has no USB port to be found by", "name one: --port /dev/…")
        raise NoBoard(f"no {board.name} is on a USB port", _WAIT_HINT)
    if len(found) > 1:
        raise SeveralBoards(
            f"{len(found)} ports may be a {board.name}", "name one of them, or take --all", _listed(found)
        )
    return found[0]


def named(wanted: str) -> BoardPort:
    """The port of this name: `id:SERIAL` (also `usb:SERIAL`), or a path. Raises FlashError."""
    if not wanted.startswith(("id:", "usb:")):
        if not os.path.exists(wanted):
            raise NoBoard(f"there is no port {wanted}", shown())
        where = os.path.realpath(wanted)
        same = next((port for port in present() if os.path.realpath(port.path) == where), None)
        return BoardPort(wanted) if same is None else BoardPort(wanted, same.serial, same.shown)
    serial = wanted.partition(":")[2]
    found = [port for port in present() if port.serial and port.serial == serial]
    if not found:
        raise NoBoard(f"no port has the USB serial number {serial}", shown())
    if len(found) > 1:  # converters of one make may all have one number; a chip may have several ports
        raise SeveralBoards(f"{len(found)} ports have the USB serial number {serial}", _SAME_HINT, _listed(found))
    return found[0]


def _listed(ports: Sequence[BoardPort]) -> list[str]:
    """How each can be named alone."""
    serials = [port.serial for port in present()]
    lines = []
    for port in sorted(ports, key=lambda port: (port.serial, port.path)):
        is_alone = port.serial and serials.count(port.serial) == 1
        lines.append(f"--port {f'id:{port.serial}' if is_alone else port.path}   {port.shown}")
    return lines
