"""Sleep of an ESP32: RTC memory keeps everything, and its clock goes on."""

import time

import machine  # type: ignore[import-not-found]  # a board's module

from petiole_node.port.sleeper import OUTBOX, PIN, TIMER, Retained, Sleeper

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Json, Port

_MEMORY = 2048  # bytes of RTC memory; all of them are the node's
_PLACES = (0, 40, 176, 696)  # of the parts: 38 bytes of counters, 6 + 128 of the session, 6 + 512 of notes
_ROOM = _MEMORY - 696 - 6


class Esp32Sleeper(Sleeper):
    """Its clock is an RC oscillator, wrong by up to 5 % when the temperature changes.

    From release 1.29 on the memory can be written in place; before, only as a whole. The two must not be mixed.
    """

    def __init__(self, port: "Port") -> None:
        self._view: Json = machine.mem_backup() if hasattr(machine, "mem_backup") else None
        super().__init__(port)
        self.outbox = Retained(self, OUTBOX, _ROOM)

    def _read(self, part: int, start: int, length: int) -> bytes:
        start += _PLACES[part]
        memory = machine.RTC().memory() if self._view is None else self._view
        return bytes(memory[start : start + length])

    def _write(self, part: int, head: bytes, data: bytes) -> None:
        start = _PLACES[part]
        middle = start + len(head)
        end = middle + len(data)
        memory = self._view
        if memory is None:
            memory = bytearray(machine.RTC().memory())
            if len(memory) < end:
                memory.extend(bytes(end - len(memory)))
        memory[start:middle] = head
        memory[middle:end] = data
        if self._view is None:
            machine.RTC().memory(memory)

    def _wall(self) -> int:
        return time.time_ns() // 1000000

    def _why(self, kept: int) -> int:
        if machine.reset_cause() != machine.DEEPSLEEP_RESET:
            return 0
        return TIMER if machine.wake_reason() == machine.TIMER_WAKE else PIN

    def _doze(self, ms: int) -> bool:
        machine.lightsleep(ms)
        return machine.wake_reason() not in (machine.TIMER_WAKE, 0)

    def _enter(self, ms: int, counters: "bytes | None") -> None:
        machine.deepsleep(ms)
