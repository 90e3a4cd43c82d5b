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
    """Something about the board, its port or its name. `meaning`: in a few words, for the list of exit codes."""

    meaning = ""


class NoBoard(FlashError):
    exit_code = 10
    meaning = "no such board or port"


class SeveralBoards(FlashError):
    exit_code = 11
    meaning = "several boards"


class PortBusy(FlashError):
    exit_code = 12
    meaning = "the port is in use"


class PortForbidden(FlashError):
    exit_code = 13
    meaning = "permission denied"


class WrongBoard(FlashError):
    exit_code = 14
    meaning = "another board"


class BoardFull(FlashError):
    exit_code = 15
    meaning = "no room"


class NoMicroPython(FlashError):
    """None answers, or one that is too old."""

    exit_code = 16
    meaning = "no MicroPython or too old a one"


class NameTaken(FlashError):
    exit_code = 17
    meaning = "the name is taken"


class GatewayAway(FlashError):
    exit_code = 18
    meaning = "no gateway"


class BoardLost(FlashError):
    """The port has gone, or says nothing any more, in the middle of something."""

    exit_code = 19
    meaning = "the board was lost in the middle"


class NotJoined(FlashError):
    exit_code = 20
    meaning = "it has not joined"


class BadImage(FlashError):
    exit_code = 21
    meaning = "the image is not what it should be"


def listed() -> list[type[FlashError]]:
    """All of them, by exit code."""
    return sorted(FlashError.__subclasses__(), key=lambda kind: kind.exit_code)
