"""`machine.bootloader()` on an emulated Pico that runs: a new image without a hand on the board.

What is tested: MicroPython calls the ROM, and the ROM's own code leaves an entry of its loader in the watchdog's
scratch and has the watchdog reset the chip. What is NOT tested: that loader, whose drive needs a host of mass storage
that the emulator has not; from the reset to the new image in the flash it is `tests/emulated/pico.py` that acts. The
closing summary says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.closing_summary import LINE
from tests.flash import desk, steps

from . import rig
from .rig import NAME, EmulatedPico, Flashed

ROM_BYTES = 0x4000
RAM = range(0x20000000, 0x20042001)  # a stack grows down from where it is empty


@pytest.mark.timeout(1200)
def test_a_node_that_runs_gets_a_new_image_and_is_what_it_was(
    micropython: Path, flashed: Flashed, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    pico = EmulatedPico(tmp_path / "pico", flashed.after)
    with pico, desk.gateway(tmp_path, str(pico.port)) as config:
        rig.add(config, pico)
        before = rig.wait_for_join(config, "", flashed.device["firmware"])
        said = rig.put(config, *rig.image_words(micropython, pico.drive))
        assert list(said) == steps.NOTHING_TO_COPY
        assert "nothing to copy" in said["compared"]
        found = rig.device(config)
        assert (found["name"], found["firmware"]) == (NAME, before["firmware"])
        assert found["boot_count"] > before["boot_count"]
        where, entry, stack = pico.asked_for_loader()
        assert where < ROM_BYTES, "it is the ROM that has reset the chip"
        assert entry < ROM_BYTES, "and it is to start in the ROM"
        assert stack in RAM
    record_property(
        LINE, f"NOT TESTED on this chip: the ROM's own loader from its entry {entry:#06x} on (its USB drive)"
    )
