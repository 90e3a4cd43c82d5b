"""Which device is which: names, keys and ids at the hub, its ports in memory."""

from __future__ import annotations

import asyncio
import os

import pytest

from petiole import join, wire
from petiole_gateway.hub.ports import CommandError, Place

from .memory import MemoryLink, MemoryNode, Site, until, with_site


@with_site
async def test_unknown_devices_wrong_keys_and_replays_get_nowhere(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    request = next(frame for frame in link.received if frame[0] & wire.TYPE_MASK == wire.JOIN_REQUEST)
    stranger = MemoryNode(site.hub, link, os.urandom(16), peer="stranger")
    site.nodes.append(stranger)
    await until(lambda: stranger.count("refused"))
    assert site.hub.traffic.dropped["unknown_device"] == 1
    session = node.endpoint.session
    for _ in range(10):
        site.hub.receive(Place(link, None), request)
    await asyncio.sleep(0.05)
    node.publish(1)
    await until(lambda: node.is_empty)
    assert node.endpoint.session is session
    device = site.hub.device("a")
    assert len(device.provisional) <= wire.MAX_PROVISIONAL


@with_site
async def test_two_devices_with_one_id_both_join(site: Site) -> None:
    seen: dict[bytes, bytes] = {}
    pair: tuple[bytes, bytes] | None = None
    number = 0
    while pair is None:  # 3 bytes: a few thousand tries
        key = number.to_bytes(16, "big")
        known = seen.setdefault(join.device_id(key), key)
        if known != key:
            pair = known, key
        number += 1
    for name, key in zip("ab", pair, strict=True):
        await site.hub.add_device(name, key)
    link = MemoryLink()
    nodes = [await site.node(name, link, peer=name) for name in "ab"]
    for node in nodes:
        node.publish(1)
    await until(lambda: all(node.is_empty for node in nodes))
    assert site.uplinks.numbers("a") == site.uplinks.numbers("b") == [1]


@with_site
async def test_a_device_that_changes_its_link_goes_on(site: Site) -> None:
    serial, radio = MemoryLink("serial"), MemoryLink("radio")
    node = await site.node("a", serial)
    node.publish(1)
    await until(lambda: node.is_empty)
    node.move(radio, ("127.0.0.1", 5), True)
    node.publish(2)
    await until(lambda: node.is_empty)
    assert await site.hub.command("a", "led", [True], 5)
    assert node.endpoint.joins_total == 1
    assert site.hub.device("a").current.place.link is radio  # type: ignore[union-attr]


@with_site
async def test_a_bridge_carries_two_nodes_over_one_port(site: Site) -> None:
    bridge = MemoryLink("bridge", shared=True)

    class Broadcast(MemoryLink):
        def send(self, frame: bytes, peer: object) -> None:
            super().send(frame, "everybody")

    bridge.__class__ = Broadcast
    for name in "ab":
        device = await site.hub.add_device(name)
        node = MemoryNode(site.hub, bridge, device.key, peer=None, addressed=True)
        bridge.nodes[name] = bridge.nodes.pop(None)
        site.nodes.append(node)
    for number, node in enumerate(site.nodes):
        node.publish(number)
    await until(lambda: all(node.is_empty for node in site.nodes))
    assert await site.hub.command("a", "led", [True], 5)
    assert await site.hub.command("b", "led", [False], 5)


@with_site
async def test_a_removed_device_is_gone_at_once(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    asked = asyncio.create_task(site.hub.command("a", "slow", [], 30))
    await until(lambda: node.executed)
    await site.hub.remove_device("a")
    with pytest.raises(CommandError, match="removed"):
        await asked
    node.publish(1)
    await until(lambda: node.count("refused"))
    assert not site.uplinks.stored
    assert not site.registry.documents
    assert not site.sessions.documents


@pytest.mark.parametrize("name", ["", "a b", "a.b", "*", ">", "ä", "x" * 33])
@with_site
async def test_a_name_that_is_no_token_is_refused(site: Site, name: str) -> None:
    with pytest.raises(CommandError) as raised:
        await site.hub.add_device(name)
    assert raised.value.code == 400


@with_site
async def test_a_taken_name_or_key_is_refused(site: Site) -> None:
    device = await site.hub.add_device("a")
    for name, key in (("a", None), ("b", device.key)):
        with pytest.raises(CommandError) as raised:
            await site.hub.add_device(name, key)
        assert raised.value.code == 409


def told_of_drops(node: MemoryNode, dropped: int) -> None:
    """The node's outbox has thrown away so many in its life, and says so with its next reading."""
    session = node.endpoint.session
    assert session is not None
    session.dropped_readings, session.needs_floor = dropped, True
    node.publish(dropped)


@with_site
async def test_what_a_new_outbox_throws_away_is_not_hidden_by_what_the_one_before_did(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link, next_sequence=None)
    told_of_drops(node, 50)
    await until(lambda: node.is_empty)
    uplinks = site.hub.device("a").uplinks
    assert uplinks.dropped_by_node == 50
    following = node.endpoint.outbox.next_sequence
    node.off()
    node = await site.node("a", link, next_sequence=following, boot=2)
    assert uplinks.dropped_by_node == 50, "a reset is no new outbox"
    told_of_drops(node, 52)
    await until(lambda: node.is_empty)
    assert uplinks.dropped_by_node == 52

    node.off()
    node = await site.node("a", link, next_sequence=None, boot=3)
    assert uplinks.dropped_by_node == 0
    told_of_drops(node, 3)
    await until(lambda: node.is_empty)
    assert uplinks.dropped_by_node == 3
    told_of_drops(node, 2)  # as a frame that was overtaken would
    await until(lambda: node.is_empty)
    assert uplinks.dropped_by_node == 3


@with_site
async def test_a_replayed_join_of_a_new_outbox_takes_nothing_back(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link, next_sequence=None)
    request = next(frame for frame in link.received if frame[0] & wire.TYPE_MASK == wire.JOIN_REQUEST)
    told_of_drops(node, 50)
    await until(lambda: node.is_empty)
    device = site.hub.device("a")
    site.hub.receive(Place(link, None), request)
    await until(lambda: device.provisional)
    assert device.uplinks.dropped_by_node == 50
