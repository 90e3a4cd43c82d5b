"""What all MicroPython ports have in common."""

import gc
import io
import os
import select
import sys
import time
from asyncio import core  # type: ignore[attr-defined]  # MicroPython's own

from petiole import ccm
from petiole_node.port import state
from petiole_node.port.aes_cryptolib import Aes

MYPY = False  # the type checker takes it for true
if MYPY:
    from collections.abc import Generator

    from petiole.contracts import Aead
    from petiole_node.contracts import Address, Datagrams, Handler, Json, Stream

_CHUNK = 256
_MAX_DATAGRAM = 256
_MAX_CRASH = 600  # characters of a traceback that are kept
_RESERVE = 4096  # in one piece: the longest message, a join, or a dozen copies of a frame


def readable(stream: object) -> "Generator[None, None, None]":
    """To be awaited: returns when the stream can be read, or is gone."""
    yield core._io_queue.queue_read(stream)


class FileStream:
    """A UART, or a file with a non-blocking descriptor: `read(n)` gives what is there, or None.

    `is_kept`: it is not ended by `close`, for nobody could open it again.
    """

    def __init__(self, file: "Json", is_kept: bool) -> None:
        self._file = file
        self._is_kept = is_kept

    async def receive(self) -> bytes:
        while True:
            await readable(self._file)  # type: ignore[misc]
            data: bytes | None = self._file.read(_CHUNK)
            if data:
                return data
            if data is not None:
                raise OSError("the stream has ended")

    def write(self, data: bytes) -> "int | None":
        taken: int | None = self._file.write(data)
        return taken

    def close(self) -> None:
        if not self._is_kept:
            self._file.deinit()


class Console:
    """The port of the REPL. Reading several bytes of it at once would block until they are there."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._byte = bytearray(1)

    async def receive(self) -> bytes:
        await readable(sys.stdin)  # type: ignore[misc]
        data = bytearray()
        while len(data) < _CHUNK:
            is_ready = False
            for _ in self._poll.ipoll(0):  # type: ignore[attr-defined]
                is_ready = True
            if not is_ready:
                break
            if not sys.stdin.buffer.readinto(self._byte):  # type: ignore[union-attr]
                raise OSError("the console has ended")
            data.extend(self._byte)
        return bytes(data)

    def write(self, data: bytes) -> "int | None":
        sys.stdout.buffer.write(data)
        return len(data)

    def close(self) -> None:
        """The console stays: it belongs to the runtime."""


class UdpSocket:
    def __init__(self) -> None:
        import socket  # noqa: PLC0415 - a board without a radio has none

        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    async def receive(self) -> "tuple[bytes, Address]":
        while True:
            await readable(self._socket)  # type: ignore[misc]
            try:
                return self._socket.recvfrom(_MAX_DATAGRAM)
            except OSError as error:
                if error.errno not in (11, 110, 111):  # EAGAIN, ETIMEDOUT on some boards, ECONNREFUSED
                    raise

    def send(self, data: bytes, address: "Address") -> None:
        self._socket.sendto(data, address)

    def close(self) -> None:
        self._socket.close()


class MicroPythonPort(state.StateFiles):
    name = "micropython"

    def __init__(self) -> None:
        super().__init__()
        self._last = time.ticks_ms()  # type: ignore[attr-defined]
        self._total = 0
        self._buffers = ccm.scratch()
        self._reserve: bytearray | None = None
        self._console: Console | None = None

    def now(self) -> int:
        """ms that never wrap, unlike ticks: to be called at least every few days, which the runtime's loop does."""
        ticks = time.ticks_ms()  # type: ignore[attr-defined]
        self._total += max(0, time.ticks_diff(ticks, self._last))  # type: ignore[attr-defined]
        self._last = ticks
        return self._total

    def continue_clock(self, now: int) -> None:
        """The clock goes on from before a deep sleep: it is so late now."""
        ahead = now - self.now()  # which changes the total, too
        self._total += ahead
        self.is_continued = True

    def random(self, length: int) -> bytes:
        return os.urandom(length)

    def aead(self, key: bytes, tag_length: int) -> "Aead":
        return ccm.Ccm(Aes(key), tag_length, buffers=self._buffers)

    def serial(self, settings: "dict[str, Json]") -> "Stream":
        raise NotImplementedError()

    def console(self) -> "Stream":
        if self._console is None:
            self._console = Console()
        return self._console

    def datagrams(self) -> "Datagrams":
        return UdpSocket()

    async def resolve(self, host: str, port: int) -> "Address":
        import socket  # noqa: PLC0415 - as above

        return socket.getaddrinfo(host, port)[0][-1]

    async def connect_network(self, settings: "dict[str, Json]") -> None:
        """The network is there, unless the board says otherwise."""

    def is_networked(self, settings: "dict[str, Json]") -> bool:
        return True

    def signature(self, handler: "Handler") -> "list[tuple[str, str, bool]] | None":
        """MicroPython keeps neither names nor annotations of parameters."""
        return None

    def is_waitable(self, result: object) -> bool:
        return hasattr(result, "send")

    def describe(self, error: BaseException) -> str:
        gc.collect()
        try:
            out = io.StringIO(_MAX_CRASH)  # type: ignore[arg-type]  # room from the start
            sys.print_exception(error, out)  # type: ignore[attr-defined]
            return out.getvalue()[-_MAX_CRASH:]
        except MemoryError:
            return type(error).__name__

    def settle(self) -> None:
        """All modules are there: from now on garbage is collected often, so that what stays is kept together."""
        gc.collect()
        self.has_room()
        gc.threshold(gc.mem_free() // 4)  # type: ignore[attr-defined]

    def has_room(self) -> bool:
        if self._reserve is None:
            try:
                self._reserve = bytearray(_RESERVE)
            except MemoryError:
                return False
        return True

    def use_reserve(self) -> None:
        self._reserve = None
        gc.collect()

    def free_heap(self) -> "int | None":
        gc.collect()
        free: int = gc.mem_free()  # type: ignore[attr-defined]
        return free

    def start_watchdog(self, timeout_s: int) -> None:
        """None here."""

    def feed_watchdog(self) -> None:
        """None here."""

    def hush(self) -> None:
        """Before sleep: what was written leaves the board, then radios are off."""
