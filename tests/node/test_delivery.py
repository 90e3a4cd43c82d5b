"""What `publish` promises, over links that break it in every way they can."""

import itertools
import statistics
from pathlib import Path

import pytest

from petiole_tools.sim.impairment import Impairment

from .conftest import Start, accepted
from .peer import Peer

BAD = {
    "loss": Impairment(loss=0.1, delay_ms=2),
    "duplicates": Impairment(duplicate=0.1, delay_ms=2),
    "reordering": Impairment(reorder=0.1, reorder_ms=40, jitter_ms=5),
    "corruption": Impairment(corrupt=0.1, delay_ms=2),
    "all": Impairment(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, delay_ms=2, jitter_ms=10, reorder_ms=30),
}
COUNT = 80
WORKERS = 8
ROUNDING_MS = 50  # of an age, and of two clocks that are read one after the other


def once_and_in_order(values: list[int]) -> bool:
    # Workers draw a number and publish it at once, so the order of publishing is that of the numbers.
    return values == sorted(set(values))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", ["uart", "udp"])
async def test_a_bad_link_delivers_every_confirmed_reading_once_and_in_order(
    start: Start, peer: Peer, kind: str, bad: str
) -> None:
    options = {"mode": "verify", "concurrency": WORKERS, "limit": COUNT // WORKERS}
    node = await start(kind, impairment=BAD[bad], seed=7, options=options)
    await node.wait_for_log("verified", 60)
    assert peer.values("counter") == list(range(1, COUNT + 1))
    assert sorted(accepted(node)) == list(range(1, COUNT + 1))


async def test_a_console_that_loses_lines_delivers_every_confirmed_reading_once(start: Start, peer: Peer) -> None:
    options = {"mode": "verify", "concurrency": WORKERS, "limit": COUNT // WORKERS}
    bad = Impairment(loss=0.1, corrupt=0.05, delay_ms=1)
    node = await start("console", impairment=bad, seed=3, options=options)
    await peer.wait(lambda: len(accepted(node)) == COUNT, 60)
    assert peer.values("counter") == list(range(1, COUNT + 1))


async def test_publish_does_not_return_before_the_gateway_says_durable(start: Start, peer: Peer) -> None:
    peer.acks_readings = False
    node = await start("uart", options={"mode": "verify", "concurrency": 4})
    await peer.joined()
    # Sent again at least twice, so the node had every chance to think that it is done.
    before = peer.frames_total
    await peer.wait(lambda: peer.frames_total >= before + 3)
    assert accepted(node) == []
    peer.acks_readings = True
    await peer.wait(lambda: len(accepted(node)) >= 20)
    assert set(accepted(node)) <= set(peer.values("counter"))


async def test_a_full_outbox_makes_publish_wait_and_loses_nothing(start: Start, peer: Peer) -> None:
    peer.acks_readings = False
    options = {"mode": "verify", "concurrency": 12, "limit": 5}
    node = await start("uart", settings={"outbox": 4}, options=options)
    await peer.joined()
    peer.acks_readings = True
    await node.wait_for_log("verified")
    assert peer.values("counter") == list(range(1, 61))


async def test_concurrent_publishes_share_frames(start: Start, peer: Peer) -> None:
    options = {"mode": "verify", "concurrency": 16, "limit": 20}
    node = await start("uart", options=options)
    await node.wait_for_log("verified")
    assert len(peer.values("counter")) == 320
    assert peer.frames_total < 160


async def test_a_reading_keeps_the_time_at_which_it_was_taken(start: Start, peer: Peer) -> None:
    node = await start("uart", app=Path(__file__).parent / "timed_app.py")
    await peer.joined()
    await peer.wait(lambda: len(peer.readings) > 3)
    node.cut(True)
    before, cut_at = len(peer.readings), peer.time()
    await peer.pause(2.0)
    waited_until = peer.time()
    node.cut(False)
    await peer.wait(lambda: any(value > waited_until for _, value, _ in peer.readings))
    waited = [(value, at) for _, value, at in peer.readings[before:] if cut_at < value < waited_until]
    assert len(waited) > 5
    # How late a busy machine is with a reading or a frame is the same in both: readings that came in one frame are as
    # far apart as they were taken, and none is older than it was.
    pairs = list(itertools.pairwise(waited))
    taken = statistics.median(later[0] - earlier[0] for earlier, later in pairs)
    off = statistics.median(abs((later[1] - earlier[1]) - (later[0] - earlier[0])) for earlier, later in pairs)
    assert off < taken / 2
    assert all(at > value - ROUNDING_MS for value, at in waited)
    # Without a time of its own, the first would have come after the line was back.
    assert waited[0][1] < waited_until


async def test_numbers_that_publish_accepted_survive_a_node_that_is_killed(start: Start, peer: Peer) -> None:
    node = await start("uart", options={"mode": "verify", "concurrency": 8})
    await peer.joined()
    for round in range(1, 4):
        await peer.more_readings(50)
        await node.restart()
        await peer.joined(round + 1)
    await node.kill()
    values = peer.values("counter")
    assert once_and_in_order(values)
    assert set(accepted(node)) <= set(values)
    assert [request.boot for request in peer.joins] == [1, 2, 3, 4]
