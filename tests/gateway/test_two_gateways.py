"""Two gateways of a site that hear the same nodes: nobody is torn between them, and nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from petiole_gateway.hub.hub import Hub
from petiole_gateway.hub.ports import Place

from .memory import MemoryLink, MemoryNode, MemoryRecords, MemoryUplinks, Site, key_of, until
from .sleepers import PERIOD_S, MemoryMail, Sleeper
from .virtual_time import run

SEEDS = (1, 2, 3)


class OneStream(MemoryUplinks):
    """A gateway's way into the stream of the site, which refuses what it has."""

    def _commit(self) -> None:
        pending, self._pending = self._pending, []
        for entry in pending:
            if entry[1] > max((number for device, number, *_ in self.stored if device == entry[0]), default=0):
                self.stored.append(entry)
        self.durable([entry[:2] for entry in pending])


class Pair:
    """What a site's gateways share is shared; the link carries each frame of a node to both, one sooner."""

    def __init__(self, seed: int) -> None:
        self.site = Site()
        self.other = Site()
        self.mail = MemoryMail()
        self._luck = random.Random(seed)
        self.other.uplinks = OneStream()
        self.site.uplinks = OneStream()
        self.other.uplinks.stored = self.site.uplinks.stored
        shared = MemoryRecords()
        for name, here, there in (("one", self.site, self.other), ("two", self.other, self.site)):
            here.registry, here.sessions = self.site.registry, self.site.sessions
            here.logger = self.site.logger
            tell = self._teller(there)
            here.options |= {"own_name": name, "tell": tell, "mail": self.mail, "wake_policies": shared}

    def _teller(self, there: Site) -> Any:
        def tell(kind: str, device: str) -> None:
            asyncio.get_running_loop().create_task(there.hub.neighbours.hear(kind, device))

        return tell

    @property
    def hubs(self) -> tuple[Hub, Hub]:
        return self.site.hub, self.other.hub

    def receive(self, place: Place, frame: bytes) -> None:
        """As a hub's, for nodes."""
        loop = asyncio.get_running_loop()
        for hub in self.hubs:
            loop.call_later(self._luck.uniform(0.001, 0.02), hub.receive, place, frame)

    async def node(self, name: str, kind: type[MemoryNode], peer: int, link: MemoryLink) -> Any:
        device = await self.site.hub.add_device(name, key_of(name))
        await until(lambda: name in self.other.hub.roster.devices)
        node = kind(self, link, device.key, peer=peer, addressed=True)  # type: ignore[arg-type]
        self.site.nodes.append(node)
        return node

    def holders(self, name: str) -> int:
        return sum(hub.device(name).current is not None for hub in self.hubs)


@asynccontextmanager
async def pair(seed: int) -> AsyncIterator[Pair]:
    made = Pair(seed)
    await made.site.start()
    await made.other.start()
    try:
        yield made
    finally:
        await made.site.stop()
        await made.other.hub.stop()
        assert not made.site.logger.events("task_failed")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_two_gateways_hear_stays_with_one(seed: int) -> None:
    async def main() -> None:
        async with pair(seed) as made:
            link = MemoryLink(shared=True, loss=0.05, seed=seed)
            nodes = [await made.node(f"n{number}", MemoryNode, number, link) for number in range(5)]
            await until(lambda: all(node.is_online for node in nodes), 60)
            for value in range(100):
                for node in nodes:
                    node.publish(value)
                await asyncio.sleep(5)
            await until(lambda: all(node.is_empty for node in nodes), 60)
            for number, node in enumerate(nodes):
                name = f"n{number}"
                assert made.site.uplinks.numbers(name) == list(range(1, 101))
                assert node.endpoint.joins_total <= 2, "a lost accept may cost one more"
                assert made.holders(name) == 1

    run(main())


@pytest.mark.parametrize("seed", SEEDS)
def test_mail_for_a_sleeper_that_two_gateways_hear_is_carried_out_once(seed: int) -> None:
    async def main() -> None:
        async with pair(seed) as made:
            link = MemoryLink(shared=True, seed=seed)
            node = await made.node("a", Sleeper, 0, link)
            await until(lambda: node.is_asleep and node.endpoint.joins_total == 1, 60)
            items = []
            for value in range(20):
                items.append(made.mail.put("a", "led", b"[true]"))
                await asyncio.sleep(PERIOD_S)
                await node.cycle(float(value))
            await asyncio.sleep(60)
            assert node.endpoint.joins_total == 1
            assert [number for number, *_ in node.mailed] == [item.number for item in items]
            assert all(made.mail.ends(item) == [("delivered", 0, {"got": [True]})] for item in items)
            assert made.site.uplinks.numbers("a") == list(range(1, 21))

    run(main())
