"""RP2040 and RP2350: Raspberry Pi Pico, Pico W, Pico 2, Pico 2 W."""

import machine  # type: ignore[import-not-found]  # a board's module

from petiole_node.port.board import BoardPort

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.port.sleeper import Sleeper

# A reset by software uses the watchdog on this chip, so the two look the same.
_REASONS = {machine.PWRON_RESET: 1, machine.WDT_RESET: 3}


class Port(BoardPort):
    name = "rp2"
    flash_deafens_uart = True  # interrupts wait for the flash; the FIFO has room for 3 ms, erasing takes 45

    def sleeper(self) -> "Sleeper":
        from petiole_node.port.sleeper_rp2 import Rp2Sleeper  # noqa: PLC0415 - sleepy nodes only

        return Rp2Sleeper(self)

    def hardware_reset_reason(self) -> int:
        return _REASONS.get(machine.reset_cause(), 0)

    def longest_watchdog_ms(self) -> int:
        return 8300  # the counter of the RP2040 has 24 bits and counts twice per microsecond
