"""Erases and programs of flash for a reading of 64 bytes in the durable outbox, on a counting block device."""

from __future__ import annotations

import subprocess
from pathlib import Path

from petiole_tools.sim.runtime import find_micropython

from .report import Result, at_most

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = {"rp2": 0.15, "esp32": 0.25}  # sector erases for a reading
ALONE = "a reading, sleep; nobody there for 512 wakes"  # no batch: where nothing is retained each is written by itself
ERASE_MS = 45  # of W25Q chips, typically
PROGRAM_MS = 0.5  # a page of 256 bytes, or a part of it


def measure() -> list[Result]:
    binary = find_micropython()
    if binary is None:
        print("no MicroPython VM: the outbox's use of flash is not measured")
        return []
    results = []
    for geometry, budget in BUDGETS.items():
        group = f"Flash of a reading of 64 bytes, {geometry}"
        for line in _run(binary, geometry).splitlines():
            name, *texts = line.split("|")
            readings, erases, programs, programmed, worn, longest = map(int, texts)
            pages = max(programs, programmed // 256)
            ms = (ERASE_MS * erases + PROGRAM_MS * pages) / readings
            beside = (
                f"{pages / readings:.2f} pages, {ms:.1f} ms; longest call {longest} operations; most worn sector {worn}"
            )
            if name == ALONE:
                results.append(Result(group, name, erases / readings, "erases", beside=beside))
            else:
                results.append(at_most(group, name, erases / readings, "erases", budget, beside))
    return results


def _run(binary: str, geometry: str) -> str:
    command = [binary, "-X", "heapsize=4M", str(ROOT / "tests/bench/run_flash_wear.py"), geometry]
    path = {"MICROPYPATH": f"{ROOT}:{ROOT / 'firmware'}:.frozen"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=path)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return done.stdout.strip()
