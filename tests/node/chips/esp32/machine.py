"""`machine` of an ESP32, as far as sleep goes: RTC memory, deep and light sleep, causes of a reset, the watchdog."""

# mypy: ignore-errors

import binascii

import chip
from chip import UART, WDT, Pin, Timer  # noqa: F401

if chip.is_live:
    from live import UART  # noqa: F401

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
PIN_WAKE = EXT0_WAKE = 2
EXT1_WAKE = 3
TIMER_WAKE = 4

_SIZE = 2048
_bytes = bytearray(binascii.unhexlify(chip.state["rtc"]))
_wake = chip.state["wake"]


def _keep():
    chip.state["rtc"] = binascii.hexlify(_bytes).decode()


chip.keepers.append(_keep)


class RTC:
    """Its memory is not cleared at power-on; what says how much of it is in use has a mark of its own."""

    def memory(self, data=None):
        if data is None:
            return bytes(_bytes[: chip.state["rtc_used"]])
        if len(data) > _SIZE:
            raise ValueError("buffer too long")
        chip.state["rtc_used"] = len(data)
        for i in range(len(data)):
            _bytes[i] = data[i]
        chip.changed()
        return None


if chip.state["release"] >= 29:

    class _View:
        """The memory itself, as a memoryview of it is."""

        def __getitem__(self, place):
            return _bytes[place]

        def __setitem__(self, place, data):
            _bytes[place] = data
            chip.changed()

    _view = _View()

    def mem_backup(region=0):
        if region:
            raise ValueError()
        return _view


def reset_cause():
    return chip.state["cause"]


def wake_reason():
    return _wake


def lightsleep(ms):
    """Timers stand still, the watchdog's too. With the radio on it would lose what it is connected to."""
    global _wake  # noqa: PLW0603
    if chip.state["radio"]:
        chip.state["slept_with_radio"] = True
    chip.fall_asleep()
    _wake = TIMER_WAKE if chip.advance(ms, False) else EXT0_WAKE


def deepsleep(ms):
    if ms >= 1 << 31:
        raise OverflowError("overflow converting long int to machine word")
    if chip.state["refuses_deepsleep"]:
        raise ValueError("DEEPSLEEP with gpio pins not supported on this chip")
    chip.fall_asleep()
    chip.end("deepsleep", ms)


def reset():
    chip.end("reset")
