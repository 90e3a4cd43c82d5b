"""Joins as the hub bounds them: provisional sessions, repetitions, removals, and a clock that goes anywhere."""

from __future__ import annotations

import asyncio

import pytest

from petiole import wire
from petiole_gateway.hub.ports import Busy, Place

from .memory import MemoryLink, MemoryNode, Site, key_of, until, with_site
from .test_sessions import join_request, kinds


@with_site
async def test_a_provisional_session_ends_after_its_time(site: Site) -> None:
    device = await site.hub.add_device("a", key_of("a"))
    link = MemoryLink()
    for seed in range(3):
        site.hub.receive(Place(link, None), join_request(device.key, seed))
        await asyncio.sleep(0.1)
    assert len(device.provisional) == wire.MAX_PROVISIONAL
    assert len(site.hub.roster.by_address) == wire.MAX_PROVISIONAL
    await asyncio.sleep(wire.PROVISIONAL_MS / 1000)
    assert not device.provisional
    assert not site.hub.roster.by_address
    assert site.hub.state(device) == "offline"


@with_site
async def test_the_same_request_gets_the_same_accept_and_one_session(site: Site) -> None:
    device = await site.hub.add_device("a", key_of("a"))
    link = MemoryLink()
    request = join_request(device.key, 1)
    for _ in range(3):
        site.hub.receive(Place(link, None), request)
    await asyncio.sleep(0.1)
    site.hub.receive(Place(link, None), request)
    await asyncio.sleep(0.1)
    assert len(link.sent) == 2, "one for the copies that came together, one for the late one"
    assert link.sent[0] == link.sent[1]
    assert len(device.provisional) == 1


@with_site
async def test_a_device_may_join_four_times_in_ten_seconds(site: Site) -> None:
    device = await site.hub.add_device("a", key_of("a"))
    link = MemoryLink()
    for seed in range(6):
        site.hub.receive(Place(link, None), join_request(device.key, seed))
        await asyncio.sleep(0.1)
    assert kinds(link.sent) == [wire.JOIN_ACCEPT] * 4
    assert site.hub.traffic.dropped == {"join_rate": 2}
    await asyncio.sleep(10)
    site.hub.receive(Place(link, None), join_request(device.key, 7))
    await asyncio.sleep(0.1)
    assert len(link.sent) == 5


@with_site
async def test_a_node_is_told_to_come_later_while_the_store_is_away(site: Site) -> None:
    device = await site.hub.add_device("a", key_of("a"))
    site.uplinks.lookup_busy = True
    node = MemoryNode(site.hub, link := MemoryLink(), device.key)
    site.nodes.append(node)
    await until(lambda: node.count("refused"))
    assert link.sent[-1][0] & 15 == wire.REJECT_LATER
    site.uplinks.lookup_busy = False
    await until(lambda: node.is_online, 60)


@with_site
async def test_a_device_that_is_removed_while_it_joins_stays_out(site: Site) -> None:
    device = await site.hub.add_device("a", key_of("a"))
    node = MemoryNode(site.hub, MemoryLink(), device.key)
    site.nodes.append(node)
    await asyncio.sleep(0.001)  # its numbers are being read
    await site.hub.remove_device("a")
    await until(lambda: node.count("refused"), 60)
    assert not site.hub.roster.by_address
    assert not node.is_online


@with_site
async def test_a_removed_device_does_not_come_back_with_a_restart(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    device = site.hub.device("a")
    site.hub._changed(device)  # a write is on its way
    assert device.current is not None
    site.hub._downlinks.reserve(device.current)
    await site.hub.remove_device("a")
    await asyncio.sleep(1)
    assert not site.registry.documents
    assert not site.sessions.documents
    await site.restart()
    assert not site.hub.roster.devices
    node.publish(1)
    await asyncio.sleep(1)
    assert not site.uplinks.stored


@with_site
async def test_a_removal_that_cannot_be_stored_is_undone(site: Site) -> None:
    node = await site.node("a", MemoryLink())
    site.registry.is_busy = True
    with pytest.raises(Busy):
        await site.hub.remove_device("a")
    site.registry.is_busy = False
    node.publish(1)
    await until(lambda: node.is_empty, 60)
    assert site.registry.documents["a"]


@with_site
async def test_a_device_that_cannot_be_stored_does_not_exist(site: Site) -> None:
    site.registry.is_busy = True
    with pytest.raises(Busy):
        await site.hub.add_device("a")
    assert not site.hub.roster.devices


@with_site
async def test_accepts_say_ever_later_times_whatever_the_clock_does(site: Site) -> None:
    link = MemoryLink()
    device = await site.hub.add_device("a", key_of("a"))
    times = []
    for seed in range(4):
        before = len(link.sent)
        node = await site.node("a", link, boot=seed + 1)
        await until(lambda: site.sessions.documents)
        accept = next(f for f in link.sent[before:] if f[0] & wire.TYPE_MASK == wire.JOIN_ACCEPT)
        times.append(int.from_bytes(accept[1:7], "big"))
        node.off()
        site.clock_error_ms -= 3_600_000
        if seed == 1:
            await site.restart()
        if seed == 2:
            await site.crash(with_sessions=False)
        await asyncio.sleep(3)
    assert times == sorted(set(times))
    assert device.name == "a"
