"""Where devices were heard last: kept over a restart, written seldom, and left alone when nobody answers."""

from __future__ import annotations

import asyncio

import pytest

from petiole import wire
from petiole.items import Encoded
from petiole_gateway.hub.availability import ONLINE_MS
from petiole_gateway.hub.device import PLACE_STORE_MS
from petiole_gateway.hub.downlinks import SILENT_TIMEOUTS
from petiole_gateway.hub.ports import CommandError, Link

from .memory import MemoryLink, MemoryNode, Site, until, with_site
from .virtual_time import now_ms


def offer(site: Site, *links: MemoryLink) -> None:
    """The hub of the next start finds these links."""
    named: dict[str, Link] = {link.name: link for link in links}
    site.options["find_link"] = named.get


async def settled(site: Site, node: MemoryNode) -> None:
    """Where the node is, is stored."""
    entry = site.hub.device("a").current
    assert entry is not None
    await until(lambda: entry.stored_place == (node.link.name, node.peer) and not entry.is_storing)


@pytest.mark.parametrize("is_orderly", [False, True])
@pytest.mark.parametrize("peer", [None, ("192.168.1.7", 40000), ("fe80::7", 40000, 0, 2)])
@with_site
async def test_a_device_is_asked_where_it_was_before_the_restart(site: Site, peer: object, is_orderly: bool) -> None:
    link = MemoryLink()
    node = await site.node("a", link, peer=peer, addressed=peer is not None)
    await settled(site, node)
    offer(site, link)
    await (site.restart() if is_orderly else site.crash())
    device = site.hub.device("a")
    assert device.current is not None
    assert device.current.stored_place == (link.name, peer)
    assert device.last_seen_at is not None, "when it was heard is known"
    assert site.hub.state(device) == "offline", "but not that it is there"
    began = now_ms()
    assert await site.hub.command("a", "led", [True], 5) == {"led": [True]}
    assert now_ms() - began < 1000
    assert node.executed == [(0, [True])]
    assert node.endpoint.joins_total == 1
    assert site.hub.state(device) == "online"


@with_site
async def test_a_node_behind_a_bridge_is_asked_by_its_address(site: Site) -> None:
    link = MemoryLink(shared=True)
    node = await site.node("a", link, addressed=True)
    node.publish(1)
    await until(lambda: node.is_empty)
    await settled(site, node)
    offer(site, link)
    await site.restart()
    link.sent.clear()
    assert await site.hub.command("a", "led", [True], 5)
    data = [frame for frame in link.sent if frame[0] & wire.TYPE_MASK == wire.DATA]
    assert data
    assert all(frame[0] & wire.ADDRESSED for frame in data)


@with_site
async def test_a_device_that_is_not_heard_after_a_restart_is_given_up(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    await settled(site, node)
    node.off()
    offer(site, link)
    await site.crash()
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "led", [True], 1)
    assert raised.value.code == wire.TIMED_OUT, "it was tried"
    await asyncio.sleep(ONLINE_MS / 1000)
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "led", [True], 1)
    assert raised.value.code == wire.NOT_NOW


@with_site
async def test_a_device_whose_link_is_gone_is_not_asked(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    await settled(site, node)
    offer(site)
    await site.crash()
    with pytest.raises(CommandError) as raised:
        await site.hub.command("a", "led", [True], 1)
    assert raised.value.code == wire.NOT_NOW


@with_site
async def test_places_are_written_when_they_change_and_not_with_every_frame(site: Site) -> None:
    one, other = MemoryLink("one"), MemoryLink("other")
    node = await site.node("a", one)
    await settled(site, node)
    await asyncio.sleep(PLACE_STORE_MS / 1000)
    puts = site.sessions.puts
    for value in range(30):
        node.publish(value)
        await until(lambda: node.is_empty)
    assert site.sessions.puts == puts
    node.move(other, ("10.0.0.1", 5), True)
    node.publish(30)
    await settled(site, node)
    assert site.sessions.puts == puts + 1
    for port in range(20):  # a router that changes its mind with every frame
        node.move(other, ("10.0.0.1", port), True)
        node.publish(port)
        await until(lambda: node.is_empty)
    assert site.sessions.puts == puts + 1
    await asyncio.sleep(PLACE_STORE_MS / 1000)
    node.publish(99)
    await settled(site, node)
    assert site.sessions.puts == puts + 2


@with_site
async def test_a_silent_node_is_not_sent_the_same_for_ever(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    await until(lambda: node.is_empty)
    entry = site.hub.device("a").current
    assert entry is not None
    node.off()
    link.sent.clear()
    entry.session.send(Encoded(bytes((wire.MANIFEST_REQUEST,))))
    site.hub._downlinks.flush(entry)
    await asyncio.sleep(600)
    assert len(link.sent) == 1 + SILENT_TIMEOUTS
    assert site.hub.device("a").timer is None
    site.hub._downlinks.flush(entry)  # as after anything else that happens
    assert len(link.sent) == 1 + SILENT_TIMEOUTS
    # It speaks again: what it never got comes at once.
    link.nodes[None] = node
    node._is_on = True
    node.publish(1)
    await until(lambda: node.is_empty)
    await until(lambda: not [item for item in entry.session.recovery.unfinished() if not item.is_done])
    assert len(link.sent) > 2 + SILENT_TIMEOUTS


@with_site
async def test_a_command_to_a_node_that_was_given_up_is_tried(site: Site) -> None:
    link = MemoryLink()
    node = await site.node("a", link)
    entry = site.hub.device("a").current
    assert entry is not None
    entry.session.silent_timeouts = SILENT_TIMEOUTS
    assert await site.hub.command("a", "led", [True], 5) == {"led": [True]}
    assert node.executed
