"""Serial ports: opened by a stable name, opened again when they come back, written without waiting."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import serial
from serial.tools import list_ports

from petiole import wire
from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer

from ..hub.ports import Logger, Place

# A replugged board is back in 1 to 2 s; a port that stays away costs one stat() in 5 s.
RETRY_S = 0.5
RETRY_MAX_S = 5.0
READ_SIZE = 4096
# Two seconds of a 115200 baud line. What does not fit is dropped: its records are sent again.
MAX_UNSENT = 23_040


class Framer(Protocol):
    dropped: dict[str, int]

    def feed(self, data: bytes) -> list[bytes]: ...
    def wrap(self, frame: bytes) -> bytes: ...
    def reset(self) -> None: ...


class PortError(Exception):
    """A port that cannot be opened. `busy`: another program has it."""

    def __init__(self, port: str, reason: str, hint: str, busy: bool = False) -> None:
        super().__init__(f"{port}: {reason}")
        self.port = port
        self.reason = reason
        self.hint = hint
        self.busy = busy


def resolve(port: str) -> str:
    """The device path of a port setting: `usb:<serial number>` is looked up, anything else is a path. PortError."""
    if not port.startswith("usb:"):
        return port
    wanted = port[4:]
    found = [info for info in list_ports.comports() if info.serial_number == wanted]
    if found:
        return found[0].device
    present = ", ".join(sorted(str(i.serial_number) for i in list_ports.comports() if i.serial_number)) or "none"
    raise PortError(port, "no such USB device", f"USB serial numbers present: {present}")


def open_port(port: str, baud: int) -> serial.Serial:
    """Open for exclusive use, non-blocking. PortError says what is wrong and what helps."""
    path = resolve(port)
    try:
        return serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as error:
        number = error.errno
        if number == errno.ENOENT:
            raise PortError(port, "does not exist", "plug the board in, or check the path") from error
        if number == errno.EACCES:
            raise PortError(port, "permission denied", "add the user to the group dialout") from error
        if number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
            raise PortError(port, "is in use", "another program has it open, a terminal perhaps", True) from error
        raise PortError(port, str(error), "check cable and path") from error
    except (OSError, termios.error, ValueError) as error:
        # pyserial lets through what a board that is unplugged in this moment answers, and what no driver can set.
        raise PortError(port, str(error), "check cable, path and baud rate") from error


class SerialLink:
    """One port. `framing`: "cobs", or "console" for a port that also is the board's REPL and log."""

    answers_addressed = True

    def __init__(
        self,
        port: str,
        *,
        baud: int,
        framing: str,
        receive: Callable[[Place, bytes], None],
        log: Callable[[str, str], None],
        logger: Logger,
    ) -> None:
        self.name = port
        self.baud = baud
        self.framing = framing
        self.is_open = False
        self.problem = "not opened yet"
        self.opened_total = 0
        self.unsent_dropped_total = 0
        self._receive = receive
        self._log = log
        self._logger = logger
        self._framer: Framer = LineFramer(wire.MAX_FRAME) if framing == "console" else CobsFramer(wire.MAX_FRAME)
        self._place = Place(self, None)
        self._serial: serial.Serial | None = None
        self._unsent = bytearray()
        self._is_writing = False
        self._lost = asyncio.Event()

    @property
    def dropped(self) -> dict[str, int]:
        """What the framing dropped, by reason."""
        return self._framer.dropped

    async def run(self) -> None:
        """Keep the port open until cancelled."""
        retry_s = RETRY_S
        try:
            while True:
                try:
                    self._open()
                except PortError as error:
                    if str(error) != self.problem:
                        self.problem = str(error)
                        self._logger.warning("port_unavailable", link=self.name, reason=error.reason, hint=error.hint)
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, RETRY_MAX_S)
                    continue
                retry_s = RETRY_S
                await self._lost.wait()
                self._close()
                self._logger.warning("port_lost", link=self.name, reason=self.problem)
                await asyncio.sleep(RETRY_S)
        finally:
            self._close()

    def _open(self) -> None:
        self._serial = open_port(self.name, self.baud)
        self._framer.reset()
        self._lost.clear()
        self._unsent.clear()
        self.is_open = True
        self.problem = ""
        self.opened_total += 1
        asyncio.get_running_loop().add_reader(self._serial.fileno(), self._readable)
        self._logger.info("port_opened", link=self.name, framing=self.framing, baud=self.baud)

    def _close(self) -> None:
        self.is_open = False
        port, self._serial = self._serial, None
        if port is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(port.fileno())
        loop.remove_writer(port.fileno())
        self._is_writing = False
        with suppress(OSError):  # of a board that is gone; the descriptor is free all the same
            port.close()

    def _fail(self, reason: str) -> None:
        self.problem = reason
        self._lost.set()
        if self._serial is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._serial.fileno())
            loop.remove_writer(self._serial.fileno())
            self._is_writing = False

    def _readable(self) -> None:
        if self._serial is None:
            return
        try:
            data = os.read(self._serial.fileno(), READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        if not data:
            self._fail("the other end is gone")
            return
        self.take(data)

    def take(self, data: bytes) -> None:
        """Bytes have come from the port: pass on their frames and lines."""
        for frame in self._framer.feed(data):
            self._receive(self._place, frame)
        if isinstance(self._framer, LineFramer):
            for line in self._framer.take_lines():
                self._log(self.name, line.decode("utf-8", "replace"))

    def send(self, frame: bytes, peer: object) -> None:
        """Send, now or as soon as the port takes it. Dropped while the port is away or far behind."""
        if self._serial is None or self._lost.is_set():
            return
        data = self._framer.wrap(frame)
        if len(self._unsent) + len(data) > MAX_UNSENT:
            self.unsent_dropped_total += 1
            return
        self._unsent += data
        if not self._is_writing:
            self._writable()

    def _writable(self) -> None:
        if self._serial is None:
            return
        loop = asyncio.get_running_loop()
        try:
            sent = os.write(self._serial.fileno(), self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        del self._unsent[:sent]
        if self._unsent and not self._is_writing:
            self._is_writing = True
            loop.add_writer(self._serial.fileno(), self._writable)
        elif not self._unsent and self._is_writing:
            self._is_writing = False
            loop.remove_writer(self._serial.fileno())
