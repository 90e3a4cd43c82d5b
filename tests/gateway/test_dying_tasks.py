"""Each task that runs as long as the gateway is ended on purpose, in a gateway with everything: it works on."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import petiole_gateway
from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.mailbox_client import MailboxClient
from petiole_gateway.nats.mailbox_streams import ensure_hub_mailbox
from petiole_gateway.nats.presence_streams import ensure_hub_presence
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_gateway.settings.config import Config

from .real_time import until
from .whole import SITE, World

SOURCES = Path(petiole_gateway.__file__).parent
# What starts a task by itself, and why it may.
OWN_TASKS = {
    "supervision.py",  # keeps the others
    "hub/tasks.py",  # tells the supervisor, which the hub does not know
    "service.py",  # the watchdog's look, which catches its own: while it fails nothing is told, and systemd acts
    "nats/connection.py",  # waited for in the same function
    "nats/uplink_lanes.py",  # a group that is waited for
}


def test_no_task_is_started_that_nobody_watches() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future", "TaskGroup"):
                found.add(str(path.relative_to(SOURCES)))
    assert found == OWN_TASKS


class Everything(World):
    """A gateway with a hub, a serial port found by a pattern, and metrics."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.hub = HubCluster(folder / "hub")
        self.at_hub: Connection
        self.controller, self._port = os.openpty()
        tty.setraw(self.controller)
        (folder / "ports").mkdir()
        (folder / "ports" / "ttyA").symlink_to(os.ttyname(self._port))

    async def start(self) -> None:
        await self.hub.start()
        self.at_hub = await connect(
            self.hub.urls, logger=self.logger, credentials=self.hub.application_credentials, timeout_s=30
        )
        api = JetStreamApi(self.at_hub.client)
        await ensure_hub_uplink(api, [SITE], replicas=1)
        await ensure_hub_mailbox(api, [SITE], replicas=1)
        await ensure_hub_presence(api, replicas=1)
        settings = {
            "site": SITE,
            "state_dir": str(self.folder / "state"),
            "udp": {"listen": f"127.0.0.1:{self.udp_port}"},
            "serial": [{"port": f"{self.folder}/ports/tty*"}],
            "metrics": {"enabled": True, "listen": "127.0.0.1:0"},
            "nats": {"hub": [self.hub.leaf_urls[0]], "hub_credentials": str(self.hub.mint_site(SITE))},
        }
        self.config = Config.model_validate(settings, context={"base": self.folder})
        await super().start()

    async def end(self) -> None:
        await super().end()
        await self.at_hub.close()
        await self.hub.stop()
        os.close(self.controller)
        os.close(self._port)

    def runs(self, name: str) -> asyncio.Task[None] | None:
        """The task that does the work, inside the one that keeps it."""
        outer = self.gateway.supervisor.kept.get(name)
        inner = [task for task in asyncio.all_tasks() if task.get_name() == name and task is not outer]
        return inner[0] if inner else None

    async def kill(self, name: str) -> None:
        """End a task where it waits, and return when it runs again."""
        before = self.runs(name)
        assert before is not None, name
        before.cancel()
        await asyncio.wait({before}, timeout=30)
        await until(lambda: self.runs(name) not in (None, before))

    async def reaches_the_hub(self, node: object, sequence: int) -> None:
        api = JetStreamApi(self.at_hub.client)

        async def is_there() -> bool:
            found = await api.last_message("UP", f"up.{SITE}.a.>")
            return found is not None and json.loads(found.payload)["sequence"] == sequence

        await until(is_there, 60)

    async def presence_at_hub(self) -> str | None:
        found = await JetStreamApi(self.at_hub.client).message_on("KV_presence", f"$KV.presence.{SITE}.a")
        return None if found is None else str(json.loads(found.payload)["state"])


@pytest.fixture
async def everything(tmp_path: Path) -> AsyncIterator[Everything]:
    world = Everything(tmp_path)
    await world.start()
    yield world
    await world.end()


NAMES = {
    "readings: the store",
    "readings: the disk",
    "readings: room",
    "readings: answers",
    "readings: handover to the hub",
    "mail: the leaf's boxes",
    "mail: records",
    "mail: settlement",
    "mail: events",
    "mail: the hub's box",
    "mail: documents for the hub",
    "presence: the leaf's bucket",
    "presence: documents",
    "presence: events",
    "presence: the hub's bucket",
    "presence: documents for the hub",
    "the leaf server",
    "the leaf server's log",
    "the leaf's disk",
    "the leaf's link",
    "the search for ports",
    "the look at health",
}


async def test_whichever_task_ends_the_gateway_works_on_and_says_so(everything: Everything) -> None:
    world = everything
    node = await world.node("a")
    port = f"link {world.folder}/ports/ttyA"
    assert set(world.gateway.supervisor.kept) == NAMES | {port}
    node.publish(0)
    await world.reaches_the_hub(node, 1)
    for name in sorted(world.gateway.supervisor.kept):
        await world.kill(name)
        node.publish(0)  # readings are taken meanwhile
    failures = world.gateway.supervisor.failures
    assert {name: found.total for name, found in failures.items()} == dict.fromkeys(NAMES | {port}, 1)
    told = {each["task"] for each in world.logger.events("task_failed")}
    assert told == NAMES | {port}
    health = world.gateway.status.health()
    assert [each.code for each in health.findings].count("task_failed") == len(told)
    assert health.is_live
    assert health.is_ready
    assert world.gateway.supervisor.stuck() == []

    await until(lambda: node.is_empty)
    sent = 1 + len(told)
    assert [number for _, number, _ in await world.stored()] == list(range(1, sent + 1))
    await world.reaches_the_hub(node, sent)
    assert await world.command("a", "led", [True]) == (0, {"led": [True]})
    client = MailboxClient(world.at_hub)
    receipt = await client.send(SITE, "a", "led", [False], expires_in_s=60)
    assert (await client.wait(receipt, timeout_s=60))["state"] == "delivered"
    expires = await client.send(SITE, "a", "led", [False], expires_in_s=60, key="k")
    assert (await client.wait(expires, timeout_s=60))["state"] == "delivered"

    async def is_online() -> bool:
        return await world.presence_at_hub() == "online"

    await until(is_online, 60)
    links = {link["name"]: link for link in (await world.ask("status"))["links"]}
    await until(lambda: world.gateway.ports.links[f"{world.folder}/ports/ttyA"].is_open)
    assert links["udp"]["frames"]["up"] > 0

    # The leaf server is still started again, and its log still read.
    leaf = world.gateway.leaf
    assert leaf is not None
    restarts = leaf.restarts_total
    await leaf.kill()
    await until(lambda: leaf.restarts_total == restarts + 1 and world.gateway.store.is_healthy, 60)
    await until(lambda: leaf.link_up, 60)
    node.publish(0)
    await world.reaches_the_hub(node, sent + 1)


async def test_a_gateway_whose_vital_task_cannot_run_is_not_live(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petiole_gateway.supervision.FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr("petiole_gateway.supervision.MAX_BACKOFF_S", 0.002)
    mail = world.gateway.mail
    assert mail is not None

    monkeypatch.setattr(mail._records, "_wanted", None)  # what it waits for
    outer = world.gateway.supervisor.kept["mail: records"]
    (running,) = [task for task in asyncio.all_tasks() if task.get_name() == "mail: records" and task is not outer]
    running.cancel()
    await until(lambda: len(world.gateway.supervisor.stuck()) == 1)
    stalls = [await part.stall() for part in world.gateway.parts()]
    assert any("mail: records has failed" in stall for stall in stalls), stalls
