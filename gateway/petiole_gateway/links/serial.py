"""A link over a serial port: opened again when it comes back, lent for a while, written without waiting."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import serial

from petiole import wire
from petiole.framer import CobsFramer
from petiole.line_framer import LineFramer

from ..hub.ports import Logger, Place
from .port import PortError, open_port
from .repl import ReplExit

# A replugged board is back in 1 to 2 s; a port that stays away costs one stat() in 5 s.
RETRY_S = 0.5
RETRY_MAX_S = 5.0
READ_SIZE = 4096
# Two seconds of a 115200 baud line. What does not fit is dropped: its records are sent again.
MAX_UNSENT = 23_040


class Framer(Protocol):
    dropped: dict[str, int]

    def feed(self, data: bytes) -> list[bytes]: ...
    def wrap(self, frame: bytes) -> bytes: ...
    def reset(self) -> None: ...


class SerialLink:
    """One port. `framing`: "cobs", or "console" for a port that also is the board's REPL and log.

    `release` lets others use the port for a while; on a console its board is brought back from the REPL afterwards.
    """

    answers_addressed = True

    def __init__(
        self,
        port: str,
        *,
        baud: int,
        framing: str,
        receive: Callable[[Place, bytes], None],
        log: Callable[[str, str], None],
        logger: Logger,
    ) -> None:
        self.name = port
        self.baud = baud
        self.framing = framing
        self.is_open = False
        self.problem = "not opened yet"
        self.hint = ""  # what helps against it
        self.path = port  # as opened last
        self.opened_total = 0
        self.failed_total: dict[str, int] = {}  # to open it, by kind of PortError
        self.released_total = 0
        self.renewed_total = 0  # releases of what was released
        self.unsent_dropped_total = 0
        self._receive = receive
        self._log = log
        self._logger = logger
        self._framer: Framer = LineFramer(wire.MAX_FRAME) if framing == "console" else CobsFramer(wire.MAX_FRAME)
        self._place = Place(self, None)
        self._serial: serial.Serial | None = None
        self._unsent = bytearray()
        self._is_writing = False
        self._lost = asyncio.Event()
        self._nudged = asyncio.Event()  # released or resumed: no pause is waited for to its end
        self._tried = asyncio.Event()  # to open the port, since it was resumed
        self._released_until: float | None = None  # of the loop's clock
        self._opens_no_more = False
        self._wants_program = False  # of the board, once the port is open
        self._is_forced = False
        self._exit: ReplExit | None = None
        self._exit_timer: asyncio.TimerHandle | None = None
        self._exited = asyncio.Event()

    @property
    def dropped(self) -> dict[str, int]:
        """What the framing dropped, by reason."""
        return self._framer.dropped

    @property
    def state(self) -> str:
        """ "open", "released", or "unavailable" for a `problem`."""
        return "released" if self.is_released else "open" if self.is_open else "unavailable"

    @property
    def is_released(self) -> bool:
        """Others may use the port."""
        return self._released_until is not None

    @property
    def released_for_s(self) -> float | None:
        """How much longer; None if the port is not released."""
        if self._released_until is None:
            return None
        return max(0.0, self._released_until - asyncio.get_running_loop().time())

    @property
    def absence(self) -> str:
        """A port that is released; one that is lost is back in a moment, or its device offline soon."""
        left_s = self.released_for_s
        return "" if left_s is None else f"its port {self.name} is released for {left_s:.0f} s"

    def release(self, for_s: float) -> None:
        """Close the port, and leave it to others until `resume`, or for so long. Again: for so long from now."""
        was_released = self.is_released
        self._released_until = asyncio.get_running_loop().time() + for_s
        if self._serial is not None:
            with suppress(OSError, termios.error):  # else closing waits until a board that does not read has read it
                termios.tcflush(self._serial.fileno(), termios.TCOFLUSH)
        self._close()
        self.problem = self.hint = ""
        self._lost.set()
        self._nudged.set()
        if was_released:
            self.renewed_total += 1
        else:
            self.released_total += 1
            self._logger.info("port_released", link=self.name, for_s=for_s)

    async def resume(self, *, is_forced: bool = False) -> str:
        """Take the port back now. Returns when it is open, or `problem` says why not, and its board's program runs.

        Returns what the board did (see `repl`), "" where that cannot be known. `is_forced` stops what runs there first.
        """
        self._tried.clear()
        self._wants_program, self._is_forced = True, is_forced
        if self.is_open:
            self._leave_repl()
        else:
            self._end_release("resumed")
            self._nudged.set()
            await self._tried.wait()
        if self._exit is None:
            return ""
        mine = self._exit
        await self._exited.wait()
        return mine.outcome

    def _end_release(self, reason: str) -> None:
        if self._released_until is not None:
            self._released_until = None
            self._wants_program = True
            self.problem = "not opened yet"
            self._logger.info("port_taken_back", link=self.name, reason=reason)

    def open_no_more(self) -> None:
        """What is not open, or lost from here on, stays so: whatever has its path next is no board of ours."""
        self._opens_no_more = True
        self._nudged.set()

    async def run(self) -> None:
        """Keep the port open until cancelled, but for the time in which it is released."""
        retry_s = RETRY_S
        try:
            while True:
                if await self._stay_away():
                    retry_s = RETRY_S
                try:
                    self._open()
                except PortError as error:
                    self.failed_total[error.kind] = self.failed_total.get(error.kind, 0) + 1
                    if str(error) != self.problem:
                        self.problem, self.hint = str(error), error.hint
                        self._logger.warning("port_unavailable", link=self.name, reason=error.reason, hint=error.hint)
                    self._tried.set()
                    await self._pause(retry_s)
                    retry_s = min(2 * retry_s, RETRY_MAX_S)
                    continue
                self._tried.set()
                retry_s = RETRY_S
                await self._lost.wait()
                if self._serial is None:
                    continue  # released
                self._close()
                self._logger.warning("port_lost", link=self.name, reason=self.problem)
                await self._pause(RETRY_S)
        finally:
            self._close()

    async def _pause(self, seconds: float) -> None:
        self._nudged.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudged.wait()

    async def _stay_away(self) -> bool:
        """Return when the port is not released, or no longer. Whether it was."""
        if self._opens_no_more:
            await asyncio.get_running_loop().create_future()
        was_released = self.is_released
        while (left_s := self.released_for_s) is not None:
            if left_s:
                await self._pause(left_s)
            else:
                self._end_release("its time is over")
        return was_released

    def _open(self) -> None:
        self._serial = open_port(self.name, self.baud)
        self.path = str(self._serial.port)
        self._framer.reset()
        self._lost.clear()
        self._unsent.clear()
        self.is_open = True
        self.problem = self.hint = ""
        self.opened_total += 1
        asyncio.get_running_loop().add_reader(self._serial.fileno(), self._readable)
        self._logger.info("port_opened", link=self.name, framing=self.framing, baud=self.baud)
        if self._wants_program:
            self._leave_repl()

    # The board's REPL ------------------------------------------------------------------------------------------

    def _leave_repl(self) -> None:
        """See that the board runs its program; what the hub has to say meanwhile would be typed into its REPL."""
        self._wants_program = False
        if self.framing != "console":
            return
        self._exit = ReplExit(asyncio.get_running_loop().time(), is_forced=self._is_forced)
        self._is_forced = False
        self._exited.clear()
        self._go_on_leaving()

    def _go_on_leaving(self) -> None:
        leaving = self._exit
        if leaving is None:
            return
        loop = asyncio.get_running_loop()
        if self._exit_timer is not None:
            self._exit_timer.cancel()
        self._write(leaving.to_send(loop.time()))
        deadline = leaving.deadline()
        if deadline is not None:
            self._exit_timer = loop.call_at(deadline, self._go_on_leaving)
            return
        self._exit = self._exit_timer = None
        self._exited.set()
        self._logger.info("board_after_release", link=self.name, program=leaving.outcome)

    def _close(self) -> None:
        self.is_open = False
        if self._exit is not None:
            self._exit.lose()
            self._go_on_leaving()
        port, self._serial = self._serial, None
        if port is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(port.fileno())
        loop.remove_writer(port.fileno())
        self._is_writing = False
        with suppress(OSError):  # of a board that is gone; the descriptor is free all the same
            port.close()

    def _fail(self, reason: str) -> None:
        self.problem = reason
        self._lost.set()
        if self._serial is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._serial.fileno())
            loop.remove_writer(self._serial.fileno())
            self._is_writing = False

    def _readable(self) -> None:
        if self._serial is None:
            return
        try:
            data = os.read(self._serial.fileno(), READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        if not data:
            self._fail("the other end is gone")
            return
        self.take(data)

    def take(self, data: bytes) -> None:
        """Bytes have come from the port: pass on their frames and lines."""
        frames = self._framer.feed(data)
        if self._exit is not None:
            self._exit.take(data, len(frames), asyncio.get_running_loop().time())
            self._go_on_leaving()
        for frame in frames:
            self._receive(self._place, frame)
        if isinstance(self._framer, LineFramer):
            for line in self._framer.take_lines():
                self._log(self.name, line.decode("utf-8", "replace"))

    def send(self, frame: bytes, peer: object) -> None:
        """Send, now or as soon as the port takes it. Dropped while the port is away, far behind, or in the REPL."""
        if self._exit is None:
            self._write(self._framer.wrap(frame))

    def _write(self, data: bytes) -> None:
        if self._serial is None or self._lost.is_set() or not data:
            return
        if len(self._unsent) + len(data) > MAX_UNSENT:
            self.unsent_dropped_total += 1
            return
        self._unsent += data
        if not self._is_writing:
            self._writable()

    def _writable(self) -> None:
        if self._serial is None:
            return
        loop = asyncio.get_running_loop()
        try:
            sent = os.write(self._serial.fileno(), self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        del self._unsent[:sent]
        if self._unsent and not self._is_writing:
            self._is_writing = True
            loop.add_writer(self._serial.fileno(), self._writable)
        elif not self._unsent and self._is_writing:
            self._is_writing = False
            loop.remove_writer(self._serial.fileno())
