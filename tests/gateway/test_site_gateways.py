"""Two whole gateways on one leaf server: one site."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from petiole_gateway.app import Gateway
from petiole_gateway.credentials import KEY_FILE
from petiole_gateway.nats.leaf_access import read_access
from petiole_gateway.settings.config import Config, SerialConfig
from petiole_tools import ports
from petiole_tools.client import Client
from petiole_tools.failure import CliError
from petiole_tools.options import Target

from .memory import NullLogger
from .real_time import until
from .whole import SITE, UdpNode, World, free_udp_port


class Pair(World):
    """The gateway of a world, which starts the leaf, and a second one on the same leaf."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.second: Gateway
        self.second_port = free_udp_port()

    async def start(self) -> None:
        await super().start()
        await self.start_second()

    async def start_second(self) -> None:
        access = read_access(self.config.leaf_dir)
        state = self.folder / "second"
        state.mkdir(exist_ok=True)
        shutil.copy(self.config.state_dir / KEY_FILE, state / KEY_FILE)
        nats = {"url": access.url, "user": access.user, "password": access.password}
        assert self.gateway.leaf is not None
        nats["store_dir"] = str(self.gateway.leaf.store_dir)
        config = Config.model_validate(
            {"site": SITE, "state_dir": str(state), "udp": {"listen": f"127.0.0.1:{self.second_port}"}, "nats": nats}
        )
        self.second = Gateway(config, NullLogger())
        await self.second.start()
        self._stack.push_async_callback(self.stop_second)

    async def stop_second(self) -> None:
        await self.second.stop()

    async def node(self, name: str, *, seed: int = 1) -> UdpNode:
        """A device that was added at either gateway, and its node, joined at the first."""
        added = await self.ask("device.add", {"name": name})
        await until(lambda: all(name in gateway.hub.roster.devices for gateway in (self.gateway, self.second)))
        node = UdpNode(bytes.fromhex(added["key"]), self.udp_port, seed=seed)
        self._nodes.append(node)
        return node

    async def everywhere(self, device: str) -> list[tuple[int, object]]:
        """The answers to a command that either gateway got first. The server draws one of the two for each request."""
        return [await self.command(device, "led", [True]) for _ in range(12)]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    await pair.start()
    yield pair
    await pair.end()


async def joined(gateway: Gateway, name: str) -> None:
    """The device is held here, and that is stored."""
    devices = gateway.hub.roster.devices
    await until(lambda: name in devices and devices[name].uplinks.is_open and devices[name].current)
    entry = devices[name].current
    assert entry is not None
    await until(lambda: entry.is_stored)


async def test_a_command_reaches_the_gateway_that_has_the_device(pair: Pair) -> None:
    node = await pair.node("a")
    await joined(pair.gateway, "a")
    assert await pair.everywhere("a") == [(0, {"led": [True]})] * 12
    assert len(node.executed) == 12
    assert pair.second.hub.device("a").current is None


async def test_the_newest_join_of_a_device_that_moves_wins(pair: Pair) -> None:
    node = await pair.node("a")
    await joined(pair.gateway, "a")
    node.publish(*range(5))
    await until(lambda: node.is_empty)
    key = pair.gateway.hub.device("a").key
    node.close()
    pair._nodes.remove(node)
    for port, here, there in (
        (pair.second_port, pair.second, pair.gateway),
        (pair.udp_port, pair.gateway, pair.second),
    ):
        moved = UdpNode(key, port, seed=port)
        pair._nodes.append(moved)
        await joined(here, "a")
        await until(lambda there=there: there.hub.device("a").current is None)  # type: ignore[misc]
        assert await pair.everywhere("a") == [(0, {"led": [True]})] * 12
        assert len(moved.executed) == 12
        moved.close()
        pair._nodes.remove(moved)


async def test_a_device_that_nobody_has_is_answered_for_at_once(pair: Pair) -> None:
    await pair.ask("device.add", {"name": "a"})
    assert {code for code, _ in await pair.everywhere("a")} == {503}
    assert {code for code, _ in await pair.everywhere("nobody")} == {404}


async def test_devices_are_added_and_removed_at_all_gateways(pair: Pair) -> None:
    first, second = pair.gateway.hub.roster.devices, pair.second.hub.roster.devices
    await pair.ask("device.add", {"name": "a"})
    await until(lambda: "a" in first and "a" in second)
    assert first["a"].key == second["a"].key
    await pair.ask("device.remove", {"name": "a"})
    await until(lambda: "a" not in first and "a" not in second)


async def test_a_restart_takes_no_session_of_another_gateway(pair: Pair) -> None:
    node = await pair.node("a")
    await joined(pair.gateway, "a")
    await pair.second.stop()
    pair.second = Gateway(pair.second.config, NullLogger())
    await pair.second.start()
    assert pair.second.hub.device("a").current is None, "both would use the same counters"
    assert await pair.everywhere("a") == [(0, {"led": [True]})] * 12
    assert node.endpoint.joins_total == 1


async def test_a_gateway_that_is_gone_is_not_waited_for(pair: Pair) -> None:
    key = os.urandom(16)
    await pair.ask("device.add", {"name": "a", "key": key.hex()})
    await until(lambda: "a" in pair.second.hub.roster.devices)
    pair._nodes.append(UdpNode(key, pair.second_port))
    await joined(pair.second, "a")
    assert await pair.everywhere("a") == [(0, {"led": [True]})] * 12
    await pair.second.stop()
    async with asyncio.timeout(2):
        assert (await pair.command("a", "led", [True]))[0] == 503
    await pair.second.stop()  # again, as the pair does: harmless


async def test_news_that_nobody_can_read_changes_nothing(pair: Pair) -> None:
    await pair.node("a")
    await joined(pair.gateway, "a")
    for data in (b"", b"[]", b"{}", b'{"gateway":1,"kind":"held","device":7}', b"\xff"):
        await pair.client.publish(f"local.gateways.{SITE}", data)
    own = {"gateway": pair.gateway.own_name, "kind": "held", "device": "a"}
    await pair.client.publish(f"local.gateways.{SITE}", json.dumps(own).encode())
    await pair.subscribed()
    assert await pair.everywhere("a") == [(0, {"led": [True]})] * 12


async def test_what_only_the_holder_of_a_device_knows_is_told_by_every_gateway(pair: Pair) -> None:
    await pair.node("a")
    await joined(pair.gateway, "a")
    shown = [await pair.ask("device.show", {"name": "a"}) for _ in range(12)]
    assert {(each["state"], each["link"], each["boot_count"]) for each in shown} == {("online", "udp", 1)}
    refused = [await pair.ask("device.policy", {"name": "a", "period_s": 60}) for _ in range(12)]
    assert {each["code"] for each in refused} == {400}, "only its manifest says that it never sleeps"
    assert {each["code"] for each in [await pair.ask("device.show", {"name": "b"}) for _ in range(6)]} == {404}


async def test_every_gateway_lists_all_devices_as_they_are(pair: Pair) -> None:
    key = os.urandom(16)
    await pair.ask("device.add", {"name": "b", "key": key.hex()})
    first = await pair.node("a")
    await joined(pair.gateway, "a")
    second = UdpNode(key, pair.second_port, seed=2)
    pair._nodes.append(second)
    await joined(pair.second, "b")
    for node in (first, second):
        node.publish(1, 2, 3)
    await until(lambda: first.is_empty and second.is_empty)

    async def agree() -> bool:
        lists = [(await pair.ask("device.list"))["devices"] for _ in range(12)]
        shown = [[(row["name"], row["state"], row["link"], row["boot_count"], row["sequence"]) for row in found]
                 for found in lists]  # fmt: skip
        return all(found == [("a", "online", "udp", 1, 3), ("b", "online", "udp", 1, 3)] for found in shown)

    await until(agree)


async def test_a_port_is_lent_by_the_gateway_that_has_it(pair: Pair, tmp_path: Path) -> None:
    both = str(tmp_path / "ttyUSB0")  # each on its own machine
    gateways = {str(tmp_path / "ttyACM0"): pair.gateway, str(tmp_path / "ttyACM1"): pair.second}
    for port, gateway in gateways.items():
        gateway.ports._entries = (SerialConfig(port=port), SerialConfig(port=both))
        gateway.ports._scan()
    client = Client(pair.client, Target(pair.client.connected_url.netloc, SITE), asyncio.Event())
    for port, gateway in gateways.items():
        found = await ports.find(client, port)
        assert (found["name"], found["gateway"]) == (port, gateway.own_name)
        assert (await ports.release(client, found, 60))["state"] == "released"
        released = [link.name for each in gateways.values() for link in each.ports.links.values() if link.is_released]
        assert released == [port]
        assert (await ports.resume(client, found))["problem"] == f"{port}: does not exist"
    with pytest.raises(CliError, match=f"{both} may be {both} on .* and {both} on "):
        await ports.find(client, both)
    with pytest.raises(CliError, match="cellar is neither a serial port nor a device here"):
        await ports.find(client, "cellar")


async def test_mail_follows_a_device_to_another_gateway(pair: Pair) -> None:
    key = os.urandom(16)
    await pair.ask("device.add", {"name": "a", "key": key.hex()})
    await until(lambda: all("a" in gateway.hub.roster.devices for gateway in (pair.gateway, pair.second)))
    states: list[str] = []

    async def hear(message: Msg) -> None:
        states.append(json.loads(message.data)["state"])

    await pair.client.subscribe(f"event.{SITE}.a.mailbox", cb=hear)
    first = UdpNode(key, pair.udp_port, sleepy=True)
    pair._nodes.append(first)
    await joined(pair.gateway, "a")
    await until(lambda: first.is_asleep)
    first.handlers[0] = lambda arguments: None  # it never answers
    mails = [gateway.mail for gateway in (pair.gateway, pair.second) if gateway.mail is not None]
    await mails[0].queue("a", "led", [True], expires_in_s=600)
    await until(lambda: all(mail.waiting("a") == 1 for mail in mails))
    first.wake()
    await until(lambda: first.executed)
    first.close()
    pair._nodes.remove(first)
    moved = UdpNode(key, pair.second_port, seed=2, sleepy=True)
    pair._nodes.append(moved)
    await joined(pair.second, "a")
    await until(lambda: "delivered" in states)
    assert moved.executed == [(0, [True])]
    assert [event[4] for event in moved.events if event[0] == "mail"] == [True], "it may have been begun before"
    await until(lambda: not any(len(mail.mailbox) for mail in mails))
    assert states.count("delivered") == 1
