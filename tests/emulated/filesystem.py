"""The file system in a Pico's flash, as MicroPython for a computer sees it."""

# mypy: ignore-errors
# MicroPython's `vfs` has no types here.

import vfs

SECTOR = 4096
SIZE = 1408 * 1024  # at the end of the flash; boards/RPI_PICO/board.toml has it


class Disk:
    """Of a flash, whose bytes it shares."""

    def __init__(self, flash):
        self._data = memoryview(flash)[len(flash) - SIZE :]

    def readblocks(self, block, buffer, offset=0):
        start = block * SECTOR + offset
        buffer[:] = self._data[start : start + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        start = block * SECTOR + offset
        self._data[start : start + len(buffer)] = buffer

    def ioctl(self, operation, argument):
        if operation == 4:
            return SIZE // SECTOR
        if operation == 5:
            return SECTOR
        if operation == 6:
            start = argument * SECTOR
            self._data[start : start + SECTOR] = b"\xff" * SECTOR
        return 0


def mount(flash, place):
    vfs.mount(vfs.VfsLfs2(Disk(flash), progsize=256), place)
