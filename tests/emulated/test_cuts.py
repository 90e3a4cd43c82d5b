"""Power that goes while an emulated Pico is flashed: whatever moment it is, one whole slot starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.rig import COUNTING
from tests.flash import desk

from . import nor, rig
from .rig import NAME, EmulatedPico, Flashed

COPYING = 60  # operations of the flash: of some four hundred, and the slot's manifest is among the last


def moments(flashed: Flashed, folder: Path) -> list[str]:
    """What would start after a cut at each operation, before it and in its middle; each kind once, in that order."""
    image, log = folder / "before.bin", folder / "operations.bin"
    image.write_bytes(flashed.before)
    log.write_bytes(b"".join(nor.record(*operation) for operation in flashed.operations))
    return [line.split(" ", 1)[1] for line in rig.on_micropython("run_cuts.py", image, log).decode().splitlines()]


@pytest.mark.timeout(1200)
def test_at_whatever_operation_the_power_goes_a_whole_slot_starts(counting: Flashed, tmp_path: Path) -> None:
    first, second = moments(counting, tmp_path)
    assert (first.split()[0], second.split()[0]) == ("a", "b")
    assert first.split()[1] != second.split()[1]


@pytest.mark.timeout(1200)
def test_power_that_goes_while_files_are_copied_leaves_the_old_firmware_and_a_repetition_completes(
    flashed: Flashed, tmp_path: Path
) -> None:
    words = ["--app", str(COUNTING)]
    pico = EmulatedPico(tmp_path / "pico", flashed.after)
    with pico, desk.gateway(tmp_path, str(pico.port)) as config:
        rig.add(config, pico)
        rig.wait_for_join(config, "", flashed.device["firmware"])
        pico.cut_at(COPYING)
        code, said = rig.petiole(config, "flash", "--board", "RPI_PICO", "--timeout", "300", *words)
        assert code == 19, said
        assert "run the same command again" in said
        pico.wait_for_cut(10)
        assert not pico.read("/b/manifest.txt")
        before = rig.device(config)["joined_at"]

        pico.power_on()
        found = rig.wait_for_join(config, before, flashed.device["firmware"])
        assert found["name"] == NAME

        rig.put(config, *words)
        rig.wait_for_join(config, found["joined_at"], "count-1")
        assert pico.read("/b/manifest.txt")
