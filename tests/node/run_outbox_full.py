"""A file system that other files fill, on MicroPython: `run_outbox_full.py GEOMETRY`. Prints `passed`."""

# mypy: ignore-errors

import os
import sys

from tests.node.nor_flash import NorFlash
from tests.node.outbox_rig import Life, Memory, World, check


def fill_up():
    """Take all room that there is."""
    for size in (4096, 256, 16):
        try:
            with open("/flash/other", "ab") as file:
                while True:
                    file.write(b"x" * size)
                    file.flush()
        except OSError:
            continue  # there is no room for so much


def joined(world, memory, **options):
    life = Life(world, "/flash/", memory, **options)
    life.join()
    return life


def main(geometry, memory, with_backlog):
    flash = NorFlash(32, geometry)
    flash.mount("/flash")
    world = World()
    life = joined(world, memory)
    life.add()
    life.drain()
    if with_backlog:
        for _ in range(12):
            for _ in range(24):
                life.add(0, 60)
            assert life.flush()
    fill_up()
    # Nobody there, and far more readings than there is room for.
    before = world.value
    for _ in range(60):
        for _ in range(10):
            life.publish(0, 60)
        life.save()
    dropped = life.outbox.dropped_total
    # Oldest segments make room, one for each new one; LittleFS leaves a block, and so a batch, where there was none.
    kept = world.value - dropped
    assert kept > (before - 100 if with_backlog else 10), (kept, before)
    assert dropped > 200
    life.join()
    life.drain()
    got = [value[0] for value in world.gateway.got]
    assert got[-1] == world.value, "the newest readings are there"
    assert len(got) + dropped == world.value
    # There is room again, and nothing is broken.
    os.remove("/flash/other")
    life = joined(world, memory)
    for _ in range(20):
        life.add()
    assert life.flush()
    life = joined(world, memory)
    life.drain()
    assert life.outbox.is_empty
    check(world, dropped)
    assert [value[0] for value in world.gateway.got[-20:]] == list(range(world.value - 19, world.value + 1))
    print(geometry, memory is not None, with_backlog, "of", world.value, "dropped", dropped)
    os.umount("/flash")


for has_memory in (False, True):
    for backlog in (True, False):
        main(sys.argv[1], Memory(1866) if has_memory else None, backlog)
print("passed")
