"""A board: MicroPython's unix port with LittleFS on a file of this computer as its root, and a start as boards have it.

    micropython board_vm.py IMAGE SECTORS [RELEASE] [FROZEN]

RELEASE, as 1.19.1, is what it says that it is; "" for the truth. FROZEN is a folder of this computer with modules that
are in no file of the board, as those that are frozen into an image; the board finds them in /frozen.
"""

# mypy: ignore-errors
# ruff: noqa: SIM115
# MicroPython's `vfs` has no types here.

import os
import sys

import vfs

sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
import machine  # noqa: F401 - this folder's, before the root is another

SECTOR = 4096


class FileFlash:
    def __init__(self, path, sectors):
        self.sectors = sectors
        self.file = open(path, "r+b")

    def readblocks(self, block, buffer, offset=0):
        self.file.seek(block * SECTOR + offset)
        self.file.readinto(buffer)
        return 0

    def writeblocks(self, block, buffer, offset=0):
        self.file.seek(block * SECTOR + offset)
        self.file.write(buffer)
        self.file.flush()
        return 0

    def ioctl(self, operation, argument):
        if operation == 4:
            return self.sectors
        if operation == 5:
            return SECTOR
        if operation == 6:
            return self.writeblocks(argument, b"\xff" * SECTOR)
        return 0


flash = FileFlash(sys.argv[1], int(sys.argv[2]))
try:
    root = vfs.VfsLfs2(flash, progsize=256)
except OSError:
    vfs.VfsLfs2.mkfs(flash, progsize=256)
    root = vfs.VfsLfs2(flash, progsize=256)
vfs.umount("/")
vfs.mount(root, "/")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
if len(sys.argv) > 4:
    vfs.mount(vfs.VfsPosix(sys.argv[4]), "/frozen")
    sys.path.insert(2, "/frozen")
if len(sys.argv) > 3 and sys.argv[3]:

    class Implementation(tuple):
        name = sys.implementation.name
        _machine = sys.implementation._machine
        _mpy = sys.implementation._mpy

    release = tuple(map(int, sys.argv[3].split(".")))

    class System:
        implementation = Implementation((sys.implementation.name, release))
        modules = sys.modules

    sys.modules["sys"] = System
os.putenv("MICROPYINSPECT", "1")  # whatever ends, the REPL is there
try:
    file = open("/main.py")
except OSError:
    file = None
if file is not None:
    text = file.read()
    file.close()
    exec(text)
