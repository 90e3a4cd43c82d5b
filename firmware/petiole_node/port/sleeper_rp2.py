"""Sleep of an RP2040 or RP2350: 28 bytes of watchdog scratch, a file for the rest, and no clock that goes on.

A deep sleep on these chips is a sleep of the ordinary kind and then a reset by the watchdog, so it is done here: slept
in steps, measured by the crystal, and told apart from other resets by what stands in scratch.
"""

import sys
import time

import machine  # type: ignore[import-not-found]  # a board's module

from petiole_node.port.sleeper import ASLEEP, COUNTERS, Sleeper

_SCRATCH_RP2040 = 0x4005800C
_SCRATCH_RP2350 = 0x400D800C
_WORDS = 7  # of eight: the fifth belongs to the boot ROM, which also takes the others to start into USB


class Rp2Sleeper(Sleeper):
    keeps_clock = False

    def _word(self, number: int, value: "int | None" = None) -> int:
        if hasattr(machine, "mem_backup"):  # from release 1.29 on; the regions have 4 and 3 words
            memory = machine.mem_backup(number // 4)
            number %= 4
        else:
            memory = machine.mem32
            first = _SCRATCH_RP2350 if "RP2350" in sys.implementation._machine else _SCRATCH_RP2040
            number = first + 4 * (number if number < 4 else number + 1)
        if value is not None:
            memory[number] = value
        word: int = memory[number]
        return word

    def _read(self, part: int, start: int, length: int) -> bytes:
        if part != COUNTERS:
            return super()._read(part, start, length)
        data = b"".join([(self._word(number) & 0xFFFFFFFF).to_bytes(4, "big") for number in range(_WORDS)])
        return data[start : start + length]

    def _write(self, part: int, head: bytes, data: bytes) -> None:
        if part != COUNTERS:
            super()._write(part, head, data)
            return
        data = head + data
        for number in range(_WORDS):
            self._word(number, int.from_bytes(data[4 * number : 4 * number + 4], "big"))

    def _why(self, kept: int) -> int:
        return kept  # 0: something else has reset the board while it slept

    def _elapsed(self, record: bytes) -> "int | None":
        self.error_ms = 100  # from the reset until ticks are counted again
        ticks: int = time.ticks_ms()  # type: ignore[attr-defined]  # they began with the reset
        return ticks

    def _doze(self, ms: int) -> bool:
        machine.lightsleep(ms)
        return False

    def _enter(self, ms: int, counters: "bytes | None") -> None:
        woke = self._rest(ms)
        self._keep(ASLEEP | woke, counters, 0)  # with the time at which the sleep has ended
        self._port.reset()
