"""A whole gateway and its link to the hub: which servers it uses, when it notices, and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats_rig import SITE, until

from petiole_gateway.admin import Administration
from petiole_gateway.app import Gateway
from petiole_gateway.hub.ports import Logger
from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import connect
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.leaf_pidfile import end_stale_server, stale_server
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_gateway.nats.subjects import SEQUENCE_HEADER, UPLINK_STREAM
from petiole_gateway.nats.uplink_lane import Uplink
from petiole_gateway.settings.config import Config
from petiole_tools.cut_proxy import CutProxy


class Lines:
    """A logger that keeps what the leaf server says."""

    def __init__(self) -> None:
        self.leaf: list[str] = []

    def _take(self, event: str, **fields: Any) -> None:
        if event == "leaf_server":
            self.leaf.append(fields["line"])

    debug = info = warning = error = _take


class Site:
    """A hub of two servers, a proxy before the first of them, and gateways linked through it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = HubCluster(folder / "hub", size=2)
        self.proxy = CutProxy([(self.hub.servers[0].host, self.hub.servers[0].leaf_port)])
        self.lines = Lines()
        self.gateway: Gateway | None = None

    async def start(self, **nats: Any) -> Gateway:
        await self.proxy.start()
        await self.hub.start()
        link = {
            "hub": [f"nats-leaf://127.0.0.1:{self.proxy.port}"],
            "hub_credentials": str(self.hub.mint_site(SITE)),
            "hub_timeout_s": 3,
        }
        config = {"site": SITE, "state_dir": str(self.folder / "state"), "udp": {"enabled": False}}
        self.gateway = Gateway(Config.model_validate({**config, "nats": link | nats}), logger(self.lines))
        await self.gateway.start()
        leaf = self.gateway.leaf
        assert leaf is not None
        await until(lambda: leaf.link_up, "the leaf link is up")
        return self.gateway

    async def stop(self) -> None:
        if self.gateway is not None:
            await self.gateway.stop()
        await self.proxy.stop()
        await self.hub.stop()


async def ensured(api: JetStreamApi) -> bool:
    await ensure_hub_uplink(api, [SITE], replicas=1)
    return True


def logger(lines: Lines) -> Logger:
    return lines


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    await site.stop()


async def test_a_silent_link_is_given_up_after_the_time_that_is_set(site: Site) -> None:
    gateway = await site.start(ignore_discovered_servers=True)
    leaf = gateway.leaf
    assert leaf is not None
    site.proxy.freeze()
    took = await until(lambda: not leaf.link_up, "the dead link is noticed", timeout_s=20)
    assert took < 15, "by default it takes a minute"


async def test_a_leaf_stays_on_the_addresses_that_are_listed(site: Site) -> None:
    gateway = await site.start(ignore_discovered_servers=True)
    leaf = gateway.leaf
    assert leaf is not None
    site.proxy.cut()
    await until(lambda: not leaf.link_up, "the link is down")
    before = len(site.lines.leaf)

    def tries() -> list[str]:
        return [line for line in site.lines.leaf[before:] if "Leafnode connection created" in line]

    # It would go to another server with its first or second try.
    await until(lambda: len(tries()) >= 3, "the leaf tries again and again")
    assert all(f"127.0.0.1:{site.proxy.port} " in line for line in tries()), tries()


async def test_a_leaf_uses_what_the_hubs_cluster_tells_unless_it_is_told_not_to(site: Site) -> None:
    gateway = await site.start()
    leaf = gateway.leaf
    assert leaf is not None
    site.proxy.cut()
    await until(lambda: not leaf.link_up, "the link is down")
    await until(lambda: leaf.link_up, "the leaf goes round the proxy")


async def test_status_tells_what_the_hub_has_not_taken_and_where_the_link_ends(site: Site) -> None:
    gateway = await site.start(ignore_discovered_servers=True)
    leaf = gateway.leaf
    assert leaf is not None
    hub = await connect(site.hub.urls, logger=site.lines, credentials=site.hub.application_credentials, timeout_s=30)

    async def status() -> dict[str, Any]:
        found: dict[str, Any] = await Administration(gateway).methods["status"]({})
        return found

    async def nothing_waits() -> bool:
        return (await status())["store"]["not_at_hub"] == 0

    await until(lambda: ensured(JetStreamApi(hub.client)), "the hub's stream")
    await until(nothing_waits, "the stream is handed over")
    found = (await status())["leaf"]
    assert found["hub_server"] == "hub1"
    assert found["hub_link_changed_at"] is not None
    assert tuple(map(int, found["server_version"].split("."))) >= (2, 14, 0)
    site.proxy.cut()
    await until(lambda: not leaf.link_up, "the link is down")
    cut = (await status())["leaf"]
    assert cut["hub_server"] is None
    assert cut["hub_link_changed_at"] > found["hub_link_changed_at"]
    for sequence in range(1, 41):
        gateway.store.submit(Uplink("a", sequence, f"up.{SITE}.a.t", b"{}"))
    await until(lambda: gateway.store.pending == 0, "40 readings are durable")
    assert (await status())["store"]["not_at_hub"] == 40
    site.proxy.restore()
    await until(nothing_waits, "the hub has everything")
    await hub.close()


async def test_nothing_waits_for_the_hub_but_readings_that_it_does_not_have(site: Site) -> None:
    gateway = await site.start(ignore_discovered_servers=True)
    hub = await connect(site.hub.urls, logger=site.lines, credentials=site.hub.application_credentials, timeout_s=30)
    api = JetStreamApi(hub.client)
    sequence = 0

    def submit(count: int) -> None:
        nonlocal sequence
        for _ in range(count):
            sequence += 1
            gateway.store.submit(Uplink("a", sequence, f"up.{SITE}.a.t", b"{}"))

    async def waiting() -> int | None:
        return await gateway.store.not_at_hub()

    async def at_hub() -> bool:
        last = await api.last_message(UPLINK_STREAM, f"up.{SITE}.a.t")
        return last is not None and last.headers[SEQUENCE_HEADER] == str(sequence)

    assert await waiting() == 0, "a new site has nothing to say"
    submit(3)
    await until(lambda: gateway.store.pending == 0, "three readings are durable")
    assert await waiting() == 3, "nobody has asked for them"
    await until(lambda: ensured(api), "the hub's stream")
    await until(at_hub, "the stream is handed over")
    # Faster than the second of quiet after which the hub acknowledges.
    for _ in range(6):
        submit(1)
        await until(at_hub, "the hub has it")
        assert await waiting() == 0
    await hub.close()


def test_ctrl_c_ends_the_gateway_and_its_leaf_only_after_that(tmp_path: Path) -> None:
    """The whole group of the terminal gets the signal: a leaf in it would be gone before the gateway has drained."""
    config = tmp_path / "petiole.toml"
    config.write_text(
        f'site = "{SITE}"\nstate_dir = "state"\n[udp]\nlisten = "127.0.0.1:0"\n'
        '[log]\nlevel = "debug"\nformat = "json"\n'
    )
    command = [sys.executable, "-m", "petiole_tools", "gateway", "run", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        events: list[dict[str, Any]] = []
        for line in process.stderr:
            events.append(json.loads(line))
            if events[-1]["event"] == "gateway_started":
                break
        os.killpg(process.pid, signal.SIGINT)
        events += [json.loads(line) for line in process.stderr]
        assert process.wait(30) == 0
        said = [event["event"] for event in events]
        assert "gateway_stopped" in said
        assert "leaf_server_ended" not in said
        assert not {"uplinks_not_drained", "sessions_not_on_disk", "uplink_store_retries"} & set(said)
        assert stale_server(tmp_path / "state" / "leaf") is None
    finally:
        process.kill()
        process.wait()
        asyncio.run(end_stale_server(tmp_path / "state" / "leaf"))


async def test_hub_servers_have_groups_of_their_own(tmp_path: Path) -> None:
    hub = HubCluster(tmp_path / "hub")
    await hub.start()
    try:
        process = hub._processes[0]
        assert process is not None
        assert os.getpgid(process.pid) == process.pid
    finally:
        await asyncio.shield(hub.stop())
