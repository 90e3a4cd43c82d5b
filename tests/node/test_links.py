"""Several links, and addresses that change: one node inside this process, so that time can be short."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from petiole_node import Node, carrier
from petiole_node.port.cpython import Port

from .conftest import KEY
from .peer import Peer, UdpPort


class Numbers:
    """Publishes numbers for ever; `made` nodes are stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tasks: list[asyncio.Task[None]] = []
        self.nodes: list[Node] = []

    async def start(self, links: list[dict[str, Any]], port: Port | None = None) -> Node:
        settings = {"name": "leaf-1", "key": KEY.hex(), "links": links, "folder": str(self.folder)}
        node = Node(settings, port or Port())
        counter = node.channel("counter", type="i")

        async def count() -> None:
            number = 0
            while True:
                number += 1
                await counter.publish(number)
                await asyncio.sleep(0.01)

        await node.start()
        self.nodes.append(node)
        self.tasks.append(asyncio.create_task(count()))
        return node


@pytest.fixture
async def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Numbers]:
    monkeypatch.setattr(carrier, "_PATIENCE_MS", 1500)
    monkeypatch.setattr(carrier, "_TRIAL_MS", 700)
    monkeypatch.setattr(carrier, "_PREFERRED_S", (0.5,))
    made = Numbers(tmp_path)
    yield made
    for task in made.tasks:
        task.cancel()
    for node in made.nodes:
        await node.stop()


def link(port: UdpPort) -> dict[str, Any]:
    return {"kind": "udp", "host": port.address[0], "port": port.address[1]}


def complete(peer: Peer) -> bool:
    values = peer.values("counter")
    return values == list(range(1, len(values) + 1))


async def test_the_second_link_is_used_when_the_first_is_silent_and_the_first_again_when_it_works(
    numbers: Numbers, peer: Peer
) -> None:
    first, second = peer.udp(), peer.udp()
    first.is_cut = True
    await numbers.start([link(first), link(second)])
    await peer.joined(timeout_s=10)
    await peer.more_readings(20)
    # The preferred link is tried in vain, and nothing is lost by that.
    frames = first.frames_total
    await peer.wait(lambda: first.frames_total > frames, 10)
    await peer.more_readings(20)
    first.is_cut = False
    await peer.wait(lambda: first.frames_total > frames + 40, 15)
    before = second.frames_total
    await peer.more_readings(20)
    assert second.frames_total == before
    second.is_cut = True
    await peer.more_readings(20)
    # And back, without a pause for ever.
    first.is_cut, second.is_cut = True, False
    await peer.more_readings(20)
    assert complete(peer)


async def test_a_link_that_cannot_be_opened_is_passed_over(numbers: Numbers, peer: Peer) -> None:
    await numbers.start([{"kind": "uart"}, link(peer.udp())])
    await peer.joined(timeout_s=10)
    await peer.more_readings(20)
    assert complete(peer)


class MovingPort(Port):
    """A name service that can change its mind."""

    def __init__(self, where: Callable[[], tuple[str, int]]) -> None:
        super().__init__()
        self._where = where

    async def resolve(self, host: str, port: int) -> tuple[str, int]:
        return self._where()


async def test_a_gateway_whose_name_has_a_new_address_is_found(numbers: Numbers, peer: Peer) -> None:
    home = peer.udp()
    where = [home.address]
    await numbers.start([{"kind": "udp", "host": "gateway.example"}], MovingPort(lambda: where[0]))
    await peer.joined(timeout_s=10)
    await peer.more_readings(20)
    home.is_cut = True
    where[0] = peer.udp().address
    await peer.more_readings(20)
    assert complete(peer)


class LosingPort(Port):
    """Wi-Fi that can be away."""

    is_there = True
    connects_total = 0

    async def connect_network(self, settings: dict[str, Any]) -> None:
        self.connects_total += 1
        if not self.is_there:
            raise OSError("wifi: no connection")

    def is_networked(self, settings: dict[str, Any]) -> bool:
        return self.is_there


async def test_a_network_that_goes_and_comes_is_joined_again(numbers: Numbers, peer: Peer) -> None:
    home = peer.udp()
    port = LosingPort()
    await numbers.start([link(home)], port)
    await peer.joined(timeout_s=10)
    await peer.more_readings(20)
    port.is_there = False
    home.is_cut = True
    while port.connects_total < 2:  # noqa: ASYNC110 - nothing else tells
        await asyncio.sleep(0.05)
    port.is_there = True
    home.is_cut = False
    await peer.more_readings(20)
    assert complete(peer)


async def test_a_node_that_has_not_started_or_is_misused_says_so(tmp_path: Path) -> None:
    settings = {"name": "leaf-1", "key": KEY.hex(), "links": [{"kind": "udp"}], "folder": str(tmp_path)}
    node = Node(settings, Port())
    channel = node.channel("temperature", unit="Cel")
    with pytest.raises(Exception, match="the node has not started"):
        await channel.publish(1.0)
    with pytest.raises(Exception, match="temperature: its type is f, got 'warm'"):
        await channel.publish("warm")
    with pytest.raises(Exception, match="declared twice"):
        node.channel("temperature")
    with pytest.raises(Exception, match="1 to 32 of"):
        node.channel("a b")
    with pytest.raises(Exception, match="several arguments in one text"):
        node.command("x", a="f", b="f")
    with pytest.raises(Exception, match="one of f i b s x a, got 'float'"):
        node.command("x", a="float")


async def test_signatures_are_read_where_the_runtime_has_them(tmp_path: Path, numbers: Numbers, peer: Peer) -> None:
    settings = {"name": "leaf-1", "key": KEY.hex(), "links": [link(peer.udp())], "folder": str(tmp_path)}
    node = Node(settings, Port())
    numbers.nodes.append(node)

    @node.command("paint")
    async def paint(red: int, note: "str", blue: float = 0.5, what=None):  # type: ignore[no-untyped-def]
        return [red, note, blue, what]

    @node.command("odd")
    def odd() -> object:
        return object()

    await node.start()
    await peer.joined()
    entry = next(entry for entry in peer.manifest["cmd"] if entry[1] == "paint")
    assert entry[2] == [["red", "i", True], ["note", "s", True], ["blue", "f", False], ["what", "a", False]]
    assert await peer.command("paint", [1, "x"]) == (0, [1, "x", 0.5, None])
    assert await peer.command("paint", [1.5, "x"]) == (400, "argument red: a whole number is wanted")
    assert await peer.command("odd") == (500, "result: cbor: object")
    assert abs((node.time() or 0) - peer.time()) < 100
