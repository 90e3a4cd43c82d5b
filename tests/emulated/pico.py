"""A Raspberry Pi Pico that is not there: an RP2040 in the emulator `rp2040py`, with its loader's drive and its port.

    python -m tests.emulated.pico FOLDER

In FOLDER, as a computer sees a board: `RPI-RP2`, the drive, while the chip is in its loader; `tty`, the port, and
`usb.json`, the list with it, while it runs a firmware. A chip whose flash is blank is in its loader. What is left when
the power is off: `flash.bin`, and what was done to it since, `flash.operations`. SIGKILL takes the power away; a number
in the file `cut` takes it in the middle of the so-many-th operation of the flash from then on. `lost`: by how many ms
its clock is behind, since it began to run. `loader`: with what the ROM was to start its loader, see `_reset`.

What is the emulator's: the boot ROM, the core, flash, USB, timers, watchdog. What is ours: the loader (the ROM's drive
needs a host that mounts it), and the pace, see `_Paced`.
"""

# The emulator's types are its own business.
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
import sys
import time
import tty
from pathlib import Path

from rp2040py.boards import build_rp2040
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.memory_map import FLASH_START_ADDRESS
from rp2040py.peripherals.ssi import (
    CMD_BLOCK_ERASE,
    CMD_PAGE_PROGRAM,
    CMD_SECTOR_ERASE,
    FLASH_BLOCK_SIZE,
    FLASH_PAGE_SIZE,
    FLASH_SECTOR_SIZE,
)
from rp2040py.simulator import Simulator
from rp2040py.usb.cdc import USBCDC
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from . import nor
from .places import CUT, DRIVE, FLASH, LOADER, LOST, OPERATIONS, PORT, USB

FLASH_BYTES = 2 << 20  # of a Pico
SERIAL = "E6614103E7174A24"  # any
_BLOCK = 512
_LOOK_S = 0.05
_MOST = 4096  # bytes for the firmware that wait here; a pty holds as many
_TELL_S = 0.1
_PACE_NS = 2_000_000  # emulated; a byte of the port waits no longer
# A start by way of the ROM leaves its entry in the watchdog's scratch 4 to 7: this number, the same xor the entry, the
# stack, the entry. The SDK's `reset_usb_boot` enters below 0x4000, which is the ROM.
_BY_ENTRY = 0xB007C0D3
_ROM_BYTES = 0x4000
_ADDRESSED = 4  # bytes of a command and its address


class _Paced(Simulator):
    """Emulated time is never ahead of this computer's.

    The emulator jumps from alarm to alarm while its core sleeps, so that a node which waits two seconds for an answer
    would have given up before the gateway got a byte. A core that works is slower than a real one, and what it has
    lost it does not catch up: its waits are as long as they are meant to be.
    """

    def __init__(self, rp2040, lost: Path) -> None:
        super().__init__(rp2040=rp2040)
        self._lost = lost
        self._lost_s = 0.0
        self._told_s = 0.0
        self._has_power = True
        self._start = 0.0
        self._alarm = self.clock.create_alarm(self._look)

    def _ahead_s(self) -> float:
        return self.clock.nanos / 1e9 - (time.monotonic() - self._start)

    def _look(self) -> None:
        if self._ahead_s() > 0:
            self.stopped = True  # ends this batch
        self._alarm.schedule(_PACE_NS)

    async def execute(self) -> None:
        self._start = time.monotonic() - self.clock.nanos / 1e9
        self._alarm.schedule(_PACE_NS)
        while self._has_power:
            self.stopped = False
            self._execute_batch()
            ahead = self._ahead_s()
            if ahead > 0:
                await asyncio.sleep(ahead)
            else:
                self._start -= ahead
                self._lose(-ahead)
                await asyncio.sleep(0)
        self.stopped = True

    def _lose(self, seconds: float) -> None:
        self._lost_s += seconds
        if self._lost_s - self._told_s > _TELL_S:
            self._told_s = self._lost_s
            self._lost.write_text(str(round(1000 * self._lost_s)))

    def stop(self) -> None:
        self._has_power = False
        super().stop()


class Pico:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._simulator: _Paced | None = None
        self._wants_loader = asyncio.Event()
        image = folder / FLASH
        flash = bytearray(image.read_bytes() if image.exists() else b"\xff" * FLASH_BYTES)
        log = folder / OPERATIONS
        for operation in nor.records(log.read_bytes() if log.exists() else b""):
            nor.apply(flash, *operation)
        self._keep(bytes(flash))

    def _keep(self, flash: bytes) -> None:
        new = self._folder / (FLASH + ".new")
        new.write_bytes(flash)
        new.replace(self._folder / FLASH)
        (self._folder / OPERATIONS).write_bytes(b"")
        self._flash = flash

    async def live(self) -> None:
        while True:
            if not self._flash.startswith(b"\xff" * 256):
                await self._run()
            await self._load()

    async def _load(self) -> None:
        """The loader's drive, until it has a whole image."""
        drive = self._folder / DRIVE
        drive.mkdir()
        (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v2.0\nModel: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n")
        while True:
            for file in drive.glob("*.[uU][fF]2"):
                if (flash := _with_image(self._flash, file.read_bytes())) is not None:
                    self._keep(flash)
                    shutil.rmtree(drive)
                    return
            await asyncio.sleep(_LOOK_S)

    async def _run(self) -> None:
        """The chip, until its firmware wants the loader."""
        mcu = build_rp2040("pico")
        mcu.load_bootrom(BOOTROM_B1)
        mcu.logger = ConsoleLogger(LogLevel.ERROR)
        mcu.flash[:FLASH_BYTES] = self._flash
        self._simulator = simulator = _Paced(mcu, self._folder / LOST)
        simulator.bind_loop()
        self._wants_loader.clear()
        mcu.watchdog.on_watchdog_trigger = lambda: self._reset(mcu)
        _Watched(self._folder, mcu.ssi)
        async with _Port(self._folder / PORT, mcu.usb_ctrl):
            mcu.core.pc = FLASH_START_ADDRESS
            work = asyncio.ensure_future(simulator.execute())
            end = asyncio.ensure_future(self._wants_loader.wait())
            await asyncio.wait([work, end], return_when=asyncio.FIRST_COMPLETED)
            simulator.stop()
            end.cancel()
            await work
        self._simulator = None
        self._keep(bytes(mcu.flash[:FLASH_BYTES]))

    def _reset(self, mcu) -> None:
        """The watchdog has fired. Its scratch says whether this was a way into the ROM's loader."""
        magic, mixed, stack, entry = mcu.watchdog.scratch_data[4:8]
        if magic == _BY_ENTRY and mixed ^ entry == (-_BY_ENTRY & 0xFFFFFFFF) and entry < _ROM_BYTES:
            (self._folder / LOADER).write_text(f"{mcu.core.pc} {entry} {stack}")
            self._wants_loader.set()
            self._simulator.stopped = True
            return
        mcu.enter_reset(from_watchdog=True)
        mcu.leave_reset()


class _Watched:
    """What the chip has its flash do, noted before it is done; and the end of the power in the middle of it."""

    def __init__(self, folder: Path, ssi) -> None:
        self._ssi = ssi
        self._apply = ssi._apply_command
        self._log = os.open(folder / OPERATIONS, os.O_WRONLY | os.O_APPEND)
        self._cut = folder / CUT
        self._left = 0
        ssi._apply_command = self._command

    def _command(self) -> None:
        command = bytes(self._ssi._tx_buffer)
        found = _operation(command) if self._ssi._write_enabled else None
        if found is not None:
            self._note(*found)
        self._apply()

    def _note(self, kind: int, address: int, data: bytes) -> None:
        if not self._left and self._cut.exists():
            self._left = int(self._cut.read_text())
        is_last = self._left == 1
        os.write(self._log, nor.record(kind, address, nor.half(kind, data) if is_last else data))
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left = max(0, self._left - 1)


def _operation(command: bytes) -> tuple[int, int, bytes] | None:
    """What this command to the flash changes there."""
    if len(command) < _ADDRESSED:
        return None
    address = int.from_bytes(command[1:_ADDRESSED])
    size = {CMD_SECTOR_ERASE: FLASH_SECTOR_SIZE, CMD_BLOCK_ERASE: FLASH_BLOCK_SIZE}.get(command[0])
    if size:
        return nor.ERASE, address & ~(size - 1), b"\xff" * size
    if command[0] == CMD_PAGE_PROGRAM and len(command) > _ADDRESSED:
        return nor.PROGRAM, address, command[_ADDRESSED : _ADDRESSED + FLASH_PAGE_SIZE]
    return None


def _with_image(flash: bytes, data: bytes) -> bytes | None:
    """The flash with this image in it; None while the file is not all there."""
    if not data or len(data) % _BLOCK:
        return None
    found = bytearray(flash)
    numbers = set()
    total = 0
    for start in range(0, len(data), _BLOCK):
        _, _, _, address, size, number, total, _ = struct.unpack_from("<8I", data, start)
        offset = address - FLASH_START_ADDRESS
        found[offset : offset + size] = data[start + 32 : start + 32 + size]
        numbers.add(number)
    return bytes(found) if len(numbers) == total and len(found) == len(flash) else None


class _Port:
    """The console as a pty, which is there for as long as the chip runs.

    The emulator's own host ends each read of the firmware at once, with nothing where there is nothing: the firmware
    then does little else than read. A host has no packet to send before it has a byte, and neither has this one.
    """

    def __init__(self, link: Path, usb) -> None:
        self._link = link
        self._usb = usb
        self._loop = asyncio.get_running_loop()
        self._in = b""
        self._out = b""
        self._read: tuple[int, int] | None = None
        cdc = USBCDC(usb)
        cdc.on_serial_data = self._said
        self._read_control, self._was_reset = usb.on_endpoint_read, usb.on_reset
        usb.on_endpoint_read = self._wants
        usb.on_reset = self._reset

    async def __aenter__(self) -> None:
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self._loop.add_reader(self._ours, self._heard)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(os.ttyname(self._theirs))
        self._list([[str(self._link), SERIAL]])

    async def __aexit__(self, *_: object) -> None:
        self._list([])
        self._link.unlink(missing_ok=True)
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        for fd in (self._ours, self._theirs):
            os.close(fd)

    def _list(self, ports: list[list[str]]) -> None:
        new = self._link.with_name(USB + ".new")
        new.write_text(json.dumps(ports))
        new.replace(self._link.with_name(USB))

    def _heard(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._in += os.read(self._ours, _MOST - len(self._in))
        self._feed()

    def _wants(self, endpoint: int, size: int) -> None:
        if endpoint == 0:
            self._read_control(endpoint, size)
            return
        self._read = endpoint, size
        self._feed()

    def _feed(self) -> None:
        if self._read is not None and self._in:
            endpoint, size = self._read
            self._read = None
            piece, self._in = self._in[:size], self._in[size:]
            self._usb.endpoint_read_done(endpoint, piece)
        if len(self._in) < _MOST:
            self._loop.add_reader(self._ours, self._heard)
        else:
            self._loop.remove_reader(self._ours)

    def _reset(self) -> None:
        self._read = None
        self._in = b""
        self._was_reset()

    def _said(self, data: bytes) -> None:
        self._out += bytes(data)
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                self._out = self._out[os.write(self._ours, self._out) :]
        if self._out:
            self._loop.add_writer(self._ours, self._write)
        else:
            self._loop.remove_writer(self._ours)


if __name__ == "__main__":
    asyncio.run(Pico(Path(sys.argv[1])).live())
