"""Many joins at once: after a power cut all of a site, and floods of others."""

from __future__ import annotations

import asyncio
import random

from petiole import join, manifest, wire
from petiole_gateway.aead import AesCcm
from petiole_gateway.hub.device import Device
from petiole_gateway.hub.joins import AT_ONCE, DEVICE_JOINS_MS, LINK_JOINS_PER_S, LINK_OPENS_PER_S, STALE_MS
from petiole_gateway.hub.ports import Place

from .memory import MANIFEST, MemoryLink, Site, key_of, until, with_site


def request(device: Device, seed: int = 1) -> bytes:
    luck = random.Random(f"{device.name}/{seed}").randbytes(4)
    return join.Joiner(AesCcm, device.key).start(luck, 1, 1, manifest.digest(MANIFEST), False)


def forged(frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


def accepts(link: MemoryLink) -> int:
    return sum(frame[0] & wire.TYPE_MASK == wire.JOIN_ACCEPT for frame in link.sent)


async def devices(site: Site, number: int) -> list[Device]:
    return [await site.hub.add_device(f"d{n}", key_of(f"d{n}")) for n in range(number)]


@with_site
async def test_all_devices_of_a_site_join_after_a_power_cut_as_fast_as_the_store_answers(site: Site) -> None:
    found = await devices(site, 500)
    site.uplinks.lookup_s = 0.1
    link = MemoryLink()
    for device in found:
        site.hub.receive(Place(link, None), request(device))
        site.hub.receive(Place(link, None), request(device))  # the copy of a node that is in a hurry
    await asyncio.sleep(0.05)
    assert site.uplinks.lookups == AT_ONCE
    await until(lambda: accepts(link) == 500, 0.1 * (2 + 500 / AT_ONCE))
    assert site.uplinks.lookups == 500
    assert site.hub.traffic.dropped == {}


@with_site
async def test_who_has_given_up_waiting_is_not_answered(site: Site) -> None:
    found = await devices(site, 3 * AT_ONCE)
    site.uplinks.lookup_s = STALE_MS / 2000 + 0.1
    link = MemoryLink()
    for device in found:
        site.hub.receive(Place(link, None), request(device))
    await asyncio.sleep(1)
    site.hub.receive(Place(link, None), request(found[-1]))  # it waits still
    await asyncio.sleep(10)
    assert accepts(link) == 2 * AT_ONCE + 1
    assert site.hub.traffic.dropped == {"join_rate": AT_ONCE - 1}


@with_site
async def test_a_join_that_was_not_answered_is_saved_up_still(site: Site) -> None:
    found = await devices(site, 600)
    site.uplinks.lookup_s = STALE_MS / 2000 + 0.1
    link = MemoryLink()
    for device in found:
        site.hub.receive(Place(link, None), request(device))
    await until(lambda: site.hub.traffic.dropped.get("join_rate") == 600 - 2 * AT_ONCE)
    site.uplinks.lookup_s = 0.005
    for device in found[2 * AT_ONCE :]:
        site.hub.receive(Place(link, None), request(device, 2))
    await until(lambda: accepts(link) == 600, 2)


@with_site
async def test_requests_that_somebody_has_recorded_get_no_more_than_a_link_does_in_the_long_run(site: Site) -> None:
    found = await devices(site, 200)
    link = MemoryLink()
    seconds = 60
    for turn in range(seconds * 1000 // DEVICE_JOINS_MS * 4):
        for device in found:
            site.hub.receive(Place(link, None), request(device, turn))
        await asyncio.sleep(DEVICE_JOINS_MS / 4000)
    assert accepts(link) <= 200 + LINK_JOINS_PER_S * seconds
    assert site.hub.traffic.dropped["join_rate"] > 1000
    assert len(site.hub.roster.by_address) <= 200 * wire.MAX_PROVISIONAL


@with_site
async def test_forged_requests_are_looked_into_no_more_often_than_that(site: Site) -> None:
    (device,) = await devices(site, 1)
    link = MemoryLink()
    for turn in range(100):
        for _ in range(100):
            site.hub.receive(Place(link, None), forged(request(device, turn)))
        await asyncio.sleep(0.1)
    assert site.hub.traffic.dropped["tag"] <= 50 + 10 * LINK_OPENS_PER_S
    assert sum(site.hub.traffic.dropped.values()) == 10_000
    assert site.uplinks.lookups == 0


@with_site
async def test_strangers_keep_nobody_out(site: Site) -> None:
    (device,) = await devices(site, 1)
    link, luck = MemoryLink(), random.Random(1)
    for _ in range(5000):
        site.hub.receive(Place(link, None), bytes([wire.JOIN_REQUEST | 1]) + luck.randbytes(16))
    site.hub.receive(Place(link, None), request(device))
    await asyncio.sleep(0.01)
    assert site.hub.traffic.dropped == {"unknown_device": 5000}
    assert accepts(link) == 1
    assert len(link.sent) == 5, "four rejects a second"
    await asyncio.sleep(1)
    site.hub.receive(Place(link, None), bytes([wire.JOIN_REQUEST | 2]) + luck.randbytes(16))
    await asyncio.sleep(0.01)
    assert site.hub.traffic.dropped["version"] == 1
    assert link.sent[-1][0] & 15 == wire.REJECT_VERSION
