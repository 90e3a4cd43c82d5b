"""The promise, with everything failing in between."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from petiole_tools.sim.impairment import Impairment

from .chaos import KINDS, Chaos, schedule
from .rig import Rig

NODES = {"uart-1": "uart", "console-1": "console", "udp-1": "udp", "udp-2": "udp"}
# Bytes are corrupted, frames lost and doubled; datagrams overtake each other.
BAD = Impairment(loss=0.05, duplicate=0.05, reorder=0.1, corrupt=0.03, delay_ms=2, jitter_ms=10, reorder_ms=120)
# USB, which carries a console, corrects its errors; a byte that noise makes a Ctrl-C ends in the REPL, as it has to.
BAD_CONSOLE = dataclasses.replace(BAD, corrupt=0)
# An SD card: for most of the time there is something that the leaf has and its disk has not.
FLUSH_S = 0.03


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, flush_s=FLUSH_S)
    yield rig
    await rig.stop()


async def run(rig: Rig, seed: int, total: int, report: Callable[[object], None], extra: int = 0) -> None:
    began = time.monotonic()
    await rig.start({name: kind for name, kind in NODES.items() if kind != "udp"})
    for number, (name, kind) in enumerate(NODES.items()):
        bad = BAD_CONSOLE if kind == "console" else BAD
        await rig.add_node(name, kind, impairment=bad, seed=100 * seed + number)
    started = time.monotonic()
    chaos = Chaos(rig, schedule(seed, total, extra))
    await chaos.run(total)
    await rig.accept_everywhere()
    ran = time.monotonic()
    resets = sum(node.resets_total for node in rig.nodes.values())
    verdict = await rig.verdict()
    report(
        f"{verdict}; {chaos}; nodes reset {resets} times by themselves; {started - began:.0f} s start, "
        f"{ran - started:.0f} s run, {time.monotonic() - ran:.0f} s verification"
    )
    assert not verdict.problems, "\n".join(verdict.problems)
    assert verdict.accepted >= total
    assert set(chaos.injected) == set(KINDS)


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_accepted_reading_is_at_the_hub_once_and_in_order(
    rig: Rig, seed: int, report: Callable[[object], None]
) -> None:
    await run(rig, seed, 1500, report, extra=2)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3, 11))
async def test_every_accepted_reading_is_at_the_hub_once_and_in_order_for_long(
    rig: Rig, seed: int, report: Callable[[object], None]
) -> None:
    await run(rig, seed, 8000, report, extra=24)
