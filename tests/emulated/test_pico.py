"""`petiole flash` with MicroPython's own image on an emulated RP2040: from a blank chip, and onto a board that runs."""

from __future__ import annotations

import pytest

from tests.flash import steps

from .rig import NAME, Flashed

# Of each test: what it takes on one core that has nothing else to do, ten times. The fixtures it is the first to want
# count to it.


@pytest.mark.timeout(1200)
def test_a_blank_chip_becomes_a_node_that_has_joined(flashed: Flashed) -> None:
    assert list(flashed.steps) == steps.WITH_IMAGE
    assert (flashed.device["name"], flashed.device["state"]) == (NAME, "online")


@pytest.mark.timeout(1200)
def test_a_second_flash_sends_what_has_changed_to_the_other_slot(counting: Flashed) -> None:
    assert "1 file to send for slot b" in counting.steps["compared"]
    assert "slot b" in counting.steps["written"]
    assert counting.device["firmware"] == "count-1"
    assert (counting.device["name"], counting.device["state"]) == (NAME, "online")
