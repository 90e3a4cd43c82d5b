"""Many nodes in one process, for load: the endpoint of the real firmware, a socket each, and no more.

fleet = Fleet(("127.0.0.1", 6363), {"leaf-1": key, ...}, rate=0.1, seed=1)
await fleet.start()
await asyncio.sleep(60)
await fleet.settle()
print(fleet.statistics())
fleet.stop()
"""

import asyncio
import os
import random
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from petiole import manifest, states, wire
from petiole.endpoint import NodeEndpoint
from petiole.errors import QueueFull
from petiole.items import Measured
from petiole.join import Joiner
from petiole.outbox import Outbox
from petiole_node.port.cpython import AesCcm

CHANNELS = [[0, "counter", "", "i", 0], [1, "temperature", "Cel", "f", 0]]
MANIFEST = manifest.encode("fleet-1", list(CHANNELS), [[0, "ping", []]], [0, 0])
_OUTBOX = 127  # as many as can be on the wire
_SAMPLES = 10_000
_STEP = 0.5


@dataclass(frozen=True)
class Statistics:
    """Totals over all nodes since the start. `latencies_ms`: from publishing to durable, sorted, the newest ones."""

    nodes: int
    online: int
    joins: int
    published: int
    durable: int
    refused: int  # the outbox was full: the gateway is too slow for the rate
    frames_sent: int
    frames_received: int
    dropped: dict[str, int]
    latencies_ms: list[int]

    def latency_ms(self, quantile: float) -> int | None:
        """The latency that this part of the readings did not exceed."""
        if not self.latencies_ms:
            return None
        return self.latencies_ms[min(len(self.latencies_ms) - 1, int(quantile * len(self.latencies_ms)))]


class FleetNode:
    """One node: publishes a counter and a walking temperature in turn, at `rate` readings a second, from a seed."""

    def __init__(
        self,
        name: str,
        key: bytes,
        gateway: tuple[str, int],
        rate: float,
        seed: int,
        latencies: "deque[int]",
        durable: Callable[[], None],
    ) -> None:
        self.name = name
        self.rate = rate
        self.published_total = 0
        self.durable_total = 0
        self.refused_total = 0
        self.sent_total = 0
        self.received_total = 0
        self.endpoint = NodeEndpoint(Joiner(AesCcm, key), os.urandom, MANIFEST, Outbox(_OUTBOX), 1, 1)
        self._gateway = gateway
        self._random = random.Random(seed)  # noqa: S311 - luck that can be repeated
        self._temperature = 20.0
        self._latencies = latencies
        self._durable = durable
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._publisher: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Join, and publish from a random moment on."""
        loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(self._gateway)
        loop.add_reader(self._socket.fileno(), self._read)
        self.endpoint.link_up(self._now(), True)
        if self.rate:
            self._publisher = loop.call_later(self._random.random() / self.rate, self._publish)
        self._run()

    def stop(self) -> None:
        """Silence, as if the power were gone."""
        for timer in (self._timer, self._publisher):
            if timer is not None:
                timer.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def pause(self) -> None:
        """Publish nothing more; what is in the outbox still goes."""
        if self._publisher is not None:
            self._publisher.cancel()

    @staticmethod
    def _now() -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def _publish(self) -> None:
        # Seldom or often, but never in step: intervals vary by half.
        interval = (0.75 + self._random.random() / 2) / self.rate
        self._publisher = asyncio.get_running_loop().call_later(interval, self._publish)
        channel = self.published_total & 1
        self._temperature += self._random.choice((-_STEP, 0, _STEP))
        value = self._temperature if channel else self.published_total
        try:
            self.endpoint.publish(channel, value, self._now())
            self.published_total += 1
        except QueueFull:
            self.refused_total += 1
        self._run()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            frame = self._socket.recv(2048)
        except OSError:
            return  # an ICMP answer: the gateway is not there now
        self.received_total += 1
        self._take(self.endpoint.receive(frame, self._now()))
        self._run()

    def _take(self, events: list[tuple[object, ...]]) -> None:
        now = self._now()
        for event in events:
            if event[0] == "durable" and isinstance(event[1], Measured):
                self.durable_total += 1
                self._latencies.append(now - event[1].taken)
                self._durable()
            elif event[0] == "command" and isinstance(event[1], int):
                status, result = (wire.OK, {"uptime_s": 0}) if event[2] == 0 else (wire.NOT_FOUND, "no such command")
                self.endpoint.reply(event[1], status, result)

    def _run(self) -> None:
        now = self._now()
        if self._socket is None:
            return
        self._take(self.endpoint.expire(now))
        while (frame := self.endpoint.next_frame(now)) is not None:
            self.sent_total += 1
            try:
                self._socket.send(frame)
            except OSError:
                break  # lost, like any datagram
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.endpoint.deadline(now)
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_later(max(deadline - now, 1) / 1000, self._run)


class Fleet:
    """Nodes by name and key, all alike. `rate`: readings a second of each node."""

    def __init__(self, gateway: tuple[str, int], keys: Mapping[str, bytes], rate: float, seed: int = 1) -> None:
        self._latencies: deque[int] = deque(maxlen=_SAMPLES)
        self._progress = asyncio.Event()
        self.nodes = [
            FleetNode(name, keys[name], gateway, rate, seed + number, self._latencies, self._progress.set)
            for number, name in enumerate(sorted(keys))
        ]

    async def start(self, joins_per_s: float = 40) -> None:
        """Start all nodes, not faster than this: more come at once than a socket's buffer holds."""
        for node in self.nodes:
            node.start()
            await asyncio.sleep(1 / joins_per_s)

    async def settle(self, timeout_s: float = 60) -> None:
        """Stop publishing and return when all that was published is durable. TimeoutError."""
        for node in self.nodes:
            node.pause()
        async with asyncio.timeout(timeout_s):
            while any(node.durable_total < node.published_total for node in self.nodes):
                self._progress.clear()
                await self._progress.wait()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def statistics(self) -> Statistics:
        dropped: Counter[str] = Counter()
        for node in self.nodes:
            dropped.update(node.endpoint.dropped)
        return Statistics(
            nodes=len(self.nodes),
            online=sum(node.endpoint.state == states.ONLINE for node in self.nodes),
            joins=sum(node.endpoint.joins_total for node in self.nodes),
            published=sum(node.published_total for node in self.nodes),
            durable=sum(node.durable_total for node in self.nodes),
            refused=sum(node.refused_total for node in self.nodes),
            frames_sent=sum(node.sent_total for node in self.nodes),
            frames_received=sum(node.received_total for node in self.nodes),
            dropped=dict(dropped),
            latencies_ms=sorted(self._latencies),
        )
