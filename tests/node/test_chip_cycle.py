"""The sleep cycle of the whole firmware on models of an ESP32 (Wi-Fi) and an RP2 (serial), from wake to wake."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from petiole import cbor, wire
from petiole.items import Encoded
from petiole.records import Record
from petiole_tools.sim.nodes import NodeSpec

from .board import Board
from .chip_node import ChipNode
from .conftest import KEY
from .peer import Peer

APP = Path(__file__).parent / "wake_app.py"
DAY = 86_400_000
CHIPS = ("esp32", "rp2")
LINKS = {"esp32": "udp", "rp2": "uart"}

Begin = Callable[..., Awaitable[ChipNode]]


@pytest.fixture
async def begin(peer: Peer, tmp_path: Path) -> AsyncIterator[Begin]:
    made: list[ChipNode] = []

    async def start(chip: str, options: dict[str, Any] | None = None, **settings: Any) -> ChipNode:
        values = {"period_s": 1, "awake_ms": 4000, "folder": "/flash", "watchdog_s": 8, **settings}
        gateway = peer.udp().address
        spec = NodeSpec("leaf", KEY, LINKS[chip], gateway, app=APP, options=options or {}, settings=values)
        node = ChipNode(chip, spec, tmp_path / f"node{len(made)}")
        made.append(node)
        await node.start()
        if LINKS[chip] == "uart":
            assert node.path is not None
            peer.serial(node.path, "uart")
        return node

    yield start
    for node in made:
        await node.stop()
        print(node.ends, *node.log, sep="\n  ")
    print(peer.dropped)


def values(peer: Peer) -> list[int]:
    return [value for _, value, _ in peer.readings]


def taken(node: ChipNode) -> dict[int, tuple[bool, int]]:
    """Of each value whose `publish` returned: whether it was stored, and when it was taken."""
    path = node.folder / "taken.txt"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {int(value): (stored == "1", int(at)) for value, stored, at in rows}


def executed(node: ChipNode) -> list[str]:
    path = node.folder / "executed.txt"
    return path.read_text().splitlines() if path.exists() else []


def check(peer: Peer, node: ChipNode, within_ms: int = 1500) -> None:
    """Once, in order, with the time at which each was taken."""
    got = values(peer)
    assert got == sorted(set(got))
    known = taken(node)
    wrong = [(value, at - known[value][1]) for _, value, at in peer.readings if value in known]
    assert all(abs(error) <= within_ms for _, error in wrong), wrong


class Mail:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.results: list[list[Any]] = []
        take = peer._take

        def also(record: Any) -> None:
            if isinstance(record, Record) and record.kind == wire.MAIL_RESULT:
                self.results.append(list(record.value))
            take(record)

        peer._take = also  # type: ignore[method-assign]

    def send(self, item: int, name: str, arguments: list[Any], attempt: int = 1) -> None:
        number = next(entry[0] for entry in self.peer.manifest["cmd"] if entry[1] == name)
        record = [item, number, arguments] if attempt == 1 else [item, number, arguments, attempt]
        session = self.peer._current
        assert session is not None
        session.send(Encoded(bytes((wire.MAIL,)) + cbor.encode(record)))
        session.is_suspended = True  # until the node is heard


@pytest.mark.parametrize("chip", CHIPS)
async def test_a_wake_is_one_frame_and_no_join(peer: Peer, begin: Begin, chip: str) -> None:
    node = await begin(chip)
    await peer.more_readings(2)
    frames = peer.frames_total
    await peer.more_readings(3)
    assert peer.frames_total == frames + 3
    assert len(peer.joins) == 1
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    assert set(node.ends) == {"deepsleep" if chip == "esp32" else "reset"}
    check(peer, node)


@pytest.mark.parametrize("chip", CHIPS)
async def test_readings_from_before_the_first_join_have_the_right_times(peer: Peer, begin: Begin, chip: str) -> None:
    """The clock of the chip begins in 2021, or in an epoch of 2000, and nobody has told another."""
    peer.is_deaf = True
    node = await begin(chip, awake_ms=1000, backoff=1)
    async with asyncio.timeout(30):
        while len(taken(node)) < 3:
            await peer.pause(0.1)
    peer.is_deaf = False
    await peer.more_readings(5, 40)
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    check(peer, node)


@pytest.mark.parametrize("chip", CHIPS)
async def test_a_gateway_that_is_away_makes_it_sleep_longer_and_lose_nothing(
    peer: Peer, begin: Begin, chip: str
) -> None:
    node = await begin(chip, awake_ms=1000, backoff=4)
    await peer.more_readings(2)
    peer.is_deaf = True
    before = len(taken(node))
    async with asyncio.timeout(40):
        while len(taken(node)) < before + 5:
            await peer.pause(0.1)
    peer.is_deaf = False
    await peer.more_readings(5, 40)
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    times = [at for _, at in sorted(taken(node).values())][before:]
    pauses = [later - earlier for earlier, later in itertools.pairwise(sorted(at for _, at in taken(node).values()))]
    assert max(pauses) >= 3500, (times, pauses)  # 1, 1, 2, 4 periods
    check(peer, node)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_reset_at_any_moment_loses_nothing_that_was_stored(
    peer: Peer, begin: Begin, chip: str, seed: int
) -> None:
    luck = random.Random(f"{chip} {seed}")
    node = await begin(chip, {"count": 2, "next_s": 0.3, "waits": True})
    mail = Mail(peer)
    await peer.joined()
    await peer.more_readings(2)
    strikes = 5
    for attempt in range(1, strikes + 1):
        lives = len(node.ends)
        mail.send(70, "count", [1], attempt)
        await peer.pause(luck.random())
        node.strike("watchdog" if chip == "esp32" else luck.choice(["watchdog", "power"]))
        async with asyncio.timeout(20):
            while len(node.ends) == lives:
                await peer.pause(0.02)
        await peer.more_readings(2)
    await peer.more_readings(4)
    got = values(peer)
    stored = [value for value, (is_stored, _) in taken(node).items() if is_stored and value <= got[-1]]
    assert set(stored) <= set(got)
    assert executed(node).count("1 False") <= 1
    assert 1 <= len(peer.joins) <= strikes + 1
    check(peer, node)


@pytest.mark.parametrize("days", [1, -1])
async def test_a_clock_that_jumps_by_a_day_says_nothing_wrong(peer: Peer, begin: Begin, days: int) -> None:
    node = await begin("esp32", awake_ms=1000, backoff=1)
    await peer.more_readings(2)
    peer.is_deaf = True  # so that readings are taken before a jump and sent after it

    def jump(board: Board) -> None:
        board.state["wall_ms"] += days * DAY

    node.between = jump
    before = len(taken(node))
    async with asyncio.timeout(30):
        while len(taken(node)) < before + 2:
            await peer.pause(0.05)
    peer.is_deaf = False
    await peer.more_readings(4)
    assert len(peer.joins) == 1
    assert values(peer) == list(range(1, len(peer.readings) + 1))
    check(peer, node)


@pytest.mark.parametrize("chip", CHIPS)
async def test_garbage_in_retained_memory_costs_a_join(peer: Peer, begin: Begin, chip: str) -> None:
    luck = random.Random(chip)
    node = await begin(chip, {"next_s": 0.2})
    await peer.more_readings(2)

    def spoil(board: Board) -> None:
        if board.state["cause"] != 1 and luck.random() < 0.6:
            if chip == "esp32":
                board.state["rtc"] = luck.randbytes(2048).hex()
            else:
                board.state["scratch"] = [luck.getrandbits(32) for _ in range(8)]

    node.between = spoil
    await peer.more_readings(6, 60)
    node.between = None
    await peer.more_readings(2)
    assert 2 <= len(peer.joins) <= 9
    check(peer, node)


async def test_a_handler_that_hangs_is_ended_by_the_watchdog_and_comes_again(peer: Peer, begin: Begin) -> None:
    node = await begin("esp32", watchdog_s=2)
    mail = Mail(peer)
    await peer.joined()
    await peer.more_readings(1)
    mail.send(71, "hang", [])
    await peer.joined(2)
    assert node.ends[-1] == "watchdog"
    mail.send(71, "hang", [], 2)
    await peer.wait(lambda: bool(mail.results))
    assert mail.results[0] == [71, 0, "done"]
    assert executed(node) == ["hang False", "hang True"]
    check(peer, node)
