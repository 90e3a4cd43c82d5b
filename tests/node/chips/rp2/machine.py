"""`machine` of an RP2040, as far as sleep goes: watchdog scratch, sleep that ends in a reset, and its watchdog."""

# mypy: ignore-errors

import array
import sys

import chip
from chip import UART, WDT, Pin, Timer  # noqa: F401

if chip.is_live:
    from live import UART  # noqa: F401

PWRON_RESET = 1
WDT_RESET = 3

_scratch = array.array("I", chip.state["scratch"])
_ADDRESS = 0x400D800C if "RP2350" in sys.implementation._machine else 0x4005800C


def _keep():
    chip.state["scratch"] = list(_scratch)


chip.keepers.append(_keep)

if chip.state["release"] >= 29:

    class _Region:
        def __init__(self, first, words):
            self._first = first
            self._words = words

        def __getitem__(self, number):
            if not 0 <= number < self._words:
                raise IndexError(number)
            return _scratch[self._first + number]

        def __setitem__(self, number, value):
            if not 0 <= number < self._words:
                raise IndexError(number)
            _scratch[self._first + number] = value
            chip.changed()

    _regions = (_Region(0, 4), _Region(5, 3))  # all but the fifth, which the boot ROM has

    def mem_backup(region=0):
        return _regions[region]


class _Memory:
    def __getitem__(self, address):
        return _scratch[self._number(address)]

    def __setitem__(self, address, value):
        _scratch[self._number(address)] = value
        chip.changed()

    def _number(self, address):
        number = (address - _ADDRESS) // 4
        if not 0 <= number < 8 or number == 4 or address & 3:
            chip.end("bus fault at " + hex(address))
        return number


mem32 = _Memory()


def reset_cause():
    return chip.state["cause"]


def lightsleep(ms):
    """By a timer of 32 bits, in us. The watchdog counts on. A radio that is on wakes the chip at once."""
    if ms >= (1 << 32) // 1000:
        raise ValueError("sleep too long")
    chip.fall_asleep()
    if chip.state["radio"] or chip.state["sleepless"]:
        chip.advance(1)
        return
    chip.advance(ms)


def deepsleep(ms):
    lightsleep(ms)
    reset()


def reset():
    _scratch[4] = 0
    chip.end("reset")
