"""Heap of the node's runtime on the real MicroPython VM."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from petiole_tools import firmware_build
from petiole_tools.sim.runtime import find_micropython
from tests import vm32

from .report import Result, at_most

ROOT = Path(__file__).resolve().parents[2]

_IMPORT = """
import gc, sys
sys.path.insert(0, "{folder}")
import asyncio
asyncio.Event, asyncio.Lock
gc.collect()
before = gc.mem_alloc()
import petiole_node
from petiole_node import Node
node = Node({{"name": "n", "key": "00112233445566778899aabbccddeeff", "folder": "{folder}",
             "links": [{{"kind": "udp", "host": "127.0.0.1", "port": 9}}]}})
import petiole_node.udp
channel = node.channel("t")
node.port.use_reserve()  # memory that is kept free in one piece
gc.collect()
print(gc.mem_alloc() - before)
"""

_BOOT = """
import gc, sys
sys.path.insert(0, "{folder}")
import binascii, hashlib, io, os, time
gc.collect()
before = gc.mem_alloc()
import petiole_boot
gc.collect()
print(gc.mem_alloc() - before)
"""

_MESSAGES = """
import gc, sys
sys.path[:0] = ["{root}", "{root}/firmware"]
from tests.core.pair import Pair
from petiole import states
pair = Pair(next_sequence=1)
pair.run(lambda: pair.node.state == states.ONLINE)
def publish(count):
    for i in range(count):
        pair.node.publish(0, i, pair.now)
        pair.run(lambda: not pair.node.outbox.items)
        pair.up.sent.clear()
        pair.down.sent.clear()
        pair.gateway.readings.clear()
        pair.events.clear()
publish(100)
gc.collect()
before = gc.mem_alloc()
publish(1000)
gc.collect()
print(gc.mem_alloc() - before)
"""


_MPY = "Heap of a node on MicroPython, .mpy"
_BOARD = "Heap of a node on MicroPython as boards have it: words of 32 bits, single floats"
_BUDGET = 32 * 1024


def measure() -> list[Result]:
    """Bytes that stay, measured as built for boards, which is what is flashed: on the VM of this machine, whose words
    have 64 bits, and on one with words and floats of 32 bits where it was built."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        firmware_build.build(folder, ports=["unix"])
        binary = find_micropython()
        if binary is None:
            print("no MicroPython VM: the node's heap is not measured on it")
        else:
            results += _measure(binary, folder, _MPY)
            size = sum(path.stat().st_size for path in folder.rglob("*.mpy"))
            # Two slots and their blocks of 4 KB take a quarter of the smallest file system, a Pico W's 848 KB.
            results.append(at_most(_MPY, "size of all .mpy files", size, "bytes", 96 * 1024))
        board = vm32.find()
        if board is not None:
            results += _measure(str(board), folder, _BOARD)
    frozen = vm32.find(vm32.FROZEN)
    if frozen is not None:
        with tempfile.TemporaryDirectory() as name:  # in which no .mpy comes before what is frozen
            whole = int(_run(str(frozen), _IMPORT.format(folder=name)))
        results.append(at_most(_BOARD, "core, runtime and node, frozen into the image", whole, "bytes", _BUDGET))
    if board is None or frozen is None:
        results.append(Result(_BOARD, "not measured: `make vm32` builds that VM", 0, ""))
    return results


def _measure(binary: str, folder: Path, group: str) -> list[Result]:
    whole = int(_run(binary, _IMPORT.format(folder=folder)))
    boot = int(_run(binary, _BOOT.format(folder=folder)))
    grown = int(_run(binary, _MESSAGES.format(root=ROOT)))
    return [
        at_most(group, "core and runtime imported, node made", whole, "bytes", _BUDGET),
        at_most(group, "growth over 1,000 confirmed readings (both ends in one VM)", grown, "bytes", 1024),
        at_most(group, "the start of a board (slots, trial, errors), which stays beside it", boot, "bytes", 8 * 1024),
    ]


def _run(binary: str, script: str) -> str:
    command = [binary, "-X", "heapsize=1024wK", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    return done.stdout.strip()
