"""ESP32 and its successors."""

import machine  # type: ignore[import-not-found]  # a board's module

from petiole_node.port.board import BoardPort

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.port.sleeper import Sleeper

_REASONS = {  # of the chip: of PROTOCOL.md, section 6
    machine.PWRON_RESET: 1,
    machine.HARD_RESET: 2,  # machine.reset(); a button counts as power-on
    machine.WDT_RESET: 3,
    machine.DEEPSLEEP_RESET: 4,
    machine.SOFT_RESET: 2,
}


class Port(BoardPort):
    name = "esp32"
    timer_id = 0  # older releases have hardware timers only

    def sleeper(self) -> "Sleeper":
        from petiole_node.port.sleeper_esp32 import Esp32Sleeper  # noqa: PLC0415 - sleepy nodes only

        return Esp32Sleeper(self)

    def hardware_reset_reason(self) -> int:
        return _REASONS.get(machine.reset_cause(), 0)
