"""A serial link on a pseudo-terminal, as on a board behind a cable."""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path

from petiole_gateway.hub.ports import Place
from petiole_gateway.links.serial import SerialLink

from .memory import NullLogger

FRAMES = [bytes([0x20, n]) + bytes(range(n, n + 20)) for n in range(40)]


class Board:
    """The other end of a cable: a pseudo-terminal behind a path that stays the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self._theirs = -1

    def plug(self) -> None:
        self.fd, self._theirs = os.openpty()
        tty.setraw(self.fd)
        tty.setraw(self._theirs)
        os.set_blocking(self.fd, False)
        self.path.symlink_to(os.ttyname(self._theirs))

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        for fd in (self.fd, self._theirs):
            if fd >= 0:
                os.close(fd)
        self.fd = self._theirs = -1

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 65536)
        except BlockingIOError:
            return b""


class Rig:
    """A link on a board, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.board = Board(folder / "tty")
        self.logger = NullLogger()
        self.frames: list[bytes] = []
        self.lines: list[str] = []
        self.link: SerialLink
        self._task: asyncio.Task[None] | None = None

    def start(self, framing: str = "cobs", port: str = "") -> SerialLink:
        self.link = SerialLink(
            port or str(self.board.path),
            baud=115200,
            framing=framing,
            receive=self._receive,
            log=lambda link, line: self.lines.append(line),
            logger=self.logger,
        )
        self._task = asyncio.get_running_loop().create_task(self.link.run())
        return self.link

    def _receive(self, place: Place, frame: bytes) -> None:
        assert place == Place(self.link, None)
        self.frames.append(frame)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.board.unplug()


def collected(got: list[bytes], frames: list[bytes]) -> list[bytes]:
    """All frames so far, with these."""
    got.extend(frames)
    return got
