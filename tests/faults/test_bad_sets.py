"""Fragments that make no message, from a device with a key and a session."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from petiole import wire

from .insider import Insider
from .rig import Rig
from .waiting import until

ROUNDS = 60
MAX_GROWTH = 8 * 1024 * 1024  # what an allocator keeps; a set that were never forgotten would be as much in a minute
LONG = "." * 600  # in three fragments


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, hub_size=1)
    yield rig
    await rig.stop()


async def join(rig: Rig) -> Insider:
    key = secrets.token_bytes(16)
    await rig.gateway.ask("device.add", {"name": "insider", "key": key.hex()})
    insider = Insider(key, rig.gateway.settings.udp_port)
    insider.publish([1, 1, LONG])
    await until(lambda: insider.is_empty, "the insider is a node like others")
    return insider


async def dropped(rig: Rig, name: str) -> dict[str, int]:
    shown: dict[str, Any] = await rig.gateway.ask("device.show", {"name": name})
    return dict(shown["dropped"])


async def test_broken_sets_of_fragments_are_counted_and_harm_nobody(rig: Rig, report: Callable[[object], None]) -> None:
    await rig.start({"uart-1": "uart"})
    await rig.add_node("uart-1", "uart", seed=1)
    await rig.add_node("udp-1", "udp", seed=2)
    insider = await join(rig)
    try:
        await rig.accept(50)
        await insider.send_bad(ROUNDS // 3)
        resident = rig.gateway.resident_bytes()
        before = rig.accepted_total()
        await insider.send_bad(ROUNDS)
        during = rig.accepted_total() - before

        async def counted() -> bool:
            found = await dropped(rig, "insider")
            return all(found.get(reason, 0) >= count for reason, count in insider.reasons.items())

        await until(counted, f"all are counted: {dict(insider.reasons)}")
        growth = rig.gateway.resident_bytes() - resident
        # The sets that are still open are in nobody's way, not even in the device's own.
        insider.publish([1, 2, LONG], [1, 3, LONG])
        await until(lambda: insider.is_empty, "the insider's good readings are taken")
        await rig.accept_everywhere()
        found = {name: await dropped(rig, name) for name in ("insider", *rig.nodes)}
        verdict = await rig.verdict()
        taken = [entry.name for entry in await rig.stored() if entry.device == "insider"]
    finally:
        insider.close()
    report(
        f"{verdict}; {during} accepted meanwhile, {insider.truncated_total} sets left open, "
        f"dropped {found['insider']}; memory grew by {growth / 1024:.0f} KiB"
    )
    assert not verdict.problems, "\n".join(verdict.problems)
    assert {reason: found["insider"].get(reason) for reason in insider.reasons} == insider.reasons
    assert not found["uart-1"]
    assert not found["udp-1"]
    assert during > 0
    assert taken == [(1, 1), (1, 2), (1, 3)]
    assert growth < MAX_GROWTH
    assert not rig.gateway.said("task_failed")


@pytest.mark.soak
async def test_a_set_that_is_never_complete_is_forgotten_and_counted(rig: Rig) -> None:
    await rig.start()
    insider = await join(rig)
    try:
        await insider.send_truncated(200)
        await insider.send_truncated(201)

        async def forgotten() -> bool:
            return (await dropped(rig, "insider")).get("fragment_timeout") == 2

        took = await until(forgotten, "both are counted", timeout_s=wire.REASSEMBLY_MS / 1000 + 30)
        assert took > wire.REASSEMBLY_MS / 1000 - 2
    finally:
        insider.close()
