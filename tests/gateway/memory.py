"""The hub's ports in memory, and nodes on links that lose frames: the second implementation of `hub/ports.py`."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import random
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import patch

from petiole import frame as frames
from petiole import join, manifest, states
from petiole.endpoint import NodeEndpoint
from petiole.outbox import Outbox
from petiole_gateway.aead import AesCcm
from petiole_gateway.hub.hub import Hub
from petiole_gateway.hub.policy import Policy
from petiole_gateway.hub.ports import Busy, CommandError, Place

from .virtual_time import now_ms, run

WALL = 1_800_000_000_000

MANIFEST = manifest.encode(
    "1.2.3",
    [[0, "temperature", "Cel", "f", 60], [1, "door", "", "b", 0]],
    [[0, "led", [["on", "b", True]]], [1, "slow", []]],
    [0, 0],
)


def key_of(name: str) -> bytes:
    """A device's key, the same in every run."""
    return hashlib.sha256(name.encode()).digest()[:16]


class NullLogger:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def _add(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self.lines.append((level, event, fields))

    def debug(self, event: str, **fields: Any) -> None:
        self._add("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._add("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._add("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._add("error", event, fields)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for _, event, fields in self.lines if event == name]


class MemoryRecords:
    """Documents by name. `is_busy`: refuses. `is_unsure`: writes, and says that it did not."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.unreadable: dict[str, str] = {}
        self.is_busy = False
        self.is_unsure = False
        self.puts = 0

    async def items(self) -> dict[str, dict[str, Any]]:
        return dict(self.documents)

    async def get(self, key: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        if self.is_busy:
            raise Busy("no disk", 0.05)
        return self.documents.get(key)

    async def put(self, key: str, document: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if self.is_busy:
            raise Busy("no disk", 0.05)
        self.puts += 1
        self.documents[key] = document
        if self.is_unsure:
            raise Busy("no answer", 0.05)

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        if self.is_busy:
            raise Busy("no disk", 0.05)
        self.documents.pop(key, None)


class MemoryUplinks:
    """A stream in memory. What is submitted becomes durable `commit_s` later, all together."""

    def __init__(self, commit_s: float = 0.01) -> None:
        self.commit_s = commit_s
        self.stored: list[tuple[str, int, str, bytes]] = []
        self.submitted: dict[str, int] = {}
        self.is_busy = False
        self.is_held = False  # nothing becomes durable
        self._pending: list[tuple[str, int, str, bytes]] = []
        self.lookups = 0
        self.lookup_busy = False
        self.unanswered: set[str] = set()  # devices of which nothing can be read
        self.lookup_s = 0.005
        self.durable: Callable[[list[tuple[str, int]]], None] = lambda entries: None

    async def last_sequence(self, device: str) -> int:
        self.lookups += 1
        await asyncio.sleep(self.lookup_s)
        if self.lookup_busy or device in self.unanswered:
            raise Busy("no leaf", 1.0)
        return max((n for d, n, _, _ in self.stored if d == device), default=0)

    def submit(self, device: str, sequence: int, channel: str, payload: bytes) -> None:
        if self.is_busy:
            raise Busy("full", 1.0)
        if sequence <= max((n for d, n, _, _ in self.stored if d == device), default=0):
            raise Busy("stored already", 0.1)  # as by another gateway
        assert sequence > self.submitted.get(device, 0), "submitted twice or out of order"
        self.submitted[device] = sequence
        self._pending.append((device, sequence, channel, payload))
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_later(self.commit_s, self._commit)

    def _commit(self) -> None:
        if self.is_held:
            asyncio.get_running_loop().call_later(self.commit_s, self._commit)
            return
        pending, self._pending = self._pending, []
        self.stored += pending
        self.durable([entry[:2] for entry in pending])

    def numbers(self, device: str) -> list[int]:
        return [n for d, n, _, _ in self.stored if d == device]


class MemoryRequester:
    """Answers requests of nodes from a table."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.live: list[tuple[str, str, bytes]] = []

    async def request(self, subject: str, arguments: object, timeout_s: float) -> object:
        self.asked.append((subject, arguments))
        if subject == "nobody.here":
            raise CommandError(404, "nobody answers")
        if subject == "slow.one":
            await asyncio.sleep(timeout_s)
            raise CommandError(408, "no answer")
        if subject == "big.one":
            return "x" * 5000
        if subject == "odd.one":
            return 1 << 70
        return {"echo": arguments}

    def publish_live(self, device: str, channel: str, payload: bytes) -> None:
        self.live.append((device, channel, payload))


class MemoryLink:
    """A link on which nodes are peers 0, 1, 2, ... `loss` in both directions, seeded."""

    def __init__(self, name: str = "memory", *, loss: float = 0.0, seed: int = 1, shared: bool = False) -> None:
        self.name = name
        self.answers_addressed = shared
        self.absence = ""
        self.loss = loss
        self.is_cut = False
        self.nodes: dict[object, MemoryNode] = {}
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self._random = random.Random(seed)

    def is_lost(self) -> bool:
        return self.is_cut or self._random.random() < self.loss

    def send(self, frame: bytes, peer: object) -> None:
        self.sent.append(frame)
        if not self.is_lost():
            asyncio.get_running_loop().call_soon(self._deliver, frame, peer)

    def _deliver(self, frame: bytes, peer: object) -> None:
        for node in [self.nodes[peer]] if peer in self.nodes else list(self.nodes.values()):
            node.receive(frame)


class MemoryNode:
    """A node's endpoint that runs in the event loop. Commands are answered by `handlers`."""

    def __init__(
        self,
        hub: Hub,
        link: MemoryLink,
        key: bytes,
        *,
        peer: object = None,
        addressed: bool = False,
        next_sequence: int | None = 1,
        boot: int = 1,
        described: bytes = MANIFEST,
        outbox: Outbox | None = None,
    ) -> None:
        self.hub = hub
        self.link = link
        self.peer = peer
        self.addressed = addressed
        self.events: list[tuple[object, ...]] = []
        self.executed: list[tuple[int, Any]] = []
        self.handlers: dict[int, Callable[[Any], Any]] = {0: lambda arguments: {"led": arguments}}
        self.endpoint = NodeEndpoint(
            join.Joiner(AesCcm, key), random.Random(key + bytes([boot])).randbytes, described,
            outbox or Outbox(200, next_sequence), boot, 1,
        )  # fmt: skip
        self._timer: asyncio.TimerHandle | None = None
        self._is_on = True
        link.nodes[peer] = self
        self.endpoint.link_up(now_ms(), addressed)
        self.pump()

    def off(self) -> None:
        """Take the power away."""
        self._is_on = False
        if self._timer is not None:
            self._timer.cancel()
        self.link.nodes.pop(self.peer, None)

    def move(self, link: MemoryLink, peer: object, addressed: bool) -> None:
        """Go on over another link."""
        self.link.nodes.pop(self.peer, None)
        self.link, self.peer = link, peer
        link.nodes[peer] = self
        self.endpoint.link_up(now_ms(), addressed)
        self.pump()

    def receive(self, frame: bytes) -> None:
        if not self._is_on:
            return
        events: list[tuple[Any, ...]] = self.endpoint.receive(frame, now_ms())
        for event in events:
            self.events.append(event)
            if event[0] == "command":
                _, id, number, arguments = event
                self.executed.append((number, arguments))
                if number in self.handlers:
                    self.endpoint.reply(id, 0, self.handlers[number](arguments))
        self.pump()

    def publish(self, *values: Any, channel: int = 0) -> None:
        for value in values:
            self.endpoint.publish(channel, value, now_ms())
        self.pump()

    def pump(self) -> None:
        if not self._is_on:
            return
        now = now_ms()
        self.events += self.endpoint.expire(now)
        while (frame := self.endpoint.next_frame(now)) is not None:
            self.link.received.append(frame)
            if not self.link.is_lost():
                self.hub.receive(Place(self.link, self.peer), frame)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.endpoint.deadline(now)
        if deadline is not None:
            delay = max(0.001, (deadline - now) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay, self.pump)

    @property
    def is_online(self) -> bool:
        return self.endpoint.state == states.ONLINE

    @property
    def is_empty(self) -> bool:
        return not self.endpoint.outbox.items

    def count(self, name: str) -> int:
        return sum(1 for event in self.events if event[0] == name)


class Site:
    """A hub with its ports in memory; `restart` makes a new hub on the same documents and stream."""

    def __init__(self, **options: Any) -> None:
        self.registry = MemoryRecords()
        self.sessions = MemoryRecords()
        self.uplinks = MemoryUplinks()
        self.requester = MemoryRequester()
        self.logger = NullLogger()
        self.options = options
        self.nodes: list[MemoryNode] = []
        self.clock_error_ms = 0
        self.hub: Hub

    async def start(self, with_sessions: bool = True) -> None:
        self.hub = Hub(
            uplinks=self.uplinks,
            requester=self.requester,
            registry=self.registry,
            sessions=self.sessions,
            logger=self.logger,
            policy=Policy(),
            **({"clock": now_ms, "wall": lambda: WALL + now_ms() + self.clock_error_ms} | self.options),
        )
        self.uplinks.durable = self.hub.durable
        await self.hub.start(with_sessions)
        for node in self.nodes:
            node.hub = self.hub

    async def restart(self, with_sessions: bool = True) -> None:
        await self.hub.stop()
        self.uplinks.submitted.clear()  # as the store reads it from the stream
        await self.start(with_sessions)

    async def crash(self, with_sessions: bool = True) -> None:
        """The same without a word: what is stored is what was stored on the way."""
        documents = dict(self.sessions.documents)
        await self.hub.stop()
        self.sessions.documents = documents
        self.uplinks.submitted.clear()
        await self.start(with_sessions)

    async def stop(self) -> None:
        for node in self.nodes:
            node.off()
        await self.hub.stop()

    async def node(self, name: str, link: MemoryLink, **options: Any) -> MemoryNode:
        """A registered device that has joined."""
        device = self.hub.roster.devices.get(name) or await self.hub.add_device(name, key_of(name))
        node = MemoryNode(self.hub, link, device.key, **options)
        self.nodes.append(node)
        await until(lambda: node.is_online and device.current is not None and device.uplinks.is_open)
        return node


class NonceWatch:
    """Sees every DATA frame that is sealed, at either end: no key and counter may ever meet two plaintexts."""

    def __init__(self) -> None:
        self._seal = frames.seal_data
        self._sealed: dict[tuple[bytes, bytes, int], bytes] = {}

    def __call__(self, keys: frames.Keys, counter: int, plaintext: bytes, address: int | None, long: bool) -> bytes:
        nonce = (keys.common_iv, keys.own_id, counter)
        assert nonce not in self._sealed, f"counter {counter} is used twice"
        self._sealed[nonce] = plaintext
        return self._seal(keys, counter, plaintext, address, long)


def with_site(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Give a test a started site, in virtual time. A nonce that is used twice fails the test, and so does what the
    hub raises in a task or a timer."""

    @functools.wraps(test)
    def wrapped(**arguments: Any) -> None:
        async def main() -> None:
            raised: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
            site = Site()
            await site.start()
            try:
                await test(site, **arguments)
            finally:
                await site.stop()
            assert not raised, raised
            assert not site.logger.events("task_failed")

        with patch.object(frames, "seal_data", NonceWatch()):
            run(main())

    parameters = list(inspect.signature(test).parameters.values())
    wrapped.__signature__ = inspect.Signature(parameters[1:])  # type: ignore[attr-defined]
    return wrapped


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for a condition, looked at every 2 ms of virtual time."""
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)
