"""Deep sleep of an emulated Pico: its watchdog's reset and scratch are the emulator's, the cycle is the firmware's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.waiting import until

from . import rig
from .rig import JOIN_S, NAME, EmulatedPico, Flashed

WAKES = 4


@pytest.mark.timeout(1800)
async def test_a_wake_from_deep_sleep_goes_on_with_the_session(sleeping: Flashed, tmp_path: Path) -> None:
    pico = EmulatedPico(tmp_path / "pico", sleeping.after)
    site = Rig(tmp_path, hub_size=1)
    site.port(NAME).symlink_to(pico.port)
    try:
        await site.start({NAME: "console"})
        await site.gateway.ask("device.add", {"name": NAME, "key": rig.key(pico)})
        pico.power_on()

        async def has(count: int) -> bool:
            return await site.hub_has() >= count

        await until(lambda: has(1), "the first wake", timeout_s=JOIN_S, every_s=0.5)
        joins = len(site.gateway.said("device_joined"))
        await until(lambda: has(1 + WAKES), "more wakes", timeout_s=WAKES * JOIN_S, every_s=0.5)
        assert len(site.gateway.said("device_joined")) == joins
        assert site.gateway.said("device_joined")[-1]["device"] == NAME
        numbers = [reading.name[1] for reading in await site.stored()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "each wake is a start of the chip"
        times = [reading.at for reading in await site.stored()]
        assert times == sorted(times)
    finally:
        pico.power_off()
        await site.stop()
