"""A wake without memory: it ends in its sleep all the same, with everything kept."""

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


class Asleep(BaseException):
    """The board has stopped."""


class Bed:
    """A board, its sleeper and its store; `failures` says how often each step finds no memory."""

    session = None
    reserves_used = 0
    keeps_clock = is_continued = False
    woke = 0
    flash_deafens_uart = False

    def __init__(self, failures: dict[str, int]) -> None:
        self.failures = failures
        self.done: list[str] = []
        self.notes: Any = self
        self.passed = 0

    def _step(self, name: str) -> None:
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            raise MemoryError
        self.done.append(name)

    def use_reserve(self) -> None:
        self.reserves_used += 1

    def now(self) -> int:
        self.passed += 10
        return self.passed

    def sleeper(self) -> "Bed":
        return self

    def fill(self) -> None:
        self._step("fill")

    def flush(self, is_sleep: bool) -> bool:
        assert is_sleep
        self._step("flush")
        return True

    def read(self) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        self._step("notes")

    def deep_sleep(self, ms: int, counters: bytes | None) -> None:
        self._step("sleep")
        raise Asleep


async def _wake(bed: Bed) -> None:
    port: Any = bed
    cycle = Cycle(port, {"awake_ms": 500, "sleep": "deep", "backoff": 4}, 60)
    data = manifest.encode("1", [], [], [1, 60])
    joiner = Joiner(AesCcm, bytes(16))
    endpoint = NodeEndpoint(joiner, bytes, data, Outbox(4, 1))
    carrier = Carrier(endpoint, [], port, lambda event: None, lambda level, text: None)
    execution = Execution(endpoint, {}, port, carrier.wake, lambda reason: None, lambda level, text: None)
    cycle.attach(endpoint, carrier, execution, port)
    async with cycle as wake:
        wake.next_s = 30


@pytest.mark.parametrize("step", ["fill", "flush", "notes", "sleep"])
async def test_a_wake_that_finds_no_memory_ends_in_its_sleep_with_all_readings_kept(step: str) -> None:
    bed = Bed({step: 19})
    with pytest.raises(Asleep):
        await _wake(bed)
    assert bed.done[0] == "fill"
    assert bed.done[-3:] == ["flush", "notes", "sleep"]
    assert bed.reserves_used == 19


async def test_a_node_that_can_never_sleep_is_reset() -> None:
    with pytest.raises(MemoryError):
        await _wake(Bed({"flush": 400}))
