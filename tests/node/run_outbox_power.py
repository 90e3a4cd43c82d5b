"""Cuts the power of an outbox at every flash operation of a scenario, on MicroPython's LittleFS.

    MICROPYPATH=.:firmware:.frozen micropython tests/node/run_outbox_power.py GEOMETRY SCENARIO

Once for each kind: power (retained memory turns to garbage), reset (it stays), bare (there is none).

For each number of operations a node lives until it dies there, a second one until it dies after a random number of
operations, and a third one delivers everything. Prints a summary and `passed`.
"""

# mypy: ignore-errors

import gc
import sys

import vfs

from petiole.errors import PetioleError
from petiole_node import numbering, segments
from tests.node.nor_flash import NorFlash
from tests.node.outbox_rig import Memory, Rng, World, check
from tests.node.outbox_scenarios import SCENARIOS

SECTORS = 64


def live(world, flash, memory, steps):
    """Run the steps until they are through or power is lost. True: they were through."""
    flash.is_dead = False
    try:
        flash.mount("/flash")
    except OSError:
        assert flash.is_dead, "the file system is broken"
        return False
    try:
        steps(world, memory, lambda: not flash.is_dead)
    except OSError:
        assert flash.is_dead
    except PetioleError:
        assert flash.is_dead
    vfs.umount("/flash")
    return not flash.is_dead


def trial(image, geometry, steps, final, cut, rng, keeps_memory, has_memory):
    world = World()
    flash = NorFlash(SECTORS, geometry, image)
    memory = Memory(2048, flash.tick) if has_memory else None
    for cut_after in (cut, -1 if cut < 0 else rng.below(40)):
        flash.operations = 0
        flash.cut_after = cut_after
        is_through = live(world, flash, memory, steps)
        operations = flash.operations
        if memory is not None and not is_through and not keeps_memory:
            memory.data = rng.bytes(rng.below(600))
            world.lose_power()
        if cut < 0:
            return operations
    flash.cut_after = -1
    assert live(world, flash, memory, final)
    return world, flash


def main(geometry, name, kind):
    steps, final, lost = SCENARIOS[name]
    segments.SEGMENT = 640  # small ones are full soon
    numbering._CHUNK = 3  # and few numbers are free to give
    keeps_memory = kind == "reset"
    has_memory = kind != "bare"
    image = bytes(NorFlash(SECTORS, geometry).data)
    total = trial(image, geometry, steps, final, -1, Rng(1), keeps_memory, has_memory)
    missing = stored = 0
    for cut in range(total + 1):
        rng = Rng(cut + 1)
        try:
            world, _ = trial(image, geometry, steps, final, cut, rng, keeps_memory, has_memory)
            missing += len(check(world, lost(world)))
            stored += len(world.stored)
        except Exception:
            print("cut after", cut, "of", total, "operations")
            raise
        gc.collect()
    print(name, geometry, kind + ":", total + 1, "cuts,", stored, "readings stored,", missing, "dropped")


for each in ("power", "reset", "bare"):
    main(sys.argv[1], sys.argv[2], each)
print("passed")
