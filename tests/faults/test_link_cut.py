"""The site's line to the hub is away for long: a backlog."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .rig import Rig
from .waiting import until

NODES = {"uart-1": "uart", "console-1": "console", "udp-1": "udp", "udp-2": "udp"}
# 5 s until the hub asks the leaf again, and what a busy machine adds.
CAUGHT_UP_S = 30


async def run(rig: Rig, kind: str, seconds: float, report: Callable[[object], None]) -> None:
    await rig.start({name: kind for name, kind in NODES.items() if kind != "udp"})
    for number, (name, node_kind) in enumerate(NODES.items()):
        await rig.add_node(name, node_kind, seed=number)
    await rig.accept(200)
    await rig.catch_up()
    getattr(rig.proxy, kind)()
    began = time.monotonic()
    before = rig.accepted_total()
    await until(lambda: time.monotonic() - began > seconds, "the line is away", timeout_s=seconds + 1)
    backlog = rig.accepted_total() - before
    assert await rig.hub_has() < rig.accepted_total()
    rig.proxy.restore()
    took = await rig.catch_up()
    verdict = await rig.verdict()
    report(f"{verdict}; away for {seconds:g} s, {backlog} readings behind, caught up in {took:.1f} s")
    assert not verdict.problems, "\n".join(verdict.problems)
    assert backlog > 10 * seconds  # nodes do not notice
    assert took < CAUGHT_UP_S


@pytest.mark.parametrize("kind", ["cut", "freeze"])
async def test_the_hub_catches_up_within_seconds_after_its_line_was_away(
    rig: Rig, kind: str, report: Callable[[object], None]
) -> None:
    await run(rig, kind, 8, report)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["cut", "freeze"])
async def test_the_hub_catches_up_within_seconds_after_its_line_was_away_for_long(
    rig: Rig, kind: str, report: Callable[[object], None]
) -> None:
    await run(rig, kind, 60, report)
