"""The heap of a Pico: what the README says about it, and what the board's page does, against the image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from petiole_tools import boards
from petiole_tools.flash.session import Session
from tests.closing_summary import LINE

from .rig import EmulatedPico, Flashed

README = Path(__file__).parents[2] / "README.md"
KB = r" \| (\d+) KB; (\d+) KB; (\d+) KB \|"
ROW = r"emulated \(`make flash-emulated`\): imported; with a node; free then" + KB
ROW_FROZEN = r"the same with the firmware frozen into that image[^|]*" + KB
ROUNDED_KB = 2  # of 1000 bytes, as on the page; each collection leaves some hundred bytes more or less
# As /main.py finds it: what a program needs before the firmware is there is not the firmware's.
MEASURE = """
import gc, sys, asyncio
asyncio.Event, asyncio.Lock
gc.collect()
whole, before = gc.mem_free() + gc.mem_alloc(), gc.mem_alloc()
sys.path.insert(0, "{folder}")
from petiole_node import Node
gc.collect()
imported = gc.mem_alloc() - before
node = Node({{"name": "n", "key": "00112233445566778899aabbccddeeff", "folder": "/", "links": [{{"kind": "console"}}]}})
channel = node.channel("t")
gc.collect()
print(whole, imported, gc.mem_alloc() - before, gc.mem_free())
"""


@pytest.mark.timeout(1200)
def test_the_firmware_takes_the_memory_that_is_documented(
    flashed: Flashed, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property(LINE, assert_documented(ROW, flashed.after, "/a", tmp_path))


@pytest.mark.timeout(1200)
def test_the_firmware_in_the_image_takes_the_memory_that_is_documented(
    frozen: bytes, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property(LINE, assert_documented(ROW_FROZEN, frozen, ".frozen", tmp_path))


def assert_documented(row: str, flash: bytes, folder: str, tmp_path: Path) -> str:
    """What was measured. `folder`: where the firmware is."""
    with EmulatedPico(tmp_path / "pico", flash) as pico, Session(str(pico.port)) as session:
        session._transport.enter_raw_repl(soft_reset=True, timeout_overall=120)  # a heap as at power-on, no main.py
        said = session._run(MEASURE.format(folder=folder))
    whole, imported, made, free = (int(text) / 1000 for text in said.split())
    told = re.search(row, README.read_text())
    assert told is not None
    assert [imported, made, free] == pytest.approx([float(text) for text in told.groups()], abs=ROUNDED_KB)
    assert whole == pytest.approx(boards.load("RPI_PICO").memory.heap_kb, abs=ROUNDED_KB)
    return f"imported {imported:.1f} KB, with a node {made:.1f} KB, free then {free:.1f} KB"
