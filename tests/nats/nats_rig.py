"""Real servers for the tests of this folder: a hub, a leaf behind a proxy, a store, and what the hub has."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from nats.errors import TimeoutError as NatsTimeout

from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.barrier import Durability
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.errors import LinkError, StoreBusy
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.leaf_server import LeafServer
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_gateway.nats.subjects import probe_subject
from petiole_gateway.nats.uplink_lane import Uplink
from petiole_gateway.nats.uplink_store import UplinkStore
from petiole_tools.cut_proxy import CutProxy

SITE = "site1"
PATIENCE_S = 60.0  # a bound for hangs on a busy machine, never a pace
# Small enough that a test sees a dead link soon.
FAST_LINK: dict[str, object] = {
    "ping_interval_s": 1.0,
    "ping_max": 2,
    "reconnect_s": 0.5,
    "ignore_discovered_servers": True,
}


class RecordingLogger:
    """Keeps events instead of printing them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def debug(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def seen(self, event: str) -> bool:
        return any(name == event for name, _ in self.events)


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, *, timeout_s: float = PATIENCE_S, every_s: float = 0.02
) -> float:
    """Wait until `condition` holds; seconds it took. Link errors count as "not yet"."""
    began = time.monotonic()
    while True:
        try:
            result = condition()
            if await result if not isinstance(result, bool) else result:
                return time.monotonic() - began
        except LinkError:
            pass
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(every_s)


class Fleet:
    """Devices that number their readings, keep what is not acknowledged, and send again when told busy."""

    def __init__(self, count: int, seed: int = 1) -> None:
        self.next = {f"dev{index:02d}": 1 for index in range(count)}
        self.durable: dict[str, list[int]] = defaultdict(list)
        self.seed = seed

    def on_durable(self, uplinks: Sequence[Uplink]) -> None:
        for uplink in uplinks:
            self.durable[uplink.device].append(uplink.sequence)

    def uplink(self, device: str, sequence: int) -> Uplink:
        return Uplink(device, sequence, f"up.{SITE}.{device}.t", b"%s %d" % (device.encode(), sequence))

    @property
    def durable_total(self) -> int:
        return sum(len(set(sequences)) for sequences in self.durable.values())

    async def send(self, store: UplinkStore, rounds: int, *, pace: int = 64) -> None:
        """`rounds` readings of every device, interleaved; waits when the store is busy."""
        sent = 0
        for _ in range(rounds):
            for device in self.next:
                while True:
                    try:
                        store.submit(self.uplink(device, self.next[device]))
                        break
                    except StoreBusy:
                        await asyncio.sleep(0.05)
                self.next[device] += 1
                sent += 1
                if sent % pace == 0:
                    await asyncio.sleep(0.001)

    async def resend(self, store: UplinkStore) -> None:
        """What nodes do after a new gateway took over: everything after the last durable sequence, again."""
        for device, following in self.next.items():
            last = await store.last_sequence(device)
            for sequence in range(last + 1, following):
                store.submit(self.uplink(device, sequence))

    async def all_durable(self, store: UplinkStore, timeout_s: float = 60.0) -> None:
        await until(lambda: store.pending == 0, "all uplinks durable", timeout_s=timeout_s)


class Rig:
    """One hub and one leaf, joined through a proxy."""

    def __init__(self, folder: Path, *, hub_size: int = 1) -> None:
        self.folder = folder
        self.logger = RecordingLogger()
        self.hub = HubCluster(folder / "hub", size=hub_size)
        self.proxy = CutProxy([(server.host, server.leaf_port) for server in self.hub.servers])
        self.leaf: LeafServer
        self.leaf_log: list[str] = []
        self.connection: Connection
        self.hub_connection: Connection
        self.api: JetStreamApi
        self.hub_api: JetStreamApi
        self._stores: list[UplinkStore] = []

    async def start(self, *, with_hub: bool = True, **leaf: Any) -> None:
        await self.proxy.start()
        if with_hub:
            await self.start_hub()
        self.leaf = LeafServer(
            SITE,
            self.folder / "leaf",
            hub_urls=[f"nats-leaf://127.0.0.1:{self.proxy.port}"],
            hub_credentials=self.hub.mint_site(SITE),
            settings=FAST_LINK,
            on_log=self.leaf_log.append,
            **leaf,
        )
        await self.leaf.start()
        self.connection = await self.connect_leaf()
        self.api = JetStreamApi(self.connection.client)

    async def start_hub(self) -> None:
        await self.hub.start()
        self.hub_connection = await connect(
            self.hub.urls, logger=self.logger, credentials=self.hub.application_credentials, timeout_s=30
        )
        self.hub_api = JetStreamApi(self.hub_connection.client)

    async def source(self) -> None:
        async def ensured() -> bool:
            await ensure_hub_uplink(self.hub_api, [SITE], replicas=len(self.hub.servers))
            return True

        await until(ensured, "the hub's stream")

    async def linked(self, up: bool = True) -> float:
        return await until(lambda: self.leaf.link_up is up, f"leaf link {'up' if up else 'down'}")

    async def connect_leaf(self) -> Connection:
        access = self.leaf.access
        return await connect(access.url, logger=self.logger, user=access.user, password=access.password)

    async def store(self, fleet: Fleet, **settings: Any) -> UplinkStore:
        options: dict[str, Any] = {"store_dir": self.leaf.store_dir, "durability": Durability.POWER_LOSS}
        options.update(settings)
        store = UplinkStore(
            await self.connect_leaf(),
            site=SITE,
            state_dir=self.folder / "state",
            logger=self.logger,
            on_durable=fleet.on_durable,
            **options,
        )
        self._stores.append(store)
        await store.start()
        return store

    async def store_at_hub(self, fleet: Fleet, rounds: int) -> UplinkStore:
        """A store behind a link that is up, whose first readings, `rounds` of every device, the hub has."""
        await self.source()
        await self.linked()
        store = await self.store(fleet)
        await fleet.send(store, rounds)
        await fleet.all_durable(store)
        await self.at_hub(fleet)
        return store

    async def crash_store(self, store: UplinkStore) -> None:
        """End a store as kill -9 of its process would: nothing is drained, no marker is written."""
        self._stores.remove(store)
        for task in store._tasks:
            task.cancel()
        await asyncio.gather(*store._tasks, return_exceptions=True)
        await store._publisher.stop()
        await store._connection.close()

    async def hub_sequences(self) -> dict[str, list[int]]:
        """Device → sequence numbers in the order in which the hub's stream has them."""
        for _ in range(5):
            try:
                return await read_sequences(self.hub_connection)
            except NatsTimeout:
                continue  # a cluster that has just restarted answers reads later than it takes messages
        raise AssertionError("the hub's stream cannot be read")

    async def at_hub(self, fleet: Fleet, timeout_s: float = 90.0) -> dict[str, list[int]]:
        """Wait until the hub has as many messages as the fleet has sent, then read them all."""
        wanted = sum(following - 1 for following in fleet.next.values())

        async def there() -> bool:
            info = await self.hub_api.stream_info("UP", subjects_filter="up.*.*.*")
            found = (info or {"state": {}})["state"].get("subjects") or {}
            return sum(found.values()) >= wanted

        await until(there, f"{wanted} messages at the hub", timeout_s=timeout_s)
        return await self.hub_sequences()

    async def stop(self) -> None:
        for store in self._stores:
            await store.stop(timeout_s=1)
            await store._connection.close()
        for name in ("connection", "hub_connection"):
            if hasattr(self, name):
                await getattr(self, name).close()
        if hasattr(self, "leaf"):
            await self.leaf.stop()
        await self.proxy.stop()
        await self.hub.stop()


async def read_sequences(connection: Connection) -> dict[str, list[int]]:
    jetstream = connection.client.jetstream(timeout=10)
    found: dict[str, list[int]] = defaultdict(list)
    state = (await jetstream.stream_info("UP")).state
    if not state.messages:
        return found
    subscription = await jetstream.subscribe("up.>", stream="UP", ordered_consumer=True)
    while True:
        message = await subscription.next_msg(10)
        if message.subject != probe_subject(SITE):
            found[message.subject.split(".")[2]].append(int(message.headers["Petiole-Sequence"]))
        if message.metadata.sequence.stream >= state.last_seq or message.metadata.num_pending == 0:
            break
    await subscription.unsubscribe()
    return found


def assert_once_and_in_order(found: dict[str, list[int]], fleet: Fleet) -> None:
    """Every reading that was ever sent, once, in the order of its device's numbers."""
    for device, following in fleet.next.items():
        assert found[device] == list(range(1, following)), f"{device}: {_difference(found[device], following)}"


def _difference(found: list[int], following: int) -> str:
    missing = sorted(set(range(1, following)) - set(found))
    twice = len(found) - len(set(found))
    return f"{len(missing)} missing {missing[:5]}, {twice} twice, in order: {found == sorted(found)}"
