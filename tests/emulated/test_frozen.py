"""An image with the firmware frozen into it, as boards/README.md has it built: three files make a node of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.rig import COUNTING, Rig
from tests.faults.waiting import until
from tests.flash import desk, steps

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


@pytest.mark.timeout(1200)
def test_a_flash_brings_the_application_only(frozen_image: Path, emulator: None, tmp_path: Path) -> None:
    with EmulatedPico(tmp_path / "pico") as pico, desk.gateway(tmp_path, str(pico.port)) as config:
        words = ("--app", str(COUNTING), *rig.image_words(frozen_image, pico.drive))
        flashed = rig.flash(pico, config, "--name", NAME, *words)
    assert list(flashed.steps) == steps.WITH_IMAGE
    assert "which has the firmware in it" in flashed.steps["found"]
    assert "1 file to send for slot a" in flashed.steps["compared"]
    assert (flashed.device["state"], flashed.device["firmware"]) == ("online", "count-1")
    assert pico.read("/a/app.mpy")
    assert not any(pico.read(path) for path in ("/petiole_boot.mpy", "/a/petiole_node/__init__.mpy"))
