"""micropython run_cuts.py FIRMWARE FLASH LOG: cuts the power at each operation of the log, before it and in its middle.

Prints a line of each kind of what would start then, "SLOT APP", with how often; APP is the hash of its app.mpy.
"NOTHING", "BROKEN": the slot that is to start is not whole; "UNREADABLE": no file system.
"""

# mypy: ignore-errors

import sys

sys.path.insert(0, sys.argv[1])

import nor
import vfs
from filesystem import SIZE, mount

import petiole_boot


def starts(flash):
    """What this flash would start."""
    try:
        mount(bytearray(flash), "/pico")
    except OSError as error:
        return "UNREADABLE " + str(error)
    try:
        state = petiole_boot.read_state("/pico/")
        if state is None:
            slot = next((one for one in petiole_boot.SLOTS if petiole_boot.is_whole("/pico/" + one)), "")
        else:
            slot = state[0]
        if not slot:
            return "NOTHING"
        if not petiole_boot.is_whole("/pico/" + slot):
            return "BROKEN " + slot
        return slot + " " + petiole_boot.digest("/pico/" + slot + "/app.mpy").decode()
    finally:
        vfs.umount("/pico")


with open(sys.argv[2], "rb") as file:
    flash = bytearray(file.read())
with open(sys.argv[3], "rb") as file:
    operations = nor.records(file.read())
found = []  # [what, how often], in the order of time
first = len(flash) - SIZE


def see(flash):
    what = starts(flash)
    if not found or found[-1][0] != what:
        found.append([what, 0])
    found[-1][1] += 1


for kind, address, data in operations:
    if address < first:
        raise ValueError("not of the file system: " + hex(address))
    see(flash)
    part = nor.half(kind, data)
    kept = bytes(flash[address : address + len(data)])
    nor.apply(flash, kind, address, part)
    see(flash)
    flash[address : address + len(data)] = kept
    nor.apply(flash, kind, address, data)
see(flash)
for what, count in found:
    print(count, what)
