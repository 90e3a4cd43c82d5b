"""Descriptors of terminals and sockets in the event loop."""

import asyncio
import os
from collections.abc import Callable

from petiole_tools.sim.console import Console

_CHUNK = 4096
_REOPEN_S = 0.03  # a terminal whose other side is closed tells nobody when it is opened again


class Descriptor:
    """Bytes in, bytes out, nothing blocks, and an absent other side comes back. The file stays the caller's."""

    def __init__(self, fd: int, received: Callable[[bytes], None]) -> None:
        self.fd = fd
        self._received = received
        self._timer: asyncio.TimerHandle | None = None
        self._is_absent = False
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._is_absent = False
            self._received(data)
            return
        self._is_absent = True
        # The other side of a terminal is closed, or that of a socket is gone.
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.fd)
        self._timer = loop.call_later(_REOPEN_S, self._listen)

    def _listen(self) -> None:
        self._is_absent = False
        asyncio.get_running_loop().add_reader(self.fd, self._read)

    def write(self, data: bytes) -> None:
        """What finds no room is lost, as on a UART that nobody reads."""
        if self._is_absent:
            return  # else the terminal would keep it for whoever comes next
        try:
            os.write(self.fd, data)
        except OSError:
            return

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self.fd)


class ConsoleDescriptor(Descriptor):
    """The terminal of a node: what is written there goes through its console. `pid` tells its process."""

    def __init__(self, fd: int, pid: Callable[[], int | None], received: Callable[[bytes], None]) -> None:
        super().__init__(fd, self._hear)
        self._console = Console(fd, pid)
        self._heard = received
        self._due: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        self._console.push(data)
        self._move()

    def _hear(self, data: bytes) -> None:
        self._console.hear(data)
        self._move()
        self._heard(data)

    def _move(self) -> None:
        if self._due is not None:
            self._due.cancel()
        loop = asyncio.get_running_loop()
        data = self._console.pop(loop.time())
        if data:
            super().write(data)
        at = self._console.next_at
        self._due = None if at is None else loop.call_at(at, self._move)

    def close(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._console.close()
        super().close()
