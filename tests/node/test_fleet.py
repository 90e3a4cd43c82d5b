"""A fleet publishes what it says it does. One device is all that the peer knows, so the fleet is one node."""

import asyncio

from petiole_tools.sim.fleet import Fleet

from .conftest import KEY
from .peer import Peer


async def test_what_a_fleet_published_is_durable_once_it_has_settled(peer: Peer) -> None:
    began = peer.time()
    fleet = Fleet(peer.udp().address, {"leaf-1": KEY}, rate=200, seed=5)
    await fleet.start()
    await peer.joined()
    await peer.more_readings(100)
    await fleet.settle()
    result = fleet.statistics()
    assert result.published == result.durable == len(peer.readings)
    assert peer.values("counter") == list(range(0, result.published, 2))
    assert (result.nodes, result.online, result.joins, result.refused) == (1, 1, 1, 0)
    median, worst = result.latency_ms(0.5), result.latency_ms(1)
    assert median is not None
    assert worst is not None
    assert 0 < median <= worst <= peer.time() - began
    assert await peer.command("ping") == (0, {"uptime_s": 0})
    fleet.stop()
    before = peer.frames_total
    await asyncio.sleep(0.2)
    assert peer.frames_total == before
