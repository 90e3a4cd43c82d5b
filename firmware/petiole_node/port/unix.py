"""MicroPython's unix port: a node as a process, for simulation and tests."""

import os
import sys

from petiole_node.port.micropython import FileStream, MicroPythonPort

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Json, Stream
    from petiole_node.port.sleeper import Sleeper

RESET_CODE = 10  # the exit code by which whoever started the process knows a reset


class Port(MicroPythonPort):
    name = "unix"
    has_littlefs = False

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[int, Json] = {}

    def serial(self, settings: "dict[str, Json]") -> "Stream":
        """An inherited descriptor with O_NONBLOCK, which behaves like a UART. It is opened once."""
        fd = settings["fd"]
        if fd is None:
            raise OSError("uart: this computer has no pins; set fd")
        if fd not in self._files:
            self._files[fd] = open(fd, "r+b")
        return FileStream(self._files[fd], True)

    def sleeper(self) -> "Sleeper":
        from petiole_node.port.sleeper_files import FileSleeper  # noqa: PLC0415 - sleepy nodes only

        return FileSleeper(self)

    def interrupted(self) -> None:
        """Ctrl-C ends in the REPL, as on a board, and not in the end of the process."""
        os.putenv("MICROPYINSPECT", "1")

    def reset(self) -> None:
        sys.exit(RESET_CODE)
