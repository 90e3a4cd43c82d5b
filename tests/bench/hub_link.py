"""What a cut link to the hub costs, and mail: one hub server, a leaf, a gateway, all on this machine."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

from nats.js.api import ConsumerConfig, DeliverPolicy

from petiole_gateway.app import Gateway
from petiole_gateway.hub.ports import Busy
from petiole_gateway.log import configure
from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.mailbox_client import MailboxClient
from petiole_gateway.nats.mailbox_streams import ensure_hub_mailbox
from petiole_gateway.nats.presence_streams import ensure_hub_presence
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_gateway.nats.subjects import UPLINK_STREAM
from petiole_gateway.nats.uplinks import StoreUplinks
from petiole_gateway.settings.config import Config
from petiole_tools.cut_proxy import CutProxy
from tests.gateway.real_time import until
from tests.gateway.whole import UdpNode

from .report import Result

GROUP = "The link to the hub, and mail"
SITE = "home"
READINGS = 100_000
DEVICES = 100
ITEMS = 200
DRAIN_LIMIT_S = 300.0


async def measure() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="petiole-bench-") as name:
        folder = Path(name)
        hub = HubCluster(folder / "hub")
        proxy = CutProxy([("127.0.0.1", server.leaf_port) for server in hub.servers])
        try:
            await hub.start()
            await proxy.start()
            connection = await connect(
                hub.urls, logger=configure("error", "auto"), credentials=hub.application_credentials, timeout_s=30
            )
            api = JetStreamApi(connection.client)
            await ensure_hub_uplink(api, [SITE], replicas=1)
            await ensure_hub_mailbox(api, [SITE], replicas=1)
            await ensure_hub_presence(api, replicas=1)
            nats = {
                "hub": [f"nats://127.0.0.1:{proxy.port}"],
                "hub_credentials": str(hub.mint_site(SITE)),
                "ignore_discovered_servers": True,
            }
            settings = {
                "site": SITE,
                "state_dir": str(folder / "state"),
                "udp": {"listen": "127.0.0.1:0"},
                "nats": nats,
            }
            gateway = Gateway(Config.model_validate(settings), configure("error", "auto"))
            await gateway.start()
            try:
                await until(lambda: gateway.leaf is not None and gateway.leaf.link_up)
                return [*await _mail(gateway, connection), *await _backlog(gateway, connection, proxy)]
            finally:
                await gateway.stop()
                await connection.close()
        finally:
            await proxy.stop()
            await hub.stop()


async def _mail(gateway: Gateway, connection: Connection) -> list[Result]:
    device = await gateway.hub.add_device("awake")
    node = UdpNode(device.key, gateway.udp_port)
    try:
        await until(lambda: device.uplinks.is_open)
        mailbox = MailboxClient(connection)
        done = asyncio.Event()

        async def ended(message: object) -> None:
            if json.loads(message.data)["state"] == "delivered":  # type: ignore[attr-defined]
                done.set()

        await connection.client.subscribe(f"event.{SITE}.awake.mailbox", cb=ended)
        accepted_ms, delivered_ms = [], []
        for _ in range(ITEMS):
            done.clear()
            started = time.perf_counter()
            await mailbox.send(SITE, "awake", "led", [True], expires_in_s=60)
            accepted_ms.append(1000 * (time.perf_counter() - started))
            await asyncio.wait_for(done.wait(), 30)
            delivered_ms.append(1000 * (time.perf_counter() - started))
    finally:
        node.close()
    return [
        Result(GROUP, "an item is accepted at the hub, p50", _quantile(accepted_ms, 0.5), "ms"),
        Result(GROUP, "the same, p99", _quantile(accepted_ms, 0.99), "ms"),
        Result(
            GROUP,
            "its sender knows that a device that is awake has carried it out, p50",
            _quantile(delivered_ms, 0.5),
            "ms",
        ),
        Result(GROUP, "the same, p99", _quantile(delivered_ms, 0.99), "ms"),
    ]


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def _backlog(gateway: Gateway, connection: Connection, proxy: CutProxy) -> list[Result]:
    stream = connection.client.jetstream()
    uplinks = StoreUplinks(gateway.store)
    # The first readings of a new leaf wait until its stream is handed over.
    uplinks.submit("first", 1, "other", b"{}")

    async def is_handed_over() -> bool:
        return await api.last_message(UPLINK_STREAM, f"up.{SITE}.first.other") is not None

    api = JetStreamApi(connection.client)
    await until(is_handed_over, 60)
    before = (await stream.stream_info(UPLINK_STREAM)).state.messages
    proxy.cut()
    await until(lambda: gateway.leaf is not None and not gateway.leaf.link_up)
    durable = 0

    def count(entries: object) -> None:
        nonlocal durable
        durable += len(entries)  # type: ignore[arg-type]

    uplinks.tell(count)
    started = time.perf_counter()
    for number in range(READINGS):
        payload = json.dumps({"n": number, "device": f"d{number % DEVICES}", "at": "2026-01-01T00:00:00Z"}).encode()
        while True:
            try:
                uplinks.submit(f"d{number % DEVICES}", number // DEVICES + 1, "load", payload)
                break
            except Busy as busy:
                await asyncio.sleep(busy.retry_after_s)
    await until(lambda: durable == READINGS, 300)
    stored_s = time.perf_counter() - started
    started = time.perf_counter()
    proxy.restore()
    async with asyncio.timeout(DRAIN_LIMIT_S):
        while (await stream.stream_info(UPLINK_STREAM)).state.messages - before < READINGS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    drained_s = time.perf_counter() - started
    seen: Counter[int] = Counter()
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    subscription = await stream.subscribe(
        f"up.{SITE}.*.load", stream=UPLINK_STREAM, ordered_consumer=True, config=config
    )
    try:
        while True:  # until nothing more comes
            seen[json.loads((await subscription.next_msg(timeout=3)).data)["n"]] += 1
    except TimeoutError:
        pass
    return [
        Result(GROUP, "readings stored on the leaf while the link was cut", READINGS / stored_s, "1/s"),
        Result(GROUP, f"{READINGS} of them at the hub after the link was back", drained_s, "s"),
        Result(GROUP, "readings a second", READINGS / drained_s, "1/s"),
        Result(GROUP, "lost", READINGS - len(seen), ""),
        Result(GROUP, "twice", sum(seen.values()) - len(seen), ""),
    ]
