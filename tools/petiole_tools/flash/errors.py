"""Why a board was not flashed: each reason with an exit code of its own, for scripts.

FlashError
├── NoBoard 10          ├── WrongBoard 14        ├── GatewayAway 18
├── SeveralBoards 11    ├── BoardFull 15         ├── BoardLost 19
├── PortBusy 12         ├── NoMicroPython 16     ├── NotJoined 20
└── PortForbidden 13    ├── NameTaken 17         └── BadImage 21
"""

from __future__ import annotations

from petiole_tools.failure import CliError


class FlashError(CliError):
    """Something about the board, its port or its name."""


class NoBoard(FlashError):
    exit_code = 10


class SeveralBoards(FlashError):
    exit_code = 11


class PortBusy(FlashError):
    exit_code = 12


class PortForbidden(FlashError):
    exit_code = 13


class WrongBoard(FlashError):
    exit_code = 14


class BoardFull(FlashError):
    exit_code = 15


class NoMicroPython(FlashError):
    """None answers, or one that is too old."""

    exit_code = 16


class NameTaken(FlashError):
    exit_code = 17


class GatewayAway(FlashError):
    exit_code = 18


class BoardLost(FlashError):
    """The port has gone, or says nothing any more, in the middle of something."""

    exit_code = 19


class NotJoined(FlashError):
    exit_code = 20


class BadImage(FlashError):
    exit_code = 21


def listed() -> list[type[FlashError]]:
    """All of them, by exit code."""
    return sorted(FlashError.__subclasses__(), key=lambda kind: kind.exit_code)
