"""Bad links, from a seed: loss, delay, jitter, duplicates, reordering, corrupted bytes, a limited rate.

`Scheduler` decides what becomes of each piece of data, without any I/O. `Pump` moves bytes between two descriptors
through one scheduler each way; `UdpRelay` does the same with datagrams.
"""

import asyncio
import heapq
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass

from petiole_tools.sim.descriptor import ConsoleDescriptor, Descriptor

MAX_WAITING = 4096  # pieces; what a slow link cannot hold is lost
_CHUNK = 4096


@dataclass(frozen=True)
class Impairment:
    """Chances from 0 to 1 for each piece: a datagram, or a run of bytes. Times in ms.

    `rate`: bytes a second, 0 is unlimited. A reordered piece is held back by up to `reorder_ms`; byte streams
    do not reorder, there `reorder` has no effect.
    """

    loss: float = 0
    duplicate: float = 0
    reorder: float = 0
    corrupt: float = 0
    delay_ms: float = 0
    jitter_ms: float = 0
    reorder_ms: float = 50
    rate: int = 0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: from 0 to 1, got {getattr(self, name)}")


PERFECT = Impairment()


class Scheduler:
    """One direction of a link. `push` takes a piece, `pop` returns what arrives by `now` (seconds, any clock)."""

    def __init__(self, impairment: Impairment, seed: int, is_stream: bool) -> None:
        self.impairment = impairment
        self.is_cut = False  # everything is lost
        self.pieces_total = 0
        self.lost_total = 0
        self._random = random.Random(seed)  # noqa: S311 - luck that can be repeated
        self._is_stream = is_stream
        self._waiting: list[tuple[float, int, bytes]] = []
        self._number = 0
        self._free_at = 0.0  # when the line has sent all before
        self._last_at = 0.0  # a stream never overtakes itself

    def push(self, data: bytes, now: float) -> None:
        bad = self.impairment
        chance = self._random.random
        self.pieces_total += 1
        # Always the same draws for a piece, so that one setting does not change the luck of another.
        is_lost, is_double, is_late, is_corrupt = (
            chance() < bad.loss,
            chance() < bad.duplicate,
            chance() < bad.reorder,
            chance() < bad.corrupt,
        )
        jitter, late, place = chance(), chance(), chance()
        if self.is_cut or is_lost or len(self._waiting) >= MAX_WAITING:
            self.lost_total += 1
            return
        if is_corrupt and data:
            position = int(place * len(data))
            data = data[:position] + bytes((data[position] ^ 1 + self._random.randrange(255),)) + data[position + 1 :]
        at = now + (bad.delay_ms + jitter * bad.jitter_ms) / 1000
        if bad.rate:
            self._free_at = max(self._free_at, now) + len(data) / bad.rate
            at += self._free_at - now
        if self._is_stream:
            at = self._last_at = max(at, self._last_at)
        elif is_late:
            at += late * bad.reorder_ms / 1000
        for _ in range(2 if is_double else 1):
            heapq.heappush(self._waiting, (at, self._number, data))
            self._number += 1

    def pop(self, now: float) -> list[bytes]:
        out = []
        while self._waiting and self._waiting[0][0] <= now:
            out.append(heapq.heappop(self._waiting)[2])
        return out

    def next_at(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None


class _Delivery:
    """Calls `deliver(data)` for what a scheduler lets arrive, in the event loop."""

    def __init__(self, scheduler: Scheduler, deliver: Callable[[bytes], None]) -> None:
        self.scheduler = scheduler
        self._deliver = deliver
        self._timer: asyncio.TimerHandle | None = None

    def push(self, data: bytes) -> None:
        self.scheduler.push(data, asyncio.get_running_loop().time())
        self._run()

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for data in self.scheduler.pop(loop.time()):
            self._deliver(data)
        self.close()
        following = self.scheduler.next_at()
        if following is not None:
            self._timer = loop.call_at(following, self._run)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Pump:
    """Moves bytes between the node's descriptor and the outer one. They stay the caller's.

    `delimiter` cuts the stream into pieces, each with what stands before it: so a loss or a duplicate hits whole
    frames now and then, as when a receiver's buffer overflows, while corruption hits any byte. Without a delimiter
    a piece is what one read brings.
    """

    def __init__(self, impairment: Impairment, seed: int, delimiter: bytes = b"") -> None:
        self._delimiter = delimiter
        self.uplink = Scheduler(impairment, 2 * seed, True)
        self.downlink = Scheduler(impairment, 2 * seed + 1, True)
        self._rests = {True: b"", False: b""}
        self._up = _Delivery(self.uplink, self._write_outer)
        self._down = _Delivery(self.downlink, self._write_node)
        self._node: Descriptor | None = None
        self._outer: Descriptor | None = None

    def connect_node(self, fd: int | None, on_console: Callable[[], int | None] | None = None) -> None:
        """The descriptor of a node that starts, or none: the node is gone. `on_console` tells the process
        whose terminal it is, if it is one."""
        if self._node is not None:
            self._node.close()
        self._rests[True] = b""
        if fd is None:
            self._node = None
        elif on_console is None:
            self._node = Descriptor(fd, self._from_node)
        else:
            self._node = ConsoleDescriptor(fd, on_console, self._from_node)

    def connect_outer(self, fd: int | None) -> None:
        """The other end of the cable, or none: it is unplugged."""
        if self._outer is not None:
            self._outer.close()
        self._rests[False] = b""
        self._outer = None if fd is None else Descriptor(fd, self._from_outer)

    def _from_node(self, data: bytes) -> None:
        self._cut(data, True, self._up)

    def _from_outer(self, data: bytes) -> None:
        self._cut(data, False, self._down)

    def _cut(self, data: bytes, is_up: bool, delivery: _Delivery) -> None:
        if not self._delimiter:
            delivery.push(data)
            return
        *pieces, rest = (self._rests[is_up] + data).split(self._delimiter)
        for piece in pieces:
            delivery.push(piece + self._delimiter)
        self._rests[is_up] = rest if len(rest) < _CHUNK else b""

    def _write_outer(self, data: bytes) -> None:
        if self._outer is not None:
            self._outer.write(data)

    def _write_node(self, data: bytes) -> None:
        if self._node is not None:
            self._node.write(data)

    def close(self) -> None:
        self._up.close()
        self._down.close()
        self.connect_node(None)
        self.connect_outer(None)


class UdpRelay:
    """Stands between one node and a gateway: the node sends to `address`; the gateway sees one port for it."""

    def __init__(self, gateway: tuple[str, int], impairment: Impairment, seed: int) -> None:
        self.gateway = gateway
        self.uplink = Scheduler(impairment, 2 * seed, False)
        self.downlink = Scheduler(impairment, 2 * seed + 1, False)
        self._up = _Delivery(self.uplink, self._send_up)
        self._down = _Delivery(self.downlink, self._send_down)
        self._inner: socket.socket | None = None
        self._outer: socket.socket | None = None
        self._node: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        assert self._inner is not None
        name = self._inner.getsockname()
        return (name[0], name[1])

    async def start(self) -> None:
        self._inner = self._open(("127.0.0.1", 0), self._from_node)
        self._outer = self._open(("127.0.0.1", 0), self._from_gateway)

    def _open(self, address: tuple[str, int], received: Callable[[bytes, tuple[str, int]], None]) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind(address)

        def read() -> None:
            try:
                data, source = opened.recvfrom(_CHUNK)
            except OSError:
                return  # an ICMP answer: the gateway is not there now
            received(data, source)

        asyncio.get_running_loop().add_reader(opened.fileno(), read)
        return opened

    def _from_node(self, data: bytes, source: tuple[str, int]) -> None:
        self._node = source
        self._up.push(data)

    def _from_gateway(self, data: bytes, source: tuple[str, int]) -> None:
        self._down.push(data)

    def _send_up(self, data: bytes) -> None:
        self._send(self._outer, data, self.gateway)

    def _send_down(self, data: bytes) -> None:
        self._send(self._inner, data, self._node)

    def _send(self, opened: socket.socket | None, data: bytes, address: tuple[str, int] | None) -> None:
        if opened is None or address is None:
            return
        try:
            opened.sendto(data, address)
        except OSError:
            return  # lost, like any datagram

    def close(self) -> None:
        self._up.close()
        self._down.close()
        for opened in (self._inner, self._outer):
            if opened is not None:
                asyncio.get_running_loop().remove_reader(opened.fileno())
                opened.close()
        self._inner = self._outer = None
