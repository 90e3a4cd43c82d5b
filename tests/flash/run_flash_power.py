"""Cuts the power of a board at every flash operation of a flash, on MicroPython's LittleFS.

    MICROPYPATH=.:firmware:.frozen micropython tests/flash/run_flash_power.py GEOMETRY STEPS

STEPS is a JSON file: the code that `petiole flash` has sent, `before` and `during`, for a root of /p/, and which
versions may run at the end. Prints how often each ran, then "passed".
"""

# mypy: ignore-errors
# MicroPython's `vfs` has no types here.

import json
import sys

import vfs

import petiole_boot
from tests.node.nor_flash import NorFlash

geometry = sys.argv[1]
with open(sys.argv[2]) as file:
    steps = json.load(file)
SECTORS = 24
ROOT = "/p/"


def play(codes, space):
    for code in codes:
        exec(code, space)


def runs():
    """What the board starts: the contents of `version` in its slot, "" if it starts none."""
    slot, _ = petiole_boot.choose(ROOT)
    if not slot:
        return ""
    assert petiole_boot.is_whole(ROOT + slot), slot
    with open(ROOT + slot + "/version") as version:
        return version.read()


def quiet(*_args, **_kwargs):
    pass


flash = NorFlash(SECTORS, geometry)
flash.mount("/p")
space = {"print": quiet}
play(steps["before"], space)
vfs.umount("/p")
image = bytes(flash.data)

counts = {}
cut = 0
while True:
    flash = NorFlash(SECTORS, geometry, image)
    flash.mount("/p")
    flash.reset_counts()
    flash.cut_after = cut
    space = {"print": quiet}
    is_over = False
    try:
        play(steps["during"], space)
        is_over = not flash.is_dead
    except OSError:
        if not flash.is_dead:
            raise
    vfs.umount("/p")
    after = NorFlash(SECTORS, geometry, flash.data)
    after.mount("/p")
    found = runs()
    again = runs()  # a second start, as a board would
    assert found == again, (cut, found, again)
    assert found in steps["may_run"], (cut, found)
    counts[found] = counts.get(found, 0) + 1
    vfs.umount("/p")
    if is_over:
        assert found == steps["may_run"][-1], found
        break
    cut += 1
print(cut, "cuts:", counts)
assert cut > 20, cut
print("passed")
