"""The gateway's clock is wrong, or is set by days, while nodes of the real firmware sleep: what is said of times."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.whole import SITE, World

from petiole_gateway.nats import mailbox_timer
from petiole_tools.sim.nodes import NodeSpec, SimNode

APP = Path(__file__).resolve().parents[1] / "node" / "wake_app.py"
DAY_MS = 86_400_000
CLOSE_MS = 1500  # a wake of a busy machine


class Pair:
    """A gateway, and a node that sleeps deeply."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.folder = folder
        self.node: SimNode

    async def begin(self, next_s: float, **settings: Any) -> None:
        key = secrets.token_bytes(16)
        await self.world.ask("device.add", {"name": "leaf", "key": key.hex()})
        values = {"period_s": 1, "sleep": "deep", "backoff": 1, **settings}
        options = {"next_s": next_s}
        spec = NodeSpec(
            "leaf", key, "udp", ("127.0.0.1", self.world.udp_port), app=APP, runtime="micropython", options=options,
            settings=values,
        )  # fmt: skip
        self.node = SimNode(spec, self.folder / "node")
        await self.node.start()

    def taken(self) -> dict[int, int]:
        """When each reading was taken, by a clock that is right."""
        path = self.node.folder / "taken.txt"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return {int(value): int(at) for value, _, at in rows}

    def last(self) -> int:
        return max(self.taken(), default=0)

    async def more_taken(self, number: int) -> None:
        before = self.last()
        async with asyncio.timeout(60):
            while self.last() < before + number:  # noqa: ASYNC110 - files say nothing
                await asyncio.sleep(0.05)

    async def brought(self, value: int) -> list[dict[str, Any]]:
        """Readings up to this one are in the stream, once and in order."""
        async with asyncio.timeout(60):
            while True:
                found = await self.world.documents()
                if found and found[-1]["value"] >= value:
                    break
                await asyncio.sleep(0.1)
        values = [document["value"] for document in found]
        assert values == sorted(set(values))
        return found

    def error_ms(self, document: dict[str, Any]) -> int:
        at = round(datetime.fromisoformat(document["at"]).timestamp() * 1000)
        return at - self.taken()[document["value"]]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path)
    made.world.trust_clock(True)
    await made.world.start()
    yield made
    await made.node.stop()
    print(*made.node.log, sep="\n")
    await made.world.end()


@pytest.mark.parametrize("days", [-3, 3])
@pytest.mark.parametrize("awake_ms", [1000, 3000])
async def test_readings_from_before_a_doubtful_clock_was_set_are_right_or_marked(
    pair: Pair, days: int, awake_ms: int
) -> None:
    """`awake_ms`: with 1 s retained memory has them, with 3 s flash; the node joins beside its session meanwhile."""
    world = pair.world
    world.clock_error_ms = days * DAY_MS
    world.trust_clock(False)
    await pair.begin(0.2, awake_ms=awake_ms)
    await pair.brought(2)
    pair.node.cut(True)
    await pair.more_taken(5)
    world.clock_error_ms = 0
    world.trust_clock(True)
    pair.node.cut(False)
    found = await pair.brought(pair.last() + 2)
    assert [document["value"] for document in found] == list(range(1, len(found) + 1))
    for document in found:
        if "clock" not in document:
            assert abs(pair.error_ms(document)) < CLOSE_MS, document
    assert [document.get("clock") for document in found[:2]] == ["unsynchronised"] * 2
    assert all(abs(pair.error_ms(document) - days * DAY_MS) < CLOSE_MS for document in found[:2])
    assert "clock" not in found[-1]


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_clock_that_jumps_by_a_day_ends_what_is_over_and_calls_nobody_offline(
    pair: Pair, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail ends by the date, whoever sets it; who is there is counted in seconds that pass."""
    monkeypatch.setattr(mailbox_timer, "MAX_WAIT_S", 0.2)
    world = pair.world
    seen: list[str] = []

    async def see(message: Any) -> None:
        seen.append(json.loads(message.data)["availability"])

    # Both commands in one wake, also when the machine stands still for a second.
    await pair.begin(2, awake_ms=3000)
    await pair.brought(1)
    await world.client.subscribe(f"event.{SITE}.leaf.availability", cb=see)
    await world.subscribed()
    hub = world.gateway.hub
    async with asyncio.timeout(20):
        while hub.state(hub.device("leaf")) != "asleep":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    pair.node.cut(True)
    for life_s in (3600, 3 * 86_400):
        receipt = await world.request(f"dev.{SITE}.leaf.count", [life_s], Petiole_Queue=str(life_s))
        assert json.loads(receipt.data)["availability"] == "asleep"
    world.clock_error_ms = days * DAY_MS
    if days > 0:
        async with asyncio.timeout(10):
            while world.waiting("leaf") > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    pair.node.cut(False)
    found = await pair.brought(pair.last() + 2)
    assert [document["value"] for document in found] == list(range(1, len(found) + 1))
    ran = (pair.node.folder / "executed.txt").read_text().splitlines()
    assert ran == (["259200 False"] if days > 0 else ["3600 False", "259200 False"])
    assert "offline" not in seen
    for document in found:
        error = pair.error_ms(document)
        assert min(abs(error), abs(error - days * DAY_MS)) < CLOSE_MS, document
        assert "clock" not in document
    assert abs(pair.error_ms(found[-1]) - days * DAY_MS) < CLOSE_MS


async def test_who_joins_is_told_the_time_of_a_clock_that_was_set_back(pair: Pair) -> None:
    """Times of accepts only rise, so the next one is a day ahead. The node asks, and flash has the right times."""
    world = pair.world
    world.clock_error_ms = DAY_MS
    await pair.begin(0.2, awake_ms=3000)
    await pair.brought(1)
    world.clock_error_ms = 0
    await pair.node.restart()  # its power is cut: it joins
    await pair.more_taken(2)
    first = pair.last()
    await pair.brought(first)
    pair.node.cut(True)
    await pair.more_taken(3)
    await pair.node.restart()  # of these, the last one was in RAM
    pair.node.cut(False)
    found = [document for document in await pair.brought(pair.last() + 1) if document["value"] >= first]
    assert {first, first + 1, first + 2} <= {document["value"] for document in found}
    for document in found:
        assert abs(pair.error_ms(document)) < CLOSE_MS, document
