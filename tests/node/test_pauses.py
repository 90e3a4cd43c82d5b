"""How long a node sleeps, to the millisecond: the wake cycle on a board whose clock moves when it is told to."""

import itertools
from typing import Any

import pytest

from petiole import manifest
from petiole.endpoint import NodeEndpoint
from petiole.join import Joiner
from petiole.outbox import Outbox
from petiole_gateway.aead import AesCcm
from petiole_node.carrier import Carrier
from petiole_node.cycle import Cycle
from petiole_node.execution import Execution

PERIOD_MS = 60_000
BUDGET_MS = 500


class Asleep(BaseException):
    """The board has stopped."""


class Bed:
    """A board and its sleeper. `pauses`: what was slept, ms."""

    session = None
    keeps_clock = is_continued = False
    flash_deafens_uart = False
    woke = 0

    def __init__(self) -> None:
        self.ms = 1000
        self.pauses: list[int] = []
        self.notes: Any = self

    def now(self) -> int:
        return self.ms

    def sleeper(self) -> "Bed":
        return self

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        """Of notes."""

    def sleep(self, ms: int) -> None:
        self.pauses.append(ms)
        self.ms += ms

    def deep_sleep(self, ms: int, counters: bytes | None) -> None:
        self.pauses.append(ms)
        raise Asleep


class Cycles:
    """The cycle of a node without a link. Its application works for a while, and then the budget is used up."""

    def __init__(self, sleep: str = "light", backoff: int = 4) -> None:
        self.bed = Bed()
        port: Any = self.bed
        self.cycle = Cycle(port, {"awake_ms": BUDGET_MS, "sleep": sleep, "backoff": backoff}, PERIOD_MS / 1000)
        self.endpoint = NodeEndpoint(
            Joiner(AesCcm, bytes(16)), bytes, manifest.encode("1", [], [], [1, 60]), Outbox(4, 1)
        )
        carrier = Carrier(self.endpoint, [], port, lambda event: None, lambda level, text: None)
        execution = Execution(self.endpoint, {}, port, carrier.wake, lambda reason: None, lambda level, text: None)
        self.cycle.attach(self.endpoint, carrier, execution, None)
        wake = carrier.wake

        def speak() -> None:
            wake()
            self.bed.ms += BUDGET_MS

        carrier.wake = speak  # type: ignore[method-assign]

    async def wake(self, works_ms: int = 0, *, is_heard: bool = True, next_s: float | None = None) -> int:
        """One wake. When it began."""
        began = self.bed.ms
        async with self.cycle as wake:
            self.bed.ms += works_ms
            wake.next_s = next_s
            self.endpoint.joins_total += is_heard
        return began


async def test_wakes_begin_a_period_apart_however_long_each_takes() -> None:
    cycles = Cycles()
    began = [await cycles.wake(works_ms) for works_ms in (0, 7, 3000, 45_678, 0)]
    assert began == [1000 + number * PERIOD_MS for number in range(5)]


async def test_a_deep_sleep_lasts_until_the_next_period() -> None:
    cycles = Cycles("deep")
    with pytest.raises(Asleep):
        await cycles.wake(3000)
    assert cycles.bed.pauses == [PERIOD_MS - 3000 - BUDGET_MS]


@pytest.mark.parametrize("over_ms", [-1, 0, 1, 90_000])
async def test_a_wake_that_takes_its_whole_period_is_followed_by_a_pause_all_the_same(over_ms: int) -> None:
    cycles = Cycles()
    await cycles.wake(PERIOD_MS - BUDGET_MS + over_ms)
    assert cycles.bed.pauses == [100]


@pytest.mark.parametrize("backoff", [1, 4, 6])
async def test_a_gateway_that_is_away_is_looked_for_less_and_less_often(backoff: int) -> None:
    cycles = Cycles(backoff=backoff)
    began = [await cycles.wake(number, is_heard=number in {0, 7}) for number in range(10)]
    periods = [(later - earlier) / PERIOD_MS for earlier, later in itertools.pairwise(began)]
    assert periods == [min(factor, backoff) for factor in (1, 1, 2, 4, 8, 16, 32, 1, 1)]


async def test_the_pause_that_the_application_wants_is_the_pause() -> None:
    cycles = Cycles()
    for next_s in (30, 0.25, 0, -5):
        await cycles.wake(2000, next_s=next_s)
    assert cycles.bed.pauses == [30_000, 250, 100, 100]


async def test_the_gateway_may_want_another_period() -> None:
    cycles = Cycles()
    cycles.cycle.hear(("policy", 90, 0))
    began = [await cycles.wake(works_ms) for works_ms in (10, 500)]
    cycles.cycle.hear(("policy", 0, 0))  # as it was
    began += [await cycles.wake() for _ in range(2)]
    assert began == [1000, 91_000, 181_000, 241_000]
