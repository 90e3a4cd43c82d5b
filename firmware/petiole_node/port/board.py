"""What boards with `machine` and `network` have in common."""

import asyncio
import sys
import time

import machine  # type: ignore[import-not-found]  # a board's module

from petiole_node.port.micropython import FileStream, MicroPythonPort

MYPY = False  # the type checker takes it for true
if MYPY:
    from petiole_node.contracts import Json, Stream

_RECEIVE_BUFFER = 1024  # four frames: what a gateway may have in flight
_PARKED_FEED_MS = 1000

_LAST_FRAME_MS = 20  # a datagram that was handed to the driver is in the air by then

_JOIN_S = 15  # a Pico W needs up to 10 s
_PAUSE_S = 1  # without it the driver of an ESP32 stays in the state of the failure
_RESTART_AFTER = 2  # failed joins until the radio is switched off and on
_RESET_AFTER = 40  # failed joins, about ten minutes, until the board is reset: nothing else helps some drivers


class Wifi:
    """The station interface, and the ladder of what to do when it does not join."""

    def __init__(self) -> None:
        import network  # type: ignore[import-not-found]  # noqa: PLC0415 - a board's module, not on every board

        self._wlan = network.WLAN(network.STA_IF)
        self._failures = 0

    def is_connected(self) -> bool:
        connected: bool = self._wlan.isconnected()
        return connected

    def off(self) -> None:
        """Until the next `connect`. A Pico W does not sleep while its radio is merely inactive."""
        wlan = self._wlan
        time.sleep_ms(_LAST_FRAME_MS)  # type: ignore[attr-defined]
        if hasattr(wlan, "deinit"):
            wlan.deinit()
        else:
            wlan.active(False)

    async def connect(self, ssid: str, password: str) -> bool:
        """Join, or take the next step of the ladder. False: failed so often that only a reset is left.

        Raises OSError.
        """
        wlan = self._wlan
        wlan.active(True)
        if wlan.isconnected() and wlan.config("ssid") == ssid:
            return True
        try:
            wlan.config(pm=getattr(wlan, "PM_NONE", 0xA11140))  # sleeping radios answer after up to seconds
        except (OSError, ValueError):
            print("wifi: power saving stays on")
        wlan.connect(ssid, password)
        for _ in range(_JOIN_S * 10):
            if wlan.isconnected():
                self._failures = 0
                return True
            await asyncio.sleep(0.1)
        self._failures += 1
        status = wlan.status()
        wlan.disconnect()
        await asyncio.sleep(_PAUSE_S)
        if self._failures % _RESTART_AFTER == 0:
            wlan.active(False)
            await asyncio.sleep(_PAUSE_S)
        if self._failures >= _RESET_AFTER:
            return False
        raise OSError("wifi: no connection to " + ssid + ", status " + str(status))


class BoardPort(MicroPythonPort):
    name = "board"
    timer_id = -1  # a virtual timer

    def __init__(self) -> None:
        super().__init__()
        self._wifi: Wifi | None = None
        self._watchdog: Json = None
        self._timer: Json = None
        self._uart: Json = None

    def serial(self, settings: "dict[str, Json]") -> "Stream":
        options: dict[str, Json] = {"rxbuf": _RECEIVE_BUFFER, "timeout": 0}
        for pin in ("tx", "rx"):
            if settings[pin] is not None:
                options[pin] = machine.Pin(settings[pin])
        self._uart = machine.UART(settings["id"], settings["baud"], **options)
        return FileStream(self._uart, False)

    async def connect_network(self, settings: "dict[str, Json]") -> None:
        """Raises OSError."""
        if not settings["ssid"]:
            return
        if self._wifi is None:
            self._wifi = Wifi()
        if not await self._wifi.connect(settings["ssid"], settings["password"]):
            print("wifi: no connection for minutes, resetting")
            self.reset()

    def is_networked(self, settings: "dict[str, Json]") -> bool:
        return not settings["ssid"] or (self._wifi is not None and self._wifi.is_connected())

    def start_watchdog(self, timeout_s: int) -> None:
        if self._watchdog is None:
            self.watchdog_ms = min(1000 * timeout_s, self.longest_watchdog_ms())
            self._watchdog = machine.WDT(timeout=self.watchdog_ms)

    def longest_watchdog_ms(self) -> int:
        return 300000

    def feed_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.feed()

    def hush(self) -> None:
        """Before sleep: what was written leaves the board, then the radio is off."""
        if self._uart is not None:
            try:
                self._uart.flush()
            except OSError:  # the link is closed
                self._uart = None
        if self._wifi is not None:
            self._wifi.off()

    def interrupted(self) -> None:
        """Somebody works at the REPL: go on feeding the watchdog, for it cannot be stopped."""
        if self._watchdog is not None and self._timer is None:
            watchdog = self._watchdog
            self._timer = machine.Timer(self.timer_id)
            self._timer.init(period=_PARKED_FEED_MS, callback=lambda _: watchdog.feed())

    def reset(self) -> None:
        machine.reset()
        sys.exit()  # for machines that are not there
