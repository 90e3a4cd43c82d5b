"""Sleepy nodes on MicroPython, from wake to wake, over real links."""

import asyncio
import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from petiole import cbor, wire
from petiole.items import Encoded
from petiole.records import Record
from petiole_tools.sim.nodes import SimNode

from .conftest import Start
from .peer import Peer

APP = Path(__file__).parent / "wake_app.py"
TRIES = 10  # of three wakes: a machine is not busy for ever


def settings(sleep: str = "deep", period_s: int = 1, **other: Any) -> dict[str, Any]:
    return {"period_s": period_s, "sleep": sleep, "awake_ms": 4000, **other}


def lines(node: SimNode, name: str) -> list[str]:
    path = node.folder / name
    return path.read_text().split("\n")[:-1] if path.exists() else []


def values(peer: Peer) -> list[int]:
    return [value for _, value, _ in peer.readings]


class Results:
    """Takes what a peer hears of its mail."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.got: list[list[Any]] = []
        take = peer._take

        def also(record: Any) -> None:
            if isinstance(record, Record) and record.kind == wire.MAIL_RESULT:
                self.got.append(list(record.value))
            take(record)

        peer._take = also  # type: ignore[method-assign]

    def send(self, item: int, name: str, arguments: list[Any], attempt: int = 1) -> None:
        """Mail for the next wake; a session only sends when it has heard of the node."""
        number = next(entry[0] for entry in self.peer.manifest["cmd"] if entry[1] == name)
        record = [item, number, arguments] if attempt == 1 else [item, number, arguments, attempt]
        assert self.peer._current is not None
        self.peer._current.send(Encoded(bytes((wire.MAIL,)) + cbor.encode(record)))
        self.peer._current.is_suspended = True  # until the node is heard

    async def told(self, number: int) -> None:
        """Until so many results have come."""
        await self.peer.wait(lambda: len(self.got) >= number, 60)


@pytest.mark.parametrize("kind", ["uart", "udp"])
@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_a_wake_is_one_frame_and_one_answer(peer: Peer, start: Start, kind: str, sleep: str) -> None:
    """How long it sleeps is in test_pauses.py."""
    node = await start(kind, app=APP, settings=settings(sleep))
    await peer.more_readings(3)
    for _ in range(TRIES):
        frames, repeats, answers = peer.frames_total, peer.repeats_total, peer.answers_total
        await peer.more_readings(3)
        # A machine that was busy for 250 ms has answered late, and the reading was sent again.
        again = peer.repeats_total - repeats
        assert peer.frames_total == frames + 3 + again
        if not again:
            break
    assert (peer.frames_total, peer.answers_total) == (frames + 3, answers + 3), "in no three wakes in a row"
    assert len(peer.joins) == 1
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    assert peer.manifest["p"] == [1, 1]
    assert node.resets_total == 0


async def test_readings_that_are_waited_for_are_sent_at_once(peer: Peer, start: Start) -> None:
    node = await start("uart", app=APP, settings=settings(), options={"count": 3, "waits": True})
    await peer.more_readings(9)
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    assert len(peer.joins) == 1
    assert {line.split()[1] for line in lines(node, "taken.txt")} == {"1"}


@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_a_lost_ack_is_a_frame_more_and_no_reading(peer: Peer, start: Start, sleep: str) -> None:
    await start("udp", app=APP, settings=settings(sleep))
    await peer.more_readings(2)
    peer.acks_readings = False
    await peer.wait_for_frames(peer.frames_total + 2)
    peer.acks_readings = True
    await peer.more_readings(4)
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    assert len(peer.joins) == 1


@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_a_gateway_that_is_away_gets_everything_afterwards(peer: Peer, start: Start, sleep: str) -> None:
    node = await start("udp", app=APP, settings=settings(sleep, awake_ms=500, backoff=2))
    await peer.more_readings(2)
    began = int(lines(node, "value.txt")[0] if lines(node, "value.txt") else (node.folder / "value.txt").read_text())
    peer.is_deaf = True
    async with asyncio.timeout(30):
        while int((node.folder / "value.txt").read_text() or 0) < began + 6:
            await peer.pause(0.2)
    peer.is_deaf = False
    count = int((node.folder / "value.txt").read_text())
    await peer.wait(lambda: len(peer.readings) >= count + 1, 40)
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    times = [at for _, _, at in peer.readings]
    assert times == sorted(times)
    # Taken while nobody was there, with the times at which they were.
    assert all(later - earlier <= 4000 for earlier, later in itertools.pairwise(times)), times


async def test_a_reset_in_the_middle_joins_and_loses_nothing_that_was_stored(peer: Peer, start: Start) -> None:
    node = await start("uart", app=APP, settings=settings(), options={"count": 2, "waits": True})
    luck = random.Random(3)
    for _ in range(5):
        await peer.more_readings(2)
        await peer.pause(luck.random() * 1.2)
        await node.restart()  # power, and with it what the chip retained
    await peer.more_readings(4)
    got = values(peer)
    assert got == sorted(set(got))
    stored = [int(line.split()[0]) for line in lines(node, "taken.txt")]
    assert set(stored) <= set(got) | set(range(max(got) + 1, max(got) + 10))
    assert 2 <= len(peer.joins) <= 6


async def test_mail_is_carried_out_once(peer: Peer, start: Start) -> None:
    """Sent again in another wake, because its result was lost: the result is repeated, the handler is not."""
    node = await start("udp", app=APP, settings=settings())
    results = Results(peer)
    await peer.joined()
    await peer.more_readings(1)
    results.send(70, "count", [5])
    await results.told(1)
    await peer.more_readings(2)
    told = len(results.got)  # more than once only if an ack was lost
    results.send(70, "count", [5], 2)
    await results.told(told + 1)
    assert all(result == [70, 0, 5] for result in results.got)
    assert lines(node, "executed.txt") == ["5 False"]
    assert len(peer.joins) == 1


async def test_a_handler_knows_that_it_was_interrupted_by_a_reset(peer: Peer, start: Start) -> None:
    node = await start("udp", app=APP, settings=settings(), options={"dies": True})
    results = Results(peer)
    await peer.joined()
    await peer.more_readings(1)
    results.send(71, "count", [1])
    await peer.joined(2)
    results.send(71, "count", [1], 2)
    await results.told(1)
    assert results.got[0] == [71, 0, 1]
    assert lines(node, "executed.txt") == ["1 False", "1 True"]


async def test_a_handler_that_takes_too_long_ends_with_the_wake(peer: Peer, start: Start) -> None:
    node = await start("udp", app=APP, settings=settings(awake_ms=1000))
    results = Results(peer)
    await peer.joined()
    await peer.more_readings(1)
    results.send(72, "slow", [60000])
    await peer.more_readings(2)
    results.send(72, "slow", [60000], 2)
    await results.told(1)
    assert results.got == [[72, 0, "done"]]
    assert lines(node, "executed.txt") == ["slow False", "slow True"]


@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_a_policy_holds_over_sleeps(peer: Peer, start: Start, sleep: str) -> None:
    await start("udp", app=APP, settings=settings(sleep))
    await peer.joined()
    await peer.more_readings(1)
    session = peer._current
    assert session is not None
    policy = Encoded(bytes((wire.POLICY,)) + cbor.encode([3, 0]))
    session.send(policy)
    await peer.wait(lambda: policy.is_done, 60)
    await peer.more_readings(4)
    times = [at for _, _, at in peer.readings[-4:]]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(pauses) >= 2800
    assert min(pauses) <= 4500, "a busy machine makes one longer, not all"


async def test_a_node_stays_awake_when_it_is_asked_to(peer: Peer, start: Start) -> None:
    await start("udp", app=APP, settings=settings())
    await peer.joined()
    await peer.more_readings(1)
    assert peer._current is not None
    # Longer than a busy machine takes for all of this. A POLICY that changes nothing asks for the ack.
    wanted = Encoded(bytes((wire.AWAKE, 60, wire.POLICY)) + cbor.encode([0, 0]))
    peer._current.send(wanted)
    await peer.wait(lambda: wanted.is_done, 60)
    taken = peer.taken
    for _ in range(3):  # it listens, for more than its period, without having been woken
        await peer.pause(0.8)
        assert (await peer.command("count", [1]))[0] == 0
    assert peer.taken == taken


@pytest.mark.parametrize("name", ["counters.bin", "session.bin", "notes.bin", "outbox.bin"])
async def test_garbage_in_what_was_retained_is_nothing(peer: Peer, start: Start, name: str) -> None:
    node = await start("uart", app=APP, settings=settings())
    await peer.more_readings(2)
    luck = random.Random(name)
    path = node.folder / name
    async with asyncio.timeout(20):
        while not node.is_asleep:
            await peer.pause(0.02)
    if path.exists():
        data = bytearray(path.read_bytes())
        data[luck.randrange(len(data))] ^= 1 << luck.randrange(8)
        path.write_bytes(bytes(data))
    await peer.more_readings(3)
    got = values(peer)
    assert got == sorted(set(got))
    assert len(peer.joins) <= 2


@pytest.mark.parametrize("sleep", ["deep", "light"])
async def test_work_that_never_ends_is_ended_by_the_budget_of_its_wake(peer: Peer, start: Start, sleep: str) -> None:
    await start("udp", app=APP, settings=settings(sleep, awake_ms=700), options={"hangs": True})
    await peer.more_readings(4)  # one a wake
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    assert len(peer.joins) == 1


async def test_the_body_of_a_wake_is_ended_by_its_budget_too(peer: Peer, start: Start) -> None:
    app = Path(__file__).parent / "bounded_app.py"
    node = await start("udp", app=app, settings=settings("light", awake_ms=700))
    await peer.more_readings(4)
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    assert len(lines(node, "wakes.txt")) >= 3
    assert node.resets_total == 0


@pytest.mark.parametrize("next_s", [-3, -0.5, 1e12], ids=["past", "just-past", "never"])
async def test_a_pause_that_cannot_be_is_told_as_one_that_can(start: Start, peer: Peer, next_s: float) -> None:
    """The time until something that is over is below zero; a record of it would spoil its frame, at each wake anew."""
    told: list[int] = []
    take = peer._take

    def also(record: Any) -> None:
        if isinstance(record, Record) and record.kind == wire.SLEEP:
            told.append(record.value >> 1)
        take(record)

    peer._take = also  # type: ignore[method-assign]
    node = await start("udp", app=APP, settings=settings("light"), options={"next_s": next_s, "waits": True})
    await peer.wait(lambda: len(values(peer)) >= (1 if next_s > 0 else 3) and bool(told))
    assert peer.dropped == {}
    assert node.resets_total == 0
    assert told[0] == (wire.MAX_PERIOD_S if next_s > 0 else 0)
