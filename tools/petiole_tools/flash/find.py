"""Which port a board is on: by USB serial number, or by path."""

from __future__ import annotations

from dataclasses import dataclass

from serial.tools import list_ports

from petiole_tools.boards import Board
from petiole_tools.flash.errors import NoBoard, SeveralBoards

_WAIT_HINT = "plug it in with a cable that carries data; --wait waits for it, --port names another port"


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


def fitting(board: Board) -> list[BoardPort]:
    """Ports whose USB ids are those of such a board, by serial number."""
    known = {port.device for port in list_ports.comports() if board.usb.knows(port.vid, port.pid)}
    return sorted((port for port in present() if port.path in known), key=lambda port: (port.serial, port.path))


def choose(board: Board, wanted: str | None) -> BoardPort:
    """The port that is meant: `id:SERIAL` (also `usb:SERIAL`), a path, or the only one that fits. Raises FlashError."""
    if wanted is not None and wanted.startswith(("id:", "usb:")):
        serial = wanted.partition(":")[2]
        for port in present():
            if port.serial == serial:
                return port
        there = ", ".join(port.serial for port in present() if port.serial) or "none"
        raise NoBoard(f"no port has the USB serial number {serial}", f"present: {there}")
    if wanted is not None:
        return next((port for port in present() if port.path == wanted), BoardPort(wanted))
    found = fitting(board)
    if not found:
        if not board.usb.ids:
            raise NoBoard(f"{board.name} has no USB port to be found by", "name one: --port /dev/…")
        raise NoBoard(f"no {board.name} is on a USB port", _WAIT_HINT)
    if len(found) > 1:
        lines = [f"--port {f'id:{port.serial}' if port.serial else port.path}   {port.shown}" for port in found]
        raise SeveralBoards(f"{len(found)} ports may be a {board.name}", "name one of them, or take --all", lines)
    return found[0]
