"""CPython: nodes in tests, in load generators and on computers."""

import asyncio
import inspect
import os
import socket
import sys
import time
import traceback

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from petiole_node.port import state

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole.contracts import Aead
    from petiole_node.contracts import Address, Datagrams, Handler, Json, Stream
    from petiole_node.port.sleeper import Sleeper

_CHUNK = 4096
_TYPES = {float: "f", int: "i", bool: "b", str: "s", bytes: "x"}
_NAMES = {"float": "f", "int": "i", "bool": "b", "str": "s", "bytes": "x"}  # annotations kept as text
RESET_CODE = 10


async def readable(fd: int) -> None:
    """Return when the descriptor can be read, or is gone."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(fd, ready)
    try:
        await future
    finally:
        loop.remove_reader(fd)


class AesCcm:
    """The contract of the core's AEADs, in C."""

    def __init__(self, key: bytes, tag_length: int) -> None:
        self._ccm = AESCCM(key, tag_length=tag_length)

    def seal(self, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        return self._ccm.encrypt(nonce, plaintext, aad)

    def open(self, nonce: bytes, aad: bytes, data: bytes) -> bytes | None:
        try:
            return self._ccm.decrypt(nonce, data, aad)
        except InvalidTag:
            return None


class DescriptorStream:
    """Descriptors that are not this object's own: they are never closed."""

    def __init__(self, input: int, output: int) -> None:
        self._input = input
        self._output = output

    async def receive(self) -> bytes:
        while True:
            await readable(self._input)
            try:
                data = os.read(self._input, _CHUNK)
            except BlockingIOError:
                continue
            if not data:
                raise OSError("the stream has ended")
            return data

    def write(self, data: bytes) -> int:
        try:
            return os.write(self._output, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Nobody could open the descriptors again."""


class UdpSocket:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    async def receive(self) -> "tuple[bytes, Address]":
        while True:
            await readable(self._socket.fileno())
            try:
                return self._socket.recvfrom(_CHUNK)
            except (BlockingIOError, ConnectionRefusedError):
                continue  # an ICMP answer to what was sent: the gateway is not there now

    def send(self, data: bytes, address: "Address") -> None:
        self._socket.sendto(data, address)

    def close(self) -> None:
        self._socket.close()


class Port(state.StateFiles):
    name = "cpython"
    has_littlefs = False

    def __init__(self) -> None:
        super().__init__()
        self._offset = 0

    def now(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self._offset

    def continue_clock(self, now: int) -> None:
        self._offset += now - self.now()
        self.is_continued = True

    def sleeper(self) -> "Sleeper":
        from petiole_node.port.sleeper_files import FileSleeper  # noqa: PLC0415 - sleepy nodes only

        return FileSleeper(self)

    def hush(self) -> None:
        """The operating system sends what was written."""

    def random(self, length: int) -> bytes:
        return os.urandom(length)

    def aead(self, key: bytes, tag_length: int) -> "Aead":
        return AesCcm(key, tag_length)

    def serial(self, settings: "dict[str, Json]") -> "Stream":
        fd = settings["fd"]
        if fd is None:
            raise OSError("uart: this computer has no pins; set fd")
        return DescriptorStream(fd, fd)

    def console(self) -> "Stream":
        sys.stdout.flush()
        return DescriptorStream(0, 1)

    def datagrams(self) -> "Datagrams":
        return UdpSocket()

    async def resolve(self, host: str, port: int) -> "Address":
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
        return found[0][4]

    async def connect_network(self, settings: "dict[str, Json]") -> None:
        """The operating system does it."""

    def is_networked(self, settings: "dict[str, Json]") -> bool:
        return True

    def signature(self, handler: "Handler") -> "list[tuple[str, str, bool]] | None":
        """(name, type, required) of the parameters; what is not annotated takes anything."""
        arguments = []
        for parameter in inspect.signature(handler).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                return None
            note = parameter.annotation
            type = _NAMES.get(note, "a") if isinstance(note, str) else _TYPES.get(note, "a")
            arguments.append((parameter.name, type, parameter.default is parameter.empty))
        return arguments

    def is_waitable(self, result: object) -> bool:
        return inspect.isawaitable(result)

    def describe(self, error: BaseException) -> str:
        return "".join(traceback.format_exception(error))[-600:]

    def settle(self) -> None:
        """Memory is not scarce here."""

    def has_room(self) -> bool:
        return True

    def use_reserve(self) -> None:
        """None is needed."""

    def free_heap(self) -> "int | None":
        return None

    def start_watchdog(self, timeout_s: int) -> None:
        """None here."""

    def feed_watchdog(self) -> None:
        """None here."""

    def interrupted(self) -> None:
        """Ctrl-C ends the program."""

    def reset(self) -> None:
        sys.exit(RESET_CODE)
