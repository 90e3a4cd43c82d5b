"""The sleep cycle of the whole firmware on models of an ESP32 (Wi-Fi) and an RP2 (serial), from wake to wake."""

import asyncio
import itertools
import random

import pytest

from .board import Board
from .conftest import KEY
from .peer import Peer, Place
from .wake_rig import CHIPS, Begin, Mail, check, executed, taken, values

DAY = 86_400_000


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
async def test_a_wake_that_is_answered_writes_no_flash(peer: Peer, begin: Begin, chip: str) -> None:
    """Nor does it skip numbers, which would have to be told in each wake."""
    node = await begin(chip, {"next_s": 0.2})
    await peer.more_readings(3)
    operations = node.board.state["operations"]
    taken_total = peer.taken
    await peer.more_readings(6)
    assert node.board.state["operations"] == operations
    assert peer.taken <= taken_total + 7
    assert len(peer.joins) == 1
    check(peer, node)


@pytest.mark.parametrize("chip", CHIPS)
async def test_a_node_that_has_nothing_to_say_at_first_knows_its_numbers_later(
    peer: Peer, begin: Begin, chip: str
) -> None:
    """The number after which to begin was told in the join, and two wakes later it is still known."""
    peer.taken = peer.durable = 500
    node = await begin(chip, {"next_s": 0.2, "count": 0})
    await peer.joined()

    def speak(board: Board) -> None:
        if len(node.ends) == 2:
            (node.folder / "sim.json").write_text('{"next_s": 0.2, "count": 1}')

    node.between = speak
    await peer.more_readings(4)
    assert values(peer)[:4] == [1, 2, 3, 4]
    assert len(peer.joins) == 1
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


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_node_that_two_gateways_hear_stays_with_one(peer: Peer, begin: Begin, seed: int) -> None:
    """Both answer its join, and the one that it did not take rejects each frame, sooner or later than the ack."""
    luck = random.Random(seed)
    other = Peer(KEY, seed + 1)
    loop = asyncio.get_running_loop()
    receive = peer.receive

    def hear(frame: bytes, place: Place) -> None:
        for take in (receive, other.receive):
            loop.call_later(luck.uniform(0, 0.02), take, frame, place)

    peer.receive = hear  # type: ignore[method-assign]
    node = await begin("esp32", {"next_s": 0.2})
    await other.wait(lambda: len(peer.readings) + len(other.readings) >= 4)
    both = sorted((peer, other), key=lambda one: len(one.readings))
    assert not both[0].readings
    assert both[0].rejects_total
    node.strike("watchdog")  # it has no session, and joins again
    await other.wait(lambda: len(peer.joins) + len(other.joins) == 2)
    joined = [len(one.joins) for one in (peer, other)]
    got = [len(one.readings) for one in (peer, other)]
    await other.wait(lambda: len(peer.readings) + len(other.readings) >= sum(got) + 5)
    assert [len(one.joins) for one in (peer, other)] == joined
    assert min(len(one.readings) - before for one, before in zip((peer, other), got, strict=True)) == 0
    for one in (peer, other):
        check(one, node)
    other.close()


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
    await peer.wait(lambda: bool(mail.results))
    assert mail.results[0] == [71, 0, "done"]
    assert executed(node) == ["hang False", "hang True"]
    check(peer, node)
