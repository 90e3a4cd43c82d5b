"""Flash of a board as a block device, for MicroPython: it counts, wears, and loses power when it is told to.

Erasing sets all bits of a sector, programming only clears some. `cut_after`: so many operations are whole, the next one
is torn in its middle, and nothing works after that. A negative number is a block device's way to report an error.
"""

# mypy: ignore-errors
# MicroPython's `vfs` has no types here.

import vfs

SECTOR = 4096
# What the ports of these boards give to VfsLfs2: bytes of a page, and so of the cache and of an inline file.
GEOMETRIES = {"rp2": {"progsize": 256}, "esp32": {"readsize": 32, "progsize": 32, "lookahead": 32}}
_EIO = -5


class NorFlash:
    def __init__(self, sectors, geometry, image=None):
        self.sectors = sectors
        self.options = GEOMETRIES[geometry]
        self.data = bytearray(image if image else b"\xff" * (sectors * SECTOR))
        self.wear = [0] * sectors
        self.programs = self.programmed_bytes = self.operations = 0
        self.cut_after = -1
        self.is_dead = False
        if image is None:
            vfs.VfsLfs2.mkfs(self, **self.options)

    def reset_counts(self):
        self.wear = [0] * self.sectors
        self.programs = self.programmed_bytes = self.operations = 0

    @property
    def erases(self):
        return sum(self.wear)

    def mount(self, path):
        vfs.mount(vfs.VfsLfs2(self, **self.options), path)

    def tick(self):
        """One operation. False: it is the one in which power is lost."""
        self.operations += 1
        if 0 <= self.cut_after < self.operations:
            self.is_dead = True
        return not self.is_dead

    def readblocks(self, block, buffer, offset=0):
        if self.is_dead:
            return _EIO
        start = block * SECTOR + offset
        buffer[:] = memoryview(self.data)[start : start + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        if self.is_dead:
            return _EIO
        is_whole = self.tick()
        length = len(buffer) if is_whole else len(buffer) // 2
        start = block * SECTOR + offset
        old = int.from_bytes(self.data[start : start + length], "big")
        new = int.from_bytes(buffer[:length], "big")
        self.data[start : start + length] = (old & new).to_bytes(length, "big")
        self.programs += 1
        self.programmed_bytes += length
        return 0 if is_whole else _EIO

    def ioctl(self, operation, argument):
        if operation == 4:
            return self.sectors
        if operation == 5:
            return SECTOR
        if operation == 6:
            if self.is_dead:
                return _EIO
            is_whole = self.tick()
            self.wear[argument] += 1
            length = SECTOR if is_whole else SECTOR // 2
            self.data[argument * SECTOR : argument * SECTOR + length] = b"\xff" * length
            return 0 if is_whole else _EIO
        return 0
