"""An image with the firmware frozen into it, as boards/README.md has it built: three files make a node of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.waiting import until

from . import rig
from .rig import JOIN_S, NAME, EmulatedPico

FEW = 5


@pytest.mark.timeout(1200)
async def test_a_node_of_an_image_with_the_firmware_joins_and_delivers(frozen: bytes, tmp_path: Path) -> None:
    pico = EmulatedPico(tmp_path / "pico", frozen)
    site = Rig(tmp_path, hub_size=1)
    site.port(NAME).symlink_to(pico.port)
    try:
        await site.start({NAME: "console"})
        await site.gateway.ask("device.add", {"name": NAME, "key": rig.key(pico)})
        began = int(time.time() * 1000)
        pico.power_on()

        async def has_few() -> bool:
            return await site.hub_has() >= FEW

        await until(has_few, "the first readings are at the hub", timeout_s=JOIN_S, every_s=0.5)
        found = await site.stored()
        assert [joined["device"] for joined in site.gateway.said("device_joined")] == [NAME]
        assert [reading.name for reading in found] == [(1, number) for number in range(1, len(found) + 1)]
        assert all(began <= reading.at <= int(time.time() * 1000) for reading in found), "its own clock begins in 2021"
        # Neither slots nor firmware: what runs is what is in the image.
        assert not any(pico.read(path) for path in ("/slots.st", "/a/manifest.txt", "/petiole_node/__init__.mpy"))
    finally:
        pico.power_off()
        await site.stop()
