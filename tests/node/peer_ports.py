"""The gateway's end of the links of a peer."""

import asyncio
import os
import socket
import termios
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from petiole import wire
from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer

if TYPE_CHECKING:
    from .peer import Peer


class SerialPort:
    """Opens a path as a gateway does, and again whenever it is lost."""

    def __init__(self, peer: "Peer", path: Path, kind: str) -> None:
        self.framer: CobsFramer | LineFramer = CobsFramer(wire.MAX_FRAME)
        if kind == "console":
            self.framer = LineFramer(wire.MAX_FRAME)
        self.opened_total = 0
        self._peer = peer
        self._path = path
        self._fd = -1
        self._task = asyncio.create_task(self._keep())
        self._lost = asyncio.Event()

    async def _keep(self) -> None:
        while True:
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                tty.setraw(self._fd)
                termios.tcflush(self._fd, termios.TCIFLUSH)
            except OSError:
                self._close()
                await asyncio.sleep(0.02)
                continue
            self.opened_total += 1
            self._lost.clear()
            self.framer.reset()
            asyncio.get_running_loop().add_reader(self._fd, self._read)
            await self._lost.wait()
            self._close()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._lost.set()
            return
        for frame in self.framer.feed(data):
            self._peer.receive(frame, self.send)
        if isinstance(self.framer, LineFramer):
            self._peer.say([line.decode(errors="replace") for line in self.framer.take_lines()])

    def send(self, frame: bytes) -> None:
        self.write(self.framer.wrap(frame))

    def write(self, data: bytes) -> None:
        if self._fd >= 0:
            try:
                os.write(self._fd, data)
            except OSError:
                self._lost.set()

    def _close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        self._task.cancel()
        self._close()


class UdpPort:
    def __init__(self, peer: "Peer", port: int = 0, host: str = "127.0.0.1") -> None:
        self.is_cut = False
        self.frames_total = 0
        self._peer = peer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, port))
        self.address: tuple[str, int] = ("127.0.0.1", self._socket.getsockname()[1])
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        try:
            data, source = self._socket.recvfrom(4096)
        except OSError:
            return
        self.frames_total += 1
        if self.is_cut:
            self._peer.say([])
        else:
            self._peer.receive(data, lambda frame: self._send(frame, source))

    def _send(self, frame: bytes, address: tuple[str, int]) -> None:
        if self.is_cut:
            return
        try:
            self._socket.sendto(frame, address)
        except OSError:
            return

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
