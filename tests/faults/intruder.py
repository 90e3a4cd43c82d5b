"""Somebody who sees frames on the network, keeps them, and sends what should not be sent."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import Counter
from pathlib import Path

from petiole import frame as frames
from petiole import join, wire
from petiole.cobs import encode
from petiole_gateway.aead import AesCcm
from petiole_tools.sim.nodes import Terminal

Address = tuple[str, int]
# At most 50 joins a second are answered on a link in the long run, so more of them would keep honest nodes from
# joining; a twelfth of what is sent are joins.
PER_SECOND = 400
_BURST_S = 0.05


class Recorder:
    """Between one node and the gateway: passes everything on, and keeps what the node has sent."""

    def __init__(self, gateway: Address) -> None:
        self.kept: list[bytes] = []
        self._gateway = gateway
        self._node: Address | None = None
        self._inner = self._open(self._from_node)
        self._outer = self._open(self._from_gateway)
        self.address: Address = self._inner.getsockname()

    def _open(self, received: object) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind(("127.0.0.1", 0))
        asyncio.get_running_loop().add_reader(opened.fileno(), received)  # type: ignore[arg-type]
        return opened

    def _from_node(self) -> None:
        data, self._node = self._inner.recvfrom(4096)
        self.kept.append(data)
        self._outer.sendto(data, self._gateway)

    def _from_gateway(self) -> None:
        data = self._outer.recv(4096)
        if self._node is not None:
            self._inner.sendto(data, self._node)

    def close(self) -> None:
        for opened in (self._inner, self._outer):
            asyncio.get_running_loop().remove_reader(opened.fileno())
            opened.close()

    def of_type(self, kind: int) -> list[bytes]:
        """Kept frames of one type."""
        return [data for data in self.kept if data and data[0] & 0xE0 == kind]


class Intruder:
    """Sends bad frames to the gateway's UDP port and into a serial port of it. `sent` counts them by kind."""

    KINDS = (
        *("noise", "truncated", "oversized", "damaged", "replayed_data", "replayed_data"),
        *("noise", "truncated", "address", "damaged", "reject", "joins"),
    )
    JOINS = ("replayed_join", "unknown_device", "wrong_key")

    def __init__(self, gateway: Address, port: Path, recorder: Recorder, seed: int) -> None:
        self.sent: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()  # by type of frame
        self._gateway = gateway
        self._recorder = recorder
        self._luck = random.Random(seed)
        self._terminal = Terminal(port)
        os.set_blocking(self._terminal.fd, False)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._answered)
        loop.add_reader(self._terminal.fd, self._drain)
        self._stranger = join.Joiner(AesCcm, self._luck.randbytes(16))

    def _answered(self) -> None:
        self.answers[self._socket.recv(4096)[0] & 0xE0] += 1

    def _drain(self) -> None:
        try:
            os.read(self._terminal.fd, 4096)
        except OSError:  # nobody has the port open
            asyncio.get_running_loop().remove_reader(self._terminal.fd)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_reader(self._terminal.fd)
        self._socket.close()
        self._terminal.close()

    async def send(self, count: int) -> None:
        """So many bad frames, at a bounded rate, on both links."""
        burst = round(PER_SECOND * _BURST_S)
        for number in range(count):
            kind = self.KINDS[number % len(self.KINDS)]
            if kind == "joins":
                kind = self._luck.choice(self.JOINS)
            frame = getattr(self, "_" + kind)()
            self.sent[kind] += 1
            try:
                self._socket.sendto(frame, self._gateway)
                # Bytes without a delimiter are noise on a line; with it they are frames.
                os.write(self._terminal.fd, frame if kind == "noise" else encode(frame) + b"\0")
            except OSError:  # a full buffer: so it is lost
                self.sent["unsent"] += 1
            if number % burst == 0:
                await asyncio.sleep(_BURST_S)

    def _genuine(self) -> bytes:
        return self._luck.choice(self._recorder.kept)

    def _noise(self) -> bytes:
        return self._luck.randbytes(self._luck.randrange(1, 300))

    def _truncated(self) -> bytes:
        frame = self._genuine()
        return frame[: self._luck.randrange(len(frame))]

    def _oversized(self) -> bytes:
        frame = self._genuine()
        return frame + self._luck.randbytes(self._luck.randrange(wire.MAX_FRAME + 1 - len(frame), 1400))

    def _damaged(self) -> bytes:
        frame = bytearray(self._genuine())
        frame[self._luck.randrange(len(frame))] ^= 1 << self._luck.randrange(8)
        return bytes(frame)

    def _replayed_data(self) -> bytes:
        return self._luck.choice(self._recorder.of_type(wire.DATA))

    def _address(self) -> bytes:
        """Data that claims to be of some session."""
        address = frames.encode_address(self._luck.randrange(1, 200))
        return bytes((wire.DATA | wire.ADDRESSED,)) + address + self._luck.randbytes(40)

    def _reject(self) -> bytes:
        return bytes((wire.REJECT,)) + self._luck.randbytes(4)

    def _replayed_join(self) -> bytes:
        return self._luck.choice(self._recorder.of_type(wire.JOIN_REQUEST))

    def _unknown_device(self) -> bytes:
        return self._stranger.start(self._luck.randbytes(4), 1, 1, b"abc", True)

    def _wrong_key(self) -> bytes:
        """The id of a device that is known, sealed under another key."""
        return self._unknown_device()[:1] + self._replayed_join()[1:4] + self._unknown_device()[4:]
