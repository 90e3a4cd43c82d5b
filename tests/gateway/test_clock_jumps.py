"""The gateway's clock is set by a day, either way: what is counted in time goes on, what is dated keeps to the date."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest

from petiole_gateway.hub.mailbox import Mailbox
from petiole_gateway.hub.mailbox_item import Change, Item
from petiole_gateway.nats.mailbox_timer import MAX_WAIT_S, DeadlineTimer

from .memory import WALL, MemoryLink, MemoryRecords, Site, until, with_site
from .sleepers import PERIOD_S, sleeper
from .virtual_time import now_ms, run

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
JUMPS = (-DAY_MS, DAY_MS)


def moment_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize("jump_ms", JUMPS)
@with_site
async def test_who_is_there_is_counted_and_not_dated(site: Site, jump_ms: int) -> None:
    node = await sleeper(site, "a", MemoryLink())
    device = site.hub.device("a")
    await asyncio.sleep(10)
    site.clock_error_ms = jump_ms
    assert site.hub.state(device) == "asleep"
    wake_ms = moment_ms(site.hub.presences.document(device)["next_wake_at"]) - (WALL + now_ms() + jump_ms)
    assert (PERIOD_S - 30) * 1000 < wake_ms <= PERIOD_S * 1000
    await asyncio.sleep(PERIOD_S)
    assert site.hub.state(device) == "asleep", "a tenth of its period is grace"
    await asyncio.sleep(PERIOD_S / 5)
    assert site.hub.state(device) == "overdue"
    await node.cycle(1.0)
    assert site.hub.state(device) == "asleep"
    assert node.endpoint.joins_total == 1
    assert site.uplinks.numbers("a") == [1]


@pytest.mark.parametrize("jump_ms", JUMPS)
@with_site
async def test_over_a_restart_a_sleeper_is_asleep_whatever_the_date(site: Site, jump_ms: int) -> None:
    node = await sleeper(site, "a", MemoryLink())
    await asyncio.sleep(10)
    site.clock_error_ms = jump_ms
    await site.restart()
    device = site.hub.device("a")
    assert site.hub.state(device) == "asleep"
    await asyncio.sleep(1.3 * PERIOD_S)
    assert site.hub.state(device) == "overdue"
    await node.cycle(1.0)
    assert site.hub.state(device) == "asleep"
    assert node.endpoint.joins_total == 1


@pytest.mark.parametrize("jump_ms", JUMPS)
@with_site
async def test_a_newer_wish_wins_also_when_its_date_is_older(site: Site, jump_ms: int) -> None:
    kept = MemoryRecords()
    site.options["wake_policies"] = kept
    await site.restart()
    node = await sleeper(site, "a", MemoryLink())
    await site.hub.wake_policies.ask(site.hub.device("a"), period_s=1200)
    site.clock_error_ms = jump_ms
    await site.hub.wake_policies.ask(site.hub.device("a"), period_s=60)
    await site.restart()
    await node.cycle(1.0)
    await until(lambda: node.count("policy"))
    assert node.period_s == 60


@with_site
async def test_a_time_that_a_node_gives_is_no_better_than_the_clock_that_it_was_told(site: Site) -> None:
    """Long readings carry times, so a clock that was set since is in none of them; ages are by the one there is."""
    doubtful = [True]
    site.options["is_clock_doubtful"] = lambda: doubtful[0]
    await site.restart()
    node = await site.node("a", MemoryLink())
    await asyncio.sleep(5)
    site.clock_error_ms = DAY_MS
    doubtful[0] = False
    node.publish(1, "x" * 400)
    await until(lambda: node.is_empty)
    node.endpoint.ask_time(now_ms())
    node.pump()
    await asyncio.sleep(1)
    node.publish("y" * 400)
    await until(lambda: node.is_empty)
    documents = [json.loads(payload) for *_, payload in site.uplinks.stored]
    assert [document.get("clock") for document in documents] == [None, "unsynchronised", None]
    wrong = [moment_ms(document["at"]) - WALL - now_ms() - DAY_MS for document in documents]
    assert abs(wrong[0]) < 5000
    assert abs(wrong[1] + DAY_MS) < 5000
    assert abs(wrong[2]) < 5000


class Timed:
    """A mailbox with its timer, and a clock that can be set."""

    def __init__(self) -> None:
        self.error_ms = 0
        self.mailbox = Mailbox()
        self.ended: dict[str, tuple[str, float]] = {}
        self.timer = DeadlineTimer(self.mailbox, self.wall, self._apply)

    def wall(self) -> int:
        return WALL + now_ms() + self.error_ms

    def _apply(self, changes: Any) -> None:
        for change in changes:
            assert isinstance(change, Change)
            self.ended[change.item.id] = (change.state, asyncio.get_running_loop().time())

    def add(self, id: str, life_ms: int) -> None:
        now = self.wall()
        item = Item(id, "a", "led", b"", expires_at=now + life_ms, queued_at=now, sources=[("hub", len(self.mailbox))])
        self.mailbox.add(item, now)
        self.timer.arm()


def test_a_clock_that_is_set_forward_ends_what_is_over_and_nothing_else() -> None:
    async def main() -> None:
        timed = Timed()
        timed.add("hours", 5 * HOUR_MS)
        timed.add("days", 3 * DAY_MS)
        await asyncio.sleep(60)
        set_at = asyncio.get_running_loop().time()
        timed.error_ms = DAY_MS
        await asyncio.sleep(MAX_WAIT_S + 1)
        assert list(timed.ended) == ["hours"]
        assert timed.ended["hours"][0] == "expired"
        assert timed.ended["hours"][1] - set_at <= MAX_WAIT_S
        await asyncio.sleep(2 * DAY_MS / 1000)
        assert timed.ended["days"][0] == "expired"

    run(main())


def test_a_clock_that_is_set_back_ends_nothing_early() -> None:
    async def main() -> None:
        timed = Timed()
        timed.add("hour", HOUR_MS)
        await asyncio.sleep(60)
        timed.error_ms = -DAY_MS
        await asyncio.sleep(2 * HOUR_MS / 1000)
        assert timed.ended == {}, "by its sender's clock it is not over yet"
        timed.error_ms = 0
        await asyncio.sleep(MAX_WAIT_S + 1)
        assert timed.ended["hour"][0] == "expired"

    run(main())
