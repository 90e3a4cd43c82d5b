"""Parts of a board that live: a UART whose other end is real, and flash that outlives the program, as a file.

Writing flash takes as long as it does, and on an RP2 interrupts wait for it: of what a UART hears meanwhile its FIFO
keeps the first bytes.
"""

# mypy: ignore-errors
# ruff: noqa: SIM115
# MicroPython's modules have no types here; a UART and a flash are open as long as there is power.

import io
import os
import select

import chip
import utime
from nor_flash import SECTOR, NorFlash

_FIFO = 32  # bytes
_PROGRAM_MS = 1
_ERASE_MS = 45
_POLL = 3  # of ioctl
_uarts = []


class UART(io.IOBase):
    def __init__(self, id, baud, **options):
        if not _uarts:
            self._file = open(chip.state["uart_fd"], "r+b")
            self._poll = select.poll()
            self._poll.register(self._file, select.POLLIN)
            _uarts.append(self)
        else:
            self._file = _uarts[0]._file
            self._poll = _uarts[0]._poll
            _uarts[0] = self
        self._heard = b""

    def pull(self, room=1 << 16):
        """Hear what has come; beyond so many bytes it is lost."""
        heard = b""
        while self._poll.poll(0):
            data = self._file.read(256)
            if not data:
                break
            heard += data
        if len(heard) > room:
            chip.state["deaf_to"] = chip.state.get("deaf_to", 0) + len(heard) - room
        self._heard += heard[:room]

    def read(self, length):
        self.pull()
        data = self._heard[:length]
        self._heard = self._heard[length:]
        return data or None

    def write(self, data):
        return self._file.write(data)

    def flush(self):
        pass

    def deinit(self):
        pass

    def ioctl(self, request, argument):
        if request != _POLL:
            return 0
        is_readable = self._heard or self._poll.poll(0)
        return argument & ((select.POLLIN if is_readable else 0) | select.POLLOUT)


class Flash(NorFlash):
    """`state["cut"]`: the number of the operation, over all lives, in which power is lost; -1: none."""

    def __init__(self, path, sectors, geometry):
        self._file = None
        try:
            size = os.stat(path)[6]
        except OSError:
            size = 0
        if size:
            with open(path, "rb") as file:
                image = file.read()
            super().__init__(sectors, geometry, image)
        else:
            super().__init__(sectors, geometry)
            with open(path, "wb") as file:
                file.write(self.data)
        self._file = open(path, "r+b")
        self._before = chip.state["operations"]
        self.reset_counts()
        if chip.state["cut"] >= 0:
            self.cut_after = max(0, chip.state["cut"] - self._before)
        chip.keepers.append(self._count)

    def _count(self):
        chip.state["operations"] = self._before + self.operations

    def _keep(self, start, length, ms):
        if self._file is None:
            return
        is_deaf = chip.state["kind"] == "rp2" and _uarts
        if is_deaf:
            _uarts[0].pull()
        self._file.seek(start)
        self._file.write(self.data[start : start + length])
        if self.is_dead:
            chip.end("power")
        if is_deaf:
            utime.sleep_ms(ms)
            _uarts[0].pull(_FIFO)

    def writeblocks(self, block, buffer, offset=0):
        result = super().writeblocks(block, buffer, offset)
        self._keep(block * SECTOR + offset, len(buffer), _PROGRAM_MS)
        return result

    def ioctl(self, operation, argument):
        result = super().ioctl(operation, argument)
        if operation == 6:
            self._keep(argument * SECTOR, SECTOR, _ERASE_MS)
        return result
