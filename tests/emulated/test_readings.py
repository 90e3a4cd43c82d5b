"""Readings of an emulated Pico through a real gateway to a real hub, and its power cut while it stores them."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from petiole_tools.requests import TIMEOUT_HEADER
from tests.faults.account import Stored
from tests.faults.rig import SITE, TIME_TOLERANCE_MS, Rig
from tests.faults.waiting import until

from . import rig
from .rig import JOIN_S, NAME, EmulatedPico, Flashed

FEW = 5
STORING = 30  # operations of the flash: some ten readings are stored by then
TORN = 7  # then the power goes in the middle of this one


def accepted(pico: EmulatedPico) -> list[tuple[int, int]]:
    """What `publish` has returned for, as far as the node could note it; the last line may be half of one."""
    lines = pico.read("/accepted.txt").decode().split("\n")[:-1]
    return [(int(boot), int(number)) for boot, number, *_ in map(str.split, lines)]


def now_ms() -> int:
    return int(time.time() * 1000)


def assert_once_and_in_order(found: list[Stored], behind_ms: int) -> None:
    """`behind_ms`: by how much the clock of the board was behind, at the most, when it noted when it measured."""
    for before, after in pairwise(found):
        assert before.name < after.name
        assert before.sequence < after.sequence
        assert before.at <= after.at + TIME_TOLERANCE_MS + behind_ms


@pytest.mark.timeout(1800)
async def test_what_was_stored_when_the_power_went_is_at_the_hub_once_and_in_order(
    counting: Flashed, tmp_path: Path
) -> None:
    pico = EmulatedPico(tmp_path / "pico", counting.after)
    site = Rig(tmp_path, hub_size=1)
    site.port(NAME).symlink_to(pico.port)
    try:
        await site.start({NAME: "console"})
        await site.gateway.ask("device.add", {"name": NAME, "key": rig.key(pico)})
        began = now_ms()
        pico.power_on()

        async def has(count: int) -> bool:
            return await site.hub_has() >= count

        await until(lambda: has(FEW), "the first readings are at the hub", timeout_s=JOIN_S, every_s=0.5)
        first, joined = await site.stored(), pico.lost_ms()
        assert all(began <= reading.at <= now_ms() for reading in first), "its own clock begins in 2021"
        assert_once_and_in_order(first, pico.lost_ms())

        reply = await site.hub_connection.client.request(
            f"dev.{SITE}.{NAME}.add", json.dumps([40, 2]).encode(), timeout=62, headers={TIMEOUT_HEADER: "60"}
        )
        assert json.loads(reply.data) == 42, reply

        await site.gateway.terminate()
        ended = now_ms()
        count = len(pico.operations()) + STORING
        await until(lambda: len(pico.operations()) > count, "readings are stored", timeout_s=JOIN_S, every_s=0.5)
        pico.cut_at(TORN)
        await until(lambda: not pico.has_power, "the power goes", timeout_s=JOIN_S)
        cut, behind = now_ms(), pico.lost_ms() - joined
        pico.power_off()
        told = accepted(pico)
        boot = told[-1][0]

        await site.gateway.start()
        again = now_ms()
        pico.power_on()

        async def is_back() -> bool:
            return (await site.stored())[-1].name > (boot, told[-1][1] + 1)

        await until(is_back, "readings of the next start are at the hub", timeout_s=JOIN_S, every_s=2)
        pico.power_off()
        found = await site.stored()
        assert_once_and_in_order(found, behind)
        names = [reading.name for reading in found]
        assert [name for name in told if name not in names] == []
        kept = [reading for reading in found if reading.name[0] == boot and reading.name not in {e.name for e in first}]
        assert len([reading for reading in kept if ended - behind <= reading.at <= cut]) > FEW
        assert all(began <= reading.at <= cut for reading in kept)
        assert all(again <= reading.at <= now_ms() for reading in found if reading.name[0] > boot)
    finally:
        pico.power_off()
        await site.stop()
