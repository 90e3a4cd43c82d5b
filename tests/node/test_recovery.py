"""A node comes back from every failure, with no code in the application."""

from pathlib import Path

import pytest

from petiole import wire

from .conftest import Start, accepted
from .peer import Peer

VERIFY = {"mode": "verify", "concurrency": 4}


def complete(values: list[int]) -> bool:
    return values == list(range(1, len(values) + 1))


@pytest.mark.parametrize("kind", ["uart", "console"])
async def test_a_cable_that_is_pulled_and_plugged_in_again_loses_nothing(start: Start, peer: Peer, kind: str) -> None:
    node = await start(kind, options=VERIFY)
    await peer.joined()
    await peer.more_readings(20)
    for _ in range(2):
        node.unplug()
        await peer.pause(0.3)
        node.plug()
        await peer.more_readings(20)
    assert complete(peer.values("counter"))
    assert set(accepted(node)) <= set(peer.values("counter"))
    assert len(peer.joins) == 1  # the session survives the cable


@pytest.mark.parametrize("kind", ["uart", "console", "udp"])
async def test_a_gateway_that_has_forgotten_the_session_is_joined_again_at_once(
    start: Start, peer: Peer, kind: str
) -> None:
    node = await start(kind, options=VERIFY)
    await peer.joined()
    await peer.more_readings(20)
    peer.forget()
    await peer.joined(2, timeout_s=2)
    await peer.more_readings(20)
    assert peer.rejects_total > 0
    assert complete(peer.values("counter"))
    assert set(accepted(node)) <= set(peer.values("counter"))


async def test_a_gateway_that_was_away_and_kept_its_sessions_goes_on_without_a_join(start: Start, peer: Peer) -> None:
    await start("udp", options=VERIFY)
    await peer.joined()
    await peer.more_readings(20)
    peer.is_deaf = True
    await peer.pause(1)
    peer.is_deaf = False
    await peer.more_readings(20)
    assert len(peer.joins) == 1
    assert complete(peer.values("counter"))


async def test_a_gateway_that_is_silent_for_long_is_joined_again_when_it_is_back(start: Start, peer: Peer) -> None:
    await start("uart", options=VERIFY)
    await peer.joined()
    await peer.more_readings(20)
    peer.is_deaf = True
    before = peer.frames_total
    await peer.wait_for_frames(before + 7)  # timeouts, then requests to join
    peer.forget()
    peer.is_deaf = False
    await peer.joined(2)
    await peer.more_readings(20)
    assert complete(peer.values("counter"))


async def test_a_gateway_with_another_address_is_found_through_the_network(start: Start, peer: Peer) -> None:
    node = await start("udp", options=VERIFY)
    await peer.joined()
    await peer.more_readings(10)
    node.move_gateway(peer.udp().address)
    await peer.more_readings(10)
    assert len(peer.joins) == 1  # frames of the session prove who they are, wherever they come from
    assert complete(peer.values("counter"))


async def test_a_node_without_an_address_finds_its_gateway_by_broadcast(start: Start, peer: Peer) -> None:
    port = peer.udp(host="").address[1]
    links = [{"kind": "udp", "host": "127.255.255.255", "port": port}]
    await start("udp", gateway=("127.0.0.1", 9), settings={"links": links}, options=VERIFY)
    await peer.joined()
    await peer.more_readings(10)
    assert complete(peer.values("counter"))


async def test_a_node_that_was_off_goes_on_above_its_old_numbers(start: Start, peer: Peer) -> None:
    node = await start("udp", options=VERIFY)
    await peer.joined()
    await peer.more_readings(30)
    await node.restart()
    await peer.joined(2)
    await peer.more_readings(30)
    values = peer.values("counter")
    assert values == sorted(set(values))
    assert [request.boot for request in peer.joins] == [1, 2]


async def test_a_refused_node_says_why_and_does_not_flood_the_gateway(start: Start, peer: Peer) -> None:
    peer.refusal = wire.REJECT_JOIN
    node = await start("uart", options=VERIFY)
    await node.wait_for_log("refused: the gateway does not know this node, or the key is wrong")
    before = peer.frames_total
    await peer.pause(2)
    assert peer.frames_total == before


async def test_an_app_that_fails_is_reported_after_the_restart(start: Start, peer: Peer, tmp_path: Path) -> None:
    app = tmp_path / "failing.py"
    app.write_text(
        "import asyncio\n"
        "from petiole_node import Node\n"
        "node = Node('petiole.json')\n"
        "broken = asyncio.Event()\n"
        "node.command('break')(broken.set)\n"
        "async def main():\n"
        "    await broken.wait()\n"
        "    raise ValueError('a mistake')\n"
        "node.run(main)\n"
    )
    node = await start("uart", app=app)
    await peer.joined()
    peer.call("break")
    await peer.joined(2)
    assert peer.joins[1].reset_reason == 6
    await peer.wait(lambda: any("restarted after: " in text and "a mistake" in text for _, text in peer.logs))
    assert node.resets_total == 1
