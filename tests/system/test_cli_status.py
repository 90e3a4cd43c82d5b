"""`petiole status` and `petiole top` at a real hub with two sites, one of which goes away."""

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.memory import NullLogger
from tests.gateway.whole import UdpNode

from petiole_gateway.app import Gateway
from petiole_gateway.nats.api import JetStreamApi
from petiole_gateway.nats.connection import Connection, connect
from petiole_gateway.nats.errors import LinkError
from petiole_gateway.nats.hub_cluster import HubCluster
from petiole_gateway.nats.mailbox_client import MailboxClient
from petiole_gateway.nats.mailbox_streams import BOX_SIZE, ensure_hub_mailbox
from petiole_gateway.nats.presence_streams import ensure_hub_presence
from petiole_gateway.nats.streams import ensure_hub_uplink
from petiole_gateway.settings.config import Config

SITES = ("barn", "cabin")
WAIT_S = 30.0


class System:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = HubCluster(folder / "hub")
        self.gateways: dict[str, Gateway] = {}
        self.connection: Connection

    async def start(self) -> None:
        await self.hub.start()
        self.connection = await connect(
            self.hub.urls, logger=NullLogger(), credentials=self.hub.application_credentials, timeout_s=30
        )
        api = JetStreamApi(self.connection.client)
        await ensure_hub_uplink(api, list(SITES), replicas=1)
        await ensure_hub_mailbox(api, SITES, replicas=1)
        await ensure_hub_presence(api, replicas=1)
        for site in SITES:
            self.gateways[site] = Gateway(self.config(site), NullLogger())
            await self.gateways[site].start()

    def config(self, site: str) -> Config:
        nats = {
            "hub": [url.replace("nats-leaf", "nats") for url in self.hub.leaf_urls],
            "hub_credentials": str(self.hub.mint_site(site)),
        }
        udp = {"listen": "127.0.0.1:0"}
        return Config.model_validate({"site": site, "state_dir": str(self.folder / site), "udp": udp, "nats": nats})

    async def stop_gateway(self, site: str) -> None:
        await self.gateways.pop(site).stop()

    async def stop(self) -> None:
        for site in list(self.gateways):
            await self.stop_gateway(site)
        if hasattr(self, "connection"):
            await self.connection.close()
        await self.hub.stop()

    def command(self, *words: str) -> list[str]:
        at_hub = ["--server", self.hub.urls[0], "--creds", str(self.hub.application_credentials)]
        return [sys.executable, "-m", "petiole_tools", *at_hub, *words]

    async def petiole(self, *words: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PETIOLE_")}
        process = await asyncio.create_subprocess_exec(
            *self.command(*words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
        )
        out, problems = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert process.returncode is not None
        return process.returncode, out.decode(), problems.decode()

    async def status(self) -> dict[str, Any]:
        code, text, problems = await self.petiole("status", "--json")
        assert code == 0, problems
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    async def told(self, devices: int) -> None:
        """Return when the hub's bucket has so many devices."""
        for _ in range(30):  # each look takes a second
            if len((await self.status())["devices"]) == devices:
                return
        raise AssertionError(f"not {devices} devices at the hub")


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    system = System(tmp_path)
    try:
        await system.start()
        yield system
    finally:
        await system.stop()


def problems(found: dict[str, Any]) -> list[str]:
    return [each["problem"] for each in found["findings"] if "clock" not in each["problem"]]


async def test_the_status_of_all_sites_at_the_hub(system: System) -> None:
    await system.gateways["barn"].hub.add_device("cow")
    await system.gateways["cabin"].hub.add_device("stove")
    await system.gateways["cabin"].hub.add_device("door")
    await system.told(3)
    mail = MailboxClient(system.connection)
    for number in range(BOX_SIZE):
        await _retried(lambda number=number: mail.send("cabin", "door", "open", [number], expires_in_s=3600))  # type: ignore[misc]
    found = await system.status()
    assert found["sites"] == list(SITES)
    assert sorted(gateway["site"] for gateway in found["gateways"]) == list(SITES)
    assert all(gateway["leaf"]["hub_link_up"] for gateway in found["gateways"])
    assert {link["site"] for link in found["links"]} == set(SITES)
    [stream] = found["streams"]
    assert (stream["name"], stream["readings"]) == ("UP", 0)
    assert stream["messages"] > 0, "probes, by which each site was handed over"
    assert found["mailboxes"]["cabin"] == {"waiting": BOX_SIZE, "fullest": {"device": "door", "items": BOX_SIZE}}
    assert problems(found) == [
        "3 offline: barn/cow, cabin/door, cabin/stove",
        f"site cabin: the mailbox of door is full ({BOX_SIZE} items)",
    ]
    assert all(each["hint"] for each in found["findings"])
    code, text, _ = await system.petiole("status")
    assert code == 0
    assert "stream UP: 0 readings" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()[:1] in ([s] for s in SITES)}
    assert rows["barn"] == ["barn", "1", "0", "0", "0", "1", "0"]
    assert rows["cabin"] == ["cabin", "2", "0", "0", "0", "2", str(BOX_SIZE)]
    code, text, _ = await system.petiole("--site", "barn", "status", "--json")
    only = json.loads(text)
    assert only["sites"] == ["barn"]
    assert [each["device"] for each in only["devices"]] == ["cow"]

    # A site that is away is named, and the rest is shown all the same.
    await system.stop_gateway("barn")
    found = await system.status()
    assert [gateway["site"] for gateway in found["gateways"]] == ["cabin"]
    assert problems(found)[0].startswith("site barn: no gateway answers")
    assert not any("barn/cow" in each for each in problems(found)), "nobody knows how it is"
    _, text, _ = await system.petiole("status")
    assert ["barn", "1", "?", "?", "?", "?", "0"] in [line.split() for line in text.splitlines()]


async def test_a_request_while_the_site_is_away_waits_for_it(system: System) -> None:
    added = await system.gateways["barn"].hub.add_device("shed")
    await system.stop_gateway("barn")
    process = await asyncio.create_subprocess_exec(
        *system.command("--site", "barn", "request", "shed", "led", "true", "--wait", "60s"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stderr.readline(), WAIT_S)
    assert line.startswith(b"no gateway of site barn answers now; queued as "), line
    gateway = system.gateways["barn"] = Gateway(system.config("barn"), NullLogger())
    await gateway.start()
    node = UdpNode(added.key, gateway.udp_port)
    try:
        result = await asyncio.wait_for(process.stdout.read(), WAIT_S)
        assert (json.loads(result), await process.wait()) == ({"led": [True]}, 0)
    finally:
        node.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _retried(send: Any) -> None:
    for _ in range(20):
        try:
            await send()
            return
        except LinkError:
            await asyncio.sleep(0.1)
    raise AssertionError("the hub takes no mail")


async def test_top_prints_again_and_again_where_there_is_no_terminal(system: System) -> None:
    code, text, problems = await system.petiole("top", "--every", "0.1", "--count", "3")
    assert (code, problems) == (0, "")
    assert text.count("sites, seen from the hub") == 3
    assert "\x1b" not in text
    code, text, _ = await system.petiole("top", "--every", "0.1", "--count", "2", "--json")
    assert [json.loads(line)["sites"] for line in text.splitlines()] == [list(SITES)] * 2


async def test_top_on_a_terminal_is_refreshed_in_place_until_q(system: System) -> None:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *system.command("top", "--every", "0.1"), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    loop = asyncio.get_running_loop()
    seen = b""
    more = asyncio.Event()

    def readable() -> None:
        nonlocal seen
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            loop.remove_reader(ours)
        more.set()

    loop.add_reader(ours, readable)
    try:
        async with asyncio.timeout(WAIT_S):
            while seen.count(b"sites, seen from") < 3:
                more.clear()
                await more.wait()
        os.write(ours, b"q")
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert seen.count(b"\x1b[2J") == 1, "the screen is cleared once, then written over"
